//! Cutting a YAML stream into documents before any parser sees it: a parser gives up on the whole stream at its first error.

/// One document's text.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Chunk<'a> {
    /// The text, with its `---` line where it has one.
    pub(super) text: &'a str,
    /// The line of the file that the text begins with, from 1.
    pub(super) first_line: usize,
    /// The line of its first content.
    pub(super) content_line: usize,
}

/// The documents of `text` that have content. YAML reserves `---` and `...` at the beginning of a line for this alone,
/// even within quotes and block scalars, so cutting there is exact.
pub(super) fn split(text: &str) -> Vec<Chunk<'_>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut chunks = Vec::new();
    let mut open = Open::at(0, 1);
    let mut offset = 0;
    for (index, line) in text.split_inclusive('\n').enumerate() {
        let number = index + 1;
        if is_marker(line, "---") && !open.only_directives {
            chunks.extend(open.close(text, offset));
            open = Open::at(offset, number);
        }
        open.see(line, number);
        offset += line.len();
        if is_marker(line, "...") {
            chunks.extend(open.close(text, offset));
            open = Open::at(offset, number + 1);
        }
    }
    chunks.extend(open.close(text, offset));
    chunks
}

/// The document being read.
struct Open {
    begin: usize,
    first_line: usize,
    content_line: Option<usize>,
    /// Whether it consists of directives so far, which belong to the `---` that follows them.
    only_directives: bool,
}

impl Open {
    fn at(begin: usize, first_line: usize) -> Self {
        Self { begin, first_line, content_line: None, only_directives: false }
    }

    fn see(&mut self, line: &str, number: usize) {
        if self.content_line.is_some() {
            return;
        }
        let rest = ["---", "..."].into_iter().find(|marker| is_marker(line, marker)).map_or(line, |_| &line[3..]);
        let is_marker = rest.len() < line.len();
        let rest = rest.trim();
        if line.starts_with('%') {
            self.only_directives = true;
        } else if !rest.is_empty() && !rest.starts_with('#') {
            self.content_line = Some(number);
            self.only_directives = false;
        } else if is_marker {
            self.only_directives = false;
        }
    }

    fn close<'a>(&self, text: &'a str, end: usize) -> Option<Chunk<'a>> {
        let content_line = self.content_line?;
        Some(Chunk { text: text.get(self.begin..end)?, first_line: self.first_line, content_line })
    }
}

fn is_marker(line: &str, marker: &str) -> bool {
    line.strip_prefix(marker).is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lines(text: &str) -> Vec<(usize, usize)> {
        split(text).iter().map(|chunk| (chunk.first_line, chunk.content_line)).collect()
    }

    #[test]
    fn documents_are_cut_at_their_markers() {
        assert_eq!(lines("a: 1\n---\nb: 2\n--- # c\n\n# d\ne: 3\n"), [(1, 1), (2, 3), (4, 7)]);
        assert_eq!(lines("--- {a: 1}\n...\nb: 2"), [(1, 1), (3, 3)]);
        assert_eq!(lines("a: |\n  --- x\nb: ---x\n----\n"), [(1, 1)]);
        assert_eq!(lines("a: 1\r\n---\r\nb: 2\r\n"), [(1, 1), (2, 3)]);
    }

    #[test]
    fn what_has_no_content_is_no_document() {
        for text in ["", "\n\n", "# only words\n", "---\n---\n...\n# x\n---\n", "\u{feff}", "%YAML 1.2\n---\n"] {
            assert_eq!(lines(text), [], "{text:?}");
        }
    }

    #[test]
    fn directives_stay_with_the_document_that_follows() {
        assert_eq!(lines("# x\n%YAML 1.2\n---\na: 1\n---\nb: 1\n"), [(1, 4), (5, 6)]);
        assert_eq!(lines("a: 1\n...\n%YAML 1.2\n---\nb: 1\n"), [(1, 1), (3, 5)]);
    }

    proptest! {
        #[test]
        fn no_content_is_lost_or_repeated(
            lines in prop::collection::vec(
                prop::sample::select(vec!["---", "--- b: 2", "...", "%Y", "a: 1", " a: 1", "# c", "", "\t", "----"]), 0..20,
            ),
            end in prop::sample::select(vec!["\n", "\r\n"]),
        ) {
            let text = lines.join(end);
            let count = |text: &str| (text.matches("a: 1").count(), text.matches("b: 2").count(), text.matches("----").count());
            let chunks = split(&text);
            let all: String = chunks.iter().map(|chunk| chunk.text).collect();
            prop_assert_eq!(count(&all), count(&text));
            for chunk in &chunks {
                let line = text.lines().nth(chunk.content_line - 1).unwrap();
                prop_assert!(chunk.text.contains(line) && !matches!(line.trim(), "" | "---" | "..." | "# c"), "{line}");
                prop_assert_eq!(chunk.text.lines().next(), text.lines().nth(chunk.first_line - 1));
            }
        }
    }
}
