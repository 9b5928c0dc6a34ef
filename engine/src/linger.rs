//! Requests that wait for others, and how many of them a queue has room for.
//!
//! A request keeps its slot until it is answered, and whoever would end the wait comes by a slot,
//! too: a queue whose slots all wait is a queue that nobody gets through. So half of a queue's
//! slots are kept from those that may wait for ever, and a quarter from all that wait.
//!
//! Never known here: what is waited for. Neighbours: `context` hands out places.

use std::cell::Cell;
use std::ops::Range;

/// How long a request may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// Until a notification is taken, which may need further requests.
    Short,
    /// For ever, as for a lock.
    Long,
}

/// The places of a shard, by groups of slots that requests come by alike.
#[derive(Debug)]
pub(crate) struct Lounge {
    groups: Box<[Group]>,
}

#[derive(Debug)]
struct Group {
    slots: Range<usize>,
    waiting: Cell<usize>,
    /// Of these, those that may do so for ever.
    long: Cell<usize>,
}

impl Lounge {
    /// Of a shard whose first `lane` slots read from the device; the others are entries, `depth`
    /// on each queue.
    pub(crate) fn new(lane: usize, depth: usize, slots: usize) -> Self {
        let queues = (lane..slots).step_by(depth.max(1)).map(|first| first..first + depth);
        let groups = std::iter::once(0..lane).chain(queues);
        let empty = |slots| Group { slots, waiting: Cell::default(), long: Cell::default() };
        Self { groups: groups.map(empty).collect() }
    }

    /// A place for the request in a slot, where there is one.
    pub(crate) fn enter(&self, slot: usize, patience: Patience) -> Option<Linger<'_>> {
        let group = self.groups.iter().find(|group| group.slots.contains(&slot))?;
        let len = group.slots.len();
        let room = group.waiting.get() < len - len.div_ceil(4);
        let long = usize::from(patience == Patience::Long);
        (room && group.long.get() + long <= len / 2).then(|| {
            group.waiting.set(group.waiting.get() + 1);
            group.long.set(group.long.get() + long);
            Linger { group, long }
        })
    }
}

/// A place among the requests that wait, until it is dropped.
#[derive(Debug)]
pub struct Linger<'a> {
    group: &'a Group,
    long: usize,
}

impl Drop for Linger<'_> {
    fn drop(&mut self) {
        self.group.waiting.set(self.group.waiting.get() - 1);
        self.group.long.set(self.group.long.get() - self.long);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(lounge: &Lounge, slots: Range<usize>, patience: Patience) -> Vec<Linger<'_>> {
        slots.filter_map(|slot| lounge.enter(slot, patience)).collect()
    }

    #[test]
    fn half_of_each_queue_does_not_wait_long_and_a_quarter_not_at_all() {
        let lounge = Lounge::new(2, 8, 18);
        let long = places(&lounge, 2..10, Patience::Long);
        assert_eq!(long.len(), 4);
        let short = places(&lounge, 2..10, Patience::Short);
        assert_eq!(short.len(), 2);
        assert_eq!(places(&lounge, 10..18, Patience::Long).len(), 4, "another queue");
        drop(long);
        assert_eq!(places(&lounge, 2..10, Patience::Short).len(), 4);
        drop(short);
        assert_eq!(places(&lounge, 2..10, Patience::Short).len(), 6);
        assert_eq!(places(&lounge, 0..2, Patience::Long).len(), 1);
    }

    #[test]
    fn the_only_slot_is_for_those_who_come_and_go() {
        for patience in [Patience::Short, Patience::Long] {
            assert!(Lounge::new(1, 1, 1).enter(0, patience).is_none());
            assert!(Lounge::new(0, 1, 2).enter(1, patience).is_none());
            assert!(Lounge::new(2, 0, 2).enter(0, patience).is_some());
        }
    }
}
