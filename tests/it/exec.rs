//! `--exec`: programs as lanes, good and bad.

use crate::support::cli::{COLS, Model, ROWS, stderr, stdout, tq4};
use crate::support::recording::{dump, rounded};
use crate::support::{root, source};
use serde_json::Value;
use std::path::Path;
use std::process::{Command, Output};

const BASES: [&str; 2] = ["a.gate_proj", "a.up_proj"];

/// What a program does that is right.
const COPY: &str = r#"cp "$right/$tensor" "$out"; echo '{"ok":true}'"#;

/// A model, and what is right of each of its tensors in a file of the tensor's name.
fn model(dir: &Path) {
    Model::valid().write(&dir.join("model"));
    std::fs::create_dir(dir.join("right")).unwrap();
    for base in BASES {
        let (values, _) = rounded(&dir.join("model"), base);
        let bytes: &[u8] = bytemuck::cast_slice(&values);
        std::fs::write(dir.join("right").join(base), bytes).unwrap();
    }
}

/// The command of a program that is kept and does `on_first` for the first tensor and `on_second` for the
/// second, in the shell's words, with `$tensor`, `$out` and `$right`.
fn program(dir: &Path, name: &str, on_first: &str, on_second: &str) -> String {
    let path = dir.join(format!("{name}.sh"));
    let right = dir.join("right");
    let text = format!(
        r#"right='{}'
field() {{ printf '%s' "$line" | sed 's/.*"'$1'":"\([^"]*\)".*/\1/'; }}
while read -r line; do
  tensor=$(field tensor)
  out=$(field output)
  case $tensor in
    {}) {on_first} ;;
    *) {on_second} ;;
  esac
done
"#,
        right.display(),
        BASES[0]
    );
    std::fs::write(&path, text).unwrap();
    format!("sh '{}'", path.display())
}

/// Runs `tq4` with a temporary directory of its own, which must be empty in the end.
fn run(dir: &Path, args: &[&str]) -> Output {
    let temp = dir.join("temp");
    std::fs::create_dir_all(&temp).unwrap();
    let out = assert_cmd::Command::cargo_bin("tq4")
        .unwrap()
        .args(args)
        .env("TMPDIR", &temp)
        .output()
        .unwrap();
    let left: Vec<_> = std::fs::read_dir(&temp).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
    out
}

/// Validates every tensor on the reference and these programs: exit code, report, stderr.
fn validate(dir: &Path, programs: &[&str], more: &[&str]) -> (Option<i32>, Value, String) {
    validate_model(dir, &dir.join("model"), programs, more)
}

/// The same of another model.
fn validate_model(
    dir: &Path,
    model: &Path,
    programs: &[&str],
    more: &[&str],
) -> (Option<i32>, Value, String) {
    let mut args = vec![
        "validate",
        "--all",
        "--lanes",
        "reference",
        "--format",
        "json",
    ];
    args.extend(["--tq-model", model.to_str().unwrap()]);
    args.extend(programs.iter().flat_map(|p| ["--exec", p]));
    args.extend(more);
    let out = run(dir, &args);
    let report = serde_json::from_str(&stdout(&out));
    let report = report.unwrap_or_else(|e| panic!("{e}: {}", stderr(&out)));
    (out.status.code(), report, stderr(&out))
}

/// Times the reference and these programs: what was printed, and the record.
fn bench(dir: &Path, programs: &[String], more: &[&str]) -> (Output, Value) {
    let json = dir.join("bench.json");
    let mut args = vec!["bench", "--lanes", "reference", "--copy-size", "1"];
    args.extend(["--json", json.to_str().unwrap()]);
    args.extend(programs.iter().flat_map(|p| ["--exec", p]));
    args.extend(more);
    let out = run(dir, &args);
    let record = std::fs::read(&json).unwrap_or_else(|e| panic!("{e}: {}", stderr(&out)));
    (out, serde_json::from_slice(&record).unwrap())
}

