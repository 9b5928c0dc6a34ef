//! Medians and ratios: what a claim is made of.

use serde::{Deserialize, Serialize};

/// The middle, or the mean of the two in the middle; `None` of nothing.
#[must_use]
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        len if len % 2 == 1 => Some(sorted[middle]),
        _ => Some(f64::midpoint(sorted[middle - 1], sorted[middle])),
    }
}

/// The geometric mean of positive values; `None` of nothing.
#[must_use]
pub fn geometric_mean(values: &[f64]) -> Option<f64> {
    if values.is_empty() || values.iter().any(|value| *value <= 0.0) {
        return None;
    }
    let sum: f64 = values.iter().map(|value| value.ln()).sum();
    #[expect(clippy::cast_precision_loss, reason = "a count of rows")]
    Some((sum / values.len() as f64).exp())
}

/// A median with how far the single values lie apart.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// The middle.
    pub median: f64,
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
    /// How many values.
    pub count: usize,
}

impl Spread {
    /// Of finite values; `None` of nothing.
    #[must_use]
    pub fn of(values: &[f64]) -> Option<Self> {
        let min = values.iter().copied().reduce(f64::min)?;
        let max = values.iter().copied().reduce(f64::max)?;
        Some(Self { median: median(values)?, min, max, count: values.len() })
    }

    /// Of the ratios of two in the same rounds: paired, so that what slows a round down slows both.
    #[must_use]
    pub fn of_ratios(ours: &[Option<f64>], theirs: &[Option<f64>]) -> Option<Self> {
        let pairs =
            ours.iter().zip(theirs).filter_map(|(ours, theirs)| Some(((*ours)?, (*theirs)?)));
        let ratios: Vec<f64> =
            pairs.filter(|(_, theirs)| *theirs > 0.0).map(|(ours, theirs)| ours / theirs).collect();
        Self::of(&ratios)
    }
}

impl std::fmt::Display for Spread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.2} ({:.2}..{:.2})", self.median, self.min, self.max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0]), Some(3.0));
        assert_eq!(median(&[9.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[10.0, 1.0, 2.0, 4.0]), Some(3.0));
    }

    #[test]
    fn geometric_means() {
        assert_eq!(geometric_mean(&[]), None);
        assert_eq!(geometric_mean(&[1.0, 0.0]), None);
        let mean = geometric_mean(&[2.0, 8.0]).unwrap();
        assert!((mean - 4.0).abs() < 1e-12, "{mean}");
    }

    #[test]
    fn ratios_are_of_rounds_not_of_medians() {
        // The medians are 2 and 2; in each round ours is twice or half of theirs.
        let ours = [Some(1.0), Some(2.0), Some(4.0)];
        let theirs = [Some(2.0), Some(1.0), Some(2.0)];
        let spread = Spread::of_ratios(&ours, &theirs).unwrap();
        assert_eq!(spread, Spread { median: 2.0, min: 0.5, max: 2.0, count: 3 });
        assert_eq!(spread.to_string(), "2.00 (0.50..2.00)");
    }

    #[test]
    fn a_round_that_one_has_missed_is_no_pair() {
        let spread =
            Spread::of_ratios(&[Some(1.0), None, Some(3.0)], &[Some(1.0), Some(1.0), None]);
        assert_eq!(spread.map(|spread| spread.count), Some(1));
        assert_eq!(Spread::of_ratios(&[None], &[Some(1.0)]), None);
        assert_eq!(Spread::of_ratios(&[Some(1.0)], &[Some(0.0)]), None, "nothing per nothing");
    }
}
