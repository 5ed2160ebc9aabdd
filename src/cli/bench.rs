//! `tq4 bench`: throughput of every lane, side by side.

use super::console::Console;
use super::lanes::{LaneArgs, required, tell_unmet, tell_warnings};
use super::model::ModelArgs;
use super::{Exit, OutputFormat, check_outputs, print, seconds, tell};
use crate::Error;
use crate::bench::measure::{BenchJob, BenchOptions, measure};
use crate::bench::{baseline, plan};
use crate::checkpoint::write_atomically;
use crate::error::{Result, printable};
use crate::format::TqModel;
use crate::lane::{self, Slot, cpu::Cpu};
use crate::record::bench::{Bench, Change, Host, Measure, SCHEMA};
use crate::record::{LaneConfig, LaneName, OutputType, Status, Tool, to_json, unmet};
use crate::report::{Style, bench_csv, bench_page, bench_results, bench_text};
use crate::run::RunEvent;
use crate::tensor::{Layout, TqTensor};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Rounds that the shapes of the default run are cut for: fewer give no interval.
const DEFAULT_ROUNDS: u32 = 6;

/// How long a device copies before each of its rounds: GPUs raise their clocks within milliseconds.
const WARM_UP: Duration = Duration::from_millis(50);

/// Time every lane side by side, each beside its device's copy bandwidth
///
/// Without --shape or --tq-model, 1024x1024, 4096x4096, 12288x4096, 4096x12288 and 248320x4096 are timed. Rows are cut
/// to a power of two where they do not fit half of the free memory, and in this default run also where six
/// rounds would not end within the time limit: it takes about a minute at most.
///
/// Each lane's output is checked before it is timed. A wrong one gets no speed, and the exit code is 1.
#[derive(clap::Args)]
pub struct Args {
    /// Shape to time, with synthetic codes; may be repeated
    #[arg(long, value_name = "ROWSxCOLUMNS", conflicts_with_all = ["tq_model", "gguf_dialect"])]
    shape: Vec<String>,
    /// Bits per code of synthetic tensors: 2, 3 or 4
    #[arg(long, default_value_t = 4, conflicts_with = "tq_model")]
    bits: u32,
    /// Elements per group of synthetic tensors: 32, 64, 128 or 256
    #[arg(long, default_value_t = 128, conflicts_with = "tq_model")]
    group_size: usize,
    /// Time tensors of this TQ4 model
    #[arg(long, value_name = "PATH", requires = "tensor_base")]
    tq_model: Option<PathBuf>,
    #[command(flatten)]
    model: ModelArgs,
    /// Tensor name without `.weight`, or a glob; may be repeated
    #[arg(
        long,
        value_name = "NAME",
        requires = "tq_model",
        conflicts_with = "shape"
    )]
    tensor_base: Vec<String>,
    #[command(flatten)]
    lanes: LaneArgs,
    /// Most seconds of rounds for each shape; loading and checking come on top. Rounds end earlier when
    /// the 95 % interval of every median is within 1 % of it
    #[arg(long, value_name = "SECONDS", default_value_t = 10.0)]
    time_limit: f64,
    /// Size of the buffer that is copied, to measure the copy bandwidth and to flush the caches: it must
    /// be larger than they are. 256 when left out, 1024 where a device is known for large caches
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u64).range(1..=16384))]
    copy_size: Option<u64>,
    /// Form of what is printed
    #[arg(long, value_enum, default_value = "table")]
    format: OutputFormat,
    /// Write the record here as JSON, every sample included: what --baseline reads
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write the figures here as CSV
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
    /// Write the tables here as Markdown
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
    /// Write a page with charts here
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Compare with the record of an earlier run: faster, slower, same or not decidable
    #[arg(long, value_name = "FILE")]
    baseline: Option<PathBuf>,
    /// Percent by which a speed may differ from the baseline's and still be the same
    #[arg(
        long,
        value_name = "PERCENT",
        default_value_t = 5.0,
        requires = "baseline"
    )]
    tolerance: f64,
    /// Exit code 1 when a lane decodes more than so many percent slower than in --baseline, for certain:
    /// its whole interval lies beyond
    #[arg(
        long,
        value_name = "PERCENT",
        requires = "baseline",
        conflicts_with = "tolerance"
    )]
    fail_if_slower: Option<f64>,
}

impl Args {
    /// Percent by which a speed may differ and still be the same.
    fn same(&self) -> (f64, &'static str) {
        match self.fail_if_slower {
            Some(percent) => (percent, "--fail-if-slower"),
            None => (self.tolerance, "--tolerance"),
        }
    }
}

/// What is timed, before its rows are cut.
struct BenchTarget {
    name: String,
    shape: [usize; 2],
    layout: Layout,
}

