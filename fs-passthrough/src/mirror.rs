//! A directory that is mirrored, as all shards share it, and what more than one operation needs.
//!
//! Neighbours: `filesystem` has the operations.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use fusewire::Context;
use fusewire::proto::flags::{FOpenFlags, InitFlags, InvalEntryFlags};
use fusewire::proto::notify::Notification;
use fusewire::proto::{Entry, Errno, Generation, Name, NodeId, Opened, Result};
use parking_lot::Mutex;
use rustix::fs::{AtFlags, OFlags, Statx, fstatvfs, unlinkat};
use rustix::thread::CapabilitySet;

use crate::attributes::{attr, kill_set_id};
use crate::backing::{Backing, Found, attributes, found};
use crate::caller;
use crate::data::{Data, Mover, Pages};
use crate::deadlock::Waits;
use crate::error::Answer;
use crate::figures::Figures;
use crate::handles::{Handles, OpenFile};
use crate::listing::{Listed, OpenDir};
use crate::make::{Made, Place};
use crate::node::{Held, Key, Node, Pin};
use crate::options::{Cache, DataPath, Options};
use crate::table::Table;
use crate::through::Server;
use crate::watch::Watch;
use crate::watch::tell::News;

/// How long a name is missing at most where changes are told of.
const ABSENT_MAX: Duration = Duration::from_secs(10);

/// A directory that is mirrored; shared by all shards.
#[derive(Debug)]
pub struct Mirror {
    pub(crate) backing: Backing,
    pub(crate) table: Table,
    pub(crate) files: Handles<OpenFile>,
    pub(crate) directories: Handles<OpenDir>,
    pub(crate) waits: Waits,
    pub(crate) figures: Figures,
    pub(crate) options: Options,
    /// Decided when the first shard starts.
    watch: OnceLock<Option<Watch>>,
    /// Whether room was short, and when.
    room: Mutex<Option<(Instant, bool)>>,
}

/// More than all CPUs together take in a few milliseconds.
const BYTES_SOON: u64 = 256 << 20;
const FILES_SOON: u64 = 16 << 10;
/// For how long the room that was found counts.
const ROOM_KNOWN: Duration = Duration::from_millis(5);

impl Mirror {
    /// Whether no more room is left below than may be taken in a few milliseconds, as of some
    /// milliseconds ago.
    pub(crate) fn is_room_short(&self) -> bool {
        let now = Instant::now();
        let mut room = self.room.lock();
        if room.is_none_or(|(known, _)| now - known >= ROOM_KNOWN) {
            let is_short = fstatvfs(self.backing.root()).is_ok_and(|room| {
                let bytes = room.f_bavail.saturating_mul(room.f_frsize);
                // Some filesystems count no files.
                bytes < BYTES_SOON || room.f_files > 0 && room.f_favail < FILES_SOON
            });
            *room = Some((now, is_short));
        }
        room.is_some_and(|(_, is_short)| is_short)
    }

    /// Opens the directory `path`.
    ///
    /// # Errors
    /// It is none, or cannot be looked at, or `/proc` is not there.
    pub fn open(path: &Path, options: Options) -> io::Result<Arc<Self>> {
        let backing = Backing::open(path, &options)?;
        let table = Table::new(&backing, options.fd_budget)
            .map_err(|errno| io::Error::from_raw_os_error(errno.raw()))?;
        let (files, directories) = (Handles::default(), Handles::default());
        let (waits, figures) = (Waits::default(), Figures::default());
        let watch = OnceLock::new();
        let room = Mutex::default();
        Ok(Arc::new(Self {
            backing,
            table,
            files,
            directories,
            waits,
            figures,
            options,
            watch,
            room,
        }))
    }

    /// Has what others change told to the kernel at once; to be called once, before anything is
    /// served. The threads that do it start with the first shard, and tell its session: a mirror
    /// that is watched is for one.
    ///
    /// # Errors
    /// Say what is missing: it takes root, and a backing filesystem with file handles and an fsid;
    /// or that it is too late.
    pub fn watch(&self) -> io::Result<()> {
        let too_late = || io::Error::new(io::ErrorKind::AlreadyExists, "it is watched or served");
        if self.watch.get().is_some() {
            return Err(too_late());
        }
        self.watch.set(Some(Watch::open(&self.backing)?)).map_err(|_| too_late())
    }

