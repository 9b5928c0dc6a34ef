//! Work on files as the bodies of tests do it: patterns, comparisons, caches, clocks, users.
//!
//! Everything here holds for any file system; nothing knows of a daemon.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::thread;
use std::time::Duration;

use rustix::fs::{Advice, FallocateFlags, OFlags, fadvise, fallocate};
use rustix::io::Errno;
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};
use rustix::time::{ClockId, clock_gettime};

/// The unit of layouts here: a page, or a part of one where pages are larger.
pub(crate) const PAGE: usize = 4096;
/// The same as an offset.
pub(crate) const PAGE_U64: u64 = 4096;
pub(crate) const MIB: usize = 1 << 20;
pub(crate) const MIB_U64: u64 = 1 << 20;

/// A generator of numbers that repeats itself from its seed (xorshift64*).
#[derive(Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        (self.next() >> 16) % end
    }

    /// The same for lengths in memory.
    pub(crate) fn below_len(&mut self, end: usize) -> usize {
        usize::try_from(self.below(end as u64)).expect("below a length")
    }

    /// One of several.
    pub(crate) fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below_len(choices.len())]
    }

    pub(crate) fn bytes(&mut self, len: usize) -> Vec<u8> {
        let words = std::iter::repeat_with(|| self.next().to_le_bytes());
        words.take(len.div_ceil(8)).flatten().take(len).collect()
    }
}

/// Bytes without a pattern that a page could repeat.
pub(crate) fn pattern(len: usize, seed: u64) -> Vec<u8> {
    Random::new(seed).bytes(len)
}

/// Compares contents and names the first difference.
pub(crate) fn same_bytes(actual: &[u8], wanted: &[u8], what: &str) {
    if actual == wanted {
        return;
    }
    assert_eq!(actual.len(), wanted.len(), "{what}: the length");
    let at = actual.iter().zip(wanted).position(|(a, w)| a != w).expect("a difference");
    let count = actual.iter().zip(wanted).filter(|(a, w)| a != w).count();
    let end = actual.len().min(at + 8);
    let (got, expected) = (&actual[at..end], &wanted[at..end]);
    panic!("{what}: {count} bytes differ, first at {at}: got {got:?}, expected {expected:?}");
}

/// Opens for reading and writing; makes the file where it is missing, keeps what it holds.
pub(crate) fn open_rw(path: &Path) -> File {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    options.open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Opens an existing file for writing only.
pub(crate) fn open_wo(path: &Path) -> File {
    OpenOptions::new().write(true).open(path).unwrap()
}

/// Opens an existing file for appending.
pub(crate) fn open_append(path: &Path) -> File {
    OpenOptions::new().append(true).open(path).unwrap()
}

/// Opens with `O_DIRECT`, for reading and writing.
pub(crate) fn open_direct(path: &Path) -> File {
    let direct = i32::try_from(OFlags::DIRECT.bits()).expect("a flag");
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).custom_flags(direct);
    options.open(path).unwrap()
}

/// Reads from an offset until `len` bytes or the end.
pub(crate) fn read_at(file: &File, len: usize, offset: u64) -> Vec<u8> {
    let mut bytes = vec![0xee; len];
    let mut done = 0;
    while done < len {
        match file.read_at(&mut bytes[done..], offset + done as u64).unwrap() {
            0 => break,
            count => done += count,
        }
    }
    bytes.truncate(done);
    bytes
}

/// Memory that `O_DIRECT` accepts.
#[derive(Debug)]
pub(crate) struct Aligned {
    bytes: Vec<u8>,
    start: usize,
    len: usize,
}

impl Aligned {
    pub(crate) fn zeros(len: usize) -> Self {
        let bytes = vec![0; len + PAGE];
        let start = bytes.as_ptr().align_offset(PAGE);
        Self { bytes, start, len }
    }

    pub(crate) fn copy_of(bytes: &[u8]) -> Self {
        let mut aligned = Self::zeros(bytes.len());
        aligned.as_mut().copy_from_slice(bytes);
        aligned
    }
}

impl AsRef<[u8]> for Aligned {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[self.start..self.start + self.len]
    }
}

impl AsMut<[u8]> for Aligned {
    fn as_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.start + self.len]
    }
}

