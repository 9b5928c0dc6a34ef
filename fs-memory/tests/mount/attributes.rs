//! What an inode carries: times, modes, owners, extended attributes, access control lists.
//!
//! Neighbour: `filesystem` has names.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, chown, symlink};
use std::path::Path;

use rustix::fs::{
    AtFlags, CWD, StatxFlags, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT, XattrFlags, getxattr,
    getxattr_query, lgetxattr, listxattr, lsetxattr, removexattr, setxattr, statx, utimensat,
};
use rustix::io::Errno;

use crate::common::{
    Place, Plan, as_nobody, as_user, cases, coarse_now, ctime, fails, forget_inodes, mode, mtime,
    next_tick, open_rw,
};

cases!(
    everywhere;
    times_to_the_nanosecond,
    times_of_now_and_never,
    birth_time_never_moves,
    directories_change_with_their_names,
    attributes_change_ctime_only,
    xattrs_of_a_file,
    refusals_of_xattrs,
    xattrs_survive_renames_and_die_with_the_file,
    groups_come_from_setgid_directories,
);
cases!(
    everywhere, Plan::new().options(&["--allow-other"]);
    modes_are_enforced,
    owners_change_as_allowed,
    default_acls_are_inherited,
    acls_are_enforced,
    trusted_attributes_are_for_the_privileged,
);
cases!(
    mounts, Plan::new().options(&["--options", "noatime"]);
    noatime_leaves_access_times,
);

pub(crate) const NONE: XattrFlags = XattrFlags::empty();

pub(crate) fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn set_times(path: &Path, atime: (i64, i64), mtime: (i64, i64)) -> Result<(), Errno> {
    let time = |(tv_sec, tv_nsec)| Timespec { tv_sec, tv_nsec };
    let times = Timestamps { last_access: time(atime), last_modification: time(mtime) };
    utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW)
}

/// Times of access and change as seconds and nanoseconds.
fn times(path: &Path) -> ((i64, i64), (i64, i64)) {
    let status = fs::symlink_metadata(path).unwrap();
    ((status.atime(), status.atime_nsec()), (status.mtime(), status.mtime_nsec()))
}

fn times_to_the_nanosecond(place: &Place) {
    drop(open_rw(&place.path("f")));
    fs::create_dir(place.path("d")).unwrap();
    symlink("nowhere", place.path("s")).unwrap();
    let moments = [
        ((0, 0), (0, 1)),
        ((1, 999_999_999), (2, 1)),
        ((-1, 5), (-1_000_000_000, 999_999_999)),
        (((1 << 31) - 1, 1), (1 << 31, 2)),
        ((1 << 33, 123_456_789), (1 << 34, 987_654_321)),
    ];
    for name in ["f", "d", "s"] {
        let path = place.path(name);
        for (atime, mtime) in moments {
            set_times(&path, atime, mtime).unwrap();
            assert_eq!(times(&path), (atime, mtime), "{name}, at once");
            forget_inodes();
            assert_eq!(times(&path), (atime, mtime), "{name}, after eviction");
        }
    }
}

fn times_of_now_and_never(place: &Place) {
    const TICK: i128 = 20_000_000;
    let path = place.path("f");
    drop(open_rw(&path));
    let (now, omit) = (UTIME_NOW, UTIME_OMIT);
    set_times(&path, (7, 8), (9, 10)).unwrap();
    set_times(&path, (11, 12), (0, omit)).unwrap();
    assert_eq!(times(&path), ((11, 12), (9, 10)), "mtime left alone");
    set_times(&path, (0, omit), (13, 14)).unwrap();
    assert_eq!(times(&path), ((11, 12), (13, 14)), "atime left alone");
    let early = coarse_now() - TICK;
    set_times(&path, (0, omit), (0, now)).unwrap();
    let late = coarse_now() + TICK;
    assert!((early..=late).contains(&mtime(&path)), "mtime is now");
    assert_eq!(times(&path).0, (11, 12), "atime left alone beside now");
    set_times(&path, (0, now), (13, 14)).unwrap();
    assert!(times(&path).0.0 > 1_600_000_000, "atime is now");
    assert_eq!(times(&path).1, (13, 14), "mtime");
    fails(set_times(&path, (0, 1_000_000_000), (0, 0)), Errno::INVAL, "too many nanoseconds");
}

