//! Every notification, header included.

use fusewire_proto::flags::InvalEntryFlags;
use fusewire_proto::notify::NotifyError;
use fusewire_proto::{Name, NodeId, Notification, PollHandle, Unique, frame};
use proptest::prelude::*;

use crate::bytes::{Aligned, Expected};

/// A message of `len` bytes with the header of notification `code`; unique is 0.
fn message(len: usize, code: u32) -> Expected {
    Expected::new(len).at4(0, u32::try_from(len).unwrap()).at4(4, code)
}

fn check(notification: Notification<'_>, expected: &Expected) {
    assert_eq!(notification.encoded_len(), expected.bytes().len());
    expected.assert(|out| notification.encode(out));
    let message = Aligned::new(expected.bytes());
    assert_eq!(decode(message.bytes()), Ok(notification));
    // Neither a byte less nor one more, whatever the header says.
    let mut longer = expected.bytes().to_vec();
    longer.push(0);
    for other in [&longer[..longer.len() - 2], &longer] {
        let mut other = other.to_vec();
        if other.len() < 16 {
            continue;
        }
        assert_eq!(error(&other).0, "message");
        let len = u32::try_from(other.len()).unwrap();
        other[..4].copy_from_slice(&len.to_ne_bytes());
        let other = Aligned::new(&other);
        assert!(decode(other.bytes()).is_err(), "{len} bytes");
    }
}

fn decode(message: &[u8]) -> Result<Notification<'_>, NotifyError> {
    Notification::decode(&frame::out_header(message).unwrap(), &message[16..])
}

fn error(message: &[u8]) -> (&'static str, fusewire_proto::Expected) {
    let error = decode(message).unwrap_err();
    (error.field, error.expected)
}

#[test]
fn what_is_no_notification_is_refused() {
    use fusewire_proto::{Expected as E, NameError};
    for code in [0, 10, u32::MAX] {
        let found = i32::from_ne_bytes(code.to_ne_bytes());
        assert_eq!(error(message(16, code).bytes()), ("code", E::Code { found }));
    }
    let answer = message(16, 7).at8(8, 2);
    assert_eq!(error(answer.bytes()), ("code", E::Code { found: 7 }));

    let entry = |len: u32, name: &[u8]| {
        let message = message(32 + name.len(), 3).at4(24, len).at(32, name);
        error(message.bytes())
    };
    assert_eq!(entry(4, b"abcd"), ("name", E::Exactly { expected: 5, found: 4 }));
    assert_eq!(entry(4, b"abcde"), ("name", E::Terminator));
    assert_eq!(entry(0, b"\0"), ("name", E::Name(NameError::Empty)));
    assert_eq!(entry(3, b"a/b\0"), ("name", E::Name(NameError::Slash)));
    assert_eq!(entry(3, b"a\0b\0"), ("name", E::Name(NameError::Nul)));
    assert_eq!(entry(4096, b""), ("name", E::AtMost { expected: 4095, found: 4096 }));
    let store = message(43, 4).at4(32, u32::MAX);
    let expected = usize::try_from(u32::MAX).unwrap();
    assert_eq!(error(store.bytes()), ("data", E::Exactly { expected, found: 3 }));
    // 2^29 nodeids of 8 bytes overflow 32 bits to nothing.
    let prune = message(32, 9).at4(16, 1 << 29);
    // Saturated where no memory could be that long.
    let expected = usize::try_from(1_u64 << 32).unwrap_or(usize::MAX);
    let exactly = E::Exactly { expected, found: 0 };
    assert_eq!(error(prune.bytes()), ("nodes", exactly));
    let odd = Aligned::new(&[&[0], message(40, 9).at4(16, 1).bytes()].concat());
    assert_eq!(error(&odd.bytes()[1..]), ("nodes", E::Aligned(align_of::<u64>())));
    let text = decode(message(17, 1).bytes()).unwrap_err().to_string();
    assert_eq!(text, "notification 1: body: expected at least 8 bytes, found 1");
}

