//! Objects that are too large or too odd.

use longshore_kube_tests::scene::engines::{MODEL, adapter};
use longshore_kube_tests::{Options, inside, manifests};
use serde_json::{Value, json};

/// What is refused, what of it, and a part of the refusal.
fn refused() -> Vec<(&'static str, Value, &'static str)> {
    let labels = |count: usize| -> Value {
        (0..count).map(|number| (format!("label-{number}"), json!("x"))).collect::<serde_json::Map<_, _>>().into()
    };
    let expression = |values: usize| json!([{"key": "tier", "operator": "In", "values": vec!["x"; values]}]);
    vec![
        ("a huge URL", json!({"spec": {"artifactURL": format!("/{}", "x".repeat(1_000_000))}}), "artifactURL"),
        ("a URL with a line break", json!({"spec": {"artifactURL": "/models/a\n/models/b"}}), "control characters"),
        ("a base model of odd letters", json!({"spec": {"baseModel": "qwen\u{202e}\u{1f600}"}}), "printable ASCII"),
        ("ten thousand labels", json!({"spec": {"podSelector": {"matchLabels": labels(10_000)}}}), "at most 32 items"),
        (
            "ten thousand values",
            json!({"spec": {"podSelector": {"matchExpressions": expression(10_000)}}}),
            "at most 64 items",
        ),
        ("a huge setting", json!({"spec": {"additionalConfig": {"a": "x".repeat(100_000)}}}), "4096"),
        ("a huge policy", json!({"spec": {"schedulerName": "x".repeat(100_000)}}), "63"),
        ("too many replicas", json!({"spec": {"replicas": 3_000_000_000_u32}}), "replicas"),
        ("huge annotations", json!({"metadata": {"annotations": {"note": "x".repeat(300_000)}}}), "Too long"),
        (
            "more than a request may have",
            json!({"metadata": {"annotations": {"note": "x".repeat(4_000_000)}}}),
            "too large",
        ),
    ]
}

fn merge(into: &mut Value, change: &Value) {
    match change {
        Value::Object(fields) => fields.iter().for_each(|(field, value)| merge(&mut into[field], value)),
        value => *into = value.clone(),
    }
}

#[test]
fn what_is_too_large_or_odd_is_refused_at_once_and_what_the_server_takes_does_no_harm() {
    inside(Options::default(), async |cluster| {
        cluster.install().await;
        let engine = cluster.engine("default", "engine-0").await;
        let path = cluster.artifact("good", 1);
        for (what, change, says) in refused() {
            let mut object = manifests::adapter("default", "odd", MODEL, &path);
            merge(&mut object, &change);
            let said = cluster.kubectl_with(&["create", "-f", "-"], &object.to_string()).await.expect_failure();
            assert!(said.contains(says), "{what}: {}", said.chars().take(1000).collect::<String>());
        }

        // As large and as odd as it may be.
        let mut object = manifests::adapter("default", "odd", MODEL, &path);
        let odd = "\u{202e}\u{0}\u{7}\u{1f600}\r\n\"'{}$(id)`<script>".replace('\u{0}', "");
        merge(
            &mut object,
            &json!({
                "metadata": {"annotations": {"note": odd.repeat(5_000), "more": "x".repeat(100_000)}},
                "spec": {"additionalConfig": {odd.clone(): odd.repeat(100)}},
            }),
        );
        cluster.kubectl_with(&["create", "-f", "-"], &object.to_string()).await.expect_success();
        cluster.apply(&adapter("default", "good", &path, None)).await;
        for name in ["odd", "good"] {
            cluster.condition("default", name, "Ready").await;
        }
        cluster.kubectl(&["delete", "modeladapters", "--all", "--timeout=60s"]).await.expect_success();
        assert!(engine.held().await.is_empty());
        let restarts = cluster
            .kubectl(&[
                "get",
                "pods",
                "--namespace",
                "longshore-system",
                "--output",
                "jsonpath={.items[*].status.containerStatuses[*].restartCount}",
            ])
            .await
            .expect_success();
        assert_eq!(restarts, "0 0 0 0");
        let logs = cluster.controller_logs();
        assert!(logs.lines().all(|line| line.len() < 4096), "a log line is as long as an object");
        assert!(!logs.contains('\u{202e}') && !logs.contains('\u{7}'), "what an object says is not printed as it is");
    });
}
