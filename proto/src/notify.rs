//! Notifications: messages that the server sends on its own account.
//!
//! They go to the device by write(2), also when requests come by the ring. A notification may
//! block in the kernel, so it must never be sent from the task that has to answer a request on the
//! same inode or directory: answer first, notify afterwards. Decoding notifications, for a
//! simulated kernel, will be the inverse of this file.
//!
//! Kernel: fs/fuse/dev.c, `fuse_notify`.

use crate::abi::{self, NotifyCode, OutHeader};
use crate::flags::InvalEntryFlags;
use crate::types::{Name, NodeId, Unique};
use crate::writer::{TooSmall, Writer};

/// A notification, borrowing its name, data or list.
///
/// write(2) fails with ENOENT where the kernel does not have the inode or the name cached; that is
/// no error of the sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notification<'a> {
    /// Wake whoever polls. Since 7.11. Unknown handles are ignored.
    Poll {
        /// The handle that POLL gave.
        kh: u64,
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
    Resend,
    /// End the timeouts of all names at once. Since 7.44.
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
