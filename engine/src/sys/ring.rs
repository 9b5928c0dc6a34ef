//! The owner of an io_uring: what is pushed is submitted, what completes comes back by its key.
//!
//! Two backends serve the same few operations: a real ring, and [`Plain`] system calls where a
//! seccomp profile or `kernel.io_uring_disabled` forbids rings.
//!
//! # Ownership
//! A push consumes a [`Lent`] slot; the kernel may use its memory until the completion with that
//! key has been taken from [`Ring::completions`]. Then the caller reclaims the slot (I1).
//!
//! # Ordering
//! Nothing is promised among operations. A push is never lost (I3): a full queue is submitted.
//!
//! Never known here: requests and replies. Neighbours: `arena` lends, `transport` pushes,
//! `shard` turns.

use std::fmt;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::time::Duration;

use io_uring::register::Restriction;
use io_uring::squeue::Entry128;
use io_uring::{IoUring, Submitter, cqueue, opcode, squeue, types};

use super::Key;
use super::arena::{Lent, Memory};
use super::file::{FileOperation, length};
use super::plain::Plain;

/// `enum fuse_uring_cmd`: include/uapi/linux/fuse.h, since 7.42.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum EntryCommand {
    /// Lend a new entry to a queue.
    Register = 1,
    /// Answer the request of an entry and lend it again.
    CommitAndFetch = 2,
}

type Uring = IoUring<Entry128, cqueue::Entry>;

enum Backend {
    Uring(Box<Uring>),
    Plain(Plain),
}

impl fmt::Debug for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Uring(_) => "io_uring",
            Self::Plain(_) => "system calls",
        })
    }
}

/// A ring, or what stands in for one.
#[derive(Debug)]
pub(crate) struct Ring {
    backend: Backend,
    completed: Vec<(Key, i32)>,
    enters: u64,
}

impl Ring {
    /// A real ring with room for `entries` operations in flight. To be called on the thread that
    /// will use it: the ring takes submissions from that thread only.
    pub(crate) fn new(entries: u32) -> io::Result<Self> {
        let entries = entries.next_power_of_two().clamp(8, 4096);
        let build = |deferred: bool| {
            let mut builder = Uring::builder();
            builder.setup_clamp().setup_submit_all().setup_cqsize(entries.saturating_mul(2));
            builder.setup_r_disabled();
            if deferred {
                builder.setup_single_issuer().setup_defer_taskrun();
            }
            builder.build(entries)
        };
        let uring = match build(true) {
            // Linux before 6.1 knows no deferred task work.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => build(false)?,
            other => other?,
        };
        restrict(&uring.submitter())?;
        Ok(Self::over(Backend::Uring(Box::new(uring))))
    }

    /// The same operations by plain system calls; entries of FUSE-over-io_uring are refused.
    pub(crate) fn plain() -> Self {
        Self::over(Backend::Plain(Plain::default()))
    }

    fn over(backend: Backend) -> Self {
        Self { backend, completed: Vec::with_capacity(256), enters: 0 }
    }

    /// System calls that were made to submit or wait.
    pub(crate) fn enters(&self) -> u64 {
        self.enters
    }

    /// Reads one message from the device into the frame of a slot.
    pub(crate) fn read_frame(
        &mut self,
        key: Key,
        device: BorrowedFd<'_>,
        slot: &Lent,
    ) -> io::Result<()> {
        let (at, len) = slot.frame();
        match &mut self.backend {
            Backend::Plain(plain) => plain.read(key, device.as_raw_fd(), at, len),
            Backend::Uring(_) => {
                let len = u32::try_from(len).unwrap_or(u32::MAX);
                let read = opcode::Read::new(types::Fd(device.as_raw_fd()), at, len).build();
                self.push(Entry128::from(read.user_data(key)))?;
            }
        }
        Ok(())
    }

