//! Directory streams: whole records, padded with zeros, or nothing.

use fusewire_proto::dirent::{DirentError, DirentRecord, LookUp};
use fusewire_proto::{
    DirentPlusReader, DirentPlusWriter, DirentReader, DirentWriter, Entry, Expected as Wanted,
    FileType, Mode, NameError, NodeId,
};
use proptest::prelude::*;

use crate::bytes::Expected;
use crate::replies::{entry, put_entry};

#[test]
fn records_follow_each_other_padded_to_eight() {
    let mut out = [0xee; 104];
    let mut writer = DirentWriter::new(&mut out);
    assert!(writer.is_empty());
    assert!(writer.add(1, 10, FileType(4), b"."));
    assert_eq!(writer.len(), 32);
    assert!(writer.add(0x0102_0304_0506_0708, u64::MAX, FileType(8), b"12345678"));
    assert_eq!(writer.len(), 64);
    assert!(writer.add(3, 12, FileType(0), b"123456789"));
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
    let record = |ino, next_offset, kind, name| DirentRecord {
        ino,
        next_offset,
        kind: FileType(kind),
        name,
    };
    let read: Vec<_> = DirentReader::new(expected.bytes()).map(Result::unwrap).collect();
    let second = record(0x0102_0304_0506_0708, u64::MAX, 8, b"12345678");
    let expected = [record(1, 10, 4, b".".as_slice()), second, record(3, 12, 0, b"123456789")];
    assert_eq!(read, expected);
}

/// A stream of one record by hand, of which the name may be anything.
fn record(namelen: u32, name: &[u8]) -> Vec<u8> {
    let len = (24 + name.len()).div_ceil(8) * 8;
    Expected::new(len).at8(0, 7).at8(8, 9).at4(16, namelen).at(24, name).bytes().to_vec()
}

#[test]
fn records_that_the_kernel_refuses() {
    let good = record(1, b"a");
    let error = |bad: Vec<u8>| {
        let stream = [good.as_slice(), &bad, &good].concat();
        let mut reader = DirentReader::new(&stream);
        assert_eq!(reader.next().unwrap().unwrap().name, b"a");
        let DirentError { at, expected } = reader.next().unwrap().unwrap_err();
        assert_eq!((at, reader.next()), (32, None), "the stream goes on behind an error");
        expected
    };
    assert_eq!(error(record(0, b"")), Wanted::NotEmpty);
    assert_eq!(error(record(3, b"a/b")), Wanted::Name(NameError::Slash));
    let long = |found| Wanted::AtMost { expected: 4095, found };
    assert_eq!(error(record(4096, &[b'x'; 4096])), long(4096));
    // A wrong length counts even where no such record could fit.
    assert_eq!(error(record(u32::MAX, b"x")), long(u32::MAX.into()));
    let longest = record(4095, &[b'x'; 4095]);
    assert_eq!(DirentReader::new(&longest).next().unwrap().unwrap().name.len(), 4095);
    // Nobody looks for a NUL.
    assert_eq!(DirentReader::new(&record(2, b"a\0")).next().unwrap().unwrap().name, b"a\0");
}

#[test]
fn what_is_no_whole_record_is_ignored() {
    let stream = [record(1, b"a"), record(9, b"123456789")].concat();
    for len in 32..stream.len() {
        let mut reader = DirentReader::new(&stream[..len]);
        assert!(reader.next().unwrap().is_ok());
        assert_eq!(reader.next(), None, "{len} bytes");
        assert_eq!(reader.rest().len(), len - 32);
    }
    let plus = [vec![0; 128], record(1, b"a")].concat();
    for len in 0..plus.len() {
        assert_eq!(DirentPlusReader::new(&plus[..len]).next(), None, "{len} bytes");
    }
    let mut reader = DirentPlusReader::new(&plus);
    assert!(reader.next().unwrap().is_ok() && reader.rest().is_empty());
}

#[test]
fn look_ups_count_as_the_kernel_counts() {
    let look_up = |change: fn(&mut Entry), name: &[u8]| {
        let mut entry = entry();
        change(&mut entry);
        let mut out = [0; 200];
        let mut writer = DirentPlusWriter::new(&mut out);
        assert!(writer.add(Some(&entry), 1, 1, FileType(8), name));
        let len = writer.len();
        DirentPlusReader::new(&out[..len]).next().unwrap().unwrap().look_up()
    };
    assert_eq!(look_up(|_| {}, b"x"), LookUp::Counted(NodeId(42)));
    assert_eq!(look_up(|_| {}, b"."), LookUp::None);
    assert_eq!(look_up(|_| {}, b".."), LookUp::None);
    assert_eq!(look_up(|_| {}, b"..."), LookUp::Counted(NodeId(42)));
    assert_eq!(look_up(|it| it.nodeid = NodeId(0), b"x"), LookUp::None);
    assert_eq!(look_up(|it| it.nodeid = NodeId(1), b"x"), LookUp::GivenBack(NodeId(1)));
    assert_eq!(look_up(|it| it.attr.mode = Mode(0o644), b"x"), LookUp::GivenBack(NodeId(42)));
    assert_eq!(look_up(|it| it.attr.size = 1 << 63, b"x"), LookUp::GivenBack(NodeId(42)));
}

