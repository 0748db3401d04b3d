//! The custom resource definition on a real API server: it is taken, and each of its rules lets pass and refuses what it
//! should, with its own message.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::collections::BTreeSet;
use std::time::Duration;

use futures::future::join_all;
use kube::Api;
use kube::api::PostParams;
use longshore_api::{ModelAdapter, crd};
use longshore_kube_tests::{Cluster, Options, inside};
use serde_json::{Value, json};

/// A rule by a part of its message, what it lets pass, and what breaks it. Each is merged into [`good`].
struct Case {
    message: &'static str,
    accepts: fn() -> Value,
    rejects: fn() -> Value,
}

fn good() -> Value {
    json!({
        "apiVersion": "model.aibrix.ai/v1alpha1",
        "kind": "ModelAdapter",
        "metadata": {"name": "good"},
        "spec": {
            "podSelector": {"matchLabels": {"model.aibrix.ai/name": "qwen"}},
            "artifactURL": "huggingface://org/repo",
        },
    })
}

fn spec(value: Value) -> Value {
    json!({ "spec": value })
}

fn expressions(operator: &str, values: &[&str]) -> Value {
    let requirement = json!({"key": "tier", "operator": operator, "values": values});
    spec(json!({"podSelector": {"matchLabels": null, "matchExpressions": [requirement]}}))
}

fn url(url: &str) -> Value {
    spec(json!({ "artifactURL": url }))
}

fn key_ref(name: &str, key: &str) -> Value {
    spec(json!({"engineApiKeySecretRef": {"name": name, "key": key}}))
}

const CASES: &[Case] = &[
    Case {
        message: "the name must be a DNS-1035 label",
        accepts: || json!({"metadata": {"name": "a".repeat(63)}}),
        rejects: || json!({"metadata": {"name": "1a"}}),
    },
    Case {
        message: "as the engine names its base model",
        accepts: || spec(json!({"baseModel": "meta-llama/Llama-2-70b-hf"})),
        rejects: || spec(json!({"baseModel": "a b"})),
    },
    Case {
        message: "it would take every pod of the namespace",
        accepts: || expressions("Exists", &[]),
        rejects: || spec(json!({"podSelector": {"matchLabels": null}})),
    },
    Case {
        message: "`Exists` and `DoesNotExist` take none",
        accepts: || expressions("NotIn", &["gold"]),
        rejects: || expressions("Exists", &["gold"]),
    },
    Case {
        message: "without spaces or control characters", accepts: || url("/модели/sql"), rejects: || url("/a b")
    },
    Case {
        message: "relative paths only in manifests read from files",
        accepts: || url("s3://bucket/prefix/"),
        rejects: || url("ftp://host/a.tar"),
    },
    Case {
        message: "a Hugging Face reference is",
        accepts: || url("hf://org/repo@refs/pr/1"),
        rejects: || url("huggingface://repo"),
    },
    Case {
        message: "names one archive",
        accepts: || url("https://example.com/a.tar.gz?X-Amz-Signature=x"),
        rejects: || url("https://example.com/a"),
    },
    Case {
        message: "must be the name of a placement policy",
        accepts: || spec(json!({"schedulerName": "least-adapters"})),
        rejects: || spec(json!({"schedulerName": "Least_Adapters"})),
    },
    Case {
        message: "leave it out for every engine that matches",
        accepts: || spec(json!({"replicas": 0})),
        rejects: || spec(json!({"replicas": -1})),
    },
    Case {
        message: "must be the name of a Secret in the same namespace",
        accepts: || spec(json!({"credentialsSecretRef": {"name": "my.secret-1"}})),
        rejects: || spec(json!({"credentialsSecretRef": {"name": "other/secret"}})),
    },
    Case {
        message: "must be the name of a Secret in the same namespace",
        accepts: || key_ref("engine", "api-key"),
        rejects: || key_ref("Engine", "api-key"),
    },
    Case {
        message: "must be a key of the Secret",
        accepts: || key_ref("engine", "API_KEY.1"),
        rejects: || key_ref("engine", "a/b"),
    },
    Case {
        message: "`api-key` must be printable ASCII",
        accepts: || spec(json!({"additionalConfig": {"api-key": "sk-123"}})),
        rejects: || spec(json!({"additionalConfig": {"api-key": "sk\n123"}})),
    },
    Case {
        message: "the engine's key is given twice",
        accepts: || {
            spec(json!({"engineApiKeySecretRef": {"name": "engine", "key": "k"}, "additionalConfig": {"other": "x"}}))
        },
        rejects: || {
            spec(json!({"engineApiKeySecretRef": {"name": "engine", "key": "k"}, "additionalConfig": {"api-key": "x"}}))
        },
    },
    Case {
        message: "must be `sha256:` and 64 lower-case hexadecimal digits",
        accepts: || spec(json!({"artifactDigest": format!("sha256:{}", "0a".repeat(32))})),
        rejects: || spec(json!({"artifactDigest": format!("sha256:{}", "0A".repeat(32))})),
    },
    Case {
        message: "an update has to begin somewhere",
        accepts: || spec(json!({"updateStrategy": {"maxUnavailable": 1}})),
        rejects: || spec(json!({"updateStrategy": {"maxUnavailable": 0}})),
    },
    Case {
        message: "must be 0 to 3600 seconds",
        accepts: || spec(json!({"updateStrategy": {"drainSeconds": 3600}})),
        rejects: || spec(json!({"updateStrategy": {"drainSeconds": 3601}})),
    },
];

