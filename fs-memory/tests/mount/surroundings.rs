//! How a daemon gets along with less than everything: no device, few descriptors, little memory,
//! no io_uring, no `fsopen`, no root.
//!
//! Each script runs in a mount namespace of its own, which takes what it mounts with it.

use std::os::unix::process::CommandExt;
use std::process::Command;

use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, apply_filter};

use crate::common::system::run_limited;
use crate::common::{Transport, open_to_all, system, why_not};

const BINARY: &str = env!("CARGO_BIN_EXE_fusewire-memory");
/// System calls that the launcher forbids: numbers with the errno, such as `425=1`.
const FORBID: &str = "FUSEWIRE_TEST_FORBID";

/// `start OPTION...` starts a daemon and waits for it; `stop` ends it well.
const FUNCTIONS: &str = r#"
    set -eu
    pid=
    trap '[ -z "$pid" ] || kill "$pid"; wait' EXIT
    start() {
        $AS $DAEMON "$@" "$MOUNTPOINT" >"$WORK/log" 2>&1 &
        pid=$!
        until grep -q '^mounted ' "$WORK/log"; do
            kill -0 "$pid" 2>/dev/null || { pid=; cat "$WORK/log"; exit 1; }
            sleep 0.05
        done
    }
    use() {
        $AS sh -c 'head -c 3000000 /dev/urandom >"$0/a" && cp "$0/a" "$0/b" && cmp "$0/a" "$0/b" &&
            mkdir "$0/d" && mv "$0/b" "$0/d/c" && ls "$0/d"' "$MOUNTPOINT"
    }
    stop() {
        kill -TERM "$pid"
        wait "$pid"
        pid=
        cat "$WORK/log"
        ! grep " $MOUNTPOINT fuse" /proc/mounts
    }
"#;

/// The variables of a script: how to run the daemon, as whom, and what is forbidden to it.
struct Script {
    daemon: String,
    user: &'static str,
    forbid: &'static str,
}

impl Script {
    fn new() -> Self {
        Self { daemon: BINARY.to_owned(), user: "", forbid: "" }
    }

    /// Runs the daemon where a system call fails.
    fn forbidding(forbid: &'static str) -> Self {
        let this = std::env::current_exe().expect("a path of this program");
        let words = "--exact surroundings::launcher --include-ignored --nocapture --";
        Self { daemon: format!("{} {words}", this.display()), user: "", forbid }
    }

    /// Whether it succeeded, and what it printed.
    fn run(&self, script: &str) -> (bool, String) {
        let work = open_to_all(tempfile::tempdir());
        let mountpoint = open_to_all(tempfile::tempdir());
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "timeout", "--kill-after=5", "50"]);
        command.args(["sh", "-c", &format!("{FUNCTIONS}{script}")]);
        command.env("DAEMON", &self.daemon).env("AS", self.user).env("WORK", work.path());
        command.env("MOUNTPOINT", mountpoint.path()).env(FORBID, self.forbid);
        let (status, text) = run_limited(&mut command).expect("an end");
        (status.success(), text)
    }
}

/// Whether this machine can mount at all; says so where not.
fn possible(test: &str) -> bool {
    why_not(Transport::Uring).inspect(|why| system::skipped(test, why)).is_none()
}

fn fails_with(test: &str, script: &str, words: &[&str]) {
    if possible(test) {
        let (succeeded, text) = Script::new().run(script);
        assert!(!succeeded, "it started: {text}");
        for word in words {
            assert!(text.contains(word), "no {word:?} in {text:?}");
        }
        assert!(!text.contains("panicked"), "{text}");
    }
}

fn works(test: &str, script: &Script, lines: &str, words: &[&str]) {
    if possible(test) {
        let (succeeded, text) = script.run(lines);
        assert!(succeeded, "{text}");
        for word in words {
            assert!(text.contains(word), "no {word:?} in {text:?}");
        }
    }
}

#[test]
fn no_device_is_an_error_with_advice() {
    let script = "mount -t tmpfs none /dev; mknod /dev/null c 1 3; start";
    fails_with("no_device_is_an_error_with_advice", script, &["/dev/fuse", "modprobe fuse"]);
}

#[test]
fn few_descriptors_are_an_error_with_advice() {
    // Each limit fails at another place of the start, up to what two shards take on any machine.
    // Which one that is may depend on threads that start beside each other, but less with one.
    // What the caller left open would count too: it is closed first, as far as `sh` can. So the
    // last limit just does where nothing else is open: then it mounts, and `timeout` ends it.
    let script = r#"
        for fd in 3 4 5 6 7 8 9; do eval "exec $fd>&-"; done
        for few in 5/2 6/2 7/2 8/2 9/2 10/2 11/2 12/2 13/2 8/1 9/1 9/1 9/1 10/1 11/1; do
            AS="timeout 5 prlimit --nofile=${few%/*}"
            $AS $DAEMON --shards "${few#*/}" "$MOUNTPOINT" >"$WORK/out" 2>&1 || true
            grep -E '^mounted |raise the limit of open files \(ulimit -n\)' "$WORK/out"
        done
        AS="prlimit --nofile=32"
        start --shards 2; use; stop"#;
    let words = &["fsopen: ", "an eventfd", "/dev/fuse: ", "an io_uring: ", "served "];
    works("few_descriptors_are_an_error_with_advice", &Script::new(), script, words);
}

