//! The wgpu lane's own tests, on the adapters of this machine: how a strip is cut, and which adapter
//! and form of the shader are taken. What every lane does, on SwiftShader as well, is in [`crate::lanes`].

use crate::support::lane::{check, check_all, layouts, random_codecs, random_strips, strip};
use crate::support::not_run;
use tq4::Error;
use tq4::lane::Lane;
use tq4::lane::wgpu::{AdapterInfo, Select, Wgpu, WgpuOptions, list};
use tq4::record::{LaneName, OutputType};
use tq4::synthetic::ScaleDistribution;
use tq4::tensor::Layout;

pub const OUTPUTS: [OutputType; 2] = [OutputType::F32, OutputType::Bf16];

pub const EVERY_OUTPUT: [OutputType; 3] = [OutputType::F32, OutputType::Bf16, OutputType::F16];

/// Adapters of this machine; says so when there is none.
pub fn adapters() -> Vec<AdapterInfo> {
    let all = list();
    if all.is_empty() {
        not_run(
            "wgpu",
            "no adapter (Debian: mesa-vulkan-drivers libvulkan1)",
        );
    }
    all
}

/// Whether another invocation multiplies: the two forms of the shader.
pub const FORMS: [bool; 2] = [false, true];

fn open(index: usize, hand_over: bool, change: impl Fn(&mut WgpuOptions)) -> Wgpu {
    let mut options = WgpuOptions {
        adapter: Select::Index(index),
        hand_over: Some(hand_over),
        ..Default::default()
    };
    change(&mut options);
    Wgpu::open(&options, LaneName::Wgpu).unwrap_or_else(|e| panic!("adapter {index}: {e}"))
}

#[test]
fn the_form_that_is_safe_on_a_device_runs_there() {
    for a in adapters() {
        let options = WgpuOptions {
            adapter: Select::Index(a.index),
            ..Default::default()
        };
        let chosen = Wgpu::open(&options, LaneName::Wgpu).unwrap();
        let [by_fma, handed_over] = FORMS.map(|form| open(a.index, form, |_| ()));
        assert_eq!(by_fma.info().kernel_variant, "products by fma");
        assert_eq!(handed_over.info().kernel_variant, "products handed over");
        let safe = match chosen.info().arithmetic.unwrap().guard_by_fma {
            true => by_fma,
            false => handed_over,
        };
        assert_eq!(chosen.info(), safe.info());
    }
}

#[test]
fn small_limits_cut_a_strip_into_chunks_that_match() {
    // 8192 bytes hold 32 groups of 128 BF16, 16 of f32; 1 x 1 workgroups hold 2048 elements.
    let mut strips = random_strips(12, 24);
    strips.extend(random_codecs(16, 15));
    for (bytes, workgroups) in [(8192, u32::MAX), (u64::MAX, 1), (u64::MAX, 2), (7000, 3)] {
        for a in adapters() {
            for (form, output) in FORMS.into_iter().flat_map(|f| OUTPUTS.map(|o| (f, o))) {
                let mut lane = open(a.index, form, |o| {
                    o.output = output;
                    o.max_chunk_bytes = Some(bytes);
                    o.max_workgroups = Some(workgroups);
                });
                check_all(&mut lane, &strips)
                    .unwrap_or_else(|e| panic!("{:?}, {bytes}, {workgroups}: {e}", lane.info()));
            }
        }
    }
}

#[test]
fn a_strip_beyond_the_binding_limit_and_65535_groups_goes_through() {
    // 36 Mi elements: 1.1 million groups, 144 MiB of f32; llvmpipe binds 128 MiB at most.
    let strip = strip(
        2,
        Layout::new(4, 32).unwrap(),
        9001,
        128,
        ScaleDistribution::Usual,
    );
    // One form: how a strip is cut does not depend on it.
    for a in adapters() {
        for output in OUTPUTS {
            let mut lane = open(a.index, false, |o| o.output = output);
            check(&mut lane, &strip).unwrap_or_else(|e| panic!("{}: {e}", a.name));
        }
    }
}

#[test]
fn a_shader_that_does_not_compile_is_an_error_not_a_panic() {
    let Some(a) = adapters().into_iter().next() else {
        return;
    };
    let options = WgpuOptions {
        adapter: Select::Index(a.index),
        shader: Some("this is no shader".into()),
        ..Default::default()
    };
    assert!(matches!(
        Wgpu::open(&options, LaneName::Wgpu),
        Err(Error::Backend(_))
    ));
}

#[test]
fn an_adapter_that_is_not_there_is_named_with_those_that_are() {
    let all = adapters();
    let Some(a) = all.first() else { return };
    for select in [Select::Index(99), Select::Name("no such adapter".into())] {
        let options = WgpuOptions {
            adapter: select,
            ..Default::default()
        };
        let Err(e @ Error::Input(_)) = Wgpu::open(&options, LaneName::Wgpu) else {
            panic!("an adapter was found that is not there");
        };
        assert!(e.to_string().contains(&a.name), "{e}");
    }
    let name = a.name[..4].to_uppercase();
    assert!(
        Wgpu::open(
            &WgpuOptions {
                adapter: Select::Name(name),
                ..Default::default()
            },
            LaneName::Wgpu,
        )
        .is_ok()
    );
}

#[test]
fn the_noop_backend_computes_nothing_and_fails() {
    let mut lane = Wgpu::open(
        &WgpuOptions {
            noop: true,
            ..Default::default()
        },
        LaneName::Wgpu,
    )
    .unwrap();
    assert_eq!(lane.info().kernel_variant, "products by fma");
    for layout in layouts() {
        let strip = strip(4, layout, 3, 2, ScaleDistribution::Usual);
        let e = check(&mut lane, &strip).unwrap_err();
        assert!(e.contains("the device did not run the work"), "{e}");
    }
}
