//! The table: a request, and what every version answers to it. Rows run in their order; a later one may build on what
//! an earlier one loaded.

use http::header::CONTENT_TYPE;
use http::{HeaderName, Method};
use serde_json::{Value, json};

use super::expect::{Expect, Form, both, either, error, only_newer, refused};
use super::http::Call;
use crate::tiny::NAME as BASE;

/// One probe.
pub(super) struct Row {
    pub(super) group: &'static str,
    pub(super) name: &'static str,
    pub(super) call: Call,
    pub(super) expect: Expect,
    /// Whether the key goes along, where the target has one.
    pub(super) with_key: bool,
}

const LOAD: &str = "/v1/load_lora_adapter";
const UNLOAD: &str = "/v1/unload_lora_adapter";
const COMPLETIONS: &str = "/v1/completions";
const CHAT: &str = "/v1/chat/completions";
/// The SageMaker header that names an adapter.
const ADAPTER_HEADER: HeaderName = HeaderName::from_static("x-amzn-sagemaker-adapter-identifier");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The rows for an engine that lets adapters be changed over HTTP. `adapters` is the directory with the fixtures, as the
/// engine sees it.
pub(super) fn rows(adapters: &str) -> Vec<Row> {
    let mut rows = Rows { group: "", rows: Vec::new(), adapters };
    life(&mut rows);
    listing(&mut rows);
    loads(&mut rows);
    refusals(&mut rows);
    bodies(&mut rows);
    names(&mut rows);
    unloads(&mut rows);
    completions(&mut rows);
    other_forms(&mut rows);
    sagemaker(&mut rows);
    rows.rows
}

/// The rows about the key, for an engine that has one.
pub(super) fn key_rows(adapters: &str) -> Vec<Row> {
    let mut rows = Rows { group: "key", rows: Vec::new(), adapters };
    let bare = |rows: &mut Rows<'_>, name, call: Call, expect| rows.push(name, call, expect, false);
    let no = || both(401, Form::Unauthorized);
    bare(&mut rows, "without a key nothing is listed", Call::get("/v1/models"), no());
    bare(&mut rows, "without a key nothing is loaded", Call::post(LOAD, &json!({})), no());
    bare(&mut rows, "without a key nothing is unloaded", Call::post(UNLOAD, &json!({})), no());
    bare(&mut rows, "without a key nothing is completed", Call::post(COMPLETIONS, &json!({})), no());
    bare(&mut rows, "a path that does not exist below /v1 asks for the key too", Call::get("/v1/nope"), no());
    for (name, header, value) in [
        ("a wrong key is refused", "authorization", "Bearer nope"),
        ("basic authentication is refused", "authorization", "Basic c2VjcmV0"),
        ("another header is refused", "x-api-key", super::KEY),
        ("a bare key is refused", "authorization", super::KEY),
    ] {
        let call = Call::get("/v1/models").header(HeaderName::from_static(header), value);
        bare(&mut rows, name, call, no());
    }
    let lower = Call::get("/v1/models").header(http::header::AUTHORIZATION, &format!("bearer {}", super::KEY));
    bare(&mut rows, "the scheme's case does not matter", lower, both(200, Form::Has(vec!["/data/0/id"])));
    for (name, path) in [
        ("health asks for no key", "/health"),
        ("the metrics ask for no key", "/metrics"),
        ("the version asks for no key", "/version"),
    ] {
        bare(&mut rows, name, Call::get(path), both(200, Form::Any));
    }
    let open = Call::post("/tokenize", &json!({"prompt": "x"}));
    bare(&mut rows, "tokenizing asks for no key", open, both(200, Form::Has(vec!["/count"])));
    let open = Call::post("/adapters", &json!({"name": "open", "src": rows.path("r8-c")}));
    let loaded = only_newer(200, Form::Text("Adapter open registered".into()));
    bare(&mut rows, "SageMaker's path loads without a key", open, loaded);
    let open = Call::new(Method::DELETE, "/adapters/open");
    let unloaded = only_newer(200, Form::Text("Adapter open unregistered".into()));
    bare(&mut rows, "SageMaker's path unloads without a key", open, unloaded);
    rows.rows
}

