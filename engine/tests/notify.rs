//! Notifications on real mounts: what the kernel does once it is told.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::future::poll_fn;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use fusewire::proto::flags::{FOpenFlags, InitFlags, InvalEntryFlags, PollEvents, PollFlags};
use fusewire::proto::op;
use fusewire::proto::{
    Attr, Attributes, Entry, Errno, FileType, FsStats, LookupCount, Mode, Name, NodeId,
    Notification, Opened, PollHandle, Result, Unique,
};
use fusewire::{Context, DirPlusBuf, Filesystem, ReadBuf, TransportChoice};

use common::{Mounted, on_both};

const FOR_EVER: Duration = Duration::from_secs(3600);
const SIZE: usize = 4096;
const NAMES: [&str; 3] = ["file", "other", "stuck"];
const FILE: NodeId = NodeId(2);
const OTHER: NodeId = NodeId(3);
const STUCK: NodeId = NodeId(4);

/// What the test and the filesystem tell each other.
#[derive(Default)]
struct World {
    /// Every byte of every file.
    content: AtomicU32,
    lookups: AtomicU64,
    forgotten: Mutex<Vec<NodeId>>,
    reads: AtomicU64,
    writes: AtomicU64,
    /// Handle of whoever polls.
    polls: AtomicU64,
    readable: AtomicBool,
    retrieved: Mutex<Option<(Unique, Vec<u8>)>>,
    listings: AtomicU64,
    /// The first listing waits until this is set.
    may_list: AtomicBool,
    lister: Mutex<Option<Waker>>,
}

struct Watched {
    world: Arc<World>,
}

fn attr(node: NodeId) -> Attr {
    let (mode, size) = if node == NodeId::ROOT { (0o040_777, 0) } else { (0o100_666, SIZE as u64) };
    Attr { ino: node.0, mode: Mode(mode), size, nlink: 1, ..Attr::default() }
}

fn entry(place: usize) -> Entry {
    let nodeid = NodeId(place as u64 + 2);
    let attr = attr(nodeid);
    Entry { nodeid, entry_valid: FOR_EVER, attr_valid: FOR_EVER, attr, ..Entry::default() }
}

impl Filesystem for Watched {
    const WISHES: InitFlags = InitFlags::WRITEBACK_CACHE.union(InitFlags::DO_READDIRPLUS);

    async fn lookup(&self, _: &Context<'_>, op: op::Lookup<'_>) -> Result<Entry> {
        let place = NAMES.iter().position(|name| name.as_bytes() == op.name.as_bytes());
        self.world.lookups.fetch_add(1, Ordering::SeqCst);
        Ok(entry(place.ok_or(Errno::ENOENT)?))
    }

    fn forget(&self, node: NodeId, lookups: LookupCount) {
        let mut forgotten = self.world.forgotten.lock().unwrap();
        forgotten.extend((0..lookups.0).map(|_| node));
    }

    async fn getattr(&self, cx: &Context<'_>, _: op::GetAttr) -> Result<Attributes> {
        Ok(Attributes { valid: FOR_EVER, attr: attr(cx.node()) })
    }

    async fn setattr(&self, cx: &Context<'_>, _: op::SetAttr) -> Result<Attributes> {
        Ok(Attributes { valid: FOR_EVER, attr: attr(cx.node()) })
    }

    async fn open(&self, _: &Context<'_>, _: op::Open) -> Result<Opened> {
        Ok(Opened { flags: FOpenFlags::KEEP_CACHE, ..Opened::default() })
    }

    async fn read(&self, cx: &Context<'_>, op: op::Read, out: &mut ReadBuf<'_>) -> Result<()> {
        if cx.node() == STUCK {
            // Waits for the pages of this READ, which waits for ever.
            let all = Notification::InvalInode { node: STUCK, offset: 0, len: 0 };
            drop(cx.notifier().send(&all));
            self.world.reads.fetch_add(1, Ordering::SeqCst);
            poll_fn(|_| Poll::<()>::Pending).await;
        }
        self.world.reads.fetch_add(1, Ordering::SeqCst);
        let byte = u8::try_from(self.world.content.load(Ordering::SeqCst)).unwrap();
        let left = SIZE.saturating_sub(usize::try_from(op.offset).unwrap());
        out.append(&[byte; SIZE][..left]);
        Ok(())
    }

    async fn write(&self, _: &Context<'_>, op: op::Write<'_>) -> Result<u32> {
        self.world.writes.fetch_add(1, Ordering::SeqCst);
        Ok(op.data.len().try_into().unwrap())
    }

    async fn poll(&self, _: &Context<'_>, op: op::Poll) -> Result<PollEvents> {
        if op.flags.contains(PollFlags::SCHEDULE_NOTIFY) {
            self.world.polls.store(op.kh.0, Ordering::SeqCst);
        }
        let ready = self.world.readable.load(Ordering::SeqCst);
        Ok(if ready { op.events } else { PollEvents::empty() })
    }