impl BenchTarget {
    /// Bytes of all rows as BF16.
    fn bytes(&self) -> u64 {
        2 * (self.shape[0] * self.shape[1]) as u64
    }
}

pub fn run(args: &Args, console: &Console) -> Result<Exit> {
    let limit = seconds("--time-limit", args.time_limit)?;
    let (same, option) = args.same();
    if !(0.0..=100.0).contains(&same) {
        let what = format!("{same} percent found, expected 0 to 100");
        return Err(Error::input(what, option, ""));
    }
    let inputs: Vec<&Path> = [&args.tq_model, &args.baseline]
        .into_iter()
        .flatten()
        .map(PathBuf::as_path)
        .collect();
    let outputs = [
        ("--json", &args.json),
        ("--csv", &args.csv),
        ("--markdown", &args.markdown),
        ("--html", &args.html),
    ];
    check_outputs(&outputs, &inputs)?;
    let config = args.lanes.config()?;
    let own = args.lanes.own()?;
    required(&config, |name| own.has(name))?;
    let kernels: Vec<LaneName> = own.kernels.iter().map(|k| k.name().clone()).collect();
    let old = args.baseline.as_deref().map(Bench::read).transpose()?;
    let model = args.tq_model.as_deref();
    let model = model
        .map(|path| args.model.open(path, console))
        .transpose()?;
    let targets = targets(args, model.as_ref())?;
    let mut slots = lane::open(&config)?;
    // Timed as a lane, the reference rounds as every other does.
    slots[0] = Slot::Live(Box::new(Cpu::new(OutputType::Bf16)));
    own.open(&config, &mut slots)?;
    tell_warnings(&slots, console);
    let options = BenchOptions {
        time_limit: limit,
        copy_bytes: args
            .copy_size
            .map_or_else(|| flush_bytes(&slots), |mib| mib << 20),
        // Fewer give no interval, and what is slow would not be told.
        least_rounds: if args.fail_if_slower.is_some() { 6 } else { 1 },
        warm_up: WARM_UP,
    };
    let bar = console.progress();
    bar.on(RunEvent::Total(
        targets.iter().map(BenchTarget::bytes).sum(),
    ));
    let mut shapes = Vec::new();
    for target in &targets {
        bar.on(RunEvent::Tensor(&target.name));
        let default = model.is_none() && args.shape.is_empty();
        let (rows, cut) = fit(target, &mut slots, &options, default)?;
        let tensor = tensor(target, model.as_ref(), rows)?;
        let job = BenchJob {
            name: &target.name,
            tensor: &tensor,
            rows_asked: target.shape[0],
            cut,
        };
        shapes.push(measure(job, &mut slots, &options, |what| {
            bar.on(RunEvent::Tensor(&format!("{}: {what}", target.name)));
        })?);
        bar.on(RunEvent::Bytes(target.bytes()));
    }
    drop(bar);
    let mut record = Bench {
        schema: SCHEMA.into(),
        tool: Tool::this(),
        host: host(),
        unix_time: SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |d| d.as_secs()),
        lanes: slots.iter().map(Slot::record).collect(),
        shapes,
        comparison: None,
    };
    record.comparison = old.map(|old| baseline::compare(&old, &record, same / 100.0));
    if let (Some(comparison), Some(path)) = (&mut record.comparison, &args.baseline) {
        let file = path.file_name().unwrap_or_default();
        comparison.baseline = file.to_string_lossy().into_owned();
    }
    write(args, &record)?;
    print(&match console.style(args.format) {
        None => to_json(&record),
        Some(style) if console.results_only(args.format) => bench_results(&record, style),
        Some(style) => bench_text(&record, style),
    })?;
    Ok(match outcome(&config, &kernels, &record) {
        Exit::Passed if args.fail_if_slower.is_some() => against_baseline(&record),
        outcome => outcome,
    })
}

/// Bytes of a copy that flushes the caches of every device.
fn flush_bytes(slots: &[Slot]) -> u64 {
    let devices: Vec<String> = slots.iter().filter_map(|s| s.record().device).collect();
    plan::flush_bytes(devices.iter().map(String::as_str))
}

/// Tells of the lanes that decode slower than in the baseline, or that none could be compared with it.
fn against_baseline(record: &Bench) -> Exit {
    let changes = record.comparison.iter().flat_map(|c| &c.changes);
    let mut decoding = changes.filter(|c| c.measure != Measure::Copy).peekable();
    if decoding.peek().is_none() {
        tell("error: no speed of a lane is in the baseline: nothing was compared");
        return Exit::NothingCompared;
    }
    let mut exit = Exit::Passed;
    for c in decoding.filter(|c| c.outcome == Change::Slower) {
        exit = Exit::GatesFailed;
        tell(&format!(
            "error: {}: lane {} is slower than in the baseline ({}, {:.3} times as fast)",
            printable(&c.name),
            printable(&c.lane.to_string()),
            c.measure.name(),
            c.speed_ratio
        ));
    }
    exit
}

