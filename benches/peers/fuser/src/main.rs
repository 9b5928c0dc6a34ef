//! The filesystem of all peers on fuser. Default: one thread. Best: a thread per CPU, each on its
//! own clone of the device.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::thread::available_parallelism;
use std::time::SystemTime;

use clap::Parser;
use fuser::{
    BsdFileFlags, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags,
    Generation, INodeNo, InitFlags, KernelConfig, LockOwner, MountOption, OpenFlags, RenameFlags,
    ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty, ReplyEntry,
    ReplyOpen, ReplyWrite, Request, TimeOrNow, WriteFlags,
};
use peer_tree::{Args, Attr, Change, MAX_BACKGROUND, MAX_WRITE, Maker, Tree, VALID};

struct Peer {
    tree: Tree,
    args: Args,
}

fn attr_of(attr: &Attr) -> FileAttr {
    FileAttr {
        ino: INodeNo(attr.ino),
        size: attr.size,
        blocks: attr.blocks(),
        atime: attr.atime,
        mtime: attr.mtime,
        ctime: attr.ctime,
        crtime: attr.ctime,
        kind: if attr.is_dir() { FileType::Directory } else { FileType::RegularFile },
        perm: (attr.mode & 0o7777) as u16,
        nlink: attr.nlink,
        uid: attr.uid,
        gid: attr.gid,
        rdev: 0,
        blksize: 4096,
        flags: 0,
    }
}

fn error(errno: i32) -> Errno {
    Errno::from_i32(errno)
}

fn time(time: Option<TimeOrNow>) -> Option<SystemTime> {
    time.map(|time| match time {
        TimeOrNow::SpecificTime(time) => time,
        TimeOrNow::Now => SystemTime::now(),
    })
}

fn entry(result: peer_tree::Result<Attr>, reply: ReplyEntry) {
    match result {
        Ok(attr) => reply.entry(&VALID, &attr_of(&attr), Generation(0)),
        Err(errno) => reply.error(error(errno)),
    }
}

fn empty(result: peer_tree::Result<()>, reply: ReplyEmpty) {
    match result {
        Ok(()) => reply.ok(),
        Err(errno) => reply.error(error(errno)),
    }
}

impl Filesystem for Peer {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        let _ = config.set_max_write(MAX_WRITE);
        let _ = config.set_max_background(MAX_BACKGROUND);
        let mut wanted = InitFlags::FUSE_ASYNC_READ
            | InitFlags::FUSE_ASYNC_DIO
            | InitFlags::FUSE_PARALLEL_DIROPS
            | InitFlags::FUSE_DO_READDIRPLUS
            | InitFlags::FUSE_READDIRPLUS_AUTO;
        if self.args.writeback() {
            wanted |= InitFlags::FUSE_WRITEBACK_CACHE;
        }
        config
            .add_capabilities(wanted)
            .map_err(|missing| io::Error::other(format!("the kernel lacks {missing:?}")))
    }

    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        entry(self.tree.lookup(parent.0, name.as_bytes()), reply);
    }

    fn forget(&self, _: &Request, ino: INodeNo, lookups: u64) {
        self.tree.forget(ino.0, lookups);
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.tree.getattr(ino.0) {
            Ok(attr) => reply.attr(&VALID, &attr_of(&attr)),
            Err(errno) => reply.error(error(errno)),
        }
    }

    fn setattr(
        &self,
        _: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        ctime: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let (atime, mtime) = (time(atime), time(mtime));
        match self.tree.setattr(ino.0, Change { mode, uid, gid, size, atime, mtime, ctime }) {
            Ok(attr) => reply.attr(&VALID, &attr_of(&attr)),
            Err(errno) => reply.error(error(errno)),
        }
    }

    fn mkdir(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        reply: ReplyEntry,
    ) {
        let mode = libc::S_IFDIR | mode & !umask & 0o7777;
        let maker = Maker { mode, uid: request.uid(), gid: request.gid() };
        entry(self.tree.make(parent.0, name.as_bytes(), maker), reply);
    }

    fn create(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        _: i32,
        reply: ReplyCreate,
    ) {
        let mode = libc::S_IFREG | mode & !umask & 0o7777;
        let maker = Maker { mode, uid: request.uid(), gid: request.gid() };
        match self.tree.make(parent.0, name.as_bytes(), maker) {
            Ok(attr) => {
                let (handle, flags) = (FileHandle(attr.ino), FopenFlags::FOPEN_KEEP_CACHE);
                reply.created(&VALID, &attr_of(&attr), Generation(0), handle, flags);
            }
            Err(errno) => reply.error(error(errno)),
        }
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        empty(self.tree.unlink(parent.0, name.as_bytes()), reply);
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        empty(self.tree.rmdir(parent.0, name.as_bytes()), reply);
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        if !flags.is_empty() {
            return reply.error(Errno::EINVAL);
        }
        let (name, new_name) = (name.as_bytes(), new_name.as_bytes());
        empty(self.tree.rename(parent.0, name, new_parent.0, new_name), reply);
    }

    fn open(&self, _: &Request, ino: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        reply.opened(FileHandle(ino.0), FopenFlags::FOPEN_KEEP_CACHE);
    }

    fn read(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let mut reply = Some(reply);
        let result = self.tree.read(ino.0, offset, size, |pieces| {
            let Some(reply) = reply.take() else { return };
            match pieces {
                [piece] if !self.args.spoil => reply.data(piece),
                pieces => {
                    let mut bytes = pieces.concat();
                    if self.args.spoil
                        && let Some(last) = bytes.last_mut()
                    {
                        *last ^= 1;
                    }
                    reply.data(&bytes);
                }
            }
        });
        if let (Err(errno), Some(reply)) = (result, reply) {
            reply.error(error(errno));
        }
    }

    fn write(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        match self.tree.write(ino.0, offset, data) {
            Ok(written) => reply.written(written),
            Err(errno) => reply.error(error(errno)),
        }
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.error(Errno::ENOSYS);
    }

    fn fsync(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        reply.error(Errno::ENOSYS);
    }

    fn readdir(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let result = self.tree.list(ino.0, offset, false, |entry| {
            let kind =
                if entry.attr.is_dir() { FileType::Directory } else { FileType::RegularFile };
            !reply.add(INodeNo(entry.ino), entry.next, kind, OsStr::from_bytes(entry.name))
        });
        match result {
            Ok(()) => reply.ok(),
            Err(errno) => reply.error(error(errno)),
        }
    }

    fn readdirplus(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        let result = self.tree.list(ino.0, offset, true, |entry| {
            let (name, attr) = (OsStr::from_bytes(entry.name), attr_of(&entry.attr));
            !reply.add(INodeNo(entry.ino), entry.next, name, &VALID, &attr, Generation(0))
        });
        match result {
            Ok(()) => reply.ok(),
            Err(errno) => reply.error(error(errno)),
        }
    }
}

fn main() -> io::Result<()> {
    let args = Args::parse();
    let mut config = Config::default();
    config.mount_options =
        vec![MountOption::FSName("peer-fuser".to_owned()), MountOption::DefaultPermissions];
    if args.best {
        config.n_threads = Some(available_parallelism()?.get());
        config.clone_fd = true;
    }
    let mountpoint = args.mountpoint.clone();
    let session = fuser::spawn_mount(Peer { tree: Tree::new(), args }, mountpoint, &config)?;
    session.join()
}
