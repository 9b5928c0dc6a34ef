//! Notifications: what a filesystem tells the kernel on its own account.
//!
//! Each is one write(2) to the device, which may block until requests of the same file or directory
//! are answered. A thread of its own makes them, in the order in which they were sent; it starts
//! with the first one.
//!
//! Never known here: requests. Neighbours: `context` and `session` hand notifiers out.

use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};

use fusewire_proto::notify::Notification;
use fusewire_proto::{Errno, NodeId, Result, Unique};

use crate::error::errno;
use crate::sys::device;
use crate::thread;

/// Notifications that wait for their turn at most.
const WAITING_MAX: usize = 1024;
/// Uniques of the kernel count up from 2: none of them will ever have this bit.
const RETRIEVED: u64 = 1 << 62;

/// Tells the kernel what changed behind its back. Cheap to clone, and for any thread.
///
/// A handler may send, but should await the result only where no request that the notification has
/// to wait for is its own or waits behind it: the kernel holds a directory's lock during LOOKUP,
/// CREATE, UNLINK and their like, a file's during SETATTR, FSYNC, FALLOCATE and writes through the
/// cache, and pages during READ. Not awaited, a notification simply waits until the request is
/// answered.
#[derive(Clone, Debug)]
pub struct Notifier {
    desk: Arc<Desk>,
}

#[derive(Debug)]
struct Desk {
    /// Gone when the session ends: what is sent then is refused.
    connection: Weak<OwnedFd>,
    queue: Mutex<Option<SyncSender<Job>>>,
    retrieved: AtomicU64,
}

#[derive(Debug)]
struct Job {
    message: Vec<u8>,
    ticket: Arc<Ticket>,
}

impl Notifier {
    pub(crate) fn new(connection: &Arc<OwnedFd>) -> Self {
        Self::of(Arc::downgrade(connection))
    }

    /// Where there may be none: what is sent then answers ENOTCONN.
    pub(crate) fn of(connection: Weak<OwnedFd>) -> Self {
        let desk = Desk { connection, queue: Mutex::default(), retrieved: AtomicU64::new(0) };
        Self { desk: Arc::new(desk) }
    }

    /// The connection, until the session ends.
    pub(crate) fn connection(&self) -> &Weak<OwnedFd> {
        &self.desk.connection
    }

    /// Sends a notification, which is on its way when this returns. Never blocks.
    ///
    /// What [`Sent`] gives: ENOENT where the kernel does not have the inode or the name cached,
    /// which most senders need not care about; EAGAIN where 1,024 others wait already; ENOTCONN
    /// when the session is over; EINVAL from a kernel that does not know the kind. More at each
    /// [`Notification`].
    pub fn send(&self, notification: &Notification<'_>) -> Sent {
        let ticket = Arc::<Ticket>::default();
        let mut message = vec![0; notification.encoded_len()];
        let queued = match notification.encode(&mut message) {
            Ok(_) => self.desk.queue(Job { message, ticket: Arc::clone(&ticket) }),
            Err(_) => Err(Errno::EINVAL),
        };
        if let Err(errno) = queued {
            ticket.settle(Err(errno));
        }
        Sent(ticket)
    }

    /// Makes a notification on the calling thread, which blocks until the kernel has taken it. For
    /// a thread that does nothing else: what others sent does not wait behind it, nor it for them.
    ///
    /// # Errors
    /// As [`Notifier::send`] says, but no EAGAIN.
    pub fn tell(&self, notification: &Notification<'_>) -> Result<()> {
        let mut message = vec![0; notification.encoded_len()];
        notification.encode(&mut message).map_err(|_| Errno::EINVAL)?;
        write(&self.desk.connection, &message)
    }

    /// Asks for up to `size` bytes of a file as the page cache has them. They go to
    /// [`crate::Filesystem::notify_reply`] as a request with the unique that this returns: up to
    /// the first page that is not cached, so perhaps none.
    pub fn retrieve(&self, node: NodeId, offset: u64, size: u32) -> (Unique, Sent) {
        let count = self.desk.retrieved.fetch_add(1, Ordering::Relaxed);
        let notify_unique = Unique(RETRIEVED | count);
        let notification = Notification::Retrieve { notify_unique, node, offset, size };
        (notify_unique, self.send(&notification))
    }
}

