//! From where each index comes to a rule that says so.

/// A rule for indices below `len`.
pub(super) struct Rule {
    pub(super) text: String,
    pub(super) from: Box<dyn Fn(usize) -> usize + Send + Sync>,
}

impl Rule {
    fn new(text: String, from: impl Fn(usize) -> usize + Send + Sync + 'static) -> Self {
        Self {
            text: format!("got[i] = expected[{text}]"),
            from: Box::new(from),
        }
    }

    /// Where each of the first indices comes from, where no formula fits.
    pub(super) fn table(from: Vec<usize>) -> Self {
        const SHOWN: usize = 16;
        let first: Vec<String> = from.iter().take(SHOWN).map(usize::to_string).collect();
        let more = if from.len() > SHOWN { ", ..." } else { "" };
        Self {
            text: format!("got[i] = expected[t[i]], t = {}{more}", first.join(", ")),
            from: Box::new(move |i| from[i]),
        }
    }
}

/// The rules that are tried, plainest first; `widths` are those of matrices whose transposition is tried.
fn rules(len: usize, widths: &[usize]) -> impl Iterator<Item = Rule> {
    let bits = len.next_power_of_two().trailing_zeros();
    let power = len > 1 && len.is_power_of_two();
    let xor = (1..len.next_power_of_two()).map(|m| Rule::new(format!("i ^ {m}"), move |i| i ^ m));
    let plus =
        (1..len).map(move |k| Rule::new(format!("(i + {k}) mod {len}"), move |i| (i + k) % len));
    let back = Rule::new(format!("{} - i", len - 1), move |i| len - 1 - i);
    let transposed = widths
        .iter()
        .copied()
        .filter(move |w| 1 < *w && *w < len && len.is_multiple_of(*w))
        .map(move |w| {
            let h = len / w;
            Rule::new(format!("(i mod {w}) * {h} + i / {w}"), move |i| {
                i % w * h + i / w
            })
        })
        .collect::<Vec<_>>();
    let reversed = power.then(|| {
        Rule::new("i with its bits in reverse".into(), move |i| {
            i.reverse_bits() >> (usize::BITS - bits)
        })
    });
    // Only an odd factor reaches every index of a power of two.
    let times = (3..len)
        .step_by(2)
        .filter(move |_| power)
        .map(move |k| Rule::new(format!("i * {k} mod {len}"), move |i| i * k % len));
    let modulo = (1..len).map(|k| Rule::new(format!("i mod {k}"), move |i| i % k));
    let halved = [2, 4, 8].map(|k| Rule::new(format!("i / {k}"), move |i| i / k));
    let down = [2, 4, 8, 16, 32].map(|k| Rule::new(format!("i - i mod {k}"), move |i| i - i % k));
    xor.chain([back])
        .chain(transposed)
        .chain(reversed)
        .chain(halved)
        .chain(down)
        .chain(plus)
        .chain(times)
        .chain(modulo)
}

/// The first rule by which every one of these indices may come from where it does.
pub(super) fn find(
    len: usize,
    widths: &[usize],
    indices: impl Iterator<Item = usize> + Clone,
    may: impl Fn(usize, usize) -> bool,
) -> Option<Rule> {
    rules(len, widths).find(|rule| {
        indices.clone().all(|i| {
            let from = (rule.from)(i);
            from < len && may(i, from)
        })
    })
}
