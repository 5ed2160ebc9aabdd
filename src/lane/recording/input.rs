//! The bytes of a recording: a file, or what comes through a pipe, and what kind of file they are.

use super::given::Given;
use super::npy;
use crate::error::{Error, Result};
use crate::hash::hex;
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{self, BufWriter, Read, Seek, Write};
use std::path::PathBuf;

/// Bytes of a file by which its kind is told.
const HEAD: usize = 16;

/// What kind of file it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Safetensors,
    Npy,
    Json,
    /// Values and nothing else.
    Raw,
}

/// An open recording.
pub(super) struct Input {
    /// What errors call it.
    pub(super) path: PathBuf,
    pub(super) kind: Kind,
    pub(super) bytes: Bytes,
}

/// Where the bytes are.
pub(super) enum Bytes {
    /// In a file.
    File(File),
    /// In a pipe: its first bytes, and the rest.
    Pipe(Vec<u8>, Box<dyn Read>),
}

impl Input {
    /// Opens what was given; waits for the writer of a pipe.
    ///
    /// # Errors
    /// When it is neither a file nor a pipe, is empty, or is of a kind that is not read here.
    pub(super) fn open(given: &Given) -> Result<Self> {
        let stdin = given.is_stdin();
        let path: PathBuf = if stdin {
            "standard input".into()
        } else {
            given.path.clone()
        };
        let io = |e: io::Error| Error::io("read the recording", &path, e);
        let bytes = if stdin {
            Bytes::Pipe(Vec::new(), Box::new(io::stdin()))
        } else {
            let meta = std::fs::metadata(&path);
            if meta.is_err()
                && let Some(word) = given.unknown_type()
            {
                let what = format!("no output type {word:?}");
                let place = path.display().to_string();
                return Err(Error::input(what, place, "types are bf16, f16, f32"));
            }
            let meta = meta.map_err(io)?;
            if !meta.is_file() && !is_pipe(&meta) {
                let place = path.display().to_string();
                return Err(Error::input(
                    "neither a file nor a pipe",
                    place,
                    "name a recording",
                ));
            }
            let file = File::open(&path).map_err(io)?;
            match meta.is_file() {
                true => Bytes::File(file),
                false => Bytes::Pipe(Vec::new(), Box::new(file)),
            }
        };
        let mut head = Vec::new();
        let bytes = match bytes {
            Bytes::File(mut file) => {
                (&file)
                    .take(HEAD as u64)
                    .read_to_end(&mut head)
                    .map_err(io)?;
                file.rewind().map_err(io)?;
                Bytes::File(file)
            }
            Bytes::Pipe(_, mut pipe) => {
                (&mut pipe)
                    .take(HEAD as u64)
                    .read_to_end(&mut head)
                    .map_err(io)?;
                Bytes::Pipe(head.clone(), pipe)
            }
        };
        let kind = kind(&head, given.of.is_some());
        let kind =
            kind.map_err(|[what, help]| Error::input(what, path.display().to_string(), help))?;
        Ok(Self { path, kind, bytes })
    }
}

impl Bytes {
    /// The bytes as a file that is read by position; those of a pipe go to a temporary file, whose SHA-256
    /// is returned beside it.
    pub(super) fn into_file(self) -> io::Result<(File, Option<String>)> {
        let (head, mut pipe) = match self {
            Self::File(file) => return Ok((file, None)),
            Self::Pipe(head, pipe) => (head, pipe),
        };
        let mut to = BufWriter::new(tempfile::tempfile()?);
        let mut hash = Sha256::new();
        let mut piece = head;
        while !piece.is_empty() {
            hash.update(&piece);
            to.write_all(&piece)?;
            piece.clear();
            (&mut pipe).take(1 << 20).read_to_end(&mut piece)?;
        }
        let mut file = to.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.rewind()?;
        Ok((file, Some(hex(&hash.finalize()))))
    }

    /// The bytes one after the other.
    pub(super) fn into_stream(self) -> Box<dyn Read> {
        match self {
            Self::File(file) => Box::new(file),
            Self::Pipe(head, pipe) => Box::new(io::Cursor::new(head).chain(pipe)),
        }
    }
}

#[cfg(unix)]
fn is_pipe(meta: &std::fs::Metadata) -> bool {
    std::os::unix::fs::FileTypeExt::is_fifo(&meta.file_type())
}

#[cfg(not(unix))]
fn is_pipe(_: &std::fs::Metadata) -> bool {
    false
}

/// What a file that begins so is; `told` says that the type of its values was given.
fn kind(head: &[u8], told: bool) -> Result<Kind, [String; 2]> {
    let refuse = |what: &str, help: &str| Err([what.to_owned(), help.to_owned()]);
    let text = head
        .iter()
        .all(|b| b.is_ascii_graphic() || b.is_ascii_whitespace());
    let first = head.iter().find(|b| !b.is_ascii_whitespace());
    match head {
        [] => refuse("the file is empty", "save the output again"),
        _ if head.starts_with(npy::MAGIC) => Ok(Kind::Npy),
        // The length of a JSON header, 8 bytes.
        [_, _, _, _, 0, 0, 0, 0, b'{', ..] => Ok(Kind::Safetensors),
        _ if text && matches!(first, Some(b'{' | b'[')) => Ok(Kind::Json),
        [b'P', b'K', 3, 4, ..] => refuse(
            "a zip file found: .npz, or PyTorch's own",
            "save the array with numpy.save, or with safetensors",
        ),
        _ if head.starts_with(b"GGUF") => refuse(
            "a GGUF file found",
            "save the kernel's output as .safetensors, .npy or plain values",
        ),
        [0x80, 2..=5, ..] if !told => refuse(
            "a Python pickle found",
            "save the array with numpy.save, or with safetensors",
        ),
        _ if told => Ok(Kind::Raw),
        _ if text => refuse(
            "text found that is not JSON",
            "a recording is .safetensors, .npy, JSON, or plain values as FILE:bf16, FILE:f16 or FILE:f32",
        ),
        _ => refuse(
            "neither .safetensors, .npy nor JSON",
            "say which type plain values are: FILE:bf16, FILE:f16 or FILE:f32",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_told_from_the_first_bytes() {
        let safetensors = [&[64, 1, 0, 0, 0, 0, 0, 0][..], b"{\"a\":{\"d"].concat();
        let is = |head: &[u8], told| kind(head, told).map_err(|[what, _]| what);
        assert_eq!(is(&safetensors, false), Ok(Kind::Safetensors));
        assert_eq!(is(b"\x93NUMPY\x01\0v\0{'desc", false), Ok(Kind::Npy));
        for text in [&b"{\"tensor_base\": "[..], b" [[1.0, 2.0", b"[]"] {
            assert_eq!(is(text, false), Ok(Kind::Json));
        }
        assert_eq!(is(b"{\x01\x02\x03", true), Ok(Kind::Raw));
        assert_eq!(is(&[0; 16], true), Ok(Kind::Raw));
        for (head, what) in [
            (&b""[..], "empty"),
            (b"PK\x03\x04", "zip"),
            (b"GGUF\x03", "GGUF"),
            (b"\x80\x04\x95", "pickle"),
            (b"1.0\n2.0\n", "text"),
            (&[0; 16], "neither"),
        ] {
            assert!(is(head, false).unwrap_err().contains(what), "{what}");
        }
    }
}
