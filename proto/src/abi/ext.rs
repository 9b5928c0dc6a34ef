//! Extensions of the requests that create an inode: security labels and groups.
//!
//! They stand at the end of the message, each record aligned to 8 bytes;
//! [`Extensions`](crate::op::Extensions) walks over them.
//!
//! Kernel: fs/fuse/dir.c, `get_create_ext`.

use core::mem::offset_of;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `struct fuse_secctx`: opens one security context; name, NUL and label follow, padded to 8 bytes.
///
/// Kernel: include/uapi/linux/fuse.h, since 7.36.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct Secctx {
    /// Length of the label, bytes.
    pub size: u32,
    /// Zero.
    pub padding: u32,
}
const _: () = assert!(size_of::<Secctx>() == 8 && offset_of!(Secctx, padding) == 4);

/// `struct fuse_secctx_header`: opens the record of all security contexts.
///
/// It is an [`ExtHeader`] whose type is the number of contexts.
///
/// Kernel: include/uapi/linux/fuse.h, since 7.36.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct SecctxHeader {
    /// Length of the record with this header, bytes.
    pub size: u32,
    /// Number of contexts, at most [`MAX_NR_SECCTX`].
    pub nr_secctx: u32,
}
const _: () = assert!(size_of::<SecctxHeader>() == 8 && offset_of!(SecctxHeader, nr_secctx) == 4);

/// `struct fuse_ext_header`: opens an extension record.
///
/// Kernel: include/uapi/linux/fuse.h, since 7.38.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct ExtHeader {
    /// Length of the record with this header, bytes.
    pub size: u32,
    /// Type of the record: [`EXT_GROUPS`], or a number of security contexts.
    pub kind: u32,
}
const _: () = assert!(size_of::<ExtHeader>() == 8 && offset_of!(ExtHeader, kind) == 4);

/// `struct fuse_supp_groups`: body of a record of groups; the group ids follow, from byte 4 on.
///
/// Kernel: include/uapi/linux/fuse.h, since 7.38.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct SuppGroups {
    /// Number of groups.
    pub nr_groups: u32,
}
const _: () = assert!(size_of::<SuppGroups>() == 4);

/// Largest number of security contexts; larger types are other records (`FUSE_MAX_NR_SECCTX`).
pub const MAX_NR_SECCTX: u32 = 31;
/// Record type of supplementary groups (`FUSE_EXT_GROUPS`).
pub const EXT_GROUPS: u32 = 32;
