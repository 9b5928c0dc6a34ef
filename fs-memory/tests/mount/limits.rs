//! What the daemon holds at most, what it tells about that, and what it gives back.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::fs::{FallocateFlags, StatVfs, fallocate, setxattr, statvfs};
use rustix::io::Errno;

use crate::attributes::{
    ACCESS_ACL, ANY, GROUP, MASK, NONE, OTHER, OWNER, USER, acl, chmod, xattr,
};
use crate::clients::STEP;
use crate::common::system::run_limited;
use crate::common::{
    Daemon, MIB, MIB_U64, Place, Plan, Setup, Transport, cases, drills, fails, forget_inodes,
    forget_pages, mode, open_rw, pattern, read_at, same_bytes,
};

cases!(
    mounts, Plan::new().options(&["--size", "16M", "--inodes", "40"]);
    statfs_tells_the_limits,
    no_space_then_space_again,
    no_inodes_then_inodes_again,
    names_are_limited_too,
    a_failed_zero_range_leaves_the_data,
    allocation_is_limited_before_it_is_promised,
);
cases!(mounts, Plan::new().options(&["--size", "2M"]); no_space_changes_no_permissions_by_half);
cases!(writeback; forgotten_inodes_are_told);

drills!(deleted_data_leave_the_memory);

fn free(place: &Place) -> StatVfs {
    statvfs(place.root()).unwrap()
}

fn free_bytes(place: &Place) -> u64 {
    let status = free(place);
    status.f_bavail * status.f_frsize
}

/// Waits for something that a FORGET brings about, which nobody waits for.
fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn statfs_tells_the_limits(place: &Place) {
    let before = free(place);
    assert_eq!(before.f_blocks * before.f_frsize, 16 * MIB_U64, "size");
    assert_eq!(before.f_namemax, 255, "longest name");
    assert_eq!(before.f_files - before.f_ffree, 1, "inodes in use: the root");
    assert!((39..=40).contains(&before.f_ffree), "{} free inodes", before.f_ffree);
    let free_before = free_bytes(place);
    fs::write(place.path("f"), pattern(4 * MIB, 1)).unwrap();
    let taken = free_before - free_bytes(place);
    assert!((4 * MIB_U64..5 * MIB_U64).contains(&taken), "{taken} bytes taken by 4 MiB");
    assert_eq!(free(place).f_ffree, before.f_ffree - 1, "free inodes");
    fs::remove_file(place.path("f")).unwrap();
    eventually("the space is given back", || free_bytes(place) == free_before);
    assert_eq!(free(place).f_ffree, before.f_ffree, "free inodes at the end");
}

fn names_are_limited_too(place: &Place) {
    let path = place.path("f");
    fs::write(&path, b"x").unwrap();
    let made =
        (0..100).take_while(|name| fs::hard_link(&path, place.path(&format!("l{name}"))).is_ok());
    let made = made.count();
    assert!((37..40).contains(&made), "{made} links of 40 inodes");
    for name in 0..made {
        fs::remove_file(place.path(&format!("l{name}"))).unwrap();
    }
    fs::hard_link(&path, place.path("again")).unwrap();
    for name in ["f", "again"] {
        fs::remove_file(place.path(name)).unwrap();
    }
    eventually("all inodes are free", || free(place).f_files - free(place).f_ffree == 1);
}

fn a_failed_zero_range_leaves_the_data(place: &Place) {
    let path = place.path("f");
    fs::write(&path, pattern(100_000, 3)).unwrap();
    let file = open_rw(&path);
    let mode = FallocateFlags::ZERO_RANGE;
    fails(fallocate(&file, mode, 0, 1 << 40), Errno::NOSPC, "more than there is");
    forget_pages(&path);
    same_bytes(&fs::read(&path).unwrap(), &pattern(100_000, 3), "after the failure");
    fallocate(&file, mode, 10, 50_000).unwrap();
    forget_pages(&path);
    let mut wanted = pattern(100_000, 3);
    wanted[10..50_010].fill(0);
    same_bytes(&fs::read(&path).unwrap(), &wanted, "after a good one");
    fs::remove_file(&path).unwrap();
}