/// The rows for an engine that was not told to let adapters be changed.
pub(super) fn fixed_rows(adapters: &str) -> Vec<Row> {
    let mut rows = Rows { group: "updating is off", rows: Vec::new(), adapters };
    let gone = || both(404, Form::Detail("Not Found"));
    let load = rows.load("q", "r8-a");
    rows.add("a load is a path that does not exist", load, gone());
    rows.add("an unload is a path that does not exist", Call::post(UNLOAD, &json!({"lora_name": "q"})), gone());
    rows.add("SageMaker's paths do not exist", Call::post("/adapters", &json!({"name": "q", "src": "/x"})), gone());
    rows.add("the base model is listed", Call::get("/v1/models"), both(200, Form::Json(vec![("/data/0/id", json!(BASE))])));
    rows.rows
}

/// The rows for an engine that was not told to use adapters at all.
pub(super) fn plain_rows(adapters: &str) -> Vec<Row> {
    let mut rows = Rows { group: "LoRA is off", rows: Vec::new(), adapters };
    let says = "LoRA is not enabled. Use --enable-lora to enable LoRA.";
    let load = rows.load("q", "r8-a");
    rows.add("a load is refused", load, refused(says, says));
    let unknown = both(404, error("NotFoundError", "The lora adapter 'q' cannot be found."));
    rows.add("an unload finds nothing", Call::post(UNLOAD, &json!({"lora_name": "q"})), unknown);
    let answer = Form::Json(vec![("/model", json!(BASE))]);
    rows.add("the base model answers", Call::post(COMPLETIONS, &completion(BASE)), both(200, answer));
    rows.rows
}

struct Rows<'a> {
    group: &'static str,
    rows: Vec<Row>,
    adapters: &'a str,
}

impl Rows<'_> {
    fn push(&mut self, name: &'static str, call: Call, expect: Expect, with_key: bool) {
        self.rows.push(Row { group: self.group, name, call, expect, with_key });
    }

    fn add(&mut self, name: &'static str, call: Call, expect: Expect) {
        self.push(name, call, expect, true);
    }

    fn path(&self, adapter: &str) -> String {
        format!("{}/{adapter}", self.adapters)
    }

    fn load(&self, name: &str, adapter: &str) -> Call {
        load_path(name, &self.path(adapter))
    }

    /// A load that succeeds, and the unload of it.
    fn comes_and_goes(&mut self, loads: &'static str, unloads: &'static str, name: &str, adapter: &str) {
        let load = self.load(name, adapter);
        self.add(loads, load, both(200, added(name)));
        self.add(unloads, unload(name), both(200, removed(name)));
    }
}

fn load_path(name: &str, path: &str) -> Call {
    Call::post(LOAD, &json!({"lora_name": name, "lora_path": path}))
}

fn unload(name: &str) -> Call {
    Call::post(UNLOAD, &json!({"lora_name": name}))
}

fn added(name: &str) -> Form {
    Form::Text(format!("Success: LoRA adapter '{name}' added successfully."))
}

fn removed(name: &str) -> Form {
    Form::Text(format!("Success: LoRA adapter '{name}' removed successfully."))
}

fn completion(model: &str) -> Value {
    json!({"model": model, "prompt": "hello world the adapter", "max_tokens": 4, "temperature": 0, "ignore_eos": true})
}

fn chat(model: &str) -> Value {
    json!({"model": model, "messages": [{"role": "user", "content": "hello"}], "max_tokens": 4, "temperature": 0})
}

/// `body` with `fields` put in.
fn with(mut body: Value, fields: &Value) -> Value {
    for (name, value) in fields.as_object().into_iter().flatten() {
        body[name] = value.clone();
    }
    body
}

