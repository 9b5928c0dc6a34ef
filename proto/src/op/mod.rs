//! The operations: one struct for each opcode, with what it means.
//!
//! Every struct tells, in this order: what is asked; **From**, the system call that leads here;
//! **Reply**, what the answer holds; **Cached**, what the kernel keeps of it; **Errors** that
//! callers expect; **Kernel**, the function that sends it, and since which version. The inode that
//! an operation is about is the header's nodeid, so it is not repeated here.
//!
//! Strings and data are borrowed from the message. Each file ends with the decoders and encoders of
//! its family; [`request`](crate::request) picks one by opcode. Fields that travel only if a flag
//! says so are options, and encoding sets that flag from them.

mod attr;
mod create;
mod device;
mod dir;
mod entry;
mod extensions;
mod file;
mod lock;
mod range;
mod session;
mod show;
mod xattr;

pub use attr::*;
pub use create::*;
pub use device::*;
pub use dir::*;
pub use entry::*;
pub use extensions::*;
pub use file::*;
pub use lock::*;
pub use range::*;
pub use session::*;
pub use xattr::*;