fn no_space_then_space_again(place: &Place) {
    for round in 0..3 {
        let path = place.path("full");
        let file = open_rw(&path);
        let written = (0..20).try_for_each(|number| {
            file.write_all_at(&pattern(MIB, number), number * MIB_U64)
                .and_then(|()| file.sync_all())
        });
        fails(written, Errno::NOSPC, "20 MiB into 16");
        // An overwrite of what is there takes no space.
        file.write_all_at(&pattern(MIB, 99), 0).unwrap();
        file.sync_all().unwrap();
        same_bytes(&read_at(&file, MIB, 0), &pattern(MIB, 99), "overwritten while full");
        let other = place.path("other");
        let small = File::options().write(true).create(true).truncate(true).open(&other).unwrap();
        let _ = small.write_all_at(&pattern(2 * MIB, 1), 0);
        drop(small);
        fs::remove_file(&other).unwrap();
        drop(file);
        fs::remove_file(&path).unwrap();
        eventually("space again", || free_bytes(place) >= 15 * MIB_U64);
        fs::write(&other, pattern(8 * MIB, round)).unwrap();
        same_bytes(&fs::read(&other).unwrap(), &pattern(8 * MIB, round), "after it was full");
        fs::remove_file(&other).unwrap();
    }
}

fn no_inodes_then_inodes_again(place: &Place) {
    let create = |number: u64| {
        let mut options = File::options();
        options.write(true).create_new(true).mode(0o600).open(place.path(&format!("f{number}")))
    };
    let room = free(place).f_ffree;
    let made = (0..60).take_while(|number| create(*number).is_ok()).count();
    assert_eq!(made as u64, room, "files that were made, and free inodes before");
    fails(create(1000), Errno::NOSPC, "one more file");
    fails(fs::create_dir(place.path("d")), Errno::NOSPC, "one more directory");
    fails(std::os::unix::fs::symlink("x", place.path("s")), Errno::NOSPC, "one more symlink");
    // As on tmpfs (mm/shmem.c, shmem_link): a name that cannot be evicted costs as an inode does.
    fails(fs::hard_link(place.path("f0"), place.path("link")), Errno::NOSPC, "one more name");
    fs::rename(place.path("f1"), place.path("g1")).unwrap();
    fs::remove_file(place.path("f2")).unwrap();
    eventually("an inode again", || create(1000).is_ok());
    fails(create(1001), Errno::NOSPC, "one more file after that");
}

fn allocation_is_limited_before_it_is_promised(place: &Place) {
    let file = open_rw(&place.path("f"));
    let allocated = fallocate(&file, FallocateFlags::empty(), 0, 64 * MIB_U64);
    fails(allocated, Errno::NOSPC, "64 MiB of 16");
    assert_eq!(file.metadata().unwrap().len(), 0, "size after a refusal");
    assert!(free_bytes(place) >= 15 * MIB_U64, "a refusal took space");
    fallocate(&file, FallocateFlags::empty(), 0, 10 * MIB_U64).unwrap();
    // What is promised is there when it is wanted, whatever others take.
    let other = open_rw(&place.path("g"));
    let filled = (0..16).try_for_each(|number| {
        other.write_all_at(&[1; MIB], number * MIB_U64).and_then(|()| other.sync_all())
    });
    fails(filled, Errno::NOSPC, "16 MiB beside 10 of 16");
    file.write_all_at(&pattern(10 * MIB, 3), 0).unwrap();
    file.sync_all().unwrap();
    same_bytes(&read_at(&file, 11 * MIB, 0), &pattern(10 * MIB, 3), "the allocated file");
    file.set_len(64 * MIB_U64).unwrap();
    assert_eq!(file.metadata().unwrap().len(), 64 * MIB_U64, "a hole takes no space");
}

