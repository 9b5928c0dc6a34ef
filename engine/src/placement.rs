//! On which CPU a shard's thread runs: on that of a caller who makes few requests at a time.
//!
//! Such a caller sleeps while its requests are served. On its CPU the shard starts where the caller
//! stops, and the other way round; on another CPU each of the two steps wakes an idle one, which
//! takes longer than most requests, also those of some hundred KiB. Many requests that overlap, or
//! some that move many bytes, gain by a second CPU: for those the thread is free, as it was at its
//! start.
//!
//! A caller that does not sleep looks the same from its own CPU: each request stops it there until
//! that is served. So now and then the shard steps aside, to see what comes then.
//!
//! A queue of FUSE-over-io_uring tells the CPU (`fs/fuse/dev_uring.c, fuse_uring_task_to_queue`);
//! on `/dev/fuse`, `whereabouts` finds it. What else becomes of a shard that joins its caller says
//! `lead`. Never known here: what the requests are. Neighbour: `shard`.

use std::ops::RangeInclusive;

use fusewire_proto::Unique;
use fusewire_proto::abi::InHeader;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

use crate::lead::Member;
use crate::whereabouts::{Caller, Whereabouts};

/// Turns with a lone request after which a shard joins the caller.
const JOIN: u32 = 16;
/// At most, after a caller turned out not to sleep or to be many: each time `SHY` times as many.
const JOIN_LATE: u32 = 8192;
const SHY: u32 = 8;
/// How many of these a turn with several requests, or with a bulk of bytes, undoes.
const LEAVE: u32 = 4;
/// Turns with a joined caller after which the shard steps aside, each time twice as many.
const ASIDE: RangeInclusive<u32> = 256..=16384;
/// Turns with a lone request after which it comes back.
const BACK: u32 = 8;
/// So many requests at a time keep a second CPU busy; fewer cost less on that of the caller.
const CROWD: u64 = 3;
/// While one copies so much, another may as well begin.
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
    place: Place,
    lone: Lone,
    member: Member,
    whereabouts: Option<Whereabouts>,
}

impl Placement {
    /// For the calling thread, to `follow` its callers or to stay as it is; with what finds those
    /// whom the transport does not.
    pub(crate) fn new(follow: bool, member: Member, whereabouts: Option<Whereabouts>) -> Self {
        let home = if follow { sched_getaffinity(THIS).ok() } else { None };
        Self {
            home,
            current: home.unwrap_or_default(),
            place: Place::Anywhere,
            lone: Lone::default(),
            member,
            whereabouts,
        }
    }

    /// A request came.
    pub(crate) fn arrived(&mut self, caller: Caller, header: &InHeader) {
        if self.home.is_none() {
            return;
        }
        let cpu = match caller {
            Caller::Nobody => return,
            Caller::On(cpu) => Some(cpu),
            Caller::Somewhere => self.whereabouts.as_mut().and_then(|them| them.cpu(header.pid)),
        };
        self.member.arrived(header.unique);
        self.lone.arrived(cpu);
    }

    /// What the shard does while it has joined its caller.
    pub(crate) fn member(&self) -> &Member {
        &self.member
    }

    /// A request that had arrived is about to be answered, and moved so many bytes of data.
    pub(crate) fn answered(&mut self, caller: Caller, unique: Unique, bytes: u64) {
        self.member.rests();
        if caller != Caller::Nobody {
            self.lone.answered(self.member.since(unique), bytes);
        }
    }

    /// The requests of a turn are served as far as they can be. Moves the thread if it is time.
    pub(crate) fn turned(&mut self) {
        let Some(home) = self.home else { return };
        self.lone.turned();
        if !matches!(self.lone.stance, Stance::Joined { .. }) {
            self.member.leave();
            if let Some(place) = self.lone.place() {
                self.goes(place, home);
            }
            return;
        }
        if self.member.has_joined() {
            return;
        }
        if self.member.has_hung() {
            self.lone.hung();
        } else if self.member.may_join()
            && self.goes(Place::On(self.lone.cpu), home)
            && self.member.join()
        {
            return;
        }
        self.goes(Place::Anywhere, home);
    }

    /// Tells whether the thread is there.
    fn goes(&mut self, place: Place, home: CpuSet) -> bool {
        if place == self.place {
            return true;
        }
        let Some(there) = place.among(home) else { return false };
        // Somebody else may have said by now where the thread is to run: that holds from then on.
        let is_ours = sched_getaffinity(THIS).is_ok_and(|now| now == self.current);
        let goes = is_ours && sched_setaffinity(THIS, &there).is_ok();
        if goes {
            (self.current, self.place) = (there, place);
        } else {
            self.member.leave();
            self.home = None;
        }
        goes
    }

    /// The shard serves no more.
    pub(crate) fn ends(&mut self) {
        self.member.leave();
        self.home = None;
    }
}

