//! What the documentation of a flag says of its age is what the C header's history says.
//!
//! The oracle is the list of changes at the head of include/uapi/linux/fuse.h, 7.45, as far as it
//! names a flag; and the opcodes' ages of `abi/fuse-7.45.json`, because no flag of a message is
//! older than the message.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
#![cfg_attr(miri, allow(unused, reason = "nothing here runs a line of the crate"))]

use std::collections::BTreeMap;

use fusewire_proto::Opcode;

const SOURCES: [&str; 2] =
    [include_str!("../src/flags/mod.rs"), include_str!("../src/flags/calls.rs")];

/// Minor version, and what the header says came with it.
const HISTORY: &[(u32, &[&str])] = &[
    (2, &["FOpenFlags::DIRECT_IO", "FOpenFlags::KEEP_CACHE"]),
    (3, &["SetAttrValid::FH"]),
    (7, &["InitFlags::POSIX_LOCKS"]),
    (9, &["GetAttrFlags", "LkFlags", "SetAttrValid::LOCKOWNER", "ReadFlags", "WriteFlags"]),
    (9, &["SetAttrValid::ATIME_NOW", "SetAttrValid::MTIME_NOW"]),
    (10, &["FOpenFlags::NONSEEKABLE"]),
    (11, &["IoctlFlags", "PollFlags"]),
    (12, &["InitFlags::DONT_MASK"]),
    (14, &["InitFlags::SPLICE_WRITE", "InitFlags::SPLICE_MOVE", "InitFlags::SPLICE_READ"]),
    (16, &["IoctlFlags::IS_32BIT"]),
    (17, &["InitFlags::FLOCK_LOCKS", "ReleaseFlags::FLOCK_UNLOCK"]),
    (18, &["IoctlFlags::DIR"]),
    (20, &["InitFlags::AUTO_INVAL_DATA"]),
    (21, &["InitFlags::DO_READDIRPLUS"]),
    (22, &["InitFlags::ASYNC_DIO"]),
    (23, &["InitFlags::WRITEBACK_CACHE", "InitFlags::NO_OPEN_SUPPORT", "SetAttrValid::CTIME"]),
    (25, &["InitFlags::PARALLEL_DIROPS"]),
    (26, &["InitFlags::HANDLE_KILLPRIV", "InitFlags::POSIX_ACL"]),
    (27, &["InitFlags::ABORT_ERROR"]),
    (28, &["FOpenFlags::CACHE_DIR", "InitFlags::MAX_PAGES", "InitFlags::CACHE_SYMLINKS"]),
    (29, &["InitFlags::NO_OPENDIR_SUPPORT"]),
    (30, &["InitFlags::EXPLICIT_INVAL_DATA", "IoctlFlags::COMPAT_X32"]),
    (31, &["WriteFlags::WRITE_KILL_SUIDGID", "InitFlags::MAP_ALIGNMENT"]),
    (32, &["AttrFlags", "InitFlags::SUBMOUNTS"]),
    (33, &["InitFlags::HANDLE_KILLPRIV_V2", "SetAttrValid::KILL_SUIDGID", "OpenInFlags"]),
    (33, &["InitFlags::SETXATTR_EXT", "SetXattrFlags"]),
    (35, &["FOpenFlags::NOFLUSH"]),
    (36, &["InitFlags::INIT_EXT", "InitFlags::SECURITY_CTX", "InitFlags::HAS_INODE_DAX"]),
    (36, &["AttrFlags::DAX"]),
    (38, &["InvalEntryFlags", "FOpenFlags::PARALLEL_DIRECT_WRITES"]),
    (38, &["InitFlags::HAS_EXPIRE_ONLY", "InitFlags::CREATE_SUPP_GROUP"]),
    (39, &["InitFlags::DIRECT_IO_ALLOW_MMAP"]),
    (40, &["InitFlags::PASSTHROUGH", "FOpenFlags::PASSTHROUGH", "InitFlags::NO_EXPORT_SUPPORT"]),
    (40, &["InitFlags::HAS_RESEND"]),
    (41, &["InitFlags::ALLOW_IDMAP"]),
    (42, &["InitFlags::OVER_IO_URING"]),
    (43, &["InitFlags::REQUEST_TIMEOUT"]),
];

