//! Changes that others make to the backing directory, told to the kernel at once.
//!
//! ```text
//!   fanotify -> events -> here: which node? whose doing? -> tell -> notifications
//! ```
//! One mark on the whole backing filesystem reports what happens by handle, so that nothing has to
//! be watched for each directory. What comes from this process is left out: the kernel knows. So is
//! what is written by way of our own copy of the mount, which is how the kernel serves files past
//! us, in the name of the client. Everything else is somebody else's doing.
//!
//! Never known here: requests. Neighbours: `mirror` has it, `filesystem` starts it.

pub(crate) mod events;
pub(crate) mod tell;

use std::collections::HashMap;
use std::io::{self, PipeReader, PipeWriter};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Weak};

use fusewire::Notifier;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::fanotify::{EventFFlags, Fanotify, InitFlags, MarkFlags, MaskFlags};
use parking_lot::Mutex;

use crate::backing::{Backing, attributes};
use crate::mirror::Mirror;
use crate::node::Node;
use crate::sys::FileHandle;
use events::{Event, events};
use tell::{Desk, News, TELLERS, Teller};

/// Files, directories and names by handle, and what a name stands for.
/// Kernel: include/uapi/linux/fanotify.h, `FAN_REPORT_DFID_NAME_TARGET`, since 5.17.
const BY_HANDLE: u32 = 0x200 | 0x400 | 0x800 | 0x1000;
/// A name comes, goes, or means something else.
const NAMES: MaskFlags = MaskFlags::FAN_CREATE
    .union(MaskFlags::FAN_DELETE)
    .union(MaskFlags::FAN_MOVED_FROM)
    .union(MaskFlags::FAN_MOVED_TO);
const DATA: MaskFlags = MaskFlags::FAN_MODIFY.union(MaskFlags::FAN_CLOSE_WRITE);
const BUFFER: usize = 64 * 1024;

/// The watch over a backing filesystem.
#[derive(Debug)]
pub(crate) struct Watch {
    desk: Arc<Desk>,
    /// Until it is started.
    reader: Mutex<Option<(Fanotify, PipeReader)>>,
    /// Whose end wakes the reader.
    _end: PipeWriter,
}

impl Watch {
    /// Events are kept from here on.
    ///
    /// # Errors
    /// Say what is missing, and what to do about it.
    pub(crate) fn open(backing: &Backing) -> io::Result<Self> {
        let (reader, end) = io::pipe()?;
        let flags = InitFlags::FAN_CLASS_NOTIF
            | InitFlags::FAN_CLOEXEC
            | InitFlags::FAN_NONBLOCK
            | InitFlags::from_bits_retain(BY_HANDLE);
        let fan = Fanotify::init(flags, EventFFlags::O_RDONLY).map_err(advise)?;
        let all = NAMES | DATA | MaskFlags::FAN_ATTRIB | MaskFlags::FAN_ONDIR;
        let whole = MarkFlags::FAN_MARK_ADD | MarkFlags::FAN_MARK_FILESYSTEM;
        fan.mark::<_, std::path::Path>(whole, all, backing.anchor(), None).map_err(advise)?;
        let ours =
            MarkFlags::FAN_MARK_ADD | MarkFlags::FAN_MARK_MOUNT | MarkFlags::FAN_MARK_IGNORE_SURV;
        if backing.is_private() {
            fan.mark::<_, std::path::Path>(ours, DATA, backing.anchor(), None).map_err(advise)?;
        }
        let desk = Arc::default();
        Ok(Self { desk, reader: Mutex::new(Some((fan, reader))), _end: end })
    }

    /// Where others put down what the kernel is to be told.
    pub(crate) fn desk(&self) -> &Arc<Desk> {
        &self.desk
    }

