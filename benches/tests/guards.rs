//! What a request costs in counts, not in time, which would measure the neighbours: entries into
//! the kernel, wake-ups, memory. The limits and their reasons stand in `guards.json`, also those of
//! instructions, which `benches/instructions.rs` counts. That nothing is allocated needs no limit:
//! `engine/tests/no_alloc.rs`.

#![allow(missing_docs, clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use fusewire_benches::child::{Stop, Tool};
use fusewire_benches::daemon::Mounted;
use fusewire_benches::load::{Load, Order, Transfer};
use fusewire_benches::machine;
use serde::Deserialize;
use serde_json::Value;

const TOOL: &str = env!("CARGO_BIN_EXE_fusewire-bench");
const SIZE: u64 = 4 << 20;
/// What guards of instructions begin with.
const INSTRUCTIONS: &str = "instructions: ";

#[derive(Deserialize)]
struct Guard {
    name: String,
    most: f64,
    why: String,
}

/// What was counted, by the names of the guards.
type Counts = BTreeMap<String, f64>;

fn fusewire_memory() -> PathBuf {
    let path = Path::new(TOOL).with_file_name("fusewire-memory");
    if !path.exists() {
        let mut cargo = Command::new(env!("CARGO"));
        assert!(cargo.args(["build", "-q", "-p", "fusewire-memory"]).status().unwrap().success());
    }
    path
}

/// A number of a file of /proc in which each line has a name.
fn number(text: &str, name: &str) -> f64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.and_then(|line| line.split_whitespace().next()).unwrap().parse().unwrap()
}

/// How often the threads of a process went to sleep so far.
fn sleeps(pid: u32) -> f64 {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
    let status = |task: fs::DirEntry| fs::read_to_string(task.path().join("status")).ok();
    tasks.filter_map(status).map(|text| number(&text, "voluntary_ctxt_switches")).sum()
}

fn reads(depth: usize) -> Transfer {
    Transfer {
        file: "hole".to_owned(),
        size: SIZE,
        block: (4096, 4096),
        random: true,
        writes: 0,
        depth,
        clients: 1,
        direct: true,
        sync_every: None,
        rate: None,
        milliseconds: 300,
        seed: 1,
        hole: true,
    }
}

/// Counts on one mount.
fn count(transport: &str, depth: usize, counts: &mut Counts) {
    let work = tempfile::tempdir().unwrap();
    let stats = work.path().join("stats.json");
    let tool = Tool { binary: TOOL.into(), stop: Stop::default() };
    let mut command = tool.command(fusewire_memory().as_os_str());
    // One shard: of several, all that wait for /dev/fuse wake for a request, and how many of them
    // look for it before they sleep again is chance.
    let options = ["--transport", transport, "--shards", "1", "--log", "error", "--stats"];
    command.args(options).arg(&stats);
    let directory = work.path().join("mount");
    command.arg(&directory);
    let mounted = Mounted::start(command, directory.clone(), &tool.stop).unwrap();
    let pid = mounted.pid().unwrap();
    if depth == 1 {
        mounted.settle();
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let resident = number(&status, "VmRSS");
        counts.insert(format!("{transport}: resident KiB of an idle mount"), resident);
        counts.insert(format!("{transport}: locked KiB"), number(&status, "VmLck"));
    }
    let run = |load: Load| {
        let order = Order { load, directory: directory.clone() };
        tool.load(&order, Duration::from_secs(60), || sleeps(pid), || mounted.free()).unwrap()
    };
    run(Load::Hole("hole".to_owned(), SIZE));
    let timed = run(Load::Transfer(reads(depth)));
    drop(mounted);
    let text = fs::read_to_string(&stats).unwrap();
    let stats: Value = serde_json::from_str(&text).unwrap();
    let served = stats["opcodes"]["READ"]["requests"].as_f64().unwrap();
    #[expect(clippy::cast_precision_loss, reason = "a count")]
    let asked = timed.outcome.operations as f64;
    assert!(asked > 100.0 && (served - asked).abs() < 1.0, "{asked} were asked for, {text}");
    let enters = stats["enters"].as_f64().unwrap();
    counts.insert(format!("{transport}, depth {depth}: enters per READ"), enters / served);
    if depth == 32 {
        let name = format!("{transport}, depth 32: wake-ups per READ");
        counts.insert(name, (timed.after - timed.before) / served);
    }
}

fn guards() -> Vec<Guard> {
    serde_json::from_str(include_str!("../guards.json")).unwrap()
}

#[test]
fn every_guard_of_instructions_has_its_count() {
    let counts = include_str!("../benches/instructions.rs");
    let guards = guards();
    let names = guards.iter().map(|guard| &*guard.name).filter(|one| one.starts_with(INSTRUCTIONS));
    let names: BTreeSet<&str> = names.collect();
    let counted = counts.split("guarded(\"").skip(1).filter_map(|text| text.split('"').next());
    assert_eq!(names, counted.collect());
}

#[test]
fn no_count_is_above_its_guard() {
    let root = rustix::process::geteuid().is_root();
    if !root || !machine::has_uring() || !Path::new("/dev/fuse").exists() {
        assert!(std::env::var_os("FUSEWIRE_REQUIRE_MOUNT").is_none(), "no mounts here");
        return eprintln!("SKIPPED: needs root, /dev/fuse and FUSE-over-io_uring");
    }
    let guards = guards();
    let mut counts = Counts::new();
    for transport in ["uring", "device"] {
        for depth in [1, 8, 32] {
            count(transport, depth, &mut counts);
        }
    }
    let mut broken = Vec::new();
    for guard in guards.iter().filter(|guard| !guard.name.starts_with(INSTRUCTIONS)) {
        let counted = counts.remove(&guard.name).unwrap_or_else(|| panic!("{}?", guard.name));
        println!("{}: {counted:.3}, at most {}", guard.name, guard.most);
        if counted > guard.most {
            let Guard { name, most, why } = guard;
            broken.push(format!("{name}: {counted:.3} is more than {most}: {why}"));
        }
    }
    assert!(counts.is_empty(), "without a guard: {counts:?}");
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}
