//! Many at once, and the ends of the scales: few slots, small pieces, largest offsets.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{
    CWD, RenameFlags, XattrFlags, getxattr, getxattr_query, listxattr, renameat_with, setxattr,
};
use rustix::io::Errno;

use crate::common::{
    MIB, PAGE, PAGE_U64, Place, Plan, Random, cases, drop_pages, fails, forget_inodes,
    forget_pages, open_append, open_rw, pattern, read_at, same_bytes,
};

cases!(
    mounts, Plan::new().options(&["--shards", "1", "--queue-depth", "1"]);
    one_slot_serves_many_threads,
);
cases!(
    served, Plan::new().options(&["--max-write", "4K", "--memory-budget", "1M"]);
    small_pieces_make_a_whole,
);
// Over io_uring with the default options only: where an entry has room for less than a value, Linux
// 6.18 ends in a BUG (fs/fuse/dev.c, fuse_copy_fill), which would take the machine with it.
cases!(mounts; the_largest_attributes);
cases!(device, Plan::new().options(&["--max-write", "4K"]); the_largest_attributes_in_small_frames);
cases!(mounts, Plan::new().options(&["--shards", "5"]); threads_move_names_across_directories);
cases!(everywhere; the_largest_offsets, a_program_runs, a_reader_never_sees_what_nobody_wrote);

/// More callers than there are slots, on every CPU: each must get its answers in the end.
fn one_slot_serves_many_threads(place: &Place) {
    thread::scope(|scope| {
        for number in 0..16 {
            scope.spawn(move || {
                for round in 0..20 {
                    let path = place.path(&format!("t{number}-{round}"));
                    let data = pattern(50_000, number * 100 + round);
                    fs::write(&path, &data).unwrap();
                    forget_pages(&path);
                    same_bytes(&fs::read(&path).unwrap(), &data, "content");
                    assert!(fs::read_dir(place.root()).unwrap().count() > 0, "listing");
                    fs::remove_file(&path).unwrap();
                }
            });
        }
    });
}

fn small_pieces_make_a_whole(place: &Place) {
    let path = place.path("f");
    let data = pattern(2 * MIB + 77, 1);
    fs::write(&path, &data).unwrap();
    let stats = place.stats();
    assert_eq!(stats.number("max_write"), PAGE_U64, "what was asked for");
    assert_eq!(stats.bytes("WRITE"), data.len() as u64, "bytes");
    assert!(stats.mean_bytes("WRITE") <= PAGE_U64, "mean WRITE {}", stats.mean_bytes("WRITE"));
    forget_pages(&path);
    same_bytes(&fs::read(&path).unwrap(), &data, "content");
    for number in 0..500 {
        fs::write(place.path(&format!("{number}-{}", "n".repeat(200))), b"").unwrap();
    }
    assert_eq!(fs::read_dir(place.root()).unwrap().count(), 501, "listing");
}

fn the_largest_attributes(place: &Place) {
    let path = place.path("f");
    fs::write(&path, b"x").unwrap();
    let name = format!("user.{}", "n".repeat(250));
    for seed in 0..3 {
        let value = pattern(65_536, seed);
        setxattr(&path, &name, &value, XattrFlags::empty()).unwrap();
        let mut got = vec![0; 65_536];
        assert_eq!(getxattr_query(&path, &name), Ok(65_536), "length");
        let len = getxattr(&path, &name, &mut got).unwrap();
        same_bytes(&got[..len], &value, "value");
    }
    for number in 0..200 {
        let name = format!("user.{number}.{}", "n".repeat(240));
        setxattr(&path, &name, b"", XattrFlags::empty()).unwrap();
    }
    let mut list = vec![0; 65_536];
    let len = listxattr(&path, &mut list).unwrap();
    let names = list[..len].split(|byte| *byte == 0).filter(|name| !name.is_empty()).count();
    assert_eq!(names, 201, "names");
}

fn the_largest_attributes_in_small_frames(place: &Place) {
    the_largest_attributes(place);
}

/// Directories, and files that say their own number, move about in all ways at once.
fn threads_move_names_across_directories(place: &Place) {
    for name in ["a", "b", "c", "a/a", "a/b", "b/a"] {
        fs::create_dir(place.path(name)).unwrap();
    }
    let seed = u64::from(std::process::id());
    let deadline = Instant::now() + Duration::from_secs(2);
    thread::scope(|scope| {
        for number in 0..6 {
            scope.spawn(move || {
                let mut random = Random::new(seed * 10 + number);
                while Instant::now() < deadline {
                    move_something(place, &mut random);
                }
            });
        }
    });
    forget_inodes();
    let files = check_tree(place.root());
    place.figure(&format!("{files} files after moving names about"));
}

