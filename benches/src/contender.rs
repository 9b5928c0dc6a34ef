//! Who is measured: fusewire in its ways, its peers at their default and at their best, and the
//! filesystem that limits all of them. How each is started, and what its configuration is in words.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Failure;
use crate::child::{Stop, Tool};
use crate::daemon::Mounted;
use crate::matrix::{Group, Row};
use crate::results::About;
use crate::table::family;

/// A daemon in one configuration, or a filesystem of the kernel's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contender {
    /// As in tables: `fuser:best`.
    pub name: &'static str,
    /// In which rows it takes part.
    pub mirrors: bool,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Ours: the transport, and the words for how data move.
    Fusewire(&'static str, &'static [&'static str]),
    /// The peers' filesystem on fusewire; the transport.
    OnTree(&'static str),
    /// A daemon of benches/peers; the package's name.
    Peer(&'static str, Tuning),
    /// libfuse's examples; the binary's name.
    Libfuse(&'static str, Tuning),
    /// The filesystem below, or tmpfs.
    Native,
}

/// How a peer is configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tuning {
    Default,
    Best,
}

/// All of them, in the order of tables.
pub const ALL: &[Contender] = &[
    memory("fusewire-uring", Kind::Fusewire("uring", &[])),
    memory("fusewire-device", Kind::Fusewire("device", &[])),
    memory("fusewire-tree-uring", Kind::OnTree("uring")),
    memory("fusewire-tree-device", Kind::OnTree("device")),
    memory("fuser:default", Kind::Peer("peer-fuser", Tuning::Default)),
    memory("fuser:best", Kind::Peer("peer-fuser", Tuning::Best)),
    memory("fuse3:default", Kind::Peer("peer-fuse3", Tuning::Default)),
    memory("fuse3:best", Kind::Peer("peer-fuse3", Tuning::Best)),
    memory("fuse-backend-rs:default", Kind::Peer("peer-backend", Tuning::Default)),
    memory("fuse-backend-rs:best", Kind::Peer("peer-backend", Tuning::Best)),
    memory("fractal-fuse:default", Kind::Peer("peer-fractal", Tuning::Default)),
    memory("fractal-fuse:best", Kind::Peer("peer-fractal", Tuning::Best)),
    memory("native", Kind::Native),
    mirror("fusewire-uring", Kind::Fusewire("uring", &[])),
    mirror("fusewire-device", Kind::Fusewire("device", &[])),
    mirror("fusewire-kernel", Kind::Fusewire("uring", &["--io", "kernel"])),
    mirror("passthrough_ll:default", Kind::Libfuse("passthrough_ll", Tuning::Default)),
    mirror("passthrough_ll:best", Kind::Libfuse("passthrough_ll", Tuning::Best)),
    mirror("passthrough_hp:default", Kind::Libfuse("passthrough_hp", Tuning::Default)),
    mirror("passthrough_hp:best", Kind::Libfuse("passthrough_hp", Tuning::Best)),
    mirror("native", Kind::Native),
];

const fn memory(name: &'static str, kind: Kind) -> Contender {
    Contender { name, mirrors: false, kind }
}

const fn mirror(name: &'static str, kind: Kind) -> Contender {
    Contender { name, mirrors: true, kind }
}

/// Where binaries are.
#[derive(Clone, Debug, Default)]
pub struct Binaries {
    /// The directory of fusewire's daemons.
    pub ours: PathBuf,
    /// The directory of the peers'.
    pub peers: PathBuf,
    /// The directory of passthrough_ll.
    pub libfuse: PathBuf,
    /// libfuse's passthrough_hp, which Debian's package does not ship.
    pub passthrough_hp: Option<PathBuf>,
}

/// Whether a name is chosen by a list such as `fuser,fuse3:best`, or by one that leaves some out,
/// `!native`. A name without its configuration stands for all of that peer, one of ours without
/// its transport for both.
#[must_use]
pub fn is_chosen(name: &str, list: &[String]) -> bool {
    let peer = name.split(':').next().unwrap_or(name);
    let is = |word: &str| word == name || word == peer || word == family(name);
    if list.iter().any(|word| word.strip_prefix('!').is_some_and(is)) {
        return false;
    }
    let mut wanted = list.iter().filter(|word| !word.starts_with('!')).peekable();
    wanted.peek().is_none() || wanted.any(|word| is(word))
}

/// What a list of names says that no contender is.
#[must_use]
pub fn unknown(list: &[String]) -> Option<&str> {
    let known = |word: &str| ALL.iter().any(|one| is_chosen(one.name, &[word.to_owned()]));
    list.iter().map(|word| word.trim_start_matches('!')).find(|word| !known(word))
}

impl Contender {
    /// Whether it is fusewire.
    #[must_use]
    pub fn is_ours(&self) -> bool {
        matches!(self.kind, Kind::Fusewire(..) | Kind::OnTree(_))
    }

    /// Whether it needs FUSE-over-io_uring.
    #[must_use]
    pub fn needs_uring(&self) -> bool {
        matches!(
            self.kind,
            Kind::Fusewire("uring", _) | Kind::OnTree("uring") | Kind::Peer("peer-fractal", _)
        )
    }

    /// The package below benches/peers, if it is one.
    #[must_use]
    pub fn package(&self) -> Option<&'static str> {
        match self.kind {
            Kind::Peer(package, _) => Some(package),
            Kind::OnTree(_) => Some("peer-fusewire"),
            _ => None,
        }
    }

    /// The example of libfuse, if it is one.
    #[must_use]
    pub fn example(&self) -> Option<&'static str> {
        if let Kind::Libfuse(example, _) = self.kind { Some(example) } else { None }
    }

    /// Described.
    #[must_use]
    pub fn about(&self, versions: &BTreeMap<String, String>) -> About {
        let words = |text: &str| text.to_owned();
        let locked = |name: &str| versions.get(name).cloned().unwrap_or_default();
        let library = self.name.split(':').next().unwrap_or(self.name);
        let version = match self.kind {
            Kind::Fusewire(..) | Kind::OnTree(_) => env!("CARGO_PKG_VERSION").to_owned(),
            Kind::Peer(..) => locked(library),
            Kind::Libfuse("passthrough_hp", _) => words("of --passthrough-hp"),
            Kind::Libfuse(..) => words("of Debian's libfuse3-dev"),
            Kind::Native => words("of the kernel"),
        };
        let configuration = match self.kind {
            Kind::Fusewire(transport, more) => {
                format!("--transport {transport} {}", more.join(" ")).trim().to_owned()
            }
            Kind::OnTree(transport) => format!("--transport {transport}, the peers' filesystem"),
            Kind::Peer(_, Tuning::Default) => words("as the library is without options"),
            Kind::Peer(package, Tuning::Best) => words(best_words(package)),
            Kind::Libfuse(example, tuning) => words(libfuse_words(example, tuning)),
            Kind::Native => words("no FUSE: the limit"),
        };
        About { name: self.name.to_owned(), library: library.to_owned(), version, configuration }
    }

    /// Mounts it for a row. `backing` is the directory that it mirrors, if it does.
    ///
    /// # Errors
    /// Where it does not start.
    pub fn start(
        &self,
        tool: &Tool,
        binaries: &Binaries,
        row: &Row,
        directory: &Path,
        backing: &Path,
    ) -> Result<Mounted, Failure> {
        if self.kind == Kind::Native {
            return if self.mirrors {
                Ok(Mounted::plain(backing.to_owned()))
            } else {
                Mounted::tmpfs(directory.to_owned())
            };
        }
        let (program, arguments) = self.words(binaries, row, directory, backing);
        let mut command = tool.command(program.as_os_str());
        command.args(arguments);
        start(command, directory, &tool.stop)
    }

    /// The command line.
    fn words(
        &self,
        binaries: &Binaries,
        row: &Row,
        directory: &Path,
        backing: &Path,
    ) -> (PathBuf, Vec<OsString>) {
        let writeback = if row.writeback { "on" } else { "off" };
        let mut words: Vec<OsString> = Vec::new();
        let mut add = |more: &[&str]| words.extend(more.iter().map(OsString::from));
        let program = match self.kind {
            Kind::Fusewire(transport, more) => {
                add(&["--log", "error", "--transport", transport, "--writeback", writeback]);
                add(more);
                add(row.ours.as_deref().unwrap_or_default());
                if self.mirrors {
                    add(&["--cache", "always"]);
                    words.push(backing.into());
                }
                let name = if self.mirrors { "fusewire-passthrough" } else { "fusewire-memory" };
                binaries.ours.join(name)
            }
            Kind::OnTree(transport) => {
                add(&["--log", "error", "--transport", transport, "--writeback", writeback]);
                binaries.peers.join("peer-fusewire")
            }
            Kind::Peer(package, tuning) => {
                add(&["--writeback", writeback]);
                if tuning == Tuning::Best {
                    add(&["--best"]);
                }
                binaries.peers.join(package)
            }
            Kind::Libfuse("passthrough_hp", tuning) => {
                add(&["--foreground"]);
                if tuning == Tuning::Best {
                    add(&["--clone-fd", "--num-threads=10"]);
                }
                words.push(backing.into());
                binaries.passthrough_hp.clone().unwrap_or_default()
            }
            Kind::Libfuse(example, tuning) => {
                add(&["-f", "-o"]);
                let back = if row.writeback { "writeback" } else { "no_writeback" };
                let mut options = OsString::from(format!(
                    "{},{back},source=",
                    libfuse_words(example, tuning).trim_start_matches("-o ")
                ));
                options.push(backing);
                words.push(options);
                binaries.libfuse.join(example)
            }
            Kind::Native => PathBuf::new(),
        };
        words.push(directory.into());
        (program, words)
    }
}

/// What the best documented configuration of a peer is; benches/peers has the code.
fn best_words(package: &str) -> &'static str {
    match package {
        "peer-fuser" => "a thread per CPU (n_threads), each on its own clone (clone_fd)",
        "peer-fuse3" => "a thread of the runtime per CPU, readdirplus forced",
        "peer-backend" => "a thread per CPU, each with a channel of its own",
        _ => "a queue per CPU, deeper",
    }
}

