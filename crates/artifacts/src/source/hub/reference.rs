//! What a reference names at a hub.

use std::fmt;

use longshore_types::{ArtifactUrl, Scheme};

use crate::error::Error;

/// The revision that is meant where none is named.
const MAIN: &str = "main";
/// Longer names are no repository's (96, as the hub has it), nor revision's.
const LONGEST_NAME: usize = 96;
const LONGEST_REVISION: usize = 255;
/// How it should be, for messages.
const FORM: &str = "write hf://ORG/REPO, hf://ORG/REPO@REVISION or hf://ORG/REPO@REVISION/FOLDER";

/// A folder of a repository at a revision. Every part is one that may stand in a URL and a message as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reference {
    pub(super) org: String,
    pub(super) name: String,
    /// A branch, a tag, a commit or `refs/pr/1`.
    pub(super) revision: String,
    /// Empty for the top; without slashes at its ends.
    pub(super) folder: String,
}

impl Reference {
    /// Reads `huggingface://org/name[@revision][/folder]`. A slash in a revision is written `%2F`, but for `refs/pr/1` and
    /// `refs/convert/x`, as the Python client has it.
    ///
    /// # Errors
    /// [`Error::UnsupportedScheme`], [`Error::ReferenceInvalid`].
    pub(super) fn parse(url: &ArtifactUrl) -> Result<Self, Error> {
        let rest = match (url.scheme(), url.as_written().split_once("://")) {
            (Scheme::HuggingFace, Some((_, rest))) => rest,
            _ => {
                let supported = "huggingface:// and hf:// references".to_owned();
                return Err(Error::UnsupportedScheme { url: url.clone(), supported });
            }
        };
        read(rest)
            .map_err(|problem| Error::ReferenceInvalid { url: url.clone(), problem: format!("{problem}; {FORM}") })
    }

    /// The same for another folder; none for one that no reference could name.
    pub(super) fn with_folder(&self, folder: &str) -> Option<Self> {
        folder.split('/').all(is_folder_part).then(|| Self { folder: folder.to_owned(), ..self.clone() })
    }

    /// `org/name`.
    pub(super) fn id(&self) -> String {
        format!("{}/{}", self.org, self.name)
    }

    /// The commit that it names itself, if it does.
    pub(super) fn is_commit(&self) -> bool {
        is_commit(&self.revision)
    }

    /// The path in the repository of a file in its folder.
    pub(super) fn path_of(&self, file: &str) -> String {
        if self.folder.is_empty() { file.to_owned() } else { format!("{}/{file}", self.folder) }
    }
}

/// As it could be written.
impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "hf://{}/{}", self.org, self.name)?;
        if self.revision != MAIN {
            let special = special_revision(&self.revision).is_some_and(|(_, rest)| rest.is_empty());
            let written = if special { self.revision.clone() } else { self.revision.replace('/', "%2F") };
            write!(f, "@{written}")?;
        }
        if self.folder.is_empty() { Ok(()) } else { write!(f, "/{}", self.folder) }
    }
}

/// Whether `text` is a whole commit's name.
pub(super) fn is_commit(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn read(rest: &str) -> Result<Reference, String> {
    if let Some(odd) = rest.chars().find(|c| matches!(c, '?' | '#' | '\\') || !c.is_ascii_graphic()) {
        return Err(format!("`{}` has no place in it", odd.escape_default()));
    }
    let (org, rest) = rest.split_once('/').ok_or("it names no repository of an organisation or user")?;
    let end = rest.find(['/', '@']).unwrap_or(rest.len());
    let (name, rest) = rest.split_at(end);
    if !is_name(org) || !is_name(name) {
        return Err(
            "ORG and REPO have letters, digits, `-`, `_` and `.`, and begin and end with none of `-` and `.`".into()
        );
    }
    if matches!(org, "datasets" | "spaces") {
        return Err(format!("{org} hold no adapters, only model repositories do"));
    }
    let (revision, rest) = match rest.strip_prefix('@') {
        None => (MAIN.to_owned(), rest),
        Some(rest) => {
            let (revision, rest) =
                special_revision(rest).unwrap_or_else(|| rest.split_at(rest.find('/').unwrap_or(rest.len())));
            let revision = revision.replace("%2F", "/").replace("%2f", "/");
            if !is_revision(&revision) {
                return Err("REVISION is a branch, a tag, refs/pr/N or a commit, with a slash in it written %2F".into());
            }
            (if is_commit(&revision) { revision.to_ascii_lowercase() } else { revision }, rest)
        }
    };
    let folder = rest.strip_prefix('/');
    if folder.is_some_and(|folder| !folder.split('/').all(is_folder_part)) {
        return Err("the parts of FOLDER have letters, digits and `-_.+=,@~`, and none is empty, `.` or `..`".into());
    }
    Ok(Reference { org: org.into(), name: name.into(), revision, folder: folder.unwrap_or_default().into() })
}

/// Revisions that have slashes and are written with them, and what follows.
fn special_revision(text: &str) -> Option<(&str, &str)> {
    let (kind, rest) = match (text.strip_prefix("refs/pr/"), text.strip_prefix("refs/convert/")) {
        (Some(rest), _) => ("refs/pr/", rest),
        (_, Some(rest)) => ("refs/convert/", rest),
        _ => return None,
    };
    let end = rest.find('/').unwrap_or(rest.len());
    let is_number = rest[..end].bytes().all(|byte| byte.is_ascii_digit());
    (end > 0 && (is_number || kind != "refs/pr/")).then(|| text.split_at(kind.len() + end))
}

/// By the hub's own rule for names.
fn is_name(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let ends_well = |text: &str| !text.starts_with(['-', '.']) && !text.ends_with(['-', '.']);
    (1..=LONGEST_NAME).contains(&text.len())
        && text.bytes().all(inner)
        && ends_well(text)
        && !text.contains("--")
        && !text.contains("..")
        && !text.ends_with(".git")
}

/// By Git's rule for names, less what few names have and URLs give a meaning to.
fn is_revision(text: &str) -> bool {
    let inner =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'/' | b'+' | b'=' | b',');
    let part = |part: &str| !part.is_empty() && !part.starts_with(['.', '-']) && !part.ends_with(['.']);
    (1..=LONGEST_REVISION).contains(&text.len())
        && text.bytes().all(inner)
        && text.split('/').all(part)
        && !text.contains("..")
}

