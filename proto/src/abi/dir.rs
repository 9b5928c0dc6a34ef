//! Names and directories: making, moving, forgetting and listing entries.
//!
//! [`Dirent`] and [`Direntplus`] open the records of a directory stream; the writers are in
//! [`dirent`](crate::dirent).

use core::mem::offset_of;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::EntryOut;
use crate::types::{LookupCount, NodeId};

/// `struct fuse_forget_in`: argument of FORGET.
///
/// Kernel: include/uapi/linux/fuse.h, since 7.1.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct ForgetIn {
    /// How many references are given back.
    pub nlookup: LookupCount,
}
const _: () = assert!(size_of::<ForgetIn>() == 8);

/// `struct fuse_forget_one`: one item of BATCH_FORGET.
///
/// Kernel: include/uapi/linux/fuse.h, since 7.16.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct ForgetOne {
    /// The inode.
    pub nodeid: NodeId,
    /// How many references are given back.
    pub nlookup: LookupCount,
}
const _: () = assert!(size_of::<ForgetOne>() == 16 && offset_of!(ForgetOne, nlookup) == 8);

/// `struct fuse_batch_forget_in`: argument of BATCH_FORGET; `count` items of [`ForgetOne`] follow.
///
/// Kernel: include/uapi/linux/fuse.h, since 7.16.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct BatchForgetIn {
    /// Number of items.
    pub count: u32,
    /// Zero.
    pub dummy: u32,
}
const _: () = assert!(size_of::<BatchForgetIn>() == 8 && offset_of!(BatchForgetIn, dummy) == 4);

/// `struct fuse_mknod_in`: argument of MKNOD; a name follows.
///
/// Kernel: include/uapi/linux/fuse.h, since 7.1 (16 bytes since 7.12).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct MknodIn {
    /// File type and permission bits.
    pub mode: u32,
    /// Device number of a device node, in the 32-bit encoding of the kernel (`new_encode_dev`).
    pub rdev: u32,
    /// The caller's umask; counts only with `DONT_MASK`.
    pub umask: u32,
    /// Zero.
    pub padding: u32,
}
const _: () = assert!(size_of::<MknodIn>() == 16 && offset_of!(MknodIn, padding) == 12);

/// `struct fuse_mkdir_in`: argument of MKDIR; a name follows.
///
/// Kernel: include/uapi/linux/fuse.h, since 7.1 (`umask` 7.12).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct MkdirIn {
    /// Permission bits, without the type.
    pub mode: u32,
    /// The caller's umask; counts only with `DONT_MASK`.
    pub umask: u32,
}
const _: () = assert!(size_of::<MkdirIn>() == 8 && offset_of!(MkdirIn, umask) == 4);

/// `struct fuse_rename_in`: argument of RENAME; old and new name follow.
///
/// Kernel: include/uapi/linux/fuse.h, since 7.1.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct RenameIn {
    /// Directory of the new name.
    pub newdir: NodeId,
}
const _: () = assert!(size_of::<RenameIn>() == 8);

/// `struct fuse_rename2_in`: argument of RENAME2; old and new name follow.
///
/// Kernel: include/uapi/linux/fuse.h, since 7.23.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct Rename2In {
    /// Directory of the new name.
    pub newdir: NodeId,
    /// [`RenameFlags`](crate::flags::RenameFlags).
    pub flags: u32,
    /// Zero.
    pub padding: u32,
}
const _: () = assert!(size_of::<Rename2In>() == 16 && offset_of!(Rename2In, padding) == 12);

/// `struct fuse_link_in`: argument of LINK; the new name follows, its directory is in the header.
///
/// Kernel: include/uapi/linux/fuse.h, since 7.1.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct LinkIn {
    /// The inode that gets another name.
    pub oldnodeid: NodeId,
}
const _: () = assert!(size_of::<LinkIn>() == 8);

/// `struct fuse_dirent`: opens a record of READDIR; the name follows, padded with zeros to 8 bytes.
///
/// The flexible `name` of the C struct is not a field here: it begins at byte 24.
///
/// Kernel: include/uapi/linux/fuse.h, since 7.1.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct Dirent {
    /// Inode number as `stat` shows it.
    pub ino: u64,
    /// Cookie of the next record: what `offset` says when reading goes on behind this one.
    pub off: u64,
    /// Length of the name in bytes.
    pub namelen: u32,
    /// File type: `mode >> 12`, 0 where unknown.
    pub kind: u32,
}
const _: () = assert!(size_of::<Dirent>() == 24 && offset_of!(Dirent, kind) == 20);

/// `struct fuse_direntplus`: opens a record of READDIRPLUS.
///
/// Kernel: include/uapi/linux/fuse.h, since 7.21.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct Direntplus {
    /// What LOOKUP of the name would have answered; nodeid 0 for none.
    pub entry_out: EntryOut,
    /// The record of READDIR; the name follows.
    pub dirent: Dirent,
}
const _: () = assert!(size_of::<Direntplus>() == 152 && offset_of!(Direntplus, dirent) == 128);
