//! Notifications: messages that the server sends on its own account.
//!
//! They go to the device by write(2), also when requests come by the ring. A notification may
//! block in the kernel, so it must never be sent from the task that has to answer a request on the
//! same inode or directory: answer first, notify afterwards. [`Notification::decode`] is the
//! kernel's side.
//!
//! Kernel: fs/fuse/dev.c, `fuse_notify`.

use core::fmt;

use zerocopy::{FromBytes, Immutable, KnownLayout};

use crate::abi::{self, NotifyCode, OutHeader};
use crate::cursor::Expected;
use crate::flags::InvalEntryFlags;
use crate::show::Line;
use crate::types::{Name, NameError, NodeId, PollHandle, Unique};
use crate::writer::{TooSmall, Writer};

/// A notification, borrowing its name, data or list.
///
/// write(2) fails with ENOENT where the kernel does not have the inode or the name cached; that is
/// no error of the sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "SCREAMING_SNAKE_CASE"))]
pub enum Notification<'a> {
    /// Wake whoever polls. Since 7.11. Unknown handles are ignored.
    Poll {
        /// The handle that POLL gave.
        kh: PollHandle,
    },
    /// Drop cached attributes, and data of a range. Since 7.12.
    ///
    /// Dirty pages of the range are written first: this waits for our answers to those WRITEs.
    InvalInode {
        /// The inode.
        node: NodeId,
        /// First byte; negative for attributes only.
        offset: i64,
        /// How many bytes; 0 or less for all up to the end.
        len: i64,
    },
    /// Drop a cached name, or end its timeout. Since 7.12. Takes the directory's lock.
    InvalEntry {
        /// The directory.
        parent: NodeId,
        /// The name.
        name: &'a Name,
        /// Whether only the timeout ends.
        flags: InvalEntryFlags,
    },
    /// Put data into the page cache; the file grows if they lie beyond its end. Since 7.15.
    Store {
        /// The inode.
        node: NodeId,
        /// Where the data go, bytes.
        offset: u64,
        /// The data.
        #[cfg_attr(feature = "serde", serde(serialize_with = "crate::serialize::data"))]
        data: &'a [u8],
    },
    /// Ask for data of the page cache; they come by NOTIFY_REPLY. Since 7.15.
    Retrieve {
        /// The unique that the answer shall carry: not 0, and far from those of the kernel, such
        /// as with bit 62 set.
        notify_unique: Unique,
        /// The inode.
        node: NodeId,
        /// Where to begin, bytes.
        offset: u64,
        /// How many bytes at most.
        size: u32,
    },
    /// Drop a cached name because its file was removed. Since 7.18. Takes the locks of both.
    Delete {
        /// The directory.
        parent: NodeId,
        /// The inode that had the name.
        child: NodeId,
        /// The name.
        name: &'a Name,
    },
    /// Send again all requests that were read and not answered. Since 7.40. Not those of the ring.
    ///
    /// An operation then happens twice where its first answer was on its way: what cannot (an
    /// UNLINK, an exclusive CREATE) fails the second time, and a handle that OPEN or CREATE gave
    /// the first time is never released.
    Resend,
    /// Make all cached names invalid at once. Since 7.44. What is mounted on one of them is
    /// detached when it is looked at again.
    IncEpoch,
    /// Drop these inodes if nothing uses them; FORGETs follow. Since 7.45.
    Prune {
        /// The inodes.
        nodes: &'a [NodeId],
    },
}

