//! Measures fusewire, its peers and its limits in pairs, and says how they stand to each other.

use std::ffi::OsString;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use clap::{Parser, Subcommand};
use fusewire_benches::building::{self, Missing, Wanted};
use fusewire_benches::child::{self, Stop, Tool};
use fusewire_benches::contender::{self, Binaries, Contender};
use fusewire_benches::daemon::{Mounted, private_mounts};
use fusewire_benches::machine::{self, Machine};
use fusewire_benches::matrix::{self, Group, Row};
use fusewire_benches::results::{FORMAT, Run};
use fusewire_benches::runner::Runner;
use fusewire_benches::{Failure, agreement, compare, load, model, page, table};

/// Paired and interleaved measurements of fusewire, its peers and its limits
#[derive(Debug, Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
struct Args {
    /// A few rows against fuser at its best and tmpfs; some minutes
    #[arg(long, conflicts_with = "full")]
    quick: bool,
    /// All rows, longer and with larger files; a night
    #[arg(long)]
    full: bool,
    /// Rows like this, of the whole matrix
    #[arg(long, value_name = "GLOB")]
    only: Option<String>,
    /// Contenders: fuser,fuse3:best or !native,!fuser:default; all that are not left out if none
    /// is named. fusewire is there unless it is left out; fusewire-tree is the peers'
    /// filesystem on it
    #[arg(long, value_delimiter = ',', value_name = "LIST")]
    peers: Vec<String>,
    /// Rounds
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: Option<u32>,
    /// MiB of the files that are read and written
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    size: Option<u64>,
    /// Write what was found as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write the report as one page of HTML
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Measure nothing: compare two runs that --json has written
    #[arg(long, num_args = 2, value_names = ["A.json", "B.json"])]
    compare: Option<Vec<PathBuf>>,
    /// Measure nothing: how far several runs of the same rows agree, and what they say together
    #[arg(long, num_args = 2.., value_name = "FILE", conflicts_with = "compare")]
    agree: Option<Vec<PathBuf>>,
    /// Measure nothing: make the table and the page of a run that --json has written
    #[arg(long, value_name = "FILE", conflicts_with_all = ["compare", "agree"])]
    show: Option<PathBuf>,
    /// Measure nothing: how cost grows in a run that --json has written, and how well that is
    /// foreseen
    #[arg(long, value_name = "FILE", conflicts_with_all = ["compare", "agree", "show"])]
    model: Option<PathBuf>,
    /// A directory on a disk, for the rows of mirror-disk
    #[arg(long, value_name = "DIRECTORY", default_value = "/var/tmp")]
    disk: PathBuf,
    /// The binary of libfuse's passthrough_hp, which Debian's package does not ship
    #[arg(long, value_name = "FILE")]
    passthrough_hp: Option<PathBuf>,
    /// Where fusewire's daemons are; else they are built
    #[arg(long, value_name = "DIRECTORY")]
    binaries: Option<PathBuf>,
    /// Seconds that a load may take beyond its own time before its filesystem counts as hung
    #[arg(long, value_name = "SECONDS", default_value_t = 120)]
    patience: u64,
    /// Only show the rows, and who competes
    #[arg(long)]
    list: bool,
    #[command(subcommand)]
    internal: Option<Internal>,
}

#[derive(Debug, Subcommand)]
enum Internal {
    /// A client: told what to do on the standard input
    #[command(hide = true)]
    Load,
    /// A program that ends with whoever has started it
    #[command(hide = true)]
    Under {
        #[arg(long)]
        parent: u32,
        #[arg(required = true, last = true)]
        words: Vec<OsString>,
    },
}

