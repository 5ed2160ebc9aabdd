//! The page of many tensors: its size, and the marks of those that failed.

use crate::support::cli::{self, Model};
use crate::support::page;
use tq4::journal::Contents;
use tq4::judge::gate::decide_pair;
use tq4::record::{LaneName, Run};
use tq4::report::{Exporter, Page};

#[test]
fn a_sweep_of_300_tensors_stays_under_3_megabytes() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    Model::valid().write(&path("model"));
    Model::source().write(&path("source"));
    let run = |more: &[&str]| {
        let (model, source) = (path("model"), path("source"));
        let mut args = vec![
            "validate",
            "--tq-model",
            model.to_str().unwrap(),
            "--source-model",
        ];
        args.extend([
            source.to_str().unwrap(),
            "--lanes",
            "reference",
            "--all",
            "--report",
        ]);
        args.extend(more);
        let out = cli::tq4(&args);
        assert!(out.status.success(), "{}", cli::stderr(&out));
    };
    let lines = path("sweep.jsonl");
    run(&[lines.to_str().unwrap()]);
    let contents = Contents::read(&lines).unwrap().unwrap();
    let first = &contents.tensors[0];
    // Two kernel lanes with the figures of a real comparison, in which elements differ.
    let tensors: Vec<_> = (0..300)
        .map(|i| {
            let mut t = first.clone();
            t.tensor_base = format!("model.language_model.layers.{}.mlp.proj_{}", i / 10, i % 10);
            for lane in [LaneName::Cuda, "wgpu".into()] {
                let figures = |rhs| {
                    let mut m = first.metrics[0].clone();
                    (m.lhs, m.rhs) = (lane.clone(), rhs);
                    m
                };
                let mut m = figures(LaneName::Reference);
                // One lane's output has a NaN: its error has no height.
                if i == 0 {
                    m.rmse_over_rhs_rms = f64::NAN;
                }
                t.decisions.retain(|d| d.lane != lane);
                t.decisions.push(decide_pair(lane.clone(), &m, None));
                t.metrics.extend([figures(LaneName::Source), m]);
            }
            t
        })
        .collect();
    let mut header = contents.header.clone();
    header.model.tensors = tensors.iter().map(|t| t.tensor_base.clone()).collect();
    let mut text = Vec::new();
    let report = Run::new(header, tensors, Vec::new());
    Page.export(&report, &mut text).unwrap();
    let text = String::from_utf8(text).unwrap();
    page::check_stands_alone(&text);
    let document = page::parse(&text);
    let rows = document
        .descendants()
        .filter(|n| n.has_tag_name("tr") && n.attribute("data-tensor").is_some());
    assert_eq!(rows.count(), 300);
    let marks = document
        .descendants()
        .filter(|n| n.has_tag_name("svg") && n.attribute("role").is_some());
    let crosses: usize = marks
        .map(|svg| {
            svg.descendants()
                .filter(|n| n.attribute("stroke") == Some("var(--fail)"))
                .count()
        })
        .sum();
    // A cross is two lines, in the plots of either error.
    assert_eq!(crosses, 2 * (300 + 299));
    assert!(text.contains("without a finite one, and in the table only: 1<"));

    // The same from `validate` itself, with pictures of the worst.
    let page_of = path("page.html");
    let report = path("r.json");
    run(&[
        report.to_str().unwrap(),
        "--html",
        page_of.to_str().unwrap(),
        "--format",
        "json",
    ]);
    page::check_stands_alone(&std::fs::read_to_string(page_of).unwrap());
}
