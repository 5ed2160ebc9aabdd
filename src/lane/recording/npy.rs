//! The header of NumPy's `.npy` (NEP 1): magic, version, and a Python dictionary of one line with `descr`,
//! `fortran_order` and `shape`.
//!
//! It is read here and not by a library: those take a grammar of all of Python's literals, and a C compiler,
//! for this one line.

use crate::record::OutputType;

/// How every such file begins.
pub(super) const MAGIC: &[u8; 6] = b"\x93NUMPY";

/// Longest header that is read, in bytes: what its first version can say.
const MAX_HEADER: usize = 1 << 16;

/// What a header says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Npy {
    pub(super) of: OutputType,
    pub(super) shape: Vec<usize>,
    /// Where the values start, in bytes.
    pub(super) start: usize,
}

/// Bytes that hold any header that is read.
pub(super) const HEAD: usize = 12 + MAX_HEADER;

/// Reads the header at the beginning of `head`, the first [`HEAD`] bytes of a file or all of a shorter one;
/// `told` is the user's word for 16 bits without a type.
///
/// # Errors
/// What was found and what to do, when it is not the header of values that are compared here.
pub(super) fn header(head: &[u8], told: Option<OutputType>) -> Result<Npy, [String; 2]> {
    let damaged = |what: &str| {
        let help = "save it again with numpy.save";
        [format!("damaged .npy header: {what}"), help.into()]
    };
    let rest = head
        .strip_prefix(MAGIC)
        .ok_or_else(|| damaged("no magic"))?;
    let (length, start) = match rest {
        [1, _, a, b, ..] => (u16::from_le_bytes([*a, *b]) as usize, 10),
        [2 | 3, _, a, b, c, d, ..] => (u32::from_le_bytes([*a, *b, *c, *d]) as usize, 12),
        _ => return Err(damaged("a version that is not 1, 2 or 3")),
    };
    let end = start + length;
    if length > MAX_HEADER || end > head.len() {
        return Err(damaged("its length lies outside the file"));
    }
    let text = std::str::from_utf8(&head[start..end]).map_err(|_| damaged("not text"))?;
    let value = |key: &str| {
        let after = text
            .split_once(&format!("'{key}':"))
            .map(|(_, after)| after.trim_start());
        after.ok_or_else(|| damaged(&format!("no {key}")))
    };
    let descr = value("descr")?;
    let descr = descr.strip_prefix('\'').and_then(|d| d.split_once('\''));
    let descr = descr.map(|(d, _)| d).ok_or_else(|| {
        let help = "save one plain array with numpy.save";
        [
            ".npy of structured elements found".to_owned(),
            help.to_owned(),
        ]
    })?;
    let shape = value("shape")?;
    let shape = shape.strip_prefix('(').and_then(|s| s.split_once(')'));
    let shape = shape.map(|(s, _)| s).ok_or_else(|| damaged("no shape"))?;
    let shape: Result<Vec<usize>, _> = shape
        .split(',')
        .map(str::trim)
        .filter(|n| !n.is_empty())
        .map(str::parse)
        .collect();
    let shape = shape.map_err(|_| damaged("the shape is not one of numbers"))?;
    let of = type_of(descr, told).map_err(|help| {
        [
            format!("dtype {descr} found, expected <f2, <f4, or <V2 or <u2 with its type"),
            help,
        ]
    })?;
    if value("fortran_order")?.starts_with("True") && shape.iter().filter(|n| **n > 1).count() > 1 {
        let help = "save numpy.ascontiguousarray(x)".to_owned();
        return Err(["column-major order found, expected row-major".into(), help]);
    }
    Ok(Npy {
        of,
        shape,
        start: end,
    })
}

