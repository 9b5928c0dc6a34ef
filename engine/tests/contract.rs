//! One table of behaviours, run on each transport over a real mount: what the engine owes to a
//! filesystem and to its callers, whatever the filesystem does.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::io;
use std::pin::Pin;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::task::{Poll, Wake, Waker};
use std::time::{Duration, Instant};

use fusewire::proto::flags::{FOpenFlags, InitFlags};
use fusewire::proto::negotiate::Agreement;
use fusewire::proto::op::{
    GetAttr, GetXattr, Lookup, Open, Read, ReadDir, ReadLink, StatFs, Write,
};
use fusewire::proto::{
    Attr, Attributes, Entry, Errno, FileType, FsStats, LookupCount, Mode, NodeId, Opened, Result,
};
use fusewire::{
    Answer, Config, Context, DirBuf, Error, Filesystem, Notifier, ReadBuf, Session,
    TransportChoice, TransportKind, XattrBuf,
};

use common::{Mounted, abort, on_both};

const FOR_EVER: Duration = Duration::from_secs(3600);
const BIG: usize = 1 << 20;
/// Each name has a behaviour; its node is its place here plus 2.
const NAMES: [&str; 11] = [
    "plain", "panics", "detached", "dropped", "blocked", "shared", "mixed", "refused", "early",
    "twice", "link",
];

/// A byte that depends on its place, so that a wrong offset shows.
fn byte_at(offset: usize) -> u8 {
    u8::try_from((offset / 7 + offset / 4096) % 251).unwrap()
}

#[derive(Default)]
struct Seen {
    forgotten: AtomicU64,
    written: AtomicU64,
}

struct Odd {
    seen: Arc<Seen>,
    big: Arc<Vec<u8>>,
}

fn name_of(node: NodeId) -> &'static str {
    NAMES[usize::try_from(node.0).unwrap() - 2]
}

fn attr(node: NodeId) -> Attr {
    let (mode, size) = match node {
        NodeId::ROOT => (0o040_777, 0),
        node if name_of(node) == "link" => (0o120_777, 4),
        _ => (0o100_666, BIG as u64),
    };
    Attr { ino: node.0, mode: Mode(mode), size, nlink: 1, ..Attr::default() }
}

/// Polls a future only after its own waker was used, as sets of futures do.
struct OnlyWhenWoken<F> {
    inner: Pin<Box<F>>,
    woken: Arc<Woken>,
}

struct Woken {
    is_set: AtomicBool,
    outer: Mutex<Option<Waker>>,
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.is_set.store(true, Ordering::SeqCst);
        if let Some(outer) = self.outer.lock().unwrap().take() {
            outer.wake();
        }
    }
}

impl<F: Future> OnlyWhenWoken<F> {
    fn new(inner: F) -> Self {
        let woken = Woken { is_set: AtomicBool::new(true), outer: Mutex::default() };
        Self { inner: Box::pin(inner), woken: Arc::new(woken) }
    }
}

impl<F: Future> Future for OnlyWhenWoken<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> Poll<F::Output> {
        *self.woken.outer.lock().unwrap() = Some(cx.waker().clone());
        if !self.woken.is_set.swap(false, Ordering::SeqCst) {
            return Poll::Pending;
        }
        let waker = Waker::from(Arc::clone(&self.woken));
        self.inner.as_mut().poll(&mut std::task::Context::from_waker(&waker))
    }
}

impl Filesystem for Odd {
    const WISHES: InitFlags = InitFlags::empty();

    async fn lookup(&self, _: &Context<'_>, op: Lookup<'_>) -> Result<Entry> {
        let place = NAMES.iter().position(|name| name.as_bytes() == op.name.as_bytes());
        let nodeid = NodeId(place.ok_or(Errno::ENOENT)? as u64 + 2);
        Ok(Entry {
            nodeid,
            entry_valid: FOR_EVER,
            attr_valid: FOR_EVER,
            attr: attr(nodeid),
            ..Entry::default()
        })
    }

