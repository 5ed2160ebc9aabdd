//! The CPU parts: the reference on each path beside a parallel copy, the encoder, the metrics.

mod support;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use half::bf16;
use std::hint::black_box;
use std::time::Duration;
use support::{at_a_line, bytes_moved, parallel_copy, tensor};
use tq4::metrics::{self, Values};
use tq4::reference::{self, Simd};
use tq4::synthetic::{self, Rng};
use tq4::tensor::GROUP_SIZES;
use tq4::{encode, fwht};

/// Larger than the last cache of most machines once it is decoded, and still quick.
const ROWS: usize = 12288;
const COLS: usize = 4096;

fn decoding(c: &mut Criterion) {
    let t = tensor(4, 128, ROWS, COLS);
    let mut group = c.benchmark_group("decode 12288x4096, 4 bits, group 128");

    let moved = bytes_moved(&t, size_of::<bf16>());
    let (from, mut to) = (vec![1u8; moved / 2], vec![0u8; moved / 2]);
    group.throughput(Throughput::Bytes(2 * to.len() as u64));
    group.bench_function("parallel memcpy", |b| {
        b.iter(|| parallel_copy(black_box(&from), &mut to));
    });

    group.throughput(Throughput::Bytes(moved as u64));
    let mut memory = Vec::new();
    let out = at_a_line::<bf16>(&mut memory, t.elements());
    for simd in Simd::available() {
        group.bench_function(format!("BF16, {}", simd.key()), |b| {
            b.iter(|| reference::dequantize_bf16_into_with(simd, black_box(&t), out));
        });
    }

    group.throughput(Throughput::Bytes(bytes_moved(&t, size_of::<f32>()) as u64));
    let mut memory = Vec::new();
    let out = at_a_line::<f32>(&mut memory, t.elements());
    for simd in Simd::available() {
        group.bench_function(format!("f32, {}", simd.key()), |b| {
            b.iter(|| reference::dequantize_into_with(simd, black_box(&t), out));
        });
    }
    group.finish();
}

fn layouts(c: &mut Criterion) {
    let mut group = c.benchmark_group("decode 6144x4096 to BF16");
    for bits in [2, 4] {
        for n in GROUP_SIZES {
            let t = tensor(bits, n, ROWS / 2, COLS);
            let mut out = vec![bf16::ZERO; t.elements()];
            group.throughput(Throughput::Bytes(bytes_moved(&t, size_of::<bf16>()) as u64));
            group.bench_function(format!("{bits} bits, group {n}"), |b| {
                b.iter(|| reference::dequantize_bf16_into(black_box(&t), &mut out));
            });
        }
    }
    group.finish();
}

fn encoding(c: &mut Criterion) {
    let mut group = c.benchmark_group("encode");
    let mut rng = Rng::new(1);

    let mut x = synthetic::weight(&mut rng, 1, 128);
    group.throughput(Throughput::Elements(128));
    group.bench_function("forward FWHT, 128", |b| {
        b.iter(|| fwht::forward(black_box(&mut x)));
    });

    let (rows, t) = (512, tensor(4, 128, 1, COLS));
    let weight = synthetic::weight(&mut rng, rows, COLS);
    group.throughput(Throughput::Elements(weight.len() as u64));
    group.bench_function("quantize 512x4096, 4 bits, group 128", |b| {
        b.iter(|| {
            encode::quantize(
                "w",
                black_box(&weight),
                COLS,
                t.layout(),
                t.signs(),
                t.codebook(),
            )
        });
    });
    group.finish();
}

fn comparing(c: &mut Criterion) {
    let t = tensor(4, 128, 1024, COLS);
    let rhs = reference::dequantize(&t);
    let lhs: Vec<bf16> = rhs.iter().map(|v| bf16::from_f32(*v)).collect();
    let mut group = c.benchmark_group("metrics");
    group.throughput(Throughput::Elements(rhs.len() as u64));
    group.bench_function("compare 1024x4096", |b| {
        b.iter(|| {
            metrics::compare(
                "lhs".into(),
                black_box(Values::Bf16(&lhs)),
                "rhs".into(),
                black_box(Values::F32(&rhs)),
            )
        });
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1));
    targets = decoding, layouts, encoding, comparing
}
criterion_main!(benches);
