//! Expected messages, made by offset; and the ways to compare with them.

use fusewire_proto::TooSmall;

#[derive(Clone, Debug)]
pub(crate) struct Expected(Vec<u8>);

impl Expected {
    /// A zeroed message of `len` bytes.
    pub(crate) fn new(len: usize) -> Self {
        Self(vec![0; len])
    }

    pub(crate) fn at2(self, offset: usize, value: u16) -> Self {
        self.at(offset, &value.to_ne_bytes())
    }

    pub(crate) fn at4(self, offset: usize, value: u32) -> Self {
        self.at(offset, &value.to_ne_bytes())
    }

    pub(crate) fn at8(self, offset: usize, value: u64) -> Self {
        self.at(offset, &value.to_ne_bytes())
    }

    pub(crate) fn at(mut self, offset: usize, bytes: &[u8]) -> Self {
        self.0[offset..offset + bytes.len()].copy_from_slice(bytes);
        self
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Asserts that `encode` gives exactly this, touches nothing behind it, leaves no byte of an
    /// old message in it, and refuses any shorter buffer without writing.
    pub(crate) fn assert(&self, encode: impl Fn(&mut [u8]) -> Result<usize, TooSmall>) {
        let len = self.0.len();
        let mut out = vec![0xee; len + 8];
        assert_eq!(encode(&mut out), Ok(len));
        assert_eq!(out[..len], self.0);
        assert_eq!(out[len..], [0xee; 8]);

        let mut exact = vec![0xee; len];
        assert_eq!(encode(&mut exact), Ok(len));
        for short in 0..len {
            let mut out = vec![0xee; short];
            assert_eq!(encode(&mut out), Err(TooSmall { needed: len }));
            assert!(out.iter().all(|&byte| byte == 0xee), "written in spite of the error");
        }
    }
}
