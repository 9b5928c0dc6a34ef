//! Ordinary POSIX of names: making, linking, renaming, listing and removing them.
//!
//! Neighbour: `attributes` has what an inode carries.

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::thread;

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RenameFlags, linkat, mknodat, open};
use rustix::fs::{renameat_with, unlinkat};
use rustix::io::Errno;

use crate::common::{
    Place, Plan, Random, as_nobody, body_directory, cases, fails, forget_inodes, open_rw, pattern,
    read_at, same_bytes,
};

cases!(
    everywhere;
    a_file_without_a_name_can_get_one,
    rename_that_must_not_replace,
    rename_that_exchanges,
    an_unlinked_file_lives_until_it_is_closed,
    a_directory_can_be_emptied_while_it_is_read,
    names_ahead_can_go_while_a_directory_is_read,
    refusals_of_names,
    links_of_all_kinds,
    nodes_of_all_kinds,
    names_of_all_bytes,
    racing_creators_have_one_winner_each,
    inode_numbers_are_stable,
);
cases!(everywhere, Plan::new().options(&["--allow-other"]); sticky_directories_protect_names);
cases!(mounts; random_names_agree_with_tmpfs);
cases!(writeback, Plan::new().seconds(300); a_hundred_thousand_entries);

/// Names in a directory, sorted.
fn names(directory: &Path) -> Vec<String> {
    let names = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<_> = names.map(|name| name.into_string().unwrap()).collect();
    names.sort();
    names
}

fn a_file_without_a_name_can_get_one(place: &Place) {
    let flags = OFlags::TMPFILE | OFlags::RDWR;
    let mode = Mode::from_raw_mode(0o640);
    let file = File::from(open(place.root(), flags, mode).unwrap());
    file.write_all_at(&pattern(10_000, 1), 0).unwrap();
    let status = file.metadata().unwrap();
    assert_eq!((status.nlink(), status.mode() & 0o7777, status.len()), (0, 0o640, 10_000));
    assert_eq!(names(place.root()), Vec::<String>::new(), "names");
    let own = |file: &File| {
        use std::os::fd::AsRawFd;
        format!("/proc/self/fd/{}", file.as_raw_fd())
    };
    let follow = AtFlags::SYMLINK_FOLLOW;
    linkat(CWD, own(&file), CWD, place.path("named"), follow).unwrap();
    drop(file);
    assert_eq!(fs::metadata(place.path("named")).unwrap().nlink(), 1, "links");
    same_bytes(&fs::read(place.path("named")).unwrap(), &pattern(10_000, 1), "content");
    let never = File::from(open(place.root(), flags | OFlags::EXCL, mode).unwrap());
    let linked = linkat(CWD, own(&never), CWD, place.path("never"), follow);
    fails(linked, Errno::NOENT, "a name for a file that must not get one");
}

fn rename_with(place: &Place, old: &str, new: &str, flags: RenameFlags) -> Result<(), Errno> {
    renameat_with(CWD, place.path(old), CWD, place.path(new), flags)
}

fn rename_that_must_not_replace(place: &Place) {
    fs::write(place.path("a"), b"a").unwrap();
    fs::write(place.path("b"), b"b").unwrap();
    let flags = RenameFlags::NOREPLACE;
    fails(rename_with(place, "a", "b", flags), Errno::EXIST, "onto a file");
    fails(rename_with(place, "a", "a", flags), Errno::EXIST, "onto itself");
    rename_with(place, "a", "c", flags).unwrap();
    assert_eq!(names(place.root()), ["b", "c"]);
    assert_eq!(fs::read(place.path("c")).unwrap(), b"a");
}

