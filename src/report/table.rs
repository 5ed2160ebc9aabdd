//! Tables for people, in a terminal or in Markdown.

use super::{LaneReport, Status, TensorReport};
use crate::error::printable;
use crate::metrics::{Metrics, Quantiles};
use comfy_table::{CellAlignment, ColumnConstraint, ContentArrangement, LineStyle, Table, presets};

/// Where the table is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// A terminal of 100 columns.
    Terminal,
    /// A pull request or a job summary.
    Markdown,
}

/// Columns that tables are set for.
const WIDTH: u16 = 100;

/// An empty table with a header.
pub fn table(style: Style, header: &[&str]) -> Table {
    let mut t = Table::new();
    match style {
        Style::Terminal => {
            t.load_style(presets::NOTHING.header_separator(LineStyle::none().fill('─')));
            t.set_content_arrangement(ContentArrangement::Dynamic);
            t.set_width(WIDTH);
        }
        Style::Markdown => {
            t.load_style(presets::ASCII_MARKDOWN);
        }
    }
    t.set_header(header.iter().copied());
    // Names are not broken: they are copied and searched for.
    if let Some(names) = t.column_mut(0) {
        names.set_constraint(ColumnConstraint::ContentWidth);
    }
    t
}

/// Five decimals, or three significant digits where those do not fit.
pub(super) fn short(v: f64) -> String {
    if v.is_nan() {
        "NaN".into()
    } else if v == 0.0 {
        "0".into()
    } else if (1e-3..1e4).contains(&v.abs()) {
        format!("{v:.5}")
    } else {
        format!("{v:.2e}")
    }
}

/// Share of equal elements; 100 only when every one is.
pub(super) fn percent(m: &Metrics) -> String {
    let p = 100.0 * m.bit_equal as f64 / m.elements as f64;
    if m.bit_equal == m.elements {
        "100".into()
    } else {
        format!("{:.3}", (p * 1000.0).floor() / 1000.0)
    }
}

/// A lane's name without what the published keys add to it.
pub(super) fn plain(lane: &str) -> &str {
    lane.strip_suffix("_dequant")
        .unwrap_or(if lane == "bf16_source" {
            "source"
        } else {
            lane
        })
}

/// A sentence or two, wrapped where a terminal reads it.
fn paragraph(text: &str, style: Style) -> String {
    match style {
        Style::Terminal => textwrap::fill(
            text,
            textwrap::Options::new(WIDTH.into()).subsequent_indent("  "),
        ),
        Style::Markdown => text.to_owned(),
    }
}

/// Comparisons, each with its verdict.
pub fn metrics_table(rows: &[(&Metrics, &str)], style: Style) -> Table {
    let mut table = table(
        style,
        &[
            "comparison",
            "rmse ratio",
            "max abs",
            "p99 rel",
            "bit-equal %",
            "max ULP",
            "verdict",
        ],
    );
    for column in 1..6 {
        if let Some(c) = table.column_mut(column) {
            c.set_cell_alignment(CellAlignment::Right);
        }
    }
    for (m, verdict) in rows {
        let about = match m.quantiles {
            Quantiles::Exact => "",
            Quantiles::Sketch => "~",
        };
        table.add_row([
            printable(&format!("{} vs {}", plain(&m.lhs), plain(&m.rhs))),
            short(m.rmse_over_rhs_rms),
            short(m.max_abs),
            format!("{about}{}", short(m.rel_p99)),
            percent(m),
            m.max_ulp.to_string(),
            (*verdict).to_owned(),
        ]);
    }
    table
}

/// The comparisons of one tensor: a title line and a table.
pub fn tensor_table(t: &TensorReport, style: Style) -> String {
    let mut rows = Vec::new();
    for m in &t.metrics {
        let verdict = if m.rhs == "reference_dequant" {
            match t
                .decisions
                .iter()
                .find(|d| d.lane == plain(&m.lhs))
                .and_then(|d| d.passed)
            {
                Some(true) => "pass",
                Some(false) => "FAIL",
                None => "",
            }
        } else {
            ""
        };
        rows.push((m, verdict));
    }
    let table = metrics_table(&rows, style);
    let title = format!(
        "{}  rows {}..{}, {} columns, {} bits, group {}",
        printable(&t.tensor_base),
        t.row_start,
        t.row_start + t.row_count,
        t.shape[1],
        t.bits,
        t.group_size
    );
    let title = match style {
        Style::Terminal => title,
        Style::Markdown => format!("### {title}\n"),
    };
    // Markdown takes a line right below a table for another row of it.
    let gap = if style == Style::Markdown {
        "\n\n"
    } else {
        "\n"
    };
    let codebook = if t.centroids_config_vs_cuda.max_abs > 1e-6 {
        format!(
            "{gap}note: the model's codebook is not Lloyd-Max for this group size (max difference {})",
            short(t.centroids_config_vs_cuda.max_abs)
        )
    } else {
        String::new()
    };
    let body = if t.metrics.is_empty() {
        "nothing to compare: only the reference ran".to_owned()
    } else {
        table.to_string()
    };
    let diagnosis: String = t
        .diagnosis
        .iter()
        .map(|d| format!("{gap}{}", paragraph(&printable(&d.summary()), style)))
        .collect();
    format!("{title}\n{body}{codebook}{diagnosis}\n")
}

/// What became of a lane, and its device or why there is none.
pub(super) fn lane_device(lane: &LaneReport) -> (&'static str, String) {
    let status = match lane.status {
        Status::Ran => "ran",
        Status::Recorded => "recorded",
        Status::Unavailable => "NOT RUN",
        Status::Failed => "FAILED",
        Status::Skipped => "skipped",
    };
    let mut device = match (&lane.device, &lane.reason) {
        (_, Some(reason)) => reason.clone(),
        (Some(device), None) => device.clone(),
        (None, None) => String::new(),
    };
    if let (Some(api), None) = (&lane.api, &lane.reason)
        && !api.is_empty()
        && api != "CPU"
    {
        device += &format!(", {api}");
    }
    if let (Some(driver), None) = (&lane.driver, &lane.reason)
        && !driver.is_empty()
    {
        device += &format!(", {driver}");
    }
    if let (Some(variant), None) = (&lane.kernel_variant, &lane.reason) {
        device += &format!(", {variant}");
    }
    if lane.software == Some(true) {
        device += ", software";
    }
    if let Some(help) = &lane.help {
        device += &format!("; {help}");
    }
    (status, device)
}

/// Every lane and what became of it.
pub fn lanes_table(lanes: &[LaneReport], style: Style) -> String {
    let mut table = table(style, &["lane", "status", "device"]);
    for lane in lanes {
        let (status, device) = lane_device(lane);
        table.add_row([printable(&lane.name), status.to_owned(), printable(&device)]);
    }
    let gap = if style == Style::Markdown {
        "\n\n"
    } else {
        "\n"
    };
    format!("{table}{gap}")
}
