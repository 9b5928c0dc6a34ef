//! The seam between shards and the kernel.
//!
//! # Contract
//! A transport lends free slots ([`Transport::arm`]), tells what a completion means
//! ([`Transport::completed`]) and takes answers ([`Transport::commit`]).
//!
//! * Every slot that brought a request is committed exactly once (I2), also for operations that
//!   are never answered: the transport knows what that takes.
//! * `completed` is called for each completion of a key of the transport's, and reclaims the slot
//!   before it returns, so that the caller may hold it.
//! * After [`Arrival::Ended`] nothing more is armed or committed.
//!
//! Never known here: operations beyond their header, filesystems. Neighbours: `shard` drives a
//! transport, `sys` does what it asks.

pub(crate) mod device;
pub(crate) mod sim;
pub(crate) mod uring;

use std::io;
use std::ops::Range;
use std::rc::Rc;

use fusewire_proto::abi::InHeader;
use fusewire_proto::{Errno, Unique};

use crate::reply::Source;
use crate::sys::Key;
use crate::sys::arena::{Arena, Held, Span};
use crate::sys::ring::Ring;
use crate::whereabouts::Caller;

/// What a completion is of; the high half of its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Kind {
    /// A message was read from `/dev/fuse` into the slot.
    Read = 1,
    /// The slot's answer was written to `/dev/fuse`.
    Write = 2,
    /// An entry of FUSE-over-io_uring came back.
    Entry = 3,
    /// The shard's mailbox has something.
    Bell = 4,
    /// An operation of a handler on a file; the low half is its place, not a slot's.
    File = 5,
    /// A READ that the slot's answer was to follow.
    Source = 6,
}

impl Kind {
    pub(crate) fn key(self, slot: usize) -> Key {
        (u64::from(self as u32) << 32) | (slot as u64 & 0xffff_ffff)
    }

    pub(crate) fn of(key: Key) -> Option<(Self, usize)> {
        let kind = match key >> 32 {
            1 => Self::Read,
            2 => Self::Write,
            3 => Self::Entry,
            4 => Self::Bell,
            5 => Self::File,
            6 => Self::Source,
            _ => return None,
        };
        Some((kind, usize::try_from(key & 0xffff_ffff).ok()?))
    }
}

/// Why a connection is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// It was unmounted.
    Unmounted,
    /// It was aborted through fusectl.
    Aborted,
    /// The device or the ring failed.
    Failed(i32),
}

/// What a completion means.
#[derive(Debug)]
pub(crate) enum Arrival {
    /// A request lies in the slot.
    Request(InHeader, Span),
    /// What lies in the slot is no message; the slot was armed again.
    Malformed,
    /// The slot's answer left, or (false) was no longer wanted.
    Settled(bool),
    /// The slot's answer did not follow its READ; it is to be made and committed again.
    Unanswered,
    /// An answer was no longer wanted, and the slot is armed again.
    Undelivered,
    /// Nothing to do.
    Nothing,
    /// The connection is over.
    Ended(End),
}

/// An answer, complete but for its place in the slot.
#[derive(Clone, Debug)]
pub(crate) struct Committed {
    pub(crate) unique: Unique,
    /// The error, or the filled bytes of the payload and the whole length.
    pub(crate) result: Result<(Range<usize>, usize), Errno>,
    /// Whether the kernel waits for it.
    pub(crate) answered: bool,
    /// What fills it first: the key of that READ, and where it reads.
    pub(crate) source: Option<(Key, Source)>,
}

/// What is under way.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Pending {
    /// Answers whose completions come by themselves, at once.
    pub(crate) leaving: usize,
    /// Whether slots are lent to be filled with requests.
    pub(crate) armed: bool,
}

impl Pending {
    /// Completions to wait for: one beyond the answers that leave, if there can be one. Where all
    /// slots are leaving, only their own completions make room for another request.
    pub(crate) fn wait(self) -> usize {
        (self.leaving + usize::from(self.armed)).max(1)
    }
}

/// See the module's contract.
pub(crate) trait Transport {
    /// Lends idle slots, as many as make sense now.
    fn arm(&mut self, ring: &mut Ring, arena: &Rc<Arena>) -> io::Result<()>;

    /// Tells what the completion of a slot's operation means.
    fn completed(
        &mut self,
        ring: &mut Ring,
        arena: &Rc<Arena>,
        kind: Kind,
        slot: usize,
        result: i32,
    ) -> io::Result<Arrival>;

    /// Takes an answer. Returns whether the slot is settled at once; otherwise a completion tells.
    fn commit(&mut self, ring: &mut Ring, held: Held, answer: &Committed) -> io::Result<bool>;

    /// Who made the request that is in the slot.
    fn caller(&self, slot: usize) -> Caller;

    /// Whether answers of the slot are sent from where their parts lie.
    fn shares(&self, slot: usize) -> bool;

    /// Messages like the last one are not urgent: where none of another kind come by their way they
    /// may come together, and later.
    fn rest(&mut self) {}

    /// What a turn may wait for.
    fn pending(&self) -> Pending;
}
