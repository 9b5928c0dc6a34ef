//! Who asks, and doing things in their name.
//!
//! What is made must belong to whoever asked, and the backing filesystem decides much by that:
//! owner, the group that a directory hands down, the set-group-id bit, quotas. So a shard's thread
//! takes on the caller's fsuid, fsgid and groups for the one call where they differ from its own,
//! and gives them back also if it panics. All of these, and the umask once its `fs_struct` is its
//! own, belong to a thread alone.
//!
//! Never known here: nodes. Neighbours: `make` makes things, `xattr` needs the thread's directory.

use std::cell::Cell;
use std::io;

use fusewire::Context;
use fusewire::proto::flags::InitFlags;
use fusewire::proto::op::Extensions;
use fusewire::proto::{Errno, Result};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{setfsgid, setfsuid};
use rustix::fs::Mode;
use rustix::process::{Gid, fchdir, getegid, geteuid, umask};
use rustix::thread::{CapabilitySet, capabilities, set_capabilities, set_thread_groups};

use crate::backing::Backing;
use crate::error::Answer;
use crate::jail::Jail;

/// What setfsuid(2) refuses, and so tells the present one for.
const NOBODY: u32 = u32::MAX;

/// A thread that has its umask and working directory to itself.
#[derive(Clone, Copy, Debug)]
struct OwnThread {
    uid: u32,
    gid: u32,
    /// Whoever makes something sets it before, so it stays that of the last caller.
    umask: Mode,
}

thread_local! {
    static OWN: Cell<Option<OwnThread>> = const { Cell::new(None) };
}

/// Makes this thread's umask and working directory its own, and locks it in. The directory becomes
/// `/proc/self/fd`, where a descriptor's number is a path.
pub(crate) fn own_thread(backing: &Backing, jail: Option<&Jail>) -> io::Result<()> {
    unshare(CloneFlags::CLONE_FS)?;
    jail.map_or(Ok(()), Jail::enter)?;
    fchdir(backing.descriptors())?;
    umask(Mode::empty());
    if geteuid().is_root() {
        set_thread_groups(&[])?;
    }
    let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
    OWN.set(Some(OwnThread { uid, gid, umask: Mode::empty() }));
    jail.map_or(Ok(()), Jail::lock)
}

/// What this thread is. EIO on one that was never made its own, whose umask is everybody's.
fn own() -> Result<OwnThread> {
    OWN.get().ok_or(Errno::EIO)
}

/// Somebody in whose name something is made.
#[derive(Debug)]
pub(crate) struct Caller {
    uid: u32,
    gid: u32,
    /// Supplementary groups that matter.
    groups: Vec<Gid>,
    umask: Mode,
}

impl Caller {
    /// Who sent a request that makes something.
    ///
    /// With CREATE_SUPP_GROUP the kernel says whether the caller is in the directory's group,
    /// which is all that making something depends on once permissions are checked; without, all
    /// groups are looked up. The caller waits for the answer, so it is still there.
    pub(crate) fn of(
        cx: &Context<'_>,
        umask: u32,
        extensions: &Extensions<'_>,
        backing: &Backing,
    ) -> Self {
        let agreed = |flag| cx.agreement().flags.contains(flag);
        let groups = if agreed(InitFlags::CREATE_SUPP_GROUP) {
            extensions.groups().map(Gid::from_raw).collect()
        } else {
            groups_of(cx.pid(), backing)
        };
        let umask = if agreed(InitFlags::DONT_MASK) { umask & 0o777 } else { 0 };
        Self { uid: cx.uid(), gid: cx.gid(), groups, umask: Mode::from_raw_mode(umask) }
    }

    /// Runs `make` as the caller.
    ///
    /// The kernel has checked permissions, with what it knows of ACLs, groups and user namespaces.
    /// Where the backing filesystem refuses nevertheless, it is asked once more by one who may
    /// pass permissions but is nobody else.
    pub(crate) fn run<T>(&self, mut make: impl FnMut() -> rustix::io::Result<T>) -> Result<T> {
        let own = own()?;
        let _guard = self.take_on(own)?;
        match make() {
            Err(rustix::io::Errno::ACCESS) if self.uid != 0 && own.uid == 0 => {
                let mut sets = capabilities(None).answer()?;
                sets.effective |= CapabilitySet::DAC_OVERRIDE;
                set_capabilities(None, sets).answer()?;
                make().answer()
            }
            answer => answer.answer(),
        }
    }

    /// What gives the thread back, where the caller is not the daemon itself.
    fn take_on(&self, own: OwnThread) -> Result<Option<Restore>> {
        if self.umask != own.umask {
            umask(self.umask);
            OWN.set(Some(OwnThread { umask: self.umask, ..own }));
        }
        let groups = !self.groups.is_empty() && own.uid == 0;
        if (self.uid, self.gid, groups) == (own.uid, own.gid, false) {
            return Ok(None);
        }
        let restore = Restore { uid: own.uid, gid: own.gid, groups };
        if groups {
            set_thread_groups(&self.groups).answer()?;
        }
        if self.gid != own.gid {
            setfsgid(self.gid.into());
        }
        if self.uid != own.uid {
            setfsuid(self.uid.into());
        }
        // Neither call says whether it worked.
        let is = (setfsuid(NOBODY.into()).as_raw(), setfsgid(NOBODY.into()).as_raw());
        if is == (self.uid, self.gid) { Ok(Some(restore)) } else { Err(Errno::EPERM) }
    }
}

