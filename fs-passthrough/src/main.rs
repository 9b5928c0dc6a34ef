//! The daemon: mounts a mirror of a directory and serves it until it is unmounted.

use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use fusewire::cli::{self, CommonArgs, Switch};
use fusewire_passthrough::{Cache, DataPath, Jail, Mirror, Options, PassthroughFs};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The most descriptors that are held for being known where nothing is said: each keeps an inode
/// of the backing filesystem in memory.
const FD_BUDGET_MAX: u64 = 65536;

/// A mirror of a directory, over FUSE-over-io_uring or /dev/fuse
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    /// Directory to mirror; what is mounted below it is not shown
    backing: PathBuf,
    #[command(flatten)]
    common: CommonArgs,
    /// What the kernel may keep: all for a day, names for a second, nothing
    #[arg(long, value_enum, default_value = "auto", value_name = "HOW")]
    cache: CacheArg,
    /// Seconds that attributes are good for [default: by --cache]
    #[arg(long, value_parser = seconds, value_name = "SECONDS")]
    attr_timeout: Option<Duration>,
    /// Seconds that names are good for [default: by --cache]
    #[arg(long, value_parser = seconds, value_name = "SECONDS")]
    entry_timeout: Option<Duration>,
    /// Reads and writes go past the page cache, so that nothing is written back
    #[arg(long)]
    direct: bool,
    /// Refuse all changes
    #[arg(long)]
    readonly: bool,
    /// No extended attributes, and so no ACLs
    #[arg(long)]
    no_xattr: bool,
    /// Descriptors held for files that are only known [default: half of the limit, up to 65536]
    #[arg(long, value_name = "N")]
    fd_budget: Option<usize>,
    /// How data move
    #[arg(long, value_enum, default_value = "auto", value_name = "HOW")]
    io: IoArg,
    /// Where locks are kept: with the backing files, for all who use them, or in the kernel, for
    /// users of the mount alone
    #[arg(long, value_enum, default_value = "backing", value_name = "WHERE")]
    locks: LocksArg,
    /// Tell the kernel at once what others change in BACKING, and let it keep names and attributes
    /// for a minute; as root, and where BACKING's filesystem has file handles
    #[arg(long)]
    watch: bool,
    /// Lock the threads that serve into an empty directory, with few capabilities and system
    /// calls: a second wall, should something lead out of BACKING [default: on, for root]
    #[arg(long, value_enum, value_name = "SWITCH")]
    sandbox: Option<Switch>,
}

/// `--cache`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum CacheArg {
    /// Nobody else changes the directory
    Always,
    /// Others may
    Auto,
    /// Ask each time
    Never,
}

/// `--io`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum IoArg {
    /// What is in memory by system calls, what is not on the ring
    Auto,
    /// All on the ring of the shard that serves the request
    Ring,
    /// All by system calls of that shard
    Sync,
    /// By the kernel alone where it can, and without write-back; the rest as auto
    Kernel,
}

/// `--locks`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum LocksArg {
    /// With the backing files
    Backing,
    /// In the kernel
    Mount,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let number: f64 = text.parse().map_err(|_| "expected seconds, such as 0.5".to_owned())?;
    Duration::try_from_secs_f64(number).map_err(|error| error.to_string())
}

