//! With feature `serde` everything decoded becomes a line of JSON, and no bit or byte of a name is
//! lost on the way.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod golden;
mod lines;
mod values;
