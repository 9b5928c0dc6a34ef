//! Slot memory: one mapping per shard, cut into slots of a head page and a payload.
//!
//! ```text
//!  head                                                        payload
//!  | 288 B ring header | iovecs ......... | 80 B frame start || page boundary ...
//! ```
//!
//! A slot is *free*, *held* by exactly one [`Held`], or *lent* to the kernel (invariant I1). The
//! only way to its bytes is through `Held`, so nothing of ours can look at a buffer that the
//! kernel may write. The mapping is not pre-faulted: an unused payload costs no memory.
//!
//! Never known here: what the bytes mean. Neighbours: `ring` lends slots, `transport` gives the
//! bytes a meaning.

use std::cell::{Cell, RefCell, RefMut};
use std::fmt;
use std::io;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::ptr::NonNull;
use std::rc::Rc;
use std::sync::Arc;

use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous, munmap};

/// Bytes of the header that FUSE-over-io_uring fills: `struct fuse_uring_req_header`.
pub(crate) const RING_HEADER_LEN: usize = 288;
/// Bytes in front of the payload that a `/dev/fuse` frame starts at: `fuse_in_header` and
/// `fuse_write_in`, so that WRITE data begin on the page boundary.
pub(crate) const FRAME_LEAD: usize = 80;
/// Where the list of segments of a reply lies in the head page.
const SEGMENTS_AT: usize = 512;
/// Where the header of a `/dev/fuse` reply lies in the head page.
const REPLY_HEADER_AT: usize = RING_HEADER_LEN;
/// Bytes of `struct fuse_out_header`.
pub(crate) const REPLY_HEADER_LEN: usize = 16;
/// The most segments that one reply may have.
pub(crate) const SEGMENTS_MAX: usize = 192;

const _: () = assert!(REPLY_HEADER_AT + REPLY_HEADER_LEN <= SEGMENTS_AT);
const _: () = assert!(SEGMENTS_AT + SEGMENTS_MAX * size_of::<libc::iovec>() <= 4096 - FRAME_LEAD);

/// Bytes that an answer shares with their owner instead of copying them.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) owner: Arc<dyn AsRef<[u8]> + Send + Sync>,
    pub(crate) range: Range<usize>,
}

impl Shared {
    /// The bytes, or nothing where the range lies outside of what the owner has.
    pub(crate) fn bytes(&self) -> &[u8] {
        (*self.owner).as_ref().get(self.range.clone()).unwrap_or(&[])
    }
}

/// A piece of an answer on `/dev/fuse`, in order.
#[derive(Clone, Debug)]
pub(crate) enum Part {
    /// Bytes of the slot's own payload.
    Filled(Range<usize>),
    /// Bytes that lie elsewhere.
    Shared(Shared),
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("range", &self.range).finish_non_exhaustive()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Free,
    Held,
    Lent,
}

#[derive(Debug)]
struct Slot {
    state: Cell<State>,
    /// What the slot's answer is made of, if not of one piece; dropped when the loan ends.
    parts: RefCell<Vec<Part>>,
}

/// The memory of a shard's slots.
#[derive(Debug)]
pub(crate) struct Arena {
    base: NonNull<u8>,
    map_len: NonZeroUsize,
    head_len: usize,
    payload_len: usize,
    slots: Box<[Slot]>,
}

impl Arena {
    /// Maps memory for `slots` slots of `payload_len` bytes each, in pages of `page_size`.
    pub(crate) fn new(slots: usize, payload_len: usize, page_size: usize) -> io::Result<Rc<Self>> {
        let payload_len = payload_len.next_multiple_of(page_size);
        let head_len = page_size;
        assert!(head_len >= 4096, "the head page holds the segments of a reply");
        let map_len = slots
            .checked_mul(head_len + payload_len)
            .and_then(NonZeroUsize::new)
            .ok_or(io::ErrorKind::InvalidInput)?;
        // SAFETY: a new private mapping with no address asked for touches no memory of ours.
        let base = unsafe {
            mmap_anonymous(
                None,
                map_len,
                ProtFlags::PROT_READ | ProtFlags::PROT_WRITE,
                MapFlags::MAP_PRIVATE | MapFlags::MAP_NORESERVE,
            )
        }?;
        let slot = |_| Slot {
            state: Cell::new(State::Free),
            parts: RefCell::new(Vec::with_capacity(SEGMENTS_MAX)),
        };
        Ok(Rc::new(Self {
            base: base.cast(),
            map_len,
            head_len,
            payload_len,
            slots: (0..slots).map(slot).collect(),
        }))
    }

    /// Slots that the kernel has.
    pub(crate) fn lent(&self) -> usize {
        self.slots.iter().filter(|slot| slot.state.get() == State::Lent).count()
    }