/// The message that a type's bits came with, where that is not told apart.
const MESSAGES: &[(&str, Opcode)] = &[
    ("CuseFlags", Opcode::CuseInit),
    ("IoctlFlags", Opcode::IoCtl),
    ("PollFlags", Opcode::Poll),
    ("SetupMappingFlags", Opcode::SetupMapping),
    ("RenameFlags", Opcode::Rename2),
    ("XattrFlags", Opcode::SetXattr),
    ("AccessMask", Opcode::Access),
    ("FallocateMode", Opcode::FAllocate),
    ("CopyFlags", Opcode::CopyFileRange),
    ("StatxFlags", Opcode::Statx),
    ("StatxMask", Opcode::Statx),
    ("PollEvents", Opcode::Poll),
    ("OpenFlags", Opcode::Open),
];

/// The first "Since 7.N" of a comment.
fn age(comment: &str) -> Option<u32> {
    let (_, rest) = comment.split_once("ince 7.")?;
    rest.split(|c: char| !c.is_ascii_digit()).next().unwrap().parse().ok()
}

/// Types and flags with the age that their documentation tells; a flag has its type's if it tells
/// none.
fn documented() -> BTreeMap<String, Option<u32>> {
    let mut found = BTreeMap::new();
    for source in SOURCES {
        let (mut comment, mut of) = (String::new(), ("", None));
        for line in source.lines().map(str::trim).skip_while(|line| *line != "flags! {") {
            if line == "}" && comment.is_empty() && of.0.is_empty() {
                break;
            }
            if let Some(text) = line.strip_prefix("///") {
                comment += text;
                continue;
            }
            let name = line.split([':', ' ']).next().unwrap();
            if line.ends_with('{') || line.ends_with("{}") {
                of = (name, age(&comment));
                found.insert(name.to_owned(), of.1);
            } else if line.ends_with(';') && !of.0.is_empty() {
                found.insert(format!("{}::{name}", of.0), age(&comment).or(of.1));
            }
            if line == "}" || line.ends_with("{}") {
                of = ("", None);
            }
            comment.clear();
        }
    }
    found
}

#[test]
#[cfg_attr(miri, ignore = "reads comments, and runs no line of the crate")]
fn flags_are_as_old_as_the_history_says() {
    let documented = documented();
    for (minor, names) in HISTORY {
        for name in *names {
            assert_eq!(documented.get(*name), Some(&Some(*minor)), "{name}");
        }
    }
    for (name, opcode) in MESSAGES {
        let since = Some(opcode.since_minor());
        assert_eq!(documented.get(*name), Some(&since), "{name}");
        let of_type = documented.iter().filter(|(flag, _)| flag.starts_with(&format!("{name}::")));
        for (flag, age) in of_type {
            assert!(*age >= since, "{flag} is older than {opcode}");
        }
    }
}

/// So that a new flag of INIT cannot come without its age.
#[test]
#[cfg_attr(miri, ignore = "reads comments, and runs no line of the crate")]
fn every_capability_tells_its_age() {
    let documented = documented();
    let ageless = ["InitFlags", "InitFlags::INIT_RESERVED"];
    let init = documented.iter().filter(|(name, _)| name.starts_with("InitFlags"));
    let silent: Vec<_> = init.filter(|(_, age)| age.is_none()).map(|(name, _)| name).collect();
    assert_eq!(silent, ageless);
    let counted = documented.keys().filter(|name| name.starts_with("InitFlags::")).count();
    assert_eq!(counted, 43);
}
