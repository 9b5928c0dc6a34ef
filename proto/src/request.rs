//! Requests: from the bytes that the kernel sent to an [`Operation`], and back.
//!
//! [`Operation::decode`] takes a message already in pieces, which is how a ring entry holds it;
//! [`split`] cuts a contiguous message into those pieces. Both borrow, neither copies bulk data.
//! What each operation means is in [`op`]; the bounds are checked by `cursor`. The other direction,
//! [`Operation::encode`], is what simulated kernels, proxies and replay need.

use core::fmt;

use zerocopy::{FromBytes, IntoBytes};

use crate::abi::{self, InHeader, URING_OP_IN_OUT_SZ};
use crate::composer::{Composer, Piece};
use crate::cursor::{DecodeError, Expected, Parts};
use crate::op;
use crate::opcode::Opcode;
#[cfg(feature = "serde")]
use crate::serialize::Unknown;
use crate::show::{Line, Show};
use crate::types::{NodeId, Unique};
use crate::writer::TooSmall;

pub use crate::composer::EncodeError;

/// Decodes requests of one opcode.
type Decoder = for<'a> fn(&InHeader, &'a [u8], &'a [u8]) -> Result<Operation<'a>, DecodeError>;

/// Opcodes from here on, which is CUSE_INIT alone, are not in [`DECODERS`].
const DECODERS_LEN: usize = 64;

macro_rules! operations {
    ($($opcode:ident => $op:ty, $decode:expr, $encode:expr;)*) => {
        /// A decoded request. One variant per opcode, and one for numbers that are not known.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Operation<'a> {
            $(
                #[doc = concat!("See [`", stringify!($op), "`].")]
                $opcode($op),
            )*
            /// An opcode that the table does not have: to be answered with ENOSYS.
            Unknown {
                /// The wire number.
                opcode: u32,
                /// The fixed struct, as far as the transport could tell.
                argument: &'a [u8],
                /// All the rest, extensions included.
                payload: &'a [u8],
                /// How much of the end of `payload` the header calls extensions, units of 8 bytes.
                total_extlen: u16,
            },
        }

        impl<'a> Operation<'a> {
            /// Decodes a request from its header, fixed struct and remaining bytes.
            ///
            /// `argument` is exactly the fixed struct of the opcode: [`Opcode::argument_len`]
            /// bytes, 8 for SETXATTR without SETXATTR_EXT, 16 or more for INIT. `payload` is all
            /// that follows, extensions included; its length is not compared with `header.len`,
            /// which the transport does. BATCH_FORGET wants it at an address that is a multiple
            /// of 8.
            ///
            /// # Errors
            /// [`DecodeError`] names the first field that is not what the protocol says: too
            /// short, too long, without NUL, not a name. An unknown opcode is not an error.
            pub fn decode(
                header: &InHeader,
                argument: &'a [u8],
                payload: &'a [u8],
            ) -> Result<Self, DecodeError> {
                // One jump, with all arguments still in their registers.
                let at = usize::try_from(header.opcode).unwrap_or(usize::MAX);
                let decode = DECODERS.get(at).unwrap_or(&(decode_high as Decoder));
                decode(header, argument, payload)
            }

            /// The opcode, or `None` for [`Operation::Unknown`].
            #[must_use]
            pub const fn opcode(&self) -> Option<Opcode> {
                match self {
                    $(Self::$opcode(_) => Some(Opcode::$opcode),)*
                    Self::Unknown { .. } => None,
                }
            }

            /// What is asked, behind the name of the opcode.
            fn fields(&self, line: &mut Line<'_, '_>) {
                match self {
                    $(Self::$opcode(op) => op.show(line),)*
                    Self::Unknown { argument, payload, .. } => {
                        line.field("argument", argument.len()).field("payload", payload.len());
                    }
                }
            }

            /// Puts everything that follows the header.
            fn compose(&self, out: &mut Composer<'_>) {
                match self {
                    $(Self::$opcode(op) => $encode(op, out),)*
                    Self::Unknown { argument, payload, total_extlen, .. } => {
                        out.argument(*argument);
                        out.data(payload);
                        out.total_extlen = *total_extlen;
                    }
                }
            }
        }

        #[cfg(feature = "serde")]
        impl serde::Serialize for Operation<'_> {
            /// An enum whose variants have the names of the opcodes, and their numbers.
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                match self {
                    $(Self::$opcode(op) => {
                        let (raw, name) = (Opcode::$opcode.raw(), Opcode::$opcode.name());
                        serializer.serialize_newtype_variant("Operation", raw, name, op)
                    })*
                    &Self::Unknown { opcode, argument, payload, total_extlen } => {
                        let op = Unknown { opcode, argument, payload, total_extlen };
                        serializer.serialize_newtype_variant("Operation", 0, "UNKNOWN", &op)
                    }
                }
            }
        }

        /// The decoder of each opcode below [`DECODERS_LEN`].
        #[expect(clippy::indexing_slicing, reason = "the compiler does it")]
        static DECODERS: [Decoder; DECODERS_LEN] = {
            let mut decoders: [Decoder; DECODERS_LEN] = [unknown; DECODERS_LEN];
            $(if (Opcode::$opcode as usize) < DECODERS_LEN {
                decoders[Opcode::$opcode as usize] = |header, argument, payload| {
                    let parts = Parts::new(Opcode::$opcode, header, argument, payload)?;
                    $decode(parts).map(Operation::$opcode)
                };
            })*
            decoders
        };

        /// The length of the fixed struct of each opcode below [`DECODERS_LEN`], in its longest
        /// form; 0 where there is none.
        #[expect(clippy::indexing_slicing, reason = "the compiler does it")]
        static STRUCT_LENS: [u8; DECODERS_LEN] = {
            let mut lens = [0; DECODERS_LEN];
            $(if (Opcode::$opcode as usize) < DECODERS_LEN {
                lens[Opcode::$opcode as usize] = byte(Opcode::$opcode.argument_len());
            })*
            lens
        };
        const _: () = assert!([$(Opcode::$opcode),*].len() == Opcode::COUNT);
    };
}

