//! Every command of the README and of docs/ is run as it is written, in the order in which a document has them; and
//! what they name is there: files, links, options, benchmarks, tests, variables.

use crate::support::cli::{stderr, stdout, tq4};
use crate::support::{not_run, root, tool};
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use tq4::lane::wgpu;

/// What starts with this is not run here, but by that file, which has it.
const ELSEWHERE: [(&str, &str); 3] = [
    ("cargo test --release", ".ci/run"),
    ("pip install .", "tests/wheel.sh"),
    (
        "python3 docs/measurements/measure.py",
        "tests/it/measure.rs",
    ),
];

/// Its commands need a cluster, which `tests/cluster.sh` makes.
const CLUSTER: &str = "docs/cluster.md";

/// Every document, by its path from the root.
fn documents() -> Vec<(String, String)> {
    let docs = fs::read_dir(root().join("docs")).unwrap();
    let docs = docs.map(|e| {
        e.unwrap()
            .path()
            .strip_prefix(root())
            .unwrap()
            .to_path_buf()
    });
    let docs = docs.filter(|p| p.extension().is_some_and(|e| e == "md"));
    let mut paths: Vec<PathBuf> = docs.collect();
    paths.sort();
    paths.splice(
        0..0,
        ["README.md", "CONTRIBUTING.md", "SECURITY.md"].map(PathBuf::from),
    );
    let read = |p: PathBuf| {
        (
            p.display().to_string(),
            fs::read_to_string(root().join(p)).unwrap(),
        )
    };
    paths.into_iter().map(read).collect()
}

/// The commands of a document's shell blocks, a line that is continued as one.
fn commands(text: &str) -> Vec<String> {
    let blocks = text.split("```sh\n").skip(1);
    let blocks = blocks.map(|b| b.split_once("```").expect("the block ends").0);
    let lines = blocks.flat_map(|b| {
        b.replace("\\\n", " ")
            .lines()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    });
    lines.filter(|l| !l.trim().is_empty()).collect()
}

/// The code spans of a document's running text.
fn spans(text: &str) -> Vec<String> {
    let outside: String = text.split("```").step_by(2).collect();
    let spans = outside.split('`').skip(1).step_by(2);
    spans.map(|s| s.replace('\n', " ")).collect()
}

/// A folder in which the commands of a document run as they do in the repository's, once tq4 is installed.
struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new(python: &Path) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let bin = dir.path().join("bin");
        fs::create_dir(&bin).unwrap();
        let program = assert_cmd::cargo::cargo_bin("tq4");
        let script = |name: &str, text: String| {
            let path = bin.join(name);
            fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
            fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
        };
        // A measurement would take as long as its reader has patience.
        let program = program.display();
        script(
            "tq4",
            format!(
                "case $1 in bench) shift; set -- bench --time-limit 0.2 \"$@\";; esac\nexec {program} \"$@\""
            ),
        );
        script("python3", format!("exec {} \"$@\"", python.display()));
        // What cargo would build is there.
        script("cargo", "case \"$1 $2 $3\" in \"run --release --\") shift 3; exec tq4 \"$@\";; \"build --release \") exit 0;; esac\nexit 99".into());
        // The toolkit's, which starts the program that it watches.
        script("compute-sanitizer", "shift 2; exec \"$@\"".into());
        symlink(root().join("examples"), dir.path().join("examples")).unwrap();
        Self { dir }
    }

    fn run(&self, command: &str) -> Output {
        // Shapes for a GPU are long work for a processor.
        let command = command
            .replace("12288x4096", "64x4096")
            .replace("4096x4096", "64x4096");
        let path = std::env::var("PATH").unwrap();
        Command::new("sh")
            .args(["-c", &command])
            .current_dir(&self.dir)
            // The README shows a terminal of 100 columns.
            .env("COLUMNS", "100")
            .env(
                "PATH",
                format!("{}:{path}", self.dir.path().join("bin").display()),
            )
            .output()
            .unwrap()
    }

    /// Runs a command, which must do what the document says as far as this machine can; what it printed.
    fn holds(&self, document: &str, command: &str) -> String {
        let run = self.run(command);
        let code = run.status.code();
        let told = || {
            format!(
                "{document}: {command}\n{code:?}\n{}{}",
                stdout(&run),
                stderr(&run)
            )
        };
        // A device that is not here, or one in software in its place.
        let named = ["cuda", "wgpu"].iter().any(|lane| command.contains(lane));
        let why = ["is required", "where: lane cuda"];
        let told_why = why.iter().any(|w| stderr(&run).contains(w));
        let absent = code == Some(3) && named && told_why;
        let slower = code == Some(1) && command.contains("--fail-if-slower");
        let right = if command.contains("--exec bug=") {
            code == Some(1)
        } else {
            code == Some(0)
        };
        assert!(right || absent || slower, "{}", told());
        // The next command may read what it would have written.
        if absent && command.contains("--lane cuda") {
            let here = command.replace("--lane cuda", "--lane reference");
            assert_ne!(here, command);
            self.holds(document, &here);
        }
        stdout(&run)
    }
}

