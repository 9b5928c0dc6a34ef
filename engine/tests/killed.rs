//! SIGKILL at the worst moment: the daemon is ending its session and waits for shards that hang, or
//! it tells the kernel something that has to wait.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[allow(dead_code, reason = "its session would be of this process")]
mod common;

use std::io::{BufRead as _, BufReader};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use fusewire::proto::flags::{InitFlags, InvalEntryFlags};
use fusewire::proto::op;
use fusewire::proto::{Attr, Attributes, Entry, Errno, Mode, NodeId, Notification, Opened, Result};
use fusewire::{Config, Context, Filesystem, Session, TransportChoice};
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

use common::{abort, on_both, possible};

const VALID: Duration = Duration::from_secs(3600);
const LIMIT: Duration = Duration::from_secs(10);
const PLACE: &str = "FUSEWIRE_TEST_PLACE";
const TRANSPORT: &str = "FUSEWIRE_TEST_TRANSPORT";

/// Takes data into the page cache and never answers a WRITE.
struct Stuck;

impl Filesystem for Stuck {
    const WISHES: InitFlags = InitFlags::WRITEBACK_CACHE;

    async fn lookup(&self, cx: &Context<'_>, op: op::Lookup<'_>) -> Result<Entry> {
        if op.name.as_bytes() == b"stuck" {
            // Waits for the lock that the kernel holds until this is answered.
            let (parent, flags) = (cx.node(), InvalEntryFlags::empty());
            drop(cx.notifier().send(&Notification::InvalEntry { parent, name: op.name, flags }));
            std::future::pending::<()>().await;
        }
        let nodeid = if op.name.as_bytes() == b"file" { NodeId(2) } else { Err(Errno::ENOENT)? };
        Ok(Entry { nodeid, attr: attr(nodeid), entry_valid: VALID, ..Entry::default() })
    }

    async fn getattr(&self, cx: &Context<'_>, _: op::GetAttr) -> Result<Attributes> {
        Ok(Attributes { attr: attr(cx.node()), valid: VALID })
    }

    async fn open(&self, _: &Context<'_>, _: op::Open) -> Result<Opened> {
        Ok(Opened::default())
    }

    async fn write(&self, _: &Context<'_>, _: op::Write<'_>) -> Result<u32> {
        std::thread::sleep(Duration::MAX);
        Err(Errno::EIO)
    }
}

fn attr(node: NodeId) -> Attr {
    let mode = if node == NodeId::ROOT { 0o040_777 } else { 0o100_666 };
    Attr { ino: node.0, mode: Mode(mode), nlink: 1, ..Attr::default() }
}

/// A process that mounts and serves until a signal comes, as a daemon does.
#[test]
#[ignore = "the program that the tests below start"]
fn daemon() {
    let Some(place) = std::env::var_os(PLACE) else { return };
    let transport = match std::env::var(TRANSPORT).unwrap().as_str() {
        "uring" => TransportChoice::Uring,
        _ => TransportChoice::Device,
    };
    // One shard, so that nothing behind the WRITE is answered either: since 6.18 syncfs(2) may not
    // wait for the page itself, but it does for the SETATTR of its time.
    let config = Config::new(place).transport(transport).shards(Some(1)).name("test").guard(true);
    let session = Session::mount(config, |_| Stuck).unwrap();
    println!("\nconnection {}", session.connection().unwrap());
    let _ = session.run();
}

/// The program and its mount. Dropped, nothing of them is left.
struct Daemon {
    process: Child,
    connection: u32,
    place: tempfile::TempDir,
}

impl Daemon {
    fn start(transport: TransportChoice) -> Self {
        let place = tempfile::tempdir().unwrap();
        // The threads of the test harness would take the signal otherwise, and die of it.
        let mut command = Command::new("env");
        command.arg("--block-signal=TERM").arg(std::env::current_exe().unwrap());
        command.args(["--exact", "daemon", "--include-ignored", "--nocapture"]);
        let word = if transport == TransportChoice::Uring { "uring" } else { "device" };
        command.env(PLACE, place.path()).env(TRANSPORT, word);
        let mut process = command.stdout(Stdio::piped()).process_group(0).spawn().unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let mut numbers = lines
            .map_while(std::result::Result::ok)
            .filter_map(|line| line.strip_prefix("connection ")?.parse().ok());
        let connection = numbers.next().unwrap();
        Self { process, connection, place }
    }

