//! Reading directories: what getdents(2) gives, kept until the kernel has taken it.
//!
//! Cookies are the backing filesystem's own, which are stable while names come and go; a request
//! that goes on elsewhere than the last one ended seeks there.
//!
//! Never known here: nodes. Neighbour: `filesystem` puts entries into answers.

use std::mem::MaybeUninit;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::OnceLock;

use fusewire::proto::{Errno, Result};
use parking_lot::{Mutex, MutexGuard};
use rustix::fs::{RawDir, SeekFrom, seek};

use crate::error::Answer;
use crate::node::Held;

const BUFFER: usize = 32 * 1024;

/// An open directory. Beyond the budget it has no descriptor before somebody reads it.
#[derive(Debug, Default)]
pub(crate) struct OpenDir {
    fd: OnceLock<Held>,
    listing: Mutex<Listing>,
}

/// What was read and not yet taken.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    names: Vec<u8>,
    items: Vec<Item>,
    at: usize,
    /// The cookie that the next item comes behind.
    position: u64,
}

#[derive(Clone, Debug)]
struct Item {
    ino: u64,
    next: u64,
    kind: u32,
    name: Range<usize>,
}

/// A name in a directory.
#[derive(Debug)]
pub(crate) struct Listed<'a> {
    pub(crate) ino: u64,
    /// The cookie behind it.
    pub(crate) next: u64,
    /// The type: mode >> 12, 0 if it is not known.
    pub(crate) kind: u32,
    pub(crate) name: &'a [u8],
}

impl Listed<'_> {
    pub(crate) fn is_dots(&self) -> bool {
        matches!(self.name, b"." | b"..")
    }
}

impl OpenDir {
    /// The descriptor, which `open` gives where there is none yet.
    pub(crate) fn fd(&self, open: impl FnOnce() -> Result<Held>) -> Result<BorrowedFd<'_>> {
        let held = match self.fd.get() {
            Some(held) => held,
            None => {
                let opened = open()?;
                self.fd.get_or_init(|| opened)
            }
        };
        Ok(held.as_fd())
    }

    /// The names behind a cookie, read from `fd`, its own; 0 is the start, and looks anew.
    pub(crate) fn list(&self, fd: BorrowedFd<'_>, offset: u64) -> Result<MutexGuard<'_, Listing>> {
        let mut listing = self.listing.lock();
        if offset == 0 || offset != listing.position {
            seek(fd, SeekFrom::Start(offset)).answer()?;
            listing.items.clear();
            (listing.at, listing.position) = (0, offset);
        }
        Ok(listing)
    }
}

impl Listing {
    /// The next name; it stays the next one until it is [taken](Self::take).
    pub(crate) fn next(&mut self, fd: BorrowedFd<'_>) -> Result<Option<Listed<'_>>> {
        if self.at == self.items.len() {
            self.refill(fd)?;
        }
        Ok(self.items.get(self.at).map(|item| Listed {
            ino: item.ino,
            next: item.next,
            kind: item.kind,
            name: &self.names[item.name.clone()],
        }))
    }

    /// The kernel has what [`next`](Self::next) gave.
    pub(crate) fn take(&mut self) {
        if let Some(item) = self.items.get(self.at) {
            self.position = item.next;
            self.at += 1;
        }
    }

    fn refill(&mut self, fd: BorrowedFd<'_>) -> Result<()> {
        let mut buffer = [MaybeUninit::uninit(); BUFFER];
        self.items.clear();
        self.names.clear();
        self.at = 0;
        let mut raw = RawDir::new(fd, &mut buffer);
        while let Some(entry) = raw.next() {
            let entry = match entry {
                // A directory that was removed has no entries left.
                Err(rustix::io::Errno::NOENT) => break,
                entry => entry.answer()?,
            };
            let start = self.names.len();
            self.names.extend_from_slice(entry.file_name().to_bytes());
            self.items.push(Item {
                ino: entry.ino(),
                next: entry.next_entry_cookie(),
                kind: entry.file_type().as_raw_mode() >> 12,
                name: start..self.names.len(),
            });
            if raw.is_buffer_empty() {
                break;
            }
        }
        if self.items.is_empty() {
            // The end: who stays there needs no room.
            (self.items, self.names) = (Vec::new(), Vec::new());
        }
        Ok(())
    }
}

/// What the fields of an entry mean where nothing fits: the kernel gave less room than a name
/// needs.
pub(crate) fn nothing_fits(is_empty: bool) -> Result<()> {
    if is_empty { Err(Errno::EINVAL) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;
    use crate::node::Budget;

    fn open(path: &Path) -> OpenDir {
        let dir = OpenDir::default();
        let fd = std::fs::File::open(path).unwrap().into();
        dir.fd(|| Ok(Held::new(fd, &Budget::new(1)))).unwrap();
        dir
    }

    fn read(dir: &OpenDir, offset: u64, limit: usize) -> Vec<(String, u64)> {
        let fd = dir.fd(|| unreachable!("it is open")).unwrap();
        let mut listing = dir.list(fd, offset).unwrap();
        let mut found = Vec::new();
        while found.len() < limit {
            let Some(listed) = listing.next(fd).unwrap() else { break };
            found.push((String::from_utf8(listed.name.to_vec()).unwrap(), listed.next));
            listing.take();
        }
        found
    }

    #[test]
    fn any_cookie_goes_on_where_it_was() {
        let directory = tempfile::tempdir().unwrap();
        for number in 0..1000 {
            std::fs::write(directory.path().join(format!("name-{number}")), "").unwrap();
        }
        let dir = open(directory.path());
        let all = read(&dir, 0, usize::MAX);
        let names: BTreeSet<&str> = all.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!((all.len(), names.len()), (1002, 1002));
        for at in [0, 1, 77, 500, 999] {
            assert_eq!(read(&dir, all[at].1, 5), all[at + 1..(at + 6).min(1002)], "behind {at}");
        }
        // In order, in parts, while names behind go.
        let mut seen = read(&dir, 0, 10);
        for (name, _) in &seen {
            let _ = std::fs::remove_file(directory.path().join(name));
        }
        loop {
            let more = read(&dir, seen.last().unwrap().1, 100);
            if more.is_empty() {
                break;
            }
            seen.extend(more);
        }
        assert_eq!(seen.len(), 1002);
    }

    #[test]
    fn the_start_looks_anew() {
        let directory = tempfile::tempdir().unwrap();
        let dir = open(directory.path());
        assert_eq!(read(&dir, 0, 10).len(), 2);
        std::fs::write(directory.path().join("new"), "").unwrap();
        assert_eq!(read(&dir, 0, 10).len(), 3);
        std::fs::remove_file(directory.path().join("new")).unwrap();
        std::fs::remove_dir(directory.path()).unwrap();
        assert!(read(&dir, 0, 10).is_empty());
    }
}
