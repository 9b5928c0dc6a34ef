//! What was put into a message comes out of it, for every opcode.

use fusewire_proto::abi::RemovemappingOne;
use fusewire_proto::flags::{SetXattrFlags, XattrFlags};
use fusewire_proto::{Opcode, Operation, request};
use proptest::prelude::*;

use crate::cases::{self, Values};
use crate::raw::{Aligned, Raw};

fn name() -> impl Strategy<Value = Vec<u8>> {
    let byte = any::<u8>().prop_map(|byte| match byte {
        0 | b'/' => b'x',
        other => other,
    });
    prop::collection::vec(byte, 1..300)
}

pub(crate) fn values() -> impl Strategy<Value = Values> {
    (
        any::<[u64; 8]>(),
        any::<[u32; 12]>(),
        name(),
        name(),
        prop::collection::vec(any::<u8>(), 0..600),
        prop::collection::vec(any::<(u64, u64)>(), 0..20),
    )
        .prop_map(|(q, d, name, name2, data, items)| Values { q, d, name, name2, data, items })
}

fn check(opcode: Opcode, values: &Values) {
    let raw = cases::message(opcode, values);
    let payload = raw.payload();
    let decoded = Operation::decode(&raw.header(), &raw.argument, payload.bytes()).unwrap();
    assert_eq!(decoded.opcode(), Some(opcode));

    // The same as one piece, as the device gives it.
    let message = Aligned::new(&raw.message());
    let (header, argument, rest) = request::split(message.bytes(), true).unwrap();
    assert_eq!(header, raw.header());
    assert_eq!(Operation::decode(&header, argument, rest).unwrap(), decoded);

    let forgets = values.forgets();
    match (cases::operation(opcode, values, &forgets), decoded) {
        (Some(expected), decoded) => assert_eq!(decoded, expected),
        (None, Operation::RemoveMapping(op)) => {
            let expected: Vec<_> = values
                .items
                .iter()
                .map(|&(moffset, len)| RemovemappingOne { moffset, len })
                .collect();
            assert_eq!(op.items.iter().collect::<Vec<_>>(), expected);
            assert_eq!(op.items.len(), expected.len());
        }
        (None, other) => panic!("{opcode}: no expectation for {other:?}"),
    }
}

#[test]
fn fixed_values_of_every_opcode() {
    for &opcode in Opcode::ALL {
        check(opcode, &Values::fixed());
    }
}

proptest! {
    #[test]
    fn any_values_of_every_opcode(values in values()) {
        for &opcode in Opcode::ALL {
            check(opcode, &values);
        }
    }
}

#[test]
fn decoding_borrows_names_and_data() {
    let values = Values::fixed();
    let raw = cases::message(Opcode::Write, &values);
    let payload = raw.payload();
    let Ok(Operation::Write(write)) =
        Operation::decode(&raw.header(), &raw.argument, payload.bytes())
    else {
        panic!("WRITE does not decode");
    };
    assert_eq!(write.data.as_ptr_range(), payload.bytes().as_ptr_range());
}

#[test]
fn setxattr_has_a_short_form() {
    let raw = Raw::new(21, 8).at4(0, 3).at4(4, 2).string(b"user.a/b").then(b"xyz");
    let message = Aligned::new(&raw.message());
    let (header, argument, payload) = request::split(message.bytes(), false).unwrap();
    assert_eq!((argument.len(), payload.len()), (8, 12));
    let Ok(Operation::SetXattr(op)) = Operation::decode(&header, argument, payload) else {
        panic!("the short form of SETXATTR does not decode");
    };
    assert_eq!((op.name.as_bytes(), op.value), (&b"user.a/b"[..], &b"xyz"[..]));
    assert_eq!(op.flags, XattrFlags::REPLACE);
    assert_eq!(op.setxattr_flags, SetXattrFlags::empty());
}

#[test]
fn init_has_three_forms() {
    let decode = |raw: Raw| {
        let message = raw.message();
        let (header, argument, payload) = request::split(&message, true).unwrap();
        match Operation::decode(&header, argument, payload) {
            Ok(Operation::Init(init)) => init,
            other => panic!("{other:?}"),
        }
    };
    let short = Raw::new(26, 16).at4(0, 7).at4(4, 31).at4(8, 131_072).at4(12, 0x3f);
    let init = decode(short);
    assert_eq!((init.major, init.minor, init.max_readahead), (7, 31, 131_072));
    assert_eq!(init.flags.bits(), 0x3f);

    // Without INIT_EXT the second word says nothing.
    let mute = Raw::new(26, 64).at4(0, 7).at4(4, 45).at4(12, 0x3f).at4(16, 0xffff);
    assert_eq!(decode(mute).flags.bits(), 0x3f);

    // A later kernel may send more than is known today.
    let long = Raw::new(26, 96).at4(0, 7).at4(4, 50).at4(12, 0x4000_0001).at4(16, 0x20);
    assert_eq!(decode(long).flags.bits(), 0x20_4000_0001);
}

#[test]
fn an_unknown_opcode_is_a_value() {
    let raw = Raw::new(54, 0).then(b"anything");
    let message = Aligned::new(&raw.message());
    let (header, argument, payload) = request::split(message.bytes(), true).unwrap();
    let decoded = Operation::decode(&header, argument, payload).unwrap();
    let (argument, payload) = (b"".as_slice(), b"anything".as_slice());
    let expected = Operation::Unknown { opcode: 54, argument, payload, total_extlen: 0 };
    assert_eq!(decoded, expected);
    assert_eq!(decoded.opcode(), None);
}
