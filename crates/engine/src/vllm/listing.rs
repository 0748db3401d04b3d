//! `GET /v1/models`.

use serde::Deserialize;

use crate::error::{Call, Error};
use crate::port::{Model, Models};

#[derive(Deserialize)]
struct List {
    data: Vec<Card>,
}

#[derive(Deserialize)]
struct Card {
    id: String,
    /// The model's path, or the `lora_path` of the load, to the letter.
    root: Option<String>,
    /// The base model's name, of an adapter.
    parent: Option<String>,
}

/// Base models have no parent; what has one is an adapter.
pub(super) fn parse(body: &[u8]) -> Result<Models, Error> {
    let list: List = serde_json::from_slice(body).map_err(|error| Error::Body {
        call: Call::Models,
        line: error.line(),
        column: error.column(),
    })?;
    let mut models = Models::default();
    for Card { id, root, parent } in list.data {
        let side = if parent.is_some() { &mut models.adapters } else { &mut models.base };
        side.push(Model { id, root: root.unwrap_or_default() });
    }
    Ok(models)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_a_parent_is_an_adapter() {
        let models = parse(
            br#"{"object": "list", "data": [
                {"id": "base", "object": "model", "root": "/m", "parent": null, "max_model_len": 128},
                {"id": "a/b \"c\"", "object": "model", "root": "/x", "parent": "base", "max_model_len": null},
                {"id": "alias", "object": "model"}
            ]}"#,
        )
        .unwrap();
        let model = |id: &str, root: &str| Model { id: id.into(), root: root.into() };
        assert_eq!(models.base, [model("base", "/m"), model("alias", "")]);
        assert_eq!(models.adapters, [model("a/b \"c\"", "/x")]);
    }

    #[test]
    fn i8_an_error_does_not_quote_the_answer() {
        let error = parse(br#"{"data": "marked"}"#).unwrap_err();
        assert_eq!(error.to_string(), "GET /v1/models: the answer is not what an engine says (line 1, column 17)");
        assert!(!format!("{error:?}").contains("marked"));
    }
}
