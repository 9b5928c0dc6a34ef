//! On which CPU a caller runs, where the transport does not tell: a thread of the session, the
//! scout, reads it in `/proc`.
//!
//! No shard may: who executes a program from the mount waits for the mount and keeps whoever reads
//! his `/proc/PID/stat` waiting as long (`fs/proc/array.c, do_task_stat`: `exec_update_lock`). So a
//! shard asks, and goes on. It asks for a new caller, and now and then for one who stays; never for
//! each of several who take turns.
//!
//! Never known here: what comes of it. Neighbours: `placement` asks; `crew` starts the scout.

use std::io::Result;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::thread::{Thread, park};

use crate::sys::policy::{self, THIS};
use crate::thread;

/// A look is worth so many requests,
const PRICE: u32 = 8;
/// and no more than so many looks are saved up.
const SAVED_MAX: u32 = 8 * PRICE;
/// Requests of one caller after which he may be elsewhere.
const AGAIN: u32 = 64;
/// The field `processor` of `/proc/PID/stat`, counted from the one behind the name: proc(5).
const PROCESSOR: usize = 36;

/// The name of the thread.
pub(crate) const SCOUT: &str = "fusewire-scout";

/// Who waits for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Caller {
    /// Nobody: it was a message beside the requests.
    Nobody,
    /// Somebody, and the transport does not know where.
    Somewhere,
    /// Somebody on this CPU.
    On(usize),
}

/// What shards ask, and what was found.
#[derive(Debug)]
struct Board {
    notes: Box<[Note]>,
    over: AtomicBool,
}

#[derive(Debug, Default)]
struct Note {
    /// The thread that is looked for; 0: none.
    asked: AtomicU32,
    /// A thread, and one more than its CPU or 0 where that is not known.
    found: AtomicU64,
}

/// The thread that looks; it ends when this is dropped, or soon after.
#[derive(Debug)]
pub(crate) struct Scout {
    board: Arc<Board>,
    thread: Thread,
}

impl Scout {
    /// For so many shards.
    ///
    /// # Errors
    /// Those of a thread that does not start.
    pub(crate) fn start(shards: usize) -> Result<Self> {
        let notes = (0..shards).map(|_| Note::default()).collect();
        let board = Arc::new(Board { notes, over: AtomicBool::new(false) });
        let shared = Arc::clone(&board);
        let started = thread::spawn(SCOUT, move || shared.look_around())?;
        Ok(Self { board, thread: started.thread().clone() })
    }

    /// For one of the shards.
    pub(crate) fn whereabouts(&self, index: usize) -> Whereabouts {
        let (board, scout) = (Arc::clone(&self.board), self.thread.clone());
        Whereabouts { board, scout, index, pid: 0, cpu: None, until: 0, saved: SAVED_MAX }
    }
}

impl Drop for Scout {
    /// Does not wait: a look may last as long as a request.
    fn drop(&mut self) {
        self.board.over.store(true, Ordering::SeqCst);
        self.thread.unpark();
    }
}

impl Board {
    fn look_around(&self) {
        // As the shards that have joined somebody (`lead`), lest it is what keeps a caller from
        // going on where he is. A look that comes late does no harm.
        let _ = policy::put_behind(THIS, true);
        while !self.over.load(Ordering::SeqCst) {
            for note in &self.notes {
                let pid = note.asked.swap(0, Ordering::SeqCst);
                if pid != 0 {
                    let mut line = [0; 1024];
                    let stat = thread::told(&format!("/proc/{pid}/stat"), &mut line);
                    let cpu = stat.ok().and_then(processor).map_or(0, |cpu| u64::from(cpu) + 1);
                    note.found.store(u64::from(pid) << 32 | cpu, Ordering::SeqCst);
                }
            }
            park();
        }
    }
}

/// The name, in parentheses, may hold any bytes.
fn processor(stat: &[u8]) -> Option<u32> {
    let end = stat.iter().rposition(|byte| *byte == b')')?;
    str::from_utf8(&stat[end + 1..]).ok()?.split_ascii_whitespace().nth(PROCESSOR)?.parse().ok()
}

/// What one shard knows of the caller who came last.
#[derive(Debug)]
pub(crate) struct Whereabouts {
    board: Arc<Board>,
    scout: Thread,
    index: usize,
    pid: u32,
    cpu: Option<usize>,
    /// Requests until the next look at the same one.
    until: u32,
    /// Requests that no look was taken for.
    saved: u32,
}

