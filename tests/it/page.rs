//! The page, the Markdown and the JSON of one run hold the same figures.

use crate::support::cli::{self, Model};
use crate::support::{page, pages};
use serde_json::Value;
use std::path::Path;

/// The three forms of one run, the JSON that of its tensor, over a tensor whose CUDA output has the sign bug.
struct Forms {
    json: Value,
    page: String,
    markdown: String,
}

/// A model, its source and a recording with the sign bug, one element of it NaN.
fn arguments(dir: &Path) -> Vec<String> {
    let (model, source) = (dir.join("model"), dir.join("source"));
    Model::valid().write(&model);
    Model::source().write(&source);
    let bug = |file: &str, nan| {
        let path = dir.join(file);
        pages::write_bug(&model, "a.gate_proj", &path, nan);
        path.display().to_string()
    };
    let (wrong, nan) = (bug("dump.json", None), bug("nan.json", Some(77)));
    [
        "validate",
        "--tq-model",
        model.to_str().unwrap(),
        "--source-model",
        source.to_str().unwrap(),
        "--tensor-base",
        "a.gate_proj",
        "--lanes",
        "reference",
        "--recording",
        &format!("cuda={wrong}"),
        "--recording",
        &format!("<b>mine</b>={nan}"),
    ]
    .map(String::from)
    .into()
}

fn forms() -> Forms {
    let dir = tempfile::tempdir().unwrap();
    let (json, html) = (dir.path().join("r.json"), dir.path().join("r.html"));
    let out = assert_cmd::Command::cargo_bin("tq4")
        .unwrap()
        .args(arguments(dir.path()))
        .args(["--format", "markdown"])
        .args(["--report".as_ref(), json.as_os_str()])
        .args(["--html".as_ref(), html.as_os_str()])
        .output()
        .unwrap();
    assert_eq!(out.status.code(), Some(1), "{}", cli::stderr(&out));
    Forms {
        json: self::json(&json)["tensors"][0].take(),
        page: std::fs::read_to_string(html).unwrap(),
        markdown: cli::stdout(&out),
    }
}

/// Whether `shown` is `full` as people read it: rounded.
fn rounds(shown: &str, full: &str) -> bool {
    if full == "null" {
        return shown == "NaN";
    }
    if let Some(word) = full.strip_prefix('"') {
        return word.strip_suffix('"') == Some(shown);
    }
    let (shown, full): (f64, f64) = (shown.parse().unwrap(), full.parse().unwrap());
    (shown - full).abs() <= 5.001e-6 || (shown - full).abs() <= 5.001e-3 * full.abs()
}

#[test]
fn page_markdown_and_json_hold_the_same_figures() {
    let forms = forms();
    let document = page::parse(&forms.page);
    let section = page::section(&document, "a.gate_proj");
    let metrics = forms.json["metrics"].as_array().unwrap();
    assert_eq!(metrics.len(), 6);
    let mut checked = 0;
    for m in metrics {
        let (lhs, rhs) = (m["lhs"].as_str().unwrap(), m["rhs"].as_str().unwrap());
        let name = |n: &str| n.replace("_dequant", "").replace("bf16_source", "source");
        let title = format!("{} vs {}", name(lhs), name(rhs));
        let escaped = title.replace('<', "&lt;").replace('>', "&gt;");
        let from = forms
            .markdown
            .find(&format!("Every figure of {escaped}<"))
            .unwrap_or_else(|| panic!("{title} is not in the Markdown"));
        let folded =
            &forms.markdown[from..from + forms.markdown[from..].find("</details>").unwrap()];
        for (key, value) in m.as_object().unwrap() {
            // Of one strip, whose quantiles are exact and not marked.
            if ["lhs", "rhs", "quantiles"].contains(&key.as_str()) {
                continue;
            }
            let full = value.to_string();
            let cells: Vec<_> = section
                .descendants()
                .filter(|n| {
                    let of = |a| {
                        n.attribute(a)
                            .or(n.parent_element().and_then(|p| p.attribute(a)))
                    };
                    n.attribute("data-figure") == Some(key)
                        && of("data-lhs") == Some(lhs)
                        && of("data-rhs") == Some(rhs)
                })
                .collect();
            assert!(!cells.is_empty(), "{title}: {key} is not on the page");
            for cell in cells {
                assert_eq!(
                    cell.attribute("data-value"),
                    Some(full.as_str()),
                    "{title} {key}"
                );
                let shown = page::text(cell);
                assert!(rounds(&shown, &full), "{title} {key}: {shown} for {full}");
                checked += 1;
            }
            assert!(
                folded.contains(&format!("| {key} | {full} |")),
                "{title}: {key} {full} in {folded}"
            );
        }
    }
    // Every key once in the folded table, four of them in the one above as well; of the source, which no decoder
    // gives back, two.
    assert_eq!(checked, 6 * 20 + 3 * 4 + 3 * 2);
    // Elements that differ are a count, here as in a terminal.
    let row = page::find(section, |n| {
        n.attribute("data-lhs") == Some("cuda_dequant")
            && n.attribute("data-rhs") == Some("reference_dequant")
            && n.has_tag_name("tr")
    });
    let (full, shown) = page::figure(row.unwrap(), "differ").unwrap();
    assert_eq!(shown, format!("{full} of {}", metrics[0]["elements"]));
    assert!(
        page::text(section)
            .contains("rounding to BF16 alone gives about 0.0017, which is no fault")
    );
}