    /// Writes a reply to the device from the segments of a slot.
    pub(crate) fn write_reply(
        &mut self,
        key: Key,
        device: BorrowedFd<'_>,
        slot: &Lent,
    ) -> io::Result<()> {
        let (list, count) = slot.segments();
        match &mut self.backend {
            Backend::Plain(plain) => plain.write(key, device.as_raw_fd(), list, count),
            Backend::Uring(_) => {
                let count = u32::try_from(count).unwrap_or(u32::MAX);
                let write = opcode::Writev::new(types::Fd(device.as_raw_fd()), list, count).build();
                self.push(Entry128::from(write.user_data(key)))?;
            }
        }
        Ok(())
    }

    /// Waits until a descriptor (an eventfd) is readable.
    pub(crate) fn poll_readable(&mut self, key: Key, fd: BorrowedFd<'_>) -> io::Result<()> {
        match &mut self.backend {
            Backend::Plain(plain) => plain.poll(key, fd.as_raw_fd()),
            Backend::Uring(_) => {
                let mask = u32::from(libc::POLLIN.cast_unsigned());
                let poll = opcode::PollAdd::new(types::Fd(fd.as_raw_fd()), mask).build();
                self.push(Entry128::from(poll.user_data(key)))?;
            }
        }
        Ok(())
    }

    /// Lends a slot to a queue of FUSE-over-io_uring: `fs/fuse/dev_uring.c, fuse_uring_cmd`.
    pub(crate) fn entry(
        &mut self,
        key: Key,
        device: BorrowedFd<'_>,
        command: EntryCommand,
        queue: u16,
        commit_id: u64,
        slot: &Lent,
    ) -> io::Result<()> {
        // struct fuse_uring_cmd_req { u64 flags, u64 commit_id, u16 qid, u8 padding[6] }
        let mut area = [0_u8; 80];
        area[8..16].copy_from_slice(&commit_id.to_ne_bytes());
        area[16..18].copy_from_slice(&queue.to_ne_bytes());
        let fd = types::Fd(device.as_raw_fd());
        let built = opcode::UringCmd80::new(fd, command as u32).cmd(area);
        let entry = match command {
            EntryCommand::CommitAndFetch => built.build(),
            EntryCommand::Register => {
                let (list, count) = slot.segments();
                with_len(built.addr(Some(list.addr() as u64)).build(), count)
            }
        };
        match &mut self.backend {
            Backend::Plain(_) => Err(io::ErrorKind::Unsupported.into()),
            Backend::Uring(_) => self.push(entry.user_data(key)),
        }
    }

    /// Begins an operation on a file. Whoever calls keeps it open, and its memory as it is, until
    /// the completion (I9).
    pub(crate) fn file(&mut self, key: Key, fd: RawFd, what: FileOperation) -> io::Result<()> {
        if let Backend::Plain(plain) = &mut self.backend {
            plain.file(key, fd, what);
            return Ok(());
        }
        self.push(Entry128::from(what.entry(fd).user_data(key)))
    }

    /// Lets the next operation, of the same turn, begin only when this READ has filled all of its
    /// room. Only if it does not it has a completion, and that one then has none.
    /// Kernel: io_uring/io_uring.c, `req_set_fail`, `io_fail_links`; since 5.17.
    pub(crate) fn read_first(
        &mut self,
        key: Key,
        fd: RawFd,
        Memory { at, len }: Memory,
        offset: u64,
    ) -> io::Result<()> {
        // A link does not reach beyond its submission.
        while self.room() < 2 {
            self.make_room()?;
        }
        let read = opcode::Read::new(types::Fd(fd), at, length(len)).offset(offset).build();
        let flags = squeue::Flags::IO_LINK | squeue::Flags::SKIP_SUCCESS;
        self.push(Entry128::from(read.flags(flags).user_data(key)))
    }

    /// Whether the kernel has taken all that was pushed.
    pub(crate) fn all_submitted(&mut self) -> bool {
        match &mut self.backend {
            Backend::Plain(_) => true,
            Backend::Uring(uring) => uring.submission().is_empty(),
        }
    }

    fn room(&mut self) -> usize {
        match &mut self.backend {
            Backend::Plain(_) => usize::MAX,
            Backend::Uring(uring) => {
                let queue = uring.submission();
                queue.capacity() - queue.len()
            }
        }
    }

