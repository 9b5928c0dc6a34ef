//! Promise 1: write-back is on or off as the option says, and what was agreed is printed.

use std::io::Write;

use crate::common::{Daemon, Kind, Place, Ready, cases, open_append, open_rw, system, why_not};

cases!(mounts; small_writes_are_gathered_only_with_write_back);

/// 200 writes of 10 bytes are one WRITE where the cache gathers them, else 200.
fn small_writes_are_gathered_only_with_write_back(place: &Place) {
    let path = place.path("f");
    drop(open_rw(&path));
    let before = place.stats().requests("WRITE");
    let mut file = open_append(&path);
    for _ in 0..200 {
        file.write_all(b"ten bytes.").unwrap();
    }
    let while_open = place.stats().requests("WRITE") - before;
    drop(file);
    let at_the_end = place.stats().requests("WRITE") - before;
    if place.keeps_dirty_pages() {
        // The kernel may start on its own, but not with each write.
        assert!(while_open <= 2, "{while_open} WRITEs before close");
        assert!((1..=4).contains(&at_the_end), "{at_the_end} WRITEs after close");
    } else {
        assert_eq!((while_open, at_the_end), (200, 200), "WRITEs before and after close");
    }
}

/// The first line of the daemon and its stats agree with each other and with the option.
#[test]
fn the_agreement_is_printed() {
    for kind in [Kind::Uring, Kind::Device, Kind::UringThrough, Kind::DeviceThrough] {
        let setup = kind.setup().expect("a mount");
        if let Some(why) = why_not(setup.transport) {
            system::skipped("the_agreement_is_printed", &why);
            continue;
        }
        let mut daemon = Daemon::start(&setup.clone().with(&["--shards", "2"]));
        let stats = daemon.stats();
        let ready = daemon.ready();
        let wanted = Ready {
            mountpoint: daemon.mountpoint().display().to_string(),
            transport: setup.transport.name().to_owned(),
            minor: ready.minor,
            max_write: ready.max_write,
            writeback: setup.writeback,
            shards: 2,
        };
        assert_eq!(*ready, wanted);
        assert!(ready.minor >= 31, "protocol 7.{}", ready.minor);
        assert!(ready.max_write >= 128 * 1024, "max_write {}", ready.max_write);
        assert_eq!(stats.field("transport"), setup.transport.name());
        assert_eq!(*stats.field("writeback"), setup.writeback);
        assert_eq!(stats.number("max_write"), ready.max_write);
        assert_eq!(stats.number("shards"), 2);
        assert_eq!(*stats.field("protocol"), format!("7.{}", ready.minor));
        daemon.umount();
    }
}
