//! What a program printed: the line of it that says most.

/// The line that names what ended a program: a Python exception's, or a Rust panic's message.
pub fn exception(said: &str) -> Option<&str> {
    let lines: Vec<&str> = said.lines().map(str::trim_end).collect();
    // A traceback of several exceptions ends with the one that ended the program; its frames are set in.
    let start = lines
        .iter()
        .rposition(|l| *l == "Traceback (most recent call last):");
    if let Some(start) = start {
        let mut after = lines[start + 1..].iter();
        return after
            .find(|l| !l.is_empty() && !l.starts_with(char::is_whitespace))
            .copied();
    }
    let panic = |l: &&str| l.starts_with("thread '") && l.contains("panicked at");
    let start = lines.iter().rposition(panic)?;
    lines[start + 1..].iter().find(|l| !l.is_empty()).copied()
}

/// The last line that speaks of an error, else the last.
pub fn telling(said: &str) -> &str {
    let lines = || said.lines().rev().filter(|l| !l.trim().is_empty());
    let bad = |l: &&str| {
        let lower = l.to_lowercase();
        ["error", "fatal", "fault"]
            .iter()
            .any(|w| lower.contains(w))
    };
    lines().find(bad).or(lines().next()).unwrap_or("").trim()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAMES: &str =
        "  File \"a.py\", line 3, in f\n    raise ValueError(\"no\\nshape\")\n    ^^^^^\n";

    #[test]
    fn an_exception_is_told_by_the_line_that_ends_its_last_traceback() {
        let header = "Traceback (most recent call last):\n";
        let first = format!("{header}{FRAMES}KeyError: 'x'");
        let during = "During handling of the above exception, another exception occurred:";
        let both =
            format!("loading\n{first}\n\n{during}\n\n{header}{FRAMES}ValueError: no\nshape\nbye\n");
        for (said, wanted) in [
            (first.as_str(), Some("KeyError: 'x'")),
            (&both, Some("ValueError: no")),
            // Cut off before its exception.
            (&format!("{header}{FRAMES}"), None),
            (
                "x\nthread 'main' (7) panicked at src/main.rs:2:5:\nno shape\nnote: run with",
                Some("no shape"),
            ),
            ("ValueError: no\n", None),
        ] {
            assert_eq!(exception(said), wanted, "{said}");
        }
    }

    #[test]
    fn of_other_words_the_last_error_says_most() {
        for (said, wanted) in [
            (
                "loading\nHIP error: no device\nleaving",
                "HIP error: no device",
            ),
            ("loading\n  leaving\n\n", "leaving"),
            ("Error 1\nerror 2\n", "error 2"),
            ("", ""),
        ] {
            assert_eq!(telling(said), wanted, "{said}");
        }
    }
}
