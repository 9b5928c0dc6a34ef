//! By which way data move: the ring, or system calls.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};

use crate::backing;
use crate::common::{Aligned, Place, Plan, cases, open_direct, pattern, read_direct, write_direct};

cases!(
    served_through, Plan::new().options(&["--cache", "never"]).on_disk();
    data_go_by_where_they_are,
);
cases!(
    served_through, Plan::new().options(&["--cache", "never"]);
    nothing_of_tmpfs_goes_by_the_ring,
);
cases!(
    through, Plan::new().options(&["--cache", "never"]).on_disk();
    reads_past_the_cache_follow_the_length,
    reads_past_the_cache_ask_for_nothing_else,
);

const BLOCK: usize = 4096;
const IN_TIME: Duration = Duration::from_secs(10);

/// READs and WRITEs so far, on the ring and by system calls.
fn moved(place: &Place) -> [(u64, u64); 2] {
    let stats = place.stats();
    let of = |what: &str| {
        let ways = &stats.field("filesystem")[what];
        (ways["ring"].as_u64().unwrap(), ways["sync"].as_u64().unwrap())
    };
    [of("reads"), of("writes")]
}

/// A MiB on a disk, in its memory, and past its cache: far more than is read ahead at once.
fn data_go_by_where_they_are(place: &Place) {
    const MIB: usize = 256 * BLOCK;
    let data = pattern(MIB, 3);
    let mut room = Aligned::zeros(MIB);
    let mut read = |name: &str| {
        room.as_mut().fill(0);
        File::open(place.path(name)).unwrap().read_exact_at(room.as_mut(), 0).unwrap();
        assert!(room.as_mut() == data, "{name}");
    };
    fs::write(backing(place).join("f"), &data).unwrap();
    read("f");
    assert_eq!(moved(place), [(0, 1), (0, 0)], "in memory");
    // A read that does not wait has the kernel read ahead, and a disk may be done with that before
    // a busy CPU comes back to look.
    let on_disk = |number: &u64| {
        let name = format!("g{number}");
        File::create(backing(place).join(&name)).unwrap();
        write_direct(&open_direct(&backing(place).join(&name)), &data, 0);
        read(&name);
        moved(place)[0].0 > 0
    };
    let cached = (1..30).find(on_disk).expect("nothing on the disk goes by the ring");
    assert_eq!(moved(place), [(1, cached), (0, 0)], "on the disk");
    let file = open_direct(&place.path("f"));
    write_direct(&file, &data, 0);
    assert!(read_direct(&file, MIB, 0) == data);
    assert_eq!(moved(place), [(2, cached), (1, 0)], "past the cache");
    File::options().write(true).open(place.path("f")).unwrap().write_all_at(b"text", 0).unwrap();
    assert_eq!(moved(place), [(2, cached), (1, 1)], "into memory");
}

/// It takes O_DIRECT and has nowhere to go: on the ring each would be a worker's.
fn nothing_of_tmpfs_goes_by_the_ring(place: &Place) {
    fs::write(place.path("f"), pattern(16 * BLOCK, 5)).unwrap();
    let file = open_direct(&place.path("f"));
    write_direct(&file, &pattern(16 * BLOCK, 7), 0);
    assert!(read_direct(&file, 16 * BLOCK, 0) == pattern(16 * BLOCK, 7));
    assert_eq!(moved(place), [(0, 1), (0, 2)]);
}

/// An answer that counts on a length is whole also where that is no longer the file's.
fn reads_past_the_cache_follow_the_length(place: &Place) {
    let (outside, data) = (backing(place).join("f"), pattern(16 * BLOCK, 9));
    fs::write(&outside, &data).unwrap();
    let file = open_direct(&place.path("f"));
    let outside = File::options().write(true).open(outside).unwrap();
    let mut room = Aligned::zeros(8 * BLOCK);
    for (length, offset) in [(16, 8), (9, 8), (8, 8), (1, 0), (0, 0), (12, 8), (16, 8), (20, 12)] {
        outside.set_len((length * BLOCK) as u64 + 5).unwrap();
        outside.write_all_at(&data[..(length * BLOCK).min(data.len())], 0).unwrap();
        room.as_mut().fill(0xee);
        let count = file.read_at(room.as_mut(), (offset * BLOCK) as u64).unwrap();
        let wanted = fs::read(backing(place).join("f")).unwrap();
        let wanted = wanted.get(offset * BLOCK..).unwrap_or_default();
        let wanted = &wanted[..wanted.len().min(8 * BLOCK)];
        assert!(&room.as_mut()[..count] == wanted, "{length} blocks, from {offset}");
    }
}

/// A system call of each READ beside its own would be one too many.
fn reads_past_the_cache_ask_for_nothing_else(place: &Place) {
    fs::write(backing(place).join("f"), pattern(64 * BLOCK, 11)).unwrap();
    let file = open_direct(&place.path("f"));
    let (calls, pid) = (place.root().with_file_name("calls"), place.pid().as_raw_nonzero());
    let mut strace = Command::new("strace");
    strace.args(["-qq", "-f", "-e", "trace=statx", "-p", &pid.to_string(), "-o"]).arg(&calls);
    let Ok(mut strace) = strace.spawn() else {
        return place.skipped("strace is not installed");
    };
    let is_traced = |task: io::Result<fs::DirEntry>| {
        let status = fs::read_to_string(task.unwrap().path().join("status")).unwrap();
        !status.lines().any(|line| line == "TracerPid:\t0")
    };
    let start = Instant::now();
    while !fs::read_dir(format!("/proc/{pid}/task")).unwrap().all(is_traced) {
        assert!(start.elapsed() < IN_TIME, "strace does not begin");
        thread::sleep(Duration::from_millis(5));
    }
    let mut room = Aligned::zeros(BLOCK);
    for block in 0..64 {
        assert_eq!(file.read_at(room.as_mut(), (block * BLOCK) as u64).unwrap(), BLOCK);
    }
    // This one is seen.
    fs::metadata(place.path("f")).unwrap();
    rustix::process::kill_process(Pid::from_child(&strace), Signal::INT).unwrap();
    strace.wait().unwrap();
    let calls = fs::read_to_string(calls).unwrap();
    let count = calls.lines().filter(|line| line.contains("statx(")).count();
    assert!((1..8).contains(&count), "{calls}");
}
