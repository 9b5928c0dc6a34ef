//! How cost grows, and how well a model foresees it: the first place of a curve, or the first and
//! the last, make the model, and the others say how far it is off.
//!
//! A model has two constants at most, so that it can be carried to another machine by hand. Which
//! form it has follows from what the curve goes against (`Axis`).

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::matrix::Figure;
use crate::results::{Measure, RowResult, Run};
use crate::table::{is_ours, middle, short};

/// What a curve goes against: the word behind "against" in its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Axis {
    /// Requests in flight: `time = shared + (alone - shared) / n` for each.
    InFlight,
    /// Bytes of a request: `time = fixed + n * per byte`.
    Size,
    /// Shards: each has a CPU, and clients take the rest. Made of the CPU times at the first place,
    /// so that its own rate, too, is foreseen.
    Shards,
    /// What is there besides: nothing changes but memory.
    Beside,
}

impl Axis {
    fn of(curve: &str) -> Option<Self> {
        let (_, against) = curve.split_once(" against ")?;
        match against {
            "depth" | "clients" => Some(Self::InFlight),
            "size in KiB" => Some(Self::Size),
            "shards" => Some(Self::Shards),
            "files" | "mounts" => Some(Self::Beside),
            _ => None,
        }
    }
}

/// `first + second * x`, through two places.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Line {
    first: f64,
    second: f64,
}

impl Line {
    fn through((x0, y0): (f64, f64), (x1, y1): (f64, f64)) -> Self {
        let second = (y1 - y0) / (x1 - x0);
        Self { first: y0 - second * x0, second }
    }

    fn at(self, x: f64) -> f64 {
        self.first + self.second * x
    }
}

/// A place of a curve.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Place {
    /// Where.
    pub at: u64,
    /// What was measured: the median.
    pub measured: f64,
    /// What the model says.
    pub foreseen: f64,
    /// Whether the model was made of it.
    pub given: bool,
}

impl Place {
    /// By how much the model is off.
    #[must_use]
    pub fn error(&self) -> f64 {
        self.foreseen / self.measured - 1.0
    }
}

/// A curve of one of ours and the model of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Model {
    /// `memory: 4 KiB random reads against depth`.
    pub curve: String,
    /// Which of ours.
    pub name: String,
    /// The model with its constants.
    pub law: String,
    /// In order.
    pub places: Vec<Place>,
}

impl Model {
    /// The largest error where the model was not given what was measured.
    #[must_use]
    pub fn worst(&self) -> Option<f64> {
        let foreseen = self.places.iter().filter(|place| !place.given);
        foreseen.map(|place| place.error().abs()).max_by(f64::total_cmp)
    }
}

