//! A process of its own that locks files as it is told, on the mount or beside it.
//!
//! Neighbours: `locks` and `waits` tell it what to do, and look at `/proc/locks` for who waits.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::{self, BufRead};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

use crate::backing;
use crate::common::{Client, Place, open_rw, tell};

const VARIABLE: &str = "FUSEWIRE_TEST_LOCKER";

/// Time for one step.
pub(crate) const STEP: Duration = Duration::from_secs(20);

/// What the errors are called here.
pub(crate) const DONE: &str = "0";
pub(crate) const TAKEN: &str = "EAGAIN";

/// The families of locks.
pub(crate) const FAMILIES: [&str; 3] = ["posix", "ofd", "flock"];

/// A process that locks.
pub(crate) struct Locker {
    client: Client,
    pub(crate) pid: u32,
    /// Of what it does as it is told.
    thread: i32,
}

impl Locker {
    /// One that has `file` open as `f`.
    pub(crate) fn start(file: &Path) -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("fusewire-locker-{}-{number}", std::process::id());
        let errors = std::env::temp_dir().join(name);
        let client =
            Client::start("locker::locker_process", VARIABLE, file.to_str().unwrap(), &errors);
        let number = || client.line(STEP).expect("a number").parse::<i32>().unwrap();
        let (pid, thread) = (number(), number());
        fs::remove_file(errors).unwrap();
        Self { client, pid: pid.cast_unsigned(), thread }
    }

    /// Tells it what to do, as [`step`] understands it.
    pub(crate) fn begins(&mut self, order: &str) {
        self.client.send(order);
    }

    /// How that went.
    pub(crate) fn says(&self) -> String {
        self.client.line(STEP).expect("an answer")
    }

    /// Both.
    pub(crate) fn does(&mut self, order: &str) -> String {
        self.begins(order);
        self.says()
    }

    /// Has a signal interrupt what it does.
    pub(crate) fn interrupt(&self) {
        let signal = Signal::SIGUSR1 as i32;
        // SAFETY: the call takes three numbers and no memory.
        let result = unsafe { libc::syscall(libc::SYS_tgkill, self.pid, self.thread, signal) };
        assert_eq!(result, 0);
    }

    /// Whether it sleeps in this function of the kernel.
    pub(crate) fn is_in(&self, function: &str) -> bool {
        let place = fs::read_to_string(format!("/proc/{}/wchan", self.thread)).unwrap();
        place == function
    }

    /// What it does, in a letter: see proc(5).
    pub(crate) fn state(&self) -> String {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.thread)).unwrap();
        stat.rsplit(") ").next().unwrap_or_default()[..1].to_owned()
    }

    /// Ends it by force.
    pub(crate) fn killed(mut self) {
        self.client.kill_without_waiting();
        assert!(self.client.wait(STEP).is_some(), "a killed process lives on");
    }
}

extern "C" fn nothing(_: i32) {}

/// The other side; does nothing when nobody gave an order. SIGUSR1 interrupts it.
#[test]
#[ignore = "the program of processes that lock"]
fn locker_process() {
    let Ok(file) = std::env::var(VARIABLE) else { return };
    let action = SigAction::new(SigHandler::Handler(nothing), SaFlags::empty(), SigSet::empty());
    // SAFETY: the handler does nothing.
    unsafe { sigaction(Signal::SIGUSR1, &action) }.unwrap();
    let file = Path::new(&file);
    let mut files = HashMap::from([("f".to_owned(), open_rw(file))]);
    tell(&std::process::id().to_string());
    tell(&rustix::thread::gettid().as_raw_nonzero().to_string());
    for line in io::stdin().lock().lines() {
        let line = line.unwrap();
        let words: Vec<&str> = line.split(' ').collect();
        tell(&step(&words, file, &mut files));
    }
}

