//! The filesystem as the engine serves it: operations to system calls, and back to answers.
//!
//! Permissions are the kernel's to check (default_permissions, and ACLs as it reads them), so what
//! changes or opens a file is done as ourselves; only what makes one is done as the caller.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use fusewire::proto::flags::{FOpenFlags, InitFlags, IoctlFlags, ReleaseFlags, RenameFlags};
use fusewire::proto::negotiate::Agreement;
use fusewire::proto::op::{
    CopyFileRange, Create, FAllocate, FSync, FSyncDir, Flush, GetAttr, GetLk, GetXattr, IoCtl,
    LSeek, Link, ListXattr, Lookup, MkDir, MkNod, Open, OpenDir, Read, ReadDir, ReadDirPlus,
    ReadLink, Release, ReleaseDir, RemoveXattr, Rename, RmDir, SetAttr, SetLk, SetLkW, SetXattr,
    StatFs, Statx, Symlink, TmpFile, Unlink, Write,
};
use fusewire::proto::{
    Attributes, Entry, Errno, FileLock, FsStats, LockKind, LookupCount, NodeId, Opened, Result,
    StatxAttributes,
};
use fusewire::{Context, DirBuf, DirPlusBuf, FileType, Filesystem, Notifier, ReadBuf, XattrBuf};
use rustix::fs::{
    AtFlags, FlockOperation, OFlags, fdatasync, flock, fstatvfs, fsync, linkat, readlinkat_raw,
    renameat_with,
};
use rustix::io::fcntl_dupfd_cloexec;
use rustix::path::DecInt;
use rustix::thread::CapabilitySet;

use crate::attributes::{KIND_REGULAR, asks_nothing, attr, set_attributes, statx_values};
use crate::backing::{attributes, found};
use crate::caller::{self, Caller};
use crate::error::Answer;
use crate::listing::{self, OpenDir as OpenDirectory};
use crate::make::{self, Opening, Place};
use crate::mirror::Mirror;
use crate::options::Cache;
use crate::owners::Wanted;
use crate::sys::{FLAGS_LEN, FlagsCommand};
use crate::watch::Watch;
use crate::{data, locks, xattr};

/// Whether the kernel gathers dirty pages, and owns sizes and times.
fn has_writeback(cx: &Context<'_>) -> bool {
    cx.agreement().flags.contains(InitFlags::WRITEBACK_CACHE)
}

/// One shard's hold of a [`Mirror`].
#[derive(Clone, Debug)]
pub struct PassthroughFs {
    mirror: Arc<Mirror>,
}

impl PassthroughFs {
    /// Serves `mirror`, which other shards may serve too.
    #[must_use]
    pub fn new(mirror: Arc<Mirror>) -> Self {
        Self { mirror }
    }

    fn has_xattr(&self) -> Result<()> {
        if self.mirror.options.xattr { Ok(()) } else { Err(Errno::ENOSYS) }
    }
}

impl Filesystem for PassthroughFs {
    const WISHES: InitFlags = InitFlags::WRITEBACK_CACHE
        .union(InitFlags::PASSTHROUGH)
        .union(InitFlags::DO_READDIRPLUS)
        .union(InitFlags::READDIRPLUS_AUTO)
        .union(InitFlags::AUTO_INVAL_DATA)
        .union(InitFlags::POSIX_ACL)
        .union(InitFlags::DONT_MASK)
        .union(InitFlags::CREATE_SUPP_GROUP)
        .union(InitFlags::HANDLE_KILLPRIV_V2)
        .union(InitFlags::CACHE_SYMLINKS)
        .union(InitFlags::DIRECT_IO_ALLOW_MMAP)
        .union(InitFlags::ALLOW_IDMAP)
        .union(InitFlags::POSIX_LOCKS)
        .union(InitFlags::FLOCK_LOCKS);