    fn forget(&self, _: NodeId, lookups: LookupCount) {
        self.seen.forgotten.fetch_add(lookups.0, Ordering::Relaxed);
    }

    async fn getattr(&self, cx: &Context<'_>, _: GetAttr) -> Result<Attributes> {
        Ok(Attributes { valid: FOR_EVER, attr: attr(cx.node()) })
    }

    async fn readlink(&self, _: &Context<'_>, _: ReadLink, out: &mut ReadBuf<'_>) -> Result<()> {
        out.append(b"plain");
        Ok(())
    }

    async fn open(&self, _: &Context<'_>, _: Open) -> Result<Opened> {
        Ok(Opened { flags: FOpenFlags::DIRECT_IO, ..Opened::default() })
    }

    async fn read(&self, cx: &Context<'_>, op: Read, out: &mut ReadBuf<'_>) -> Result<()> {
        let start = usize::try_from(op.offset).unwrap().min(BIG);
        let end = BIG.min(start + op.size as usize);
        match name_of(cx.node()) {
            "panics" => panic!("a handler that panics, on purpose"),
            "refused" => return Err(Errno::new(300).unwrap()),
            "dropped" => drop(cx.detach()),
            "blocked" => {
                OnlyWhenWoken::new(cx.interrupted()).await;
                return Err(Errno::EINTR);
            }
            "detached" => {
                let token = cx.detach();
                let bytes = self.big[start..end].to_vec();
                std::thread::spawn(move || {
                    std::thread::sleep(Duration::from_millis(1));
                    token.answer(Answer::Bytes(bytes));
                });
            }
            "twice" => {
                let token = cx.detach();
                std::thread::spawn(move || token.answer(Answer::Bytes(b"once".to_vec())));
                let _ = cx.detach();
            }
            "early" => cx.detach().answer(Answer::Bytes(self.big[start..end].to_vec())),
            "shared" => out.share(Arc::clone(&self.big) as _, start..end),
            "mixed" => {
                // Copied, shared and filled parts in turn must arrive in order.
                let mut at = start;
                while at < end {
                    let next = end.min(at + 10_000);
                    match (at / 10_000) % 3 {
                        0 => {
                            out.append(&self.big[at..next]);
                        }
                        1 => out.share(Arc::clone(&self.big) as _, at..next),
                        _ => {
                            out.fill(|room| {
                                room[..next - at].copy_from_slice(&self.big[at..next]);
                                next - at
                            });
                        }
                    }
                    at = next;
                }
            }
            _ => {
                out.append(&self.big[start..end]);
            }
        }
        Ok(())
    }

    async fn write(&self, _: &Context<'_>, op: Write<'_>) -> Result<u32> {
        let start = usize::try_from(op.offset).unwrap();
        let right = op.data.iter().enumerate().all(|(at, byte)| *byte == byte_at(start + at));
        self.seen.written.fetch_add(op.data.len() as u64, Ordering::Relaxed);
        if right { Ok(op.data.len().try_into().unwrap()) } else { Err(Errno::EUCLEAN) }
    }

    async fn getxattr(
        &self,
        _: &Context<'_>,
        op: GetXattr<'_>,
        out: &mut XattrBuf<'_>,
    ) -> Result<()> {
        if op.name != b"user.x" {
            return Err(Errno::ENODATA);
        }
        out.append(&[b'v'; 3000]);
        Ok(())
    }

    async fn readdir(&self, _: &Context<'_>, op: ReadDir, out: &mut DirBuf<'_>) -> Result<()> {
        for (place, name) in NAMES.iter().enumerate().skip(usize::try_from(op.offset).unwrap()) {
            let kind = if *name == "link" { 0o12 } else { 0o10 };
            if !out.add(place as u64 + 2, place as u64 + 1, FileType(kind), name.as_bytes()) {
                break;
            }
        }
        Ok(())
    }

    async fn statfs(&self, _: &Context<'_>, _: StatFs) -> Result<FsStats> {
        Ok(FsStats { bsize: 4096, frsize: 4096, namelen: 255, ..FsStats::default() })
    }
}

