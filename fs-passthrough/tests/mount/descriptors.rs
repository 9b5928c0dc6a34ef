//! Descriptors: few for many files, none left, and files that lose their name go on.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, symlink};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, prlimit};

use crate::backing;
use crate::common::{Place, Plan, cases, forget_inodes, open_rw, pattern, read_at, same_bytes};

cases!(
    mounts;
    what_is_forgotten_leaves_nothing,
    a_listing_leaves_nothing,
    a_create_without_descriptors_leaves_nothing,
);
cases!(
    mounts, Plan::new().options(&["--fd-budget", "20"]);
    a_large_tree_takes_few_descriptors,
    files_beyond_the_budget_live_without_a_name,
    directories_beyond_the_budget_live_without_a_name,
    open_directories_take_few_descriptors,
);
cases!(
    mounts, Plan::new().options(&["--entry-timeout", "0", "--attr-timeout", "0"]);
    what_changed_outside_is_found_again,
);
cases!(
    mounts,
    Plan::new().options(&["--entry-timeout", "0", "--attr-timeout", "0", "--fd-budget", "20"]);
    what_changed_outside_is_found_again_beyond_the_budget,
);

/// Descriptors of the daemon.
pub(crate) fn count(place: &Place) -> usize {
    fs::read_dir(format!("/proc/{}/fd", place.pid().as_raw_nonzero())).unwrap().count()
}

/// Waits for FORGETs, which nobody announces.
pub(crate) fn falls_to(place: &Place, wanted: usize) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while count(place) > wanted {
        assert!(Instant::now() < deadline, "{} descriptors, {wanted} before", count(place));
        forget_inodes();
        thread::sleep(Duration::from_millis(20));
    }
}

fn make_tree(root: &Path) {
    for directory in 0..10 {
        let directory = root.join(format!("d{directory}"));
        fs::create_dir(&directory).unwrap();
        for file in 0..60 {
            fs::write(directory.join(format!("f{file}")), format!("{file}")).unwrap();
        }
    }
}

/// Lists and looks at everything; returns how many files there are and what they say together.
fn walk(root: &Path) -> (usize, u64) {
    let (mut files, mut sum) = (0, 0);
    for entry in fs::read_dir(root).unwrap() {
        let entry = entry.unwrap();
        if entry.metadata().unwrap().is_dir() {
            let (more, said) = walk(&entry.path());
            (files, sum) = (files + more, sum + said);
        } else {
            files += 1;
            let text = fs::read_to_string(entry.path()).unwrap();
            sum += text.parse::<u64>().unwrap();
        }
    }
    (files, sum)
}

fn what_is_forgotten_leaves_nothing(place: &Place) {
    let before = count(place);
    make_tree(&backing(place));
    assert_eq!(walk(place.root()), (600, 10 * 59 * 60 / 2));
    falls_to(place, before);
    make_tree(&place.path(".").join("d0"));
    fs::remove_dir_all(place.path("d0")).unwrap();
    falls_to(place, before);
}

/// READDIRPLUS gives lookups too, those of entries that an application did not take among them.
fn a_listing_leaves_nothing(place: &Place) {
    let before = count(place);
    make_tree(&backing(place));
    for _ in 0..3 {
        let mut list = fs::read_dir(place.path("d3")).unwrap();
        list.next().unwrap().unwrap().metadata().unwrap();
        assert_eq!(fs::read_dir(place.path("d4")).unwrap().count(), 60);
    }
    falls_to(place, before);
}

/// Whichever of its descriptors the daemon fails to get.
fn a_create_without_descriptors_leaves_nothing(place: &Place) {
    let create = |name: &str| {
        let direct = i32::try_from(OFlags::DIRECT.bits()).unwrap();
        let mut options = File::options();
        options.write(true).create_new(true).custom_flags(direct).open(place.path(name))
    };
    drop(create("warm").unwrap());
    let pid = Some(place.pid());
    let limit = getrlimit(Resource::Nofile);
    let set = |current| {
        let limit = Rlimit { current: Some(current), maximum: limit.maximum };
        prlimit(pid, Resource::Nofile, limit).unwrap()
    };
    // Some that are counted here are on their way out.
    let (least, before) = (count(place) as u64 - 8, set(4096));
    let (mut made, mut failed) = (0, 0);
    for room in 0..24 {
        let name = format!("f{room}");
        set(least + room);
        let result = create(&name);
        set(4096);
        if let Err(error) = result {
            assert_eq!(error.raw_os_error(), Some(Errno::MFILE.raw_os_error()), "{error}");
            assert!(!backing(place).join(&name).exists(), "a file is left at {room}");
            failed += 1;
        } else {
            made += 1;
        }
    }
    prlimit(pid, Resource::Nofile, before).unwrap();
    assert!(made > 2 && failed > 2, "{made} made, {failed} failed");
    fs::write(place.path("after"), "x").unwrap();
}

fn a_large_tree_takes_few_descriptors(place: &Place) {
    let before = count(place);
    make_tree(&backing(place));
    for _ in 0..2 {
        assert_eq!(walk(place.root()), (600, 10 * 59 * 60 / 2));
        let now = count(place);
        assert!(now <= before + 20 + 16, "{now} descriptors, {before} before");
    }
    // Beyond the budget everything else works as well.
    let file = place.path("d9/f59");
    fs::hard_link(&file, place.path("link")).unwrap();
    assert_eq!(fs::metadata(&file).unwrap().ino(), fs::metadata(place.path("link")).unwrap().ino());
    fs::rename(&file, place.path("d0/moved")).unwrap();
    fs::write(place.path("link"), "again").unwrap();
    assert_eq!(fs::read_to_string(place.path("d0/moved")).unwrap(), "again");
    fs::rename(place.path("d8"), place.path("d7/d8")).unwrap();
    assert_eq!(walk(&place.path("d7")).0, 120);
    fs::remove_dir_all(place.path("d7")).unwrap();
    falls_to(place, before);
}

