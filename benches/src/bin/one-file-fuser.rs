//! The one-file daemon on fuser 0.18, with one thread per CPU, each on its own clone.

use std::ffi::OsStr;
use std::io::{self, Write};
use std::thread::available_parallelism;
use std::time::UNIX_EPOCH;

use fuser::{
    Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo,
    InitFlags, KernelConfig, LockOwner, MountOption, OpenFlags, ReplyAttr, ReplyData,
    ReplyDirectory, ReplyEntry, ReplyOpen, Request,
};
use fusewire_benches::{SIZE, VALID, content, range};

const FILE: INodeNo = INodeNo(2);

struct OneFile(Vec<u8>);

fn attr(ino: INodeNo) -> FileAttr {
    let file = ino == FILE;
    FileAttr {
        ino,
        size: if file { SIZE as u64 } else { 0 },
        blocks: 0,
        atime: UNIX_EPOCH,
        mtime: UNIX_EPOCH,
        ctime: UNIX_EPOCH,
        crtime: UNIX_EPOCH,
        kind: if file { FileType::RegularFile } else { FileType::Directory },
        perm: if file { 0o444 } else { 0o555 },
        nlink: 1,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: 4096,
        flags: 0,
    }
}

impl Filesystem for OneFile {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        let _ = config.set_max_write(1 << 20);
        let _ = config.add_capabilities(
            InitFlags::FUSE_ASYNC_READ
                | InitFlags::FUSE_ASYNC_DIO
                | InitFlags::FUSE_PARALLEL_DIROPS,
        );
        let _ = config.set_max_background(64);
        Ok(())
    }

    fn lookup(&self, _: &Request, _: INodeNo, name: &OsStr, reply: ReplyEntry) {
        if name == "data" {
            reply.entry(&VALID, &attr(FILE), Generation(0));
        } else {
            reply.error(Errno::ENOENT);
        }
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        reply.attr(&VALID, &attr(ino));
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        reply.opened(FileHandle(0), FopenFlags::FOPEN_KEEP_CACHE);
    }

    fn read(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        reply.data(&self.0[range(offset, size)]);
    }

    fn readdir(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        if offset == 0 {
            let _ = reply.add(FILE, 1, FileType::RegularFile, "data");
        }
        reply.ok();
    }
}

fn main() -> io::Result<()> {
    let mountpoint = std::env::args_os().nth(1).ok_or(io::ErrorKind::InvalidInput)?;
    let mut config = Config::default();
    config.mount_options = vec![MountOption::FSName("one-file-fuser".to_owned())];
    config.n_threads = Some(available_parallelism()?.get());
    config.clone_fd = true;
    let session = fuser::spawn_mount(OneFile(content()), mountpoint, &config)?;
    writeln!(io::stdout(), "mounted")?;
    session.join()
}
