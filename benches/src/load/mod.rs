//! What a client does to a directory: the loads, and how their process talks with the runner.
//!
//! A load is one process, so that whatever a mount does to it, the runner lives on. It is told on
//! its standard input, in one line of JSON, and says in lines on its standard output how far it is
//! ([`Said`]). Before and after the timed part it waits for a line, so that the runner can read the
//! daemon's clock meanwhile.
//!
//! Never known here: whose directory it is.

mod database;
mod names;
mod stream;
mod transfer;
mod tree;

use std::io::{self, BufRead, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::Failure;
pub use database::Database;
pub use names::{Names, NamesKind};
pub use stream::{Stream, StreamKind};
pub use transfer::Transfer;
pub use tree::{Tree, TreeKind};

/// A load, on the directory beside it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Load {
    /// Makes a file of the pattern.
    Fill(Fill),
    /// Makes a file of so many bytes that nobody has written.
    Hole(String, u64),
    /// Reads all of a file past the page cache and compares each byte.
    Check(Fill),
    /// Requests of one file on a ring.
    Transfer(Transfer),
    /// Operations on many names.
    Names(Names),
    /// One file by system calls, through the page cache.
    Stream(Stream),
    /// Many files as programs use them.
    Tree(Tree),
    /// A database of SQLite's.
    Database(Database),
}

/// A file of the pattern.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fill {
    /// Its name.
    pub file: String,
    /// Bytes, a multiple of 1 MiB.
    pub size: u64,
    /// Who writes it.
    pub seed: u64,
}

/// What came of the timed part.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// Operations that ended.
    pub operations: u64,
    /// Bytes that they moved.
    pub bytes: u64,
    /// From the first to the last.
    pub seconds: f64,
    /// Quantiles of the latency: `(quantile, nanoseconds)`.
    pub latency: Vec<(f64, u64)>,
}

/// A line of a load's process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Said {
    /// The timed part begins once a line comes.
    Ready,
    /// The timed part is over; checking begins once a line comes.
    Timed(Outcome),
    /// All is over and the data are right.
    Right,
    /// Something failed; a wrong byte, too.
    Failed(String),
}

/// What the plots show of a latency.
pub const QUANTILES: [f64; 18] = [
    0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999,
    0.9999, 1.0,
];

/// The quantiles of a histogram of nanoseconds.
fn quantiles(histogram: &Histogram<u64>) -> Vec<(f64, u64)> {
    if histogram.is_empty() {
        return Vec::new();
    }
    QUANTILES.iter().map(|at| (*at, histogram.value_at_quantile(*at))).collect()
}

/// For latencies from 1 ns to a minute, to a part in a thousand.
fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000_000, 3)
        .unwrap_or_else(|_| unreachable!("fixed bounds"))
}

fn record(histogram: &mut Histogram<u64>, since: Instant) {
    let nanoseconds = u64::try_from(since.elapsed().as_nanos()).unwrap_or(u64::MAX);
    histogram.saturating_record(nanoseconds.max(1));
}

/// How the timed part is fenced.
pub trait Fence {
    /// Returns when the timed part may begin.
    ///
    /// # Errors
    /// Where nobody waits for the load any more.
    fn ready(&mut self) -> Result<(), Failure>;
    /// Tells what came of it; returns when checking may begin.
    ///
    /// # Errors
    /// Where nobody waits for the load any more.
    fn timed(&mut self, outcome: Outcome) -> Result<(), Failure>;
}

impl Load {
    /// Does it to `directory`.
    ///
    /// # Errors
    /// What failed; a wrong byte, too.
    pub fn run(&self, directory: &Path, fence: &mut dyn Fence) -> Result<(), Failure> {
        match self {
            Self::Fill(fill) => untimed(fence, || stream::fill(directory, fill)),
            Self::Hole(file, size) => untimed(fence, || {
                let file = std::fs::File::create(directory.join(file)).map_err(failed("create"))?;
                file.set_len(*size).map_err(failed("truncate"))
            }),
            Self::Check(fill) => untimed(fence, || stream::check(directory, fill)),
            Self::Transfer(transfer) => transfer.run(directory, fence),
            Self::Names(names) => names.run(directory, fence),
            Self::Stream(stream) => stream.run(directory, fence),
            Self::Tree(tree) => tree.run(directory, fence),
            Self::Database(database) => database.run(directory, fence),
        }
    }
}

fn untimed(
    fence: &mut dyn Fence,
    work: impl FnOnce() -> Result<(), Failure>,
) -> Result<(), Failure> {
    fence.ready()?;
    fence.timed(Outcome::default())?;
    work()
}

fn failed(what: &str) -> impl FnOnce(io::Error) -> Failure {
    let what = what.to_owned();
    move |error| format!("{what}: {error}")
}

/// A load and where, as the runner writes it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Order {
    /// What.
    pub load: Load,
    /// Where.
    pub directory: PathBuf,
}

struct Pipes;

impl Pipes {
    fn say(&self, said: &Said) -> Result<(), Failure> {
        let text = serde_json::to_string(said).map_err(|e| e.to_string())?;
        writeln!(io::stdout(), "{text}").map_err(failed("the runner"))
    }

    fn line(&self) -> Result<String, Failure> {
        let mut line = String::new();
        match io::stdin().lock().read_line(&mut line) {
            Ok(0) => Err("the runner has gone".to_owned()),
            Ok(_) => Ok(line),
            Err(error) => Err(error.to_string()),
        }
    }
}

impl Fence for Pipes {
    fn ready(&mut self) -> Result<(), Failure> {
        self.say(&Said::Ready)?;
        self.line().map(drop)
    }

    fn timed(&mut self, outcome: Outcome) -> Result<(), Failure> {
        self.say(&Said::Timed(outcome))?;
        self.line().map(drop)
    }
}

/// The life of a load's process.
///
/// # Errors
/// Where nobody listens.
pub fn serve() -> Result<(), Failure> {
    let mut pipes = Pipes;
    let order: Order = serde_json::from_str(&pipes.line()?).map_err(|e| e.to_string())?;
    let said = match order.load.run(&order.directory, &mut pipes) {
        Ok(()) => Said::Right,
        Err(why) => Said::Failed(why),
    };
    pipes.say(&said)
}

/// For tests: a load without a process.
#[cfg(test)]
pub(crate) mod testing {
    use super::*;

    #[derive(Default)]
    struct Memory(Vec<Outcome>);

    impl Fence for Memory {
        fn ready(&mut self) -> Result<(), Failure> {
            Ok(())
        }

        fn timed(&mut self, outcome: Outcome) -> Result<(), Failure> {
            self.0.push(outcome);
            Ok(())
        }
    }

    /// Runs a load here and gives what came of it.
    pub(crate) fn run(load: &Load, directory: &Path) -> Result<Outcome, Failure> {
        let mut memory = Memory::default();
        load.run(directory, &mut memory)?;
        memory.0.pop().ok_or_else(|| "no timed part".to_owned())
    }
}
