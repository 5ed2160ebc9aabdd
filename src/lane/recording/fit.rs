//! Which tensor values are of, told by their name or by their shape.

use super::values::StoredValues;
use crate::checkpoint::nearest;
use crate::tensor::base_of;
use std::ops::Range;

/// A tensor that a recording may be of.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Name without `.weight`.
    pub base: String,
    /// `[rows, cols]` of the whole tensor.
    pub shape: [usize; 2],
    /// The rows that are asked for.
    pub rows: Range<usize>,
}

/// Values of which the file does not say all.
#[derive(Debug)]
pub(super) struct Loose {
    /// The tensor as the file names it.
    pub(super) name: Option<String>,
    /// Shape as the file has it; `None` where it has none.
    pub(super) shape: Option<Vec<usize>>,
    /// First row, where the file says it.
    pub(super) row_start: Option<usize>,
    /// Why these values cannot be compared, for those that are asked for.
    pub(super) values: Result<StoredValues, String>,
}

/// Rows of a tensor that values are.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Placed {
    pub(super) base: String,
    pub(super) rows: Range<usize>,
    pub(super) cols: usize,
}

impl Loose {
    /// Whether its name is that of a tensor in a model, this or another.
    fn is_of_a_module(&self) -> bool {
        self.name
            .as_deref()
            .is_some_and(|name| base_of(name).contains('.'))
    }

    /// Number of values, as far as it is known.
    fn elements(&self) -> Option<usize> {
        self.values.as_ref().ok().map(|v| v.elements)
    }

    /// The rows of a tensor that values of this shape are: all, or those that are asked for, or those that
    /// the file says.
    fn rows_of(&self, wanted: &Wanted) -> Option<Range<usize>> {
        let [rows, cols] = wanted.shape;
        let held = match self.shape.as_deref() {
            // Ones in front, as of a batch, change nothing.
            Some([front @ .., last]) if *last == cols => front.iter().product(),
            // A list, flattened.
            Some([all]) if all % cols == 0 => all / cols,
            Some(_) => return None,
            None => self.elements().filter(|n| n % cols == 0)? / cols,
        };
        let start = match self.row_start {
            Some(start) => start,
            None if held == rows => 0,
            None if held == wanted.rows.len() => wanted.rows.start,
            None => return None,
        };
        let end = start.checked_add(held)?;
        (held > 0 && end <= rows).then_some(start..end)
    }

    /// What is there, for an error.
    fn found(&self) -> String {
        match (&self.shape, self.elements()) {
            (Some(shape), _) => format!("shape {shape:?}"),
            (None, Some(n)) => format!("{n} values"),
            (None, None) => "values".into(),
        }
    }

    /// Places the values among the tensors by their shape alone.
    ///
    /// # Errors
    /// What was found and what to do, when none or several have it.
    pub(super) fn by_shape(&self, wanted: &[Wanted]) -> Result<Placed, [String; 2]> {
        let mut fits = wanted.iter().filter_map(|w| Some((w, self.rows_of(w)?)));
        let Some((one, rows)) = fits.next() else {
            return Err(self.no_fit(wanted));
        };
        let others = fits.count();
        if others > 0 {
            return Err([
                format!("{} found, which {} tensors have", self.found(), others + 1),
                "say which tensor it is: ask for one, or give a safetensors file or a dump that names it"
                    .into(),
            ]);
        }
        Ok(Placed {
            base: one.base.clone(),
            rows,
            cols: one.shape[1],
        })
    }

    /// Places values that a file names; `None` where no tensor is called so.
    ///
    /// # Errors
    /// What was found and what to do, when they do not fit that tensor.
    pub(super) fn by_name(&self, wanted: &[Wanted]) -> Option<Result<Placed, [String; 2]>> {
        let name = self.name.as_deref()?;
        let one = wanted.iter().find(|w| w.base == name);
        let one = one.or_else(|| wanted.iter().find(|w| w.base == base_of(name)))?;
        let placed = self.by_shape(std::slice::from_ref(one));
        Some(placed.map_err(|[what, help]| [format!("{name}: {what}"), help]))
    }