    /// Starts the threads, once; they are as locked in as the thread that starts them.
    pub(crate) fn start(
        &self,
        mirror: &Arc<Mirror>,
        notifier: &Notifier,
        writeback: bool,
    ) -> io::Result<()> {
        let Some((fan, end)) = self.reader.lock().take() else { return Ok(()) };
        let (desk, mirror) = (Arc::clone(&self.desk), Arc::downgrade(mirror));
        let teller = Teller { desk, mirror, notifier: notifier.clone(), writeback };
        let nodes = teller.clone();
        spawn("watch-nodes", move || nodes.nodes())?;
        for _ in 0..TELLERS {
            let names = teller.clone();
            spawn("watch-names", move || names.names())?;
        }
        let sweeps = teller.clone();
        spawn("watch-sweeps", move || sweeps.sweeps())?;
        let mirror = teller.mirror;
        spawn("watch-events", move || read(&fan, &end, &mirror, &teller.desk))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.desk.end();
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    std::thread::Builder::new().name(name.to_owned()).spawn(work).map(drop)
}

/// An error that says what to do.
fn advise(errno: Errno) -> io::Error {
    let advice = match errno {
        Errno::EPERM => "it takes root with CAP_SYS_ADMIN in the initial user namespace",
        Errno::EINVAL | Errno::ENOSYS => "it takes Linux 5.17, built with CONFIG_FANOTIFY",
        Errno::EXDEV => "of btrfs only the top of the filesystem can be watched, no subvolume",
        Errno::EMFILE | Errno::ENFILE | Errno::ENOSPC => {
            "too many watches: see fs.fanotify.max_user_groups and fs.fanotify.max_user_marks"
        }
        _ => "the backing filesystem has no file handles, or no fsid for all that is in it",
    };
    io::Error::new(io::Error::from(errno).kind(), format!("{errno}: {advice}"))
}

/// Takes events in until the mirror is gone.
fn read(fan: &Fanotify, end: &PipeReader, mirror: &Weak<Mirror>, desk: &Desk) {
    let mut buffer = vec![0; BUFFER];
    loop {
        let wanted = |fd: BorrowedFd<'_>| -> bool {
            let mut fds =
                [PollFd::new(fd, PollFlags::POLLIN), PollFd::new(end.as_fd(), PollFlags::POLLIN)];
            let _ = poll(&mut fds, PollTimeout::NONE);
            fds[1].any() != Some(true)
        };
        if !wanted(fan.as_fd()) {
            return;
        }
        match rustix::io::read(fan, &mut buffer) {
            Ok(len) => {
                let Some(mirror) = mirror.upgrade() else { return };
                Sight { mirror: &mirror, desk, known: HashMap::new() }.take_in(&buffer[..len]);
            }
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
            Err(error) => {
                tracing::error!(%error, "the watch is over; the timeouts hold");
                return;
            }
        }
    }
}

/// The events of one read. All of them happened before any handle in them is looked up, so each is
/// looked up once: whatever the kernel learns of a file after that is newer.
struct Sight<'a> {
    mirror: &'a Mirror,
    desk: &'a Desk,
    known: HashMap<FileHandle, Option<Arc<Node>>>,
}

impl Sight<'_> {
    fn take_in(&mut self, bytes: &[u8]) {
        let own = std::process::id().cast_signed();
        for event in events(bytes) {
            if event.mask.contains(MaskFlags::FAN_Q_OVERFLOW) {
                self.desk.sweep();
            } else if event.pid != own {
                self.mirror.figures.events.count();
                self.see(event);
            }
        }
    }

    fn see(&mut self, event: Event<'_>) {
        if event.mask.intersects(NAMES)
            && let Some((directory, name)) = event.place
            && let Some(directory) = self.node(directory)
        {
            self.desk.name(directory.id, name);
            self.desk.node(directory.id, News::DATA);
        }
        let Some(node) = event.object.and_then(|handle| self.node(handle)) else { return };
        let news = if event.mask.intersects(DATA) && node.is_regular() {
            News::DATA.owned()
        } else if event.mask.contains(MaskFlags::FAN_ATTRIB) && node.is_regular() {
            News::ATTRIBUTES.owned()
        } else {
            News::ATTRIBUTES
        };
        self.desk.node(node.id, news);
    }

    /// The node that a handle names, if the kernel knows it.
    fn node(&mut self, handle: FileHandle) -> Option<Arc<Node>> {
        let Mirror { backing, table, .. } = self.mirror;
        let find = |handle: &FileHandle| {
            let fd = backing.open_handle(handle).ok()?;
            let stat = attributes(fd.as_fd()).ok()?;
            table.find(fd.as_fd(), &stat, backing)
        };
        self.known.entry(handle).or_insert_with_key(find).clone()
    }
}
