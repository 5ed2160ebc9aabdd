//! What a report says in words, alike in every format: problems, totals, the decision, lanes.

use super::shared::foreign_source;
use super::view::{Figure, name};
use crate::counted::counted;
use crate::error::printable;
use crate::record::{
    Arithmetic, LaneRecord, LaneTotals, PlainStatus, Run, Status, TensorError, TensorRecord,
    Verdict, lanes_once,
};
use std::collections::BTreeMap;

/// The first line of a reason: a compiler's or a program's words go on.
pub fn first_line(reason: &str) -> &str {
    reason.lines().next().unwrap_or_default()
}

/// The lines of a reason that has more than one.
pub fn lines_of(reason: Option<&str>) -> Option<Vec<String>> {
    let lines = reason?.lines().map(|l| printable(l.trim_end()));
    let lines: Vec<String> = lines.filter(|l| !l.is_empty()).collect();
    (lines.len() > 1).then_some(lines)
}

/// What is wrong with a tensor that could not be validated.
pub fn problem(e: &TensorError) -> String {
    let help = if e.help.is_empty() { "" } else { "; " };
    printable(&format!("{} ({}){help}{}", e.what, e.place, e.help))
}

/// What is wrong with a tensor's checkpoint.
pub fn damage(t: &TensorRecord) -> Option<String> {
    let checkpoint = t.checkpoint.as_ref().filter(|c| c.damaged())?;
    Some(format!("checkpoint: {}", printable(&checkpoint.reason)))
}

/// What is wrong with the checkpoint over all tensors.
pub fn checkpoint_problem(run: &Run) -> Option<String> {
    let problem = run.summary.checkpoint.as_ref()?.problem()?;
    Some(foreign_source(run).unwrap_or_else(|| printable(&problem)))
}

/// Tensors that are not quantised and are not the source's, each with the reason.
pub fn plain_problems(run: &Run) -> Vec<(String, String)> {
    let wrong = run.plain.iter();
    let fine = [
        PlainStatus::Equal,
        PlainStatus::Cast,
        PlainStatus::NotDecoded,
    ];
    let wrong = wrong.filter(|p| !fine.contains(&p.status));
    wrong
        .map(|p| {
            let reason = p.reason.as_deref().unwrap_or_default();
            (printable(&p.name), printable(reason))
        })
        .collect()
}

/// The largest difference from the recomputed codebook, when it is more than rounding.
pub fn foreign_codebook(t: &TensorRecord) -> Option<Figure> {
    let max_abs = t.centroids_config_vs_cuda.as_ref()?.max_abs;
    (max_abs > 1e-6).then(|| Figure::of("max_abs", max_abs))
}

/// What is said of it.
pub fn codebook_note(f: &Figure) -> String {
    format!(
        "note: the model's codebook is not Lloyd-Max for this group size (max difference {})",
        f.text
    )
}

/// Rows, columns, bits and group size in one line.
pub fn shape_line(t: &TensorRecord) -> String {
    let (end, cols) = (t.row_start + t.row_count, t.shape[1]);
    let format = match (t.bits, t.group_size) {
        (Some(bits), Some(n)) => format!(", {bits} bits, group {n}"),
        _ => String::new(),
    };
    format!("rows {}..{end}, {cols} columns{format}", t.row_start)
}

/// Totals, a line each; of a few tensors, which are told of one by one, what stands nowhere else.
pub fn totals(run: &Run, few: bool) -> Vec<String> {
    let s = &run.summary;
    let part = match run.model.partition {
        p if p.count > 1 => format!("partition {p}, "),
        _ => String::new(),
    };
    let bad = match s.errors {
        0 => String::new(),
        n => format!(", {n} bad input"),
    };
    let mut lines = vec![format!(
        "total: {part}{}{bad}, {}, {}",
        counted(s.tensors, "tensor"),
        counted(s.elements, "element"),
        counted(s.bytes, "byte")
    )];
    // That a lane ran nowhere stands in the table of lanes.
    let mut ran = run.asked_for();
    ran.retain(|l| l.verdict != Verdict::NotRun || l.not_run < s.tensors);
    lines.extend(ran.into_iter().map(|l| lane_totals(run, l)));
    if few {
        lines.clear();
    }
    match &s.plain {
        Some(p) => {
            let some = |n: u64, what: &str| match n {
                0 => String::new(),
                n => format!(", {n} {what}"),
            };
            lines.push(format!(
                "not quantised: {} as in the source{}{}, {} differ, {} only here, {} only in the source",
                p.equal,
                some(p.cast, "as in the source but for its dtype"),
                some(p.not_decoded, "quantised by another method"),
                p.differs,
                p.only_in_tq4,
                p.only_in_source
            ));
        }
        None if !few && run.model.source.is_none() => {
            lines.push("not quantised: not compared (no source model)".into());
        }
        None => {}
    }
    lines
}

/// A lane that broke with what it, its compiler or its program said, where that has more than one line: its name,
/// then the lines.
pub fn long_reasons(lanes: &[LaneRecord]) -> Vec<(String, Vec<String>)> {
    let long = lanes.iter();
    long.filter_map(|l| Some((name(&l.name), lines_of(l.reason.as_deref())?)))
        .collect()
}

