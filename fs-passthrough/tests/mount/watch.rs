//! What others change shows at once with `--watch`: names and attributes are good for an hour here,
//! so that nothing else explains it. Neighbour: `watch_worst`.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{CWD, Mode, OFlags, RenameFlags, XattrFlags, getxattr, renameat_with, setxattr};
use rustix::io::Errno;

use crate::backing;
use crate::common::{
    Place, Plan, cases, ctime, fails, mode, mtime, next_tick, open_append, open_direct, open_rw,
    pattern, times_of, write_direct,
};

pub(crate) const WATCHED: &[&str] =
    &["--watch", "--attr-timeout", "3600", "--entry-timeout", "3600"];
pub(crate) const KEPT: &[&str] =
    &["--watch", "--cache", "always", "--attr-timeout", "3600", "--entry-timeout", "3600"];
const OPEN: &[&str] =
    &["--watch", "--sandbox", "off", "--attr-timeout", "3600", "--entry-timeout", "3600"];
const RING: &[&str] =
    &["--watch", "--io", "ring", "--attr-timeout", "3600", "--entry-timeout", "3600"];
const SYNC: &[&str] =
    &["--watch", "--io", "sync", "--attr-timeout", "3600", "--entry-timeout", "3600"];
const FEW: &[&str] =
    &["--watch", "--fd-budget", "0", "--attr-timeout", "3600", "--entry-timeout", "3600"];

cases!(
    mounts, Plan::new().options(WATCHED);
    what_others_write_is_read,
    what_others_change_of_a_file_shows,
    names_that_others_change,
    directories_that_others_change,
    own_changes_show_with_those_of_others,
);
cases!(
    mounts, Plan::new().options(KEPT);
    a_name_known_to_be_missing_appears,
    a_listing_that_is_kept_is_read_anew,
    what_is_written_beside_is_read_where_data_are_kept,
);
cases!(through, Plan::new().options(WATCHED); an_open_file_grows);
cases!(served_through, Plan::new().options(KEPT); own_changes_drop_nothing);
cases!(kernel, Plan::new().options(WATCHED); what_the_kernel_writes_for_our_clients_is_ours);
cases!(
    writeback, Plan::new().options(WATCHED);
    dirty_data_outlive_changes_by_others,
    size_and_time_of_an_open_file_show_after_its_end,
    size_and_time_show_once_a_file_is_held_no_more,
);

mod unlocked {
    use super::*;
    cases!(mounts, Plan::new().options(OPEN); what_others_write_is_read, names_that_others_change);
}
mod ring {
    use super::*;
    cases!(served, Plan::new().options(RING); what_others_write_is_read);
}
mod sync {
    use super::*;
    cases!(served, Plan::new().options(SYNC); what_others_write_is_read);
}
mod by_handle {
    use super::*;
    cases!(
        served, Plan::new().options(FEW);
        what_others_write_is_read,
        names_that_others_change,
        directories_that_others_change,
    );
}

/// Less than a name is known to be missing, and much less than anything else is good for.
const SOON: Duration = Duration::from_secs(5);

