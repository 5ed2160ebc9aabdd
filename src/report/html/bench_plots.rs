//! The charts of a benchmark.

use super::chart::{
    AXIS, Area, Axes, DATA, Drawn, FAIL, INK, MODEL, SIZE, draw_axes, font, power_of_two, svg,
};
use crate::error::printable;
use crate::report::digits::rounded;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

/// One bar.
pub struct Bar {
    /// What it is of.
    pub label: String,
    /// Its length.
    pub value: f64,
    /// Where the true value lies.
    pub interval: Option<[f64; 2]>,
}

/// One line over sizes.
pub struct SizeSeries {
    /// Name of the lane.
    pub name: String,
    /// Elements and GB/s, by elements.
    pub points: Vec<(f64, f64)>,
}

/// Height of a bar with its label above it.
const BAR: u32 = 40;

/// Bars from the left, each under its label, with their intervals; `reference` is drawn as a line.
pub fn bars(title: &str, rows: &[Bar], reference: Option<f64>) -> String {
    let size = (SIZE.0, 46 + BAR * rows.len() as u32);
    let values: Vec<String> = rows
        .iter()
        .map(|r| format!("{} {}", r.label, rounded(r.value, r.interval)))
        .collect();
    let label = format!("{title}: {}", values.join("; "));
    svg(size, &label, |area| bars_on(area, rows, reference))
}

fn bars_on(area: &Area<'_>, rows: &[Bar], reference: Option<f64>) -> Drawn {
    let high = rows
        .iter()
        .map(|r| r.interval.map_or(r.value, |[_, high]| high.max(r.value)))
        .chain(reference)
        .filter(|v| v.is_finite())
        .fold(0.0, f64::max);
    let high = if high > 0.0 { high * 1.06 } else { 1.0 };
    let n = rows.len() as f64;
    let mut chart = ChartBuilder::on(area)
        .margin(8)
        .margin_left(18)
        .margin_right(24)
        .x_label_area_size(26)
        .build_cartesian_2d(0.0..high, n..0.0)?;
    draw_axes(
        &mut chart,
        &Axes {
            x: "",
            y: "",
            ticks: (6, 0),
            x_tick: &|v| short_tick(*v, high),
            y_tick: &|_| String::new(),
            grid: true,
        },
    )?;
    let plot = chart.plotting_area().clone();
    for (i, row) in rows.iter().enumerate() {
        let (top, bottom) = (i as f64 + 0.48, i as f64 + 0.86);
        let middle = f64::midpoint(top, bottom);
        if row.value.is_finite() {
            let bar = Rectangle::new([(0.0, top), (row.value, bottom)], DATA.mix(0.75).filled());
            plot.draw(&bar)?;
        }
        if let Some([low, high]) = row
            .interval
            .filter(|ends| ends.iter().all(|v| v.is_finite()))
        {
            let line = INK.stroke_width(2);
            plot.draw(&PathElement::new(vec![(low, middle), (high, middle)], line))?;
            for end in [low, high] {
                let tick = vec![(end, middle - 0.14), (end, middle + 0.14)];
                plot.draw(&PathElement::new(tick, line))?;
            }
        }
        let (x, y) = plot.map_coordinate(&(0.0, i as f64 + 0.44));
        let style = font().pos(Pos::new(HPos::Left, VPos::Bottom));
        let text = format!(
            "{}: {}",
            printable(&row.label),
            rounded(row.value, row.interval)
        );
        area.draw(&Text::new(text, (x + 2, y), style))?;
    }
    if let Some(at) = reference.filter(|r| *r <= high) {
        plot.draw(&PathElement::new(
            vec![(at, 0.0), (at, n)],
            MODEL.stroke_width(2),
        ))?;
    }
    Ok(())
}

fn short_tick(v: f64, high: f64) -> String {
    let decimals = (1 - high.log10().floor() as i32).clamp(0, 6) as usize;
    format!("{v:.decimals$}")
}

/// GB/s over the number of elements, a line and a mark of its own shape for each lane.
pub fn sizes(title: &str, series: &[SizeSeries]) -> String {
    let names: Vec<String> = series.iter().map(|s| printable(&s.name)).collect();
    let label = format!("{title}, for {}", names.join(", "));
    svg(SIZE, &label, |area| sizes_on(area, series))
}

fn sizes_on(area: &Area<'_>, series: &[SizeSeries]) -> Drawn {
    let points = || series.iter().flat_map(|s| &s.points);
    let (low, high) = points().fold((f64::MAX, 1.0f64), |(l, h), p| (l.min(p.0), h.max(p.0)));
    let x = (low.min(high).log2().floor(), high.log2().ceil() + 0.01);
    // Room above the lines for the key.
    let room = 1.1 + 0.1 * series.len() as f64;
    let top = points().map(|p| p.1).fold(0.0, f64::max).max(1e-9) * room;
    let mut chart = ChartBuilder::on(area)
        .margin(8)
        .margin_top(12)
        .margin_right(16)
        .x_label_area_size(40)
        .y_label_area_size(60)
        .build_cartesian_2d(x.0..x.1, 0.0..top)?;
    draw_axes(
        &mut chart,
        &Axes {
            x: "elements",
            y: "GB/s",
            ticks: (6, 5),
            x_tick: &|v| power_of_two(*v),
            y_tick: &|v| short_tick(*v, top),
            grid: true,
        },
    )?;
    let colours = [DATA, MODEL, FAIL, AXIS];
    for (i, s) in series.iter().enumerate() {
        let colour = colours[i % colours.len()];
        let line = s.points.iter().map(|p| (p.0.log2(), p.1));
        chart.draw_series(LineSeries::new(line.clone(), colour.stroke_width(2)))?;
        match i % 3 {
            0 => chart
                .draw_series(line.map(|p| Circle::new(p, 4, colour.filled())))
                .map(|_| ())?,
            1 => chart
                .draw_series(line.map(|p| TriangleMarker::new(p, 6, colour.filled())))
                .map(|_| ())?,
            _ => chart
                .draw_series(line.map(|p| Cross::new(p, 5, colour.stroke_width(2))))
                .map(|_| ())?,
        }
        // The key stands in the upper left, a line for each lane, its mark before its name.
        let at = chart.plotting_area().map_coordinate(&(x.0, top));
        let (kx, ky) = (at.0 + 14, at.1 + 12 + 18 * i as i32);
        let mark = (kx, ky);
        match i % 3 {
            0 => area.draw(&Circle::new(mark, 4, colour.filled()))?,
            1 => area.draw(&TriangleMarker::new(mark, 6, colour.filled()))?,
            _ => area.draw(&Cross::new(mark, 5, colour.stroke_width(2)))?,
        }
        let style = font().pos(Pos::new(HPos::Left, VPos::Center));
        area.draw(&Text::new(printable(&s.name), (kx + 10, ky), style))?;
    }
    Ok(())
}
