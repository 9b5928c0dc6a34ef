//! polyfuse: `Request::operation` is public, but a `Request` comes from a mounted session only.
//!
//! The session is mounted by `hand-over`, which passes a socket with INIT and the request in it.

use std::path::PathBuf;

use fusewire_benches::codec::Message;
use polyfuse::op::{DecodeError, Operation};
use polyfuse::{Data, KernelConfig, Request, Session};

/// The request as polyfuse reads it from its device.
///
/// # Panics
/// Where the session does not start.
#[must_use]
pub fn request(message: Message, hand_over: &str) -> Request {
    let hex: String = message.whole.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut config = KernelConfig::default();
    config.fusermount_path(hand_over);
    let session = Session::mount(PathBuf::from(hex), config).expect("a session");
    let request = session.next_request().expect("a request").expect("a request");
    // Dropped, it would end the session and then decode nothing.
    std::mem::forget(session);
    request
}

/// Decodes: the header is already apart from the rest. What comes out is a view that reads most
/// fields when it is asked for them.
///
/// # Errors
/// None: the message is well-formed.
#[inline(never)]
pub fn measured_polyfuse(request: &Request) -> Result<Operation<'_, Data<'_>>, DecodeError> {
    request.operation()
}
