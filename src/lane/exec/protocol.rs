//! What is asked of a program and what it answers: a line of JSON each.

use crate::codec::{Layout, Normalisation, Scaling};
use crate::record::OutputType;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// How a strip is stored and decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct StripCodec {
    /// Bits of a code as stored.
    pub stored_bits: u32,
    /// Elements that share a scale.
    pub scale_elements: usize,
    /// Type of a scale: `f16`, `f32` or `e3m5`.
    pub scale_type: &'static str,
    /// Whether the scale comes last; it comes before the transform otherwise.
    pub scale_last: bool,
    /// Whether centroids get signs of their own before the transform: `signs_before` of the input.
    pub signs_before: bool,
    /// Whether the transform is multiplied by f32 `1/sqrt(n)`; it is divided by `sqrt(n)` otherwise.
    pub multiply: bool,
}

impl From<Layout> for StripCodec {
    fn from(layout: Layout) -> Self {
        let scales = layout.scales();
        Self {
            stored_bits: layout.stored_bits(),
            scale_elements: scales.elements,
            scale_type: scales.stored.name(),
            scale_last: scales.scaling == Scaling::After,
            signs_before: layout.signs_before().is_some(),
            multiply: layout.normalisation() == Normalisation::Multiply,
        }
    }
}

/// A strip to decode.
#[derive(Debug, Serialize)]
pub struct Request<'a> {
    /// Safetensors file with `packed`, `scales`, `signs` and `centroids`, and with some codecs more. The same name again is the same
    /// file.
    pub input: &'a str,
    /// File to write: row-major values, little-endian, nothing else.
    pub output: &'a str,
    /// The tensor, without `.weight`.
    pub tensor: &'a str,
    /// Rows of the strip.
    pub rows: usize,
    /// Elements a row.
    pub cols: usize,
    /// First row of the strip in the tensor.
    pub row_start: usize,
    /// 2, 3 or 4.
    pub bits: u32,
    /// Elements a group.
    pub group_size: usize,
    /// Type of the values.
    pub dtype: OutputType,
    /// How the strip is stored and decoded.
    pub codec: StripCodec,
}

impl Request<'_> {
    /// As a line of JSON, with its newline.
    pub fn to_line(&self) -> String {
        let mut line = serde_json::to_string(self).expect("plain data");
        line.push('\n');
        line
    }

    /// An argument with `{input}`, `{output}`, `{rows}` and so on replaced. Other braces stay, `{tensor}` with
    /// them: a name is the model's word, and the argument may be one of a shell.
    pub fn fill(&self, argument: &str) -> String {
        let keys: [(&str, String); 8] = [
            ("{input}", self.input.into()),
            ("{output}", self.output.into()),
            ("{rows}", self.rows.to_string()),
            ("{cols}", self.cols.to_string()),
            ("{row_start}", self.row_start.to_string()),
            ("{bits}", self.bits.to_string()),
            ("{group_size}", self.group_size.to_string()),
            ("{dtype}", self.dtype.name().into()),
        ];
        let mut out = String::new();
        let mut rest = argument;
        // In one pass: a file's name may hold such a word as well.
        while let Some(at) = rest.find('{') {
            out.push_str(&rest[..at]);
            rest = &rest[at..];
            let found = keys.iter().find(|(key, _)| rest.starts_with(key));
            let (value, length) = found.map_or(("{", 1), |(key, v)| (v.as_str(), key.len()));
            out.push_str(value);
            rest = &rest[length..];
        }
        out + rest
    }
}

/// A program's answer.
#[derive(Debug, Deserialize)]
struct Answer {
    ok: bool,
    #[serde(default)]
    seconds: Option<f64>,
    #[serde(default)]
    error: Option<String>,
}

/// The time that a program took by its own account, if it gives one; what is wrong when it failed, or the
/// line is no answer.
pub fn answer(line: &[u8]) -> Result<Option<Duration>, String> {
    let answer: Answer = serde_json::from_slice(line)
        .map_err(|_| format!("it wrote a line that is no answer: {}", quoted(line)))?;
    if !answer.ok {
        let error = answer.error.as_deref().unwrap_or("no error given");
        return Err(format!("it answered that it failed: {}", cut(error, ERROR)));
    }
    let seconds = answer.seconds.map(Duration::try_from_secs_f64).transpose();
    seconds.map_err(|_| format!("it answered with seconds that are none: {}", quoted(line)))
}

/// Characters of a program's error that are kept.
const ERROR: usize = 4096;

/// Characters of a line that are shown.
const SHOWN: usize = 200;

/// The beginning of a line, in quotes.
pub fn quoted(line: &[u8]) -> String {
    format!("{:?}", cut(String::from_utf8_lossy(line).trim_end(), SHOWN))
}

/// The first `most` characters, with dots where there are more.
fn cut(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        None => text.to_owned(),
        Some((at, _)) => format!("{}...", &text[..at]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_replaced_once() {
        let request = Request {
            input: "/tmp/{rows}",
            output: "/tmp/out",
            tensor: "; rm a",
            rows: 3,
            cols: 256,
            row_start: 6,
            bits: 4,
            group_size: 128,
            dtype: OutputType::F16,
            codec: Layout::new(4, 128).unwrap().into(),
        };
        for (given, filled) in [
            ("--from={input}:{output}", "--from=/tmp/{rows}:/tmp/out"),
            ("{tensor}", "{tensor}"),
            (
                "{rows}x{cols}+{row_start},{bits},{group_size},{dtype}",
                "3x256+6,4,128,f16",
            ),
            ("{ {other} {{rows}}", "{ {other} {3}"),
            ("", ""),
        ] {
            assert_eq!(request.fill(given), filled);
        }
    }

    #[test]
    fn answers_are_read_and_others_refused() {
        assert_eq!(answer(b"{\"ok\": true}\n"), Ok(None));
        assert_eq!(
            answer(b"{\"ok\": true, \"seconds\": null, \"x\": 1}"),
            Ok(None)
        );
        let half = Some(Duration::from_millis(500));
        assert_eq!(answer(b"{\"ok\": true, \"seconds\": 0.5}"), Ok(half));
        for (line, what) in [
            (
                &b"{\"ok\": true, \"seconds\": -1}"[..],
                "seconds that are none",
            ),
            (
                b"{\"ok\": false, \"error\": \"no memory\"}",
                "failed: no memory",
            ),
            (b"{\"ok\": false}", "no error given"),
            (b"{}", "no answer"),
            (b"\xff\n", "no answer"),
            (b"loading\n", "no answer: \"loading\""),
        ] {
            let e = answer(line).unwrap_err();
            assert!(e.contains(what), "{e}");
        }
        let e = answer(&[b'x'; 500]).unwrap_err();
        assert!(e.ends_with("x...\"") && e.len() < 260, "{e}");
    }
}
