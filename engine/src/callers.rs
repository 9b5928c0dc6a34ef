//! Where a shard had best be for those who call it: whether they make few requests at a time, and
//! on which CPU.
//!
//! What each turn brought is a vote for few, or for a crowd. Some votes for few, and they are
//! joined; some for a crowd, and they are left again. Few that are joined may have looked like few
//! only because the shard was elsewhere, and the other way round: who was joined in vain is joined
//! later the next time, and now and then the shard steps aside, to see what comes then.
//!
//! Never known here: threads. Neighbour: `placement` moves one.

use std::ops::RangeInclusive;

/// Turns of few requests after which they are joined.
const JOIN: u32 = 16;
/// At most, after it was in vain: each time `SHY` times as many.
const JOIN_LATE: u32 = 8192;
const SHY: u32 = 8;
/// The same after others were kept waiting: with one who never sleeps that is so each time, and
/// takes milliseconds.
const JOIN_WARY: u32 = 1 << 20;
/// How many of these turns one with a crowd undoes.
const LEAVE: u32 = 4;
/// Turns with joined callers after which the shard steps aside, each time twice as many.
const ASIDE: RangeInclusive<u32> = 256..=16384;
/// Turns of few after which it comes back.
const BACK: u32 = 8;
/// No more than so many requests at a time are few: more keep a second CPU busy, and fewer cost
/// less on that of the caller.
const FEW: u64 = 3;
/// While one copies so much, another may as well begin.
const BULK: u64 = 64 * 1024;

/// Where a shard is to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Anywhere,
    On(usize),
    /// Anywhere but there.
    Off(usize),
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Callers {
    /// Where the last of them ran.
    cpu: usize,
    turn: Turn,
    stance: Stance,
    /// Votes that it takes to join.
    join: u32,
    /// At least so many where the shard kept others waiting when it had joined.
    wary: u32,
    /// Turns until the shard steps aside.
    patience: u32,
}

/// What came in a turn.
#[derive(Debug, Default)]
struct Turn {
    arrivals: u64,
    /// Whether any moved so much that it is bulk.
    bulk: bool,
    /// Whether any overlapped with too many others.
    crowd: bool,
}

#[derive(Debug)]
enum Stance {
    /// Votes for few, less those for a crowd.
    Free(u32),
    /// Votes for a crowd, less those for few, and the turns since they were joined.
    Joined { against: u32, turns: u32 },
    /// As for `Free`.
    Aside(u32),
}

impl Stance {
    const JUST_JOINED: Self = Self::Joined { against: 0, turns: 0 };
}

impl Turn {
    /// Whether it was a crowd; nothing of a turn without requests.
    fn is_crowd(&self) -> Option<bool> {
        let crowd = self.crowd || self.arrivals > FEW || self.bulk && self.arrivals > 1;
        (crowd || self.arrivals > 0).then_some(crowd)
    }
}

impl Default for Callers {
    fn default() -> Self {
        Self {
            cpu: 0,
            turn: Turn::default(),
            stance: Stance::Free(0),
            join: JOIN,
            wary: JOIN,
            patience: *ASIDE.start(),
        }
    }
}

impl Callers {
    /// A request came from a CPU, or nobody knows from where: from several who take turns, perhaps,
    /// which is as good as a crowd.
    pub(crate) fn arrived(&mut self, cpu: Option<usize>) {
        if let Some(cpu) = cpu
            && cpu != self.cpu
        {
            self.cpu = cpu;
            self.stance = Stance::Free(0);
        }
        self.turn.arrivals += 1;
        self.turn.crowd |= cpu.is_none();
    }

    /// `since` others came before it was answered: they overlap. One that waits for long, as for a
    /// lock, tells nothing until then.
    pub(crate) fn answered(&mut self, since: u64, bytes: u64) {
        self.turn.bulk |= bytes >= BULK;
        self.turn.crowd |= since >= FEW || since > 0 && bytes >= BULK;
    }

    /// They could not be joined.
    pub(crate) fn refused(&mut self) {
        self.stance = Stance::Free(0);
    }

    /// While they were joined others had to wait.
    pub(crate) fn hung(&mut self) {
        self.wary = (self.wary * SHY).min(JOIN_WARY);
        self.stance = Stance::Free(0);
    }

