//! All inodes that the kernel knows, by nodeid and by what they are.
//!
//! A nodeid is never used again, so generations are not needed. Lookups are counted under the
//! lock of the key, so that a node which is found is one that stays.
//!
//! Order of locks: a shard of keys, then a shard of ids. Never known here: operations.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use fusewire::proto::{Errno, LookupCount, NodeId, Result};
use parking_lot::{Mutex, RwLock};
use rustix::fs::Statx;

use crate::backing::{Backing, attributes};
use crate::error::Answer;
use crate::node::{Budget, Key, Node, Pin};
use crate::recent::Recent;
use crate::sys::FileHandle;

/// Independent parts: more than there are likely to be shards.
const PARTS: u64 = 64;

/// The nodes.
#[derive(Debug)]
pub(crate) struct Table {
    ids: Vec<RwLock<HashMap<NodeId, Arc<Node>>>>,
    keys: Vec<Mutex<HashMap<Key, Arc<Node>>>>,
    next: AtomicU64,
    by_handle: AtomicU64,
    devices: RwLock<Vec<(u32, u32)>>,
    pub(crate) budget: Arc<Budget>,
    recent: Recent,
}

impl Table {
    /// A table that knows the root.
    pub(crate) fn new(backing: &Backing, fd_budget: usize) -> Result<Self> {
        let stat = attributes(backing.root()).answer()?;
        let key = Key::of(&stat);
        let recent = Recent::new(fd_budget);
        let table = Self {
            ids: (0..PARTS).map(|_| RwLock::default()).collect(),
            keys: (0..PARTS).map(|_| Mutex::default()).collect(),
            next: AtomicU64::new(NodeId::ROOT.0 + 1),
            by_handle: AtomicU64::new(0),
            devices: RwLock::new(vec![key.device]),
            budget: Budget::new(fd_budget - recent.most()),
            recent,
        };
        let fd = backing.root().try_clone_to_owned().answer()?;
        // The root is not to be a matter of the budget.
        let own = Budget::new(1);
        let (root, _) = Node::new((NodeId::ROOT, key.ino), &stat, fd, backing, &own);
        let root = Arc::new(root);
        table.ids(root.id).write().insert(root.id, Arc::clone(&root));
        table.keys(key).lock().insert(key, root);
        Ok(table)
    }

    fn ids(&self, id: NodeId) -> &RwLock<HashMap<NodeId, Arc<Node>>> {
        &self.ids[usize::try_from(id.0 % PARTS).unwrap_or(0)]
    }

    fn keys(&self, key: Key) -> &Mutex<HashMap<Key, Arc<Node>>> {
        &self.keys[usize::try_from(key.ino % PARTS).unwrap_or(0)]
    }

    /// The node of an id.
    ///
    /// # Errors
    /// ENOENT for one that the kernel does not have from us.
    pub(crate) fn get(&self, id: NodeId) -> Result<Arc<Node>> {
        self.ids(id).read().get(&id).cloned().ok_or(Errno::ENOENT)
    }

    /// The node of what `fd` refers to, new if it must be, with one more lookup.
    pub(crate) fn enter(&self, fd: OwnedFd, stat: &Statx, backing: &Backing) -> Arc<Node> {
        let key = Key::of(stat);
        let mut keys = self.keys(key).lock();
        let slot = keys.entry(key);
        if let Slot::Occupied(known) = &slot
            && known.get().is(fd.as_fd(), backing)
        {
            let node = Arc::clone(known.get());
            node.lookups.fetch_add(1, Ordering::Relaxed);
            return node;
        }
        let id = NodeId(self.next.fetch_add(1, Ordering::Relaxed));
        let shown = self.shown(key.device, key.ino);
        let (node, spare) = Node::new((id, shown), stat, fd, backing, &self.budget);
        let node = Arc::new(node);
        if let Some(fd) = spare {
            self.by_handle.fetch_add(1, Ordering::Relaxed);
            self.recent.keep(id, &Arc::new(fd));
        }
        // One that was known by its handle and whose number was given away goes on by its id.
        slot.insert_entry(Arc::clone(&node));
        self.ids(id).write().insert(id, Arc::clone(&node));
        node
    }

    /// The node that attributes are of, with one more lookup, where it is known and certainly the
    /// one; `handle` tells the handle of what the attributes are of.
    pub(crate) fn again(
        &self,
        stat: &Statx,
        handle: impl FnOnce() -> Option<FileHandle>,
    ) -> Option<Arc<Node>> {
        let key = Key::of(stat);
        let keys = self.keys(key).lock();
        let node = keys.get(&key).filter(|node| node.is_of(stat, handle))?;
        node.lookups.fetch_add(1, Ordering::Relaxed);
        Some(Arc::clone(node))
    }

