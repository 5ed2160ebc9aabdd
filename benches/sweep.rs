//! One run, one table: a model and its source read and summed by two threads, and validated by `tq4`, with their
//! pages in memory and without. Rounds are interleaved, so that drift hits all alike.
//!
//! `cargo bench --bench sweep`; `TQ4_SWEEP_GIB` is the size of the BF16 weights, 4 unless said.

#[path = "../tests/it/support/big.rs"]
#[allow(dead_code, reason = "the tests take more of it")]
mod big;

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

const ROUNDS: usize = 5;
const THREADS: usize = 2;
/// Bytes of a read.
const PIECE: usize = 4 << 20;

fn main() {
    // `cargo test --benches` starts benchmarks too, without this argument.
    if !std::env::args().any(|arg| arg == "--bench") {
        return;
    }
    let gib = std::env::var("TQ4_SWEEP_GIB").map_or(4, |v| v.parse().expect("a number of GiB"));
    let dir = tempfile::tempdir().expect("a temporary folder");
    big::write_models(dir.path(), &big::tensors(10 * gib, 12800, 4096));
    let files = ["tq4", "source"].map(|d| dir.path().join(d).join("model.safetensors"));
    // Writing them to the disk is not to be measured with the rest.
    for file in &files {
        let file = File::open(file).expect("just written");
        file.sync_all().expect("a disk");
    }
    let length = |f: &PathBuf| f.metadata().expect("just written").len();
    let bytes = files.iter().map(length).sum::<u64>() as f64;
    println!("{:.1} GB, {THREADS} threads read; GB/s", bytes / 1e9);
    for (what, cached) in [("pages in memory", true), ("pages on disk", false)] {
        if !cached && !cfg!(target_os = "linux") {
            println!("{what}: not run, this system has no call that drops them");
            continue;
        }
        let (mut reads, mut sweeps, mut peak) = (Vec::new(), Vec::new(), 0);
        for _ in 0..ROUNDS {
            prepare(&files, cached);
            reads.push(timed(|| read_and_sum(&files)));
            prepare(&files, cached);
            sweeps.push(timed(|| peak = peak.max(validate(dir.path()))));
        }
        let [read, sweep] = [reads, sweeps].map(|s| bytes / 1e9 / median(s).as_secs_f64());
        println!(
            "{what}: read {read:.2}, validated {sweep:.2}: {:.0} %, {peak} MiB of memory at most",
            100.0 * sweep / read
        );
    }
}

/// Has the system hold the files' pages in memory, or drop them.
fn prepare(files: &[PathBuf], cached: bool) {
    if cached {
        read_and_sum(files);
        return;
    }
    #[cfg(target_os = "linux")]
    for file in files {
        let file = File::open(file).expect("just written");
        // No length: to the end.
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).expect("a file");
    }
}

/// The sum of all words, each thread with a piece at a time.
fn read_and_sum(files: &[PathBuf]) {
    let sum = AtomicU64::new(0);
    for path in files {
        let pieces = path
            .metadata()
            .expect("just written")
            .len()
            .div_ceil(PIECE as u64);
        let next = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    let file = File::open(path).expect("just written");
                    let mut piece = vec![0; PIECE];
                    loop {
                        let at = next.fetch_add(1, Relaxed) as u64;
                        if at >= pieces {
                            return;
                        }
                        let n = read_at(&file, at * PIECE as u64, &mut piece);
                        let (words, _) = piece[..n].as_chunks();
                        let words = words.iter().map(|w| u64::from_le_bytes(*w));
                        sum.fetch_add(words.fold(0, u64::wrapping_add), Relaxed);
                    }
                });
            }
        });
    }
    std::hint::black_box(sum);
}

/// Reads until the piece is full or the file ends.
fn read_at(mut file: &File, at: u64, piece: &mut [u8]) -> usize {
    use std::io::Seek;
    file.seek(std::io::SeekFrom::Start(at)).expect("a file");
    let mut n = 0;
    while n < piece.len() {
        match file.read(&mut piece[n..]).expect("a file") {
            0 => break,
            more => n += more,
        }
    }
    n
}

/// Validates every tensor with the reference alone; the most anonymous memory in MiB, where the system tells it.
fn validate(dir: &Path) -> u64 {
    let path = |name: &str| dir.join(name).into_os_string();
    let report = path("r.jsonl");
    let _ = std::fs::remove_file(&report);
    let mut child = Command::new(env!("CARGO_BIN_EXE_tq4"))
        .args(["validate", "--all", "--lanes", "reference"])
        .args([
            "--tq-model".into(),
            path("tq4"),
            "--source-model".into(),
            path("source"),
        ])
        .args(["--report".into(), report])
        .stdout(Stdio::null())
        .spawn()
        .expect("tq4");
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    loop {
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|l| l.strip_prefix("RssAnon:"));
        let kib = line.and_then(|l| l.split_whitespace().next()?.parse::<u64>().ok());
        peak = peak.max(kib.unwrap_or(0));
        if let Some(status) = child.try_wait().expect("a child") {
            assert!(status.success(), "{status}");
            return peak >> 10;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn timed(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

fn median(mut all: Vec<Duration>) -> Duration {
    all.sort_unstable();
    all[all.len() / 2]
}
