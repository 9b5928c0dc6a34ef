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
use std::io::{self, PipeReader, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl::{set_name, set_pdeathsig};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, kill, pthread_sigmask};
use nix::sys::signalfd::SignalFd;
use nix::sys::wait::{Id, WaitPidFlag, waitid, waitpid};
use nix::unistd::{ForkResult, Pid, chdir, fork, getpid, getppid, setsid, write};

/// What the kernel sends when the thread is gone; blocked there.
const GONE: Signal = Signal::SIGUSR2;

/// How long it may take to be ready. It closes what it has inherited, and a close of a file of a
/// filesystem that does not answer takes for ever, also after SIGKILL.
const READY: Duration = Duration::from_secs(5);

/// What the process is called, so that who ends all daemons by name leaves it.
const NAME: &CStr = c"fw-guard";

/// The process, by a descriptor: its number may be another's once the program has waited for it.
/// It ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Guard(OwnedFd);

impl Guard {
    /// Starts it: when the calling thread ends before this is dropped, it writes `1` to `control`.
    ///
    /// # Errors
    /// Also what the process met before it was ready.
    pub(crate) fn start(control: BorrowedFd<'_>) -> io::Result<Self> {
        let parent = getpid();
        let (answer, tell) = io::pipe()?;
        // No handler of the program runs in the child.
        let mut mask = SigSet::empty();
        pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::all()), Some(&mut mask))?;
        // SAFETY: the child makes system calls only, by functions that do not allocate and take no
        // lock, and never returns. What the program has given pthread_atfork(3) is its own matter.
        let forked = unsafe { fork() };
        let guard = match forked {
            Ok(ForkResult::Child) => {
                if let Err(errno) = watch(control, tell.as_fd(), parent) {
                    let _ = write(tell, &(errno as i32).to_ne_bytes());
                }
                exit()
            }
            Ok(ForkResult::Parent { child }) => open(child).inspect_err(|_| {
                let _ = kill(child, Signal::SIGKILL);
                let _ = waitpid(child, None);
            }),
            Err(errno) => Err(errno),
        };
        pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&mask), None)?;
        drop(tell);
        let child = guard?;
        match is_ready(answer, READY) {
            Ok(()) => Ok(Self(child)),
            Err(error) => {
                end(child.as_fd());
                if error.kind() != io::ErrorKind::TimedOut {
                    reap(child.as_fd());
                }
                Err(error)
            }
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        end(self.0.as_fd());
        reap(self.0.as_fd());
    }
}

fn end(child: BorrowedFd<'_>) {
    let none = std::ptr::null::<libc::siginfo_t>();
    let child = child.as_raw_fd();
    // SAFETY: the call takes numbers, and reads nothing where there is nothing.
    unsafe { libc::syscall(libc::SYS_pidfd_send_signal, child, libc::SIGKILL, none, 0) };
}

fn reap(child: BorrowedFd<'_>) {
    let _ = waitid(Id::PIDFd(child), WaitPidFlag::WEXITED);
}

/// A descriptor of a child that nobody has waited for.
fn open(child: Pid) -> Result<OwnedFd, Errno> {
    // SAFETY: the call takes numbers only.
    let fd = Errno::result(unsafe { libc::syscall(libc::SYS_pidfd_open, child.as_raw(), 0) })?;
    let fd = RawFd::try_from(fd).map_err(|_| Errno::EBADF)?;
    // SAFETY: the kernel has just made it for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// What the child has met on its way; 0 says that it watches.
fn is_ready(mut answer: PipeReader, limit: Duration) -> io::Result<()> {
    let limit = PollTimeout::try_from(limit).unwrap_or(PollTimeout::MAX);
    let ready = loop {
        match poll(&mut [PollFd::new(answer.as_fd(), PollFlags::POLLIN)], limit) {
            Err(Errno::EINTR) => {}
            other => break other?,
        }
    };
    if ready == 0 {
        return Err(io::ErrorKind::TimedOut.into());
    }
    let mut errno = [0; 4];
    answer.read_exact(&mut errno)?;
    match i32::from_ne_bytes(errno) {
        0 => Ok(()),
        errno => Err(io::Error::from_raw_os_error(errno)),
    }
}

fn watch(control: BorrowedFd<'_>, tell: BorrowedFd<'_>, parent: Pid) -> Result<(), Errno> {
    // What is meant for the daemon, as by a terminal, is not meant for this; nor is a signal to its
    // process group, or to all of its name.
    setsid()?;
    set_name(NAME)?;
    // No filesystem is kept busy.
    chdir(c"/")?;
    let mut signals = SigSet::empty();
    signals.add(GONE);
    keep_only([control, tell])?;
    let come = SignalFd::new(&signals)?;
    set_pdeathsig(GONE)?;
    write(tell, &0_i32.to_ne_bytes())?;
    while getppid() == parent {
        let sender = come.read_signal()?.map(|signal| signal.ssi_pid.cast_signed());
        if sender == Some(parent.as_raw()) {
            break;
        }
    }
    write(control, b"1").map(drop)
}

/// Closes all other descriptors: they would keep alive what this is to end.
fn keep_only(kept: [BorrowedFd<'_>; 2]) -> Result<(), Errno> {
    let mut kept = kept.map(|fd| fd.as_raw_fd().unsigned_abs());
    kept.sort_unstable();
    let [low, high] = kept;
    for (first, last) in [(0, low.checked_sub(1)), (low + 1, Some(high - 1)), (high + 1, Some(!0))]
    {
        let Some(last) = last.filter(|last| *last >= first) else { continue };
        // SAFETY: the call takes numbers only; nothing in this process uses what it closes.
        Errno::result(unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) })?;
    }
    Ok(())
}

fn exit() -> ! {
    // SAFETY: ends the process at once, with nothing of its parent's done on the way.
    unsafe { libc::_exit(0) }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    /// The processes of ours that are guards.
    fn guards() -> Vec<String> {
        let own = format!("\nPPid:\t{}\n", getpid());
        let processes = std::fs::read_dir("/proc").unwrap().map(|one| one.unwrap().path());
        let status = processes.filter_map(|path| std::fs::read_to_string(path.join("status")).ok());
        let guards = status
            .filter(|status| status.starts_with("Name:\tfw-guard\n") && status.contains(&own));
        guards.collect()
    }

    #[test]
    fn it_acts_when_its_thread_ends_and_not_when_it_is_dropped() {
        for is_killed in [true, false] {
            let (mut written, control) = io::pipe().unwrap();
            let kept = std::thread::spawn(move || {
                let guard = Guard::start(control.as_fd()).unwrap();
                assert_eq!(guards().len(), 1, "it is not ready");
                is_killed.then_some(guard)
            });
            let kept = kept.join().unwrap();
            let mut text = String::new();
            written.read_to_string(&mut text).unwrap();
            assert_eq!(text, if is_killed { "1" } else { "" });
            drop(kept);
            assert_eq!(guards(), Vec::<String>::new());
        }
    }

    #[test]
    fn who_starts_it_hears_of_what_went_wrong() {
        let said = |bytes: &[u8]| {
            let (answer, mut tell) = io::pipe().unwrap();
            tell.write_all(bytes).unwrap();
            drop(tell);
            is_ready(answer, READY)
        };
        assert!(said(&0_i32.to_ne_bytes()).is_ok());
        let error = said(&libc::EPERM.to_ne_bytes()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
        assert_eq!(said(b"").unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        let (answer, _tell) = io::pipe().unwrap();
        let error = is_ready(answer, Duration::from_millis(1)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
