//! Finding `model` in a request's body, and putting another name in its place.

use std::fmt;
use std::ops::Range;

use serde::Deserializer as _;
use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::multipart::{self, Boundary};

/// How deep arrays and objects may nest: serde_json's own limit, well under the depth at which the JSON readers of
/// engines give up.
pub const MAX_DEPTH: usize = 128;

/// The `model` of one request, and where in the body it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelField {
    name: String,
    span: Range<usize>,
    encoding: Encoding,
    lora_path: bool,
}

/// How the name is written where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Encoding {
    /// A JSON string with its quotes.
    Json,
    /// The bytes of a form field.
    Form,
}

impl ModelField {
    /// Finds `model` at the top level of a JSON object. The whole body is read and must be valid JSON; `model` anywhere
    /// deeper is not looked at; escapes in keys and in the name are undone.
    ///
    /// # Errors
    /// [`ModelError`], each of which is the client's fault.
    pub fn in_json(body: &[u8]) -> Result<Self, ModelError> {
        let mut reader = serde_json::Deserializer::from_slice(body);
        let fields = reader.deserialize_map(TopLevel).map_err(ModelError::from_json)?;
        reader.end().map_err(ModelError::from_json)?;
        if too_deep(body) {
            return Err(ModelError::TooDeep);
        }
        if fields.duplicate {
            return Err(ModelError::Duplicate);
        }
        let raw = fields.model.ok_or(ModelError::Missing)?.get();
        if raw == "null" {
            return Err(ModelError::Null);
        }
        if !raw.starts_with('"') {
            return Err(ModelError::NotAString);
        }
        let name = serde_json::from_str(raw).map_err(ModelError::from_json)?;
        // `raw` borrows from `body`, so the distance of their starts is its offset.
        let start = raw.as_ptr().addr() - body.as_ptr().addr();
        Ok(Self { name, span: start..start + raw.len(), encoding: Encoding::Json, lora_path: fields.lora_path })
    }

    /// Finds the field `model` of a `multipart/form-data` body.
    ///
    /// # Errors
    /// [`ModelError`], each of which is the client's fault. What different readers could take differently is refused.
    pub fn in_multipart(body: &[u8], boundary: &Boundary) -> Result<Self, ModelError> {
        let mut model = None;
        let mut lora_path = false;
        for field in multipart::fields(body, boundary)? {
            lora_path |= field.name == "lora_path";
            if field.name != "model" {
                continue;
            }
            if field.is_file {
                return Err(ModelError::NotAString);
            }
            if model.replace(field.span).is_some() {
                return Err(ModelError::Duplicate);
            }
        }
        let span = model.ok_or(ModelError::Missing)?;
        let name = std::str::from_utf8(&body[span.clone()]).map_err(|_| ModelError::NotAString)?.to_owned();
        Ok(Self { name, span, encoding: Encoding::Form, lora_path })
    }

    /// The name that the client asks for.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether the body also has a `lora_path` beside `model`: SGLang takes it as the name of the adapter, whatever
    /// `model` says, so such a request must not reach it (I1).
    pub fn has_lora_path(&self) -> bool {
        self.lora_path
    }

    /// `body` with `name` in place of the client's own, every other byte as it was. `body` must be the one that this
    /// was found in.
    pub fn renamed(&self, body: &[u8], name: &str) -> Vec<u8> {
        let written = match self.encoding {
            Encoding::Json => serde_json::Value::from(name).to_string(),
            Encoding::Form => name.to_owned(),
        };
        let (before, after) = (&body[..self.span.start], &body[self.span.end..]);
        [before, written.as_bytes(), after].concat()
    }
}

/// Why a body names no model.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ModelError {
    /// The body is not JSON.
    #[error("the body is not valid JSON: {0}")]
    NotJson(String),
    /// The body is JSON, but not an object.
    #[error("the body is not a JSON object")]
    NotAnObject,
    /// Nested deeper than [`MAX_DEPTH`].
    #[error("the body is nested deeper than {MAX_DEPTH} levels")]
    TooDeep,
    /// The content type names no usable boundary.
    #[error("the content type is not multipart/form-data with a boundary of 1 to 70 characters and a UTF-8 charset")]
    NotAForm,
    /// The body is not the form that its content type says.
    #[error("the body is not valid multipart/form-data: {0}")]
    BadForm(&'static str),
    /// No `model`.
    #[error("`model` is missing")]
    Missing,
    /// `model` is null.
    #[error("`model` is null")]
    Null,
    /// `model` is a number, an object, a file, ...
    #[error("`model` is not a string")]
    NotAString,
    /// `model` is there twice: readers differ in which one they take.
    #[error("`model` is there more than once")]
    Duplicate,
}

impl ModelError {
    /// One word for metrics and logs.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::NotJson(_) => "InvalidJson",
            Self::NotAnObject => "NotAnObject",
            Self::TooDeep => "TooDeep",
            Self::NotAForm => "NotAForm",
            Self::BadForm(_) => "InvalidForm",
            Self::Missing => "ModelMissing",
            Self::Null => "ModelNull",
            Self::NotAString => "ModelNotAString",
            Self::Duplicate => "ModelDuplicate",
        }
    }

    /// Whether the same request may succeed later: never.
    pub const fn is_transient(&self) -> bool {
        false
    }

    /// Whether it is `model` itself that is wrong, and not the body around it.
    pub const fn is_about_model(&self) -> bool {
        matches!(self, Self::Missing | Self::Null | Self::NotAString | Self::Duplicate)
    }

    fn from_json(error: serde_json::Error) -> Self {
        if error.is_data() { Self::NotAnObject } else { Self::NotJson(error.to_string()) }
    }
}

/// What the top level of a JSON object holds of interest.
#[derive(Default)]
struct Fields<'a> {
    model: Option<&'a RawValue>,
    duplicate: bool,
    lora_path: bool,
}

struct TopLevel;

impl<'de> Visitor<'de> for TopLevel {
    type Value = Fields<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut fields = Fields::default();
        while let Some(key) = map.next_key::<Key>()? {
            match key {
                Key::Model => fields.duplicate |= fields.model.replace(map.next_value()?).is_some(),
                Key::LoraPath => {
                    fields.lora_path = true;
                    map.next_value::<IgnoredAny>()?;
                }
                Key::Other => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(fields)
    }
}

/// A key, with its escapes undone and nothing kept.
#[derive(serde::Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
enum Key {
    Model,
    LoraPath,
    #[serde(other)]
    Other,
}

/// Whether `json`, which is valid, nests deeper than [`MAX_DEPTH`]. serde_json bounds the depth of what it builds, not
/// of what it skips.
fn too_deep(json: &[u8]) -> bool {
    // Nearly every body has fewer brackets in all.
    if json.iter().filter(|byte| matches!(byte, b'[' | b'{')).count() <= MAX_DEPTH {
        return false;
    }
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for byte in json {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'[' | b'{' => {
                depth += 1;
                if depth > MAX_DEPTH {
                    return true;
                }
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    false
}

#[cfg(test)]
mod tests;
