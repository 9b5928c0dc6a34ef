//! Replies, notifications and directory streams have the bytes that the kernel reads.
//!
//! `bytes` makes the expected message by offsets written down by hand, `asked` the requests that
//! are answered. What is encoded decodes to the same, and `judge` has a case per rule.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod asked;
mod bytes;
mod dirents;
mod display;
mod judge;
mod judge_frames;
mod notifications;
mod replies;
mod reply_forms;
