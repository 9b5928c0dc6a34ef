//! Notifications of every kind, made from plain values, and what the C header says of them.

use arbitrary::Arbitrary;
use std::vec::Vec;

use super::oracle::{ORACLE, number};
use crate::notify::Notification;
use crate::types::{Name, NodeId, PollHandle};

/// Material for a notification.
#[derive(Arbitrary, Debug)]
pub(super) struct Material<'a> {
    kind: u8,
    q: [u64; 3],
    d: [u32; 2],
    bytes: &'a [u8],
    nodes: Vec<u64>,
}

/// Code, struct and fields of a notification, and what follows the struct.
type Layout = (i32, &'static str, Vec<(&'static str, u64)>, Vec<u8>);

impl Material<'_> {
    /// The bytes as a name, or another one if they are none.
    pub(super) fn name(&self) -> &Name {
        Name::new(self.bytes).or_else(|_| Name::new(b"other")).unwrap()
    }

    pub(super) fn nodes(&self) -> Vec<NodeId> {
        self.nodes.iter().copied().map(NodeId).collect()
    }

    fn make<'b>(&'b self, nodes: &'b [NodeId]) -> (Notification<'b>, Layout) {
        let [a, b, c] = self.q;
        let [d, flags] = self.d;
        let (node, name) = (NodeId(a), self.name());
        let string = [name.as_bytes(), &[0]].concat();
        let namelen = ("namelen", name.as_bytes().len() as u64);
        match self.kind % 9 {
            0 => {
                let fields = std::vec![("kh", a)];
                (Notification::Poll { kh: PollHandle(a) }, (1, "poll_wakeup", fields, Vec::new()))
            }
            1 => {
                let (offset, len) = (b.cast_signed(), c.cast_signed());
                let fields = std::vec![("ino", a), ("off", b), ("len", c)];
                let layout = (2, "inval_inode", fields, Vec::new());
                (Notification::InvalInode { node, offset, len }, layout)
            }
            2 => {
                let fields = std::vec![("parent", a), namelen, ("flags", flags.into())];
                let layout = (3, "inval_entry", fields, string);
                (Notification::InvalEntry { parent: node, name, flags: flags.into() }, layout)
            }
            3 => {
                let (data, size) = (self.bytes, self.bytes.len() as u64);
                let fields = std::vec![("nodeid", a), ("offset", b), ("size", size)];
                let layout = (4, "store", fields, data.to_vec());
                (Notification::Store { node, offset: b, data }, layout)
            }
            4 => {
                let (offset, size, notify_unique) = (b, d, c.into());
                let fields = std::vec![
                    ("notify_unique", c),
                    ("nodeid", a),
                    ("offset", b),
                    ("size", d.into()),
                ];
                let layout = (5, "retrieve", fields, Vec::new());
                (Notification::Retrieve { notify_unique, node, offset, size }, layout)
            }
            5 => {
                let fields = std::vec![("parent", a), ("child", b), namelen];
                let layout = (6, "delete", fields, string);
                (Notification::Delete { parent: node, child: NodeId(b), name }, layout)
            }
            6 => (Notification::Resend, (7, "", Vec::new(), Vec::new())),
            7 => (Notification::IncEpoch, (8, "", Vec::new(), Vec::new())),
            _ => {
                let bytes = self.nodes.iter().flat_map(|it| it.to_ne_bytes()).collect();
                let fields = std::vec![("count", nodes.len() as u64)];
                (Notification::Prune { nodes }, (9, "prune", fields, bytes))
            }
        }
    }

    /// Encodes, and compares each byte with the header; gives the notification and its bytes.
    pub(super) fn encoded<'b>(&'b self, nodes: &'b [NodeId]) -> (Notification<'b>, Vec<u8>) {
        let (notification, (code, name, expected, tail)) = self.make(nodes);
        let mut message = std::vec![0xa5; notification.encoded_len()];
        let last = message.len() - 1;
        assert_eq!(notification.encode(&mut message[..last]).unwrap_err().needed, message.len());
        assert!(message.iter().all(|&byte| byte == 0xa5), "half a message was written");
        assert_eq!(notification.encode(&mut message), Ok(message.len()));
        assert_eq!(number(&message, 0, 4), message.len() as u64, "len");
        assert_eq!((number(&message, 4, 4) as u32).cast_signed(), code, "code");
        assert_eq!(number(&message, 8, 8), 0, "unique");
        let mut rest = &message[16..];
        if !name.is_empty() {
            rest = ORACLE.compare(&std::format!("fuse_notify_{name}_out"), rest, &expected);
        }
        assert_eq!(rest, tail);
        (notification, message)
    }
}
