//! What writes a model never writes over its input and never leaves half a file: killed at any moment
//! or out of space, it leaves nothing or what the same command goes on from.

use crate::support::cli::{stderr, stdout, tq4};
use crate::support::{source, tmpfs::Tmpfs};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;
use tq4::checkpoint::JOURNAL;
use tq4::format::TqModel;
use tq4::synthetic::Rng;

const LAST: &str = "model-00004-of-00004.safetensors";

/// One of the converters on a model of four shards, the last of them the largest.
struct Case {
    dir: tempfile::TempDir,
    args: Vec<String>,
    /// Files of a run that nothing stopped.
    expected: BTreeMap<PathBuf, Vec<u8>>,
}

impl Case {
    fn new(command: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
        source::write_rows(&dir.path().join("src"), &[100, 100, 100, 400], 1024);
        let args = if let Some(encoding) = command.strip_prefix("quantize ") {
            let options = ["--source-model", &path("src"), "--format", encoding].map(str::to_owned);
            [&["quantize".to_owned()], &options[..]].concat()
        } else {
            let (src, tq) = (path("src"), path("tq"));
            let made = tq4(&["quantize", "--source-model", &src, "--output", &tq]);
            assert!(made.status.success(), "{}", stderr(&made));
            vec!["dequantize".into(), "--tq-model".into(), path("tq")]
        };
        let mut case = Self {
            dir,
            args,
            expected: BTreeMap::new(),
        };
        let out = case.path("expected");
        assert!(case.run(&out).status.success());
        case.expected = source::files(&out);
        case
    }

