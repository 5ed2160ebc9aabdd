//! What a page says and draws first: of a lost tile, a permutation, the sign bug, a damaged checkpoint, a pass.

use crate::support::{cases, page};
use base64::Engine as _;
use roxmltree::{Document, Node};

/// Cells of a mask, row-major: how strongly each is drawn, 0 to 255.
struct Mask {
    cols: usize,
    grey: Vec<u8>,
}

impl Mask {
    fn read(image: Node<'_, '_>) -> Self {
        let data = image.attribute("href").unwrap();
        let data = data.strip_prefix("data:image/png;base64,").unwrap();
        let data = base64::engine::general_purpose::STANDARD.decode(data);
        let decoder = png::Decoder::new(std::io::Cursor::new(data.unwrap()));
        let mut reader = decoder.read_info().unwrap();
        let mut grey = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut grey).unwrap();
        assert_eq!(info.color_type, png::ColorType::Grayscale);
        Self {
            cols: info.width as usize,
            grey,
        }
    }

    /// Row and column of every cell that is drawn.
    fn cells(&self) -> Vec<(usize, usize)> {
        let drawn = self.grey.iter().enumerate().filter(|(_, g)| **g > 0);
        drawn
            .map(|(at, _)| (at / self.cols, at % self.cols))
            .collect()
    }
}

/// The masks of a figure, each with the colour that it lets through.
fn masks(figure: Node<'_, '_>) -> Vec<(String, Mask)> {
    let fills = figure
        .descendants()
        .filter(|n| n.attribute("mask").is_some());
    let images = figure.descendants().filter(|n| n.has_tag_name("image"));
    let colours = fills.map(|n| n.attribute("fill").unwrap().to_owned());
    colours.zip(images.map(Mask::read)).collect()
}

fn figures<'a>(document: &'a Document<'a>) -> Vec<(String, Node<'a, 'a>)> {
    let figures = document.descendants().filter(|n| n.has_tag_name("figure"));
    figures
        .map(|f| {
            let title = f.children().find(|n| n.has_tag_name("h4")).unwrap();
            (page::text(title), f)
        })
        .collect()
}

/// The figure whose title holds these words.
fn figure<'a>(document: &'a Document<'a>, words: &str) -> Node<'a, 'a> {
    let mut all = figures(document).into_iter();
    let found = all.find(|(title, _)| title.contains(words));
    found.unwrap_or_else(|| panic!("no figure {words}")).1
}

/// What a screen reader says of a figure.
fn label<'a>(figure: Node<'a, 'a>) -> &'a str {
    let svg = figure.children().find(|n| n.has_tag_name("svg"));
    svg.unwrap().attribute("aria-label").unwrap()
}

/// Cells beyond the limit, and cells in all.
fn beyond(figure: Node<'_, '_>) -> [usize; 2] {
    ["data-beyond", "data-cells"].map(|a| figure.attribute(a).unwrap().parse().unwrap())
}

/// The text of the page's head: all that stands before its first figure.
fn head(document: &Document<'_>) -> String {
    let first = document.descendants().find(|n| n.has_tag_name("figure"));
    let end = first.unwrap().range().start;
    let body = page::find(document.root(), |n| n.has_tag_name("body")).unwrap();
    let texts = body
        .descendants()
        .filter(|n| n.is_text() && n.range().end <= end);
    texts.filter_map(|n| n.text()).collect()
}

const MAP: &str = "mine vs reference: error by row and group";

#[test]
fn each_page_opens_with_what_is_wrong_and_where() {
    let dir = tempfile::tempdir().unwrap();
    for name in cases::write_all(dir.path()) {
        let text = std::fs::read_to_string(dir.path().join(format!("{name}.html"))).unwrap();
        page::check_stands_alone(&text);
        let document = page::parse(&text);
        let all = page::text(document.root());
        // The lanes that were not asked for are not spoken of.
        for absent in ["not asked for", "cuda", "wgpu", "skipped"] {
            assert!(!all.contains(absent), "{name}: {absent}");
        }
        match name {
            "tile" => tile(&document),
            "swap" => swap(&document),
            "sign" => sign(&document),
            "pass" => pass(&document),
            _ => damaged(&document),
        }
    }
}

fn fails(document: &Document<'_>, fault: &str) {
    let head = head(document);
    let (lane, what) = (head.find("FAIL mine").unwrap(), head.find(fault));
    assert!(what.is_some_and(|at| at > lane), "{fault} in {head}");
    let first: Vec<String> = figures(document).into_iter().map(|f| f.0).collect();
    assert_eq!(first[0], MAP);
    assert!(first[1].starts_with("mine: row ") && first[1].ends_with(", expected and got"));
    assert!(first[2].starts_with("mine: row ") && first[2].ends_with(", got[i] = expected[j]"));
}

