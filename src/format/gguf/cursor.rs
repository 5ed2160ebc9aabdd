//! The header of a file, read forwards in pieces.

use crate::checkpoint::OpenedFile;
use crate::error::{Error, Result};
use std::fmt::Display;

/// Bytes read at a time.
const PIECE: u64 = 64 << 10;
/// Longest header that is read, in bytes. Those of large vocabularies take about 20 MiB.
const MAX_HEADER: u64 = 128 << 20;

/// A place in a header. Every step is checked against the length of the file before it is made.
pub(super) struct Cursor<'a> {
    file: &'a OpenedFile,
    position: u64,
    piece: Vec<u8>,
    piece_start: u64,
}

impl<'a> Cursor<'a> {
    /// The start of `file`.
    pub(super) fn new(file: &'a OpenedFile) -> Self {
        Self {
            file,
            position: 0,
            piece: Vec::new(),
            piece_start: 0,
        }
    }

    /// Bytes from the start of the file.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// What is wrong with the file.
    pub(super) fn damaged(&self, what: impl Display) -> Error {
        damaged(self.file, what)
    }

    /// Checks that the next `len` bytes, of `what`, are there; returns where they end.
    fn claim(&self, len: u64, what: &dyn Display) -> Result<u64> {
        let end = self.position.checked_add(len);
        let Some(end) = end.filter(|end| *end <= self.file.len()) else {
            return Err(self.damaged(format_args!(
                "it ends inside {what}, of {len} bytes from byte {} on",
                self.position
            )));
        };
        if end > MAX_HEADER {
            return Err(self.damaged(format_args!(
                "{what} reaches past the {MAX_HEADER} bytes of header that are read here"
            )));
        }
        Ok(end)
    }

    /// Passes over the next `len` bytes.
    pub(super) fn skip(&mut self, len: u64, what: &dyn Display) -> Result<()> {
        self.position = self.claim(len, what)?;
        Ok(())
    }

    fn fill(&mut self, mut out: &mut [u8], what: &dyn Display) -> Result<()> {
        self.claim(out.len() as u64, what)?;
        while !out.is_empty() {
            let mut rest = self.in_piece();
            if rest.is_empty() {
                self.piece_start = self.position;
                let len = PIECE.min(self.file.len() - self.position);
                self.piece.resize(len as usize, 0);
                self.file.read_exact_at(&mut self.piece, self.position)?;
                rest = &self.piece;
            }
            let n = rest.len().min(out.len());
            out[..n].copy_from_slice(&rest[..n]);
            out = &mut out[n..];
            self.position += n as u64;
        }
        Ok(())
    }

    /// What is left of the piece.
    fn in_piece(&self) -> &[u8] {
        // A cursor goes forwards only.
        let passed = self.position - self.piece_start;
        let passed = usize::try_from(passed).unwrap_or(usize::MAX);
        self.piece.get(passed..).unwrap_or_default()
    }

    /// The next bytes.
    pub(super) fn take<const N: usize>(&mut self, what: &dyn Display) -> Result<[u8; N]> {
        let mut out = [0; N];
        self.fill(&mut out, what)?;
        Ok(out)
    }

    /// A 32-bit number.
    pub(super) fn u32(&mut self, what: &dyn Display) -> Result<u32> {
        self.take(what).map(u32::from_le_bytes)
    }

    /// A 64-bit number.
    pub(super) fn u64(&mut self, what: &dyn Display) -> Result<u64> {
        self.take(what).map(u64::from_le_bytes)
    }

    /// A number of things of at least `least` bytes each, which what is left of the file can hold.
    pub(super) fn count(&mut self, least: u64, what: &dyn Display) -> Result<u64> {
        let count = self.u64(what)?;
        self.check_count(count, least, what)?;
        Ok(count)
    }

    /// Checks that what is left of the file can hold `count` things of at least `least` bytes each.
    pub(super) fn check_count(&self, count: u64, least: u64, what: &dyn Display) -> Result<()> {
        let left = self.file.len() - self.position;
        if count > left / least {
            return Err(self.damaged(format_args!(
                "{what} is {count}, more than its last {left} bytes can hold"
            )));
        }
        Ok(())
    }

    /// The bytes of a string.
    pub(super) fn string(&mut self, what: &dyn Display) -> Result<Vec<u8>> {
        let len = self.u64(&format_args!("the length of {what}"))?;
        self.claim(len, what)?;
        let mut bytes = vec![0; len as usize];
        self.fill(&mut bytes, what)?;
        Ok(bytes)
    }

    /// A name: short, and UTF-8.
    pub(super) fn name(&mut self, what: &dyn Display) -> Result<String> {
        let len = self.u64(&format_args!("the length of {what}"))?;
        if len > super::MAX_NAME {
            return Err(self.damaged(format_args!(
                "{what} is {len} bytes long, more than the {} that one may be",
                super::MAX_NAME
            )));
        }
        let mut bytes = vec![0; len as usize];
        self.fill(&mut bytes, what)?;
        String::from_utf8(bytes).map_err(|_| self.damaged(format_args!("{what} is not UTF-8")))
    }
}

/// The error for a file that is not what its format says.
pub(super) fn damaged(file: &OpenedFile, what: impl Display) -> Error {
    Error::input(
        format!("not a whole GGUF file of {} bytes: {what}", file.len()),
        file.path().display().to_string(),
        "copy the file again; it is truncated, damaged or of another format",
    )
}
