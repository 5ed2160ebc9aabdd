//! What `demo` and `validate` share: tensors through lanes, then out.

use super::pictures::{Gathered, Pictures};
use super::progress::Progress;
use super::{Format, Outcome, print, tell};
use std::path::Path;
use tq4::checkpoint::{Checkpoint, TqModel, write_atomically};
use tq4::error::{Result, printable};
use tq4::lane::Lane;
use tq4::report::{
    LaneReport, Report, Status, Style, html, lanes_table, markdown, tensor_table, top_errors,
};
pub use tq4::sweep::dir_name;
use tq4::validate::{Input, Source, validate};
use tq4::{Error, recording};

/// One run over some tensors of a model.
pub struct Run<'a> {
    pub model: &'a TqModel,
    pub source: Option<&'a Checkpoint>,
    pub bases: &'a [String],
    pub row_start: usize,
    pub row_count: Option<usize>,
    pub require: &'a [String],
    pub format: Format,
    pub report: Option<&'a Path>,
    pub top_errors: Option<&'a Path>,
    pub record: Option<&'a Path>,
    pub pictures: Pictures<'a>,
}

impl Run<'_> {
    /// Validates, prints, writes the files that were asked for.
    pub fn execute(&self, lanes: &mut [Lane]) -> Result<Outcome> {
        let mut progress = Progress::new(self.bases.len() * (lanes.len() + 2));
        let mut reports = Vec::new();
        let mut csv = Vec::new();
        let mut pictures = self.pictures.gather();
        for base in self.bases {
            let rows = self.model.info(base)?.shape[0];
            let end = match self.row_count {
                Some(count) => self.row_start.saturating_add(count),
                None => rows.max(self.row_start),
            };
            progress.message(base);
            let tensor = self.model.rows(base, self.row_start..end)?;
            let source = match self.source {
                Some(checkpoint) => Some(Source {
                    model: dir_name(checkpoint.dir()),
                    values: checkpoint.rows_f32(
                        &format!("{base}.weight"),
                        [rows, tensor.cols()],
                        self.row_start..end,
                    )?,
                }),
                None => None,
            };
            let tq_model = dir_name(self.model.checkpoint().dir());
            let input = Input {
                tq_model: &tq_model,
                tensor: &tensor,
                row_start: self.row_start,
                source: source.as_ref(),
            };
            let outcome = validate(&input, lanes, |what| {
                progress.step();
                progress.message(&format!("{base}: {what}"));
            })?;
            progress.step();
            if self.top_errors.is_some() {
                top_errors(&outcome.columns(&input, lanes), csv.is_empty(), &mut csv)?;
            }
            if let Some(dir) = self.record {
                self.record(dir, &input, lanes, &outcome.outputs)?;
            }
            pictures.add(&outcome, &input, lanes);
            reports.push(outcome.report);
        }
        progress.finish();
        self.model.checkpoint().unchanged()?;
        self.source.map_or(Ok(()), Checkpoint::unchanged)?;
        let report = Report::new(reports);
        if let Some(path) = self.report {
            write_atomically(path, report.to_json().as_bytes())?;
        }
        if let Some(path) = self.top_errors {
            write_atomically(path, &csv)?;
        }
        pictures.write_page(&report, &summary(&report), html::page)?;
        self.print(&report, &pictures)?;
        if unused_recordings(lanes, &report) {
            return Ok(Outcome::LaneBroke);
        }
        self.outcome(&report)
    }

    fn record(
        &self,
        dir: &Path,
        input: &Input<'_>,
        lanes: &[Lane],
        outputs: &std::collections::HashMap<String, Vec<half::bf16>>,
    ) -> Result<()> {
        std::fs::create_dir_all(dir).map_err(|e| Error::io("make the directory", dir, &e))?;
        for lane in lanes {
            let (Some(values), tq4::lane::State::Ready(backend)) =
                (outputs.get(lane.name()), lane.state())
            else {
                continue;
            };
            let path = dir.join(file_name(input.tensor.base(), lane.name()));
            let model = input.tq_model;
            recording::write(
                &path,
                model,
                input.tensor,
                input.row_start,
                backend.device(),
                values,
            )?;
        }
        Ok(())
    }

    fn print(&self, report: &Report, pictures: &Gathered<'_>) -> Result<()> {
        match self.format {
            Format::Json => return print(&report.to_json()),
            Format::Markdown => return print(&markdown(report, &summary(report))),
            Format::Table => {}
        }
        let mut text = String::new();
        for tensor in report.tensors() {
            text += &tensor_table(tensor, Style::Terminal);
            text += &pictures.text(tensor);
            text.push('\n');
        }
        text += &lanes_table(&summary(report), Style::Terminal);
        text += &report.decision_line();
        text.push('\n');
        print(&text)
    }

    fn outcome(&self, report: &Report) -> Result<Outcome> {
        let lanes = summary(report);
        let there = |l: &&LaneReport| matches!(l.status, Status::Ran | Status::Recorded);
        let kind = |name: &str| name.split(':').next().unwrap_or(name).to_owned();
        if lanes.iter().any(|l| l.status == Status::Failed) {
            return Ok(Outcome::LaneBroke);
        }
        let failed = report
            .tensors()
            .iter()
            .flat_map(|t| &t.decisions)
            .any(|d| d.passed == Some(false));
        if failed {
            return Ok(Outcome::GatesFailed);
        }
        // A stand-in does not satisfy --require: it shows another machine's lane.
        let missing: Vec<&String> = self
            .require
            .iter()
            .filter(|r| {
                !lanes
                    .iter()
                    .filter(there)
                    .any(|l| l.status == Status::Ran && (l.name == **r || kind(&l.name) == **r))
            })
            .collect();
        if missing.is_empty() {
            return Ok(Outcome::Passed);
        }
        for lane in missing {
            tell(&format!("error: lane {lane} is required and did not run"));
        }
        Ok(Outcome::RequiredLaneMissing)
    }
}