fn tile(document: &Document<'_>) {
    fails(document, "rows 8 to 39, all groups, zero");
    let map = figure(document, MAP);
    assert_eq!(beyond(map), [cases::LOST.len() * 4, cases::ROWS * 4]);
    assert!(label(map).contains("128 of 192 cells beyond the limit"));
    let masks = masks(map);
    let colours: Vec<&str> = masks.iter().map(|(colour, _)| &**colour).collect();
    assert_eq!(colours, ["var(--heat)", "var(--fail)"]);
    let (calm, wrong) = (&masks[0].1, masks[1].1.cells());
    let rows: Vec<usize> = wrong.iter().map(|(row, _)| *row).collect();
    assert!(rows.iter().all(|row| cases::LOST.contains(row)));
    assert_eq!(rows.len(), beyond(map)[0]);
    assert_eq!(calm.cells().len() + rows.len(), beyond(map)[1]);
    // Zeros are no evidence of where an output comes from.
    let matrix = figure(document, "got[i]");
    assert!(label(matrix).contains("128 are left out"));
    assert!(self::masks(matrix).is_empty());
}

fn swap(document: &Document<'_>) {
    fails(document, "output_pairs_swapped");
    let matrix = figure(document, "got[i]");
    let words = label(matrix);
    assert!(
        words.contains("0 of 128 outputs equal their own expected value, 128 equal the"),
        "{words}"
    );
    let masks = masks(matrix);
    assert_eq!(masks[0].0, "var(--data)");
    let same = masks[0].1.cells();
    assert_eq!(masks[0].1.cols, 128);
    // The line of a permutation, with few cells beside it that are equal by chance.
    assert!((0..128).all(|i| same.contains(&(i, i ^ 1))));
    assert!(same.len() < 128 + 40, "{}", same.len());
    assert!(!(0..128).any(|i| same.contains(&(i, i))));
}

fn sign(document: &Document<'_>) {
    fails(document, "fwht_upper_lane_sign");
    let matrix = figure(document, "got[i]");
    let words = label(matrix);
    assert!(
        words.contains("64 of 128 outputs equal their own"),
        "{words}"
    );
    assert!(
        words.contains("64 equal one with the other sign"),
        "{words}"
    );
    // Outputs of an odd number of upper lanes have the wrong sign.
    for (colour, mask) in masks(matrix) {
        let odd = colour == "var(--fail)";
        let own = mask.cells().into_iter().filter(|(i, j)| i == j);
        let own: Vec<usize> = own.map(|(i, _)| i).collect();
        assert_eq!(own.len(), 64, "{colour}");
        assert!(own.iter().all(|i| (i.count_ones() % 2 == 1) == odd));
    }
}

fn pass(document: &Document<'_>) {
    let head = head(document);
    assert!(head.contains("pass") && !head.contains("FAIL"), "{head}");
    let all = figures(document);
    assert_eq!(all[0].0, MAP);
    let mut maps = 0;
    for (title, figure) in all {
        if figure.attribute("data-cells").is_none() {
            continue;
        }
        maps += 1;
        assert_eq!(beyond(figure)[0], 0, "{title}");
        assert!(label(figure).contains("0 of "), "{title}");
        let masks = masks(figure);
        assert_eq!(masks.len(), 1, "{title}");
        // Pale: a quarter of the colour at most.
        assert!(masks[0].1.grey.iter().all(|g| *g < 64), "{title}");
    }
    // By group and by position, and by group against the source.
    assert_eq!(maps, 3);
}

fn damaged(document: &Document<'_>) {
    let head = head(document);
    let wrong = head.find("the checkpoint is damaged").unwrap();
    let named = head.find("DAMAGED").unwrap();
    assert!(
        wrong < named && head[named..].contains(cases::BASE),
        "{head}"
    );
    assert!(head.contains("checkpoint damaged"), "{head}");
    // Its mark in the plots is of its own shape and colour, and only it has one.
    let marks = document.descendants().filter(|n| n.has_tag_name("polygon"));
    let fills: Vec<_> = marks.filter_map(|n| n.attribute("fill")).collect();
    assert_eq!(fills, ["var(--model)"]);
    let first = |base: &str| {
        let section = page::section(document, base);
        page::find(section, |n| n.has_tag_name("figure")).unwrap()
    };
    let [wrong, cells] = beyond(first(cases::BASE));
    assert_eq!([wrong, cells], [cells, cases::ROWS * 4]);
    let [wrong, _] = beyond(first("model.layers.1.self_attn.q_proj"));
    assert_eq!(wrong, 0);
}
