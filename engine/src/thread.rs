//! Threads of the engine's own.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::signal::{SigSet, SigmaskHow, pthread_sigmask};
use nix::unistd::Pid;

use crate::sys::policy;

thread_local! {
    /// For those whom this thread starts, where it is not to be where this one happens to be.
    static CPUS: Cell<Option<CpuSet>> = const { Cell::new(None) };
}

/// Says on which CPUs those may run whom the calling thread starts from now on; nothing: on its.
pub(crate) fn starts_others_on(cpus: Option<CpuSet>) {
    CPUS.set(cpus);
}

/// Starts a thread with every signal blocked: those are for the session's own thread.
pub(crate) fn spawn<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    let mut before = SigSet::empty();
    pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::all()), Some(&mut before))?;
    let cpus = CPUS.get();
    let thread = Builder::new().name(name.to_owned()).spawn(move || {
        if let Some(cpus) = cpus {
            // Else it has one, which does as well.
            let _ = sched_setaffinity(Pid::from_raw(0), &cpus);
        }
        // As who starts it may be. Where a jail refuses it, a sentry sees to it.
        let _ = policy::put_behind(policy::THIS, false);
        work()
    });
    pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&before), None)?;
    thread
}

/// What the kernel counts of a thread ever.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Scheduled {
    /// How long it ran, and how long it waited for a CPU.
    pub(crate) ran: Duration,
    pub(crate) waited: Duration,
    /// How often it got one.
    pub(crate) times: u64,
}

impl Scheduled {
    /// Documentation/scheduler/sched-stats.rst, `/proc/<pid>/schedstat`: of `task/N` or
    /// `thread-self`.
    pub(crate) fn told(counts: &File) -> Option<Self> {
        let mut line = [0; 128];
        let len = counts.read_at(&mut line, 0).ok()?;
        let numbers = str::from_utf8(&line[..len]).ok()?.split_ascii_whitespace();
        let mut numbers = numbers.map_while(|field| field.parse().ok());
        let mut time = || numbers.next().map(Duration::from_nanos);
        Some(Self { ran: time()?, waited: time()?, times: numbers.next()? })
    }

    /// What has been counted since then.
    pub(crate) fn since(self, before: Self) -> Self {
        Self {
            ran: self.ran.saturating_sub(before.ran),
            waited: self.waited.saturating_sub(before.waited),
            times: self.times.saturating_sub(before.times),
        }
    }

    /// How long it waited for a CPU each time, on average.
    pub(crate) fn delay(self) -> Duration {
        self.waited / u32::try_from(self.times).unwrap_or(u32::MAX).max(1)
    }
}

/// The first `line.len()` bytes that the kernel tells of a thread in `/proc`, at once: no more is
/// asked of the file.
pub(crate) fn told<'l>(path: &str, line: &'l mut [u8]) -> io::Result<&'l [u8]> {
    let len = File::open(path)?.read(line)?;
    Ok(&line[..len])
}
