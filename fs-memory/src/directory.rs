//! The entries of one directory.
//!
//! Each entry has a cookie, given when it was made and never again in that directory, so a reader
//! that comes back with one neither skips nor repeats what others removed or added.
//!
//! Never known here: what the entries are. Neighbour: `node`.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use fusewire::proto::{FileType, NodeId};

/// Cookie of the first entry: 0 is the start, 1 and 2 stand behind `.` and `..`.
const FIRST_COOKIE: u64 = 3;

/// What a name leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) node: NodeId,
    /// What directory records say of it.
    pub(crate) kind: FileType,
}

/// A directory's entries.
#[derive(Debug)]
pub(crate) struct Directory {
    names: HashMap<Arc<[u8]>, (Target, u64)>,
    /// By cookie, with all that a listing tells: it looks nothing up.
    order: BTreeMap<u64, (Arc<[u8]>, Target)>,
    next_cookie: u64,
    /// The directory that this one is in; the root is in itself.
    pub(crate) parent: NodeId,
}

impl Directory {
    pub(crate) fn new(parent: NodeId) -> Self {
        let (names, order) = (HashMap::new(), BTreeMap::new());
        Self { names, order, next_cookie: FIRST_COOKIE, parent }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// What `stat` shows as the size: about what the entries would take on a disk.
    pub(crate) fn size(&self) -> u64 {
        self.names.len() as u64 * 32
    }

    pub(crate) fn get(&self, name: &[u8]) -> Option<Target> {
        self.names.get(name).map(|(target, _)| *target)
    }

    /// Adds an entry; the name must be free.
    pub(crate) fn insert(&mut self, name: &[u8], target: Target) {
        let name: Arc<[u8]> = name.into();
        let cookie = self.next_cookie;
        self.next_cookie += 1;
        self.order.insert(cookie, (Arc::clone(&name), target));
        let before = self.names.insert(name, (target, cookie));
        debug_assert!(before.is_none(), "the name was free");
    }

    /// Lets a name lead elsewhere; it keeps its cookie.
    pub(crate) fn replace(&mut self, name: &[u8], target: Target) {
        let Some((old, cookie)) = self.names.get_mut(name) else { return };
        *old = target;
        if let Some((_, listed)) = self.order.get_mut(cookie) {
            *listed = target;
        }
    }

    /// Removes an entry.
    pub(crate) fn remove(&mut self, name: &[u8]) -> Option<Target> {
        let (target, cookie) = self.names.remove(name)?;
        self.order.remove(&cookie);
        Some(target)
    }

    /// Entries behind the cookie `after`, oldest first: cookie, name, target.
    pub(crate) fn after(&self, after: u64) -> impl Iterator<Item = (u64, &[u8], Target)> {
        let behind = self.order.range(after.saturating_add(1)..);
        behind.map(|(cookie, (name, target))| (*cookie, &**name, *target))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(node: u64) -> Target {
        Target { node: NodeId(node), kind: FileType::REGULAR }
    }

    #[test]
    fn a_reader_neither_skips_nor_repeats() {
        let mut directory = Directory::new(NodeId::ROOT);
        for node in 0..100_u64 {
            directory.insert(node.to_string().as_bytes(), target(node));
        }
        let mut seen = Vec::new();
        let mut cookie = 0;
        let next = |directory: &Directory, cookie| {
            directory.after(cookie).next().map(|(next, name, found)| (next, name.to_owned(), found))
        };
        while let Some((next, name, found)) = next(&directory, cookie) {
            seen.push(found.node.0);
            cookie = next;
            // What was read is removed, and something new appears behind.
            directory.remove(&name);
            if seen.len() == 50 {
                directory.insert(b"new", target(1000));
            }
        }
        let expected: Vec<u64> = (0..100).chain([1000]).collect();
        assert_eq!(seen, expected);
        assert!(directory.is_empty());
    }

    #[test]
    fn a_replaced_entry_keeps_its_place() {
        let mut directory = Directory::new(NodeId::ROOT);
        directory.insert(b"a", target(2));
        directory.insert(b"b", target(3));
        directory.replace(b"a", target(9));
        let order: Vec<u64> = directory.after(0).map(|(_, _, target)| target.node.0).collect();
        assert_eq!(order, [9, 3]);
        assert_eq!(directory.get(b"a"), Some(target(9)));
        assert_eq!(directory.remove(b"c"), None);
    }
}
