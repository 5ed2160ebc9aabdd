//! The summary of a sweep for people.

use super::record::{Header, PlainRecord, PlainStatus, Summary, SweepOutcome, TensorRecord};
use super::summary::finite;
use crate::error::printable;
use crate::metrics::Metrics;
use crate::report::{LaneReport, Status, Style, lanes_table, table};
use comfy_table::CellAlignment;
use std::collections::HashMap;

/// One line per TQ4 tensor, worst first; then what was wrong with any, the tensors that are not
/// quantised, lanes, totals and the decision.
pub fn text(
    header: &Header,
    tensors: &[TensorRecord],
    plain: &[PlainRecord],
    summary: &Summary,
    style: Style,
) -> String {
    let gap = if style == Style::Markdown {
        "\n\n"
    } else {
        "\n"
    };
    let by_name: HashMap<&str, &TensorRecord> = tensors
        .iter()
        .map(|t| (t.tensor_base.as_str(), t))
        .collect();
    let order = || {
        summary
            .worst_first
            .iter()
            .filter_map(|n| by_name.get(n.as_str()))
    };
    let mut out = String::new();
    if !tensors.is_empty() {
        let head = [
            "tensor",
            "vs source",
            "worst lane",
            "rmse ratio",
            "equal %",
            "ULP",
            "verdict",
        ];
        let mut t = table(style, &head);
        for column in [1, 3, 4, 5] {
            if let Some(c) = t.column_mut(column) {
                c.set_cell_alignment(CellAlignment::Right);
            }
        }
        for tensor in order() {
            t.add_row(row(tensor));
        }
        out += &format!("{t}{gap}\n");
    }
    for tensor in order() {
        let base = printable(&tensor.tensor_base);
        if let Some(e) = &tensor.error {
            out += &format!("{base}: {} ({})", printable(&e.what), printable(&e.place));
            if !e.help.is_empty() {
                out += &format!("; {}", printable(&e.help));
            }
            out += gap;
        }
        for d in &tensor.diagnosis {
            out += &format!("{base}: {}{gap}", printable(&d.summary));
        }
    }
    for p in plain.iter().filter(|p| p.status != PlainStatus::Equal) {
        let reason = p.reason.as_deref().unwrap_or_default();
        out += &format!("{}: {}{gap}", printable(&p.name), printable(reason));
    }
    let lanes = lanes(tensors);
    if !lanes.is_empty() {
        out += &lanes_table(&lanes, style);
    }
    for line in totals(header, summary) {
        out += &line;
        out += gap;
    }
    out += &decision(summary);
    out.push('\n');
    out
}

/// A tensor's line in the table.
pub(crate) fn row(t: &TensorRecord) -> Vec<String> {
    let ratio = |m: &Metrics| format!("{:.5}", m.rmse_over_rhs_rms);
    let source = t.metrics.iter().find(|m| m.lhs == "reference_dequant");
    let worst = t
        .metrics
        .iter()
        .filter(|m| m.rhs == "reference_dequant")
        .max_by(|a, b| finite(a.rmse_over_rhs_rms).total_cmp(&finite(b.rmse_over_rhs_rms)));
    let failed = t.decisions.iter().any(|d| d.passed == Some(false));
    let verdict = if t.error.is_some() {
        "BAD INPUT"
    } else if t.lanes.iter().any(|l| l.status == Status::Failed) {
        "BROKE"
    } else if failed {
        "FAIL"
    } else if t.decisions.iter().any(|d| d.passed == Some(true)) {
        "pass"
    } else {
        "NOT RUN"
    };
    let mut cells = vec![
        printable(&t.tensor_base),
        source.map(ratio).unwrap_or_default(),
    ];
    match worst {
        Some(m) => {
            let equal = 100.0 * m.bit_equal as f64 / m.elements as f64;
            let equal = if m.bit_equal == m.elements {
                "100".into()
            } else {
                // 100 only when every one is.
                format!("{:.3}", (equal * 1000.0).floor() / 1000.0)
            };
            let lane = m.lhs.strip_suffix("_dequant").unwrap_or(&m.lhs);
            cells.extend([printable(lane), ratio(m), equal, m.max_ulp.to_string()]);
        }
        None => cells.extend(vec![String::new(); 4]),
    }
    cells.push(verdict.into());
    cells
}

/// Every lane once, with the worst that became of it.
pub(crate) fn lanes(tensors: &[TensorRecord]) -> Vec<LaneReport> {
    let badness = |s: Status| match s {
        Status::Failed => 3,
        Status::Unavailable => 2,
        Status::Skipped => 1,
        Status::Ran | Status::Recorded => 0,
    };
    let mut lanes: Vec<LaneReport> = Vec::new();
    // A lane that was not tried on bad input is as it was on the other tensors.
    let tried = tensors.iter().filter(|t| t.error.is_none());
    for lane in tried.flat_map(|t| &t.lanes) {
        match lanes.iter_mut().find(|l| l.name == lane.name) {
            Some(seen) if badness(lane.status) > badness(seen.status) => seen.clone_from(lane),
            Some(_) => {}
            None => lanes.push(lane.clone()),
        }
    }
    lanes
}

/// Totals, a line each.
pub(crate) fn totals(header: &Header, s: &Summary) -> Vec<String> {
    let part = if header.partition.count > 1 {
        format!("partition {}, ", header.partition)
    } else {
        String::new()
    };
    let bad = if s.errors > 0 {
        format!(", {} bad input", s.errors)
    } else {
        String::new()
    };
    let mut lines = vec![format!(
        "total: {part}{} tensors{bad}, {} elements, {} bytes",
        s.tensors, s.elements, s.bytes
    )];
    lines.extend(s.lanes.iter().map(|l| {
        let lane = printable(&l.lane);
        format!(
            "{lane}: {} passed, {} failed, {} not run",
            l.passed, l.failed, l.not_run
        )
    }));
    match &s.plain {
        None => lines.push("not quantised: not compared (no source model)".into()),
        Some(_) if header.plain.is_empty() => {}
        Some(p) => lines.push(format!(
            "not quantised: {} as in the source, {} differ, {} only here, {} only in the source",
            p.equal, p.differs, p.only_in_tq4, p.only_in_source
        )),
    }
    lines
}

fn decision(s: &Summary) -> String {
    let total = s.tensors;
    let mut parts: Vec<String> = s
        .lanes
        .iter()
        .map(|l| {
            let base = printable(&l.tensor_base);
            let reason = printable(&l.reason);
            let decision = printable(&l.decision);
            if l.failed > 0 {
                format!(
                    "{decision} ({} of {total} tensors; {base}: {reason})",
                    l.failed
                )
            } else if l.not_run == total {
                format!("{decision} ({reason})")
            } else if l.not_run > 0 {
                format!(
                    "{decision} ({} of {total} tensors; {base}: {reason})",
                    l.not_run
                )
            } else {
                format!("{decision} ({total} of {total} tensors)")
            }
        })
        .collect();
    if parts.is_empty() {
        parts.push("no TQ4 tensor in this partition".into());
    }
    let outcome = match s.outcome {
        SweepOutcome::Passed => "",
        SweepOutcome::Failed => "FAILED: ",
        SweepOutcome::Broke => "BROKE: ",
        SweepOutcome::RequiredLaneMissing => "A REQUIRED LANE DID NOT RUN: ",
    };
    format!("decision: {outcome}{}", parts.join("; "))
}
