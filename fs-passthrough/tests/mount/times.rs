//! Times and set-id bits while pages come in late: what promises 4 and 14 say, but for the ctime
//! in the backing directory, which nobody can set.

use std::fs::{self, File, FileTimes};
use std::io::Write;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant, UNIX_EPOCH};

use crate::backing;
use crate::common::{
    MIB, Place, Plan, as_nobody, cases, drop_pages, forget_inodes, mode, mtime, next_tick, open_rw,
    pattern, same_bytes,
};

cases!(
    mounts;
    written_in_the_tick_of_creation,
    late_pages_move_no_time,
    explicit_times_stay,
    explicit_times_stay_while_pages_are_on_their_way,
    direct_writes_move_mtime,
    a_mapping_that_outlives_its_handle_moves_no_time,
    set_id_bits_given_while_dirty_stay,
);
cases!(writeback; times_of_others_stay);
cases!(
    mounts, Plan::new().options(&["--allow-other"]);
    set_id_bits_go_when_another_user_writes,
    a_file_that_may_not_be_read_is_written,
);

fn both(place: &Place, name: &str) -> (i128, i128) {
    (mtime(&place.path(name)), mtime(&backing(place).join(name)))
}

/// The kernel then sees no change of mtime and sends no SETATTR.
fn written_in_the_tick_of_creation(place: &Place) {
    for number in 0..20 {
        let name = format!("f{number}");
        let mut file = open_rw(&place.path(&name));
        file.write_all(&[b'm'; 5000]).unwrap();
        let before = mtime(&place.path(&name));
        next_tick();
        drop(file);
        assert_eq!(both(place, &name), (before, before), "after close");
        forget_inodes();
        assert_eq!(both(place, &name), (before, before), "after eviction");
    }
}

fn late_pages_move_no_time(place: &Place) {
    let path = place.path("f");
    let mut file = open_rw(&path);
    next_tick();
    for round in 0..5 {
        file.write_all(&pattern(MIB, round)).unwrap();
        let written = mtime(&path);
        for what in ["fsync", "pages dropped", "close"] {
            next_tick();
            match what {
                "fsync" => file.sync_all().unwrap(),
                "pages dropped" => drop_pages(&file),
                _ => file = File::options().append(true).open(&path).unwrap(),
            }
            assert_eq!(both(place, "f"), (written, written), "mtime after {what}");
        }
    }
    drop(file);
    forget_inodes();
    let (shown, real) = both(place, "f");
    assert_eq!(shown, real);
}

fn explicit_times_stay(place: &Place) {
    let path = place.path("f");
    for seconds in [1, 1_100_000_000, 5_000_000_000] {
        let mut file = open_rw(&path);
        file.write_all(&pattern(100_000, seconds)).unwrap();
        let time = UNIX_EPOCH + Duration::new(seconds, 987_654_321);
        let wanted = i128::from(seconds) * 1_000_000_000 + 987_654_321;
        File::open(&path).unwrap().set_times(FileTimes::new().set_modified(time)).unwrap();
        file.sync_all().unwrap();
        assert_eq!(both(place, "f"), (wanted, wanted), "after fsync");
        drop(file);
        forget_inodes();
        assert_eq!(both(place, "f"), (wanted, wanted), "after eviction");
    }
}

/// Another handle writes and syncs all the time; whichever comes last, the two sides agree.
fn explicit_times_stay_while_pages_are_on_their_way(place: &Place) {
    let path = place.path("f");
    let file = open_rw(&path);
    for round in 0..10 {
        thread::scope(|scope| {
            scope.spawn(|| {
                for part in 0..8 {
                    file.write_all_at(&pattern(300_000, part), part * 250_000).unwrap();
                    file.sync_data().unwrap();
                }
            });
            for step in 0..8 {
                let time = UNIX_EPOCH + Duration::new(1_000_000_000 + round, step);
                File::open(&path).unwrap().set_modified(time).unwrap();
            }
        });
        file.sync_all().unwrap();
        let (shown, real) = both(place, "f");
        assert_eq!(shown, real, "round {round}");
    }
}

