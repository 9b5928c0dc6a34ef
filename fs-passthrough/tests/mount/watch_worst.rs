//! `--watch` when it gets difficult: events are lost, clients are stuck where the kernel must be
//! told something, nothing can be watched.

use std::fs::{self, File};
use std::io::{self, Write};
use std::mem::MaybeUninit;
use std::os::unix::fs::{MetadataExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use memmap2::MmapMut;
use rustix::fs::RawDir;
use rustix::io::Errno;
use rustix::process::Signal;

use crate::common::system::{self, run_limited};
use crate::common::{
    Client, Daemon, Place, Plan, Setup, Transport, cases, drills, fails, open_rw, open_to_all, tell,
};
use crate::watch::{KEPT, WATCHED, soon, watch_figure};
use crate::{Other, backing};

cases!(mounts, Plan::new().options(WATCHED).seconds(120); lost_events_lose_no_change);
cases!(
    served_through, Plan::new().options(WATCHED).beside(false);
    clients_that_are_stuck_hold_up_their_directories_alone,
);
cases!(
    served_through, Plan::new().options(KEPT);
    a_name_known_to_be_missing_appears_after_lost_events,
);
drills!(a_signal_frees_all_others_of_who_is_stuck, what_cannot_be_watched_is_refused);

const LIMIT: Duration = Duration::from_secs(15);

/// fs.fanotify.max_queued_events, for all groups of a user namespace.
fn queue_len() -> usize {
    let text = fs::read_to_string("/proc/sys/fs/fanotify/max_queued_events").unwrap();
    text.trim().parse().unwrap()
}

fn fill_the_queue(outside: &Path) {
    for number in 0..queue_len() / 2 + 100 {
        fs::write(outside.join("noise"), "").unwrap();
        fs::rename(outside.join("noise"), outside.join(format!("n{number}"))).unwrap();
        fs::remove_file(outside.join(format!("n{number}"))).unwrap();
    }
}

/// Which names are known to be missing nobody remembers, so they are so for 10 s.
fn a_name_known_to_be_missing_appears_after_lost_events(place: &Place) {
    fails(fs::metadata(place.path("f")), Errno::NOENT, "before");
    let stopped = place.stopped();
    fill_the_queue(&backing(place));
    fs::write(backing(place).join("f"), "").unwrap();
    drop(stopped);
    let until = Instant::now() + Duration::from_secs(12);
    while fs::metadata(place.path("f")).is_err() {
        assert!(Instant::now() < until, "it never shows");
        thread::sleep(Duration::from_millis(20));
    }
}

/// More happens than the kernel keeps while the daemon is stopped. A filesystem that is mounted
/// inside of the mount stays.
fn lost_events_lose_no_change(place: &Place) {
    let outside = backing(place);
    for name in ["d/sub", "d/mnt", "gone"] {
        fs::create_dir_all(outside.join(name)).unwrap();
    }
    for name in ["data", "d/mode", "d/removed", "d/sub/below", "moved"] {
        fs::write(outside.join(name), name).unwrap();
        assert_eq!(fs::read_to_string(place.path(name)).unwrap(), name);
    }
    fs::metadata(place.path("gone")).unwrap();
    let held = File::open(place.path("d/removed")).unwrap();
    let inner = Other::mount(&["-t", "tmpfs", "none"], &place.path("d/mnt"));
    fs::write(place.path("d/mnt/file"), "inside").unwrap();
    // A name that is known by a rename of ours.
    fs::rename(place.path("moved"), place.path("there")).unwrap();
    for round in 1..=2 {
        let stopped = place.stopped();
        fill_the_queue(&outside);
        fs::write(outside.join("data"), format!("data of round {round}")).unwrap();
        let mode = if round == 1 { 0o600 } else { 0o640 };
        let permissions = std::os::unix::fs::PermissionsExt::from_mode(mode);
        fs::set_permissions(outside.join("d/mode"), permissions).unwrap();
        if round == 1 {
            fs::remove_file(outside.join("d/removed")).unwrap();
            fs::rename(outside.join("d/sub"), outside.join("sub")).unwrap();
            fs::remove_dir(outside.join("gone")).unwrap();
            fs::rename(outside.join("there"), outside.join("elsewhere")).unwrap();
        }
        drop(stopped);
        let text = || fs::read_to_string(place.path("data")).unwrap();
        soon("data", || text() == format!("data of round {round}"));
        let status = || fs::metadata(place.path("d/mode")).unwrap();
        soon("the mode", || status().mode() & 0o777 == mode);
        for name in ["d/removed", "d/sub/below", "gone", "there"] {
            soon(name, || fs::metadata(place.path(name)).is_err());
        }
        assert_eq!(fs::read_to_string(place.path("sub/below")).unwrap(), "d/sub/below");
        assert_eq!(fs::read_to_string(place.path("d/mnt/file")).unwrap(), "inside", "unmounted");
        soon("a sweep", || watch_figure(place, "sweeps") >= round);
    }
    soon("no link is left", || held.metadata().unwrap().nlink() == 0);
    drop(inner);
}

/// Memory of which a page is on the other mount, where nobody answers for it.
fn memory_that_never_comes(file: &Path) -> MmapMut {
    let file = open_rw(file);
    // SAFETY: nobody shortens the file while it is mapped.
    unsafe { MmapMut::map_mut(&file) }.unwrap()
}

/// Lists `directory` into `memory`, and holds the lock of the directory until that comes.
fn list_into(directory: &Path, memory: &mut MmapMut) {
    let directory = File::open(directory).unwrap();
    let bytes = memory.as_mut_ptr().cast::<MaybeUninit<u8>>();
    // SAFETY: the memory is mapped for as long as it is borrowed; what may be anything may be this.
    let memory = unsafe { std::slice::from_raw_parts_mut(bytes, memory.len()) };
    let mut entries = RawDir::new(&directory, memory);
    while let Some(entry) = entries.next() {
        entry.unwrap();
    }
}

/// Requests of a connection that are not answered.
fn waiting(connection: u32) -> usize {
    let file = format!("/sys/fs/fuse/connections/{connection}/waiting");
    fs::read_to_string(file).unwrap().trim().parse().unwrap()
}

/// More than may wait in all.
const MANY: usize = 70_000;

/// As many as there may be; names elsewhere, and attributes and data everywhere, are told of, also
/// where so much happens in one of theirs that its names find no room.
fn clients_that_are_stuck_hold_up_their_directories_alone(place: &Place) {
    const STUCK: usize = 3;
    let outside = backing(place);
    let directory = |number: usize| format!("d{number}");
    for number in 0..STUCK {
        fs::create_dir(outside.join(directory(number))).unwrap();
        for name in ["f", "last"] {
            fs::write(outside.join(directory(number)).join(name), name).unwrap();
            fs::metadata(place.path(&directory(number)).join(name)).unwrap();
        }
        fs::write(backing(place.beside()).join(directory(number)), vec![0; 32768]).unwrap();
    }
    fs::write(outside.join("file"), "file").unwrap();
    let known = File::open(place.path("d0/f")).unwrap();
    assert_eq!(fs::read_to_string(place.path("file")).unwrap(), "file");
    let listed = AtomicUsize::new(0);
    let mut memory: Vec<_> = (0..STUCK)
        .map(|number| memory_that_never_comes(&place.beside().path(&directory(number))))
        .collect();
    thread::scope(|scope| {
        let device = fs::metadata(place.beside().root()).unwrap().dev();
        let connection = rustix::fs::minor(device);
        let stopped = place.beside().stopped();
        for (number, memory) in memory.iter_mut().enumerate() {
            let (path, listed) = (place.path(&directory(number)), &listed);
            scope.spawn(move || {
                list_into(&path, memory);
                listed.fetch_add(1, Ordering::SeqCst);
            });
        }
        soon("clients that are stuck", || waiting(connection) == STUCK);
        for number in 0..STUCK {
            fs::remove_file(outside.join(directory(number)).join("f")).unwrap();
        }
        for round in 0..20 {
            let name = format!("new{round}");
            fs::write(outside.join(&name), &name).unwrap();
            soon(&name, || fs::read_to_string(place.path(&name)).is_ok_and(|text| text == name));
            fs::rename(outside.join(&name), outside.join("file")).unwrap();
            soon("a rename", || fs::read_to_string(place.path("file")).unwrap() == name);
        }
        let many = outside.join(directory(0));
        let (before, sweeps) = (watch_figure(place, "events"), watch_figure(place, "sweeps"));
        for number in 0..MANY {
            symlink("x", many.join(number.to_string())).unwrap();
            if number % 8192 == 0 {
                let wanted = before + number as u64;
                soon("its events", || watch_figure(place, "events") >= wanted);
            }
        }
        let daemon = place.stopped();
        fill_the_queue(&outside);
        fs::remove_file(many.join("last")).unwrap();
        drop(daemon);
        soon("a sweep", || watch_figure(place, "sweeps") > sweeps);
        fs::rename(outside.join("file"), outside.join("moved")).unwrap();
        soon("a name elsewhere", || fs::metadata(place.path("file")).is_err());
        soon("links of a file there", || known.metadata().unwrap().nlink() == 0);
        assert_eq!(listed.load(Ordering::SeqCst), 0, "they were not stuck");
        drop(stopped);
    });
    for number in 0..STUCK {
        let path = place.path(&directory(number)).join("f");
        soon("the rest", || fs::metadata(&path).is_err());
    }
    soon("what found no room", || fs::metadata(place.path("d0/last")).is_err());
}

const ORDER: &str = "FUSEWIRE_TEST_STUCK";

/// A client that lists a directory into memory that never comes.
#[test]
#[ignore = "the program that the test below starts"]
fn stuck_process() {
    let Ok(order) = std::env::var(ORDER) else { return };
    let (directory, file) = order.split_once('\n').unwrap();
    let mut memory = memory_that_never_comes(Path::new(file));
    tell("mapped");
    io::stdin().read_line(&mut String::new()).unwrap();
    list_into(Path::new(directory), &mut memory);
}

fn a_signal_frees_all_others_of_who_is_stuck(transport: Transport) {
    for signal in [Signal::TERM, Signal::KILL] {
        all_others_are_freed(transport, signal);
    }
}

/// The daemon's own end may have to wait for whoever is stuck.
fn all_others_are_freed(transport: Transport, signal: Signal) {
    let words = ["--watch", "--entry-timeout", "3600", "--attr-timeout", "0"];
    let mut daemon = Daemon::start(&Setup::new(transport).with(&words));
    let beside = Daemon::start(&Setup::new(transport));
    let outside = daemon.work().join("backing");
    fs::create_dir(outside.join("d")).unwrap();
    fs::write(outside.join("d/f"), "f").unwrap();
    fs::write(beside.work().join("backing/memory"), vec![0; 32768]).unwrap();
    let mountpoint = daemon.mountpoint().to_str().unwrap().to_owned();
    let order = format!("{mountpoint}/d\n{}/memory", beside.mountpoint().to_str().unwrap());
    let errors = beside.work().join("stuck-errors");
    let mut stuck = Client::start("watch_worst::stuck_process", ORDER, &order, &errors);
    stuck.expect_line("mapped", LIMIT);
    let stopped = beside.stopped();
    stuck.send("go");
    soon("a client that is stuck", || waiting(beside.connection()) == 1);
    // What is asked over io_uring of threads that are gone, and before the end of the connection,
    // the kernel (6.18) ends with the last descriptor only; so this one asks before or after that.
    let script = match signal {
        Signal::KILL => "cd \"$0\"; read word; ! stat d",
        _ => "cd \"$0\"; while stat d >/dev/null 2>&1; do sleep 0.02; done",
    };
    let mut shell = Command::new("sh");
    let shell = shell.arg("-c").arg(script).arg(&mountpoint).stdin(Stdio::piped());
    let mut other = shell.stderr(Stdio::null()).spawn().unwrap();
    let cwd = format!("/proc/{}/cwd", other.id());
    soon("a client inside", || fs::read_link(&cwd).is_ok_and(|cwd| cwd == daemon.mountpoint()));
    fs::remove_file(outside.join("d/f")).unwrap();
    let tasks = format!("/proc/{}/task", daemon.pid().as_raw_nonzero());
    soon("a notification that waits", || {
        let mut tasks = fs::read_dir(&tasks).unwrap().map(|task| task.unwrap().path());
        tasks.any(|task| fs::read_to_string(task.join("stat")).unwrap().contains(") D "))
    });
    let pid = daemon.pid().as_raw_nonzero();
    let guard = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    let guard = format!("/proc/{}/stat", guard.trim());
    assert!(fs::exists(&guard).unwrap(), "the daemon has no other process");
    daemon.signal(signal);
    if signal == Signal::KILL {
        let is_over = |stat: io::Result<String>| stat.is_ok_and(|stat| stat.contains(") Z "));
        soon("the end of the connection", || {
            !fs::exists(&guard).unwrap() || is_over(fs::read_to_string(&guard))
        });
        writeln!(other.stdin.take().unwrap(), "go").unwrap();
    }
    let freed = system::wait_for_exit(&mut other, LIMIT);
    drop(stopped);
    let ended = stuck.wait(LIMIT);
    let _ = other.kill();
    let _ = other.wait();
    assert!(freed.is_some_and(|status| status.success()), "who is not stuck: {freed:?}");
    assert!(ended.is_some(), "who was stuck");
    daemon.wait();
}

fn what_cannot_be_watched_is_refused(transport: Transport) {
    let mut arguments = Setup::new(transport).with(&["--watch"]).arguments();
    let work = || open_to_all(tempfile::Builder::new().prefix("fusewire-test-").tempdir());
    let refused = |command: &mut Command, why: &str| {
        let (status, text) = run_limited(command).unwrap();
        assert!(!status.success() && text.contains("--watch") && text.contains(why), "{text}");
    };
    let place = work();
    let mountpoint = place.path().join("mnt");
    fs::create_dir(&mountpoint).unwrap();
    arguments.push(mountpoint.to_str().unwrap().to_owned());
    let daemon = || Command::new(env!("CARGO_BIN_EXE_fusewire-passthrough"));
    refused(daemon().arg("/proc").args(&arguments), "no file handles, or no fsid");
    refused(crate::daemon(place.path()).args(&arguments).uid(65534), "it takes root");
}
