//! What the clients of a daemon do that is about to end: whole lives of files, and waiting.
//!
//! Each runs in a process of its own, is told what to do by name, and tells how it went.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rustix::io::Errno;
use serde_json::{Value, json};

use crate::common::{Client, Daemon, open_rw, pattern, read_at, same_bytes, tell};

const VARIABLE: &str = "FUSEWIRE_TEST_CLIENT";

/// Time for one step of a client.
pub(crate) const STEP: Duration = Duration::from_secs(30);

/// What a system call may say once the daemon is gone. A request that the ring's thread was about
/// to take when it died is cancelled.
const GONE: [Errno; 6] =
    [Errno::NOTCONN, Errno::CONNABORTED, Errno::IO, Errno::NODEV, Errno::SHUTDOWN, Errno::CANCELED];

/// A client's word for an error.
pub(crate) fn word(errno: Errno) -> String {
    format!("errno {}", errno.raw_os_error())
}

/// Starts a client of a daemon's mount.
pub(crate) fn start(daemon: &Daemon, what: &str) -> Client {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let order = json!({ "what": what, "root": daemon.mountpoint(), "number": number }).to_string();
    let errors = daemon.work().join(format!("client-errors-{number}"));
    Client::start("clients::client_process", VARIABLE, &order, &errors)
}

/// Bytes that the order "dirty" writes and does not sync.
pub(crate) const DIRTY: usize = 1 << 20;

/// A file's whole life in the mount.
pub(crate) fn use_it(daemon: &Daemon) {
    start(daemon, "use").expect_line("fine", STEP);
}

/// Clients that are in the middle of their work.
pub(crate) fn start_load(daemon: &Daemon, count: usize) -> Vec<Client> {
    let clients: Vec<_> = (0..count).map(|_| start(daemon, "load")).collect();
    for client in &clients {
        client.expect_line("started", STEP);
    }
    clients
}

/// Each client must have been told that the daemon is gone.
pub(crate) fn were_told(clients: Vec<Client>) {
    for client in clients {
        let line = client.line(STEP).unwrap_or_else(|| panic!("no line: {}", client.errors()));
        assert!(is_gone(&line), "a client ended with {line}");
    }
}

/// Whether a client's line is one of the errors of a mount without a daemon.
pub(crate) fn is_gone(line: &str) -> bool {
    GONE.iter().any(|errno| word(*errno) == line)
}

/// The other side of [`start`]; does nothing when nobody gave an order.
#[test]
#[ignore = "the program of client processes"]
fn client_process() {
    let Ok(order) = std::env::var(VARIABLE) else { return };
    let order: Value = serde_json::from_str(&order).unwrap();
    let root = Path::new(order["root"].as_str().unwrap());
    let number = order["number"].as_u64().unwrap();
    match order["what"].as_str().unwrap() {
        "use" => {
            life_of_a_file(root, number).unwrap();
            tell("fine");
        }
        "load" => {
            // A path from the outside would soon lead into the directory below the mount.
            std::env::set_current_dir(root).unwrap();
            load(Path::new("."), number);
        }
        "hold" => hold(root),
        "look" => tell(&said(fs::metadata(root.join("anything")))),
        "list" => tell(&said(fs::read_dir(root).and_then(Iterator::collect::<io::Result<Vec<_>>>))),
        other => panic!("unknown order {other}"),
    }
}

/// The name of an error, as the test compares it.
fn said<T>(result: io::Result<T>) -> String {
    match result {
        Ok(_) => "no error".to_owned(),
        Err(error) => Errno::from_io_error(&error).map_or(error.to_string(), word),
    }
}

fn life_of_a_file(root: &Path, number: u64) -> io::Result<()> {
    let (name, other) = (root.join(format!("use-{number}")), root.join(format!("used-{number}")));
    let data = pattern(300_000, number);
    let file = File::options().read(true).write(true).create_new(true).open(&name)?;
    file.write_all_at(&data, 0)?;
    assert_eq!(file.metadata()?.len(), 300_000, "size");
    file.sync_all()?;
    let mut got = vec![0; data.len()];
    file.read_exact_at(&mut got, 0)?;
    same_bytes(&got, &data, "content");
    drop(file);
    let names = fs::read_dir(root)?.map(|entry| entry.map(|entry| entry.path()));
    assert!(names.collect::<io::Result<Vec<_>>>()?.contains(&name), "not listed");
    fs::rename(&name, &other)?;
    fs::remove_file(&other)
}

/// Lives of files one after the other, until the daemon is gone.
fn load(root: &Path, number: u64) {
    life_of_a_file(root, number).unwrap();
    tell("started");
    loop {
        let lives = life_of_a_file(root, number);
        if lives.is_err() {
            return tell(&said(lives));
        }
    }
}

/// Keeps a file open, and does a step for each line that it gets.
fn hold(root: &Path) {
    let file = open_rw(&root.join("held"));
    file.write_all_at(b"before", 0).unwrap();
    file.sync_all().unwrap();
    tell("open");
    for line in io::stdin().lines() {
        match line.unwrap().as_str() {
            "work" => {
                file.write_all_at(b"after", 6).unwrap();
                file.sync_all().unwrap();
                same_bytes(&read_at(&file, 100, 0), b"beforeafter", "content");
                tell("worked");
            }
            "dirty" => {
                file.write_all_at(&pattern(DIRTY, 1), 4096).unwrap();
                tell("dirty");
            }
            // No answer to this comes from a cache.
            "try" => tell(&said(file.set_len(3))),
            _ => break,
        }
    }
    drop(file);
    tell("closed");
    let _ = io::stdout().flush();
}
