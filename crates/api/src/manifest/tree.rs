//! A YAML document as a tree that knows where each of its parts stands.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{Error, Spanned};

use super::Place;

/// Deepest nesting. A `ModelAdapter` needs 6, a Deployment in a List about 14.
const DEPTH_MAX: usize = 32;
/// Nodes that aliases may be expanded to: manifests use them, if at all, to repeat a label or two.
const EXPANDED_MAX: usize = 10_000;

/// A value and its place.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Node {
    pub(super) place: Place,
    pub(super) value: Value,
}

/// A YAML value.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Null,
    Bool(bool),
    Int(i128),
    Float(f64),
    Text(String),
    List(Vec<Node>),
    Map(Vec<(Key, Node)>),
}

/// A key and its place.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Key {
    pub(super) place: Place,
    pub(super) text: String,
}

/// Parses one document. Everything in it is bounded: its nesting, its nodes, and what its aliases expand to.
///
/// # Errors
/// Where (within `text`) and why it is no YAML, or too much of it.
pub(super) fn parse(text: &str) -> Result<Node, (Place, String)> {
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: DEPTH_MAX,
            flow_nesting_limit: DEPTH_MAX,
            max_total_scalar_bytes: super::DOCUMENT_MAX,
            max_nodes: 200_000,
            max_merge_keys: 1_000,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: EXPANDED_MAX,
            max_replay_stack_depth: 16,
        },
        reject_unsupported_tags: true,
        with_snippet: false,
    };
    serde_saphyr::from_str_with_options::<Node>(text, options).map_err(|error| (place_of(&error), explain(&error)))
}

fn place_of(error: &Error) -> Place {
    error.location().map_or(Place { line: 1, column: 1 }, |at| place(&at))
}

/// The parser's words, without the place (it counts from the document, not from the file) and without the text, which
/// may be a secret (I8).
fn explain(error: &Error) -> String {
    match error.without_snippet() {
        Error::DuplicateMappingKey { .. } => "this key is here twice: take one out".into(),
        Error::AliasReplayLimitExceeded { .. }
        | Error::AliasReplayStackDepthExceeded { .. }
        | Error::AliasExpansionLimitExceeded { .. } => {
            format!("aliases expand to more than {EXPANDED_MAX} values: write them out, or fewer of them")
        }
        Error::Budget { breach, .. } => too_much(breach),
        Error::AliasError { error, .. } => explain(error),
        Error::NonFiniteFloat { .. } => "not a number that a manifest can hold: put it in quotes if it is text".into(),
        Error::NullIntoString { .. } | Error::Unexpected { .. } => "a key must be text: put it in quotes".into(),
        other => {
            let words = other.to_string();
            let words = words.split(" at line ").next().unwrap_or(&words);
            if words.contains("recursion limit") { too_deep() } else { format!("not valid YAML: {words}") }
        }
    }
}

fn too_deep() -> String {
    format!("nested more than {DEPTH_MAX} deep")
}

fn too_much(breach: &serde_saphyr::budget::BudgetBreach) -> String {
    use serde_saphyr::budget::BudgetBreach;
    match breach {
        BudgetBreach::Depth { .. } => too_deep(),
        BudgetBreach::ScalarBytes { .. } => {
            format!("its texts, aliases expanded, have more than {} bytes", super::DOCUMENT_MAX)
        }
        BudgetBreach::Aliases { .. } | BudgetBreach::Anchors { .. } | BudgetBreach::AliasAnchorRatio { .. } => {
            "too many aliases: write the values out".into()
        }
        _ => "too many values for one document: split it".into(),
    }
}

fn place(at: &serde_saphyr::Location) -> Place {
    let count = |n: u64| usize::try_from(n).unwrap_or(usize::MAX).max(1);
    Place { line: count(at.line()), column: count(at.column()) }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Value>::deserialize(deserializer)?;
        Ok(Self { place: place(&spanned.referenced), value: spanned.value })
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any YAML value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Int(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Int(value.into()))
    }

    fn visit_i128<E>(self, value: i128) -> Result<Value, E> {
        Ok(Value::Int(value))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Float(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::Text(value.to_owned()))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        Value::deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(node) = access.next_element()? {
            list.push(node);
        }
        Ok(Value::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut map = Vec::new();
        while let Some((key, node)) = access.next_entry::<Spanned<String>, Node>()? {
            map.push((Key { place: place(&key.referenced), text: key.value }, node));
        }
        Ok(Value::Map(map))
    }
}

impl Node {
    /// The value at `key`, where this is a map that has it.
    pub(super) fn get(&self, key: &str) -> Option<&Node> {
        match &self.value {
            Value::Map(map) => map.iter().find(|(k, _)| k.text == key).map(|(_, node)| node),
            _ => None,
        }
    }

    /// The text at `key`, where there is one.
    pub(super) fn text(&self, key: &str) -> Option<&str> {
        match &self.get(key)?.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Moves every place `lines` down.
    pub(super) fn shift(&mut self, lines: usize) {
        self.place.line += lines;
        match &mut self.value {
            Value::List(list) => list.iter_mut().for_each(|node| node.shift(lines)),
            Value::Map(map) => {
                for (key, node) in map {
                    key.place.line += lines;
                    node.shift(lines);
                }
            }
            _ => {}
        }
    }

    /// The tree as JSON, without nulls: Kubernetes takes a null for an absent field.
    pub(super) fn to_json(&self) -> serde_json::Value {
        match &self.value {
            Value::Null => serde_json::Value::Null,
            Value::Bool(value) => (*value).into(),
            Value::Int(value) => i64::try_from(*value).map_or(serde_json::Value::Null, Into::into),
            Value::Float(value) => (*value).into(),
            Value::Text(text) => text.as_str().into(),
            Value::List(list) => list.iter().map(Node::to_json).collect(),
            Value::Map(map) => map
                .iter()
                .filter(|(_, node)| node.value != Value::Null)
                .map(|(key, node)| (key.text.clone(), node.to_json()))
                .collect(),
        }
    }
}

/// The place of `field`, or of the nearest thing around it that stands in the text.
pub(super) fn nearest(places: &BTreeMap<String, Place>, field: &str, otherwise: Place) -> Place {
    let mut field = field;
    loop {
        if let Some(place) = places.get(field) {
            return *place;
        }
        match field.rfind(['.', '[']) {
            Some(cut) => field = &field[..cut],
            None => return otherwise,
        }
    }
}
