//! GGUF models through the command: whole and split, of several types, of experts, damaged and foreign.

use crate::support::cli::{Model, record, stderr, stdout, tq4};
use crate::support::gguf::{Tensor, file, write};
use half::f16;
use serde_json::Value;
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;
use tq4::format::TqModel;
use tq4::format::gguf::{BlockType, Dialect};
use tq4::reference::dequantize;
use tq4::synthetic::{self, Rng, ScaleDistribution};

/// Type ids of TheTom's files, and of turbo-tan's for the last.
const IDS: [(BlockType, u32); 3] = [
    (BlockType::Tq4_1s, 46),
    (BlockType::Tq3_1s, 45),
    (BlockType::Tq3_4s, 46),
];

/// Random blocks of a type: as a file has them.
fn blocks(seed: u64, block: BlockType, rows: usize, cols: usize) -> Vec<u8> {
    let rng = &mut Rng::new(seed);
    let tensor =
        synthetic::of_codec(rng, &block.codec(), rows, cols, ScaleDistribution::Usual).unwrap();
    tensor.blocks(0..tensor.groups())
}

fn tensor(name: &str, dims: &[u64], (block, id): (BlockType, u32)) -> Tensor {
    let (cols, rows) = (dims[0] as usize, dims[1..].iter().product::<u64>() as usize);
    let data = blocks(name.len() as u64, block, rows, cols);
    Tensor::new(name, dims, id, data)
}

/// Decodes blocks one by one as the format's description has it, in f64.
fn decoded(block: BlockType, bytes: &[u8]) -> Vec<f64> {
    let (of_scales, bits) = match block {
        BlockType::Tq4_1s | BlockType::Tq3_1s => {
            (4, if block == BlockType::Tq4_1s { 4 } else { 3 })
        }
        BlockType::Tq3_4s => (4, 3),
    };
    let book = block.codec().codebook;
    let mut out = Vec::new();
    for block_bytes in bytes.chunks_exact(of_scales + 4 * bits) {
        let (s, codes) = block_bytes.split_at(of_scales);
        let scale = |i: usize| match block {
            BlockType::Tq3_4s => match s[i / 8] {
                0 => 0.0,
                b => (1.0 + f64::from(b & 31) / 32.0) * 2f64.powi(i32::from(b >> 5) - 9),
            },
            _ => f16::from_le_bytes([s[i / 16 * 2], s[i / 16 * 2 + 1]]).to_f64(),
        };
        let code = |i: usize| {
            let bit = |k: usize| codes[(i * bits + k) / 8] >> ((i * bits + k) % 8) & 1;
            (0..bits).map(|k| usize::from(bit(k)) << k).sum::<usize>()
        };
        for i in 0..32usize {
            let sum: f64 = (0..32usize)
                .map(|j| {
                    let v = f64::from(book.centroids()[code(j)]) * scale(j);
                    if (i & j).count_ones() % 2 == 1 { -v } else { v }
                })
                .sum();
            let minus = 0x696B_4B4Au32 >> i & 1 == 1;
            out.push(sum / 32f64.sqrt() * if minus { -1.0 } else { 1.0 });
        }
    }
    out
}

fn close(found: &[f32], want: &[f64]) {
    assert_eq!(found.len(), want.len());
    for (i, (f, w)) in found.iter().zip(want).enumerate() {
        assert!(
            (f64::from(*f) - w).abs() <= 2e-5 * (1.0 + w.abs()),
            "{i}: {f} {w}"
        );
    }
}

/// A model of two parts: every type that one program's files may have, experts, and tensors of stock types.
fn split_model(dir: &Path) -> Vec<Tensor> {
    let f32s = |n: u64| (0..n).flat_map(|i| (i as f32).to_le_bytes()).collect();
    let first = vec![
        tensor("blk.0.attn_q.weight", &[96, 3], IDS[0]),
        Tensor::new("blk.0.attn_norm.weight", &[96], 0, f32s(96)),
        tensor("blk.0.ffn_up_exps.weight", &[64, 5, 3], IDS[1]),
    ];
    let second = vec![
        Tensor::new("output.weight", &[64, 2], 8, vec![7; 2 * 2 * 34]),
        tensor("blk.1.attn_k.weight", &[32, 2], IDS[0]),
    ];
    let keys = |no| {
        [
            ("split.no", no),
            ("split.count", 2),
            ("split.tensors.count", 5),
        ]
    };
    write(&dir.join("m-00001-of-00002.gguf"), &keys(0), &first);
    write(&dir.join("m-00002-of-00002.gguf"), &keys(1), &second);
    first.into_iter().chain(second).collect()
}