fn main() -> ExitCode {
    let mut args = Args::parse();
    let path = match args.io {
        IoArg::Auto => DataPath::Auto,
        IoArg::Ring => DataPath::Ring,
        IoArg::Sync => DataPath::Sync,
        IoArg::Kernel => DataPath::Kernel,
    };
    if args.direct && path == DataPath::Kernel {
        let _ = writeln!(
            io::stderr(),
            "error: --direct has all reads and writes come here, --io kernel keeps them away; \
             leave one of them out"
        );
        return ExitCode::FAILURE;
    }
    let limit = raise_descriptors();
    let budget = usize::try_from((limit / 2).min(FD_BUDGET_MAX)).unwrap_or(usize::MAX);
    let cache = match args.cache {
        CacheArg::Always => Cache::Always,
        CacheArg::Auto => Cache::Auto,
        CacheArg::Never => Cache::Never,
    };
    if args.readonly {
        args.common.options.push("ro".to_owned());
    }
    let words: Vec<&str> = args.common.options.iter().flat_map(|list| list.split(',')).collect();
    let chosen = Options::new(cache);
    let chosen = if args.watch { chosen.watched() } else { chosen };
    let options = Options {
        attr_timeout: args.attr_timeout.unwrap_or(chosen.attr_timeout),
        writing_timeout: args.attr_timeout.unwrap_or(chosen.writing_timeout),
        entry_timeout: args.entry_timeout.unwrap_or(chosen.entry_timeout),
        io: path,
        direct: args.direct,
        xattr: !args.no_xattr,
        readonly: words.contains(&"ro"),
        noatime: words.contains(&"noatime"),
        fd_budget: args.fd_budget.unwrap_or(budget),
        ..chosen
    };
    let options = match sandboxed(options, args.sandbox) {
        Ok(options) => options,
        Err(error) => {
            let advice = "run as root with CAP_SYS_ADMIN, or with --sandbox off";
            let _ = writeln!(io::stderr(), "error: no sandbox: {error}; {advice}");
            return ExitCode::FAILURE;
        }
    };
    let (direct, jail) = (options.is_direct(), options.jail.clone());
    let mirror = match Mirror::open(&args.backing, options) {
        Ok(mirror) => mirror,
        Err(error) => {
            let path = args.backing.display();
            let _ = writeln!(io::stderr(), "error: {path}: {error}; give a directory");
            return ExitCode::FAILURE;
        }
    };
    if args.watch
        && let Err(error) = mirror.watch()
    {
        let advice = "or leave --watch out: changes then show within the timeouts";
        let _ = writeln!(io::stderr(), "error: --watch: {error}; {advice}");
        return ExitCode::FAILURE;
    }
    if !mirror.has_handles() {
        let why = "no file handles here (not root, or not with this filesystem)";
        let _ = writeln!(io::stderr(), "{why}: each file that is known takes a descriptor");
    }
    if direct {
        args.common.writeback = Switch::Off;
    }
    let config = args.common.config("fusewire-passthrough").default_permissions(true);
    let config = config.guard(args.watch);
    let config =
        config.passthrough(path == DataPath::Kernel).locks(args.locks == LocksArg::Backing);
    let counted = Arc::clone(&mirror);
    let make = move |shard| {
        if shard == 0 {
            let sandbox = jail.as_ref().map_or_else(|| "off".to_owned(), ToString::to_string);
            tracing::info!("sandbox: {sandbox}");
        }
        PassthroughFs::new(Arc::clone(&mirror))
    };
    cli::run_counting(&args.common, config, make, move || counted.figures())
}

/// With a jail where one is asked for, or can be had and nothing is said.
fn sandboxed(options: Options, asked: Option<Switch>) -> io::Result<Options> {
    if asked == Some(Switch::Off) {
        return Ok(options);
    }
    match Jail::build(&options) {
        Ok(jail) => Ok(Options { jail: Some(Arc::new(jail)), ..options }),
        Err(error) if asked == Some(Switch::On) => Err(error),
        Err(error) => {
            let what = "paths, capabilities and system calls are not restricted";
            let _ = writeln!(io::stderr(), "no sandbox ({error}): {what}");
            Ok(options)
        }
    }
}

/// Raises the limit of descriptors as far as it goes, which for root is the system's; returns it.
/// Each file or directory that lost its name while it was known by its handle takes one, until the
/// kernel forgets it.
fn raise_descriptors() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let most = fs::read_to_string("/proc/sys/fs/nr_open").ok();
    let most = most.and_then(|text| text.trim().parse().ok());
    let raises = [most, limit.maximum].map(|all| Rlimit { current: all, maximum: all });
    let raised = raises.into_iter().find(|raised| setrlimit(Resource::Nofile, *raised).is_ok());
    raised.unwrap_or(limit).current.unwrap_or(u64::MAX)
}
