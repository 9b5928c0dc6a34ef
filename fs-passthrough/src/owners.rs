//! The record locks of an inode's users, as the backing file has them.
//!
//! Each owner of locks on the mount, a process or an open file, is an open file description of its
//! own at the backing file, so the backing filesystem tells them apart and keeps each from what the
//! others have, here or elsewhere. It is opened at an owner's first lock and closed when the owner
//! closes the file, as who locks once does so often. What is had by whom is noted as well: only so
//! F_GETLK can name a process.
//!
//! Never known here: requests. Neighbours: `node` keeps one, `locks` uses it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use fusewire::proto::{Errno, Fh, FileLock, LockKind, LockOwner, Result};
use nix::fcntl::{FcntlArg, fcntl};
use parking_lot::Mutex;

use crate::error::Answer;

/// Locks of one inode at most, as each request for one looks at them all (`fs/locks.c,
/// posix_lock_inode`), and others wait for that.
const MOST: usize = 1 << 16;

/// Drops all.
const NOTHING: FileLock =
    FileLock { start: 0, end: FileLock::TO_EOF, kind: LockKind::UNLOCK, pid: 0 };

/// A lock that is wanted, or to be dropped.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    pub(crate) fh: Fh,
    pub(crate) owner: LockOwner,
    pub(crate) lock: FileLock,
    pub(crate) waits: bool,
}

/// The owners of an inode's locks.
#[derive(Debug, Default)]
pub(crate) struct Owners {
    owners: Mutex<Vec<Owner>>,
    /// Handles with locks of which the last that was heard is a close(2): if that was the last one,
    /// RELEASE is on its way, and with it the locks go.
    closing: Mutex<Vec<Fh>>,
}

#[derive(Debug)]
struct Owner {
    id: LockOwner,
    /// Who locked last; all that have one id are one process, but for the children of a thread.
    pid: u32,
    fd: Arc<OwnedFd>,
    /// Whether `fd` can have write locks.
    writes: bool,
    /// Calls that wait by this owner's descriptor.
    waiting: usize,
    /// The handle that it came by last.
    by: Fh,
    /// Apart from each other; what was set by one handle is as large as can be.
    held: Vec<Held>,
}

/// A lock, and the handle that it was set by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Held {
    lock: FileLock,
    by: Fh,
}

impl Owners {
    /// Sets or drops a lock, or gives the descriptor to wait by where that is wanted, or where what
    /// is in the way may be about to go; then [`Owners::waited`] must follow. `open` opens the
    /// file, for writing as well if it is true.
    ///
    /// # Errors
    /// EAGAIN where it is taken, ENOLCK where there are too many.
    pub(crate) fn set(
        &self,
        wanted: &Wanted,
        open: impl Fn(bool) -> Result<OwnedFd>,
    ) -> Result<Option<Arc<OwnedFd>>> {
        // Asked for first: what ends meanwhile has let go before.
        let waits = wanted.waits || self.is_closing();
        let mut owners = self.owners.lock();
        let known = owners.iter().position(|owner| owner.id == wanted.owner);
        let unlocks = wanted.lock.kind == LockKind::UNLOCK;
        if !unlocks && owners.iter().map(|owner| owner.held.len()).sum::<usize>() >= MOST {
            return Err(Errno::ENOLCK);
        }
        let at = match known {
            Some(at) => at,
            None if unlocks => return Ok(None),
            None => {
                let writes = wanted.lock.kind == LockKind::WRITE;
                owners.push(Owner::new(wanted, open(writes)?, writes));
                owners.len() - 1
            }
        };
        let owner = &mut owners[at];
        match owner.set(wanted, open) {
            Err(Errno::EAGAIN) if waits => {
                owner.waiting += 1;
                Ok(Some(Arc::clone(&owner.fd)))
            }
            done => done.map(|()| None),
        }
    }

    /// A wait by `fd` has come to its end.
    pub(crate) fn waited(
        &self,
        wanted: &Wanted,
        fd: &Arc<OwnedFd>,
        result: Result<()>,
    ) -> Result<()> {
        let mut owners = self.owners.lock();
        let Some(owner) = owners.iter_mut().find(|owner| owner.id == wanted.owner) else {
            unreachable!("an owner who waits stays");
        };
        owner.waiting -= 1;
        result?;
        if !Arc::ptr_eq(&owner.fd, fd) {
            // It has been widened meanwhile, and what `fd` has goes with it.
            apply(owner.fd.as_fd(), &wanted.lock)?;
        }
        note(&mut owner.held, Held { lock: wanted.lock, by: wanted.fh });
        Ok(())
    }

