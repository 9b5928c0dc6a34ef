//! Recorded ring entries come out again, the same to the last byte.
//!
//! A file is the header area of 288 bytes and the payload: in `requests` as the kernel left them,
//! in `replies` as they were committed. What neither wrote is [`FILL`]. What the requests say is
//! compared in `golden`.

use std::fs;
use std::path::PathBuf;

use super::Aligned;
use super::golden::{golden, missing};
use super::oracle::{ORACLE, number};
use super::tests::{files, one_of};
use crate::abi::{InHeader, OutHeader};
use crate::frame;
use crate::opcode::Opcode;
use crate::reply::{Asked, Known, Lane, Verdict, decode, judge};
use crate::request::{Envelope, Forms, Operation, split_ring};

/// What stood in an entry before.
const FILL: u8 = 0xee;
/// Where the payload begins in a file, and the ring's own part.
const PAYLOAD: usize = 288;
const ENTRY: usize = 256;

/// The recorded requests of ring entries, with whether SETXATTR is long.
pub(super) fn recorded() -> impl Iterator<Item = (PathBuf, Aligned, bool)> {
    files(&golden().join("ring/requests")).into_iter().map(|path| {
        let ext = !path.to_str().unwrap().contains("setxattr-short");
        let entry = Aligned::new(&fs::read(&path).unwrap());
        (path, entry, ext)
    })
}

/// The pieces of a recorded request.
pub(super) fn pieces(entry: &Aligned, ext: bool) -> (InHeader, &[u8], &[u8]) {
    let (area, payload) = entry.bytes().split_at(PAYLOAD);
    let header = frame::ring_header(area).unwrap().in_header();
    let (argument, payload) = split_ring(&header, &area[128..ENTRY], payload, ext).unwrap();
    (header, argument, payload)
}

/// Decodes a recorded request and encodes it again; gives its opcode.
pub(super) fn request(entry: &Aligned, ext: bool) -> u32 {
    let (header, argument, payload) = pieces(entry, ext);
    let op = Operation::decode(&header, argument, payload).unwrap();
    let mut out = std::vec![FILL; entry.bytes().len()];
    let (area, room) = out.split_at_mut(PAYLOAD);
    let op_in = area[128..].first_chunk_mut().unwrap();
    let forms = Forms { setxattr_ext: ext, ..Forms::LONG };
    let encoded = op.encode_ring(&Envelope::from(&header), forms, op_in, room).unwrap();
    assert!(frame::put_in_header(area, &encoded.header));
    let unique = encoded.header.unique.0;
    assert!(frame::put_ring_entry(&mut area[ENTRY..], unique, encoded.payload_len));
    assert_eq!(out, entry.bytes(), "{op:?}");
    header.opcode
}

/// Decodes what was committed for a recorded request and encodes it again; gives the opcode if
/// there was a body to decode.
pub(super) fn reply(entry: &Aligned, ext: bool, commit: &[u8]) -> Option<u32> {
    let (header, argument, payload) = pieces(entry, ext);
    let op = Operation::decode(&header, argument, payload).unwrap();
    let commit = Aligned::new(commit);
    let (area, body) = commit.bytes().split_at(PAYLOAD);
    let answer = frame::out_header(area).unwrap();
    assert_eq!(answer.unique, header.unique);
    let mut out = std::vec![FILL; commit.bytes().len()];
    let (new, room) = out.split_at_mut(PAYLOAD);
    let asked = Asked::new(&op).with_lane(Lane::Ring);
    let verdict = judge(&asked, &Known::default(), &answer, body);
    assert!(matches!(verdict, Verdict::Accepted { .. }), "{op:?}: {verdict:?}");
    let errno = decode(&asked, &answer, body).unwrap().map(|reply| {
        assert_eq!(reply.encode(room), Ok(room.len()), "{op:?}");
    });
    // The commits of FORGET and NOTIFY_REPLY only give the entry back.
    let is_body = errno.is_ok() && op.opcode().is_none_or(Opcode::is_answered);
    assert!(frame::put_out_header(new, &OutHeader::new(header.unique, errno, body.len())));
    assert!(frame::put_ring_entry(&mut new[ENTRY..], header.unique.0, body.len()));
    assert_eq!(out, commit.bytes(), "{op:?}");
    is_body.then_some(header.opcode)
}

#[test]
#[cfg_attr(target_endian = "big", ignore = "recorded on a little-endian machine")]
fn what_the_kernel_left_in_an_entry_comes_out_again() {
    let mut count = 0;
    for (_, entry, ext) in recorded().step_by(one_of(8)) {
        let opcode = request(&entry, ext);
        // By the offsets of the C header.
        let bytes = entry.bytes();
        assert_eq!(u64::from(opcode), number(bytes, 4, 4));
        let payload_len = bytes.len() - PAYLOAD;
        assert_eq!(number(bytes, ENTRY + 16, 4), payload_len as u64, "payload_sz");
        assert_eq!(number(bytes, ENTRY + 8, 8), number(bytes, 8, 8), "commit_id is the unique");
        assert_eq!(number(bytes, ENTRY, 8) + number(bytes, ENTRY + 20, 4), 0);
        let in_op_in = number(bytes, 0, 4) as usize - 40 - payload_len;
        assert!(bytes[128 + in_op_in..ENTRY].iter().all(|&byte| byte == FILL), "{opcode}");
        count += 1;
    }
    assert!(count > 150 / one_of(8), "{count} frames");
}

#[test]
#[cfg_attr(target_endian = "big", ignore = "recorded on a little-endian machine")]
fn what_was_committed_comes_out_again() {
    let mut count = 0;
    for (path, entry, ext) in recorded().step_by(one_of(8)) {
        let name = path.file_name().unwrap();
        let commit = fs::read(golden().join("ring/replies").join(name)).unwrap();
        let opcode = reply(&entry, ext, &commit);
        let error = (number(&commit, 4, 4) as u32).cast_signed();
        let body_len = commit.len() - PAYLOAD;
        assert_eq!(number(&commit, 0, 4), 16 + body_len as u64, "{path:?}: len");
        assert_eq!(number(&commit, ENTRY + 16, 4), body_len as u64, "{path:?}: payload_sz");
        let failed = path.file_stem().unwrap().to_str().unwrap().ends_with("-error");
        assert_eq!(failed, error != 0, "{path:?}");
        if let Some(opcode) = opcode {
            let lens = ORACLE.reply_lens(opcode.into());
            let fits = |(least, most): &(usize, usize)| (*least..=*most).contains(&body_len);
            assert!(lens.iter().any(fits), "{path:?}: {body_len} bytes");
        }
        count += 1;
    }
    assert_eq!(count, files(&golden().join("ring/replies")).len().div_ceil(one_of(8)));
}

#[test]
fn every_opcode_of_a_ring_was_recorded() {
    let text = fs::read_to_string(golden().join("ring/requests.txt")).unwrap();
    assert_eq!(missing(&text), ELSEWHERE);
}

/// Opcodes that no ring of a mount has: INIT is sent before there is one, BATCH_FORGET and
/// INTERRUPT by the device alone (fs/fuse/dev_uring.c, `fuse_io_uring_ops`), and the last three by
/// virtiofs and to a character device. FORGET comes where it gives back a look-up of READDIRPLUS
/// that the kernel refuses (readdir.c, `fuse_force_forget`); all others go by the device.
pub(super) const ELSEWHERE: [Opcode; 6] = [
    Opcode::Init,
    Opcode::Interrupt,
    Opcode::BatchForget,
    Opcode::SetupMapping,
    Opcode::RemoveMapping,
    Opcode::CuseInit,
];
