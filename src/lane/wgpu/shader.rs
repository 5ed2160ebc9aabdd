//! The shader's text, and the choice between its two variants.

/// The shader's text, both variants in one.
pub const SHADER: &str = include_str!("../../../shaders/tq4_dequant.wgsl");

/// One variant of `text`: lines between `//#if SUBGROUPS` and `//#else` or `//#endif` are kept with
/// `subgroups`, those between `//#else` and `//#endif` without.
pub fn variant(text: &str, subgroups: bool) -> String {
    let mut kept = true;
    let mut out = String::with_capacity(text.len());
    for line in text.lines() {
        match line.trim() {
            "//#if SUBGROUPS" => kept = subgroups,
            "//#else" => kept = !kept,
            "//#endif" => kept = true,
            _ if kept => {
                out.push_str(line);
                out.push('\n');
            }
            _ => {}
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_belong_to_their_variant() {
        let text =
            "a\n//#if SUBGROUPS\nb\n//#else\nc\n//#endif\nd\n //#if SUBGROUPS\ne\n//#endif\nf";
        assert_eq!(variant(text, true), "a\nb\nd\ne\nf\n");
        assert_eq!(variant(text, false), "a\nc\nd\nf\n");
        assert!(variant(SHADER, true).contains("subgroupShuffleXor"));
        assert!(!variant(SHADER, false).contains("subgroupShuffleXor"));
    }
}
