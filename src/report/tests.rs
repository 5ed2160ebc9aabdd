//! A run by hand in every format.

use super::{Detail, Exporter, Json, Markdown, Page, Table};
use crate::metrics::Values;
use crate::picture::{LaneRows, Picture};
use crate::record::*;
use crate::synthetic::{Rng, ScaleDistribution, tensor};
use crate::tensor::Layout;
use serde_json::Value;
use std::collections::BTreeSet;

mod example;
mod long;

use example::{NAME, checkpoint, diagnosis, failed, run, runs};

fn text(exporter: &dyn Exporter, run: &Run) -> String {
    let mut bytes = Vec::new();
    exporter.export(run, &mut bytes).expect("a vector");
    String::from_utf8(bytes).expect("text")
}

/// Text for a terminal with every paragraph in one line.
fn unfolded(text: &str) -> String {
    text.replace("\n  ", " ")
}

fn lines_of(detail: Detail) -> Table {
    Table {
        detail: Some(detail),
        ..Table::default()
    }
}

#[test]
fn json_is_the_record() {
    let text = text(&Json, &run());
    insta::assert_snapshot!("json", text);
    let again: Run = serde_json::from_str(&text).expect("a report");
    assert_eq!(to_json(&again), text);
}

/// Reports of versions that probed no device.
#[test]
fn lanes_without_arithmetic_are_read() {
    let mut report = serde_json::to_value(run()).expect("plain data");
    for lane in report["tensors"][0]["lanes"].as_array_mut().expect("lanes") {
        let lane = lane.as_object_mut().expect("a lane");
        let probed = lane["name"] == "wgpu";
        for key in ["arithmetic", "warning"] {
            assert_eq!(lane.remove(key).is_some(), probed, "{key}");
        }
    }
    let old: Run = serde_json::from_value(report).expect("a report");
    let lanes = &old.tensors[0].lanes;
    assert!(
        lanes
            .iter()
            .all(|l| l.arithmetic.is_none() && l.warning.is_none())
    );
}

#[test]
fn tables_tell_of_few_tensors_one_by_one_and_of_many_in_lines() {
    let [one, many] = runs();
    let few = text(&Table::default(), &run());
    insta::assert_snapshot!("table", few);
    for part in ["NOT RUN", "identical", "FAIL"] {
        assert!(text(&Table::default(), &one).contains(part), "{part}");
    }
    let lines = text(&Table::default(), &many);
    assert_eq!(lines.matches("BAD INPUT").count(), 12);
    insta::assert_snapshot!("table_lines", text(&lines_of(Detail::Lines), &run()));
    for text in [&few, &lines] {
        assert!(text.contains("cuda_dequant_differs_from_reference ("));
        assert!(!text.contains('\u{1b}'));
    }
}

#[test]
fn markdown_is_narrow_and_escaped() {
    let [one, many] = runs();
    insta::assert_snapshot!("markdown", text(&Markdown::default(), &run()));
    let lines = text(&Markdown::default(), &many);
    assert!(lines.contains("All 36 tensors, worst first"));
    let one = text(&Markdown::default(), &one);
    assert!(one.starts_with(
        "|   |   |\n|---|---|\n| model | model: turboquant, 4 bits, group 128, 3 quantised"
    ));
    assert!(one.contains("\n- \u{2718} **cuda_dequant_differs_from_reference** ("));
    for text in [one, lines] {
        assert!(text.contains("layers.1.&lt;b&gt;\\\\u{1b}\\|x\\|\\*"));
        assert!(!text.contains("<b>") && !text.contains('\u{1b}'));
    }
}

#[test]
fn a_damaged_checkpoint_leads_in_every_form() {
    let whole = run();
    let mut damaged = whole.tensors[0].clone();
    assert!(damaged.error.is_none() && !damaged.failed());
    damaged.checkpoint = Some(CheckpointRecord {
        verdict: CheckpointVerdict::DamagedOrAnotherSource,
        damaged_rows: vec![[8, 9]],
        reason: "rows 8..9 are <far> off".into(),
        ..checkpoint()
    });
    let name = damaged.tensor_base.clone();
    let header = ReportHeader {
        format: whole.format,
        tool: whole.tool,
        model: whole.model,
    };
    let tensors = vec![damaged, failed()];
    let run = Run::new(header, tensors, Vec::new());
    assert_eq!(run.summary.outcome, Outcome::Failed);
    assert_eq!(run.summary.worst_first, [name.as_str(), NAME]);
    let problem = format!(
        "the checkpoint is damaged or the source is another model's: 1 of 2 tensors, {name} first: rows 8..9 are"
    );
    for table in [
        text(&Table::default(), &run),
        text(&lines_of(Detail::Summary), &run),
    ] {
        let said = unfolded(&table);
        assert!(
            said.contains(&format!("decision: FAILED: {problem}")),
            "{table}"
        );
        assert!(
            table.contains("checkpoint: rows 8..9 are <far> off"),
            "{table}"
        );
    }
    let markdown = text(&Markdown::default(), &run);
    assert!(
        markdown.contains(&format!("**FAILED**: {problem}")),
        "{markdown}"
    );
    assert!(
        markdown.contains("> checkpoint: rows 8..9 are &lt;far"),
        "{markdown}"
    );
    let page = text(&Page, &run);
    assert!(
        page.contains(&format!(
            "1 of 2 tensors, {name} first: rows 8..9 are &#60;far"
        )),
        "{page}"
    );
    // Among those that failed, in the table and over its section.
    assert!(page.matches("DAMAGED").count() == 3, "{page}");
}

