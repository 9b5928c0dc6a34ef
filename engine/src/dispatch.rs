//! A filesystem as a service: one exhaustive match from operations to methods.
//!
//! Never known here: slots and transports. Neighbours: `filesystem` declares the methods,
//! `service` the seam.

use std::io;

use fusewire_proto::flags::InitFlags;
use fusewire_proto::negotiate::Agreement;
use fusewire_proto::op::IoCtl;
use fusewire_proto::{Entry, Errno, LookupCount, NodeId, Opened, Operation, Reply, Result};

use crate::context::Context;
use crate::filesystem::Filesystem;
use crate::notify::Notifier;
use crate::reply::{DirBuf, DirPlusBuf, Out, Outcome, ReadBuf, XattrBuf};
use crate::service::Service;

/// A [`Filesystem`] as a [`Service`].
#[derive(Debug)]
pub struct Serve<F>(pub F);

/// Bytes of `struct fuse_ioctl_out`, in front of an IOCTL's data.
const IOCTL_OUT_LEN: usize = 16;

fn outcome<T>(answer: Result<T>, reply: impl FnOnce(T) -> Reply<'static>) -> Outcome {
    match answer {
        Ok(value) => Outcome::Reply(reply(value)),
        Err(errno) => Outcome::Error(errno),
    }
}

fn empty(answer: Result<()>) -> Outcome {
    outcome(answer, |()| Reply::Empty)
}

fn filled(answer: Result<()>, finish: impl FnOnce() -> Outcome) -> Outcome {
    match answer {
        Ok(()) => finish(),
        Err(errno) => Outcome::Error(errno),
    }
}

/// Behind so many forgets in a message there may be more.
const MANY: usize = 256;

impl<F: Filesystem> Service for Serve<F> {
    fn start(&self, agreement: &Agreement, notifier: &Notifier) -> io::Result<()> {
        self.0.start(agreement, notifier)
    }

    async fn call(&self, cx: &Context<'_>, op: Operation<'_>, out: Out<'_>) -> Outcome {
        let fs = &self.0;
        match op {
            Operation::Lookup(op) => outcome(fs.lookup(cx, op).await, Reply::Entry),
            Operation::Forget(op) => {
                fs.forget(cx.node(), op.lookups);
                cx.marks.unhurried.set(cx.may_rest && !fs.needs_forgets());
                Outcome::Silent
            }
            Operation::BatchForget(op) => {
                for item in op.items {
                    fs.forget(item.nodeid, item.nlookup);
                }
                let rests = cx.may_rest && op.items.len() < MANY && !fs.needs_forgets();
                cx.marks.unhurried.set(rests);
                Outcome::Silent
            }
            Operation::GetAttr(op) => outcome(fs.getattr(cx, op).await, Reply::Attributes),
            Operation::SetAttr(op) => outcome(fs.setattr(cx, op).await, Reply::Attributes),
            Operation::ReadLink(op) => {
                // A target is at most a page, less its NUL (fs/fuse/dir.c, fuse_readlink_folio).
                let mut out = ReadBuf::new(out, 4095);
                filled(fs.readlink(cx, op, &mut out).await, || out.finish())
            }
            Operation::Symlink(op) => outcome(fs.symlink(cx, op).await, Reply::Entry),
            Operation::MkNod(op) => outcome(fs.mknod(cx, op).await, Reply::Entry),
            Operation::MkDir(op) => outcome(fs.mkdir(cx, op).await, Reply::Entry),
            Operation::Unlink(op) => empty(fs.unlink(cx, op).await),
            Operation::RmDir(op) => empty(fs.rmdir(cx, op).await),
            Operation::Rename(op) | Operation::Rename2(op) => empty(fs.rename(cx, op).await),
            Operation::Link(op) => outcome(fs.link(cx, op).await, Reply::Entry),
            Operation::Open(op) => outcome(fs.open(cx, op).await, Reply::Opened),
            Operation::Read(op) => {
                let mut out = ReadBuf::new(out, op.size as usize);
                filled(fs.read(cx, op, &mut out).await, || out.finish())
            }
            Operation::Write(op) => {
                let size = op.data.len();
                match fs.write(cx, op).await {
                    // More than was asked is EIO in the kernel (fs/fuse/file.c, fuse_send_write).
                    Ok(count) if count as usize > size => Outcome::Error(Errno::EIO),
                    answer => outcome(answer, Reply::Written),
                }
            }
            Operation::StatFs(op) => outcome(fs.statfs(cx, op).await, Reply::FsStats),
            Operation::Release(op) => empty(fs.release(cx, op).await),
            Operation::FSync(op) => empty(fs.fsync(cx, op).await),
            Operation::SetXattr(op) => empty(fs.setxattr(cx, op).await),
            Operation::GetXattr(op) => {
                let mut out = XattrBuf::new(out, op.size);
                filled(fs.getxattr(cx, op, &mut out).await, || out.finish())
            }
            Operation::ListXattr(op) => {
                let mut out = XattrBuf::new(out, op.size);
                filled(fs.listxattr(cx, op, &mut out).await, || out.finish())
            }
            Operation::RemoveXattr(op) => empty(fs.removexattr(cx, op).await),
            Operation::Flush(op) => empty(flushed(cx.agreement(), fs.flush(cx, op).await)),
            Operation::OpenDir(op) => outcome(fs.opendir(cx, op).await, Reply::Opened),
            Operation::ReadDir(op) => {
                let mut out = DirBuf::new(out, op.size);
                filled(fs.readdir(cx, op, &mut out).await, || out.finish())
            }
            Operation::ReadDirPlus(op) => {
                let mut out = DirPlusBuf::new(out, op.size);
                filled(fs.readdirplus(cx, op, &mut out).await, || out.finish())
            }
            Operation::ReleaseDir(op) => empty(fs.releasedir(cx, op).await),
            Operation::FSyncDir(op) => empty(fs.fsyncdir(cx, op).await),
            Operation::GetLk(op) => outcome(fs.getlk(cx, op).await, Reply::Lock),
            Operation::SetLk(op) => empty(fs.setlk(cx, op).await),
            Operation::SetLkW(op) => empty(fs.setlkw(cx, op).await),
            Operation::Access(op) => empty(fs.access(cx, op).await),
            Operation::Create(op) => created(fs.create(cx, op).await),
            Operation::TmpFile(op) => created(fs.tmpfile(cx, op).await),
            Operation::BMap(op) => outcome(fs.bmap(cx, op).await, Reply::BMap),
            Operation::IoCtl(op) => ioctl(fs, cx, op, out).await,
            Operation::Poll(op) => outcome(fs.poll(cx, op).await, Reply::Poll),
            Operation::FAllocate(op) => empty(fs.fallocate(cx, op).await),
            Operation::LSeek(op) => outcome(fs.lseek(cx, op).await, Reply::Offset),
            Operation::CopyFileRange(op) => {
                let answer = fs.copy_file_range(cx, op).await;
                outcome(answer, |count| Reply::Written(u32::try_from(count).unwrap_or(u32::MAX)))
            }
            Operation::CopyFileRange64(op) => {
                outcome(fs.copy_file_range(cx, op).await, Reply::Copied)
            }
            Operation::Statx(op) => outcome(fs.statx(cx, op).await, Reply::Statx),
            Operation::SyncFs(op) => empty(fs.syncfs(cx, op).await),
            Operation::SetupMapping(op) => empty(fs.setupmapping(cx, op).await),
            Operation::RemoveMapping(op) => empty(fs.removemapping(cx, op).await),
            Operation::NotifyReply(op) => {
                fs.notify_reply(cx, op);
                Outcome::Silent
            }
            Operation::Destroy(_) => Outcome::Reply(Reply::Empty),
            // The session answers INIT and acts on INTERRUPT itself; here both are out of place.
            Operation::Init(_) | Operation::CuseInit(_) => Outcome::Error(Errno::EIO),
            Operation::Interrupt(_) => Outcome::Silent,
            Operation::Unknown { .. } => Outcome::Error(Errno::ENOSYS),
        }
    }

