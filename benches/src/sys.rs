//! The `unsafe` of the load generator: a ring whose operations use memory that it owns.
//!
//! Invariant: a slot's buffer and the file are touched by the kernel from `start` until the slot's
//! completion is taken, and by nobody else meanwhile; so `Lane` owns both, hands a buffer out only
//! while its slot is idle, and waits in `drop` for what is in flight.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use io_uring::types::{Fd, SubmitArgs, Timespec};
use io_uring::{IoUring, opcode, squeue};

const ALIGN: usize = 4096;

/// Memory aligned to a page, as O_DIRECT wants it.
struct Buffer {
    bytes: Vec<u8>,
    start: usize,
    len: usize,
}

impl Buffer {
    fn new(len: usize) -> Self {
        let bytes = vec![0; len + ALIGN];
        let start = bytes.as_ptr().align_offset(ALIGN);
        Self { bytes, start, len }
    }

    fn get(&self) -> &[u8] {
        &self.bytes[self.start..self.start + self.len]
    }

    fn get_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.start + self.len]
    }
}

/// What a slot does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// pread(2) of so many bytes at an offset.
    Read(u64, u32),
    /// pwrite(2) of so many bytes at an offset.
    Write(u64, u32),
    /// fdatasync(2).
    Sync,
}

struct Slot {
    buffer: Buffer,
    busy: Option<(Operation, Instant)>,
}

/// One client: a ring, a file, and as many buffers as operations may be in flight.
pub struct Lane {
    ring: IoUring,
    file: File,
    slots: Vec<Slot>,
}

impl std::fmt::Debug for Lane {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lane").field("depth", &self.slots.len()).finish_non_exhaustive()
    }
}

/// An operation that has ended.
#[derive(Debug)]
pub struct Ended {
    /// Of which slot; its buffer is free again.
    pub slot: usize,
    /// What it was.
    pub operation: Operation,
    /// From when its latency counts.
    pub since: Instant,
    /// Bytes, or what failed.
    pub result: io::Result<u32>,
}

impl Lane {
    /// # Errors
    /// Where the kernel has no ring for us.
    pub fn new(file: File, depth: usize, block_max: usize) -> io::Result<Self> {
        let entries = u32::try_from(depth.next_power_of_two()).unwrap_or(u32::MAX);
        let ring = IoUring::builder().setup_single_issuer().setup_coop_taskrun().build(entries)?;
        let slot = || Slot { buffer: Buffer::new(block_max), busy: None };
        Ok(Self { ring, file, slots: (0..depth).map(|_| slot()).collect() })
    }

    /// A slot that does nothing.
    #[must_use]
    pub fn idle(&self) -> Option<usize> {
        self.slots.iter().position(|slot| slot.busy.is_none())
    }