/// What the table does not have.
fn unknown<'a>(
    header: &InHeader,
    argument: &'a [u8],
    payload: &'a [u8],
) -> Result<Operation<'a>, DecodeError> {
    let InHeader { opcode, total_extlen, .. } = *header;
    Ok(Operation::Unknown { opcode, argument, payload, total_extlen })
}

/// The decoder of all opcodes from [`DECODERS_LEN`] on.
fn decode_high<'a>(
    header: &InHeader,
    argument: &'a [u8],
    payload: &'a [u8],
) -> Result<Operation<'a>, DecodeError> {
    match Opcode::from_raw(header.opcode) {
        Some(opcode @ Opcode::CuseInit) => {
            let parts = Parts::new(opcode, header, argument, payload)?;
            op::CuseInit::decode(parts).map(Operation::CuseInit)
        }
        _ => unknown(header, argument, payload),
    }
}

operations! {
    Lookup => op::Lookup<'a>, op::Lookup::decode, op::Lookup::encode;
    Forget => op::Forget, op::Forget::decode, op::Forget::encode;
    GetAttr => op::GetAttr, op::GetAttr::decode, op::GetAttr::encode;
    SetAttr => op::SetAttr, op::SetAttr::decode, op::SetAttr::encode;
    ReadLink => op::ReadLink, op::ReadLink::decode, op::ReadLink::encode;
    Symlink => op::Symlink<'a>, op::Symlink::decode, op::Symlink::encode;
    MkNod => op::MkNod<'a>, op::MkNod::decode, op::MkNod::encode;
    MkDir => op::MkDir<'a>, op::MkDir::decode, op::MkDir::encode;
    Unlink => op::Unlink<'a>, op::Unlink::decode, op::Unlink::encode;
    RmDir => op::RmDir<'a>, op::RmDir::decode, op::RmDir::encode;
    Rename => op::Rename<'a>, op::Rename::decode_plain, op::Rename::encode_plain;
    Link => op::Link<'a>, op::Link::decode, op::Link::encode;
    Open => op::Open, op::Open::decode, op::Open::encode;
    Read => op::Read, op::Read::decode, op::Read::encode;
    Write => op::Write<'a>, op::Write::decode, op::Write::encode;
    StatFs => op::StatFs, op::StatFs::decode, op::StatFs::encode;
    Release => op::Release, op::Release::decode, op::Release::encode;
    FSync => op::FSync, op::FSync::decode, op::FSync::encode;
    SetXattr => op::SetXattr<'a>, op::SetXattr::decode, op::SetXattr::encode;
    GetXattr => op::GetXattr<'a>, op::GetXattr::decode, op::GetXattr::encode;
    ListXattr => op::ListXattr, op::ListXattr::decode, op::ListXattr::encode;
    RemoveXattr => op::RemoveXattr<'a>, op::RemoveXattr::decode, op::RemoveXattr::encode;
    Flush => op::Flush, op::Flush::decode, op::Flush::encode;
    Init => op::Init, op::Init::decode, op::Init::encode;
    OpenDir => op::OpenDir, op::OpenDir::decode, op::OpenDir::encode;
    ReadDir => op::ReadDir, op::ReadDir::decode, op::ReadDir::encode;
    ReleaseDir => op::ReleaseDir, op::ReleaseDir::decode, op::ReleaseDir::encode;
    FSyncDir => op::FSyncDir, op::FSyncDir::decode, op::FSyncDir::encode;
    GetLk => op::GetLk, op::GetLk::decode, op::GetLk::encode;
    SetLk => op::SetLk, op::SetLk::decode, op::SetLk::encode;
    SetLkW => op::SetLkW, op::SetLkW::decode, op::SetLkW::encode;
    Access => op::Access, op::Access::decode, op::Access::encode;
    Create => op::Create<'a>, op::Create::decode, op::Create::encode;
    Interrupt => op::Interrupt, op::Interrupt::decode, op::Interrupt::encode;
    BMap => op::BMap, op::BMap::decode, op::BMap::encode;
    Destroy => op::Destroy, op::Destroy::decode, op::Destroy::encode;
    IoCtl => op::IoCtl<'a>, op::IoCtl::decode, op::IoCtl::encode;
    Poll => op::Poll, op::Poll::decode, op::Poll::encode;
    NotifyReply => op::NotifyReply<'a>, op::NotifyReply::decode, op::NotifyReply::encode;
    BatchForget => op::BatchForget<'a>, op::BatchForget::decode, op::BatchForget::encode;
    FAllocate => op::FAllocate, op::FAllocate::decode, op::FAllocate::encode;
    ReadDirPlus => op::ReadDirPlus, op::ReadDirPlus::decode, op::ReadDirPlus::encode;
    Rename2 => op::Rename<'a>, op::Rename::decode, op::Rename::encode;
    LSeek => op::LSeek, op::LSeek::decode, op::LSeek::encode;
    CopyFileRange => op::CopyFileRange, op::CopyFileRange::decode, op::CopyFileRange::encode;
    SetupMapping => op::SetupMapping, op::SetupMapping::decode, op::SetupMapping::encode;
    RemoveMapping => op::RemoveMapping<'a>, op::RemoveMapping::decode, op::RemoveMapping::encode;
    SyncFs => op::SyncFs, op::SyncFs::decode, op::SyncFs::encode;
    TmpFile => op::TmpFile<'a>, op::TmpFile::decode, op::TmpFile::encode;
    Statx => op::Statx, op::Statx::decode, op::Statx::encode;
    CopyFileRange64 => op::CopyFileRange, op::CopyFileRange::decode, op::CopyFileRange::encode;
    CuseInit => op::CuseInit, op::CuseInit::decode, op::CuseInit::encode;
}