/// RFC 7386.
fn merged(mut onto: Value, patch: &Value) -> Value {
    match (onto.as_object_mut(), patch.as_object()) {
        (Some(map), Some(changes)) => {
            for (key, change) in changes {
                if change.is_null() {
                    map.remove(key);
                } else {
                    let before = map.remove(key).unwrap_or(json!({}));
                    map.insert(key.clone(), merged(before, change));
                }
            }
            onto
        }
        _ => patch.clone(),
    }
}

/// Creates it without keeping it; the server's words where it refuses.
async fn try_to_create(cluster: &Cluster, namespace: &str, object: Value) -> Result<(), String> {
    let adapters: Api<ModelAdapter> = cluster.api(namespace);
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    // As text: an object of our own type could not be wrong in every way.
    let request =
        kube::core::Request::new(adapters.resource_url()).create(&dry, object.to_string().into_bytes()).unwrap();
    cluster.client().request::<Value>(request).await.map(drop).map_err(|error| error.to_string())
}

async fn with_definition(cluster: &Cluster) -> String {
    cluster.apply(&serde_json::to_string(&crd()).unwrap()).await;
    let established = ["wait", "--for=condition=Established", "crd/modeladapters.model.aibrix.ai", "--timeout=60s"];
    cluster.kubectl(&established).await.expect_success();
    let namespace = cluster.namespace("crd").await;
    cluster
        .wait_for("the resource", Duration::from_secs(60), async || try_to_create(cluster, &namespace, good()).await)
        .await;
    namespace
}

#[test]
fn the_server_takes_the_definition_and_holds_each_rule_in_its_own_words() {
    inside(Options { any_cluster: true, ..Options::default() }, async |cluster| {
        let namespace = with_definition(&cluster).await;
        join_all(CASES.iter().map(async |case| {
            let accepted = try_to_create(&cluster, &namespace, merged(good(), &(case.accepts)())).await;
            assert_eq!(accepted, Ok(()), "{}", case.message);
            let refused = try_to_create(&cluster, &namespace, merged(good(), &(case.rejects)())).await.unwrap_err();
            assert!(refused.contains(case.message), "{}: {refused}", case.message);
        }))
        .await;
        cluster.kubectl(&["delete", "namespace", &namespace]).await.expect_success();
    });
}

#[test]
fn what_is_too_long_is_refused_by_the_schema() {
    inside(Options { any_cluster: true, ..Options::default() }, async |cluster| {
        let namespace = with_definition(&cluster).await;
        let many: serde_json::Map<String, Value> = (0..33).map(|n| (format!("k{n}"), json!("v"))).collect();
        for (patch, says) in [
            (url(&format!("/{}", "a".repeat(2048))), "Too long"),
            (spec(json!({"podSelector": {"matchLabels": many}})), "Too many"),
            (spec(json!({"schedulerName": "a".repeat(64)})), "Too long"),
            (
                spec(json!({"podSelector": {"matchExpressions": [{"key": "k", "operator": "Near"}]}})),
                "Unsupported value",
            ),
            (spec(json!({"replicas": "two"})), "must be of type integer"),
        ] {
            let refused = try_to_create(&cluster, &namespace, merged(good(), &patch)).await.unwrap_err();
            assert!(refused.contains(says), "{says}: {refused}");
        }
        cluster.kubectl(&["delete", "namespace", &namespace]).await.expect_success();
    });
}

#[test]
fn every_rule_of_the_definition_is_among_the_cases() {
    fn collect(value: &Value, messages: &mut Vec<String>) {
        match value {
            Value::Object(map) => {
                let here = map.get("x-kubernetes-validations").and_then(Value::as_array).into_iter().flatten();
                messages.extend(here.map(|rule| rule["message"].as_str().unwrap().to_owned()));
                map.values().for_each(|inner| collect(inner, messages));
            }
            Value::Array(list) => list.iter().for_each(|inner| collect(inner, messages)),
            _ => {}
        }
    }
    let mut messages = Vec::new();
    collect(&serde_json::to_value(crd()).unwrap(), &mut messages);
    assert_eq!(messages.len(), CASES.len());
    let covered: BTreeSet<_> =
        messages.iter().filter(|said| CASES.iter().any(|case| said.contains(case.message))).collect();
    let all: BTreeSet<_> = messages.iter().collect();
    assert_eq!(covered, all);
}
