//! Interrupts, ioctl, poll, block maps, backing files and DAX mappings.

use core::mem::offset_of;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::types::{Fh, PollHandle, Unique};

/// `struct fuse_interrupt_in`: argument of INTERRUPT.
///
/// Kernel: include/uapi/linux/fuse.h, since 7.7.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct InterruptIn {
    /// The request that shall end.
    pub unique: Unique,
}
const _: () = assert!(size_of::<InterruptIn>() == 8);

/// `struct fuse_bmap_in`: argument of BMAP.
///
/// Kernel: include/uapi/linux/fuse.h, since 7.8.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct BmapIn {
    /// Block number in the file.
    pub block: u64,
    /// Size of a block, bytes.
    pub blocksize: u32,
    /// Zero.
    pub padding: u32,
}
const _: () = assert!(size_of::<BmapIn>() == 16 && offset_of!(BmapIn, padding) == 12);

/// `struct fuse_bmap_out`: reply body of BMAP.
///
/// Kernel: include/uapi/linux/fuse.h, since 7.8.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct BmapOut {
    /// Block number on the device.
    pub block: u64,
}
const _: () = assert!(size_of::<BmapOut>() == 8);

/// `struct fuse_ioctl_in`: argument of IOCTL; `in_size` bytes follow.
///
/// Kernel: include/uapi/linux/fuse.h, since 7.11.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct IoctlIn {
    /// Handle that the server gave at open.
    pub fh: Fh,
    /// [`IoctlFlags`](crate::flags::IoctlFlags).
    pub flags: u32,
    /// The command.
    pub cmd: u32,
    /// The argument as the caller gave it: a number, or an address in the caller.
    pub arg: u64,
    /// How many bytes follow.
    pub in_size: u32,
    /// Room for the answer, bytes.
    pub out_size: u32,
}
const _: () = assert!(size_of::<IoctlIn>() == 32 && offset_of!(IoctlIn, out_size) == 28);

/// `struct fuse_ioctl_iovec`: a range of memory of the caller, in a reply with `RETRY`.
///
/// Kernel: include/uapi/linux/fuse.h, since 7.16.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct IoctlIovec {
    /// Address in the caller.
    pub base: u64,
    /// Length, bytes.
    pub len: u64,
}
const _: () = assert!(size_of::<IoctlIovec>() == 16 && offset_of!(IoctlIovec, len) == 8);

/// `struct fuse_ioctl_out`: reply body of IOCTL; the data follow.
///
/// Kernel: include/uapi/linux/fuse.h, since 7.11.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct IoctlOut {
    /// What ioctl(2) returns.
    pub result: i32,
    /// [`IoctlFlags`](crate::flags::IoctlFlags).
    pub flags: u32,
    /// Ranges to read, with `RETRY`.
    pub in_iovs: u32,
    /// Ranges to write, with `RETRY`.
    pub out_iovs: u32,
}
const _: () = assert!(size_of::<IoctlOut>() == 16 && offset_of!(IoctlOut, out_iovs) == 12);

/// `struct fuse_poll_in`: argument of POLL.
///
/// Kernel: include/uapi/linux/fuse.h, since 7.11 (`events` 7.21).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct PollIn {
    /// Handle that the server gave at open.
    pub fh: Fh,
    /// Handle for NOTIFY_POLL.
    pub kh: PollHandle,
    /// [`PollFlags`](crate::flags::PollFlags).
    pub flags: u32,
    /// Events of poll(2) that somebody waits for.
    pub events: u32,
}
const _: () = assert!(size_of::<PollIn>() == 24 && offset_of!(PollIn, events) == 20);

/// `struct fuse_poll_out`: reply body of POLL.
///
/// Kernel: include/uapi/linux/fuse.h, since 7.11.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct PollOut {
    /// Events of poll(2) that are there.
    pub revents: u32,
    /// Zero.
    pub padding: u32,
}
const _: () = assert!(size_of::<PollOut>() == 8 && offset_of!(PollOut, padding) == 4);

/// `struct fuse_backing_map`: argument of the ioctl that registers a backing file.
///
/// Kernel: include/uapi/linux/fuse.h, since 7.40.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct BackingMap {
    /// An open file.
    pub fd: i32,
    /// Zero.
    pub flags: u32,
    /// Zero.
    pub padding: u64,
}
const _: () = assert!(size_of::<BackingMap>() == 16 && offset_of!(BackingMap, padding) == 8);

/// `struct fuse_setupmapping_in`: argument of SETUPMAPPING.
///
/// Kernel: include/uapi/linux/fuse.h, since 7.31.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct SetupmappingIn {
    /// Handle that the server gave at open.
    pub fh: Fh,
    /// Position in the file, bytes.
    pub foffset: u64,
    /// Length, bytes.
    pub len: u64,
    /// [`SetupMappingFlags`](crate::flags::SetupMappingFlags).
    pub flags: u64,
    /// Position in the DAX window, bytes.
    pub moffset: u64,
}
const _: () =
    assert!(size_of::<SetupmappingIn>() == 40 && offset_of!(SetupmappingIn, moffset) == 32);

/// `struct fuse_removemapping_in`: argument of REMOVEMAPPING; `count` items of [`RemovemappingOne`]
/// follow.
///
/// Kernel: include/uapi/linux/fuse.h, since 7.31.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct RemovemappingIn {
    /// Number of items.
    pub count: u32,
}
const _: () = assert!(size_of::<RemovemappingIn>() == 4);

/// `struct fuse_removemapping_one`: one item of REMOVEMAPPING.
///
/// Kernel: include/uapi/linux/fuse.h, since 7.31.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct RemovemappingOne {
    /// Position in the DAX window, bytes.
    pub moffset: u64,
    /// Length, bytes.
    pub len: u64,
}
const _: () =
    assert!(size_of::<RemovemappingOne>() == 16 && offset_of!(RemovemappingOne, len) == 8);
