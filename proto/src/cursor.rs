//! The bounds-checked reader under every decoder, and the error that it gives.
//!
//! [`Parts`] is a request in three pieces: argument, payload and extensions; each decoder in
//! [`op`](crate::op) takes what its opcode has and then calls [`Parts::end`], so that nothing is
//! left over unnoticed. Nothing here indexes: every step is a `split_*` that can fail.

use core::fmt;

use zerocopy::{FromBytes, Immutable, KnownLayout};

use crate::abi::{InHeader, KERNEL_MINOR_VERSION_MIN, KERNEL_VERSION};
use crate::mode::{FileType, Mode};
use crate::op::LockKind;
use crate::opcode::Opcode;
use crate::scan;
use crate::types::{Errno, Name, NameError, NodeId, Text, XattrName};

/// Why a message could not be decoded: which field of which opcode, and what was expected there.
///
/// The kernel sends no such request; they come from a broken transport, a recorder or a fuzzer.
/// For a reply the opcode is that of its request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecodeError {
    /// The opcode's wire number.
    pub opcode: u32,
    /// The part of the message, in the words of the protocol.
    pub field: &'static str,
    /// What should have stood there.
    pub expected: Expected,
}

/// What a decoder expected of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// Exactly so many bytes.
    Exactly {
        /// Bytes expected.
        expected: usize,
        /// Bytes there.
        found: usize,
    },
    /// At least so many bytes.
    AtLeast {
        /// Bytes expected.
        expected: u64,
        /// Bytes there.
        found: usize,
    },
    /// A NUL byte that ends the string.
    Terminator,
    /// A string of one byte or more.
    NotEmpty,
    /// A valid name.
    Name(NameError),
    /// No further bytes.
    Nothing {
        /// Bytes there.
        found: usize,
    },
    /// Bytes at an address that is a multiple of this.
    Aligned(usize),
    /// At most so much: bytes, or whatever the field counts.
    AtMost {
        /// The largest that is valid.
        expected: u64,
        /// What is there.
        found: u64,
    },
    /// 0, or a negative errno down to -511.
    ErrorNumber {
        /// What is there.
        found: i32,
    },
    /// Success: an error ends the connection here.
    Success,
    /// No reply at all: the kernel does not wait for one.
    NoReply,
    /// Version 7.31 of the protocol or a later one of major version 7.
    Version {
        /// Major version that is there.
        major: u32,
        /// Minor version that is there.
        minor: u32,
    },
    /// A nodeid that is neither 0 nor the root's, or exactly this one.
    Nodeid {
        /// The only one that is valid, if there is just one.
        expected: Option<NodeId>,
        /// What is there.
        found: NodeId,
    },
    /// A mode with one of the seven types of files, or exactly this one.
    FileType {
        /// The only type that is valid, if there is just one.
        expected: Option<FileType>,
        /// The mode that is there.
        found: Mode,
    },
    /// A lock of kind 0, 1 or 2.
    LockKind {
        /// What is there.
        found: LockKind,
    },
    /// No flags beyond these.
    Flags {
        /// The valid ones.
        expected: u64,
        /// Those that are there.
        found: u64,
    },
    /// The number of something that exists.
    Existing {
        /// What is there.
        found: i64,
    },
    /// A notification's code, 1 to 9, and unique 0.
    Code {
        /// What is there.
        found: i32,
    },
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exactly { expected, found } => {
                write!(f, "expected exactly {expected} bytes, found {found}")
            }
            Self::AtLeast { expected, found } => {
                write!(f, "expected at least {expected} bytes, found {found}")
            }
            Self::Terminator => f.write_str("expected a terminating NUL"),
            Self::NotEmpty => f.write_str("expected one byte or more before the NUL"),
            Self::Name(error) => write!(f, "expected a name, but {error}"),
            Self::Nothing { found } => write!(f, "expected the end, found {found} more bytes"),
            Self::Aligned(to) => write!(f, "expected an address that is a multiple of {to}"),
            Self::AtMost { expected, found } => {
                write!(f, "expected at most {expected}, found {found}")
            }
            Self::ErrorNumber { found } => write!(f, "expected -511 to 0, found {found}"),
            Self::Success => f.write_str("expected success"),
            Self::NoReply => f.write_str("expected no reply"),
            Self::Version { major, minor } => write!(
                f,
                "expected FUSE {KERNEL_VERSION}.{KERNEL_MINOR_VERSION_MIN} or later, \
                 found {major}.{minor}"
            ),
            Self::Nodeid { expected: Some(expected), found } => {
                write!(f, "expected {expected}, found {found}")
            }
            Self::Nodeid { expected: None, found } => {
                write!(f, "expected neither 0 nor the root, found {found}")
            }
            Self::FileType { expected: Some(expected), found } => {
                write!(f, "expected type {expected:?}, found {found}")
            }
            Self::FileType { expected: None, found } => {
                write!(f, "expected one of the seven file types, found {found}")
            }
            Self::LockKind { found } => write!(f, "expected 0, 1 or 2, found {found}"),
            Self::Flags { expected, found } => {
                write!(f, "expected no flags beyond {expected:#x}, found {found:#x}")
            }
            Self::Existing { found } => write!(f, "expected one that exists, found {found}"),
            Self::Code { found } => {
                write!(f, "expected a code of 1 to 9 with unique 0, found {found}")
            }
        }
    }
}