fn birth(path: &Path) -> i128 {
    let status = statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::BTIME).unwrap();
    assert!(status.stx_mask & StatxFlags::BTIME.bits() != 0, "no birth time");
    i128::from(status.stx_btime.tv_sec) * 1_000_000_000 + i128::from(status.stx_btime.tv_nsec)
}

fn birth_time_never_moves(place: &Place) {
    const TICK: i128 = 20_000_000;
    for name in ["f", "d", "s"] {
        let (path, moved) = (place.path(name), place.path(&format!("moved-{name}")));
        let early = coarse_now() - TICK;
        match name {
            "f" => fs::write(&path, b"x").unwrap(),
            "d" => fs::create_dir(&path).unwrap(),
            _ => symlink("x", &path).unwrap(),
        }
        let late = coarse_now() + TICK;
        let born = birth(&path);
        assert!((early..=late).contains(&born), "{name} was born outside of its making");
        next_tick();
        set_times(&path, (5, 6), (7, 8)).unwrap();
        if name == "f" {
            fs::write(&path, b"more").unwrap();
        }
        fs::rename(&path, &moved).unwrap();
        forget_inodes();
        assert_eq!(birth(&moved), born, "{name} was born again");
    }
}

/// Each action must move both times of the directory.
fn directories_change_with_their_names(place: &Place) {
    let (directory, other) = (place.path("d"), place.path("e"));
    fs::create_dir(&directory).unwrap();
    fs::create_dir(&other).unwrap();
    fs::write(place.path("outside"), b"x").unwrap();
    let path = |name: &str| directory.join(name);
    let actions: [(&str, &dyn Fn()); 9] = [
        ("create", &|| fs::write(path("f"), b"").unwrap()),
        ("mkdir", &|| fs::create_dir(path("sub")).unwrap()),
        ("symlink", &|| symlink("x", path("s")).unwrap()),
        ("link", &|| fs::hard_link(place.path("outside"), path("l")).unwrap()),
        ("rename inside", &|| fs::rename(path("f"), path("g")).unwrap()),
        ("rename out", &|| fs::rename(path("g"), other.join("g")).unwrap()),
        ("rename in", &|| fs::rename(other.join("g"), path("h")).unwrap()),
        ("unlink", &|| fs::remove_file(path("h")).unwrap()),
        ("rmdir", &|| fs::remove_dir(path("sub")).unwrap()),
    ];
    for (what, action) in actions {
        let before = (mtime(&directory), ctime(&directory));
        next_tick();
        action();
        assert!(mtime(&directory) > before.0, "mtime after {what}");
        assert!(ctime(&directory) > before.1, "ctime after {what}");
    }
    let before = (mtime(&directory), ctime(&directory));
    next_tick();
    fs::write(path("s2"), b"").unwrap_or_default();
    let made = (mtime(&directory), ctime(&directory));
    assert!(made > before, "create");
    next_tick();
    fs::write(path("s2"), b"content").unwrap();
    chmod(&path("s2"), 0o600);
    assert_eq!((mtime(&directory), ctime(&directory)), made, "a file's own change");
}

fn attributes_change_ctime_only(place: &Place) {
    let path = place.path("f");
    fs::write(&path, b"x").unwrap();
    let actions: [(&str, &dyn Fn()); 7] = [
        ("chmod", &|| chmod(&path, 0o600)),
        ("chown", &|| chown(&path, Some(5), Some(6)).unwrap()),
        ("setxattr", &|| setxattr(&path, "user.x", b"1", NONE).unwrap()),
        ("removexattr", &|| removexattr(&path, "user.x").unwrap()),
        ("link", &|| fs::hard_link(&path, place.path("l")).unwrap()),
        ("unlink", &|| fs::remove_file(place.path("l")).unwrap()),
        ("utimens", &|| set_times(&path, (1, 1), (0, UTIME_OMIT)).unwrap()),
    ];
    let written = mtime(&path);
    for (what, action) in actions {
        let before = ctime(&path);
        next_tick();
        action();
        assert!(ctime(&path) > before, "ctime after {what}");
        assert_eq!(mtime(&path), written, "mtime after {what}");
    }
}

pub(crate) fn xattr(path: &Path, name: &str) -> Result<Vec<u8>, Errno> {
    let mut value = vec![0; 70_000];
    let len = lgetxattr(path, name, &mut value)?;
    value.truncate(len);
    Ok(value)
}

