//! One inode as the kernel knows it: what holds it, how often it was looked up, and its time of
//! last change while pages come in late.
//!
//! Never known here: names, and other nodes. Neighbours: `table` keeps nodes, `data` writes.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use fusewire::proto::{Errno, NodeId, Result};
use parking_lot::Mutex;
use rustix::fs::{Statx, StatxFlags, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT, futimens};

use crate::attributes::KIND_REGULAR;
use crate::backing::{Backing, attributes};
use crate::error::Answer;
use crate::owners::Owners;
use crate::sys::FileHandle;
use crate::through::Through;

/// What tells inodes apart, of those that exist at one time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) device: (u32, u32),
    pub(crate) ino: u64,
}

impl Key {
    pub(crate) fn of(stat: &Statx) -> Self {
        Self { device: (stat.stx_dev_major, stat.stx_dev_minor), ino: stat.stx_ino }
    }
}

fn kind_of(stat: &Statx) -> u32 {
    u32::from(stat.stx_mode) >> 12
}

/// When it was made, where the filesystem keeps that.
fn born(stat: &Statx) -> Option<(i64, u32)> {
    let known = stat.stx_mask & StatxFlags::BTIME.bits() != 0;
    known.then_some((stat.stx_btime.tv_sec, stat.stx_btime.tv_nsec))
}

/// How many descriptors nodes and open directories hold.
#[derive(Debug, Default)]
pub(crate) struct Budget {
    limit: usize,
    used: AtomicUsize,
}

impl Budget {
    pub(crate) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { limit, used: AtomicUsize::new(0) })
    }

    /// Whether another descriptor may be held.
    pub(crate) fn has_room(&self) -> bool {
        self.used.load(Ordering::Relaxed) < self.limit
    }

    #[cfg(test)]
    pub(crate) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }
}

/// A descriptor that counts against the budget, and may exceed it.
#[derive(Debug)]
pub(crate) struct Held {
    fd: OwnedFd,
    budget: Arc<Budget>,
}

impl Held {
    pub(crate) fn new(fd: OwnedFd, budget: &Arc<Budget>) -> Self {
        budget.used.fetch_add(1, Ordering::Relaxed);
        Self { fd, budget: Arc::clone(budget) }
    }
}

impl AsFd for Held {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The time of last change that the kernel believes in, while late pages move the file's own.
///
/// With write-back the kernel owns mtime. It tells a new one by SETATTR, and nothing where the
/// writes fell into the tick of the time it had; then the WRITE that comes later must not count.
/// So what was there before the first of them is kept, and put back when the kernel has nothing
/// more in flight: at FLUSH, FSYNC and RELEASE.
#[derive(Debug, Default)]
struct Late {
    in_flight: u32,
    /// Other changes under way, which will tell what mtime is then.
    moving: u32,
    kept: Option<Timespec>,
    /// When the last of them ended.
    ended: Duration,
}

impl Late {
    /// Whether `mtime` is none that late pages can have left, by one clock: others have changed the
    /// file. What they set to a time between `kept` and `ended` is not told from it.
    fn is_of_others(&self, kept: Timespec, mtime: Timespec) -> bool {
        let of = |time: Timespec| (time.tv_sec, time.tv_nsec);
        let ended = (self.ended.as_secs().cast_signed(), self.ended.subsec_nanos().into());
        let (kept, mtime) = (of(kept), of(mtime));
        mtime != kept && (mtime > ended || mtime < kept && kept <= ended)
    }
}

/// An inode.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) id: NodeId,
    pub(crate) key: Key,
    /// The number that is shown.
    pub(crate) ino: u64,
    /// The type: mode >> 12.
    pub(crate) kind: u32,
    born: Option<(i64, u32)>,
    fd: OnceLock<Held>,
    handle: Option<FileHandle>,
    /// Changed under the lock of the table's keys.
    pub(crate) lookups: AtomicU64,
    /// Of a directory: whether the name looked up last was that of a known node.
    pub(crate) lists_known: AtomicBool,
    /// Open handles that may write.
    pub(crate) writers: AtomicU32,
    /// When the last of them was closed, in seconds; 0: none was.
    written: AtomicU32,
    /// The kernel may have attributes that it was told while there were none.
    pub(crate) kept_for_long: AtomicBool,
    /// Open handles, and who serves them.
    pub(crate) through: Through,
    /// Who has locks; there from the first request for one.
    pub(crate) owners: OnceLock<Box<Owners>>,
    /// Set once others have changed what the kernel does not ask for again (with `--watch`).
    pub(crate) outdated: AtomicBool,
    /// The directory and the name that it was looked up by last (with `--watch`).
    pub(crate) place: Mutex<Option<Box<Named>>>,
    late: Mutex<Late>,
    /// The last look, and whether its time was settled.
    seen: Mutex<Option<(Version, bool)>>,
}