/// Where a thread is to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Anywhere,
    On(usize),
    /// Anywhere but there.
    Off(usize),
}

impl Place {
    /// The CPUs, of those at home; `None` if that is none.
    fn among(self, home: CpuSet) -> Option<CpuSet> {
        let (mut there, cpu) = match self {
            Self::Anywhere => return Some(home),
            Self::On(cpu) => (CpuSet::new(), cpu),
            Self::Off(cpu) => (home, cpu),
        };
        if self == Self::Off(cpu) {
            there.unset(cpu).ok()?;
        } else if home.is_set(cpu).ok()? {
            there.set(cpu).ok()?;
        }
        (there != CpuSet::new()).then_some(there)
    }
}

/// Whether there is a caller who makes one request at a time, and on which CPU.
#[derive(Debug)]
struct Lone {
    cpu: usize,
    stance: Stance,
    /// Turns with a lone request that it takes to join, and turns until the shard steps aside.
    join: u32,
    /// At least so many where the shard kept others waiting when it had joined.
    wary: u32,
    patience: u32,
    /// Requests that came in this turn.
    arrivals: u64,
    /// Whether any of this turn overlapped with another, or was bulk.
    crowded: bool,
}

#[derive(Debug)]
enum Stance {
    /// Turns that speak for a lone caller, less those that speak against it.
    Free(u32),
    /// Turns that speak against it, less those that speak for it, and all since it was joined.
    Joined { against: u32, turns: u32 },
    /// As for `Free`.
    Aside(u32),
}

impl Default for Lone {
    fn default() -> Self {
        Self {
            cpu: 0,
            stance: Stance::Free(0),
            join: JOIN,
            wary: JOIN,
            patience: *ASIDE.start(),
            arrivals: 0,
            crowded: false,
        }
    }
}

impl Lone {
    /// From a caller on this CPU, or one of whom nobody knows where he is: several who take turns,
    /// perhaps, which is as good as a crowd.
    fn arrived(&mut self, cpu: Option<usize>) {
        if let Some(cpu) = cpu
            && cpu != self.cpu
        {
            self.cpu = cpu;
            let known = !matches!(self.stance, Stance::Free(0));
            self.stance = Stance::Free(known.into());
            self.join = JOIN;
        }
        self.arrivals += 1;
        self.crowded |= self.arrivals > CROWD || cpu.is_none();
    }

    /// `since` others came before it was answered: they overlap. One that waits for long, as for a
    /// lock, tells nothing until then.
    fn answered(&mut self, since: u64, bytes: u64) {
        self.crowded |= since >= CROWD || since > 0 && bytes >= BULK;
    }

    /// While it was joined others had to wait.
    fn hung(&mut self) {
        self.wary = (self.wary * SHY).min(JOIN_LATE);
        self.stance = Stance::Free(0);
    }

    fn turned(&mut self) {
        let crowded = std::mem::take(&mut self.crowded);
        if std::mem::take(&mut self.arrivals) == 0 && !crowded {
            return;
        }
        match &mut self.stance {
            Stance::Free(alone) | Stance::Aside(alone) if crowded => {
                *alone = alone.saturating_sub(LEAVE);
                if matches!(self.stance, Stance::Aside(0)) {
                    self.join = (self.join * SHY).min(JOIN_LATE);
                    self.patience = *ASIDE.start();
                    self.stance = Stance::Free(0);
                }
            }
            Stance::Free(alone) => {
                *alone += 1;
                if *alone >= self.join.max(self.wary) {
                    self.stance = Stance::JUST_JOINED;
                }
            }
            Stance::Joined { against, .. } if crowded => {
                *against += LEAVE;
                self.patience = *ASIDE.start();
                if *against >= JOIN {
                    // From elsewhere many may look like few, as they are served while they come.
                    self.join = (self.join * SHY).min(JOIN_LATE);
                    self.stance = Stance::Free(0);
                }
            }
            Stance::Joined { against, turns } => {
                *against = against.saturating_sub(1);
                *turns += 1;
                if *turns >= self.patience {
                    self.wary = (self.wary / 2).max(JOIN);
                    self.stance = Stance::Aside(BACK);
                }
            }
            Stance::Aside(alone) => {
                *alone += 1;
                if *alone >= 2 * BACK {
                    self.join = JOIN;
                    self.patience = (self.patience * 2).min(*ASIDE.end());
                    self.stance = Stance::JUST_JOINED;
                }
            }
        }
    }

    /// Where to be; `None` while it is too early to tell.
    fn place(&self) -> Option<Place> {
        match self.stance {
            Stance::Free(0) => Some(Place::Anywhere),
            Stance::Free(_) => None,
            Stance::Joined { .. } => Some(Place::On(self.cpu)),
            Stance::Aside(_) => Some(Place::Off(self.cpu)),
        }
    }
}

