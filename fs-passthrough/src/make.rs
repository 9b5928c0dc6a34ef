//! Making files of all kinds, in the name of whoever asks.
//!
//! Never known here: answers. Neighbours: `caller` takes the name on, `filesystem` asks.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use fusewire::proto::{Errno, Result};
use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, RawMode, Statx, StatxFlags, makedev, mkdirat, mknodat, openat,
    statx, symlinkat, unlinkat,
};

use crate::backing::{Backing, Found, attributes, found};
use crate::caller::Caller;
use crate::data::{self, Data, Pages};
use crate::error::Answer;
use crate::handles::Direct;
use crate::node::Key;

/// A directory, and the name that something gets in it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    pub(crate) directory: BorrowedFd<'a>,
    pub(crate) name: &'a [u8],
}

/// How a file is made and opened.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Opening {
    pub(crate) mode: u32,
    /// Of open(2).
    pub(crate) flags: u32,
    pub(crate) writeback: bool,
}

fn permissions(mode: u32) -> Mode {
    Mode::from_raw_mode(mode & 0o7777)
}

pub(crate) fn directory(
    at: Place<'_>,
    mode: u32,
    caller: &Caller,
    backing: &Backing,
) -> Result<Found> {
    caller.run(|| mkdirat(at.directory, at.name, permissions(mode)))?;
    of_kind(at, FileType::Directory, backing)
}

pub(crate) fn symlink(
    at: Place<'_>,
    target: &[u8],
    caller: &Caller,
    backing: &Backing,
) -> Result<Found> {
    caller.run(|| symlinkat(target, at.directory, at.name))?;
    of_kind(at, FileType::Symlink, backing)
}

/// A file of any kind but those that have calls of their own.
pub(crate) fn node(
    at: Place<'_>,
    mode: u32,
    rdev: u32,
    caller: &Caller,
    backing: &Backing,
) -> Result<Found> {
    let kind = FileType::from_raw_mode(RawMode::from(mode));
    if matches!(kind, FileType::Directory | FileType::Symlink | FileType::Unknown) {
        return Err(Errno::EINVAL);
    }
    // The kernel's form: include/linux/kdev_t.h, new_decode_dev.
    let device = makedev(rdev >> 8 & 0xfff, rdev & 0xff | rdev >> 12 & 0xfff00);
    caller.run(|| mknodat(at.directory, at.name, kind, permissions(mode), device))?;
    of_kind(at, kind, backing)
}

/// What was just made, unless somebody has put something else there meanwhile.
fn of_kind(at: Place<'_>, kind: FileType, backing: &Backing) -> Result<Found> {
    let (fd, stat) = found(backing.lookup(at.directory, at.name)?)?;
    let is_so = FileType::from_raw_mode(stat.stx_mode.into()) == kind;
    if is_so { Ok((fd, stat)) } else { Err(Errno::ENOENT) }
}

/// A file that was made and opened: nothing is left that could fail.
#[derive(Debug)]
pub(crate) struct Made {
    /// What holds the inode: `O_PATH`.
    pub(crate) held: OwnedFd,
    pub(crate) stat: Statx,
    pub(crate) data: Data,
}

/// What a file needs beside the descriptor that it was made with.
fn whole(fd: BorrowedFd<'_>, how: Opening, backing: &Backing) -> Result<Whole> {
    let held = backing.reopen(fd, OFlags::PATH).answer()?;
    let direct = data::open_direct(fd, how.flags, how.writeback, backing)?;
    Ok((held, attributes(fd).answer()?, direct))
}

type Whole = (OwnedFd, Statx, Option<Direct>);

impl Made {
    fn new((held, stat, direct): Whole, fd: OwnedFd, how: Opening) -> Self {
        Self { held, stat, data: Data::new(fd, direct, Pages::Cached, how.flags) }
    }
}

/// Makes and opens a regular file. Where it was made and cannot be opened, it goes again; only
/// where O_DIRECT is refused it stays, as open(2) has it.
pub(crate) fn file(
    at: Place<'_>,
    how: Opening,
    caller: &Caller,
    backing: &Backing,
) -> Result<Made> {
    let asked = OFlags::from_bits_retain(how.flags);
    let wanted = data::open_flags(how.flags, how.writeback) | OFlags::CREATE | OFlags::EXCL;
    let flags = wanted | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mode = permissions(how.mode);
    match caller.run(|| openat(at.directory, at.name, flags, mode)) {
        // Somebody was first: an open, unless the caller insists on making it. The kernel has
        // checked nothing and may know the file by another name, with another size: it looks the
        // name up anew and asks again (fs/namei.c, do_filp_open: LOOKUP_REVAL).
        Err(Errno::EEXIST) if !asked.contains(OFlags::EXCL) => Err(Errno::ESTALE),
        made => {
            let fd = made?;
            let whole = whole(fd.as_fd(), how, backing).inspect_err(|errno| {
                if *errno != Errno::EINVAL {
                    unmake(at, fd.as_fd());
                }
            })?;
            Ok(Made::new(whole, fd, how))
        }
    }
}

/// Takes away what was just made, unless the name means something else meanwhile. Descriptors may
/// be what there is none of.
fn unmake(at: Place<'_>, fd: BorrowedFd<'_>) {
    let named = statx(at.directory, at.name, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::INO);
    if let (Ok(named), Ok(made)) = (named, attributes(fd))
        && Key::of(&named) == Key::of(&made)
    {
        let _ = unlinkat(at.directory, at.name, AtFlags::empty());
    }
}

/// Makes and opens a regular file without a name.
pub(crate) fn nameless(
    directory: BorrowedFd<'_>,
    how: Opening,
    caller: &Caller,
    backing: &Backing,
) -> Result<Made> {
    let insists = OFlags::from_bits_retain(how.flags) & OFlags::EXCL;
    let wanted = data::open_flags(how.flags, how.writeback) - OFlags::TRUNC;
    let flags = wanted | insists | OFlags::TMPFILE | OFlags::CLOEXEC;
    let mode = permissions(how.mode);
    let fd = caller.run(|| openat(directory, c".", flags, mode))?;
    Ok(Made::new(whole(fd.as_fd(), how, backing)?, fd, how))
}
