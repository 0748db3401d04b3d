//! Which objects the manifests declare, and what has changed since the last look. Pure: text and times go in.
//!
//! It does for files what an API server does for a cluster: it counts generations, keeps one owner per key, holds an
//! object that is being deleted until it is released, and leaves the last good version in place when a new one is not
//! valid.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use longshore_api::manifest::{Document, Manifest, ManifestError, SecretDocument};
use longshore_api::spec::AdapterSpec;
use longshore_api::{RelativePaths, lower, warnings};
use longshore_reconciler::ObjectSeen;
use longshore_types::{Fault, Namespace, ObjectKey, Timestamp};

use super::declared;
use super::problems::Problem;
use super::secrets::Secrets;

/// What a file turned out to hold, document by document.
pub(super) type Parsed = Vec<Result<Manifest, ManifestError>>;

/// One object as one document declares it.
#[derive(Clone, Debug, PartialEq)]
struct Declared {
    key: ObjectKey,
    line: usize,
    content: Content,
}

/// What makes two versions of an object different.
#[derive(Clone, Debug, PartialEq)]
struct Content {
    lowered: Result<Vec<AdapterSpec>, Fault>,
    warnings: Vec<(&'static str, String)>,
}

#[derive(Debug)]
struct File {
    /// Of two files that declare one object, the earlier keeps it.
    seen: Timestamp,
    /// The last good version of each document.
    documents: Vec<Declared>,
    /// The Secrets beside them.
    secrets: Vec<SecretDocument>,
    /// What is wrong with the present text.
    problems: Vec<Problem>,
}

impl File {
    fn new(seen: Timestamp) -> Self {
        Self { seen, documents: Vec::new(), secrets: Vec::new(), problems: Vec::new() }
    }
}

#[derive(Debug)]
struct Object {
    generation: i64,
    created: Timestamp,
    deleting: bool,
    /// What it is now; while it is being deleted, what it was.
    content: Content,
}

/// The files that were read, and the objects that follow from them.
#[derive(Debug, Default)]
pub(super) struct Manifests {
    files: BTreeMap<PathBuf, File>,
    objects: BTreeMap<ObjectKey, Object>,
    /// What was declared without a file, and when each was first.
    told: BTreeMap<ObjectKey, (Timestamp, declared::Declared)>,
    /// Set once everything is to go: what files say does not count any more.
    withdrawn: bool,
}

impl Manifests {
    /// Takes in what `path` holds now. A document that is not valid leaves what the file declared before in place: which
    /// object it was meant to be is not known.
    pub(super) fn read(&mut self, path: &Path, seen: Timestamp, parsed: Parsed) {
        let directory = path.parent().unwrap_or(Path::new("/"));
        let (mut documents, mut secrets, mut problems) = (Vec::new(), Vec::new(), Vec::new());
        for result in parsed {
            match result {
                Ok(Manifest::Adapter(document)) => documents.push(Declared::new(&document, directory)),
                Ok(Manifest::Secret(secret)) => secrets.push(*secret),
                Ok(Manifest::Skipped { .. }) => {}
                Err(error) => problems.extend(error.problems.into_iter().map(|problem| Problem {
                    field: Some(problem.field).filter(|field| !field.is_empty()),
                    ..Problem::file(path, "InvalidManifest", problem.message).at(Some(problem.place.line))
                })),
            }
        }
        let file = self.files.entry(path.to_owned()).or_insert_with(|| File::new(seen));
        if !problems.is_empty() {
            let kept = std::mem::take(&mut file.documents);
            let name = |secret: &SecretDocument| (secret.namespace.clone(), secret.name.clone());
            let old = std::mem::take(&mut file.secrets);
            let old = old.into_iter().filter(|old| secrets.iter().all(|new| name(new) != name(old)));
            secrets.extend(old.collect::<Vec<_>>());
            documents.extend(
                kept.into_iter().filter(|old| documents.iter().all(|new| new.key != old.key)).collect::<Vec<_>>(),
            );
        }
        file.documents = documents;
        file.secrets = secrets;
        file.problems = problems;
    }

    /// Takes in everything that is declared without a file now.
    pub(super) fn tell(&mut self, now: Timestamp, declared: Vec<declared::Declared>) {
        let mut before = std::mem::take(&mut self.told);
        let entry = |declared: declared::Declared| {
            let key = declared.key();
            let since = before.remove(&key).map_or(now, |(since, _)| since);
            (key, (since, declared))
        };
        self.told = declared.into_iter().map(entry).collect();
    }

