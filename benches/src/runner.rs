//! Runs rows: all contenders of a row are mounted, in an order by chance, then take turns, round
//! after round, forth and back (A B C, C B A), so that what disturbs the machine disturbs all
//! alike.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::building::Missing;
use crate::child::{Tool, Trouble};
use crate::contender::{self, Binaries, Contender};
use crate::daemon::Mounted;
use crate::load::{Load, Order};
use crate::machine;
use crate::matrix::{Group, Row, Scale};
use crate::results::{Measure, RowResult};

/// Everything that a run needs.
#[derive(Debug)]
pub struct Runner {
    /// By which processes are started.
    pub tool: Tool,
    /// The daemons.
    pub binaries: Binaries,
    /// `--peers`.
    pub peers: Vec<String>,
    /// What could not be built.
    pub missing: Missing,
    /// How large things are.
    pub scale: Scale,
    /// A directory of ours on tmpfs: mount points, and what mirrors show.
    pub work: PathBuf,
    /// A directory of ours on a disk.
    pub disk: PathBuf,
    /// The longest that a load may take beyond its own time.
    pub patience: Duration,
}

/// A contender at work in a row.
struct Entrant {
    contender: &'static Contender,
    mounted: Mounted,
    /// More of its mounts, which nobody uses.
    idle: Vec<Mounted>,
    rounds: Vec<Measure>,
}

/// Ends the whole run.
struct Stopped;

impl Runner {
    /// Runs rows in order; what is done so far when the end is asked for.
    #[must_use]
    pub fn run(&self, rows: &[Row]) -> Vec<RowResult> {
        let takes = |row: &Row| self.contenders(row).len() as u64 * self.milliseconds(row);
        let bar = ProgressBar::new(rows.iter().map(takes).sum());
        let style = ProgressStyle::with_template("[{elapsed}, {eta} left] {bar:30} {msg}");
        if let Ok(style) = style {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(500));
        let mut results = Vec::new();
        for (number, row) in rows.iter().enumerate() {
            if bar.is_hidden() {
                // No terminal is there to draw on.
                eprintln!("{} of {}: {}", number + 1, rows.len(), row.name);
            }
            match self.row(row, &bar) {
                Ok(result) => results.push(result),
                Err(Stopped) => break,
            }
        }
        bar.finish_and_clear();
        results
    }