impl Notification<'_> {
    /// The number in the header.
    #[must_use]
    pub const fn code(&self) -> NotifyCode {
        match self {
            Self::Poll { .. } => NotifyCode::Poll,
            Self::InvalInode { .. } => NotifyCode::InvalInode,
            Self::InvalEntry { .. } => NotifyCode::InvalEntry,
            Self::Store { .. } => NotifyCode::Store,
            Self::Retrieve { .. } => NotifyCode::Retrieve,
            Self::Delete { .. } => NotifyCode::Delete,
            Self::Resend => NotifyCode::Resend,
            Self::IncEpoch => NotifyCode::IncEpoch,
            Self::Prune { .. } => NotifyCode::Prune,
        }
    }

    /// Length of the whole message in bytes, header included.
    #[must_use]
    pub const fn encoded_len(&self) -> usize {
        OutHeader::LEN.saturating_add(self.body_len())
    }

    const fn body_len(&self) -> usize {
        match self {
            Self::Poll { .. } => size_of::<abi::NotifyPollWakeupOut>(),
            Self::InvalInode { .. } => size_of::<abi::NotifyInvalInodeOut>(),
            Self::InvalEntry { name, .. } => size_of::<abi::NotifyInvalEntryOut>()
                .saturating_add(name.as_bytes().len())
                .saturating_add(1),
            Self::Store { data, .. } => size_of::<abi::NotifyStoreOut>().saturating_add(data.len()),
            Self::Retrieve { .. } => size_of::<abi::NotifyRetrieveOut>(),
            Self::Delete { name, .. } => size_of::<abi::NotifyDeleteOut>()
                .saturating_add(name.as_bytes().len())
                .saturating_add(1),
            Self::Resend | Self::IncEpoch => 0,
            Self::Prune { nodes } => {
                size_of::<abi::NotifyPruneOut>().saturating_add(size_of_val(*nodes))
            }
        }
    }

    /// Writes the whole message, header included, to the start of `out` and returns its length.
    ///
    /// # Errors
    /// [`TooSmall`] when `out` is shorter than [`Notification::encoded_len`], or the message longer
    /// than a 32-bit length can say; nothing is written then.
    pub fn encode(&self, out: &mut [u8]) -> Result<usize, TooSmall> {
        let needed = self.encoded_len();
        if u32::try_from(needed).is_err() {
            return Err(TooSmall { needed });
        }
        // Every part is shorter than the whole, which fits.
        let short = |len: usize| u32::try_from(len).unwrap_or(u32::MAX);
        let mut writer = Writer::new(out, needed)?;
        writer.put(&OutHeader::notification(self.code(), self.body_len()))?;
        match *self {
            Self::Poll { kh } => writer.put(&abi::NotifyPollWakeupOut { kh })?,
            Self::InvalInode { node, offset, len } => {
                writer.put(&abi::NotifyInvalInodeOut { ino: node, off: offset, len })?;
            }
            Self::InvalEntry { parent, name, flags } => {
                let namelen = short(name.as_bytes().len());
                let flags = flags.bits();
                writer.put(&abi::NotifyInvalEntryOut { parent, namelen, flags })?;
                writer.bytes(name.as_bytes())?;
            }
            Self::Store { node, offset, data } => {
                let size = short(data.len());
                writer.put(&abi::NotifyStoreOut { nodeid: node, offset, size, padding: 0 })?;
                writer.bytes(data)?;
            }
            Self::Retrieve { notify_unique, node, offset, size } => {
                let (nodeid, padding) = (node, 0);
                writer.put(&abi::NotifyRetrieveOut {
                    notify_unique,
                    nodeid,
                    offset,
                    size,
                    padding,
                })?;
            }
            Self::Delete { parent, child, name } => {
                let namelen = short(name.as_bytes().len());
                writer.put(&abi::NotifyDeleteOut { parent, child, namelen, padding: 0 })?;
                writer.bytes(name.as_bytes())?;
            }
            Self::Resend | Self::IncEpoch => {}
            Self::Prune { nodes } => {
                let count = short(nodes.len());
                writer.put(&abi::NotifyPruneOut { count, padding: 0, spare: 0 })?;
                writer.put(nodes)?;
            }
        }
        // The NUL behind a name is what finish() fills in.
        Ok(writer.finish())
    }
}

impl fmt::Display for Notification<'_> {
    /// One line, such as `INVAL_INODE node=9 offset=0 len=4096`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut line = Line::new(f, self.code().name());
        let _ = match *self {
            Self::Poll { kh } => line.field("kh", kh),
            Self::InvalInode { node, offset, len } => {
                line.field("node", node).field("offset", offset).field("len", len)
            }
            Self::InvalEntry { parent, name, flags } => {
                line.field("parent", parent).quoted(name.as_bytes()).flags("flags", flags)
            }
            Self::Store { node, offset, data } => {
                line.field("node", node).field("offset", offset).field("size", data.len())
            }
            Self::Retrieve { notify_unique, node, offset, size } => line
                .field("notify_unique", notify_unique)
                .field("node", node)
                .field("offset", offset)
                .field("size", size),
            Self::Delete { parent, child, name } => {
                line.field("parent", parent).field("child", child).quoted(name.as_bytes())
            }
            Self::Resend | Self::IncEpoch => &mut line,
            Self::Prune { nodes } => line.field("count", nodes.len()),
        };
        line.finish()
    }
}

/// Why the bytes are no notification: EINVAL for the writer, or ENAMETOOLONG for a name that is
/// longer than [`NAME_MAX`]. [`Notification::decode`] says what the kernel takes all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("notification {code}: {field}: {expected}")]
pub struct NotifyError {
    /// The number in the header.
    pub code: i32,
    /// The part of the message, in the words of the protocol.
    pub field: &'static str,
    /// What should have stood there.
    pub expected: Expected,
}

/// The longest name that the kernel takes from a server, bytes (`FUSE_NAME_MAX`).
///
/// Kernel: fs/fuse/fuse_i.h. It is 1024 before Linux 6.14, and until MAX_PAGES is agreed.
pub const NAME_MAX: usize = 4095;

/// What is left of a message.
struct Body<'a> {
    code: i32,
    rest: &'a [u8],
}

