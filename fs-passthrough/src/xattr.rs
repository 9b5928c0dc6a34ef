//! Extended attributes, ACLs among them.
//!
//! There are no calls for them that take an `O_PATH` descriptor on all kernels that we know, so
//! they go by the descriptor's name in `/proc/self/fd`, where the thread works (`caller`).

use std::os::fd::{AsFd, BorrowedFd};

use fusewire::XattrBuf;
use fusewire::proto::flags::SetXattrFlags;
use fusewire::proto::op::SetXattr;
use fusewire::proto::{Errno, Result};
use rustix::fs::{XattrFlags, getxattr, listxattr, removexattr, setxattr};
use rustix::path::DecInt;

use crate::attributes::change_mode;
use crate::backing::{Backing, attributes};
use crate::error::Answer;

/// Kernel: include/uapi/linux/limits.h, `XATTR_SIZE_MAX` and `XATTR_LIST_MAX`.
const LARGEST: usize = 65536;
const S_ISGID: u32 = 0o2000;

pub(crate) fn set(fd: BorrowedFd<'_>, op: &SetXattr<'_>, backing: &Backing) -> Result<()> {
    let flags = XattrFlags::from_bits_retain(op.flags.bits());
    setxattr(DecInt::from_fd(fd), op.name.as_bytes(), op.value, flags).answer()?;
    // An ACL by somebody who is not of the group; to us the backing filesystem lets it pass.
    if op.setxattr_flags.contains(SetXattrFlags::ACL_KILL_SGID) {
        let mode = u32::from(attributes(fd).answer()?.stx_mode);
        if mode & S_ISGID != 0 {
            change_mode(fd, mode & !S_ISGID, backing)?;
        }
    }
    Ok(())
}

pub(crate) fn get(fd: impl AsFd, name: &[u8], out: &mut XattrBuf<'_>) -> Result<()> {
    read_whole(out, |buffer| getxattr(DecInt::from_fd(fd.as_fd()), name, buffer))
}

/// The names; those in `trusted.` are for the privileged only, and the kernel does not leave them
/// out by itself (fs/xattr.c, `vfs_listxattr`).
pub(crate) fn list(
    fd: impl AsFd,
    out: &mut XattrBuf<'_>,
    sees_trusted: impl FnOnce() -> bool,
) -> Result<()> {
    let mut names = vec![0; LARGEST];
    let len = listxattr(DecInt::from_fd(fd.as_fd()), names.as_mut_slice()).answer()?;
    let is_trusted = |name: &[u8]| name.starts_with(b"trusted.");
    let all = || names[..len].split_inclusive(|byte| *byte == 0);
    let hides = all().any(is_trusted) && !sees_trusted();
    all().filter(|name| !(hides && is_trusted(name))).for_each(|name| out.append(name));
    Ok(())
}

pub(crate) fn remove(fd: impl AsFd, name: &[u8]) -> Result<()> {
    removexattr(DecInt::from_fd(fd.as_fd()), name).answer()
}

/// Reads with room for what is usual, and again with room for anything.
fn read_whole(
    out: &mut XattrBuf<'_>,
    read: impl Fn(&mut [u8]) -> rustix::io::Result<usize>,
) -> Result<()> {
    let mut small = [0; 1024];
    match read(&mut small) {
        Ok(len) => out.append(&small[..len]),
        Err(rustix::io::Errno::RANGE) => {
            let mut large = vec![0; LARGEST];
            match read(&mut large) {
                Ok(len) => out.append(&large[..len]),
                Err(rustix::io::Errno::RANGE) => return Err(Errno::E2BIG),
                Err(error) => return Err(error).answer(),
            }
        }
        Err(error) => return Err(error).answer(),
    }
    Ok(())
}
