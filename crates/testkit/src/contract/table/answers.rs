//! Rows about everything that an engine answers besides loads and unloads.

use http::{HeaderName, Method};
use serde_json::{Value, json};

use super::{
    BASE, CHAT, COMPLETIONS, Call, Form, Rows, added, both, chat, completion, either, error, only_newer, removed,
    unload, with,
};

/// The SageMaker header that names an adapter.
const ADAPTER_HEADER: HeaderName = HeaderName::from_static("x-amzn-sagemaker-adapter-identifier");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

pub(super) fn life(rows: &mut Rows<'_>) {
    rows.group = "life";
    let not_allowed = || both(405, Form::Detail("Method Not Allowed"));
    rows.add("health is 200 without a body", Call::get("/health"), both(200, Form::Empty));
    rows.add("health takes no HEAD", Call::new(Method::HEAD, "/health"), both(405, Form::Allow("GET")));
    rows.add("health takes no POST", Call::new(Method::POST, "/health"), not_allowed());
    rows.add("ping is 200", Call::get("/ping"), both(200, Form::Empty));
    rows.add("ping takes POST", Call::new(Method::POST, "/ping"), both(200, Form::Empty));
    let version = |version: &str| (200, Form::Json(vec![("/version", json!(version))]));
    rows.add("the version is told", Call::get("/version"), either(version("0.11.0"), version("0.32.0")));
    let load = Form::Json(vec![("/server_load", json!(0))]);
    rows.add("the server's load is 0 where it is not counted", Call::get("/load"), both(200, load));
    let mut names = vec![
        "process_start_time_seconds",
        "vllm:num_requests_running",
        "vllm:num_requests_waiting",
        "vllm:kv_cache_usage_perc",
        "vllm:num_preemptions_total",
        "vllm:prefix_cache_queries_total",
        "vllm:request_success_total",
        "vllm:time_to_first_token_seconds_count",
        "vllm:e2e_request_latency_seconds_sum",
        "vllm:cache_config_info",
    ];
    let older = (200, Form::Metrics(names.clone()));
    names.extend(["vllm:num_requests_waiting_by_reason", "vllm:engine_sleep_state", "vllm:admission_rejections_total"]);
    rows.add("the metrics have their names", Call::get("/metrics"), either(older, (200, Form::Metrics(names))));
    rows.add("the metrics take POST", Call::new(Method::POST, "/metrics"), both(200, Form::Any));
}

pub(super) fn listing(rows: &mut Rows<'_>) {
    rows.group = "listing";
    let base = Form::Json(vec![
        ("/object", json!("list")),
        ("/data/0/id", json!(BASE)),
        ("/data/0/object", json!("model")),
        ("/data/0/parent", Value::Null),
        ("/data/0/max_model_len", json!(128)),
        ("/data/0/owned_by", json!("vllm")),
    ]);
    let gone = || both(404, Form::Detail("Not Found"));
    rows.add("the base model has no parent", Call::get("/v1/models"), both(200, base));
    rows.add("one model alone is not listed", Call::get("/v1/models/tiny-base"), gone());
    rows.add("a list takes no POST", Call::post("/v1/models", &json!({})), both(405, Form::Allow("GET")));
    rows.add("a slash at the end is redirected", Call::get("/v1/models/"), both(307, Form::Redirect("/v1/models")));
    rows.add("an unknown path is the framework's 404", Call::get("/v1/nope"), gone());
    rows.add("a doubled slash is another path", Call::get("//v1/models"), gone());
    rows.add("admin paths are not there", Call::new(Method::POST, "/sleep?level=1"), gone());
}

