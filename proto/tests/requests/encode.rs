//! Requests are encoded to the bytes of `cases`, and whatever is encoded decodes to the same.

use fusewire_proto::abi::{InHeader, URING_OP_IN_OUT_SZ};
use fusewire_proto::flags::{InitFlags, RenameFlags, SetXattrFlags, XattrFlags};
use fusewire_proto::{
    EncodeError, Envelope, Forms, Name, NodeId, Opcode, Operation, TooSmall, Unique, XattrName, op,
    request,
};
use proptest::prelude::*;

use crate::cases::{self, Values};
use crate::raw::{Aligned, Raw};
use crate::round_trip::values;

/// The sender of every message of `raw`.
const ENVELOPE: Envelope =
    Envelope { unique: Unique(0x10), nodeid: NodeId(3), uid: 1000, gid: 100, pid: 4242 };

fn encode(op: &Operation<'_>, forms: Forms) -> Result<Vec<u8>, EncodeError> {
    let len = op.encoded_len(forms)?;
    let mut out = vec![0xee; len + 8];
    assert_eq!(op.encode(&ENVELOPE, forms, &mut out), Ok(len));
    assert_eq!(out[len..], [0xee; 8], "written behind the end");
    out.truncate(len);
    Ok(out)
}

/// Values of which every flag is set, so that every field counts.
fn full_values() -> Values {
    let mut values = Values::fixed();
    values.d[0] = 0xffff_ffff;
    values.d[1] = 0xffff_fffe;
    values
}

#[test]
fn every_opcode_has_the_bytes_written_down() {
    let values = full_values();
    let forgets = values.forgets();
    for &opcode in Opcode::ALL {
        let mut raw = cases::message(opcode, &values);
        match opcode {
            // The words that the header calls padding and unused.
            Opcode::SyncFs => raw = raw.at8(0, 0),
            Opcode::CuseInit => raw = raw.at4(8, 0),
            _ => {}
        }
        let message = Aligned::new(&raw.message());
        let (header, argument, payload) = request::split(message.bytes(), true).unwrap();
        let op = cases::operation(opcode, &values, &forgets)
            .unwrap_or_else(|| Operation::decode(&header, argument, payload).unwrap());
        assert_eq!(encode(&op, Forms::LONG).unwrap(), message.bytes(), "{opcode}");
        assert_eq!(Envelope::from(&header), ENVELOPE);
    }
}

#[test]
fn extensions_stand_at_the_end() {
    let mut raw = Raw::new(9, 8).at4(0, 0o755).string(b"dir");
    // An unknown record and one of groups.
    raw.extensions = [16_u32, 77, 5, 6, 16, 32, 1, 100].map(u32::to_ne_bytes).concat();
    let message = Aligned::new(&raw.message());
    let (header, argument, payload) = request::split(message.bytes(), true).unwrap();
    let op = Operation::decode(&header, argument, payload).unwrap();
    assert_eq!(encode(&op, Forms::LONG).unwrap(), message.bytes());
}

#[test]
fn shorter_buffers_stay_untouched() {
    let values = Values::fixed();
    let forgets = values.forgets();
    for op in Opcode::ALL.iter().filter_map(|&it| cases::operation(it, &values, &forgets)) {
        let needed = op.encoded_len(Forms::LONG).unwrap();
        let small = Err(EncodeError::TooSmall(TooSmall { needed }));
        for short in [0, 1, 39, 40, needed - 1] {
            let mut out = vec![0xee; short.min(needed - 1)];
            assert_eq!(op.encode(&ENVELOPE, Forms::LONG, &mut out), small, "{op:?}");
            assert!(out.iter().all(|&byte| byte == 0xee));
        }
        let (mut op_in, mut room) = ([0xee; URING_OP_IN_OUT_SZ], vec![0xee; needed]);
        let ring = op.encode_ring(&ENVELOPE, Forms::LONG, &mut op_in, &mut room).unwrap();
        if let Some(short) = ring.payload_len.checked_sub(1) {
            let (mut op_in, mut room) = ([0xee; URING_OP_IN_OUT_SZ], vec![0xee; short]);
            let small = Err(EncodeError::TooSmall(TooSmall { needed: ring.payload_len }));
            assert_eq!(op.encode_ring(&ENVELOPE, Forms::LONG, &mut op_in, &mut room), small);
            assert!(op_in.iter().chain(&room).all(|&byte| byte == 0xee));
        }
    }
}