/// Waits until it is so.
pub(crate) fn soon(what: &str, mut is_so: impl FnMut() -> bool) {
    let until = Instant::now() + SOON;
    while !is_so() {
        assert!(Instant::now() < until, "never: {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// What the daemon has counted.
pub(crate) fn watch_figure(place: &Place, name: &str) -> u64 {
    place.stats().field("filesystem")["watch"][name].as_u64().unwrap()
}

/// A name in the mount and in what it shows, of a file that is known with its data.
fn known(place: &Place, name: &str, text: &str) -> (PathBuf, PathBuf) {
    let (inside, outside) = (place.path(name), backing(place).join(name));
    fs::write(&outside, text).unwrap();
    assert_eq!(fs::read_to_string(&inside).unwrap(), text);
    (inside, outside)
}

fn what_others_write_is_read(place: &Place) {
    let (inside, outside) = known(place, "f", "first");
    let reads = |text: &str| {
        soon(text, || fs::read_to_string(&inside).unwrap() == text);
        assert_eq!(fs::metadata(&inside).unwrap().len(), text.len() as u64);
        soon("mtime", || mtime(&inside) == mtime(&outside));
    };
    fs::write(&outside, "second and longer").unwrap();
    reads("second and longer");
    open_rw(&outside).write_all(b"SECOND").unwrap();
    reads("SECOND and longer");
    open_append(&outside).write_all(b" yet").unwrap();
    reads("SECOND and longer yet");
    open_rw(&outside).set_len(6).unwrap();
    reads("SECOND");
    // Whoever changes it may keep it open.
    let mut file = open_append(&outside);
    for round in 0..20 {
        let text = format!("{}{}", fs::read_to_string(&outside).unwrap(), round);
        write!(file, "{round}").unwrap();
        reads(&text);
    }
}

/// An ACL as the attribute has it: the owner reads and writes, `user` reads, the mask lets it.
fn acl(user: u32) -> Vec<u8> {
    let entries: [(u16, u16, u32); 5] =
        [(1, 6, !0), (2, 4, user), (4, 0, !0), (0x10, 4, !0), (0x20, 0, !0)];
    let mut bytes = 2_u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in entries {
        bytes.extend(tag.to_le_bytes());
        bytes.extend(permissions.to_le_bytes());
        bytes.extend(id.to_le_bytes());
    }
    bytes
}

fn what_others_change_of_a_file_shows(place: &Place) {
    const ACL: &str = "system.posix_acl_access";
    let (inside, outside) = known(place, "f", "text");
    assert_eq!(mode(&inside) & 0o7777, 0o644);
    fs::set_permissions(&outside, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    soon("the mode", || mode(&inside) & 0o7777 == 0o600);
    std::os::unix::fs::chown(&outside, Some(1), Some(2)).unwrap();
    soon("the owner", || {
        let now = fs::metadata(&inside).unwrap();
        (now.uid(), now.gid()) == (1, 2)
    });
    // What the kernel keeps of permissions it keeps with the inode.
    let get = |path: &Path| {
        let mut bytes = vec![0; 256];
        getxattr(path, ACL, &mut bytes).map(|len| bytes[..len].to_vec())
    };
    fails(get(&inside), Errno::NODATA, "an ACL before there is one");
    for user in [1000, 1001] {
        setxattr(&outside, ACL, &acl(user), XattrFlags::empty()).unwrap();
        soon("the ACL", || get(&inside) == Ok(acl(user)));
        assert_eq!(mode(&inside) & 0o7777, 0o640, "its mask");
    }
    let old = fs::FileTimes::new().set_modified(std::time::UNIX_EPOCH + Duration::from_secs(7));
    File::open(&outside).unwrap().set_times(old).unwrap();
    soon("a time that was set", || mtime(&inside) == 7_000_000_000);
}

fn names_that_others_change(place: &Place) {
    let outside = backing(place);
    let (f, _) = known(place, "f", "f");
    let (g, _) = known(place, "g", "g");
    let text = |path: &Path| fs::read_to_string(path).ok();
    let links = |path: &Path| fs::metadata(path).map(|status| status.nlink()).unwrap_or(0);
    fs::hard_link(outside.join("f"), outside.join("link")).unwrap();
    soon("another link", || links(&f) == 2);
    assert_eq!(text(&place.path("link")).as_deref(), Some("f"));
    let held = File::open(&g).unwrap();
    next_tick();
    fs::rename(outside.join("g"), outside.join("f")).unwrap();
    soon("what was renamed over it", || text(&f).as_deref() == Some("g"));
    soon("the old name is gone", || fs::metadata(&g).is_err());
    if !place.keeps_dirty_pages() {
        // With write-back the kernel owns it.
        let wanted = ctime(&outside.join("f"));
        soon("ctime of an open file", || times_of(&held.metadata().unwrap()).1 == wanted);
    }
    soon("one link less", || links(&place.path("link")) == 1);
    fs::remove_file(outside.join("link")).unwrap();
    soon("it is gone", || fs::metadata(place.path("link")).is_err());
    fs::remove_file(outside.join("f")).unwrap();
    symlink("target", outside.join("f")).unwrap();
    soon("a link instead", || fs::read_link(&f).is_ok_and(|to| to == Path::new("target")));
    fs::remove_file(outside.join("f")).unwrap();
    symlink("other", outside.join("f")).unwrap();
    soon("another link", || fs::read_link(&f).is_ok_and(|to| to == Path::new("other")));
    for name in ["x", "y"] {
        known(place, name, name);
    }
    let (x, y) = (outside.join("x"), outside.join("y"));
    renameat_with(CWD, &x, CWD, &y, RenameFlags::EXCHANGE).unwrap();
    soon("both", || {
        text(&place.path("x")).as_deref() == Some("y")
            && text(&place.path("y")).as_deref() == Some("x")
    });
}

fn directories_that_others_change(place: &Place) {
    let outside = backing(place);
    let links = |path: &Path| fs::metadata(path).map(|status| status.nlink()).unwrap_or(0);
    for name in ["from/sub", "to"] {
        fs::create_dir_all(outside.join(name)).unwrap();
    }
    fs::write(outside.join("from/sub/f"), "f").unwrap();
    assert_eq!(fs::read_to_string(place.path("from/sub/f")).unwrap(), "f");
    assert_eq!((links(&place.path("from")), links(&place.path("to"))), (3, 2));
    next_tick();
    fs::rename(outside.join("from/sub"), outside.join("to/moved")).unwrap();
    soon("the old name is gone", || fs::metadata(place.path("from/sub")).is_err());
    assert_eq!(fs::read_to_string(place.path("to/moved/f")).unwrap(), "f");
    soon("links", || (links(&place.path("from")), links(&place.path("to"))) == (2, 3));
    for name in ["from", "to"] {
        soon(name, || mtime(&place.path(name)) == mtime(&outside.join(name)));
    }
    fs::create_dir(outside.join("from/new")).unwrap();
    soon("a new one", || links(&place.path("from")) == 3);
    assert!(fs::metadata(place.path("from/new")).unwrap().is_dir());
    fs::remove_dir(outside.join("from/new")).unwrap();
    soon("it goes", || fs::metadata(place.path("from/new")).is_err());
    fs::remove_dir_all(outside.join("to")).unwrap();
    soon("a whole tree goes", || fs::metadata(place.path("to/moved/f")).is_err());
    soon("and its top", || fs::metadata(place.path("to")).is_err());
}

/// Whoever writes past the page cache moves times that the kernel did not move itself.
fn own_changes_show_with_those_of_others(place: &Place) {
    let (inside, outside) = known(place, "f", "");
    let data = pattern(4096, 1);
    for round in 0..10_u8 {
        let mut bytes = data.clone();
        bytes[0] = round;
        write_direct(&open_direct(&inside), &bytes, u64::from(round) * 4096);
        next_tick();
        open_append(&outside).write_all(&[round; 4096]).unwrap();
        bytes.extend([round; 4096]);
        let start = usize::from(round) * 4096;
        soon("what both wrote", || fs::read(&inside).unwrap().get(start..) == Some(&bytes[..]));
        soon("mtime", || mtime(&inside) == mtime(&outside));
        open_rw(&outside).set_len(u64::from(round + 1) * 4096).unwrap();
        soon("the size", || fs::metadata(&inside).unwrap().len() == (u64::from(round) + 1) * 4096);
    }
}

fn a_name_known_to_be_missing_appears(place: &Place) {
    for name in ["file", "directory", "link", "moved"] {
        let path = place.path(name);
        fails(fs::symlink_metadata(&path), Errno::NOENT, "before");
        let before = place.stats().requests("LOOKUP");
        fails(fs::symlink_metadata(&path), Errno::NOENT, "again");
        assert_eq!(place.stats().requests("LOOKUP"), before, "it is not kept as missing");
        let outside = backing(place).join(name);
        match name {
            "file" => fs::write(&outside, "x").unwrap(),
            "directory" => fs::create_dir(&outside).unwrap(),
            "link" => symlink("x", &outside).unwrap(),
            _ => fs::rename(backing(place).join("file"), &outside).unwrap(),
        }
        soon(name, || fs::symlink_metadata(&path).is_ok());
    }
}

fn a_listing_that_is_kept_is_read_anew(place: &Place) {
    let outside = backing(place);
    let names = || {
        let entries = fs::read_dir(place.root()).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names.join(" ")
    };
    fs::write(outside.join("a"), "").unwrap();
    soon("a", || names() == "a");
    let listings = || {
        let stats = place.stats();
        stats.requests("READDIR") + stats.requests("READDIRPLUS")
    };
    soon("a listing that is kept", || {
        let before = listings();
        assert_eq!(names(), "a");
        listings() == before
    });
    // Its time alone would not tell.
    let before = fs::metadata(&outside).unwrap().modified().unwrap();
    fs::write(outside.join("b"), "").unwrap();
    let times = fs::FileTimes::new().set_modified(before);
    File::open(&outside).unwrap().set_times(times).unwrap();
    soon("a and b", || names() == "a b");
    fs::rename(outside.join("a"), outside.join("c")).unwrap();
    soon("b and c", || names() == "b c");
    fs::remove_file(outside.join("b")).unwrap();
    soon("c", || names() == "c");
}

/// Where no open drops anything.
fn what_is_written_beside_is_read_where_data_are_kept(place: &Place) {
    let (inside, outside) = known(place, "f", "0000");
    for round in 1..20 {
        let text = format!("{round:04}");
        open_rw(&outside).write_all(text.as_bytes()).unwrap();
        soon(&text, || fs::read_to_string(&inside).unwrap() == text);
    }
}

fn an_open_file_grows(place: &Place) {
    let (inside, outside) = known(place, "f", "start");
    let file = File::open(&inside).unwrap();
    let mut bytes = [0; 64];
    for round in 0..10 {
        let len = 5 + round * 4;
        assert_eq!(file.read_at(&mut bytes, 0).unwrap(), len);
        write!(open_append(&outside), "{round:04}").unwrap();
        soon("what was appended", || file.read_at(&mut bytes, 0).unwrap() == len + 4);
        assert_eq!(file.metadata().unwrap().len(), len as u64 + 4);
        assert_eq!(bytes[len..len + 4], format!("{round:04}").into_bytes()[..]);
    }
}

/// What is done by way of the mount the kernel knows: it asks for nothing again.
fn own_changes_drop_nothing(place: &Place) {
    let path = place.path("f");
    let data = pattern(300_000, 3);
    fs::write(&path, &data).unwrap();
    fs::create_dir(place.path("d")).unwrap();
    assert!(fs::read(&path).unwrap() == data);
    let events = || watch_figure(place, "events");
    let seen = events();
    let file = open_rw(&path);
    let before = place.stats();
    for round in 0..20_u8 {
        file.write_at(&[round; 1000], u64::from(round) * 5000).unwrap();
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        fs::write(place.path("d/new"), [round]).unwrap();
        fs::rename(place.path("d/new"), place.path("d/old")).unwrap();
    }
    // What is reported of this comes before what is reported of that.
    fs::write(backing(place).join("mark"), "").unwrap();
    soon("the event of a mark", || events() > seen);
    thread::sleep(Duration::from_millis(300));
    let mut now = vec![0; data.len()];
    file.read_exact_at(&mut now, 0).unwrap();
    fs::metadata(place.path("d/old")).unwrap();
    let after = place.stats();
    assert_eq!(after.requests("READ"), before.requests("READ"), "data were dropped");
    // Of a mark: created, modified, closed.
    assert!(events() - seen <= 3, "{} events are taken for those of others", events() - seen);
}

/// The kernel does so in the name of the client.
fn what_the_kernel_writes_for_our_clients_is_ours(place: &Place) {
    let mut file = File::create(place.path("f")).unwrap();
    assert_eq!(place.stats().field("filesystem")["handles"]["kernel"], 1);
    for _ in 0..100 {
        file.write_all(b"text").unwrap();
    }
    drop(file);
    fs::write(backing(place).join("mark"), "").unwrap();
    // Created, modified, closed.
    soon("the events of a mark", || watch_figure(place, "events") >= 2);
    thread::sleep(Duration::from_millis(100));
    let events = watch_figure(place, "events");
    assert!(events <= 3, "{events} events are taken for those of others");
}

/// Pages that wait for being written are written, and what others write elsewhere shows.
fn dirty_data_outlive_changes_by_others(place: &Place) {
    let (inside, outside) = (place.path("f"), backing(place).join("f"));
    fs::write(&outside, vec![b'.'; 5 * 4096]).unwrap();
    let file = open_rw(&inside);
    let mut page = [0; 4096];
    for round in 0..20_u8 {
        file.read_exact_at(&mut page, 4 * 4096).unwrap();
        file.write_at(&[round; 4096], 0).unwrap();
        open_rw(&outside).write_all_at(&[!round; 4096], 4 * 4096).unwrap();
        soon("what others wrote", || {
            file.read_exact_at(&mut page, 4 * 4096).unwrap();
            page == [!round; 4096]
        });
        file.read_exact_at(&mut page, 0).unwrap();
        assert!(page == [round; 4096], "what was written here");
        file.write_at(&[round; 100], 2 * 4096 + 50).unwrap();
        fs::set_permissions(&outside, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    }
    // SAFETY: nobody shortens the file while it is mapped.
    let mut mapping = unsafe { memmap2::MmapMut::map_mut(&file) }.unwrap();
    mapping[4096..4101].copy_from_slice(b"store");
    open_rw(&outside).write_all_at(b"other", 3 * 4096).unwrap();
    soon("what others wrote", || mapping[3 * 4096..].starts_with(b"other"));
    assert_eq!(mapping[4096..4101], *b"store");
    drop((mapping, file));
    let all = fs::read(&outside).unwrap();
    assert!(all[..4096] == [19; 4096] && all[4096..].starts_with(b"store"));
    assert!(all[3 * 4096..].starts_with(b"other") && all[4 * 4096..] == [!19; 4096]);
    assert_eq!(all[2 * 4096 + 50..2 * 4096 + 150], [19; 100]);
}

fn size_and_time_of_an_open_file_show_after_its_end(place: &Place) {
    let (inside, outside) = known(place, "f", "short");
    let file = open_rw(&inside);
    for round in 0..5 {
        write!(open_append(&outside), "and longer {round}").unwrap();
    }
    next_tick();
    assert_eq!(file.metadata().unwrap().len(), 5, "the kernel owns it");
    drop(file);
    let size = |path: &Path| fs::metadata(path).unwrap().len();
    soon("the size", || size(&inside) == size(&outside));
    soon("mtime", || mtime(&inside) == mtime(&outside));
    assert_eq!(fs::read_to_string(&inside).unwrap(), fs::read_to_string(&outside).unwrap());
}

/// Of what holds a file so, and lets go, the daemon hears nothing.
fn size_and_time_show_once_a_file_is_held_no_more(place: &Place) {
    let (inside, outside) = known(place, "f", "short");
    let held = rustix::fs::open(&inside, OFlags::PATH, Mode::empty()).unwrap();
    next_tick();
    write!(open_append(&outside), " and longer").unwrap();
    // Longer than the kernel is asked without anybody's looking.
    thread::sleep(Duration::from_secs(2));
    assert_eq!(fs::metadata(&inside).unwrap().len(), 5, "it is held, and the kernel owns it");
    let requests = || {
        let stats = place.stats();
        stats.requests("GETATTR") + stats.requests("STATX")
    };
    let asked = |times: u64| {
        let before = requests();
        assert!((0..times).all(|_| inside.exists()));
        requests() - before
    };
    assert_eq!(asked(5), 5, "attributes are kept");
    thread::sleep(Duration::from_secs(2));
    drop(held);
    soon("the size", || fs::metadata(&inside).unwrap().len() == 16);
    soon("mtime", || mtime(&inside) == mtime(&outside));
    assert_eq!(fs::read_to_string(&inside).unwrap(), "short and longer");
    soon("attributes that are kept", || asked(5) == 0);
}
