//! A sweep from the command line: plan, journal, progress, summary. `validate` runs one, `merge` ends one.

use super::progress::Progress;
use super::{Format, Outcome, print, tell};
use std::path::Path;
use tq4::checkpoint::{Checkpoint, write_atomically};
use tq4::error::Result;
use tq4::lane::{self, Choice};
use tq4::report::html::sweep_page;
use tq4::report::{Style, sweep_markdown};
use tq4::sweep::record::{Header, PlainRecord, Summary, SweepOutcome, TensorRecord};
use tq4::sweep::{Contents, Event, Journal, Plan, Record, summarise, text};

/// Where a sweep's report goes, and how.
pub struct Output<'a> {
    pub report: Option<&'a Path>,
    pub resume: bool,
    pub format: Format,
    pub html: Option<&'a Path>,
}

/// Runs the plan, or what an earlier run left of it.
pub fn execute(mut plan: Plan<'_>, choice: &Choice, output: &Output<'_>) -> Result<Outcome> {
    let (mut journal, earlier) = match output.report {
        Some(path) if output.resume && path.exists() => {
            let (journal, contents) = Journal::resume(path, &plan.header)?;
            (Some(journal), contents)
        }
        Some(path) => {
            Journal::check_new(path)?;
            (None, None)
        }
        None => (None, None),
    };
    let mut finished = false;
    let (mut tensors, mut plain) = (Vec::new(), Vec::new());
    if let Some(contents) = earlier {
        let Contents {
            header, summary, ..
        } = &contents;
        finished = summary.is_some();
        plan.header = header.clone();
        plan.without(&contents.tensor_names(), &contents.plain_names());
        tell(&format!(
            "resuming: {} tensors are done, {} are left",
            contents.tensors.len() + contents.plain.len(),
            plan.tensors.len() + plan.plain.len()
        ));
        tensors = contents.tensors.into_iter().map(|(t, _)| t).collect();
        plain = contents.plain.into_iter().map(|(p, _)| p).collect();
    }
    // Devices are opened before a new report is begun: an adapter that is not there leaves no file.
    let mut lanes = if plan.tensors.is_empty() {
        Vec::new()
    } else {
        lane::open(choice, Vec::new())?
    };
    if let (None, Some(path)) = (&journal, output.report) {
        journal = Some(Journal::create(path, &plan.header)?);
    }
    let mut progress = Progress::bytes(plan.work());
    let (model, source) = (plan.model.checkpoint(), plan.source);
    let unchanged = || -> Result<()> {
        model.unchanged()?;
        source.map_or(Ok(()), Checkpoint::unchanged)
    };
    let (mut done, all) = (0, plan.tensors.len() + plan.plain.len());
    let result = plan.run(&mut lanes, |event| {
        match event {
            Event::Working(name) => progress.message(&format!("{}/{all} {name}", done + 1)),
            Event::Bytes(n) => progress.advance(n),
            Event::Done(record) => {
                // What a changed file gave is not kept.
                unchanged()?;
                done += 1;
                if let Some(journal) = &mut journal {
                    journal.append(&record)?;
                }
                match record {
                    Record::Tensor(t) => tensors.push(*t),
                    Record::Plain(p) => plain.push(p),
                    Record::Header(_) | Record::Summary(_) => {}
                }
            }
        }
        Ok(())
    });
    progress.finish();
    result?;
    let summary = summarise(&plan.header, &tensors, &plain);
    if let (Some(journal), false) = (&mut journal, finished) {
        journal.append(&Record::Summary(Box::new(summary.clone())))?;
    }
    show(
        &plan.header,
        &tensors,
        &plain,
        &summary,
        output.format,
        output.html,
    )
}

/// Prints the summary and writes the page; the outcome is that of the sweep.
pub fn show(
    header: &Header,
    tensors: &[TensorRecord],
    plain: &[PlainRecord],
    summary: &Summary,
    format: Format,
    page: Option<&Path>,
) -> Result<Outcome> {
    if let Some(path) = page {
        let text = sweep_page(header, tensors, plain, summary);
        write_atomically(path, text.as_bytes())?;
    }
    print(&match format {
        Format::Json => {
            let json = serde_json::to_string_pretty(summary).expect("plain data");
            format!("{json}\n")
        }
        Format::Table => text(header, tensors, plain, summary, Style::Terminal),
        Format::Markdown => sweep_markdown(header, tensors, plain, summary),
    })?;
    for lane in summary.missing_lanes(header) {
        tell(&format!(
            "error: lane {lane} is required and did not run on every tensor"
        ));
    }
    Ok(match summary.outcome {
        SweepOutcome::Passed => Outcome::Passed,
        SweepOutcome::Failed => Outcome::GatesFailed,
        SweepOutcome::Broke => Outcome::LaneBroke,
        SweepOutcome::RequiredLaneMissing => Outcome::RequiredLaneMissing,
    })
}
