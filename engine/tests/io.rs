//! A filesystem's own I/O on the ring: right data, right errors, and nothing that a handler does
//! to an operation in flight harms another request.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::fs::File;
use std::future::poll_fn;
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::pin::pin;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use fusewire::proto::flags::{FOpenFlags, InitFlags};
use fusewire::proto::op;
use fusewire::proto::{Attr, Attributes, Entry, Errno, Mode, NodeId, Opened, Result};
use fusewire::{Answer, Context, Filesystem, ReadBuf, TransportChoice};

use common::{Mounted, on_both};

const SIZE: usize = 3_000_000;
const FOR_EVER: Duration = Duration::from_secs(3600);
/// Each name has a behaviour; its node is its place here plus 2.
const NAMES: [&str; 10] = [
    "plain",
    "dropped",
    "forgotten",
    "two",
    "wronly",
    "pipe",
    "last",
    "longer",
    "lastwronly",
    "elsewhere",
];

struct Backed {
    file: Arc<OwnedFd>,
    /// The same file, without the right to read.
    wronly: Arc<OwnedFd>,
    /// The empty end of a pipe: reading waits for ever.
    pipe: Arc<OwnedFd>,
}

fn attr(node: NodeId) -> Attr {
    let (mode, size) = if node == NodeId::ROOT { (0o040_777, 0) } else { (0o100_666, SIZE as u64) };
    Attr { ino: node.0, mode: Mode(mode), size, nlink: 1, ..Attr::default() }
}

/// Polls once, so that an operation is on its way.
async fn begun<F: Future + Unpin>(future: &mut F) {
    poll_fn(|cx| {
        let _ = std::pin::Pin::new(&mut *future).poll(cx);
        Poll::Ready(())
    })
    .await;
}

impl Filesystem for Backed {
    const WISHES: InitFlags = InitFlags::empty();

    async fn lookup(&self, _: &Context<'_>, op: op::Lookup<'_>) -> Result<Entry> {
        let place = NAMES.iter().position(|name| name.as_bytes() == op.name.as_bytes());
        let nodeid = NodeId(place.ok_or(Errno::ENOENT)? as u64 + 2);
        let attr = attr(nodeid);
        Ok(Entry { nodeid, attr, entry_valid: FOR_EVER, attr_valid: FOR_EVER, ..Entry::default() })
    }

    async fn getattr(&self, cx: &Context<'_>, _: op::GetAttr) -> Result<Attributes> {
        Ok(Attributes { attr: attr(cx.node()), valid: FOR_EVER })
    }

    async fn setattr(&self, cx: &Context<'_>, _: op::SetAttr) -> Result<Attributes> {
        Ok(Attributes { attr: attr(cx.node()), valid: FOR_EVER })
    }

    async fn open(&self, _: &Context<'_>, _: op::Open) -> Result<Opened> {
        Ok(Opened { flags: FOpenFlags::DIRECT_IO, ..Opened::default() })
    }

    async fn read(&self, cx: &Context<'_>, op: op::Read, out: &mut ReadBuf<'_>) -> Result<()> {
        let io = cx.io();
        match NAMES[usize::try_from(cx.node().0).unwrap() - 2] {
            "dropped" => {
                // The room is lost with the future: nothing but an error can be said.
                begun(&mut pin!(io.read_at(&self.pipe, out, op.offset))).await;
                Err(Errno::ETIME)
            }
            "forgotten" => {
                let mut read = Box::pin(io.read_at(&self.pipe, out, op.offset));
                begun(&mut read).await;
                std::mem::forget(read);
                out.append(b"this panics: the kernel has the room");
                Ok(())
            }
            "two" => {
                // One after the other into the same answer.
                let half = op.size as usize / 2;
                out.append(&[0; 1]);
                let read = io.read_at(&self.file, out, op.offset + 1).await?;
                assert!(read <= op.size as usize && half > 0);
                Ok(())
            }
            "elsewhere" => {
                begun(&mut pin!(io.read_at(&self.pipe, out, op.offset))).await;
                let token = cx.detach();
                let answer = Answer::Bytes(vec![b'e'; op.size as usize]);
                std::thread::spawn(move || token.answer(answer));
                Ok(())
            }
            "last" => io.answer_from(&self.file, out, op.offset, SIZE as u64).await,
            // Less is there than was thought.
            "longer" => io.answer_from(&self.file, out, op.offset, SIZE as u64 + 5000).await,
            "lastwronly" => io.answer_from(&self.wronly, out, op.offset, SIZE as u64).await,
            "wronly" => io.read_at(&self.wronly, out, op.offset).await.map(drop),
            "pipe" => {
                let mut read = pin!(io.read_at(&self.pipe, out, op.offset));
                let mut interrupted = pin!(cx.interrupted());
                poll_fn(|cx| match interrupted.as_mut().poll(cx) {
                    Poll::Ready(()) => Poll::Ready(Err(Errno::EINTR)),
                    Poll::Pending => read.as_mut().poll(cx).map_ok(drop),
                })
                .await
            }
            _ => io.read_at(&self.file, out, op.offset).await.map(drop),
        }
    }

