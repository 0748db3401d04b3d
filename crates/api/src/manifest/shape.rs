//! Holding a tree against the resource's own schema: fields that it does not know, values of another type.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use schemars::generate::SchemaSettings;
use serde_json::{Value as Json, json};

use super::tree::{Node, Value};
use super::{Place, Problem};
use crate::text::{odd, shown};

/// Longest text. Kubernetes allows as much for all annotations of an object together.
const TEXT_MAX: usize = 256 << 10;

/// The schema of a whole `ModelAdapter`. The spec's is the one in the custom resource definition, so that a manifest and a
/// cluster never differ over a field; an API server knows that of the metadata by itself.
static SCHEMA: LazyLock<Json> = LazyLock::new(|| {
    let crd = serde_json::to_value(crate::crd()).unwrap_or_default();
    let spec = crd.pointer("/spec/versions/0/schema/openAPIV3Schema/properties/spec").cloned().unwrap_or_default();
    let mut generator = SchemaSettings::openapi3().with(|settings| settings.inline_subschemas = true).into_generator();
    let metadata = generator.root_schema_for::<ObjectMeta>().to_value();
    json!({
        "type": "object",
        "required": ["apiVersion", "kind", "metadata", "spec"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": metadata,
            "spec": spec,
            // What `kubectl get` adds; it is never read from a manifest.
            "status": {"type": "object"},
        },
    })
});

/// Problems that one document is reported with: more help nobody, and each takes some work to word.
const PROBLEMS_MAX: usize = 32;

/// What holding a tree against the schema brings to light.
#[derive(Default)]
pub(super) struct Shape {
    /// Everything that does not fit.
    pub(super) problems: Vec<Problem>,
    /// Where each field stands.
    pub(super) places: BTreeMap<String, Place>,
}

/// Holds a `ModelAdapter` against its schema.
pub(super) fn check(root: &Node) -> Shape {
    let mut shape = Shape::default();
    shape.node(root, &SCHEMA, "");
    shape
}

impl Shape {
    fn problem(&mut self, place: Place, field: &str, message: impl Into<String>) {
        self.problems.push(Problem { place, field: field.to_owned(), message: message.into() });
    }

    fn is_full(&self) -> bool {
        self.problems.len() >= PROBLEMS_MAX
    }

    fn node(&mut self, node: &Node, schema: &Json, field: &str) {
        if !field.is_empty() {
            self.places.insert(field.to_owned(), node.place);
        }
        match (schema["type"].as_str(), &node.value) {
            (_, Value::Null) => {}
            (Some("object"), Value::Map(_)) => self.object(node, schema, field),
            (Some("array"), Value::List(list)) => {
                for (index, item) in list.iter().enumerate() {
                    if self.is_full() {
                        return;
                    }
                    self.node(item, &schema["items"], &format!("{field}[{index}]"));
                }
            }
            (Some("string"), Value::Text(text)) => self.text(node.place, text, schema, field),
            (Some("integer"), Value::Int(number)) => self.integer(node.place, *number, schema, field),
            (Some("boolean"), Value::Bool(_)) => {}
            (None, _) => {}
            (Some(expected), value) => self.problem(node.place, field, wrong_type(expected, value)),
        }
    }

    fn object(&mut self, node: &Node, schema: &Json, field: &str) {
        let Value::Map(map) = &node.value else { return };
        let (known, rest) = (schema["properties"].as_object(), &schema["additionalProperties"]);
        for (key, value) in map {
            if self.is_full() {
                return;
            }
            let inner = match field {
                "" => key.text.clone(),
                _ if rest.is_object() => format!("{field}[{}]", shown(&key.text)),
                _ => format!("{field}.{}", shown(&key.text)),
            };
            if let Some(what) = odd(&key.text) {
                self.problem(key.place, field, format!("a key here has {what}: type it anew"));
            } else if let Some(schema) = known.and_then(|known| known.get(&key.text)) {
                self.node(value, schema, &inner);
            } else if rest.is_object() {
                self.node(value, rest, &inner);
            } else if let Some(known) = known {
                self.problem(key.place, &inner, unknown_field(&key.text, known.keys()));
            }
        }
        for required in schema["required"].as_array().into_iter().flatten().filter_map(Json::as_str) {
            if node.get(required).is_none_or(|node| node.value == Value::Null) {
                let inner = if field.is_empty() { required.to_owned() } else { format!("{field}.{required}") };
                self.problem(node.place, &inner, "missing");
            }
        }
    }

    fn text(&mut self, place: Place, text: &str, schema: &Json, field: &str) {
        if text.len() > TEXT_MAX {
            self.problem(place, field, format!("has {} bytes, {TEXT_MAX} are allowed", text.len()));
        } else if let Some(what) = odd(text) {
            self.problem(place, field, format!("has {what}: type it anew"));
        } else if let Some(allowed) = schema["enum"].as_array()
            && !allowed.iter().any(|one| one.as_str() == Some(text))
        {
            let allowed: Vec<&str> = allowed.iter().filter_map(Json::as_str).collect();
            self.problem(place, field, format!("must be one of {}", allowed.join(", ")));
        }
    }

    fn integer(&mut self, place: Place, number: i128, schema: &Json, field: &str) {
        let fits =
            if schema["format"] == "int64" { i64::try_from(number).is_ok() } else { i32::try_from(number).is_ok() };
        if !fits {
            self.problem(place, field, "too large a number");
        }
    }
}

fn wrong_type(expected: &str, value: &Value) -> String {
    let (found, is_plain) = match value {
        Value::Null => ("nothing", false),
        Value::Bool(_) => ("true or false", true),
        Value::Int(_) | Value::Float(_) => ("a number", true),
        Value::Text(_) => ("text", false),
        Value::List(_) => ("a list", false),
        Value::Map(_) => ("a map", false),
    };
    match expected {
        "string" if is_plain => format!("must be text, and YAML takes it for {found}: put it in quotes"),
        "string" => format!("must be text, not {found}"),
        "integer" if matches!(value, Value::Float(_)) => {
            "must be a whole number, not a number with a fraction".to_owned()
        }
        "integer" if found == "text" => "must be a whole number: take the quotes off".to_owned(),
        "integer" => format!("must be a whole number, not {found}"),
        "boolean" => format!("must be true or false, not {found}"),
        "array" => format!("must be a list, not {found}: begin each entry with `- `"),
        _ => format!("must be a map of fields, not {found}"),
    }
}

fn unknown_field<'a>(name: &str, known: impl Iterator<Item = &'a String> + Clone) -> String {
    let close = known.clone().map(|one| (distance(&name.to_lowercase(), &one.to_lowercase()), one)).min();
    match close {
        // A third of the name wrong is a slip; more is another word.
        Some((away, one)) if away * 3 <= one.len() => format!("unknown field, did you mean `{one}`?"),
        _ => {
            let all: Vec<&str> = known.map(String::as_str).collect();
            format!("unknown field; there are {}", all.join(", "))
        }
    }
}

/// How many letters must be put in, taken out or changed to make `a` of `b`.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().take(64).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().take(64).enumerate() {
        let mut diagonal = i;
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let changed = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
