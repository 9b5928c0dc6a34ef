//! The backing directory as others see and change it, and that nothing leads out of it.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt, symlink};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, fcntl};
use rustix::fs::{CWD, OFlags, RenameFlags, renameat_with};
use rustix::io::Errno;

use crate::backing;
use crate::common::{
    Daemon, MIB, Place, Plan, Setup, Transport, cases, drills, fails, forget_inodes, mtime,
    next_tick, open_append, open_rw, open_to_all, pattern, system,
};
use crate::locker::whole;

cases!(
    mounts;
    hard_links_are_one_file,
    what_is_written_is_there,
    names_made_outside_show_in_time,
    data_are_kept_until_others_change_them,
    links_lead_nowhere,
    attributes_of_chattr,
    what_can_only_be_appended_to_is_appended_to,
);
cases!(
    mounts, Plan::new().options(&["--entry-timeout", "0", "--attr-timeout", "0"]);
    a_name_that_means_another_file,
    a_directory_swapped_for_a_link_leads_nowhere,
);
cases!(through; an_append_finds_the_end_that_others_made);
cases!(mounts, Plan::new().options(&["--readonly"]); nothing_changes_where_nothing_may);
cases!(mounts, Plan::new().options(&["--no-xattr"]); no_attributes_where_none_are_wanted);
cases!(
    through, Plan::new().options(&["--cache", "never"]);
    what_others_write_shows_at_once,
    direct_writes_move_mtime_at_once,
);
cases!(
    mounts, Plan::new().options(&["--cache", "always"]);
    what_is_kept_for_long_follows_changes_inside,
    what_others_made_first_is_opened,
    attributes_are_kept_for_long_but_not_while_somebody_writes,
);

drills!(a_mirror_below_its_own_backing_does_not_look_into_itself);

const IN_TIME: Duration = Duration::from_secs(10);

fn hard_links_are_one_file(place: &Place) {
    let outside = backing(place);
    fs::write(outside.join("a"), "outside").unwrap();
    fs::hard_link(outside.join("a"), outside.join("b")).unwrap();
    let ino = |name: &str| fs::metadata(place.path(name)).unwrap().ino();
    assert_eq!(ino("a"), ino("b"));
    assert_eq!(ino("a"), fs::metadata(outside.join("a")).unwrap().ino());
    fs::hard_link(place.path("b"), place.path("c")).unwrap();
    assert_eq!((ino("c"), fs::metadata(place.path("a")).unwrap().nlink()), (ino("a"), 3));
    // One page cache: what is dirty by one name is read by another.
    let mut file = open_append(&place.path("a"));
    file.write_all(b" and inside").unwrap();
    assert_eq!(fs::read_to_string(place.path("b")).unwrap(), "outside and inside");
    fs::remove_file(place.path("a")).unwrap();
    drop(file);
    assert_eq!(fs::read_to_string(outside.join("c")).unwrap(), "outside and inside");
}

fn what_is_written_is_there(place: &Place) {
    let data = pattern(3_000_001, 7);
    fs::write(place.path("f"), &data).unwrap();
    assert!(fs::read(backing(place).join("f")).unwrap() == data, "after close");
    let file = open_rw(&place.path("f"));
    file.set_len(12_345).unwrap();
    assert_eq!(fs::metadata(backing(place).join("f")).unwrap().len(), 12_345);
}

