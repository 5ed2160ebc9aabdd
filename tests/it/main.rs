//! All integration tests, in one program. Tests run beside each other in threads: one that needs an
//! environment, a signal handler or a driver of its own runs a process ([`support::again`]).

mod support;

// What devices make of f32 arithmetic, and where it is said.
mod arithmetic;
// Input that is refused, each with its error.
mod bad_input;
// `tq4 bench`: its records and exit codes.
mod bench;
// `tq4 bench` with the CUDA lane over the stand-in.
mod bench_emulated;
// Rounds of a benchmark over lanes whose times are known.
mod bench_rounds;
// Files that change or shrink while they are read.
#[cfg(unix)]
mod changing_files;
// The checkpoint against its source.
mod checkpoint;
// Pages in a headless browser.
#[cfg(unix)]
mod chromium;
// `tq4 record` and `tq4 compare`.
mod compare;
// `tq4 compare` of two reports.
mod compare_reports;
// Completions and manual pages.
mod completions;
// Memory of the converters and of recordings.
#[cfg(target_os = "linux")]
mod convert_memory;
// The CUDA kernel compiled for the CPU, and mistakes in it.
mod cuda_emulated;
// Failures of the CUDA driver, over a stand-in for it.
mod cuda_failures;
// The CUDA lane over a stand-in for the driver.
mod cuda_standin;
// `tq4 demo` and `tq4 devices`.
mod demo;
// `tq4 dequantize`.
mod dequantize;
// Converters and recordings on the CUDA lane, over the stand-in.
mod dequantize_cuda;
// The division without a division.
mod division;
// The commands of README and docs/, and what they name.
#[cfg(unix)]
mod documents;
// Programs as lanes.
#[cfg(unix)]
mod exec;
// The exit codes.
mod exit_codes;
// Faults that are named, and `tq4 selftest`.
mod fault;
// What no fault explains.
mod fault_families;
// Broken kernels, written apart from the catalogue.
mod fault_kernels;
// `tq4 fixture`.
mod fixture;
// GGUF models.
mod gguf;
// Converters that are killed or meet a full disk.
#[cfg(unix)]
mod interrupted;
// The report as JUnit XML.
mod junit;
// Kernels of users as lanes.
mod kernel;
// What every lane does, the CUDA device of this machine included.
mod lanes;
// The script that makes the figures of a card.
#[cfg(target_os = "linux")]
mod measure;
// The HTML page beside the Markdown and the JSON.
mod page;
// The page of a benchmark.
mod page_bench;
// What pages say and draw first.
mod page_cases;
// The page of many tensors.
mod page_size;
// Partitions of a sweep, and `tq4 merge`.
mod partition;
// Pictures of any output.
mod picture;
// The pipe model of docs/kernels.md.
mod pipes;
// The committed PTX.
mod ptx;
// `tq4 quantize`.
mod quantize;
// `tq4 quantize` and every format.
mod quantize_formats;
// Outputs of other programs in every form that is read.
mod recording_forms;
// Recordings of this program and dumps.
mod recordings;
// The reference against the oracle.
mod reference;
// SIMD paths of the reference against its scalar text.
mod reference_simd;
// The report in its three forms.
mod report;
// What the repository says of itself.
mod repository;
// Words that lead a new user.
mod plain_words;
// Sweeps that are stopped and resumed.
mod resume;
// Machine code of the committed PTX.
mod sass;
// The published figures of a real tensor.
mod seed_case;
// The shader's validity and translations.
mod shader;
// Sweeps over lanes that are right, wrong or broken.
mod sweep;
// What a sweep makes of its input.
mod sweep_input;
// The rows that go through at a time.
mod strips;
// Memory of a sweep.
#[cfg(target_os = "linux")]
mod sweep_memory;
// What is printed at a terminal.
mod terminal;
// The shader under a second WGSL compiler.
mod tint;
// Options of `tq4 validate` together.
mod together;
// Troubles that many tensors share.
mod told_once;
// Kernels that are lossy by intent, F16, drivers that change the arithmetic.
mod tolerance;
// Models of turboquant-vllm.
mod tq3_native;
// `tq4 validate`.
mod validate;
// What the wgpu lane asks of Vulkan, under the validation layer.
mod validation;
// The verdict on kernels of other people.
mod verdict;
// A Vulkan driver that fails at one call or another.
#[cfg(target_os = "linux")]
mod vulkan_faults;
// The wgpu lane's own: how strips are cut, adapters and variants.
mod wgpu;
// A wgpu device that fails.
mod wgpu_failures;
// Mistakes in the shader.
mod wgpu_mutations;
