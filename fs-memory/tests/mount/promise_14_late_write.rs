//! Promise 14: cached pages that are written late move no mtime, strip no permission bits unless
//! told to, are held to no user's limit, and are taken whole or refused, never in part.

use std::fs::{self, File, FileTimes};
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt, chown};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, UNIX_EPOCH};

use rustix::fs::{FallocateFlags, XattrFlags, copy_file_range, fallocate, getxattr, setxattr};
use rustix::io::Errno;

use crate::common::{
    MIB, MIB_U64, Place, Plan, as_nobody, cases, ctime, drop_pages, fails, forget_inodes,
    forget_pages, mode, mtime, next_tick, open_rw, open_wo, pattern, read_at, same_bytes,
};

cases!(
    everywhere;
    written_in_the_tick_of_creation,
    set_id_bits_given_while_dirty_stay,
    set_id_bits_stay_under_a_privileged_writer,
    explicit_mtime_stays_under_a_concurrent_writer_of_another_file,
    a_mode_that_forbids_writing_comes_too_late,
);
cases!(
    everywhere, Plan::new().options(&["--allow-other"]);
    set_id_bits_go_when_another_user_writes,
    set_id_bits_go_when_another_user_copies_or_reserves,
    set_id_bits_go_with_the_owner,
    capabilities_go_at_a_write,
    late_pages_of_another_user_are_written,
);
cases!(mounts, Plan::new().options(&["--size", "16M"]); a_full_filesystem_loses_nothing_in_silence);

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// The kernel then sees no change of mtime and tells the daemon none.
fn written_in_the_tick_of_creation(place: &Place) {
    for number in 0..20 {
        let path = place.path(&format!("f{number}"));
        let mut file = open_rw(&path);
        file.write_all(&[b'm'; 5000]).unwrap();
        let before = (mtime(&path), ctime(&path));
        next_tick();
        drop(file);
        assert_eq!(mtime(&path), before.0, "mtime after close");
        forget_inodes();
        assert_eq!(mtime(&path), before.0, "mtime after eviction");
        assert_eq!(ctime(&path), before.1, "ctime after eviction");
    }
}

fn set_id_bits_given_while_dirty_stay(place: &Place) {
    let path = place.path("f");
    let mut file = open_rw(&path);
    file.write_all(&pattern(100_000, 1)).unwrap();
    chmod(&path, 0o6755);
    assert_eq!(mode(&path), 0o6755, "mode at once");
    drop(file);
    forget_inodes();
    assert_eq!(mode(&path), 0o6755, "mode after eviction");
    same_bytes(&fs::read(&path).unwrap(), &pattern(100_000, 1), "content");
}

/// Root writes all the time while the bits are set, so that pages are in flight at any moment.
fn set_id_bits_stay_under_a_privileged_writer(place: &Place) {
    let path = place.path("f");
    let file = open_rw(&path);
    let over = AtomicBool::new(false);
    let writer = |round: u64| file.write_all_at(&pattern(9000, round), round % 7 * 4096).unwrap();
    writer(0);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut round = 0;
            while !over.load(Ordering::Relaxed) {
                round += 1;
                writer(round);
            }
        });
        for wanted in [0o4755, 0o6755, 0o2711, 0o6777].repeat(10) {
            chmod(&path, wanted);
            let got = mode(&path);
            if got != wanted {
                over.store(true, Ordering::Relaxed);
                panic!("mode {got:o} after chmod {wanted:o}");
            }
        }
        over.store(true, Ordering::Relaxed);
    });
    drop(file);
    forget_pages(&path);
    forget_inodes();
    assert_eq!(mode(&path), 0o6777, "mode at the end");
}

fn explicit_mtime_stays_under_a_concurrent_writer_of_another_file(place: &Place) {
    let (path, other) = (place.path("f"), place.path("g"));
    let mut file = open_rw(&path);
    let mut busy = open_rw(&other);
    for round in 0..20 {
        let time = UNIX_EPOCH + Duration::new(1_000_000_000 + round, 7);
        file.write_all(&pattern(20_000, round)).unwrap();
        busy.write_all(&pattern(50_000, round)).unwrap();
        let times = FileTimes::new().set_modified(time);
        File::open(&path).unwrap().set_times(times).unwrap();
        drop_pages(&busy);
        assert_eq!(fs::metadata(&path).unwrap().modified().unwrap(), time, "round {round}");
        file.sync_all().unwrap();
        assert_eq!(fs::metadata(&path).unwrap().modified().unwrap(), time, "after fsync");
    }
}

/// The handle was opened before; what it wrote and will write must still arrive.
fn a_mode_that_forbids_writing_comes_too_late(place: &Place) {
    let path = place.path("f");
    let mut file = open_rw(&path);
    file.write_all(&[b'c'; 100_000]).unwrap();
    chmod(&path, 0o400);
    file.sync_all().unwrap();
    file.write_all(&[b'd'; 100_000]).unwrap();
    drop(file);
    forget_inodes();
    assert_eq!(mode(&path), 0o400, "mode");
    let wanted = [[b'c'; 100_000], [b'd'; 100_000]].concat();
    same_bytes(&fs::read(&path).unwrap(), &wanted, "content");
}

fn set_id_bits_go_when_another_user_writes(place: &Place) {
    let path = place.path("f");
    // Where the group may not execute, tmpfs takes its bit as well, and the FUSE protocol does not.
    for (before, after) in [(0o6777, 0o777), (0o4666, 0o666), (0o2776, 0o776)] {
        fs::write(&path, [b's'; 100]).unwrap();
        chown(&path, Some(1234), Some(1234)).unwrap();
        chmod(&path, before);
        as_nobody(|| {
            let mut file = open_wo(&path);
            file.write_all(b"x").unwrap();
            assert_eq!(file.metadata().unwrap().mode() & 0o7777, after, "{before:o}, at once");
        });
        assert_eq!(mode(&path), after, "{before:o}, after close");
        forget_inodes();
        assert_eq!(mode(&path), after, "{before:o}, after eviction");
        assert_eq!(fs::read(&path).unwrap()[..2], *b"xs", "content");
        fs::remove_file(&path).unwrap();
    }
}