fn xattr_names(path: &Path) -> Vec<String> {
    let mut list = vec![0; 70_000];
    let len = listxattr(path, &mut list).unwrap();
    let names = list[..len].split(|byte| *byte == 0).filter(|name| !name.is_empty());
    let mut names: Vec<_> = names.map(|name| String::from_utf8(name.to_vec()).unwrap()).collect();
    names.sort();
    names
}

fn xattrs_of_a_file(place: &Place) {
    let path = place.path("f");
    drop(open_rw(&path));
    let values = [&b""[..], b"small", &[7; 4000], b"with\0zeros\0inside"];
    for (number, value) in values.into_iter().enumerate() {
        let name = format!("user.name{number}");
        setxattr(&path, &name, value, XattrFlags::CREATE).unwrap();
        assert_eq!(xattr(&path, &name).unwrap(), value, "{name}");
        let len = getxattr_query(&path, &name).unwrap();
        assert_eq!(len, value.len(), "{name}: length");
    }
    setxattr(&path, "trusted.t", b"t", NONE).unwrap();
    let wanted = ["trusted.t", "user.name0", "user.name1", "user.name2", "user.name3"];
    assert_eq!(xattr_names(&path), wanted);
    setxattr(&path, "user.name1", b"replaced, and longer", XattrFlags::REPLACE).unwrap();
    setxattr(&path, "user.name2", b"shorter", NONE).unwrap();
    removexattr(&path, "user.name0").unwrap();
    forget_inodes();
    assert_eq!(xattr(&path, "user.name1").unwrap(), b"replaced, and longer");
    assert_eq!(xattr(&path, "user.name2").unwrap(), b"shorter");
    assert_eq!(xattr_names(&path), ["trusted.t", "user.name1", "user.name2", "user.name3"]);
    fs::create_dir(place.path("d")).unwrap();
    setxattr(place.path("d"), "user.of-a-directory", b"d", NONE).unwrap();
    assert_eq!(xattr(&place.path("d"), "user.of-a-directory").unwrap(), b"d");
    symlink("f", place.path("s")).unwrap();
    lsetxattr(place.path("s"), "trusted.of-a-link", b"s", NONE).unwrap();
    assert_eq!(xattr(&place.path("s"), "trusted.of-a-link").unwrap(), b"s");
}

fn refusals_of_xattrs(place: &Place) {
    let path = place.path("f");
    drop(open_rw(&path));
    setxattr(&path, "user.x", b"four", NONE).unwrap();
    let set = |name: &str, value: &[u8], flags| setxattr(&path, name, value, flags);
    fails(set("user.x", b"1", XattrFlags::CREATE), Errno::EXIST, "create what is there");
    fails(set("user.y", b"1", XattrFlags::REPLACE), Errno::NODATA, "replace what is not");
    fails(xattr(&path, "user.y"), Errno::NODATA, "get");
    fails(removexattr(&path, "user.y"), Errno::NODATA, "remove");
    fails(getxattr(&path, "user.x", &mut [0_u8; 3]), Errno::RANGE, "a buffer too small");
    fails(listxattr(&path, &mut [0_u8; 3]), Errno::RANGE, "a list too small");
    fails(set("user.x", &[0; 65_537], NONE), Errno::TOOBIG, "64 KiB and one");
    fails(set("unknown.x", b"1", NONE), Errno::OPNOTSUPP, "an unknown namespace");
    fails(set("user.", b"1", NONE), Errno::INVAL, "no name");
    let long = format!("user.{}", "n".repeat(251));
    fails(set(&long, b"1", NONE), Errno::RANGE, "a name too long");
    set(&long[..255], b"1", NONE).unwrap();
    assert_eq!(xattr(&path, "user.x").unwrap(), b"four", "after all that");
}

/// The names may show (a FUSE request need not say who asks), the values may not.
fn trusted_attributes_are_for_the_privileged(place: &Place) {
    let path = place.path("f");
    fs::write(&path, b"x").unwrap();
    setxattr(&path, "user.u", b"u", NONE).unwrap();
    setxattr(&path, "trusted.t", b"t", NONE).unwrap();
    as_nobody(|| {
        assert_eq!(xattr(&path, "user.u").unwrap(), b"u", "nobody reads what is for all");
        fails(xattr(&path, "trusted.t"), Errno::NODATA, "nobody gets the value");
        fails(setxattr(&path, "user.u", b"v", NONE), Errno::ACCESS, "nobody sets");
        fails(setxattr(&path, "trusted.t", b"v", NONE), Errno::PERM, "nobody sets a trusted one");
        fails(removexattr(&path, "trusted.t"), Errno::PERM, "nobody removes a trusted one");
    });
    assert_eq!(xattr(&path, "trusted.t").unwrap(), b"t", "root gets the value");
}

