//! A run that is stopped at any moment loses nothing: `--resume` ends with the report of a run that
//! nothing disturbed.

use crate::support::cli::{stderr, stdout, tq4};
use crate::support::sweep::{Case, read, timeless};
#[cfg(target_os = "linux")]
use crate::support::tmpfs::Tmpfs;
use crate::support::{big, standin};
use serde_json::Value;
use std::path::{Path, PathBuf};
use tq4::journal::{Contents, Journal};
use tq4::synthetic::Rng;

/// Bytes of a file; 0 when it is not there.
fn len(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |m| m.len())
}

#[test]
fn killed_at_random_moments_it_ends_with_the_same_report() {
    let case = Case::new();
    let whole = case.whole();
    let mut rng = Rng::new(6);
    for round in 0..4 {
        let report = case.path(&format!("killed-{round}.jsonl"));
        let mut kills = 0;
        while kills < 6 {
            // A moment: when the report has so many bytes.
            let moment = rng.below(whole.len()) as u64;
            let mut child = case.command(&report, &["--resume"]).spawn().unwrap();
            while len(&report) < moment && child.try_wait().unwrap().is_none() {
                std::hint::spin_loop();
            }
            child.kill().unwrap(); // SIGKILL
            child.wait().unwrap();
            kills += 1;
        }
        let out = case.run(&report, &["--resume"]);
        assert!(out.status.success(), "{}", stderr(&out));
        assert_eq!(timeless(&read(&report)), timeless(&whole), "round {round}");
    }
}

#[test]
fn cut_off_anywhere_it_ends_with_the_same_report() {
    let case = Case::new();
    let whole = case.whole();
    let report = case.path("cut.jsonl");
    let header = whole.find('\n').unwrap();
    let mut rng = Rng::new(7);
    let mut cuts = vec![0, 1, header, header + 1, header + 2, whole.len() - 1];
    cuts.extend((0..24).map(|_| rng.below(whole.len())));
    for cut in cuts {
        std::fs::write(&report, &whole[..cut]).unwrap();
        let out = case.run(&report, &["--resume"]);
        assert!(out.status.success(), "cut at {cut}: {}", stderr(&out));
        assert_eq!(timeless(&read(&report)), timeless(&whole), "cut at {cut}");
        // What was whole was kept, not made again.
        let kept = whole[..cut].rfind('\n').map_or(0, |at| at + 1);
        assert_eq!(read(&report)[..kept], whole[..kept], "cut at {cut}");
    }
}

#[test]
fn a_finished_report_is_shown_and_left_alone() {
    let case = Case::new();
    let report = case.path("r.jsonl");
    let first = case.run(&report, &[]);
    let whole = read(&report);
    let again = case.run(&report, &["--resume"]);
    assert_eq!(stdout(&again), stdout(&first));
    assert!(again.status.success());
    assert_eq!(read(&report), whole);
}

#[test]
fn a_report_is_never_overwritten_nor_mixed_with_another_run() {
    let case = Case::new();
    let report = case.path("r.jsonl");
    assert!(case.run(&report, &[]).status.success());
    let whole = read(&report);
    let refused = |more: &[&str], what: &str| {
        let out = case.run(&report, more);
        assert_eq!(out.status.code(), Some(2));
        assert!(stderr(&out).contains(what), "{}", stderr(&out));
        assert_eq!(stdout(&out), "");
        assert_eq!(read(&report), whole);
    };
    refused(&[], "error: the report exists");
    for (more, what) in [
        (["--row-count", "4"], "another run: rows: "),
        (
            ["--partition", "1/2"],
            "another run: partition: 1/1 there, 1/2 here",
        ),
        (["--require", "wgpu"], "another run: lanes: "),
        (
            ["--strip", "whole"],
            "another run: rows: all from 0, in strips of auto there, all from 0, in strips of whole here",
        ),
        (["--strip", "8"], "another run: rows: "),
        (
            ["--adapter", "0"],
            "another run: lanes: reference (required: none, adapter by itself, CUDA device 0) there, ",
        ),
        (["--cuda-device", "all"], "CUDA device all) here"),
    ] {
        refused(&[more[0], more[1], "--resume"], what);
    }
    // The same names in other shapes are another model.
    big::write_models(case.dir.path(), &big::tensors(3, 8, 256));
    refused(&["--resume"], "another run: model: ");
}

