//! Reading a body from front to back, and writing a frame with its length put in at the end.

use super::{FRAME_BYTES_MAX, FrameError, PREFIX_BYTES};

/// What is left of a body.
#[derive(Clone, Copy)]
pub(super) struct Reader<'a> {
    left: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(body: &'a [u8]) -> Reader<'a> {
        Reader { left: body }
    }

    pub(super) fn left(&self) -> &'a [u8] {
        self.left
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], FrameError> {
        let (array, rest) = self.left.split_first_chunk().ok_or(FrameError::Truncated)?;
        self.left = rest;
        Ok(*array)
    }

    pub(super) fn u32(&mut self) -> Result<u32, FrameError> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, FrameError> {
        self.array().map(u64::from_le_bytes)
    }

    /// The next `len` bytes. `len` is the frame's claim, not ours: it is compared with what is
    /// there before it is used.
    pub(super) fn bytes(&mut self, len: u64) -> Result<&'a [u8], FrameError> {
        let len = usize::try_from(len).map_err(|_| FrameError::Truncated)?;
        let (bytes, rest) = self.left.split_at_checked(len).ok_or(FrameError::Truncated)?;
        self.left = rest;
        Ok(bytes)
    }

    /// A count and that many items of `N` bytes each.
    pub(super) fn items<const N: usize>(&mut self) -> Result<&'a [[u8; N]], FrameError> {
        let count = self.u64()?;
        let len = count.checked_mul(N as u64).ok_or(FrameError::Truncated)?;
        let (items, _) = self.bytes(len)?.as_chunks();
        Ok(items)
    }

    /// A length and that many bytes, at most `bytes_max`.
    pub(super) fn short(
        &mut self,
        field: &'static str,
        bytes_max: usize,
    ) -> Result<&'a [u8], FrameError> {
        let found = self.u64()?;
        let bytes = self.bytes(found)?;
        if bytes.len() > bytes_max {
            return Err(FrameError::TooLong { field, found, bytes_max });
        }
        Ok(bytes)
    }

    /// As [`Reader::short`], and UTF-8.
    pub(super) fn text(
        &mut self,
        field: &'static str,
        bytes_max: usize,
    ) -> Result<&'a [u8], FrameError> {
        let bytes = self.short(field, bytes_max)?;
        match std::str::from_utf8(bytes) {
            Ok(_) => Ok(bytes),
            Err(_) => Err(FrameError::NotUtf8 { field }),
        }
    }

    /// 0, or 1 and a text.
    pub(super) fn optional_text(
        &mut self,
        field: &'static str,
        bytes_max: usize,
    ) -> Result<Option<&'a [u8]>, FrameError> {
        match self.array()? {
            [0] => Ok(None),
            [1] => self.text(field, bytes_max).map(Some),
            [found] => Err(FrameError::OptionTag { found }),
        }
    }

    /// Refuses a body that goes on after its last field.
    pub(super) fn finish(self) -> Result<(), FrameError> {
        match self.left.len() {
            0 => Ok(()),
            bytes => Err(FrameError::Trailing { bytes }),
        }
    }
}

/// Appends a frame to `out`: `body` writes the body, and the length before it is put in after.
pub(super) fn push_frame(out: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>)) {
    let at = out.len();
    out.extend_from_slice(&[0; PREFIX_BYTES]);
    body(out);
    let len = out.len() - at - PREFIX_BYTES;
    assert!(len <= FRAME_BYTES_MAX, "whoever writes a body keeps to the limits of this module");
    let prefix = u32::try_from(len).expect("FRAME_BYTES_MAX fits a u32").to_le_bytes();
    out[at..at + PREFIX_BYTES].copy_from_slice(&prefix);
}

pub(super) fn push_count(out: &mut Vec<u8>, count: usize) {
    out.extend_from_slice(&(count as u64).to_le_bytes());
}

pub(super) fn push_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    push_count(out, bytes.len());
    out.extend_from_slice(bytes);
}

pub(super) fn push_optional(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    out.push(u8::from(bytes.is_some()));
    if let Some(bytes) = bytes {
        push_bytes(out, bytes);
    }
}
