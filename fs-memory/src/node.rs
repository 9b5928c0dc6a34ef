//! A node: identity, attributes, and a body by type; and the table of all nodes.
//!
//! A node lives while it has a name or the kernel has a lookup of it. Its state is behind one
//! lock; the order of locks is parent before child, then ascending node (see `tree`).
//!
//! Never known here: paths. Neighbours: `tree` joins nodes by names.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use fusewire::proto::flags::{OpenFlags, XattrFlags};
use fusewire::proto::{Attr, Errno, FileType, LookupCount, Mode, NodeId, Result, Timestamp};
use parking_lot::RwLock;

use crate::acl::{self, Acl};
use crate::data::Data;
use crate::directory::Directory;
use crate::limits::{InodeLease, Lease, Limits};
use crate::xattr::Xattrs;

/// Type bits of a mode, and the types.
pub(crate) const S_IFMT: u32 = 0o170_000;
pub(crate) const S_IFDIR: u32 = 0o040_000;
pub(crate) const S_IFREG: u32 = 0o100_000;
pub(crate) const S_IFLNK: u32 = 0o120_000;
pub(crate) const S_ISUID: u32 = 0o4000;
pub(crate) const S_ISGID: u32 = 0o2000;
const S_IXGRP: u32 = 0o010;
/// The preferred size of I/O; also the page.
const BLOCK: u32 = 4096;

/// What a node holds.
#[derive(Debug)]
pub(crate) enum Body {
    File(Data),
    Directory(Directory),
    /// The target, and the room that it takes.
    Symlink(Box<[u8]>, #[expect(dead_code, reason = "kept for its drop")] Lease),
    /// Device nodes, fifos, sockets.
    Special,
}

/// What may change.
#[derive(Debug)]
pub(crate) struct State {
    /// Permission, set-id and sticky bits.
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) nlink: u32,
    pub(crate) atime: Timestamp,
    pub(crate) mtime: Timestamp,
    pub(crate) ctime: Timestamp,
    pub(crate) xattrs: Xattrs,
    pub(crate) body: Body,
    /// One inode for each name but the first, as tmpfs has it: names cost memory too.
    pub(crate) links: Vec<InodeLease>,
}

/// One file of any type.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) id: NodeId,
    /// Type bits.
    pub(crate) kind: u32,
    pub(crate) rdev: u32,
    pub(crate) btime: Timestamp,
    lookups: AtomicU64,
    /// Handles that may write.
    writers: AtomicU64,
    pub(crate) state: RwLock<State>,
    _inode: InodeLease,
}

/// What a new node is made of.
#[derive(Debug)]
pub(crate) struct Seed {
    /// Type and permission bits.
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) rdev: u32,
    pub(crate) body: Body,
}

impl Node {
    /// A node without a name or a lookup.
    pub(crate) fn new(
        id: NodeId,
        seed: Seed,
        limits: &Arc<Limits>,
        now: Timestamp,
    ) -> Result<Self> {
        let state = State {
            mode: seed.mode & !S_IFMT,
            uid: seed.uid,
            gid: seed.gid,
            nlink: 0,
            atime: now,
            mtime: now,
            ctime: now,
            xattrs: Xattrs::new(limits),
            body: seed.body,
            links: Vec::new(),
        };
        Ok(Self {
            id,
            kind: seed.mode & S_IFMT,
            rdev: seed.rdev,
            btime: now,
            lookups: AtomicU64::new(0),
            writers: AtomicU64::new(0),
            state: RwLock::new(state),
            _inode: InodeLease::new(limits)?,
        })
    }

    pub(crate) fn file_type(&self) -> FileType {
        Mode(self.kind).file_type()
    }

    pub(crate) fn is_directory(&self) -> bool {
        self.kind == S_IFDIR
    }

    /// Counts a lookup that an answer is about to give.
    pub(crate) fn give_lookup(&self) {
        self.lookups.fetch_add(1, Ordering::Relaxed);
    }

    /// Takes lookups back; whether none is left.
    pub(crate) fn forget(&self, count: LookupCount) -> bool {
        let take = |lookups: u64| Some(lookups.saturating_sub(count.0));
        let before = self.lookups.fetch_update(Ordering::AcqRel, Ordering::Acquire, take);
        before.is_ok_and(|before| before <= count.0)
    }

