//! The filesystem of all peers on fuse3 with tokio. Default: the runtime of one thread that the
//! library's examples have. Best: a thread of the runtime per CPU, more requests in the background.

use std::ffi::{OsStr, OsString};
use std::io;
use std::num::NonZeroU32;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Parser;
use fuse3::raw::prelude::*;
use fuse3::raw::{Filesystem, Request, Session};
use fuse3::{FileType, Inode, MountOptions, Result, SetAttr, Timestamp};
use futures_util::stream::{self, Stream};
use peer_tree::{Args, Attr, Change, MAX_BACKGROUND, MAX_WRITE, Maker, Tree, VALID};

/// FOPEN_KEEP_CACHE of fuse.h.
const KEEP_CACHE: u32 = 1 << 1;
/// Entries that are taken from the tree at once: the library does not say how many fit.
const BATCH: usize = 32;

struct Peer {
    tree: Tree,
    best: bool,
}

fn kind_of(attr: &Attr) -> FileType {
    if attr.is_dir() { FileType::Directory } else { FileType::RegularFile }
}

fn attr_of(attr: &Attr) -> FileAttr {
    FileAttr {
        ino: attr.ino,
        size: attr.size,
        blocks: attr.blocks(),
        atime: attr.atime.into(),
        mtime: attr.mtime.into(),
        ctime: attr.ctime.into(),
        kind: kind_of(attr),
        perm: (attr.mode & 0o7777) as u16,
        nlink: attr.nlink,
        uid: attr.uid,
        gid: attr.gid,
        rdev: 0,
        blksize: 4096,
    }
}

fn time(time: Timestamp) -> SystemTime {
    UNIX_EPOCH + Duration::new(u64::try_from(time.sec).unwrap_or(0), time.nsec)
}

fn entry(attr: &Attr) -> ReplyEntry {
    ReplyEntry { ttl: VALID, attr: attr_of(attr), generation: 0 }
}

/// An entry of a directory.
struct Listed {
    attr: Attr,
    name: OsString,
    next: u64,
}

/// The entries of a directory, taken as they are asked for.
struct Listing<'t> {
    tree: &'t Tree,
    parent: Inode,
    from: u64,
    batch: std::vec::IntoIter<Listed>,
}

impl<'t> Listing<'t> {
    fn new(tree: &'t Tree, parent: Inode, from: u64) -> Self {
        Self { tree, parent, from, batch: Vec::new().into_iter() }
    }
}

impl Iterator for Listing<'_> {
    type Item = Listed;

    fn next(&mut self) -> Option<Listed> {
        if self.batch.len() == 0 {
            let mut batch = Vec::with_capacity(BATCH);
            let listed = self.tree.list(self.parent, self.from, false, |entry| {
                let name = OsString::from_vec(entry.name.to_vec());
                batch.push(Listed { attr: entry.attr, name, next: entry.next });
                batch.len() < BATCH
            });
            listed.ok()?;
            self.batch = batch.into_iter();
        }
        let listed = self.batch.next()?;
        self.from = listed.next;
        Some(listed)
    }
}

impl Filesystem for Peer {
    async fn init(&self, _: Request) -> Result<ReplyInit> {
        let mut reply = ReplyInit::new(NonZeroU32::new(MAX_WRITE).ok_or(libc::EINVAL)?);
        if self.best {
            reply.max_background = Some(MAX_BACKGROUND);
        }
        Ok(reply)
    }

    async fn destroy(&self, _: Request) {}

    async fn lookup(&self, _: Request, parent: Inode, name: &OsStr) -> Result<ReplyEntry> {
        Ok(entry(&self.tree.lookup(parent, name.as_bytes())?))
    }

    async fn forget(&self, _: Request, inode: Inode, lookups: u64) {
        self.tree.forget(inode, lookups);
    }

    async fn batch_forget(&self, _: Request, inodes: &[(Inode, u64)]) {
        for (inode, lookups) in inodes {
            self.tree.forget(*inode, *lookups);
        }
    }

    async fn getattr(&self, _: Request, inode: Inode, _: Option<u64>, _: u32) -> Result<ReplyAttr> {
        Ok(ReplyAttr { ttl: VALID, attr: attr_of(&self.tree.getattr(inode)?) })
    }

    async fn setattr(
        &self,
        _: Request,
        inode: Inode,
        _: Option<u64>,
        set: SetAttr,
    ) -> Result<ReplyAttr> {
        let change = Change {
            mode: set.mode,
            uid: set.uid,
            gid: set.gid,
            size: set.size,
            atime: set.atime.map(time),
            mtime: set.mtime.map(time),
            ctime: set.ctime.map(time),
        };
        Ok(ReplyAttr { ttl: VALID, attr: attr_of(&self.tree.setattr(inode, change)?) })
    }

    async fn mkdir(
        &self,
        request: Request,
        parent: Inode,
        name: &OsStr,
        mode: u32,
        umask: u32,
    ) -> Result<ReplyEntry> {
        let mode = libc::S_IFDIR | mode & !umask & 0o7777;
        let maker = Maker { mode, uid: request.uid, gid: request.gid };
        Ok(entry(&self.tree.make(parent, name.as_bytes(), maker)?))
    }

