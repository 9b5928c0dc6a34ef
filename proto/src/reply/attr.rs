//! Attributes and entries: what most replies are made of, and their wire twins, both ways.

use core::time::Duration;

use crate::abi;
use crate::flags::{AttrFlags, StatxMask};
use crate::mode::Mode;
use crate::types::{Generation, NodeId, Timestamp};

/// Attributes of an inode, as stat(2) shows them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Attr {
    /// Inode number that `stat` shows; identity is nodeid and generation. glibc hides 0.
    pub ino: u64,
    /// Length, bytes; at most 2^63 - 1.
    pub size: u64,
    /// Space used, in units of 512 bytes.
    pub blocks: u64,
    /// Last access.
    pub atime: Timestamp,
    /// Last change of the data.
    pub mtime: Timestamp,
    /// Last change of the attributes.
    pub ctime: Timestamp,
    /// Type and permission bits; the type must be one of the seven.
    pub mode: Mode,
    /// Number of hard links.
    pub nlink: u32,
    /// Owning user.
    pub uid: u32,
    /// Owning group.
    pub gid: u32,
    /// Device number of a device node: `(minor & 0xff) | major << 8 | (minor & !0xff) << 12`.
    pub rdev: u32,
    /// Preferred I/O size, bytes; 0 takes the one of the mount.
    pub blksize: u32,
    /// DAX and submounts; virtiofs.
    pub flags: AttrFlags,
}

impl Attr {
    /// Whether the kernel takes these: the type is one of the seven, the size below 2^63.
    ///
    /// Kernel: fs/fuse/dir.c, `fuse_invalid_attr`.
    #[must_use]
    pub const fn is_valid(&self) -> bool {
        self.mode.file_type().is_valid() && self.size <= i64::MAX.cast_unsigned()
    }
}

impl From<&Attr> for abi::Attr {
    fn from(attr: &Attr) -> Self {
        Self {
            ino: attr.ino,
            size: attr.size,
            blocks: attr.blocks,
            atime: attr.atime.wire_seconds(),
            mtime: attr.mtime.wire_seconds(),
            ctime: attr.ctime.wire_seconds(),
            atimensec: attr.atime.nanoseconds,
            mtimensec: attr.mtime.nanoseconds,
            ctimensec: attr.ctime.nanoseconds,
            mode: attr.mode.0,
            nlink: attr.nlink,
            uid: attr.uid,
            gid: attr.gid,
            rdev: attr.rdev,
            blksize: attr.blksize,
            flags: attr.flags.bits(),
        }
    }
}

impl From<&abi::Attr> for Attr {
    fn from(wire: &abi::Attr) -> Self {
        Self {
            ino: wire.ino,
            size: wire.size,
            blocks: wire.blocks,
            atime: Timestamp::from_wire(wire.atime, wire.atimensec),
            mtime: Timestamp::from_wire(wire.mtime, wire.mtimensec),
            ctime: Timestamp::from_wire(wire.ctime, wire.ctimensec),
            mode: Mode(wire.mode),
            nlink: wire.nlink,
            uid: wire.uid,
            gid: wire.gid,
            rdev: wire.rdev,
            blksize: wire.blksize,
            flags: wire.flags.into(),
        }
    }
}

/// A timeout of the wire; too many nanoseconds are clamped, as the kernel does.
///
/// Kernel: fs/fuse/dir.c, `fuse_time_to_jiffies`.
fn timeout(seconds: u64, nanoseconds: u32) -> Duration {
    Duration::new(seconds, nanoseconds.min(999_999_999))
}

/// A name's inode: the answer to LOOKUP and to everything that makes an inode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Entry {
    /// The inode; 0 says that there is no such name.
    pub nodeid: NodeId,
    /// Reuse counter of the nodeid.
    pub generation: Generation,
    /// How long the kernel may use the name without asking; zero asks each time.
    pub entry_valid: Duration,
    /// How long the kernel may use the attributes without asking.
    pub attr_valid: Duration,
    /// The attributes.
    pub attr: Attr,
}

impl Entry {
    /// "There is no such name", to be remembered for `valid`.
    #[must_use]
    pub fn negative(valid: Duration) -> Self {
        Self { entry_valid: valid, ..Self::default() }
    }
}

impl From<&Entry> for abi::EntryOut {
    fn from(entry: &Entry) -> Self {
        Self {
            nodeid: entry.nodeid,
            generation: entry.generation,
            entry_valid: entry.entry_valid.as_secs(),
            attr_valid: entry.attr_valid.as_secs(),
            entry_valid_nsec: entry.entry_valid.subsec_nanos(),
            attr_valid_nsec: entry.attr_valid.subsec_nanos(),
            attr: (&entry.attr).into(),
        }
    }
}

impl From<&abi::EntryOut> for Entry {
    fn from(wire: &abi::EntryOut) -> Self {
        Self {
            nodeid: wire.nodeid,
            generation: wire.generation,
            entry_valid: timeout(wire.entry_valid, wire.entry_valid_nsec),
            attr_valid: timeout(wire.attr_valid, wire.attr_valid_nsec),
            attr: (&wire.attr).into(),
        }
    }
}

