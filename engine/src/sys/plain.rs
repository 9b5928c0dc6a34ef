//! The operations of `ring` by plain system calls, for places where rings are forbidden.
//!
//! Writes are made at once, reads are tried and otherwise wait for `poll(2)`. One system call
//! more per request than a ring; the same transports run on it unchanged.
//!
//! Never known here: requests and replies. Neighbour: `ring`, whose contract this keeps.

use std::io;
use std::os::fd::{BorrowedFd, RawFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::Key;
use super::file::{FileOperation, result};

#[derive(Clone, Copy, Debug)]
enum Operation {
    Read { at: *mut u8, len: usize },
    Write { list: *const libc::iovec, count: usize },
    Poll,
}

#[derive(Clone, Copy, Debug)]
struct Pending {
    key: Key,
    fd: RawFd,
    operation: Operation,
}

/// Operations that have not completed.
#[derive(Debug, Default)]
pub(crate) struct Plain {
    pending: Vec<Pending>,
    /// Complete, and not yet told.
    done: Vec<(Key, i32)>,
}

impl Plain {
    pub(crate) fn read(&mut self, key: Key, fd: RawFd, at: *mut u8, len: usize) {
        self.pending.push(Pending { key, fd, operation: Operation::Read { at, len } });
    }

    pub(crate) fn write(&mut self, key: Key, fd: RawFd, list: *const libc::iovec, count: usize) {
        self.pending.push(Pending { key, fd, operation: Operation::Write { list, count } });
    }

    pub(crate) fn poll(&mut self, key: Key, fd: RawFd) {
        self.pending.push(Pending { key, fd, operation: Operation::Poll });
    }

    /// Makes an operation on a file at once.
    pub(crate) fn file(&mut self, key: Key, fd: RawFd, operation: FileOperation) {
        self.done.push((key, operation.perform(fd)));
    }

    /// Runs what can run; with `wait` > 0 not before something completed.
    pub(crate) fn turn(&mut self, wait: usize, completed: &mut Vec<(Key, i32)>) -> io::Result<()> {
        completed.append(&mut self.done);
        loop {
            self.pending.retain(|one| match attempt(one) {
                Some(result) => {
                    completed.push((one.key, result));
                    false
                }
                None => true,
            });
            if wait == 0 || !completed.is_empty() {
                return Ok(());
            }
            self.sleep()?;
        }
    }

    fn sleep(&self) -> io::Result<()> {
        let mut fds: Vec<_> = self
            .pending
            .iter()
            .map(|one| {
                // SAFETY: I1. Whoever pushed the operation keeps its descriptor open until the
                // completion, as the kernel would.
                PollFd::new(unsafe { BorrowedFd::borrow_raw(one.fd) }, PollFlags::POLLIN)
            })
            .collect();
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Ends everything with ECANCELED.
    pub(crate) fn cancel_all(&mut self, completed: &mut Vec<(Key, i32)>) {
        completed.extend(self.pending.drain(..).map(|one| (one.key, -libc::ECANCELED)));
    }
}

/// The result, or nothing if it would block.
fn attempt(one: &Pending) -> Option<i32> {
    let done = match one.operation {
        Operation::Read { at, len } => {
            // SAFETY: I1. The slot is lent: `at` and `len` lie in its frame, and nothing of ours
            // looks at it before the completion.
            unsafe { libc::read(one.fd, at.cast(), len) }
        }
        Operation::Write { list, count } => {
            let count = i32::try_from(count).unwrap_or(i32::MAX);
            // SAFETY: I1. The slot is lent: its list and what that points to stay as they are.
            unsafe { libc::writev(one.fd, list, count) }
        }
        Operation::Poll => return readable(one.fd),
    };
    match result(done) {
        Err(Errno::EAGAIN | Errno::EINTR) => None,
        Err(errno) => Some(-(errno as i32)),
        Ok(count) => Some(count),
    }
}

fn readable(fd: RawFd) -> Option<i32> {
    // SAFETY: I1. Whoever pushed the operation keeps the descriptor open.
    let mut fds = [PollFd::new(unsafe { BorrowedFd::borrow_raw(fd) }, PollFlags::POLLIN)];
    match poll(&mut fds, PollTimeout::ZERO) {
        Ok(0) | Err(_) => None,
        Ok(_) => Some(1),
    }
}
