//! The worst elements, as CSV.

use crate::error::{Error, Result, printable};
use crate::metrics::{Values, rel};
use crate::record::LaneName;
use std::collections::HashSet;

/// Elements listed of each tensor.
const WORST: usize = 128;

/// Gathers the worst 128 elements of every tensor by `|lhs - rhs|`, a NaN before all others, from pieces
/// of any number of rows.
///
/// The columns are those of the run: rank, tensor, row, col, every lane's value, then the pair of lanes
/// with its abs and rel. A lane without a value for a tensor leaves its cell empty.
#[derive(Debug)]
pub struct TopErrors {
    lanes: Vec<LaneName>,
    tensors: Vec<(String, Vec<RankedElement>)>,
    open: bool,
}

#[derive(Debug, Clone)]
struct RankedElement {
    // Bits of the difference, which sort as it does; the largest of all for NaN.
    key: u32,
    row: usize,
    col: usize,
    pair: (LaneName, LaneName),
    values: Vec<Option<f32>>,
    sides: (f32, f32),
}

/// An element of one piece: key, place in the piece, pair.
type Candidate = (u32, usize, usize);

impl TopErrors {
    /// Nothing gathered yet; `lanes` are all lanes that the run has, in the order of their columns.
    pub fn new(lanes: &[LaneName]) -> Self {
        Self {
            lanes: lanes.to_vec(),
            tensors: Vec::new(),
            open: false,
        }
    }

