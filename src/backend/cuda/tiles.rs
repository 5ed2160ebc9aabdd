//! Running a tensor through the device in tiles of whole rows.
//!
//! A tile goes through a slot: a stream with its own memory on both sides. With two slots the host fills
//! and empties one while the device copies and computes in the other.

use super::api::{Caller, Handle, call};
use super::memory::{DeviceMemory, Event, PinnedMemory, Stream};
use crate::backend::{Cost, OutMut, POISON_BF16, POISON_F32, broke};
use crate::error::Result;
use crate::tensor::TqTensor;
use std::ffi::c_void;
use std::ops::Range;
use std::time::{Duration, Instant};

/// Bytes of device memory a slot takes at most when nothing else is asked for: enough for the launch to
/// cost nothing beside the kernel, little enough to page-lock.
const DEFAULT_TILE: u64 = 256 << 20;

/// Part of the free memory that is left to others: 1 / 8.
const SPARE: u64 = 8;

/// Threads in a block of the kernel, and elements a thread decodes.
const BLOCK: u32 = 256;
const PER_THREAD: usize = 32;

/// Most threads of one launch: the kernel counts them in 32 bits.
const MAX_THREADS: usize = 1 << 31;

// Poison is written as words: it must be the same for both types.
const _: () = assert!(POISON_F32 == (POISON_BF16 as u32) << 16 | POISON_BF16 as u32);

/// Where things lie in a tile's input, at multiples of 256 bytes.
#[derive(Debug, Clone, Copy)]
struct Input {
    signs: usize,
    scales: usize,
    packed: usize,
    len: usize,
}

impl Input {
    /// Of a tile of `rows` rows.
    fn new(tensor: &TqTensor<'_>, rows: usize) -> Self {
        let up = |n: usize| n.next_multiple_of(256);
        let signs = up(16 * 4);
        let scales = signs + up(tensor.cols());
        let packed = scales + up(rows * tensor.groups_per_row() * 2);
        Self {
            signs,
            scales,
            packed,
            len: packed + up(rows * tensor.layout().packed_len(tensor.cols())),
        }
    }
}

/// A stream with its memory. Fields drop in this order: the stream is idle by then, see `Drop`.
#[derive(Debug)]
pub(super) struct Slot {
    host_in: PinnedMemory,
    host_out: PinnedMemory,
    device_in: DeviceMemory,
    device_out: DeviceMemory,
    start: Event,
    end: Event,
    stream: Stream,
    /// Rows of the output that are on their way.
    busy: Option<Range<usize>>,
}

impl Slot {
    fn new(caller: &Caller, input: usize, output: usize) -> Result<Self> {
        Ok(Self {
            device_in: DeviceMemory::new(caller, input)?,
            device_out: DeviceMemory::new(caller, output)?,
            host_in: PinnedMemory::new(caller, input)?,
            host_out: PinnedMemory::new(caller, output)?,
            start: Event::new(caller)?,
            end: Event::new(caller)?,
            stream: Stream::new(caller)?,
            busy: None,
        })
    }

    fn fits(&self, input: usize, output: usize) -> bool {
        self.device_in.len >= input
            && self.device_out.len >= output
            && self.host_in.len() >= input
            && self.host_out.len() >= output
    }

    /// Bytes on the device.
    pub(super) fn device_bytes(&self) -> u64 {
        (self.device_in.len + self.device_out.len) as u64
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        // After a failure, copies may still be under way in memory that is about to go.
        let _ = self.stream.synchronize();
    }
}

/// Cuts a tensor into tiles: rows in each, and slots.
fn plan(
    caller: &Caller,
    tensor: &TqTensor<'_>,
    out_size: usize,
    available: u64,
    max_tile: Option<u64>,
) -> Result<(usize, usize)> {
    let usable = available - available / SPARE;
    let limit = max_tile.unwrap_or(DEFAULT_TILE);
    let bytes =
        |rows: usize| (Input::new(tensor, rows).len + rows * tensor.cols() * out_size) as u64;
    let most_rows = tensor.rows().min(MAX_THREADS * PER_THREAD / tensor.cols());
    if bytes(tensor.rows()) <= usable.min(limit) && most_rows == tensor.rows() {
        return Ok((tensor.rows(), 1));
    }
    let each = (usable / 2).min(limit);
    // Sizes are rounded up once a tile, which 256 rows need not be.
    let per_row = (bytes(512) - bytes(256)) / 256;
    let mut rows = (each / per_row) as usize;
    while rows > 0 && bytes(rows) > each {
        rows -= 1;
    }
    let rows = rows.min(most_rows);
    if rows == 0 {
        return Err(broke(
            &caller.lane,
            format!(
                "one row of {} takes {} bytes twice over, {available} bytes of device memory are free and a tile may take {limit}",
                tensor.base(),
                bytes(1)
            ),
            "free memory on the device, or allow larger tiles",
        ));
    }
    Ok((rows, 2))
}

