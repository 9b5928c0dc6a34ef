//! Which of two places serves more, found by being in both in turn.
//!
//! Now and then, while one place is used, the other is tried for a millisecond, between two looks
//! at the first. The more often that has told the same, the longer until the next time; sooner when
//! the rate has changed much, as the load may be of another kind. Time in which nothing happens
//! hardly counts: who calls seldom is served alike anywhere.
//!
//! Never known here: the places. Neighbour: `callers`, whose two they are.

use std::time::{Duration, Instant};

/// Where to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// Better if both are equal, as it takes less.
    Beside,
    Elsewhere,
}

const MS: Duration = Duration::from_millis(1);
/// A step at most: what is beyond is idle time.
const GAP: Duration = MS;
/// Before a place is judged: the move takes time.
const SETTLE: Duration = Duration::from_micros(300);
/// What a place is judged by: so long,
const LEG: Duration = MS;
/// and so much work.
const LEAST: u64 = 16;
/// As soon as the other place has brought less than this part of what the first would have, it has
/// lost,
const HOPELESS: f64 = 0.6;
/// once that is so many times `LEAST`.
const CLEAR: f64 = 2.0;
/// How much better it must be elsewhere.
const WORTH: f64 = 1.1;
/// From one comparison to the next, at first and at most.
const PAUSE: Duration = Duration::from_millis(16);
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// The same at most once the rate has changed by such a factor, from one window to those before.
const PAUSE_CHANGED: Duration = Duration::from_millis(32);
const CHANGED: f64 = 1.5;
const WINDOW: Duration = Duration::from_millis(4);

/// Work and the time that it took.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    work: u64,
    time: Duration,
}

impl Tally {
    fn add(&mut self, work: u64, time: Duration) {
        self.work += work;
        self.time += time;
    }

    fn holds(&self, time: Duration) -> bool {
        self.time >= time && self.work >= LEAST
    }

    /// Per second.
    fn rate(&self) -> f64 {
        self.work as f64 / self.time.as_secs_f64()
    }
}

/// A comparison that is under way: what the place in use has brought before, the other, and the
/// first again, the last of them unfinished.
#[derive(Debug, Default)]
struct Comparison {
    legs: [Tally; 3],
    at: usize,
    settled: Duration,
}

impl Comparison {
    fn is_at_other(&self) -> bool {
        self.at == 1
    }