fn names_made_outside_show_in_time(place: &Place) {
    fails(fs::metadata(place.path("f")), Errno::NOENT, "before");
    fs::write(backing(place).join("f"), "x").unwrap();
    let start = Instant::now();
    while fs::metadata(place.path("f")).is_err() {
        assert!(start.elapsed() < IN_TIME, "it never shows");
        thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(fs::read_dir(place.root()).unwrap().count(), 1);
    fs::remove_file(backing(place).join("f")).unwrap();
    while fs::metadata(place.path("f")).is_ok() {
        assert!(start.elapsed() < 2 * IN_TIME, "it never goes");
        thread::sleep(Duration::from_millis(20));
    }
}

/// The kernel still has the names as missing, and asks for the files to be made.
fn what_others_made_first_is_opened(place: &Place) {
    let (root, outside) = (place.root(), backing(place));
    for name in ["cut", "longer", "made", "link", "directory"] {
        fails(fs::metadata(root.join(name)), Errno::NOENT, "before");
    }
    fs::write(outside.join("cut"), [b'o'; 100]).unwrap();
    fs::write(root.join("cut"), "short").unwrap();
    assert_eq!(fs::read_to_string(outside.join("cut")).unwrap(), "short");
    fs::write(outside.join("longer"), "outside\n").unwrap();
    let longer = File::options().append(true).create(true).open(root.join("longer"));
    let mut longer = longer.unwrap();
    longer.write_all(b"inside\n").unwrap();
    // Nor is the name taken away from who has just opened it.
    for _ in 0..5 {
        next_tick();
        let link = format!("/proc/self/fd/{}", longer.as_raw_fd());
        assert_eq!(fs::read_link(link).unwrap(), root.join("longer"));
    }
    drop(longer);
    assert_eq!(fs::read_to_string(outside.join("longer")).unwrap(), "outside\ninside\n");
    fs::write(outside.join("made"), "outside").unwrap();
    fails(File::create_new(root.join("made")), Errno::EXIST, "making it");
    symlink("made", outside.join("link")).unwrap();
    fs::write(root.join("link"), "inside").unwrap();
    assert_eq!(fs::read_to_string(outside.join("made")).unwrap(), "inside");
    fs::create_dir(outside.join("directory")).unwrap();
    fails(File::create(root.join("directory")), Errno::ISDIR, "a directory");
}

/// The file that is open stays what it was, whatever its name and number mean now.
fn a_name_that_means_another_file(place: &Place) {
    let outside = backing(place).join("f");
    for round in 0..20 {
        fs::write(&outside, format!("old {round}")).unwrap();
        let old = File::open(place.path("f")).unwrap();
        let ino = old.metadata().unwrap().ino();
        fs::remove_file(&outside).unwrap();
        fs::write(&outside, format!("new {round}")).unwrap();
        assert_eq!(io::read_to_string(&old).unwrap(), format!("old {round}"));
        assert_eq!(old.metadata().unwrap().ino(), ino);
        fs::remove_file(&outside).unwrap();
        if round % 5 == 0 {
            drop(old);
            forget_inodes();
        }
    }
}

/// Of one length, as with write-back the kernel goes on with the length that it knows.
fn data_are_kept_until_others_change_them(place: &Place) {
    let (inside, outside) = (place.path("f"), backing(place).join("f"));
    fs::write(&inside, "0000").unwrap();
    for round in 1..10 {
        let text = format!("{round:04}");
        fs::write(&outside, &text).unwrap();
        assert_eq!(fs::read_to_string(&inside).unwrap(), text, "changed outside");
        let before = place.stats().requests("READ");
        for _ in 0..5 {
            assert_eq!(fs::read_to_string(&inside).unwrap(), text, "again");
        }
        // Once the kernel may notice by itself that mtime has moved.
        let asked = place.stats().requests("READ") - before;
        assert!(asked <= 1, "what has not changed was read {asked} times, round {round}");
        next_tick();
    }
}

fn links_lead_nowhere(place: &Place) {
    symlink("/proc/self/status", backing(place).join("absolute")).unwrap();
    symlink("../../../../../etc/passwd", backing(place).join("up")).unwrap();
    for (name, target) in [("absolute", "/proc/self/status"), ("up", "../../../../../etc/passwd")] {
        assert_eq!(fs::read_link(place.path(name)).unwrap(), Path::new(target));
    }
    // The client's own kernel follows the link, so this is the client's status.
    let status = fs::read_to_string(place.path("absolute")).unwrap();
    assert!(status.contains(&format!("Pid:\t{}\n", std::process::id())), "{status}");
    let file = rustix::fs::open(place.path("up"), OFlags::NOFOLLOW, rustix::fs::Mode::empty());
    fails(file, Errno::LOOP, "opening a link itself");
}

/// Another process swaps a directory for a link to one outside, as fast as it can.
fn a_directory_swapped_for_a_link_leads_nowhere(place: &Place) {
    let outside = backing(place);
    let elsewhere = outside.with_file_name("elsewhere");
    for directory in [&outside.join("d"), &elsewhere] {
        fs::create_dir(directory).unwrap();
    }
    fs::write(outside.join("d/f"), "inside").unwrap();
    fs::write(elsewhere.join("f"), "outside").unwrap();
    symlink(&elsewhere, outside.join("link")).unwrap();
    // The client's kernel would follow a link rightly; what must not be is that the daemon does,
    // so the client refuses links at every step.
    let beneath = rustix::fs::ResolveFlags::NO_SYMLINKS;
    let over = AtomicBool::new(false);
    let mut seen = [0_u32; 2];
    thread::scope(|scope| {
        scope.spawn(|| {
            let (one, other) = (outside.join("d"), outside.join("link"));
            while !over.load(Ordering::Relaxed) {
                renameat_with(CWD, &one, CWD, &other, RenameFlags::EXCHANGE).unwrap();
            }
        });
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(2) {
            let open = |name: &str, flags: OFlags, mode| {
                let mode = rustix::fs::Mode::from_raw_mode(mode);
                rustix::fs::openat2(CWD, place.path(name), flags, mode, beneath)
            };
            match open("d/f", OFlags::RDONLY, 0) {
                Ok(file) => {
                    let text = io::read_to_string(File::from(file)).unwrap();
                    assert_eq!(text, "inside", "what a link led to");
                    seen[0] += 1;
                }
                Err(_) => seen[1] += 1,
            }
            let _ = open("d/new", OFlags::CREATE | OFlags::WRONLY, 0o644);
            let _ = fs::remove_file(place.path("d/none"));
        }
        over.store(true, Ordering::Relaxed);
    });
    assert!(seen[0] > 0, "never the directory: {seen:?}");
    let left: Vec<_> = fs::read_dir(&elsewhere).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left, ["f"], "something was made outside");
}

