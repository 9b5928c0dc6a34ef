//! The bounds-checked writer under every encoder, and the error that it gives.
//!
//! It fills a borrowed buffer from the front and never writes half a part. The counterpart for
//! reading is `cursor`.

use zerocopy::{Immutable, IntoBytes};

/// The output buffer is shorter than what is to be encoded. Nothing was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{needed} bytes are needed, more than there is room for")]
pub struct TooSmall {
    /// The length that would do.
    pub needed: usize,
}

/// Output buffer and how much of it is used.
#[derive(Debug)]
pub(crate) struct Writer<'b> {
    rest: &'b mut [u8],
    needed: usize,
}

impl<'b> Writer<'b> {
    /// A writer for exactly `needed` bytes at the start of `out`.
    pub(crate) fn new(out: &'b mut [u8], needed: usize) -> Result<Self, TooSmall> {
        let rest = out.get_mut(..needed).ok_or(TooSmall { needed })?;
        Ok(Self { rest, needed })
    }

    #[inline]
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> Result<(), TooSmall> {
        let rest = core::mem::take(&mut self.rest);
        let (front, behind) =
            rest.split_at_mut_checked(bytes.len()).ok_or(TooSmall { needed: self.needed })?;
        front.copy_from_slice(bytes);
        self.rest = behind;
        Ok(())
    }

    #[inline]
    pub(crate) fn put<T>(&mut self, value: &T) -> Result<(), TooSmall>
    where
        T: IntoBytes + Immutable + ?Sized,
    {
        self.bytes(value.as_bytes())
    }

    pub(crate) fn zeros(&mut self, len: usize) -> Result<(), TooSmall> {
        let rest = core::mem::take(&mut self.rest);
        let (front, behind) =
            rest.split_at_mut_checked(len).ok_or(TooSmall { needed: self.needed })?;
        front.fill(0);
        self.rest = behind;
        Ok(())
    }

    /// Fills what is left with zeros and returns the length of the whole.
    pub(crate) fn finish(self) -> usize {
        if !self.rest.is_empty() {
            self.rest.fill(0);
        }
        self.needed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec;

    /// Every room, every announced length, and two parts of every small length; under Miri, which
    /// is slow, one room of four.
    #[test]
    fn no_byte_goes_where_none_was_announced() {
        let rooms = (0..=12_usize).step_by(if cfg!(miri) { 4 } else { 1 });
        for (room, needed) in rooms.flat_map(|room| (0..=13).map(move |it| (room, it))) {
            for (first, second) in (0..=6_usize).flat_map(|it| (0..=6).map(move |that| (it, that)))
            {
                let mut out = vec![0xee; room];
                let Ok(mut writer) = Writer::new(&mut out, needed) else {
                    assert!(needed > room);
                    assert!(out.iter().all(|&byte| byte == 0xee));
                    continue;
                };
                assert!(needed <= room);
                let one = writer.bytes(&vec![1; first]);
                assert_eq!(one.is_ok(), first <= needed);
                if one.is_err() {
                    continue;
                }
                let two = if second % 2 == 0 {
                    writer.bytes(&vec![2; second])
                } else {
                    writer.zeros(second)
                };
                assert_eq!(two.is_ok(), first + second <= needed);
                if two.is_err() {
                    continue;
                }
                assert_eq!(writer.finish(), needed);
                let part = if second % 2 == 0 { 2 } else { 0 };
                let mut expected = vec![1; first];
                expected.resize(first + second, part);
                expected.resize(needed, 0);
                expected.resize(room, 0xee);
                assert_eq!(out, expected);
            }
        }
    }
}
