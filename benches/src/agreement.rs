//! Several runs of the same: how far they agree, and what they say together.
//!
//! What a run favours by chance (where the machine had memory for whom, who else was on the host)
//! differs from run to run. So the ratio of a row is the median over the runs of their medians, and
//! how far those lie apart is what a ratio may be trusted for.

use std::fmt::Write;

use crate::results::Run;
use crate::statistics::{Spread, geometric_mean, median};
use crate::table::{best, families, is_ours};

/// How a family of ours stands to another in several runs.
#[derive(Clone, Debug, PartialEq)]
pub struct Together<'r> {
    /// Ours.
    pub ours: &'r str,
    /// The other.
    pub other: &'r str,
    /// Over all rows, of the median over the runs.
    pub mean: f64,
    /// The geometric mean of each run.
    pub means: Vec<f64>,
    /// Of each row that all runs have: its name, and the medians of the runs.
    pub rows: Vec<(&'r str, Spread)>,
}

impl Together<'_> {
    /// How far apart the runs' medians are, by how many times the largest is the smallest: in the
    /// row in the middle, and in the one that only a tenth of all exceed.
    #[must_use]
    pub fn apart(&self) -> Option<(f64, f64)> {
        let mut factors: Vec<f64> =
            self.rows.iter().map(|(_, spread)| spread.max / spread.min).collect();
        factors.sort_by(f64::total_cmp);
        Some((median(&factors)?, *factors.get(factors.len() * 9 / 10)?))
    }
}

/// All of them.
#[must_use]
pub fn together(runs: &[Run]) -> Vec<Together<'_>> {
    let Some(first) = runs.first() else { return Vec::new() };
    let mut found = Vec::new();
    for ours in families(first) {
        for other in first.names().filter(|name| !is_ours(name)) {
            let medians = |name: &str| -> Option<Vec<f64>> {
                let row = |run: &Run| -> Option<f64> {
                    let row = run.rows.iter().find(|row| row.name == name)?;
                    best(row, ours, other).map(|ratio| ratio.spread.median)
                };
                runs.iter().map(row).collect()
            };
            let rows: Vec<(&str, Vec<f64>)> = first
                .rows
                .iter()
                .filter_map(|row| Some((row.name.as_str(), medians(&row.name)?)))
                .collect();
            let of_run = |run: usize| -> Option<f64> {
                geometric_mean(&rows.iter().map(|(_, medians)| medians[run]).collect::<Vec<_>>())
            };
            let Some(means) = (0..runs.len()).map(of_run).collect() else { continue };
            let spreads = |(name, medians): &(_, Vec<f64>)| Some((*name, Spread::of(medians)?));
            let rows: Vec<_> = rows.iter().filter_map(spreads).collect();
            let middles: Vec<f64> = rows.iter().map(|(_, spread)| spread.median).collect();
            let Some(mean) = geometric_mean(&middles) else { continue };
            found.push(Together { ours, other, mean, means, rows });
        }
    }
    found
}

/// The same as text.
#[must_use]
pub fn text(runs: &[Run]) -> String {
    let mut text = String::new();
    if runs.iter().any(|run| run.machine.version != runs[0].machine.version) {
        text += "not the same version: what differs is not chance alone\n";
    }
    let _ = writeln!(
        text,
        "{} runs: the best transport in each row, median over the runs (least..most of them)",
        runs.len()
    );
    for one in together(runs) {
        let means: Vec<String> = one.means.iter().map(|mean| format!("{mean:.2}")).collect();
        let Some((middle, most)) = one.apart() else { continue };
        let _ = writeln!(
            text,
            "\n{} / {}: geometric mean {:.2} of {} rows; by run {}; runs of a row lie a factor of \
             {middle:.2} apart in the middle, {most:.2} in one of ten",
            one.ours,
            one.other,
            one.mean,
            one.rows.len(),
            means.join(", "),
        );
        let behind: Vec<_> = one.rows.iter().filter(|(_, spread)| spread.median < 1.0).collect();
        let always = behind.iter().filter(|(_, spread)| spread.max < 1.0).count();
        let _ = writeln!(text, "  below 1: {}, {always} of them in each run", behind.len());
        for (name, spread) in behind {
            let _ = writeln!(text, "    {name:<36} {spread}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::tests::sample;

    /// Three runs of two rows, in which ours is 2, 1.5 and 4 times as fast, and half in the other.
    fn runs() -> [Run; 3] {
        [1, 4, 3].map(|theirs| {
            let mut run = sample();
            for measure in run.rows[0].rounds.get_mut("peer:best").unwrap() {
                measure.operations = 500 * theirs;
            }
            let mut behind = run.rows[0].clone();
            "memory/behind".clone_into(&mut behind.name);
            for measure in behind.rounds.get_mut("peer:best").unwrap() {
                measure.operations = 4000;
            }
            run.rows.push(behind);
            run
        })
    }

    #[test]
    fn runs_are_taken_together_row_by_row() {
        let runs = runs();
        let all = together(&runs);
        let [one] = &all[..] else { panic!("peer:default has no figure: {all:?}") };
        let (name, spread) = one.rows[0];
        assert_eq!((name, spread.count), ("memory/read/4k-d1", 3));
        assert!((spread.median - 4.0 / 3.0).abs() < 1e-9, "{spread:?}");
        assert!((one.mean - (4.0_f64 / 3.0 * 0.5).sqrt()).abs() < 1e-9);
        assert!((one.means[0] - (4.0_f64 * 0.5).sqrt()).abs() < 1e-9);
        let (middle, most) = one.apart().unwrap();
        assert!((middle - 2.5).abs() < 1e-9 && (most - 4.0).abs() < 1e-9, "{middle} {most}");
        let text = text(&runs);
        assert!(text.contains("below 1: 1, 1 of them in each run\n    memory/behind"), "{text}");
        assert!(!text.contains("not the same version"));
    }

    #[test]
    fn a_row_that_one_run_lacks_is_left_out_and_versions_are_looked_at() {
        let mut runs = runs();
        runs[1].rows.pop();
        assert_eq!(together(&runs)[0].rows.len(), 1);
        "2".clone_into(&mut runs[2].machine.version);
        assert!(text(&runs).starts_with("not the same version"));
    }
}
