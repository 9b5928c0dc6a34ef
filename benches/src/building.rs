//! Builds what is measured: fusewire's daemons, the peers of benches/peers (a workspace of their
//! own, so that nothing else has to fetch them), and libfuse's example.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Failure;
use crate::contender::Binaries;

/// Where Debian's package libfuse3-dev puts its examples.
const EXAMPLES: &str = "/usr/share/doc/libfuse3-dev/examples";

/// What to build.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// Packages of benches/peers.
    pub packages: Vec<&'static str>,
    /// libfuse's passthrough_ll.
    pub passthrough_ll: bool,
    /// Whether fusewire's own are there already, and where.
    pub ours: Option<PathBuf>,
}

/// What could not be built, by package or example, and why.
pub type Missing = BTreeMap<&'static str, String>;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn cargo(manifest: &Path, packages: &[&str]) -> Result<PathBuf, Failure> {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(program);
    command.args(["build", "--release", "--quiet", "--locked", "--manifest-path"]).arg(manifest);
    command.args(packages.iter().flat_map(|package| ["-p", *package]));
    let output = command.output().map_err(|e| format!("cargo: {e}; it must be in PATH"))?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        let lines: Vec<&str> = text.lines().filter(|line| line.starts_with("error")).collect();
        return Err(format!("cargo build: {}", lines.join("; ")));
    }
    let workspace = manifest.parent().unwrap_or(manifest).join("target");
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or(workspace, PathBuf::from);
    Ok(target.join("release"))
}

/// Builds all of it; `work` is for what cargo does not keep.
///
/// # Errors
/// Where fusewire itself cannot be built. What else cannot is told in the second value.
pub fn build(wanted: &Wanted, work: &Path) -> Result<(Binaries, Missing), Failure> {
    let mut missing = Missing::new();
    let ours = match &wanted.ours {
        Some(ours) => ours.clone(),
        None => cargo(&root().join("Cargo.toml"), &["fusewire-memory", "fusewire-passthrough"])?,
    };
    let mut binaries = Binaries { ours, ..Binaries::default() };
    for package in &wanted.packages {
        match cargo(&root().join("benches/peers/Cargo.toml"), &[package]) {
            Ok(directory) => binaries.peers = directory,
            Err(why) => drop(missing.insert(package, why)),
        }
    }
    if wanted.passthrough_ll {
        match passthrough_ll(work) {
            Ok(directory) => binaries.libfuse = directory,
            Err(why) => drop(missing.insert("passthrough_ll", why)),
        }
    }
    Ok((binaries, missing))
}

fn passthrough_ll(work: &Path) -> Result<PathBuf, Failure> {
    let source = Path::new(EXAMPLES).join("passthrough_ll.c");
    if !source.exists() {
        return Err(format!("{} is not there: apt-get install libfuse3-dev", source.display()));
    }
    let flags = run(Command::new("pkg-config").args(["--cflags", "--libs", "fuse3"]))?;
    let directory = work.join("libfuse");
    fs::create_dir_all(&directory).map_err(|e| e.to_string())?;
    let mut command = Command::new("cc");
    command.args(["-O2", "-w", "-D_GNU_SOURCE", "-o"]).arg(directory.join("passthrough_ll"));
    command.arg(source).args(flags.split_whitespace()).arg("-pthread");
    run(&mut command)?;
    Ok(directory)
}

fn run(command: &mut Command) -> Result<String, Failure> {
    let what = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|e| format!("{what}: {e}; is it installed?"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(format!("{what}: {}", String::from_utf8_lossy(&output.stderr).trim()))
}

/// The versions that the peers' lock file names, by crate.
#[must_use]
pub fn versions() -> BTreeMap<String, String> {
    let lock = fs::read_to_string(root().join("benches/peers/Cargo.lock")).unwrap_or_default();
    versions_in(&lock)
}

fn versions_in(lock: &str) -> BTreeMap<String, String> {
    let value = |line: &str, name: &str| {
        let value = line.strip_prefix(name)?.strip_prefix(" = \"")?.strip_suffix('"')?;
        Some(value.to_owned())
    };
    let mut found = BTreeMap::new();
    let mut name = None;
    for line in lock.lines() {
        if let Some(package) = value(line, "name") {
            name = Some(package);
        } else if let Some(version) = value(line, "version")
            && let Some(name) = name.take()
        {
            found.insert(name, version);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_stand_in_the_lock_file() {
        let lock = "version = 4\n\n[[package]]\nname = \"fuser\"\nversion = \"0.18.0\"\n\n\
            [[package]]\nname = \"nix\"\nversion = \"0.31.3\"\n";
        let found = versions_in(lock);
        assert_eq!(found.get("fuser").map(String::as_str), Some("0.18.0"));
        assert_eq!(found.len(), 2);
        assert!(versions().contains_key("fuser"), "the real one has it");
    }
}
