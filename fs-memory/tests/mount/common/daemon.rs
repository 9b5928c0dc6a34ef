//! A daemon's process: started on a fresh mount point, watched, ended, cleaned up after.
//!
//! The owner never touches the mount itself. Whatever happens, dropping a [`Daemon`] leaves no
//! mount and no process: it goes from `umount` over SIGTERM to an abort of this one connection.
//!
//! Neighbours: `system` has the means, `run` and `lifecycle` decide when.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::stats::Stats;
use super::system::{self, Lock, wait_for_exit};

const START_LIMIT: Duration = Duration::from_secs(20);
const END_LIMIT: Duration = Duration::from_secs(10);

/// Which transport a test asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    Uring,
    Device,
}

impl Transport {
    /// The word of the command line and of the stats.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Uring => "uring",
            Self::Device => "device",
        }
    }
}

/// How to start a daemon.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    pub(crate) transport: Transport,
    pub(crate) writeback: bool,
    pub(crate) extra: Vec<String>,
    /// Whether what belongs to the daemon is to lie on a disk.
    pub(crate) on_disk: bool,
}

impl Setup {
    /// Write-back on, nothing else chosen.
    pub(crate) fn new(transport: Transport) -> Self {
        Self { transport, writeback: true, extra: Vec::new(), on_disk: false }
    }

    /// With more words on the command line.
    pub(crate) fn with(mut self, words: &[&str]) -> Self {
        self.extra.extend(words.iter().map(|word| (*word).to_owned()));
        self
    }

    pub(crate) fn arguments(&self) -> Vec<String> {
        let writeback = if self.writeback { "on" } else { "off" };
        let mut words = vec!["--transport".to_owned(), self.transport.name().to_owned()];
        words.extend(["--writeback".to_owned(), writeback.to_owned()]);
        words.extend(self.extra.iter().cloned());
        words
    }
}

/// What the line `mounted ...` says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Ready {
    pub(crate) mountpoint: String,
    pub(crate) transport: String,
    pub(crate) minor: u32,
    pub(crate) max_write: u64,
    pub(crate) writeback: bool,
    pub(crate) shards: u64,
}

impl Ready {
    /// Reads `mounted PATH (uring, protocol 7.45, max_write 1048576, write-back on, 2 shards)`.
    pub(crate) fn read(line: &str) -> Option<Self> {
        let (mountpoint, facts) = line.strip_prefix("mounted ")?.rsplit_once(" (")?;
        let facts: Vec<&str> = facts.strip_suffix(')')?.split(", ").collect();
        let [transport, protocol, max_write, writeback, shards] = facts.as_slice() else {
            return None;
        };
        let shards = shards.strip_suffix(" shards").or_else(|| shards.strip_suffix(" shard"))?;
        let writeback = match *writeback {
            "write-back on" => true,
            "write-back off" => false,
            _ => return None,
        };
        Some(Self {
            mountpoint: mountpoint.to_owned(),
            transport: (*transport).to_owned(),
            minor: protocol.strip_prefix("protocol 7.")?.parse().ok()?,
            max_write: max_write.strip_prefix("max_write ")?.parse().ok()?,
            writeback,
            shards: shards.parse().ok()?,
        })
    }
}

/// How a daemon ended that did not mount.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) status: ExitStatus,
    pub(crate) message: String,
}

/// A daemon that has mounted.
#[derive(Debug)]
pub(crate) struct Daemon {
    child: Child,
    exit: Option<ExitStatus>,
    work: Option<crate::Work>,
    mountpoint: PathBuf,
    ready: Ready,
    connection: u32,
    output: Receiver<String>,
}

impl Daemon {
    /// Starts a daemon on a new directory and waits until it serves.
    ///
    /// # Panics
    /// When it does not mount.
    pub(crate) fn start(setup: &Setup) -> Self {
        if setup.on_disk {
            Self::start_in(on_disk(), setup)
        } else {
            Self::start_in(crate::work(), setup)
        }
    }

    fn start_in(work: impl Into<crate::Work>, setup: &Setup) -> Self {
        let work = work.into();
        let mountpoint = work.path().join("mnt");
        fs::create_dir(&mountpoint).expect("a mount point");
        match Self::try_start(&setup.arguments(), work, &mountpoint) {
            Ok(daemon) => {
                assert_eq!(daemon.ready.transport, setup.transport.name(), "the transport");
                assert_eq!(daemon.ready.writeback, setup.writeback, "write-back");
                daemon
            }
            Err(refusal) => panic!("no mount: {}: {}", refusal.status, refusal.message),
        }
    }

