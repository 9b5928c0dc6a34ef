//! A filesystem's own I/O, on the ring of the shard that serves the request.
//!
//! A handler awaits an operation; the shard submits it with everything else of its turn and polls
//! the handler again when it is complete. Data are read into the answer's room and written from
//! the request's payload: the kernel moves them once. EINTR is retried and short counts are made
//! whole here, so that nobody else has to.
//!
//! # Invariant I9
//! A slot with an operation in flight is not answered before that is complete, though its future
//! may be dropped, or forgotten, meanwhile. Whoever gave room for a READ cannot use it until then.
//!
//! Never known here: what the files are. Neighbours: `reply` has the room, `shard` submits.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, Waker};

use fusewire_proto::flags::FallocateMode;
use fusewire_proto::{Errno, Result};
use nix::errno::Errno as SystemError;
use nix::sys::uio::pread;
use slab::Slab;

use crate::reply::{ReadBuf, Source};
use crate::sys::arena::{Arena, Memory};
use crate::sys::file::FileOperation;
use crate::sys::ring::Ring;

/// Operations of a shard's handlers.
#[derive(Debug)]
pub(crate) struct Desk {
    arena: Rc<Arena>,
    entries: RefCell<Slab<Entry>>,
    /// Not yet pushed.
    fresh: RefCell<Vec<Fresh>>,
    /// To be cancelled, by index.
    unwanted: RefCell<Vec<usize>>,
    /// Operations in flight, per slot.
    in_flight: Box<[Cell<usize>]>,
}

#[derive(Debug)]
struct Entry {
    slot: usize,
    state: State,
    /// Open until the kernel is done with it.
    _file: Arc<OwnedFd>,
    /// What is written, where it is not in the slot.
    _bytes: Option<Box<[u8]>>,
}

#[derive(Debug)]
enum State {
    Running(Waker),
    Done(i32),
    /// Its future is gone.
    Abandoned,
}

#[derive(Debug)]
struct Fresh {
    index: usize,
    fd: RawFd,
    operation: FileOperation,
}

impl Desk {
    pub(crate) fn new(arena: &Rc<Arena>, slots: usize) -> Self {
        Self {
            arena: Rc::clone(arena),
            entries: RefCell::new(Slab::with_capacity(slots)),
            fresh: RefCell::new(Vec::with_capacity(slots)),
            unwanted: RefCell::default(),
            in_flight: (0..slots).map(|_| Cell::new(0)).collect(),
        }
    }

    /// Operations of a slot that the kernel may still be at.
    pub(crate) fn in_flight(&self, slot: usize) -> usize {
        self.in_flight[slot].get()
    }

    /// The same for all slots.
    pub(crate) fn all_in_flight(&self) -> usize {
        self.in_flight.iter().map(Cell::get).sum()
    }

    /// Whether no handler has anything under way.
    pub(crate) fn is_idle(&self) -> bool {
        self.entries.borrow().is_empty()
    }

    /// Pushes what the handlers began since the last time. `key` makes the key of an operation.
    pub(crate) fn push(&self, ring: &mut Ring, key: impl Fn(usize) -> u64) -> std::io::Result<()> {
        for Fresh { index, fd, operation } in self.fresh.borrow_mut().drain(..) {
            ring.file(key(index), fd, operation)?;
        }
        for index in self.unwanted.borrow_mut().drain(..) {
            ring.cancel(key(index))?;
        }
        Ok(())
    }

    /// Ends what was not pushed yet: nobody will push it.
    pub(crate) fn drop_fresh(&self) {
        for fresh in self.fresh.borrow_mut().drain(..) {
            self.settle(fresh.index, -libc::ECANCELED);
        }
        self.unwanted.borrow_mut().clear();
    }

    /// Takes the completion of an operation. Returns its slot, and whom to wake.
    pub(crate) fn settle(&self, index: usize, result: i32) -> (usize, Option<Waker>) {
        let mut entries = self.entries.borrow_mut();
        let entry = &mut entries[index];
        let slot = entry.slot;
        self.in_flight[slot].update(|count| count - 1);
        match std::mem::replace(&mut entry.state, State::Done(result)) {
            State::Running(waker) => (slot, Some(waker)),
            State::Abandoned | State::Done(_) => {
                entries.remove(index);
                (slot, None)
            }
        }
    }

