//! The predictions of docs/kernels.md, made from the golden counts of instructions: a model, not a measurement.

use crate::support::root;
use std::fmt::Write;

/// A card: what its multiprocessors do in a clock, and what it copies.
struct Card {
    name: &'static str,
    arch: &'static str,
    multiprocessors: f64,
    /// Boost clock.
    ghz: f64,
    /// Lanes of the FP32 pipe, and whether integer multiplications take it as well.
    fp32: f64,
    imad: bool,
    /// Bytes read and written by a copy, 10^12 a second.
    copy: f64,
}

const CARDS: [Card; 5] = [
    Card {
        name: "A100 80 GB",
        arch: "sm_80",
        multiprocessors: 108.0,
        ghz: 1.41,
        fp32: 64.0,
        imad: true,
        copy: 1.75,
    },
    Card {
        name: "H100 SXM",
        arch: "sm_90",
        multiprocessors: 132.0,
        ghz: 1.755,
        fp32: 128.0,
        imad: false,
        copy: 3.0,
    },
    Card {
        name: "H200",
        arch: "sm_90",
        multiprocessors: 132.0,
        ghz: 1.755,
        fp32: 128.0,
        imad: false,
        copy: 4.3,
    },
    Card {
        name: "RTX 4090",
        arch: "sm_89",
        multiprocessors: 128.0,
        ghz: 2.52,
        fp32: 128.0,
        imad: false,
        copy: 0.92,
    },
    Card {
        name: "B200",
        arch: "sm_100",
        multiprocessors: 148.0,
        ghz: 1.85,
        fp32: 128.0,
        imad: false,
        copy: 7.2,
    },
];

/// Lanes a clock: instructions issued, integer and conversion, shared memory and shuffles.
const ISSUE: f64 = 128.0;
const ALU: f64 = 64.0;
const SHARED: f64 = 32.0;

/// The share of a pipe that kernels reach, and the most of a copy's rate.
const REACHED: f64 = 0.85;
const MOST: f64 = 0.98;

/// Counts of an element by the golden table's columns.
fn counts(table: &str, arch: &str, entry: &str) -> impl Fn(&str) -> f64 {
    let columns: Vec<&str> = table.lines().nth(1).unwrap().split_whitespace().collect();
    let row = table.lines().find(|line| {
        let mut words = line.split_whitespace();
        words.next() == Some(arch) && words.next() == Some(entry)
    });
    let row: Vec<String> = row.unwrap().split_whitespace().map(str::to_owned).collect();
    // "entry point" is two words of the header.
    let columns: Vec<String> = columns[3..].iter().map(|c| (*c).to_owned()).collect();
    move |name| {
        let at = columns.iter().position(|c| c == name).unwrap();
        row[2 + at].parse().unwrap()
    }
}

/// The table of one output type.
fn predictions(table: &str, output: &str, bytes: f64) -> String {
    let mut text = String::new();
    let entry = format!("tq4_dequant_sm80_b4_g128_{output}");
    writeln!(
        text,
        "| `{output}`, on | issue | FP32 | ALU | shared | binds | % of a copy |"
    )
    .unwrap();
    writeln!(text, "|---|---|---|---|---|---|---|").unwrap();
    for card in &CARDS {
        let of = counts(table, card.arch, &entry);
        // Elements a clock of a multiprocessor that move as many bytes as the copy.
        let needed = card.copy * 1e12 / bytes / card.multiprocessors / (card.ghz * 1e9);
        let fp32 = of("fp32") + if card.imad { of("imad") } else { 0.0 };
        // A lookup of a pair is two words.
        let words = if output.ends_with("pairs") { 2.0 } else { 1.0 };
        let shared = words * of("lds") + of("shfl") + of("ldg") + of("stg");
        let pipes = [
            ("issue", of("total") / ISSUE),
            ("FP32", fp32 / card.fp32),
            ("ALU", of("alu") / ALU),
            ("shared", shared / SHARED),
        ]
        .map(|(name, busy)| (name, busy * needed));
        let (name, most) = pipes.iter().max_by(|a, b| a.1.total_cmp(&b.1)).unwrap();
        let of_copy = (REACHED / most).min(MOST);
        let binds = if REACHED / most > MOST {
            "memory"
        } else {
            name
        };
        let busy = pipes
            .map(|(_, busy)| format!("{:.0}", 100.0 * busy))
            .join(" | ");
        writeln!(
            text,
            "| {} | {busy} | {binds} | {:.0} |",
            card.name,
            100.0 * of_copy
        )
        .unwrap();
    }
    text
}

#[test]
fn the_predictions_are_the_models() {
    let table = std::fs::read_to_string(root().join("tests/golden/sass.txt")).unwrap();
    let made = [("bf16", 2.0), ("bf16_pairs", 2.0), ("f32", 4.0)]
        .map(|(output, size)| predictions(&table, output, 0.5 + 2.0 / 128.0 + size))
        .join("\n");
    let path = root().join("docs/kernels.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = page.split_once("<!-- model -->\n").unwrap();
    let (found, after) = rest.split_once("<!-- end of model -->").unwrap();
    if std::env::var_os("TQ4_UPDATE_GOLDEN").is_some_and(|v| !v.is_empty()) {
        let page = format!("{before}<!-- model -->\n{made}<!-- end of model -->{after}");
        std::fs::write(&path, page).unwrap();
        return;
    }
    assert_eq!(
        found, made,
        "look at the change, then accept it with TQ4_UPDATE_GOLDEN=1"
    );
}
