//! The kernel's passthrough: no data comes to the daemon, nobody meets EIO, and what the kernel
//! does not do by itself is done.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{FallocateFlags, OFlags, SeekFrom, XattrFlags, seek};
use rustix::io::Errno;

use crate::common::{
    Daemon, PAGE, PAGE_U64, Place, Plan, Random, Setup, Transport, allocate, as_nobody, cases,
    drills, fails, mode, mtime, next_tick, open_append, open_direct, open_rw, pattern, read_at,
    read_direct, same_bytes, system, write_direct,
};
use crate::descriptors::{count, falls_to};
use crate::{Other, backing};

cases!(
    kernel;
    no_data_comes_here,
    one_file_is_opened_in_every_way_at_once,
    opened_and_closed_by_many_at_once,
    closed_files_leave_no_descriptor,
    sizes_are_those_of_the_backing_file,
    mtime_moves_at_once,
    holes_are_found_while_somebody_writes,
    a_reader_keeps_nobody_from_executing_the_file,
);
cases!(
    kernel, Plan::new().options(&["--allow-other"]);
    set_id_bits_go_before_any_change_by_others,
    capabilities_go_and_set_id_bits_of_root_stay,
);

drills!(
    a_stacked_backing_is_served_by_the_daemon,
    write_back_gives_way_and_that_is_said,
    o_direct_is_refused_where_the_backing_refuses_it,
);

fn figure(place: &Place, group: &str, name: &str) -> u64 {
    place.stats().field("filesystem")[group][name].as_u64().unwrap()
}

fn no_data_comes_here(place: &Place) {
    let path = place.path("f");
    let mut wanted = pattern(1_000_000, 1);
    fs::write(&path, &wanted).unwrap();
    open_append(&path).write_all(b"the end").unwrap();
    wanted.extend_from_slice(b"the end");
    let file = open_rw(&path);
    // SAFETY: nothing else changes the file while it is mapped.
    let mut map = unsafe { memmap2::MmapMut::map_mut(&file) }.unwrap();
    map[5000..5100].fill(b'm');
    wanted[5000..5100].fill(b'm');
    drop(map);
    let direct = open_direct(&path);
    write_direct(&direct, &[b'd'; PAGE], 2 * PAGE_U64);
    wanted[2 * PAGE..3 * PAGE].fill(b'd');
    same_bytes(&read_direct(&direct, PAGE, 0), &wanted[..PAGE], "read past the cache");
    fs::copy(&path, place.path("copy")).unwrap();
    for path in [&path, &place.path("copy"), &backing(place).join("f")] {
        same_bytes(&fs::read(path).unwrap(), &wanted, "content");
    }
    let stats = place.stats();
    assert_eq!((stats.requests("READ"), stats.requests("WRITE")), (0, 0), "READs and WRITEs");
    let opened = stats.requests("CREATE") + stats.requests("OPEN");
    assert_eq!(figure(place, "handles", "kernel"), opened, "handles");
    assert_eq!(figure(place, "handles", "auto"), 0, "handles that are served here");
}

fn one_file_is_opened_in_every_way_at_once(place: &Place) {
    let (path, link) = (place.path("f"), place.path("link"));
    let mut files = vec![("made", open_rw(&path))];
    files[0].1.write_all_at(&pattern(3 * PAGE, 1), 0).unwrap();
    fs::hard_link(&path, &link).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    let options = |read, write, flags: OFlags| {
        let flags = i32::try_from(flags.bits()).unwrap();
        OpenOptions::new().read(read).write(write).custom_flags(flags).to_owned()
    };
    let ways = [
        ("reading", options(true, false, OFlags::empty())),
        ("writing", options(false, true, OFlags::empty())),
        ("appending", OpenOptions::new().append(true).to_owned()),
        ("past the cache", options(true, true, OFlags::DIRECT)),
        ("synchronously", options(true, true, OFlags::SYNC)),
        ("without access time", options(true, false, OFlags::NOATIME)),
    ];
    for round in 0..3 {
        for (name, way) in &ways {
            let by = if round % 2 == 0 { &path } else { &link };
            files.push((name, way.open(by).unwrap_or_else(|error| panic!("{name}: {error}"))));
        }
        // The one that decided is gone in the second round, names in the third.
        match round {
            0 => drop(files.remove(0)),
            1 => fs::rename(&path, &link).and_then(|()| fs::rename(&link, &path)).unwrap(),
            _ => fs::remove_file(&path).unwrap(),
        }
    }
    let writer = files.iter().find(|(name, _)| *name == "writing").unwrap();
    writer.1.write_all_at(b"seen by all", 100).unwrap();
    for (name, file) in &files {
        if !matches!(*name, "writing" | "appending") {
            let read = if *name == "past the cache" { read_direct } else { read_at };
            same_bytes(&read(file, PAGE, 0)[100..111], b"seen by all", name);
        }
    }
    assert_eq!(figure(place, "handles", "auto"), 0, "handles that are served here");
}

