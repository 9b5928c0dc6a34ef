//! The filesystem of all peers on fractal-fuse, which has FUSE-over-io_uring only. Default: as the
//! library is, 256 entries for each queue. Best: the queue depth of its README, and requests in the
//! background as the other peers have them.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Parser;
use fractal_fuse::{
    DirectoryEntry, DirectoryEntryPlus, FileAttr, FileHandleId, FileType, Filesystem, FsResult,
    InodeId, MountOptions, ReplyAttr, ReplyCreate, ReplyEntry, ReplyInit, ReplyOpen, Request,
    Session, SetAttr, SetAttrTime, Timestamp,
};
use peer_tree::{Args, Attr, Change, MAX_BACKGROUND, MAX_WRITE, Maker, Tree, VALID};

/// FOPEN_KEEP_CACHE of fuse.h.
const KEEP_CACHE: u32 = 1 << 1;
/// Bytes of `struct fuse_dirent` and `struct fuse_direntplus` before the name.
const DIRENT: usize = 24;
const DIRENTPLUS: usize = 152;

struct Peer {
    tree: Tree,
    best: bool,
}

fn stamp(time: SystemTime) -> Timestamp {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().into()
}

fn time(time: SetAttrTime) -> SystemTime {
    match time {
        SetAttrTime::Now => SystemTime::now(),
        SetAttrTime::Specific(stamp) => UNIX_EPOCH + Duration::new(stamp.sec, stamp.nsec),
    }
}

fn kind_of(attr: &Attr) -> FileType {
    if attr.is_dir() { FileType::Directory } else { FileType::RegularFile }
}

fn attr_of(attr: &Attr) -> FileAttr {
    FileAttr {
        ino: attr.ino,
        size: attr.size,
        blocks: attr.blocks(),
        atime: stamp(attr.atime),
        mtime: stamp(attr.mtime),
        ctime: stamp(attr.ctime),
        mode: attr.mode,
        nlink: attr.nlink,
        uid: attr.uid,
        gid: attr.gid,
        rdev: 0,
        blksize: 4096,
    }
}

fn entry(attr: &Attr) -> ReplyEntry {
    ReplyEntry { ttl: VALID, attr: attr_of(attr), generation: 0 }
}

/// Whether an entry still fits, and what is left of the room.
fn fits(room: &mut usize, fixed: usize, name: &[u8]) -> bool {
    let wanted = (fixed + name.len()).next_multiple_of(8);
    let fits = wanted <= *room;
    *room = room.saturating_sub(wanted);
    fits
}

impl Filesystem for Peer {
    async fn init(&self, _: Request) -> FsResult<ReplyInit> {
        let mut reply = ReplyInit { max_write: MAX_WRITE, ..ReplyInit::default() };
        if self.best {
            reply.max_background = MAX_BACKGROUND;
            reply.congestion_threshold = MAX_BACKGROUND / 4 * 3;
        }
        Ok(reply)
    }

    async fn lookup(&self, _: Request, parent: InodeId, name: &OsStr) -> FsResult<ReplyEntry> {
        Ok(entry(&self.tree.lookup(parent.0, name.as_bytes())?))
    }

    fn forget(&self, _: Request, inode: InodeId, lookups: u64) {
        self.tree.forget(inode.0, lookups);
    }

    async fn getattr(
        &self,
        _: Request,
        inode: InodeId,
        _: Option<FileHandleId>,
        _: u32,
    ) -> FsResult<ReplyAttr> {
        Ok(ReplyAttr { ttl: VALID, attr: attr_of(&self.tree.getattr(inode.0)?) })
    }

    async fn setattr(
        &self,
        _: Request,
        inode: InodeId,
        _: Option<FileHandleId>,
        set: SetAttr,
    ) -> FsResult<ReplyAttr> {
        let change = Change {
            mode: set.mode,
            uid: set.uid,
            gid: set.gid,
            size: set.size,
            atime: set.atime.map(time),
            mtime: set.mtime.map(time),
            ctime: set.ctime.map(|stamp| time(SetAttrTime::Specific(stamp))),
        };
        Ok(ReplyAttr { ttl: VALID, attr: attr_of(&self.tree.setattr(inode.0, change)?) })
    }

    async fn mkdir(
        &self,
        request: Request,
        parent: InodeId,
        name: &OsStr,
        mode: u32,
        umask: u32,
    ) -> FsResult<ReplyEntry> {
        let mode = libc::S_IFDIR | mode & !umask & 0o7777;
        let maker = Maker { mode, uid: request.uid, gid: request.gid };
        Ok(entry(&self.tree.make(parent.0, name.as_bytes(), maker)?))
    }

