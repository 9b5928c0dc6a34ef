//! The Linux FUSE protocol, version 7.45, as borrowed and checked values.
//!
//! ```text
//!   request, kernel -> server
//!   0                              40                      + argument_len
//!   +------------------------------+-----------------------+-----------------------------------+
//!   | InHeader                     | argument              | payload                           |
//!   | len opcode unique nodeid     | the opcode's struct,  | names (NUL), data, items; at the  |
//!   | uid gid pid total_extlen pad | abi::WriteIn, ...     | very end total_extlen * 8 bytes   |
//!   |                              | or nothing            | of extensions                     |
//!   +------------------------------+-----------------------+-----------------------------------+
//!         \                            |                       /
//!          +-- Operation::decode(&header, argument, payload) -+--> Operation<'a>, borrowing
//!
//!   reply, server -> kernel                        notification, server -> kernel
//!   0                  16                          0                  16
//!   +------------------+-----------------------+   +------------------+---------------------+
//!   | OutHeader        | body                  |   | OutHeader        | body                |
//!   | len error unique | Reply::encode         |   | len code 0       | Notification::encode|
//!   +------------------+-----------------------+   +------------------+---------------------+
//! ```
//! On the ring transport the header, the argument and the payload stand in three places, which is
//! why decoding takes three pieces; [`request::split`] makes them from a contiguous message.
//!
//! The crate knows no I/O, no clock and no allocator. It has no unsafe code: bytes become structs
//! through zerocopy, with sizes and offsets asserted beside each struct and compared with a
//! description of the C header by a test. Malformed bytes give a [`DecodeError`], never a panic.
//! Integers are in host byte order, as the kernel sends them.
//!
//! ```
//! use fusewire_proto::abi::OutHeader;
//! use fusewire_proto::{Errno, Operation, frame, request};
//!
//! # let mut message = Vec::new();
//! # message.extend(46_u32.to_ne_bytes()); // len
//! # message.extend(1_u32.to_ne_bytes()); // opcode
//! # message.extend(8_u64.to_ne_bytes()); // unique
//! # message.extend(1_u64.to_ne_bytes()); // nodeid
//! # message.extend([0; 16]); // nobody in particular
//! # message.extend(b"hello\0");
//! // `message` is what read(2) gave: a LOOKUP of "hello" in the root directory.
//! let (header, argument, payload) = request::split(&message, false)?;
//! let op = match Operation::decode(&header, argument, payload)? {
//!     Operation::Lookup(op) => op,
//!     other => panic!("{other:?}"),
//! };
//! assert_eq!(op.name.as_bytes(), b"hello");
//!
//! let mut out = [0; OutHeader::LEN];
//! let reply = OutHeader::new(header.unique, Err(Errno::ENOENT), 0);
//! assert!(frame::put_out_header(&mut out, &reply));
//! assert_eq!(out[4..8], (-2_i32).to_ne_bytes());
//! # Ok::<(), fusewire_proto::DecodeError>(())
//! ```
//!
//! | module | holds |
//! |---|---|
//! | [`types`] | newtypes, [`Errno`], [`Name`], [`Timestamp`] |
//! | [`opcode`] | the opcode table |
//! | [`abi`] | the wire structs and constants |
//! | [`flags`] | flag words |
//! | [`mod@mode`] | modes and types of files |
//! | [`frame`] | headers in raw memory, for transports |
//! | [`op`] | one struct per operation, and what it means |
//! | [`request`] | [`Operation`]: requests, both ways |
//! | [`reply`] | replies, both ways, and what the kernel makes of them |
//! | [`dirent`] | directory streams: writers and readers |
//! | [`notify`] | notifications, both ways |
//! | [`mod@negotiate`] | INIT: what is agreed, and why |
//!
//! With feature `serde` all that is decoded is `Serialize`, for tools that write JSON lines:
//!
//! - A message is an enum whose variant is the word that its `Display` begins with:
//!   `{"LOOKUP":{"name":"a"}}`, `{"written":4096}`, `{"PRUNE":{"nodes":[5]}}`. Modes are numbers
//!   too, numbers have up to 64 bits, and a field that does not count is null.
//! - Flags are one string, `"WRONLY | 0x80000000"`: names, and in hexadecimal what has none. In
//!   formats that are not for people they are the number. Unknown bits stay in both.
//! - Names, targets and names of attributes are strings that keep every byte: what is not UTF-8
//!   stands as `\xff`, a backslash as two.
//! - Data are `{"len":1048576,"head":"..."}`, where `head` is at most the first 256 bytes, escaped
//!   in the same way. Padding is left out.
//! - An [`Errno`] is its name, or its number in a string; headers keep the number of the wire.
//!
//! Plain values (identities, times, modes, flags, locks, [`Attr`]) are `Deserialize` as well.
//! Messages are not: they are read back from their bytes, which whoever records them keeps.
//!
//! Both directions of a message stand beside each other, so a server, a simulated kernel, a proxy
//! and a recorder use the same code.

#![no_std]
#![forbid(unsafe_code)]
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

#[cfg(any(test, feature = "fuzzing"))]
extern crate std;

pub mod abi;
mod composer;
mod cursor;
pub mod dirent;
pub mod flags;
pub mod frame;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
pub mod mode;
pub mod negotiate;
pub mod notify;
pub mod op;
pub mod opcode;
pub mod reply;
pub mod request;
mod scan;
#[cfg(feature = "serde")]
mod serialize;
mod show;
pub mod types;
mod writer;

pub use composer::EncodeError;
pub use cursor::{DecodeError, Expected};
pub use dirent::{DirentPlusReader, DirentPlusWriter, DirentReader, DirentWriter};
pub use mode::{FileType, Mode};
pub use negotiate::{Agreement, Limits, NegotiateError, Offer, Reason, Wishes, negotiate};
pub use notify::Notification;
pub use op::{FileLock, LockKind, Whence};
pub use opcode::Opcode;
pub use reply::{Answer, Asked, Attr, Attributes, Entry, FsStats, Opened, Reply, StatxAttributes};
pub use request::{Envelope, Forms, Operation};
pub use types::{
    Errno, Fh, Generation, LockOwner, LookupCount, Name, NameError, NodeId, PollHandle, Result,
    Text, Timestamp, Unique, XattrName,
};
pub use writer::TooSmall;
