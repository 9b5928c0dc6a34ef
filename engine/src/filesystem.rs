//! The trait that a filesystem implements: one async method per operation.
//!
//! Each method gets the request's [`Context`], the decoded operation and, for bulk answers, the
//! buffer that the answer goes into. What it returns is the answer: there is no way to forget it
//! or to give it twice. The operations' own pages tell which system call leads to them, what the
//! kernel caches from the answer, and where in the kernel to look.
//!
//! Never known here: transports and slots. Neighbours: `dispatch` calls these methods.

#![allow(async_fn_in_trait, reason = "a future stays on its shard's thread and need not be Send")]

use std::io;

use fusewire_proto::flags::{InitFlags, PollEvents};
use fusewire_proto::negotiate::Agreement;
use fusewire_proto::op::{
    Access, BMap, CopyFileRange, Create, FAllocate, FSync, FSyncDir, Flush, GetAttr, GetLk,
    GetXattr, IoCtl, LSeek, Link, ListXattr, Lookup, MkDir, MkNod, NotifyReply, Open, OpenDir,
    Poll, Read, ReadDir, ReadDirPlus, ReadLink, Release, ReleaseDir, RemoveMapping, RemoveXattr,
    Rename, RmDir, SetAttr, SetLk, SetLkW, SetXattr, SetupMapping, StatFs, Statx, Symlink, SyncFs,
    TmpFile, Unlink, Write,
};
use fusewire_proto::{
    Attributes, Entry, Errno, FileLock, FsStats, LookupCount, NodeId, Opened, Result,
    StatxAttributes,
};

use crate::context::Context;
use crate::notify::Notifier;
use crate::reply::{DirBuf, DirPlusBuf, ReadBuf, XattrBuf};

