//! A tensor in tiles of whole rows, two of them in flight.

use super::driver::failed;
use crate::backend::{Cost, POISON_F32, broke};
use crate::error::{Error, Result};
use crate::tensor::TqTensor;
use cudarc::driver::{
    CudaContext, CudaEvent, CudaFunction, CudaSlice, CudaStream, DevicePtrMut, DriverError,
    LaunchConfig, PinnedHostSlice, PushKernelArg, sys,
};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

/// Threads per block, as the kernel's launch bounds have it.
const THREADS: u32 = 256;
/// Elements per thread.
const ELEMENTS: usize = 32;
/// Output of one tile: large enough to hide a launch, small enough for two to pin.
const TILE_BYTES: usize = 64 << 20;
/// Tiles in flight.
const SLOTS: usize = 2;

/// One call of the lane.
pub(super) struct Job<'a> {
    pub lane: &'a str,
    pub context: &'a Arc<CudaContext>,
    pub function: &'a CudaFunction,
    pub tensor: &'a TqTensor<'a>,
    pub element_size: usize,
    pub max_tile_bytes: Option<usize>,
}

/// What both slots read.
struct Shared {
    signs: CudaSlice<i8>,
    centroids: CudaSlice<f32>,
}

/// Events before and after the kernel.
type Events = Option<(CudaEvent, CudaEvent)>;

/// A stream with the buffers of one tile.
struct Slot {
    stream: Arc<CudaStream>,
    packed: CudaSlice<u8>,
    scales: CudaSlice<u8>,
    out: CudaSlice<u8>,
    host_packed: PinnedHostSlice<u8>,
    host_scales: PinnedHostSlice<u8>,
    host_out: PinnedHostSlice<u8>,
    pending: Option<(Range<usize>, Events)>,
}

