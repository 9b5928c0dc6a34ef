//! Data of open files. Everything that moves bytes goes through here, and nothing else does: on the
//! shard's ring or by system calls, as [`DataPath`] says.
//!
//! Never known here: names, and the kernel's handles. Neighbours: `filesystem`, `node` (mtime).

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use fusewire::proto::flags::{OpenFlags, WriteFlags};
use fusewire::proto::op::{CopyFileRange, FAllocate, LSeek, Read, Write};
use fusewire::proto::{Errno, Result, Whence};
use fusewire::{Io, ReadBuf};
use rustix::fs::{FallocateFlags, OFlags, SeekFrom, StatxFlags, copy_file_range, fallocate, seek};
use rustix::io::{ReadWriteFlags, pread, preadv2, pwritev2};

use crate::attributes::kill_set_id;
use crate::backing::{Backing, attributes};
use crate::error::Answer;
use crate::figures::Figures;
use crate::handles::{Direct, OpenFile};
use crate::options::DataPath;

/// What the backing file is opened with for an open(2) with `flags`.
///
/// O_APPEND never: offsets are absolute, and pwrite(2) would ignore them. O_SYNC and O_DSYNC come
/// with each WRITE, or as an FSYNC. With write-back also a writer's pages are read.
pub(crate) fn open_flags(flags: u32, writeback: bool) -> OFlags {
    let asked = OFlags::from_bits_retain(flags);
    let mode = match asked & OFlags::ACCMODE {
        OFlags::WRONLY if writeback => OFlags::RDWR,
        // The fourth value asks for both permissions and gives neither.
        OFlags::ACCMODE => OFlags::RDWR,
        mode => mode,
    };
    mode | asked & (OFlags::NOATIME | OFlags::TRUNC)
}

/// What the mount's page cache is to a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pages {
    /// It can be used.
    Cached,
    /// Writes must come as they are.
    Uncached,
    /// And the backing filesystem takes no offset: it appends whatever comes.
    Appended,
}

/// The data of an inode, opened.
#[derive(Debug)]
pub(crate) struct Data {
    pub(crate) fd: OwnedFd,
    /// For transfers that ask for O_DIRECT.
    pub(crate) direct: Option<Direct>,
    pub(crate) pages: Pages,
    /// Whether whoever opened it may read.
    pub(crate) reads: bool,
    /// And write.
    pub(crate) writes: bool,
}

impl Data {
    /// What was opened as [`open_flags`] says for `flags`.
    pub(crate) fn new(fd: OwnedFd, direct: Option<Direct>, pages: Pages, flags: u32) -> Self {
        let mode = OFlags::from_bits_retain(flags) & OFlags::ACCMODE;
        let (reads, writes) = (mode != OFlags::WRONLY, mode != OFlags::RDONLY);
        Self { fd, direct, pages, reads, writes }
    }
}

/// Opens an inode's data, `fd` being perhaps `O_PATH`.
///
/// # Errors
/// EINVAL where O_DIRECT is asked for and refused; nothing is truncated then.
pub(crate) fn open(
    fd: BorrowedFd<'_>,
    flags: u32,
    writeback: bool,
    backing: &Backing,
) -> Result<Data> {
    let direct = open_direct(fd, flags, writeback, backing)?;
    let (fd, pages) = reopen(fd, flags, open_flags(flags, writeback), backing).answer()?;
    Ok(Data::new(fd, direct, pages, flags))
}

/// Opens what `fd` refers to with `wanted`, and says what the page cache is to it.
///
/// Only root may read what may be written only. Where the rest of a page cannot be read, no page
/// may be written in part, so writes must come as they are. So must they where the file can only
/// be appended to (chattr +a): the backing filesystem then takes no offset, and no page twice.
fn reopen(
    fd: BorrowedFd<'_>,
    flags: u32,
    wanted: OFlags,
    backing: &Backing,
) -> rustix::io::Result<(OwnedFd, Pages)> {
    let asked = OFlags::from_bits_retain(flags);
    let exactly = (wanted - OFlags::ACCMODE) | (open_flags(flags, false) & OFlags::ACCMODE);
    match backing.reopen(fd, wanted) {
        Err(rustix::io::Errno::ACCESS) if wanted != exactly => {
            backing.reopen(fd, exactly).map(|fd| (fd, Pages::Uncached))
        }
        Err(rustix::io::Errno::PERM) if asked.contains(OFlags::APPEND) => {
            backing.reopen(fd, exactly | OFlags::APPEND).map(|fd| (fd, Pages::Appended))
        }
        opened => opened.map(|fd| (fd, Pages::Cached)),
    }
}

