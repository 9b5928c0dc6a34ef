//! Moves: renaming, replacing and exchanging names.
//!
//! Never known here: messages. Neighbour: `tree`, whose order of locks this keeps.

use std::sync::Arc;

use fusewire::proto::flags::RenameFlags;
use fusewire::proto::{Errno, NodeId, Result};
use parking_lot::RwLockWriteGuard;

use crate::clock::now;
use crate::directory::Target;
use crate::node::{Node, State};
use crate::tree::{Memory, check_name};

/// A name in a directory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    pub(crate) parent: NodeId,
    pub(crate) name: &'a [u8],
}

/// The one or two directories of a move, locked.
struct Parents<'a> {
    from: RwLockWriteGuard<'a, State>,
    /// None: the same directory.
    to: Option<RwLockWriteGuard<'a, State>>,
}

impl Parents<'_> {
    fn to(&mut self) -> &mut State {
        self.to.as_deref_mut().unwrap_or(&mut self.from)
    }
}

impl Memory {
    /// Moves `from` to `to`.
    pub(crate) fn rename(&self, from: Place<'_>, to: Place<'_>, flags: RenameFlags) -> Result<()> {
        check_name(from.name)?;
        check_name(to.name)?;
        // One of them, or neither.
        let known = RenameFlags::EXCHANGE | RenameFlags::NOREPLACE;
        if !known.contains(flags) || flags == known {
            return Err(Errno::EINVAL);
        }
        let _moves = self.moves.lock();
        // Names change under their directory's lock only, which is not held all the way: another
        // thread may have been first, and then what was found is looked for again.
        loop {
            if let Some(done) = self.attempt(from, to, flags)? {
                return Ok(done);
            }
        }
    }

    /// One attempt at a move; nothing is done where the names changed meanwhile.
    fn attempt(&self, from: Place<'_>, to: Place<'_>, flags: RenameFlags) -> Result<Option<()>> {
        let exchange = flags.contains(RenameFlags::EXCHANGE);
        let (from_parent, to_parent) = (self.table.get(from.parent)?, self.table.get(to.parent)?);
        let moved = self.named(&from_parent, from.name)?.ok_or(Errno::ENOENT)?;
        let replaced = self.named(&to_parent, to.name)?;
        match &replaced {
            Some(_) if flags.contains(RenameFlags::NOREPLACE) => return Err(Errno::EEXIST),
            None if exchange => return Err(Errno::ENOENT),
            Some(replaced) if replaced.id == moved.id => return Ok(Some(())),
            _ => {}
        }
        // Nothing may become its own ancestor, and a directory above is never empty.
        if self.is_within(to.parent, moved.id)? {
            return Err(Errno::EINVAL);
        }
        if let Some(replaced) = &replaced
            && self.is_within(from.parent, replaced.id)?
        {
            return Err(if exchange { Errno::EINVAL } else { Errno::ENOTEMPTY });
        }
        let mut parents = self.lock_parents(&from_parent, &to_parent)?;
        if parents.to().nlink == 0 {
            return Err(Errno::ENOENT);
        }
        let unchanged = parents.from.directory()?.get(from.name).map(|target| target.node)
            == Some(moved.id)
            && parents.to().directory()?.get(to.name).map(|target| target.node)
                == replaced.as_ref().map(|node| node.id);
        if !unchanged {
            return Ok(None);
        }
        match &replaced {
            Some(other) if exchange => swap(&mut parents, from, to, &moved, other)?,
            Some(other) => {
                supersede(&mut parents, from, to, &moved, other)?;
                drop(parents);
                self.reap(other);
            }
            None => shift(&mut parents, from, to, &moved)?,
        }
        Ok(Some(()))
    }

    fn named(&self, directory: &Node, name: &[u8]) -> Result<Option<Arc<Node>>> {
        let state = directory.state.read();
        state.directory()?.get(name).map(|target| self.table.get(target.node)).transpose()
    }

    /// Whether `node` is `ancestor` or below it. Only true for long while `moves` is held.
    fn is_within(&self, node: NodeId, ancestor: NodeId) -> Result<bool> {
        let mut at = node;
        loop {
            if at == ancestor {
                return Ok(true);
            }
            if at.is_root() {
                return Ok(false);
            }
            at = self.table.get(at)?.state.read().directory()?.parent;
        }
    }

    fn lock_parents<'a>(&self, from: &'a Node, to: &'a Node) -> Result<Parents<'a>> {
        if from.id == to.id {
            return Ok(Parents { from: from.state.write(), to: None });
        }
        let from_first = if self.is_within(to.id, from.id)? {
            true
        } else {
            !self.is_within(from.id, to.id)? && from.id < to.id
        };
        if from_first {
            let first = from.state.write();
            Ok(Parents { from: first, to: Some(to.state.write()) })
        } else {
            let first = to.state.write();
            Ok(Parents { from: from.state.write(), to: Some(first) })
        }
    }
}

fn target(node: &Node) -> Target {
    Target { node: node.id, kind: node.file_type() }
}

/// The moved node's own part: its time, and for a directory where `..` leads.
fn settle(parents: &mut Parents<'_>, node: &Node, to_parent: NodeId, crosses: bool) {
    let mut state = node.state.write();
    state.ctime = now();
    if let Ok(directory) = state.directory_mut() {
        directory.parent = to_parent;
        if crosses {
            parents.from.nlink -= 1;
            parents.to().nlink += 1;
        }
    }
}

fn touch(parents: &mut Parents<'_>) {
    parents.from.modified(now());
    parents.to().modified(now());
}

fn shift(parents: &mut Parents<'_>, from: Place<'_>, to: Place<'_>, moved: &Node) -> Result<()> {
    parents.from.directory_mut()?.remove(from.name);
    parents.to().directory_mut()?.insert(to.name, target(moved));
    let crosses = parents.to.is_some();
    settle(parents, moved, to.parent, crosses);
    touch(parents);
    Ok(())
}

fn supersede(
    parents: &mut Parents<'_>,
    from: Place<'_>,
    to: Place<'_>,
    moved: &Node,
    replaced: &Node,
) -> Result<()> {
    match (moved.is_directory(), replaced.is_directory()) {
        (true, false) => return Err(Errno::ENOTDIR),
        (false, true) => return Err(Errno::EISDIR),
        _ => {}
    }
    crate::tree::unname(parents.to(), replaced.state.write())?;
    parents.from.directory_mut()?.remove(from.name);
    parents.to().directory_mut()?.replace(to.name, target(moved));
    let crosses = parents.to.is_some();
    settle(parents, moved, to.parent, crosses);
    touch(parents);
    Ok(())
}

fn swap(
    parents: &mut Parents<'_>,
    from: Place<'_>,
    to: Place<'_>,
    moved: &Node,
    other: &Node,
) -> Result<()> {
    parents.from.directory_mut()?.replace(from.name, target(other));
    parents.to().directory_mut()?.replace(to.name, target(moved));
    let crosses = parents.to.is_some();
    // Links of `..` change only where a directory is exchanged for something else.
    let one_sided = crosses && moved.is_directory() != other.is_directory();
    settle(parents, moved, to.parent, one_sided && moved.is_directory());
    let mut state = other.state.write();
    state.ctime = now();
    if let Ok(directory) = state.directory_mut() {
        directory.parent = from.parent;
        if one_sided {
            parents.from.nlink += 1;
            parents.to().nlink -= 1;
        }
    }
    drop(state);
    touch(parents);
    Ok(())
}
