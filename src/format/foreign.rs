//! Formats that are not read here, recognised by their markers and refused by name.

use super::turboquant::CONFIG;
use crate::checkpoint::read_json;
use crate::error::Error;
use serde_json::Value;
use std::path::Path;

/// File name of a model's Hugging Face configuration.
const MODEL_CONFIG: &str = "config.json";

/// `quantization_config.quant_method` of `config.json`, what it is, and what reads it (documentation of
/// transformers 5 and vLLM 0.14; ExLlamaV3's `doc/exl3.md`).
const METHODS: [(&str, &str, &str); 12] = [
    ("awq", "AWQ", "vLLM or transformers"),
    (
        "bitsandbytes",
        "bitsandbytes",
        "transformers with bitsandbytes, or vLLM",
    ),
    (
        "compressed-tensors",
        "compressed-tensors",
        "vLLM or transformers",
    ),
    ("exl2", "EXL2", "ExLlamaV2"),
    ("exl3", "EXL3", "ExLlamaV3"),
    ("fp8", "FP8", "vLLM or transformers"),
    ("gptq", "GPTQ", "vLLM, or transformers with GPTQModel"),
    ("higgs", "HIGGS", "transformers with FLUTE"),
    ("modelopt", "NVIDIA ModelOpt", "vLLM or TensorRT-LLM"),
    ("mxfp4", "MXFP4", "vLLM or transformers"),
    ("torchao", "torchao", "transformers or vLLM"),
    // Alone it asks that engine to quantise while it loads.
    (
        "turboquant",
        "turboquant-vllm without tq_config.json",
        "turboquant-vllm",
    ),
];

/// Files that mark a format where `config.json` does not: name, format, what reads it.
const FILES: [(&str, &str, &str); 3] = [
    (
        "hf_quant_config.json",
        "NVIDIA ModelOpt",
        "vLLM or TensorRT-LLM",
    ),
    (
        "quantize_config.json",
        "GPTQ",
        "vLLM, or transformers with GPTQModel",
    ),
    ("quant_config.json", "AWQ", "vLLM or transformers"),
];

/// File name of the configuration of JANG and JANGTQ.
const JANG_CONFIG: &str = "jang_config.json";

/// What reads both.
const JANG_READER: &str = "MLX Studio, or the Python package jang,";

/// The error that refuses the model in `dir`, when it is in a format that is known and not read.
///
/// For a directory without a marker of what is read, or whose `turboquant_config.json` lacks the keys
/// expected.
pub(crate) fn recognise(dir: &Path) -> Option<Error> {
    let read = |name: &str| -> Option<(Value, String)> {
        let path = dir.join(name);
        Some((read_json(&path).ok()?, path.display().to_string()))
    };
    let (own, jang, model) = (read(CONFIG), read(JANG_CONFIG), read(MODEL_CONFIG));
    let by = |file: &Option<(Value, String)>, rule: fn(&Value, &str) -> Option<Error>| {
        let (config, place) = file.as_ref()?;
        rule(config, place)
    };
    by(&own, of_same_name)
        // JANGTQ's words stand in either file; what else they hold is of its unquantised tensors.
        .or_else(|| by(&jang, jangtq))
        .or_else(|| by(&model, jangtq))
        .or_else(|| {
            by(&jang, |_, place| {
                Some(refuse("JANG", JANG_CONFIG, place, JANG_READER))
            })
        })
        .or_else(|| by(&model, of_model_config))
        .or_else(|| {
            let marked = |(name, _, _): &&(&str, _, _)| dir.join(name).is_file();
            let (name, format, reader) = FILES.iter().find(marked)?;
            let place = dir.display().to_string();
            Some(refuse(format, &format!("{name} found"), place, reader))
        })
}

/// A `turboquant_config.json` of another project.
fn of_same_name(config: &Value, place: &str) -> Option<Error> {
    let keys = config.as_object()?;
    if keys.contains_key("quant_type") {
        return None;
    }
    if keys.contains_key("bit_width") {
        return Some(refuse(
            "turboquant-model",
            "bit_width, with tensors .indices and .norms",
            place,
            "the Python project turboquant-model",
        ));
    }
    let found: Vec<&str> = keys.keys().take(6).map(String::as_str).collect();
    Some(Error::input(
        format!("no quant_type found, but {found:?}: another project's {CONFIG}"),
        place,
        "the program that wrote this model reads it",
    ))
}

/// `jang_config.json`, or a `config.json` that repeats its keys.
fn jangtq(config: &Value, place: &str) -> Option<Error> {
    (text(config, "weight_format")? == "mxtq").then(|| {
        refuse(
            "JANGTQ (MXTQ)",
            "weight_format \"mxtq\"",
            place,
            JANG_READER,
        )
    })
}