/// `open NAME`, `dup NAME OF`, `close NAME`; `get NAME KIND START LEN`;
/// `posix|ofd|posixw|ofdw NAME KIND START LEN`, `flock|flockw NAME KIND`; `pid`. KIND is r, w or u.
fn step(words: &[&str], path: &Path, files: &mut HashMap<String, File>) -> String {
    let said = |result: nix::Result<i32>| match result {
        Ok(_) => DONE.to_owned(),
        Err(errno) => format!("{errno:?}"),
    };
    match words {
        ["open", name] => drop(files.insert((*name).to_owned(), open_rw(path))),
        ["dup", name, of] => {
            let copy = files[*of].try_clone().unwrap();
            files.insert((*name).to_owned(), copy);
        }
        ["close", name] => drop(files.remove(*name).unwrap()),
        ["flock" | "flockw", name, kind] => {
            use rustix::fs::FlockOperation as How;
            let how = match (words[0], *kind) {
                ("flock", "r") => How::NonBlockingLockShared,
                ("flock", "w") => How::NonBlockingLockExclusive,
                (_, "r") => How::LockShared,
                (_, "w") => How::LockExclusive,
                _ => How::Unlock,
            };
            let result = rustix::fs::flock(&files[*name], how);
            return said(result.map(|()| 0).map_err(|e| Errno::from_raw(e.raw_os_error())));
        }
        [how, name, kind, start, len] => {
            let (file, mut lock) = (&files[*name], lock(kind, start, len));
            let arg = match *how {
                "posix" => FcntlArg::F_SETLK(&lock),
                "posixw" => FcntlArg::F_SETLKW(&lock),
                "ofd" => FcntlArg::F_OFD_SETLK(&lock),
                "ofdw" => FcntlArg::F_OFD_SETLKW(&lock),
                "get" => {
                    fcntl(file, FcntlArg::F_GETLK(&mut lock)).unwrap();
                    return shown(&lock);
                }
                other => panic!("unknown order {other}"),
            };
            return said(fcntl(file, arg));
        }
        other => panic!("unknown order {other:?}"),
    }
    DONE.to_owned()
}

fn lock(kind: &str, start: &str, len: &str) -> libc::flock {
    let kind = match kind {
        "r" => libc::F_RDLCK,
        "w" => libc::F_WRLCK,
        _ => libc::F_UNLCK,
    };
    libc::flock {
        l_type: kind.try_into().unwrap(),
        l_whence: 0,
        l_start: start.parse().unwrap(),
        l_len: len.parse().unwrap(),
        l_pid: 0,
    }
}

/// A lock of a whole file: `F_WRLCK` and so on.
pub(crate) fn whole(kind: i32) -> libc::flock {
    let l_type = kind.try_into().unwrap();
    libc::flock { l_type, l_whence: 0, l_start: 0, l_len: 0, l_pid: 0 }
}

fn shown(lock: &libc::flock) -> String {
    let libc::flock { l_type, l_start, l_len, l_pid, .. } = *lock;
    match i32::from(l_type) {
        libc::F_UNLCK => "u".to_owned(),
        libc::F_RDLCK => format!("r {l_start} {l_len} {l_pid}"),
        _ => format!("w {l_start} {l_len} {l_pid}"),
    }
}

/// The order that has a family lock the whole file, waiting or not.
pub(crate) fn order(family: &str, waits: bool, kind: &str) -> String {
    let range = if family == "flock" { "" } else { " 0 0" };
    format!("{family}{} f {kind}{range}", if waits { "w" } else { "" })
}

/// How many wait for locks of a file, that of the backing directory, of which somebody has a lock.
///
/// The list comes by the page, and what others lock and unlock between two pages moves the rest: a
/// lock, with who waits for it, is then not there, or there twice.
pub(crate) fn waiting(file: &Path) -> usize {
    let stat = fs::metadata(file).unwrap();
    let (major, minor) = (libc::major(stat.dev()), libc::minor(stat.dev()));
    let name = format!(" {major:02x}:{minor:02x}:{} ", stat.ino());
    let start = Instant::now();
    loop {
        let list = fs::read_to_string("/proc/locks").unwrap();
        let of_file = list.lines().filter(|line| line.contains(&name));
        // A lock and who waits for it: their number, and what they are.
        let of_file = of_file.map(|line| line.split_once(": ").unwrap());
        let (waiters, held): (Vec<_>, Vec<_>) = of_file.partition(|(_, is)| is.contains("-> "));
        let held: BTreeMap<_, _> = held.into_iter().map(|(number, is)| (is, number)).collect();
        if !held.is_empty() {
            let once = |(number, _): &&(&str, &str)| held.values().any(|held| held == number);
            return waiters.iter().filter(once).count();
        }
        assert!(start.elapsed() < STEP, "nobody has a lock of {}", file.display());
    }
}

/// Waits until it is so.
pub(crate) fn until(what: &str, mut so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !so() {
        assert!(start.elapsed() < STEP, "never: {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

/// Waits until so many wait for locks of a file.
pub(crate) fn until_waiting(file: &Path, count: usize) {
    until(&format!("{count} waiters"), || waiting(file) == count);
}

/// A new file, by its paths on the mount and beside it.
pub(crate) fn both(place: &Place) -> (PathBuf, PathBuf) {
    let (inside, outside) = (place.path("f"), backing(place).join("f"));
    fs::write(&inside, [b'0'; 100]).unwrap();
    (inside, outside)
}
