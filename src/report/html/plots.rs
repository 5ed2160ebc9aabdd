//! The charts of one tensor.

use super::chart::{
    Area, Axes, DATA, Drawn, FAIL, GRID, INK, MODEL, SIZE, draw_axes, font, power_of_ten,
    power_of_two, svg,
};
use crate::picture::{CodeUse, Comparison, Normalised, STEP_BINS, Scatter};
use crate::record::LaneName;
use plotters::prelude::*;

/// Room for the numbers left of and under a chart.
pub const LEFT: u32 = 52;
/// See [`LEFT`].
pub const BOTTOM: u32 = 40;

/// Share of a whole in percent, for labels.
fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        0.0
    } else {
        100.0 * part as f64 / whole as f64
    }
}

/// Error against magnitude, with half a BF16 step drawn in.
pub fn scatter(c: &Comparison) -> String {
    let label = format!(
        "Error against magnitude, {} against {}: {} of {} elements have no error",
        c.lhs,
        c.rhs,
        c.scatter.equal.iter().sum::<u64>() + c.scatter.zero_equal,
        c.elements
    );
    let mut heat = String::new();
    let text = svg(SIZE, &label, |area| scatter_on(area, &c.scatter, &mut heat));
    super::heat::insert(text, &heat)
}

fn scatter_on(area: &Area<'_>, s: &Scatter, heat: &mut String) -> Drawn {
    let exponent = |cell: i32| f64::from(cell) / 4.0;
    // Half a BF16 step at 2^e is 2^(e-8): the axis has room for it and for two octaves more.
    let x = (
        exponent(s.x0).floor(),
        exponent(s.x0 + s.cols as i32).ceil(),
    );
    let y = (
        exponent(s.y0).floor().min(x.0 - 9.0),
        exponent(s.y0 + s.rows as i32).ceil().max(x.1 - 7.0),
    );
    let mut chart = ChartBuilder::on(area)
        .margin(8)
        .margin_top(12)
        .x_label_area_size(BOTTOM)
        .y_label_area_size(LEFT)
        .build_cartesian_2d(x.0..x.1, y.0..y.1)?;
    draw_axes(
        &mut chart,
        &Axes {
            x: "magnitude of the value held to",
            y: "error",
            ticks: (6, 6),
            x_tick: &|v| power_of_two(*v),
            y_tick: &|v| power_of_two(*v),
            grid: true,
        },
    )?;
    let plot = chart.plotting_area();
    let at = |x: f64, y: f64| plot.map_coordinate(&(x, y));
    let corner = at(exponent(s.x0), exponent(s.y0 + s.rows as i32));
    let other = at(exponent(s.x0 + s.cols as i32), exponent(s.y0));
    *heat = super::heat::density(s, [corner, other]);
    let octaves = x.0 as i32..x.1 as i32;
    chart.draw_series(LineSeries::new(
        octaves.flat_map(|e| {
            let half_step = f64::from(e) - 8.0;
            [(f64::from(e), half_step), (f64::from(e + 1), half_step)]
        }),
        MODEL.stroke_width(2),
    ))?;
    Ok(())
}

/// Elements by distance in BF16 steps, with the cumulative share.
pub fn steps(c: &Comparison) -> String {
    let label = format!(
        "Distance of {} from {} in BF16 steps: {} of {} elements are equal",
        c.lhs, c.rhs, c.steps[0], c.elements
    );
    // More than a step away is wrong for a kernel; against the source it is what the format costs.
    let far = match LaneName::from(c.rhs.as_str()) {
        LaneName::Source => DATA,
        _ => FAIL,
    };
    svg(SIZE, &label, |area| {
        steps_on(area, &c.steps, c.elements, far)
    })
}

fn steps_on(area: &Area<'_>, steps: &[u64], elements: u64, far: RGBColor) -> Drawn {
    let log = |count: u64| (1.0 + count as f64).log10();
    // Room above 100 %, so that the line does not lie on the frame.
    let top = log(elements).ceil().max(1.0) * 1.04;
    let last = STEP_BINS as f64;
    let mut chart = ChartBuilder::on(area)
        .margin(8)
        .margin_top(12)
        .x_label_area_size(BOTTOM)
        .y_label_area_size(LEFT)
        .right_y_label_area_size(44)
        .build_cartesian_2d(0.0..last, 0.0..top)?
        .set_secondary_coord(0.0..last, 0.0..104.0);
    let font = font();
    chart
        .configure_mesh()
        .x_desc("BF16 steps, up to")
        .y_desc("elements")
        .disable_x_axis()
        .disable_x_mesh()
        .y_labels(5)
        .y_label_formatter(&|v| power_of_ten(*v))
        .label_style(font.clone())
        .axis_desc_style(font.clone())
        .axis_style(super::chart::AXIS)
        .bold_line_style(GRID)
        .light_line_style(TRANSPARENT)
        .draw()?;
    chart
        .configure_secondary_axes()
        .y_desc("cumulative %")
        .y_labels(5)
        .y_label_formatter(&|v| format!("{v:.0}"))
        .label_style(font.clone())
        .axis_desc_style(font.clone())
        .axis_style(super::chart::AXIS)
        .draw()?;
    chart.draw_series(
        steps
            .iter()
            .enumerate()
            .filter(|(_, n)| **n > 0)
            .map(|(bin, count)| {
                let colour = if bin > 1 { far } else { DATA };
                Rectangle::new(
                    [(bin as f64 + 0.1, 0.0), (bin as f64 + 0.9, log(*count))],
                    colour.filled(),
                )
            }),
    )?;
    let mut sum = 0;
    chart.draw_secondary_series(LineSeries::new(
        steps.iter().enumerate().flat_map(|(bin, count)| {
            sum += count;
            let share = percent(sum, elements);
            [(bin as f64, share), (bin as f64 + 1.0, share)]
        }),
        MODEL.stroke_width(2),
    ))?;
    let anchor = font.pos(plotters::style::text_anchor::Pos::new(
        plotters::style::text_anchor::HPos::Center,
        plotters::style::text_anchor::VPos::Top,
    ));
    let base = chart.plotting_area().map_coordinate(&(0.0, 0.0)).1;
    // Every bin that holds a power of four up to its upper end; all would run into each other.
    for bin in [0, 1, 2, 4, 6, 8, 10, 12, 14, 16, 18] {
        let text = match bin {
            0..=2 => bin.to_string(),
            18 => "NaN".into(),
            b => match 1u32 << (b - 1) {
                n if n >= 1024 => format!("{}k", n / 1024),
                n => n.to_string(),
            },
        };
        let x = chart
            .plotting_area()
            .map_coordinate(&(f64::from(bin) + 0.5, 0.0))
            .0;
        area.draw(&Text::new(text, (x, base + 5), anchor.clone()))?;
    }
    Ok(())
}

