//! `tq4 devices`: what this machine has, and why a lane is not available.

use super::{Format, Outcome, print};
use crate::error::{Error, Result, printable};
use crate::lane::{Lane, cuda, wgpu};
use crate::record::{LaneInfo, LaneName, to_json};
use crate::report::{Style, table};
use serde_json::{Value, json};

#[derive(clap::Args)]
pub struct Args {
    /// Form of what is printed
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
}

pub fn run(args: &Args) -> Result<Outcome> {
    let lanes = [wgpu_lane(), cuda_lane()];
    let text = match args.format {
        Format::Json => to_json(&lanes.iter().map(LaneDevices::to_json).collect::<Vec<_>>()),
        Format::Table => texts(&lanes, Style::Terminal),
        Format::Markdown => texts(&lanes, Style::Markdown),
    };
    print(&text)?;
    Ok(Outcome::Passed)
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

    fn yes(key: &'static str, label: &'static str, value: bool) -> Self {
        Self::new(key, label, value, if value { "yes" } else { "no" }.into())
    }
}

/// The devices of one lane, by index; or why there is none.
struct LaneDevices {
    lane: &'static str,
    title: &'static str,
    devices: std::result::Result<Vec<Vec<Fact>>, Error>,
}

impl LaneDevices {
    fn to_json(&self) -> Value {
        let (problem, devices) = match &self.devices {
            Err(e) => (Some(e.problem()), Vec::new()),
            Ok(devices) => (None, devices.iter().enumerate().map(device).collect()),
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
                let [what, help] = [&e.problem().what, &e.problem().help].map(|t| printable(t));
                return format!("{}: NOT AVAILABLE: {what}\n  help: {help}\n", self.lane);
            }
            Ok(devices) => devices,
        };
        let tables = devices.iter().enumerate().map(|(index, facts)| {
            let mut t = table(style, &["index", &index.to_string()]);
            for fact in facts {
                t.add_row([fact.label.to_owned(), printable(&fact.text)]);
            }
            format!("{t}\n")
        });
        // Markdown takes a line right above a table for a part of it.
        let gap = if style == Style::Markdown { "\n" } else { "" };
        format!(
            "{}\n{gap}{}",
            self.title,
            tables.collect::<Vec<_>>().join(gap)
        )
    }
}

fn device((index, facts): (usize, &Vec<Fact>)) -> Value {
    let mut object = serde_json::Map::from_iter([("index".to_owned(), index.into())]);
    object.extend(facts.iter().map(|f| (f.key.to_owned(), f.value.clone())));
    object.into()
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
        devices: if adapters.is_empty() {
            Err(Error::unavailable(
                "no Vulkan, Metal or D3D12 adapter found",
                "lane wgpu",
                "install the GPU's Vulkan driver, or Mesa's for the CPU (Debian: mesa-vulkan-drivers \
                 libvulkan1)",
            ))
        } else {
            Ok(adapters.into_iter().map(adapter).collect())
        },
    }
}

fn adapter(a: wgpu::AdapterInfo) -> Vec<Fact> {
    let options = wgpu::Options {
        adapter: wgpu::Select::Index(a.index),
        ..Default::default()
    };
    let opened = wgpu::Wgpu::open(&options, LaneName::WGPU);
    let info = opened.as_ref().ok().map(Lane::info);
    let arithmetic = arithmetic(info);
    let variant = match &opened {
        Err(e) => e.problem().what.clone(),
        Ok(lane) => lane.info().kernel_variant.clone(),
    };
    let mib = |bytes: u64| format!("{} MiB", bytes >> 20);
    let subgroups = match a.subgroup_sizes {
        _ if !a.subgroups => "no".into(),
        [least, most] if least == most => format!("yes, {least} invocations"),
        [least, most] => format!("yes, {least} to {most} invocations"),
    };
    let sizes = a.subgroups.then_some(a.subgroup_sizes);
    let mut facts = vec![
        Fact::plain("name", a.name),
        Fact::plain("driver", a.driver),
        Fact::new("api", "API", a.api.clone(), a.api),
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
        Fact::new("kernel_variant", "kernel variant", variant.clone(), variant),
        Fact::yes("timestamps", "timestamps", a.timestamps),
    ];
    facts.extend(arithmetic);
    facts
}

/// What the device makes of f32 arithmetic, where it is known, and what to know before the lane is used.
fn arithmetic(info: Option<&LaneInfo>) -> Vec<Fact> {
    let found = info.and_then(|i| i.arithmetic);
    let found = found.map(|a| Fact::new("arithmetic", "arithmetic", json!(a), a.to_string()));
    let warning = info.and_then(LaneInfo::warning);
    let warning = warning.map(|w| Fact::new("warning", "WARNING", w.clone(), w));
    found.into_iter().chain(warning).collect()
}

fn cuda_lane() -> LaneDevices {
    let facts = |d: cuda::CudaDeviceInfo| {
        let (major, minor) = d.compute_capability;
        let capability = format!("{major}.{minor}");
        vec![
            Fact::plain("name", d.name),
            Fact::plain("driver", d.driver),
            Fact::new(
                "compute_capability",
                "compute capability",
                capability.clone(),
                capability,
            ),
            Fact::new(
                "memory_bytes",
                "memory",
                d.memory,
                format!("{} MiB", d.memory >> 20),
            ),
            Fact::yes("software", "software", d.software),
        ]
    };
    LaneDevices {
        lane: "cuda",
        title: "CUDA devices",
        devices: cuda::list().map(|all| all.into_iter().map(facts).collect()),
    }
}
