//! Links: every relative link of a Markdown file leads to a file of the repository, and to a heading where it names one.

use std::path::{Component, Path, PathBuf};

use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};

use super::finding::{Finding, Findings};
use super::tree::Tree;

/// Reports links that lead nowhere.
pub(super) fn check(tree: &Tree, findings: &mut Findings) {
    let text_of = |path: &Path| tree.files.iter().find(|file| file.path == path).map(|file| file.text.as_str());
    for file in tree.files.iter().filter(|file| is_markdown(&file.path)) {
        for (line, link) in links(&file.text) {
            let (path, anchor) = link.split_once('#').map_or((link.as_str(), None), |(path, to)| (path, Some(to)));
            let target = if path.is_empty() { Some(file.path.clone()) } else { resolve(&file.path, path) };
            let broken = match target {
                None => Some("leads out of the repository"),
                Some(target) if !tree.root.join(&target).exists() => Some("leads nowhere"),
                Some(target) => match (anchor, is_markdown(&target).then(|| text_of(&target)).flatten()) {
                    (Some(anchor), Some(text)) if !anchors(text).iter().any(|known| known == anchor) => {
                        Some("names a heading that is not there")
                    }
                    _ => None,
                },
            };
            if let Some(why) = broken {
                findings.broken.push(Finding::new(&file.path, line, format!("the link `{link}` {why}")));
            }
        }
    }
}

fn is_markdown(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "md")
}

/// The links and images that are not addresses, each with its line.
fn links(text: &str) -> Vec<(usize, String)> {
    Parser::new_ext(text, options())
        .into_offset_iter()
        .filter_map(|(event, range)| match event {
            Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) if !is_address(&dest_url) => {
                Some((text[..range.start].matches('\n').count() + 1, dest_url.into_string()))
            }
            _ => None,
        })
        .collect()
}

fn options() -> Options {
    Options::ENABLE_TABLES | Options::ENABLE_FOOTNOTES
}

/// A scheme before the first slash, as in `https://...` and `mailto:...`.
fn is_address(link: &str) -> bool {
    link.split(['/', '#']).next().is_some_and(|head| head.contains(':'))
}

/// The path from the root that `link` in `from` means; `None` where it climbs out. A leading slash is the root.
fn resolve(from: &Path, link: &str) -> Option<PathBuf> {
    let mut path = if link.starts_with('/') { PathBuf::new() } else { from.parent()?.to_path_buf() };
    for part in Path::new(link).components() {
        match part {
            Component::ParentDir => {
                if !path.pop() {
                    return None;
                }
            }
            Component::Normal(part) => path.push(part),
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    Some(path)
}

/// The anchors of a file's headings, as GitHub makes them: lower case, spaces to hyphens, punctuation dropped, and a
/// number after one that was there before.
fn anchors(text: &str) -> Vec<String> {
    let mut anchors: Vec<String> = Vec::new();
    let mut heading: Option<String> = None;
    for event in Parser::new_ext(text, options()) {
        match event {
            Event::Start(Tag::Heading { .. }) => heading = Some(String::new()),
            Event::Text(part) | Event::Code(part) => {
                if let Some(heading) = &mut heading {
                    heading.push_str(&part);
                }
            }
            Event::End(TagEnd::Heading(_)) => {
                let slug: String = heading
                    .take()
                    .unwrap_or_default()
                    .to_lowercase()
                    .chars()
                    .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
                    .map(|c| if c == ' ' { '-' } else { c })
                    .collect();
                let again = (1..).map(|number| format!("{slug}-{number}"));
                let free = std::iter::once(slug.clone()).chain(again).find(|name| !anchors.contains(name));
                anchors.extend(free);
            }
            _ => {}
        }
    }
    anchors
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_read_with_their_lines_and_not_from_code() {
        let text = "[a](b.md)\n\n`[no](c)` ![d](e/f.svg) <https://g> [h](mailto:i@j)\n\n```\n[no](k)\n```\n\n[l][m]\n\n[m]: n#o\n";
        let expected = [(1, "b.md"), (3, "e/f.svg"), (9, "n#o")].map(|(line, link)| (line, link.to_owned()));
        assert_eq!(links(text), expected);
    }

    #[test]
    fn paths_are_taken_from_the_file_and_never_leave_the_root() {
        assert_eq!(resolve(Path::new("docs/a.md"), "../README.md"), Some("README.md".into()));
        assert_eq!(resolve(Path::new("docs/a.md"), "./b/c.md"), Some("docs/b/c.md".into()));
        assert_eq!(resolve(Path::new("docs/a.md"), "/LICENSE"), Some("LICENSE".into()));
        assert_eq!(resolve(Path::new("a.md"), "../b"), None);
    }

    #[test]
    fn anchors_are_those_that_github_makes() {
        let text = "# Where does X live?\n## `up` & down\n## Again\n## Again\n";
        assert_eq!(anchors(text), ["where-does-x-live", "up--down", "again", "again-1"]);
    }
}