/// Normalised source values against the density and the codebook.
pub fn normalised(n: &Normalised, codes: &CodeUse) -> String {
    let total: u64 = n.counts.iter().sum::<u64>() + n.outside;
    let bins = n.counts.len();
    let label = format!(
        "Distribution of {total} normalised source values with the density and the {} centroids",
        codes.centroids.len()
    );
    svg(SIZE, &label, |area| {
        let shares: Vec<f64> = n.counts.iter().map(|c| percent(*c, total)).collect();
        let expected = || n.expected.iter().map(|e| 100.0 * e);
        let top = shares.iter().copied().chain(expected()).fold(0.0, f64::max) * 1.08;
        let mut chart = ChartBuilder::on(area)
            .margin(8)
            .margin_top(12)
            .x_label_area_size(BOTTOM)
            .y_label_area_size(LEFT)
            .build_cartesian_2d(-n.limit..n.limit, 0.0..top.max(1e-3))?;
        draw_axes(
            &mut chart,
            &Axes {
                x: "value after signs, transform and division by the norm",
                y: "% of values",
                ticks: (5, 5),
                x_tick: &|v| {
                    if v.abs() < 1e-9 {
                        "0".into()
                    } else {
                        format!("{v:.2}")
                    }
                },
                y_tick: &|v| format!("{v:.1}"),
                grid: true,
            },
        )?;
        let edge = |i: usize| n.limit * (2.0 * i as f64 / bins as f64 - 1.0);
        chart.draw_series(
            shares
                .iter()
                .enumerate()
                .filter(|(_, s)| **s > 0.0)
                .map(|(i, s)| {
                    Rectangle::new([(edge(i), 0.0), (edge(i + 1), *s)], DATA.mix(0.6).filled())
                }),
        )?;
        chart.draw_series(LineSeries::new(
            expected()
                .enumerate()
                .map(|(i, e)| ((edge(i) + edge(i + 1)) / 2.0, e)),
            MODEL.stroke_width(2),
        ))?;
        let inside = |c: &&f32| f64::from(c.abs()) < n.limit;
        chart.draw_series(codes.centroids.iter().filter(inside).map(|c| {
            let x = f64::from(*c);
            PathElement::new(vec![(x, 0.0), (x, top * 0.06)], INK.stroke_width(2))
        }))?;
        Ok(())
    })
}

/// Codes used against what the density predicts.
pub fn codes(c: &CodeUse) -> String {
    let total: u64 = c.counts.iter().sum();
    let label = format!(
        "Share of each of the {} codes, used and predicted",
        c.counts.len()
    );
    svg(SIZE, &label, |area| {
        let shares: Vec<f64> = c.counts.iter().map(|n| percent(*n, total)).collect();
        let top = shares
            .iter()
            .copied()
            .chain(c.expected.iter().map(|e| 100.0 * e))
            .fold(0.0, f64::max)
            * 1.08;
        let mut chart = ChartBuilder::on(area)
            .margin(8)
            .margin_top(12)
            .x_label_area_size(BOTTOM)
            .y_label_area_size(LEFT)
            .build_cartesian_2d(-0.5..c.counts.len() as f64 - 0.5, 0.0..top.max(1e-3))?;
        draw_axes(
            &mut chart,
            &Axes {
                x: "code",
                y: "% of elements",
                ticks: (c.counts.len().min(16), 5),
                x_tick: &|v| format!("{v:.0}"),
                y_tick: &|v| format!("{v:.1}"),
                grid: true,
            },
        )?;
        chart.draw_series(shares.iter().enumerate().map(|(i, s)| {
            let x = i as f64;
            Rectangle::new([(x - 0.38, 0.0), (x + 0.38, *s)], DATA.mix(0.6).filled())
        }))?;
        chart.draw_series(c.expected.iter().enumerate().map(|(i, e)| {
            let (x, y) = (i as f64, 100.0 * e);
            PathElement::new(vec![(x - 0.38, y), (x + 0.38, y)], MODEL.stroke_width(3))
        }))?;
        Ok(())
    })
}