/// Tells of recordings that fit no tensor of the run: the user meant them to.
fn unused_recordings(lanes: &[Lane], report: &Report) -> bool {
    let mut any = false;
    for lane in lanes {
        let tq4::lane::State::Recorded(_) = lane.state() else {
            continue;
        };
        let reports = || report.tensors().iter().flat_map(|t| &t.lanes);
        let mut of_lane = reports().filter(|l| l.name == lane.name());
        if of_lane.clone().any(|l| l.status == Status::Recorded) {
            continue;
        }
        any = true;
        let reason = of_lane.next().and_then(|l| l.reason.as_deref());
        tell(&format!(
            "error: recording {} was compared with nothing: {}",
            printable(lane.name()),
            printable(reason.unwrap_or("no tensor"))
        ));
    }
    any
}

/// Every lane once, with the worst that became of it over all tensors.
fn summary(report: &Report) -> Vec<LaneReport> {
    let badness = |s: Status| match s {
        Status::Failed => 3,
        Status::Unavailable => 2,
        Status::Skipped => 1,
        Status::Ran | Status::Recorded => 0,
    };
    let mut lanes: Vec<LaneReport> = Vec::new();
    for lane in report.tensors().iter().flat_map(|t| &t.lanes) {
        match lanes.iter_mut().find(|l| l.name == lane.name) {
            Some(seen) if badness(lane.status) > badness(seen.status) => *seen = lane.clone(),
            Some(_) => {}
            None => lanes.push(lane.clone()),
        }
    }
    lanes
}

/// A file name for a lane's recording, another for every tensor and lane: names may hold anything, so
/// all but plain characters is percent-encoded, and in the lane the dots as well.
fn file_name(base: &str, lane: &str) -> String {
    let safe = |text: &str, plain: &[u8]| -> String {
        text.bytes()
            .map(|b| match b {
                _ if b.is_ascii_alphanumeric() || plain.contains(&b) => char::from(b).to_string(),
                _ => format!("%{b:02X}"),
            })
            .collect()
    };
    format!("{}.{}.safetensors", safe(base, b"._-"), safe(lane, b"_-"))
}

#[cfg(test)]
mod tests {
    use super::file_name;

    #[test]
    fn every_tensor_and_lane_has_its_own_file() {
        let names = [
            "a/b", "a_b", "a%2Fb", "a.b", "a", "b.c", "\u{e4}", "\u{e5}", "..",
        ];
        let lanes = ["wgpu", "wgpu:0", "b", "b.c", "c"];
        let files: Vec<String> = names
            .iter()
            .flat_map(|n| lanes.map(|l| file_name(n, l)))
            .collect();
        let distinct: std::collections::HashSet<&String> = files.iter().collect();
        assert_eq!(distinct.len(), files.len(), "{files:?}");
        let plain = |f: &String| !f.contains('/') && f.is_ascii();
        assert!(files.iter().all(plain), "{files:?}");
        assert_eq!(file_name("a.up_proj", "wgpu"), "a.up_proj.wgpu.safetensors");
    }
}
