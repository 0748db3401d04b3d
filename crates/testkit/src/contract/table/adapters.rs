//! Rows about loading and unloading.

use http::Method;
use http::header::CONTENT_TYPE;
use serde_json::{Value, json};

use super::{
    BASE, COMPLETIONS, Call, Form, LOAD, Rows, UNLOAD, added, both, completion, either, error, load_path, refused,
    removed, unload,
};

pub(super) fn loads(rows: &mut Rows<'_>) {
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

pub(super) fn refusals(rows: &mut Rows<'_>) {
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

pub(super) fn bodies(rows: &mut Rows<'_>) {
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
    rows.add(
        "a slash at the end",
        Call::post(&format!("{LOAD}/") as &str, &json!({})),
        both(307, Form::Redirect(LOAD)),
    );
    rows.add("DELETE of an unload", Call::new(Method::DELETE, UNLOAD), both(405, Form::Detail("Method Not Allowed")));
    rows.add("an unload without a name", Call::post(UNLOAD, &json!({})), bad("Field required"));
    rows.add("an unload that is no JSON", Call::raw(UNLOAD, "{"), bad("json_invalid"));
    let needed = both(400, error("InvalidUserInput", "'lora_name' needs to be provided to unload a LoRA adapter."));
    rows.add("an unload of the empty name", unload(""), needed);
}

pub(super) fn names(rows: &mut Rows<'_>) {
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

pub(super) fn unloads(rows: &mut Rows<'_>) {
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
