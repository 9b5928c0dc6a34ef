//! Who waits for a lock: gets it, is interrupted, dies, or outlives the daemon; and keeps nobody
//! up.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use rustix::fs::{FlockOperation, flock};

use crate::common::{
    Daemon, Place, Plan, Setup, Transport, cases, drills, open_rw, system, wait_until_gone,
};
use crate::locker::{DONE, FAMILIES, Locker, TAKEN, both, order, until, until_waiting, waiting};

cases!(
    mounts;
    who_waits_gets_it,
    who_is_interrupted_does_not,
    who_was_interrupted_before_it_was_heard_does_not,
    who_is_killed_does_not,
    a_close_meanwhile_does_not_end_a_wait,
    a_circle_of_waits_is_an_error,
);
cases!(
    mounts, Plan::new().options(&["--queue-depth", "200", "--max-write", "64K"]);
    a_hundred_waiters_keep_nobody_up,
);
cases!(
    mounts, Plan::new().options(&["--queue-depth", "4"]);
    too_many_waiters_are_told_so,
);

drills!(
    a_signal_to_the_daemon_ends_the_waits,
    an_abort_ends_the_waits,
    a_killed_daemon_leaves_no_locks,
);

/// A file that was locked before, and the threads that serve.
fn locked_once(place: &Place) -> (PathBuf, PathBuf, usize) {
    let (inside, outside) = both(place);
    flock(open_rw(&inside), FlockOperation::LockExclusive).unwrap();
    (inside, outside, threads(place))
}

/// Shards and those who wait for them, who have no names but theirs: others come and go.
fn threads(place: &Place) -> usize {
    let tasks = fs::read_dir(format!("/proc/{}/task", place.pid().as_raw_nonzero())).unwrap();
    let names = tasks.map(|task| fs::read_to_string(task.unwrap().path().join("comm")));
    let is_shard = |name: &String| {
        let index = name.strip_prefix("fusewire-");
        index.is_some_and(|index| index.starts_with(|first: char| first.is_ascii_digit()))
    };
    // One that has just ended has none.
    names.flatten().filter(is_shard).count()
}

fn who_waits_gets_it(place: &Place) {
    let (inside, outside, before) = locked_once(place);
    let sides = [(&inside, &outside), (&outside, &inside), (&inside, &inside)];
    for (number, (holder, waiter)) in sides.into_iter().enumerate() {
        let (mut one, mut two) = (Locker::start(holder), Locker::start(waiter));
        for family in FAMILIES {
            for kind in ["r", "w"] {
                assert_eq!(one.does(&order(family, false, "w")), DONE);
                two.begins(&order(family, true, kind));
                until_waiting(&outside, 1);
                assert_eq!(one.does(&order(family, false, "u")), DONE);
                assert_eq!(two.says(), DONE, "{number} {family} {kind}");
                assert_eq!(one.does(&order(family, false, "w")), TAKEN, "{family} {kind}");
                assert_eq!(two.does(&order(family, false, "u")), DONE);
            }
        }
    }
    until("no thread is left", || threads(place) <= before);
}

/// As the system call is, so is what goes on behind it.
fn who_is_interrupted_does_not(place: &Place) {
    let (inside, outside) = both(place);
    let (mut one, mut two) = (Locker::start(&outside), Locker::start(&inside));
    for family in FAMILIES {
        for _ in 0..5 {
            assert_eq!(one.does(&order(family, false, "w")), DONE);
            two.begins(&order(family, true, "w"));
            until_waiting(&outside, 1);
            two.interrupt();
            assert_eq!(two.says(), "EINTR", "{family}");
            assert_eq!(waiting(&outside), 0, "{family}: nothing is to come");
            assert_eq!(one.does(&order(family, false, "u")), DONE);
            assert_eq!(one.does(&order(family, false, "w")), DONE, "{family}: nobody took it");
            assert_eq!(one.does(&order(family, false, "u")), DONE);
        }
    }
}

/// The signal comes while nobody takes requests in.
fn who_was_interrupted_before_it_was_heard_does_not(place: &Place) {
    let (inside, outside, before) = locked_once(place);
    let (mut one, mut two) = (Locker::start(&outside), Locker::start(&inside));
    for family in FAMILIES {
        for _ in 0..5 {
            assert_eq!(one.does(&order(family, false, "w")), DONE);
            let daemon = place.stopped();
            two.begins(&order(family, true, "w"));
            until("it waits for the answer", || two.is_in("request_wait_answer"));
            two.interrupt();
            until("it waits whatever comes", || two.state() == "D");
            drop(daemon);
            assert_eq!(two.says(), "EINTR", "{family}");
            assert_eq!(waiting(&outside), 0, "{family}: nothing is to come");
            assert_eq!(one.does(&order(family, false, "u")), DONE);
        }
    }
    until("no thread is left", || threads(place) <= before);
}

