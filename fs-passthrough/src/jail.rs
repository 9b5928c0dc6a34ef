//! What the threads that serve are locked into: a second wall, should the first have a hole.
//!
//! The first wall is `backing`: single names below descriptors. Behind this one a path leads
//! nowhere, as the thread's only directory is empty; capabilities that no operation needs are gone
//! for good, and so are all system calls but those of `calls`. The thread that mounts, unmounts and
//! writes counters stays outside. All threads share memory and descriptors: this holds against a
//! wrong path or call, not against somebody who writes to our memory.
//!
//! Never known here: requests. Neighbours: `caller` enters, `calls` has the list.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use nix::sched::{CloneFlags, setns, unshare};
use rustix::fs::{CWD, Mode, OFlags, open, openat};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags, UnmountFlags,
    fsconfig_create, fsmount, fsopen, mount_change, move_mount, unmount,
};
use rustix::process::{fchdir, pivot_root};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, capability_is_in_bounding_set,
    clear_ambient_capability_set, remove_capability_from_bounding_set, set_capabilities,
    set_no_new_privs,
};
use seccompiler::BpfProgram;

use crate::backing;
use crate::calls;
use crate::options::{DataPath, Options};
use crate::sys;

/// What a mirror needs to open anything by handle, to make things in anybody's name, and to change
/// what belongs to anybody.
const KEPT: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::DAC_READ_SEARCH)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::LINUX_IMMUTABLE)
    .union(CapabilitySet::MKNOD)
    .union(CapabilitySet::SETFCAP);

/// An empty directory, a list of capabilities and one of system calls, for threads to be locked
/// into.
#[derive(Debug)]
pub struct Jail {
    /// A mount namespace that has an empty, read-only directory in it and nothing else.
    namespace: OwnedFd,
    kept: CapabilitySet,
    calls: BpfProgram,
}

impl Jail {
    /// Builds one and tries it on a thread of its own, so that what is refused is refused here.
    ///
    /// To be called before the mirror is mounted: mounts are in the new namespace for a moment.
    ///
    /// # Errors
    /// Not root, or a container or kernel does not let it; says at which step.
    pub fn build(options: &Options) -> io::Result<Self> {
        let mut kept = KEPT;
        if options.xattr || options.io == DataPath::Kernel {
            // For names in `trusted.` and `security.` (fs/xattr.c, `xattr_permission`), and to
            // register a backing file (fs/fuse/backing.c, `fuse_backing_open`).
            kept |= CapabilitySet::SYS_ADMIN;
        }
        let calls = calls::allowed().map_err(io::Error::other)?;
        let try_on = move || {
            let namespace = empty_namespace()?;
            let jail = Self { namespace, kept, calls };
            jail.enter()?;
            jail.lock()?;
            Ok(jail)
        };
        let thread = std::thread::Builder::new().name("fusewire-jail".to_owned()).spawn(try_on)?;
        thread.join().unwrap_or_else(|_| Err(io::Error::other("the attempt panicked")))
    }

    /// Leaves all paths behind. The thread must have a working directory of its own, which becomes
    /// the empty one.
    pub(crate) fn enter(&self) -> io::Result<()> {
        setns(self.namespace.as_fd(), CloneFlags::CLONE_NEWNS)
            .map_err(|errno| at("entering the empty directory", errno))
    }

    /// Gives up everything else that is not needed, for as long as the thread lives.
    pub(crate) fn lock(&self) -> io::Result<()> {
        self.drop_capabilities().map_err(|errno| at("dropping capabilities", errno))?;
        set_no_new_privs(true).map_err(|errno| at("no_new_privs", errno))?;
        sys::restrict_calls(&self.calls).map_err(|errno| at("a seccomp filter", errno))
    }

    fn drop_capabilities(&self) -> rustix::io::Result<()> {
        clear_ambient_capability_set()?;
        // The first number that the kernel does not know ends them.
        let all = (0..u64::BITS).map(|number| CapabilitySet::from_bits_retain(1 << number));
        for one in all.take_while(|one| capability_is_in_bounding_set(*one).is_ok()) {
            if !self.kept.contains(one) {
                remove_capability_from_bounding_set(one)?;
            }
        }
        let kept = self.kept & capabilities(None)?.permitted;
        let inheritable = CapabilitySet::empty();
        set_capabilities(None, CapabilitySets { effective: kept, permitted: kept, inheritable })
    }
}