/// Dequantises `tensor` into `out`. `slots` are kept from call to call; the caller drops them when this
/// fails.
pub(super) fn run(
    caller: &Caller,
    kernel: Handle,
    slots: &mut Vec<Slot>,
    tensor: &TqTensor<'_>,
    mut out: OutMut<'_>,
    max_tile: Option<u64>,
) -> Result<Cost> {
    out.poison();
    let started = Instant::now();
    let out_size = out.element_size();
    let (mut free, mut total) = (0, 0);
    // SAFETY: both numbers outlive the call, which writes them.
    unsafe { call!(caller, memory_info = "cuMemGetInfo"(&mut free, &mut total))? };
    let held: u64 = slots.iter().map(Slot::device_bytes).sum();
    let (rows, count) = plan(caller, tensor, out_size, free as u64 + held, max_tile)?;
    let input = Input::new(tensor, rows);
    let output = rows * tensor.cols() * out_size;
    if slots.len() < count || !slots.iter().all(|s| s.fits(input.len, output)) {
        slots.clear();
        for _ in 0..count {
            slots.push(Slot::new(caller, input.len, output)?);
        }
    }

    let mut cost = Cost::default();
    let mut kernel_ms = Some(0.0f64);
    let row_out = tensor.cols() * out_size;
    let mut finish = |slot: &mut Slot, out: &mut [u8]| -> Result<()> {
        let Some(range) = slot.busy.take() else {
            return Ok(());
        };
        slot.stream.synchronize()?;
        let ms = f64::from(slot.start.milliseconds_until(&slot.end)?);
        kernel_ms = kernel_ms
            .filter(|_| ms.is_finite() && ms > 0.0)
            .map(|sum| sum + ms);
        let to = &mut out[range.start * row_out..range.end * row_out];
        to.copy_from_slice(&slot.host_out.bytes()[..to.len()]);
        Ok(())
    };

    for (i, first) in (0..tensor.rows()).step_by(rows).enumerate() {
        let slot = &mut slots[i % count];
        finish(slot, out.bytes_mut())?;
        let tile = first..tensor.rows().min(first + rows);
        cost.bytes_copied += submit(caller, kernel, slot, tensor, tile, out_size)?;
        cost.launches += 1;
    }
    for slot in slots.iter_mut() {
        finish(slot, out.bytes_mut())?;
    }
    cost.kernel = kernel_ms.map(|ms| Duration::from_secs_f64(ms / 1e3));
    cost.total = started.elapsed();
    Ok(cost)
}

/// Queues one tile: upload, poison, kernel between two time stamps, download. Returns the bytes copied.
fn submit(
    caller: &Caller,
    kernel: Handle,
    slot: &mut Slot,
    tensor: &TqTensor<'_>,
    tile: Range<usize>,
    out_size: usize,
) -> Result<u64> {
    let input = Input::new(tensor, tile.len());
    let per_row = tensor.groups_per_row();
    let row_len = tensor.layout().packed_len(tensor.cols());
    let codes = &tensor.packed()[tile.start * row_len..tile.end * row_len];
    let scales = &tensor.scales()[tile.start * per_row..tile.end * per_row];
    let mut centroids = [0f32; 16];
    centroids[..tensor.layout().levels()].copy_from_slice(tensor.codebook().centroids());

    let host = slot.host_in.bytes();
    let mut put = |at: usize, bytes: &[u8]| host[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, bytemuck::bytes_of(&centroids));
    put(input.signs, bytemuck::cast_slice(tensor.signs()));
    put(input.scales, bytemuck::cast_slice(scales));
    put(input.packed, codes);
    let up = input.packed + codes.len();

    let elements = tile.len() * tensor.cols();
    let down = elements * out_size;
    let (from, to) = (slot.device_in.ptr, slot.device_out.ptr);
    let stream = slot.stream.handle;
    slot.busy = Some(tile);
    // SAFETY: both sides of a copy hold at least as many bytes (`Slot::fits`), and stay until the stream
    // is idle (`finish`, `Drop`).
    unsafe {
        call!(
            caller,
            upload = "cuMemcpyHtoDAsync"(from, slot.host_in.as_ptr(), up, stream)
        )?;
        call!(
            caller,
            fill = "cuMemsetD32Async"(to, POISON_F32, down / 4, stream)
        )?;
    }

    let mut packed = from + input.packed as u64;
    let mut scales = from + input.scales as u64;
    let mut signs = from + input.signs as u64;
    let mut centroids = from;
    let mut output = to;
    let mut blocks = (elements / PER_THREAD) as u32;
    let mut row_blocks = (tensor.cols() / PER_THREAD) as u32;
    let mut parameters: [*mut c_void; 7] = [
        (&raw mut packed).cast(),
        (&raw mut scales).cast(),
        (&raw mut signs).cast(),
        (&raw mut centroids).cast(),
        (&raw mut output).cast(),
        (&raw mut blocks).cast(),
        (&raw mut row_blocks).cast(),
    ];
    slot.start.record(&slot.stream)?;
    // SAFETY: the parameters are those of the kernel's entry points, in order and in type, and outlive
    // the call, which copies them. All device addresses are multiples of 256, as the driver's are, and
    // the kernel stays inside the tile's memory: it reads and writes `blocks` blocks.
    unsafe {
        call!(
            caller,
            launch = "cuLaunchKernel"(
                kernel,
                blocks.div_ceil(BLOCK),
                1,
                1,
                BLOCK,
                1,
                1,
                0,
                stream,
                parameters.as_mut_ptr(),
                std::ptr::null_mut(),
            )
        )?;
    }
    slot.end.record(&slot.stream)?;
    // SAFETY: as for the upload.
    unsafe {
        call!(
            caller,
            download = "cuMemcpyDtoHAsync"(slot.host_out.as_ptr(), to, down, stream)
        )?;
    }
    Ok((up + down) as u64)
}
