//! A filesystem without a mount: the whole engine between a request's bytes and its answer's.
//!
//! For tests of a filesystem that need neither root nor `/dev/fuse`, for fuzzing what is behind
//! the codec, and to count what a request costs. All but the transport is what a mount runs: slots,
//! decoding, dispatch, panics, interrupts, lookups that are taken back.
//!
//! ```
//! use fusewire::proto::flags::{GetAttrFlags, InitFlags};
//! use fusewire::proto::op::GetAttr;
//! use fusewire::proto::{Attr, Attributes, Mode, NodeId, Operation, Reply, Result};
//! use fusewire::sim::{Caller, Simulation};
//! use fusewire::{Context, Filesystem};
//!
//! struct Empty;
//!
//! impl Filesystem for Empty {
//!     const WISHES: InitFlags = InitFlags::empty();
//!
//!     async fn getattr(&self, _: &Context<'_>, _: GetAttr) -> Result<Attributes> {
//!         let attr = Attr { mode: Mode(0o040_755), nlink: 2, ..Attr::default() };
//!         Ok(Attributes { attr, ..Attributes::default() })
//!     }
//! }
//!
//! let mut sim = Simulation::new(Empty)?;
//! let getattr = Operation::GetAttr(GetAttr { fh: None, getattr_flags: GetAttrFlags::empty() });
//! let answer = sim.ask(Caller::default(), NodeId::ROOT, &getattr)?;
//! assert!(matches!(answer, Ok(Reply::Attributes(found)) if found.attr.nlink == 2));
//! # Ok::<(), fusewire::sim::Error>(())
//! ```
//!
//! Operations of [`crate::Io`] are system calls here, made at once. There is no kernel to tell
//! anything: notifications fail with ENOTCONN, and passthrough is not offered.
//!
//! Never known here: mounts. Neighbours: `transport/sim` is the kernel's end, `shard` serves.

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::rc::Rc;
use std::sync::{Arc, Weak};
use std::time::Duration;

use fusewire_proto::flags::InitFlags;
use fusewire_proto::negotiate::{Agreement, Limits, Offer, Wishes, negotiate};
use fusewire_proto::reply::{Known, Verdict, judge};
use fusewire_proto::{
    Answer, Asked, DecodeError, EncodeError, Envelope, NodeId, Operation, Unique, frame,
};

use crate::awake::Awake;
use crate::config::Config;
use crate::context::Marks;
use crate::dispatch::Serve;
use crate::filesystem::Filesystem;
use crate::io::Desk;
use crate::lead::{Lead, Member};
use crate::linger::Lounge;
use crate::mailbox::Mailbox;
use crate::notify::Notifier;
use crate::placement::Placement;
use crate::plan::{self, TransportKind};
use crate::service::Service;
use crate::shard::{Parts, Turning, start};
use crate::stats::Stats;
use crate::sys::arena::{Arena, FRAME_LEAD, REPLY_HEADER_LEN};
use crate::sys::ring::Ring;
use crate::task::Local;
use crate::transport::sim::{SimTransport, Wire};

const PAGE: usize = 4096;
/// Requests that are served at a time.
const SLOTS: usize = 8;
/// How long nothing may happen while handlers wait, unless something else is said.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why a simulated request has no answer that the kernel would take.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// What a shard needs could not be had: an eventfd, memory.
    #[error("the simulation cannot run: {0}")]
    Start(#[from] io::Error),
    /// The filesystem would not start, or its wishes cannot be agreed to.
    #[error("the filesystem did not start: {0}")]
    Filesystem(String),
    /// The operation cannot be said as a message.
    #[error("no such message: {0}")]
    Request(#[from] EncodeError),
    /// The message is longer than a slot, so many bytes.
    #[error("a message has at most {0} bytes")]
    TooLong(usize),
    /// The kernel would refuse the answer: an error for the caller, mostly EIO.
    #[error("the kernel would refuse this answer: {0}")]
    Refused(#[from] DecodeError),
    /// There is none: the operation has none, the caller has left, the message had no header, or
    /// the answer was taken before.
    #[error("no answer")]
    Unanswered,
    /// Handlers wait, and nothing has woken one of them for as long as [`Simulation::patience`].
    #[error("handlers wait for something that does not come")]
    Waits,
}

/// Who asks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Caller {
    /// Acting user.
    pub uid: u32,
    /// Acting group.
    pub gid: u32,
    /// Thread id.
    pub pid: u32,
}

/// A filesystem that is served, by the thread that has this, whenever it is asked.
pub struct Simulation {
    shard: Box<dyn Turning>,
    wire: Rc<RefCell<Wire>>,
    local: Rc<Local>,
    patience: Duration,
    /// The answer that was taken last.
    answer: Vec<u8>,
    /// The highest unique so far.
    last: u64,
}

impl fmt::Debug for Simulation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Simulation").field("wire", &self.wire).finish_non_exhaustive()
    }
}

