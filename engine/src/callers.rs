//! Where a shard had best be for those who call it from one CPU: beside them, or elsewhere.
//!
//! Beside them a request costs two switches of threads, elsewhere two wakes of CPUs, but what they
//! and the shard do goes on at the same time. What weighs more depends on how many requests overlap
//! and how large they are, on who else runs, and most of all on the machine: so both are tried.
//!
//! Never known here: threads. Neighbours: `placement` moves one; `scales` compares.

use std::time::Instant;

use crate::scales::{Scales, Side, Work};
use crate::thread::Scheduled;

/// Turns with requests from one CPU after which they are joined there.
const JOIN: u32 = 16;
/// The same at most, each time `SHY` times as many, after others were kept waiting: with one who
/// never sleeps that is so each time, and takes milliseconds.
const JOIN_WARY: u32 = 1 << 20;
const SHY: u32 = 8;
/// How many of these turns one with a request from nobody knows where undoes.
const LEAVE: u32 = 4;

/// Where a shard is to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Anywhere,
    On(usize),
    /// Begins on any other.
    Off(usize),
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Callers {
    /// Where the last of them ran.
    cpu: usize,
    turn: Turn,
    stance: Stance,
    /// What was found is kept when they move.
    scales: Scales,
    /// Turns that it takes to join.
    wary: u32,
}

/// What came and went in a turn.
#[derive(Debug, Default)]
struct Turn {
    came: bool,
    /// Whether nobody knows from where.
    lost: bool,
}

#[derive(Debug)]
enum Stance {
    /// Turns with requests from that CPU.
    New(u32),
    /// They are on that CPU, unless so many turns speak against it.
    Known { against: u32 },
}

impl Default for Callers {
    fn default() -> Self {
        Self {
            cpu: 0,
            turn: Turn::default(),
            stance: Stance::New(0),
            scales: Scales::default(),
            wary: JOIN,
        }
    }
}

impl Callers {
    /// A request came from a CPU, or nobody knows from where: from several who take turns, perhaps.
    pub(crate) fn arrived(&mut self, cpu: Option<usize>) {
        if let Some(cpu) = cpu
            && cpu != self.cpu
        {
            self.cpu = cpu;
            self.stance = Stance::New(0);
        }
        self.turn.came = true;
        self.turn.lost |= cpu.is_none();
    }

    /// Whether it is of interest what others do meanwhile.
    pub(crate) fn is_comparing(&self) -> bool {
        matches!(self.stance, Stance::Known { .. }) && self.scales.is_comparing()
    }

    /// They could not be joined.
    pub(crate) fn refused(&mut self) {
        self.stance = Stance::New(0);
    }

    /// Somebody else serves them alone.
    pub(crate) fn left_out(&mut self) {
        self.scales.begin();
    }

    /// While they were joined others had to wait.
    pub(crate) fn hung(&mut self) {
        self.wary = (self.wary * SHY).min(JOIN_WARY);
        self.stance = Stance::New(0);
    }

    /// See [`Scales::turned`].
    pub(crate) fn turned(
        &mut self,
        work: Work,
        now: Instant,
        counted: impl Fn() -> Option<Scheduled>,
    ) {
        let Turn { came, lost } = std::mem::take(&mut self.turn);
        match &mut self.stance {
            Stance::New(turns) if lost => *turns = turns.saturating_sub(LEAVE),
            Stance::New(turns) => {
                *turns += u32::from(came);
                if *turns >= self.wary {
                    self.stance = Stance::Known { against: 0 };
                    self.scales.begin();
                }
            }
            Stance::Known { against } if lost => {
                *against += LEAVE;
                if *against >= JOIN {
                    self.stance = Stance::New(0);
                }
            }
            Stance::Known { against } => {
                *against = against.saturating_sub(u32::from(came));
                if self.scales.turned(work, now, counted) {
                    self.wary = (self.wary / 2).max(JOIN);
                }
            }
        }
    }

