//! A POSIX filesystem in memory, served by fusewire.
//!
//! ```text
//!   filesystem   operations to answers
//!     tree rename file attributes    what they do
//!       node directory data xattr acl    what there is
//!         chunk limits clock caller options
//! ```
//! Shared by all shards: each node has a lock of its own, and the table of nodes is cut into
//! shards. The order of locks stands in `tree`.

mod acl;
mod attributes;
mod caller;
mod chunk;
mod clock;
mod data;
mod directory;
mod file;
mod filesystem;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod limits;
mod node;
mod options;
mod rename;
mod tree;
mod xattr;

pub use filesystem::MemoryFs;
pub use options::Options;
pub use tree::Memory;
