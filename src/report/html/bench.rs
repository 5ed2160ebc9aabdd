//! The page of a benchmark: what changed since the baseline, then bars with their intervals, the share of the
//! copy bandwidth, sizes, ratios.

use super::Shell;
use super::baseline::Baseline;
use super::bench_plots::{Bar, SizeSeries, bars, sizes};
use super::figures::Chart;
use crate::error::printable;
use crate::record::LaneName;
use crate::record::bench::{Bench, Checked, LaneTimes, Measure, ShapeRecord, Speed};
use crate::report::bench_words::{lanes_timed, measure, over_the_copy};
use crate::report::digits::{figure, measured, rate_interval};
use crate::report::view::{Figure, Look, name};
use crate::report::words::{LaneView, first_line};
use askama::Template;

#[derive(Template)]
#[template(path = "bench.html")]
struct BenchPage {
    shell: Shell,
    lanes: Vec<LaneView>,
    sizes: Vec<Chart>,
    shapes: Vec<ShapeView>,
    baseline: Option<Baseline>,
}

/// One tensor or shape.
struct ShapeView {
    name: String,
    about: String,
    warnings: Vec<String>,
    lanes: Vec<CheckedLane>,
    charts: Vec<Chart>,
    speeds: Vec<SpeedView>,
    ratios: Vec<RatioView>,
}

/// Whether a lane may be timed.
struct CheckedLane {
    lane: String,
    verdict: Look,
    reason: String,
}

/// One series of times.
struct SpeedView {
    lane: String,
    measure: &'static str,
    clock: String,
    figures: Vec<Figure>,
}

/// One lane's speed in another's.
struct RatioView {
    lhs: String,
    rhs: String,
    measure: &'static str,
    figures: [Figure; 3],
}

fn optional(key: &str, value: Option<f64>) -> Figure {
    match value {
        Some(v) => Figure::of(key, v),
        None => Figure {
            key: key.into(),
            text: String::new(),
            full: "null".into(),
        },
    }
}

/// The page of a benchmark's record.
pub fn bench_page(record: &Bench) -> String {
    let tool = &record.tool;
    let page = BenchPage {
        shell: Shell::new(
            "tq4 bench",
            vec![
                ("made by", printable(&tool.version)),
                ("host", printable(&tool.host)),
                ("CPU", printable(&record.host.cpu)),
                ("threads", record.host.threads.to_string()),
                ("memory", format!("{} MiB", record.host.memory >> 20)),
                ("arguments", printable(&tool.command_line.join(" "))),
            ],
        ),
        lanes: lanes_timed(record).iter().map(LaneView::new).collect(),
        sizes: size_sweeps(record),
        shapes: record.shapes.iter().map(shape).collect(),
        baseline: record.comparison.as_ref().map(Baseline::new),
    };
    page.render().expect("writing to memory")
}

/// A rate in the digits that the time's interval carries.
fn rate(key: &str, speed: &Speed, value: Option<f64>) -> Figure {
    match value {
        Some(v) => figure(key, v, rate_interval(speed, v)),
        None => optional(key, None),
    }
}

