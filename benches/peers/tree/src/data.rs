//! The bytes of a file, in chunks.

use smallvec::SmallVec;

use crate::Result;

const CHUNK: usize = 1 << 20;
const PAGE: usize = 4096;
static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];

/// Chunks in order; each may be shorter than [`CHUNK`], and what follows is zero.
#[derive(Default)]
pub(crate) struct Data(Vec<Vec<u8>>);

/// The pieces of a READ, few of them as a rule.
pub(crate) type Pieces<'a> = SmallVec<[&'a [u8]; 4]>;

impl Data {
    pub(crate) fn pieces(&self, mut offset: u64, end: u64) -> Pieces<'_> {
        let mut pieces = Pieces::new();
        while offset < end {
            let place = (offset % CHUNK as u64) as usize;
            let most = ((end - offset) as usize).min(CHUNK - place);
            let chunk = self.0.get((offset / CHUNK as u64) as usize);
            let there = chunk.map_or(&[][..], |chunk| chunk.get(place..).unwrap_or(&[]));
            let piece = match there.len() {
                0 => &ZEROS[..most.min(ZEROS.len())],
                len => &there[..most.min(len)],
            };
            pieces.push(piece);
            offset += piece.len() as u64;
        }
        pieces
    }

    pub(crate) fn write(
        &mut self,
        offset: u64,
        len: usize,
        fill: &mut dyn FnMut(usize, &mut [u8]) -> Result<()>,
    ) -> Result<()> {
        let mut done = 0;
        while done < len {
            let at = offset + done as u64;
            let place = (at % CHUNK as u64) as usize;
            let piece = (len - done).min(CHUNK - place);
            let number = (at / CHUNK as u64) as usize;
            if self.0.len() <= number {
                self.0.resize_with(number + 1, Vec::new);
            }
            let chunk = &mut self.0[number];
            if chunk.len() < place + piece {
                let wanted = (place + piece).next_power_of_two().clamp(PAGE, CHUNK);
                if chunk.is_empty() {
                    *chunk = vec![0; wanted];
                } else {
                    chunk.resize(wanted, 0);
                }
            }
            fill(done, &mut chunk[place..place + piece])?;
            done += piece;
        }
        Ok(())
    }

    pub(crate) fn truncate(&mut self, size: u64) {
        let whole = (size / CHUNK as u64) as usize;
        self.0.truncate(whole + 1);
        if let Some(chunk) = self.0.get_mut(whole) {
            let keep = (size % CHUNK as u64) as usize;
            if keep < chunk.len() {
                chunk[keep..].fill(0);
            }
        }
    }
}
