//! Tint, the WGSL compiler of Chromium, on SwiftShader: `tint.mjs` runs under Node with Dawn.

use super::{not_run, root, tool};
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Instant;
use tq4::error::{Error, Result};
use tq4::lane::wgpu::{Dispatch, constants};
use tq4::lane::{Lane, POISON_F32, Timed, checksum};
use tq4::record::{LaneInfo, LaneName, OutputType};
use tq4::run::Strip;

/// Most workgroups in one dimension, as WebGPU has it by default.
const MAX_WORKGROUPS: u32 = 65_535;

/// What it takes.
pub struct Tools {
    /// The folder that holds `node_modules/webgpu`.
    package: PathBuf,
    /// SwiftShader's ICD file.
    icd: PathBuf,
}

/// Finds them; `None` with a notice where one is missing.
pub fn tools() -> Option<Tools> {
    let what = "Tint on SwiftShader";
    let how = "set TQ4_TINT to a folder after `npm install --prefix FOLDER webgpu` (see .ci/run)";
    let package = tool("TQ4_TINT", what, how)?;
    let how = "set TQ4_SWIFTSHADER_ICD to SwiftShader's ICD file (see .ci/run)";
    let icd = tool("TQ4_SWIFTSHADER_ICD", what, how)?;
    if Command::new("node").arg("--version").output().is_err() {
        not_run(what, "install Node");
        return None;
    }
    Some(Tools { package, icd })
}

/// The lane. It takes a strip in one dispatch and leaves its buffers to files in `folder`.
pub struct Tint {
    info: LaneInfo,
    shader: String,
    reach: u32,
    node: Child,
    to: Option<ChildStdin>,
    from: BufReader<ChildStdout>,
    folder: tempfile::TempDir,
    loaded: bool,
}

impl Tint {
    /// Starts Node with `shader` to run; its variant with subgroups where `subgroups`. `None` where the
    /// adapter has none.
    pub fn open(tools: &Tools, shader: &str, subgroups: bool, output: OutputType) -> Option<Self> {
        let mut node = Command::new("node")
            .arg(root().join("tests/support/tint.mjs"))
            .arg(&tools.package)
            .env("VK_DRIVER_FILES", &tools.icd)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("node: {e}"));
        let mut lane = Self {
            to: node.stdin.take(),
            from: BufReader::new(node.stdout.take().unwrap()),
            node,
            info: LaneInfo {
                name: LaneName::Named("tint".into()),
                device: String::new(),
                driver: "Dawn for Node".into(),
                api: "Vulkan".into(),
                software: true,
                kernel_variant: String::new(),
                kernel_checksum: checksum(shader.as_bytes()),
                output,
                pci: None,
                uuid: None,
            },
            // Tint asks for the directive, which naga does not know.
            shader: match subgroups {
                true => format!("enable subgroups;\n{shader}"),
                false => shader.into(),
            },
            reach: 1,
            folder: tempfile::tempdir().unwrap(),
            loaded: false,
        };
        let adapter = lane.answer();
        lane.info.device = adapter["description"].as_str().unwrap().into();
        if subgroups {
            // SwiftShader's subgroups are consecutive invocations; a wrong result would say if not.
            lane.reach = adapter["subgroupMinSize"].as_u64().unwrap() as u32;
        }
        lane.info.kernel_variant = format!("reach {}", lane.reach);
        (!subgroups || adapter["subgroups"] == true).then_some(lane)
    }

    fn answer(&mut self) -> serde_json::Value {
        let mut line = String::new();
        self.from.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|e| panic!("tint.mjs ended: {e}"))
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

impl Lane for Tint {
    fn info(&self) -> &LaneInfo {
        &self.info
    }

    fn load(&mut self, strip: &Strip) -> Result<()> {
        self.loaded = false;
        let tensor = strip.tensor()?;
        let output = self.info.output;
        let dispatch = Dispatch::new(tensor, 0..tensor.groups(), MAX_WORKGROUPS, output);
        let mut bindings = Vec::new();
        for (name, bytes, _) in dispatch.inputs() {
            std::fs::write(self.file(name), bytes).unwrap();
            let kind = match name {
                "params" => "uniform",
                _ => "read-only-storage",
            };
            bindings.push(serde_json::json!({"name": name, "type": kind}));
        }
        // The result holds poison until it is written.
        let poison = POISON_F32
            .to_ne_bytes()
            .repeat(strip.elements() * output.size() / 4);
        assert_eq!(poison.len() as u64, dispatch.out_bytes);
        std::fs::write(self.file("result"), poison).unwrap();
        bindings.push(serde_json::json!({"name": "result", "type": "storage"}));
        let is_f32 = output == OutputType::F32;
        let constants: serde_json::Map<String, serde_json::Value> =
            constants(tensor.layout(), is_f32, self.reach)
                .into_iter()
                .map(|(name, value)| (name.into(), value.into()))
                .collect();
        let job = serde_json::json!({
            "shader": self.shader,
            "entry": "tq4_dequant",
            "constants": constants,
            "grid": dispatch.grid,
            "bindings": bindings,
        });
        std::fs::write(self.file("job.json"), job.to_string()).unwrap();
        self.loaded = true;
        Ok(())
    }

    fn run(&mut self) -> Result<Timed> {
        assert!(self.loaded, "a strip is loaded");
        let start = Instant::now();
        let folder = self.folder.path().display();
        writeln!(self.to.as_mut().unwrap(), "{folder}").unwrap();
        let answer = self.answer();
        match answer["error"].as_str() {
            Some(error) => Err(Error::backend(error, "lane tint", "")),
            None => Ok(Timed::by_wall(start)),
        }
    }

    fn read(&mut self, out: &mut [u8]) -> Result<()> {
        assert!(self.loaded, "a strip is loaded");
        out.copy_from_slice(&std::fs::read(self.file("result")).unwrap());
        Ok(())
    }
}

impl Drop for Tint {
    fn drop(&mut self) {
        // The end of its input ends the program.
        self.to = None;
        let _ = self.node.wait();
    }
}
