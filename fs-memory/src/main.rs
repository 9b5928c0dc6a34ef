//! The daemon: mounts a filesystem in memory and serves it until it is unmounted.

use std::fs;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use fusewire::cli::{self, CommonArgs};
use fusewire_memory::{Memory, MemoryFs, Options};

/// A POSIX filesystem in memory, over FUSE-over-io_uring or /dev/fuse
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    #[command(flatten)]
    common: CommonArgs,
    /// Most bytes of file data [default: half of the memory]
    #[arg(long, value_parser = cli::size, value_name = "SIZE")]
    size: Option<u64>,
    /// Most files
    #[arg(long, default_value_t = 1 << 20, value_name = "N")]
    inodes: u64,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let uid = nix::unistd::getuid().as_raw();
    let gid = nix::unistd::getgid().as_raw();
    let size = args.size.unwrap_or_else(half_of_the_memory);
    let words = args.common.options.iter().flat_map(|list| list.split(','));
    let atime = !words.into_iter().any(|word| word == "noatime");
    let options = Options { size, inodes: args.inodes, atime, uid, gid, ..Options::default() };
    let memory = Memory::new(&options);
    if let Err(error) = memory.return_freed_memory() {
        eprintln!("error: a thread: {error}; raise the limit of processes (ulimit -u)");
        return ExitCode::FAILURE;
    }
    let config = args.common.config("fusewire-memory").default_permissions(true);
    cli::run(&args.common, config, move |_shard| MemoryFs::new(Arc::clone(&memory)))
}

/// As tmpfs has it. Where /proc is not there, what [`Options`] says.
fn half_of_the_memory() -> u64 {
    let kib = || -> Option<u64> {
        let text = fs::read_to_string("/proc/meminfo").ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
        line.split_whitespace().next()?.parse().ok()
    };
    kib().map_or(Options::default().size, |kib| kib / 2 * 1024)
}
