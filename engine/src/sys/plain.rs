//! Operations of `ring` by plain system calls: all where rings are forbidden, and otherwise those
//! on the device while the ring has nothing to do.
//!
//! Writes are made at once, reads wait for `poll(2)`, or are tried again and again for a while.
//!
//! Never known here: requests and replies. Neighbour: `ring`, whose contract this keeps.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::time::{Duration, Instant};

use io_uring::{opcode, squeue, types};
use nix::errno::Errno;

use super::Key;
use super::file::{length, result};

#[derive(Clone, Copy, Debug)]
enum Operation {
    Read { at: *mut u8, len: usize },
    Poll,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Pending {
    pub(super) key: Key,
    pub(super) fd: RawFd,
    operation: Operation,
}

impl Pending {
    /// For a ring, which the caller pushes it to.
    pub(super) fn entry(self) -> squeue::Entry {
        let file = types::Fd(self.fd);
        match self.operation {
            Operation::Read { at, len } => opcode::Read::new(file, at, length(len)).build(),
            Operation::Poll => {
                opcode::PollAdd::new(file, u32::from(libc::POLLIN.cast_unsigned())).build()
            }
        }
    }

    pub(super) fn is_read(&self) -> bool {
        matches!(self.operation, Operation::Read { .. })
    }
}

/// How long to wait for something that can run.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Sleep {
    Not,
    /// Until there is something.
    Long,
    /// Until there is something that is no read.
    Deaf,
}

/// How a wait without sleep has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Watch {
    /// With a completion.
    Came,
    /// With one that needed no wait.
    AtOnce,
    /// What was to be heard beside is there to be taken.
    Heard,
    /// Somebody else has had the CPU meanwhile.
    Preempted,
    /// With nothing in all the time.
    InVain,
}

/// From one look to the next it takes a system call or two, or else the thread did not run.
const AWAY: Duration = Duration::from_micros(10);

/// When to end a wait without sleep that brings nothing.
#[derive(Debug)]
pub(super) struct Pace {
    start: Instant,
    limit: Duration,
    last: Duration,
}

impl Pace {
    pub(super) fn new(limit: Duration) -> Self {
        Self { start: Instant::now(), limit, last: Duration::ZERO }
    }

    /// To be asked after each look.
    pub(super) fn ended(&mut self) -> Option<Watch> {
        let now = self.start.elapsed();
        let away = now - self.last;
        self.last = now;
        if away > AWAY {
            Some(Watch::Preempted)
        } else {
            (now >= self.limit).then_some(Watch::InVain)
        }
    }
}

/// Of so many looks one is at everything, and the others at the message that is waited for.
const LOOKS: u32 = 8;

/// Waits at most before which a read is not tried, after it was in vain.
const DESPAIR: u32 = 64;

/// Whether to try a read before asking whether it can run. While a shard answers, a caller whom it
/// runs behind often makes his next request.
#[derive(Debug, Default)]
struct Hope {
    /// Waits without it still, and the next time.
    rest: u32,
    shy: u32,
}

impl Hope {
    fn is_due(&mut self) -> bool {
        let rests = self.rest > 0;
        self.rest = self.rest.saturating_sub(1);
        !rests
    }

    fn tried(&mut self, came: bool) {
        self.shy = if came { 0 } else { (self.shy * 2 + 1).min(DESPAIR) };
        self.rest = self.shy;
    }
}

/// Operations that have not completed.
#[derive(Debug, Default)]
pub(crate) struct Plain {
    pending: Vec<Pending>,
    reads: usize,
    /// Looks so far.
    looks: u32,
    hope: Hope,
    /// What `poll(2)` is asked, kept for its room.
    fds: Vec<libc::pollfd>,
}

impl Plain {
    pub(crate) fn read(&mut self, key: Key, fd: RawFd, at: *mut u8, len: usize) {
        self.pending.push(Pending { key, fd, operation: Operation::Read { at, len } });
        self.reads += 1;
    }

