//! The thread that looks after shards which have joined callers (`lead`), every few milliseconds
//! while there is one.
//!
//! It releases a shard that keeps others waiting: one that is in the same handler as at the looks
//! before, and one whose thread could run and does not, or waits for its CPU for long each time, as
//! beside somebody who computes. One that has had nothing to do for long is released as well, and
//! then nobody looks any more. It also has threads run as others again that have left a caller.
//!
//! Never known here: requests. Neighbours: `lead`; `crew` starts and ends it.

use std::fs::File;
use std::io::Result;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{JoinHandle, park, park_timeout};
use std::time::{Duration, Instant};

use nix::unistd::gettid;

use crate::lead::{self, Lead, State};
use crate::sys::policy::{self, THIS};
use crate::thread::{self, Scheduled};
use crate::whereabouts::SCOUT;

/// From one look of the sentry to the next: ever longer while all that it looks at moves on.
const TICKS: RangeInclusive<Duration> = Duration::from_millis(2)..=Duration::from_millis(8);
/// Looks that find a shard with nothing to do after which it is released.
const RESTS_MAX: u32 = 8;

/// The same of one that runs one handler all the time, or could run and does not.
const WAITS_MAX: u32 = 2;
/// How long a shard may wait for its CPU each time, on average over so many times: longer than any
/// caller takes to make his next requests whom it is of use to run behind. It waits for others, who
/// compute. What is shorter is for `scales` to weigh.
const DELAY_MAX: (Duration, u64) = (Duration::from_millis(2), 4);

/// Looks until the next one for threads that nobody sees to.
const SWEEP: u32 = 16;

/// See the module.
#[derive(Debug)]
pub(crate) struct Sentry {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Sentry {
    /// # Errors
    /// Those of a thread that does not start.
    pub(crate) fn start(lead: &Arc<Lead>) -> Result<Self> {
        let over = Arc::new(AtomicBool::new(false));
        let (lead, ends) = (Arc::clone(lead), Arc::clone(&over));
        let thread = thread::spawn("fusewire-sentry", move || watch(&lead, &ends))?;
        Ok(Self { over, thread: Some(thread) })
    }
}

impl Drop for Sentry {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // It has no way to panic that would concern anybody.
            let _ = thread.join();
        }
    }
}

fn watch(lead: &Lead, over: &AtomicBool) {
    let this = gettid().as_raw();
    let can_see = is_runnable(this).is_some() && delays(this).is_some();
    let behind = can_see && can_bring_back();
    tracing::debug!(behind, "whether shards run behind callers whom they have joined");
    lead.is_watched_by(std::thread::current(), behind);
    let mut seen = vec![Seen::default(); lead.shards()];
    let (mut tick, mut due, mut looked) = (*TICKS.start(), Instant::now(), 0_u32);
    while !over.load(Ordering::SeqCst) {
        // Called in between, for one that leaves or that has just joined, it looks at no other.
        let now = Instant::now();
        let looks = now >= due;
        let (mut anybody, mut sweep) = (false, false);
        for (index, seen) in seen.iter_mut().enumerate() {
            let (state, thread, beat) = lead.state(index);
            let look = match state {
                State::Joined if !looks => Look::MovesOn,
                State::Joined => seen.look(beat, delays(thread), || {
                    // Where nobody can tell, it runs as others, too, but for this moment.
                    is_runnable(thread).unwrap_or(behind)
                }),
                State::Leaving => Look::Rests,
                State::Free => {
                    *seen = Seen::default();
                    continue;
                }
            };
            anybody |= state == State::Joined;
            match look {
                Look::MovesOn => continue,
                Look::Stands if seen.waits == 0 => continue,
                Look::Stands => {}
                Look::Waits => lead.release(index, true),
                Look::Rests => lead.release(index, false),
            }
            sweep |= matches!(look, Look::Waits | Look::Rests);
            if look != Look::Stands {
                *seen = Seen::default();
            }
            tick = *TICKS.start();
        }
        if behind && (sweep || looks && looked.is_multiple_of(SWEEP)) {
            bring_back_heirs();
        }
        looked += u32::from(looks);
        if looks {
            due = now + tick;
            tick = (tick * 2).min(*TICKS.end());
        }
        if anybody {
            park_timeout(due.saturating_duration_since(Instant::now()));
        } else {
            park();
        }
    }
}

