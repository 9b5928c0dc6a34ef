//! The decoders of other libraries, given the messages of `fusewire_benches::codec`.
//!
//! Counting begins where a library gets the whole request and ends in [`handler_reached`], which
//! each library's filesystem calls with what it was given. Only polyfuse lets a caller decode
//! without a session; what the others need around it is said where it is made.

use std::os::fd::OwnedFd;

use fusewire_benches::codec::Message;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, send, socketpair};
use std::os::fd::AsRawFd;

pub mod backend;
pub mod fuser_peer;
pub mod polyfuse_peer;

/// Where counting ends: the operation has arrived. Ends the process.
#[inline(never)]
pub fn handler_reached<T>(operation: T) -> ! {
    std::hint::black_box(operation);
    // SAFETY: it only ends the process.
    unsafe { libc::_exit(0) }
}

/// INIT of a kernel that speaks 7.31, which all peers accept.
#[must_use]
pub fn init() -> Message {
    Message::new(26, &[7, 31, 1 << 17, 0], &[])
}

/// A device with messages in it, and the end that the kernel would hold.
///
/// # Panics
/// Where there are no sockets.
#[must_use]
pub fn device(messages: &[&[u8]]) -> (OwnedFd, OwnedFd) {
    let (server, kernel) =
        socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::empty())
            .expect("sockets");
    for message in messages {
        send(kernel.as_raw_fd(), message, MsgFlags::empty()).expect("room for a message");
    }
    (server, kernel)
}
