//! Messages made by offset, without any help of the crate under test.

use fusewire_proto::abi::InHeader;
use fusewire_proto::{DecodeError, NodeId, Operation, Unique};
use zerocopy::IntoBytes;

/// Bytes at an address that is a multiple of 8, as transports have them.
#[derive(Clone, Debug)]
pub(crate) struct Aligned {
    words: Vec<u64>,
    len: usize,
}

impl Aligned {
    pub(crate) fn new(bytes: &[u8]) -> Self {
        let mut words = vec![0_u64; bytes.len().div_ceil(8)];
        words.as_mut_slice().as_mut_bytes()[..bytes.len()].copy_from_slice(bytes);
        Self { words, len: bytes.len() }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.words.as_slice().as_bytes()[..self.len]
    }
}

/// A request under construction.
#[derive(Clone, Debug)]
pub(crate) struct Raw {
    pub(crate) opcode: u32,
    pub(crate) argument: Vec<u8>,
    pub(crate) payload: Vec<u8>,
    pub(crate) extensions: Vec<u8>,
}

impl Raw {
    /// A request with a zeroed argument of `argument_len` bytes.
    pub(crate) fn new(opcode: u32, argument_len: usize) -> Self {
        let (argument, payload, extensions) = (vec![0; argument_len], Vec::new(), Vec::new());
        Self { opcode, argument, payload, extensions }
    }

    /// Puts 4 bytes into the argument.
    pub(crate) fn at4(mut self, offset: usize, value: u32) -> Self {
        self.argument[offset..offset + 4].copy_from_slice(&value.to_ne_bytes());
        self
    }

    /// Puts 8 bytes into the argument.
    pub(crate) fn at8(mut self, offset: usize, value: u64) -> Self {
        self.argument[offset..offset + 8].copy_from_slice(&value.to_ne_bytes());
        self
    }

    /// Adds bytes to the payload.
    pub(crate) fn then(mut self, bytes: &[u8]) -> Self {
        self.payload.extend_from_slice(bytes);
        self
    }

    /// Adds a string and its NUL to the payload.
    pub(crate) fn string(self, bytes: &[u8]) -> Self {
        self.then(bytes).then(&[0])
    }

    /// Everything behind the argument, as a transport passes it.
    pub(crate) fn payload(&self) -> Aligned {
        Aligned::new(&[self.payload.as_slice(), &self.extensions].concat())
    }

    pub(crate) fn header(&self) -> InHeader {
        let len = 40 + self.argument.len() + self.payload.len() + self.extensions.len();
        InHeader {
            len: u32::try_from(len).unwrap(),
            opcode: self.opcode,
            unique: Unique(0x10),
            nodeid: NodeId(3),
            uid: 1000,
            gid: 100,
            pid: 4242,
            total_extlen: u16::try_from(self.extensions.len() / 8).unwrap(),
            padding: 0,
        }
    }

    /// The whole message, header first, as read(2) gives it.
    pub(crate) fn message(&self) -> Vec<u8> {
        let header = self.header();
        [
            &header.len.to_ne_bytes()[..],
            &self.opcode.to_ne_bytes(),
            &0x10_u64.to_ne_bytes(),
            &3_u64.to_ne_bytes(),
            &1000_u32.to_ne_bytes(),
            &100_u32.to_ne_bytes(),
            &4242_u32.to_ne_bytes(),
            &header.total_extlen.to_ne_bytes(),
            &[0, 0],
            &self.argument,
            &self.payload,
            &self.extensions,
        ]
        .concat()
    }
}

/// Decodes a contiguous message and drops what came out.
pub(crate) fn try_message(message: &[u8], setxattr_ext: bool) -> Result<(), DecodeError> {
    let message = Aligned::new(message);
    let (header, argument, payload) =
        fusewire_proto::request::split(message.bytes(), setxattr_ext)?;
    Operation::decode(&header, argument, payload).map(|_| ())
}