fn direct_writes_move_mtime(place: &Place) {
    let path = place.path("f");
    let file = open_rw(&path);
    file.write_all_at(&pattern(20_000, 1), 0).unwrap();
    let early = mtime(&path);
    next_tick();
    let direct = crate::common::open_direct(&path);
    crate::common::write_direct(&direct, &pattern(8192, 2), 4096);
    drop((file, direct));
    forget_inodes();
    let (shown, real) = both(place, "f");
    assert!(shown > early, "mtime stands still");
    assert_eq!(shown, real);
}

fn a_mapping_that_outlives_its_handle_moves_no_time(place: &Place) {
    let path = place.path("f");
    fs::write(&path, pattern(50_000, 1)).unwrap();
    next_tick();
    let file = open_rw(&path);
    // SAFETY: nobody shortens the file while it is mapped.
    let mut map = unsafe { memmap2::MmapMut::map_mut(&file).unwrap() };
    drop(file);
    map[100..200].fill(b'x');
    map.flush().unwrap();
    let stored = mtime(&path);
    next_tick();
    map[20_000..20_100].fill(b'y');
    drop(map);
    forget_inodes();
    let (shown, real) = both(place, "f");
    assert!(shown >= stored);
    assert_eq!(shown, real);
}

/// A change outside, with the pages of a handle that is still open written long before.
fn times_of_others_stay(place: &Place) {
    let (path, outside) = (place.path("f"), backing(place).join("f"));
    for (round, set) in
        [None, Some(UNIX_EPOCH + Duration::from_secs(1_000_000_000))].iter().enumerate()
    {
        let file = open_rw(&path);
        next_tick();
        file.write_all_at(&pattern(5000, round as u64), 0).unwrap();
        // Neither FLUSH nor FSYNC: the pages, and mtime after them.
        let before = place.stats();
        rustix::fs::syncfs(File::open(place.root()).unwrap()).unwrap();
        let start = Instant::now();
        for opcode in ["WRITE", "SETATTR"] {
            while place.stats().requests(opcode) == before.requests(opcode) {
                assert!(start.elapsed() < Duration::from_secs(20), "no {opcode}");
                next_tick();
            }
        }
        next_tick();
        let theirs = File::options().write(true).open(&outside).unwrap();
        theirs.write_all_at(&pattern(5000, 9), 0).unwrap();
        if let Some(time) = set {
            theirs.set_modified(*time).unwrap();
        }
        let time = mtime(&outside);
        drop(File::open(&path).unwrap());
        assert_eq!(mtime(&outside), time, "after another close, round {round}");
        drop(file);
        assert_eq!(mtime(&outside), time, "after close, round {round}");
    }
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn set_id_bits_given_while_dirty_stay(place: &Place) {
    let path = place.path("f");
    let mut file = open_rw(&path);
    file.write_all(&pattern(100_000, 1)).unwrap();
    chmod(&path, 0o6755);
    file.write_all(&pattern(100_000, 2)).unwrap();
    drop(file);
    forget_inodes();
    assert_eq!(mode(&path), 0o6755);
}

fn set_id_bits_go_when_another_user_writes(place: &Place) {
    let path = place.path("f");
    fs::write(&path, pattern(10_000, 1)).unwrap();
    for (before, after) in [(0o6777, 0o0777), (0o4766, 0o0766), (0o2767, 0o2767)] {
        chmod(&path, before);
        as_nobody(|| open_rw(&path).write_all_at(b"x", 0).unwrap());
        assert_eq!(mode(&path), after, "write to {before:o}");
        chmod(&path, before);
        as_nobody(|| open_rw(&path).set_len(9000).unwrap());
        assert_eq!(mode(&path), after, "truncation of {before:o}");
        forget_inodes();
        assert_eq!(mode(&backing(place).join("f")), after, "outside");
    }
}

/// A part of a page is written, and the rest of it read first although its writer may not.
fn a_file_that_may_not_be_read_is_written(place: &Place) {
    let path = place.path("f");
    let mut wanted = pattern(10_000, 1);
    fs::write(&path, &wanted).unwrap();
    std::os::unix::fs::chown(&path, Some(65534), Some(65534)).unwrap();
    chmod(&path, 0o200);
    forget_inodes();
    as_nobody(|| {
        File::open(&path).expect_err("it may not be read");
        let file = File::options().write(true).open(&path).unwrap();
        file.write_all_at(&[b'w'; 100], 5000).unwrap();
    });
    wanted[5000..5100].fill(b'w');
    same_bytes(&fs::read(backing(place).join("f")).unwrap(), &wanted, "content");
}
