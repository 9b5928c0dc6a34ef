//! Waits for record locks that would never end, as each waits for the next one.
//!
//! The kernel finds such circles among processes (`fs/locks.c, posix_locks_deadlock`), but to it
//! the owners here are open files. So who is in whose way is asked for along the chain, each time
//! that a wait begins. What waits beside the mount is not known here.
//!
//! Neighbours: `owners` knows who is in the way, `locks` begins waits.

use std::sync::Arc;

use fusewire::proto::{Errno, FileLock, LockOwner, Result};
use parking_lot::Mutex;

use crate::node::Node;
use crate::owners::Wanted;

/// Those who wait for record locks, of the whole mount.
#[derive(Debug, Default)]
pub(crate) struct Waits(Mutex<Vec<Wait>>);

#[derive(Debug)]
struct Wait {
    node: Arc<Node>,
    owner: LockOwner,
    lock: FileLock,
}

/// A wait, until it is dropped.
#[derive(Debug)]
pub(crate) struct Begun<'a>(&'a Waits, LockOwner, FileLock);

impl Waits {
    /// A wait begins.
    ///
    /// # Errors
    /// EDEADLK where it would close a circle.
    pub(crate) fn begin(&self, node: &Arc<Node>, wanted: &Wanted) -> Result<Begun<'_>> {
        let &Wanted { owner, lock, .. } = wanted;
        let mut waits = self.0.lock();
        let new = Wait { node: Arc::clone(node), owner, lock };
        let mut last = &new;
        for _ in 0..=waits.len() {
            match last.node.owners().blocker(last.owner, &last.lock) {
                Some(blocker) if blocker == owner => return Err(Errno::EDEADLK),
                Some(blocker) => match waits.iter().find(|wait| wait.owner == blocker) {
                    Some(next) => last = next,
                    None => break,
                },
                None => break,
            }
        }
        waits.push(new);
        Ok(Begun(self, owner, lock))
    }
}

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        let mut waits = self.0.0.lock();
        let own = |wait: &Wait| wait.owner == self.1 && wait.lock == self.2;
        if let Some(at) = waits.iter().position(own) {
            waits.swap_remove(at);
        }
    }
}
