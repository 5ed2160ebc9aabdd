//! The numbers of a JSON array, flat or nested, as they stream by.

use super::guess::Tally;
use std::io::{self, Write};

/// Longest number that is read, in bytes.
const MAX_NUMBER: usize = 400;
/// Deepest nesting that is read.
const MAX_DEPTH: usize = 8;

/// Reads an array piece by piece; its numbers go to `out` as little-endian f32.
///
/// Python writes `NaN`, `Infinity` and `-Infinity`, which JSON does not have; other writers write null for
/// each. All are taken: null is NaN.
pub(super) struct Numbers<W> {
    out: W,
    tally: Tally,
    count: usize,
    /// Values and arrays seen so far in each array that is open.
    open: Vec<usize>,
    /// Length of the arrays at each depth, from the first that closed.
    lengths: Vec<Option<usize>>,
    /// How deep numbers are.
    depth: Option<usize>,
    /// The beginning of a number that goes on in the next piece.
    token: Vec<u8>,
    last: Last,
}

/// What came last.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Last {
    Open,
    Value,
    Comma,
}

/// Why an array cannot be read: what was found; or the disk failed.
#[derive(Debug)]
pub(super) enum Bad {
    Text(String),
    Io(io::Error),
}

/// An array that was read.
pub(super) struct Array<W> {
    pub(super) out: W,
    pub(super) tally: Tally,
    pub(super) count: usize,
    /// Lengths at each depth, from outside.
    pub(super) shape: Vec<usize>,
}

impl<W: Write> Numbers<W> {
    /// Inside an array whose bracket was read.
    pub(super) fn new(out: W) -> Self {
        Self {
            out,
            tally: Tally::default(),
            count: 0,
            open: vec![0],
            lengths: vec![None; MAX_DEPTH],
            depth: None,
            token: Vec::new(),
            last: Last::Open,
        }
    }

    /// Takes the next piece of text; how many of its bytes belong to the array, once it is closed.
    pub(super) fn take(&mut self, text: &[u8]) -> Result<Option<usize>, Bad> {
        let mut at = 0;
        while at < text.len() {
            let byte = text[at];
            if is_token(byte) {
                let length = text[at..].iter().position(|b| !is_token(*b));
                let Some(length) = length.map(|n| at + n) else {
                    self.token.extend(&text[at..]);
                    return self.bounded().map(|()| None);
                };
                if self.token.is_empty() {
                    self.value(&text[at..length])?;
                } else {
                    self.token.extend(&text[at..length]);
                    self.bounded()?;
                    let token = std::mem::take(&mut self.token);
                    self.value(&token)?;
                }
                at = length;
                continue;
            }
            if !self.token.is_empty() {
                let token = std::mem::take(&mut self.token);
                self.value(&token)?;
            }
            at += 1;
            match byte {
                b' ' | b'\n' | b'\r' | b'\t' => {}
                b',' if self.last == Last::Value => self.last = Last::Comma,
                b'[' if self.last != Last::Value => self.nest()?,
                b']' if self.last != Last::Comma => {
                    if self.close()? {
                        return Ok(Some(at));
                    }
                }
                _ => return Err(self.unexpected(&text[at - 1..at])),
            }
        }
        Ok(None)
    }

    /// The whole, once it is closed.
    pub(super) fn finish(self) -> Array<W> {
        let depths = self.depth.unwrap_or(1);
        let shape = self.lengths[..depths].iter().map(|n| n.unwrap_or(0));
        Array {
            shape: shape.collect(),
            out: self.out,
            tally: self.tally,
            count: self.count,
        }
    }

    fn value(&mut self, token: &[u8]) -> Result<(), Bad> {
        if self.last == Last::Value {
            return Err(self.unexpected(token));
        }
        let depth = *self.depth.get_or_insert(self.open.len());
        if depth != self.open.len() {
            return Err(Bad::Text(format!(
                "value number {} is {} arrays deep, those before {depth}",
                self.count,
                self.open.len()
            )));
        }
        let value = number(token).ok_or_else(|| self.unexpected(token))?;
        self.tally.add(value);
        self.out.write_all(&value.to_le_bytes()).map_err(Bad::Io)?;
        self.count += 1;
        self.item();
        Ok(())
    }

    /// An array or a value of the array that is open.
    fn item(&mut self) {
        *self.open.last_mut().expect("an array is open") += 1;
        self.last = Last::Value;
    }

    fn nest(&mut self) -> Result<(), Bad> {
        if self.open.len() == MAX_DEPTH {
            return Err(Bad::Text(format!(
                "more than {MAX_DEPTH} arrays in each other"
            )));
        }
        self.open.push(0);
        self.last = Last::Open;
        Ok(())
    }

    /// Whether that was the outermost.
    fn close(&mut self) -> Result<bool, Bad> {
        let length = self.open.pop().expect("an array is open");
        let usual = *self.lengths[self.open.len()].get_or_insert(length);
        if usual != length {
            return Err(Bad::Text(format!(
                "an array of {length} ends at value number {}, those before are of {usual}",
                self.count
            )));
        }
        if self.open.is_empty() {
            return Ok(true);
        }
        self.item();
        Ok(false)
    }

