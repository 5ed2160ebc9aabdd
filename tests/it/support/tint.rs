//! Tint, the WGSL compiler of Chromium, on SwiftShader: `tint.mjs` runs under Node with Dawn.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use tq4::backend::wgpu::{Dispatch, constants};
use tq4::backend::{Backend, Cost, Device, OutMut, checksum};
use tq4::error::{Error, Result};
use tq4::tensor::TqTensor;

/// Most workgroups in one dimension, as WebGPU has it by default.
const MAX_WORKGROUPS: u32 = 65_535;

/// The lane. It takes a tensor in one dispatch.
pub struct Tint {
    device: Device,
    shader: String,
    reach: u32,
    node: Child,
    to: Option<ChildStdin>,
    from: BufReader<ChildStdout>,
    folder: tempfile::TempDir,
}

impl Tint {
    /// Starts Node on the package in `package`, with `shader` to run; its variant with subgroups where
    /// `subgroups`. `None` where the adapter has none.
    pub fn open(package: &Path, icd: &Path, shader: &str, subgroups: bool) -> Option<Self> {
        let mut node = Command::new("node")
            .arg(concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/tests/support/tint.mjs"
            ))
            .arg(package)
            .env("VK_DRIVER_FILES", icd)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("node: {e}"));
        let mut lane = Self {
            to: node.stdin.take(),
            from: BufReader::new(node.stdout.take().unwrap()),
            node,
            device: Device {
                lane: "tint".into(),
                device: String::new(),
                driver: "Dawn for Node".into(),
                api: "Vulkan".into(),
                software: true,
                kernel_variant: String::new(),
                kernel_checksum: checksum(shader.as_bytes()),
            },
            // Tint asks for the directive, which naga does not know.
            shader: match subgroups {
                true => format!("enable subgroups;\n{shader}"),
                false => shader.into(),
            },
            reach: 1,
            folder: tempfile::tempdir().unwrap(),
        };
        let adapter = lane.answer();
        lane.device.device = adapter["description"].as_str().unwrap().into();
        if subgroups {
            // SwiftShader's subgroups are consecutive invocations; a wrong result would say if not.
            lane.reach = adapter["subgroupMinSize"].as_u64().unwrap() as u32;
        }
        lane.device.kernel_variant = format!("reach {}", lane.reach);
        (!subgroups || adapter["subgroups"] == true).then_some(lane)
    }

    fn answer(&mut self) -> serde_json::Value {
        let mut line = String::new();
        self.from.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|e| panic!("tint.mjs ended: {e}"))
    }
}

impl Backend for Tint {
    fn device(&self) -> &Device {
        &self.device
    }

    fn dequantize(&mut self, tensor: &TqTensor<'_>, mut out: OutMut<'_>) -> Result<Cost> {
        let is_f32 = matches!(out, OutMut::F32(_));
        let dispatch = Dispatch::new(tensor, 0..tensor.groups(), MAX_WORKGROUPS, is_f32);
        let file = |name: &str| self.folder.path().join(name);
        let mut bindings = Vec::new();
        for (name, bytes, _) in dispatch.inputs() {
            std::fs::write(file(name), bytes).unwrap();
            let kind = if name == "params" {
                "uniform"
            } else {
                "read-only-storage"
            };
            bindings.push(serde_json::json!({"name": name, "type": kind}));
        }
        // The result holds poison until it is written.
        out.poison();
        assert_eq!(out.bytes_mut().len() as u64, dispatch.out_bytes);
        std::fs::write(file("result"), out.bytes_mut()).unwrap();
        bindings.push(serde_json::json!({"name": "result", "type": "storage"}));
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
        std::fs::write(file("job.json"), job.to_string()).unwrap();
        writeln!(
            self.to.as_mut().unwrap(),
            "{}",
            self.folder.path().display()
        )
        .unwrap();
        let answer = self.answer();
        if let Some(error) = answer["error"].as_str() {
            return Err(Error::backend(error, "lane tint", ""));
        }
        let result = std::fs::read(self.folder.path().join("result")).unwrap();
        out.bytes_mut().copy_from_slice(&result);
        Ok(Cost {
            launches: 1,
            ..Cost::default()
        })
    }
}

impl Drop for Tint {
    fn drop(&mut self) {
        // The end of its input ends the program.
        self.to = None;
        let _ = self.node.wait();
    }
}
