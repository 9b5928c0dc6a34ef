//! What a shard that has joined its callers does more than others: it serves them alone, and behind
//! them.
//!
//! - On `/dev/fuse` it leads: nobody else who sleeps listens. A message wakes every shard that
//!   waits for one, and on another CPU that takes longer than most requests. The kernel has no way
//!   to wake the right one: of those who wait exclusively it wakes the one who has waited longest
//!   (`kernel/sched/wait.c`), and in an epoll, which keeps its place, a shard that its caller
//!   preempts as it answers does not yet sleep again when the next request comes
//!   (`fs/eventpoll.c, ep_poll_callback`), so that goes to the next shard.
//! - It runs behind everybody else (SCHED_IDLE, where the process may). Who is woken is put on a
//!   CPU that sleeps, if there is one, and not where his server runs, though that is about to sleep
//!   itself; with nothing but such a thread on it, a CPU counts as one that sleeps
//!   (`kernel/sched/fair.c, select_idle_sibling, sched_idle_cpu`). So the caller goes on where he
//!   is, and each request costs two switches of threads instead of two wakes of CPUs. That is so
//!   among threads of one group of the scheduler (of a cgroup, of an autogroup); between groups the
//!   group's own weight counts, and the shard is as others.
//!
//! # Liveness
//! Both could starve others: a leader that hangs in a handler holds everybody's requests up, and
//! who runs behind others, on one CPU alone, may not run at all. So there is a `sentry`, which
//! releases such a shard, and sends it home.
//!
//! Never known here: why. Neighbours: `placement` joins and leaves, `sentry` looks on.

use std::io::{ErrorKind, Result};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, TryLockError};
use std::thread::{Thread, sleep};
use std::time::Duration;

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::{Pid, gettid};

use crate::awake::Awake;
use crate::mailbox::Mailbox;
use crate::sys::policy::{self, THIS};
use crate::sys::ring::Ring;

/// The threads of all shards of this process, whose sentries look after them.
static SHARDS: Mutex<Vec<i32>> = Mutex::new(Vec::new());
/// How long to leave the CPU to a shard that was brought back as it has a lock.
const GRACE: Duration = Duration::from_micros(50);

/// To move so much is as much work as to serve a small request.
const PIECE: u64 = 32 * 1024;

/// Whether a thread is a shard's, of whatever session.
pub(crate) fn is_shard(thread: i32) -> bool {
    shards().contains(&thread)
}

fn shards() -> MutexGuard<'static, Vec<i32>> {
    SHARDS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the shards of a session share.
#[derive(Debug)]
pub(crate) struct Lead {
    posts: Box<[Post]>,
    /// Of a transport where all shards hear everything.
    mailboxes: Option<Arc<[Arc<Mailbox>]>>,
    /// The index of the shard that leads there, plus one; 0: none does.
    leader: AtomicUsize,
    /// The same of the shard that compares where to be, which nobody is to disturb there.
    reserved: AtomicUsize,
    sentry: OnceLock<Thread>,
    /// Whether the sentry can bring a thread back from behind others.
    behind: AtomicBool,
}

/// What others know of a shard.
#[derive(Debug, Default)]
struct Post {
    /// Whoever changes how its thread is scheduled keeps the lock: the thread lives.
    state: Mutex<State>,
    /// Where it runs while it has joined.
    cpus: Mutex<Cpus>,
    thread: AtomicI32,
    /// Whether we have put it behind others: what somebody else has chosen holds.
    is_behind: AtomicBool,
    /// Counts what it does: odd while it runs a handler.
    beat: AtomicU64,
    /// What it has done ever, in requests and pieces of data.
    work: AtomicU64,
    is_joined: AtomicBool,
    /// It was released as it kept others waiting.
    hung: AtomicBool,
    /// It was released, and may run anywhere again.
    sent_home: AtomicBool,
}

