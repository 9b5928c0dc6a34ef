//! A simulated kernel: messages from memory, answers to memory, and callers who go away.
//!
//! Requests are delivered as `/dev/fuse` does, in one piece behind the slot's head, and no
//! descriptor, mount or privilege is needed. One turn delivers as many as slots are free.
//!
//! Never known here: what the operations mean. Neighbour: `device`, whose frames these are.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;

use fusewire_proto::Unique;
use fusewire_proto::abi::OutHeader;
use fusewire_proto::frame;
use fusewire_proto::negotiate::Agreement;

use super::device::message;
use super::{Arrival, Committed, Kind, Pending, Transport};
use crate::sys::arena::{Arena, Held, Part, REPLY_HEADER_LEN};
use crate::sys::ring::Ring;
use crate::whereabouts::Caller;

/// The other end of the connection.
#[derive(Debug, Default)]
pub(crate) struct Wire {
    /// Messages that no slot has taken yet.
    requests: VecDeque<Vec<u8>>,
    /// Answers that nobody has looked at yet, headers included.
    answers: VecDeque<(Unique, Vec<u8>)>,
    /// Buffers to be used again.
    spare: Vec<Vec<u8>>,
    /// Requests whose callers do not wait any more.
    gone: Vec<Unique>,
    /// Slots that have a request, or an answer whose fate they do not know yet.
    busy: usize,
}

impl Wire {
    /// Whether there is nothing left to do.
    pub(crate) fn is_idle(&self) -> bool {
        self.busy == 0 && self.requests.is_empty()
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
        self.requests.push_back(message);
        Ok(())
    }

    /// The caller of this request does not wait for its answer any more.
    pub(crate) fn leave(&mut self, unique: Unique) {
        self.gone.push(unique);
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
        let message = self.requests.pop_front()?;
        let frame = held.frame_mut();
        let len = message.len().min(frame.len());
        frame[..len].copy_from_slice(&message[..len]);
        self.spare.push(message);
        self.busy += 1;
        Some(len)
    }

    /// What the kernel does with an answer: takes it, or says that nobody waits for it.
    #[inline(never)]
    fn take(&mut self, held: &mut Held, answer: &Committed) -> bool {
        if let Some(at) = self.gone.iter().position(|gone| *gone == answer.unique) {
            self.gone.swap_remove(at);
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
        let len = bytes.len() - REPLY_HEADER_LEN;
        let header = OutHeader::new(answer.unique, result.map(drop).map_err(|errno| *errno), len);
        frame::put_out_header(&mut bytes, &header);
        self.answers.push_back((answer.unique, bytes));
        true
    }
}

/// A shard's end of it.
#[derive(Debug)]
pub(crate) struct SimTransport {
    wire: Rc<RefCell<Wire>>,
    agreement: Agreement,
    idle: Vec<usize>,
    leaving: usize,
}

impl SimTransport {
    /// Takes requests from `wire` with the slots of a shard that has so many.
    pub(crate) fn new(wire: Rc<RefCell<Wire>>, slots: usize, agreement: &Agreement) -> Self {
        Self { wire, agreement: *agreement, idle: (0..slots).rev().collect(), leaving: 0 }
    }

    fn settled(&mut self, slot: usize) {
        self.idle.push(slot);
        self.wire.borrow_mut().busy -= 1;
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
            self.leaving -= 1;
            self.settled(slot);
            return Ok(Arrival::Settled(result >= 0));
        };
        let held = arena.hold(slot);
        let len = usize::try_from(result).unwrap_or(0);
        let Ok((header, span)) = message(&held, len, &self.agreement) else {
            self.settled(slot);
            return Ok(Arrival::Malformed);
        };
        Ok(Arrival::Request(header, span))
    }

    fn commit(&mut self, ring: &mut Ring, mut held: Held, answer: &Committed) -> io::Result<bool> {
        let slot = held.index();
        if !answer.answered {
            self.settled(slot);
            return Ok(true);
        }
        let delivered = self.wire.borrow_mut().take(&mut held, answer);
        let _lent = held.lend();
        ring.complete(Kind::Write.key(slot), if delivered { 0 } else { -libc::ENOENT });
        self.leaving += 1;
        Ok(false)
    }

    fn caller(&self, _slot: usize) -> Caller {
        Caller::Nobody
    }

    fn shares(&self, _slot: usize) -> bool {
        true
    }

    fn pending(&self) -> Pending {
        Pending { leaving: self.leaving, armed: false }
    }
}