/// A place of a curve as it was measured, all by operation.
#[derive(Clone, Copy)]
struct Point {
    at: u64,
    x: f64,
    /// Seconds.
    time: f64,
    daemon_cpu: f64,
    machine_cpu: f64,
    resident: Option<f64>,
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn point(at: u64, row: &RowResult, name: &str) -> Option<Point> {
    let each = |value: fn(&Measure) -> Option<f64>| {
        middle(row, name, |one| {
            Some(value(one)? / (one.operations > 0).then_some(one.operations)? as f64)
        })
    };
    Some(Point {
        at,
        x: at as f64,
        time: each(|one| Some(one.seconds))?,
        daemon_cpu: each(|one| one.daemon_cpu)?,
        machine_cpu: each(|one| Some(one.machine_cpu))?,
        resident: middle(row, name, |one| Some(one.resident? as f64)),
    })
}

fn micros(seconds: f64) -> String {
    format!("{:.1} us", seconds * 1e6)
}

/// Operations in a second.
#[expect(clippy::cast_precision_loss, reason = "a count of CPUs")]
fn rates(points: &[Point], axis: Axis, cpus: usize) -> (String, Vec<Place>) {
    let (first, last, cpus) = (points[0], points[points.len() - 1], cpus as f64);
    let place = |point: &Point, time: f64, given: bool| Place {
        at: point.at,
        measured: 1.0 / point.time,
        foreseen: 1.0 / time,
        given,
    };
    let ends = |point: &Point| point.at == first.at || point.at == last.at;
    match axis {
        Axis::InFlight => {
            let line = Line::through((1.0 / first.x, first.time), (1.0 / last.x, last.time));
            let (alone, shared) = (micros(line.at(1.0)), micros(line.first));
            let law = format!("{shared} each at best, {alone} alone");
            let places = points.iter().map(|one| place(one, line.at(1.0 / one.x), ends(one)));
            (law, places.collect())
        }
        Axis::Size => {
            let line = Line::through((first.x, first.time), (last.x, last.time));
            let rate = 1.0 / line.second / f64::from(1 << 20);
            let law = format!("{} and {rate:.2} GiB/s", micros(line.first));
            let places = points.iter().map(|one| place(one, line.at(one.x), ends(one)));
            (law, places.collect())
        }
        Axis::Shards => {
            let time =
                |shards: f64| (first.daemon_cpu / shards.min(cpus)).max(first.machine_cpu / cpus);
            let law = format!(
                "{} of daemon's CPU, {} of all CPU",
                micros(first.daemon_cpu),
                micros(first.machine_cpu)
            );
            (law, points.iter().map(|one| place(one, time(one.x), false)).collect())
        }
        Axis::Beside => {
            let law = format!("{} whatever there is", micros(first.time));
            let places = points.iter().map(|one| place(one, first.time, one.at == first.at));
            (law, places.collect())
        }
    }
}

fn memory(points: &[Point]) -> Option<(String, Vec<Place>)> {
    let known: Vec<(Point, f64)> =
        points.iter().filter_map(|point| Some((*point, point.resident?))).collect();
    let ((first, least), (last, most)) = (*known.first()?, *known.last()?);
    let line = Line::through((first.x, least), (last.x, most));
    let law =
        format!("{:.1} MiB and {:.0} bytes each", line.first / f64::from(1 << 20), line.second);
    let place = |(point, resident): &(Point, f64)| Place {
        at: point.at,
        measured: *resident,
        foreseen: line.at(point.x),
        given: point.at == first.at || point.at == last.at,
    };
    Some((law, known.iter().map(place).collect()))
}

/// The models of all curves of ours with three places at least.
#[must_use]
pub fn models(run: &Run) -> Vec<Model> {
    let mut curves: BTreeMap<(&str, &str), Vec<(u64, &RowResult)>> = BTreeMap::new();
    for row in run.rows.iter().filter(|row| row.figure != Figure::Latency) {
        if let Some((curve, place)) = &row.curve {
            curves.entry((row.group.name(), curve)).or_default().push((*place, row));
        }
    }
    let mut found = Vec::new();
    for ((group, curve), mut rows) in curves {
        rows.sort_by_key(|(place, _)| *place);
        let Some(axis) = Axis::of(curve) else { continue };
        for name in run.names().filter(|name| is_ours(name)) {
            let points = rows.iter().filter_map(|(at, row)| point(*at, row, name));
            let points: Vec<Point> = points.collect();
            if points.len() < 3 {
                continue;
            }
            let mut add = |what: &str, (law, places)| {
                let curve = format!("{group}: {what}{curve}");
                found.push(Model { curve, name: name.to_owned(), law, places });
            };
            add("", rates(&points, axis, run.machine.cpus));
            if axis == Axis::Beside
                && let Some(memory) = memory(&points)
            {
                add("memory of all daemons, ", memory);
            }
        }
    }
    found
}

/// As a table; figures are operations per second, or bytes.
#[must_use]
pub fn text(run: &Run) -> String {
    let mut text = String::from(
        "place: measured, foreseen (error); a place without an error was given to the model, and \
         of shards the CPU times at the first\n",
    );
    for model in models(run) {
        let worst = model
            .worst()
            .map_or_else(String::new, |worst| format!(", off by {:.0} % at most", worst * 100.0));
        let _ = writeln!(text, "\n{}, {}: {}{worst}", model.curve, model.name, model.law);
        for place in &model.places {
            let _ = write!(text, "  {}: {}", place.at, short(place.measured));
            if !place.given {
                let (foreseen, error) = (short(place.foreseen), place.error() * 100.0);
                let _ = write!(text, ", {foreseen} ({error:+.0} %)");
            }
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::tests::sample;

    /// A run in which each place of a curve took so many seconds for 1000 operations.
    fn curve(name: &str, places: &[(u64, f64)]) -> Run {
        let mut run = sample();
        let row = run.rows.remove(0);
        for (at, seconds) in places {
            let mut row = row.clone();
            row.curve = Some((name.to_owned(), *at));
            for measure in row.rounds.values_mut().flatten() {
                measure.operations = 1000;
                measure.seconds = *seconds;
                measure.daemon_cpu = Some(0.5);
                measure.machine_cpu = 1.0;
                measure.resident = Some(1000 + 8 * at);
            }
            run.rows.push(row);
        }
        run
    }

    fn of_uring(run: &Run) -> Vec<Model> {
        let models = models(run);
        assert!(models.iter().all(|model| is_ours(&model.name)));
        models.into_iter().filter(|model| model.name == "fusewire-uring").collect()
    }

    #[test]
    fn what_follows_the_law_is_foreseen_and_what_does_not_shows() {
        let time = |depth: f64| 0.01 + 0.09 / depth;
        let run = curve("reads against depth", &[(1, time(1.0)), (4, time(4.0)), (32, time(32.0))]);
        let model = &of_uring(&run)[0];
        assert_eq!(model.law, "10.0 us each at best, 100.0 us alone");
        assert!(model.worst().unwrap() < 1e-9, "{model:?}");
        assert_eq!(model.places.iter().filter(|place| place.given).count(), 2);
        let run = curve("reads against depth", &[(1, 0.1), (4, 0.1), (32, 0.0128125)]);
        let worst = of_uring(&run)[0].worst().unwrap();
        assert!((worst - (0.1 / time(4.0) - 1.0)).abs() < 1e-9, "{worst}");
    }

    #[test]
    fn sizes_have_a_fixed_part_and_a_rate() {
        let run = curve("writes against size in KiB", &[(4, 0.014), (64, 0.074), (1024, 1.034)]);
        let model = &of_uring(&run)[0];
        assert_eq!(model.law, "10.0 us and 0.95 GiB/s");
        assert!(model.worst().unwrap() < 1e-9, "{model:?}");
    }

    #[test]
    fn shards_have_a_cpu_each_until_all_are_taken() {
        // Half of the CPU time is the clients'.
        let mut run = curve("reads against shards", &[(1, 0.6), (2, 0.5), (4, 0.5)]);
        run.machine.cpus = 2;
        let foreseen: Vec<f64> =
            of_uring(&run)[0].places.iter().map(|place| place.foreseen.round()).collect();
        assert_eq!(foreseen, [2000.0, 2000.0, 2000.0]);
        run.machine.cpus = 128;
        let foreseen: Vec<f64> =
            of_uring(&run)[0].places.iter().map(|place| place.foreseen.round()).collect();
        assert_eq!(foreseen, [2000.0, 4000.0, 8000.0]);
    }

    #[test]
    fn memory_grows_by_what_each_has() {
        let run = curve("LOOKUP against files", &[(100, 0.1), (1000, 0.1), (10000, 0.2)]);
        let models = of_uring(&run);
        assert_eq!(models[1].law, "0.0 MiB and 8 bytes each");
        assert!(models[1].worst().unwrap() < 1e-9);
        assert!((models[0].worst().unwrap() - 1.0).abs() < 1e-9, "slower at 10000");
        let text = text(&run);
        assert!(text.contains("10000: 5.00k, 10.0k (+100 %)"), "{text}");
    }

    #[test]
    fn every_curve_of_the_matrix_has_a_law() {
        let rows = crate::matrix::rows(&crate::matrix::QUICK);
        let curves: Vec<&str> = rows.iter().filter_map(|row| Some(row.curve?.0)).collect();
        assert!(curves.len() > 20);
        for curve in curves {
            assert!(Axis::of(curve).is_some(), "{curve}");
        }
    }

    #[test]
    fn two_places_say_nothing_about_a_model() {
        assert!(of_uring(&curve("reads against depth", &[(1, 0.1), (4, 0.1)])).is_empty());
        assert!(of_uring(&curve("by the clock", &[(1, 0.1), (2, 0.1), (3, 0.1)])).is_empty());
    }
}