    /// They were joined, or seen from aside, and are many.
    fn in_vain(&mut self) {
        self.join = (self.join * SHY).min(JOIN_LATE);
        self.patience = *ASIDE.start();
        self.stance = Stance::Free(0);
    }

    pub(crate) fn turned(&mut self) {
        let Some(crowd) = std::mem::take(&mut self.turn).is_crowd() else { return };
        match &mut self.stance {
            Stance::Free(votes) if crowd => *votes = votes.saturating_sub(LEAVE),
            Stance::Free(votes) => {
                *votes += 1;
                if *votes >= self.join.max(self.wary) {
                    self.stance = Stance::JUST_JOINED;
                }
            }
            Stance::Joined { against, turns } if crowd => {
                *against += LEAVE;
                self.patience = *ASIDE.start();
                if *against >= JOIN {
                    // Who stayed for as long as the next time would take was worth it.
                    if *turns >= self.join * SHY {
                        (self.join, self.stance) = (JOIN, Stance::Free(0));
                    } else {
                        self.in_vain();
                    }
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
            Stance::Aside(votes) if crowd => {
                *votes = votes.saturating_sub(LEAVE);
                if *votes == 0 {
                    self.in_vain();
                }
            }
            Stance::Aside(votes) => {
                *votes += 1;
                if *votes >= 2 * BACK {
                    self.join = JOIN;
                    self.patience = (self.patience * 2).min(*ASIDE.end());
                    self.stance = Stance::JUST_JOINED;
                }
            }
        }
    }

    pub(crate) fn place(&self) -> Place {
        match self.stance {
            Stance::Free(_) => Place::Anywhere,
            Stance::Joined { .. } => Place::On(self.cpu),
            Stance::Aside(_) => Place::Off(self.cpu),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A turn as of a shard whose handlers answer at once.
    fn turn(callers: &mut Callers, cpu: usize, requests: u64, bytes: u64) -> Place {
        for _ in 0..requests {
            callers.arrived(Some(cpu));
            callers.answered(0, bytes);
        }
        callers.turned();
        callers.place()
    }

    /// Turns of so many requests until the shard is there.
    fn until(callers: &mut Callers, place: Place, requests: u64) -> Option<u32> {
        (1..100_000).find(|_| turn(callers, 0, requests, 0) == place)
    }

    #[test]
    fn few_are_joined_after_a_while_where_they_are() {
        let mut callers = Callers::default();
        assert_eq!(callers.place(), Place::Anywhere);
        for _ in 1..JOIN {
            assert_eq!(turn(&mut callers, 3, 1, 4096), Place::Anywhere);
        }
        assert_eq!(turn(&mut callers, 3, 1, 4096), Place::On(3));
        assert_eq!(turn(&mut callers, 3, 0, 0), Place::On(3), "a turn of nothing tells nothing");
        for _ in 1..JOIN {
            assert_eq!(turn(&mut callers, 2, 1, 0), Place::Anywhere, "left at once, as he moved");
        }
        assert_eq!(turn(&mut callers, 2, 1, 0), Place::On(2));
    }

    #[test]
    fn those_on_several_cpus_are_joined_nowhere() {
        let mut callers = Callers::default();
        until(&mut callers, Place::On(0), 1).unwrap();
        for cpu in [4, 8].repeat(100) {
            assert_eq!(turn(&mut callers, cpu, 1, 0), Place::Anywhere);
        }
        let mut callers = Callers::default();
        for cpu in [Some(1), None].repeat(100) {
            callers.arrived(cpu);
            callers.answered(0, 0);
            callers.turned();
            assert_eq!(callers.place(), Place::Anywhere, "nobody knows where the other is");
        }
    }

    #[test]
    fn what_is_a_crowd() {
        // Requests, bytes of each.
        let few = [(1, 0), (2, 0), (FEW, BULK - 1), (1, BULK)];
        let crowds = [(FEW + 1, 0), (2, BULK), (16, BULK)];
        for (requests, bytes) in few {
            let mut callers = Callers::default();
            let last = (0..JOIN).map(|_| turn(&mut callers, 0, requests, bytes)).last();
            assert_eq!(last, Some(Place::On(0)), "{requests} of {bytes}");
        }
        for (requests, bytes) in crowds {
            let mut callers = Callers { stance: Stance::JUST_JOINED, ..Callers::default() };
            for _ in 1..JOIN / LEAVE {
                assert_eq!(turn(&mut callers, 0, requests, bytes), Place::On(0), "not at once");
            }
            assert_eq!(turn(&mut callers, 0, requests, bytes), Place::Anywhere);
        }
    }

    #[test]
    fn requests_that_wait_and_overlap_are_a_crowd_too() {
        for (since, bytes, crowd) in [
            (FEW, 0, true),
            (FEW - 1, 0, false),
            (FEW - 1, BULK - 1, false),
            (1, BULK, true),
            (0, BULK, false),
        ] {
            let mut callers = Callers::default();
            for _ in 0..JOIN {
                callers.arrived(Some(0));
                callers.turned();
                callers.answered(since, bytes);
                callers.turned();
            }
            assert_eq!(callers.place() != Place::On(0), crowd, "{since} since, {bytes}");
        }
        let mut callers = Callers { stance: Stance::JUST_JOINED, ..Callers::default() };
        callers.answered(1000, 0);
        callers.turned();
        assert_eq!(callers.place(), Place::On(0), "one that waited for long is none");
    }

    #[test]
    fn those_joined_are_seen_from_aside_now_and_then() {
        let mut callers = Callers::default();
        assert_eq!(until(&mut callers, Place::On(0), 1), Some(JOIN));
        for patience in [256, 512, 1024, 2048, 4096, 8192, 16384, 16384] {
            assert_eq!(until(&mut callers, Place::Off(0), 1), Some(patience));
            assert_eq!(until(&mut callers, Place::On(0), 1), Some(BACK), "back, as they are few");
        }
        // They were not few after all.
        for late in [JOIN * SHY, JOIN * SHY * SHY, JOIN_LATE, JOIN_LATE] {
            until(&mut callers, Place::Off(0), 1).unwrap();
            assert_eq!(turn(&mut callers, 0, FEW + 1, 0), Place::Off(0), "perhaps by chance");
            assert_eq!(turn(&mut callers, 0, FEW + 1, 0), Place::Anywhere);
            assert_eq!(until(&mut callers, Place::On(0), 1), Some(late));
        }
        assert_eq!(until(&mut callers, Place::Off(0), 1), Some(256), "soon again");
        assert_eq!(until(&mut callers, Place::On(0), 1), Some(BACK));
        until(&mut callers, Place::Anywhere, FEW + 1).unwrap();
    }

    #[test]
    fn who_turned_out_to_be_many_is_joined_later_and_who_was_worth_it_is_not() {
        let mut callers = Callers::default();
        for late in [JOIN, JOIN * SHY, JOIN * SHY * SHY, JOIN_LATE, JOIN_LATE] {
            assert_eq!(until(&mut callers, Place::On(0), 2), Some(late));
            until(&mut callers, Place::Anywhere, FEW + 1).unwrap();
        }
        // Elsewhere they are no fewer.
        turn(&mut callers, 1, 1, 0);
        assert_eq!(until(&mut callers, Place::On(0), 2), Some(JOIN_LATE));
        let mut callers = Callers::default();
        for _ in 0..8 {
            assert_eq!(until(&mut callers, Place::On(0), 1), Some(JOIN));
            (0..200).for_each(|_| assert_eq!(turn(&mut callers, 0, 1, 0), Place::On(0)));
            until(&mut callers, Place::Anywhere, FEW + 1).unwrap();
        }
    }

    #[test]
    fn who_kept_others_waiting_joins_later_until_it_does_not() {
        let mut callers = Callers::default();
        let mut late = JOIN;
        for _ in 0..8 {
            let joined = (1..=JOIN_WARY).find(|_| turn(&mut callers, 0, 1, 0) == Place::On(0));
            assert_eq!(joined, Some(late));
            callers.hung();
            assert_eq!(callers.place(), Place::Anywhere);
            late = (late * SHY).min(JOIN_WARY);
        }
        for late in [JOIN_WARY, JOIN_WARY / 2, JOIN_WARY / 4] {
            let joined = (1..=JOIN_WARY).find(|_| turn(&mut callers, 0, 1, 0) == Place::On(0));
            assert_eq!(joined, Some(late));
            until(&mut callers, Place::Off(0), 1).unwrap();
            callers.refused();
            assert_eq!(callers.place(), Place::Anywhere);
        }
    }
}
