//! The shader is valid, keeps its barriers in uniform control flow, translates as it did, and moves no more
//! through workgroup memory than it says.

use crate::support::not_run;
use crate::wgpu::{EVERY_OUTPUT, FORMS};
use naga::back::hlsl::{self, ShaderModel};
use naga::back::{msl, pipeline_constants, spv};
use naga::valid::{Capabilities, ModuleInfo, ValidationFlags, Validator};
use naga::{Block, Expression, Function, Module, ShaderStage, Statement};
use tq4::codec::Scaling;
use tq4::format::{every_codec, gguf, tq3_native};
use tq4::lane::wgpu::{SHADER, arithmetic, constants, entry};
use tq4::record::OutputType;
use tq4::tensor::Layout;

/// A text with constants put in.
fn processed(
    text: &str,
    layout: Layout,
    output: OutputType,
    hand_over: bool,
) -> (Module, ModuleInfo) {
    let module = naga::front::wgsl::parse_str(text).unwrap();
    let info = Validator::new(ValidationFlags::all(), Capabilities::empty())
        .validate(&module)
        .unwrap();
    let constants = constants(layout, output, hand_over).into_iter().collect();
    let entry = Some((ShaderStage::Compute, entry(layout, output)));
    let (module, info) =
        pipeline_constants::process_overrides(&module, &info, entry, &constants).unwrap();
    (module.into_owned(), info.into_owned())
}

/// The shader for 4 bits and groups of 128, and two that have between them what is not in it: true 3 bits, four
/// scales a group as E3M5, F16; signs before the transform, and an f32 scale after it.
fn translated() -> [(Module, ModuleInfo); 3] {
    let plain = Layout::new(4, 128).unwrap();
    let block = gguf::BlockType::Tq3_4s.codec().layout;
    let native = tq3_native::codec(3, 128, 42).unwrap().layout;
    [
        (plain, OutputType::Bf16),
        (block, OutputType::F16),
        (native, OutputType::F32),
    ]
    .map(|(layout, output)| processed(SHADER, layout, output, false))
}

/// Every codec and type of output with either form of the shader, each pipeline once.
fn all() -> impl Iterator<Item = (Layout, OutputType, bool)> {
    let layouts = every_codec().into_iter().map(|(_, codec)| codec.layout);
    let outputs = layouts.flat_map(|layout| EVERY_OUTPUT.map(|output| (layout, output)));
    let all = outputs.flat_map(|(layout, output)| FORMS.map(|form| (layout, output, form)));
    let mut seen = Vec::new();
    all.filter(move |(layout, output, form)| {
        let constants = constants(*layout, *output, *form);
        let new = !seen.contains(&constants);
        seen.push(constants);
        new
    })
}

fn to_metal(module: &Module, info: &ModuleInfo) -> String {
    let options = msl::Options {
        fake_missing_bindings: true,
        lang_version: (2, 4),
        zero_initialize_workgroup_memory: false,
        ..Default::default()
    };
    msl::write_string(module, info, &options, &Default::default())
        .unwrap()
        .0
}

/// Of a translation with other constants, the lines that are others; none is more or less.
fn others(plain: &str, other: &str) -> String {
    assert_eq!(plain.lines().count(), other.lines().count());
    let lines = plain.lines().zip(other.lines());
    let lines = lines.filter(|(plain, other)| plain != other);
    lines.map(|(_, other)| format!("{other}\n")).collect()
}

#[test]
fn translation_to_metal() {
    let [plain, block, native] = translated().map(|(module, info)| to_metal(&module, &info));
    insta::assert_snapshot!("translation_to_metal", plain);
    insta::assert_snapshot!("translation_to_metal_of_a_block", others(&plain, &block));
    insta::assert_snapshot!(
        "translation_to_metal_of_tq3_native",
        others(&plain, &native)
    );
}

fn to_hlsl(module: &Module, info: &ModuleInfo, shader_model: ShaderModel) -> String {
    let options = hlsl::Options {
        fake_missing_bindings: true,
        shader_model,
        zero_initialize_workgroup_memory: false,
        ..Default::default()
    };
    let mut text = String::new();
    let pipeline = hlsl::PipelineOptions::default();
    hlsl::Writer::new(&mut text, &options, &pipeline)
        .write(module, info, None)
        .unwrap();
    text
}

