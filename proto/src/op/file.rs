//! Open files: opening, reading, writing, syncing and closing.

use crate::abi;
use crate::composer::{Composer, wire_len};
use crate::cursor::{DecodeError, Parts};
use crate::flags::{FSyncFlags, OpenFlags, OpenInFlags, ReadFlags, ReleaseFlags, WriteFlags};
use crate::types::{Fh, LockOwner};

/// OPEN: open a regular file.
///
/// - **From**: open(2) of an existing name; the kernel itself for some ioctls.
/// - **Reply**: an opened handle.
/// - **Cached**: the handle. Cached data are dropped unless the reply says KEEP_CACHE.
/// - **Errors**: EACCES, EPERM, ETXTBSY, EROFS, ENXIO, EMFILE. ENOSYS is remembered: opens succeed
///   from then on with handle 0, and no RELEASE is sent.
/// - **Kernel**: fs/fuse/file.c, `fuse_send_open`; since 7.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Open {
    /// Flags of open(2), without O_CREAT, O_EXCL, O_NOCTTY; O_TRUNC only with ATOMIC_O_TRUNC.
    pub flags: OpenFlags,
    /// What the open asks for beyond open(2).
    pub open_flags: OpenInFlags,
}

/// READ: bytes of a file.
///
/// - **From**: read(2), mmap(2) faults, read-ahead; with write-back also partial writes, through
///   handles that may be write-only.
/// - **Reply**: at most `size` bytes. Fewer mean end of file, except with write-back, where the
///   rest of the page becomes zeros.
/// - **Cached**: the data, unless the handle is DIRECT_IO.
/// - **Errors**: EIO, EBADF, EISDIR.
/// - **Kernel**: fs/fuse/file.c, `fuse_read_args_fill`; since 7.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Read {
    /// The open file.
    pub fh: Fh,
    /// Where to begin, bytes.
    pub offset: u64,
    /// How many bytes at most.
    pub size: u32,
    /// The flag word; its LOCKOWNER bit is encoded from `lock_owner`.
    pub read_flags: ReadFlags,
    /// Owner of locks; only from direct I/O.
    pub lock_owner: Option<LockOwner>,
    /// Flags of the open file.
    pub flags: OpenFlags,
}

/// WRITE: bytes for a file.
///
/// - **From**: write(2), mmap(2); with write-back at any time after, without credentials.
/// - **Reply**: how many bytes were taken.
/// - **Cached**: with write-back the count of the reply is not looked at: a short count loses data
///   silently, so all must be written or an error answered.
/// - **Errors**: ENOSPC, EDQUOT, EFBIG, EIO, EROFS. With write-back an error greets the next
///   fsync(2) or close(2). More taken than sent is EIO.
/// - **Kernel**: fs/fuse/file.c, `fuse_write_args_fill`; since 7.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Write<'a> {
    /// The open file; a guess with WRITE_CACHE.
    pub fh: Fh,
    /// Where to begin, bytes; absolute, even for O_APPEND.
    pub offset: u64,
    /// The bytes, in place.
    #[cfg_attr(feature = "serde", serde(serialize_with = "crate::serialize::data"))]
    pub data: &'a [u8],
    /// The flag word; its WRITE_LOCKOWNER bit is encoded from `lock_owner`.
    pub write_flags: WriteFlags,
    /// Owner of locks; only from direct I/O.
    pub lock_owner: Option<LockOwner>,
    /// Flags of the open file, and O_DSYNC or O_SYNC of this call; 0 with WRITE_CACHE.
    pub flags: OpenFlags,
}

/// FLUSH: a descriptor of the file is being closed.
///
/// - **From**: close(2), once for every duplicate of the descriptor; skipped with NOFLUSH.
/// - **Reply**: empty. Errors reach the caller of close(2).
/// - **Cached**: nothing. POSIX locks of `lock_owner` are to be dropped here: no unlock is sent.
/// - **Errors**: EIO, ENOSPC, EDQUOT. ENOSYS is remembered and counts as success.
/// - **Kernel**: fs/fuse/file.c, `fuse_flush`; since 7.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Flush {
    /// The open file.
    pub fh: Fh,
    /// Owner of locks.
    pub lock_owner: LockOwner,
}

/// RELEASE: the last reference to an open file is gone.
///
/// - **From**: the last close(2) and munmap(2), asynchronously; once for every OPEN, CREATE
///   and TMPFILE.
/// - **Reply**: empty; errors are ignored.
/// - **Cached**: nothing; the handle may be used again.
/// - **Errors**: none that anybody sees.
/// - **Kernel**: fs/fuse/file.c, `fuse_file_put`; since 7.1. Comes without credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Release {
    /// The handle that ends.
    pub fh: Fh,
    /// Flags of the open file.
    pub flags: OpenFlags,
    /// The flag word.
    pub release_flags: ReleaseFlags,
    /// Owner of locks; counts only with FLOCK_UNLOCK.
    pub lock_owner: LockOwner,
}

/// FSYNC: make a file durable, data of every handle included.
///
/// - **From**: fsync(2), fdatasync(2), O_SYNC writes, msync(2).
/// - **Reply**: empty.
/// - **Cached**: nothing; all dirty pages were written and answered before.
/// - **Errors**: EIO, ENOSPC, EDQUOT. ENOSYS is remembered and counts as success.
/// - **Kernel**: fs/fuse/file.c, `fuse_fsync_common`; since 7.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct FSync {
    /// The open file.
    pub fh: Fh,
    /// Whether the data suffice, as for fdatasync(2).
    pub datasync: bool,
    /// The flag word; its FDATASYNC bit is encoded from `datasync`.
    pub fsync_flags: FSyncFlags,
}

impl Open {
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

impl Read {
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

impl<'a> Write<'a> {
    #[inline]
    pub(crate) fn decode(mut parts: Parts<'a>) -> Result<Self, DecodeError> {
        let fixed: abi::WriteIn = parts.argument()?;
        let data = parts.data("data", fixed.size)?;
        parts.end()?;
        let write_flags = WriteFlags::from(fixed.write_flags);
        let owned = write_flags.contains(WriteFlags::WRITE_LOCKOWNER);
        let lock_owner = owned.then_some(fixed.lock_owner);
        let abi::WriteIn { fh, offset, flags, .. } = fixed;
        Ok(Self { fh, offset, data, write_flags, lock_owner, flags: flags.into() })
    }

    pub(crate) fn encode(&self, out: &mut Composer<'_>) {
        let mut write_flags = self.write_flags;
        write_flags.set(WriteFlags::WRITE_LOCKOWNER, self.lock_owner.is_some());
        let Self { fh, offset, flags, .. } = *self;
        out.argument(&abi::WriteIn {
            fh,
            offset,
            size: wire_len(self.data),
            write_flags: write_flags.bits(),
            lock_owner: self.lock_owner.unwrap_or_default(),
            flags: flags.bits(),
            padding: 0,
        });
        out.data(self.data);
    }
}

impl Flush {
    #[inline]
    pub(crate) fn decode(mut parts: Parts<'_>) -> Result<Self, DecodeError> {
        let abi::FlushIn { fh, lock_owner, .. } = parts.argument()?;
        parts.end()?;
        Ok(Self { fh, lock_owner })
    }

    pub(crate) fn encode(&self, out: &mut Composer<'_>) {
        let Self { fh, lock_owner } = *self;
        out.argument(&abi::FlushIn { fh, unused: 0, padding: 0, lock_owner });
    }
}

impl Release {
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

impl FSync {
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
