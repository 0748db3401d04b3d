//! Manifests as text: YAML of one or many documents, or JSON. Text in, values out; reading files is the caller's.
//!
//! Each document has a result of its own, so that a broken one never hides the others, and each error says in which line
//! and field the trouble is and what to do about it. What an API server would silently drop, such as a field that it does
//! not know, is an error here: nobody would see it otherwise.

mod error;
mod read;
mod secret;
mod shape;
mod split;
#[cfg(test)]
mod tests;
mod tree;

use std::collections::BTreeMap;

use longshore_types::ObjectKey;

pub use error::{ManifestError, Place, Problem};
pub use secret::SecretDocument;

use crate::ModelAdapter;

/// Largest document in bytes. A `ModelAdapter` has a few hundred, and what a cluster stores is at most of this order.
pub const DOCUMENT_MAX: usize = 1 << 20;

/// What one document holds.
#[derive(Clone, Debug, PartialEq)]
pub enum Manifest {
    /// An adapter that obeys every rule.
    Adapter(Box<Document>),
    /// A Secret that adapters may name.
    Secret(Box<SecretDocument>),
    /// Something that a cluster knows and that means nothing here, such as a Deployment or a Service.
    Skipped {
        /// Its kind.
        kind: String,
        /// Its name, empty where it has none.
        name: String,
        /// Its first line in the file.
        line: usize,
    },
}

/// A `ModelAdapter` and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    /// Its first line in the file.
    pub line: usize,
    /// Its key; the namespace is `default` where the manifest has none.
    pub key: ObjectKey,
    /// The object, without any status that the manifest has.
    pub object: ModelAdapter,
    places: BTreeMap<String, Place>,
}

impl Document {
    /// Where `field` stands, such as `spec.replicas`; for one that is not written, the nearest thing around it.
    pub fn place(&self, field: &str) -> Place {
        tree::nearest(&self.places, field, Place { line: self.line, column: 1 })
    }
}

/// Every document of `text`, in order; `file` is what errors call it. Documents without content are passed over, a
/// `List` stands for its items.
///
/// The adapters have been checked as [`crate::lower`] does it, relative paths allowed, so lowering one with the
/// directory of its file fails only over that directory. Of two objects with one key the second is an error.
///
/// ```
/// use longshore_api::manifest::{Manifest, parse};
///
/// let text = "apiVersion: model.aibrix.ai/v1alpha1\nkind: ModelAdapter\nmetadata: {name: sql}\nspec: {replica: 2}\n";
/// let error = parse("sql.yaml", text).remove(0).unwrap_err();
/// assert!(error.to_string().starts_with("sql.yaml:4:8: spec.replica: unknown field, did you mean `replicas`?"));
/// ```
pub fn parse(file: &str, text: &str) -> Vec<Result<Manifest, ManifestError>> {
    let mut seen: BTreeMap<ObjectKey, usize> = BTreeMap::new();
    let mut results = Vec::new();
    for chunk in split::split(text) {
        for result in read::document(file, &chunk) {
            results.push(result.and_then(|manifest| once(file, manifest, &mut seen)));
        }
    }
    results
}

/// Refuses an object that stands in the file already.
fn once(file: &str, manifest: Manifest, seen: &mut BTreeMap<ObjectKey, usize>) -> Result<Manifest, ManifestError> {
    if let Manifest::Adapter(document) = &manifest {
        if let Some(first) = seen.get(&document.key) {
            let message =
                format!("{} is declared already, from line {first} on: take one of the two out", document.key);
            let problem = Problem { place: document.place("metadata.name"), field: "metadata.name".into(), message };
            return Err(ManifestError { file: file.into(), line: document.line, problems: vec![problem] });
        }
        seen.insert(document.key.clone(), document.line);
    }
    Ok(manifest)
}
