//! Attributes: reading and setting them, and what is close to them.

use crate::abi;
use crate::cursor::{DecodeError, Parts};
use crate::flags::{GetAttrFlags, SetAttrValid};
use crate::types::{Fh, LockOwner, Timestamp};

/// GETATTR: the attributes of an inode.
///
/// - **From**: stat(2) and every other use of attributes whose timeout is over.
/// - **Reply**: the attributes and their timeout.
/// - **Cached**: for `attr_valid`. With write-back, size and times of regular files are the
///   kernel's, and the reply's are ignored.
/// - **Errors**: ENOENT, ESTALE, EIO. A type other than the inode's makes the inode bad for ever.
/// - **Kernel**: fs/fuse/dir.c, `fuse_do_getattr`; since 7.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GetAttr {
    /// A handle, only from within I/O: fstat(2) comes without, even for an unlinked file.
    pub fh: Option<Fh>,
}

/// SETATTR: change mode, owner, size or times; fields that are `None` stay.
///
/// - **From**: chmod(2), chown(2), truncate(2), utimensat(2); the kernel itself with write-back
///   (times) and without HANDLE_KILLPRIV (set-id bits).
/// - **Reply**: the new attributes, all of them, and their timeout.
/// - **Cached**: as for GETATTR; after a truncation the size of the reply counts always.
/// - **Errors**: EPERM, EACCES, EINVAL, EFBIG, ENOSPC, EROFS, ETXTBSY.
/// - **Kernel**: fs/fuse/dir.c, `fuse_do_setattr`; since 7.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SetAttr {
    /// The handle, for ftruncate(2) and its like.
    pub fh: Option<Fh>,
    /// Type and permission bits.
    pub mode: Option<u32>,
    /// Owning user.
    pub uid: Option<u32>,
    /// Owning group.
    pub gid: Option<u32>,
    /// Length, bytes.
    pub size: Option<u64>,
    /// Last access.
    pub atime: Option<SetTime>,
    /// Last change of the data.
    pub mtime: Option<SetTime>,
    /// Last change of the attributes; only with write-back, and to be kept if the store can.
    pub ctime: Option<Timestamp>,
    /// Owner of locks, with a change of size.
    pub lock_owner: Option<LockOwner>,
    /// Strip set-user-id, and set-group-id of what is group-executable.
    pub kill_suidgid: bool,
    /// The word that said all this.
    pub valid: SetAttrValid,
}

/// A time that SETATTR sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetTime {
    /// The server's own clock.
    Now,
    /// This time.
    At(Timestamp),
}

/// STATX: the attributes of an inode in the form of statx(2), with its birth.
///
/// - **From**: statx(2) with STATX_BTIME.
/// - **Reply**: the attributes and their timeout.
/// - **Cached**: the basic attributes as for GETATTR, if the reply's mask holds all of them.
/// - **Errors**: as for GETATTR. ENOSYS is remembered: GETATTR is sent instead.
/// - **Kernel**: fs/fuse/dir.c, `fuse_do_statx`; since 7.39.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Statx {
    /// A handle, if there is one.
    pub fh: Option<Fh>,
    /// Flags of statx(2); today 0.
    pub flags: u32,
    /// What is asked for, bits of [`StatxMask`](crate::flags::StatxMask); today 0xfff.
    pub mask: u32,
}

/// READLINK: the target of a symbolic link.
///
/// - **From**: a path walk, readlink(2).
/// - **Reply**: the bytes without NUL, fewer than a page.
/// - **Cached**: only with CACHE_SYMLINKS, until NOTIFY_INVAL_INODE.
/// - **Errors**: EINVAL (not a link), ENOENT, EIO.
/// - **Kernel**: fs/fuse/dir.c, `fuse_readlink_folio`; since 7.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadLink;

