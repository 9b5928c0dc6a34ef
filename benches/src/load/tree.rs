//! Many files as programs use them: unpacking sources, building.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use super::{Fence, Outcome, failed, histogram, quantiles, record};
use crate::Failure;

/// A tree of files.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tree {
    /// What is done.
    pub kind: TreeKind,
    /// How many files.
    pub count: u32,
}

/// What is done to a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TreeKind {
    /// As tar(1) unpacks: directories, files, modes, times.
    Unpack,
    /// As make(1) and a compiler work: walk, read each, write beside it, rename. After `Unpack`.
    Build,
    /// Away with it. After `Unpack`.
    Remove,
}

const PER_DIRECTORY: u32 = 20;

fn path_of(root: &Path, number: u32) -> PathBuf {
    root.join(format!("d{:03}", number / PER_DIRECTORY)).join(format!("file-{number}.c"))
}

/// The text of a file: from 200 bytes to 20 KiB, most of them short.
fn text_of(number: u32) -> String {
    let lines = if number.is_multiple_of(10) { 400 } else { 4 + number % 60 };
    format!("int f{number:08}(int x) {{ return x + {number:08}; }}\n").repeat(lines as usize)
}

impl Tree {
    pub(super) fn run(&self, directory: &Path, fence: &mut dyn Fence) -> Result<(), Failure> {
        let root = directory.join("tree");
        let mut latency = histogram();
        fence.ready()?;
        let start = Instant::now();
        let (operations, bytes) = match self.kind {
            TreeKind::Unpack => self.unpack(&root, &mut latency),
            TreeKind::Build => self.build(&root, &mut latency),
            TreeKind::Remove => {
                fs::remove_dir_all(&root).map(|()| (u64::from(self.count), 0)).map_err(failed("rm"))
            }
        }?;
        let seconds = start.elapsed().as_secs_f64();
        let latency = quantiles(&latency);
        fence.timed(Outcome { operations, bytes, seconds, latency })?;
        match self.kind {
            TreeKind::Unpack => self.check(&root, "c"),
            TreeKind::Build => self.check(&root, "c").and_then(|()| self.check(&root, "o")),
            TreeKind::Remove if root.exists() => Err("the tree is still there".to_owned()),
            TreeKind::Remove => Ok(()),
        }
    }

    fn unpack(&self, root: &Path, latency: &mut Histogram<u64>) -> Result<(u64, u64), Failure> {
        fs::create_dir(root).map_err(failed("mkdir"))?;
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let mut bytes = 0;
        for number in 0..self.count {
            let since = Instant::now();
            let path = path_of(root, number);
            if number.is_multiple_of(PER_DIRECTORY) {
                fs::create_dir(path.parent().unwrap_or(root)).map_err(failed("mkdir"))?;
            }
            let text = text_of(number);
            let mut file = File::create_new(&path).map_err(failed("create"))?;
            file.write_all(text.as_bytes()).map_err(failed("write"))?;
            file.set_permissions(fs::Permissions::from_mode(0o644)).map_err(failed("chmod"))?;
            file.set_modified(time).map_err(failed("utimens"))?;
            bytes += text.len() as u64;
            record(latency, since);
        }
        Ok((u64::from(self.count), bytes))
    }

    fn build(&self, root: &Path, latency: &mut Histogram<u64>) -> Result<(u64, u64), Failure> {
        let mut bytes = 0;
        for number in 0..self.count {
            let since = Instant::now();
            let source = path_of(root, number);
            let object = source.with_extension("o");
            let size = fs::metadata(&source).map_err(failed("stat"))?.len();
            let is_new = |path: &Path| fs::metadata(path).is_ok_and(|there| there.len() == size);
            if is_new(&object) {
                fs::remove_file(&object).map_err(failed("unlink"))?;
            }
            let mut text = Vec::new();
            let mut file = File::open(&source).map_err(failed("open"))?;
            file.read_to_end(&mut text).map_err(failed("read"))?;
            let temporary = source.with_extension("tmp");
            fs::write(&temporary, &text).map_err(failed("write"))?;
            fs::rename(&temporary, &object).map_err(failed("rename"))?;
            bytes += 2 * text.len() as u64;
            record(latency, since);
        }
        Ok((u64::from(self.count), bytes))
    }

    fn check(&self, root: &Path, extension: &str) -> Result<(), Failure> {
        for number in 0..self.count {
            let path = path_of(root, number).with_extension(extension);
            let found = fs::read(&path).map_err(failed("read to check"))?;
            if found != text_of(number).as_bytes() {
                return Err(format!("wrong data in {}", path.display()));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::Load;
    use super::super::testing::run;
    use super::*;

    #[test]
    fn a_tree_is_unpacked_built_twice_and_removed() {
        let directory = tempfile::tempdir().unwrap();
        let does = |kind| run(&Load::Tree(Tree { kind, count: 45 }), directory.path());
        let unpacked = does(TreeKind::Unpack).unwrap();
        assert_eq!(unpacked.operations, 45);
        assert_eq!(does(TreeKind::Build).unwrap().bytes, 2 * unpacked.bytes);
        assert_eq!(does(TreeKind::Build).unwrap().bytes, 2 * unpacked.bytes);
        let spoilt = path_of(&directory.path().join("tree"), 44);
        fs::write(spoilt, "other").unwrap();
        assert!(does(TreeKind::Build).unwrap_err().contains("wrong data"));
        does(TreeKind::Remove).unwrap();
        assert!(does(TreeKind::Remove).is_err(), "nothing is left");
    }
}
