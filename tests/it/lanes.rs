//! What every lane does, written once and made for each of them.

use crate::support::lane::{
    check, check_all, edge_scales, f16_ties, layouts, random_codecs, random_strips, strip, ties,
};
use crate::support::tint::{self, Tint};
use crate::support::{self, REQUIRE, again, not_run, not_run_under, root, standin, tool};
use crate::wgpu::{EVERY_OUTPUT, FORMS};
use std::ffi::OsString;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::Duration;
use tq4::Error;
use tq4::lane::kernel::Manifest;
use tq4::lane::{Lane, Output, POISON_F32, Slot, cpu, cuda, decode, open, wgpu};
use tq4::record::{LaneConfig, LaneKind, LaneName, OutputType, Status};
use tq4::run::Strip;
use tq4::synthetic::ScaleDistribution;
use tq4::tensor::Layout;

/// A lane, or several where a machine has several devices.
type Lanes = Vec<Box<dyn Lane>>;

/// Where the tests of a lane run.
enum Home {
    Here,
    /// In a process with this in its environment.
    Process(&'static str, OsString),
    /// Nowhere, which was said.
    Nowhere,
}

/// Set in a process of [`Home::Process`].
const INNER: &str = "TQ4_INNER_LANES";

/// The types of output that every lane has.
const BOTH: &[OutputType] = &[OutputType::Bf16, OutputType::F32];

/// Runs one test on each of the lanes, for each of the types of output.
fn run(
    name: &str,
    home: fn() -> Home,
    open: fn(OutputType) -> Lanes,
    outputs: &[OutputType],
    test: fn(&mut dyn Lane),
) {
    if std::env::var_os(INNER).is_none() {
        match home() {
            Home::Here => {}
            Home::Nowhere => return,
            Home::Process(variable, value) => {
                let out = again::tests(name)
                    .arg("--exact")
                    .env(variable, value)
                    .env(INNER, "1")
                    .env(REQUIRE, "1")
                    .output()
                    .unwrap();
                let [text, log] = [&out.stdout, &out.stderr].map(|t| String::from_utf8_lossy(t));
                assert!(out.status.success(), "{text}{log}");
                assert!(!log.contains("stand-in: "), "{log}");
                assert_eq!(again::ran(&text), 1);
                return;
            }
        }
    }
    for output in outputs.iter().copied() {
        for mut lane in open(output) {
            eprintln!("on {:?}", lane.info());
            assert_eq!(lane.info().output, output);
            test(&mut *lane);
        }
    }
}

/// `lane_tests!(NAME, HOME, OPEN)`: the tests of this file for one lane; `, OUTPUTS; TESTS`: some of them.
macro_rules! lane_tests {
    ($name:ident, $home:expr, $open:expr) => {
        lane_tests! { $name, $home, $open, super::BOTH;
            every_layout_keeps_the_rule_of_its_lane,
            the_smallest_and_largest_scales_are_right,
            what_a_kernel_leaves_unwritten_is_poison,
            strips_of_any_size_follow_each_other,
            every_run_and_every_read_gives_the_same_bits,
            a_failed_load_leaves_the_lane_usable,
            a_lane_works_on_any_thread,
        }
    };
    ($name:ident, $home:expr, $open:expr, $outputs:expr; $($test:ident,)*) => {
        mod $name {
            $(
                #[test]
                fn $test() {
                    let name = concat!("lanes::", stringify!($name), "::", stringify!($test));
                    super::run(name, $home, $open, $outputs, super::$test);
                }
            )*
        }
    };
}

lane_tests!(reference, || super::Home::Here, super::open_reference);
lane_tests!(wgpu_here, || super::Home::Here, super::open_wgpu);
lane_tests!(
    wgpu_swiftshader,
    super::swiftshader,
    super::open_swiftshader
);
lane_tests!(tint_swiftshader, || super::Home::Here, super::open_tint);
lane_tests!(cuda_here, || super::Home::Here, super::open_cuda);
lane_tests!(cuda_emulated, super::emulation, super::open_emulated);
lane_tests! { codecs_wgpu_here, || super::Home::Here, super::open_wgpu, &super::EVERY_OUTPUT;
    every_codec_keeps_the_rule_of_its_lane, halves_are_rounded_to_even,
}
lane_tests! { codecs_wgpu_swiftshader, super::swiftshader, super::open_swiftshader, &super::EVERY_OUTPUT;
    every_codec_keeps_the_rule_of_its_lane, halves_are_rounded_to_even,
}
lane_tests! { codecs_tint_swiftshader, || super::Home::Here, super::open_tint, &super::EVERY_OUTPUT;
    every_codec_keeps_the_rule_of_its_lane, halves_are_rounded_to_even,
}
// The plain twins: where one of them and the lane above it fail alike, the driver is wrong.
lane_tests!(
    plain_wgpu_here,
    || super::Home::Here,
    super::open_plain_wgpu
);
lane_tests!(
    plain_wgpu_swiftshader,
    super::swiftshader,
    super::open_plain_wgpu
);
lane_tests!(plain_tint, || super::Home::Here, super::open_plain_tint);
lane_tests!(plain_cuda_here, super::compiler, super::open_plain_cuda);
lane_tests!(
    plain_cuda_emulated,
    super::emulated_compiler,
    super::open_plain_emulated
);

fn open_reference(output: OutputType) -> Lanes {
    vec![Box::new(cpu::Cpu::new(output))]
}

/// Every adapter with both forms of the shader.
fn open_wgpu(output: OutputType) -> Lanes {
    let mut lanes: Lanes = Vec::new();
    for a in wgpu::list() {
        for hand_over in FORMS {
            let options = wgpu::WgpuOptions {
                adapter: wgpu::Select::Index(a.index),
                hand_over: Some(hand_over),
                output,
                ..Default::default()
            };
            lanes.push(Box::new(
                wgpu::Wgpu::open(&options, LaneName::Wgpu).unwrap(),
            ));
        }
    }
    if lanes.is_empty() {
        let why = "no adapter (Debian: mesa-vulkan-drivers libvulkan1)";
        not_run("wgpu", why);
    }
    lanes
}

fn swiftshader() -> Home {
    let how = "set TQ4_SWIFTSHADER_ICD to its ICD file (see .ci/run)";
    match tool("TQ4_SWIFTSHADER_ICD", "wgpu on SwiftShader", how) {
        Some(icd) => Home::Process("VK_DRIVER_FILES", icd.into()),
        None => Home::Nowhere,
    }
}

fn open_swiftshader(output: OutputType) -> Lanes {
    let lanes = open_wgpu(output);
    let mut devices = lanes.iter().map(|lane| &lane.info().device);
    assert!(!lanes.is_empty() && devices.all(|name| name.contains("SwiftShader")));
    lanes
}

/// Both forms of the shader under Tint.
fn open_tint(output: OutputType) -> Lanes {
    let Some(tools) = tint::tools() else {
        return Vec::new();
    };
    let of = |form| -> Box<dyn Lane> {
        Box::new(Tint::open(
            &tools,
            "tint",
            wgpu::ShaderProgram::own(form, output),
        ))
    };
    FORMS.map(of).into()
}

/// The plain kernel of the examples.
fn plain(api: &str) -> Manifest {
    let name = format!("examples/kernels/plain_{api}.toml");
    Manifest::read(&root().join(name)).unwrap()
}

/// The plain shader on every adapter. It returns BF16.
fn open_plain_wgpu(output: OutputType) -> Lanes {
    let mut lanes: Lanes = Vec::new();
    if output != OutputType::Bf16 {
        return lanes;
    }
    let kernel = plain("wgpu");
    for a in wgpu::list() {
        let options = wgpu::WgpuOptions {
            adapter: wgpu::Select::Index(a.index),
            kernel: Some(kernel.clone()),
            ..Default::default()
        };
        let lane = wgpu::Wgpu::open(&options, kernel.name().clone());
        lanes.push(Box::new(lane.unwrap()));
    }
    if lanes.is_empty() {
        let why = "no adapter (Debian: mesa-vulkan-drivers libvulkan1)";
        not_run("the plain shader", why);
    }
    lanes
}

fn open_plain_tint(output: OutputType) -> Lanes {
    let (kernel, bf16) = (plain("wgpu"), output == OutputType::Bf16);
    let Some(tools) = bf16.then(tint::tools).flatten() else {
        return Vec::new();
    };
    let name = kernel.name().to_string();
    let lane = Tint::open(&tools, &name, wgpu::ShaderProgram::User(Box::new(kernel)));
    vec![Box::new(lane)]
}

/// The CUDA device of this machine. Few have one: only `TQ4_REQUIRE_CUDA` makes its absence a failure.
fn open_cuda(output: OutputType) -> Lanes {
    there(open_first_cuda(output), "CUDA on a device")
}

/// A CUDA lane; none with a notice where there is no device.
fn there(opened: Result<Box<dyn Lane>, Error>, what: &str) -> Lanes {
    match opened {
        Ok(lane) => vec![lane],
        Err(e @ Error::Unavailable(_)) => {
            not_run_under("TQ4_REQUIRE_CUDA", what, &e.to_string());
            Vec::new()
        }
        Err(e) => panic!("{e}"),
    }
}

fn open_first_cuda(output: OutputType) -> Result<Box<dyn Lane>, Error> {
    let options = cuda::CudaOptions {
        output,
        ..Default::default()
    };
    Ok(Box::new(cuda::Cuda::open(&options)?))
}

fn emulation() -> Home {
    match standin::right() {
        Some(folder) => Home::Process("LD_LIBRARY_PATH", folder.into()),
        None => Home::Nowhere,
    }
}

fn open_emulated(output: OutputType) -> Lanes {
    let lane = open_first_cuda(output).unwrap();
    assert!(lane.info().software, "{:?}", lane.info());
    vec![lane]
}

/// NVRTC on the library path, with `first` before it.
fn with_compiler(first: Option<&Path>) -> Home {
    match support::cuda::with_nvrtc(first, "the plain CUDA kernel") {
        Some(libraries) => Home::Process("LD_LIBRARY_PATH", libraries),
        None => Home::Nowhere,
    }
}

fn compiler() -> Home {
    with_compiler(None)
}

fn emulated_compiler() -> Home {
    match standin::right() {
        Some(folder) => with_compiler(Some(folder)),
        None => Home::Nowhere,
    }
}

/// The plain kernel on the CUDA device. It returns BF16.
fn open_plain_cuda(output: OutputType) -> Lanes {
    if output != OutputType::Bf16 {
        return Vec::new();
    }
    let options = cuda::CudaOptions {
        kernel: Some(plain("cuda")),
        ..Default::default()
    };
    let opened = cuda::Cuda::open(&options).map(|lane| Box::new(lane) as Box<dyn Lane>);
    there(opened, "the plain kernel on a CUDA device")
}

fn open_plain_emulated(output: OutputType) -> Lanes {
    let lanes = open_plain_cuda(output);
    let emulated = lanes.iter().filter(|lane| lane.info().software).count();
    assert_eq!(emulated, usize::from(output == OutputType::Bf16));
    lanes
}

#[test]
fn lanes_open_as_they_are_asked_for() {
    let mut config = LaneConfig {
        lanes: vec![LaneKind::Reference],
        ..Default::default()
    };
    let records: Vec<_> = open(&config).unwrap().iter().map(Slot::record).collect();
    let found: Vec<_> = records.iter().map(|r| (&r.name, r.status)).collect();
    let skipped = [LaneName::Cuda, LaneName::Wgpu];
    assert_eq!(found[0], (&LaneName::Reference, Status::Ran));
    assert_eq!(found[1..], [0, 1].map(|i| (&skipped[i], Status::Skipped)));
    if wgpu::list().is_empty() {
        return not_run("opening wgpu lanes", "no adapter");
    }
    config.lanes = vec![LaneKind::Wgpu];
    let slots = open(&config).unwrap();
    let names: Vec<_> = slots.iter().map(|slot| slot.name().to_string()).collect();
    assert_eq!(names, ["reference", "cuda", "wgpu"]);
    assert!(slots[2].record().kernel_variant.is_some());
    config.adapter = Some("no such adapter".into());
    assert!(matches!(open(&config), Err(Error::Input(_))));
}

// ---------------------------------------------------------------------------------------------------
// The tests of every lane

fn every_layout_keeps_the_rule_of_its_lane(lane: &mut dyn Lane) {
    check_all(lane, &random_strips(11, 100)).unwrap();
}

/// Plain ones as well, for the type of output that not every lane has.
fn every_codec_keeps_the_rule_of_its_lane(lane: &mut dyn Lane) {
    check_all(lane, &random_codecs(14, 100)).unwrap();
    if lane.info().output == OutputType::F16 {
        check_all(lane, &random_strips(15, 24)).unwrap();
    }
}

fn halves_are_rounded_to_even(lane: &mut dyn Lane) {
    check_all(lane, &[ties(), f16_ties()]).unwrap();
}

fn the_smallest_and_largest_scales_are_right(lane: &mut dyn Lane) {
    for layout in layouts() {
        check(lane, &edge_scales(layout)).unwrap();
    }
}

/// A strip of the most used layout.
fn usual(rows: usize) -> Strip {
    strip(
        5,
        Layout::new(4, 128).unwrap(),
        rows,
        4,
        ScaleDistribution::Usual,
    )
}

fn read(lane: &mut dyn Lane, strip: &Strip) -> Output {
    let mut out = Output::zeroed(lane.info().output, strip.elements());
    lane.read(out.bytes_mut()).unwrap();
    out
}

/// Poison is what is read before the kernel has run, also where an earlier strip was computed.
fn what_a_kernel_leaves_unwritten_is_poison(lane: &mut dyn Lane) {
    for rows in [33, 33, 5] {
        let strip = usual(rows);
        lane.load(&strip).unwrap();
        for word in read(lane, &strip).bytes().chunks_exact(4) {
            assert_eq!(word, POISON_F32.to_ne_bytes());
        }
        lane.run().unwrap();
        assert_eq!(read(lane, &strip).values().len(), strip.elements());
        check(lane, &strip).unwrap();
    }
}

fn strips_of_any_size_follow_each_other(lane: &mut dyn Lane) {
    for (rows, bits, group) in [
        (3, 4, 128),
        (64, 2, 32),
        (1, 3, 256),
        (200, 4, 64),
        (2, 4, 128),
    ] {
        let strip = strip(
            rows as u64,
            Layout::new(bits, group).unwrap(),
            rows,
            3,
            ScaleDistribution::Any,
        );
        check(lane, &strip).unwrap();
    }
    lane.unload();
    check(lane, &usual(9)).unwrap();
}

fn every_run_and_every_read_gives_the_same_bits(lane: &mut dyn Lane) {
    let strip = usual(37);
    let (first, _) = decode(lane, &strip).unwrap();
    for bytes in [4096, 1 << 16, 4096] {
        let timed = lane.run().unwrap();
        assert!(timed.wall > Duration::ZERO);
        assert!(timed.device.is_none_or(|d| d <= timed.wall), "{timed:?}");
        assert_eq!(read(lane, &strip).bytes(), first.bytes());
        match lane.copy(bytes).unwrap() {
            Some(copied) => assert!(copied.wall > Duration::ZERO),
            // Only a lane that this program brings has no memory to copy.
            None => assert_eq!(lane.info().name.kind(), None),
        }
        assert_eq!(read(lane, &strip).bytes(), first.bytes());
    }
}

fn a_failed_load_leaves_the_lane_usable(lane: &mut dyn Lane) {
    let strip = usual(7);
    check(lane, &strip).unwrap();
    let nothing = Strip {
        tensor: None,
        ..strip.clone()
    };
    assert!(matches!(lane.load(&nothing), Err(Error::Input(_))));
    // Nothing is loaded, and a caller that goes on all the same has a mistake.
    assert!(catch_unwind(AssertUnwindSafe(|| lane.run())).is_err());
    let mut short = vec![0; 2];
    assert!(catch_unwind(AssertUnwindSafe(|| lane.read(&mut short))).is_err());
    lane.load(&strip).unwrap();
    assert!(catch_unwind(AssertUnwindSafe(|| lane.read(&mut short))).is_err());
    check(lane, &strip).unwrap();
}

fn a_lane_works_on_any_thread(lane: &mut dyn Lane) {
    let strip = usual(7);
    lane.load(&strip).unwrap();
    std::thread::scope(|scope| {
        let (lane, strip) = (&mut *lane, &strip);
        let other = scope.spawn(move || {
            lane.run().unwrap();
            check(lane, strip).unwrap();
        });
        other.join().unwrap();
    });
    check(lane, &strip).unwrap();
}