/// Seconds until what a file takes on the disk is settled, mostly: backing filesystems compress
/// pages, and give back what they took in advance, when they write them or at the last close.
const SETTLES: u32 = 60;

/// Seconds since some time, never 0.
fn coarse_seconds() -> u32 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::MonotonicCoarse);
    u32::try_from(now.tv_sec).unwrap_or(u32::MAX).max(1)
}

/// What tells that data have changed: mtime, ctime and size. Flat, as a million nodes have it.
type Version = (i64, u32, i64, u32, u64);

/// A directory and a name in it.
type Named = (NodeId, Box<[u8]>);

/// A descriptor of a node, for a short time.
#[derive(Debug)]
pub(crate) enum Pin<'a> {
    Held(BorrowedFd<'a>),
    Opened(Arc<OwnedFd>),
}

impl AsFd for Pin<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Held(fd) => *fd,
            Self::Opened(fd) => fd.as_fd(),
        }
    }
}

impl Node {
    /// A node held by `fd`, or by its handle where the budget is spent and it has one; then the
    /// descriptor comes back. `ino` is the number to show.
    pub(crate) fn new(
        (id, ino): (NodeId, u64),
        stat: &Statx,
        fd: OwnedFd,
        backing: &Backing,
        budget: &Arc<Budget>,
    ) -> (Self, Option<OwnedFd>) {
        let handle = (!budget.has_room()).then(|| backing.handle_of(fd.as_fd())).flatten();
        let held = OnceLock::new();
        let spare = if handle.is_none() {
            let _ = held.set(Held::new(fd, budget));
            None
        } else {
            Some(fd)
        };
        let node = Self {
            id,
            key: Key::of(stat),
            ino,
            kind: kind_of(stat),
            born: born(stat),
            fd: held,
            handle,
            lookups: AtomicU64::new(1),
            lists_known: AtomicBool::new(false),
            writers: AtomicU32::new(0),
            written: AtomicU32::new(0),
            kept_for_long: AtomicBool::new(false),
            through: Through::default(),
            owners: OnceLock::new(),
            outdated: AtomicBool::new(false),
            place: Mutex::default(),
            late: Mutex::default(),
            seen: Mutex::default(),
        };
        (node, spare)
    }

    /// Whether it is a regular file.
    pub(crate) fn is_regular(&self) -> bool {
        self.kind == KIND_REGULAR
    }

    /// A handle that could write is closed.
    pub(crate) fn writer_left(&self) {
        self.written.store(coarse_seconds(), Ordering::SeqCst);
        self.writers.fetch_sub(1, Ordering::SeqCst);
    }

