//! Replies and notifications show in one line.

use std::time::Duration;

use fusewire_proto::abi::InitOut;
use fusewire_proto::flags::{FOpenFlags, InvalEntryFlags, IoctlFlags, PollEvents};
use fusewire_proto::{
    Attributes, Entry, Fh, FileType, Mode, Name, NodeId, Notification, Opened, PollHandle, Reply,
    StatxAttributes, Unique,
};

use crate::replies::{entry, opened};

fn line(reply: Reply<'_>) -> String {
    let line = reply.to_string();
    assert!(line.is_ascii() && !line.contains('\n'), "{line}");
    line
}

#[test]
fn replies() {
    assert_eq!(line(Reply::Empty), "empty");
    assert_eq!(line(Reply::Written(4096)), "written size=4096");
    assert_eq!(line(Reply::Bytes(b"\xff\n")), "bytes size=2");
    assert_eq!(line(Reply::XattrSize(5)), "xattr size=5");
    assert_eq!(line(Reply::Offset(7)), "offset offset=7");
    assert_eq!(line(Reply::Copied(8)), "copied size=8");
    assert_eq!(
        line(Reply::Poll(PollEvents::from(0x40_0041))),
        "poll revents=IN | RDNORM | 0x400000"
    );
    let flags = IoctlFlags::empty();
    assert_eq!(line(Reply::Ioctl { result: -5, flags, data: b"abc" }), "ioctl result=-5 size=3");
    let retry = Reply::IoctlRetry { flags: IoctlFlags::RETRY, input: &[], output: &[] };
    assert_eq!(line(retry), "ioctl_retry input=0 output=0");
    let plain = Opened { fh: Fh(3), flags: FOpenFlags::KEEP_CACHE, backing_id: 0 };
    assert_eq!(line(Reply::Opened(plain)), "opened fh=3 open_flags=KEEP_CACHE");
    let mut entry = entry();
    entry.attr_valid = Duration::from_millis(1500);
    let expected = "created nodeid=42 generation=7 entry_valid=5.25s attr_valid=1.5s \
        ino=1234605616436508552 mode=0o100644 nlink=2 uid=1000 gid=100 size=81985529216486895 \
        blocks=4294967298 blksize=4096 atime=1700000000.000000001 mtime=-2.999999999 \
        ctime=4294967296.000000003 rdev=0x100203 flags=DAX fh=72623859790382856 \
        open_flags=NOFLUSH | PASSTHROUGH backing_id=-1";
    assert_eq!(line(Reply::Created(entry, opened())), expected);
    assert!(line(Reply::Entry(Entry::default())).starts_with("entry nodeid=0 generation=0 "));
    let attributes = Attributes { valid: Duration::from_secs(1), attr: entry.attr };
    assert!(line(Reply::Attributes(attributes)).starts_with("attributes valid=1s ino="));
    let mut statx = StatxAttributes::default();
    statx.statx.mode = Mode::new(FileType::DIRECTORY, 0o755);
    let statx = line(Reply::Statx(statx));
    assert!(statx.starts_with("statx valid=0ns ino=0 mode=0o40755 "), "{statx}");
    let init = line(Reply::Init(InitOut { major: 7, minor: 45, flags: 1, ..InitOut::default() }));
    assert!(init.starts_with("init version=7.45 max_write=0 "), "{init}");
    assert!(init.ends_with(" flags=ASYNC_READ"), "{init}");
}

#[test]
fn notifications() {
    let (node, name) = (NodeId(9), Name::new(b"a\tb").unwrap());
    let flags = InvalEntryFlags::EXPIRE_ONLY;
    let notify_unique = Unique(1 << 62);
    for (notification, line) in [
        (Notification::Poll { kh: PollHandle(1) }, "POLL kh=1"),
        (
            Notification::InvalInode { node, offset: -1, len: 0 },
            "INVAL_INODE node=9 offset=-1 len=0",
        ),
        (
            Notification::InvalEntry { parent: node, name, flags },
            r#"INVAL_ENTRY parent=9 "a\tb" flags=EXPIRE_ONLY"#,
        ),
        (Notification::Store { node, offset: 1, data: b"abc" }, "STORE node=9 offset=1 size=3"),
        (
            Notification::Retrieve { notify_unique, node, offset: 0, size: 5 },
            "RETRIEVE notify_unique=4611686018427387904 node=9 offset=0 size=5",
        ),
        (
            Notification::Delete { parent: node, child: NodeId(2), name },
            r#"DELETE parent=9 child=2 "a\tb""#,
        ),
        (Notification::Resend, "RESEND"),
        (Notification::IncEpoch, "INC_EPOCH"),
        (Notification::Prune { nodes: &[node, node] }, "PRUNE count=2"),
    ] {
        assert_eq!(notification.to_string(), line);
    }
}
