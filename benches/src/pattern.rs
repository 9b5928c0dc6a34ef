//! What stands in the files: every word depends on its place and on who wrote it, so that a page
//! that is stale, from elsewhere or zero shows.
//!
//! The first and the last word of a page depend on the page's place in the file, those between on
//! their place in the page. So a buffer is filled once and only stamped for each request.

/// Bytes of a page.
pub const PAGE: usize = 4096;
const WORD: usize = 8;
const WORDS: usize = PAGE / WORD;

/// Who wrote a page: 0 for what was there first, a number for each round of writing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seed(pub u64);

fn mix(index: u64, seed: Seed) -> u64 {
    let mixed = (index ^ seed.0.wrapping_mul(0xd6e8_feb8_6659_fd93)).wrapping_add(1);
    mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29)
}

fn stamp_at(page: u64, word: usize, seed: Seed) -> u64 {
    mix(page * WORDS as u64 + word as u64, Seed(!seed.0))
}

fn is_stamp(word: usize) -> bool {
    word == 0 || word == WORDS - 1
}

fn expected(page: u64, word: usize, seed: Seed) -> u64 {
    if is_stamp(word) { stamp_at(page, word, seed) } else { mix(word as u64, seed) }
}

/// Fills whole pages as if they lay at `offset`, a multiple of [`PAGE`].
pub fn fill(bytes: &mut [u8], offset: u64, seed: Seed) {
    for page in bytes.chunks_exact_mut(PAGE) {
        for (word, bytes) in page.chunks_exact_mut(WORD).enumerate().skip(1) {
            bytes.copy_from_slice(&mix(word as u64, seed).to_le_bytes());
        }
    }
    stamp(bytes, offset, seed);
}

/// Moves filled pages to another offset.
pub fn stamp(bytes: &mut [u8], offset: u64, seed: Seed) {
    let first = offset / PAGE as u64;
    for (page, bytes) in (first..).zip(bytes.chunks_exact_mut(PAGE)) {
        for word in [0, WORDS - 1] {
            let place = word * WORD..(word + 1) * WORD;
            bytes[place].copy_from_slice(&stamp_at(page, word, seed).to_le_bytes());
        }
    }
}

fn word_of(page: &[u8], word: usize) -> u64 {
    let bytes = page[word * WORD..(word + 1) * WORD].try_into();
    u64::from_le_bytes(bytes.unwrap_or_default())
}

fn wrong(page: u64, word: usize, found: u64) -> String {
    let offset = page * PAGE as u64 + (word * WORD) as u64;
    format!("wrong data at offset {offset}: {found:016x}")
}

/// Looks at three words of each page: both stamps and one that `turn` chooses. Each may be of any
/// of the seeds, as pages are torn where one request reads what another writes.
///
/// # Errors
/// Where a word is of none of them.
pub fn glance(bytes: &[u8], offset: u64, seeds: &[Seed], turn: usize) -> Result<(), String> {
    let first = offset / PAGE as u64;
    for (page, bytes) in (first..).zip(bytes.chunks_exact(PAGE)) {
        for word in [0, 1 + turn % (WORDS - 2), WORDS - 1] {
            let found = word_of(bytes, word);
            if !seeds.iter().any(|seed| expected(page, word, *seed) == found) {
                return Err(wrong(page, word, found));
            }
        }
    }
    Ok(())
}

/// Looks at every byte of a page; says who wrote it.
///
/// # Errors
/// Where that is none of `seeds`, or not one alone.
pub fn writer_of(bytes: &[u8], page: u64, seeds: &[Seed]) -> Result<Seed, String> {
    let first = word_of(bytes, 0);
    let writer = seeds.iter().find(|seed| stamp_at(page, 0, **seed) == first);
    let writer = *writer.ok_or_else(|| wrong(page, 0, first))?;
    for word in 1..WORDS {
        let found = word_of(bytes, word);
        if found != expected(page, word, writer) {
            return Err(wrong(page, word, found));
        }
    }
    Ok(writer)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: Seed = Seed(0);
    const NEW: Seed = Seed(1);

    fn pages(count: usize, offset: u64, seed: Seed) -> Vec<u8> {
        let mut bytes = vec![0; count * PAGE];
        fill(&mut bytes, offset, seed);
        bytes
    }

    #[test]
    fn stamping_is_filling() {
        let mut moved = pages(3, 0, NEW);
        stamp(&mut moved, 7 * PAGE as u64, NEW);
        assert_eq!(moved, pages(3, 7 * PAGE as u64, NEW));
        assert_ne!(moved, pages(3, 0, NEW));
    }

    #[test]
    fn every_wrong_byte_is_noticed() {
        let right = pages(1, 0, OLD);
        assert_eq!(writer_of(&right, 0, &[NEW, OLD]), Ok(OLD));
        for place in 0..PAGE {
            let mut bytes = right.clone();
            bytes[place] ^= 1;
            let why = writer_of(&bytes, 0, &[NEW, OLD]).unwrap_err();
            let word = place / WORD * WORD;
            assert!(why.contains(&format!("offset {word}:")), "{place}: {why}");
        }
    }

    #[test]
    fn pages_from_elsewhere_of_another_time_and_torn_ones_are_wrong() {
        assert!(writer_of(&pages(1, PAGE as u64, OLD), 0, &[OLD]).is_err(), "of another place");
        assert!(writer_of(&pages(1, 0, OLD), 0, &[NEW]).is_err(), "stale");
        assert!(writer_of(&[0; PAGE], 0, &[OLD, NEW]).is_err(), "zero");
        let mut torn = pages(1, 0, OLD);
        torn[PAGE / 2..].copy_from_slice(&pages(1, 0, NEW)[PAGE / 2..]);
        assert!(writer_of(&torn, 0, &[OLD, NEW]).is_err(), "torn");
        assert!(glance(&torn, 0, &[OLD, NEW], 5).is_ok(), "which may be while it is written");
    }

    #[test]
    fn a_glance_sees_stamps_and_the_word_of_its_turn() {
        let right = pages(2, 0, OLD);
        for (place, turn) in [(0, 3), (PAGE - 1, 3), (PAGE, 3), (4 * WORD, 3), (PAGE + 9 * WORD, 8)]
        {
            let mut bytes = right.clone();
            bytes[place] ^= 0x80;
            assert!(glance(&bytes, 0, &[OLD], turn).is_err(), "{place}");
        }
        assert!(glance(&right, 0, &[OLD], 1000).is_ok());
    }
}
