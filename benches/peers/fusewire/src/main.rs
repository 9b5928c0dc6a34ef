//! The filesystem of all peers on fusewire, so that the libraries can be compared and not the
//! filesystems: fusewire-memory does more than this tree (attributes, ACLs, links, limits).
//!
//! The tree's chunks have one owner, so READs are copied into the answer over `/dev/fuse`, too,
//! where fusewire-memory shares them.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Parser;
use fusewire::cli::{self, CommonArgs};
use fusewire::proto::flags::{FOpenFlags, InitFlags, RenameFlags};
use fusewire::proto::{
    Attributes, Entry, Errno, Fh, FileType, LookupCount, Mode, NodeId, Opened, Result, Timestamp,
    op,
};
use fusewire::{Context, DirBuf, DirPlusBuf, Filesystem, ReadBuf};
use peer_tree::{Attr, Change, Maker, Tree, VALID};

#[derive(Parser)]
struct Args {
    #[command(flatten)]
    common: CommonArgs,
}

struct Peer(Arc<Tree>);

fn error(errno: i32) -> Errno {
    Errno::new(errno).unwrap_or(Errno::EIO)
}

fn stamp(time: SystemTime) -> Timestamp {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp { seconds: since.as_secs() as i64, nanoseconds: since.subsec_nanos() }
}

fn time(stamp: Timestamp) -> SystemTime {
    UNIX_EPOCH + Duration::new(u64::try_from(stamp.seconds).unwrap_or(0), stamp.nanoseconds)
}

fn set_time(set: op::SetTime) -> SystemTime {
    match set {
        op::SetTime::Now(_) => SystemTime::now(),
        op::SetTime::At(stamp) => time(stamp),
    }
}

fn attr_of(attr: &Attr) -> fusewire::proto::Attr {
    fusewire::proto::Attr {
        ino: attr.ino,
        size: attr.size,
        blocks: attr.blocks(),
        atime: stamp(attr.atime),
        mtime: stamp(attr.mtime),
        ctime: stamp(attr.ctime),
        mode: Mode(attr.mode),
        nlink: attr.nlink,
        uid: attr.uid,
        gid: attr.gid,
        blksize: 4096,
        ..fusewire::proto::Attr::default()
    }
}

fn entry_of(attr: &Attr) -> Entry {
    Entry {
        nodeid: NodeId(attr.ino),
        attr: attr_of(attr),
        entry_valid: VALID,
        attr_valid: VALID,
        ..Entry::default()
    }
}

fn kind_of(attr: &Attr) -> FileType {
    if attr.is_dir() { FileType::DIRECTORY } else { FileType::REGULAR }
}

fn maker(cx: &Context<'_>, kind: u32, mode: Mode) -> Maker {
    Maker { mode: kind | mode.permissions(), uid: cx.uid(), gid: cx.gid() }
}

fn opened(ino: u64, flags: FOpenFlags) -> Opened {
    Opened { fh: Fh(ino), flags, ..Opened::default() }
}

impl Filesystem for Peer {
    const WISHES: InitFlags = InitFlags::WRITEBACK_CACHE
        .union(InitFlags::DO_READDIRPLUS)
        .union(InitFlags::READDIRPLUS_AUTO);

    async fn lookup(&self, cx: &Context<'_>, op: op::Lookup<'_>) -> Result<Entry> {
        let attr = self.0.lookup(cx.node().0, op.name.as_bytes()).map_err(error)?;
        Ok(entry_of(&attr))
    }

    fn forget(&self, node: NodeId, lookups: LookupCount) {
        self.0.forget(node.0, lookups.0);
    }

    async fn getattr(&self, cx: &Context<'_>, _: op::GetAttr) -> Result<Attributes> {
        let attr = self.0.getattr(cx.node().0).map_err(error)?;
        Ok(Attributes { valid: VALID, attr: attr_of(&attr) })
    }

