//! The owner of an io_uring: what is pushed is submitted, what completes comes back by its key.
//!
//! Two backends serve the same few operations: a real ring, and [`Plain`] system calls. Those are
//! all there is where a seccomp profile or `kernel.io_uring_disabled` forbids rings. With a ring
//! they serve the device while nothing else is in flight and one read keeps up: waiting by
//! `poll(2)` and reading then takes less than a READ of the ring, which tries, arms a poll of its
//! own and tries again, and an answer that is written at once wakes its caller before the next
//! wait is prepared. What the ring has, it keeps until its completion.
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

use io_uring::squeue::Entry128;
use io_uring::{IoUring, cqueue, opcode, squeue, types};

use super::Key;
use super::arena::{Lent, Memory};
use super::file::{FileOperation, length};
use super::plain::{self, Pace, Plain, Sleep, Watch};
use super::restrict::restrict;

/// `enum fuse_uring_cmd`: include/uapi/linux/fuse.h, since 7.42.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum EntryCommand {
    /// Lend a new entry to a queue.
    Register = 1,
    /// Answer the request of an entry and lend it again.
    CommitAndFetch = 2,
}

/// How long a read waits that is not to begin at once.
static LATER: types::Timespec = types::Timespec::new().nsec(1_000_000);

type Uring = IoUring<Entry128, cqueue::Entry>;

enum Backend {
    Uring(Box<Uring>),
    Forbidden,
}

impl fmt::Debug for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Uring(_) => "io_uring",
            Self::Forbidden => "system calls",
        })
    }
}

