//! The directory that is mirrored, and the only ways into it: single names below a descriptor,
//! handles, and reopening what is known.
//!
//! No path of more than one name is ever walked, no symbolic link followed, no mount crossed. The
//! last is meant: a mirror shows one mount, as a bind mount that is not recursive does. Where the
//! daemon may, it works on a private copy of the mount, which has nothing mounted on it, so that
//! what lies below a mount point is shown; where it may not, mount points answer EXDEV. Either
//! way a mirror that is mounted below its own BACKING never looks into itself.
//!
//! Never known here: nodes. Neighbours: `sys` has what is unsafe, `node` keeps what is opened.

use std::ffi::{CStr, CString};
use std::io::{self, IoSliceMut};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use fusewire::proto::Result;
use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, Statx, StatxFlags, fstatfs, open, openat,
    openat2, statx,
};
use rustix::io::{ReadWriteFlags, preadv2};
use rustix::mount::{MountAttrFlags, OpenTreeFlags, open_tree};
use rustix::path::{Arg, DecInt};

use crate::error::Answer;
use crate::options::Options;
use crate::sys::{self, FileHandle};

/// Where a descriptor's number names what it refers to.
const DESCRIPTORS: &CStr = c"/proc/self/fd";
const PROCESSES: &CStr = c"/proc";
/// How a name is looked up.
const BENEATH: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_XDEV)
    .union(ResolveFlags::NO_MAGICLINKS)
    .union(ResolveFlags::NO_SYMLINKS);
/// What is asked of every file.
const WANTED: StatxFlags = StatxFlags::BASIC_STATS.union(StatxFlags::BTIME);

/// Filesystems whose files have no `flush` in their `file_operations`, so that nothing is told by a
/// close(2): ext2 to ext4, XFS, btrfs, tmpfs. Kernel: include/uapi/linux/magic.h.
const SILENT: [i64; 4] = [0xef53, 0x5846_5342, 0x9123_683e, 0x0102_1994];

/// The backing directory.
#[derive(Debug)]
pub(crate) struct Backing {
    /// `O_PATH`, on the private copy of the mount where there is one, which it keeps alive.
    root: OwnedFd,
    is_private: bool,
    /// The same opened for reading: handles are opened relative to such a descriptor only.
    anchor: OwnedFd,
    /// `/proc/self/fd`.
    descriptors: OwnedFd,
    /// `/proc`.
    processes: OwnedFd,
    has_handles: bool,
    closes_silently: bool,
    is_tmpfs: bool,
    /// The number of the mount, where the kernel has one (since 5.8).
    mount: Option<u64>,
}

impl Backing {
    /// Opens a directory.
    ///
    /// # Errors
    /// It is none, or `/proc` is not there.
    pub(crate) fn open(path: &Path, options: &Options) -> io::Result<Self> {
        let copy = private_copy(path, attributes_of(options));
        let is_private = copy.is_ok();
        let root = copy.or_else(|_| open_directory(path))?;
        if FileType::from_raw_mode(attributes(root.as_fd())?.stx_mode.into()) != FileType::Directory
        {
            return Err(rustix::io::Errno::NOTDIR.into());
        }
        let directory = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let anchor = openat(&root, c".", directory, Mode::empty())?;
        let descriptors = descriptors_alone().or_else(|_| open_directory(DESCRIPTORS))?;
        let processes = processes_alone().or_else(|_| open_directory(PROCESSES))?;
        let kind = i128::from(fstatfs(&root)?.f_type);
        let mount = mount_of(&statx(&root, c"", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID)?);
        let mut backing = Self {
            root,
            is_private,
            anchor,
            descriptors,
            processes,
            has_handles: true,
            closes_silently: SILENT.iter().any(|silent| i128::from(*silent) == kind),
            is_tmpfs: i128::from(libc::TMPFS_MAGIC) == kind,
            mount,
        };
        backing.has_handles = sys::handle_of(backing.root())
            .and_then(|handle| sys::open_handle(backing.anchor.as_fd(), &handle, libc::O_PATH))
            .is_ok();
        Ok(backing)
    }

