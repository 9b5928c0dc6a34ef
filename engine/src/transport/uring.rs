//! FUSE-over-io_uring: entries on the kernel's queues, beside the classic lane.
//!
//! A slot is an entry of one queue. Registered or committed it is lent; its completion brings a
//! request, and committing that answers and lends it again in one command. Forgets, interrupts,
//! requests that raced the switch-over and resent ones still come over `/dev/fuse`, so one shard
//! keeps a [`DeviceTransport`] beside its entries.
//!
//! The kernel uses the ring only once every possible CPU's queue has an entry
//! (`fs/fuse/dev_uring.c, is_ring_ready`); a REGISTER that is refused before that gives the
//! connection back to `/dev/fuse`.
//!
//! Never known here: what the operations mean. Neighbour: `device`.

use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::rc::Rc;

use fusewire_proto::Opcode;
use fusewire_proto::abi::OutHeader;
use fusewire_proto::frame;
use fusewire_proto::negotiate::Agreement;

use super::device::DeviceTransport;
use super::{Arrival, Committed, End, Kind, Pending, Transport};
use crate::sys::arena::{Arena, Held, Span};
use crate::sys::ring::{EntryCommand, Ring};
use crate::whereabouts::Caller;

/// Where the parts of the ring header lie: include/uapi/linux/fuse.h,
/// `struct fuse_uring_req_header`.
const OP_IN: Range<usize> = 128..256;
const ENTRY: Range<usize> = 256..288;

#[derive(Debug)]
struct Entry {
    queue: u16,
    commit_id: u64,
    /// Lent by REGISTER, not by a commit.
    fresh: bool,
}

/// A shard's entries and, on one shard, the classic lane.
#[derive(Debug)]
pub(crate) struct UringTransport {
    fd: OwnedFd,
    agreement: Agreement,
    /// Slot `first + i` is entry `i`.
    first: usize,
    entries: Vec<Entry>,
    lane: Option<DeviceTransport>,
    /// Entries that the kernel has.
    lent: usize,
}

impl UringTransport {
    /// `queues` are this shard's, each to get `depth` entries, in slots from `first` on.
    pub(crate) fn new(
        fd: OwnedFd,
        first: usize,
        queues: &[u16],
        depth: usize,
        lane: Option<DeviceTransport>,
        agreement: &Agreement,
    ) -> Self {
        let entries = queues
            .iter()
            .flat_map(|queue| std::iter::repeat_n(*queue, depth))
            .map(|queue| Entry { queue, commit_id: 0, fresh: true })
            .collect();
        Self { fd, agreement: *agreement, first, entries, lane, lent: 0 }
    }

    /// Lends every entry to its queue.
    pub(crate) fn register_all(&mut self, ring: &mut Ring, arena: &Rc<Arena>) -> io::Result<()> {
        for slot in self.first..self.first + self.entries.len() {
            self.register(ring, arena, slot)?;
        }
        Ok(())
    }

    fn register(&mut self, ring: &mut Ring, arena: &Rc<Arena>, slot: usize) -> io::Result<()> {
        let entry = &mut self.entries[slot - self.first];
        entry.fresh = true;
        let lent = arena.hold(slot).lend_entry();
        self.lent += 1;
        let key = Kind::Entry.key(slot);
        ring.entry(key, self.fd.as_fd(), EntryCommand::Register, entry.queue, 0, &lent)
    }

    /// What a completion says about a registration: the error, if it was refused.
    pub(crate) fn refusal(result: i32) -> Option<io::Error> {
        match -result {
            0 | libc::ENOTCONN | libc::ECONNABORTED | libc::ECANCELED => None,
            errno => Some(io::Error::from_raw_os_error(errno)),
        }
    }

    fn delivered(&mut self, arena: &Rc<Arena>, slot: usize) -> Arrival {
        let mut held = arena.hold(slot);
        let head_len = held.head_len();
        let entry = &mut self.entries[slot - self.first];
        entry.fresh = false;
        let (Some(header), Some(ring_entry)) =
            (frame::in_header(held.ring_header()), frame::ring_entry(&held.ring_header()[ENTRY]))
        else {
            unreachable!("the ring header has room for both");
        };
        entry.commit_id = ring_entry.commit_id;
        let payload_len = (ring_entry.payload_sz as usize).min(held.payload_mut().len());
        let opcode = Opcode::from_raw(header.opcode);
        let argument_len = opcode.map_or(0, |one| self.agreement.argument_len(one));
        let payload = head_len..head_len + payload_len;
        let span = if opcode == Some(Opcode::NotifyReply) {
            // Its struct is at the start of the payload (fs/fuse/dev.c, fuse_retrieve).
            let input_at = (head_len + argument_len).min(payload.end);
            Span { argument: head_len..input_at, input: input_at..payload.end }
        } else {
            Span {
                argument: OP_IN.start..OP_IN.start + argument_len.min(OP_IN.len()),
                input: payload,
            }
        };
        Arrival::Request(header, span)
    }

