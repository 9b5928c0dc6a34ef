use std::os::fd::AsFd;
use std::rc::Rc;
use std::time::Instant;

use nix::sys::eventfd::{EfdFlags, EventFd};

use super::super::arena::Arena;
use super::*;

/// A ring, where rings are allowed; they must be where mounts must.
pub(crate) fn some_ring() -> Option<Ring> {
    let required = std::env::var_os("FUSEWIRE_REQUIRE_MOUNT").is_some();
    let refused = |why: &io::Error| {
        assert!(!required, "no ring: {why}");
        eprintln!("SKIPPED: no ring: {why}");
    };
    Ring::new(8).inspect_err(refused).ok()
}

#[test]
fn a_ring_takes_its_own_operations_only() {
    let Some(mut ring) = some_ring() else { return };
    ring.push(Entry128::from(opcode::Nop::new().build().user_data(7))).unwrap();
    let openat = opcode::OpenAt::new(types::Fd(libc::AT_FDCWD), c"/".as_ptr()).build();
    ring.push(Entry128::from(openat.user_data(8))).unwrap();
    ring.turn(2).unwrap();
    let mut taken = Vec::new();
    ring.completions(&mut taken);
    assert_eq!(taken, [(7, -libc::EACCES), (8, -libc::EACCES)]);
    let Backend::Uring(uring) = &ring.backend else { unreachable!("a real ring") };
    let registered = uring.submitter().register_files(&[0]);
    assert_eq!(registered.unwrap_err().raw_os_error(), Some(libc::EACCES));
    let zero = std::fs::File::open("/dev/zero").unwrap();
    let mut bytes = [1; 8];
    let at = Memory { at: bytes.as_mut_ptr(), len: bytes.len() };
    let read = FileOperation::Read { at, offset: 0 };
    ring.file(9, zero.as_raw_fd(), read).unwrap();
    ring.turn(1).unwrap();
    taken.clear();
    ring.completions(&mut taken);
    assert_eq!((taken, bytes), (vec![(9, 8)], [0; 8]));
}

/// A slot's frame, and an eventfd in the place of the device.
fn device() -> (Rc<Arena>, EventFd) {
    let flags = EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC;
    (Arena::new(2, 8192, 4096).unwrap(), EventFd::from_value_and_flags(0, flags).unwrap())
}

fn taken(ring: &mut Ring, wait: usize) -> Vec<(Key, i32)> {
    ring.turn(wait).unwrap();
    let mut taken = Vec::new();
    ring.completions(&mut taken);
    taken
}

#[test]
fn a_ring_is_left_out_while_one_read_waits_alone() {
    let Some(mut ring) = some_ring() else { return };
    let (arena, device) = device();
    let bell = EventFd::from_value_and_flags(0, EfdFlags::EFD_NONBLOCK).unwrap();
    let (pipe, end) = nix::unistd::pipe().unwrap();
    let read = |ring: &mut Ring, key, slot| {
        ring.read_frame(key, device.as_fd(), &arena.hold(slot).lend());
    };
    ring.poll_readable(1, bell.as_fd());
    read(&mut ring, 2, 0);
    assert_eq!(taken(&mut ring, 0), []);
    device.write(1).unwrap();
    assert_eq!(taken(&mut ring, 1), [(2, 8)]);
    assert_eq!((ring.in_flight, ring.plain.reads()), (0, 0), "the ring had nothing");
    arena.reclaim(0);

    // An operation on a file takes all that waits with it.
    let mut byte = [0];
    let at = Memory { at: byte.as_mut_ptr(), len: 1 };
    ring.file(3, pipe.as_raw_fd(), FileOperation::Read { at, offset: u64::MAX }).unwrap();
    read(&mut ring, 4, 0);
    assert_eq!(taken(&mut ring, 0), []);
    assert_eq!((ring.in_flight, ring.plain.reads()), (3, 0));
    device.write(1).unwrap();
    assert_eq!(taken(&mut ring, 1), [(4, 8)]);
    arena.reclaim(0);
    nix::unistd::write(&end, b"x").unwrap();
    assert_eq!(taken(&mut ring, 1), [(3, 1)]);

    // The poll stays with the ring, and is heard all the same.
    read(&mut ring, 5, 0);
    bell.write(1).unwrap();
    assert_eq!(taken(&mut ring, 1), [(1, 1)]);
    assert_eq!((ring.in_flight, ring.plain.reads()), (0, 1));
    // A second read asks for turns that take many.
    read(&mut ring, 6, 1);
    assert_eq!(taken(&mut ring, 0), []);
    assert_eq!((ring.in_flight, ring.plain.reads()), (2, 0));
    ring.cancel_all();
    let mut ended = taken(&mut ring, 2);
    ended.sort_unstable();
    assert_eq!(ended, [(5, -libc::ECANCELED), (6, -libc::ECANCELED)]);
    (0..2).for_each(|slot| arena.reclaim(slot));
}

