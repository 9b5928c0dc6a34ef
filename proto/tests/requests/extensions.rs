//! Extensions of the requests that make an inode.

use fusewire_proto::op::{Extensions, ExtensionsWriter, SecurityContext};
use fusewire_proto::{EncodeError, Expected, Operation, Text, TooSmall};
use proptest::prelude::*;

use crate::raw::Raw;

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

/// A record of one security context: 8 + (8 + 17 + 9, padded to 40) bytes.
fn label() -> Vec<u8> {
    let mut record = words(&[48, 1, 9, 0]);
    record.extend(b"security.selinux\0");
    record.extend(b"system_u\0");
    record.extend([0; 6]);
    record
}

/// A record of one group.
fn group(gid: u32) -> Vec<u8> {
    words(&[16, 32, 1, gid])
}

fn text(bytes: &[u8]) -> &Text {
    Text::new(bytes).unwrap()
}

/// Decodes a MKDIR of "d" with these extensions and gives what `look` sees in them.
fn with<T>(extensions: &[u8], look: impl Fn(Extensions<'_>) -> T) -> Result<T, Expected> {
    let mut raw = Raw::new(9, 8).at4(0, 0o755).string(b"d");
    raw.extensions = extensions.to_vec();
    let payload = raw.payload();
    match Operation::decode(&raw.header(), &raw.argument, payload.bytes()) {
        Ok(Operation::MkDir(op)) => {
            assert_eq!(op.name.as_bytes(), b"d");
            Ok(look(op.extensions))
        }
        Ok(other) => panic!("{other:?}"),
        Err(error) => Err(error.expected),
    }
}

#[test]
fn a_label_and_a_group_come_out() {
    let both = [label(), group(100)].concat();
    with(&both, |extensions| {
        let contexts: Vec<_> = extensions.security_contexts().collect();
        let expected = SecurityContext { name: text(b"security.selinux"), label: b"system_u\0" };
        assert_eq!(contexts, [expected]);
        assert_eq!(extensions.groups().collect::<Vec<_>>(), [100]);
        assert!(!extensions.is_empty());
    })
    .unwrap();
}

#[test]
fn every_opcode_that_makes_an_inode_takes_them() {
    for (opcode, argument_len) in [(35, 16), (51, 16), (8, 16), (9, 8), (6, 0)] {
        let mut raw = Raw::new(opcode, argument_len).string(b"name");
        if opcode == 6 {
            raw = raw.string(b"target");
        }
        raw.extensions = group(7);
        let payload = raw.payload();
        let op = Operation::decode(&raw.header(), &raw.argument, payload.bytes()).unwrap();
        let extensions = match op {
            Operation::Create(op) => op.extensions,
            Operation::TmpFile(op) => op.extensions,
            Operation::MkNod(op) => op.extensions,
            Operation::MkDir(op) => op.extensions,
            Operation::Symlink(op) => op.extensions,
            other => panic!("{other:?}"),
        };
        assert_eq!(extensions.groups().collect::<Vec<_>>(), [7], "opcode {opcode}");
    }
}

#[test]
fn the_empty_label_record_is_no_label() {
    // With SECURITY_CTX agreed the kernel sends the header even if there is no label.
    let none = words(&[8, 0]);
    assert_eq!(with(&none, |it| (it.security_contexts().count(), it.is_empty())), Ok((0, false)));
    assert_eq!(with(&[], |it| it.is_empty()), Ok(true));
}

#[test]
fn two_labels_of_one_record() {
    let mut record = words(&[40, 2]);
    record.extend(words(&[1, 0]));
    record.extend(b"a\0X\0\0\0\0\0");
    record.extend(words(&[0, 0]));
    record.extend(b"bcdefgh\0");
    let seen = with(&record, |it| {
        it.security_contexts().map(|c| (c.name.to_vec(), c.label.to_vec())).collect::<Vec<_>>()
    });
    let expected = vec![(b"a".to_vec(), b"X".to_vec()), (b"bcdefgh".to_vec(), vec![])];
    assert_eq!(seen, Ok(expected));
}

#[test]
fn unknown_records_are_skipped_by_size() {
    let odd = [words(&[12, 77, 5, 0]), group(3)].concat();
    assert_eq!(with(&odd, |it| it.groups().collect::<Vec<_>>()), Ok(vec![3]));
}

#[test]
fn a_record_must_hold_its_header_and_stay_inside() {
    for size in [0, 1, 7] {
        let expected = Expected::AtLeast { expected: 8, found: size };
        let size = u32::try_from(size).unwrap();
        assert_eq!(with(&words(&[size, 32]), |_| ()), Err(expected), "size {size}");
    }
    let beyond = Expected::AtLeast { expected: 24, found: 16 };
    assert_eq!(with(&words(&[24, 32, 0, 0]), |_| ()), Err(beyond));
    let huge = Expected::AtLeast { expected: u64::from(u32::MAX), found: 8 };
    assert_eq!(with(&words(&[u32::MAX, 32]), |_| ()), Err(huge));
}

#[test]
fn counts_beyond_a_record_are_refused() {
    let groups = Expected::AtLeast { expected: 8, found: 4 };
    assert_eq!(with(&words(&[16, 32, 2, 5]), |_| ()), Err(groups));
    let absurd = Expected::AtLeast { expected: u64::from(u32::MAX) * 4, found: 4 };
    assert_eq!(with(&words(&[16, 32, u32::MAX, 5]), |_| ()), Err(absurd));
    // One context announced, none there.
    let context = Expected::AtLeast { expected: 8, found: 0 };
    assert_eq!(with(&words(&[8, 1]), |_| ()), Err(context));
    // A context without the NUL of its name.
    let nul = words(&[24, 1, 0, 0, 0x0101_0101, 0x0101_0101]);
    assert_eq!(with(&nul, |_| ()), Err(Expected::Terminator));
    // A label that reaches beyond the record.
    let mut label = words(&[24, 1, u32::MAX, 0]);
    label.extend(b"a\0XXXXXX");
    let long = Expected::AtLeast { expected: u64::from(u32::MAX) + 10, found: 16 };
    assert_eq!(with(&label, |_| ()), Err(long));
}

#[test]
fn the_writer_has_the_bytes_of_the_kernel() {
    let context = SecurityContext { name: text(b"security.selinux"), label: b"system_u\0" };
    let expected = [label(), group(100), words(&[16, 77, 5, 6])].concat();
    let mut out = vec![0xee; expected.len() + 3];
    let mut writer = ExtensionsWriter::new(&mut out);
    writer.security_contexts(&[context]).unwrap();
    writer.groups(&[100]).unwrap();
    writer.unknown(77, &words(&[5, 6])).unwrap();
    assert_eq!(writer.finish().as_bytes(), expected);
    assert_eq!(out[expected.len()..], [0xee; 3]);

    let mut out = [0xee; 8];
    let mut writer = ExtensionsWriter::new(&mut out);
    writer.security_contexts(&[]).unwrap();
    assert_eq!(writer.finish().as_bytes(), words(&[8, 0]));
}

#[test]
fn the_writer_refuses_what_has_no_place() {
    let context = SecurityContext { name: text(b"a"), label: b"" };
    let mut out = [0xee; 23];
    let mut writer = ExtensionsWriter::new(&mut out);
    let small = |needed| Err(EncodeError::TooSmall(TooSmall { needed }));
    assert_eq!(writer.security_contexts(&[context]), small(24));
    writer.groups(&[7]).unwrap();
    assert_eq!(writer.groups(&[8]), small(32));
    let none = |field| Err(EncodeError::Unrepresentable { field });
    assert_eq!(writer.security_contexts(&[context; 32]), none("nr_secctx"));
    assert_eq!(writer.unknown(32, b""), none("type"));
    assert_eq!(writer.unknown(0, b""), none("type"));
    assert_eq!(writer.finish().as_bytes(), group(7));
    assert_eq!(out[16..], [0xee; 7]);
}

proptest! {
    #[test]
    fn what_is_written_is_read(
        contexts in prop::collection::vec(
            (prop::collection::vec(1_u8.., 0..20), prop::collection::vec(any::<u8>(), 0..20)),
            0..6,
        ),
        groups in prop::collection::vec(any::<u32>(), 0..9),
        odd in prop::collection::vec(any::<u8>(), 0..20),
        kind in 33_u32..,
    ) {
        let contexts: Vec<_> = contexts
            .iter()
            .map(|(name, label)| SecurityContext { name: text(name), label })
            .collect();
        let mut out = vec![0xee; 4096];
        let mut writer = ExtensionsWriter::new(&mut out);
        writer.security_contexts(&contexts).unwrap();
        writer.unknown(kind, &odd).unwrap();
        writer.groups(&groups).unwrap();
        let written = writer.finish();
        with(written.as_bytes(), |read| {
            assert_eq!(read.security_contexts().collect::<Vec<_>>(), contexts);
            assert_eq!(read.groups().collect::<Vec<_>>(), groups);
            assert_eq!(read, written);
        })
        .unwrap();
    }
}