    /// The lock that is in the way, or one of kind UNLOCK. `other` is a descriptor of the file that
    /// has no such locks.
    pub(crate) fn find(
        &self,
        id: LockOwner,
        lock: &FileLock,
        other: BorrowedFd<'_>,
    ) -> Result<FileLock> {
        let owners = self.owners.lock();
        let own = owners.iter().find(|owner| owner.id == id);
        let fd = own.map_or(other, |owner| owner.fd.as_fd());
        let Some((found, pid)) = conflict(fd, lock)? else {
            return Ok(FileLock { kind: LockKind::UNLOCK, ..*lock });
        };
        // An open file description has none: it is one of ours, or nobody's.
        let holder = || holder(&owners, id, lock, &found).map_or(0, |owner| owner.pid);
        let pid = pid.unwrap_or_else(holder);
        Ok(FileLock { pid, ..found })
    }

    /// Which owner here is in the way of a lock that another one waits for.
    pub(crate) fn blocker(&self, id: LockOwner, lock: &FileLock) -> Option<LockOwner> {
        let owners = self.owners.lock();
        let own = owners.iter().find(|owner| owner.id == id)?;
        let (found, _) = conflict(own.fd.as_fd(), lock).ok()??;
        holder(&owners, id, lock, &found).map(|owner| owner.id)
    }

    /// Whether an owner has a write lock on part of a range.
    pub(crate) fn writes(&self, id: LockOwner, range: &FileLock) -> bool {
        let owners = self.owners.lock();
        let mut held = owners.iter().filter(|owner| owner.id == id).flat_map(|owner| &owner.held);
        held.any(|held| held.lock.kind == LockKind::WRITE && overlap(&held.lock, range))
    }

    /// Drops all that an owner has: it has closed a descriptor of the file.
    pub(crate) fn drop_owner(&self, id: LockOwner) {
        self.owners.lock().retain_mut(|owner| {
            let stays = owner.id != id;
            if !stays {
                owner.drop_if(|_| true);
            }
            stays || owner.waiting > 0
        });
    }

    /// A descriptor of a handle was closed. `whole` tells whether that has a lock of flock(2).
    pub(crate) fn closes(&self, fh: Fh, whole: bool) {
        let owners = self.owners.lock();
        let mut held = owners.iter().flat_map(|owner| &owner.held);
        if whole || held.any(|held| held.by == fh) {
            let mut closing = self.closing.lock();
            if !closing.contains(&fh) {
                closing.push(fh);
            }
        }
    }

    /// It is known to be open, or to have nothing any more.
    pub(crate) fn is_clear(&self, fh: Fh) {
        self.closing.lock().retain(|closing| *closing != fh);
    }

    /// Whether a lock may be on its way to be dropped.
    pub(crate) fn is_closing(&self) -> bool {
        !self.closing.lock().is_empty()
    }

    /// Nothing was on its way: there are other descriptors of those handles.
    pub(crate) fn stay_open(&self) {
        self.closing.lock().clear();
    }

    /// Drops what was set by a handle, which is gone. Only locks of an open file (F_OFD_SETLK) are
    /// still there: of these the kernel says nothing.
    pub(crate) fn drop_handle(&self, fh: Fh) {
        self.owners.lock().retain_mut(|owner| {
            owner.drop_if(|held| held.by == fh);
            owner.by != fh || owner.waiting > 0 || !owner.held.is_empty()
        });
        self.is_clear(fh);
    }
}

impl Held {
    fn unlock(&self) -> FileLock {
        FileLock { kind: LockKind::UNLOCK, ..self.lock }
    }
}

impl Owner {
    fn new(wanted: &Wanted, fd: OwnedFd, writes: bool) -> Self {
        let (id, pid) = (wanted.owner, wanted.lock.pid);
        let (fd, by) = (Arc::new(fd), wanted.fh);
        Self { id, pid, fd, writes, waiting: 0, by, held: Vec::new() }
    }

