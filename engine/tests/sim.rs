//! The engine without a mount: what it owes to a filesystem and to a kernel, whatever either does.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::cell::{Cell, RefCell};
use std::fs::{self, File};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use fusewire::proto::flags::{GetAttrFlags, InitFlags, OpenFlags, ReadFlags, WriteFlags};
use fusewire::proto::op::{
    Forget, GetAttr, Interrupt, Lookup, Read, ReadDirPlus, ReadLink, StatFs, Write,
};
use fusewire::proto::{
    Attr, Attributes, Entry, Errno, Fh, FileType, FsStats, LookupCount, Mode, Name, NodeId,
    Operation, Reply, Result, Unique, frame,
};
use fusewire::sim::{Caller, Error, Simulation};
use fusewire::{Answer, Context, Detached, DirPlusBuf, Filesystem, ReadBuf};

const SIZE: usize = 1 << 20;

#[derive(Default)]
struct Seen {
    forgotten: RefCell<Vec<(NodeId, LookupCount)>>,
    kept: RefCell<Vec<Detached>>,
    /// Where WRITE's data lay in memory, and how many.
    data: Cell<(usize, usize)>,
    callers: RefCell<Vec<(u32, u32, u32)>>,
}

/// A node's number says how it behaves.
struct Odd {
    seen: Rc<Seen>,
    bytes: Arc<Vec<u8>>,
}

const PLAIN: NodeId = NodeId(2);
const PANICS: NodeId = NodeId(3);
const KEEPS: NodeId = NodeId(4);
const DROPS: NodeId = NodeId(5);
const WAITS: NodeId = NodeId(6);
const ELSEWHERE: NodeId = NodeId(7);
const SHAPELESS: NodeId = NodeId(8);
const FILE: NodeId = NodeId(9);

/// Bytes that are there once.
#[derive(Default)]
struct Shrinking(AtomicBool);

impl AsRef<[u8]> for Shrinking {
    fn as_ref(&self) -> &[u8] {
        if self.0.swap(true, Ordering::Relaxed) { &[] } else { &[1; 8192] }
    }
}

fn entry(nodeid: NodeId) -> Entry {
    let attr = Attr { ino: nodeid.0, mode: Mode(0o100_644), nlink: 1, ..Attr::default() };
    Entry { nodeid, attr, ..Entry::default() }
}

impl Filesystem for Odd {
    const WISHES: InitFlags = InitFlags::DO_READDIRPLUS;

    async fn lookup(&self, cx: &Context<'_>, op: Lookup<'_>) -> Result<Entry> {
        self.seen.callers.borrow_mut().push((cx.uid(), cx.gid(), cx.pid()));
        if op.name.as_bytes() == b"there" { Ok(entry(PLAIN)) } else { Err(Errno::ENOENT) }
    }

    fn forget(&self, node: NodeId, lookups: LookupCount) {
        self.seen.forgotten.borrow_mut().push((node, lookups));
    }

    async fn getattr(&self, cx: &Context<'_>, _: GetAttr) -> Result<Attributes> {
        let answer = Attributes { attr: entry(cx.node()).attr, ..Attributes::default() };
        match cx.node() {
            PANICS => panic!("on purpose"),
            KEEPS => self.seen.kept.borrow_mut().push(cx.detach()),
            DROPS => drop(cx.detach()),
            WAITS => {
                cx.interrupted().await;
                return Err(Errno::EINTR);
            }
            ELSEWHERE => {
                let token = cx.detach();
                thread::spawn(move || token.answer(Answer::Reply(Reply::Attributes(answer))));
            }
            SHAPELESS => return Ok(Attributes::default()),
            _ => {}
        }
        Ok(answer)
    }

    async fn read(&self, cx: &Context<'_>, op: Read, out: &mut ReadBuf<'_>) -> Result<()> {
        if cx.node() == SHAPELESS {
            out.share(Arc::<Shrinking>::default(), 0..8192);
            return Ok(());
        }
        if cx.node() == FILE {
            let file = File::open("/proc/self/exe").map_err(|_| Errno::EIO)?;
            return cx.io().read_at(&Arc::new(file.into()), out, op.offset).await.map(drop);
        }
        let start = usize::try_from(op.offset).unwrap().min(SIZE);
        let end = SIZE.min(start + op.size as usize);
        // Both ways that an answer can be made of.
        let middle = start + (end - start) / 2;
        out.append(&self.bytes[start..middle]);
        out.share(Arc::clone(&self.bytes) as _, middle..end);
        Ok(())
    }

    async fn write(&self, _: &Context<'_>, op: Write<'_>) -> Result<u32> {
        self.seen.data.set((op.data.as_ptr().addr(), op.data.len()));
        Ok(op.data.len().try_into().unwrap())
    }