    fn forget(&self, node: NodeId, lookups: LookupCount) {
        self.0.forget(node, lookups);
    }
}

/// ENOSYS to a FLUSH means that no more are wanted. Before protocol 7.36 (Linux 5.17) the kernel
/// may then not write dirty pages at close either (`fs/fuse/file.c, fuse_flush`).
fn flushed(agreement: &Agreement, answer: Result<()>) -> Result<()> {
    let writes_at_close = agreement.minor >= 36;
    match answer {
        Err(Errno::ENOSYS)
            if agreement.flags.contains(InitFlags::WRITEBACK_CACHE) && !writes_at_close =>
        {
            Ok(())
        }
        answer => answer,
    }
}

fn created(answer: Result<(Entry, Opened)>) -> Outcome {
    outcome(answer, |(entry, opened)| Reply::Created(entry, opened))
}

async fn ioctl<F: Filesystem>(
    fs: &F,
    cx: &Context<'_>,
    op: IoCtl<'_>,
    mut out: Out<'_>,
) -> Outcome {
    let size = op.out_size as usize;
    // The fixed struct goes in front of the data, so its room is taken before they are filled.
    if out.append(&[0; IOCTL_OUT_LEN]) != IOCTL_OUT_LEN {
        return Outcome::Error(Errno::EIO);
    }
    let mut out = ReadBuf::new(out, size);
    match fs.ioctl(cx, op, &mut out).await {
        Err(errno) => Outcome::Error(errno),
        Ok(result) => out.finish_ioctl(result),
    }
}

#[cfg(test)]
mod tests {
    use fusewire_proto::negotiate::{Limits, Offer, Wishes, negotiate};

    use super::*;

    #[test]
    fn old_kernels_go_on_asking_for_what_makes_them_write_back() {
        let answer = |minor, writeback: bool, answer| {
            let mut flags = InitFlags::BIG_WRITES;
            flags.set(InitFlags::WRITEBACK_CACHE, writeback);
            let offer = Offer { major: 7, minor, max_readahead: 0, flags };
            let wishes = Wishes { flags, ..Wishes::default() };
            let limits = Limits { page_size: 4096, max_pages_limit: 256 };
            flushed(&negotiate(&offer, &wishes, &limits).unwrap(), answer)
        };
        assert_eq!(answer(35, true, Err(Errno::ENOSYS)), Ok(()));
        assert_eq!(answer(35, false, Err(Errno::ENOSYS)), Err(Errno::ENOSYS));
        assert_eq!(answer(36, true, Err(Errno::ENOSYS)), Err(Errno::ENOSYS));
        assert_eq!(answer(35, true, Err(Errno::EIO)), Err(Errno::EIO));
    }
}
