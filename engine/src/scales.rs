//! Which of two places serves more, found by being in both in turn.
//!
//! Now and then, while one place is used, the other is tried for a millisecond, between two looks
//! at the first. The more often that has told the same, the longer until the next time; sooner when
//! the rate has changed much, as the load may be of another kind. Time in which nothing happens
//! hardly counts: who calls seldom is served alike anywhere. And who is beside and hardly runs
//! stays there: to run while callers do could not bring much more, and those whom he serves while
//! he tries wait longer.
//!
//! Never known here: the places. Neighbour: `callers`, whose two they are.

use std::time::{Duration, Instant};

use crate::thread::Scheduled;

/// Where to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// Better if both are equal, as it takes less.
    Beside,
    Elsewhere,
}

const MS: Duration = Duration::from_millis(1);
/// A step at most, and for each piece of work: what is beyond is idle time.
const GAP: Duration = MS;
const GAP_PIECE: Duration = Duration::from_micros(50);
/// Before a place is judged: the move takes time.
const SETTLE: Duration = Duration::from_micros(300);
const SETTLE_TURNS: u32 = 4;
/// What a place is judged by: so long,
const LEG: Duration = MS;
/// longer where others do something, too: who of many gets a CPU changes every few milliseconds,
const LEG_AMONG_OTHERS: Duration = Duration::from_millis(4);
/// so much work,
const LEAST: u64 = 16;
/// and so many turns with work: one of large requests may be longer than all of that.
const TURNS: u32 = 8;
/// As soon as the other place has brought less than this part of what the first would have, it has
/// lost,
const HOPELESS: f64 = 0.6;
/// once that is so many times `LEAST`, and a quarter of `LEG` is over: anybody stalls for a moment.
const CLEAR: f64 = 2.0;
/// A load that changes by itself by more than such a factor proves nothing.
const STEADY: f64 = 1.3;
/// How much better it must be elsewhere, and how often in a row. Back beside it needs be no worse,
/// and once is enough unless only others gain.
const WORTH: f64 = 1.1;
const WINS: u32 = 2;
/// Who runs for less than this part of the time could bring a quarter more elsewhere, at most,
const LAZY: f64 = 0.2;
/// and waits for his CPU no longer than this each time, as behind those whom he serves.
const BEHIND: Duration = Duration::from_micros(100);
/// From one comparison to the next, at first and at most.
const PAUSE: Duration = Duration::from_millis(8);
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// So many times as long as the last one took, at least, unless the other place has won.
const SPARE: u32 = 8;
/// The same at most once the rate has changed by such a factor, from one window to those before.
const PAUSE_CHANGED: Duration = Duration::from_millis(32);
const CHANGED: f64 = 1.5;
const WINDOW: Duration = Duration::from_millis(4);

/// What was done in a turn, and by whom.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Work {
    pub(crate) own: u64,
    /// What others have done ever, who may be kept from it by who comes to where they are.
    pub(crate) others: u64,
}

/// Work and the time that it took.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    work: u64,
    time: Duration,
    turns: u32,
}

impl Tally {
    fn add(&mut self, work: u64, time: Duration) {
        self.work += work;
        self.time += time;
        self.turns += u32::from(work > 0);
    }

    fn holds(&self, time: Duration, turns: u32) -> bool {
        self.time >= time && self.turns >= turns
    }

    fn is_enough(&self, time: Duration) -> bool {
        self.holds(time, TURNS) && self.work >= LEAST
    }

    /// Per second.
    fn rate(&self) -> f64 {
        self.work as f64 / self.time.as_secs_f64()
    }
}

/// A part of a comparison.
#[derive(Clone, Copy, Debug, Default)]
struct Leg {
    own: Tally,
    others: u64,
}

impl Leg {
    fn add(&mut self, own: u64, others: u64, time: Duration) {
        self.own.add(own, time);
        self.others += others;
    }

