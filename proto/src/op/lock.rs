//! Locks of fcntl(2) and flock(2).
//!
//! They come only with POSIX_LOCKS or FLOCK_LOCKS agreed; without, the kernel locks locally.

use core::fmt;

use crate::abi;
use crate::composer::Composer;
use crate::cursor::{DecodeError, Parts};
use crate::flags::LkFlags;
use crate::types::{Fh, LockOwner};

/// A lock on a range of a file, in requests and in the reply to GETLK.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct FileLock {
    /// First byte.
    pub start: u64,
    /// Last byte; [`FileLock::TO_EOF`] for the end of the file.
    pub end: u64,
    /// What it keeps from others.
    pub kind: LockKind,
    /// Process (thread group) id of the holder.
    pub pid: u32,
}

/// Kind of a lock, as fcntl(2) numbers it; what is none of the three is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct LockKind(
    /// The wire form.
    pub u32,
);

impl LockKind {
    /// `F_RDLCK`: shared.
    pub const READ: Self = Self(0);
    /// `F_WRLCK`: exclusive.
    pub const WRITE: Self = Self(1);
    /// `F_UNLCK`: none.
    pub const UNLOCK: Self = Self(2);
}

impl fmt::Display for LockKind {
    /// `READ`, or the number where it has no name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::READ => f.write_str("READ"),
            Self::WRITE => f.write_str("WRITE"),
            Self::UNLOCK => f.write_str("UNLOCK"),
            Self(other) => fmt::Display::fmt(&other, f),
        }
    }
}

impl FileLock {
    /// The last byte of a lock up to the end of the file; nothing larger is valid.
    pub const TO_EOF: u64 = i64::MAX.cast_unsigned();
}

impl From<abi::FileLock> for FileLock {
    fn from(wire: abi::FileLock) -> Self {
        let abi::FileLock { start, end, kind, pid } = wire;
        Self { start, end, kind: LockKind(kind), pid }
    }
}

impl From<FileLock> for abi::FileLock {
    fn from(lock: FileLock) -> Self {
        let FileLock { start, end, kind, pid } = lock;
        Self { start, end, kind: kind.0, pid }
    }
}

/// GETLK: which lock is in the way of this one?
///
/// - **From**: fcntl(2) with F_GETLK.
/// - **Reply**: the lock that is in the way, or one of kind UNLOCK.
/// - **Cached**: nothing.
/// - **Errors**: EBADF, EIO. A reply of another kind, or with an invalid range, is EIO.
/// - **Kernel**: fs/fuse/file.c, `fuse_getlk`; since 7.7.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct GetLk {
    /// The open file.
    pub fh: Fh,
    /// Who asks.
    pub owner: LockOwner,
    /// The lock that is wanted.
    pub lock: FileLock,
    /// The flag word.
    pub lk_flags: LkFlags,
}

/// SETLK: take or drop a lock, without waiting.
///
/// - **From**: fcntl(2) with F_SETLK; flock(2) with LOCK_NB.
/// - **Reply**: empty.
/// - **Cached**: the kernel does not keep it.
/// - **Errors**: EAGAIN where it is taken, ENOLCK, EBADF.
/// - **Kernel**: fs/fuse/file.c, `fuse_setlk`; since 7.7.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct SetLk {
    /// The open file.
    pub fh: Fh,
    /// Who locks.
    pub owner: LockOwner,
    /// The lock; kind UNLOCK drops it.
    pub lock: FileLock,
    /// The flag word.
    pub lk_flags: LkFlags,
}

/// SETLKW: take a lock, waiting for it.
///
/// - **From**: fcntl(2) with F_SETLKW; flock(2).
/// - **Reply**: empty, once the lock is had. It must be interruptible: the caller cannot be killed
///   otherwise.
/// - **Cached**: the kernel does not keep it.
/// - **Errors**: EINTR after an INTERRUPT (the kernel restarts the call), EDEADLK, ENOLCK.
/// - **Kernel**: fs/fuse/file.c, `fuse_setlk`; since 7.7.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct SetLkW {
    /// The open file.
    pub fh: Fh,
    /// Who locks.
    pub owner: LockOwner,
    /// The lock; kind UNLOCK drops it.
    pub lock: FileLock,
    /// The flag word.
    pub lk_flags: LkFlags,
}

impl GetLk {
    pub(crate) fn decode(mut parts: Parts<'_>) -> Result<Self, DecodeError> {
        let abi::LkIn { fh, owner, lk, lk_flags, .. } = parts.argument()?;
        parts.end()?;
        Ok(Self { fh, owner, lock: lk.into(), lk_flags: lk_flags.into() })
    }

    pub(crate) fn encode(&self, out: &mut Composer<'_>) {
        let Self { fh, owner, lock, lk_flags } = *self;
        let (lk, lk_flags) = (lock.into(), lk_flags.bits());
        out.argument(&abi::LkIn { fh, owner, lk, lk_flags, padding: 0 });
    }
}

impl SetLk {
    pub(crate) fn decode(mut parts: Parts<'_>) -> Result<Self, DecodeError> {
        let abi::LkIn { fh, owner, lk, lk_flags, .. } = parts.argument()?;
        parts.end()?;
        Ok(Self { fh, owner, lock: lk.into(), lk_flags: lk_flags.into() })
    }

    pub(crate) fn encode(&self, out: &mut Composer<'_>) {
        let Self { fh, owner, lock, lk_flags } = *self;
        let (lk, lk_flags) = (lock.into(), lk_flags.bits());
        out.argument(&abi::LkIn { fh, owner, lk, lk_flags, padding: 0 });
    }
}

impl SetLkW {
    pub(crate) fn decode(mut parts: Parts<'_>) -> Result<Self, DecodeError> {
        let abi::LkIn { fh, owner, lk, lk_flags, .. } = parts.argument()?;
        parts.end()?;
        Ok(Self { fh, owner, lock: lk.into(), lk_flags: lk_flags.into() })
    }

    pub(crate) fn encode(&self, out: &mut Composer<'_>) {
        let Self { fh, owner, lock, lk_flags } = *self;
        let (lk, lk_flags) = (lock.into(), lk_flags.bits());
        out.argument(&abi::LkIn { fh, owner, lk, lk_flags, padding: 0 });
    }
}