/// A lane's record and its decision, at a tensor.
fn lane<'a>(report: &'a Value, tensor: usize, name: &str) -> (&'a Value, &'a Value) {
    let find = |list: &'a str, key: &str| {
        let all = report["tensors"][tensor][list].as_array().unwrap();
        all.iter().find(|l| l[key] == name).expect("it is there")
    };
    (find("lanes", "name"), find("decisions", "lane"))
}

/// The command of the NumPy kernel in `examples/`.
fn numpy_kernel() -> Option<String> {
    let python = source::python("the NumPy kernel as a lane")?;
    let python = python.get_program().to_str().unwrap().to_owned();
    let script = root().join("examples/exec/numpy_kernel.py");
    Some(format!("'{python}' '{}'", script.display()))
}

#[test]
fn the_numpy_kernel_is_identical_on_every_layout() {
    let Some(kernel) = numpy_kernel() else { return };
    let dir = tempfile::tempdir().unwrap();
    let fixture = dir.path().join("fixture");
    let made = tq4(&["fixture", fixture.to_str().unwrap()]);
    assert!(made.status.success(), "{}", stderr(&made));
    let mut layouts = 0;
    for model in std::fs::read_dir(&fixture).unwrap() {
        let model = model.unwrap().path();
        let several = model.ends_with("b3_g64");
        let types: &[&str] = if several {
            &["bf16", "f16", "f32"]
        } else {
            &["bf16"]
        };
        let lanes: Vec<String> = types
            .iter()
            .map(|t| format!("np_{t}:{t}={kernel}"))
            .collect();
        let lanes: Vec<&str> = lanes.iter().map(String::as_str).collect();
        let (code, report, errors) = validate_model(dir.path(), &model, &lanes, &["--strip", "5"]);
        assert_eq!(code, Some(0), "{errors}");
        for tensor in 0..report["tensors"].as_array().unwrap().len() {
            for of in types {
                let (record, decision) = lane(&report, tensor, &format!("np_{of}"));
                assert_eq!(record["status"], "ran");
                assert!(record["kernel_seconds"].is_f64(), "{record}");
                assert_eq!(decision["verdict"], "identical", "{decision}");
            }
        }
        layouts += 1;
    }
    // 29 models, one of them in two files.
    assert_eq!(layouts, 30);
}

#[test]
fn a_program_is_a_lane_like_any_other() {
    let dir = tempfile::tempdir().unwrap();
    model(dir.path());
    let good = program(dir.path(), "good", COPY, COPY);
    // The first tensor's values for the second: its shape fits, and nothing else.
    let other = format!("tensor={}; {COPY}", BASES[0]);
    let wrong = program(dir.path(), "wrong", COPY, &other);
    let lanes = [format!("good={good}"), format!("bad.one={wrong}")];
    let lanes: Vec<&str> = lanes.iter().map(String::as_str).collect();
    let (code, report, _) = validate(dir.path(), &lanes, &[]);
    assert_eq!(code, Some(1));
    let expected = [format!("good:bf16={good}"), format!("bad.one:bf16={wrong}")];
    assert_eq!(report["model"]["programs"], serde_json::json!(expected));
    for tensor in 0..2 {
        let (record, decision) = lane(&report, tensor, "good");
        assert_eq!(decision["verdict"], "identical");
        assert_eq!(record["api"], "exec");
        assert_eq!(record["kernel_variant"], "sh, kept running");
        // It does not tell its time, and the wall's is not the kernel's.
        assert_eq!(record["kernel_seconds"], Value::Null);
        let verdict = ["identical", "differs"][tensor];
        assert_eq!(lane(&report, tensor, "bad.one").1["verdict"], verdict);
    }
}