    /// No tensor has this shape: the nearest thing that would do.
    fn no_fit(&self, wanted: &[Wanted]) -> [String; 2] {
        let Some(near) = wanted.iter().min_by_key(|w| self.distance(w)) else {
            return ["no tensor is asked for".into(), String::new()];
        };
        let [rows, cols] = near.shape;
        let asked = near.rows.len();
        let expected = match asked == rows {
            true => format!("[{rows}, {cols}]"),
            false => format!("[{asked}, {cols}] for these rows or [{rows}, {cols}] for all"),
        };
        let what = format!(
            "{} found, expected {expected}, as of {}",
            self.found(),
            near.base
        );
        let help = match (self.shape.as_deref(), self.elements()) {
            (Some([k, n]), _) if *k == cols && (*n == rows || *n == asked) => {
                "it is the transpose: write one row after the other"
            }
            (Some([.., last]), _) if *last == cols => {
                "ask for the rows that it holds with --row-start and --row-count"
            }
            (None, Some(n)) if n == 2 * rows * cols || n == 2 * asked * cols => {
                "it is twice as long: are the values f32?"
            }
            (None, Some(n)) if 2 * n == rows * cols || 2 * n == asked * cols => {
                "it is half as long: are the values bf16 or f16?"
            }
            (None, Some(n)) if n % cols == 0 => {
                "ask for the rows that it holds with --row-start and --row-count"
            }
            _ => "give the output for whole rows of this tensor",
        };
        [what, help.into()]
    }

    /// How far a tensor is from having this shape.
    fn distance(&self, wanted: &Wanted) -> (bool, usize) {
        let [rows, cols] = wanted.shape;
        let last = self.shape.as_deref().and_then(<[usize]>::last);
        let elements = self.elements().unwrap_or(0);
        let off = elements
            .abs_diff(rows * cols)
            .min(elements.abs_diff(wanted.rows.len() * cols));
        (last.is_some_and(|last| *last != cols), off)
    }
}

/// Places every piece of a file; those that are named and not asked for are left out.
///
/// # Errors
/// What was found and what to do, when a piece does not fit or none is of a tensor that is asked for.
pub(super) fn place(
    loose: Vec<Loose>,
    wanted: &[Wanted],
) -> Result<Vec<(Placed, StoredValues)>, [String; 2]> {
    let mut placed = Vec::new();
    let alone = loose.len() == 1;
    for piece in &loose {
        let at = match piece.by_name(wanted) {
            Some(at) => at?,
            // The only one in its file and called by no module's path: `y`, `output`.
            None if alone && !piece.is_of_a_module() || piece.name.is_none() => {
                match piece.by_shape(wanted) {
                    Ok(at) => at,
                    Err(e) if piece.name.is_none() => return Err(e),
                    Err(_) => continue,
                }
            }
            None => continue,
        };
        let values = piece.values.clone().map_err(|what| {
            [
                format!("{}: {what}", at.base),
                "write what the kernel wrote: BF16, F16 or F32".into(),
            ]
        })?;
        placed.push((at, values));
    }
    if placed.is_empty() {
        return Err(none_named(&loose, wanted));
    }
    placed.sort_by(|a, b| a.0.base.cmp(&b.0.base));
    let twice = placed.windows(2).find(|p| p[0].0.base == p[1].0.base);
    match twice {
        None => Ok(placed),
        Some(p) => Err([
            format!("two tensors of the file are {}", p[0].0.base),
            "leave one of them out".into(),
        ]),
    }
}

