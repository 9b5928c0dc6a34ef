//! Stands in for fusermount: hands over a socket with two messages in it, INIT and the one that
//! the "mount point", in hexadecimal, spells; stays until nobody wants it any more.

use std::io::IoSlice;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};

fn main() {
    let hex = std::env::args().next_back().expect("an argument");
    let message: Vec<u8> = (0..hex.len() / 2)
        .map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).expect("hexadecimal"))
        .collect();
    let (server, kernel) = fusewire_peers::device(&[fusewire_peers::init().whole, &message]);
    let number: i32 = std::env::var("_FUSE_COMMFD").expect("a number").parse().expect("a number");
    // SAFETY: the parent opened it for this process alone.
    let parent = unsafe { OwnedFd::from_raw_fd(number) };
    let rights = [server.as_raw_fd()];
    let rights = [ControlMessage::ScmRights(&rights)];
    let byte = [IoSlice::new(&[0])];
    sendmsg::<()>(parent.as_raw_fd(), &byte, &rights, MsgFlags::empty(), None).expect("a parent");
    let mut end = [0];
    let _ = nix::unistd::read(&parent, &mut end);
    drop(kernel);
}