    /// What others did per second, and how much that differs from time to time.
    fn others(&self) -> (f64, f64) {
        let (count, time) = (self.others as f64, self.own.time.as_secs_f64());
        (count / time, count.sqrt() / time)
    }
}

/// How many times as much another place brings.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Gain {
    own: f64,
    /// The same with what others do more or less meanwhile.
    all: f64,
}

/// A comparison that is under way: what the place in use has brought before, the other, and the
/// first again, the last of them unfinished.
#[derive(Debug, Default)]
struct Comparison {
    legs: [Leg; 3],
    at: usize,
    settled: Tally,
    took: Duration,
    /// What others had done ever at the last turn.
    others: Option<u64>,
}

impl Comparison {
    fn is_at_other(&self) -> bool {
        self.at == 1
    }

    /// What the other place brings, once that is known; nothing if it cannot be told. With `early`
    /// as soon as it has lost by what it brings itself.
    fn turned(&mut self, work: Work, time: Duration, early: bool) -> Option<Option<Gain>> {
        let others = work.others - self.others.replace(work.others)?;
        self.took += time;
        if self.at > 0 && !self.settled.holds(SETTLE, SETTLE_TURNS) {
            self.settled.add(work.own, time);
            return None;
        }
        let [before, ..] = self.legs;
        let leg = &mut self.legs[self.at];
        leg.add(work.own, others, time);
        let length = if leg.others > 0 { LEG_AMONG_OTHERS } else { LEG };
        if early && self.at == 1 && leg.own.holds(length / 4, TURNS) {
            let hoped = before.own.rate() * leg.own.time.as_secs_f64();
            let own = leg.own.work as f64 / hoped;
            if hoped >= CLEAR * LEAST as f64 && own < HOPELESS {
                return Some(Some(Gain { own, all: own }));
            }
        }
        if !leg.own.is_enough(length) {
            return None;
        }
        (self.at, self.settled) = (self.at + 1, Tally::default());
        (self.at == self.legs.len()).then(|| self.gain())
    }

