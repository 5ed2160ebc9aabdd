//! Text that does not grow beyond a limit, whatever is to be said.

/// Bytes that a list keeps for its head and for what it says of the items that it leaves out.
const CLOSING: usize = 300;

/// Text of at most so many bytes.
pub struct Limited {
    text: String,
    limit: usize,
}

impl Limited {
    /// Empty text.
    pub fn new(limit: usize) -> Self {
        // What closes stands beyond the rest.
        Self {
            text: String::new(),
            limit: limit.saturating_sub(CLOSING),
        }
    }

    /// The text with one newline at its end.
    pub fn text(self) -> String {
        self.text.trim_end().to_owned() + "\n"
    }

    /// Bytes that are left.
    pub fn left(&self) -> usize {
        self.limit.saturating_sub(self.text.len())
    }

    /// Adds a text that is short, where it fits.
    pub fn push(&mut self, text: &str) {
        if text.len() <= self.left() {
            self.text += text;
        }
    }

    /// Adds what closes a text that was added.
    pub fn close(&mut self, text: &str) {
        self.text += text;
    }

    /// Adds the first of the items, with no more bytes than one of so many `parts` of those left; then how
    /// many more of `what` there are.
    pub fn list<T>(
        &mut self,
        parts: usize,
        head: &str,
        items: &[T],
        text: impl Fn(&T) -> String,
        what: &str,
    ) {
        self.list_of(items.len(), parts, head, items, text, what);
    }

    /// As [`Limited::list`], of the first items of so many.
    pub fn list_of<T>(
        &mut self,
        all: usize,
        parts: usize,
        head: &str,
        items: &[T],
        text: impl Fn(&T) -> String,
        what: &str,
    ) {
        let room = self.left() / parts;
        if items.is_empty() || room < CLOSING {
            return;
        }
        let end = self.text.len() + room - CLOSING;
        self.text += head;
        let mut shown = 0;
        for item in items {
            let text = text(item);
            if self.text.len() + text.len() > end {
                break;
            }
            self.text += &text;
            shown += 1;
        }
        self.text += &match all - shown {
            0 => "\n".to_owned(),
            more => format!("\nand {more} more {what}\n\n"),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_says_what_it_leaves_out() {
        let mut text = Limited::new(2000);
        let items: Vec<String> = (0..1000).map(|i| format!("- item {i}\n")).collect();
        text.list(1, "items:\n", &items, String::clone, "items");
        text.push("a text that does not fit behind them, ".repeat(20).as_str());
        let text = text.text();
        let shown = text.matches("- item").count();
        assert!(text.len() <= 2000 && shown > 50, "{text}");
        assert!(
            text.ends_with(&format!("\nand {} more items\n", 1000 - shown)),
            "{text}"
        );
    }
}
