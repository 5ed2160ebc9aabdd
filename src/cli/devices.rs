//! `tq4 devices`: what this machine has, and why a lane is not available.

use super::{Outcome, print};
use tq4::error::{Result, printable};
use tq4::lane::{Lane, cuda, wgpu};
use tq4::record::LaneName;
use tq4::report::{Style, table};

#[derive(clap::Args)]
pub struct Args {}

pub fn run(_args: &Args) -> Result<Outcome> {
    print(&format!("{}\n{}", wgpu_adapters(), cuda_devices()))?;
    Ok(Outcome::Passed)
}

fn yes(v: bool) -> &'static str {
    if v { "yes" } else { "no" }
}

fn wgpu_adapters() -> String {
    let adapters = wgpu::list();
    if adapters.is_empty() {
        return "wgpu: NOT AVAILABLE: no Vulkan, Metal or D3D12 adapter found\n  help: install the \
                GPU's Vulkan driver, or Mesa's for the CPU (Debian: mesa-vulkan-drivers libvulkan1)\n"
            .into();
    }
    let mut text = String::from("wgpu adapters\n");
    for a in adapters {
        let mut t = table(Style::Terminal, &["index", &a.index.to_string()]);
        for (key, value) in [
            ("name", a.name),
            ("driver", a.driver),
            ("API", a.api),
            ("software", yes(a.software).into()),
            ("largest binding", format!("{} MiB", a.max_binding >> 20)),
            ("largest buffer", format!("{} MiB", a.max_buffer >> 20)),
            ("workgroups per dimension", a.max_workgroups.to_string()),
            (
                "workgroup memory",
                format!("{} KiB", a.workgroup_memory >> 10),
            ),
            (
                "subgroups",
                match a.subgroup_sizes {
                    _ if !a.subgroups => "no".into(),
                    [least, most] if least == most => format!("yes, {least} invocations"),
                    [least, most] => format!("yes, {least} to {most} invocations"),
                },
            ),
            (
                "kernel variant",
                wgpu::Wgpu::open(
                    &wgpu::Options {
                        adapter: wgpu::Select::Index(a.index),
                        ..Default::default()
                    },
                    LaneName::WGPU,
                )
                .map_or_else(
                    |e| e.problem().what.clone(),
                    |lane| lane.info().kernel_variant.clone(),
                ),
            ),
            ("timestamps", yes(a.timestamps).into()),
        ] {
            t.add_row([key.to_owned(), printable(&value)]);
        }
        text += &format!("{t}\n");
    }
    text
}

fn cuda_devices() -> String {
    match cuda::list() {
        Err(e) => {
            let p = e.problem();
            format!(
                "cuda: NOT AVAILABLE: {}\n  help: {}\n",
                printable(&p.what),
                printable(&p.help)
            )
        }
        Ok(devices) => {
            let mut text = String::from("CUDA devices\n");
            for d in devices {
                let mut t = table(Style::Terminal, &["index", &d.index.to_string()]);
                let (major, minor) = d.compute_capability;
                for (key, value) in [
                    ("name", d.name),
                    ("driver", d.driver),
                    ("compute capability", format!("{major}.{minor}")),
                    ("memory", format!("{} MiB", d.memory >> 20)),
                    ("software", yes(d.software).into()),
                ] {
                    t.add_row([key.to_owned(), printable(&value)]);
                }
                text += &format!("{t}\n");
            }
            text
        }
    }
}
