//! The rows: what is measured, and with which load. Section 4 of the project's performance notes,
//! and the dimensions that plots need: depth, size of requests, clients.

use globset::{Glob, GlobMatcher};
use serde::{Deserialize, Serialize};

use crate::Failure;
use crate::load::{
    Database, Fill, Load, Names, NamesKind, Stream, StreamKind, Transfer, Tree, TreeKind,
};

/// How large things are.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    /// Bytes of a file.
    pub size: u64,
    /// Names of a directory.
    pub names: u32,
    /// Names of the directory that is listed.
    pub list: u32,
    /// Length of a measurement that goes by time.
    pub milliseconds: u64,
    /// Rounds.
    pub rounds: u32,
}

const MIB: u64 = 1 << 20;
/// Some minutes.
pub const QUICK: Scale =
    Scale { size: 64 * MIB, names: 4_000, list: 10_000, milliseconds: 250, rounds: 3 };
/// Some hours.
pub const NORMAL: Scale =
    Scale { size: 256 * MIB, names: 20_000, list: 100_000, milliseconds: 1_000, rounds: 5 };
/// A night.
pub const FULL: Scale =
    Scale { size: 1024 * MIB, names: 50_000, list: 100_000, milliseconds: 3_000, rounds: 11 };

/// Who competes in a row, and over what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Group {
    /// Filesystems in memory; the limit is tmpfs.
    Memory,
    /// Mirrors of a directory on tmpfs, which is the limit.
    Tmpfs,
    /// Mirrors of a directory on a disk, which is the limit.
    Disk,
}

impl Group {
    /// The first part of its rows' names.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Tmpfs => "mirror-tmpfs",
            Self::Disk => "mirror-disk",
        }
    }
}

/// What is compared; of each more is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Figure {
    /// Operations.
    OperationsPerSecond,
    /// Bytes.
    BytesPerSecond,
    /// The inverse of the 99th percentile of the latency.
    Latency,
}

/// One kind of work.
#[derive(Clone, Debug)]
pub struct Row {
    /// As `--only` knows it.
    pub name: String,
    /// Who competes.
    pub group: Group,
    /// What is done, in words.
    pub about: &'static str,
    /// What is compared.
    pub figure: Figure,
    /// For plots: the curve and the place on it.
    pub curve: Option<(&'static str, u64)>,
    /// Whether it is one of `--quick`.
    pub quick: bool,
    /// Whether all are to have the write-back cache.
    pub writeback: bool,
    /// Once, after mounting.
    pub prepare: Vec<Load>,
    /// Before each measurement.
    pub before: Vec<Load>,
    /// Whether the kernel is to forget names and attributes before each measurement.
    pub forget: bool,
    /// What is measured.
    pub load: Load,
    /// After each measurement.
    pub after: Vec<Load>,
    /// Options of fusewire's daemons, where nobody else competes.
    pub ours: Option<Vec<&'static str>>,
    /// Mounts of each contender, all but one idle.
    pub mounts: u32,
}

impl Row {
    fn new(name: &str, about: &'static str, load: Load) -> Self {
        let figure = match &load {
            Load::Transfer(transfer) if transfer.rate.is_some() => Figure::Latency,
            Load::Transfer(transfer) if transfer.block.0 < 65536 => Figure::OperationsPerSecond,
            Load::Transfer(_) | Load::Stream(_) => Figure::BytesPerSecond,
            _ => Figure::OperationsPerSecond,
        };
        Self {
            name: name.to_owned(),
            group: Group::Memory,
            about,
            figure,
            curve: None,
            quick: false,
            writeback: false,
            prepare: Vec::new(),
            before: Vec::new(),
            forget: false,
            load,
            after: Vec::new(),
            ours: None,
            mounts: 1,
        }
    }

    fn quick(self) -> Self {
        Self { quick: true, ..self }
    }

    fn writeback(self) -> Self {
        Self { writeback: true, ..self }
    }

