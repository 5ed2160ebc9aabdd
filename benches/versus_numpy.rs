//! One run, one table: the parallel copy of this machine, the reference held to it, and a NumPy decoder
//! (benches/numpy_decoder.py) held to the reference. They take turns, so that drift hits all alike.
//!
//! `cargo bench --bench versus_numpy`; the variable PYTHON names a Python that has NumPy 2.

mod support;

use half::bf16;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Instant;
use support::{at_a_line, bytes_moved, parallel_copy, tensor};
use tq4::reference::{self, Simd};
use tq4::tensor::{GROUP_SIZES, TqTensor};

const ROWS: usize = 12288;
const COLS: usize = 4096;
const GROUP_SIZE: usize = 128;
/// NumPy takes seconds: it runs once a round, the others several times.
const ROUNDS: usize = 3;
const REPEATS: usize = 15;

fn main() {
    // `cargo test --benches` starts benchmarks too, without this argument.
    if !std::env::args().any(|arg| arg == "--bench") {
        return;
    }
    for bits in 2..=4 {
        for n in GROUP_SIZES {
            check_values(&tensor(bits, n, 24, 3 * n));
        }
    }
    println!(
        "NumPy's values are the reference's, bit for bit, at 2, 3 and 4 bits and every group size."
    );
    measure(&tensor(4, GROUP_SIZE, ROWS, COLS));
}

/// A NumPy decoder in a process of its own, with a tensor that it has read.
struct Numpy {
    child: Child,
    commands: ChildStdin,
    answers: BufReader<ChildStdout>,
    version: String,
    folder: tempfile::TempDir,
}

impl Numpy {
    fn start(t: &TqTensor) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let write = |name: &str, bytes: &[u8]| {
            std::fs::write(folder.path().join(name), bytes).expect("room for the tensor");
        };
        write("packed.u8", t.packed());
        write("scales.f16", t.scales().bytes());
        write("signs.i8", bytemuck::cast_slice(t.signs()));
        write(
            "centroids.f32",
            bytemuck::cast_slice(t.codebook().centroids()),
        );
        let python = std::env::var_os("PYTHON").unwrap_or_else(|| "python3".into());
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/numpy_decoder.py");
        let shape = [t.rows(), t.cols(), t.layout().group_size()].map(|n| n.to_string());
        let mut child = Command::new(&python)
            .arg(script)
            .arg(folder.path())
            .args(shape)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("{}: {e}", PathBuf::from(&python).display()));
        let commands = child.stdin.take().expect("stdin is piped");
        let mut answers = BufReader::new(child.stdout.take().expect("stdout is piped"));
        let version = line(&mut answers);
        Self {
            child,
            commands,
            answers,
            version,
            folder,
        }
    }

    /// Decodes once; the seconds of Python's process.
    fn run(&mut self, command: &str) -> f64 {
        writeln!(self.commands, "{command}").expect("the decoder listens");
        line(&mut self.answers).parse().expect("seconds")
    }

    fn stop(mut self) {
        drop(self.commands);
        self.child.wait().expect("the decoder ends with its input");
    }
}

/// The next answer; Python has said on stderr why there is none.
fn line(answers: &mut impl BufRead) -> String {
    let mut line = String::new();
    answers.read_line(&mut line).expect("text");
    assert!(
        !line.is_empty(),
        "the NumPy decoder ended: name a Python that has NumPy 2 in PYTHON"
    );
    line.trim().to_owned()
}

fn check_values(t: &TqTensor) {
    let mut numpy = Numpy::start(t);
    numpy.run("values");
    let bytes = std::fs::read(numpy.folder.path().join("values.f32")).expect("values");
    numpy.stop();
    let values = reference::dequantize(t);
    assert_eq!(bytes.len(), 4 * values.len());
    for (i, (got, want)) in bytes.chunks_exact(4).zip(&values).enumerate() {
        let got = f32::from_le_bytes(got.try_into().expect("four bytes"));
        assert_eq!(
            got.to_bits(),
            want.to_bits(),
            "{:?}, element {i}: NumPy {got:e}, reference {want:e}",
            t.layout()
        );
    }
}

