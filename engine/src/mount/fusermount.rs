//! Mounting without root, through the set-uid helper `fusermount3` of the fuse3 package.
//!
//! The helper opens the device, mounts, and sends the descriptor over a socket whose number it
//! finds in `_FUSE_COMMFD`.

use std::io::{self, IoSliceMut};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::path::Path;
use std::process::Command;

use nix::cmsg_space;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::socket::{
    AddressFamily, ControlMessageOwned, MsgFlags, SockFlag, SockType, recvmsg, socketpair,
};

use super::options::Options;
use crate::error::{Error, Result, start};
use crate::sys::device;

const HELPERS: [&str; 2] = ["fusermount3", "fusermount"];

/// Mounts; returns the device.
pub(super) fn mount(path: &Path, options: &Options) -> Result<OwnedFd> {
    let socket = |error: nix::Error| start("a socket for fusermount3", error.into());
    let (ours, theirs) =
        socketpair(AddressFamily::Unix, SockType::Stream, None, SockFlag::SOCK_CLOEXEC)
            .map_err(socket)?;
    fcntl(&theirs, FcntlArg::F_SETFD(FdFlag::empty())).map_err(socket)?;
    let mut words = options.words.clone();
    words.push(format!("fsname={}", options.source));
    words.push(format!("subtype={}", options.subtype));
    let run = |helper: &str| {
        Command::new(helper)
            .arg("-o")
            .arg(words.join(","))
            .arg("--")
            .arg(path)
            .env("_FUSE_COMMFD", theirs.as_raw_fd().to_string())
            .output()
    };
    let refused = |advice: String, source: io::Error| Error::Mount {
        path: path.to_owned(),
        what: "fusermount3",
        advice,
        source,
    };
    let output = first_helper(run)
        .map_err(|error| refused("install the package fuse3, or run as root".to_owned(), error))?;
    drop(theirs);
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        let advice = if text.contains("/dev/fuse") {
            "let users open the device (chmod 666 /dev/fuse), or run as root"
        } else {
            "allow_other needs user_allow_other in /etc/fuse.conf; the directory must be yours"
        };
        return Err(refused(advice.to_owned(), io::Error::other(text)));
    }
    receive(&ours).map_err(|error| refused("it sent no descriptor".to_owned(), error))
}

/// Unmounts; `force` detaches what is in use.
pub(super) fn unmount(path: &Path, force: bool) -> io::Result<()> {
    let output = first_helper(|helper| {
        let mut command = Command::new(helper);
        command.arg("-u");
        if force {
            command.arg("-z");
        }
        command.arg("--").arg(path).output()
    })?;
    if output.status.success() {
        return Ok(());
    }
    Err(io::Error::other(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
}

fn first_helper<T>(run: impl Fn(&str) -> io::Result<T>) -> io::Result<T> {
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for helper in HELPERS {
        match run(helper) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => last = error,
            other => return other,
        }
    }
    Err(last)
}

fn receive(socket: &OwnedFd) -> io::Result<OwnedFd> {
    let mut byte = [0];
    let mut parts = [IoSliceMut::new(&mut byte)];
    let mut space = cmsg_space!(RawFd);
    let message = recvmsg::<()>(
        socket.as_raw_fd(),
        &mut parts,
        Some(&mut space),
        MsgFlags::MSG_CMSG_CLOEXEC,
    )?;
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(fds) = control
            && let Some(fd) = fds.first()
        {
            return Ok(device::adopt(*fd));
        }
    }
    Err(io::ErrorKind::UnexpectedEof.into())
}
