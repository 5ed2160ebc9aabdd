//! The CUDA kernels, unmodified, compiled for the CPU and held to the reference; the same check catches
//! named mistakes in them. Results are emulated: they show the arithmetic and the addressing, and
//! nothing about a device.

use crate::support::{cuda, not_run};
use half::{bf16, f16};
use libloading::{Library, Symbol};
use std::ffi::{CString, c_char, c_int, c_uint, c_void};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use tq4::codebook::Codebook;
use tq4::codec::Codec;
use tq4::format::every_codec;
use tq4::format::gguf::BlockType;
use tq4::lane::cuda::{OwnKernel, Room, Variant};
use tq4::lane::kernel::{Argument, Part, part_bytes};
use tq4::lane::{POISON_BF16, POISON_F32};
use tq4::record::OutputType;
use tq4::reference;
use tq4::synthetic::{self, Rng, ScaleDistribution};
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

/// Devices that the grid is cut for: so small that blocks take several turns, and one that has more room than
/// there is work.
const ROOMS: [Room; 2] = [
    Room {
        multiprocessors: 1,
        blocks: 1,
    },
    Room {
        multiprocessors: 132,
        blocks: 4,
    },
];

/// A kernel compiled for the CPU.
struct Kernel {
    own: OwnKernel,
    library: Library,
}