/// Those of a thread that has joined somebody, and those that it may use at other times.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cpus {
    pub(crate) here: CpuSet,
    pub(crate) home: CpuSet,
}

/// Of a shard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum State {
    #[default]
    Free,
    /// It has joined somebody.
    Joined,
    /// No more, but runs behind others still. Only the sentry can change that: shards may have
    /// given up the right to.
    Leaving,
}

impl Lead {
    /// For so many shards; with their mailboxes, of which none leads at first.
    pub(crate) fn new(shards: usize, mailboxes: Option<Arc<[Arc<Mailbox>]>>) -> Arc<Self> {
        Arc::new(Self {
            posts: (0..shards).map(|_| Post::default()).collect(),
            mailboxes,
            leader: AtomicUsize::new(0),
            reserved: AtomicUsize::new(0),
            sentry: OnceLock::new(),
            behind: AtomicBool::new(false),
        })
    }

    /// This thread looks at the shards, and may have one run behind others and come back.
    pub(crate) fn is_watched_by(&self, sentry: Thread, behind: bool) {
        self.behind.store(behind, Ordering::SeqCst);
        let _ = self.sentry.set(sentry);
    }

    /// Whether all shards hear everything, so that one may lead.
    pub(crate) fn has_leader(&self) -> bool {
        self.mailboxes.is_some()
    }

    pub(crate) fn shards(&self) -> usize {
        self.posts.len()
    }

    /// Of a shard: its thread, and its count of what it does, which is odd in a handler. For the
    /// sentry.
    pub(crate) fn state(&self, index: usize) -> (State, i32, u64) {
        let post = &self.posts[index];
        let thread = post.thread.load(Ordering::SeqCst);
        (*self.locked(post), thread, post.beat.load(Ordering::Relaxed))
    }

    /// The state of a shard that may be kept from running while it has the lock, as it has just
    /// gone behind others: then it is brought back first.
    fn locked<'p>(&self, post: &'p Post) -> MutexGuard<'p, State> {
        loop {
            match post.state.try_lock() {
                Ok(state) => return state,
                Err(TryLockError::Poisoned(state)) => return state.into_inner(),
                Err(TryLockError::WouldBlock) => {
                    let _ = policy::put_behind(post.thread.load(Ordering::SeqCst), false);
                    sleep(GRACE);
                }
            }
        }
    }

    /// Makes a shard one like the others again, if it is not: for the sentry. Who `hung` is told.
    pub(crate) fn release(&self, index: usize, hung: bool) {
        let post = &self.posts[index];
        let mut state = self.locked(post);
        let thread = post.thread.load(Ordering::SeqCst);
        if *state == State::Free {
            return;
        }
        if *state == State::Joined {
            let sent = post.cpus().send_home(Pid::from_raw(thread));
            post.sent_home.store(sent, Ordering::SeqCst);
            post.hung.store(hung, Ordering::SeqCst);
        }
        *state = State::Free;
        let is_behind = post.is_behind.swap(false, Ordering::SeqCst);
        let back = if is_behind { policy::put_behind(thread, false) } else { Ok(()) };
        // Last: without the lock, this says that the rest is done.
        post.is_joined.store(false, Ordering::SeqCst);
        drop(state);
        if let Err(error) = back
            && error.kind() != ErrorKind::Unsupported
            && self.behind.swap(false, Ordering::SeqCst)
        {
            // The right to has been lost: no other is to go there.
            tracing::error!(%error, "a shard stays behind everybody else: give the process back \
                CAP_SYS_NICE, or set its thread to SCHED_OTHER (chrt)");
        }
        self.let_others_hear(index);
    }

    /// Shard `index` leads no more, if it did.
    fn let_others_hear(&self, index: usize) {
        let Some(mailboxes) = &self.mailboxes else { return };
        if self.leader.compare_exchange(index + 1, 0, Ordering::SeqCst, Ordering::SeqCst).is_ok() {
            for (_, mailbox) in mailboxes.iter().enumerate().filter(|(peer, _)| *peer != index) {
                mailbox.ring();
            }
        }
    }

    /// Whether a thread may run behind others; nothing before there is a sentry.
    pub(crate) fn may_put_behind(&self) -> Option<bool> {
        self.sentry.get().map(|_| self.behind.load(Ordering::SeqCst))
    }

    fn call_sentry(&self) {
        if let Some(sentry) = self.sentry.get() {
            sentry.unpark();
        }
    }
}