/// The type that NumPy calls `descr`; the error says what to do.
fn type_of(descr: &str, told: Option<OutputType>) -> Result<OutputType, String> {
    let of = match descr {
        "<f2" => OutputType::F16,
        "<f4" => OutputType::F32,
        // ml_dtypes' bfloat16 is saved as two bytes without a type.
        "<V2" | "|V2" | "<u2" | "<i2" => {
            let told = told.filter(|of| of.size() == 2);
            return told.ok_or("say which type the 16 bits are: FILE:bf16 or FILE:f16".into());
        }
        "<f8" => return Err("cast to the type that the kernel writes before saving".into()),
        _ if descr.starts_with('>') => {
            return Err("save it little-endian: x.astype(x.dtype.newbyteorder('<'))".into());
        }
        _ => {
            return Err("save what the kernel wrote, as numpy.float16, float32 or bfloat16".into());
        }
    };
    match told {
        Some(told) if told != of => Err("leave the type out: the file says it".into()),
        _ => Ok(of),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn file(version: u8, descr: &str, order: &str, shape: &str) -> Vec<u8> {
        let text =
            format!("{{'descr': '{descr}', 'fortran_order': {order}, 'shape': {shape}, }}\n");
        let mut bytes = MAGIC.to_vec();
        bytes.extend([version, 0]);
        match version {
            1 => bytes.extend((text.len() as u16).to_le_bytes()),
            _ => bytes.extend((text.len() as u32).to_le_bytes()),
        }
        bytes.extend(text.as_bytes());
        bytes
    }

    #[test]
    fn headers_that_numpy_writes_are_read() {
        let bf16 = Some(OutputType::Bf16);
        for version in 1..=3 {
            for (descr, told, of) in [
                ("<f2", None, OutputType::F16),
                ("<f4", None, OutputType::F32),
                ("<f4", Some(OutputType::F32), OutputType::F32),
                ("<V2", bf16, OutputType::Bf16),
                ("|V2", bf16, OutputType::Bf16),
                ("<u2", Some(OutputType::F16), OutputType::F16),
            ] {
                let bytes = file(version, descr, "False", "(2, 3)");
                let read = header(&bytes, told).unwrap();
                assert_eq!(
                    (read.of, &read.shape[..], read.start),
                    (of, &[2, 3][..], bytes.len())
                );
            }
        }
        let one = |shape| header(&file(1, "<f4", "False", shape), None).unwrap().shape;
        assert_eq!(one("(6,)"), [6]);
        assert_eq!(one("()"), [0usize; 0]);
        // A column in either order is the same bytes.
        let column = header(&file(1, "<f4", "True", "(6, 1)"), None);
        assert_eq!(column.unwrap().shape, [6, 1]);
    }

    #[test]
    fn what_cannot_be_compared_is_refused_with_what_to_do() {
        let refused =
            |descr, order, told| header(&file(1, descr, order, "(2, 3)"), told).unwrap_err();
        assert!(refused("<f8", "False", None)[1].contains("cast"));
        assert!(refused(">f4", "False", None)[1].contains("little-endian"));
        assert!(refused("<V2", "False", None)[1].contains(":bf16"));
        assert!(refused("<V2", "False", Some(OutputType::F32))[1].contains(":bf16"));
        assert!(refused("<f4", "False", Some(OutputType::Bf16))[1].contains("leave"));
        assert!(refused("<f4", "True", None)[1].contains("ascontiguousarray"));
        let mut records = file(1, "<f4", "False", "(2,)");
        let at = records.windows(6).position(|w| w == b"'<f4',").unwrap();
        records.splice(at..at + 6, b"[('a', '<f4')],".iter().copied());
        let length = records.len() as u16 - 10;
        records[8..10].copy_from_slice(&length.to_le_bytes());
        assert!(header(&records, None).unwrap_err()[0].contains("structured"));
    }

    proptest! {
        #[test]
        fn damaged_headers_are_errors(at in 0usize..60, byte: u8, cut in 0usize..70) {
            let mut bytes = file(1, "<f4", "False", "(2, 3)");
            let at = at.min(bytes.len() - 1);
            bytes[at] = byte;
            let _ = header(&bytes, None);
            let _ = header(&bytes[..cut.min(bytes.len())], None);
        }
    }
}