fn who_is_killed_does_not(place: &Place) {
    let (inside, outside, before) = locked_once(place);
    let mut one = Locker::start(&outside);
    for family in FAMILIES {
        let mut two = Locker::start(&inside);
        assert_eq!(one.does(&order(family, false, "w")), DONE);
        two.begins(&order(family, true, "w"));
        until_waiting(&outside, 1);
        two.killed();
        until_waiting(&outside, 0);
        assert_eq!(one.does(&order(family, false, "u")), DONE);
        assert_eq!(one.does(&order(family, false, "w")), DONE, "{family}: nobody took it");
        assert_eq!(one.does(&order(family, false, "u")), DONE);
    }
    until("no thread is left", || threads(place) <= before);
}

/// A process that closes a descriptor loses what it has, not what another thread waits for.
fn a_close_meanwhile_does_not_end_a_wait(place: &Place) {
    let (inside, outside) = both(place);
    let mut beside = Locker::start(&outside);
    assert_eq!(beside.does("posix f w 50 10"), DONE);
    let (held, waits) = (open_rw(&inside), open_rw(&inside));
    let lock = |file: &fs::File, start, how: fn(&libc::flock) -> nix::fcntl::FcntlArg<'_>| {
        let kind = libc::F_WRLCK.try_into().unwrap();
        let lock = libc::flock { l_type: kind, l_whence: 0, l_start: start, l_len: 10, l_pid: 0 };
        nix::fcntl::fcntl(file, how(&lock)).unwrap();
    };
    lock(&held, 0, |lock| nix::fcntl::FcntlArg::F_SETLK(lock));
    thread::scope(|scope| {
        let waiter = scope.spawn(|| lock(&waits, 50, |lock| nix::fcntl::FcntlArg::F_SETLKW(lock)));
        until_waiting(&outside, 1);
        assert_eq!(beside.does("posix f w 0 10"), TAKEN);
        drop(held);
        assert_eq!(beside.does("posix f w 0 10"), DONE, "closed");
        until_waiting(&outside, 1);
        assert_eq!(beside.does("posix f u 0 0"), DONE);
        waiter.join().unwrap();
        assert_eq!(beside.does("posix f w 50 10"), TAKEN, "and had");
    });
}

/// Also one of three.
fn a_circle_of_waits_is_an_error(place: &Place) {
    let (inside, outside) = both(place);
    let mut lockers = [0, 1, 2].map(|_| Locker::start(&inside));
    for count in [2, 3] {
        let lockers = &mut lockers[..count];
        for (number, locker) in lockers.iter_mut().enumerate() {
            assert_eq!(locker.does(&format!("posix f w {number} 1")), DONE);
        }
        for (before, locker) in lockers[1..].iter_mut().enumerate() {
            locker.begins(&format!("posixw f w {before} 1"));
            until_waiting(&outside, before + 1);
        }
        let last = format!("posixw f w {} 1", count - 1);
        assert_eq!(lockers[0].does(&last), "EDEADLK", "{count}");
        // The others wait on, until somebody lets go.
        until_waiting(&outside, count - 1);
        for number in 0..count {
            assert_eq!(lockers[number].does("posix f u 0 0"), DONE);
            if number + 1 < count {
                assert_eq!(lockers[number + 1].says(), DONE);
            }
        }
    }
    // Who is in nobody's way waits.
    let [one, two, _] = &mut lockers;
    assert_eq!(one.does("posix f w 0 1"), DONE);
    two.begins("posixw f w 0 1");
    until_waiting(&outside, 1);
    assert_eq!(one.does("posix f w 5 1"), DONE);
    assert_eq!(one.does("posix f u 0 1"), DONE);
    assert_eq!(two.says(), DONE);
}

/// A file's life beside the waiters.
fn use_it(place: &Place, name: &str) {
    let path = place.path(name);
    fs::write(&path, vec![b'x'; 300_000]).unwrap();
    assert_eq!(fs::read(&path).unwrap().len(), 300_000);
    fs::remove_file(&path).unwrap();
}

fn a_hundred_waiters_keep_nobody_up(place: &Place) {
    const COUNT: usize = 100;
    let (inside, outside, before) = locked_once(place);
    let beside = open_rw(&outside);
    flock(&beside, FlockOperation::LockExclusive).unwrap();
    let had = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..COUNT {
            scope.spawn(|| {
                let file = open_rw(&inside);
                flock(&file, FlockOperation::LockExclusive).unwrap();
                had.fetch_add(1, Ordering::Relaxed);
            });
        }
        until_waiting(&outside, COUNT);
        assert!(threads(place) >= before + COUNT, "each on a thread of its own");
        (0..10).for_each(|number| use_it(place, &format!("beside {number}")));
        assert_eq!((waiting(&outside), had.load(Ordering::Relaxed)), (COUNT, 0));
        flock(&beside, FlockOperation::Unlock).unwrap();
    });
    assert_eq!(had.into_inner(), COUNT);
    until("no thread is left", || threads(place) <= before);
}

