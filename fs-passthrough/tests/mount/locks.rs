//! Locks of the mount and of the backing files are one: who has them, what they cover, when they
//! go, and what is seen with them.

use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::fcntl::{FcntlArg, fcntl};
use rustix::fs::{FlockOperation, flock};
use rustix::process::{PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};

use crate::backing;
use crate::common::{
    Place, Plan, Setup, Transport, cases, drills, open_rw, read_at, system::run_limited,
};
use crate::kernel::Mounted;
use crate::locker::{DONE, FAMILIES, Locker, TAKEN, both, order, until, until_waiting, whole};

cases!(
    mounts;
    a_lock_on_one_side_keeps_the_other_out,
    readers_share_and_writers_do_not,
    ranges_are_split_and_merged,
    a_question_names_who_is_in_the_way,
    a_close_drops_what_a_process_has_and_not_what_an_open_file_has,
    dup_and_fork_share_a_lock_of_flock,
    a_dead_process_has_no_locks,
    what_was_closed_is_free_for_the_next,
    the_last_close_ends_locks_whoever_has_the_backing_file_open,
    random_steps_end_as_they_do_beside_the_mount,
    a_reader_may_lock_what_runs,
    who_does_not_lock_asks_for_nothing_more,
    what_is_written_under_a_lock_is_seen_with_the_next,
    who_only_reads_sees_it_too,
);
cases!(mounts, Plan::new().options(&["--locks", "mount"]); kept_for_the_mount_they_stay_there);
cases!(
    through, Plan::new().options(&["--entry-timeout", "0", "--attr-timeout", "0"]);
    a_database_is_used_from_both_sides,
);
drills!(what_changes_within_a_tick_is_seen_too);

