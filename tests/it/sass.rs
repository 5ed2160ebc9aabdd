//! What ptxas makes of the committed PTX: instructions of an element by class, held to a golden table that
//! docs/kernels.md explains.

use crate::support::{cuda, not_run, root, tool};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;
use std::process::Command;
use tq4::lane::cuda::OwnKernel;

const GET_NVDISASM: &str =
    "pip install nvidia-cuda-nvdisasm==13.5.37, and set TQ4_NVDISASM to its bin/nvdisasm";

/// The pipe that a class of instructions takes, and how they begin. The first that fits counts.
const CLASSES: [(&str, &[&str]); 8] = [
    ("fp32", &["FADD", "FMUL", "FFMA"]),
    ("imad", &["IMAD"]),
    ("shfl", &["SHFL"]),
    (
        "alu",
        &[
            "LOP", "SHF", "PRMT", "IADD", "VIADD", "LEA", "SEL", "FSEL", "MOV", "ISETP", "PLOP",
            "F2FP", "SGXT", "IMNMX", "VIMNMX", "SHL", "SHR", "CS2R",
        ],
    ),
    ("lds", &["LDS", "STS"]),
    ("ldg", &["LDG"]),
    ("stg", &["STG"]),
    ("other", &[""]),
];

/// One instruction: what stands behind `/*0010*/`.
struct Instruction<'a> {
    operation: &'a str,
    text: &'a str,
}

/// A kernel's text: labels and instructions.
enum Line<'a> {
    Label(&'a str),
    Instruction(Instruction<'a>),
}

/// The kernels in nvdisasm's text.
fn kernels(text: &str) -> BTreeMap<&str, Vec<Line<'_>>> {
    let mut all = BTreeMap::<&str, Vec<Line<'_>>>::new();
    let mut kernel = None;
    for line in text.lines() {
        if let Some(section) = line.trim().strip_prefix(".section\t") {
            let name = section.trim().strip_prefix(".text.");
            kernel = name.map(|n| n.split([',', '\t']).next().unwrap());
            continue;
        }
        let Some(name) = kernel else { continue };
        let lines = all.entry(name).or_default();
        if let Some(label) = line.strip_suffix(':').filter(|l| l.starts_with(".L")) {
            lines.push(Line::Label(label));
        } else if let Some((_, text)) = line
            .trim()
            .strip_prefix("/*")
            .and_then(|l| l.split_once("*/"))
        {
            let mut words = text.split_whitespace();
            let operation = words.find(|w| !w.starts_with('@') && *w != "{");
            if let Some(operation) = operation.filter(|w| w.starts_with(char::is_uppercase)) {
                lines.push(Line::Instruction(Instruction { operation, text }));
            }
        }
    }
    all
}

/// The instructions of the loop that adds most; of a kernel without one all.
fn turn<'a, 'b>(lines: &'b [Line<'a>]) -> Vec<&'b Instruction<'a>> {
    let within = |from: usize, to: usize| -> Vec<&'b Instruction<'a>> {
        let lines = lines[from..to].iter();
        let instructions = lines.filter_map(|line| match line {
            Line::Instruction(i) => Some(i),
            Line::Label(_) => None,
        });
        instructions.collect()
    };
    let adds = |all: &[&Instruction]| all.iter().filter(|i| i.operation == "FADD").count();
    let loops = lines.iter().enumerate().filter_map(|(at, line)| {
        let Line::Instruction(i) = line else {
            return None;
        };
        let target = i.text.split_once("`(")?.1.split_once(')')?.0;
        let is_target = |l: &Line| matches!(l, Line::Label(label) if *label == target);
        let start = lines[..at].iter().position(is_target)?;
        i.operation
            .starts_with("BRA")
            .then(|| within(start, at + 1))
    });
    let most = loops.max_by_key(|l| adds(l)).filter(|l| adds(l) > 0);
    // Behind the end a branch to itself and NOPs fill up.
    most.unwrap_or_else(|| {
        let mut all = within(0, lines.len());
        let end = all.iter().rposition(|i| i.operation == "EXIT").unwrap();
        all.truncate(end + 1);
        all
    })
}

