//! What is made belongs to whoever made it, and what users may do is what they may do natively.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::Path;
use std::thread;

use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat, open};
use rustix::io::Errno;

use crate::common::{Place, Plan, as_user, cases, fails, mode};

cases!(
    everywhere, Plan::new().options(&["--allow-other"]);
    makers_in_parallel_own_what_they_make,
    a_directory_hands_its_group_down,
    the_umask_is_the_callers,
    a_group_that_is_only_supplementary_may_write,
);

const USERS: [u32; 3] = [2001, 2002, 2003];
const ROUNDS: u32 = 60;

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn owner(path: &Path) -> (u32, u32) {
    let status = fs::symlink_metadata(path).unwrap();
    (status.uid(), status.gid())
}

fn make_one_of_each(root: &Path, tag: &str) {
    File::create_new(root.join(format!("file-{tag}"))).unwrap();
    fs::create_dir(root.join(format!("directory-{tag}"))).unwrap();
    symlink("nowhere", root.join(format!("link-{tag}"))).unwrap();
    let fifo = root.join(format!("fifo-{tag}"));
    mknodat(CWD, &fifo, FileType::Fifo, Mode::from_raw_mode(0o644), 0).unwrap();
    let flags = OFlags::TMPFILE | OFlags::RDWR;
    let nameless = File::from(open(root, flags, Mode::from_raw_mode(0o600)).unwrap());
    let status = nameless.metadata().unwrap();
    assert_eq!(format!("{}", status.uid()), tag.split('-').next().unwrap(), "without a name");
}

fn makers_in_parallel_own_what_they_make(place: &Place) {
    chmod(place.root(), 0o1777);
    thread::scope(|scope| {
        for user in USERS {
            scope.spawn(move || {
                as_user(user, &[], || {
                    for round in 0..ROUNDS {
                        make_one_of_each(place.root(), &format!("{user}-{round}"));
                    }
                });
            });
        }
        scope.spawn(|| {
            for round in 0..ROUNDS {
                make_one_of_each(place.root(), &format!("0-{round}"));
            }
        });
    });
    let mut count = 0;
    for entry in fs::read_dir(place.root()).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        let user: u32 = name.split('-').nth(1).unwrap().parse().unwrap();
        assert_eq!(owner(&path), (user, user), "{name}");
        count += 1;
    }
    assert_eq!(count, (USERS.len() + 1) * ROUNDS as usize * 4);
}

fn a_directory_hands_its_group_down(place: &Place) {
    let shared = place.path("shared");
    fs::create_dir(&shared).unwrap();
    std::os::unix::fs::chown(&shared, None, Some(3000)).unwrap();
    chmod(&shared, 0o2777);
    let make = |name: &str| {
        let mut options = File::options();
        let path = shared.join(name);
        options.write(true).create_new(true).mode(0o2775).open(&path).unwrap();
        fs::create_dir(shared.join(format!("{name}-d"))).unwrap();
    };
    as_user(2001, &[3000], || make("member"));
    as_user(2001, &[], || make("stranger"));
    for name in ["member", "stranger"] {
        assert_eq!(owner(&shared.join(name)), (2001, 3000), "{name}");
        let directory = shared.join(format!("{name}-d"));
        assert_eq!(owner(&directory), (2001, 3000), "directory of a {name}");
        assert_eq!(mode(&directory) & 0o2000, 0o2000, "directories hand it on");
    }
    assert_eq!(mode(&shared.join("member")), 0o2755, "a member keeps the bit");
    assert_eq!(mode(&shared.join("stranger")), 0o755, "a stranger does not get it");
}

fn the_umask_is_the_callers(place: &Place) {
    for (mask, file, directory) in [(0o077, 0o600, 0o700), (0, 0o666, 0o777), (0o026, 0o640, 0o751)]
    {
        rustix::process::umask(Mode::from_raw_mode(mask));
        let name = |kind: &str| place.path(&format!("{kind}-{mask:o}"));
        File::create_new(name("f")).unwrap();
        fs::create_dir(name("d")).unwrap();
        assert_eq!(mode(&name("f")), file, "file under {mask:o}");
        assert_eq!(mode(&name("d")), directory, "directory under {mask:o}");
    }
}

fn a_group_that_is_only_supplementary_may_write(place: &Place) {
    let directory = place.path("d");
    fs::create_dir(&directory).unwrap();
    std::os::unix::fs::chown(&directory, None, Some(3000)).unwrap();
    chmod(&directory, 0o770);
    as_user(2001, &[3000], || File::create_new(directory.join("f")).unwrap());
    assert_eq!(owner(&directory.join("f")), (2001, 2001));
    as_user(2002, &[], || {
        fails(File::create_new(directory.join("g")), Errno::ACCESS, "not of the group");
    });
}
