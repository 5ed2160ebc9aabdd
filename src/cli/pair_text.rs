//! The report of `tq4 compare` when no reference takes part.

use serde::Serialize;
use tq4::error::printable;
use tq4::recording::Comparison;
use tq4::report::{LaneReport, Style, Tool, lanes_table, metrics_table};

/// The report when no reference takes part.
#[derive(Serialize)]
pub struct PairReport {
    pub tensors: Vec<Comparison>,
    pub notes: Vec<String>,
    pub lanes: Vec<LaneReport>,
    pub tool: Tool,
}

/// The report for people.
pub fn pair_text(report: &PairReport, style: Style) -> String {
    let mut out = String::new();
    for together in report
        .tensors
        .chunk_by(|a, b| a.tensor_base == b.tensor_base)
    {
        let t = &together[0];
        let title = format!(
            "{}  rows {}..{}, {} columns",
            printable(&t.tensor_base),
            t.row_start,
            t.row_start + t.shape[0],
            t.shape[1]
        );
        out += &match style {
            Style::Terminal => format!("{title}\n"),
            Style::Markdown => format!("### {title}\n\n"),
        };
        let rows: Vec<_> = together
            .iter()
            .map(|t| match t.decision.passed {
                Some(true) => (&t.metrics, "pass"),
                _ => (&t.metrics, "FAIL"),
            })
            .collect();
        out += &format!("{}\n\n", metrics_table(&rows, style));
        for t in together {
            out += &format!(
                "{}: {}\n",
                printable(&t.decision.decision),
                printable(&t.decision.reason)
            );
        }
        out.push('\n');
    }
    out += &lanes_table(&report.lanes, style);
    out += &note_lines(&report.notes);
    let failed = report
        .tensors
        .iter()
        .filter(|t| t.decision.passed != Some(true))
        .count();
    out += &match failed {
        0 => format!("decision: pass ({} comparisons)\n", report.tensors.len()),
        n => format!(
            "decision: FAIL ({n} of {} comparisons)\n",
            report.tensors.len()
        ),
    };
    if failed > 0 {
        out += "for a diagnosis, compare with --tq-model\n";
    }
    out
}

/// One line for each note.
pub fn note_lines(notes: &[String]) -> String {
    notes
        .iter()
        .map(|n| format!("note: {}\n", printable(n)))
        .collect()
}