    /// Takes a free slot. Panics (I1) if it is held or lent.
    pub(crate) fn hold(self: &Rc<Self>, index: usize) -> Held {
        let state = &self.slots[index].state;
        assert!(state.get() == State::Free, "I1: slot {index} is {:?}, not free", state.get());
        state.set(State::Held);
        Held { arena: Rc::clone(self), index }
    }

    /// Ends a loan: the completion of the kernel's last use of the slot has been seen.
    /// Panics (I1) if the slot is not lent.
    pub(crate) fn reclaim(&self, index: usize) {
        let slot = &self.slots[index];
        assert!(slot.state.get() == State::Lent, "I1: slot {index} is not lent");
        slot.state.set(State::Free);
        slot.parts.borrow_mut().clear();
    }

    /// The bytes `range` of a slot's payload, for the kernel to use while the slot is held (I9).
    /// Panics if they are not in the payload.
    pub(crate) fn memory(&self, index: usize, range: Range<usize>) -> Memory {
        assert!(range.start <= range.end && range.end <= self.payload_len, "in the payload");
        let payload = self.slot(index).as_ptr().wrapping_add(self.head_len);
        Memory { at: payload.wrapping_add(range.start), len: range.len() }
    }

    /// Where in a slot's payload `bytes` lie, if they do.
    pub(crate) fn place_of(&self, index: usize, bytes: &[u8]) -> Option<Range<usize>> {
        let payload = self.slot(index).as_ptr().addr() + self.head_len;
        let start = bytes.as_ptr().addr().checked_sub(payload)?;
        let end = start.checked_add(bytes.len())?;
        (end <= self.payload_len).then_some(start..end)
    }

    fn slot_len(&self) -> usize {
        self.head_len + self.payload_len
    }

    fn slot(&self, index: usize) -> NonNull<u8> {
        assert!(index < self.slots.len(), "slot {index} does not exist");
        // SAFETY: I1. The offset of an existing slot lies inside the mapping by construction.
        unsafe { self.base.add(index * self.slot_len()) }
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        if self.lent() > 0 {
            // I6: the kernel may still use it, and so the bytes that its answers share.
            for slot in &mut self.slots {
                std::mem::forget(slot.parts.take());
            }
            return;
        }
        // SAFETY: I1, I6. No slot is lent, and each `Held` keeps the arena alive, so none exists.
        let unmapped = unsafe { munmap(self.base.cast(), self.map_len.get()) };
        debug_assert!(unmapped.is_ok(), "munmap of a whole mapping of ours");
    }
}

/// Bytes that the kernel may use in an operation of the filesystem's (I9): those of a slot that is
/// held, or of an owner that is kept, until its completion.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Memory {
    pub(super) at: *mut u8,
    pub(super) len: usize,
}

impl Memory {
    /// Bytes to be read by the kernel, which whoever has the operation keeps.
    pub(crate) fn of(bytes: &[u8]) -> Self {
        Self { at: bytes.as_ptr().cast_mut(), len: bytes.len() }
    }
}

/// Where the parts of a received message lie, in bytes from the start of the slot.
#[derive(Clone, Debug, Default)]
pub(crate) struct Span {
    /// The operation's fixed struct.
    pub(crate) argument: Range<usize>,
    /// Everything behind it: names, data, extensions.
    pub(crate) input: Range<usize>,
}

/// A held slot's message and the room for its answer, side by side.
#[derive(Debug)]
pub(crate) struct Split<'a> {
    pub(crate) argument: &'a [u8],
    pub(crate) input: &'a [u8],
    /// Free bytes of the payload, behind the input.
    pub(crate) output: &'a mut [u8],
    /// Where `output` begins, in bytes from the start of the payload.
    pub(crate) output_at: usize,
    /// What the answer is made of, if not of one piece.
    pub(crate) parts: RefMut<'a, Vec<Part>>,
}

/// The right to a slot's bytes. Dropping it frees the slot.
#[derive(Debug)]
pub(crate) struct Held {
    arena: Rc<Arena>,
    index: usize,
}

impl Held {
    /// Number of the slot in its arena.
    pub(crate) fn index(&self) -> usize {
        self.index
    }

    /// Bytes of the slot in front of its payload.
    pub(crate) fn head_len(&self) -> usize {
        self.arena.head_len
    }

