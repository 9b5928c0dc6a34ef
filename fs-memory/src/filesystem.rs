//! The filesystem as the engine serves it: operations to the tree, and back to answers.
//!
//! Everything that happens to the files goes through this kernel, so entries and attributes may be
//! cached for ever: the kernel itself drops those that an operation changes.
//!
//! FLUSH, FSYNC, FSYNCDIR and ACCESS keep their defaults: memory has nothing to make last, and
//! with ENOSYS the kernel stops asking (after writing its dirty pages, which is what counts).

use std::sync::Arc;
use std::time::Duration;

use fusewire::proto::flags::{FOpenFlags, InitFlags, OpenFlags, StatxMask};
use fusewire::proto::op::{
    CopyFileRange, Create, FAllocate, GetAttr, GetXattr, LSeek, Link, ListXattr, Lookup, MkDir,
    MkNod, Open, OpenDir, Read, ReadDir, ReadDirPlus, ReadLink, Release, ReleaseDir, RemoveXattr,
    Rename, RmDir, SetAttr, SetXattr, StatFs, Statx, Symlink, TmpFile, Unlink, Write,
};
use fusewire::proto::reply::Statx as StatxValues;
use fusewire::proto::{
    Attributes, Entry, Errno, Fh, FileType, FsStats, Generation, LookupCount, NodeId, Opened,
    Result, StatxAttributes,
};
use fusewire::{Context, DirBuf, DirPlusBuf, Filesystem, ReadBuf, XattrBuf};

use crate::attributes::set_attributes;
use crate::caller::{self, Capability};
use crate::clock::now;
use crate::data::Data;
use crate::directory::Directory;
use crate::limits::Limits;
use crate::node::{Body, Node, S_IFDIR, S_IFLNK, S_IFMT, S_IFREG, State};
use crate::rename::Place;
use crate::tree::{Maker, Memory, NAME_MAX, symlink_body};

/// How long the kernel may keep what it is told of names, and of all but files: for ever.
const VALID: Duration = Duration::from_secs(u32::MAX as u64);
/// The same for the attributes of files that only requests change. Not for ever: an answer may
/// reach the kernel's cache after a change that it does not know of yet.
const SETTLED_VALID: Duration = Duration::from_secs(60);
/// The same for those that change here without the kernel's knowledge.
const UNKNOWN_VALID: Duration = Duration::from_secs(1);
/// Since 5.14, at least, the kernel asks again after pages of a mapping were written
/// (`fs/fuse/file.c, fuse_writepage_end`).
const ASKS_AFTER_WRITES: u32 = 34;
const BLOCK: u32 = 4096;

/// One shard's hold of a [`Memory`].
#[derive(Clone, Debug)]
pub struct MemoryFs {
    memory: Arc<Memory>,
}

impl MemoryFs {
    /// Serves `memory`, which other shards may serve too.
    #[must_use]
    pub fn new(memory: Arc<Memory>) -> Self {
        Self { memory }
    }

    fn maker(cx: &Context<'_>, mode: u32, umask: u32) -> Maker {
        Maker { mode, umask: umask & 0o777, uid: cx.uid(), gid: cx.gid(), rdev: 0 }
    }

    /// Takes set-id bits away after a change that says nothing of them. FALLOCATE and
    /// COPY_FILE_RANGE have no flag like `FUSE_WRITE_KILL_SUIDGID`, so who asks is looked at.
    fn changed_by(&self, cx: &Context<'_>, id: NodeId) -> Result<()> {
        let node = self.memory.table.get(id)?;
        let has = node.state.read().has_privileges();
        if has && !caller::has(cx, Capability::SetId) {
            node.state.write().kill_privileges();
        }
        Ok(())
    }

    /// Whether the kernel knows what becomes of the attributes. It does not know that an open moves
    /// the access time, that a change of the data takes set-id bits away, when asynchronous writes
    /// end and, with write-back, how many blocks pages have taken.
    fn is_settled(&self, cx: &Context<'_>, node: &Node, state: &State) -> bool {
        !has_writeback(cx)
            && cx.agreement().minor >= ASKS_AFTER_WRITES
            && !node.may_be_dirty()
            && !state.has_privileges()
            && !self.memory.access_is_due(state, now())
    }

    fn attr_valid(&self, cx: &Context<'_>, node: &Node, state: &State) -> Duration {
        if node.kind != S_IFREG {
            VALID
        } else if self.is_settled(cx, node, state) {
            SETTLED_VALID
        } else {
            UNKNOWN_VALID
        }
    }

    fn attributes(&self, cx: &Context<'_>, node: &Node) -> Attributes {
        let state = node.state.read();
        Attributes { valid: self.attr_valid(cx, node, &state), attr: node.attr(&state) }
    }

