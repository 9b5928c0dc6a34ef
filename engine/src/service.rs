//! The seam between a shard and what answers: one async method over every operation.
//!
//! A [`crate::Filesystem`] becomes a `Service` through [`crate::Serve`]; layers, proxies and
//! replayers implement it directly.
//!
//! Never known here: transports. Neighbours: `dispatch` implements it, `shard` calls it.

#![allow(async_fn_in_trait, reason = "a future stays on its shard's thread and need not be Send")]

use std::io;

use fusewire_proto::negotiate::Agreement;
use fusewire_proto::{LookupCount, NodeId, Operation};

use crate::context::Context;
use crate::notify::Notifier;
use crate::reply::{Out, Outcome};

/// What answers requests; one instance per shard, so `Rc` and `Cell` are fine.
pub trait Service: 'static {
    /// Called once, on the shard's own thread, before its first request and when all that the
    /// shard itself needs is open: what the thread gives up here it need not have again. The
    /// notifier is for what happens without a request. A layer hands it on.
    ///
    /// # Errors
    /// End the start of the session.
    fn start(&self, agreement: &Agreement, notifier: &Notifier) -> io::Result<()>;

    /// Answers one operation. INIT and INTERRUPT never come here: the session has them.
    ///
    /// # Panics
    /// A panic answers EIO and is counted; the session lives on.
    async fn call(&self, cx: &Context<'_>, op: Operation<'_>, out: Out<'_>) -> Outcome;

    /// `lookups` lookups of `node` are no longer the kernel's: by FORGET, or because an answer
    /// that gave one was not delivered.
    fn forget(&self, node: NodeId, lookups: LookupCount);
}