impl Whereabouts {
    /// Where the thread `pid` runs, of which there is one more request. `None`: not known yet, or
    /// not worth a look.
    pub(crate) fn cpu(&mut self, pid: u32) -> Option<usize> {
        self.saved = (self.saved + 1).min(SAVED_MAX);
        // The kernel in between, which tells nothing (RELEASE, write-back), or somebody in a
        // namespace that is not ours.
        if pid == 0 {
            return self.cpu;
        }
        if pid != self.pid {
            (self.pid, self.cpu, self.until) = (pid, None, 0);
        }
        let note = &self.board.notes[self.index];
        match self.until.checked_sub(1) {
            Some(left) => self.until = left,
            None if self.saved >= PRICE => {
                self.saved -= PRICE;
                self.until = AGAIN;
                note.asked.store(pid, Ordering::SeqCst);
                self.scout.unpark();
            }
            None => {}
        }
        let found = note.found.load(Ordering::Relaxed);
        if found >> 32 == u64::from(pid) {
            self.cpu = usize::try_from(found & 0xffff_ffff).ok().and_then(|cpu| cpu.checked_sub(1));
        }
        self.cpu
    }
}

#[cfg(test)]
mod tests {
    use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
    use nix::unistd::{Pid, gettid};

    use super::*;

    #[test]
    fn it_is_where_the_kernel_runs_a_thread() {
        let this = Pid::from_raw(0);
        let home = sched_getaffinity(this).unwrap();
        let cpus = (0..CpuSet::count()).filter(|cpu| home.is_set(*cpu).unwrap());
        let tid = u32::try_from(gettid().as_raw()).unwrap();
        let scout = Scout::start(2).unwrap();
        for cpu in cpus.take(8) {
            let mut only = CpuSet::new();
            only.set(cpu).unwrap();
            sched_setaffinity(this, &only).unwrap();
            let mut whereabouts = scout.whereabouts(1);
            while whereabouts.cpu(tid) != Some(cpu) {
                std::thread::yield_now();
            }
            assert_eq!(whereabouts.cpu(0), Some(cpu), "the kernel in between");
            assert_eq!(whereabouts.cpu(u32::MAX), None, "somebody else");
        }
        sched_setaffinity(this, &home).unwrap();
        let board = Arc::downgrade(&scout.board);
        drop(scout);
        while board.strong_count() > 0 {
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_name_cannot_say_where() {
        let fields = (3..=52).map(|field| field.to_string()).collect::<Vec<_>>().join(" ");
        assert_eq!(processor(format!("7 (x) {fields}").as_bytes()), Some(39));
        assert_eq!(processor(&[b"7 (\xff) 1 2 (b) ", fields.as_bytes()].concat()), Some(39));
        for broken in [&b""[..], b"7 (x", b"7 (x) R 1", b"7 (x) "] {
            assert_eq!(processor(broken), None);
        }
    }

    /// Looks that `callers` ask for, with nobody who takes one.
    fn looks(whereabouts: &mut Whereabouts, callers: impl Iterator<Item = u32>) -> u32 {
        let asked = |pid| {
            whereabouts.cpu(pid);
            u32::from(whereabouts.board.notes[0].asked.swap(0, Ordering::SeqCst) != 0)
        };
        callers.map(asked).sum()
    }

    #[test]
    fn one_who_stays_is_looked_at_seldom_and_those_who_take_turns_too() {
        let board = Board { notes: Box::new([Note::default()]), over: AtomicBool::new(true) };
        let scout = Scout { board: Arc::new(board), thread: std::thread::current() };
        let mut whereabouts = scout.whereabouts(0);
        assert_eq!(looks(&mut whereabouts, std::iter::repeat_n(0, 100)), 0, "nobody");
        assert_eq!(looks(&mut whereabouts, std::iter::repeat_n(5, 650)), 10);
        let cost = looks(&mut whereabouts, (0..8000).map(|n| 7 + n % 2));
        assert!((1000..1010).contains(&cost), "{cost} looks");
        // Each process of ten requests is looked at.
        assert_eq!(looks(&mut whereabouts, (0..8000).map(|n| 100 + n / 10)), 800);
    }
}