/// What became of a lane's tensors.
fn lane_totals(run: &Run, lane: &LaneTotals) -> String {
    let mut counts: BTreeMap<Verdict, u64> = BTreeMap::new();
    let mut arithmetics: Vec<&str> = Vec::new();
    let decisions = run.tensors.iter().filter_map(|t| t.decision_of(&lane.lane));
    for d in decisions {
        *counts.entry(d.verdict).or_default() += 1;
        let exactness = d
            .exactness
            .as_ref()
            .filter(|_| d.verdict == Verdict::Allowed);
        if let Some(name) = exactness.and_then(|e| e.arithmetic).map(Arithmetic::name)
            && !arithmetics.contains(&name)
        {
            arithmetics.push(name);
        }
    }
    let counts = counts.into_iter().map(|(verdict, count)| {
        let how = match verdict {
            Verdict::Allowed if !arithmetics.is_empty() => format!(" ({})", arithmetics.join(", ")),
            _ => String::new(),
        };
        format!("{count} {}{how}", verdict.word())
    });
    let counts: Vec<String> = counts.collect();
    format!("{}: {}", name(&lane.lane), counts.join(", "))
}

/// The lanes of a table: those that were asked for.
pub fn lanes_shown(run: &Run) -> Vec<LaneRecord> {
    let mut lanes = lanes_once(&run.tensors);
    lanes.retain(|l| run.is_asked_for(&l.name));
    lanes
}

/// Text in a table cell or a line of Markdown: no Markdown of its own, no HTML.
pub fn plain(text: &str) -> String {
    let mut out = String::new();
    for c in printable(text).chars() {
        match c {
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '&' => out += "&amp;",
            '|' | '*' | '`' | '[' | ']' | '\\' | '~' | '#' => {
                out.push('\\');
                out.push(c);
            }
            // Underscores inside a word mean nothing and are in every name.
            _ => out.push(c),
        }
    }
    out
}

/// A lane's device, or why it did not run and what would help.
pub fn lane_line(l: &LaneRecord) -> String {
    let device;
    let reason = l.reason.as_deref().map(|r| first_line(r).to_owned());
    let parts = match &reason {
        Some(_) => [&reason, &l.help, &None, &None],
        None => {
            let api = if l.api.as_deref() == Some("CPU") {
                &None
            } else {
                &l.api
            };
            device = l.device.as_ref().map(|d| match &l.pci {
                Some(pci) => format!("{d} at {pci}"),
                None => d.clone(),
            });
            [&device, api, &l.driver, &l.kernel_variant]
        }
    };
    let apart = if l.reason.is_some() { "; " } else { ", " };
    let parts: Vec<&str> = parts.into_iter().flatten().map(String::as_str).collect();
    let software = match l.software {
        Some(true) if l.reason.is_none() => ", software",
        _ => "",
    };
    printable(&format!("{}{software}{}", parts.join(apart), warning(l)))
}

/// What to know before a lane's results are used, behind what is said of its device.
fn warning(l: &LaneRecord) -> String {
    let warning = l.warning.as_ref();
    warning.map_or_else(String::new, |w| format!("; warning: {w}"))
}

/// One lane on a page.
pub struct LaneView {
    /// Its name.
    pub name: String,
    /// What became of it.
    pub status: &'static str,
    /// Class in the style sheet.
    pub class: &'static str,
    /// Device, or why there is none.
    pub device: String,
    /// Driver and programming interface.
    pub driver: String,
    /// Variant and checksum of the kernel.
    pub kernel: String,
    /// Wall and kernel seconds.
    pub seconds: String,
    /// All lines of the reason, where there are several.
    pub lines: Option<String>,
}

impl LaneView {
    /// The view of a lane.
    pub fn new(l: &LaneRecord) -> Self {
        let join = |parts: [&Option<String>; 2], with: &str| {
            let parts: Vec<&str> = parts.into_iter().flatten().map(String::as_str).collect();
            printable(&parts.join(with))
        };
        let seconds = |s: Option<f64>| s.map(|s| format!("{s:.4} s"));
        Self {
            name: name(&l.name),
            status: l.status.word(),
            class: match l.status {
                Status::Failed => "fail",
                Status::Ran | Status::Recorded => "",
                Status::Unavailable | Status::Skipped => "none",
            },
            device: match (&l.reason, &l.device, l.software) {
                (None, Some(device), Some(true)) => {
                    printable(&format!("{device} (software){}", warning(l)))
                }
                (None, device, _) => printable(&format!(
                    "{}{}",
                    device.as_deref().unwrap_or_default(),
                    warning(l)
                )),
                (Some(_), ..) => lane_line(l),
            },
            driver: join([&l.api, &l.driver], ", "),
            kernel: join([&l.kernel_variant, &l.kernel_checksum], " "),
            seconds: match (seconds(l.seconds), seconds(l.kernel_seconds)) {
                (Some(wall), Some(kernel)) => format!("{wall}, kernel {kernel}"),
                (Some(wall), None) => wall,
                _ => String::new(),
            },
            lines: lines_of(l.reason.as_deref()).map(|lines| lines.join("\n")),
        }
    }
}