/// Whether this machine is that of the README's figures, as far as its output shows.
fn is_the_readmes() -> bool {
    let adapters = wgpu::list();
    let [adapter] = &adapters[..] else {
        return false;
    };
    let cuda = std::env::var_os("TQ4_REQUIRE_CUDA").is_some();
    adapter.name == "llvmpipe (LLVM 15.0.6, 256 bits)" && !cuda
}

/// The lines of a document's blocks of output, without those that are cut short.
fn printed(text: &str) -> Vec<&str> {
    let blocks = text.split("```text\n").skip(1);
    let lines = blocks.flat_map(|b| b.split_once("```").expect("the block ends").0.lines());
    lines.filter(|l| !l.ends_with("...")).collect()
}

#[test]
fn every_command_runs_as_it_is_written() {
    let Some(python) = tool("TQ4_PYTHON", "NumPy", "name a Python that has NumPy") else {
        return;
    };
    let adapters = !wgpu::list().is_empty();
    if !adapters {
        not_run("the documents' shader", "no adapter");
    }
    let mut count = 0;
    for (document, text) in documents().iter().filter(|(name, _)| name != CLUSTER) {
        let place = Place::new(&python);
        let demo = place.run("tq4 demo");
        assert_eq!(demo.status.code(), Some(0), "{}", stderr(&demo));
        let mut output = stdout(&demo);
        for command in commands(text) {
            if let Some((_, file)) = ELSEWHERE
                .iter()
                .find(|(start, _)| command.starts_with(start))
            {
                let file = fs::read_to_string(root().join(file)).unwrap();
                let words = command.split('#').next().unwrap().trim();
                let script = words.rsplit('/').next().unwrap();
                assert!(file.contains(script), "{document}: {command}");
                continue;
            }
            if minutes(&command) || (!adapters && command.contains("wgpu")) {
                continue;
            }
            output += &place.holds(document, &command);
            count += 1;
        }
        if document == "README.md" && is_the_readmes() {
            let lines: BTreeSet<&str> = output.lines().map(str::trim_end).collect();
            for line in printed(text) {
                assert!(
                    lines.contains(line),
                    "README.md shows what is not printed: {line}\n{output}"
                );
            }
        }
    }
    assert!(count > 30, "{count} commands");
}

/// Whether a command takes minutes: of a benchmark only the name is held.
fn minutes(command: &str) -> bool {
    let Some((_, bench)) = command.split_once("cargo bench --bench ") else {
        return false;
    };
    let name = bench.split_whitespace().next().unwrap();
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    assert!(
        manifest.contains(&format!("[[bench]]\nname = {name:?}")),
        "{command}"
    );
    true
}

/// What `--help` says of a command.
fn help(command: &[&str]) -> String {
    let run = tq4(&[command, &["--help"]].concat());
    assert_eq!(run.status.code(), Some(0), "{command:?}: {}", stderr(&run));
    stdout(&run)
}

