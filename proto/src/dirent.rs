//! Directory streams: the bodies of READDIR and READDIRPLUS, record by record.
//!
//! ```text
//!  READDIR      | ino 8 | off 8 | namelen 4 | type 4 | name ... | zeros up to 8 |
//!  READDIRPLUS  | entry 128 | the same                                          |
//! ```
//! A writer fills the buffer that will be sent, so nothing is copied later. A record goes in whole
//! or not at all. The readers are iterators that borrow, and judge as the kernel does.
//!
//! Kernel: fs/fuse/readdir.c, `parse_dirfile` and `parse_dirplusfile`. An empty name, a name with
//! a slash or one of more than 4095 bytes makes the caller's getdents64(2) fail with EIO, unless
//! records in front of it were taken: those are given first.

use zerocopy::FromBytes;

use crate::abi;
use crate::cursor::Expected;
use crate::mode::FileType;
use crate::notify::NAME_MAX;
use crate::reply::Entry;
use crate::types::{NameError, NodeId};
use crate::writer::Writer;

/// Writes records of READDIR into a borrowed buffer.
#[derive(Debug)]
pub struct DirentWriter<'b> {
    out: &'b mut [u8],
    len: usize,
}

/// Writes records of READDIRPLUS into a borrowed buffer.
#[derive(Debug)]
pub struct DirentPlusWriter<'b> {
    inner: DirentWriter<'b>,
}

impl<'b> DirentWriter<'b> {
    /// A writer over `out`, which is as long as the kernel asked for.
    #[must_use]
    pub const fn new(out: &'b mut [u8]) -> Self {
        Self { out, len: 0 }
    }

    /// Adds a record, or returns `false` and writes nothing if it does not fit.
    ///
    /// `next_offset` is the cookie with which reading goes on behind this record: not 0, different
    /// for each record, and stable while other names come and go. `kind` may be UNKNOWN. The name
    /// is not looked at, as it comes from a store that has looked: one that is empty, has a slash
    /// or more than [`NAME_MAX`] bytes ends the listing for the kernel, as [`DirentReader`] tells.
    #[must_use = "a record that does not fit was not written"]
    pub fn add(&mut self, ino: u64, next_offset: u64, kind: FileType, name: &[u8]) -> bool {
        self.add_with(None, ino, next_offset, kind, name)
    }

    /// Bytes written so far: the length of the reply's body.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether no record was written. As a reply this means the end of the directory; if a first
    /// record did not fit, the answer is EINVAL instead.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn add_with(
        &mut self,
        entry: Option<&abi::EntryOut>,
        ino: u64,
        off: u64,
        kind: FileType,
        name: &[u8],
    ) -> bool {
        let fixed = if entry.is_some() { abi::NAME_OFFSET_DIRENTPLUS } else { abi::NAME_OFFSET };
        let padded = fixed.checked_add(name.len()).and_then(|len| len.checked_next_multiple_of(8));
        let end = padded.and_then(|padded| self.len.checked_add(padded));
        let (Some(padded), Some(end), Ok(namelen)) = (padded, end, u32::try_from(name.len()))
        else {
            return false;
        };
        let Some(room) = self.out.get_mut(self.len..) else {
            return false;
        };
        let Ok(mut writer) = Writer::new(room, padded) else {
            return false;
        };
        let record = abi::Dirent { ino, off, namelen, kind: kind.0 };
        let parts = entry.map_or(Ok(()), |entry| writer.put(entry));
        if parts.and_then(|()| writer.put(&record)).and_then(|()| writer.bytes(name)).is_err() {
            return false;
        }
        writer.finish();
        self.len = end;
        true
    }
}

impl<'b> DirentPlusWriter<'b> {
    /// A writer over `out`, which is as long as the kernel asked for.
    #[must_use]
    pub const fn new(out: &'b mut [u8]) -> Self {
        Self { inner: DirentWriter::new(out) }
    }

    /// Adds a record, or returns `false` and writes nothing if it does not fit.
    ///
    /// With an `entry` the kernel counts one look-up of its nodeid, if the reply is delivered;
    /// without, and for `.` and `..`, none. The other arguments are those of [`DirentWriter::add`].
    #[must_use = "a record that does not fit was not written, and its look-up does not count"]
    pub fn add(
        &mut self,
        entry: Option<&Entry>,
        ino: u64,
        next_offset: u64,
        kind: FileType,
        name: &[u8],
    ) -> bool {
        // Nodeid 0 says that no look-up was made.
        let nothing = abi::EntryOut { nodeid: NodeId(0), ..Default::default() };
        let entry = entry.map_or(nothing, Into::into);
        self.inner.add_with(Some(&entry), ino, next_offset, kind, name)
    }

    /// Bytes written so far: the length of the reply's body.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.inner.len()
    }

    /// Whether no record was written: see [`DirentWriter::is_empty`].
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.inner.is_empty()
    }
}

/// A record of READDIR.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct DirentRecord<'a> {
    /// Inode number; glibc hides a record with 0.
    pub ino: u64,
    /// The cookie with which reading goes on behind this record.
    pub next_offset: u64,
    /// The type, perhaps UNKNOWN.
    pub kind: FileType,
    /// The name, without NUL. The kernel does not look for a NUL inside.
    #[cfg_attr(feature = "serde", serde(serialize_with = "crate::serialize::name"))]
    pub name: &'a [u8],
}

