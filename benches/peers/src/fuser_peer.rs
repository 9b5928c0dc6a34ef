//! fuser: its decoder is private (`ll::AnyRequest`), so a session reads from a socket.
//!
//! Counted are `RequestWithSender::new`, which checks the header, and `dispatch` up to the
//! filesystem, which reads the argument and prepares a reply. Not counted: reading from the
//! device, and that the session decodes each request once more, to see if it is DESTROY.

use std::ffi::OsStr;

use fuser::{
    Config, FileHandle, Filesystem, INodeNo, LockOwner, OpenFlags, ReplyAttr, ReplyData,
    ReplyEntry, ReplyWrite, Request, Session, SessionACL, WriteFlags,
};
use fusewire_benches::codec::Message;

use crate::handler_reached;

/// A filesystem that gets no further than being called.
#[derive(Debug)]
pub struct Nothing;

impl Filesystem for Nothing {
    fn lookup(&self, req: &Request, parent: INodeNo, name: &OsStr, _reply: ReplyEntry) {
        handler_reached((req, parent, name))
    }

    fn getattr(&self, req: &Request, ino: INodeNo, fh: Option<FileHandle>, _reply: ReplyAttr) {
        handler_reached((req, ino, fh))
    }

    fn read(
        &self,
        req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        size: u32,
        flags: OpenFlags,
        lock_owner: Option<LockOwner>,
        _reply: ReplyData,
    ) {
        handler_reached((req, ino, fh, offset, size, flags, lock_owner))
    }

    fn write(
        &self,
        req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        data: &[u8],
        write_flags: WriteFlags,
        flags: OpenFlags,
        lock_owner: Option<LockOwner>,
        _reply: ReplyWrite,
    ) {
        handler_reached((req, ino, fh, offset, data, write_flags, flags, lock_owner))
    }
}

/// A session that has shaken hands and will read `message` next.
///
/// # Panics
/// Where the session does not start.
#[must_use]
pub fn prepare(message: Message) -> Session<Nothing> {
    let (server, kernel) = crate::device(&[crate::init().whole, message.whole]);
    std::mem::forget(kernel);
    Session::from_fd(Nothing, server, SessionACL::All, Config::default()).expect("a session")
}

/// Reads, decodes and calls the filesystem.
pub fn run(session: Session<Nothing>) {
    let _ = session.run();
    unreachable!("the filesystem ends the process");
}