impl fmt::Display for Operation<'_> {
    /// One line, such as `LOOKUP "name"`; an unknown opcode by its number. Bulk data are counted.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut line = match self.opcode() {
            Some(opcode) => Line::new(f, opcode.name()),
            None => {
                let mut line = Line::new(f, "UNKNOWN");
                line.field("opcode", self.raw_opcode());
                line
            }
        };
        self.fields(&mut line);
        line.finish()
    }
}

/// Which form of a request is in use where there are two: agreed by INIT, or old.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forms {
    /// SETXATTR has 16 bytes, because SETXATTR_EXT is agreed; else 8.
    pub setxattr_ext: bool,
    /// INIT has 64 bytes, as from 7.36 on; else 16.
    pub init_ext: bool,
}

impl Forms {
    /// The longer forms, which today's kernels use with a server that agrees to all.
    pub const LONG: Self = Self { setxattr_ext: true, init_ext: true };
    /// The shorter forms.
    pub const SHORT: Self = Self { setxattr_ext: false, init_ext: false };
}

/// What the header of a request says beside the operation: its id, its inode and who asks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Envelope {
    /// Request id.
    pub unique: Unique,
    /// The inode that the operation is about; 0 where there is none.
    pub nodeid: NodeId,
    /// Acting user.
    pub uid: u32,
    /// Acting group.
    pub gid: u32,
    /// Thread id of the caller.
    pub pid: u32,
}

impl From<&InHeader> for Envelope {
    fn from(header: &InHeader) -> Self {
        let InHeader { unique, nodeid, uid, gid, pid, .. } = *header;
        Self { unique, nodeid, uid, gid, pid }
    }
}

/// A request encoded in ring form, except for its argument and payload, which are in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingRequest {
    /// The header; `len` counts the whole as if it were in one piece.
    pub header: InHeader,
    /// Bytes written to `op_in`: 0 for an operation without a struct.
    pub argument_len: usize,
    /// Bytes written to the payload.
    pub payload_len: usize,
}

