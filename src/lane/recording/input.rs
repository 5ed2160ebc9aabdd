//! The bytes of a recording: a file, or what comes through a pipe, and what kind of file they are.

use super::given::RecordingPath;
use super::npy;
use crate::error::{Error, Result};
use crate::hash::Hashing;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek};
use std::path::PathBuf;

/// Bytes of a file by which its kind is told.
const HEAD: usize = 16;

/// What kind of file it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RecordingKind {
    Safetensors,
    Npy,
    Json,
    /// Values and nothing else.
    Raw,
}

/// An open recording.
pub(super) struct OpenRecording {
    /// What errors call it.
    pub(super) path: PathBuf,
    pub(super) kind: RecordingKind,
    pub(super) bytes: Bytes,
}

impl OpenRecording {
    /// Opens what was given; waits for the writer of a pipe.
    ///
    /// # Errors
    /// When it is neither a file nor a pipe, is empty, or is of a kind that is not read here.
    pub(super) fn open(given: &RecordingPath) -> Result<Self> {
        let (path, mut bytes) = if given.is_stdin() {
            let pipe: Box<dyn Read> = Box::new(io::stdin());
            ("standard input".into(), Bytes::Pipe(pipe))
        } else {
            (given.path.clone(), Bytes::open(given)?)
        };
        let head = bytes.head();
        let head = head.map_err(|e| Error::io("read the recording", &path, e))?;
        let kind = kind(&head, given.of.is_some())
            .map_err(|[what, help]| Error::input(what, path.display().to_string(), help))?;
        Ok(Self { path, kind, bytes })
    }
}

/// Where the bytes are.
pub(super) enum Bytes {
    /// In a file.
    File(File),
    /// In a pipe.
    Pipe(Box<dyn Read>),
}

impl Bytes {
    /// Of a file or a pipe that has a name.
    fn open(given: &RecordingPath) -> Result<Self> {
        let path = &given.path;
        let io = |e: io::Error| Error::io("read the recording", path, e);
        let bad = |what: &str, help: &str| Error::input(what, path.display().to_string(), help);
        let meta = std::fs::metadata(path).map_err(|e| match given.unknown_type() {
            Some(unknown) => bad(&unknown.problem().what, &unknown.problem().help),
            None => io(e),
        })?;
        if meta.is_file() {
            return Ok(Self::File(File::open(path).map_err(io)?));
        }
        if !is_pipe(&meta) {
            return Err(bad("neither a file nor a pipe", "name a recording"));
        }
        Ok(Self::Pipe(Box::new(File::open(path).map_err(io)?)))
    }

    /// The first bytes, which stay to be read.
    fn head(&mut self) -> io::Result<Vec<u8>> {
        let mut head = Vec::new();
        match self {
            Self::File(file) => {
                (&*file).take(HEAD as u64).read_to_end(&mut head)?;
                file.rewind()?;
            }
            Self::Pipe(pipe) => {
                pipe.by_ref().take(HEAD as u64).read_to_end(&mut head)?;
                let rest = std::mem::replace(pipe, Box::new(io::empty()));
                *pipe = Box::new(io::Cursor::new(head.clone()).chain(rest));
            }
        }
        Ok(head)
    }

    /// The bytes as a file that is read by position; those of a pipe go to a temporary file, whose SHA-256
    /// is returned beside it.
    pub(super) fn into_file(self) -> io::Result<(File, Option<String>)> {
        let pipe = match self {
            Self::File(file) => return Ok((file, None)),
            Self::Pipe(pipe) => pipe,
        };
        let (mut pipe, mut file) = (Hashing::new(pipe), tempfile::tempfile()?);
        // A pipe gives little at a time.
        io::copy(&mut BufReader::with_capacity(1 << 20, &mut pipe), &mut file)?;
        file.rewind()?;
        Ok((file, Some(pipe.finish())))
    }

    /// The bytes one after the other.
    pub(super) fn into_stream(self) -> Box<dyn Read> {
        match self {
            Self::File(file) => Box::new(file),
            Self::Pipe(pipe) => pipe,
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
fn kind(head: &[u8], told: bool) -> Result<RecordingKind, [String; 2]> {
    let refuse = |what: &str, help: &str| Err([what.to_owned(), help.to_owned()]);
    let text = head
        .iter()
        .all(|b| b.is_ascii_graphic() || b.is_ascii_whitespace());
    let first = head.iter().find(|b| !b.is_ascii_whitespace());
    match head {
        [] => refuse("the file is empty", "save the output again"),
        _ if head.starts_with(npy::MAGIC) => Ok(RecordingKind::Npy),
        // The length of a JSON header, 8 bytes.
        [_, _, _, _, 0, 0, 0, 0, b'{', ..] => Ok(RecordingKind::Safetensors),
        _ if text && matches!(first, Some(b'{' | b'[')) => Ok(RecordingKind::Json),
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
        _ if told => Ok(RecordingKind::Raw),
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
        assert_eq!(is(&safetensors, false), Ok(RecordingKind::Safetensors));
        assert_eq!(
            is(b"\x93NUMPY\x01\0v\0{'desc", false),
            Ok(RecordingKind::Npy)
        );
        for text in [&b"{\"tensor_base\": "[..], b" [[1.0, 2.0", b"[]"] {
            assert_eq!(is(text, false), Ok(RecordingKind::Json));
        }
        assert_eq!(is(b"{\x01\x02\x03", true), Ok(RecordingKind::Raw));
        assert_eq!(is(&[0; 16], true), Ok(RecordingKind::Raw));
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
