//! A benchmark's record as tables for people and as CSV.

use super::csv::cell;
use super::view::name;
use super::{Style, lanes_table, table};
use crate::error::{Error, Result, printable};
use crate::record::bench::{
    BaselineDiff, Bench, Checked, INTERVAL, LaneTimes, Measure, Ratio, ShapeRecord, Speed, Stopped,
};
use comfy_table::{CellAlignment, Table};

/// The whole record: each shape's figures, ratios and warnings, then the lanes.
pub fn text(record: &Bench, style: Style) -> String {
    let mut out = String::new();
    for shape in &record.shapes {
        out += &shape_text(shape, style);
        out.push('\n');
    }
    out += &lanes_table(&record.lanes, style);
    out += &format!(
        "host: {}, {} threads, {} GiB\n",
        printable(&record.host.cpu),
        record.host.threads,
        record.host.memory >> 30
    );
    out += LEGEND;
    if let Some(c) = &record.comparison {
        out += &format!("\n{}", comparison_text(c, style));
    }
    out
}

const LEGEND: &str = "\
cold: the kernel after a copy that leaves nothing of it in the caches; warm: again on the same memory;
end to end: upload, kernel, download, by the wall. Times are milliseconds, the median and the median
absolute deviation. Gelem/s, GB/s (least bytes over time) and % of copy are those of the cold kernel;
copy GB/s: the device's own copy bandwidth, bytes read and written.
";

fn gap(style: Style) -> &'static str {
    // Markdown takes a line right below a table for another row of it.
    match style {
        Style::Terminal => "\n",
        Style::Markdown => "\n\n",
    }
}

fn right_aligned(style: Style, header: &[&str]) -> Table {
    let mut t = table(style, header);
    for i in 1..header.len() {
        if let Some(c) = t.column_mut(i) {
            c.set_cell_alignment(CellAlignment::Right);
        }
    }
    t
}

fn shape_text(s: &ShapeRecord, style: Style) -> String {
    let ended = match s.stopped {
        Stopped::Interval => format!("every interval within {:.0} %", 100.0 * INTERVAL),
        Stopped::TimeLimit => "time limit".into(),
        Stopped::Rounds => "most rounds there are".into(),
        Stopped::NothingToTime => "no lane to time".into(),
    };
    let title = format!(
        "{}  {} x {}, {} bits, group {}: {} rounds ({ended})",
        printable(&s.name),
        s.shape[0],
        s.shape[1],
        s.bits,
        s.group_size,
        s.rounds
    );
    let mut out = match style {
        Style::Terminal => format!("{title}\n"),
        Style::Markdown => format!("### {title}\n\n"),
    };
    out += &format!(
        "least bytes: {} an element (codes {}, scales {}, BF16 2), signs {} once{}",
        s.bytes_per_element,
        s.bytes_per_element - 2.0 - 2.0 / s.group_size as f64,
        2.0 / s.group_size as f64,
        s.shape[1],
        gap(style)
    );
    for cut in &s.cut {
        out += &format!(
            "cut from {} rows: {}{}",
            s.rows_asked,
            printable(cut),
            gap(style)
        );
    }
    let mut t = right_aligned(
        style,
        &[
            "lane",
            "output",
            "cold ms",
            "warm ms",
            "end to end",
            "Gelem/s",
            "GB/s",
            "copy GB/s",
            "% of copy",
        ],
    );
    for lane in &s.lanes {
        t.add_row(lane_row(lane, s.elements));
    }
    out += &format!("{t}{}", gap(style));
    for lane in &s.lanes {
        if let Some(reason) = &lane.reason {
            out += &format!("{}: {}{}", name(&lane.lane), printable(reason), gap(style));
        }
    }
    if !s.ratios.is_empty() {
        out += &format!("{}{}", ratios_table(&s.ratios, style), gap(style));
    }
    for warning in &s.warnings {
        out += &format!("warning: {}{}", printable(warning), gap(style));
    }
    out
}

fn lane_row(lane: &LaneTimes, elements: u64) -> Vec<String> {
    let mut row = vec![name(&lane.lane)];
    row.push(match lane.verdict {
        Checked::Verified if lane.equal == elements => "equal".into(),
        Checked::Verified => "pass".into(),
        Checked::Wrong => "FAIL".into(),
        Checked::Broke => "BROKE".into(),
    });
    let Some(t) = &lane.times else {
        row.resize(9, "-".into());
        return row;
    };
    let ms = |s: &Speed| format!("{} ±{}", digits(s.median_s * 1e3), digits(s.mad_s * 1e3));
    row.extend([&t.kernel_cold, &t.kernel_warm, &t.end_to_end].map(ms));
    let cold = &t.kernel_cold;
    row.push(digits(cold.elements_per_s.unwrap_or(f64::NAN) / 1e9));
    row.push(digits(cold.gb_per_s));
    let or_none = |cell: Option<String>| cell.unwrap_or_else(|| "-".into());
    row.push(or_none(t.copy.as_ref().map(|c| digits(c.gb_per_s))));
    row.push(or_none(cold.percent_of_copy.map(|p| format!("{p:.1}"))));
    row
}