impl Operation<'_> {
    /// The number in the header, also of an unknown opcode.
    #[must_use]
    pub const fn raw_opcode(&self) -> u32 {
        match self {
            Self::Unknown { opcode, .. } => *opcode,
            known => match known.opcode() {
                Some(opcode) => opcode.raw(),
                None => 0,
            },
        }
    }

    /// Length of the whole message in bytes, header included.
    ///
    /// # Errors
    /// As [`Operation::encode`], but for the buffer.
    pub fn encoded_len(&self, forms: Forms) -> Result<usize, EncodeError> {
        self.measure(&Envelope::default(), forms).map(|it| it.message_len())
    }

    /// Writes the whole message, header included, to the start of `out` and returns its length.
    ///
    /// What comes out decodes to an equal operation. Fields whose flag says that they do not count
    /// are zero, as the kernel sends them.
    ///
    /// # Errors
    /// [`EncodeError::TooSmall`] when `out` is too short or the length more than 32 bits can say;
    /// [`EncodeError::Unrepresentable`] when the form has no place for a value: flags of RENAME,
    /// the second flag word of a short SETXATTR, the upper flags of an INIT without them, more
    /// extensions than `total_extlen` counts. Nothing is written then.
    pub fn encode(
        &self,
        envelope: &Envelope,
        forms: Forms,
        out: &mut [u8],
    ) -> Result<usize, EncodeError> {
        let measured = self.measure(envelope, forms)?;
        let needed = measured.message_len();
        let too_small = TooSmall { needed };
        let out = out.get_mut(..needed).ok_or(too_small)?;
        let (front, rest) = out.split_at_mut_checked(size_of::<InHeader>()).ok_or(too_small)?;
        let (argument, payload) =
            rest.split_at_mut_checked(measured.argument_len).ok_or(too_small)?;
        measured.header.write_to(front).map_err(|_| too_small)?;
        self.compose(&mut Composer::new(forms, Piece::new(argument), Piece::new(payload)));
        Ok(needed)
    }

    /// Writes argument and payload apart, as a ring entry holds them, and returns the rest.
    ///
    /// The argument of NOTIFY_REPLY goes to the start of the payload. The areas behind what is
    /// written stay as they are: an operation without a struct leaves the last one in `op_in`.
    ///
    /// Kernel: fs/fuse/dev_uring.c, `fuse_uring_args_to_ring`.
    ///
    /// # Errors
    /// As [`Operation::encode`]; [`EncodeError::TooSmall`] counts the payload alone. An argument of
    /// an unknown opcode that is longer than `op_in` is unrepresentable.
    pub fn encode_ring(
        &self,
        envelope: &Envelope,
        forms: Forms,
        op_in: &mut [u8; URING_OP_IN_OUT_SZ],
        payload: &mut [u8],
    ) -> Result<RingRequest, EncodeError> {
        let mut measured = self.measure(envelope, forms)?;
        let argument_len = measured.argument_len;
        if matches!(self, Self::NotifyReply(_)) {
            measured.payload_len = measured.payload_len.saturating_add(argument_len);
            measured.argument_len = 0;
        }
        let needed = measured.payload_len;
        let too_small = TooSmall { needed };
        let payload = payload.get_mut(..needed).ok_or(too_small)?;
        let (argument, payload) = if measured.argument_len == 0 {
            payload.split_at_mut_checked(argument_len).ok_or(too_small)?
        } else {
            let argument = op_in.get_mut(..argument_len);
            (argument.ok_or(EncodeError::Unrepresentable { field: "argument" })?, payload)
        };
        self.compose(&mut Composer::new(forms, Piece::new(argument), Piece::new(payload)));
        Ok(measured)
    }

    /// Counts everything, and checks that it can be said.
    fn measure(&self, envelope: &Envelope, forms: Forms) -> Result<RingRequest, EncodeError> {
        let mut counted = Composer::new(forms, Piece::default(), Piece::default());
        self.compose(&mut counted);
        if let Some(field) = counted.unrepresentable {
            return Err(EncodeError::Unrepresentable { field });
        }
        let Envelope { unique, nodeid, uid, gid, pid } = *envelope;
        let (opcode, total_extlen) = (self.raw_opcode(), counted.total_extlen);
        let mut header =
            InHeader { len: 0, opcode, unique, nodeid, uid, gid, pid, total_extlen, padding: 0 };
        let (argument_len, payload_len) = (counted.argument.len(), counted.payload.len());
        let needed = RingRequest { header, argument_len, payload_len }.message_len();
        header.len = u32::try_from(needed).map_err(|_| TooSmall { needed })?;
        Ok(RingRequest { header, argument_len, payload_len })
    }
}

