//! A shard: one thread, one ring, one slab of slots, and the loop that joins them.
//!
//! ```text
//!   arm -> turn (submit and wait) -> take completions -> poll futures -> commit answers -+
//!    ^-----------------------------------------------------------------------------------+
//! ```
//! With the ring a turn is one system call, however many requests it brought.
//!
//! Never known here: filesystems, mounts. Neighbours: `session` starts shards, `transport` speaks
//! to the kernel, `task` runs handlers.

use std::io::Result;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::{Arc, Weak};
use std::task::Poll;
use std::time::{Duration, Instant};

use fusewire_proto::abi::InHeader;
use fusewire_proto::{Errno, LookupCount, NodeId, Opcode, Operation, Unique};

use crate::awake::Awake;
use crate::early::Early;
use crate::io;
use crate::mailbox::{Answer, Letter, Mailbox};
use crate::placement::Placement;
use crate::reply::{Outcome, Output};
use crate::service::Service;
use crate::slot::{Given, Phase, Slot, SlotId};
use crate::stats;
use crate::sys::arena::{Arena, Held, Span};
use crate::sys::ring::Ring;
use crate::sys::{Key, NOBODY};
use crate::task::{Local, Request, Tasks};
use crate::transport::{Arrival, Committed, End, Kind, Transport};

/// How long a shard that ends waits for the kernel to give its memory back.
const DRAIN: Duration = Duration::from_millis(500);

/// What a shard is made of.
#[derive(Debug)]
pub(crate) struct Parts<T> {
    pub(crate) ring: Ring,
    pub(crate) arena: Rc<Arena>,
    pub(crate) transport: T,
    pub(crate) slots: usize,
    pub(crate) local: Rc<Local>,
    pub(crate) placement: Placement,
    pub(crate) awake: Awake,
    /// Mailboxes of all shards, this one's included: an interrupt may concern any of them.
    pub(crate) peers: Arc<[Arc<Mailbox>]>,
}

/// A shard, whatever its transport and its filesystem.
pub(crate) trait Turning {
    /// Waits until there is something to do, and does that. What ends the connection is told.
    fn turn(&mut self) -> Result<Option<End>>;

    /// Ends what it serves.
    fn close(&mut self);
}

/// A shard that listens to its mailbox, to be turned.
pub(crate) fn start<T: Transport, S: Service>(parts: Parts<T>, service: Rc<S>) -> impl Turning {
    let local = Rc::clone(&parts.local);
    let forget = Rc::clone(&service);
    let start = move |request| crate::task::serve(Rc::clone(&service), Rc::clone(&local), request);
    let mut shard = Shard::new(parts, start, move |node| forget.forget(node, LookupCount(1)));
    shard.listen();
    shard
}

/// Serves until the connection ends or a letter says stop.
pub(crate) fn run<T: Transport, S: Service>(parts: Parts<T>, service: Rc<S>) -> End {
    let mut shard = start(parts, service);
    let end = loop {
        match shard.turn() {
            Ok(None) => {}
            Ok(Some(end)) => break end,
            Err(error) => {
                tracing::error!(%error, "the ring failed");
                break End::Failed(error.raw_os_error().unwrap_or(libc::EIO));
            }
        }
    };
    shard.close();
    end
}

struct Shard<T, F, M, U> {
    ring: Ring,
    arena: Rc<Arena>,
    transport: T,
    slots: Box<[Slot]>,
    tasks: Tasks<F>,
    start: M,
    /// Takes back the lookup of an entry that did not arrive.
    undo: U,
    local: Rc<Local>,
    placement: Placement,
    awake: Awake,
    peers: Arc<[Arc<Mailbox>]>,
    ready: Vec<usize>,
    taken: Vec<(Key, i32)>,
    letters: Vec<Letter>,
    early: Early,
    /// Answers to requests whose handlers handed them over and still run.
    waiting: Vec<(SlotId, Answer)>,
    /// Outcomes of requests that have an operation in flight.
    kept: Vec<(usize, Outcome)>,
    /// Per slot: file, offset and length of the READ that its answer follows.
    promised: Box<[(Weak<OwnedFd>, u64, usize)]>,
    /// Files of READs that are not submitted yet; from then on the kernel keeps them open.
    submitting: Vec<Arc<OwnedFd>>,
    end: Option<End>,
}