    async fn write(&self, cx: &Context<'_>, op: op::Write<'_>) -> Result<u32> {
        let (io, data) = (cx.io(), op.data);
        let written = match NAMES[usize::try_from(cx.node().0).unwrap() - 2] {
            "dropped" => {
                begun(&mut pin!(io.write_at(&self.file, data, op.offset))).await;
                return Err(Errno::ETIME);
            }
            // What does not lie in the request is copied.
            "two" => {
                let copy = data.to_vec();
                io.write_at(&self.file, &copy, op.offset).await?
            }
            _ => io.write_at(&self.file, data, op.offset).await?,
        };
        Ok(u32::try_from(written).unwrap())
    }

    async fn fsync(&self, cx: &Context<'_>, op: op::FSync) -> Result<()> {
        cx.io().sync(&self.file, op.datasync).await
    }

    async fn fallocate(&self, cx: &Context<'_>, op: op::FAllocate) -> Result<()> {
        cx.io().allocate(&self.file, op.mode, op.offset, op.length).await
    }
}

fn byte_at(offset: usize) -> u8 {
    u8::try_from((offset / 7 + offset / 4096) % 251).unwrap()
}

fn on(transport: TransportChoice, body: fn(Mounted, File)) {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    let content: Vec<u8> = (0..SIZE).map(byte_at).collect();
    file.write_all(&content).unwrap();
    let wronly = File::options().write(true).open(file.path()).unwrap();
    let (pipe, _writer) = std::io::pipe().unwrap();
    let (pipe, wronly) = (Arc::new(OwnedFd::from(pipe)), Arc::new(OwnedFd::from(wronly)));
    let shared = Arc::new(OwnedFd::from(file.reopen().unwrap()));
    let make = move |_| Backed {
        file: Arc::clone(&shared),
        wronly: Arc::clone(&wronly),
        pipe: Arc::clone(&pipe),
    };
    if let Some(mounted) = Mounted::start(transport, make) {
        body(mounted, file.reopen().unwrap());
    }
}

fn reads_right(mounted: &Mounted, name: &str) {
    for size in ["4k", "100000", "1M"] {
        let read = mounted.sh(&format!("dd if={name} bs={size} iflag=fullblock status=none"));
        assert_eq!(read.stdout.len(), SIZE, "{name}, {size}: {read:?}");
        let wrong = read.stdout.iter().enumerate().find(|(at, byte)| **byte != byte_at(*at));
        assert_eq!(wrong, None, "{name}, {size}");
    }
}

fn fails_with(mounted: &Mounted, script: &str, text: &str) {
    let run = mounted.sh(&format!("LC_ALL=C; export LC_ALL; {script}"));
    let errors = String::from_utf8_lossy(&run.stderr).into_owned();
    assert!(!run.status.success() && errors.contains(text), "{script}: {errors}");
}

fn data_are_right_both_ways(mounted: Mounted, file: File) {
    for name in ["plain", "last", "longer"] {
        reads_right(&mounted, name);
    }
    for (name, block) in [("plain", "1M"), ("two", "64k"), ("plain", "1000")] {
        let script = format!(
            "head -c 2000000 /dev/urandom >\"$TMPDIR/data\" && \
             dd if=\"$TMPDIR/data\" of={name} bs={block} iflag=fullblock conv=notrunc status=none && \
             sync {name} && cat \"$TMPDIR/data\""
        );
        let temporary = tempfile::tempdir().unwrap();
        let written =
            mounted.sh(&format!("TMPDIR={}; {script}", temporary.path().to_str().unwrap()));
        assert!(written.status.success(), "{written:?}");
        let mut there = vec![0; 2_000_000];
        file.read_exact_at(&mut there, 0).unwrap();
        assert!(there == written.stdout, "{name} in blocks of {block}");
    }
}

