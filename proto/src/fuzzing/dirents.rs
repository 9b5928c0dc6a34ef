//! Directory streams: what was written is read, by the reader and by the layout of the C header;
//! what was read is written again.

use arbitrary::{Arbitrary, Unstructured};
use core::time::Duration;
use std::vec::Vec;

use super::again::{clamped, same};
use super::oracle::number;
use super::rules::walk;
use crate::dirent::{
    DirentPlusReader, DirentPlusRecord, DirentPlusWriter, DirentReader, DirentRecord, DirentWriter,
};
use crate::mode::FileType;
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

/// Body of the target `dirents`: any stream; a buffer of any size, and records of any kind.
pub fn dirents(data: &[u8]) {
    read(data, false);
    read(data, true);
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
    let is_valid =
        |it: &&Record<'_>| (1..=4095).contains(&it.name.len()) && !it.name.contains(&b'/');
    let valid = written.iter().copied().take_while(is_valid);
    let expected: Vec<_> = valid.map(|it| it.as_read(plus)).collect();
    assert_eq!(read(&buffer[..used], plus), expected, "what is read is not what was written");
    refused_only_for_room(&records, written.len(), len - used, plus);
}

/// Reads a stream as the kernel does, and writes its records again: they give the same bytes.
fn read(stream: &[u8], plus: bool) -> Vec<DirentPlusRecord<'_>> {
    let (found, rest): (Vec<_>, _) = if plus {
        let mut reader = DirentPlusReader::new(stream);
        (reader.by_ref().collect(), reader.rest())
    } else {
        let mut reader = DirentReader::new(stream);
        let plain = |dirent| DirentPlusRecord { entry: None, dirent };
        (reader.by_ref().map(|it| it.map(plain)).collect(), reader.rest())
    };
    let error = found.last().and_then(|it| it.err()).map(|it| it.at);
    let records: Vec<_> = found.iter().filter_map(|it| it.ok()).collect();
    assert_eq!(records.len() + usize::from(error.is_some()), found.len(), "on behind an error");
    let before = if plus { 128 } else { 0 };
    let end = stream.len() - rest.len();
    assert_eq!((end, error), walk(stream, before));

    let again = write_again(&records, end, plus);
    let mut at = 0;
    for record in &records {
        let (old, new) = (&stream[at..], &again[at..]);
        let is_nothing = plus && number(old, 0, 8) == 0;
        let name = if plus { "fuse_direntplus" } else { "fuse_dirent" };
        let fixed = before + 24;
        same(name, old, new, |label, value| match label {
            label if is_nothing && label.starts_with("entry_out.") => 0,
            label => clamped(label, value),
        });
        let end = fixed + record.dirent.name.len();
        assert_eq!(old[fixed..end], new[fixed..end], "name");
        let next = end.next_multiple_of(8);
        assert!(new[end..next].iter().all(|&byte| byte == 0), "padding");
        at += next;
    }
    records
}

/// Writes records that were read, into room for just these.
fn write_again(records: &[DirentPlusRecord<'_>], room: usize, plus: bool) -> Vec<u8> {
    let mut buffer = std::vec![0xa5; room];
    let used = if plus {
        let mut writer = DirentPlusWriter::new(&mut buffer);
        let add = |DirentPlusRecord { entry, dirent: it }: &DirentPlusRecord<'_>| {
            writer.add(entry.as_ref(), it.ino, it.next_offset, it.kind, it.name)
        };
        assert!(records.iter().all(add), "what was read has no room");
        writer.len()
    } else {
        let mut writer = DirentWriter::new(&mut buffer);
        let add = |DirentPlusRecord { dirent: it, .. }: &DirentPlusRecord<'_>| {
            writer.add(it.ino, it.next_offset, it.kind, it.name)
        };
        assert!(records.iter().all(add), "what was read has no room");
        writer.len()
    };
    assert_eq!(used, room);
    buffer
}

fn write<'a>(records: &'a [Record<'a>], buffer: &mut [u8]) -> (Vec<&'a Record<'a>>, usize) {
    let mut writer = DirentWriter::new(buffer);
    let mut add = |it: &&Record<'_>| writer.add(it.ino, it.offset, FileType(it.kind), it.name);
    let written: Vec<_> = records.iter().take_while(&mut add).collect();
    assert_eq!(writer.is_empty(), written.is_empty());
    (written, writer.len())
}

fn write_plus<'a>(records: &'a [Record<'a>], buffer: &mut [u8]) -> (Vec<&'a Record<'a>>, usize) {
    let mut writer = DirentPlusWriter::new(buffer);
    let mut add = |it: &&Record<'_>| {
        writer.add(it.entry().as_ref(), it.ino, it.offset, FileType(it.kind), it.name)
    };
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

impl<'a> Record<'a> {
    /// The record as a reader gives it: nodeid 0 is no entry.
    fn as_read(&self, plus: bool) -> DirentPlusRecord<'a> {
        let Self { ino, offset: next_offset, name, .. } = *self;
        let kind = FileType(self.kind);
        let entry = self.entry().filter(|entry| plus && entry.nodeid.0 != 0);
        DirentPlusRecord { entry, dirent: DirentRecord { ino, next_offset, kind, name } }
    }

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
