//! `tq4 devices`: what this machine has, and why a lane is not available. Each device is opened as its lane
//! opens it, one after the other.

use super::console::Console;
use super::{Exit, OutputFormat, print};
use crate::error::{Error, Result, printable};
use crate::lane::{Lane, cuda, decode, wgpu};
use crate::record::{LaneInfo, LaneName, to_json};
use crate::report::{Cell, Column, Sheet, Style, Tone};
use crate::strip::Strip;
use crate::synthetic::{self, Rng, ScaleDistribution};
use crate::tensor::Layout;
use serde_json::{Value, json};

#[derive(clap::Args)]
pub struct Args {
    /// Form of what is printed
    #[arg(long, value_enum, default_value = "table")]
    format: OutputFormat,
}

pub fn run(args: &Args, console: &Console) -> Result<Exit> {
    let lanes = [wgpu_lane(), cuda_lane()];
    print(&match console.style(args.format) {
        None => to_json(&lanes.iter().map(LaneDevices::to_json).collect::<Vec<_>>()),
        Some(style) if console.results_only(args.format) => {
            lanes.iter().map(|l| l.results(style)).collect()
        }
        Some(style) => texts(&lanes, style),
    })?;
    Ok(Exit::Passed)
}

/// What is said of a device.
struct Fact {
    /// Key in JSON, where the value is in the unit that the key names.
    key: &'static str,
    value: Value,
    /// For people.
    label: &'static str,
    text: String,
}

impl Fact {
    fn new(key: &'static str, label: &'static str, value: impl Into<Value>, text: String) -> Self {
        Self {
            key,
            value: value.into(),
            label,
            text,
        }
    }

    /// Whose value is read as it is.
    fn plain(name: &'static str, value: String) -> Self {
        Self::new(name, name, value.clone(), value)
    }

    /// What the driver may not say: null, and `unknown`.
    fn maybe<T: Into<Value>>(
        key: &'static str,
        label: &'static str,
        value: Option<T>,
        text: impl FnOnce(&T) -> String,
    ) -> Self {
        let text = value.as_ref().map_or_else(|| "unknown".to_owned(), text);
        Self::new(key, label, value.map_or(Value::Null, T::into), text)
    }

    fn variant(lane: &impl Lane) -> Self {
        let variant = lane.info().kernel_variant.clone();
        Self::new("kernel_variant", "kernel variant", variant.clone(), variant)
    }

    fn yes(key: &'static str, label: &'static str, value: bool) -> Self {
        Self::new(key, label, value, if value { "yes" } else { "no" }.into())
    }
}

/// What is known of a device, and whether its lane works there.
struct Device {
    facts: Vec<Fact>,
    state: Result<()>,
}

impl Device {
    /// Has a device that was opened decode a few rows; all that it took is given back. `tell` says what an
    /// open one alone can.
    fn try_out<L: Lane>(
        mut facts: Vec<Fact>,
        opened: Result<L>,
        tell: impl FnOnce(&L) -> Vec<Fact>,
    ) -> Self {
        let state = opened.and_then(|mut lane| {
            facts.extend(tell(&lane));
            decode(&mut lane, &a_few_rows()?).map(|_| ())
        });
        Self { facts, state }
    }

    fn to_json(&self, index: usize) -> Value {
        let mut object = serde_json::Map::from_iter([("index".to_owned(), index.into())]);
        let facts = self.facts.iter();
        object.extend(facts.map(|f| (f.key.to_owned(), f.value.clone())));
        let problem = self.state.as_ref().err().map(Error::problem);
        object.insert("ready".into(), problem.is_none().into());
        object.insert("reason".into(), json!(problem.map(|p| &p.what)));
        object.insert("help".into(), json!(problem.map(|p| &p.help)));
        object.into()
    }

    fn table(&self, index: usize, style: Style) -> String {
        let mut sheet = Sheet::new([Column::name("index"), Column::words(&index.to_string())]);
        for fact in &self.facts {
            sheet.row([fact.label.into(), printable(&fact.text).into()]);
        }
        let (state, tone) = self.told();
        sheet.row(["state".into(), Cell::of(state, tone)]);
        sheet.text(style)
    }

