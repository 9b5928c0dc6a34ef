//! The harness: daemons that are always taken down, bodies that cannot hang a test.

mod client;
mod daemon;
mod files;
mod place;
mod run;
mod stats;
pub(crate) mod system;

pub(crate) use client::{Client, tell};
pub(crate) use daemon::{Daemon, Ready, Refusal, Setup, Transport, open_to_all, wait_until_gone};
pub(crate) use files::*;
pub(crate) use place::Place;
pub(crate) use run::{Kind, Plan, body_directory, cases, drill, drills, run, why_not};