fn life(rows: &mut Rows<'_>) {
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

fn listing(rows: &mut Rows<'_>) {
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

fn loads(rows: &mut Rows<'_>) {
    rows.group = "load";
    let load = rows.load("a", "r8-a");
    rows.add("an adapter loads", load, both(200, added("a")));
    let root = rows.path("r8-a");
    let listed = Form::Json(vec![
        ("/data/1/id", json!("a")),
        ("/data/1/root", json!(root)),
        ("/data/1/parent", json!(BASE)),
        ("/data/1/max_model_len", Value::Null),
    ]);
    rows.add("it is listed with its path and its base", Call::get("/v1/models"), both(200, listed));
    let again = || both(400, error("InvalidUserInput", "The lora adapter 'a' has already been loaded."));
    let load = rows.load("a", "r8-a");
    rows.add("the same name from the same path is refused", load, again());
    let load = rows.load("a", "r8-b");
    rows.add("the same name from another path is refused", load, again());
    let body = json!({"lora_name": "a", "lora_path": rows.path("r8-b"), "load_inplace": true});
    let known = (400, error("InvalidUserInput", "The lora adapter 'a' has already been loaded."));
    rows.add("in place it is loaded by the newer version", Call::post(LOAD, &body), either(known, (200, added("a"))));
    rows.add("it is unloaded", unload("a"), both(200, removed("a")));
    let body = json!({"lora_name": "a", "lora_path": rows.path("r8-a"), "base_model_name": BASE, "x": 1});
    rows.add("unknown fields are ignored", Call::post(LOAD, &body), both(200, added("a")));
    rows.add("it is unloaded again", unload("a"), both(200, removed("a")));
    rows.comes_and_goes("rank 16 loads", "rank 16 unloads", "r16", "r16");
    rows.comes_and_goes("two projections load", "two projections unload", "attn", "attn-only");
    rows.comes_and_goes("rsLoRA loads", "rsLoRA unloads", "rs", "rslora");
    rows.comes_and_goes("more layers than the base has load", "they unload", "layers", "more-layers");
    rows.comes_and_goes("a smaller base's shapes load", "they unload too", "small", "smaller-base");
    rows.comes_and_goes("a target without tensors loads", "it unloads", "target", "unknown-target");
    rows.comes_and_goes("a rank that lies loads", "a rank that lies unloads", "lies", "rank-lies");
    rows.comes_and_goes("NaN loads", "NaN unloads", "nan", "nan");
    let conflict = (400, error("InvalidUserInput", "The lora adapter 'tiny-base' conflicts with a served base model."));
    let load = rows.load(BASE, "r8-a");
    rows.add("the base model's name is free in the older version only", load, either((200, added(BASE)), conflict));
    let unknown = (404, error("NotFoundError", "The lora adapter 'tiny-base' cannot be found."));
    rows.add("and can be unloaded there", unload(BASE), either((200, removed(BASE)), unknown));
}

fn refusals(rows: &mut Rows<'_>) {
    rows.group = "refusal";
    let missing = || both(404, error("NotFoundError", "Loading lora x failed: No adapter found for"));
    rows.add("a path that is not there", load_path("x", "/no/such/path"), missing());
    rows.add("a relative path that is not there", load_path("x", "no/such/path/here"), missing());
    rows.add("a repository that cannot be fetched", load_path("x", "someorg/some-adapter"), missing());
    rows.add("an S3 URL", load_path("x", "s3://bucket/key"), missing());
    rows.add("an HTTP URL", load_path("x", "http://127.0.0.1:9/x"), missing());
    let load = rows.load("x", "no-config");
    rows.add("no configuration", load, missing());
    for (name, adapter, older, newer) in [
        ("no weights", "no-weights", "doesn't contain tensors", "doesn't contain tensors"),
        ("corrupt weights", "corrupt", "header too large", "Error while deserializing header: header too large"),
        ("truncated weights", "truncated", "incomplete metadata", "incomplete metadata, file not fully covered"),
        ("a configuration that is no JSON", "bad-config", "Expecting property name", "line 1 column 2 (char 1)"),
        ("a rank above the limit", "r64", "LoRA rank 64 is greater", "LoRA rank 64 is greater than max_lora_rank 16."),
        ("shapes of a wider base", "wrong-base", "The size of tensor a (64)", "must match the size of tensor b (128)"),
        ("DoRA", "dora", "vLLM does not yet support DoRA.", "vLLM does not yet support DoRA."),
        ("biases", "bias-all", "Adapter bias cannot be used", "Adapter bias is not supported."),
        ("modules to save", "modules-to-save", "being None.", "Unsupported modules_to_save: ['lm_head']"),
        ("a module that the base has not got", "unknown-tensor", "no_such_proj", "Please verify that the loaded LoRA"),
        ("a path that is a file", "r8-a/adapter_config.json", "[Errno 20] Not a directory", "[Errno 20] Not a dir"),
    ] {
        let load = rows.load("x", adapter);
        rows.add(name, load, refused(older, newer));
    }
    let load = rows.load("x", "r8-a");
    rows.add("the name is free after all of them", load, both(200, added("x")));
    rows.add("and is unloaded", unload("x"), both(200, removed("x")));
}

fn bodies(rows: &mut Rows<'_>) {
    rows.group = "body";
    let bad = |says| both(400, error("Bad Request", says));
    let path = rows.path("r8-a");
    for (name, body, says) in [
        ("no name", json!({"lora_path": path}), "'msg': 'Field required'"),
        ("no path", json!({"lora_name": "x"}), "lora_path"),
        ("no fields", json!({}), "2 validation errors:"),
        ("null for the name", json!({"lora_name": null, "lora_path": path}), "Input should be a valid string"),
        ("a number for the name", json!({"lora_name": 5, "lora_path": path}), "Input should be a valid string"),
        ("a list", json!([1]), "model_attributes_type"),
    ] {
        rows.add(name, Call::post(LOAD, &body), bad(says));
    }
    rows.add("no JSON", Call::raw(LOAD, "{nope"), bad("Expecting property name enclosed in double quotes"));
    rows.add("nothing", Call::raw(LOAD, ""), bad("Field required"));
    let text = Call::raw(LOAD, "{}").header(CONTENT_TYPE, "text/plain");
    rows.add("another Content-Type", text, bad("Unsupported Media Type: Only 'application/json' is allowed"));
    let charset = load_path("x", "/x").header(CONTENT_TYPE, "application/json; charset=utf-8");
    rows.add("a charset is allowed", charset, both(404, error("NotFoundError", "No adapter found for /x")));
    let both_needed = || both(400, error("InvalidUserInput", "Both 'lora_name' and 'lora_path' must be provided."));
    rows.add("an empty name", load_path("", &path), both_needed());
    rows.add("an empty path", load_path("x", ""), both_needed());
    rows.add("GET", Call::get(LOAD), both(405, Form::Allow("POST")));
    rows.add("a slash at the end", Call::post(&format!("{LOAD}/") as &str, &json!({})), both(307, Form::Redirect(LOAD)));
    rows.add("DELETE of an unload", Call::new(Method::DELETE, UNLOAD), both(405, Form::Detail("Method Not Allowed")));
    rows.add("an unload without a name", Call::post(UNLOAD, &json!({})), bad("Field required"));
    rows.add("an unload that is no JSON", Call::raw(UNLOAD, "{"), bad("json_invalid"));
    let needed = both(400, error("InvalidUserInput", "'lora_name' needs to be provided to unload a LoRA adapter."));
    rows.add("an unload of the empty name", unload(""), needed);
}

fn names(rows: &mut Rows<'_>) {
    rows.group = "name";
    rows.comes_and_goes("slashes", "slashes, unloaded", "org/team/ad", "r8-a");
    rows.comes_and_goes("spaces", "spaces, unloaded", "a b", "r8-a");
    rows.comes_and_goes("letters of all scripts", "they, unloaded", "адаптер-ü-🚀", "r8-a");
    rows.comes_and_goes("quotes and line breaks", "they, unloaded", "q\"\n{}", "r8-a");
    rows.comes_and_goes("dots", "dots, unloaded", "../../etc", "r8-a");
    rows.comes_and_goes("commas", "commas, unloaded", "a,b", "r8-a");
    rows.comes_and_goes("escapes", "escapes, unloaded", "a%2Fb", "r8-a");
    rows.comes_and_goes("2,000 characters", "they, unloaded", &"L".repeat(2000), "r8-a");
}

fn unloads(rows: &mut Rows<'_>) {
    rows.group = "unload";
    let unknown = |says| both(404, error("NotFoundError", says));
    rows.add("an unknown name", unload("ghost"), unknown("The lora adapter 'ghost' cannot be found."));
    let load = rows.load("u", "r8-a");
    rows.add("an adapter loads", load, both(200, added("u")));
    let body = json!({"lora_name": "u", "lora_int_id": 999});
    rows.add("a number beside its name is ignored", Call::post(UNLOAD, &body), both(200, removed("u")));
    rows.add("it cannot be unloaded twice", unload("u"), unknown("The lora adapter 'u' cannot be found."));
    let gone = both(404, error("NotFoundError", "The model `u` does not exist."));
    rows.add("it no longer answers", Call::post(COMPLETIONS, &completion("u")), gone);
}

fn completions(rows: &mut Rows<'_>) {
    rows.group = "completion";
    let load = rows.load("a", "r8-a");
    rows.add("an adapter loads", load, both(200, added("a")));
    let by = |model: &str| {
        both(200, Form::Json(vec![
            ("/model", json!(model)),
            ("/object", json!("text_completion")),
            ("/choices/0/finish_reason", json!("length")),
            ("/usage/prompt_tokens", json!(4)),
            ("/usage/completion_tokens", json!(4)),
        ]))
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
    rows.add("too many tokens are refused", post(&json!({"max_tokens": 100_000})), both(400, error("BadRequestError", "")));
    rows.add("no tokens are refused", post(&json!({"max_tokens": 0})), bad("max_tokens must be at least 1, got 0."));
    let long = post(&json!({"prompt": "x ".repeat(200)}));
    rows.add("a prompt that is too long is refused", long, bad("This model's maximum context length is"));
    rows.add("no JSON is refused", Call::raw(COMPLETIONS, "{"), both(400, error("Bad Request", "JSON decode error")));
    rows.add("GET is refused", Call::get(COMPLETIONS), both(405, Form::Allow("POST")));
}

fn other_forms(rows: &mut Rows<'_>) {
    rows.group = "other forms";
    let answered = |fields: Vec<(&'static str, Value)>| both(200, Form::Json(fields));
    let message = vec![("/model", json!("a")), ("/object", json!("chat.completion")), ("/usage/prompt_tokens", json!(4))];
    rows.add("a chat is answered", Call::post(CHAT, &chat("a")), answered(message));
    let ghost = || both(404, error("NotFoundError", "The model `ghost` does not exist."));
    rows.add("a chat with an unknown model is 404", Call::post(CHAT, &chat("ghost")), ghost());
    let stream = with(chat("a"), &json!({"stream": true}));
    let events = Form::Events(vec!["chat.completion.chunk", "\"role\":\"assistant\"", "finish_reason", "data: [DONE]\n\n"]);
    rows.add("a chat is streamed", Call::post(CHAT, &stream), both(200, events));
    let missing = both(400, error("Bad Request", "Field required"));
    rows.add("a chat needs messages", Call::post(CHAT, &json!({"model": "a"})), missing);
    let body = json!({"model": "a", "input": "hello", "max_output_tokens": 4});
    let response = vec![("/model", json!("a")), ("/object", json!("response")), ("/usage/output_tokens", json!(4))];
    rows.add("a response is made", Call::post("/v1/responses", &body), answered(response));
    let body = json!({"model": "a", "max_tokens": 4, "messages": [{"role": "user", "content": "x"}]});
    let form = Form::Json(vec![("/model", json!("a")), ("/type", json!("message")), ("/usage/output_tokens", json!(4))]);
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

fn sagemaker(rows: &mut Rows<'_>) {
    rows.group = "SageMaker";
    let load = |rows: &Rows<'_>| Call::post("/adapters", &json!({"name": "sm", "src": rows.path("r8-c")}));
    let call = load(rows);
    rows.add("an adapter is registered", call, only_newer(200, Form::Text("Adapter sm registered".into())));
    let again = only_newer(400, error("InvalidUserInput", "The lora adapter 'sm' has already been loaded."));
    let call = load(rows);
    rows.add("once", call, again);
    let missing = only_newer(404, error("NotFoundError", "No adapter found for /none"));
    rows.add("not from a path that is not there", Call::post("/adapters", &json!({"name": "x", "src": "/none"})), missing);
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
