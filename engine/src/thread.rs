//! Threads of the engine's own.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, Read};
use std::thread::{Builder, JoinHandle};

use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::signal::{SigSet, SigmaskHow, pthread_sigmask};
use nix::unistd::Pid;

thread_local! {
    /// For those whom this thread starts, where it is not to be where this one happens to be.
    static CPUS: Cell<Option<CpuSet>> = const { Cell::new(None) };
}

/// The name of a shard's thread.
pub(crate) fn shard(index: usize) -> String {
    format!("fusewire-{index}")
}

/// Whether a thread of this name is a shard's.
pub(crate) fn is_shard(name: &[u8]) -> bool {
    name.strip_prefix(b"fusewire-")
        .is_some_and(|index| index.first().is_some_and(u8::is_ascii_digit))
}

/// Says on which CPUs those may run whom the calling thread starts from now on, as it may be moved.
pub(crate) fn starts_others_on(cpus: CpuSet) {
    CPUS.set(Some(cpus));
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
        work()
    });
    pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&before), None)?;
    thread
}

/// The first `line.len()` bytes that the kernel tells of a thread in `/proc`, at once: no more is
/// asked of the file.
pub(crate) fn told<'l>(path: &str, line: &'l mut [u8]) -> io::Result<&'l [u8]> {
    let len = File::open(path)?.read(line)?;
    Ok(&line[..len])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_is_known_by_its_name() {
        assert!(is_shard(shard(0).as_bytes()) && is_shard(shard(123).as_bytes()));
        for other in [&b"fusewire-scout"[..], b"fusewire-", b"iou-wrk-12", b""] {
            assert!(!is_shard(other));
        }
    }
}
