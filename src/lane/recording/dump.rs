//! The JSON of the published dump tool, of any size: what is beside its values is read as JSON, the values
//! stream into a temporary file.

use super::numbers::{Array, Bad, Numbers};
use super::values::StoredValues;
use crate::error::{Error, Result};
use crate::record::OutputType;
use serde::Deserialize;
use serde::de::IgnoredAny;
use std::fs::File;
use std::io::{self, BufWriter, Read};
use std::path::Path;
use std::sync::Arc;

/// Bytes read at a time.
const PIECE: usize = 1 << 20;
/// Longest text beside the values, in bytes.
const MAX_BESIDE: usize = 1 << 20;

/// What a dump says beside its values. The published tool writes the first five.
#[derive(Debug, Default, Deserialize)]
pub(super) struct DumpMetadata {
    pub(super) tensor_base: Option<String>,
    pub(super) row_start: Option<usize>,
    pub(super) shape: Option<Vec<usize>>,
    pub(super) bits: Option<u32>,
    pub(super) group_size: Option<usize>,
    dtype: Option<OutputType>,
    // Only that there are not two of them is looked at.
    #[serde(rename = "values")]
    _values: Option<IgnoredAny>,
}

/// A dump of one tensor whose shape fits its values.
pub(super) struct Dump {
    pub(super) beside: DumpMetadata,
    pub(super) shape: Vec<usize>,
    pub(super) values: StoredValues,
}

/// Where in the text the reader is.
enum DumpState {
    /// Beside the values.
    Beside,
    /// Right before the array of the values.
    Before,
    /// In it.
    Values(Numbers<BufWriter<File>>),
}

/// Takes a text apart as it streams by.
struct Reader {
    state: DumpState,
    /// The text without the values.
    beside: Vec<u8>,
    depth: usize,
    in_string: bool,
    escaped: bool,
    /// The string that came last, and whether it can still be a key.
    string: Vec<u8>,
    after_string: bool,
    array: Option<Array<BufWriter<File>>>,
}

impl Dump {
    /// Reads a dump, or a bare array; `told` is the user's word for the type of the values.
    ///
    /// # Errors
    /// When the text is not one, its values do not fit its shape, or the system fails.
    pub(super) fn read(
        path: &Path,
        mut input: impl Read,
        told: Option<OutputType>,
    ) -> Result<Self> {
        let place = || path.display().to_string();
        let mut reader = Reader::new();
        let mut buffer = vec![0; PIECE];
        loop {
            let n = match input.read(&mut buffer) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                n => n.map_err(|e| Error::io("read the recording", path, e))?,
            };
            if n == 0 {
                break;
            }
            reader.take(&buffer[..n]).map_err(|e| match e {
                Bad::Text(what) => not_a_dump(&what, place()),
                Bad::Io(e) => Error::io("keep the values in a temporary file", path, e),
            })?;
        }
        let (beside, array) = reader.finish().map_err(|what| not_a_dump(&what, place()))?;
        let told = told.or(beside.dtype);
        let file = array
            .out
            .into_inner()
            .map_err(io::IntoInnerError::into_error);
        let file = file.map_err(|e| Error::io("keep the values in a temporary file", path, e))?;
        let shape = match &beside.shape {
            // The published tool writes the values in one list, whatever their shape.
            Some(shape) if array.shape.len() == 1 => shape.clone(),
            Some(shape) if *shape != array.shape => {
                let what = format!(
                    "values of shape {:?} found, \"shape\" is {shape:?}",
                    array.shape
                );
                return Err(Error::input(what, place(), ""));
            }
            _ => array.shape,
        };
        let count = shape.iter().try_fold(1usize, |n, d| n.checked_mul(*d));
        if count != Some(array.count) || array.count == 0 {
            return Err(Error::input(
                format!("{} values found for shape {shape:?}", array.count),
                place(),
                "the recording is damaged; record it again",
            ));
        }
        Ok(Self {
            values: StoredValues {
                file: Arc::new(file),
                start: 0,
                stored: OutputType::F32,
                of: told.unwrap_or_else(|| array.tally.likely()),
                elements: array.count,
            },
            beside,
            shape,
        })
    }
}

fn not_a_dump(what: &str, place: String) -> Error {
    Error::input(
        format!("not the JSON expected here: {what}"),
        place,
        "a dump is {\"tensor_base\", \"row_start\", \"shape\": [rows, cols], \"values\": [...]}, the \
         values a flat or nested list of numbers",
    )
}

impl Reader {
    fn new() -> Self {
        Self {
            state: DumpState::Beside,
            beside: Vec::new(),
            depth: 0,
            in_string: false,
            escaped: false,
            string: Vec::new(),
            after_string: false,
            array: None,
        }
    }