#[test]
fn every_type_decodes_as_described() {
    let dir = tempfile::tempdir().unwrap();
    for (block, id) in IDS {
        for (cols, rows) in [(32u64, 1u64), (32, 7), (96, 5), (4096, 3), (160, 33)] {
            let t = tensor("w.weight", &[cols, rows], (block, id));
            let path = dir.path().join("a.gguf");
            write(&path, &[], std::slice::from_ref(&t));
            let program = match block {
                BlockType::Tq3_4s => Dialect::TurboTan,
                _ => Dialect::TheTom,
            };
            let model = TqModel::open_in(&path, Some(program)).unwrap();
            let info = model.info("w").unwrap();
            assert_eq!(info.shape, [rows as usize, cols as usize]);
            assert_eq!(info.codec, block.codec(), "{block}");
            let all = model.rows("w", 0..rows as usize).unwrap();
            let want = decoded(block, &t.data);
            close(&dequantize(&all), &want);
            assert_eq!(all.blocks(0..all.groups()), t.data);
            // Any rows, and no more than these.
            let last = rows as usize - 1;
            let one = model.rows("w", last..last + 1).unwrap();
            close(&dequantize(&one), &want[last * cols as usize..]);
        }
    }
}

#[test]
fn a_split_model_of_several_types_is_judged() {
    let dir = tempfile::tempdir().unwrap();
    let tensors = split_model(dir.path());
    let values = dir.path().join("values.safetensors");
    let values = values.to_str().unwrap();
    for part in ["m-00001-of-00002.gguf", "m-00002-of-00002.gguf"] {
        let model = dir.path().join(part);
        let model = model.to_str().unwrap();
        let out = record(model, values);
        assert!(out.status.success(), "{}", stderr(&out));
        let given = format!("mine={values}");
        let out = tq4(&[
            "validate",
            "--all",
            "--lanes",
            "reference",
            "--recording",
            &given,
            "--tq-model",
            model,
            "--format",
            "json",
        ]);
        assert!(out.status.success(), "{}", stderr(&out));
        let note =
            "2 tensors are of types that are not TurboQuant's, and are not decoded: 1 F32, 1 Q8_0";
        assert!(stderr(&out).contains(note), "{}", stderr(&out));
        let json: Value = serde_json::from_slice(&out.stdout).unwrap();
        assert_eq!(json["model"]["bits"], Value::Null);
        let found: Vec<(&str, u64, u64)> = json["tensors"]
            .as_array()
            .unwrap()
            .iter()
            .map(|t| {
                (
                    t["tensor_base"].as_str().unwrap(),
                    t["row_count"].as_u64().unwrap(),
                    t["bits"].as_u64().unwrap(),
                )
            })
            .collect();
        // Experts stand below each other.
        assert_eq!(
            found,
            [
                ("blk.0.attn_q", 3, 4),
                ("blk.0.ffn_up_exps", 15, 3),
                ("blk.1.attn_k", 2, 4)
            ]
        );
    }
    let model = TqModel::open(&dir.path().join("m-00001-of-00002.gguf")).unwrap();
    let experts = model.rows("blk.0.ffn_up_exps", 0..15).unwrap();
    close(
        &dequantize(&experts),
        &decoded(BlockType::Tq3_1s, &tensors[2].data),
    );
    std::fs::remove_file(dir.path().join("m-00002-of-00002.gguf")).unwrap();
    let e = TqModel::open(&dir.path().join("m-00001-of-00002.gguf")).unwrap_err();
    assert!(e.to_string().contains("00002-of-00002"), "{e}");
}

#[test]
fn what_is_not_turboquants_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("q.gguf");
    let stock = Tensor::new("output.weight", &[64, 2], 8, vec![7; 136]);
    write(&path, &[], &[stock]);
    let out = tq4(&["validate", "--all", "--tq-model", path.to_str().unwrap()]);
    assert_eq!(out.status.code(), Some(2));
    let said = stderr(&out);
    for part in [
        "no tensor of TurboQuant's types",
        "1 Q8_0",
        "q.gguf",
        "llama.cpp",
    ] {
        assert!(said.contains(part), "{said}");
    }
}

