//! JSON: the record as it is, one object whatever the number of tensors; `docs/report.md` has its keys.

use super::{Exporter, put};
use crate::error::Result;
use crate::record::{Run, to_json};
use std::io::Write;

/// The report as indented JSON.
#[derive(Debug, Clone, Copy, Default)]
pub struct Json;

impl Exporter for Json {
    fn export(&self, run: &Run, to: &mut dyn Write) -> Result<()> {
        put(&to_json(run), to)
    }
}