/// A run with one byte of a tensor changed is refused, and gone on with when it is back.
fn refuses_another_byte(case: &Case, model: &str, name: &str, at: usize, what: &str) {
    let model = case.path(model);
    let report = case.path("bytes.jsonl");
    let _ = std::fs::remove_file(&report);
    assert!(case.run(&report, &[]).status.success());
    // Without its end, so that there is something left to do.
    let whole = read(&report);
    let cut = &whole[..whole.trim_end().rfind('\n').unwrap() + 1];
    std::fs::write(&report, cut).unwrap();
    let byte = big::overwrite(&model, name, at, &[0])[0];
    big::overwrite(&model, name, at, &[byte ^ 0x10]);
    let out = case.run(&report, &["--resume"]);
    assert_eq!(out.status.code(), Some(2), "{name} at {at}");
    assert!(stderr(&out).contains(what), "{}", stderr(&out));
    assert_eq!(stdout(&out), "");
    assert_eq!(read(&report), cut);
    big::overwrite(&model, name, at, &[byte]);
    let out = case.run(&report, &["--resume"]);
    assert!(out.status.success(), "{}", stderr(&out));
    assert_eq!(timeless(&read(&report)), timeless(&whole));
}

#[test]
fn a_model_of_the_same_names_and_shapes_with_another_byte_is_another_model() {
    let tensors = [("large", 4096), ("small", 8)].map(|(base, rows)| big::Tensor {
        base: base.into(),
        rows,
        cols: 1024,
    });
    let case = Case::of(tempfile::tempdir().unwrap(), &tensors);
    let model = "another run: model: ";
    refuses_another_byte(&case, "tq4", "small.tq_packed", 2048, model);
    refuses_another_byte(&case, "tq4", "small.tq_scales", 40, model);
    // Over 1 MiB the model's identity is of a sample; the tensor's checksums are of every byte.
    let tensor = "the report is of other weights: the checksum of large is ";
    refuses_another_byte(&case, "tq4", "large.tq_packed", 100_000, tensor);
    refuses_another_byte(&case, "source", "large.weight", 300_000, tensor);
}

#[test]
fn a_tensor_on_which_a_required_lane_did_not_run_is_not_done() {
    let Some(driver) = standin::right() else {
        return;
    };
    let case = Case::new();
    let report = case.path("r.jsonl");
    let text = |path: PathBuf| path.to_str().unwrap().to_owned();
    let (tq, file) = (text(case.path("tq4")), text(report.clone()));
    let args = [
        "validate",
        "--all",
        "--lanes",
        "cuda",
        "--allow-software",
        "--tq-model",
        &tq,
        "--report",
        &file,
        "--resume",
    ];
    // A node without a driver, then one with it.
    assert_eq!(tq4(&args).status.code(), Some(3));
    let again = standin::tq4(driver, &args);
    assert_eq!(again.status.code(), Some(0), "{}", stderr(&again));
    let contents = Contents::read(&report).unwrap().unwrap();
    assert_eq!(contents.tensors.len(), 24);
    assert!(
        contents
            .tensors
            .iter()
            .all(|t| t.decision == "cuda_dequant_matches_reference_with_bf16_rounding")
    );
    assert!(stderr(&standin::tq4(driver, &args)).contains("24 tensors are done, 0 are left"));
}

#[test]
fn a_second_process_is_told_in_one_line_and_writes_nothing() {
    let case = Case::new();
    let whole = case.whole();
    let report = case.path("shared.jsonl");
    let contents = Contents::read(&case.path("whole.jsonl")).unwrap().unwrap();
    // This process holds the report, as a run at its first tensor does.
    let journal = Journal::create(&report, &contents.header).unwrap();
    let before = read(&report);
    let second = case.run(&report, &["--resume"]);
    assert_eq!(second.status.code(), Some(2));
    let text = stderr(&second);
    assert!(text.contains("another process is writing"), "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");
    assert_eq!(stdout(&second), "");
    assert_eq!(read(&report), before);
    drop(journal);

    // Of several that start at once, whoever comes too early is turned away; the report is that of one.
    std::fs::remove_file(&report).unwrap();
    let start = |_| case.command(&report, &["--resume"]).spawn().unwrap();
    let children: Vec<_> = (0..4).map(start).collect();
    let mut finished = 0;
    for child in children {
        let out = child.wait_with_output().unwrap();
        match out.status.code() {
            Some(0) => finished += 1,
            code => assert_eq!(code, Some(2), "{}", stderr(&out)),
        }
    }
    assert!(finished >= 1);
    assert_eq!(timeless(&read(&report)), timeless(&whole));
}

