//! Prose: what is written here speaks of the project alone and leaves nothing for later.

use super::finding::{Finding, Findings};
use super::tree::{TextFile, Tree};

/// How a text is looked for.
enum Look {
    /// Anywhere, in any case.
    Anywhere,
    /// As a word of its own.
    Word,
    /// As the beginning of a path.
    Path,
}

use Look::{Anywhere, Path, Word};

/// What does not belong here, and why. Each is written in two halves so that this file passes its own check.
const UNWANTED: &[(&str, Look, &str)] = &[
    (concat!("TO", "DO"), Word, "do it, or open an issue"),
    (concat!("FIX", "ME"), Word, "fix it, or open an issue"),
    (concat!("issue", " #"), Anywhere, "say what it is about; numbers mean nothing elsewhere"),
    (concat!("shared", "/"), Path, "a folder that a clone does not have"),
    (concat!("/", "work/"), Path, "a path of one machine"),
    (concat!("crates", ".io"), Anywhere, "the name of a registry's host; mirrors exist"),
    (concat!("pypi", ".org"), Anywhere, "the name of a registry's host; mirrors exist"),
    (concat!("files.python", "hosted.org"), Anywhere, "the name of a registry's host; mirrors exist"),
    (concat!("registry.npm", "js.org"), Anywhere, "the name of a registry's host; mirrors exist"),
    (concat!("proxy.go", "lang.org"), Anywhere, "the name of a registry's host; mirrors exist"),
    (concat!("deb.deb", "ian.org"), Anywhere, "the name of a registry's host; mirrors exist"),
];

/// Reports unwanted words, with the line.
pub(super) fn check(tree: &Tree, findings: &mut Findings) {
    for file in tree.files.iter().filter(|file| is_ours(file)) {
        for (number, line) in file.text.lines().enumerate() {
            for (word, why) in unwanted(line) {
                findings.broken.push(Finding::new(&file.path, number + 1, format!("`{word}` is unwanted: {why}")));
            }
        }
    }
}

/// Lock files are written by tools, and the license by its authors.
fn is_ours(file: &TextFile) -> bool {
    let extension = file.path.extension().unwrap_or_default();
    extension != "lock" && file.path.as_os_str() != "LICENSE"
}

fn unwanted(line: &str) -> impl Iterator<Item = (&'static str, &'static str)> {
    let lower = line.to_lowercase();
    UNWANTED
        .iter()
        .filter(move |(text, look, _)| contains(line, &lower, text, look))
        .map(|(text, _, why)| (*text, *why))
}

fn contains(line: &str, lower: &str, text: &str, look: &Look) -> bool {
    let part_of_word = |c: char| c.is_alphanumeric() || c == '_';
    match look {
        Anywhere => lower.contains(text),
        Word => line
            .match_indices(text)
            .any(|(at, _)| !line[..at].ends_with(part_of_word) && !line[at + text.len()..].starts_with(part_of_word)),
        Path => line
            .match_indices(text)
            .any(|(at, _)| !line[..at].ends_with(|c: char| part_of_word(c) || "/-.".contains(c))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_belong_is_found_as_a_word_and_not_inside_one() {
        let words = |line: &str| unwanted(line).map(|(word, _)| word).collect::<Vec<_>>();
        let mark = concat!("TO", "DO");
        assert_eq!(words(&format!("// {mark}: later")), [mark]);
        assert!(words(&format!("{mark}S_MAX and i{mark}")).is_empty());
        assert_eq!(words(&format!("see {}12", concat!("Issue", " #"))), [concat!("issue", " #")]);
        assert_eq!(words(&format!("in `{}a.md`", concat!("shared", "/"))), [concat!("shared", "/")]);
        assert!(words(&format!("crates/{}a.rs, un{}", concat!("shared", "/"), concat!("shared", "/"))).is_empty());
        assert!(words(&format!("/net{}a", concat!("/", "work/"))).is_empty());
    }
}