    /// The file is there but cannot be read: what it declared stays.
    pub(super) fn unreadable(&mut self, path: &Path, seen: Timestamp, why: &str) {
        let problem = Problem::file(path, "Unreadable", format!("cannot be read: {why}"));
        let file = self.files.entry(path.to_owned()).or_insert_with(|| File::new(seen));
        file.problems = vec![problem];
    }

    /// Every Secret that the files hold. Of two with one name, the file that was there first has it.
    pub(super) fn secrets(&self) -> Secrets {
        let mut files: Vec<(&PathBuf, &File)> = self.files.iter().collect();
        files.sort_by_key(|(path, file)| (file.seen, *path));
        let mut all = Secrets::new();
        for secret in files.into_iter().flat_map(|(_, file)| &file.secrets) {
            all.entry((secret.namespace.clone(), secret.name.clone())).or_insert_with(|| secret.data.clone());
        }
        self.told.values().for_each(|(_, declared)| declared.secret(&mut all));
        all
    }

    /// New generations of the objects whose Secrets are among `changed`: what failed over them is tried again.
    pub(super) fn secrets_changed(&mut self, changed: &BTreeSet<(Namespace, String)>) -> Vec<ObjectSeen> {
        let names = |key: &ObjectKey, object: &Object| {
            let mut specs = object.content.lowered.iter().flatten();
            let here = || changed.iter().filter(|(namespace, _)| *namespace == key.namespace);
            specs.any(|spec| here().any(|(_, name)| spec.uses_secret(name)))
        };
        let present = self.objects.iter_mut().filter(|(key, object)| !object.deleting && names(key, object));
        present
            .map(|(key, object)| {
                object.generation += 1;
                object.seen(key)
            })
            .collect()
    }

    /// The file is gone, and with it what it declared.
    pub(super) fn gone(&mut self, path: &Path) {
        self.files.remove(path);
    }

    /// Every object that is new, different or to be deleted since the last call.
    pub(super) fn changes(&mut self) -> Vec<ObjectSeen> {
        if self.withdrawn {
            return Vec::new();
        }
        let mut wanted: BTreeMap<ObjectKey, (Timestamp, Content)> = self
            .claims()
            .into_iter()
            .filter_map(|(key, claims)| {
                let first = claims.first()?;
                Some((key.clone(), (first.seen, first.declared.content.clone())))
            })
            .collect();
        for (key, (since, declared)) in &self.told {
            let content = Content { lowered: Ok(vec![declared.spec(key)]), warnings: Vec::new() };
            wanted.entry(key.clone()).or_insert((*since, content));
        }
        let mut seen = Vec::new();
        for (key, object) in &mut self.objects {
            // One that is being deleted has to be gone before it can come back.
            if !object.deleting && !wanted.contains_key(key) {
                object.deleting = true;
                seen.push(object.seen(key));
            }
        }
        for (key, (created, content)) in wanted {
            match self.objects.get_mut(&key) {
                None => {
                    let object = Object { generation: 1, created, deleting: false, content };
                    seen.push(object.seen(&key));
                    self.objects.insert(key, object);
                }
                Some(object) if !object.deleting && object.content != content => {
                    object.generation += 1;
                    object.content = content;
                    seen.push(object.seen(&key));
                }
                Some(_) => {}
            }
        }
        seen
    }

    /// The files behind an unchanged reference have changed, which is a new generation.
    pub(super) fn files_changed(&mut self, key: &ObjectKey) -> Option<ObjectSeen> {
        let object = self.objects.get_mut(key).filter(|object| !object.deleting)?;
        object.generation += 1;
        Some(object.seen(key))
    }

    /// Nothing is left of an object that was to be deleted. Where files declare it again, it is a new one.
    pub(super) fn released(&mut self, key: &ObjectKey) -> Vec<ObjectSeen> {
        if self.objects.get(key).is_some_and(|object| object.deleting) {
            self.objects.remove(key);
        }
        self.changes()
    }

    /// Everything is to go, whatever the files say.
    pub(super) fn withdraw(&mut self) -> Vec<ObjectSeen> {
        self.withdrawn = true;
        let present = self.objects.iter_mut().filter(|(_, object)| !object.deleting);
        present
            .map(|(key, object)| {
                object.deleting = true;
                object.seen(key)
            })
            .collect()
    }