    async fn readdirplus(
        &self,
        _: &Context<'_>,
        _: ReadDirPlus,
        out: &mut DirPlusBuf<'_>,
    ) -> Result<()> {
        for (place, name) in [".", "a", "b"].into_iter().enumerate() {
            let (ino, place) = (place as u64 + 20, place as u64 + 1);
            let entry = entry(NodeId(ino));
            out.add(Some(&entry), ino, place, FileType::REGULAR, name.as_bytes());
        }
        Ok(())
    }

    async fn readlink(&self, _: &Context<'_>, _: ReadLink, _: &mut ReadBuf<'_>) -> Result<()> {
        Ok(())
    }

    async fn statfs(&self, _: &Context<'_>, _: StatFs) -> Result<FsStats> {
        Ok(FsStats { bsize: 4096, frsize: 4096, namelen: 255, ..FsStats::default() })
    }
}

fn odd() -> (Simulation, Rc<Seen>) {
    let seen = Rc::<Seen>::default();
    let bytes = (0..SIZE).map(|at| u8::try_from(at / 7 % 251).unwrap()).collect();
    let filesystem = Odd { seen: Rc::clone(&seen), bytes: Arc::new(bytes) };
    (Simulation::new(filesystem).unwrap(), seen)
}

fn getattr() -> Operation<'static> {
    Operation::GetAttr(GetAttr { fh: None, getattr_flags: GetAttrFlags::empty() })
}

fn lookup(name: &[u8]) -> Operation<'_> {
    Operation::Lookup(Lookup { name: Name::new(name).unwrap() })
}

fn read(offset: u64, size: u32) -> Operation<'static> {
    let (read_flags, flags) = (ReadFlags::empty(), OpenFlags::empty());
    Operation::Read(Read { fh: Fh(0), offset, size, read_flags, lock_owner: None, flags })
}

fn write(data: &[u8]) -> Operation<'_> {
    let (write_flags, flags) = (WriteFlags::empty(), OpenFlags::empty());
    Operation::Write(Write { fh: Fh(0), offset: 0, data, write_flags, lock_owner: None, flags })
}

fn error(sim: &mut Simulation, node: NodeId) -> Errno {
    sim.ask(Caller::default(), node, &getattr()).unwrap().unwrap_err()
}

#[test]
fn answers_are_those_of_the_filesystem() {
    let (mut sim, seen) = odd();
    let caller = Caller { uid: 7, gid: 8, pid: 9 };
    let found = sim.ask(caller, NodeId::ROOT, &lookup(b"there")).unwrap();
    assert_eq!(found, Ok(Reply::Entry(entry(PLAIN))));
    assert_eq!(*seen.callers.borrow(), [(7, 8, 9)]);
    let missing = sim.ask(caller, NodeId::ROOT, &lookup(b"missing")).unwrap();
    assert_eq!(missing, Err(Errno::ENOENT));
    let statx = Operation::ReadLink(ReadLink {});
    assert!(matches!(sim.ask(caller, PLAIN, &statx), Ok(Ok(Reply::Bytes(b"")))));
    let stats = sim.stats();
    assert_eq!((stats.requests(), stats.panics, stats.malformed, stats.undelivered), (3, 0, 0, 0));
}

#[test]
fn data_go_both_ways_and_what_is_written_lies_on_a_page() {
    let (mut sim, seen) = odd();
    for (offset, size) in [(0, 1 << 20), (5, 100_000), (SIZE - 3, 4096), (SIZE, 4096)] {
        let answer = sim.ask(Caller::default(), PLAIN, &read(offset as u64, size)).unwrap();
        let end = SIZE.min(offset + size as usize);
        let wanted: Vec<_> = (offset..end).map(|at| u8::try_from(at / 7 % 251).unwrap()).collect();
        assert!(answer == Ok(Reply::Bytes(&wanted)), "{size} bytes at {offset}");
    }
    let data = vec![1; 1 << 20];
    let answer = sim.ask(Caller::default(), PLAIN, &write(&data)).unwrap();
    assert_eq!(answer, Ok(Reply::Written(1 << 20)));
    let (at, len) = seen.data.get();
    assert_eq!((at % 4096, len), (0, 1 << 20), "in the slot, not in a copy");
    let data = vec![1; (1 << 20) + 8192];
    assert!(matches!(sim.ask(Caller::default(), PLAIN, &write(&data)), Err(Error::TooLong(_))));
}