    fn start(&self, agreement: &Agreement, notifier: &Notifier) -> io::Result<()> {
        caller::own_thread(&self.mirror.backing, self.mirror.options.jail.as_deref())?;
        let writeback = agreement.flags.contains(InitFlags::WRITEBACK_CACHE);
        let start = |watch: &Watch| watch.start(&self.mirror, notifier, writeback);
        self.mirror.starts().map_or(Ok(()), start)
    }

    async fn lookup(&self, cx: &Context<'_>, op: Lookup<'_>) -> Result<Entry> {
        let mirror = &self.mirror;
        let parent = mirror.table.get(cx.node())?;
        let directory = mirror.pin(&parent)?;
        // The kernel asks for a directory's names for the first time, or again after a while.
        let known = parent.lists_known.load(Ordering::Relaxed);
        match mirror.find(directory.as_fd(), op.name.as_bytes(), known) {
            Err(Errno::ENOENT) if mirror.options.cache == Cache::Always => {
                Ok(Entry::negative(mirror.absent_valid()))
            }
            found => {
                let (node, stat) = found?;
                let again = node.lookups.load(Ordering::Relaxed) > 1;
                parent.lists_known.store(again, Ordering::Relaxed);
                mirror.placed(&node, parent.id, op.name.as_bytes());
                Ok(mirror.entry_of(&node, &stat))
            }
        }
    }

    fn forget(&self, node: NodeId, lookups: LookupCount) {
        self.mirror.table.forget(node, lookups);
    }

    /// A file without a name takes room below until its node goes.
    fn needs_forgets(&self) -> bool {
        self.mirror.is_room_short()
    }

    async fn getattr(&self, cx: &Context<'_>, _: GetAttr) -> Result<Attributes> {
        let node = self.mirror.table.get(cx.node())?;
        let stat = attributes(self.mirror.pin(&node)?.as_fd()).answer()?;
        Ok(Attributes { valid: self.mirror.attr_valid(&node), attr: attr(&node, &stat) })
    }

    async fn setattr(&self, cx: &Context<'_>, op: SetAttr) -> Result<Attributes> {
        let mirror = &self.mirror;
        let node = mirror.table.get(cx.node())?;
        let pin = mirror.pin(&node)?;
        if asks_nothing(&op) {
            mirror.changed_by(cx, pin.as_fd())?;
        }
        let file = op.fh.map(|fh| mirror.files.get(fh)).transpose()?;
        let attr = set_attributes(&node, pin.as_fd(), file.as_deref(), &op, &mirror.backing)?;
        let mut valid = mirror.attr_valid(&node);
        if node.is_regular() {
            // The kernel takes these also if the file was opened for writing meanwhile.
            valid = valid.min(mirror.options.writing_timeout);
        }
        Ok(Attributes { valid, attr })
    }

    async fn statx(&self, cx: &Context<'_>, _: Statx) -> Result<StatxAttributes> {
        let node = self.mirror.table.get(cx.node())?;
        let stat = attributes(self.mirror.pin(&node)?.as_fd()).answer()?;
        let (valid, statx) = (self.mirror.attr_valid(&node), statx_values(&node, &stat));
        Ok(StatxAttributes { valid, statx, ..StatxAttributes::default() })
    }

    async fn readlink(&self, cx: &Context<'_>, _: ReadLink, out: &mut ReadBuf<'_>) -> Result<()> {
        let node = self.mirror.table.get(cx.node())?;
        let pin = self.mirror.pin(&node)?;
        let mut result = Ok(0);
        out.fill(|bytes| {
            result = readlinkat_raw(&pin, c"", bytes).answer();
            result.unwrap_or(0)
        });
        result.map(drop)
    }

    async fn symlink(&self, cx: &Context<'_>, op: Symlink<'_>) -> Result<Entry> {
        let caller = Caller::of(cx, 0, &op.extensions, &self.mirror.backing);
        let make = |at: Place<'_>| make::symlink(at, op.target, &caller, &self.mirror.backing);
        self.mirror.make(cx, op.name.as_bytes(), make)
    }

