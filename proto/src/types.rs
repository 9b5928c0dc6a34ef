//! The small values of the protocol: identities, errors, times and names.
//!
//! Each integer that names something has a type of its own, so that a nodeid cannot be passed where
//! a handle is meant. They are transparent over their wire form and stand in the structs of
//! [`abi`](crate::abi) directly. Nothing here knows a message: neighbours are [`abi`](crate::abi)
//! (layouts) and [`op`](crate::op) (decoded requests).

use core::fmt;
use core::num::NonZeroU16;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::scan;

/// What an operation gives: a value, or the [`Errno`] that the caller of the system call sees.
pub type Result<T> = core::result::Result<T, Errno>;

macro_rules! newtypes {
    ($($(#[$meta:meta])* $name:ident($vis:vis $field:ty);)*) => {$(
        $(#[$meta])*
        #[repr(transparent)]
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
        #[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
        pub struct $name(
            /// The wire form, in host byte order.
            $vis $field,
        );

        impl From<u64> for $name {
            fn from(raw: u64) -> Self {
                Self(raw)
            }
        }

        impl From<$name> for u64 {
            fn from(value: $name) -> Self {
                value.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    )*};
}

newtypes! {
    /// The kernel's name for an inode, chosen by the server in its reply to LOOKUP and friends.
    ///
    /// It lives until its lookup count is forgotten down to zero; [`NodeId::ROOT`] lives for ever.
    NodeId(pub u64);
    /// Request id: echoed in the reply exactly as it was received, flag bits included.
    ///
    /// Requests are even. Bit 0 marks an INTERRUPT, bit 63 a request that was sent again.
    Unique(pub u64);
    /// Open-file handle, chosen by the server in its reply to OPEN, OPENDIR, CREATE and TMPFILE.
    Fh(pub u64);
    /// Reuse counter of a nodeid: (nodeid, generation) is unique over the life of the filesystem.
    ///
    /// The kernel keeps the low 32 bits only.
    Generation(pub u64);
    /// Number of references that the kernel holds, or gives back by FORGET, on one nodeid.
    LookupCount(pub u64);
    /// Opaque owner of POSIX or flock locks: equal for all threads that share a file table.
    LockOwner(pub u64);
    /// The kernel's name for an open file that is polled: POLL brings it, NOTIFY_POLL gives it
    /// back.
    ///
    /// Kernel: fs/fuse/file.c, `fuse_file_alloc` and `fuse_notify_poll_wakeup`. Since 7.11.
    PollHandle(pub u64);
}

impl NodeId {
    /// The root directory: never looked up, never forgotten (`FUSE_ROOT_ID`).
    pub const ROOT: Self = Self(1);

    /// Whether this is the root directory.
    #[must_use]
    pub const fn is_root(self) -> bool {
        self.0 == Self::ROOT.0
    }
}

impl Unique {
    /// Bit 0: the message is an INTERRUPT for the request with this bit clear.
    ///
    /// Kernel: fs/fuse/fuse_dev_i.h, `FUSE_INT_REQ_BIT`.
    pub const INTERRUPT_BIT: u64 = 1;
    /// Bit 63: the request was read before and is sent again after NOTIFY_RESEND.
    ///
    /// Kernel: include/uapi/linux/fuse.h, `FUSE_UNIQUE_RESEND`, since 7.40.
    pub const RESEND_BIT: u64 = 1 << 63;
    /// The unique of every notification.
    pub const NOTIFICATION: Self = Self(0);

    /// Whether this is the id of an INTERRUPT.
    #[must_use]
    pub const fn is_interrupt(self) -> bool {
        self.0 & Self::INTERRUPT_BIT != 0
    }

    /// Whether the request was delivered before: it may have been carried out already.
    #[must_use]
    pub const fn is_resend(self) -> bool {
        self.0 & Self::RESEND_BIT != 0
    }

    /// The id of the INTERRUPT for this request, to which EAGAIN or ENOSYS may be answered.
    #[must_use]
    pub const fn interrupt(self) -> Self {
        Self(self.0 | Self::INTERRUPT_BIT)
    }
}

/// An error number as the kernel accepts it in a reply: positive, 1 to 511.
///
/// Numbers are those of the generic Linux table (x86, Arm, RISC-V and most others); the sign of
/// the wire form is put on in one place, [`abi::OutHeader::new`](crate::abi::OutHeader::new).
///
/// Kernel: fs/fuse/dev.c, `fuse_dev_do_write` refuses what is outside -511..=0.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Errno(NonZeroU16);

macro_rules! errnos {
    ($($name:ident = $raw:literal;)*) => {
        impl Errno {
            $(
                #[doc = concat!("`", stringify!($name), "`, ", stringify!($raw), ".")]
                pub const $name: Self = Self(NonZeroU16::new($raw).expect("errnos start at 1"));
            )*

            /// The symbolic name, if the number has one.
            #[must_use]
            pub const fn name(self) -> Option<&'static str> {
                match self.0.get() {
                    $($raw => Some(stringify!($name)),)*
                    _ => None,
                }
            }
        }
    };
}

errnos! {
    EPERM = 1; ENOENT = 2; ESRCH = 3; EINTR = 4; EIO = 5; ENXIO = 6; E2BIG = 7; ENOEXEC = 8;
    EBADF = 9; ECHILD = 10; EAGAIN = 11; ENOMEM = 12; EACCES = 13; EFAULT = 14; ENOTBLK = 15;
    EBUSY = 16; EEXIST = 17; EXDEV = 18; ENODEV = 19; ENOTDIR = 20; EISDIR = 21; EINVAL = 22;
    ENFILE = 23; EMFILE = 24; ENOTTY = 25; ETXTBSY = 26; EFBIG = 27; ENOSPC = 28; ESPIPE = 29;
    EROFS = 30; EMLINK = 31; EPIPE = 32; EDOM = 33; ERANGE = 34; EDEADLK = 35; ENAMETOOLONG = 36;
    ENOLCK = 37; ENOSYS = 38; ENOTEMPTY = 39; ELOOP = 40; ENOMSG = 42; EIDRM = 43; ECHRNG = 44;
    EL2NSYNC = 45; EL3HLT = 46; EL3RST = 47; ELNRNG = 48; EUNATCH = 49; ENOCSI = 50; EL2HLT = 51;
    EBADE = 52; EBADR = 53; EXFULL = 54; ENOANO = 55; EBADRQC = 56; EBADSLT = 57; EBFONT = 59;
    ENOSTR = 60; ENODATA = 61; ETIME = 62; ENOSR = 63; ENONET = 64; ENOPKG = 65; EREMOTE = 66;
    ENOLINK = 67; EADV = 68; ESRMNT = 69; ECOMM = 70; EPROTO = 71; EMULTIHOP = 72; EDOTDOT = 73;
    EBADMSG = 74; EOVERFLOW = 75; ENOTUNIQ = 76; EBADFD = 77; EREMCHG = 78; ELIBACC = 79;
    ELIBBAD = 80; ELIBSCN = 81; ELIBMAX = 82; ELIBEXEC = 83; EILSEQ = 84; ERESTART = 85;
    ESTRPIPE = 86; EUSERS = 87; ENOTSOCK = 88; EDESTADDRREQ = 89; EMSGSIZE = 90; EPROTOTYPE = 91;
    ENOPROTOOPT = 92; EPROTONOSUPPORT = 93; ESOCKTNOSUPPORT = 94; EOPNOTSUPP = 95;
    EPFNOSUPPORT = 96; EAFNOSUPPORT = 97; EADDRINUSE = 98; EADDRNOTAVAIL = 99; ENETDOWN = 100;
    ENETUNREACH = 101; ENETRESET = 102; ECONNABORTED = 103; ECONNRESET = 104; ENOBUFS = 105;
    EISCONN = 106; ENOTCONN = 107; ESHUTDOWN = 108; ETOOMANYREFS = 109; ETIMEDOUT = 110;
    ECONNREFUSED = 111; EHOSTDOWN = 112; EHOSTUNREACH = 113; EALREADY = 114; EINPROGRESS = 115;
    ESTALE = 116; EUCLEAN = 117; ENOTNAM = 118; ENAVAIL = 119; EISNAM = 120; EREMOTEIO = 121;
    EDQUOT = 122; ENOMEDIUM = 123; EMEDIUMTYPE = 124; ECANCELED = 125; ENOKEY = 126;
    EKEYEXPIRED = 127; EKEYREVOKED = 128; EKEYREJECTED = 129; EOWNERDEAD = 130;
    ENOTRECOVERABLE = 131; ERFKILL = 132; EHWPOISON = 133;
}

impl Errno {
    /// The largest number that a reply may carry.
    pub const MAX: i32 = 511;
    /// Same number as [`Errno::EAGAIN`].
    pub const EWOULDBLOCK: Self = Self::EAGAIN;
    /// Same number as [`Errno::EOPNOTSUPP`].
    pub const ENOTSUP: Self = Self::EOPNOTSUPP;
    /// Same number as [`Errno::EDEADLK`].
    pub const EDEADLOCK: Self = Self::EDEADLK;
    /// What a missing extended attribute is answered with: same number as [`Errno::ENODATA`].
    pub const ENOATTR: Self = Self::ENODATA;

    /// Takes a positive errno, as `std::io::Error::raw_os_error` gives it; `None` outside 1..=511.
    #[must_use]
    pub const fn new(raw: i32) -> Option<Self> {
        if raw < 1 || raw > Self::MAX {
            return None;
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "1..=511")]
        match NonZeroU16::new(raw as u16) {
            Some(raw) => Some(Self(raw)),
            None => None,
        }
    }

    /// The positive number.
    #[must_use]
    pub const fn raw(self) -> i32 {
        self.0.get() as i32
    }
}

impl fmt::Display for Errno {
    /// `ENOENT (2)`, or `errno 400` where the number has no name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => write!(f, "{name} ({})", self.0),
            None => write!(f, "errno {}", self.0),
        }
    }
}

