//! Mounting as root: `fsopen` and its family, or `mount(2)`.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::fcntl::{OFlag, open, openat};
use nix::mount::mount;
use nix::sys::stat::Mode;
use nix::sys::statfs::{FsType, fstatfs};

use super::options::Options;
use crate::sys::mount as sys;

/// fs/fuse/control.c
const FUSE_CTL_SUPER_MAGIC: FsType = FsType(0x6573_5543);

/// Makes the superblock and a mount of it that is attached nowhere.
pub(super) fn prepare(options: &Options, device: &OwnedFd) -> io::Result<OwnedFd> {
    let context = sys::fsopen(c"fuse")?;
    let context = context.as_fd();
    let set = |key: &str, value: &str| -> io::Result<()> {
        sys::set_string(context, &CString::new(key)?, &CString::new(value)?)
    };
    set("source", &options.source)?;
    set("subtype", &options.subtype)?;
    set("fd", &device.as_raw_fd().to_string())?;
    for (key, value) in &options.values {
        set(key, value)?;
    }
    for key in &options.switches {
        sys::set_flag(context, &CString::new(*key)?)?;
    }
    if options.attributes & 0x1 != 0 {
        sys::set_flag(context, c"ro")?;
    }
    sys::create(context)?;
    sys::fsmount(context, options.attributes)
}

/// The directory of fusectl: where it is mounted, or a mount of it that is attached nowhere.
pub(super) fn fusectl() -> io::Result<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let usual = open("/sys/fs/fuse/connections", flags, Mode::empty())?;
    if fstatfs(&usual)?.filesystem_type() == FUSE_CTL_SUPER_MAGIC {
        return Ok(usual);
    }
    let context = sys::fsopen(c"fusectl")?;
    sys::create(context.as_fd())?;
    sys::fsmount(context.as_fd(), 0)
}

/// What ends a connection when it is written to.
pub(super) fn control(minor: u32) -> io::Result<OwnedFd> {
    let path = format!("{minor}/abort");
    let flags = OFlag::O_WRONLY | OFlag::O_CLOEXEC;
    Ok(openat(fusectl()?, path.as_str(), flags, Mode::empty())?)
}

/// Requests of a connection that are waiting or being served, by fusectl.
pub(super) fn waiting(minor: u32) -> io::Result<u64> {
    let path = format!("{minor}/waiting");
    let file = openat(fusectl()?, path.as_str(), OFlag::O_RDONLY, Mode::empty())?;
    let mut text = String::new();
    File::from(file).read_to_string(&mut text)?;
    text.trim().parse().map_err(io::Error::other)
}

/// Attaches a prepared mount.
pub(super) fn attach(prepared: &OwnedFd, path: &Path) -> io::Result<()> {
    sys::move_mount(prepared.as_fd(), &CString::new(path.as_os_str().as_bytes())?)
}

/// Mounts in one call.
pub(super) fn mount_2(path: &Path, options: &Options, device: &OwnedFd) -> io::Result<()> {
    let kind = format!("fuse.{}", options.subtype);
    let data = format!("fd={},{}", device.as_raw_fd(), options.data());
    mount(
        Some(options.source.as_str()),
        path,
        Some(kind.as_str()),
        options.flags,
        Some(data.as_str()),
    )?;
    Ok(())
}
