//! Plain values come back as they were, bits without a name included.

use std::fmt::Debug;

use fusewire_proto::flags::*;
use fusewire_proto::{
    Attr, Fh, FileLock, FileType, LockKind, Mode, Name, NodeId, PollHandle, Timestamp, Unique,
    Whence,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

fn comes_back<T: Serialize + DeserializeOwned + PartialEq + Debug>(value: T, line: &str) {
    assert_eq!(serde_json::to_string(&value).unwrap(), line);
    assert_eq!(serde_json::from_str::<T>(line).unwrap(), value);
}

#[test]
fn numbers_and_times() {
    comes_back(NodeId(u64::MAX), "18446744073709551615");
    comes_back(Unique(7), "7");
    comes_back(Fh(0), "0");
    comes_back(PollHandle(u64::MAX), "18446744073709551615");
    comes_back(Whence::HOLE, "4");
    comes_back(Mode(0o104_755), "35309");
    comes_back(FileType(3), "3");
    comes_back(Timestamp::new(i64::MIN, 5), r#"{"seconds":-9223372036854775808,"nanoseconds":5}"#);
    let lock = FileLock { start: 1, end: FileLock::TO_EOF, kind: LockKind(9), pid: 2 };
    comes_back(lock, r#"{"start":1,"end":9223372036854775807,"kind":9,"pid":2}"#);
    let attr = Attr { ino: 5, flags: AttrFlags::from(0x8000_0001), ..Attr::default() };
    let line = serde_json::to_string(&attr).unwrap();
    assert!(line.contains(r#""flags":"SUBMOUNT | 0x80000000""#), "{line}");
    comes_back(attr, &line);
}

#[test]
fn unknown_bits_stay() {
    let init = InitFlags::from(1 << 63 | 1 << 60 | 1 << 37);
    comes_back(init, r#""PASSTHROUGH | 0x9000000000000000""#);
    comes_back(StatxMask::from(0x8000_0801), r#""TYPE | BTIME | 0x80000000""#);
    comes_back(OpenFlags::empty(), r#""""#);
    comes_back(OpenFlags::RDWR | OpenFlags::LARGEFILE, r#""RDWR | LARGEFILE""#);
    comes_back(XattrFlags::from(0x8000_0002), r#""REPLACE | 0x80000000""#);
    comes_back(AccessMask::from(0o16), r#""READ | WRITE | 0x8""#);
    comes_back(FallocateMode::from(0x8000_0010), r#""ZERO_RANGE | 0x80000000""#);
    comes_back(CopyFlags::from(1 << 63), r#""0x8000000000000000""#);
    comes_back(StatxFlags::from(0x1_2000), r#""FORCE_SYNC | 0x10000""#);
    comes_back(PollEvents::from(0x8000_2010), r#""HUP | RDHUP | 0x80000000""#);
    for bit in 0..64 {
        let flags = InitFlags::from(1 << bit);
        let line = serde_json::to_string(&flags).unwrap();
        assert_eq!(serde_json::from_str::<InitFlags>(&line).unwrap(), flags, "{line}");
    }
}

/// The way back that the documentation of the crate promises.
fn unescaped(text: &str) -> Vec<u8> {
    let (mut bytes, mut rest) = (Vec::new(), text);
    while let Some(at) = rest.find('\\') {
        bytes.extend(rest[..at].bytes());
        let taken = match rest.as_bytes()[at + 1] {
            b'x' => (u8::from_str_radix(&rest[at + 2..at + 4], 16).unwrap(), 4),
            other => (other, 2),
        };
        bytes.push(taken.0);
        rest = &rest[at + taken.1..];
    }
    bytes.extend(rest.bytes());
    bytes
}

#[test]
fn every_byte_of_a_name_stays() {
    // Bytes that are not UTF-8, alone and in front of others; and text that looks escaped.
    let pairs = (1..=255_u8).flat_map(|a| [b'x', b'\\', 0xa9, 0xff].map(|b| vec![a, b]));
    let mut count = 0;
    for bytes in pairs.chain([br"\xff \\xff".to_vec(), "caf\u{e9}".into(), b"\xf0\x9f\x92".into()])
    {
        let Ok(name) = Name::new(&bytes) else { continue };
        let json = serde_json::to_string(name).unwrap();
        let text: String = serde_json::from_str(&json).unwrap();
        assert_eq!(unescaped(&text), bytes, "{json}");
        count += 1;
    }
    assert_eq!(count, 254 * 4 + 3);
    let plain = Name::new("caf\u{e9}".as_bytes()).unwrap();
    assert_eq!(serde_json::to_value(plain).unwrap(), "caf\u{e9}");
}
