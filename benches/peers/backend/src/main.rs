//! The filesystem of all peers on fuse-backend-rs. Default: one thread. Best: a thread per CPU,
//! each with a channel of its own.

use std::ffi::CStr;
use std::io;
use std::sync::Arc;
use std::thread::{self, available_parallelism};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Parser;
use fuse_backend_rs::abi::fuse_abi::{CreateIn, FsOptions, OpenOptions, SetattrValid, stat64};
use fuse_backend_rs::api::filesystem::{
    Context, DirEntry, Entry, FileSystem, ZeroCopyReader, ZeroCopyWriter,
};
use fuse_backend_rs::api::server::Server;
use fuse_backend_rs::transport::{FuseChannel, FuseSession};
use peer_tree::{Args, Attr, Change, Maker, Tree, VALID};

struct Peer {
    tree: Tree,
    writeback: bool,
}

fn error(errno: i32) -> io::Error {
    io::Error::from_raw_os_error(errno)
}

fn unsupported<T>() -> io::Result<T> {
    Err(error(libc::ENOSYS))
}

fn seconds(time: SystemTime) -> (i64, i64) {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    (since.as_secs() as i64, i64::from(since.subsec_nanos()))
}

fn stat_of(attr: &Attr) -> stat64 {
    // SAFETY: a struct of integers, for which zeros are a value.
    let mut stat: stat64 = unsafe { std::mem::zeroed() };
    stat.st_ino = attr.ino;
    stat.st_size = attr.size as i64;
    stat.st_blocks = attr.blocks() as i64;
    stat.st_blksize = 4096;
    stat.st_mode = attr.mode;
    stat.st_nlink = u64::from(attr.nlink);
    stat.st_uid = attr.uid;
    stat.st_gid = attr.gid;
    (stat.st_atime, stat.st_atime_nsec) = seconds(attr.atime);
    (stat.st_mtime, stat.st_mtime_nsec) = seconds(attr.mtime);
    (stat.st_ctime, stat.st_ctime_nsec) = seconds(attr.ctime);
    stat
}

fn entry_of(attr: &Attr) -> Entry {
    Entry {
        inode: attr.ino,
        generation: 0,
        attr: stat_of(attr),
        attr_flags: 0,
        attr_timeout: VALID,
        entry_timeout: VALID,
    }
}

fn kind_of(attr: &Attr) -> u32 {
    u32::from(if attr.is_dir() { libc::DT_DIR } else { libc::DT_REG })
}

impl FileSystem for Peer {
    type Inode = u64;
    type Handle = u64;

    fn init(&self, _: FsOptions) -> io::Result<FsOptions> {
        let mut wanted = FsOptions::ASYNC_READ
            | FsOptions::ASYNC_DIO
            | FsOptions::PARALLEL_DIROPS
            | FsOptions::BIG_WRITES
            | FsOptions::MAX_PAGES
            | FsOptions::DO_READDIRPLUS
            | FsOptions::READDIRPLUS_AUTO;
        if self.writeback {
            wanted |= FsOptions::WRITEBACK_CACHE;
        }
        Ok(wanted)
    }

    fn lookup(&self, _: &Context, parent: u64, name: &CStr) -> io::Result<Entry> {
        self.tree.lookup(parent, name.to_bytes()).map(|attr| entry_of(&attr)).map_err(error)
    }

    fn forget(&self, _: &Context, inode: u64, count: u64) {
        self.tree.forget(inode, count);
    }

    fn getattr(&self, _: &Context, inode: u64, _: Option<u64>) -> io::Result<(stat64, Duration)> {
        self.tree.getattr(inode).map(|attr| (stat_of(&attr), VALID)).map_err(error)
    }

    fn setattr(
        &self,
        _: &Context,
        inode: u64,
        attr: stat64,
        _: Option<u64>,
        valid: SetattrValid,
    ) -> io::Result<(stat64, Duration)> {
        let time = |is_set, is_now, seconds: i64, nanoseconds: i64| {
            let given = UNIX_EPOCH + Duration::new(seconds as u64, nanoseconds as u32);
            let now = valid.contains(is_now).then(SystemTime::now);
            now.or(valid.contains(is_set).then_some(given))
        };
        let (at, mt, ct) = (attr.st_atime, attr.st_mtime, attr.st_ctime);
        let change = Change {
            mode: valid.contains(SetattrValid::MODE).then_some(attr.st_mode),
            uid: valid.contains(SetattrValid::UID).then_some(attr.st_uid),
            gid: valid.contains(SetattrValid::GID).then_some(attr.st_gid),
            size: valid.contains(SetattrValid::SIZE).then_some(attr.st_size as u64),
            atime: time(SetattrValid::ATIME, SetattrValid::ATIME_NOW, at, attr.st_atime_nsec),
            mtime: time(SetattrValid::MTIME, SetattrValid::MTIME_NOW, mt, attr.st_mtime_nsec),
            ctime: time(SetattrValid::CTIME, SetattrValid::empty(), ct, attr.st_ctime_nsec)
                .filter(|_| valid.contains(SetattrValid::CTIME)),
        };
        self.tree.setattr(inode, change).map(|attr| (stat_of(&attr), VALID)).map_err(error)
    }

    fn mkdir(
        &self,
        cx: &Context,
        parent: u64,
        name: &CStr,
        mode: u32,
        umask: u32,
    ) -> io::Result<Entry> {
        let mode = libc::S_IFDIR | mode & !umask & 0o7777;
        let maker = Maker { mode, uid: cx.uid, gid: cx.gid };
        self.tree.make(parent, name.to_bytes(), maker).map(|attr| entry_of(&attr)).map_err(error)
    }