    /// What watches, where something does.
    pub(crate) fn watcher(&self) -> Option<&Watch> {
        self.watch.get()?.as_ref()
    }

    /// Something is served from here on: what does not watch by now never will.
    pub(crate) fn starts(&self) -> Option<&Watch> {
        self.watch.get_or_init(|| None).as_ref()
    }

    /// Remembers by which name the kernel knows a node, where names are told of.
    pub(crate) fn placed(&self, node: &Node, parent: NodeId, name: &[u8]) {
        if self.watcher().is_some() {
            node.is_at(parent, name);
        }
    }

    /// The same for what has just been moved there.
    pub(crate) fn moved(&self, parent: &Node, directory: BorrowedFd<'_>, name: &[u8]) {
        if self.watcher().is_some()
            && let Ok((fd, stat)) = self.backing.lookup(directory, name).and_then(found)
            && let Some(node) = self.table.find(fd.as_fd(), &stat, &self.backing)
        {
            node.is_at(parent.id, name);
        }
    }

    /// How long the kernel may take a name for missing. What it has kept so nobody here knows, so
    /// when events are lost this is how long it goes on.
    pub(crate) fn absent_valid(&self) -> Duration {
        let limit = if self.watcher().is_some() { ABSENT_MAX } else { Duration::MAX };
        self.options.entry_timeout.min(limit)
    }

    /// What the kernel is told of a node when nobody knows what has changed.
    pub(crate) fn news_of_a_sweep(&self, node: &Node) -> News {
        if !node.is_regular() {
            return News::DATA;
        }
        let stat = self.pin(node).and_then(|pin| attributes(pin.as_fd()).answer());
        // An open that has dropped old data has not told the kernel of a size that it owns.
        match stat {
            Ok(stat) if node.is_surely_unchanged(&stat) => News::ATTRIBUTES.owned(),
            _ => News::DATA.owned(),
        }
    }

    /// Whether files can be known without a descriptor, so that the budget is kept.
    #[must_use]
    pub fn has_handles(&self) -> bool {
        self.backing.has_handles()
    }

