//! Pages in a browser: no complaint, nothing fetched, nothing cut off, enough contrast, tables that sort.
//!
//! `TQ4_CHROMIUM` names the browser. Pictures of what it saw lie in `target/tmp/pages`.

use crate::support::chromium::Chromium;
use crate::support::{cases, pages, tool};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// Texts whose contrast with what is behind them is below 4.5 (WCAG AA), and colours of charts below 3.
const LOW_CONTRAST: &str = r##"(() => {
  const rgb = c => { const m = c.match(/[\d.]+/g).map(Number); return m.length === 4 && m[3] === 0 ? null : m; };
  const part = v => { v /= 255; return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; };
  const light = c => 0.2126 * part(c[0]) + 0.7152 * part(c[1]) + 0.0722 * part(c[2]);
  const ratio = (a, b) => { const [l, d] = [light(a), light(b)].sort((x, y) => y - x); return (l + 0.05) / (d + 0.05); };
  const behind = e => { for (; e; e = e.parentElement) { const c = rgb(getComputedStyle(e).backgroundColor); if (c) return c; } return [255, 255, 255]; };
  const low = [];
  for (const e of document.body.querySelectorAll("*")) {
    if (![...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim()) || ["SCRIPT", "STYLE"].includes(e.tagName)) continue;
    const style = getComputedStyle(e);
    const r = ratio(rgb(e.tagName === "text" ? style.fill : style.color), behind(e));
    if (r < 4.5) low.push(e.tagName + " " + e.textContent.slice(0, 40) + " " + r.toFixed(2));
  }
  const probe = document.createElement("i");
  document.body.append(probe);
  for (const v of ["data", "model", "fail", "axis", "heat", "pass", "none"]) {
    probe.style.color = "var(--" + v + ")";
    const r = ratio(rgb(getComputedStyle(probe).color), behind(document.body));
    if (r < 3) low.push(v + " " + r.toFixed(2));
  }
  probe.remove();
  return low;
})()"##;

/// Texts of charts that stick out of their chart, that lie on another, or that are too small to read.
const BAD_LABELS: &str = r##"(() => {
  const bad = [];
  for (const svg of document.querySelectorAll("svg[role=img]")) {
    const frame = svg.getBoundingClientRect();
    const texts = [...svg.querySelectorAll("text")].map(t => [t, t.getBoundingClientRect()]);
    texts.forEach(([t, b], i) => {
      const what = svg.getAttribute("aria-label").slice(0, 60) + ": " + t.textContent;
      if (b.left < frame.left - 1 || b.right > frame.right + 1 || b.top < frame.top - 1 || b.bottom > frame.bottom + 1)
        bad.push("cut off: " + what);
      if (Math.min(b.width, b.height) < 7 && t.textContent.length > 1) bad.push("small: " + what);
      for (const [u, c] of texts.slice(i + 1))
        if (b.left < c.right - 1 && c.left < b.right - 1 && b.top < c.bottom - 2 && c.top < b.bottom - 2)
          bad.push("overlap: " + what + " / " + u.textContent);
    });
  }
  return bad;
})()"##;

/// Clicks every head of every sorting table twice, and says where the order is wrong.
const SORTING: &str = r##"(() => {
  const wrong = [];
  let clicks = 0;
  for (const table of document.querySelectorAll("table.sorts")) {
    [...table.tHead.rows[0].cells].forEach((head, column) => {
      for (const direction of ["descending", "ascending"]) {
        head.querySelector("button").click();
        clicks++;
        if (head.getAttribute("aria-sort") !== direction) wrong.push(head.textContent + " " + head.getAttribute("aria-sort"));
        const cells = [...table.tBodies[0].rows].map(r => r.cells[column]);
        const numbers = cells.map(c => c.dataset.value === undefined ? c.textContent.trim() : c.dataset.value).filter(v => v !== "");
        for (let i = 1; i < numbers.length; i++) {
          const [a, b] = [numbers[i - 1], numbers[i]].map(v => v === "null" ? Infinity : Number(v));
          if (isNaN(a) || isNaN(b)) continue;
          if (direction === "descending" ? a < b : a > b) wrong.push(head.textContent + ": " + numbers.join());
        }
      }
    });
  }
  return { wrong, clicks };
})()"##;

/// Tables that are wider than their box and do not show that they go on.
const UNSEEN: &str = r##"[...document.querySelectorAll(".wide")].filter(w =>
  w.scrollWidth > w.clientWidth + 1 && !getComputedStyle(w).backgroundImage.includes("gradient")).map(w => w.textContent.slice(0, 40))"##;

/// Where the verdict, the fault and the first map stand, and the colours of what is wrong and of the page.
const FIRST: &str = r##"(() => {
  const bottom = e => e.getBoundingClientRect().bottom;
  const map = document.querySelector("figure");
  // The frame of the plot: what the calm cells are drawn in.
  const plot = map.querySelector("rect[mask]").getBoundingClientRect();
  const probe = document.createElement("i");
  document.body.append(probe);
  probe.style.color = "var(--fail)";
  const fail = getComputedStyle(probe).color.match(/\d+/g).map(Number);
  probe.remove();
  return { verdict: bottom(document.querySelector("ul.verdicts .v")), fault: bottom(document.querySelector(".fault") || map),
    map: bottom(map), plot: [plot.left, plot.top, plot.width, plot.height], fail };
})()"##;

/// The browser, where there is one.
fn browser(what: &str) -> Option<PathBuf> {
    let how = "name a Chromium in TQ4_CHROMIUM (Debian: chromium)";
    tool("TQ4_CHROMIUM", what, how)
}