impl<'a> Notification<'a> {
    /// Decodes what is written to the device: its header, and `body`, everything behind it.
    ///
    /// The nodeids of PRUNE must stand at an address that is a multiple of 8.
    ///
    /// This is stricter than the kernel, which looks at no body of RESEND and INC_EPOCH, puts a NUL
    /// over whatever ends a name, and takes a name that is empty or has a slash or a NUL inside: no
    /// such name can be cached. It is laxer where MAX_PAGES is not agreed: see [`NAME_MAX`].
    ///
    /// Kernel: fs/fuse/dev.c, `fuse_notify`.
    ///
    /// # Errors
    /// [`NotifyError`] when the header's length is not that of the message, its unique not 0, its
    /// code unknown, or a length in the body not what follows.
    pub fn decode(header: &OutHeader, body: &'a [u8]) -> Result<Self, NotifyError> {
        let mut body = Body { code: header.error, rest: body };
        let found = OutHeader::LEN.saturating_add(body.rest.len());
        if usize::try_from(header.len) != Ok(found) {
            let expected = usize::try_from(header.len).unwrap_or(usize::MAX);
            return Err(body.error("message", Expected::Exactly { expected, found }));
        }
        let unknown = body.error("code", Expected::Code { found: header.error });
        if header.unique != Unique::NOTIFICATION {
            return Err(unknown);
        }
        let decoded = match NotifyCode::from_raw(header.error).ok_or(unknown)? {
            NotifyCode::Poll => {
                let abi::NotifyPollWakeupOut { kh } = body.fixed()?;
                Self::Poll { kh }
            }
            NotifyCode::InvalInode => {
                let abi::NotifyInvalInodeOut { ino, off, len } = body.fixed()?;
                Self::InvalInode { node: ino, offset: off, len }
            }
            NotifyCode::InvalEntry => {
                let abi::NotifyInvalEntryOut { parent, namelen, flags } = body.fixed()?;
                Self::InvalEntry { parent, name: body.name(namelen)?, flags: flags.into() }
            }
            NotifyCode::Store => {
                let abi::NotifyStoreOut { nodeid, offset, size, .. } = body.fixed()?;
                Self::Store { node: nodeid, offset, data: body.take("data", size.into())? }
            }
            NotifyCode::Retrieve => {
                let fixed: abi::NotifyRetrieveOut = body.fixed()?;
                let abi::NotifyRetrieveOut { notify_unique, nodeid, offset, size, .. } = fixed;
                Self::Retrieve { notify_unique, node: nodeid, offset, size }
            }
            NotifyCode::Delete => {
                let abi::NotifyDeleteOut { parent, child, namelen, .. } = body.fixed()?;
                Self::Delete { parent, child, name: body.name(namelen)? }
            }
            NotifyCode::Resend => Self::Resend,
            NotifyCode::IncEpoch => Self::IncEpoch,
            NotifyCode::Prune => {
                let abi::NotifyPruneOut { count, .. } = body.fixed()?;
                Self::Prune { nodes: body.nodes(count)? }
            }
        };
        match body.rest.len() {
            0 => Ok(decoded),
            found => Err(body.error("body", Expected::Nothing { found })),
        }
    }
}

impl<'a> Body<'a> {
    const fn error(&self, field: &'static str, expected: Expected) -> NotifyError {
        NotifyError { code: self.code, field, expected }
    }

    fn fixed<T>(&mut self) -> Result<T, NotifyError>
    where
        T: FromBytes + KnownLayout + Immutable,
    {
        let found = self.rest.len();
        let (fixed, rest) = T::read_from_prefix(self.rest).map_err(|_| {
            let expected = u64::try_from(size_of::<T>()).unwrap_or(u64::MAX);
            self.error("body", Expected::AtLeast { expected, found })
        })?;
        self.rest = rest;
        Ok(fixed)
    }

    /// Takes `len` bytes, which must be all that is left.
    fn take(&mut self, field: &'static str, len: u64) -> Result<&'a [u8], NotifyError> {
        let found = self.rest.len();
        if usize::try_from(len) != Ok(found) {
            let expected = usize::try_from(len).unwrap_or(usize::MAX);
            return Err(self.error(field, Expected::Exactly { expected, found }));
        }
        Ok(core::mem::take(&mut self.rest))
    }

    /// Takes a name of `len` bytes and its NUL.
    fn name(&mut self, len: u32) -> Result<&'a Name, NotifyError> {
        // Both bounds are far below 2^64.
        let most = u64::try_from(NAME_MAX).unwrap_or(u64::MAX);
        if u64::from(len) > most {
            return Err(self.error("name", Expected::AtMost { expected: most, found: len.into() }));
        }
        let string = self.take("name", u64::from(len).saturating_add(1))?;
        let Some((0, name)) = string.split_last().map(|(last, name)| (*last, name)) else {
            return Err(self.error("name", Expected::Terminator));
        };
        Name::new(name).map_err(|why: NameError| self.error("name", Expected::Name(why)))
    }

    fn nodes(&mut self, count: u32) -> Result<&'a [NodeId], NotifyError> {
        let bytes = self.take("nodes", u64::from(count).saturating_mul(8))?;
        if bytes.is_empty() {
            // The address of nothing need not be aligned.
            return Ok(&[]);
        }
        let aligned = self.error("nodes", Expected::Aligned(align_of::<NodeId>()));
        <[NodeId]>::ref_from_bytes(bytes).map_err(|_| aligned)
    }
}
