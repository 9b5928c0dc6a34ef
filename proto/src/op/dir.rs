//! Open directories: opening, listing, syncing and closing.

use crate::abi;
use crate::composer::Composer;
use crate::cursor::{DecodeError, Parts};
use crate::flags::{FSyncFlags, OpenFlags, OpenInFlags, ReadFlags, ReleaseFlags};
use crate::types::{Fh, LockOwner};

/// OPENDIR: open a directory.
///
/// - **From**: open(2) of a directory, opendir(3).
/// - **Reply**: an opened handle.
/// - **Cached**: the handle; the records only if the reply says CACHE_DIR.
/// - **Errors**: EACCES, EPERM, EMFILE. ENOSYS is remembered: opens succeed from then on with
///   handle 0 and cached records, and no RELEASEDIR is sent.
/// - **Kernel**: fs/fuse/dir.c, `fuse_dir_open`; since 7.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct OpenDir {
    /// Flags of open(2).
    pub flags: OpenFlags,
    /// What the open asks for beyond open(2).
    pub open_flags: OpenInFlags,
}

/// READDIR: records of a directory, from a cookie on.
///
/// - **From**: getdents64(2), readdir(3).
/// - **Reply**: records by a [`DirentWriter`](crate::dirent::DirentWriter), at most `size` bytes.
///   No bytes mean the end. If not even one record fits, EINVAL.
/// - **Cached**: with CACHE_DIR, once read in order to the end. No look-ups are counted.
/// - **Errors**: EINVAL, EIO, ENOENT (removed directory).
/// - **Kernel**: fs/fuse/readdir.c, `fuse_readdir_uncached`; since 7.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct ReadDir {
    /// The open directory.
    pub fh: Fh,
    /// The cookie behind which to go on; 0 from the start.
    pub offset: u64,
    /// How many bytes at most.
    pub size: u32,
    /// The flag word; its LOCKOWNER bit is encoded from `lock_owner`.
    pub read_flags: ReadFlags,
    /// Owner of locks, if the flags say so; never for directories today.
    pub lock_owner: Option<LockOwner>,
    /// Flags of the open file.
    pub flags: OpenFlags,
}

/// READDIRPLUS: records of a directory with a look-up of each name.
///
/// - **From**: as READDIR, where DO_READDIRPLUS is agreed.
/// - **Reply**: records by a [`DirentPlusWriter`](crate::dirent::DirentPlusWriter).
/// - **Cached**: each entry as for LOOKUP. Every record with a nodeid counts one look-up, `.` and
///   `..` excepted.
/// - **Errors**: as READDIR. ENOSYS is not remembered, and there is no way back to READDIR.
/// - **Kernel**: fs/fuse/readdir.c, `fuse_direntplus_link`; since 7.21.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct ReadDirPlus {
    /// The open directory.
    pub fh: Fh,
    /// The cookie behind which to go on; 0 from the start. The same cookies as READDIR's.
    pub offset: u64,
    /// How many bytes at most.
    pub size: u32,
    /// The flag word; its LOCKOWNER bit is encoded from `lock_owner`.
    pub read_flags: ReadFlags,
    /// Owner of locks, if the flags say so; never for directories today.
    pub lock_owner: Option<LockOwner>,
    /// Flags of the open file.
    pub flags: OpenFlags,
}

/// RELEASEDIR: the last reference to an open directory is gone.
///
/// - **From**: the last close(2), asynchronously; once for every OPENDIR.
/// - **Reply**: empty; errors are ignored.
/// - **Cached**: nothing; the handle may be used again.
/// - **Errors**: none that anybody sees.
/// - **Kernel**: fs/fuse/dir.c, `fuse_dir_release`; since 7.1. Comes without credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct ReleaseDir {
    /// The handle that ends.
    pub fh: Fh,
    /// Flags of the open file.
    pub flags: OpenFlags,
    /// The flag word.
    pub release_flags: ReleaseFlags,
    /// Owner of locks; counts only with FLOCK_UNLOCK.
    pub lock_owner: LockOwner,
}