    fn on(self, curve: &'static str, place: u64) -> Self {
        Self { curve: Some((curve, place)), ..self }
    }

    fn prepared(self, load: Load) -> Self {
        Self { prepare: vec![load], ..self }
    }

    fn before(self, load: Load) -> Self {
        Self { before: vec![load], ..self }
    }

    fn after(self, load: Load) -> Self {
        Self { after: vec![load], ..self }
    }

    fn forgotten(self) -> Self {
        Self { forget: true, ..self }
    }

    fn ours(self, options: &[&'static str]) -> Self {
        Self { ours: Some(options.to_vec()), ..self }
    }

    /// A load with the round in it, by which writers are told apart.
    #[must_use]
    pub fn in_round(&self, round: u32) -> Load {
        let seed = u64::from(round) + 1;
        match self.load.clone() {
            Load::Transfer(transfer) => Load::Transfer(Transfer { seed, ..transfer }),
            Load::Stream(stream) => Load::Stream(Stream { seed, ..stream }),
            other => other,
        }
    }
}

const DATA: &str = "data";

fn base(scale: &Scale) -> Transfer {
    Transfer {
        file: DATA.to_owned(),
        size: scale.size,
        block: (4096, 4096),
        random: true,
        writes: 0,
        depth: 1,
        clients: 1,
        direct: true,
        sync_every: None,
        rate: None,
        milliseconds: scale.milliseconds,
        seed: 1,
        hole: false,
    }
}

fn filled(scale: &Scale) -> Load {
    Load::Fill(Fill { file: DATA.to_owned(), size: scale.size, seed: 0 })
}

/// Reads and writes of one large file.
fn transfers(scale: &Scale) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut add = |row: Row| rows.push(row.prepared(filled(scale)));
    for depth in [1, 2, 4, 8, 16, 32, 64] {
        let load = Load::Transfer(Transfer { depth, ..base(scale) });
        let row = Row::new(&format!("read/4k-d{depth}"), "random reads of 4 KiB, O_DIRECT", load);
        let row = row.on("4 KiB random reads against depth", depth as u64);
        add(if matches!(depth, 1 | 32) { row.quick() } else { row });
    }
    for depth in [1, 8, 32] {
        let load = Load::Transfer(Transfer { depth, writes: 100, ..base(scale) });
        let row = Row::new(&format!("write/4k-d{depth}"), "random writes of 4 KiB, O_DIRECT", load);
        add(row.on("4 KiB random writes against depth", depth as u64));
    }
    for clients in [1, 2, 4, 8] {
        let load = Load::Transfer(Transfer { clients, ..base(scale) });
        let name = format!("clients/read-4k-c{clients}");
        let row = Row::new(&name, "random reads of 4 KiB, each client one at a time", load);
        add(row.on("4 KiB random reads against clients", clients as u64));
        let load = Load::Transfer(Transfer { clients, writes: 100, ..base(scale) });
        let name = format!("clients/write-4k-c{clients}");
        let row = Row::new(&name, "random writes of 4 KiB, each client one at a time", load);
        add(row.on("4 KiB random writes against clients", clients as u64));
    }
    for kib in [4, 16, 64, 256, 1024] {
        let block = (kib * 1024, kib * 1024);
        let sequential = Transfer { block, random: false, ..base(scale) };
        for (kind, writes) in [("read", 0), ("write", 100)] {
            let load = Load::Transfer(Transfer { writes, ..sequential.clone() });
            let about = "sequential, one request at a time, O_DIRECT";
            let mut row = Row::new(&format!("size/{kind}-{kib}k"), about, load);
            row.figure = Figure::BytesPerSecond;
            let curve = if writes == 0 {
                "sequential reads against size in KiB"
            } else {
                "sequential writes against size in KiB"
            };
            let row = row.on(curve, u64::from(kib));
            add(if kib == 1024 { row.quick() } else { row });
        }
    }
    for depth in [4, 16] {
        for (kind, writes) in [("read", 0), ("write", 100)] {
            let block = (1 << 20, 1 << 20);
            let load = Transfer { block, random: false, depth, writes, ..base(scale) };
            let about = "sequential, 1 MiB, several in flight, O_DIRECT";
            add(Row::new(&format!("{kind}/1m-d{depth}"), about, Load::Transfer(load)));
        }
    }
    for rate in [2_000, 10_000, 20_000] {
        let load = Transfer { rate: Some(rate), depth: 64, ..base(scale) };
        let about = "4 KiB random reads by the clock (open loop); latency from when each was due";
        add(Row::new(&format!("latency/4k-{rate}"), about, Load::Transfer(load)));
    }
    let disk = Transfer {
        block: (4096, 65536),
        writes: 30,
        depth: 16,
        sync_every: Some(32),
        ..base(scale)
    };
    let about = "a disk image: 4 to 64 KiB at random, 30 % writes, O_DIRECT, fdatasync every 32";
    let mut row = Row::new("vm/image", about, Load::Transfer(disk));
    row.figure = Figure::OperationsPerSecond;
    add(row);
    rows
}

/// What does not need a file of data, or another.
fn nulls(scale: &Scale) -> Vec<Row> {
    let one = Names { kind: NamesKind::Create, count: 1, clients: 1 };
    let many = Names { kind: NamesKind::Getattr, count: 1, clients: 1 };
    let mut rows = vec![
        Row::new(
            "null/getattr",
            "GETATTR, past what the kernel knows",
            Load::Names(Names { count: scale.names, ..many }),
        )
        .prepared(Load::Names(Names { count: scale.names, ..one })),
    ];
    for depth in [1, 32] {
        let hole = Transfer { file: "hole".to_owned(), hole: true, depth, ..base(scale) };
        let about = "random reads of 4 KiB of a hole, O_DIRECT";
        let row = Row::new(&format!("null/read-4k-d{depth}"), about, Load::Transfer(hole));
        rows.push(row.prepared(Load::Hole("hole".to_owned(), scale.size)));
    }
    rows
}

/// Many names.
fn names(scale: &Scale) -> Vec<Row> {
    let names = |kind, clients| {
        let count = scale.names / u32::try_from(clients).unwrap_or(1);
        Load::Names(Names { kind, count, clients })
    };
    let mut rows = Vec::new();
    for clients in [1, 4] {
        let made = names(NamesKind::Create, clients);
        let gone = names(NamesKind::Unlink, clients);
        let called = |name: &str| format!("names/{name}-c{clients}");
        let about = "LOOKUP (and what it brings) of names that the kernel has forgotten";
        let row = Row::new(&called("stat"), about, names(NamesKind::Stat, clients));
        let row = row.prepared(made.clone()).forgotten();
        rows.push(if clients == 1 { row.quick() } else { row });
        let row = Row::new(&called("create"), "new files", made.clone());
        rows.push(row.after(gone.clone()).writeback());
        let row = Row::new(&called("unlink"), "files removed", gone);
        rows.push(row.before(made.clone()).writeback());
        let row = Row::new(&called("open"), "open and close", names(NamesKind::Open, clients));
        rows.push(row.prepared(made.clone()));
        let about = "names that are not there";
        let row = Row::new(&called("missing"), about, names(NamesKind::Missing, clients));
        rows.push(row.prepared(made).forgotten());
    }
    let list = |kind| Load::Names(Names { kind, count: scale.list, clients: 1 });
    let row = Row::new("names/list", "all names of a large directory", list(NamesKind::List));
    rows.push(row.prepared(list(NamesKind::Create)).forgotten());
    let about = "all names of a large directory and their attributes, as ls -l";
    let row = Row::new("names/list-and-stat", about, list(NamesKind::ListAndStat));
    rows.push(row.prepared(list(NamesKind::Create)).forgotten());
    rows
}

/// By way of the page cache.
fn buffered(scale: &Scale) -> Vec<Row> {
    let stream = |kind, block| {
        let (file, size) = (DATA.to_owned(), scale.size);
        Load::Stream(Stream { kind, file, size, block, seed: 0 })
    };
    let mut rows = Vec::new();
    let mut add = |row: Row| rows.push(row.prepared(filled(scale)));
    let about = "a file that is not in the page cache, from start to end";
    add(Row::new("buffered/read-cold", about, stream(StreamKind::Read, 131_072)).writeback());
    let about = "the same through a mapping, page by page";
    add(Row::new("buffered/mmap", about, stream(StreamKind::Map, 4096)).writeback());
    let about = "writes of 4 KiB from start to end, then fsync";
    let write = || stream(StreamKind::Write, 4096);
    add(Row::new("buffered/write-4k-back", about, write()).writeback());
    add(Row::new("buffered/write-4k-through", about, write()));
    let (file, size) = ("copy".to_owned(), 2 * scale.size);
    let copy = Stream { kind: StreamKind::Copy, file, size, block: 1 << 20, seed: 0 };
    let about = "a new large file, written in pieces of 1 MiB, then fsync";
    rows.push(Row::new("buffered/copy", about, Load::Stream(copy)).writeback());
    rows
}

/// As programs do.
fn programs(scale: &Scale) -> Vec<Row> {
    let tree = |kind| Load::Tree(Tree { kind, count: scale.names / 4 });
    let about = "a tree of sources unpacked: directories, files, modes, times";
    let unpack = Row::new("programs/unpack", about, tree(TreeKind::Unpack)).writeback();
    let about = "each source read, an object written and renamed";
    let build = Row::new("programs/build", about, tree(TreeKind::Build)).writeback();
    let about = "the tree removed";
    let remove = Row::new("programs/remove", about, tree(TreeKind::Remove)).writeback();
    let database = |log| Load::Database(Database { count: scale.names / 8, log });
    let rollback = "SQLite, transactions of one row, synchronous, with a rollback journal";
    let log = "SQLite, transactions of one row, synchronous, with a write-ahead log";
    vec![
        unpack.after(tree(TreeKind::Remove)),
        build.prepared(tree(TreeKind::Unpack)).forgotten(),
        remove.before(tree(TreeKind::Unpack)),
        Row::new("programs/sqlite", rollback, database(false)).writeback(),
        Row::new("programs/sqlite-wal", log, database(true)).writeback(),
    ]
}

/// How the cost of fusewire grows: with depth, clients and sizes other rows tell.
fn growth(scale: &Scale) -> Vec<Row> {
    let mut rows = Vec::new();
    let reads = |depth| Load::Transfer(Transfer { depth, ..base(scale) });
    for (shards, option) in [(1, "1"), (2, "2"), (4, "4")] {
        let about = "random reads of 4 KiB at depth 32, O_DIRECT, by so many shards";
        let row = Row::new(&format!("growth/shards-{shards}"), about, reads(32));
        let row = row.on("4 KiB random reads against shards", shards);
        rows.push(row.ours(&["--shards", option]).prepared(filled(scale)));
    }
    for mounts in [1, 4, 16] {
        let about = "random reads of 4 KiB, one at a time, O_DIRECT, with idle mounts beside";
        let row = Row::new(&format!("growth/mounts-{mounts}"), about, reads(1)).ours(&[]);
        let row = row.on("4 KiB random reads against mounts", u64::from(mounts));
        rows.push(Row { mounts, ..row.prepared(filled(scale)) });
    }
    for count in [scale.list / 100, scale.list / 10, scale.list, 4 * scale.list] {
        let names = |kind| Load::Names(Names { kind, count, clients: 1 });
        let about = "LOOKUP of every name of a directory, in order, once all are forgotten";
        let row = Row::new(&format!("growth/files-{count}"), about, names(NamesKind::Stat));
        let row = row.on("LOOKUP against files", u64::from(count)).ours(&[]).forgotten();
        rows.push(row.prepared(names(NamesKind::Create)));
    }
    rows
}

/// The whole matrix.
#[must_use]
pub fn rows(scale: &Scale) -> Vec<Row> {
    let mut all = Vec::new();
    for group in [Group::Memory, Group::Tmpfs, Group::Disk] {
        let kinds = [nulls, transfers, names, buffered, programs, growth];
        for row in kinds.iter().flat_map(|make| make(scale)) {
            // A disk is compared where it matters what lies below; the rest would show the disk.
            let with_disk = [
                "read/4k-d1",
                "read/4k-d32",
                "write/4k-d1",
                "write/4k-d32",
                "size/read-1024k",
                "size/write-1024k",
                "vm/image",
                "buffered/copy",
                "buffered/read-cold",
                "programs/sqlite",
                "programs/sqlite-wal",
                "programs/unpack",
                "programs/build",
                "names/stat-c1",
                "names/create-c1",
            ];
            let plots =
                ["clients/", "latency/", "growth/"].iter().any(|kind| row.name.starts_with(kind));
            let wanted = match group {
                Group::Memory => true,
                Group::Tmpfs => !plots,
                Group::Disk => with_disk.contains(&row.name.as_str()),
            };
            if wanted {
                let name = format!("{}/{}", group.name(), row.name);
                let quick = row.quick && group == Group::Memory;
                all.push(Row { name, group, quick, ..row });
            }
        }
    }
    all
}

/// Those of them that a glob chooses; without one all, or those of `--quick`.
///
/// # Errors
/// Where it is no glob, or chooses nothing.
pub fn chosen(rows: Vec<Row>, only: Option<&str>, quick: bool) -> Result<Vec<Row>, Failure> {
    let Some(only) = only else {
        return Ok(rows.into_iter().filter(|row| row.quick || !quick).collect());
    };
    let glob: GlobMatcher = Glob::new(only).map_err(|e| e.to_string())?.compile_matcher();
    let rows: Vec<Row> = rows.into_iter().filter(|row| glob.is_match(&row.name)).collect();
    if rows.is_empty() {
        return Err(format!("no row is like {only}; --list shows all"));
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn globs_choose_rows() {
        let names = |only, quick| {
            let rows = chosen(rows(&QUICK), only, quick)?;
            Ok::<_, Failure>(rows.into_iter().map(|row| row.name).collect::<Vec<_>>())
        };
        let reads = names(Some("memory/read/4k-d{1,32}"), false).unwrap();
        assert_eq!(reads, ["memory/read/4k-d1", "memory/read/4k-d32"]);
        assert_eq!(names(Some("*/vm/*"), true).unwrap().len(), 3, "not of --quick, but asked for");
        assert!(names(Some("nothing"), false).unwrap_err().contains("--list"));
        assert!(names(Some("a[b"), false).is_err());
        let quick = names(None, true).unwrap();
        assert!(quick.iter().any(|name| name == "memory/size/write-1024k"));
        assert!(quick.len() < 10 && names(None, false).unwrap().len() > 90);
    }

    #[test]
    fn names_of_rows_are_unique_and_every_load_can_be_handed_over() {
        let all = rows(&FULL);
        let names: HashSet<&str> = all.iter().map(|row| row.name.as_str()).collect();
        assert_eq!(names.len(), all.len());
        for row in &all {
            for load in row.prepare.iter().chain([&row.in_round(3)]).chain(&row.after) {
                let text = serde_json::to_string(load).unwrap();
                assert_eq!(serde_json::from_str::<Load>(&text).unwrap(), *load, "{}", row.name);
            }
        }
    }

    #[test]
    fn a_round_has_a_writer_of_its_own() {
        let all = rows(&QUICK);
        let row = all.iter().find(|row| row.name == "memory/write/4k-d8").unwrap();
        assert_ne!(row.in_round(0), row.in_round(1));
        let Load::Transfer(first) = row.in_round(0) else { panic!("a transfer") };
        assert!(first.seed > 0, "0 is what was there first");
    }
}