    /// Whether its lane works there, and why not.
    fn told(&self) -> (String, Tone) {
        match &self.state {
            Ok(()) => ("ready".to_owned(), Tone::Good),
            Err(e) => (printable(&format!("NOT READY: {}", words(e))), Tone::Bad),
        }
    }
}

/// What is wrong, and what helps where something is known to.
fn words(e: &Error) -> String {
    let p = e.problem();
    let parts = [&p.what, &p.help].map(String::as_str);
    parts
        .into_iter()
        .filter(|t| !t.is_empty())
        .collect::<Vec<_>>()
        .join("; ")
}

/// A strip of the usual layout that takes next to no memory and time.
fn a_few_rows() -> Result<Strip> {
    let layout = Layout::new(4, 128)?;
    let tensor = synthetic::tensor(&mut Rng::new(1), layout, 8, 256, ScaleDistribution::Usual)?;
    Ok(Strip::of(tensor))
}

/// The devices of one lane, by index; or why there is none.
struct LaneDevices {
    lane: &'static str,
    title: &'static str,
    devices: Result<Vec<Device>>,
}

impl LaneDevices {
    fn to_json(&self) -> Value {
        let (problem, devices) = match &self.devices {
            Err(e) => (Some(e.problem()), Vec::new()),
            Ok(devices) => {
                let devices = devices.iter().enumerate();
                (None, devices.map(|(i, d)| d.to_json(i)).collect())
            }
        };
        json!({
            "lane": self.lane,
            "available": problem.is_none(),
            "reason": problem.map(|p| &p.what),
            "help": problem.map(|p| &p.help),
            "devices": devices,
        })
    }

    fn text(&self, style: Style) -> String {
        let devices = match &self.devices {
            Err(e) => {
                let help = format!("help: {}", printable(&e.problem().help));
                return self.missing(e, style) + &style.paragraph(&help);
            }
            Ok(devices) => devices,
        };
        let devices = devices.iter().enumerate();
        let tables = devices.map(|(index, device)| device.table(index, style));
        style.paragraph(self.title) + &tables.collect::<String>()
    }

    /// That there is no device, and why.
    fn missing(&self, e: &Error, style: Style) -> String {
        let what = printable(&e.problem().what);
        style.marked(
            &format!("{}: ", self.lane),
            "NOT AVAILABLE",
            Tone::Doubtful,
            &format!(": {what}"),
        )
    }

    /// A line for each device.
    fn results(&self, style: Style) -> String {
        let devices = match &self.devices {
            Err(e) => return self.missing(e, style),
            Ok(devices) => devices.iter().enumerate(),
        };
        let line = |(index, device): (usize, &Device)| {
            let name = device.facts.iter().find(|f| f.key == "name");
            let name = name.map_or_else(String::new, |f| format!(" ({})", printable(&f.text)));
            let (state, tone) = device.told();
            style.marked(&format!("{} {index}: ", self.lane), &state, tone, &name)
        };
        devices.map(line).collect()
    }
}

fn texts(lanes: &[LaneDevices], style: Style) -> String {
    let texts: Vec<String> = lanes.iter().map(|l| l.text(style)).collect();
    texts.join("\n")
}

fn wgpu_lane() -> LaneDevices {
    let adapters = wgpu::list();
    LaneDevices {
        lane: "wgpu",
        title: "wgpu adapters",
        devices: match adapters.is_empty() {
            true => Err(wgpu::no_adapter()),
            false => Ok(adapters.into_iter().map(adapter).collect()),
        },
    }
}