fn libfuse_words(example: &str, tuning: Tuning) -> &'static str {
    match (example, tuning) {
        ("passthrough_hp", Tuning::Default) => "as it is",
        ("passthrough_hp", Tuning::Best) => "--clone-fd --num-threads=10",
        (_, Tuning::Default) => "-o cache=auto",
        (_, Tuning::Best) => "-o cache=always,timeout=86400,clone_fd,max_idle_threads=10",
    }
}

fn start(command: Command, directory: &Path, stop: &Stop) -> Result<Mounted, Failure> {
    Mounted::start(command, directory.to_owned(), stop)
}

/// Who takes part in a row.
pub fn of_row(row: &Row, list: &[String]) -> impl Iterator<Item = &'static Contender> {
    let all = row.ours.is_none();
    of_group(row.group, list).filter(move |one| all || matches!(one.kind, Kind::Fusewire(..)))
}

/// Who takes part in the rows of a group.
pub fn of_group(group: Group, list: &[String]) -> impl Iterator<Item = &'static Contender> {
    let mirrors = group != Group::Memory;
    ALL.iter().filter(move |one| one.mirrors == mirrors && is_chosen(one.name, list))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn lists_choose_peers_and_configurations() {
        assert!(is_chosen("fuser:best", &[]));
        assert!(is_chosen("fuser:best", &list(&["fuse3", "fuser"])));
        assert!(is_chosen("fuser:best", &list(&["fuser:best"])));
        assert!(!is_chosen("fuser:default", &list(&["fuser:best"])));
        assert!(!is_chosen("fuse3:best", &list(&["fuser"])));
        assert!(!is_chosen("fuser:best", &list(&["!fuser"])));
        assert!(is_chosen("native", &list(&["!fuser"])));
        assert!(!is_chosen("fuser:default", &list(&["fuser", "!fuser:default"])));
        assert!(is_chosen("fusewire-tree-device", &list(&["fusewire-tree"])));
        assert!(!is_chosen("fusewire-tree-device", &list(&["fusewire"])));
        assert_eq!(unknown(&list(&["fuser", "!native", "libfuse"])), Some("libfuse"));
        assert_eq!(unknown(&list(&["fuse3:best", "passthrough_ll"])), None);
    }

    #[test]
    fn names_are_unique_in_a_group() {
        for one in ALL {
            let same = |other: &&Contender| other.name == one.name && other.mirrors == one.mirrors;
            assert_eq!(ALL.iter().filter(same).count(), 1, "{}", one.name);
        }
    }

    #[test]
    fn the_row_decides_on_write_back_for_all() {
        let rows = crate::matrix::rows(&crate::matrix::QUICK);
        let on = rows.iter().find(|row| row.writeback).unwrap();
        let off = rows.iter().find(|row| !row.writeback).unwrap();
        let binaries = Binaries::default();
        for one in ALL.iter().filter(|one| one.kind != Kind::Native) {
            let words = |row| one.words(&binaries, row, Path::new("/m"), Path::new("/b")).1;
            let hp = one.example() == Some("passthrough_hp");
            assert_eq!(words(on) != words(off), !hp, "{}: hp has no choice", one.name);
            assert_eq!(words(on).last(), Some(&OsString::from("/m")), "{}", one.name);
        }
    }
}