/// The answer to GETATTR and SETATTR.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Attributes {
    /// How long the kernel may use them without asking.
    pub valid: Duration,
    /// The attributes.
    pub attr: Attr,
}

impl From<&Attributes> for abi::AttrOut {
    fn from(attributes: &Attributes) -> Self {
        Self {
            attr_valid: attributes.valid.as_secs(),
            attr_valid_nsec: attributes.valid.subsec_nanos(),
            dummy: 0,
            attr: (&attributes.attr).into(),
        }
    }
}

impl From<&abi::AttrOut> for Attributes {
    fn from(wire: &abi::AttrOut) -> Self {
        let valid = timeout(wire.attr_valid, wire.attr_valid_nsec);
        Self { valid, attr: (&wire.attr).into() }
    }
}

/// Attributes of an inode, as statx(2) shows them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Statx {
    /// Which fields are valid.
    pub mask: StatxMask,
    /// Preferred I/O size, bytes.
    pub blksize: u32,
    /// Attribute bits of statx(2).
    pub attributes: u64,
    /// Number of hard links.
    pub nlink: u32,
    /// Owning user.
    pub uid: u32,
    /// Owning group.
    pub gid: u32,
    /// Type and permission bits; the wire has the lowest 16, which are all of them.
    pub mode: Mode,
    /// Inode number.
    pub ino: u64,
    /// Length, bytes.
    pub size: u64,
    /// Space used, in units of 512 bytes.
    pub blocks: u64,
    /// Which bits of `attributes` are supported.
    pub attributes_mask: u64,
    /// Last access.
    pub atime: Timestamp,
    /// Birth.
    pub btime: Timestamp,
    /// Last change of the attributes.
    pub ctime: Timestamp,
    /// Last change of the data.
    pub mtime: Timestamp,
    /// Major number of a device node.
    pub rdev_major: u32,
    /// Minor number of a device node.
    pub rdev_minor: u32,
    /// Major number of the device; the kernel puts its own.
    pub dev_major: u32,
    /// Minor number of the device; the kernel puts its own.
    pub dev_minor: u32,
}

impl From<Timestamp> for abi::SxTime {
    fn from(time: Timestamp) -> Self {
        Self { tv_sec: time.seconds, tv_nsec: time.nanoseconds, reserved: 0 }
    }
}

impl From<abi::SxTime> for Timestamp {
    fn from(wire: abi::SxTime) -> Self {
        Self::new(wire.tv_sec, wire.tv_nsec)
    }
}

impl From<&abi::Statx> for Statx {
    fn from(wire: &abi::Statx) -> Self {
        Self {
            mask: wire.mask.into(),
            blksize: wire.blksize,
            attributes: wire.attributes,
            nlink: wire.nlink,
            uid: wire.uid,
            gid: wire.gid,
            mode: Mode(wire.mode.into()),
            ino: wire.ino,
            size: wire.size,
            blocks: wire.blocks,
            attributes_mask: wire.attributes_mask,
            atime: wire.atime.into(),
            btime: wire.btime.into(),
            ctime: wire.ctime.into(),
            mtime: wire.mtime.into(),
            rdev_major: wire.rdev_major,
            rdev_minor: wire.rdev_minor,
            dev_major: wire.dev_major,
            dev_minor: wire.dev_minor,
        }
    }
}

impl From<&Statx> for abi::Statx {
    fn from(statx: &Statx) -> Self {
        Self {
            mask: statx.mask.bits(),
            blksize: statx.blksize,
            attributes: statx.attributes,
            nlink: statx.nlink,
            uid: statx.uid,
            gid: statx.gid,
            mode: statx.mode.low(),
            spare0: [0],
            ino: statx.ino,
            size: statx.size,
            blocks: statx.blocks,
            attributes_mask: statx.attributes_mask,
            atime: statx.atime.into(),
            btime: statx.btime.into(),
            ctime: statx.ctime.into(),
            mtime: statx.mtime.into(),
            rdev_major: statx.rdev_major,
            rdev_minor: statx.rdev_minor,
            dev_major: statx.dev_major,
            dev_minor: statx.dev_minor,
            spare2: [0; 14],
        }
    }
}

/// The answer to STATX.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct StatxAttributes {
    /// How long the kernel may use the basic attributes without asking.
    pub valid: Duration,
    /// DAX and submounts; virtiofs.
    pub flags: AttrFlags,
    /// The attributes.
    pub statx: Statx,
}

impl From<&StatxAttributes> for abi::StatxOut {
    fn from(attributes: &StatxAttributes) -> Self {
        Self {
            attr_valid: attributes.valid.as_secs(),
            attr_valid_nsec: attributes.valid.subsec_nanos(),
            flags: attributes.flags.bits(),
            spare: [0; 2],
            stat: (&attributes.statx).into(),
        }
    }
}

impl From<&abi::StatxOut> for StatxAttributes {
    fn from(wire: &abi::StatxOut) -> Self {
        let valid = timeout(wire.attr_valid, wire.attr_valid_nsec);
        Self { valid, flags: wire.flags.into(), statx: (&wire.stat).into() }
    }
}
