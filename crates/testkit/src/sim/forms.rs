//! The forms in which text is asked for and answered.

use std::sync::atomic::{AtomicU64, Ordering};

use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::config::Version;
use super::errors::Handler;
use super::gauges::unix_now;
use super::generate::Job;
use super::http::{Reply, json_reply};
use crate::tiny;

/// The APIs that make text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// `/v1/completions`
    Completion,
    /// `/v1/chat/completions`
    Chat,
    /// `/v1/responses`
    Responses,
    /// `/v1/messages`
    Messages,
}

impl Form {
    pub(super) fn handler(self) -> Handler {
        let (path, line, function) = match self {
            Self::Completion => ("/v1/completions", 624, "create_completion"),
            Self::Chat => ("/v1/chat/completions", 583, "create_chat_completion"),
            Self::Responses => ("/v1/responses", 493, "create_responses"),
            Self::Messages => ("/v1/messages", 0, "create_messages"),
        };
        Handler { path, file: "utils.py", line, function }
    }

    /// Fields without which a body is refused. A completion without its prompt gets another answer.
    pub(super) fn required(self) -> &'static [&'static str] {
        match self {
            Self::Completion => &[],
            Self::Chat => &["messages"],
            Self::Responses => &["input"],
            Self::Messages => &["messages", "max_tokens"],
        }
    }

    /// Fields that bound the length of the answer; the first that is there counts.
    pub(super) fn length_fields(self) -> &'static [&'static str] {
        match self {
            Self::Completion | Self::Messages => &["max_tokens"],
            Self::Chat => &["max_completion_tokens", "max_tokens"],
            Self::Responses => &["max_output_tokens"],
        }
    }

    /// The answer's id: that of the request where it has one.
    pub(super) fn id(self, headers: &HeaderMap, version: Version) -> String {
        let given = headers.get("x-request-id").and_then(|id| id.to_str().ok());
        let id = given.map_or_else(|| unique(version), str::to_owned);
        match self {
            Self::Completion => format!("cmpl-{id}"),
            Self::Chat | Self::Messages => format!("chatcmpl-{id}"),
            Self::Responses => format!("resp_{id}"),
        }
    }
}

/// An id that no other answer has.
pub(super) fn unique(version: Version) -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let sum = Sha256::digest(format!("{number} {}", unix_now()));
    let bytes = if version == Version::V0_32_0 { 8 } else { 16 };
    sum[..bytes].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A text to be continued.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Prompt {
    pub(super) text: String,
    /// Tokens in it. Those that are given as numbers may have no text.
    pub(super) tokens: usize,
}

impl Prompt {
    fn text(text: impl Into<String>) -> Self {
        let text = text.into();
        Self { tokens: tiny::encode(&text).len(), text }
    }

    fn ids(items: &[Value]) -> Self {
        let ids: Vec<u32> = items.iter().filter_map(|id| u32::try_from(id.as_u64()?).ok()).collect();
        Self { text: tiny::decode(&ids), tokens: ids.len() }
    }
}

/// The texts to be continued, as the model sees them.
pub(super) fn prompts(form: Form, body: &Value) -> Vec<Prompt> {
    match (form, form.required().first().or(Some(&"prompt")).and_then(|field| body.get(*field))) {
        (Form::Completion, Some(Value::String(text))) => vec![Prompt::text(text)],
        (Form::Completion, Some(Value::Array(items))) if items.iter().all(Value::is_number) => vec![Prompt::ids(items)],
        (Form::Completion, Some(Value::Array(items))) => {
            let one = |item: &Value| match item {
                Value::String(text) => Prompt::text(text),
                Value::Array(items) => Prompt::ids(items),
                _ => Prompt::default(),
            };
            items.iter().map(one).collect()
        }
        (Form::Completion, _) | (_, None) => vec![Prompt::default()],
        (_, Some(Value::String(text))) => vec![Prompt::text(chat(&[json!({"role": "user", "content": text})]))],
        (_, Some(Value::Array(messages))) => vec![Prompt::text(chat(messages))],
        (_, Some(_)) => vec![Prompt::default()],
    }
}

/// The tiny model's chat template.
pub(super) fn chat(messages: &[Value]) -> String {
    if messages.is_empty() {
        return String::new();
    }
    let text_of = |content: &Value| match content {
        Value::String(text) => text.clone(),
        Value::Array(parts) => parts.iter().filter_map(|part| part["text"].as_str()).collect(),
        _ => String::new(),
    };
    let role = |message: &Value| if message["role"] == "assistant" { "assistant" } else { "user" };
    let turns: String = messages.iter().map(|m| format!("<|{}|>{}", role(m), text_of(&m["content"]))).collect();
    format!("<s>{turns}<|assistant|>")
}