    fn entry(&self, cx: &Context<'_>, node: &Node) -> Entry {
        let Attributes { valid, attr } = self.attributes(cx, node);
        Entry {
            nodeid: node.id,
            generation: Generation(0),
            entry_valid: VALID,
            attr_valid: valid,
            attr,
        }
    }

    fn create(&self, cx: &Context<'_>, op: &Create<'_>) -> Result<Arc<Node>> {
        let maker = Self::maker(cx, S_IFREG | op.mode.permissions(), op.umask);
        match self.memory.make(cx.node(), op.name.as_bytes(), maker, &file_body) {
            // Another was first: an open, unless the caller insists on making it.
            Err(Errno::EEXIST) if !op.flags.contains(OpenFlags::EXCL) => {
                let node = self.memory.lookup(cx.node(), op.name.as_bytes())?;
                if node.kind != S_IFREG {
                    self.memory.forget(node.id, LookupCount(1));
                    return Err(Errno::EEXIST);
                }
                if op.flags.contains(OpenFlags::TRUNC) {
                    let mut state = node.state.write();
                    state.file_mut()?.truncate(0)?;
                    state.modified(now());
                }
                Ok(node)
            }
            other => other,
        }
    }
}

/// Whether the kernel gathers dirty pages, and owns sizes and times.
fn has_writeback(cx: &Context<'_>) -> bool {
    cx.agreement().flags.contains(InitFlags::WRITEBACK_CACHE)
}

fn file_body(limits: &Arc<Limits>, _: NodeId) -> Result<Body> {
    Ok(Body::File(Data::new(limits)))
}

fn opened(node: NodeId) -> Opened {
    Opened { fh: Fh(node.0), flags: FOpenFlags::KEEP_CACHE, ..Opened::default() }
}

impl Filesystem for MemoryFs {
    const WISHES: InitFlags = InitFlags::WRITEBACK_CACHE
        .union(InitFlags::DO_READDIRPLUS)
        .union(InitFlags::READDIRPLUS_AUTO)
        .union(InitFlags::POSIX_ACL)
        .union(InitFlags::DONT_MASK)
        .union(InitFlags::HANDLE_KILLPRIV_V2)
        .union(InitFlags::CACHE_SYMLINKS)
        .union(InitFlags::EXPORT_SUPPORT)
        .union(InitFlags::ALLOW_IDMAP);

    async fn lookup(&self, cx: &Context<'_>, op: Lookup<'_>) -> Result<Entry> {
        self.memory.lookup(cx.node(), op.name.as_bytes()).map(|node| self.entry(cx, &node))
    }

    fn forget(&self, node: NodeId, lookups: LookupCount) {
        self.memory.forget(node, lookups);
    }

    fn needs_forgets(&self) -> bool {
        self.memory.limits.are_near()
    }

    async fn getattr(&self, cx: &Context<'_>, _: GetAttr) -> Result<Attributes> {
        Ok(self.attributes(cx, &*self.memory.table.get(cx.node())?))
    }

    async fn setattr(&self, cx: &Context<'_>, op: SetAttr) -> Result<Attributes> {
        let node = self.memory.table.get(cx.node())?;
        set_attributes(&node, &op)?;
        Ok(self.attributes(cx, &node))
    }

    async fn readlink(&self, cx: &Context<'_>, _: ReadLink, out: &mut ReadBuf<'_>) -> Result<()> {
        let node = self.memory.table.get(cx.node())?;
        match &node.state.read().body {
            Body::Symlink(target, _) => out.append(target),
            _ => return Err(Errno::EINVAL),
        };
        self.memory.accessed(&node);
        Ok(())
    }

    async fn symlink(&self, cx: &Context<'_>, op: Symlink<'_>) -> Result<Entry> {
        let maker = Self::maker(cx, S_IFLNK | 0o777, 0);
        let body = |limits: &Arc<Limits>, _| symlink_body(op.target, limits);
        self.memory
            .make(cx.node(), op.name.as_bytes(), maker, &body)
            .map(|node| self.entry(cx, &node))
    }

    async fn mknod(&self, cx: &Context<'_>, op: MkNod<'_>) -> Result<Entry> {
        let kind = op.mode.bits() & S_IFMT;
        let mode = kind | op.mode.permissions();
        let maker = Maker { rdev: op.rdev, ..Self::maker(cx, mode, op.umask) };
        let body = |limits: &Arc<Limits>, id| match op.mode.file_type() {
            FileType::REGULAR => file_body(limits, id),
            FileType::FIFO | FileType::SOCKET => Ok(Body::Special),
            FileType::CHARACTER_DEVICE | FileType::BLOCK_DEVICE => Ok(Body::Special),
            _ => Err(Errno::EINVAL),
        };
        self.memory
            .make(cx.node(), op.name.as_bytes(), maker, &body)
            .map(|node| self.entry(cx, &node))
    }