/// What the sentry saw of a shard: its count, how often that was the same, and the kernel's counts.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    beat: u64,
    waits: u32,
    rests: u32,
    delays: Option<Scheduled>,
}

/// What a look at a shard tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look {
    MovesOn,
    Stands,
    /// Others wait for it, and have waited for long.
    Waits,
    /// It has had nothing to do for long.
    Rests,
}

impl Seen {
    /// One more look: at a count, what the kernel has counted, and whether the thread could run.
    fn look(
        &mut self,
        beat: u64,
        delays: Option<Scheduled>,
        is_runnable: impl FnOnce() -> bool,
    ) -> Look {
        let since = self.delays.zip(delays).map(|(before, now)| now.since(before));
        // Too few tell too little: they count with the next.
        if since.is_none_or(|since| since.times >= DELAY_MAX.1) {
            self.delays = delays;
            if since.is_some_and(|since| since.delay() > DELAY_MAX.0) {
                return Look::Waits;
            }
        }
        if beat != self.beat {
            (self.beat, self.waits, self.rests) = (beat, 0, 0);
            return Look::MovesOn;
        }
        if beat % 2 == 1 || is_runnable() {
            // Once, it may just have been woken.
            (self.waits, self.rests) = (self.waits + 1, 0);
        } else {
            (self.waits, self.rests) = (0, self.rests + 1);
        }
        if self.waits < WAITS_MAX && self.rests < RESTS_MAX {
            return Look::Stands;
        }
        if self.waits > 0 { Look::Waits } else { Look::Rests }
    }
}

/// Has threads run as others that were begun by one which did not, as workers of its ring: they are
/// as their beginner was (`kernel/sched/core.c, sched_fork`), and nobody else sees to them. Shards,
/// also of other sessions of this process, have a sentry, and scouts stay behind.
fn bring_back_heirs() {
    let Ok(tasks) = std::fs::read_dir("/proc/self/task") else { return };
    let numbers = tasks.flatten().filter_map(|task| task.file_name().to_str()?.parse().ok());
    for number in numbers {
        if lead::is_shard(number) {
            continue;
        }
        let mut name = [0; 32];
        let told = thread::told(&format!("/proc/self/task/{number}/comm"), &mut name);
        if !told.is_ok_and(|name| name.starts_with(SCOUT.as_bytes())) {
            // Refused to nearly all, which are not behind.
            let _ = policy::put_behind(number, false);
        }
    }
}

/// Tries it, on a thread that ends.
fn can_bring_back() -> bool {
    let there_and_back =
        || policy::put_behind(THIS, true).and_then(|()| policy::put_behind(THIS, false)).is_ok();
    let tried = thread::spawn("fusewire-sentry", there_and_back);
    tried.is_ok_and(|thread| thread.join().unwrap_or(false))
}

fn delays(thread: i32) -> Option<Scheduled> {
    let counts = File::open(format!("/proc/self/task/{thread}/schedstat")).ok()?;
    Scheduled::told(&counts)
}