    fn create(
        &self,
        cx: &Context,
        parent: u64,
        name: &CStr,
        args: CreateIn,
    ) -> io::Result<(Entry, Option<u64>, OpenOptions, Option<u32>)> {
        let mode = libc::S_IFREG | args.mode & !args.umask & 0o7777;
        let maker = Maker { mode, uid: cx.uid, gid: cx.gid };
        let attr = self.tree.make(parent, name.to_bytes(), maker).map_err(error)?;
        Ok((entry_of(&attr), Some(attr.ino), OpenOptions::KEEP_CACHE, None))
    }

    fn unlink(&self, _: &Context, parent: u64, name: &CStr) -> io::Result<()> {
        self.tree.unlink(parent, name.to_bytes()).map_err(error)
    }

    fn rmdir(&self, _: &Context, parent: u64, name: &CStr) -> io::Result<()> {
        self.tree.rmdir(parent, name.to_bytes()).map_err(error)
    }

    fn rename(
        &self,
        _: &Context,
        from: u64,
        name: &CStr,
        to: u64,
        new: &CStr,
        flags: u32,
    ) -> io::Result<()> {
        if flags != 0 {
            return Err(error(libc::EINVAL));
        }
        self.tree.rename(from, name.to_bytes(), to, new.to_bytes()).map_err(error)
    }

    fn open(
        &self,
        _: &Context,
        inode: u64,
        _: u32,
        _: u32,
    ) -> io::Result<(Option<u64>, OpenOptions, Option<u32>)> {
        Ok((Some(inode), OpenOptions::KEEP_CACHE, None))
    }

    fn read(
        &self,
        _: &Context,
        inode: u64,
        _: u64,
        w: &mut dyn ZeroCopyWriter,
        size: u32,
        offset: u64,
        _: Option<u64>,
        _: u32,
    ) -> io::Result<usize> {
        let send = |pieces: &[&[u8]]| -> io::Result<usize> {
            for piece in pieces {
                w.write_all(piece)?;
            }
            Ok(pieces.iter().map(|piece| piece.len()).sum())
        };
        self.tree.read(inode, offset, size, send).map_err(error)?
    }

    fn write(
        &self,
        _: &Context,
        inode: u64,
        _: u64,
        r: &mut dyn ZeroCopyReader,
        size: u32,
        offset: u64,
        _: Option<u64>,
        _: bool,
        _: u32,
        _: u32,
    ) -> io::Result<usize> {
        let take = |_, into: &mut [u8]| r.read_exact(into).map_err(|_| libc::EIO);
        let written = self.tree.write_with(inode, offset, size as usize, take);
        written.map(|written| written as usize).map_err(error)
    }

    fn flush(&self, _: &Context, _: u64, _: u64, _: u64) -> io::Result<()> {
        unsupported()
    }

    fn fsync(&self, _: &Context, _: u64, _: bool, _: u64) -> io::Result<()> {
        unsupported()
    }

    fn release(
        &self,
        _: &Context,
        _: u64,
        _: u32,
        _: u64,
        _: bool,
        _: bool,
        _: Option<u64>,
    ) -> io::Result<()> {
        Ok(())
    }

    fn opendir(&self, _: &Context, inode: u64, _: u32) -> io::Result<(Option<u64>, OpenOptions)> {
        Ok((Some(inode), OpenOptions::empty()))
    }

    fn releasedir(&self, _: &Context, _: u64, _: u32, _: u64) -> io::Result<()> {
        Ok(())
    }

    fn readdir(
        &self,
        _: &Context,
        inode: u64,
        _: u64,
        _: u32,
        offset: u64,
        add: &mut dyn FnMut(DirEntry) -> io::Result<usize>,
    ) -> io::Result<()> {
        let listed = self.tree.list(inode, offset, false, |entry| {
            let type_ = kind_of(&entry.attr);
            let dirent = DirEntry { ino: entry.ino, offset: entry.next, type_, name: entry.name };
            matches!(add(dirent), Ok(1..))
        });
        listed.map_err(error)
    }

    fn readdirplus(
        &self,
        _: &Context,
        inode: u64,
        _: u64,
        _: u32,
        offset: u64,
        add: &mut dyn FnMut(DirEntry, Entry) -> io::Result<usize>,
    ) -> io::Result<()> {
        let listed = self.tree.list(inode, offset, true, |entry| {
            let type_ = kind_of(&entry.attr);
            let dirent = DirEntry { ino: entry.ino, offset: entry.next, type_, name: entry.name };
            matches!(add(dirent, entry_of(&entry.attr)), Ok(1..))
        });
        listed.map_err(error)
    }
}

/// As the library's README has it: until the kernel has ended the session.
fn serve(server: &Server<Arc<Peer>>, mut channel: FuseChannel) {
    while let Ok(Some((reader, writer))) = channel.get_request() {
        if let Err(error) = server.handle_message(reader, writer.into(), None, None) {
            if let fuse_backend_rs::Error::EncodeMessage(error) = &error
                && error.raw_os_error() == Some(libc::EBADF)
            {
                break;
            }
            eprintln!("handle_message: {error}");
        }
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args = Args::parse();
    let mut session = FuseSession::new(&args.mountpoint, "peer-backend", "", false)?;
    session.mount()?;
    let peer = Arc::new(Peer { tree: Tree::new(), writeback: args.writeback() });
    let server = Arc::new(Server::new(peer));
    let threads = if args.best { available_parallelism()?.get() } else { 1 };
    let mut serving = Vec::new();
    for _ in 0..threads {
        let (server, channel) = (Arc::clone(&server), session.new_channel()?);
        serving.push(thread::spawn(move || serve(&server, channel)));
    }
    for thread in serving {
        let _ = thread.join();
    }
    Ok(())
}
