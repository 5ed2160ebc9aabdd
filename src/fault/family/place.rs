//! Which rows and groups are wrong, in words.

use super::View;
use crate::counted::every;
pub(in crate::fault) use crate::counted::run;

/// Rows or groups that are listed.
const LISTED: u64 = 8;

/// `row 5`, `rows 3 to 5`.
pub(in crate::fault) fn range(what: &str, [first, last]: [usize; 2]) -> String {
    if first == last {
        format!("{what} {first}")
    } else {
        format!("{what}s {}", run([first, last]))
    }
}

/// Ascending numbers as runs, `[first, last]` each.
pub(in crate::fault) fn runs(of: impl IntoIterator<Item = usize>) -> Vec<[usize; 2]> {
    let mut runs: Vec<[usize; 2]> = Vec::new();
    for i in of {
        match runs.last_mut() {
            Some(run) if run[1] + 1 == i => run[1] = i,
            _ => runs.push([i, i]),
        }
    }
    runs
}

/// `row 5`, `rows 3 to 5 and 9`.
pub(super) fn list(what: &str, runs: &[[usize; 2]]) -> String {
    match runs {
        [one] => range(what, *one),
        [most @ .., last] => {
            let most: Vec<String> = most.iter().map(|r| run(*r)).collect();
            format!("{what}s {} and {}", most.join(", "), run(*last))
        }
        [] => String::new(),
    }
}

/// Numbers in a regular step, of which a list says less: `[first, step]`, where there are enough of them and the
/// step is not 1.
pub(in crate::fault) fn step_of(numbers: &[usize]) -> Option<[usize; 2]> {
    const ENOUGH: usize = 4;
    let [first, second, ..] = *numbers else {
        return None;
    };
    let step = second - first;
    let regular = numbers.windows(2).all(|pair| pair[1] - pair[0] == step);
    (step > 1 && numbers.len() >= ENOUGH && regular).then_some([first, step])
}

/// `every 7th row from 0`, with the last of them where there is room for another among `all`.
pub(in crate::fault) fn in_step(
    what: &str,
    [first, step]: [usize; 2],
    last: usize,
    all: usize,
) -> String {
    let to = match last + step < all {
        true => format!(" to {last}"),
        false => String::new(),
    };
    format!("{} {what} from {first}{to}", every(step))
}

/// Where alone something is wrong: `None` where it is in every group.
pub(super) fn within(view: &View<'_>) -> Option<String> {
    let (n, per_row) = (view.n(), view.tensor.groups_per_row());
    let all = (view.tensor.rows() * per_row) as u64;
    let wrong = view.survey.wrong_groups;
    if wrong == all {
        return None;
    }
    let rows: Vec<usize> = view.wrong_rows().collect();
    let count = rows.len() as u64;
    let in_step = step_of(&rows).map(|step| {
        let last = rows[rows.len() - 1];
        in_step("row", step, last, view.tensor.rows())
    });
    if wrong == count * per_row as u64 {
        return Some(match in_step {
            Some(rows) => format!("in {rows}"),
            None if count > LISTED => "in the wrong rows".into(),
            None => format!("in {}", list("row", &runs(rows))),
        });
    }
    if wrong > LISTED {
        return Some(match in_step {
            Some(rows) => format!("in the wrong groups of {rows}"),
            None if count > LISTED => "in the wrong groups".into(),
            None => format!("in the wrong groups of {}", list("row", &runs(rows))),
        });
    }
    let of_row = |row: &usize| {
        let groups = (0..per_row).filter(|g| view.survey.wrong_group(*row, *g, n));
        format!("{} of row {row}", list("group", &runs(groups)))
    };
    let each: Vec<String> = rows.iter().map(of_row).collect();
    Some(format!("in {}", each.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_told_with_their_last() {
        let text = |of: &[usize]| list("row", &runs(of.iter().copied()));
        assert_eq!(text(&[5]), "row 5");
        assert_eq!(text(&[3, 4, 5]), "rows 3 to 5");
        assert_eq!(text(&[3, 5, 6, 9]), "rows 3, 5 to 6 and 9");
    }

    #[test]
    fn numbers_in_a_regular_step_are_not_listed() {
        assert_eq!(step_of(&[0, 7, 14, 21]), Some([0, 7]));
        for irregular in [&[0, 7, 14][..], &[0, 7, 14, 22], &[3, 4, 5, 6], &[], &[5]] {
            assert_eq!(step_of(irregular), None, "{irregular:?}");
        }
        assert_eq!(in_step("row", [0, 7], 21, 28), "every 7th row from 0");
        assert_eq!(in_step("row", [3, 2], 9, 64), "every 2nd row from 3 to 9");
    }
}
