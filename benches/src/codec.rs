//! Messages for counting what the codec costs, and the functions between whose entry and exit the
//! counting goes on. The peers of `benches/peers` are given the same messages.

use fusewire_proto::abi::{InHeader, OutHeader};
use fusewire_proto::flags::InitFlags;
use fusewire_proto::{DecodeError, Offer, Operation, Unique, Wishes};

/// The request id of every message.
pub const UNIQUE: Unique = Unique(0x1234);
/// Names are cut from this.
pub const NAME: &[u8] = &[b'n'; 255];

/// A request, contiguous and in pieces, that lives as long as the process.
#[derive(Clone, Copy, Debug)]
pub struct Message {
    /// All of it, at an address that is a multiple of 8.
    pub whole: &'static [u8],
    /// Its header.
    pub header: &'static InHeader,
    /// Its fixed struct.
    pub argument: &'static [u8],
    /// What follows.
    pub payload: &'static [u8],
}

impl Message {
    /// A request from its opcode, the 4-byte words of its argument, and its payload.
    #[must_use]
    pub fn new(opcode: u32, argument: &[u32], payload: &[u8]) -> Self {
        let len = 40 + 4 * argument.len() + payload.len();
        let mut bytes = Vec::new();
        let halves = |long: u64| [(long & 0xffff_ffff) as u32, (long >> 32) as u32];
        let header = [u32::try_from(len).unwrap_or(u32::MAX), opcode];
        let header = header.into_iter().chain(halves(UNIQUE.0)).chain(halves(1));
        for word in header.chain([1000, 1000, 4242, 0]).chain(argument.iter().copied()) {
            bytes.extend(word.to_ne_bytes());
        }
        bytes.extend_from_slice(payload);
        // Words of 8 bytes make the address a multiple of 8.
        let words: Vec<u64> = bytes
            .chunks(8)
            .map(|chunk| {
                let mut word = [0; 8];
                word[..chunk.len()].copy_from_slice(chunk);
                u64::from_ne_bytes(word)
            })
            .collect();
        let whole = &zerocopy::IntoBytes::as_bytes(Vec::leak(words) as &[u64])[..len];
        let (header, rest) = <InHeader as zerocopy::FromBytes>::ref_from_prefix(whole)
            .expect("a message begins with its header");
        let (argument, payload) = rest.split_at(4 * argument.len());
        Self { whole, header, argument, payload }
    }

    /// [`measured::decode`] of this.
    ///
    /// # Errors
    /// None: the message is well-formed.
    pub fn decode(&self) -> Result<Operation<'static>, DecodeError> {
        measured::decode(self.header, self.argument, self.payload)
    }

    /// [`measured::split_and_decode`] of this.
    ///
    /// # Errors
    /// None: the message is well-formed.
    pub fn split_and_decode(&self) -> Result<Operation<'static>, DecodeError> {
        measured::split_and_decode(self.whole)
    }

    /// [`measured::getattr`] of this.
    pub fn getattr(&self, out: &mut [u8]) -> usize {
        measured::getattr(self.header, self.argument, self.payload, out)
    }
}

/// READ of 128 KiB.
#[must_use]
pub fn read() -> Message {
    Message::new(15, &[7, 0, 0x1000, 0, 0x2_0000, 0, 0, 0, 0x8002, 0], &[])
}

/// WRITE of 4096 bytes.
#[must_use]
pub fn write() -> Message {
    Message::new(16, &[7, 0, 0x1000, 0, 4096, 0, 0, 0, 0x8002, 0], &[0x5a; 4096])
}

/// LOOKUP of a name of `len` bytes, 255 at most.
#[must_use]
pub fn lookup(len: usize) -> Message {
    let mut name = NAME[..len].to_vec();
    name.push(0);
    Message::new(1, &[], &name)
}

/// GETATTR of a handle.
#[must_use]
pub fn getattr() -> Message {
    Message::new(3, &[1, 0, 7, 0], &[])
}

/// A kernel that offers everything.
#[must_use]
pub fn offer() -> Offer {
    Offer { major: 7, minor: 45, max_readahead: 1 << 17, flags: InitFlags::all() }
}

/// A server that wants everything.
#[must_use]
pub fn wishes() -> Wishes {
    Wishes { flags: InitFlags::all(), default_permissions: true, ..Wishes::default() }
}

/// What is counted, from entry to exit: no function here is inlined, and each is called once.
pub mod measured {
    use super::{DecodeError, InHeader, Offer, Operation, OutHeader, Unique, Wishes};
    use fusewire_proto::{
        Agreement, Attributes, DirentWriter, Errno, FileType, Limits, NegotiateError, Reply,
        TooSmall, frame, request,
    };

    /// A request in pieces, as a ring entry holds it.
    ///
    /// # Errors
    /// Those of the decoder.
    #[inline(never)]
    pub fn decode<'a>(
        header: &InHeader,
        argument: &'a [u8],
        payload: &'a [u8],
    ) -> Result<Operation<'a>, DecodeError> {
        Operation::decode(header, argument, payload)
    }

    /// A contiguous request, as read(2) on the device gives it.
    ///
    /// # Errors
    /// Those of the decoder.
    #[inline(never)]
    pub fn split_and_decode(message: &[u8]) -> Result<Operation<'_>, DecodeError> {
        let (header, argument, payload) = request::split(message, false)?;
        Operation::decode(&header, argument, payload)
    }

    /// The header of a success.
    #[inline(never)]
    pub fn reply_header(out: &mut [u8], unique: Unique, body_len: usize) -> bool {
        frame::put_out_header(out, &OutHeader::new(unique, Ok(()), body_len))
    }

    /// The header of an error, which is the whole reply.
    #[inline(never)]
    pub fn error_header(out: &mut [u8], unique: Unique) -> bool {
        frame::put_out_header(out, &OutHeader::new(unique, Err(Errno::ENOENT), 0))
    }

    /// The body of a reply.
    ///
    /// # Errors
    /// [`TooSmall`] where `out` is.
    #[inline(never)]
    pub fn reply_body(reply: &Reply<'_>, out: &mut [u8]) -> Result<usize, TooSmall> {
        reply.encode(out)
    }

    /// GETATTR from the request to the last byte of the reply; 0 if anything went wrong.
    #[inline(never)]
    pub fn getattr(header: &InHeader, argument: &[u8], payload: &[u8], out: &mut [u8]) -> usize {
        let Ok(Operation::GetAttr(_)) = Operation::decode(header, argument, payload) else {
            return 0;
        };
        let Some((head, body)) = out.split_at_mut_checked(OutHeader::LEN) else {
            return 0;
        };
        let Ok(len) = Reply::Attributes(Attributes::default()).encode(body) else {
            return 0;
        };
        frame::put_out_header(head, &OutHeader::new(header.unique, Ok(()), len));
        len
    }

    /// One record of READDIR.
    #[inline(never)]
    pub fn dirent(out: &mut [u8], name: &[u8]) -> bool {
        DirentWriter::new(out).add(2, 1, FileType::REGULAR, name)
    }

    /// What is answered to INIT.
    ///
    /// # Errors
    /// Those of the negotiation.
    #[inline(never)]
    pub fn negotiate(
        offer: &Offer,
        wishes: &Wishes,
        limits: &Limits,
    ) -> Result<Agreement, NegotiateError> {
        fusewire_proto::negotiate(offer, wishes, limits)
    }
}