/// Two processes, at least one of them on the mount.
fn pairs(place: &Place) -> [(&'static str, Locker, Locker); 3] {
    let (inside, outside) = both(place);
    let start = |a, b| (Locker::start(a), Locker::start(b));
    let ((a, b), (c, d), (e, f)) =
        (start(&inside, &outside), start(&outside, &inside), start(&inside, &inside));
    [("mount, backing", a, b), ("backing, mount", c, d), ("mount, mount", e, f)]
}

fn a_lock_on_one_side_keeps_the_other_out(place: &Place) {
    for (name, mut one, mut two) in pairs(place) {
        for family in FAMILIES {
            let others = if family == "flock" { &["flock"][..] } else { &["posix", "ofd"] };
            for other in others {
                let what = format!("{name}, {family} before {other}");
                assert_eq!(one.does(&order(family, false, "w")), DONE, "{what}");
                assert_eq!(one.does(&order(family, false, "w")), DONE, "{what}, again");
                assert_eq!(two.does(&order(other, false, "w")), TAKEN, "{what}");
                assert_eq!(two.does(&order(other, false, "r")), TAKEN, "{what}");
                assert_eq!(one.does(&order(family, false, "u")), DONE, "{what}");
                assert_eq!(two.does(&order(other, false, "w")), DONE, "{what}");
                assert_eq!(two.does(&order(other, false, "u")), DONE, "{what}");
            }
        }
    }
}

fn readers_share_and_writers_do_not(place: &Place) {
    for (name, mut one, mut two) in pairs(place) {
        for family in FAMILIES {
            let what = format!("{name}, {family}");
            assert_eq!(one.does(&order(family, false, "r")), DONE, "{what}");
            assert_eq!(two.does(&order(family, false, "r")), DONE, "{what}");
            if family != "flock" {
                // A failed attempt costs what was had with flock(2) only.
                assert_eq!(one.does(&order(family, false, "w")), TAKEN, "{what}");
            }
            assert_eq!(two.does(&order(family, false, "u")), DONE, "{what}");
            assert_eq!(one.does(&order(family, false, "w")), DONE, "{what}, widened");
            assert_eq!(two.does(&order(family, false, "r")), TAKEN, "{what}");
            assert_eq!(one.does(&order(family, false, "r")), DONE, "{what}, narrowed");
            assert_eq!(two.does(&order(family, false, "r")), DONE, "{what}");
            for locker in [&mut one, &mut two] {
                assert_eq!(locker.does(&order(family, false, "u")), DONE, "{what}");
            }
        }
    }
}

fn ranges_are_split_and_merged(place: &Place) {
    let (inside, outside) = both(place);
    for family in ["posix", "ofd"] {
        let (mut one, mut two) = (Locker::start(&inside), Locker::start(&outside));
        let mut does = |order: &str| assert_eq!(one.does(&format!("{family} f {order}")), DONE);
        let mut sees = |from: u64, wanted: &str| {
            let seen = two.does(&format!("get f w {from} 0"));
            // Open file descriptions are nobody's.
            assert_eq!(seen, wanted, "{family}, from {from}");
        };
        does("w 0 100");
        sees(0, "w 0 100 -1");
        does("u 40 20");
        sees(0, "w 0 40 -1");
        sees(40, "w 60 40 -1");
        does("r 10 10");
        sees(10, "r 10 10 -1");
        sees(20, "w 20 20 -1");
        does("w 40 20");
        sees(20, "w 20 80 -1");
        does("w 100 0");
        sees(20, "w 20 0 -1");
        does("w 0 30");
        sees(0, "w 0 0 -1");
        does("u 5 0");
        sees(0, "w 0 5 -1");
        does("u 0 0");
        sees(0, "u");
    }
}

fn a_question_names_who_is_in_the_way(place: &Place) {
    let (inside, outside) = both(place);
    let (mut one, mut two) = (Locker::start(&inside), Locker::start(&inside));
    let mut beside = Locker::start(&outside);
    assert_eq!(one.does("get f w 0 0"), "u");
    assert_eq!(one.does("posix f w 10 5"), DONE);
    assert_eq!(one.does("get f w 0 0"), "u", "one's own is not in the way");
    assert_eq!(two.does("get f r 0 0"), format!("w 10 5 {}", one.pid));
    assert_eq!(two.does("get f r 0 10"), "u");
    assert_eq!(two.does("posix f r 0 10"), DONE);
    assert_eq!(one.does("get f w 0 0"), format!("r 0 10 {}", two.pid));
    assert_eq!(two.does("get f r 0 0"), format!("w 10 5 {}", one.pid), "who has some, too");
    // A process beside the mount has a number, an open file description there has none.
    assert_eq!(beside.does("posix f w 50 1"), DONE);
    assert_eq!(one.does("get f r 20 0"), format!("w 50 1 {}", beside.pid));
    assert_eq!(beside.does("posix f u 0 0"), DONE);
    assert_eq!(beside.does("ofd f w 50 1"), DONE);
    assert_eq!(one.does("get f r 20 0"), "w 50 1 0");
}

fn a_close_drops_what_a_process_has_and_not_what_an_open_file_has(place: &Place) {
    let (inside, outside) = both(place);
    let (mut one, mut two) = (Locker::start(&inside), Locker::start(&outside));
    assert_eq!(one.does("posix f w 0 10"), DONE);
    assert_eq!(one.does("ofd f w 20 10"), DONE);
    assert_eq!(one.does("flock f w"), DONE);
    assert_eq!(two.does("ofd f w 0 1"), TAKEN);
    // Any descriptor of the file will do, whatever it was opened for.
    assert_eq!(one.does("open g"), DONE);
    assert_eq!(one.does("close g"), DONE);
    assert_eq!(two.does("ofd f w 0 1"), DONE, "the process's are gone");
    assert_eq!(two.does("ofd f w 20 1"), TAKEN, "the open file's are not");
    assert_eq!(two.does("flock f w"), TAKEN);
    assert_eq!(one.does("dup g f"), DONE);
    assert_eq!(one.does("close f"), DONE);
    assert_eq!(two.does("ofd f w 20 1"), TAKEN, "it is open by another descriptor");
    assert_eq!(two.does("flock f w"), TAKEN);
    assert_eq!(one.does("close g"), DONE);
    // RELEASE, for which close(2) does not wait.
    until("the open file's lock is gone", || two.does("ofd f w 20 1") == DONE);
    until("the lock of flock(2) is gone", || two.does("flock f w") == DONE);
}

fn dup_and_fork_share_a_lock_of_flock(place: &Place) {
    let (inside, outside) = both(place);
    let (file, beside) = (open_rw(&inside), open_rw(&outside));
    let exclusive = FlockOperation::NonBlockingLockExclusive;
    flock(&file, exclusive).unwrap();
    let copy = file.try_clone().unwrap();
    drop(file);
    assert!(flock(&beside, exclusive).is_err(), "a copy has it");
    flock(&copy, exclusive).unwrap();
    let mut child = Command::new("sleep").arg("60").stdin(Stdio::from(copy)).spawn().unwrap();
    assert!(flock(&beside, exclusive).is_err(), "a child has it");
    child.kill().unwrap();
    child.wait().unwrap();
    until("the last copy is closed", || flock(&beside, exclusive).is_ok());
    flock(&beside, FlockOperation::Unlock).unwrap();
    // An unlock by any of them is for all.
    let file = open_rw(&inside);
    flock(&file, exclusive).unwrap();
    flock(file.try_clone().unwrap(), FlockOperation::Unlock).unwrap();
    flock(&beside, exclusive).unwrap();
}

fn a_dead_process_has_no_locks(place: &Place) {
    let (inside, outside) = both(place);
    let mut two = Locker::start(&outside);
    for family in FAMILIES {
        let mut one = Locker::start(&inside);
        assert_eq!(one.does(&order(family, false, "w")), DONE);
        assert_eq!(two.does(&order(family, false, "w")), TAKEN);
        one.killed();
        until(family, || two.does(&order(family, false, "w")) == DONE);
        assert_eq!(two.does(&order(family, false, "u")), DONE);
    }
}

/// At once, on the mount: whoever was told that it is closed need not try twice. Where it is open
/// elsewhere it stays locked.
fn what_was_closed_is_free_for_the_next(place: &Place) {
    let (inside, _) = both(place);
    let exclusive = FlockOperation::NonBlockingLockExclusive;
    let lock = |file: &File| fcntl(file, FcntlArg::F_OFD_SETLK(&whole(libc::F_WRLCK))).map(drop);
    for round in 0..500 {
        let file = open_rw(&inside);
        flock(&file, exclusive).unwrap_or_else(|errno| panic!("flock, round {round}: {errno}"));
        lock(&file).unwrap_or_else(|errno| panic!("F_OFD_SETLK, round {round}: {errno}"));
    }
    let file = open_rw(&inside);
    flock(&file, exclusive).unwrap();
    lock(&file).unwrap();
    drop(file.try_clone().unwrap());
    let other = open_rw(&inside);
    assert_eq!(flock(&other, exclusive), Err(rustix::io::Errno::WOULDBLOCK));
    assert_eq!(lock(&other), Err(nix::errno::Errno::EAGAIN));
}

/// Copies of all descriptors that the daemon has of a file.
fn copies(place: &Place, file: &Path) -> Vec<OwnedFd> {
    let daemon = pidfd_open(place.pid(), PidfdFlags::empty()).unwrap();
    let ino = fs::metadata(file).unwrap().ino();
    let entries = fs::read_dir(format!("/proc/{}/fd", place.pid().as_raw_nonzero())).unwrap();
    let of_file = entries.map(Result::unwrap).filter(|entry| {
        fs::metadata(entry.path()).is_ok_and(|stat| stat.is_file() && stat.ino() == ino)
    });
    let copy = |entry: fs::DirEntry| {
        let number = entry.file_name().to_str().unwrap().parse().unwrap();
        pidfd_getfd(&daemon, number, PidfdGetfdFlags::empty()).unwrap()
    };
    of_file.map(copy).collect()
}

/// As a transfer under way has, or the kernel that serves the data itself.
fn the_last_close_ends_locks_whoever_has_the_backing_file_open(place: &Place) {
    let (inside, outside) = both(place);
    let mut beside = Locker::start(&outside);
    for family in FAMILIES {
        let mut one = Locker::start(&inside);
        assert_eq!(one.does(&order(family, false, "w")), DONE);
        let copies = copies(place, &outside);
        assert!(!copies.is_empty());
        assert_eq!(one.does("close f"), DONE);
        until(family, || beside.does(&order(family, false, "w")) == DONE);
        assert_eq!(beside.does(&order(family, false, "u")), DONE);
        drop(copies);
    }
}

/// Of three processes each, with up to three descriptors of one file.
fn random_steps_end_as_they_do_beside_the_mount(place: &Place) {
    const NAMES: [&str; 3] = ["f", "g", "h"];
    let (inside, _) = both(place);
    let elsewhere = backing(place).join("elsewhere");
    fs::write(&elsewhere, "").unwrap();
    let mut here = [(); 3].map(|()| Locker::start(&inside));
    let mut there = [(); 3].map(|()| Locker::start(&elsewhere));
    let pids = |lockers: &[Locker; 3]| lockers.each_ref().map(|locker| locker.pid.to_string());
    let (pids_here, pids_there) = (pids(&here), pids(&there));
    // There, who has a lock of an open file is not told. Of many readers it may be any.
    let same = |here: &str, there: &str| match (here.rsplit_once(' '), there.rsplit_once(' ')) {
        (Some((one, pid_here)), Some((other, pid_there))) => {
            let (mut two, who) = (pids_here.iter().zip(&pids_there), (pid_here, pid_there));
            (one.starts_with('r') && other.starts_with('r'))
                || one == other
                    && (pid_there == "-1" || two.any(|(here, there)| (&**here, &**there) == who))
        }
        _ => here == there,
    };
    let mut open = [(); 3].map(|()| vec!["f"]);
    let mut state = 1_u64;
    let mut random = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        usize::try_from(state >> 33).unwrap() % below
    };
    for round in 0..1000 {
        let (who, name, kind) = (random(3), NAMES[random(3)], ["r", "w", "u"][random(3)]);
        let (start, len) = (random(20), random(20));
        let names = &mut open[who];
        let order = match (names.contains(&name), random(12)) {
            (false, _) => {
                names.push(name);
                let copied = names[random(names.len())];
                if copied == name { format!("open {name}") } else { format!("dup {name} {copied}") }
            }
            (true, 0) => {
                names.retain(|other| *other != name);
                format!("close {name}")
            }
            (true, 1 | 2) if kind != "u" => format!("get {name} {kind} {start} 1"),
            (true, 3 | 4) => format!("flock {name} {kind}"),
            (true, 5..8) => format!("ofd {name} {kind} {start} {len}"),
            (true, _) => format!("posix {name} {kind} {start} {len}"),
        };
        let wanted = there[who].does(&order);
        let said = here[who].does(&order);
        if order.starts_with("get") {
            // What was closed may be there yet.
            let what = format!("{round}: {order}: {wanted}, and not {said}");
            until(&what, || same(&here[who].does(&order), &wanted));
        } else {
            assert_eq!(said, wanted, "{round}: {order}");
        }
    }
}

