//! Puts a shard on the CPU where it had best be: on that of its callers, or on another, from which
//! it may go anywhere.
//!
//! A caller who makes one request at a time sleeps while it is served. On his CPU the shard starts
//! where the caller stops, and the other way round; on another CPU each of the two steps wakes an
//! idle one, which takes longer than most requests, also those of some hundred KiB. Of requests
//! that overlap some are served on one CPU while others are made on another: perhaps worth it.
//!
//! A queue of FUSE-over-io_uring tells the CPU (`fs/fuse/dev_uring.c, fuse_uring_task_to_queue`);
//! on `/dev/fuse`, `whereabouts` finds it. What else becomes of a shard that joins its callers says
//! `lead`. Never known here: what the requests are. Neighbours: `callers` says where; `shard`.

use std::fs::File;
use std::io::Result;
use std::time::Instant;

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

use crate::callers::{Callers, Place};
use crate::lead::{Cpus, Member};
use crate::scales::Work;
use crate::sys::ring::Ring;
use crate::thread::{self, Scheduled};
use crate::whereabouts::{Caller, Whereabouts};

/// Work of a turn at most whose answers wait for others: data in a cache do not.
const LIGHT: u64 = 32;
/// The calling thread.
const THIS: Pid = Pid::from_raw(0);

/// Where the calling thread runs, and what speaks for another place.
#[derive(Debug)]
pub(crate) struct Placement {
    /// Where it was free to run at its start; nothing where it is not to be moved.
    home: Option<CpuSet>,
    /// Where it is free to run now.
    current: CpuSet,
    place: Place,
    callers: Callers,
    member: Member,
    /// What was done until the last turn, and in it.
    work: u64,
    last: u64,
    /// Whether the last turn was for more to come.
    gathered: bool,
    whereabouts: Option<Whereabouts>,
    /// Where the kernel tells what it counts of the thread, where that is of interest; opened while
    /// there is a `/proc`.
    counts: Option<File>,
}

impl Placement {
    /// For the calling thread, to `follow` its callers or to stay as it is; with what finds those
    /// whom the transport does not.
    pub(crate) fn new(follow: bool, member: Member, whereabouts: Option<Whereabouts>) -> Self {
        let home = if follow { sched_getaffinity(THIS).ok() } else { None };
        let counts = || File::open("/proc/thread-self/schedstat").ok();
        // Where all share callers others can serve while this one waits, however little it does.
        let counts = (home.is_some() && !member.shares()).then(counts).flatten();
        Self {
            home,
            current: home.unwrap_or_default(),
            place: Place::Anywhere,
            callers: Callers::default(),
            member,
            work: 0,
            last: 0,
            gathered: false,
            whereabouts,
            counts,
        }
    }

    /// A request of the thread `pid` came.
    pub(crate) fn arrived(&mut self, caller: Caller, pid: u32) {
        if self.home.is_none() {
            return;
        }
        let cpu = match caller {
            Caller::Nobody => return,
            Caller::On(cpu) => Some(cpu),
            Caller::Somewhere => self.whereabouts.as_mut().and_then(|them| them.cpu(pid)),
        };
        self.callers.arrived(cpu);
    }

    /// What the shard does while it has joined its callers.
    pub(crate) fn member(&self) -> &Member {
        &self.member
    }

    /// Has the ring bring what callers have asked for meanwhile before it sends the answers of the
    /// last turn, and tells whether it has.
    ///
    /// A wait with deferred task work brings one completion however many there are
    /// (`io_uring/io_uring.c, io_cqring_wait`), and on his own CPU a caller goes on at once when he
    /// is answered: of several requests each would cost two switches of threads.
    pub(crate) fn gathers(&mut self, ring: &mut Ring) -> Result<bool> {
        let may = (1..=LIGHT).contains(&self.last) && !self.gathered && self.member.has_joined();
        self.gathered = may && ring.gather()?;
        Ok(self.gathered)
    }

    /// A request is about to be answered, and moved so many bytes of data.
    pub(crate) fn answered(&mut self, caller: Caller, bytes: u64) {
        self.member.rests();
        if caller != Caller::Nobody && self.home.is_some() {
            self.member.worked(bytes);
        }
    }

