//! What no opcode tells: who serves open files, and which way their data went.
//!
//! Shared by all shards. Never known here: what is done with the numbers. Neighbours: `mirror`
//! and `data` count, the daemon shows.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use fusewire::proto::Errno;
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::options::DataPath;

/// A number that grows.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn count(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Requests for data, by the way they went.
#[derive(Debug, Default)]
pub(crate) struct Transfers {
    /// At least in part on the ring.
    pub(crate) ring: Counter,
    /// By system calls alone.
    pub(crate) sync: Counter,
}

impl Transfers {
    pub(crate) fn count(&self, rings: bool) {
        if rings { self.ring.count() } else { self.sync.count() }
    }

    fn json(&self) -> Value {
        json!({ "ring": self.ring.get(), "sync": self.sync.get() })
    }
}

/// The figures of a mirror.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    /// Handles that were opened for the kernel to serve.
    pub(crate) by_kernel: Counter,
    /// Handles that were opened and are served here.
    pub(crate) by_us: Counter,
    pub(crate) reads: Transfers,
    pub(crate) writes: Transfers,
    /// Of `--watch`: what others did, and how often everything was looked at because some of that
    /// was lost.
    pub(crate) events: Counter,
    pub(crate) sweeps: Counter,
    /// Inodes that the kernel was asked to serve and would not, by what it said.
    refused: Mutex<BTreeMap<i32, u64>>,
}

impl Figures {
    /// The kernel would not serve a file; the first time for a reason this is said.
    pub(crate) fn refused(&self, errno: Errno) {
        let mut refused = self.refused.lock();
        let count = refused.entry(errno.raw()).or_default();
        *count += 1;
        if *count == 1 {
            tracing::warn!("no passthrough for some files, which are served here: {}", why(errno));
        }
    }

    /// All of them, where data move by `path`.
    pub(crate) fn json(&self, path: DataPath) -> Value {
        let name = |raw: i32| Errno::new(raw).and_then(Errno::name).unwrap_or("other");
        let refused = self.refused.lock();
        let fallbacks = refused.iter().map(|(raw, count)| (name(*raw).to_owned(), (*count).into()));
        let mut handles = json!({ "kernel": 0, "ring": 0, "sync": 0, "auto": 0 });
        handles["kernel"] = self.by_kernel.get().into();
        handles[path.without_kernel().name()] = self.by_us.get().into();
        json!({
            "handles": handles,
            "fallbacks": fallbacks.collect::<serde_json::Map<_, _>>(),
            "reads": self.reads.json(),
            "writes": self.writes.json(),
            "watch": { "events": self.events.get(), "sweeps": self.sweeps.get() },
        })
    }
}

/// What stands behind a refusal to register a backing file.
fn why(errno: Errno) -> String {
    let meaning = match errno {
        Errno::EPERM => "this process lacks CAP_SYS_ADMIN in the initial user namespace",
        Errno::ELOOP => "BACKING is a stacked filesystem, such as overlayfs or another passthrough",
        Errno::EOPNOTSUPP => "their filesystem has no way in for the kernel",
        _ => "the kernel could not register them",
    };
    format!("{meaning} ({errno})")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_counted_is_told_by_name() {
        let figures = Figures::default();
        figures.by_kernel.count();
        figures.by_us.count();
        figures.refused(Errno::ELOOP);
        figures.refused(Errno::ELOOP);
        figures.reads.count(true);
        figures.writes.count(false);
        figures.events.count();
        let told = figures.json(DataPath::Kernel);
        let wanted = json!({
            "handles": { "kernel": 1, "ring": 0, "sync": 0, "auto": 1 },
            "fallbacks": { "ELOOP": 2 },
            "reads": { "ring": 1, "sync": 0 },
            "writes": { "ring": 0, "sync": 1 },
            "watch": { "events": 1, "sweeps": 0 },
        });
        assert_eq!(told, wanted);
        assert_eq!(figures.json(DataPath::Ring)["handles"]["ring"], 1);
    }
}