#[test]
fn verdicts_gates_and_diagnosis_agree() {
    let forms = forms();
    let document = page::parse(&forms.page);
    let all = page::text(document.root());
    for d in forms.json["decisions"].as_array().unwrap() {
        let decision = d["decision"].as_str().unwrap();
        let lane = d["lane"].as_str().unwrap();
        if d["reason"] == "not asked for" {
            assert!(!all.contains(decision), "{decision}");
            assert!(!forms.markdown.contains(decision), "{decision}");
            continue;
        }
        assert!(all.contains(decision), "{decision}");
        let escaped = decision.replace('<', "&lt;").replace('>', "&gt;");
        assert!(forms.markdown.contains(&escaped), "{decision}");
        for g in d["gates"].as_array().unwrap() {
            let gate = page::find(document.root(), |n| {
                n.attribute("data-lane") == Some(lane)
                    && n.attribute("data-gate") == g["name"].as_str()
            })
            .unwrap();
            let (full, _) = page::figure(gate, "value").unwrap();
            assert_eq!(full, g["value"].to_string());
            let word = if g["passed"] == true { "pass" } else { "FAIL" };
            assert!(page::text(gate).contains(word));
            assert!(
                forms
                    .markdown
                    .contains(&format!("| {} | {full} |", g["name"].as_str().unwrap()))
            );
        }
    }
    let diagnosis = &forms.json["diagnosis"][0];
    assert_eq!(diagnosis["faults"][0]["name"], "fwht_upper_lane_sign");
    // Under its title, which is not said again.
    let evidence = diagnosis["evidence"].as_str().unwrap();
    let behind = evidence.strip_prefix("fwht_upper_lane_sign: ").unwrap();
    assert!(all.contains(behind) && !all.contains(evidence), "{all}");
    assert!(all.contains("Emulated: fwht_upper_lane_sign"));
    assert!(forms.markdown.contains("fwht_upper_lane_sign: explains"));
}

#[test]
fn the_page_stands_alone_and_says_more_than_by_colour() {
    let forms = forms();
    page::check_stands_alone(&forms.page);
    let document = page::parse(&forms.page);
    for node in document.descendants() {
        let class = node.attribute("class").unwrap_or_default();
        let words = match class {
            "v pass" => "\u{2714} pass",
            "v fail" => "\u{2718} FAIL",
            "v none" if node.parent().is_some_and(|p| p.has_tag_name("li")) => "\u{25cb} not run",
            _ => continue,
        };
        assert_eq!(page::text(node), words);
    }
    let drawings: Vec<_> = document
        .descendants()
        .filter(|n| n.attribute("role") == Some("img"))
        .collect();
    // Of two lanes the map and two of the group; the fault's two pairs; the scatter of the lane that has them,
    // three charts of the other and of the source; the codebook's two.
    assert_eq!(drawings.len(), 2 * 3 + 4 + 1 + 2 * 3 + 2);
    for d in drawings {
        assert!(!d.attribute("aria-label").unwrap().is_empty());
    }
    assert!(forms.page.contains("&lt;b&gt;mine&lt;/b&gt;"));
    assert!(!forms.page.contains("<b>"));
}

#[test]
fn markdown_is_narrow_and_folded() {
    let forms = forms();
    let mut open = 0;
    // What ran where comes first: words, which go on in the next line.
    assert!(
        forms
            .markdown
            .starts_with("|   |   |\n|---|---|\n| model | ")
    );
    let (facts, rest) = forms.markdown.split_once("\n\n").unwrap();
    for fact in ["\n| system | ", "\n| source | ", "\n| cuda | recorded: "] {
        assert!(facts.contains(fact), "{facts}");
    }
    for line in rest.lines() {
        open += usize::from(line.contains("<details>"));
        open -= usize::from(line.contains("</details>"));
        if line.starts_with('|') {
            let columns = line.matches(" | ").count() + 1;
            assert!(columns <= 6, "{line}");
        }
        if open == 0 && line.starts_with('|') {
            assert!(line.chars().count() <= 90, "{line}");
        }
    }
    assert_eq!(open, 0);
    // What failed is said in the first lines behind it.
    assert!(
        rest.lines()
            .take(4)
            .any(|l| l.starts_with("- \u{2718} **cuda_dequant_differs_from_reference** ("))
    );
    assert!(!forms.markdown.contains("<b>"));
}

