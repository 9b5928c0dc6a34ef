//! A session of the test's own on a new directory, and clients of it.
//!
//! The clients are other processes with a time limit: a process must never touch its own mount.

use std::process::{Command, Output, Stdio};
use std::sync::mpsc::RecvTimeoutError::Timeout;
use std::sync::mpsc::channel;
use std::time::Duration;

use fusewire::{Config, Filesystem, Session, Stats, TransportChoice};

/// A served mount and the directory that it is on.
pub(crate) struct Mounted {
    session: Option<Session>,
    dir: tempfile::TempDir,
}

/// Whether real mounts are possible, as prepared here; says so loudly if not, and fails where they
/// must be.
pub(crate) fn possible() -> bool {
    let opened = std::fs::File::options().read(true).write(true).open("/dev/fuse");
    let why = match opened {
        Ok(_) if nix::unistd::geteuid().is_root() => {
            ensure_fusectl();
            let _ = std::fs::write("/sys/module/fuse/parameters/enable_uring", "Y");
            return true;
        }
        Ok(_) => "these tests mount as root".to_owned(),
        Err(error) => format!("/dev/fuse: {error}"),
    };
    assert!(std::env::var_os("FUSEWIRE_REQUIRE_MOUNT").is_none(), "no real mount: {why}");
    eprintln!("SKIPPED: no real mount: {why}");
    false
}

impl Mounted {
    /// Mounts, where mounts are possible.
    pub(crate) fn start<F: Filesystem>(
        transport: TransportChoice,
        make: impl Fn(usize) -> F + Send + Sync + 'static,
    ) -> Option<Self> {
        if !possible() {
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let config = Config::new(dir.path()).transport(transport).signals(false).name("test");
        let session = Session::mount(config, make).unwrap();
        Some(Self { session: Some(session), dir })
    }

    pub(crate) fn session(&self) -> &Session {
        self.session.as_ref().unwrap()
    }

    pub(crate) fn take_session(&mut self) -> Session {
        self.session.take().unwrap()
    }

    /// Runs `sh -c script` in the mount, for at most 20 s. Who waits for an answer cannot be
    /// killed, so it is the connection that ends then.
    pub(crate) fn sh(&self, script: &str) -> Output {
        let mut command = Command::new("sh");
        command.arg("-c").arg(format!("cd \"$0\" || exit; {script}")).arg(self.dir.path());
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (done, waited) = channel::<()>();
        let connection = self.session().connection().unwrap();
        let watch = std::thread::spawn(move || {
            let in_time = waited.recv_timeout(Duration::from_secs(20)) != Err(Timeout);
            if !in_time {
                abort(connection);
            }
            in_time
        });
        let output = child.wait_with_output().unwrap();
        drop(done);
        assert!(watch.join().unwrap(), "{script}: no end after 20 s");
        output
    }

    /// Unmounts; gives the counters of the whole life.
    pub(crate) fn end(mut self) -> Stats {
        self.take_session().unmount().unwrap()
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        drop(self.session.take());
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
        assert!(!mounts.contains(self.dir.path().to_str().unwrap()), "the mount was left");
    }
}

/// Ends one connection of ours by force.
pub(crate) fn abort(connection: u32) {
    std::fs::write(format!("/sys/fs/fuse/connections/{connection}/abort"), "1").unwrap();
}

fn ensure_fusectl() {
    let there = "/sys/fs/fuse/connections";
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
    if !mounts.contains(&format!(" {there} ")) {
        Command::new("mount").args(["-t", "fusectl", "none", there]).status().unwrap();
    }
}

/// A test of each name on each transport; `$on` is a function that takes the transport and one of
/// the bodies.
macro_rules! on_both {
    ($on:ident: $($name:ident),* $(,)?) => {
        mod uring {
            $(#[test] fn $name() { super::$on(super::TransportChoice::Uring, super::$name); })*
        }
        mod device {
            $(#[test] fn $name() { super::$on(super::TransportChoice::Device, super::$name); })*
        }
    };
}
pub(crate) use on_both;