#[test]
fn every_request_has_one_answer_whatever_its_handler_does() {
    let (mut sim, seen) = odd();
    assert_eq!(error(&mut sim, PANICS), Errno::EIO);
    assert_eq!(error(&mut sim, DROPS), Errno::EIO);
    assert_eq!(sim.stats().panics, 1);
    let elsewhere = sim.ask(Caller::default(), ELSEWHERE, &getattr()).unwrap();
    assert!(matches!(elsewhere, Ok(Reply::Attributes(_))));
    let kept = sim.send(Caller::default(), KEEPS, &getattr()).unwrap();
    while seen.kept.borrow().is_empty() {
        assert!(sim.turn().unwrap());
    }
    assert!(matches!(sim.answer(kept), Err(Error::Unanswered)));
    let attributes = Attributes { attr: entry(KEEPS).attr, ..Attributes::default() };
    seen.kept.take().pop().unwrap().answer(Answer::Reply(Reply::Attributes(attributes)));
    sim.run().unwrap();
    let header = frame::out_header(sim.answer(kept).unwrap()).unwrap();
    assert_eq!((header.unique, header.error, header.len), (kept, 0, 16 + 104));
    assert!(matches!(sim.answer(kept), Err(Error::Unanswered)), "one answer");
    assert_eq!(sim.stats().requests(), 4);
}

#[test]
fn more_requests_than_slots_are_all_answered() {
    let (mut sim, _) = odd();
    let uniques: Vec<_> =
        (0..1000).map(|_| sim.send(Caller::default(), PLAIN, &getattr()).unwrap()).collect();
    sim.run().unwrap();
    assert!(uniques.iter().all(|unique| sim.answer(*unique).is_ok()));
    assert!(!sim.turn().unwrap());
    assert_eq!(sim.stats().requests(), 1000);
}

#[test]
fn an_interrupt_reaches_its_request_before_and_behind_it() {
    let (mut sim, _) = odd();
    let interrupt = |unique| Operation::Interrupt(Interrupt { unique });
    let ends = |sim: &mut Simulation, unique| {
        sim.run().unwrap();
        let header = frame::out_header(sim.answer(unique).unwrap()).unwrap();
        assert_eq!(header.error, -libc::EINTR);
    };
    let waits = sim.send(Caller::default(), WAITS, &getattr()).unwrap();
    sim.send(Caller::default(), NodeId(0), &interrupt(waits)).unwrap();
    ends(&mut sim, waits);
    // The kernel's uniques count up by two: that of the interrupt, of one more, and its own.
    let early = Unique(waits.0 + 2 * 4);
    let sent = sim.send(Caller::default(), NodeId(0), &interrupt(early)).unwrap();
    assert_eq!(sent, Unique(waits.0 + 2 * 2));
    sim.run().unwrap();
    // Brings the turn in which the shard hears of it.
    assert!(sim.ask(Caller::default(), PLAIN, &getattr()).unwrap().is_ok());
    assert_eq!(sim.send(Caller::default(), WAITS, &getattr()).unwrap(), early);
    ends(&mut sim, early);
}

#[test]
fn lookups_of_answers_that_nobody_took_are_taken_back() {
    let (mut sim, seen) = odd();
    let found = sim.send(Caller::default(), NodeId::ROOT, &lookup(b"there")).unwrap();
    sim.leave(found);
    let listing = Operation::ReadDirPlus(ReadDirPlus {
        fh: Fh(0),
        offset: 0,
        size: 4096,
        read_flags: ReadFlags::empty(),
        lock_owner: None,
        flags: OpenFlags::empty(),
    });
    let listed = sim.send(Caller::default(), NodeId::ROOT, &listing).unwrap();
    sim.leave(listed);
    let missing = sim.send(Caller::default(), NodeId::ROOT, &lookup(b"missing")).unwrap();
    sim.leave(missing);
    sim.run().unwrap();
    for unique in [found, listed, missing] {
        assert!(matches!(sim.answer(unique), Err(Error::Unanswered)));
    }
    let one = LookupCount(1);
    // "." is no lookup (fs/fuse/readdir.c, fuse_direntplus_link).
    let mut forgotten = seen.forgotten.take();
    forgotten.sort();
    assert_eq!(forgotten, [(PLAIN, one), (NodeId(21), one), (NodeId(22), one)]);
    assert_eq!(sim.stats().undelivered, 3);

    let forget = Operation::Forget(Forget { lookups: LookupCount(5) });
    assert!(matches!(sim.ask(Caller::default(), PLAIN, &forget), Err(Error::Unanswered)));
    assert_eq!(seen.forgotten.take(), [(PLAIN, LookupCount(5))]);
    assert!(sim.ask(Caller::default(), NodeId::ROOT, &lookup(b"there")).is_ok());
    assert_eq!(seen.forgotten.take(), [], "a lookup that arrived stays");
}