fn attributes_of_chattr(place: &Place) {
    let chattr = |word: &str, path: &Path| {
        let output = Command::new("chattr").arg(word).arg(path).output();
        output.is_ok_and(|output| output.status.success())
    };
    let (inside, outside) = (place.path("f"), backing(place).join("f"));
    fs::write(&inside, "x").unwrap();
    if !chattr("+d", &outside) || !chattr("-d", &outside) {
        return place.skipped("chattr does not work on what is mirrored");
    }
    let has = |path: &Path, flag| {
        let output = Command::new("lsattr").arg(path).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.split_whitespace().next().unwrap().contains(flag)
    };
    assert!(chattr("+d", &inside));
    assert!(has(&inside, 'd') && has(&outside, 'd'));
    assert!(chattr("+i", &inside));
    fails(fs::write(&inside, "y"), Errno::PERM, "writing what is immutable");
    fails(fs::remove_file(&inside), Errno::PERM, "removing it");
    assert!(chattr("-i", &inside));
    assert!(!has(&outside, 'i'));
}

/// With write-back too: there a page would otherwise come whole, and be appended whole.
fn what_can_only_be_appended_to_is_appended_to(place: &Place) {
    struct Flag<'a>(&'a Path);
    impl Drop for Flag<'_> {
        fn drop(&mut self) {
            let _ = Command::new("chattr").arg("-a").arg(self.0).status();
        }
    }
    let (inside, outside) = (place.path("log"), backing(place).join("log"));
    fs::write(&outside, "first\n").unwrap();
    let _flag = Flag(&outside);
    if !Command::new("chattr").arg("+a").arg(&outside).status().unwrap().success() {
        return place.skipped("chattr does not work on what is mirrored");
    }
    let (mut one, mut other) = (open_append(&inside), open_append(&inside));
    let mut wanted = "first\n".to_owned();
    for round in 0..100 {
        let line = format!("{round}{}\n", "-".repeat(round));
        if round % 2 == 0 { &mut one } else { &mut other }.write_all(line.as_bytes()).unwrap();
        wanted.push_str(&line);
        assert_eq!(fs::metadata(&inside).unwrap().len(), wanted.len() as u64);
    }
    assert_eq!(fs::read_to_string(&inside).unwrap(), wanted);
    fcntl(&one, FcntlArg::F_SETLK(&whole(libc::F_WRLCK))).unwrap();
    let mapped = File::options().read(true).append(true).open(&inside).unwrap();
    // Where the kernel serves the file it maps it without asking whether that is allowed
    // (fs/backing-file.c, backing_file_mmap).
    if place.stats().requests("WRITE") > 0 {
        // SAFETY: nobody shortens the file while it is mapped.
        let mut map = unsafe { memmap2::MmapMut::map_mut(&mapped).unwrap() };
        map[0] = b'F';
        map.flush().expect_err("a page that lies elsewhere is not appended");
    }
    drop((one, other, mapped));
    assert_eq!(fs::read_to_string(&outside).unwrap(), wanted);
    fails(File::options().write(true).open(&inside), Errno::PERM, "writing anywhere");
    fails(File::create(&inside), Errno::PERM, "cutting");
    fails(fs::remove_file(&inside), Errno::PERM, "removing");
}