fn is_folder_part(part: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.+=,@~".contains(&byte);
    !part.is_empty() && part != "." && part != ".." && part.bytes().all(inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Reference, Error> {
        Reference::parse(&text.parse().unwrap())
    }

    #[test]
    fn repository_revision_and_folder_are_told_apart() {
        let commit = "0123456789abcdef0123456789ABCDEF01234567";
        for (text, id, revision, folder) in [
            ("hf://org/repo", "org/repo", "main", ""),
            ("huggingface://Org-1/re_po.v2", "Org-1/re_po.v2", "main", ""),
            ("hf://org/repo@v1.0", "org/repo", "v1.0", ""),
            ("hf://org/repo@refs/pr/1", "org/repo", "refs/pr/1", ""),
            ("hf://org/repo@refs/pr/12/a/b", "org/repo", "refs/pr/12", "a/b"),
            ("hf://org/repo@refs%2Fpr%2F12/a", "org/repo", "refs/pr/12", "a"),
            ("hf://org/repo@refs/convert/parquet/a", "org/repo", "refs/convert/parquet", "a"),
            ("hf://org/repo@feature%2Fx/a", "org/repo", "feature/x", "a"),
            ("hf://org/repo@feature/x", "org/repo", "feature", "x"),
            ("hf://org/repo/sub/folder", "org/repo", "main", "sub/folder"),
            ("hf://org/repo/a@b", "org/repo", "main", "a@b"),
            (&format!("hf://org/repo@{commit}"), "org/repo", &commit.to_lowercase(), ""),
        ] {
            let reference = parsed(text).unwrap();
            assert_eq!(
                (reference.id().as_str(), &*reference.revision, &*reference.folder),
                (id, revision, folder),
                "{text}"
            );
            assert_eq!(reference, parsed(&reference.to_string()).unwrap(), "{text}");
        }
    }

    #[test]
    fn what_names_nothing_is_refused_with_how_it_should_be() {
        for bad in [
            "hf://../../",
            "hf://../..",
            "hf://org",
            "hf://org/",
            "hf://org//repo",
            "hf:///org/repo",
            "hf://org/repo/",
            "hf://org/repo//a",
            "hf://org/repo/a/../b",
            "hf://org/repo/./a",
            "hf://org/repo/..",
            "hf://org/repo@",
            "hf://org/repo@/a",
            "hf://org/repo@..",
            "hf://org/repo@../x",
            "hf://org/repo@-x",
            "hf://org/repo@a%2F..%2Fb",
            "hf://org/repo@a%2Fb%2F",
            "hf://org/repo@a%2e",
            "hf://org/repo@refs/pr/x/..",
            "hf://org/repo@v1@v2",
            "hf://org/repo?x=y",
            "hf://org/repo#main",
            "hf://org/repo/%2e%2e",
            "hf://org/re%2Fpo",
            "hf://org/re\\po",
            "hf://org/r\u{e9}po",
            "hf://-org/repo",
            "hf://org/repo.git",
            "hf://org/a--b",
            "hf://org/a..b",
            "hf://org@x/repo",
            "hf://datasets/org/repo",
        ] {
            let error = parsed(bad).unwrap_err();
            assert_eq!(error.reason(), "ReferenceInvalid", "{bad}");
            assert!(error.to_string().contains("hf://ORG/REPO@REVISION/FOLDER"), "{error}");
        }
        assert!(parsed(&format!("hf://org/{}", "a".repeat(97))).is_err());
    }

    #[test]
    fn i8_what_stands_before_an_at_sign_is_not_shown() {
        let error = parsed("hf://user:hunter2@org/repo").unwrap_err();
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
    }

    #[test]
    fn a_hint_names_only_folders_that_can_be_named() {
        let reference = parsed("hf://org/repo@a%2Fb").unwrap();
        assert_eq!(reference.with_folder("x/y").unwrap().to_string(), "hf://org/repo@a%2Fb/x/y");
        for bad in ["", "x/", "a b", "a\nb", "../x"] {
            assert!(reference.with_folder(bad).is_none(), "{bad}");
        }
    }
}
