//! Extended attributes.

use core::mem::offset_of;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `struct fuse_setxattr_in`: argument of SETXATTR; name, NUL and value follow.
///
/// Only its first 8 bytes travel unless SETXATTR_EXT is agreed.
///
/// Kernel: include/uapi/linux/fuse.h, since 7.1 (16 bytes since 7.33).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct SetxattrIn {
    /// Length of the value, bytes.
    pub size: u32,
    /// `XATTR_CREATE` 1 or `XATTR_REPLACE` 2.
    pub flags: u32,
    /// [`SetXattrFlags`](crate::flags::SetXattrFlags).
    pub setxattr_flags: u32,
    /// Zero.
    pub padding: u32,
}
const _: () = assert!(size_of::<SetxattrIn>() == 16 && offset_of!(SetxattrIn, padding) == 12);

/// `struct fuse_getxattr_in`: argument of GETXATTR, where a name follows, and of LISTXATTR.
///
/// Kernel: include/uapi/linux/fuse.h, since 7.1.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct GetxattrIn {
    /// Room for the answer, bytes; 0 asks for its length only.
    pub size: u32,
    /// Zero.
    pub padding: u32,
}
const _: () = assert!(size_of::<GetxattrIn>() == 8 && offset_of!(GetxattrIn, padding) == 4);

/// `struct fuse_getxattr_out`: reply body of GETXATTR and LISTXATTR that were asked with size 0.
///
/// Kernel: include/uapi/linux/fuse.h, since 7.1.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct GetxattrOut {
    /// Length that the answer would have, bytes.
    pub size: u32,
    /// Zero.
    pub padding: u32,
}
const _: () = assert!(size_of::<GetxattrOut>() == 8 && offset_of!(GetxattrOut, padding) == 4);

/// Length of [`SetxattrIn`] while SETXATTR_EXT is not agreed (`FUSE_COMPAT_SETXATTR_IN_SIZE`).
pub const COMPAT_SETXATTR_IN_SIZE: usize = 8;