fn an_append_finds_the_end_that_others_made(place: &Place) {
    fs::write(place.path("f"), "").unwrap();
    let mut inside = open_append(&place.path("f"));
    let mut outside = open_append(&backing(place).join("f"));
    for _ in 0..50 {
        inside.write_all(b"inside\n").unwrap();
        outside.write_all(b"outside\n").unwrap();
    }
    let text = fs::read_to_string(backing(place).join("f")).unwrap();
    assert_eq!(text, "inside\noutside\n".repeat(50));
}

fn nothing_changes_where_nothing_may(place: &Place) {
    fs::write(backing(place).join("f"), "x").unwrap();
    assert_eq!(fs::read_to_string(place.path("f")).unwrap(), "x");
    fails(File::create(place.path("g")), Errno::ROFS, "making");
    fails(fs::remove_file(place.path("f")), Errno::ROFS, "removing");
    fails(File::options().write(true).open(place.path("f")), Errno::ROFS, "writing");
}

fn no_attributes_where_none_are_wanted(place: &Place) {
    fs::write(place.path("f"), "x").unwrap();
    let flags = rustix::fs::XattrFlags::empty();
    let set = rustix::fs::setxattr(place.path("f"), "user.x", b"y", flags);
    fails(set, Errno::OPNOTSUPP, "setting");
    let get = rustix::fs::getxattr(place.path("f"), "user.x", &mut [0; 8]);
    fails(get, Errno::OPNOTSUPP, "getting");
}

fn what_others_write_shows_at_once(place: &Place) {
    fs::write(place.path("f"), "first").unwrap();
    for round in 0..20 {
        let text = format!("outside {round}");
        fs::write(backing(place).join("f"), &text).unwrap();
        let mut bytes = vec![0; text.len()];
        File::open(place.path("f")).unwrap().read_exact_at(&mut bytes, 0).unwrap();
        assert_eq!(bytes, text.as_bytes());
        fs::write(backing(place).join(format!("g{round}")), "").unwrap();
        assert!(fs::metadata(place.path(&format!("g{round}"))).is_ok(), "a new name");
    }
}

fn direct_writes_move_mtime_at_once(place: &Place) {
    let path = place.path("f");
    let mut file = open_rw(&path);
    for _ in 0..5 {
        let before = mtime(&path);
        next_tick();
        file.write_all(b"past the cache").unwrap();
        assert!(mtime(&path) > before);
    }
    assert_eq!(mtime(&path), mtime(&backing(place).join("f")));
}

