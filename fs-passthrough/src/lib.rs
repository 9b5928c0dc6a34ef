//! A filesystem that mirrors a directory, served by fusewire.
//!
//! ```text
//!   filesystem   operations to answers
//!     mirror     what is shared, and what several operations need
//!     make attributes data listing xattr caller    what they do
//!       table handles recent node through figures  what is known
//!         backing jail options                     the way in, and the walls around it
//!           calls sys error                        the system
//! ```
//! Shared by all shards. The order of locks stands in `table`.

mod attributes;
mod backing;
mod caller;
mod calls;
mod data;
mod error;
mod figures;
mod filesystem;
mod handles;
mod jail;
mod listing;
mod make;
mod mirror;
mod node;
mod options;
mod recent;
mod sys;
mod table;
mod through;
mod xattr;

pub use filesystem::PassthroughFs;
pub use jail::Jail;
pub use mirror::Mirror;
pub use options::{Cache, DataPath, Options};
