//! What the repository says of itself: the oldest Rust.

use crate::support::root;
use std::fs;
use std::process::Command;

/// A version as numbers, the last of them 0 where it is left out.
fn version(text: &str) -> [u32; 3] {
    let mut all = text.split('.').map(|n| n.parse().expect("a number"));
    [(); 3].map(|()| all.next().unwrap_or(0))
}

#[test]
fn the_oldest_rust_is_stated_and_no_dependency_needs_a_newer_one() {
    let oldest = env!("CARGO_PKG_RUST_VERSION");
    for file in ["README.md", "CONTRIBUTING.md"] {
        let text = fs::read_to_string(root().join(file)).unwrap();
        assert!(text.contains(&format!("Rust {oldest}")), "{file}");
    }
    let workflow = fs::read_to_string(root().join(".github/workflows/ci.yml")).unwrap();
    assert!(workflow.contains(&format!("rustup toolchain install {oldest} ")));
    let run = |program: &str, arguments: &[&str]| {
        let run = Command::new(program)
            .args(arguments)
            .current_dir(root())
            .output()
            .unwrap();
        assert!(
            run.status.success(),
            "{}",
            String::from_utf8_lossy(&run.stderr)
        );
        String::from_utf8(run.stdout).unwrap()
    };
    // Packages of other platforms need not have been fetched.
    let compiler = run("rustc", &["-vV"]);
    let host = compiler
        .lines()
        .find_map(|l| l.strip_prefix("host: "))
        .unwrap();
    let arguments = [
        "metadata",
        "--format-version=1",
        "--locked",
        "--offline",
        "--filter-platform",
        host,
    ];
    let metadata = run("cargo", &arguments);
    let metadata: serde_json::Value = serde_json::from_str(&metadata).unwrap();
    for package in metadata["packages"].as_array().unwrap() {
        let needs = package["rust_version"].as_str().unwrap_or("0");
        let name = &package["name"];
        assert!(
            version(needs) <= version(oldest),
            "{name} needs Rust {needs}"
        );
    }
}