    /// The generation of each object that is not being deleted.
    pub(super) fn generations(&self) -> BTreeMap<ObjectKey, i64> {
        let present = self.objects.iter().filter(|(_, object)| !object.deleting);
        present.map(|(key, object)| (key.clone(), object.generation)).collect()
    }

    /// The objects that there are, those that are being deleted too.
    pub(super) fn objects(&self) -> impl Iterator<Item = &ObjectKey> {
        self.objects.keys()
    }

    /// What is wrong with each file that was read; nothing, for most.
    pub(super) fn problems(&self) -> BTreeMap<PathBuf, Vec<Problem>> {
        let mut problems: BTreeMap<PathBuf, Vec<Problem>> =
            self.files.iter().map(|(path, file)| (path.clone(), file.problems.clone())).collect();
        for (key, claims) in self.claims() {
            let Some((first, others)) = claims.split_first() else { continue };
            let place = format!("{}:{}", first.path.display(), first.declared.line);
            for other in others {
                let message = format!("{key} is declared in {place} already, which keeps it: take one of the two out");
                let problem = Problem::file(other.path, "Duplicate", message).at(Some(other.declared.line));
                let problem = Problem { field: Some("metadata.name".to_owned()), ..problem };
                problems.entry(other.path.to_owned()).or_default().push(problem);
            }
        }
        problems
    }

    /// Who declares each object, the one that keeps it first: the file that was there first, then by path.
    fn claims(&self) -> BTreeMap<&ObjectKey, Vec<Claim<'_>>> {
        let mut claims: BTreeMap<&ObjectKey, Vec<Claim<'_>>> = BTreeMap::new();
        for (path, file) in &self.files {
            for declared in &file.documents {
                claims.entry(&declared.key).or_default().push(Claim { seen: file.seen, path, declared });
            }
        }
        for claims in claims.values_mut() {
            claims.sort_by_key(|claim| (claim.seen, claim.path));
        }
        claims
    }
}

struct Claim<'a> {
    seen: Timestamp,
    path: &'a Path,
    declared: &'a Declared,
}

impl Declared {
    fn new(document: &Document, directory: &Path) -> Self {
        let content = Content {
            lowered: lower(&document.object, RelativePaths::From(directory)),
            warnings: warnings(&document.object),
        };
        Self { key: document.key.clone(), line: document.line, content }
    }
}

