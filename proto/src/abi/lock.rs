//! Locks: POSIX record locks and, with a flag, flock.

use core::mem::offset_of;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::types::{Fh, LockOwner};

/// `struct fuse_file_lock`: a lock on a range of a file.
///
/// Kernel: include/uapi/linux/fuse.h, since 7.7.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct FileLock {
    /// First byte.
    pub start: u64,
    /// Last byte; 2^63 - 1 for the end of the file.
    pub end: u64,
    /// `F_RDLCK` 0, `F_WRLCK` 1 or `F_UNLCK` 2.
    pub kind: u32,
    /// Process id of the holder.
    pub pid: u32,
}
const _: () = assert!(size_of::<FileLock>() == 24 && offset_of!(FileLock, pid) == 20);

/// `struct fuse_lk_in`: argument of GETLK, SETLK and SETLKW.
///
/// Kernel: include/uapi/linux/fuse.h, since 7.7 (`lk_flags` 7.9).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct LkIn {
    /// Handle that the server gave at open.
    pub fh: Fh,
    /// Owner of the lock.
    pub owner: LockOwner,
    /// The lock.
    pub lk: FileLock,
    /// [`LkFlags`](crate::flags::LkFlags).
    pub lk_flags: u32,
    /// Zero.
    pub padding: u32,
}
const _: () = assert!(size_of::<LkIn>() == 48 && offset_of!(LkIn, padding) == 44);

/// `struct fuse_lk_out`: reply body of GETLK.
///
/// Kernel: include/uapi/linux/fuse.h, since 7.7.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct LkOut {
    /// The lock that is in the way, or one of type `F_UNLCK`.
    pub lk: FileLock,
}
const _: () = assert!(size_of::<LkOut>() == 24);
