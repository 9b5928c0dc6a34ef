//! Directory streams: whole records, padded with zeros, or nothing.

use fusewire_proto::{DirentPlusWriter, DirentWriter};
use proptest::prelude::*;

use crate::bytes::Expected;
use crate::replies::{entry, put_entry};

#[test]
fn records_follow_each_other_padded_to_eight() {
    let mut out = [0xee; 104];
    let mut writer = DirentWriter::new(&mut out);
    assert!(writer.is_empty());
    assert!(writer.add(1, 10, 4, b"."));
    assert_eq!(writer.len(), 32);
    assert!(writer.add(0x0102_0304_0506_0708, u64::MAX, 8, b"12345678"));
    assert_eq!(writer.len(), 64);
    assert!(writer.add(3, 12, 0, b"123456789"));
    assert_eq!(writer.len(), 104);
    assert!(!writer.is_empty());
    let expected = Expected::new(104)
        .at8(0, 1)
        .at8(8, 10)
        .at4(16, 1)
        .at4(20, 4)
        .at(24, b".")
        .at8(32, 0x0102_0304_0506_0708)
        .at8(40, u64::MAX)
        .at4(48, 8)
        .at4(52, 8)
        .at(56, b"12345678")
        .at8(64, 3)
        .at8(72, 12)
        .at4(80, 9)
        .at(88, b"123456789");
    assert_eq!(out, expected.bytes());
}

#[test]
fn a_record_that_does_not_fit_leaves_no_trace() {
    let mut out = [0xee; 63];
    let mut writer = DirentWriter::new(&mut out);
    assert!(writer.add(1, 1, 4, b"a"));
    // 32 bytes are needed and 31 there.
    assert!(!writer.add(2, 2, 4, b"b"));
    assert_eq!(writer.len(), 32);
    assert!(out[32..].iter().all(|&byte| byte == 0xee));

    let mut nothing = DirentWriter::new(&mut []);
    assert!(!nothing.add(1, 1, 4, b"a"));
    assert!(nothing.is_empty());
}

#[test]
fn plus_records_open_with_an_entry() {
    let mut out = [0xee; 312];
    let mut writer = DirentPlusWriter::new(&mut out);
    assert!(writer.add(Some(&entry()), 77, 5, 8, b"plus"));
    assert_eq!(writer.len(), 160);
    // 152 are left, and the least record needs 160.
    assert!(!writer.add(None, 1, 6, 4, b"x"));
    assert_eq!(writer.len(), 160);
    assert!(out[160..].iter().all(|&byte| byte == 0xee));
    let expected = put_entry(Expected::new(160), 0)
        .at8(128, 77)
        .at8(136, 5)
        .at4(144, 4)
        .at4(148, 8)
        .at(152, b"plus");
    assert_eq!(out[..160], *expected.bytes());
}

#[test]
fn plus_without_entry_has_nodeid_zero() {
    let mut out = [0xee; 160];
    let mut writer = DirentPlusWriter::new(&mut out);
    assert!(writer.add(None, 1, 6, 4, b".."));
    assert!(!writer.is_empty());
    let expected =
        Expected::new(160).at8(128, 1).at8(136, 6).at4(144, 2).at4(148, 4).at(152, b"..");
    assert_eq!(out, expected.bytes());
}

proptest! {
    /// Whatever is added, the stream is a whole number of records that can be walked.
    #[test]
    fn streams_can_be_walked(
        names in prop::collection::vec(prop::collection::vec(1_u8.., 1..40), 0..30),
        room in 0_usize..800,
    ) {
        let mut out = vec![0xee; room];
        let mut writer = DirentWriter::new(&mut out);
        let mut kept = Vec::new();
        for (cookie, name) in (1..).zip(&names) {
            if !writer.add(cookie + 100, cookie, 8, name) {
                break;
            }
            kept.push(name);
        }
        let len = writer.len();
        let mut at = 0;
        for name in kept {
            let namelen = u32::from_ne_bytes(out[at + 16..at + 20].try_into().unwrap());
            let namelen = usize::try_from(namelen).unwrap();
            prop_assert_eq!(&out[at + 24..at + 24 + namelen], name.as_slice());
            let end = (at + 24 + namelen).div_ceil(8) * 8;
            prop_assert!(out[at + 24 + namelen..end].iter().all(|&byte| byte == 0));
            at = end;
        }
        prop_assert_eq!(at, len);
        prop_assert!(out[len..].iter().all(|&byte| byte == 0xee));
    }
}
