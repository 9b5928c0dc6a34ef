//! Extensions of the requests that make an inode.

use fusewire_proto::op::{Extensions, SecurityContext};
use fusewire_proto::{Expected, Operation};

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
        let expected = SecurityContext { name: b"security.selinux", label: b"system_u\0" };
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
