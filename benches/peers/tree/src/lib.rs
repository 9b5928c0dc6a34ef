//! The filesystem in memory that every peer serves, so that only the libraries differ: the same
//! data structure, sizes, timeouts and flags. A peer translates its library's calls and no more.
//!
//! Locks are as fine as in fusewire-memory: one for each node, and shards of a table from inode
//! numbers to nodes. Data lie in chunks of up to 1 MiB, so that a large aligned READ is answered
//! from one piece of memory, which suits libraries that take one piece.

mod data;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use parking_lot::RwLock;
use rustc_hash::FxHashMap;

use data::Data;

/// How long the kernel may keep names and attributes.
pub const VALID: Duration = Duration::from_secs(86400);
/// The largest WRITE and READ.
pub const MAX_WRITE: u32 = 1 << 20;
/// Requests in the background, where a library lets one choose.
pub const MAX_BACKGROUND: u16 = 64;
/// The inode number of the root.
pub const ROOT: u64 = 1;
const SHARDS: usize = 64;

/// The command line of every peer.
#[derive(Clone, Debug, clap::Parser)]
pub struct Args {
    /// The library's best documented configuration instead of its default
    #[arg(long)]
    pub best: bool,
    /// The write-back cache, where the library has it
    #[arg(long, value_parser = clap::builder::PossibleValuesParser::new(["on", "off"]))]
    #[arg(default_value = "off")]
    pub writeback: String,
    /// Spoils a byte of each READ, to see that it is noticed
    #[arg(long, hide = true)]
    pub spoil: bool,
    /// The directory to mount on
    pub mountpoint: PathBuf,
}

impl Args {
    /// Whether the write-back cache is wanted.
    pub fn writeback(&self) -> bool {
        self.writeback == "on"
    }
}

/// An errno.
pub type Result<T> = std::result::Result<T, i32>;

/// The attributes of a node.
#[derive(Clone, Copy, Debug)]
pub struct Attr {
    pub ino: u64,
    pub size: u64,
    /// With the type.
    pub mode: u32,
    pub nlink: u32,
    pub uid: u32,
    pub gid: u32,
    pub atime: SystemTime,
    pub mtime: SystemTime,
    pub ctime: SystemTime,
}

impl Attr {
    pub fn is_dir(&self) -> bool {
        self.mode & libc::S_IFMT == libc::S_IFDIR
    }

    /// In units of 512 bytes.
    pub fn blocks(&self) -> u64 {
        self.size.div_ceil(512)
    }
}

/// What SETATTR changes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Change {
    pub mode: Option<u32>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    pub size: Option<u64>,
    pub atime: Option<SystemTime>,
    pub mtime: Option<SystemTime>,
    pub ctime: Option<SystemTime>,
}

/// Who makes something.
#[derive(Clone, Copy, Debug)]
pub struct Maker {
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
}

/// An entry of a directory.
#[derive(Debug)]
pub struct Entry<'a> {
    pub ino: u64,
    /// Where to go on after it.
    pub next: u64,
    pub name: &'a [u8],
    pub attr: Attr,
}

#[derive(Default)]
struct Names {
    by_name: FxHashMap<Box<[u8]>, u64>,
    by_cookie: BTreeMap<u64, (Box<[u8]>, Arc<Node>)>,
    next: u64,
}

enum Body {
    File(Data),
    Directory(Names),
}

struct State {
    attr: Attr,
    body: Body,
}

struct Node {
    ino: u64,
    lookups: AtomicU64,
    state: RwLock<State>,
}

/// The filesystem.
pub struct Tree {
    table: Vec<RwLock<FxHashMap<u64, Arc<Node>>>>,
    last: AtomicU64,
}

impl Default for Tree {
    fn default() -> Self {
        Self::new()
    }
}

impl Tree {
    pub fn new() -> Self {
        let table = (0..SHARDS).map(|_| RwLock::default()).collect();
        let tree = Self { table, last: AtomicU64::new(ROOT) };
        let root = Node::new(ROOT, Maker { mode: libc::S_IFDIR | 0o755, uid: 0, gid: 0 });
        tree.shard(ROOT).write().insert(ROOT, Arc::new(root));
        tree
    }

    fn shard(&self, ino: u64) -> &RwLock<FxHashMap<u64, Arc<Node>>> {
        &self.table[ino as usize % SHARDS]
    }

    fn node(&self, ino: u64) -> Result<Arc<Node>> {
        self.shard(ino).read().get(&ino).cloned().ok_or(libc::ESTALE)
    }

    /// The kernel knows the node afterwards, once more than before.
    pub fn lookup(&self, parent: u64, name: &[u8]) -> Result<Attr> {
        let parent = self.node(parent)?;
        let state = parent.state.read();
        let node = state.names()?.get(name)?;
        node.lookups.fetch_add(1, Ordering::Relaxed);
        let attr = node.state.read().attr;
        Ok(attr)
    }

