//! The second wall: who is behind it, that it holds nobody else up, and what is where it cannot be.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::Other;
use crate::common::system::{self, run_limited};
use crate::common::{Daemon, Setup, Transport, drills, open_to_all, wait_until_gone};

drills!(
    those_who_serve_are_locked_in_and_nobody_else,
    without_attributes_nobody_administrates,
    off_is_off,
    what_else_is_mounted_can_be_unmounted,
    where_it_is_refused_the_mount_works_without,
);

/// CHOWN, DAC_OVERRIDE, DAC_READ_SEARCH, FOWNER, FSETID, SETGID, SETUID, LINUX_IMMUTABLE, MKNOD,
/// SETFCAP. Kernel: include/uapi/linux/capability.h.
const KEPT: u64 = 0b1101_1111 | 1 << 9 | 1 << 27 | 1 << 31;
const SYS_ADMIN: u64 = 1 << 21;

/// A thread of the daemon.
struct Task {
    name: String,
    directory: PathBuf,
}

impl Task {
    fn all(daemon: &Daemon) -> Vec<Self> {
        let directory = format!("/proc/{}/task", daemon.pid().as_raw_nonzero());
        let tasks = fs::read_dir(directory).unwrap().map(|task| task.unwrap().path());
        let name =
            |task: &PathBuf| fs::read_to_string(task.join("comm")).unwrap().trim().to_owned();
        tasks.map(|directory| Self { name: name(&directory), directory }).collect()
    }

    /// Those that serve, and the kernel's workers for their rings.
    fn shards(daemon: &Daemon) -> Vec<Self> {
        let mut tasks = Self::all(daemon);
        let index = |task: &Self| task.name.strip_prefix("fusewire-")?.parse::<u64>().ok();
        tasks.retain(|task| index(task).is_some());
        assert_eq!(tasks.len() as u64, daemon.ready().shards);
        tasks
    }

    fn main(daemon: &Daemon) -> Self {
        let pid = daemon.pid().as_raw_nonzero().to_string();
        let is_main = |task: &Self| task.directory.ends_with(&pid);
        Self::all(daemon).into_iter().find(is_main).unwrap()
    }

    fn status(&self, field: &str) -> String {
        let text = fs::read_to_string(self.directory.join("status")).unwrap();
        let mut values = text.lines().filter_map(|line| line.strip_prefix(field));
        values.next().unwrap().trim_start_matches(':').trim().to_owned()
    }

    fn capabilities(&self) -> [u64; 4] {
        ["CapEff", "CapPrm", "CapBnd", "CapInh"]
            .map(|field| u64::from_str_radix(&self.status(field), 16).unwrap())
    }

    /// Entries of its root directory.
    fn entries(&self) -> usize {
        fs::read_dir(self.directory.join("root")).unwrap().count()
    }

    fn mounts(&self) -> usize {
        fs::read_to_string(self.directory.join("mountinfo")).unwrap().lines().count()
    }

    fn is_free(&self) {
        assert_eq!(self.status("Seccomp"), "0", "{}", self.name);
        assert_eq!(self.status("NoNewPrivs"), "0", "{}", self.name);
        assert!(self.entries() > 0 && self.mounts() > 1, "{}", self.name);
    }
}

/// Files of each kind, in the name of others, by both of the paths that data take.
fn use_it(daemon: &Daemon) {
    let script =
        "cd $0; echo text >f; cat f; mkdir -p d; mkfifo d/p; ln -s f d/l; ln f d/h; chmod 640 f;
        chown 7:8 f; touch -d @1 f; stat -c %u:%g:%a:%Y f; dd if=/dev/zero of=big bs=64K count=8 \
        oflag=direct status=none; dd if=big of=/dev/null bs=64K iflag=direct status=none; rm -r d";
    let used = run_limited(Command::new("sh").args(["-ec", script]).arg(daemon.mountpoint()));
    let (status, text) = used.unwrap();
    assert!(status.success() && text.contains("text\n7:8:640:1"), "{status}: {text}");
}

