//! Looking through files and directories for what has changed.
//!
//! By polling, since that needs nothing of the file system: notifications do not cross bind mounts, network file systems
//! and the links that a mounted ConfigMap is made of. A change is taken in once the file has been the same in two looks,
//! so that neither an editor that empties a file before it writes it nor a copy that is under way is believed.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::{self, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use longshore_api::manifest;
use longshore_types::Timestamp;

use super::engine_config::{EngineConfig, parse_list};
use super::manifests::Parsed;
use super::problems::Problem;

/// The largest manifest file. Ten thousand adapters of 400 bytes are 4 MiB.
const FILE_LIMIT: u64 = 16 << 20;

/// How deep directories are followed: deeper than anybody nests them, and an end to links that lead back.
const DEPTH: usize = 32;

/// What was found to have changed.
#[derive(Debug, Default)]
pub(super) struct Scan {
    /// Manifest files that are new or different, and when they were first seen.
    pub manifests: Vec<(PathBuf, Timestamp, Result<Parsed, String>)>,
    /// Manifest files that are gone.
    pub gone: Vec<PathBuf>,
    /// What is wrong with the files and directories that were named, where that has changed.
    pub roots: Option<BTreeMap<PathBuf, Vec<Problem>>>,
    /// The engines file, where it is new or different.
    pub engines: Option<EnginesFile>,
}

/// The engines file, as it is now.
#[derive(Debug)]
pub(super) struct EnginesFile {
    pub path: PathBuf,
    /// The engines that it lists, and what is wrong with entries of it; or what is wrong with all of it.
    pub listed: Result<(Vec<EngineConfig>, Vec<Problem>), Box<Problem>>,
}

impl Scan {
    pub(super) fn is_empty(&self) -> bool {
        self.manifests.is_empty() && self.gone.is_empty() && self.roots.is_none() && self.engines.is_none()
    }
}

/// Enough of a file's metadata to tell that it was written, replaced or restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    modified: (i64, i64),
    changed: (i64, i64),
    size: u64,
    inode: (u64, u64),
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self {
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
            size: metadata.len(),
            inode: (metadata.dev(), metadata.ino()),
        }
    }
}

/// What is known of one file.
#[derive(Debug, Default)]
struct Known {
    /// As it was at the last look.
    stamp: Option<Stamp>,
    /// As it was when it was last taken in; none inside where it could not be read.
    taken: Option<Option<Stamp>>,
    /// Looks in a row that did not find it.
    missing: u32,
}

/// Looks again and again through what was named.
#[derive(Debug)]
pub(super) struct Scanner {
    named: Vec<PathBuf>,
    engines: Option<PathBuf>,
    files: BTreeMap<PathBuf, Known>,
    engines_known: Known,
    roots: BTreeMap<PathBuf, Vec<Problem>>,
    looks: u64,
}

impl Scanner {
    /// Will look through `named` files and directories for manifests, and at the file that lists engines. Relative paths
    /// are taken from the present directory, once.
    pub(super) fn new(named: &[PathBuf], engines: Option<&Path>) -> Self {
        let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        Self {
            named: named.iter().map(|path| absolute(path)).collect(),
            engines: engines.map(absolute),
            files: BTreeMap::new(),
            engines_known: Known::default(),
            roots: BTreeMap::new(),
            looks: 0,
        }
    }

    /// Looks once. `now` is when a file that appears later counts as first seen; at the first look that is when it was
    /// last written. Blocks on the file system.
    pub(super) fn look(&mut self, now: Timestamp) -> Scan {
        let first = self.looks == 0;
        self.looks += 1;
        let mut scan = Scan::default();
        let found = Found::walk(&self.named);
        for (path, metadata) in &found.files {
            let known = self.files.entry(path.clone()).or_default();
            known.missing = 0;
            if let Some(text) = known.take(path, metadata, first) {
                let seen = if first { written(metadata) } else { now };
                let parsed = text.map(|text| manifest::parse(&path.display().to_string(), &text));
                scan.manifests.push((path.clone(), seen, parsed.map_err(|error| error.to_string())));
            }
        }
        self.files.retain(|path, known| {
            if found.files.contains_key(path) || found.unknown.iter().any(|place| path.starts_with(place)) {
                return true;
            }
            known.missing += 1;
            // An editor may take a file away for a moment before it puts the new one in its place.
            let gone = known.missing > 1;
            if gone && known.taken.is_some() {
                scan.gone.push(path.clone());
            }
            !gone
        });
        if found.problems != self.roots || first {
            self.roots.clone_from(&found.problems);
            scan.roots = Some(found.problems);
        }
        if let Some(path) = &self.engines {
            scan.engines = look_at_engines(path, &mut self.engines_known, first);
        }
        scan
    }
}

fn look_at_engines(path: &Path, known: &mut Known, first: bool) -> Option<EnginesFile> {
    let unreadable =
        |error: &io::Error| Box::new(Problem::file(path, "Unreadable", format!("cannot be read: {error}")));
    let listed = match fs::metadata(path) {
        Ok(metadata) => {
            let text = known.take(path, &metadata, first)?;
            text.map_err(|error| unreadable(&error)).and_then(|text| parse_list(path, &text))
        }
        Err(error) => {
            // The engines stay: whoever means to remove them empties the list.
            let news = known.taken != Some(None);
            (known.stamp, known.taken) = (None, Some(None));
            if !news {
                return None;
            }
            Err(unreadable(&error))
        }
    };
    Some(EnginesFile { path: path.to_owned(), listed })
}

