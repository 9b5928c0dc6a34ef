//! What a test needs from the machine: the mount table, fusectl, kernel parameters, commands.
//!
//! Nothing here touches a FUSE mount from this process: the mount table and fusectl are the
//! kernel's own, and `umount` runs in a process of its own with a time limit.
//!
//! Neighbours: `daemon` starts and ends mounts with this, `place` is what a test body sees.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

const FUSECTL: &str = "/sys/fs/fuse/connections";
const ENABLE_URING: &str = "/sys/module/fuse/parameters/enable_uring";
/// A umount(2) waits for whoever else on the machine unmounts or closes a detached mount, and is
/// done with it only once it runs again (`kernel/rcu/tree_exp.h, synchronize_rcu_expedited`, which
/// lets go of `exp_mutex` last): for seconds where that is a process that gets hardly any CPU.
const COMMAND_LIMIT: Duration = Duration::from_secs(20);

/// One line of the mount table.
#[derive(Debug)]
pub(crate) struct MountEntry {
    pub(crate) point: PathBuf,
    /// Minor of the device number: the name of a FUSE connection in fusectl.
    pub(crate) minor: u32,
    pub(crate) kind: String,
}

/// The mount table of this process, oldest first.
pub(crate) fn mounts() -> Vec<MountEntry> {
    let table = fs::read_to_string("/proc/self/mountinfo").expect("the mount table is readable");
    table.lines().map(mount_entry).collect()
}

fn mount_entry(line: &str) -> MountEntry {
    let fields: Vec<&str> = line.split(' ').collect();
    let dash = fields.iter().position(|field| *field == "-").expect("a separator");
    let (_, minor) = fields[2].split_once(':').expect("a device number");
    MountEntry {
        point: unescaped(fields[4]),
        minor: minor.parse().expect("a minor number"),
        kind: fields[dash + 1].to_owned(),
    }
}