    fn set(&mut self, wanted: &Wanted, open: impl Fn(bool) -> Result<OwnedFd>) -> Result<()> {
        self.by = wanted.fh;
        if wanted.lock.kind == LockKind::WRITE && !self.writes {
            self.widen(open(true)?)?;
        }
        apply(self.fd.as_fd(), &wanted.lock)?;
        note(&mut self.held, Held { lock: wanted.lock, by: wanted.fh });
        if wanted.lock.kind != LockKind::UNLOCK {
            self.pid = wanted.lock.pid;
        }
        Ok(())
    }

    /// Moves to a descriptor that can have write locks. There are none so far, and read locks can
    /// be had twice, so nothing is without its lock at any time.
    fn widen(&mut self, fd: OwnedFd) -> Result<()> {
        for held in &self.held {
            apply(fd.as_fd(), &held.lock)?;
        }
        // Calls that wait may hold on to the one before, which must not be in our own way.
        for held in &self.held {
            apply(self.fd.as_fd(), &held.unlock())?;
        }
        (self.fd, self.writes) = (Arc::new(fd), true);
        Ok(())
    }

    /// What cannot be unlocked goes with the descriptor.
    fn drop_if(&mut self, gone: impl Fn(&Held) -> bool) {
        let fd = self.fd.as_fd();
        if !self.held.is_empty() && self.held.iter().all(&gone) {
            let _ = apply(fd, &NOTHING);
            self.held.clear();
        }
        self.held.retain(|held| {
            let gone = gone(held);
            if gone {
                let _ = apply(fd, &held.unlock());
            }
            !gone
        });
    }
}

fn apply(fd: BorrowedFd<'_>, lock: &FileLock) -> Result<()> {
    fcntl(fd, FcntlArg::F_OFD_SETLK(&raw(lock)?)).map_err(io::Error::from).answer().map(drop)
}

/// The first lock in the way, and the process that has it if that is known.
fn conflict(fd: BorrowedFd<'_>, lock: &FileLock) -> Result<Option<(FileLock, Option<u32>)>> {
    let mut found = raw(lock)?;
    fcntl(fd, FcntlArg::F_OFD_GETLK(&mut found)).map_err(io::Error::from).answer()?;
    let pid = u32::try_from(found.l_pid).ok().filter(|pid| *pid > 0);
    let found = cooked(&found);
    Ok((found.kind != LockKind::UNLOCK).then_some((found, pid)))
}

/// Who but `id` is in the way of a lock with one that the kernel has found.
fn holder<'a>(
    owners: &'a [Owner],
    id: LockOwner,
    lock: &FileLock,
    found: &FileLock,
) -> Option<&'a Owner> {
    let blocks = |Held { lock: held, .. }: &Held| {
        held.kind == found.kind && overlap(held, found) && overlap(held, lock)
    };
    owners.iter().find(|owner| owner.id != id && owner.held.iter().any(blocks))
}

/// Waits for a lock.
pub(crate) fn wait(fd: &OwnedFd, lock: &FileLock) -> rustix::io::Result<()> {
    let lock = raw(lock).map_err(|_| rustix::io::Errno::OVERFLOW)?;
    match fcntl(fd, FcntlArg::F_OFD_SETLKW(&lock)) {
        Ok(_) => Ok(()),
        Err(errno) => Err(rustix::io::Errno::from_raw_os_error(errno as i32)),
    }
}

/// As fcntl(2) has it.
fn raw(lock: &FileLock) -> Result<libc::flock> {
    let offset = |value: u64| libc::off_t::try_from(value).map_err(|_| Errno::EOVERFLOW);
    let to_eof = lock.end >= FileLock::TO_EOF;
    let len = if to_eof { 0 } else { lock.end.saturating_sub(lock.start) + 1 };
    let small = |value| libc::c_short::try_from(value).map_err(|_| Errno::EINVAL);
    Ok(libc::flock {
        l_type: libc::c_short::try_from(lock.kind.0).map_err(|_| Errno::EINVAL)?,
        l_whence: small(libc::SEEK_SET)?,
        l_start: offset(lock.start)?,
        l_len: offset(len)?,
        l_pid: 0,
    })
}

fn cooked(lock: &libc::flock) -> FileLock {
    let start = u64::try_from(lock.l_start).unwrap_or(0);
    let end = match u64::try_from(lock.l_len) {
        Ok(len) if len > 0 => start + len - 1,
        _ => FileLock::TO_EOF,
    };
    FileLock { start, end, kind: LockKind(u32::try_from(lock.l_type).unwrap_or(0)), pid: 0 }
}

