//! Heat maps: grey PNGs as masks over colours of the page, so that light and dark both work. Every map has one
//! scale: pale up to what is allowed, strong beyond it and full at ten times.

use super::chart::{Area, Axes, Drawn, GRID, SIZE, draw_axes, svg};
use super::plots::{BOTTOM, LEFT};
use crate::picture::{Comparison, Grid, Scatter};
use crate::report::view::short;
use base64::Engine as _;
use plotters::prelude::*;

/// A heat map.
pub struct Heat {
    /// The chart.
    pub svg: String,
    /// Cells in all, and those beyond the limit.
    pub cells: [usize; 2],
    /// Whether a cell holds values that are not finite.
    pub not_finite: bool,
}

/// What 1 on the scale of a heat map is.
#[derive(Clone, Copy, PartialEq)]
pub enum CellLimit {
    /// What each element may be off; a cell shows the element that is furthest off.
    Element,
    /// So much of the rms error over the rms value of a cell.
    Rms(f64),
}

impl CellLimit {
    /// The cells of a grid, as multiples of the limit.
    fn shares(self, grid: &Grid) -> Vec<f32> {
        match self {
            Self::Element => grid.share.clone(),
            Self::Rms(limit) => grid
                .value
                .iter()
                .map(|v| (f64::from(*v) / limit) as f32)
                .collect(),
        }
    }
}

/// Multiple of the limit at which a cell is full.
const FULL: f32 = 10.0;

/// Grey of a cell that is within the limit; 0 beyond it. The style sheet's legend has the same ends.
fn calm(share: f32) -> u8 {
    if share > 1.0 {
        return 0;
    }
    (20.0 + 41.0 * share) as u8
}

/// Grey of a cell that is beyond the limit; 0 within it.
fn beyond(share: f32) -> u8 {
    if share <= 1.0 {
        return 0;
    }
    (128.0 + 127.0 * (share.ln() / FULL.ln()).min(1.0)) as u8
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

/// A rectangle of a chart, from its upper left to its lower right corner.
pub type BinPlace = [(i32, i32); 2];

/// Grey values, `cols` in a row, as the opacity of a colour over a rectangle; `part` tells the masks of one
/// chart apart.
pub fn image(
    grey: &[u8],
    cols: usize,
    [corner, other]: BinPlace,
    colour: &str,
    part: &str,
) -> String {
    let place = format!(
        "x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\"",
        corner.0,
        corner.1,
        (other.0 - corner.0).max(1),
        (other.1 - corner.1).max(1)
    );
    let data = png(cols, grey.len() / cols, grey);
    format!(
        "<mask id=\"{MASK}{part}\"><image href=\"{data}\" {place} preserveAspectRatio=\"none\" \
         style=\"image-rendering:pixelated\"/></mask>\
         <rect {place} fill=\"var({colour})\" mask=\"url(#{MASK}{part})\"/>"
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
pub fn density(s: &Scatter, place: BinPlace) -> String {
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
    image(&grey, s.cols, place, "--heat", "")
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
pub fn map(
    c: &Comparison,
    across: Across,
    limit: CellLimit,
    (row_start, row_count): (usize, usize),
) -> Heat {
    let (grid, total, name) = match across {
        Across::Groups(groups) => (&c.by_group, groups, "group"),
        Across::Positions => (&c.by_position, c.by_position.cols, "position in the group"),
    };
    let shares = limit.shares(grid);
    let cells = [
        shares.len(),
        shares.iter().filter(|share| **share > 1.0).count(),
    ];
    let not_finite = grid.not_finite.iter().filter(|n| **n > 0).count();
    let mut label = format!(
        "Error of {} against {} by row and {name}: {} of {} cells beyond the limit",
        c.lhs, c.rhs, cells[1], cells[0]
    );
    if cells[1] > 0 {
        let largest = shares.iter().copied().fold(0.0, f32::max);
        label += &format!(", the worst {} times", short(largest.into()));
    }
    if not_finite > 0 {
        label += &format!(", {not_finite} with NaN or infinity");
    }
    let mut under = String::new();
    let rows = (row_start as f64, (row_start + row_count) as f64);
    let text = svg(SIZE, &label, |area| {
        map_on(area, grid, (total as f64, name), rows, &shares, &mut under)
    });
    Heat {
        svg: insert(text, &under),
        cells,
        not_finite: not_finite > 0,
    }
}

fn map_on(
    area: &Area<'_>,
    grid: &Grid,
    (total, name): (f64, &str),
    rows: (f64, f64),
    shares: &[f32],
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
            format!("{:.0}", v.round() + 0.0)
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
    let place = [corner, other];
    let grey: Vec<u8> = shares.iter().map(|share| calm(*share)).collect();
    *under = image(&grey, grid.cols, place, "--heat", "");
    if shares.iter().any(|share| *share > 1.0) {
        let grey: Vec<u8> = shares.iter().map(|share| beyond(*share)).collect();
        *under += &image(&grey, grid.cols, place, "--fail", "b");
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

#[cfg(test)]
mod tests {
    use super::{beyond, calm};

    #[test]
    fn a_cell_is_pale_up_to_the_limit_and_strong_beyond_it() {
        for (share, pale, strong) in [
            (0.0, 20, 0),
            (1.0, 61, 0),
            (1.0 + f32::EPSILON, 0, 128),
            (10.0, 0, 255),
            (f32::MAX, 0, 255),
        ] {
            assert_eq!([calm(share), beyond(share)], [pale, strong], "{share}");
        }
        assert!(beyond(2.0) > beyond(1.5) && beyond(9.0) < 255);
    }
}
