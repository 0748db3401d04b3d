//! What a hub lists, and which of it is fetched.

use std::fmt::Write as _;

use serde::Deserialize;

use crate::digest::{CONFIG, FileKind};
use crate::error::{Defect, Error};
use crate::intake::Sum;
use crate::source::Fingerprint;

/// Entries looked at. Training runs leave some hundred behind.
pub(super) const MAX_ENTRIES: usize = 10_000;

/// One entry as a hub lists it.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Entry {
    #[serde(rename = "type")]
    kind: String,
    pub(super) path: String,
    #[serde(default)]
    size: u64,
    /// The name that Git has for it.
    #[serde(default)]
    oid: String,
    /// Where Git has only a pointer to it.
    lfs: Option<Lfs>,
}

#[derive(Clone, Debug, Deserialize)]
struct Lfs {
    /// The SHA-256 of its bytes.
    oid: String,
    size: u64,
}

/// A file that belongs to an adapter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Kept {
    /// Its name in the folder.
    pub(super) name: String,
    pub(super) size: u64,
    pub(super) sum: Sum,
}

/// A folder of a repository.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Listing {
    /// The configuration first and the weights next, so that what is wrong by their headers is refused before the rest comes.
    pub(super) files: Vec<Kept>,
    /// Names of files that are not kept.
    pub(super) passed_over: Vec<String>,
    /// Whether there are folders in it.
    pub(super) has_folders: bool,
}

impl Listing {
    /// What is in `folder` (empty for the top). `what` is for messages.
    ///
    /// # Errors
    /// [`Error::Corrupted`] where a kept file has no digest that it could be held against.
    pub(super) fn new(folder: &str, entries: Vec<Entry>, what: &str) -> Result<Self, Error> {
        let mut listing = Self::default();
        for entry in entries {
            let Some(name) = name_in(folder, &entry.path) else { continue };
            match entry.kind.as_str() {
                "directory" => listing.has_folders = true,
                "file" if FileKind::of(name).is_some() => {
                    let name = name.to_owned();
                    let (size, sum) = digest_of(entry).ok_or_else(|| {
                        let problem = format!("it lists {} without a digest", crate::verify::defect::shown(&name));
                        Error::Corrupted { what: what.to_owned(), problem }
                    })?;
                    listing.files.push(Kept { name, size, sum });
                }
                "file" => listing.passed_over.push(name.to_owned()),
                _ => {}
            }
        }
        listing.files.sort_by(|a, b| (FileKind::of(&a.name), &a.name).cmp(&(FileKind::of(&b.name), &b.name)));
        listing.passed_over.sort_unstable();
        Ok(listing)
    }

    /// Whether there is an adapter's configuration.
    pub(super) fn has_config(&self) -> bool {
        self.has(FileKind::Config)
    }

    fn has(&self, kind: FileKind) -> bool {
        self.files.iter().any(|file| FileKind::of(&file.name) == Some(kind))
    }

    /// What is worth fetching. Without a configuration it is no adapter, and without weights it is none that could be loaded:
    /// the rest would be fetched for nothing.
    pub(super) fn wanted(&self) -> &[Kept] {
        match (self.has_config(), self.has(FileKind::Weights)) {
            (false, _) => &[],
            (true, false) => &self.files[..1],
            (true, true) => &self.files,
        }
    }

    /// Whether it looks like a whole model, which people take for an adapter's repository.
    pub(super) fn is_whole_model(&self) -> bool {
        let whole = |name: &str| {
            let weights = name.ends_with(".safetensors") || name.ends_with(".bin") || name.ends_with(".index.json");
            name == "config.json" || (weights && (name.starts_with("model") || name.starts_with("pytorch_model")))
        };
        let kept = self.files.iter().map(|file| &file.name);
        !self.has_config() && kept.chain(&self.passed_over).any(|name| whole(name))
    }

    /// Names, sizes and digests of everything that decides what a fetch comes to.
    pub(super) fn fingerprint(&self, hub: &str) -> Fingerprint {
        // One hub's word says nothing of what another has.
        let mut text = format!("{hub}\n");
        for Kept { name, size, sum } in &self.files {
            // Writing to a String cannot fail.
            let _ = match sum {
                Sum::Sha256(hex) => writeln!(text, "{name}\0{size}\0sha256:{hex}"),
                Sum::GitBlob(hex) => writeln!(text, "{name}\0{size}\0git:{hex}"),
            };
        }
        // A pickle in the place of the weights decides which refusal is given.
        for name in self.passed_over.iter().filter(|name| FileKind::is_pickle(name)) {
            let _ = writeln!(text, "{name}");
        }
        // The digests of the files themselves: no change is missed.
        Fingerprint::new(text, true)
    }
}

/// How many bytes there are in `files`, as far as one can count.
pub(super) fn total(files: &[Kept]) -> u64 {
    files.iter().fold(0, |total, file| total.saturating_add(file.size))
}

/// A folder somewhere below with an adapter in it: one that is as near the top as any, the first by name.
pub(super) fn adapter_below(entries: &[Entry]) -> Option<&str> {
    let folder = |entry: &'_ Entry| -> Option<usize> {
        let folder = entry.path.strip_suffix(CONFIG)?.strip_suffix('/')?;
        (entry.kind == "file").then_some(folder.len())
    };
    let folders = entries.iter().filter_map(|entry| folder(entry).map(|end| &entry.path[..end]));
    folders.min_by_key(|folder| (folder.matches('/').count(), *folder))
}

/// The name of what is at `path`, where it is in `folder` itself.
fn name_in<'p>(folder: &str, path: &'p str) -> Option<&'p str> {
    let name = if folder.is_empty() { path } else { path.strip_prefix(folder)?.strip_prefix('/')? };
    (!name.is_empty() && !name.contains('/')).then_some(name)
}

