//! One run of a file's bytes.
//!
//! A chunk covers 64 KiB of the file. Its buffer is as long as it had to be (small files stay
//! small), and a bit per page says which pages were ever written, so that holes are known to 4 KiB.
//! Chunks are behind `Arc`: a READ hands them out as they are, and a writer that finds one handed
//! out copies it first, so nobody ever sees bytes change under a reply.
//!
//! Never known here: where in the file it lies. Neighbour: `data`.

use std::ops::Range;
use std::sync::Arc;

/// Bytes of the file that one chunk covers.
pub(crate) const CHUNK: usize = 64 * 1024;
pub(crate) const PAGE: usize = 4096;

/// The bytes, and which pages of them are data.
#[derive(Debug)]
pub(crate) struct Chunk {
    /// Shorter than [`CHUNK`] if what follows was never written; whole pages.
    pub(crate) bytes: Vec<u8>,
    /// Bit i: page i was written or reserved.
    pub(crate) present: u16,
}

impl Chunk {
    /// Makes the buffer at most `len` bytes long; returns how many bytes became free.
    pub(crate) fn cut(&mut self, len: usize) -> u64 {
        let free = self.bytes.len().saturating_sub(len);
        if free > 0 {
            self.bytes.truncate(len);
            self.bytes.shrink_to_fit();
        }
        free as u64
    }
}

impl AsRef<[u8]> for Chunk {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

const _: () = assert!(CHUNK / PAGE == u16::BITS as usize);

/// Bits of the pages that `range` touches.
pub(crate) fn touched(range: &Range<usize>) -> u16 {
    pages(range.start / PAGE, range.end.div_ceil(PAGE))
}

/// Bits of the pages that lie wholly in `range`.
pub(crate) fn covered(range: &Range<usize>) -> u16 {
    pages(range.start.div_ceil(PAGE), range.end / PAGE)
}

/// Bits of the pages from `first` up to `end`.
pub(crate) fn pages(first: usize, end: usize) -> u16 {
    let below = |page: usize| u16::try_from((1_u32 << page) - 1).unwrap_or(u16::MAX);
    if first < end { below(end) & !below(first) } else { 0 }
}

/// A new buffer of `len` bytes with `data` at `range.start`: nothing is written twice.
pub(crate) fn fresh(len: usize, range: &Range<usize>, data: &[u8]) -> Vec<u8> {
    if data.is_empty() {
        return vec![0; len];
    }
    let mut bytes = Vec::with_capacity(len);
    bytes.resize(range.start, 0);
    bytes.extend_from_slice(data);
    bytes.resize(len, 0);
    bytes
}

/// The chunk, for writing, at least `len` bytes long; copied first if a reply still uses it.
pub(crate) fn unshared(shared: &mut Arc<Chunk>, len: usize) -> &mut Chunk {
    if Arc::get_mut(shared).is_none() {
        let mut bytes = Vec::with_capacity(len);
        bytes.extend_from_slice(&shared.bytes);
        *shared = Arc::new(Chunk { bytes, present: shared.present });
    }
    let chunk = Arc::get_mut(shared).expect("a new chunk is nobody else's");
    if chunk.bytes.len() < len {
        chunk.bytes.reserve_exact(len - chunk.bytes.len());
        chunk.bytes.resize(len, 0);
    }
    chunk
}
