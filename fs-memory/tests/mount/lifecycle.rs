//! How a daemon ends: by umount, by signal, by force; and that nothing of it is left.
//!
//! Neighbours: `starting` has the beginnings, `clients` what the clients do meanwhile.

use std::process::Command;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::Signal;

use crate::clients::{self, STEP, is_gone, start_load, use_it, were_told};
use crate::common::system::run_limited;
use crate::common::{
    Client, Daemon, Setup, Transport, drills, open_to_all, system, wait_until_gone,
};

drills!(
    umount_ends_the_daemon,
    sigterm_unmounts,
    sigint_unmounts_and_prints_a_summary,
    sigterm_under_load_unmounts,
    sigint_under_load_unmounts,
    two_sigterms_leave_no_mount,
    sigterm_with_an_open_file,
    busy_umount_is_refused,
    lazy_umount_waits_for_the_last_close,
    another_mount_of_it_does_not_keep_the_daemon,
    what_others_mounted_on_it_stays,
    the_next_mount_in_its_place_stays,
    a_mount_that_was_moved_is_found,
    sigterm_writes_what_is_dirty_wherever_it_is,
    sigterm_ends_a_daemon_that_was_unmounted_lazily,
    sighup_unmounts,
    a_shard_that_fails_ends_the_mount,
    forced_umount_ends_the_daemon,
    forced_umount_under_load_frees_the_clients,
    sigkill_gives_enotconn_and_umount_works,
    sigkill_under_load_frees_the_clients,
    abort_is_an_error_with_a_message,
    abort_under_load_frees_the_clients,
    killed_clients_do_no_harm,
    clients_killed_while_they_wait_do_no_harm,
    twenty_cycles_leave_nothing,
    an_idle_mount_is_small,
    the_last_stats_are_complete,
);

fn start(transport: Transport) -> Daemon {
    Daemon::start(&Setup::new(transport))
}

fn umount_ends_the_daemon(transport: Transport) {
    let mut daemon = start(transport);
    use_it(&daemon);
    let connection = daemon.connection();
    daemon.umount();
    wait_until_gone(connection);
}

fn ends_by(transport: Transport, signal: Signal, clients: usize) -> Daemon {
    let mut daemon = start(transport);
    use_it(&daemon);
    let load = start_load(&daemon, clients);
    daemon.signal(signal);
    daemon.wait_for_success();
    were_told(load);
    wait_until_gone(daemon.connection());
    daemon
}

fn sigterm_unmounts(transport: Transport) {
    ends_by(transport, Signal::TERM, 0);
}

fn sigint_unmounts_and_prints_a_summary(transport: Transport) {
    let daemon = ends_by(transport, Signal::INT, 0);
    let summary = daemon.further_output() + &daemon.messages();
    assert!(summary.contains("WRITE"), "no summary of what was served: {summary:?}");
}

fn sigterm_under_load_unmounts(transport: Transport) {
    ends_by(transport, Signal::TERM, 3);
}

fn sigint_under_load_unmounts(transport: Transport) {
    ends_by(transport, Signal::INT, 3);
}

fn two_sigterms_leave_no_mount(transport: Transport) {
    let mut daemon = start(transport);
    let _load = start_load(&daemon, 1);
    daemon.signal(Signal::TERM);
    daemon.signal(Signal::TERM);
    // The second may cut the first short; it may not leave anything.
    daemon.wait();
    assert!(system::mounted_at(daemon.mountpoint()).is_none(), "a mount is left");
}

/// A client with an open file is told that the mount is gone, and can close it.
fn is_cut_off(client: &mut Client) {
    client.send("try");
    let line = client.line(STEP).expect("an answer");
    assert!(is_gone(&line), "the open file gives {line}");
    client.send("close");
    client.expect_line("closed", STEP);
}

fn sigterm_with_an_open_file(transport: Transport) {
    let mut daemon = start(transport);
    let mut client = clients::start(&daemon, "hold");
    client.expect_line("open", STEP);
    daemon.signal(Signal::TERM);
    daemon.wait_for_success();
    is_cut_off(&mut client);
    wait_until_gone(daemon.connection());
}

fn busy_umount_is_refused(transport: Transport) {
    let mut daemon = start(transport);
    let mut client = clients::start(&daemon, "hold");
    client.expect_line("open", STEP);
    let refused = system::umount(daemon.mountpoint(), &[]);
    assert!(refused.is_err(), "umount of a busy mount succeeded");
    client.send("work");
    client.expect_line("worked", STEP);
    client.send("close");
    client.expect_line("closed", STEP);
    assert!(client.wait(STEP).is_some_and(|status| status.success()), "{}", client.errors());
    use_it(&daemon);
    daemon.umount();
}

