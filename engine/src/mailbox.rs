//! Letters from other threads to a shard: answers, interrupts, the wish to stop, wake-ups.
//!
//! A letter is put under a short lock and an eventfd is rung, on which the shard's ring waits.
//! Answers are bounded by the slots, interrupts by [`INTERRUPTS_MAX`].
//!
//! Never known here: transports and filesystems. Neighbours: `context` makes the tokens that send
//! answers, `shard` reads.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Wake;
use std::time::Duration;

use fusewire_proto::{Errno, Reply, Unique};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};

use crate::reply::Outcome;
use crate::slot::SlotId;

/// Letters beyond which interrupts are not taken. The kernel sends one for a request that was
/// handed out, so there are never more than slots.
const INTERRUPTS_MAX: usize = 4096;

/// An answer that does not borrow from its request.
#[derive(Debug)]
pub enum Answer {
    /// A typed value.
    Reply(Reply<'static>),
    /// Data.
    Bytes(Vec<u8>),
    /// An error.
    Error(Errno),
}

impl From<Answer> for Outcome {
    fn from(answer: Answer) -> Self {
        match answer {
            Answer::Reply(reply) => Self::Reply(reply),
            Answer::Bytes(bytes) => Self::Bytes(bytes),
            Answer::Error(errno) => Self::Error(errno),
        }
    }
}

#[derive(Debug)]
pub(crate) enum Letter {
    Answer(SlotId, Answer),
    Interrupt(Unique),
    Stop,
}

/// A shard's letter box.
#[derive(Debug)]
pub(crate) struct Mailbox {
    letters: Mutex<VecDeque<Letter>>,
    woken: Box<[AtomicU64]>,
    /// Set while the bell has been rung and not yet been heard.
    rung: AtomicBool,
    bell: EventFd,
}

impl Mailbox {
    /// A box for a shard of `slots` slots.
    pub(crate) fn new(slots: usize) -> io::Result<Arc<Self>> {
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        Ok(Arc::new(Self {
            letters: Mutex::new(VecDeque::with_capacity(slots)),
            woken: (0..slots.div_ceil(64)).map(|_| AtomicU64::new(0)).collect(),
            rung: AtomicBool::new(false),
            bell: EventFd::from_value_and_flags(0, flags)?,
        }))
    }

    /// What becomes readable when there is something to fetch.
    pub(crate) fn bell(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }

    pub(crate) fn put(&self, letter: Letter) {
        let mut letters = self.letters.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(letter, Letter::Interrupt(_)) && letters.len() >= INTERRUPTS_MAX {
            return;
        }
        letters.push_back(letter);
        drop(letters);
        self.ring();
    }

    /// Marks a slot's future as ready to be polled.
    pub(crate) fn wake(&self, slot: usize) {
        self.woken[slot / 64].fetch_or(1 << (slot % 64), Ordering::SeqCst);
        self.ring();
    }

    /// Wakes the shard.
    pub(crate) fn ring(&self) {
        if !self.rung.swap(true, Ordering::SeqCst) {
            // The counter cannot overflow: it is rung once until it is heard.
            let _ = self.bell.write(1);
        }
    }

    /// Waits until there is something to fetch; false if there is not within `limit`.
    pub(crate) fn rings_within(&self, limit: Duration) -> io::Result<bool> {
        let timeout = PollTimeout::try_from(limit).unwrap_or(PollTimeout::MAX);
        let rung = poll(&mut [PollFd::new(self.bell(), PollFlags::POLLIN)], timeout)?;
        Ok(rung > 0)
    }

    /// Takes what is there: letters into `letters`, slots to poll into `slots`.
    pub(crate) fn fetch(&self, letters: &mut Vec<Letter>, slots: &mut Vec<usize>) {
        let _ = self.bell.read();
        // Cleared before looking: what is put from here on rings again. One order of all four steps
        // (set the bit, ring; clear the ring, look at the bits) keeps a bit from being missed.
        self.rung.store(false, Ordering::SeqCst);
        letters.extend(self.letters.lock().unwrap_or_else(PoisonError::into_inner).drain(..));
        for (index, word) in self.woken.iter().enumerate() {
            let mut bits = word.swap(0, Ordering::SeqCst);
            while bits != 0 {
                slots.push(index * 64 + bits.trailing_zeros() as usize);
                bits &= bits - 1;
            }
        }
    }
}

/// Wakes one slot's future, from any thread.
#[derive(Debug)]
pub(crate) struct SlotWaker {
    pub(crate) mailbox: Arc<Mailbox>,
    pub(crate) slot: usize,
}

impl Wake for SlotWaker {
    fn wake(self: Arc<Self>) {
        self.mailbox.wake(self.slot);
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.mailbox.wake(self.slot);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_and_wakes_arrive_once() {
        let mailbox = Mailbox::new(130).unwrap();
        mailbox.put(Letter::Stop);
        mailbox.wake(0);
        mailbox.wake(129);
        mailbox.wake(129);
        let (mut letters, mut slots) = (Vec::new(), Vec::new());
        mailbox.fetch(&mut letters, &mut slots);
        assert!(matches!(letters[..], [Letter::Stop]));
        assert_eq!(slots, [0, 129]);
        letters.clear();
        slots.clear();
        mailbox.fetch(&mut letters, &mut slots);
        assert!(letters.is_empty() && slots.is_empty());
    }

    #[test]
    fn interrupts_are_bounded_and_answers_are_not_dropped() {
        let mailbox = Mailbox::new(1).unwrap();
        for unique in 0..2 * INTERRUPTS_MAX as u64 {
            mailbox.put(Letter::Interrupt(Unique(unique)));
        }
        mailbox.put(Letter::Stop);
        let (mut letters, mut slots) = (Vec::new(), Vec::new());
        mailbox.fetch(&mut letters, &mut slots);
        assert_eq!(letters.len(), INTERRUPTS_MAX + 1);
        assert!(matches!(letters.last(), Some(Letter::Stop)));
    }
}