#[test]
fn what_is_no_message_is_refused_and_those_behind_it_are_served() {
    let (mut sim, _) = odd();
    let mut message = vec![0; 56];
    let envelope = fusewire::proto::Envelope { unique: Unique(1000), ..Default::default() };
    let forms = sim.agreement().forms();
    getattr().encode(&envelope, forms, &mut message).unwrap();
    let errno =
        |sim: &mut Simulation| frame::out_header(sim.answer(Unique(1000)).unwrap()).unwrap().error;
    for len in 0..56 {
        sim.send_bytes(&message[..len]).unwrap();
        sim.run().unwrap();
        if len >= 40 {
            assert_eq!(errno(&mut sim), -libc::EIO, "{len} bytes");
        }
        assert!(matches!(sim.answer(Unique(1000)), Err(Error::Unanswered)));
    }
    assert_eq!(sim.stats().malformed, 56);
    // Its length says so, but GETATTR has 16 bytes more.
    message[0] = 40;
    sim.send_bytes(&message[..40]).unwrap();
    message[4] = 200;
    sim.send_bytes(&message[..40]).unwrap();
    sim.run().unwrap();
    let errno =
        |sim: &mut Simulation| frame::out_header(sim.answer(Unique(1000)).unwrap()).unwrap().error;
    assert_eq!([errno(&mut sim), errno(&mut sim)], [-libc::EIO, -libc::ENOSYS]);
    assert_eq!((sim.stats().malformed, sim.stats().unknown), (57, 1));
    assert!(sim.ask(Caller::default(), PLAIN, &getattr()).unwrap().is_ok());
}

#[test]
fn a_simulation_ends_also_with_requests_that_wait() {
    let (mut sim, seen) = odd();
    sim.send(Caller::default(), KEEPS, &getattr()).unwrap();
    sim.send(Caller::default(), WAITS, &getattr()).unwrap();
    sim.turn().unwrap();
    drop(sim);
    seen.kept.take().into_iter().for_each(drop);
}

#[test]
fn what_the_kernel_would_refuse_is_told() {
    let (mut sim, _) = odd();
    // No type of file.
    let shapeless = sim.ask(Caller::default(), SHAPELESS, &getattr());
    assert!(matches!(shapeless, Err(Error::Refused(_))), "{shapeless:?}");
    // The bytes that an answer shares have gone.
    let shrunk = sim.ask(Caller::default(), SHAPELESS, &read(0, 8192));
    assert!(matches!(shrunk, Err(Error::Refused(_))), "{shrunk:?}");
}

#[test]
fn who_leaves_and_who_sends_bytes_touches_no_other_request() {
    let (mut sim, _) = odd();
    sim.leave(Unique(2));
    assert!(sim.ask(Caller::default(), PLAIN, &getattr()).unwrap().is_ok());
    let mut message = vec![0; 56];
    let envelope = |unique, nodeid| fusewire::proto::Envelope {
        unique: Unique(unique),
        nodeid,
        ..Default::default()
    };
    let forms = sim.agreement().forms();
    for unique in [4, u64::MAX, 1 << 62] {
        getattr().encode(&envelope(unique, NodeId(77)), forms, &mut message).unwrap();
        sim.send_bytes(&message).unwrap();
        let Ok(Reply::Attributes(answer)) = sim.ask(Caller::default(), PLAIN, &getattr()).unwrap()
        else {
            panic!("attributes");
        };
        assert_eq!(answer.attr.ino, PLAIN.0, "beside {unique}");
    }
    let found = sim.send(Caller::default(), NodeId::ROOT, &lookup(b"there")).unwrap();
    sim.run().unwrap();
    sim.leave(found);
    assert!(sim.answer(found).is_ok(), "it came before");
    assert!(sim.ask(Caller::default(), PLAIN, &getattr()).unwrap().is_ok());
    assert_eq!(sim.stats().undelivered, 0);
}

#[test]
fn a_wait_for_nobody_ends() {
    let (mut sim, _) = odd();
    sim.patience(Duration::from_millis(20));
    let waits = sim.ask(Caller::default(), WAITS, &getattr());
    assert!(matches!(waits, Err(Error::Waits)), "{waits:?}");
    assert!(sim.turn().is_err_and(|error| matches!(error, Error::Waits)));
}

#[test]
fn files_are_read_by_the_engine_too() {
    let (mut sim, _) = odd();
    let Ok(Reply::Bytes(bytes)) = sim.ask(Caller::default(), FILE, &read(0, 64)).unwrap() else {
        panic!("bytes");
    };
    assert_eq!(bytes, &fs::read("/proc/self/exe").unwrap()[..64]);
}

#[test]
fn what_cannot_be_honoured_is_not_agreed() {
    struct Wishful;
    impl Filesystem for Wishful {
        const WISHES: InitFlags = InitFlags::PASSTHROUGH.union(InitFlags::WRITEBACK_CACHE);
    }
    let sim = Simulation::new(Wishful).unwrap();
    let agreed = sim.agreement().flags;
    assert!(agreed.contains(InitFlags::WRITEBACK_CACHE), "{agreed:?}");
    assert!(!agreed.intersects(InitFlags::PASSTHROUGH | InitFlags::OVER_IO_URING), "{agreed:?}");
}
