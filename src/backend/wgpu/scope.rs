//! Error scopes for every kind of error, opened and closed together.

use crate::backend::broke;
use crate::error::Result;
use ::wgpu;

pub(super) struct Scope([wgpu::ErrorScopeGuard; 3]);

impl Scope {
    pub(super) fn open(device: &wgpu::Device) -> Self {
        use wgpu::ErrorFilter::{Internal, OutOfMemory, Validation};
        Self([Internal, OutOfMemory, Validation].map(|f| device.push_error_scope(f)))
    }

    pub(super) fn close(self, lane: &str) -> Result<()> {
        let [internal, memory, validation] = self.0;
        // Popped in reverse; a buffer that found no memory is then invalid wherever it is used.
        let mut errors: Vec<wgpu::Error> = [validation, memory, internal]
            .into_iter()
            .filter_map(|g| pollster::block_on(g.pop()))
            .collect();
        errors.sort_by_key(|e| !matches!(e, wgpu::Error::OutOfMemory { .. }));
        match errors.into_iter().next() {
            None => Ok(()),
            Some(e @ wgpu::Error::OutOfMemory { .. }) => Err(broke(
                lane,
                format!("the device is out of memory: {e}"),
                "take fewer rows at a time",
            )),
            Some(e) => {
                // The first line names the failure; the rest is wgpu's own trace.
                let text = e.to_string();
                let lines: Vec<&str> = text
                    .lines()
                    .map(str::trim)
                    .filter(|l| !l.is_empty())
                    .collect();
                Err(broke(
                    lane,
                    lines.join(" "),
                    "report this with the output of tq4 devices",
                ))
            }
        }
    }
}
