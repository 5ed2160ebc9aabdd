//! The first thing a newcomer runs.

use crate::support::cli::{self, stderr, stdout, tq4};
use crate::support::standin;
use tq4::format::TqModel;

#[test]
fn demo_writes_a_model_and_validates_it_on_what_there_is() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("demo");
    let out = tq4(&["demo", "--dir", path.to_str().unwrap()]);
    assert!(out.status.success(), "{}{}", stdout(&out), stderr(&out));
    let text = stdout(&out);
    assert!(text.contains(path.to_str().unwrap()), "{text}");
    for lane in ["reference", "cuda", "wgpu"] {
        assert!(
            text.contains(&format!("\n {lane}")),
            "{lane} is in the table of lanes: {text}"
        );
    }
    assert!(
        text.lines()
            .rfind(|l| !l.starts_with("  "))
            .unwrap()
            .starts_with("decision: "),
        "{text}"
    );

    let model = TqModel::open(&path.join("tq4")).unwrap();
    let shapes: Vec<[usize; 2]> = model
        .bases()
        .map(|b| model.info(b).unwrap().shape)
        .collect();
    assert!(
        shapes.len() >= 2 && shapes.contains(&[256, 4096]),
        "{shapes:?}"
    );

    let again = path.join("tq4").join("model.safetensors");
    let first = std::fs::read(&again).unwrap();
    assert!(
        tq4(&["demo", "--dir", path.to_str().unwrap()])
            .status
            .success()
    );
    assert_eq!(std::fs::read(&again).unwrap(), first, "the seed is fixed");
}

#[test]
fn without_a_vulkan_driver_the_reference_runs_and_help_is_given() {
    let dir = tempfile::tempdir().unwrap();
    let out = assert_cmd::Command::cargo_bin("tq4")
        .unwrap()
        .args(["demo", "--dir", dir.path().to_str().unwrap()])
        .env("VK_DRIVER_FILES", "/nonexistent/icd.json")
        .env("VK_ICD_FILENAMES", "/nonexistent/icd.json")
        .output()
        .unwrap();
    assert!(out.status.success(), "{}", stderr(&out));
    let text = stdout(&out);
    if cfg!(target_os = "linux") {
        assert!(text.contains("wgpu       NOT RUN"), "{text}");
        assert!(text.contains("mesa-vulkan-drivers"), "{text}");
    }
    assert!(text.contains("reference  ran"), "{text}");
}

#[test]
fn nothing_is_said_of_a_runtime_directory_that_is_not_set() {
    let dir = tempfile::tempdir().unwrap();
    let demo = ["demo", "--dir", dir.path().to_str().unwrap()];
    for args in [&["devices"][..], &demo] {
        let out = assert_cmd::Command::cargo_bin("tq4")
            .unwrap()
            .args(args)
            .env_remove("XDG_RUNTIME_DIR")
            .output()
            .unwrap();
        let text = stderr(&out);
        assert!(out.status.success(), "{text}");
        assert!(!text.contains("XDG_RUNTIME_DIR"), "{text}");
    }
}

#[test]
fn every_adapter_is_listed_or_the_lack_of_one_explained() {
    let out = tq4(&["devices"]);
    assert!(out.status.success(), "{}", stderr(&out));
    let text = stdout(&out);
    let adapters = tq4::lane::wgpu::list();
    assert_eq!(text.contains("wgpu adapters\n"), !adapters.is_empty());
    assert_eq!(text.contains("wgpu: NOT AVAILABLE: "), adapters.is_empty());
    assert_eq!(text.matches("largest binding").count(), adapters.len());
    for a in adapters {
        assert!(text.contains(&a.name), "{}: {text}", a.name);
    }
}

#[test]
fn devices_are_told_to_machines_and_in_markdown() {
    let out = tq4(&["devices", "--format", "json"]);
    let all: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    let lanes: Vec<&str> = all
        .as_array()
        .unwrap()
        .iter()
        .map(|l| l["lane"].as_str().unwrap())
        .collect();
    assert_eq!(lanes, ["wgpu", "cuda"]);
    let adapters = tq4::lane::wgpu::list();
    let found = all[0]["devices"].as_array().unwrap();
    assert_eq!(all[0]["available"], !adapters.is_empty());
    assert_eq!(found.len(), adapters.len());
    for (a, found) in adapters.iter().zip(found) {
        assert_eq!(found["index"], a.index);
        assert_eq!(found["name"], a.name);
        assert_eq!(found["software"], a.software);
        assert_eq!(found["max_binding_bytes"], a.max_binding);
        // It decodes a few rows, or says why not.
        assert_eq!(found["ready"], true, "{found}");
        assert!(
            found["kernel_variant"].is_string() && found["reason"].is_null(),
            "{found}"
        );
    }
    let automatic = found.iter().filter(|a| a["automatic"] == true).count();
    assert_eq!(automatic, usize::from(!found.is_empty()));
    for lane in all.as_array().unwrap() {
        let explained = lane["reason"].is_string() && lane["help"].is_string();
        assert_eq!(explained, lane["available"] == false, "{lane}");
    }
    let out = tq4(&["devices", "--format", "markdown"]);
    let rows = stdout(&out)
        .lines()
        .filter(|l| l.starts_with("| largest binding"))
        .count();
    assert_eq!(rows, adapters.len(), "{}", stdout(&out));
}

#[test]
fn every_cuda_device_is_listed_or_the_lack_of_one_explained() {
    let (Some(right), Some(empty)) = (standin::right(), standin::empty()) else {
        return;
    };
    for (driver, said) in [
        (right, ["CUDA devices\n", "tq4 stand-in (emulated)"]),
        (
            empty,
            ["cuda: NOT AVAILABLE: ", "help: install the NVIDIA driver"],
        ),
    ] {
        let out = standin::tq4(driver, &["devices"]);
        assert!(out.status.success(), "{}", stderr(&out));
        let text = stdout(&out);
        assert!(said.iter().all(|s| text.contains(s)), "{said:?}: {text}");
    }
}

#[test]
fn a_model_that_is_not_a_demo_is_not_written_over() {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("source");
    cli::Model::source().write(&source);
    let before = std::fs::read(source.join("model.safetensors")).unwrap();
    let dir = dir.path().to_str().unwrap();
    let out = tq4(&["demo", "--lanes", "reference", "--dir", dir]);
    assert_eq!(out.status.code(), Some(2));
    assert!(
        stderr(&out).contains("something other than a demo's model"),
        "{}",
        stderr(&out)
    );
    assert_eq!(
        std::fs::read(source.join("model.safetensors")).unwrap(),
        before
    );
}