    fn bytes(&self) -> &[u8] {
        let base = self.arena.slot(self.index).as_ptr();
        // SAFETY: I1. `self` is the only holder and the kernel has no loan; the slot lies in one
        // mapping of zeroed, hence initialised, memory that the arena keeps.
        unsafe { std::slice::from_raw_parts(base, self.arena.slot_len()) }
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        let base = self.arena.slot(self.index).as_ptr();
        // SAFETY: I1. As in `bytes`; `&mut self` makes this the only reference.
        unsafe { std::slice::from_raw_parts_mut(base, self.arena.slot_len()) }
    }

    /// The header that FUSE-over-io_uring fills.
    pub(crate) fn ring_header(&self) -> &[u8] {
        &self.bytes()[..RING_HEADER_LEN]
    }

    /// The same, to be written before a commit.
    pub(crate) fn ring_header_mut(&mut self) -> &mut [u8] {
        &mut self.bytes_mut()[..RING_HEADER_LEN]
    }

    /// Where a message that was read from `/dev/fuse` starts, in bytes from the start of the slot.
    pub(crate) fn frame_at(&self) -> usize {
        self.arena.head_len - FRAME_LEAD
    }

    /// The first `len` bytes of a message that was read from `/dev/fuse`.
    pub(crate) fn frame(&self, len: usize) -> &[u8] {
        let frame = &self.bytes()[self.frame_at()..];
        &frame[..len.min(frame.len())]
    }

    /// Where a simulated kernel puts a message.
    pub(crate) fn frame_mut(&mut self) -> &mut [u8] {
        let at = self.frame_at();
        &mut self.bytes_mut()[at..]
    }

    /// The header of a `/dev/fuse` reply.
    pub(crate) fn reply_header_mut(&mut self) -> &mut [u8] {
        &mut self.bytes_mut()[REPLY_HEADER_AT..REPLY_HEADER_AT + REPLY_HEADER_LEN]
    }

    /// The payload.
    pub(crate) fn payload_mut(&mut self) -> &mut [u8] {
        let head_len = self.arena.head_len;
        &mut self.bytes_mut()[head_len..]
    }

    /// Bytes of the payload that the kernel may use while the slot is held or lent (I9).
    pub(crate) fn memory(&self, range: Range<usize>) -> Memory {
        self.arena.memory(self.index, range)
    }

    /// What the answer is made of, if not of one piece.
    pub(crate) fn parts(&self) -> RefMut<'_, Vec<Part>> {
        self.arena.slots[self.index].parts.borrow_mut()
    }

    /// What was received and where to answer, side by side.
    pub(crate) fn split(&mut self, at: &Span) -> Split<'_> {
        let head_len = self.arena.head_len;
        let payload_len = self.arena.payload_len;
        let output_at = at.input.end.saturating_sub(head_len).next_multiple_of(8).min(payload_len);
        let arena = Rc::as_ptr(&self.arena);
        // SAFETY: I1. `self` keeps the arena alive, and `parts` is no part of the slot's bytes.
        let parts = unsafe { &(&*arena).slots[self.index].parts };
        let (message, output) = self.bytes_mut().split_at_mut(head_len + output_at);
        Split {
            argument: &message[at.argument.clone()],
            input: &message[at.input.clone()],
            output,
            output_at,
            parts: parts.borrow_mut(),
        }
    }

    /// Gives the slot to the kernel, to be filled.
    pub(crate) fn lend(self) -> Lent {
        let index = self.index;
        let base = self.arena.slot(index);
        let lent = Lent {
            base,
            head_len: self.arena.head_len,
            payload_len: self.arena.payload_len,
            segments: 0,
        };
        self.arena.slots[index].state.set(State::Lent);
        lent
    }

    /// Gives the slot to the kernel as an answer on `/dev/fuse`: the reply header, the bytes
    /// `body` of the payload or, if it has parts, those instead, from where they lie.
    pub(crate) fn lend_reply(mut self, body: Range<usize>) -> Lent {
        assert!(body.end <= self.arena.payload_len, "a body lies in the payload");
        let base = self.arena.slot(self.index).as_ptr().addr();
        let parts = std::mem::take(&mut *self.parts());
        let payload_at = base + self.arena.head_len;
        let one_piece = parts.is_empty().then_some((payload_at + body.start, body.len()));
        let pieces = parts.iter().map(|part| match part {
            Part::Filled(range) => (payload_at + range.start, range.len()),
            Part::Shared(shared) => {
                let bytes = shared.bytes();
                (bytes.as_ptr().addr(), bytes.len())
            }
        });
        let header = (base + REPLY_HEADER_AT, REPLY_HEADER_LEN);
        let list = &mut self.bytes_mut()[SEGMENTS_AT..];
        let mut count = 0;
        for (at, len) in std::iter::once(header).chain(one_piece).chain(pieces) {
            if len == 0 {
                continue;
            }
            let place = &mut list[count * size_of::<libc::iovec>()..][..size_of::<libc::iovec>()];
            place[..size_of::<usize>()].copy_from_slice(&at.to_ne_bytes());
            place[size_of::<usize>()..].copy_from_slice(&len.to_ne_bytes());
            count += 1;
        }
        assert!(count <= SEGMENTS_MAX, "the list of segments ends before the frame");
        *self.parts() = parts;
        let mut lent = self.lend();
        lent.segments = count;
        lent
    }

    /// Gives the slot to the kernel as an entry of FUSE-over-io_uring: its header buffer and its
    /// payload, listed in the head page.
    pub(crate) fn lend_entry(mut self) -> Lent {
        let base = self.arena.slot(self.index).as_ptr().addr();
        let payload = base + self.arena.head_len;
        let words = [base, RING_HEADER_LEN, payload, self.arena.payload_len];
        let list = &mut self.bytes_mut()[SEGMENTS_AT..];
        for (place, word) in list.chunks_exact_mut(size_of::<usize>()).zip(words) {
            place.copy_from_slice(&word.to_ne_bytes());
        }
        let mut lent = self.lend();
        lent.segments = 2;
        lent
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let slot = &self.arena.slots[self.index];
        if slot.state.get() == State::Held {
            slot.state.set(State::Free);
        }
    }
}

