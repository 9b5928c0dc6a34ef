//! One file by system calls, most of it through the page cache; and making and checking files.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Instant;

use rustix::fs::{Advice, OFlags, fadvise};
use serde::{Deserialize, Serialize};

use super::{Fence, Fill, Outcome, failed, histogram, quantiles, record};
use crate::Failure;
use crate::pattern::{self, PAGE, Seed};
use crate::sys::{Lane, Operation, each_mapped_page};

const MIB: usize = 1 << 20;

/// One file, from its start to its end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stream {
    /// How.
    pub kind: StreamKind,
    /// The file.
    pub file: String,
    /// Its bytes, a multiple of 1 MiB.
    pub size: u64,
    /// Bytes of a system call.
    pub block: usize,
    /// Who writes; what is read is of 0.
    pub seed: u64,
}

/// How a file is gone through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StreamKind {
    /// read(2) of what the page cache does not have.
    Read,
    /// write(2) over what is there, and fsync(2).
    Write,
    /// Through a mapping, of what the page cache does not have.
    Map,
    /// A new file, written in large pieces, and fsync(2).
    Copy,
}

/// Opens a file that is there.
pub(super) fn open(path: &Path, write: bool, direct: bool) -> io::Result<File> {
    let flags = if direct { OFlags::DIRECT.bits() } else { 0 };
    File::options().read(true).write(write).custom_flags(flags.cast_signed()).open(path)
}

/// Empties the page cache of a file.
pub(super) fn drop_pages(file: &File) -> Result<(), Failure> {
    file.sync_all().map_err(failed("fsync"))?;
    fadvise(file, 0, None, Advice::DontNeed).map_err(|e| format!("fadvise: {e}"))
}

/// Makes a file.
pub(super) fn fill(directory: &Path, fill: &Fill) -> Result<(), Failure> {
    let mut file = File::create(directory.join(&fill.file)).map_err(failed("create"))?;
    let mut bytes = vec![0; MIB];
    pattern::fill(&mut bytes, 0, Seed(fill.seed));
    for number in 0..fill.size / MIB as u64 {
        pattern::stamp(&mut bytes, number * MIB as u64, Seed(fill.seed));
        file.write_all(&bytes).map_err(failed("write"))?;
    }
    file.sync_all().map_err(failed("fsync"))
}

/// Compares a file.
pub(super) fn check(directory: &Path, fill: &Fill) -> Result<(), Failure> {
    let path = directory.join(&fill.file);
    let size = path.metadata().map_err(failed("stat"))?.len();
    if size != fill.size {
        return Err(format!("a file of {} bytes shows {size}", fill.size));
    }
    each_page(&path, fill.size, |page, bytes| {
        pattern::writer_of(bytes, page, &[Seed(fill.seed)]).map(drop)
    })
}

/// Reads a file past the page cache where that can be, else by way of it; `visit` gets each page.
pub(super) fn each_page(
    path: &Path,
    size: u64,
    mut visit: impl FnMut(u64, &[u8]) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let file = open(path, false, true).or_else(|_| open(path, false, false));
    let file = file.map_err(failed("open to check"))?;
    let mut lane = Lane::new(file, 1, MIB).map_err(failed("a ring"))?;
    let mut offset = 0;
    while offset < size {
        let len = u32::try_from((size - offset).min(MIB as u64)).unwrap_or(u32::MAX);
        lane.start(0, Operation::Read(offset, len), Instant::now());
        lane.wait(None).map_err(failed("the ring"))?;
        let Some(ended) = lane.take() else { continue };
        let read = ended.result.map_err(failed("read to check"))?;
        if read != len {
            return Err(format!("read to check: {read} of {len} bytes at {offset}"));
        }
        let first = offset / PAGE as u64;
        let bytes = &lane.buffer(0)[..len as usize];
        for (page, bytes) in (first..).zip(bytes.chunks_exact(PAGE)) {
            visit(page, bytes)?;
        }
        offset += u64::from(len);
    }
    Ok(())
}

