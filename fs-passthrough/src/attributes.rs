//! Attributes: in the kernel's form, and changing them.
//!
//! Never known here: names and handles' numbers. Neighbour: `filesystem`.

use std::os::fd::BorrowedFd;

use fusewire::proto::flags::StatxMask;
use fusewire::proto::op::{SetAttr, SetTime};
use fusewire::proto::reply::Statx as StatxValues;
use fusewire::proto::{Attr, Result, Timestamp};
use rustix::fs::{
    AtFlags, Gid, Mode, OFlags, Statx, StatxTimestamp, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT,
    Uid, chmodat, chownat, ftruncate, utimensat,
};
use rustix::path::DecInt;

use crate::backing::{Backing, attributes};
use crate::error::Answer;
use crate::handles::OpenFile;
use crate::node::Node;

const S_ISUID: u32 = 0o4000;
const S_ISGID: u32 = 0o2000;
const S_IXGRP: u32 = 0o0010;
/// A regular file: mode >> 12.
pub(crate) const KIND_REGULAR: u32 = 0o10;

fn time(time: StatxTimestamp) -> Timestamp {
    Timestamp::new(time.tv_sec, time.tv_nsec)
}

/// The time of last change that the kernel is to believe in.
fn mtime(node: &Node, stat: &Statx) -> Timestamp {
    let kept = (node.kind == KIND_REGULAR).then(|| node.kept_mtime()).flatten();
    let of = |kept: Timespec| Timestamp::new(kept.tv_sec, u32::try_from(kept.tv_nsec).unwrap_or(0));
    kept.map_or_else(|| time(stat.stx_mtime), of)
}

/// The attributes of a node.
pub(crate) fn attr(node: &Node, stat: &Statx) -> Attr {
    let (major, minor) = (stat.stx_rdev_major, stat.stx_rdev_minor);
    Attr {
        ino: node.ino,
        size: stat.stx_size,
        blocks: stat.stx_blocks,
        atime: time(stat.stx_atime),
        mtime: mtime(node, stat),
        ctime: time(stat.stx_ctime),
        mode: u32::from(stat.stx_mode).into(),
        nlink: stat.stx_nlink,
        uid: stat.stx_uid,
        gid: stat.stx_gid,
        rdev: minor & 0xff | major << 8 | (minor & !0xff) << 12,
        blksize: stat.stx_blksize,
        ..Attr::default()
    }
}

/// The same as statx(2) has it.
pub(crate) fn statx_values(node: &Node, stat: &Statx) -> StatxValues {
    let known = StatxMask::BASIC_STATS | StatxMask::BTIME;
    StatxValues {
        mask: StatxMask::from(stat.stx_mask) & known,
        blksize: stat.stx_blksize,
        attributes: stat.stx_attributes.bits(),
        nlink: stat.stx_nlink,
        uid: stat.stx_uid,
        gid: stat.stx_gid,
        mode: u32::from(stat.stx_mode).into(),
        ino: node.ino,
        size: stat.stx_size,
        blocks: stat.stx_blocks,
        attributes_mask: stat.stx_attributes_mask.bits(),
        atime: time(stat.stx_atime),
        btime: time(stat.stx_btime),
        ctime: time(stat.stx_ctime),
        mtime: mtime(node, stat),
        rdev_major: stat.stx_rdev_major,
        rdev_minor: stat.stx_rdev_minor,
        ..StatxValues::default()
    }
}

/// Takes set-id bits away: set-group-id only where the group may execute, as it means something
/// else otherwise (fs/attr.c, `setattr_should_drop_sgid`).
pub(crate) fn kill_set_id(fd: BorrowedFd<'_>, backing: &Backing) -> Result<()> {
    let mode = u32::from(attributes(fd).answer()?.stx_mode);
    let mut killed = mode & !S_ISUID;
    if mode & S_IXGRP != 0 {
        killed &= !S_ISGID;
    }
    if killed != mode {
        change_mode(fd, killed, backing)?;
    }
    Ok(())
}

/// Whether a SETATTR asks for no change. With HANDLE_KILLPRIV_V2 that is all the kernel sends
/// where it takes set-id bits away itself: before a write to a file that it serves, and before
/// FALLOCATE (`fs/fuse/dir.c, fuse_setattr`, by way of `fs/inode.c, file_remove_privs`).
pub(crate) fn asks_nothing(op: &SetAttr) -> bool {
    let SetAttr { mode, uid, gid, size, atime, mtime, ctime, kill_suidgid, .. } = *op;
    let owner = uid.is_some() || gid.is_some();
    let times = atime.is_some() || mtime.is_some() || ctime.is_some();
    !(mode.is_some() || owner || size.is_some() || times || kill_suidgid)
}

/// Sets permission bits, also through an `O_PATH` descriptor.
pub(crate) fn change_mode(fd: BorrowedFd<'_>, mode: u32, backing: &Backing) -> Result<()> {
    let mode = Mode::from_raw_mode(mode & 0o7777);
    chmodat(backing.descriptors(), DecInt::from_fd(fd), mode, AtFlags::empty()).answer()
}

/// What utimensat(2) is told.
fn set_time(time: Option<SetTime>) -> Timespec {
    match time {
        None => Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        Some(SetTime::Now(_)) => Timespec { tv_sec: 0, tv_nsec: UTIME_NOW },
        Some(SetTime::At(time)) => {
            Timespec { tv_sec: time.seconds, tv_nsec: time.nanoseconds.into() }
        }
    }
}

/// Changes what `op` says. A ctime that the kernel owns cannot be handed on: no system call sets
/// one, and the backing filesystem's own is as late as this request.
pub(crate) fn set_attributes(
    node: &Node,
    fd: BorrowedFd<'_>,
    file: Option<&OpenFile>,
    op: &SetAttr,
    backing: &Backing,
) -> Result<Attr> {
    // The owner first: a change of it takes set-id bits away, which the mode may then set.
    if op.uid.is_some() || op.gid.is_some() {
        let (uid, gid) = (op.uid.map(Uid::from_raw), op.gid.map(Gid::from_raw));
        chownat(fd, c"", uid, gid, AtFlags::EMPTY_PATH).answer()?;
    }
    if let Some(mode) = op.mode {
        change_mode(fd, mode.bits(), backing)?;
    }
    if let Some(size) = op.size {
        node.move_mtime(fd, || match file {
            Some(file) => ftruncate(file, size).answer(),
            None => ftruncate(backing.reopen(fd, OFlags::WRONLY).answer()?, size).answer(),
        })?;
    }
    if op.kill_suidgid {
        kill_set_id(fd, backing)?;
    }
    if op.atime.is_some() || op.mtime.is_some() {
        let last_modification = set_time(op.mtime);
        let times = Timestamps { last_access: set_time(op.atime), last_modification };
        let set = || {
            let path = DecInt::from_fd(fd);
            utimensat(backing.descriptors(), path, &times, AtFlags::empty()).answer()
        };
        if op.mtime.is_some() { node.set_mtime(fd, last_modification, set)? } else { set()? }
    }
    let mut attr = attr(node, &attributes(fd).answer()?);
    if let Some(size) = op.size {
        // Of all sizes in answers this one is believed, also with write-back.
        attr.size = size;
    }
    Ok(attr)
}