#[test]
fn little_address_space_is_an_error_with_advice() {
    let script = "ulimit -v 600000; start --memory-budget 2G --queue-depth 900";
    fails_with("little_address_space_is_an_error_with_advice", script, &["--memory-budget"]);
}

#[test]
fn a_limit_of_file_sizes_leaves_the_mount() {
    let script = r#"
        start --stats "$WORK/stats"
        prlimit --pid "$pid" --fsize=0
        kill -USR1 "$pid"
        use; stop"#;
    works("a_limit_of_file_sizes_leaves_the_mount", &Script::new(), script, &[]);
}

#[test]
fn a_profile_without_io_uring_leaves_the_device() {
    // io_uring_setup fails with EPERM, as in a container.
    let script = Script::forbidding("425=1");
    let name = "a_profile_without_io_uring_leaves_the_device";
    works(name, &script, "start; use; stop", &["(device, ", "transport device: "]);
}

#[test]
fn a_profile_without_io_uring_refuses_uring() {
    if possible("a_profile_without_io_uring_refuses_uring") {
        let (succeeded, text) = Script::forbidding("425=1").run("start --transport uring");
        assert!(!succeeded && text.contains("not available"), "{text}");
    }
}

#[test]
fn kernels_without_fsopen_mount_all_the_same() {
    // fsopen is not there, as before Linux 5.2.
    let script = Script::forbidding("430=38");
    let name = "kernels_without_fsopen_mount_all_the_same";
    works(
        name,
        &script,
        "start -o noexec; grep $MOUNTPOINT /proc/mounts; use; stop",
        &["fuse.fusewire-memory", "noexec", "default_permissions"],
    );
}

/// The device is the user's to open there, as distributions have it.
const AS_NOBODY: &str = r#"
    mknod -m 666 "$WORK/fuse" c 10 229
    mount --bind "$WORK/fuse" /dev/fuse
    chown 65534:65534 "$MOUNTPOINT"
"#;

fn as_nobody() -> Script {
    Script { user: "setpriv --reuid 65534 --regid 65534 --clear-groups", ..Script::new() }
}

/// Whether fusermount3 is there: a package may be missing where a kernel must not.
fn has_helper(test: &str) -> bool {
    let found = run_limited(Command::new("fusermount3").arg("--version")).is_ok();
    if !found {
        system::skipped(test, "fusermount3 is not installed (package fuse3)");
    }
    found
}

#[test]
fn an_ordinary_user_mounts_through_fusermount3() {
    let name = "an_ordinary_user_mounts_through_fusermount3";
    if has_helper(name) {
        let script = format!("{AS_NOBODY} start; grep $MOUNTPOINT /proc/mounts; use; stop");
        works(name, &as_nobody(), &script, &["user_id=65534", "nosuid,nodev"]);
    }
}

#[test]
fn an_ordinary_user_ends_a_busy_mount() {
    let name = "an_ordinary_user_ends_a_busy_mount";
    if has_helper(name) {
        let hold = "$AS sh -c 'exec 3>\"$0/held\"; sleep 1; echo late >&3' $MOUNTPOINT & sleep 0.3";
        let script = format!("{AS_NOBODY} start; use; {hold}; stop");
        works(name, &as_nobody(), &script, &["mounted "]);
    }
}

#[test]
fn an_ordinary_user_without_the_device_gets_advice() {
    let name = "an_ordinary_user_without_the_device_gets_advice";
    if possible(name) && has_helper(name) {
        let script = "chown 65534 $MOUNTPOINT; mknod -m 600 $WORK/fuse c 10 229; \
                      mount --bind $WORK/fuse /dev/fuse; start";
        let (succeeded, text) = as_nobody().run(script);
        assert!(!succeeded && text.contains("chmod 666 /dev/fuse"), "{text}");
    }
}

/// Becomes the daemon, under a filter.
#[test]
#[ignore = "a program that the tests above start"]
fn launcher() {
    let forbidden = std::env::var(FORBID).expect("what to forbid");
    let (number, errno) = forbidden.split_once('=').expect("a number and an errno");
    let filter = SeccompFilter::new(
        [(number.parse().expect("a number"), Vec::new())].into(),
        SeccompAction::Allow,
        SeccompAction::Errno(errno.parse().expect("a number")),
        std::env::consts::ARCH.try_into().expect("an architecture with filters"),
    );
    let program: BpfProgram = filter.expect("a filter").try_into().expect("a program");
    apply_filter(&program).expect("root may set one");
    let words = std::env::args().skip_while(|word| word != "--").skip(1);
    let error = Command::new(BINARY).args(words).exec();
    panic!("{BINARY}: {error}");
}
