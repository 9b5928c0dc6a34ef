//! What a run has found, as it is kept in JSON. Tables and pages are made of this alone.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::Failure;
use crate::machine::Machine;
use crate::matrix::{Figure, Group};

/// The version of this format.
pub const FORMAT: u32 = 1;

/// A run of the tool.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// [`FORMAT`].
    pub format: u32,
    /// Seconds since 1970.
    pub time: u64,
    /// Where it ran.
    pub machine: Machine,
    /// The command line.
    pub arguments: Vec<String>,
    /// Who took part.
    pub contenders: Vec<About>,
    /// What was measured, in order.
    pub rows: Vec<RowResult>,
    /// Whether it was ended before its end.
    pub interrupted: bool,
}

/// A contender, described.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct About {
    /// As in the table.
    pub name: String,
    /// Of whom.
    pub library: String,
    /// Its version, or where it is from.
    pub version: String,
    /// Its configuration in words.
    pub configuration: String,
}

/// A row and what each contender showed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RowResult {
    /// As `--only` knows it.
    pub name: String,
    /// Whose.
    pub group: Group,
    /// What it does.
    pub about: String,
    /// Which figure is compared.
    pub figure: Figure,
    /// For plots: the name of the curve and the place on it.
    pub curve: Option<(String, u64)>,
    /// By contender: what each round brought.
    pub rounds: BTreeMap<String, Vec<Measure>>,
    /// By contender: why it has no figure.
    pub failures: BTreeMap<String, String>,
}

/// One contender in one round.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Measure {
    /// Operations of the client.
    pub operations: u64,
    /// Bytes of the client.
    pub bytes: u64,
    /// How long it took.
    pub seconds: f64,
    /// CPU time of the daemon, if there is one.
    pub daemon_cpu: Option<f64>,
    /// CPU time of the whole machine, clients and others included.
    pub machine_cpu: f64,
    /// Quantiles of the latency: `(quantile, nanoseconds)`.
    pub latency: Vec<(f64, u64)>,
    /// Bytes of memory that the daemon has afterwards, if there is one; of all of the row's mounts.
    #[serde(default)]
    pub resident: Option<u64>,
}

impl Measure {
    /// The figure that is compared: more is better.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "figures for people")]
    pub fn figure(&self, figure: Figure) -> f64 {
        match figure {
            Figure::OperationsPerSecond => self.operations as f64 / self.seconds,
            Figure::BytesPerSecond => self.bytes as f64 / self.seconds,
            // Of the latency the inverse, so that here, too, more is better.
            Figure::Latency => self.quantile(0.99).map_or(0.0, |nanoseconds| 1e9 / nanoseconds),
        }
    }

    /// A quantile of the latency in nanoseconds, if it was taken.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "figures for people")]
    pub fn quantile(&self, quantile: f64) -> Option<f64> {
        let found = self.latency.iter().find(|(at, _)| (at - quantile).abs() < 1e-9);
        found.map(|(_, nanoseconds)| *nanoseconds as f64)
    }

    /// Microseconds of the daemon's CPU for one operation.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "figures for people")]
    pub fn cpu_per_operation(&self) -> Option<f64> {
        let operations = (self.operations > 0).then_some(self.operations as f64)?;
        Some(self.daemon_cpu? * 1e6 / operations)
    }

    /// Seconds of the daemon's CPU for one GiB.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "figures for people")]
    pub fn cpu_per_gib(&self) -> Option<f64> {
        let gib = (self.bytes > 0).then_some(self.bytes as f64 / (1u64 << 30) as f64)?;
        Some(self.daemon_cpu? / gib)
    }
}

impl RowResult {
    /// The figures of a contender by round; none where it has failed.
    #[must_use]
    pub fn figures(&self, name: &str) -> Vec<Option<f64>> {
        self.values(name, |measure| Some(measure.figure(self.figure)))
    }

    /// Something of each round of a contender; none where it has failed.
    pub fn values(&self, name: &str, value: impl Fn(&Measure) -> Option<f64>) -> Vec<Option<f64>> {
        if self.failures.contains_key(name) {
            return Vec::new();
        }
        self.rounds.get(name).map(|rounds| rounds.iter().map(value).collect()).unwrap_or_default()
    }
}

impl Run {
    /// Reads a run.
    ///
    /// # Errors
    /// Where the file is none, or of another format.
    pub fn read(path: &Path) -> Result<Self, Failure> {
        let text = std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
        Self::parse(&text).map_err(|why| format!("{}: {why}", path.display()))
    }

    /// # Errors
    /// Where the text is no run, or of another format.
    pub fn parse(text: &str) -> Result<Self, Failure> {
        let value: serde_json::Value = serde_json::from_str(text).map_err(|e| e.to_string())?;
        let format = value.get("format").and_then(serde_json::Value::as_u64);
        if format != Some(u64::from(FORMAT)) {
            return Err(format!("not a run of format {FORMAT}"));
        }
        serde_json::from_value(value).map_err(|e| e.to_string())
    }

    /// The text that [`Run::parse`] reads.
    ///
    /// # Panics
    /// Never: every field has a form in JSON.
    #[must_use]
    pub fn to_json(&self) -> String {
        let mut text = serde_json::to_string(self).unwrap_or_default();
        text.push('\n');
        text
    }

    /// The names of contenders in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.contenders.iter().map(|contender| contender.name.as_str())
    }
}