    /// The kernel knows a node once more, as after READDIRPLUS.
    pub fn know(&self, ino: u64) {
        if let Ok(node) = self.node(ino) {
            node.lookups.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub fn forget(&self, ino: u64, lookups: u64) {
        let Ok(node) = self.node(ino) else { return };
        if node.lookups.fetch_sub(lookups, Ordering::AcqRel) == lookups {
            self.remove_if_unused(&node);
        }
    }

    fn remove_if_unused(&self, node: &Node) {
        if node.ino == ROOT {
            return;
        }
        let mut shard = self.shard(node.ino).write();
        if node.lookups.load(Ordering::Acquire) == 0 && node.state.read().attr.nlink == 0 {
            shard.remove(&node.ino);
        }
    }

    pub fn getattr(&self, ino: u64) -> Result<Attr> {
        Ok(self.node(ino)?.state.read().attr)
    }

    pub fn setattr(&self, ino: u64, change: Change) -> Result<Attr> {
        let node = self.node(ino)?;
        let state = &mut *node.state.write();
        let now = SystemTime::now();
        let attr = &mut state.attr;
        if let Some(mode) = change.mode {
            attr.mode = attr.mode & libc::S_IFMT | mode & !libc::S_IFMT;
        }
        attr.uid = change.uid.unwrap_or(attr.uid);
        attr.gid = change.gid.unwrap_or(attr.gid);
        attr.atime = change.atime.unwrap_or(attr.atime);
        attr.mtime = change.mtime.unwrap_or(attr.mtime);
        attr.ctime = change.ctime.unwrap_or(now);
        if let Some(size) = change.size {
            let Body::File(data) = &mut state.body else { return Err(libc::EISDIR) };
            data.truncate(size);
            attr.size = size;
            attr.mtime = change.mtime.unwrap_or(now);
        }
        Ok(state.attr)
    }

    /// Makes a file or a directory; the kernel knows it afterwards.
    pub fn make(&self, parent: u64, name: &[u8], maker: Maker) -> Result<Attr> {
        let parent = self.node(parent)?;
        let state = &mut *parent.state.write();
        let names = state.names_mut()?;
        if names.by_name.contains_key(name) {
            return Err(libc::EEXIST);
        }
        let ino = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        let node = Arc::new(Node::new(ino, maker));
        let attr = node.state.read().attr;
        self.shard(ino).write().insert(ino, Arc::clone(&node));
        names.insert(name, node);
        state.touched(if attr.is_dir() { 1 } else { 0 });
        Ok(attr)
    }

    pub fn unlink(&self, parent: u64, name: &[u8]) -> Result<()> {
        self.remove(parent, name, false)
    }

    pub fn rmdir(&self, parent: u64, name: &[u8]) -> Result<()> {
        self.remove(parent, name, true)
    }

    fn remove(&self, parent: u64, name: &[u8], directory: bool) -> Result<()> {
        let parent = self.node(parent)?;
        let node = {
            let state = &mut *parent.state.write();
            let node = Arc::clone(state.names()?.get(name)?);
            {
                let there = node.state.read();
                match (&there.body, directory) {
                    (Body::Directory(names), true) if !names.by_name.is_empty() => {
                        return Err(libc::ENOTEMPTY);
                    }
                    (Body::Directory(_), false) => return Err(libc::EISDIR),
                    (Body::File(_), true) => return Err(libc::ENOTDIR),
                    _ => {}
                }
            }
            state.names_mut()?.remove(name);
            state.touched(if directory { -1 } else { 0 });
            node
        };
        self.unlinked(&node);
        Ok(())
    }

    /// What has no name goes once the kernel has forgotten it.
    fn unlinked(&self, node: &Node) {
        node.state.write().attr.nlink = 0;
        if node.lookups.load(Ordering::Acquire) == 0 {
            self.remove_if_unused(node);
        }
    }

    /// Of the flags of renameat2(2) none are known.
    pub fn rename(&self, from: u64, name: &[u8], to: u64, new: &[u8]) -> Result<()> {
        let replaced = if from == to {
            let parent = self.node(from)?;
            let state = &mut *parent.state.write();
            state.names()?.get(name)?;
            let node = state.names_mut()?.remove(name).ok_or(libc::ENOENT)?;
            let replaced = state.names_mut()?.remove(new);
            state.names_mut()?.insert(new, node);
            state.touched(0);
            replaced
        } else {
            let (from_node, to_node) = (self.node(from)?, self.node(to)?);
            let mut first = if from < to { from_node.state.write() } else { to_node.state.write() };
            let mut second =
                if from < to { to_node.state.write() } else { from_node.state.write() };
            let (source, target) =
                if from < to { (&mut *first, &mut *second) } else { (&mut *second, &mut *first) };
            source.names()?.get(name)?;
            let node = source.names_mut()?.remove(name).ok_or(libc::ENOENT)?;
            let moved = if node.state.read().attr.is_dir() { 1 } else { 0 };
            let replaced = target.names_mut()?.remove(new);
            target.names_mut()?.insert(new, node);
            source.touched(-moved);
            target.touched(moved);
            replaced
        };
        if let Some(replaced) = replaced {
            self.unlinked(&replaced);
        }
        Ok(())
    }

    /// Hands the pieces of memory that hold the bytes to `take`, while nobody writes there.
    pub fn read<T>(
        &self,
        ino: u64,
        offset: u64,
        size: u32,
        take: impl FnOnce(&[&[u8]]) -> T,
    ) -> Result<T> {
        let node = self.node(ino)?;
        let state = node.state.read();
        let Body::File(data) = &state.body else { return Err(libc::EISDIR) };
        let end = state.attr.size.min(offset.saturating_add(u64::from(size)));
        Ok(take(&data.pieces(offset, end)))
    }

    pub fn write(&self, ino: u64, offset: u64, bytes: &[u8]) -> Result<u32> {
        self.write_with(ino, offset, bytes.len(), |place, into| {
            into.copy_from_slice(&bytes[place..place + into.len()]);
            Ok(())
        })
    }

    /// Has `fill` fill the memory of the bytes in order, piece by piece; it gets the place of each
    /// within the write.
    pub fn write_with(
        &self,
        ino: u64,
        offset: u64,
        len: usize,
        mut fill: impl FnMut(usize, &mut [u8]) -> Result<()>,
    ) -> Result<u32> {
        let node = self.node(ino)?;
        let state = &mut *node.state.write();
        let Body::File(data) = &mut state.body else { return Err(libc::EISDIR) };
        data.write(offset, len, &mut fill)?;
        let end = offset + len as u64;
        state.attr.size = state.attr.size.max(end);
        let now = SystemTime::now();
        (state.attr.mtime, state.attr.ctime) = (now, now);
        Ok(len as u32)
    }

    /// Gives the entries from a place on until `take` has no room. With `known` the kernel knows
    /// what it was given, as after READDIRPLUS.
    pub fn list(
        &self,
        ino: u64,
        from: u64,
        known: bool,
        mut take: impl FnMut(Entry<'_>) -> bool,
    ) -> Result<()> {
        let directory = self.node(ino)?;
        let state = directory.state.read();
        for (cookie, (name, node)) in state.names()?.by_cookie.range(from + 1..) {
            let attr = node.state.read().attr;
            if !take(Entry { ino: node.ino, next: *cookie, name, attr }) {
                break;
            }
            if known {
                node.lookups.fetch_add(1, Ordering::Relaxed);
            }
        }
        Ok(())
    }
}

impl Node {
    fn new(ino: u64, maker: Maker) -> Self {
        let now = SystemTime::now();
        let directory = maker.mode & libc::S_IFMT == libc::S_IFDIR;
        let attr = Attr {
            ino,
            size: 0,
            mode: maker.mode,
            nlink: if directory { 2 } else { 1 },
            uid: maker.uid,
            gid: maker.gid,
            atime: now,
            mtime: now,
            ctime: now,
        };
        let body =
            if directory { Body::Directory(Names::default()) } else { Body::File(Data::default()) };
        Self { ino, lookups: AtomicU64::new(1), state: RwLock::new(State { attr, body }) }
    }
}

impl State {
    fn names(&self) -> Result<&Names> {
        if let Body::Directory(names) = &self.body { Ok(names) } else { Err(libc::ENOTDIR) }
    }

    fn names_mut(&mut self) -> Result<&mut Names> {
        if let Body::Directory(names) = &mut self.body { Ok(names) } else { Err(libc::ENOTDIR) }
    }

    /// A name has come or gone, and with it so many directories.
    fn touched(&mut self, directories: i32) {
        let now = SystemTime::now();
        (self.attr.mtime, self.attr.ctime) = (now, now);
        self.attr.nlink = self.attr.nlink.saturating_add_signed(directories);
    }
}

impl Names {
    fn get(&self, name: &[u8]) -> Result<&Arc<Node>> {
        let cookie = self.by_name.get(name).ok_or(libc::ENOENT)?;
        self.by_cookie.get(cookie).map(|(_, node)| node).ok_or(libc::ENOENT)
    }

    fn insert(&mut self, name: &[u8], node: Arc<Node>) {
        self.next += 1;
        self.by_name.insert(name.into(), self.next);
        self.by_cookie.insert(self.next, (name.into(), node));
    }

    fn remove(&mut self, name: &[u8]) -> Option<Arc<Node>> {
        let cookie = self.by_name.remove(name)?;
        self.by_cookie.remove(&cookie).map(|(_, node)| node)
    }
}

#[cfg(test)]
mod tests;
