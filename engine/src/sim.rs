//! A filesystem without a mount: the whole engine between a request's bytes and its answer's.
//!
//! For tests of a filesystem that need neither root nor `/dev/fuse`, for fuzzing what is behind
//! the codec, and to count what a request costs. All but the transport is what a mount runs: slots,
//! decoding, dispatch, panics, interrupts, lookups that are taken back.
//!
//! ```
//! use fusewire::proto::flags::{GetAttrFlags, InitFlags};
//! use fusewire::proto::op::GetAttr;
//! use fusewire::proto::{Attributes, NodeId, Operation, Reply, Result};
//! use fusewire::sim::{Caller, Simulation};
//! use fusewire::{Context, Filesystem};
//!
//! struct Empty;
//!
//! impl Filesystem for Empty {
//!     const WISHES: InitFlags = InitFlags::empty();
//!
//!     async fn getattr(&self, _: &Context<'_>, _: GetAttr) -> Result<Attributes> {
//!         Ok(Attributes::default())
//!     }
//! }
//!
//! let mut sim = Simulation::new(Empty)?;
//! let getattr = Operation::GetAttr(GetAttr { fh: None, getattr_flags: GetAttrFlags::empty() });
//! let answer = sim.ask(Caller::default(), NodeId::ROOT, &getattr)?;
//! assert_eq!(answer, Ok(Reply::Attributes(Attributes::default())));
//! # Ok::<(), fusewire::sim::Error>(())
//! ```
//!
//! Operations of [`crate::Io`] are system calls here, made at once.
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
use fusewire_proto::reply::decode;
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
use crate::stats::{ShardStats, Stats};
use crate::sys::arena::{Arena, FRAME_LEAD, REPLY_HEADER_LEN};
use crate::sys::ring::Ring;
use crate::task::Local;
use crate::transport::sim::{SimTransport, Wire};

const PAGE: usize = 4096;
/// Requests that are served at a time.
const SLOTS: usize = 8;

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
    /// The kernel would refuse the answer: EIO for the caller.
    #[error("the kernel would refuse this answer: {0}")]
    Refused(#[from] DecodeError),
    /// None came: the operation has none, the caller was gone, or the message was none.
    #[error("no answer")]
    Unanswered,
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
    stats: Arc<ShardStats>,
    agreement: Agreement,
    /// What is being answered.
    answer: Vec<u8>,
    last: u64,
}

impl fmt::Debug for Simulation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Simulation").field("wire", &self.wire).finish_non_exhaustive()
    }
}