/// The folder for pictures of pages.
fn shots() -> PathBuf {
    let shots = Path::new(env!("CARGO_TARGET_TMPDIR")).join("pages");
    std::fs::create_dir_all(&shots).unwrap();
    shots
}

#[test]
fn pages_in_a_browser() {
    let Some(path) = browser("pages in a browser") else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let shots = shots();
    let mut browser = Chromium::start(&path);
    for name in pages::write_all(dir.path()) {
        let page = dir.path().join(format!("{name}.html"));
        for width in [1280, 390] {
            for scheme in ["light", "dark"] {
                let at = format!("{name} at {width}, {scheme}");
                browser.open(&page, width, scheme);
                browser.evaluate(
                    "document.querySelectorAll('details').forEach(d => { d.open = true; })",
                );
                let scroll = browser.evaluate("document.documentElement.scrollWidth");
                assert!(
                    scroll.as_u64().unwrap() <= width.into(),
                    "{at}: {scroll} wide"
                );
                for check in [LOW_CONTRAST, BAD_LABELS, UNSEEN] {
                    let found = browser.evaluate(check);
                    assert_eq!(found, json!([]), "{at}");
                }
                let shot = browser.screenshot(width);
                std::fs::write(shots.join(format!("{name}-{width}-{scheme}.png")), shot).unwrap();
            }
        }
        let sorting = browser.evaluate(SORTING);
        assert_eq!(sorting["wrong"], json!([]), "{name}");
        // Two recordings of one tensor without its codes: no other tensors, no picture, nothing to sort.
        let clicks = sorting["clicks"].as_u64().unwrap();
        assert_eq!(clicks > 0, name != "pairs", "{name}");
        // In print every colour is that of the light scheme, whatever the screen's.
        browser.call("Emulation.setEmulatedMedia", json!({"media": "print"}));
        let printed = browser.evaluate("getComputedStyle(document.body).backgroundColor");
        assert_eq!(printed, "rgb(255, 255, 255)", "{name}");
    }
    assert_eq!(browser.complaints(), Vec::<String>::new());
    assert_eq!(browser.requests_outside(), Vec::<String>::new());
}

/// Rows of a picture in which what is wrong is drawn in its full colour, as parts of the plot's height.
fn red_rows(shot: &[u8], first: &Value) -> Vec<f64> {
    let decoder = png::Decoder::new(std::io::Cursor::new(shot));
    let mut reader = decoder.read_info().unwrap();
    let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
    let info = reader.next_frame(&mut pixels).unwrap();
    let number = |v: &Value| v.as_f64().unwrap();
    let [left, top, width, height] = [0, 1, 2, 3].map(|i| number(&first["plot"][i]));
    let fail = [0, 1, 2].map(|i| number(&first["fail"][i]));
    let channels = info.color_type.samples();
    let red = |x: usize, y: usize| {
        let at = &pixels[y * info.line_size + x * channels..];
        (0..3).all(|i| (f64::from(at[i]) - fail[i]).abs() < 24.0)
    };
    // The middle of the first group, and half a pixel inside the plot.
    let x = (left + width / 16.0) as usize;
    let rows = (top as usize + 2)..((top + height) as usize - 2);
    let found = rows.filter(|y| red(x, *y));
    found.map(|y| (y as f64 - top) / height).collect()
}

#[test]
fn the_first_screen_says_what_is_wrong_and_where() {
    let Some(path) = browser("the first screen of pages") else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let shots = shots();
    let mut browser = Chromium::start(&path);
    for name in cases::write_all(dir.path()) {
        let page = dir.path().join(format!("{name}.html"));
        for (width, scheme) in [
            (1280, "light"),
            (1280, "dark"),
            (390, "light"),
            (390, "dark"),
        ] {
            let at = format!("{name} at {width}, {scheme}");
            browser.open(&page, width, scheme);
            for check in [LOW_CONTRAST, BAD_LABELS, UNSEEN] {
                assert_eq!(browser.evaluate(check), json!([]), "{at}");
            }
            let scroll = browser.evaluate("document.documentElement.scrollWidth");
            assert!(scroll.as_u64().unwrap() <= width.into(), "{at}: {scroll}");
            let shot = browser.screenshot(width);
            std::fs::write(shots.join(format!("{name}-{width}-{scheme}.png")), &shot).unwrap();
            // A sweep opens with its tensors; the others are pages of one.
            if name == "damaged" {
                continue;
            }
            let first = browser.evaluate(FIRST);
            let bottom = |what: &str| first[what].as_f64().unwrap();
            assert!(bottom("verdict") < 300.0, "{at}: {first}");
            assert!(bottom("fault") < 800.0, "{at}: {first}");
            if width == 1280 {
                assert!(bottom("map") < 800.0, "{at}: {first}");
            }
            let red = red_rows(&shot, &first);
            let rows = cases::LOST.start as f64..cases::LOST.end as f64;
            match name {
                "pass" => assert!(red.is_empty(), "{at}: {red:?}"),
                "tile" => {
                    let at_row = |part: f64| part * cases::ROWS as f64;
                    let outside =
                        |part: &&f64| !(rows.start - 1.0..rows.end + 1.0).contains(&at_row(**part));
                    assert_eq!(red.iter().find(outside), None, "{at}");
                    assert!(at_row(red[red.len() - 1] - red[0]) > 30.0, "{at}");
                }
                _ => assert!(red[0] < 0.05 && red[red.len() - 1] > 0.95, "{at}"),
            }
        }
    }
    assert_eq!(browser.complaints(), Vec::<String>::new());
    assert_eq!(browser.requests_outside(), Vec::<String>::new());
}