    /// The node of what `fd` refers to, if it is known.
    pub(crate) fn find(
        &self,
        fd: BorrowedFd<'_>,
        stat: &Statx,
        backing: &Backing,
    ) -> Option<Arc<Node>> {
        let key = Key::of(stat);
        let node = self.keys(key).lock().get(&key).cloned();
        node.filter(|node| node.is(fd, backing))
    }

    /// All nodes, in parts of which each is looked at when it is asked for.
    pub(crate) fn parts(&self) -> impl Iterator<Item = impl Fn() -> Vec<Arc<Node>>> {
        self.ids.iter().map(|part| || part.read().values().cloned().collect())
    }

    /// Whether there is a node of such an inode.
    pub(crate) fn knows(&self, key: Key) -> bool {
        self.keys(key).lock().contains_key(&key)
    }

    /// A descriptor of a node.
    ///
    /// # Errors
    /// ESTALE if it was known by its handle and is gone.
    pub(crate) fn pin<'n>(&self, node: &'n Node, backing: &Backing) -> Result<Pin<'n>> {
        if let Some(fd) = node.held() {
            return Ok(Pin::Held(fd));
        }
        if let Some(fd) = self.recent.get(node.id) {
            return Ok(Pin::Opened(fd));
        }
        let fd = Arc::new(node.open(backing)?);
        self.recent.keep(node.id, &fd);
        Ok(Pin::Opened(fd))
    }

    /// Takes lookups back; at none the node goes.
    pub(crate) fn forget(&self, id: NodeId, lookups: LookupCount) {
        if id.is_root() {
            return;
        }
        let Ok(node) = self.get(id) else { return };
        let mut keys = self.keys(node.key).lock();
        let before = node.lookups.load(Ordering::Relaxed);
        let after = before.saturating_sub(lookups.0);
        node.lookups.store(after, Ordering::Relaxed);
        if after > 0 {
            return;
        }
        if keys.get(&node.key).is_some_and(|known| known.id == id) {
            keys.remove(&node.key);
        }
        self.ids(id).write().remove(&id);
        self.recent.forget(id);
    }

    /// Whether any node was ever known by its handle alone.
    pub(crate) fn uses_handles(&self) -> bool {
        self.by_handle.load(Ordering::Relaxed) > 0
    }

    /// Whether an inode is known and no descriptor holds it.
    pub(crate) fn needs_hold(&self, stat: &Statx) -> bool {
        let key = Key::of(stat);
        self.keys(key).lock().get(&key).is_some_and(|node| node.held().is_none())
    }

    /// Has a descriptor hold the node of what `fd` refers to, if it is known.
    pub(crate) fn hold(&self, fd: OwnedFd, stat: &Statx, backing: &Backing) {
        if let Some(node) = self.find(fd.as_fd(), stat, backing) {
            node.hold(fd, &self.budget);
        }
    }

    /// The number that is shown for an inode. Numbers of the root's device are shown as they are;
    /// those of others (subvolumes of btrfs, layers of overlayfs) are moved, each device's by the
    /// same distance while the mount lasts, as all of them show under one device.
    pub(crate) fn shown(&self, device: (u32, u32), ino: u64) -> u64 {
        let found = |devices: &[(u32, u32)]| devices.iter().position(|known| *known == device);
        let known = found(&self.devices.read());
        let index = known.unwrap_or_else(|| {
            let mut devices = self.devices.write();
            found(&devices).unwrap_or_else(|| {
                devices.push(device);
                devices.len() - 1
            })
        });
        ino ^ (index as u64) << 48
    }

    #[cfg(test)]
    fn len(&self) -> (usize, usize) {
        let ids = self.ids.iter().map(|part| part.read().len()).sum();
        (ids, self.keys.iter().map(|part| part.lock().len()).sum())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::Options;

    fn enter(table: &Table, backing: &Backing, name: &str) -> Arc<Node> {
        let fd = backing.lookup(backing.root(), name.as_bytes()).unwrap();
        let stat = attributes(fd.as_fd()).unwrap();
        table.enter(fd, &stat, backing)
    }

    #[test]
    fn hard_links_are_one_node_and_lookups_are_counted() {
        for budget in [0, 100] {
            let directory = tempfile::tempdir().unwrap();
            let path = |name: &str| directory.path().join(name);
            std::fs::write(path("a"), "a").unwrap();
            std::fs::hard_link(path("a"), path("b")).unwrap();
            std::fs::write(path("c"), "c").unwrap();
            let backing = Backing::open(directory.path(), &Options::default()).unwrap();
            let table = Table::new(&backing, budget).unwrap();
            let (a, b) = (enter(&table, &backing, "a"), enter(&table, &backing, "b"));
            assert_eq!(a.id, b.id);
            assert_ne!(enter(&table, &backing, "c").id, a.id);
            assert_eq!(table.len(), (3, 3));
            table.forget(a.id, LookupCount(1));
            assert_eq!(table.get(a.id).unwrap().id, a.id);
            table.forget(a.id, LookupCount(1));
            assert_eq!(table.get(a.id).unwrap_err(), Errno::ENOENT);
            table.forget(NodeId::ROOT, LookupCount(7));
            assert_eq!(table.len(), (2, 2));
            assert!(enter(&table, &backing, "a").id.0 > b.id.0, "no id is used again");
        }
    }

    #[test]
    fn beyond_the_budget_handles_do() {
        let directory = tempfile::tempdir().unwrap();
        for number in 0..50 {
            std::fs::write(directory.path().join(number.to_string()), "x").unwrap();
        }
        let backing = Backing::open(directory.path(), &Options::default()).unwrap();
        if !backing.has_handles() {
            return;
        }
        let table = Table::new(&backing, 10).unwrap();
        let nodes: Vec<_> =
            (0..50).map(|number| enter(&table, &backing, &number.to_string())).collect();
        // Two for what was looked at last, the rest for the first that came.
        assert_eq!(table.budget.used(), 8);
        assert_eq!(nodes.iter().filter(|node| node.held().is_none()).count(), 42);
        let last = |node: &Arc<Node>| table.recent.get(node.id).is_some();
        assert_eq!(nodes.iter().filter(|node| last(node)).count(), 2);
        for node in &nodes {
            let pin = table.pin(node, &backing).unwrap();
            assert_eq!(attributes(pin.as_fd()).unwrap().stx_ino, node.key.ino);
        }
        for node in &nodes {
            table.forget(node.id, LookupCount(1));
        }
        assert_eq!(nodes.iter().filter(|node| last(node)).count(), 0);
        drop(nodes);
        assert_eq!(table.budget.used(), 0);
    }

    /// Attributes that were read by a name a moment ago, and an inode that has the number now.
    #[test]
    fn attributes_alone_are_known_again_only_for_certain() {
        for budget in [0, 100] {
            let directory = tempfile::tempdir().unwrap();
            std::fs::write(directory.path().join("f"), "f").unwrap();
            let backing = Backing::open(directory.path(), &Options::default()).unwrap();
            let Ok(Some(stat)) = backing.peek(backing.root(), b"f") else { return };
            let table = Table::new(&backing, budget).unwrap();
            let handle = || backing.handle_at(backing.root(), b"f");
            assert!(!table.knows(Key::of(&stat)));
            assert!(table.again(&stat, handle).is_none());
            let node = enter(&table, &backing, "f");
            assert!(table.knows(Key::of(&stat)));
            assert_eq!(table.again(&stat, handle).unwrap().id, node.id);
            let mut other = stat;
            other.stx_btime.tv_nsec ^= 1;
            assert!(table.again(&other, handle).is_none());
            let mut other = stat;
            other.stx_mode ^= 0o140_000;
            assert!(table.again(&other, handle).is_none());
            if node.held().is_none() {
                let another = || backing.handle_of(backing.root());
                assert!(table.again(&stat, another).is_none());
            }
            table.forget(node.id, LookupCount(2));
            assert!(table.get(node.id).is_err(), "only what was given is taken back");
        }
    }

    #[test]
    fn a_number_given_away_is_another_node() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("f");
        std::fs::write(&path, "old").unwrap();
        let backing = Backing::open(directory.path(), &Options::default()).unwrap();
        if !backing.has_handles() {
            return;
        }
        let table = Table::new(&backing, 0).unwrap();
        let old = enter(&table, &backing, "f");
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "new").unwrap();
        let new = enter(&table, &backing, "f");
        assert_ne!(old.id, new.id, "numbers {} and {}", old.key.ino, new.key.ino);
        assert_eq!(table.pin(&old, &backing).unwrap_err(), Errno::ESTALE);
        table.forget(old.id, LookupCount(1));
        assert_eq!(enter(&table, &backing, "f").id, new.id, "the older took the newer along");
    }
}
