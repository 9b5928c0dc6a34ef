//! Requests: every opcode decodes to what was put in, and nothing malformed gets through.
//!
//! `raw` builds messages by offsets written down by hand; `cases` pairs such a message with the
//! operation it should give, for every opcode; the other two files hold the promises.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod cases;
mod display;
mod encode;
mod extensions;
mod malformed;
mod raw;
mod round_trip;