fn those_who_serve_are_locked_in_and_nobody_else(transport: Transport) {
    for io in ["auto", "ring"] {
        let mut daemon = Daemon::start(&Setup::new(transport).with(&["--io", io]));
        use_it(&daemon);
        for task in Task::shards(&daemon) {
            assert_eq!(task.status("Seccomp"), "2", "a filter");
            assert_eq!(task.status("NoNewPrivs"), "1");
            let kept = KEPT | SYS_ADMIN;
            assert_eq!(task.capabilities(), [kept, kept, kept, 0], "{}", task.name);
        }
        // These see to the threads that serve, and never touch a request.
        let outside = ["fusewire-passth", "fusewire-sentry", "fusewire-scout"];
        let inside = |task: &Task| !outside.contains(&task.name.as_str());
        for task in Task::all(&daemon).into_iter().filter(inside) {
            assert_eq!((task.entries(), task.mounts()), (0, 1), "{}", task.name);
        }
        Task::main(&daemon).is_free();
        daemon.umount();
        wait_until_gone(daemon.connection());
    }
}

fn without_attributes_nobody_administrates(transport: Transport) {
    let mut daemon = Daemon::start(&Setup::new(transport).with(&["--no-xattr"]));
    use_it(&daemon);
    for task in Task::shards(&daemon) {
        assert_eq!(task.capabilities(), [KEPT, KEPT, KEPT, 0], "{}", task.name);
    }
    daemon.umount();
}

fn off_is_off(transport: Transport) {
    let setup = Setup::new(transport).with(&["--sandbox", "off", "--log", "info"]);
    let mut daemon = Daemon::start(&setup);
    use_it(&daemon);
    Task::shards(&daemon).iter().for_each(Task::is_free);
    assert!(daemon.messages().contains("sandbox: off"), "{}", daemon.messages());
    daemon.umount();
}

/// The daemon starts while it is there, and must not hold a copy of it.
fn what_else_is_mounted_can_be_unmounted(transport: Transport) {
    let place = open_to_all(tempfile::Builder::new().prefix("fusewire-test-").tempdir());
    let _other = Other::mount(&["-t", "tmpfs", "none"], place.path());
    let mut daemon = Daemon::start(&Setup::new(transport));
    use_it(&daemon);
    system::umount(place.path(), &[]).unwrap();
    let beside = Daemon::start(&Setup::new(transport));
    daemon.umount();
    wait_until_gone(daemon.connection());
    drop(beside);
}

/// Starts the daemon in a script, in namespaces of its own, which take all with them:
/// `start WORDS`, `stop`.
fn run(transport: Transport, before: &str, between: &str) -> (bool, String) {
    let work = crate::work();
    let functions = r#"
        start() { "$@" >"$WORK/out" 2>&1 & daemon=$!
            until grep -q ^mounted "$WORK/out"; do
                kill -0 $daemon 2>/dev/null || { cat "$WORK/out"; exit 1; }
                sleep 0.05
            done; }
        stop() { kill -TERM $daemon; wait $daemon; cat "$WORK/out"; }
    "#;
    let daemon = crate::daemon(work.path());
    let words = [daemon.get_program()].into_iter().chain(daemon.get_args());
    let words: Vec<_> = words.map(|word| word.to_str().unwrap()).collect();
    let script = format!(
        "{functions} {before} {} --transport {} $WORK/mnt; {between}; stop",
        words.join(" "),
        transport.name(),
    );
    fs::create_dir(work.path().join("mnt")).unwrap();
    let mut command = Command::new("unshare");
    command.args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]);
    command.args(["sh", "-ec", &script]).env("WORK", work.path());
    let (status, text) = run_limited(&mut command).unwrap();
    (status.success(), text)
}

