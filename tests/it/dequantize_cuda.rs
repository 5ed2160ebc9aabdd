//! The converters and recordings on the CUDA lane, over a stand-in for the driver that runs the kernel
//! on the CPU, as it is and with a fault. Results are emulated.

use crate::support::cli::{stderr, stdout, tq4};
use crate::support::{source, standin};
use std::path::Path;

#[test]
fn a_right_kernel_is_taken_and_a_wrong_one_refused() {
    let (Some(right), Some(wrong)) = (standin::right(), standin::wrong()) else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    source::write(&dir.path().join("src"), 2, 16, 256);
    let (src, tq) = (path("src"), path("tq"));
    let made = tq4(&["quantize", "--source-model", &src, "--output", &tq]);
    assert!(made.status.success(), "{}", stderr(&made));

    let out = path("plain");
    let args = [
        "dequantize",
        "--tq-model",
        &tq,
        "--output",
        &out,
        "--lane",
        "cuda",
    ];
    let refused = standin::tq4(wrong, &args);
    assert_eq!(refused.status.code(), Some(1), "{}", stderr(&refused));
    let error = stderr(&refused);
    assert!(
        error.contains("cuda_dequant_differs_from_reference"),
        "{error}"
    );
    assert!(error.contains("diagnosis of cuda"), "{error}");
    assert!(error.contains("nothing was written"), "{error}");
    assert!(!Path::new(&out).exists());
    let done = standin::tq4(right, &args);
    assert!(done.status.success(), "{}", stderr(&done));
    let reference = path("reference");
    let done = tq4(&["dequantize", "--tq-model", &tq, "--output", &reference]);
    assert!(done.status.success(), "{}", stderr(&done));
    let names = source::names(Path::new(&out));
    assert_eq!(names, source::names(Path::new(&reference)));

    // The NVIDIA box records, another machine compares.
    for (driver, code) in [(right, 0), (wrong, 1)] {
        let file = path("recording.safetensors");
        let record = ["record", "--tq-model", &tq, "--all", "--lane", "cuda"];
        let recorded = standin::tq4(driver, &[&record[..], &["--output", &file]].concat());
        assert!(recorded.status.success(), "{}", stderr(&recorded));
        let compared = tq4(&["compare", &file, "--lane", "reference", "--tq-model", &tq]);
        assert_eq!(compared.status.code(), Some(code), "{}", stdout(&compared));
    }
}