    /// The directory itself.
    pub(crate) fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// The same, opened for reading.
    pub(crate) fn anchor(&self) -> BorrowedFd<'_> {
        self.anchor.as_fd()
    }

    /// Whether it lies on a copy of the mount that nobody else uses.
    pub(crate) fn is_private(&self) -> bool {
        self.is_private
    }

    /// `/proc/self/fd`, where a descriptor's number names what it refers to.
    pub(crate) fn descriptors(&self) -> BorrowedFd<'_> {
        self.descriptors.as_fd()
    }

    /// Reads a small file of `/proc`.
    pub(crate) fn of_processes(&self, name: &str) -> io::Result<String> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let file = openat(&self.processes, name, flags, Mode::empty())?;
        io::read_to_string(std::fs::File::from(file))
    }

    /// Whether files can be known without a descriptor.
    pub(crate) fn has_handles(&self) -> bool {
        self.has_handles
    }

    /// Whether closing a descriptor never tells of an error. One mount is shown, so this holds for
    /// all files.
    pub(crate) fn closes_silently(&self) -> bool {
        self.closes_silently
    }

    /// Whether it is tmpfs, which takes O_DIRECT and has nothing below its cache.
    pub(crate) fn is_tmpfs(&self) -> bool {
        self.is_tmpfs
    }

    /// Finds a name; the answer is an `O_PATH` descriptor, of a symbolic link itself if it is one.
    pub(crate) fn lookup(&self, directory: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        openat2(directory, name, flags, Mode::empty(), BENEATH).answer()
    }

    /// Attributes of what a name stands for, as [`lookup`](Self::lookup) would find it, without a
    /// descriptor of it; `None` where only a lookup can tell. Where others may mount something on
    /// the name that is so: statx(2) would ask that filesystem, which may be our own.
    pub(crate) fn peek(&self, directory: BorrowedFd<'_>, name: &[u8]) -> Result<Option<Statx>> {
        if !self.is_private
            || self.mount.is_none()
            || matches!(name, b"." | b"..")
            || name.contains(&b'/')
        {
            return Ok(None);
        }
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
        let stat = statx(directory, name, flags, WANTED | StatxFlags::MNT_ID).answer()?;
        Ok(if mount_of(&stat) == self.mount { Some(stat) } else { None })
    }

    /// The handle of what a name stands for.
    pub(crate) fn handle_at(&self, directory: BorrowedFd<'_>, name: &[u8]) -> Option<FileHandle> {
        let name = CString::new(name).ok().filter(|_| self.has_handles)?;
        sys::handle_at(directory, &name).ok()
    }

    /// Opens again what `fd` refers to.
    pub(crate) fn reopen(&self, fd: BorrowedFd<'_>, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        let flags = flags | OFlags::CLOEXEC;
        openat(&self.descriptors, DecInt::from_fd(fd), flags, Mode::empty())
    }

    /// Whether the kernel can serve the data of what `fd` refers to: it registers also files that
    /// have no `read_iter`, such as debugfs's, and fails each read of them. Only such files refuse
    /// all flags of preadv2(2) (fs/read_write.c, `vfs_readv`).
    pub(crate) fn can_be_served(&self, fd: BorrowedFd<'_>) -> bool {
        let Ok(file) = self.reopen(fd, OFlags::RDONLY | OFlags::NOATIME) else { return true };
        let mut byte = [0];
        let mut parts = [IoSliceMut::new(&mut byte)];
        let beyond = preadv2(file, &mut parts, 1 << 62, ReadWriteFlags::DSYNC);
        beyond != Err(rustix::io::Errno::OPNOTSUPP)
    }

    /// The handle of what `fd` refers to, if it has one.
    pub(crate) fn handle_of(&self, fd: BorrowedFd<'_>) -> Option<FileHandle> {
        self.has_handles.then(|| sys::handle_of(fd).ok()).flatten()
    }

    /// An `O_PATH` descriptor of what `handle` names.
    pub(crate) fn open_handle(&self, handle: &FileHandle) -> Result<OwnedFd> {
        let flags = libc::O_PATH | libc::O_NOFOLLOW | libc::O_CLOEXEC;
        sys::open_handle(self.anchor.as_fd(), handle, flags).answer()
    }
}

/// Attributes of what `fd` refers to.
pub(crate) fn attributes(fd: BorrowedFd<'_>) -> rustix::io::Result<Statx> {
    statx(fd, c"", AtFlags::EMPTY_PATH, WANTED)
}

/// What holds an inode, `O_PATH`, and its attributes.
pub(crate) type Found = (OwnedFd, Statx);

/// The attributes of what was opened, beside it.
pub(crate) fn found(fd: OwnedFd) -> Result<Found> {
    let stat = attributes(fd.as_fd()).answer()?;
    Ok((fd, stat))
}

fn mount_of(stat: &Statx) -> Option<u64> {
    (stat.stx_mask & StatxFlags::MNT_ID.bits() != 0).then_some(stat.stx_mnt_id)
}

