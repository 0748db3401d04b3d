//! Style: where modules lie, front pages, lengths of files, and nothing left unfinished.

use std::path::Path;

use super::finding::{Finding, Findings};
use super::source::Source;
use super::tokens::{attribute, starts_with};
use super::tree::Tree;

/// A file that has more lines of code than this is listed.
const LONG: usize = 400;

/// A file that has more is refused, unless its first lines say why.
const TOO_LONG: usize = 700;

/// What such a line begins with; the reason follows.
const LONG_BECAUSE: &str = "// tidy: long because ";

/// Macros that stand for something unfinished. Clippy refuses them too, but not in code that it is told to skip.
const UNFINISHED: &[&str] = &["todo", "unimplemented", "dbg"];

/// Reports what breaks the style.
pub(super) fn check(tree: &Tree, findings: &mut Findings) {
    for krate in &tree.crates {
        let path = krate.folder.join("src/lib.rs");
        let text = tree.files.iter().find(|file| file.path == path).map(|file| file.text.as_str());
        if text.is_some_and(|text| !text.starts_with("//!")) {
            let message = format!("{}: lib.rs is a front page and begins with `//!`", krate.name);
            findings.broken.push(Finding::new(path, 1, message));
        }
    }
    for source in &tree.sources {
        if let Some(error) = &source.unreadable {
            findings.broken.push(Finding::new(&source.path, None, format!("{}: {error}", source.krate())));
        }
        if source.path.file_name().is_some_and(|name| name == "mod.rs") {
            let message = format!("{}: no mod.rs; a module `a` is `a.rs` beside `a/`", source.krate());
            findings.broken.push(Finding::new(&source.path, None, message));
        }
        unfinished(source, findings);
        let text = tree.files.iter().find(|file| file.path == source.path).map_or("", |file| file.text.as_str());
        length(&source.path, source.lines_of_code(), text, findings);
    }
}

fn unfinished(source: &Source, findings: &mut Findings) {
    for (at, token) in source.tokens.iter().enumerate() {
        let rest = &source.tokens[at..];
        if UNFINISHED.contains(&token.text.as_str()) && starts_with(&rest[1..], &["!"]) {
            let message = format!("{}: `{}!` is left over", source.krate(), token.text);
            findings.broken.push(Finding::new(&source.path, token.line, message));
        }
        if let Some(([ignore], _)) = attribute(rest)
            && ignore.text == "ignore"
        {
            let message = format!("{}: `#[ignore]` without a reason: write `#[ignore = \"...\"]`", source.krate());
            findings.broken.push(Finding::new(&source.path, token.line, message));
        }
    }
}

fn length(path: &Path, lines: usize, text: &str, findings: &mut Findings) {
    let excused = text.lines().take(5).any(|line| line.strip_prefix(LONG_BECAUSE).is_some_and(|why| !why.is_empty()));
    if lines > TOO_LONG && !excused {
        let message = format!("{lines} lines of code: split it, or say why at its top with `{LONG_BECAUSE}...`");
        findings.broken.push(Finding::new(path, None, message));
    } else if lines > LONG {
        findings.notes.push(Finding::new(path, None, format!("{lines} lines of code: does it do one thing?")));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(lines: usize, text: &str) -> (usize, usize) {
        let mut findings = Findings::default();
        length(Path::new("a.rs"), lines, text, &mut findings);
        (findings.broken.len(), findings.notes.len())
    }

    #[test]
    fn a_long_file_is_listed_and_a_very_long_one_needs_a_reason() {
        assert_eq!(judged(400, ""), (0, 0));
        assert_eq!(judged(401, ""), (0, 1));
        assert_eq!(judged(701, ""), (1, 0));
        assert_eq!(judged(701, "// tidy: long because \n"), (1, 0));
        assert_eq!(judged(701, "// tidy: long because it is one table\n"), (0, 1));
    }
}