impl fmt::Display for DecodeError {
    /// `LOOKUP: name: expected a terminating NUL`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Opcode::from_raw(self.opcode) {
            Some(opcode) => write!(f, "{opcode}: {}: {}", self.field, self.expected),
            None => write!(f, "opcode {}: {}: {}", self.opcode, self.field, self.expected),
        }
    }
}

impl core::error::Error for DecodeError {}

impl DecodeError {
    /// What to answer when the request's unique is known.
    ///
    /// EINVAL where a string was wrong, EIO where the message itself is broken.
    #[must_use]
    pub const fn errno(&self) -> Errno {
        match self.expected {
            Expected::Name(_) | Expected::NotEmpty => Errno::EINVAL,
            _ => Errno::EIO,
        }
    }
}

/// A request in pieces, shrinking from the front as a decoder takes its fields.
#[derive(Debug)]
pub(crate) struct Parts<'a> {
    opcode: u32,
    argument: &'a [u8],
    payload: &'a [u8],
    extensions: &'a [u8],
}

impl<'a> Parts<'a> {
    /// Cuts the extensions off the end of `payload`; `header` says how long they are, which is 0
    /// for all but a few requests. `opcode` is the header's, known where this is compiled.
    #[inline]
    pub(crate) fn new(
        opcode: Opcode,
        header: &InHeader,
        argument: &'a [u8],
        payload: &'a [u8],
    ) -> Result<Self, DecodeError> {
        let opcode = opcode.raw();
        if header.total_extlen == 0 {
            return Ok(Self { opcode, argument, payload, extensions: &[] });
        }
        let len = header.extensions_len();
        let split = payload.len().checked_sub(len).and_then(|at| payload.split_at_checked(at));
        let Some((payload, extensions)) = split else {
            return Err(no_extensions(opcode, header.total_extlen, payload.len()));
        };
        Ok(Self { opcode, argument, payload, extensions })
    }

    pub(crate) const fn error(&self, field: &'static str, expected: Expected) -> DecodeError {
        DecodeError { opcode: self.opcode, field, expected }
    }

    /// How many bytes of the argument are left.
    pub(crate) const fn argument_len(&self) -> usize {
        self.argument.len()
    }

    /// Takes the whole argument as one fixed struct.
    #[inline]
    pub(crate) fn argument<T>(&mut self) -> Result<T, DecodeError>
    where
        T: FromBytes + KnownLayout + Immutable,
    {
        let found = self.argument.len();
        let whole = T::read_from_bytes(self.argument).map_err(|_| {
            self.error("argument", Expected::Exactly { expected: size_of::<T>(), found })
        })?;
        self.argument = &[];
        Ok(whole)
    }

    /// Takes the first bytes of the argument as a fixed struct and leaves the rest.
    pub(crate) fn argument_prefix<T>(&mut self) -> Result<T, DecodeError>
    where
        T: FromBytes + KnownLayout + Immutable,
    {
        let found = self.argument.len();
        let (first, rest) = T::read_from_prefix(self.argument).map_err(|_| {
            let expected = u64::try_from(size_of::<T>()).unwrap_or(u64::MAX);
            self.error("argument", Expected::AtLeast { expected, found })
        })?;
        self.argument = rest;
        Ok(first)
    }

