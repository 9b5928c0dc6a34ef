//! FUSE over io_uring: the header area of a ring entry and the command in its SQE.
//!
//! Kernel: fs/fuse/dev_uring.c.

use core::mem::offset_of;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::{InHeader, OutHeader, URING_IN_OUT_HEADER_SZ, URING_OP_IN_OUT_SZ};

/// `struct fuse_uring_ent_in_out`: the part of the header area that belongs to the ring.
///
/// Kernel: include/uapi/linux/fuse.h, since 7.42.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct UringEntInOut {
    /// Zero today.
    pub flags: u64,
    /// Id of the delivery, to be named in the commit.
    pub commit_id: u64,
    /// Bytes used in the payload buffer, in both directions.
    pub payload_sz: u32,
    /// Zero.
    pub padding: u32,
    /// Zero.
    pub reserved: u64,
}
const _: () =
    assert!(size_of::<UringEntInOut>() == 32 && offset_of!(UringEntInOut, reserved) == 24);

/// `struct fuse_uring_req_header`: the header area of a ring entry.
///
/// Kernel: include/uapi/linux/fuse.h, since 7.42.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct UringReqHeader {
    /// [`InHeader`] on the way in, [`OutHeader`] on the way out.
    pub in_out: [u8; URING_IN_OUT_HEADER_SZ],
    /// The fixed struct of the opcode; not written where an opcode has none.
    pub op_in: [u8; URING_OP_IN_OUT_SZ],
    /// The part of the ring.
    pub ring_ent_in_out: UringEntInOut,
}
const _: () = assert!(
    size_of::<UringReqHeader>() == 288 && offset_of!(UringReqHeader, ring_ent_in_out) == 256
);

impl Default for UringReqHeader {
    /// Zeros.
    fn default() -> Self {
        Self {
            in_out: [0; URING_IN_OUT_HEADER_SZ],
            op_in: [0; URING_OP_IN_OUT_SZ],
            ring_ent_in_out: UringEntInOut::default(),
        }
    }
}

// `in_out` is longer than either header, so none of these can fail.
impl UringReqHeader {
    /// The header of the request.
    #[must_use]
    pub fn in_header(&self) -> InHeader {
        InHeader::read_from_prefix(&self.in_out).map(|(header, _)| header).unwrap_or_default()
    }

    /// Puts the header of a request.
    pub fn put_in_header(&mut self, header: &InHeader) {
        let _ = header.write_to_prefix(&mut self.in_out);
    }

    /// The header of the reply.
    #[must_use]
    pub fn out_header(&self) -> OutHeader {
        OutHeader::read_from_prefix(&self.in_out).map(|(header, _)| header).unwrap_or_default()
    }

    /// Puts the header of a reply.
    pub fn put_out_header(&mut self, header: &OutHeader) {
        let _ = header.write_to_prefix(&mut self.in_out);
    }
}

/// `struct fuse_uring_cmd_req`: the command area of an SQE.
///
/// Kernel: include/uapi/linux/fuse.h, since 7.42.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct UringCmdReq {
    /// Zero today.
    pub flags: u64,
    /// Id of the delivery that is committed.
    pub commit_id: u64,
    /// The queue.
    pub qid: u16,
    /// Zero.
    pub padding: [u8; 6],
}
const _: () = assert!(size_of::<UringCmdReq>() == 24 && offset_of!(UringCmdReq, padding) == 18);

/// The commands of FUSE over io_uring: `cmd_op` of an SQE.
///
/// Kernel: include/uapi/linux/fuse.h, `enum fuse_uring_cmd`.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum UringCmd {
    /// Never sent.
    Invalid = 0,
    /// Lend an entry for the first time.
    Register = 1,
    /// Answer the request in an entry and lend the entry again.
    CommitAndFetch = 2,
}

impl UringCmd {
    /// The wire number.
    #[must_use]
    pub const fn raw(self) -> u32 {
        self as u32
    }
}
