//! Promise 4: writes, `utimens`, `stat`, close and write-back in any order give the times that
//! tmpfs gives: explicit ones exactly, implicit ones where and only where tmpfs moves its own.

use std::fs::{self, File, FileTimes};
use std::io::Write;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::{FallocateFlags, XattrFlags, fsetxattr};

use crate::common::{
    PUNCH, Place, Plan, Random, allocate, body_directory, cases, coarse_now, ctime, drop_pages,
    forget_inodes, mtime, next_tick, open_append, open_rw, pattern, times_of,
};

cases!(mounts, Plan::new().seconds(120); a_random_sequence_agrees_with_tmpfs);
cases!(
    everywhere;
    a_write_moves_mtime_at_once,
    write_back_and_close_move_nothing,
    explicit_times_stay,
    futimens_on_a_dirty_handle_stays,
    a_write_after_utimens_moves_mtime,
    mtime_is_the_time_of_the_write,
    only_truncate_moves_mtime,
);

/// A tick of the coarsest kernel clock, with room for a slow machine.
const TICK: i128 = 20_000_000;

#[derive(Clone, Copy, Debug)]
enum Step {
    Write,
    Append,
    SetBoth,
    SetMtime,
    Truncate,
    Chmod,
    Sync,
    Drop,
    Reopen,
    Link,
    Rename,
    Punch,
    Allocate,
    SetXattr,
    Read,
    Evict,
}

const STEPS: [Step; 20] = [
    Step::Write,
    Step::Write,
    Step::Write,
    Step::Write,
    Step::Append,
    Step::SetBoth,
    Step::SetBoth,
    Step::SetMtime,
    Step::Truncate,
    Step::Chmod,
    Step::Sync,
    Step::Drop,
    Step::Reopen,
    Step::Link,
    Step::Rename,
    Step::Punch,
    Step::Allocate,
    Step::SetXattr,
    Step::Read,
    Step::Evict,
];

/// One file on one file system, with the times that were seen last.
struct Side {
    root: PathBuf,
    name: PathBuf,
    file: File,
    seen: (i128, i128),
}

impl Side {
    fn new(root: &Path) -> Self {
        let name = root.join("a");
        let file = open_rw(&name);
        Self { root: root.to_owned(), name, file, seen: (0, 0) }
    }

    /// Does a step; the random numbers are drawn by the caller, alike for both sides.
    fn run(&mut self, step: Step, at: u64, number: u64) {
        let when = UNIX_EPOCH + Duration::new(1_000_000 + at, 123_456_789);
        let bytes = pattern(1 + usize::try_from(at % 9000).unwrap(), number);
        match step {
            Step::Write => self.file.write_all_at(&bytes, at).unwrap(),
            Step::Append => open_append(&self.name).write_all(&bytes).unwrap(),
            Step::SetBoth => {
                let times = FileTimes::new().set_modified(when).set_accessed(when);
                self.file.set_times(times).unwrap();
            }
            Step::SetMtime => {
                self.file.set_times(FileTimes::new().set_modified(when)).unwrap();
            }
            Step::Truncate => self.file.set_len(at).unwrap(),
            Step::Chmod => {
                let mode = 0o600 | u32::try_from(number % 0o100).unwrap();
                fs::set_permissions(&self.name, fs::Permissions::from_mode(mode)).unwrap();
            }
            Step::Sync => self.file.sync_all().unwrap(),
            Step::Drop => drop_pages(&self.file),
            Step::Reopen => self.file = open_rw(&self.name),
            Step::Link => {
                let other = self.root.join("other");
                fs::hard_link(&self.name, &other).unwrap();
                fs::remove_file(&other).unwrap();
            }
            Step::Rename => {
                let other = self.root.join(if self.name.ends_with("a") { "b" } else { "a" });
                fs::rename(&self.name, &other).unwrap();
                self.name = other;
            }
            Step::Punch => assert!(allocate(&self.file, PUNCH, at, 5000), "punch"),
            Step::Allocate => {
                assert!(allocate(&self.file, FallocateFlags::empty(), at, 5000), "allocate");
            }
            Step::SetXattr => {
                let flags = XattrFlags::empty();
                fsetxattr(&self.file, "user.number", &number.to_le_bytes(), flags).unwrap();
            }
            Step::Read => {
                self.file.read_at(&mut [0; 5000], at).unwrap();
            }
            Step::Evict => {
                // The handle is what keeps the inode in memory.
                self.file = File::open("/dev/null").unwrap();
                forget_inodes();
                self.file = open_rw(&self.name);
            }
        }
    }

    /// Which of mtime and ctime moved since the last look.
    fn moved(&mut self, through_handle: bool) -> (bool, bool) {
        let status = if through_handle { self.file.metadata() } else { fs::metadata(&self.name) };
        let now = times_of(&status.unwrap());
        let moved = (now.0 != self.seen.0, now.1 != self.seen.1);
        self.seen = now;
        moved
    }
}