fn lazy_umount_waits_for_the_last_close(transport: Transport) {
    let mut daemon = start(transport);
    let mut client = clients::start(&daemon, "hold");
    client.expect_line("open", STEP);
    system::umount(daemon.mountpoint(), &["-l"]).unwrap();
    assert!(system::mounted_at(daemon.mountpoint()).is_none(), "still in the mount table");
    client.send("work");
    client.expect_line("worked", STEP);
    assert!(system::connection_exists(daemon.connection()), "the connection ended early");
    client.send("close");
    client.expect_line("closed", STEP);
    daemon.wait_for_success();
    wait_until_gone(daemon.connection());
}

fn another_mount_of_it_does_not_keep_the_daemon(transport: Transport) {
    let mut daemon = start(transport);
    use_it(&daemon);
    let other = tempfile::tempdir().unwrap();
    let mut bind = Command::new("mount");
    let bound = run_limited(bind.arg("--bind").args([daemon.mountpoint(), other.path()]));
    assert!(bound.is_ok_and(|(status, _)| status.success()), "mount --bind");
    daemon.signal(Signal::TERM);
    daemon.wait_for_success();
    assert!(system::mounted_at(daemon.mountpoint()).is_none(), "the mount is left");
    system::umount(other.path(), &[]).unwrap();
    wait_until_gone(daemon.connection());
}

fn what_others_mounted_on_it_stays(transport: Transport) {
    let mut daemon = start(transport);
    use_it(&daemon);
    let mut tmpfs = Command::new("mount");
    let mounted = run_limited(tmpfs.args(["-t", "tmpfs", "mine"]).arg(daemon.mountpoint()));
    assert!(mounted.is_ok_and(|(status, _)| status.success()), "mount -t tmpfs");
    daemon.signal(Signal::TERM);
    let status = daemon.wait();
    assert!(status.success(), "{status}: {}", daemon.messages());
    let on_top = system::mounted_at(daemon.mountpoint()).expect("the other mount");
    assert_eq!(on_top.kind, "tmpfs");
    // Below it ours could not be taken away; it is dead.
    system::umount(daemon.mountpoint(), &[]).unwrap();
    system::umount(daemon.mountpoint(), &[]).unwrap();
    wait_until_gone(daemon.connection());
}

/// A daemon that ends late meets another mount with the path and the device number of its own.
fn the_next_mount_in_its_place_stays(transport: Transport) {
    let until = Instant::now() + Duration::from_secs(120);
    while Instant::now() < until {
        let mut first = start(transport);
        let stopped = first.stopped();
        system::umount(first.mountpoint(), &["--no-canonicalize", "--internal-only"]).unwrap();
        let work = open_to_all(tempfile::tempdir());
        let options = Setup::new(transport).arguments();
        let next = Daemon::try_start(&options, work, first.mountpoint());
        let mut next = next.unwrap_or_else(|refusal| panic!("{}", refusal.message));
        drop(stopped);
        let status = first.wait();
        assert!(status.success(), "{status}: {}", first.messages());
        use_it(&next);
        next.umount();
        // Whoever else mounts meanwhile may have got the number.
        if next.connection() == first.connection() {
            return;
        }
    }
    panic!("the number of a device was not used again for so long");
}

fn a_mount_that_was_moved_is_found(transport: Transport) {
    let above = open_to_all(tempfile::tempdir());
    let (before, behind) = (above.path().join("before"), above.path().join("behind"));
    std::fs::create_dir_all(before.join("mnt")).unwrap();
    let work = open_to_all(tempfile::tempdir());
    let options = Setup::new(transport).arguments();
    let daemon = Daemon::try_start(&options, work, &before.join("mnt"));
    let mut daemon = daemon.unwrap_or_else(|refusal| panic!("{}", refusal.message));
    use_it(&daemon);
    std::fs::rename(&before, &behind).unwrap();
    daemon.signal(Signal::TERM);
    daemon.wait_for_success();
    assert!(system::mounted_at(&behind.join("mnt")).is_none(), "the mount is left");
    wait_until_gone(daemon.connection());
}

