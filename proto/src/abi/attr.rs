//! Attributes: GETATTR, SETATTR, STATX, STATFS, ACCESS, and what the replies share.
//!
//! [`Attr`] stands in [`EntryOut`] and [`AttrOut`]; friendly forms are in [`reply`](crate::reply).

use core::mem::offset_of;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::types::{Fh, Generation, LockOwner, NodeId};

/// `struct fuse_attr`: attributes of an inode, as `stat` shows them.
///
/// Kernel: include/uapi/linux/fuse.h, since 7.1 (`blksize` 7.9, `flags` 7.32).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct Attr {
    /// Inode number as `stat` shows it.
    pub ino: u64,
    /// Length of the file, bytes; at most 2^63 - 1.
    pub size: u64,
    /// Space used, in units of 512 bytes.
    pub blocks: u64,
    /// Last access, seconds.
    pub atime: u64,
    /// Last change of the data, seconds.
    pub mtime: u64,
    /// Last change of the attributes, seconds.
    pub ctime: u64,
    /// Last access, nanoseconds on top.
    pub atimensec: u32,
    /// Last change of the data, nanoseconds on top.
    pub mtimensec: u32,
    /// Last change of the attributes, nanoseconds on top.
    pub ctimensec: u32,
    /// File type and permission bits.
    pub mode: u32,
    /// Number of hard links.
    pub nlink: u32,
    /// Owning user.
    pub uid: u32,
    /// Owning group.
    pub gid: u32,
    /// Device number of a device node, in the 32-bit encoding of the kernel (`new_encode_dev`).
    pub rdev: u32,
    /// Preferred I/O size, bytes; 0 takes the one of the mount.
    pub blksize: u32,
    /// [`AttrFlags`](crate::flags::AttrFlags).
    pub flags: u32,
}
const _: () = assert!(size_of::<Attr>() == 88 && offset_of!(Attr, flags) == 84);

/// `struct fuse_sx_time`: a point in time of STATX.
///
/// Kernel: include/uapi/linux/fuse.h, since 7.39.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct SxTime {
    /// Seconds since the epoch.
    pub tv_sec: i64,
    /// Nanoseconds on top.
    pub tv_nsec: u32,
    /// Zero.
    pub reserved: i32,
}
const _: () = assert!(size_of::<SxTime>() == 16 && offset_of!(SxTime, reserved) == 12);

/// `struct fuse_statx`: attributes in the form of statx(2).
///
/// Kernel: include/uapi/linux/fuse.h, since 7.39.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct Statx {
    /// Which fields are valid: [`StatxMask`](crate::flags::StatxMask).
    pub mask: u32,
    /// Preferred I/O size, bytes.
    pub blksize: u32,
    /// Attribute bits as in statx(2).
    pub attributes: u64,
    /// Number of hard links.
    pub nlink: u32,
    /// Owning user.
    pub uid: u32,
    /// Owning group.
    pub gid: u32,
    /// File type and permission bits.
    pub mode: u16,
    /// Zero.
    pub spare0: [u16; 1],
    /// Inode number as `stat` shows it.
    pub ino: u64,
    /// Length of the file, bytes.
    pub size: u64,
    /// Space used, in units of 512 bytes.
    pub blocks: u64,
    /// Which bits of `attributes` are supported.
    pub attributes_mask: u64,
    /// Last access.
    pub atime: SxTime,
    /// Birth.
    pub btime: SxTime,
    /// Last change of the attributes.
    pub ctime: SxTime,
    /// Last change of the data.
    pub mtime: SxTime,
    /// Major number of a device node.
    pub rdev_major: u32,
    /// Minor number of a device node.
    pub rdev_minor: u32,
    /// Major number of the device that holds the file; the kernel ignores it.
    pub dev_major: u32,
    /// Minor number of the device that holds the file; the kernel ignores it.
    pub dev_minor: u32,
    /// Zero.
    pub spare2: [u64; 14],
}
const _: () = assert!(size_of::<Statx>() == 256 && offset_of!(Statx, spare2) == 144);

/// `struct fuse_kstatfs`: figures of the whole filesystem.
///
/// Kernel: include/uapi/linux/fuse.h, since 7.1 (80 bytes since 7.4).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct Kstatfs {
    /// Total size, in units of `frsize`.
    pub blocks: u64,
    /// Free blocks.
    pub bfree: u64,
    /// Free blocks for unprivileged users.
    pub bavail: u64,
    /// Inodes in all.
    pub files: u64,
    /// Free inodes.
    pub ffree: u64,
    /// Preferred I/O size, bytes; must not be 0.
    pub bsize: u32,
    /// Longest name, bytes; must not be 0.
    pub namelen: u32,
    /// Unit of the block counts, bytes; must not be 0.
    pub frsize: u32,
    /// Zero.
    pub padding: u32,
    /// Zero.
    pub spare: [u32; 6],
}
const _: () = assert!(size_of::<Kstatfs>() == 80 && offset_of!(Kstatfs, spare) == 56);

/// `struct fuse_getattr_in`: argument of GETATTR.
///
/// Kernel: include/uapi/linux/fuse.h, since 7.9.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct GetattrIn {
    /// [`GetAttrFlags`](crate::flags::GetAttrFlags).
    pub getattr_flags: u32,
    /// Zero.
    pub dummy: u32,
    /// Handle; counts only with `GetAttrFlags::FH`.
    pub fh: Fh,
}
const _: () = assert!(size_of::<GetattrIn>() == 16 && offset_of!(GetattrIn, fh) == 8);