    async fn mknod(&self, cx: &Context<'_>, op: MkNod<'_>) -> Result<Entry> {
        let caller = Caller::of(cx, op.umask, &op.extensions, &self.mirror.backing);
        let backing = &self.mirror.backing;
        let make = |at: Place<'_>| make::node(at, op.mode.bits(), op.rdev, &caller, backing);
        self.mirror.make(cx, op.name.as_bytes(), make)
    }

    async fn mkdir(&self, cx: &Context<'_>, op: MkDir<'_>) -> Result<Entry> {
        let caller = Caller::of(cx, op.umask, &op.extensions, &self.mirror.backing);
        let make =
            |at: Place<'_>| make::directory(at, op.mode.bits(), &caller, &self.mirror.backing);
        self.mirror.make(cx, op.name.as_bytes(), make)
    }

    async fn unlink(&self, cx: &Context<'_>, op: Unlink<'_>) -> Result<()> {
        self.mirror.remove(cx.node(), op.name.as_bytes(), AtFlags::empty())
    }

    async fn rmdir(&self, cx: &Context<'_>, op: RmDir<'_>) -> Result<()> {
        self.mirror.remove(cx.node(), op.name.as_bytes(), AtFlags::REMOVEDIR)
    }

    async fn rename(&self, cx: &Context<'_>, op: Rename<'_>) -> Result<()> {
        let mirror = &self.mirror;
        let (from, to) = (mirror.table.get(cx.node())?, mirror.table.get(op.new_parent)?);
        let (parent, target) = (&from, &to);
        let (from, to) = (mirror.pin(parent)?, mirror.pin(target)?);
        let (old, new) = (op.old_name.as_bytes(), op.new_name.as_bytes());
        if !op.flags.intersects(RenameFlags::EXCHANGE | RenameFlags::NOREPLACE) {
            mirror.hold_before_removal(to.as_fd(), new);
        }
        let flags = rustix::fs::RenameFlags::from_bits_retain(op.flags.bits());
        renameat_with(from.as_fd(), old, to.as_fd(), new, flags).answer()?;
        mirror.moved(target, to.as_fd(), new);
        if op.flags.contains(RenameFlags::EXCHANGE) {
            mirror.moved(parent, from.as_fd(), old);
        }
        Ok(())
    }

    async fn link(&self, cx: &Context<'_>, op: Link<'_>) -> Result<Entry> {
        let mirror = &self.mirror;
        let source = mirror.table.get(op.source)?;
        let source = mirror.pin(&source)?;
        let mut entry = mirror.make(cx, op.name.as_bytes(), |at| {
            let path = DecInt::from_fd(source.as_fd());
            // The link that is followed is the descriptor's own.
            let follow = AtFlags::SYMLINK_FOLLOW;
            linkat(mirror.backing.descriptors(), path, at.directory, at.name, follow).answer()?;
            found(mirror.backing.reopen(source.as_fd(), OFlags::PATH).answer()?)
        })?;
        // As for SETATTR.
        entry.attr_valid = entry.attr_valid.min(mirror.options.writing_timeout);
        Ok(entry)
    }

    async fn open(&self, cx: &Context<'_>, op: Open) -> Result<Opened> {
        let mirror = &self.mirror;
        let node = mirror.table.get(cx.node())?;
        if node.kind != KIND_REGULAR {
            // The kernel never asks; a fifo would keep the shard until somebody comes.
            return Err(Errno::EINVAL);
        }
        let pin = mirror.pin(&node)?;
        let (flags, writeback) = (op.flags.bits(), has_writeback(cx));
        let data = data::open(pin.as_fd(), flags, writeback, &mirror.backing)?;
        Ok(mirror.opened(cx, Arc::clone(&node), data, None))
    }

