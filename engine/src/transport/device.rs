//! `/dev/fuse`, driven through the shard's ring.
//!
//! Each shard has its own non-blocking clone of the device. A slot lends its frame to a read; the
//! reply goes out as one `writev` of header and data, from where they lie, on the same
//! descriptor: the kernel keeps a list of open requests per descriptor and answers ENOENT on any
//! other (`fs/fuse/dev.c, fuse_dev_do_write`).
//!
//! # Ordering
//! One read is armed while the shard keeps up, and answers are written at once. Now and then it is
//! two: when both bring a request there is a backlog, and while every armed read of a turn does,
//! the number doubles, so that a turn takes many requests; otherwise it falls back by one. No turn
//! takes more than the cache of a CPU has room for: with large WRITEs one after the other is read
//! into the same slot, and is there still when it is served.
//!
//! Never known here: what the operations mean. Neighbour: `uring` keeps one of these beside its
//! entries as the classic lane.

use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;

use fusewire_proto::abi::{InHeader, OutHeader};
use fusewire_proto::frame;
use fusewire_proto::negotiate::Agreement;
use fusewire_proto::{Errno, Opcode, Unique};

use super::{Arrival, Committed, End, Kind, Pending, Transport};
use crate::sys::arena::{Arena, FRAME_LEAD, Held, REPLY_HEADER_LEN, Span};
use crate::sys::device;
use crate::sys::ring::Ring;
use crate::whereabouts::Caller;

/// Reads that are armed at most, so that idle ones do not all wake for every request.
const ARMED_MAX: usize = 16;
/// Bytes that the reads of a turn may bring: half of the cache that a CPU has to itself, as a rule.
const TURN_BYTES: usize = 1024 * 1024;
/// Turns with one armed read between two that try two, at most.
const PATIENCE_MAX: u32 = 64;

/// One descriptor of the connection and the slots that read from it.
#[derive(Debug)]
pub(crate) struct DeviceTransport {
    fd: OwnedFd,
    agreement: Agreement,
    idle: Vec<usize>,
    armed: usize,
    /// Reads that were armed and that brought something since the last arming.
    was_armed: usize,
    came: usize,
    bytes: usize,
    appetite: Appetite,
    /// Reads that are armed at most.
    most: usize,
    /// Whether the next read is to begin later only.
    rests: bool,
    leaving: usize,
    refusal: Refusal,
}

/// How many reads to arm.
#[derive(Debug)]
struct Appetite {
    reads: usize,
    /// Turns with one read that brought a request, and how many it takes to try two.
    lone: u32,
    patience: u32,
}

impl Default for Appetite {
    fn default() -> Self {
        Self { reads: 1, lone: 0, patience: 1 }
    }
}

impl Appetite {
    /// A turn is over, in which `came` of the armed reads brought something, so many bytes in all.
    fn adapt(&mut self, came: usize, bytes: usize, armed: usize, most: usize) {
        let Some(mean) = bytes.checked_div(came) else { return };
        let most = most.min(TURN_BYTES / mean.max(1)).max(1);
        if came < armed {
            if self.reads == 2 {
                self.patience = (self.patience * 2).min(PATIENCE_MAX);
            }
            self.reads = (self.reads - 1).clamp(1, most);
        } else if self.reads > 1 {
            self.patience = 1;
            self.reads = (self.reads * 2).min(most);
        } else if self.lone < self.patience {
            self.lone += 1;
        } else {
            self.lone = 0;
            self.reads = most.min(2);
        }
    }
}

/// Whether a read was refused with ECONNABORTED.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refusal {
    None,
    ThisTurn,
    Before,
}

impl DeviceTransport {
    /// Reads from `fd`, a non-blocking clone, with the slots `slots` of the shard.
    pub(crate) fn new(fd: OwnedFd, slots: Range<usize>, agreement: &Agreement) -> Self {
        Self {
            fd,
            agreement: *agreement,
            most: ARMED_MAX.min(slots.len()),
            idle: slots.rev().collect(),
            armed: 0,
            was_armed: 0,
            came: 0,
            bytes: 0,
            appetite: Appetite::default(),
            rests: false,
            leaving: 0,
            refusal: Refusal::None,
        }
    }