    async fn setattr(&self, cx: &Context<'_>, op: op::SetAttr) -> Result<Attributes> {
        let change = Change {
            mode: op.mode.map(|mode| mode.permissions()),
            uid: op.uid,
            gid: op.gid,
            size: op.size,
            atime: op.atime.map(set_time),
            mtime: op.mtime.map(set_time),
            ctime: op.ctime.map(time),
        };
        let attr = self.0.setattr(cx.node().0, change).map_err(error)?;
        Ok(Attributes { valid: VALID, attr: attr_of(&attr) })
    }

    async fn mkdir(&self, cx: &Context<'_>, op: op::MkDir<'_>) -> Result<Entry> {
        let maker = maker(cx, libc::S_IFDIR, op.mode);
        let attr = self.0.make(cx.node().0, op.name.as_bytes(), maker).map_err(error)?;
        Ok(entry_of(&attr))
    }

    async fn create(&self, cx: &Context<'_>, op: op::Create<'_>) -> Result<(Entry, Opened)> {
        let maker = maker(cx, libc::S_IFREG, op.mode);
        let attr = self.0.make(cx.node().0, op.name.as_bytes(), maker).map_err(error)?;
        Ok((entry_of(&attr), opened(attr.ino, FOpenFlags::KEEP_CACHE)))
    }

    async fn unlink(&self, cx: &Context<'_>, op: op::Unlink<'_>) -> Result<()> {
        self.0.unlink(cx.node().0, op.name.as_bytes()).map_err(error)
    }

    async fn rmdir(&self, cx: &Context<'_>, op: op::RmDir<'_>) -> Result<()> {
        self.0.rmdir(cx.node().0, op.name.as_bytes()).map_err(error)
    }

    async fn rename(&self, cx: &Context<'_>, op: op::Rename<'_>) -> Result<()> {
        if op.flags != RenameFlags::empty() {
            return Err(Errno::EINVAL);
        }
        let (old, new) = (op.old_name.as_bytes(), op.new_name.as_bytes());
        self.0.rename(cx.node().0, old, op.new_parent.0, new).map_err(error)
    }

    async fn open(&self, cx: &Context<'_>, _: op::Open) -> Result<Opened> {
        Ok(opened(cx.node().0, FOpenFlags::KEEP_CACHE))
    }

    async fn read(&self, cx: &Context<'_>, op: op::Read, out: &mut ReadBuf<'_>) -> Result<()> {
        let take = |pieces: &[&[u8]]| {
            for piece in pieces {
                out.append(piece);
            }
        };
        self.0.read(cx.node().0, op.offset, op.size, take).map_err(error)
    }

    async fn write(&self, cx: &Context<'_>, op: op::Write<'_>) -> Result<u32> {
        self.0.write(cx.node().0, op.offset, op.data).map_err(error)
    }

    async fn release(&self, _: &Context<'_>, _: op::Release) -> Result<()> {
        Ok(())
    }

    async fn opendir(&self, cx: &Context<'_>, _: op::OpenDir) -> Result<Opened> {
        Ok(opened(cx.node().0, FOpenFlags::empty()))
    }

    async fn releasedir(&self, _: &Context<'_>, _: op::ReleaseDir) -> Result<()> {
        Ok(())
    }

    async fn readdir(&self, cx: &Context<'_>, op: op::ReadDir, out: &mut DirBuf<'_>) -> Result<()> {
        let put = |entry: peer_tree::Entry<'_>| {
            out.add(entry.ino, entry.next, kind_of(&entry.attr), entry.name)
        };
        self.0.list(cx.node().0, op.offset, false, put).map_err(error)
    }

    async fn readdirplus(
        &self,
        cx: &Context<'_>,
        op: op::ReadDirPlus,
        out: &mut DirPlusBuf<'_>,
    ) -> Result<()> {
        let put = |entry: peer_tree::Entry<'_>| {
            let (attr, kind) = (entry_of(&entry.attr), kind_of(&entry.attr));
            out.add(Some(&attr), entry.ino, entry.next, kind, entry.name)
        };
        self.0.list(cx.node().0, op.offset, true, put).map_err(error)
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    let tree = Arc::new(Tree::new());
    let config = args.common.config("peer-fusewire").default_permissions(true);
    cli::run(&args.common, config, move |_shard| Peer(Arc::clone(&tree)))
}