impl Simulation {
    /// Serves a filesystem to a kernel that offers all that 7.45 has.
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
        let stats = Arc::<ShardStats>::default();
        let payload_len = agreement.payload_max().max(2 * PAGE);
        let arena = Arena::new(SLOTS, payload_len, PAGE)?;
        let local = Local {
            desk: Desk::new(&arena, SLOTS),
            lounge: Lounge::new(SLOTS, SLOTS, SLOTS),
            agreement,
            mailbox: Arc::clone(&mailbox),
            notifier: notifier.clone(),
            stats: Arc::clone(&stats),
            marks: (0..SLOTS).map(|_| Marks::default()).collect(),
        };
        service
            .start(&agreement, &notifier)
            .map_err(|error| Error::Filesystem(error.to_string()))?;
        let parts = Parts {
            ring: Ring::plain(),
            transport: SimTransport::new(Rc::clone(&wire), SLOTS, &agreement),
            arena,
            slots: SLOTS,
            local: Rc::new(local),
            placement: Placement::new(false, Member::new(Lead::new(1, None), 0), None),
            awake: Awake::new(Duration::ZERO),
            peers: [mailbox].into(),
        };
        let shard = Box::new(start(parts, Rc::new(service)));
        Ok(Self { shard, wire, stats, agreement, answer: Vec::new(), last: 0 })
    }

    /// What was agreed at INIT, which is not simulated.
    #[must_use]
    pub fn agreement(&self) -> &Agreement {
        &self.agreement
    }

    /// Has one operation answered, and tells what the kernel makes of the answer.
    ///
    /// # Errors
    /// [`Error::Request`] where `op` is no message, [`Error::Refused`] where the answer is none
    /// that the kernel takes, [`Error::Unanswered`] where there is none.
    pub fn ask(
        &mut self,
        caller: Caller,
        node: NodeId,
        op: &Operation<'_>,
    ) -> Result<Answer<'_>, Error> {
        let unique = self.send(caller, node, op)?;
        self.run()?;
        self.answer(unique)?;
        let header = frame::out_header(&self.answer).ok_or(Error::Unanswered)?;
        Ok(decode(&Asked::new(op), &header, &self.answer[REPLY_HEADER_LEN..])?)
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
        let forms = self.agreement.forms();
        let len = op.encoded_len(forms)?;
        self.fits(len)?;
        // As the kernel: even, and never used again (fs/fuse/dev.c, fuse_get_unique).
        self.last += 2;
        let (unique, Caller { uid, gid, pid }) = (Unique(self.last), caller);
        let envelope = Envelope { unique, nodeid: node, uid, gid, pid };
        self.wire.borrow_mut().send(len, |out| op.encode(&envelope, forms, out))?;
        Ok(unique)
    }

    /// Sends any bytes, as a kernel that is broken might.
    ///
    /// # Errors
    /// [`Error::TooLong`].
    pub fn send_bytes(&mut self, message: &[u8]) -> Result<(), Error> {
        self.fits(message.len())?;
        self.wire.borrow_mut().send(message.len(), |out| {
            out.copy_from_slice(message);
            Ok(message.len())
        })
    }

    /// The caller of a request that was sent goes away: the kernel has no use for the answer.
    pub fn leave(&mut self, unique: Unique) {
        self.wire.borrow_mut().leave(unique);
    }

    /// Serves until there is nothing left to do. Waits where handlers wait for somebody else.
    ///
    /// # Errors
    /// [`Error::Start`].
    pub fn run(&mut self) -> Result<(), Error> {
        while self.turn()? {}
        Ok(())
    }

    /// One turn of the shard; false if there is nothing left to do. For those who send something
    /// while something else is being served.
    ///
    /// # Errors
    /// [`Error::Start`].
    pub fn turn(&mut self) -> Result<bool, Error> {
        if self.wire.borrow().is_idle() {
            return Ok(false);
        }
        self.shard.turn()?;
        Ok(true)
    }

    /// The answer to a request that was sent: header and body, as they are on the wire.
    ///
    /// # Errors
    /// [`Error::Unanswered`] if it is not there.
    pub fn answer(&mut self, unique: Unique) -> Result<&[u8], Error> {
        let mut wire = self.wire.borrow_mut();
        let bytes = wire.answer(unique).ok_or(Error::Unanswered)?;
        wire.reuse(std::mem::replace(&mut self.answer, bytes));
        Ok(&self.answer)
    }

    /// Counters, as of a session.
    #[must_use]
    pub fn stats(&self) -> Stats {
        Stats::sum(std::iter::once(&*self.stats))
    }

    fn fits(&self, len: usize) -> Result<(), Error> {
        let room = FRAME_LEAD + self.agreement.payload_max().max(2 * PAGE);
        if len > room { Err(Error::TooLong(room)) } else { Ok(()) }
    }
}

impl Drop for Simulation {
    fn drop(&mut self) {
        self.shard.close();
    }
}

fn agree(wishes: InitFlags) -> Result<Agreement, Error> {
    let offer = Offer { major: 7, minor: 45, max_readahead: 1 << 20, flags: InitFlags::all() };
    let can = wishes | plan::ENGINE_WISHES;
    let flags = plan::wishes(&Config::new("/"), can, offer.flags, TransportKind::Device);
    negotiate(&offer, &Wishes { flags, ..Wishes::default() }, &Limits::default())
        .map_err(|error| Error::Filesystem(error.to_string()))
}