#[test]
fn short_forms() {
    let setxattr = |flags| {
        let (name, value) = (XattrName::new(b"user.x").unwrap(), b"abc".as_slice());
        let (flags, setxattr_flags) = (XattrFlags::REPLACE, flags);
        Operation::SetXattr(op::SetXattr { name, value, flags, setxattr_flags })
    };
    let expected = Raw::new(21, 8).at4(0, 3).at4(4, 2).string(b"user.x").then(b"abc");
    let plain = setxattr(SetXattrFlags::empty());
    assert_eq!(encode(&plain, Forms::SHORT).unwrap(), expected.message());
    assert_eq!(
        encode(&setxattr(SetXattrFlags::ACL_KILL_SGID), Forms::SHORT),
        Err(EncodeError::Unrepresentable { field: "setxattr_flags" })
    );

    let init = |flags| Operation::Init(op::Init { major: 7, minor: 31, max_readahead: 5, flags });
    let expected = Raw::new(26, 16).at4(0, 7).at4(4, 31).at4(8, 5).at4(12, 0x3f);
    assert_eq!(encode(&init(0x3f.into()), Forms::SHORT).unwrap(), expected.message());
    let vanish = Err(EncodeError::Unrepresentable { field: "flags2" });
    let extended = InitFlags::INIT_EXT | InitFlags::PASSTHROUGH;
    assert!(encode(&init(extended), Forms::LONG).is_ok());
    for (flags, forms) in [
        (extended, Forms::SHORT),
        (InitFlags::INIT_EXT, Forms::SHORT),
        (InitFlags::PASSTHROUGH, Forms::SHORT),
        (InitFlags::PASSTHROUGH, Forms::LONG),
    ] {
        assert_eq!(encode(&init(flags), forms), vanish, "{flags:?}");
    }
}

#[test]
fn rename_has_no_place_for_flags() {
    let name = Name::new(b"x").unwrap();
    let flags = RenameFlags::EXCHANGE;
    let rename = op::Rename { old_name: name, new_parent: NodeId(1), new_name: name, flags };
    assert!(encode(&Operation::Rename2(rename), Forms::LONG).is_ok());
    let error = encode(&Operation::Rename(rename), Forms::LONG);
    assert_eq!(error, Err(EncodeError::Unrepresentable { field: "flags" }));
}

#[test]
fn the_ring_has_the_pieces_apart() {
    let ring = |opcode: Opcode| {
        let values = Values::fixed();
        let raw = cases::message(opcode, &values);
        let message = Aligned::new(&raw.message());
        let (header, argument, payload) = request::split(message.bytes(), true).unwrap();
        let op = Operation::decode(&header, argument, payload).unwrap();
        let (mut op_in, mut payload) = ([0xee; URING_OP_IN_OUT_SZ], vec![0xee; 4096]);
        let ring = op.encode_ring(&ENVELOPE, Forms::LONG, &mut op_in, &mut payload).unwrap();
        assert_eq!(ring.header, raw.header());
        assert!(op_in[ring.argument_len..].iter().all(|&byte| byte == 0xee));
        assert!(payload[ring.payload_len..].iter().all(|&byte| byte == 0xee));
        payload.truncate(ring.payload_len);
        (raw, op_in[..ring.argument_len].to_vec(), payload)
    };
    let (raw, argument, payload) = ring(Opcode::Write);
    assert_eq!((argument, payload), (raw.argument, raw.payload));
    let (raw, argument, payload) = ring(Opcode::Rename);
    assert_eq!((argument, payload), (raw.argument, raw.payload));
    let (raw, argument, payload) = ring(Opcode::Lookup);
    assert_eq!((argument, payload), (vec![], raw.payload));
    // The odd one: its struct opens the payload.
    let (raw, argument, payload) = ring(Opcode::NotifyReply);
    assert_eq!((argument, payload), (vec![], [raw.argument, raw.payload].concat()));
}