    pub(crate) fn poll(&mut self, key: Key, fd: RawFd) {
        self.pending.push(Pending { key, fd, operation: Operation::Poll });
    }

    /// Reads that wait.
    pub(crate) fn reads(&self) -> usize {
        self.reads
    }

    /// One that waits, to be waited for by other means.
    pub(super) fn give(&mut self) -> Option<Pending> {
        let one = self.pending.pop()?;
        self.reads -= usize::from(one.is_read());
        Some(one)
    }

    /// Runs what can run, after such a sleep. Tells whether `also` is readable.
    pub(crate) fn turn(
        &mut self,
        sleep: Sleep,
        also: Option<RawFd>,
        completed: &mut Vec<(Key, i32)>,
    ) -> io::Result<bool> {
        if matches!(sleep, Sleep::Long)
            && self.reads == 1
            && self.hope.is_due()
            && !self.looks_at_all()
        {
            let came = self.try_read(completed);
            self.hope.tried(came);
            if came {
                return Ok(false);
            }
        }
        self.fds.clear();
        let hears = !matches!(sleep, Sleep::Deaf);
        let heard = self.pending.iter().filter(|one| hears || !one.is_read());
        for fd in heard.map(|one| one.fd).chain(also) {
            if !self.fds.iter().any(|asked| asked.fd == fd) {
                self.fds.push(libc::pollfd { fd, events: libc::POLLIN, revents: 0 });
            }
        }
        let timeout = match sleep {
            Sleep::Not => 0,
            Sleep::Long | Sleep::Deaf => -1,
        };
        // SAFETY: I1. The list is a live vector of ours, and whoever pushed an operation keeps its
        // descriptor open until the completion, as the kernel would.
        let ready =
            unsafe { libc::poll(self.fds.as_mut_ptr(), self.fds.len() as libc::nfds_t, timeout) };
        if ready <= 0 {
            return match Errno::last() {
                errno if ready < 0 && errno != Errno::EINTR => Err(errno.into()),
                _ => Ok(false),
            };
        }
        let heard = also.and_then(|fd| self.asked(fd)).is_some_and(|at| self.fds[at].revents != 0);
        let mut pending = std::mem::take(&mut self.pending);
        pending.retain(|one| {
            let Some(at) = self.asked(one.fd).filter(|at| self.fds[*at].revents != 0) else {
                return true;
            };
            let Some(result) = attempt(one) else {
                // Nor is there anything for the next one.
                self.fds[at].revents = 0;
                return true;
            };
            self.reads -= usize::from(one.is_read());
            completed.push((one.key, result));
            false
        });
        self.pending = pending;
        Ok(heard)
    }

    /// Looks for something to read, or for `also`, until there is, for `limit` at most.
    pub(crate) fn watch(
        &mut self,
        limit: Duration,
        also: Option<RawFd>,
        completed: &mut Vec<(Key, i32)>,
    ) -> io::Result<Watch> {
        let (mut pace, before) = (Pace::new(limit), completed.len());
        loop {
            if !self.looks_at_all() {
                self.try_read(completed);
            } else if self.turn(Sleep::Not, also, completed)? {
                return Ok(Watch::Heard);
            }
            if completed.len() > before {
                return Ok(Watch::Came);
            }
            if let Some(ended) = pace.ended() {
                return Ok(ended);
            }
        }
    }

    /// Whether the next look is at everything. Counted over all: messages that come at once each
    /// time keep nobody else waiting for longer.
    fn looks_at_all(&mut self) -> bool {
        self.looks = self.looks.wrapping_add(1);
        self.looks.is_multiple_of(LOOKS)
    }

    /// Tries the oldest read without asking whether it can run. Tells whether it did.
    fn try_read(&mut self, completed: &mut Vec<(Key, i32)>) -> bool {
        let read = self.pending.iter().position(Pending::is_read);
        let Some((at, result)) = read.and_then(|at| Some((at, attempt(&self.pending[at])?))) else {
            return false;
        };
        let one = self.pending.remove(at);
        self.reads -= 1;
        completed.push((one.key, result));
        true
    }