/// Undoes the octal escapes (`\040` for a space) of the mount table.
fn unescaped(text: &str) -> PathBuf {
    let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
    while let Some((&first, tail)) = rest.split_first() {
        let code = tail.get(..3).and_then(|code| std::str::from_utf8(code).ok());
        let code = code.and_then(|code| u8::from_str_radix(code, 8).ok());
        match (first, code) {
            (b'\\', Some(byte)) => {
                bytes.push(byte);
                rest = &tail[3..];
            }
            _ => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    std::ffi::OsString::from_vec(bytes).into()
}

/// What is mounted on `point`, the topmost.
pub(crate) fn mounted_at(point: &Path) -> Option<MountEntry> {
    mounts().into_iter().rfind(|entry| entry.point == point)
}

/// Kind of the file system that holds `path`, which must not be below a FUSE mount.
pub(crate) fn file_system_of(path: &Path) -> String {
    let holds = |entry: &MountEntry| path.starts_with(&entry.point);
    let entries = mounts().into_iter().filter(holds);
    entries.max_by_key(|entry| entry.point.as_os_str().len()).map_or_else(String::new, |e| e.kind)
}

/// Why nothing can be tested here; `None` where it can.
pub(crate) fn why_no_test() -> Option<String> {
    let why = "mounting, dropping caches and other users' requests need root";
    (!rustix::process::geteuid().is_root()).then(|| why.to_owned())
}

/// Why no FUSE mount is possible here at all; `None` where it is.
pub(crate) fn why_no_mount() -> Option<String> {
    why_no_test().or_else(|| {
        let device = OpenOptions::new().read(true).write(true).open("/dev/fuse");
        device.err().map(|error| format!("/dev/fuse: {error}"))
    })
}

/// Why FUSE-over-io_uring is impossible here; `None` where it is, and then it is switched on.
pub(crate) fn why_no_uring() -> Option<String> {
    // Not while another test relies on its being off.
    let _lock = Lock::of_starting();
    match fs::read_to_string(ENABLE_URING) {
        Err(error) => Some(format!("{ENABLE_URING}: {error}")),
        Ok(value) if value.trim() == "Y" => None,
        Ok(_) => fs::write(ENABLE_URING, "Y").err().map(|e| format!("{ENABLE_URING}: {e}")),
    }
}

/// Mounts fusectl where it is not mounted yet; it stays, as others may use it.
pub(crate) fn ensure_fusectl() {
    let _lock = Lock::exclusive(FUSECTL);
    if mounted_at(Path::new(FUSECTL)).is_none() {
        let mut mount = Command::new("mount");
        let _ = run_limited(mount.args(["-t", "fusectl", "none", FUSECTL]));
    }
}

/// Ends one FUSE connection by force; true if fusectl took the order.
pub(crate) fn abort(connection: u32) -> bool {
    fs::write(format!("{FUSECTL}/{connection}/abort"), "1").is_ok()
}

/// Whether fusectl still lists this connection.
pub(crate) fn connection_exists(connection: u32) -> bool {
    Path::new(FUSECTL).join(connection.to_string()).exists()
}

/// Runs `umount` on a mount point; the error holds what it said.
pub(crate) fn umount(point: &Path, flags: &[&str]) -> Result<(), String> {
    let (status, output) = run_limited(Command::new("umount").args(flags).arg(point))?;
    if status.success() { Ok(()) } else { Err(format!("{status}: {output}")) }
}

/// Runs a command that must end in time; returns its status and what it printed.
pub(crate) fn run_limited(command: &mut Command) -> Result<(ExitStatus, String), String> {
    let output = tempfile::tempfile().expect("a temporary file");
    let clone = || output.try_clone().expect("a descriptor");
    command.stdin(Stdio::null()).stdout(clone()).stderr(clone());
    let mut child = command.spawn().map_err(|error| format!("{command:?}: {error}"))?;
    let Some(status) = wait_for_exit(&mut child, COMMAND_LIMIT) else {
        let _ = child.kill();
        return Err(format!("{command:?}: no end after {COMMAND_LIMIT:?}"));
    };
    let mut text = vec![0; 64 * 1024];
    let len = std::os::unix::fs::FileExt::read_at(&output, &mut text, 0).unwrap_or(0);
    Ok((status, String::from_utf8_lossy(&text[..len]).trim().to_owned()))
}

/// Waits until a child ends; `None` when the limit passes first.
pub(crate) fn wait_for_exit(child: &mut Child, limit: Duration) -> Option<ExitStatus> {
    if let Some(status) = child.try_wait().expect("a child of ours") {
        return Some(status);
    }
    let pid = Pid::from_child(child);
    let pidfd = pidfd_open(pid, PidfdFlags::empty()).expect("a pidfd of a child of ours");
    let deadline = Instant::now() + limit;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).expect("a short time");
        let ready = poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&left));
        match ready {
            Ok(0) => return None,
            Ok(_) => return child.try_wait().expect("a child of ours"),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => panic!("poll of a pidfd: {error}"),
        }
    }
}

/// A lock between all test processes on this machine, on the very thing that is global to it.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: Option<File>,
}

impl Lock {
    /// Held while a mount starts and relies on `enable_uring`.
    pub(crate) fn of_starting() -> Self {
        let file = File::open(ENABLE_URING).ok();
        file.as_ref().map(File::lock_shared).transpose().expect("a lock");
        Self { _file: file }
    }

    fn exclusive(path: &str) -> Self {
        let file = File::open(path).ok();
        file.as_ref().map(File::lock).transpose().expect("a lock");
        Self { _file: file }
    }
}

/// `enable_uring` switched off; switched on again and unlocked when dropped.
#[derive(Debug)]
pub(crate) struct UringSwitchedOff {
    _lock: Lock,
}

impl UringSwitchedOff {
    /// Waits until no test is starting a mount.
    pub(crate) fn now() -> io::Result<Self> {
        let lock = Lock::exclusive(ENABLE_URING);
        fs::write(ENABLE_URING, "N")?;
        Ok(Self { _lock: lock })
    }
}

impl Drop for UringSwitchedOff {
    fn drop(&mut self) {
        if let Err(error) = fs::write(ENABLE_URING, "Y") {
            say(&format!("enable_uring stays off: {error}"));
        }
    }
}

/// Prints past the capture of the test runner, for what nobody may miss.
pub(crate) fn say(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Says loudly that a test did not run; a failure where a skip is forbidden.
pub(crate) fn skipped(test: &str, why: &str) {
    let forbidden = std::env::var_os("FUSEWIRE_REQUIRE_MOUNT").is_some_and(|value| value == "1");
    assert!(!forbidden, "SKIPPED, which FUSEWIRE_REQUIRE_MOUNT=1 forbids: {why}");
    say(&format!("SKIPPED: {test}: {why}"));
}
