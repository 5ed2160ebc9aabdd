//! What a header says of tensors, and that they lie in the file side by side.

use super::StockType;
use super::cursor::{Cursor, damaged};
use crate::checkpoint::OpenedFile;
use crate::error::Result;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

/// Most tensors that are read.
const MAX_TENSORS: u64 = 1 << 20;
/// Bytes of the shortest entry: an empty name, a number of dimensions, a type, an offset.
const LEAST_ENTRY: u64 = 8 + 4 + 4 + 8;
/// Most dimensions of a tensor.
const MAX_DIMS: u32 = 4;

/// What a header says of a tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GgufTensorInfo {
    /// Its dimensions, that along which elements are contiguous first.
    pub(crate) dims: Vec<u64>,
    /// Id of its type, whose meaning depends on the program that wrote the file.
    pub(crate) type_id: u32,
    /// Where it starts in the data.
    pub(crate) offset: u64,
    /// Bytes from there to the next tensor or the end of the file: its own, and padding.
    pub(crate) available: u64,
    rows: usize,
    cols: usize,
}

impl GgufTensorInfo {
    /// The tensor as a matrix, `[rows, K]`: the experts of a mixture stand below each other.
    pub(crate) fn shape2(&self) -> [usize; 2] {
        [self.rows, self.cols]
    }

    /// How many elements there are.
    pub(crate) fn elements(&self) -> u64 {
        // Checked when the header was read.
        self.rows as u64 * self.cols as u64
    }
}

/// Checks how many tensors there are said to be.
pub(super) fn check_count(cursor: &Cursor<'_>, count: u64) -> Result<()> {
    cursor.check_count(count, LEAST_ENTRY, &"the number of tensors")?;
    if count > MAX_TENSORS {
        return Err(cursor.damaged(format_args!(
            "the number of tensors is {count}, more than the {MAX_TENSORS} that are read here"
        )));
    }
    Ok(())
}

/// Reads what is said of `count` tensors; how many bytes each has is not known yet.
pub(super) fn read(
    cursor: &mut Cursor<'_>,
    count: u64,
) -> Result<BTreeMap<String, GgufTensorInfo>> {
    let mut tensors = BTreeMap::new();
    for i in 0..count {
        let name = cursor.name(&format_args!("the name of tensor {i}"))?;
        let info = read_one(cursor, &name)?;
        match tensors.entry(name) {
            Entry::Vacant(place) => drop(place.insert(info)),
            Entry::Occupied(there) => {
                let name = there.key();
                return Err(cursor.damaged(format_args!("tensor {name:?} is there twice")));
            }
        }
    }
    Ok(tensors)
}

fn read_one(cursor: &mut Cursor<'_>, name: &str) -> Result<GgufTensorInfo> {
    let what = format_args!("what it says of tensor {name:?}");
    let n_dims = cursor.u32(&what)?;
    if n_dims > MAX_DIMS {
        return Err(cursor.damaged(format_args!(
            "tensor {name:?} has {n_dims} dimensions, expected at most {MAX_DIMS}"
        )));
    }
    let dims = (0..n_dims)
        .map(|_| cursor.u64(&what))
        .collect::<Result<Vec<_>>>()?;
    let [rows, cols] = matrix(&dims)
        .ok_or_else(|| cursor.damaged(format_args!("the shape {dims:?} of {name:?} overflows")))?;
    Ok(GgufTensorInfo {
        dims,
        type_id: cursor.u32(&what)?,
        offset: cursor.u64(&what)?,
        available: 0,
        rows,
        cols,
    })
}

/// Rows and columns, whose product is a length too.
pub(super) fn matrix(dims: &[u64]) -> Option<[usize; 2]> {
    let cols = dims.first().copied().unwrap_or(1);
    let rows = dims
        .iter()
        .skip(1)
        .try_fold(1u64, |n, d| n.checked_mul(*d))?;
    let elements = rows.checked_mul(cols)?;
    isize::try_from(elements).ok()?;
    Some([usize::try_from(rows).ok()?, usize::try_from(cols).ok()?])
}

/// Checks that every tensor starts in the `len` bytes of data at a multiple of `alignment`, that those of
/// stock types end there, and that none overlap; sets the bytes that are there for each.
pub(super) fn lay_out(
    file: &OpenedFile,
    tensors: &mut BTreeMap<String, GgufTensorInfo>,
    len: u64,
    alignment: u64,
) -> Result<()> {
    let mut order: Vec<(&String, &mut GgufTensorInfo)> = tensors.iter_mut().collect();
    // One without elements takes no place: it may start where the next one does.
    order.sort_by_key(|(name, t)| (t.offset, t.elements() != 0, *name));
    let mut next: Option<(&String, u64)> = None;
    for (name, info) in order.into_iter().rev() {
        let offset = info.offset;
        if offset % alignment != 0 {
            return Err(damaged(
                file,
                format_args!("the offset {offset} of {name:?} is no multiple of {alignment}"),
            ));
        }
        let end = next.map_or(len, |(_, start)| start);
        info.available = end.saturating_sub(offset);
        let least = least_bytes(name, info, file)?;
        if offset <= end && least <= info.available {
            next = Some((name, offset));
            continue;
        }
        return Err(damaged(
            file,
            match next {
                Some((next, start)) => format!(
                    "tensors {name:?} and {next:?} overlap: {least} or more bytes from offset {offset} on, \
                     and others from {start} on"
                ),
                None => format!(
                    "tensor {name:?}, {least} or more bytes from offset {offset} on, reaches past the \
                     {len} bytes of data"
                ),
            },
        ));
    }
    Ok(())
}

/// Bytes that a tensor has at least: all of a stock type's, and one of another's.
fn least_bytes(name: &str, info: &GgufTensorInfo, file: &OpenedFile) -> Result<u64> {
    let elements = info.elements();
    let Some(stock) = StockType::of(info.type_id) else {
        return Ok(elements.min(1));
    };
    if !info.cols.is_multiple_of(stock.block as usize) {
        return Err(damaged(
            file,
            format_args!(
                "{name:?} has rows of {}, no multiple of the {} elements of a block of {}",
                info.cols, stock.block, stock.name
            ),
        ));
    }
    let bytes = (elements / stock.block).checked_mul(stock.bytes);
    bytes.ok_or_else(|| damaged(file, format_args!("the size of {name:?} overflows")))
}
