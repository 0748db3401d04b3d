//! Objects that the server takes and that cannot be served as they stand.

use longshore_kube_tests::scene::SOON;
use longshore_kube_tests::scene::engines::MODEL;
use longshore_kube_tests::{Cluster, Options, inside, manifests};
use longshore_testkit::What;
use longshore_testkit::adapters::{AdapterRecipe, Flaw, write};
use serde_json::{Value, json};

/// What is wrong with an object, and what its owner is told.
struct Case {
    name: &'static str,
    /// Merged into the spec.
    spec: fn() -> Value,
    phase: &'static str,
    /// The reason of `Ready=False`.
    reason: &'static str,
    /// Parts of that condition's message: what is wrong, and what to do.
    says: &'static [&'static str],
    /// The reason of the event, a Warning, with the same parts.
    event: &'static str,
}

const CASES: &[Case] = &[
    Case {
        name: "matches-nothing",
        spec: || json!({"podSelector": {"matchLabels": {"model.aibrix.ai/name": "nobody"}}}),
        phase: "Pending",
        reason: "NoMatchingPods",
        says: &["no engine matches spec.podSelector", "compare its labels"],
        event: "NoMatchingPods",
    },
    Case {
        name: "unknown-policy",
        spec: || json!({"schedulerName": "best-effort"}),
        phase: "Pending",
        reason: "Unschedulable",
        says: &["best-effort", "default, least-adapters"],
        event: "Unschedulable",
    },
    Case {
        name: "another-base",
        spec: || json!({"baseModel": "llama-2-70b"}),
        phase: "Pending",
        reason: "Unschedulable",
        says: &["llama-2-70b"],
        event: "Unschedulable",
    },
    Case {
        name: "no-secret",
        spec: || json!({"engineApiKeySecretRef": {"name": "nowhere", "key": "token"}}),
        phase: "Failed",
        reason: "SecretNotFound",
        says: &["there is no Secret \"nowhere\" in namespace default", "create it"],
        event: "LoadFailed",
    },
    Case {
        name: "no-key-in-secret",
        spec: || json!({"engineApiKeySecretRef": {"name": "keys", "key": "token"}}),
        phase: "Failed",
        reason: "SecretKeyNotFound",
        says: &["\"keys\"", "\"token\""],
        event: "LoadFailed",
    },
    Case {
        name: "to-be-fetched",
        spec: || json!({"artifactURL": "s3://bucket/adapters/sql/"}),
        phase: "Failed",
        reason: "StoreNotShared",
        says: &["s3://bucket/adapters/sql/", "add the longshore-sidecar container", "emptyDir"],
        event: "LoadFailed",
    },
    Case {
        name: "pinned",
        spec: || json!({"artifactDigest": format!("sha256:{}", "0".repeat(64))}),
        phase: "Failed",
        reason: "Unverifiable",
        says: &["spec.artifactDigest cannot be checked", "take it out"],
        event: "LoadFailed",
    },
    Case {
        name: "no-such-path",
        spec: || json!({"artifactURL": "/models/nowhere"}),
        phase: "Failed",
        reason: "ArtifactNotFound",
        says: &["engine-", "finds no adapter at that path among its own files"],
        event: "LoadFailed",
    },
    Case {
        name: "no-such-repository",
        spec: || json!({"artifactURL": "huggingface://org/nowhere"}),
        phase: "Failed",
        reason: "ArtifactNotFound",
        says: &["org/nowhere"],
        event: "LoadFailed",
    },
    Case {
        name: "made-for-another",
        spec: || json!({"artifactURL": "huggingface://org/wrong-base"}),
        phase: "Failed",
        reason: "Incompatible",
        says: &["made for another base model"],
        event: "LoadFailed",
    },
    Case {
        name: MODEL,
        spec: || json!({}),
        phase: "Failed",
        reason: "NameTaken",
        says: &["base model", MODEL],
        event: "NameTaken",
    },
];

/// Where the same object is fine.
const GOOD: &str = "good";