/// A ring, or what stands in for one.
#[derive(Debug)]
pub(crate) struct Ring {
    backend: Backend,
    /// What the ring was not given.
    plain: Plain,
    /// Completions that the ring owes.
    in_flight: usize,
    /// One of these: the poll of a descriptor, which need not be waited for by the ring.
    watched: Option<(Key, RawFd)>,
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
                // The flag tells a shard that looks for it that there is something to run.
                builder.setup_single_issuer().setup_defer_taskrun().setup_taskrun_flag();
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
        Self::over(Backend::Forbidden)
    }

    fn over(backend: Backend) -> Self {
        Self {
            backend,
            plain: Plain::default(),
            in_flight: 0,
            watched: None,
            completed: Vec::with_capacity(256),
            enters: 0,
        }
    }

    /// System calls that were made to submit or wait.
    pub(crate) fn enters(&self) -> u64 {
        self.enters
    }

    /// Reads one message from the device into the frame of a slot.
    pub(crate) fn read_frame(&mut self, key: Key, device: BorrowedFd<'_>, slot: &Lent) {
        let (at, len) = slot.frame();
        self.plain.read(key, device.as_raw_fd(), at, len);
    }

    /// The same on a real ring, but not before [`LATER`] is over. What ends it early tells so by
    /// the completion.
    pub(crate) fn read_frame_later(
        &mut self,
        key: Key,
        device: BorrowedFd<'_>,
        slot: &Lent,
    ) -> io::Result<()> {
        let (at, len) = slot.frame();
        let flags = types::TimeoutFlags::ETIME_SUCCESS;
        let wait = opcode::Timeout::new(&LATER).flags(flags).build();
        let read = opcode::Read::new(types::Fd(device.as_raw_fd()), at, length(len)).build();
        self.push_first(wait, key)?;
        self.push(Entry128::from(read.user_data(key)))
    }

    /// Writes a reply to the device from the segments of a slot: `at_once`, unless the ring has
    /// something to do anyway, or in the next turn.
    pub(crate) fn write_reply(
        &mut self,
        key: Key,
        device: BorrowedFd<'_>,
        slot: &Lent,
        at_once: bool,
    ) -> io::Result<()> {
        let (list, count) = slot.segments();
        if matches!(self.backend, Backend::Forbidden) || at_once && self.is_idle() {
            self.completed.push((key, plain::write(device, list, count)));
            return Ok(());
        }
        let fd = types::Fd(device.as_raw_fd());
        let write = opcode::Writev::new(fd, list, length(count)).build();
        self.push(Entry128::from(write.user_data(key)))
    }

    /// Waits until a descriptor (an eventfd) is readable.
    pub(crate) fn poll_readable(&mut self, key: Key, fd: BorrowedFd<'_>) {
        self.plain.poll(key, fd.as_raw_fd());
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
            Backend::Forbidden => Err(io::ErrorKind::Unsupported.into()),
            Backend::Uring(_) => self.push(entry.user_data(key)),
        }
    }

    /// Something that needs no kernel is complete.
    pub(crate) fn complete(&mut self, key: Key, result: i32) {
        self.completed.push((key, result));
    }

    /// Begins an operation on a file. Whoever calls keeps it open, and its memory as it is, until
    /// the completion (I9).
    pub(crate) fn file(&mut self, key: Key, fd: RawFd, what: FileOperation) -> io::Result<()> {
        if matches!(self.backend, Backend::Forbidden) {
            self.completed.push((key, what.perform(fd)));
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
        let read = opcode::Read::new(types::Fd(fd), at, length(len)).offset(offset).build();
        self.push_first(read, key)
    }

    /// Pushes what the next operation waits for. There is one completion for the two.
    fn push_first(&mut self, first: squeue::Entry, key: Key) -> io::Result<()> {
        // A link does not reach beyond its submission.
        while self.room() < 2 {
            self.make_room()?;
        }
        let flags = squeue::Flags::IO_LINK | squeue::Flags::SKIP_SUCCESS;
        self.push(Entry128::from(first.flags(flags).user_data(key)))?;
        self.in_flight -= 1;
        Ok(())
    }

    /// Whether the kernel has taken all that was pushed.
    pub(crate) fn all_submitted(&mut self) -> bool {
        match &mut self.backend {
            Backend::Forbidden => true,
            Backend::Uring(uring) => uring.submission().is_empty(),
        }
    }

    fn room(&mut self) -> usize {
        match &mut self.backend {
            Backend::Forbidden => usize::MAX,
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
            Backend::Forbidden => Ok(()),
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
                self.in_flight += 1;
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

    /// Whether the ring has nothing to do, but for a poll perhaps.
    fn is_idle(&self) -> bool {
        self.in_flight == usize::from(self.watched.is_some())
    }

    /// How many completions are there to be taken.
    pub(crate) fn came(&mut self) -> usize {
        let of_ring = match &mut self.backend {
            Backend::Forbidden => 0,
            Backend::Uring(uring) => uring.completion().len(),
        };
        self.completed.len() + of_ring
    }

    /// Whether all is done by system calls.
    pub(crate) fn is_left_out(&self) -> bool {
        let forbidden = matches!(self.backend, Backend::Forbidden);
        forbidden || self.is_idle() && self.plain.reads() <= 1
    }

    /// Waits as [`Ring::turn`] does for one more completion, but awake, and for `limit` at most.
    /// Does nothing where the ring is left out and not just one read waits. Looks by system calls
    /// are not counted as enters.
    pub(crate) fn watch(&mut self, limit: Duration) -> io::Result<Option<Watch>> {
        if !self.is_left_out() {
            return self.watch_ring(limit).map(Some);
        }
        if self.plain.reads() != 1 {
            return Ok(None);
        }
        let also = self.watched.map(|(_, fd)| fd);
        let ended = self.plain.watch(limit, also, &mut self.completed)?;
        if ended == Watch::Heard {
            self.enter(0)?;
        }
        Ok(Some(ended))
    }

    /// Submits what was pushed, and looks for a completion, or for task work that brings one, where
    /// the kernel shows them in memory.
    fn watch_ring(&mut self, limit: Duration) -> io::Result<Watch> {
        let before = self.came();
        self.hand_over()?;
        self.enter(0)?;
        if self.came() > before {
            return Ok(Watch::AtOnce);
        }
        let mut pace = Pace::new(limit);
        loop {
            if self.has_task_work() {
                self.enter(0)?;
            }
            if self.came() > before {
                return Ok(Watch::Came);
            }
            if let Some(ended) = pace.ended() {
                return Ok(ended);
            }
            std::hint::spin_loop();
        }
    }

    fn has_task_work(&mut self) -> bool {
        match &mut self.backend {
            Backend::Forbidden => false,
            Backend::Uring(uring) => uring.submission().taskrun(),
        }
    }

    /// Submits what was pushed and waits until `wait` completions are there (0: does not wait), or
    /// with the ring left out until there is one more.
    pub(crate) fn turn(&mut self, wait: usize) -> io::Result<()> {
        let wait = wait.saturating_sub(self.completed.len());
        if self.is_left_out() {
            self.enters += 1;
            let watched = self.watched.map(|(_, fd)| fd);
            let sleep = if wait > 0 { Sleep::Long } else { Sleep::Not };
            let heard = self.plain.turn(sleep, watched, &mut self.completed)?;
            return if heard { self.enter(0) } else { Ok(()) };
        }
        self.hand_over()?;
        self.enter(wait)
    }

    /// Takes what has come since the last turn, before what was pushed is submitted. Does nothing
    /// if there is not both, and tells so.
    pub(crate) fn gather(&mut self) -> io::Result<bool> {
        if self.all_submitted() || !self.has_task_work() {
            return Ok(false);
        }
        self.enter_with(0, 0).map(|()| true)
    }

    /// As [`Ring::turn`], with the ring left out and nothing completed, but messages are for others
    /// to hear. Else does nothing, and tells so.
    pub(crate) fn turn_deaf(&mut self) -> io::Result<bool> {
        if !self.is_left_out() || !self.completed.is_empty() {
            return Ok(false);
        }
        self.enters += 1;
        let watched = self.watched.map(|(_, fd)| fd);
        if self.plain.turn(Sleep::Deaf, watched, &mut self.completed)? {
            self.enter(0)?;
        }
        Ok(true)
    }

    /// Gives the ring what waits without it.
    fn hand_over(&mut self) -> io::Result<()> {
        while let Some(one) = self.plain.give() {
            if !one.is_read() {
                assert!(self.watched.is_none(), "one descriptor is polled at a time");
                self.watched = Some((one.key, one.fd));
            }
            self.push(Entry128::from(one.entry().user_data(one.key)))?;
        }
        Ok(())
    }

    fn enter(&mut self, wait: usize) -> io::Result<()> {
        let Backend::Uring(uring) = &mut self.backend else { return Ok(()) };
        let count = uring.submission().len();
        self.enter_with(count, wait)
    }

    /// Submits so many; all of them if it waits.
    fn enter_with(&mut self, submit: usize, wait: usize) -> io::Result<()> {
        let Backend::Uring(uring) = &mut self.backend else { return Ok(()) };
        self.enters += 1;
        let done = if wait == 0 {
            // GETEVENTS is what runs deferred task work, also without waiting.
            const GETEVENTS: u32 = 1;
            // SAFETY: no argument block; what was pushed is sound by `push` (I1).
            unsafe { uring.submitter().enter::<()>(length(submit), 0, GETEVENTS, None) }.map(drop)
        } else {
            uring.submit_and_wait(wait).map(drop)
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
        let wait = wait.saturating_sub(self.completed.len());
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
        self.enter(0)?;
        let mut taken = std::mem::take(&mut self.completed);
        self.completions(&mut taken);
        self.completed = taken;
        Ok(&self.completed)
    }

    /// Moves the completions that are there into `taken`, oldest first, as (key, result).
    pub(crate) fn completions(&mut self, taken: &mut Vec<(Key, i32)>) {
        taken.append(&mut self.completed);
        if let Backend::Uring(uring) = &mut self.backend {
            for done in uring.completion() {
                let key = done.user_data();
                self.in_flight -= 1;
                self.watched.take_if(|(watched, _)| *watched == key);
                taken.push((key, done.result()));
            }
        }
    }

    /// Asks the kernel to end everything in flight. Entries of FUSE-over-io_uring are not
    /// affected: they end with their connection.
    pub(crate) fn cancel_all(&mut self) {
        self.plain.cancel_all(&mut self.completed);
        if let Backend::Uring(uring) = &mut self.backend {
            let timeout = types::Timespec::new().nsec(100_000_000);
            let everything = types::CancelBuilder::any();
            // ENOENT: nothing was in flight. Any other error leaves the loans open, and
            // whoever drops the arena then leaks it (I6).
            let _ = uring.submitter().register_sync_cancel(Some(timeout), everything);
        }
    }
}

/// Sets `sqe.len`, which the builder of commands lacks: the kernel wants the number of segments
/// there (`fs/fuse/dev_uring.c, fuse_uring_get_iovec_from_sqe`).
fn with_len(mut entry: Entry128, count: usize) -> Entry128 {
    const LEN_AT: usize = 24;
    const _: () = assert!(size_of::<Entry128>() == 128);
    let count = length(count);
    let place = (&raw mut entry).cast::<u8>().wrapping_add(LEN_AT).cast::<u32>();
    // SAFETY: `Entry128` is `repr(C)` and begins with `struct io_uring_sqe`, whose `len` is the
    // aligned u32 at byte 24 (include/uapi/linux/io_uring.h); `entry` is a live local.
    unsafe { place.write(count) };
    entry
}

#[cfg(test)]
pub(crate) mod tests;
