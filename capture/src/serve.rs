//! The loop: reads requests, answers them, and keeps one frame of each shape.

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::{Read, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fusewire_proto::abi::OutHeader;
use fusewire_proto::flags::InitFlags;
use fusewire_proto::{
    Errno, Limits, Notification, Offer, Operation, Unique, frame, negotiate, request,
};

use crate::run::Run;
use crate::shape;
use crate::tree::{Answer, Tree};

/// Frames above this length are not kept.
const FRAME_MAX: usize = 2048;

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

pub(crate) struct Server {
    device: File,
    run: Run,
    pub(crate) tree: Mutex<Tree>,
    frames: Mutex<Frames>,
}

impl Server {
    pub(crate) fn new(device: File, run: Run) -> Self {
        Self { device, run, tree: Mutex::new(Tree::new(run)), frames: Mutex::default() }
    }

    pub(crate) fn into_frames(self) -> Frames {
        self.frames.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers requests until the filesystem is unmounted or the connection aborted.
    pub(crate) fn serve(&self) {
        let mut buffer = vec![0; 2 << 20];
        let mut setxattr_ext = true;
        let mut waiting = HashSet::new();
        loop {
            let len = match (&self.device).read(&mut buffer) {
                Ok(len) => len,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                // ENODEV: unmounted. ECONNABORTED: out of time.
                Err(error) => {
                    println!("{}: the end: {error}", self.run.name());
                    return;
                }
            };
            let message = &buffer[..len];
            let (header, argument, payload) = match request::split(message, setxattr_ext) {
                Ok(parts) => parts,
                Err(error) => panic!("split: {error}: {message:02x?}"),
            };
            let op = match Operation::decode(&header, argument, payload) {
                Ok(op) => op,
                Err(error) => panic!("decode: {error}: {message:02x?}"),
            };
            let answer = match op {
                Operation::Init(init) => {
                    let (agreed, body) = self.agree(init.into());
                    setxattr_ext = agreed.contains(InitFlags::SETXATTR_EXT);
                    Some(Answer::Body(body))
                }
                Operation::Interrupt(op) => {
                    if waiting.remove(&op.unique) {
                        self.reply(op.unique, &Answer::Error(Errno::EINTR));
                    }
                    None
                }
                _ if op.opcode().is_some_and(|it| !it.is_answered()) => None,
                _ => Some(self.tree().answer(header.nodeid, &op)),
            };
            let reply = match answer {
                None => Vec::new(),
                Some(Answer::Later) => {
                    waiting.insert(header.unique);
                    Vec::new()
                }
                Some(answer) => self.reply(header.unique, &answer),
            };
            let name = shape::name(&header, &op, argument);
            if name == "lookup" && payload == b"pause\0" {
                // Lets FORGETs gather, so that they come in one message.
                std::thread::sleep(Duration::from_millis(300));
            }
            if len <= FRAME_MAX && reply.len() <= FRAME_MAX {
                let failed = reply.get(4..8).is_some_and(|error| error != [0; 4]);
                let name = if failed { format!("{name}-error") } else { name };
                self.keep(name, Frame { request: message.to_vec(), reply });
            }
        }
    }

    /// Keeps the first frame of a shape, or the first that was answered.
    fn keep(&self, name: String, frame: Frame) {
        let mut frames = self.frames.lock().unwrap_or_else(PoisonError::into_inner);
        let known = frames.requests.get(&name);
        if known.is_none_or(|known| known.reply.is_empty() && !frame.reply.is_empty()) {
            frames.requests.insert(name, frame);
        }
    }

    fn tree(&self) -> MutexGuard<'_, Tree> {
        self.tree.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn agree(&self, offer: Offer) -> (InitFlags, Vec<u8>) {
        println!("{}: offered 7.{} {:?}", self.run.name(), offer.minor, offer.flags);
        let agreed = negotiate(&offer, &self.run.wishes(), &Limits::default());
        let agreed = agreed.expect("this kernel is new enough");
        println!("{}: agreed {:?}", self.run.name(), agreed.flags);
        let mut body = vec![0; 64];
        agreed.encode(&mut body).expect("INIT has 64 bytes");
        (agreed.flags, body)
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
                println!("{}: reply to {unique} refused: {error}", self.run.name());
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
                let mut frames = self.frames.lock().unwrap_or_else(PoisonError::into_inner);
                frames.notifications.insert(name.to_owned(), message);
                "ok".to_owned()
            }
            Err(error) => error.to_string(),
        }
    }
}
