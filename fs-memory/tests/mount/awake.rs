//! A shard waits awake for who makes one request after the other, and for nobody
//! else.

use std::fs;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::common::system::run_limited;
use crate::common::{Daemon, Setup, Transport, drills};
use crate::placement::LONE;

drills!(
    a_lone_caller_is_met_awake,
    nobody_is_met_awake_where_that_is_not_wanted,
    a_mount_that_nobody_uses_takes_no_cpu,
    forgets_come_together,
    forgets_come_at_once_where_room_is_short,
);

/// Over io_uring a shard joins a lone caller instead, where it may.
const LONG: &[&str] = &["--busy-poll", "10000", "--follow-callers", "off"];

fn lookups(daemon: &Daemon) {
    let run = run_limited(Command::new("sh").args(["-c", LONE]).arg(daemon.mountpoint()));
    assert!(run.as_ref().is_ok_and(|(status, _)| status.success()), "{run:?}");
}

fn busy_polled(daemon: &Daemon) -> u64 {
    daemon.stats().number("busy_polled")
}

fn a_lone_caller_is_met_awake(transport: Transport) {
    let mut daemon = Daemon::start(&Setup::new(transport).with(LONG));
    // Half of one CPU is none, and who has to share all CPUs stands back.
    let can_be = std::thread::available_parallelism().is_ok_and(|cpus| cpus.get() > 1);
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        lookups(&daemon);
        let met = busy_polled(&daemon);
        if !can_be {
            assert_eq!(met, 0);
            break;
        }
        if met > 0 {
            let stats = daemon.stats();
            let all = stats.number("by_device") + stats.number("by_uring");
            assert!(met <= all, "{met} of {all} requests");
            break;
        }
        assert!(Instant::now() < deadline, "every request found the daemon asleep");
    }
    daemon.umount();
}

/// Makes 2000 files and removes them: messages with FORGETs meanwhile, and how long it took.
fn forgets(daemon: &Daemon) -> (u64, u128) {
    let run = |script: &str| {
        let mut shell = Command::new("sh");
        let run = run_limited(shell.args(["-c", script]).arg(daemon.mountpoint()));
        assert!(run.as_ref().is_ok_and(|(status, _)| status.success()), "{run:?}");
    };
    let messages = || {
        let stats = daemon.stats();
        stats.requests("FORGET") + stats.requests("BATCH_FORGET")
    };
    run("cd \"$0\" && for i in $(seq 2000); do : > $i; done");
    let (before, start) = (messages(), Instant::now());
    run("cd \"$0\" && rm *");
    let (after, ms) = (messages(), start.elapsed().as_millis());
    println!("{} messages in {ms} ms", after - before);
    (after - before, ms)
}

/// Nobody waits for a FORGET: beside a ring they wake a shard once in a millisecond at most.
fn forgets_come_together(transport: Transport) {
    let mut daemon = Daemon::start(&Setup::new(transport));
    let (forgets, ms) = forgets(&daemon);
    assert!(forgets > 0);
    assert!(transport == Transport::Device || u128::from(forgets) <= ms + 1);
    daemon.umount();
}

fn forgets_come_at_once_where_room_is_short(transport: Transport) {
    let mut daemon = Daemon::start(&Setup::new(transport).with(&["--size", "64M"]));
    let deadline = Instant::now() + Duration::from_secs(30);
    // On a busy machine some come together anyway.
    loop {
        let (forgets, ms) = forgets(&daemon);
        if u128::from(forgets) > ms + 1 {
            break;
        }
        assert!(Instant::now() < deadline, "{forgets} in {ms} ms");
    }
    daemon.umount();
}

fn nobody_is_met_awake_where_that_is_not_wanted(transport: Transport) {
    let mut daemon = Daemon::start(&Setup::new(transport).with(&["--busy-poll", "0"]));
    lookups(&daemon);
    assert_eq!(busy_polled(&daemon), 0);
    daemon.umount();
}

/// Clock ticks that a process has had, of 10 ms.
fn ticks(daemon: &Daemon) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{}/stat", daemon.pid().as_raw_nonzero()));
    let stat = stat.unwrap();
    let (_, fields) = stat.rsplit_once(") ").unwrap();
    fields.split(' ').skip(11).take(2).map(|field| field.parse::<u64>().unwrap()).sum()
}

fn a_mount_that_nobody_uses_takes_no_cpu(transport: Transport) {
    let mut daemon = Daemon::start(&Setup::new(transport).with(LONG));
    lookups(&daemon);
    // The last one is waited for in vain, and who looks after a shard that has joined its caller
    // goes on for some looks, each as late as a busy machine makes it.
    sleep(Duration::from_secs(1));
    let before = ticks(&daemon);
    sleep(Duration::from_secs(1));
    let taken = ticks(&daemon) - before;
    assert!(taken <= 2, "{taken} ticks");
    daemon.umount();
}