/// A second descriptor for transfers that ask for O_DIRECT, where the backing file takes them.
///
/// # Errors
/// EINVAL where its filesystem has no such thing.
pub(crate) fn open_direct(
    fd: BorrowedFd<'_>,
    flags: u32,
    writeback: bool,
    backing: &Backing,
) -> Result<Option<Direct>> {
    if !OFlags::from_bits_retain(flags).contains(OFlags::DIRECT) {
        return Ok(None);
    }
    let wanted = (open_flags(flags, writeback) - OFlags::TRUNC) | OFlags::DIRECT;
    match reopen(fd, flags, wanted, backing) {
        // Made by somebody who may not open it again: the one descriptor must do.
        Err(rustix::io::Errno::ACCESS) => Ok(None),
        opened => opened.answer().map(|(fd, _)| Direct::new(fd, backing)),
    }
}

impl Direct {
    /// `None` where the backing filesystem takes the flag and goes through its cache all the same.
    fn new(fd: OwnedFd, backing: &Backing) -> Option<Self> {
        if backing.is_tmpfs() {
            return None;
        }
        let path = rustix::fs::AtFlags::EMPTY_PATH;
        let asked = StatxFlags::DIOALIGN | StatxFlags::SIZE;
        let stat = rustix::fs::statx(&fd, c"", path, asked).ok()?;
        let told = stat.stx_mask & StatxFlags::DIOALIGN.bits() != 0;
        let (memory, offset) = match (told, stat.stx_dio_mem_align, stat.stx_dio_offset_align) {
            (true, 0, _) | (true, _, 0) => return None,
            (true, memory, offset) => (memory, offset),
            (false, ..) => (4096, 4096),
        };
        let memory = usize::try_from(memory).ok()?;
        let seen = AtomicU64::new(stat.stx_size);
        Some(Self { fd: Arc::new(fd), memory, offset: offset.into(), seen })
    }

    fn fits(&self, bytes: &[u8], offset: u64) -> bool {
        bytes.as_ptr().addr().is_multiple_of(self.memory)
            && (bytes.len() as u64).is_multiple_of(self.offset)
            && offset.is_multiple_of(self.offset)
    }
}

impl OpenFile {
    /// The descriptor for a transfer: past the cache only where the backing filesystem takes it.
    fn for_transfer(&self, flags: OpenFlags, bytes: &[u8], offset: u64) -> &Arc<OwnedFd> {
        self.past_the_cache(flags, bytes, offset).map_or(&self.fd, |direct| &direct.fd)
    }

    fn past_the_cache(&self, flags: OpenFlags, bytes: &[u8], offset: u64) -> Option<&Direct> {
        let asked = OFlags::from_bits_retain(flags.bits()).contains(OFlags::DIRECT);
        self.direct.as_ref().filter(|direct| asked && direct.fits(bytes, offset))
    }
}

/// What moves the data of one request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mover<'a> {
    pub(crate) io: Io<'a>,
    pub(crate) path: DataPath,
    pub(crate) figures: &'a Figures,
}

/// Reads until everything is there or the file ends.
pub(crate) async fn read(
    mover: Mover<'_>,
    file: &OpenFile,
    op: &Read,
    out: &mut ReadBuf<'_>,
) -> Result<()> {
    let mut direct = None;
    out.fill(|bytes| {
        direct = file.past_the_cache(op.flags, bytes, op.offset);
        0
    });
    let rings = match mover.path {
        DataPath::Sync => false,
        DataPath::Ring => true,
        DataPath::Auto | DataPath::Kernel => {
            direct.is_some() || !read_what_is_there(file, op, out)?
        }
    };
    mover.figures.reads.count(rings);
    if rings {
        let end = op.offset + out.size() as u64;
        let fd = direct.map_or(&file.fd, |direct| &direct.fd);
        if direct.is_some_and(|direct| direct.seen.load(Ordering::Relaxed) >= end) {
            // Whole, and surely not in memory: the answer can follow it.
            return mover.io.answer_from(fd, out, op.offset, end).await;
        }
        mover.io.read_at(fd, out, op.offset + out.len() as u64).await?;
        if let Some(direct) = direct.filter(|_| out.remaining() == 0) {
            direct.seen.fetch_max(end, Ordering::Relaxed);
        }
    }
    // To the end of the file; after the ring that mostly says that it was reached.
    read_rest(file, op, out)
}

