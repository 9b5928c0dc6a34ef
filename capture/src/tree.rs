//! A filesystem just large enough to make the kernel send every operation.
//!
//! Nothing is ever forgotten, nobody is refused, and every name that begins with `slow` waits for
//! an INTERRUPT. Neighbours: `serve` brings the requests, `shape` names them.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use fusewire_proto::flags::{FOpenFlags, IoctlFlags, OpenFlags, PollEvents, PollFlags, StatxMask};
use fusewire_proto::op::{FileLock, LockKind};
use fusewire_proto::{
    Attr, Attributes, DirentPlusWriter, DirentWriter, Entry, Errno, Fh, FsStats, Mode, NodeId,
    Opened, Operation, PollHandle, Reply, Result, StatxAttributes,
};

use crate::run::Run;

const DIRECTORY: u32 = 0o040_000;
const REGULAR: u32 = 0o100_000;
const SYMLINK: u32 = 0o120_000;
/// READDIRPLUS gives it attributes that the kernel refuses, so that a FORGET takes its look-up
/// back.
const REFUSED: &[u8] = b"refused";
/// How long the kernel may believe names and attributes.
const VALID: Duration = Duration::from_secs(1);

/// What to do with a request.
pub(crate) enum Answer {
    Body(Vec<u8>),
    Error(Errno),
    /// Not now: when an INTERRUPT comes.
    Later,
}

#[derive(Default)]
struct Node {
    attr: Attr,
    data: Vec<u8>,
    xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    slow: bool,
}

pub(crate) struct Tree {
    run: Run,
    nodes: HashMap<NodeId, Node>,
    names: BTreeMap<(NodeId, Vec<u8>), NodeId>,
    next: u64,
    handles: u64,
    /// Set when a poll handle has been woken: the next POLL finds something.
    pub(crate) ready: bool,
    /// The handle of the last POLL that wants to be woken.
    pub(crate) poll_handle: PollHandle,
}

impl Tree {
    pub(crate) fn new(run: Run) -> Self {
        let mut tree = Self {
            run,
            nodes: HashMap::new(),
            names: BTreeMap::new(),
            next: 1,
            handles: 0,
            ready: false,
            poll_handle: PollHandle(0),
        };
        tree.add(DIRECTORY | 0o777, 0, 0, Vec::new());
        tree
    }

    /// The inode of a name in the root directory.
    pub(crate) fn named(&self, name: &str) -> NodeId {
        let key = (NodeId::ROOT, name.as_bytes().to_vec());
        self.names.get(&key).copied().unwrap_or(NodeId(0))
    }

    fn add(&mut self, mode: u32, uid: u32, gid: u32, data: Vec<u8>) -> NodeId {
        let nodeid = NodeId(self.next);
        self.next += 1;
        let size = data.len() as u64;
        let attr =
            Attr { ino: nodeid.0, mode: Mode(mode), uid, gid, nlink: 1, size, ..Attr::default() };
        self.nodes.insert(nodeid, Node { attr, data, ..Node::default() });
        nodeid
    }

    fn make(&mut self, parent: NodeId, name: &[u8], mode: u32, data: Vec<u8>) -> Result<Entry> {
        if self.names.contains_key(&(parent, name.to_vec())) {
            return Err(Errno::EEXIST);
        }
        let nodeid = self.add(mode, 0, 0, data);
        self.node(nodeid)?.slow = name.starts_with(b"slow");
        self.names.insert((parent, name.to_vec()), nodeid);
        self.entry(nodeid)
    }

    fn node(&mut self, nodeid: NodeId) -> Result<&mut Node> {
        self.nodes.get_mut(&nodeid).ok_or(Errno::ENOENT)
    }

    fn entry(&mut self, nodeid: NodeId) -> Result<Entry> {
        let attr = self.node(nodeid)?.attr;
        let (entry_valid, attr_valid) = (VALID, VALID);
        Ok(Entry { nodeid, entry_valid, attr_valid, attr, ..Entry::default() })
    }