impl Stance {
    const JUST_JOINED: Self = Self::Joined { against: 0, turns: 0 };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lead::Lead;

    fn turn(lone: &mut Lone, cpu: usize, requests: u64, bytes: u64) -> Option<Place> {
        for _ in 0..requests {
            lone.arrived(Some(cpu));
            lone.answered(requests.saturating_sub(1), bytes);
        }
        lone.turned();
        lone.place()
    }

    #[test]
    fn a_lone_caller_is_joined_after_a_while() {
        let mut lone = Lone::default();
        assert_eq!(lone.place(), Some(Place::Anywhere));
        for _ in 1..JOIN {
            assert_eq!(turn(&mut lone, 3, 1, 4096), None);
        }
        assert_eq!(turn(&mut lone, 3, 1, 4096), Some(Place::On(3)));
        assert_eq!(
            turn(&mut lone, 3, 0, 0),
            Some(Place::On(3)),
            "a turn without requests tells nothing"
        );
        assert_eq!(turn(&mut lone, 2, 1, 4096), None);
        let last = (1..JOIN).map(|_| turn(&mut lone, 2, 1, 0)).last();
        assert_eq!(last, Some(Some(Place::On(2))));
    }

    #[test]
    fn a_joined_caller_is_seen_from_aside_now_and_then() {
        let mut lone = Lone::default();
        let joined = |lone: &mut Lone, limit: u32| {
            (0..limit).find(|_| turn(lone, 0, 1, 0) == Some(Place::On(0))).map(|turns| turns + 1)
        };
        let left = |lone: &mut Lone| {
            (1..100_000).find(|_| turn(lone, 0, 1, 0) != Some(Place::On(0))).unwrap()
        };
        assert_eq!(joined(&mut lone, 100), Some(JOIN));
        for patience in [256, 512, 1024, 2048, 4096, 8192, 16384, 16384] {
            assert_eq!(left(&mut lone), patience);
            assert_eq!(lone.place(), Some(Place::Off(0)), "aside");
            assert_eq!(joined(&mut lone, 100), Some(BACK), "back, as it is alone");
        }
        // It was not alone after all.
        for late in [JOIN * SHY, JOIN * SHY * SHY, JOIN_LATE, JOIN_LATE] {
            left(&mut lone);
            assert_eq!(turn(&mut lone, 0, CROWD + 1, 0), Some(Place::Off(0)), "perhaps by chance");
            assert_eq!(turn(&mut lone, 0, CROWD + 1, 0), Some(Place::Anywhere));
            assert_eq!(joined(&mut lone, 100_000), Some(late));
        }
        assert_eq!(left(&mut lone), 256, "soon again");
        assert_eq!(joined(&mut lone, 100), Some(BACK));
        turn(&mut lone, 1, 1, 0);
        turn(&mut lone, 0, CROWD + 1, 0);
        assert_eq!(joined(&mut lone, 100), Some(JOIN), "and easily, once it is alone");
    }

    #[test]
    fn a_request_that_waits_for_long_makes_no_crowd() {
        let mut lone = Lone::default();
        lone.arrived(Some(0));
        lone.turned();
        let last = (1..JOIN).map(|_| turn(&mut lone, 0, 1, 0)).last();
        assert_eq!(last, Some(Some(Place::On(0))));
        lone.answered(CROWD, 0);
        lone.turned();
        assert_eq!(lone.place(), Some(Place::On(0)), "nor does its end alone");
    }

    #[test]
    fn who_is_not_known_or_takes_turns_with_others_is_not_joined() {
        let mut lone = Lone::default();
        for _ in 0..100 {
            lone.arrived(None);
            lone.answered(0, 0);
            lone.turned();
        }
        assert_eq!(lone.place(), Some(Place::Anywhere));
        for cpu in [Some(1), None].repeat(100) {
            lone.arrived(cpu);
            lone.answered(0, 0);
            lone.turned();
            assert_ne!(lone.place(), Some(Place::On(1)));
        }
    }

    #[test]
    fn who_kept_others_waiting_joins_later_until_it_does_not() {
        let mut lone = Lone::default();
        let joins = |lone: &mut Lone| {
            let joined = |lone: &Lone| matches!(lone.stance, Stance::Joined { .. });
            (1..100_000).find(|_| (turn(lone, 0, 1, 0), joined(lone)).1).unwrap()
        };
        for late in [JOIN, JOIN * SHY, JOIN * SHY * SHY, JOIN_LATE, JOIN_LATE] {
            assert_eq!(joins(&mut lone), late);
            lone.hung();
            assert_eq!(lone.place(), Some(Place::Anywhere));
            // Another CPU is as bad.
            turn(&mut lone, 1, 1, 0);
            turn(&mut lone, 0, 1, 0);
            lone.stance = Stance::Free(0);
        }
        for late in [JOIN_LATE, JOIN_LATE / 2, JOIN_LATE / 4] {
            assert_eq!(joins(&mut lone), late);
            while matches!(lone.stance, Stance::Joined { .. }) {
                turn(&mut lone, 0, 1, 0);
            }
            lone.stance = Stance::Free(0);
        }
    }