    /// The requests of a turn are served as far as they can be. Moves the thread if it is time.
    pub(crate) fn turned(&mut self, now: Instant) {
        let Some(home) = self.home else { return };
        let work = self.member.work();
        let own = work - std::mem::replace(&mut self.work, work);
        let others = if self.callers.is_comparing() { self.member.others_work() } else { 0 };
        self.last = own;
        if self.member.others_lead() {
            // What is done now tells nothing about where this one is.
            self.callers.left_out();
        }
        let counted = || self.counts.as_ref().and_then(Scheduled::told);
        self.callers.turned(Work { own, others }, now, counted);
        self.member.reserves(self.callers.is_comparing());
        let place = match self.callers.place() {
            // They all have these callers, and elsewhere each of them is free.
            Place::Off(_) if self.member.shares() => Place::Anywhere,
            place => place,
        };
        let joins = matches!(place, Place::On(_));
        if joins && self.member.has_joined() {
            return;
        }
        self.member.leave();
        // From here on no sentry moves it.
        if self.member.was_sent_home() {
            self.is_at(Place::Anywhere, home, home);
        }
        if self.member.has_hung() {
            self.callers.hung();
            self.goes(Place::Anywhere, home);
        } else if !joins {
            self.goes(place, home);
        } else if !(self.member.may_join()
            && self.goes(place, home)
            && self.member.join(Cpus { here: self.current, home }))
        {
            self.callers.refused();
            self.goes(Place::Anywhere, home);
        }
    }

    /// Tells whether the thread is there.
    fn goes(&mut self, place: Place, home: CpuSet) -> bool {
        if place == self.place {
            return true;
        }
        let Some(there) = among(home, place) else { return false };
        // Once it is off that CPU it is free: nobody looks after a thread that is kept elsewhere.
        let stays = if matches!(place, Place::Off(_)) { home } else { there };
        // Somebody else may have said by now where the thread is to run: that holds from then on.
        let is_ours = sched_getaffinity(THIS).is_ok_and(|now| now == self.current);
        let goes = is_ours
            && sched_setaffinity(THIS, &there).is_ok()
            && (stays == there || sched_setaffinity(THIS, &stays).is_ok());
        if goes {
            self.is_at(place, stays, home);
        } else {
            tracing::debug!("a shard stays where somebody else has put its thread");
            self.ends();
        }
        goes
    }

    fn is_at(&mut self, place: Place, there: CpuSet, home: CpuSet) {
        (self.current, self.place) = (there, place);
        thread::starts_others_on(matches!(place, Place::On(_)).then_some(home));
    }

    /// The shard serves no more, or follows nobody.
    pub(crate) fn ends(&mut self) {
        self.member.leave();
        self.member.reserves(false);
        thread::starts_others_on(None);
        self.home = None;
    }
}

