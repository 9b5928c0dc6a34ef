//! Operations on files of a filesystem's own: as entries of a ring, or made at once.
//!
//! Never known here: whose files they are. Neighbours: `ring` pushes or performs, `io` has handlers
//! wait for them.

use std::os::fd::RawFd;

use io_uring::{opcode, squeue, types};
use nix::errno::Errno;

use super::arena::Memory;

/// An operation on a file of the filesystem's own.
#[derive(Clone, Copy, Debug)]
pub(crate) enum FileOperation {
    Read { at: Memory, offset: u64 },
    Write { from: Memory, offset: u64 },
    Sync { data_only: bool },
    Allocate { mode: u32, offset: u64, len: u64 },
}

impl FileOperation {
    /// For a ring, which the caller pushes it to.
    pub(super) fn entry(self, fd: RawFd) -> squeue::Entry {
        let file = types::Fd(fd);
        match self {
            Self::Read { at: Memory { at, len }, offset } => {
                opcode::Read::new(file, at, length(len)).offset(offset).build()
            }
            Self::Write { from: Memory { at, len }, offset } => {
                opcode::Write::new(file, at, length(len)).offset(offset).build()
            }
            Self::Sync { data_only } => {
                let mut flags = types::FsyncFlags::empty();
                flags.set(types::FsyncFlags::DATASYNC, data_only);
                opcode::Fsync::new(file).flags(flags).build()
            }
            Self::Allocate { mode, offset, len } => {
                let mode = mode.cast_signed();
                opcode::Fallocate::new(file, len).offset(offset).mode(mode).build()
            }
        }
    }

    /// The result, as a ring tells it.
    pub(super) fn perform(self, fd: RawFd) -> i32 {
        let place = |offset: u64| libc::off_t::try_from(offset).unwrap_or(libc::off_t::MAX);
        let done = match self {
            Self::Read { at, offset } => {
                // SAFETY: I9. The slot is held for this and nothing of ours looks at the room.
                unsafe { libc::pread(fd, at.at.cast(), at.len, place(offset)) }
            }
            Self::Write { from, offset } => {
                // SAFETY: I9. The bytes stay as they are until the completion.
                unsafe { libc::pwrite(fd, from.at.cast(), from.len, place(offset)) }
            }
            Self::Sync { data_only: true } => {
                // SAFETY: the call takes a number only.
                unsafe { libc::fdatasync(fd) as isize }
            }
            Self::Sync { data_only: false } => {
                // SAFETY: the call takes a number only.
                unsafe { libc::fsync(fd) as isize }
            }
            Self::Allocate { mode, offset, len } => {
                let (mode, offset, len) = (mode.cast_signed(), place(offset), place(len));
                // SAFETY: the call takes numbers only.
                unsafe { libc::fallocate(fd, mode, offset, len) as isize }
            }
        };
        result(done).unwrap_or_else(|errno| -(errno as i32))
    }
}

/// The length as an operation has it: what is beyond is a short count.
pub(super) fn length(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}

/// What a system call that counts bytes has returned.
pub(super) fn result(done: isize) -> Result<i32, Errno> {
    if done < 0 { Err(Errno::last()) } else { Ok(i32::try_from(done).unwrap_or(i32::MAX)) }
}
