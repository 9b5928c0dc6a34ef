//! Opened handles and figures of the filesystem, and their wire twins, both ways.

use crate::abi;
use crate::flags::FOpenFlags;
use crate::types::Fh;

/// The answer to OPEN and OPENDIR, and half of that to CREATE and TMPFILE.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
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

impl From<&abi::OpenOut> for Opened {
    fn from(wire: &abi::OpenOut) -> Self {
        let abi::OpenOut { fh, open_flags, backing_id } = *wire;
        Self { fh, flags: open_flags.into(), backing_id }
    }
}

/// The answer to STATFS. `bsize`, `frsize` and `namelen` must not be 0: df(1) divides by them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
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

impl From<&abi::StatfsOut> for FsStats {
    fn from(wire: &abi::StatfsOut) -> Self {
        let abi::Kstatfs { blocks, bfree, bavail, files, ffree, bsize, namelen, frsize, .. } =
            wire.st;
        Self { blocks, bfree, bavail, files, ffree, bsize, namelen, frsize }
    }
}
