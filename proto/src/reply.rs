//! Replies: from friendly values to the bytes of a body.
//!
//! Values here have the types that a filesystem thinks in (durations, timestamps, newtypes); their
//! wire twins are in [`abi`]. [`Reply`] joins them: one variant per form of body, so a transport
//! encodes every answer in one call. The header in front of the body is
//! [`abi::OutHeader::new`](crate::abi::OutHeader::new). Decoding replies, with the checks that the
//! kernel makes, will be the inverse of this file.

use core::time::Duration;

use crate::abi;
use crate::flags::{AttrFlags, FOpenFlags, IoctlFlags, StatxMask};
use crate::op::FileLock;
use crate::types::{Fh, Generation, NodeId, Timestamp};
use crate::writer::{TooSmall, Writer};

/// Attributes of an inode, as stat(2) shows them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
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
    pub mode: u32,
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
    /// The type as a directory record says it: `mode >> 12`.
    #[must_use]
    pub const fn kind(&self) -> u32 {
        self.mode >> 12
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
            mode: attr.mode,
            nlink: attr.nlink,
            uid: attr.uid,
            gid: attr.gid,
            rdev: attr.rdev,
            blksize: attr.blksize,
            flags: attr.flags.bits(),
        }
    }
}

/// A name's inode: the answer to LOOKUP and to everything that makes an inode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
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

/// The answer to GETATTR and SETATTR.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
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

/// Attributes of an inode, as statx(2) shows them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
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
    /// Type and permission bits.
    pub mode: u16,
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

