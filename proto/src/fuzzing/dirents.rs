//! Directory streams: what was written is read, by hand by the layout of the C header.

use arbitrary::{Arbitrary, Unstructured};
use core::time::Duration;
use std::vec::Vec;

use super::oracle::number;
use crate::dirent::{DirentPlusWriter, DirentWriter};
use crate::reply::Entry;

/// A record to be written.
#[derive(Arbitrary, Debug)]
struct Record<'a> {
    nodeid: Option<u64>,
    valid: (u32, u32),
    ino: u64,
    offset: u64,
    kind: u32,
    name: &'a [u8],
}

/// Body of the target `dirents`: a buffer of any size, records of any kind.
pub fn dirents(data: &[u8]) {
    let mut input = Unstructured::new(data);
    let (Ok(len), Ok(plus)) = (input.int_in_range(0..=4096), bool::arbitrary(&mut input)) else {
        return;
    };
    let Ok(records) = Vec::<Record<'_>>::arbitrary(&mut input) else { return };
    let mut buffer = std::vec![0xa5; len];
    let (written, used) =
        if plus { write_plus(&records, &mut buffer) } else { write(&records, &mut buffer) };
    assert!(buffer[used..].iter().all(|&byte| byte == 0xa5), "written behind the end");
    let mut at = 0;
    for record in &written {
        at += record.stands_at(&buffer[at..used], plus);
    }
    assert_eq!(at, used, "bytes that belong to no record");
    refused_only_for_room(&records, written.len(), len - used, plus);
}

fn write<'a>(records: &'a [Record<'a>], buffer: &mut [u8]) -> (Vec<&'a Record<'a>>, usize) {
    let mut writer = DirentWriter::new(buffer);
    let mut add = |it: &&Record<'_>| writer.add(it.ino, it.offset, it.kind, it.name);
    let written: Vec<_> = records.iter().take_while(&mut add).collect();
    assert_eq!(writer.is_empty(), written.is_empty());
    (written, writer.len())
}

fn write_plus<'a>(records: &'a [Record<'a>], buffer: &mut [u8]) -> (Vec<&'a Record<'a>>, usize) {
    let mut writer = DirentPlusWriter::new(buffer);
    let mut add =
        |it: &&Record<'_>| writer.add(it.entry().as_ref(), it.ino, it.offset, it.kind, it.name);
    let written: Vec<_> = records.iter().take_while(&mut add).collect();
    assert_eq!(writer.is_empty(), written.is_empty());
    (written, writer.len())
}

/// The first record that was refused would not have fitted.
fn refused_only_for_room(records: &[Record<'_>], written: usize, room: usize, plus: bool) {
    if let Some(refused) = records.get(written) {
        assert!(refused.len(plus) > room, "refused with {room} bytes left: {refused:?}");
    }
}

impl Record<'_> {
    fn entry(&self) -> Option<Entry> {
        let nodeid = self.nodeid?.into();
        let (seconds, nanoseconds) = self.valid;
        let entry_valid = Duration::new(seconds.into(), nanoseconds % 1_000_000_000);
        Some(Entry { nodeid, entry_valid, ..Entry::default() })
    }

    /// Bytes of the record, padding included.
    fn len(&self, plus: bool) -> usize {
        (if plus { 152 } else { 24 } + self.name.len()).div_ceil(8) * 8
    }

    /// Compares the record with the bytes of `stream`, which it opens; gives its length.
    fn stands_at(&self, stream: &[u8], plus: bool) -> usize {
        let at = if plus { 128 } else { 0 };
        if plus {
            assert_eq!(number(stream, 0, 8), self.nodeid.unwrap_or(0), "nodeid");
            let (seconds, nanoseconds) = self.nodeid.map_or((0, 0), |_| self.valid);
            assert_eq!(number(stream, 16, 8), u64::from(seconds), "entry_valid");
            assert_eq!(number(stream, 32, 4), u64::from(nanoseconds % 1_000_000_000));
        }
        assert_eq!(number(stream, at, 8), self.ino, "ino");
        assert_eq!(number(stream, at + 8, 8), self.offset, "off");
        assert_eq!(number(stream, at + 16, 4), self.name.len() as u64, "namelen");
        assert_eq!(number(stream, at + 20, 4), u64::from(self.kind), "type");
        let (name, padding) = stream[at + 24..self.len(plus)].split_at(self.name.len());
        assert_eq!(name, self.name);
        assert!(padding.iter().all(|&byte| byte == 0), "padding");
        self.len(plus)
    }
}
