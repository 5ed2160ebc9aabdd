//! The page of a benchmark beside its JSON.

use crate::support::cli::unfolded;
use crate::support::{page, pages};
use serde_json::Value;
use tq4::record::bench::Bench;
use tq4::report::{Screen, Style, bench_page, bench_text};

#[test]
fn a_bench_page_opens_with_the_baseline_and_holds_the_figures_of_its_json() {
    let dir = tempfile::tempdir().unwrap();
    pages::write_bench(dir.path());
    let text = std::fs::read_to_string(dir.path().join("bench.html")).unwrap();
    page::check_stands_alone(&text);
    let document = page::parse(&text);
    let record = std::fs::read(dir.path().join("bench.json")).unwrap();
    let record: Value = serde_json::from_slice(&record).unwrap();
    let mut speeds = 0;
    for shape in record["shapes"].as_array().unwrap() {
        let section = page::find(document.root(), |n| {
            n.attribute("data-shape") == shape["name"].as_str()
        })
        .unwrap();
        for lane in shape["lanes"].as_array().unwrap() {
            let times = lane["times"].as_object();
            let words = [
                ("copy", "copy"),
                ("kernel_cold", "kernel, cold"),
                ("kernel_warm", "kernel, warm"),
                ("end_to_end", "end to end"),
            ];
            for (key, words) in words {
                let row = page::find(section, |n| {
                    n.attribute("data-lane") == lane["lane"].as_str()
                        && n.attribute("data-measure") == Some(words)
                });
                // A lane that is wrong has no speed, here as in the record.
                assert_eq!(row.is_some(), times.is_some());
                let (Some(row), Some(times)) = (row, times) else {
                    continue;
                };
                for figure in [
                    "percent_of_copy",
                    "gb_per_s",
                    "elements_per_s",
                    "median_s",
                    "mad_s",
                ] {
                    let (full, shown) = page::figure(row, figure).unwrap();
                    assert_eq!(full, times[key][figure].to_string(), "{key} {figure}");
                    if full != "null" {
                        let [shown, full] = [shown, full].map(|v| v.parse::<f64>().unwrap());
                        // At least two digits, of a wide interval.
                        assert!((shown - full).abs() <= 0.05 * full, "{shown} for {full}");
                    }
                }
                speeds += 1;
            }
        }
    }
    assert_eq!(speeds, (3 + 2) * 4);

    // What changed stands before all figures, the slower speed first, as a factor.
    let header = page::find(document.root(), |n| n.has_tag_name("header")).unwrap();
    let all = page::text(header);
    let outcome = all.find("slower Against the baseline, of 20 speeds: 1 slower, ");
    assert!(outcome.is_some(), "{all}");
    let changes = record["comparison"]["changes"].as_array().unwrap();
    let slower = changes.iter().find(|c| c["outcome"] == "slower").unwrap();
    let row = page::find(header, |n| {
        n.has_tag_name("tr") && n.parent().is_some_and(|p| p.has_tag_name("tbody"))
    });
    let row = row.unwrap();
    let (full, _) = page::figure(row, "speed_ratio").unwrap();
    assert_eq!(full, slower["speed_ratio"].to_string());
    assert!(
        page::text(row).contains(" times slower ("),
        "{}",
        page::text(row)
    );
    assert!(
        all.contains("1 faster") && all.contains(" times faster ("),
        "{all}"
    );
}

#[test]
fn a_decode_that_is_faster_than_the_copy_says_why() {
    let dir = tempfile::tempdir().unwrap();
    pages::write_bench(dir.path());
    let mut record = Bench::read(&dir.path().join("bench.json")).unwrap();
    let mut told = |percent: f64| {
        for lane in record.shapes.iter_mut().flat_map(|s| &mut s.lanes) {
            if let Some(times) = &mut lane.times {
                times.kernel_cold.percent_of_copy = Some(percent);
            }
        }
        let style = Style::Terminal(Screen::default());
        [bench_text(&record, style), bench_page(&record)].map(|t| unfolded(&t))
    };
    let why = "over 100 % of the copy: the copy goes to memory and back";
    for text in told(120.0) {
        assert!(text.contains(&format!("reference, wgpu {why}")), "{text}");
    }
    for text in told(99.0) {
        assert!(!text.contains(why), "{text}");
    }
}
