//! The worst elements, as CSV.

use crate::error::{Error, Result};
use crate::metrics::{Values, rel};

/// Elements that the file lists.
const WORST: usize = 128;

/// One tensor's outputs, by lane.
pub struct Outputs<'a> {
    /// The tensor, without `.weight`.
    pub base: &'a str,
    /// First row.
    pub row_start: usize,
    /// Elements per row.
    pub cols: usize,
    /// Lanes in column order, each with its values.
    pub lanes: Vec<(String, Values<'a>)>,
    /// Pairs `(lhs, rhs)` of indices into `lanes` whose difference ranks the elements.
    pub ranked: Vec<(usize, usize)>,
}

/// The worst 128 elements by `|lhs - rhs|` over all ranked pairs, a NaN before all others: rank,
/// tensor, row, col, every lane's value, then the pair's abs and rel.
///
/// # Errors
/// When a record cannot be written.
pub fn top_errors(outputs: &Outputs<'_>, rank_header: bool, out: &mut Vec<u8>) -> Result<()> {
    let mut worst: Vec<(f32, usize, usize)> = Vec::new();
    for (pair, &(l, r)) in outputs.ranked.iter().enumerate() {
        let (lhs, rhs) = (outputs.lanes[l].1, outputs.lanes[r].1);
        let mut floor = f32::NEG_INFINITY;
        for i in 0..lhs.len() {
            let diff = (lhs.get(i) - rhs.get(i)).abs();
            let key = if diff.is_nan() { f32::INFINITY } else { diff };
            if key > floor {
                worst.push((key, i, pair));
                if worst.len() >= 16 * WORST {
                    keep_worst(&mut worst);
                    floor = worst.get(WORST - 1).map_or(floor, |w| w.0);
                }
            }
        }
        keep_worst(&mut worst);
    }
    let mut writer = ::csv::Writer::from_writer(out);
    let failed =
        |e: ::csv::Error| Error::input(format!("cannot write CSV: {e}"), "--top-errors", "");
    if rank_header {
        let mut header: Vec<String> = ["rank", "tensor", "row", "col"].map(String::from).into();
        header.extend(outputs.lanes.iter().map(|(name, _)| text_cell(name)));
        header.extend(["lhs", "rhs", "abs", "rel"].map(String::from));
        writer.write_record(&header).map_err(failed)?;
    }
    for (rank, &(_, i, pair)) in worst.iter().enumerate() {
        let (l, r) = outputs.ranked[pair];
        let (a, b) = (outputs.lanes[l].1.get(i), outputs.lanes[r].1.get(i));
        let mut record = vec![
            (rank + 1).to_string(),
            text_cell(outputs.base),
            (outputs.row_start + i / outputs.cols).to_string(),
            (i % outputs.cols).to_string(),
        ];
        record.extend(outputs.lanes.iter().map(|(_, v)| v.get(i).to_string()));
        record.extend([l, r].map(|lane| text_cell(&outputs.lanes[lane].0)));
        record.push((a - b).abs().to_string());
        record.push(rel(a, b).to_string());
        writer.write_record(&record).map_err(failed)?;
    }
    writer.flush().map_err(|e| failed(e.into()))
}

/// A name as a cell: text that a spreadsheet would take for a formula gets an apostrophe before it.
pub(crate) fn text_cell(text: &str) -> String {
    let formula = text.starts_with(['=', '+', '-', '@', '\t', '\r', '\n']);
    format!("{}{text}", if formula { "'" } else { "" })
}

fn keep_worst(worst: &mut Vec<(f32, usize, usize)>) {
    worst.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    // An element that differs in several pairs is listed once, under its worst.
    let mut seen = std::collections::HashSet::new();
    worst.retain(|w| seen.insert(w.1));
    worst.truncate(WORST);
}
