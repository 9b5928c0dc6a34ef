//! Malformed messages give a typed error, and never a panic.

use fusewire_proto::abi::InHeader;
use fusewire_proto::{
    DecodeError, Errno, Expected, FileType, LockKind, Mode, NameError, NodeId, Opcode, Operation,
    request,
};
use proptest::prelude::*;

use crate::cases::{self, Values};
use crate::raw::{Aligned, Raw, try_message};

fn decode(raw: &Raw) -> Result<(), (&'static str, Expected)> {
    let payload = raw.payload();
    match Operation::decode(&raw.header(), &raw.argument, payload.bytes()) {
        Ok(_) => Ok(()),
        Err(error) => {
            assert_eq!(error.opcode, raw.opcode);
            Err((error.field, error.expected))
        }
    }
}

/// A message for each opcode, where possible with extensions.
fn messages() -> impl Iterator<Item = (Opcode, Raw)> {
    let values = Values::fixed();
    Opcode::ALL.iter().map(move |&opcode| {
        let mut raw = cases::message(opcode, &values);
        let extended =
            [Opcode::Create, Opcode::TmpFile, Opcode::MkNod, Opcode::MkDir, Opcode::Symlink];
        if extended.contains(&opcode) {
            raw.extensions = vec![0; 16];
            raw.extensions[..12].copy_from_slice(
                &[16_u32.to_ne_bytes(), 32_u32.to_ne_bytes(), 1_u32.to_ne_bytes()].concat(),
            );
        }
        (opcode, raw)
    })
}

#[test]
fn every_message_decodes_when_whole() {
    for (opcode, raw) in messages() {
        assert_eq!(try_message(&raw.message(), true), Ok(()), "{opcode}");
    }
}

#[test]
fn every_truncation_is_an_error() {
    for (opcode, raw) in messages() {
        let message = raw.message();
        // Miri, which is slow, takes one of five: all remainders of 8 are among them.
        for len in (0..message.len()).step_by(if cfg!(miri) { 5 } else { 1 }) {
            let mut cut = message[..len].to_vec();
            // Once with the old length in the header, once with the new one.
            assert!(try_message(&cut, true).is_err(), "{opcode} cut to {len}");
            if let Some(field) = cut.get_mut(..4) {
                field.copy_from_slice(&u32::try_from(len).unwrap().to_ne_bytes());
            }
            // INIT is the one opcode with shorter forms, from 16 bytes on; with INIT_EXT from 20.
            let whole_init = opcode == Opcode::Init && len >= 60;
            assert_eq!(try_message(&cut, true).is_ok(), whole_init, "{opcode} cut to {len}");
        }
    }
}

#[test]
fn every_addition_is_an_error() {
    for (opcode, mut raw) in messages() {
        raw.payload.push(b'x');
        if opcode == Opcode::Init {
            // Split would take it as a longer form; as payload it is too much.
            let payload = raw.payload();
            let decoded = Operation::decode(&raw.header(), &raw.argument, payload.bytes());
            assert!(decoded.is_err());
        } else {
            assert!(try_message(&raw.message(), true).is_err(), "{opcode}");
        }
        raw.payload.pop();
        raw.argument.push(0);
        assert_eq!(decode(&raw).is_ok(), opcode == Opcode::Init, "{opcode}");
    }
}

