//! The CUDA kernel, unmodified, compiled for the CPU and held to the reference; the same check catches
//! named mistakes in the kernel. Results are emulated: they show the arithmetic and the addressing, and
//! nothing about a device.

use crate::support::{cuda, not_run, root};
use half::bf16;
use libloading::{Library, Symbol};
use std::ffi::{CString, c_char, c_int, c_uint, c_void};
use std::path::Path;
use std::process::Command;
use tq4::lane::{POISON_BF16, POISON_F32};
use tq4::reference;
use tq4::synthetic::{self, Rng, Scales};
use tq4::tensor::{GROUP_SIZES, Layout, TqTensor};

type Emulate = unsafe extern "C" fn(
    *const c_char,
    c_uint,
    c_uint,
    *mut *mut c_void,
    *mut c_char,
    usize,
) -> c_int;

/// Memory aligned as the driver's.
#[derive(Clone, Copy)]
#[repr(C, align(16))]
struct Aligned([u8; 16]);

fn aligned(bytes: &[u8]) -> Vec<Aligned> {
    bytes
        .chunks(16)
        .map(|c| {
            let mut a = Aligned([0; 16]);
            a.0[..c.len()].copy_from_slice(c);
            a
        })
        .collect()
}

/// Runs an entry point; the output's bytes.
fn emulate(library: &Library, tensor: &TqTensor, out_size: usize) -> Result<Vec<u8>, String> {
    let layout = tensor.layout();
    let name = CString::new(format!(
        "tq4_dequant_b{}_g{}_{}",
        layout.stored_bits(),
        layout.group_size(),
        if out_size == 2 { "bf16" } else { "f32" }
    ))
    .unwrap();
    let mut centroids = [0f32; 16];
    centroids[..layout.levels()].copy_from_slice(tensor.codebook().centroids());
    let poison = if out_size == 2 {
        POISON_BF16.to_ne_bytes().repeat(tensor.elements())
    } else {
        POISON_F32.to_ne_bytes().repeat(tensor.elements())
    };
    // One piece more than the output, to see a store past the end.
    let guard = [0x5Au8; 64];
    let buffers = [
        aligned(tensor.packed()),
        aligned(bytemuck::cast_slice(tensor.scales())),
        aligned(bytemuck::cast_slice(tensor.signs())),
        aligned(bytemuck::cast_slice(&centroids)),
        aligned(&[&poison[..], &guard].concat()),
    ];
    let mut pointers = buffers.each_ref().map(|b| b.as_ptr().cast::<c_void>());
    let mut blocks = (tensor.elements() / 32) as u32;
    let mut row_blocks = (tensor.cols() / 32) as u32;
    let mut parameters: Vec<*mut c_void> = pointers
        .iter_mut()
        .map(|p| (p as *mut *const c_void).cast())
        .collect();
    parameters.push((&raw mut blocks).cast());
    parameters.push((&raw mut row_blocks).cast());
    let mut error = [0u8; 256];
    // SAFETY: the library is the one of tests/emulation/kernel.cpp; parameters and buffers are those of
    // the entry point and outlive the call.
    let code = unsafe {
        let run: Symbol<Emulate> = library.get(b"tq4_emulate").unwrap();
        run(
            name.as_ptr(),
            blocks.div_ceil(256),
            256,
            parameters.as_mut_ptr(),
            error.as_mut_ptr().cast(),
            error.len(),
        )
    };
    if code != 0 {
        return Err(String::from_utf8_lossy(&error)
            .trim_end_matches('\0')
            .into());
    }
    let mut out: Vec<u8> = buffers[4].iter().flat_map(|a| a.0).collect();
    if out[poison.len()..] != guard {
        return Err("a store past the end".into());
    }
    out.truncate(poison.len());
    Ok(out)
}

