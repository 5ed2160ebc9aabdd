//! `tq4 quantize`: a quantised model from a source model.

use super::console::Console;
use super::progress::{earlier, json, size};
use super::{Exit, OutputFormat, print};
use crate::convert::{self, Choices, Encoding, QuantizeOptions, Quantized, SignSeed};
use crate::counted::counted;
use crate::error::{Error, Result, printable};
use crate::format::ENCODINGS;
use crate::report::{Column, Sheet, Style};
use clap::ValueEnum;
use clap::builder::{PossibleValue, PossibleValuesParser};
use std::path::PathBuf;

#[derive(clap::Args)]
pub struct Args {
    /// Model to quantise: a directory of safetensors, or a GGUF file, of F32, F16 or BF16
    #[arg(long, value_name = "PATH")]
    source_model: PathBuf,
    /// New directory for the quantised model, a new file for one in GGUF; a stopped run of a directory is resumed,
    /// a finished one is left as it is
    #[arg(long, value_name = "PATH")]
    output: PathBuf,
    /// Format of the quantised model, turboquant when left out, of which arle is another name; and, given once
    /// more, the form of what is printed: table, json or markdown
    #[arg(long, value_name = "FORMAT", value_parser = formats())]
    format: Vec<String>,
    /// Bits per code, 4 when left out; turboquant stores 3-bit codes in 4 bits, GGUF's types have bits of their own
    #[arg(long, value_name = "2|3|4")]
    bits: Option<u32>,
    /// Elements per group, 128 when left out: 32, 64, 128 or 256; in GGUF 32
    #[arg(long, value_name = "N")]
    group_size: Option<usize>,
    /// Weights to quantise, by name without `.weight` or glob; linear layers by the usual names when
    /// left out. May be repeated
    #[arg(long, value_name = "NAME")]
    include: Vec<String>,
    /// Weights to leave as they are, by name without `.weight` or glob; may be repeated
    #[arg(long, value_name = "NAME")]
    exclude: Vec<String>,
    /// Where a tensor's signs come from, name when left out; turboquant alone leaves it open
    #[arg(long, value_enum)]
    sign_seed: Option<Seed>,
    /// Bits per code of sensitive layers; tq3-native alone has them
    #[arg(long, value_name = "2|3|4")]
    sensitive_bits: Option<u32>,
    /// Part of the names of sensitive layers, o_proj and down_proj when left out; may be repeated
    #[arg(long, value_name = "TEXT", requires = "sensitive_bits")]
    sensitive: Vec<String>,
    /// Name every weight
    #[arg(short, long, conflicts_with = "quiet")]
    verbose: bool,
}

/// What `--format` takes: a format of models, or a form of what is printed.
fn formats() -> PossibleValuesParser {
    let printed = OutputFormat::value_variants().iter();
    let printed = printed.filter_map(ValueEnum::to_possible_value);
    let models = ENCODINGS.into_iter().map(PossibleValue::from);
    PossibleValuesParser::new(models.chain(printed))
}

/// The format of the model and the form of what is printed.
fn chosen(given: &[String]) -> Result<(&str, OutputFormat)> {
    let (mut model, mut printed) = (None, None);
    for word in given {
        let twice = match OutputFormat::from_str(word, false) {
            Ok(form) => printed.replace(form).is_some(),
            Err(_) => model.replace(word.as_str()).is_some(),
        };
        if twice {
            return Err(Error::input(
                format!("{word} found beside another of its kind"),
                "--format",
                "give one format of the model, and one form of what is printed",
            ));
        }
    }
    let printed = printed.unwrap_or(OutputFormat::Table);
    Ok((model.unwrap_or(ENCODINGS[0]), printed))
}

#[derive(Clone, Copy, ValueEnum)]
enum Seed {
    /// SHA-256 of the tensor's name and SplitMix64
    Name,
    /// Python's hash of the name under PYTHONHASHSEED=0 and NumPy's RandomState, as the published
    /// encoder has them
    PythonHash,
}

