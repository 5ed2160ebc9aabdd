//! Files that change, shrink or vanish while they are read, and shapes of directories and headers that
//! no tool writes.
#![cfg(unix)]

use crate::support::cli::{Model, stderr, tq4};
use safetensors::Dtype;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Stdio};
use tq4::format::TqModel;

const FILE: &str = "model.safetensors";
const ROWS: usize = 4096;

/// A model whose packed codes are far longer than a page.
fn large(dir: &Path) {
    let mut m = Model::valid();
    let packed = (0..ROWS * 128).map(|i| (i % 251) as u8).collect();
    m.set("a.up_proj", "tq_packed", Dtype::U8, &[ROWS, 128], packed);
    let scales = [0, 0x38].repeat(ROWS * 2);
    m.set("a.up_proj", "tq_scales", Dtype::F16, &[ROWS, 2], scales);
    m.write(dir);
}

fn truncate(dir: &Path, len: u64) {
    let file = std::fs::File::options().write(true).open(dir.join(FILE));
    file.unwrap().set_len(len).unwrap();
}

#[test]
fn a_file_that_shrinks_is_one_error() {
    let dir = tempfile::tempdir().unwrap();
    large(dir.path());
    let model = TqModel::open(dir.path()).unwrap();
    truncate(dir.path(), 4096);
    let e = model.rows("a.up_proj", 0..ROWS).unwrap_err().to_string();
    let path = dir.path().join(FILE);
    assert_eq!(
        e,
        format!(
            "the file became shorter while it was read\n  where: {}\n  help: leave a model alone while it \
             is read, and run again",
            path.display()
        )
    );
}

/// A model of many tensors of 16 Mi weights, sparse on the disk but for the signs: seconds of work.
fn sparse(dir: &Path) {
    const COLS: usize = 4096;
    const TENSORS: usize = 200;
    Model::valid().write(dir);
    let mut file = std::fs::File::create(dir.join(FILE)).unwrap();
    let (mut header, mut end) = (String::new(), 0);
    for i in 0..TENSORS {
        for (part, dtype, shape, bytes) in [
            ("tq_signs", "I8", format!("{COLS}"), COLS),
            (
                "tq_scales",
                "F16",
                format!("{ROWS},{}", COLS / 128),
                ROWS * COLS / 64,
            ),
            (
                "tq_packed",
                "U8",
                format!("{ROWS},{}", COLS / 2),
                ROWS * COLS / 2,
            ),
        ] {
            let name = format!("layers.{i:03}.up_proj.{part}");
            let offsets = format!("[{end},{}]", end + bytes);
            header += &format!(
                r#"{}"{name}":{{"dtype":"{dtype}","shape":[{shape}],"data_offsets":{offsets}}}"#,
                if end == 0 { "{" } else { "," }
            );
            end += bytes;
        }
    }
    header.push('}');
    let start = 8 + header.len();
    file.write_all(&(header.len() as u64).to_le_bytes())
        .unwrap();
    file.write_all(header.as_bytes()).unwrap();
    file.set_len((start + end) as u64).unwrap();
    for i in 0..TENSORS {
        file.write_all_at(&[1; COLS], (start + end / TENSORS * i) as u64)
            .unwrap();
    }
}

#[test]
fn a_file_that_shrinks_during_a_run_is_exit_code_2() {
    let dir = tempfile::tempdir().unwrap();
    sparse(dir.path());
    let other = tempfile::tempdir().unwrap();
    let report = other.path().join("r.jsonl");
    let mut child = Command::new(env!("CARGO_BIN_EXE_tq4"))
        .args(["validate", "--all", "--lanes", "reference", "--tq-model"])
        .arg(dir.path())
        .arg("--report")
        .arg(&report)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A header and one tensor.
    while std::fs::read_to_string(&report).map_or(0, |t| t.lines().count()) < 2 {
        assert!(child.try_wait().unwrap().is_none(), "it ended too early");
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    truncate(dir.path(), 1 << 16);
    let out = child.wait_with_output().unwrap();
    let text = stderr(&out);
    assert_eq!(out.status.code(), Some(2), "{text}");
    assert!(
        text.contains("error: the file was changed while it was read"),
        "{text}"
    );
}

#[test]
fn a_file_that_is_written_to_is_noticed_and_a_deleted_one_stays_readable() {
    let dir = tempfile::tempdir().unwrap();
    large(dir.path());
    let model = TqModel::open(dir.path()).unwrap();
    model.checkpoint().unchanged().unwrap();
    let path = dir.path().join(FILE);
    let bytes = std::fs::read(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    model.checkpoint().unchanged().unwrap();
    assert!(model.rows("a.up_proj", 0..ROWS).is_ok());

    std::fs::write(&path, &bytes).unwrap();
    let model = TqModel::open(dir.path()).unwrap();
    let later = std::time::SystemTime::now() + std::time::Duration::from_secs(10);
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    file.set_modified(later).unwrap();
    let e = model.checkpoint().unchanged().unwrap_err().to_string();
    assert!(e.contains("was changed while it was read"), "{e}");
}

#[test]
fn links_that_lead_nowhere_or_round_in_circles_are_refused() {
    for (link, target) in [(FILE, FILE), ("turboquant_config.json", "none.json")] {
        let dir = tempfile::tempdir().unwrap();
        Model::valid().write(dir.path());
        let link = dir.path().join(link);
        std::fs::remove_file(&link).unwrap();
        std::os::unix::fs::symlink(dir.path().join(target), &link).unwrap();
        let out = tq4(&[
            "validate",
            "--all",
            "--tq-model",
            dir.path().to_str().unwrap(),
        ]);
        let text = stderr(&out);
        assert_eq!(out.status.code(), Some(2), "{text}");
        assert!(
            text.starts_with("error: ") && !text.contains("panicked"),
            "{text}"
        );
        assert!(
            text.contains(link.file_name().unwrap().to_str().unwrap()),
            "{text}"
        );
    }
}

#[test]
fn a_hundred_thousand_tensors_are_listed_and_one_of_them_validated() {
    let dir = tempfile::tempdir().unwrap();
    let mut m = Model::valid();
    for i in 0..100_000 {
        m.set("other", &format!("t{i}"), Dtype::U8, &[1], vec![0]);
    }
    m.write(dir.path());
    let dir = dir.path().to_str().unwrap();
    for (name, code) in [("a.up_proj", 3), ("a.up_prj", 2)] {
        let out = tq4(&[
            "validate",
            "--lanes",
            "reference",
            "--tq-model",
            dir,
            "--tensor-base",
            name,
        ]);
        assert_eq!(out.status.code(), Some(code), "{}", stderr(&out));
    }
}
