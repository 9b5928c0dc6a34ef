//! Where the body of a test works: the root of a mount, or a plain directory on tmpfs.
//!
//! A body must hold on tmpfs wherever tmpfs can hold it, so that an expectation which is wrong
//! shows there first. What only a daemon has, its counters, a body asks for by name.
//!
//! Neighbours: `run` makes places, `files` has the helpers for the work in them.

use std::path::{Path, PathBuf};

use rustix::process::Pid;
use serde_json::{Value, json};

use super::client::tell;
use super::daemon::{Daemon, Stopped};
use super::stats::Stats;

/// The variable that carries a place to the process of a test body.
pub(crate) const VARIABLE: &str = "FUSEWIRE_TEST_PLACE";

/// One directory to work in.
#[derive(Debug)]
pub(crate) struct Place {
    root: PathBuf,
    daemon: Option<View>,
    beside: Option<Box<Place>>,
}

/// A daemon that belongs to another process, the test.
#[derive(Debug)]
struct View {
    pid: Pid,
    stats: PathBuf,
    writeback: bool,
}

impl Place {
    /// The place of this process, where it is one that a test started.
    pub(crate) fn handed_over() -> Option<Self> {
        let text = std::env::var(VARIABLE).ok()?;
        Some(Self::from_json(&serde_json::from_str(&text).expect("a place")))
    }

    /// A plain directory, as it is handed over.
    pub(crate) fn plain(root: &Path) -> Value {
        json!({ "root": root })
    }

    /// The root of a mount, as it is handed over.
    pub(crate) fn mounted(daemon: &Daemon) -> Value {
        json!({
            "root": daemon.mountpoint(),
            "pid": daemon.pid().as_raw_nonzero(),
            "stats": daemon.work().join("stats.json"),
            "writeback": daemon.ready().writeback,
        })
    }

    fn from_json(value: &Value) -> Self {
        let path = |name: &str| PathBuf::from(value[name].as_str().expect("a path"));
        let number = |value: &Value| i32::try_from(value.as_i64()?).ok();
        let daemon = number(&value["pid"]).and_then(Pid::from_raw).map(|pid| View {
            pid,
            stats: path("stats"),
            writeback: value["writeback"] == true,
        });
        let beside = value.get("beside").map(|beside| Box::new(Self::from_json(beside)));
        Self { root: path("root"), daemon, beside }
    }

    /// The root itself, empty at the beginning.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// A name in the root.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// The second mount of a plan that asked for one.
    pub(crate) fn beside(&self) -> &Self {
        self.beside.as_deref().expect("a plan with two mounts")
    }

    /// Whether writes stay in the page cache here until something asks for them.
    pub(crate) fn keeps_dirty_pages(&self) -> bool {
        self.daemon.as_ref().is_some_and(|daemon| daemon.writeback)
    }

    /// The daemon's counters at this moment; for mounts only.
    pub(crate) fn stats(&self) -> Stats {
        Stats::of_process(self.pid(), &self.view().stats)
    }

    /// Stops the daemon, all of its threads, until the answer of this is dropped.
    pub(crate) fn stopped(&self) -> Stopped {
        Stopped::process(self.pid())
    }

    /// The daemon's process.
    pub(crate) fn pid(&self) -> Pid {
        self.view().pid
    }

    fn view(&self) -> &View {
        self.daemon.as_ref().expect("a case that runs on mounts only")
    }

    /// Reports a measured figure; shown with `--nocapture`.
    pub(crate) fn figure(&self, text: &str) {
        tell(&format!("figure: {text}"));
    }

    /// Reports that a part of a test did not run.
    pub(crate) fn skipped(&self, why: &str) {
        tell(&format!("skipped: {why}"));
    }
}
