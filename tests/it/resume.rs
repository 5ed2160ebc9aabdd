//! A sweep that is stopped at any moment loses nothing: `--resume` ends with the report of a run that
//! nothing disturbed.

use crate::support::cli::{stderr, stdout};
use crate::support::sweep::{Case, read, timeless};
use crate::support::{big, not_run};
use std::path::Path;
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
fn a_report_is_never_overwritten_nor_mixed_with_another_sweep() {
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
        (["--row-count", "4"], "another sweep: rows: "),
        (
            ["--partition", "1/2"],
            "another sweep: partition: 1/1 there, 1/2 here",
        ),
        (["--require", "wgpu"], "another sweep: lanes: "),
    ] {
        refused(&[more[0], more[1], "--resume"], what);
    }
    // The same names in other shapes are another model.
    big::write_models(case.dir.path(), &big::tensors(3, 8, 256));
    refused(&["--resume"], "another sweep: model: ");
}

#[test]
fn a_damaged_report_is_refused_with_its_line() {
    let case = Case::new();
    let whole = case.whole();
    let report = case.path("damaged.jsonl");
    let lines: Vec<&str> = whole.lines().collect();
    for (text, what) in [
        ("{\"a\": 1}\n".to_owned(), "line 1: not a record of a sweep"),
        (format!("{}\n", lines[1]), "line 1: no header found"),
        (
            format!("{}\n\n{}\n", lines[0], lines[1]),
            "line 2: not a record of a sweep",
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
            "line 2: tensor \"layers.x.proj\" is there twice, or not one of the sweep's",
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
    let disk = case.path("disk");
    std::fs::create_dir(&disk).unwrap();
    let mount = |size: &str, more: &[&str]| {
        let options = format!(
            "size={size}{}",
            if more.is_empty() { "" } else { ",remount" }
        );
        let out = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "tmpfs"])
            .arg(&disk)
            .output();
        match out {
            Ok(o) if o.status.success() => None,
            Ok(o) => Some(stderr(&o).trim().to_owned()),
            Err(e) => Some(e.to_string()),
        }
    };
    let half = format!("{}k", (whole.len() / 2048) & !3);
    if let Some(why) = mount(&half, &[]) {
        not_run("a full disk", &format!("no tmpfs can be mounted: {why}"));
        return;
    }
    struct Unmount<'a>(&'a Path);
    impl Drop for Unmount<'_> {
        fn drop(&mut self) {
            let _ = std::process::Command::new("umount").arg(self.0).status();
        }
    }
    let _unmount = Unmount(&disk);
    let report = disk.join("r.jsonl");
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
        assert!(text.contains("help: what is done is kept"), "{text}");
        assert!(read(&report).ends_with('\n'), "the torn line is taken back");
    }
    assert!(read(&report).lines().count() > 5);
    assert_eq!(mount("8m", &["remount"]), None);
    let out = case.run(&report, &["--resume"]);
    assert!(out.status.success(), "{}", stderr(&out));
    assert_eq!(timeless(&read(&report)), timeless(&whole));
}