fn shape(s: &ShapeRecord) -> ShapeView {
    let timed = || {
        s.lanes
            .iter()
            .filter_map(|l| Some((&l.lane, l.times.as_ref()?)))
    };
    let rates = |measures: &'static [Measure], of: fn(&Speed) -> Option<f64>| -> Vec<Bar> {
        timed()
            .flat_map(|(lane, times)| {
                measures.iter().filter_map(move |m| {
                    let speed = times.of(*m)?;
                    let value = of(speed)?;
                    Some(Bar {
                        label: format!("{lane}, {}", measure(*m)),
                        value,
                        interval: rate_interval(speed, value),
                    })
                })
            })
            .collect()
    };
    let chart = |title: &str, caption: &str, rows: Vec<Bar>, reference: Option<f64>| {
        (!rows.is_empty()).then(|| Chart::new(bars(title, &rows, reference), title, caption))
    };
    let ratios: Vec<Bar> = s
        .ratios
        .iter()
        .map(|r| Bar {
            label: format!("{} over {}, {}", r.lhs, r.rhs, measure(r.measure)),
            value: r.speed_ratio,
            interval: r.interval,
        })
        .collect();
    ShapeView {
        name: printable(&s.name),
        about: format!(
            "{} x {}, {} bits, group {}; {} rounds; {:.3} bytes an element at least",
            s.shape[0], s.shape[1], s.bits, s.group_size, s.rounds, s.bytes_per_element
        ),
        warnings: s
            .cut
            .iter()
            .chain(&over_the_copy(s))
            .chain(&s.warnings)
            .map(|w| printable(w))
            .collect(),
        lanes: s.lanes.iter().map(|l| lane_line(l, s.elements)).collect(),
        charts: [
            chart(
                "Percent of the device's own copy bandwidth",
                "bar: median; line across its end: 95 % interval of the median",
                rates(&Measure::DECODING, |s| s.percent_of_copy),
                Some(100.0),
            ),
            chart(
                "GB/s",
                "least bytes of the job over the median time; a copy counts what it reads and writes",
                rates(&Measure::ALL, |s| Some(s.gb_per_s)),
                None,
            ),
            chart(
                "Speed of one lane over another's",
                "over 1: the first is faster; both timed in the same rounds",
                ratios,
                Some(1.0),
            ),
        ]
        .into_iter()
        .flatten()
        .collect(),
        speeds: timed()
            .flat_map(|(lane, times)| {
                Measure::ALL.into_iter().filter_map(|m| {
                    let speed = times.of(m)?;
                    Some(SpeedView {
                        lane: name(lane),
                        measure: measure(m),
                        clock: printable(&speed.clock),
                        figures: [
                            rate("percent_of_copy", speed, speed.percent_of_copy),
                            rate("gb_per_s", speed, Some(speed.gb_per_s)),
                            rate("elements_per_s", speed, speed.elements_per_s),
                        ]
                        .into_iter()
                        .chain(measured("median_s", speed.median_s, speed.interval_s))
                        .chain([figure("mad_s", speed.mad_s, None)])
                        .collect(),
                    })
                })
            })
            .collect(),
        ratios: s
            .ratios
            .iter()
            .map(|r| RatioView {
                lhs: name(&r.lhs),
                rhs: name(&r.rhs),
                measure: measure(r.measure),
                figures: measured("speed_ratio", r.speed_ratio, r.interval),
            })
            .collect(),
    }
}

fn lane_line(l: &LaneTimes, elements: u64) -> CheckedLane {
    CheckedLane {
        lane: name(&l.lane),
        verdict: Look::of_checked(l, elements),
        reason: match (&l.verdict, &l.reason) {
            (_, Some(reason)) => printable(first_line(reason)),
            (Checked::Verified, None) => "verified before it was timed".into(),
            (Checked::Wrong, None) => "its output is wrong: no speed is given".into(),
            (Checked::Broke, None) => "it broke: no speed is given".into(),
        },
    }
}

/// GB/s of the cold kernel and end to end by number of elements, when there are several sizes.
fn size_sweeps(record: &Bench) -> Vec<Chart> {
    let mut elements: Vec<u64> = record.shapes.iter().map(|s| s.elements).collect();
    elements.sort_unstable();
    elements.dedup();
    if elements.len() < 3 {
        return Vec::new();
    }
    let mut names: Vec<&LaneName> = Vec::new();
    for l in record.shapes.iter().flat_map(|s| &s.lanes) {
        if !names.contains(&&l.lane) {
            names.push(&l.lane);
        }
    }
    [Measure::KernelCold, Measure::EndToEnd]
        .map(|m| {
            let series: Vec<SizeSeries> = names
                .iter()
                .map(|name| {
                    let points = record.shapes.iter().filter_map(|s| {
                        let lane = s.lanes.iter().find(|l| l.lane == **name)?;
                        let speed = lane.times.as_ref()?.of(m)?;
                        Some((s.elements as f64, speed.gb_per_s))
                    });
                    let mut points: Vec<(f64, f64)> = points.collect();
                    points.sort_by(|a, b| a.0.total_cmp(&b.0));
                    SizeSeries {
                        name: name.to_string(),
                        points,
                    }
                })
                .filter(|s| !s.points.is_empty())
                .collect();
            let title = format!("GB/s by size, {}", measure(m));
            Chart::new(
                sizes(&title, &series),
                title,
                "a mark of its own shape for each lane",
            )
        })
        .into()
}