/// Dirty pages of a file that is open reach the daemon at SIGTERM, whatever became of the mount.
fn sigterm_writes_what_is_dirty_wherever_it_is(transport: Transport) {
    // Each gets the mount point, which is "here" in the directory that it runs in.
    for script in [
        "true",
        "umount -l here",
        "mkdir there && mount --move here there",
        "mkdir bind && mount --bind here bind && umount -l here",
        "mount -t tmpfs cover here",
    ] {
        let above = open_to_all(tempfile::tempdir());
        let here = above.path().join("here");
        std::fs::create_dir(&here).unwrap();
        let work = open_to_all(tempfile::tempdir());
        let daemon = Daemon::try_start(&Setup::new(transport).arguments(), work, &here);
        let mut daemon = daemon.unwrap_or_else(|refusal| panic!("{}", refusal.message));
        let mut client = clients::start(&daemon, "hold");
        client.expect_line("open", STEP);
        client.send("dirty");
        client.expect_line("dirty", STEP);
        let mut sh = Command::new("sh");
        let script = format!("cd \"$0\" && {script}");
        let ran = run_limited(sh.args(["-c", &script]).arg(above.path()));
        let moved = ran.is_ok_and(|(status, _)| status.success());
        daemon.signal(Signal::TERM);
        let status = daemon.wait();
        let written = daemon.last_stats().bytes("WRITE");
        let leave = "for d in here there bind; do umount -l \"$0/$d\"; done 2>/dev/null";
        let mut sh = Command::new("sh");
        let left = run_limited(sh.args(["-c", leave]).arg(above.path()));
        let told = format!("{script}: {status}, {written} bytes, {}", daemon.messages());
        assert!(moved && left.is_ok(), "{told}");
        assert!(status.success() && written >= clients::DIRTY as u64, "{told}");
        client.send("close");
        client.expect_line("closed", STEP);
        wait_until_gone(daemon.connection());
    }
}

fn sigterm_ends_a_daemon_that_was_unmounted_lazily(transport: Transport) {
    let mut daemon = start(transport);
    let mut client = clients::start(&daemon, "hold");
    client.expect_line("open", STEP);
    system::umount(daemon.mountpoint(), &["-l"]).unwrap();
    daemon.signal(Signal::TERM);
    daemon.wait_for_success();
    is_cut_off(&mut client);
    wait_until_gone(daemon.connection());
}

fn sighup_unmounts(transport: Transport) {
    ends_by(transport, Signal::HUP, 1);
}

/// A shard whose ring fails (here by an error of strace's making) takes the others along.
fn a_shard_that_fails_ends_the_mount(transport: Transport) {
    let mut daemon = start(transport);
    use_it(&daemon);
    let pid = daemon.pid().as_raw_nonzero();
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let name = |task: &std::path::Path| std::fs::read_to_string(task.join("comm")).unwrap();
    let shard = tasks.map(|task| task.unwrap().path()).find(|task| name(task) == "fusewire-1\n");
    let shard = shard.expect("a second shard");
    let mut strace = Command::new("strace");
    // Whichever it waits by.
    let fault = "inject=io_uring_enter,?poll,ppoll:error=EFAULT:when=1+";
    strace.args(["-qq", "-o", "/dev/null", "-e", fault]);
    let Ok(mut strace) = strace.arg("-p").arg(shard.file_name().unwrap()).spawn() else {
        return system::skipped("a_shard_that_fails_ends_the_mount", "strace is not installed");
    };
    // Whoever asks meets either shard, so that the failing one wakes.
    let script = "for i in $(seq 200); do taskset -c $((i % 2)) stat -f \"$0\" || break; done";
    let mut ask = Command::new("sh");
    let asked = run_limited(ask.args(["-c", script]).arg(daemon.mountpoint()));
    let status = daemon.wait();
    let _ = strace.wait();
    assert!(status.code().is_some_and(|code| code > 0), "{status}: {asked:?}");
    assert!(daemon.messages().contains("serving failed"), "{:?}", daemon.messages());
    assert!(system::mounted_at(daemon.mountpoint()).is_none(), "a mount is left");
    wait_until_gone(daemon.connection());
}

/// After a forced umount the daemon may call it an ordinary end or an error, but not both.
fn ended_by_force(daemon: &mut Daemon) {
    let status = daemon.wait();
    assert!(status.code().is_some(), "it died: {status}");
    let silent = daemon.messages().trim().is_empty();
    assert!(status.success() || !silent, "{status} without a message");
    assert!(system::mounted_at(daemon.mountpoint()).is_none(), "a mount is left");
    wait_until_gone(daemon.connection());
}

fn forced_umount_ends_the_daemon(transport: Transport) {
    let mut daemon = start(transport);
    use_it(&daemon);
    system::umount(daemon.mountpoint(), &["-f"]).unwrap();
    ended_by_force(&mut daemon);
}

/// The kernel aborts the connection even where it then refuses to unmount, as clients are in it.
fn forced_umount_under_load_frees_the_clients(transport: Transport) {
    let mut daemon = start(transport);
    let load = start_load(&daemon, 3);
    let _ = system::umount(daemon.mountpoint(), &["-f"]);
    were_told(load);
    ended_by_force(&mut daemon);
}

fn killed(transport: Transport, clients: usize) -> Daemon {
    let mut daemon = start(transport);
    let load = start_load(&daemon, clients);
    daemon.signal(Signal::KILL);
    assert_eq!(daemon.wait().code(), None, "ended by the signal");
    were_told(load);
    daemon
}

