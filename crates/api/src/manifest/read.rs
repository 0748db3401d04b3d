//! One document: what kind of thing it is, and the adapter that it declares.

use super::secret;
use super::shape;
use super::split::Chunk;
use super::tree::{self, Node, Value};
use super::{DOCUMENT_MAX, Document, Manifest, ManifestError, Place, Problem};
use crate::lower::{RelativePaths, object_key, violations};
use crate::text::shown;
use crate::{ModelAdapter, labels};

type Outcome = Result<Manifest, ManifestError>;

/// What a document holds: one thing, or as many as the `List` has that it is.
pub(super) fn document(file: &str, chunk: &Chunk<'_>) -> Vec<Outcome> {
    let begin = Place { line: chunk.content_line, column: 1 };
    let fail = |place, message: String| {
        vec![Err(ManifestError {
            file: file.to_owned(),
            line: chunk.content_line,
            problems: vec![Problem { place, field: String::new(), message }],
        })]
    };
    if chunk.text.len() > DOCUMENT_MAX {
        return fail(begin, format!("the document has {} bytes, {DOCUMENT_MAX} are allowed", chunk.text.len()));
    }
    let above = chunk.first_line - 1;
    let mut root = match tree::parse(chunk.text) {
        Ok(root) => root,
        Err((mut place, message)) => {
            place.line += above;
            return fail(place, message);
        }
    };
    root.shift(above);
    match (&root.value, Type::of(&root)) {
        (Value::Map(_), Some(Type::List)) => match root.get("items").map(|items| &items.value) {
            Some(Value::List(items)) => items.iter().map(|item| one(file, item.place.line, item)).collect(),
            _ => Vec::new(),
        },
        (Value::Map(_), _) => vec![one(file, chunk.content_line, &root)],
        _ => fail(root.place, "not a manifest: a document is a map with apiVersion, kind, metadata and spec".into()),
    }
}

/// What an object's apiVersion and kind say that it is.
enum Type {
    /// A `ModelAdapter`.
    Adapter,
    /// A Secret.
    Secret,
    /// A list of objects.
    List,
    /// Something of Kubernetes or AIBrix that means nothing here.
    Foreign,
    /// Anything else.
    Unknown,
}

impl Type {
    /// The type of an object that says which it is.
    fn of(node: &Node) -> Option<Self> {
        let (api_version, kind) = (node.text("apiVersion")?, node.text("kind")?);
        let (group, _) = api_version.split_once('/').unwrap_or(("", api_version));
        Some(match kind {
            labels::KIND if api_version == labels::API_VERSION => Self::Adapter,
            "ModelAdapterList" if api_version == labels::API_VERSION => Self::List,
            "List" if api_version == "v1" => Self::List,
            "Secret" if api_version == "v1" => Self::Secret,
            _ if api_version == "v1" || is_foreign(group) => Self::Foreign,
            _ => Self::Unknown,
        })
    }
}

/// Groups whose kinds are fine beside ours: Kubernetes' own, and AIBrix's other ones.
fn is_foreign(group: &str) -> bool {
    matches!(group, "apps" | "batch" | "autoscaling" | "policy" | "orchestration.aibrix.ai" | "autoscaling.aibrix.ai")
        || group.ends_with(".k8s.io")
}

fn one(file: &str, line: usize, node: &Node) -> Outcome {
    let fail = |problems: Vec<Problem>| Err(ManifestError { file: file.to_owned(), line, problems });
    match Type::of(node) {
        Some(Type::Adapter) => adapter(line, node).or_else(fail),
        Some(Type::Secret) => secret::read(line, node).map(|secret| Manifest::Secret(Box::new(secret))).or_else(fail),
        Some(Type::Foreign) => Ok(Manifest::Skipped {
            kind: shown(node.text("kind").unwrap_or_default()),
            name: shown(node.get("metadata").and_then(|meta| meta.text("name")).unwrap_or_default()),
            line,
        }),
        Some(Type::List) => fail(vec![problem(node, "kind", "a list within a list: write its items out".to_owned())]),
        Some(Type::Unknown) => fail(vec![unknown(node)]),
        None => fail(
            ["apiVersion", "kind"]
                .into_iter()
                .filter(|field| node.text(field).is_none())
                .map(|field| problem(node, field, format!("missing or not text; {UNDERSTOOD}")))
                .collect(),
        ),
    }
}

const UNDERSTOOD: &str = "understood are kind ModelAdapter of apiVersion model.aibrix.ai/v1alpha1 and kind Secret of \
                          apiVersion v1; Kubernetes' other kinds are passed over";

fn unknown(node: &Node) -> Problem {
    let (api_version, kind) = (node.text("apiVersion").unwrap_or_default(), node.text("kind").unwrap_or_default());
    if kind == labels::KIND {
        let message = format!("`{}` has no ModelAdapter: write {}", shown(api_version), labels::API_VERSION);
        return problem(node, "apiVersion", message);
    }
    let field = if api_version == labels::API_VERSION { "kind" } else { "apiVersion" };
    problem(node, field, format!("`{}` of `{}` is not known here; {UNDERSTOOD}", shown(kind), shown(api_version)))
}

fn problem(node: &Node, field: &str, message: String) -> Problem {
    Problem { place: node.get(field).map_or(node.place, |at| at.place), field: field.to_owned(), message }
}

fn adapter(line: usize, node: &Node) -> Result<Manifest, Vec<Problem>> {
    let shape = shape::check(node);
    if !shape.problems.is_empty() {
        return Err(shape.problems);
    }
    let at = |field: &str| tree::nearest(&shape.places, field, node.place);
    let mut json = node.to_json();
    if let Some(root) = json.as_object_mut() {
        root.remove("status");
        if let Some(metadata) = root.get_mut("metadata").and_then(|metadata| metadata.as_object_mut()) {
            metadata.remove("managedFields");
        }
    }
    let object: ModelAdapter = serde_json::from_value(json).map_err(|error| {
        // Types were checked above; what is left are times, which have no secrets.
        vec![Problem { place: at("metadata"), field: "metadata".into(), message: error.to_string() }]
    })?;
    // Which directory the file lies in is the caller's to say; any will do to see whether the rest is right.
    let problems: Vec<Problem> = violations(&object, RelativePaths::From("/".as_ref()))
        .into_iter()
        .map(|broken| Problem { place: at(&broken.field), field: broken.field, message: broken.message })
        .collect();
    let key = match object_key(&object) {
        Ok(key) if problems.is_empty() => key,
        _ => return Err(problems),
    };
    Ok(Manifest::Adapter(Box::new(Document { line, key, object, places: shape.places })))
}
