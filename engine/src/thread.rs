//! Threads of the engine's own.

use std::fs::File;
use std::io::{self, Read};
use std::thread::{Builder, JoinHandle};

use nix::sys::signal::{SigSet, SigmaskHow, pthread_sigmask};

/// Starts a thread with every signal blocked: those are for the session's own thread.
pub(crate) fn spawn<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    let mut before = SigSet::empty();
    pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::all()), Some(&mut before))?;
    let thread = Builder::new().name(name.to_owned()).spawn(work);
    pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&before), None)?;
    thread
}

/// The first `line.len()` bytes that the kernel tells of a thread in `/proc`, at once: no more is
/// asked of the file.
pub(crate) fn told<'l>(path: &str, line: &'l mut [u8]) -> io::Result<&'l [u8]> {
    let len = File::open(path)?.read(line)?;
    Ok(&line[..len])
}