#[test]
fn it_is_watched_awake_for_messages_and_the_bell() {
    for mut ring in some_ring().into_iter().chain([Ring::plain()]) {
        let (arena, device) = device();
        let bell = EventFd::from_value_and_flags(0, EfdFlags::EFD_NONBLOCK).unwrap();
        let limit = Duration::from_millis(2);
        // A thread that waits to run, as on a busy machine, has not looked in vain.
        let watched = |ring: &mut Ring| loop {
            match ring.watch(limit).unwrap() {
                Some(Watch::Preempted) => {}
                ended => break ended,
            }
        };
        ring.poll_readable(1, bell.as_fd());
        assert_eq!(ring.watch(limit).unwrap(), None, "nothing is to be read");
        ring.read_frame(2, device.as_fd(), &arena.hold(0).lend());
        let start = Instant::now();
        assert_eq!(watched(&mut ring), Some(Watch::InVain));
        assert!(start.elapsed() >= limit);
        device.write(1).unwrap();
        assert_eq!(watched(&mut ring), Some(Watch::Came));
        assert_eq!(taken(&mut ring, 1), [(2, 8)], "and turns no more");
        arena.reclaim(0);
        // What has completed already is not what comes.
        ring.read_frame(3, device.as_fd(), &arena.hold(0).lend());
        let answer = arena.hold(1).lend_reply(0..0);
        ring.write_reply(4, device.as_fd(), &answer, true).unwrap();
        arena.reclaim(1);
        assert_eq!(ring.came(), 1);
        assert_eq!(watched(&mut ring), Some(Watch::InVain));
        bell.write(1).unwrap();
        assert_eq!(watched(&mut ring), Some(Watch::Came), "the bell");
        assert_eq!(taken(&mut ring, 1), [(4, -libc::EINVAL), (1, 1)]);
        ring.cancel_all();
        arena.reclaim(0);
    }
}

#[test]
fn a_ring_with_operations_is_watched_awake_too() {
    let Some(mut ring) = some_ring() else { return };
    let (pipe, end) = nix::unistd::pipe().unwrap();
    let mut byte = [0];
    let at = Memory { at: byte.as_mut_ptr(), len: 1 };
    let read = |ring: &mut Ring, key| {
        let read = FileOperation::Read { at, offset: u64::MAX };
        ring.file(key, pipe.as_raw_fd(), read).unwrap();
    };
    read(&mut ring, 1);
    let limit = Duration::from_millis(2);
    let watched = |ring: &mut Ring| loop {
        match ring.watch(limit).unwrap() {
            Some(Watch::Preempted) => {}
            ended => break ended,
        }
    };
    assert_eq!(watched(&mut ring), Some(Watch::InVain));
    let enters = ring.enters();
    nix::unistd::write(&end, b"x").unwrap();
    assert_eq!(ring.came(), 0, "its task work is to run");
    assert!(matches!(watched(&mut ring), Some(Watch::AtOnce)));
    assert_eq!((ring.came(), ring.enters()), (1, enters + 1));
    // What came is left, and is not what comes.
    read(&mut ring, 2);
    assert_eq!(watched(&mut ring), Some(Watch::InVain));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(20));
            nix::unistd::write(&end, b"y").unwrap();
        });
        let start = Instant::now();
        let came = loop {
            // It may look in vain, or be kept from looking, as often as it takes.
            match ring.watch(Duration::from_secs(10)).unwrap() {
                Some(Watch::Preempted) => {}
                ended => break ended,
            }
        };
        // Where it was preempted at the end the task work is there before the next one looks.
        assert!(matches!(came, Some(Watch::Came | Watch::AtOnce)), "{came:?}");
        assert!(start.elapsed() < Duration::from_secs(5));
    });
    assert_eq!(taken(&mut ring, 2), [(1, 1), (2, 1)]);
}

