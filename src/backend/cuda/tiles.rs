//! Running a tensor through the device in tiles of whole rows.
//!
//! A tile goes through a slot: a stream with its own memory on both sides. With two slots the host fills
//! and empties one while the device copies and computes in the other.

use super::api::{Caller, Handle, call};
use super::kernel::{Input, MAX_ELEMENTS, launch};
use super::memory::{DeviceMemory, Event, PinnedMemory, Stream};
use crate::backend::{Cost, OutMut, POISON_BF16, POISON_F32, broke};
use crate::error::Result;
use crate::tensor::TqTensor;
use std::ops::Range;
use std::time::{Duration, Instant};

/// Bytes of device memory a slot takes at most when nothing else is asked for: enough for the launch to
/// cost nothing beside the kernel, little enough to page-lock.
const DEFAULT_TILE: u64 = 256 << 20;

/// Part of the free memory that is left to others: 1 / 8.
pub(super) const SPARE: u64 = 8;

// Poison is written as words: it must be the same for both types.
const _: () = assert!(POISON_F32 == (POISON_BF16 as u32) << 16 | POISON_BF16 as u32);

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
    /// What `new` allocates.
    const ALLOCATIONS: u32 = 4;

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
    tensor: &TqTensor,
    out_size: usize,
    available: u64,
    max_tile: Option<u64>,
) -> Result<(usize, usize)> {
    let usable = available - available / SPARE;
    let limit = max_tile.unwrap_or(DEFAULT_TILE);
    let bytes =
        |rows: usize| (Input::new(tensor, rows).len + rows * tensor.cols() * out_size) as u64;
    let most_rows = tensor.rows().min(MAX_ELEMENTS / tensor.cols());
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

/// How to run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mode {
    /// Most bytes of device memory a tile may take.
    pub(super) max_tile: Option<u64>,
    /// Whether outputs are poisoned first.
    pub(super) poison: bool,
}

/// Dequantises `tensor` into `out`. `slots` are kept from call to call; the caller drops them when this
/// fails.
pub(super) fn run(
    caller: &Caller,
    kernel: Handle,
    slots: &mut Vec<Slot>,
    tensor: &TqTensor,
    mut out: OutMut<'_>,
    mode: Mode,
) -> Result<Cost> {
    if mode.poison {
        out.poison();
    }
    let started = Instant::now();
    let out_size = out.element_size();
    let (mut free, mut total) = (0, 0);
    // SAFETY: both numbers outlive the call, which writes them.
    unsafe { call!(caller, memory_info = "cuMemGetInfo"(&mut free, &mut total))? };
    let held: u64 = slots.iter().map(Slot::device_bytes).sum();
    let (rows, count) = plan(caller, tensor, out_size, free as u64 + held, mode.max_tile)?;
    let input = Input::new(tensor, rows);
    let output = rows * tensor.cols() * out_size;
    let mut cost = Cost::default();
    if slots.len() < count || !slots.iter().all(|s| s.fits(input.len, output)) {
        slots.clear();
        for _ in 0..count {
            slots.push(Slot::new(caller, input.len, output)?);
            cost.allocations += Slot::ALLOCATIONS;
        }
    }

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
        cost.bytes_copied += submit(caller, kernel, slot, tensor, tile, out_size, mode.poison)?;
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
    tensor: &TqTensor,
    tile: Range<usize>,
    out_size: usize,
    poison: bool,
) -> Result<u64> {
    let input = Input::new(tensor, tile.len());
    let up = input.fill(tensor, tile.clone(), slot.host_in.bytes());
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
        if poison {
            call!(
                caller,
                fill = "cuMemsetD32Async"(to, POISON_F32, down / 4, stream)
            )?;
        }
    }
    slot.start.record(&slot.stream)?;
    // SAFETY: the tile was put there above and fits (`Slot::fits`); the memory stays until the stream is
    // idle, and the driver's addresses are multiples of 256.
    unsafe {
        let cols = tensor.cols();
        launch(
            caller,
            kernel,
            &slot.stream,
            &input,
            from,
            to,
            elements,
            cols,
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