fn xattrs_survive_renames_and_die_with_the_file(place: &Place) {
    let path = place.path("f");
    drop(open_rw(&path));
    setxattr(&path, "user.x", b"1", NONE).unwrap();
    fs::hard_link(&path, place.path("l")).unwrap();
    fs::rename(&path, place.path("g")).unwrap();
    assert_eq!(xattr(&place.path("g"), "user.x").unwrap(), b"1");
    setxattr(place.path("l"), "user.x", b"2", NONE).unwrap();
    assert_eq!(xattr(&place.path("g"), "user.x").unwrap(), b"2", "through the other name");
    fs::remove_file(place.path("g")).unwrap();
    fs::remove_file(place.path("l")).unwrap();
    drop(open_rw(&path));
    fails(xattr(&path, "user.x"), Errno::NODATA, "of a new file with the old name");
}

fn groups_come_from_setgid_directories(place: &Place) {
    let directory = place.path("d");
    fs::create_dir(&directory).unwrap();
    chown(&directory, None, Some(1234)).unwrap();
    chmod(&directory, 0o2775);
    fs::write(directory.join("f"), b"").unwrap();
    fs::create_dir(directory.join("sub")).unwrap();
    symlink("x", directory.join("s")).unwrap();
    fs::create_dir(directory.join("sub/sub")).unwrap();
    for (name, bits) in [("f", 0), ("sub", 0o2000), ("s", 0), ("sub/sub", 0o2000)] {
        let status = fs::symlink_metadata(directory.join(name)).unwrap();
        assert_eq!((status.gid(), status.mode() & 0o2000), (1234, bits), "{name}");
    }
    fs::create_dir(place.path("plain")).unwrap();
    chown(place.path("plain"), None, Some(1234)).unwrap();
    fs::write(place.path("plain/f"), b"").unwrap();
    assert_eq!(fs::metadata(place.path("plain/f")).unwrap().gid(), 0, "without the bit");
}

fn modes_are_enforced(place: &Place) {
    chmod(place.root(), 0o755);
    for (mode, reads, writes) in [(0o644, true, false), (0o602, false, true), (0o660, false, false)]
    {
        let path = place.path(&format!("f{mode:o}"));
        fs::write(&path, b"x").unwrap();
        chmod(&path, mode);
        as_nobody(|| {
            assert_eq!(File::open(&path).is_ok(), reads, "{mode:o}: read");
            let writable = File::options().write(true).open(&path);
            assert_eq!(writable.is_ok(), writes, "{mode:o}: write");
        });
    }
    let path = place.path("group");
    fs::write(&path, b"x").unwrap();
    chown(&path, None, Some(4321)).unwrap();
    chmod(&path, 0o640);
    as_user(1000, &[4321], || assert_eq!(fs::read(&path).unwrap(), b"x", "by a further group"));
    as_user(1000, &[4322], || fails(fs::read(&path), Errno::ACCESS, "without the group"));
    as_nobody(|| {
        fails(fs::write(place.path("new"), b""), Errno::ACCESS, "create");
        fails(fs::remove_file(&path), Errno::ACCESS, "unlink");
    });
    fs::create_dir(place.path("closed")).unwrap();
    fs::write(place.path("closed/f"), b"x").unwrap();
    chmod(&place.path("closed"), 0o700);
    as_nobody(|| fails(fs::metadata(place.path("closed/f")), Errno::ACCESS, "stat below"));
}

fn owners_change_as_allowed(place: &Place) {
    let path = place.path("f");
    fs::write(&path, b"x").unwrap();
    chown(&path, Some(1000), Some(1000)).unwrap();
    as_user(1000, &[2000], || {
        fails(chown(&path, Some(0), None), Errno::PERM, "give it away");
        fails(chown(&path, None, Some(3000)), Errno::PERM, "a group of others");
        chown(&path, None, Some(2000)).unwrap();
        chmod(&path, 0o600);
    });
    as_nobody(|| {
        let open = fs::set_permissions(&path, fs::Permissions::from_mode(0o777));
        fails(open, Errno::PERM, "chmod of another's");
        fails(set_times(&path, (1, 1), (1, 1)), Errno::PERM, "utimens of another's");
    });
    let status = fs::metadata(&path).unwrap();
    assert_eq!((status.uid(), status.gid(), status.mode() & 0o7777), (1000, 2000, 0o600));
}

