//! A Kubernetes Secret in a manifest, for who has no cluster to keep it.

use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::api::core::v1::Secret as Wire;
use longshore_types::{Namespace, Secret};

use super::tree::{Node, Value};
use super::{Place, Problem};

/// A Secret, whose values are never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretDocument {
    /// Its first line in the file.
    pub line: usize,
    /// Its namespace; `default` where the manifest has none.
    pub namespace: Namespace,
    /// Its name.
    pub name: String,
    /// What it holds, by key, as far as it is text.
    pub data: BTreeMap<String, Secret>,
}

impl fmt::Debug for SecretDocument {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys: Vec<&String> = self.data.keys().collect();
        f.debug_struct("SecretDocument")
            .field("line", &self.line)
            .field("namespace", &self.namespace)
            .field("name", &self.name)
            .field("keys", &keys)
            .finish()
    }
}

/// Reads a Secret. What is wrong is said without the parser's own words, which may quote a value (I8).
pub(super) fn read(line: usize, node: &Node) -> Result<SecretDocument, Vec<Problem>> {
    let problem = |place: Place, field: &str, message: &str| {
        vec![Problem { place, field: field.to_owned(), message: message.to_owned() }]
    };
    let metadata = node.get("metadata");
    let name = metadata.and_then(|metadata| metadata.text("name")).unwrap_or_default();
    if name.is_empty() {
        return Err(problem(node.place, "metadata.name", "missing or not text"));
    }
    let namespace = metadata.and_then(|metadata| metadata.text("namespace"));
    let namespace = namespace.map_or_else(|| Ok(Namespace::default_namespace()), Namespace::new);
    let namespace = namespace.map_err(|error| problem(node.place, "metadata.namespace", &error.to_string()))?;
    for (field, wanted) in [
        ("data", "text in base64: plain text goes under stringData"),
        ("stringData", "text: a number, true or false needs quotes"),
    ] {
        if let Some(Value::Map(map)) = node.get(field).map(|map| &map.value) {
            for (key, value) in map {
                let json = serde_json::json!({ field: { &key.text: value.to_json() } });
                if serde_json::from_value::<Wire>(json).is_err() {
                    let field = format!("{field}.{}", crate::text::shown(&key.text));
                    return Err(problem(value.place, &field, &format!("must be {wanted}")));
                }
            }
        }
    }
    let wire: Wire = serde_json::from_value(node.to_json())
        .map_err(|_| problem(node.place, "", "is not a Secret as Kubernetes knows it"))?;
    let binary = wire.data.unwrap_or_default().into_iter();
    let text = binary.filter_map(|(key, value)| Some((key, String::from_utf8(value.0).ok()?)));
    // As in a cluster, what is written as text has the last word.
    let all = text.chain(wire.string_data.unwrap_or_default());
    let data = all.map(|(key, value)| (key, Secret::new(value))).collect();
    Ok(SecretDocument { line, namespace, name: name.to_owned(), data })
}