    fn notify_reply(&self, cx: &Context<'_>, op: op::NotifyReply<'_>) {
        *self.world.retrieved.lock().unwrap() = Some((cx.unique(), op.data.to_vec()));
    }

    async fn readdirplus(
        &self,
        _: &Context<'_>,
        op: op::ReadDirPlus,
        out: &mut DirPlusBuf<'_>,
    ) -> Result<()> {
        if op.offset == 0 && self.world.listings.fetch_add(1, Ordering::SeqCst) == 0 {
            poll_fn(|cx| {
                *self.world.lister.lock().unwrap() = Some(cx.waker().clone());
                let may = self.world.may_list.load(Ordering::SeqCst);
                if may { Poll::Ready(()) } else { Poll::Pending }
            })
            .await;
        }
        for (place, name) in NAMES.iter().enumerate().skip(usize::try_from(op.offset).unwrap()) {
            let entry = entry(place);
            let next = place as u64 + 1;
            assert!(out.add(
                Some(&entry),
                entry.nodeid.0,
                next,
                FileType::REGULAR,
                name.as_bytes()
            ));
        }
        Ok(())
    }

    /// Drops what the kernel has of a file, and goes on when that is done.
    async fn statfs(&self, cx: &Context<'_>, _: op::StatFs) -> Result<FsStats> {
        let all = Notification::InvalInode { node: FILE, offset: 0, len: 0 };
        cx.notifier().send(&all).await?;
        let writes = self.world.writes.load(Ordering::SeqCst);
        Ok(FsStats {
            blocks: writes,
            bsize: 4096,
            frsize: 4096,
            namelen: 255,
            ..FsStats::default()
        })
    }
}

/// Runs a body on a mount of its own.
fn on(transport: TransportChoice, body: fn(Mounted, Arc<World>)) {
    let world = Arc::new(World { may_list: AtomicBool::new(true), ..World::default() });
    world.content.store(u32::from(b'1'), Ordering::SeqCst);
    let shared = Arc::clone(&world);
    if let Some(mounted) =
        Mounted::start(transport, move |_| Watched { world: Arc::clone(&shared) })
    {
        body(mounted, world);
    }
}

fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + Duration::from_secs(10);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < until, "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn shows(mounted: &Mounted, name: &str, byte: u8) -> bool {
    mounted.sh(&format!("cat {name}")).stdout == [byte; SIZE]
}

fn told(mounted: &Mounted, notification: &Notification<'_>) -> Result<()> {
    mounted.session().notifier().send(notification).wait()
}

fn a_changed_inode_is_read_again(mounted: Mounted, world: Arc<World>) {
    let all = Notification::InvalInode { node: FILE, offset: 0, len: 0 };
    assert_eq!(told(&mounted, &all), Err(Errno::ENOENT), "before anybody looked");
    assert!(shows(&mounted, "file", b'1'));
    world.content.store(u32::from(b'2'), Ordering::SeqCst);
    assert!(shows(&mounted, "file", b'1'), "it is cached");
    assert_eq!(told(&mounted, &all), Ok(()));
    assert!(shows(&mounted, "file", b'2'));
}

fn a_changed_name_is_looked_up_again(mounted: Mounted, world: Arc<World>) {
    let name = Name::new(b"file").unwrap();
    let parent = NodeId::ROOT;
    let drop_name = |flags| Notification::InvalEntry { parent, name, flags };
    let mut lookups = 0;
    for notification in [
        drop_name(InvalEntryFlags::empty()),
        drop_name(InvalEntryFlags::EXPIRE_ONLY),
        Notification::IncEpoch,
        Notification::Delete { parent, child: FILE, name },
    ] {
        for _ in 0..2 {
            assert!(mounted.sh("stat file").status.success());
            let now = world.lookups.load(Ordering::SeqCst);
            assert!(now == lookups || now == lookups + 1, "{notification}: {now} of {lookups}");
            lookups = now;
        }
        assert_eq!(told(&mounted, &notification), Ok(()), "{notification}");
        assert!(mounted.sh("stat file").status.success());
        lookups += 1;
        assert_eq!(world.lookups.load(Ordering::SeqCst), lookups, "{notification}");
    }
    let elsewhere = Notification::Delete { parent, child: OTHER, name };
    assert_eq!(told(&mounted, &elsewhere), Err(Errno::ENOENT), "the name is of another inode");
}

fn stored_data_are_read_and_retrieved(mounted: Mounted, world: Arc<World>) {
    assert!(mounted.sh("stat other").status.success());
    let store = Notification::Store { node: OTHER, offset: 0, data: &[b's'; SIZE] };
    assert_eq!(told(&mounted, &store), Ok(()));
    assert!(shows(&mounted, "other", b's'));
    assert_eq!(world.reads.load(Ordering::SeqCst), 0, "READs of what was stored");
    let (unique, sent) = mounted.session().notifier().retrieve(OTHER, 10, 100);
    assert_eq!(sent.wait(), Ok(()));
    let come = eventually("a NOTIFY_REPLY", || world.retrieved.lock().unwrap().take());
    assert_eq!(come, (unique, vec![b's'; 100]));
}