/// Gives the thread its own identity back. Setting fsuid to 0 also brings the capabilities back
/// that leaving it took (capabilities(7)).
struct Restore {
    uid: u32,
    gid: u32,
    groups: bool,
}

impl Drop for Restore {
    fn drop(&mut self) {
        setfsuid(self.uid.into());
        setfsgid(self.gid.into());
        if self.groups {
            // Fails for want of memory only; a group too many then stays until the next time.
            let _ = set_thread_groups(&[]);
        }
    }
}

/// `/proc/PID/status`; empty of a process that is not to be seen.
fn status(pid: u32, backing: &Backing) -> String {
    if pid == 0 {
        return String::new();
    }
    backing.of_processes(&format!("{pid}/status")).unwrap_or_default()
}

/// What a line of it says.
fn said<'t>(status: &'t str, field: &str) -> &'t str {
    status.lines().find_map(|line| line.strip_prefix(field)).unwrap_or_default().trim()
}

/// A set of bits that a line of it says.
fn bits(status: &str, field: &str) -> u64 {
    u64::from_str_radix(said(status, field), 16).unwrap_or_default()
}

fn groups_of(pid: u32, backing: &Backing) -> Vec<Gid> {
    let status = status(pid, backing);
    said(&status, "Groups:")
        .split_whitespace()
        .filter_map(|word| word.parse().ok().map(Gid::from_raw))
        .collect()
}

/// Whether the caller has a capability. With ALLOW_IDMAP agreed, requests that make nothing carry
/// no user (`fs/fuse/dev.c, fuse_get_req`), so this looks at the caller itself.
pub(crate) fn has(cx: &Context<'_>, capability: CapabilitySet, backing: &Backing) -> bool {
    let set = bits(&status(cx.pid(), backing), "CapEff:");
    set & capability.bits() == capability.bits()
}

/// Whether a signal waits for the thread that waits for the answer, so that its system call is to
/// end.
///
/// The kernel says so by INTERRUPT, but not of a signal that came before the request was handed out
/// over the ring: it looks for one before that, and not once more (`fs/fuse/dev_uring.c,
/// fuse_uring_prepare_send`; for the device `dev.c, fuse_dev_do_read` does). One look when the
/// request is there is enough, as the signal stays until the call has ended.
pub(crate) fn is_signalled(cx: &Context<'_>, backing: &Backing) -> bool {
    let status = status(cx.pid(), backing);
    let set = |field| bits(&status, field);
    (set("SigPnd:") | set("ShdPnd:")) & !set("SigBlk:") != 0
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use rustix::fs::{OFlags, mkdirat, openat};

    use super::*;
    use crate::options::Options;

    fn caller(uid: u32, groups: &[u32], umask: u32) -> Caller {
        let groups = groups.iter().copied().map(Gid::from_raw).collect();
        Caller { uid, gid: uid, groups, umask: Mode::from_raw_mode(umask) }
    }

    #[test]
    fn things_belong_to_their_maker_and_the_thread_to_itself() {
        if !geteuid().is_root() {
            return;
        }
        let directory = tempfile::tempdir().unwrap();
        let backing = Backing::open(directory.path(), &Options::default()).unwrap();
        // A thread of its own: what it takes on for good is not for the other tests.
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let make = |name: &'static str| {
                    let backing = &backing;
                    move || mkdirat(backing.root(), name, Mode::from_raw_mode(0o777))
                };
                // The directory is root's own: only by passing permissions can this be done.
                own_thread(&backing, None).unwrap();
                caller(1234, &[], 0o027).run(make("a")).unwrap();
                let a = std::fs::metadata(directory.path().join("a")).unwrap();
                assert_eq!((a.uid(), a.gid(), a.mode() & 0o7777), (1234, 1234, 0o750));
                let panicked = std::panic::catch_unwind(|| {
                    caller(1234, &[7], 0).run(|| -> rustix::io::Result<()> { panic!("on purpose") })
                });
                assert!(panicked.is_err());
                caller(0, &[], 0).run(make("b")).unwrap();
                let b = std::fs::metadata(directory.path().join("b")).unwrap();
                assert_eq!((b.uid(), b.gid(), b.mode() & 0o7777), (0, 0, 0o777));
                assert!(capabilities(None).unwrap().effective.contains(CapabilitySet::CHOWN));
                // What one caller's umask takes away is not the next one's matter.
                caller(0, &[], 0o077).run(make("c")).unwrap();
                caller(0, &[], 0).run(make("d")).unwrap();
                let mode = |name| std::fs::metadata(directory.path().join(name)).unwrap().mode();
                assert_eq!((mode("c") & 0o7777, mode("d") & 0o7777), (0o700, 0o777));
                assert!(rustix::process::getgroups().unwrap().is_empty());
                let flags = OFlags::CREATE | OFlags::WRONLY;
                openat(backing.root(), "e", flags, Mode::RUSR).unwrap();
            });
        });
        assert!(std::env::current_dir().unwrap().is_dir(), "not the thread's");
    }
}
