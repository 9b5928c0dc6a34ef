//! What must not panic, and two functions that do what is forbidden, to see that it is noticed.
//!
//! This is linked by nothing: `main` beside it builds it in release and reads the machine code.

#![allow(missing_docs, clippy::unwrap_used, reason = "nobody calls this")]

use std::hint::black_box;

use fusewire_proto::abi::{InHeader, OutHeader};
use fusewire_proto::{
    DirentPlusWriter, DirentWriter, Entry, Errno, Notification, Operation, Reply, Unique, frame,
    request,
};

/// The functions of a row, none inlined, under names that the test finds.
macro_rules! probes {
    ($(fn $name:ident($($argument:ident: $type:ty),*) $body:expr)*) => {$(
        #[unsafe(no_mangle)]
        #[inline(never)]
        pub extern "Rust" fn $name($($argument: $type),*) {
            let _ = black_box($body);
        }
    )*};
}

probes! {
    fn probe_split(message: &[u8], setxattr_ext: bool) request::split(message, setxattr_ext).is_ok()
    fn probe_header(message: &[u8]) (frame::in_header(message), frame::ring_entry(message))
    fn probe_decode(header: &InHeader, argument: &[u8], payload: &[u8])
        match &Operation::decode(header, argument, payload) {
            Ok(op) => Ok(black_box(*op)),
            Err(error) => Err(error.errno()),
        }
    fn probe_extensions(op: &Operation<'_>)
        if let Operation::Create(create) = op {
            create.extensions.security_contexts().for_each(|context| { black_box(context); });
            create.extensions.groups().for_each(|group| { black_box(group); });
        }
    fn probe_out_header(out: &mut [u8], unique: Unique, error: Errno, len: usize) (
        frame::put_out_header(out, &OutHeader::new(unique, Ok(()), len)),
        frame::put_out_header(out, &OutHeader::new(unique, Err(error), len)),
        frame::put_ring_entry(out, 1, len),
    )
    fn probe_reply(reply: &Reply<'_>, out: &mut [u8]) reply.encode(out)
    fn probe_dirent(out: &mut [u8], name: &[u8]) DirentWriter::new(out).add(1, 2, 3, name)
    fn probe_dirent_plus(out: &mut [u8], entry: &Entry, name: &[u8])
        DirentPlusWriter::new(out).add(Some(entry), 1, 2, 3, name)
    fn probe_notification(notification: &Notification<'_>, out: &mut [u8]) notification.encode(out)

    fn probe_that_indexes(bytes: &[u8], at: usize) bytes[at]
    fn probe_that_slices(bytes: &[u8], at: usize) &bytes[at..]
    fn probe_that_unwraps(byte: Option<u8>) byte.unwrap()
    fn probe_that_divides(by: u32) 1000 / by
    fn probe_that_allocates(len: usize) vec![1_u8; len]
}
