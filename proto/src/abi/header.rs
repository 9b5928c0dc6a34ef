//! The two headers that open every message.
//!
//! Requests begin with [`InHeader`], replies and notifications with [`OutHeader`]. The one place
//! where an [`Errno`] gets its minus sign is here.

use core::mem::offset_of;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::NotifyCode;
use crate::types::Errno;
use crate::types::{NodeId, Unique};

/// `struct fuse_in_header`: opens every request; the argument of the opcode follows.
///
/// Kernel: include/uapi/linux/fuse.h, since 7.1.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct InHeader {
    /// Length of the whole message, header included. Only informative on the ring.
    pub len: u32,
    /// What is asked: [`Opcode`](crate::Opcode) or a number that is not in the table.
    pub opcode: u32,
    /// Request id, to be echoed bit by bit.
    pub unique: Unique,
    /// The inode that the operation is about; 0 where there is none.
    pub nodeid: NodeId,
    /// Acting user (fsuid) in the user namespace of the mount; see the protocol for requests
    /// without credentials.
    pub uid: u32,
    /// Acting group (fsgid), likewise.
    pub gid: u32,
    /// Thread id of the caller in the pid namespace of the mount, or 0.
    pub pid: u32,
    /// Length of the extensions at the end of the message, in units of 8 bytes (since 7.38).
    pub total_extlen: u16,
    /// Zero.
    #[cfg_attr(feature = "serde", serde(skip))]
    pub padding: u16,
}
const _: () = assert!(size_of::<InHeader>() == 40 && offset_of!(InHeader, padding) == 38);

/// `struct fuse_out_header`: opens every reply and every notification; the body follows.
///
/// Kernel: include/uapi/linux/fuse.h, since 7.1.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct OutHeader {
    /// Length of the whole message, header included.
    pub len: u32,
    /// 0, or a negative errno; for a notification its positive code.
    pub error: i32,
    /// The id of the request that is answered; 0 for a notification.
    pub unique: Unique,
}
const _: () = assert!(size_of::<OutHeader>() == 16 && offset_of!(OutHeader, unique) == 8);

impl InHeader {
    /// Length of the extensions at the end of the message, in bytes.
    #[must_use]
    pub fn extensions_len(&self) -> usize {
        usize::from(self.total_extlen).saturating_mul(8)
    }
}

impl OutHeader {
    /// Length of the header itself.
    pub const LEN: usize = size_of::<Self>();

    /// The header of a reply: success with a body of `body_len` bytes, or an error without body.
    ///
    /// The kernel wants an error reply to be exactly 16 bytes, so `body_len` counts only with
    /// `Ok`. A body that would not fit a 32-bit length saturates, which the kernel refuses with
    /// EINVAL; encoded replies never come near it.
    ///
    /// Kernel: fs/fuse/dev.c, `fuse_dev_do_write`.
    #[must_use]
    pub fn new(unique: Unique, result: Result<(), Errno>, body_len: usize) -> Self {
        let (error, body_len) = match result {
            Ok(()) => (0, body_len),
            Err(errno) => (errno.raw().wrapping_neg(), 0),
        };
        let len = u32::try_from(Self::LEN.saturating_add(body_len)).unwrap_or(u32::MAX);
        Self { len, error, unique }
    }

    /// The header of a notification with `body_len` bytes behind it: unique 0, positive code.
    #[must_use]
    pub fn notification(code: NotifyCode, body_len: usize) -> Self {
        let len = u32::try_from(Self::LEN.saturating_add(body_len)).unwrap_or(u32::MAX);
        Self { len, error: code.raw(), unique: Unique::NOTIFICATION }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn success_counts_the_body() {
        let header = OutHeader::new(Unique(0x0102), Ok(()), 8);
        assert_eq!((header.len, header.error, header.unique), (24, 0, Unique(0x0102)));
    }

    #[test]
    fn errors_are_negative_and_bare() {
        let header = OutHeader::new(Unique(4), Err(Errno::ENOENT), 4096);
        assert_eq!((header.len, header.error), (16, -2));
        let largest = Errno::new(511).unwrap();
        assert_eq!(OutHeader::new(Unique(4), Err(largest), 0).error, -511);
    }

    #[test]
    fn absurd_bodies_saturate() {
        assert_eq!(OutHeader::new(Unique(2), Ok(()), usize::MAX).len, u32::MAX);
    }

    #[test]
    fn notifications_have_unique_zero() {
        let header = OutHeader::notification(NotifyCode::Prune, 16);
        assert_eq!((header.len, header.error, header.unique.0), (32, 9, 0));
    }
}