fn rename_that_exchanges(place: &Place) {
    fs::write(place.path("f"), b"file").unwrap();
    fs::create_dir_all(place.path("d/below")).unwrap();
    fs::write(place.path("d/below/g"), b"below").unwrap();
    let flags = RenameFlags::EXCHANGE;
    rename_with(place, "f", "d", flags).unwrap();
    assert_eq!(fs::read(place.path("d")).unwrap(), b"file");
    assert_eq!(fs::read(place.path("f/below/g")).unwrap(), b"below");
    rename_with(place, "d", "f/below/g", flags).unwrap();
    assert_eq!(fs::read(place.path("d")).unwrap(), b"below");
    assert_eq!(fs::read(place.path("f/below/g")).unwrap(), b"file");
    fails(rename_with(place, "f", "missing", flags), Errno::NOENT, "with nothing");
    fails(rename_with(place, "f", "f/below", flags), Errno::INVAL, "with what is below");
    // A directory's parent has changed with the exchange, and counts one directory less or more.
    fs::create_dir(place.path("e")).unwrap();
    rename_with(place, "d", "f/below", flags).unwrap();
    assert_eq!(fs::read(place.path("d/g")).unwrap(), b"file");
    let links = |name: &str| fs::metadata(place.path(name)).unwrap().nlink();
    assert_eq!((links("."), links("f"), links("d")), (5, 2, 2), "links of directories");
}

fn an_unlinked_file_lives_until_it_is_closed(place: &Place) {
    let path = place.path("f");
    let file = open_rw(&path);
    file.write_all_at(&pattern(100_000, 1), 0).unwrap();
    fs::remove_file(&path).unwrap();
    forget_inodes();
    fails(fs::metadata(&path), Errno::NOENT, "stat of the name");
    assert_eq!(file.metadata().unwrap().nlink(), 0, "links");
    file.write_all_at(&pattern(100_000, 2), 100_000).unwrap();
    file.sync_all().unwrap();
    fs::write(&path, b"another").unwrap();
    let wanted = [pattern(100_000, 1), pattern(100_000, 2)].concat();
    same_bytes(&read_at(&file, 300_000, 0), &wanted, "content");
    file.set_permissions(fs::Permissions::from_mode(0o600)).unwrap();
    file.set_len(10).unwrap();
    assert_eq!(file.metadata().unwrap().len(), 10, "size");
    assert_eq!(file.metadata().unwrap().mode() & 0o7777, 0o600, "mode");
    drop(file);
    assert_eq!(fs::read(&path).unwrap(), b"another");
}

fn make_many(place: &Place, count: usize) -> HashSet<PathBuf> {
    let paths = (0..count).map(|number| place.path(&format!("a-name-of-some-length-{number}")));
    let paths: HashSet<_> = paths.collect();
    let mode = Mode::from_raw_mode(0o644);
    for path in &paths {
        mknodat(CWD, path, FileType::RegularFile, mode, 0).unwrap();
    }
    paths
}

fn a_directory_can_be_emptied_while_it_is_read(place: &Place) {
    let mut wanted = make_many(place, 3000);
    for entry in fs::read_dir(place.root()).unwrap() {
        let path = entry.unwrap().path();
        assert!(wanted.remove(&path), "{} was listed twice, or never made", path.display());
        fs::remove_file(&path).unwrap();
    }
    assert!(wanted.is_empty(), "{} names were not listed", wanted.len());
    assert_eq!(names(place.root()), Vec::<String>::new(), "names left");
}

/// What stays all the time must be listed exactly once, whatever comes and goes beside it.
fn names_ahead_can_go_while_a_directory_is_read(place: &Place) {
    let all = make_many(place, 3000);
    let goes = |path: &Path| path.to_str().unwrap().ends_with('7');
    let (go, mut stay): (HashSet<_>, HashSet<_>) = all.into_iter().partition(|path| goes(path));
    let mut go = go.into_iter();
    for (number, entry) in fs::read_dir(place.root()).unwrap().enumerate() {
        let path = entry.unwrap().path();
        if number % 5 == 0 {
            go.by_ref().take(1).for_each(|path| fs::remove_file(path).unwrap());
            fs::write(place.path(&format!("new{number}7")), b"").unwrap();
        }
        assert!(stay.remove(&path) || goes(&path), "{} was listed twice", path.display());
        assert!(number < 10_000, "the listing does not end");
    }
    assert!(stay.is_empty(), "{} names were not listed", stay.len());
}