fn files_beyond_the_budget_live_without_a_name(place: &Place) {
    make_tree(&backing(place));
    walk(place.root());
    let path = place.path("d5/f30");
    let file = open_rw(&path);
    let data = pattern(100_000, 1);
    file.write_all_at(&data, 0).unwrap();
    let (renamed, target) = (place.path("d5/f31"), place.path("d5/f32"));
    let mut replaced = File::open(&target).unwrap();
    fs::remove_file(&path).unwrap();
    fs::rename(&renamed, &target).unwrap();
    forget_inodes();
    let status = file.metadata().unwrap();
    assert_eq!((status.nlink(), status.len()), (0, 100_000));
    same_bytes(&read_at(&file, 100_000, 0), &data, "content without a name");
    file.set_len(5).unwrap();
    file.write_all_at(b"12345", 5).unwrap();
    file.sync_all().unwrap();
    assert_eq!(file.metadata().unwrap().len(), 10);
    let mut text = String::new();
    replaced.read_to_string(&mut text).unwrap();
    assert_eq!((text.as_str(), replaced.metadata().unwrap().nlink()), ("32", 0));
    assert_eq!(fs::read_to_string(&target).unwrap(), "31");
}

fn directories_beyond_the_budget_live_without_a_name(place: &Place) {
    make_tree(&backing(place));
    walk(place.root());
    let directory = place.path("d5");
    let held = File::open(&directory).unwrap();
    fs::remove_dir_all(&directory).unwrap();
    forget_inodes();
    let status = held.metadata().unwrap();
    assert!(status.is_dir());
    assert_eq!(status.nlink(), 0);
}

/// A descriptor is taken when a directory is read, and not to be merely held open or gone into.
fn open_directories_take_few_descriptors(place: &Place) {
    let before = count(place);
    make_tree(&backing(place));
    let names: Vec<String> = (0..200).map(|number| format!("{number}")).collect();
    let open: Vec<File> = names
        .iter()
        .map(|name| {
            fs::create_dir(place.path(name)).unwrap();
            File::open(place.path(name)).unwrap()
        })
        .collect();
    let now = count(place);
    assert!(now <= before + 20 + 16, "{now} descriptors, {before} before");
    let listed = |directory: &File| {
        let entries = rustix::fs::Dir::read_from(directory).unwrap();
        entries.map(|entry| entry.unwrap().file_name().to_bytes().to_vec()).collect::<Vec<_>>()
    };
    for (name, directory) in names.iter().zip(&open).skip(190) {
        fs::write(backing(place).join(name).join("inside"), name).unwrap();
        assert!(listed(directory).contains(&b"inside".to_vec()), "{name}");
        directory.sync_all().unwrap();
        fs::remove_dir_all(place.path(name)).unwrap();
    }
    assert!(count(place) >= now + 10, "those that were read have one each");
    for (name, directory) in names.iter().zip(&open).take(190) {
        fs::remove_dir(place.path(name)).unwrap();
        assert_eq!(directory.metadata().unwrap().nlink(), 0);
    }
    drop(open);
    falls_to(place, before);
}

/// Replaces, removes, links and retypes what has known names.
fn change_outside(directory: &Path, round: usize) {
    for number in (round % 7..60).step_by(7) {
        let path = directory.join(format!("f{number}"));
        let other = directory.join(format!("f{}", (number + 1) % 60));
        if path.is_dir() {
            fs::remove_dir(&path).unwrap();
        } else if path.symlink_metadata().is_ok() {
            fs::remove_file(&path).unwrap();
        }
        // The number that was just given away is likely the next one's.
        match (round + number) % 5 {
            0 => fs::write(&path, format!("{round} {number}")).unwrap(),
            1 => fs::create_dir(&path).unwrap(),
            2 => symlink("nowhere", &path).unwrap(),
            3 if other.is_file() => fs::hard_link(&other, &path).unwrap(),
            _ => {}
        }
    }
}

/// What is told of all names, each asked for.
fn told(directory: &Path) -> Vec<(String, u64, u32, u64, u64)> {
    let one = |name: String| {
        let status = directory.join(&name).symlink_metadata().ok()?;
        Some((name, status.ino(), status.mode(), status.nlink(), status.size()))
    };
    (0..60).filter_map(|number| one(format!("f{number}"))).collect()
}

fn what_changed_outside_is_found_again(place: &Place) {
    let before = count(place);
    let outside = backing(place).join("d");
    fs::create_dir(&outside).unwrap();
    for number in 0..60 {
        fs::write(outside.join(format!("f{number}")), format!("{number}")).unwrap();
    }
    let inside = place.path("d");
    for round in 0..30 {
        // By names that are known, and by a listing that tells of them.
        assert_eq!(told(&inside), told(&outside), "round {round}");
        change_outside(&outside, round);
        if round % 2 == 0 {
            let names = |path: &Path| {
                let names = fs::read_dir(path).unwrap().map(|entry| {
                    let entry = entry.unwrap();
                    (entry.file_name(), entry.metadata().unwrap().ino())
                });
                names.collect::<BTreeSet<_>>()
            };
            assert_eq!(names(&inside), names(&outside), "round {round}");
        }
    }
    assert_eq!(told(&inside), told(&outside), "at the end");
    falls_to(place, before);
}

fn what_changed_outside_is_found_again_beyond_the_budget(place: &Place) {
    what_changed_outside_is_found_again(place);
}
