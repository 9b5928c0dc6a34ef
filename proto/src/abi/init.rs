//! The handshake of a FUSE connection; [`negotiate`](mod@crate::negotiate) decides what it says.
//!
//! Kernel: fs/fuse/inode.c, `fuse_send_init` and `process_init_reply`.

use core::mem::offset_of;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `struct fuse_init_in`: argument of INIT: what the kernel offers.
///
/// A kernel before 7.36 sends the first 16 bytes only.
///
/// Kernel: include/uapi/linux/fuse.h, since 7.1 (64 bytes since 7.36).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct InitIn {
    /// Protocol major version: 7.
    pub major: u32,
    /// Protocol minor version.
    pub minor: u32,
    /// Longest read-ahead, bytes.
    pub max_readahead: u32,
    /// Low half of [`InitFlags`](crate::flags::InitFlags).
    pub flags: u32,
    /// High half; counts only with `INIT_EXT` in the low one.
    pub flags2: u32,
    /// Zero.
    pub unused: [u32; 11],
}
const _: () = assert!(size_of::<InitIn>() == 64 && offset_of!(InitIn, unused) == 20);

/// `struct fuse_init_out`: reply body of INIT: what the server takes.
///
/// Kernel: include/uapi/linux/fuse.h, since 7.1 (64 bytes since 7.23).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct InitOut {
    /// Protocol major version: 7.
    pub major: u32,
    /// Protocol minor version.
    pub minor: u32,
    /// Longest read-ahead, bytes; can only lower the offer.
    pub max_readahead: u32,
    /// Low half of [`InitFlags`](crate::flags::InitFlags).
    #[cfg_attr(feature = "serde", serde(serialize_with = "crate::serialize::init_low"))]
    pub flags: u32,
    /// Most background requests in flight; 0 keeps 12.
    pub max_background: u16,
    /// Background requests that count as congestion; 0 keeps 9.
    pub congestion_threshold: u16,
    /// Longest WRITE, bytes; at least 4096.
    pub max_write: u32,
    /// Granularity of timestamps, nanoseconds.
    pub time_gran: u32,
    /// Most pages in one request; counts only with `MAX_PAGES`.
    pub max_pages: u16,
    /// log2 of the alignment of DAX mappings.
    pub map_alignment: u16,
    /// High half; counts only with `INIT_EXT` in the low one.
    #[cfg_attr(feature = "serde", serde(serialize_with = "crate::serialize::init_high"))]
    pub flags2: u32,
    /// Stacking depth with `PASSTHROUGH`: 1 or 2.
    pub max_stack_depth: u32,
    /// Seconds after which an unanswered request ends the connection; counts only with
    /// `REQUEST_TIMEOUT`.
    pub request_timeout: u16,
    /// Zero.
    #[cfg_attr(feature = "serde", serde(skip))]
    pub unused: [u16; 11],
}
const _: () = assert!(size_of::<InitOut>() == 64 && offset_of!(InitOut, unused) == 42);