    /// Asks the kernel to end an operation early. Its completion still comes, and this has none
    /// of its own that anybody needs to look at.
    pub(crate) fn cancel(&mut self, key: Key) -> io::Result<()> {
        match &mut self.backend {
            // There they are complete at once.
            Backend::Plain(_) => Ok(()),
            Backend::Uring(_) => {
                let cancel = opcode::AsyncCancel::new(key).build();
                self.push(Entry128::from(cancel.user_data(super::NOBODY)))
            }
        }
    }

    fn push(&mut self, entry: Entry128) -> io::Result<()> {
        loop {
            let Backend::Uring(uring) = &mut self.backend else {
                unreachable!("only a real ring is pushed to");
            };
            // SAFETY: I1, I9. Every operation above uses the memory of a `Lent` slot, or `Memory`
            // that its caller keeps, until its completion was taken (I6).
            if unsafe { uring.submission().push(&entry) }.is_ok() {
                return Ok(());
            }
            self.make_room()?;
        }
    }

    /// Submits what was pushed (I3). What completed is kept, lest a full completion queue keeps
    /// the kernel from taking more.
    fn make_room(&mut self) -> io::Result<()> {
        self.early().map(drop)
    }

    /// Submits what was pushed and waits until `wait` completions are there (0: does not wait).
    pub(crate) fn turn(&mut self, wait: usize) -> io::Result<()> {
        // What `early` found is there already.
        let wait = wait.saturating_sub(self.completed.len());
        self.enters += 1;
        let done = match &mut self.backend {
            Backend::Plain(plain) => plain.turn(wait, &mut self.completed),
            Backend::Uring(uring) if wait == 0 => {
                // GETEVENTS is what runs deferred task work, also without waiting.
                let count = uring.submission().len();
                let count = u32::try_from(count).unwrap_or(u32::MAX);
                const GETEVENTS: u32 = 1;
                // SAFETY: no argument block; what was pushed is sound by `push` (I1).
                unsafe { uring.submitter().enter::<()>(count, 0, GETEVENTS, None) }.map(drop)
            }
            Backend::Uring(uring) => uring.submit_and_wait(wait).map(drop),
        };
        match done {
            // EBUSY: the completion queue is full; taking from it is the cure.
            Err(error)
                if matches!(
                    error.raw_os_error(),
                    Some(libc::EINTR | libc::EBUSY | libc::EAGAIN)
                ) =>
            {
                Ok(())
            }
            other => other,
        }
    }

    /// As [`Ring::turn`], but waits no longer than `limit`.
    pub(crate) fn turn_within(&mut self, wait: usize, limit: Duration) -> io::Result<()> {
        let Backend::Uring(uring) = &mut self.backend else {
            return self.turn(0);
        };
        let limit = types::Timespec::from(limit);
        let arguments = types::SubmitArgs::new().timespec(&limit);
        self.enters += 1;
        match uring.submitter().submit_with_args(wait, &arguments) {
            Err(error) if error.raw_os_error() == Some(libc::ETIME) => Ok(()),
            other => other.map(drop),
        }
    }

    /// Submits what was pushed and looks at what completed at once; it stays to be taken.
    pub(crate) fn early(&mut self) -> io::Result<&[(Key, i32)]> {
        self.turn(0)?;
        let mut taken = std::mem::take(&mut self.completed);
        self.completions(&mut taken);
        self.completed = taken;
        Ok(&self.completed)
    }

    /// Moves the completions that are there into `taken`, oldest first, as (key, result).
    pub(crate) fn completions(&mut self, taken: &mut Vec<(Key, i32)>) {
        taken.append(&mut self.completed);
        match &mut self.backend {
            Backend::Plain(_) => {}
            Backend::Uring(uring) => {
                taken.extend(uring.completion().map(|done| (done.user_data(), done.result())));
            }
        }
    }

