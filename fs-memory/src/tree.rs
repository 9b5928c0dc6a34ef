//! The tree: nodes joined by names.
//!
//! # Order of locks
//! A directory before what is in it; unrelated nodes in ascending order of their numbers. Moves
//! between directories, or of directories, are made one at a time (`moves`), so that who is whose
//! ancestor stays true while it matters. No lock is held across an await.
//!
//! Never known here: messages. Neighbours: `rename` for moves, `filesystem` for the operations.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use fusewire::proto::flags::XattrFlags;
use fusewire::proto::{Errno, LookupCount, NodeId, Result};
use nix::sys::signal::{SigSet, SigmaskHow};
use parking_lot::{Mutex, RwLockWriteGuard};

use crate::acl::{self, Acl};
use crate::clock::now;
use crate::directory::{Directory, Target};
use crate::limits::{InodeLease, Lease, Limits};
use crate::node::{Body, Node, S_IFDIR, S_IFLNK, S_IFMT, S_ISGID, Seed, State, Table};
use crate::options::Options;

/// The longest name, as on most filesystems.
pub(crate) const NAME_MAX: u32 = 255;
/// The most links of one node: what st_nlink of every architecture holds.
const LINK_MAX: u32 = 0x7fff_ffff;

/// A filesystem in memory, shared by all shards.
#[derive(Debug)]
pub struct Memory {
    pub(crate) limits: Arc<Limits>,
    pub(crate) table: Table,
    /// Held while a directory moves, or anything moves between directories.
    pub(crate) moves: Mutex<()>,
    /// Whether reading moves access times.
    pub(crate) atime: bool,
    /// Numbers are never used twice, so every generation is 0.
    next: AtomicU64,
}

/// Who makes a node, and how.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Maker {
    /// Type and permission bits.
    pub(crate) mode: u32,
    pub(crate) umask: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) rdev: u32,
}

/// The body that belongs to a type.
pub(crate) type MakeBody<'a> = &'a dyn Fn(&Arc<Limits>, NodeId) -> Result<Body>;

pub(crate) fn check_name(name: &[u8]) -> Result<()> {
    if name.len() > NAME_MAX as usize { Err(Errno::ENAMETOOLONG) } else { Ok(()) }
}

impl Memory {
    /// An empty filesystem.
    #[must_use]
    pub fn new(options: &Options) -> Arc<Self> {
        // The root counts, as on tmpfs.
        let limits = Limits::new(options.size, options.inodes.max(1));
        let seed = Seed {
            mode: S_IFDIR | options.mode,
            uid: options.uid,
            gid: options.gid,
            rdev: 0,
            body: Body::Directory(Directory::new(NodeId::ROOT)),
        };
        let table = Table::new();
        if let Ok(root) = Node::new(NodeId::ROOT, seed, &limits, now()) {
            root.state.write().nlink = 2;
            table.insert(Arc::new(root));
        }
        let next = AtomicU64::new(NodeId::ROOT.0 + 1);
        Arc::new(Self { limits, table, moves: Mutex::new(()), atime: options.atime, next })
    }

