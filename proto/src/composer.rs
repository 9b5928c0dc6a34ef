//! The writer under every encoder of a request, and the error that it gives.
//!
//! A [`Composer`] is a request in two pieces, argument and payload, as
//! [`Parts`](crate::cursor::Parts) is for decoding. It is run twice over the same operation: once
//! without memory, to count, and once with exactly as much as was counted. So the lengths cannot
//! differ from what is written, and nothing is written where there is no room. Nothing here knows
//! an opcode; each encoder in [`op`](crate::op) puts what its opcode has.

use zerocopy::{Immutable, IntoBytes};

use crate::request::Forms;
use crate::writer::TooSmall;

/// Why a request could not be encoded. Nothing was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// The buffer is too short, or the message longer than a 32-bit length can say.
    #[error(transparent)]
    TooSmall(#[from] TooSmall),
    /// A value for which the form of the message has no place: it would vanish in silence.
    #[error("{field}: the form of the message has no place for this value")]
    Unrepresentable {
        /// The field, in the words of the protocol.
        field: &'static str,
    },
}

/// Bytes that are counted, and written as far as there is room.
#[derive(Debug, Default)]
pub(crate) struct Piece<'b> {
    rest: &'b mut [u8],
    len: usize,
}

impl<'b> Piece<'b> {
    pub(crate) const fn new(out: &'b mut [u8]) -> Self {
        Self { rest: out, len: 0 }
    }

    /// How many bytes were put, written or not.
    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    fn put(&mut self, bytes: &[u8]) {
        self.len = self.len.saturating_add(bytes.len());
        // Once a part does not fit, none behind it does: the rest is gone.
        let rest = core::mem::take(&mut self.rest);
        if let Some((front, behind)) = rest.split_at_mut_checked(bytes.len()) {
            front.copy_from_slice(bytes);
            self.rest = behind;
        }
    }
}

/// A request in pieces, growing as an encoder puts its fields.
#[derive(Debug)]
pub(crate) struct Composer<'b> {
    pub(crate) forms: Forms,
    pub(crate) argument: Piece<'b>,
    pub(crate) payload: Piece<'b>,
    /// What the header says of extensions, units of 8 bytes.
    pub(crate) total_extlen: u16,
    /// The first field that has no place.
    pub(crate) unrepresentable: Option<&'static str>,
}

impl<'b> Composer<'b> {
    pub(crate) const fn new(forms: Forms, argument: Piece<'b>, payload: Piece<'b>) -> Self {
        Self { forms, argument, payload, total_extlen: 0, unrepresentable: None }
    }

    /// Puts a fixed struct, or a part of one.
    pub(crate) fn argument<T>(&mut self, fixed: &T)
    where
        T: IntoBytes + Immutable + ?Sized,
    {
        self.argument.put(fixed.as_bytes());
    }

    /// Puts a string and its NUL.
    pub(crate) fn string(&mut self, string: &[u8]) {
        self.payload.put(string);
        self.payload.put(&[0]);
    }

    /// Puts bytes as they are.
    pub(crate) fn data(&mut self, data: &[u8]) {
        self.payload.put(data);
    }

    /// Puts whole records of extensions, which come last.
    pub(crate) fn extensions(&mut self, records: &[u8]) {
        self.payload.put(records);
        match u16::try_from(records.len() / 8) {
            Ok(units) => self.total_extlen = units,
            Err(_) => self.unrepresentable("total_extlen"),
        }
    }

    /// Says that a field has a value for which there is no place.
    pub(crate) fn unrepresentable(&mut self, field: &'static str) {
        self.unrepresentable.get_or_insert(field);
    }
}

/// A length as the wire has it. A message of which a part is longer is refused as a whole.
pub(crate) fn wire_len(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX)
}

/// A number of items as the wire has it, likewise.
pub(crate) fn wire_count<T>(items: &[T]) -> u32 {
    u32::try_from(items.len()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec;

    /// Pieces count alike with any room, and write what fits, up to the first part that does not.
    #[test]
    fn counting_does_not_depend_on_room() {
        for room in 0..=13_usize {
            for (first, second) in (0..=6_usize).flat_map(|it| (0..=6).map(move |that| (it, that)))
            {
                let mut out = vec![0xee; room];
                let mut piece = Piece::new(&mut out);
                piece.put(&vec![1; first]);
                piece.put(&vec![2; second]);
                assert_eq!(piece.len(), first + second);
                let left = room.checked_sub(first);
                let second = left.map(|left| if second <= left { second } else { 0 });
                let expected = second.map_or(0, |second| first + second);
                assert_eq!(out.iter().filter(|&&byte| byte != 0xee).count(), expected);
            }
        }
    }
}
