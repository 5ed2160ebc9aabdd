//! Recordings of a fake lane, and dumps.

use super::fake::{Fake, slots};
use half::bf16;
use std::path::Path;
use tq4::format::TqModel;
use tq4::lane::Lane;
use tq4::reference;
use tq4::run::Recorder;
use tq4::run::{Job, RunOptions, run};

/// Records what `f` makes of every element of the reference, by its number and value, as lane `name`; the
/// file lies beside the model, which is one of small tensors.
pub fn recorded(
    model: &Path,
    name: &str,
    f: impl Fn(usize, f32) -> bf16 + Send + 'static,
) -> String {
    let path = model.with_file_name(format!("{name}.safetensors"));
    let model = TqModel::open(model).unwrap();
    let bases: Vec<String> = model.bases().map(str::to_owned).collect();
    let job = Job::new(&model, None, &bases, &RunOptions::default()).unwrap();
    let fake = Fake::new(name, 1).wrong(move |call, out| {
        let values = reference::dequantize(call.tensor());
        for (i, (out, v)) in out.iter_mut().zip(values).enumerate() {
            *out = f(i, v);
        }
    });
    let mut recorder = Recorder::to_file(&path, &job, 0, fake.info());
    run(&job, &mut slots([fake]), &mut [&mut recorder], &mut |_| ()).unwrap();
    recorder.finish().unwrap();
    path.to_str().unwrap().to_owned()
}

/// The rounded reference of a whole tensor, and its shape.
pub fn rounded(model: &Path, base: &str) -> (Vec<bf16>, [usize; 2]) {
    let model = TqModel::open(model).unwrap();
    let shape = model.info(base).unwrap().shape;
    let tensor = model.rows(base, 0..shape[0]).unwrap();
    let values = reference::dequantize(&tensor).into_iter();
    (values.map(bf16::from_f32).collect(), shape)
}

/// Writes values as the published dump tool does.
pub fn dump(path: &Path, base: &str, shape: [usize; 2], values: &[bf16]) -> String {
    let values: Vec<Option<f32>> = values
        .iter()
        .map(|v| Some(v.to_f32()).filter(|v| !v.is_nan()))
        .collect();
    let json = serde_json::json!({
        "tensor_base": base, "row_start": 0, "row_count": shape[0], "shape": shape,
        "bits": 4, "group_size": 128, "values": values,
    });
    std::fs::write(path, json.to_string()).unwrap();
    path.to_str().unwrap().to_owned()
}