#[test]
fn a_program_sees_the_environment_that_tq4_was_given() {
    let dir = tempfile::tempdir().unwrap();
    model(dir.path());
    let seen = dir.path().join("seen");
    let look = format!(
        "echo \"${{XDG_RUNTIME_DIR-not set}}\" > '{}'; {COPY}",
        seen.display()
    );
    let looks = format!("mine={}", program(dir.path(), "looks", &look, &look));
    let model = dir.path().join("model");
    for given in [None, Some("/run/user/1000")] {
        let mut tq4 = assert_cmd::Command::cargo_bin("tq4").unwrap();
        tq4.args(["validate", "--all", "--lanes", "reference", "--tq-model"])
            .arg(&model)
            .args(["--exec", &looks])
            .env_remove("XDG_RUNTIME_DIR")
            .envs(given.map(|value| ("XDG_RUNTIME_DIR", value)));
        let out = tq4.output().unwrap();
        assert_eq!(out.status.code(), Some(0), "{}", stderr(&out));
        let seen = std::fs::read_to_string(&seen).unwrap();
        assert_eq!(seen.trim_end(), given.unwrap_or("not set"));
    }
}

#[test]
fn with_file_names_a_program_is_started_for_each_strip() {
    let dir = tempfile::tempdir().unwrap();
    model(dir.path());
    let script = dir.path().join("once.sh");
    let text = format!(
        "echo starting\ntest -s \"$1\" || exit 9\n\
         tail -c +$(($3 * 512 + 1)) '{0}/right/{1}' | head -c $(($4 * 512)) > \"${{2#to=}}\"\n\
         shift 2\necho \"$@\" >> '{0}/arguments'\n",
        dir.path().display(),
        BASES[1]
    );
    std::fs::write(&script, text).unwrap();
    let words =
        "{input} to={output} {row_start} {rows} {cols} {bits} {group_size} {dtype} {tensor}";
    let once = format!("once=sh '{}' {words}", script.display());
    let model = dir.path().join("model");
    let mut args = vec!["validate", "--lanes", "reference", "--format", "json"];
    args.extend([
        "--tq-model",
        model.to_str().unwrap(),
        "--tensor-base",
        BASES[1],
    ]);
    args.extend(["--strip", "4", "--exec", &once]);
    let out = run(dir.path(), &args);
    assert_eq!(out.status.code(), Some(0), "{}", stderr(&out));
    let report: Value = serde_json::from_str(&stdout(&out)).unwrap();
    let (record, decision) = lane(&report, 0, "once");
    assert_eq!(decision["verdict"], "identical");
    let variant = "sh, started for each strip, its start is timed";
    assert_eq!(record["kernel_variant"], variant);
    // A tensor's name is not put into a command.
    let strips = "0 4 256 4 128 bf16 {tensor}\n4 2 256 4 128 bf16 {tensor}\n";
    let arguments = std::fs::read_to_string(dir.path().join("arguments")).unwrap();
    assert_eq!(arguments, strips);

    std::fs::write(&script, "echo to stdout; echo to stderr >&2; exit 7\n").unwrap();
    let (code, report, _) = validate(dir.path(), &[&once], &[]);
    assert_eq!(code, Some(2));
    let reason = lane(&report, 1, "once").0["reason"].as_str().unwrap();
    for what in ["exit status: 7", "to stdout", "to stderr"] {
        assert!(reason.contains(what), "{reason}");
    }
}