    /// Asks the kernel to end everything in flight. Entries of FUSE-over-io_uring are not
    /// affected: they end with their connection.
    pub(crate) fn cancel_all(&mut self) {
        match &mut self.backend {
            Backend::Plain(plain) => plain.cancel_all(&mut self.completed),
            Backend::Uring(uring) => {
                let timeout = types::Timespec::new().nsec(100_000_000);
                let everything = types::CancelBuilder::any();
                // ENOENT: nothing was in flight. Any other error leaves the loans open, and
                // whoever drops the arena then leaks it (I6).
                let _ = uring.submitter().register_sync_cancel(Some(timeout), everything);
            }
        }
    }
}

/// Every operation that is pushed above.
const OPERATIONS: [u8; 8] = [
    opcode::AsyncCancel::CODE,
    opcode::Fallocate::CODE,
    opcode::Fsync::CODE,
    opcode::PollAdd::CODE,
    opcode::Read::CODE,
    opcode::UringCmd80::CODE,
    opcode::Write::CODE,
    opcode::Writev::CODE,
];

/// Has the kernel refuse anything else for good, as no seccomp filter sees what goes by a ring, and
/// starts the ring. Kernel: io_uring/register.c, `io_register_restrictions`, since 5.10.
fn restrict(ring: &Submitter<'_>) -> io::Result<()> {
    const SYNC_CANCEL: u8 = 24; // IORING_REGISTER_SYNC_CANCEL
    let flags = squeue::Flags::IO_LINK | squeue::Flags::SKIP_SUCCESS;
    let mut allowed: Vec<_> = OPERATIONS.into_iter().map(Restriction::sqe_op).collect();
    allowed.push(Restriction::sqe_flags_allowed(flags.bits()));
    allowed.push(Restriction::register_op(SYNC_CANCEL));
    ring.register_restrictions(&mut allowed)?;
    ring.register_enable_rings()
}

/// Sets `sqe.len`, which the builder of commands lacks: the kernel wants the number of segments
/// there (`fs/fuse/dev_uring.c, fuse_uring_get_iovec_from_sqe`).
fn with_len(mut entry: Entry128, count: usize) -> Entry128 {
    const LEN_AT: usize = 24;
    const _: () = assert!(size_of::<Entry128>() == 128);
    let count = u32::try_from(count).unwrap_or(u32::MAX);
    let place = (&raw mut entry).cast::<u8>().wrapping_add(LEN_AT).cast::<u32>();
    // SAFETY: `Entry128` is `repr(C)` and begins with `struct io_uring_sqe`, whose `len` is the
    // aligned u32 at byte 24 (include/uapi/linux/io_uring.h); `entry` is a live local.
    unsafe { place.write(count) };
    entry
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ring_takes_its_own_operations_only() {
        let mut ring = match Ring::new(8) {
            Ok(ring) => ring,
            Err(why) => {
                assert!(std::env::var_os("FUSEWIRE_REQUIRE_MOUNT").is_none(), "no ring: {why}");
                return eprintln!("SKIPPED: no ring: {why}");
            }
        };
        ring.push(Entry128::from(opcode::Nop::new().build().user_data(7))).unwrap();
        let openat = opcode::OpenAt::new(types::Fd(libc::AT_FDCWD), c"/".as_ptr()).build();
        ring.push(Entry128::from(openat.user_data(8))).unwrap();
        ring.turn(2).unwrap();
        let mut taken = Vec::new();
        ring.completions(&mut taken);
        assert_eq!(taken, [(7, -libc::EACCES), (8, -libc::EACCES)]);
        let Backend::Uring(uring) = &ring.backend else { unreachable!("a real ring") };
        let registered = uring.submitter().register_files(&[0]);
        assert_eq!(registered.unwrap_err().raw_os_error(), Some(libc::EACCES));
        let zero = std::fs::File::open("/dev/zero").unwrap();
        let mut bytes = [1; 8];
        let at = Memory { at: bytes.as_mut_ptr(), len: bytes.len() };
        let read = FileOperation::Read { at, offset: 0 };
        ring.file(9, zero.as_raw_fd(), read).unwrap();
        ring.turn(1).unwrap();
        taken.clear();
        ring.completions(&mut taken);
        assert_eq!((taken, bytes), (vec![(9, 8)], [0; 8]));
    }
}
