//! The handshake of a character device in user space.
//!
//! Kernel: fs/fuse/cuse.c, `cuse_send_init` and `cuse_process_init_reply`.

use core::mem::offset_of;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `struct cuse_init_in`: argument of CUSE_INIT.
///
/// Kernel: include/uapi/linux/fuse.h, since 7.12.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct CuseInitIn {
    /// Protocol major version: 7.
    pub major: u32,
    /// Protocol minor version.
    pub minor: u32,
    /// Zero.
    pub unused: u32,
    /// [`CuseFlags`](crate::flags::CuseFlags).
    pub flags: u32,
}
const _: () = assert!(size_of::<CuseInitIn>() == 16 && offset_of!(CuseInitIn, flags) == 12);

/// `struct cuse_init_out`: reply body of CUSE_INIT; NUL-terminated `KEY=value` strings follow.
///
/// Kernel: include/uapi/linux/fuse.h, since 7.12.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct CuseInitOut {
    /// Protocol major version: 7.
    pub major: u32,
    /// Protocol minor version.
    pub minor: u32,
    /// Zero.
    #[cfg_attr(feature = "serde", serde(skip))]
    pub unused: u32,
    /// [`CuseFlags`](crate::flags::CuseFlags).
    #[cfg_attr(feature = "serde", serde(serialize_with = "crate::serialize::cuse_flags"))]
    pub flags: u32,
    /// Longest READ, bytes.
    pub max_read: u32,
    /// Longest WRITE, bytes.
    pub max_write: u32,
    /// Wanted major number; 0 for any.
    pub dev_major: u32,
    /// Wanted minor number.
    pub dev_minor: u32,
    /// Zero.
    #[cfg_attr(feature = "serde", serde(skip))]
    pub spare: [u32; 10],
}
const _: () = assert!(size_of::<CuseInitOut>() == 72 && offset_of!(CuseInitOut, spare) == 32);
