//! One line for a message: the builder under every `Display` of a request, reply or notification.
//!
//! ```text
//!   WRITE fh=3 offset=4096 size=1048576 write_flags=WRITE_CACHE
//! ```
//! Names are quoted and escaped, bulk data are counted, numbers follow the domain (octal modes,
//! hexadecimal words), and what is empty or zero by default is left out. Nothing is allocated.
//! What each message shows stands beside it: [`op`](crate::op), [`reply`](crate::reply),
//! [`notify`](crate::notify).

use core::fmt;

use crate::types::Timestamp;

/// A line that begins with a word and goes on with fields.
pub(crate) struct Line<'a, 'f> {
    f: &'a mut fmt::Formatter<'f>,
    result: fmt::Result,
}

/// What has something to show in a line.
pub(crate) trait Show {
    fn show(&self, line: &mut Line<'_, '_>);
}

impl<'a, 'f> Line<'a, 'f> {
    pub(crate) fn new(f: &'a mut fmt::Formatter<'f>, word: &str) -> Self {
        let result = f.write_str(word);
        Self { f, result }
    }

    pub(crate) const fn finish(self) -> fmt::Result {
        self.result
    }

    fn put(&mut self, what: fmt::Arguments<'_>) -> &mut Self {
        self.result = self.result.and_then(|()| self.f.write_fmt(what));
        self
    }

    /// A number or anything else that shows itself.
    pub(crate) fn field(&mut self, label: &str, value: impl fmt::Display) -> &mut Self {
        self.put(format_args!(" {label}={value}"))
    }

    /// The same, if there is one.
    pub(crate) fn maybe(&mut self, label: &str, value: Option<impl fmt::Display>) -> &mut Self {
        match value {
            Some(value) => self.field(label, value),
            None => self,
        }
    }

    /// A version of the protocol.
    pub(crate) fn version(&mut self, major: u32, minor: u32) -> &mut Self {
        self.put(format_args!(" version={major}.{minor}"))
    }

    /// A mode.
    pub(crate) fn octal(&mut self, label: &str, value: u32) -> &mut Self {
        self.put(format_args!(" {label}={value:#o}"))
    }

    /// A word of bits that have no type here.
    pub(crate) fn hex(&mut self, label: &str, value: impl fmt::LowerHex) -> &mut Self {
        self.put(format_args!(" {label}={value:#x}"))
    }

    /// Names of flags with bars between them, unknown bits in hexadecimal; nothing if none is set.
    pub(crate) fn flags<B>(&mut self, label: &str, flags: B) -> &mut Self
    where
        B: bitflags::Flags<Bits: bitflags::parser::WriteHex>,
    {
        if flags.is_empty() {
            return self;
        }
        self.put(format_args!(" {label}="));
        let written = self.result.and_then(|()| bitflags::parser::to_writer(&flags, &mut *self.f));
        self.result = written;
        self
    }

    /// A string of the message, quoted and escaped.
    pub(crate) fn quoted(&mut self, bytes: &[u8]) -> &mut Self {
        self.put(format_args!(" \"{}\"", bytes.escape_ascii()))
    }

    /// A point in time: seconds and nanoseconds as they are.
    pub(crate) fn time(&mut self, label: &str, time: Timestamp) -> &mut Self {
        self.put(format_args!(" {label}={}.{:09}", time.seconds, time.nanoseconds))
    }
}
