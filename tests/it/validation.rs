//! The wgpu lane's tests under the Khronos validation layer: what wgpu and this program ask of Vulkan is
//! valid.

use crate::support::{again, tool};
use crate::wgpu::adapters;

const LAYER: &str = "VK_LAYER_KHRONOS_validation";

/// How messages that count begin; an identifier follows each.
const COUNTED: [&str; 3] = [
    "Validation Error: [ ",
    "Validation Warning: [ ",
    "Validation Performance Warning: [ ",
];

/// Messages of others that are known: the identifier, words of the text, and why it is let through.
const KNOWN: [(&str, &str, &str); 1] = [(
    "VUID-StandaloneSpirv-None-10684",
    "the Workgroup storage class has an explicit layout from the ArrayStride decoration",
    "naga gives arrays in workgroup memory a stride, which no shader asks for (gfx-rs/wgpu#7696)",
)];

/// The messages that count and are not known, each up to its first empty line.
fn unknown(text: &str) -> Vec<&str> {
    let mut unknown = Vec::new();
    for start in COUNTED {
        for (at, _) in text.match_indices(start) {
            let message = text[at..].split("\n\n").next().unwrap_or_default();
            let is = |(id, words, _): &(&str, &str, &str)| {
                message[start.len()..].starts_with(id) && message.contains(words)
            };
            if !KNOWN.iter().any(is) {
                unknown.push(message);
            }
        }
    }
    unknown
}

#[test]
fn what_is_asked_of_vulkan_is_valid() {
    let how =
        "set TQ4_VALIDATION_LAYER to the folder of libVkLayer_khronos_validation.so (see .ci/run)";
    let what = "Vulkan's validation layer";
    let Some(folder) = tool("TQ4_VALIDATION_LAYER", what, how) else {
        return;
    };
    if adapters().is_empty() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let manifest = serde_json::json!({
        "file_format_version": "1.1.0",
        "layer": {
            "name": LAYER, "type": "GLOBAL", "description": what,
            "library_path": folder.join("libVkLayer_khronos_validation.so"),
            "api_version": "1.3.0", "implementation_version": "1",
        },
    });
    std::fs::write(dir.path().join("layer.json"), manifest.to_string()).unwrap();
    // One test at a time: the layer's messages would come between the letters of each other.
    let out = again::tests("lanes::wgpu_here")
        .args(["wgpu::", "wgpu_failures::", "--test-threads=1"])
        .env("VK_LAYER_PATH", dir.path())
        .env("VK_INSTANCE_LAYERS", LAYER)
        .env("VK_LAYER_VALIDATE_SYNC", "1")
        .env("VK_LAYER_REPORT_FLAGS", "error,warn,perf,info")
        .output()
        .unwrap();
    let [text, log] = [&out.stdout, &out.stderr].map(|t| String::from_utf8_lossy(t));
    assert!(out.status.success(), "{text}{log}");
    assert!(again::ran(&text) > 7, "tests of all three modules run");
    // The layer itself says what it looks at.
    let active = text.contains("[ CURRENT-VALIDATION-ENABLED ]");
    assert!(active && text.contains("  - Synchronization\n"), "{text}");
    let unknown = unknown(&text);
    assert!(unknown.is_empty(), "{}", unknown.join("\n\n"));
}

#[test]
fn a_message_counts_unless_it_is_known() {
    let known = format!("{}{} ]\nOpVariable: {}", COUNTED[0], KNOWN[0].0, KNOWN[0].1);
    let other = known.replace("Workgroup", "Uniform");
    let warning = format!("{}VUID-vkCmdDispatch-None ]\nwords", COUNTED[1]);
    let text = format!("{known}\n\n{other}\n\nValidation Information: [ X ]\n\n{warning}");
    assert_eq!(unknown(&text), [other, warning]);
}