#[test]
fn a_program_that_fails_harms_no_other_lane_and_no_other_tensor() {
    let dir = tempfile::tempdir().unwrap();
    model(dir.path());
    let good = format!("good={}", program(dir.path(), "good", COPY, COPY));
    let bytes = 2 * ROWS * COLS;
    let (over, expected) = (
        bytes + 1,
        format!("expected {bytes}: {ROWS} x {COLS} values of bf16"),
    );
    let long = format!("cp \"$right/$tensor\" \"$out\"; printf x >> \"$out\"; {OK}");
    let hang = format!(
        "sleep 1000 & echo $! > '{}/pid'; wait",
        dir.path().display()
    );
    let holds = format!("holds {over} bytes, {expected}");
    let cases: [(&str, &str, &[&str]); 13] = [
        (
            "crash",
            "echo 'some words' >&2; exit 3",
            &["exit status: 3", "it printed: some words"],
        ),
        ("signal", "kill -SEGV $$", &["signal: 11"]),
        ("hang", &hang, &["no answer within 5 s, it was killed"]),
        ("deaf", "exec >&-; sleep 1000", &["closed its stdout"]),
        (
            "short",
            &format!("printf abc > \"$out\"; {OK}"),
            &["holds 3 bytes", &expected],
        ),
        ("long", &long, &[&holds]),
        ("missing", OK, &["it wrote no output"]),
        (
            "folder",
            &format!("mkdir \"$out\"; {OK}"),
            &["its output is no file"],
        ),
        (
            "words",
            "echo 'loading the kernel'",
            &["no answer: \"loading the kernel\""],
        ),
        (
            "form",
            "echo '{\"ok\":1}'",
            &["no answer: \"{\\\"ok\\\":1}\""],
        ),
        (
            "refusal",
            "echo '{\"ok\":false,\"error\":\"no memory\"}'",
            &["failed: no memory"],
        ),
        (
            "flood",
            "yes x | tr -d '\\n'",
            &["more than 65536 bytes", "\"xxx"],
        ),
        (
            "hostile",
            "printf 'a\\033[31mb' >&2; exit 1",
            &["a\u{1b}[31mb"],
        ),
    ];
    for (name, action, reasons) in cases {
        let bad = program(dir.path(), name, action, COPY);
        let bad = format!("{name}={bad}");
        // Much longer than the others need, however busy the machine is.
        let limit = if name == "hang" { "5" } else { "60" };
        let programs = [bad.as_str(), good.as_str()];
        let (code, report, errors) = validate(dir.path(), &programs, &["--exec-timeout", limit]);
        assert_eq!(code, Some(2), "{name}: {errors}");
        assert!(!errors.contains('\u{1b}'), "{name}: {errors}");
        let (record, decision) = lane(&report, 0, name);
        assert_eq!(record["status"], "failed", "{name}");
        assert_eq!(decision["verdict"], "broke", "{name}");
        let reason = record["reason"].as_str().unwrap();
        for part in reasons {
            assert!(reason.contains(part), "{name}: {reason}");
        }
        for (tensor, lane_name) in [(1, name), (0, "good"), (1, "good")] {
            let (_, decision) = lane(&report, tensor, lane_name);
            assert_eq!(decision["verdict"], "identical", "{name}: {decision}");
        }
    }
    // What the program had started was killed with it.
    let pid = std::fs::read_to_string(dir.path().join("pid")).unwrap();
    assert!(!alive(pid.trim()));
}

/// Whether a process runs; one that nobody reaps does not.
fn alive(pid: &str) -> bool {
    let there = Command::new("kill").args(["-0", pid]).output();
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    there.unwrap().status.success() && !stat.contains(") Z ")
}

/// An answer that all went well.
const OK: &str = "echo '{\"ok\":true}'";

#[test]
fn what_a_program_printed_is_led_by_the_line_that_says_most() {
    let dir = tempfile::tempdir().unwrap();
    model(dir.path());
    let lines =
        "Traceback (most recent call last):\n  File \"a.py\", line 3, in f\nValueError: no shape";
    let print = format!("printf '%s\\n' 'loading' '{lines}' >&2; exit 1");
    let bad = program(dir.path(), "bad", &print, COPY);
    let (_, report, errors) = validate(dir.path(), &[&format!("mine={bad}")], &[]);
    let reason = lane(&report, 0, "mine").0["reason"].as_str().unwrap();
    let headline = "ValueError: no shape; it ended with exit status: 1";
    assert_eq!(reason, format!("{headline}\nloading\n{lines}"));
    assert!(errors.contains(&format!("error: {headline}\n")), "{errors}");
    // What is no exception stands behind what went wrong.
    let print = "echo 'device error 7' >&2; echo 'goodbye' >&2; exit 1";
    let bad = program(dir.path(), "bad", print, COPY);
    let (_, report, _) = validate(dir.path(), &[&format!("mine={bad}")], &[]);
    let reason = lane(&report, 0, "mine").0["reason"].as_str().unwrap();
    let headline = "it ended with exit status: 1; it printed: device error 7";
    assert_eq!(reason, format!("{headline}\ndevice error 7\ngoodbye"));
}