/// What the pages of an open file take on the disk the kernel is not told until it asks.
fn attributes_are_kept_for_long_but_not_while_somebody_writes(place: &Place) {
    let (path, outside) = (place.path("f"), backing(place).join("f"));
    fs::write(&outside, "x").unwrap();
    let blocks = |path: &Path| fs::metadata(path).unwrap().blocks();
    let few = blocks(&path);
    // Nobody has it open: what others change is not seen.
    thread::sleep(Duration::from_millis(1200));
    assert_eq!(blocks(&path), few);
    fs::OpenOptions::new().append(true).open(&outside).unwrap().write_all(&[b'o'; 65536]).unwrap();
    thread::sleep(Duration::from_millis(1200));
    assert_eq!(blocks(&path), few, "kept for long");
    assert!(blocks(&outside) > few);
    for open in [open_rw, open_append] {
        let mut file = open(&path);
        file.write_all(&pattern(MIB, 1)).unwrap();
        file.sync_all().unwrap();
        // In the cache of the kernel there may be an answer of this moment, for a second.
        let start = Instant::now();
        while blocks(&path) != blocks(&outside) {
            assert!(start.elapsed() < IN_TIME, "{} and {}", blocks(&path), blocks(&outside));
            thread::sleep(Duration::from_millis(50));
        }
        drop(file);
        assert_eq!(blocks(&path), blocks(&outside), "closed");
        // What the backing filesystem makes of it later shows, too.
        fs::OpenOptions::new()
            .append(true)
            .open(&outside)
            .unwrap()
            .write_all(&[b'o'; 65536])
            .unwrap();
        let start = Instant::now();
        while blocks(&path) != blocks(&outside) {
            assert!(start.elapsed() < IN_TIME, "{} and {}", blocks(&path), blocks(&outside));
            thread::sleep(Duration::from_millis(50));
        }
    }
}

/// Names and attributes are kept for a day, yet each change by way of the mount shows at once.
fn what_is_kept_for_long_follows_changes_inside(place: &Place) {
    let names = || {
        let mut names: Vec<_> =
            fs::read_dir(place.root()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    for round in 0..20 {
        let (one, other) = (place.path("one"), place.path("other"));
        fails(fs::metadata(&one), Errno::NOENT, "a name that is known not to be");
        fs::write(&one, vec![b'x'; round * 1000]).unwrap();
        assert_eq!(fs::metadata(&one).unwrap().len(), round as u64 * 1000);
        assert_eq!(names(), ["one"], "round {round}");
        fs::hard_link(&one, &other).unwrap();
        assert_eq!(fs::metadata(&one).unwrap().nlink(), 2);
        assert_eq!(names(), ["one", "other"]);
        fs::rename(&one, place.path("moved")).unwrap();
        assert_eq!(names(), ["moved", "other"]);
        fs::remove_file(place.path("moved")).unwrap();
        assert_eq!(fs::metadata(&other).unwrap().nlink(), 1);
        fs::remove_file(&other).unwrap();
        assert!(names().is_empty());
    }
}

/// What lies below the mount point shows, as in a bind mount that is not recursive.
fn a_mirror_below_its_own_backing_does_not_look_into_itself(transport: Transport) {
    let work = open_to_all(tempfile::Builder::new().prefix("fusewire-test-").tempdir());
    let mountpoint = work.path().join("backing/inner/mnt");
    fs::create_dir_all(&mountpoint).unwrap();
    fs::write(mountpoint.join("below"), "x").unwrap();
    let arguments = Setup::new(transport).arguments();
    let mut daemon = Daemon::try_start(&arguments, work, &mountpoint).unwrap();
    let mut find = Command::new("find");
    find.arg(&mountpoint).args(["-printf", "%y %P;"]);
    let (status, text) = system::run_limited(&mut find).unwrap();
    assert!(status.success(), "{text}");
    let mut found: Vec<&str> = text.split(';').map(str::trim).collect();
    found.sort_unstable();
    assert_eq!(found, ["", "d", "d inner", "d inner/mnt", "f inner/mnt/below"]);
    daemon.umount();
}