/// The CPUs of a place, of those at home; `None` if that is none.
fn among(home: CpuSet, place: Place) -> Option<CpuSet> {
    let mut there = CpuSet::new();
    match place {
        Place::Anywhere => Some(home),
        Place::On(cpu) => (home.is_set(cpu).ok()? && there.set(cpu).is_ok()).then_some(there),
        Place::Off(cpu) => {
            there = home;
            there.unset(cpu).ok()?;
            Some(if there == CpuSet::new() { home } else { there })
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::time::Duration;

    use nix::sched::sched_getcpu;
    use nix::sys::eventfd::{EfdFlags, EventFd};

    use super::*;
    use crate::lead::Lead;
    use crate::sys::arena::Arena;
    use crate::sys::ring::tests::some_ring;

    #[test]
    fn places_are_among_those_at_home() {
        let set = |cpus: &[usize]| {
            let mut set = CpuSet::new();
            cpus.iter().for_each(|cpu| set.set(*cpu).unwrap());
            set
        };
        let home = set(&[1, 2]);
        assert_eq!(among(home, Place::Anywhere), Some(home));
        assert_eq!(among(home, Place::On(2)), Some(set(&[2])));
        assert_eq!(among(home, Place::Off(2)), Some(set(&[1])));
        assert_eq!(among(home, Place::Off(3)), Some(home));
        assert_eq!(among(set(&[1]), Place::Off(1)), Some(set(&[1])), "there is no other");
        for nowhere in [Place::On(3), Place::On(usize::MAX), Place::Off(usize::MAX)] {
            assert_eq!(among(home, nowhere), None);
        }
    }

    /// A CPU, one that is free to run there alone, and all.
    fn cpus() -> (usize, CpuSet, CpuSet) {
        let home = sched_getaffinity(THIS).unwrap();
        let cpu = (0..CpuSet::count()).find(|cpu| home.is_set(*cpu).unwrap()).unwrap();
        let mut only = CpuSet::new();
        only.set(cpu).unwrap();
        (cpu, only, home)
    }

    /// So many turns of one request from a CPU, each of which takes 10 microseconds.
    fn serves(placement: &mut Placement, cpu: usize, turns: u32) {
        let start = Instant::now();
        for turn in 1..=turns {
            placement.arrived(Caller::On(cpu), 0);
            placement.answered(Caller::On(cpu), 0);
            placement.turned(start + Duration::from_micros(10) * turn);
        }
    }

    /// The thread is where it is until it has joined its callers on that CPU, or has left them.
    fn serves_until(placement: &mut Placement, cpu: usize, joined: bool) {
        for _ in 0..1000 {
            serves(placement, cpu, 10);
            if placement.member.has_joined() == joined {
                return;
            }
        }
        panic!("joined: {}", !joined);
    }

    #[test]
    fn a_thread_goes_and_comes_back_unless_it_is_moved_by_others() {
        let (cpu, only, home) = cpus();
        let mut placement = Placement::new(true, Member::new(Lead::new(1, None), 0), None);
        placement.counts = None;
        serves(&mut placement, cpu, 100);
        assert_eq!(sched_getaffinity(THIS), Ok(only));
        assert!(placement.member.has_joined());
        // What is started from there is not to stay there.
        let there = thread::spawn("test", || sched_getaffinity(THIS)).unwrap();
        assert_eq!(there.join().unwrap(), Ok(home));
        let away = among(home, Place::Off(cpu)).unwrap();
        let mut was_away = false;
        for _ in 0..3 {
            serves_until(&mut placement, cpu, false);
            assert_eq!(sched_getaffinity(THIS), Ok(home), "to see how that would be");
            was_away |= away.is_set(sched_getcpu().unwrap()).unwrap();
            serves_until(&mut placement, cpu, true);
            assert_eq!(sched_getaffinity(THIS), Ok(only));
        }
        // Free to go back, it may have been moved by the scheduler, but hardly each time.
        assert!(was_away);
        serves(&mut placement, CpuSet::count(), 1);
        assert!(!placement.member.has_joined(), "he moved");
        assert_eq!(sched_getaffinity(THIS), Ok(home));
        serves(&mut placement, CpuSet::count() + 1, 100);
        assert!(!placement.member.has_joined(), "to where it may not be");
        assert_eq!(sched_getaffinity(THIS), Ok(home));

        serves(&mut placement, cpu, 100);
        assert_eq!(sched_getaffinity(THIS), Ok(only));
        sched_setaffinity(THIS, &home).unwrap();
        if home != only {
            serves_until(&mut placement, cpu, false);
            serves(&mut placement, cpu, 10_000);
            assert_eq!(sched_getaffinity(THIS), Ok(home), "moved against somebody's word");
        }
    }

    #[test]
    fn little_that_is_answered_waits_for_what_has_come_and_once() {
        let Some(mut ring) = some_ring() else { return };
        let (cpu, ..) = cpus();
        let mut placement = Placement::new(true, Member::new(Lead::new(1, None), 0), None);
        let arena = Arena::new(4, 8192, 4096).unwrap();
        let flags = EfdFlags::EFD_NONBLOCK;
        let devices = [(); 4].map(|()| EventFd::from_value_and_flags(0, flags).unwrap());
        for (slot, device) in devices.iter().enumerate() {
            ring.read_frame(slot as u64, device.as_fd(), &arena.hold(slot).lend());
        }
        ring.turn(0).unwrap();
        ring.cancel(99).unwrap();
        let mut gathers = |placement: &mut Placement, slot: usize| {
            devices[slot].write(1).unwrap();
            placement.gathers(&mut ring).unwrap()
        };
        serves(&mut placement, cpu, 1);
        assert!(!gathers(&mut placement, 0), "not beside");
        serves(&mut placement, cpu, 100);
        assert!(gathers(&mut placement, 0));
        assert!(!gathers(&mut placement, 1), "not for ever");
        placement.answered(Caller::On(cpu), 4 << 20);
        placement.turned(Instant::now());
        assert!(placement.member.has_joined());
        assert!(!gathers(&mut placement, 2), "what was answered lies in a cache");
        placement.turned(Instant::now());
        assert!(!gathers(&mut placement, 2), "nothing was answered");
        serves(&mut placement, cpu, 1);
        assert!(gathers(&mut placement, 2));
        ring.turn(0).unwrap();
        ring.cancel_all();
        (0..4).for_each(|slot| arena.reclaim(slot));
    }

    #[test]
    fn who_is_released_is_free_to_run_elsewhere_at_once() {
        let (cpu, only, home) = cpus();
        let lead = Lead::new(1, None);
        let mut placement = Placement::new(true, Member::new(lead.clone(), 0), None);
        serves(&mut placement, cpu, 100);
        assert_eq!(sched_getaffinity(THIS), Ok(only));
        lead.release(0, true);
        assert_eq!(sched_getaffinity(THIS), Ok(home));
        serves(&mut placement, cpu, 100);
        assert!(!placement.member.has_joined(), "not so soon");
        assert_eq!(sched_getaffinity(THIS), Ok(home));
        serves(&mut placement, cpu, 100);
        assert!(placement.member.has_joined(), "but it is still followed");
        lead.release(0, false);
        assert_eq!(sched_getaffinity(THIS), Ok(home), "who only rests, too");
        serves(&mut placement, cpu, 1);
        assert!(placement.member.has_joined(), "and joins again at once");
        assert_eq!(sched_getaffinity(THIS), Ok(only));
    }
}