impl Desk {
    fn queue(&self, job: Job) -> Result<()> {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let queue = match &mut *queue {
            Some(queue) => queue,
            // Without a thread, as where too few are allowed, nothing can be sent for now.
            none => none.insert(self.start().map_err(|_| Errno::EAGAIN)?),
        };
        queue.try_send(job).map_err(|error| match error {
            TrySendError::Full(_) => Errno::EAGAIN,
            TrySendError::Disconnected(_) => Errno::ENOTCONN,
        })
    }

    /// The thread ends with the last notifier.
    fn start(&self) -> io::Result<SyncSender<Job>> {
        let (queue, jobs) = sync_channel::<Job>(WAITING_MAX);
        let connection = Weak::clone(&self.connection);
        thread::spawn("fusewire-notify", move || {
            for job in jobs {
                job.ticket.settle(write(&connection, &job.message));
            }
        })?;
        Ok(queue)
    }
}

fn write(connection: &Weak<OwnedFd>, message: &[u8]) -> Result<()> {
    let connection = connection.upgrade().ok_or(Errno::ENOTCONN)?;
    device::write(&*connection, message).map(drop).map_err(|error| errno(&error))
}

/// A notification on its way, as a future of what the kernel says to it. Dropped, the notification
/// still is sent.
#[derive(Debug)]
pub struct Sent(Arc<Ticket>);

impl Sent {
    /// Blocks until the kernel has taken it. Not for handlers: those await.
    ///
    /// # Errors
    /// As [`Notifier::send`] says.
    pub fn wait(self) -> Result<()> {
        let mut state = self.0.lock();
        loop {
            if let Some(result) = state.result {
                return result;
            }
            state = self.0.settled.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Future for Sent {
    type Output = Result<()>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.0.lock();
        match state.result {
            Some(result) => Poll::Ready(result),
            None => {
                state.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

#[derive(Debug, Default)]
struct Ticket {
    state: Mutex<TicketState>,
    settled: Condvar,
}

#[derive(Debug, Default)]
struct TicketState {
    result: Option<Result<()>>,
    waker: Option<Waker>,
}

impl Ticket {
    fn lock(&self) -> MutexGuard<'_, TicketState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn settle(&self, result: Result<()>) {
        let mut state = self.lock();
        state.result = Some(result);
        let waker = state.waker.take();
        drop(state);
        self.settled.notify_all();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::pin::pin;

    use fusewire_proto::types::PollHandle;

    use super::*;

    fn kh_at_end(path: &std::path::Path) -> u64 {
        let written = std::fs::read(path).unwrap();
        u64::from_ne_bytes(*written.last_chunk().unwrap())
    }

    #[test]
    fn what_is_written_is_told_and_order_is_kept() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let connection = Arc::new(OwnedFd::from(file.reopen().unwrap()));
        let notifier = Notifier::new(&connection);
        let sent = [1, 2].map(|kh| notifier.send(&Notification::Poll { kh: PollHandle(kh) }));
        assert!(sent.into_iter().all(|sent| sent.wait().is_ok()));
        let written = std::fs::read(file.path()).unwrap();
        let kh = |at: usize| u64::from_ne_bytes(*written[at..].first_chunk().unwrap());
        assert_eq!((written.len(), kh(16), kh(40)), (48, 1, 2));
        assert_eq!(notifier.tell(&Notification::Poll { kh: PollHandle(3) }), Ok(()));
        assert_eq!(kh_at_end(file.path()), 3);
        let (first, _) = notifier.retrieve(NodeId(1), 0, 1);
        let (second, sent) = notifier.retrieve(NodeId(1), 0, 1);
        assert!(first != second && first.0 & second.0 & RETRIEVED != 0);
        assert_eq!(sent.wait(), Ok(()));
    }

    #[test]
    fn after_the_session_nothing_is_sent() {
        let connection = Arc::new(OwnedFd::from(File::open("/dev/null").unwrap()));
        let notifier = Notifier::new(&connection);
        assert_eq!(notifier.send(&Notification::Resend).wait(), Err(Errno::EBADF));
        drop(connection);
        let mut sent = pin!(notifier.send(&Notification::Resend));
        let mut cx = Context::from_waker(Waker::noop());
        let result = loop {
            if let Poll::Ready(result) = sent.as_mut().poll(&mut cx) {
                break result;
            }
            std::thread::yield_now();
        };
        assert_eq!(result, Err(Errno::ENOTCONN));
        assert_eq!(notifier.tell(&Notification::Resend), Err(Errno::ENOTCONN));
    }
}