    /// Whether the kernel may keep attributes for long, as nobody has the file open for writing, or
    /// had a while ago. Remembers that it may have some.
    pub(crate) fn is_kept_for_long(&self) -> bool {
        if self.writers.load(Ordering::SeqCst) > 0 {
            return false;
        }
        let written = self.written.load(Ordering::SeqCst);
        if written != 0 && coarse_seconds().saturating_sub(written) < SETTLES {
            return false;
        }
        if !self.kept_for_long.load(Ordering::SeqCst) {
            self.kept_for_long.store(true, Ordering::SeqCst);
        }
        // Who has opened it since may have looked too early to see this.
        self.writers.load(Ordering::SeqCst) == 0
    }

    /// It was looked up, or moved, by this name.
    pub(crate) fn is_at(&self, parent: NodeId, name: &[u8]) {
        let mut place = self.place.lock();
        if place.as_ref().is_none_or(|known| known.0 != parent || *known.1 != *name) {
            *place = Some(Box::new((parent, name.into())));
        }
    }

    /// The `O_PATH` descriptor that holds it, if one does.
    pub(crate) fn held(&self) -> Option<BorrowedFd<'_>> {
        self.fd.get().map(|held| held.fd.as_fd())
    }

    /// An `O_PATH` descriptor by its handle.
    ///
    /// # Errors
    /// ESTALE if it is gone.
    pub(crate) fn open(&self, backing: &Backing) -> Result<OwnedFd> {
        self.handle.as_ref().map_or(Err(Errno::ESTALE), |handle| backing.open_handle(handle))
    }

    /// Whether `fd`, which has the same key, refers to the same inode. One that a descriptor holds
    /// cannot have been replaced.
    pub(crate) fn is(&self, fd: BorrowedFd<'_>, backing: &Backing) -> bool {
        self.fd.get().is_some() || backing.handle_of(fd) == self.handle
    }

    /// Whether attributes with the same key, which were read a moment ago by its name, are its own.
    /// The inode that a descriptor holds cannot have been replaced, but in that moment another one
    /// may have given its number away.
    pub(crate) fn is_of(&self, stat: &Statx, handle: impl FnOnce() -> Option<FileHandle>) -> bool {
        self.kind == kind_of(stat)
            && self.born.is_some()
            && self.born == born(stat)
            && (self.fd.get().is_some() || handle() == self.handle)
    }

    /// Has a descriptor hold it from now on: without a name a handle may not be enough.
    pub(crate) fn hold(&self, fd: OwnedFd, budget: &Arc<Budget>) {
        self.fd.get_or_init(|| Held::new(fd, budget));
    }

    /// A WRITE of late pages begins.
    pub(crate) fn late_write_begins(&self, fd: BorrowedFd<'_>) -> Result<()> {
        let mut late = self.late.lock();
        if late.kept.is_none() {
            late.kept = Some(mtime_of(fd)?);
        }
        late.in_flight += 1;
        Ok(())
    }

    /// It has ended.
    pub(crate) fn late_write_ended(&self) {
        let mut late = self.late.lock();
        late.in_flight = late.in_flight.saturating_sub(1);
        late.ended = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    }

    /// Puts the time back that late pages have moved, where we may: a file that is not ours keeps
    /// the later one, which is no reason to tell its writer of an error. The time of a change that
    /// others made since stays.
    pub(crate) fn settle(&self, fd: BorrowedFd<'_>) {
        let mut late = self.late.lock();
        let Some(mtime) = late.kept.filter(|_| late.moving == 0) else { return };
        let is_theirs = late.in_flight == 0
            && mtime_of(fd).is_ok_and(|present| late.is_of_others(mtime, present));
        if !is_theirs {
            let nothing = Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT };
            let _ = futimens(fd, &Timestamps { last_access: nothing, last_modification: mtime });
        }
        if late.in_flight == 0 {
            late.kept = None;
        }
    }

    /// Runs a change of the data that moves mtime, and remembers where to.
    pub(crate) fn move_mtime<T>(
        &self,
        fd: BorrowedFd<'_>,
        change: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        self.move_begins();
        let done = change();
        self.move_ended(fd, done.is_ok())?;
        done
    }

    /// A change of the data that moves mtime is on its way.
    pub(crate) fn move_begins(&self) {
        self.late.lock().moving += 1;
    }

    /// It has ended, and `done` tells whether anything was changed.
    pub(crate) fn move_ended(&self, fd: BorrowedFd<'_>, done: bool) -> Result<()> {
        let mut late = self.late.lock();
        late.moving = late.moving.saturating_sub(1);
        if done && late.kept.is_some() {
            late.kept = Some(mtime_of(fd)?);
        }
        Ok(())
    }

    /// Runs a change of times that sets mtime to `time`, or to the present where that says so.
    pub(crate) fn set_mtime(
        &self,
        fd: BorrowedFd<'_>,
        time: Timespec,
        change: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        let mut late = self.late.lock();
        change()?;
        if late.kept.is_some() {
            late.kept = Some(if time.tv_nsec == UTIME_NOW { mtime_of(fd)? } else { time });
        }
        Ok(())
    }

    /// Whether the data are still those of the last look, which this is from now on. What this
    /// mount wrote since is a change as well: nobody can tell whether it is all that was written.
    pub(crate) fn is_unchanged(&self, stat: &Statx) -> bool {
        self.look(stat).is_some()
    }

    /// The same, for who must not miss a change that came so soon after the last one that both have
    /// one time.
    pub(crate) fn is_surely_unchanged(&self, stat: &Statx) -> bool {
        self.look(stat) == Some(true)
    }

    /// Whether the time was settled at the last look, if it looked the same.
    fn look(&self, stat: &Statx) -> Option<bool> {
        let (mtime, ctime) = (stat.stx_mtime, stat.stx_ctime);
        let version = (mtime.tv_sec, mtime.tv_nsec, ctime.tv_sec, ctime.tv_nsec, stat.stx_size);
        let before = self.seen.lock().replace((version, is_settled(stat)));
        before.filter(|(seen, _)| *seen == version).map(|(_, settled)| settled)
    }

    /// Who has locks, or will have.
    pub(crate) fn owners(&self) -> &Owners {
        self.owners.get_or_init(Box::default)
    }

    /// Forgets the last look.
    pub(crate) fn unsee(&self) {
        *self.seen.lock() = None;
    }

    /// The time of last change that counts, where it is not the file's own.
    pub(crate) fn kept_mtime(&self) -> Option<Timespec> {
        self.late.lock().kept
    }
}

