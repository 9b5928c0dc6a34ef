//! Mounting and unmounting, by the best way that is there.
//!
//! Root uses `fsopen` and its family (the mount appears only when it serves), or `mount(2)` on
//! kernels without them; everybody else `fusermount3`.
//!
//! Never known here: requests. Neighbour: `session`, which serves what is mounted.

mod fusermount;
mod kernel;
mod options;
mod outside;
mod table;

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno as SystemError;
use nix::fcntl::{OFlag, open as open_path};
use nix::mount::{MntFlags, umount2};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::Mode;
use nix::unistd::geteuid;

use crate::config::Config;
use crate::error::{Error, Result};
use crate::sys::device;
use crate::sys::guard::Guard;
use crate::sys::mount::{Identity, identify, place_of};
use options::Options;

/// How long requests may take that were on their way when dirty pages were written.
const IDLE_LIMIT: Duration = Duration::from_secs(1);
const PATH_ONLY: OFlag = OFlag::O_PATH.union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

/// Who has to be asked to unmount.
#[derive(Debug)]
enum Way {
    /// Made by `fsmount`, not yet attached.
    Prepared(OwnedFd),
    Kernel,
    Fusermount,
}

/// A mount of ours.
#[derive(Debug)]
pub(crate) struct Mount {
    path: PathBuf,
    way: Way,
    identity: Option<Identity>,
    /// Directories that were made for it, to be removed at the end; innermost first.
    created: Vec<PathBuf>,
    over: bool,
}

/// Opens a connection and prepares or makes the mount. The kernel has queued INIT on return.
pub(crate) fn open(config: &Config) -> Result<(OwnedFd, Mount)> {
    let options = Options::parse(config)?;
    let (path, created) = mount_point(config)?;
    let mut mount = Mount { path, way: Way::Kernel, identity: None, created, over: false };
    let device = if geteuid().is_root() {
        let device = open_device()?;
        mount.way = match kernel::prepare(&options, &device) {
            Ok(prepared) => {
                mount.identity = identify(prepared.as_fd()).ok();
                Way::Prepared(prepared)
            }
            Err(error) if error.raw_os_error() == Some(libc::ENOSYS) => {
                kernel::mount_2(&mount.path, &options, &device)
                    .map_err(|error| mount.refused("mount", error))?;
                mount.identity = topmost(&mount.path).ok();
                Way::Kernel
            }
            Err(error) => return Err(mount.refused("fsopen", error)),
        };
        device
    } else {
        let device = fusermount::mount(&mount.path, &options)?;
        mount.way = Way::Fusermount;
        mount.identity = topmost(&mount.path).ok();
        device
    };
    Ok((device, mount))
}

fn open_device() -> Result<OwnedFd> {
    device::open().map_err(|source| Error::Device {
        advice: match source.raw_os_error() {
            Some(libc::ENOENT) => {
                "load the module (modprobe fuse), or pass the device to the container"
            }
            Some(libc::EACCES | libc::EPERM) => "run as root, or allow the device to the container",
            Some(libc::EMFILE) => "raise the limit of open files (ulimit -n)",
            Some(libc::ENODEV | libc::ENXIO) => {
                "the kernel has no FUSE; load the module (modprobe fuse)"
            }
            _ => "see fuse(4)",
        },
        source,
    })
}

/// The absolute path to mount on, and the directories that were made for it.
fn mount_point(config: &Config) -> Result<(PathBuf, Vec<PathBuf>)> {
    let given = &config.mountpoint;
    let refuse = |why: String| Error::MountPoint { path: given.clone(), why };
    let mut created = Vec::new();
    let metadata = match fs::metadata(given) {
        Err(error) if error.kind() == io::ErrorKind::NotFound && config.create => {
            make_directories(given, &mut created).map_err(|error| {
                remove_directories(&created);
                refuse(format!("it cannot be made: {error}; check the path and its permissions"))
            })?;
            fs::metadata(given)
        }
        other => other,
    };
    let metadata = metadata.map_err(|error| match error.raw_os_error() {
        Some(libc::ENOENT) => refuse("no such directory; make it, or give --create".to_owned()),
        Some(libc::ENOTCONN) => refuse(format!(
            "a mount whose daemon is gone is in the way; umount -l {} first",
            given.display()
        )),
        _ => refuse(format!("{error}; check the path and its permissions")),
    })?;
    if !metadata.is_dir() {
        return Err(refuse("not a directory; give one".to_owned()));
    }
    if metadata.ino() == 1 && table::fuse_at(given) {
        tracing::warn!(path = %given.display(), "a FUSE mount is here already; mounting over it");
    }
    let path = given.canonicalize().map_err(|error| refuse(error.to_string()))?;
    Ok((path, created))
}