fn set_id_bits_go_when_another_user_copies_or_reserves(place: &Place) {
    let source = place.path("source");
    fs::write(&source, pattern(9000, 1)).unwrap();
    let change: [fn(&File, &File); 2] = [
        |_, file| fallocate(file, FallocateFlags::empty(), 0, 5000).unwrap(),
        |source, file| {
            copy_file_range(source, None, file, None, 9000).unwrap();
        },
    ];
    for change in change {
        let path = place.path("f");
        fs::write(&path, [b's'; 100]).unwrap();
        chown(&path, Some(1234), Some(1234)).unwrap();
        chmod(&path, 0o6777);
        as_nobody(|| change(&File::open(&source).unwrap(), &open_wo(&path)));
        forget_inodes();
        assert_eq!(mode(&path), 0o777, "after another user's change");
        chmod(&path, 0o6777);
        change(&File::open(&source).unwrap(), &open_wo(&path));
        forget_inodes();
        assert_eq!(mode(&path), 0o6777, "after a privileged one's");
        fs::remove_file(&path).unwrap();
    }
}

fn set_id_bits_go_with_the_owner(place: &Place) {
    let path = place.path("f");
    let mut file = open_rw(&path);
    file.write_all(&pattern(50_000, 1)).unwrap();
    chmod(&path, 0o6755);
    chown(&path, Some(1234), Some(1235)).unwrap();
    assert_eq!(mode(&path), 0o755, "after chown");
    drop(file);
    forget_inodes();
    let status = fs::metadata(&path).unwrap();
    assert_eq!((status.uid(), status.gid(), status.len()), (1234, 1235, 50_000), "the rest");
    assert_eq!(mode(&path), 0o755, "after eviction");
}

/// A capability for a program is gone once it was written, by whomever; one that is given to a
/// program with dirty pages stays.
fn capabilities_go_at_a_write(place: &Place) {
    // Version 2, effective; cap_net_raw permitted (linux/capability.h, struct vfs_cap_data).
    let capability = [0x0200_0001_u32, 1 << 13, 0, 0, 0].map(u32::to_le_bytes).concat();
    let name = "security.capability";
    let path = place.path("f");
    let give = || setxattr(&path, name, &capability, XattrFlags::empty()).unwrap();
    let get = || getxattr(&path, name, &mut [0_u8; 64]);
    for by_root in [false, true] {
        fs::write(&path, [b's'; 5000]).unwrap();
        chmod(&path, 0o777);
        give();
        assert_eq!(get(), Ok(capability.len()), "given");
        let write = || open_wo(&path).write_all(b"x").unwrap();
        if by_root {
            write()
        } else {
            as_nobody(write)
        }
        fails(get(), Errno::NODATA, "after a write");
        let mut file = open_wo(&path);
        file.write_all(&[b'd'; 5000]).unwrap();
        give();
        drop(file);
        forget_inodes();
        assert_eq!(get(), Ok(capability.len()), "given while dirty");
    }
}

/// Late pages come without credentials; modes were checked when the file was opened.
fn late_pages_of_another_user_are_written(place: &Place) {
    chmod(place.root(), 0o777);
    let path = place.path("f");
    as_nobody(|| {
        let mut options = File::options();
        let mut file = options.write(true).create_new(true).mode(0o600).open(&path).unwrap();
        file.write_all(&pattern(100_000, 1)).unwrap();
        chmod(&path, 0);
        file.write_all(&pattern(100_000, 2)).unwrap();
        file.sync_all().unwrap();
        file.write_all(b"last").unwrap();
        drop(file);
        fails(File::open(&path), Errno::ACCESS, "open with mode 0");
    });
    forget_pages(&path);
    let wanted = [&pattern(100_000, 1)[..], &pattern(100_000, 2), b"last"].concat();
    same_bytes(&fs::read(&path).unwrap(), &wanted, "content");
}

/// 16 MiB take less than 24: some call must say so, and what was accepted must be there.
fn a_full_filesystem_loses_nothing_in_silence(place: &Place) {
    let path = place.path("f");
    let file = open_rw(&path);
    let mut accepted = 0;
    let mut error = None;
    for number in 0..24 {
        // Odd lengths, so that the end of the space is inside a WRITE.
        let data = pattern(MIB - 1234, number);
        let written = file.write_all_at(&data, number * (MIB_U64 - 1234));
        if let Err(refused) = written.and_then(|()| file.sync_all()) {
            error = Some(refused);
            break;
        }
        accepted = number + 1;
    }
    let error = error.expect("24 MiB fit into 16");
    assert_eq!(error.raw_os_error(), Some(Errno::NOSPC.raw_os_error()), "{error}");
    assert!((10..17).contains(&accepted), "{accepted} MiB were accepted");
    for number in 0..accepted {
        let got = read_at(&file, MIB - 1234, number * (MIB_U64 - 1234));
        same_bytes(&got, &pattern(MIB - 1234, number), &format!("accepted piece {number}"));
    }
    // Space that is given back can be used at once.
    let _ = file.set_len(0);
    drop(file);
    fs::remove_file(&path).unwrap();
    let file = open_rw(&path);
    file.write_all_at(&pattern(4 * MIB, 9), 0).unwrap();
    drop_pages(&file);
    same_bytes(&read_at(&file, 5 * MIB, 0), &pattern(4 * MIB, 9), "after space was given back");
}