    /// Starts a daemon with exactly these options; `work` is a directory for everything of it.
    pub(crate) fn try_start(
        options: &[impl AsRef<std::ffi::OsStr>],
        work: impl Into<crate::Work>,
        mountpoint: &Path,
    ) -> Result<Self, Refusal> {
        let _lock = Lock::of_starting();
        Self::try_start_unlocked(options, work, mountpoint)
    }

    /// The same for a caller that holds the lock of `enable_uring` itself.
    pub(crate) fn try_start_unlocked(
        options: &[impl AsRef<std::ffi::OsStr>],
        work: impl Into<crate::Work>,
        mountpoint: &Path,
    ) -> Result<Self, Refusal> {
        let work = work.into();
        system::ensure_fusectl();
        let mut command = crate::daemon(work.path());
        command.arg("--stats").arg(work.path().join("stats.json")).args(options).arg(mountpoint);
        let errors = File::create(work.path().join("errors")).expect("a file for errors");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(errors);
        let mut child = command.spawn().expect("the daemon's binary starts");
        let output = lines_of(&mut child);
        match output.recv_timeout(START_LIMIT) {
            Ok(line) => {
                let ready = Ready::read(&line).unwrap_or_else(|| panic!("first line: {line:?}"));
                let entry = system::mounted_at(mountpoint);
                let connection = entry.expect("mounted, as was printed").minor;
                let mountpoint = mountpoint.to_owned();
                let work = Some(work);
                Ok(Self { child, exit: None, work, mountpoint, ready, connection, output })
            }
            Err(_) => {
                let status = wait_for_exit(&mut child, END_LIMIT);
                let _ = child.kill();
                let message = fs::read_to_string(work.path().join("errors")).unwrap_or_default();
                match status {
                    Some(status) => Err(Refusal { status, message }),
                    None => panic!("neither mounted nor ended: {message}"),
                }
            }
        }
    }

    /// The mount point, for clients only.
    pub(crate) fn mountpoint(&self) -> &Path {
        &self.mountpoint
    }

    /// A directory outside of the mount that ends with the daemon.
    pub(crate) fn work(&self) -> &Path {
        self.work.as_ref().expect("until it is dropped").path()
    }

    /// What the first line said.
    pub(crate) fn ready(&self) -> &Ready {
        &self.ready
    }

    /// The connection's number in fusectl.
    pub(crate) fn connection(&self) -> u32 {
        self.connection
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("the daemon lives");
    }

    /// Stops it, all of its threads, until the answer of this is dropped.
    pub(crate) fn stopped(&self) -> Stopped {
        Stopped::process(self.pid())
    }

    /// The counters at this moment.
    pub(crate) fn stats(&self) -> Stats {
        Stats::of_process(self.pid(), &self.stats_file())
    }

    /// The counters that were written at the end.
    pub(crate) fn last_stats(&self) -> Stats {
        Stats::in_file(&self.stats_file()).unwrap_or_else(|why| panic!("{why}"))
    }

    fn stats_file(&self) -> PathBuf {
        self.work().join("stats.json")
    }

    /// A number of `/proc/PID/status`, in its own unit.
    pub(crate) fn process_figure(&self, field: &str) -> u64 {
        let path = format!("/proc/{}/status", self.pid().as_raw_nonzero());
        let text = fs::read_to_string(path).expect("the daemon lives");
        let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        let value = line.and_then(|line| line.split_whitespace().next());
        value.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no {field}"))
    }

    /// What it printed after the first line.
    pub(crate) fn further_output(&self) -> String {
        let lines = std::iter::from_fn(|| self.output.recv_timeout(Duration::from_secs(1)).ok());
        lines.collect::<Vec<_>>().join("\n")
    }

    /// What it wrote to standard error so far.
    pub(crate) fn messages(&self) -> String {
        fs::read_to_string(self.work().join("errors")).unwrap_or_default()
    }