    pub(crate) fn pin<'n>(&self, node: &'n Node) -> Result<Pin<'n>> {
        self.table.pin(node, &self.backing)
    }

    /// The descriptor of an open directory: opened now, if there was no room in the budget before.
    pub(crate) fn directory<'d>(&self, node: &Node, dir: &'d OpenDir) -> Result<BorrowedFd<'d>> {
        dir.fd(|| {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY;
            let fd = self.backing.reopen(self.pin(node)?.as_fd(), flags).answer()?;
            Ok(Held::new(fd, &self.table.budget))
        })
    }

    /// The answer for a node that one more lookup was given of.
    pub(crate) fn entry_of(&self, node: &Node, stat: &Statx) -> Entry {
        Entry {
            nodeid: node.id,
            generation: Generation(0),
            entry_valid: self.options.entry_timeout,
            attr_valid: self.attr_valid(node),
            attr: attr(node, stat),
        }
    }

    /// How long the kernel may keep attributes of a node.
    pub(crate) fn attr_valid(&self, node: &Node) -> Duration {
        let Options { writing_timeout, attr_timeout, .. } = self.options;
        if node.through.changes_unseen() || self.is_to_be_forgotten(node) {
            return Duration::ZERO;
        }
        if !node.is_regular() || attr_timeout <= writing_timeout || node.is_kept_for_long() {
            attr_timeout
        } else {
            writing_timeout
        }
    }

    /// A file is open for writing now: the kernel is not to rely for long on what it was told.
    fn will_be_written(&self, cx: &Context<'_>, node: &Node) {
        if node.kept_for_long.swap(false, Ordering::SeqCst) {
            // Attributes alone: waits for nobody (`fs/fuse/inode.c, fuse_reverse_inval_inode`), and
            // what is being answered by others as it was before is not kept (`attr_version`).
            let attributes = Notification::InvalInode { node: node.id, offset: -1, len: 0 };
            // ENOENT: the kernel knows nothing that it could rely on.
            let _ = cx.notifier().tell(&attributes);
        }
    }

    /// Whether the kernel is yet to forget what it does not ask for again. It could not while
    /// somebody held the file; that is tried again, and until it can it has to ask.
    fn is_to_be_forgotten(&self, node: &Node) -> bool {
        node.outdated.load(Ordering::SeqCst)
            && !node.through.is_open()
            && self.watcher().is_some_and(|watch| watch.desk().looked_at(node.id))
    }

    /// The answer for an open file; with the attributes, where they are at hand.
    pub(crate) fn opened(
        &self,
        cx: &Context<'_>,
        node: Arc<Node>,
        data: Data,
        stat: Option<Statx>,
    ) -> Opened {
        let cached = data.pages == Pages::Cached && !self.options.is_direct();
        let writes = data.writes;
        let held = Arc::clone(&node);
        let watch = self.watcher().map(|watch| Arc::clone(watch.desk()));
        let file = OpenFile::new(node, data, |data| self.register(cx, &held, data), watch);
        if writes {
            self.will_be_written(cx, &file.node);
        }
        let (flags, backing_id) = match file.server {
            Server::Kernel(id) => {
                self.figures.by_kernel.count();
                (FOpenFlags::PASSTHROUGH, id)
            }
            Server::Here { stale } => {
                self.figures.by_us.count();
                let keeps = match self.options.cache {
                    Cache::Always => !stale,
                    Cache::Auto => {
                        let stat = stat.or_else(|| attributes(file.as_fd()).ok());
                        stat.is_some_and(|stat| file.node.is_unchanged(&stat)) && !stale
                    }
                    Cache::Never => false,
                };
                (how_cached(cached, keeps), 0)
            }
        };
        Opened { fh: self.files.insert(Arc::new(file)), flags, backing_id }
    }

    /// Has the kernel serve a file, where that is wanted, agreed and possible.
    ///
    /// By the descriptor that holds the inode, as one that may write would keep others from
    /// executing the file for as long as anybody reads it; older kernels take no `O_PATH` (EBADF).
    fn register(
        &self,
        cx: &Context<'_>,
        node: &Node,
        data: BorrowedFd<'_>,
    ) -> Option<fusewire::Backing> {
        let agreed = cx.agreement().flags.contains(InitFlags::PASSTHROUGH);
        if self.options.io != DataPath::Kernel || !agreed {
            return None;
        }
        let registered = self.pin(node).and_then(|pin| match cx.register_backing(&pin) {
            Ok(_) if !self.backing.can_be_served(pin.as_fd()) => Err(Errno::EOPNOTSUPP),
            Err(Errno::EBADF) => cx.register_backing(data),
            registered => registered,
        });
        registered.inspect_err(|errno| self.figures.refused(*errno)).ok()
    }

    /// The answer for what was made and opened.
    pub(crate) fn created(
        &self,
        cx: &Context<'_>,
        made: Made,
        name: Option<&Name>,
    ) -> (Entry, Opened) {
        let Made { held, stat, data } = made;
        let node = self.table.enter(held, &stat, &self.backing);
        if let Some(name) = name {
            self.placed(&node, cx.node(), name.as_bytes());
        }
        // First, as what is said of the node is good for less long once it is open for writing.
        let opened = self.opened(cx, Arc::clone(&node), data, Some(stat));
        (self.entry_of(&node, &stat), opened)
    }

    /// Has the kernel look a name up again that it may have kept as missing for long. It holds the
    /// directory's lock, so this comes after the answer.
    pub(crate) fn look_anew(&self, cx: &Context<'_>, name: &Name) {
        if self.options.cache == Cache::Always {
            let (parent, flags) = (cx.node(), InvalEntryFlags::empty());
            drop(cx.notifier().send(&Notification::InvalEntry { parent, name, flags }));
        }
    }

    /// What moves the data of a request.
    pub(crate) fn mover<'a>(&'a self, cx: &'a Context<'_>) -> Mover<'a> {
        Mover { io: cx.io(), path: self.options.io, figures: &self.figures }
    }

    /// Counts of what was opened and moved, by which way: `handles` by who serves them (`kernel`,
    /// or by `Options::io`), `fallbacks` from the kernel by what it said, `reads` and `writes`.
    #[must_use]
    pub fn figures(&self) -> serde_json::Value {
        self.figures.json(self.options.io)
    }

    /// Has a descriptor hold what is about to lose its name, where a handle does not.
    pub(crate) fn hold_before_removal(&self, directory: BorrowedFd<'_>, name: &[u8]) {
        if !self.table.uses_handles() {
            return;
        }
        let peeked = self.backing.peek(directory, name);
        if peeked.is_ok_and(|stat| stat.is_some_and(|stat| !self.table.needs_hold(&stat))) {
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
        make: impl FnOnce(Place<'_>) -> Result<Found>,
    ) -> Result<Entry> {
        let parent = self.table.get(cx.node())?;
        let directory = self.pin(&parent)?;
        let (fd, stat) = make(Place { directory: directory.as_fd(), name })?;
        let node = self.table.enter(fd, &stat, &self.backing);
        self.placed(&node, parent.id, name);
        Ok(self.entry_of(&node, &stat))
    }

    /// FALLOCATE and COPY_FILE_RANGE have no flag that says whether set-id bits are to go, nor has
    /// a SETATTR that asks for nothing, which also comes before a write that takes capabilities.
    pub(crate) fn changed_by(&self, cx: &Context<'_>, fd: BorrowedFd<'_>) -> Result<()> {
        let mode = attributes(fd).answer()?.stx_mode;
        if mode & 0o6000 != 0 && !caller::has(cx, CapabilitySet::FSETID, &self.backing) {
            kill_set_id(fd, &self.backing)?;
        }
        Ok(())
    }

    /// The node that a name stands for, with one lookup given, and its attributes. Where it is
    /// likely `known` that takes one system call, to make one two.
    pub(crate) fn find(
        &self,
        directory: BorrowedFd<'_>,
        name: &[u8],
        known: bool,
    ) -> Result<(Arc<Node>, Statx)> {
        if known
            && let Some(stat) = self.backing.peek(directory, name)?
            && let Some(node) = self.table.again(&stat, || self.backing.handle_at(directory, name))
        {
            return Ok((node, stat));
        }
        let (fd, stat) = found(self.backing.lookup(directory, name)?)?;
        Ok((self.table.enter(fd, &stat, &self.backing), stat))
    }

    /// What a lookup of a listed name answers; `None` where it is gone meanwhile, an entry without
    /// a node where it is there and cannot be looked up.
    pub(crate) fn listed(
        &self,
        node: &Node,
        directory: BorrowedFd<'_>,
        listed: &Listed<'_>,
    ) -> Option<Option<Entry>> {
        if listed.is_dots() {
            return Some(None);
        }
        let known = self.table.knows(Key { ino: listed.ino, ..node.key });
        match self.find(directory, listed.name, known) {
            Err(Errno::ENOENT) => None,
            found => Some(found.ok().map(|(known, stat)| {
                self.placed(&known, node.id, listed.name);
                self.entry_of(&known, &stat)
            })),
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

/// What the kernel may do with the page cache.
fn how_cached(cached: bool, keeps: bool) -> FOpenFlags {
    match (cached, keeps) {
        (false, _) => FOpenFlags::DIRECT_IO | FOpenFlags::PARALLEL_DIRECT_WRITES,
        (true, true) => FOpenFlags::KEEP_CACHE,
        (true, false) => FOpenFlags::empty(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_served_already_cannot_be_watched() {
        let place = tempfile::tempdir().unwrap();
        let mirror = Mirror::open(place.path(), Options::default()).unwrap();
        assert!(mirror.starts().is_none());
        assert_eq!(mirror.watch().unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert!(mirror.watcher().is_none());
    }
}
