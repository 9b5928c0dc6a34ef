//! Whether a shard looks for the next lone request before it sleeps.
//!
//! Who makes one request after the other waits for two wakes each time, of the shard and of
//! himself, and to wake a CPU takes longer than most requests. A shard that stays awake for some
//! microseconds saves the first. It does so only
//! - where it waits for callers alone, and the last wait was as short: nobody stays awake on a
//!   mount that is not used,
//! - where some in a row were, with one request each: what comes in heaps is best taken so, and who
//!   looks all the time takes the first alone. On `/dev/fuse` no more than one comes anyway,
//! - on half of the CPUs, over all sessions of the process,
//! - where nobody else seems to want its CPU: who was preempted meanwhile, or looked in vain,
//!   stands back for a while.
//!
//! Where the caller's CPU is known there is a better way to the same end (`placement`). Never known
//! here: what the requests are. Neighbour: `lead`, which calls it where nobody leads.

use std::io::Result;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::sys::plain::Watch;
use crate::sys::ring::Ring;

/// Shards of this process that are awake for nothing.
static AWAKE: AtomicUsize = AtomicUsize::new(0);
/// Short waits in a row for one completion each, before the next one of a ring is awake.
const ROW: u32 = 8;
/// Waits at most for which a shard stands back.
const SHY_MAX: u32 = 4096;

/// What one shard knows about its waits.
#[derive(Debug)]
pub(crate) struct Awake {
    limit: Duration,
    /// How many shards may be awake.
    most: usize,
    /// The last waits that were no longer than the limit.
    row: u32,
    /// Waits for which it stands back still, and the next time.
    rest: u32,
    shy: u32,
}

impl Awake {
    /// Stays awake for `limit`; not at all if that is zero.
    pub(crate) fn new(limit: Duration) -> Self {
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        Self { limit, most: cpus / 2, row: 0, rest: 0, shy: 1 }
    }

    /// As [`Ring::turn`]; `idle` tells that nothing is under way but what callers may ask for.
    /// Tells whether something came while the shard was awake.
    pub(crate) fn turn(&mut self, ring: &mut Ring, wait: usize, idle: bool) -> Result<bool> {
        let before = ring.came();
        if self.limit.is_zero() || !idle || wait <= before {
            return ring.turn(wait).map(|()| false);
        }
        let start = Instant::now();
        let alone = ring.is_left_out();
        if self.is_due(alone)
            && let Some(ended) = self.watch(ring)?
        {
            self.ended(ended);
            if !matches!(ended, Watch::Preempted | Watch::InVain) {
                self.waited(alone || ended == Watch::Came && ring.came() == before + 1);
                return Ok(ended == Watch::Came);
            }
        }
        ring.turn(wait)?;
        // Who was woken and came too late knows nothing about the next.
        let came = ring.came() - before;
        self.waited((came == 1 || alone && came > 0) && start.elapsed() <= self.limit);
        Ok(false)
    }

    fn waited(&mut self, shortly_for_one: bool) {
        self.row = if shortly_for_one { self.row.saturating_add(1) } else { 0 };
    }

    fn watch(&self, ring: &mut Ring) -> Result<Option<Watch>> {
        let others = AWAKE.fetch_add(1, Ordering::Relaxed);
        let ended = if others < self.most { ring.watch(self.limit) } else { Ok(None) };
        AWAKE.fetch_sub(1, Ordering::Relaxed);
        ended
    }

    fn is_due(&mut self, alone: bool) -> bool {
        let stands_back = self.rest > 0;
        self.rest = self.rest.saturating_sub(1);
        self.row >= if alone { 1 } else { ROW } && !stands_back
    }

    fn ended(&mut self, how: Watch) {
        match how {
            Watch::Came => self.shy = (self.shy - self.shy.div_ceil(8)).max(1),
            Watch::AtOnce | Watch::Heard => {}
            Watch::Preempted => self.stand_back(self.shy * 2),
            // Perhaps the caller waits for this very CPU.
            Watch::InVain => self.stand_back(self.shy + 1),
        }
    }