/// Makes a directory and those above it that are missing; puts them into `made`, innermost first.
fn make_directories(path: &Path, made: &mut Vec<PathBuf>) -> io::Result<()> {
    let path = std::path::absolute(path)?;
    let missing: Vec<&Path> = path.ancestors().take_while(|above| !above.exists()).collect();
    for directory in missing.into_iter().rev() {
        fs::DirBuilder::new().mode(0o755).create(directory)?;
        made.insert(0, directory.to_owned());
    }
    Ok(())
}

fn remove_directories(made: &[PathBuf]) {
    for directory in made {
        // Not empty or in use: then it is not ours to remove.
        if fs::remove_dir(directory).is_err() {
            return;
        }
    }
}

/// Identifies the mount that a path leads to. O_PATH makes no request to its filesystem.
fn topmost(path: &Path) -> io::Result<Identity> {
    identify(open_path(path, PATH_ONLY, Mode::empty())?.as_fd())
}

impl Mount {
    /// Where it was put.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Number of its directory under /sys/fs/fuse/connections: the minor of its device.
    pub(crate) fn connection(&self) -> Option<u32> {
        self.identity.map(|identity| identity.minor)
    }

    /// Writes back the dirty pages of the filesystem, wherever it is mounted or still in use, and
    /// whatever the path leads to by now. Waits for the answers to their WRITEs, or where there are
    /// ever more requests for [`IDLE_LIMIT`].
    ///
    /// # Errors
    /// What syncfs(2) says. Where no path of this namespace leads to the filesystem everything is
    /// synced, which tells nothing.
    pub(crate) fn write_back(identity: Option<Identity>, place: Option<&Path>) -> io::Result<()> {
        outside::sync(place)?;
        // Since 6.18 the kernel may only have sent the WRITEs by now (fs/fs-writeback.c,
        // wait_sb_inodes: FUSE has no data integrity); cut off, they would be lost.
        let until = Instant::now() + IDLE_LIMIT;
        let minor = identity.map(|identity| identity.minor);
        while minor.is_some_and(|minor| kernel::waiting(minor).is_ok_and(|count| count > 0)) {
            if Instant::now() > until {
                break;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }

    /// What tells this mount from every other, once it is known.
    pub(crate) fn identity(&self) -> Option<Identity> {
        self.identity
    }

    /// Ends the connection by fusectl, for everybody who uses it: where nothing that leads to the
    /// mount is left to be unmounted by force. `connection` is a descriptor of it.
    pub(crate) fn abort(&self, connection: &OwnedFd) -> io::Result<()> {
        let minor = self.connection().ok_or(io::ErrorKind::NotFound)?;
        // POLLERR once it is over (fs/fuse/dev.c, fuse_dev_poll): the number may be another's then.
        let mut state = [PollFd::new(connection.as_fd(), PollFlags::empty())];
        poll(&mut state, PollTimeout::ZERO)?;
        if state[0].any() != Some(false) {
            return Ok(());
        }
        nix::unistd::write(kernel::control(minor)?, b"1")?;
        Ok(())
    }

    /// A process that ends the connection if the calling thread ends before it.
    pub(crate) fn guard(&self) -> io::Result<Guard> {
        let minor = self.connection().ok_or(io::ErrorKind::NotFound)?;
        Guard::start(kernel::control(minor)?.as_fd())
    }

    /// Where it is now, if it is there and nothing covers it: a directory above it may have got
    /// another name. Before Linux 6.8 a later mount of the same device and path passes for it.
    pub(crate) fn place(&self) -> Option<PathBuf> {
        let identity = self.identity?;
        let is_at = |path: &PathBuf| topmost(path).is_ok_and(|top| top == identity);
        let moved = || place_of(identity.unique?).ok();
        Some(self.path.clone()).filter(is_at).or_else(|| moved().filter(is_at))
    }

    fn refused(&self, what: &'static str, source: io::Error) -> Error {
        let advice = match source.raw_os_error() {
            Some(libc::EPERM) => {
                "mounting needs CAP_SYS_ADMIN; as another user install fusermount3"
            }
            Some(libc::EBUSY) => "the mount point is busy; unmount what is there",
            Some(libc::EINVAL) => "an option was not understood; check --options",
            Some(libc::ENODEV) => "the kernel has no FUSE; load the module (modprobe fuse)",
            Some(libc::EMFILE) => "raise the limit of open files (ulimit -n)",
            Some(libc::ENOTDIR | libc::ENOENT) => "the mount point went away; make it again",
            _ => "see mount(2) for this error",
        };
        Error::Mount { path: self.path.clone(), what, advice: advice.to_owned(), source }
    }

    /// Makes a prepared mount appear.
    pub(crate) fn attach(&mut self) -> Result<()> {
        if let Way::Prepared(prepared) = &self.way {
            kernel::attach(prepared, &self.path)
                .map_err(|error| self.refused("move_mount", error))?;
            self.way = Way::Kernel;
        }
        Ok(())
    }

    /// Whether it still is somewhere, uncovered.
    pub(crate) fn is_attached(&self) -> bool {
        self.place().is_some()
    }

    /// Unmounts as `umount` does: dirty pages are written, EBUSY if files are in use. What others
    /// have mounted on it is theirs: an error then.
    pub(crate) fn unmount(&mut self) -> io::Result<()> {
        if let Some(place) = self.place() {
            let done = match self.way {
                Way::Fusermount => fusermount::unmount(&place, false),
                Way::Kernel | Way::Prepared(_) => outside::unmount(&place),
            };
            match done {
                // Others may have been faster; whatever keeps it where it is uses it.
                Err(error) if self.place().is_some() => {
                    tracing::debug!(%error, "not unmounted");
                    return Err(SystemError::EBUSY.into());
                }
                other => other?,
            }
        } else if !matches!(self.way, Way::Prepared(_)) {
            return Err(io::Error::other("the mount is gone, or another one covers it"));
        }
        self.over = true;
        Ok(())
    }

    /// Ends the connection, whoever uses it, and takes the mount away.
    pub(crate) fn force(&mut self) {
        let Some(place) = self.place() else { return };
        let done = if matches!(self.way, Way::Fusermount) {
            fusermount::unmount(&place, true)
        } else {
            self.force_at(&place)
        };
        match done {
            Ok(()) => self.over = true,
            Err(error) => tracing::error!(path = %place.display(), %error, "cannot unmount"),
        }
    }

    /// Goes by a descriptor, which still is of this mount if another one covers the path by now.
    fn force_at(&self, place: &Path) -> io::Result<()> {
        // MNT_FORCE aborts the connection (fs/fuse/inode.c, fuse_umount_begin).
        let flags = MntFlags::MNT_FORCE | MntFlags::MNT_DETACH;
        let root = open_path(place, PATH_ONLY, Mode::empty())?;
        if identify(root.as_fd()).ok() != self.identity {
            return Err(io::Error::other("another mount is in the way"));
        }
        match umount2(format!("/proc/self/fd/{}", root.as_raw_fd()).as_str(), flags) {
            // Without /proc.
            Err(SystemError::ENOENT) => Ok(umount2(place, flags | MntFlags::UMOUNT_NOFOLLOW)?),
            other => Ok(other?),
        }
    }

    /// Sets how far the kernel reads ahead. Needs root; INIT can only lower the kernel's 128 KiB.
    pub(crate) fn set_read_ahead(&self, bytes: u32) {
        let Some(connection) = self.connection() else { return };
        let path = format!("/sys/class/bdi/0:{connection}/read_ahead_kb");
        if let Err(error) = fs::write(&path, (bytes / 1024).to_string()) {
            tracing::debug!(path, %error, "the read-ahead stays as it is");
        }
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        if !self.over {
            self.force();
        }
        remove_directories(&self.created);
    }
}