/// Whether a thread of this process runs or could; nothing without a `/proc`.
fn is_runnable(thread: i32) -> Option<bool> {
    let mut line = [0; 1024];
    let stat = thread::told(&format!("/proc/self/task/{thread}/stat"), &mut line).ok()?;
    let end = stat.iter().rposition(|byte| *byte == b')')?;
    Some(stat[end + 1..].trim_ascii_start().starts_with(b"R"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lead::{Cpus, Member};

    #[test]
    fn what_the_kernel_says_of_this_thread() {
        let this = gettid().as_raw();
        assert_eq!(is_runnable(this), Some(true));
        let before = delays(this).unwrap();
        std::thread::sleep(Duration::from_millis(5));
        let now = delays(this).unwrap();
        assert!(now.since(before).times > 0, "{now:?}");
        assert!(is_runnable(i32::MAX).is_none() && delays(i32::MAX).is_none());
    }

    /// Looks until one tells something, at a count that goes on by `step`, and a thread that waits
    /// so long for its CPU each time.
    fn looks(first: u64, step: u64, wait: Duration, is_runnable: bool) -> (u32, Look) {
        let mut seen = Seen::default();
        for count in 0..100 {
            let (waited, times) = (wait * 2 * count, 2 * u64::from(count));
            let delays = Scheduled { waited, times, ..Scheduled::default() };
            let beat = first + step * u64::from(count);
            match seen.look(beat, Some(delays), || is_runnable) {
                Look::MovesOn | Look::Stands => {}
                told => return (count, told),
            }
        }
        (100, Look::MovesOn)
    }

    #[test]
    fn a_shard_is_released_where_it_keeps_others_waiting_or_has_nothing_to_do() {
        let short = DELAY_MAX.0 / 2;
        assert_eq!(looks(2, 2, short, true), (100, Look::MovesOn));
        assert_eq!(looks(2, 0, short, false), (RESTS_MAX, Look::Rests));
        assert_eq!(looks(3, 0, short, false), (WAITS_MAX, Look::Waits), "in one handler");
        assert_eq!(looks(2, 0, short, true), (WAITS_MAX, Look::Waits), "does not run");
        let long = DELAY_MAX.0 * 2;
        assert_eq!(looks(2, 2, long, true), (2, Look::Waits), "runs seldom");
        // Woken just now, once and again.
        let mut seen = Seen::default();
        for _ in 0..10 {
            seen.look(2, None, || true);
            assert_eq!(seen.look(2, None, || false), Look::Stands);
        }
    }

    #[test]
    fn who_is_begun_behind_others_is_brought_back_and_shards_are_not() {
        if !can_bring_back() {
            return eprintln!("this process may not bring a thread back");
        }
        let member = Member::new(Lead::new(1, None), 0);
        policy::put_behind(THIS, true).unwrap();
        let ours = thread::spawn("ours", policy::is_behind).unwrap();
        assert!(!ours.join().unwrap());
        let (go, goes) = std::sync::mpsc::channel::<()>();
        let heir = std::thread::spawn(move || {
            goes.recv().unwrap();
            policy::is_behind()
        });
        bring_back_heirs();
        go.send(()).unwrap();
        assert!(!heir.join().unwrap());
        assert!(policy::is_behind(), "a shard has a sentry");
        drop(member);
        bring_back_heirs();
        assert!(!policy::is_behind(), "it is none any more");
    }

    #[test]
    fn a_thread_that_has_joined_runs_behind_others_until_it_leaves_or_hangs() {
        let comes_back = || {
            let start = std::time::Instant::now();
            while policy::is_behind() && start.elapsed().as_secs() < 10 {
                std::thread::yield_now();
            }
            !policy::is_behind()
        };
        let lead = Lead::new(1, None);
        let member = Member::new(Arc::clone(&lead), 0);
        assert!(member.join(Cpus::default()));
        assert!(!policy::is_behind(), "without a sentry");
        member.leave();
        let sentry = Sentry::start(&lead).unwrap();
        while lead.may_put_behind().is_none() {
            std::thread::yield_now();
        }
        if lead.may_put_behind() == Some(false) {
            return eprintln!("this process may not bring a thread back");
        }
        let free = |lead: &Lead| {
            while lead.state(0).0 != State::Free {
                std::thread::yield_now()
            }
        };
        free(&lead);
        // Beside who computes it may be released before anybody can look.
        let joins = || {
            (0..100).any(|_| {
                assert!(member.join(Cpus::default()));
                let is_behind = policy::is_behind();
                member.leave();
                free(&lead);
                is_behind
            })
        };
        assert!(joins());
        assert!(comes_back());
        assert!(member.join(Cpus::default()));
        member.runs();
        assert!(comes_back(), "in a handler for too long");
        free(&lead);
        assert!(member.has_hung() && !member.has_joined());
        drop(sentry);
    }
}
