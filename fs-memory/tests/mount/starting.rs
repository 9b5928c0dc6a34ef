//! How a daemon starts, or says why it cannot.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use rustix::process::Signal;
use tempfile::TempDir;

use crate::clients::use_it;
use crate::common::system::run_limited;
use crate::common::{Daemon, Refusal, Setup, Transport, drills, open_to_all, system, why_not};

drills!(create_makes_and_removes_the_mount_point, create_leaves_what_was_there);

const BINARY: &str = env!("CARGO_BIN_EXE_fusewire-memory");

fn directory() -> TempDir {
    open_to_all(tempfile::tempdir())
}

/// The daemon must not start; its message must hold a word that helps.
fn refused(options: &[&str], mountpoint: &Path, word: &str) -> Refusal {
    let refusal = match Daemon::try_start(options, directory(), mountpoint) {
        Ok(_) => panic!("{options:?} was accepted on {}", mountpoint.display()),
        Err(refusal) => refusal,
    };
    let code = refusal.status.code();
    assert!(code.is_some_and(|code| code > 0), "{options:?}: {}", refusal.status);
    let message = &refusal.message;
    assert!(message.contains(word), "{options:?}: no {word:?} in {message:?}");
    assert!(!message.contains("panicked"), "{options:?}: {message}");
    assert!(system::mounted_at(mountpoint).is_none(), "{options:?}: a mount is left");
    refusal
}

/// Whether this machine can mount at all; says so where not.
fn can_mount(test: &str) -> bool {
    let why = why_not(Transport::Uring);
    why.inspect(|why| system::skipped(test, why)).is_none()
}

#[test]
fn a_missing_mount_point_is_an_error() {
    let base = directory();
    let missing = base.path().join("no-such-directory");
    let refusal = refused(&[], &missing, "no-such-directory");
    assert!(refusal.message.contains("--create"), "no advice: {}", refusal.message);
    assert!(!missing.exists(), "it was made all the same");
}

#[test]
fn a_file_as_mount_point_is_an_error() {
    let base = directory();
    let file = base.path().join("plain-file");
    fs::write(&file, "content").unwrap();
    for options in [&[][..], &["--create"]] {
        refused(options, &file, "plain-file");
        assert_eq!(fs::read(&file).unwrap(), b"content");
    }
}

#[test]
fn a_mount_point_below_a_file_is_an_error() {
    let base = directory();
    let file = base.path().join("plain-file");
    fs::write(&file, "content").unwrap();
    refused(&["--create"], &file.join("below"), "below");
}

#[test]
fn wrong_options_are_named() {
    let base = directory();
    for options in [
        &["--no-such-option"][..],
        &["--transport", "pigeon"],
        &["--writeback", "maybe"],
        &["--busy-poll", "10001"],
        &["--busy-poll", "soon"],
        &["--max-write", "garbage"],
        &["--max-write=-5"],
        &["--max-write", "12Q"],
        &["--size", "much"],
        &["--inodes", "many"],
        &["--memory-budget", "none"],
        &["--shards", "0"],
        &["--shards", "x"],
        &["--queue-depth", "0"],
        &["--log", "shouting"],
    ] {
        let name = options[0].split('=').next().unwrap_or_default();
        refused(options, base.path(), name);
    }
}

#[test]
fn an_option_that_the_kernel_refuses_is_named() {
    if can_mount("an_option_that_the_kernel_refuses_is_named") {
        let base = directory();
        refused(&["--options", "no_such_mount_option"], base.path(), "no_such_mount_option");
    }
}

#[test]
fn a_stats_file_that_cannot_be_written_is_an_error() {
    let base = directory();
    let file = base.path().join("missing/stats.json");
    let ended = run_limited(Command::new(BINARY).arg("--stats").arg(&file).arg(base.path()));
    let mounted = system::mounted_at(base.path()).is_some();
    if mounted {
        system::umount(base.path(), &["-l"]).unwrap();
    }
    let (status, message) = ended.expect("an end");
    assert!(!status.success(), "it ended well");
    assert!(message.contains("stats.json"), "{message:?}");
    assert!(!mounted, "a mount is left");
}

#[test]
fn help_and_version_need_no_mount_point() {
    for (option, word) in [("--help", "--writeback"), ("--version", env!("CARGO_PKG_VERSION"))] {
        let (status, text) = run_limited(Command::new(BINARY).arg(option)).expect("an end");
        assert!(status.success() && text.contains(word), "{option}: {text}");
    }
}

#[test]
fn uring_switched_off_is_an_error_where_it_was_asked_for() {
    if can_mount("uring_switched_off_is_an_error_where_it_was_asked_for") {
        let base = directory();
        let _off = system::UringSwitchedOff::now().unwrap();
        let started =
            Daemon::try_start_unlocked(&["--transport", "uring"], directory(), base.path());
        let refusal = started.map(|_| ()).expect_err("uring although it is switched off");
        assert!(refusal.status.code().is_some_and(|code| code > 0), "{}", refusal.status);
        assert!(refusal.message.contains("enable_uring"), "no advice: {}", refusal.message);
        assert!(system::mounted_at(base.path()).is_none(), "a mount is left");
    }
}

#[test]
fn auto_falls_back_and_says_why() {
    if can_mount("auto_falls_back_and_says_why") {
        let base = directory();
        let off = system::UringSwitchedOff::now().unwrap();
        let options = ["--transport", "auto", "--log", "info"];
        let started = Daemon::try_start_unlocked(&options, directory(), base.path());
        drop(off);
        let mut daemon = started.expect("a mount without uring");
        assert_eq!(daemon.ready().transport, "device");
        let said = daemon.messages();
        assert!(said.contains("enable_uring"), "no reason: {said:?}");
        let why = daemon.stats().field("transport_why").to_string();
        assert!(why.contains("enable_uring"), "no reason in the stats: {why}");
        use_it(&daemon);
        daemon.umount();
    }
}

#[test]
fn auto_says_what_it_took() {
    if can_mount("auto_says_what_it_took") {
        let base = directory();
        let started = Daemon::try_start(&["--shards", "2"], directory(), base.path());
        let mut daemon = started.expect("a mount with no transport chosen");
        let taken = daemon.ready().transport.clone();
        assert!(["uring", "device"].contains(&taken.as_str()), "{taken}");
        assert!(daemon.ready().writeback, "write-back is on by default");
        use_it(&daemon);
        assert_eq!(*daemon.stats().field("transport"), taken);
        daemon.umount();
    }
}

fn create_makes_and_removes_the_mount_point(transport: Transport) {
    for by_signal in [false, true] {
        let base = directory();
        let mountpoint = base.path().join("made/too");
        let options = ["--create", "--transport", transport.name()];
        let mut daemon = Daemon::try_start(&options, directory(), &mountpoint).expect("a mount");
        use_it(&daemon);
        if by_signal {
            daemon.signal(Signal::TERM);
            daemon.wait_for_success();
        } else {
            daemon.umount();
        }
        let left = fs::read_dir(base.path()).expect("what was there before").count();
        assert_eq!(left, 0, "a directory is left; by signal: {by_signal}");
    }
}

fn create_leaves_what_was_there(transport: Transport) {
    let mut daemon = Daemon::start(&Setup::new(transport).with(&["--create"]));
    use_it(&daemon);
    let mountpoint = daemon.mountpoint().to_owned();
    daemon.umount();
    let status = fs::metadata(&mountpoint).expect("the directory that was there before");
    assert_eq!(status.permissions().mode() & 0o777, 0o755, "mode");
}
