//! What a handler fills: the room for bulk answers, and what a finished request amounts to.
//!
//! Small answers are typed values ([`crate::Reply`]) and travel by return. Bulk answers (data,
//! directory entries, attribute values) are put into a buffer that lies in the slot's payload,
//! so that they are written once, where the kernel will read them.
//!
//! Never known here: opcodes and transports. Neighbours: `filesystem` hands the buffers out,
//! `shard` commits what they hold.

use std::cell::RefMut;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use fusewire_proto::dirent::{DirentPlusWriter, DirentWriter};
use fusewire_proto::{Entry, Errno, FileType, Reply};

use crate::sys::arena::{Part, SEGMENTS_MAX, Shared};

/// Shared bytes below this length are copied: a segment of its own would cost more.
const SHARE_MIN: usize = 4096;

/// How a request ends.
#[derive(Debug)]
pub enum Outcome {
    /// A typed value.
    Reply(Reply<'static>),
    /// What was put into the output.
    Output(Output),
    /// Bytes that came from elsewhere.
    Bytes(Vec<u8>),
    /// An error.
    Error(Errno),
    /// The kernel waits for no answer.
    Silent,
}

/// Bytes of the payload that make up an answer; made by [`Out::finish`].
#[derive(Clone, Debug, Default)]
pub struct Output {
    /// The bytes that were filled, in payload bytes.
    pub(crate) filled: Range<usize>,
    /// Their length with what is shared.
    pub(crate) len: usize,
    /// Where they are to be read from first.
    pub(crate) source: Option<Source>,
}

/// A range of a file, as long as the answer.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    pub(crate) file: Arc<OwnedFd>,
    pub(crate) offset: u64,
}

/// The room for a bulk answer.
#[derive(Debug)]
pub struct Out<'a> {
    buffer: &'a mut [u8],
    at: usize,
    filled: usize,
    len: usize,
    sharing: bool,
    /// The kernel reads a file into the free part (I9).
    lent: bool,
    source: Option<Source>,
    parts: RefMut<'a, Vec<Part>>,
}

impl<'a> Out<'a> {
    /// `buffer` begins at payload byte `at`; `sharing` tells that the transport sends parts from
    /// where they lie.
    pub(crate) fn new(
        buffer: &'a mut [u8],
        at: usize,
        sharing: bool,
        parts: RefMut<'a, Vec<Part>>,
    ) -> Self {
        Self { buffer, at, filled: 0, len: 0, sharing, lent: false, source: None, parts }
    }

    /// Bytes that still fit.
    #[must_use]
    pub fn room(&self) -> usize {
        self.buffer.len() - self.filled
    }

    /// Bytes put so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing was put.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The part of the buffer that is still free; follow with [`Out::advance`].
    ///
    /// # Panics
    /// If an operation of [`crate::Io`] that filled it was dropped before it was ready.
    pub fn free(&mut self) -> &mut [u8] {
        assert!(!self.lent, "I9: the kernel may still be filling the answer");
        &mut self.buffer[self.filled..]
    }

    /// Counts `count` bytes of [`Out::free`] as put; no more than are there.
    pub fn advance(&mut self, count: usize) {
        let count = count.min(self.room());
        let start = self.at + self.filled;
        self.filled += count;
        self.len += count;
        if let Some(last) = self.parts.last_mut() {
            match last {
                Part::Filled(range) => range.end += count,
                Part::Shared(_) => self.parts.push(Part::Filled(start..start + count)),
            }
        }
    }

    /// Copies as much of `bytes` as fits; returns how much that was.
    pub fn append(&mut self, bytes: &[u8]) -> usize {
        let count = bytes.len().min(self.room());
        self.free()[..count].copy_from_slice(&bytes[..count]);
        self.advance(count);
        count
    }

