//! What serde's derive cannot say: names, data, error numbers, lists without a slice behind them.
//!
//! Only with feature `serde`; the form is told in the documentation of the crate. Derives stand on
//! the types themselves, and [`Operation`](crate::Operation) is written out by its table.

use core::fmt::{self, Write};

use serde::{Serialize, Serializer};

use crate::flags::{CuseFlags, InitFlags};
use crate::op::{Extensions, MappingRanges};
use crate::types::{Errno, Name, Text, XattrName};

/// So many bytes of data stand in a line; more are counted only.
const HEAD_MAX: usize = 256;

/// Bytes as text: what is not UTF-8 as `\xff`, and a backslash as two, so that both read back.
struct Escaped<'a>(&'a [u8]);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            for char in chunk.valid().chars() {
                if char == '\\' {
                    f.write_char(char)?;
                }
                f.write_char(char)?;
            }
            for byte in chunk.invalid() {
                write!(f, "\\x{byte:02x}")?;
            }
        }
        Ok(())
    }
}

impl Serialize for Escaped<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A name that has no type of its own.
pub(crate) fn name<S: Serializer>(name: &&[u8], serializer: S) -> Result<S::Ok, S::Error> {
    Escaped(name).serialize(serializer)
}

/// Data: how many bytes, and the first of them.
pub(crate) fn data<S: Serializer>(data: &&[u8], serializer: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct Data<'a> {
        len: usize,
        head: Escaped<'a>,
    }
    let head = Escaped(data.get(..HEAD_MAX).unwrap_or(data));
    Data { len: data.len(), head }.serialize(serializer)
}

/// `flags` of the reply to INIT.
pub(crate) fn init_low<S: Serializer>(flags: &u32, serializer: S) -> Result<S::Ok, S::Error> {
    InitFlags::from_halves(*flags, 0).serialize(serializer)
}

/// `flags2` of the reply to INIT.
pub(crate) fn init_high<S: Serializer>(flags2: &u32, serializer: S) -> Result<S::Ok, S::Error> {
    InitFlags::from_halves(0, *flags2).serialize(serializer)
}

/// `flags` of the reply to CUSE_INIT.
pub(crate) fn cuse_flags<S: Serializer>(flags: &u32, serializer: S) -> Result<S::Ok, S::Error> {
    CuseFlags::from(*flags).serialize(serializer)
}

/// The fields of `Operation::Unknown`.
#[derive(Serialize)]
pub(crate) struct Unknown<'a> {
    pub(crate) opcode: u32,
    #[serde(serialize_with = "data")]
    pub(crate) argument: &'a [u8],
    #[serde(serialize_with = "data")]
    pub(crate) payload: &'a [u8],
    pub(crate) total_extlen: u16,
}

macro_rules! names {
    ($($name:ty)*) => {$(
        impl Serialize for $name {
            /// Text; what is not UTF-8 as `\xff`, a backslash as two.
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                Escaped(self.as_bytes()).serialize(serializer)
            }
        }
    )*};
}

names! { Name Text XattrName }

impl Serialize for Errno {
    /// `"ENOENT"`, or `"400"` where the number has no name.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.name() {
            Some(name) => serializer.serialize_str(name),
            None => serializer.collect_str(&self.raw()),
        }
    }
}

/// A list that an iterator gives.
struct List<F>(F);

impl<F: Fn() -> I, I: Iterator<Item: Serialize>> Serialize for List<F> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0())
    }
}

impl Serialize for MappingRanges<'_> {
    /// A list.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

impl Serialize for Extensions<'_> {
    /// Contexts and groups as lists, and the length of all records: more tells of unknown ones.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Records<C, G> {
            len: usize,
            security_contexts: C,
            groups: G,
        }
        let records = Records {
            len: self.as_bytes().len(),
            security_contexts: List(|| self.security_contexts()),
            groups: List(|| self.groups()),
        };
        records.serialize(serializer)
    }
}