impl Known {
    /// The text, where it is to be taken in now.
    fn take(&mut self, path: &Path, metadata: &Metadata, first: bool) -> Option<io::Result<String>> {
        let stamp = Stamp::of(metadata);
        let steady = self.stamp.replace(stamp) == Some(stamp);
        if self.taken == Some(Some(stamp)) || !(steady || first) {
            return None;
        }
        match read(path) {
            Ok((text, after)) if after == stamp => {
                self.taken = Some(Some(stamp));
                Some(Ok(text))
            }
            // It is being written right now: the next look will see.
            Ok((_, after)) => {
                self.stamp = Some(after);
                None
            }
            // Said once; the next look tries again.
            Err(error) => (self.taken.replace(None) != Some(None)).then_some(Err(error)),
        }
    }
}

/// The text of a file, and its metadata after it was read.
fn read(path: &Path) -> io::Result<(String, Stamp)> {
    let mut file = fs::File::open(path)?;
    let mut text = String::new();
    (&mut file).take(FILE_LIMIT + 1).read_to_string(&mut text)?;
    if text.len() as u64 > FILE_LIMIT {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it is over 16 MiB"));
    }
    Ok((text, Stamp::of(&file.metadata()?)))
}

fn written(metadata: &Metadata) -> Timestamp {
    let since = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    Timestamp::ZERO + since.unwrap_or(Duration::ZERO)
}

/// What a walk through everything that was named finds.
#[derive(Default)]
struct Found {
    files: BTreeMap<PathBuf, Metadata>,
    /// Places that could not be looked at, so that nothing below them is known to be gone.
    unknown: Vec<PathBuf>,
    problems: BTreeMap<PathBuf, Vec<Problem>>,
    /// Every file and directory once, however many ways lead to it.
    visited: BTreeSet<(u64, u64)>,
}

impl Found {
    fn walk(named: &[PathBuf]) -> Self {
        let mut found = Self::default();
        for path in named {
            found.problems.insert(path.clone(), Vec::new());
            match fs::metadata(path) {
                Ok(metadata) if metadata.is_dir() => found.directory(path, path, &metadata, 0),
                Ok(metadata) if metadata.is_file() => found.file(path.clone(), metadata),
                Ok(_) => found.problem(path, Problem::file(path, "Unreadable", "is neither a file nor a directory")),
                Err(error) => found.failed(path, path, &error),
            }
        }
        found
    }

    fn directory(&mut self, root: &Path, path: &Path, metadata: &Metadata, depth: usize) {
        if !self.visited.insert((metadata.dev(), metadata.ino())) {
            return;
        }
        if depth == DEPTH {
            let message = format!("directories are nested more than {DEPTH} deep; what is below is not read");
            return self.problem(root, Problem::file(path, "TooDeep", message));
        }
        let names = fs::read_dir(path).and_then(|entries| {
            entries.map(|entry| entry.map(|entry| entry.file_name())).collect::<io::Result<BTreeSet<_>>>()
        });
        let names = match names {
            Ok(names) => names,
            Err(error) => return self.failed(root, path, &error),
        };
        // An adapter that lies among the manifests brings JSON of its own.
        let adapter = names.contains(OsStr::new(ADAPTER_CONFIG));
        for name in names {
            // Hidden ones are what editors and a mounted ConfigMap keep for themselves.
            if name.as_encoded_bytes().starts_with(b".") {
                continue;
            }
            let entry = path.join(&name);
            if adapter && entry.extension().is_some_and(|extension| extension == "json") {
                continue;
            }
            match fs::metadata(&entry) {
                Ok(metadata) if metadata.is_dir() => self.directory(root, &entry, &metadata, depth + 1),
                Ok(metadata) if metadata.is_file() && is_manifest(&entry) => self.file(entry, metadata),
                Ok(_) => {}
                // A link that leads nowhere, or a file that was there when the directory was read.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => self.failed(root, &entry, &error),
            }
        }
    }

    fn file(&mut self, path: PathBuf, metadata: Metadata) {
        if self.visited.insert((metadata.dev(), metadata.ino())) {
            self.files.insert(path, metadata);
        }
    }

    fn failed(&mut self, root: &Path, path: &Path, error: &io::Error) {
        // What is not there is gone; of anything else it is not known.
        if error.kind() != io::ErrorKind::NotFound {
            self.unknown.push(path.to_owned());
        }
        self.problem(root, Problem::file(path, "Unreadable", format!("cannot be read: {error}")));
    }

    fn problem(&mut self, root: &Path, problem: Problem) {
        self.problems.entry(root.to_owned()).or_default().push(problem);
    }
}

/// What tells a directory with an adapter from others.
const ADAPTER_CONFIG: &str = "adapter_config.json";

fn is_manifest(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml" || extension == "json")
}

#[cfg(test)]
mod tests;