    async fn create(&self, cx: &Context<'_>, op: Create<'_>) -> Result<(Entry, Opened)> {
        let mirror = &self.mirror;
        let parent = mirror.table.get(cx.node())?;
        let directory = mirror.pin(&parent)?;
        let caller = Caller::of(cx, op.umask, &op.extensions, &self.mirror.backing);
        let how =
            Opening { mode: op.mode.bits(), flags: op.flags.bits(), writeback: has_writeback(cx) };
        let at = Place { directory: directory.as_fd(), name: op.name.as_bytes() };
        let made = make::file(at, how, &caller, &mirror.backing);
        // What the kernel has kept as missing may be there: what is why this failed, or what
        // O_DIRECT has made nevertheless. After ESTALE it looks by itself, and by the time that it
        // is told to the file may be open.
        let made = made.inspect_err(|errno| {
            if *errno != Errno::ESTALE {
                mirror.look_anew(cx, op.name);
            }
        })?;
        Ok(mirror.created(cx, made, Some(op.name)))
    }

    async fn tmpfile(&self, cx: &Context<'_>, op: TmpFile<'_>) -> Result<(Entry, Opened)> {
        let mirror = &self.mirror;
        let parent = mirror.table.get(cx.node())?;
        let directory = mirror.pin(&parent)?;
        let caller = Caller::of(cx, op.umask, &op.extensions, &self.mirror.backing);
        let how =
            Opening { mode: op.mode.bits(), flags: op.flags.bits(), writeback: has_writeback(cx) };
        let made = make::nameless(directory.as_fd(), how, &caller, &mirror.backing)?;
        Ok(mirror.created(cx, made, None))
    }

    async fn read(&self, cx: &Context<'_>, op: Read, out: &mut ReadBuf<'_>) -> Result<()> {
        let file = self.mirror.files.get(op.fh)?;
        data::read(self.mirror.mover(cx), &file, &op, out).await
    }

    async fn write(&self, cx: &Context<'_>, op: Write<'_>) -> Result<u32> {
        let file = self.mirror.files.get(op.fh)?;
        let (mover, backing) = (self.mirror.mover(cx), &self.mirror.backing);
        data::write(mover, &file, &op, has_writeback(cx), backing).await
    }

    /// Some filesystems tell of failed writes when a descriptor is closed, so one is.
    async fn flush(&self, _: &Context<'_>, op: Flush) -> Result<()> {
        let file = self.mirror.files.get(op.fh)?;
        if let Some(owners) = file.node.owners.get() {
            owners.drop_owner(op.lock_owner);
            owners.closes(op.fh, *file.whole.lock() != LockKind::UNLOCK);
        }
        file.node.settle(file.as_fd());
        if self.mirror.backing.closes_silently() {
            return Ok(());
        }
        let copy = fcntl_dupfd_cloexec(&*file, 0).answer()?;
        nix::unistd::close(copy).map_err(io::Error::from).answer()
    }

    async fn fsync(&self, _: &Context<'_>, op: FSync) -> Result<()> {
        let file = self.mirror.files.get(op.fh)?;
        file.node.settle(file.as_fd());
        if op.datasync { fdatasync(&*file).answer() } else { fsync(&*file).answer() }
    }

    async fn release(&self, _: &Context<'_>, op: Release) -> Result<()> {
        let file = self.mirror.files.get(op.fh)?;
        // Now, whoever else has the description yet; and as long as the number is not another's.
        if op.release_flags.contains(ReleaseFlags::FLOCK_UNLOCK) {
            let _ = flock(&*file, FlockOperation::Unlock);
        }
        if let Some(owners) = file.node.owners.get() {
            owners.drop_handle(op.fh);
        }
        self.mirror.files.remove(op.fh)?;
        file.node.settle(file.as_fd());
        Ok(())
    }

    async fn getlk(&self, _: &Context<'_>, op: GetLk) -> Result<FileLock> {
        let file = self.mirror.files.get(op.fh)?;
        file.node.owners().find(op.owner, &op.lock, file.as_fd())
    }

    async fn setlk(&self, cx: &Context<'_>, op: SetLk) -> Result<()> {
        let SetLk { fh, owner, lock, lk_flags } = op;
        locks::set(cx, &self.mirror, Wanted { fh, owner, lock, waits: false }, lk_flags).await
    }

