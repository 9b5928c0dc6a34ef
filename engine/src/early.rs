//! Interrupts that came before their request, kept for a moment.
//!
//! Never known here: slots. Neighbour: `shard`.

use std::collections::VecDeque;

use fusewire_proto::Unique;

/// Interrupts that are kept; more are forgotten, oldest first.
const MOST: usize = 64;
/// Turns for which they are kept. The kernel sends an INTERRUPT once its request was handed out
/// (FR_SENT; `fs/fuse/dev.c, request_wait_answer`), so the completion that brings the request is in
/// some ring by then, and that shard's next turn takes it.
const TURNS: u64 = 2;

/// The interrupts of a shard whose requests it has not seen.
#[derive(Debug)]
pub(crate) struct Early {
    /// With the turn in which it is given up.
    uniques: VecDeque<(Unique, u64)>,
    turns: u64,
}

impl Early {
    pub(crate) fn new() -> Self {
        Self { uniques: VecDeque::with_capacity(MOST), turns: 0 }
    }

    /// Keeps one.
    pub(crate) fn keep(&mut self, unique: Unique) {
        if self.uniques.len() == MOST {
            self.uniques.pop_front();
        }
        self.uniques.push_back((unique, self.turns + TURNS));
    }

    /// Whether this request was interrupted before it came.
    pub(crate) fn has(&self, unique: Unique) -> bool {
        self.uniques.iter().any(|(kept, _)| *kept == unique)
    }

    /// A turn is over.
    pub(crate) fn turned(&mut self) {
        self.turns += 1;
        while self.uniques.front().is_some_and(|(_, until)| *until < self.turns) {
            self.uniques.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interrupt_is_kept_for_two_turns_and_the_oldest_make_room() {
        let mut early = Early::new();
        early.keep(Unique(1));
        early.turned();
        early.keep(Unique(2));
        early.turned();
        assert!(early.has(Unique(1)));
        early.turned();
        assert!(!early.has(Unique(1)) && early.has(Unique(2)));
        for unique in 0..MOST as u64 {
            early.keep(Unique(100 + unique));
        }
        assert!(!early.has(Unique(2)) && early.has(Unique(100)));
    }
}