/// No tensor in the file is one that is asked for.
fn none_named(loose: &[Loose], wanted: &[Wanted]) -> [String; 2] {
    let names: Vec<&str> = loose.iter().filter_map(|l| l.name.as_deref()).collect();
    if names.iter().any(|n| n.ends_with(".tq_packed")) {
        return [
            "codes found, expected a kernel's output: it is a TQ4 model".into(),
            "tq4 dequantize writes what a model decodes to".into(),
        ];
    }
    let held = match &names[..] {
        few if few.len() <= 3 => few.join(", "),
        many => {
            let near = wanted
                .first()
                .map(|w| nearest(&w.base, many.iter().copied()));
            format!("{} tensors{}", many.len(), near.unwrap_or_default())
        }
    };
    [
        format!("no tensor that is asked for is in it: it holds {held}"),
        "name each tensor as in the model, BASE or BASE.weight".into(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::OutputType;
    use std::sync::Arc;

    fn wanted(base: &str, rows: usize, cols: usize) -> Wanted {
        Wanted {
            base: base.into(),
            shape: [rows, cols],
            rows: 0..rows,
        }
    }

    fn loose(name: Option<&str>, shape: Option<&[usize]>, elements: usize) -> Loose {
        Loose {
            name: name.map(str::to_owned),
            shape: shape.map(<[usize]>::to_vec),
            row_start: None,
            values: Ok(StoredValues {
                file: Arc::new(tempfile::tempfile().unwrap()),
                start: 0,
                stored: OutputType::Bf16,
                of: OutputType::Bf16,
                elements,
            }),
        }
    }

    fn shaped(name: Option<&str>, shape: &[usize]) -> Loose {
        loose(name, Some(shape), shape.iter().product())
    }

    fn placed(pieces: Vec<Loose>, wanted: &[Wanted]) -> Result<Vec<Placed>, [String; 2]> {
        place(pieces, wanted).map(|all| all.into_iter().map(|(at, _)| at).collect())
    }

    fn at(base: &str, rows: Range<usize>, cols: usize) -> Placed {
        Placed {
            base: base.into(),
            rows,
            cols,
        }
    }

    #[test]
    fn names_come_first_and_shapes_where_there_is_no_name() {
        let all = [wanted("a", 4, 32), wanted("b", 4, 32), wanted("c", 8, 32)];
        let two = vec![
            shaped(Some("b.weight"), &[4, 32]),
            shaped(Some("norm"), &[32]),
        ];
        assert_eq!(placed(two, &all).unwrap(), [at("b", 0..4, 32)]);
        for shape in [&[8, 32][..], &[1, 8, 32], &[2, 4, 32], &[256]] {
            let one = vec![shaped(None, shape)];
            assert_eq!(placed(one, &all).unwrap(), [at("c", 0..8, 32)], "{shape:?}");
        }
        assert_eq!(
            placed(vec![loose(None, None, 256)], &all).unwrap(),
            [at("c", 0..8, 32)]
        );
        // The only tensor of its file may be called anything.
        let one = vec![shaped(Some("out"), &[8, 32])];
        assert_eq!(placed(one, &all).unwrap(), [at("c", 0..8, 32)]);
    }

    #[test]
    fn rows_are_all_or_those_asked_for_or_those_said() {
        let some = [Wanted {
            rows: 2..5,
            ..wanted("a", 8, 32)
        }];
        let rows = |piece| placed(vec![piece], &some).map(|p| p[0].rows.clone());
        assert_eq!(rows(shaped(None, &[3, 32])), Ok(2..5));
        assert_eq!(rows(shaped(None, &[8, 32])), Ok(0..8));
        let said = |start, shape: &[usize]| Loose {
            row_start: Some(start),
            ..shaped(None, shape)
        };
        assert_eq!(rows(said(1, &[6, 32])), Ok(1..7));
        assert!(rows(said(3, &[6, 32])).is_err());
        assert!(rows(shaped(None, &[4, 32])).unwrap_err()[1].contains("--row-start"));
    }

    #[test]
    fn errors_say_what_would_do() {
        let all = [
            wanted("a.up", 4, 32),
            wanted("b.up", 4, 32),
            wanted("c.up", 8, 64),
        ];
        let e = |piece| placed(vec![piece], &all).unwrap_err().join("; ");
        assert!(e(shaped(None, &[4, 32])).contains("which 2 tensors have"));
        assert!(e(shaped(None, &[64, 8])).contains("the transpose"));
        assert!(e(shaped(None, &[8, 65])).contains("expected"));
        assert!(e(loose(None, None, 1024)).contains("are the values f32?"));
        assert!(e(loose(None, None, 64)).contains("bf16 or f16?"));
        assert!(e(shaped(Some("a.upp"), &[8, 65])).contains("it holds a.upp"));
        let many = ["x", "a.upp", "y", "z"].map(|name| shaped(Some(name), &[8, 65]));
        let many = placed(many.into(), &all).unwrap_err();
        assert!(
            many[0].contains("4 tensors; nearest names: a.upp"),
            "{}",
            many[0]
        );
        assert!(e(shaped(Some("a.up"), &[4, 31])).contains("a.up: shape [4, 31] found"));
        let twice = vec![
            shaped(Some("a.up"), &[4, 32]),
            shaped(Some("a.up.weight"), &[4, 32]),
        ];
        assert!(placed(twice, &all).unwrap_err()[0].contains("two tensors"));
        let bad = Loose {
            values: Err("dtype F64 found".into()),
            ..shaped(Some("a.up"), &[4, 32])
        };
        assert!(placed(vec![bad], &all).unwrap_err()[0].contains("F64"));
    }
}
