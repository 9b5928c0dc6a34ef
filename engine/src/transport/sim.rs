//! A simulated kernel: messages from memory, answers to memory, and callers who go away.
//!
//! Requests are delivered as `/dev/fuse` does, in one piece behind the slot's head, and no
//! descriptor, mount or privilege is needed. One turn delivers as many as slots are free.
//!
//! Never known here: what the operations mean. Neighbour: `device`, whose frames these are.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::rc::Rc;

use fusewire_proto::abi::OutHeader;
use fusewire_proto::negotiate::Agreement;
use fusewire_proto::{Errno, Unique, frame};

use super::device::message;
use super::{Arrival, Committed, Kind, Pending, Transport};
use crate::sys::arena::{Arena, Held, Part, REPLY_HEADER_LEN};
use crate::sys::ring::Ring;
use crate::whereabouts::Caller;

/// The other end of the connection.
#[derive(Default)]
pub(crate) struct Wire {
    /// Messages that no slot has taken yet.
    requests: VecDeque<(Open, Vec<u8>)>,
    /// Answers that nobody has taken yet, headers included.
    answers: VecDeque<(Unique, Vec<u8>)>,
    /// Buffers to be used again.
    spare: Vec<Vec<u8>>,
    /// The requests of slots that have not answered them yet.
    open: Vec<Open>,
    /// Answers whose fate their slots do not know yet.
    leaving: usize,
}

#[derive(Clone, Copy, Debug)]
struct Open {
    unique: Unique,
    /// Its caller does not wait any more.
    is_left: bool,
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wire")
            .field("requests", &self.requests.len())
            .field("answers", &self.answers.len())
            .field("open", &self.open)
            .finish_non_exhaustive()
    }
}

/// That of a message without a whole header is 0.
fn unique_of(message: &[u8]) -> Unique {
    frame::in_header(message).map_or(Unique(0), |header| header.unique)
}

impl Wire {
    /// Whether there is nothing left to do.
    pub(crate) fn is_idle(&self) -> bool {
        self.open.is_empty() && self.leaving == 0 && self.requests.is_empty()
    }

    /// Whether, of so many slots, none has anything to do but to wait for its handler.
    pub(crate) fn waits(&self, slots: usize) -> bool {
        self.leaving == 0 && (self.requests.is_empty() || self.open.len() == slots)
    }

    /// Sends a message that `fill` writes, of at most `len` bytes.
    pub(crate) fn send<E>(
        &mut self,
        len: usize,
        fill: impl FnOnce(&mut [u8]) -> Result<usize, E>,
    ) -> Result<(), E> {
        let mut message = self.spare.pop().unwrap_or_default();
        message.clear();
        message.resize(len, 0);
        let filled = fill(&mut message)?;
        message.truncate(filled);
        let open = Open { unique: unique_of(&message), is_left: false };
        self.requests.push_back((open, message));
        Ok(())
    }

    /// The caller of this request does not wait any more: the oldest that was not answered.
    pub(crate) fn leave(&mut self, unique: Unique) {
        let queued = self.requests.iter_mut().map(|(open, _)| open);
        let mut open = self.open.iter_mut().chain(queued);
        if let Some(open) = open.find(|open| open.unique == unique && !open.is_left) {
            open.is_left = true;
        }
    }

    /// The oldest answer to this request.
    pub(crate) fn answer(&mut self, unique: Unique) -> Option<Vec<u8>> {
        let at = self.answers.iter().position(|(answered, _)| *answered == unique)?;
        self.answers.remove(at).map(|(_, bytes)| bytes)
    }

    /// Gives a buffer back.
    pub(crate) fn reuse(&mut self, bytes: Vec<u8>) {
        self.spare.push(bytes);
    }

    /// What the kernel does to deliver a message: out of line, so that it can be told from what
    /// the engine does.
    #[inline(never)]
    fn deliver(&mut self, held: &mut Held) -> Option<usize> {
        let (open, message) = self.requests.pop_front()?;
        let frame = held.frame_mut();
        let len = message.len().min(frame.len());
        frame[..len].copy_from_slice(&message[..len]);
        self.open.push(open);
        self.spare.push(message);
        Some(len)
    }