pub(super) fn completions(rows: &mut Rows<'_>) {
    rows.group = "completion";
    let load = rows.load("a", "r8-a");
    rows.add("an adapter loads", load, both(200, added("a")));
    let by = |model: &str| {
        both(
            200,
            Form::Json(vec![
                ("/model", json!(model)),
                ("/object", json!("text_completion")),
                ("/choices/0/finish_reason", json!("length")),
                ("/usage/prompt_tokens", json!(4)),
                ("/usage/completion_tokens", json!(4)),
            ]),
        )
    };
    let post = |fields: &Value| Call::post(COMPLETIONS, &with(completion("a"), fields));
    rows.add("the base model answers", Call::post(COMPLETIONS, &completion(BASE)), by(BASE));
    rows.add("the adapter answers in its name", Call::post(COMPLETIONS, &completion("a")), by("a"));
    rows.add("null is the base model", post(&json!({"model": null})), by(BASE));
    rows.add("the empty name is the base model", post(&json!({"model": ""})), by(BASE));
    let body = json!({"prompt": "hello world the adapter", "max_tokens": 4, "ignore_eos": true});
    rows.add("no model is the base model", Call::post(COMPLETIONS, &body), by(BASE));
    let number = both(400, error("Bad Request", "Input should be a valid string"));
    rows.add("a number is no model", post(&json!({"model": 5})), number);
    let ghost = || {
        let newer = "The model `ghost` does not exist. Valid aliases: tiny-base.";
        either((404, error("NotFoundError", "The model `ghost` does not exist.")), (404, error("NotFoundError", newer)))
    };
    rows.add("an unknown model is 404", post(&json!({"model": "ghost"})), ghost());
    rows.add("also where a stream is asked for", post(&json!({"model": "ghost", "stream": true})), ghost());
    let events = Form::Events(vec!["data: {", "\"finish_reason\":\"length\"", "data: [DONE]\n\n"]);
    rows.add("a stream ends with [DONE]", post(&json!({"stream": true})), both(200, events));
    let options = json!({"stream": true, "stream_options": {"include_usage": true}});
    let events = Form::Events(vec!["\"finish_reason\":\"length\"", "\"completion_tokens\":4", "data: [DONE]\n\n"]);
    rows.add("a stream tells its usage when asked", post(&options), both(200, events));
    let id = post(&json!({})).header(REQUEST_ID, "abc-123");
    rows.add("the request's id is the answer's", id, both(200, Form::Json(vec![("/id", json!("cmpl-abc-123"))])));
    let two = Form::Json(vec![("/choices/1/index", json!(1)), ("/usage/completion_tokens", json!(8))]);
    rows.add("two prompts are two choices", post(&json!({"prompt": ["x", "y"]})), both(200, two));
    let ids = Form::Json(vec![("/usage/prompt_tokens", json!(3))]);
    rows.add("tokens are a prompt", post(&json!({"prompt": [1, 2, 3]})), both(200, ids));
    let no_prompt = "Either prompt or prompt_embeds must be provided and non-empty.";
    let expect = || either((400, error("Bad Request", no_prompt)), (400, error("BadRequestError", no_prompt)));
    rows.add("no prompt is refused", Call::post(COMPLETIONS, &json!({"model": "a"})), expect());
    rows.add("an empty prompt is refused", post(&json!({"prompt": ""})), expect());
    let bad = |says| both(400, error("BadRequestError", says));
    rows.add(
        "too many tokens are refused",
        post(&json!({"max_tokens": 100_000})),
        both(400, error("BadRequestError", "")),
    );
    rows.add("no tokens are refused", post(&json!({"max_tokens": 0})), bad("max_tokens must be at least 1, got 0."));
    let long = post(&json!({"prompt": "x ".repeat(200)}));
    rows.add("a prompt that is too long is refused", long, bad("This model's maximum context length is"));
    rows.add("no JSON is refused", Call::raw(COMPLETIONS, "{"), both(400, error("Bad Request", "JSON decode error")));
    rows.add("GET is refused", Call::get(COMPLETIONS), both(405, Form::Allow("POST")));
}