/// Who writes keeps a file from being executed, and a read lock is no reason to write.
fn a_reader_may_lock_what_runs(place: &Place) {
    let program = backing(place).join("program");
    fs::copy("/bin/sleep", &program).unwrap();
    let mut child = Command::new(&program).arg("60").spawn().unwrap();
    let file = File::open(place.path("program")).unwrap();
    fcntl(&file, FcntlArg::F_SETLK(&whole(libc::F_RDLCK))).unwrap();
    assert!(Command::new(&program).arg("0").status().unwrap().success());
    child.kill().unwrap();
    child.wait().unwrap();
}

fn who_does_not_lock_asks_for_nothing_more(place: &Place) {
    fs::write(place.path("f"), "text").unwrap();
    assert_eq!(fs::read_to_string(place.path("f")).unwrap(), "text");
    let stats = place.stats();
    for opcode in ["GETLK", "SETLK", "SETLKW"] {
        assert_eq!(stats.requests(opcode), 0, "{opcode}");
    }
    assert_eq!(stats.requests("FLUSH"), 2, "one for each close");
}

/// At once, although attributes are good for a second. With write-back the kernel has its own idea
/// of the size.
fn what_is_written_under_a_lock_is_seen_with_the_next(place: &Place) {
    let (inside, outside) = both(place);
    let (mount, beside) = (open_rw(&inside), open_rw(&outside));
    let (exclusive, unlock) = (FlockOperation::LockExclusive, FlockOperation::Unlock);
    for round in 0..50_u8 {
        flock(&beside, exclusive).unwrap();
        beside.write_all_at(&[round; 100], 0).unwrap();
        if !place.keeps_dirty_pages() {
            beside.set_len(200 + u64::from(round)).unwrap();
        }
        flock(&beside, unlock).unwrap();
        flock(&mount, exclusive).unwrap();
        assert_eq!(read_at(&mount, 100, 0), [round; 100], "read on the mount, round {round}");
        if !place.keeps_dirty_pages() {
            assert_eq!(read_at(&mount, 1000, 0).len(), 200 + usize::from(round), "its size");
        }
        mount.write_all_at(&[round + 100; 100], 0).unwrap();
        flock(&mount, unlock).unwrap();
        assert_eq!(read_at(&beside, 100, 0), [round + 100; 100], "read beside it, round {round}");
    }
}