fn whoever_polls_is_woken(mounted: Mounted, world: Arc<World>) {
    std::thread::scope(|scope| {
        let poll = "perl -e 'open F, \"<\", \"file\"; vec($r, fileno(F), 1) = 1; \
                    print scalar select($r, undef, undef, 15)'";
        let client = scope.spawn(|| mounted.sh(poll));
        let kh =
            eventually("a POLL", || Some(world.polls.load(Ordering::SeqCst)).filter(|kh| *kh != 0));
        assert!(!client.is_finished(), "there is nothing to read yet");
        world.readable.store(true, Ordering::SeqCst);
        let before = Instant::now();
        assert_eq!(told(&mounted, &Notification::Poll { kh: PollHandle(kh) }), Ok(()));
        let output = client.join().unwrap();
        assert!(before.elapsed() < Duration::from_secs(10), "it timed out");
        assert_eq!(String::from_utf8_lossy(&output.stdout), "1", "{output:?}");
    });
}

/// Its WRITEs are served while the handler waits.
fn a_handler_can_wait_for_dirty_pages(mounted: Mounted, _: Arc<World>) {
    let written = mounted.sh("exec 3<>file; printf dirty >&3; stat -f -c %b .");
    assert_eq!(String::from_utf8_lossy(&written.stdout).trim(), "1", "{written:?}");
}

fn after_the_end_nothing_is_sent(mounted: Mounted, _: Arc<World>) {
    let notifier = mounted.session().notifier().clone();
    assert_eq!(notifier.send(&Notification::Resend).wait(), Ok(()));
    mounted.end();
    assert_eq!(notifier.send(&Notification::Resend).wait(), Err(Errno::ENOTCONN));
}

/// Nothing that leads to the mount could be unmounted by force, and a notification keeps the
/// device open: the session has to end the connection all the same.
fn a_blocked_notification_does_not_outlive_the_session(mut mounted: Mounted, world: Arc<World>) {
    let path = mounted.session().mountpoint().to_owned();
    let mut cat = Command::new("cat").arg(path.join("stuck")).spawn().unwrap();
    eventually("a READ", || (world.reads.load(Ordering::SeqCst) > 0).then_some(()));
    let run = |name: &str, words: &[&str]| {
        assert!(Command::new(name).args(words).arg(&path).status().unwrap().success());
    };
    run("mount", &["-t", "tmpfs", "cover"]);
    let connection = mounted.session().connection().unwrap();
    let notifier = mounted.session().notifier().clone();
    let ended = mounted.take_session().unmount();
    run("umount", &[]);
    // The dead mount below.
    run("umount", &["-l"]);
    eventually("the end of a client", || cat.try_wait().unwrap());
    eventually("the end of the connection", || {
        let control = format!("/sys/fs/fuse/connections/{connection}");
        (!std::path::Path::new(&control).exists()).then_some(())
    });
    assert_eq!(notifier.send(&Notification::Resend).wait(), Err(Errno::ENOTCONN));
    drop(ended);
}

/// The answer to a request that was sent again is not wanted, nor are the lookups in it.
#[test]
fn lookups_of_a_listing_that_did_not_arrive_are_taken_back() {
    on(TransportChoice::Device, |mounted, world| {
        world.may_list.store(false, Ordering::SeqCst);
        std::thread::scope(|scope| {
            let client = scope.spawn(|| mounted.sh("ls"));
            let listed = |count| (world.listings.load(Ordering::SeqCst) == count).then_some(());
            eventually("a listing", || listed(1));
            assert_eq!(told(&mounted, &Notification::Resend), Ok(()));
            eventually("the same listing again", || listed(2));
            assert_eq!(client.join().unwrap().stdout, b"file\nother\nstuck\n");
        });
        assert_eq!(*world.forgotten.lock().unwrap(), [], "nothing is forgotten yet");
        world.may_list.store(true, Ordering::SeqCst);
        world.lister.lock().unwrap().take().unwrap().wake();
        // A shard looks at what became of its answers when the next request wakes it.
        eventually("an answer that is not wanted", || {
            mounted.sh("stat missing");
            (mounted.session().stats().undelivered == 1).then_some(())
        });
        eventually("lookups taken back", || {
            (*world.forgotten.lock().unwrap() == [FILE, OTHER, STUCK]).then_some(())
        });
    });
}

on_both! {
    on:
    a_changed_inode_is_read_again,
    a_changed_name_is_looked_up_again,
    stored_data_are_read_and_retrieved,
    whoever_polls_is_woken,
    a_handler_can_wait_for_dirty_pages,
    after_the_end_nothing_is_sent,
    a_blocked_notification_does_not_outlive_the_session,
}
