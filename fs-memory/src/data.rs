//! The data of one file: a sparse map of chunks.
//!
//! Never known here: names, times, permissions. Neighbours: `chunk` has the bytes, `limits` counts
//! the buffers, `node` keeps the data behind its lock.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use fusewire::proto::{Errno, Result};

use crate::chunk::{CHUNK, Chunk, PAGE, covered, fresh, pages, touched, unshared};
use crate::limits::{Lease, Limits};

/// The largest file: what the kernel's `loff_t` holds.
pub(crate) const SIZE_MAX: u64 = i64::MAX as u64;

/// A part of the data, for a reader.
#[derive(Debug)]
pub(crate) enum Piece<'a> {
    /// Bytes of a chunk.
    Bytes(&'a Arc<Chunk>, Range<usize>),
    /// So many zeros.
    Hole(usize),
}

/// A file's data.
#[derive(Debug)]
pub(crate) struct Data {
    size: u64,
    chunks: BTreeMap<u64, Arc<Chunk>>,
    /// Pages that are present, of all chunks.
    pages: u64,
    lease: Lease,
}

/// Where `offset` lies in the chunk that begins at `base`; before and behind it: at its ends.
fn place(offset: u64, base: u64) -> usize {
    usize::try_from(offset.saturating_sub(base)).map_or(CHUNK, |place| place.min(CHUNK))
}

/// Splits the range of a file into chunk numbers and ranges within them.
fn split(offset: u64, len: u64) -> impl Iterator<Item = (u64, Range<usize>)> {
    let end = offset.saturating_add(len);
    let chunk = CHUNK as u64;
    let mut at = offset;
    std::iter::from_fn(move || {
        if at >= end {
            return None;
        }
        let number = at / chunk;
        let next = (number + 1).saturating_mul(chunk).min(end);
        let start = place(at, number * chunk);
        let stop = place(next, number * chunk);
        at = next;
        Some((number, start..stop))
    })
}

impl Data {
    pub(crate) fn new(limits: &Arc<Limits>) -> Self {
        Self { size: 0, chunks: BTreeMap::new(), pages: 0, lease: Lease::new(limits) }
    }

    /// Length of the file in bytes.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// Space used, in units of 512 bytes.
    pub(crate) fn blocks(&self) -> u64 {
        self.pages * (PAGE as u64 / 512)
    }

    /// Counts that the pages of a chunk were `before` and are `after`.
    fn recount(&mut self, before: u16, after: u16) {
        self.pages = self.pages + u64::from(after.count_ones()) - u64::from(before.count_ones());
    }

    /// Calls `piece` for each part of up to `len` bytes from `offset` on, to the end of the file.
    pub(crate) fn read<'a>(&'a self, offset: u64, len: u64, mut piece: impl FnMut(Piece<'a>)) {
        let len = len.min(self.size.saturating_sub(offset));
        for (number, range) in split(offset, len) {
            let Some(chunk) = self.chunks.get(&number) else {
                piece(Piece::Hole(range.len()));
                continue;
            };
            let stop = range.end.min(chunk.bytes.len()).max(range.start);
            if range.start < stop {
                piece(Piece::Bytes(chunk, range.start..stop));
            }
            if stop < range.end {
                piece(Piece::Hole(range.end - stop));
            }
        }
    }

    /// Writes as much of `data` at `offset` as there is room for, from its start.
    ///
    /// # Errors
    /// EFBIG beyond the largest file, ENOSPC if nothing could be written.
    pub(crate) fn write(&mut self, offset: u64, data: &[u8]) -> Result<usize> {
        offset.checked_add(data.len() as u64).filter(|end| *end <= SIZE_MAX).ok_or(Errno::EFBIG)?;
        let mut done = 0;
        for (number, range) in split(offset, data.len() as u64) {
            let next = done + range.len();
            match self.put(number, range, Some(&data[done..next])) {
                Ok(()) => done = next,
                Err(errno) if done == 0 => return Err(errno),
                Err(_) => break,
            }
        }
        self.size = self.size.max(offset + done as u64);
        Ok(done)
    }

