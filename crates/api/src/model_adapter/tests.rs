//! What an API server would say, through kube's CEL interpreter, and the same from `lower`.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelectorRequirement;
use serde_json::{Value, json};

use super::*;
use crate::lower::{RelativePaths, violations};
use crate::manifest::{Manifest, parse};

/// The smallest object that is right.
fn good() -> ModelAdapter {
    let selector = LabelSelector {
        match_labels: Some(BTreeMap::from([("model.aibrix.ai/name".into(), "qwen".into())])),
        match_expressions: None,
    };
    ModelAdapter::new("qwen-code-lora", ModelAdapterSpec::new(selector, "huggingface://org/repo"))
}

/// A rule, an object that it lets pass, and objects that break it and no other rule.
struct Case {
    rule: CelRule,
    /// Where an API server and `lower` say that it is broken.
    paths: (&'static str, &'static str),
    accepts: fn(&mut ModelAdapter),
    rejects: &'static [fn(&mut ModelAdapter)],
}

fn requirement(operator: &str, values: &[&str]) -> LabelSelectorRequirement {
    let values = values.iter().map(|value| (*value).to_owned()).collect();
    LabelSelectorRequirement { key: "tier".into(), operator: operator.into(), values: Some(values) }
}

fn expect(object: &mut ModelAdapter, operator: &str, values: &[&str]) {
    object.spec.pod_selector.match_expressions = Some(vec![requirement(operator, values)]);
}

fn api_key(object: &mut ModelAdapter, key: &str) {
    object.spec.additional_config = Some(BTreeMap::from([("api-key".into(), key.into())]));
}

fn key_ref(object: &mut ModelAdapter, name: &str, key: &str) {
    object.spec.engine_api_key_secret_ref = Some(SecretKeyRef { name: name.into(), key: key.into() });
}

