//! Headers in raw memory: what a transport reads and writes around a message.
//!
//! A transport owns bytes, not structs; these functions are the way between the two, so that
//! nobody outside this crate needs to know a layout. Bodies are the business of
//! [`request`](crate::request) and [`reply`](crate::reply).

use zerocopy::{FromBytes, IntoBytes};

use crate::abi::{InHeader, OutHeader, UringEntInOut, UringReqHeader};

/// The header that opens `message`, or `None` if it is shorter than that.
#[must_use]
pub fn in_header(message: &[u8]) -> Option<InHeader> {
    InHeader::read_from_prefix(message).ok().map(|(header, _)| header)
}

/// Puts the header of a request at the start of `out`. Returns whether there was room.
pub fn put_in_header(out: &mut [u8], header: &InHeader) -> bool {
    header.write_to_prefix(out).is_ok()
}

/// The header that opens a reply or a notification, or `None` if `message` is shorter than that.
#[must_use]
pub fn out_header(message: &[u8]) -> Option<OutHeader> {
    OutHeader::read_from_prefix(message).ok().map(|(header, _)| header)
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

/// The whole header area of a ring entry, at the start of `area`; `None` below 288 bytes.
#[must_use]
pub fn ring_header(area: &[u8]) -> Option<UringReqHeader> {
    UringReqHeader::read_from_prefix(area).ok().map(|(header, _)| header)
}

/// Puts the whole header area at the start of `area`. Returns whether there was room.
pub fn put_ring_header(area: &mut [u8], header: &UringReqHeader) -> bool {
    header.write_to_prefix(area).is_ok()
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
        assert!(out_header(&[0; 15]).is_none());
        assert!(!put_in_header(&mut [0; 39], &InHeader::default()));
        assert!(ring_header(&[0; 287]).is_none());
        assert!(!put_ring_header(&mut [0; 287], &UringReqHeader::default()));
    }

    #[test]
    fn headers_come_back() {
        let mut memory = [0xff; 41];
        let header = InHeader { len: 1, opcode: 2, pid: 0x0304_0506, ..InHeader::default() };
        assert!(put_in_header(&mut memory, &header));
        assert_eq!((in_header(&memory), memory.last()), (Some(header), Some(&0xff)));
        assert_eq!(memory.get(32..36), Some(0x0304_0506_u32.to_ne_bytes().as_slice()));
        let header = OutHeader::new(Unique(9), Err(Errno::ENOSYS), 0);
        assert!(put_out_header(&mut memory, &header));
        assert_eq!(out_header(&memory), Some(header));
    }

    #[test]
    fn the_header_area_holds_both_directions() {
        let request = InHeader { len: 80, opcode: 16, ..InHeader::default() };
        let entry = UringEntInOut { commit_id: 6, payload_sz: 4096, ..UringEntInOut::default() };
        let mut header = UringReqHeader { ring_ent_in_out: entry, ..UringReqHeader::default() };
        header.put_in_header(&request);
        header.op_in = [7; 128];
        let mut area = [0xee; 300];
        assert!(put_ring_header(&mut area, &header));
        assert_eq!(area.get(4..8), Some(16_u32.to_ne_bytes().as_slice()));
        assert_eq!(area.get(128..256), Some([7; 128].as_slice()));
        assert_eq!(area.get(264..272), Some(6_u64.to_ne_bytes().as_slice()));
        assert_eq!(area.get(272..276), Some(4096_u32.to_ne_bytes().as_slice()));
        let mut back = ring_header(&area).unwrap();
        assert_eq!((back, back.in_header()), (header, request));
        let reply = OutHeader::new(Unique(6), Ok(()), 8);
        back.put_out_header(&reply);
        assert_eq!(back.out_header(), reply);
        // What the request left behind the shorter header stays.
        assert_eq!(back.in_out.get(16..40), header.in_out.get(16..40));
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
