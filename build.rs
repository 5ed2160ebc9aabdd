//! Packs the committed PTX, 2 MB of text that would be a sixth of the program.

use std::{env, fs, path::Path};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if env::var_os("CARGO_FEATURE_GPU").is_none() {
        return;
    }
    let out = env::var("OUT_DIR").expect("cargo sets it");
    for name in ["sm75", "sm80", "codecs"] {
        let file = format!("tq4_dequant_{name}.ptx");
        let path = Path::new("kernels").join(&file);
        println!("cargo::rerun-if-changed={}", path.display());
        let text = fs::read(&path).expect("the PTX is committed");
        let packed = miniz_oxide::deflate::compress_to_vec(&text, 9);
        fs::write(Path::new(&out).join(file), packed).expect("cargo's folder can be written");
    }
}