impl fmt::Debug for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl core::error::Error for Errno {}

/// A point in time: seconds and nanoseconds since 1970-01-01 UTC.
///
/// Times before the epoch have negative seconds and positive nanoseconds; on the wire seconds
/// travel as an unsigned word in two's complement.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Timestamp {
    /// Whole seconds since the epoch.
    pub seconds: i64,
    /// Nanoseconds on top, 0 to 999_999_999. The kernel clamps larger values.
    pub nanoseconds: u32,
}

impl Timestamp {
    /// 1970-01-01 00:00:00 UTC.
    pub const EPOCH: Self = Self::new(0, 0);

    /// Puts the two halves together; neither is changed.
    #[must_use]
    pub const fn new(seconds: i64, nanoseconds: u32) -> Self {
        Self { seconds, nanoseconds }
    }

    /// Reads the wire form: seconds as an unsigned word, nanoseconds apart.
    #[must_use]
    pub const fn from_wire(seconds: u64, nanoseconds: u32) -> Self {
        Self::new(seconds.cast_signed(), nanoseconds)
    }

    /// Seconds in their wire form.
    #[must_use]
    pub const fn wire_seconds(self) -> u64 {
        self.seconds.cast_unsigned()
    }
}

/// One component of a path: not empty, without NUL and without `/`.
///
/// `.` and `..` are allowed, because LOOKUP carries them for exported filesystems. No length is
/// imposed: the kernel sends up to 1024 bytes, or 4095 once MAX_PAGES is agreed, and the backing
/// store has its own limit (ENAMETOOLONG). Bytes are not necessarily UTF-8.
///
/// [`Name::new`] is the way to get one. The zerocopy traits are derived so that a borrowed slice
/// becomes a borrowed name without unsafe code; they check nothing, and no memory safety rests on
/// the promise above.
#[repr(C)]
#[derive(PartialEq, Eq, PartialOrd, Ord, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Name([u8]);