const CASES: &[Case] = &[
    Case {
        rule: NAME,
        paths: ("", "metadata.name"),
        accepts: |o| o.metadata.name = Some("a".repeat(63)),
        rejects: &[
            |o| o.metadata.name = Some("a".repeat(64)),
            |o| o.metadata.name = Some("1a".into()),
            |o| o.metadata.name = Some("a-".into()),
            |o| o.metadata.name = Some("a.b".into()),
        ],
    },
    Case {
        rule: BASE_MODEL,
        paths: ("spec.baseModel", "spec.baseModel"),
        accepts: |o| o.spec.base_model = Some("meta-llama/Llama-2-70b-hf".into()),
        rejects: &[|o| o.spec.base_model = Some(String::new()), |o| o.spec.base_model = Some("a b".into())],
    },
    Case {
        rule: SELECTOR_EMPTY,
        paths: ("spec.podSelector", "spec.podSelector"),
        accepts: |o| {
            o.spec.pod_selector.match_labels = None;
            expect(o, "Exists", &[]);
        },
        rejects: &[
            |o| o.spec.pod_selector = LabelSelector::default(),
            |o| {
                let (labels, expressions) = (Some(BTreeMap::new()), Some(Vec::new()));
                o.spec.pod_selector = LabelSelector { match_labels: labels, match_expressions: expressions };
            },
        ],
    },
    Case {
        rule: SELECTOR_VALUES,
        paths: ("spec.podSelector", "spec.podSelector.matchExpressions[0].values"),
        accepts: |o| expect(o, "NotIn", &["gold"]),
        rejects: &[|o| expect(o, "In", &[]), |o| expect(o, "Exists", &["gold"])],
    },
    Case {
        rule: ARTIFACT_TEXT,
        paths: ("spec.artifactURL", "spec.artifactURL"),
        accepts: |o| o.spec.artifact_url = "/модели/sql".into(),
        rejects: &[|o| o.spec.artifact_url = "/a b".into(), |o| o.spec.artifact_url = "/a\u{85}b".into()],
    },
    Case {
        rule: ARTIFACT_SCHEME,
        paths: ("spec.artifactURL", "spec.artifactURL"),
        accepts: |o| o.spec.artifact_url = "s3://bucket/prefix/".into(),
        rejects: &[
            |o| o.spec.artifact_url = "ftp://host/a.tar".into(),
            |o| o.spec.artifact_url = "./adapters/sql".into(),
            |o| o.spec.artifact_url = "file://relative".into(),
            |o| o.spec.artifact_url = "s3:///prefix".into(),
            |o| o.spec.artifact_url = "//".into(),
            |o| o.spec.artifact_url = "S3://bucket".into(),
        ],
    },
    Case {
        rule: ARTIFACT_HUGGINGFACE,
        paths: ("spec.artifactURL", "spec.artifactURL"),
        accepts: |o| o.spec.artifact_url = "hf://ai-blond/Qwen-Qwen2.5-Coder-1.5B-Instruct-lora@refs/pr/1".into(),
        rejects: &[
            |o| o.spec.artifact_url = "huggingface://repo".into(),
            |o| o.spec.artifact_url = "hf://org/repo@".into(),
            |o| o.spec.artifact_url = "hf://org/re?po".into(),
        ],
    },
    Case {
        rule: ARTIFACT_ARCHIVE,
        paths: ("spec.artifactURL", "spec.artifactURL"),
        accepts: |o| o.spec.artifact_url = "https://example.com/a.tar.gz?X-Amz-Signature=x".into(),
        rejects: &[
            |o| o.spec.artifact_url = "https://example.com/a".into(),
            |o| o.spec.artifact_url = "http://example.com/a?x=.tar.gz".into(),
        ],
    },
    Case {
        rule: POLICY,
        paths: ("spec.schedulerName", "spec.schedulerName"),
        accepts: |o| o.spec.scheduler_name = "least-adapters".into(),
        rejects: &[|o| o.spec.scheduler_name = String::new(), |o| o.spec.scheduler_name = "Least_Adapters".into()],
    },
    Case {
        rule: REPLICAS,
        paths: ("spec.replicas", "spec.replicas"),
        accepts: |o| o.spec.replicas = Some(0),
        rejects: &[|o| o.spec.replicas = Some(-1)],
    },
    Case {
        rule: SECRET_NAME,
        paths: ("spec.credentialsSecretRef.name", "spec.credentialsSecretRef.name"),
        accepts: |o| o.spec.credentials_secret_ref = Some(SecretRef { name: "my.secret-1".into() }),
        rejects: &[
            |o| o.spec.credentials_secret_ref = Some(SecretRef { name: String::new() }),
            |o| o.spec.credentials_secret_ref = Some(SecretRef { name: "other/secret".into() }),
        ],
    },
    Case {
        rule: SECRET_NAME,
        paths: ("spec.engineApiKeySecretRef.name", "spec.engineApiKeySecretRef.name"),
        accepts: |o| key_ref(o, "engine", "api-key"),
        rejects: &[|o| key_ref(o, "Engine", "api-key")],
    },
    Case {
        rule: SECRET_KEY,
        paths: ("spec.engineApiKeySecretRef.key", "spec.engineApiKeySecretRef.key"),
        accepts: |o| key_ref(o, "engine", "API_KEY.1"),
        rejects: &[|o| key_ref(o, "engine", ""), |o| key_ref(o, "engine", "a/b")],
    },
    Case {
        rule: API_KEY,
        paths: ("spec.additionalConfig", "spec.additionalConfig[api-key]"),
        accepts: |o| api_key(o, "sk-123"),
        rejects: &[|o| api_key(o, ""), |o| api_key(o, "sk\n123")],
    },
    Case {
        rule: ONE_KEY,
        paths: ("spec", "spec.engineApiKeySecretRef"),
        accepts: |o| {
            key_ref(o, "engine", "api-key");
            o.spec.additional_config = Some(BTreeMap::from([("other".into(), "x".into())]));
        },
        rejects: &[|o| {
            key_ref(o, "engine", "api-key");
            api_key(o, "sk-123");
        }],
    },
    Case {
        rule: DIGEST,
        paths: ("spec.artifactDigest", "spec.artifactDigest"),
        accepts: |o| o.spec.artifact_digest = Some(format!("sha256:{}", "0a".repeat(32))),
        rejects: &[
            |o| o.spec.artifact_digest = Some("0a".repeat(32)),
            |o| o.spec.artifact_digest = Some(format!("sha256:{}", "0A".repeat(32))),
            |o| o.spec.artifact_digest = Some("sha256:0a".into()),
        ],
    },
    Case {
        rule: MAX_UNAVAILABLE,
        paths: ("spec.updateStrategy.maxUnavailable", "spec.updateStrategy.maxUnavailable"),
        accepts: |o| {
            o.spec.update_strategy = Some(UpdateStrategySpec { max_unavailable: Some(1), drain_seconds: None })
        },
        rejects: &[|o| {
            o.spec.update_strategy = Some(UpdateStrategySpec { max_unavailable: Some(0), drain_seconds: None });
        }],
    },
    Case {
        rule: DRAIN,
        paths: ("spec.updateStrategy.drainSeconds", "spec.updateStrategy.drainSeconds"),
        accepts: |o| {
            o.spec.update_strategy = Some(UpdateStrategySpec { max_unavailable: None, drain_seconds: Some(3600) })
        },
        rejects: &[
            |o| o.spec.update_strategy = Some(UpdateStrategySpec { max_unavailable: None, drain_seconds: Some(3601) }),
            |o| o.spec.update_strategy = Some(UpdateStrategySpec { max_unavailable: None, drain_seconds: Some(-1) }),
        ],
    },
];