/// Every buffer up to three records long, with names of every length up to 17: what is written
/// are whole records, as many as fit, and they are read again. Miri, which is slow, takes three of
/// the lengths.
#[test]
fn every_small_size() {
    for name_len in (1..=17).step_by(if cfg!(miri) { 8 } else { 1 }) {
        let name = vec![b'n'; name_len];
        let whole = (24 + name_len).div_ceil(8) * 8;
        for room in 0..=3 * whole {
            let mut out = vec![0xee; room];
            let mut writer = DirentWriter::new(&mut out);
            let added = (1..=4).take_while(|&at| writer.add(at, at, FileType(8), &name)).count();
            let len = writer.len();
            assert_eq!((added, len), (room / whole, room / whole * whole));
            assert!(out[len..].iter().all(|&byte| byte == 0xee));
            let read: Vec<_> = DirentReader::new(&out[..len]).map(Result::unwrap).collect();
            assert_eq!(read.len(), added);
            assert!(read.iter().zip(1..).all(|(it, at)| it.name == name && it.ino == at));
        }
        let whole = (152 + name_len).div_ceil(8) * 8;
        for room in 0..=2 * whole {
            let mut out = vec![0xee; room];
            let mut writer = DirentPlusWriter::new(&mut out);
            let added =
                (1..=3).take_while(|&at| writer.add(None, at, at, FileType(8), &name)).count();
            let len = writer.len();
            assert_eq!((added, len), (room / whole, room / whole * whole));
            assert_eq!(DirentPlusReader::new(&out[..len]).filter(Result::is_ok).count(), added);
        }
    }
}

#[test]
fn a_record_that_does_not_fit_leaves_no_trace() {
    let mut out = [0xee; 63];
    let mut writer = DirentWriter::new(&mut out);
    assert!(writer.add(1, 1, FileType(4), b"a"));
    // 32 bytes are needed and 31 there.
    assert!(!writer.add(2, 2, FileType(4), b"b"));
    assert_eq!(writer.len(), 32);
    assert!(out[32..].iter().all(|&byte| byte == 0xee));

    let mut nothing = DirentWriter::new(&mut []);
    assert!(!nothing.add(1, 1, FileType(4), b"a"));
    assert!(nothing.is_empty());
}

#[test]
fn plus_records_open_with_an_entry() {
    let mut out = [0xee; 312];
    let mut writer = DirentPlusWriter::new(&mut out);
    assert!(writer.add(Some(&entry()), 77, 5, FileType(8), b"plus"));
    assert_eq!(writer.len(), 160);
    // 152 are left, and the least record needs 160.
    assert!(!writer.add(None, 1, 6, FileType(4), b"x"));
    assert_eq!(writer.len(), 160);
    assert!(out[160..].iter().all(|&byte| byte == 0xee));
    let expected = put_entry(Expected::new(160), 0)
        .at8(128, 77)
        .at8(136, 5)
        .at4(144, 4)
        .at4(148, 8)
        .at(152, b"plus");
    assert_eq!(out[..160], *expected.bytes());
    let mut reader = DirentPlusReader::new(expected.bytes());
    let read = reader.next().unwrap().unwrap();
    assert_eq!((read.entry, read.dirent.ino, read.dirent.next_offset), (Some(entry()), 77, 5));
    assert_eq!((read.dirent.kind, read.dirent.name), (FileType::REGULAR, b"plus".as_slice()));
    assert_eq!(reader.next(), None);
}

#[test]
fn plus_without_entry_has_nodeid_zero() {
    let mut out = [0xee; 160];
    let mut writer = DirentPlusWriter::new(&mut out);
    assert!(writer.add(None, 1, 6, FileType(4), b".."));
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
            if !writer.add(cookie + 100, cookie, FileType(8), name) {
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

    #[test]
    fn what_is_written_is_read(
        records in prop::collection::vec(
            (any::<(u64, u64, u32, u64)>(), prop::collection::vec(1_u8.., 1..40)),
            0..12,
        ),
    ) {
        let name = |bytes: &[u8]| -> Vec<u8> {
            bytes.iter().map(|&byte| if byte == b'/' { b'x' } else { byte }).collect()
        };
        let records: Vec<_> = records.into_iter().map(|(it, bytes)| (it, name(&bytes))).collect();
        let mut out = vec![0xee; 4096];
        let mut writer = DirentWriter::new(&mut out);
        for ((ino, next_offset, kind, _), name) in &records {
            prop_assert!(writer.add(*ino, *next_offset, FileType(*kind), name));
        }
        let len = writer.len();
        let read: Vec<_> = DirentReader::new(&out[..len]).map(Result::unwrap).collect();
        let written = records.iter().map(|((ino, next_offset, kind, _), name)| DirentRecord {
            ino: *ino,
            next_offset: *next_offset,
            kind: FileType(*kind),
            name,
        });
        let written: Vec<_> = written.collect();
        prop_assert_eq!(&read, &written);

        let entry = |nodeid| Entry { nodeid: NodeId(nodeid), ..entry() };
        let mut writer = DirentPlusWriter::new(&mut out);
        for ((ino, next_offset, kind, nodeid), name) in &records {
            let entry = entry(*nodeid);
            prop_assert!(writer.add(Some(&entry), *ino, *next_offset, FileType(*kind), name));
        }
        let len = writer.len();
        let read: Vec<_> = DirentPlusReader::new(&out[..len]).map(Result::unwrap).collect();
        prop_assert!(read.iter().map(|it| it.dirent).eq(written));
        let entries = records.iter().map(|((.., nodeid), _)| Some(entry(*nodeid)));
        let entries = entries.map(|it| it.filter(|it| it.nodeid != NodeId(0)));
        prop_assert!(read.iter().map(|it| it.entry).eq(entries));
    }
}