impl Drop for Lead {
    /// The shards have ended. Not done by them, who may be behind others and have a lock.
    fn drop(&mut self) {
        let mut shards = shards();
        for post in &self.posts {
            let thread = post.thread.load(Ordering::SeqCst);
            if let Some(at) = shards.iter().position(|shard| *shard == thread) {
                shards.swap_remove(at);
            }
        }
    }
}

impl Post {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn cpus(&self) -> Cpus {
        *self.cpus.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Cpus {
    /// Unless somebody else has said meanwhile where the thread is to run.
    fn send_home(self, thread: Pid) -> bool {
        let is_ours = sched_getaffinity(thread).is_ok_and(|now| now == self.here);
        is_ours && sched_setaffinity(thread, &self.home).is_ok()
    }
}

/// One of the shards.
#[derive(Debug)]
pub(crate) struct Member {
    lead: Arc<Lead>,
    index: usize,
}

impl Member {
    /// The calling thread.
    pub(crate) fn new(lead: Arc<Lead>, index: usize) -> Self {
        let thread = gettid().as_raw();
        lead.posts[index].thread.store(thread, Ordering::SeqCst);
        shards().push(thread);
        Self { lead, index }
    }

    fn post(&self) -> &Post {
        &self.lead.posts[self.index]
    }

    /// Whether it serves a caller whom it has joined, and nobody has released it.
    pub(crate) fn has_joined(&self) -> bool {
        self.post().is_joined.load(Ordering::Acquire)
    }

    /// Whether nobody leads, and nobody else is to.
    pub(crate) fn may_join(&self) -> bool {
        let reserved = self.lead.reserved.load(Ordering::Relaxed);
        self.lead.leader.load(Ordering::Relaxed) == 0 && [0, self.index + 1].contains(&reserved)
    }

    /// Whether another shard serves alone whom all serve.
    pub(crate) fn others_lead(&self) -> bool {
        ![0, self.index + 1].contains(&self.lead.leader.load(Ordering::Relaxed))
    }