/// The whole answer.
pub(super) fn whole(job: &Job, texts: &[String]) -> Value {
    let created = unix_now() as u64;
    let mut answer = match job.form {
        Form::Completion | Form::Chat => {
            let (object, field) = match job.form {
                Form::Completion => ("text_completion", "text"),
                _ => ("chat.completion", "message"),
            };
            let choices: Vec<Value> =
                texts.iter().enumerate().map(|(index, text)| choice(job, field, index, text)).collect();
            json!({
                "id": job.id,
                "object": object,
                "created": created,
                "model": job.model,
                "choices": choices,
                "service_tier": null,
                "system_fingerprint": fingerprint(job.version),
                "usage": usage(job, texts.len()),
                "kv_transfer_params": null,
            })
        }
        Form::Responses => response(job, created, texts.first().map(String::as_str)),
        Form::Messages => json!({
            "id": job.id,
            "type": "message",
            "role": "assistant",
            "content": [{"type": "text", "text": texts.first()}],
            "model": job.model,
            "stop_reason": if job.reason == "stop" { "end_turn" } else { "max_tokens" },
            "usage": {"input_tokens": job.prompt_tokens, "output_tokens": job.max_tokens},
        }),
    };
    let chat: &[&str] = match (job.form, job.version) {
        (Form::Chat, Version::V0_32_0) => &["prompt_logprobs", "prompt_token_ids", "prompt_text"],
        (Form::Chat, Version::V0_11_0) => &["prompt_logprobs", "prompt_token_ids"],
        _ => &[],
    };
    let more: &[&str] = match (job.form, job.version) {
        (Form::Completion | Form::Chat, Version::V0_32_0) => &["ec_transfer_params", "metrics"],
        _ => &[],
    };
    for field in chat.iter().chain(more) {
        answer[*field] = Value::Null;
    }
    answer
}

fn choice(job: &Job, field: &str, index: usize, text: &str) -> Value {
    let content = match job.form {
        Form::Completion => json!(text),
        _ => json!({
            "role": "assistant",
            "content": text,
            "refusal": null,
            "annotations": null,
            "audio": null,
            "function_call": null,
        }),
    };
    json!({
        "index": index,
        field: content,
        "logprobs": null,
        "finish_reason": job.reason,
        "stop_reason": null,
        "token_ids": null,
    })
}

/// A response of the `/v1/responses` API; without a text it has only begun.
pub(super) fn response(job: &Job, created: u64, text: Option<&str>) -> Value {
    let cut = text.is_some() && job.version == Version::V0_32_0 && job.reason == "length";
    let status = match text {
        None => "in_progress",
        Some(_) if cut => "incomplete",
        Some(_) => "completed",
    };
    let output: Vec<Value> = text.iter().map(|text| message(job, text)).collect();
    let (prompt, made) = (job.prompt_tokens, job.max_tokens);
    let mut response = json!({
        "id": job.id,
        "created_at": created,
        "incomplete_details": cut.then(|| json!({"reason": "max_output_tokens"})),
        "instructions": null,
        "metadata": null,
        "model": job.model,
        "object": "response",
        "output": output,
        "parallel_tool_calls": true,
        "temperature": 1.0,
        "tools": [],
        "top_p": 1.0,
        "background": false,
        "max_output_tokens": made,
        "service_tier": "auto",
        "status": status,
        "truncation": "disabled",
        "tool_choice": if job.version == Version::V0_32_0 { "none" } else { "auto" },
        "usage": text.map(|_| json!({"input_tokens": prompt, "output_tokens": made, "total_tokens": prompt + made})),
    });
    const UNSET: [&str; 9] = [
        "input_messages",
        "output_messages",
        "max_tool_calls",
        "previous_response_id",
        "prompt",
        "reasoning",
        "text",
        "top_logprobs",
        "user",
    ];
    for field in UNSET {
        response[field] = Value::Null;
    }
    if job.version == Version::V0_32_0 {
        for field in ["presence_penalty", "frequency_penalty"] {
            response[field] = json!(0.0);
        }
        for field in ["kv_transfer_params", "ec_transfer_params"] {
            response[field] = Value::Null;
        }
    }
    response
}

/// The one item of a response's output.
pub(super) fn message(job: &Job, text: &str) -> Value {
    json!({
        "id": job.id.replacen("resp_", "msg_", 1),
        "content": [{"annotations": [], "text": text, "type": "output_text", "logprobs": null}],
        "role": "assistant",
        "status": "completed",
        "type": "message",
    })
}

/// `usage` of an answer with this many choices.
pub(super) fn usage(job: &Job, choices: usize) -> Value {
    let made = choices * job.max_tokens;
    let total = job.prompt_tokens + made;
    json!({"prompt_tokens": job.prompt_tokens, "total_tokens": total, "completion_tokens": made})
}

pub(super) fn fingerprint(version: Version) -> Value {
    match version {
        Version::V0_32_0 => json!("vllm-0.32.0-simulated"),
        Version::V0_11_0 => Value::Null,
    }
}

/// `/v1/messages` answers errors about the model in its own form.
pub(super) fn unknown_model_of_messages(name: &str, base: &str) -> Reply {
    let message = format!("The model `{name}` does not exist. Valid aliases: {base}.");
    json_reply(StatusCode::NOT_FOUND, &json!({"type": "error", "error": {"type": "NotFoundError", "message": message}}))
}