    pub(crate) fn place(&self) -> Place {
        match (&self.stance, self.scales.side()) {
            (Stance::New(_), _) => Place::Anywhere,
            (Stance::Known { .. }, Side::Beside) => Place::On(self.cpu),
            (Stance::Known { .. }, Side::Elsewhere) => Place::Off(self.cpu),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Turns of one request each.
    struct Turns {
        callers: Callers,
        now: Instant,
    }

    impl Turns {
        fn new() -> Self {
            Self { callers: Callers::default(), now: Instant::now() }
        }

        /// One that takes so long, with a request from there. Tells the place after it.
        fn turn(&mut self, cpu: Option<usize>, micros: u64) -> Place {
            self.callers.arrived(cpu);
            self.now += Duration::from_micros(micros);
            self.callers.turned(Work { own: 1, others: 0 }, self.now, || None);
            self.callers.place()
        }

        /// Turns until the shard is there.
        fn until(&mut self, place: Place) -> Option<u32> {
            (1..200_000).find(|_| self.turn(Some(0), 10) == place)
        }
    }

    #[test]
    fn they_are_joined_after_a_while_where_they_are() {
        let mut turns = Turns::new();
        assert_eq!(turns.callers.place(), Place::Anywhere);
        for _ in 1..JOIN {
            assert_eq!(turns.turn(Some(3), 10), Place::Anywhere);
        }
        assert_eq!(turns.turn(Some(3), 10), Place::On(3));
        turns.callers.turned(Work { own: 0, others: 0 }, turns.now, || None);
        assert_eq!(turns.callers.place(), Place::On(3), "a turn of nothing tells nothing");
        for _ in 1..JOIN {
            assert_eq!(turns.turn(Some(2), 10), Place::Anywhere, "left at once, as he moved");
        }
        assert_eq!(turns.turn(Some(2), 10), Place::On(2));
    }

    #[test]
    fn those_on_several_cpus_are_joined_nowhere() {
        let mut turns = Turns::new();
        turns.until(Place::On(0)).unwrap();
        for cpu in [4, 8].repeat(100) {
            assert_eq!(turns.turn(Some(cpu), 10), Place::Anywhere);
        }
        let mut turns = Turns::new();
        for cpu in [Some(1), None].repeat(100) {
            assert_eq!(turns.turn(cpu, 10), Place::Anywhere, "nobody knows where the other is");
        }
        turns.until(Place::On(0)).unwrap();
        for _ in 1..JOIN / LEAVE {
            assert_eq!(turns.turn(None, 10), Place::On(0), "not at once");
        }
        assert_eq!(turns.turn(None, 10), Place::Anywhere);
    }

    #[test]
    fn where_they_are_served_faster_they_stay() {
        let mut turns = Turns::new();
        let (mut beside, mut elsewhere) = (0, 0);
        for _ in 0..100_000 {
            match turns.callers.place() {
                Place::On(_) => (beside += 10, turns.turn(Some(0), 10)),
                Place::Anywhere | Place::Off(_) => (elsewhere += 5, turns.turn(Some(0), 5)),
            };
        }
        assert!(beside * 10 < elsewhere, "{beside} {elsewhere}");
    }

    #[test]
    fn what_was_found_is_kept_when_they_move() {
        let mut turns = Turns::new();
        for _ in 0..20_000 {
            let micros = if turns.callers.place() == Place::On(0) { 10 } else { 5 };
            turns.turn(Some(0), micros);
        }
        let mut joined = 0;
        for _ in 0..1000 {
            joined += u32::from(turns.turn(Some(1), 5) == Place::On(1));
        }
        assert_eq!(joined, 0, "not before the next comparison");
    }

    #[test]
    fn where_others_had_to_wait_they_are_joined_later_and_later() {
        let mut turns = Turns::new();
        for late in [JOIN, JOIN * SHY, JOIN * SHY * SHY] {
            assert_eq!(turns.until(Place::On(0)), Some(late));
            turns.callers.hung();
            assert_eq!(turns.callers.place(), Place::Anywhere);
        }
        for _ in 0..16 {
            turns.callers.hung();
        }
        assert_eq!(turns.callers.wary, JOIN_WARY);
        turns.callers.stance = Stance::New(JOIN_WARY);
        turns.until(Place::On(0)).unwrap();
        turns.until(Place::Off(0)).unwrap();
        turns.until(Place::On(0)).unwrap();
        turns.until(Place::Off(0)).unwrap();
        assert_eq!(turns.callers.wary, JOIN_WARY / 2, "it went well until a comparison");
    }

    #[test]
    fn who_is_refused_may_ask_again() {
        let mut turns = Turns::new();
        turns.until(Place::On(0)).unwrap();
        turns.callers.refused();
        assert_eq!(turns.callers.place(), Place::Anywhere);
        assert_eq!(turns.until(Place::On(0)), Some(JOIN));
    }
}
