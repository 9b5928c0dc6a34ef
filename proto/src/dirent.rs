//! Directory streams: the bodies of READDIR and READDIRPLUS, record by record.
//!
//! ```text
//!  READDIR      | ino 8 | off 8 | namelen 4 | type 4 | name ... | zeros up to 8 |
//!  READDIRPLUS  | entry 128 | the same                                          |
//! ```
//! A writer fills the buffer that will be sent, so nothing is copied later. A record goes in whole
//! or not at all. Reading streams, for a simulated kernel, will be the inverse of this file.
//!
//! Kernel: fs/fuse/readdir.c, `parse_dirfile` and `parse_dirplusfile`. An empty name, a name with
//! a slash or one of more than 4095 bytes makes the caller's getdents64(2) fail with EIO.

use crate::abi;
use crate::reply::Entry;
use crate::types::NodeId;
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
    /// for each record, and stable while other names come and go. `kind` is `mode >> 12`, or 0.
    #[must_use = "a record that does not fit was not written"]
    pub fn add(&mut self, ino: u64, next_offset: u64, kind: u32, name: &[u8]) -> bool {
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
        kind: u32,
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
        let record = abi::Dirent { ino, off, namelen, kind };
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
        kind: u32,
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
