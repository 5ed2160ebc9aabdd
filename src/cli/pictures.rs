//! `--html` and `-v`: pictures of the tensors of a run.

use std::path::Path;
use tq4::checkpoint::write_atomically;
use tq4::error::Result;
use tq4::lane::Lane;
use tq4::picture::Picture;
use tq4::report::{LaneReport, Report, TensorReport, html, picture_text};
use tq4::validate::{Input, Outcome};

/// What was asked for.
#[derive(Clone, Copy)]
pub struct Pictures<'a> {
    pub page: Option<&'a Path>,
    pub verbose: bool,
}

/// The pictures of the worst tensors, and the text of every one.
pub struct Gathered<'a> {
    asked: Pictures<'a>,
    kept: Vec<((usize, f64), Picture)>,
    texts: Vec<(String, String)>,
}

impl<'a> Pictures<'a> {
    /// Nothing gathered yet.
    pub fn gather(self) -> Gathered<'a> {
        Gathered {
            asked: self,
            kept: Vec::new(),
            texts: Vec::new(),
        }
    }
}

impl Gathered<'_> {
    /// Draws one tensor; only the worst are kept, so that memory does not grow with the run.
    pub fn add(&mut self, outcome: &Outcome, input: &Input<'_>, lanes: &[Lane]) {
        if self.asked.page.is_none() && !self.asked.verbose {
            return;
        }
        let columns = outcome.columns(input, lanes);
        let picture = Picture::new(input.tensor, &columns, &outcome.report.diagnosis);
        if self.asked.verbose {
            self.texts
                .push((picture.base.clone(), picture_text(&picture)));
        }
        self.kept.push((html::badness(&outcome.report), picture));
        self.kept
            .sort_by(|((fa, ra), _), ((fb, rb), _)| fb.cmp(fa).then(rb.total_cmp(ra)));
        self.kept.truncate(html::PICTURES);
    }

    /// Writes the page that `draw` makes, when one was asked for.
    pub fn write_page(
        &self,
        report: &Report,
        lanes: &[LaneReport],
        draw: fn(&Report, &[LaneReport], &[&Picture]) -> String,
    ) -> Result<()> {
        let Some(path) = self.asked.page else {
            return Ok(());
        };
        let pictures: Vec<&Picture> = self.kept.iter().map(|(_, p)| p).collect();
        write_atomically(path, draw(report, lanes, &pictures).as_bytes())
    }

    /// The tensor's pictures for a terminal; empty when none were asked for.
    pub fn text(&self, tensor: &TensorReport) -> String {
        self.texts
            .iter()
            .filter(|(base, _)| *base == tensor.tensor_base)
            .map(|(_, text)| format!("\n{text}"))
            .collect()
    }
}