#[test]
fn what_has_come_is_gathered_before_what_was_pushed_is_submitted() {
    let Some(mut ring) = some_ring() else { return };
    let (arena, device) = device();
    let (pipe, end) = nix::unistd::pipe().unwrap();
    let mut byte = [0];
    let at = Memory { at: byte.as_mut_ptr(), len: 1 };
    // Waits in the ring, as what comes with it does.
    ring.file(1, pipe.as_raw_fd(), FileOperation::Read { at, offset: u64::MAX }).unwrap();
    ring.read_frame(2, device.as_fd(), &arena.hold(0).lend());
    assert_eq!(taken(&mut ring, 0), []);
    assert!(!ring.gather().unwrap(), "nothing is pushed, nothing comes");
    ring.push(Entry128::from(opcode::Nop::new().build().user_data(3))).unwrap();
    assert!(!ring.gather().unwrap(), "nothing comes");
    device.write(1).unwrap();
    assert!(ring.gather().unwrap());
    let mut came = Vec::new();
    ring.completions(&mut came);
    assert_eq!((came, ring.all_submitted()), (vec![(2, 8)], false));
    arena.reclaim(0);
    assert!(!ring.gather().unwrap(), "all has come");
    assert_eq!(taken(&mut ring, 1), [(3, -libc::EACCES)], "of those no ring of ours takes");
    nix::unistd::write(&end, b"x").unwrap();
    assert!(!ring.gather().unwrap(), "nothing is pushed");
    assert_eq!(taken(&mut ring, 1), [(1, 1)]);
}

#[test]
fn a_read_for_later_does_not_begin_before_and_ends_once() {
    let Some(mut ring) = some_ring() else { return };
    let (arena, device) = device();
    device.write(1).unwrap();
    let start = Instant::now();
    ring.read_frame_later(1, device.as_fd(), &arena.hold(0).lend()).unwrap();
    // A timeout ends a wait, too (io_uring/io_uring.h, `io_should_wake`).
    let came = std::iter::from_fn(|| Some(taken(&mut ring, 1))).take(3).flatten();
    assert_eq!(came.take(1).collect::<Vec<_>>(), [(1, 8)]);
    assert!(start.elapsed() >= Duration::from_millis(1));
    assert_eq!(ring.in_flight, 0);
    arena.reclaim(0);
    ring.read_frame_later(2, device.as_fd(), &arena.hold(0).lend()).unwrap();
    ring.turn(0).unwrap();
    let mut ended = Vec::new();
    while ended.is_empty() {
        // Again, if the read had begun by itself meanwhile.
        ring.cancel_all();
        ring.turn_within(1, Duration::from_millis(100)).unwrap();
        ring.completions(&mut ended);
    }
    assert_eq!(ended, [(2, -libc::ECANCELED)]);
    assert_eq!((taken(&mut ring, 0), ring.in_flight), (vec![], 0));
    arena.reclaim(0);
}

/// Messages that are there each time keep nobody waiting who rings.
#[test]
fn the_bell_is_heard_through_a_backlog() {
    for mut ring in some_ring().into_iter().chain([Ring::plain()]) {
        let (arena, device) = device();
        let bell = EventFd::from_value_and_flags(1, EfdFlags::EFD_NONBLOCK).unwrap();
        ring.poll_readable(1, bell.as_fd());
        let mut taken = Vec::new();
        for _ in 0..16 {
            device.write(1).unwrap();
            ring.read_frame(2, device.as_fd(), &arena.hold(0).lend());
            assert_eq!(ring.watch(Duration::from_secs(1)).unwrap(), Some(Watch::Came));
            ring.completions(&mut taken);
            arena.reclaim(0);
        }
        assert_eq!(taken.iter().filter(|(key, _)| *key == 2).count(), 16);
        assert!(taken.contains(&(1, 1)), "the bell: {taken:?}");
    }
}

#[test]
fn what_waits_without_a_ring_is_cancelled_too() {
    for mut ring in some_ring().into_iter().chain([Ring::plain()]) {
        let (arena, device) = device();
        ring.read_frame(1, device.as_fd(), &arena.hold(0).lend());
        ring.cancel_all();
        let start = Instant::now();
        ring.turn_within(1, Duration::from_secs(20)).unwrap();
        assert!(start.elapsed().as_secs() < 10, "it looked at the ring alone");
        assert_eq!(taken(&mut ring, 0), [(1, -libc::ECANCELED)]);
        arena.reclaim(0);
    }
}