#[test]
fn extensions_are_refused_where_none_belong() {
    for (opcode, mut raw) in messages() {
        if !raw.extensions.is_empty() {
            continue;
        }
        raw.extensions = vec![16, 0, 0, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let error = decode(&raw).unwrap_err();
        assert_eq!(error, ("extensions", Expected::Nothing { found: 16 }), "{opcode}");
    }
}

#[test]
fn lengths_beyond_the_message() {
    let write = Raw::new(16, 40).at4(16, u32::MAX).then(b"abc");
    let expected = usize::try_from(u32::MAX).unwrap();
    assert_eq!(decode(&write), Err(("data", Expected::Exactly { expected, found: 3 })));

    let setxattr = Raw::new(21, 16).at4(0, 4).string(b"user.x").then(b"abc");
    let exactly = Expected::Exactly { expected: 4, found: 3 };
    assert_eq!(decode(&setxattr), Err(("value", exactly)));

    // 2^28 items of 16 bytes overflow 32 bits to nothing.
    let forget = Raw::new(42, 8).at4(0, 1 << 28);
    // Saturated where no memory could be that long.
    let beyond = usize::try_from(1_u64 << 32).unwrap_or(usize::MAX);
    let exactly = Expected::Exactly { expected: beyond, found: 0 };
    assert_eq!(decode(&forget), Err(("items", exactly)));

    let mapping = Raw::new(49, 4).at4(0, u32::MAX).then(&[0; 16]);
    let exactly = Expected::Exactly { expected: expected.saturating_mul(16), found: 16 };
    assert_eq!(decode(&mapping), Err(("items", exactly)));

    let mut header = Raw::new(9, 8).string(b"d").header();
    header.total_extlen = 3;
    let error = Operation::decode(&header, &[0; 8], b"d\0").unwrap_err();
    let at_least = Expected::AtLeast { expected: 24, found: 2 };
    assert_eq!((error.field, error.expected), ("total_extlen", at_least));
}

#[test]
fn forgets_at_an_odd_address_are_refused_not_read() {
    let items = Aligned::new(&[0; 24]);
    let raw = Raw::new(42, 8).at4(0, 1);
    let error = Operation::decode(&raw.header(), &raw.argument, &items.bytes()[1..17]).unwrap_err();
    // 8, but 4 on i386.
    let aligned = Expected::Aligned(align_of::<u64>());
    assert_eq!((error.field, error.expected), ("items", aligned));
    // Nothing at all may stand anywhere.
    let none = Raw::new(42, 8);
    assert!(Operation::decode(&none.header(), &none.argument, &items.bytes()[1..1]).is_ok());
}

#[test]
fn strings_that_are_not_names() {
    let lookup = |bytes: &[u8]| decode(&Raw::new(1, 0).then(bytes));
    assert_eq!(lookup(b""), Err(("name", Expected::Terminator)));
    assert_eq!(lookup(b"abc"), Err(("name", Expected::Terminator)));
    assert_eq!(lookup(b"\0"), Err(("name", Expected::Name(NameError::Empty))));
    assert_eq!(lookup(b"a/b\0"), Err(("name", Expected::Name(NameError::Slash))));
    assert_eq!(lookup(b"a\0b\0"), Err(("payload", Expected::Nothing { found: 2 })));
    assert_eq!(lookup(b"..\0"), Ok(()));

    let rename = Raw::new(12, 8).string(b"old").then(b"new");
    assert_eq!(decode(&rename), Err(("new_name", Expected::Terminator)));
    let xattr = Raw::new(24, 0).string(b"");
    assert_eq!(decode(&xattr), Err(("name", Expected::NotEmpty)));
}

#[test]
fn errors_say_where_and_what() {
    let raw = Raw::new(1, 0).string(b"a/b");
    let payload = raw.payload();
    let error = Operation::decode(&raw.header(), &raw.argument, payload.bytes()).unwrap_err();
    assert_eq!(error.to_string(), "LOOKUP: name: expected a name, but a name contains a slash");
    assert_eq!(error.errno(), Errno::EINVAL);

    let raw = Raw::new(14, 7);
    let error = Operation::decode(&raw.header(), &raw.argument, &[]).unwrap_err();
    assert_eq!(error.to_string(), "OPEN: argument: expected exactly 8 bytes, found 7");
    assert_eq!(error.errno(), Errno::EIO);

    let error = try_message(&[0; 39], true).unwrap_err();
    assert_eq!(error.to_string(), "opcode 0: header: expected at least 40 bytes, found 39");
}

#[test]
fn a_ring_entry_too_short_for_the_struct_is_an_error() {
    let header = |opcode: Opcode| InHeader { opcode: opcode.raw(), ..InHeader::default() };
    let short = |opcode, expected, found| DecodeError {
        opcode: Opcode::raw(opcode),
        field: "argument",
        expected: Expected::AtLeast { expected, found },
    };
    // The struct of NOTIFY_REPLY opens the payload; all others stand in the area.
    let notify_reply = header(Opcode::NotifyReply);
    let found = request::split_ring(&notify_reply, &[0; 128], &[0; 39], true);
    assert_eq!(found, Err(short(Opcode::NotifyReply, 40, 39)));
    let whole: (&[u8], &[u8]) = (&[0; 40], &[]);
    assert_eq!(request::split_ring(&notify_reply, &[], &[0; 40], true), Ok(whole));
    let write = header(Opcode::Write);
    let found = request::split_ring(&write, &[0; 39], &[0; 4096], true);
    assert_eq!(found, Err(short(Opcode::Write, 40, 39)));
    // CUSE_INIT is far from the others in the table.
    let cuse_init = header(Opcode::CuseInit);
    assert_eq!(request::split_ring(&cuse_init, &[0; 16], b"", true), Ok((&[0; 16][..], &b""[..])));
    // The struct of an unknown opcode is what the header counts beyond the payload.
    let unknown = |len| InHeader { opcode: 63, len, ..InHeader::default() };
    for (len, argument) in [(0, 0), (40, 0), (41, 0), (42, 1), (169, 128)] {
        let found = request::split_ring(&unknown(len), &[1; 128], b"x", true);
        assert_eq!(found, Ok((&[1; 128][..argument], &b"x"[..])), "{len}");
    }
    let found = request::split_ring(&unknown(170), &[1; 128], b"x", true).unwrap_err();
    assert_eq!(found.expected, Expected::AtLeast { expected: 129, found: 128 });
}

#[test]
fn every_expectation_has_its_words() {
    let (node, mode) = (NodeId(7), Mode(0o170_000));
    let file_type = Some(FileType::DIRECTORY);
    for (expected, words) in [
        (Expected::Terminator, "expected a terminating NUL"),
        (Expected::NotEmpty, "expected one byte or more before the NUL"),
        (Expected::Nothing { found: 3 }, "expected the end, found 3 more bytes"),
        (Expected::Aligned(8), "expected an address that is a multiple of 8"),
        (Expected::AtMost { expected: 1, found: 2 }, "expected at most 1, found 2"),
        (Expected::ErrorNumber { found: -512 }, "expected -511 to 0, found -512"),
        (Expected::Success, "expected success"),
        (Expected::NoReply, "expected no reply"),
        (Expected::Version { major: 7, minor: 30 }, "expected FUSE 7.31 or later, found 7.30"),
        (Expected::Nodeid { expected: Some(NodeId(9)), found: node }, "expected 9, found 7"),
        (
            Expected::Nodeid { expected: None, found: node },
            "expected neither 0 nor the root, found 7",
        ),
        (Expected::LockKind { found: LockKind(3) }, "expected 0, 1 or 2, found 3"),
        (
            Expected::Flags { expected: 0xf, found: 0x10 },
            "expected no flags beyond 0xf, found 0x10",
        ),
        (Expected::Existing { found: -1 }, "expected one that exists, found -1"),
        (Expected::Code { found: 12 }, "expected a code of 1 to 9 with unique 0, found 12"),
    ] {
        assert_eq!(expected.to_string(), words);
    }
    let found = Expected::FileType { expected: file_type, found: mode }.to_string();
    assert!(found.starts_with("expected type ") && found.ends_with(&mode.to_string()), "{found}");
    let found = Expected::FileType { expected: None, found: mode }.to_string();
    assert_eq!(found, format!("expected one of the seven file types, found {mode}"));
}

proptest! {
    /// Any bytes, in any pieces.
    #[test]
    fn noise_never_panics(
        opcode in 0_u32..60,
        extlen in prop_oneof![Just(0_u16), 0_u16..6, any::<u16>()],
        argument in prop::collection::vec(any::<u8>(), 0..100),
        payload in prop::collection::vec(prop_oneof![Just(0_u8), Just(1), any::<u8>()], 0..200),
    ) {
        let mut header = Raw::new(opcode, 0).header();
        header.total_extlen = extlen;
        if let Ok(op) = Operation::decode(&header, &argument, &payload) {
            // Extensions are walked again when they are looked at.
            let _ = format!("{op:?}");
        }
    }

    /// A valid message with one byte changed.
    #[test]
    fn one_wrong_byte_never_panics(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        for (_, raw) in messages() {
            let mut message = raw.message();
            let at = at.index(message.len());
            message[at] = byte;
            let _ = try_message(&message, true);
        }
    }
}
