//! Which paths there are. An engine is only ever asked for a path of this table; a client's own text is compared and never
//! passed on, so the engine's other paths cannot be reached however they are spelt.

use std::borrow::Cow;

use http::{Method, Uri};
use percent_encoding::percent_decode_str;

/// How a body carries its `model`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// At the top level of a JSON object.
    Json,
    /// As a field of `multipart/form-data`.
    Multipart,
}

/// What a request is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target<'a> {
    /// An engine, by this path.
    Engine(&'static str, Form),
    /// The list of models.
    Models,
    /// One entry of it, by this id.
    Model(Cow<'a, str>),
    /// A path that there is, with another method than the one named.
    WrongMethod(&'static str),
    /// Nothing.
    Nothing,
}

/// Every path that is passed on, always as POST.
const FORWARDED: [(&str, Form); 13] = [
    ("/v1/chat/completions", Form::Json),
    ("/v1/completions", Form::Json),
    ("/v1/responses", Form::Json),
    ("/v1/messages", Form::Json),
    ("/v1/embeddings", Form::Json),
    ("/v1/score", Form::Json),
    ("/score", Form::Json),
    ("/v1/rerank", Form::Json),
    ("/rerank", Form::Json),
    ("/tokenize", Form::Json),
    ("/detokenize", Form::Json),
    ("/v1/audio/transcriptions", Form::Multipart),
    ("/v1/audio/translations", Form::Multipart),
];

const MODELS: &str = "/v1/models";

/// What `method` and `uri` are for. The path must be spelt exactly as in the table; only the id of a model, which may hold
/// any character and is looked up here, is percent-decoded.
pub(crate) fn target<'a>(method: &Method, uri: &'a Uri) -> Target<'a> {
    let path = uri.path();
    if let Some((path, form)) = FORWARDED.iter().find(|(known, _)| *known == path) {
        return if method == Method::POST { Target::Engine(path, *form) } else { Target::WrongMethod("POST") };
    }
    let found = if path == MODELS {
        Target::Models
    } else {
        let id = path.strip_prefix(MODELS).and_then(|rest| rest.strip_prefix('/')).filter(|id| !id.is_empty());
        match id.map(|id| percent_decode_str(id).decode_utf8()) {
            Some(Ok(id)) => Target::Model(id),
            Some(Err(_)) | None => return Target::Nothing,
        }
    };
    if method == Method::GET { found } else { Target::WrongMethod("GET") }
}

/// The path and query to ask an engine for: the path is ours, the query, if any, is the client's.
pub(crate) fn with_query(path: &'static str, uri: &Uri) -> String {
    match uri.query() {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn post(uri: &str) -> Target<'static> {
        let uri = Box::leak(Box::new(uri.parse::<Uri>().unwrap()));
        target(&Method::POST, uri)
    }

    fn get(uri: &str) -> Target<'static> {
        let uri = Box::leak(Box::new(uri.parse::<Uri>().unwrap()));
        target(&Method::GET, uri)
    }

    #[test]
    fn each_path_of_the_table_is_reached_by_post_alone() {
        for (path, form) in FORWARDED {
            assert_eq!(post(path), Target::Engine(path, form));
            for method in [Method::GET, Method::HEAD, Method::PUT, Method::DELETE, Method::PATCH, Method::OPTIONS] {
                assert_eq!(target(&method, &path.parse().unwrap()), Target::WrongMethod("POST"), "{method} {path}");
            }
        }
        assert_eq!(get("/v1/models"), Target::Models);
        assert_eq!(post("/v1/models"), Target::WrongMethod("GET"));
        assert_eq!(post("/v1/models/a"), Target::WrongMethod("GET"));
    }

    #[test]
    fn the_id_of_a_model_may_hold_slashes_and_escapes() {
        for (path, id) in [
            ("/v1/models/sql-v1", "sql-v1"),
            ("/v1/models/ns/sql-v1", "ns/sql-v1"),
            ("/v1/models/ns%2Fsql-v1", "ns/sql-v1"),
            ("/v1/models/meta-llama%2FLlama-2-70b-hf?x=1", "meta-llama/Llama-2-70b-hf"),
            ("/v1/models/..%2f..", "../.."),
        ] {
            assert_eq!(get(path), Target::Model(Cow::Borrowed(id)), "{path}");
        }
        for path in ["/v1/models/", "/v1/models/%ff", "/v1/modelsx", "/v1/models%2Fx", "/v1//models"] {
            assert_eq!(get(path), Target::Nothing, "{path}");
        }
    }

    #[test]
    fn the_query_is_kept_behind_our_own_path() {
        let with = |uri: &str| with_query("/score", &uri.parse().unwrap());
        assert_eq!(with("/score"), "/score");
        assert_eq!(with("/score?a=b&c"), "/score?a=b&c");
        assert_eq!(with("http://elsewhere/score?/../load_lora_adapter"), "/score?/../load_lora_adapter");
        assert_eq!(with("/score?x#/v1/load_lora_adapter"), "/score?x");
    }
}