fn move_something(place: &Place, random: &mut Random) {
    let mut path = || {
        let mut path = place.root().to_owned();
        for _ in 0..=random.below(3) {
            path.push(random.pick(&["a", "b", "c", "f", "g"]));
        }
        path
    };
    let (one, two) = (path(), path());
    // Most of these fail, as they should; what counts is what is there in the end.
    match random.below(8) {
        0 | 1 => drop(fs::rename(&one, &two)),
        2 => drop(renameat_with(CWD, &one, CWD, &two, RenameFlags::EXCHANGE)),
        3 => drop(fs::hard_link(&one, &two)),
        4 => drop(fs::remove_file(&one)),
        5 => drop(fs::remove_dir(&one)),
        6 => drop(fs::create_dir(&one)),
        _ => {
            if let Ok(file) = File::options().write(true).create_new(true).open(&one) {
                let number = file.metadata().unwrap().ino();
                file.write_all_at(number.to_string().as_bytes(), 0).unwrap();
            }
        }
    }
}

/// Every directory counts its subdirectories, every file says its own number; counts the files.
fn check_tree(directory: &Path) -> usize {
    let (mut files, mut subdirectories) = (0, 0);
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let status = fs::symlink_metadata(&path).unwrap();
        if status.is_dir() {
            subdirectories += 1;
            files += check_tree(&path);
        } else {
            files += 1;
            let content = fs::read_to_string(&path).unwrap();
            assert_eq!(content, status.ino().to_string(), "{}", path.display());
            assert!(status.nlink() >= 1, "{}", path.display());
        }
    }
    let links = fs::metadata(directory).unwrap().nlink();
    assert_eq!(links, 2 + subdirectories, "links of {}", directory.display());
    files
}

fn the_largest_offsets(place: &Place) {
    const END: u64 = i64::MAX as u64;
    let file = open_rw(&place.path("f"));
    file.set_len(END).unwrap();
    assert_eq!(file.metadata().unwrap().len(), END, "size");
    file.write_all_at(b"last", END - 4).unwrap();
    drop_pages(&file);
    assert_eq!(read_at(&file, 5, END - 5), b"\0last", "the last bytes");
    assert_eq!(file.metadata().unwrap().len(), END, "size");
    fails(open_append(&place.path("f")).write(b"x"), Errno::FBIG, "a byte more");
    file.write_all_at(&pattern(PAGE, 1), 0).unwrap();
    file.set_len(PAGE_U64).unwrap();
    drop_pages(&file);
    same_bytes(&read_at(&file, 2 * PAGE, 0), &pattern(PAGE, 1), "once it is cut");
    let allocated = rustix::fs::fallocate(
        &file,
        rustix::fs::FallocateFlags::KEEP_SIZE,
        END - PAGE_U64,
        PAGE_U64 + 1,
    );
    fails(allocated, Errno::FBIG, "room past the end of everything");
}

/// A program's pages are mapped, not read.
fn a_program_runs(place: &Place) {
    let path = place.path("sh");
    fs::copy("/bin/sh", &path).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o111, 0o111, "may run");
    forget_pages(&path);
    let mut command = Command::new(&path);
    let output = command.args(["-c", "echo $((6 * 7)); exit 5"]).output().unwrap();
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(5), &b"42\n"[..]));
    fs::write(place.path("script"), "#!/bin/sh\nexit 9\n").unwrap();
    fs::set_permissions(place.path("script"), fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(Command::new(place.path("script")).status().unwrap().code(), Some(9));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    fails(Command::new(&path).status(), Errno::ACCESS, "without the bits to run");
}

/// A writer writes letters, truncates and grows; whoever reads sees letters and zeros only.
fn a_reader_never_sees_what_nobody_wrote(place: &Place) {
    const LEN: u64 = 8 * PAGE_U64;
    let path = place.path("f");
    fs::write(&path, [b'A'; 8 * PAGE]).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            let file = open_rw(&path);
            for (round, letter) in (0..400).zip((b'A'..=b'Z').cycle()) {
                file.write_all_at(&[letter; 3 * PAGE + 50], round * 501 % (4 * PAGE_U64)).unwrap();
                if round % 10 == 0 {
                    file.set_len(5 * PAGE_U64 + 10).unwrap();
                    file.set_len(LEN).unwrap();
                }
                if round % 15 == 0 {
                    file.sync_all().unwrap();
                }
            }
        });
        let file = File::open(&path).unwrap();
        for round in 0..400 {
            let got = read_at(&file, 8 * PAGE, 0);
            let strange = got.iter().find(|byte| !(byte.is_ascii_uppercase() || **byte == 0));
            assert_eq!(strange, None, "round {round}: a byte that nobody wrote");
            if round % 20 == 0 {
                drop_pages(&File::open(&path).unwrap());
            }
        }
    });
}