/// `struct fuse_attr_out`: reply body of GETATTR and SETATTR.
///
/// Kernel: include/uapi/linux/fuse.h, since 7.1.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct AttrOut {
    /// How long the kernel may cache the attributes, seconds.
    pub attr_valid: u64,
    /// How long the kernel may cache the attributes, nanoseconds on top.
    pub attr_valid_nsec: u32,
    /// Zero.
    pub dummy: u32,
    /// The attributes.
    pub attr: Attr,
}
const _: () = assert!(size_of::<AttrOut>() == 104 && offset_of!(AttrOut, attr) == 16);

/// `struct fuse_statx_in`: argument of STATX.
///
/// Kernel: include/uapi/linux/fuse.h, since 7.39.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct StatxIn {
    /// [`GetAttrFlags`](crate::flags::GetAttrFlags).
    pub getattr_flags: u32,
    /// Zero.
    pub reserved: u32,
    /// Handle; counts only with `GetAttrFlags::FH`.
    pub fh: Fh,
    /// Synchronisation flags of statx(2); today 0.
    pub sx_flags: u32,
    /// Fields that are asked for; today 0xfff.
    pub sx_mask: u32,
}
const _: () = assert!(size_of::<StatxIn>() == 24 && offset_of!(StatxIn, sx_mask) == 20);

/// `struct fuse_statx_out`: reply body of STATX.
///
/// Kernel: include/uapi/linux/fuse.h, since 7.39.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct StatxOut {
    /// How long the kernel may cache the attributes, seconds.
    pub attr_valid: u64,
    /// How long the kernel may cache the attributes, nanoseconds on top.
    pub attr_valid_nsec: u32,
    /// [`AttrFlags`](crate::flags::AttrFlags).
    pub flags: u32,
    /// Zero.
    pub spare: [u64; 2],
    /// The attributes.
    pub stat: Statx,
}
const _: () = assert!(size_of::<StatxOut>() == 288 && offset_of!(StatxOut, stat) == 32);

/// `struct fuse_setattr_in`: argument of SETATTR.
///
/// Kernel: include/uapi/linux/fuse.h, since 7.1 (`ctime` 7.23).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct SetattrIn {
    /// Which fields count: [`SetAttrValid`](crate::flags::SetAttrValid).
    pub valid: u32,
    /// Zero.
    pub padding: u32,
    /// Handle; counts only with `FH`.
    pub fh: Fh,
    /// New length, bytes.
    pub size: u64,
    /// Owner of locks; counts only with `LOCKOWNER`.
    pub lock_owner: LockOwner,
    /// Last access, seconds.
    pub atime: u64,
    /// Last change of the data, seconds.
    pub mtime: u64,
    /// Last change of the attributes, seconds.
    pub ctime: u64,
    /// Last access, nanoseconds on top.
    pub atimensec: u32,
    /// Last change of the data, nanoseconds on top.
    pub mtimensec: u32,
    /// Last change of the attributes, nanoseconds on top.
    pub ctimensec: u32,
    /// New type and permission bits.
    pub mode: u32,
    /// Zero.
    pub unused4: u32,
    /// New owning user.
    pub uid: u32,
    /// New owning group.
    pub gid: u32,
    /// Zero.
    pub unused5: u32,
}
const _: () = assert!(size_of::<SetattrIn>() == 88 && offset_of!(SetattrIn, unused5) == 84);

/// `struct fuse_statfs_out`: reply body of STATFS.
///
/// Kernel: include/uapi/linux/fuse.h, since 7.1.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct StatfsOut {
    /// The figures.
    pub st: Kstatfs,
}
const _: () = assert!(size_of::<StatfsOut>() == 80);

/// `struct fuse_access_in`: argument of ACCESS.
///
/// Kernel: include/uapi/linux/fuse.h, since 7.3.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct AccessIn {
    /// `R_OK` 4, `W_OK` 2, `X_OK` 1, or `F_OK` 0.
    pub mask: u32,
    /// Zero.
    pub padding: u32,
}
const _: () = assert!(size_of::<AccessIn>() == 8 && offset_of!(AccessIn, padding) == 4);

/// `struct fuse_entry_out`: reply body of LOOKUP and of everything that makes an inode.
///
/// Kernel: include/uapi/linux/fuse.h, since 7.1 (128 bytes since 7.9).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct EntryOut {
    /// The inode; 0 makes a cached negative entry.
    pub nodeid: NodeId,
    /// Reuse counter of the nodeid.
    pub generation: Generation,
    /// How long the kernel may cache the name, seconds.
    pub entry_valid: u64,
    /// How long the kernel may cache the attributes, seconds.
    pub attr_valid: u64,
    /// How long the kernel may cache the name, nanoseconds on top.
    pub entry_valid_nsec: u32,
    /// How long the kernel may cache the attributes, nanoseconds on top.
    pub attr_valid_nsec: u32,
    /// The attributes.
    pub attr: Attr,
}
const _: () = assert!(size_of::<EntryOut>() == 128 && offset_of!(EntryOut, attr) == 40);
