//! The shader is valid, keeps its barriers in uniform control flow, and translates as it did.

use crate::support::not_run;
use naga::back::{hlsl, msl, pipeline_constants, spv};
use naga::valid::{Capabilities, ModuleInfo, ValidationFlags, Validator};
use naga::{Module, ShaderStage};
use tq4::backend::wgpu::{SHADER, variant};

fn validate(module: &Module, subgroups: bool) -> ModuleInfo {
    let mut capabilities = Capabilities::empty();
    capabilities.set(Capabilities::SUBGROUP, subgroups);
    Validator::new(ValidationFlags::all(), capabilities)
        .validate(module)
        .unwrap()
}

/// A variant of the shader for 4 bits and groups of 128, constants put in.
fn module(subgroups: bool) -> (Module, ModuleInfo) {
    let module = naga::front::wgsl::parse_str(&variant(SHADER, subgroups)).unwrap();
    let info = validate(&module, subgroups);
    let mut constants = vec![
        ("N", 128.0),
        ("STORED_BITS", 4.0),
        ("INV_SQRT_N", 0.08838834764831845),
        ("OUT_F32", 0.0),
    ];
    if subgroups {
        constants.push(("REACH", 8.0));
    }
    let constants = constants
        .into_iter()
        .map(|(k, v)| (k.to_owned(), v))
        .collect();
    let entry = Some((ShaderStage::Compute, "tq4_dequant"));
    let (module, info) =
        pipeline_constants::process_overrides(&module, &info, entry, &constants).unwrap();
    (module.into_owned(), info.into_owned())
}

/// Both variants, each with the suffix of its golden files.
const VARIANTS: [(bool, &str); 2] = [(false, ""), (true, "_with_subgroups")];

#[test]
fn translation_to_metal() {
    for (subgroups, suffix) in VARIANTS {
        let (module, info) = module(subgroups);
        let options = msl::Options {
            fake_missing_bindings: true,
            lang_version: (2, 4),
            ..Default::default()
        };
        let (text, _) = msl::write_string(&module, &info, &options, &Default::default()).unwrap();
        insta::assert_snapshot!(format!("translation_to_metal{suffix}"), text);
    }
}

#[test]
fn translation_to_hlsl() {
    for (subgroups, suffix) in VARIANTS {
        let (module, info) = module(subgroups);
        let options = hlsl::Options {
            fake_missing_bindings: true,
            shader_model: hlsl::ShaderModel::V6_0,
            ..Default::default()
        };
        let mut text = String::new();
        let pipeline = hlsl::PipelineOptions::default();
        hlsl::Writer::new(&mut text, &options, &pipeline)
            .write(&module, &info, None)
            .unwrap();
        insta::assert_snapshot!(format!("translation_to_hlsl{suffix}"), text);
    }
}

#[test]
fn translation_to_spirv() {
    for (subgroups, suffix) in VARIANTS {
        let (module, info) = module(subgroups);
        let options = spv::Options {
            lang_version: (1, 3),
            ..Default::default()
        };
        let words = spv::write_vec(&module, &info, &options, None).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("tq4_dequant.spv");
        std::fs::write(&file, bytemuck::cast_slice::<u32, u8>(&words)).unwrap();
        let tool = |name: &str, args: &[&str]| {
            std::process::Command::new(name)
                .args(args)
                .arg(&file)
                .output()
        };
        match (
            tool("spirv-val", &["--target-env", "vulkan1.1"]),
            tool("spirv-dis", &[]),
        ) {
            (Ok(val), Ok(dis)) => {
                assert!(
                    val.status.success(),
                    "{}",
                    String::from_utf8_lossy(&val.stderr)
                );
                let text = String::from_utf8(dis.stdout).unwrap();
                // No contraction can be forbidden in WGSL: the multiply and the adds must stay apart.
                assert!(!text.contains("Fma"), "no fused multiply-add is asked for");
                assert_eq!(text.contains("OpGroupNonUniformShuffleXor"), subgroups);
            }
            _ => not_run("spirv-val", "install spirv-tools"),
        }
        // Words as hex: the golden file must not depend on a disassembler's version.
        let hex: Vec<String> = words
            .chunks(8)
            .map(|line| {
                line.iter()
                    .map(|w| format!("{w:08x}"))
                    .collect::<Vec<_>>()
                    .join(" ")
            })
            .collect();
        insta::assert_snapshot!(format!("translation_to_spirv{suffix}"), hex.join("\n"));
    }
}

/// Whether a block, or one nested in it, holds a barrier or a subgroup operation under a condition. The
/// exit of a loop is a condition as well, but an empty one.
fn under_condition(block: &naga::Block, conditional: bool) -> bool {
    use naga::Statement;
    block.iter().any(|statement| match statement {
        Statement::ControlBarrier(_)
        | Statement::WorkGroupUniformLoad { .. }
        | Statement::SubgroupBallot { .. }
        | Statement::SubgroupGather { .. }
        | Statement::SubgroupCollectiveOperation { .. } => conditional,
        Statement::Block(inner) => under_condition(inner, conditional),
        Statement::If { accept, reject, .. } => {
            under_condition(accept, true) || under_condition(reject, true)
        }
        Statement::Switch { cases, .. } => cases.iter().any(|c| under_condition(&c.body, true)),
        Statement::Loop {
            body, continuing, ..
        } => under_condition(body, conditional) || under_condition(continuing, conditional),
        _ => false,
    })
}

#[test]
fn no_barrier_and_no_shuffle_stands_in_non_uniform_control_flow() {
    let found = |text: &str| {
        let module = naga::front::wgsl::parse_str(text).unwrap();
        let entry = &module.entry_points[0].function;
        under_condition(&entry.body, false)
            || module
                .functions
                .iter()
                .any(|(_, f)| under_condition(&f.body, true))
    };
    // Loops run as often in every invocation: their bounds come from constants alone.
    let shuffled = "for (var stride = 1u; stride < min(REACH, lanes_per_group); stride <<= 1u) {";
    let through_memory = "for (var stride = REACH; stride < lanes_per_group; stride <<= 1u) {";
    for (subgroups, loops, barriers, shuffles) in [
        (false, vec![through_memory], 3, 0),
        (true, vec![shuffled, through_memory], 2, 4),
    ] {
        let text = variant(SHADER, subgroups);
        assert!(!found(&text));
        assert_eq!(text.matches("workgroupBarrier();").count(), barriers);
        assert_eq!(text.matches("subgroupShuffleXor(").count(), shuffles);
        let all = ["for (", "loop", "while"];
        assert_eq!(
            all.iter().map(|l| text.matches(l).count()).sum::<usize>(),
            loops.len()
        );
        for bounds in loops {
            assert!(text.contains(bounds), "{bounds}");
        }
        assert!(text.contains("let lanes_per_group = N / 8u;"));
        assert!(
            !text.contains("return;"),
            "an early return would leave the others waiting"
        );
        for operation in ["workgroupBarrier();", "lo = subgroupShuffleXor(lo, 1u);"] {
            let broken = text.replace(
                "    if group <= last {",
                &format!("    if group <= last {{\n {operation}"),
            );
            assert_ne!(broken, text);
            assert!(found(&broken), "the check must see {operation}");
        }
    }
}