impl Job<'_> {
    fn at(&self, doing: &'static str) -> impl Fn(DriverError) -> Error {
        move |e| failed(self.lane, doing, e)
    }

    /// Bytes of packed codes, scales and output in one row.
    fn row_bytes(&self) -> [usize; 3] {
        let t = self.tensor;
        [
            t.layout().packed_len(t.cols()),
            2 * t.groups_per_row(),
            t.cols() * self.element_size,
        ]
    }

    /// Rows of one tile, so that all slots fit in half of the free memory.
    fn tile_rows(&self) -> Result<usize> {
        let (free, _) = self
            .context
            .mem_get_info()
            .map_err(self.at("ask for the free memory"))?;
        let row: usize = self.row_bytes().iter().sum();
        let share = free / 2 / SLOTS;
        let by_limit = self.max_tile_bytes.unwrap_or(TILE_BYTES) / self.row_bytes()[2];
        if share < row {
            return Err(broke(
                self.lane,
                format!(
                    "a row of {row} bytes does not fit: {free} bytes of device memory are free"
                ),
                "free memory on the device",
            ));
        }
        // A row is the smallest tile, whatever the limit says.
        Ok(by_limit.max(1).min(share / row).min(self.tensor.rows()))
    }

    /// Decodes the tensor into `out`, row-major.
    pub(super) fn run(&self, out: &mut [u8]) -> Result<Cost> {
        let rows = self.tensor.rows();
        let tile = self.tile_rows()?;
        let out_row = self.row_bytes()[2];
        let slots = SLOTS.min(rows.div_ceil(tile));
        let mut slots = (0..slots)
            .map(|_| self.slot(tile))
            .collect::<Result<Vec<_>>>()?;
        let stream = Arc::clone(&slots[0].stream);
        let shared = Shared {
            signs: stream
                .clone_htod(self.tensor.signs())
                .map_err(self.at("copy the signs"))?,
            centroids: stream
                .clone_htod(&self.centroids())
                .map_err(self.at("copy the centroids"))?,
        };
        // The other stream must not start before the signs are there.
        stream
            .synchronize()
            .map_err(self.at("wait for the signs"))?;
        let mut cost = Cost {
            kernel: Some(Duration::ZERO),
            ..Cost::default()
        };
        for (i, start) in (0..rows).step_by(tile).enumerate() {
            let slot = &mut slots[i % SLOTS];
            self.collect(slot, out, out_row, &mut cost)?;
            self.start(slot, &shared, start..(start + tile).min(rows))?;
            cost.launches += 1;
        }
        for slot in &mut slots {
            self.collect(slot, out, out_row, &mut cost)?;
        }
        self.context.check_err().map_err(self.at("finish"))?;
        let bytes: usize = self.row_bytes().iter().sum();
        cost.bytes_copied = (bytes * rows + self.tensor.cols() + 64) as u64;
        Ok(cost)
    }

    fn centroids(&self) -> [f32; 16] {
        let mut all = [0.0; 16];
        let given = self.tensor.codebook().centroids();
        all[..given.len()].copy_from_slice(given);
        all
    }

    fn slot(&self, rows: usize) -> Result<Slot> {
        let [packed, scales, out] = self.row_bytes().map(|b| b * rows);
        let stream = self
            .context
            .new_stream()
            .map_err(self.at("make a stream"))?;
        // SAFETY: all of it is written before it is read: inputs by a copy, the output by the poison.
        let device =
            |len| unsafe { stream.alloc::<u8>(len) }.map_err(self.at("allocate device memory"));
        // SAFETY: inputs are written by the host before each copy, the output by a copy from the
        // device before the host reads it. No flags: write-combined memory is slow to read back.
        let host = |len| {
            unsafe { self.context.alloc_pinned_with_flags::<u8>(len, 0) }
                .map_err(self.at("allocate pinned memory"))
        };
        Ok(Slot {
            packed: device(packed)?,
            scales: device(scales)?,
            out: device(out)?,
            host_packed: host(packed)?,
            host_scales: host(scales)?,
            host_out: host(out)?,
            stream: Arc::clone(&stream),
            pending: None,
        })
    }

    /// Queues one tile: copies in, poison, kernel, copy out.
    fn start(&self, slot: &mut Slot, shared: &Shared, rows: Range<usize>) -> Result<()> {
        let [packed_row, scales_row, out_row] = self.row_bytes();
        let scales: &[u8] = bytemuck::cast_slice(self.tensor.scales());
        let fill = |host: &mut PinnedHostSlice<u8>, from: &[u8], row: usize| -> Result<()> {
            let from = &from[rows.start * row..rows.end * row];
            host.as_mut_slice().map_err(self.at("wait for a copy"))?[..from.len()]
                .copy_from_slice(from);
            Ok(())
        };
        fill(&mut slot.host_packed, self.tensor.packed(), packed_row)?;
        fill(&mut slot.host_scales, scales, scales_row)?;
        let stream = &slot.stream;
        let copy = self.at("copy to the device");
        stream
            .memcpy_htod(&slot.host_packed, &mut slot.packed)
            .map_err(&copy)?;
        stream
            .memcpy_htod(&slot.host_scales, &mut slot.scales)
            .map_err(&copy)?;
        {
            let words = slot.out.len() / 4;
            let (pointer, _guard) = slot.out.device_ptr_mut(stream);
            // SAFETY: the buffer holds that many words and lives as long as the stream's work.
            unsafe { sys::cuMemsetD32Async(pointer, POISON_F32, words, stream.cu_stream()) }
                .result()
                .map_err(self.at("poison the output"))?;
        }
        let threads = (rows.len() * self.tensor.cols() / ELEMENTS) as u32;
        let threads_per_row = (self.tensor.cols() / ELEMENTS) as u32;
        let mut launch = stream.launch_builder(self.function);
        launch
            .arg(&slot.packed)
            .arg(&slot.scales)
            .arg(&shared.signs)
            .arg(&shared.centroids)
            .arg(&mut slot.out)
            .arg(&threads)
            .arg(&threads_per_row)
            .record_kernel_launch(sys::CUevent_flags::CU_EVENT_DEFAULT);
        let config = LaunchConfig {
            grid_dim: (threads.div_ceil(THREADS), 1, 1),
            block_dim: (THREADS, 1, 1),
            shared_mem_bytes: 0,
        };
        // SAFETY: the arguments are the kernel's, in its order and types; the buffers hold the rows
        // that `threads` names, and are aligned as allocations are (256 bytes).
        let events = unsafe { launch.launch(config) }.map_err(self.at("launch the kernel"))?;
        let written = slot.out.slice(0..rows.len() * out_row);
        stream
            .memcpy_dtoh(&written, &mut slot.host_out)
            .map_err(self.at("copy from the device"))?;
        slot.pending = Some((rows, events));
        Ok(())
    }

    /// Waits for the slot's tile, if it has one, and takes its output.
    fn collect(
        &self,
        slot: &mut Slot,
        out: &mut [u8],
        out_row: usize,
        cost: &mut Cost,
    ) -> Result<()> {
        let Some((rows, events)) = slot.pending.take() else {
            return Ok(());
        };
        slot.stream
            .synchronize()
            .map_err(self.at("run the kernel"))?;
        let out = &mut out[rows.start * out_row..rows.end * out_row];
        let host = slot
            .host_out
            .as_slice()
            .map_err(self.at("wait for a copy"))?;
        out.copy_from_slice(&host[..out.len()]);
        let elapsed = events
            .and_then(|(start, end)| start.elapsed_ms(&end).ok())
            .filter(|ms| *ms > 0.0)
            .map(|ms| Duration::from_secs_f64(f64::from(ms) / 1e3));
        cost.kernel = cost.kernel.zip(elapsed).map(|(a, b)| a + b);
        Ok(())
    }
}
