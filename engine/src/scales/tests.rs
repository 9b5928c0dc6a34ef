use super::*;

fn work(own: u64) -> Work {
    Work { own, others: 0 }
}

/// Where what the thread does is not what limits the load.
fn always() -> Option<Scheduled> {
    None
}

/// A load, in turns of so many microseconds.
struct Load {
    now: Instant,
    scales: Scales,
    step: u64,
    /// Of a thousand, how much of the time the thread runs, and for how long it waits before.
    share: u64,
    delay: Duration,
    counted: Scheduled,
}

impl Load {
    fn new() -> Self {
        Self {
            now: Instant::now(),
            scales: Scales::default(),
            step: 50,
            share: 1000,
            delay: Duration::ZERO,
            counted: Scheduled::default(),
        }
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
            self.counted.ran += Duration::from_nanos(self.step * self.share);
            if at == 0 {
                self.counted.waited += self.delay;
            }
            self.counted.times += 1;
            let counted = self.counted;
            self.scales.turned(work(owed / 1_000_000), self.now, || Some(counted));
            owed %= 1_000_000;
        }
        times
    }
}

#[test]
fn the_better_side_is_found_soon_and_used_nearly_always() {
    let mut load = Load::new();
    let [_, elsewhere] = load.runs(8, 100_000, 150_000);
    assert_eq!(elsewhere, 0);
    load.runs(20, 100_000, 150_000);
    assert_eq!(load.scales.best, Side::Elsewhere);
    let [beside, _] = load.runs(1000, 100_000, 150_000);
    assert!(beside < 15_000, "{beside}");
    // And the other way round, once it has changed.
    load.runs(1100, 150_000, 100_000);
    let [_, elsewhere] = load.runs(1000, 150_000, 100_000);
    assert!(elsewhere < 15_000, "{elsewhere}");
}

/// Others, on the CPUs that are not those of the callers, lose by who comes there.
#[test]
fn what_others_lose_is_no_gain() {
    let serve = |gains: u64, lose: u64| {
        let mut load = Load::new();
        let mut others = 0;
        for _ in 0..10_000 {
            // In turns of other lengths.
            let (own, theirs, parts) = match load.scales.side() {
                Side::Beside => (20, 80, 4),
                Side::Elsewhere => (20 + gains, 80 - lose, 1),
            };
            for _ in 0..parts {
                others += theirs / parts;
                load.now += MS / 5 / u32::try_from(parts).unwrap();
                load.scales.turned(Work { own: own / parts, others }, load.now, always);
            }
        }
        load.scales.best
    };
    assert_eq!(serve(8, 0), Side::Elsewhere);
    assert_eq!(serve(8, 8), Side::Elsewhere);
    assert_eq!(serve(8, 16), Side::Beside);
}

#[test]
fn who_costs_others_more_than_it_is_worth_comes_back() {
    let mut scales = Scales { best: Side::Elsewhere, ..Scales::default() };
    scales.weighed(Some(Gain { own: 0.9, all: 1.05 }), MS);
    assert_eq!(scales.best, Side::Elsewhere);
    let others_gain = Some(Gain { own: 0.5, all: 1.2 });
    scales.weighed(others_gain, MS);
    assert_eq!(scales.best, Side::Elsewhere, "not by chance");
    scales.weighed(others_gain, MS);
    assert_eq!(scales.best, Side::Beside);
}

#[test]
fn who_gains_what_others_lose_stays() {
    let mut scales = Scales::default();
    for _ in 0..10 {
        scales.weighed(Some(Gain { own: 1.4, all: 1.05 }), MS);
    }
    assert_eq!((scales.best, scales.wins), (Side::Beside, 0));
}

#[test]
fn others_who_do_more_or_less_by_themselves_do_not_count() {
    let leg = |own, others| Leg { own: Tally { work: own, time: MS, turns: 9 }, others };
    let gain = |legs| Comparison { legs, ..Comparison::default() }.gain();
    let same = Some(Gain { own: 1.2, all: 1.2 });
    assert_eq!(gain([leg(100, 900), leg(120, 700), leg(100, 500)]), same);
    assert_eq!(gain([leg(100, 900), leg(120, 400), leg(100, 400)]), same);
    assert_eq!(gain([leg(100, 400), leg(120, 381), leg(100, 400)]), same, "as ever");
    let less = Some(Gain { own: 1.2, all: 0.4 });
    assert_eq!(gain([leg(100, 900), leg(120, 300), leg(100, 400)]), less);
    assert_eq!(gain([leg(100, 0), leg(300, 0), leg(140, 0)]), None, "what does it prove?");
}

