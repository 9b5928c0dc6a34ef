//! The table of ratios, as text.

use std::fmt::Write;

use crate::results::{Measure, RowResult, Run};
use crate::statistics::{Spread, geometric_mean, median};

/// What stands before the names of ours.
const OURS: &str = "fusewire-";

/// Whether a contender of that name is fusewire.
#[must_use]
pub fn is_ours(name: &str) -> bool {
    name.starts_with(OURS)
}

/// A contender without its transport: those of one family are ways to the same thing. The kernel's
/// passthrough is one of its own, as nobody else in its rows has it.
#[must_use]
pub fn family(name: &str) -> &str {
    name.strip_suffix("-uring").or_else(|| name.strip_suffix("-device")).unwrap_or(name)
}

/// The families of ours in a run, in order.
#[must_use]
pub fn families(run: &Run) -> Vec<&str> {
    let mut found: Vec<&str> = Vec::new();
    for name in run.names().filter(|name| is_ours(name)).map(family) {
        if !found.contains(&name) {
            found.push(name);
        }
    }
    found
}

/// A ratio of one of ours to another in a row.
#[derive(Clone, Debug, PartialEq)]
pub struct Ratio {
    /// Whose of ours.
    pub ours: String,
    /// The other.
    pub other: String,
    /// Ours by theirs, paired by round.
    pub spread: Spread,
}

/// The ratio of one to another in a row, paired by round.
#[must_use]
pub fn ratio(row: &RowResult, ours: &str, other: &str) -> Option<Spread> {
    Spread::of_ratios(&row.figures(ours), &row.figures(other))
}

/// All ratios of a row.
#[must_use]
pub fn ratios(row: &RowResult) -> Vec<Ratio> {
    let mut found = Vec::new();
    for other in row.rounds.keys().filter(|name| !is_ours(name)) {
        for ours in row.rounds.keys().filter(|name| is_ours(name)) {
            if let Some(spread) = ratio(row, ours, other) {
                found.push(Ratio { ours: ours.clone(), other: other.clone(), spread });
            }
        }
    }
    found
}

/// The best way of a family against another in a row, by median.
#[must_use]
pub fn best(row: &RowResult, ours: &str, other: &str) -> Option<Ratio> {
    let is = |ratio: &Ratio| ratio.other == other && family(&ratio.ours) == ours;
    ratios(row).into_iter().filter(is).max_by(|a, b| a.spread.median.total_cmp(&b.spread.median))
}

/// The median of something over the rounds.
#[must_use]
pub fn middle(row: &RowResult, name: &str, value: impl Fn(&Measure) -> Option<f64>) -> Option<f64> {
    let values: Vec<f64> = row.values(name, value).into_iter().flatten().collect();
    median(&values)
}

/// A number with three digits that count, and k, M, G.
#[must_use]
pub fn short(value: f64) -> String {
    let (value, unit) = match value {
        value if value >= 1e9 => (value / 1e9, "G"),
        value if value >= 1e6 => (value / 1e6, "M"),
        value if value >= 1e3 => (value / 1e3, "k"),
        value => (value, ""),
    };
    let digits = if value >= 100.0 { 0 } else { 1 + usize::from(value < 10.0) };
    format!("{value:.digits$}{unit}")
}

/// A row's figure with its unit.
#[must_use]
pub fn shown(row: &RowResult, value: f64) -> String {
    use crate::matrix::Figure;
    match row.figure {
        Figure::OperationsPerSecond => format!("{} op/s", short(value)),
        Figure::BytesPerSecond => format!("{:.2} GiB/s", value / f64::from(1 << 30)),
        Figure::Latency => format!("{:.0} us p99", 1e6 / value),
    }
}

/// The daemon's CPU: for large requests by GiB, else by operation.
#[must_use]
pub fn cpu(row: &RowResult, name: &str) -> Option<(f64, &'static str)> {
    if row.figure == crate::matrix::Figure::BytesPerSecond {
        middle(row, name, Measure::cpu_per_gib).map(|seconds| (seconds, "s/GiB"))
    } else {
        middle(row, name, Measure::cpu_per_operation).map(|micros| (micros, "us/op"))
    }
}

/// The whole table.
#[must_use]
pub fn table(run: &Run) -> String {
    let mut text = String::new();
    let _ = writeln!(text, "{}", head(run));
    for row in &run.rows {
        add_row(&mut text, run, row);
    }
    text += &summary(run);
    text
}