    fn take(&mut self, mut text: &[u8]) -> Result<(), Bad> {
        while !text.is_empty() {
            let taken = match &mut self.state {
                DumpState::Values(numbers) => match numbers.take(text)? {
                    None => text.len(),
                    Some(n) => {
                        let DumpState::Values(numbers) =
                            std::mem::replace(&mut self.state, DumpState::Beside)
                        else {
                            unreachable!("the state was just looked at");
                        };
                        self.array = Some(numbers.finish());
                        n
                    }
                },
                DumpState::Beside | DumpState::Before => {
                    self.byte(text[0])?;
                    1
                }
            };
            text = &text[taken..];
        }
        Ok(())
    }

    /// Takes a byte of the text beside the values.
    fn byte(&mut self, byte: u8) -> Result<(), Bad> {
        if self.beside.len() == MAX_BESIDE {
            return Err(Bad::Text(format!(
                "no values in the first {MAX_BESIDE} bytes"
            )));
        }
        let bare = self.depth == 0 && self.beside.iter().all(u8::is_ascii_whitespace);
        if byte == b'[' && self.array.is_none() && (bare || matches!(self.state, DumpState::Before))
        {
            let file = tempfile::tempfile().map_err(Bad::Io)?;
            self.state = DumpState::Values(Numbers::new(BufWriter::with_capacity(PIECE, file)));
            // It stands for the array in what is read as JSON.
            self.beside.extend(if bare { &b"{}"[..] } else { b"0" });
            return Ok(());
        }
        self.beside.push(byte);
        if self.in_string {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' => self.escaped = true,
                b'"' => {
                    self.in_string = false;
                    self.after_string = true;
                    return Ok(());
                }
                _ => {}
            }
            self.string.push(byte);
            return Ok(());
        }
        match byte {
            b' ' | b'\n' | b'\r' | b'\t' => return Ok(()),
            b'"' => {
                self.in_string = true;
                self.string.clear();
            }
            b'{' | b'[' => self.depth += 1,
            b'}' | b']' => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }
        let key = byte == b':' && self.after_string && self.depth == 1 && self.string == b"values";
        self.state = if key {
            DumpState::Before
        } else {
            DumpState::Beside
        };
        self.after_string = false;
        Ok(())
    }

    fn finish(self) -> Result<(DumpMetadata, Array<BufWriter<File>>), String> {
        if matches!(self.state, DumpState::Values(_)) {
            return Err("it ends within its values".into());
        }
        // First of all what is wrong with the text, then what is missing in it.
        let beside: DumpMetadata =
            serde_json::from_slice(&self.beside).map_err(|e| e.to_string())?;
        let array = self.array.ok_or("it has no \"values\" that are a list")?;
        Ok((beside, array))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Dump> {
        Dump::read(Path::new("dump"), text.as_bytes(), None)
    }

    fn values(dump: &Dump) -> Vec<f32> {
        let all = dump.values.read(Path::new("dump"), 0..dump.values.elements);
        all.unwrap().single().into_owned()
    }

    #[test]
    fn what_is_beside_the_values_may_stand_anywhere() {
        for text in [
            r#"{"tensor_base": "a", "shape": [1, 3], "values": [1, 2, 3]}"#,
            r#"{"values":[1,2,3],"shape":[1,3],"tensor_base":"a"}"#,
            r#" {"x": {"values": [9]}, "y": "\"values\": [7]", "values" : [[1, 2, 3]], "tensor_base": "a"} "#,
        ] {
            let dump = read(text).unwrap();
            assert_eq!(dump.beside.tensor_base.as_deref(), Some("a"));
            assert_eq!(dump.shape, [1, 3]);
            assert_eq!(values(&dump), [1.0, 2.0, 3.0]);
        }
        let bare = read("[[1, 2], [3, 4]]\n").unwrap();
        assert_eq!(
            (&bare.shape[..], bare.beside.tensor_base),
            (&[2, 2][..], None)
        );
    }

    #[test]
    fn damaged_texts_say_what_is_wrong() {
        for (text, what) in [
            ("", "EOF"),
            ("{", "EOF"),
            ("nonsense", "expected"),
            (r#"{"tensor_base": "a"}"#, "no \"values\""),
            (r#"{"values": 3}"#, "no \"values\""),
            (r#"{"values": [1, 2"#, "ends within its values"),
            (r#"{"values": [1, 2]"#, "EOF"),
            (r#"{"values": [1, 2]} x"#, "trailing"),
            (r#"{"values": [1], "values": [2]}"#, "duplicate"),
            (
                r#"{"shape": [2, 2], "values": [1, 2]}"#,
                "2 values found for shape [2, 2]",
            ),
            (
                r#"{"shape": [4, 1], "values": [[1, 2], [3, 4]]}"#,
                "\"shape\" is [4, 1]",
            ),
            (r#"{"shape": [0, 2], "values": []}"#, "0 values found"),
            (r#"{"dtype": "f64", "values": [1]}"#, "f64"),
        ] {
            let e = read(text).map(|_| ()).unwrap_err().to_string();
            assert!(e.contains(what), "{text}: {e}");
        }
    }
}