impl Stream {
    pub(super) fn run(&self, directory: &Path, fence: &mut dyn Fence) -> Result<(), Failure> {
        let path = directory.join(&self.file);
        let mut file = match self.kind {
            StreamKind::Read | StreamKind::Map => open(&path, false, false),
            StreamKind::Write => open(&path, true, false),
            StreamKind::Copy => File::create(&path),
        }
        .map_err(failed("open"))?;
        if self.kind != StreamKind::Copy {
            drop_pages(&file)?;
        }
        let mut latency = histogram();
        let mut bytes = vec![0; self.block];
        if matches!(self.kind, StreamKind::Write | StreamKind::Copy) {
            pattern::fill(&mut bytes, 0, Seed(self.seed));
        }
        fence.ready()?;
        let start = Instant::now();
        let mut operations = self.size / self.block as u64;
        match self.kind {
            StreamKind::Read => {
                for number in 0..operations {
                    let since = Instant::now();
                    file.read_exact(&mut bytes).map_err(failed("read"))?;
                    record(&mut latency, since);
                    let turn = usize::try_from(number).unwrap_or(0);
                    pattern::glance(&bytes, number * self.block as u64, &[Seed(0)], turn)?;
                }
            }
            StreamKind::Map => {
                operations = self.size / PAGE as u64;
                let len = usize::try_from(self.size).map_err(|e| e.to_string())?;
                map(&file, len)?;
            }
            StreamKind::Write | StreamKind::Copy => {
                for number in 0..operations {
                    pattern::stamp(&mut bytes, number * self.block as u64, Seed(self.seed));
                    let since = Instant::now();
                    file.write_all(&bytes).map_err(failed("write"))?;
                    record(&mut latency, since);
                }
                file.sync_all().map_err(failed("fsync"))?;
            }
        }
        let seconds = start.elapsed().as_secs_f64();
        let latency = quantiles(&latency);
        fence.timed(Outcome { operations, bytes: self.size, seconds, latency })?;
        let seed = match self.kind {
            StreamKind::Read | StreamKind::Map => 0,
            StreamKind::Write | StreamKind::Copy => self.seed,
        };
        check(directory, &Fill { file: self.file.clone(), size: self.size, seed })?;
        if self.kind == StreamKind::Copy {
            drop(file);
            std::fs::remove_file(&path).map_err(failed("unlink"))?;
        }
        Ok(())
    }
}

/// A failure that a page's visitor may give beside those of the mapping.
struct Wrong(Failure);

impl From<io::Error> for Wrong {
    fn from(error: io::Error) -> Self {
        Self(format!("mmap: {error}"))
    }
}

fn map(file: &File, len: usize) -> Result<(), Failure> {
    each_mapped_page(file, len, |page, bytes| {
        let turn = usize::try_from(page).unwrap_or(0);
        pattern::glance(bytes, page * PAGE as u64, &[Seed(0)], turn).map_err(Wrong)
    })
    .map_err(|Wrong(why)| why)
}

#[cfg(test)]
mod tests {
    use super::super::Load;
    use super::super::testing::run;
    use super::*;
    use std::os::unix::fs::FileExt;

    const SIZE: u64 = 3 << 20;

    #[test]
    fn each_kind_goes_through_the_whole_file_and_notices_a_wrong_byte() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("data");
        for kind in [StreamKind::Read, StreamKind::Map] {
            fill(directory.path(), &Fill { file: "data".to_owned(), size: SIZE, seed: 0 }).unwrap();
            let file = "data".to_owned();
            let load = Load::Stream(Stream { kind, file, size: SIZE, block: 8192, seed: 0 });
            assert_eq!(run(&load, directory.path()).unwrap().bytes, SIZE);
            File::options().write(true).open(&path).unwrap().write_all_at(b"x", SIZE - 9).unwrap();
            assert!(run(&load, directory.path()).unwrap_err().contains("wrong data"), "{kind:?}");
        }
        for kind in [StreamKind::Copy, StreamKind::Write] {
            let file = if kind == StreamKind::Copy { "new" } else { "data" }.to_owned();
            let load = Load::Stream(Stream { kind, file, size: SIZE, block: MIB, seed: 2 });
            let outcome = run(&load, directory.path()).unwrap();
            assert_eq!((outcome.operations, outcome.bytes), (3, SIZE));
        }
        assert!(!directory.path().join("new").exists(), "a copy is removed");
        let of_two = Fill { file: "data".to_owned(), size: SIZE, seed: 2 };
        assert_eq!(check(directory.path(), &of_two), Ok(()));
        let longer = Fill { size: 2 * SIZE, ..of_two };
        assert!(check(directory.path(), &longer).unwrap_err().contains("shows"));
    }
}
