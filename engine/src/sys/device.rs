//! `/dev/fuse`: opening it, cloning it, and reading and writing it without a ring.
//!
//! Never known here: what the messages mean. Neighbours: `session` opens and shakes hands,
//! `transport::device` reads and answers through `ring`.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;

use nix::fcntl::{FcntlArg, OFlag, fcntl};

/// The device.
pub(crate) const PATH: &str = "/dev/fuse";

mod ioctl {
    // FUSE_DEV_IOC_CLONE: include/uapi/linux/fuse.h, magic 229, since 7.23. The kernel reads one
    // u32: the number of a descriptor of the connection to join.
    nix::ioctl_read!(clone_device, 229, 0, u32);

    /// `struct fuse_backing_map`, since 7.40.
    #[repr(C)]
    pub(super) struct BackingMap {
        pub(super) fd: i32,
        pub(super) flags: u32,
        pub(super) padding: u64,
    }
    // FUSE_DEV_IOC_BACKING_OPEN and _CLOSE: the id is what opening returns.
    nix::ioctl_write_ptr!(backing_open, 229, 1, BackingMap);
    nix::ioctl_write_ptr!(backing_close, 229, 2, u32);
}

/// Opens the device, not yet part of a connection.
pub(crate) fn open() -> io::Result<OwnedFd> {
    let file =
        OpenOptions::new().read(true).write(true).custom_flags(libc::O_CLOEXEC).open(PATH)?;
    Ok(above_the_standard_streams(file)?.into())
}

/// Opens another descriptor of the connection that `connection` belongs to. It does not block:
/// an empty queue gives EAGAIN, and `ring` waits for the next message.
pub(crate) fn clone(connection: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let fd = open()?;
    let mut joined = u32::try_from(connection.as_raw_fd()).map_err(io::Error::other)?;
    // SAFETY: the kernel reads one u32 from a live local variable (fs/fuse/dev.c,
    // fuse_dev_ioctl_clone); both descriptors are open.
    unsafe { ioctl::clone_device(fd.as_raw_fd(), &raw mut joined) }?;
    let flags = OFlag::from_bits_retain(fcntl(&fd, FcntlArg::F_GETFL)?);
    fcntl(&fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    Ok(fd)
}

/// Registers a file for the kernel's passthrough; returns its id.
pub(crate) fn backing_open(connection: &OwnedFd, file: BorrowedFd<'_>) -> io::Result<i32> {
    let map = ioctl::BackingMap { fd: file.as_raw_fd(), flags: 0, padding: 0 };
    // SAFETY: the kernel reads one `fuse_backing_map` from a live local variable
    // (fs/fuse/dev.c, fuse_dev_ioctl_backing_open); both descriptors are open.
    Ok(unsafe { ioctl::backing_open(connection.as_raw_fd(), &raw const map) }?)
}

/// Takes a registration back.
pub(crate) fn backing_close(connection: &OwnedFd, id: i32) -> io::Result<()> {
    let id = id.cast_unsigned();
    // SAFETY: the kernel reads one u32 from a live local variable; the descriptor is open.
    unsafe { ioctl::backing_close(connection.as_raw_fd(), &raw const id) }?;
    Ok(())
}

/// Moves a descriptor away from 0, 1 and 2: with the standard streams closed at start, whatever
/// prints would otherwise write into the connection.
fn above_the_standard_streams(file: File) -> io::Result<File> {
    if file.as_raw_fd() > 2 {
        return Ok(file);
    }
    Ok(adopt(fcntl(&file, FcntlArg::F_DUPFD_CLOEXEC(3))?).into())
}

/// Takes over a descriptor that a system call has just made for us.
pub(crate) fn adopt(new: RawFd) -> OwnedFd {
    // SAFETY: both callers pass what the kernel returned as new (F_DUPFD_CLOEXEC, SCM_RIGHTS), so
    // nothing else owns it.
    unsafe { OwnedFd::from_raw_fd(new) }
}

/// Reads one message; blocks unless the descriptor is non-blocking.
pub(crate) fn read(fd: impl AsFd, buffer: &mut [u8]) -> io::Result<usize> {
    Ok(nix::unistd::read(fd, buffer)?)
}

/// Writes one message whole.
pub(crate) fn write(fd: impl AsFd, message: &[u8]) -> io::Result<usize> {
    Ok(nix::unistd::write(fd, message)?)
}
