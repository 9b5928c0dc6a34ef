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
