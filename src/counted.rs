//! Counts in words.

use std::fmt::Display;

/// `1 tensor`, `3 tensors`: a count with the noun of one of its things.
pub(crate) fn counted<N: Display + PartialEq + From<u8>>(count: N, one: &str) -> String {
    let s = if count == N::from(1) { "" } else { "s" };
    format!("{count} {one}{s}")
}

/// `is` or `are`, for so many things.
pub(crate) fn are<N: PartialEq + From<u8>>(count: N) -> &'static str {
    if count == N::from(1) { "is" } else { "are" }
}

/// `5`, `3 to 5`: the first of a run and its last.
pub(crate) fn run([first, last]: [usize; 2]) -> String {
    if first == last {
        first.to_string()
    } else {
        format!("{first} to {last}")
    }
}

/// `every 2nd`, `every 7th`: the words for a step.
pub(crate) fn every(step: usize) -> String {
    let end = match (step % 10, step % 100) {
        (_, 11..=13) => "th",
        (1, _) => "st",
        (2, _) => "nd",
        (3, _) => "rd",
        _ => "th",
    };
    format!("every {step}{end}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_not_many() {
        assert_eq!(counted(1, "tensor"), "1 tensor");
        assert_eq!(
            [counted(0u64, "row"), counted(2usize, "row")],
            ["0 rows", "2 rows"]
        );
        assert_eq!([are(1), are(2)], ["is", "are"]);
        let steps = [2, 3, 4, 11, 12, 13, 21, 22, 101, 112].map(every);
        let ends = steps.map(|s| s[s.len() - 2..].to_owned());
        assert_eq!(
            ends,
            ["nd", "rd", "th", "th", "th", "th", "st", "nd", "st", "th"]
        );
    }
}
