//! Bodies of the fuzz targets: what must hold for any bytes whatever.
//!
//! Each function takes raw bytes, so that a crash file, a corpus file and a recorded frame can be
//! fed to it alike. `fuzz/` wraps them for libFuzzer; the tests here replay the kept files with a
//! stable compiler. The bodies use std and may panic: that is how they speak. They are compiled
//! for tests and with the feature `fuzzing` only.
//!
//! What is expected is computed another way than in the code under test: [`differential`] reads
//! by offsets from a description of the C header, [`negotiate`] by the kernel's own rules.

#![allow(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a body speaks by panicking"
)]

use std::vec::Vec;

use zerocopy::IntoBytes;

mod again;
mod differential;
mod dirents;
mod extensions;
mod fields;
mod negotiate;
mod notifications;
mod notify_decode;
mod oracle;
mod replies;
mod reply_decode;
mod request_decode;
mod round_trip;
mod rules;
mod seeds;

pub use differential::differential;
pub use dirents::dirents;
pub use extensions::extensions;
pub use negotiate::negotiate;
pub use notify_decode::notify_decode;
pub use reply_decode::reply_decode;
pub use request_decode::request_decode;
pub use round_trip::round_trip;
pub use seeds::seeds;

/// A body: it panics if something does not hold.
pub type Body = fn(&[u8]);

/// Every body with the name of its target.
pub const BODIES: &[(&str, Body)] = &[
    ("differential", differential),
    ("dirents", dirents),
    ("extensions", extensions),
    ("negotiate", negotiate),
    ("notify_decode", notify_decode),
    ("reply_decode", reply_decode),
    ("request_decode", request_decode),
    ("round_trip", round_trip),
];

/// Bytes at an address that is a multiple of 8, as transports have them.
struct Aligned {
    words: Vec<u64>,
    len: usize,
}

impl Aligned {
    fn new(bytes: &[u8]) -> Self {
        let mut aligned = Self { words: std::vec![0; bytes.len().div_ceil(8)], len: bytes.len() };
        aligned.bytes_mut().copy_from_slice(bytes);
        aligned
    }

    fn bytes(&self) -> &[u8] {
        &self.words.as_bytes()[..self.len]
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.words.as_mut_slice().as_mut_bytes()[..self.len]
    }
}

/// The same message with its own length in front, which no fuzzer would guess.
fn with_length(data: &[u8]) -> Vec<u8> {
    let mut message = data.to_vec();
    if let Some(len) = message.first_chunk_mut() {
        *len = u32::try_from(data.len()).unwrap_or(u32::MAX).to_ne_bytes();
    }
    message
}

#[cfg(test)]
mod golden;
#[cfg(test)]
mod ring;
#[cfg(test)]
mod table;
#[cfg(test)]
mod tests;