    fn gain(&self) -> Option<Gain> {
        let [before, other, after] = self.legs.map(|leg| leg.own.rate());
        let (least, most) = (before.min(after), before.max(after));
        if most > STEADY * least {
            return None;
        }
        let [(before, spread), (others, _), (after, spread_after)] =
            self.legs.map(|leg| leg.others());
        // What they do more or less by themselves is nobody's gain.
        let (low, high) = (before - spread, before + spread);
        let usual = others.clamp(low.min(after - spread_after), high.max(after + spread_after));
        // Where the load itself has changed meanwhile it has to be better than both.
        Some(Gain { own: other / most, all: (other + others - usual) / most })
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Scales {
    best: Side,
    comparison: Option<Comparison>,
    /// Comparisons in a row that the other place has won.
    wins: u32,
    pause: Duration,
    spare: Duration,
    /// Until the next comparison.
    left: Duration,
    window: Tally,
    /// Of the window before.
    rate: Option<f64>,
    /// What had been counted of the thread when the window began, if that can be told.
    began: Option<Option<Scheduled>>,
    /// Whether it was hardly busy in the window before.
    lazy: bool,
    last: Option<Instant>,
}

impl Default for Scales {
    fn default() -> Self {
        Self {
            best: Side::Beside,
            comparison: None,
            wins: 0,
            pause: PAUSE,
            spare: Duration::ZERO,
            left: PAUSE,
            window: Tally::default(),
            rate: None,
            began: None,
            lazy: false,
            last: None,
        }
    }
}

impl Scales {
    /// A load begins, where that of before has ended: perhaps within a comparison.
    pub(crate) fn begin(&mut self) {
        if self.comparison.take().is_some() {
            self.left = self.pause;
        }
        (self.last, self.wins) = (None, 0);
        self.looks_anew();
    }

    fn looks_anew(&mut self) {
        (self.window, self.rate) = (Tally::default(), None);
        (self.began, self.lazy) = (None, false);
    }

    /// So much was done since the last time. Tells whether that has ended a comparison, or spared
    /// one. `counted` tells what the kernel has counted of the thread, where that limits what it
    /// does.
    pub(crate) fn turned(
        &mut self,
        work: Work,
        now: Instant,
        counted: impl Fn() -> Option<Scheduled>,
    ) -> bool {
        let last = self.last.replace(now).unwrap_or(now);
        let pieces = u32::try_from(work.own).unwrap_or(u32::MAX);
        let longest = GAP.max(GAP_PIECE.saturating_mul(pieces));
        let time = now.saturating_duration_since(last).min(longest);
        if let Some(comparison) = &mut self.comparison {
            let early = self.best == Side::Beside;
            let Some(gain) = comparison.turned(work, time, early) else { return false };
            let took = comparison.took;
            self.weighed(gain, took);
            return true;
        }
        let began = *self.began.get_or_insert_with(&counted);
        self.window.add(work.own, time);
        if self.window.is_enough(WINDOW) {
            let ends = counted();
            self.lazy = began.zip(ends).is_some_and(|(began, ends)| {
                let since = ends.since(began);
                let part = since.ran.as_secs_f64() / self.window.time.as_secs_f64();
                part < LAZY && since.delay() < BEHIND
            });
            self.began = Some(ends);
            let rate = std::mem::take(&mut self.window).rate();
            let factor = self.rate.replace(rate).map_or(1.0, |before| rate / before);
            if !(1.0 / CHANGED..=CHANGED).contains(&factor) {
                self.pause = self.pause.min(PAUSE_CHANGED);
                self.left = self.left.min(PAUSE_CHANGED.max(self.spare));
            }
        }
        self.left = self.left.saturating_sub(time);
        if self.lazy && self.best == Side::Beside && self.left.is_zero() {
            self.left = self.pause;
            return true;
        }
        // Not before it is known whether it is lazy.
        if self.left.is_zero() && self.rate.is_some() {
            self.comparison = Some(Comparison::default());
        }
        false
    }

    fn weighed(&mut self, gain: Option<Gain>, took: Duration) {
        self.comparison = None;
        let (other, won, certain) = match self.best {
            // Not by what others lose: who comes to where they are takes their time.
            Side::Beside => {
                let won = gain.map(|gain| gain.own.min(gain.all) >= WORTH);
                (Side::Elsewhere, won, false)
            }
            Side::Elsewhere => {
                let won = gain.map(|gain| gain.own >= 1.0 || gain.all >= WORTH);
                (Side::Beside, won, gain.is_some_and(|gain| gain.own >= 1.0))
            }
        };
        match won {
            None => {}
            Some(false) => (self.wins, self.pause) = (0, (self.pause * 2).min(PAUSE_MAX)),
            Some(true) => {
                (self.wins, self.pause) = (self.wins + 1, PAUSE);
                if certain || self.wins >= WINS {
                    (self.best, self.wins) = (other, 0);
                }
            }
        }
        self.spare = match won {
            Some(true) => Duration::ZERO,
            _ => (took * SPARE).min(PAUSE_MAX),
        };
        self.left = self.pause.max(self.spare);
        self.looks_anew();
    }

    /// Whether two places are being compared, so that what others do is of interest.
    pub(crate) fn is_comparing(&self) -> bool {
        self.comparison.is_some()
    }

    /// Where to be now.
    pub(crate) fn side(&self) -> Side {
        let at_other = self.comparison.as_ref().is_some_and(Comparison::is_at_other);
        match (self.best, at_other) {
            (Side::Beside, false) | (Side::Elsewhere, true) => Side::Beside,
            (Side::Elsewhere, false) | (Side::Beside, true) => Side::Elsewhere,
        }
    }
}

#[cfg(test)]
mod tests;
