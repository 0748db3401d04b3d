//! Completions of every form: reads the request, has the engine make tokens, and shows them in the form asked for.

use std::sync::Arc;

use http::{HeaderMap, Request, StatusCode};
use hyper::body::Incoming;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::config::Version;
use super::engine::{Output, Sequence};
use super::errors::{self, Handler, Problem};
use super::forms::{self, Form, Prompt};
use super::http::{self as bodies, Reply, json_reply};
use super::life::{Busy, Life};
use super::python;
use super::stream;

/// Tokens of an answer whose length the caller leaves open; a real model ends by itself as well.
const NATURAL_LENGTH: usize = 32;

/// What is to be answered.
pub(super) struct Job {
    pub(super) form: Form,
    pub(super) version: Version,
    pub(super) id: String,
    /// The name to show: the adapter's or the base model's.
    pub(super) model: String,
    /// Each text that is continued, once for each choice.
    pub(super) prompts: Vec<Prompt>,
    pub(super) prompt_tokens: usize,
    pub(super) max_tokens: usize,
    /// Why answers end: `length` or `stop`.
    pub(super) reason: &'static str,
    pub(super) echo: bool,
    pub(super) stream: bool,
    pub(super) include_usage: bool,
}

/// A request in the middle of being answered. Dropping it stops the engine's work on it.
pub(super) struct Answering {
    pub(super) life: Arc<Life>,
    pub(super) job: Job,
    /// The tokens of each choice, in the order of the prompts.
    pub(super) outputs: Vec<mpsc::UnboundedReceiver<Output>>,
    _busy: Busy,
}

/// `POST` to one of the paths that make text.
pub(super) async fn answer(life: &Arc<Life>, form: Form, request: Request<Incoming>) -> Reply {
    let version = life.config.version;
    let headers = request.headers().clone();
    let handler = form.handler();
    match bodies::read_object(request, version, &handler).await {
        Ok(body) => begin(life, form, &headers, body).await,
        Err(reply) => reply,
    }
}

/// `POST /invocations`: a completion or a chat. The newer version takes the model from a header instead of the body.
pub(super) async fn invoke(life: &Arc<Life>, request: Request<Incoming>) -> Reply {
    let version = life.config.version;
    let headers = request.headers().clone();
    let bytes = bodies::read(request).await;
    let text = String::from_utf8_lossy(&bytes);
    let mut body = match python::parse(&text) {
        Ok(body) => body,
        Err(error) => {
            let message = format!("JSON decode error: {}", error.with_place(&text));
            return errors::error(version, StatusCode::BAD_REQUEST, "Bad Request", None, &message);
        }
    };
    let form = if body.get("messages").is_some() { Form::Chat } else { Form::Completion };
    if version == Version::V0_32_0 {
        let adapter = headers.get("x-amzn-sagemaker-adapter-identifier").and_then(|value| value.to_str().ok());
        body["model"] = adapter.map_or(Value::Null, |name| json!(name));
    } else if body.get("prompt").is_none() && form == Form::Completion {
        let message = "Cannot find suitable handler for request. Expected one of: ['ChatCompletionRequest', \
                       'CompletionRequest']";
        return errors::error(version, StatusCode::BAD_REQUEST, "BadRequestError", None, message);
    }
    begin(life, form, &headers, body).await
}