    /// How many operations are in flight.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.slots.iter().filter(|slot| slot.busy.is_some()).count()
    }

    /// The buffer of an idle slot.
    ///
    /// # Panics
    /// Where the slot is busy.
    #[must_use]
    pub fn buffer(&self, slot: usize) -> &[u8] {
        assert!(self.slots[slot].busy.is_none(), "the kernel has this buffer");
        self.slots[slot].buffer.get()
    }

    /// The buffer of an idle slot.
    ///
    /// # Panics
    /// Where the slot is busy.
    pub fn buffer_mut(&mut self, slot: usize) -> &mut [u8] {
        assert!(self.slots[slot].busy.is_none(), "the kernel has this buffer");
        self.slots[slot].buffer.get_mut()
    }

    /// Queues an operation of an idle slot; its latency counts from `since`.
    ///
    /// # Panics
    /// Where the slot is busy or its buffer too short.
    pub fn start(&mut self, slot: usize, operation: Operation, since: Instant) {
        let fd = Fd(self.file.as_raw_fd());
        let state = &mut self.slots[slot];
        assert!(state.busy.is_none(), "a slot does one thing at a time");
        let pointer = state.buffer.get_mut().as_mut_ptr();
        let fits = |len: u32| assert!(len as usize <= state.buffer.len, "beyond the buffer");
        let entry = match operation {
            Operation::Read(offset, len) => {
                fits(len);
                opcode::Read::new(fd, pointer, len).offset(offset).build()
            }
            Operation::Write(offset, len) => {
                fits(len);
                opcode::Write::new(fd, pointer, len).offset(offset).build()
            }
            Operation::Sync => {
                opcode::Fsync::new(fd).flags(io_uring::types::FsyncFlags::DATASYNC).build()
            }
        };
        state.busy = Some((operation, since));
        self.push(&entry.user_data(slot as u64));
    }

    fn push(&mut self, entry: &squeue::Entry) {
        // SAFETY: the module's invariant. The buffer belongs to a slot that is busy from now on,
        // `fits` has looked at its length, and the file is ours for as long.
        let pushed = unsafe { self.ring.submission().push(entry) };
        assert!(pushed.is_ok(), "as many entries as slots");
    }

    /// Hands over what is queued and waits: for one that ends, at most for `limit`.
    ///
    /// # Errors
    /// Where the ring fails.
    pub fn wait(&self, limit: Option<Duration>) -> io::Result<()> {
        let submitter = self.ring.submitter();
        let waited = match limit {
            None => submitter.submit_and_wait(1),
            Some(limit) => {
                let time = Timespec::new().sec(limit.as_secs()).nsec(limit.subsec_nanos());
                submitter.submit_with_args(1, &SubmitArgs::new().timespec(&time))
            }
        };
        match waited {
            Err(error)
                if !matches!(error.raw_os_error(), Some(libc_errno::ETIME | libc_errno::EINTR)) =>
            {
                Err(error)
            }
            _ => Ok(()),
        }
    }

    /// Takes one that has ended.
    pub fn take(&mut self) -> Option<Ended> {
        let completion = self.ring.completion().next()?;
        let slot = usize::try_from(completion.user_data()).ok()?;
        let (operation, since) = self.slots[slot].busy.take()?;
        let result = u32::try_from(completion.result())
            .map_err(|_| io::Error::from_raw_os_error(-completion.result()));
        Some(Ended { slot, operation, since, result })
    }
}

/// The two errors of a wait that are none.
mod libc_errno {
    pub(super) const EINTR: i32 = 4;
    pub(super) const ETIME: i32 = 62;
}

impl Drop for Lane {
    fn drop(&mut self) {
        while self.in_flight() > 0 {
            if self.wait(None).is_err() {
                // The kernel may still write to the buffers.
                std::mem::forget(std::mem::take(&mut self.slots));
                return;
            }
            while self.take().is_some() {}
        }
    }
}

/// Reads a file through a shared mapping, page by page; `visit` gets each page in order.
///
/// # Errors
/// Where it cannot be mapped, and what `visit` says. A file that shrinks meanwhile ends the process
/// (SIGBUS); nobody else uses the files of a load.
pub fn each_mapped_page<E: From<io::Error>>(
    file: &File,
    len: usize,
    mut visit: impl FnMut(u64, &[u8; ALIGN]) -> Result<(), E>,
) -> Result<(), E> {
    use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
    // SAFETY: a new mapping, at no place that is in use.
    let start =
        unsafe { mmap(std::ptr::null_mut(), len, ProtFlags::READ, MapFlags::SHARED, file, 0) };
    let start = start.map_err(io::Error::from)?;
    let mut result = Ok(());
    for page in 0..len / ALIGN {
        let mut copy = [0; ALIGN];
        // SAFETY: within the mapping, which lasts until `munmap` below.
        let from = unsafe { start.cast::<u8>().add(page * ALIGN) };
        // SAFETY: as above, of a whole page. It is copied, as others may change the file.
        unsafe { std::ptr::copy_nonoverlapping(from, copy.as_mut_ptr(), ALIGN) };
        result = visit(page as u64, &copy);
        if result.is_err() {
            break;
        }
    }
    // SAFETY: the mapping from above, of which no reference is left.
    let unmapped = unsafe { munmap(start, len) };
    unmapped.map_err(io::Error::from)?;
    result
}
