//! The shader is valid, keeps its barriers in uniform control flow, and translates as it did.

#[path = "support/lane.rs"]
mod lane;

use naga::back::{hlsl, msl, pipeline_constants, spv};
use naga::valid::{Capabilities, ModuleInfo, ValidationFlags, Validator};
use naga::{Module, ShaderStage};
use tq4::backend::wgpu::SHADER;

fn validate(module: &Module) -> ModuleInfo {
    Validator::new(ValidationFlags::all(), Capabilities::empty())
        .validate(module)
        .unwrap()
}

/// The shader for 4 bits and groups of 128, constants put in.
fn module() -> (Module, ModuleInfo) {
    let module = naga::front::wgsl::parse_str(SHADER).unwrap();
    let info = validate(&module);
    let constants = [
        ("N", 128.0),
        ("STORED_BITS", 4.0),
        ("INV_SQRT_N", 0.08838834764831845),
        ("OUT_F32", 0.0),
    ]
    .into_iter()
    .map(|(k, v)| (k.to_owned(), v))
    .collect();
    let entry = Some((ShaderStage::Compute, "tq4_dequant"));
    let (module, info) =
        pipeline_constants::process_overrides(&module, &info, entry, &constants).unwrap();
    (module.into_owned(), info.into_owned())
}

#[test]
fn translation_to_metal() {
    let (module, info) = module();
    let options = msl::Options {
        fake_missing_bindings: true,
        ..Default::default()
    };
    let (text, _) = msl::write_string(&module, &info, &options, &Default::default()).unwrap();
    insta::assert_snapshot!(text);
}

#[test]
fn translation_to_hlsl() {
    let (module, info) = module();
    let options = hlsl::Options {
        fake_missing_bindings: true,
        ..Default::default()
    };
    let mut text = String::new();
    let pipeline = hlsl::PipelineOptions::default();
    hlsl::Writer::new(&mut text, &options, &pipeline)
        .write(&module, &info, None)
        .unwrap();
    insta::assert_snapshot!(text);
}

#[test]
fn translation_to_spirv() {
    let (module, info) = module();
    let words = spv::write_vec(&module, &info, &spv::Options::default(), None).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("tq4_dequant.spv");
    std::fs::write(&file, bytemuck::cast_slice::<u32, u8>(&words)).unwrap();
    let tool = |name: &str| std::process::Command::new(name).arg(&file).output();
    match (tool("spirv-val"), tool("spirv-dis")) {
        (Ok(val), Ok(dis)) => {
            assert!(
                val.status.success(),
                "{}",
                String::from_utf8_lossy(&val.stderr)
            );
            let text = String::from_utf8(dis.stdout).unwrap();
            // No contraction can be forbidden in WGSL: the multiply and the adds must stay apart.
            assert!(!text.contains("Fma"), "no fused multiply-add is asked for");
        }
        _ => lane::not_run("spirv-val", "install spirv-tools"),
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
    insta::assert_snapshot!(hex.join("\n"));
}

/// Whether a block, or one nested in it, holds a barrier under a condition. The exit of a loop is a
/// condition as well, but an empty one.
fn barrier_under_condition(block: &naga::Block, conditional: bool) -> bool {
    use naga::Statement;
    block.iter().any(|statement| match statement {
        Statement::ControlBarrier(_) | Statement::WorkGroupUniformLoad { .. } => conditional,
        Statement::Block(inner) => barrier_under_condition(inner, conditional),
        Statement::If { accept, reject, .. } => {
            barrier_under_condition(accept, true) || barrier_under_condition(reject, true)
        }
        Statement::Switch { cases, .. } => {
            cases.iter().any(|c| barrier_under_condition(&c.body, true))
        }
        Statement::Loop {
            body, continuing, ..
        } => {
            barrier_under_condition(body, conditional)
                || barrier_under_condition(continuing, conditional)
        }
        _ => false,
    })
}

#[test]
fn no_barrier_stands_in_non_uniform_control_flow() {
    let under_condition = |text: &str| {
        let module = naga::front::wgsl::parse_str(text).unwrap();
        let entry = &module.entry_points[0].function;
        barrier_under_condition(&entry.body, false)
            || module
                .functions
                .iter()
                .any(|(_, f)| barrier_under_condition(&f.body, true))
    };
    assert!(!under_condition(SHADER));
    // The one loop runs as often in every invocation: its bounds come from a constant alone.
    assert_eq!(SHADER.matches("workgroupBarrier();").count(), 2);
    assert_eq!(
        SHADER.matches("for (").count()
            + SHADER.matches("loop").count()
            + SHADER.matches("while").count(),
        1
    );
    assert!(SHADER.contains("for (var stride = 1u; stride < lanes_per_group; stride <<= 1u) {"));
    assert!(SHADER.contains("let lanes_per_group = N / 8u;"));
    assert!(
        !SHADER.contains("return;"),
        "an early return would leave the others waiting"
    );

    let broken = SHADER.replace(
        "    if group <= last {",
        "    if group <= last {\n workgroupBarrier();",
    );
    assert_ne!(broken, SHADER);
    assert!(
        under_condition(&broken),
        "the check must see a barrier under a condition"
    );
}
