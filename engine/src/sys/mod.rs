//! The only rooms with `unsafe`: slot memory, the ring, the device, mount system calls, a process
//! of our own.
//!
//! What they must never know: requests, filesystems, sessions. Every block names the invariant
//! that it rests on; the invariants are listed in the crate documentation.

pub(crate) mod arena;
pub(crate) mod device;
pub(crate) mod file;
pub(crate) mod guard;
pub(crate) mod heap;
pub(crate) mod mount;
pub(crate) mod plain;
pub(crate) mod policy;
mod restrict;
pub(crate) mod ring;

/// What a completion belongs to; chosen by the caller, brought back by the kernel.
pub(crate) type Key = u64;

/// The key of what nobody waits for.
pub(crate) const NOBODY: Key = 0;