    /// Puts `data` (or nothing: room only) into a chunk.
    fn put(&mut self, number: u64, range: Range<usize>, data: Option<&[u8]>) -> Result<()> {
        let needed = range.end.next_power_of_two().clamp(PAGE, CHUNK);
        let old_len = self.chunks.get(&number).map_or(0, |chunk| chunk.bytes.len());
        if needed > old_len {
            self.lease.grow((needed - old_len) as u64)?;
        }
        let touched = touched(&range);
        let before = match self.chunks.get_mut(&number) {
            None => {
                let bytes = fresh(needed, &range, data.unwrap_or(&[]));
                self.chunks.insert(number, Arc::new(Chunk { bytes, present: touched }));
                0
            }
            Some(shared) => {
                let chunk = unshared(shared, needed.max(old_len));
                if let Some(data) = data {
                    chunk.bytes[range].copy_from_slice(data);
                }
                let before = chunk.present;
                chunk.present |= touched;
                before
            }
        };
        self.recount(before, before | touched);
        Ok(())
    }

    /// Sets the size; what lies beyond is gone, what is new reads as zeros.
    pub(crate) fn truncate(&mut self, size: u64) -> Result<()> {
        if size > SIZE_MAX {
            return Err(Errno::EFBIG);
        }
        if size < self.size {
            let first = size.div_ceil(CHUNK as u64);
            for chunk in self.chunks.split_off(&first).into_values() {
                self.lease.shrink(chunk.bytes.len() as u64);
                self.recount(chunk.present, 0);
            }
            let number = size / CHUNK as u64;
            let start = place(size, number * CHUNK as u64);
            if start > 0 {
                self.clear(number, start..CHUNK);
            }
        }
        self.size = size;
        Ok(())
    }

    /// Makes a range of a chunk read as zeros and frees the pages that lie wholly in it.
    fn clear(&mut self, number: u64, range: Range<usize>) {
        let Some(shared) = self.chunks.get_mut(&number) else { return };
        let before = shared.present;
        let left = before & !covered(&range);
        if left == 0 {
            self.lease.shrink(shared.bytes.len() as u64);
            self.chunks.remove(&number);
            return self.recount(before, 0);
        }
        let len = shared.bytes.len();
        let chunk = unshared(shared, len);
        chunk.present = left;
        let stop = range.end.min(len);
        if range.start < stop {
            chunk.bytes[range.start..stop].fill(0);
        }
        // Room behind the last page that is left goes back at once; gaps within go with the chunk.
        let keep = (u16::BITS - left.leading_zeros()) as usize * PAGE;
        self.lease.shrink(chunk.cut(keep));
        self.recount(before, left);
    }

    /// Makes a range read as zeros without giving room back; what has no room is a hole anyway.
    pub(crate) fn zero(&mut self, offset: u64, len: u64) {
        let end = offset.saturating_add(len);
        let numbers = offset / CHUNK as u64..=end.saturating_sub(1) / CHUNK as u64;
        for (number, shared) in self.chunks.range_mut(numbers) {
            let base = number * CHUNK as u64;
            let len = shared.bytes.len();
            let range = place(offset, base).min(len)..place(end, base).min(len);
            unshared(shared, len).bytes[range].fill(0);
        }
    }

    /// Makes a range read as zeros and gives its room back; the size stays.
    pub(crate) fn punch(&mut self, offset: u64, len: u64) {
        let end = offset.saturating_add(len);
        let first = offset / CHUNK as u64;
        let last = end.saturating_sub(1) / CHUNK as u64;
        // Only chunks that exist: the range may be as long as the largest file.
        let numbers: Vec<u64> =
            self.chunks.range(first..=last).map(|(number, _)| *number).collect();
        for number in numbers {
            let base = number * CHUNK as u64;
            self.clear(number, place(offset, base)..place(end, base));
        }
    }

    /// Reserves room for a range, without changing what it reads as; the size stays.
    ///
    /// # Errors
    /// EFBIG, ENOSPC; then nothing is reserved.
    pub(crate) fn reserve(&mut self, offset: u64, len: u64) -> Result<()> {
        let end = offset.checked_add(len).filter(|end| *end <= SIZE_MAX).ok_or(Errno::EFBIG)?;
        // A range beyond all that is free fails at once, not chunk by chunk.
        let held: u64 = self
            .chunks
            .range(offset / CHUNK as u64..=(end - 1) / CHUNK as u64)
            .map(|(_, chunk)| chunk.bytes.len() as u64)
            .sum();
        let wanted = len.saturating_sub(held.saturating_add(2 * CHUNK as u64));
        self.lease.grow(wanted)?;
        self.lease.shrink(wanted);
        let mut made = Vec::new();
        for (number, range) in split(offset, len) {
            let before = self.chunks.get(&number).map(|one| (one.present, one.bytes.len()));
            if let Err(errno) = self.put(number, range, None) {
                for (number, before) in made {
                    self.unreserve(number, before);
                }
                return Err(errno);
            }
            made.push((number, before));
        }
        Ok(())
    }

