//! `fusewire-bench`: paired and interleaved measurements of fusewire, its peers and its limits.
//!
//! A *row* is one kind of work ([`matrix`]); a *contender* is a daemon, in one configuration, or
//! the filesystem that limits all of them ([`contender`]). [`runner`] mounts all contenders of a
//! row, and lets them take turns; who reads and writes are processes of their own ([`child`]) that
//! run a [`load::Load`] and know nothing of contenders. What came out is a [`results::Run`];
//! tables, the page and the comparison of two runs are made of that alone.
//!
//! `unsafe` stands in [`sys`]: the ring of the load generator and a mapping of a file.
//!
//! [`codec`] and [`served`] are apart: for the counts of instructions that
//! `scripts/count-instructions` makes.

pub mod agreement;
pub mod building;
pub mod child;
pub mod codec;
pub mod compare;
pub mod contender;
pub mod daemon;
pub mod load;
pub mod machine;
pub mod matrix;
pub mod model;
pub mod page;
pub mod pattern;
pub mod results;
pub mod runner;
pub mod served;
pub mod statistics;
pub mod sys;
pub mod table;

/// What went wrong, for a person.
pub type Failure = String;