#[test]
fn only_the_end_of_what_is_printed_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    model(dir.path());
    let much = "head -c 100000 /dev/zero | tr '\\0' x >&2; echo the end >&2; exit 1";
    let bad = format!("x={}", program(dir.path(), "x", much, COPY));
    let (_, report, _) = validate(dir.path(), &[&bad], &[]);
    let reason = lane(&report, 0, "x").0["reason"].as_str().unwrap();
    assert!(reason.ends_with("xxxthe end"), "{reason}");
    assert!((4000..4300).contains(&reason.len()), "{}", reason.len());
}

#[test]
fn a_benchmark_takes_the_time_that_a_program_tells_or_the_wall() {
    let dir = tempfile::tempdir().unwrap();
    model(dir.path());
    let tells = COPY.replace("true", "true,\"seconds\":0.000001");
    // Its second answer is of an output that it did not write.
    let stale = format!("[ -n \"$again\" ] || cp \"$right/$tensor\" \"$out\"; again=1; {OK}");
    let once = dir.path().join("once.sh");
    std::fs::write(&once, "cp \"$1\" \"$2\"\n").unwrap();
    let right = dir.path().join("right").join(BASES[0]);
    let lanes = [
        format!("wall={}", program(dir.path(), "wall", COPY, COPY)),
        format!("own={}", program(dir.path(), "own", &tells, &tells)),
        format!("stale={}", program(dir.path(), "stale", &stale, &stale)),
        format!(
            "once=cp '{}' {{output}} --suffix={{input}}",
            right.display()
        ),
    ];
    let model = dir.path().join("model");
    let of = [
        "--tq-model",
        model.to_str().unwrap(),
        "--tensor-base",
        BASES[0],
    ];
    let more = [&of[..], &["--time-limit", "1"]].concat();
    let (out, record) = bench(dir.path(), &lanes, &more);
    assert_eq!(out.status.code(), Some(2), "{}", stderr(&out));
    let find = |name: &str| -> &Value {
        let lanes = record["shapes"][0]["lanes"].as_array().unwrap();
        lanes.iter().find(|l| l["lane"] == name).unwrap()
    };
    for (name, clock) in [
        ("wall", "wall"),
        ("own", "the program's own"),
        ("once", "wall"),
    ] {
        let times = &find(name)["times"];
        for measure in ["kernel_cold", "kernel_warm"] {
            assert_eq!(times[measure]["clock"], clock, "{name}: {}", find(name));
            assert_eq!(times[measure]["percent_of_copy"], Value::Null);
        }
        assert_eq!(times["end_to_end"]["clock"], "wall");
        assert_eq!(times["copy"], Value::Null);
    }
    assert_eq!(find("own")["times"]["kernel_warm"]["median_s"], 1e-6);
    assert_eq!(find("stale")["verdict"], "broke");
    assert_eq!(find("stale")["reason"], "it wrote no output");
    assert!(find("reference")["times"]["copy"].is_object());
    let warnings = record["shapes"][0]["warnings"].to_string();
    assert!(
        warnings
            .contains("own: timed by the program's own clock; its device cannot be told to copy"),
        "{warnings}"
    );
    assert!(!warnings.contains("timestamps"), "{warnings}");
    let text = stdout(&out);
    assert!(
        text.contains("a program, exec, cp, started for each strip"),
        "{text}"
    );
}

