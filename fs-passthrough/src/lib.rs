//! A filesystem that mirrors a directory, served by fusewire.
//!
//! ```text
//!   filesystem   operations to answers
//!     mirror     what is shared, and what several operations need
//!     make attributes data listing xattr caller    what they do
//!     locks                                        and what they keep each other from doing
//!       table handles recent node through figures  what is known
//!       owners deadlock                            and had, or waited for
//!       watch                                      what others change (--watch)
//!         backing jail options                     the way in, and the walls around it
//!           calls sys wait error                   the system
//! ```
//! Shared by all shards. The order of locks stands in `table`.

mod attributes;
mod backing;
mod caller;
mod calls;
mod data;
mod deadlock;
mod error;
mod figures;
mod filesystem;
mod handles;
mod jail;
mod listing;
mod locks;
mod make;
mod mirror;
mod node;
mod options;
mod owners;
mod recent;
mod sys;
mod table;
mod through;
mod wait;
mod watch;
mod xattr;

pub use filesystem::PassthroughFs;
pub use jail::Jail;
pub use mirror::Mirror;
pub use options::{Cache, DataPath, Options};