    async fn create(
        &self,
        request: Request,
        parent: Inode,
        name: &OsStr,
        mode: u32,
        _: u32,
    ) -> Result<ReplyCreated> {
        let mode = libc::S_IFREG | mode & 0o7777;
        let maker = Maker { mode, uid: request.uid, gid: request.gid };
        let attr = self.tree.make(parent, name.as_bytes(), maker)?;
        Ok(ReplyCreated {
            ttl: VALID,
            attr: attr_of(&attr),
            generation: 0,
            fh: attr.ino,
            flags: KEEP_CACHE,
        })
    }

    async fn unlink(&self, _: Request, parent: Inode, name: &OsStr) -> Result<()> {
        Ok(self.tree.unlink(parent, name.as_bytes())?)
    }

    async fn rmdir(&self, _: Request, parent: Inode, name: &OsStr) -> Result<()> {
        Ok(self.tree.rmdir(parent, name.as_bytes())?)
    }

    async fn rename(
        &self,
        _: Request,
        parent: Inode,
        name: &OsStr,
        new_parent: Inode,
        new_name: &OsStr,
    ) -> Result<()> {
        Ok(self.tree.rename(parent, name.as_bytes(), new_parent, new_name.as_bytes())?)
    }

    async fn open(&self, _: Request, inode: Inode, _: u32) -> Result<ReplyOpen> {
        Ok(ReplyOpen { fh: inode, flags: KEEP_CACHE })
    }

    async fn read(
        &self,
        _: Request,
        inode: Inode,
        _: u64,
        offset: u64,
        size: u32,
    ) -> Result<ReplyData> {
        // The library wants bytes of its own.
        let data = self.tree.read(inode, offset, size, |pieces| pieces.concat())?;
        Ok(ReplyData { data: data.into() })
    }

    async fn write(
        &self,
        _: Request,
        inode: Inode,
        _: u64,
        offset: u64,
        data: &[u8],
        _: u32,
        _: u32,
    ) -> Result<ReplyWrite> {
        Ok(ReplyWrite { written: self.tree.write(inode, offset, data)? })
    }

    async fn release(&self, _: Request, _: Inode, _: u64, _: u32, _: u64, _: bool) -> Result<()> {
        Ok(())
    }

    async fn fsync(&self, _: Request, _: Inode, _: u64, _: bool) -> Result<()> {
        Err(libc::ENOSYS.into())
    }

    async fn opendir(&self, _: Request, inode: Inode, _: u32) -> Result<ReplyOpen> {
        Ok(ReplyOpen { fh: inode, flags: 0 })
    }

    async fn readdir<'a>(
        &'a self,
        _: Request,
        parent: Inode,
        _: u64,
        offset: i64,
    ) -> Result<ReplyDirectory<impl Stream<Item = Result<DirectoryEntry>> + Send + 'a>> {
        self.tree.getattr(parent)?;
        let entries = Listing::new(&self.tree, parent, offset.cast_unsigned()).map(|listed| {
            Ok(DirectoryEntry {
                inode: listed.attr.ino,
                kind: kind_of(&listed.attr),
                name: listed.name,
                offset: listed.next.cast_signed(),
            })
        });
        Ok(ReplyDirectory { entries: stream::iter(entries) })
    }

    async fn readdirplus<'a>(
        &'a self,
        _: Request,
        parent: Inode,
        _: u64,
        offset: u64,
        _: u64,
    ) -> Result<ReplyDirectoryPlus<impl Stream<Item = Result<DirectoryEntryPlus>> + Send + 'a>>
    {
        self.tree.getattr(parent)?;
        let entries = Listing::new(&self.tree, parent, offset).map(|listed| {
            // The library does not tell which entry found no room, so that one counts once more
            // than the kernel knows; once removed it stays in memory.
            self.tree.know(listed.attr.ino);
            Ok(DirectoryEntryPlus {
                inode: listed.attr.ino,
                generation: 0,
                kind: kind_of(&listed.attr),
                name: listed.name,
                offset: listed.next.cast_signed(),
                attr: attr_of(&listed.attr),
                entry_ttl: VALID,
                attr_ttl: VALID,
            })
        });
        Ok(ReplyDirectoryPlus { entries: stream::iter(entries) })
    }
}

fn main() -> io::Result<()> {
    let args = Args::parse();
    let mut builder = if args.best {
        tokio::runtime::Builder::new_multi_thread()
    } else {
        tokio::runtime::Builder::new_current_thread()
    };
    builder.enable_all().build()?.block_on(async {
        let mut options = MountOptions::default();
        options.fs_name("peer-fuse3").default_permissions(true).write_back(args.writeback());
        let peer = Peer { tree: Tree::new(), best: args.best };
        Session::new(options).mount(peer, &args.mountpoint).await?.await
    })
}
