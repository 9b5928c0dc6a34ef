//! Making files of all kinds, in the name of whoever asks.
//!
//! Never known here: answers. Neighbours: `caller` takes the name on, `filesystem` asks.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use fusewire::proto::{Errno, Result};
use rustix::fs::{FileType, Mode, OFlags, RawMode, makedev, mkdirat, mknodat, openat, symlinkat};

use crate::backing::{Backing, attributes};
use crate::caller::Caller;
use crate::data;
use crate::error::Answer;

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
) -> Result<OwnedFd> {
    caller.run(backing, || mkdirat(at.directory, at.name, permissions(mode)))?;
    of_kind(at, FileType::Directory, backing)
}

pub(crate) fn symlink(
    at: Place<'_>,
    target: &[u8],
    caller: &Caller,
    backing: &Backing,
) -> Result<OwnedFd> {
    caller.run(backing, || symlinkat(target, at.directory, at.name))?;
    of_kind(at, FileType::Symlink, backing)
}

/// A file of any kind but those that have calls of their own.
pub(crate) fn node(
    at: Place<'_>,
    mode: u32,
    rdev: u32,
    caller: &Caller,
    backing: &Backing,
) -> Result<OwnedFd> {
    let kind = FileType::from_raw_mode(RawMode::from(mode));
    if matches!(kind, FileType::Directory | FileType::Symlink | FileType::Unknown) {
        return Err(Errno::EINVAL);
    }
    // The kernel's form: include/linux/kdev_t.h, new_decode_dev.
    let device = makedev(rdev >> 8 & 0xfff, rdev & 0xff | rdev >> 12 & 0xfff00);
    caller.run(backing, || mknodat(at.directory, at.name, kind, permissions(mode), device))?;
    of_kind(at, kind, backing)
}

/// What was just made, unless somebody has put something else there meanwhile.
fn of_kind(at: Place<'_>, kind: FileType, backing: &Backing) -> Result<OwnedFd> {
    let fd = backing.lookup(at.directory, at.name)?;
    let stat = attributes(fd.as_fd()).answer()?;
    if FileType::from_raw_mode(stat.stx_mode.into()) == kind { Ok(fd) } else { Err(Errno::ENOENT) }
}

/// A file that was made and opened.
#[derive(Debug)]
pub(crate) struct Made {
    /// What holds the inode: `O_PATH`.
    pub(crate) held: OwnedFd,
    /// Its data.
    pub(crate) data: OwnedFd,
    /// Whether the page cache can be used, as [`data::open`] has it.
    pub(crate) cached: bool,
}

impl Made {
    fn new(data: OwnedFd, backing: &Backing) -> Result<Self> {
        let held = backing.reopen(data.as_fd(), OFlags::PATH).answer()?;
        Ok(Self { held, data, cached: true })
    }
}

/// Makes and opens a regular file.
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
    match caller.run(backing, || openat(at.directory, at.name, flags, mode)) {
        // Somebody was first: an open, unless the caller insists on making it.
        Err(Errno::EEXIST) if !asked.contains(OFlags::EXCL) => existing(at, how, caller, backing),
        made => Made::new(made?, backing),
    }
}

/// Opens a file that the kernel did not know of. Nobody has checked yet whether the caller may.
fn existing(at: Place<'_>, how: Opening, caller: &Caller, backing: &Backing) -> Result<Made> {
    let held = of_kind(at, FileType::RegularFile, backing).map_err(|_| Errno::EEXIST)?;
    let exactly = data::open_flags(how.flags, false);
    let checked = caller.run_checked(backing, || backing.reopen(held.as_fd(), exactly))?;
    if data::open_flags(how.flags, how.writeback) == exactly {
        return Ok(Made { held, data: checked, cached: true });
    }
    let again = how.flags & !OFlags::TRUNC.bits();
    let (data, cached) = data::open(held.as_fd(), again, how.writeback, backing)?;
    Ok(Made { held, data, cached })
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
    Made::new(caller.run(backing, || openat(directory, c".", flags, mode))?, backing)
}