/// One row a pair of lanes: how much faster the first is, with the interval.
fn ratios_table(ratios: &[Ratio], style: Style) -> Table {
    let mut t = right_aligned(style, &["speed ratio", "cold", "warm", "end to end"]);
    for cold in ratios.iter().filter(|r| r.measure == Measure::KernelCold) {
        let cell = |m: Measure| {
            ratios
                .iter()
                .find(|r| r.lhs == cold.lhs && r.rhs == cold.rhs && r.measure == m)
                .map_or_else(String::new, |r| with_interval(r.speed_ratio, r.interval))
        };
        let mut row = vec![printable(&format!("{} / {}", cold.lhs, cold.rhs))];
        row.extend(Measure::DECODING.map(cell));
        t.add_row(row);
    }
    t
}

fn with_interval(value: f64, interval: Option<[f64; 2]>) -> String {
    match interval {
        Some([low, high]) => format!("{} [{}, {}]", digits(value), digits(low), digits(high)),
        None => digits(value),
    }
}

/// Three or four significant digits.
fn digits(v: f64) -> String {
    match v.abs() {
        a if !a.is_finite() => "-".into(),
        a if a >= 100.0 => format!("{v:.0}"),
        a if a >= 10.0 => format!("{v:.1}"),
        a if a >= 1.0 => format!("{v:.2}"),
        a if a >= 0.001 => format!("{v:.4}"),
        0.0 => "0".into(),
        _ => format!("{v:.1e}"),
    }
}

fn comparison_text(c: &BaselineDiff, style: Style) -> String {
    let mut out = String::new();
    if !c.changes.is_empty() {
        let mut t = right_aligned(style, &["against the baseline", "speed ratio", "outcome"]);
        for c in &c.changes {
            t.add_row([
                printable(&format!("{} {} {}", c.name, c.lane, c.measure.name())),
                with_interval(c.speed_ratio, c.interval),
                c.outcome.text().to_owned(),
            ]);
        }
        out += &format!("{t}{}", gap(style));
        out += &format!(
            "same: within {} %{}",
            digits(100.0 * c.tolerance),
            gap(style)
        );
    }
    let notes = c
        .changes
        .iter()
        .flat_map(|c| c.notes.iter().map(|n| format!("{}: {n}", c.lane)));
    let mut seen = std::collections::HashSet::new();
    for note in notes.chain(c.left_out.iter().cloned()) {
        if seen.insert(note.clone()) {
            out += &format!("note: {}{}", printable(&note), gap(style));
        }
    }
    out
}

/// One line for each lane and measure of each shape.
///
/// # Errors
/// When a line cannot be written.
pub fn csv(record: &Bench) -> Result<Vec<u8>> {
    let failed = |e: ::csv::Error| Error::input(format!("cannot write CSV: {e}"), "", "");
    let mut writer = ::csv::Writer::from_writer(Vec::new());
    writer
        .write_record([
            "name",
            "rows",
            "cols",
            "bits",
            "group_size",
            "lane",
            "device",
            "software",
            "verdict",
            "measure",
            "clock",
            "rounds",
            "median_s",
            "mad_s",
            "low_s",
            "high_s",
            "elements_per_s",
            "gb_per_s",
            "copy_gb_per_s",
            "percent_of_copy",
        ])
        .map_err(failed)?;
    for s in &record.shapes {
        for lane in &s.lanes {
            let about = record.lanes.iter().find(|l| l.name == lane.lane);
            let head = [
                cell(&s.name),
                s.shape[0].to_string(),
                s.shape[1].to_string(),
                s.bits.to_string(),
                s.group_size.to_string(),
                cell(&lane.lane.to_string()),
                cell(about.and_then(|l| l.device.as_deref()).unwrap_or_default()),
                about
                    .and_then(|l| l.software)
                    .unwrap_or_default()
                    .to_string(),
                match lane.verdict {
                    Checked::Verified => "verified",
                    Checked::Wrong => "wrong",
                    Checked::Broke => "broke",
                }
                .to_owned(),
            ];
            let Some(times) = &lane.times else {
                let mut row: Vec<String> = head.into();
                row.resize(20, String::new());
                writer.write_record(&row).map_err(failed)?;
                continue;
            };
            for measure in Measure::ALL {
                let Some(speed) = times.of(measure) else {
                    continue;
                };
                let number = |v: Option<f64>| v.map(|v| v.to_string()).unwrap_or_default();
                let mut row: Vec<String> = head.clone().into();
                row.extend([
                    measure.name().to_owned(),
                    cell(&speed.clock),
                    s.rounds.to_string(),
                    speed.median_s.to_string(),
                    speed.mad_s.to_string(),
                    number(speed.interval_s.map(|i| i[0])),
                    number(speed.interval_s.map(|i| i[1])),
                    number(speed.elements_per_s),
                    speed.gb_per_s.to_string(),
                    number(times.copy.as_ref().map(|c| c.gb_per_s)),
                    number(speed.percent_of_copy),
                ]);
                writer.write_record(&row).map_err(failed)?;
            }
        }
    }
    writer
        .into_inner()
        .map_err(|e| Error::input(format!("cannot write CSV: {e}"), "", ""))
}
