//! Every fault, or pair of them, that explains an output.

use super::Fault;
use super::matching::{Match, Matcher};
use super::pipeline::Pipeline;
use rayon::prelude::*;

/// Pairs that are held to every element, and elements in all that they are held to: more tell no more.
const PAIRS: usize = 16;
const ELEMENTS: usize = 1 << 28;

/// Every single fault that explains the output, or else every pair that does, plainest first. `alone`:
/// pairs are not tried.
pub(super) fn search(m: &Matcher<'_>, faults: &[Fault], alone: bool) -> Vec<(Vec<Fault>, Match)> {
    let survivors: Vec<Fault> = faults
        .par_iter()
        .copied()
        .chain(orders(m).into_par_iter())
        .filter(|f| m.survives(&[*f]))
        .collect();
    let found = singles(m, &survivors);
    if !found.is_empty() || alone {
        return found;
    }
    let pairs: Vec<[Fault; 2]> = (0..faults.len())
        .flat_map(|a| (a + 1..faults.len()).map(move |b| [faults[a], faults[b]]))
        .collect();
    let mut pairs: Vec<[Fault; 2]> = pairs.into_par_iter().filter(|p| m.survives(p)).collect();
    for pair in pairs.clone() {
        for other in reordered(m, pair) {
            if !pairs.contains(&other) && m.survives(&other) {
                pairs.push(other);
            }
        }
    }
    pairs.truncate((ELEMENTS / m.tensor.elements()).clamp(2, PAIRS));
    let explained = pairs.into_iter().map(|p| (p.to_vec(), m.explains(&p)));
    explained.filter_map(|(f, m)| Some((f, m?))).collect()
}

/// The survivors that explain every element, and what is the same function on every tensor.
fn singles(m: &Matcher<'_>, survivors: &[Fault]) -> Vec<(Vec<Fault>, Match)> {
    let mut found: Vec<(Vec<Fault>, Match)> = Vec::new();
    for fault in survivors {
        if found.iter().any(|(f, _)| *f == [*fault]) {
            continue;
        }
        let Some(matched) = m.explains(&[*fault]) else {
            continue;
        };
        found.push((vec![*fault], matched));
        for same in of_order(m, order_of(m, *fault)) {
            if !found.iter().any(|(f, _)| *f == same) {
                found.push((same, matched));
            }
        }
    }
    found
}

/// Where codes stand in another order and have scales or signs of their own each, that is no change of signs: each
/// order is a fault by itself.
fn orders(m: &Matcher<'_>) -> Vec<Fault> {
    let n = m.tensor.layout().group_size();
    if uniform(m) == n {
        return Vec::new();
    }
    let orders = (1..n).filter_map(|mask| Fault::codes_in_order(m.tensor, mask));
    orders.collect()
}

/// Neighbouring codes that share a scale and signs before the transform.
fn uniform(m: &Matcher<'_>) -> usize {
    let layout = m.tensor.layout();
    match layout.signs_before() {
        Some(_) => 1,
        None => layout.scales().elements,
    }
}

/// The mask by which a fault changes the order of codes, or the signs of the transform: H P = D H for the
/// permutation `index ^ mask` of what goes into the transform and the signs `(-1)^popcount(index & mask)` of
/// what comes out, in every f32. 0 where codes change places that have other scales or signs.
fn order(m: &Matcher<'_>, p: &Pipeline<'_>) -> usize {
    let mask = p.sign_mask ^ p.code_order;
    if mask.max(p.code_order) < uniform(m) {
        mask
    } else {
        0
    }
}

/// The same of a fault by itself.
fn order_of(m: &Matcher<'_>, fault: Fault) -> usize {
    order(m, &Pipeline::with(m.tensor, &[fault]))
}

/// Everything that is this mask: signs, orders, and an order with signs.
fn of_order(m: &Matcher<'_>, mask: usize) -> Vec<Vec<Fault>> {
    if mask == 0 {
        return Vec::new();
    }
    let named: Vec<(Fault, bool, usize)> = Fault::catalogue(m.tensor)
        .into_iter()
        .filter_map(|f| {
            let p = Pipeline::with(m.tensor, &[f]);
            let mask = order(m, &p);
            (mask != 0).then_some((f, p.sign_mask != 0, mask))
        })
        .collect();
    let mut all: Vec<Vec<Fault>> = Vec::new();
    let of_mask = |signs: bool| {
        let same = named.iter().filter(move |n| n.1 == signs && n.2 == mask);
        same.map(|n| vec![n.0])
    };
    all.extend(of_mask(true));
    if all.is_empty() {
        all.extend(Fault::signs_of_strides(m.tensor, mask).map(|f| vec![f]));
    }
    all.extend(of_mask(false));
    all.extend(Fault::codes_in_order(m.tensor, mask).map(|f| vec![f]));
    for (order, _, a) in named.iter().filter(|n| !n.1) {
        for (signs, _, b) in named.iter().filter(|n| n.1) {
            if a ^ b == mask {
                all.push(vec![*order, *signs]);
            }
        }
    }
    all
}

/// The pair with its order or its signs by the other name.
fn reordered(m: &Matcher<'_>, [a, b]: [Fault; 2]) -> Vec<[Fault; 2]> {
    let others = |f: Fault| {
        let all = of_order(m, order_of(m, f)).into_iter();
        all.filter(|same| same.len() == 1).map(|same| same[0])
    };
    let mut pairs: Vec<[Fault; 2]> = others(a).map(|a| [a, b]).collect();
    pairs.extend(others(b).map(|b| [a, b]));
    pairs.retain(|[a, b]| a != b);
    pairs
}
