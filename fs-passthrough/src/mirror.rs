//! A directory that is mirrored, as all shards share it, and what more than one operation needs.
//!
//! Neighbours: `filesystem` has the operations.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use fusewire::Context;
use fusewire::proto::flags::FOpenFlags;
use fusewire::proto::{Entry, Errno, Generation, NodeId, Opened, Result};
use rustix::fs::{AtFlags, unlinkat};
use rustix::thread::CapabilitySet;

use crate::attributes::{KIND_REGULAR, attr, kill_set_id};
use crate::backing::{Backing, attributes};
use crate::caller;
use crate::data;
use crate::error::Answer;
use crate::handles::{Handles, OpenFile};
use crate::listing::{Listed, OpenDir};
use crate::make::{Made, Opening, Place};
use crate::node::{Node, Pin};
use crate::options::{Cache, Options};
use crate::table::Table;

/// A directory that is mirrored; shared by all shards.
#[derive(Debug)]
pub struct Mirror {
    pub(crate) backing: Backing,
    pub(crate) table: Table,
    pub(crate) files: Handles<OpenFile>,
    pub(crate) directories: Handles<OpenDir>,
    pub(crate) options: Options,
}

impl Mirror {
    /// Opens the directory `path`.
    ///
    /// # Errors
    /// It is none, or cannot be looked at, or `/proc` is not there.
    pub fn open(path: &Path, options: Options) -> io::Result<Arc<Self>> {
        let backing = Backing::open(path, &options)?;
        let table = Table::new(&backing, options.fd_budget)
            .map_err(|errno| io::Error::from_raw_os_error(errno.raw()))?;
        let (files, directories) = (Handles::default(), Handles::default());
        Ok(Arc::new(Self { backing, table, files, directories, options }))
    }

    /// Whether files can be known without a descriptor, so that the budget is kept.
    #[must_use]
    pub fn has_handles(&self) -> bool {
        self.backing.has_handles()
    }

    pub(crate) fn pin<'n>(&self, node: &'n Node) -> Result<Pin<'n>> {
        node.pin(&self.backing)
    }

    /// The answer for what `fd` refers to, with one lookup given.
    pub(crate) fn entry(&self, fd: OwnedFd) -> Result<Entry> {
        let stat = attributes(fd.as_fd()).answer()?;
        let node = self.table.enter(fd, &stat, &self.backing);
        Ok(Entry {
            nodeid: node.id,
            generation: Generation(0),
            entry_valid: self.options.entry_timeout,
            attr_valid: self.attr_valid(&node),
            attr: attr(&node, &stat),
        })
    }

    /// How long the kernel may keep attributes of a node.
    pub(crate) fn attr_valid(&self, node: &Node) -> Duration {
        let Options { file_timeout, attr_timeout, .. } = self.options;
        if node.kind == KIND_REGULAR { file_timeout } else { attr_timeout }
    }

    /// The answer for an open file; `cached` where the page cache can be used.
    pub(crate) fn opened(&self, file: OpenFile, cached: bool) -> Opened {
        let keeps = match self.options.cache {
            Cache::Always => true,
            Cache::Auto => file.node.is_unchanged(file.as_fd()),
            Cache::Never => false,
        };
        let flags = if !cached || self.options.is_direct() {
            FOpenFlags::DIRECT_IO | FOpenFlags::PARALLEL_DIRECT_WRITES
        } else if keeps {
            FOpenFlags::KEEP_CACHE
        } else {
            FOpenFlags::empty()
        };
        Opened { fh: self.files.insert(Arc::new(file)), flags, ..Opened::default() }
    }

    /// The answer for what was made and opened.
    pub(crate) fn created(&self, made: Made, how: Opening) -> Result<(Entry, Opened)> {
        let Made { held, data, cached } = made;
        let direct = data::open_direct(held.as_fd(), how.flags, how.writeback, &self.backing);
        let entry = self.entry(held)?;
        let node = self.table.get(entry.nodeid)?;
        let file = OpenFile::new(node, data, direct, data::may_write(how.flags));
        Ok((entry, self.opened(file, cached)))
    }

    /// Has a descriptor hold what is about to lose its name, where a handle does not.
    pub(crate) fn hold_before_removal(&self, directory: BorrowedFd<'_>, name: &[u8]) {
        if !self.table.uses_handles() {
            return;
        }
        if let Ok(fd) = self.backing.lookup(directory, name)
            && let Ok(stat) = attributes(fd.as_fd())
        {
            self.table.hold(fd, &stat, &self.backing);
        }
    }

    pub(crate) fn remove(&self, parent: NodeId, name: &[u8], flags: AtFlags) -> Result<()> {
        let parent = self.table.get(parent)?;
        let directory = self.pin(&parent)?;
        self.hold_before_removal(directory.as_fd(), name);
        unlinkat(directory, name, flags).answer()
    }

    /// Makes something in the directory that a request is about.
    pub(crate) fn make(
        &self,
        cx: &Context<'_>,
        name: &[u8],
        make: impl FnOnce(Place<'_>) -> Result<OwnedFd>,
    ) -> Result<Entry> {
        let parent = self.table.get(cx.node())?;
        let directory = self.pin(&parent)?;
        make(Place { directory: directory.as_fd(), name }).and_then(|fd| self.entry(fd))
    }

    /// FALLOCATE and COPY_FILE_RANGE have no flag that says whether set-id bits are to go.
    pub(crate) fn changed_by(&self, cx: &Context<'_>, file: &OpenFile) -> Result<()> {
        let mode = attributes(file.as_fd()).answer()?.stx_mode;
        if mode & 0o6000 != 0 && !caller::has(cx, CapabilitySet::FSETID) {
            kill_set_id(file.as_fd(), &self.backing)?;
        }
        Ok(())
    }

    /// What a lookup of a listed name answers; `None` where it is gone meanwhile, an entry without
    /// a node where it is there and cannot be looked up.
    pub(crate) fn listed(
        &self,
        directory: BorrowedFd<'_>,
        listed: &Listed<'_>,
    ) -> Option<Option<Entry>> {
        if listed.is_dots() {
            return Some(None);
        }
        let found = self.backing.lookup(directory, listed.name).and_then(|fd| self.entry(fd));
        match found {
            Err(Errno::ENOENT) => None,
            found => Some(found.ok()),
        }
    }

    /// The number that a listed name shows: no more of what is above the root than of the root.
    pub(crate) fn listed_ino(&self, node: &Node, listed: &Listed<'_>) -> u64 {
        if node.id.is_root() && listed.is_dots() {
            return node.ino;
        }
        self.table.shown(node.key.device, listed.ino)
    }
}