/// A record of READDIRPLUS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct DirentPlusRecord<'a> {
    /// What was looked up; `None` for nodeid 0.
    pub entry: Option<Entry>,
    /// The rest of the record.
    pub dirent: DirentRecord<'a>,
}

/// What the kernel does with the look-up of a record of READDIRPLUS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LookUp {
    /// There was none: nodeid 0, or the names `.` and `..`.
    None,
    /// It counts.
    Counted(NodeId),
    /// The entry is invalid: the name is shown, and a FORGET gives the look-up back.
    GivenBack(NodeId),
}

impl DirentPlusRecord<'_> {
    /// Whether a look-up counts, if the reply was delivered.
    ///
    /// Kernel: fs/fuse/readdir.c, `fuse_direntplus_link` and `fuse_force_forget`.
    #[must_use]
    pub fn look_up(&self) -> LookUp {
        match &self.entry {
            None => LookUp::None,
            Some(_) if matches!(self.dirent.name, b"." | b"..") => LookUp::None,
            Some(Entry { nodeid, attr, .. }) if nodeid.is_root() || !attr.is_valid() => {
                LookUp::GivenBack(*nodeid)
            }
            Some(entry) => LookUp::Counted(entry.nodeid),
        }
    }
}

/// Why the kernel takes no record from here on: EIO for the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("record at byte {at}: name: {expected}")]
pub struct DirentError {
    /// Where the record begins, bytes from the start of the stream.
    pub at: usize,
    /// What its name should have been.
    pub expected: Expected,
}

/// Reads records of READDIR; ends behind the last whole one, or with the first error.
#[derive(Clone, Debug)]
pub struct DirentReader<'a> {
    stream: &'a [u8],
    at: usize,
    failed: bool,
}

/// Reads records of READDIRPLUS; ends behind the last whole one, or with the first error.
#[derive(Clone, Debug)]
pub struct DirentPlusReader<'a> {
    inner: DirentReader<'a>,
}

impl<'a> DirentReader<'a> {
    /// A reader over the body of a reply.
    #[must_use]
    pub const fn new(stream: &'a [u8]) -> Self {
        Self { stream, at: 0, failed: false }
    }

    /// What is left: after the last record, bytes that are no whole record and are ignored.
    #[must_use]
    pub fn rest(&self) -> &'a [u8] {
        self.stream.get(self.at..).unwrap_or_default()
    }

    /// Cuts off a record whose struct begins at `before` and whose name is valid.
    fn take(&mut self, before: usize) -> Result<Option<DirentRecord<'a>>, DirentError> {
        let Some((fixed, names)) =
            self.rest().get(before..).and_then(|rest| abi::Dirent::read_from_prefix(rest).ok())
        else {
            return Ok(None);
        };
        let abi::Dirent { ino, off, namelen, kind } = fixed;
        let error = |expected| DirentError { at: self.at, expected };
        let len = match usize::try_from(namelen) {
            Ok(0) => return Err(error(Expected::NotEmpty)),
            Ok(len) if len <= NAME_MAX => len,
            _ => {
                let expected = u64::try_from(NAME_MAX).unwrap_or(u64::MAX);
                return Err(error(Expected::AtMost { expected, found: namelen.into() }));
            }
        };
        // The padding belongs to the record: without it, the record is not whole.
        let fixed_len = before.checked_add(abi::NAME_OFFSET);
        let whole = fixed_len.and_then(|fixed| fixed.checked_add(len)?.checked_next_multiple_of(8));
        let end = whole.and_then(|whole| self.at.checked_add(whole));
        let (Some(end), Some(name)) = (end, names.get(..len)) else { return Ok(None) };
        if end > self.stream.len() {
            return Ok(None);
        }
        if name.contains(&b'/') {
            return Err(error(Expected::Name(NameError::Slash)));
        }
        self.at = end;
        Ok(Some(DirentRecord { ino, next_offset: off, kind: FileType(kind), name }))
    }

    fn advance(&mut self, before: usize) -> Option<Result<DirentRecord<'a>, DirentError>> {
        if self.failed {
            return None;
        }
        let taken = self.take(before);
        self.failed = taken.is_err();
        taken.transpose()
    }
}

impl<'a> Iterator for DirentReader<'a> {
    type Item = Result<DirentRecord<'a>, DirentError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.advance(0)
    }
}

impl<'a> DirentPlusReader<'a> {
    /// A reader over the body of a reply.
    #[must_use]
    pub const fn new(stream: &'a [u8]) -> Self {
        Self { inner: DirentReader::new(stream) }
    }

    /// What is left: see [`DirentReader::rest`].
    #[must_use]
    pub fn rest(&self) -> &'a [u8] {
        self.inner.rest()
    }
}

impl<'a> Iterator for DirentPlusReader<'a> {
    type Item = Result<DirentPlusRecord<'a>, DirentError>;

    fn next(&mut self) -> Option<Self::Item> {
        let entry = abi::EntryOut::read_from_prefix(self.inner.rest()).ok();
        let dirent = self.inner.advance(size_of::<abi::EntryOut>())?;
        let entry = entry.filter(|(entry, _)| entry.nodeid != NodeId(0));
        let entry = entry.map(|(entry, _)| Entry::from(&entry));
        Some(dirent.map(|dirent| DirentPlusRecord { entry, dirent }))
    }
}