/// Opens and closes come to any shard, in any order; each must succeed.
fn opened_and_closed_by_many_at_once(place: &Place) {
    let names = [place.path("f"), place.path("link")];
    fs::write(&names[0], [b'x'; 100]).unwrap();
    fs::hard_link(&names[0], &names[1]).unwrap();
    let before = count(place);
    thread::scope(|scope| {
        for seed in 0..8 {
            let names = &names;
            scope.spawn(move || {
                let mut random = Random::new(seed);
                for round in 0..300 {
                    let path = &names[random.below_len(2)];
                    let writes = random.below(2) == 0;
                    let file = OpenOptions::new().read(true).write(writes).open(path);
                    let file = file.unwrap_or_else(|error| panic!("{seed}, {round}: {error}"));
                    if writes {
                        file.write_all_at(b"x", seed).unwrap();
                    }
                    assert_eq!(read_at(&file, 200, 0), [b'x'; 100]);
                }
            });
        }
    });
    assert_eq!(figure(place, "handles", "auto"), 0, "handles that are served here");
    falls_to(place, before);
}

fn closed_files_leave_no_descriptor(place: &Place) {
    let before = count(place);
    for round in 0..3 {
        let open = |number| {
            let path = place.path(&format!("f{number}"));
            (open_rw(&path), File::open(&path).unwrap())
        };
        let files: Vec<_> = (0..50).map(open).collect();
        assert!(count(place) >= before + 100, "each handle has one, round {round}");
        drop(files);
        (0..50).for_each(|number| fs::remove_file(place.path(&format!("f{number}"))).unwrap());
        falls_to(place, before);
    }
}

fn sizes_are_those_of_the_backing_file(place: &Place) {
    let path = place.path("f");
    let file = open_rw(&path);
    let both = |wanted: u64, what: &str| {
        let sizes =
            [&path, &backing(place).join("f")].map(|path| fs::metadata(path).unwrap().len());
        assert_eq!(sizes, [wanted; 2], "{what}");
        assert_eq!(seek(&file, SeekFrom::End(0)).unwrap(), wanted, "{what}, by its end");
    };
    file.write_all_at(&pattern(10_000, 1), 0).unwrap();
    both(10_000, "written");
    open_append(&path).write_all(b"12345").unwrap();
    both(10_005, "appended");
    file.set_len(77).unwrap();
    both(77, "cut while open");
    File::options().write(true).truncate(true).open(&path).unwrap();
    both(0, "cut by O_TRUNC while open");
    assert!(allocate(&file, FallocateFlags::empty(), 0, 5000));
    both(5000, "reserved");
    assert_eq!(read_at(&file, 9000, 0), vec![0; 5000]);
    file.write_all_at(b"x", 20_000).unwrap();
    both(20_001, "past a hole");
    File::create(&path).unwrap();
    both(0, "made again");
    let nameless = rustix::fs::open(
        place.root(),
        OFlags::TMPFILE | OFlags::RDWR,
        rustix::fs::Mode::from_raw_mode(0o600),
    );
    let nameless = File::from(nameless.unwrap());
    nameless.write_all_at(b"without a name", 0).unwrap();
    assert_eq!(nameless.metadata().unwrap().len(), 14);
    assert_eq!(figure(place, "handles", "auto"), 0, "handles that are served here");
}