fn refusals_of_names(place: &Place) {
    let path = |name: &str| place.path(name);
    fs::write(path("f"), b"x").unwrap();
    fs::create_dir_all(path("d/e")).unwrap();
    fs::write(path("d/g"), b"x").unwrap();
    fs::create_dir(path("empty")).unwrap();
    let new = || File::options().write(true).create_new(true).clone();
    fails(new().open(path("f")), Errno::EXIST, "exclusive create");
    fails(fs::create_dir(path("f")), Errno::EXIST, "mkdir");
    fails(symlink("x", path("d")), Errno::EXIST, "symlink");
    fails(fs::hard_link(path("f"), path("d")), Errno::EXIST, "link");
    fails(fs::metadata(path("missing")), Errno::NOENT, "stat");
    fails(fs::metadata(path("f/below")), Errno::NOTDIR, "stat below a file");
    fails(fs::remove_file(path("missing")), Errno::NOENT, "unlink");
    fails(fs::remove_file(path("empty")), Errno::ISDIR, "unlink of a directory");
    fails(fs::remove_dir(path("f")), Errno::NOTDIR, "rmdir of a file");
    fails(fs::remove_dir(path("d")), Errno::NOTEMPTY, "rmdir");
    fails(fs::rename(path("missing"), path("x")), Errno::NOENT, "rename");
    fails(fs::rename(path("d"), path("d/e/x")), Errno::INVAL, "rename below itself");
    fails(fs::rename(path("empty"), path("d")), Errno::NOTEMPTY, "rename onto a directory");
    fails(fs::rename(path("f"), path("empty")), Errno::ISDIR, "rename of a file onto one");
    fails(fs::rename(path("empty"), path("f")), Errno::NOTDIR, "rename of one onto a file");
    fails(fs::hard_link(path("d"), path("x")), Errno::PERM, "link of a directory");
    fails(File::options().write(true).open(path("d")), Errno::ISDIR, "write to a directory");
    fails(File::open(path("d")).unwrap().read(&mut [0; 9]), Errno::ISDIR, "read of a directory");
    fails(fs::write(path(&"n".repeat(256)), b""), Errno::NAMETOOLONG, "256 bytes");
    let gone = File::open(path("empty")).unwrap();
    fs::remove_dir(path("empty")).unwrap();
    let made = mknodat(&gone, "x", FileType::RegularFile, Mode::from_raw_mode(0o600), 0);
    fails(made, Errno::NOENT, "create in a removed directory");
    assert_eq!(names(place.root()), ["d", "f"]);
    assert_eq!(names(&path("d")), ["e", "g"]);
    fs::create_dir(path("other")).unwrap();
    fs::rename(path("d/e"), path("other")).unwrap();
    fs::rename(path("d/g"), path("f")).unwrap();
    fs::rename(path("f"), path("f")).unwrap();
    assert_eq!(names(place.root()), ["d", "f", "other"]);
    assert_eq!(names(&path("d")), Vec::<String>::new());
}

fn links_of_all_kinds(place: &Place) {
    fs::write(place.path("a"), b"content").unwrap();
    fs::create_dir(place.path("d")).unwrap();
    for number in 0..50 {
        fs::hard_link(place.path("a"), place.path(&format!("d/l{number}"))).unwrap();
    }
    let (one, other) = (fs::metadata(place.path("a")), fs::metadata(place.path("d/l7")));
    let (one, other) = (one.unwrap(), other.unwrap());
    assert_eq!((one.nlink(), one.ino()), (51, other.ino()), "links, inode");
    fs::write(place.path("d/l3"), b"new content").unwrap();
    fs::remove_file(place.path("a")).unwrap();
    forget_inodes();
    assert_eq!(fs::read(place.path("d/l7")).unwrap(), b"new content");
    assert_eq!(fs::metadata(place.path("d/l7")).unwrap().nlink(), 50, "links");
    for target in ["x", "../far/away", &"long/".repeat(800)] {
        symlink(target, place.path("s")).unwrap();
        assert_eq!(fs::read_link(place.path("s")).unwrap(), Path::new(target));
        let status = fs::symlink_metadata(place.path("s")).unwrap();
        assert_eq!((status.len(), status.nlink()), (target.len() as u64, 1), "size, links");
        fs::remove_file(place.path("s")).unwrap();
    }
    symlink("d/l9", place.path("s")).unwrap();
    assert_eq!(fs::read(place.path("s")).unwrap(), b"new content");
    symlink("loop", place.path("loop")).unwrap();
    fails(fs::read(place.path("loop")), Errno::LOOP, "a loop");
}