/// Of one length and in no time: nothing but the lock has the kernel look.
fn who_only_reads_sees_it_too(place: &Place) {
    let (inside, outside) = both(place);
    let (mount, beside) = (File::open(&inside).unwrap(), open_rw(&outside));
    for round in 0..50_u8 {
        flock(&beside, FlockOperation::LockExclusive).unwrap();
        beside.write_all_at(&[round; 100], 0).unwrap();
        flock(&beside, FlockOperation::Unlock).unwrap();
        flock(&mount, FlockOperation::LockShared).unwrap();
        assert_eq!(read_at(&mount, 100, 0), [round; 100], "round {round}");
        flock(&mount, FlockOperation::Unlock).unwrap();
    }
}

/// Where time goes by the tick, a file can change after a look and be the same to the next.
fn what_changes_within_a_tick_is_seen_too(transport: Transport) {
    let words = |_: &Path| ["-t", "ramfs", "none"].map(str::to_owned).to_vec();
    let mounted = Mounted::start(&Setup::new(transport), words);
    let outside = mounted.daemon.work().join("backing/f");
    fs::write(&outside, [0; 100]).unwrap();
    let beside = open_rw(&outside);
    let inside = mounted.daemon.mountpoint().join("f");
    let mount = File::open(&inside).unwrap();
    let read = || {
        flock(&mount, FlockOperation::LockShared).unwrap();
        let data = read_at(&mount, 100, 0);
        flock(&mount, FlockOperation::Unlock).unwrap();
        data
    };
    let write = |byte: u8| {
        beside.write_all_at(&[byte; 100], 0).unwrap();
        beside.metadata().unwrap().modified().unwrap()
    };
    let (mut within, mut byte) = (0, 0);
    until("six changes within ticks", || {
        let first = write(byte);
        // It is looked at by whoever opens it, too.
        let looked = if byte % 2 == 0 { read() } else { fs::read(&inside).unwrap() };
        assert_eq!(looked, [byte; 100]);
        byte = byte.wrapping_add(1);
        let second = write(byte);
        // Long enough for the time of the change to tell that it was the last.
        std::thread::sleep(Duration::from_millis(30));
        assert_eq!(read(), [byte; 100]);
        within += usize::from(first == second);
        within == 6
    });
}

