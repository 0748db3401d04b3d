//! Answers as server-sent events.

use std::io;

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::config::Version;
use super::engine::Output;
use super::forms::{self, Form};
use super::gauges::unix_now;
use super::generate::{Answering, Job};
use super::http::{Reply, event_reply};

/// Begins to stream.
pub(super) fn stream(answering: Answering) -> Reply {
    let (events, body) = mpsc::channel(64);
    tokio::spawn(async move {
        let gone = events.clone();
        let writer = Writer { events, created: unix_now() as u64, left: answering.life.faults.borrow().reset_after };
        tokio::select! {
            biased;
            // A caller that has gone ends the work, also where no token is made.
            () = gone.closed() => {}
            // The caller has gone.
            _ = writer.write(answering) => {}
        }
    });
    event_reply(body)
}

/// Nobody listens any more, or the stream was reset.
struct Gone;

struct Writer {
    events: mpsc::Sender<io::Result<Bytes>>,
    created: u64,
    /// Chunks until the stream is reset.
    left: Option<u32>,
}

impl Writer {
    async fn write(mut self, mut answering: Answering) -> Result<(), Gone> {
        let Answering { life, job, outputs, .. } = &mut answering;
        for event in opening(job, self.created) {
            self.send(event).await?;
        }
        let mut texts = Vec::new();
        for (index, output) in outputs.iter_mut().enumerate() {
            if job.form == Form::Chat {
                let role = json!({"role": "assistant", "content": ""});
                self.send(data(&chunk(job, self.created, index, &role, None))).await?;
            }
            let mut text = String::new();
            let mut made = 0;
            while let Some(Output::Token(token)) = output.recv().await {
                text.push_str(&token);
                let shown = if made == 0 && job.echo { format!("{}{token}", job.prompts[index].text) } else { token };
                made += 1;
                self.send(token_event(job, self.created, index, &shown, made == job.max_tokens)).await?;
            }
            if made < job.max_tokens {
                return self.broken(job).await;
            }
            texts.push(text);
        }
        life.gauges.finished(job.prompt_tokens, texts.len() * job.max_tokens);
        for event in closing(job, self.created, &texts) {
            self.send(event).await?;
        }
        Ok(())
    }

    async fn send(&mut self, event: String) -> Result<(), Gone> {
        if self.left == Some(0) {
            let reset = io::Error::from(io::ErrorKind::ConnectionReset);
            // What was asked for is to break off; whether anybody sees it does not matter.
            let _ = self.events.send(Err(reset)).await;
            return Err(Gone);
        }
        self.left = self.left.map(|left| left - 1);
        self.events.send(Ok(event.into())).await.map_err(|_| Gone)
    }

    /// The engine died: the error is the last event but one, under the status 200 that has long been sent.
    async fn broken(mut self, job: &Job) -> Result<(), Gone> {
        let message = "EngineCore encountered an issue. See stack trace (above) for the root cause.";
        let kind = match job.version {
            Version::V0_32_0 => "InternalServerError",
            Version::V0_11_0 => "BadRequestError",
        };
        let code = if job.version == Version::V0_32_0 { 500 } else { 400 };
        self.send(data(&json!({"error": {"message": message, "type": kind, "param": null, "code": code}}))).await?;
        self.send("data: [DONE]\n\n".into()).await
    }
}

fn data(value: &Value) -> String {
    format!("data: {value}\n\n")
}

fn named(name: &str, mut value: Value) -> String {
    value["type"] = json!(name);
    format!("event: {name}\ndata: {value}\n\n")
}

fn chunk(job: &Job, created: u64, index: usize, content: &Value, reason: Option<&str>) -> Value {
    let (object, field) = match job.form {
        Form::Completion => ("text_completion", "text"),
        _ => ("chat.completion.chunk", "delta"),
    };
    let choice = json!({"index": index, field: content, "logprobs": null, "finish_reason": reason});
    json!({"id": job.id, "object": object, "created": created, "model": job.model, "choices": [choice]})
}

fn token_event(job: &Job, created: u64, index: usize, token: &str, last: bool) -> String {
    match job.form {
        Form::Completion => data(&chunk(job, created, index, &json!(token), last.then_some(job.reason))),
        Form::Chat => data(&chunk(job, created, index, &json!({"content": token}), last.then_some(job.reason))),
        Form::Responses => named(
            "response.output_text.delta",
            json!({"content_index": 0, "delta": token, "item_id": item(job), "output_index": 0}),
        ),
        Form::Messages => {
            named("content_block_delta", json!({"delta": {"type": "text_delta", "text": token}, "index": 0}))
        }
    }
}

fn item(job: &Job) -> String {
    job.id.replacen("resp_", "msg_", 1)
}

fn opening(job: &Job, created: u64) -> Vec<String> {
    match job.form {
        Form::Completion | Form::Chat => Vec::new(),
        Form::Responses => {
            let begun = forms::response(job, created, None);
            let item = json!({"id": item(job), "content": [], "role": "assistant", "status": "in_progress", "type": "message"});
            vec![
                named("response.created", json!({"response": begun})),
                named("response.in_progress", json!({"response": begun})),
                named("response.output_item.added", json!({"item": item, "output_index": 0})),
            ]
        }
        Form::Messages => {
            let message = json!({
                "id": job.id,
                "type": "message",
                "role": "assistant",
                "content": [],
                "model": job.model,
                "stop_reason": null,
                "stop_sequence": null,
                "usage": {"input_tokens": job.prompt_tokens, "output_tokens": 0},
            });
            vec![
                named("message_start", json!({"message": message})),
                named("content_block_start", json!({"content_block": {"type": "text", "text": ""}, "index": 0})),
            ]
        }
    }
}

fn closing(job: &Job, created: u64, texts: &[String]) -> Vec<String> {
    let text = texts.first().map(String::as_str).unwrap_or_default();
    match job.form {
        Form::Completion | Form::Chat => {
            let mut events = Vec::new();
            if job.include_usage {
                let mut last = chunk(job, created, 0, &Value::Null, None);
                last["choices"] = json!([]);
                last["usage"] = forms::usage(job, texts.len());
                last["system_fingerprint"] = forms::fingerprint(job.version);
                events.push(data(&last));
            }
            events.push("data: [DONE]\n\n".into());
            events
        }
        Form::Responses => vec![
            named("response.output_text.done", json!({"item_id": item(job), "output_index": 0, "text": text})),
            named("response.output_item.done", json!({"item": forms::message(job, text), "output_index": 0})),
            named("response.completed", json!({"response": forms::response(job, created, Some(text))})),
        ],
        Form::Messages => {
            let delta = json!({"stop_reason": "max_tokens", "stop_sequence": null});
            let usage = json!({"input_tokens": job.prompt_tokens, "output_tokens": job.max_tokens});
            vec![
                named("content_block_stop", json!({"index": 0})),
                named("message_delta", json!({"delta": delta, "usage": usage})),
                named("message_stop", json!({})),
            ]
        }
    }
}