/// Looks at the times after some of the steps only, so that data stay dirty in between.
fn a_random_sequence_agrees_with_tmpfs(place: &Place) {
    let seed = u64::from(std::process::id());
    let plain = body_directory();
    let mut sides = [Side::new(plain.path()), Side::new(place.root())];
    let mut random = Random::new(seed);
    let mut history = Vec::new();
    let mut moved_at = 0;
    for number in 0..300 {
        let (step, at) = (random.pick(&STEPS), random.below(100_000));
        let before = coarse_now() - TICK;
        let [tmpfs, mount] = &mut sides;
        tmpfs.run(step, at, number);
        mount.run(step, at, number);
        moved_at = before.max(moved_at);
        next_tick();
        history.push(step);
        if random.below(3) == 0 {
            continue;
        }
        let through_handle = random.below(2) == 0;
        let wanted = tmpfs.moved(through_handle);
        let moved = mount.moved(through_handle);
        let context = || {
            let last = &history[history.len().saturating_sub(8)..];
            format!(
                "seed {seed}, step {number}, at {at}, through handle: {through_handle}, {last:?}"
            )
        };
        assert_eq!(moved, wanted, "(mtime, ctime) moved; {}", context());
        // An explicit time of tmpfs is far from now, an implicit one near.
        if (tmpfs.seen.0 - coarse_now()).abs() > 3_600_000_000_000 {
            assert_eq!(mount.seen.0, tmpfs.seen.0, "explicit mtime; {}", context());
        } else {
            let apart = (mount.seen.0 - tmpfs.seen.0).abs();
            assert!(apart <= 10 * TICK, "mtimes are {apart} ns apart; {}", context());
        }
        let apart = (mount.seen.1 - tmpfs.seen.1).abs();
        assert!(apart <= 10 * TICK, "ctimes are {apart} ns apart; {}", context());
    }
    assert!(moved_at > 0);
}

fn a_write_moves_mtime_at_once(place: &Place) {
    let path = place.path("f");
    let mut file = open_rw(&path);
    let mut last = mtime(&path);
    for _ in 0..10 {
        next_tick();
        file.write_all(&[b'm'; 100]).unwrap();
        let now = mtime(&path);
        assert!(now > last, "mtime went from {last} to {now}");
        assert_eq!(times_of(&file.metadata().unwrap()), (now, ctime(&path)), "fstat");
        last = now;
    }
}

fn write_back_and_close_move_nothing(place: &Place) {
    let path = place.path("f");
    let mut file = open_rw(&path);
    next_tick();
    file.write_all(&pattern(50_000, 1)).unwrap();
    let written = (mtime(&path), ctime(&path));
    for what in ["fsync", "close", "eviction"] {
        next_tick();
        match what {
            "fsync" => file.sync_all().unwrap(),
            "close" => file = File::open("/dev/null").unwrap(),
            _ => forget_inodes(),
        }
        assert_eq!((mtime(&path), ctime(&path)), written, "times after {what}");
    }
}

fn explicit(seconds: u64) -> (SystemTime, i128) {
    let time = Duration::new(seconds, 987_654_321);
    (UNIX_EPOCH + time, i128::try_from(time.as_nanos()).unwrap())
}

fn explicit_times_stay(place: &Place) {
    let path = place.path("f");
    let mut file = open_rw(&path);
    file.write_all(&pattern(100_000, 1)).unwrap();
    let (time, wanted) = explicit(1_100_000_000);
    let times = FileTimes::new().set_modified(time).set_accessed(time);
    // By the name, as a program without the writer's handle does it.
    File::open(&path).unwrap().set_times(times).unwrap();
    assert_eq!(mtime(&path), wanted, "at once");
    file.sync_all().unwrap();
    assert_eq!(mtime(&path), wanted, "after fsync");
    drop(file);
    assert_eq!(mtime(&path), wanted, "after close");
    forget_inodes();
    assert_eq!(mtime(&path), wanted, "after eviction");
    assert_eq!(fs::metadata(&path).unwrap().accessed().unwrap(), time, "atime");
}

fn futimens_on_a_dirty_handle_stays(place: &Place) {
    let path = place.path("f");
    for seconds in [0, 1, 600_000_000, 5_000_000_000] {
        let mut file = open_rw(&path);
        file.write_all(&pattern(10_000, seconds)).unwrap();
        let (time, wanted) = explicit(seconds);
        file.set_modified(time).unwrap();
        drop(file);
        forget_inodes();
        assert_eq!(mtime(&path), wanted, "mtime");
    }
}

fn a_write_after_utimens_moves_mtime(place: &Place) {
    let path = place.path("f");
    let mut file = open_rw(&path);
    file.write_all(b"u").unwrap();
    file.set_modified(explicit(1_000_000_000).0).unwrap();
    let start = coarse_now() - TICK;
    file.write_all(b"v").unwrap();
    assert!(mtime(&path) >= start, "mtime did not move at the write");
    drop(file);
    assert!(mtime(&path) >= start, "mtime fell back at close");
    forget_inodes();
    assert!(mtime(&path) >= start, "mtime fell back at eviction");
}

/// The time of the write, not of the write-back a good while later.
fn mtime_is_the_time_of_the_write(place: &Place) {
    let path = place.path("f");
    let mut file = open_rw(&path);
    let early = coarse_now();
    file.write_all(b"m").unwrap();
    let late = coarse_now();
    while coarse_now() < late + 10 * TICK {
        next_tick();
    }
    drop(file);
    forget_inodes();
    let time = mtime(&path);
    assert!((early - TICK..=late + TICK).contains(&time), "{time} is not in {early}..{late}");
}

fn only_truncate_moves_mtime(place: &Place) {
    let path = place.path("f");
    let mut file = open_rw(&path);
    file.write_all(&pattern(9000, 1)).unwrap();
    let written = mtime(&path);
    next_tick();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    fs::hard_link(&path, place.path("g")).unwrap();
    fs::rename(&path, place.path("h")).unwrap();
    let path = place.path("h");
    assert_eq!(mtime(&path), written, "after chmod, link and rename");
    assert!(ctime(&path) > written, "ctime after them");
    next_tick();
    file.set_len(100).unwrap();
    let cut = mtime(&path);
    assert!(cut > written, "mtime after truncate");
    next_tick();
    drop(file);
    assert_eq!(mtime(&path), cut, "after close");
    forget_inodes();
    assert_eq!(mtime(&place.path("g")), cut, "after eviction");
}