pub fn run(args: &Args, console: &Console) -> Result<Exit> {
    let (encoding, printed) = chosen(&args.format)?;
    let choices = Choices {
        bits: args.bits,
        group_size: args.group_size,
        sign_seed: args.sign_seed.map(|seed| match seed {
            Seed::Name => SignSeed::Name,
            Seed::PythonHash => SignSeed::PythonHash,
        }),
        sensitive_bits: args.sensitive_bits,
        sensitive: args.sensitive.clone(),
    };
    let options = QuantizeOptions {
        encoding: Encoding::new(encoding, &choices)?,
        include: args.include.clone(),
        exclude: args.exclude.clone(),
    };
    let bar = console.progress();
    let done = convert::quantize(&args.source_model, &args.output, &options, &mut |e| {
        bar.on(e)
    })?;
    drop(bar);
    for note in &done.notes {
        console.note(&format!("note: {}", printable(note)));
    }
    print(&match console.style(printed) {
        None => json(&args.source_model, &args.output, &done),
        Some(style) if console.results_only(printed) => results(&done, style),
        Some(style) => text(&done, style, args.verbose),
    })?;
    Ok(Exit::Passed)
}

/// The weights, where each is asked for; what was left as it is, and the results.
fn text(done: &Quantized, style: Style, verbose: bool) -> String {
    let mut sheet = Sheet::new([
        Column::name("weight"),
        Column::number("shape", 1),
        Column::needed("rmse ratio"),
        Column::number("bits per weight", 2),
    ]);
    for w in done.weights.iter().filter(|_| verbose) {
        let elements = (w.shape[0] * w.shape[1]) as f64;
        sheet.row([
            printable(&w.tensor_base).into(),
            format!("{} x {}", w.shape[0], w.shape[1]).into(),
            format!("{:.5}", w.rmse_ratio).into(),
            format!("{:.3}", 8.0 * w.bytes_out as f64 / elements).into(),
        ]);
    }
    let mut out = match sheet.is_empty() {
        true => String::new(),
        false => sheet.text(style) + style.blank(),
    };
    let mut reasons: Vec<(&str, Vec<&str>)> = Vec::new();
    for left in &done.left {
        match reasons
            .iter_mut()
            .find(|(reason, _)| *reason == left.reason)
        {
            Some((_, names)) => names.push(&left.tensor_base),
            None => reasons.push((&left.reason, vec![&left.tensor_base])),
        }
    }
    for (reason, names) in reasons {
        let line = match names[..] {
            [one] => format!("left as it is: {one}: {reason}"),
            _ if verbose => format!(
                "{} weights left as they are: {reason}: {}",
                names.len(),
                names.join(", ")
            ),
            _ => format!(
                "{} weights left as they are: {reason} ({} first; -v names all)",
                names.len(),
                names[0]
            ),
        };
        out += &style.paragraph(&printable(&line));
    }
    out += &results(done, style);
    let earlier = earlier(done.already_finished, done.resumed_shards);
    out + &style.lines(&earlier)
}

/// What the conversion came to.
fn results(done: &Quantized, style: Style) -> String {
    let sum = |f: fn(&convert::QuantizedWeight) -> u64| done.weights.iter().map(f).sum::<u64>();
    let (before, after) = (sum(|w| w.bytes_in), sum(|w| w.bytes_out));
    let mut out = style.paragraph(&format!(
        "{} quantised to {}, {} bits in groups of {}: {} to {}, {:.2} times smaller",
        counted(done.weights.len(), "weight"),
        done.format,
        done.bits,
        done.group_size,
        size(before),
        size(after),
        before as f64 / after as f64,
    ));
    let ratios = || done.weights.iter().map(|w| w.rmse_ratio);
    let worst = done.weights.iter().rev();
    if let Some(w) = worst.max_by(|a, b| a.rmse_ratio.total_cmp(&b.rmse_ratio)) {
        out += &style.paragraph(&format!(
            "rmse ratio against the source: {:.5} to {:.5} ({})",
            ratios().fold(f64::INFINITY, f64::min),
            w.rmse_ratio,
            printable(&w.tensor_base)
        ));
    }
    out + &style.paragraph(&format!(
        "whole model, with {} copied: {} to {}, {:.2} times smaller",
        counted(done.copied, "tensor"),
        size(done.bytes_in),
        size(done.bytes_out),
        done.bytes_in as f64 / done.bytes_out as f64,
    ))
}