    #[test]
    fn places_are_among_those_at_home() {
        let set = |cpus: &[usize]| {
            let mut set = CpuSet::new();
            cpus.iter().for_each(|cpu| set.set(*cpu).unwrap());
            set
        };
        let home = set(&[1, 2]);
        assert_eq!(Place::Anywhere.among(home), Some(home));
        assert_eq!(Place::On(2).among(home), Some(set(&[2])));
        assert_eq!(Place::Off(2).among(home), Some(set(&[1])));
        assert_eq!(Place::Off(3).among(home), Some(home));
        for nowhere in [Place::On(3), Place::On(usize::MAX), Place::Off(usize::MAX)] {
            assert_eq!(nowhere.among(home), None);
        }
        assert_eq!(Place::Off(2).among(set(&[2])), None);
    }

    #[test]
    fn a_crowd_and_bulk_are_left_soon_but_not_at_once() {
        for (requests, bytes) in [(CROWD + 1, 0), (2, BULK)] {
            let mut lone = Lone { stance: Stance::JUST_JOINED, ..Lone::default() };
            for _ in 1..JOIN / LEAVE {
                assert_eq!(turn(&mut lone, 0, requests, bytes), Some(Place::On(0)));
            }
            assert_eq!(turn(&mut lone, 0, requests, bytes), Some(Place::Anywhere));
        }
    }

    #[test]
    fn a_few_at_a_time_and_bulk_alone_are_joined() {
        for (requests, bytes) in [(2, 0), (CROWD, BULK - 1), (1, BULK)] {
            let mut lone = Lone::default();
            let last = (0..JOIN).map(|_| turn(&mut lone, 0, requests, bytes)).last();
            assert_eq!(last, Some(Some(Place::On(0))), "{requests} of {bytes}");
        }
    }

    #[test]
    fn who_turned_out_to_be_many_is_joined_later() {
        let mut lone = Lone::default();
        for late in [JOIN, JOIN * SHY, JOIN * SHY * SHY, JOIN_LATE, JOIN_LATE] {
            let joined = (1..).find(|_| turn(&mut lone, 0, 2, 0) == Some(Place::On(0)));
            assert_eq!(joined, Some(late));
            while turn(&mut lone, 0, CROWD + 1, 0) != Some(Place::Anywhere) {}
        }
    }

    #[test]
    fn requests_that_overlap_are_a_crowd_however_they_come() {
        let mut lone = Lone::default();
        for _ in 0..100 {
            for since in [CROWD, 0] {
                lone.arrived(Some(0));
                lone.turned();
                lone.answered(since, 0);
                lone.turned();
                assert_ne!(lone.place(), Some(Place::On(0)));
            }
        }
    }

    #[test]
    fn a_thread_goes_and_comes_back_unless_it_is_moved_by_others() {
        let home = sched_getaffinity(THIS).unwrap();
        let cpu = (0..CpuSet::count()).find(|cpu| home.is_set(*cpu).unwrap()).unwrap();
        let mut only = CpuSet::new();
        only.set(cpu).unwrap();
        let header = InHeader { unique: Unique(2), ..InHeader::default() };
        let mut placement = Placement::new(true, Member::new(Lead::new(1, None), 0), None);
        for _ in 0..JOIN {
            placement.arrived(Caller::On(cpu), &header);
            placement.answered(Caller::On(cpu), Unique(2), 0);
            placement.turned();
        }
        assert_eq!(sched_getaffinity(THIS), Ok(only));
        assert!(placement.member.has_joined());
        // One more request is no reason to go, a crowd is.
        placement.arrived(Caller::On(cpu), &header);
        placement.turned();
        assert!(placement.member.has_joined());
        placement.lone.stance = Stance::Free(1);
        placement.turned();
        assert!(!placement.member.has_joined(), "it serves nobody alone from now on");
        placement.lone.stance = Stance::Free(0);
        placement.turned();
        assert_eq!(sched_getaffinity(THIS), Ok(home));

        placement.lone.stance = Stance::JUST_JOINED;
        placement.turned();
        sched_setaffinity(THIS, &home).unwrap();
        placement.lone.stance = Stance::Free(0);
        if home != only {
            placement.turned();
            placement.lone.stance = Stance::JUST_JOINED;
            placement.turned();
            assert_eq!(sched_getaffinity(THIS), Ok(home), "moved against somebody's word");
        }
    }
}