    fn bounded(&self) -> Result<(), Bad> {
        match self.token.len() <= MAX_NUMBER {
            true => Ok(()),
            false => Err(self.unexpected(&self.token)),
        }
    }

    fn unexpected(&self, token: &[u8]) -> Bad {
        let token = String::from_utf8_lossy(&token[..token.len().min(40)]);
        Bad::Text(format!(
            "{token:?} found at value number {}, expected a number",
            self.count
        ))
    }
}

/// Whether a byte can be part of a number or a constant.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'+' | b'.')
}

fn number(token: &[u8]) -> Option<f32> {
    match token {
        b"null" | b"NaN" => return Some(f32::NAN),
        b"Infinity" => return Some(f32::INFINITY),
        b"-Infinity" => return Some(f32::NEG_INFINITY),
        // The standard library reads more than JSON has: `inf`, `+1`, `.5`.
        [b'0'..=b'9', ..] | [b'-', b'0'..=b'9', ..] => {}
        _ => return None,
    }
    std::str::from_utf8(token).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(text: &str, piece: usize) -> Result<(Vec<f32>, Vec<usize>, usize), String> {
        let mut numbers = Numbers::new(Vec::new());
        let mut done = 0;
        for piece in text.as_bytes().chunks(piece) {
            match numbers.take(piece) {
                Ok(None) => done += piece.len(),
                Ok(Some(n)) => {
                    let array = numbers.finish();
                    let values = array.out.chunks(4);
                    let values = values.map(|b| f32::from_le_bytes(b.try_into().unwrap()));
                    return Ok((values.collect(), array.shape, done + n));
                }
                Err(Bad::Text(what)) => return Err(what),
                Err(Bad::Io(e)) => panic!("{e}"),
            }
        }
        Err("it does not end".into())
    }

    #[test]
    fn flat_and_nested_arrays_are_read_in_any_pieces() {
        for piece in 1..9 {
            let flat = read("1, -2.5e0,\n3]rest", piece).unwrap();
            assert_eq!(flat, (vec![1.0, -2.5, 3.0], vec![3], 13));
            let nested = read("[1,2,3],[4,5,6]]", piece).unwrap();
            assert_eq!(nested.0, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
            assert_eq!(nested.1, [2, 3]);
            let constants = read("NaN, null, Infinity, -Infinity, 1e999]", piece)
                .unwrap()
                .0;
            assert!(constants[0].is_nan() && constants[1].is_nan());
            assert_eq!(
                constants[2..],
                [f32::INFINITY, f32::NEG_INFINITY, f32::INFINITY]
            );
            assert_eq!(read("]", piece).unwrap().1, [0]);
        }
    }

    #[test]
    fn what_is_no_array_of_numbers_is_refused() {
        for (text, what) in [
            ("1 2]", "\"2\" found at value number 1"),
            ("1,]", "\"]\" found"),
            (",1]", "\",\" found"),
            ("1,,2]", "\",\" found"),
            ("\"a\"]", "expected a number"),
            ("true]", "\"true\" found"),
            ("inf]", "\"inf\" found"),
            (".5]", "\".5\" found"),
            ("+1]", "\"+1\" found"),
            ("1.2.3]", "\"1.2.3\" found"),
            (
                "[1,2],[3]]",
                "an array of 1 ends at value number 3, those before are of 2",
            ),
            ("[1],2]", "value number 1 is 1 arrays deep, those before 2"),
            ("1,[2]]", "value number 1 is 2 arrays deep, those before 1"),
            ("[[[[[[[[1]]]]]]]]]", "more than 8 arrays"),
            ("1,2", "it does not end"),
        ] {
            for piece in [1, 3, 100] {
                let e = read(text, piece).unwrap_err();
                assert!(e.contains(what), "{text}: {e}");
            }
        }
        let long = format!("{}]", "1".repeat(1000));
        assert!(read(&long, 64).is_err());
    }

    proptest! {
        #[test]
        fn every_value_comes_back(bits in prop::collection::vec(any::<u32>(), 1..60), piece in 1usize..40) {
            let values: Vec<f32> = bits.into_iter().map(f32::from_bits).collect();
            let text: Vec<String> = values
                .iter()
                .map(|v| if v.is_nan() { "NaN".into() } else if v.is_infinite() {
                    if *v > 0.0 { "Infinity".into() } else { "-Infinity".into() }
                } else { format!("{v:e}") })
                .collect();
            let back = read(&format!("{}]", text.join(",")), piece).unwrap().0;
            for (a, b) in values.iter().zip(&back) {
                prop_assert!(a == b || a.is_nan() && b.is_nan());
            }
        }

        #[test]
        fn any_text_is_an_array_or_an_error(text in "[-0-9eNa,\\[\\] .]{0,40}", piece in 1usize..9) {
            // NaN is no equal of itself.
            let said = |piece| format!("{:?}", read(&text, piece));
            prop_assert_eq!(said(piece), said(1000));
        }
    }
}
