//! The commands under "Check your kernel" in the README run as they are written, but for the names that they
//! leave to the reader.

use crate::support::cli::{Model, stderr, stdout, tq4};
use crate::support::{not_run, root, tool};
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use tq4::format::TqModel;
use tq4::lane::wgpu;
use tq4::reference;

const BASE: &str = "a.gate_proj";

/// The lines of the section's shell blocks.
fn commands() -> Vec<String> {
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let (_, section) = readme.split_once("## Check your kernel").unwrap();
    let (section, _) = section.split_once("\n## ").unwrap();
    let blocks = section.split("```sh\n").skip(1);
    let lines = blocks.flat_map(|b| b.split_once("```").unwrap().0.lines());
    lines.map(str::to_owned).collect()
}

#[test]
fn commands_for_kernels_of_ones_own_work_as_written() {
    let Some(python) = tool("TQ4_PYTHON", "NumPy", "name a Python that has NumPy") else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    Model::valid().write(&dir.path().join("m"));
    let model = TqModel::open(&dir.path().join("m")).unwrap();
    let [rows, cols] = model.info(BASE).unwrap().shape;
    let values = reference::dequantize(&model.rows(BASE, 0..rows).unwrap());
    let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    let view = TensorView::new(Dtype::F32, vec![rows, cols], &bytes).unwrap();
    let out = path("out.safetensors");
    safetensors::serialize_to_file([(BASE, view)], None, out.as_ref()).unwrap();
    // A kernel that gets its words on the command line: the NumPy one, asked once.
    let example = root().join("examples/exec/numpy_kernel.py");
    let kernel = path("kernel");
    let script = format!(
        "#!{}\nimport io, json, sys\ninput, output, rows, cols = sys.argv[1:]\n\
         sys.stdin = io.StringIO(json.dumps(dict(input=input, output=output, dtype='f16', group_size=128,\n\
         codec=dict(stored_bits=4, scale_elements=128, scale_type='f16', scale_last=False, signs_before=False, multiply=False))))\n\
         exec(open({:?}).read())\n",
        python.display(),
        example
    );
    std::fs::write(&kernel, script).unwrap();
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&kernel, executable).unwrap();

    let commands = commands();
    assert_eq!(commands.len(), 6, "{commands:?}");
    let adapters = !wgpu::list().is_empty();
    if !adapters {
        not_run("the README's shader", "no adapter");
    }
    let runs = |c: &String| adapters || !c.contains("--kernel");
    for command in commands.into_iter().filter(runs) {
        let given = [
            ("DIR", path("m")),
            ("NAME", BASE.to_owned()),
            ("out.safetensors", out.clone()),
            ("python3 ", format!("{} ", python.display())),
            (
                "examples/exec/numpy_kernel.py",
                example.display().to_string(),
            ),
            (
                "examples/kernels/",
                format!("{}/", root().join("examples/kernels").display()),
            ),
            ("./kernel", kernel.clone()),
            // Its size is the reader's.
            ("4096x4096", "64x4096".to_owned()),
        ];
        let command = given
            .iter()
            .fold(command, |c, (from, to)| c.replace(from, to));
        let words = shlex::split(&command).unwrap();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        assert_eq!(words[0], "tq4");
        let fast = ["--lanes", "reference"];
        let run = tq4(&[&words[1..], &fast].concat());
        assert_eq!(run.status.code(), Some(0), "{command}: {}", stderr(&run));
        let text = stdout(&run);
        let lane = if command.contains("--kernel") {
            "plain_wgpu"
        } else {
            "mine"
        };
        assert!(text.contains(lane), "{command}: {text}");
        if words[1] == "validate" {
            let decision = format!("{lane}_dequant_matches_reference");
            assert!(text.contains(&decision), "{text}");
        }
    }
}