    fn unreserve(&mut self, number: u64, before: Option<(u16, usize)>) {
        let Some(shared) = self.chunks.get_mut(&number) else { return };
        let now = shared.present;
        match before {
            Some((present, len)) => {
                let chunk = unshared(shared, len);
                chunk.present = present;
                self.lease.shrink(chunk.cut(len));
            }
            None => {
                self.lease.shrink(shared.bytes.len() as u64);
                self.chunks.remove(&number);
            }
        }
        self.recount(now, before.map_or(0, |(present, _)| present));
    }

    /// Makes the file at least so long.
    pub(crate) fn extend_to(&mut self, size: u64) {
        self.size = self.size.max(size);
    }

    /// The first byte of data at or behind `offset`, if there is any.
    pub(crate) fn seek_data(&self, offset: u64) -> Option<u64> {
        if offset >= self.size {
            return None;
        }
        for (number, chunk) in self.chunks.range(offset / CHUNK as u64..) {
            let base = number * CHUNK as u64;
            let from = place(offset, base) / PAGE;
            let present = chunk.present & pages(from, CHUNK / PAGE);
            if present != 0 {
                let page = u64::from(present.trailing_zeros());
                let found = (base + page * PAGE as u64).max(offset);
                return (found < self.size).then_some(found);
            }
        }
        None
    }

    /// The first byte of a hole at or behind `offset`: at most the size. None beyond the end.
    pub(crate) fn seek_hole(&self, offset: u64) -> Option<u64> {
        if offset >= self.size {
            return None;
        }
        let mut at = offset;
        while at < self.size {
            let number = at / CHUNK as u64;
            let base = number * CHUNK as u64;
            let Some(chunk) = self.chunks.get(&number) else { return Some(at) };
            let from = place(at, base) / PAGE;
            let absent = !chunk.present & pages(from, CHUNK / PAGE);
            if absent != 0 {
                let page = u64::from(absent.trailing_zeros());
                return Some((base + page * PAGE as u64).max(at).min(self.size));
            }
            at = base + CHUNK as u64;
        }
        Some(self.size)
    }
}