/// Two of four slots may wait; on each queue, or each shard.
fn too_many_waiters_are_told_so(place: &Place) {
    const COUNT: usize = 30;
    let (inside, outside) = both(place);
    let beside = open_rw(&outside);
    flock(&beside, FlockOperation::LockExclusive).unwrap();
    let (had, refused) = (AtomicUsize::new(0), AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..COUNT {
            scope.spawn(|| {
                let file = open_rw(&inside);
                match flock(&file, FlockOperation::LockExclusive) {
                    Ok(()) => had.fetch_add(1, Ordering::Relaxed),
                    Err(errno) => {
                        assert_eq!(errno, rustix::io::Errno::NOLCK);
                        refused.fetch_add(1, Ordering::Relaxed)
                    }
                };
            });
        }
        until("each waits or is refused", || {
            waiting(&outside) + refused.load(Ordering::Relaxed) == COUNT
        });
        assert!(waiting(&outside) >= 2 && refused.load(Ordering::Relaxed) > 0);
        use_it(place, "beside");
        flock(&beside, FlockOperation::Unlock).unwrap();
    });
    assert_eq!(had.into_inner() + refused.into_inner(), COUNT);
}

/// A daemon with waiters of each family for a lock of the backing file, and who has that.
fn with_waiters(transport: Transport) -> (Daemon, Locker, Vec<Locker>) {
    let daemon = Daemon::start(&Setup::new(transport));
    let outside = daemon.work().join("backing/f");
    fs::write(&outside, "x").unwrap();
    let mut holder = Locker::start(&outside);
    let waiters = FAMILIES.map(|family| {
        if family != "ofd" {
            assert_eq!(holder.does(&order(family, false, "w")), DONE);
        }
        let mut waiter = Locker::start(&daemon.mountpoint().join("f"));
        waiter.begins(&order(family, true, "w"));
        waiter
    });
    until_waiting(&outside, FAMILIES.len());
    (daemon, holder, waiters.into())
}

/// Everybody is told, and nothing is left waiting.
fn all_end(daemon: &Daemon, mut holder: Locker, waiters: Vec<Locker>) {
    for waiter in waiters {
        let said = waiter.says();
        assert!(
            ["ENOTCONN", "ECONNABORTED", "EIO", "ENODEV", "ECANCELED", "EINTR"]
                .contains(&said.as_str()),
            "{said}"
        );
    }
    let outside = daemon.work().join("backing/f");
    until_waiting(&outside, 0);
    for family in FAMILIES {
        assert_eq!(holder.does(&order(family, false, "u")), DONE);
    }
    let mut other = Locker::start(&outside);
    for family in FAMILIES {
        assert_eq!(other.does(&order(family, false, "w")), DONE, "{family}: nobody has it");
        assert_eq!(other.does(&order(family, false, "u")), DONE);
    }
}

fn a_signal_to_the_daemon_ends_the_waits(transport: Transport) {
    let (mut daemon, holder, waiters) = with_waiters(transport);
    daemon.signal(rustix::process::Signal::TERM);
    daemon.wait_for_success();
    all_end(&daemon, holder, waiters);
    wait_until_gone(daemon.connection());
}

fn an_abort_ends_the_waits(transport: Transport) {
    let (mut daemon, holder, waiters) = with_waiters(transport);
    daemon.abort();
    assert!(daemon.wait().code().is_some_and(|code| code > 0), "an abort is an error");
    all_end(&daemon, holder, waiters);
    wait_until_gone(daemon.connection());
}

fn a_killed_daemon_leaves_no_locks(transport: Transport) {
    let (mut daemon, holder, waiters) = with_waiters(transport);
    let outside = daemon.work().join("backing/g");
    fs::write(&outside, "x").unwrap();
    let (mut inside, mut beside) =
        (Locker::start(&daemon.mountpoint().join("g")), Locker::start(&outside));
    for family in ["posix", "flock"] {
        assert_eq!(inside.does(&order(family, false, "w")), DONE);
        assert_eq!(beside.does(&order(family, false, "w")), TAKEN);
    }
    daemon.signal(rustix::process::Signal::KILL);
    assert_eq!(daemon.wait().code(), None, "ended by the signal");
    for family in ["posix", "flock"] {
        until(family, || beside.does(&order(family, false, "w")) == DONE);
    }
    all_end(&daemon, holder, waiters);
    drop(inside);
    system::umount(daemon.mountpoint(), &["-l"]).unwrap();
    wait_until_gone(daemon.connection());
}
