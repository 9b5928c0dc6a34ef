//! The shards of a session as threads: starting all of them or none, and joining them.
//!
//! Never known here: mounts and INIT. Neighbours: `session` decides when, `shard` is what runs.

use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use fusewire_proto::negotiate::Agreement;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::EventFd;

use crate::awake::Awake;
use crate::context::Marks;
use crate::error::{Error, start};
use crate::io::Desk;
use crate::lead::{Lead, Member};
use crate::linger::Lounge;
use crate::mailbox::{Letter, Mailbox};
use crate::notify::Notifier;
use crate::placement::Placement;
use crate::plan::{Plan, TransportKind};
use crate::sentry::Sentry;
use crate::service::Service;
use crate::shard::{Parts, run};
use crate::stats::ShardStats;
use crate::sys::arena::Arena;
use crate::sys::device;
use crate::sys::ring::{EntryCommand, Ring};
use crate::task::Local;
use crate::thread;
use crate::transport::device::DeviceTransport;
use crate::transport::uring::UringTransport;
use crate::transport::{End, Kind, Transport};
use crate::whereabouts::{Scout, Whereabouts};

/// Why the shards did not start.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// The kernel took no entries: the same connection can be served over `/dev/fuse`.
    Entries(io::Error),
    /// Nothing can be served.
    Fatal(Error),
}

/// What every shard is started with.
#[derive(Clone, Debug)]
pub(crate) struct Terms {
    pub(crate) plan: Plan,
    pub(crate) agreement: Agreement,
    pub(crate) possible_cpus: usize,
    pub(crate) page_size: usize,
    pub(crate) has_rings: bool,
}

impl Terms {
    /// The queues of a shard: shard s has each q with q mod shards = s.
    fn queues(&self, shard: usize) -> Vec<u16> {
        let all = 0..u16::try_from(self.possible_cpus).unwrap_or(u16::MAX);
        all.skip(shard).step_by(self.plan.shards).collect()
    }

    /// Slots that read from the device, and slots in all.
    fn slots(&self, shard: usize) -> (Range<usize>, usize) {
        let plan = &self.plan;
        match plan.transport {
            TransportKind::Device => (0..plan.depth, plan.depth),
            TransportKind::Uring => {
                let lane = if shard == 0 { plan.lane_slots } else { 0 };
                (0..lane, lane + self.queues(shard).len() * plan.depth)
            }
        }
    }
}

/// Shards that serve.
#[derive(Debug)]
pub(crate) struct Crew {
    threads: Vec<JoinHandle<End>>,
    mailboxes: Arc<[Arc<Mailbox>]>,
    stats: Vec<Arc<ShardStats>>,
    done: Arc<EventFd>,
    sentry: Option<Sentry>,
    scout: Option<Scout>,
}

struct Hello {
    result: Result<(), Refusal>,
    go: Sender<()>,
}

impl Crew {
    /// Starts every shard, or none.
    pub(crate) fn start<S: Service>(
        terms: &Terms,
        connection: BorrowedFd<'_>,
        notifier: &Notifier,
        make: &Arc<dyn Fn(usize) -> S + Send + Sync>,
    ) -> Result<Self, Refusal> {
        let fatal = |what, error| Refusal::Fatal(start(what, error));
        let shards = terms.plan.shards;
        let mailboxes = (0..shards).map(|shard| Mailbox::new(terms.slots(shard).1));
        let mailboxes: Arc<[_]> = mailboxes
            .collect::<io::Result<Vec<_>>>()
            .map_err(|error| fatal("an eventfd for each shard", error))?
            .into();
        let done = EventFd::new().map_err(|error| fatal("an eventfd", error.into()))?;
        let mut crew = Self {
            threads: Vec::with_capacity(shards),
            mailboxes: Arc::clone(&mailboxes),
            stats: (0..shards).map(|_| Arc::default()).collect(),
            done: Arc::new(done),
            sentry: None,
            scout: None,
        };
        let hear_all = terms.plan.transport == TransportKind::Device;
        let lead = Lead::new(shards, hear_all.then(|| Arc::clone(&mailboxes)));
        if terms.plan.follow_callers {
            let sentry = Sentry::start(&lead);
            crew.sentry = Some(sentry.map_err(|error| fatal("a thread to watch shards", error))?);
            if hear_all {
                let scout = Scout::start(shards);
                crew.scout = Some(scout.map_err(|error| fatal("a thread to find callers", error))?);
            }
        }
        let (hello, hellos) = channel();
        for shard in 0..shards {
            let device =
                device::clone(connection).map_err(|error| fatal("a clone of /dev/fuse", error))?;
            let seat = Seat {
                shard,
                terms: terms.clone(),
                device: Some(device),
                mailboxes: Arc::clone(&mailboxes),
                notifier: notifier.clone(),
                lead: Arc::clone(&lead),
                whereabouts: crew.scout.as_ref().map(|scout| scout.whereabouts(shard)),
                stats: Arc::clone(&crew.stats[shard]),
                done: Arc::clone(&crew.done),
            };
            let (make, hello) = (Arc::clone(make), hello.clone());
            let name = format!("fusewire-{shard}");
            let thread = thread::spawn(&name, move || seat.work(&*make, hello))
                .map_err(|error| fatal("a thread for each shard", error))?;
            crew.threads.push(thread);
        }
        drop(hello);
        crew.all_ready(&hellos)
    }