async fn begin(life: &Arc<Life>, form: Form, headers: &HeaderMap, body: Value) -> Reply {
    let busy = life.busy();
    let version = life.config.version;
    let made_up = life.faults.borrow().completion_answer.clone();
    if let Some(answer) = made_up {
        let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        return errors::error(version, status, "InternalServerError", None, &answer.text);
    }
    let (mut job, lora) = match read_job(life, form, headers, &body) {
        Ok(job) => job,
        Err(reply) => return *reply,
    };
    if life.is_stopping() {
        let message = "cannot schedule new futures after shutdown";
        return errors::error(version, StatusCode::INTERNAL_SERVER_ERROR, "InternalServerError", None, message);
    }
    let choices = body.get("n").and_then(Value::as_u64).map_or(1, |n| n.clamp(1, 16) as usize);
    let mut outputs = Vec::new();
    for prompt in &job.prompts {
        for choice in 0..choices {
            let (out, receive) = mpsc::unbounded_channel();
            let sequence = Sequence {
                lora: lora.clone(),
                prompt: prompt.text.clone(),
                choice,
                prompt_tokens: prompt.tokens,
                max_tokens: job.max_tokens,
                out,
            };
            if life.generate(sequence).is_err() {
                return errors::dead(version, false);
            }
            outputs.push(receive);
        }
    }
    job.prompts = job.prompts.iter().flat_map(|prompt| std::iter::repeat_n(prompt.clone(), choices)).collect();
    let answering = Answering { life: Arc::clone(life), job, outputs, _busy: busy };
    if answering.job.stream { stream::stream(answering) } else { whole(answering).await }
}

async fn whole(mut answering: Answering) -> Reply {
    let mut texts = Vec::new();
    for (output, prompt) in answering.outputs.iter_mut().zip(&answering.job.prompts) {
        let mut text = if answering.job.echo { prompt.text.clone() } else { String::new() };
        let mut made = 0;
        while let Some(output) = output.recv().await {
            match output {
                Output::Token(token) => text.push_str(&token),
                Output::Dead => return errors::dead(answering.job.version, false),
            }
            made += 1;
        }
        if made < answering.job.max_tokens {
            return errors::dead(answering.job.version, false);
        }
        texts.push(text);
    }
    let job = &answering.job;
    answering.life.gauges.finished(job.prompt_tokens, texts.len() * job.max_tokens);
    json_reply(StatusCode::OK, &forms::whole(job, &texts))
}

type Lora = Option<super::engine::Lora>;

fn read_job(life: &Life, form: Form, headers: &HeaderMap, body: &Value) -> Result<(Job, Lora), Box<Reply>> {
    let version = life.config.version;
    let handler = form.handler();
    let invalid = |problems: &[Problem]| Box::new(errors::invalid(version, &handler, problems));
    let model = match body.get("model") {
        None | Some(Value::Null) => "",
        Some(Value::String(name)) => name,
        Some(other) => {
            return Err(invalid(&[Problem::of("string_type", Some("model"), "Input should be a valid string", other)]));
        }
    };
    let missing: Vec<Problem> =
        form.required().iter().filter(|f| body.get(**f).is_none()).map(|f| Problem::missing(f, body)).collect();
    if !missing.is_empty() {
        return Err(invalid(&missing));
    }
    let prompts = forms::prompts(form, body);
    if form == Form::Completion && prompts.iter().all(|prompt| prompt.tokens == 0) {
        return Err(Box::new(no_prompt(version, &handler, body)));
    }
    let lora = life.find(model);
    if lora.is_none() && !model.is_empty() && model != life.config.base_name {
        return Err(Box::new(match form {
            Form::Messages => forms::unknown_model_of_messages(model, &life.config.base_name),
            _ => errors::unknown_model(version, model, &life.config.base_name),
        }));
    }
    if form == Form::Chat && prompts.iter().all(|prompt| prompt.tokens == 0) {
        let message = match version {
            Version::V0_32_0 => "Cannot apply chat template to an empty conversation. Provide at least one message.",
            Version::V0_11_0 => "list index out of range list index out of range",
        };
        return Err(Box::new(errors::error(version, StatusCode::BAD_REQUEST, "BadRequestError", None, message)));
    }
    let longest = prompts.iter().map(|prompt| prompt.tokens).max().unwrap_or_default();
    if version == Version::V0_11_0 && form == Form::Completion && body.get("max_tokens").is_some_and(Value::is_null) {
        // It subtracts the length before it looks whether there is one.
        let status = StatusCode::INTERNAL_SERVER_ERROR;
        return Err(Box::new(errors::error(version, status, "Internal Server Error", None, "")));
    }
    let asked = form.length_fields().iter().find_map(|field| body.get(*field).filter(|value| !value.is_null()));
    let (max_tokens, reason) = length(life, asked, longest, form)?;
    let flag = |field: &str| body.get(field).and_then(Value::as_bool).unwrap_or_default();
    let usage = body.get("stream_options").and_then(|options| options.get("include_usage"));
    let job = Job {
        form,
        version,
        id: form.id(headers, version),
        model: lora.as_ref().map_or_else(|| life.config.base_name.clone(), |lora| lora.name.clone()),
        prompt_tokens: prompts.iter().map(|prompt| prompt.tokens).sum(),
        prompts,
        max_tokens,
        reason,
        echo: flag("echo"),
        stream: flag("stream"),
        include_usage: usage.and_then(Value::as_bool).unwrap_or_default(),
    };
    Ok((job, lora))
}