/// One block a row leaves no byte to tell 20 from 16 with the usual padding of the last tensor.
#[test]
fn a_type_that_bytes_do_not_tell_is_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.gguf");
    // Padded to 32 bytes, one block of either type takes as many.
    write(&path, &[], &[tensor("w.weight", &[32, 1], IDS[2])]);
    let values = dir.path().join("values.safetensors");
    let args = ["record", "--all", "--lane", "reference", "--output"];
    let run = |more: &[&str]| {
        let mut args = args.to_vec();
        args.extend([
            values.to_str().unwrap(),
            "--tq-model",
            path.to_str().unwrap(),
        ]);
        args.extend(more);
        tq4(&args)
    };
    let asked = run(&[]);
    assert_eq!(asked.status.code(), Some(2), "{}", stdout(&asked));
    let said = stderr(&asked);
    for part in ["--gguf-dialect", "TQ4_1S", "TQ3_4S", "scales from"] {
        assert!(said.contains(part), "{said}");
    }
    let told = run(&["--gguf-dialect", "turbotan"]);
    assert!(told.status.success(), "{}", stderr(&told));
    // What has no type numbers has no dialect.
    let model = dir.path().join("m");
    Model::valid().write(&model);
    let (model, values) = (model.to_str().unwrap(), values.to_str().unwrap());
    let dialect = ["--gguf-dialect", "turbotan"];
    let to = ["--output", values, "--tq-model", model];
    let out = tq4(&[&args[..4], &to, &dialect].concat());
    assert_eq!(out.status.code(), Some(2));
    let said = stderr(&out);
    let what = "error: no GGUF file, which alone has a dialect: turbotan is given";
    assert!(said.starts_with(what), "{said}");
    let place = format!("where: {model}\n  help: leave --gguf-dialect out");
    assert!(said.contains(&place), "{said}");
    let out = tq4(&[&["bench", "--shape", "8x256"], &dialect[..]].concat());
    assert_eq!(out.status.code(), Some(2));
    assert!(stderr(&out).contains("--gguf-dialect"), "{}", stderr(&out));
    let out = tq4(&[&["compare", values, values], &dialect[..]].concat());
    assert_eq!(out.status.code(), Some(2));
    assert!(stderr(&out).contains("--tq-model"), "{}", stderr(&out));
    let other = run(&["--gguf-dialect", "nobody"]);
    assert_eq!(other.status.code(), Some(2));
    assert!(stderr(&other).contains("thetom"), "{}", stderr(&other));
}

/// A weight of 20 GB of which four rows are asked for: the file has holes, and is not read through.
#[test]
fn a_large_file_is_read_by_position() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("large.gguf");
    let (cols, rows) = (65_536u64, 491_520u64);
    let row = cols / 32 * 20;
    let head = file(
        &[],
        &[Tensor::new("w.weight", &[cols, rows], 46, Vec::new())],
    );
    let mut to = std::fs::File::create(&path).unwrap();
    to.write_all(&head).unwrap();
    if to.set_len(head.len() as u64 + row * rows).is_err() {
        eprintln!("not run: this file system has no files with holes");
        return;
    }
    let last = blocks(5, BlockType::Tq4_1s, 4, cols as usize);
    to.seek(SeekFrom::Start(head.len() as u64 + row * (rows - 4)))
        .unwrap();
    to.write_all(&last).unwrap();
    drop(to);
    assert!(std::fs::metadata(&path).unwrap().len() > 20_000_000_000);
    let model = TqModel::open(&path).unwrap();
    let rows = rows as usize;
    let four = model.rows("w", rows - 4..rows).unwrap();
    close(&dequantize(&four), &decoded(BlockType::Tq4_1s, &last));
}

/// Each damage has its words; the container's own tests have the rest.
#[test]
fn damaged_files_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.gguf");
    let whole = file(&[], &[tensor("w.weight", &[96, 3], IDS[0])]);
    let said = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        TqModel::open(&path).map(drop).unwrap_err().to_string()
    };
    for (bytes, words) in [
        (&whole[..whole.len() - 64], "bytes"),
        (&whole[..40], "more than its last 16 bytes can hold"),
        (&whole[..3], "safetensors"),
    ] {
        let found = said(bytes);
        assert!(found.contains(words), "{found}");
    }
    let ragged = file(&[], &[Tensor::new("w.weight", &[48, 2], 46, vec![0; 60])]);
    assert!(said(&ragged).contains("48"), "{}", said(&ragged));
}