/// The rule for the CUDA kernel: every element is the reference's. `Err` says what is wrong.
fn check(library: &Library, tensor: &TqTensor) -> Result<(), String> {
    let expected = reference::dequantize(tensor);
    let got = emulate(library, tensor, 2)?;
    for (i, (g, e)) in got.chunks_exact(2).zip(&expected).enumerate() {
        let (g, e) = (bf16::from_ne_bytes([g[0], g[1]]), bf16::from_f32(*e));
        if g != e {
            return Err(format!("element {i}: {g}, expected {e}"));
        }
    }
    let got = emulate(library, tensor, 4)?;
    for (i, (g, e)) in got.chunks_exact(4).zip(&expected).enumerate() {
        let g = f32::from_ne_bytes([g[0], g[1], g[2], g[3]]);
        if g != *e {
            return Err(format!("element {i} of f32: {g}, expected {e}"));
        }
    }
    Ok(())
}

/// Every configuration, odd numbers of rows, tails of every kind.
fn check_all(library: &Library, shapes: &[(usize, usize)]) -> Result<usize, String> {
    let mut elements = 0;
    for bits in 2..=4 {
        for group in GROUP_SIZES {
            for &(rows, groups) in shapes {
                for scales in [Scales::Usual, Scales::Any] {
                    let layout = Layout::new(bits, group).unwrap();
                    let mut rng = Rng::new((rows * groups) as u64);
                    let tensor =
                        synthetic::tensor(&mut rng, layout, rows, group * groups, scales).unwrap();
                    check(library, &tensor).map_err(|e| {
                        format!("{bits} bits, group {group}, {rows} rows of {groups} groups, {scales:?} scales: {e}")
                    })?;
                    elements += tensor.elements();
                }
            }
        }
    }
    Ok(elements)
}

fn load(path: &Path) -> Library {
    // SAFETY: tests/emulation/kernel.cpp has no initialisers of note.
    unsafe { Library::new(path) }.unwrap()
}

/// Rows, and groups in a row. 16,384 elements fill two blocks of threads.
const SHAPES: [(usize, usize); 6] = [(1, 1), (3, 1), (5, 3), (7, 5), (33, 3), (101, 2)];

#[test]
fn every_configuration_agrees_with_the_reference() {
    let Some(cxx) = cuda::cxx("the emulated CUDA kernel") else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let library = dir.path().join("kernel.so");
    let source = root().join("kernels/tq4_dequant.cu");
    cuda::run(cuda::compile(&cxx, &source, "kernel.cpp", &library).args(["-shared", "-fPIC"]));
    let elements = check_all(&load(&library), &SHAPES).unwrap();
    eprintln!("emulated: {elements} elements identical");
}

/// A name, a text that occurs in the kernel once, and what takes its place.
const MUTATIONS: [(&str, &str, &str); 25] = [
    ("barrier dropped", "    __syncthreads();\n", ""),
    (
        "barrier in a branch",
        "    __syncthreads();\n",
        "    if (threadIdx.x < 128) __syncthreads();\n",
    ),
    (
        "table half filled",
        "if (threadIdx.x < 16) table",
        "if (threadIdx.x < 8) table",
    ),
    (
        "high code first",
        "words[k / CODES_PER_WORD] >> (k %",
        "words[k / CODES_PER_WORD] >> ((k ^ 1) %",
    ),
    (
        "code mask one bit short",
        "((1u << BITS) - 1u)",
        "((1u << (BITS - 1)) - 1u)",
    ),
    (
        "subnormal scales flushed",
        "if (magnitude == 0) return",
        "if (true) return 0 *",
    ),
    (
        "scale of the next group",
        "scales[block / (N / 32)]",
        "scales[(block + 1) / (N / 32)]",
    ),
    (
        "scale of the wrong group size",
        "block / (N / 32)",
        "block / (2 * N / 32)",
    ),
    (
        "upper minus lower",
        "x[k + STRIDE] = a - b;",
        "x[k + STRIDE] = b - a;",
    ),
    ("stride 1 dropped", "    butterflies<1>(x);\n", ""),
    ("stride 16 dropped", "    butterflies<16>(x);\n", ""),
    (
        "stride 32 dropped",
        "if constexpr (N >= 64) butterflies<PIECE>(x);",
        "",
    ),
    (
        "stride 64 dropped",
        "if constexpr (N >= 128) butterflies<2 * PIECE>(x);",
        "",
    ),
    (
        "stride 128 with the wrong lane",
        "__shfl_xor_sync(FULL_WARP, x[k], 4)",
        "__shfl_xor_sync(FULL_WARP, x[k], 8)",
    ),
    (
        "stride 128 upper minus lower",
        "(lane & 4u) != 0 ? SIGN : 0",
        "(lane & 4u) == 0 ? SIGN : 0",
    ),
    (
        "first half of the transpose dropped",
        "    transpose<1, PIECE>(x, lane);\n",
        "",
    ),
    (
        "second half of the transpose dropped",
        "    transpose<2, 2 * PIECE>(x, lane);\n",
        "",
    ),
    (
        "no division by sqrt(n)",
        "divide_by_root<N>(x[h * 4 * PIECE + i * PIECE + e]);",
        "x[h * 4 * PIECE + i * PIECE + e];",
    ),
    (
        "division by one product",
        "return __fmaf_rn(x, InverseRoot<N>::HIGH, x * InverseRoot<N>::LOW);",
        "return x * InverseRoot<N>::HIGH;",
    ),
    (
        "lower part of 1/sqrt(32) off",
        "LOW = 3.0254044e-09f",
        "LOW = 3.1254044e-09f",
    ),
    (
        "lower part of 1/sqrt(128) off",
        "LOW = 1.5127022e-09f",
        "LOW = 1.4127022e-09f",
    ),
    (
        "sign not applied",
        "y[e] = __float_as_uint(value) ^ sign;",
        "y[e] = __float_as_uint(value) ^ (sign & 0);",
    ),
    (
        "sign of the row's first block",
        "column = column + 1 == row_blocks ? 0 : column + 1;",
        "column = 0;",
    ),
    (
        "truncation to BF16",
        "return bits + 0x7FFFu + ((bits >> 16) & 1u);",
        "return bits;",
    ),
    (
        "store past the end",
        "if (first + i < blocks) {",
        "if (first + i < blocks + 1) {",
    ),
];

