//! A benchmark's record as tables for people.

use super::bench_words::{baseline_sentence, lanes_timed, measure, over_the_copy, sentences};
use super::digits::{milliseconds, percent, rate, with_interval};
use super::sheet::{Cell, Column, Sheet, Style};
use super::table::lanes_table;
use super::view::{Look, name};
use super::words::{first_line, lines_of};
use crate::error::printable;
use crate::record::bench::{
    BaselineDiff, Bench, INTERVAL, LaneTimes, Measure, Ratio, ShapeRecord, Speed, Stopped,
};

/// The whole record: each shape's figures, ratios and warnings, then the lanes.
pub fn text(record: &Bench, style: Style) -> String {
    let mut out = String::new();
    for shape in &record.shapes {
        out += &shape_text(shape, style);
        out += style.blank();
    }
    out += &lanes_table(&lanes_timed(record), style);
    out += &style.paragraph(&format!(
        "host: {}, {} threads, {} GiB",
        printable(&record.host.cpu),
        record.host.threads,
        record.host.memory >> 30
    ));
    out += &style.paragraph(LEGEND);
    if let Some(c) = &record.comparison {
        out += style.blank();
        out += &comparison_text(c, style);
    }
    out
}

/// The results alone: a line for each lane of each shape, then who is faster.
pub fn results(record: &Bench, style: Style) -> String {
    let mut out = String::new();
    for shape in &record.shapes {
        let of_shape = |text: &str| style.paragraph(&format!("{}: {text}", printable(&shape.name)));
        for lane in &shape.lanes {
            let (verdict, lane_name) = (
                Look::of_checked(lane, shape.elements).word,
                name(&lane.lane),
            );
            out += &of_shape(&match (&lane.times, &lane.reason) {
                (Some(t), _) => format!(
                    "{lane_name}: {verdict}, {} ms, {} GB/s",
                    milliseconds(&t.kernel_cold)[0],
                    rate(&t.kernel_cold, t.kernel_cold.gb_per_s)
                ),
                (None, reason) => {
                    format!(
                        "{lane_name}: {verdict}: {}",
                        first_line(reason.as_deref().unwrap_or("not timed"))
                    )
                }
            });
        }
        for sentence in sentences(shape) {
            out += &of_shape(&sentence);
        }
    }
    if let Some(c) = &record.comparison {
        out += &baseline_sentences(c, style);
    }
    out
}

const LEGEND: &str = "\
cold: the kernel after a copy that leaves nothing of it in the caches; warm: again on the same memory; end to \
end: upload, kernel, download, in wall-clock time. Times are milliseconds, the median and the median absolute \
deviation. Gelem/s, GB/s (least bytes over time) and % of copy are those of the cold kernel; copy GB/s: the \
device's own copy bandwidth, bytes read and written.";

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
        Style::Terminal(_) => style.paragraph(&title),
        Style::Markdown => format!("### {title}\n\n"),
    };
    out += &style.paragraph(&format!(
        "least bytes: {} an element (codes {}, scales {}, BF16 2), signs {} once",
        s.bytes_per_element,
        s.bytes_per_element - 2.0 - 2.0 / s.group_size as f64,
        2.0 / s.group_size as f64,
        s.shape[1]
    ));
    for cut in &s.cut {
        out += &style.paragraph(&format!(
            "cut from {} rows: {}",
            s.rows_asked,
            printable(cut)
        ));
    }
    let mut sheet = Sheet::new([
        Column::name("lane"),
        Column::word("output", None),
        Column::needed("cold ms"),
        Column::number("warm ms", 4),
        Column::number("end to end", 3),
        Column::number("Gelem/s", 2),
        Column::number("GB/s", 6),
        Column::number("copy GB/s", 1),
        Column::number("% of copy", 5),
    ]);
    for lane in &s.lanes {
        sheet.row(lane_row(lane, s.elements));
    }
    out += &sheet.text(style);
    for lane in &s.lanes {
        if let Some(reason) = &lane.reason {
            let said = printable(first_line(reason));
            out += &style.paragraph(&format!("{}: {said}", name(&lane.lane)));
            let lines = lines_of(Some(reason)).unwrap_or_default();
            out += &style.verbatim(lines.get(1..).unwrap_or_default());
        }
    }
    for sentence in sentences(s) {
        out += &style.paragraph(&sentence);
    }
    if !s.ratios.is_empty() {
        out += &ratios_sheet(&s.ratios).text(style);
    }
    if let Some(note) = over_the_copy(s) {
        out += &style.paragraph(&format!("note: {note}"));
    }
    for warning in &s.warnings {
        out += &style.paragraph(&format!("warning: {}", printable(warning)));
    }
    out
}