/// A served mount, and what its filesystem has seen.
struct Served {
    mounted: Mounted,
    seen: Arc<Seen>,
}

impl Served {
    fn start(transport: TransportChoice) -> Option<Self> {
        let big: Arc<Vec<u8>> = Arc::new((0..BIG).map(byte_at).collect());
        let seen = Arc::new(Seen::default());
        let shared = Arc::clone(&seen);
        let make = move |_| Odd { seen: Arc::clone(&shared), big: Arc::clone(&big) };
        Some(Self { mounted: Mounted::start(transport, make)?, seen })
    }

    fn sh(&self, script: &str) -> Output {
        self.mounted.sh(script)
    }

    fn reads_right(&self, name: &str) {
        let read = self.sh(&format!("dd if={name} bs=256k iflag=fullblock status=none"));
        assert!(read.status.success(), "{name}: {}", String::from_utf8_lossy(&read.stderr));
        assert_eq!(read.stdout.len(), BIG, "{name}");
        let wrong = read.stdout.iter().enumerate().find(|(at, byte)| **byte != byte_at(*at));
        assert_eq!(wrong, None, "{name}");
    }

    fn fails_with(&self, name: &str, text: &str) {
        let read = self.sh(&format!("LC_ALL=C cat {name}"));
        let errors = String::from_utf8_lossy(&read.stderr).into_owned();
        assert!(!read.status.success() && errors.contains(text), "{name}: {errors}");
    }
}

fn answers(served: Served) {
    for name in ["plain", "detached", "early", "shared", "mixed"] {
        served.reads_right(name);
    }
    let listed = served.sh("ls -U | tr '\\n' ' '; readlink link; getfattr -n user.x plain | wc -c");
    let text = String::from_utf8(listed.stdout).unwrap();
    assert!(text.starts_with("plain panics detached"), "{text}");
    assert!(text.contains("link plain\n"), "{text}");
    let stats = served.mounted.end();
    let mishaps = [stats.panics, stats.malformed, stats.undelivered, stats.refused];
    assert_eq!(mishaps, [0; 4], "{stats:?}");
}

fn writes_arrive_whole(served: Served) {
    let written =
        served.sh("cat plain > copy 2>/dev/null; dd if=plain of=shared bs=1M conv=notrunc");
    assert!(written.status.success(), "{written:?}");
    assert_eq!(served.seen.written.load(Ordering::Relaxed), BIG as u64);
}

fn panics_and_dropped_requests_answer_eio(served: Served) {
    served.fails_with("panics", "Input/output error");
    served.fails_with("dropped", "Input/output error");
    served.reads_right("plain");
    served.fails_with("panics", "Input/output error");
    assert_eq!(served.mounted.end().panics, 2);
}

/// A second token would be a second answer.
fn a_request_is_detached_once(served: Served) {
    for _ in 0..10 {
        let read = served.sh("dd if=twice bs=4k count=1 status=none");
        assert_eq!(read.stdout, b"once", "{read:?}");
        served.reads_right("detached");
    }
    assert_eq!(served.mounted.end().panics, 10);
}

fn odd_errors_reach_the_caller(served: Served) {
    served.fails_with("refused", "300");
    served.fails_with("missing", "No such file");
    served.reads_right("plain");
}

fn an_interrupt_ends_a_blocked_request(served: Served) {
    let before = Instant::now();
    let ended = served.sh("timeout -s INT 0.3 cat blocked; echo $?");
    assert!(before.elapsed() < Duration::from_secs(10));
    assert_eq!(String::from_utf8_lossy(&ended.stdout).trim(), "124");
    // A fatal signal likewise: the kernel waits for the answer of a request that was read.
    served.sh("timeout -s KILL 0.3 cat blocked; true");
    served.reads_right("plain");
    let stats = served.mounted.end();
    let interrupts = stats.opcodes.iter().find(|(name, _)| *name == "INTERRUPT").unwrap();
    assert!(interrupts.1.requests >= 2, "{stats:?}");
}

