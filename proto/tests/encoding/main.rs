//! Replies, notifications and directory streams have the bytes that the kernel reads.
//!
//! `bytes` makes the expected message by offsets written down by hand.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod bytes;
mod dirents;
mod notifications;
mod replies;