impl<T, F, M, U> Turning for Shard<T, F, M, U>
where
    T: Transport,
    F: Future<Output = Outcome>,
    M: Fn(Request) -> F,
    U: Fn(NodeId),
{
    fn turn(&mut self) -> Result<Option<End>> {
        self.transport.arm(&mut self.ring, &self.arena)?;
        self.local.desk.push(&mut self.ring, |index| Kind::File.key(index))?;
        let pending = self.transport.pending();
        let wait = if self.ready.is_empty() { pending.wait() } else { 0 };
        let idle = self.local.desk.is_idle();
        if !(idle && self.placement.gathers(&mut self.ring)?) {
            let member = self.placement.member();
            if member.turn(&mut self.ring, wait, pending.armed, idle, &mut self.awake)? {
                self.local.stats.busy_polled.add(1);
            }
        }
        if self.ring.all_submitted() {
            self.submitting.clear();
        }
        self.local.stats.enters.raise_to(self.ring.enters());
        let mut taken = std::mem::take(&mut self.taken);
        self.ring.completions(&mut taken);
        let now = Instant::now();
        for (key, result) in taken.drain(..) {
            self.take(key, result, now)?;
        }
        self.taken = taken;
        let mut ready = std::mem::take(&mut self.ready);
        for slot in ready.drain(..) {
            self.poll(slot)?;
        }
        ready.append(&mut self.ready);
        self.ready = ready;
        self.placement.turned(now);
        self.early.turned();
        Ok(self.end)
    }

    fn close(&mut self) {
        self.placement.ends();
        self.drain();
    }
}