/// What setns(2) needs is gone, as in a container that lacks it, and all that a mount needs is not.
fn where_it_is_refused_the_mount_works_without(transport: Transport) {
    let without = "setpriv --bounding-set=-sys_chroot";
    let between = "echo it works >$WORK/mnt/f; cat $WORK/backing/f";
    let (succeeded, text) = run(transport, &format!("start {without}"), between);
    assert!(succeeded && text.contains("it works"), "{text}");
    let why = "no sandbox (entering the empty directory: Operation not permitted";
    assert_eq!(text.matches(why).count(), 1, "one line: {text}");
}

fn refusal(words: &str) -> String {
    let work = crate::work();
    let mountpoint = work.path().join("mnt");
    fs::create_dir(&mountpoint).unwrap();
    let daemon = crate::daemon(work.path());
    let mut command = Command::new("setpriv");
    command.args(words.split_whitespace()).arg(daemon.get_program()).args(daemon.get_args());
    let (status, text) = run_limited(command.args(["--sandbox", "on"]).arg(&mountpoint)).unwrap();
    assert_eq!(status.code(), Some(1), "{text}");
    assert!(system::mounted_at(&mountpoint).is_none(), "a mount is left");
    text
}

#[test]
fn where_it_is_insisted_on_a_refusal_is_an_error() {
    if let Some(why) = system::why_no_mount() {
        return system::skipped("where_it_is_insisted_on_a_refusal_is_an_error", &why);
    }
    for words in ["--bounding-set=-sys_chroot", "--reuid 65534 --regid 65534 --clear-groups"] {
        let text = refusal(words);
        assert!(text.starts_with("error: no sandbox: "), "{text}");
        assert!(text.contains("Operation not permitted"), "{text}");
        assert!(text.contains("run as root with CAP_SYS_ADMIN, or with --sandbox off"), "{text}");
    }
}

const USER: &str = "setpriv --reuid 65534 --regid 65534 --clear-groups";

/// What makes things ready for the daemon of an ordinary user, and starts it by way of `wrapper`.
fn by_user(test: &str, wrapper: &str) -> Option<String> {
    let helper = run_limited(Command::new("fusermount3").arg("--version")).is_ok();
    let missing = (!helper).then(|| "fusermount3 is not installed (package fuse3)".to_owned());
    if let Some(why) = system::why_no_mount().or(missing) {
        system::skipped(test, &why);
        return None;
    }
    Some(format!(
        "mknod -m 666 $WORK/fuse c 10 229; mount --bind $WORK/fuse /dev/fuse;
         chown 65534 $WORK/mnt $WORK/backing; start {wrapper} {USER}"
    ))
}

/// On one CPU there is one shard, which would wait for itself.
#[test]
fn without_a_mount_of_its_own_it_looks_into_nothing_that_others_mount() {
    let name = "without_a_mount_of_its_own_it_looks_into_nothing_that_others_mount";
    let Some(before) = by_user(name, "taskset -c 0") else { return };
    let between = format!(
        "mkdir $WORK/backing/m; touch $WORK/backing/x; mount --bind $WORK/mnt $WORK/backing/m
         look() {{ timeout -s KILL 10 {USER} stat $WORK/mnt/$1 2>&1 || true; }}
         look x; sleep 1.1; look x; look m; sleep 1.1; look m; look x
         umount $WORK/backing/m"
    );
    let (succeeded, text) = run(Transport::Device, &before, &between);
    assert!(succeeded, "{text}");
    assert_eq!(text.matches("Invalid cross-device link").count(), 2, "{text}");
    assert_eq!(text.matches("File: ").count(), 3, "{text}");
}

#[test]
fn an_ordinary_user_is_told_and_served() {
    let Some(before) = by_user("an_ordinary_user_is_told_and_served", "") else { return };
    let between = format!("{USER} sh -c 'echo it works >$WORK/mnt/f'; cat $WORK/backing/f");
    let (succeeded, text) = run(Transport::Device, &before, &between);
    assert!(succeeded && text.contains("it works"), "{text}");
    assert_eq!(text.matches("no sandbox (").count(), 1, "{text}");
}