    /// The same beside a ring, where little comes.
    pub(crate) fn lane(fd: OwnedFd, slots: Range<usize>, agreement: &Agreement) -> Self {
        Self { most: 1, ..Self::new(fd, slots, agreement) }
    }

    /// The next read is to begin later: what comes until then comes together.
    pub(super) fn pause(&mut self) {
        self.rests = true;
    }

    fn read_ended(&mut self, arena: &Rc<Arena>, slot: usize, result: i32) -> Arrival {
        arena.reclaim(slot);
        self.armed -= 1;
        let Ok(len) = usize::try_from(result) else {
            self.idle.push(slot);
            return match -result {
                // ENOENT: the request was taken back while it was being copied.
                libc::EAGAIN | libc::EINTR | libc::ENOENT => Arrival::Nothing,
                libc::ENODEV => Arrival::Ended(End::Unmounted),
                libc::ECONNABORTED => self.refused(),
                libc::ECANCELED => Arrival::Nothing,
                errno => Arrival::Ended(End::Failed(errno)),
            };
        };
        self.came += 1;
        self.bytes += len;
        let held = arena.hold(slot);
        match message(&held, len, &self.agreement) {
            Ok((header, span)) => Arrival::Request(header, span),
            Err(unique) => {
                tracing::warn!(len, "a message whose lengths do not agree");
                drop(held);
                self.idle.push(slot);
                if let Some(unique) = unique {
                    self.refuse(unique);
                }
                Arrival::Malformed
            }
        }
    }

    /// What ECONNABORTED means. A read that had taken a request when the connection ended gets it,
    /// however that ended (`fs/fuse/dev.c, fuse_dev_do_read`: the list of open requests is closed);
    /// a later read gets it after an abort through fusectl only, and otherwise ENODEV.
    fn refused(&mut self) -> Arrival {
        match self.refusal {
            Refusal::None | Refusal::ThisTurn => {
                self.refusal = Refusal::ThisTurn;
                Arrival::Nothing
            }
            Refusal::Before => Arrival::Ended(End::Aborted),
        }
    }

    /// Answers EIO to a request that has no slot. Never blocks.
    fn refuse(&self, unique: Unique) {
        let mut bytes = [0; REPLY_HEADER_LEN];
        frame::put_out_header(&mut bytes, &OutHeader::new(unique, Err(Errno::EIO), 0));
        // An error here means that nobody waits for the answer.
        let _ = device::write(&self.fd, &bytes);
    }
}

/// Takes a message of `len` bytes apart. The error carries the unique, where it could be read.
pub(super) fn message(
    held: &Held,
    len: usize,
    agreement: &Agreement,
) -> Result<(InHeader, Span), Option<Unique>> {
    let frame = held.frame(len);
    let header = frame::in_header(frame).ok_or(None)?;
    if header.len as usize != len || len > frame.len() {
        return Err(Some(header.unique));
    }
    let argument_len = Opcode::from_raw(header.opcode).map_or(0, |one| agreement.argument_len(one));
    let at = held.frame_at() + size_of::<InHeader>();
    let end = held.frame_at() + len;
    // A message shorter than its struct is for the decoder to refuse, which names the field.
    let input_at = (at + argument_len).min(end);
    Ok((header, Span { argument: at..input_at, input: input_at..end }))
}

const _: () = assert!(FRAME_LEAD == size_of::<InHeader>() + 40, "WRITE data are page-aligned");

impl Transport for DeviceTransport {
    fn arm(&mut self, ring: &mut Ring, arena: &Rc<Arena>) -> io::Result<()> {
        let (came, bytes) = (std::mem::take(&mut self.came), std::mem::take(&mut self.bytes));
        self.appetite.adapt(came, bytes, self.was_armed, self.most);
        if self.refusal == Refusal::ThisTurn {
            self.refusal = Refusal::Before;
        }
        while self.armed < self.appetite.reads {
            let Some(slot) = self.idle.pop() else { break };
            let lent = arena.hold(slot).lend();
            let (key, fd) = (Kind::Read.key(slot), self.fd.as_fd());
            if std::mem::take(&mut self.rests) {
                ring.read_frame_later(key, fd, &lent)?;
            } else {
                ring.read_frame(key, fd, &lent);
            }
            self.armed += 1;
        }
        self.was_armed = self.armed;
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
        if kind == Kind::Read {
            return Ok(self.read_ended(arena, slot, result));
        }
        arena.reclaim(slot);
        self.leaving -= 1;
        self.idle.push(slot);
        if result < 0 && result != -libc::ENOENT {
            tracing::debug!(errno = -result, "an answer was refused");
        }
        Ok(Arrival::Settled(result >= 0))
    }