    /// The next rows of the tensor `base` from `first_row` on, row-major in rows of `cols`, by every lane
    /// that has them. A pair in `ranked` of which one has no values is passed over.
    ///
    /// # Panics
    /// When two lanes differ in length.
    pub fn push(
        &mut self,
        base: &str,
        first_row: usize,
        cols: usize,
        values: &[(LaneName, Values<'_>)],
        ranked: &[(LaneName, LaneName)],
    ) {
        if !self.open {
            self.tensors.push((base.to_owned(), Vec::new()));
            self.open = true;
        }
        let Some((_, worst)) = self.tensors.last_mut() else {
            return;
        };
        let of = |lane: &LaneName| values.iter().find(|(n, _)| n == lane).map(|(_, v)| *v);
        // Rows come in order, so an equal element of an earlier piece stands first.
        let before = worst.get(WORST - 1).map(|e| e.key);
        let mut found: Vec<Candidate> = Vec::new();
        for (pair, (lhs, rhs)) in ranked.iter().enumerate() {
            if let (Some(lhs), Some(rhs)) = (of(lhs), of(rhs)) {
                found.extend(worst_of(lhs, rhs, pair, before));
            }
        }
        // An element that differs in several pairs is listed once, under its worst.
        found.sort_by_key(|(key, at, pair)| (std::cmp::Reverse(*key), *at, *pair));
        let mut seen = HashSet::new();
        found.retain(|(_, at, _)| seen.insert(*at));
        found.truncate(WORST);
        worst.extend(found.into_iter().map(|(key, at, pair)| {
            let side = |lane| of(lane).map_or(f32::NAN, |v| v.get(at));
            let (lhs, rhs) = &ranked[pair];
            RankedElement {
                key,
                row: first_row + at / cols,
                col: at % cols,
                pair: ranked[pair].clone(),
                values: self
                    .lanes
                    .iter()
                    .map(|l| of(l).map(|v| v.get(at)))
                    .collect(),
                sides: (side(lhs), side(rhs)),
            }
        }));
        worst.sort_by_key(|e| (std::cmp::Reverse(e.key), e.row, e.col));
        worst.truncate(WORST);
    }

    /// The tensor is complete; the next [`TopErrors::push`] is of another.
    pub fn end_tensor(&mut self) {
        self.open = false;
    }

    /// The file.
    ///
    /// # Errors
    /// When the text cannot be made.
    pub fn finish(self) -> Result<Vec<u8>> {
        self.write()
            .map_err(|e| Error::input(format!("cannot write CSV: {e}"), "", ""))
    }

    fn write(self) -> std::result::Result<Vec<u8>, csv::Error> {
        let mut to = csv::Writer::from_writer(Vec::new());
        let lane = |l: &LaneName| cell(&l.to_string());
        let mut head: Vec<String> = ["rank", "tensor", "row", "col"].map(String::from).into();
        head.extend(self.lanes.iter().map(lane));
        head.extend(["lhs", "rhs", "abs", "rel"].map(String::from));
        to.write_record(&head)?;
        for (base, worst) in &self.tensors {
            for (rank, e) in worst.iter().enumerate() {
                let place = [rank + 1, e.row, e.col].map(|n| n.to_string());
                let [rank, row, col] = place;
                let mut cells = vec![rank, cell(base), row, col];
                let number = |v: &Option<f32>| v.map_or(String::new(), |v| v.to_string());
                cells.extend(e.values.iter().map(number));
                let (lhs, rhs) = e.sides;
                cells.extend([lane(&e.pair.0), lane(&e.pair.1)]);
                cells.extend([(lhs - rhs).abs(), rel(lhs, rhs)].map(|v| v.to_string()));
                to.write_record(&cells)?;
            }
        }
        to.into_inner()
            .map_err(|e| csv::Error::from(e.into_error()))
    }
}

/// A cell of text that no spreadsheet takes for a formula.
pub(super) fn cell(text: &str) -> String {
    let guard = if text.starts_with(['=', '+', '-', '@', '\t', '\r', '\n']) {
        "'"
    } else {
        ""
    };
    format!("{guard}{}", printable(text))
}

/// The elements of one pair that are further off than `before`, the worst of them.
fn worst_of(lhs: Values<'_>, rhs: Values<'_>, pair: usize, before: Option<u32>) -> Vec<Candidate> {
    assert_eq!(lhs.len(), rhs.len(), "two lanes of the same rows");
    let (mut floor, mut found) = (before, Vec::new());
    let keep = |found: &mut Vec<Candidate>| {
        found.sort_by_key(|(key, at, _)| (std::cmp::Reverse(*key), *at));
        found.truncate(WORST);
    };
    for at in 0..lhs.len() {
        let diff = (lhs.get(at) - rhs.get(at)).abs();
        let key = if diff.is_nan() {
            u32::MAX
        } else {
            diff.to_bits()
        };
        if floor.is_none_or(|floor| key > floor) {
            found.push((key, at, pair));
            if found.len() >= 16 * WORST {
                keep(&mut found);
                floor = floor.max(Some(found[WORST - 1].0));
            }
        }
    }
    keep(&mut found);
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::synthetic::Rng;

    fn table(file: &[u8]) -> Vec<Vec<String>> {
        // Not flexible: a row of another length is an error.
        let mut reader = csv::ReaderBuilder::new()
            .has_headers(false)
            .from_reader(file);
        let rows = reader.records().map(|r| r.expect("no ragged row"));
        rows.map(|r| r.iter().map(String::from).collect()).collect()
    }

    #[test]
    fn rows_have_every_column_whatever_lanes_a_tensor_has() {
        let (r, c, w) = (LaneName::Reference, LaneName::Cuda, LaneName::Wgpu);
        let mine = LaneName::from("=mine");
        let mut top = TopErrors::new(&[r.clone(), c.clone(), w.clone(), mine.clone()]);
        let values: [&[f32]; 3] = [&[1.0, -2.0], &[1.5, f32::NAN], &[f32::INFINITY, -2.0]];
        let [reference, cuda, other] = values.map(Values::F32);
        let ranked = [&c, &w, &mine].map(|l| (l.clone(), r.clone()));
        let lanes = [(r.clone(), reference), (c.clone(), cuda)];
        top.push("@b\u{1b}", 7, 2, &lanes, &ranked);
        top.end_tensor();
        top.push(
            "a",
            0,
            1,
            &[(r, reference), (w, cuda), (mine, other)],
            &ranked,
        );
        top.end_tensor();
        let rows = table(&top.finish().unwrap());
        let heads = "rank,tensor,row,col,reference,cuda,wgpu,'=mine,lhs,rhs,abs,rel";
        assert_eq!(rows[0].join(","), heads);
        let lines: Vec<String> = rows[1..].iter().map(|r| r.join(",")).collect();
        assert_eq!(
            lines,
            [
                "1,'@b\\u{1b},7,1,-2,NaN,,,cuda,reference,NaN,NaN",
                "2,'@b\\u{1b},7,0,1,1.5,,,cuda,reference,0.5,0.5",
                // A NaN before an infinity; each element under its worst pair.
                "1,a,1,0,-2,,NaN,-2,wgpu,reference,NaN,NaN",
                "2,a,0,0,1,,1.5,inf,'=mine,reference,inf,inf",
            ]
        );
    }

    #[test]
    fn pieces_give_the_file_of_the_whole() {
        let (rows, cols) = (300, 64);
        let mut rng = Rng::new(3);
        // Many equal differences, some that are not finite.
        let mut lane = |seed: usize| -> Vec<f32> {
            let value = |i: usize| match (i * 7 + seed) % 5000 {
                0 => f32::NAN,
                1 => f32::INFINITY,
                _ => rng.below(9) as f32 / 8.0,
            };
            (0..rows * cols).map(value).collect()
        };
        let lanes = [lane(0), lane(1), lane(2)];
        let names = [LaneName::Reference, LaneName::Cuda, LaneName::Wgpu];
        let ranked = [1, 2].map(|l| (names[l].clone(), names[0].clone()));
        let file = |piece: usize| {
            let mut top = TopErrors::new(&names);
            for first in (0..rows).step_by(piece) {
                let range = first * cols..(first + piece).min(rows) * cols;
                let part = |l: usize| Values::F32(&lanes[l]).slice(range.clone());
                let values = [0, 1, 2].map(|l| (names[l].clone(), part(l)));
                top.push("t", first, cols, &values, &ranked);
            }
            top.end_tensor();
            top.finish().unwrap()
        };
        let whole = file(rows);
        assert_eq!(table(&whole).len(), 1 + WORST);
        for piece in [1, 7, 64, 299] {
            assert!(file(piece) == whole, "pieces of {piece} rows");
        }
        // By another way: all elements, sorted.
        let mut all: Vec<(bool, f32, usize)> = (0..rows * cols)
            .map(|i| {
                let of = |l: usize| (lanes[l][i] - lanes[0][i]).abs();
                let nan = of(1).is_nan() || of(2).is_nan();
                (nan, of(1).max(of(2)), i)
            })
            .collect();
        all.sort_by(|a, b| {
            b.0.cmp(&a.0)
                .then(match a.0 {
                    true => std::cmp::Ordering::Equal,
                    false => b.1.total_cmp(&a.1),
                })
                .then(a.2.cmp(&b.2))
        });
        for (row, (_, _, at)) in table(&whole)[1..].iter().zip(&all) {
            assert_eq!(
                row[2..4],
                [(at / cols).to_string(), (at % cols).to_string()]
            );
        }
    }
}