    /// How many times as much the other place brings, once that is known.
    fn turned(&mut self, work: u64, time: Duration) -> Option<f64> {
        if self.at > 0 && self.settled < SETTLE {
            self.settled += time;
            return None;
        }
        let [before, ..] = self.legs;
        let leg = &mut self.legs[self.at];
        leg.add(work, time);
        if self.at == 1 {
            let hoped = before.rate() * leg.time.as_secs_f64();
            if hoped >= CLEAR * LEAST as f64 && (leg.work as f64) < HOPELESS * hoped {
                return Some(leg.work as f64 / hoped);
            }
        }
        if !leg.holds(LEG) {
            return None;
        }
        (self.at, self.settled) = (self.at + 1, Duration::ZERO);
        let [before, other, after] = self.legs.map(|leg| leg.rate());
        // Where the load itself has changed meanwhile it has to be better than both.
        (self.at == self.legs.len()).then(|| other / before.max(after))
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Scales {
    best: Side,
    comparison: Option<Comparison>,
    pause: Duration,
    /// Until the next comparison.
    left: Duration,
    window: Tally,
    /// Of the window before.
    rate: Option<f64>,
    last: Option<Instant>,
}

impl Default for Scales {
    fn default() -> Self {
        Self {
            best: Side::Beside,
            comparison: None,
            pause: PAUSE,
            left: PAUSE,
            window: Tally::default(),
            rate: None,
            last: None,
        }
    }
}

impl Scales {
    /// A load begins, where that of before has ended: perhaps within a comparison.
    pub(crate) fn begin(&mut self) {
        (self.comparison, self.last) = (None, None);
        (self.window, self.rate) = (Tally::default(), None);
    }

    /// So much was done since the last time. Tells whether that has ended a comparison.
    pub(crate) fn turned(&mut self, work: u64, now: Instant) -> bool {
        let last = self.last.replace(now).unwrap_or(now);
        let time = now.saturating_duration_since(last).min(GAP);
        if let Some(comparison) = &mut self.comparison {
            let Some(gain) = comparison.turned(work, time) else { return false };
            self.weighed(gain);
            return true;
        }
        self.window.add(work, time);
        if self.window.holds(WINDOW) {
            let rate = std::mem::take(&mut self.window).rate();
            let factor = self.rate.replace(rate).map_or(1.0, |before| rate / before);
            if !(1.0 / CHANGED..=CHANGED).contains(&factor) {
                self.pause = self.pause.min(PAUSE_CHANGED);
                self.left = self.left.min(PAUSE_CHANGED);
            }
        }
        self.left = self.left.saturating_sub(time);
        if self.left.is_zero() {
            self.comparison = Some(Comparison::default());
        }
        false
    }

    fn weighed(&mut self, gain: f64) {
        self.comparison = None;
        let (other, worth) = match self.best {
            Side::Beside => (Side::Elsewhere, WORTH),
            Side::Elsewhere => (Side::Beside, 1.0),
        };
        if gain >= worth {
            (self.best, self.pause) = (other, PAUSE);
        } else {
            self.pause = (self.pause * 2).min(PAUSE_MAX);
        }
        self.left = self.pause;
        (self.window, self.rate) = (Tally::default(), None);
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
mod tests {
    use super::*;

    /// A load, in turns of so many microseconds.
    struct Load {
        now: Instant,
        scales: Scales,
        step: u64,
    }

    impl Load {
        fn new() -> Self {
            Self { now: Instant::now(), scales: Scales::default(), step: 50 }
        }

        /// With so much a second at either side. Tells how long it was there, in microseconds.
        fn runs(&mut self, ms: u64, beside: u64, elsewhere: u64) -> [u64; 2] {
            let (mut times, mut owed) = ([0; 2], 0);
            for _ in 0..ms * 1000 / self.step {
                let (at, rate) = match self.scales.side() {
                    Side::Beside => (0, beside),
                    Side::Elsewhere => (1, elsewhere),
                };
                times[at] += self.step;
                owed += rate * self.step;
                self.now += Duration::from_micros(self.step);
                self.scales.turned(owed / 1_000_000, self.now);
                owed %= 1_000_000;
            }
            times
        }
    }

    #[test]
    fn the_better_side_is_found_soon_and_used_nearly_always() {
        let mut load = Load::new();
        let [_, elsewhere] = load.runs(16, 100_000, 150_000);
        assert_eq!(elsewhere, 0);
        load.runs(4, 100_000, 150_000);
        let [beside, _] = load.runs(1000, 100_000, 150_000);
        assert!(beside < 15_000, "{beside}");
        // And the other way round, once it has changed.
        load.runs(1100, 150_000, 100_000);
        let [_, elsewhere] = load.runs(1000, 150_000, 100_000);
        assert!(elsewhere < 15_000, "{elsewhere}");
    }

    #[test]
    fn a_load_that_begins_finds_no_comparison() {
        let mut load = Load::new();
        load.runs(18, 100_000, 100_000);
        assert!(load.scales.comparison.is_some());
        load.scales.begin();
        assert!(load.scales.comparison.is_none());
        assert_eq!(load.scales.side(), Side::Beside);
    }

    #[test]
    fn what_is_much_worse_is_left_before_it_costs() {
        let mut load = Load::new();
        let [_, elsewhere] = load.runs(40, 120_000, 40_000);
        assert!((300..1000).contains(&elsewhere), "{elsewhere}");
        let [_, elsewhere] = load.runs(1000, 120_000, 40_000);
        assert!((300..5000).contains(&elsewhere), "{elsewhere}");
    }

    #[test]
    fn equal_is_beside_and_hardly_better_too() {
        for elsewhere in [100_000, 105_000] {
            let mut load = Load::new();
            load.runs(2000, 100_000, elsewhere);
            assert_eq!(load.scales.best, Side::Beside);
            assert!(load.scales.pause > PAUSE * 8);
        }
        let mut load = Load::new();
        load.scales.best = Side::Elsewhere;
        load.runs(50, 100_000, 100_000);
        assert_eq!(load.scales.best, Side::Beside);
    }

    #[test]
    fn a_load_of_another_kind_is_compared_soon() {
        let mut load = Load::new();
        load.runs(3000, 100_000, 30_000);
        assert_eq!(load.scales.pause, PAUSE_MAX);
        load.runs(60, 200_000, 300_000);
        assert_eq!(load.scales.best, Side::Elsewhere);
    }

    #[test]
    fn a_load_that_changes_by_itself_proves_nothing() {
        let mut load = Load::new();
        load.runs(17, 100_000, 100_000);
        let comparing = |load: &Load, leg| {
            load.scales.comparison.as_ref().is_some_and(|comparison| comparison.at == leg)
        };
        assert!(comparing(&load, 0));
        while !comparing(&load, 1) {
            load.runs(1, 100_000, 100_000);
        }
        // Whatever comes now is three times as much, also at the first side.
        load.runs(10, 300_000, 300_000);
        assert!(load.scales.comparison.is_none());
        assert_eq!(load.scales.best, Side::Beside);
    }

    #[test]
    fn who_calls_seldom_is_served_alike_anywhere() {
        let mut load = Load::new();
        let mut moves = 0;
        for _ in 0..1000 {
            let before = load.scales.side();
            load.now += Duration::from_millis(20);
            load.scales.turned(1, load.now);
            moves += u32::from(load.scales.side() != before);
        }
        assert_eq!(load.scales.best, Side::Beside);
        assert!(moves < 20, "{moves}");
    }
}