    fn contenders(&self, row: &Row) -> Vec<&'static Contender> {
        let hp = |one: &&Contender| {
            one.example() != Some("passthrough_hp") || self.binaries.passthrough_hp.is_some()
        };
        contender::of_row(row, &self.peers).filter(hp).collect()
    }

    /// About how long a contender takes in a row.
    fn milliseconds(&self, row: &Row) -> u64 {
        let one = match &row.load {
            Load::Transfer(transfer) => transfer.milliseconds + 150,
            _ => 500,
        };
        300 + one * u64::from(self.scale.rounds)
    }

    fn row(&self, row: &Row, bar: &ProgressBar) -> Result<RowResult, Stopped> {
        let mut failures = BTreeMap::new();
        let mut entrants = Vec::new();
        let work = self.work.join("row");
        let disk = self.disk.join("row");
        let clean = Clean(vec![work.clone(), disk.clone()]);
        // What memory a machine has for who is mounted first is not always as good as the next.
        let mut contenders = self.contenders(row);
        fastrand::shuffle(&mut contenders);
        for (number, contender) in contenders.into_iter().enumerate() {
            bar.set_message(format!("{} {}", row.name, contender.name));
            let base = if row.group == Group::Disk { &disk } else { &work };
            let backing = base.join(format!("backing{number}"));
            let directory = work.join(format!("mount{number}"));
            let entered = self.enter(contender, row, &directory, &backing).and_then(|mounted| {
                let idle = (1..row.mounts).map(|idle| {
                    let directory = work.join(format!("mount{number}-{idle}"));
                    self.start(contender, row, &directory, &backing)
                });
                Ok((mounted, idle.collect::<Result<_, _>>()?))
            });
            match entered {
                Ok((mounted, idle)) => {
                    let rounds = Vec::new();
                    entrants.push(Entrant { contender, mounted, idle, rounds });
                }
                Err(Trouble::Stopped) => return Err(Stopped),
                Err(trouble) => note(&mut failures, contender, &trouble),
            }
            bar.inc(300);
        }
        for round in 0..self.scale.rounds {
            if round % 2 == 1 {
                entrants.reverse();
            }
            let mut left = Vec::new();
            for mut entrant in entrants {
                bar.set_message(format!("{} {}", row.name, entrant.contender.name));
                match self.measure(row, round, &entrant.mounted) {
                    Ok(mut measure) => {
                        let all = [&entrant.mounted].into_iter().chain(&entrant.idle);
                        measure.resident = all.map(Mounted::resident).sum();
                        entrant.rounds.push(measure);
                        left.push(entrant);
                    }
                    Err(Trouble::Stopped) => return Err(Stopped),
                    Err(trouble) => note(&mut failures, entrant.contender, &trouble),
                }
                bar.inc((self.milliseconds(row) - 300) / u64::from(self.scale.rounds));
            }
            entrants = left;
            if round % 2 == 1 {
                entrants.reverse();
            }
        }
        let rounds = entrants.into_iter().map(|one| (one.contender.name.to_owned(), one.rounds));
        let rounds = rounds.collect();
        drop(clean);
        Ok(RowResult {
            name: row.name.clone(),
            group: row.group,
            about: row.about.to_owned(),
            figure: row.figure,
            curve: row.curve.map(|(curve, place)| (curve.to_owned(), place)),
            rounds,
            failures,
        })
    }

    /// Mounts a contender and prepares what the row needs.
    fn enter(
        &self,
        contender: &'static Contender,
        row: &Row,
        directory: &Path,
        backing: &Path,
    ) -> Result<Mounted, Trouble> {
        let source = contender.package().or(contender.example());
        if let Some(why) = source.and_then(|source| self.missing.get(source)) {
            return Err(Trouble::Failed(why.clone()));
        }
        if contender.mirrors {
            fs::create_dir_all(backing)
                .map_err(|e| Trouble::Failed(format!("{}: {e}", backing.display())))?;
        }
        let parent = directory.parent().unwrap_or(directory);
        fs::create_dir_all(parent)
            .map_err(|e| Trouble::Failed(format!("{}: {e}", parent.display())))?;
        let mounted = self.start(contender, row, directory, backing)?;
        for load in &row.prepare {
            self.load(load, &mounted)?;
        }
        Ok(mounted)
    }

    fn start(
        &self,
        contender: &Contender,
        row: &Row,
        directory: &Path,
        backing: &Path,
    ) -> Result<Mounted, Trouble> {
        let mounted = contender.start(&self.tool, &self.binaries, row, directory, backing);
        mounted.map_err(|why| {
            if self.tool.stop.asked() { Trouble::Stopped } else { Trouble::Failed(why) }
        })
    }

    fn measure(&self, row: &Row, round: u32, mounted: &Mounted) -> Result<Measure, Trouble> {
        for load in &row.before {
            self.load(load, mounted)?;
        }
        if row.forget {
            // Names and inodes that nobody uses; the page cache stays.
            fs::write("/proc/sys/vm/drop_caches", "2")
                .map_err(|e| Trouble::Failed(format!("drop_caches: {e}")))?;
        }
        mounted.settle();
        let measure = self.load(&row.in_round(round), mounted)?;
        for load in &row.after {
            self.load(load, mounted)?;
        }
        Ok(measure)
    }

    fn load(&self, load: &Load, mounted: &Mounted) -> Result<Measure, Trouble> {
        let order = Order { load: load.clone(), directory: mounted.directory().to_owned() };
        let own = match load {
            Load::Transfer(transfer) => Duration::from_millis(transfer.milliseconds),
            _ => Duration::ZERO,
        };
        let clock = || (mounted.cpu(), machine::busy());
        let timed = self.tool.load(&order, own + self.patience, clock, || mounted.free())?;
        let daemon_cpu = timed.after.0.zip(timed.before.0).map(|(after, before)| after - before);
        Ok(Measure {
            operations: timed.outcome.operations,
            bytes: timed.outcome.bytes,
            seconds: timed.outcome.seconds,
            daemon_cpu,
            machine_cpu: timed.after.1 - timed.before.1,
            latency: timed.outcome.latency,
            resident: None,
        })
    }
}

fn note(failures: &mut BTreeMap<String, String>, contender: &Contender, trouble: &Trouble) {
    let why = match trouble {
        Trouble::Failed(why) => why.clone(),
        Trouble::Hung => "did not end in time; its connection was aborted".to_owned(),
        Trouble::Stopped => return,
    };
    failures.insert(contender.name.to_owned(), why);
}

/// Directories that go with the row.
struct Clean(Vec<PathBuf>);

impl Drop for Clean {
    fn drop(&mut self) {
        for directory in &self.0 {
            if directory.exists()
                && let Err(error) = fs::remove_dir_all(directory)
            {
                eprintln!("{}: {error}", directory.display());
            }
        }
    }
}