    /// Whether nobody else is to lead while this one does not.
    pub(crate) fn reserves(&self, does: bool) {
        if !self.shares() {
            return;
        }
        let (lead, this) = (&self.lead, self.index + 1);
        let is = lead.reserved.load(Ordering::Relaxed) == this;
        if does != is {
            let (from, to) = if does { (0, this) } else { (this, 0) };
            // Where another does it is his.
            let _ = lead.reserved.compare_exchange(from, to, Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    /// Serves callers beside whom its thread runs, and where. Refused while another shard leads.
    pub(crate) fn join(&self, cpus: Cpus) -> bool {
        let (lead, post) = (&self.lead, self.post());
        if lead.has_leader() {
            let leader = self.index + 1;
            let free = lead.leader.compare_exchange(0, leader, Ordering::SeqCst, Ordering::SeqCst);
            if free.is_err() {
                return false;
            }
        }
        *post.cpus.lock().unwrap_or_else(PoisonError::into_inner) = cpus;
        let mut state = post.state();
        *state = State::Joined;
        post.beat.fetch_add(2, Ordering::Relaxed);
        post.hung.store(false, Ordering::SeqCst);
        post.sent_home.store(false, Ordering::SeqCst);
        post.is_joined.store(true, Ordering::SeqCst);
        // It may be there still, if it has left just now.
        if lead.may_put_behind() == Some(true) && policy::put_behind(THIS, true).is_ok() {
            post.is_behind.store(true, Ordering::SeqCst);
        }
        drop(state);
        lead.call_sentry();
        true
    }

    /// Is as the others again.
    pub(crate) fn leave(&self) {
        if self.has_joined() {
            self.leaves(false);
        }
    }

    fn leaves(&self, for_good: bool) {
        let (lead, post) = (&self.lead, self.post());
        let mut state = post.state();
        let is_behind = post.is_behind.load(Ordering::SeqCst) && !for_good;
        *state = if is_behind { State::Leaving } else { State::Free };
        post.is_joined.store(false, Ordering::SeqCst);
        drop(state);
        lead.let_others_hear(self.index);
        if is_behind {
            lead.call_sentry();
        }
    }

    /// A request is being answered that moved so many bytes of data.
    pub(crate) fn worked(&self, bytes: u64) {
        let work = &self.post().work;
        work.store(work.load(Ordering::Relaxed) + 1 + bytes / PIECE, Ordering::Relaxed);
    }

    /// Whether all shards serve the same callers.
    pub(crate) fn shares(&self) -> bool {
        self.lead.has_leader()
    }

    /// What it has done for its callers ever: where all shards serve the same, they all.
    pub(crate) fn work(&self) -> u64 {
        let own = self.post().work.load(Ordering::Relaxed);
        if self.shares() { own + self.sum_of_others() } else { own }
    }

    /// What others have done ever, for callers of their own.
    pub(crate) fn others_work(&self) -> u64 {
        if self.shares() { 0 } else { self.sum_of_others() }
    }

    fn sum_of_others(&self) -> u64 {
        let others = self.lead.posts.iter().enumerate().filter(|(index, _)| *index != self.index);
        others.map(|(_, post)| post.work.load(Ordering::Relaxed)).sum()
    }

    /// Whether it was released as it kept others waiting; tells it once.
    pub(crate) fn has_hung(&self) -> bool {
        told_once(&self.post().hung)
    }

    /// Whether it was released and may run anywhere again; tells it once.
    pub(crate) fn was_sent_home(&self) -> bool {
        told_once(&self.post().sent_home)
    }

    /// A handler begins to run, or goes on.
    pub(crate) fn runs(&self) {
        self.beats(1);
    }

    /// A request is being answered, or there is nothing to run. The caller may take the CPU now.
    pub(crate) fn rests(&self) {
        self.beats(0);
    }

    fn beats(&self, parity: u64) {
        if self.has_joined() {
            // Nobody else counts.
            let beat = &self.post().beat;
            let next = beat.load(Ordering::Relaxed) + 1;
            beat.store(next + u64::from(next % 2 != parity), Ordering::Relaxed);
        }
    }

    /// As [`Awake::turn`]; hears no message while another shard leads. Who has no read `armed`
    /// hears nothing, and does not lead.
    pub(crate) fn turn(
        &self,
        ring: &mut Ring,
        wait: usize,
        armed: bool,
        idle: bool,
        awake: &mut Awake,
    ) -> Result<bool> {
        if !armed && self.lead.has_leader() {
            self.leave();
        }
        if self.has_joined() {
            self.rests();
            // Not awake: the caller needs this CPU.
            return ring.turn(wait).map(|()| false);
        }
        let leader = self.lead.leader.load(Ordering::SeqCst);
        if wait > 0 && leader != 0 && leader != self.index + 1 && ring.turn_deaf()? {
            return Ok(false);
        }
        awake.turn(ring, wait, idle)
    }
}

fn told_once(flag: &AtomicBool) -> bool {
    flag.load(Ordering::Relaxed) && flag.swap(false, Ordering::SeqCst)
}

impl Drop for Member {
    fn drop(&mut self) {
        self.reserves(false);
        // The thread ends: nobody may touch it from here on.
        self.leaves(true);
    }
}

#[cfg(test)]
mod tests;