fn blocked_requests_leave_room_for_others(served: Served) {
    let script = "for i in 1 2 3 4 5 6; do timeout -s INT 5 cat blocked & done; \
                  sleep 0.3; cat plain | wc -c; kill $(jobs -p) 2>/dev/null; wait";
    let read = served.sh(script);
    assert_eq!(String::from_utf8_lossy(&read.stdout).trim(), BIG.to_string());
}

fn forgets_are_read(served: Served) {
    served.reads_right("plain");
    std::fs::write("/proc/sys/vm/drop_caches", "2").unwrap();
    let until = Instant::now() + Duration::from_secs(10);
    while served.seen.forgotten.load(Ordering::Relaxed) == 0 {
        assert!(Instant::now() < until, "no FORGET was seen");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn an_abort_is_an_error(mut served: Served) {
    let session = served.mounted.take_session();
    abort(session.connection().unwrap());
    assert!(matches!(session.run(), Err(Error::Aborted)));
}

fn an_unmount_from_outside_is_a_good_end(mut served: Served) {
    let session = served.mounted.take_session();
    let unmounted = Command::new("umount").arg(session.mountpoint()).status().unwrap();
    assert!(unmounted.success());
    session.run().unwrap();
}

/// What makes the filesystems panics for one shard: the others and the mount must not stay.
fn a_factory_that_panics_is_an_error(served: Served) {
    refuses_to_start(&served, |shard| {
        assert!(shard == 0, "a factory that panics, on purpose");
        OneStarts(0)
    });
    served.reads_right("plain");
}

/// A filesystem of which one instance cannot start.
struct OneStarts(usize);

impl Filesystem for OneStarts {
    const WISHES: InitFlags = InitFlags::empty();

    fn start(&self, _: &Agreement, _: &Notifier) -> io::Result<()> {
        let name = std::thread::current().name().map(str::to_owned);
        assert_eq!(name, Some(format!("fusewire-{}", self.0)), "the shard's own thread");
        if self.0 == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(libc::ENOTUNIQ)) }
    }
}

fn a_filesystem_that_cannot_start_is_an_error(served: Served) {
    let error = refuses_to_start(&served, OneStarts);
    let Error::Start { source, .. } = error else { unreachable!("{error}") };
    assert_eq!(source.raw_os_error(), Some(libc::ENOTUNIQ));
    served.reads_right("plain");
}

/// Mounts another one with two shards, on the same transport. Returns why that failed.
fn refuses_to_start<F: Filesystem>(
    served: &Served,
    make: impl Fn(usize) -> F + Send + Sync + 'static,
) -> Error {
    let (transport, _) = served.mounted.session().transport();
    let transport = match transport {
        TransportKind::Uring => TransportChoice::Uring,
        TransportKind::Device => TransportChoice::Device,
    };
    let dir = tempfile::tempdir().unwrap();
    let config = Config::new(dir.path()).transport(transport).shards(Some(2)).signals(false);
    let (done, waited) = channel();
    std::thread::spawn(move || done.send(Session::mount(config, make).map(drop)).unwrap());
    let result = waited.recv_timeout(Duration::from_secs(10)).expect("a start that ends");
    let error = result.expect_err("not all shards can start");
    assert!(matches!(error, Error::Start { .. }), "{error}");
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
    assert!(!mounts.contains(dir.path().to_str().unwrap()), "a mount is left");
    error
}

fn on(transport: TransportChoice, body: fn(Served)) {
    if let Some(served) = Served::start(transport) {
        body(served);
    }
}

on_both! {
    on:
    answers,
    writes_arrive_whole,
    panics_and_dropped_requests_answer_eio,
    a_request_is_detached_once,
    odd_errors_reach_the_caller,
    an_interrupt_ends_a_blocked_request,
    blocked_requests_leave_room_for_others,
    forgets_are_read,
    an_abort_is_an_error,
    an_unmount_from_outside_is_a_good_end,
    a_factory_that_panics_is_an_error,
    a_filesystem_that_cannot_start_is_an_error,
}