/// Why some bytes are not a [`Name`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// No byte at all.
    #[error("a name is empty")]
    Empty,
    /// A NUL byte inside.
    #[error("a name contains a NUL byte")]
    Nul,
    /// A `/` inside: it would be a path.
    #[error("a name contains a slash")]
    Slash,
}

impl Name {
    /// Borrows `bytes` as a name.
    ///
    /// # Errors
    /// [`NameError`] when the bytes are empty or contain NUL or `/`.
    pub fn new(bytes: &[u8]) -> core::result::Result<&Self, NameError> {
        if bytes.is_empty() {
            return Err(NameError::Empty);
        }
        if scan::find_nul_or_slash(bytes) != bytes.len() {
            let nul = bytes.contains(&0);
            return Err(if nul { NameError::Nul } else { NameError::Slash });
        }
        Self::from_checked(bytes).ok_or(NameError::Empty)
    }

    /// Borrows bytes that have passed the checks of [`Name::new`].
    pub(crate) fn from_checked(bytes: &[u8]) -> Option<&Self> {
        // A wrapper of bytes has no size and no alignment to miss.
        Self::ref_from_bytes(bytes).ok()
    }

    /// The bytes, without terminator.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether this is `.` or `..`.
    #[must_use]
    pub const fn is_dot_or_dotdot(&self) -> bool {
        matches!(&self.0, b"." | b"..")
    }
}

