//! Open files: opening, reading, writing, syncing, copying.

use core::mem::offset_of;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::types::{Fh, LockOwner, NodeId};

/// `struct fuse_open_in`: argument of OPEN and OPENDIR.
///
/// Kernel: include/uapi/linux/fuse.h, since 7.1 (`open_flags` 7.33).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct OpenIn {
    /// Flags of open(2).
    pub flags: u32,
    /// [`OpenInFlags`](crate::flags::OpenInFlags).
    pub open_flags: u32,
}
const _: () = assert!(size_of::<OpenIn>() == 8 && offset_of!(OpenIn, open_flags) == 4);

/// `struct fuse_create_in`: argument of CREATE and TMPFILE; a name follows.
///
/// Kernel: include/uapi/linux/fuse.h, since 7.3 (16 bytes since 7.12).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct CreateIn {
    /// Flags of open(2).
    pub flags: u32,
    /// File type and permission bits.
    pub mode: u32,
    /// The caller's umask; counts only with `DONT_MASK`.
    pub umask: u32,
    /// [`OpenInFlags`](crate::flags::OpenInFlags).
    pub open_flags: u32,
}
const _: () = assert!(size_of::<CreateIn>() == 16 && offset_of!(CreateIn, open_flags) == 12);

/// `struct fuse_open_out`: reply body of OPEN and OPENDIR, and second half of that of CREATE and
/// TMPFILE.
///
/// Kernel: include/uapi/linux/fuse.h, since 7.1 (`backing_id` 7.40).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct OpenOut {
    /// Handle, chosen by the server.
    pub fh: Fh,
    /// [`FOpenFlags`](crate::flags::FOpenFlags).
    pub open_flags: u32,
    /// Id of a registered backing file; counts only with `PASSTHROUGH`.
    pub backing_id: i32,
}
const _: () = assert!(size_of::<OpenOut>() == 16 && offset_of!(OpenOut, backing_id) == 12);

/// `struct fuse_release_in`: argument of RELEASE and RELEASEDIR.
///
/// Kernel: include/uapi/linux/fuse.h, since 7.1 (24 bytes since 7.8).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct ReleaseIn {
    /// Handle that the server gave at open.
    pub fh: Fh,
    /// Flags of open(2).
    pub flags: u32,
    /// [`ReleaseFlags`](crate::flags::ReleaseFlags).
    pub release_flags: u32,
    /// Owner of locks.
    pub lock_owner: LockOwner,
}
const _: () = assert!(size_of::<ReleaseIn>() == 24 && offset_of!(ReleaseIn, lock_owner) == 16);

/// `struct fuse_flush_in`: argument of FLUSH.
///
/// Kernel: include/uapi/linux/fuse.h, since 7.1 (`lock_owner` 7.7).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct FlushIn {
    /// Handle that the server gave at open.
    pub fh: Fh,
    /// Zero.
    pub unused: u32,
    /// Zero.
    pub padding: u32,
    /// Owner of locks.
    pub lock_owner: LockOwner,
}
const _: () = assert!(size_of::<FlushIn>() == 24 && offset_of!(FlushIn, lock_owner) == 16);

/// `struct fuse_read_in`: argument of READ, READDIR and READDIRPLUS.
///
/// Kernel: include/uapi/linux/fuse.h, since 7.1 (40 bytes since 7.9).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct ReadIn {
    /// Handle that the server gave at open.
    pub fh: Fh,
    /// Position in bytes; in a directory the cookie of a record.
    pub offset: u64,
    /// How many bytes are wanted at most.
    pub size: u32,
    /// [`ReadFlags`](crate::flags::ReadFlags).
    pub read_flags: u32,
    /// Owner of locks; counts only with `LOCKOWNER`.
    pub lock_owner: LockOwner,
    /// Flags of the open file.
    pub flags: u32,
    /// Zero.
    pub padding: u32,
}
const _: () = assert!(size_of::<ReadIn>() == 40 && offset_of!(ReadIn, padding) == 36);

