//! fuse-backend-rs: its decoder is inside `Server::handle_message`, which is public.
//!
//! Counted is from there to the filesystem: reading the header, choosing the handler, reading the
//! argument and, for LOOKUP, copying the name into a vector. Not counted: the `Reader` and
//! `Writer` that it wants, the reply.

use std::ffi::CStr;
use std::io;

use fuse_backend_rs::api::filesystem::{
    Context, Entry, FileSystem, ZeroCopyReader, ZeroCopyWriter,
};
use fuse_backend_rs::api::server::Server;
use fuse_backend_rs::transport::{FuseBuf, FuseDevWriter, Reader, Writer};
use fusewire_benches::codec::Message;

use crate::handler_reached;

/// A filesystem that gets no further than being called.
#[derive(Debug)]
pub struct Nothing;

impl FileSystem for Nothing {
    type Inode = u64;
    type Handle = u64;

    fn lookup(&self, cx: &Context, parent: u64, name: &CStr) -> io::Result<Entry> {
        handler_reached((cx, parent, name))
    }

    fn getattr(
        &self,
        cx: &Context,
        inode: u64,
        handle: Option<u64>,
    ) -> io::Result<(libc::stat64, std::time::Duration)> {
        handler_reached((cx, inode, handle))
    }

    fn read(
        &self,
        cx: &Context,
        inode: u64,
        handle: u64,
        w: &mut dyn ZeroCopyWriter,
        size: u32,
        offset: u64,
        lock_owner: Option<u64>,
        flags: u32,
    ) -> io::Result<usize> {
        handler_reached((cx, inode, handle, w.available_bytes(), size, offset, lock_owner, flags))
    }

    fn write(
        &self,
        cx: &Context,
        inode: u64,
        handle: u64,
        _r: &mut dyn ZeroCopyReader,
        size: u32,
        offset: u64,
        lock_owner: Option<u64>,
        delayed_write: bool,
        flags: u32,
        fuse_flags: u32,
    ) -> io::Result<usize> {
        let fixed = (cx, inode, handle, size, offset, lock_owner);
        handler_reached((fixed, delayed_write, flags, fuse_flags))
    }
}

/// What `handle_message` is called on and with.
pub type Prepared = (Server<Nothing>, Reader<'static, ()>, Writer<'static, ()>);

/// Everything but the call.
///
/// # Panics
/// Never: the buffers are what the library wants.
#[must_use]
pub fn prepare(message: Message) -> Prepared {
    let request = Vec::leak(message.whole.to_vec());
    let reply = Vec::leak(vec![0; 1 << 18]);
    let reader = Reader::from_fuse_buffer(FuseBuf::new(request)).expect("a reader");
    let writer = FuseDevWriter::new(-1, reply).expect("a writer");
    (Server::new(Nothing), reader, writer.into())
}

/// Decodes and calls the filesystem.
#[inline(never)]
pub fn measured_backend((server, reader, writer): Prepared) {
    let _ = server.handle_message(reader, writer, None, None);
    unreachable!("the filesystem ends the process");
}
