//! The command line that all binaries of the project share.
//!
//! A binary flattens [`CommonArgs`] into its own arguments and hands its filesystem to [`run`].
//! Never known here: what a filesystem is. Neighbour: `session`.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, ValueEnum};
use fusewire_proto::flags::InitFlags;
use libc::O_NONBLOCK;
use nix::sys::signal::{SigSet, SigmaskHow, Signal, pthread_sigmask};
use serde_json::{Value, json};

use crate::config::{BUSY_POLL_MAX, Config, GIB, KIB, MIB, TransportChoice};
use crate::error::{Error, Result};
use crate::filesystem::Filesystem;
use crate::session::{Event, Session};
use crate::stats::Stats;

/// `--transport`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TransportArg {
    /// By rule; says which and why.
    Auto,
    /// FUSE-over-io_uring.
    Uring,
    /// /dev/fuse.
    Device,
}

/// An option that is on or off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Switch {
    /// Yes.
    On,
    /// No.
    Off,
}

/// `--log`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogLevel {
    /// Nothing.
    Off,
    /// What ends a session or a request badly.
    Error,
    /// What is not as it should be.
    Warn,
    /// What was decided at start.
    Info,
    /// Details of the decisions.
    Debug,
    /// Everything.
    Trace,
}

/// Options of every binary.
#[derive(Args, Clone, Debug)]
pub struct CommonArgs {
    /// Directory to mount on
    pub mountpoint: PathBuf,
    /// Make the mount point if it is missing, and remove it again at the end
    #[arg(long)]
    pub create: bool,
    /// How requests come
    #[arg(long, value_enum, default_value = "auto", value_name = "KIND")]
    pub transport: TransportArg,
    /// The kernel's write-back cache: gathers dirty pages and owns size and times
    #[arg(long, value_enum, default_value = "on", value_name = "SWITCH")]
    pub writeback: Switch,
    /// Threads that serve [default: one per CPU, at most 16]
    #[arg(long, value_name = "N")]
    pub shards: Option<usize>,
    /// Requests in service per queue (uring) or shard (device) [default: up to 32, by budget]
    #[arg(long, value_name = "N")]
    pub queue_depth: Option<usize>,
    /// Largest WRITE and READ; fs.fuse.max_pages_limit may lower it
    #[arg(long, value_parser = size, default_value = "1M", value_name = "SIZE")]
    pub max_write: u64,
    /// Most memory for requests in service; touched when used
    #[arg(long, value_parser = size, default_value = "64M", value_name = "SIZE")]
    pub memory_budget: u64,
    /// Serve callers on their own CPU where that turns out to serve more
    #[arg(long, value_enum, default_value = "on", value_name = "SWITCH")]
    pub follow_callers: Switch,
    /// Look for the next lone request so long before sleeping, on half of the CPUs at most
    #[arg(long, value_parser = microseconds, default_value = "50", value_name = "MICROSECONDS")]
    pub busy_poll: Duration,
    /// Let other users in
    #[arg(long)]
    pub allow_other: bool,
    /// Mount options, separated by commas (ro, dev, suid, noexec, noatime, ...)
    #[arg(long, short = 'o', value_name = "LIST")]
    pub options: Vec<String>,
    /// Stay in the foreground; this is the default and the only way
    #[arg(long, short)]
    pub foreground: bool,
    /// Write counters as JSON to this file at the end and on SIGUSR1
    #[arg(long, value_name = "FILE")]
    pub stats: Option<PathBuf>,
    /// What to log to the standard error
    #[arg(long, value_enum, default_value = "warn", value_name = "LEVEL")]
    pub log: LogLevel,
}

/// Parses a size: bytes, or with the suffix K, M, G (powers of 1024).
///
/// # Errors
/// A text that says what was expected.
pub fn size(text: &str) -> std::result::Result<u64, String> {
    let digits = text.trim_end_matches(|last: char| !last.is_ascii_digit());
    let unit = match text[digits.len()..].to_ascii_uppercase().as_str() {
        "" | "B" => 1,
        "K" | "KB" | "KIB" => KIB,
        "M" | "MB" | "MIB" => MIB,
        "G" | "GB" | "GIB" => GIB,
        _ => return Err("expected a number with K, M or G behind it, such as 512K".to_owned()),
    };
    let number: u64 = digits.parse().map_err(|_| "expected a number such as 1M".to_owned())?;
    number.checked_mul(unit).ok_or_else(|| "too large".to_owned())
}

/// Parses a time of at most [`BUSY_POLL_MAX`].
///
/// # Errors
/// A text that says what was expected.
fn microseconds(text: &str) -> std::result::Result<Duration, String> {
    let time = text.parse().ok().map(Duration::from_micros);
    let most = BUSY_POLL_MAX.as_micros();
    time.filter(|time| *time <= BUSY_POLL_MAX)
        .ok_or_else(|| format!("expected 0 to {most} microseconds"))
}