    /// What the kernel does with an answer: takes it, or says that nobody waits for it.
    #[inline(never)]
    fn take(&mut self, held: &mut Held, answer: &Committed) -> bool {
        if self.close(answer.unique).is_some_and(|open| open.is_left) {
            return false;
        }
        let mut bytes = self.spare.pop().unwrap_or_default();
        bytes.clear();
        bytes.resize(REPLY_HEADER_LEN, 0);
        let result = answer.result.as_ref().map(|(body, _)| body.clone());
        if let Ok(body) = result.clone() {
            let parts = std::mem::take(&mut *held.parts());
            let payload = held.payload_mut();
            if parts.is_empty() {
                bytes.extend_from_slice(&payload[body]);
            }
            for part in &parts {
                bytes.extend_from_slice(match part {
                    Part::Filled(range) => &payload[range.clone()],
                    Part::Shared(shared) => shared.bytes(),
                });
            }
        }
        // What `/dev/fuse` would have been told: whoever decodes the answer looks whether it is so.
        let len = answer.result.as_ref().map_or(0, |(_, len)| *len);
        let header = OutHeader::new(answer.unique, result.map(drop).map_err(|errno| *errno), len);
        frame::put_out_header(&mut bytes, &header);
        self.answers.push_back((answer.unique, bytes));
        true
    }

    /// Refuses a message whose lengths do not agree, as `device` does.
    fn refuse(&mut self, unique: Unique) {
        let mut bytes = vec![0; REPLY_HEADER_LEN];
        frame::put_out_header(&mut bytes, &OutHeader::new(unique, Err(Errno::EIO), 0));
        self.answers.push_back((unique, bytes));
    }

    fn close(&mut self, unique: Unique) -> Option<Open> {
        let at = self.open.iter().position(|open| open.unique == unique)?;
        Some(self.open.swap_remove(at))
    }
}

/// A shard's end of it.
#[derive(Debug)]
pub(crate) struct SimTransport {
    wire: Rc<RefCell<Wire>>,
    agreement: Agreement,
    idle: Vec<usize>,
}

impl SimTransport {
    /// Takes requests from `wire` with the slots of a shard that has so many.
    pub(crate) fn new(wire: Rc<RefCell<Wire>>, slots: usize, agreement: &Agreement) -> Self {
        Self { wire, agreement: *agreement, idle: (0..slots).rev().collect() }
    }
}

impl Transport for SimTransport {
    fn arm(&mut self, ring: &mut Ring, arena: &Rc<Arena>) -> io::Result<()> {
        while let Some(slot) = self.idle.pop() {
            let mut held = arena.hold(slot);
            let Some(len) = self.wire.borrow_mut().deliver(&mut held) else {
                self.idle.push(slot);
                break;
            };
            let _lent = held.lend();
            ring.complete(Kind::Read.key(slot), i32::try_from(len).unwrap_or(i32::MAX));
        }
        Ok(())
    }

    fn completed(
        &mut self,
        _ring: &mut Ring,
        arena: &Rc<Arena>,
        kind: Kind,
        slot: usize,
        result: i32,
    ) -> io::Result<Arrival> {
        arena.reclaim(slot);
        let Kind::Read = kind else {
            self.wire.borrow_mut().leaving -= 1;
            self.idle.push(slot);
            return Ok(Arrival::Settled(result >= 0));
        };
        let held = arena.hold(slot);
        let len = usize::try_from(result).unwrap_or(0);
        match message(&held, len, &self.agreement) {
            Ok((header, span)) => Ok(Arrival::Request(header, span)),
            Err(unique) => {
                let mut wire = self.wire.borrow_mut();
                wire.close(unique.unwrap_or(Unique(0)));
                if let Some(unique) = unique {
                    wire.refuse(unique);
                }
                self.idle.push(slot);
                Ok(Arrival::Malformed)
            }
        }
    }

    fn commit(&mut self, ring: &mut Ring, mut held: Held, answer: &Committed) -> io::Result<bool> {
        let slot = held.index();
        let mut wire = self.wire.borrow_mut();
        if !answer.answered {
            wire.close(answer.unique);
            self.idle.push(slot);
            return Ok(true);
        }
        let delivered = wire.take(&mut held, answer);
        let _lent = held.lend();
        ring.complete(Kind::Write.key(slot), if delivered { 0 } else { -libc::ENOENT });
        wire.leaving += 1;
        Ok(false)
    }

    fn caller(&self, _slot: usize) -> Caller {
        Caller::Nobody
    }

    fn shares(&self, _slot: usize) -> bool {
        true
    }

    fn pending(&self) -> Pending {
        Pending { leaving: self.wire.borrow().leaving, armed: false }
    }
}
