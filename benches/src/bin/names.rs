//! Does one thing to many names of a directory and prints how many seconds that took: what
//! `scripts/compare-passthrough` times. One process and one system call or two for each name, so
//! that what is measured is the filesystem.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, StatxFlags, openat, statx, unlinkat};

/// Times an operation on many names
#[derive(Parser)]
struct Args {
    #[arg(value_enum)]
    what: What,
    directory: PathBuf,
    /// How many names
    names: usize,
}

#[derive(Clone, Copy, ValueEnum)]
enum What {
    /// openat(2) of a new file, and close(2)
    Create,
    /// statx(2)
    Stat,
    /// unlinkat(2)
    Unlink,
}

fn run(args: &Args) -> rustix::io::Result<Duration> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = openat(CWD, &args.directory, flags, Mode::empty())?;
    let names: Vec<String> = (0..args.names).map(|number| format!("name-{number:06}")).collect();
    let new = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let start = Instant::now();
    for name in &names {
        match args.what {
            What::Create => drop(openat(&directory, name, new, Mode::from_raw_mode(0o644))?),
            What::Stat => {
                statx(&directory, name, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::BASIC_STATS)?;
            }
            What::Unlink => unlinkat(&directory, name, AtFlags::empty())?,
        }
    }
    Ok(start.elapsed())
}

fn main() -> rustix::io::Result<()> {
    let taken = run(&Args::parse())?;
    println!("{:.6}", taken.as_secs_f64());
    Ok(())
}