/// Reads through a handle with `O_DIRECT`, in one call.
pub(crate) fn read_direct(file: &File, len: usize, offset: u64) -> Vec<u8> {
    let mut memory = Aligned::zeros(len);
    let count = file.read_at(memory.as_mut(), offset).unwrap();
    memory.as_ref()[..count].to_vec()
}

/// Writes through a handle with `O_DIRECT`, in one call.
pub(crate) fn write_direct(file: &File, bytes: &[u8], offset: u64) {
    let count = file.write_at(Aligned::copy_of(bytes).as_ref(), offset).unwrap();
    assert_eq!(count, bytes.len(), "length of a direct write");
}

/// Has all dirty pages of a file written, and drops them.
pub(crate) fn forget_pages(path: &Path) {
    drop_pages(&open_rw(path));
}

/// The same through a handle that is open.
pub(crate) fn drop_pages(file: &File) {
    file.sync_all().unwrap();
    fadvise(file, 0, None, Advice::DontNeed).unwrap();
}

/// Has the kernel drop all inodes and names that nobody uses, on the whole machine.
pub(crate) fn forget_inodes() {
    fs::write("/proc/sys/vm/drop_caches", "2").expect("root may drop caches");
}

pub(crate) const PUNCH: FallocateFlags =
    FallocateFlags::PUNCH_HOLE.union(FallocateFlags::KEEP_SIZE);

/// `fallocate`; false where this file system does not know the mode.
#[must_use]
pub(crate) fn allocate(file: &File, mode: FallocateFlags, offset: u64, len: u64) -> bool {
    match fallocate(file, mode, offset, len) {
        Ok(()) => true,
        Err(Errno::OPNOTSUPP) => false,
        Err(error) => panic!("fallocate {mode:?} {offset} {len}: {error}"),
    }
}

/// The result must be this error.
pub(crate) fn fails<T: std::fmt::Debug, E: Into<io::Error>>(
    result: Result<T, E>,
    wanted: Errno,
    what: &str,
) {
    let error: io::Error = match result {
        Err(error) => error.into(),
        Ok(value) => panic!("{what}: expected {wanted:?}, but it succeeded with {value:?}"),
    };
    assert_eq!(Errno::from_io_error(&error), Some(wanted), "{what}: {error}");
}

/// Times of last change of content and of inode, in nanoseconds.
pub(crate) fn times_of(status: &fs::Metadata) -> (i128, i128) {
    let whole =
        |seconds, nanoseconds| i128::from(seconds) * 1_000_000_000 + i128::from(nanoseconds);
    let mtime: i128 = whole(status.mtime(), status.mtime_nsec());
    (mtime, whole(status.ctime(), status.ctime_nsec()))
}

/// Time of last change of the content, in nanoseconds.
pub(crate) fn mtime(path: &Path) -> i128 {
    times_of(&fs::symlink_metadata(path).unwrap()).0
}

/// Time of last change of the inode, in nanoseconds.
pub(crate) fn ctime(path: &Path) -> i128 {
    times_of(&fs::symlink_metadata(path).unwrap()).1
}

/// Permission bits of a file, set-id bits included.
pub(crate) fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().mode() & 0o7777
}

/// Waits until the clock that file times are taken from has moved on, by two ticks.
pub(crate) fn next_tick() {
    for _ in 0..2 {
        let before = clock_gettime(ClockId::RealtimeCoarse);
        while clock_gettime(ClockId::RealtimeCoarse) == before {
            thread::sleep(Duration::from_micros(200));
        }
    }
}

/// The clock of file times, in nanoseconds.
pub(crate) fn coarse_now() -> i128 {
    let now = clock_gettime(ClockId::RealtimeCoarse);
    i128::from(now.tv_sec) * 1_000_000_000 + i128::from(now.tv_nsec)
}

/// Runs something as a user without privileges, in a thread of its own.
pub(crate) fn as_nobody<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    as_user(65534, &[], work)
}

/// Runs something with these ids, in a thread of its own.
pub(crate) fn as_user<T: Send>(id: u32, groups: &[u32], work: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let groups: Vec<_> =
                groups.iter().map(|id| rustix::process::Gid::from_raw(*id)).collect();
            let gid = rustix::process::Gid::from_raw(id);
            let uid = rustix::process::Uid::from_raw(id);
            set_thread_groups(&groups).expect("root may");
            set_thread_res_gid(gid, gid, gid).expect("root may");
            set_thread_res_uid(uid, uid, uid).expect("root may");
            work()
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}