/// `struct fuse_write_in`: argument of WRITE; `size` bytes follow.
///
/// Kernel: include/uapi/linux/fuse.h, since 7.1 (40 bytes since 7.9).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct WriteIn {
    /// Handle that the server gave at open.
    pub fh: Fh,
    /// Position in the file, bytes.
    pub offset: u64,
    /// How many bytes follow.
    pub size: u32,
    /// [`WriteFlags`](crate::flags::WriteFlags).
    pub write_flags: u32,
    /// Owner of locks; counts only with `LOCKOWNER`.
    pub lock_owner: LockOwner,
    /// Flags of the open file.
    pub flags: u32,
    /// Zero.
    pub padding: u32,
}
const _: () = assert!(size_of::<WriteIn>() == 40 && offset_of!(WriteIn, padding) == 36);

/// `struct fuse_write_out`: reply body of WRITE and COPY_FILE_RANGE.
///
/// Kernel: include/uapi/linux/fuse.h, since 7.1.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct WriteOut {
    /// How many bytes were taken.
    pub size: u32,
    /// Zero.
    pub padding: u32,
}
const _: () = assert!(size_of::<WriteOut>() == 8 && offset_of!(WriteOut, padding) == 4);

/// `struct fuse_fsync_in`: argument of FSYNC and FSYNCDIR.
///
/// Kernel: include/uapi/linux/fuse.h, since 7.1.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct FsyncIn {
    /// Handle that the server gave at open.
    pub fh: Fh,
    /// [`FSyncFlags`](crate::flags::FSyncFlags).
    pub fsync_flags: u32,
    /// Zero.
    pub padding: u32,
}
const _: () = assert!(size_of::<FsyncIn>() == 16 && offset_of!(FsyncIn, padding) == 12);

/// `struct fuse_fallocate_in`: argument of FALLOCATE.
///
/// Kernel: include/uapi/linux/fuse.h, since 7.19.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct FallocateIn {
    /// Handle that the server gave at open.
    pub fh: Fh,
    /// Position in the file, bytes.
    pub offset: u64,
    /// Length of the range, bytes.
    pub length: u64,
    /// Flags of fallocate(2).
    pub mode: u32,
    /// Zero.
    pub padding: u32,
}
const _: () = assert!(size_of::<FallocateIn>() == 32 && offset_of!(FallocateIn, padding) == 28);

/// `struct fuse_lseek_in`: argument of LSEEK.
///
/// Kernel: include/uapi/linux/fuse.h, since 7.24.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct LseekIn {
    /// Handle that the server gave at open.
    pub fh: Fh,
    /// Position in the file, bytes.
    pub offset: u64,
    /// `SEEK_DATA` 3 or `SEEK_HOLE` 4.
    pub whence: u32,
    /// Zero.
    pub padding: u32,
}
const _: () = assert!(size_of::<LseekIn>() == 24 && offset_of!(LseekIn, padding) == 20);

/// `struct fuse_lseek_out`: reply body of LSEEK.
///
/// Kernel: include/uapi/linux/fuse.h, since 7.24.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct LseekOut {
    /// The position that was found.
    pub offset: u64,
}
const _: () = assert!(size_of::<LseekOut>() == 8);

/// `struct fuse_copy_file_range_in`: argument of COPY_FILE_RANGE and COPY_FILE_RANGE_64.
///
/// Kernel: include/uapi/linux/fuse.h, since 7.28.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct CopyFileRangeIn {
    /// Source handle; its inode is in the header.
    pub fh_in: Fh,
    /// Position in the source, bytes.
    pub off_in: u64,
    /// Target inode.
    pub nodeid_out: NodeId,
    /// Target handle.
    pub fh_out: Fh,
    /// Position in the target, bytes.
    pub off_out: u64,
    /// How many bytes.
    pub len: u64,
    /// Flags of copy_file_range(2); today 0.
    pub flags: u64,
}
const _: () =
    assert!(size_of::<CopyFileRangeIn>() == 56 && offset_of!(CopyFileRangeIn, flags) == 48);

/// `struct fuse_copy_file_range_out`: reply body of COPY_FILE_RANGE_64.
///
/// Kernel: include/uapi/linux/fuse.h, since 7.45.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct CopyFileRangeOut {
    /// How many bytes were copied.
    pub bytes_copied: u64,
}
const _: () = assert!(size_of::<CopyFileRangeOut>() == 8);

/// `struct fuse_syncfs_in`: argument of SYNCFS.
///
/// Kernel: include/uapi/linux/fuse.h, since 7.34.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct SyncfsIn {
    /// Zero.
    pub padding: u64,
}
const _: () = assert!(size_of::<SyncfsIn>() == 8);
