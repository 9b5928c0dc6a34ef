//! The executor: one future per slot, set in place, polled by the shard.
//!
//! A future that never awaits is polled once. Nothing is allocated per request: the place of each
//! future and its waker are made with the slot. Panics of handlers end here.
//!
//! Never known here: transports. Neighbours: `shard` starts and polls, `service` answers.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, Waker};

use fusewire_proto::abi::InHeader;
use fusewire_proto::negotiate::Agreement;
use fusewire_proto::{Errno, Operation};

use crate::context::{Context, Marks};
use crate::io::Desk;
use crate::linger::Lounge;
use crate::mailbox::{Mailbox, SlotWaker};
use crate::notify::Notifier;
use crate::reply::{Out, Outcome};
use crate::service::Service;
use crate::slot::SlotId;
use crate::stats::ShardStats;
use crate::sys::arena::{Held, Span};

/// What the futures of a shard share with it.
#[derive(Debug)]
pub(crate) struct Local {
    pub(crate) agreement: Agreement,
    pub(crate) mailbox: Arc<Mailbox>,
    pub(crate) notifier: Notifier,
    pub(crate) stats: Arc<ShardStats>,
    pub(crate) desk: Desk,
    pub(crate) lounge: Lounge,
    /// One per slot.
    pub(crate) marks: Box<[Marks]>,
    /// Whether messages that are not urgent come together, and later.
    pub(crate) may_rest: bool,
}

/// A request on its way into a future.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) held: Held,
    pub(crate) header: InHeader,
    pub(crate) span: Span,
    pub(crate) slot: SlotId,
    /// Whether the transport sends shared bytes from where they lie.
    pub(crate) sharing: bool,
}

/// Serves one request. The future owns the slot's memory, so the operation can borrow from it.
pub(crate) async fn serve<S: Service>(
    service: Rc<S>,
    local: Rc<Local>,
    mut request: Request,
) -> Outcome {
    let split = request.held.split(&request.span);
    let operation = match Operation::decode(&request.header, split.argument, split.input) {
        Ok(operation) => operation,
        Err(error) => {
            local.stats.malformed.add(1);
            tracing::warn!(unique = %request.header.unique, %error, "malformed request");
            return Outcome::Error(error.errno());
        }
    };
    if let Operation::Unknown { opcode, .. } = operation {
        local.stats.unknown.add(1);
        tracing::warn!(opcode, "an opcode beyond the protocol that is known");
    }
    let marks = &local.marks[request.slot.index as usize];
    #[cfg(debug_assertions)]
    marks.review.asks(&operation, &local.agreement);
    let out = Out::new(split.output, split.output_at, request.sharing, split.parts);
    let cx = Context {
        header: request.header,
        slot: request.slot,
        marks,
        may_rest: local.may_rest,
        agreement: &local.agreement,
        mailbox: &local.mailbox,
        notifier: &local.notifier,
        desk: &local.desk,
        lounge: &local.lounge,
    };
    service.call(&cx, operation, out).await
}

/// The futures of a shard's slots.
pub(crate) struct Tasks<F> {
    places: Box<[Pin<Box<Option<F>>>]>,
    wakers: Box<[Waker]>,
}

impl<F: Future<Output = Outcome>> Tasks<F> {
    pub(crate) fn new(slots: usize, mailbox: &Arc<Mailbox>) -> Self {
        let waker = |slot| Waker::from(Arc::new(SlotWaker { mailbox: Arc::clone(mailbox), slot }));
        Self {
            places: (0..slots).map(|_| Box::pin(None)).collect(),
            wakers: (0..slots).map(waker).collect(),
        }
    }

    /// Puts a new future into a slot's place.
    pub(crate) fn start(&mut self, slot: usize, future: F) {
        self.places[slot].set(Some(future));
    }

    /// Polls a slot's future, if there is one. `Err` tells that it panicked; then, as when it is
    /// ready, it is gone and the slot's memory is free.
    pub(crate) fn poll(&mut self, slot: usize) -> Poll<Result<Outcome, Panicked>> {
        let place = &mut self.places[slot];
        let mut cx = TaskContext::from_waker(&self.wakers[slot]);
        let polled = catch_unwind(AssertUnwindSafe(|| match place.as_mut().as_pin_mut() {
            Some(future) => future.poll(&mut cx),
            None => Poll::Pending,
        }));
        let ended = match polled {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(outcome)) => Ok(outcome),
            Err(_) => Err(Panicked),
        };
        match catch_unwind(AssertUnwindSafe(|| self.places[slot].set(None))) {
            Ok(()) => Poll::Ready(ended),
            Err(_) => Poll::Ready(Err(Panicked)),
        }
    }

    /// Whether waking `waker` would have this slot polled.
    pub(crate) fn wakes(&self, slot: usize, waker: &Waker) -> bool {
        self.wakers[slot].will_wake(waker)
    }

    /// Whether the slot has a future.
    pub(crate) fn has(&self, slot: usize) -> bool {
        self.places[slot].is_some()
    }

    /// Drops all futures.
    pub(crate) fn clear(&mut self) {
        for place in &mut self.places {
            let _ = catch_unwind(AssertUnwindSafe(|| place.set(None)));
        }
    }
}

/// A handler panicked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Panicked;

impl From<Panicked> for Outcome {
    fn from(_: Panicked) -> Self {
        Self::Error(Errno::EIO)
    }
}