impl Object {
    fn seen(&self, key: &ObjectKey) -> ObjectSeen {
        let lowered = self.content.lowered.clone().map(|specs| {
            let numbered = |spec| AdapterSpec { generation: self.generation, created: self.created, ..spec };
            specs.into_iter().map(numbered).collect()
        });
        ObjectSeen {
            key: key.clone(),
            generation: self.generation,
            deleting: self.deleting,
            lowered,
            shown: None,
            warnings: self.content.warnings.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use longshore_api::manifest::parse;

    use super::*;

    fn adapter(name: &str, url: &str) -> String {
        format!(
            "apiVersion: model.aibrix.ai/v1alpha1\nkind: ModelAdapter\nmetadata: {{name: {name}}}\n\
             spec: {{podSelector: {{matchLabels: {{app: vllm}}}}, artifactURL: {url}}}\n"
        )
    }

    fn read(manifests: &mut Manifests, path: &str, seen: u64, text: &str) -> Vec<String> {
        manifests.read(Path::new(path), Timestamp::from_millis(seen), parse(path, text));
        shown(manifests.changes())
    }

    /// `name generation`, with a `-` before what is to be deleted.
    fn shown(seen: Vec<ObjectSeen>) -> Vec<String> {
        seen.iter()
            .map(|seen| format!("{}{} {}", if seen.deleting { "-" } else { "" }, seen.key.name, seen.generation))
            .collect()
    }

    fn url(seen: &ObjectSeen) -> &str {
        seen.lowered.as_ref().unwrap()[0].artifact.as_written()
    }

    fn key(name: &str) -> ObjectKey {
        let document = parse("x", &adapter(name, "/a")).remove(0).unwrap();
        match document {
            Manifest::Adapter(document) => document.key,
            _ => unreachable!(),
        }
    }

    #[test]
    fn a_generation_counts_the_versions_of_an_object() {
        let mut manifests = Manifests::default();
        assert_eq!(read(&mut manifests, "/m/a.yaml", 1, &adapter("sql", "/one")), ["sql 1"]);
        assert_eq!(read(&mut manifests, "/m/a.yaml", 2, &adapter("sql", "/one")), [""; 0]);
        let moved = format!("# a comment\n---\n{}", adapter("sql", "/one"));
        assert_eq!(read(&mut manifests, "/m/a.yaml", 3, &moved), [""; 0], "only content counts");
        assert_eq!(read(&mut manifests, "/m/a.yaml", 4, &adapter("sql", "/two")), ["sql 2"]);
        assert_eq!(read(&mut manifests, "/m/a.yaml", 5, &adapter("sql", "/one")), ["sql 3"]);
    }

    #[test]
    fn the_adapter_carries_the_generation_and_the_time_of_its_object() {
        let mut manifests = Manifests::default();
        manifests.read(Path::new("/m/a.yaml"), Timestamp::from_millis(7), parse("a", &adapter("sql", "files/sql")));
        let seen = manifests.changes().remove(0);
        let spec = &seen.lowered.as_ref().unwrap()[0];
        assert_eq!((spec.generation, spec.created), (1, Timestamp::from_millis(7)));
        assert_eq!(url(&seen), "/m/files/sql", "a relative path is taken from the manifest's directory");
        read(&mut manifests, "/m/a.yaml", 9, &adapter("sql", "/two"));
        let seen = manifests.files_changed(&key("sql")).unwrap();
        let spec = &seen.lowered.as_ref().unwrap()[0];
        assert_eq!((spec.generation, spec.created), (3, Timestamp::from_millis(7)));
    }

    #[test]
    fn what_is_taken_out_of_a_file_is_deleted_and_then_forgotten() {
        let mut manifests = Manifests::default();
        let both = format!("{}---\n{}", adapter("sql", "/one"), adapter("code", "/two"));
        assert_eq!(read(&mut manifests, "/m/a.yaml", 1, &both), ["code 1", "sql 1"]);
        assert_eq!(read(&mut manifests, "/m/a.yaml", 2, &adapter("sql", "/one")), ["-code 1"]);
        assert_eq!(manifests.objects().count(), 2, "it is held until it is released");
        assert_eq!(shown(manifests.released(&key("code"))), [""; 0]);
        manifests.gone(Path::new("/m/a.yaml"));
        assert_eq!(shown(manifests.changes()), ["-sql 1"]);
        assert_eq!(shown(manifests.changes()), [""; 0]);
        manifests.released(&key("sql"));
        assert_eq!(manifests.objects().count(), 0);
    }

    #[test]
    fn i5_an_object_that_comes_back_while_it_is_deleted_waits_until_it_is_gone() {
        let mut manifests = Manifests::default();
        read(&mut manifests, "/m/a.yaml", 1, &adapter("sql", "/one"));
        manifests.gone(Path::new("/m/a.yaml"));
        assert_eq!(shown(manifests.changes()), ["-sql 1"]);
        assert_eq!(read(&mut manifests, "/m/a.yaml", 2, &adapter("sql", "/two")), [""; 0]);
        let back = manifests.released(&key("sql"));
        assert_eq!(url(&back[0]), "/two");
        assert_eq!(shown(back), ["sql 1"]);
    }

    #[test]
    fn i11_a_broken_document_takes_nothing_from_the_others_nor_its_own_last_version() {
        let mut manifests = Manifests::default();
        let both = format!("{}---\n{}", adapter("sql", "/one"), adapter("code", "/two"));
        read(&mut manifests, "/m/a.yaml", 1, &both);
        read(&mut manifests, "/m/b.yaml", 1, &adapter("other", "/three"));
        let broken = format!("{}---\nkind: [\n---\n{}", adapter("sql", "/changed"), adapter("new", "/four"));
        assert_eq!(read(&mut manifests, "/m/a.yaml", 2, &broken), ["new 1", "sql 2"]);
        let problems = manifests.problems();
        assert_eq!(problems[Path::new("/m/b.yaml")], []);
        let problem = &problems[Path::new("/m/a.yaml")][0];
        assert_eq!(problem.reason, "InvalidManifest");
        assert!(problem.line.is_some_and(|line| line > 4), "{problem}");
        assert_eq!(read(&mut manifests, "/m/a.yaml", 3, &adapter("sql", "/changed")), ["-code 1", "-new 1"]);
        assert_eq!(manifests.problems()[Path::new("/m/a.yaml")], []);
    }

    #[test]
    fn an_adapter_is_taken_up_again_when_a_secret_that_it_names_changes() {
        let secret = |value: &str| {
            format!("apiVersion: v1\nkind: Secret\nmetadata: {{name: hub}}\nstringData: {{token: {value}}}\n")
        };
        let private = format!(
            "{}  credentialsSecretRef: {{name: hub}}\n",
            adapter("sql", "hf://o/r").replace("spec: {", "spec:\n  {")
        );
        let private = private
            .replace("spec:\n  {", "spec:\n  ")
            .replace("}, artifactURL: hf://o/r}", "}\n  artifactURL: hf://o/r");
        let mut manifests = Manifests::default();
        assert_eq!(read(&mut manifests, "/m/a.yaml", 1, &private), ["sql 1"], "{:?}", manifests.problems());
        assert_eq!(read(&mut manifests, "/m/b.yaml", 2, &adapter("code", "/two")), ["code 1"]);
        let mut change = |seen: u64, text: &str| {
            let before = manifests.secrets();
            read(&mut manifests, "/m/s.yaml", seen, text);
            let after = manifests.secrets();
            let changed = before.keys().chain(after.keys()).filter(|name| before.get(*name) != after.get(*name));
            let changed = changed.cloned().collect();
            shown(manifests.secrets_changed(&changed))
        };
        assert_eq!(change(3, &secret("one")), ["sql 2"]);
        assert_eq!(change(4, &secret("one")), [""; 0]);
        assert_eq!(change(5, &secret("two")), ["sql 3"]);
        assert_eq!(change(6, "kind: ["), [""; 0], "a broken file keeps what it held");
        assert_eq!(change(7, "# nothing"), ["sql 4"]);
    }

    #[test]
    fn a_file_that_cannot_be_read_keeps_what_it_declared() {
        let mut manifests = Manifests::default();
        read(&mut manifests, "/m/a.yaml", 1, &adapter("sql", "/one"));
        manifests.unreadable(Path::new("/m/a.yaml"), Timestamp::from_millis(2), "permission denied");
        assert_eq!(shown(manifests.changes()), [""; 0]);
        let problems = manifests.problems();
        assert_eq!(problems[Path::new("/m/a.yaml")][0].to_string(), "/m/a.yaml: cannot be read: permission denied");
    }

    #[test]
    fn of_two_files_that_declare_one_object_the_earlier_keeps_it() {
        let mut manifests = Manifests::default();
        for (path, seen, url) in [("/m/a.yaml", 5, "/a"), ("/m/b.yaml", 3, "/b"), ("/m/c.yaml", 3, "/c")] {
            manifests.read(Path::new(path), Timestamp::from_millis(seen), parse(path, &adapter("sql", url)));
        }
        let seen = manifests.changes();
        assert_eq!(url(&seen[0]), "/b", "earlier, and first by path");
        let problems = manifests.problems();
        assert_eq!(problems[Path::new("/m/b.yaml")], []);
        for path in ["/m/a.yaml", "/m/c.yaml"] {
            let shown = problems[Path::new(path)][0].to_string();
            assert!(shown.starts_with(&format!("{path}:1: metadata.name: default/sql is declared in /m/b.yaml:1")));
        }
        manifests.gone(Path::new("/m/b.yaml"));
        let seen = manifests.changes();
        assert_eq!(url(&seen[0]), "/c", "the next one takes over, without a deletion in between");
        assert_eq!(shown(seen), ["sql 2"]);
    }

    #[test]
    fn i4_withdrawing_deletes_everything_and_files_bring_nothing_back() {
        let mut manifests = Manifests::default();
        read(&mut manifests, "/m/a.yaml", 1, &adapter("sql", "/one"));
        read(&mut manifests, "/m/b.yaml", 1, &adapter("code", "/two"));
        assert_eq!(shown(manifests.withdraw()), ["-code 1", "-sql 1"]);
        assert_eq!(read(&mut manifests, "/m/c.yaml", 1, &adapter("new", "/three")), [""; 0]);
        assert_eq!(shown(manifests.released(&key("sql"))), [""; 0]);
        assert_eq!(manifests.objects().count(), 1);
        assert!(manifests.files_changed(&key("code")).is_none());
    }
}
