//! Shards join callers on their CPU.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::common::system::run_limited;
use crate::common::{Daemon, Setup, Transport, drills};

drills!(a_lone_caller_is_joined, shards_stay_where_they_are_told_to);

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

fn a_lone_caller_is_joined(transport: Transport) {
    let mut daemon = Daemon::start(&Setup::new(transport));
    let cpu = cpu();
    // While others compute on that CPU it is left again: it would keep the caller waiting.
    let start = Instant::now();
    loop {
        on(&cpu, &daemon, LONE);
        let joined = shards(&daemon).iter().filter(|list| **list == cpu).count();
        if joined == 1 {
            break;
        }
        assert!(start.elapsed() < Duration::from_secs(60), "{:?}", shards(&daemon));
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
