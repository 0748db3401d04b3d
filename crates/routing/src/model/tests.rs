use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::*;

fn name(body: &str) -> Result<String, ModelError> {
    ModelField::in_json(body.as_bytes()).map(|field| field.name().to_owned())
}

#[test]
fn the_top_level_model_is_found_wherever_it_stands() {
    for body in [
        r#"{"model":"a"}"#,
        "\t{ \"model\"\n:\r \"a\" }  ",
        r#"{"model":"a","messages":[{"model":"b"}]}"#,
        r#"{"messages":[{"content":"{\"model\":\"b\"}","model":"c"}],"model":"a"}"#,
        r#"{"tools":{"model":{"model":"b"}},"model":"a","x":"\"model\":"}"#,
        r#"{"":0,"Model":"b","model ":"c","model":"a"}"#,
    ] {
        assert_eq!(name(body).as_deref(), Ok("a"), "{body}");
    }
}

#[test]
fn escapes_in_key_and_name_are_undone() {
    assert_eq!(name(r#"{"\u006dodel":"s\u0071l\u002dv1"}"#).as_deref(), Ok("sql-v1"));
    assert_eq!(name(r#"{"model":"\ud83d\ude00/\n\""}"#).as_deref(), Ok("😀/\n\""));
    assert_eq!(name(r#"{"mod\u0065l":"a","model":"b"}"#), Err(ModelError::Duplicate));
}

#[test]
fn a_body_without_one_usable_model_says_what_is_wrong() {
    for (body, wrong) in [
        ("{}", ModelError::Missing),
        (r#"{"messages":[{"model":"a"}]}"#, ModelError::Missing),
        (r#"{"model":null}"#, ModelError::Null),
        (r#"{"model":7}"#, ModelError::NotAString),
        (r#"{"model":true}"#, ModelError::NotAString),
        (r#"{"model":["a"]}"#, ModelError::NotAString),
        (r#"{"model":{"model":"a"}}"#, ModelError::NotAString),
        (r#"{"model":"a","model":"a"}"#, ModelError::Duplicate),
        (r#"{"model":"a","x":1,"model":null}"#, ModelError::Duplicate),
        ("[]", ModelError::NotAnObject),
        (r#"[{"model":"a"}]"#, ModelError::NotAnObject),
        ("null", ModelError::NotAnObject),
        (r#""model""#, ModelError::NotAnObject),
        ("7", ModelError::NotAnObject),
    ] {
        assert_eq!(name(body), Err(wrong), "{body}");
    }
}

#[test]
fn what_is_not_json_is_refused() {
    for body in [
        "",
        " ",
        "{",
        "model=a",
        r#"{"model":"a""#,
        r#"{"model":"a"}}"#,
        r#"{"model":"a"} {"model":"b"}"#,
        r#"{"model":"a",}"#,
        r#"{'model':'a'}"#,
        r#"{model:"a"}"#,
        r#"{"model":"a","x":NaN}"#,
        r#"{"model":"a","x":01}"#,
        r#"{"model":"a" /* b */}"#,
        "{\"model\":\"a\nb\"}",
        "{\"model\":\"a\",\"x\":\"\u{1}\"}",
        r#"{"model":"\ud800"}"#,
        r#"{"model":"\x41"}"#,
        "\u{feff}{\"model\":\"a\"}",
    ] {
        assert!(matches!(name(body), Err(ModelError::NotJson(_))), "{body:?}: {:?}", name(body));
    }
    // Other encodings that a lenient reader would detect and take.
    let utf16: Vec<u8> = r#"{"model":"a"}"#.encode_utf16().flat_map(u16::to_le_bytes).collect();
    assert!(matches!(ModelField::in_json(&utf16), Err(ModelError::NotJson(_))));
    assert!(matches!(ModelField::in_json(b"{\"model\":\"\xff\"}"), Err(ModelError::NotJson(_))));
}

#[test]
fn nesting_is_bounded_and_brackets_in_strings_do_not_count() {
    let nested = |depth: usize| format!(r#"{{"model":"a","x":{}{}}}"#, "[".repeat(depth), "]".repeat(depth));
    assert_eq!(name(&nested(MAX_DEPTH - 1)).as_deref(), Ok("a"));
    assert_eq!(name(&nested(MAX_DEPTH)), Err(ModelError::TooDeep));
    // A recursive reader would have run out of stack.
    assert_eq!(name(&nested(1_000_000)), Err(ModelError::TooDeep));
    let wide = format!(r#"{{"x":[{}[]],"y":"{}\"[","model":"a"}}"#, "[],".repeat(1000), "[{".repeat(1000));
    assert_eq!(name(&wide).as_deref(), Ok("a"));
}

#[test]
fn only_the_name_is_replaced() {
    let body = br#" {"a": 1.50, "model" : "ns\/x" ,"messages":[{"model":"ns/x"}]}"#;
    let field = ModelField::in_json(body).unwrap();
    assert_eq!(field.name(), "ns/x");
    assert_eq!(
        String::from_utf8(field.renamed(body, "q\"\\")).unwrap(),
        r#" {"a": 1.50, "model" : "q\"\\" ,"messages":[{"model":"ns/x"}]}"#
    );
}

#[test]
fn i1_a_second_way_to_name_an_adapter_is_noticed_at_the_top_level_only() {
    let seen = |body: &str| ModelField::in_json(body.as_bytes()).unwrap().has_lora_path();
    assert!(seen(r#"{"model":"a","lora_path":"b"}"#));
    assert!(seen(r#"{"lora\u005fpath":null,"model":"a"}"#));
    assert!(!seen(r#"{"model":"a","messages":[{"lora_path":"b"}]}"#));
}

#[test]
fn each_error_has_a_reason_of_its_own_and_none_is_transient() {
    let all = [
        ModelError::NotJson(String::new()),
        ModelError::NotAnObject,
        ModelError::TooDeep,
        ModelError::NotAForm,
        ModelError::BadForm(""),
        ModelError::Missing,
        ModelError::Null,
        ModelError::NotAString,
        ModelError::Duplicate,
    ];
    let reasons: std::collections::BTreeSet<_> = all.iter().map(ModelError::reason).collect();
    assert_eq!(reasons.len(), all.len());
    assert!(all.iter().all(|error| !error.is_transient()));
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any_text().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 40, 5, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            proptest::collection::btree_map(any_text(), inner, 0..5)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// Texts that look like what is searched for are likely, other ones possible.
fn any_text() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("model".to_owned()),
        Just("lora_path".to_owned()),
        Just(r#"{"model":"x"}"#.to_owned()),
        Just(r#"\"model\":"#.to_owned()),
        any::<String>(),
    ]
}

/// What serde_json's own tree says of the same body.
fn by_tree(value: &Value) -> Result<String, ModelError> {
    match value {
        Value::Object(map) => match map.get("model") {
            None => Err(ModelError::Missing),
            Some(Value::Null) => Err(ModelError::Null),
            Some(Value::String(name)) => Ok(name.clone()),
            Some(_) => Err(ModelError::NotAString),
        },
        _ => Err(ModelError::NotAnObject),
    }
}

/// Writes a string with every character escaped, as a client may.
fn escaped(text: &str) -> String {
    let units: String = text.encode_utf16().map(|unit| format!("\\u{unit:04X}")).collect();
    format!("\"{units}\"")
}

proptest! {
    #[test]
    fn the_scan_agrees_with_a_full_parse(value in any_json(), pretty: bool) {
        let text = if pretty { serde_json::to_string_pretty(&value).unwrap() } else { value.to_string() };
        prop_assert_eq!(name(&text), by_tree(&value));
    }

    #[test]
    fn the_scan_never_panics_and_finds_nothing_that_a_full_parse_refuses(
        mut bytes in any_json().prop_map(|value| value.to_string().into_bytes()),
        at: proptest::sample::Index,
        with: u8,
    ) {
        let at = at.index(bytes.len());
        bytes[at] = with;
        if let Ok(field) = ModelField::in_json(&bytes) {
            // A full parse also looks inside what the scan skips, where a lone surrogate may stand.
            if let Ok(value) = serde_json::from_slice::<Value>(&bytes) {
                prop_assert_eq!(by_tree(&value), Ok(field.name().to_owned()));
            }
        }
    }

    #[test]
    fn a_replaced_name_reads_back_and_everything_else_is_as_it_was(
        rest in proptest::collection::btree_map(any_text(), any_json(), 0..5),
        old in any_text(),
        new in any_text(),
    ) {
        let mut value: Map<String, Value> = rest.into_iter().collect();
        value.insert("model".into(), json!("#"));
        let text = Value::Object(value.clone()).to_string().replacen("\"model\":\"#\"", &format!("\"model\":{}", escaped(&old)), 1);
        let field = ModelField::in_json(text.as_bytes());
        // The placeholder's text may also occur inside a string: then it was replaced there and this is another body.
        prop_assume!(field.as_ref().is_ok_and(|field| field.name() == old));
        let renamed: Value = serde_json::from_slice(&field.unwrap().renamed(text.as_bytes(), &new)).unwrap();
        value.insert("model".into(), Value::from(new));
        prop_assert_eq!(renamed, Value::Object(value));
    }
}