#[test]
fn what_running_text_names_is_there() {
    let files: BTreeSet<String> = sources().map(|(path, _)| path).collect();
    let tests: String = sources()
        .filter(|(p, _)| p.starts_with("tests/it/"))
        .map(|(_, t)| t)
        .collect();
    for (document, text) in documents() {
        for span in spans(&text) {
            let words: Vec<&str> = span.split_whitespace().collect();
            match words[..] {
                ["tq4", command, ref rest @ ..]
                    if command.chars().all(char::is_lowercase) && command != "help" =>
                {
                    let help = help(&[command]);
                    for option in rest.iter().filter(|w| w.starts_with("--")) {
                        assert!(help.contains(option), "{document}: {span}");
                    }
                }
                ["cargo", "bench", ..] => assert!(minutes(&span), "{document}: {span}"),
                ["cargo", "test", .., name]
                    if span.contains("--test it") && !name.starts_with("--") =>
                {
                    let name = name.rsplit("::").next().unwrap();
                    let there = tests.contains(&format!("fn {name}"))
                        || files.iter().any(|f| f.ends_with(&format!("/{name}.rs")));
                    assert!(there, "{document}: {span}");
                }
                _ => {}
            }
        }
    }
}

#[test]
fn every_file_and_link_is_there() {
    let folders = [
        "src",
        "tests",
        "docs",
        "examples",
        "kernels",
        "shaders",
        "fuzz",
        "benches",
        "python",
        "templates",
    ];
    let exists = |path: &str| root().join(path).exists();
    for (document, text) in documents() {
        let parent = Path::new(&document).parent().unwrap();
        for link in text.split("](").skip(1) {
            let link = link.split([')', '#']).next().unwrap();
            let there = link.is_empty()
                || link.starts_with("http")
                || root().join(parent).join(link).exists();
            assert!(there, "{document}: {link}");
        }
        for span in spans(&text) {
            let path = span.split_whitespace().next().unwrap_or("");
            let ours = folders.iter().any(|f| path.starts_with(&format!("{f}/")));
            let pattern = path.contains(['*', '{', '<']) || path.chars().any(char::is_uppercase);
            assert!(!ours || pattern || exists(path), "{document}: {path}");
        }
    }
}

/// The text files that git would keep, by path from the root.
fn sources() -> impl Iterator<Item = (String, String)> {
    let mut folders = vec![root().to_path_buf()];
    let mut all = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().map(|e| e.unwrap()) {
            let name = entry.file_name();
            if entry.file_type().unwrap().is_dir() {
                let built = name == "target"
                    || name == ".git"
                    || name == "tq4-demo"
                    || name == "__pycache__";
                if !built {
                    folders.push(entry.path());
                }
                continue;
            }
            let path = entry.path();
            if let Ok(text) = fs::read_to_string(&path) {
                all.push((
                    path.strip_prefix(root()).unwrap().display().to_string(),
                    text,
                ));
            }
        }
    }
    all.into_iter()
}

#[test]
fn every_variable_is_in_the_table() {
    let table = fs::read_to_string(root().join("docs/testing.md")).unwrap();
    let rows: Vec<String> = table
        .lines()
        .filter(|l| l.starts_with("| `TQ4_"))
        .map(str::to_owned)
        .collect();
    let listed: BTreeSet<String> = rows
        .iter()
        .flat_map(|r| spans(r.split('|').nth(1).unwrap()))
        .collect();
    // A type of GGUF's, and what the emulation's headers define for the compiler.
    let others = ["TQ4_1S", "TQ4_PLAIN", "TQ4_CODECS", "TQ4_SM75", "TQ4_SM80"];
    let mut found = BTreeSet::new();
    for (path, text) in sources().filter(|(p, _)| !p.ends_with(".md")) {
        for (at, _) in text.match_indices("TQ4_") {
            let end = text[at..]
                .find(|c: char| !(c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_'));
            let name = text[at..].split_at(end.unwrap_or(text.len() - at)).0;
            if name == "TQ4_" || name.ends_with('_') || others.contains(&name) {
                continue;
            }
            let covers = |l: &&String| {
                **l == name
                    || l.strip_suffix('*')
                        .is_some_and(|start| name.starts_with(start))
            };
            let row = listed.iter().find(covers);
            found.insert(
                row.unwrap_or_else(|| panic!("{name} of {path} is in no row"))
                    .clone(),
            );
        }
    }
    let stale: Vec<_> = listed.difference(&found).collect();
    assert!(stale.is_empty(), "nothing reads {stale:?}");
}

#[test]
fn the_readme_is_short() {
    let (_, readme) = &documents()[0];
    assert!(readme.lines().count() <= 150);
}