    /// Gives up what a slot still has in flight: its future is gone, so nobody waits for it.
    pub(crate) fn give_up(&self, slot: usize) {
        for (index, entry) in self.entries.borrow_mut().iter_mut() {
            if entry.slot == slot && matches!(entry.state, State::Running(_)) {
                entry.state = State::Abandoned;
                self.unwanted.borrow_mut().push(index);
            }
        }
    }

    /// Forgets the memory that the kernel may still use (I6).
    pub(crate) fn leak(&self) {
        std::mem::forget(self.entries.take());
        std::mem::forget(Rc::clone(&self.arena));
    }

    fn begin(
        &self,
        slot: usize,
        file: &Arc<OwnedFd>,
        operation: FileOperation,
        bytes: Option<Box<[u8]>>,
    ) -> Running<'_> {
        let (fd, file) = (file.as_raw_fd(), Arc::clone(file));
        let state = State::Running(Waker::noop().clone());
        let entry = Entry { slot, state, _file: file, _bytes: bytes };
        let index = self.entries.borrow_mut().insert(entry);
        self.in_flight[slot].update(|count| count + 1);
        self.fresh.borrow_mut().push(Fresh { index, fd, operation });
        Running { desk: self, index: Some(index) }
    }
}

/// An operation that was begun. Dropped, it is cancelled, and the slot waits for that.
struct Running<'a> {
    desk: &'a Desk,
    index: Option<usize>,
}

impl Running<'_> {
    async fn result(mut self) -> Result<usize> {
        let result = poll_fn(|cx| {
            let Some(index) = self.index else { unreachable!("it is ready once") };
            let mut entries = self.desk.entries.borrow_mut();
            match &mut entries[index].state {
                State::Running(waker) => {
                    waker.clone_from(cx.waker());
                    Poll::Pending
                }
                State::Done(result) => {
                    let result = *result;
                    entries.remove(index);
                    self.index = None;
                    Poll::Ready(result)
                }
                State::Abandoned => unreachable!("only a dropped future abandons"),
            }
        })
        .await;
        usize::try_from(result).map_err(|_| Errno::new(-result).unwrap_or(Errno::EIO))
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let Some(index) = self.index else { return };
        let mut entries = self.desk.entries.borrow_mut();
        if let State::Done(_) = entries[index].state {
            entries.remove(index);
        } else {
            entries[index].state = State::Abandoned;
            self.desk.unwanted.borrow_mut().push(index);
        }
    }
}

/// The way to a filesystem's own files; see [`crate::Context::io`].
///
/// Offsets and lengths are bytes. An operation keeps its file open until the kernel is done with
/// it, also where the future was dropped before.
#[derive(Clone, Copy, Debug)]
pub struct Io<'a> {
    pub(crate) desk: &'a Desk,
    pub(crate) slot: usize,
}

