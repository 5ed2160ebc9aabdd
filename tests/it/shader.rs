//! The shader is valid, keeps its barriers in uniform control flow, and translates as it did.

use crate::support::not_run;
use naga::back::hlsl::{self, ShaderModel};
use naga::back::{msl, pipeline_constants, spv};
use naga::valid::{Capabilities, ModuleInfo, ValidationFlags, Validator};
use naga::{Block, Module, ShaderStage, Statement};
use tq4::lane::wgpu::{arithmetic, constants, shader};
use tq4::tensor::Layout;

fn validate(module: &Module, subgroups: bool) -> ModuleInfo {
    let mut capabilities = Capabilities::empty();
    capabilities.set(Capabilities::SUBGROUP, subgroups);
    Validator::new(ValidationFlags::all(), capabilities)
        .validate(module)
        .unwrap()
}

/// A variant of the shader for 4 bits and groups of 128, constants put in.
fn module(subgroups: bool) -> (Module, ModuleInfo) {
    let module = naga::front::wgsl::parse_str(shader(subgroups)).unwrap();
    let info = validate(&module, subgroups);
    let layout = Layout::new(4, 128).unwrap();
    let constants = constants(layout, false, if subgroups { 8 } else { 1 })
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

fn to_hlsl(subgroups: bool, shader_model: ShaderModel) -> String {
    let (module, info) = module(subgroups);
    let options = hlsl::Options {
        fake_missing_bindings: true,
        shader_model,
        ..Default::default()
    };
    let mut text = String::new();
    let pipeline = hlsl::PipelineOptions::default();
    hlsl::Writer::new(&mut text, &options, &pipeline)
        .write(&module, &info, None)
        .unwrap();
    text
}

#[test]
fn translation_to_hlsl() {
    // Shader model 5.1 is what FXC compiles; it has no subgroups.
    let old = to_hlsl(false, ShaderModel::V5_1);
    assert_eq!(old, to_hlsl(false, ShaderModel::V6_0));
    assert!(!old.contains("Wave"));
    insta::assert_snapshot!("translation_to_hlsl", old);
    let with_subgroups = to_hlsl(true, ShaderModel::V6_0);
    insta::assert_snapshot!("translation_to_hlsl_with_subgroups", with_subgroups);
}

#[test]
fn spirv_is_valid_and_asks_for_no_fused_multiply_add() {
    for subgroups in [false, true] {
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
                assert!(!text.contains("Fma"));
                assert_eq!(text.contains("OpGroupNonUniformShuffleXor"), subgroups);
            }
            _ => not_run("spirv-val", "install spirv-tools"),
        }
    }
}

/// Whether `module` has a barrier or a subgroup operation under a condition, in a function that it calls
/// as well. The exit of a loop is a condition too, but an empty one.
fn under_condition(module: &Module, block: &Block, conditional: bool) -> bool {
    let inner = |block, conditional| under_condition(module, block, conditional);
    block.iter().any(|statement| match statement {
        Statement::ControlBarrier(_)
        | Statement::WorkGroupUniformLoad { .. }
        | Statement::SubgroupBallot { .. }
        | Statement::SubgroupGather { .. }
        | Statement::SubgroupCollectiveOperation { .. } => conditional,
        Statement::Call { function, .. } => inner(&module.functions[*function].body, conditional),
        Statement::Block(block) => inner(block, conditional),
        Statement::If { accept, reject, .. } => inner(accept, true) || inner(reject, true),
        Statement::Switch { cases, .. } => cases.iter().any(|c| inner(&c.body, true)),
        Statement::Loop {
            body, continuing, ..
        } => inner(body, conditional) || inner(continuing, conditional),
        _ => false,
    })
}

#[test]
fn no_barrier_and_no_shuffle_stands_in_non_uniform_control_flow() {
    let found = |text: &str| {
        let module = naga::front::wgsl::parse_str(text).unwrap();
        under_condition(&module, &module.entry_points[0].function.body, false)
    };
    // Loops run as often in every invocation: their bounds come from constants alone.
    let shuffled = "for (var stride = 1u; stride < min(REACH, N / 8u); stride <<= 1u) {";
    let through_memory = "for (var stride = first; stride < N / 8u; stride <<= 1u) {";
    for (subgroups, loops, first, barriers, shuffles) in [
        (false, vec![through_memory], "1u", 3, 0),
        (true, vec![shuffled, through_memory], "REACH", 2, 4),
    ] {
        let text = shader(subgroups);
        assert!(!found(text));
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
        let call = format!("butterflies_through_memory({first}, lane, lo, hi);");
        assert!(text.contains(&call), "{call}");
        assert!(
            !text.contains("return;"),
            "an early return would leave the others waiting"
        );
        for operation in [
            "workgroupBarrier();",
            "lo = subgroupShuffleXor(lo, 1u);",
            "hand_over(lane, &lo, &hi);",
        ] {
            let broken = text.replace(
                "    if group <= last {",
                &format!("    if group <= last {{\n {operation}"),
            );
            assert_ne!(broken, text);
            assert!(found(&broken), "the check must see {operation}");
        }
    }
}

#[test]
fn the_arithmetic_probe_is_valid_behind_both_variants_and_translates() {
    for (subgroups, _) in VARIANTS {
        let module = naga::front::wgsl::parse_str(&arithmetic::behind(shader(subgroups))).unwrap();
        // For `unpack2x16float`; Vulkan, Metal and D3D12 have it.
        let mut capabilities = Capabilities::SHADER_FLOAT16_IN_FLOAT32;
        capabilities.set(Capabilities::SUBGROUP, subgroups);
        let mut validator = Validator::new(ValidationFlags::all(), capabilities);
        let info = validator.validate(&module).unwrap();
        let is_probe = |e: &&naga::EntryPoint| e.name == arithmetic::ENTRY;
        let probe = module.entry_points.iter().find(is_probe).unwrap();
        assert!(!under_condition(&module, &probe.function.body, false));
        let entry = Some((ShaderStage::Compute, arithmetic::ENTRY));
        let (module, info) =
            pipeline_constants::process_overrides(&module, &info, entry, &Default::default())
                .unwrap();
        let options = msl::Options {
            fake_missing_bindings: true,
            lang_version: (2, 4),
            ..Default::default()
        };
        msl::write_string(&module, &info, &options, &Default::default()).unwrap();
        let options = hlsl::Options {
            fake_missing_bindings: true,
            shader_model: if subgroups {
                ShaderModel::V6_0
            } else {
                ShaderModel::V5_1
            },
            ..Default::default()
        };
        let pipeline = hlsl::PipelineOptions::default();
        hlsl::Writer::new(&mut String::new(), &options, &pipeline)
            .write(&module, &info, None)
            .unwrap();
    }
}
