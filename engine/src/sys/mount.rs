//! The mount system calls that libc has no wrappers for: fsopen and its family (Linux 5.2), and
//! statmount (Linux 6.8).
//!
//! Never known here: what is mounted. Neighbour: `mount`.

use std::ffi::{CStr, OsString};
use std::io;
use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::ptr;

// include/uapi/linux/mount.h
const FSOPEN_CLOEXEC: libc::c_uint = 1;
const FSMOUNT_CLOEXEC: libc::c_uint = 1;
const FSCONFIG_SET_FLAG: libc::c_uint = 0;
const FSCONFIG_SET_STRING: libc::c_uint = 1;
const FSCONFIG_CMD_CREATE: libc::c_uint = 6;
const MOVE_MOUNT_F_EMPTY_PATH: libc::c_uint = 4;
/// The same on every architecture but alpha and mips, which only miss what it is for.
const SYS_STATMOUNT: libc::c_long = 457;
const STATMOUNT_MNT_POINT: u64 = 0x10;
/// Size of `struct statmount`, which texts follow, and where it has the offset of the mount point.
const STATMOUNT_SIZE: usize = 512;
const STATMOUNT_MNT_POINT_AT: usize = 108;
// include/uapi/linux/stat.h
const STATX_MNT_ID_UNIQUE: libc::c_uint = 0x4000;

fn checked(result: libc::c_long) -> io::Result<i32> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    i32::try_from(result).map_err(io::Error::other)
}

fn owned(result: libc::c_long) -> io::Result<OwnedFd> {
    let fd = checked(result)?;
    // SAFETY: the call returned a new descriptor that nothing else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Begins a new superblock of the type `name`.
pub(crate) fn fsopen(name: &CStr) -> io::Result<OwnedFd> {
    // SAFETY: the name is NUL-terminated and only read.
    owned(unsafe { libc::syscall(libc::SYS_fsopen, name.as_ptr(), FSOPEN_CLOEXEC) })
}

fn fsconfig(
    context: BorrowedFd<'_>,
    command: libc::c_uint,
    key: Option<&CStr>,
    value: Option<&CStr>,
) -> io::Result<()> {
    let text = |text: Option<&CStr>| text.map_or(ptr::null(), CStr::as_ptr);
    // SAFETY: both texts are NUL-terminated or null, and only read.
    let result = unsafe {
        libc::syscall(libc::SYS_fsconfig, context.as_raw_fd(), command, text(key), text(value), 0)
    };
    checked(result).map(drop)
}

/// Sets a parameter.
pub(crate) fn set_string(context: BorrowedFd<'_>, key: &CStr, value: &CStr) -> io::Result<()> {
    fsconfig(context, FSCONFIG_SET_STRING, Some(key), Some(value))
}

/// Sets a parameter that has no value.
pub(crate) fn set_flag(context: BorrowedFd<'_>, key: &CStr) -> io::Result<()> {
    fsconfig(context, FSCONFIG_SET_FLAG, Some(key), None)
}

/// Makes the superblock; for FUSE this queues INIT.
pub(crate) fn create(context: BorrowedFd<'_>) -> io::Result<()> {
    fsconfig(context, FSCONFIG_CMD_CREATE, None, None)
}

/// Makes a mount of the superblock, not attached anywhere.
pub(crate) fn fsmount(context: BorrowedFd<'_>, attributes: libc::c_uint) -> io::Result<OwnedFd> {
    // SAFETY: the call takes numbers only.
    owned(unsafe {
        libc::syscall(libc::SYS_fsmount, context.as_raw_fd(), FSMOUNT_CLOEXEC, attributes)
    })
}

/// Attaches a mount to a path.
pub(crate) fn move_mount(mount: BorrowedFd<'_>, path: &CStr) -> io::Result<()> {
    // SAFETY: both texts are NUL-terminated and only read.
    let result = unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            mount.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_FDCWD,
            path.as_ptr(),
            MOVE_MOUNT_F_EMPTY_PATH,
        )
    };
    checked(result).map(drop)
}

/// What tells a mount from every other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    /// Of the filesystem's device: the next filesystem may get the same.
    pub(crate) major: u32,
    pub(crate) minor: u32,
    /// Number that no other mount ever has, since Linux 6.8.
    pub(crate) unique: Option<u64>,
}

/// Identifies the mount that a descriptor is of, without a request to the filesystem.
pub(crate) fn identify(mount: BorrowedFd<'_>) -> io::Result<Identity> {
    // SAFETY: every field is a number, for which zero is a value.
    let mut status: libc::statx = unsafe { mem::zeroed() };
    let flags = libc::AT_EMPTY_PATH | libc::AT_STATX_DONT_SYNC;
    // SAFETY: the path is NUL-terminated and only read; the kernel fills `status`, no more.
    let result = unsafe {
        libc::statx(mount.as_raw_fd(), c"".as_ptr(), flags, STATX_MNT_ID_UNIQUE, &raw mut status)
    };
    checked(result.into())?;
    let is_unique = status.stx_mask & STATX_MNT_ID_UNIQUE != 0;
    Ok(Identity {
        major: status.stx_dev_major,
        minor: status.stx_dev_minor,
        unique: is_unique.then_some(status.stx_mnt_id),
    })
}

/// Where the mount with that unique number is attached, as this process would name it; ENOENT
/// when that is nowhere.
pub(crate) fn place_of(unique: u64) -> io::Result<PathBuf> {
    /// `struct mnt_id_req`, version 0.
    #[repr(C)]
    struct Request {
        size: u32,
        spare: u32,
        mount: u64,
        mask: u64,
    }
    const SIZE: u32 = 24;
    const { assert!(size_of::<Request>() == SIZE as usize) };
    let request = Request { size: SIZE, spare: 0, mount: unique, mask: STATMOUNT_MNT_POINT };
    let mut answer = vec![0_u8; STATMOUNT_SIZE + libc::PATH_MAX as usize];
    // SAFETY: the request is read in the size that it states, the answer is written in the length
    // that is given.
    let result = unsafe {
        libc::syscall(SYS_STATMOUNT, &raw const request, answer.as_mut_ptr(), answer.len(), 0)
    };
    checked(result)?;
    let at = answer[STATMOUNT_MNT_POINT_AT..].first_chunk().map(|bytes| u32::from_ne_bytes(*bytes));
    let text = at.and_then(|at| answer.get(STATMOUNT_SIZE + usize::try_from(at).ok()?..));
    let path = text.and_then(|text| CStr::from_bytes_until_nul(text).ok());
    let path = path.ok_or(io::ErrorKind::InvalidData)?;
    Ok(PathBuf::from(OsString::from_vec(path.to_bytes().to_owned())))
}