    fn stand_back(&mut self, shy: u32) {
        self.shy = shy.min(SHY_MAX);
        self.rest = self.shy;
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use nix::sys::eventfd::{EfdFlags, EventFd};

    use super::*;
    use crate::sys::arena::Arena;
    use crate::sys::ring::tests::some_ring;

    /// What an eventfd in the place of the device brings.
    fn brings(awake: &mut Awake, ring: &mut Ring, device: &EventFd, after: Duration) -> Vec<i32> {
        let arena = Arena::new(1, 8192, 4096).unwrap();
        ring.read_frame(1, device.as_fd(), &arena.hold(0).lend());
        let mut taken = Vec::new();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(after);
                device.write(1).unwrap();
            });
            awake.turn(ring, 1, true).unwrap();
        });
        ring.completions(&mut taken);
        arena.reclaim(0);
        taken.into_iter().map(|(_, result)| result).collect()
    }

    #[test]
    fn it_is_awake_after_a_short_wait_for_something_only() {
        let device = EventFd::from_value_and_flags(0, EfdFlags::EFD_NONBLOCK).unwrap();
        let mut ring = Ring::plain();
        let mut awake = Awake::new(Duration::from_secs(10));
        assert!(!awake.is_due(true), "before any wait");
        assert_eq!(brings(&mut awake, &mut ring, &device, Duration::ZERO), [8]);
        assert!(awake.is_due(true), "after a short one");
        assert!(!awake.is_due(false), "but not where many may come at once");
        awake.limit = Duration::from_millis(1);
        let late = Duration::from_millis(30);
        assert_eq!(brings(&mut awake, &mut ring, &device, late), [8]);
        assert_eq!(awake.row, 0, "after a long one");
        awake.row = 1;
        assert_eq!(ring.came(), 0);
        awake.turn(&mut ring, 0, true).unwrap();
        assert_eq!(awake.row, 1, "what is no wait says nothing");
        device.write(1).unwrap();
        let arena = Arena::new(1, 8192, 4096).unwrap();
        ring.read_frame(1, device.as_fd(), &arena.hold(0).lend());
        awake.turn(&mut ring, 1, false).unwrap();
        assert_eq!((ring.came(), awake.row), (1, 1), "nor what is not for callers");
        arena.reclaim(0);
    }

    #[test]
    fn with_a_ring_it_is_awake_after_a_row_of_short_waits_for_one() {
        let Some(mut ring) = some_ring() else { return };
        let arena = Arena::new(2, 8192, 4096).unwrap();
        let flags = EfdFlags::EFD_NONBLOCK;
        let devices = [(); 2].map(|()| EventFd::from_value_and_flags(0, flags).unwrap());
        let read = |ring: &mut Ring, slot: usize| {
            ring.read_frame(slot as u64, devices[slot].as_fd(), &arena.hold(slot).lend());
        };
        (0..2).for_each(|slot| read(&mut ring, slot));
        ring.turn(0).unwrap();
        assert!(!ring.is_left_out(), "two reads are for the ring");
        let mut awake = Awake::new(Duration::from_secs(10));
        awake.most = 1;
        let mut brings = |awake: &mut Awake, slots: std::ops::Range<usize>| {
            for device in &devices[slots.clone()] {
                device.write(1).unwrap();
            }
            awake.turn(&mut ring, 1, true).unwrap();
            let mut taken = Vec::new();
            ring.completions(&mut taken);
            assert_eq!(taken.len(), slots.len());
            for slot in slots {
                arena.reclaim(slot);
                read(&mut ring, slot);
            }
        };
        for short in 0..ROW {
            assert_eq!((awake.row, awake.is_due(false)), (short, false));
            brings(&mut awake, 1..2);
        }
        assert!(awake.is_due(false));
        // It sleeps while shards of other tests are awake.
        for _ in 0..100_000 {
            brings(&mut awake, 1..2);
            if awake.row == 0 {
                break;
            }
        }
        assert_eq!(awake.row, 0, "after what needed no wait");
        awake.row = ROW - 1;
        brings(&mut awake, 0..2);
        assert_eq!(awake.row, 0, "after two at once");
        ring.cancel_all();
        (0..2).for_each(|slot| arena.reclaim(slot));
    }

    #[test]
    fn who_was_preempted_stands_back_ever_longer_and_comes_back() {
        let mut awake = Awake { row: 1, ..Awake::new(Duration::from_micros(50)) };
        let stands_back = |awake: &mut Awake| (0..).take_while(|_| !awake.is_due(true)).count();
        let times = [(); 14].map(|()| {
            awake.ended(Watch::Preempted);
            stands_back(&mut awake)
        });
        assert_eq!(times[..4], [2, 4, 8, 16]);
        assert_eq!(times[13], 4096);
        for _ in 0..64 {
            assert!(awake.is_due(true));
            awake.ended(Watch::Came);
        }
        let times = [Watch::InVain, Watch::InVain, Watch::Preempted].map(|how| {
            awake.ended(how);
            stands_back(&mut awake)
        });
        assert_eq!(times, [2, 3, 6]);
    }
}