impl CommonArgs {
    /// The configuration that the options describe, for the filesystem `name`.
    #[must_use]
    pub fn config(&self, name: &str) -> Config {
        Config::new(&self.mountpoint)
            .name(name)
            .create(self.create)
            .transport(match self.transport {
                TransportArg::Auto => TransportChoice::Auto,
                TransportArg::Uring => TransportChoice::Uring,
                TransportArg::Device => TransportChoice::Device,
            })
            .writeback(self.writeback == Switch::On)
            .shards(self.shards)
            .queue_depth(self.queue_depth)
            .max_write(self.max_write)
            .memory_budget(self.memory_budget)
            .follow_callers(self.follow_callers == Switch::On)
            .busy_poll(self.busy_poll)
            .allow_other(self.allow_other)
            .options(self.options.clone())
    }

    fn init_log(&self) {
        let level = match self.log {
            LogLevel::Off => return,
            LogLevel::Error => tracing::Level::ERROR,
            LogLevel::Warn => tracing::Level::WARN,
            LogLevel::Info => tracing::Level::INFO,
            LogLevel::Debug => tracing::Level::DEBUG,
            LogLevel::Trace => tracing::Level::TRACE,
        };
        tracing_subscriber::fmt()
            .with_max_level(level)
            .with_writer(io::stderr)
            .with_target(false)
            .without_time()
            // Told by eprintln, which panics where the standard error is what failed.
            .log_internal_errors(false)
            .init();
    }
}

/// Mounts, serves to the end, and says how it went: status 0 after an unmount or a signal, 1 with
/// a line on the standard error after anything else.
pub fn run<F: Filesystem>(
    args: &CommonArgs,
    config: Config,
    make: impl Fn(usize) -> F + Send + Sync + 'static,
) -> ExitCode {
    run_counting(args, config, make, || Value::Null)
}

/// As [`run`], with figures of the filesystem's own: an object of counts, or of objects of them.
/// They stand under `filesystem` in the file of `--stats`, and in the summary at the end.
pub fn run_counting<F: Filesystem>(
    args: &CommonArgs,
    config: Config,
    make: impl Fn(usize) -> F + Send + Sync + 'static,
    figures: impl Fn() -> Value,
) -> ExitCode {
    // A limit of file sizes (ulimit -f) shall be an error to whoever writes, not our death.
    let blocked = SigSet::from_iter([Signal::SIGXFSZ]);
    let _ = pthread_sigmask(SigmaskHow::SIG_BLOCK, Some(&blocked), None);
    args.init_log();
    match serve(args, config, make, figures) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody may be there to read it.
            let _ = writeln!(io::stderr(), "error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve<F: Filesystem>(
    args: &CommonArgs,
    config: Config,
    make: impl Fn(usize) -> F + Send + Sync + 'static,
    figures: impl Fn() -> Value,
) -> Result<()> {
    if let Some(path) = &args.stats {
        // A path that cannot be written should not be found out at the end.
        write_atomically(path, "{}\n").map_err(|error| {
            Error::Config(format!(
                "--stats {}: {error}; give a path that can be written",
                path.display()
            ))
        })?;
    }
    let session = Session::mount(config, make)?;
    let about = About::of(&session);
    if args.log != LogLevel::Off {
        let _ = writeln!(io::stderr(), "transport {}: {}", about.transport, about.why);
    }
    let _ = writeln!(io::stdout(), "{}", about.line());
    let mut interrupted = false;
    let stats = session.run_with(|session, event| match event {
        Event::Report => about.save(args.stats.as_deref(), &session.stats(), figures()),
        Event::Terminate => interrupted = true,
    })?;
    about.save(args.stats.as_deref(), &stats, figures());
    if interrupted {
        let _ = write!(io::stdout(), "{}", summary(&stats, &figures()));
    }
    Ok(())
}

/// What was agreed, kept for the reports.
struct About {
    mountpoint: PathBuf,
    transport: &'static str,
    why: String,
    minor: u32,
    max_write: u32,
    writeback: bool,
    passthrough: bool,
    shards: usize,
    queue_depth: usize,
}

impl About {
    fn of(session: &Session) -> Self {
        let (transport, why) = session.transport();
        let agreement = session.agreement();
        let agreed = |flag| agreement.flags.contains(flag);
        Self {
            mountpoint: session.mountpoint().to_owned(),
            transport: transport.name(),
            why: why.to_owned(),
            minor: agreement.minor,
            max_write: agreement.max_write,
            writeback: agreed(InitFlags::WRITEBACK_CACHE),
            passthrough: agreed(InitFlags::PASSTHROUGH),
            shards: session.shards(),
            queue_depth: session.queue_depth(),
        }
    }

    fn line(&self) -> String {
        format!(
            "mounted {} ({}, protocol 7.{}, max_write {}, write-back {}, {} shards)",
            self.mountpoint.display(),
            self.transport,
            self.minor,
            self.max_write,
            if self.writeback { "on" } else { "off" },
            self.shards,
        )
    }

    fn save(&self, path: Option<&Path>, stats: &Stats, figures: Value) {
        let Some(path) = path else { return };
        let mut json = self.json(stats);
        if !figures.is_null() {
            json["filesystem"] = figures;
        }
        if let Err(error) = write_atomically(path, &format!("{json:#}\n")) {
            tracing::error!(path = %path.display(), %error, "the counters were not written");
        }
    }

    fn json(&self, stats: &Stats) -> Value {
        let nanoseconds = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let opcodes = stats.opcodes.iter().map(|(name, one)| {
            let value = json!({
                "requests": one.requests,
                "bytes": one.bytes,
                "errors": one.errors,
                "latency_ns": {
                    "mean": nanoseconds(one.latency_mean),
                    "p50": nanoseconds(one.latency_p50),
                    "p99": nanoseconds(one.latency_p99),
                    "max": nanoseconds(one.latency_max),
                },
            });
            ((*name).to_owned(), value)
        });
        json!({
            "mountpoint": self.mountpoint.to_string_lossy(),
            "transport": self.transport,
            "transport_why": self.why,
            "protocol": format!("7.{}", self.minor),
            "max_write": self.max_write,
            "writeback": self.writeback,
            "passthrough": self.passthrough,
            "shards": self.shards,
            "queue_depth": self.queue_depth,
            "opcodes": opcodes.collect::<serde_json::Map<_, _>>(),
            "panics": stats.panics,
            "malformed": stats.malformed,
            "unknown": stats.unknown,
            "undelivered": stats.undelivered,
            "refused": stats.refused,
            "enters": stats.enters,
            "busy_polled": stats.busy_polled,
            "by_device": stats.by_device,
            "by_uring": stats.by_uring,
        })
    }
}

/// A reader never sees half a file. What is no regular file (a device, a fifo, a symbolic link) is
/// written to and never replaced; a fifo that nobody reads is an error.
fn write_atomically(path: &Path, text: &str) -> io::Result<()> {
    if fs::symlink_metadata(path).is_ok_and(|there| !there.file_type().is_file()) {
        // A fifo would otherwise keep whoever opens it until somebody reads.
        let mut options = fs::OpenOptions::new();
        let options = options.write(true).create(true).truncate(true).custom_flags(O_NONBLOCK);
        return options.open(path)?.write_all(text.as_bytes());
    }
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}", std::process::id()));
    let temporary = PathBuf::from(name);
    fs::write(&temporary, text)
        .and_then(|()| fs::rename(&temporary, path))
        .inspect_err(|_| drop(fs::remove_file(&temporary)))
}

