//! Tint, the WGSL compiler of Chromium, on SwiftShader: `tint.mjs` runs under Node with Dawn.

use super::{not_run, root, tool};
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Instant;
use tq4::error::{Error, Result};
use tq4::lane::wgpu::{BoundBuffer, ShaderProgram, arithmetic, guard};
use tq4::lane::{Lane, POISON_F32, Timed, checksum};
use tq4::record::{DeviceArithmetic, LaneInfo, LaneName};
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
    program: ShaderProgram,
    node: Child,
    to: Option<ChildStdin>,
    from: BufReader<ChildStdout>,
    folder: tempfile::TempDir,
    loaded: bool,
}

impl Tint {
    /// Starts Node with a program to run, as the lane `name`.
    pub fn open(tools: &Tools, name: &str, program: ShaderProgram) -> Self {
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
                name: LaneName::Named(name.into()),
                device: String::new(),
                driver: "Dawn for Node".into(),
                api: "Vulkan".into(),
                software: true,
                arithmetic: None,
                kernel_variant: String::new(),
                kernel_checksum: checksum(program.text().as_bytes()),
                output: program.output(),
                pci: None,
                uuid: None,
            },
            program,
            folder: tempfile::tempdir().unwrap(),
            loaded: false,
        };
        let adapter = lane.answer();
        lane.info.device = adapter["description"].as_str().unwrap().into();
        lane
    }

    fn answer(&mut self) -> serde_json::Value {
        let mut line = String::new();
        self.from.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|e| panic!("tint.mjs ended: {e}"))
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Does the job in the folder.
    fn work(&mut self) -> Result<()> {
        let folder = self.folder.path().display();
        writeln!(self.to.as_mut().unwrap(), "{folder}").unwrap();
        match self.answer()["error"].as_str() {
            Some(error) => Err(Error::backend(error, "lane tint", "")),
            None => Ok(()),
        }
    }

    /// The arithmetic that the probe finds behind the lane's own shader.
    pub fn arithmetic(&mut self) -> Option<DeviceArithmetic> {
        let ShaderProgram::Own { text, .. } = &self.program else {
            panic!("a user's shader has no probe");
        };
        let text = arithmetic::behind(text);
        let words = |words: &[u32]| bytemuck::cast_slice::<u32, u8>(words).to_vec();
        // One buffer comes back: what was stored is taken to be right.
        let stored = [arithmetic::STORED[0]; 2];
        for (name, bytes) in [
            ("params", guard()),
            ("given", words(&arithmetic::given())),
            ("result", words(&[0; arithmetic::FOUND])),
            ("stored", words(&stored)),
        ] {
            std::fs::write(self.file(name), bytes).unwrap();
        }
        let job = serde_json::json!({
            "shader": text,
            "entry": arithmetic::ENTRY,
            "constants": {},
            "grid": [1, 1, 1],
            "bindings": [
                {"name": "params", "type": "uniform"},
                {"name": "given", "type": "read-only-storage"},
                {"name": "result", "type": "storage"},
                {"name": "stored", "type": "storage"},
            ],
        });
        std::fs::write(self.file("job.json"), job.to_string()).unwrap();
        self.work().unwrap();
        let found = std::fs::read(self.file("result")).unwrap();
        let found: Vec<u32> = bytemuck::pod_collect_to_vec(&found);
        arithmetic::tell(&found[..arithmetic::FOUND], stored)
    }
}

impl Lane for Tint {
    fn info(&self) -> &LaneInfo {
        &self.info
    }

    fn load(&mut self, strip: &Strip) -> Result<()> {
        self.loaded = false;
        let tensor = strip.tensor()?;
        let groups = 0..tensor.groups();
        let (entry, constants) = self.program.pipeline(tensor, &groups)?;
        let dispatch = self.program.dispatch(tensor, groups, MAX_WORKGROUPS)?;
        let mut bindings = Vec::new();
        for (i, bound) in dispatch.bindings.iter().enumerate() {
            let poison;
            let (name, kind, bytes): (String, &str, &[u8]) = match bound {
                BoundBuffer::Uniform(bytes) => (i.to_string(), "uniform", bytes),
                BoundBuffer::Read(bytes) => (i.to_string(), "read-only-storage", bytes),
                // The result holds poison until it is written.
                BoundBuffer::Out(size) => {
                    poison = POISON_F32.to_ne_bytes().repeat(*size as usize / 4);
                    ("result".into(), "storage", &poison)
                }
            };
            std::fs::write(self.file(&name), bytes).unwrap();
            bindings.push(serde_json::json!({"name": name, "type": kind}));
        }
        let constants: serde_json::Map<String, serde_json::Value> = constants
            .into_iter()
            .map(|(name, value)| (name, value.into()))
            .collect();
        let job = serde_json::json!({
            "shader": self.program.text(),
            "entry": entry,
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
        self.work().map(|()| Timed::by_wall(start))
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