    /// Makes a thread that gives freed memory back to the system. Nothing stops it: it lives as
    /// long as the process, asleep unless much has become free.
    ///
    /// # Errors
    /// What starting a thread says.
    pub fn return_freed_memory(&self) -> std::io::Result<()> {
        let trim = || loop {
            std::thread::park();
            fusewire::trim_heap();
        };
        // A signal that ends the session must not find a thread that it can kill the process by.
        let before = SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK)?;
        let spawned = std::thread::Builder::new().name("fusewire-trim".to_owned()).spawn(trim);
        before.thread_set_mask()?;
        self.limits.tell(spawned?.thread().clone());
        Ok(())
    }

    /// Finds a name and gives a lookup of what it leads to.
    pub(crate) fn lookup(&self, parent: NodeId, name: &[u8]) -> Result<Arc<Node>> {
        check_name(name)?;
        let directory = self.table.get(parent)?;
        if name == b"." {
            directory.give_lookup();
            return Ok(directory);
        }
        let state = directory.state.read();
        let entries = state.directory()?;
        let id = if name == b".." {
            entries.parent
        } else {
            entries.get(name).ok_or(Errno::ENOENT)?.node
        };
        let node = self.table.get(id)?;
        // Under the directory's lock: the name keeps the node alive until it is counted.
        node.give_lookup();
        Ok(node)
    }

    /// Takes lookups back.
    pub(crate) fn forget(&self, id: NodeId, count: LookupCount) {
        if id.is_root() {
            return;
        }
        if let Ok(node) = self.table.get(id)
            && node.forget(count)
        {
            self.reap(&node);
        }
    }

    /// Frees a node that nothing leads to.
    pub(crate) fn reap(&self, node: &Node) {
        let unreachable = node.is_unreachable(&node.state.read());
        if unreachable {
            self.table.remove(node.id);
        }
    }

    /// A node that belongs into the directory, by its rules for groups and access control lists
    /// (acl(5), inode(7)), but is not in it yet.
    fn grow(&self, parent: &State, maker: Maker, body: MakeBody<'_>) -> Result<Node> {
        let inherits_group = parent.mode & S_ISGID != 0;
        let kind = maker.mode & S_IFMT;
        let mut mode = maker.mode;
        if inherits_group && kind == S_IFDIR {
            mode |= S_ISGID;
        }
        let default = match parent.xattrs.get(acl::DEFAULT) {
            Ok(value) if kind != S_IFLNK => Acl::parse(value)?,
            _ => None,
        };
        let inherited = match &default {
            None if kind == S_IFLNK => None,
            None => {
                mode &= !maker.umask;
                None
            }
            Some(default) => {
                let (list, limited) = default.inherited(mode);
                mode = limited;
                Some(list).filter(|list| !list.is_plain())
            }
        };
        let id = NodeId(self.next.fetch_add(1, Ordering::Relaxed));
        let seed = Seed {
            mode,
            uid: maker.uid,
            gid: if inherits_group { parent.gid } else { maker.gid },
            rdev: maker.rdev,
            body: body(&self.limits, id)?,
        };
        let mut node = Node::new(id, seed, &self.limits, now())?;
        let state = node.state.get_mut();
        if let Some(list) = inherited {
            state.xattrs.set(acl::ACCESS, &list.bytes(), XattrFlags::empty())?;
        }
        if let Some(default) = default.filter(|_| kind == S_IFDIR) {
            state.xattrs.set(acl::DEFAULT, &default.bytes(), XattrFlags::empty())?;
        }
        Ok(node)
    }

    /// Makes a node under a name and gives a lookup of it.
    pub(crate) fn make(
        &self,
        parent: NodeId,
        name: &[u8],
        maker: Maker,
        body: MakeBody<'_>,
    ) -> Result<Arc<Node>> {
        check_name(name)?;
        let directory = self.table.get(parent)?;
        let mut state = directory.state.write();
        if state.directory()?.get(name).is_some() {
            return Err(Errno::EEXIST);
        }
        if state.nlink == 0 {
            return Err(Errno::ENOENT);
        }
        let is_directory = maker.mode & S_IFMT == S_IFDIR;
        if is_directory && state.nlink == LINK_MAX {
            return Err(Errno::EMLINK);
        }
        let mut node = self.grow(&state, maker, body)?;
        node.state.get_mut().nlink = if is_directory { 2 } else { 1 };
        let node = Arc::new(node);
        node.give_lookup();
        self.table.insert(Arc::clone(&node));
        state.nlink += u32::from(is_directory);
        let target = Target { node: node.id, kind: node.file_type() };
        state.directory_mut()?.insert(name, target);
        state.modified(now());
        Ok(node)
    }

    /// Makes a file without a name, by the rules of the directory, and gives a lookup of it.
    pub(crate) fn make_nameless(
        &self,
        parent: NodeId,
        maker: Maker,
        body: MakeBody<'_>,
    ) -> Result<Arc<Node>> {
        let directory = self.table.get(parent)?;
        let state = directory.state.read();
        state.directory()?;
        let node = Arc::new(self.grow(&state, maker, body)?);
        node.give_lookup();
        self.table.insert(Arc::clone(&node));
        Ok(node)
    }

    /// Gives a node another name, and a lookup.
    pub(crate) fn link(&self, source: NodeId, parent: NodeId, name: &[u8]) -> Result<Arc<Node>> {
        check_name(name)?;
        let node = self.table.get(source)?;
        if node.is_directory() {
            return Err(Errno::EPERM);
        }
        let directory = self.table.get(parent)?;
        let mut state = directory.state.write();
        if state.directory()?.get(name).is_some() {
            return Err(Errno::EEXIST);
        }
        if state.nlink == 0 {
            return Err(Errno::ENOENT);
        }
        let mut linked = node.state.write();
        if linked.nlink == LINK_MAX {
            return Err(Errno::EMLINK);
        }
        // A file without a name has its inode already.
        if linked.nlink > 0 {
            linked.links.push(InodeLease::new(&self.limits)?);
        }
        linked.nlink += 1;
        linked.ctime = now();
        drop(linked);
        node.give_lookup();
        state.directory_mut()?.insert(name, Target { node: node.id, kind: node.file_type() });
        state.modified(now());
        Ok(node)
    }

    /// Removes a name: of an empty directory or of anything else, as `is_directory` says.
    pub(crate) fn remove(&self, parent: NodeId, name: &[u8], is_directory: bool) -> Result<()> {
        check_name(name)?;
        let directory = self.table.get(parent)?;
        let mut state = directory.state.write();
        let target = state.directory()?.get(name).ok_or(Errno::ENOENT)?;
        let node = self.table.get(target.node)?;
        match (node.is_directory(), is_directory) {
            (true, false) => return Err(Errno::EISDIR),
            (false, true) => return Err(Errno::ENOTDIR),
            _ => {}
        }
        let removed = node.state.write();
        unname(&mut state, removed)?;
        state.directory_mut()?.remove(name);
        state.modified(now());
        drop(state);
        self.reap(&node);
        Ok(())
    }
}

/// Takes one name from a node, and from its directory the link that a subdirectory's `..` is.
pub(crate) fn unname(parent: &mut State, mut node: RwLockWriteGuard<'_, State>) -> Result<()> {
    if let Body::Directory(entries) = &node.body {
        if !entries.is_empty() {
            return Err(Errno::ENOTEMPTY);
        }
        node.nlink = 0;
        parent.nlink -= 1;
    } else {
        node.nlink -= 1;
        node.links.pop();
    }
    node.ctime = now();
    Ok(())
}

/// A symbolic link's body.
pub(crate) fn symlink_body(target: &[u8], limits: &Arc<Limits>) -> Result<Body> {
    let mut lease = Lease::new(limits);
    lease.grow(target.len() as u64)?;
    Ok(Body::Symlink(target.into(), lease))
}
