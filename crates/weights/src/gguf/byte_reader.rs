//! Reads little-endian numbers and byte runs from a slice, never past its end.

/// The slice ended before what was to be read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Short {
    /// Where reading began.
    pub offset: u64,
    /// Bytes wanted from there.
    pub needed: u64,
    /// Bytes there are from there.
    pub available: u64,
}

/// A position in a slice.
#[derive(Clone, Copy, Debug)]
pub(super) struct ByteReader<'a> {
    bytes: &'a [u8],
    pos: usize,
}

impl<'a> ByteReader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        ByteReader { bytes, pos: 0 }
    }

    /// The whole slice.
    pub(super) fn all(&self) -> &'a [u8] {
        self.bytes
    }

    /// Where the next byte is read.
    pub(super) fn pos(&self) -> usize {
        self.pos
    }

    /// The next `n` bytes.
    pub(super) fn take(&mut self, n: u64) -> Result<&'a [u8], Short> {
        let available = self.bytes.len() - self.pos;
        let short = Short { offset: self.pos as u64, needed: n, available: available as u64 };
        let n = usize::try_from(n).map_err(|_| short)?;
        if n > available {
            return Err(short);
        }
        let start = self.pos;
        self.pos += n;
        Ok(&self.bytes[start..self.pos])
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Short> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N as u64)?);
        Ok(out)
    }

    pub(super) fn u32(&mut self) -> Result<u32, Short> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, Short> {
        self.array().map(u64::from_le_bytes)
    }
}