/// ACCESS: may the caller do this with the inode?
///
/// - **From**: access(2) and chdir(2), only without default_permissions.
/// - **Reply**: empty.
/// - **Cached**: nothing.
/// - **Errors**: EACCES, EROFS. ENOSYS is remembered and means "always allowed".
/// - **Kernel**: fs/fuse/dir.c, `fuse_access`; since 7.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// `R_OK` 4, `W_OK` 2, `X_OK` 1, or `F_OK` 0.
    pub mask: u32,
}

/// STATFS: figures of the filesystem that holds the inode.
///
/// - **From**: statfs(2), statvfs(3), `df`.
/// - **Reply**: the figures.
/// - **Cached**: nothing.
/// - **Errors**: ENOSYS, EIO.
/// - **Kernel**: fs/fuse/inode.c, `fuse_statfs`; since 7.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatFs;

fn handle(getattr_flags: u32, fh: Fh) -> Option<Fh> {
    GetAttrFlags::from(getattr_flags).contains(GetAttrFlags::FH).then_some(fh)
}

impl GetAttr {
    #[inline]
    pub(crate) fn decode(mut parts: Parts<'_>) -> Result<Self, DecodeError> {
        let fixed: abi::GetattrIn = parts.argument()?;
        parts.end()?;
        Ok(Self { fh: handle(fixed.getattr_flags, fixed.fh) })
    }
}

impl SetAttr {
    #[inline]
    pub(crate) fn decode(mut parts: Parts<'_>) -> Result<Self, DecodeError> {
        let fixed: abi::SetattrIn = parts.argument()?;
        parts.end()?;
        let valid = SetAttrValid::from(fixed.valid);
        let has = |flag| valid.contains(flag);
        let time = |set, now, seconds, nanoseconds| match (has(set), has(now)) {
            (false, _) => None,
            (true, true) => Some(SetTime::Now),
            (true, false) => Some(SetTime::At(Timestamp::from_wire(seconds, nanoseconds))),
        };
        Ok(Self {
            fh: has(SetAttrValid::FH).then_some(fixed.fh),
            mode: has(SetAttrValid::MODE).then_some(fixed.mode),
            uid: has(SetAttrValid::UID).then_some(fixed.uid),
            gid: has(SetAttrValid::GID).then_some(fixed.gid),
            size: has(SetAttrValid::SIZE).then_some(fixed.size),
            atime: time(SetAttrValid::ATIME, SetAttrValid::ATIME_NOW, fixed.atime, fixed.atimensec),
            mtime: time(SetAttrValid::MTIME, SetAttrValid::MTIME_NOW, fixed.mtime, fixed.mtimensec),
            ctime: has(SetAttrValid::CTIME)
                .then_some(Timestamp::from_wire(fixed.ctime, fixed.ctimensec)),
            lock_owner: has(SetAttrValid::LOCKOWNER).then_some(fixed.lock_owner),
            kill_suidgid: has(SetAttrValid::KILL_SUIDGID),
            valid,
        })
    }
}

impl Statx {
    #[inline]
    pub(crate) fn decode(mut parts: Parts<'_>) -> Result<Self, DecodeError> {
        let fixed: abi::StatxIn = parts.argument()?;
        parts.end()?;
        Ok(Self {
            fh: handle(fixed.getattr_flags, fixed.fh),
            flags: fixed.sx_flags,
            mask: fixed.sx_mask,
        })
    }
}

impl ReadLink {
    pub(crate) fn decode(parts: Parts<'_>) -> Result<Self, DecodeError> {
        parts.end()?;
        Ok(Self)
    }
}

impl Access {
    #[inline]
    pub(crate) fn decode(mut parts: Parts<'_>) -> Result<Self, DecodeError> {
        let fixed: abi::AccessIn = parts.argument()?;
        parts.end()?;
        Ok(Self { mask: fixed.mask })
    }
}

impl StatFs {
    pub(crate) fn decode(parts: Parts<'_>) -> Result<Self, DecodeError> {
        parts.end()?;
        Ok(Self)
    }
}