/// What a `config.json` says of how its weights are quantised; `place` names the file.
fn of_model_config(config: &Value, place: &str) -> Option<Error> {
    let mlx = || mlx(config.get("quantization")?, place);
    mlx()
        .or_else(|| by_method(config.get("quantization_config")?, place))
        .or_else(|| {
            by_method(
                config.get("text_config")?.get("quantization_config")?,
                place,
            )
        })
        .or_else(|| {
            config.get("quip_params")?.as_object()?;
            let reader = "the qtip or quip-sharp code of Cornell-RelaxML";
            Some(refuse("QTIP or QuIP#", "quip_params", place, reader))
        })
}

/// `quantization` as MLX writes it.
fn mlx(quantization: &Value, place: &str) -> Option<Error> {
    let keys = quantization.as_object()?;
    let mode = text(quantization, "mode");
    if mode == Some("turboquant") {
        return Some(refuse(
            "turboquant-mlx",
            "quantization.mode \"turboquant\", with tensors .codebook",
            place,
            "the Python package turboquant-mlx-full",
        ));
    }
    let found = match mode {
        Some(mode) => format!("quantization.mode {mode:?}"),
        None => format!("quantization {:?}", keys.keys().take(6).collect::<Vec<_>>()),
    };
    Some(refuse("MLX", &found, place, "mlx-lm"))
}

/// `quantization_config` as transformers writes it.
fn by_method(quantization: &Value, place: &str) -> Option<Error> {
    let keys = quantization.as_object()?;
    let Some(method) = text(quantization, "quant_method") else {
        let found: Vec<&str> = keys.keys().take(6).map(String::as_str).collect();
        return Some(Error::input(
            format!("quantization_config without quant_method found: {found:?}"),
            place,
            "the program that wrote this model reads it",
        ));
    };
    let mut found = format!("quantization_config.quant_method {method:?}");
    if let Some(format) = text(quantization, "format") {
        found += &format!(", format {format:?}");
    }
    let known = METHODS.iter().find(|(name, _, _)| *name == method);
    let (format, reader) = known.map_or((method, "the program that wrote it"), |k| (k.1, k.2));
    Some(refuse(format, &found, place, reader))
}

/// The error for a model of `format`, known by `found`, that `reader` reads.
fn refuse(format: &str, found: &str, place: impl Into<String>, reader: &str) -> Error {
    Error::input(
        format!("{format}, which is not read here: {found}"),
        place,
        format!("{reader} reads this model; name one in a TurboQuant format that is read here"),
    )
}