fn nodes_of_all_kinds(place: &Place) {
    let device = rustix::fs::makedev(259, 70_000);
    let kinds = [
        (FileType::Fifo, 0, 0o010_000),
        (FileType::Socket, 0, 0o140_000),
        (FileType::CharacterDevice, device, 0o020_000),
        (FileType::BlockDevice, device, 0o060_000),
        (FileType::RegularFile, 0, 0o100_000),
    ];
    for (number, (kind, device, bits)) in kinds.into_iter().enumerate() {
        let path = place.path(&format!("n{number}"));
        mknodat(CWD, &path, kind, Mode::from_raw_mode(0o622), device).unwrap();
        forget_inodes();
        let status = fs::symlink_metadata(&path).unwrap();
        assert_eq!(status.mode(), bits | 0o600, "{kind:?}: mode");
        assert_eq!((status.rdev(), status.len()), (device, 0), "{kind:?}: device, size");
    }
    let path = place.path("n0");
    thread::scope(|scope| {
        scope.spawn(|| fs::write(&path, b"through the fifo").unwrap());
        assert_eq!(fs::read(&path).unwrap(), b"through the fifo");
    });
}

fn names_of_all_bytes(place: &Place) {
    use std::os::unix::ffi::OsStringExt;
    let mut wanted = BTreeMap::new();
    for first in (1..=255).filter(|byte| *byte != b'/') {
        let name = std::ffi::OsString::from_vec(vec![first, b'x', 255 - (first & 1)]);
        fs::write(place.root().join(&name), [first]).unwrap();
        wanted.insert(name, first);
    }
    let longest = std::ffi::OsString::from("n".repeat(255));
    fs::write(place.root().join(&longest), [0]).unwrap();
    wanted.insert(longest, 0);
    forget_inodes();
    for entry in fs::read_dir(place.root()).unwrap() {
        let name = entry.unwrap().file_name();
        let content = wanted.remove(&name).unwrap_or_else(|| panic!("{name:?} is listed"));
        assert_eq!(fs::read(place.root().join(&name)).unwrap(), [content], "{name:?}");
    }
    assert!(wanted.is_empty(), "not listed: {wanted:?}");
}

fn racing_creators_have_one_winner_each(place: &Place) {
    const NAMES: usize = 200;
    let race = |creator: usize| {
        let win = |number: &usize| {
            let path = place.path(&format!("f{number}"));
            let mut options = File::options();
            match options.write(true).create_new(true).mode(0o600).open(path) {
                Ok(mut file) => file.write_all(&creator.to_le_bytes()).is_ok(),
                Err(error) => {
                    assert_eq!(error.kind(), io::ErrorKind::AlreadyExists, "{error}");
                    false
                }
            }
        };
        (0..NAMES).filter(win).count()
    };
    let won: usize = thread::scope(|scope| {
        let racers: Vec<_> = (0..4).map(|creator| scope.spawn(move || race(creator))).collect();
        racers.into_iter().map(|racer| racer.join().unwrap()).sum()
    });
    assert_eq!(won, NAMES, "files that were made");
    assert_eq!(names(place.root()).len(), NAMES, "files that are there");
}

fn inode_numbers_are_stable(place: &Place) {
    use std::os::unix::fs::DirEntryExt;
    let paths = make_many(place, 200);
    let number = |path: &PathBuf| fs::metadata(path).unwrap().ino();
    let before: BTreeMap<_, _> = paths.iter().map(|path| (path.clone(), number(path))).collect();
    let different: HashSet<_> = before.values().collect();
    assert_eq!(different.len(), 200, "inode numbers");
    forget_inodes();
    for entry in fs::read_dir(place.root()).unwrap().map(Result::unwrap) {
        assert_eq!(entry.ino(), before[&entry.path()], "in the listing");
        assert_eq!(number(&entry.path()), before[&entry.path()], "after eviction");
    }
}