#[test]
fn translation_to_hlsl() {
    // Shader model 5.1 is what FXC compiles.
    let [plain, block, native] = translated().map(|(module, info)| {
        let old = to_hlsl(&module, &info, ShaderModel::V5_1);
        assert_eq!(old, to_hlsl(&module, &info, ShaderModel::V6_0));
        old
    });
    insta::assert_snapshot!("translation_to_hlsl", plain);
    insta::assert_snapshot!("translation_to_hlsl_of_a_block", others(&plain, &block));
    insta::assert_snapshot!("translation_to_hlsl_of_tq3_native", others(&plain, &native));
}

#[test]
fn spirv_is_valid_and_asks_for_one_fused_multiply_add() {
    for (layout, output, form) in all() {
        let (module, info) = processed(SHADER, layout, output, form);
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
        let val = tool("spirv-val", &["--target-env", "vulkan1.1"]);
        let (Ok(val), Ok(dis)) = (val, tool("spirv-dis", &[])) else {
            return not_run("spirv-val", "install spirv-tools");
        };
        let log = String::from_utf8_lossy(&val.stderr);
        assert!(val.status.success(), "{log}");
        let text = String::from_utf8(dis.stdout).unwrap();
        // The guard's.
        assert_eq!(text.matches(" Fma ").count(), 1);
    }
}

/// What one invocation does, in the MSL translation of a shader.
#[derive(Debug, Default, PartialEq)]
struct Cost {
    barriers: usize,
    /// Words of workgroup memory that it reads and writes.
    words: usize,
}

/// The lines of a function in MSL.
fn lines<'a>(text: &'a str, name: &str) -> Option<Vec<&'a str>> {
    let mut lines = text.lines();
    lines.find(|line| {
        let start = line.strip_suffix('(').and_then(|l| l.strip_suffix(name));
        start.is_some_and(|rest| rest.ends_with(' '))
    })?;
    Some(lines.take_while(|line| *line != "}").collect())
}

/// Counts what runs of a function and of what it calls; conditions that are constants are followed.
fn cost(text: &str, name: &str) -> Cost {
    let mut cost_of_all = Cost::default();
    let lines = lines(text, name).unwrap_or_else(|| panic!("no function {name}"));
    let indent = |line: &str| line.len() - line.trim_start().len();
    // The indents of constant conditions, each with whether their lines run.
    let mut open: Vec<(usize, bool)> = Vec::new();
    for line in lines {
        if let Some((at, runs)) = open.last_mut()
            && indent(line) == *at
        {
            match line.trim() {
                "} else {" => *runs = !*runs,
                _ => {
                    open.pop();
                }
            }
            continue;
        }
        let condition = line.trim().strip_prefix("if (");
        if let Some(word) = condition.and_then(|rest| rest.strip_suffix(") {")) {
            let named = |value: &str| text.contains(&format!("constant bool {word} = {value};"));
            if word == "true" || named("true") {
                open.push((indent(line), true));
                continue;
            } else if word == "false" || named("false") {
                open.push((indent(line), false));
                continue;
            }
        }
        if open.iter().any(|(_, runs)| !runs) {
            continue;
        }
        let count = |what: &str| line.matches(what).count();
        cost_of_all.barriers += count("threadgroup_barrier(");
        cost_of_all.words += 4 * count("exchange.inner[") + count("table.inner[");
        for (at, _) in line.match_indices('(') {
            let start = line[..at].rfind(|c: char| !c.is_alphanumeric() && c != '_' && c != ':');
            let called = &line[start.map_or(0, |i| i + 1)..at];
            if self::lines(text, called).is_some() {
                let inner = cost(text, called);
                cost_of_all.barriers += inner.barriers;
                cost_of_all.words += inner.words;
            }
        }
    }
    cost_of_all
}

/// Two barriers, and an element takes three words: a centroid is read, a value written and read.
#[test]
fn an_invocation_meets_two_barriers_and_moves_three_words_an_element() {
    for (layout, output, form) in all() {
        let (module, info) = processed(SHADER, layout, output, form);
        let text = to_metal(&module, &info);
        // A scale that comes last is multiplied with by nobody else.
        let form = form && layout.scales().scaling == Scaling::Before;
        let exchanges = usize::from(layout.group_size() > 32);
        let expected = Cost {
            // The table, the exchange, and what is handed over.
            barriers: 1 + exchanges + usize::from(form),
            // One more: 16 of 64 invocations fill the table.
            words: 32 * (1 + 2 * exchanges + 2 * usize::from(form)) + 1,
        };
        // naga puts one behind a number.
        let name = entry(layout, output).replace("256", "256_");
        assert_eq!(
            cost(&text, &name),
            expected,
            "{layout:?}, {output:?}, {form}"
        );
        if !form {
            assert!(expected.barriers <= 2 && (expected.words - 1) / 32 <= 3);
        }
    }
}

