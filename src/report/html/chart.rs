//! Charts as SVG text that takes its colours from the page.

use plotters::coord::Shift;
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;

/// Size of a chart in its own units; the page scales it.
pub const SIZE: (u32, u32) = (440, 300);

/// Where a chart is drawn.
pub type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
/// What drawing returns.
pub type Drawn = Result<(), Box<dyn std::error::Error>>;

// plotters draws in fixed colours; each of these stands for a variable of the page's style.
/// Text.
pub const INK: RGBColor = RGBColor(1, 1, 1);
/// Grid lines.
pub const GRID: RGBColor = RGBColor(2, 2, 2);
/// Axis lines.
pub const AXIS: RGBColor = RGBColor(3, 3, 3);
/// The data.
pub const DATA: RGBColor = RGBColor(4, 4, 4);
/// What it is held to.
pub const MODEL: RGBColor = RGBColor(5, 5, 5);
/// What failed.
pub const FAIL: RGBColor = RGBColor(6, 6, 6);
const VARIABLES: [(&str, &str); 6] = [
    ("#010101", "var(--ink)"),
    ("#020202", "var(--grid)"),
    ("#030303", "var(--axis)"),
    ("#040404", "var(--data)"),
    ("#050505", "var(--model)"),
    ("#060606", "var(--fail)"),
];

/// Draws a chart; `label` is what a screen reader says in its place.
///
/// # Panics
/// When `draw` fails, which it can only by a mistake in this program: the text is written to memory.
pub fn svg(size: (u32, u32), label: &str, draw: impl FnOnce(&Area<'_>) -> Drawn) -> String {
    let mut text = String::new();
    {
        let area = SVGBackend::with_string(&mut text, size).into_drawing_area();
        draw(&area).expect("drawing to memory");
        area.present().expect("drawing to memory");
    }
    let (_, body) = text.split_once('>').expect("an svg element");
    let mut body = body.replace(['\n', '\r'], "");
    for (colour, variable) in VARIABLES {
        body = body.replace(colour, variable);
    }
    for default in [
        " opacity=\"1\"",
        " stroke-width=\"1\"",
        " font-family=\"sans-serif\"",
        " stroke=\"none\"",
    ] {
        body = body.replace(default, "");
    }
    format!(
        "<svg viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"{}\">{body}",
        size.0,
        size.1,
        escape(label)
    )
}

/// Text inside an attribute or element.
pub fn escape(text: &str) -> String {
    crate::error::printable(text)
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

/// The axes of a chart with its ticks and names.
pub struct Axes<'a> {
    /// Name of the x axis.
    pub x: &'a str,
    /// Name of the y axis.
    pub y: &'a str,
    /// Ticks wanted on x and y.
    pub ticks: (usize, usize),
    /// Text of a tick on x.
    pub x_tick: &'a dyn Fn(&f64) -> String,
    /// Text of a tick on y.
    pub y_tick: &'a dyn Fn(&f64) -> String,
    /// Whether grid lines are drawn.
    pub grid: bool,
}

/// A chart on linear axes.
pub type Coordinates<'a, 'b> =
    ChartContext<'a, SVGBackend<'b>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;

/// Draws the axes.
pub fn draw_axes(chart: &mut Coordinates<'_, '_>, axes: &Axes<'_>) -> Drawn {
    let font = font();
    let grid = if axes.grid {
        GRID.to_rgba()
    } else {
        TRANSPARENT
    };
    chart
        .configure_mesh()
        .x_desc(axes.x)
        .y_desc(axes.y)
        .x_labels(axes.ticks.0)
        .y_labels(axes.ticks.1)
        .x_label_formatter(axes.x_tick)
        .y_label_formatter(axes.y_tick)
        .label_style(font.clone())
        .axis_desc_style(font)
        .axis_style(AXIS)
        .bold_line_style(grid)
        .light_line_style(TRANSPARENT)
        .draw()?;
    Ok(())
}

/// What all text of a chart is set in; plotters takes 1.24 of what SVG calls the size.
pub fn font() -> TextStyle<'static> {
    ("sans-serif", 15).into_font().color(&INK)
}

/// `2^e` as people write it.
pub fn power_of_two(exponent: f64) -> String {
    power("2", exponent)
}

/// `10^e` as people write it.
pub fn power_of_ten(exponent: f64) -> String {
    power("10", exponent)
}

fn power(base: &str, exponent: f64) -> String {
    let digits = format!("{exponent:.0}");
    let raised: String = digits
        .chars()
        .map(|c| match c {
            '-' => '⁻',
            '1' => '¹',
            '2' => '²',
            '3' => '³',
            '4'..='9' => char::from_u32(0x2070 + c as u32 - '0' as u32).unwrap_or(c),
            _ => '⁰',
        })
        .collect();
    format!("{base}{raised}")
}