fn adapter(a: wgpu::AdapterInfo) -> Device {
    let options = wgpu::WgpuOptions {
        adapter: wgpu::Select::Index(a.index),
        ..Default::default()
    };
    let mib = |bytes: u64| format!("{} MiB", bytes >> 20);
    let subgroups = match a.subgroup_sizes {
        _ if !a.subgroups => "no".into(),
        [least, most] if least == most => format!("yes, {least} invocations"),
        [least, most] => format!("yes, {least} to {most} invocations"),
    };
    let sizes = a.subgroups.then_some(a.subgroup_sizes);
    let facts = vec![
        Fact::plain("name", a.name),
        Fact::plain("driver", a.driver),
        Fact::new("api", "API", a.api.clone(), a.api),
        Fact::maybe("pci", "PCI", a.pci, |pci| pci.clone()),
        Fact::plain("class", a.class.name().to_owned()),
        Fact::yes("automatic", "taken by default", a.automatic),
        Fact::yes("software", "software", a.software),
        Fact::new(
            "max_binding_bytes",
            "largest binding",
            a.max_binding,
            mib(a.max_binding),
        ),
        Fact::new(
            "max_buffer_bytes",
            "largest buffer",
            a.max_buffer,
            mib(a.max_buffer),
        ),
        Fact::new(
            "max_workgroups",
            "workgroups per dimension",
            a.max_workgroups,
            a.max_workgroups.to_string(),
        ),
        Fact::new(
            "workgroup_memory_bytes",
            "workgroup memory",
            a.workgroup_memory,
            format!("{} KiB", a.workgroup_memory >> 10),
        ),
        Fact::new("subgroup_sizes", "subgroups", json!(sizes), subgroups),
        Fact::yes("timestamps", "timestamps", a.timestamps),
    ];
    let opened = wgpu::Wgpu::open(&options, LaneName::Wgpu);
    Device::try_out(facts, opened, |lane| {
        let mut facts = vec![Fact::variant(lane)];
        facts.extend(arithmetic(lane.info()));
        facts
    })
}

/// What the device makes of f32 arithmetic, where it is known, and what to know before the lane is used.
fn arithmetic(info: &LaneInfo) -> Vec<Fact> {
    let found = info.arithmetic;
    let found = found.map(|a| Fact::new("arithmetic", "arithmetic", json!(a), a.to_string()));
    let warning = info.warning();
    let warning = warning.map(|w| Fact::new("warning", "WARNING", w.clone(), w));
    found.into_iter().chain(warning).collect()
}

fn cuda_lane() -> LaneDevices {
    LaneDevices {
        lane: "cuda",
        title: "CUDA devices",
        devices: cuda::list().map(|all| all.into_iter().enumerate().map(cuda_device).collect()),
    }
}

fn cuda_device((index, info): (usize, Result<cuda::CudaDeviceInfo>)) -> Device {
    let d = match info {
        Ok(d) => d,
        Err(e) => {
            return Device {
                facts: Vec::new(),
                state: Err(e),
            };
        }
    };
    let mib = |bytes: &u64| format!("{} MiB", bytes >> 20);
    let (major, minor) = d.compute_capability;
    let capability = format!("{major}.{minor}");
    let facts = vec![
        Fact::plain("name", d.name),
        Fact::plain("driver", d.driver),
        Fact::maybe("pci", "PCI", d.pci, String::clone),
        Fact::maybe("uuid", "UUID", d.uuid, String::clone),
        Fact::new(
            "compute_capability",
            "compute capability",
            capability.clone(),
            capability,
        ),
        Fact::maybe("compute_mode", "compute mode", d.compute_mode, |m| {
            (*m).to_owned()
        }),
        Fact::new("memory_bytes", "memory", d.memory, mib(&d.memory)),
        Fact::maybe("l2_bytes", "L2 cache", d.l2, mib),
        Fact::yes("software", "software", d.software),
    ];
    let options = cuda::CudaOptions {
        device: index,
        ..Default::default()
    };
    Device::try_out(facts, cuda::Cuda::open(&options), |lane| {
        let free = lane.free_memory().ok();
        vec![
            Fact::maybe("free_memory_bytes", "free memory", free, mib),
            Fact::variant(lane),
        ]
    })
}