/// FSYNCDIR: make the names of a directory durable.
///
/// - **From**: fsync(2), fdatasync(2) of a directory.
/// - **Reply**: empty.
/// - **Cached**: nothing.
/// - **Errors**: EIO, ENOSPC. ENOSYS is remembered and counts as success.
/// - **Kernel**: fs/fuse/dir.c, `fuse_dir_fsync`; since 7.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct FSyncDir {
    /// The open directory.
    pub fh: Fh,
    /// Whether the data suffice, as for fdatasync(2).
    pub datasync: bool,
    /// The flag word; its FDATASYNC bit is encoded from `datasync`.
    pub fsync_flags: FSyncFlags,
}

impl OpenDir {
    #[inline]
    pub(crate) fn decode(mut parts: Parts<'_>) -> Result<Self, DecodeError> {
        let abi::OpenIn { flags, open_flags } = parts.argument()?;
        parts.end()?;
        Ok(Self { flags: flags.into(), open_flags: open_flags.into() })
    }

    pub(crate) fn encode(&self, out: &mut Composer<'_>) {
        let (flags, open_flags) = (self.flags.bits(), self.open_flags.bits());
        out.argument(&abi::OpenIn { flags, open_flags });
    }
}

impl ReadDir {
    #[inline]
    pub(crate) fn decode(mut parts: Parts<'_>) -> Result<Self, DecodeError> {
        let fixed: abi::ReadIn = parts.argument()?;
        parts.end()?;
        let read_flags = ReadFlags::from(fixed.read_flags);
        let lock_owner = read_flags.contains(ReadFlags::LOCKOWNER).then_some(fixed.lock_owner);
        let abi::ReadIn { fh, offset, size, flags, .. } = fixed;
        Ok(Self { fh, offset, size, read_flags, lock_owner, flags: flags.into() })
    }

    pub(crate) fn encode(&self, out: &mut Composer<'_>) {
        let mut read_flags = self.read_flags;
        read_flags.set(ReadFlags::LOCKOWNER, self.lock_owner.is_some());
        let Self { fh, offset, size, flags, .. } = *self;
        out.argument(&abi::ReadIn {
            fh,
            offset,
            size,
            read_flags: read_flags.bits(),
            lock_owner: self.lock_owner.unwrap_or_default(),
            flags: flags.bits(),
            padding: 0,
        });
    }
}

impl ReadDirPlus {
    pub(crate) fn decode(parts: Parts<'_>) -> Result<Self, DecodeError> {
        let ReadDir { fh, offset, size, read_flags, lock_owner, flags } = ReadDir::decode(parts)?;
        Ok(Self { fh, offset, size, read_flags, lock_owner, flags })
    }

    pub(crate) fn encode(&self, out: &mut Composer<'_>) {
        let Self { fh, offset, size, read_flags, lock_owner, flags } = *self;
        ReadDir { fh, offset, size, read_flags, lock_owner, flags }.encode(out);
    }
}

impl ReleaseDir {
    #[inline]
    pub(crate) fn decode(mut parts: Parts<'_>) -> Result<Self, DecodeError> {
        let abi::ReleaseIn { fh, flags, release_flags, lock_owner } = parts.argument()?;
        parts.end()?;
        let (flags, release_flags) = (flags.into(), release_flags.into());
        Ok(Self { fh, flags, release_flags, lock_owner })
    }

    pub(crate) fn encode(&self, out: &mut Composer<'_>) {
        let Self { fh, lock_owner, .. } = *self;
        let (flags, release_flags) = (self.flags.bits(), self.release_flags.bits());
        out.argument(&abi::ReleaseIn { fh, flags, release_flags, lock_owner });
    }
}

impl FSyncDir {
    #[inline]
    pub(crate) fn decode(mut parts: Parts<'_>) -> Result<Self, DecodeError> {
        let abi::FsyncIn { fh, fsync_flags, .. } = parts.argument()?;
        parts.end()?;
        let fsync_flags = FSyncFlags::from(fsync_flags);
        let datasync = fsync_flags.contains(FSyncFlags::FDATASYNC);
        Ok(Self { fh, datasync, fsync_flags })
    }

    pub(crate) fn encode(&self, out: &mut Composer<'_>) {
        let mut fsync_flags = self.fsync_flags;
        fsync_flags.set(FSyncFlags::FDATASYNC, self.datasync);
        let (fh, fsync_flags) = (self.fh, fsync_flags.bits());
        out.argument(&abi::FsyncIn { fh, fsync_flags, padding: 0 });
    }
}
