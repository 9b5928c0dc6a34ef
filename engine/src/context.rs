//! What a handler gets beside its operation: the caller, the session's terms, interrupts, and the
//! way to let somebody else answer.
//!
//! Never known here: how the answer travels. Neighbours: `task` makes contexts, `mailbox` carries
//! the answers of detached requests.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::task::{Poll, Waker};

use fusewire_proto::abi::InHeader;
use fusewire_proto::negotiate::Agreement;
use fusewire_proto::{Errno, NodeId, Result, Unique};

use crate::backing::Backing;
use crate::io::{Desk, Io};
use crate::linger::{Linger, Lounge, Patience};
use crate::mailbox::{Answer, Letter, Mailbox};
use crate::notify::Notifier;
use crate::slot::SlotId;

/// Marks of one request that both its handler and the shard see.
#[derive(Debug, Default)]
pub(crate) struct Marks {
    interrupted: Cell<bool>,
    pub(crate) detached: Cell<bool>,
    /// Whether more of the same may come later.
    pub(crate) unhurried: Cell<bool>,
    /// Whoever waits in [`Context::interrupted`].
    waiting: RefCell<Vec<Waker>>,
    #[cfg(debug_assertions)]
    pub(crate) review: crate::review::Review,
}

impl Marks {
    /// Makes them those of a new request.
    pub(crate) fn reset(&self) {
        self.interrupted.set(false);
        self.detached.set(false);
        self.unhurried.set(false);
        self.waiting.borrow_mut().clear();
        #[cfg(debug_assertions)]
        self.review.reset();
    }

    /// The caller got a signal.
    pub(crate) fn interrupt(&self) {
        self.interrupted.set(true);
        for waiting in self.waiting.borrow_mut().drain(..) {
            waiting.wake();
        }
    }
}

/// The request around an operation.
#[derive(Debug)]
pub struct Context<'a> {
    pub(crate) header: InHeader,
    pub(crate) slot: SlotId,
    pub(crate) marks: &'a Marks,
    /// Whether messages beside a ring may come together.
    pub(crate) may_rest: bool,
    pub(crate) agreement: &'a Agreement,
    pub(crate) mailbox: &'a Arc<Mailbox>,
    pub(crate) notifier: &'a Notifier,
    pub(crate) desk: &'a Desk,
    pub(crate) lounge: &'a Lounge,
}

impl Context<'_> {
    /// The kernel's name for this request.
    #[must_use]
    pub fn unique(&self) -> Unique {
        self.header.unique
    }

    /// The node that the operation is about: for names, the directory they are in.
    #[must_use]
    pub fn node(&self) -> NodeId {
        self.header.nodeid
    }

    /// The caller's fsuid. Zero in RELEASE and in write-back WRITEs, which no caller makes: never
    /// authorise by it there (`fs/fuse/dev.c, __fuse_simple_request`). With ALLOW_IDMAP agreed it
    /// is all ones in whatever makes no file (`fuse_get_req`).
    #[must_use]
    pub fn uid(&self) -> u32 {
        self.header.uid
    }

    /// The caller's fsgid, with the same exceptions.
    #[must_use]
    pub fn gid(&self) -> u32 {
        self.header.gid
    }

    /// The caller's thread id in the pid namespace of the mount, 0 if it has none there.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.header.pid
    }

    /// What was agreed at INIT.
    #[must_use]
    pub fn agreement(&self) -> &Agreement {
        self.agreement
    }

    /// Reads and writes files of the filesystem's own on the ring that brought the request.
    #[must_use]
    pub fn io(&self) -> Io<'_> {
        Io { desk: self.desk, slot: self.slot.index as usize }
    }

    /// Registers a file for the kernel's passthrough, which must have been agreed at INIT.
    ///
    /// # Errors
    /// EPERM without CAP_SYS_ADMIN in the initial namespace or where passthrough was not agreed,
    /// ELOOP if the file lies too deep in a stack of filesystems, EINVAL if it is not regular.
    pub fn register_backing(&self, file: impl AsFd) -> Result<Backing> {
        Backing::register(self.notifier.connection(), file)
    }

    /// Sends notifications, also later and from other threads if it is cloned.
    #[must_use]
    pub fn notifier(&self) -> &Notifier {
        self.notifier
    }

    /// A place among the requests that wait, for a handler that is about to wait for what another
    /// request may have to bring about, as an unlock does. Each of them keeps a slot, so there is
    /// `None` while half of a queue's slots wait long, or three quarters wait at all; of a shard's
    /// on `/dev/fuse` (`Config::queue_depth`).
    #[must_use]
    pub fn linger(&self, patience: Patience) -> Option<Linger<'_>> {
        self.lounge.enter(self.slot.index as usize, patience)
    }

    /// Ends when the caller got a signal and would rather have EINTR than wait. A handler that may
    /// block should wait for this too: a request that was read keeps its caller unkillable until
    /// it is answered (`fs/fuse/dev.c, request_wait_answer`).
    ///
    /// Over the ring the kernel loses a signal that comes before the request was handed out: there
    /// nothing looks for it afterwards (`fs/fuse/dev_uring.c, fuse_uring_prepare_send`).
    pub async fn interrupted(&self) {
        poll_fn(|cx| {
            if self.marks.interrupted.get() {
                return Poll::Ready(());
            }
            let mut waiting = self.marks.waiting.borrow_mut();
            if !waiting.iter().any(|one| one.will_wake(cx.waker())) {
                waiting.push(cx.waker().clone());
            }
            Poll::Pending
        })
        .await;
    }

    /// Whether the caller got a signal.
    #[must_use]
    pub fn is_interrupted(&self) -> bool {
        self.marks.interrupted.get()
    }

    /// Takes the request out of the handler's hands: whoever holds the token answers it, from any
    /// thread, and what the handler returns is ignored. A dropped token answers EIO.
    ///
    /// # Panics
    /// The second time: a request has one answer.
    #[must_use]
    pub fn detach(&self) -> Detached {
        assert!(!self.marks.detached.replace(true), "I2: a request is detached once");
        Detached { mailbox: Arc::clone(self.mailbox), slot: self.slot, answered: false }
    }
}

/// A request that is answered elsewhere.
#[derive(Debug)]
pub struct Detached {
    mailbox: Arc<Mailbox>,
    slot: SlotId,
    answered: bool,
}

impl Detached {
    /// Answers. The kind of answer must be the one that the opcode has.
    pub fn answer(mut self, answer: Answer) {
        self.answered = true;
        self.mailbox.put(Letter::Answer(self.slot, answer));
    }
}

impl Drop for Detached {
    fn drop(&mut self) {
        if !self.answered {
            self.mailbox.put(Letter::Answer(self.slot, Answer::Error(Errno::EIO)));
        }
    }
}