#[test]
fn the_page_has_every_tensor_worst_first_with_pictures_of_those_that_have_them() {
    let mut run = run();
    let (mut rng, layout) = (Rng::new(1), Layout::new(4, 128).expect("a layout"));
    let weight = tensor(&mut rng, layout, 2, 256, ScaleDistribution::Usual).expect("whole groups");
    let lanes = [LaneName::Source, LaneName::Reference, LaneName::Cuda];
    let values = vec![0.5f32; weight.elements()];
    let columns = LaneRows {
        row_start: 8,
        lanes: lanes.map(|l| (l, Values::F32(&values))).into(),
        tolerance: None,
    };
    let picture = Picture::new(&weight, &columns, &[&diagnosis().diagnosis]);
    let name = |t: &TensorRecord| t.tensor_base == NAME;
    let t = run.tensors.iter_mut().find(|t| name(t)).expect("it");
    t.picture = Some(Box::new(picture.clone()));
    let verbose = Table {
        pictures: true,
        ..Table::default()
    };
    let told = text(&verbose, &run);
    assert!(told.contains("cuda vs reference: error by row and group"));
    assert!(told.contains("cuda: row 9, group 0: 2 of its 2 elements, furthest off first"));
    assert!(told.contains("NaN or infinity"));

    let page = text(&Page, &run);
    assert!(!page.contains("<b>") && !page.contains('\u{1b}'));
    let options = roxmltree::ParsingOptions {
        allow_dtd: true,
        ..Default::default()
    };
    let document = roxmltree::Document::parse_with_options(&page, options).expect("XML");
    let of = |tag: &str| -> Vec<String> {
        let nodes = document.descendants().filter(|n| n.has_tag_name(tag));
        let names = nodes.filter_map(|n| n.attribute("data-tensor"));
        names.map(String::from).collect()
    };
    let order = ["layers.2.bad", "layers.1.<b>\\u{1b}|x|*", "layers.0.good"];
    assert_eq!(of("tr"), order);
    assert_eq!(of("section"), order);
    for t in &run.tensors {
        for d in &t.decisions {
            assert!(page.contains(&d.published()), "{d:?}");
        }
    }
    for words in [
        "BAD INPUT",
        "3 bytes found (a\\nfile); copy it again",
        "rows 9..10: zeros",
    ] {
        assert!(page.contains(words), "{words}");
    }
    assert!(page.contains("(software); warning: the driver changes sums even"));
    // Two panels of the lanes' error by projection, one of the source's, which is not finite for the other; the map and the group; the fault's two pairs; of the lane the
    // scatter alone, of the source three charts; the codes' two.
    let drawings = document
        .descendants()
        .filter(|n| n.attribute("role") == Some("img"));
    let labels: Vec<_> = drawings.map(|n| n.attribute("aria-label")).collect();
    assert_eq!(labels.len(), 2 + 1 + 3 + 4 + 1 + 3 + 2, "{labels:#?}");
}

/// Every key in a value, however deep.
fn keys(value: &Value, into: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                into.insert(key.clone());
                keys(value, into);
            }
        }
        Value::Array(list) => list.iter().for_each(|v| keys(v, into)),
        _ => {}
    }
}

#[test]
fn every_key_of_the_json_is_documented() {
    let run = run();
    let mut all = BTreeSet::new();
    keys(&serde_json::to_value(&run).expect("plain data"), &mut all);
    // `against` stands only where a lane is not held to the reference; `record` only in lines.
    let pair = Decision {
        rhs: LaneName::Cuda,
        ..run.tensors[0].decisions[0].clone()
    };
    keys(&serde_json::to_value(pair).expect("plain data"), &mut all);
    let line = Record::Plain(run.plain[0].clone()).to_line();
    keys(&serde_json::from_str(&line).expect("JSON"), &mut all);
    assert!(all.len() > 100, "{}", all.len());
    let text = include_str!("../../docs/report.md");
    let missing: Vec<&String> = all
        .iter()
        .filter(|key| !text.contains(&format!("`{key}`")))
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
}
