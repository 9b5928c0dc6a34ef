//! Extensions: what the requests that make an inode carry behind their names.
//!
//! ```text
//!  | u32 size | u32 type | body ........ | pad to 8 |   one record, and the next behind it
//!    type 0..=31  that many security contexts: | u32 size | u32 0 | name NUL | label | pad to 8 |
//!    type 32      groups: | u32 count | u32 gid, ... |
//!    others       skipped by size
//! ```
//! Decoding walks over every record once; reading them afterwards cannot fail. An
//! [`ExtensionsWriter`] makes them from values.

use zerocopy::{FromBytes, IntoBytes};

use crate::abi;
use crate::composer::{Composer, EncodeError, wire_count, wire_len};
use crate::cursor::{DecodeError, Expected, Parts};
use crate::types::Text;
use crate::writer::{TooSmall, Writer};

/// Security labels and groups of the caller of CREATE, TMPFILE, MKNOD, MKDIR or SYMLINK.
///
/// Labels come with SECURITY_CTX and are to be stored with the new inode, in one step; groups
/// come with CREATE_SUPP_GROUP and hold the directory's group if the caller is a member.
///
/// Kernel: fs/fuse/dir.c, `get_create_ext`; since 7.36 and 7.38.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Extensions<'a> {
    /// Whole, checked records.
    records: &'a [u8],
}

/// A security label: the extended attribute to be set on the new inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct SecurityContext<'a> {
    /// Name of the extended attribute, such as `security.selinux`.
    pub name: &'a Text,
    /// Its value.
    #[cfg_attr(feature = "serde", serde(serialize_with = "crate::serialize::data"))]
    pub label: &'a [u8],
}

impl<'a> Extensions<'a> {
    /// Whether there is no record at all.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// The security labels, in the order of the message.
    pub fn security_contexts(&self) -> impl Iterator<Item = SecurityContext<'a>> + use<'a> {
        self.records().filter(|record| record.kind <= abi::MAX_NR_SECCTX).flat_map(|record| {
            let mut rest = record.body;
            (0..record.kind).map_while(move |_| take_context(&mut rest).ok())
        })
    }

    /// The group ids, in the order of the message.
    pub fn groups(&self) -> impl Iterator<Item = u32> + use<'a> {
        self.records()
            .filter(|record| record.kind == abi::EXT_GROUPS)
            .flat_map(|record| group_words(record.body).unwrap_or_default())
            .map(|word| u32::from_ne_bytes(*word))
    }

    fn records(&self) -> impl Iterator<Item = Record<'a>> + use<'a> {
        let mut rest = self.records;
        core::iter::from_fn(move || take_record(&mut rest).ok())
    }

    /// The records as they stand in a message, unknown ones included.
    #[must_use]
    pub const fn as_bytes(&self) -> &'a [u8] {
        self.records
    }

    /// Takes and checks the extensions of a request.
    pub(crate) fn decode(parts: &mut Parts<'a>) -> Result<Self, DecodeError> {
        let records = parts.extensions();
        match check(records) {
            Ok(()) => Ok(Self { records }),
            Err((field, expected)) => Err(parts.error(field, expected)),
        }
    }

    pub(crate) fn encode(&self, out: &mut Composer<'_>) {
        out.extensions(self.records);
    }
}

/// Writes records into a borrowed buffer that begins at no particular address.
///
/// Who plays the kernel writes contexts first, then groups. Records go in whole or not at all.
#[derive(Debug)]
pub struct ExtensionsWriter<'b> {
    out: &'b mut [u8],
    len: usize,
}

impl<'b> ExtensionsWriter<'b> {
    /// A writer over `out`.
    #[must_use]
    pub const fn new(out: &'b mut [u8]) -> Self {
        Self { out, len: 0 }
    }

    /// Adds a record of security contexts; with SECURITY_CTX agreed it is there even for none.
    ///
    /// # Errors
    /// [`EncodeError::TooSmall`] with the length of all records; [`EncodeError::Unrepresentable`]
    /// for more than 31 contexts.
    pub fn security_contexts(
        &mut self,
        contexts: &[SecurityContext<'_>],
    ) -> Result<(), EncodeError> {
        let count = wire_count(contexts);
        if count > abi::MAX_NR_SECCTX {
            return Err(EncodeError::Unrepresentable { field: "nr_secctx" });
        }
        let len = |it: &SecurityContext<'_>| padded(context_len(it));
        let body_len = contexts.iter().map(len).fold(0, usize::saturating_add);
        self.record_with(count, body_len, |body| {
            for context in contexts {
                let (size, padding) = (wire_len(context.label), 0);
                body.put(&abi::Secctx { size, padding })?;
                body.bytes(context.name)?;
                body.bytes(&[0])?;
                body.bytes(context.label)?;
                let whole = context_len(context);
                body.zeros(padded(whole).saturating_sub(whole))?;
            }
            Ok(())
        })
    }

    /// Adds a record of groups. The kernel sends one group or no record.
    ///
    /// # Errors
    /// [`EncodeError::TooSmall`] with the length of all records.
    pub fn groups(&mut self, groups: &[u32]) -> Result<(), EncodeError> {
        let body_len = size_of::<abi::SuppGroups>().saturating_add(size_of_val(groups));
        self.record_with(abi::EXT_GROUPS, body_len, |body| {
            body.put(&abi::SuppGroups { nr_groups: wire_count(groups) })?;
            body.bytes(groups.as_bytes())
        })
    }

    /// Adds a record of a kind that this version does not know.
    ///
    /// # Errors
    /// [`EncodeError::TooSmall`] with the length of all records; [`EncodeError::Unrepresentable`]
    /// for a kind that is known.
    pub fn unknown(&mut self, kind: u32, body: &[u8]) -> Result<(), EncodeError> {
        if kind <= abi::EXT_GROUPS {
            return Err(EncodeError::Unrepresentable { field: "type" });
        }
        self.record_with(kind, body.len(), |record| record.bytes(body))
    }

    /// The records that were written.
    #[must_use]
    pub fn finish(self) -> Extensions<'b> {
        let Self { out, len } = self;
        Extensions { records: out.get(..len).unwrap_or_default() }
    }