impl<T, F, M, U> Shard<T, F, M, U>
where
    T: Transport,
    F: Future<Output = Outcome>,
    M: Fn(Request) -> F,
    U: Fn(NodeId),
{
    fn new(parts: Parts<T>, start: M, undo: U) -> Self {
        let now = Instant::now();
        Self {
            tasks: Tasks::new(parts.slots, &parts.local.mailbox),
            slots: (0..parts.slots).map(|_| Slot::new(now)).collect(),
            ring: parts.ring,
            arena: parts.arena,
            transport: parts.transport,
            start,
            undo,
            local: parts.local,
            placement: parts.placement,
            awake: parts.awake,
            peers: parts.peers,
            ready: Vec::with_capacity(parts.slots),
            taken: Vec::with_capacity(parts.slots * 2 + 8),
            letters: Vec::with_capacity(parts.slots),
            early: Early::new(),
            waiting: Vec::new(),
            kept: Vec::new(),
            promised: (0..parts.slots).map(|_| Default::default()).collect(),
            submitting: Vec::with_capacity(parts.slots),
            end: None,
        }
    }

    fn listen(&mut self) {
        self.ring.poll_readable(Kind::Bell.key(0), self.local.mailbox.bell());
    }

    fn take(&mut self, key: Key, result: i32, now: Instant) -> Result<()> {
        if key == NOBODY {
            return Ok(());
        }
        let Some((kind, slot)) = Kind::of(key) else {
            unreachable!("only keys of ours come back");
        };
        match kind {
            Kind::Bell => return self.hear(),
            Kind::File => return self.file_done(slot, result),
            Kind::Read | Kind::Write | Kind::Entry | Kind::Source => {}
        }
        match self.transport.completed(&mut self.ring, &self.arena, kind, slot, result)? {
            Arrival::Request(header, span) => self.arrived(slot, header, span, kind, now)?,
            Arrival::Malformed => self.local.stats.malformed.add(1),
            Arrival::Settled(delivered) => {
                if !delivered {
                    self.undelivered(slot, true);
                }
                self.slots[slot].settle();
            }
            Arrival::Unanswered => self.answer_again(slot)?,
            Arrival::Undelivered => self.undelivered(slot, false),
            Arrival::Nothing => {}
            Arrival::Ended(end) => self.ended(end),
        }
        Ok(())
    }

    /// An operation of a handler on a file is complete.
    fn file_done(&mut self, index: usize, result: i32) -> Result<()> {
        let (slot, waker) = self.local.desk.settle(index, result);
        match waker {
            Some(waker) if self.tasks.wakes(slot, &waker) => self.ready.push(slot),
            // Somebody between us and the operation has a waker of his own.
            Some(waker) => waker.wake(),
            None => {}
        }
        let kept = self.kept.iter().position(|(kept, _)| *kept == slot);
        match kept {
            Some(at) if self.local.desk.in_flight(slot) == 0 => {
                let (_, outcome) = self.kept.swap_remove(at);
                self.finish(slot, outcome)
            }
            _ => Ok(()),
        }
    }

    fn ended(&mut self, end: End) {
        // An abort shows as such on /dev/fuse only; entries of a ring just end.
        if self.end.is_none() || end != End::Unmounted {
            self.end = Some(end);
        }
    }

    /// An answer did not arrive. `held` tells that it still lies in the slot; an entry of the ring
    /// is lent again by then, but loses its answer only when the connection ends.
    fn undelivered(&mut self, slot: usize, held: bool) {
        self.local.stats.undelivered.add(1);
        let given = std::mem::take(&mut self.slots[slot].given);
        let mut held = held.then(|| self.arena.hold(slot));
        let payload = held.as_mut().map_or(&[] as &[u8], |held| held.payload_mut());
        given.for_each(payload, |node| self.take_back(node));
    }

    fn take_back(&self, node: NodeId) {
        if catch_unwind(AssertUnwindSafe(|| (self.undo)(node))).is_err() {
            self.local.stats.panics.add(1);
            tracing::error!(%node, "a handler panicked while it took a lookup back");
        }
    }

    fn arrived(
        &mut self,
        slot: usize,
        header: InHeader,
        span: Span,
        kind: Kind,
        now: Instant,
    ) -> Result<()> {
        let stats = &self.local.stats;
        if kind == Kind::Entry { &stats.by_uring } else { &stats.by_device }.add(1);
        self.placement.arrived(self.transport.caller(slot), header.pid);
        self.slots[slot].arrive(header, now);
        self.local.marks[slot].reset();
        let held = self.arena.hold(slot);
        if header.opcode == Opcode::Interrupt as u32 {
            return self.interrupt(held, &header, &span);
        }
        if self.early.has(header.unique) {
            self.local.marks[slot].interrupt();
        }
        let request = Request {
            held,
            header,
            span,
            slot: self.slots[slot].id(slot),
            sharing: self.transport.shares(slot),
        };
        self.tasks.start(slot, (self.start)(request));
        self.poll(slot)?;
        if self.local.marks[slot].unhurried.take() {
            self.transport.rest();
        }
        Ok(())
    }

    fn poll(&mut self, slot: usize) -> Result<()> {
        if !self.tasks.has(slot) {
            // Woken after it was done.
            return Ok(());
        }
        self.placement.member().runs();
        let outcome = match self.tasks.poll(slot) {
            Poll::Pending => return Ok(()),
            Poll::Ready(Ok(outcome)) => outcome,
            Poll::Ready(Err(panicked)) => {
                self.local.stats.panics.add(1);
                tracing::error!(opcode = self.slots[slot].header.opcode, "a handler panicked");
                panicked.into()
            }
        };
        if self.local.marks[slot].detached.get() {
            self.slots[slot].detach();
            let id = self.slots[slot].id(slot);
            let answer = self.waiting.iter().position(|(waiting, _)| *waiting == id);
            return match answer {
                Some(at) => {
                    let (_, answer) = self.waiting.swap_remove(at);
                    self.finish(slot, answer.into())
                }
                None => Ok(()),
            };
        }
        self.finish(slot, outcome)
    }

    /// An answer did not follow its READ, as that came short: the file has become shorter, or
    /// cannot be read. That is rare enough to wait for the file.
    fn answer_again(&mut self, slot: usize) -> Result<()> {
        self.slots[slot].reopen();
        let (file, offset, len) = std::mem::take(&mut self.promised[slot]);
        let mut held = self.arena.hold(slot);
        let read = match file.upgrade() {
            Some(file) => io::read_all(&file, offset, &mut held.payload_mut()[..len]),
            // The filesystem closed it under a request.
            None => Err(Errno::EBADF),
        };
        drop(held);
        let outcome = match read {
            Ok(count) => Outcome::Output(Output { filled: 0..count, len: count, source: None }),
            Err(errno) => Outcome::Error(errno),
        };
        self.finish(slot, outcome)
    }

    /// Makes the one answer of the request in the slot and sends it.
    fn finish(&mut self, slot: usize, outcome: Outcome) -> Result<()> {
        if self.local.desk.in_flight(slot) > 0 {
            // I9. What the handler dropped is being cancelled; what it forgot is from here on.
            self.local.desk.give_up(slot);
            self.kept.push((slot, outcome));
            return Ok(());
        }
        let mut held = self.arena.hold(slot);
        let state = &mut self.slots[slot];
        state.finish();
        let opcode = Opcode::from_raw(state.header.opcode);
        let answered = opcode.is_none_or(Opcode::is_answered);
        let mut source = None;
        let result = match outcome {
            Outcome::Reply(reply) => {
                state.given = Given::of(&reply);
                held.parts().clear();
                match reply.encode(held.payload_mut()) {
                    Ok(len) => Ok((0..len, len)),
                    Err(_) => Err(Errno::EIO),
                }
            }
            Outcome::Output(output) => {
                if opcode == Some(Opcode::ReadDirPlus) {
                    state.given = Given::Entries(output.filled.clone());
                }
                source = output.source;
                Ok((output.filled, output.len))
            }
            Outcome::Bytes(bytes) => {
                held.parts().clear();
                let place = held.payload_mut().get_mut(..bytes.len());
                place.ok_or(Errno::EIO).map(|place| {
                    place.copy_from_slice(&bytes);
                    (0..bytes.len(), bytes.len())
                })
            }
            Outcome::Error(errno) => Err(errno),
            // Nothing to say where the kernel waits: the handler dropped its request.
            Outcome::Silent => Err(Errno::EIO),
        };
        let bytes = match (&result, opcode) {
            (_, Some(Opcode::Write)) => u64::from(state.header.len).saturating_sub(80),
            (Ok((_, len)), Some(opcode)) if stats::is_bulk(opcode) => *len as u64,
            _ => 0,
        };
        self.placement.answered(self.transport.caller(slot), bytes);
        if let Some(opcode) = opcode {
            let failed = answered && result.is_err();
            self.local.stats.served(opcode, bytes, failed, state.arrived.elapsed());
        }
        let unique = state.header.unique;
        #[cfg(debug_assertions)]
        if answered {
            let review = &self.local.marks[slot].review;
            let refusal = review.refusal(&self.local.agreement, unique, &mut held, &result);
            if let Some(cause) = refusal {
                self.local.stats.refused.add(1);
                tracing::error!(%unique, %cause, "the kernel will refuse this answer");
            }
        }
        let result = if answered { result } else { Ok((0..0, 0)) };
        let source = source.map(|source| {
            let len = result.as_ref().map_or(0, |(_, len)| *len);
            self.promised[slot] = (Arc::downgrade(&source.file), source.offset, len);
            self.submitting.push(Arc::clone(&source.file));
            (Kind::Source.key(slot), source)
        });
        let answer = Committed { unique, result, answered, source };
        if self.end.is_some() {
            return Ok(());
        }
        if self.transport.commit(&mut self.ring, held, &answer)? {
            self.slots[slot].settle();
        }
        Ok(())
    }

    /// Reads what the mailbox holds.
    fn hear(&mut self) -> Result<()> {
        let mailbox = Arc::clone(&self.local.mailbox);
        let mut letters = std::mem::take(&mut self.letters);
        mailbox.fetch(&mut letters, &mut self.ready);
        for letter in letters.drain(..) {
            match letter {
                Letter::Stop => self.ended(End::Unmounted),
                Letter::Interrupt(unique) => self.interrupted(unique),
                Letter::Answer(id, answer) => {
                    let slot = id.index as usize;
                    let state = &self.slots[slot];
                    if state.phase() == Phase::Detached && state.id(slot) == id {
                        self.finish(slot, answer.into())?;
                    } else if state.phase() == Phase::Serving && state.id(slot) == id {
                        // The handler handed its request over and has not yet returned.
                        self.waiting.push((id, answer));
                    }
                }
            }
        }
        self.letters = letters;
        self.listen();
        Ok(())
    }

    /// An INTERRUPT was read: its target may be in any shard.
    fn interrupt(&mut self, mut held: Held, header: &InHeader, span: &Span) -> Result<()> {
        let slot = held.index();
        let split = held.split(span);
        match Operation::decode(header, split.argument, split.input) {
            Ok(Operation::Interrupt(op)) => {
                for peer in self.peers.iter() {
                    peer.put(Letter::Interrupt(op.unique));
                }
            }
            _ => self.local.stats.malformed.add(1),
        }
        drop(split);
        drop(held);
        self.finish(slot, Outcome::Silent)
    }

    fn interrupted(&mut self, unique: Unique) {
        if let Some(slot) = self.slots.iter().position(|slot| slot.serves(unique)) {
            self.local.marks[slot].interrupt();
            return;
        }
        // Not here, or not yet: its completion may lie in the ring, unseen.
        self.early.keep(unique);
    }

    /// Drops what is being served and waits, for a while, until the kernel gave all memory back.
    fn drain(&mut self) {
        self.tasks.clear();
        self.local.desk.drop_fresh();
        let _ = self.ring.early();
        let until = Instant::now() + DRAIN;
        while self.arena.lent() + self.local.desk.all_in_flight() > 0 {
            let Some(left) = until.checked_duration_since(Instant::now()) else { break };
            // Each time: what it does not have yet, or has not begun, the kernel cannot cancel.
            self.ring.cancel_all();
            if self.ring.turn_within(1, left.min(DRAIN / 5)).is_err() {
                break;
            }
            self.ring.completions(&mut self.taken);
            for (key, result) in self.taken.drain(..) {
                match Kind::of(key) {
                    Some((Kind::Read | Kind::Write | Kind::Entry | Kind::Source, slot)) => {
                        self.arena.reclaim(slot);
                    }
                    Some((Kind::File, index)) => {
                        self.local.desk.settle(index, result);
                    }
                    Some((Kind::Bell, _)) | None => {}
                }
            }
        }
        if self.local.desk.all_in_flight() > 0 {
            self.local.desk.leak();
        }
    }
}
