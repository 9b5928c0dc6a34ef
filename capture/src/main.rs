//! Records frames of the real kernel as golden files of `proto`.
//!
//! `cargo run -p fusewire-capture -- DIR`, as root, mounts a tiny filesystem on a temporary
//! directory, three times with different agreements, has a child process provoke every operation,
//! and writes one request and one reply of each shape below DIR; then the same over io_uring, to
//! DIR/ring. This process never touches its own mount: `client.py` does, with a time limit after
//! which the connection is aborted.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a tool fails by panicking")]

mod mounted;
mod ring;
mod run;
mod serve;
mod shape;
mod sys;
mod tree;

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use fusewire_proto::flags::InvalEntryFlags;
use fusewire_proto::{Name, NodeId, Notification, Unique};

use mounted::Mounted;
use run::{Lane, Run};
use serve::{Frames, Server};

/// How long a client may take.
const TIME_LIMIT: Duration = Duration::from_secs(60);

fn main() {
    let out = PathBuf::from(std::env::args().nth(1).expect("usage: fusewire-capture DIR"));
    for lane in Lane::ALL {
        let out = if lane == Lane::Ring { out.join("ring") } else { out.clone() };
        for run in Run::ALL {
            println!("{} over {lane:?}", run.name());
            let frames = record(run, lane);
            keep(&out, run, &frames);
        }
    }
}

/// Writes frames whose names are new.
fn keep(out: &Path, run: Run, frames: &Frames) {
    let [requests, replies, notifications] =
        ["requests", "replies", "notifications"].map(|dir| out.join(dir));
    for dir in [&requests, &replies] {
        std::fs::create_dir_all(dir).unwrap();
    }
    if !frames.notifications.is_empty() {
        std::fs::create_dir_all(&notifications).unwrap();
    }
    let mut new = 0;
    for (name, frame) in &frames.requests {
        let path = requests.join(format!("{name}.bin"));
        if !path.exists() {
            std::fs::write(path, &frame.request).unwrap();
            if !frame.reply.is_empty() {
                std::fs::write(replies.join(format!("{name}.bin")), &frame.reply).unwrap();
            }
            new += 1;
        }
    }
    for (name, message) in &frames.notifications {
        std::fs::write(notifications.join(format!("{name}.bin")), message).unwrap();
    }
    println!("{}: {new} new of {} shapes", run.name(), frames.requests.len());
}

/// Mounts, lets the client work, unmounts.
fn record(run: Run, lane: Lane) -> Frames {
    let (mut mounted, device) = Mounted::new(run).expect("mount: are you root?");
    let server = Arc::new(Server::new(device, run, lane));
    let serving = std::thread::spawn({
        let server = Arc::clone(&server);
        move || server.serve()
    });
    let client = Command::new("python3")
        .args(["-u", "-c", include_str!("../client.py"), run.name()])
        .arg(mounted.path())
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let mut client = client.expect("python3");
    let (mut to_client, from_client) =
        (client.stdin.take().unwrap(), client.stdout.take().unwrap());
    let client = Arc::new(Mutex::new(client));
    let watch = std::thread::spawn({
        let (client, abort) = (Arc::clone(&client), mounted.abort_path());
        move || watch(&client, &abort)
    });
    for line in BufReader::new(from_client).lines() {
        let line = line.unwrap();
        let Some(command) = line.strip_prefix("! ") else {
            println!("{}: {line}", run.name());
            continue;
        };
        let answer = command_of_client(&server, command);
        println!("{}: {command}: {answer}", run.name());
        // A client that was killed does not listen any more.
        let _heard = writeln!(to_client, "{answer}");
    }
    let status = watch.join().unwrap();
    println!("{}: client: {status}", run.name());
    mounted.unmount();
    serving.join().expect("the server");
    Arc::into_inner(server).unwrap().into_frames()
}

/// Waits for the client; aborts the connection and ends the client when the time is over.
fn watch(client: &Mutex<Child>, abort: &Path) -> ExitStatus {
    let start = Instant::now();
    let mut late = false;
    loop {
        let mut client = client.lock().unwrap();
        if let Some(status) = client.try_wait().unwrap() {
            return status;
        }
        if !late && start.elapsed() > TIME_LIMIT {
            late = true;
            println!("time is over: {}", abort.display());
            // Both fail where the other side is gone already, which is as good.
            let _aborted = std::fs::write(abort, "1");
            let _killed = client.kill();
        }
        drop(client);
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Sends the notification that the client asks for.
fn command_of_client(server: &Server, command: &str) -> String {
    let words: Vec<&str> = command.split(' ').collect();
    let node = |name: &str| server.tree.lock().unwrap().named(name);
    let (what, rest) = words.split_first().unwrap();
    let notify = |notification: Notification<'_>| server.notify(what, &notification);
    match (*what, rest) {
        ("poll", []) => {
            let kh = {
                let mut tree = server.tree.lock().unwrap();
                tree.ready = true;
                tree.poll_handle
            };
            notify(Notification::Poll { kh })
        }
        ("inval-entry" | "expire-entry", [name]) => {
            let expire = *what == "expire-entry";
            let flags =
                if expire { InvalEntryFlags::EXPIRE_ONLY } else { InvalEntryFlags::empty() };
            let name = Name::new(name.as_bytes()).unwrap();
            notify(Notification::InvalEntry { parent: NodeId::ROOT, name, flags })
        }
        ("inval-inode", [name]) => {
            notify(Notification::InvalInode { node: node(name), offset: 0, len: -1 })
        }
        ("delete", [name]) => {
            let child = node(name);
            let name = Name::new(name.as_bytes()).unwrap();
            notify(Notification::Delete { parent: NodeId::ROOT, child, name })
        }
        ("store", [name, data]) => {
            let data = data.as_bytes();
            notify(Notification::Store { node: node(name), offset: 0, data })
        }
        ("retrieve", [name]) => {
            let notify_unique = Unique(1 << 62 | 1);
            notify(Notification::Retrieve { notify_unique, node: node(name), offset: 0, size: 64 })
        }
        ("resend", []) => notify(Notification::Resend),
        ("inc-epoch", []) => notify(Notification::IncEpoch),
        ("prune", names) => {
            let nodes: Vec<_> = names.iter().map(|name| node(name)).collect();
            notify(Notification::Prune { nodes: &nodes })
        }
        _ => panic!("the client said {command:?}"),
    }
}
