//! Reading a page: its figures, and whether it stands by itself.

use roxmltree::{Document, Node, ParsingOptions};

/// Parses a page, which is well-formed XML as well as HTML.
pub fn parse(page: &str) -> Document<'_> {
    let options = ParsingOptions {
        allow_dtd: true,
        ..Default::default()
    };
    Document::parse_with_options(page, options).unwrap_or_else(|e| panic!("not well-formed: {e}"))
}

/// The first element for which `of` holds.
pub fn find<'a>(root: Node<'a, 'a>, of: impl Fn(&Node<'_, '_>) -> bool) -> Option<Node<'a, 'a>> {
    root.descendants().find(|n| n.is_element() && of(n))
}

/// All text under a node.
pub fn text(node: Node<'_, '_>) -> String {
    node.descendants()
        .filter(Node::is_text)
        .filter_map(|n| n.text())
        .collect()
}

/// The full value and the text of the figure with this key.
pub fn figure(root: Node<'_, '_>, key: &str) -> Option<(String, String)> {
    let node = root
        .descendants()
        .find(|n| n.attribute("data-figure") == Some(key))?;
    Some((node.attribute("data-value")?.to_owned(), text(node)))
}

/// Fails when the page names anything outside itself, holds an id twice, or points to one that is not
/// there.
pub fn check_stands_alone(page: &str) {
    let document = parse(page);
    let mut ids = std::collections::HashSet::new();
    for id in document.descendants().filter_map(|n| n.attribute("id")) {
        assert!(ids.insert(id), "two elements are named {id}");
    }
    for node in document.descendants().filter(Node::is_element) {
        for a in node.attributes() {
            let outside = ["http:", "https:", "//", "url(http", "@import"];
            assert!(
                a.name() == "content" || !outside.iter().any(|o| a.value().starts_with(o)),
                "{}=\"{}\"",
                a.name(),
                a.value()
            );
            if matches!(a.name(), "src" | "href") {
                let inside = a.value().strip_prefix('#');
                assert!(
                    inside.is_some_and(|id| ids.contains(id))
                        || a.value().starts_with("data:image/png;base64,"),
                    "{}=\"{}\"",
                    a.name(),
                    a.value()
                );
            }
            if let Some(id) = a.value().strip_prefix("url(#") {
                let id = id.trim_end_matches(')');
                assert!(ids.contains(id), "{id} is not on the page");
            }
        }
        assert!(
            !matches!(node.tag_name().name(), "link" | "iframe" | "object"),
            "{}",
            node.tag_name().name()
        );
        if node.has_tag_name("style") {
            let style = text(node);
            assert!(!style.contains("@import") && !style.contains("url(h"));
        }
    }
    assert!(page.len() < 3_000_000, "{} bytes", page.len());
}

/// The element of the section of one tensor.
pub fn section<'a>(document: &'a Document<'a>, base: &str) -> Node<'a, 'a> {
    find(document.root(), |n| {
        n.has_tag_name("section") && n.attribute("data-tensor") == Some(base)
    })
    .unwrap_or_else(|| panic!("no section for {base}"))
}