    async fn mkdir(&self, cx: &Context<'_>, op: MkDir<'_>) -> Result<Entry> {
        let maker = Self::maker(cx, S_IFDIR | op.mode.permissions(), op.umask);
        let body = |_: &Arc<Limits>, _| Ok(Body::Directory(Directory::new(cx.node())));
        self.memory
            .make(cx.node(), op.name.as_bytes(), maker, &body)
            .map(|node| self.entry(cx, &node))
    }

    async fn unlink(&self, cx: &Context<'_>, op: Unlink<'_>) -> Result<()> {
        self.memory.remove(cx.node(), op.name.as_bytes(), false)
    }

    async fn rmdir(&self, cx: &Context<'_>, op: RmDir<'_>) -> Result<()> {
        self.memory.remove(cx.node(), op.name.as_bytes(), true)
    }

    async fn rename(&self, cx: &Context<'_>, op: Rename<'_>) -> Result<()> {
        let from = Place { parent: cx.node(), name: op.old_name.as_bytes() };
        let to = Place { parent: op.new_parent, name: op.new_name.as_bytes() };
        self.memory.rename(from, to, op.flags)
    }

    async fn link(&self, cx: &Context<'_>, op: Link<'_>) -> Result<Entry> {
        self.memory.link(op.source, cx.node(), op.name.as_bytes()).map(|node| self.entry(cx, &node))
    }

    /// Reads out of the page cache never come here, so opening for reading counts as access.
    async fn open(&self, cx: &Context<'_>, op: Open) -> Result<Opened> {
        let node = self.memory.table.get(cx.node())?;
        node.state.read().file()?;
        if op.flags.reads() && !op.flags.contains(OpenFlags::NOATIME) {
            self.memory.accessed(&node);
        }
        node.opened(op.flags);
        Ok(opened(cx.node()))
    }

    async fn read(&self, cx: &Context<'_>, op: Read, out: &mut ReadBuf<'_>) -> Result<()> {
        self.memory.read(cx.node(), &op, out)
    }

    async fn write(&self, cx: &Context<'_>, op: Write<'_>) -> Result<u32> {
        self.memory.write(cx.node(), &op, has_writeback(cx))
    }

    async fn statfs(&self, _: &Context<'_>, _: StatFs) -> Result<FsStats> {
        let (bytes, bytes_used) = self.memory.limits.bytes();
        let (inodes, inodes_used) = self.memory.limits.inodes();
        let free = (bytes - bytes_used.min(bytes)) / u64::from(BLOCK);
        Ok(FsStats {
            blocks: bytes / u64::from(BLOCK),
            bfree: free,
            bavail: free,
            files: inodes,
            ffree: inodes - inodes_used.min(inodes),
            bsize: BLOCK,
            namelen: NAME_MAX,
            frsize: BLOCK,
        })
    }

    async fn release(&self, cx: &Context<'_>, op: Release) -> Result<()> {
        // A FORGET of a file without a name may have overtaken it.
        if let Ok(node) = self.memory.table.get(cx.node()) {
            node.closed(op.flags);
        }
        Ok(())
    }

    async fn setxattr(&self, cx: &Context<'_>, op: SetXattr<'_>) -> Result<()> {
        self.memory.set_xattr(cx.node(), &op)
    }

    async fn getxattr(
        &self,
        cx: &Context<'_>,
        op: GetXattr<'_>,
        out: &mut XattrBuf<'_>,
    ) -> Result<()> {
        let node = self.memory.table.get(cx.node())?;
        out.append(node.state.read().xattrs.get(op.name)?);
        Ok(())
    }

    async fn listxattr(
        &self,
        cx: &Context<'_>,
        _: ListXattr,
        out: &mut XattrBuf<'_>,
    ) -> Result<()> {
        let node = self.memory.table.get(cx.node())?;
        // As for other filesystems, names in `trusted.` show to the privileged only; the kernel
        // does not leave them out by itself (fs/xattr.c, vfs_listxattr).
        let state = node.state.read();
        let is_trusted = |name: &&[u8]| name.starts_with(b"trusted.");
        let hides = state.xattrs.names().any(|name| is_trusted(&name))
            && !caller::has(cx, Capability::SysAdmin);
        for name in state.xattrs.names().filter(|name| !(hides && is_trusted(name))) {
            out.append(name);
            out.append(&[0]);
        }
        Ok(())
    }

    async fn removexattr(&self, cx: &Context<'_>, op: RemoveXattr<'_>) -> Result<()> {
        self.memory.remove_xattr(cx.node(), op.name)
    }

    async fn opendir(&self, cx: &Context<'_>, _: OpenDir) -> Result<Opened> {
        self.memory.table.get(cx.node())?.state.read().directory()?;
        Ok(opened(cx.node()))
    }

