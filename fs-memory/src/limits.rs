//! What may be used: bytes of file data, attribute values and targets, and inodes.
//!
//! Room is taken before memory is, so the limits hold under races. What is taken is a [`Lease`],
//! whose drop gives it back. Whoever wants to know when much has become free is told.
//!
//! Never known here: what the room is for.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::Thread;

use fusewire::proto::{Errno, Result};

#[derive(Debug)]
struct Limit {
    max: u64,
    used: AtomicU64,
}

impl Limit {
    fn new(max: u64) -> Self {
        Self { max, used: AtomicU64::new(0) }
    }

    fn take(&self, count: u64) -> Result<()> {
        let take = |used: u64| used.checked_add(count).filter(|sum| *sum <= self.max);
        match self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take) {
            Ok(_) => Ok(()),
            Err(_) => Err(Errno::ENOSPC),
        }
    }

    fn left(&self) -> u64 {
        self.max - self.used.load(Ordering::Relaxed)
    }

    fn give_back(&self, count: u64) {
        self.used.fetch_sub(count, Ordering::Relaxed);
    }
}

/// Bytes that become free before anybody is told.
const MUCH: u64 = 64 << 20;

/// More than all CPUs together take in a few milliseconds.
const BYTES_SOON: u64 = 256 << 20;
const INODES_SOON: u64 = 16 << 10;

/// The limits of one filesystem.
#[derive(Debug)]
pub(crate) struct Limits {
    bytes: Limit,
    inodes: Limit,
    /// Bytes that became free since somebody was told.
    freed: AtomicU64,
    /// Who is told, by unparking it.
    told: OnceLock<Thread>,
}

impl Limits {
    pub(crate) fn new(bytes: u64, inodes: u64) -> Arc<Self> {
        Arc::new(Self {
            bytes: Limit::new(bytes),
            inodes: Limit::new(inodes),
            freed: AtomicU64::new(0),
            told: OnceLock::new(),
        })
    }

    /// From now on `thread` is unparked each time that much has become free.
    pub(crate) fn tell(&self, thread: Thread) {
        // A second one has nothing to add: the heap is one.
        let _ = self.told.set(thread);
    }

    fn free(&self, bytes: u64) {
        self.bytes.give_back(bytes);
        if self.freed.fetch_add(bytes, Ordering::Relaxed) + bytes >= MUCH {
            self.freed.store(0, Ordering::Relaxed);
            if let Some(thread) = self.told.get() {
                thread.unpark();
            }
        }
    }

    /// Whether no more is left than may be taken in a few milliseconds.
    pub(crate) fn are_near(&self) -> bool {
        self.bytes.left() < BYTES_SOON || self.inodes.left() < INODES_SOON
    }

    /// Bytes: all, and those in use.
    pub(crate) fn bytes(&self) -> (u64, u64) {
        (self.bytes.max, self.bytes.used.load(Ordering::Relaxed))
    }

    /// Inodes: all, and those in use.
    pub(crate) fn inodes(&self) -> (u64, u64) {
        (self.inodes.max, self.inodes.used.load(Ordering::Relaxed))
    }
}

/// Bytes that are in use; they are given back when this is dropped.
#[derive(Debug)]
pub(crate) struct Lease {
    limits: Arc<Limits>,
    bytes: u64,
}

impl Lease {
    pub(crate) fn new(limits: &Arc<Limits>) -> Self {
        Self { limits: Arc::clone(limits), bytes: 0 }
    }

    /// Takes `bytes` more, or none: ENOSPC.
    pub(crate) fn grow(&mut self, bytes: u64) -> Result<()> {
        self.limits.bytes.take(bytes)?;
        self.bytes += bytes;
        Ok(())
    }

    /// Gives `bytes` back.
    pub(crate) fn shrink(&mut self, bytes: u64) {
        debug_assert!(bytes <= self.bytes, "no more is given back than was taken");
        self.bytes -= bytes;
        self.limits.free(bytes);
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.limits.free(self.bytes);
    }
}

/// One inode in use.
#[derive(Debug)]
pub(crate) struct InodeLease(Arc<Limits>);

impl InodeLease {
    /// Takes an inode: ENOSPC if none is left.
    pub(crate) fn new(limits: &Arc<Limits>) -> Result<Self> {
        limits.inodes.take(1)?;
        Ok(Self(Arc::clone(limits)))
    }
}

impl Drop for InodeLease {
    fn drop(&mut self) {
        self.0.inodes.give_back(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_hold_and_leases_return() {
        let limits = Limits::new(100, 1);
        let mut one = Lease::new(&limits);
        one.grow(60).unwrap();
        let mut two = Lease::new(&limits);
        assert_eq!(two.grow(41), Err(Errno::ENOSPC));
        two.grow(40).unwrap();
        one.shrink(10);
        assert_eq!(limits.bytes(), (100, 90));
        drop((one, two));
        assert_eq!(limits.bytes().1, 0);
        assert_eq!(Limits::new(u64::MAX, 1).bytes.take(u64::MAX), Ok(()));
        let inode = InodeLease::new(&limits).unwrap();
        assert!(InodeLease::new(&limits).is_err());
        drop(inode);
        assert!(InodeLease::new(&limits).is_ok());
    }
}
