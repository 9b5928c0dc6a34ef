//! The mount system calls that libc has no wrappers for: fsopen and its family (Linux 5.2).
//!
//! Never known here: what is mounted. Neighbour: `mount`.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;

// include/uapi/linux/mount.h
const FSOPEN_CLOEXEC: libc::c_uint = 1;
const FSMOUNT_CLOEXEC: libc::c_uint = 1;
const FSCONFIG_SET_FLAG: libc::c_uint = 0;
const FSCONFIG_SET_STRING: libc::c_uint = 1;
const FSCONFIG_CMD_CREATE: libc::c_uint = 6;
const MOVE_MOUNT_F_EMPTY_PATH: libc::c_uint = 4;

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
