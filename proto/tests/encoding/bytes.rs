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

/// Bytes at an address that is a multiple of 8, as transports have them.
#[derive(Clone, Debug)]
pub(crate) struct Aligned {
    words: Vec<u64>,
    len: usize,
}

impl Aligned {
    pub(crate) fn new(bytes: &[u8]) -> Self {
        let mut words = vec![0_u64; bytes.len().div_ceil(8)];
        let memory = zerocopy::IntoBytes::as_mut_bytes(words.as_mut_slice());
        memory[..bytes.len()].copy_from_slice(bytes);
        Self { words, len: bytes.len() }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &zerocopy::IntoBytes::as_bytes(self.words.as_slice())[..self.len]
    }
}