/// Declares a handler whose default answers ENOSYS.
macro_rules! handler {
    ($(#[$doc:meta])* $name:ident($operation:ty $(, $out:ty)?) -> $answer:ty) => {
        $(#[$doc])*
        ///
        /// # Errors
        /// The default answers ENOSYS; what the kernel makes of that stands with the operation.
        async fn $name(
            &self,
            cx: &Context<'_>,
            op: $operation,
            $(out: &mut $out,)?
        ) -> Result<$answer> {
            let _ = (cx, op);
            $(let _: &mut $out = out;)?
            Err(Errno::ENOSYS)
        }
    };
}

/// A filesystem; one instance per shard, from a factory. Shared state goes behind `Arc`.
///
/// # Cancellation
/// A handler is not cancelled: it is polled until it returns. [`Context::interrupted`] tells it
/// that its caller got a signal.
///
/// # Panics
/// A panic in a handler answers EIO and is counted; the session lives on.
pub trait Filesystem: 'static {
    /// The INIT flags that this type can honour. Of these, a session asks for what its
    /// configuration does not forbid and the kernel offers.
    const WISHES: InitFlags;

    /// Called once for each instance, on the thread of its shard, before the first request. Ring,
    /// device and memory are open by then: what belongs to a thread, privileges among it, can be
    /// given up here. The notifier is for what happens without a request.
    ///
    /// # Errors
    /// End the start of the session: nothing is left mounted.
    fn start(&self, agreement: &Agreement, notifier: &Notifier) -> io::Result<()> {
        let _ = (agreement, notifier);
        Ok(())
    }

    handler! {
        /// Finds a name in the directory [`Context::node`]; gives the kernel one lookup.
        lookup(Lookup<'_>) -> Entry
    }
    /// Takes `lookups` lookups of `node` back. Must not block; there is no answer. At an unmount
    /// none come: the end of the session ends all nodes.
    fn forget(&self, node: NodeId, lookups: LookupCount) {
        let _ = (node, lookups);
    }
    /// Whether what a FORGET gives back is wanted at once, as room that runs short. If not, those
    /// beside FUSE-over-io_uring come together, up to a millisecond late. Asked there after each
    /// message of them; must not block.
    fn needs_forgets(&self) -> bool {
        false
    }
    handler! {
        /// Reads a node's attributes.
        getattr(GetAttr) -> Attributes
    }
    handler! {
        /// Changes attributes; answers with the new ones.
        setattr(SetAttr) -> Attributes
    }
    handler! {
        /// Reads a symbolic link's target into `out`.
        readlink(ReadLink, ReadBuf<'_>) -> ()
    }
    handler! {
        /// Makes a symbolic link; gives one lookup.
        symlink(Symlink<'_>) -> Entry
    }
    handler! {
        /// Makes a file, device node, fifo or socket; gives one lookup.
        mknod(MkNod<'_>) -> Entry
    }
    handler! {
        /// Makes a directory; gives one lookup.
        mkdir(MkDir<'_>) -> Entry
    }
    handler! {
        /// Removes a name that is no directory. The node lives until it is forgotten and closed.
        unlink(Unlink<'_>) -> ()
    }
    handler! {
        /// Removes an empty directory.
        rmdir(RmDir<'_>) -> ()
    }
    handler! {
        /// Moves, replaces or exchanges names; RENAME and RENAME2 both come here.
        rename(Rename<'_>) -> ()
    }
    handler! {
        /// Gives a node another name, in the directory [`Context::node`]; gives one lookup.
        link(Link<'_>) -> Entry
    }
    handler! {
        /// Opens a file. With write-back the handle may be read although it was opened for
        /// writing only.
        open(Open) -> Opened
    }
    handler! {
        /// Reads data into `out`.
        read(Read, ReadBuf<'_>) -> ()
    }
    handler! {
        /// Writes data; returns the count. With `WRITE_CACHE` a short count is silent loss.
        write(Write<'_>) -> u32
    }
    handler! {
        /// Counts what is used and free.
        statfs(StatFs) -> FsStats
    }
    handler! {
        /// Ends a file handle; the caller does not wait.
        release(Release) -> ()
    }
    handler! {
        /// Makes a file's data last, whichever handle they came through.
        fsync(FSync) -> ()
    }
    handler! {
        /// Sets an extended attribute.
        setxattr(SetXattr<'_>) -> ()
    }
    handler! {
        /// Reads an extended attribute's value into `out`.
        getxattr(GetXattr<'_>, XattrBuf<'_>) -> ()
    }
    handler! {
        /// Lists the names of extended attributes into `out`, each ended by NUL.
        listxattr(ListXattr, XattrBuf<'_>) -> ()
    }
    handler! {
        /// Removes an extended attribute.
        removexattr(RemoveXattr<'_>) -> ()
    }
    handler! {
        /// A descriptor of the handle was closed; an error reaches close(2).
        flush(Flush) -> ()
    }
    handler! {
        /// Opens a directory.
        opendir(OpenDir) -> Opened
    }
    handler! {
        /// Reads entries from a cookie on.
        readdir(ReadDir, DirBuf<'_>) -> ()
    }
    handler! {
        /// Reads entries with what a lookup of each would answer; gives one lookup for each.
        readdirplus(ReadDirPlus, DirPlusBuf<'_>) -> ()
    }
    handler! {
        /// Ends a directory handle.
        releasedir(ReleaseDir) -> ()
    }
    handler! {
        /// Makes a directory's entries last.
        fsyncdir(FSyncDir) -> ()
    }
    handler! {
        /// Asks which lock would stand in the way.
        getlk(GetLk) -> FileLock
    }
    handler! {
        /// Sets or clears a lock, or fails at once.
        setlk(SetLk) -> ()
    }
    handler! {
        /// Sets a lock, waiting for it.
        setlkw(SetLkW) -> ()
    }
    handler! {
        /// Checks permissions, where the kernel does not do it itself.
        access(Access) -> ()
    }
    handler! {
        /// Makes and opens a file; gives one lookup.
        create(Create<'_>) -> (Entry, Opened)
    }
    handler! {
        /// Makes and opens a file without a name; gives one lookup.
        tmpfile(TmpFile<'_>) -> (Entry, Opened)
    }
    handler! {
        /// Finds the block of a device that holds a block of the file.
        bmap(BMap) -> u64
    }
    handler! {
        /// A device's own command; the data of the answer go into `out`.
        ioctl(IoCtl<'_>, ReadBuf<'_>) -> i32
    }
    handler! {
        /// Tells which events are there.
        poll(Poll) -> PollEvents
    }
    handler! {
        /// Reserves, zeroes or frees a range of a file.
        fallocate(FAllocate) -> ()
    }
    handler! {
        /// Finds data or a hole. Dirty pages in the kernel are not known here.
        lseek(LSeek) -> u64
    }
    handler! {
        /// Copies a range between files; returns the count.
        copy_file_range(CopyFileRange) -> u64
    }
    handler! {
        /// Reads attributes with the birth time.
        statx(Statx) -> StatxAttributes
    }
    handler! {
        /// Makes everything last; fuseblk and virtiofs only.
        syncfs(SyncFs) -> ()
    }
    handler! {
        /// Maps a range of a file into a DAX window; virtiofs only.
        setupmapping(SetupMapping) -> ()
    }
    handler! {
        /// Ends such mappings.
        removemapping(RemoveMapping<'_>) -> ()
    }
    /// Data that a notification had asked for.
    fn notify_reply(&self, cx: &Context<'_>, op: NotifyReply<'_>) {
        let _ = (cx, op);
    }
}
