//! Headers in raw memory: what a transport reads and writes around a message.
//!
//! A transport owns bytes, not structs; these functions are the way between the two, so that
//! nobody outside this crate needs to know a layout. Bodies are the business of
//! [`request`](crate::request) and [`reply`](crate::reply).

use zerocopy::{FromBytes, IntoBytes};

use crate::abi::{InHeader, OutHeader, UringEntInOut};

/// The header that opens `message`, or `None` if it is shorter than that.
#[must_use]
pub fn in_header(message: &[u8]) -> Option<InHeader> {
    InHeader::read_from_prefix(message).ok().map(|(header, _)| header)
}

/// Puts the header of a reply at the start of `out`. Returns whether there was room.
pub fn put_out_header(out: &mut [u8], header: &OutHeader) -> bool {
    header.write_to_prefix(out).is_ok()
}

/// The part of a ring entry's header area that belongs to the ring, at the start of `area`.
#[must_use]
pub fn ring_entry(area: &[u8]) -> Option<UringEntInOut> {
    UringEntInOut::read_from_prefix(area).ok().map(|(entry, _)| entry)
}

/// Puts that part for a commit: the id of the delivery and the bytes used in the payload.
/// Returns whether there was room.
pub fn put_ring_entry(area: &mut [u8], commit_id: u64, payload_len: usize) -> bool {
    let payload_sz = u32::try_from(payload_len).unwrap_or(u32::MAX);
    let entry = UringEntInOut { commit_id, payload_sz, ..UringEntInOut::default() };
    entry.write_to_prefix(area).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Errno, Unique};

    #[test]
    fn short_memory_is_no_header() {
        assert!(in_header(&[0; 39]).is_none());
        assert!(ring_entry(&[0; 31]).is_none());
        assert!(!put_out_header(&mut [0; 15], &OutHeader::default()));
        assert!(!put_ring_entry(&mut [0; 31], 1, 1));
    }

    #[test]
    fn a_reply_header_lies_as_the_kernel_reads_it() {
        let mut out = [0xff; 20];
        assert!(put_out_header(&mut out, &OutHeader::new(Unique(6), Err(Errno::EIO), 0)));
        let expected = [16, 0, 0, 0, 0xfb, 0xff, 0xff, 0xff, 6, 0, 0, 0, 0, 0, 0, 0, 0xff];
        if cfg!(target_endian = "little") {
            assert_eq!(out.get(..17), Some(expected.as_slice()));
        }
    }

    #[test]
    fn a_commit_names_its_delivery() {
        let mut area = [0xff; 32];
        assert!(put_ring_entry(&mut area, 0x1122, 4096));
        let entry = ring_entry(&area).unwrap();
        assert_eq!(
            (entry.commit_id, entry.payload_sz, entry.flags, entry.reserved),
            (0x1122, 4096, 0, 0)
        );
    }
}