pub(super) fn other_forms(rows: &mut Rows<'_>) {
    rows.group = "other forms";
    let answered = |fields: Vec<(&'static str, Value)>| both(200, Form::Json(fields));
    let message =
        vec![("/model", json!("a")), ("/object", json!("chat.completion")), ("/usage/prompt_tokens", json!(4))];
    rows.add("a chat is answered", Call::post(CHAT, &chat("a")), answered(message));
    let ghost = || both(404, error("NotFoundError", "The model `ghost` does not exist."));
    rows.add("a chat with an unknown model is 404", Call::post(CHAT, &chat("ghost")), ghost());
    let stream = with(chat("a"), &json!({"stream": true}));
    let events = Form::Events(vec!["\"role\":\"assistant\"", "\"finish_reason\":\"length\"", "data: [DONE]\n\n"]);
    rows.add("a chat is streamed", Call::post(CHAT, &stream), both(200, events));
    let missing = both(400, error("Bad Request", "Field required"));
    rows.add("a chat needs messages", Call::post(CHAT, &json!({"model": "a"})), missing);
    let body = json!({"model": "a", "input": "hello", "max_output_tokens": 4});
    let response = vec![("/model", json!("a")), ("/object", json!("response")), ("/usage/output_tokens", json!(4))];
    rows.add("a response is made", Call::post("/v1/responses", &body), answered(response));
    let body = json!({"model": "a", "max_tokens": 4, "messages": [{"role": "user", "content": "x"}]});
    let form =
        Form::Json(vec![("/model", json!("a")), ("/type", json!("message")), ("/usage/output_tokens", json!(4))]);
    rows.add("messages are for the newer version", Call::post("/v1/messages", &body), only_newer(200, form));
    let body = with(body, &json!({"model": "ghost"}));
    let form = Form::Json(vec![("/type", json!("error")), ("/error/type", json!("NotFoundError"))]);
    rows.add("messages have an error form of their own", Call::post("/v1/messages", &body), only_newer(404, form));
    let tokens = vec![("/count", json!(2)), ("/max_model_len", json!(128)), ("/tokens", json!([288, 326]))];
    let body = json!({"model": "a", "prompt": "hello world"});
    rows.add("text is tokenized", Call::post("/tokenize", &body), answered(tokens));
    let body = json!({"model": "a", "tokens": [288, 326]});
    rows.add("tokens are read", Call::post("/detokenize", &body), answered(vec![("/prompt", json!("hello world"))]));
    let body = json!({"model": "ghost", "prompt": "x"});
    rows.add("an unknown model tokenizes nothing", Call::post("/tokenize", &body), ghost());
    // The older version serves these paths and says with status 200 that it cannot.
    for (name, path, body) in [
        ("embeddings", "/v1/embeddings", json!({"model": "a", "input": "x"})),
        ("scores", "/score", json!({"model": "a", "text_1": "x", "text_2": "y"})),
        ("rankings", "/v1/rerank", json!({"model": "a", "query": "x", "documents": ["y"]})),
    ] {
        let older = (200, Form::Json(vec![("/error/code", json!(400))]));
        rows.add(name, Call::post(path, &body), either(older, (404, Form::Detail("Not Found"))));
    }
}

pub(super) fn sagemaker(rows: &mut Rows<'_>) {
    rows.group = "SageMaker";
    let load = |rows: &Rows<'_>| Call::post("/adapters", &json!({"name": "sm", "src": rows.path("r8-c")}));
    let call = load(rows);
    rows.add("an adapter is registered", call, only_newer(200, Form::Text("Adapter sm registered".into())));
    let again = only_newer(400, error("InvalidUserInput", "The lora adapter 'sm' has already been loaded."));
    let call = load(rows);
    rows.add("once", call, again);
    let missing = only_newer(404, error("NotFoundError", "No adapter found for /none"));
    rows.add(
        "not from a path that is not there",
        Call::post("/adapters", &json!({"name": "x", "src": "/none"})),
        missing,
    );
    let bad = only_newer(400, error("Bad Request", "Field required"));
    rows.add("not without its source", Call::post("/adapters", &json!({"name": "x"})), bad);
    let by = |model: &str| (200, Form::Json(vec![("/model", json!(model))]));
    let named = Call::post("/invocations", &completion("a"));
    rows.add("the body's model counts in the older version alone", named, either(by("a"), by(BASE)));
    let headed = Call::post("/invocations", &completion(BASE)).header(ADAPTER_HEADER, "a");
    rows.add("the header's adapter counts in the newer version alone", headed, either(by(BASE), by("a")));
    let gone = only_newer(200, Form::Text("Adapter sm unregistered".into()));
    rows.add("an adapter is unregistered", Call::new(Method::DELETE, "/adapters/sm"), gone);
    let gone = only_newer(404, error("NotFoundError", "The lora adapter 'sm' cannot be found."));
    rows.add("not twice", Call::new(Method::DELETE, "/adapters/sm"), gone);
    rows.add("the adapter of the completions is unloaded", unload("a"), both(200, removed("a")));
}