fn cel(object: &ModelAdapter) -> Vec<(String, String)> {
    let errors = object.validate_cel().err().map(|errors| errors.into_vec()).unwrap_or_default();
    errors.into_iter().map(|error| (error.field_path, error.message)).collect()
}

fn lowered(object: &ModelAdapter) -> Vec<(String, String)> {
    let broken = violations(object, RelativePaths::Refused);
    broken.into_iter().map(|violation| (violation.field, violation.message)).collect()
}

#[test]
fn an_api_server_and_lower_accept_what_each_rule_allows() {
    assert_eq!((cel(&good()), lowered(&good())), (vec![], vec![]));
    for case in CASES {
        let mut object = good();
        (case.accepts)(&mut object);
        assert_eq!((cel(&object), lowered(&object)), (vec![], vec![]), "{}", case.rule.expression);
    }
}

#[test]
fn an_api_server_and_lower_refuse_what_breaks_a_rule_in_the_same_words() {
    for case in CASES {
        for (index, reject) in case.rejects.iter().enumerate() {
            let mut object = good();
            reject(&mut object);
            let said = |path: &str| vec![(path.to_owned(), case.rule.message.to_owned())];
            let which = format!("{} #{index}", case.rule.expression);
            assert_eq!(cel(&object), said(case.paths.0), "{which}");
            assert_eq!(lowered(&object), said(case.paths.1), "{which}");
        }
    }
}

#[test]
fn every_rule_of_the_resource_is_among_the_cases() {
    fn collect(value: &Value, rules: &mut Vec<String>) {
        match value {
            Value::Object(map) => {
                let here = map.get("x-kubernetes-validations").and_then(Value::as_array).into_iter().flatten();
                rules.extend(here.map(|rule| rule["rule"].as_str().unwrap().to_owned()));
                map.values().for_each(|inner| collect(inner, rules));
            }
            Value::Array(list) => list.iter().for_each(|inner| collect(inner, rules)),
            _ => {}
        }
    }
    let mut rules = Vec::new();
    collect(&serde_json::to_value(crd()).unwrap(), &mut rules);
    assert!(!rules.is_empty());
    for rule in &rules {
        assert!(CASES.iter().any(|case| case.rule.expression == rule), "{rule}");
    }
    assert_eq!(rules.len(), CASES.len(), "each rule stands where its cases look for it");
}

#[test]
fn every_text_list_and_map_of_the_spec_is_bounded() {
    fn unbounded(schema: &Value, path: &str, found: &mut Vec<String>) {
        let bound = match schema["type"].as_str() {
            Some("string") if schema["enum"].is_null() => "maxLength",
            Some("array") => "maxItems",
            Some("object") if schema["additionalProperties"].is_object() => "maxProperties",
            _ => "type",
        };
        if schema[bound].is_null() {
            found.push(path.to_owned());
        }
        for (name, inner) in schema["properties"].as_object().into_iter().flatten() {
            unbounded(inner, &format!("{path}.{name}"), found);
        }
        for inner in ["items", "additionalProperties"] {
            if schema[inner].is_object() {
                unbounded(&schema[inner], &format!("{path}[]"), found);
            }
        }
    }
    let schema = schema();
    let mut found = Vec::new();
    unbounded(&schema["properties"]["spec"], "spec", &mut found);
    assert_eq!(found, [""; 0]);
}

fn schema() -> Value {
    let crd = serde_json::to_value(crd()).unwrap();
    crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone()
}

#[test]
fn no_field_is_nullable_so_the_api_server_drops_a_null() {
    let mut schema = schema();
    // kube writes this one, and no manifest has a status.
    assert_eq!(schema["properties"]["status"]["nullable"].take(), json!(true));
    let text = schema.to_string();
    assert!(!text.contains("\"nullable\":true") && !text.contains("anyOf"), "{text}");
}

