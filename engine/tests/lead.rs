//! What a shard does beside a lone caller, over real mounts: it runs behind him, and it never keeps
//! others waiting for long.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::fs::{read_dir, read_to_string};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

use fusewire::proto::flags::InitFlags;
use fusewire::proto::op::{GetAttr, Lookup};
use fusewire::proto::{Attr, Attributes, Entry, Mode, NodeId, Result};
use fusewire::{Context, Filesystem, TransportChoice};

use common::{Mounted, on_both};

/// For one test at a time: all of them look at the threads of this process.
static ALONE: Mutex<()> = Mutex::new(());
/// How long a handler hangs.
const HANGS: Duration = Duration::from_secs(3);

/// The root, and `a file` of which nothing is kept; one that is called "hangs" hangs.
struct Plain {
    hung: Arc<AtomicU32>,
}

const FILE: NodeId = NodeId(2);

fn attr(node: NodeId) -> Attr {
    let mode = if node == FILE { 0o100_644 } else { 0o040_755 };
    Attr { ino: node.0, mode: Mode(mode), nlink: 1, ..Attr::default() }
}

impl Filesystem for Plain {
    const WISHES: InitFlags = InitFlags::empty();

    async fn lookup(&self, _: &Context<'_>, op: Lookup<'_>) -> Result<Entry> {
        if op.name.as_bytes() == b"hangs" {
            self.hung.fetch_add(1, Ordering::SeqCst);
            sleep(HANGS);
        }
        Ok(Entry { nodeid: FILE, attr: attr(FILE), ..Entry::default() })
    }

    async fn getattr(&self, cx: &Context<'_>, _: GetAttr) -> Result<Attributes> {
        Ok(Attributes { valid: Duration::ZERO, attr: attr(cx.node()) })
    }
}

/// The scheduling policy of each shard, proc(5): `/proc/PID/stat`, field 41.
fn policies() -> Vec<u32> {
    let mut policies = Vec::new();
    for task in read_dir("/proc/self/task").unwrap() {
        // It may have ended.
        let Ok(stat) = read_to_string(task.unwrap().path().join("stat")) else { continue };
        let (name, fields) = stat.rsplit_once(") ").unwrap();
        let (_, name) = name.split_once('(').unwrap();
        let index = name.strip_prefix("fusewire-").and_then(|index| index.parse::<u32>().ok());
        if index.is_some() {
            policies.push(fields.split(' ').nth(41 - 3).unwrap().parse().unwrap());
        }
    }
    policies
}

fn behind() -> usize {
    policies().iter().filter(|policy| **policy == libc::SCHED_IDLE.unsigned_abs()).count()
}

fn on(transport: TransportChoice, body: fn(&Mounted, &AtomicU32)) {
    let _alone = ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let hung = Arc::<AtomicU32>::default();
    let shared = Arc::clone(&hung);
    let make = move |_| Plain { hung: Arc::clone(&shared) };
    let Some(mounted) = Mounted::start(transport, make) else { return };
    body(&mounted, &hung);
    let stats = mounted.end();
    assert_eq!(stats.panics, 0);
}

on_both!(on: a_shard_runs_behind_its_lone_caller_and_comes_back);

/// One stat(2) after the other, for so many seconds, and then that.
fn lone(seconds: f32, then: &str) -> String {
    format!(
        "python3 -c '
import os, time
end = time.monotonic() + {seconds}
while time.monotonic() < end: os.stat(\"file\")
{then}'"
    )
}

fn a_shard_runs_behind_its_lone_caller_and_comes_back(mounted: &Mounted, _: &AtomicU32) {
    let done = AtomicBool::new(false);
    let most = scope(|scope| {
        let seen = scope.spawn(|| {
            let mut most = 0;
            while !done.load(Ordering::SeqCst) {
                most = most.max(behind());
            }
            most
        });
        let output = mounted.sh(&lone(2.0, ""));
        done.store(true, Ordering::SeqCst);
        assert!(output.status.success(), "{output:?}");
        seen.join().unwrap()
    });
    assert!(most > 0, "no shard has joined the caller");
    let start = Instant::now();
    while behind() > 0 {
        assert!(start.elapsed() < Duration::from_secs(10), "still behind: {:?}", policies());
        sleep(Duration::from_millis(1));
    }
}

/// Over io_uring a queue's requests wait for its shard, whoever leads.
#[test]
fn a_leader_that_hangs_keeps_nobody_waiting() {
    if std::thread::available_parallelism().unwrap().get() == 1 {
        return eprintln!("with one CPU there is one shard");
    }
    on(TransportChoice::Device, |mounted, hung| {
        for round in 1..4 {
            scope(|scope| {
                // Whoever leads by now gets the request that hangs.
                let hangs = scope.spawn(|| mounted.sh(&lone(0.3, "os.stat(\"hangs\")")));
                let start = Instant::now();
                while hung.load(Ordering::SeqCst) < round {
                    assert!(start.elapsed() < Duration::from_secs(15), "nothing hangs");
                    sleep(Duration::from_millis(1));
                }
                let start = Instant::now();
                let others = mounted.sh("for i in 1 2 3 4 5 6 7 8; do stat file || exit; done");
                assert!(others.status.success(), "{others:?}");
                assert!(!hangs.is_finished(), "it did not hang");
                assert!(start.elapsed() < HANGS / 2, "they waited: {:?}", start.elapsed());
                assert!(hangs.join().unwrap().status.success());
            });
        }
    });
}
