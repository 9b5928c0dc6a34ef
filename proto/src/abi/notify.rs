//! Notifications, which the server sends on its own account, and the answer to RETRIEVE.
//!
//! Encoding is in [`notify`](crate::notify).

use core::mem::offset_of;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::types::{NodeId, PollHandle, Unique};

/// `struct fuse_notify_poll_wakeup_out`: body of NOTIFY_POLL.
///
/// Kernel: include/uapi/linux/fuse.h, since 7.11.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct NotifyPollWakeupOut {
    /// The handle that POLL gave.
    pub kh: PollHandle,
}
const _: () = assert!(size_of::<NotifyPollWakeupOut>() == 8);

/// `struct fuse_notify_inval_inode_out`: body of NOTIFY_INVAL_INODE.
///
/// Kernel: include/uapi/linux/fuse.h, since 7.12.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct NotifyInvalInodeOut {
    /// The inode: a nodeid, in spite of its name.
    pub ino: NodeId,
    /// First byte of cached data to drop; negative for attributes only.
    pub off: i64,
    /// How many bytes; 0 or less for all up to the end.
    pub len: i64,
}
const _: () =
    assert!(size_of::<NotifyInvalInodeOut>() == 24 && offset_of!(NotifyInvalInodeOut, len) == 16);

/// `struct fuse_notify_inval_entry_out`: body of NOTIFY_INVAL_ENTRY; the name and a NUL follow.
///
/// Kernel: include/uapi/linux/fuse.h, since 7.12 (`flags` 7.38).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct NotifyInvalEntryOut {
    /// The directory.
    pub parent: NodeId,
    /// Length of the name in bytes, without its NUL.
    pub namelen: u32,
    /// [`InvalEntryFlags`](crate::flags::InvalEntryFlags).
    pub flags: u32,
}
const _: () =
    assert!(size_of::<NotifyInvalEntryOut>() == 16 && offset_of!(NotifyInvalEntryOut, flags) == 12);

/// `struct fuse_notify_delete_out`: body of NOTIFY_DELETE; the name and a NUL follow.
///
/// Kernel: include/uapi/linux/fuse.h, since 7.18.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct NotifyDeleteOut {
    /// The directory.
    pub parent: NodeId,
    /// The inode that the name had.
    pub child: NodeId,
    /// Length of the name in bytes, without its NUL.
    pub namelen: u32,
    /// Zero.
    pub padding: u32,
}
const _: () =
    assert!(size_of::<NotifyDeleteOut>() == 24 && offset_of!(NotifyDeleteOut, padding) == 20);

/// `struct fuse_notify_store_out`: body of NOTIFY_STORE; `size` bytes follow.
///
/// Kernel: include/uapi/linux/fuse.h, since 7.15.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct NotifyStoreOut {
    /// The inode.
    pub nodeid: NodeId,
    /// Position in the file, bytes.
    pub offset: u64,
    /// How many bytes follow.
    pub size: u32,
    /// Zero.
    pub padding: u32,
}
const _: () =
    assert!(size_of::<NotifyStoreOut>() == 24 && offset_of!(NotifyStoreOut, padding) == 20);

/// `struct fuse_notify_retrieve_out`: body of NOTIFY_RETRIEVE; a NOTIFY_REPLY will come.
///
/// Kernel: include/uapi/linux/fuse.h, since 7.15.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct NotifyRetrieveOut {
    /// The unique that NOTIFY_REPLY shall carry, chosen by the server.
    pub notify_unique: Unique,
    /// The inode.
    pub nodeid: NodeId,
    /// Position in the file, bytes.
    pub offset: u64,
    /// How many bytes are wanted.
    pub size: u32,
    /// Zero.
    pub padding: u32,
}
const _: () =
    assert!(size_of::<NotifyRetrieveOut>() == 32 && offset_of!(NotifyRetrieveOut, padding) == 28);

/// `struct fuse_notify_retrieve_in`: argument of NOTIFY_REPLY; `size` bytes follow.
///
/// It has the shape of [`WriteIn`](super::WriteIn).
///
/// Kernel: include/uapi/linux/fuse.h, since 7.15.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct NotifyRetrieveIn {
    /// Zero.
    pub dummy1: u64,
    /// Position in the file, bytes.
    pub offset: u64,
    /// How many bytes follow.
    pub size: u32,
    /// Zero.
    pub dummy2: u32,
    /// Zero.
    pub dummy3: u64,
    /// Zero.
    pub dummy4: u64,
}
const _: () =
    assert!(size_of::<NotifyRetrieveIn>() == 40 && offset_of!(NotifyRetrieveIn, dummy4) == 32);

/// `struct fuse_notify_prune_out`: body of NOTIFY_PRUNE; `count` nodeids follow.
///
/// Kernel: include/uapi/linux/fuse.h, since 7.45.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct NotifyPruneOut {
    /// Number of nodeids.
    pub count: u32,
    /// Zero.
    pub padding: u32,
    /// Zero.
    pub spare: u64,
}
const _: () = assert!(size_of::<NotifyPruneOut>() == 16 && offset_of!(NotifyPruneOut, spare) == 8);

/// What a notification asks for: the positive number in [`OutHeader::error`](super::OutHeader).
///
/// Kernel: include/uapi/linux/fuse.h, `enum fuse_notify_code`.
#[repr(i32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NotifyCode {
    /// Wake whoever polls a file; since 7.11.
    Poll = 1,
    /// Drop cached attributes and data of an inode; since 7.12.
    InvalInode = 2,
    /// Drop a cached name; since 7.12.
    InvalEntry = 3,
    /// Put data into the page cache; since 7.15.
    Store = 4,
    /// Get data out of the page cache; since 7.15.
    Retrieve = 5,
    /// Drop a cached name because the file is gone; since 7.18.
    Delete = 6,
    /// Send again what was read and not answered; since 7.40.
    Resend = 7,
    /// End the timeouts of all cached names; since 7.44.
    IncEpoch = 8,
    /// Drop unused inodes; since 7.45.
    Prune = 9,
}

impl NotifyCode {
    /// Every code, in the order of the numbers.
    pub const ALL: &[Self] = &[
        Self::Poll,
        Self::InvalInode,
        Self::InvalEntry,
        Self::Store,
        Self::Retrieve,
        Self::Delete,
        Self::Resend,
        Self::IncEpoch,
        Self::Prune,
    ];

    /// The header's name without its `FUSE_NOTIFY_` prefix.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Poll => "POLL",
            Self::InvalInode => "INVAL_INODE",
            Self::InvalEntry => "INVAL_ENTRY",
            Self::Store => "STORE",
            Self::Retrieve => "RETRIEVE",
            Self::Delete => "DELETE",
            Self::Resend => "RESEND",
            Self::IncEpoch => "INC_EPOCH",
            Self::Prune => "PRUNE",
        }
    }

    /// The wire number.
    #[must_use]
    pub const fn raw(self) -> i32 {
        self as i32
    }

    /// The code of a wire number, or `None` for one that is not known.
    #[must_use]
    pub fn from_raw(raw: i32) -> Option<Self> {
        Self::ALL.iter().copied().find(|code| code.raw() == raw)
    }
}
