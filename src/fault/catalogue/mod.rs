//! The catalogue: tables with every fault that can be named, by what a kernel gets wrong.

mod codes;
mod output;
mod scales;
mod signs;
mod transform;

use super::pipeline::Pipeline;
use crate::record::OutputType;
use crate::tensor::TqTensor;
use std::sync::LazyLock;

/// A fault: all that is known of it. `{}` in a text stands for the fault's number, `{strides}` for the
/// strides in it; a number in a name stands at its end.
struct FaultEntry {
    name: &'static str,
    /// Numbers with which the fault is tried on such a tensor: none where it cannot differ from a correct
    /// kernel. A diagnosis fits others to the output. Without a number in the name it is 1.
    usual: fn(&TqTensor) -> Vec<usize>,
    /// Sets the knobs of the decoder.
    set: fn(&mut Pipeline<'_>, usize),
    /// What is wrong and where to look in a kernel.
    advice: &'static str,
}

const fn row(
    name: &'static str,
    usual: fn(&TqTensor) -> Vec<usize>,
    set: fn(&mut Pipeline<'_>, usize),
    advice: &'static str,
) -> FaultEntry {
    FaultEntry {
        name,
        usual,
        set,
        advice,
    }
}

/// Plainest first: of faults that are the same function on a tensor, the first leads.
static TABLE: LazyLock<Vec<&'static FaultEntry>> = LazyLock::new(|| {
    let tables = [
        output::FILLED,
        transform::TABLE,
        signs::NEGATED,
        codes::TABLE,
        signs::TABLE,
        scales::TABLE,
        output::TABLE,
    ];
    tables.into_iter().flatten().collect()
});

fn one_if(applies: bool) -> Vec<usize> {
    if applies { vec![1] } else { Vec::new() }
}

fn always(_: &TqTensor) -> Vec<usize> {
    one_if(true)
}

fn fitted(_: &TqTensor) -> Vec<usize> {
    one_if(false)
}

fn many_rows(t: &TqTensor) -> Vec<usize> {
    one_if(t.rows() > 1)
}

fn many_groups(t: &TqTensor) -> Vec<usize> {
    one_if(t.groups_per_row() > 1)
}

fn strides(t: &TqTensor) -> Vec<usize> {
    let stages = t.layout().group_size().trailing_zeros();
    (0..stages).map(|s| 1 << s).collect()
}

/// A way in which a kernel is wrong: a row of the catalogue, with its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fault {
    row: usize,
    number: usize,
}

impl Fault {
    /// Every fault that can differ from a correct kernel on a tensor of this layout, plainest first.
    ///
    /// Faults with a number in them stand here with a usual one; a diagnosis fits others to the output.
    pub fn catalogue(tensor: &TqTensor) -> Vec<Self> {
        let rows = TABLE.iter().enumerate();
        rows.flat_map(|(row, r)| {
            (r.usual)(tensor)
                .into_iter()
                .map(move |number| Self { row, number })
        })
        .collect()
    }

    /// The names in the whole catalogue, with braces where a number stands.
    pub fn patterns() -> impl Iterator<Item = &'static str> {
        TABLE.iter().map(|r| r.name)
    }

    /// The one of [`Fault::patterns`] that this is.
    pub fn pattern(self) -> &'static str {
        TABLE[self.row].name
    }

    /// The fault's name, in snake case.
    pub fn name(self) -> String {
        self.spell(self.pattern())
    }

    /// What is wrong and where to look in a kernel.
    pub fn advice(self) -> String {
        self.spell(TABLE[self.row].advice)
    }

    /// The fault with this name on tensors of this layout: the inverse of [`Fault::name`].
    pub fn named(name: &str, tensor: &TqTensor) -> Option<Self> {
        let numbered = TABLE.iter().enumerate().filter_map(|(row, r)| {
            let (before, _) = r.name.split_once('{')?;
            let parts = name.strip_prefix(before)?.split('_');
            let number = parts.map(str::parse::<usize>).sum::<Result<_, _>>().ok()?;
            Some(Self { row, number })
        });
        Self::catalogue(tensor)
            .into_iter()
            .chain(numbered)
            .find(|f| f.name() == name)
    }

    /// The wrong signs of these strides, where they are strides of the transform.
    pub(super) fn signs_of_strides(tensor: &TqTensor, mask: usize) -> Option<Self> {
        Self::of_mask(tensor, "fwht_upper_lane_sign_strides_{strides}", mask)
    }

    /// Codes read at their index XOR a mask.
    pub(super) fn codes_in_order(tensor: &TqTensor, mask: usize) -> Option<Self> {
        Self::of_mask(tensor, "codes_order_xor_{}", mask)
    }

    fn of_mask(tensor: &TqTensor, pattern: &str, number: usize) -> Option<Self> {
        let row = TABLE.iter().position(|r| r.name == pattern)?;
        let inside = 0 < number && number < tensor.layout().group_size();
        inside.then_some(Self { row, number })
    }

    /// Whether a kernel with such outputs can have it: BF16 is not dropped from what is not BF16.
    pub(crate) fn suits(self, tensor: &TqTensor, output: OutputType) -> bool {
        Pipeline::with(tensor, &[self]).rounding.suits(output)
    }

    pub(super) fn set(self, pipeline: &mut Pipeline<'_>) {
        (TABLE[self.row].set)(pipeline, self.number);
    }

    fn spell(self, text: &str) -> String {
        let strides: Vec<String> = (0..usize::BITS)
            .filter(|s| self.number >> s & 1 == 1)
            .map(|s| (1usize << s).to_string())
            .collect();
        text.replace("{strides}", &strides.join("_"))
            .replace("{}", &self.number.to_string())
    }
}