    fn asked(&self, fd: RawFd) -> Option<usize> {
        self.fds.iter().position(|asked| asked.fd == fd)
    }

    /// Ends everything with ECANCELED.
    pub(crate) fn cancel_all(&mut self, completed: &mut Vec<(Key, i32)>) {
        self.reads = 0;
        completed.extend(self.pending.drain(..).map(|one| (one.key, -libc::ECANCELED)));
    }
}

/// Writes at once.
pub(super) fn write(fd: BorrowedFd<'_>, list: *const libc::iovec, count: usize) -> i32 {
    let count = i32::try_from(count).unwrap_or(i32::MAX);
    loop {
        // SAFETY: I1. The slot is lent: its list and what that points to stay as they are.
        let done = unsafe { libc::writev(fd.as_raw_fd(), list, count) };
        match result(done) {
            Err(Errno::EINTR) => {}
            Err(errno) => return -(errno as i32),
            Ok(count) => return count,
        }
    }
}

/// The result, or nothing if it would block.
fn attempt(one: &Pending) -> Option<i32> {
    let Operation::Read { at, len } = one.operation else { return Some(1) };
    // SAFETY: I1. The slot is lent: `at` and `len` lie in its frame, and nothing of ours
    // looks at it before the completion.
    let done = unsafe { libc::read(one.fd, at.cast(), len) };
    match result(done) {
        Err(Errno::EAGAIN | Errno::EINTR) => None,
        Err(errno) => Some(-(errno as i32)),
        Ok(count) => Some(count),
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use nix::fcntl::OFlag;
    use nix::unistd::{pipe2, write};

    use super::*;

    #[test]
    fn a_read_is_tried_first_while_that_is_of_use() {
        let mut hope = Hope::default();
        for late in [0, 1, 3, 7, 15, 31, 63, DESPAIR, DESPAIR] {
            assert_eq!((0..=100).find(|_| hope.is_due()), Some(late));
            hope.tried(false);
        }
        assert_eq!((0..=100).find(|_| hope.is_due()), Some(DESPAIR));
        hope.tried(true);
        assert!(hope.is_due());
    }

    #[test]
    fn messages_at_each_turn_do_not_keep_others_from_being_heard() {
        let (messages, sender) = pipe2(OFlag::O_NONBLOCK).unwrap();
        let (bell, ringer) = pipe2(OFlag::O_NONBLOCK).unwrap();
        write(&ringer, b"x").unwrap();
        let (mut plain, mut byte) = (Plain::default(), [0_u8]);
        let mut turns = 0;
        loop {
            write(&sender, b"y").unwrap();
            let mut completed = Vec::new();
            plain.read(7, messages.as_raw_fd(), byte.as_mut_ptr(), 1);
            turns += 1;
            let also = Some(bell.as_fd().as_raw_fd());
            let heard = plain.turn(Sleep::Long, also, &mut completed).unwrap();
            assert_eq!((completed, byte), (vec![(7, 1)], *b"y"));
            if heard {
                break;
            }
            assert!(turns < LOOKS, "not heard");
        }
        assert!(turns > 1, "nothing was tried first");
    }

    #[test]
    fn of_several_reads_none_is_tried_first() {
        let (messages, sender) = pipe2(OFlag::O_NONBLOCK).unwrap();
        write(&sender, b"yz").unwrap();
        let (mut plain, mut bytes) = (Plain::default(), [0_u8; 2]);
        for (key, byte) in (1..).zip(&mut bytes) {
            plain.read(key, messages.as_raw_fd(), byte, 1);
        }
        let mut completed = Vec::new();
        plain.turn(Sleep::Long, None, &mut completed).unwrap();
        assert_eq!((completed, bytes), (vec![(1, 1), (2, 1)], *b"yz"));
    }
}