/// An error that says where it came up.
fn at(step: &str, error: impl Into<io::Error>) -> io::Error {
    let error = error.into();
    io::Error::new(error.kind(), format!("{step}: {error}"))
}

/// Moves this thread to a mount namespace of its own, in which it leaves nothing.
fn empty_namespace() -> io::Result<OwnedFd> {
    // Without these a path leads out through /proc, by way of what is open.
    backing::descriptors_alone().map_err(|errno| at("a mount of /proc/self/fd alone", errno))?;
    backing::processes_alone().map_err(|errno| at("a mount of /proc without links", errno))?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let names = open(c"/proc/thread-self/ns", flags, Mode::empty())
        .map_err(|errno| at("/proc/thread-self/ns", errno))?;
    unshare(CloneFlags::CLONE_NEWNS).map_err(|errno| at("a mount namespace", errno))?;
    empty_out().map_err(|errno| at("an empty directory as the root", errno))?;
    openat(&names, c"mnt", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| at("/proc/thread-self/ns/mnt", errno))
}

/// Leaves nothing but an empty directory in this thread's mount namespace.
fn empty_out() -> rustix::io::Result<()> {
    // Nothing that is unmounted here shall go elsewhere, and nothing come.
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change(c"/", private)?;
    let context = fsopen(c"tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_create(&context)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY
        | MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let empty = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
    move_mount(&empty, c"", CWD, c"/", MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
    fchdir(&empty)?;
    // The old root comes to lie on the new one, and goes with all that is mounted below it.
    pivot_root(c".", c".")?;
    unmount(c".", UnmountFlags::DETACH)
}

impl fmt::Display for Jail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kept = self.kept;
        write!(
            f,
            "an empty root, no_new_privs, seccomp, capabilities {:#x} ({kept:?})",
            kept.bits()
        )
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::MetadataExt;
    use std::path::Path;
    use std::process::Command;

    use nix::errno::Errno;
    use rustix::fs::{AtFlags, Dir, Uid, XattrFlags, chownat, setxattr};
    use rustix::process::{Signal, geteuid, getpid, kill_process};
    use rustix::thread::gettid;

    use super::*;
    use crate::backing::{Backing, attributes};
    use crate::caller::own_thread;

    /// Runs `work` behind the wall, beside a directory with a file in it.
    fn inside(work: impl FnOnce(&Path, &Backing) + Send) {
        if !geteuid().is_root() {
            return;
        }
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("file"), "text").unwrap();
        let options = Options::default();
        let jail = Jail::build(&options).unwrap();
        let backing = Backing::open(directory.path(), &options).unwrap();
        std::thread::scope(|scope| {
            let enter = || {
                own_thread(&backing, Some(&jail)).unwrap();
                work(directory.path(), &backing);
            };
            assert!(scope.spawn(enter).join().is_ok(), "it ends as any thread");
        });
        assert_eq!(fs::read_to_string(directory.path().join("file")).unwrap(), "text", "outside");
    }

    #[test]
    fn paths_lead_nowhere() {
        inside(|directory, backing| {
            let error = |result: io::Result<String>| result.unwrap_err().raw_os_error();
            let root =
                openat(CWD, c"/", OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
            let entries = Dir::new(root).unwrap();
            assert_eq!(entries.count(), 2, "itself and what is above, which is itself");
            assert_eq!(error(fs::read_to_string("/etc/passwd")), Some(libc::ENOENT));
            assert_eq!(error(fs::read_to_string(directory.join("file"))), Some(libc::ENOENT));
            let made = rustix::fs::mkdirat(CWD, c"/new", Mode::RWXU);
            assert_eq!(made, Err(rustix::io::Errno::ROFS));
            // Where descriptors lead up, they stop at what they were opened for.
            let up = |fd, name: &str| openat(fd, name, OFlags::PATH, Mode::empty());
            let ino = |fd: &OwnedFd| attributes(fd.as_fd()).unwrap().stx_ino;
            let above = up(backing.root(), "../..").unwrap();
            assert_eq!(ino(&above), attributes(backing.root()).unwrap().stx_ino);
            let above = up(backing.descriptors(), "../root/etc/passwd");
            assert_eq!(above.unwrap_err(), rustix::io::Errno::NOENT);
            // And /proc has no links.
            let pid = getpid().as_raw_nonzero();
            let status = backing.of_processes(&format!("{pid}/status")).unwrap();
            assert!(status.contains(&format!("Pid:\t{pid}\n")));
            for link in [format!("{pid}/root/etc/passwd"), format!("{pid}/cwd"), "1/exe".to_owned()]
            {
                let error = error(backing.of_processes(&link));
                assert_eq!(error, Some(libc::ELOOP), "{link}");
            }
        });
    }

    #[test]
    fn other_calls_are_refused_and_nobody_dies() {
        inside(|_, _| {
            let refused = |what: &str, result: io::Result<()>| {
                let errno = result.map_err(|error| error.raw_os_error());
                assert_eq!(errno, Err(Some(libc::ENOSYS)), "{what}");
            };
            refused("socket", std::net::UdpSocket::bind("127.0.0.1:0").map(drop));
            refused("clone", Command::new("/bin/true").spawn().map(drop));
            refused(
                "execve",
                nix::unistd::execv(c"/bin/true", &[c"true"]).map(drop).map_err(Into::into),
            );
            let other = nix::unistd::Pid::from_raw(1);
            refused("ptrace", nix::sys::ptrace::attach(other).map_err(Into::into));
            refused("unshare", unshare(CloneFlags::CLONE_NEWUSER).map_err(Into::into));
            refused("mount", mount_change(c"/", MountPropagationFlags::SHARED).map_err(Into::into));
            refused("chroot", nix::unistd::chroot("/").map_err(Into::into));
            refused("chdir", std::env::set_current_dir("/"));
            let uid = Uid::from_raw(1);
            refused("setuid", rustix::thread::set_thread_uid(uid).map_err(Into::into));
            refused("kill", kill_process(getpid(), Signal::TERM).map_err(Into::into));
            let memory = memmap2::MmapMut::map_anon(4096).unwrap();
            refused("mprotect", memory.make_exec().map(drop));
            // What the filter lets pass of a call is what is needed of it.
            let terminal = rustix::termios::tcgetattr(io::stdin());
            refused("ioctl", terminal.map(drop).map_err(Into::into));
        });
    }

    #[test]
    fn what_a_mirror_needs_is_there() {
        inside(|_, backing| {
            let name =
                format!("{}/task/{}/status", getpid().as_raw_nonzero(), gettid().as_raw_nonzero());
            let status = backing.of_processes(&name).unwrap();
            assert!(status.contains("\nSeccomp:\t2\n") && status.contains("\nNoNewPrivs:\t1\n"));
            let sets = capabilities(None).unwrap();
            assert_eq!(sets.permitted, KEPT | CapabilitySet::SYS_ADMIN);
            let fd = backing.lookup(backing.root(), b"file").unwrap();
            let handle = backing.handle_of(fd.as_fd()).expect("handles, as root");
            let again = backing.open_handle(&handle).unwrap();
            let file = fs::File::from(backing.reopen(again.as_fd(), OFlags::RDWR).unwrap());
            assert_eq!(io::read_to_string(&file).unwrap(), "text");
            let owner = Some(Uid::from_raw(7));
            chownat(&file, c"", owner, None, AtFlags::EMPTY_PATH).unwrap();
            assert_eq!(file.metadata().unwrap().uid(), 7);
            let path = rustix::path::DecInt::from_fd(again.as_fd());
            setxattr(path, "trusted.a", b"b", XattrFlags::empty()).unwrap();
            let thread = std::thread::Builder::new().name("more".to_owned());
            let there = thread.spawn(|| std::fs::read("/etc/passwd").is_err()).unwrap();
            assert!(there.join().unwrap(), "a thread of it is locked in as well");
            let panicked = std::panic::catch_unwind(|| panic!("on purpose"));
            assert!(panicked.is_err());
        });
    }

    #[test]
    fn a_refusal_names_the_step() {
        let refused = at("a step", Errno::EPERM);
        assert_eq!(refused.kind(), io::ErrorKind::PermissionDenied);
        assert_eq!(refused.to_string(), "a step: Operation not permitted (os error 1)");
    }
}
