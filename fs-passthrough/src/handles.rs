//! Open files and directories, by the number that the kernel has for them.
//!
//! Never known here: what is done with them. Neighbours: `data`, `listing`.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use fusewire::Backing;
use fusewire::proto::{Errno, Fh, LockKind, Result};
use parking_lot::{Mutex, RwLock};
use slab::Slab;

use crate::data::{Data, Pages};
use crate::node::Node;
use crate::through::Server;
use crate::watch::tell::{Desk, News};

const PARTS: usize = 16;

/// Things by number.
#[derive(Debug)]
pub(crate) struct Handles<T> {
    parts: [RwLock<Slab<Arc<T>>>; PARTS],
    next: AtomicUsize,
}

impl<T> Default for Handles<T> {
    fn default() -> Self {
        Self { parts: std::array::from_fn(|_| RwLock::default()), next: AtomicUsize::new(0) }
    }
}

impl<T> Handles<T> {
    /// Takes it in; it stays until it is removed.
    pub(crate) fn insert(&self, thing: Arc<T>) -> Fh {
        let part = self.next.fetch_add(1, Ordering::Relaxed) % PARTS;
        let index = self.parts[part].write().insert(thing);
        Fh((index * PARTS + part) as u64)
    }

    /// The thing of a number.
    ///
    /// # Errors
    /// EBADF where there is none.
    pub(crate) fn get(&self, fh: Fh) -> Result<Arc<T>> {
        let number = usize::try_from(fh.0).map_err(|_| Errno::EBADF)?;
        self.parts[number % PARTS].read().get(number / PARTS).cloned().ok_or(Errno::EBADF)
    }

    /// Takes it out.
    pub(crate) fn remove(&self, fh: Fh) -> Result<Arc<T>> {
        let number = usize::try_from(fh.0).map_err(|_| Errno::EBADF)?;
        self.parts[number % PARTS].write().try_remove(number / PARTS).ok_or(Errno::EBADF)
    }
}

/// A second descriptor for transfers past the backing filesystem's page cache.
#[derive(Debug)]
pub(crate) struct Direct {
    pub(crate) fd: Arc<OwnedFd>,
    /// What addresses must be multiples of.
    pub(crate) memory: usize,
    /// What offsets and lengths must be multiples of.
    pub(crate) offset: u64,
    /// The length that the file was seen to have, at least. Should it have less by now, an answer
    /// that counts on this is made whole at more cost.
    pub(crate) seen: AtomicU64,
}

/// An open file.
#[derive(Debug)]
pub(crate) struct OpenFile {
    pub(crate) node: Arc<Node>,
    pub(crate) fd: Arc<OwnedFd>,
    pub(crate) direct: Option<Direct>,
    pub(crate) server: Server,
    writes: bool,
    /// Whether all that is written is appended, wherever it belongs.
    pub(crate) appends: bool,
    /// Set once the backing filesystem has said that it cannot tell what it has in memory.
    pub(crate) waits: AtomicBool,
    /// The lock of flock(2) that it has.
    pub(crate) whole: Mutex<LockKind>,
    /// Who is told when it was the last one of what others have changed.
    watch: Option<Arc<Desk>>,
}

impl OpenFile {
    /// A handle of `node`; the first one that is open has the kernel serve it by `register`, or
    /// not.
    pub(crate) fn new(
        node: Arc<Node>,
        data: Data,
        register: impl FnOnce(BorrowedFd<'_>) -> Option<Backing>,
        watch: Option<Arc<Desk>>,
    ) -> Self {
        let Data { fd, direct, pages, reads, writes } = data;
        let appends = pages == Pages::Appended;
        let server = node.through.enter(|| register(fd.as_fd()));
        let direct = direct.filter(|_| !server.is_kernel());
        if server.is_kernel() && reads && writes {
            node.through.may_be_mapped();
        }
        if writes {
            node.writers.fetch_add(1, Ordering::SeqCst);
        }
        let (fd, waits) = (Arc::new(fd), AtomicBool::new(false));
        let whole = Mutex::new(LockKind::UNLOCK);
        Self { node, fd, direct, server, writes, appends, waits, whole, watch }
    }
}

impl AsFd for OpenFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Drop for OpenFile {
    fn drop(&mut self) {
        if self.writes {
            self.node.writer_left();
        }
        self.node.through.leave();
        if let Some(desk) = &self.watch
            && self.node.outdated.load(Ordering::SeqCst)
        {
            desk.node(self.node.id, News::ATTRIBUTES.owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_taken_once() {
        let handles = Handles::default();
        let numbers: Vec<Fh> = (0..100).map(|thing| handles.insert(Arc::new(thing))).collect();
        for (thing, fh) in numbers.iter().enumerate() {
            assert_eq!(*handles.get(*fh).unwrap(), thing);
        }
        assert_eq!(*handles.remove(numbers[40]).unwrap(), 40);
        assert_eq!(handles.get(numbers[40]).unwrap_err(), Errno::EBADF);
        assert_eq!(handles.remove(numbers[40]).unwrap_err(), Errno::EBADF);
        assert_eq!(handles.get(Fh(u64::MAX)).unwrap_err(), Errno::EBADF);
    }
}