#[test]
fn every_mutation_of_the_kernel_is_caught() {
    let Some(cxx) = cuda::cxx("mutations of the emulated CUDA kernel") else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let source = cuda::source();
    let next = std::sync::atomic::AtomicUsize::new(0);
    let work = || {
        let mut missed = Vec::new();
        while let Some((i, (name, from, to))) = {
            let i = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            MUTATIONS.get(i).map(|m| (i, m))
        } {
            assert_eq!(source.matches(from).count(), 1, "{name}: {from}");
            let cu = dir.path().join(format!("{i}.cu"));
            let so = dir.path().join(format!("{i}.so"));
            std::fs::write(&cu, source.replace(from, to)).unwrap();
            cuda::run(
                cuda::compile(&cxx, &cu, "kernel.cpp", &so).args(["-shared", "-fPIC", "-O0"]),
            );
            match check_all(&load(&so), &SHAPES[..4]) {
                Ok(_) => missed.push(*name),
                Err(e) => eprintln!("caught: {name}: {e}"),
            }
        }
        missed
    };
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    let missed: Vec<&str> = std::thread::scope(|scope| {
        let all: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        all.into_iter().flat_map(|t| t.join().unwrap()).collect()
    });
    assert_eq!(missed, Vec::<&str>::new(), "mutations that nothing caught");
}

#[test]
fn sanitizers_find_nothing() {
    let what = "the emulated CUDA kernel under AddressSanitizer and UBSan";
    let Some(cxx) = cuda::cxx(what) else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let flags = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"];
    let probe = dir.path().join("probe.cpp");
    std::fs::write(&probe, "int main() {}").unwrap();
    let supported = Command::new(&cxx)
        .args(flags)
        .arg("-o")
        .arg(dir.path().join("probe"))
        .arg(&probe)
        .output()
        .is_ok_and(|o| o.status.success())
        && Command::new(dir.path().join("probe"))
            .status()
            .is_ok_and(|s| s.success());
    if !supported {
        not_run(
            what,
            "install a C++ compiler with its sanitizers (g++, libasan, libubsan)",
        );
        return;
    }
    let program = dir.path().join("sanitize");
    let source = root().join("kernels/tq4_dequant.cu");
    cuda::run(cuda::compile(&cxx, &source, "sanitize.cpp", &program).args(flags));
    assert_eq!(cuda::run(&mut Command::new(&program)), "clean\n");
}