fn many_at_once_keep_apart(mounted: Mounted, _: File) {
    let script = "for i in 1 2 3 4; do for f in plain last; do \
                  dd if=$f bs=64k status=none | cksum & done; done; wait";
    let sums = mounted.sh(&format!("cksum <plain; {script}"));
    let text = String::from_utf8(sums.stdout).unwrap();
    let sums: Vec<&str> = text.lines().collect();
    assert_eq!(sums.len(), 9, "{text}");
    assert!(sums.iter().all(|sum| *sum == sums[0]), "{text}");
}

fn errors_reach_the_caller(mounted: Mounted, _: File) {
    for name in ["wronly", "lastwronly"] {
        fails_with(&mounted, &format!("cat {name}"), "Bad file descriptor");
    }
    fails_with(&mounted, "fallocate -o 0 -l 9223372036854775807 plain", "File too large");
    fails_with(&mounted, "cat dropped", "Timer expired");
    fails_with(&mounted, "cat forgotten", "Input/output error");
    reads_right(&mounted, "plain");
}

/// The slot of an operation that was given up is used again only when the kernel is done with it.
fn operations_that_are_given_up_do_no_harm(mounted: Mounted, _: File) {
    let script = "for i in $(seq 50); do cat dropped; cat forgotten; done 2>/dev/null & \
                  for i in $(seq 20); do cksum <plain; done; wait";
    let sums = mounted.sh(script);
    let text = String::from_utf8(sums.stdout).unwrap();
    let sums: Vec<&str> = text.lines().collect();
    assert_eq!(sums.len(), 20, "{text}");
    assert!(sums.iter().all(|sum| *sum == sums[0]), "{text}");
    reads_right(&mounted, "plain");
    let stats = mounted.end();
    assert_eq!((stats.panics, stats.malformed, stats.undelivered), (50, 0, 0), "{stats:?}");
}

/// An answer from elsewhere is put into the room only when the kernel is done with it.
fn an_answer_from_elsewhere_waits_for_the_operation(mounted: Mounted, _: File) {
    for _ in 0..20 {
        let read = mounted.sh("dd if=elsewhere bs=4k count=1 status=none");
        assert_eq!(read.stdout, [b'e'; 4096], "{read:?}");
    }
    reads_right(&mounted, "plain");
}

/// The signal comes once the handler waits: over the ring the kernel loses an earlier one.
fn an_interrupt_gives_an_operation_up(mounted: Mounted, _: File) {
    let waits = || {
        let stats = mounted.session().stats();
        let reads = stats.opcodes.iter().find(|(name, _)| *name == "OPEN");
        reads.map_or(0, |(_, one)| one.requests)
    };
    for round in 1..=20 {
        let path = mounted.session().mountpoint().join("pipe");
        let mut cat = Command::new("cat").arg(path).stderr(Stdio::null()).spawn().unwrap();
        while waits() < round {
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(Duration::from_millis(50));
        let pid = cat.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        let until = Instant::now() + Duration::from_secs(10);
        while cat.try_wait().unwrap().is_none() {
            if Instant::now() > until {
                common::abort(mounted.session().connection().unwrap());
                panic!("round {round}: no answer after an interrupt");
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    reads_right(&mounted, "last");
}

fn a_session_ends_with_operations_in_flight(mut mounted: Mounted, _: File) {
    let script = "for i in 1 2 3; do timeout -s KILL 5 cat pipe & done; sleep 0.3";
    mounted.sh(script);
    let session = mounted.take_session();
    let before = Instant::now();
    let _ = session.unmount();
    assert!(before.elapsed() < Duration::from_secs(4), "{:?}", before.elapsed());
}

on_both! {
    on:
    data_are_right_both_ways,
    many_at_once_keep_apart,
    errors_reach_the_caller,
    operations_that_are_given_up_do_no_harm,
    an_answer_from_elsewhere_waits_for_the_operation,
    an_interrupt_gives_an_operation_up,
    a_session_ends_with_operations_in_flight,
}
