//! What the one-file daemons of all peers have in common: the file.
//!
//! Each daemon under `bin/` serves a directory with one file, `data`, whose bytes lie in one
//! piece of memory. Nothing else differs but the library, so a paired run of `scripts/compare`
//! compares the libraries.

pub mod codec;

use std::time::Duration;

/// Bytes of the file.
pub const SIZE: usize = 256 << 20;
/// How long the kernel may keep attributes and entries.
pub const VALID: Duration = Duration::from_secs(3600);

/// The file's bytes: each depends on its place, so that a wrong offset shows.
#[must_use]
pub fn content() -> Vec<u8> {
    let mut bytes = Vec::with_capacity(SIZE);
    for word in 0..(SIZE / 8) as u64 {
        bytes.extend_from_slice(&word.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes());
    }
    bytes
}

/// The bytes of a READ: what lies in the file.
#[must_use]
pub fn range(offset: u64, size: u32) -> std::ops::Range<usize> {
    let start = usize::try_from(offset).unwrap_or(SIZE).min(SIZE);
    start..SIZE.min(start + size as usize)
}