fn kept_for_the_mount_they_stay_there(place: &Place) {
    let (inside, outside) = both(place);
    let (mut one, mut two) = (Locker::start(&inside), Locker::start(&inside));
    let mut beside = Locker::start(&outside);
    for family in FAMILIES {
        assert_eq!(one.does(&order(family, false, "w")), DONE);
        assert_eq!(two.does(&order(family, false, "w")), TAKEN);
        assert_eq!(beside.does(&order(family, false, "w")), DONE, "{family}");
        for locker in [&mut one, &mut beside] {
            assert_eq!(locker.does(&order(family, false, "u")), DONE);
        }
    }
    two.begins(&order("flock", true, "w"));
    assert_eq!(two.says(), DONE);
    one.begins(&order("flock", true, "w"));
    until_waiting(&inside, 1);
    one.interrupt();
    assert_eq!(one.says(), "EINTR");
    assert_eq!(place.stats().requests("SETLK") + place.stats().requests("SETLKW"), 0);
}

/// Names and attributes are not kept, as the journal of a database comes and goes beside it. Data
/// are: what guards them are the locks.
fn a_database_is_used_from_both_sides(place: &Place) {
    const ROUNDS: usize = 60;
    let (inside, outside) = (place.path("db"), backing(place).join("db"));
    let sql = |path: &std::path::Path, text: &str| {
        let mut command = Command::new("sqlite3");
        let result = run_limited(command.arg("-cmd").arg(".timeout 30000").arg(path).arg(text));
        let (status, said) = result.unwrap();
        assert!(status.success(), "{}: {said}", path.display());
        said
    };
    sql(
        &outside,
        "create table t(side text, n integer, data blob); create table c(n integer); \
         insert into c values(0)",
    );
    let transactions: String = (0..ROUNDS)
        .map(|n| {
            format!(
                "begin immediate; update c set n = n + 1; \
                 insert into t values('SIDE', {n}, randomblob(3000)); commit;\n"
            )
        })
        .collect();
    std::thread::scope(|scope| {
        for (path, side) in [(&inside, "mount"), (&outside, "backing")] {
            let text = transactions.replace("SIDE", side);
            scope.spawn(move || sql(path, &text));
        }
    });
    for path in [&inside, &outside] {
        assert_eq!(sql(path, "pragma integrity_check"), "ok", "{}", path.display());
        assert_eq!(sql(path, "select n from c"), (2 * ROUNDS).to_string());
        let counts = sql(path, "select side, count(*), count(distinct n) from t group by side");
        assert_eq!(counts, format!("backing|{ROUNDS}|{ROUNDS}\nmount|{ROUNDS}|{ROUNDS}"));
    }
}