    /// Waits for its end, which something else must have caused.
    ///
    /// # Panics
    /// When it goes on.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let status = self.exit.or_else(|| wait_for_exit(&mut self.child, END_LIMIT));
        self.exit = status;
        status.unwrap_or_else(|| panic!("still running after {END_LIMIT:?}: {}", self.messages()))
    }

    /// Waits for an ordinary end: status 0, no mount left, last counters without a mishap.
    pub(crate) fn wait_for_success(&mut self) {
        let status = self.wait();
        assert!(status.success(), "{status}: {}", self.messages());
        assert!(system::mounted_at(&self.mountpoint).is_none(), "a mount is left");
        let stats = self.last_stats();
        for mishap in ["panics", "malformed"] {
            assert_eq!(stats.number(mishap), 0, "{mishap}; {}", self.messages());
        }
    }

    /// Unmounts in the ordinary way.
    pub(crate) fn umount(&mut self) {
        system::umount(&self.mountpoint, &[]).unwrap_or_else(|why| panic!("umount: {why}"));
        self.wait_for_success();
    }

    /// Ends the connection by force, as for a test that hangs.
    pub(crate) fn abort(&self) {
        assert!(system::abort(self.connection), "no fusectl file of {}", self.connection);
    }

    fn is_clean(&mut self, limit: Duration) -> bool {
        self.exit = self.exit.or_else(|| wait_for_exit(&mut self.child, limit));
        self.exit.is_some() && system::mounted_at(&self.mountpoint).is_none()
    }

    /// Takes everything down, ever more roughly.
    fn tear_down(&mut self) {
        let patience = Duration::from_secs(5);
        if self.is_clean(Duration::ZERO) {
            return;
        }
        let _ = kill_process(self.pid(), Signal::CONT);
        if system::umount(&self.mountpoint, &[]).is_ok() && self.is_clean(patience) {
            return;
        }
        let alive = |daemon: &Self| daemon.exit.is_none();
        if alive(self) && kill_process(self.pid(), Signal::TERM).is_ok() && self.is_clean(patience)
        {
            return;
        }
        if system::mounted_at(&self.mountpoint).is_some_and(|e| e.minor == self.connection) {
            system::abort(self.connection);
        }
        let _ = system::umount(&self.mountpoint, &["-l"]);
        if alive(self) {
            let _ = self.child.kill();
        }
        if !self.is_clean(patience) {
            system::say(&format!("LEFT BEHIND: {}", self.mountpoint.display()));
            // Removing the directory would go into the mount.
            let _ = self.work.take().map(crate::Work::keep);
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.tear_down();
    }
}

/// A daemon that answers nothing; goes on when this is dropped.
#[derive(Debug)]
pub(crate) struct Stopped(Pid);

impl Stopped {
    /// Stops all threads of a process.
    pub(crate) fn process(pid: Pid) -> Self {
        let stopped = Self(pid);
        kill_process(pid, Signal::STOP).expect("the daemon lives");
        let deadline = Instant::now() + END_LIMIT;
        while !stopped.all_threads() {
            assert!(Instant::now() < deadline, "the daemon does not stop");
            thread::sleep(Duration::from_millis(1));
        }
        stopped
    }

    /// Whether the signal has reached every thread, which nobody announces. One that is where no
    /// signal reaches it stops when it comes back.
    fn all_threads(&self) -> bool {
        let tasks = format!("/proc/{}/task", self.0.as_raw_nonzero());
        let tasks = fs::read_dir(tasks).expect("the daemon lives");
        tasks.map_while(Result::ok).all(|task| {
            let stat = fs::read_to_string(task.path().join("stat")).unwrap_or_default();
            stat.rsplit_once(") ").is_none_or(|(_, state)| state.starts_with(['T', 'D']))
        })
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        let _ = kill_process(self.0, Signal::CONT);
    }
}

/// A new directory that other users may pass through.
pub(crate) fn open_to_all(directory: io::Result<TempDir>) -> TempDir {
    let directory = directory.expect("a directory");
    let mode = fs::Permissions::from_mode(0o755);
    fs::set_permissions(directory.path(), mode).expect("a directory of ours");
    directory
}

/// A new directory on a disk: what is there outlives a start of the machine (file-hierarchy(7)).
fn on_disk() -> TempDir {
    open_to_all(tempfile::Builder::new().prefix("fusewire-test-").tempdir_in("/var/tmp"))
}

/// Reads all lines of a child in a thread of their own, so that it never waits for a reader.
fn lines_of(child: &mut Child) -> Receiver<String> {
    let stdout = BufReader::new(child.stdout.take().expect("a pipe"));
    let (sender, lines) = channel();
    thread::spawn(move || {
        for line in stdout.lines().map_while(Result::ok) {
            let _ = sender.send(line);
        }
    });
    lines
}

/// Waits until fusectl no longer lists a connection, or lists one of another mount by its number.
pub(crate) fn wait_until_gone(connection: u32) {
    let deadline = Instant::now() + END_LIMIT;
    let taken = || system::mounts().iter().any(|entry| entry.minor == connection);
    while system::connection_exists(connection) && !taken() {
        assert!(Instant::now() < deadline, "connection {connection} is left");
        thread::sleep(Duration::from_millis(10));
    }
}
