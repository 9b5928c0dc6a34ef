//! Two runs beside each other: what has changed, and whether by more than each run's own spread.

use std::fmt::Write;

use crate::results::{RowResult, Run};
use crate::statistics::Spread;
use crate::table::{is_ours, ratio, shown};

/// A contender in a row of both runs.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// The row.
    pub row: String,
    /// Who.
    pub name: String,
    /// In the first run.
    pub before: Spread,
    /// In the second.
    pub after: Spread,
}

impl Change {
    /// The second by the first, of medians.
    #[must_use]
    pub fn ratio(&self) -> f64 {
        self.after.median / self.before.median
    }

    /// Whether no round of one is within the rounds of the other.
    #[must_use]
    pub fn is_apart(&self) -> bool {
        self.after.min > self.before.max || self.after.max < self.before.min
    }
}

fn spread(row: &RowResult, name: &str) -> Option<Spread> {
    let figures: Vec<f64> = row.figures(name).into_iter().flatten().collect();
    Spread::of(&figures)
}

/// All that both runs have.
#[must_use]
pub fn changes(before: &Run, after: &Run) -> Vec<Change> {
    let mut found = Vec::new();
    for new in &after.rows {
        let Some(old) = before.rows.iter().find(|row| row.name == new.name) else { continue };
        for name in after.names() {
            let (Some(before), Some(after)) = (spread(old, name), spread(new, name)) else {
                continue;
            };
            let (row, name) = (new.name.clone(), name.to_owned());
            found.push(Change { row, name, before, after });
        }
    }
    found
}

/// How the ratio of one of ours to another has moved in a row; from pairs, so that two machines, or
/// a quiet and a busy one, can be compared too.
#[derive(Clone, Debug, PartialEq)]
pub struct Moved {
    /// The row.
    pub row: String,
    /// Ours and the other.
    pub pair: (String, String),
    /// In the first run.
    pub before: Spread,
    /// In the second.
    pub after: Spread,
}

/// All ratios that both runs have.
#[must_use]
pub fn moved(before: &Run, after: &Run) -> Vec<Moved> {
    let mut found = Vec::new();
    for new in &after.rows {
        let Some(old) = before.rows.iter().find(|row| row.name == new.name) else { continue };
        for ours in after.names().filter(|name| is_ours(name)) {
            for other in after.names().filter(|name| !is_ours(name)) {
                let both = (ratio(old, ours, other), ratio(new, ours, other));
                let (Some(before), Some(after)) = both else { continue };
                let pair = (ours.to_owned(), other.to_owned());
                found.push(Moved { row: new.name.clone(), pair, before, after });
            }
        }
    }
    found
}

/// The comparison as text.
#[must_use]
pub fn text(before: &Run, after: &Run) -> String {
    let mut text = String::new();
    if before.machine != after.machine {
        let _ = writeln!(
            text,
            "not the same machine, kernel or version: trust the ratios, not the figures\n  \
             A {:?}\n  \
             B {:?}",
            before.machine, after.machine
        );
    }
    let _ = writeln!(text, "figures: A, B, B by A; * where no round of one is within the other's");
    let mut last = String::new();
    for change in changes(before, after) {
        if change.row != last {
            let _ = writeln!(text, "\n{}", change.row);
            last.clone_from(&change.row);
        }
        let Some(row) = after.rows.iter().find(|row| row.name == change.row) else { continue };
        let (a, b) = (shown(row, change.before.median), shown(row, change.after.median));
        let mark = if change.is_apart() { " *" } else { "" };
        let ratio = change.ratio();
        let _ = writeln!(text, "  {:<24} {a:>16} {b:>16} {ratio:>6.2}{mark}", change.name);
    }
    let _ = writeln!(text, "\nratios of fusewire to the others: A, B");
    for moved in moved(before, after) {
        let (ours, other) = moved.pair;
        let (a, b) = (moved.before.to_string(), moved.after.to_string());
        let apart = moved.after.min > moved.before.max || moved.after.max < moved.before.min;
        let mark = if apart { " *" } else { "" };
        let _ = writeln!(text, "  {:<36} {ours} / {other:<24} {a:<20} {b:<20}{mark}", moved.row);
    }
    let only = |one: &Run, other: &Run| -> Vec<String> {
        let missing = |row: &&RowResult| other.rows.iter().all(|there| there.name != row.name);
        one.rows.iter().filter(missing).map(|row| row.name.clone()).collect()
    };
    for (name, rows) in [("A", only(before, after)), ("B", only(after, before))] {
        if !rows.is_empty() {
            let _ = writeln!(text, "only in {name}: {}", rows.join(", "));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::tests::sample;

    fn faster(run: &Run, name: &str) -> Run {
        let mut run = run.clone();
        for measure in run.rows[0].rounds.get_mut(name).unwrap() {
            measure.operations *= 4;
        }
        run
    }

    #[test]
    fn a_change_beyond_the_spread_is_marked() {
        let before = sample();
        let after = faster(&before, "fusewire-uring");
        let changes = changes(&before, &after);
        let of = |name: &str| changes.iter().find(|change| change.name == name).unwrap();
        assert!((of("fusewire-uring").ratio() - 4.0).abs() < 1e-9);
        assert!(of("fusewire-uring").is_apart(), "500..1500 and 2000..6000 op/s");
        assert!(!of("peer:best").is_apart() && (of("peer:best").ratio() - 1.0).abs() < 1e-9);
        assert!(changes.iter().all(|change| change.name != "peer:default"), "it has no figure");
        let text = text(&before, &after);
        let line = text.lines().find(|line| line.contains("fusewire-uring   ")).unwrap();
        assert!(line.ends_with("4.00 *"), "{line}");
        assert!(!text.contains("not the same machine"));
    }

    #[test]
    fn ratios_move_with_either_side() {
        let before = sample();
        let after = faster(&before, "peer:best");
        let moved = moved(&before, &after);
        let uring = moved.iter().find(|one| one.pair.0 == "fusewire-uring").unwrap();
        assert!((uring.before.median - 2.0).abs() < 1e-9);
        assert!((uring.after.median - 0.5).abs() < 1e-9);
    }

    #[test]
    fn another_machine_and_rows_of_one_run_only_are_told() {
        let before = sample();
        let mut after = sample();
        after.machine.kernel = "7.0".to_owned();
        after.rows[0].name = "memory/other".to_owned();
        let text = text(&before, &after);
        assert!(text.contains("not the same machine"));
        assert!(text.contains("only in A: memory/read/4k-d1"));
        assert!(text.contains("only in B: memory/other"));
    }
}