    async fn readdir(&self, cx: &Context<'_>, op: ReadDir, out: &mut DirBuf<'_>) -> Result<()> {
        let node = self.memory.table.get(cx.node())?;
        let state = node.state.read();
        let directory = state.directory()?;
        let dots = [(1, node.id, b".".as_slice()), (2, directory.parent, b"..")];
        for (cookie, id, name) in dots.into_iter().skip_while(|(cookie, ..)| *cookie <= op.offset) {
            if !out.add(id.0, cookie, FileType::DIRECTORY, name) {
                return Ok(());
            }
        }
        for (cookie, name, target) in directory.after(op.offset) {
            if !out.add(target.node.0, cookie, target.kind, name) {
                break;
            }
        }
        drop(state);
        self.memory.accessed(&node);
        Ok(())
    }

    async fn readdirplus(
        &self,
        cx: &Context<'_>,
        op: ReadDirPlus,
        out: &mut DirPlusBuf<'_>,
    ) -> Result<()> {
        let node = self.memory.table.get(cx.node())?;
        let state = node.state.read();
        let directory = state.directory()?;
        let dots = [(1, node.id, b".".as_slice()), (2, directory.parent, b"..")];
        for (cookie, id, name) in dots.into_iter().skip_while(|(cookie, ..)| *cookie <= op.offset) {
            if !out.add(None, id.0, cookie, FileType::DIRECTORY, name) {
                return Ok(());
            }
        }
        for (cookie, name, target) in directory.after(op.offset) {
            // A name keeps its node; an error here would take lookups along that were counted.
            let Ok(child) = self.memory.table.get(target.node) else { continue };
            if !out.add(Some(&self.entry(cx, &child)), child.id.0, cookie, target.kind, name) {
                break;
            }
            // Under the directory's lock, as in a lookup.
            child.give_lookup();
        }
        drop(state);
        self.memory.accessed(&node);
        Ok(())
    }

    async fn releasedir(&self, _: &Context<'_>, _: ReleaseDir) -> Result<()> {
        Ok(())
    }

    async fn create(&self, cx: &Context<'_>, op: Create<'_>) -> Result<(Entry, Opened)> {
        let node = Self::create(self, cx, &op)?;
        node.opened(op.flags);
        Ok((self.entry(cx, &node), opened(node.id)))
    }

    async fn tmpfile(&self, cx: &Context<'_>, op: TmpFile<'_>) -> Result<(Entry, Opened)> {
        let maker = Self::maker(cx, S_IFREG | op.mode.permissions(), op.umask);
        let node = self.memory.make_nameless(cx.node(), maker, &file_body)?;
        node.opened(op.flags);
        Ok((self.entry(cx, &node), opened(node.id)))
    }

    async fn fallocate(&self, cx: &Context<'_>, op: FAllocate) -> Result<()> {
        self.memory.allocate(cx.node(), &op)?;
        self.changed_by(cx, cx.node())
    }

    /// The kernel asks before it has written its dirty pages. With write-back its size is the true
    /// one, too: only its own answer (everything is data) hides nothing. ENOSYS makes it give that
    /// one, for good; what it costs is that sparse files are copied whole.
    async fn lseek(&self, cx: &Context<'_>, op: LSeek) -> Result<u64> {
        if has_writeback(cx) {
            return Err(Errno::ENOSYS);
        }
        self.memory.seek(cx.node(), &op)
    }

    async fn copy_file_range(&self, cx: &Context<'_>, op: CopyFileRange) -> Result<u64> {
        let copied = self.memory.copy(cx.node(), &op)?;
        self.changed_by(cx, op.node_out)?;
        Ok(copied)
    }

    async fn statx(&self, cx: &Context<'_>, _: Statx) -> Result<StatxAttributes> {
        let node = self.memory.table.get(cx.node())?;
        let Attributes { valid, attr } = self.attributes(cx, &node);
        let statx = StatxValues {
            mask: StatxMask::BASIC_STATS | StatxMask::BTIME,
            blksize: attr.blksize,
            nlink: attr.nlink,
            uid: attr.uid,
            gid: attr.gid,
            mode: attr.mode,
            ino: attr.ino,
            size: attr.size,
            blocks: attr.blocks,
            atime: attr.atime,
            btime: node.btime,
            ctime: attr.ctime,
            mtime: attr.mtime,
            // The kernel's form of attr.rdev: include/linux/kdev_t.h, new_decode_dev.
            rdev_major: attr.rdev >> 8 & 0xfff,
            rdev_minor: attr.rdev & 0xff | attr.rdev >> 12 & 0xfff00,
            ..StatxValues::default()
        };
        Ok(StatxAttributes { valid, statx, ..StatxAttributes::default() })
    }
}