    fn all() -> [Self; 3] {
        ["quantize turboquant", "quantize tq3-native", "dequantize"].map(Self::new)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn input(&self) -> PathBuf {
        self.args[2].clone().into()
    }

    fn args(&self, out: &Path) -> Vec<String> {
        let mut args = self.args.clone();
        args.extend(["--format", "json", "--output"].map(str::to_owned));
        args.push(out.to_str().unwrap().to_owned());
        args
    }

    fn run(&self, out: &Path) -> Output {
        let args = self.args(out);
        tq4(&args.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// Runs under a limit on the length of a file.
    fn run_limited(&self, out: &Path, blocks: u64, signal: bool) -> Output {
        limited(blocks, signal)
            .args(self.args(out))
            .output()
            .unwrap()
    }

    /// Whatever has a file's final name is whole; returns how many shards there are.
    fn whole_files_only(&self, out: &Path) -> usize {
        if !out.exists() {
            return 0;
        }
        let found = source::files(out);
        for (name, bytes) in &found {
            let text = name.to_str().unwrap();
            let file = name.file_name().unwrap().to_str().unwrap();
            if file == JOURNAL || (file.starts_with('.') && file.ends_with(".tq4-part")) {
                continue;
            }
            assert!(
                self.expected.get(name) == Some(bytes),
                "{text} is not whole"
            );
        }
        let shards = |files: &BTreeMap<PathBuf, Vec<u8>>| {
            let shard = |n: &&PathBuf| n.extension().is_some_and(|e| e == "safetensors");
            files.keys().filter(shard).count()
        };
        // The file by which a loader knows the model comes when all else is there.
        for last in [
            "turboquant_config.json",
            "tq_config.json",
            "model.safetensors.index.json",
        ] {
            if found.contains_key(Path::new(last)) {
                assert_eq!(shards(&found), shards(&self.expected), "{last}");
            }
        }
        shards(&found)
    }

    /// Runs to the end and returns how many shards were there before.
    fn goes_on(&self, out: &Path) -> u64 {
        let done = self.run(out);
        assert!(done.status.success(), "{}", stderr(&done));
        assert!(
            source::files(out) == self.expected,
            "{:?}",
            source::names(out)
        );
        let report: Value = serde_json::from_str(&stdout(&done)).unwrap();
        report["resumed_shards"].as_u64().unwrap()
    }
}

/// `tq4` under a limit on the length of a file, in units of 512 bytes: what writes beyond it is killed by
/// a signal, or gets an error.
fn limited(blocks: u64, signal: bool) -> Command {
    let ignore = if signal { "" } else { "trap '' XFSZ; " };
    let mut command = Command::new("sh");
    command
        .arg("-c")
        .arg(format!("{ignore}ulimit -f {blocks}; exec \"$0\" \"$@\""))
        .arg(env!("CARGO_BIN_EXE_tq4"));
    command
}

#[test]
fn killed_at_random_moments_it_goes_on() {
    for (seed, case) in Case::all().into_iter().enumerate() {
        let out = case.path("out");
        let input = source::files(&case.input());
        let mut rng = Rng::new(seed as u64);
        let mut finished = false;
        // Longer and longer runs, so that there is progress on a slow machine as well.
        for round in 1..=30 {
            let mut child = Command::new(env!("CARGO_BIN_EXE_tq4"))
                .args(case.args(&out))
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            std::thread::sleep(Duration::from_millis(rng.below(8 * round) as u64));
            child.kill().unwrap();
            child.wait().unwrap();
            case.whole_files_only(&out);
            // Without its journal the model is whole, even if the process died just after.
            finished = out.join("config.json").exists() && !out.join(JOURNAL).exists();
            if finished {
                break;
            }
        }
        if finished {
            assert!(source::files(&out) == case.expected);
        } else {
            case.goes_on(&out);
        }
        assert!(source::files(&case.input()) == input, "the input changed");
    }
}

#[test]
fn killed_in_the_last_shard_it_keeps_the_others() {
    for case in Case::all() {
        let out = case.path("out");
        // In units of 512 bytes: less than the last shard, more than the others.
        let blocks = case.expected[Path::new(LAST)].len() as u64 / 1024;
        let killed = case.run_limited(&out, blocks, true);
        assert_eq!(killed.status.code(), None, "{}", stderr(&killed));
        assert_eq!(case.whole_files_only(&out), 3);
        let error = TqModel::open(&out).unwrap_err().to_string();
        assert!(error.contains("is not finished"), "{error}");
        assert_eq!(case.goes_on(&out), 3);
    }
}

#[test]
fn a_recording_is_whole_or_not_there() {
    let case = Case::new("dequantize");
    let out = case.path("recording.safetensors");
    let args = ["record", "--all", "--lane", "reference", "--tq-model"];
    let paths = [case.input(), "--output".into(), out.clone()];
    for (signal, left) in [(true, 1), (false, 0)] {
        let limited = limited(16, signal)
            .args(args)
            .args(&paths)
            .output()
            .unwrap();
        assert!(!limited.status.success());
        assert!(!out.exists());
        let parts = source::names(case.dir.path());
        let parts = parts.iter().filter(|n| n.ends_with(".tq4-part")).count();
        assert_eq!(
            parts, left,
            "what a killed process leaves, the next one takes away"
        );
    }
    let whole = limited(1 << 20, true)
        .args(args)
        .args(&paths)
        .output()
        .unwrap();
    assert!(whole.status.success(), "{}", stderr(&whole));
    assert!(out.exists());
}

#[test]
fn an_error_in_the_last_shard_keeps_the_others_and_takes_the_part_away() {
    for case in Case::all() {
        let out = case.path("out");
        let blocks = case.expected[Path::new(LAST)].len() as u64 / 1024;
        let failed = case.run_limited(&out, blocks, false);
        assert_eq!(failed.status.code(), Some(2));
        assert!(stderr(&failed).contains(LAST), "{}", stderr(&failed));
        assert_eq!(case.whole_files_only(&out), 3);
        assert_eq!(source::files(&out).len(), 4, "three shards and the journal");
        assert_eq!(case.goes_on(&out), 3);
        // In the first shard there is nothing worth keeping.
        let out = case.path("none");
        let failed = case.run_limited(&out, 8, false);
        assert_eq!(failed.status.code(), Some(2));
        assert!(!out.exists());
    }
}

#[test]
fn a_shard_damaged_in_between_is_written_again() {
    for case in Case::all() {
        let out = case.path("out");
        let blocks = case.expected[Path::new(LAST)].len() as u64 / 1024;
        case.run_limited(&out, blocks, false);
        let shard = out.join("model-00002-of-00004.safetensors");
        let mut bytes = std::fs::read(&shard).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&shard, bytes).unwrap();
        std::fs::remove_file(out.join("model-00001-of-00004.safetensors")).unwrap();
        // Half a line at the end, as a killed process leaves it.
        let journal = out.join(JOURNAL);
        let text = std::fs::read_to_string(&journal).unwrap();
        std::fs::write(&journal, format!("{text}{{\"shard\":{{\"file\":\"mod")).unwrap();
        assert_eq!(case.goes_on(&out), 1);
    }
}

#[test]
fn another_conversion_is_not_gone_on_with() {
    let case = Case::new("quantize turboquant");
    let out = case.path("out");
    let blocks = case.expected[Path::new(LAST)].len() as u64 / 1024;
    case.run_limited(&out, blocks, false);
    let before = source::files(&out);
    let src = case.path("src");
    let (src, to) = (src.to_str().unwrap(), out.to_str().unwrap());
    let other = tq4(&[
        "quantize",
        "--source-model",
        src,
        "--output",
        to,
        "--bits",
        "2",
    ]);
    assert_eq!(other.status.code(), Some(2));
    assert!(
        stderr(&other).contains("holds another conversion"),
        "{}",
        stderr(&other)
    );
    assert!(source::files(&out) == before);
    assert_eq!(case.goes_on(&out), 3);
    // Whole, it is not touched again.
    let other = tq4(&[
        "quantize",
        "--source-model",
        src,
        "--output",
        to,
        "--bits",
        "2",
    ]);
    assert_eq!(other.status.code(), Some(2));
    assert!(
        stderr(&other).contains("another conversion, which is finished"),
        "{}",
        stderr(&other)
    );
    assert!(source::files(&out) == case.expected);
}

#[test]
fn a_finished_conversion_run_again_is_done_unless_its_files_changed() {
    for case in Case::all() {
        let out = case.path("out");
        assert_eq!(case.goes_on(&out), 0);
        let again = case.run(&out);
        assert!(again.status.success(), "{}", stderr(&again));
        let report: Value = serde_json::from_str(&stdout(&again)).unwrap();
        assert_eq!(report["already_finished"], true);
        assert!(source::files(&out) == case.expected);
        for file in [LAST, "tokenizer.json"] {
            let before = std::fs::read(out.join(file)).unwrap();
            std::fs::write(out.join(file), &before[1..]).unwrap();
            let refused = case.run(&out);
            assert_eq!(refused.status.code(), Some(2));
            let what = format!("is finished, and {file} was changed since");
            assert!(stderr(&refused).contains(&what), "{}", stderr(&refused));
            std::fs::write(out.join(file), before).unwrap();
        }
        assert!(case.run(&out).status.success());
    }
}

#[test]
fn the_input_is_never_written_to() {
    for case in Case::all() {
        let input = case.input();
        let before = source::files(&input);
        let link = case.path("link");
        std::os::unix::fs::symlink(&input, &link).unwrap();
        let nested = input.join("new/model");
        let dotted = case.path("absent/..").join(input.file_name().unwrap());
        for out in [
            &input,
            &link,
            &nested,
            &dotted,
            &link.join("below"),
            case.dir.path(),
        ] {
            let refused = case.run(out);
            assert_eq!(refused.status.code(), Some(2), "{}", out.display());
            assert!(
                stderr(&refused).contains("written into the input"),
                "{}: {}",
                out.display(),
                stderr(&refused)
            );
            assert!(source::files(&input) == before, "{}", out.display());
        }
        // A link where a part would be written is removed, not followed.
        let out = case.path("out");
        let blocks = case.expected[Path::new(LAST)].len() as u64 / 1024;
        case.run_limited(&out, blocks, false);
        let victim = input.join("config.json");
        std::os::unix::fs::symlink(&victim, out.join(format!(".{LAST}.tq4-part"))).unwrap();
        std::os::unix::fs::symlink(&victim, out.join("tokenizer.json")).unwrap();
        assert_eq!(case.goes_on(&out), 3);
        assert!(source::files(&input) == before);
    }
}

#[test]
fn on_a_full_disk_it_stops_and_goes_on_when_there_is_room() {
    for case in Case::all() {
        let last = case.expected[Path::new(LAST)].len();
        let other = case.expected[Path::new("model-00001-of-00004.safetensors")].len();
        let Some(disk) = Tmpfs::mount(&case.path("disk"), (3 * other + last / 2) / 1024) else {
            return;
        };
        let out = disk.path().join("out");
        let full = case.run(&out);
        assert_eq!(full.status.code(), Some(2));
        assert!(
            stderr(&full).contains("free some space and run again"),
            "{}",
            stderr(&full)
        );
        assert_eq!(case.whole_files_only(&out), 3);
        disk.grow();
        assert_eq!(case.goes_on(&out), 3);
        let Some(disk) = Tmpfs::mount(&case.path("tiny"), 64) else {
            return;
        };
        let full = case.run(&disk.path().join("out"));
        assert_eq!(full.status.code(), Some(2), "{}", stderr(&full));
        assert_eq!(std::fs::read_dir(disk.path()).unwrap().count(), 0);
    }
}