fn overlap(one: &FileLock, other: &FileLock) -> bool {
    one.start <= other.end && other.start <= one.end
}

/// Notes what setting or dropping a lock makes of those that an owner has, as the kernel does it
/// (`fs/locks.c, posix_lock_inode`). Those of another handle stay apart: that may be about to go
/// with what it has, as the kernel gives the owner of its locks to the next open file.
fn note(held: &mut Vec<Held>, new: Held) {
    let Held { lock, by } = new;
    let mut whole = lock;
    let mut cut = Vec::new();
    held.retain(|old| {
        let FileLock { start, end, kind, .. } = old.lock;
        let touches = start <= lock.end.saturating_add(1) && lock.start <= end.saturating_add(1);
        if kind == lock.kind && touches && old.by == by {
            whole.start = whole.start.min(start);
            whole.end = whole.end.max(end);
        } else if overlap(&old.lock, &lock) {
            if start < lock.start {
                cut.push(Held { lock: FileLock { end: lock.start - 1, ..old.lock }, ..*old });
            }
            if end > lock.end {
                cut.push(Held { lock: FileLock { start: lock.end + 1, ..old.lock }, ..*old });
            }
        } else {
            return true;
        }
        false
    });
    held.append(&mut cut);
    if lock.kind != LockKind::UNLOCK {
        held.push(Held { lock: whole, by });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(kind: LockKind, start: u64, end: u64) -> Held {
        Held { lock: FileLock { start, end, kind, pid: 0 }, by: Fh(0) }
    }

    fn wanted(owner: u64, kind: LockKind, start: u64, end: u64) -> Wanted {
        let lock = FileLock { start, end, kind, pid: u32::try_from(owner).unwrap() + 1000 };
        Wanted { fh: Fh(owner), owner: LockOwner(owner), lock, waits: false }
    }

    fn file() -> (tempfile::NamedTempFile, impl Fn(bool) -> Result<OwnedFd>) {
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path().to_owned();
        let open = move |writes: bool| {
            let opened = std::fs::File::options().read(true).write(writes).open(&path);
            opened.map(OwnedFd::from).answer()
        };
        (file, open)
    }

    /// Byte by byte, against an array.
    #[test]
    fn ranges_are_split_and_merged_as_bytes_are() {
        let mut state = 1_u64;
        let mut random = |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) % below
        };
        let (mut noted, mut bytes) = (Vec::new(), [LockKind::UNLOCK; 40]);
        for _ in 0..5000 {
            let kind = [LockKind::READ, LockKind::WRITE, LockKind::UNLOCK]
                [usize::try_from(random(3)).unwrap()];
            let start = random(40);
            let end = start + random(40 - start);
            note(&mut noted, held(kind, start, end));
            bytes[usize::try_from(start).unwrap()..=usize::try_from(end).unwrap()].fill(kind);
            let mut shown = [LockKind::UNLOCK; 40];
            for Held { lock, .. } in &noted {
                let range =
                    usize::try_from(lock.start).unwrap()..=usize::try_from(lock.end).unwrap();
                assert!(shown[range.clone()].iter().all(|kind| *kind == LockKind::UNLOCK));
                shown[range].fill(lock.kind);
            }
            assert_eq!(shown, bytes);
            let changes = bytes.windows(2).filter(|two| two[0] != two[1]).count() + 1;
            let empty = bytes.split(|kind| *kind != LockKind::UNLOCK);
            let gaps = empty.filter(|gap| !gap.is_empty()).count();
            assert_eq!(noted.len(), changes - gaps, "as large as can be");
        }
        let mut ends = vec![held(LockKind::READ, 0, FileLock::TO_EOF)];
        note(&mut ends, held(LockKind::UNLOCK, 10, FileLock::TO_EOF));
        assert_eq!(ends, [held(LockKind::READ, 0, 9)]);
    }

    #[test]
    fn owners_keep_each_other_out_and_are_closed_with_the_file() {
        let (file, open) = file();
        let owners = Owners::default();
        let set = |wanted: Wanted| owners.set(&wanted, &open).map(|waits| assert!(waits.is_none()));
        set(wanted(1, LockKind::READ, 0, 9)).unwrap();
        set(wanted(2, LockKind::READ, 5, 9)).unwrap();
        assert_eq!(set(wanted(2, LockKind::WRITE, 0, 9)), Err(Errno::EAGAIN));
        // One that was opened for reading is widened, and keeps what it has.
        set(wanted(1, LockKind::WRITE, 0, 4)).unwrap();
        let probe = FileLock { start: 0, end: 9, kind: LockKind::WRITE, pid: 0 };
        let found = owners.find(LockOwner(2), &probe, file.as_fd()).unwrap();
        assert_eq!((found.kind, found.start, found.end), (LockKind::WRITE, 0, 4));
        assert_eq!(found.pid, 1001);
        assert!(owners.writes(LockOwner(1), &probe) && !owners.writes(LockOwner(2), &probe));
        set(wanted(2, LockKind::UNLOCK, 0, FileLock::TO_EOF)).unwrap();
        assert_eq!(set(wanted(2, LockKind::WRITE, 5, 5)), Err(Errno::EAGAIN));
        assert_eq!(owners.owners.lock().len(), 2);
        owners.drop_handle(Fh(2));
        assert_eq!(owners.owners.lock().len(), 1, "closed with the handle that it came by");
        assert_eq!(set(wanted(2, LockKind::WRITE, 5, 5)), Err(Errno::EAGAIN));
        owners.drop_handle(Fh(1));
        set(wanted(2, LockKind::WRITE, 5, 5)).unwrap();
        owners.drop_owner(LockOwner(2));
        assert!(owners.owners.lock().is_empty());
    }

    #[test]
    fn a_wait_by_the_descriptor_before_is_in_nobodys_way() {
        let (_file, open) = file();
        let owners = Owners::default();
        let set = |wanted: Wanted| owners.set(&wanted, &open);
        assert!(set(wanted(2, LockKind::WRITE, 50, 59)).unwrap().is_none());
        assert!(set(wanted(1, LockKind::READ, 0, 9)).unwrap().is_none());
        let waits = Wanted { waits: true, ..wanted(1, LockKind::READ, 50, 59) };
        let fd = set(waits).unwrap().expect("the descriptor to wait by");
        assert!(set(wanted(1, LockKind::WRITE, 0, 9)).unwrap().is_none(), "widened");
        owners.drop_owner(LockOwner(2));
        apply(fd.as_fd(), &waits.lock).unwrap();
        owners.waited(&waits, &fd, Ok(())).unwrap();
        drop(fd);
        assert_eq!(set(wanted(2, LockKind::WRITE, 50, 50)).unwrap_err(), Errno::EAGAIN);
    }

    /// The kernel may give the number of an open file that is gone to the next, whose requests may
    /// be served before the RELEASE of the other.
    #[test]
    fn what_a_handle_had_goes_without_what_the_next_has() {
        let (_file, open) = file();
        let owners = Owners::default();
        let set = |wanted: Wanted| owners.set(&wanted, &open).map(|_| ());
        set(wanted(1, LockKind::WRITE, 0, 9)).unwrap();
        set(Wanted { fh: Fh(7), ..wanted(1, LockKind::WRITE, 5, 6) }).unwrap();
        let find = |range| owners.find(LockOwner(2), &range, open(false).unwrap().as_fd()).unwrap();
        let all = FileLock { kind: LockKind::WRITE, ..NOTHING };
        let found = find(all);
        assert_eq!((found.start, found.end, found.pid), (0, 9, 1001), "by whatever handle");
        owners.drop_handle(Fh(1));
        let found = find(all);
        assert_eq!((found.start, found.end, found.pid), (5, 6, 1001));
        owners.drop_handle(Fh(7));
        assert_eq!(find(all).kind, LockKind::UNLOCK);
        assert!(owners.owners.lock().is_empty());
    }

    #[test]
    fn an_inode_has_so_many_locks() {
        let (_file, open) = file();
        let owners = Owners::default();
        let set = |wanted: Wanted| owners.set(&wanted, &open).map(|_| ());
        set(wanted(1, LockKind::READ, 0, 0)).unwrap();
        let many = (0..MOST as u64).map(|at| held(LockKind::READ, 2 * at, 2 * at));
        owners.owners.lock()[0].held = many.collect();
        assert_eq!(set(wanted(2, LockKind::READ, 0, 0)), Err(Errno::ENOLCK));
        set(wanted(1, LockKind::UNLOCK, 0, 9)).unwrap();
        set(wanted(2, LockKind::READ, 0, 0)).unwrap();
    }
}