    fn opened(&mut self, flags: OpenFlags) -> Opened {
        self.handles += 1;
        // NONBLOCK asks for unbuffered I/O, O_DIRECTORY for nothing.
        let flags = if flags.contains(OpenFlags::NONBLOCK) {
            FOpenFlags::DIRECT_IO
        } else {
            FOpenFlags::empty()
        };
        Opened { fh: Fh(self.handles), flags, backing_id: 0 }
    }

    /// Carries an operation out.
    pub(crate) fn answer(&mut self, node: NodeId, op: &Operation<'_>) -> Answer {
        match self.reply(node, op) {
            Ok(Some(body)) => Answer::Body(body),
            Ok(None) => Answer::Later,
            Err(errno) => Answer::Error(errno),
        }
    }

    fn reply(&mut self, node: NodeId, op: &Operation<'_>) -> Result<Option<Vec<u8>>> {
        use Operation as O;
        let slow = self.nodes.get(&node).is_some_and(|node| node.slow);
        if slow && matches!(op, O::Read(_) | O::SetLkW(_)) {
            return Ok(None);
        }
        let encode = |reply: Reply<'_>| {
            let mut body = vec![0; reply.encoded_len()];
            reply.encode(&mut body).map_err(|_| Errno::EIO)?;
            Ok(Some(body))
        };
        match op {
            O::Read(op) => {
                let data = &self.node(node)?.data;
                let start = data.len().min(index(op.offset));
                let end = data.len().min(start + index(op.size.into()));
                return Ok(Some(data[start..end].to_vec()));
            }
            O::ReadDir(op) => return self.read_dir(node, op.offset, op.size, false).map(Some),
            O::ReadDirPlus(op) => return self.read_dir(node, op.offset, op.size, true).map(Some),
            O::ReadLink(_) => return Ok(Some(self.node(node)?.data.clone())),
            O::GetXattr(op) => {
                let found = self.node(node)?.xattrs.get(op.name.as_bytes()).cloned();
                return sized(&found.ok_or(Errno::ENODATA)?, op.size).map(Some);
            }
            O::ListXattr(op) => {
                let names = self.node(node)?.xattrs.keys();
                let list: Vec<u8> = names.flat_map(|name| [name, &b"\0"[..]].concat()).collect();
                return sized(&list, op.size).map(Some);
            }
            O::IoCtl(op) => {
                let data: Vec<u8> = op.data.iter().rev().copied().chain([7; 128]).collect();
                let data = &data[..index(op.out_size.into()).min(128)];
                return encode(Reply::Ioctl { result: 0, flags: IoctlFlags::empty(), data });
            }
            _ => {}
        }
        let reply = self.names_reply(node, op)?;
        encode(reply)
    }

    /// Operations on names; all others go on to `files_reply`.
    fn names_reply(&mut self, node: NodeId, op: &Operation<'_>) -> Result<Reply<'static>> {
        use Operation as O;
        Ok(match op {
            // Of an exported filesystem: the inode itself, by its bare nodeid.
            O::Lookup(op) if op.name.as_bytes() == b"." => Reply::Entry(self.entry(node)?),
            O::Lookup(op) if op.name.as_bytes() == b".." => Reply::Entry(self.entry(NodeId::ROOT)?),
            O::Lookup(op) => {
                let key = (node, op.name.as_bytes().to_vec());
                let found = self.names.get(&key).copied().ok_or(Errno::ENOENT)?;
                Reply::Entry(self.entry(found)?)
            }
            O::MkNod(op) => {
                let entry = self.make(node, op.name.as_bytes(), op.mode.bits(), Vec::new())?;
                self.node(entry.nodeid)?.attr.rdev = op.rdev;
                Reply::Entry(self.entry(entry.nodeid)?)
            }
            O::MkDir(op) => {
                let mode = DIRECTORY | op.mode.permissions();
                Reply::Entry(self.make(node, op.name.as_bytes(), mode, Vec::new())?)
            }
            O::Symlink(op) => {
                let mode = SYMLINK | 0o777;
                Reply::Entry(self.make(node, op.name.as_bytes(), mode, op.target.to_vec())?)
            }
            O::Link(op) => {
                self.names.insert((node, op.name.as_bytes().to_vec()), op.source);
                Reply::Entry(self.entry(op.source)?)
            }
            O::Create(_) if self.run.lacks_create() => return Err(Errno::ENOSYS),
            O::Create(op) => {
                let mode = REGULAR | op.mode.permissions();
                let entry = self.make(node, op.name.as_bytes(), mode, Vec::new())?;
                Reply::Created(entry, self.opened(op.flags))
            }
            O::TmpFile(op) => {
                let nodeid = self.add(REGULAR | op.mode.permissions(), 0, 0, Vec::new());
                Reply::Created(self.entry(nodeid)?, self.opened(op.flags))
            }
            O::Unlink(op) => self.remove(node, op.name.as_bytes())?,
            O::RmDir(op) => self.remove(node, op.name.as_bytes())?,
            O::Rename(op) | O::Rename2(op) => {
                let (old, new) = (op.old_name.as_bytes(), op.new_name.as_bytes());
                let old = (node, old.to_vec());
                let new = (op.new_parent, new.to_vec());
                let moved = self.names.remove(&old).ok_or(Errno::ENOENT)?;
                let replaced = self.names.insert(new, moved);
                if let (Some(replaced), 2) = (replaced, op.flags.bits()) {
                    self.names.insert(old, replaced);
                }
                Reply::Empty
            }
            other => return self.files_reply(node, other),
        })
    }

    fn remove(&mut self, parent: NodeId, name: &[u8]) -> Result<Reply<'static>> {
        self.names.remove(&(parent, name.to_vec())).ok_or(Errno::ENOENT)?;
        Ok(Reply::Empty)
    }

    /// Operations on inodes and open files.
    fn files_reply(&mut self, node: NodeId, op: &Operation<'_>) -> Result<Reply<'static>> {
        use Operation as O;
        Ok(match op {
            O::GetAttr(_) => self.attributes(node)?,
            O::SetAttr(op) => {
                let inode = self.node(node)?;
                let attr = &mut inode.attr;
                attr.mode = op.mode.unwrap_or(attr.mode);
                attr.uid = op.uid.unwrap_or(attr.uid);
                attr.gid = op.gid.unwrap_or(attr.gid);
                attr.size = op.size.unwrap_or(attr.size);
                inode.data.resize(index(attr.size), 0);
                self.attributes(node)?
            }
            O::Statx(_) if self.run.lacks_statx() => return Err(Errno::ENOSYS),
            O::Statx(_) => {
                let attr = self.node(node)?.attr;
                let mut reply = StatxAttributes { valid: VALID, ..StatxAttributes::default() };
                reply.statx.mask = StatxMask::from_bits_retain(0xfff);
                reply.statx.mode = attr.mode;
                (reply.statx.ino, reply.statx.size) = (attr.ino, attr.size);
                (reply.statx.nlink, reply.statx.blksize) = (attr.nlink, 4096);
                Reply::Statx(reply)
            }
            O::Open(op) => Reply::Opened(self.opened(op.flags)),
            O::OpenDir(op) => Reply::Opened(self.opened(op.flags & !OpenFlags::NONBLOCK)),
            O::Write(op) => {
                let inode = self.node(node)?;
                let end = index(op.offset) + op.data.len();
                let len = inode.data.len().max(end);
                inode.data.resize(len, 0);
                inode.data[index(op.offset)..end].copy_from_slice(op.data);
                inode.attr.size = len as u64;
                Reply::Written(u32::try_from(op.data.len()).map_err(|_| Errno::EIO)?)
            }
            O::StatFs(_) => {
                let (bsize, frsize, namelen) = (4096, 4096, 255);
                Reply::FsStats(FsStats { bsize, frsize, namelen, blocks: 9, ..FsStats::default() })
            }
            O::SetXattr(op) => {
                self.node(node)?.xattrs.insert(op.name.to_vec(), op.value.to_vec());
                Reply::Empty
            }
            O::RemoveXattr(op) => {
                self.node(node)?.xattrs.remove(op.name.as_bytes()).ok_or(Errno::ENODATA)?;
                Reply::Empty
            }
            O::GetLk(op) => Reply::Lock(FileLock { kind: LockKind::UNLOCK, ..op.lock }),
            O::LSeek(op) => Reply::Offset(op.offset),
            O::CopyFileRange64(_) if self.run.lacks_copy_64() => return Err(Errno::ENOSYS),
            O::CopyFileRange64(op) => Reply::Copied(op.length),
            O::CopyFileRange(op) => {
                Reply::Written(u32::try_from(op.length).map_err(|_| Errno::EIO)?)
            }
            O::BMap(op) => Reply::BMap(op.block + 100),
            O::Poll(op) => {
                if op.flags.contains(PollFlags::SCHEDULE_NOTIFY) {
                    self.poll_handle = op.kh;
                }
                Reply::Poll(if self.ready { PollEvents::IN } else { PollEvents::empty() })
            }
            O::FAllocate(_) | O::Flush(_) | O::FSync(_) | O::FSyncDir(_) => Reply::Empty,
            O::Release(_) | O::ReleaseDir(_) | O::SetLk(_) | O::SetLkW(_) => Reply::Empty,
            O::Access(_) | O::Destroy(_) | O::SyncFs(_) => Reply::Empty,
            _ => return Err(Errno::ENOSYS),
        })
    }

    fn attributes(&mut self, node: NodeId) -> Result<Reply<'static>> {
        Ok(Reply::Attributes(Attributes { valid: VALID, attr: self.node(node)?.attr }))
    }

    fn read_dir(&mut self, dir: NodeId, offset: u64, size: u32, plus: bool) -> Result<Vec<u8>> {
        let dots = [".", ".."].map(|dot| (dot.as_bytes().to_vec(), dir));
        let children = self.names.iter().filter(|((parent, _), _)| *parent == dir);
        let children = children.map(|((_, name), &child)| (name.clone(), child));
        let all: Vec<_> = dots.into_iter().chain(children).collect();
        let mut body = vec![0; index(size.into())];
        let mut used = 0;
        for (place, (name, child)) in all.iter().enumerate().skip(index(offset)) {
            let mut entry = self.entry(*child)?;
            let (ino, kind, next) = (child.0, entry.attr.mode.file_type(), place as u64 + 1);
            if name == REFUSED {
                entry.attr.mode = Mode(0);
            }
            let room = &mut body[used..];
            let len = if plus {
                let mut writer = DirentPlusWriter::new(room);
                let entry = (place >= 2).then_some(&entry);
                writer.add(entry, ino, next, kind, name).then(|| writer.len())
            } else {
                let mut writer = DirentWriter::new(room);
                writer.add(ino, next, kind, name).then(|| writer.len())
            };
            let Some(len) = len else { break };
            used += len;
        }
        body.truncate(used);
        Ok(body)
    }
}

/// The answer of GETXATTR and LISTXATTR: the length if no room is offered, else the bytes.
fn sized(bytes: &[u8], room: u32) -> Result<Vec<u8>> {
    if room == 0 {
        let len = u32::try_from(bytes.len()).map_err(|_| Errno::EIO)?;
        return Ok([len.to_ne_bytes(), [0; 4]].concat());
    }
    if bytes.len() > index(room.into()) { Err(Errno::ERANGE) } else { Ok(bytes.to_vec()) }
}

/// Positions in memory; what does not fit is beyond every end.
fn index(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}
