//! A process that ends a connection when the thread that started it is gone.
//!
//! A killed process keeps its descriptors for as long as one of its threads is in a system call
//! that no signal ends. A notification is such a call: it waits for a lock whose holder may wait
//! for an answer, which nobody gives any more, and the kernel ends a connection with its last
//! descriptor only. So somebody else has to, who has no such thread.
//!
//! At once, not when all threads have ended: a request that comes over io_uring to those that have
//! is not ended by an abort behind that (tried on Linux 6.18).

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;
use nix::sys::prctl::{set_name, set_pdeathsig};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, kill, pthread_sigmask};
use nix::sys::signalfd::SignalFd;
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, Pid, fork, getpid, getppid, setsid, write};

/// What the kernel sends when the thread is gone; blocked there.
const GONE: Signal = Signal::SIGUSR2;

/// What the process is called, so that who ends all daemons by name leaves it.
const NAME: &CStr = c"fw-guard";

/// The process; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Guard(Pid);

impl Guard {
    /// Starts it: when the calling thread ends before this is dropped, it writes `1` to `control`.
    pub(crate) fn start(control: BorrowedFd<'_>) -> io::Result<Self> {
        let parent = getpid();
        // SAFETY: the child makes system calls only, by functions that do not allocate and take no
        // lock, and never returns.
        match unsafe { fork() }? {
            ForkResult::Parent { child } => Ok(Self(child)),
            ForkResult::Child => {
                let _ = watch(control, parent);
                exit()
            }
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let _ = kill(self.0, Signal::SIGKILL);
        let _ = waitpid(self.0, None);
    }
}

fn watch(control: BorrowedFd<'_>, parent: Pid) -> Result<(), Errno> {
    // What is meant for the daemon, as by a terminal, is not meant for this; nor is a signal to its
    // process group, or to all of its name.
    pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::all()), None)?;
    setsid()?;
    set_name(NAME)?;
    let mut signals = SigSet::empty();
    signals.add(GONE);
    keep_only(control)?;
    let come = SignalFd::new(&signals)?;
    set_pdeathsig(GONE)?;
    while getppid() == parent {
        let sender = come.read_signal()?.map(|signal| signal.ssi_pid.cast_signed());
        if sender == Some(parent.as_raw()) {
            break;
        }
    }
    write(control, b"1").map(drop)
}

/// Closes all other descriptors: they would keep alive what this is to end.
fn keep_only(fd: BorrowedFd<'_>) -> Result<(), Errno> {
    let fd = fd.as_raw_fd().unsigned_abs();
    for (first, last) in [(0, fd.checked_sub(1)), (fd + 1, Some(u32::MAX))] {
        let Some(last) = last else { continue };
        // SAFETY: the call takes numbers only; nothing in this process uses what it closes.
        Errno::result(unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) })?;
    }
    Ok(())
}

fn exit() -> ! {
    // SAFETY: ends the process at once, with nothing of its parent's done on the way.
    unsafe { libc::_exit(0) }
}