/// FORGETs come beside the ring; a daemon that does not read them there never gets any.
fn forgotten_inodes_are_told(place: &Place) {
    let forgets = |place: &Place| {
        let stats = place.stats();
        stats.requests("FORGET") + stats.requests("BATCH_FORGET")
    };
    for number in 0..500 {
        fs::write(place.path(&format!("f{number}")), b"content").unwrap();
    }
    let before = forgets(place);
    forget_inodes();
    eventually("FORGETs after names were dropped", || forgets(place) > before);
    for number in 0..500 {
        assert_eq!(fs::read(place.path(&format!("f{number}"))).unwrap(), b"content");
    }
    let before = forgets(place);
    for number in 0..500 {
        fs::remove_file(place.path(&format!("f{number}"))).unwrap();
    }
    eventually("FORGETs after files were removed", || forgets(place) > before);
}

/// A list that finds no room may not show in the mode, nor a mode in the list.
fn no_space_changes_no_permissions_by_half(place: &Place) {
    let path = place.path("f");
    fs::write(&path, b"secret").unwrap();
    let entries =
        [(OWNER, 6, ANY), (USER, 4, 1000), (GROUP, 0, ANY), (MASK, 4, ANY), (OTHER, 0, ANY)];
    setxattr(&path, ACCESS_ACL, &acl(&entries), NONE).unwrap();
    let filler = place.path("filler");
    fs::write(&filler, b"").unwrap();
    for length in [60_000, 1000, 100, 1] {
        let set = |number: u32| {
            setxattr(&filler, format!("user.{length}.{number}"), &vec![1; length], NONE)
        };
        let refused = (0..100_000).find_map(|number| set(number).err());
        assert_eq!(refused, Some(Errno::NOSPC), "values of {length} bytes");
    }
    let more: Vec<_> = (1000..1100).map(|id| (USER, 6, id)).collect();
    let longer =
        [&entries[..1], &more, &[(GROUP, 6, ANY), (MASK, 6, ANY), (OTHER, 6, ANY)]].concat();
    fails(setxattr(&path, ACCESS_ACL, &acl(&longer), NONE), Errno::NOSPC, "a longer list");
    assert_eq!(mode(&path), 0o640, "the mode after that");
    assert_eq!(xattr(&path, ACCESS_ACL).unwrap(), acl(&entries), "the list after that");
    chmod(&path, 0o604);
    let wanted =
        [(OWNER, 6, ANY), (USER, 4, 1000), (GROUP, 0, ANY), (MASK, 0, ANY), (OTHER, 4, ANY)];
    assert_eq!(xattr(&path, ACCESS_ACL).unwrap(), acl(&wanted), "a mode takes no room");
}

fn deleted_data_leave_the_memory(transport: Transport) {
    let mut daemon = Daemon::start(&Setup::new(transport));
    let script = "head -c 512M /dev/zero >\"$0/f\" && sync -f \"$0\" && : >\"$0/other\"";
    let mut write = Command::new("sh");
    let written = run_limited(write.args(["-c", script]).arg(daemon.mountpoint()));
    assert!(written.is_ok_and(|(status, _)| status.success()), "512 MiB");
    let full = daemon.process_figure("VmRSS");
    assert!(full > 512 * 1024, "{full} kB resident with 512 MiB of data");
    let mut remove = Command::new("rm");
    assert!(run_limited(remove.arg(daemon.mountpoint().join("f"))).is_ok(), "rm");
    // The kernel forgets the file behind the end of rm, and the heap is trimmed behind that.
    let until = Instant::now() + STEP;
    let mut resident = full;
    while resident > 160 * 1024 {
        assert!(Instant::now() < until, "{resident} kB resident, of {full}");
        std::thread::sleep(Duration::from_millis(20));
        resident = daemon.process_figure("VmRSS");
    }
    println!("figure: VmRSS {full} kB with 512 MiB of data, {resident} kB without");
    daemon.umount();
}