/// Its size and what its bytes come to.
fn digest_of(entry: Entry) -> Option<(u64, Sum)> {
    let hex = |text: String, length| {
        (text.len() == length && text.bytes().all(|byte| byte.is_ascii_hexdigit())).then(|| text.to_ascii_lowercase())
    };
    match entry.lfs {
        Some(lfs) => Some((lfs.size, Sum::Sha256(hex(lfs.oid, 64)?))),
        None => Some((entry.size, Sum::GitBlob(hex(entry.oid, 40)?))),
    }
}

/// There is more than anybody keeps beside an adapter.
pub(super) fn too_many() -> Error {
    Defect::TooLarge { problem: format!("its folder holds more than {MAX_ENTRIES} names") }.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(folder: &str, json: &str) -> Result<Listing, Error> {
        Listing::new(folder, serde_json::from_str(json).unwrap(), "a hub")
    }

    fn files(names: &[&str]) -> Listing {
        let oid = "a".repeat(40);
        let entries: Vec<_> =
            names.iter().map(|name| serde_json::json!({"type": "file", "path": name, "size": 1, "oid": oid})).collect();
        listed("", &serde_json::Value::from(entries).to_string()).unwrap()
    }

    #[test]
    fn only_kept_files_of_the_folder_itself_are_taken_the_configuration_first() {
        let (git, sha) = ("0".repeat(40), "B".repeat(64));
        let json = format!(
            r#"[{{"type":"directory","path":"a/tokenizer","size":0,"oid":"{git}"}},
                {{"type":"file","path":"a/adapter_model.safetensors","size":134,"oid":"{git}","xetHash":"x",
                  "lfs":{{"oid":"{sha}","size":7,"pointerSize":134}}}},
                {{"type":"file","path":"a/README.md","size":2,"oid":"{git}"}},
                {{"type":"file","path":"a/adapter_config.json","size":2,"oid":"{git}"}},
                {{"type":"file","path":"a/b/adapter_config.json","size":2,"oid":"{git}"}},
                {{"type":"file","path":"ab/tokenizer.json","size":2,"oid":"{git}"}},
                {{"type":"commit","path":"a/tokenizer.model","size":2,"oid":"{git}"}}]"#
        );
        let listing = listed("a", &json).unwrap();
        let kept = [
            Kept { name: "adapter_config.json".into(), size: 2, sum: Sum::GitBlob(git) },
            Kept { name: "adapter_model.safetensors".into(), size: 7, sum: Sum::Sha256("b".repeat(64)) },
        ];
        assert_eq!(listing.files, kept);
        assert_eq!(listing.passed_over, ["README.md"]);
        assert!(listing.has_folders);
    }

    #[test]
    fn a_kept_file_that_could_not_be_checked_is_refused() {
        for oid in ["", "abc", &"g".repeat(40), &"a".repeat(64)] {
            let json = format!(r#"[{{"type":"file","path":"tokenizer.json","size":2,"oid":"{oid}"}}]"#);
            assert_eq!(listed("", &json).unwrap_err().reason(), "ArtifactCorrupted", "{oid}");
            let lfs = json.replace("}]", r#","lfs":{"oid":"abc","size":1}}]"#);
            assert_eq!(listed("", &lfs).unwrap_err().reason(), "ArtifactCorrupted", "{oid}");
        }
    }

    #[test]
    fn nothing_is_fetched_of_what_is_no_adapter() {
        let model = files(&["config.json", "model-00001-of-00002.safetensors", "tokenizer.json"]);
        assert!(model.is_whole_model() && model.wanted().is_empty());
        let pickled = files(&["adapter_config.json", "adapter_model.bin", "tokenizer.json"]);
        assert_eq!(pickled.wanted().len(), 1);
        assert!(!pickled.is_whole_model());
        let both = files(&["config.json", "adapter_config.json", "adapter_model.safetensors", "tokenizer.json"]);
        assert_eq!(both.wanted().len(), 3);
        assert!(!both.is_whole_model());
    }

    #[test]
    fn a_readme_changes_no_fingerprint_and_a_pickle_does() {
        let one = files(&["adapter_config.json"]).fingerprint("https://hub");
        assert!(one.proves_same(&files(&["README.md", "adapter_config.json"]).fingerprint("https://hub")));
        assert!(one.differs(&files(&["adapter_config.json", "adapter_model.bin"]).fingerprint("https://hub")));
        assert!(one.differs(&files(&["adapter_config.json", "tokenizer.json"]).fingerprint("https://hub")));
    }

    #[test]
    fn the_adapter_nearest_to_the_top_is_the_one_that_is_hinted_at() {
        let below = |paths: &[&str]| {
            let entry = |path: &&str| Entry {
                kind: "file".into(),
                path: (*path).into(),
                size: 0,
                oid: String::new(),
                lfs: None,
            };
            let entries: Vec<Entry> = paths.iter().map(entry).collect();
            adapter_below(&entries).map(str::to_owned)
        };
        let paths =
            ["x/y/adapter_config.json", "b/adapter_config.json", "a/adapter_config.json", "old_adapter_config.json"];
        assert_eq!(below(&paths).as_deref(), Some("a"));
        assert_eq!(below(&["adapter_config.json", "a/my_adapter_config.json"]), None);
    }

    #[test]
    fn sizes_that_no_counter_holds_are_only_too_many() {
        let huge = Kept { name: "x".into(), size: u64::MAX, sum: Sum::GitBlob(String::new()) };
        assert_eq!(total(&[huge.clone(), huge]), u64::MAX);
    }
}
