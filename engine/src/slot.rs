//! A slot's name, its state, and the moves between states.
//!
//! ```text
//!            arrive             finish             settle
//!   Armed  ---------> Serving ---------> Leaving ---------> Armed (or Idle on /dev/fuse)
//!                        | detach          ^
//!                        +--> Detached ----+
//! ```
//! Each delivered request makes exactly one move into `Leaving` (invariant I2). The turn counter
//! keeps an answer of an earlier request from hitting a later one (I4).
//!
//! Never known here: memory and I/O. Neighbours: `shard` makes the moves, `context` names slots.

use std::ops::Range;
use std::time::Instant;

use fusewire_proto::abi::InHeader;
use fusewire_proto::dirent::{DirentPlusReader, LookUp};
use fusewire_proto::{Entry, NodeId, Reply, Unique};

/// A slot and the request in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SlotId {
    pub(crate) index: u32,
    /// Counts the requests that the slot has had.
    pub(crate) turn: u32,
}

/// What a slot is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Not in use: free memory, or lent to the kernel to be filled.
    Armed,
    /// A request is being served.
    Serving,
    /// Its handler handed the request to somebody else.
    Detached,
    /// The answer is on its way.
    Leaving,
}

/// What lookups an answer gives the kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Given {
    #[default]
    Nothing,
    /// One, of this node.
    Node(NodeId),
    /// Those of the entries in these bytes of the payload.
    Entries(Range<usize>),
}

impl Given {
    /// What a reply gives.
    pub(crate) fn of(reply: &Reply<'_>) -> Self {
        match reply {
            Reply::Entry(Entry { nodeid, .. }) | Reply::Created(Entry { nodeid, .. }, _)
                if nodeid.0 != 0 =>
            {
                Self::Node(*nodeid)
            }
            _ => Self::Nothing,
        }
    }

    /// Tells the node of each lookup that an answer in this payload gives.
    pub(crate) fn for_each(self, payload: &[u8], mut tell: impl FnMut(NodeId)) {
        match self {
            Self::Nothing => {}
            Self::Node(node) => tell(node),
            Self::Entries(bytes) => {
                let records = DirentPlusReader::new(payload.get(bytes).unwrap_or_default());
                for record in records.flatten() {
                    match record.look_up() {
                        LookUp::Counted(node) | LookUp::GivenBack(node) => tell(node),
                        LookUp::None => {}
                    }
                }
            }
        }
    }
}

/// The state of one slot.
#[derive(Debug)]
pub(crate) struct Slot {
    phase: Phase,
    turn: u32,
    /// Header of the request in the slot.
    pub(crate) header: InHeader,
    /// When the request was seen.
    pub(crate) arrived: Instant,
    /// The lookups that the answer on its way gives.
    pub(crate) given: Given,
}

impl Slot {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            phase: Phase::Armed,
            turn: 0,
            header: InHeader::default(),
            arrived: now,
            given: Given::Nothing,
        }
    }

    pub(crate) fn id(&self, index: usize) -> SlotId {
        SlotId { index: u32::try_from(index).unwrap_or(u32::MAX), turn: self.turn }
    }

    pub(crate) fn phase(&self) -> Phase {
        self.phase
    }

    /// Whether the slot holds this request, not yet answered.
    pub(crate) fn serves(&self, unique: Unique) -> bool {
        matches!(self.phase, Phase::Serving | Phase::Detached) && self.header.unique == unique
    }

    /// A request was delivered.
    pub(crate) fn arrive(&mut self, header: InHeader, now: Instant) {
        assert_eq!(self.phase, Phase::Armed, "I2: a request arrived in a slot that has one");
        self.phase = Phase::Serving;
        self.turn = self.turn.wrapping_add(1);
        self.header = header;
        self.arrived = now;
        self.given = Given::Nothing;
    }

    /// The handler returned, but the answer comes from elsewhere.
    pub(crate) fn detach(&mut self) {
        assert_eq!(self.phase, Phase::Serving, "I2: only a request in hand is detached");
        self.phase = Phase::Detached;
    }

    /// The one answer is made.
    pub(crate) fn finish(&mut self) {
        assert!(
            matches!(self.phase, Phase::Serving | Phase::Detached),
            "I2: a request is answered once"
        );
        self.phase = Phase::Leaving;
    }

    /// The answer that left turned out not to have been made.
    pub(crate) fn reopen(&mut self) {
        assert_eq!(self.phase, Phase::Armed, "I2: only a settled answer is made again");
        self.phase = Phase::Serving;
    }

    /// The answer left; the slot may have another request.
    pub(crate) fn settle(&mut self) {
        assert_eq!(self.phase, Phase::Leaving, "I2: only an answered slot is used again");
        self.phase = Phase::Armed;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn served() -> Slot {
        let mut slot = Slot::new(Instant::now());
        slot.arrive(InHeader { unique: Unique(8), ..InHeader::default() }, Instant::now());
        slot
    }

    #[test]
    #[should_panic(expected = "I2")]
    fn a_second_answer_is_refused() {
        let mut slot = served();
        slot.finish();
        slot.finish();
    }

    #[test]
    #[should_panic(expected = "I2")]
    fn an_unanswered_slot_is_not_used_again() {
        served().settle();
    }

    #[test]
    fn each_request_has_its_own_turn() {
        let mut slot = served();
        let first = slot.id(3);
        assert!(slot.serves(Unique(8)) && !slot.serves(Unique(10)));
        slot.detach();
        slot.finish();
        assert!(!slot.serves(Unique(8)));
        slot.settle();
        slot.arrive(InHeader { unique: Unique(10), ..InHeader::default() }, Instant::now());
        assert_ne!(first, slot.id(3));
    }
}