/// How many tokens are made, and why it ends there.
fn length(life: &Life, asked: Option<&Value>, prompt: usize, form: Form) -> Result<(usize, &'static str), Box<Reply>> {
    let version = life.config.version;
    let limit = life.config.max_model_len;
    let refused = |param: &str, value: Value, newer: String, older: String| {
        let message = if version == Version::V0_32_0 { newer } else { older };
        Err(Box::new(errors::bad_request(version, Some((param, &value)), &message)))
    };
    let asked = asked.and_then(Value::as_i64);
    if let Some(asked) = asked.filter(|asked| *asked < 1) {
        let message = format!("max_tokens must be at least 1, got {asked}.");
        return refused("max_tokens", json!(asked), message.clone(), message);
    }
    let asked = asked.and_then(|asked| usize::try_from(asked).ok());
    if let Some(asked) = asked.filter(|asked| *asked > limit) {
        let newer = format!(
            "max_tokens={asked} cannot be greater than max_model_len={limit}. Please request fewer output tokens."
        );
        let older = if form == Form::Completion {
            let left = limit as i128 - asked as i128;
            format!(
                "This model's maximum context length is {left} tokens. However, your request has {prompt} input \
                 tokens. Please reduce the length of the input messages."
            )
        } else {
            format!(
                "'max_tokens' or 'max_completion_tokens' is too large: {asked}. This model's maximum context length is \
                 {limit} tokens and your request has {prompt} input tokens ({asked} > {limit} - {prompt}). None"
            )
        };
        return refused("max_tokens", json!(asked), newer, older);
    }
    // A completion has a default of its own; a chat goes on to the end of the context.
    let wanted = asked.or((form == Form::Completion).then_some(16));
    if prompt + wanted.unwrap_or(1) > limit {
        let newer = format!(
            "This model's maximum context length is {limit} tokens. However, your prompt contains at least {} input \
             tokens, which exceeds this limit even without any output tokens. Please reduce the length of the input \
             prompt.",
            limit + 1
        );
        let older = format!(
            "This model's maximum context length is {} tokens. However, your request has {prompt} input tokens. Please \
             reduce the length of the input messages.{}",
            if form == Form::Completion { limit - wanted.unwrap_or(0) } else { limit },
            if form == Form::Completion { "" } else { " None" },
        );
        return refused("input_tokens", json!(limit + 1), newer, older);
    }
    Ok(match wanted {
        Some(wanted) => (wanted, "length"),
        None if limit - prompt > NATURAL_LENGTH => (NATURAL_LENGTH, "stop"),
        None => (limit - prompt, "length"),
    })
}

fn no_prompt(version: Version, handler: &Handler, body: &Value) -> Reply {
    let message = "Either prompt or prompt_embeds must be provided and non-empty.";
    match version {
        Version::V0_32_0 => errors::bad_request(version, Some(("prompt", &Value::Null)), message),
        Version::V0_11_0 => {
            let problem = Problem::of("value_error", None, &format!("Value error, {message}"), body);
            let context = Some(format!("ValueError({})", python::quoted(message)));
            errors::invalid(version, handler, &[Problem { context, ..problem }])
        }
    }
}
