//! The wire structs: one Rust struct for each C struct of include/uapi/linux/fuse.h, 7.45.
//!
//! Names are those of the C twins without `fuse_`; fields keep their C names, except `type`, which
//! is `kind`, and leading underscores, which go. Integers are in host byte order. Every struct is
//! free of implicit padding, so it becomes bytes and comes from bytes through zerocopy alone.
//! Sizes and offsets are asserted beside each struct, and compared with an independent description
//! of the C header by the test `layout`.
//!
//! This module knows no meaning beyond a field's own: flags are in [`flags`](crate::flags),
//! decoded requests in [`op`](crate::op), friendly replies in [`reply`](crate::reply).

mod attr;
mod consts;
mod cuse;
mod dir;
mod ext;
mod file;
mod header;
mod init;
mod lock;
mod misc;
mod notify;
mod uring;
mod xattr;

pub use attr::*;
pub use consts::*;
pub use cuse::*;
pub use dir::*;
pub use ext::*;
pub use file::*;
pub use header::*;
pub use init::*;
pub use lock::*;
pub use misc::*;
pub use notify::*;
pub use uring::*;
pub use xattr::*;
