//! What answers, and the lane of the device: reads requests, answers them, and keeps one frame of
//! each shape. Neighbours: `ring` is the other lane, `tree` knows the answers.

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::{Read, Write};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use fusewire_proto::abi::OutHeader;
use fusewire_proto::flags::InitFlags;
use fusewire_proto::{
    Agreement, Errno, Limits, Notification, Offer, Operation, Unique, frame, negotiate, request,
};

use crate::ring;
use crate::run::{Lane, Run};
use crate::shape;
use crate::tree::{Answer, Tree};

/// Frames above this length are not kept.
pub(crate) const FRAME_MAX: usize = 2048;

/// A request and the reply that the kernel took, which is empty where none is due.
#[derive(Default)]
pub(crate) struct Frame {
    pub(crate) request: Vec<u8>,
    pub(crate) reply: Vec<u8>,
}

/// All that was recorded, by name.
#[derive(Default)]
pub(crate) struct Frames {
    pub(crate) requests: BTreeMap<String, Frame>,
    pub(crate) notifications: BTreeMap<String, Vec<u8>>,
}

/// What is to be done after a message.
pub(crate) enum Next {
    Done,
    /// INIT was answered.
    Agreed,
    /// This request waits for an INTERRUPT.
    Later(Unique),
    /// This request was interrupted.
    Interrupted(Unique),
}

pub(crate) struct Server {
    pub(crate) device: File,
    run: Run,
    lane: Lane,
    agreement: OnceLock<Agreement>,
    pub(crate) tree: Mutex<Tree>,
    frames: Mutex<Frames>,
}

impl Server {
    pub(crate) fn new(device: File, run: Run, lane: Lane) -> Self {
        let tree = Mutex::new(Tree::new(run));
        Self { device, run, lane, agreement: OnceLock::new(), tree, frames: Mutex::default() }
    }

    pub(crate) fn into_frames(self) -> Frames {
        self.frames.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers requests until the filesystem is unmounted or the connection aborted.
    pub(crate) fn serve(&self) {
        let mut buffer = vec![0; 2 << 20];
        let mut waiting = HashSet::new();
        loop {
            let len = match (&self.device).read(&mut buffer) {
                Ok(len) => len,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                // ENODEV: unmounted. ECONNABORTED: out of time.
                Err(error) => {
                    println!("the end: {error}");
                    return;
                }
            };
            match self.message(&buffer[..len]) {
                Next::Agreed if self.lane == Lane::Ring => return ring::serve(self),
                Next::Agreed | Next::Done => {}
                Next::Later(unique) => {
                    waiting.insert(unique);
                }
                Next::Interrupted(unique) => {
                    if waiting.remove(&unique) {
                        self.reply(unique, &Answer::Error(Errno::EINTR));
                    }
                }
            }
        }
    }

    /// Carries out what a message of the device asks.
    pub(crate) fn message(&self, message: &[u8]) -> Next {
        let (header, argument, payload) = match request::split(message, self.setxattr_ext()) {
            Ok(parts) => parts,
            Err(error) => panic!("split: {error}: {message:02x?}"),
        };
        let op = match Operation::decode(&header, argument, payload) {
            Ok(op) => op,
            Err(error) => panic!("decode: {error}: {message:02x?}"),
        };
        let answer = match op {
            Operation::Init(init) => Some(Answer::Body(self.agree(init.into()))),
            _ if op.opcode().is_some_and(|it| !it.is_answered()) => None,
            _ => Some(self.tree().answer(header.nodeid, &op)),
        };
        let reply = answer.as_ref().map_or_else(Vec::new, |it| self.reply(header.unique, it));
        shape::pause(&op);
        if self.lane == Lane::Device && message.len().max(reply.len()) <= FRAME_MAX {
            let failed = matches!(answer, Some(Answer::Error(_))) && !reply.is_empty();
            let name = shape::name(&header, &op, argument);
            self.keep(&name, failed, Frame { request: message.to_vec(), reply });
        }
        match (op, answer) {
            (Operation::Init(_), _) => Next::Agreed,
            (Operation::Interrupt(op), _) => Next::Interrupted(op.unique),
            (_, Some(Answer::Later)) => Next::Later(header.unique),
            _ => Next::Done,
        }
    }

    /// Keeps the first frame of a shape, or the first that was answered.
    pub(crate) fn keep(&self, name: &str, failed: bool, frame: Frame) {
        let name = if failed { format!("{name}-error") } else { name.to_owned() };
        let mut frames = self.frames.lock().unwrap_or_else(PoisonError::into_inner);
        let known = frames.requests.get(&name);
        if known.is_none_or(|known| known.reply.is_empty() && !frame.reply.is_empty()) {
            frames.requests.insert(name, frame);
        }
    }

    pub(crate) fn tree(&self) -> MutexGuard<'_, Tree> {
        self.tree.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn agree(&self, offer: Offer) -> Vec<u8> {
        println!("offered 7.{} {:?}", offer.minor, offer.flags);
        let agreed = negotiate(&offer, &self.run.wishes(self.lane), &Limits::default());
        let agreed = agreed.expect("this kernel is new enough");
        println!("agreed {:?}", agreed.flags);
        assert!(
            self.lane == Lane::Device || agreed.flags.contains(InitFlags::OVER_IO_URING),
            "no ring: echo Y > /sys/module/fuse/parameters/enable_uring"
        );
        let mut body = vec![0; 64];
        agreed.encode(&mut body).expect("INIT has 64 bytes");
        self.agreement.set(agreed).expect("INIT comes once");
        body
    }

    /// What INIT agreed to.
    pub(crate) fn agreement(&self) -> &Agreement {
        self.agreement.get().expect("INIT comes first")
    }

    /// Whether SETXATTR has its long form, which nothing before INIT needs to know.
    pub(crate) fn setxattr_ext(&self) -> bool {
        self.agreement.get().is_none_or(|it| it.flags.contains(InitFlags::SETXATTR_EXT))
    }

    /// Writes a reply; gives its bytes if the kernel took it.
    fn reply(&self, unique: Unique, answer: &Answer) -> Vec<u8> {
        let (result, body) = match answer {
            Answer::Body(body) => (Ok(()), body.as_slice()),
            Answer::Error(errno) => (Err(*errno), &[][..]),
            Answer::Later => return Vec::new(),
        };
        let mut message = vec![0; OutHeader::LEN];
        frame::put_out_header(&mut message, &OutHeader::new(unique, result, body.len()));
        message.extend(body);
        match (&self.device).write_all(&message) {
            Ok(()) => message,
            Err(error) => {
                println!("reply to {unique} refused: {error}");
                Vec::new()
            }
        }
    }

    /// Writes a notification, and keeps it if the kernel took it.
    pub(crate) fn notify(&self, name: &str, notification: &Notification<'_>) -> String {
        let mut message = vec![0; notification.encoded_len()];
        notification.encode(&mut message).expect("the room was measured");
        match (&self.device).write_all(&message) {
            Ok(()) => {
                // A ring has no notifications of its own.
                if self.lane == Lane::Device {
                    let mut frames = self.frames.lock().unwrap_or_else(PoisonError::into_inner);
                    frames.notifications.insert(name.to_owned(), message);
                }
                "ok".to_owned()
            }
            Err(error) => error.to_string(),
        }
    }
}