/// Seconds of one contestant's runs, and the bytes that a run moves at least.
struct Times {
    name: String,
    bytes: usize,
    runs: Vec<f64>,
}

impl Times {
    fn new(name: impl Into<String>, bytes: usize) -> Self {
        Self {
            name: name.into(),
            bytes,
            runs: Vec::new(),
        }
    }

    fn time(&mut self, work: impl FnOnce()) {
        let start = Instant::now();
        work();
        self.runs.push(start.elapsed().as_secs_f64());
    }

    fn least(&self) -> f64 {
        self.runs.iter().copied().fold(f64::INFINITY, f64::min)
    }

    /// Bytes a second of each run.
    fn rates(&self) -> impl Iterator<Item = f64> {
        self.runs.iter().map(|seconds| self.bytes as f64 / seconds)
    }

    fn median_rate(&self) -> f64 {
        quartiles(self.rates())[1]
    }
}

fn quartiles(values: impl Iterator<Item = f64>) -> [f64; 3] {
    let mut sorted: Vec<f64> = values.collect();
    sorted.sort_by(f64::total_cmp);
    [1, 2, 3].map(|quarter| sorted[quarter * (sorted.len() - 1) / 4])
}

fn measure(t: &TqTensor) {
    let mut numpy = Numpy::start(t);
    let moved = bytes_moved(t, size_of::<bf16>());
    let moved_f32 = bytes_moved(t, size_of::<f32>());
    // Written once before: the first touch of new memory is the system's time.
    let (from, mut to) = (vec![1u8; moved / 2], vec![2u8; moved / 2]);
    let (mut memory, mut memory_f32) = (Vec::new(), Vec::new());
    let out = at_a_line::<bf16>(&mut memory, t.elements());
    let values = at_a_line::<f32>(&mut memory_f32, t.elements());

    let mut copy = Times::new("parallel memcpy", 2 * to.len());
    let mut to_bf16 = Times::new("reference to BF16", moved);
    let mut to_f32 = Times::new("reference to f32", moved_f32);
    let version = &numpy.version;
    let mut whole = Times::new(format!("{version}, whole arrays, to f32"), moved_f32);
    let mut blocks = Times::new(format!("{version}, blocks of rows, to f32"), moved_f32);
    for _ in 0..ROUNDS {
        for _ in 0..REPEATS {
            copy.time(|| parallel_copy(&from, &mut to));
            to_bf16.time(|| reference::dequantize_bf16_into(t, out));
            to_f32.time(|| reference::dequantize_into(t, values));
        }
        whole.runs.push(numpy.run("whole"));
        blocks.runs.push(numpy.run("blocks"));
    }
    numpy.stop();

    println!(
        "{ROWS} x {COLS}, {} bits, group {GROUP_SIZE}; {} threads, {}; bytes as a job must move them at \
         least; least time (and median)",
        t.layout().bits(),
        rayon::current_num_threads(),
        Simd::active().name().unwrap_or("no SIMD path"),
    );
    for x in [&copy, &to_bf16, &to_f32, &whole, &blocks] {
        println!(
            "  {:38} {:9.2} ms ({:9.2})  {:7.2} GB/s ({:7.2})",
            x.name,
            1e3 * x.least(),
            1e3 * x.bytes as f64 / x.median_rate(),
            x.bytes as f64 / x.least() / 1e9,
            x.median_rate() / 1e9,
        );
    }
    for x in [&to_bf16, &to_f32] {
        let [lower, median, upper] =
            quartiles(x.rates().zip(copy.rates()).map(|(x, copy)| x / copy));
        println!(
            "{}: {:.0} % of the memcpy's bytes per second just before it (median; half of the turns {:.0} to {:.0} %)",
            x.name,
            100.0 * median,
            100.0 * lower,
            100.0 * upper,
        );
    }
    // No ratio of medians: NumPy's seconds are its process's, the others' are the wall's.
    for slow in [&whole, &blocks] {
        for x in [&to_bf16, &to_f32] {
            println!(
                "{}: {:.0} times the least time of the {}",
                slow.name,
                slow.least() / x.least(),
                x.name,
            );
        }
    }
}