fn name(bytes: &[u8]) -> &Name {
    Name::new(bytes).unwrap()
}

#[test]
fn poll() {
    check(Notification::Poll { kh: PollHandle(0x1234) }, &message(24, 1).at8(16, 0x1234));
}

#[test]
fn inval_inode() {
    let notification = Notification::InvalInode { node: NodeId(9), offset: -1, len: 4096 };
    check(notification, &message(40, 2).at8(16, 9).at8(24, u64::MAX).at8(32, 4096));
}

#[test]
fn inval_entry() {
    let (parent, name, flags) = (NodeId(5), name(b"gone"), InvalEntryFlags::EXPIRE_ONLY);
    let expected = message(37, 3).at8(16, 5).at4(24, 4).at4(28, 1).at(32, b"gone\0");
    check(Notification::InvalEntry { parent, name, flags }, &expected);
}

#[test]
fn store() {
    let notification = Notification::Store { node: NodeId(6), offset: 8192, data: b"abc" };
    check(notification, &message(43, 4).at8(16, 6).at8(24, 8192).at4(32, 3).at(40, b"abc"));
}

#[test]
fn retrieve() {
    let (notify_unique, node) = (Unique(1 << 62), NodeId(6));
    let expected =
        message(48, 5).at8(16, 0x4000_0000_0000_0000).at8(24, 6).at8(32, 4096).at4(40, 512);
    let notification = Notification::Retrieve { notify_unique, node, offset: 4096, size: 512 };
    check(notification, &expected);
}

#[test]
fn delete() {
    let (parent, child, name) = (NodeId(5), NodeId(11), name(b"x"));
    let expected = message(42, 6).at8(16, 5).at8(24, 11).at4(32, 1).at(40, b"x\0");
    check(Notification::Delete { parent, child, name }, &expected);
}

#[test]
fn resend_and_inc_epoch_are_bare() {
    check(Notification::Resend, &message(16, 7));
    check(Notification::IncEpoch, &message(16, 8));
}

#[test]
fn prune() {
    let nodes = [NodeId(2), NodeId(0x0102_0304_0506_0708)];
    let expected = message(48, 9).at4(16, 2).at8(32, 2).at8(40, 0x0102_0304_0506_0708);
    check(Notification::Prune { nodes: &nodes }, &expected);
    check(Notification::Prune { nodes: &[] }, &message(32, 9));
}

proptest! {
    #[test]
    fn what_is_encoded_decodes_to_the_same(
        ids in any::<(u64, u64, u64)>(),
        range in any::<(i64, i64)>(),
        words in any::<(u32, u32)>(),
        bytes in prop::collection::vec(any::<u8>(), 1..600),
        nodes in prop::collection::vec(any::<u64>(), 0..20),
    ) {
        let plain = |&byte: &u8| if matches!(byte, 0 | b'/') { b'x' } else { byte };
        let text: Vec<u8> = bytes.iter().map(plain).collect();
        let nodes: Vec<_> = nodes.into_iter().map(NodeId).collect();
        let (parent, child, offset) = (NodeId(ids.0), NodeId(ids.1), ids.2);
        let (notify_unique, flags) = (Unique(ids.1), InvalEntryFlags::from(words.0));
        for notification in [
            Notification::Poll { kh: PollHandle(offset) },
            Notification::InvalInode { node: parent, offset: range.0, len: range.1 },
            Notification::InvalEntry { parent, name: name(&text), flags },
            Notification::Store { node: parent, offset, data: &bytes },
            Notification::Retrieve { notify_unique, node: parent, offset, size: words.1 },
            Notification::Delete { parent, child, name: name(&text) },
            Notification::Resend,
            Notification::IncEpoch,
            Notification::Prune { nodes: &nodes },
        ] {
            let mut out = vec![0xee; notification.encoded_len()];
            notification.encode(&mut out).unwrap();
            let message = Aligned::new(&out);
            prop_assert_eq!(decode(message.bytes()), Ok(notification));
        }
    }
}
