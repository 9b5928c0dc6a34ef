//! An io_uring-driven engine for the Linux FUSE protocol, without libfuse.
//!
//! Implement [`Filesystem`], give a [`Config`] and a factory to [`Session::mount`], and
//! [`Session::run`] it. Requests come over FUSE-over-io_uring or `/dev/fuse`; the filesystem does
//! not notice which.
//!
//! ```text
//!   kernel == transport == shard -- task -- dispatch -- Filesystem (yours)
//!               |            |
//!             sys/ring     slots, sys/arena
//! ```
//!
//! # Invariants
//! The code names these where it rests on them.
//!
//! * **I1** a slot's buffer is held by us or lent to the kernel, never both (`sys/arena`).
//! * **I2** every request that was delivered is committed exactly once (`slot`).
//! * **I3** what is pushed to a ring is not lost (`sys/ring`).
//! * **I4** an answer of an earlier request cannot hit a later one in the same slot (`slot`).
//! * **I5** a shard allocates nothing per request in its steady state (`shard`).
//! * **I6** a slot's memory outlives every loan, or is leaked (`sys/arena`).
//! * **I7** lookups given equal lookups forgotten, counting delivered answers only (`shard`).
//! * **I9** a slot is not answered while an operation of its handler on a file is in flight (`io`).
//! * **I8** no byte of one request reaches another's answer: only what was filled is sent.

mod awake;
mod backing;
mod callers;
mod config;
mod context;
mod crew;
mod dispatch;
mod early;
mod error;
mod filesystem;
mod io;
mod lead;
mod linger;
mod mailbox;
mod mount;
mod notify;
mod placement;
mod plan;
mod reply;
#[cfg(debug_assertions)]
mod review;
mod scales;
mod sentry;
mod service;
mod session;
mod shard;
mod slot;
mod stats;
mod sys;
mod task;
mod thread;
mod transport;
mod whereabouts;

#[cfg(feature = "cli")]
pub mod cli;
pub mod sim;

pub use backing::Backing;
pub use config::{Config, GIB, KIB, MIB, TransportChoice};
pub use context::{Context, Detached};
pub use dispatch::Serve;
pub use error::{Error, Result};
pub use filesystem::Filesystem;
pub use fusewire_proto as proto;
pub use fusewire_proto::{FileType, Reply};
pub use io::Io;
pub use linger::{Linger, Patience};
pub use mailbox::Answer;
pub use notify::{Notifier, Sent};
pub use plan::TransportKind;
pub use reply::{DirBuf, DirPlusBuf, Out, Outcome, Output, ReadBuf, XattrBuf};
pub use service::Service;
pub use session::{Event, Session};
pub use stats::{OpcodeStats, Stats};
pub use sys::heap::trim_heap;
