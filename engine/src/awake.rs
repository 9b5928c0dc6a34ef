//! Whether a shard looks for the next lone request of `/dev/fuse` before it sleeps.
//!
//! Who makes one request after the other waits for two wakes each time, of the shard and of
//! himself, and to wake a CPU takes longer than most requests. A shard that stays awake for some
//! microseconds saves the first. It does so only
//! - where the last wait was as short: nobody stays awake on a mount that is not used,
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
/// Waits at most for which a shard stands back.
const SHY_MAX: u32 = 4096;

/// What one shard knows about its waits.
#[derive(Debug)]
pub(crate) struct Awake {
    limit: Duration,
    /// How many shards may be awake.
    most: usize,
    /// Whether the last wait was no longer than the limit.
    soon: bool,
    /// Waits for which it stands back still, and the next time.
    rest: u32,
    shy: u32,
}

impl Awake {
    /// Stays awake for `limit`; not at all if that is zero.
    pub(crate) fn new(limit: Duration) -> Self {
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        Self { limit, most: cpus / 2, soon: false, rest: 0, shy: 1 }
    }

    /// As [`Ring::turn`]. Tells whether something came while the shard was awake.
    pub(crate) fn turn(&mut self, ring: &mut Ring, wait: usize) -> Result<bool> {
        if self.limit.is_zero() || !ring.lacks(wait) {
            return ring.turn(wait).map(|()| false);
        }
        let start = Instant::now();
        if self.is_due()
            && let Some(ended) = self.watch(ring)?
        {
            self.ended(ended);
            if matches!(ended, Watch::Came | Watch::Heard) {
                return Ok(ended == Watch::Came);
            }
        }
        ring.turn(wait)?;
        // Who was woken and came too late knows nothing about the next.
        self.soon = !ring.lacks(wait) && start.elapsed() <= self.limit;
        Ok(false)
    }

    fn watch(&self, ring: &mut Ring) -> Result<Option<Watch>> {
        let others = AWAKE.fetch_add(1, Ordering::Relaxed);
        let ended = if others < self.most { ring.watch(self.limit) } else { Ok(None) };
        AWAKE.fetch_sub(1, Ordering::Relaxed);
        ended
    }

    fn is_due(&mut self) -> bool {
        let stands_back = self.rest > 0;
        self.rest = self.rest.saturating_sub(1);
        self.soon && !stands_back
    }

    fn ended(&mut self, how: Watch) {
        match how {
            Watch::Came => self.shy = (self.shy - self.shy.div_ceil(8)).max(1),
            Watch::Heard => {}
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
            awake.turn(ring, 1).unwrap();
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
        assert!(!awake.is_due(), "before any wait");
        assert_eq!(brings(&mut awake, &mut ring, &device, Duration::ZERO), [8]);
        assert!(awake.is_due(), "after a short one");
        awake.limit = Duration::from_millis(1);
        let late = Duration::from_millis(30);
        assert_eq!(brings(&mut awake, &mut ring, &device, late), [8]);
        assert!(!awake.soon, "after a long one");
        awake.soon = true;
        assert!(ring.lacks(1));
        awake.turn(&mut ring, 0).unwrap();
        assert!(awake.soon, "what is no wait says nothing");
    }

    #[test]
    fn who_was_preempted_stands_back_ever_longer_and_comes_back() {
        let mut awake = Awake { soon: true, ..Awake::new(Duration::from_micros(50)) };
        let stands_back = |awake: &mut Awake| (0..).take_while(|_| !awake.is_due()).count();
        let times = [(); 14].map(|()| {
            awake.ended(Watch::Preempted);
            stands_back(&mut awake)
        });
        assert_eq!(times[..4], [2, 4, 8, 16]);
        assert_eq!(times[13], 4096);
        for _ in 0..64 {
            assert!(awake.is_due());
            awake.ended(Watch::Came);
        }
        let times = [Watch::InVain, Watch::InVain, Watch::Preempted].map(|how| {
            awake.ended(how);
            stands_back(&mut awake)
        });
        assert_eq!(times, [2, 3, 6]);
    }
}
