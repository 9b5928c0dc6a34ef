//! Operations on many names: one or two system calls for each.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Barrier;
use std::time::Instant;

use hdrhistogram::Histogram;
use rustix::fs::{AtFlags, CWD, Dir, Mode, OFlags, StatxFlags, mkdirat, openat, statx, unlinkat};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::{Fence, Outcome, failed, histogram, quantiles, record};
use crate::Failure;

/// Many names of one directory for each client.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Names {
    /// What is done to each.
    pub kind: NamesKind,
    /// How many names in each directory.
    pub count: u32,
    /// Clients, each with a directory.
    pub clients: usize,
}

/// What is done to a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NamesKind {
    /// openat(2) of a new file, and close(2).
    Create,
    /// statx(2) of names that the kernel may know.
    Stat,
    /// statx(2) of one open file, past what the kernel knows: a GETATTR each.
    Getattr,
    /// statx(2) of names that are not there.
    Missing,
    /// openat(2) of a file, and close(2).
    Open,
    /// unlinkat(2).
    Unlink,
    /// getdents(2) until all have been seen.
    List,
    /// The same and statx(2) of each, as `ls -l`.
    ListAndStat,
}

/// Seconds, operations and latencies of a client.
type Done = (f64, u64, Histogram<u64>);

fn named(client: usize) -> String {
    format!("names-{client}")
}

fn call(what: &str) -> impl FnOnce(Errno) -> Failure {
    let what = what.to_owned();
    move |error| format!("{what}: {error}")
}

impl Names {
    pub(super) fn run(&self, directory: &Path, fence: &mut dyn Fence) -> Result<(), Failure> {
        let directories: Vec<PathBuf> =
            (0..self.clients).map(|client| directory.join(named(client))).collect();
        if self.kind == NamesKind::Create {
            for directory in &directories {
                match mkdirat(CWD, directory, Mode::from_raw_mode(0o755)) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(error) => return Err(format!("mkdir: {error}")),
                }
            }
        }
        fence.ready()?;
        let barrier = Barrier::new(self.clients);
        let done: Vec<Result<Done, Failure>> = std::thread::scope(|scope| {
            let start = |directory: &PathBuf| {
                let directory = directory.clone();
                let barrier = &barrier;
                scope.spawn(move || self.client(&directory, barrier))
            };
            let threads: Vec<_> = directories.iter().map(start).collect();
            let join = |thread: std::thread::ScopedJoinHandle<'_, _>| {
                thread.join().unwrap_or_else(|_| Err("a client panicked".to_owned()))
            };
            threads.into_iter().map(join).collect()
        });
        let mut outcome = Outcome::default();
        let mut latency = histogram();
        for one in done {
            let (seconds, operations, own) = one?;
            outcome.seconds = outcome.seconds.max(seconds);
            outcome.operations += operations;
            latency.add(&own).map_err(|e| e.to_string())?;
        }
        outcome.latency = quantiles(&latency);
        fence.timed(outcome)?;
        self.check(&directories)
    }

    /// What is there afterwards is what must be.
    fn check(&self, directories: &[PathBuf]) -> Result<(), Failure> {
        let wanted = if self.kind == NamesKind::Unlink { 0 } else { self.count };
        for directory in directories {
            let found = list(directory, |_, _| Ok(()))?;
            if found != wanted {
                return Err(format!("a directory of {wanted} names shows {found}"));
            }
        }
        Ok(())
    }

    fn client(&self, path: &Path, barrier: &Barrier) -> Result<Done, Failure> {
        let names: Vec<String> =
            (0..self.count).map(|number| format!("name-{number:06}")).collect();
        let opened = open_directory(path);
        barrier.wait();
        let directory = opened?;
        let mut latency = histogram();
        let start = Instant::now();
        match self.kind {
            NamesKind::List | NamesKind::ListAndStat => {
                let stats = self.kind == NamesKind::ListAndStat;
                let found = list(path, |directory, name| {
                    if stats {
                        let flags = AtFlags::SYMLINK_NOFOLLOW;
                        let seen = statx(directory, name, flags, StatxFlags::BASIC_STATS);
                        seen.map_err(call("statx"))?;
                    }
                    Ok(())
                })?;
                let seconds = start.elapsed().as_secs_f64();
                return Ok((seconds, u64::from(found), latency));
            }
            NamesKind::Getattr => {
                let file = File::open(path.join(&names[0])).map_err(failed("open"))?;
                for _ in &names {
                    let since = Instant::now();
                    let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_FORCE_SYNC;
                    let seen = statx(&file, c"", flags, StatxFlags::BASIC_STATS);
                    seen.map_err(call("statx"))?;
                    record(&mut latency, since);
                }
            }
            _ => {
                for name in &names {
                    let since = Instant::now();
                    self.one(&directory, name)?;
                    record(&mut latency, since);
                }
            }
        }
        Ok((start.elapsed().as_secs_f64(), names.len() as u64, latency))
    }

    fn one(&self, directory: &std::os::fd::OwnedFd, name: &str) -> Result<(), Failure> {
        let stat =
            |name: &str| statx(directory, name, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::BASIC_STATS);
        match self.kind {
            NamesKind::Create => {
                let new = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
                openat(directory, name, new, Mode::from_raw_mode(0o644)).map(drop)
            }
            NamesKind::Open => {
                let flags = OFlags::RDONLY | OFlags::CLOEXEC;
                openat(directory, name, flags, Mode::empty()).map(drop)
            }
            NamesKind::Unlink => unlinkat(directory, name, AtFlags::empty()),
            NamesKind::Missing => match stat(&format!("no-{name}")) {
                Err(Errno::NOENT) => Ok(()),
                Ok(_) => return Err(format!("no-{name} is there")),
                Err(error) => Err(error),
            },
            _ => stat(name).map(drop),
        }
        .map_err(call(&format!("{:?} {name}", self.kind)))
    }
}