    async fn create(
        &self,
        request: Request,
        parent: InodeId,
        name: &OsStr,
        mode: u32,
        _: u32,
    ) -> FsResult<ReplyCreate> {
        let mode = libc::S_IFREG | mode & 0o7777;
        let maker = Maker { mode, uid: request.uid, gid: request.gid };
        let attr = self.tree.make(parent.0, name.as_bytes(), maker)?;
        Ok(ReplyCreate {
            ttl: VALID,
            attr: attr_of(&attr),
            generation: 0,
            fh: FileHandleId(attr.ino),
            flags: KEEP_CACHE,
        })
    }

    async fn unlink(&self, _: Request, parent: InodeId, name: &OsStr) -> FsResult<()> {
        self.tree.unlink(parent.0, name.as_bytes())
    }

    async fn rmdir(&self, _: Request, parent: InodeId, name: &OsStr) -> FsResult<()> {
        self.tree.rmdir(parent.0, name.as_bytes())
    }

    async fn rename(
        &self,
        _: Request,
        parent: InodeId,
        name: &OsStr,
        new_parent: InodeId,
        new_name: &OsStr,
        flags: u32,
    ) -> FsResult<()> {
        if flags != 0 {
            return Err(libc::EINVAL);
        }
        self.tree.rename(parent.0, name.as_bytes(), new_parent.0, new_name.as_bytes())
    }

    async fn open(&self, _: Request, inode: InodeId, _: u32) -> FsResult<ReplyOpen> {
        Ok(ReplyOpen { fh: FileHandleId(inode.0), flags: KEEP_CACHE, backing_id: 0 })
    }

    async fn read(
        &self,
        _: Request,
        inode: InodeId,
        _: FileHandleId,
        offset: u64,
        buffer: &mut [u8],
    ) -> FsResult<usize> {
        let size = u32::try_from(buffer.len()).unwrap_or(u32::MAX);
        self.tree.read(inode.0, offset, size, |pieces| {
            let mut done = 0;
            for piece in pieces {
                buffer[done..done + piece.len()].copy_from_slice(piece);
                done += piece.len();
            }
            done
        })
    }

    async fn write(
        &self,
        _: Request,
        inode: InodeId,
        _: FileHandleId,
        offset: u64,
        data: &[u8],
        _: u32,
        _: u32,
    ) -> FsResult<usize> {
        self.tree.write(inode.0, offset, data).map(|written| written as usize)
    }

    async fn release(
        &self,
        _: Request,
        _: InodeId,
        _: FileHandleId,
        _: u32,
        _: u64,
        _: bool,
        _: bool,
    ) -> FsResult<()> {
        Ok(())
    }

    async fn opendir(&self, _: Request, inode: InodeId, _: u32) -> FsResult<ReplyOpen> {
        Ok(ReplyOpen { fh: FileHandleId(inode.0), flags: 0, backing_id: 0 })
    }

    async fn releasedir(&self, _: Request, _: InodeId, _: FileHandleId, _: u32) -> FsResult<()> {
        Ok(())
    }

    async fn readdir(
        &self,
        _: Request,
        inode: InodeId,
        _: FileHandleId,
        offset: u64,
        size: u32,
    ) -> FsResult<Vec<DirectoryEntry>> {
        let (mut found, mut room) = (Vec::new(), size as usize);
        self.tree.list(inode.0, offset, false, |entry| {
            let fits = fits(&mut room, DIRENT, entry.name);
            if fits {
                let (kind, name) = (kind_of(&entry.attr), entry.name.to_vec());
                found.push(DirectoryEntry { ino: entry.ino, offset: entry.next, kind, name });
            }
            fits
        })?;
        Ok(found)
    }

    async fn readdirplus(
        &self,
        _: Request,
        inode: InodeId,
        _: FileHandleId,
        offset: u64,
        size: u32,
    ) -> FsResult<Vec<DirectoryEntryPlus>> {
        let (mut found, mut room) = (Vec::new(), size as usize);
        self.tree.list(inode.0, offset, true, |entry| {
            let fits = fits(&mut room, DIRENTPLUS, entry.name);
            if fits {
                found.push(DirectoryEntryPlus {
                    ino: entry.ino,
                    offset: entry.next,
                    kind: kind_of(&entry.attr),
                    name: entry.name.to_vec(),
                    entry_ttl: VALID,
                    attr: attr_of(&entry.attr),
                    generation: 0,
                });
            }
            fits
        })?;
        Ok(found)
    }
}

fn main() -> io::Result<()> {
    let args = Args::parse();
    let options = MountOptions::new()
        .fs_name("peer-fractal")
        .default_permissions(true)
        .write_back(args.writeback());
    let mut session = Session::new(args.mountpoint.clone(), options)?;
    if args.best {
        session = session.with_queue_depth(128);
    }
    session.run(Peer { tree: Tree::new(), best: args.best })
}