fn sticky_directories_protect_names(place: &Place) {
    let directory = place.path("d");
    fs::create_dir(&directory).unwrap();
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o1777)).unwrap();
    fs::write(directory.join("root"), b"r").unwrap();
    as_nobody(|| {
        fails(fs::remove_file(directory.join("root")), Errno::PERM, "unlink of another's");
        fails(fs::rename(directory.join("root"), directory.join("x")), Errno::PERM, "rename");
        fs::write(directory.join("own"), b"o").unwrap();
        fs::rename(directory.join("own"), directory.join("own2")).unwrap();
        let own = fs::metadata(directory.join("own2")).unwrap();
        assert_eq!((own.uid(), own.gid()), (65534, 65534), "owner of a new file");
        fs::remove_file(directory.join("own2")).unwrap();
    });
    assert_eq!(names(&directory), ["root"]);
}

/// One random operation on names below a directory; what it gave, without what may differ.
fn random_operation(root: &Path, random: &mut Random) -> String {
    let path = |random: &mut Random| {
        let name = |random: &mut Random| random.pick(&["a", "b", "c", "d"]);
        let mut path = root.join(name(random));
        for _ in 0..random.below(3) {
            path.push(name(random));
        }
        path
    };
    let (one, two) = (path(random), path(random));
    let choice = random.below(13);
    let outcome: io::Result<String> = match choice {
        0 => File::options().write(true).create_new(true).open(&one).map(|_| "file".into()),
        1 | 2 => fs::create_dir(&one).map(|()| "directory".into()),
        3 => fs::rename(&one, &two).map(|()| "rename".into()),
        4 => fs::hard_link(&one, &two).map(|()| "link".into()),
        5 => symlink("a/b", &one).map(|()| "symlink".into()),
        6 => fs::remove_file(&one).map(|()| "unlink".into()),
        7 => fs::remove_dir(&one).map(|()| "rmdir".into()),
        8 | 9 => {
            let flags = [RenameFlags::EXCHANGE, RenameFlags::NOREPLACE][random.below_len(2)];
            let renamed = renameat_with(CWD, &one, CWD, &two, flags);
            renamed.map(|()| format!("{flags:?}")).map_err(io::Error::from)
        }
        10 => {
            unlinkat(CWD, &one, AtFlags::REMOVEDIR).map(|()| "gone".into()).map_err(io::Error::from)
        }
        11 => fs::read_dir(&one).map(|_| names(&one).join(" ")),
        _ => fs::symlink_metadata(&one).map(|status| {
            let size = if status.is_dir() { 0 } else { status.len() };
            format!("{:o} {} {size}", status.mode(), status.nlink())
        }),
    };
    outcome.unwrap_or_else(|error| format!("{choice}: {error}"))
}

fn random_names_agree_with_tmpfs(place: &Place) {
    let seed = u64::from(std::process::id());
    let plain = body_directory();
    let (mut one, mut other) = (Random::new(seed), Random::new(seed));
    for step in 0..4000 {
        let wanted = random_operation(plain.path(), &mut one);
        let got = random_operation(place.root(), &mut other);
        assert_eq!(got, wanted, "seed {seed}, step {step}");
    }
}

fn a_hundred_thousand_entries(place: &Place) {
    const COUNT: usize = 100_000;
    let mut wanted = make_many(place, COUNT);
    let directory = fs::read_dir(place.root()).unwrap();
    for (number, entry) in directory.enumerate() {
        assert!(number < COUNT, "more entries than were made");
        let entry = entry.unwrap();
        assert!(entry.file_type().unwrap().is_file(), "type of {entry:?}");
        assert!(wanted.remove(&entry.path()), "{entry:?} was listed twice, or never made");
    }
    assert!(wanted.is_empty(), "{} names were not listed", wanted.len());
}