    /// A handle was opened with these flags of open(2).
    pub(crate) fn opened(&self, flags: OpenFlags) {
        if flags.writes() {
            self.writers.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// A handle that was opened with these flags is gone, and the mappings made of it are.
    pub(crate) fn closed(&self, flags: OpenFlags) {
        if flags.writes() {
            let take = |writers: u64| writers.checked_sub(1);
            let _ = self.writers.fetch_update(Ordering::AcqRel, Ordering::Acquire, take);
        }
    }

    /// Whether the kernel may have pages that were written and not sent: without write-back those
    /// of shared mappings, which it writes before the last handle goes.
    pub(crate) fn may_be_dirty(&self) -> bool {
        self.writers.load(Ordering::Acquire) > 0
    }

    /// Whether nothing leads here any more.
    pub(crate) fn is_unreachable(&self, state: &State) -> bool {
        state.nlink == 0 && self.lookups.load(Ordering::Acquire) == 0
    }

    /// The attributes.
    pub(crate) fn attr(&self, state: &State) -> Attr {
        let (size, blocks) = match &state.body {
            Body::File(data) => (data.size(), data.blocks()),
            Body::Symlink(target, _) => (target.len() as u64, 0),
            Body::Directory(directory) => (directory.size(), 0),
            Body::Special => (0, 0),
        };
        Attr {
            ino: self.id.0,
            size,
            blocks,
            atime: state.atime,
            mtime: state.mtime,
            ctime: state.ctime,
            mode: Mode(self.kind | state.mode),
            nlink: state.nlink,
            uid: state.uid,
            gid: state.gid,
            rdev: self.rdev,
            blksize: BLOCK,
            ..Attr::default()
        }
    }
}

impl State {
    pub(crate) fn directory(&self) -> Result<&Directory> {
        match &self.body {
            Body::Directory(directory) => Ok(directory),
            _ => Err(Errno::ENOTDIR),
        }
    }

    pub(crate) fn directory_mut(&mut self) -> Result<&mut Directory> {
        match &mut self.body {
            Body::Directory(directory) => Ok(directory),
            _ => Err(Errno::ENOTDIR),
        }
    }

    pub(crate) fn file(&self) -> Result<&Data> {
        match &self.body {
            Body::File(data) => Ok(data),
            Body::Directory(_) => Err(Errno::EISDIR),
            _ => Err(Errno::EINVAL),
        }
    }

    pub(crate) fn file_mut(&mut self) -> Result<&mut Data> {
        match &mut self.body {
            Body::File(data) => Ok(data),
            Body::Directory(_) => Err(Errno::EISDIR),
            _ => Err(Errno::EINVAL),
        }
    }

    /// The data changed.
    pub(crate) fn modified(&mut self, now: Timestamp) {
        self.mtime = now;
        self.ctime = now;
    }

    /// Whether a read at `now` moves the access time: as relatime does, if it is not newer than
    /// the others or a day old. The kernel never sends access times (S_NOATIME).
    pub(crate) fn access_is_old(&self, now: Timestamp) -> bool {
        self.atime <= self.mtime
            || self.atime <= self.ctime
            || now.seconds.saturating_sub(self.atime.seconds) >= 24 * 3600
    }

    /// Sets the permission bits; the access control list follows.
    pub(crate) fn set_mode(&mut self, mode: u32) -> Result<()> {
        if let Ok(value) = self.xattrs.get(acl::ACCESS)
            && let Some(mut list) = Acl::parse(value)?
        {
            list.set_mode(mode);
            self.xattrs.set(acl::ACCESS, &list.bytes(), XattrFlags::empty())?;
        }
        self.mode = mode & !S_IFMT;
        Ok(())
    }

    /// Whether [`State::kill_privileges`] would take something away.
    pub(crate) fn has_privileges(&self) -> bool {
        let set_gid = S_ISGID | S_IXGRP;
        self.mode & S_ISUID != 0
            || self.mode & set_gid == set_gid
            || self.xattrs.get(b"security.capability").is_ok()
    }

    /// Takes away what must not survive a change by another: set-user-id, set-group-id of what the
    /// group may run, and capabilities (`FUSE_WRITE_KILL_SUIDGID` and its like, since 7.33).
    pub(crate) fn kill_privileges(&mut self) {
        self.mode &= !S_ISUID;
        if self.mode & S_IXGRP != 0 {
            self.mode &= !S_ISGID;
        }
        // ENODATA: there are none.
        let _ = self.xattrs.remove(b"security.capability");
    }
}

type Nodes = HashMap<NodeId, Arc<Node>>;

/// All nodes, in shards so that unrelated look-ups do not meet.
#[derive(Debug)]
pub(crate) struct Table {
    shards: Box<[RwLock<Nodes>]>,
}

impl Table {
    const SHARDS: usize = 64;

    pub(crate) fn new() -> Self {
        Self { shards: (0..Self::SHARDS).map(|_| RwLock::default()).collect() }
    }

    fn shard(&self, id: NodeId) -> &RwLock<Nodes> {
        &self.shards[usize::try_from(id.0 % Self::SHARDS as u64).unwrap_or(0)]
    }

    /// The node of that number; ENOENT for one that was never given or is gone.
    pub(crate) fn get(&self, id: NodeId) -> Result<Arc<Node>> {
        self.shard(id).read().get(&id).cloned().ok_or(Errno::ENOENT)
    }

    pub(crate) fn insert(&self, node: Arc<Node>) {
        self.shard(node.id).write().insert(node.id, node);
    }

    pub(crate) fn remove(&self, id: NodeId) {
        // Dropped behind the lock: freeing a large file takes time.
        let removed = self.shard(id).write().remove(&id);
        drop(removed);
    }
}