/// Reads what the backing filesystem has in memory. Returns whether that was everything, or all
/// that this can tell.
fn read_what_is_there(file: &OpenFile, op: &Read, out: &mut ReadBuf<'_>) -> Result<bool> {
    if file.waits.load(Ordering::Relaxed) {
        return Ok(true);
    }
    let mut result = Ok(true);
    out.fill(|bytes| {
        let mut parts = [IoSliceMut::new(bytes)];
        match preadv2(file, &mut parts, op.offset, ReadWriteFlags::NOWAIT) {
            Ok(count) => {
                // Less than everything is the end of the file, or what has to be fetched.
                result = Ok(count == parts[0].len() || count == 0);
                count
            }
            Err(rustix::io::Errno::AGAIN) => {
                result = Ok(false);
                0
            }
            Err(rustix::io::Errno::OPNOTSUPP) => {
                file.waits.store(true, Ordering::Relaxed);
                0
            }
            Err(error) => {
                result = Err(error).answer();
                0
            }
        }
    });
    result
}

/// Reads by system calls until everything is there or the file ends.
fn read_rest(file: &OpenFile, op: &Read, out: &mut ReadBuf<'_>) -> Result<()> {
    let had = out.len();
    let mut result = Ok(());
    out.fill(|bytes| {
        let mut done = 0;
        while done < bytes.len() {
            let (rest, offset) = (&mut bytes[done..], op.offset + (had + done) as u64);
            match pread(file.for_transfer(op.flags, rest, offset), rest, offset) {
                Ok(0) => break,
                Ok(count) => done += count,
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => {
                    // What was read is right; the error comes again where it belongs.
                    if had + done == 0 {
                        result = Err(error).answer();
                    }
                    break;
                }
            }
        }
        done
    });
    result
}

/// Writes everything; returns the count. Only a WRITE that somebody waits for may be short.
///
/// Late pages come from anybody or nobody: they take no bits and, with write-back, move no time.
/// With write-through, where they are stores to a mapping, it is they that move it; and O_APPEND is
/// left to the backing filesystem, which knows its end better than the kernel.
pub(crate) async fn write(
    mover: Mover<'_>,
    file: &OpenFile,
    op: &Write<'_>,
    writeback: bool,
    backing: &Backing,
) -> Result<u32> {
    let late = op.write_flags.contains(WriteFlags::WRITE_CACHE);
    if late && file.appends {
        // Pages that somebody else has written, or stored into a mapping, lie elsewhere: an error
        // is less than they at the end.
        return Err(Errno::EPERM);
    }
    if late && !writeback {
        return transfer(mover, file, op, ReadWriteFlags::empty(), true).await;
    }
    if late {
        file.node.late_write_begins(file.as_fd())?;
        let result = transfer(mover, file, op, ReadWriteFlags::empty(), true).await;
        file.node.late_write_ended();
        return result;
    }
    let asked = OFlags::from_bits_retain(op.flags.bits());
    let mut flags = ReadWriteFlags::empty();
    if asked.contains(OFlags::SYNC) {
        flags |= ReadWriteFlags::SYNC;
    } else if asked.contains(OFlags::from_bits_retain(libc::O_DSYNC.cast_unsigned())) {
        flags |= ReadWriteFlags::DSYNC;
    }
    if !writeback && asked.contains(OFlags::APPEND) {
        flags |= ReadWriteFlags::APPEND;
    }
    if writeback {
        file.node.move_begins();
    }
    let count = transfer(mover, file, op, flags, false).await;
    if writeback {
        file.node.move_ended(file.as_fd(), count.is_ok())?;
    }
    if op.write_flags.contains(WriteFlags::WRITE_KILL_SUIDGID) && count.is_ok() {
        kill_set_id(file.as_fd(), backing)?;
    }
    count
}