#[test]
fn verbose_draws_in_the_terminal() {
    let dir = tempfile::tempdir().unwrap();
    let out = assert_cmd::Command::cargo_bin("tq4")
        .unwrap()
        .args(arguments(dir.path()))
        .arg("-v")
        .env("COLUMNS", "100")
        .output()
        .unwrap();
    let text = cli::stdout(&out);
    assert!(
        text.contains("cuda vs reference: elements by distance in BF16 steps"),
        "{text}"
    );
    assert!(text.contains("cuda vs reference: error by row and group"));
    assert!(text.contains("  16385 to 32768  "));
    assert!(text.contains("  row 5  "), "{text}");
    for line in text
        .lines()
        .filter(|l| !l.starts_with("diagnosis") && !l.starts_with("decision"))
    {
        assert!(line.chars().count() <= 100, "{line}");
    }
}

#[test]
fn a_page_that_cannot_be_written_is_an_error_that_says_where() {
    let dir = tempfile::tempdir().unwrap();
    let out = assert_cmd::Command::cargo_bin("tq4")
        .unwrap()
        .args(arguments(dir.path()))
        .args(["--html", "no/such/dir/page.html"])
        .output()
        .unwrap();
    assert_eq!(out.status.code(), Some(2));
    assert!(
        cli::stderr(&out).contains("no/such/dir"),
        "{}",
        cli::stderr(&out)
    );
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

#[test]
fn pages_of_sweep_and_compare_hold_the_figures_of_their_json() {
    let dir = tempfile::tempdir().unwrap();
    let names = pages::write_all(dir.path());
    let read =
        |name: &str| std::fs::read_to_string(dir.path().join(format!("{name}.html"))).unwrap();
    for name in names {
        page::check_stands_alone(&read(name));
    }

    let text = read("sweep");
    let document = page::parse(&text);
    let lines = std::fs::read_to_string(dir.path().join("sweep.jsonl")).unwrap();
    let records = lines
        .lines()
        .map(|l| serde_json::from_str::<Value>(l).unwrap());
    let mut tensors = 0;
    for r in records.filter(|r| r["record"] == "tensor") {
        let base = r["tensor_base"].as_str().unwrap();
        let row = page::find(document.root(), |n| {
            n.has_tag_name("tr") && n.attribute("data-tensor") == Some(base)
        })
        .unwrap();
        let (full, shown) = page::figure(row, "rmse_over_rhs_rms").unwrap();
        assert_eq!(full, r["metrics"][0]["rmse_over_rhs_rms"].to_string());
        assert!(rounds(&shown, &full));
        let section = page::section(&document, base);
        let (full, _) = page::figure(section, "rel_p999").unwrap();
        assert_eq!(full, r["metrics"][0]["rel_p999"].to_string());
        tensors += 1;
    }
    assert_eq!(tensors, 3);
    let (model, source) = (dir.path().join("demo/tq4"), dir.path().join("demo/source"));
    let out = cli::tq4(&[
        "validate",
        "--all",
        "--tq-model",
        model.to_str().unwrap(),
        "--source-model",
        source.to_str().unwrap(),
        "--lanes",
        "reference",
        "--format",
        "markdown",
    ]);
    let markdown = cli::stdout(&out);
    // No kernel lane ran, and that is not called a pass.
    assert!(
        markdown.contains("\n\u{25cb} not run: no kernel lane ran"),
        "{markdown}"
    );
    // The page's table and the Markdown's in the same order, with the same figures.
    let rows = document
        .descendants()
        .filter(|n| n.has_tag_name("tr") && n.attribute("data-tensor").is_some());
    let lines: Vec<String> = rows
        .map(|row| {
            let (_, shown) = page::figure(row, "rmse_over_rhs_rms").unwrap();
            format!(
                "| {} | \u{25cb} NOT RUN | {shown} |",
                row.attribute("data-tensor").unwrap()
            )
        })
        .collect();
    let at: Vec<usize> = lines
        .iter()
        .map(|l| {
            markdown
                .find(l.as_str())
                .unwrap_or_else(|| panic!("{l} in {markdown}"))
        })
        .collect();
    assert!(at.is_sorted(), "{markdown}");

    let text = read("pairs");
    let document = page::parse(&text);
    let report = json(&dir.path().join("pairs.json"));
    let metrics = &report["tensors"][0]["metrics"][0];
    let row = page::find(page::section(&document, pages::BASE), |n| {
        n.attribute("data-lhs") == metrics["lhs"].as_str()
    })
    .unwrap();
    for key in ["rmse_over_rhs_rms", "max_abs", "rel_p99", "max_ulp"] {
        assert_eq!(page::figure(row, key).unwrap().0, metrics[key].to_string());
    }

    let text = read("compare");
    let document = page::parse(&text);
    let report = json(&dir.path().join("compare.json"));
    let all = page::text(document.root());
    let decisions = report["tensors"][0]["decisions"].as_array().unwrap();
    for d in decisions.iter().filter(|d| d["reason"] != "not asked for") {
        assert!(all.contains(d["decision"].as_str().unwrap()));
    }
}
