//! Invariant I5: between its start and its end a shard allocates nothing, whatever is asked.
//!
//! An allocator counts what the shards' own threads allocate; the clients are other processes.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use fusewire::proto::flags::{FOpenFlags, InitFlags};
use fusewire::proto::{
    Attr, Attributes, Entry, Errno, FileType, FsStats, Mode, NodeId, Opened, Result, op,
};
use fusewire::{Config, Context, DirBuf, Filesystem, ReadBuf, Session, TransportChoice, XattrBuf};

thread_local! {
    /// Whether this thread is a shard's.
    static IS_SHARD: Cell<bool> = const { Cell::new(false) };
}
static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

struct Counting;

fn count() {
    if IS_SHARD.get() {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
    }
}

// SAFETY: every call is passed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the contract of `alloc`, which is the same one.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: as above; the block came from the same allocator.
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: as above.
        unsafe { System.realloc(block, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const SIZE: usize = 1 << 20;

/// Files whose reads are copied, shared or late, and nothing is cached.
struct Plain {
    bytes: Arc<Vec<u8>>,
}

const NAMES: [&str; 3] = ["copied", "shared", "late"];

fn attr(node: NodeId) -> Attr {
    let (mode, size) = if node == NodeId::ROOT { (0o040_777, 0) } else { (0o100_666, SIZE as u64) };
    Attr { ino: node.0, mode: Mode(mode), size, nlink: 1, ..Attr::default() }
}

/// Returns once to the executor before it goes on.
async fn later() {
    let mut came_back = false;
    std::future::poll_fn(|cx| {
        if std::mem::replace(&mut came_back, true) {
            return std::task::Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        std::task::Poll::Pending
    })
    .await;
}

impl Filesystem for Plain {
    const WISHES: InitFlags = InitFlags::empty();

    async fn lookup(&self, _: &Context<'_>, op: op::Lookup<'_>) -> Result<Entry> {
        let place = NAMES.iter().position(|name| name.as_bytes() == op.name.as_bytes());
        let nodeid = NodeId(place.ok_or(Errno::ENOENT)? as u64 + 2);
        Ok(Entry { nodeid, attr: attr(nodeid), ..Entry::default() })
    }

    async fn getattr(&self, cx: &Context<'_>, _: op::GetAttr) -> Result<Attributes> {
        Ok(Attributes { attr: attr(cx.node()), ..Attributes::default() })
    }

    async fn setattr(&self, cx: &Context<'_>, _: op::SetAttr) -> Result<Attributes> {
        Ok(Attributes { attr: attr(cx.node()), ..Attributes::default() })
    }

    async fn open(&self, _: &Context<'_>, _: op::Open) -> Result<Opened> {
        Ok(Opened { flags: FOpenFlags::DIRECT_IO, ..Opened::default() })
    }

    async fn read(&self, cx: &Context<'_>, op: op::Read, out: &mut ReadBuf<'_>) -> Result<()> {
        let start = usize::try_from(op.offset).unwrap().min(SIZE);
        let end = SIZE.min(start + op.size as usize);
        match cx.node().0 {
            2 => drop(out.append(&self.bytes[start..end])),
            3 => out.share(Arc::clone(&self.bytes) as _, start..end),
            _ => {
                later().await;
                out.zeros(end - start);
            }
        }
        Ok(())
    }

    async fn write(&self, _: &Context<'_>, op: op::Write<'_>) -> Result<u32> {
        Ok(op.data.len().try_into().unwrap())
    }

    async fn getxattr(
        &self,
        _: &Context<'_>,
        op: op::GetXattr<'_>,
        out: &mut XattrBuf<'_>,
    ) -> Result<()> {
        if op.name != b"user.x" {
            return Err(Errno::ENODATA);
        }
        out.append(b"value");
        Ok(())
    }

    async fn readdir(&self, _: &Context<'_>, op: op::ReadDir, out: &mut DirBuf<'_>) -> Result<()> {
        for (place, name) in NAMES.iter().enumerate().skip(usize::try_from(op.offset).unwrap()) {
            let _ = out.add(place as u64 + 2, place as u64 + 1, FileType::REGULAR, name.as_bytes());
        }
        Ok(())
    }

    async fn statfs(&self, _: &Context<'_>, _: op::StatFs) -> Result<FsStats> {
        Ok(FsStats { bsize: 4096, frsize: 4096, namelen: 255, ..FsStats::default() })
    }
}

const LOAD: &str = "for i in 1 2 3; do for f in copied shared late; do \
    dd if=$f of=/dev/null bs=4k status=none; dd if=$f of=/dev/null bs=256k status=none; \
    dd if=/dev/zero of=$f bs=128k count=8 conv=notrunc status=none & \
    dd if=/dev/zero of=$f bs=4k count=100 conv=notrunc status=none; wait; \
    stat -f . >/dev/null; ls -l >/dev/null; cat missing 2>/dev/null; \
    done; done; true";

fn nothing_is_allocated(transport: TransportChoice) {
    let dir = tempfile::tempdir().unwrap();
    let config = Config::new(dir.path()).transport(transport).signals(false).name("plain");
    let bytes = Arc::new(vec![7; SIZE]);
    let make = move |_| {
        // Called on the shard's thread.
        IS_SHARD.set(true);
        Plain { bytes: Arc::clone(&bytes) }
    };
    let session = Session::mount(config, make).unwrap();
    let load = || {
        let mut command = Command::new("timeout");
        command.args(["-s", "KILL", "60", "sh", "-c"]).arg(format!("cd \"$0\" && {LOAD}"));
        let run = command.arg(dir.path()).output().unwrap();
        assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    };
    load();
    let (before, requests) = (ALLOCATIONS.load(Ordering::Relaxed), session.stats().requests());
    load();
    let allocations = ALLOCATIONS.load(Ordering::Relaxed) - before;
    let requests = session.stats().requests() - requests;
    session.unmount().unwrap();
    assert!(before > 0, "a shard allocates at its start, so the count works");
    assert!(requests > 3000, "{requests} requests");
    assert_eq!(allocations, 0, "I5, {transport:?}: in {requests} requests");
    eprintln!("{transport:?}: {allocations} allocations in {requests} requests");
}

/// One test, so that nobody else's shards are counted.
#[test]
fn a_shard_allocates_nothing_per_request() {
    if let Err(why) = std::fs::File::options().read(true).write(true).open("/dev/fuse") {
        assert!(std::env::var_os("FUSEWIRE_REQUIRE_MOUNT").is_none(), "no real mount: {why}");
        return eprintln!("SKIPPED: no real mount: {why}");
    }
    let _ = std::fs::write("/sys/module/fuse/parameters/enable_uring", "Y");
    nothing_is_allocated(TransportChoice::Device);
    nothing_is_allocated(TransportChoice::Uring);
}