fn main() -> ExitCode {
    let args = Args::parse();
    let done = match &args.internal {
        Some(Internal::Load) => load::serve(),
        Some(Internal::Under { parent, words }) => child::under(*parent, &words[0], &words[1..]),
        None => run(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("error: {why}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<(), Failure> {
    if let Some([before, after]) = args.compare.as_deref() {
        return say(&compare::text(&Run::read(before)?, &Run::read(after)?));
    }
    if let Some(files) = &args.agree {
        let runs: Vec<Run> = files.iter().map(|file| Run::read(file)).collect::<Result<_, _>>()?;
        return say(&agreement::text(&runs));
    }
    if let Some(file) = &args.show {
        return tell(args, &Run::read(file)?);
    }
    if let Some(file) = &args.model {
        return say(&model::text(&Run::read(file)?));
    }
    let mut scale = match (args.quick, args.full) {
        (true, _) => matrix::QUICK,
        (_, true) => matrix::FULL,
        _ => matrix::NORMAL,
    };
    scale.rounds = args.rounds.unwrap_or(scale.rounds);
    scale.size = args.size.map_or(scale.size, |mib| mib << 20);
    let rows = matrix::chosen(matrix::rows(&scale), args.only.as_deref(), args.quick)?;
    let peers = peers(args)?;
    if args.list {
        return say(&listing(&rows, &peers));
    }
    let taking_part = taking_part(&rows, &peers, args.passthrough_hp.is_some());
    machine::require(taking_part.iter().any(|one| one.needs_uring()))?;
    // A thread of ours would keep the mounts of before: this comes first.
    private_mounts()?;
    let stop = Stop::default();
    let asked = stop.clone();
    ctrlc::set_handler(move || asked.ask()).map_err(|e| format!("signals: {e}"))?;

    let prefix =
        |directory: &Path| tempfile::Builder::new().prefix("fusewire-bench-").tempdir_in(directory);
    let work = prefix(&std::env::temp_dir()).map_err(|e| format!("a directory: {e}"))?;
    let disk = prefix(&args.disk).map_err(|e| format!("{}: {e}", args.disk.display()))?;
    let memory = Mounted::tmpfs(work.path().join("tmpfs"))?;
    let (binaries, missing) = build(args, &taking_part, work.path())?;
    let machine = Machine::this();
    let runner = Runner {
        tool: Tool {
            binary: std::env::current_exe().map_err(|e| e.to_string())?,
            stop: stop.clone(),
        },
        binaries,
        peers,
        missing: missing.clone(),
        scale,
        work: memory.directory().to_owned(),
        disk: disk.path().to_owned(),
        patience: Duration::from_secs(args.patience),
    };
    let results = runner.run(&rows);
    let versions = building::versions();
    let run = Run {
        format: FORMAT,
        time: SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_secs()),
        machine,
        arguments: std::env::args().skip(1).collect(),
        contenders: about(&taking_part, &versions),
        rows: results,
        interrupted: stop.asked(),
    };
    drop(memory);
    tell(args, &run)?;
    if run.interrupted { Err("ended by a signal".to_owned()) } else { Ok(()) }
}

/// Prints the table and writes the files that are wanted.
fn tell(args: &Args, run: &Run) -> Result<(), Failure> {
    if let Some(file) = &args.json {
        write(file, &run.to_json())?;
    }
    if let Some(file) = &args.html {
        write(file, &page::page(run))?;
    }
    say(&table::table(run))
}

fn say(text: &str) -> Result<(), Failure> {
    std::io::stdout().write_all(text.as_bytes()).map_err(|e| format!("the output: {e}"))
}

fn write(file: &Path, text: &str) -> Result<(), Failure> {
    fs::write(file, text).map_err(|e| format!("{}: {e}", file.display()))
}

/// Who is chosen. fusewire is what all are compared with.
fn peers(args: &Args) -> Result<Vec<String>, Failure> {
    if let Some(word) = contender::unknown(&args.peers) {
        return Err(format!("--peers: {word} is not known; --list shows all"));
    }
    let mut peers = args.peers.clone();
    if args.quick && peers.is_empty() && args.only.is_none() {
        peers = vec!["fuser:best".to_owned(), "native".to_owned()];
    }
    if peers.iter().any(|word| !word.starts_with('!')) {
        peers.extend(["fusewire", "fusewire-kernel"].map(str::to_owned));
    }
    Ok(peers)
}

fn taking_part(rows: &[Row], peers: &[String], with_hp: bool) -> Vec<&'static Contender> {
    let mut found: Vec<&'static Contender> = Vec::new();
    for group in [Group::Memory, Group::Tmpfs, Group::Disk] {
        if rows.iter().any(|row| row.group == group) {
            let hp = |one: &&Contender| with_hp || one.example() != Some("passthrough_hp");
            found.extend(contender::of_group(group, peers).filter(hp));
        }
    }
    found
}

fn build(
    args: &Args,
    taking_part: &[&Contender],
    work: &Path,
) -> Result<(Binaries, Missing), Failure> {
    let mut packages: Vec<&str> = taking_part.iter().filter_map(|one| one.package()).collect();
    packages.dedup();
    let passthrough_ll = taking_part.iter().any(|one| one.example() == Some("passthrough_ll"));
    let wanted = Wanted { packages, passthrough_ll, ours: args.binaries.clone() };
    eprintln!("building what is measured");
    let (mut binaries, missing) = building::build(&wanted, work)?;
    binaries.passthrough_hp.clone_from(&args.passthrough_hp);
    Ok((binaries, missing))
}

fn about(
    taking_part: &[&Contender],
    versions: &std::collections::BTreeMap<String, String>,
) -> Vec<fusewire_benches::results::About> {
    let mut found: Vec<fusewire_benches::results::About> = Vec::new();
    for one in taking_part {
        if found.iter().all(|about| about.name != one.name) {
            found.push(one.about(versions));
        }
    }
    found
}

fn listing(rows: &[Row], peers: &[String]) -> String {
    let mut text = String::new();
    for row in rows {
        text += &format!("{:<36} {}\n", row.name, row.about);
    }
    for group in [Group::Memory, Group::Tmpfs] {
        let names: Vec<&str> = contender::of_group(group, peers).map(|one| one.name).collect();
        text += &format!("{}: {}\n", group.name(), names.join(", "));
    }
    text
}