    async fn setlkw(&self, cx: &Context<'_>, op: SetLkW) -> Result<()> {
        let SetLkW { fh, owner, lock, lk_flags } = op;
        locks::set(cx, &self.mirror, Wanted { fh, owner, lock, waits: true }, lk_flags).await
    }

    async fn fallocate(&self, cx: &Context<'_>, op: FAllocate) -> Result<()> {
        let file = self.mirror.files.get(op.fh)?;
        data::allocate(&file, &op)?;
        self.mirror.changed_by(cx, file.as_fd())
    }

    /// With write-back the kernel asks before it has written its dirty pages. ENOSYS makes it call
    /// everything data, for good: sparse files are copied whole, and nothing is hidden.
    async fn lseek(&self, cx: &Context<'_>, op: LSeek) -> Result<u64> {
        if has_writeback(cx) {
            return Err(Errno::ENOSYS);
        }
        data::find(&*self.mirror.files.get(op.fh)?, &op)
    }

    async fn copy_file_range(&self, cx: &Context<'_>, op: CopyFileRange) -> Result<u64> {
        let files = &self.mirror.files;
        let (from, to) = (files.get(op.fh_in)?, files.get(op.fh_out)?);
        let copied = data::copy(&from, &to, &op)?;
        self.mirror.changed_by(cx, to.as_fd())?;
        Ok(copied)
    }

    async fn statfs(&self, cx: &Context<'_>, _: StatFs) -> Result<FsStats> {
        let node = self.mirror.table.get(cx.node())?;
        let figures = fstatvfs(self.mirror.pin(&node)?).answer()?;
        let small = |figure: u64| u32::try_from(figure).unwrap_or(u32::MAX).max(1);
        Ok(FsStats {
            blocks: figures.f_blocks,
            bfree: figures.f_bfree,
            bavail: figures.f_bavail,
            files: figures.f_files,
            ffree: figures.f_ffree,
            bsize: small(figures.f_bsize),
            namelen: small(figures.f_namemax),
            frsize: small(figures.f_frsize),
        })
    }

    async fn setxattr(&self, cx: &Context<'_>, op: SetXattr<'_>) -> Result<()> {
        self.has_xattr()?;
        let node = self.mirror.table.get(cx.node())?;
        xattr::set(self.mirror.pin(&node)?.as_fd(), &op, &self.mirror.backing)
    }

    async fn getxattr(
        &self,
        cx: &Context<'_>,
        op: GetXattr<'_>,
        out: &mut XattrBuf<'_>,
    ) -> Result<()> {
        self.has_xattr()?;
        let node = self.mirror.table.get(cx.node())?;
        xattr::get(self.mirror.pin(&node)?, op.name.as_bytes(), out)
    }

    async fn listxattr(
        &self,
        cx: &Context<'_>,
        _: ListXattr,
        out: &mut XattrBuf<'_>,
    ) -> Result<()> {
        self.has_xattr()?;
        let node = self.mirror.table.get(cx.node())?;
        let sees_trusted = || caller::has(cx, CapabilitySet::SYS_ADMIN, &self.mirror.backing);
        xattr::list(self.mirror.pin(&node)?, out, sees_trusted)
    }

    async fn removexattr(&self, cx: &Context<'_>, op: RemoveXattr<'_>) -> Result<()> {
        self.has_xattr()?;
        let node = self.mirror.table.get(cx.node())?;
        xattr::remove(self.mirror.pin(&node)?, op.name.as_bytes())
    }

    async fn opendir(&self, cx: &Context<'_>, _: OpenDir) -> Result<Opened> {
        let mirror = &self.mirror;
        let node = mirror.table.get(cx.node())?;
        let directory = OpenDirectory::default();
        if mirror.table.budget.has_room() {
            mirror.directory(&node, &directory)?;
        }
        let flags = if mirror.options.cache == Cache::Always {
            FOpenFlags::CACHE_DIR | FOpenFlags::KEEP_CACHE
        } else {
            FOpenFlags::empty()
        };
        let fh = mirror.directories.insert(Arc::new(directory));
        Ok(Opened { fh, flags, ..Opened::default() })
    }

