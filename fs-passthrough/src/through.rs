//! Whether the kernel serves an inode's open handles from the backing file itself, past us.
//!
//! That is an inode's matter: while one handle has passthrough, each that is opened must have it
//! too and name the same backing id, and while one may use the page cache none may have it; all
//! else is EIO to whoever opens (`fs/fuse/iomode.c, fuse_file_io_open`). So the first handle
//! decides for as long as one is open, and the others follow.
//!
//! The kernel lets go of a handle before it sends RELEASE (`fs/fuse/file.c, fuse_file_put`) and
//! takes hold of it after OPEN was answered. What is counted from before the answer until RELEASE
//! is therefore never less than what the kernel counts, whichever shards the two came to.
//!
//! Never known here: files. Neighbours: `handles` enters and leaves, `mirror` registers.

use std::sync::atomic::{AtomicBool, Ordering};

use fusewire::Backing;
use parking_lot::Mutex;

/// Who serves the data of a handle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Server {
    /// The kernel, from the backing file of this id.
    Kernel(i32),
    /// This process; the page cache may hold what the kernel has gone past since, if `stale`.
    Here {
        /// Whether the kernel has served the data itself since pages were last dropped.
        stale: bool,
    },
}

impl Server {
    pub(crate) fn is_kernel(self) -> bool {
        matches!(self, Self::Kernel(_))
    }
}

/// The open handles of one inode.
#[derive(Debug, Default)]
pub(crate) struct Through {
    open: Mutex<Open>,
    mapped: AtomicBool,
}

#[derive(Debug, Default)]
struct Open {
    handles: usize,
    /// Of all of them, or of none.
    backing: Option<Backing>,
    stale: bool,
}

impl Through {
    /// Counts one more handle, of which the first registers the backing file or does not.
    pub(crate) fn enter(&self, register: impl FnOnce() -> Option<Backing>) -> Server {
        let mut open = self.open.lock();
        if open.handles == 0 {
            open.backing = register();
        }
        open.handles += 1;
        let id = open.backing.as_ref().map(Backing::id);
        match id {
            Some(id) => {
                open.stale = true;
                Server::Kernel(id)
            }
            None => Server::Here { stale: std::mem::take(&mut open.stale) },
        }
    }

    /// Whether any is open.
    pub(crate) fn is_open(&self) -> bool {
        self.open.lock().handles > 0
    }

    /// A handle is gone; with the last one goes what was registered.
    pub(crate) fn leave(&self) {
        let mut open = self.open.lock();
        open.handles = open.handles.saturating_sub(1);
        if open.handles == 0 {
            open.backing = None;
        }
    }

    /// A handle that the kernel serves may be mapped for writing, also after its end.
    pub(crate) fn may_be_mapped(&self) {
        self.mapped.store(true, Ordering::Relaxed);
    }

    /// Whether times may move without a request: a store to a mapping of the backing file is
    /// nothing that the kernel sees as a change of ours.
    pub(crate) fn changes_unseen(&self) -> bool {
        self.mapped.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn only_the_first_of_the_open_handles_decides() {
        let (through, asked) = (Through::default(), Cell::new(0));
        let enter = || {
            through.enter(|| {
                asked.set(asked.get() + 1);
                None
            })
        };
        for times in 1..4 {
            assert_eq!(enter(), Server::Here { stale: false });
            enter();
            through.leave();
            enter();
            assert_eq!(asked.get(), times);
            through.leave();
            through.leave();
        }
    }

    #[test]
    fn pages_that_the_kernel_has_gone_past_are_dropped_once() {
        let open = Open { stale: true, ..Open::default() };
        let through = Through { open: Mutex::new(open), ..Through::default() };
        assert_eq!(through.enter(|| None), Server::Here { stale: true });
        assert_eq!(through.enter(|| None), Server::Here { stale: false });
    }
}