fn mtime_moves_at_once(place: &Place) {
    let path = place.path("f");
    let file = open_rw(&path);
    file.set_len(2 * PAGE_U64).unwrap();
    let moves = |what: &str, change: &mut dyn FnMut()| {
        let before = mtime(&path);
        next_tick();
        change();
        assert!(mtime(&path) > before, "{what}");
        assert_eq!(mtime(&path), mtime(&backing(place).join("f")), "{what}");
    };
    moves("write", &mut || file.write_all_at(b"x", 0).unwrap());
    // SAFETY: nothing else changes the file while it is mapped.
    let mut map = unsafe { memmap2::MmapMut::map_mut(&file) }.unwrap();
    moves("store to a mapping", &mut || map[0] = b'y');
    moves("truncation", &mut || file.set_len(5).unwrap());
    map.flush().unwrap();
    fs::File::set_times(&file, fs::FileTimes::new().set_modified(std::time::UNIX_EPOCH)).unwrap();
    assert_eq!(mtime(&path), 0);
    moves("write after it was set", &mut || file.write_all_at(b"x", 0).unwrap());
}

/// Dirty pages are the backing file's own, so there is nothing that a hole could hide.
fn holes_are_found_while_somebody_writes(place: &Place) {
    let file = open_rw(&place.path("f"));
    file.set_len(1 << 22).unwrap();
    file.write_all_at(&[b'd'; PAGE], 1 << 20).unwrap();
    assert_eq!(seek(&file, SeekFrom::Data(0)).unwrap(), 1 << 20);
    assert_eq!(seek(&file, SeekFrom::Hole(1 << 20)).unwrap(), (1 << 20) + PAGE_U64);
}