/// What was served, for a person.
fn summary(stats: &Stats, figures: &Value) -> String {
    let mut text = format!("\nserved {} requests", stats.requests());
    if stats.panics > 0 {
        text += &format!(", {} handlers panicked", stats.panics);
    }
    text.push('\n');
    let mut opcodes = stats.opcodes.clone();
    opcodes.sort_by_key(|(_, one)| std::cmp::Reverse(one.requests));
    for (name, one) in opcodes.iter().take(12) {
        text += &format!("  {name:<16}{:>12} requests", one.requests);
        if let Some(mean) = one.bytes.checked_div(one.requests).filter(|mean| *mean > 0) {
            text += &format!(", {mean} bytes each");
        }
        text += &format!(", {} errors, median {:?}\n", one.errors, one.latency_p50);
    }
    add_figures(&mut text, "", figures);
    text
}

/// A line for each count that is not 0, named by the way to it.
fn add_figures(text: &mut String, name: &str, figures: &Value) {
    match figures {
        Value::Object(named) => {
            for (part, figures) in named {
                add_figures(text, format!("{name} {part}").trim_start(), figures);
            }
        }
        Value::Number(count) if count.as_u64() != Some(0) => {
            *text += &format!("  {name:<16}{count:>12}\n");
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_replace_regular_files_only() {
        let directory = tempfile::tempdir().unwrap();
        let (file, link) = (directory.path().join("file"), directory.path().join("link"));
        std::os::unix::fs::symlink(&file, &link).unwrap();
        write_atomically(&file, "1").unwrap();
        write_atomically(&link, "2").unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read_to_string(&file).unwrap(), "2");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2, "nothing else is left");
        let fifo = directory.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        write_atomically(&fifo, "3").expect_err("a fifo without a reader");
        assert!(!fs::symlink_metadata(&fifo).unwrap().is_file());
    }

    #[test]
    fn the_summary_shows_what_the_filesystem_counted() {
        let figures = json!({ "reads": { "ring": 3, "sync": 0 }, "nodes": 12 });
        let text = summary(&Stats::default(), &figures);
        let lines: Vec<Vec<&str>> =
            text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert!(lines.contains(&vec!["reads", "ring", "3"]), "{text}");
        assert!(lines.contains(&vec!["nodes", "12"]), "{text}");
        assert!(!text.contains("sync"), "{text}");
        assert!(!summary(&Stats::default(), &Value::Null).contains("null"));
    }

    #[test]
    fn sizes() {
        assert_eq!(size("4096"), Ok(4096));
        assert_eq!(size("64k"), Ok(64 * KIB));
        assert_eq!(size("1MiB"), Ok(MIB));
        assert_eq!(size("2G"), Ok(2 * GIB));
        for bad in ["", "M", "1X", "-1", "1.5M", "99999999999999999999", "99999999999G"] {
            assert!(size(bad).is_err(), "{bad}");
        }
    }
}