fn targets(args: &Args, model: Option<&TqModel>) -> Result<Vec<BenchTarget>> {
    if let Some(model) = model {
        return model
            .select(&args.tensor_base)?
            .into_iter()
            .map(|name| {
                let info = model.info(&name)?;
                Ok(BenchTarget {
                    shape: info.shape,
                    layout: info.codec.layout,
                    name,
                })
            })
            .collect();
    }
    let layout = Layout::new(args.bits, args.group_size)?;
    let shapes: Vec<[usize; 2]> = if args.shape.is_empty() {
        plan::DEFAULT_SHAPES.into()
    } else {
        args.shape
            .iter()
            .map(|s| plan::parse_shape(s, layout))
            .collect::<Result<_>>()?
    };
    Ok(shapes
        .into_iter()
        .map(|shape| BenchTarget {
            name: format!("{}x{}", shape[0], shape[1]),
            shape,
            layout,
        })
        .collect())
}

/// Rows that fit, and why there are fewer than asked for.
fn fit(
    target: &BenchTarget,
    slots: &mut [Slot],
    options: &BenchOptions,
    in_time: bool,
) -> Result<(usize, Vec<String>)> {
    let [asked, cols] = target.shape;
    let mut cut = Vec::new();
    let available = available_memory() / 2;
    let mut rows = plan::rows_in_memory(target.layout, cols, slots, available, options.copy_bytes);
    if rows < asked {
        rows = plan::round_rows(rows);
        cut.push(format!(
            "to {rows} rows, which take half of the host's free memory"
        ));
    } else {
        rows = asked;
    }
    if in_time {
        let per_row = plan::round_seconds(target.layout, cols, slots)?;
        let most = plan::rows_in_time(per_row, options.time_limit, DEFAULT_ROUNDS);
        if most < rows {
            rows = plan::round_rows(most);
            cut = vec![format!(
                "to {rows} rows, so that {DEFAULT_ROUNDS} rounds fit the time limit of {} s",
                options.time_limit.as_secs_f64()
            )];
        }
    }
    Ok((rows, cut))
}

fn tensor(target: &BenchTarget, model: Option<&TqModel>, rows: usize) -> Result<TqTensor> {
    match model {
        Some(model) => model.rows(&target.name, 0..rows),
        None => plan::synthetic(target.layout, [rows, target.shape[1]]),
    }
}

fn system() -> sysinfo::System {
    let mut system = sysinfo::System::new();
    system.refresh_memory();
    system.refresh_cpu_list(sysinfo::CpuRefreshKind::nothing());
    system
}

/// Bytes of host memory that can be had, in this container where there is one.
fn available_memory() -> u64 {
    let system = system();
    // What its files have in the page cache counts as used there, and is given back when it is wanted.
    let of_container = |c: sysinfo::CGroupLimits| c.total_memory.saturating_sub(c.rss);
    let container = system.cgroup_limits().map_or(u64::MAX, of_container);
    system.available_memory().min(container)
}

fn host() -> Host {
    let system = system();
    Host {
        cpu: system
            .cpus()
            .first()
            .map_or_else(|| "unknown CPU".into(), |c| c.brand().trim().to_owned()),
        threads: rayon::current_num_threads(),
        memory: system.total_memory(),
    }
}

fn write(args: &Args, record: &Bench) -> Result<()> {
    if let Some(path) = &args.json {
        write_atomically(path, to_json(record).as_bytes())?;
    }
    if let Some(path) = &args.csv {
        write_atomically(path, &bench_csv(record)?)?;
    }
    if let Some(path) = &args.markdown {
        write_atomically(path, bench_text(record, Style::Markdown).as_bytes())?;
    }
    if let Some(path) = &args.html {
        write_atomically(path, bench_page(record).as_bytes())?;
    }
    Ok(())
}

fn outcome(config: &LaneConfig, kernels: &[LaneName], record: &Bench) -> Exit {
    let [wrong, broke] = record.failures();
    if broke || record.lanes.iter().any(|l| l.status == Status::Failed) {
        return Exit::LaneBroke;
    }
    if wrong {
        return Exit::GatesFailed;
    }
    let missing = unmet(config, &[], kernels, &[&record.lanes]);
    tell_unmet(&missing);
    if missing.is_empty() {
        Exit::Passed
    } else {
        Exit::RequiredLaneMissing
    }
}
