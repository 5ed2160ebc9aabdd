//! `tq4 dequantize`: a plain BF16 model from a TQ4 model.

use super::console::Console;
use super::lanes::DeviceArgs;
use super::model::ModelArgs;
use super::progress::{earlier, json, size};
use super::{Exit, OutputFormat, print, tell};
use crate::convert::{self, Dequantized};
use crate::counted::{are, counted};
use crate::error::{Result, printable};
use crate::record::LaneName;
use crate::report::{Column, Sheet, Style, count_of};
use std::path::PathBuf;

#[derive(clap::Args)]
pub struct Args {
    /// Quantised model: a directory, or a GGUF file
    #[arg(long, value_name = "PATH")]
    tq_model: PathBuf,
    #[command(flatten)]
    model: ModelArgs,
    /// New directory for the plain model; a stopped run is resumed, a finished one is left as it is
    #[arg(long, value_name = "DIR")]
    output: PathBuf,
    /// Lane that decodes: reference, cuda or wgpu
    #[arg(long, value_name = "LANE", default_value = "reference")]
    lane: String,
    #[command(flatten)]
    device: DeviceArgs,
    /// Form of what is printed
    #[arg(long, value_enum, default_value = "table")]
    format: OutputFormat,
    /// Name every weight
    #[arg(short, long, conflicts_with = "quiet")]
    verbose: bool,
}

pub fn run(args: &Args, console: &Console) -> Result<Exit> {
    // Before a device is opened: bad input must not wait for a driver.
    let model = args.model.open(&args.tq_model, console)?;
    let Some((slot, _)) = args.device.open_one(&args.lane, console)? else {
        return Ok(Exit::RequiredLaneMissing);
    };
    let bar = console.progress();
    let outcome = convert::dequantize(&model, &args.output, slot, &mut |e| bar.on(e));
    drop(bar);
    match outcome? {
        convert::DequantizeOutcome::Done(done) => {
            if let Some(note) = left_out(&done) {
                console.note(&format!("note: {}", printable(&note)));
            }
            print(&match console.style(args.format) {
                None => json(&args.tq_model, &args.output, &done),
                Some(style) if console.results_only(args.format) => results(&done, style),
                Some(style) => text(&done, style, args.verbose),
            })?;
            Ok(Exit::Passed)
        }
        convert::DequantizeOutcome::GatesFailed {
            tensor_base,
            decision,
            diagnosis,
        } => {
            let mut line = format!(
                "error: lane {} fails at {tensor_base}: {} ({})",
                args.lane,
                decision.published(),
                decision.reason
            );
            if let Some(d) = diagnosis {
                line += "; ";
                line += &d.summary(d.strip_rows);
            }
            tell(&format!("{}\nnothing was written", printable(&line)));
            Ok(Exit::GatesFailed)
        }
    }
}

/// Tensors of types that safetensors does not have, some by name.
fn left_out(done: &Dequantized) -> Option<String> {
    /// Those that are named.
    const NAMED: usize = 3;
    let all = &done.left_out;
    let named: Vec<String> = all
        .iter()
        .take(NAMED)
        .map(|t| format!("{} ({})", t.tensor, t.dtype))
        .collect();
    let more = match all.len().saturating_sub(NAMED) {
        0 => String::new(),
        n => format!(" and {n} more"),
    };
    (!all.is_empty()).then(|| {
        format!(
            "{} {} left out, since safetensors does not have their types: {}{more}",
            counted(all.len(), "tensor"),
            are(all.len()),
            named.join(", ")
        )
    })
}

/// The weights, where each is asked for; then the results.
fn text(done: &Dequantized, style: Style, verbose: bool) -> String {
    let mut sheet = Sheet::new([
        Column::name("weight"),
        Column::number("shape", 1),
        Column::needed("differ"),
    ]);
    for w in done.weights.iter().filter(|_| verbose) {
        let elements = (w.shape[0] * w.shape[1]) as u64;
        sheet.row([
            printable(&w.tensor_base).into(),
            format!("{} x {}", w.shape[0], w.shape[1]).into(),
            count_of(elements - w.bit_equal, elements).into(),
        ]);
    }
    let out = match sheet.is_empty() {
        true => String::new(),
        false => sheet.text(style) + style.blank(),
    };
    let earlier = earlier(done.already_finished, done.resumed_shards);
    out + &results(done, style) + &style.lines(&earlier)
}

/// What the conversion came to.
fn results(done: &Dequantized, style: Style) -> String {
    let elements: u64 = done
        .weights
        .iter()
        .map(|w| (w.shape[0] * w.shape[1]) as u64)
        .sum();
    let equal: u64 = done.weights.iter().map(|w| w.bit_equal).sum();
    let mut out = style.paragraph(&format!(
        "{} decoded by {} ({}): {} to {}, with {} copied",
        counted(done.weights.len(), "weight"),
        done.lane,
        printable(&done.device),
        size(done.bytes_in),
        size(done.bytes_out),
        counted(done.copied, "tensor")
    ));
    if done.lane != LaneName::Reference {
        let differ = match elements - equal {
            0 => "every element equals the rounded reference".to_owned(),
            n => format!(
                "{n} of {elements} elements differ from the rounded reference, all of them allowed"
            ),
        };
        out += &style.paragraph(&differ);
    }
    out
}