#[test]
fn unknown_opcodes_pass_through() {
    let header = InHeader { opcode: 4711, total_extlen: 9, ..InHeader::default() };
    let op = Operation::decode(&header, b"argument", b"whatever").unwrap();
    let message = encode(&op, Forms::LONG).unwrap();
    assert_eq!(message[4..8], 4711_u32.to_ne_bytes());
    assert_eq!(message[36..40], [9_u16.to_ne_bytes(), [0, 0]].concat());
    assert_eq!(message[40..], *b"argumentwhatever");

    let long = [7; URING_OP_IN_OUT_SZ + 1];
    let op = Operation::decode(&header, &long, b"").unwrap();
    let error = op.encode_ring(&ENVELOPE, Forms::LONG, &mut [0; URING_OP_IN_OUT_SZ], &mut []);
    assert_eq!(error, Err(EncodeError::Unrepresentable { field: "argument" }));
}

#[test]
#[cfg_attr(target_endian = "big", ignore = "recorded on a little-endian machine")]
fn what_the_kernel_sent_comes_out_again() {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/requests");
    let mut count = 0;
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        let message = Aligned::new(&std::fs::read(&path).unwrap());
        let short = name.starts_with("setxattr-short");
        let (header, argument, payload) = request::split(message.bytes(), !short).unwrap();
        let op = Operation::decode(&header, argument, payload).unwrap();
        let forms = if short { Forms::SHORT } else { Forms::LONG };
        let mut out = vec![0; message.bytes().len()];
        let len = op.encode(&Envelope::from(&header), forms, &mut out).unwrap();
        assert_eq!((len, out.as_slice()), (out.len(), message.bytes()), "{name}: {op:?}");
        count += 1;
    }
    assert!(count > 100, "{count} frames");
}

#[test]
fn an_unknown_opcode_keeps_its_struct_on_the_ring() {
    for len in [0, 1, 24, 128] {
        let struct_bytes = [7; 128];
        let argument = &struct_bytes[..len];
        let op = Operation::Unknown { opcode: 54, argument, payload: b"abc", total_extlen: 0 };
        let (mut op_in, mut room) = ([0xee; URING_OP_IN_OUT_SZ], [0xee; 8]);
        let ring = op.encode_ring(&ENVELOPE, Forms::LONG, &mut op_in, &mut room).unwrap();
        let filled = &room[..ring.payload_len];
        let (argument, rest) = request::split_ring(&ring.header, &op_in, filled, true).unwrap();
        assert_eq!(Operation::decode(&ring.header, argument, rest), Ok(op));
    }
}

proptest! {
    #[test]
    fn what_is_encoded_decodes_to_the_same(values in values()) {
        for &opcode in Opcode::ALL {
            let raw = cases::message(opcode, &values);
            let payload = raw.payload();
            let op = Operation::decode(&raw.header(), &raw.argument, payload.bytes()).unwrap();

            let message = Aligned::new(&encode(&op, Forms::LONG).unwrap());
            let (header, argument, rest) = request::split(message.bytes(), true).unwrap();
            prop_assert_eq!(Operation::decode(&header, argument, rest).unwrap(), op);

            let (mut op_in, mut room) = ([0xee; URING_OP_IN_OUT_SZ], vec![0_u64; 512]);
            let room = zerocopy::IntoBytes::as_mut_bytes(room.as_mut_slice());
            let ring = op.encode_ring(&ENVELOPE, Forms::LONG, &mut op_in, room).unwrap();
            let filled = &room[..ring.payload_len];
            let (argument, rest) =
                request::split_ring(&ring.header, &op_in, filled, true).unwrap();
            prop_assert_eq!(Operation::decode(&ring.header, argument, rest).unwrap(), op);
        }
    }
}
