//! Manifests: every crate takes its edition, license, lints and so on, and each of its dependencies, from the workspace.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::finding::{Finding, Findings};
use super::tree::Tree;

/// What a crate's `[package]` must take from the workspace.
const INHERITED: &[&str] = &["version", "edition", "rust-version", "license", "publish"];

/// When a dependency is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Normal,
    Build,
    Dev,
}

/// One line of a dependency table.
#[derive(Clone, Debug)]
pub(super) struct Dependency {
    /// The package's name, also where the manifest renames it.
    pub(super) package: String,
    pub(super) kind: Kind,
    pub(super) line: usize,
    from_workspace: bool,
}

/// A crate's `Cargo.toml`, as far as the rules ask.
#[derive(Clone, Debug)]
pub(super) struct Manifest {
    /// Relative to the root.
    pub(super) path: PathBuf,
    pub(super) dependencies: Vec<Dependency>,
    /// Keys of `[package]`, and `lints`, that are not taken from the workspace.
    own: Vec<&'static str>,
}

type Table<'a> = DeTable<'a>;

impl Manifest {
    pub(super) fn parse(path: &Path, text: &str) -> Result<Self> {
        let document = DeTable::parse(text).with_context(|| format!("{} is not TOML", path.display()))?;
        let document = document.get_ref();
        let mut dependencies = Vec::new();
        collect(document, text, &mut dependencies);
        let targets = table(document, "target");
        for target in targets.into_iter().flat_map(Table::values) {
            if let DeValue::Table(target) = target.get_ref() {
                collect(target, text, &mut dependencies);
            }
        }
        let package = table(document, "package");
        let mut own: Vec<_> = INHERITED
            .iter()
            .copied()
            .filter(|key| !package.and_then(|package| table(package, key)).is_some_and(inherits))
            .collect();
        if !table(document, "lints").is_some_and(inherits) {
            own.push("lints");
        }
        Ok(Self { path: path.to_path_buf(), dependencies, own })
    }
}

/// Reports what a crate does not take from the workspace.
pub(super) fn check(tree: &Tree, findings: &mut Findings) {
    for krate in &tree.crates {
        let (name, manifest) = (&krate.name, &krate.manifest);
        for key in &manifest.own {
            let message = format!("{name} does not inherit `{key}`: write `{key}.workspace = true`");
            findings.broken.push(Finding::new(&manifest.path, None, message));
        }
        for dependency in manifest.dependencies.iter().filter(|dependency| !dependency.from_workspace) {
            let package = &dependency.package;
            let message =
                format!("{name} has its own entry for {package}: name it in [workspace.dependencies] instead");
            findings.broken.push(Finding::new(&manifest.path, dependency.line, message));
        }
    }
}

fn collect(section: &Table<'_>, text: &str, dependencies: &mut Vec<Dependency>) {
    for (key, kind) in
        [("dependencies", Kind::Normal), ("build-dependencies", Kind::Build), ("dev-dependencies", Kind::Dev)]
    {
        for (name, value) in table(section, key).into_iter().flatten() {
            let entry = match value.get_ref() {
                DeValue::Table(entry) => Some(entry),
                _ => None,
            };
            let package = entry.and_then(|entry| string(entry, "package")).unwrap_or(name.get_ref());
            dependencies.push(Dependency {
                package: package.to_owned(),
                kind,
                line: line_of(text, name),
                from_workspace: entry.is_some_and(inherits),
            });
        }
    }
}

fn table<'a, 'i>(parent: &'a Table<'i>, key: &str) -> Option<&'a Table<'i>> {
    match get(parent, key)? {
        DeValue::Table(table) => Some(table),
        _ => None,
    }
}

fn string<'a>(parent: &'a Table<'_>, key: &str) -> Option<&'a str> {
    match get(parent, key)? {
        DeValue::String(text) => Some(text),
        _ => None,
    }
}

fn inherits(table: &Table<'_>) -> bool {
    matches!(get(table, "workspace"), Some(DeValue::Boolean(true)))
}

fn get<'a, 'i>(parent: &'a Table<'i>, key: &str) -> Option<&'a DeValue<'i>> {
    parent.iter().find(|(name, _)| name.get_ref() == key).map(|(_, value)| value.get_ref())
}

fn line_of<T>(text: &str, spanned: &Spanned<T>) -> usize {
    text[..spanned.span().start].matches('\n').count() + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependencies_of_every_kind_are_read_with_their_lines() {
        let text = "\
[package]
name = \"a\"
version.workspace = true

[dependencies]
b.workspace = true
c = \"1\"

[target.'cfg(unix)'.dev-dependencies.d]
package = \"e\"
workspace = true
";
        let manifest = Manifest::parse(Path::new("Cargo.toml"), text).unwrap();
        let seen: Vec<_> = manifest
            .dependencies
            .iter()
            .map(|dependency| (&*dependency.package, dependency.kind, dependency.line, dependency.from_workspace))
            .collect();
        assert_eq!(seen, [("b", Kind::Normal, 6, true), ("c", Kind::Normal, 7, false), ("e", Kind::Dev, 9, true)]);
        assert_eq!(manifest.own, ["edition", "rust-version", "license", "publish", "lints"]);
    }
}
