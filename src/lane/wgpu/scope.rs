//! Error scopes for every kind of error, opened and closed together.

use super::loss::SMALLER;
use crate::error::{Error, Result};
use crate::lane::broke;
use crate::record::LaneName;
use ::wgpu;

/// What helps where nobody knows what would.
const REPORT: &str = "report this with the output of tq4 devices";

pub(super) struct Scope([wgpu::ErrorScopeGuard; 3]);

impl Scope {
    pub(super) fn open(device: &wgpu::Device) -> Self {
        use wgpu::ErrorFilter::{Internal, OutOfMemory, Validation};
        Self([Internal, OutOfMemory, Validation].map(|f| device.push_error_scope(f)))
    }

    pub(super) fn close(self, lane: &LaneName) -> Result<()> {
        let [internal, memory, validation] = self.0;
        // Popped in reverse; a buffer that found no memory is then invalid wherever it is used.
        let mut errors: Vec<wgpu::Error> = [validation, memory, internal]
            .into_iter()
            .filter_map(|g| pollster::block_on(g.pop()))
            .collect();
        errors.sort_by_key(|e| !matches!(e, wgpu::Error::OutOfMemory { .. }));
        match errors.first() {
            None => Ok(()),
            Some(e) => Err(describe(lane, e)),
        }
    }
}

/// What a device's error means to the user.
fn describe(lane: &LaneName, error: &wgpu::Error) -> Error {
    // wgpu tells it in several lines; an error here has one for what was found.
    let text = error.to_string();
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let text = lines.join(" ").trim().to_owned();
    match error {
        wgpu::Error::OutOfMemory { .. } => broke(
            lane,
            format!("the device is out of memory: {text}"),
            SMALLER,
        ),
        _ => broke(lane, text, REPORT),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn out_of_memory_is_called_so() {
        let source = || Box::new(std::io::Error::other("no\n  room"));
        let e = describe(
            &LaneName::Wgpu,
            &wgpu::Error::OutOfMemory { source: source() },
        );
        let text = e.to_string();
        assert!(text.starts_with("the device is out of memory: "), "{text}");
        assert!(text.contains("take smaller strips"), "{text}");
        let e = describe(
            &LaneName::Wgpu,
            &wgpu::Error::Internal {
                source: source(),
                description: "first\n\n  second".into(),
            },
        );
        assert_eq!(e.problem().what.lines().count(), 1, "{e}");
    }
}
