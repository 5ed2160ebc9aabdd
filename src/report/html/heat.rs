//! Heat maps: one grey PNG as a mask over one colour of the page, so that light and dark both work.

use super::chart::{Area, Axes, Drawn, GRID, SIZE, draw_axes, svg};
use super::plots::{BOTTOM, LEFT};
use crate::picture::{Comparison, Grid, Scatter};
use base64::Engine as _;
use plotters::prelude::*;

/// A heat map and the ends of its scale.
pub struct Heat {
    /// The chart.
    pub svg: String,
    /// Value at which a cell is empty and at which it is full; `None` when every cell is zero.
    pub scale: Option<(f64, f64)>,
    /// Whether a cell holds values that are not finite.
    pub not_finite: bool,
}

/// Stands for the mask's id, which only the page can make unique.
pub const MASK: &str = "@mask@";

/// Grey values as a PNG in a `data:` address.
fn png(cols: usize, rows: usize, grey: &[u8]) -> String {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, cols as u32, rows as u32);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.set_compression(png::Compression::High);
    let written = encoder
        .write_header()
        .and_then(|mut w| w.write_image_data(grey));
    written.expect("an image in memory");
    let text = base64::engine::general_purpose::STANDARD.encode(&bytes);
    format!("data:image/png;base64,{text}")
}

/// `grey` over the rectangle from `corner` (upper left) to `other`, in the colour of heat maps.
fn image(grey: &[u8], cols: usize, rows: usize, corner: (i32, i32), other: (i32, i32)) -> String {
    let place = format!(
        "x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\"",
        corner.0,
        corner.1,
        (other.0 - corner.0).max(1),
        (other.1 - corner.1).max(1)
    );
    let data = png(cols, rows, grey);
    format!(
        "<mask id=\"{MASK}\"><image href=\"{data}\" {place} preserveAspectRatio=\"none\" \
         style=\"image-rendering:pixelated\"/></mask>\
         <rect {place} fill=\"var(--heat)\" mask=\"url(#{MASK})\"/>"
    )
}

/// Puts `heat` under what the chart draws.
pub fn insert(svg: String, heat: &str) -> String {
    match svg.find('>') {
        Some(at) => format!("{}{heat}{}", &svg[..=at], &svg[at + 1..]),
        None => svg,
    }
}

/// Counts of a scatter on a logarithmic scale.
pub fn density(s: &Scatter, corner: (i32, i32), other: (i32, i32)) -> String {
    let most = s.counts.iter().copied().max().unwrap_or(0);
    if most == 0 {
        return String::new();
    }
    let log = |n: u64| (1.0 + n as f64).ln();
    let grey: Vec<u8> = (0..s.rows)
        .rev()
        .flat_map(|y| &s.counts[y * s.cols..(y + 1) * s.cols])
        // A single element stays visible.
        .map(|n| match n {
            0 => 0,
            n => (40.0 + 215.0 * log(*n) / log(most)) as u8,
        })
        .collect();
    image(&grey, s.cols, s.rows, corner, other)
}

/// What runs along the x axis of a heat map.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Across {
    /// Groups of the row.
    Groups(usize),
    /// Positions within the group.
    Positions,
}

/// The heat map of `c` by rows and groups, or by rows and positions within the group.
pub fn map(c: &Comparison, across: Across, row_start: usize, row_count: usize) -> Heat {
    let (grid, total, name) = match across {
        Across::Groups(groups) => (&c.by_group, groups, "group"),
        Across::Positions => (&c.by_position, c.by_position.cols, "position in the group"),
    };
    // Two octaves at least, so that noise does not look like a pattern.
    let scale = grid.range().map(|(low, high)| {
        let (low, high) = (f64::from(low), f64::from(high));
        (low.min(high / 4.0).max(high / 1024.0), high)
    });
    let not_finite = grid.not_finite.iter().any(|n| *n > 0);
    let label = format!(
        "Error of {} against {} by row and {name}: {}",
        c.lhs,
        c.rhs,
        match scale {
            None => "no error in any cell".to_owned(),
            Some((_, high)) => format!("largest cell {high:.3e}"),
        }
    );
    let mut under = String::new();
    let rows = (row_start as f64, (row_start + row_count) as f64);
    let text = svg(SIZE, &label, |area| {
        map_on(area, grid, (total as f64, name), rows, scale, &mut under)
    });
    Heat {
        svg: insert(text, &under),
        scale,
        not_finite,
    }
}

fn map_on(
    area: &Area<'_>,
    grid: &Grid,
    (total, name): (f64, &str),
    rows: (f64, f64),
    scale: Option<(f64, f64)>,
    under: &mut String,
) -> Drawn {
    let mut chart = ChartBuilder::on(area)
        .margin(8)
        .margin_top(12)
        .x_label_area_size(BOTTOM)
        .y_label_area_size(LEFT)
        // The first row is at the top, as in a printed matrix.
        .build_cartesian_2d(0.0..total, rows.1..rows.0)?;
    let whole = |v: &f64| {
        if (v - v.round()).abs() < 1e-6 {
            format!("{v:.0}")
        } else {
            String::new()
        }
    };
    draw_axes(
        &mut chart,
        &Axes {
            x: name,
            y: "row",
            ticks: (8, 6),
            x_tick: &whole,
            y_tick: &whole,
            grid: false,
        },
    )?;
    let plot = chart.plotting_area();
    let corner = plot.map_coordinate(&(0.0, rows.0));
    let other = plot.map_coordinate(&(total, rows.1));
    if let Some((low, high)) = scale {
        let (low, span) = (low.ln(), high.ln() - low.ln());
        let grey: Vec<u8> = grid
            .value
            .iter()
            .map(|v| match *v {
                v if v > 0.0 => {
                    let at = ((f64::from(v).ln() - low) / span).clamp(0.0, 1.0);
                    (25.0 + 230.0 * at) as u8
                }
                _ => 0,
            })
            .collect();
        *under = image(&grey, grid.cols, grid.rows, corner, other);
    }
    *under += &hatch(grid, corner, other);
    chart.draw_series(std::iter::once(Rectangle::new(
        [(0.0, rows.0), (total, rows.1)],
        GRID,
    )))?;
    Ok(())
}

/// Cells with values that are not finite, hatched; neighbours in a row are drawn as one.
fn hatch(grid: &Grid, corner: (i32, i32), other: (i32, i32)) -> String {
    use std::fmt::Write;
    let width = f64::from(other.0 - corner.0) / grid.cols as f64;
    let height = f64::from(other.1 - corner.1) / grid.rows as f64;
    let mut path = String::new();
    for (row, cells) in grid.not_finite.chunks(grid.cols).enumerate() {
        let mut col = 0;
        while col < cells.len() {
            let run = cells[col..].iter().take_while(|n| **n > 0).count();
            if run > 0 {
                let (x, y) = (
                    f64::from(corner.0) + col as f64 * width,
                    f64::from(corner.1) + row as f64 * height,
                );
                let w = run as f64 * width;
                let _ = write!(path, "M{x:.1} {y:.1}h{w:.1}v{height:.1}h-{w:.1}z");
            }
            col += run + 1;
        }
    }
    if path.is_empty() {
        return path;
    }
    format!("<path d=\"{path}\" class=\"nan\"/>")
}