fn object(name: &str, spec: &Value) -> Value {
    let mut object = manifests::adapter("default", name, MODEL, "huggingface://org/good");
    for (field, value) in spec.as_object().unwrap() {
        object["spec"][field] = value.clone();
    }
    object
}

async fn ready(cluster: &Cluster, name: &str) -> Result<(String, Value), String> {
    let status = cluster.status("default", name).await?;
    let conditions = status["conditions"].as_array().ok_or("no condition yet")?;
    let ready = conditions.iter().find(|condition| condition["type"] == "Ready").ok_or("not said yet")?;
    Ok((status["phase"].as_str().unwrap_or_default().to_owned(), ready.clone()))
}

#[test]
fn what_cannot_be_served_is_told_why_and_what_to_do_and_what_can_is_served() {
    inside(Options::default(), async |cluster| {
        cluster.install().await;
        cluster.hub_adapter("org/good", 1);
        let wrong = AdapterRecipe::seeded(1).with(Flaw::WrongBase);
        write(&cluster.hub().join("org/wrong-base"), &wrong).unwrap();
        cluster.kubectl(&["create", "secret", "generic", "keys", "--from-literal=other=x"]).await.expect_success();
        let engines = [cluster.engine("default", "engine-0").await, cluster.engine("default", "engine-1").await];

        let mut all: Vec<Value> = CASES.iter().map(|case| object(case.name, &(case.spec)())).collect();
        all.push(object(GOOD, &json!({})));
        cluster.apply(&all.iter().map(|object| format!("---\n{object}\n")).collect::<String>()).await;
        cluster.condition("default", GOOD, "Ready").await;

        for case in CASES {
            let name = case.name;
            cluster
                .wait_for(&format!("what is wrong with {name}"), SOON, async || {
                    let (phase, ready) = ready(&cluster, name).await?;
                    let message = ready["message"].as_str().unwrap_or_default();
                    let said = phase == case.phase && ready["status"] == "False" && ready["reason"] == case.reason;
                    let said = said && case.says.iter().all(|part| message.contains(part));
                    if said { Ok(()) } else { Err(format!("{phase}: {ready}")) }
                })
                .await;
            cluster
                .wait_for(&format!("an event about {name}"), SOON, async || {
                    let told = cluster.told("default", name).await;
                    let says = |note: &str| case.says.iter().all(|part| note.contains(part));
                    let said = told.iter().any(|it| it.warning && it.reason == case.event && says(&it.note));
                    if said { Ok(()) } else { Err(format!("{told:?}")) }
                })
                .await;
            let shown = cluster.kubectl(&["get", "modeladapter", name]).await.expect_success();
            assert!(shown.contains(case.reason), "{shown}");
        }

        // What no engine has is asked of each once, and not again and again; bad bytes are bad for the others too.
        for engine in &engines {
            let log = engine.control().log();
            let loads = log.iter().filter(|entry| entry.what == What::Load);
            let tried = |name: &str| loads.clone().filter(|entry| entry.name == name).count();
            for name in ["no-such-path", "no-such-repository"] {
                assert_eq!(tried(name), 1, "{name} on {}", engine.pod.name());
            }
            assert!(tried("made-for-another") <= 1, "{}", engine.pod.name());
            assert_eq!(engine.held().await, [GOOD]);
        }

        // Once it makes sense, it is served without more ado.
        for name in ["matches-nothing", "unknown-policy", "another-base", "to-be-fetched", "no-such-path"] {
            let good = json!({
                "baseModel": null,
                "schedulerName": null,
                "podSelector": {"matchLabels": {"model.aibrix.ai/name": MODEL}},
                "artifactURL": "huggingface://org/good",
            });
            let patch = json!({"spec": good}).to_string();
            cluster.kubectl(&["patch", "modeladapter", name, "--type=merge", "--patch", &patch]).await.expect_success();
            cluster.condition("default", name, "Ready").await;
        }
    });
}