    fn is_connected(&self) -> bool {
        Path::new(&format!("/sys/fs/fuse/connections/{}", self.connection)).exists()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if self.is_connected() {
            abort(self.connection);
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = Command::new("umount").arg("--lazy").arg(self.place.path()).output();
    }
}

fn in_time(mut is_so: impl FnMut() -> bool) -> bool {
    let until = Instant::now() + LIMIT;
    while !is_so() {
        if Instant::now() > until {
            return false;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    true
}

fn send(process: &Child, signal: Signal) {
    kill(Pid::from_raw(process.id().cast_signed()), signal).unwrap();
}

/// Whether a program that a daemon has started waits for the daemon's shards, where no signal ends
/// it.
fn has_waiting_child(daemon: &Child) -> bool {
    let parent = format!("\nPPid:\t{}\n", daemon.id());
    let mut processes = std::fs::read_dir("/proc").unwrap().map(|one| one.unwrap().path());
    processes.any(|path| {
        let status = std::fs::read_to_string(path.join("status"));
        status.is_ok_and(|status| status.contains(&parent) && status.contains("\nState:\tD"))
    })
}

/// SIGTERM, and SIGKILL while that waits for the hanging shards to take dirty pages.
fn is_freed(transport: TransportChoice) {
    if !possible() {
        return;
    }
    let mut daemon = Daemon::start(transport);
    let mut command = Command::new("sh");
    // No descriptor of the file is closed behind the write: that would wait for the page.
    command.arg("-c").arg("exec 1<>\"$0/file\"; echo x; exec sleep 20");
    let mut client = command.arg(daemon.place.path()).spawn().unwrap();
    let name = format!("/proc/{}/comm", client.id());
    assert!(in_time(|| std::fs::read_to_string(&name).is_ok_and(|name| name == "sleep\n")));

    send(&daemon.process, Signal::SIGTERM);
    let waits = in_time(|| has_waiting_child(&daemon.process));
    send(&daemon.process, Signal::SIGKILL);
    let ended = in_time(|| daemon.process.try_wait().unwrap().is_some());
    if !ended {
        abort(daemon.connection);
    }
    send(&client, Signal::SIGKILL);
    client.wait().unwrap();
    assert!(waits, "no other process waits for the mount");
    assert!(ended, "the daemon outlived SIGKILL");
    let _ = Command::new("umount").arg("--lazy").arg(daemon.place.path()).output();
    assert!(in_time(|| !daemon.is_connected()), "the connection is left");
}

/// SIGKILL to the whole process group, while a notification waits for whom nobody answers any more.
fn is_freed_of_a_notification(transport: TransportChoice) {
    if !possible() {
        return;
    }
    let mut daemon = Daemon::start(transport);
    let mut client = Command::new("stat").arg(daemon.place.path().join("stuck")).spawn().unwrap();
    let tasks = format!("/proc/{}/task", daemon.process.id());
    let waits = in_time(|| {
        let mut tasks = std::fs::read_dir(&tasks).unwrap().map(|task| task.unwrap().path());
        tasks.any(|task| {
            let stack = std::fs::read_to_string(task.join("stack")).unwrap_or_default();
            stack.contains("fuse_reverse_inval_entry")
        })
    });
    killpg(Pid::from_raw(daemon.process.id().cast_signed()), Signal::SIGKILL).unwrap();
    let freed = in_time(|| client.try_wait().unwrap().is_some());
    let ended = in_time(|| daemon.process.try_wait().unwrap().is_some());
    if !freed {
        abort(daemon.connection);
        client.wait().unwrap();
    }
    assert!(waits, "no notification waits");
    assert!(freed && ended, "the client is free: {freed}, the daemon has ended: {ended}");
    let _ = Command::new("umount").arg("--lazy").arg(daemon.place.path()).output();
    assert!(in_time(|| !daemon.is_connected()), "the connection is left");
}

fn on(transport: TransportChoice, body: fn(TransportChoice)) {
    body(transport);
}

on_both! {
    on:
    is_freed,
    is_freed_of_a_notification,
}