/// An access control list as the xattr has it: tag, permissions, id.
pub(crate) fn acl(entries: &[(u16, u16, u32)]) -> Vec<u8> {
    let mut bytes = 2_u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in entries {
        bytes.extend(tag.to_le_bytes());
        bytes.extend(permissions.to_le_bytes());
        bytes.extend(id.to_le_bytes());
    }
    bytes
}

pub(crate) const OWNER: u16 = 0x01;
pub(crate) const USER: u16 = 0x02;
pub(crate) const GROUP: u16 = 0x04;
pub(crate) const MASK: u16 = 0x10;
pub(crate) const OTHER: u16 = 0x20;
pub(crate) const ANY: u32 = u32::MAX;
const DEFAULT_ACL: &str = "system.posix_acl_default";
pub(crate) const ACCESS_ACL: &str = "system.posix_acl_access";

fn default_acls_are_inherited(place: &Place) {
    let directory = place.path("d");
    fs::create_dir(&directory).unwrap();
    let entries =
        [(OWNER, 7, ANY), (USER, 7, 1000), (GROUP, 5, ANY), (MASK, 7, ANY), (OTHER, 0, ANY)];
    setxattr(&directory, DEFAULT_ACL, &acl(&entries), NONE).unwrap();
    let file = directory.join("f");
    File::options().write(true).create_new(true).mode(0o666).open(&file).unwrap();
    // The umask does not count; the mode asked for limits the owner, the mask and the others.
    assert_eq!(mode(&file), 0o660, "mode of a file");
    let wanted =
        [(OWNER, 6, ANY), (USER, 7, 1000), (GROUP, 5, ANY), (MASK, 6, ANY), (OTHER, 0, ANY)];
    assert_eq!(xattr(&file, ACCESS_ACL).unwrap(), acl(&wanted), "of a file");
    fails(xattr(&file, DEFAULT_ACL), Errno::NODATA, "a file has no default");
    let sub = directory.join("sub");
    fs::create_dir(&sub).unwrap();
    assert_eq!(mode(&sub), 0o770, "mode of a directory");
    assert_eq!(xattr(&sub, DEFAULT_ACL).unwrap(), acl(&entries), "default of a directory");
    assert_eq!(xattr(&sub, ACCESS_ACL).unwrap(), acl(&entries), "of a directory");
    removexattr(&directory, DEFAULT_ACL).unwrap();
    fs::write(directory.join("plain"), b"").unwrap();
    fails(xattr(&directory.join("plain"), ACCESS_ACL), Errno::NODATA, "once it is removed");
}

fn acls_are_enforced(place: &Place) {
    let path = place.path("f");
    fs::write(&path, b"secret").unwrap();
    chmod(&path, 0o600);
    let entries =
        [(OWNER, 6, ANY), (USER, 4, 1000), (GROUP, 0, ANY), (MASK, 4, ANY), (OTHER, 0, ANY)];
    setxattr(&path, ACCESS_ACL, &acl(&entries), NONE).unwrap();
    assert_eq!(mode(&path), 0o640, "the group's bits show the mask");
    as_user(1000, &[], || {
        assert_eq!(fs::read(&path).unwrap(), b"secret");
        let writable = File::options().write(true).open(&path);
        fails(writable, Errno::ACCESS, "writing, which the list does not grant");
    });
    as_nobody(|| fails(fs::read(&path), Errno::ACCESS, "someone who is not in the list"));
    chmod(&path, 0o600);
    as_user(1000, &[], || fails(fs::read(&path), Errno::ACCESS, "once chmod emptied the mask"));
    let equivalent = acl(&[(OWNER, 6, ANY), (GROUP, 4, ANY), (OTHER, 4, ANY)]);
    setxattr(&path, ACCESS_ACL, &equivalent, NONE).unwrap();
    assert_eq!(mode(&path), 0o644, "a list that is only a mode");
    fails(xattr(&path, ACCESS_ACL), Errno::NODATA, "it is kept as the mode");
}

fn noatime_leaves_access_times(place: &Place) {
    let path = place.path("f");
    fs::write(&path, b"content").unwrap();
    set_times(&path, (1, 0), (2, 0)).unwrap();
    for _ in 0..2 {
        assert_eq!(fs::read(&path).unwrap(), b"content");
        forget_inodes();
        assert_eq!(times(&path).0, (1, 0), "the access time of what was read");
    }
}