    fn entry_ended(
        &mut self,
        ring: &mut Ring,
        arena: &Rc<Arena>,
        slot: usize,
        result: i32,
    ) -> io::Result<Arrival> {
        arena.reclaim(slot);
        self.lent -= 1;
        match -result {
            0 => Ok(self.delivered(arena, slot)),
            libc::ENOTCONN => Ok(Arrival::Ended(End::Unmounted)),
            libc::ECONNABORTED => Ok(Arrival::Ended(End::Aborted)),
            // The submitting thread is ending; there is nobody to lend the entry again.
            libc::ECANCELED => Ok(Arrival::Nothing),
            libc::ENOENT if !self.entries[slot - self.first].fresh => {
                // The request was ended by somebody else; the commit did not lend the entry.
                self.register(ring, arena, slot)?;
                Ok(Arrival::Undelivered)
            }
            errno => Ok(Arrival::Ended(End::Failed(errno))),
        }
    }

    fn lane(&mut self) -> &mut DeviceTransport {
        self.lane.as_mut().expect("only the lane reads and writes the device")
    }

    fn is_entry(&self, slot: usize) -> bool {
        (self.first..self.first + self.entries.len()).contains(&slot)
    }
}

impl Transport for UringTransport {
    fn arm(&mut self, ring: &mut Ring, arena: &Rc<Arena>) -> io::Result<()> {
        self.lane.as_mut().map_or(Ok(()), |lane| lane.arm(ring, arena))
    }

    fn completed(
        &mut self,
        ring: &mut Ring,
        arena: &Rc<Arena>,
        kind: Kind,
        slot: usize,
        result: i32,
    ) -> io::Result<Arrival> {
        match kind {
            Kind::Entry => self.entry_ended(ring, arena, slot, result),
            // The READ came short, so the commit behind it was not begun, and will not tell.
            Kind::Source => {
                arena.reclaim(slot);
                self.lent -= 1;
                Ok(Arrival::Unanswered)
            }
            _ => self.lane().completed(ring, arena, kind, slot, result),
        }
    }

    fn commit(&mut self, ring: &mut Ring, mut held: Held, answer: &Committed) -> io::Result<bool> {
        let slot = held.index();
        if !self.is_entry(slot) {
            return self.lane().commit(ring, held, answer);
        }
        let entry = &self.entries[slot - self.first];
        let (result, len) = match &answer.result {
            Ok((body, len)) => {
                // The kernel takes the whole answer from the start of the payload.
                if body.start > 0 {
                    held.payload_mut().copy_within(body.clone(), 0);
                }
                (Ok(()), *len)
            }
            Err(errno) => (Err(*errno), 0),
        };
        let header = OutHeader::new(answer.unique, result, len);
        let ring_header = held.ring_header_mut();
        frame::put_out_header(ring_header, &header);
        frame::put_ring_entry(&mut ring_header[ENTRY], entry.commit_id, len);
        let (queue, commit_id) = (entry.queue, entry.commit_id);
        if let Some((key, source)) = &answer.source {
            let (fd, at) = (source.file.as_raw_fd(), held.memory(0..len));
            ring.read_first(*key, fd, at, source.offset)?;
        }
        let lent = held.lend();
        self.lent += 1;
        let key = Kind::Entry.key(slot);
        ring.entry(key, self.fd.as_fd(), EntryCommand::CommitAndFetch, queue, commit_id, &lent)?;
        Ok(true)
    }

    fn caller(&self, slot: usize) -> Caller {
        if !self.is_entry(slot) {
            return Caller::Nobody;
        }
        // Queues are by CPU (fs/fuse/dev_uring.c, fuse_uring_task_to_queue).
        Caller::On(usize::from(self.entries[slot - self.first].queue))
    }

    fn shares(&self, slot: usize) -> bool {
        !self.is_entry(slot)
    }

    /// An INTERRUPT behind such a message is read later, too.
    fn rest(&mut self) {
        if let Some(lane) = &mut self.lane {
            lane.pause();
        }
    }

    fn pending(&self) -> Pending {
        let lane = self.lane.as_ref().map(Transport::pending).unwrap_or_default();
        Pending { leaving: lane.leaving, armed: lane.armed || self.lent > 0 }
    }
}