    async fn readdir(&self, cx: &Context<'_>, op: ReadDir, out: &mut DirBuf<'_>) -> Result<()> {
        let node = self.mirror.table.get(cx.node())?;
        let directory = self.mirror.directories.get(op.fh)?;
        let fd = self.mirror.directory(&node, &directory)?;
        let mut listing = directory.list(fd, op.offset)?;
        let mut any = false;
        while let Some(listed) = listing.next(fd)? {
            let ino = self.mirror.listed_ino(&node, &listed);
            if !out.add(ino, listed.next, FileType(listed.kind), listed.name) {
                return listing::nothing_fits(!any);
            }
            any = true;
            listing.take();
        }
        Ok(())
    }

    async fn readdirplus(
        &self,
        cx: &Context<'_>,
        op: ReadDirPlus,
        out: &mut DirPlusBuf<'_>,
    ) -> Result<()> {
        let mirror = &self.mirror;
        let node = mirror.table.get(cx.node())?;
        let directory = mirror.directories.get(op.fh)?;
        let fd = mirror.directory(&node, &directory)?;
        let mut listing = directory.list(fd, op.offset)?;
        let mut any = false;
        loop {
            let listed = match listing.next(fd) {
                Ok(Some(listed)) => listed,
                // An error now would take lookups along that were counted; it comes again.
                Err(error) if !any => return Err(error),
                Ok(None) | Err(_) => return Ok(()),
            };
            if let Some(entry) = mirror.listed(&node, fd.as_fd(), &listed) {
                let ino = mirror.listed_ino(&node, &listed);
                let (ino, kind) = entry.map_or((ino, FileType(listed.kind)), |e| {
                    (e.attr.ino, e.attr.mode.file_type())
                });
                if !out.add(entry.as_ref(), ino, listed.next, kind, listed.name) {
                    if let Some(entry) = entry {
                        mirror.table.forget(entry.nodeid, LookupCount(1));
                    }
                    return listing::nothing_fits(!any);
                }
                any = true;
            }
            listing.take();
        }
    }

    async fn releasedir(&self, _: &Context<'_>, op: ReleaseDir) -> Result<()> {
        self.mirror.directories.remove(op.fh).map(drop)
    }

    async fn fsyncdir(&self, cx: &Context<'_>, op: FSyncDir) -> Result<()> {
        let mirror = &self.mirror;
        let directory = mirror.directories.get(op.fh)?;
        let fd = mirror.directory(&*mirror.table.get(cx.node())?, &directory)?;
        if op.datasync { fdatasync(fd).answer() } else { fsync(fd).answer() }
    }

    /// What chattr(1) and lsattr(1) use; the kernel has checked who may, since Linux 5.13
    /// (fs/fuse/ioctl.c, fuse_fileattr_set), which no minor version tells from 5.12. FICLONE never
    /// comes: FUSE has no such request, and copy_file_range(2) shares blocks where that can be.
    async fn ioctl(&self, cx: &Context<'_>, op: IoCtl<'_>, out: &mut ReadBuf<'_>) -> Result<i32> {
        let mirror = &self.mirror;
        let (file, directory);
        let fd = if op.flags.contains(IoctlFlags::DIR) {
            directory = mirror.directories.get(op.fh)?;
            mirror.directory(&*mirror.table.get(cx.node())?, &directory)?
        } else {
            file = mirror.files.get(op.fh)?;
            file.as_fd()
        };
        let command = FlagsCommand::of(op.command).ok_or(Errno::ENOTTY)?;
        const CHECKED: u32 = 34; // of Linux 5.14
        if command.sets && cx.agreement().minor < CHECKED {
            return Err(Errno::ENOTTY);
        }
        let mut data = [0; FLAGS_LEN];
        if command.sets {
            data[..command.len].copy_from_slice(op.data.get(..command.len).ok_or(Errno::EINVAL)?);
        }
        command.run(fd, &mut data).answer()?;
        if !command.sets {
            out.append(&data[..command.len]);
        }
        Ok(0)
    }
}