impl AsRef<[u8]> for Name {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// Strings that are no names of files; the literal says whether one may be empty.
macro_rules! strings {
    ($($(#[$meta:meta])* $name:ident, $empty:literal;)*) => {$(
        $(#[$meta])*
        ///
        /// The zerocopy traits are derived for the same reason as those of [`Name`].
        #[repr(C)]
        #[derive(PartialEq, Eq, PartialOrd, Ord, Hash, FromBytes, IntoBytes, Immutable)]
        #[derive(KnownLayout)]
        pub struct $name([u8]);

        impl $name {
            /// Borrows `bytes`, which have no terminator.
            ///
            /// # Errors
            /// [`NameError`] when the bytes are none of these.
            pub fn new(bytes: &[u8]) -> core::result::Result<&Self, NameError> {
                if !$empty && bytes.is_empty() {
                    return Err(NameError::Empty);
                }
                if scan::find_nul(bytes) != bytes.len() {
                    return Err(NameError::Nul);
                }
                Self::from_checked(bytes).ok_or(NameError::Nul)
            }

            /// Borrows bytes that have passed the checks of `new`.
            pub(crate) fn from_checked(bytes: &[u8]) -> Option<&Self> {
                // A wrapper of bytes has no size and no alignment to miss.
                Self::ref_from_bytes(bytes).ok()
            }

            /// The bytes, without terminator.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8] {
                &self.0
            }
        }

        impl core::ops::Deref for $name {
            type Target = [u8];

            fn deref(&self) -> &[u8] {
                &self.0
            }
        }

        impl PartialEq<[u8]> for $name {
            fn eq(&self, other: &[u8]) -> bool {
                self.0 == *other
            }
        }

        impl<const N: usize> PartialEq<[u8; N]> for $name {
            fn eq(&self, other: &[u8; N]) -> bool {
                self.0 == *other
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "\"{}\"", self.0.escape_ascii())
            }
        }
    )*};
}

strings! {
    /// Bytes without NUL, perhaps none: the target of a symbolic link.
    Text, true;
    /// The name of an extended attribute with its namespace: not empty, without NUL.
    XattrName, false;
}

impl fmt::Display for Name {
    /// Printable ASCII, and the rest escaped, as in the line of a request: who chose the name can
    /// forge no line of a log with it. [`Name::as_bytes`] has the bytes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0.escape_ascii(), f)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.escape_ascii())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    #[test]
    fn errno_range_and_text() {
        assert_eq!(Errno::new(2), Some(Errno::ENOENT));
        assert_eq!(Errno::ENOENT.raw(), 2);
        assert_eq!(Errno::EHWPOISON.raw(), 133);
        assert_eq!(Errno::new(0), None);
        assert_eq!(Errno::new(-2), None);
        assert_eq!(Errno::new(512), None);
        assert_eq!(Errno::new(i32::MIN), None);
        assert_eq!(Errno::new(511).map(Errno::raw), Some(511));
        assert_eq!(Errno::ENOENT.to_string(), "ENOENT (2)");
        assert_eq!(Errno::new(400).map(|e| e.to_string()).as_deref(), Some("errno 400"));
        assert_eq!(size_of::<Option<Errno>>(), 2);
    }

    #[test]
    fn every_number_but_two_has_a_name() {
        let nameless: std::vec::Vec<i32> =
            (1..=133).filter(|&n| Errno::new(n).and_then(Errno::name).is_none()).collect();
        // 41 and 58 are the gaps that EWOULDBLOCK and EDEADLOCK left.
        assert_eq!(nameless, [41, 58]);
    }

    #[test]
    fn names_refuse_what_is_not_a_component() {
        assert_eq!(Name::new(b"").map(|_| ()), Err(NameError::Empty));
        assert_eq!(Name::new(b"a\0b").map(|_| ()), Err(NameError::Nul));
        assert_eq!(Name::new(b"a/b").map(|_| ()), Err(NameError::Slash));
        assert!(Name::new(b"..").unwrap().is_dot_or_dotdot());
        assert!(!Name::new(b"...").unwrap().is_dot_or_dotdot());
        let name = Name::new(b"caf\xc3\xa9 \xff!").unwrap();
        assert_eq!(name.to_string(), r"caf\xc3\xa9 \xff!");
        assert_eq!(std::format!("{name:?}"), r#""caf\xc3\xa9 \xff!""#);
        assert_eq!(name.as_bytes(), b"caf\xc3\xa9 \xff!");
    }

    #[test]
    fn no_name_forges_a_line() {
        let hostile = b"a\nERROR gone\r\x1b[2K\x07\x7f\xe2\x80\xae\"\\n";
        let name = Name::new(hostile).unwrap();
        assert_eq!(name.to_string(), r#"a\nERROR gone\r\x1b[2K\x07\x7f\xe2\x80\xae\"\\n"#);
        for byte in (1..=255).filter(|&byte| byte != b'/') {
            let text = Name::new(&[byte]).unwrap().to_string();
            assert!(text.bytes().all(|it| matches!(it, b' '..=b'~')), "{byte}: {text:?}");
        }
    }

    #[test]
    fn unique_bits() {
        let plain = Unique(0x1234);
        assert!(!plain.is_interrupt() && !plain.is_resend());
        assert_eq!(plain.interrupt(), Unique(0x1235));
        assert!(plain.interrupt().is_interrupt());
        assert!(Unique(0x8000_0000_0000_0002).is_resend());
    }

    #[test]
    fn times_order_across_the_epoch() {
        let before = Timestamp::from_wire(u64::MAX, 999_999_999);
        assert_eq!(before, Timestamp::new(-1, 999_999_999));
        assert!(before < Timestamp::EPOCH);
        assert_eq!(before.wire_seconds(), u64::MAX);
        assert_eq!(NodeId::from(7).to_string(), "7");
    }
}
