//! Changing attributes: mode, owner, size, times, and extended attributes with a meaning.
//!
//! Never known here: messages beyond the operations. Neighbours: `node`, `acl`, `filesystem`.

use fusewire::proto::flags::{SetXattrFlags, XattrFlags};
use fusewire::proto::op::{SetAttr, SetTime, SetXattr};
use fusewire::proto::{Errno, NodeId, Result, Timestamp};

use crate::acl::{self, Acl};
use crate::clock::now;
use crate::node::{Node, S_ISGID, State};
use crate::tree::Memory;

/// Applies what is given.
///
/// With write-back the kernel sends the times that it keeps, and they are taken as they are.
pub(crate) fn set_attributes(node: &Node, op: &SetAttr) -> Result<()> {
    let now = now();
    let mut state = node.state.write();
    if let Some(size) = op.size {
        state.file_mut()?.truncate(size)?;
        state.mtime = now;
    }
    if let Some(uid) = op.uid {
        state.uid = uid;
    }
    if let Some(gid) = op.gid {
        state.gid = gid;
    }
    if op.kill_suidgid {
        state.kill_privileges();
    }
    if let Some(mode) = op.mode {
        state.set_mode(mode.bits())?;
    }
    let at = |time: SetTime| match time {
        SetTime::Now(_) => now,
        SetTime::At(time) => time,
    };
    if let Some(atime) = op.atime {
        state.atime = at(atime);
    }
    if let Some(mtime) = op.mtime {
        state.mtime = at(mtime);
    }
    state.ctime = op.ctime.unwrap_or(now);
    Ok(())
}

impl Memory {
    /// Sets an extended attribute; the two access control lists change the mode with them.
    pub(crate) fn set_xattr(&self, id: NodeId, op: &SetXattr<'_>) -> Result<()> {
        let node = self.table.get(id)?;
        let mut state = node.state.write();
        if op.name == acl::ACCESS {
            set_access_list(&mut state, op)?;
        } else if op.name == acl::DEFAULT {
            let list = Acl::parse(op.value)?;
            if list.is_some() && !node.is_directory() {
                return Err(Errno::EACCES);
            }
            replace_list(&mut state, acl::DEFAULT, list.as_ref())?;
        } else {
            state.xattrs.set(op.name, op.value, op.flags)?;
        }
        state.ctime = now();
        Ok(())
    }

    /// Removes an extended attribute. A list that is not there is as good as removed.
    pub(crate) fn remove_xattr(&self, id: NodeId, name: &[u8]) -> Result<()> {
        let node = self.table.get(id)?;
        let mut state = node.state.write();
        match state.xattrs.remove(name) {
            Err(Errno::ENODATA) if name == acl::ACCESS || name == acl::DEFAULT => return Ok(()),
            other => other?,
        }
        state.ctime = now();
        Ok(())
    }

    /// Moves the access time, if a read at this moment does (see [`State::access_is_old`]).
    pub(crate) fn accessed(&self, node: &Node) {
        let now: Timestamp = now();
        let is_due = self.access_is_due(&node.state.read(), now);
        if is_due {
            node.state.write().atime = now;
        }
    }

    /// Whether a read at `now` moves the access time.
    pub(crate) fn access_is_due(&self, state: &State, now: Timestamp) -> bool {
        self.atime && state.access_is_old(now)
    }
}

fn set_access_list(state: &mut State, op: &SetXattr<'_>) -> Result<()> {
    let list = Acl::parse(op.value)?;
    // What can fail comes first: a list that found no room may not open the file by its mode.
    replace_list(state, acl::ACCESS, list.as_ref().filter(|list| !list.is_plain()))?;
    if let Some(list) = &list {
        state.mode = state.mode & !0o777 | list.mode();
    }
    if op.setxattr_flags.contains(SetXattrFlags::ACL_KILL_SGID) {
        state.mode &= !S_ISGID;
    }
    Ok(())
}

fn replace_list(state: &mut State, name: &[u8], list: Option<&Acl>) -> Result<()> {
    match list {
        Some(list) => state.xattrs.set(name, &list.bytes(), XattrFlags::empty()),
        None => match state.xattrs.remove(name) {
            Err(Errno::ENODATA) => Ok(()),
            other => other,
        },
    }
}
