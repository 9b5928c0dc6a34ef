//! Attributes: reading and setting them, and what is close to them.

use crate::abi;
use crate::composer::Composer;
use crate::cursor::{DecodeError, Parts};
use crate::flags::{AccessMask, GetAttrFlags, SetAttrValid, StatxFlags, StatxMask};
use crate::mode::Mode;
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
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct GetAttr {
    /// A handle, only from within I/O: fstat(2) comes without, even for an unlinked file.
    pub fh: Option<Fh>,
    /// The flag word; its FH bit is encoded from `fh`.
    pub getattr_flags: GetAttrFlags,
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
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct SetAttr {
    /// The handle, for ftruncate(2) and its like.
    pub fh: Option<Fh>,
    /// Type and permission bits.
    pub mode: Option<Mode>,
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
    /// The word that said all this. Encoding takes from it only what no other field says.
    pub valid: SetAttrValid,
}

/// A time that SETATTR sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "lowercase"))]
pub enum SetTime {
    /// The server's own clock, whatever the kernel's said, which is here.
    Now(Timestamp),
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
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Statx {
    /// A handle, if there is one.
    pub fh: Option<Fh>,
    /// Flags of statx(2); today none.
    pub flags: StatxFlags,
    /// What is asked for; today everything that [`StatxMask`] names.
    pub mask: StatxMask,
    /// The flag word; its FH bit is encoded from `fh`.
    pub getattr_flags: GetAttrFlags,
}

/// READLINK: the target of a symbolic link.
///
/// - **From**: a path walk, readlink(2).
/// - **Reply**: the bytes without NUL, fewer than a page.
/// - **Cached**: only with CACHE_SYMLINKS, until NOTIFY_INVAL_INODE.
/// - **Errors**: EINVAL (not a link), ENOENT, EIO.
/// - **Kernel**: fs/fuse/dir.c, `fuse_readlink_folio`; since 7.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct ReadLink;

/// ACCESS: may the caller do this with the inode?
///
/// - **From**: access(2) and chdir(2), only without default_permissions.
/// - **Reply**: empty.
/// - **Cached**: nothing.
/// - **Errors**: EACCES, EROFS. ENOSYS is remembered and means "always allowed".
/// - **Kernel**: fs/fuse/dir.c, `fuse_access`; since 7.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Access {
    /// What the caller wishes to do; nothing asks whether the file exists.
    pub mask: AccessMask,
}

/// STATFS: figures of the filesystem that holds the inode.
///
/// - **From**: statfs(2), statvfs(3), `df`.
/// - **Reply**: the figures.
/// - **Cached**: nothing.
/// - **Errors**: ENOSYS, EIO.
/// - **Kernel**: fs/fuse/inode.c, `fuse_statfs`; since 7.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct StatFs;

fn handle(getattr_flags: u32, fh: Fh) -> (GetAttrFlags, Option<Fh>) {
    let getattr_flags = GetAttrFlags::from(getattr_flags);
    (getattr_flags, getattr_flags.contains(GetAttrFlags::FH).then_some(fh))
}

fn handle_word(mut getattr_flags: GetAttrFlags, fh: Option<Fh>) -> (u32, Fh) {
    getattr_flags.set(GetAttrFlags::FH, fh.is_some());
    (getattr_flags.bits(), fh.unwrap_or_default())
}

impl GetAttr {
    #[inline]
    pub(crate) fn decode(mut parts: Parts<'_>) -> Result<Self, DecodeError> {
        let fixed: abi::GetattrIn = parts.argument()?;
        parts.end()?;
        let (getattr_flags, fh) = handle(fixed.getattr_flags, fixed.fh);
        Ok(Self { fh, getattr_flags })
    }

    pub(crate) fn encode(&self, out: &mut Composer<'_>) {
        let (getattr_flags, fh) = handle_word(self.getattr_flags, self.fh);
        out.argument(&abi::GetattrIn { getattr_flags, dummy: 0, fh });
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
            (true, true) => Some(SetTime::Now(Timestamp::from_wire(seconds, nanoseconds))),
            (true, false) => Some(SetTime::At(Timestamp::from_wire(seconds, nanoseconds))),
        };
        Ok(Self {
            fh: has(SetAttrValid::FH).then_some(fixed.fh),
            mode: has(SetAttrValid::MODE).then_some(Mode(fixed.mode)),
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

    pub(crate) fn encode(&self, out: &mut Composer<'_>) {
        let mut valid = self.valid;
        let mut time = |set, now, time: Option<SetTime>| {
            valid.set(set, time.is_some());
            let (at, is_now) = match time {
                None => return Timestamp::EPOCH,
                Some(SetTime::Now(at)) => (at, true),
                Some(SetTime::At(at)) => (at, false),
            };
            valid.set(now, is_now);
            at
        };
        let atime = time(SetAttrValid::ATIME, SetAttrValid::ATIME_NOW, self.atime);
        let mtime = time(SetAttrValid::MTIME, SetAttrValid::MTIME_NOW, self.mtime);
        let ctime = self.ctime.unwrap_or(Timestamp::EPOCH);
        for (flag, is_set) in [
            (SetAttrValid::FH, self.fh.is_some()),
            (SetAttrValid::MODE, self.mode.is_some()),
            (SetAttrValid::UID, self.uid.is_some()),
            (SetAttrValid::GID, self.gid.is_some()),
            (SetAttrValid::SIZE, self.size.is_some()),
            (SetAttrValid::CTIME, self.ctime.is_some()),
            (SetAttrValid::LOCKOWNER, self.lock_owner.is_some()),
            (SetAttrValid::KILL_SUIDGID, self.kill_suidgid),
        ] {
            valid.set(flag, is_set);
        }
        out.argument(&abi::SetattrIn {
            valid: valid.bits(),
            fh: self.fh.unwrap_or_default(),
            size: self.size.unwrap_or_default(),
            lock_owner: self.lock_owner.unwrap_or_default(),
            atime: atime.wire_seconds(),
            mtime: mtime.wire_seconds(),
            ctime: ctime.wire_seconds(),
            atimensec: atime.nanoseconds,
            mtimensec: mtime.nanoseconds,
            ctimensec: ctime.nanoseconds,
            mode: self.mode.unwrap_or_default().0,
            uid: self.uid.unwrap_or_default(),
            gid: self.gid.unwrap_or_default(),
            ..Default::default()
        });
    }
}

impl Statx {
    #[inline]
    pub(crate) fn decode(mut parts: Parts<'_>) -> Result<Self, DecodeError> {
        let fixed: abi::StatxIn = parts.argument()?;
        parts.end()?;
        let (getattr_flags, fh) = handle(fixed.getattr_flags, fixed.fh);
        let (flags, mask) = (fixed.sx_flags.into(), fixed.sx_mask.into());
        Ok(Self { fh, flags, mask, getattr_flags })
    }

    pub(crate) fn encode(&self, out: &mut Composer<'_>) {
        let (getattr_flags, fh) = handle_word(self.getattr_flags, self.fh);
        let (sx_flags, sx_mask) = (self.flags.bits(), self.mask.bits());
        out.argument(&abi::StatxIn { getattr_flags, reserved: 0, fh, sx_flags, sx_mask });
    }
}

impl ReadLink {
    pub(crate) fn decode(parts: Parts<'_>) -> Result<Self, DecodeError> {
        parts.end()?;
        Ok(Self)
    }

    pub(crate) const fn encode(&self, _out: &mut Composer<'_>) {}
}

impl Access {
    #[inline]
    pub(crate) fn decode(mut parts: Parts<'_>) -> Result<Self, DecodeError> {
        let fixed: abi::AccessIn = parts.argument()?;
        parts.end()?;
        Ok(Self { mask: fixed.mask.into() })
    }

    pub(crate) fn encode(&self, out: &mut Composer<'_>) {
        out.argument(&abi::AccessIn { mask: self.mask.bits(), padding: 0 });
    }
}

impl StatFs {
    pub(crate) fn decode(parts: Parts<'_>) -> Result<Self, DecodeError> {
        parts.end()?;
        Ok(Self)
    }

    pub(crate) const fn encode(&self, _out: &mut Composer<'_>) {}
}
