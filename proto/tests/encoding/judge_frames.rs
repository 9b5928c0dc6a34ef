//! What the kernel does about a reply before it looks at values: header, length, who waits, and the
//! handshakes.

use fusewire_proto::abi::{CuseInitOut, InitOut, OutHeader};
use fusewire_proto::flags::*;
use fusewire_proto::reply::{Aftermath, Known, Lane};
use fusewire_proto::{Asked, Errno, Operation, Reply, Unique, op};

use crate::asked::{self, lookup, mkdir, mknod, read, readdir};
use crate::judge::{EINVAL, EIO, FINE, body, check, judged, on_ring, raw, with};

const REFUSED: Option<Errno> = Some(Errno::ECONNREFUSED);

#[test]
fn headers_and_lengths() {
    let device = Known::default();
    let header = |len, error| OutHeader { len, error, unique: Unique(2) };
    let (none, op) = (Aftermath::None, read(4));
    // The request stays open: answer again.
    assert_eq!(raw(&op, &device, &header(15, 0), b""), Err((EINVAL, None, none, "message")));
    for error in [1, -512, i32::MIN] {
        let outcome = raw(&op, &device, &header(16, error), b"");
        assert_eq!(outcome, Err((EINVAL, None, none, "error")));
        let outcome = on_ring(&op, &header(0, error), b"");
        assert_eq!(outcome, Err((None, EINVAL, none, "error")));
    }
    // The request has ended.
    let ended = Err((EINVAL, EIO, none, "body"));
    assert_eq!(raw(&op, &device, &header(18, -5), b"xy"), ended);
    assert_eq!(raw(&op, &device, &header(21, 0), b"12345"), ended);
    assert_eq!(body(&asked::getattr(), &device, &[0; 103]), ended);
    // On the ring the caller gets EINVAL, the header's length and an error's body do not count.
    assert_eq!(on_ring(&op, &header(99, 0), b"12345"), Err((None, EINVAL, none, "body")));
    assert_eq!(on_ring(&op, &header(99, 0), b"1234"), FINE);
    assert_eq!(on_ring(&op, &header(0, -5), b"12345"), FINE);
    assert_eq!(raw(&op, &device, &header(16, -511), b""), FINE);
    assert_eq!(raw(&op, &device, &header(20, 0), b"1234"), FINE);

    let forget = Operation::Forget(op::Forget { lookups: 1.into() });
    let unknown = Err((Some(Errno::ENOENT), None, none, "message"));
    assert_eq!(raw(&forget, &device, &header(16, 0), b""), unknown);
    // A target goes on whatever is said of its INTERRUPT.
    let interrupt = Operation::Interrupt(op::Interrupt { unique: Unique(4) });
    let outcome = raw(&interrupt, &device, &header(17, 0), b"x");
    assert_eq!(outcome, Err((EINVAL, None, none, "body")));
    // On the ring it gives the entry back; nobody waits, whatever it says.
    let (offset, data) = (0, &b"abc"[..]);
    let notify_reply = Operation::NotifyReply(op::NotifyReply { offset, data });
    for op in [forget, notify_reply] {
        assert_eq!(on_ring(&op, &header(16, 0), b""), FINE);
        assert_eq!(on_ring(&op, &header(16, -5), b""), FINE);
        assert_eq!(on_ring(&op, &header(16, 1), b""), Err((None, None, none, "error")));
        assert_eq!(on_ring(&op, &header(17, 0), b"x"), Err((None, None, none, "body")));
    }
}

#[test]
fn on_the_ring_the_unique_counts() {
    let header = |unique, error| OutHeader { len: 16, error, unique: Unique(unique) };
    let judged = |known: &Known, header| {
        let asked = Asked::new(&asked::open()).with_lane(Lane::Ring);
        judged(&asked, known, &header, &[0; 16])
    };
    let refused = |caller| Err((None, Some(caller), Aftermath::None, "unique"));
    let known = Known { unique: Some(Unique(6)), ..Known::default() };
    for known in [known, Known::default()] {
        assert_eq!(judged(&known, header(6, 0)), FINE);
        assert_eq!(judged(&known, header(0, 0)), refused(Errno::EINVAL));
        assert_eq!(judged(&known, header(0, -5)), refused(Errno::EINVAL));
        assert_eq!(judged(&known, header(8, -5)), FINE);
    }
    assert_eq!(judged(&known, header(7, 0)), FINE);
    assert_eq!(judged(&known, header(8, 0)), refused(Errno::ENOENT));
}