fn sigkill_gives_enotconn_and_umount_works(transport: Transport) {
    let daemon = killed(transport, 0);
    // The kernel may still be taking the ring down when the first calls come: each of those ends
    // with another of the errors of a mount that is gone, and soon there are none.
    let until = Instant::now() + STEP;
    loop {
        let line = clients::start(&daemon, "look").line(STEP).expect("an answer");
        if line == clients::word(Errno::NOTCONN) {
            break;
        }
        assert!(is_gone(&line) && Instant::now() < until, "{line}");
    }
    for order in ["look", "list"] {
        clients::start(&daemon, order).expect_line(&clients::word(Errno::NOTCONN), STEP);
    }
    system::umount(daemon.mountpoint(), &[]).unwrap();
    assert!(system::mounted_at(daemon.mountpoint()).is_none(), "a mount is left");
    wait_until_gone(daemon.connection());
}

fn sigkill_under_load_frees_the_clients(transport: Transport) {
    let daemon = killed(transport, 3);
    system::umount(daemon.mountpoint(), &[]).unwrap();
    assert!(system::mounted_at(daemon.mountpoint()).is_none(), "a mount is left");
    wait_until_gone(daemon.connection());
}

fn aborted(transport: Transport, clients: usize) {
    let mut daemon = start(transport);
    let load = start_load(&daemon, clients);
    daemon.abort();
    let status = daemon.wait();
    assert!(status.code().is_some_and(|code| code > 0), "{status} after an abort");
    assert!(!daemon.messages().trim().is_empty(), "no message after an abort");
    were_told(load);
    assert!(system::mounted_at(daemon.mountpoint()).is_none(), "a mount is left");
    wait_until_gone(daemon.connection());
}

fn abort_is_an_error_with_a_message(transport: Transport) {
    aborted(transport, 0);
}

fn abort_under_load_frees_the_clients(transport: Transport) {
    aborted(transport, 3);
}

/// Clients die in the middle of requests, again and again; the daemon goes on.
fn killed_clients_do_no_harm(transport: Transport) {
    let mut daemon = start(transport);
    for _ in 0..5 {
        for mut client in start_load(&daemon, 3) {
            client.kill();
        }
    }
    use_it(&daemon);
    daemon.umount();
}

/// The daemon is stopped while its clients are killed, so all of them wait for an answer: requests
/// that were not read vanish, those that were read are interrupted.
fn clients_killed_while_they_wait_do_no_harm(transport: Transport) {
    let mut daemon = start(transport);
    for _ in 0..5 {
        let mut clients = start_load(&daemon, 3);
        let stopped = daemon.stopped();
        clients.iter().for_each(Client::kill_without_waiting);
        drop(stopped);
        for client in &mut clients {
            assert!(client.wait(STEP).is_some(), "a killed client lives on");
        }
    }
    use_it(&daemon);
    daemon.umount();
}

fn twenty_cycles_leave_nothing(transport: Transport) {
    for cycle in 0..20 {
        let mut daemon = start(transport);
        if cycle % 5 == 0 {
            use_it(&daemon);
        }
        if cycle % 2 == 0 {
            daemon.umount();
        } else {
            daemon.signal(Signal::TERM);
            daemon.wait_for_success();
        }
        wait_until_gone(daemon.connection());
        assert!(std::fs::read_dir(daemon.mountpoint()).unwrap().next().is_none(), "files are left");
    }
}

fn an_idle_mount_is_small(transport: Transport) {
    let mut daemon = start(transport);
    use_it(&daemon);
    let resident = daemon.process_figure("VmRSS");
    let (locked, threads) = (daemon.process_figure("VmLck"), daemon.process_figure("Threads"));
    println!("figure: idle: VmRSS {resident} kB, VmLck {locked} kB, {threads} threads");
    assert!(resident <= 16 * 1024, "{resident} kB resident");
    daemon.umount();
}

fn the_last_stats_are_complete(transport: Transport) {
    let mut daemon = start(transport);
    use_it(&daemon);
    let before = daemon.stats();
    daemon.umount();
    let last = daemon.last_stats();
    assert_eq!(last.field("transport"), transport.name());
    for name in ["max_write", "shards", "panics", "malformed"] {
        assert_eq!(last.number(name), before.number(name), "{name}");
    }
    assert_eq!((last.requests("WRITE"), last.bytes("WRITE")), (1, 300_000), "one WRITE");
    for opcode in ["LOOKUP", "CREATE", "WRITE", "FLUSH", "RELEASE", "RENAME", "UNLINK"] {
        assert!(last.requests(opcode) > 0, "no {opcode} in {:?}", last.opcodes());
    }
    assert_eq!(last.of_opcode("WRITE", "errors"), 0, "errors");
    assert!(last.of_opcode("LOOKUP", "errors") > 0, "looking for a missing name is an error");
    let latency = last.latency("WRITE");
    assert!(latency.0 > Duration::ZERO && latency.0 <= latency.1, "mean, max: {latency:?}");
}