    /// Lets the shards go once all are ready; otherwise they end.
    fn all_ready(self, hellos: &Receiver<Hello>) -> Result<Self, Refusal> {
        let mut go = Vec::with_capacity(self.threads.len());
        let mut refusal = None;
        let shards = self.threads.len();
        for hello in hellos.iter().take(shards) {
            match hello.result {
                Ok(()) => go.push(hello.go),
                // A fatal one outweighs entries that were refused.
                Err(fatal @ Refusal::Fatal(_)) => refusal = Some(fatal),
                Err(other) => refusal = refusal.or(Some(other)),
            }
        }
        if refusal.is_none() && go.len() < shards {
            let error = io::Error::other("a shard ended at its start");
            refusal = Some(Refusal::Fatal(start("a shard", error)));
        }
        if let Some(refusal) = refusal {
            drop(go);
            self.join();
            return Err(refusal);
        }
        for go in go {
            // A shard that is gone has said so through its end.
            let _ = go.send(());
        }
        Ok(self)
    }

    /// Becomes readable when a shard has ended.
    pub(crate) fn done(&self) -> BorrowedFd<'_> {
        self.done.as_fd()
    }

    /// Counters, one set per shard.
    pub(crate) fn stats(&self) -> impl Iterator<Item = &ShardStats> + Clone {
        self.stats.iter().map(AsRef::as_ref)
    }

    /// The same, to be read after the shards are gone.
    pub(crate) fn shared_stats(&self) -> Vec<Arc<ShardStats>> {
        self.stats.clone()
    }

    /// Waits until all shards have ended; false if some have not after `limit`.
    pub(crate) fn all_end_within(&self, limit: Duration) -> bool {
        let until = Instant::now() + limit;
        let mut left = self.threads.len() as u64;
        while left > 0 {
            let rest = until.saturating_duration_since(Instant::now());
            let timeout = PollTimeout::try_from(rest).unwrap_or(PollTimeout::ZERO);
            match poll(&mut [PollFd::new(self.done(), PollFlags::POLLIN)], timeout) {
                Ok(0) => return false,
                // The count is of those that ended since it was read last.
                Ok(_) => left = left.saturating_sub(self.done.read().unwrap_or(0)),
                Err(Errno::EINTR) => {}
                Err(_) => return false,
            }
        }
        true
    }

    /// Asks the shards to end without waiting for the kernel.
    pub(crate) fn stop(&self) {
        for mailbox in self.mailboxes.iter() {
            mailbox.put(Letter::Stop);
        }
    }

    /// Waits for all shards; the worst of their ends.
    pub(crate) fn join(self) -> End {
        let mut worst = End::Unmounted;
        for thread in self.threads {
            let end = thread.join().unwrap_or(End::Failed(libc::EIO));
            worst = match (worst, end) {
                (End::Failed(errno), _) | (_, End::Failed(errno)) => End::Failed(errno),
                (End::Aborted, _) | (_, End::Aborted) => End::Aborted,
                _ => End::Unmounted,
            };
        }
        worst
    }
}

/// Everything that a shard's thread takes with it.
struct Seat {
    shard: usize,
    terms: Terms,
    device: Option<OwnedFd>,
    mailboxes: Arc<[Arc<Mailbox>]>,
    notifier: Notifier,
    lead: Arc<Lead>,
    whereabouts: Option<Whereabouts>,
    stats: Arc<ShardStats>,
    done: Arc<EventFd>,
}

impl Drop for Seat {
    fn drop(&mut self) {
        // Also on a panic: the session must learn that the shard is gone.
        let _ = self.done.write(1);
    }
}

impl Seat {
    fn work<S: Service>(mut self, make: &dyn Fn(usize) -> S, hello: Sender<Hello>) -> End {
        match self.terms.plan.transport {
            TransportKind::Device => {
                let parts = self.device_parts();
                self.serve(parts, make, hello)
            }
            TransportKind::Uring => {
                let parts = self.uring_parts();
                self.serve(parts, make, hello)
            }
        }
    }