#[test]
fn a_benchmark_holds_f32_to_its_own_sets() {
    let Some(kernel) = numpy_kernel() else { return };
    let dir = tempfile::tempdir().unwrap();
    let lanes = ["f16", "f32"].map(|t| format!("{t}:{t}={kernel}"));
    let more = ["--shape", "8x256", "--time-limit", "0.2"];
    let (out, record) = bench(dir.path(), &lanes, &more);
    assert_eq!(out.status.code(), Some(0), "{}", stderr(&out));
    let shape = &record["shapes"][0];
    let bytes = shape["bytes"].as_f64().unwrap();
    // An element takes two bytes more than as BF16.
    for (lane, least) in [(1, bytes), (2, bytes + 2.0 * 8.0 * 256.0)] {
        let speed = &shape["lanes"][lane]["times"]["kernel_cold"];
        assert_eq!(speed["clock"], "the program's own");
        let found = speed["gb_per_s"].as_f64().unwrap() * speed["median_s"].as_f64().unwrap() * 1e9;
        assert!((found / least - 1.0).abs() < 1e-9, "{found} {least}");
    }
}

#[test]
fn bad_commands_are_refused_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    model(dir.path());
    let (values, shape) = rounded(&dir.path().join("model"), BASES[0]);
    let dump = dump(&dir.path().join("dump.json"), BASES[0], shape, &values);
    let recording = format!("mine={dump}");
    let report = dir.path().join("report.jsonl");
    let model = dir.path().join("model");
    let cases: [(&[&str], &str); 9] = [
        (
            &["--exec", "mine"],
            "expected NAME=COMMAND\n  where: --exec mine",
        ),
        (&["--exec", "mine= "], "the command is empty"),
        (&["--exec", "mine=sh 'a"], "a quote that does not end"),
        (
            &["--exec", "mine=./not-there {input}"],
            "the program \"./not-there\" is not found",
        ),
        (
            &["--exec", "mine=sh {input}"],
            "{input} is there without {output}",
        ),
        (
            &["--exec", "cuda=sh"],
            "cuda is the name of one of tq4's own lanes",
        ),
        (
            &["--exec", "mine=sh", "--exec", "mine:f32=sh"],
            "two lanes are named mine",
        ),
        (
            &["--exec", "mine=sh", "--recording", &recording],
            "a kernel or program is named \"mine\" as well",
        ),
        (
            &["--exec", "mine=sh", "--exec-timeout", "0"],
            "0 seconds found",
        ),
    ];
    for (options, what) in cases {
        let mut args = vec!["validate", "--all", "--tq-model", model.to_str().unwrap()];
        args.extend(["--report", report.to_str().unwrap()]);
        // No adapter has this name: the command is looked at before any device.
        args.extend(["--adapter", "no such adapter"]);
        args.extend(options);
        let out = run(dir.path(), &args);
        assert_eq!(out.status.code(), Some(2), "{options:?}");
        assert!(stderr(&out).contains(what), "{options:?}: {}", stderr(&out));
        assert!(!report.exists());
    }
}

#[test]
fn a_report_is_not_resumed_with_another_command() {
    let dir = tempfile::tempdir().unwrap();
    model(dir.path());
    let report = dir.path().join("report.jsonl");
    let good = program(dir.path(), "good", COPY, COPY);
    let more = ["--resume", "--report", report.to_str().unwrap()];
    let first = format!("mine={good}");
    assert_eq!(validate(dir.path(), &[&first], &more).0, Some(0));
    assert_eq!(validate(dir.path(), &[&first], &more).0, Some(0));
    let model = dir.path().join("model");
    let other = format!("mine={good} --fast");
    let mut args = vec![
        "validate",
        "--all",
        "--lanes",
        "reference",
        "--exec",
        &other,
    ];
    args.extend(["--tq-model", model.to_str().unwrap()]);
    args.extend(more);
    let out = run(dir.path(), &args);
    assert_eq!(out.status.code(), Some(2));
    assert!(
        stderr(&out).contains("of another run: programs: mine:bf16="),
        "{}",
        stderr(&out)
    );
}
