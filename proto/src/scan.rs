//! Where a string ends: the search for NUL and `/`, eight bytes at a time.
//!
//! Every name that the kernel sends passes through here, so this is where decoding would spend
//! its time. Words are read as little-endian, whatever the host, so that the lowest flag belongs
//! to the first byte. Nothing here knows a message; the callers are `cursor` and
//! [`Name`](crate::types::Name).

/// A byte of ones in each place.
const ONES: u64 = u64::from_le_bytes([0x01; 8]);
/// The highest bit of each byte.
const HIGH: u64 = u64::from_le_bytes([0x80; 8]);
const SLASHES: u64 = u64::from_le_bytes([b'/'; 8]);

/// Position of the first NUL, or the length if there is none.
pub(crate) fn find_nul(bytes: &[u8]) -> usize {
    find(bytes, zeros)
}

/// Position of the first byte that cannot be in a name, NUL or `/`; or the length.
#[inline(always)]
pub(crate) fn find_nul_or_slash(bytes: &[u8]) -> usize {
    find(bytes, |word| zeros(word) | zeros(word ^ SLASHES))
}

/// Flags zero bytes by their highest bit. A byte of 1 right above one may be flagged too, so
/// only the lowest flag is to be trusted.
const fn zeros(word: u64) -> u64 {
    word.wrapping_sub(ONES) & !word & HIGH
}

/// Position of the first byte that `flags` flags, or the length; zero bytes must be flagged.
#[inline(always)]
fn find(bytes: &[u8], flags: impl Fn(u64) -> u64) -> usize {
    let Some(last) = bytes.last_chunk::<8>() else {
        // The zeros behind a short string are flagged, at its length or later.
        return first(flags(short_word(bytes))).min(bytes.len());
    };
    let mut rest = bytes;
    while let Some((word, behind)) = rest.split_first_chunk::<8>() {
        let flags = flags(u64::from_le_bytes(*word));
        if flags != 0 {
            return bytes.len().wrapping_sub(rest.len()).wrapping_add(first(flags));
        }
        rest = behind;
    }
    // The last word begins with bytes that are already known to be unflagged. Without any flag
    // its length is what is found.
    bytes.len().wrapping_sub(8).wrapping_add(first(flags(u64::from_le_bytes(*last))))
}

/// The byte that the lowest flag stands for, or 8 without any.
const fn first(flags: u64) -> usize {
    (flags.trailing_zeros() >> 3) as usize
}

/// Up to 7 bytes as a word, with zeros above. Halves may overlap: they agree where they do.
#[inline(always)]
fn short_word(bytes: &[u8]) -> u64 {
    let shift = |width: usize| (bytes.len().wrapping_sub(width) & 7) << 3;
    if let (Some(low), Some(high)) = (bytes.first_chunk(), bytes.last_chunk::<4>()) {
        u64::from(u32::from_le_bytes(*low)) | u64::from(u32::from_le_bytes(*high)) << shift(4)
    } else if let (Some(low), Some(high)) = (bytes.first_chunk(), bytes.last_chunk::<2>()) {
        u64::from(u16::from_le_bytes(*low)) | u64::from(u16::from_le_bytes(*high)) << shift(2)
    } else {
        bytes.first().map_or(0, |&byte| u64::from(byte))
    }
}

#[cfg(test)]
#[allow(clippy::indexing_slicing, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn the_first_one_is_found_wherever_it_stands() {
        // Two words and a part of one are enough for Miri, which is slow.
        let longest = if cfg!(miri) { 20 } else { 40 };
        // Neighbours that a borrow or a sign could take for a hit.
        for filler in [0x01, 0x80, 0xff, b'.', b'0', 0x2f ^ 0x01, 0x2f ^ 0x80, b'n'] {
            for len in 0..=longest {
                let mut bytes = std::vec![filler; len];
                assert_eq!((find_nul(&bytes), find_nul_or_slash(&bytes)), (len, len));
                for at in (0..len).rev() {
                    bytes[at] = b'/';
                    assert_eq!(find_nul_or_slash(&bytes), at, "{bytes:?}");
                    assert_eq!(find_nul(&bytes[..at + 1]), at + 1, "{bytes:?}");
                    bytes[at] = 0;
                    assert_eq!(find_nul(&bytes), at, "{bytes:?}");
                    assert_eq!(find_nul_or_slash(&bytes), at, "{bytes:?}");
                    bytes[at..].fill(1);
                    bytes[at] = 0;
                    assert_eq!(find_nul(&bytes), at, "{bytes:?}");
                }
            }
        }
    }
}