    /// Says how the start went, waits until all shards are ready, and serves.
    fn serve<T: Transport, S: Service>(
        &self,
        parts: Result<Parts<T>, Refusal>,
        make: &dyn Fn(usize) -> S,
        hello: Sender<Hello>,
    ) -> End {
        let (go, gone) = channel();
        let ready = parts.and_then(|parts| {
            let service = make(self.shard);
            let started = service.start(&self.terms.agreement, &self.notifier);
            started.map_err(|error| Refusal::Fatal(start("the filesystem", error)))?;
            Ok((parts, Rc::new(service)))
        });
        let (ready, result) = match ready {
            Ok(ready) => (Some(ready), Ok(())),
            Err(refusal) => (None, Err(refusal)),
        };
        // Nobody to hear it means that the session gave up already.
        let _ = hello.send(Hello { result, go });
        // So that the session sees the end of the channel when another shard panics in `make`.
        drop(hello);
        match ready {
            Some((parts, service)) if gone.recv().is_ok() => run(parts, service),
            _ => End::Unmounted,
        }
    }

    fn parts<T>(&mut self, ring: Ring, arena: Rc<Arena>, transport: T, slots: usize) -> Parts<T> {
        let local = Local {
            desk: Desk::new(&arena, slots),
            lounge: Lounge::new(self.terms.slots(self.shard).0.len(), self.terms.plan.depth, slots),
            agreement: self.terms.agreement,
            mailbox: Arc::clone(&self.mailboxes[self.shard]),
            notifier: self.notifier.clone(),
            stats: Arc::clone(&self.stats),
            marks: (0..slots).map(|_| Marks::default()).collect(),
            may_rest: self.terms.plan.transport == TransportKind::Uring,
        };
        let peers = Arc::clone(&self.mailboxes);
        let member = Member::new(Arc::clone(&self.lead), self.shard);
        let placement =
            Placement::new(self.terms.plan.follow_callers, member, self.whereabouts.take());
        let awake = Awake::new(self.terms.plan.busy_poll);
        Parts { ring, arena, transport, slots, local: Rc::new(local), placement, awake, peers }
    }

    fn memory(&self, slots: usize) -> Result<(Ring, Rc<Arena>), Refusal> {
        let fatal = |what, error| Refusal::Fatal(start(what, error));
        let ring = if self.terms.has_rings {
            // A slot has one operation in flight; the bell is one more.
            let entries = u32::try_from(slots + 1).unwrap_or(u32::MAX);
            Ring::new(entries).map_err(|error| fatal("an io_uring", error))?
        } else {
            Ring::plain()
        };
        let payload_len = usize::try_from(self.terms.plan.payload_len).unwrap_or(usize::MAX);
        let arena = Arena::new(slots, payload_len, self.terms.page_size)
            .map_err(|error| fatal("the slots' memory", error))?;
        Ok((ring, arena))
    }

    /// The descriptor moves into the transport.
    fn device(&mut self) -> OwnedFd {
        self.device.take().expect("a seat is used once")
    }

    fn device_parts(&mut self) -> Result<Parts<DeviceTransport>, Refusal> {
        let (lane, slots) = self.terms.slots(self.shard);
        let (ring, arena) = self.memory(slots)?;
        let transport = DeviceTransport::new(self.device(), lane, &self.terms.agreement);
        Ok(self.parts(ring, arena, transport, slots))
    }

    fn uring_parts(&mut self) -> Result<Parts<UringTransport>, Refusal> {
        let (lane, slots) = self.terms.slots(self.shard);
        let (mut ring, arena) = self.memory(slots)?;
        let first = lane.len();
        let device = self.device();
        let agreement = &self.terms.agreement;
        let lane = if lane.is_empty() {
            None
        } else {
            let clone = device::clone(device.as_fd())
                .map_err(|error| Refusal::Fatal(start("a clone of /dev/fuse", error)))?;
            Some(DeviceTransport::lane(clone, lane, agreement))
        };
        let queues = self.terms.queues(self.shard);
        let depth = self.terms.plan.depth;
        let mut transport = UringTransport::new(device, first, &queues, depth, lane, agreement);
        transport.register_all(&mut ring, &arena).map_err(Refusal::Entries)?;
        let early = ring.early().map_err(Refusal::Entries)?;
        match early.iter().find_map(|(_, result)| UringTransport::refusal(*result)) {
            Some(error) => Err(Refusal::Entries(error)),
            None => Ok(self.parts(ring, arena, transport, slots)),
        }
    }
}

/// Makes the kernel serve the connection over `/dev/fuse` after all: any REGISTER that it refuses
/// before every queue has an entry does so (`fs/fuse/dev_uring.c, fuse_uring_cmd`).
pub(crate) fn withdraw_entries(connection: BorrowedFd<'_>, page_size: usize) -> io::Result<()> {
    let mut ring = Ring::new(1)?;
    let arena = Arena::new(1, page_size, page_size)?;
    let lent = arena.hold(0).lend_entry();
    let key = Kind::Entry.key(0);
    ring.entry(key, connection, EntryCommand::Register, u16::MAX, 0, &lent)?;
    ring.turn(1)
}