impl Simulation {
    /// Serves a filesystem to a kernel that offers all that 7.45 has, but for passthrough.
    ///
    /// # Errors
    /// [`Error::Start`] and [`Error::Filesystem`].
    pub fn new<F: Filesystem>(filesystem: F) -> Result<Self, Error> {
        Self::serve(Serve(filesystem), F::WISHES)
    }

    /// The same for any [`Service`], with the INIT flags that it can honour.
    ///
    /// # Errors
    /// [`Error::Start`] and [`Error::Filesystem`].
    pub fn serve<S: Service>(service: S, wishes: InitFlags) -> Result<Self, Error> {
        let agreement = agree(wishes)?;
        let wire = Rc::new(RefCell::new(Wire::default()));
        let notifier = Notifier::of(Weak::new());
        let mailbox = Mailbox::new(SLOTS)?;
        let arena = Arena::new(SLOTS, payload_len(&agreement), PAGE)?;
        let local = Rc::new(Local {
            desk: Desk::new(&arena, SLOTS),
            lounge: Lounge::new(SLOTS, SLOTS, SLOTS),
            agreement,
            mailbox: Arc::clone(&mailbox),
            notifier: notifier.clone(),
            stats: Arc::default(),
            marks: (0..SLOTS).map(|_| Marks::default()).collect(),
            may_rest: false,
        });
        service
            .start(&agreement, &notifier)
            .map_err(|error| Error::Filesystem(error.to_string()))?;
        let parts = Parts {
            ring: Ring::plain(),
            transport: SimTransport::new(Rc::clone(&wire), SLOTS, &agreement),
            arena,
            slots: SLOTS,
            local: Rc::clone(&local),
            placement: Placement::new(false, Member::new(Lead::new(1, None), 0), None),
            awake: Awake::new(Duration::ZERO),
            peers: [mailbox].into(),
        };
        let shard = Box::new(start(parts, Rc::new(service)));
        Ok(Self { shard, wire, local, patience: PATIENCE, answer: Vec::new(), last: 0 })
    }

    /// What was agreed at INIT, which is not simulated.
    #[must_use]
    pub fn agreement(&self) -> &Agreement {
        &self.local.agreement
    }

    /// How long nothing may happen while handlers wait, say for an interrupt, or for another thread
    /// that answers: 10 s at first.
    pub fn patience(&mut self, limit: Duration) {
        self.patience = limit;
    }

