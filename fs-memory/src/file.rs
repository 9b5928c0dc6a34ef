//! Data of files: reading, writing, reserving, freeing, finding, copying.
//!
//! Never known here: handles. A handle is the node's own number, so nothing has to be kept for it.
//! Neighbours: `data` below, `filesystem` above.

use std::sync::Arc;

use fusewire::ReadBuf;
use fusewire::proto::flags::{FallocateMode, OpenFlags, WriteFlags};
use fusewire::proto::op::{CopyFileRange, FAllocate, LSeek, Read, Write};
use fusewire::proto::{Errno, NodeId, Result, Whence};

use crate::clock::now;
use crate::data::{Data, Piece};
use crate::node::{Node, State};
use crate::tree::Memory;

/// Bytes that one request copies.
const COPY_MAX: u64 = 64 << 20;
/// Bytes that a copy takes at once under the lock.
const COPY_STEP: usize = 1 << 20;

impl Memory {
    /// Reads into `out`: chunks are shared, not copied, where the transport can send them so.
    pub(crate) fn read(&self, id: NodeId, op: &Read, out: &mut ReadBuf<'_>) -> Result<()> {
        let node = self.table.get(id)?;
        let state = node.state.read();
        state.file()?.read(op.offset, out.size() as u64, |piece| match piece {
            Piece::Bytes(chunk, range) => out.share(Arc::clone(chunk) as _, range),
            Piece::Hole(len) => {
                out.zeros(len);
            }
        });
        // Under the lock that is held anyway: most reads move nothing.
        let now = now();
        let is_due = !op.flags.contains(OpenFlags::NOATIME) && self.access_is_due(&state, now);
        drop(state);
        if is_due {
            node.state.write().atime = now;
        }
        Ok(())
    }

    /// Writes. A WRITE out of the page cache is all or ENOSPC, since the kernel does not look at
    /// its count (`fs/fuse/file.c, fuse_writepage_end`). With write-back it moves no time: the
    /// kernel owns those and sends them. Without, such WRITEs come from mappings, and times are
    /// ours.
    pub(crate) fn write(&self, id: NodeId, op: &Write<'_>, writeback: bool) -> Result<u32> {
        let node = self.table.get(id)?;
        let from_cache = op.write_flags.contains(WriteFlags::WRITE_CACHE);
        let mut state = node.state.write();
        let count = state.file_mut()?.write(op.offset, op.data)?;
        if from_cache && count < op.data.len() {
            return Err(Errno::ENOSPC);
        }
        if op.write_flags.contains(WriteFlags::WRITE_KILL_SUIDGID) {
            state.kill_privileges();
        }
        if !(from_cache && writeback) {
            state.modified(now());
        }
        u32::try_from(count).map_err(|_| Errno::EIO)
    }

    /// Reserves, frees or zeroes a range.
    pub(crate) fn allocate(&self, id: NodeId, op: &FAllocate) -> Result<()> {
        let node = self.table.get(id)?;
        let mut state = node.state.write();
        let data = state.file_mut()?;
        let end = op.offset.checked_add(op.length).ok_or(Errno::EFBIG)?;
        if op.length == 0 {
            return Err(Errno::EINVAL);
        }
        let keeps_size = op.mode.contains(FallocateMode::KEEP_SIZE);
        let how = op.mode & !FallocateMode::KEEP_SIZE;
        match how {
            _ if how.is_empty() => data.reserve(op.offset, op.length)?,
            FallocateMode::ZERO_RANGE => {
                // What can fail comes first.
                data.reserve(op.offset, op.length)?;
                data.zero(op.offset, op.length);
            }
            FallocateMode::PUNCH_HOLE if keeps_size => data.punch(op.offset, op.length),
            _ => return Err(Errno::EOPNOTSUPP),
        }
        if !keeps_size {
            data.extend_to(end);
        }
        state.modified(now());
        Ok(())
    }

    /// Finds data or a hole, from what is stored here.
    pub(crate) fn seek(&self, id: NodeId, op: &LSeek) -> Result<u64> {
        let node = self.table.get(id)?;
        let state = node.state.read();
        let data = state.file()?;
        // Where pages may be dirty all is data.
        let all = node.may_be_dirty() && op.offset < data.size();
        let found = match op.whence {
            Whence::DATA if all => Some(op.offset),
            Whence::HOLE if all => Some(data.size()),
            Whence::DATA => data.seek_data(op.offset),
            Whence::HOLE => data.seek_hole(op.offset),
            _ => return Err(Errno::EINVAL),
        };
        found.ok_or(Errno::ENXIO)
    }

    /// Copies a range between files, or within one; holes stay holes.
    pub(crate) fn copy(&self, from: NodeId, op: &CopyFileRange) -> Result<u64> {
        if !op.flags.is_empty() {
            return Err(Errno::EINVAL);
        }
        let from = self.table.get(from)?;
        let to = self.table.get(op.node_out)?;
        let same = from.id == to.id;
        let overlaps = op.offset_in < op.offset_out.saturating_add(op.length)
            && op.offset_out < op.offset_in.saturating_add(op.length);
        if same && overlaps {
            return Err(Errno::EINVAL);
        }
        let mut copied = 0;
        // The kernel asks again for the rest; meanwhile others are served, and signals noticed.
        let length = op.length.min(COPY_MAX);
        while copied < length {
            let len = (length - copied).min(COPY_STEP as u64);
            let count = copy_step(&from, op.offset_in + copied, &to, op.offset_out + copied, len);
            match count {
                Ok(0) => break,
                Ok(count) => copied += count,
                Err(errno) if copied == 0 => return Err(errno),
                Err(_) => break,
            }
        }
        if copied > 0 {
            to.state.write().modified(now());
        }
        Ok(copied)
    }
}

/// Copies up to `len` bytes; returns how many there were.
fn copy_step(from: &Node, offset_in: u64, to: &Node, offset_out: u64, len: u64) -> Result<u64> {
    // The source's chunks are kept by reference, so the two locks are never held together.
    let mut pieces = Vec::new();
    let source = from.state.read();
    source.file()?.read(offset_in, len, |piece| {
        pieces.push(match piece {
            Piece::Bytes(chunk, range) => (Some(Arc::clone(chunk)), range),
            Piece::Hole(len) => (None, 0..len),
        });
    });
    drop(source);
    let mut state: parking_lot::RwLockWriteGuard<'_, State> = to.state.write();
    let data: &mut Data = state.file_mut()?;
    let mut at = offset_out;
    for (chunk, range) in pieces {
        let count = range.len() as u64;
        match chunk {
            None => {
                data.punch(at, count);
                data.extend_to(at.checked_add(count).ok_or(Errno::EFBIG)?);
                at += count;
            }
            Some(chunk) => {
                let bytes = &(*chunk).as_ref()[range];
                match data.write(at, bytes) {
                    Ok(written) => {
                        at += written as u64;
                        if written < bytes.len() {
                            break;
                        }
                    }
                    Err(errno) if at == offset_out => return Err(errno),
                    Err(_) => break,
                }
            }
        }
    }
    Ok(at - offset_out)
}
