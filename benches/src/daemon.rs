//! What a contender is while it is measured: a mount, and the process behind it.
//!
//! We never touch a mount of FUSE ourselves: clients are processes of their own ([`crate::child`]),
//! what we want to know stands in /proc. Dropping a [`Mounted`] takes it down, ever more roughly;
//! all mounts are in a namespace of our own, so they end with us in any case.

use std::cell::Cell;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::time::{ClockId, clock_getcpuclockid};
use rustix::process::Signal;

use crate::Failure;
use crate::child::{self, Stop};

/// Where the kernel lets connections be ended.
pub const FUSECTL: &str = "/sys/fs/fuse/connections";
const START_LIMIT: Duration = Duration::from_secs(20);
const END_LIMIT: Duration = Duration::from_secs(5);

/// Moves this process, which has one thread yet, to a mount namespace of its own.
///
/// # Errors
/// Where that is not allowed.
pub fn private_mounts() -> Result<(), Failure> {
    unshare(CloneFlags::CLONE_NEWNS).map_err(|e| format!("a mount namespace: {e}"))?;
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)
        .map_err(|e| format!("a private /: {e}"))?;
    if find(Path::new(FUSECTL)).is_none() {
        mount(Some("none"), FUSECTL, Some("fusectl"), MsFlags::empty(), none)
            .map_err(|e| format!("fusectl on {FUSECTL}: {e}"))?;
    }
    Ok(())
}

/// A mount, as /proc tells.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    minor: u32,
    kind: String,
}

/// The topmost mount on a directory.
fn find(mountpoint: &Path) -> Option<Entry> {
    find_in(&fs::read_to_string("/proc/self/mountinfo").ok()?, mountpoint.to_str()?)
}

fn find_in(mountinfo: &str, mountpoint: &str) -> Option<Entry> {
    let entry = |line: &str| {
        let (place, kind) = line.split_once(" - ")?;
        let place: Vec<&str> = place.split(' ').collect();
        let minor = place.get(2)?.split_once(':')?.1.parse().ok()?;
        let kind = kind.split(' ').next()?.to_owned();
        (place.get(4) == Some(&mountpoint)).then_some(Entry { minor, kind })
    };
    mountinfo.lines().rev().find_map(entry)
}

/// A directory that is measured.
#[derive(Debug)]
pub struct Mounted {
    directory: PathBuf,
    /// Whether there is a mount of ours to be removed.
    mount: bool,
    daemon: Option<Daemon>,
    /// Whether it was ended by force: then there is nothing to wait for.
    aborted: Cell<bool>,
}

#[derive(Debug)]
struct Daemon {
    child: Child,
    clock: ClockId,
    connection: u32,
}

impl Mounted {
    /// A directory as it is.
    #[must_use]
    pub fn plain(directory: PathBuf) -> Self {
        Self { directory, mount: false, daemon: None, aborted: Cell::new(false) }
    }

    /// A new tmpfs.
    ///
    /// # Errors
    /// Where it cannot be mounted.
    pub fn tmpfs(directory: PathBuf) -> Result<Self, Failure> {
        let none = None::<&str>;
        fs::create_dir_all(&directory).map_err(|e| format!("{}: {e}", directory.display()))?;
        mount(Some("fusewire-bench"), &directory, Some("tmpfs"), MsFlags::empty(), none)
            .map_err(|e| format!("tmpfs: {e}"))?;
        Ok(Self { directory, mount: true, daemon: None, aborted: Cell::new(false) })
    }