impl From<&Statx> for abi::Statx {
    fn from(statx: &Statx) -> Self {
        Self {
            mask: statx.mask.bits(),
            blksize: statx.blksize,
            attributes: statx.attributes,
            nlink: statx.nlink,
            uid: statx.uid,
            gid: statx.gid,
            mode: statx.mode,
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

/// The answer to OPEN and OPENDIR, and half of that to CREATE and TMPFILE.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Opened {
    /// The handle, of the server's choice.
    pub fh: Fh,
    /// What the kernel may do with it.
    pub flags: FOpenFlags,
    /// Id of the backing file; counts only with PASSTHROUGH, else 0.
    pub backing_id: i32,
}

impl From<&Opened> for abi::OpenOut {
    fn from(opened: &Opened) -> Self {
        let Opened { fh, flags, backing_id } = *opened;
        Self { fh, open_flags: flags.bits(), backing_id }
    }
}

/// The answer to STATFS. `bsize`, `frsize` and `namelen` must not be 0: df(1) divides by them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FsStats {
    /// Total size, in units of `frsize`.
    pub blocks: u64,
    /// Free blocks.
    pub bfree: u64,
    /// Free blocks for unprivileged users.
    pub bavail: u64,
    /// Inodes in all.
    pub files: u64,
    /// Free inodes.
    pub ffree: u64,
    /// Preferred I/O size, bytes.
    pub bsize: u32,
    /// Longest name, bytes.
    pub namelen: u32,
    /// Unit of the block counts, bytes.
    pub frsize: u32,
}

impl From<&FsStats> for abi::StatfsOut {
    fn from(stats: &FsStats) -> Self {
        let FsStats { blocks, bfree, bavail, files, ffree, bsize, namelen, frsize } = *stats;
        let (padding, spare) = (0, [0; 6]);
        let st = abi::Kstatfs {
            blocks,
            bfree,
            bavail,
            files,
            ffree,
            bsize,
            namelen,
            frsize,
            padding,
            spare,
        };
        Self { st }
    }
}

/// The body of a successful reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply<'a> {
    /// No body: UNLINK, RELEASE, SETXATTR and many more.
    Empty,
    /// LOOKUP, MKNOD, MKDIR, SYMLINK, LINK: 128 bytes.
    Entry(Entry),
    /// GETATTR, SETATTR: 104 bytes.
    Attributes(Attributes),
    /// STATX: 288 bytes.
    Statx(StatxAttributes),
    /// OPEN, OPENDIR: 16 bytes.
    Opened(Opened),
    /// CREATE, TMPFILE: 144 bytes.
    Created(Entry, Opened),
    /// WRITE and COPY_FILE_RANGE: how many bytes; 8 bytes.
    Written(u32),
    /// STATFS: 80 bytes.
    FsStats(FsStats),
    /// READ, READDIR, READDIRPLUS, READLINK; GETXATTR and LISTXATTR with a size.
    Bytes(&'a [u8]),
    /// GETXATTR and LISTXATTR with size 0: the length; 8 bytes.
    XattrSize(u32),
    /// GETLK: 24 bytes.
    Lock(FileLock),
    /// BMAP: the block; 8 bytes.
    BMap(u64),
    /// IOCTL: 16 bytes and the data.
    Ioctl {
        /// What ioctl(2) returns; a negative errno is allowed.
        result: i32,
        /// Usually empty.
        flags: IoctlFlags,
        /// What the caller gets; at most `out_size` bytes.
        data: &'a [u8],
    },
    /// IOCTL, unrestricted (CUSE): ask again with these ranges of the caller's memory.
    ///
    /// At most [`abi::IOCTL_MAX_IOV`] ranges, both directions together.
    IoctlRetry {
        /// Ranges to be read and sent.
        input: &'a [abi::IoctlIovec],
        /// Ranges to be written with the final reply.
        output: &'a [abi::IoctlIovec],
    },
    /// POLL: the events; 8 bytes.
    Poll(u32),
    /// LSEEK: the position; 8 bytes.
    Offset(u64),
    /// COPY_FILE_RANGE_64: how many bytes; 8 bytes.
    Copied(u64),
    /// INIT: 64 bytes, made by [`Agreement::init_out`](crate::negotiate::Agreement::init_out).
    Init(abi::InitOut),
    /// CUSE_INIT: 72 bytes and the device's strings, such as `DEVNAME=x` and a NUL.
    CuseInit(abi::CuseInitOut, &'a [u8]),
}

impl Reply<'_> {
    /// Length of the body in bytes.
    #[must_use]
    pub const fn encoded_len(&self) -> usize {
        match self {
            Self::Empty => 0,
            Self::Entry(_) => size_of::<abi::EntryOut>(),
            Self::Attributes(_) => size_of::<abi::AttrOut>(),
            Self::Statx(_) => size_of::<abi::StatxOut>(),
            Self::Opened(_) => size_of::<abi::OpenOut>(),
            Self::Created(..) => size_of::<(abi::EntryOut, abi::OpenOut)>(),
            Self::Written(_) => size_of::<abi::WriteOut>(),
            Self::FsStats(_) => size_of::<abi::StatfsOut>(),
            Self::Bytes(bytes) => bytes.len(),
            Self::XattrSize(_) => size_of::<abi::GetxattrOut>(),
            Self::Lock(_) => size_of::<abi::LkOut>(),
            Self::BMap(_) => size_of::<abi::BmapOut>(),
            Self::Ioctl { data, .. } => size_of::<abi::IoctlOut>().saturating_add(data.len()),
            Self::IoctlRetry { input, output } => size_of::<abi::IoctlOut>()
                .saturating_add(size_of_val(*input))
                .saturating_add(size_of_val(*output)),
            Self::Poll(_) => size_of::<abi::PollOut>(),
            Self::Offset(_) => size_of::<abi::LseekOut>(),
            Self::Copied(_) => size_of::<abi::CopyFileRangeOut>(),
            Self::Init(_) => size_of::<abi::InitOut>(),
            Self::CuseInit(_, info) => size_of::<abi::CuseInitOut>().saturating_add(info.len()),
        }
    }

    /// Writes the body to the start of `out` and returns its length.
    ///
    /// # Errors
    /// [`TooSmall`] when `out` is shorter than [`Reply::encoded_len`]; nothing is written then.
    pub fn encode(&self, out: &mut [u8]) -> Result<usize, TooSmall> {
        let mut writer = Writer::new(out, self.encoded_len())?;
        match self {
            Self::Empty => {}
            Self::Entry(entry) => writer.put(&abi::EntryOut::from(entry))?,
            Self::Attributes(attributes) => writer.put(&abi::AttrOut::from(attributes))?,
            Self::Statx(attributes) => writer.put(&abi::StatxOut::from(attributes))?,
            Self::Opened(opened) => writer.put(&abi::OpenOut::from(opened))?,
            Self::Created(entry, opened) => {
                writer.put(&abi::EntryOut::from(entry))?;
                writer.put(&abi::OpenOut::from(opened))?;
            }
            Self::Written(size) => writer.put(&abi::WriteOut { size: *size, padding: 0 })?,
            Self::FsStats(stats) => writer.put(&abi::StatfsOut::from(stats))?,
            Self::Bytes(bytes) => writer.bytes(bytes)?,
            Self::XattrSize(size) => writer.put(&abi::GetxattrOut { size: *size, padding: 0 })?,
            Self::Lock(lock) => writer.put(&abi::LkOut { lk: (*lock).into() })?,
            Self::BMap(block) => writer.put(&abi::BmapOut { block: *block })?,
            Self::Ioctl { result, flags, data } => {
                let flags = flags.bits();
                writer.put(&abi::IoctlOut { result: *result, flags, in_iovs: 0, out_iovs: 0 })?;
                writer.bytes(data)?;
            }
            Self::IoctlRetry { input, output } => {
                writer.put(&abi::IoctlOut {
                    result: 0,
                    flags: IoctlFlags::RETRY.bits(),
                    in_iovs: u32::try_from(input.len()).unwrap_or(u32::MAX),
                    out_iovs: u32::try_from(output.len()).unwrap_or(u32::MAX),
                })?;
                writer.put(*input)?;
                writer.put(*output)?;
            }
            Self::Poll(revents) => writer.put(&abi::PollOut { revents: *revents, padding: 0 })?,
            Self::Offset(offset) => writer.put(&abi::LseekOut { offset: *offset })?,
            Self::Copied(bytes_copied) => {
                writer.put(&abi::CopyFileRangeOut { bytes_copied: *bytes_copied })?;
            }
            Self::Init(init) => writer.put(init)?,
            Self::CuseInit(init, info) => {
                writer.put(init)?;
                writer.bytes(info)?;
            }
        }
        Ok(writer.finish())
    }
}
