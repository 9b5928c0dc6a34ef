//! Every notification, header included.

use fusewire_proto::flags::InvalEntryFlags;
use fusewire_proto::{Name, NodeId, Notification, Unique};

use crate::bytes::Expected;

/// A message of `len` bytes with the header of notification `code`; unique is 0.
fn message(len: usize, code: u32) -> Expected {
    Expected::new(len).at4(0, u32::try_from(len).unwrap()).at4(4, code)
}

fn check(notification: Notification<'_>, expected: &Expected) {
    assert_eq!(notification.encoded_len(), expected.bytes().len());
    expected.assert(|out| notification.encode(out));
}

fn name(bytes: &[u8]) -> &Name {
    Name::new(bytes).unwrap()
}

#[test]
fn poll() {
    check(Notification::Poll { kh: 0x1234 }, &message(24, 1).at8(16, 0x1234));
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
