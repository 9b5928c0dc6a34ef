//! On which CPU a shard's thread runs: on that of a caller who makes one request at a time.
//!
//! Such a caller sleeps while its request is served. On its CPU the shard starts where the caller
//! stops, and the other way round; on another CPU each of the two steps wakes an idle one, which
//! takes longer than most requests. Requests that overlap, or move many bytes, gain by a second
//! CPU: for those the thread is free, as it was at its start.
//!
//! Only a queue of FUSE-over-io_uring tells the CPU (`fs/fuse/dev_uring.c,
//! fuse_uring_task_to_queue`). Never known here: what the requests are. Neighbour: `shard`.

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

/// Turns with a lone request after which a shard joins the caller.
const JOIN: u32 = 16;
/// How many of these a turn with several requests, or with a bulk of bytes, undoes.
const LEAVE: u32 = 4;
/// Copying so much takes longer than waking a CPU.
const BULK: u64 = 64 * 1024;
/// The calling thread.
const THIS: Pid = Pid::from_raw(0);

/// Where the calling thread runs, and what speaks for another place.
#[derive(Debug)]
pub(crate) struct Placement {
    /// Where it was free to run at its start; nothing where it is not to be moved.
    home: Option<CpuSet>,
    /// Where it is free to run now.
    current: CpuSet,
    joined: Option<usize>,
    lone: Lone,
}

impl Placement {
    /// For the calling thread, to `follow` its callers or to stay as it is.
    pub(crate) fn new(follow: bool) -> Self {
        let home = if follow { sched_getaffinity(THIS).ok() } else { None };
        Self { home, current: home.unwrap_or_default(), joined: None, lone: Lone::default() }
    }

    /// A request came from a caller on this CPU.
    pub(crate) fn arrived(&mut self, cpu: usize) {
        self.lone.arrived(cpu);
    }

    /// A request that had arrived was answered, and moved so many bytes of data.
    pub(crate) fn answered(&mut self, bytes: u64) {
        self.lone.answered(bytes);
    }

    /// The requests of a turn are served as far as they can be. Moves the thread if it is time.
    pub(crate) fn turned(&mut self) {
        let Some(home) = self.home else { return };
        self.lone.turned();
        match self.lone.caller() {
            Wanted::Anywhere if self.joined.is_some() => self.go(home, None),
            Wanted::On(cpu) if self.joined != Some(cpu) => {
                let mut there = CpuSet::new();
                if home.is_set(cpu).unwrap_or(false) && there.set(cpu).is_ok() {
                    self.go(there, Some(cpu));
                }
            }
            _ => {}
        }
    }

    fn go(&mut self, there: CpuSet, joined: Option<usize>) {
        // Somebody else may have said by now where the thread is to run: that holds from then on.
        let is_ours = sched_getaffinity(THIS).is_ok_and(|now| now == self.current);
        if is_ours && sched_setaffinity(THIS, &there).is_ok() {
            self.current = there;
            self.joined = joined;
        } else {
            self.home = None;
        }
    }
}

/// Whether there is a caller who makes one request at a time, and on which CPU.
#[derive(Debug, Default)]
struct Lone {
    cpu: usize,
    /// Turns that speak for it, less those that speak against it.
    score: u32,
    in_flight: u32,
    /// Requests that came in this turn.
    arrivals: u32,
    /// Whether any of this turn overlapped with another, or was bulk.
    crowded: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    On(usize),
    Anywhere,
    /// Too early to tell.
    Stay,
}

impl Lone {
    fn arrived(&mut self, cpu: usize) {
        if cpu != self.cpu {
            self.cpu = cpu;
            self.score = self.score.min(1);
        }
        self.arrivals += 1;
        self.crowded |= self.arrivals > 1 || self.in_flight > 0;
        self.in_flight += 1;
    }

    fn answered(&mut self, bytes: u64) {
        self.crowded |= bytes >= BULK;
        self.in_flight = self.in_flight.saturating_sub(1);
    }

    fn turned(&mut self) {
        if self.crowded {
            self.score = self.score.saturating_sub(LEAVE);
        } else if self.arrivals > 0 {
            self.score = (self.score + 1).min(JOIN);
        }
        self.arrivals = 0;
        self.crowded = false;
    }

    fn caller(&self) -> Wanted {
        match self.score {
            JOIN => Wanted::On(self.cpu),
            0 => Wanted::Anywhere,
            _ => Wanted::Stay,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turn(lone: &mut Lone, cpu: usize, requests: u32, bytes: u64) -> Wanted {
        for _ in 0..requests {
            lone.arrived(cpu);
            lone.answered(bytes);
        }
        lone.turned();
        lone.caller()
    }

    #[test]
    fn a_lone_caller_is_joined_after_a_while() {
        let mut lone = Lone::default();
        assert_eq!(lone.caller(), Wanted::Anywhere);
        for _ in 1..JOIN {
            assert_eq!(turn(&mut lone, 3, 1, 4096), Wanted::Stay);
        }
        assert_eq!(turn(&mut lone, 3, 1, 4096), Wanted::On(3));
        assert_eq!(
            turn(&mut lone, 3, 0, 0),
            Wanted::On(3),
            "a turn without requests tells nothing"
        );
        assert_eq!(turn(&mut lone, 2, 1, 4096), Wanted::Stay);
        let last = (1..JOIN).map(|_| turn(&mut lone, 2, 1, 0)).last();
        assert_eq!(last, Some(Wanted::On(2)));
    }

    #[test]
    fn a_crowd_and_bulk_are_left_soon_but_not_at_once() {
        for (requests, bytes) in [(2, 0), (1, BULK)] {
            let mut lone = Lone { score: JOIN, ..Lone::default() };
            for _ in 1..JOIN / LEAVE {
                assert_eq!(turn(&mut lone, 0, requests, bytes), Wanted::Stay);
            }
            assert_eq!(turn(&mut lone, 0, requests, bytes), Wanted::Anywhere);
        }
    }

    #[test]
    fn requests_that_overlap_are_a_crowd_however_they_come() {
        let mut lone = Lone::default();
        for _ in 0..100 {
            lone.arrived(0);
            lone.turned();
            lone.arrived(0);
            lone.turned();
            lone.answered(0);
            lone.turned();
            assert_ne!(lone.caller(), Wanted::On(0));
            lone.answered(0);
        }
    }

    #[test]
    fn a_thread_goes_and_comes_back_unless_it_is_moved_by_others() {
        let home = sched_getaffinity(THIS).unwrap();
        let cpu = (0..CpuSet::count()).find(|cpu| home.is_set(*cpu).unwrap()).unwrap();
        let mut only = CpuSet::new();
        only.set(cpu).unwrap();
        let mut placement = Placement::new(true);
        for _ in 0..JOIN {
            placement.arrived(cpu);
            placement.answered(0);
            placement.turned();
        }
        assert_eq!(sched_getaffinity(THIS), Ok(only));
        placement.lone.score = 0;
        placement.turned();
        assert_eq!(sched_getaffinity(THIS), Ok(home));

        placement.lone.score = JOIN;
        placement.turned();
        sched_setaffinity(THIS, &home).unwrap();
        placement.lone.score = 0;
        if home != only {
            placement.turned();
            placement.lone.score = JOIN;
            placement.turned();
            assert_eq!(sched_getaffinity(THIS), Ok(home), "moved against somebody's word");
        }
    }
}
