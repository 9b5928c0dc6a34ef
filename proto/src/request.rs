//! Requests: from the bytes that the kernel sent to an [`Operation`].
//!
//! [`Operation::decode`] takes a message already in pieces, which is how a ring entry holds it;
//! [`split`] cuts a contiguous message into those pieces. Both borrow, neither copies bulk data.
//! What each operation means is in [`op`]; the bounds are checked by `cursor`. Encoding
//! requests, for a simulated kernel and for recorders, will be the inverse of this file.

use zerocopy::FromBytes;

use crate::abi::{self, InHeader};
use crate::cursor::{DecodeError, Expected, Parts};
use crate::op;
use crate::opcode::Opcode;

/// Decodes requests of one opcode.
type Decoder = for<'a> fn(&InHeader, &'a [u8], &'a [u8]) -> Result<Operation<'a>, DecodeError>;

/// Opcodes from here on, which is CUSE_INIT alone, are not in [`DECODERS`].
const DECODERS_LEN: usize = 64;

macro_rules! operations {
    ($($opcode:ident => $op:ty, $decode:expr;)*) => {
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
                /// All the rest.
                payload: &'a [u8],
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
        }

        /// The decoder of each opcode below [`DECODERS_LEN`].
        #[expect(clippy::indexing_slicing, reason = "the compiler does it")]
        static DECODERS: [Decoder; DECODERS_LEN] = {
            let mut decoders: [Decoder; DECODERS_LEN] = [unknown; DECODERS_LEN];
            $(if (Opcode::$opcode as usize) < DECODERS_LEN {
                decoders[Opcode::$opcode as usize] = |header, argument, payload| {
                    $decode(Parts::new(header, argument, payload)?).map(Operation::$opcode)
                };
            })*
            decoders
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
    Ok(Operation::Unknown { opcode: header.opcode, argument, payload })
}

/// The decoder of all opcodes from [`DECODERS_LEN`] on.
fn decode_high<'a>(
    header: &InHeader,
    argument: &'a [u8],
    payload: &'a [u8],
) -> Result<Operation<'a>, DecodeError> {
    match Opcode::from_raw(header.opcode) {
        Some(Opcode::CuseInit) => {
            op::CuseInit::decode(Parts::new(header, argument, payload)?).map(Operation::CuseInit)
        }
        _ => unknown(header, argument, payload),
    }
}

operations! {
    Lookup => op::Lookup<'a>, op::Lookup::decode;
    Forget => op::Forget, op::Forget::decode;
    GetAttr => op::GetAttr, op::GetAttr::decode;
    SetAttr => op::SetAttr, op::SetAttr::decode;
    ReadLink => op::ReadLink, op::ReadLink::decode;
    Symlink => op::Symlink<'a>, op::Symlink::decode;
    MkNod => op::MkNod<'a>, op::MkNod::decode;
    MkDir => op::MkDir<'a>, op::MkDir::decode;
    Unlink => op::Unlink<'a>, op::Unlink::decode;
    RmDir => op::RmDir<'a>, op::RmDir::decode;
    Rename => op::Rename<'a>, op::Rename::decode_plain;
    Link => op::Link<'a>, op::Link::decode;
    Open => op::Open, op::Open::decode;
    Read => op::Read, op::Read::decode;
    Write => op::Write<'a>, op::Write::decode;
    StatFs => op::StatFs, op::StatFs::decode;
    Release => op::Release, op::Release::decode;
    FSync => op::FSync, op::FSync::decode;
    SetXattr => op::SetXattr<'a>, op::SetXattr::decode;
    GetXattr => op::GetXattr<'a>, op::GetXattr::decode;
    ListXattr => op::ListXattr, op::ListXattr::decode;
    RemoveXattr => op::RemoveXattr<'a>, op::RemoveXattr::decode;
    Flush => op::Flush, op::Flush::decode;
    Init => op::Init, op::Init::decode;
    OpenDir => op::OpenDir, op::OpenDir::decode;
    ReadDir => op::ReadDir, op::ReadDir::decode;
    ReleaseDir => op::ReleaseDir, op::ReleaseDir::decode;
    FSyncDir => op::FSyncDir, op::FSyncDir::decode;
    GetLk => op::GetLk, op::GetLk::decode;
    SetLk => op::SetLk, op::SetLk::decode;
    SetLkW => op::SetLkW, op::SetLkW::decode;
    Access => op::Access, op::Access::decode;
    Create => op::Create<'a>, op::Create::decode;
    Interrupt => op::Interrupt, op::Interrupt::decode;
    BMap => op::BMap, op::BMap::decode;
    Destroy => op::Destroy, op::Destroy::decode;
    IoCtl => op::IoCtl<'a>, op::IoCtl::decode;
    Poll => op::Poll, op::Poll::decode;
    NotifyReply => op::NotifyReply<'a>, op::NotifyReply::decode;
    BatchForget => op::BatchForget<'a>, op::BatchForget::decode;
    FAllocate => op::FAllocate, op::FAllocate::decode;
    ReadDirPlus => op::ReadDirPlus, op::ReadDirPlus::decode;
    Rename2 => op::Rename<'a>, op::Rename::decode;
    LSeek => op::LSeek, op::LSeek::decode;
    CopyFileRange => op::CopyFileRange, op::CopyFileRange::decode;
    SetupMapping => op::SetupMapping, op::SetupMapping::decode;
    RemoveMapping => op::RemoveMapping<'a>, op::RemoveMapping::decode;
    SyncFs => op::SyncFs, op::SyncFs::decode;
    TmpFile => op::TmpFile<'a>, op::TmpFile::decode;
    Statx => op::Statx, op::Statx::decode;
    CopyFileRange64 => op::CopyFileRange, op::CopyFileRange::decode;
    CuseInit => op::CuseInit, op::CuseInit::decode;
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
    let argument_len = match Opcode::from_raw(header.opcode) {
        Some(Opcode::Init) => rest.len(),
        Some(Opcode::SetXattr) if !setxattr_ext => abi::COMPAT_SETXATTR_IN_SIZE,
        Some(opcode) => opcode.argument_len(),
        None => 0,
    };
    let Some((argument, payload)) = rest.split_at_checked(argument_len) else {
        return Err(at_least(header.opcode, "argument", argument_len, rest.len()));
    };
    Ok((header, argument, payload))
}
