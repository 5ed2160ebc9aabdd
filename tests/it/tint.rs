//! The shader under a second WGSL compiler: Tint, in Dawn for Node (npm `webgpu`), on SwiftShader.

#[path = "support/lane.rs"]
mod lane;
#[path = "support/tint.rs"]
mod tint;

use lane::{check, check_all, not_run, random_tensors};
use std::path::PathBuf;
use tint::Tint;
use tq4::backend::wgpu::shader;

/// The folder that holds `node_modules/webgpu`, and SwiftShader's ICD file; says so when one is missing.
fn parts() -> Option<(PathBuf, PathBuf)> {
    let given = |name| std::env::var_os(name).map(PathBuf::from);
    let (package, icd) = (given("TQ4_TINT"), given("TQ4_SWIFTSHADER_ICD"));
    let node = std::process::Command::new("node").arg("--version").output();
    if package.is_none() || icd.is_none() || node.is_err() {
        not_run(
            "Tint on SwiftShader",
            "install Node, set TQ4_TINT to a folder after `npm install --prefix FOLDER webgpu` and \
             TQ4_SWIFTSHADER_ICD to SwiftShader's ICD file (see .ci/run)",
        );
        return None;
    }
    package.zip(icd)
}

#[test]
fn every_layout_matches_the_reference() {
    let Some((package, icd)) = parts() else {
        return;
    };
    // Two tensors a layout, with odd row counts and every kind of scale.
    let tensors = random_tensors(17, 24);
    for subgroups in [false, true] {
        let Some(mut lane) = Tint::open(&package, &icd, shader(subgroups), subgroups) else {
            not_run("Tint with subgroups", "the adapter has none");
            continue;
        };
        check_all(&mut lane, &tensors).unwrap_or_else(|e| panic!("subgroups {subgroups}: {e}"));
    }
}

#[test]
fn a_wrong_shader_is_caught_and_one_that_does_not_compile_is_an_error() {
    let Some((package, icd)) = parts() else {
        return;
    };
    let tensor = &random_tensors(18, 1)[0];
    for (from, to, error) in [
        ("hi = a - hi;", "hi = hi - a;", "f32 element"),
        ("hi = a - hi;", "hi = a - lo_hi;", "lo_hi"),
    ] {
        let broken = shader(false).replace(from, to);
        let mut lane = Tint::open(&package, &icd, &broken, false).unwrap();
        let found = check(&mut lane, tensor).unwrap_err();
        assert!(found.contains(error), "{found}");
    }
}
