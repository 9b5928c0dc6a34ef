//! What must not panic, and two functions that do what is forbidden, to see that it is noticed.
//!
//! This is linked by nothing: `main` beside it builds it in release and reads the machine code.

#![allow(missing_docs, clippy::unwrap_used, reason = "nobody calls this")]

use std::hint::black_box;

use fusewire_proto::abi::{InHeader, InitOut, OutHeader};
use fusewire_proto::op::{ExtensionsWriter, SecurityContext};
use fusewire_proto::reply::{self, Known};
use fusewire_proto::{
    Agreement, Asked, DirentPlusReader, DirentPlusWriter, DirentReader, DirentWriter, Entry,
    Envelope, Errno, FileType, Forms, Limits, Notification, Offer, Operation, Reply, Unique,
    Wishes, frame, request,
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
    fn probe_dirent(out: &mut [u8], name: &[u8]) DirentWriter::new(out).add(1, 2, FileType(3), name)
    fn probe_dirent_plus(out: &mut [u8], entry: &Entry, name: &[u8])
        DirentPlusWriter::new(out).add(Some(entry), 1, 2, FileType(3), name)
    fn probe_notification(notification: &Notification<'_>, out: &mut [u8]) notification.encode(out)
    fn probe_encode(op: &Operation<'_>, from: &Envelope, forms: Forms, out: &mut [u8])
        op.encode(from, forms, out)
    fn probe_encode_ring(op: &Operation<'_>, from: &Envelope, op_in: &mut [u8; 128], out: &mut [u8])
        op.encode_ring(from, Forms::LONG, op_in, out)
    fn probe_split_ring(header: &InHeader, op_in: &[u8], payload: &[u8])
        request::split_ring(header, op_in, payload, true).is_ok()
    fn probe_extensions_writer(out: &mut [u8], contexts: &[SecurityContext<'_>], groups: &[u32]) {
        let mut writer = ExtensionsWriter::new(out);
        let _ = black_box((writer.security_contexts(contexts), writer.groups(groups)));
        black_box(writer.finish());
    }
    fn probe_negotiate(offer: &Offer, wishes: &Wishes, limits: &Limits, init: &InitOut) {
        let agreement = fusewire_proto::negotiate(offer, wishes, limits);
        let _ = black_box(agreement.map(|it| (it.init_out(), it.read_buffer_min())));
        black_box(Agreement::observed(offer, init, limits));
    }
    fn probe_asked(op: &Operation<'_>) Asked::new(op)
    fn probe_reply_decode(asked: &Asked, header: &OutHeader, body: &[u8])
        reply::decode(asked, header, body).is_ok()
    fn probe_judge(asked: &Asked, known: &Known, header: &OutHeader, body: &[u8])
        reply::judge(asked, known, header, body)
    fn probe_dirent_reader(stream: &[u8]) DirentReader::new(stream).for_each(|record| {
        let _ = black_box(record);
    })
    fn probe_dirent_plus_reader(stream: &[u8]) DirentPlusReader::new(stream).for_each(|record| {
        let _ = black_box(record.map(|record| record.look_up()));
    })
    fn probe_notification_decode(header: &OutHeader, body: &[u8])
        Notification::decode(header, body).is_ok()
    fn probe_ring_header(area: &mut [u8]) if let Some(mut header) = frame::ring_header(area) {
        header.put_in_header(&black_box(header.in_header()));
        header.put_out_header(&black_box(header.out_header()));
        frame::put_ring_header(area, &header);
    }

    fn probe_that_indexes(bytes: &[u8], at: usize) bytes[at]
    fn probe_that_slices(bytes: &[u8], at: usize) &bytes[at..]
    fn probe_that_unwraps(byte: Option<u8>) byte.unwrap()
    fn probe_that_divides(by: u32) 1000 / by
    fn probe_that_allocates(len: usize) vec![1_u8; len]
}