fn text<'a>(config: &'a Value, key: &str) -> Option<&'a str> {
    config.get(key)?.as_str()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a directory of these files is refused with.
    fn of(files: &[(&str, &str)]) -> Option<String> {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        recognise(dir.path()).map(|e| e.to_string())
    }

    /// A directory of one file, and what its refusal says.
    const FIXTURES: [(&str, &str, &[&str]); 21] = [
        (
            "turboquant_config.json",
            r#"{"bit_width": 4, "group_size": 128, "rotation": "hadamard", "seed": 42}"#,
            &["turboquant-model", "bit_width", "turboquant_config.json"],
        ),
        (
            "turboquant_config.json",
            r#"{"bits": 3, "skip_modules": []}"#,
            &["no quant_type found", "skip_modules"],
        ),
        (
            "jang_config.json",
            r#"{"version": 2, "weight_format": "mxtq", "mxtq_seed": 42}"#,
            &["JANGTQ", "mxtq", "package jang"],
        ),
        (
            "jang_config.json",
            r#"{"format": "jang"}"#,
            &["JANG", "MLX Studio"],
        ),
        (
            "config.json",
            r#"{"weight_format": "mxtq", "quantization": {"bits": 2, "group_size": 64}}"#,
            &["JANGTQ", "mxtq"],
        ),
        (
            "config.json",
            r#"{"quantization": {"mode": "turboquant", "bits": 3, "group_size": 64}}"#,
            &["turboquant-mlx", "turboquant-mlx-full", ".codebook"],
        ),
        (
            "config.json",
            r#"{"quantization": {"bits": 4, "group_size": 64}}"#,
            &["MLX", "mlx-lm", "group_size"],
        ),
        (
            "config.json",
            r#"{"quantization_config": {"quant_method": "higgs", "bits": 4}}"#,
            &["HIGGS", "FLUTE"],
        ),
        (
            "config.json",
            r#"{"quantization_config": {"quant_method": "exl3", "bits": 3.5}}"#,
            &["EXL3", "ExLlamaV3"],
        ),
        (
            "config.json",
            r#"{"quip_params": {"codebook": "bitshift"}}"#,
            &["QTIP", "quip_params"],
        ),
        (
            "config.json",
            r#"{"quantization_config": {"quant_method": "gptq", "bits": 4}}"#,
            &["GPTQ", "quant_method \"gptq\"", "vLLM"],
        ),
        (
            "config.json",
            r#"{"quantization_config": {"quant_method": "awq", "bits": 4}}"#,
            &["AWQ", "quant_method \"awq\""],
        ),
        (
            "config.json",
            r#"{"quantization_config": {"quant_method": "bitsandbytes"}}"#,
            &["bitsandbytes", "transformers"],
        ),
        (
            "config.json",
            r#"{"quantization_config": {"quant_method": "fp8"}}"#,
            &["FP8", "quant_method \"fp8\""],
        ),
        (
            "config.json",
            r#"{"quantization_config": null,
                "text_config": {"quantization_config": {"quant_method": "compressed-tensors",
                "format": "nvfp4-pack-quantized"}}}"#,
            &["compressed-tensors", "format \"nvfp4-pack-quantized\""],
        ),
        (
            "config.json",
            r#"{"quantization_config": {"quant_method": "turboquant", "bits": 3}}"#,
            &["turboquant-vllm", "quant_method \"turboquant\""],
        ),
        (
            "config.json",
            r#"{"quantization_config": {"quant_method": "new\u001b[31m"}}"#,
            &["quant_method", "the program that wrote it"],
        ),
        (
            "config.json",
            r#"{"quantization_config": {"load_in_4bit": true}}"#,
            &["without quant_method", "load_in_4bit"],
        ),
        (
            "quantize_config.json",
            "{}",
            &["GPTQ", "quantize_config.json found"],
        ),
        (
            "quant_config.json",
            "{}",
            &["AWQ", "quant_config.json found"],
        ),
        ("hf_quant_config.json", "{}", &["ModelOpt", "TensorRT-LLM"]),
    ];

    #[test]
    fn each_is_refused_by_name() {
        for (name, json, wanted) in FIXTURES {
            let e = of(&[(name, json)]).unwrap_or_else(|| panic!("{name} {json}"));
            for words in wanted {
                assert!(e.contains(words), "{words:?} not in {e}");
            }
            assert!(!e.contains('\u{1b}'), "{e}");
            assert!(e.contains("help: "), "{e}");
        }
    }

    /// Each names the file or directory that it was found in.
    #[test]
    fn the_place_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(MODEL_CONFIG);
        let json = r#"{"quantization_config": {"quant_method": "gptq"}}"#;
        std::fs::write(&path, json).unwrap();
        let e = recognise(dir.path()).unwrap();
        assert_eq!(e.problem().place, path.display().to_string());
    }

    #[test]
    fn a_plain_model_and_damaged_files_are_not_recognised() {
        let plain = r#"{"hidden_size": 4096, "quantization": null, "quantization_config": null}"#;
        for (name, json) in [
            ("config.json", plain),
            ("config.json", "{"),
            ("config.json", "[3]"),
            ("config.json", r#"{"quantization_config": "gptq"}"#),
            ("turboquant_config.json", "[]"),
            ("turboquant_config.json", r#"{"quant_type": "turboquant"}"#),
        ] {
            assert_eq!(of(&[(name, json)]), None, "{json}");
        }
        assert_eq!(of(&[]), None);
        assert!(recognise(Path::new("no such directory")).is_none());
    }

    /// The file that TurboQuant's own projects write says more than what they left in `config.json`.
    #[test]
    fn the_nearest_marker_comes_first() {
        let e = of(&[
            (
                "config.json",
                r#"{"quantization_config": {"quant_method": "gptq"}}"#,
            ),
            ("turboquant_config.json", r#"{"bit_width": 4}"#),
        ])
        .unwrap();
        assert!(e.contains("turboquant-model"), "{e}");
        let e = of(&[
            (
                "config.json",
                r#"{"quantization": {"bits": 2, "group_size": 64}}"#,
            ),
            ("jang_config.json", r#"{"weight_format": "mxtq"}"#),
        ])
        .unwrap();
        assert!(e.contains("JANGTQ"), "{e}");
        let e = of(&[
            (
                "config.json",
                r#"{"weight_format": "mxtq", "quantization": {"bits": 2}}"#,
            ),
            ("jang_config.json", r#"{"profile": "JANGTQ2"}"#),
        ])
        .unwrap();
        assert!(e.contains("JANGTQ"), "{e}");
        let e = of(&[
            (
                "config.json",
                r#"{"quantization": {"bits": 2, "group_size": 64}}"#,
            ),
            ("jang_config.json", r#"{"profile": "JANG_2L"}"#),
        ])
        .unwrap();
        assert!(e.starts_with("JANG, "), "{e}");
    }
}
