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

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use crate::opcode::Opcode;

    const SOURCES: &str = concat!(
        include_str!("attr.rs"),
        include_str!("create.rs"),
        include_str!("device.rs"),
        include_str!("dir.rs"),
        include_str!("entry.rs"),
        include_str!("file.rs"),
        include_str!("lock.rs"),
        include_str!("range.rs"),
        include_str!("session.rs"),
        include_str!("xattr.rs"),
    );

    #[test]
    #[cfg_attr(miri, ignore = "reads comments, and runs no line of the crate")]
    fn every_operation_tells_the_five_things_in_order() {
        let all = SOURCES.lines().collect::<Vec<_>>();
        for opcode in Opcode::ALL {
            // `/// RENAME and RENAME2: ...` is of both.
            let is_title = |line: &&str| {
                let title = line.strip_prefix("/// ").and_then(|line| line.split_once(':'));
                title.is_some_and(|(names, _)| names.split(" and ").any(|it| it == opcode.name()))
            };
            let docs = all.iter().skip_while(|line| !is_title(line));
            let docs = docs.take_while(|line| line.starts_with("///"));
            let points: Vec<_> = docs.filter_map(|line| line.strip_prefix("/// - **")).collect();
            let heads: Vec<_> = points.iter().filter_map(|it| it.split("**: ").next()).collect();
            assert_eq!(heads, ["From", "Reply", "Cached", "Errors", "Kernel"], "{opcode}");
            let is_cited = |it: &&str| it.contains("fs/fuse/") && it.contains("since 7.");
            assert!(points.last().is_some_and(is_cited), "{opcode}");
        }
    }
}
