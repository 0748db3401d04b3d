//! Answers read without a word of them getting into a log or an error: what they hold may be secret (I8).

use axum::http::Request;
use kube::Client;
use serde::de::DeserializeOwned;

/// Sends `request` and reads the answer. kube's own `request` logs the whole answer where it cannot be read.
///
/// # Errors
/// What kube says; for an answer that cannot be read, an error without anything of it.
pub(in crate::kube) async fn request<T: DeserializeOwned>(
    client: &Client,
    request: Request<Vec<u8>>,
) -> Result<T, kube::Error> {
    let text = client.request_text(request).await?;
    serde_json::from_str(&text).map_err(|error| {
        let words = wording(&error.to_string());
        kube::Error::SerdeError(serde::de::Error::custom(words))
    })
}

/// An error of serde's without the values that it quotes: what stands in double quotes, and what a variant or field is
/// called that is not expected.
pub(super) fn wording(error: &str) -> String {
    let unexpected = ["unknown variant `", "unknown field `"].iter().find_map(|start| {
        let from = error.find(start)? + start.len();
        let to = error.rfind("`, expected").or_else(|| error.rfind("`, there are no")).or_else(|| error.rfind('`'))?;
        (from <= to).then(|| (error.get(..from).unwrap_or_default(), error.get(to..).unwrap_or_default()))
    });
    let (mut rest, behind) = unexpected.unwrap_or((error, ""));
    let mut out = String::with_capacity(error.len());
    while let Some((before, quoted)) = rest.split_once('"') {
        out.push_str(before);
        out.push('…');
        rest = behind_quote(quoted);
    }
    out.push_str(rest);
    if unexpected.is_some() {
        out.push('…');
    }
    out.push_str(behind);
    out
}

/// What follows the quote that is open before `text`.
fn behind_quote(text: &str) -> &str {
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return text.get(at + 1..).unwrap_or_default(),
            _ => {}
        }
    }
    ""
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Strict {
        #[serde(default, rename = "map")]
        _map: BTreeMap<String, u8>,
        #[serde(default, rename = "choice")]
        _choice: Choice,
    }

    #[derive(Debug, Default, Deserialize)]
    enum Choice {
        #[default]
        One,
    }

    proptest! {
        #[test]
        fn i8_no_error_quotes_what_could_not_be_read(secret in "hunter2[\\PC`\"\\\\]{0,20}") {
            for value in [
                serde_json::json!({"map": secret}),
                serde_json::json!({"map": {"a": secret}}),
                serde_json::json!({"choice": secret}),
                serde_json::json!({secret.clone(): 1}),
                serde_json::json!(secret),
            ] {
                let error = serde_json::from_value::<Strict>(value.clone()).unwrap_err().to_string();
                prop_assert!(!wording(&error).contains("hunter2"), "{} from {}", wording(&error), error);
            }
        }
    }

    #[test]
    fn the_rest_of_the_words_stays() {
        let error = serde_json::from_str::<Strict>(r#"{"map": "x\"y"}"#).unwrap_err().to_string();
        assert_eq!(wording(&error), "invalid type: string …, expected a map at line 1 column 14");
        let error = serde_json::from_str::<Strict>(r#"{"choice": "x"}"#).unwrap_err().to_string();
        assert_eq!(wording(&error), "unknown variant `…`, expected `One` at line 1 column 14");
        assert_eq!(wording("missing field `spec`"), "missing field `spec`");
    }
}