    fn commit(&mut self, ring: &mut Ring, mut held: Held, answer: &Committed) -> io::Result<bool> {
        let slot = held.index();
        if !answer.answered {
            self.idle.push(slot);
            return Ok(true);
        }
        let (result, body) = match &answer.result {
            Ok((body, len)) => (Ok(*len), body.clone()),
            Err(errno) => {
                held.parts().clear();
                (Err(*errno), 0..0)
            }
        };
        let header =
            OutHeader::new(answer.unique, result.map(|_| ()), *result.as_ref().unwrap_or(&0));
        frame::put_out_header(held.reply_header_mut(), &header);
        let lent = held.lend_reply(body);
        ring.write_reply(Kind::Write.key(slot), self.fd.as_fd(), &lent, self.appetite.reads == 1)?;
        self.leaving += 1;
        Ok(false)
    }

    fn caller(&self, _slot: usize) -> Caller {
        Caller::Somewhere
    }

    fn shares(&self, _slot: usize) -> bool {
        true
    }

    fn pending(&self) -> Pending {
        Pending { leaving: self.leaving, armed: self.armed > 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Turns until `until`, in each of which `came` says how many of the armed reads came.
    fn turns(
        appetite: &mut Appetite,
        came: impl Fn(usize) -> usize,
        until: impl Fn(&Appetite) -> bool,
    ) -> u32 {
        let mut turns = 0;
        while !until(appetite) {
            let armed = appetite.reads;
            appetite.adapt(came(armed), 100 * came(armed), armed, ARMED_MAX);
            turns += 1;
        }
        turns
    }

    #[test]
    fn lone_requests_have_one_read_and_a_backlog_has_many() {
        let mut appetite = Appetite::default();
        let mut tried = Vec::new();
        for _ in 0..8 {
            tried.push(turns(&mut appetite, |_| 1, |appetite| appetite.reads == 2));
            assert_eq!(turns(&mut appetite, |_| 1, |appetite| appetite.reads == 1), 1);
        }
        assert_eq!(tried, [2, 3, 5, 9, 17, 33, 65, 65]);
        let backlog = |appetite: &mut Appetite| {
            turns(appetite, |armed| armed, |appetite| appetite.reads == ARMED_MAX)
        };
        assert_eq!(backlog(&mut appetite), 65 + 3);
        assert_eq!(turns(&mut appetite, |armed| armed - 1, |appetite| appetite.reads == 1), 15);
        assert_eq!(backlog(&mut appetite), 3 + 3, "another is met sooner");
    }

    #[test]
    fn what_brings_no_request_tells_nothing_and_reads_have_slots() {
        let mut appetite = Appetite { reads: 4, ..Appetite::default() };
        appetite.adapt(0, 0, 4, ARMED_MAX);
        assert_eq!(appetite.reads, 4);
        appetite.adapt(4, 400, 4, 6);
        assert_eq!(appetite.reads, 6);
        let mut appetite = Appetite::default();
        (0..9).for_each(|_| appetite.adapt(1, 100, 1, 1));
        assert_eq!(appetite.reads, 1);
    }

    #[test]
    fn a_turn_takes_no_more_than_a_cache_holds() {
        for (len, most) in [(64, 16), (64 * 1024, 16), (256 * 1024, 4), (1024 * 1024 + 80, 1)] {
            let mut appetite = Appetite { reads: 2, ..Appetite::default() };
            for _ in 0..1000 {
                let armed = appetite.reads;
                appetite.adapt(armed, armed * len, armed, ARMED_MAX);
            }
            assert_eq!(appetite.reads, most, "{len}");
            appetite.reads = 16;
            appetite.adapt(15, 15 * len, 16, ARMED_MAX);
            assert_eq!(appetite.reads, most.min(15), "{len}");
        }
    }
}