/// Writes on the ring, or by system calls: into the backing filesystem's memory nothing is gained.
async fn transfer(
    mover: Mover<'_>,
    file: &OpenFile,
    op: &Write<'_>,
    flags: ReadWriteFlags,
    late: bool,
) -> Result<u32> {
    let direct = file.past_the_cache(op.flags, op.data, op.offset);
    let rings = flags.is_empty()
        && match mover.path {
            DataPath::Sync => false,
            DataPath::Ring => true,
            DataPath::Auto | DataPath::Kernel => direct.is_some(),
        };
    mover.figures.writes.count(rings);
    if rings {
        let count = mover
            .io
            .write_at(direct.map_or(&file.fd, |direct| &direct.fd), op.data, op.offset)
            .await?;
        if count == op.data.len() || !late {
            return Ok(u32::try_from(count).unwrap_or(u32::MAX));
        }
        // A short count of late pages is loss in silence: all again, to hear why.
    }
    write_all(file, op, flags, late)
}

fn write_all(file: &OpenFile, op: &Write<'_>, flags: ReadWriteFlags, late: bool) -> Result<u32> {
    let mut done = 0;
    while done < op.data.len() {
        let (rest, offset) = (&op.data[done..], op.offset + done as u64);
        let fd = file.for_transfer(op.flags, rest, offset);
        match pwritev2(fd, &[IoSlice::new(rest)], offset, flags) {
            Ok(0) => return Err(Errno::EIO),
            Ok(count) => done += count,
            Err(rustix::io::Errno::INTR) => {}
            // A short count of late pages is loss in silence.
            Err(_) if done > 0 && !late => break,
            Err(error) => return Err(error).answer(),
        }
    }
    Ok(u32::try_from(done).unwrap_or(u32::MAX))
}

/// Reserves, zeroes or frees.
pub(crate) fn allocate(file: &OpenFile, op: &FAllocate) -> Result<()> {
    let mode = FallocateFlags::from_bits_retain(op.mode.bits());
    file.node.move_mtime(file.as_fd(), || fallocate(file, mode, op.offset, op.length).answer())
}

/// Copies between backing files, which may share the blocks.
pub(crate) fn copy(from: &OpenFile, to: &OpenFile, op: &CopyFileRange) -> Result<u64> {
    if !op.flags.is_empty() {
        return Err(Errno::EINVAL);
    }
    let (mut offset_in, mut offset_out) = (op.offset_in, op.offset_out);
    let length = usize::try_from(op.length).unwrap_or(usize::MAX);
    let count = to.node.move_mtime(to.as_fd(), || {
        copy_file_range(from, Some(&mut offset_in), to, Some(&mut offset_out), length).answer()
    })?;
    Ok(count as u64)
}

/// Finds data or a hole. Where somebody may write, a mapping may have dirty pages that nobody here
/// knows of: everything is data. Those of a file that the kernel serves are the backing file's own.
pub(crate) fn find(file: &OpenFile, op: &LSeek) -> Result<u64> {
    if !file.server.is_kernel() && file.node.writers.load(Ordering::Relaxed) > 0 {
        let size = attributes(file.as_fd()).answer()?.stx_size;
        return match op.whence {
            Whence::DATA | Whence::HOLE if op.offset >= size => Err(Errno::ENXIO),
            Whence::DATA => Ok(op.offset),
            Whence::HOLE => Ok(size),
            _ => Err(Errno::EINVAL),
        };
    }
    let to = match op.whence {
        Whence::DATA => SeekFrom::Data(op.offset),
        Whence::HOLE => SeekFrom::Hole(op.offset),
        _ => return Err(Errno::EINVAL),
    };
    // The position of a descriptor of ours is used for nothing else.
    seek(file, to).answer()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_backing_file_is_opened_with() {
        let word = |flags: OFlags| flags.bits();
        assert_eq!(open_flags(word(OFlags::WRONLY | OFlags::APPEND), true), OFlags::RDWR);
        assert_eq!(open_flags(word(OFlags::WRONLY | OFlags::SYNC), false), OFlags::WRONLY);
        assert_eq!(open_flags(word(OFlags::RDONLY | OFlags::NOATIME), true), OFlags::NOATIME);
        assert_eq!(
            open_flags(word(OFlags::RDWR | OFlags::CREATE | OFlags::EXCL), true),
            OFlags::RDWR
        );
    }
}