#[test]
fn a_tensor_on_which_a_lane_broke_is_not_done() {
    let Some(driver) = standin::right() else {
        return;
    };
    let tensors = big::tensors(3, 8, 256);
    let case = Case::of(tempfile::tempdir().unwrap(), &tensors);
    let report = case.path("r.jsonl");
    let (report_arg, model) = (report.to_str().unwrap(), case.path("tq4"));
    let model = model.to_str().unwrap();
    let args = ["validate", "--all", "--lanes", "cuda", "--tq-model", model];
    let args = [&args[..], &["--allow-software", "--report", report_arg]].concat();
    // The third copy to the host fails: the second tensor's output, after the first and its guard.
    let out = standin::command(driver, &args)
        .env("TQ4_STANDIN_FAIL", "cuMemcpyDtoHAsync_v2:2:3")
        .output()
        .unwrap();
    assert_eq!(out.status.code(), Some(2), "{}", stderr(&out));
    let broke = Contents::read(&report).unwrap().unwrap();
    assert!(broke.summary.is_some(), "the run went on to its end");
    let bases: Vec<&str> = tensors.iter().map(|t| t.base.as_str()).collect();
    let done = broke.done();
    assert!(done.contains(bases[0]) && done.len() < 3, "{done:?}");
    assert!(!done.contains(bases[1]), "{done:?}");

    let again = [&args[..], &["--resume", "--format", "json"]].concat();
    let out = standin::tq4(driver, &again);
    assert!(out.status.success(), "{}", stderr(&out));
    let left = match done.len() {
        1 => "resuming: 1 tensor is done, 2 are left",
        _ => "resuming: 2 tensors are done, 1 is left",
    };
    assert!(stderr(&out).contains(left), "{}", stderr(&out));
    let run: Value = serde_json::from_str(&stdout(&out)).unwrap();
    assert_eq!(run["tensors"].as_array().unwrap().len(), 3);
    for t in run["tensors"].as_array().unwrap() {
        let passed = "cuda_dequant_matches_reference_with_bf16_rounding";
        assert_eq!(t["decision"], passed, "{}", t["tensor_base"]);
    }
    // The file says so too, and is finished.
    let merged = tq4(&["merge", report_arg, "--format", "json"]);
    let merged: Value = serde_json::from_str(&stdout(&merged)).unwrap();
    assert_eq!(merged["tensors"], run["tensors"]);
    assert!(Contents::read(&report).unwrap().unwrap().summary.is_some());
}

#[test]
fn a_damaged_report_is_refused_with_its_line() {
    let case = Case::new();
    let whole = case.whole();
    let report = case.path("damaged.jsonl");
    let lines: Vec<&str> = whole.lines().collect();
    for (text, what) in [
        (
            "{\"a\": 1}\n".to_owned(),
            "line 1: not a record of a report",
        ),
        (format!("{}\n", lines[1]), "line 1: no header found"),
        (
            format!("{}\n\n{}\n", lines[0], lines[1]),
            "line 2: not a record of a report",
        ),
        (
            format!("{}\n{}\n", lines[0], lines[0]),
            "line 2: a record that does not belong here",
        ),
        (
            format!("{}\n{}\n{}\n", lines[0], lines[1], lines[1]),
            "line 3: tensor \"layers.0.proj\" is there twice",
        ),
        (
            format!(
                "{}\n{}\n",
                lines[0],
                lines[1].replace("layers.0", "layers.x")
            ),
            "line 2: tensor \"layers.x.proj\" is there twice, or not one of the run's",
        ),
    ] {
        std::fs::write(&report, &text).unwrap();
        let out = case.run(&report, &["--resume"]);
        assert_eq!(out.status.code(), Some(2));
        assert!(stderr(&out).contains(what), "{}", stderr(&out));
        assert_eq!(read(&report), text);
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_leaves_a_report_to_resume_from() {
    let case = Case::new();
    let whole = case.whole();
    // Too small by half, in whole pages.
    let half = (whole.len() / 2048) & !3;
    let Some(disk) = Tmpfs::mount(&case.path("disk"), half) else {
        return;
    };
    let report = disk.path().join("r.jsonl");
    // Twice: a resumed run meets the full disk as well.
    for more in [&[][..], &["--resume"]] {
        let out = case.run(&report, more);
        assert_eq!(out.status.code(), Some(2), "{}", stderr(&out));
        let text = stderr(&out);
        assert_eq!(text.matches("error: ").count(), 1, "{text}");
        assert!(
            text.contains("error: cannot write the report: No space left on device"),
            "{text}"
        );
        assert!(
            text.contains("help: what is done is kept: free some space"),
            "{text}"
        );
        assert!(read(&report).ends_with('\n'), "the torn line is taken back");
    }
    assert!(read(&report).lines().count() > 5);
    disk.grow();
    let out = case.run(&report, &["--resume"]);
    assert!(out.status.success(), "{}", stderr(&out));
    assert_eq!(timeless(&read(&report)), timeless(&whole));
}