fn lane_row(lane: &LaneTimes, elements: u64) -> Vec<Cell> {
    let verdict = Look::of_checked(lane, elements);
    let mut row: Vec<Cell> = vec![name(&lane.lane).into(), verdict.into()];
    let Some(t) = &lane.times else {
        row.resize(9, "-".into());
        return row;
    };
    let ms = |s: &Speed| {
        let [median, mad] = milliseconds(s);
        format!("{median} ±{mad}").into()
    };
    row.extend([&t.kernel_cold, &t.kernel_warm, &t.end_to_end].map(ms));
    let cold = &t.kernel_cold;
    let or_none = |cell: Option<String>| cell.unwrap_or_else(|| "-".into()).into();
    let billions = cold.elements_per_s.map(|n| n / 1e9);
    row.push(or_none(billions.map(|n| rate(cold, n))));
    row.push(rate(cold, cold.gb_per_s).into());
    row.push(or_none(t.copy.as_ref().map(|c| rate(c, c.gb_per_s))));
    row.push(or_none(cold.percent_of_copy.map(|p| rate(cold, p))));
    row
}

/// One row a pair of lanes: how much faster the first is, with the interval.
fn ratios_sheet(ratios: &[Ratio]) -> Sheet {
    let mut sheet = Sheet::new([
        Column::name("speed ratio"),
        Column::number("cold", 3),
        Column::number("warm", 1),
        Column::number("end to end", 2),
    ]);
    let pair = |r: &Ratio| (r.lhs.clone(), r.rhs.clone());
    let mut pairs: Vec<_> = ratios.iter().map(pair).collect();
    pairs.dedup();
    for (lhs, rhs) in pairs {
        let cell = |m: Measure| -> Cell {
            let mut ratios = ratios.iter();
            let found = ratios.find(|r| r.lhs == lhs && r.rhs == rhs && r.measure == m);
            found
                .map_or_else(String::new, |r| with_interval(r.speed_ratio, r.interval))
                .into()
        };
        let mut row: Vec<Cell> = vec![printable(&format!("{lhs} / {rhs}")).into()];
        row.extend(Measure::DECODING.map(cell));
        sheet.row(row);
    }
    sheet
}

fn baseline_sentences(c: &BaselineDiff, style: Style) -> String {
    let cold = c
        .changes
        .iter()
        .filter(|c| c.measure == Measure::KernelCold);
    cold.map(|change| style.paragraph(&baseline_sentence(change, c)))
        .collect()
}

fn comparison_text(c: &BaselineDiff, style: Style) -> String {
    let mut out = baseline_sentences(c, style);
    if !c.changes.is_empty() {
        let mut sheet = Sheet::new([
            Column::name("against the baseline"),
            Column::needed("speed ratio"),
            Column::word("outcome", None),
        ]);
        for c in &c.changes {
            sheet.row([
                printable(&format!("{} {} {}", c.name, c.lane, measure(c.measure))).into(),
                with_interval(c.speed_ratio, c.interval).into(),
                Look::of_change(c.outcome).into(),
            ]);
        }
        out += &sheet.text(style);
        out += &style.paragraph(&format!("same: within {}", percent(c.tolerance)));
    }
    let notes = c
        .changes
        .iter()
        .flat_map(|c| c.notes.iter().map(|n| format!("{}: {n}", c.lane)));
    let mut seen = std::collections::HashSet::new();
    for note in notes.chain(c.left_out.iter().cloned()) {
        if seen.insert(note.clone()) {
            out += &style.paragraph(&format!("note: {}", printable(&note)));
        }
    }
    out
}