fn open_directory(path: &Path) -> Result<std::os::fd::OwnedFd, Failure> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat(CWD, path, flags, Mode::empty()).map_err(call("open the directory"))
}

/// Lists a directory and gives the number of its names.
fn list(
    path: &Path,
    mut visit: impl FnMut(&std::os::fd::OwnedFd, &std::ffi::CStr) -> Result<(), Failure>,
) -> Result<u32, Failure> {
    let directory = open_directory(path)?;
    let mut found = 0;
    for entry in Dir::read_from(&directory).map_err(call("getdents"))? {
        let entry = entry.map_err(call("getdents"))?;
        if entry.file_name() != c"." && entry.file_name() != c".." {
            found += 1;
            visit(&directory, entry.file_name())?;
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::super::Load;
    use super::super::testing::run;
    use super::*;

    #[test]
    fn each_kind_does_its_work_and_sees_what_is_missing() {
        let directory = tempfile::tempdir().unwrap();
        let names = |kind| Load::Names(Names { kind, count: 50, clients: 2 });
        let all = [
            NamesKind::Create,
            NamesKind::Stat,
            NamesKind::Getattr,
            NamesKind::Missing,
            NamesKind::Open,
            NamesKind::List,
            NamesKind::ListAndStat,
        ];
        for kind in all {
            assert_eq!(run(&names(kind), directory.path()).unwrap().operations, 100, "{kind:?}");
        }
        std::fs::remove_file(directory.path().join("names-1/name-000007")).unwrap();
        for kind in [NamesKind::Stat, NamesKind::Open, NamesKind::List, NamesKind::Unlink] {
            assert!(run(&names(kind), directory.path()).is_err(), "{kind:?}");
        }
        std::fs::write(directory.path().join("names-0/no-name-000003"), "").unwrap();
        let why = run(&names(NamesKind::Missing), directory.path()).unwrap_err();
        assert!(why.contains("no-name-000003 is there"), "{why}");
    }
}
