//! What the compiler of shaders says, for people.

use ::wgpu::{CompilationMessage, SourceLocation};

/// `FILE:LINE:COLUMN: message`, then the compiler's own lines.
pub(super) fn in_lines(file: &str, text: &str, said: &CompilationMessage) -> String {
    let lines = said.message.trim();
    let place = said
        .location
        .map(|l| format!(":{}:{}", l.line_number, column(text, &l)));
    let place = place.unwrap_or_default();
    format!("{file}{place}: {}\n{lines}", headline(lines))
}

/// Column of a place in characters, from 1; wgpu counts bytes.
fn column(text: &str, place: &SourceLocation) -> usize {
    let before = text.get(..place.offset as usize).unwrap_or_default();
    let line = before.rsplit('\n').next().unwrap_or_default();
    line.chars().count() + 1
}

/// The message, and the innermost of the causes that are listed below the lines of the source.
fn headline(lines: &str) -> String {
    let first = lines.lines().next().unwrap_or_default();
    let message = first.split_once("error: ").map_or(first, |(_, m)| m);
    let mut causes = lines.lines().filter_map(|l| l.trim().strip_prefix("= "));
    match causes.next_back() {
        Some(cause) => format!("{message}: {cause}"),
        None => message.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::wgpu::CompilationMessageType;

    #[test]
    fn file_line_column_and_message_lead_and_the_lines_stay() {
        let text = "// one\nlet \u{e9} = y;\n";
        let offset = text.find('y').unwrap() as u32;
        let message = "\nShader 't' parsing error: no definition of `y`\n  \u{250c}\u{2500} wgsl:2:9\n  = note";
        let mut said = CompilationMessage {
            message: message.into(),
            message_type: CompilationMessageType::Error,
            location: Some(SourceLocation {
                line_number: 2,
                line_position: 10,
                offset,
                length: 1,
            }),
        };
        let told = in_lines("k.wgsl", text, &said);
        let rest = &message[1..];
        assert_eq!(
            told,
            format!("k.wgsl:2:9: no definition of `y`: note\n{rest}")
        );
        said.location = None;
        said.message = "out of words".into();
        assert_eq!(
            in_lines("k.wgsl", text, &said),
            "k.wgsl: out of words\nout of words"
        );
    }
}