#[cfg(test)]
#[allow(clippy::cast_possible_truncation, reason = "offsets here are small")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FILE: u64 = 400_000;

    #[derive(Clone, Debug)]
    enum Step {
        Write(u64, usize, u8),
        Truncate(u64),
        Punch(u64, u64),
        Reserve(u64, u64),
        Zero(u64, u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        let at = 0..FILE;
        prop_oneof![
            (at.clone(), 1..150_000_usize, 1..=255_u8)
                .prop_map(|(at, len, byte)| Step::Write(at, len, byte)),
            at.clone().prop_map(Step::Truncate),
            (at.clone(), 1..150_000_u64).prop_map(|(at, len)| Step::Punch(at, len)),
            (at.clone(), 1..150_000_u64).prop_map(|(at, len)| Step::Reserve(at, len)),
            (at, 1..150_000_u64).prop_map(|(at, len)| Step::Zero(at, len)),
        ]
    }

    fn bytes(data: &Data, offset: u64, len: u64) -> Vec<u8> {
        let mut all = Vec::new();
        data.read(offset, len, |piece| match piece {
            Piece::Bytes(chunk, range) => all.extend_from_slice(&chunk.bytes[range]),
            Piece::Hole(len) => all.resize(all.len() + len, 0),
        });
        all
    }

    proptest! {
        #[test]
        fn behaves_like_a_plain_vector(steps in prop::collection::vec(step(), 1..40)) {
            let limits = Limits::new(u64::MAX, 1);
            let mut data = Data::new(&limits);
            let mut model: Vec<u8> = Vec::new();
            for step in steps {
                match step {
                    Step::Write(at, len, byte) => {
                        let start = at as usize;
                        model.resize(model.len().max(start + len), 0);
                        model[start..start + len].fill(byte);
                        prop_assert_eq!(data.write(at, &vec![byte; len]), Ok(len));
                    }
                    Step::Truncate(size) => {
                        model.resize(size as usize, 0);
                        data.truncate(size).unwrap();
                    }
                    Step::Punch(at, len) => {
                        let end = model.len().min((at + len) as usize);
                        let start = end.min(at as usize);
                        model[start..end].fill(0);
                        data.punch(at, len);
                    }
                    Step::Reserve(at, len) => data.reserve(at, len).unwrap(),
                    Step::Zero(at, len) => {
                        let end = model.len().min((at + len) as usize);
                        model[end.min(at as usize)..end].fill(0);
                        data.zero(at, len);
                    }
                }
                prop_assert_eq!(data.size(), model.len() as u64);
                let room: usize = data.chunks.values().map(|chunk| chunk.bytes.len()).sum();
                prop_assert_eq!(limits.bytes().1, room as u64);
                let present = data.chunks.values().map(|chunk| chunk.present.count_ones());
                prop_assert_eq!(data.blocks(), u64::from(present.sum::<u32>()) * 8);
            }
            prop_assert!(bytes(&data, 0, u64::MAX) == model);
            // What is called a hole reads as zeros, and data and holes take turns to the end.
            let mut at = 0;
            while let Some(hole) = data.seek_hole(at) {
                let next = data.seek_data(hole).unwrap_or(data.size());
                prop_assert!(model[hole as usize..next as usize].iter().all(|byte| *byte == 0));
                prop_assert!(next > at);
                at = next;
            }
            drop(data);
            prop_assert_eq!(limits.bytes().1, 0);
        }
    }

    #[test]
    fn a_reader_keeps_what_it_was_given() {
        let mut data = Data::new(&Limits::new(u64::MAX, 1));
        data.write(0, &[1; CHUNK]).unwrap();
        let mut kept = None;
        data.read(0, 10, |piece| {
            if let Piece::Bytes(chunk, _) = piece {
                kept = Some(Arc::clone(chunk));
            }
        });
        data.write(0, &[2; CHUNK]).unwrap();
        assert_eq!(kept.unwrap().bytes[0], 1);
        assert_eq!(bytes(&data, 0, 1), [2]);
    }

    #[test]
    fn room_is_counted_and_a_short_write_says_so() {
        let limits = Limits::new(3 * CHUNK as u64, 1);
        let mut data = Data::new(&limits);
        assert_eq!(data.write(0, &[1; 4 * CHUNK]), Ok(3 * CHUNK));
        assert_eq!(data.write(3 * CHUNK as u64, &[1]), Err(Errno::ENOSPC));
        assert_eq!(data.size(), 3 * CHUNK as u64);
        assert_eq!(data.blocks(), 3 * 128);
        data.punch(CHUNK as u64, CHUNK as u64);
        assert_eq!(data.seek_hole(0), Some(CHUNK as u64));
        assert_eq!(data.reserve(4 * CHUNK as u64, 2 * CHUNK as u64), Err(Errno::ENOSPC));
        assert_eq!(limits.bytes().1, 2 * CHUNK as u64, "nothing stays reserved");
        assert_eq!(data.write(SIZE_MAX, &[1]), Err(Errno::EFBIG));
    }

    #[test]
    fn what_is_cut_off_gives_its_room_back() {
        let limits = Limits::new(4 * CHUNK as u64, 1);
        let mut data = Data::new(&limits);
        data.write(0, &[1; CHUNK]).unwrap();
        data.truncate(1).unwrap();
        assert_eq!(limits.bytes().1, PAGE as u64);
        // Too much for the limit, but not at first sight: what was taken on the way returns.
        data.write(CHUNK as u64, &[1; 10]).unwrap();
        let before = limits.bytes().1;
        let more = 4 * CHUNK as u64 + 1;
        assert_eq!(data.reserve(0, more), Err(Errno::ENOSPC));
        assert_eq!(limits.bytes().1, before);
        assert_eq!(bytes(&data, 0, 2), [1, 0]);
    }

    #[test]
    fn small_files_take_one_page() {
        let limits = Limits::new(u64::MAX, 1);
        let mut data = Data::new(&limits);
        data.write(0, b"small").unwrap();
        assert_eq!((limits.bytes().1, data.blocks()), (4096, 8));
        data.write(1 << 40, b"far").unwrap();
        assert_eq!(limits.bytes().1, 8192);
        assert_eq!(data.seek_data(5000), Some(1 << 40));
    }
}