/// A slot on its way to the kernel: made by [`Held`], used up by `ring` in one submission.
#[derive(Debug)]
pub(crate) struct Lent {
    base: NonNull<u8>,
    head_len: usize,
    payload_len: usize,
    segments: usize,
}

impl Lent {
    /// Where a message from `/dev/fuse` goes, and the room there.
    pub(crate) fn frame(&self) -> (*mut u8, usize) {
        let at = self.head_len - FRAME_LEAD;
        (self.base.as_ptr().wrapping_add(at), FRAME_LEAD + self.payload_len)
    }

    /// The list of segments and its length.
    pub(crate) fn segments(&self) -> (*const libc::iovec, usize) {
        (self.base.as_ptr().wrapping_add(SEGMENTS_AT).cast(), self.segments)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arena() -> Rc<Arena> {
        Arena::new(2, 8192, 4096).unwrap()
    }

    #[test]
    #[should_panic(expected = "I1")]
    fn a_held_slot_cannot_be_held_again() {
        let arena = arena();
        let _held = arena.hold(0);
        let _again = arena.hold(0);
    }

    #[test]
    #[should_panic(expected = "I1")]
    fn a_lent_slot_cannot_be_held() {
        let arena = arena();
        let _lent = arena.hold(1).lend();
        let _again = arena.hold(1);
    }

    #[test]
    fn dropping_frees_and_reclaiming_ends_a_loan() {
        let arena = arena();
        drop(arena.hold(0));
        let _lent = arena.hold(0).lend();
        assert_eq!(arena.lent(), 1);
        arena.reclaim(0);
        assert_eq!(arena.lent(), 0);
        drop(arena.hold(0));
    }

    #[test]
    fn shared_bytes_live_until_the_loan_ends() {
        let arena = arena();
        let owner = Arc::new(vec![7_u8; 100]);
        let held = arena.hold(0);
        held.parts().push(Part::Shared(Shared { owner: owner.clone(), range: 10..20 }));
        let lent = held.lend_reply(0..0);
        assert_eq!(lent.segments().1, 2);
        assert_eq!(Arc::strong_count(&owner), 2);
        arena.reclaim(0);
        assert_eq!(Arc::strong_count(&owner), 1);
    }

    #[test]
    fn an_arena_with_loans_is_leaked_with_what_it_shares() {
        let owner = Arc::new(vec![7_u8; 100]);
        let arena = arena();
        let held = arena.hold(0);
        held.parts().push(Part::Shared(Shared { owner: owner.clone(), range: 0..100 }));
        let _lent = held.lend_reply(0..0);
        drop(arena);
        assert_eq!(Arc::strong_count(&owner), 2, "I6: the kernel may still read it");
    }

    #[test]
    fn split_keeps_the_message_apart_from_the_room_for_the_answer() {
        let arena = arena();
        let mut held = arena.hold(0);
        let head_len = held.head_len();
        held.payload_mut()[..3].copy_from_slice(b"abc");
        let at = Span { argument: head_len - 8..head_len, input: head_len..head_len + 3 };
        let split = held.split(&at);
        assert_eq!(split.input, b"abc");
        assert_eq!(split.output_at, 8);
        assert_eq!(split.output.len(), 8192 - 8);
        drop(split);
        let early = Span { argument: 0..0, input: head_len - 40..head_len - 30 };
        assert_eq!(held.split(&early).output_at, 0);
    }
}