/// Whether `block` has a barrier under a condition, in a function that it calls as well. Conditions that are
/// constants are none, but both of their branches count.
fn under_condition(module: &Module, function: &Function, block: &Block, conditional: bool) -> bool {
    let inner = |block, conditional| under_condition(module, function, block, conditional);
    block.iter().any(|statement| match statement {
        Statement::ControlBarrier(_) | Statement::WorkGroupUniformLoad { .. } => conditional,
        Statement::Call { function, .. } => {
            let called = &module.functions[*function];
            under_condition(module, called, &called.body, conditional)
        }
        Statement::Block(block) => inner(block, conditional),
        Statement::If {
            condition,
            accept,
            reject,
        } => {
            let constant = matches!(
                function.expressions[*condition],
                Expression::Literal(_) | Expression::Constant(_)
            );
            let conditional = conditional || !constant;
            inner(accept, conditional) || inner(reject, conditional)
        }
        Statement::Switch { cases, .. } => cases.iter().any(|c| inner(&c.body, true)),
        Statement::Loop {
            body, continuing, ..
        } => inner(body, conditional) || inner(continuing, conditional),
        _ => false,
    })
}

#[test]
fn no_barrier_stands_in_non_uniform_control_flow() {
    for (layout, output, form) in all() {
        let found = |text: &str| {
            let (module, _) = processed(text, layout, output, form);
            assert_eq!(module.entry_points.len(), 1);
            let entry = &module.entry_points[0].function;
            under_condition(&module, entry, &entry.body, false)
        };
        assert!(!found(SHADER));
        for operation in ["workgroupBarrier();", "_ = hand_over(lane, x);"] {
            let broken = SHADER.replace(
                "    if group < params.groups {",
                &format!("    if group < params.groups {{\n {operation}"),
            );
            assert_ne!(broken, SHADER);
            assert!(found(&broken), "the check must see {operation}");
        }
    }
    let lines = || SHADER.lines().map(|line| line.split("//").next().unwrap());
    for none in ["for ", "loop ", "while "] {
        let any = lines().any(|line| line.contains(none));
        assert!(!any, "strides are unrolled by hand");
    }
    // An early return would leave the others waiting: the one is the function's last statement.
    let steps = SHADER.split("fn dequantised").nth(1).unwrap();
    let (steps, stores) = steps.split_once("\n}\n").unwrap();
    assert_eq!(steps.matches("return").count(), 1);
    assert!(steps.contains("\n    return") && !stores.contains("return"));
}

#[test]
fn the_arithmetic_probe_is_valid_behind_the_shader_and_translates() {
    let module = naga::front::wgsl::parse_str(&arithmetic::behind(SHADER)).unwrap();
    // For `unpack2x16float`; Vulkan, Metal and D3D12 have it.
    let capabilities = Capabilities::SHADER_FLOAT16_IN_FLOAT32;
    let mut validator = Validator::new(ValidationFlags::all(), capabilities);
    let info = validator.validate(&module).unwrap();
    let is_probe = |e: &&naga::EntryPoint| e.name == arithmetic::ENTRY;
    let probe = &module.entry_points.iter().find(is_probe).unwrap().function;
    assert!(!under_condition(&module, probe, &probe.body, false));
    let entry = Some((ShaderStage::Compute, arithmetic::ENTRY));
    let (module, info) =
        pipeline_constants::process_overrides(&module, &info, entry, &Default::default()).unwrap();
    to_metal(&module, &info);
    for shader_model in [ShaderModel::V5_1, ShaderModel::V6_0] {
        let options = hlsl::Options {
            fake_missing_bindings: true,
            shader_model,
            ..Default::default()
        };
        let pipeline = hlsl::PipelineOptions::default();
        hlsl::Writer::new(&mut String::new(), &options, &pipeline)
            .write(&module, &info, None)
            .unwrap();
    }
}