/// Runs an entry point with what the lane would launch it with; the output's bytes.
fn emulate(
    kernel: &Kernel,
    tensor: &TqTensor,
    (output, variant): (OutputType, Variant),
    room: Room,
) -> Result<Vec<u8>, String> {
    let name = kernel.own.entry(variant, tensor.layout(), output);
    let name = CString::new(name).unwrap();
    let launch = kernel.own.launch(variant, tensor, room).unwrap();
    let poison = if output == OutputType::F32 {
        POISON_F32.to_ne_bytes().repeat(tensor.elements())
    } else {
        POISON_BF16.to_ne_bytes().repeat(tensor.elements())
    };
    // One piece more than the output, to see a store past the end.
    let guard = [0x5Au8; 64];
    // Each parameter's memory, or its value.
    let mut out = None;
    let mut buffers = Vec::new();
    let mut values: Vec<[u8; 8]> = Vec::new();
    for argument in &launch.arguments {
        let bytes = match argument {
            Argument::Part(Part::Out) => {
                out = Some(buffers.len());
                [&poison[..], &guard].concat()
            }
            Argument::Part(part) => part_bytes(*part, tensor, 0..tensor.groups()).into_owned(),
            Argument::Value(value) => {
                values.push(value.bytes);
                continue;
            }
            Argument::Uniform(_) => unreachable!("CUDA has none"),
        };
        let memory = aligned(&bytes);
        values.push((memory.as_ptr() as u64).to_ne_bytes());
        buffers.push(memory);
    }
    let mut parameters: Vec<*mut c_void> = values
        .iter_mut()
        .map(|v| v.as_mut_ptr().cast::<c_void>())
        .collect();
    let mut error = [0u8; 256];
    // SAFETY: the library is the one of tests/emulation/kernel.cpp; parameters and buffers are those of
    // the entry point and outlive the call.
    let code = unsafe {
        let run: Symbol<Emulate> = kernel.library.get(b"tq4_emulate").unwrap();
        run(
            name.as_ptr(),
            launch.grid[0],
            launch.block[0],
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
    let out = &buffers[out.unwrap()];
    let mut out: Vec<u8> = out.iter().flat_map(|a| a.0).collect();
    if out[poison.len()..] != guard {
        return Err("a store past the end".into());
    }
    out.truncate(poison.len());
    Ok(out)
}

/// The rule for the CUDA kernels: every element has the reference's bits. `Err` says what is wrong.
fn check(kernel: &Kernel, tensor: &TqTensor, room: Room) -> Result<(), String> {
    let expected = reference::dequantize(tensor);
    for output in cuda::OUTPUTS {
        for variant in kernel.own.variants(tensor.layout(), output) {
            let got = emulate(kernel, tensor, (output, *variant), room)?;
            for (i, (g, e)) in got.chunks_exact(output.size()).zip(&expected).enumerate() {
                let same = match output {
                    OutputType::Bf16 => g == bf16::from_f32(*e).to_ne_bytes(),
                    OutputType::F16 => g == f16::from_f32(*e).to_ne_bytes(),
                    OutputType::F32 => g == e.to_ne_bytes(),
                };
                if !same {
                    let what = format!("element {i}: bytes {g:x?}, expected {e} as {output:?}");
                    return Err(format!("{variant:?}, {what}"));
                }
            }
        }
    }
    Ok(())
}

/// Every configuration, odd numbers of rows, tails of every kind.
fn check_all(kernel: &Kernel, shapes: &[(usize, usize)]) -> Result<usize, String> {
    let mut elements = 0;
    for bits in 2..=4 {
        for group in GROUP_SIZES {
            for &(rows, groups) in shapes {
                for (scales, room) in [ScaleDistribution::Usual, ScaleDistribution::Any]
                    .into_iter()
                    .zip(ROOMS)
                {
                    let layout = Layout::new(bits, group).unwrap();
                    let mut rng = Rng::new((rows * groups) as u64);
                    let tensor =
                        synthetic::tensor(&mut rng, layout, rows, group * groups, scales).unwrap();
                    check(kernel, &tensor, room).map_err(|e| {
                        format!("{bits} bits, group {group}, {rows} rows of {groups} groups, {scales:?} scales: {e}")
                    })?;
                    elements += tensor.elements();
                }
            }
        }
    }
    Ok(elements)
}

/// Every codec, `count` random tensors each, with few rows and groups and tails of every kind.
fn check_codecs(kernel: &Kernel, count: usize) -> Result<usize, String> {
    let (mut elements, mut rng) = (0, Rng::new(5));
    let codecs = every_codec();
    for i in 0..count {
        for (name, codec) in &codecs {
            let (rows, groups) = (1 + rng.below(9), 1 + rng.below(5));
            let scales = if i % 4 == 3 {
                ScaleDistribution::Usual
            } else {
                ScaleDistribution::Any
            };
            let cols = codec.layout.group_size() * groups;
            let tensor = synthetic::of_codec(&mut rng, codec, rows, cols, scales).unwrap();
            check(kernel, &tensor, ROOMS[0]).map_err(|e| {
                format!("{name}, {rows} rows of {groups} groups, {scales:?} scales: {e}")
            })?;
            elements += tensor.elements();
        }
    }
    Ok(elements)
}

/// Where nothing is divided, centroids may be as small as they like: subnormal ones as well.
fn check_small_centroids(kernel: &Kernel) -> Result<(), String> {
    for codec in BlockType::ALL.map(BlockType::codec) {
        let levels = codec.layout.levels() as i32;
        let small = |i: i32| 2f32.powi(-132 + 4 * i) * 1.3;
        let centroids = (0..levels).map(|i| if i % 2 == 0 { small(i) } else { 1.0 + i as f32 });
        let mut centroids: Vec<f32> = centroids.collect();
        centroids.sort_by(f32::total_cmp);
        let codec = Codec {
            codebook: Arc::new(Codebook::new(centroids, None).unwrap()),
            ..codec
        };
        assert!(!codec.codebook.exact_division());
        let tensor =
            synthetic::of_codec(&mut Rng::new(7), &codec, 37, 96, ScaleDistribution::Any).unwrap();
        check(kernel, &tensor, ROOMS[0])?;
    }
    Ok(())
}

/// [`check_codecs`], or [`check_all`].
fn check_own(kernel: &Kernel, shapes: &[(usize, usize)], count: usize) -> Result<usize, String> {
    match kernel.own {
        OwnKernel::Codecs => check_codecs(kernel, count),
        OwnKernel::Sm75 | OwnKernel::Sm80 => check_all(kernel, shapes),
    }
}

/// Compiles a kernel's source for the CPU.
fn compile(cxx: &str, own: OwnKernel, source: &Path, flags: &[&str]) -> Kernel {
    let path = source.with_extension("so");
    let defined = [cuda::define_own(own, source)];
    let mut command = cuda::compile(cxx, &defined, "kernel.cpp", &path);
    cuda::run(command.args(["-shared", "-fPIC"]).args(flags));
    // SAFETY: tests/emulation/kernel.cpp has no initialisers of note.
    let library = unsafe { Library::new(path) }.unwrap();
    Kernel { own, library }
}

/// Rows, and groups in a row. A block of threads decodes 8,192 elements in a turn.
const SHAPES: [(usize, usize); 7] = [(1, 1), (3, 1), (5, 3), (7, 5), (33, 3), (101, 2), (1601, 2)];

#[test]
fn every_configuration_agrees_with_the_reference() {
    let Some(cxx) = cuda::cxx("the emulated CUDA kernels") else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    for own in OwnKernel::ALL {
        let source = dir.path().join(format!("{}.cu", cuda::name(own)));
        std::fs::copy(cuda::path(own), &source).unwrap();
        let kernel = compile(&cxx, own, &source, &[]);
        let elements = check_own(&kernel, &SHAPES, 100).unwrap();
        if own == OwnKernel::Codecs {
            check_small_centroids(&kernel).unwrap();
        }
        assert!(elements > 4_000_000, "{elements}");
        eprintln!("emulated: {own:?}, {elements} elements identical");
    }
}

/// Instructions that the emulation takes as said.
#[test]
fn what_is_written_in_ptx_is_what_the_emulation_stands_for() {
    let decode = "asm(\"cvt.f32.f16 %0, %1;\" : \"=f\"(value) : \"h\"(half));\n    return value;";
    for (own, round) in [
        (
            OwnKernel::Sm80,
            "asm(\"cvt.rn.bf16x2.f32 %0, %1, %2;\" : \"=r\"(pair) : \"f\"(high), \"f\"(low));\n    return pair;",
        ),
        (
            OwnKernel::Codecs,
            "asm(\"cvt.rn.f16.f32 %0, %1;\" : \"=h\"(half) : \"f\"(value));\n    return half;",
        ),
    ] {
        let source = cuda::source(own);
        for asm in [decode, round] {
            assert_eq!(source.matches(asm).count(), 1, "{asm}");
        }
        assert_eq!(source.matches("asm").count(), 2);
    }
}

/// A name, a text that occurs in the kernel once, and what takes its place.
type Mutation = (&'static str, &'static str, &'static str);

const SM75: [Mutation; 25] = [
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

const SM80: [Mutation; 36] = [
    ("barrier dropped", "    __syncthreads();\n", ""),
    (
        "barrier in a branch",
        "    __syncthreads();\n",
        "    if (threadIdx.x < 128) __syncthreads();\n",
    ),
    (
        "table half filled",
        "if (threadIdx.x < 16) entries",
        "if (threadIdx.x < 8) entries",
    ),
    (
        "table filled one entry off",
        "entries[threadIdx.x] = centroids[threadIdx.x];",
        "entries[threadIdx.x] = centroids[threadIdx.x ^ 1];",
    ),
    (
        "pairs of bytes the other way round",
        "entry.x = low, entry.y = centroids[k];",
        "entry.y = low, entry.x = centroids[k];",
    ),
    (
        "one row of pairs short",
        "k < 16; ++k) {\n            float2",
        "k < 15; ++k) {\n            float2",
    ),
    (
        "a pair's byte one further",
        "0x4440 | k) * (16",
        "0x4440 | (k + 1) % 4) * (16",
    ),
    (
        "pairs the other way round",
        "entries[i].x = centroids[i & 3u], entries[i].y = centroids[i >> 2];",
        "entries[i].y = centroids[i & 3u], entries[i].x = centroids[i >> 2];",
    ),
    (
        "high code first",
        "offsets[k % 2], 0,",
        "offsets[1 - k % 2], 0,",
    ),
    (
        "byte of the next code",
        "0x4440 | k / 2",
        "0x4440 | (k + 2) / 2",
    ),
    (
        "code mask one bit short",
        "codes << 2 & 0x3C3C3C3Cu",
        "codes << 2 & 0x1C1C1C1Cu",
    ),
    (
        "mask of the odd codes one bit short",
        "codes >> 2 & 0x3C3C3C3Cu",
        "codes >> 2 & 0x1C1C1C1Cu",
    ),
    (
        "pair of two bits one off",
        "codes >> 4 * k & 15u",
        "codes >> (4 * k ^ 4) & 15u",
    ),
    (
        "scale of the unit's first group",
        "next_scales[L::group(j)]",
        "next_scales[0]",
    ),
    (
        "scale of the next group",
        "next_scales[g] = scales[first + g];",
        "next_scales[g] = scales[first + g + 1 < groups ? first + g + 1 : first + g];",
    ),
    (
        "scale not applied",
        "x[j * L::PIECE + k] *= scale;",
        "x[j * L::PIECE + k] *= 1.0f;",
    ),
    (
        "codes of the lane before",
        "lane * L::PIECE) * BITS / 8;",
        "(lane ^ 1) * L::PIECE) * BITS / 8;",
    ),
    (
        "codes of the turn before",
        "        fetch(group + step);\n",
        "        fetch(group);\n",
    ),
    ("next turn not loaded", "        fetch(group + step);\n", ""),
    ("first turn not loaded", "    fetch(group);\n\n", ""),
    (
        "upper minus lower",
        "x[k + stride] = a - b;",
        "x[k + stride] = b - a;",
    ),
    (
        "upper minus lower between lanes",
        "upper ? -1.0f : 1.0f",
        "upper ? 1.0f : -1.0f",
    ),
    (
        "one stride dropped",
        "stride = 1; stride < N;",
        "stride = 2; stride < N;",
    ),
    (
        "last stride dropped",
        "stride < N; stride *= 2",
        "stride < N / 2; stride *= 2",
    ),
    (
        "strides between lanes as within",
        "if (stride < L::PIECE) {",
        "if (stride <= L::PIECE) {",
    ),
    (
        "a partner one lane further",
        "__shfl_xor_sync(FULL_WARP, x[k], distance)",
        "__shfl_xor_sync(FULL_WARP, x[k], 2 * distance)",
    ),
    (
        "the wrong lanes are upper",
        "(lane & distance) != 0",
        "(lane & 1) != 0",
    ),
    (
        "strides beyond the team off",
        "butterflies(x, stride / L::TEAM);",
        "butterflies(x, stride / L::TEAM / 2);",
    ),
    (
        "no division by sqrt(n)",
        "divide_by_root<N>(x[j * 8 + w * 2]);",
        "x[j * 8 + w * 2];",
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
        "round_bf16_pair(low, high) ^ flips[j * 4 + w];",
        "round_bf16_pair(low, high);",
    ),
    (
        "signs of f32 from the other column",
        "(w % 2 == 0 ? 16 : 0)",
        "(w % 2 == 1 ? 16 : 0)",
    ),
    (
        "signs of the row's first groups",
        "(group + L::group(j)) % groups_per_row * N",
        "L::group(j) % groups_per_row * N",
    ),
    (
        "store past the end",
        "            if (group + g < groups) {\n#pragma",
        "            if (group + g < groups + 1) {\n#pragma",
    ),
];

const CODECS: [Mutation; 53] = [
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
        "a byte of 0 that is not 0",
        "byte == 0 ? 0.0f : ",
        "byte == 256 ? 0.0f : ",
    ),
    ("E3M5 with another bias", "(118u << 23)", "(119u << 23)"),
    ("E3M5 read as E4M3", "(byte << 18)", "(byte << 19)"),
    (
        "truncation to BF16",
        "return bits + 0x7FFFu + ((bits >> 16) & 1u);",
        "return bits;",
    ),
    (
        "F16 as BF16",
        "if constexpr (OUT == TO_F16)",
        "if constexpr (false)",
    ),
    (
        "pair of F16 the other way round",
        "round_f16(a) | (u32)round_f16(b) << 16",
        "round_f16(b) | (u32)round_f16(a) << 16",
    ),
    (
        "pair of BF16 the other way round",
        "round_bf16(a) >> 16 | (round_bf16(b) &",
        "round_bf16(b) >> 16 | (round_bf16(a) &",
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
        "root of 64 for 128",
        "group_log == 1 ? InverseRoot",
        "group_log <= 2 ? InverseRoot",
    ),
    (
        "root of 256 for 64",
        "group_log == 1 ? InverseRoot",
        "group_log == 4 ? InverseRoot",
    ),
    (
        "lower part of 1/sqrt(128) dropped",
        "group_log == 2 ? InverseRoot<128>::LOW : 0.0f",
        "0.0f",
    ),
    (
        "division by one product",
        "return __fmaf_rn(x, high, x * low);",
        "return x * high;",
    ),
    (
        "upper minus lower",
        "x[k + STRIDE] = a - b;",
        "x[k + STRIDE] = b - a;",
    ),
    (
        "words of 4 bits exchanged",
        "words[2] = v.z, words[3] = v.w;",
        "words[2] = v.w, words[3] = v.z;",
    ),
    (
        "second word of 2 bits is the first",
        "words[1] = v.y;\n    } else {",
        "words[1] = v.x;\n    } else {",
    ),
    (
        "words of 3 bits exchanged",
        "words[1] = v[1], words[2] = v[2];",
        "words[1] = v[2], words[2] = v[1];",
    ),
    (
        "codes of 3 bits end with their word",
        "if (shift + BITS > 32) bits",
        "if (false) bits",
    ),
    (
        "upper bits of a code from the same word",
        "words[word + 1] << (32 - shift)",
        "words[word] << (32 - shift)",
    ),
    (
        "code mask one bit short",
        "((1u << BITS) - 1u)",
        "((1u << (BITS - 1)) - 1u)",
    ),
    (
        "norm of the first group",
        "((const float *)scales)[group]",
        "((const float *)scales)[0]",
    ),
    (
        "f16 scale of the first group",
        "((const u16 *)scales)[group]",
        "((const u16 *)scales)[0]",
    ),
    (
        "codes of the block before",
        "packed + (u64)block *",
        "packed + (u64)(block & ~1u) *",
    ),
    (
        "scales of the block before",
        "((const u32 *)scales)[block]",
        "((const u32 *)scales)[block & ~1u]",
    ),
    (
        "scales of half a block exchanged",
        "(word >> 16 * i)",
        "(word >> 16 * (1 - i))",
    ),
    ("second scale never read", "(word >> 16 * i)", "word"),
    (
        "scales of 8 exchanged",
        "word >> 8 * i & 0xFFu",
        "word >> 8 * (i ^ 1) & 0xFFu",
    ),
    (
        "twice the elements share a scale",
        "const int i = k / CODEC::SHARED;",
        "const int i = k / CODEC::SHARED / 2;",
    ),
    (
        "f16 scale of two groups",
        "(scales, block >> group_log)",
        "(scales, block >> (group_log + 1))",
    ),
    (
        "norm of two groups",
        "(scales, of >> group_log)",
        "(scales, of >> (group_log + 1))",
    ),
    (
        "norms of the lane's block",
        "const u32 of = first + i < blocks ? first + i : blocks - 1;",
        "const u32 of = block;",
    ),
    (
        "no signs before",
        "(minus << (31 - k) & SIGN)",
        "(minus << (31 - k) & 0)",
    ),
    (
        "signs before mirrored",
        "(minus << (31 - k) & SIGN)",
        "(minus << k & SIGN)",
    ),
    (
        "signs before of the first 32",
        "signs_before[block & ((1u << group_log) - 1u)]",
        "signs_before[0]",
    ),
    ("stride 1 dropped", "    butterflies<1>(x);\n", ""),
    ("stride 16 dropped", "    butterflies<16>(x);\n", ""),
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
        "stride 32 dropped",
        "if (group_log >= 1) butterflies",
        "if (false) butterflies",
    ),
    (
        "stride 32 in groups of 32",
        "if (group_log >= 1) butterflies",
        "butterflies",
    ),
    (
        "stride 64 dropped",
        "if (group_log >= 2) butterflies",
        "if (false) butterflies",
    ),
    (
        "stride 128 dropped",
        "if (group_log >= 3) {",
        "if (group_log >= 4) {",
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
        "a product for every codec",
        "CODEC::DIVIDES ? root.divide(sum) :",
        "false ? root.divide(sum) :",
    ),
    (
        "a division for every codec",
        "CODEC::DIVIDES ? root.divide(sum) :",
        "true ? root.divide(sum) :",
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
        "norm not applied",
        "__uint_as_float(y[e]) * scale);",
        "__uint_as_float(y[e]));",
    ),
    (
        "store past the end",
        "if (first + i < blocks) {",
        "if (first + i < blocks + 1) {",
    ),
];

#[test]
fn every_mutation_of_the_kernels_is_caught() {
    let Some(cxx) = cuda::cxx("mutations of the emulated CUDA kernels") else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let of = |own, all: &'static [Mutation]| all.iter().map(move |m| (own, m));
    let all = of(OwnKernel::Sm75, &SM75).chain(of(OwnKernel::Sm80, &SM80));
    let all: Vec<_> = all.chain(of(OwnKernel::Codecs, &CODECS)).collect();
    let sources = OwnKernel::ALL.map(|own| (own, cuda::source(own)));
    let next = std::sync::atomic::AtomicUsize::new(0);
    let work = || {
        let mut missed = Vec::new();
        while let Some((i, (own, (name, from, to)))) = {
            let i = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            all.get(i).map(|m| (i, m))
        } {
            let source = sources.iter().find(|(of, _)| of == own).unwrap();
            assert_eq!(source.1.matches(from).count(), 1, "{name}: {from}");
            let cu = dir.path().join(format!("{i}.cu"));
            std::fs::write(&cu, source.1.replace(from, to)).unwrap();
            match check_own(&compile(&cxx, *own, &cu, &["-O0"]), &SHAPES[..5], 20) {
                Ok(_) => missed.push((own, *name)),
                Err(e) => eprintln!("caught: {own:?}, {name}: {e}"),
            }
        }
        missed
    };
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    let missed: Vec<_> = std::thread::scope(|scope| {
        let all: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        all.into_iter().flat_map(|t| t.join().unwrap()).collect()
    });
    assert!(
        missed.is_empty(),
        "mutations that nothing caught: {missed:?}"
    );
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
    let kernels = OwnKernel::ALL.map(|own| cuda::define_own(own, &cuda::path(own)));
    cuda::run(cuda::compile(&cxx, &kernels, "sanitize.cpp", &program).args(flags));
    assert_eq!(cuda::run(&mut Command::new(&program)), "clean\n");
}
