//! The table: a request, and what every version answers to it. Rows run in their order; a later one may build on what
//! an earlier one loaded.

mod adapters;
mod answers;

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

/// The rows for an engine that lets adapters be changed over HTTP. `adapters` is the directory with the fixtures, as the
/// engine sees it.
pub(super) fn rows(adapters: &str) -> Vec<Row> {
    let mut rows = Rows { group: "", rows: Vec::new(), adapters };
    answers::life(&mut rows);
    answers::listing(&mut rows);
    adapters::loads(&mut rows);
    adapters::refusals(&mut rows);
    adapters::bodies(&mut rows);
    adapters::names(&mut rows);
    adapters::unloads(&mut rows);
    answers::completions(&mut rows);
    answers::other_forms(&mut rows);
    answers::sagemaker(&mut rows);
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
    rows.add(
        "the base model is listed",
        Call::get("/v1/models"),
        both(200, Form::Json(vec![("/data/0/id", json!(BASE))])),
    );
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