    /// Writes a header and what `fill` puts behind it. As the kernel does, the size is that of the
    /// padded record.
    fn record_with(
        &mut self,
        kind: u32,
        body_len: usize,
        fill: impl FnOnce(&mut Writer<'_>) -> Result<(), TooSmall>,
    ) -> Result<(), EncodeError> {
        let whole = padded(size_of::<abi::ExtHeader>().saturating_add(body_len));
        let end = self.len.saturating_add(whole);
        let too_small = TooSmall { needed: end };
        let room = self.out.get_mut(self.len..end).ok_or(too_small)?;
        let mut record = Writer::new(room, whole)?;
        let size = u32::try_from(whole).map_err(|_| too_small)?;
        record.put(&abi::ExtHeader { size, kind })?;
        fill(&mut record)?;
        record.finish();
        self.len = end;
        Ok(())
    }
}

/// Bytes of a context without its padding.
fn context_len(context: &SecurityContext<'_>) -> usize {
    let strings = context.name.len().saturating_add(context.label.len()).saturating_add(1);
    size_of::<abi::Secctx>().saturating_add(strings)
}

/// Up to the next multiple of 8; a length that has none is refused by every buffer.
const fn padded(len: usize) -> usize {
    match len.checked_next_multiple_of(8) {
        Some(padded) => padded,
        None => usize::MAX,
    }
}

impl core::fmt::Debug for Extensions<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let mut list = f.debug_list();
        list.entries(self.security_contexts());
        list.entries(self.groups());
        list.finish()
    }
}

/// Walks over every record once.
fn check(mut records: &[u8]) -> Result<(), (&'static str, Expected)> {
    while !records.is_empty() {
        let record = take_record(&mut records).map_err(|why| ("extension record", why))?;
        if record.kind == abi::EXT_GROUPS {
            group_words(record.body).map_err(|why| ("extension groups", why))?;
        } else if record.kind <= abi::MAX_NR_SECCTX {
            let mut body = record.body;
            for _ in 0..record.kind {
                take_context(&mut body).map_err(|why| ("security context", why))?;
            }
        }
    }
    Ok(())
}

struct Record<'a> {
    kind: u32,
    body: &'a [u8],
}

fn at_least(expected: u64, found: &[u8]) -> Expected {
    Expected::AtLeast { expected, found: found.len() }
}

/// Cuts `len` bytes off the front, and the padding up to the next multiple of 8.
fn take_padded<'a>(rest: &mut &'a [u8], len: u64) -> Result<&'a [u8], Expected> {
    let short = at_least(len, rest);
    let len = usize::try_from(len).map_err(|_| short)?;
    let padded = len.checked_next_multiple_of(8).ok_or(short)?;
    let (whole, behind) = rest.split_at_checked(padded).ok_or(short)?;
    *rest = behind;
    whole.get(..len).ok_or(short)
}

fn take_record<'a>(rest: &mut &'a [u8]) -> Result<Record<'a>, Expected> {
    let header_len = size_of::<abi::ExtHeader>();
    let (header, _) = abi::ExtHeader::read_from_prefix(rest).map_err(|_| at_least(8, rest))?;
    let whole = take_padded(rest, u64::from(header.size))?;
    // A size below the header's own would never get on.
    let body = whole.get(header_len..).ok_or(at_least(8, whole))?;
    Ok(Record { kind: header.kind, body })
}

fn take_context<'a>(rest: &mut &'a [u8]) -> Result<SecurityContext<'a>, Expected> {
    let (fixed, strings) = abi::Secctx::read_from_prefix(rest).map_err(|_| at_least(8, rest))?;
    let name_len = strings.iter().position(|&byte| byte == 0).ok_or(Expected::Terminator)?;
    // Header, name, NUL, label: three of them are bounded by memory, the fourth by 32 bits.
    let before_label = u64::try_from(name_len).unwrap_or(u64::MAX).saturating_add(9);
    let whole = take_padded(rest, before_label.saturating_add(u64::from(fixed.size)))?;
    let (name, tail) = whole
        .get(8..)
        .and_then(|strings| strings.split_at_checked(name_len))
        .ok_or(Expected::Terminator)?;
    let (_nul, label) = tail.split_first().ok_or(Expected::Terminator)?;
    let name = Text::from_checked(name).ok_or(Expected::Terminator)?;
    Ok(SecurityContext { name, label })
}

fn group_words(body: &[u8]) -> Result<&[[u8; 4]], Expected> {
    let (fixed, groups) = abi::SuppGroups::read_from_prefix(body).map_err(|_| at_least(4, body))?;
    let (words, _) = groups.as_chunks();
    let count = usize::try_from(fixed.nr_groups).ok();
    let short = at_least(u64::from(fixed.nr_groups).saturating_mul(4), groups);
    count.and_then(|count| words.get(..count)).ok_or(short)
}