/// Counts of [`CLASSES`] an element.
fn counts(turn: &[&Instruction], out_size: usize) -> [f64; CLASSES.len()] {
    let mut counts = [0.0; CLASSES.len()];
    let stores = turn
        .iter()
        .filter(|i| i.operation.starts_with("STG.E.128"))
        .count();
    let elements = (stores * 16 / out_size) as f64;
    assert!(elements >= 32.0, "{elements} elements are stored");
    for instruction in turn {
        let fits = |(_, begin): &(&str, &[&str])| {
            begin.iter().any(|b| instruction.operation.starts_with(b))
        };
        counts[CLASSES.iter().position(fits).unwrap()] += 1.0 / elements;
    }
    counts
}

fn disassemble(ptxas: &Path, nvdisasm: &Path, own: OwnKernel, arch: &str) -> String {
    let cubin = tempfile::NamedTempFile::new().unwrap();
    let ptx = cuda::path(own).with_extension("ptx");
    cuda::run(
        Command::new(ptxas)
            .args(["-arch", arch, "-o"])
            .arg(cubin.path())
            .arg(ptx),
    );
    cuda::run(Command::new(nvdisasm).arg(cubin.path()))
}

#[test]
fn instructions_of_an_element_are_those_of_the_golden_table() {
    let what = "SASS of the CUDA kernels";
    let (Some(ptxas), Some(nvdisasm)) = (
        tool("TQ4_PTXAS", what, cuda::GET_PTXAS),
        tool("TQ4_NVDISASM", what, GET_NVDISASM),
    ) else {
        return;
    };
    let versions = [&ptxas, &nvdisasm].map(|t| cuda::version(t));
    let mut table = format!("ptxas {}, nvdisasm {}\n", versions[0], versions[1]);
    let columns = CLASSES.map(|(name, _)| format!("{name:>6}")).concat();
    writeln!(table, "{:<6} {:<35}  total{columns}", "arch", "entry point").unwrap();
    let mut on_sm_90 = BTreeMap::new();
    for (own, arch) in cuda::ARCHITECTURES {
        let text = disassemble(&ptxas, &nvdisasm, own, arch);
        let kernels = kernels(&text);
        let listed = cuda::entry_points(own).into_iter();
        for entry in listed.filter(|entry| cuda::is_listed(own, entry)) {
            let out_size = if entry.ends_with("_f32") { 4 } else { 2 };
            let counts = counts(&turn(&kernels[entry.as_str()]), out_size);
            let total: f64 = counts.iter().sum();
            let columns = counts.map(|n| format!("{n:6.2}")).concat();
            writeln!(table, "{arch:<6} {entry:<35} {total:6.2}{columns}").unwrap();
            if arch == "sm_90" {
                on_sm_90.insert(entry, total);
            }
        }
    }
    for (entry, most) in [("b4_g128_bf16", 17.5), ("b4_g128_bf16_pairs", 14.5)] {
        let found = on_sm_90[&format!("tq4_dequant_sm80_{entry}")];
        assert!(found <= most, "{found} instructions an element of {entry}");
    }
    let golden = root().join("tests/golden/sass.txt");
    if std::env::var_os("TQ4_UPDATE_GOLDEN").is_some_and(|v| !v.is_empty()) {
        std::fs::write(&golden, &table).unwrap();
    }
    let expected = std::fs::read_to_string(&golden).unwrap();
    if expected.lines().next() != table.lines().next() {
        let found = table.lines().next().unwrap();
        not_run(&format!("SASS counts (found {found})"), GET_NVDISASM);
        return;
    }
    assert_eq!(
        table, expected,
        "look at the change, then accept it with TQ4_UPDATE_GOLDEN=1"
    );
}