    fn share(&mut self, owner: Arc<dyn AsRef<[u8]> + Send + Sync>, range: Range<usize>) {
        let shared = Shared { owner, range };
        // One segment is the reply's header, one may be needed for filled bytes that follow.
        if !self.sharing || shared.range.len() < SHARE_MIN || self.parts.len() + 3 > SEGMENTS_MAX {
            self.append(shared.bytes());
            return;
        }
        if self.parts.is_empty() && self.filled > 0 {
            self.parts.push(Part::Filled(self.at..self.at + self.filled));
        }
        self.len += shared.bytes().len();
        self.parts.push(Part::Shared(shared));
    }

    /// The answer: everything that was put.
    #[must_use]
    pub fn finish(self) -> Outcome {
        let filled = self.at..self.at + self.filled;
        Outcome::Output(Output { filled, len: self.len, source: self.source })
    }
}

/// The room for the data of a READ or the target of a READLINK.
#[derive(Debug)]
pub struct ReadBuf<'a> {
    out: Out<'a>,
    /// Bytes in front of the data that were put already.
    lead: usize,
    size: usize,
}

impl<'a> ReadBuf<'a> {
    pub(crate) fn new(out: Out<'a>, size: usize) -> Self {
        let (lead, size) = (out.len(), size.min(out.room()));
        Self { out, lead, size }
    }

    /// Bytes asked for. What is put beyond them is cut off; less is a short read: the end of the
    /// file, or with write-back a hole (`fs/fuse/file.c, fuse_short_read`).
    #[must_use]
    pub fn size(&self) -> usize {
        self.size
    }

    /// Bytes put so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.out.len() - self.lead
    }

    /// Whether nothing was put.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes that are still wanted.
    #[must_use]
    pub fn remaining(&self) -> usize {
        self.size - self.len()
    }

    /// Copies `bytes`; returns how many were wanted.
    pub fn append(&mut self, bytes: &[u8]) -> usize {
        let count = bytes.len().min(self.remaining());
        self.out.append(&bytes[..count])
    }

    /// Puts `count` zeros: a hole.
    pub fn zeros(&mut self, count: usize) -> usize {
        let count = count.min(self.remaining());
        self.out.free()[..count].fill(0);
        self.out.advance(count);
        count
    }

    /// Lets `fill` write where the answer lies; it gets what is wanted and returns how much of
    /// that it filled, from the start.
    pub fn fill(&mut self, fill: impl FnOnce(&mut [u8]) -> usize) -> usize {
        let remaining = self.remaining();
        let count = fill(&mut self.out.free()[..remaining]).min(remaining);
        self.out.advance(count);
        count
    }

    /// Puts the bytes `range` of what `owner` holds. On `/dev/fuse` they are not copied: the reply
    /// is sent from where they lie, and `owner` is kept until then. On the ring transport they are
    /// copied into the payload, once.
    pub fn share(&mut self, owner: Arc<dyn AsRef<[u8]> + Send + Sync>, range: Range<usize>) {
        let end = range.end.min(range.start + self.remaining());
        self.out.share(owner, range.start..end);
    }

    /// Wants no more than `count` further bytes.
    pub(crate) fn limit(&mut self, count: usize) {
        self.size = self.size.min(self.len().saturating_add(count));
    }

    /// Whether an answer can follow a READ in the kernel: on the ring, where the kernel takes it
    /// from the start of the payload.
    pub(crate) fn follows(&self) -> bool {
        !self.out.sharing && self.out.at == 0 && self.out.is_empty()
    }

    /// Fills the answer with all that is wanted, later: from a file.
    pub(crate) fn promise(&mut self, source: Source) {
        let wanted = self.remaining();
        self.out.advance(wanted);
        self.out.source = Some(source);
    }

    /// Gives the wanted room to the kernel: bytes of the payload (I9).
    pub(crate) fn lend(&mut self) -> Range<usize> {
        let _ = self.out.free();
        self.out.lent = true;
        let start = self.out.at + self.out.filled;
        start..start + self.remaining()
    }

    /// Has the room back, with its first `count` bytes filled.
    pub(crate) fn take_back(&mut self, count: usize) {
        self.out.lent = false;
        let count = count.min(self.remaining());
        self.out.advance(count);
    }

    pub(crate) fn finish(self) -> Outcome {
        self.out.finish()
    }

    /// The answer to an IOCTL, whose fixed struct was left blank in front of the data.
    /// Kernel: include/uapi/linux/fuse.h, struct fuse_ioctl_out: the result comes first.
    pub(crate) fn finish_ioctl(self, result: i32) -> Outcome {
        if let Some(place) = self.out.buffer.first_chunk_mut() {
            *place = result.to_ne_bytes();
        }
        self.out.finish()
    }
}

