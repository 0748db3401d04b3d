//! What an engine's "no" means.

use longshore_types::Secret;
use serde_json::Value;

use crate::error::{Error, Refusal};
use crate::http::Answer;
use crate::words::clean;

/// Which of its mouths the engine spoke with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// `{"error": …}`, or an older version's flat `{"object": "error", "message": …}`: vLLM's own handlers.
    Error,
    /// `{"detail": …}`: its web framework, which has no such route.
    Detail,
    /// Anything else.
    Text,
}

/// What an answer said.
#[derive(Clone, Debug)]
pub(super) struct Said {
    pub form: Form,
    /// Short, on one line, without secrets and paths.
    pub words: String,
}

impl Said {
    /// Reads an answer to its end. One that is too long for a sentence says nothing.
    pub(super) async fn read(answer: Answer, secrets: &[&Secret]) -> Result<Self, Error> {
        match answer.bytes(super::SMALL).await {
            Ok(bytes) => Ok(Self::parse(&bytes, secrets)),
            Err(Error::TooLarge { .. }) => Ok(Self { form: Form::Text, words: String::new() }),
            Err(error) => Err(error),
        }
    }

    fn parse(bytes: &[u8], secrets: &[&Secret]) -> Self {
        let body: Option<Value> = serde_json::from_slice(bytes).ok();
        let at = |pointer: &str| body.as_ref()?.pointer(pointer)?.as_str();
        let (form, words) = if let Some(message) = at("/error/message").or_else(|| at("/error")) {
            (Form::Error, message)
        } else if let Some(detail) = at("/detail") {
            (Form::Detail, detail)
        } else if let (Some("error"), Some(message)) = (at("/object"), at("/message")) {
            (Form::Error, message)
        } else {
            return Self { form: Form::Text, words: clean(&String::from_utf8_lossy(bytes), secrets) };
        };
        Self { form, words: clean(unwrapped(words), secrets) }
    }

    /// The words, or the status where there are none.
    pub(super) fn words_or(&self, status: u16) -> String {
        if self.words.is_empty() { format!("status {status}") } else { self.words.clone() }
    }
}

/// The message without what 0.11 (`Call to …`) and 0.32 (`Worker failed …`) put around it.
fn unwrapped(message: &str) -> &str {
    let message = message.strip_prefix("Call to add_lora method failed: ").unwrap_or(message);
    message
        .strip_prefix("Worker failed with error '")
        .and_then(|rest| rest.strip_suffix("', please check the stack trace above for the root cause"))
        .unwrap_or(message)
}

/// Fragments of messages, in lower case, and what they mean. Only for what neither status nor listing nor health can
/// tell: 0.11.0 answers nearly every adapter that it cannot load with 400, 0.32.0 with 500. The first that fits counts.
/// Behind each: where it was seen.
const FRAGMENTS: &[(&str, Refusal)] = &[
    // 0.32.0, started without --enable-lora.
    ("lora is not enabled", Refusal::LoraDisabled),
    // Both: `LoRA rank 64 is greater than max_lora_rank 16.`
    ("is greater than max_lora_rank", Refusal::RankTooHigh),
    // Both: `The size of tensor a (64) must match the size of tensor b (128) at non-singleton dimension 1`.
    ("must match the size of tensor", Refusal::OtherBase),
    // Reported by users of several versions: `While loading …, expected target modules in {…} but received […].`
    ("expected target modules in", Refusal::OtherBase),
    // Both: no weights.
    ("doesn't contain tensors", Refusal::Damaged),
    // Both: `header too large`, `incomplete metadata, file not fully covered`.
    ("error while deserializing header", Refusal::Damaged),
    // Both: adapter_config.json is no JSON. All of Python's decode errors end in `(char 1)`; vLLM's complaint about a
    // request that is no JSON does not.
    ("(char ", Refusal::Damaged),
    // Both: `vLLM does not yet support DoRA.`
    ("does not yet support dora", Refusal::Unsupported),
    // 0.11.0 `Adapter bias cannot be used without bias_enabled.`, 0.32.0 `Adapter bias is not supported.`
    ("adapter bias ", Refusal::Unsupported),
    // Both, in different words: `vLLM only supports modules_to_save being None.`
    ("only supports modules_to_save", Refusal::Unsupported),
    // 0.32.0: the path is a file.
    ("[errno 20]", Refusal::NotFound),
    // Python's and safetensors' own words for files of another user with mode 0600; not provoked.
    ("permission denied", Refusal::Unreadable),
    // Both, where the name is gone again before a listing looks.
    ("has already been loaded", Refusal::Raced),
    // 0.32.0, where the base model's name is not listed.
    ("conflicts with a served base model", Refusal::NameTaken),
];

/// What the answer to a load or an unload means, where it is known.
pub(super) fn refusal(status: u16, said: &Said) -> Option<Refusal> {
    match (status, said.form) {
        // Both versions: a path that is missing or has no adapter_config.json.
        (404, Form::Error) => return Some(Refusal::NotFound),
        // Both versions, without VLLM_ALLOW_RUNTIME_LORA_UPDATING: there is no such route.
        (404, Form::Detail) => return Some(Refusal::UpdatingOff),
        _ => {}
    }
    let words = said.words.to_lowercase();
    FRAGMENTS.iter().find(|(fragment, _)| words.contains(fragment)).map(|(_, refusal)| *refusal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wrapping_of_either_version_is_taken_off() {
        for message in [
            "Call to add_lora method failed: LoRA rank 64 is too high.",
            "Call to add_lora method failed: Worker failed with error 'LoRA rank 64 is too high.', please check the \
             stack trace above for the root cause",
            "LoRA rank 64 is too high.",
        ] {
            assert_eq!(unwrapped(message), "LoRA rank 64 is too high.");
        }
    }

    #[test]
    fn an_answers_form_tells_who_spoke() {
        for (body, form, words) in [
            (r#"{"error":{"message":"m","type":"NotFoundError","param":null,"code":404}}"#, Form::Error, "m"),
            (r#"{"error":"Unauthorized"}"#, Form::Error, "Unauthorized"),
            (r#"{"object":"error","message":"m","type":"NotFoundError","param":null,"code":404}"#, Form::Error, "m"),
            (r#"{"detail":"Not Found"}"#, Form::Detail, "Not Found"),
            (r#"{"message":"no vLLM"}"#, Form::Text, r#"{"message":"no vLLM"}"#),
            ("<h1>Bad\nGateway</h1>", Form::Text, "<h1>Bad Gateway</h1>"),
            ("", Form::Text, ""),
        ] {
            let said = Said::parse(body.as_bytes(), &[]);
            assert_eq!((said.form, said.words.as_str()), (form, words), "{body}");
        }
    }

    #[test]
    fn fragments_are_in_lower_case_as_the_words_that_they_are_held_against() {
        assert!(FRAGMENTS.iter().all(|(fragment, _)| *fragment == fragment.to_lowercase()));
    }

    #[test]
    fn a_complaint_about_our_own_request_is_not_taken_for_one_about_the_adapter() {
        let body = r#"{"error":{"message":"1 validation error:\n  {'type': 'json_invalid', 'loc': 'body.1', 'msg': 'JSON decode error', 'input': '<dict of 0 items>', 'ctx': {'error': 'Expecting property name enclosed in double quotes'}}","type":"Bad Request","param":"body.1","code":400}}"#;
        assert_eq!(refusal(400, &Said::parse(body.as_bytes(), &[])), None);
    }
}