fn open_directory(path: impl Arg) -> rustix::io::Result<OwnedFd> {
    open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

/// What the mount of a mirror is to be like; nothing is executed there, and no device opened.
fn attributes_of(options: &Options) -> MountAttrFlags {
    let mut set = MountAttrFlags::MOUNT_ATTR_NODEV;
    set.set(MountAttrFlags::MOUNT_ATTR_RDONLY, options.readonly);
    set.set(MountAttrFlags::MOUNT_ATTR_NOATIME, options.noatime);
    set
}

/// `/proc/self/fd` with nothing above it.
pub(crate) fn descriptors_alone() -> rustix::io::Result<OwnedFd> {
    private_copy(DESCRIPTORS, MountAttrFlags::empty())
}

/// `/proc` to look at: nobody's root or working directory can be reached through it.
pub(crate) fn processes_alone() -> rustix::io::Result<OwnedFd> {
    let look = MountAttrFlags::MOUNT_ATTR_RDONLY | MountAttrFlags::MOUNT_ATTR_NOSYMFOLLOW;
    private_copy(PROCESSES, look)
}

/// A copy of the mount that holds `path`, rooted there, with nothing mounted on it; it is in
/// nobody's namespace and ends with its descriptor.
fn private_copy(path: impl Arg, set: MountAttrFlags) -> rustix::io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let copy = open_tree(CWD, path, flags)?;
    sys::make_private(copy.as_fd(), set).map_err(|_| rustix::io::Errno::PERM)?;
    Ok(copy)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use fusewire::proto::Errno;

    use super::*;

    #[test]
    fn names_lead_nowhere_else() {
        let directory = tempfile::tempdir().unwrap();
        symlink("/etc/passwd", directory.path().join("link")).unwrap();
        std::fs::create_dir(directory.path().join("sub")).unwrap();
        let backing = Backing::open(directory.path(), &Options::default()).unwrap();
        let link = backing.lookup(backing.root(), b"link").unwrap();
        let kind = FileType::from_raw_mode(attributes(link.as_fd()).unwrap().stx_mode.into());
        assert_eq!(kind, FileType::Symlink);
        let sub = backing.lookup(backing.root(), b"sub").unwrap();
        assert_eq!(backing.lookup(sub.as_fd(), b"..").unwrap_err(), Errno::EXDEV);
        assert_eq!(backing.lookup(backing.root(), b"none").unwrap_err(), Errno::ENOENT);
        assert!(backing.lookup(backing.root(), b"../etc").is_err());
    }

    #[test]
    fn a_peek_sees_what_a_lookup_finds() {
        let directory = tempfile::tempdir().unwrap();
        symlink("/etc/passwd", directory.path().join("link")).unwrap();
        std::fs::create_dir(directory.path().join("sub")).unwrap();
        let backing = Backing::open(directory.path(), &Options::default()).unwrap();
        for name in ["link", "sub"] {
            let fd = backing.lookup(backing.root(), name.as_bytes()).unwrap();
            let peeked = backing.peek(backing.root(), name.as_bytes()).unwrap().unwrap();
            assert_eq!(peeked.stx_ino, attributes(fd.as_fd()).unwrap().stx_ino);
            let handle = backing.handle_at(backing.root(), name.as_bytes());
            assert_eq!(handle, backing.handle_of(fd.as_fd()));
        }
        assert_eq!(backing.peek(backing.root(), b"none").unwrap_err(), Errno::ENOENT);
        for nowhere in [&b".."[..], b".", b"../etc", b"sub/.."] {
            assert!(backing.peek(backing.root(), nowhere).unwrap().is_none());
        }
        let root = Backing::open(Path::new("/"), &Options::default()).unwrap();
        // Seen through the whole tree, where /proc is another mount.
        let whole = open("/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap();
        assert!(root.peek(whole.as_fd(), b"proc").unwrap().is_none());
    }

    #[test]
    fn a_readonly_copy_is_readonly() {
        let directory = tempfile::tempdir().unwrap();
        let options = Options { readonly: true, noatime: true, ..Options::default() };
        if private_copy(directory.path(), attributes_of(&options)).is_err() {
            return;
        }
        let backing = Backing::open(directory.path(), &options).unwrap();
        let mode = Mode::from_raw_mode(0o755);
        let made = rustix::fs::mkdirat(backing.root(), "d", mode);
        assert_eq!(made, Err(rustix::io::Errno::ROFS));
        std::fs::create_dir(directory.path().join("d")).unwrap();
    }

    #[test]
    fn files_without_read_iter_cannot_be_served() {
        let directory = tempfile::tempdir().unwrap();
        let file = std::fs::File::create(directory.path().join("f")).unwrap();
        let backing = Backing::open(directory.path(), &Options::default()).unwrap();
        assert!(backing.can_be_served(file.as_fd()));
        // Of what is everywhere, files of /proc/PID that are read at one go.
        let pagemap = std::fs::File::open("/proc/self/pagemap").unwrap();
        assert!(!backing.can_be_served(pagemap.as_fd()));
    }

    #[test]
    fn a_file_is_no_backing() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = Backing::open(file.path(), &Options::default()).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENOTDIR));
    }
}
