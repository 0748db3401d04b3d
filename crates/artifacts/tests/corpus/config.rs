//! Configurations that are none, or ask for what engines lack.

use serde_json::{Value, json};

use super::Case;
use super::adapter::{Adapter, CONFIG};

pub fn cases() -> Vec<Case> {
    let mut cases = texts();
    cases.extend(values());
    cases.extend(features());
    cases.extend(patterns());
    cases
}

fn set(name: impl std::fmt::Display, reason: &'static str, field: &'static str, value: Value) -> Case {
    Case::changed(format!("config: {name}"), reason, move |adapter| {
        adapter.set(field, value.clone());
    })
}

fn texts() -> Vec<Case> {
    let file = |name: &str, reason, bytes: Vec<u8>| {
        Case::replaced(format!("config: {name}"), reason, CONFIG, move || bytes.clone())
    };
    let sound = serde_json::to_string(&Adapter::tiny(1).config).unwrap();
    let with = |field: &str| sound.replacen('{', &format!("{{{field},"), 1).into_bytes();
    vec![
        file("nothing", "ConfigInvalid", Vec::new()),
        file("a list", "ConfigInvalid", b"[]".into()),
        file("null", "ConfigInvalid", b"null".into()),
        file("a text", "ConfigInvalid", b"\"lora\"".into()),
        file("cut off", "ConfigInvalid", sound.as_bytes()[..sound.len() - 1].into()),
        file("something behind it", "ConfigInvalid", format!("{sound}x").into()),
        file("single quotes", "ConfigInvalid", sound.replace('"', "'").into()),
        file("YAML", "ConfigInvalid", b"r: 8\nlora_alpha: 16\n".into()),
        file("HTML", "ConfigInvalid", b"<!DOCTYPE html>".into()),
        file("a byte order mark", "ConfigInvalid", format!("\u{feff}{sound}").into()),
        file("UTF-16", "ConfigInvalid", sound.encode_utf16().flat_map(u16::to_le_bytes).collect()),
        file(
            "not UTF-8",
            "ConfigInvalid",
            with("\"a\":\"\u{1}").into_iter().map(|b| if b == 1 { 0xff } else { b }).collect(),
        ),
        file("a control character", "ConfigInvalid", with("\"a\":\"\u{1}\"")),
        file("half a surrogate pair", "ConfigInvalid", with(r#""a":"\udc00""#)),
        file("NaN", "ConfigInvalid", with("\"a\":NaN")),
        file("Infinity", "ConfigInvalid", with("\"a\":-Infinity")),
        file("1e309", "ConfigInvalid", with("\"a\":1e309")),
        file("100,000 lists within each other", "ConfigInvalid", with(&format!("\"a\":{}", "[".repeat(100_000)))),
        file("200 objects within each other", "ConfigInvalid", {
            with(&format!("\"a\":{}1{}", "{\"a\":".repeat(200), "}".repeat(200)))
        }),
        file("2 MB", "ConfigInvalid", with(&format!("\"a\":\"{}\"", "x".repeat(2_000_000)))),
        file("a Git LFS pointer", "LfsPointer", b"version https://git-lfs.github.com/spec/v1\noid sha256:4d\n".into()),
    ]
}

fn values() -> Vec<Case> {
    let mut cases = Vec::new();
    let odd = [json!(null), json!(""), json!("8"), json!(true), json!([8]), json!({}), json!(1.5)];
    let ranks = [json!(0), json!(-1), json!(8.0), json!(65_537), json!(1_u64 << 31), json!(1_u64 << 63), json!(1e30)];
    for value in odd.iter().cloned().chain(ranks) {
        cases.push(set(format!("r = {value}"), "RankInvalid", "r", value.clone()));
    }
    let alphas = odd.iter().filter(|value| !value.is_number()).cloned();
    for value in alphas.chain([json!(1e308), json!(-1e308), json!(200_000)]) {
        cases.push(set(format!("lora_alpha = {value}"), "AlphaInvalid", "lora_alpha", value));
    }
    let names =
        [json!([]), json!([1]), json!([""]), json!([["q_proj"]]), json!([null, "q_proj"]), json!(7), json!({"q": 1})];
    for value in names.into_iter().chain([json!(null), json!("")]) {
        cases.push(set(format!("target_modules = {value}"), "TargetsInvalid", "target_modules", value));
    }
    for (field, reason) in [("r", "RankInvalid"), ("lora_alpha", "AlphaInvalid"), ("target_modules", "TargetsInvalid")]
    {
        cases.push(Case::changed(format!("config: no {field}"), reason, move |adapter| {
            drop(adapter.config.remove(field))
        }));
    }
    for (field, value, reason) in [
        ("rank_pattern", json!([]), "ConfigInvalid"),
        ("rank_pattern", json!({"q_proj": 0}), "RankInvalid"),
        ("rank_pattern", json!({"q_proj": "8"}), "RankInvalid"),
        ("rank_pattern", json!({"q_proj": 1.5}), "RankInvalid"),
        ("alpha_pattern", json!("q_proj"), "ConfigInvalid"),
        ("alpha_pattern", json!({"q_proj": null}), "AlphaInvalid"),
        ("alpha_pattern", json!({"q_proj": 1e300}), "AlphaInvalid"),
        ("peft_type", json!(7), "ConfigInvalid"),
        ("base_model_name_or_path", json!(["a"]), "ConfigInvalid"),
        ("peft_type", json!("\u{7f}\u{202e}".repeat(9000)), "NotLora"),
        ("bias", json!("\n".repeat(9000)), "BiasUnsupported"),
        ("modules_to_save", json!("score"), "ConfigInvalid"),
        ("use_rslora", json!("true"), "ConfigInvalid"),
        ("layers_to_transform", json!("0"), "ConfigInvalid"),
        ("layers_to_transform", json!([0, -1]), "ConfigInvalid"),
        ("layers_to_transform", json!(0.5), "ConfigInvalid"),
    ] {
        cases.push(set(format!("{field} = {value:.100}"), reason, field, value.clone()));
    }
    cases
}

fn features() -> Vec<Case> {
    [
        ("peft_type", json!("IA3"), "NotLora"),
        ("peft_type", json!("ADALORA"), "NotLora"),
        ("peft_type", json!("PROMPT_TUNING"), "NotLora"),
        ("peft_type", json!("LORA\u{0}"), "NotLora"),
        ("use_dora", json!(true), "DoraUnsupported"),
        ("use_dora", json!("yes"), "DoraUnsupported"),
        ("bias", json!("all"), "BiasUnsupported"),
        ("bias", json!("lora_only"), "BiasUnsupported"),
        ("bias", json!(false), "BiasUnsupported"),
        ("lora_bias", json!(true), "BiasUnsupported"),
        ("modules_to_save", json!(["lm_head"]), "ModulesToSaveUnsupported"),
        ("modules_to_save", json!(["score", "embed_tokens"]), "ModulesToSaveUnsupported"),
        ("modules_to_save", json!([1]), "ModulesToSaveUnsupported"),
        ("init_lora_weights", json!("pissa"), "InitUnsupported"),
        ("init_lora_weights", json!("OLORA"), "InitUnsupported"),
        ("init_lora_weights", json!("loftq"), "InitUnsupported"),
        ("layer_replication", json!([[0, 16], [8, 24]]), "FeatureUnsupported"),
        ("alora_invocation_tokens", json!([1, 2]), "FeatureUnsupported"),
        ("use_qalora", json!(true), "FeatureUnsupported"),
        ("use_bdlora", json!({"nblocks": 4}), "FeatureUnsupported"),
        ("trainable_token_indices", json!({"embed_tokens": [1]}), "FeatureUnsupported"),
        ("arrow_config", json!({"top_k": 3}), "FeatureUnsupported"),
    ]
    .map(|(field, value, reason)| set(format!("{field} = {value}"), reason, field, value.clone()))
    .into()
}

fn patterns() -> Vec<Case> {
    let mut cases: Vec<Case> = [
        "(a+)+$",
        "(a|aa)+c",
        "(.*)*x",
        "([a-z]+)*!",
        ".*.*.*.*.*.*.*=",
        "(a|aa)(a|aa)(a|aa)(a|aa)(a|aa)(a|aa)(a|aa)(a|aa)(a|aa)b",
        r"(a)\1+",
        "(?=.*a)b",
        "(",
    ]
    .into_iter()
    .flat_map(|pattern| {
        let case = |field| set(format!("{field} with {pattern}"), "PatternExplodes", field, json!({pattern: 2}));
        [case("rank_pattern"), case("alpha_pattern")]
    })
    .collect();
    cases.push(set("a rank pattern of 1 MB", "PatternExplodes", "rank_pattern", json!({"[a]".repeat(300_000): 2})));
    cases.push(set(
        "a rank pattern of 300,000 parentheses",
        "PatternExplodes",
        "rank_pattern",
        json!({"(".repeat(300_000): 2}),
    ));
    let fill = "((((a{100}){100}){100}){100}){100}";
    cases.push(set("a pattern that fills the memory", "TargetsInvalid", "target_modules", json!(fill)));
    cases.push(set("50,000 rank patterns that lie", "RankMismatch", "rank_pattern", {
        let patterns: serde_json::Map<_, _> = (0..50_000).map(|n| (format!("{n}"), json!(4))).collect();
        let mut patterns = patterns;
        patterns.insert("q_proj".into(), json!(4));
        Value::Object(patterns)
    }));
    cases.push(set("30,000 regular expressions for ranks that lie", "RankMismatch", "rank_pattern", {
        (0..30_000)
            .map(|n| (format!("[xy]{n}|q_proj"), json!(4 + n % 60_000)))
            .collect::<serde_json::Map<_, _>>()
            .into()
    }));
    cases
}