/// An API server does not look at `format`: a number that is larger than it would make the object unreadable for us.
#[test]
fn every_number_that_an_api_server_takes_can_be_read() {
    fn look(path: &str, schema: &serde_json::Value, seen: &mut Vec<String>) {
        if schema["type"] == "integer" {
            assert_eq!(schema["format"], "int32", "{path}");
            let rules = schema["x-kubernetes-validations"].to_string();
            for (bound, rule) in [("minimum", "self >= "), ("maximum", "self <= ")] {
                assert!(schema[bound].is_number() || rules.contains(rule), "{path} has no {bound}");
            }
            seen.push(path.to_owned());
        }
        for (name, field) in schema["properties"].as_object().into_iter().flatten() {
            look(&format!("{path}.{name}"), field, seen);
        }
    }
    let mut seen = Vec::new();
    look("spec", &schema()["properties"]["spec"], &mut seen);
    seen.sort();
    let strategy = ["spec.updateStrategy.drainSeconds", "spec.updateStrategy.maxUnavailable"];
    assert_eq!(seen, [&["spec.priority", "spec.replicas"][..], &strategy].concat());
}

#[test]
fn only_what_has_no_default_is_required() {
    let schema = schema();
    assert_eq!(schema["required"], json!(["spec"]));
    assert_eq!(schema["properties"]["spec"]["required"], json!(["artifactURL", "podSelector"]));
}

#[test]
fn an_object_is_written_without_what_it_does_not_say() {
    let mut object = good();
    object.metadata.name = Some("sql".into());
    assert_eq!(
        serde_json::to_value(&object).unwrap(),
        json!({
            "apiVersion": "model.aibrix.ai/v1alpha1",
            "kind": "ModelAdapter",
            "metadata": {"name": "sql"},
            "spec": {
                "podSelector": {"matchLabels": {"model.aibrix.ai/name": "qwen"}},
                "artifactURL": "huggingface://org/repo",
                "schedulerName": "default",
            },
        })
    );
}

#[test]
fn a_manifest_of_aibrix_with_nulls_and_unknown_status_reads() {
    let object: ModelAdapter = serde_json::from_value(json!({
        "apiVersion": "model.aibrix.ai/v1alpha1",
        "kind": "ModelAdapter",
        "metadata": {"name": "x", "creationTimestamp": null},
        "spec": {
            "baseModel": "qwen-coder-1-5b-instruct",
            "podSelector": {"matchLabels": {"model.aibrix.ai/name": "qwen"}},
            "artifactURL": "/models/yard1/llama-2-7b-sql-lora-test",
            "additionalConfig": {"api-key": "sk-1"},
            "credentialsSecretRef": null,
            "replicas": null,
        },
        "status": {"phase": "Unknown", "instances": ["a"]},
    }))
    .unwrap();
    assert_eq!(object.spec.scheduler_name, "default");
    assert_eq!((cel(&object), lowered(&object)), (vec![], vec![]));
}

#[test]
fn an_api_server_accepts_every_sample() {
    let samples = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../samples/adapter");
    let mut adapters = 0;
    for entry in std::fs::read_dir(samples).unwrap() {
        let path = entry.unwrap().path();
        for manifest in parse("sample", &std::fs::read_to_string(&path).unwrap()) {
            if let Manifest::Adapter(document) = manifest.unwrap() {
                assert_eq!(cel(&document.object), vec![], "{}", path.display());
                adapters += 1;
            }
        }
    }
    assert_eq!(adapters, 7);
}

#[test]
fn i8_an_api_server_is_given_no_rule_that_makes_it_quote_a_secret() {
    let spec = &schema()["properties"]["spec"]["properties"];
    let quoted = [&spec["artifactURL"], &spec["additionalConfig"]["additionalProperties"]];
    for schema in quoted {
        assert_eq!(schema["type"], "string");
        for quoting in ["x-kubernetes-validations", "pattern", "format", "enum"] {
            assert!(schema[quoting].is_null(), "{schema}");
        }
    }
}

#[test]
fn i8_neither_the_api_key_nor_a_signature_is_shown_by_debug() {
    let mut object = good();
    api_key(&mut object, "hunter2");
    object.spec.artifact_url = "https://user:pass@example.com/a.tgz?sig=abc".into();
    let shown = format!("{object:?}");
    assert!(shown.contains("https://example.com/a.tgz") && shown.contains("api-key"), "{shown}");
    for secret in ["hunter2", "pass", "sig=abc"] {
        assert!(!shown.contains(secret), "{shown}");
    }
}

#[test]
fn the_definition_is_as_it_was() {
    insta::assert_yaml_snapshot!(crd());
}
