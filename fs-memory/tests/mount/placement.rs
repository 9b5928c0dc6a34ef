//! Shards join a lone caller on its CPU, and leave for bulk.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::common::system::run_limited;
use crate::common::{Daemon, Setup, Transport, drills};

drills!(a_lone_caller_is_joined_and_left_for_bulk, shards_stay_where_they_are_told_to);

/// A CPU that this process may run on.
fn cpu() -> String {
    let list = cpus(std::path::Path::new("/proc/self"));
    list.split([',', '-']).next().unwrap().to_owned()
}

/// Where a process or thread may run.
fn cpus(of: &std::path::Path) -> String {
    let status = fs::read_to_string(of.join("status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    line.unwrap().trim().to_owned()
}

/// Where each shard may run.
fn shards(daemon: &Daemon) -> Vec<String> {
    let tasks = fs::read_dir(format!("/proc/{}/task", daemon.pid().as_raw_nonzero())).unwrap();
    let tasks = tasks.map(|task| task.unwrap().path());
    let is_shard = |name: String| {
        name.strip_prefix("fusewire-").is_some_and(|rest| rest.trim().parse::<u32>().is_ok())
    };
    tasks
        .filter(|task| fs::read_to_string(task.join("comm")).is_ok_and(is_shard))
        .map(|task| cpus(&task))
        .collect()
}

/// Runs a script on one CPU, the mount being `$0`.
fn on(cpu: &str, daemon: &Daemon, script: &str) {
    let mut command = Command::new("taskset");
    let run = run_limited(command.args(["-c", cpu, "sh", "-c", script]).arg(daemon.mountpoint()));
    assert!(run.as_ref().is_ok_and(|(status, _)| status.success()), "{script}: {run:?}");
}

/// One LOOKUP after the other.
pub(crate) const LONE: &str = "for i in $(seq 200); do [ ! -e \"$0/none$i\" ] || exit; done";
/// Requests of 1 MiB, several at a time.
const BULK: &str = "for i in 1 2 3 4; do dd if=/dev/zero of=\"$0/f$i\" oflag=direct bs=1M count=32 \
     status=none & done; wait";

fn a_lone_caller_is_joined_and_left_for_bulk(transport: Transport) {
    let mut daemon = Daemon::start(&Setup::new(transport));
    let (cpu, home) = (cpu(), shards(&daemon));
    for _ in 0..2 {
        // While others compute on that CPU, it is left again: it would keep the caller waiting.
        let start = Instant::now();
        loop {
            on(&cpu, &daemon, LONE);
            let joined = shards(&daemon).iter().filter(|list| **list == cpu).count();
            if joined == 1 {
                break;
            }
            assert!(start.elapsed() < Duration::from_secs(60), "{:?}", shards(&daemon));
        }
        on(&cpu, &daemon, BULK);
        assert_eq!(shards(&daemon), home, "after bulk");
    }
    daemon.umount();
}

fn shards_stay_where_they_are_told_to(transport: Transport) {
    let mut daemon = Daemon::start(&Setup::new(transport).with(&["--follow-callers", "off"]));
    let home = shards(&daemon);
    on(&cpu(), &daemon, LONE);
    assert_eq!(shards(&daemon), home);
    daemon.umount();
}