impl RingRequest {
    fn message_len(&self) -> usize {
        size_of::<InHeader>().saturating_add(self.argument_len).saturating_add(self.payload_len)
    }
}

/// Cuts a contiguous message, as read(2) on the device gives it, into header, argument, payload.
///
/// `setxattr_ext` says whether SETXATTR_EXT was agreed. The argument of INIT is the rest of the
/// message, whatever its form; that of an unknown opcode is empty. Bytes behind `header.len` are
/// refused, as is a message that is shorter.
///
/// # Errors
/// [`DecodeError`] for a message that ends before its header, its argument or `header.len`, or
/// goes on behind it.
#[inline]
pub fn split(message: &[u8], setxattr_ext: bool) -> Result<(InHeader, &[u8], &[u8]), DecodeError> {
    let at_least = |opcode, field, expected: usize, found| {
        let expected = u64::try_from(expected).unwrap_or(u64::MAX);
        DecodeError { opcode, field, expected: Expected::AtLeast { expected, found } }
    };
    let Ok((header, rest)) = InHeader::read_from_prefix(message) else {
        return Err(at_least(0, "header", size_of::<InHeader>(), message.len()));
    };
    if usize::try_from(header.len) != Ok(message.len()) {
        let expected = usize::try_from(header.len).unwrap_or(usize::MAX);
        let expected = Expected::Exactly { expected, found: message.len() };
        return Err(DecodeError { opcode: header.opcode, field: "message", expected });
    }
    let argument_len = if header.opcode == Opcode::Init.raw() {
        rest.len()
    } else {
        struct_len(header.opcode, setxattr_ext)
    };
    let Some((argument, payload)) = rest.split_at_checked(argument_len) else {
        return Err(at_least(header.opcode, "argument", argument_len, rest.len()));
    };
    Ok((header, argument, payload))
}

/// Cuts the areas of a ring entry, as the kernel fills them, into argument and payload.
///
/// `op_in` is the area with the struct, `payload` the bytes that the kernel has put there. The
/// struct of NOTIFY_REPLY stands at the start of the payload; that of an unknown opcode is as long
/// as `header.len` says beyond the payload.
///
/// Kernel: fs/fuse/dev_uring.c, `fuse_uring_args_to_ring`.
///
/// # Errors
/// [`DecodeError`] where an area is shorter than the struct.
pub fn split_ring<'a>(
    header: &InHeader,
    op_in: &'a [u8],
    payload: &'a [u8],
    setxattr_ext: bool,
) -> Result<(&'a [u8], &'a [u8]), DecodeError> {
    let len = match struct_len(header.opcode, setxattr_ext) {
        0 => unknown_struct_len(header, payload),
        len => len,
    };
    let short = |found| {
        let expected = u64::try_from(len).unwrap_or(u64::MAX);
        let expected = Expected::AtLeast { expected, found };
        DecodeError { opcode: header.opcode, field: "argument", expected }
    };
    if header.opcode == Opcode::NotifyReply.raw() {
        return payload.split_at_checked(len).ok_or_else(|| short(payload.len()));
    }
    Ok((op_in.get(..len).ok_or_else(|| short(op_in.len()))?, payload))
}

/// Length of what an unknown opcode has beside its payload; 0 for known ones.
#[cold]
fn unknown_struct_len(header: &InHeader, payload: &[u8]) -> usize {
    if Opcode::from_raw(header.opcode).is_some() {
        return 0;
    }
    let len = usize::try_from(header.len).unwrap_or(usize::MAX);
    len.saturating_sub(size_of::<InHeader>()).saturating_sub(payload.len())
}

/// Length of the fixed struct in the form that is agreed.
#[inline]
fn struct_len(opcode: u32, setxattr_ext: bool) -> usize {
    if opcode == Opcode::SetXattr.raw() && !setxattr_ext {
        return abi::COMPAT_SETXATTR_IN_SIZE;
    }
    let at = usize::try_from(opcode).unwrap_or(usize::MAX);
    match STRUCT_LENS.get(at) {
        Some(len) => usize::from(*len),
        None => high_struct_len(opcode),
    }
}

/// The same for opcodes from [`DECODERS_LEN`] on.
#[cold]
fn high_struct_len(opcode: u32) -> usize {
    Opcode::from_raw(opcode).map_or(0, Opcode::argument_len)
}

/// A length that is known to fit; a larger one does not compile.
#[expect(clippy::cast_possible_truncation, reason = "asserted")]
const fn byte(len: usize) -> u8 {
    assert!(len <= 0xff);
    len as u8
}
