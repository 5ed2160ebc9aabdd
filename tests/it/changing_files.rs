//! Files that change, shrink or vanish while they are mapped, and shapes of directories and headers that
//! no tool writes.

use crate::support::again;
use crate::support::cli::{Model, stderr, stdout, tq4};
use safetensors::Dtype;
use std::path::Path;
use tq4::checkpoint::TqModel;

const CASE: &str = "TQ4_CHANGING_CASE";
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

/// What runs in a process of its own: it maps the model, shortens the file and reads on.
#[test]
#[ignore = "a_file_that_shrinks_is_one_error_and_exit_code_2 runs it"]
fn child() {
    let dir = std::env::var_os(CASE).expect(CASE);
    tq4::checkpoint::report_shrunk_files();
    let model = TqModel::open(dir.as_ref()).unwrap();
    truncate(dir.as_ref(), 4096);
    // Checking the codes reads every one of them.
    let _ = model.rows("a.up_proj", 0..ROWS);
    panic!("read past the end of the file");
}

#[test]
fn a_file_that_shrinks_is_one_error_and_exit_code_2() {
    let dir = tempfile::tempdir().unwrap();
    large(dir.path());
    let out = again::one("changing_files::child")
        .env(CASE, dir.path())
        .output()
        .unwrap();
    assert_eq!(again::ran(&stdout(&out)), 1);
    let text = stderr(&out);
    assert_eq!(out.status.code(), Some(2), "{text}");
    let path = dir.path().join(FILE);
    assert_eq!(
        text,
        format!(
            "error: the file became shorter while it was read\n  where: {}\n  help: leave a model alone \
             while it is read, and run again\n",
            path.display()
        )
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
    for (name, code) in [("a.up_proj", 0), ("a.up_prj", 2)] {
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