    /// Ignores what is left of the argument.
    pub(crate) fn skip_argument(&mut self) {
        self.argument = &[];
    }

    /// Takes the bytes up to the next NUL, and the NUL.
    #[inline]
    pub(crate) fn string(&mut self, field: &'static str) -> Result<&'a [u8], DecodeError> {
        let (string, rest) = cut(self.payload, scan::find_nul(self.payload))
            .ok_or_else(|| self.error(field, Expected::Terminator))?;
        self.payload = rest;
        Ok(string)
    }

    /// Takes a string that is one component of a path.
    ///
    /// Inlined, so that a decoder calls nothing until it has found something wrong.
    #[inline(always)]
    pub(crate) fn name(&mut self, field: &'static str) -> Result<&'a Name, DecodeError> {
        if let Some((bytes, rest)) = cut(self.payload, scan::find_nul_or_slash(self.payload))
            && !bytes.is_empty()
            && let Some(name) = Name::from_checked(bytes)
        {
            self.payload = rest;
            return Ok(name);
        }
        Err(self.error(field, no_name(self.payload).map_or(Expected::Terminator, Expected::Name)))
    }

    /// Takes a string of any length and content.
    pub(crate) fn text(&mut self, field: &'static str) -> Result<&'a Text, DecodeError> {
        let bytes = self.string(field)?;
        Text::from_checked(bytes).ok_or_else(|| self.error(field, Expected::Terminator))
    }

    /// Takes a string of at least one byte; slashes are allowed.
    pub(crate) fn xattr_name(&mut self) -> Result<&'a XattrName, DecodeError> {
        let bytes = self.string("name")?;
        match XattrName::from_checked(bytes) {
            Some(name) if !bytes.is_empty() => Ok(name),
            _ => Err(self.error("name", Expected::NotEmpty)),
        }
    }

    /// Takes exactly `len` bytes of payload, which must be all that is left.
    #[inline]
    pub(crate) fn data(&mut self, field: &'static str, len: u32) -> Result<&'a [u8], DecodeError> {
        let found = self.payload.len();
        let expected = usize::try_from(len).unwrap_or(usize::MAX);
        if expected != found {
            return Err(self.error(field, Expected::Exactly { expected, found }));
        }
        Ok(core::mem::take(&mut self.payload))
    }

    /// Takes `count` items of payload in place, which must be all that is left.
    pub(crate) fn items<T>(
        &mut self,
        field: &'static str,
        count: u32,
    ) -> Result<&'a [T], DecodeError>
    where
        T: FromBytes + KnownLayout + Immutable,
    {
        let found = self.payload.len();
        let size = u64::try_from(size_of::<T>()).unwrap_or(u64::MAX);
        // Both factors are below 2^32, so the product is exact.
        let expected = u64::from(count).saturating_mul(size);
        if usize::try_from(expected) != Ok(found) {
            let expected = usize::try_from(expected).unwrap_or(usize::MAX);
            return Err(self.error(field, Expected::Exactly { expected, found }));
        }
        if count == 0 {
            // The address of nothing need not be aligned.
            return Ok(&[]);
        }
        let items = <[T]>::ref_from_bytes(self.payload)
            .map_err(|_| self.error(field, Expected::Aligned(align_of::<T>())))?;
        self.payload = &[];
        Ok(items)
    }

    /// Takes the extensions, unread.
    pub(crate) const fn extensions(&mut self) -> &'a [u8] {
        let extensions = self.extensions;
        self.extensions = &[];
        extensions
    }

    /// Refuses whatever no field has taken.
    #[inline]
    pub(crate) fn end(self) -> Result<(), DecodeError> {
        if self.argument.is_empty() && self.payload.is_empty() && self.extensions.is_empty() {
            return Ok(());
        }
        let [argument, payload, extensions] = [self.argument, self.payload, self.extensions];
        Err(left_over(self.opcode, argument.len(), payload.len(), extensions.len()))
    }
}

/// What is in front of `at` and behind it, if the byte there is a NUL.
#[inline]
fn cut(bytes: &[u8], at: usize) -> Option<(&[u8], &[u8])> {
    match bytes.split_at_checked(at)? {
        (string, [0, rest @ ..]) => Some((string, rest)),
        _ => None,
    }
}

// Errors are made from pieces of `Parts`, which then need not exist in memory.

/// Says that the message is shorter than its extensions.
#[inline(always)]
fn no_extensions(opcode: u32, total_extlen: u16, found: usize) -> DecodeError {
    let expected = Expected::AtLeast { expected: u64::from(total_extlen).saturating_mul(8), found };
    DecodeError { opcode, field: "total_extlen", expected }
}

/// Says which part was not taken whole, from what is left of each.
#[inline(always)]
fn left_over(opcode: u32, argument: usize, payload: usize, extensions: usize) -> DecodeError {
    let (field, found) = match (argument, payload) {
        (0, 0) => ("extensions", extensions),
        (0, payload) => ("payload", payload),
        (argument, _) => ("argument", argument),
    };
    DecodeError { opcode, field, expected: Expected::Nothing { found } }
}

/// Says why there is no name: nothing in front of the NUL, or a slash; `None` without a NUL.
///
/// What comes back fits in a register, so that who asks needs no memory for it.
#[cold]
#[inline(never)]
fn no_name(payload: &[u8]) -> Option<NameError> {
    let (string, _) = cut(payload, scan::find_nul(payload))?;
    Name::new(string).err()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec;

    fn parts<'a>(argument: &'a [u8], payload: &'a [u8], total_extlen: u16) -> Option<Parts<'a>> {
        let header = InHeader { total_extlen, ..InHeader::default() };
        Parts::new(Opcode::Lookup, &header, argument, payload).ok()
    }

    /// Every split of every small message: what is taken and what is left are the whole.
    #[test]
    fn extensions_are_cut_off_the_end_at_every_length() {
        let bytes: [u8; 40] = core::array::from_fn(|at| at.to_le_bytes()[0]);
        for payload in (0..=40).map_while(|len| bytes.get(..len)) {
            for units in 0..=6_u16 {
                let split = payload.len().checked_sub(usize::from(units) * 8);
                let parts = parts(&[], payload, units).map(|it| (it.payload, it.extensions));
                assert_eq!(parts, split.map(|at| payload.split_at(at)), "{units} units");
            }
        }
    }

    #[test]
    fn fixed_structs_take_their_length_and_no_other() {
        let bytes = [7; 24];
        for argument in (0..=24).map_while(|len| bytes.get(..len)) {
            let len = argument.len();
            let whole = parts(argument, &[], 0).unwrap().argument::<[u32; 3]>();
            assert_eq!(whole.is_ok(), len == 12);
            let mut prefixed = parts(argument, &[], 0).unwrap();
            let prefix = prefixed.argument_prefix::<[u32; 3]>();
            assert_eq!(prefix.is_ok(), len >= 12);
            let left = if len >= 12 { len - 12 } else { len };
            assert_eq!(prefixed.argument_len(), left);
            assert_eq!(prefixed.end().is_ok(), left == 0);
        }
    }

    /// A NUL at every place of every small payload, and none.
    #[test]
    fn strings_end_at_the_first_nul() {
        for len in 0..=24_usize {
            for nul in 0..=len {
                let mut payload = vec![b'x'; len];
                if let Some(byte) = payload.get_mut(nul) {
                    *byte = 0;
                }
                let mut parts = parts(&[], &payload, 0).unwrap();
                let string = parts.string("string").map(<[u8]>::len);
                assert_eq!(string.ok(), (nul < len).then_some(nul));
                let left = if nul < len { len - nul - 1 } else { len };
                assert_eq!(parts.payload.len(), left);
            }
        }
    }

    #[test]
    fn data_and_items_are_all_that_is_left() {
        let words = [0_u64; 6];
        let bytes = zerocopy::IntoBytes::as_bytes(words.as_slice());
        for payload in (0..=48).map_while(|len| bytes.get(..len)) {
            let len = payload.len();
            for told in (0..=50).chain([u32::MAX]) {
                let data = parts(&[], payload, 0).unwrap().data("data", told);
                assert_eq!(data.map(<[u8]>::len).ok(), (told as usize == len).then_some(len));
            }
            for count in (0..=5).chain([1 << 28, 1 << 29, u32::MAX]) {
                let items = parts(&[], payload, 0).unwrap().items::<[u64; 2]>("items", count);
                let whole = u64::from(count) * 16 == len as u64;
                assert_eq!(items.map(<[_]>::len).ok(), whole.then_some(count as usize));
            }
        }
    }
}