/// The room for an extended attribute's value or for the list of names.
///
/// The engine answers the probe for the length (size 0) and ERANGE from what was put here.
#[derive(Debug)]
pub struct XattrBuf<'a> {
    out: Out<'a>,
    size: usize,
    wanted: usize,
}

impl<'a> XattrBuf<'a> {
    pub(crate) fn new(out: Out<'a>, size: u32) -> Self {
        Self { out, size: size as usize, wanted: 0 }
    }

    /// Puts `bytes` behind what is there.
    pub fn append(&mut self, bytes: &[u8]) {
        self.wanted = self.wanted.saturating_add(bytes.len());
        if self.size > 0 && self.wanted <= self.size {
            self.out.append(bytes);
        }
    }

    pub(crate) fn finish(self) -> Outcome {
        match u32::try_from(self.wanted) {
            Ok(wanted) if self.size == 0 => Outcome::Reply(Reply::XattrSize(wanted)),
            Ok(_) if self.wanted <= self.size && self.wanted == self.out.len() => self.out.finish(),
            Ok(_) => Outcome::Error(Errno::ERANGE),
            Err(_) => Outcome::Error(Errno::E2BIG),
        }
    }
}

/// The room for directory entries without attributes.
#[derive(Debug)]
pub struct DirBuf<'a> {
    out: Out<'a>,
    size: usize,
}

impl<'a> DirBuf<'a> {
    pub(crate) fn new(out: Out<'a>, size: u32) -> Self {
        let size = (size as usize).min(out.room());
        Self { out, size }
    }

    /// Puts an entry: the number that `ls -i` shows, the cookie of the entry *behind* it, the type
    /// and the name. Returns false, with nothing put, if it does not fit.
    pub fn add(&mut self, ino: u64, next_offset: u64, kind: FileType, name: &[u8]) -> bool {
        let remaining = self.size - self.out.len();
        let mut writer = DirentWriter::new(&mut self.out.free()[..remaining]);
        let added = writer.add(ino, next_offset, kind, name);
        let count = writer.len();
        self.out.advance(count);
        added
    }

    pub(crate) fn finish(self) -> Outcome {
        self.out.finish()
    }
}

/// The room for directory entries with attributes.
#[derive(Debug)]
pub struct DirPlusBuf<'a> {
    out: Out<'a>,
    size: usize,
}

impl<'a> DirPlusBuf<'a> {
    pub(crate) fn new(out: Out<'a>, size: u32) -> Self {
        let size = (size as usize).min(out.room());
        Self { out, size }
    }

    /// As [`DirBuf::add`], with what a lookup of the name would answer. Where it returns true and
    /// an entry was given, the kernel has one more lookup of that node, but for `.` and `..`.
    pub fn add(
        &mut self,
        entry: Option<&Entry>,
        ino: u64,
        next_offset: u64,
        kind: FileType,
        name: &[u8],
    ) -> bool {
        let remaining = self.size - self.out.len();
        let mut writer = DirentPlusWriter::new(&mut self.out.free()[..remaining]);
        let added = writer.add(entry, ino, next_offset, kind, name);
        let count = writer.len();
        self.out.advance(count);
        added
    }

    pub(crate) fn finish(self) -> Outcome {
        self.out.finish()
    }
}