fn head(run: &Run) -> String {
    let machine = &run.machine;
    format!(
        "{}, {} CPUs, {} MiB, {}, Linux {}, fs.fuse.max_pages_limit {}, fusewire {}, load {} at \
         start\nratios: fusewire by the other, median (least..most) over the rounds; above 1 \
         fusewire is ahead",
        machine.cpu,
        machine.cpus,
        machine.memory_mib,
        machine.system,
        machine.kernel,
        machine.max_pages_limit,
        machine.version,
        machine.load,
    )
}

fn add_row(text: &mut String, run: &Run, row: &RowResult) {
    let _ = writeln!(text, "\n{}: {}", row.name, row.about);
    let ratios = ratios(row);
    for name in run.names() {
        if let Some(why) = row.failures.get(name) {
            let _ = writeln!(text, "  {name:<24} NO FIGURE: {why}");
            continue;
        }
        let Some(figure) = middle(row, name, |measure| Some(measure.figure(row.figure))) else {
            continue;
        };
        let _ = write!(text, "  {name:<24} {:>16}", shown(row, figure));
        let cpu = cpu(row, name).map(|(value, unit)| format!("{} {unit}", short(value)));
        let _ = write!(text, " {:>14}", cpu.unwrap_or_default());
        for ratio in ratios.iter().filter(|ratio| ratio.other == name) {
            let ours = ratio.ours.trim_start_matches(OURS);
            let _ = write!(text, "  {ours} {:<20}", ratio.spread.to_string());
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
}

/// How a family stands to another over all rows.
#[derive(Clone, Debug, PartialEq)]
pub struct Standing<'r> {
    /// Ours.
    pub ours: &'r str,
    /// The other.
    pub other: &'r str,
    /// In how many rows both have a figure.
    pub rows: usize,
    /// The geometric mean of the best ways' medians.
    pub mean: f64,
    /// The same of each way alone, by its transport.
    pub ways: Vec<(&'r str, f64)>,
    /// The rows below 1.
    pub behind: Vec<(&'r str, Spread)>,
}

/// All of them.
#[must_use]
pub fn standings(run: &Run) -> Vec<Standing<'_>> {
    let mut found = Vec::new();
    for ours in families(run) {
        for other in run.names().filter(|name| !is_ours(name)) {
            let of = |row: &'_ RowResult| best(row, ours, other).map(|ratio| ratio.spread);
            let best: Vec<(&str, Spread)> =
                run.rows.iter().filter_map(|row| Some((row.name.as_str(), of(row)?))).collect();
            let medians: Vec<f64> = best.iter().map(|(_, spread)| spread.median).collect();
            let Some(mean) = geometric_mean(&medians) else { continue };
            let behind = best.iter().filter(|(_, spread)| spread.median < 1.0).copied().collect();
            let ways = run.names().filter(|name| is_ours(name) && family(name) == ours);
            let ways = ways.filter_map(|name| {
                let of = |row: &RowResult| ratio(row, name, other).map(|spread| spread.median);
                let medians: Vec<f64> = run.rows.iter().filter_map(of).collect();
                Some((name.rsplit('-').next()?, geometric_mean(&medians)?))
            });
            let ways = ways.collect();
            found.push(Standing { ours, other, rows: best.len(), mean, ways, behind });
        }
    }
    found
}

/// The sum: for each of ours and each other the geometric mean, and the rows below 1.
#[must_use]
pub fn summary(run: &Run) -> String {
    let mut text = String::from("\nthe best transport in each row, against:\n");
    for standing in standings(run) {
        let Standing { ours, other, rows, mean, .. } = standing;
        let behind: Vec<String> =
            standing.behind.iter().map(|(row, spread)| format!("{row} {spread}")).collect();
        let ways: Vec<String> =
            standing.ways.iter().map(|(way, mean)| format!("{way} {mean:.2}")).collect();
        let ways = ways.join(", ");
        let _ = write!(text, "  {ours} / {other:<24} geometric mean {mean:.2} ({ways})");
        let _ = write!(text, " of {rows} rows");
        if behind.is_empty() {
            text.push_str(", none below 1\n");
        } else {
            let _ = writeln!(text, ", below 1: {}", behind.join("; "));
        }
    }
    let failed: Vec<String> = run
        .rows
        .iter()
        .flat_map(|row| {
            row.failures.iter().map(|(who, why)| format!("  {} {who}: {why}", row.name))
        })
        .collect();
    if !failed.is_empty() {
        let _ = writeln!(text, "without a figure:\n{}", failed.join("\n"));
    }
    if run.interrupted {
        text += "ended before its end: rows are missing\n";
    }
    text
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::matrix::{Figure, Group};
    use crate::results::{About, FORMAT};

    /// A run of one row, in which ours did twice, once and thrice as much as `peer:best`, and
    /// `peer:default` showed a wrong byte.
    pub(crate) fn sample() -> Run {
        let measure = |operations| Measure {
            operations,
            bytes: operations * 4096,
            seconds: 2.0,
            daemon_cpu: Some(0.5),
            machine_cpu: 1.0,
            latency: vec![(0.5, 1000), (0.99, 4000)],
            resident: Some(4 << 20),
        };
        let about = |name: &str| About {
            name: name.to_owned(),
            library: "a <library>".to_owned(),
            version: "1.0".to_owned(),
            configuration: "as it is".to_owned(),
        };
        let rounds = [
            ("fusewire-uring", vec![measure(2000), measure(1000), measure(3000)]),
            ("fusewire-device", vec![measure(500), measure(500), measure(500)]),
            ("peer:best", vec![measure(1000), measure(1000), measure(1000)]),
            ("peer:default", vec![measure(9000)]),
        ];
        let names = ["fusewire-uring", "fusewire-device", "peer:default", "peer:best"];
        let row = RowResult {
            name: "memory/read/4k-d1".to_owned(),
            group: Group::Memory,
            about: "reads".to_owned(),
            figure: Figure::OperationsPerSecond,
            curve: Some(("reads against depth".to_owned(), 1)),
            rounds: rounds.map(|(name, rounds)| (name.to_owned(), rounds)).into(),
            failures: [("peer:default".to_owned(), "wrong data at offset 8".to_owned())].into(),
        };
        Run {
            format: FORMAT,
            time: 1_700_000_000,
            machine: crate::machine::Machine::default(),
            arguments: vec!["--quick".to_owned()],
            contenders: names.map(about).into(),
            rows: vec![row],
            interrupted: false,
        }
    }

    #[test]
    fn the_table_shows_ratios_with_their_spread_and_names_who_failed() {
        let text = table(&sample());
        let line = |name: &str| {
            let line = text.lines().find(|line| line.trim_start().starts_with(name));
            line.unwrap().split_whitespace().collect::<Vec<_>>().join(" ")
        };
        assert_eq!(
            line("peer:best"),
            "peer:best 500 op/s 500 us/op device 0.50 (0.50..0.50) uring 2.00 (1.00..3.00)"
        );
        assert_eq!(line("peer:default"), "peer:default NO FIGURE: wrong data at offset 8");
        assert_eq!(line("fusewire-uring"), "fusewire-uring 1.00k op/s 250 us/op");
        let summary = summary(&sample());
        assert!(
            summary.contains("mean 2.00 (uring 2.00, device 0.50) of 1 rows, none below 1"),
            "{summary}"
        );
        assert!(summary.contains("without a figure:\n  memory/read/4k-d1 peer:default: wrong"));
    }

    #[test]
    fn who_failed_has_no_ratio_and_rows_below_one_are_named() {
        let mut run = sample();
        assert!(best(&run.rows[0], "fusewire", "peer:default").is_none());
        run.rows[0].rounds.remove("fusewire-uring");
        let text = summary(&run);
        assert!(text.contains("below 1: memory/read/4k-d1 0.50 (0.50..0.50)"), "{text}");
    }

    #[test]
    fn families_are_ways_to_the_same_thing() {
        let names = ["fusewire-uring", "fusewire-device", "fusewire-tree-uring", "fusewire-kernel"];
        let expected = ["fusewire", "fusewire", "fusewire-tree", "fusewire-kernel"];
        assert_eq!(names.map(family), expected);
        assert_eq!(families(&sample()), ["fusewire"]);
    }

    #[test]
    fn numbers_are_short() {
        let numbers = [0.5, 12.34, 123.4, 1234.0, 56_789.0, 1.0e6, 2.5e9].map(short);
        assert_eq!(numbers, ["0.50", "12.3", "123", "1.23k", "56.8k", "1.00M", "2.50G"]);
    }

    #[test]
    fn json_brings_everything_back() {
        let run = sample();
        assert_eq!(Run::parse(&run.to_json()), Ok(run.clone()));
        let other = run.to_json().replace("\"format\":1", "\"format\":99");
        assert!(Run::parse(&other).unwrap_err().contains("format 1"));
        assert!(Run::parse("{").is_err());
    }
}