    /// Has one operation answered, and tells what its caller gets (`proto::reply::judge`).
    ///
    /// # Errors
    /// [`Error::Request`] where `op` is no message, [`Error::Refused`] where the answer is none
    /// that the kernel takes, [`Error::Unanswered`] where there is none, and those of
    /// [`Simulation::run`].
    pub fn ask(
        &mut self,
        caller: Caller,
        node: NodeId,
        op: &Operation<'_>,
    ) -> Result<Answer<'_>, Error> {
        let unique = self.send(caller, node, op)?;
        self.run()?;
        self.answer(unique)?;
        let agreed = self.local.agreement.flags;
        let known = Known {
            passthrough: false,
            default_permissions: agreed.contains(InitFlags::POSIX_ACL),
            ..Known::default()
        };
        let header = frame::out_header(&self.answer).ok_or(Error::Unanswered)?;
        match judge(&Asked::new(op), &known, &header, &self.answer[REPLY_HEADER_LEN..]) {
            Verdict::Accepted { answer, .. } => Ok(answer),
            Verdict::Refused(refusal) => Err(Error::Refused(refusal.cause)),
        }
    }

    /// Sends an operation and does not wait for its answer.
    ///
    /// # Errors
    /// [`Error::Request`] and [`Error::TooLong`].
    pub fn send(
        &mut self,
        caller: Caller,
        node: NodeId,
        op: &Operation<'_>,
    ) -> Result<Unique, Error> {
        let forms = self.local.agreement.forms();
        let len = op.encoded_len(forms)?;
        self.fits(len)?;
        // As the kernel: even, and never used again (fs/fuse/dev.c, fuse_get_unique).
        self.last += 2;
        let (unique, Caller { uid, gid, pid }) = (Unique(self.last), caller);
        let envelope = Envelope { unique, nodeid: node, uid, gid, pid };
        self.wire.borrow_mut().send(len, |out| op.encode(&envelope, forms, out))?;
        Ok(unique)
    }

    /// Sends any bytes, as a kernel that is broken might. Where several requests have the same
    /// unique, [`Simulation::answer`] and [`Simulation::leave`] are of the oldest.
    ///
    /// # Errors
    /// [`Error::TooLong`].
    pub fn send_bytes(&mut self, message: &[u8]) -> Result<(), Error> {
        self.fits(message.len())?;
        if let Some(header) = frame::in_header(message) {
            // So that it is not given again.
            self.last = self.last.max(header.unique.0 & (u64::MAX >> 2) & !1);
        }
        self.wire.borrow_mut().send(message.len(), |out| {
            out.copy_from_slice(message);
            Ok(message.len())
        })
    }

    /// The caller of a request that was sent goes away: once the request was handed out, the kernel
    /// has no use for its answer. Does nothing to one that was answered already. A handler that
    /// waits does not learn of it: the kernel sends an INTERRUPT for that.
    pub fn leave(&mut self, unique: Unique) {
        self.wire.borrow_mut().leave(unique);
    }

    /// Serves until there is nothing left to do.
    ///
    /// # Errors
    /// As [`Simulation::turn`].
    pub fn run(&mut self) -> Result<(), Error> {
        while self.turn()? {}
        Ok(())
    }

    /// One turn of the shard; false if there is nothing left to do. Where all handlers wait, it
    /// waits with them, so whatever ends that is to be sent before.
    ///
    /// # Errors
    /// [`Error::Waits`] where nothing ends it in time, [`Error::Start`] where waiting fails.
    pub fn turn(&mut self) -> Result<bool, Error> {
        let wire = self.wire.borrow();
        if wire.is_idle() {
            return Ok(false);
        }
        let waits = wire.waits(SLOTS) && self.local.desk.all_in_flight() == 0;
        drop(wire);
        if waits && !self.local.mailbox.rings_within(self.patience)? {
            return Err(Error::Waits);
        }
        self.shard.turn()?;
        Ok(true)
    }

    /// Takes the answer to a request that was sent: header and body, as they are on the wire.
    ///
    /// # Errors
    /// [`Error::Unanswered`] if it is not there, or was taken before.
    pub fn answer(&mut self, unique: Unique) -> Result<&[u8], Error> {
        let mut wire = self.wire.borrow_mut();
        let bytes = wire.answer(unique).ok_or(Error::Unanswered)?;
        wire.reuse(std::mem::replace(&mut self.answer, bytes));
        Ok(&self.answer)
    }

    /// Counters, as of a session.
    #[must_use]
    pub fn stats(&self) -> Stats {
        Stats::sum(std::iter::once(&*self.local.stats))
    }

    fn fits(&self, len: usize) -> Result<(), Error> {
        let room = FRAME_LEAD + payload_len(&self.local.agreement);
        if len > room { Err(Error::TooLong(room)) } else { Ok(()) }
    }
}

impl Drop for Simulation {
    fn drop(&mut self) {
        self.shard.close();
    }
}

fn payload_len(agreement: &Agreement) -> usize {
    agreement.payload_max().max(2 * PAGE)
}

fn agree(wishes: InitFlags) -> Result<Agreement, Error> {
    let flags = InitFlags::all() - InitFlags::PASSTHROUGH;
    let offer = Offer { major: 7, minor: 45, max_readahead: 1 << 20, flags };
    let can = wishes | plan::ENGINE_WISHES;
    let flags = plan::wishes(&Config::new("/"), can, offer.flags, TransportKind::Device);
    let wishes = Wishes { flags, ..Wishes::default() };
    negotiate(&offer, &wishes, &Limits::default())
        .map_err(|error| Error::Filesystem(error.to_string()))
}