    /// Starts a daemon, which is to mount on a new directory, and waits until it has.
    ///
    /// # Errors
    /// Where it does not; with what it printed. Nothing is left then.
    pub fn start(mut command: Command, directory: PathBuf, stop: &Stop) -> Result<Self, Failure> {
        let what = |e: std::io::Error| format!("{}: {e}", directory.display());
        fs::create_dir(&directory).map_err(what)?;
        let log = directory.with_extension("log");
        let output = File::create(&log).map_err(what)?;
        let errors = output.try_clone().map_err(what)?;
        command.stdin(Stdio::null()).stdout(output).stderr(errors);
        let mut child = command.spawn().map_err(|e| format!("{command:?}: {e}"))?;
        let said = || {
            let text = fs::read_to_string(&log).unwrap_or_default();
            text.lines().rev().take(5).collect::<Vec<_>>().join("; ")
        };
        let deadline = Instant::now() + START_LIMIT;
        loop {
            if let Some(entry) = find(&directory).filter(|entry| entry.kind.starts_with("fuse")) {
                let pid = nix::unistd::Pid::from_raw(child.id().cast_signed());
                let connection = entry.minor;
                let clock = match clock_getcpuclockid(pid) {
                    Ok(clock) => clock,
                    Err(error) => {
                        child::end(&mut child, Duration::ZERO);
                        let _ = umount2(&directory, MntFlags::MNT_DETACH);
                        return Err(format!("mounted, and then: {error}; {}", said()));
                    }
                };
                let daemon = Some(Daemon { child, clock, connection });
                let aborted = Cell::new(false);
                return Ok(Self { directory, mount: true, daemon, aborted });
            }
            if let Ok(Some(status)) = child.try_wait() {
                return Err(format!("did not mount: {status}; {}", said()));
            }
            if Instant::now() >= deadline || stop.asked() {
                child::end(&mut child, Duration::ZERO);
                let _ = umount2(&directory, MntFlags::MNT_DETACH);
                return Err(format!("did not mount in {START_LIMIT:?}; {}", said()));
            }
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// Where clients work.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The daemon's process, if there is one.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.daemon.as_ref().map(|daemon| daemon.child.id())
    }

    /// Seconds of CPU time that the daemon has taken in all; `None` where there is none.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "seconds for people")]
    pub fn cpu(&self) -> Option<f64> {
        let time = self.daemon.as_ref()?.clock.now().ok()?;
        Some(time.tv_sec() as f64 + time.tv_nsec() as f64 / 1e9)
    }

    /// Bytes of memory that the daemon has (`VmRSS`); `None` where there is none.
    #[must_use]
    pub fn resident(&self) -> Option<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid()?)).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
    }

    /// Waits until the daemon has nothing more to do, as for the FORGETs of what was dropped; two
    /// seconds at most.
    pub fn settle(&self) {
        let deadline = Instant::now() + Duration::from_secs(2);
        let mut last = self.cpu();
        while last.is_some() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(10));
            let now = self.cpu();
            if now == last {
                return;
            }
            last = now;
        }
    }

    /// Ends the connection by force, so that all who wait for the daemon are freed.
    fn abort(&self) {
        if let Some(daemon) = &self.daemon
            && find(&self.directory).is_some_and(|entry| entry.minor == daemon.connection)
        {
            self.aborted.set(true);
            let file = format!("{FUSECTL}/{}/abort", daemon.connection);
            if let Err(error) = fs::write(&file, "1") {
                eprintln!("{file}: {error}");
            }
        }
    }

    /// Frees all who wait for the daemon, which is not asked any more: the connection is aborted,
    /// and the daemon killed. Alone the abort would not reach requests that a stopped daemon's ring
    /// has not taken yet (`fs/fuse/dev_uring.c`: they are handed over by the daemon's own task).
    pub fn free(&self) {
        self.abort();
        if let Some(daemon) = &self.daemon {
            child::signal(&daemon.child, Signal::KILL);
        }
    }

    /// umount(2), which waits for dirty pages and so for the daemon; whether it ended in time.
    fn unmount(&self) -> bool {
        let directory = self.directory.clone();
        let (sender, done) = channel();
        thread::spawn(move || sender.send(umount2(&directory, MntFlags::empty())));
        if let Ok(result) = done.recv_timeout(END_LIMIT) {
            return result.is_ok();
        }
        self.free();
        done.recv_timeout(END_LIMIT).is_ok_and(|result| result.is_ok())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if !self.mount {
            return;
        }
        let there = find(&self.directory).is_some();
        if there && !self.unmount() && find(&self.directory).is_some() {
            self.free();
            let _ = umount2(&self.directory, MntFlags::MNT_DETACH);
        }
        let patience = if self.aborted.get() { Duration::from_millis(500) } else { END_LIMIT };
        if let Some(daemon) = &mut self.daemon
            && child::wait(&mut daemon.child, patience).is_none()
        {
            child::signal(&daemon.child, Signal::TERM);
            child::end(&mut daemon.child, patience);
        }
        let _ = fs::remove_dir(&self.directory);
        let _ = fs::remove_file(self.directory.with_extension("log"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_topmost_mount_counts() {
        let text = "21 1 254:0 / / rw - ext4 /dev/vda rw\n\
            40 21 0:31 / /mnt/a rw,nosuid shared:3 - tmpfs x rw\n\
            41 40 0:32 / /mnt/a rw - fuse.y y rw\n";
        let entry = find_in(text, "/mnt/a").unwrap();
        assert_eq!(entry, Entry { minor: 32, kind: "fuse.y".to_owned() });
        assert_eq!(find_in(text, "/mnt"), None);
    }
}