/// Within this a file can change again without another time, where the backing filesystem tells
/// time by the tick.
const TICKS: Duration = Duration::from_millis(20);

/// Whether the next change will have another time.
fn is_settled(stat: &Statx) -> bool {
    let (mtime, ctime) = (stat.stx_mtime, stat.stx_ctime);
    let last = (mtime.tv_sec, mtime.tv_nsec).max((ctime.tv_sec, ctime.tv_nsec));
    let last = Duration::new(u64::try_from(last.0).unwrap_or(0), last.1);
    (SystemTime::UNIX_EPOCH + last).elapsed().is_ok_and(|age| age > TICKS)
}

fn mtime_of(fd: BorrowedFd<'_>) -> Result<Timespec> {
    let time = attributes(fd).answer()?.stx_mtime;
    Ok(Timespec { tv_sec: time.tv_sec, tv_nsec: time.tv_nsec.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whose_a_time_is() {
        let time = |tv_sec| Timespec { tv_sec, tv_nsec: 5 };
        let late = Late { ended: Duration::new(20, 5), ..Late::default() };
        // What is kept, what is there.
        for ours in [(10, 10), (10, 15), (10, 20), (30, 15), (30, 30)] {
            assert!(!late.is_of_others(time(ours.0), time(ours.1)), "{ours:?}");
        }
        for theirs in [(10, 21), (10, 9), (30, 29), (30, 31)] {
            assert!(late.is_of_others(time(theirs.0), time(theirs.1)), "{theirs:?}");
        }
    }
}