/// What is registered must not be a descriptor that may write.
fn a_reader_keeps_nobody_from_executing_the_file(place: &Place) {
    let path = place.path("program");
    let mut writer = OpenOptions::new();
    let mut writer = writer.write(true).create_new(true).mode(0o755).open(&path).unwrap();
    writer.write_all(&fs::read("/bin/true").unwrap()).unwrap();
    let reader = File::open(&path).unwrap();
    drop(writer);
    let deadline = Instant::now() + Duration::from_secs(10);
    let outside = backing(place).join("program");
    // The daemon's own descriptor goes with RELEASE, which nobody waits for.
    let mut run = Command::new(&outside).status();
    while run.as_ref().is_err_and(|error| error.raw_os_error() == Some(26)) {
        assert!(Instant::now() < deadline, "still busy");
        thread::sleep(Duration::from_millis(5));
        run = Command::new(&outside).status();
    }
    assert!(run.unwrap().success());
    assert!(Command::new(&path).status().unwrap().success(), "by way of the mount");
    drop(reader);
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn set_id_bits_go_before_any_change_by_others(place: &Place) {
    let path = place.path("f");
    fs::write(&path, pattern(10_000, 1)).unwrap();
    fs::write(place.path("source"), pattern(10_000, 2)).unwrap();
    type Change = fn(&File, &File);
    let changes: [(&str, Change); 5] = [
        ("write", |file, _| file.write_all_at(b"x", 0).unwrap()),
        ("write past the cache", |file, _| {
            rustix::fs::fcntl_setfl(file, OFlags::DIRECT).unwrap();
            write_direct(file, &[b'd'; PAGE], 0);
        }),
        ("truncation", |file, _| file.set_len(9000).unwrap()),
        ("reservation", |file, _| assert!(allocate(file, FallocateFlags::empty(), 0, 20_000))),
        ("copy", |file, source| {
            let (mut from, mut to) = (0, 0);
            let copy = rustix::fs::copy_file_range;
            assert_eq!(copy(source, Some(&mut from), file, Some(&mut to), 100).unwrap(), 100);
        }),
    ];
    for (what, change) in changes {
        for (before, after) in [(0o6777, 0o0777), (0o4766, 0o0766), (0o2777, 0o0777)] {
            chmod(&path, before);
            as_nobody(|| change(&open_rw(&path), &File::open(place.path("source")).unwrap()));
            assert_eq!(mode(&path), after, "{what} to {before:o}");
            assert_eq!(mode(&backing(place).join("f")), after, "{what} to {before:o}, outside");
        }
        chmod(&path, 0o6777);
        change(&open_rw(&path), &File::open(place.path("source")).unwrap());
        assert_eq!(mode(&path), 0o6777, "{what} by root");
    }
}

fn capabilities_go_and_set_id_bits_of_root_stay(place: &Place) {
    const NAME: &str = "security.capability";
    // struct vfs_cap_data, revision 2: CAP_NET_RAW is permitted and effective.
    let value = [[0x0200_0001_u32, 1 << 13, 0, 0, 0].map(u32::to_le_bytes)].concat().concat();
    let path = place.path("f");
    fs::write(&path, "x").unwrap();
    let writes: [(&str, &dyn Fn()); 2] = [
        ("root", &|| open_rw(&path).write_all_at(b"y", 0).unwrap()),
        ("nobody", &|| as_nobody(|| open_rw(&path).write_all_at(b"z", 0).unwrap())),
    ];
    for (who, write) in writes {
        chmod(&path, 0o4777);
        rustix::fs::setxattr(&path, NAME, &value, XattrFlags::empty()).unwrap();
        write();
        for path in [&path, &backing(place).join("f")] {
            let left = rustix::fs::getxattr(path, NAME, &mut [0; 32]);
            fails(left, Errno::NODATA, &format!("capabilities after a write by {who}"));
        }
        let wanted = if who == "root" { 0o4777 } else { 0o0777 };
        assert_eq!(mode(&path), wanted, "after a write by {who}");
    }
}

/// A filesystem mounted on the backing directory of a daemon, unmounted before that goes.
pub(crate) struct Mounted {
    backing: Other,
    pub(crate) daemon: Daemon,
}

impl Mounted {
    /// Runs `mount` with `words` and the backing directory, which are made from that of the work,
    /// and then the daemon.
    pub(crate) fn start(setup: &Setup, words: impl FnOnce(&Path) -> Vec<String>) -> Self {
        let work = crate::work();
        let (point, mountpoint) = (work.path().join("backing"), work.path().join("mnt"));
        for directory in [&point, &mountpoint] {
            fs::create_dir(directory).unwrap();
        }
        let words = words(work.path());
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let backing = Other::mount(&words, &point);
        match Daemon::try_start(&setup.arguments(), work, &mountpoint) {
            Ok(daemon) => Self { backing, daemon },
            Err(refusal) => panic!("no mount: {}", refusal.message),
        }
    }

    /// Runs a script in the mount; returns what it printed.
    fn sh(&self, script: &str) -> String {
        let mut shell = Command::new("sh");
        shell.arg("-ec").arg(format!("cd \"$0\"; {script}")).arg(self.daemon.mountpoint());
        let (status, output) = system::run_limited(&mut shell).unwrap();
        assert!(status.success(), "{script}: {output}");
        output
    }

    /// Waits until the daemon knows that no file is open any more: the kernel sends RELEASE behind
    /// close(2).
    fn wait_for_releases(&self) {
        let until = Instant::now() + Duration::from_secs(10);
        loop {
            let stats = self.daemon.stats();
            let opened = stats.requests("OPEN") + stats.requests("CREATE");
            if stats.requests("RELEASE") == opened {
                return;
            }
            assert!(Instant::now() < until, "{opened} files opened, not all released");
            thread::sleep(Duration::from_millis(2));
        }
    }
}

fn kernel(transport: Transport) -> Setup {
    Setup { writeback: false, ..Setup::new(transport) }.with(&["--io", "kernel"])
}

fn a_stacked_backing_is_served_by_the_daemon(transport: Transport) {
    let mut mounted = Mounted::start(&kernel(transport), |work| {
        let at = |name: &str| {
            let path = work.join(name);
            fs::create_dir(&path).unwrap();
            path.display().to_string()
        };
        let (lower, upper, inside) = (at("lower"), at("upper"), at("inside"));
        fs::write(work.join("lower/below"), "from below").unwrap();
        let options = format!("lowerdir={lower},upperdir={upper},workdir={inside}");
        ["-t", "overlay", "-o", &options, "none"].map(str::to_owned).to_vec()
    });
    let steps = [
        ("cat below", "from below"),
        ("printf ' and above' >>below", ""),
        (
            "exec 3<below 4<>below; cat below; printf X >&4; cat <&3",
            "from below and aboveXrom below and above",
        ),
        ("printf new >made", ""),
        ("cat made", "new"),
    ];
    for (script, wanted) in steps {
        assert_eq!(mounted.sh(script), wanted);
        mounted.wait_for_releases();
    }
    let stats = mounted.daemon.stats();
    let filesystem = stats.field("filesystem");
    assert_eq!(filesystem["handles"]["kernel"], 0, "{filesystem}");
    // One decision for each time that a file was opened while it was not open.
    assert_eq!(filesystem["fallbacks"]["ELOOP"], 5, "{filesystem}");
    assert!(stats.requests("READ") > 0 && stats.requests("WRITE") > 0);
    let messages = mounted.daemon.messages();
    let told = messages.lines().filter(|line| line.contains("ELOOP")).collect::<Vec<_>>();
    assert!(told.len() == 1 && told[0].contains("stacked"), "{messages}");
    mounted.daemon.umount();
}

fn write_back_gives_way_and_that_is_said(transport: Transport) {
    for (writeback, said) in [("on", true), ("off", false)] {
        let work = crate::work();
        let mountpoint = work.path().join("mnt");
        fs::create_dir(&mountpoint).unwrap();
        let words = ["--io", "kernel", "--transport", transport.name(), "--writeback", writeback];
        let mut daemon = Daemon::try_start(&words, work, &mountpoint).unwrap();
        assert!(!daemon.ready().writeback, "with --writeback {writeback}");
        assert_eq!(*daemon.stats().field("passthrough"), true);
        let messages = daemon.messages();
        assert_eq!(messages.contains("write-back is off"), said, "{messages}");
        daemon.umount();
    }
    let work = crate::work();
    let mut command = crate::daemon(work.path());
    let (status, said) =
        system::run_limited(command.args(["--io", "kernel", "--direct"]).arg(work.path())).unwrap();
    assert!(!status.success() && said.contains("--direct"), "{said}");
}

/// ramfs has no O_DIRECT: open(2) fails, has made what was not there, and has cut nothing.
fn o_direct_is_refused_where_the_backing_refuses_it(transport: Transport) {
    let through = Setup { writeback: false, ..Setup::new(transport) };
    for setup in [kernel(transport), through, Setup::new(transport)] {
        let setup = setup.with(&["--cache", "always"]);
        let mut mounted =
            Mounted::start(&setup, |_| ["-t", "ramfs", "none"].map(str::to_owned).to_vec());
        let said = mounted.sh("printf text >f; \
             try() { dd if=/dev/zero bs=4096 count=1 \"$@\" 2>&1 | grep -o 'Invalid argument'; }; \
             try of=f oflag=direct; try of=new oflag=direct; try of=g oflag=direct,append; \
             cat f; ls");
        let wanted = "Invalid argument\n".repeat(3) + "textf\ng\nnew";
        assert_eq!(said, wanted, "{:?}", setup.extra);
        // The kernel is sure that it is not there, and sends CREATE.
        mounted.sh("test ! -e unknown");
        fs::write(mounted.backing.0.join("unknown"), "text").unwrap();
        let said = mounted.sh("dd if=/dev/zero of=unknown oflag=direct bs=4096 count=1 2>&1 | \
             grep -o 'Invalid argument'; until cat unknown 2>/dev/null; do :; done");
        assert_eq!(said, "Invalid argument\ntext", "{:?}", setup.extra);
        mounted.daemon.umount();
    }
}
