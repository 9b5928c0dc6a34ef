//! Locks of fcntl(2) and flock(2), which go down to the backing file: who locks here and who locks
//! there keep each other out.
//!
//! A lock of flock(2) is the handle's own, as dup(2) and fork(2) share it. Others are `owners`'.
//! Whoever must wait does so in `wait`.
//!
//! With a lock goes what it guards. One that was had has the kernel drop what it keeps of a file
//! that has changed, and a write lock that is given up has it write its dirty pages first.
//!
//! Never known here: how calls are ended. Neighbours: `filesystem` comes here.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use fusewire::proto::flags::{InitFlags, LkFlags};
use fusewire::proto::notify::Notification;
use fusewire::proto::{Errno, LockKind, Result};
use fusewire::{Context, Patience};
use rustix::fs::{FlockOperation, OFlags, flock};

use crate::backing::attributes;
use crate::error::Answer;
use crate::handles::OpenFile;
use crate::mirror::Mirror;
use crate::options::Cache;
use crate::owners::{self, Wanted};
use crate::wait::wait;

/// Far longer than a RELEASE takes that is on its way.
const GRACE: Duration = Duration::from_millis(100);

/// Takes or drops a lock.
///
/// # Errors
/// EAGAIN where it is taken and nobody is to wait, EDEADLK, EINTR, ENOLCK, EINVAL.
pub(crate) async fn set(
    cx: &Context<'_>,
    mirror: &Mirror,
    wanted: Wanted,
    flags: LkFlags,
) -> Result<()> {
    let file = mirror.files.get(wanted.fh)?;
    file.node.owners().is_clear(wanted.fh);
    let whole = flags.contains(LkFlags::FLOCK);
    let kind = wanted.lock.kind;
    let gives_up = if whole {
        *file.whole.lock() == LockKind::WRITE
    } else {
        kind != LockKind::WRITE && file.node.owners().writes(wanted.owner, &wanted.lock)
    };
    if gives_up {
        hand_over(cx, mirror, &file).await;
    }
    if whole {
        set_whole(cx, mirror, &file, kind, wanted.waits).await?;
    } else {
        set_range(cx, mirror, &file, &wanted).await?;
    }
    if kind != LockKind::UNLOCK {
        look_anew(cx, mirror, &file).await;
    }
    Ok(())
}

async fn set_whole(
    cx: &Context<'_>,
    mirror: &Mirror,
    file: &OpenFile,
    kind: LockKind,
    waits: bool,
) -> Result<()> {
    let (now, whenever) = match kind {
        LockKind::READ => (FlockOperation::NonBlockingLockShared, FlockOperation::LockShared),
        LockKind::WRITE => {
            (FlockOperation::NonBlockingLockExclusive, FlockOperation::LockExclusive)
        }
        LockKind::UNLOCK => (FlockOperation::NonBlockingUnlock, FlockOperation::Unlock),
        _ => return Err(Errno::EINVAL),
    };
    // Asked for first: what ends meanwhile has let go before.
    let closing = file.node.owners().is_closing();
    // What is had is lost also where the new one is not had (flock(2)).
    *file.whole.lock() = LockKind::UNLOCK;
    match flock(file, now) {
        Err(rustix::io::Errno::WOULDBLOCK) if waits || closing => {
            let fd = Arc::clone(&file.fd);
            let again = move || flock(&*fd, whenever);
            let done = wait(cx, &mirror.backing, limit(waits), again).await;
            if !waits && done.is_err() {
                file.node.owners().stay_open();
            }
            done?;
        }
        done => done.answer()?,
    }
    *file.whole.lock() = kind;
    Ok(())
}

async fn set_range(
    cx: &Context<'_>,
    mirror: &Mirror,
    file: &OpenFile,
    wanted: &Wanted,
) -> Result<()> {
    let owners = file.node.owners();
    // Only as much as is needed: who writes keeps a file from being executed.
    let open = |writes: bool| {
        let open = |flags| mirror.backing.reopen(file.as_fd(), flags);
        let opened = if writes {
            // Nothing is written by it; some files can be opened for that only (chattr +a).
            open(OFlags::RDWR | OFlags::APPEND).or_else(|_| open(OFlags::WRONLY | OFlags::APPEND))
        } else {
            open(OFlags::RDONLY)
        };
        // No error of open(2) is one of fcntl(2).
        opened.map_err(|_| Errno::ENOLCK)
    };
    let Some(fd) = owners.set(wanted, open)? else { return Ok(()) };
    let (by, lock) = (Arc::clone(&fd), wanted.lock);
    let begun = wanted.waits.then(|| mirror.waits.begin(&file.node, wanted)).transpose();
    let result = match begun {
        Ok(_begun) => {
            let again = move || owners::wait(&by, &lock);
            wait(cx, &mirror.backing, limit(wanted.waits), again).await
        }
        Err(errno) => Err(errno),
    };
    if !wanted.waits && result.is_err() {
        owners.stay_open();
    }
    owners.waited(wanted, &fd, result)
}

/// For how long to wait. Who does not want to, does for what the handle has that somebody has just
/// closed: RELEASE, which close(2) does not wait for, may come to another shard.
fn limit(waits: bool) -> Option<Duration> {
    (!waits).then_some(GRACE)
}

/// Whether the mount keeps pages that are not the backing file's own, which others may change.
fn keeps_pages(mirror: &Mirror, file: &OpenFile) -> bool {
    let options = &mirror.options;
    options.cache != Cache::Always && !options.is_direct() && !file.server.is_kernel()
}

/// Has the kernel write what is dirty, for who locks next. Its way to do so drops the pages, too.
async fn hand_over(cx: &Context<'_>, mirror: &Mirror, file: &OpenFile) {
    let writeback = cx.agreement().flags.contains(InitFlags::WRITEBACK_CACHE);
    if writeback && keeps_pages(mirror, file) && file.node.writers.load(Ordering::Relaxed) > 0 {
        drop_pages(cx, file).await;
    }
}

/// Has the kernel drop what it keeps of a file that may have changed since it was looked at.
async fn look_anew(cx: &Context<'_>, mirror: &Mirror, file: &OpenFile) {
    if !keeps_pages(mirror, file) {
        return;
    }
    let Ok(stat) = attributes(file.as_fd()) else { return };
    if !file.node.is_surely_unchanged(&stat) {
        drop_pages(cx, file).await;
    }
}

async fn drop_pages(cx: &Context<'_>, file: &OpenFile) {
    let node = file.node.id;
    let sent = cx.notifier().send(&Notification::InvalInode { node, offset: 0, len: 0 });
    // It writes dirty pages by further requests. Where too many wait for that it is late, which is
    // better than never.
    let done = match cx.linger(Patience::Short) {
        Some(_place) => sent.await,
        None => Err(Errno::EAGAIN),
    };
    // ENOENT: it keeps nothing.
    if !matches!(done, Ok(()) | Err(Errno::ENOENT)) {
        file.node.unsee();
    }
}