impl Io<'_> {
    /// Reads into the answer from `offset` of the file on: as much as was asked for, or to the end
    /// of the file. Returns how much that was.
    ///
    /// Until this is ready `out` is the kernel's: dropped before, it leaves `out` unusable, and
    /// touching it panics (EIO).
    ///
    /// # Errors
    /// What pread(2) says. EAGAIN as well as EIO of a file that was opened with `O_NONBLOCK`.
    pub async fn read_at(
        &self,
        file: &Arc<OwnedFd>,
        out: &mut ReadBuf<'_>,
        offset: u64,
    ) -> Result<usize> {
        let mut done = 0;
        while out.remaining() > 0 {
            let room = out.lend();
            let at = self.desk.arena.memory(self.slot, room);
            let operation = FileOperation::Read { at, offset: offset + done as u64 };
            match self.desk.begin(self.slot, file, operation, None).result().await {
                Ok(count) => {
                    out.take_back(count);
                    done += count;
                    if count == 0 {
                        break;
                    }
                }
                Err(errno) => {
                    out.take_back(0);
                    if errno != Errno::EINTR {
                        return if done > 0 { Ok(done) } else { Err(errno) };
                    }
                }
            }
        }
        Ok(done)
    }

    /// Fills the answer as [`Io::read_at`] does, as the last thing that a handler of READ does:
    /// where the transport can, the kernel sends the answer right behind the data, and the shard
    /// sleeps on. That pays where the data come from a device, not where they are cached.
    ///
    /// `end` is the length of the file: what lies beyond is not asked for.
    ///
    /// # Errors
    /// As [`Io::read_at`]; errors that come later reach the caller by themselves.
    pub async fn answer_from(
        &self,
        file: &Arc<OwnedFd>,
        out: &mut ReadBuf<'_>,
        offset: u64,
        end: u64,
    ) -> Result<()> {
        out.limit(usize::try_from(end.saturating_sub(offset)).unwrap_or(usize::MAX));
        if out.follows() && out.remaining() > 0 {
            out.promise(Source { file: Arc::clone(file), offset });
            return Ok(());
        }
        self.read_at(file, out, offset).await.map(drop)
    }

    /// Writes `data` at `offset` of the file. Data of the request go from where they lie; others
    /// are copied first. Returns how much was written: all, but for an error behind the first
    /// bytes.
    ///
    /// # Errors
    /// What pwrite(2) says, if nothing was written.
    pub async fn write_at(&self, file: &Arc<OwnedFd>, data: &[u8], offset: u64) -> Result<usize> {
        let place = self.desk.arena.place_of(self.slot, data);
        let mut done = 0;
        while done < data.len() {
            let (from, bytes) = match &place {
                Some(place) => {
                    let rest = place.start + done..place.end;
                    (self.desk.arena.memory(self.slot, rest), None)
                }
                None => {
                    let bytes: Box<[u8]> = data[done..].into();
                    (Memory::of(&bytes), Some(bytes))
                }
            };
            let operation = FileOperation::Write { from, offset: offset + done as u64 };
            match self.desk.begin(self.slot, file, operation, bytes).result().await {
                Ok(0) => break,
                Ok(count) => done += count,
                Err(Errno::EINTR) => {}
                Err(_) if done > 0 => break,
                Err(errno) => return Err(errno),
            }
        }
        Ok(done)
    }

    /// Makes what was written last; with `data_only` as fdatasync(2).
    ///
    /// # Errors
    /// What fsync(2) says.
    pub async fn sync(&self, file: &Arc<OwnedFd>, data_only: bool) -> Result<()> {
        self.retried(file, FileOperation::Sync { data_only }).await
    }

    /// Reserves, zeroes or frees a range, as fallocate(2) does.
    ///
    /// # Errors
    /// What fallocate(2) says.
    pub async fn allocate(
        &self,
        file: &Arc<OwnedFd>,
        mode: FallocateMode,
        offset: u64,
        len: u64,
    ) -> Result<()> {
        let mode = mode.bits();
        self.retried(file, FileOperation::Allocate { mode, offset, len }).await
    }

    async fn retried(&self, file: &Arc<OwnedFd>, operation: FileOperation) -> Result<()> {
        loop {
            match self.desk.begin(self.slot, file, operation, None).result().await {
                Err(Errno::EINTR) => {}
                other => return other.map(drop),
            }
        }
    }
}

/// Reads at once, until the room is full or the file ends.
pub(crate) fn read_all(file: &OwnedFd, offset: u64, room: &mut [u8]) -> Result<usize> {
    let mut done = 0;
    while done < room.len() {
        let at = i64::try_from(offset.saturating_add(done as u64)).map_err(|_| Errno::EINVAL)?;
        match pread(file, &mut room[done..], at) {
            Ok(0) => break,
            Ok(count) => done += count,
            Err(SystemError::EINTR) => {}
            Err(_) if done > 0 => break,
            Err(error) => return Err(Errno::new(error as i32).unwrap_or(Errno::EIO)),
        }
    }
    Ok(done)
}