#[test]
fn one_comparison_that_is_won_moves_nobody_away_and_one_brings_him_back() {
    let mut scales = Scales::default();
    let (won, lost) = (Gain { own: 1.3, all: 1.3 }, Gain { own: 0.9, all: 0.9 });
    for gain in [won, lost, won] {
        scales.weighed(Some(gain), MS);
        assert_eq!(scales.best, Side::Beside);
    }
    scales.weighed(None, MS);
    assert_eq!((scales.best, scales.wins), (Side::Beside, 1), "that told nothing");
    scales.weighed(Some(won), MS);
    assert_eq!(scales.best, Side::Elsewhere);
    scales.weighed(Some(lost), MS);
    assert_eq!(scales.best, Side::Elsewhere);
    scales.weighed(Some(won), MS);
    assert_eq!(scales.best, Side::Beside);
}

/// Sixteen requests of 1 MiB each time, in 5 ms or in 4.
#[test]
fn turns_of_much_work_are_compared_by_several_of_them_and_seldom() {
    let mut scales = Scales::default();
    let (mut now, mut times) = (Instant::now(), [Duration::ZERO; 2]);
    while times[0] + times[1] < Duration::from_secs(10) {
        let (at, time) = match scales.side() {
            Side::Beside => (0, 4 * MS),
            Side::Elsewhere => (1, 5 * MS),
        };
        times[at] += time;
        // Whatever is done in a part of it without work.
        scales.turned(work(0), now + time / 2, always);
        now += time;
        scales.turned(work(16 * 33), now, always);
        let turns = scales.comparison.as_ref().map_or(0, |one| one.legs[one.at].own.turns);
        assert!(turns < TURNS);
    }
    assert_eq!(scales.best, Side::Beside);
    assert!(times[1] * 16 < times[0], "{times:?}");
}

#[test]
fn a_load_that_begins_finds_no_comparison() {
    let mut load = Load::new();
    load.runs(10, 100_000, 100_000);
    assert!(load.scales.comparison.is_some());
    load.scales.begin();
    assert!(load.scales.comparison.is_none());
    assert_eq!(load.scales.side(), Side::Beside);
}

#[test]
fn what_is_much_worse_is_left_before_it_costs() {
    let mut load = Load::new();
    let [_, elsewhere] = load.runs(40, 120_000, 40_000);
    assert!((300..2000).contains(&elsewhere), "{elsewhere}");
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
    load.runs(9, 100_000, 100_000);
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
        load.scales.turned(work(1), load.now, always);
        moves += u32::from(load.scales.side() != before);
    }
    assert_eq!(load.scales.best, Side::Beside);
    assert!(moves < 20, "{moves}");
}

#[test]
fn who_hardly_runs_stays_beside() {
    let mut load = Load { share: 100, ..Load::new() };
    let [_, elsewhere] = load.runs(100, 20_000, 30_000);
    assert_eq!(elsewhere, 0);
    load.share = 500;
    load.runs(100, 20_000, 30_000);
    assert_eq!(load.scales.best, Side::Elsewhere);
    load.share = 100;
    load.runs(100, 20_000, 20_000);
    assert_eq!(load.scales.best, Side::Beside);
}

/// As beside somebody who computes; elsewhere nobody waits, and runs for little of the time.
#[test]
fn who_is_kept_from_his_cpu_moves_and_stays_away() {
    let mut load = Load { share: 10, delay: BEHIND * 2, step: 300, ..Load::new() };
    load.runs(200, 2_000, 20_000);
    assert_eq!(load.scales.best, Side::Elsewhere);
    let [beside, elsewhere] = load.runs(1000, 2_000, 20_000);
    assert!(beside * 10 < elsewhere, "{beside} {elsewhere}");
}