#[test]
fn what_nobody_has_looked_at_does_not_count() {
    let device = Known::default();
    let aftermath = |op: &Operation<'_>| {
        let outcomes = [
            body(op, &device, &[0; 5]),
            on_ring(op, &OutHeader::new(Unique(2), Ok(()), 5), &[0; 5]),
        ];
        let [Err(one), Err(other)] = outcomes else { panic!("5 bytes were taken: {op:?}") };
        assert_eq!((one.0, one.1, other.0, other.1), (EINVAL, EIO, None, EINVAL), "{op:?}");
        assert_eq!(one.2, other.2);
        one.2
    };
    for op in [
        lookup(b"x"),
        mkdir(),
        mknod(0o010_644),
        asked::symlink(),
        asked::link(),
        asked::create(),
        asked::tmpfile(),
        asked::readdirplus(4),
    ] {
        assert_eq!(aftermath(&op), Aftermath::NotCounted, "{op:?}");
    }
    for op in [asked::getattr(), asked::open(), readdir(4), asked::statx()] {
        assert_eq!(aftermath(&op), Aftermath::None, "{op:?}");
    }
}

#[test]
fn handshakes() {
    let no_connection = |field| Err((None, REFUSED, Aftermath::NoConnection, field));
    let init = |flags: InitFlags, known: &Known| {
        let (flags, flags2) = (flags.low(), flags.high());
        let init = InitOut { major: 7, minor: 45, flags, flags2, ..InitOut::default() };
        with(&asked::init(), known, &Reply::Init(init))
    };
    let bare = Known { default_permissions: false, ..Known::default() };
    let idmap = InitFlags::INIT_EXT | InitFlags::ALLOW_IDMAP;
    assert_eq!(init(idmap, &Known::default()), FINE);
    assert_eq!(init(idmap, &bare), no_connection("flags"));
    assert_eq!(init(idmap | InitFlags::POSIX_ACL, &bare), FINE);
    // Without INIT_EXT the high word says nothing.
    assert_eq!(init(InitFlags::ALLOW_IDMAP, &bare), FINE);
    assert_eq!(body(&asked::init(), &bare, b""), no_connection("version"));
    let failed = OutHeader::new(Unique(2), Err(Errno::EPERM), 0);
    assert_eq!(raw(&asked::init(), &bare, &failed, b""), no_connection("error"));
    // Too long, or an error with a body: the connection has ended as well.
    let ended = |caller, field| Err((EINVAL, caller, Aftermath::NoConnection, field));
    assert_eq!(body(&asked::init(), &bare, &[0; 65]), ended(REFUSED, "body"));
    let with_body = OutHeader { len: 17, ..failed };
    assert_eq!(raw(&asked::init(), &bare, &with_body, b"x"), ended(REFUSED, "body"));
    assert_eq!(body(&asked::cuse_init(), &bare, &[0; 71]), ended(None, "body"));
    // Nobody waits for CUSE_INIT: there is no device yet.
    let no_connection = |field| Err((None, None, Aftermath::NoConnection, field));
    assert_eq!(raw(&asked::cuse_init(), &bare, &failed, b""), no_connection("error"));

    let cuse = |info: &[u8]| {
        let init = CuseInitOut { major: 7, minor: 45, ..CuseInitOut::default() };
        check(&asked::cuse_init(), &Reply::CuseInit(init, info))
    };
    for right in [
        &b"X=1\0DEVNAME=null2\0"[..],
        b"\0\0DEVNAME=x\0\0",
        b"DEVNAME=\0DEVNAME=x\0Y\0",
        b" DEVNAME\t=\xa0x=y \0",
    ] {
        assert_eq!(cuse(right), FINE, "{right:?}");
    }
    for wrong in [
        &b""[..],
        b"\0",
        b"DEVNAME=x",
        b"DEVNAME=x\0 ",
        b"DEVNAME=\0",
        b"NAME=x\0",
        b"DEVNAME=x\0DEVNAME= \0",
        b"DEVNAME\0",
        b"DEVNAME=x\0=y\0",
        b"DEVNAME=x\0 \0",
    ] {
        assert_eq!(cuse(wrong), no_connection("info"), "{wrong:?}");
    }
}
