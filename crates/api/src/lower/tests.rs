use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement, Time};
use longshore_types::{Scheme, Secret};
use proptest::prelude::*;

use super::*;
use crate::spec::{EngineKey, Operator};
use crate::{ModelAdapterSpec, SecretKeyRef, SecretRef, UpdateStrategySpec};

fn object(url: &str) -> ModelAdapter {
    let selector = LabelSelector {
        match_labels: Some(BTreeMap::from([("model.aibrix.ai/name".into(), "qwen".into())])),
        match_expressions: None,
    };
    ModelAdapter::new("sql-lora", ModelAdapterSpec::new(selector, url))
}

fn one(object: &ModelAdapter) -> AdapterSpec {
    let mut specs = lower(object, RelativePaths::Refused).unwrap();
    assert_eq!(specs.len(), 1);
    specs.remove(0)
}

fn fields(object: &ModelAdapter) -> Vec<String> {
    violations(object, RelativePaths::Refused).into_iter().map(|broken| broken.field).collect()
}

#[test]
fn the_smallest_object_gets_every_default() {
    let spec = one(&object("hf://org/repo"));
    assert_eq!(spec.key.to_string(), "default/sql-lora");
    assert_eq!(spec.key.object.to_string(), "default/sql-lora");
    assert_eq!((spec.generation, spec.created, spec.priority), (1, Timestamp::ZERO, 0));
    assert_eq!(
        (spec.replicas, spec.preemption, spec.policy.as_str()),
        (Replicas::All, Preemption::LowerPriority, "default")
    );
    assert_eq!((spec.base_model, spec.pinned, spec.memory), (None, None, None));
    assert_eq!((spec.source_credentials, spec.engine_key, spec.adopt), (None, None, false));
    assert_eq!((spec.update.max_unavailable, spec.update.drain), (1, None));
    assert!(warnings(&object("hf://org/repo")).is_empty());
}

#[test]
fn every_field_is_carried_over() {
    let mut full = object("s3://bucket/prefix/");
    full.metadata.namespace = Some("team-a".into());
    full.metadata.generation = Some(7);
    full.metadata.creation_timestamp = Some(Time("2025-02-16T19:14:50Z".parse().unwrap()));
    full.metadata.annotations = Some(BTreeMap::from([(labels::ADOPT.into(), "true".into())]));
    full.spec.base_model = Some("org/base".into());
    full.spec.pod_selector.match_expressions = Some(vec![LabelSelectorRequirement {
        key: "tier".into(),
        operator: "NotIn".into(),
        values: Some(vec!["b".into(), "a".into(), "b".into()]),
    }]);
    full.spec.scheduler_name = "least-adapters".into();
    full.spec.replicas = Some(2);
    full.spec.credentials_secret_ref = Some(SecretRef { name: "s3".into() });
    full.spec.engine_api_key_secret_ref = Some(SecretKeyRef { name: "engine".into(), key: "api-key".into() });
    full.spec.artifact_digest = Some(format!("sha256:{}", "ab".repeat(32)));
    full.spec.priority = Some(-5);
    full.spec.preemption_policy = Some(PreemptionPolicy::Never);
    full.spec.update_strategy = Some(UpdateStrategySpec { max_unavailable: Some(3), drain_seconds: Some(0) });

    let spec = one(&full);
    assert_eq!(spec.key.to_string(), "team-a/sql-lora");
    assert_eq!((spec.generation, spec.created.to_string().as_str()), (7, "2025-02-16T19:14:50Z"));
    assert_eq!(spec.base_model.unwrap().as_str(), "org/base");
    assert_eq!(spec.selector.match_labels["model.aibrix.ai/name"], "qwen");
    let Operator::NotIn(values) = &spec.selector.match_expressions[0].operator else { panic!("{:?}", spec.selector) };
    assert!(values.iter().eq(["a", "b"]));
    assert_eq!((spec.artifact.scheme(), spec.artifact.as_written()), (Scheme::S3, "s3://bucket/prefix/"));
    assert_eq!(spec.pinned.unwrap().short(), "abababababab");
    assert_eq!((spec.replicas, spec.policy.as_str(), spec.priority), (Replicas::Count(2), "least-adapters", -5));
    assert_eq!((spec.preemption, spec.adopt), (Preemption::Never, true));
    assert_eq!(spec.source_credentials.as_deref(), Some("s3"));
    assert_eq!(spec.engine_key, Some(EngineKey::Secret { name: "engine".into(), key: "api-key".into() }));
    assert_eq!((spec.update.max_unavailable, spec.update.drain), (3, Some(Duration::ZERO)));
}

#[test]
fn adopting_takes_exactly_the_word_true() {
    for (value, adopts) in [("true", true), ("True", false), ("1", false), ("", false)] {
        let mut object = object("hf://org/repo");
        object.metadata.annotations = Some(BTreeMap::from([(labels::ADOPT.into(), value.into())]));
        assert_eq!(one(&object).adopt, adopts, "{value}");
    }
}

#[test]
fn an_api_key_in_the_clear_works_and_warns() {
    let mut object = object("hf://org/repo");
    object.spec.additional_config =
        Some(BTreeMap::from([("api-key".into(), "sk-1".into()), ("apikey".into(), "sk-2".into())]));
    assert_eq!(one(&object).engine_key, Some(EngineKey::Inline(Secret::new("sk-1"))));
    let warnings = warnings(&object);
    let reasons: Vec<_> = warnings.iter().map(|(reason, _)| *reason).collect();
    assert_eq!(reasons, [INSECURE_API_KEY, UNKNOWN_CONFIG]);
    assert!(warnings[0].1.contains("spec.engineApiKeySecretRef") && warnings[1].1.contains("`apikey`"));
}

#[test]
fn a_relative_path_is_resolved_only_where_there_is_a_directory() {
    let object = object("./adapters/sql");
    let fault = lower(&object, RelativePaths::Refused).unwrap_err();
    assert!(fault.message.contains("spec.artifactURL: ") && fault.message.contains("relative paths only"), "{fault}");
    let spec = lower(&object, RelativePaths::From(Path::new("/srv/m"))).unwrap().remove(0);
    assert_eq!((spec.artifact.scheme(), spec.artifact.as_written()), (Scheme::File, "/srv/m/adapters/sql"));
}

#[test]
fn a_home_directory_is_not_guessed() {
    let broken = violations(&object("~/sql"), RelativePaths::From(Path::new("/srv")));
    assert!(broken[0].message.contains("write the absolute path"), "{broken:?}");
}

#[test]
fn everything_wrong_is_named_at_once() {
    let mut object = object("ftp://x/y");
    object.metadata.name = Some("Sql".into());
    object.metadata.namespace = Some("Team".into());
    object.spec.pod_selector = LabelSelector::default();
    object.spec.replicas = Some(-1);
    assert_eq!(
        fields(&object),
        ["metadata.name", "metadata.namespace", "spec.podSelector", "spec.artifactURL", "spec.replicas"]
    );
    let fault = lower(&object, RelativePaths::Refused).unwrap_err();
    assert_eq!((fault.scope, fault.reason), (Scope::Artifact, INVALID_SPEC));
    assert!(!fault.is_transient());
    assert!(fault.message.starts_with("metadata.name: "), "{fault}");
}

#[test]
fn what_only_the_schema_bounds_on_a_cluster_is_refused_too() {
    let long = |n: usize| "x".repeat(n);
    let label = |key: &str, value: &str| Some(BTreeMap::from([(key.to_owned(), value.to_owned())]));
    let requirement = |operator: &str, values: Vec<String>| {
        Some(vec![LabelSelectorRequirement { key: "tier".into(), operator: operator.into(), values: Some(values) }])
    };
    let many = || (0..33).map(|i| (format!("k{i}"), "v".to_owned())).collect::<BTreeMap<_, _>>();
    type Change<'a> = Box<dyn Fn(&mut ModelAdapterSpec) + 'a>;
    let cases: Vec<(&str, Change<'_>)> = vec![
        ("spec.baseModel", Box::new(|s| s.base_model = Some(long(257)))),
        ("spec.artifactURL", Box::new(|s| s.artifact_url = format!("/{}", long(2048)))),
        ("spec.schedulerName", Box::new(|s| s.scheduler_name = long(64))),
        ("spec.additionalConfig", Box::new(|s| s.additional_config = Some(many()))),
        ("spec.additionalConfig[k]", Box::new(|s| s.additional_config = label("k", &long(4097)))),
        (
            "spec.credentialsSecretRef.name",
            Box::new(|s| s.credentials_secret_ref = Some(SecretRef { name: long(254) })),
        ),
        ("spec.podSelector.matchLabels", Box::new(|s| s.pod_selector.match_labels = Some(many()))),
        ("spec.podSelector.matchLabels[a b]", Box::new(|s| s.pod_selector.match_labels = label("a b", "v"))),
        ("spec.podSelector.matchLabels[a]", Box::new(|s| s.pod_selector.match_labels = label("a", &long(64)))),
        (
            "spec.podSelector.matchExpressions[0].operator",
            Box::new(|s| s.pod_selector.match_expressions = requirement("Equals", vec!["a".into()])),
        ),
        (
            "spec.podSelector.matchExpressions[0].values",
            Box::new(|s| s.pod_selector.match_expressions = requirement("In", vec!["a".into(); 65])),
        ),
        (
            "spec.podSelector.matchExpressions[0].values",
            Box::new(|s| s.pod_selector.match_expressions = requirement("In", vec!["a b".into()])),
        ),
    ];
    for (field, change) in cases {
        let mut object = object("hf://org/repo");
        change(&mut object.spec);
        assert_eq!(fields(&object), [field]);
    }
}

#[test]
fn an_object_without_a_usable_name_has_no_key() {
    let mut object = object("hf://org/repo");
    object.spec.replicas = Some(-1);
    assert_eq!(object_key(&object).unwrap().to_string(), "default/sql-lora");
    object.metadata.name = None;
    assert_eq!(object_key(&object).unwrap_err().message, "metadata.name: missing");
}

#[test]
fn i8_no_fault_repeats_a_secret() {
    for url in ["ftp://user:hunter2@host/x", "https://user:hunter2@host/x", "hf://hunter2", "~hunter2", "hunter2\n"] {
        let mut object = object(url);
        object.spec.additional_config = Some(BTreeMap::from([("api-key".into(), "hunter2 ".into())]));
        let fault = lower(&object, RelativePaths::Refused).unwrap_err();
        assert!(!format!("{fault:?} {:?}", warnings(&object)).contains("hunter2"), "{fault}");
    }
}

proptest! {
    #[test]
    fn lowering_never_panics_and_always_says_the_same(
        name in "\\PC{0,70}", url in "(hf://|s3://|/|\\./|https://|x)?\\PC{0,40}", replicas in any::<Option<i32>>(),
    ) {
        let mut object = object(&url);
        object.metadata.name = Some(name);
        object.spec.replicas = replicas;
        let from = RelativePaths::From(Path::new("/srv"));
        let lowered = lower(&object, from);
        prop_assert_eq!(&lowered, &lower(&object, from));
        prop_assert_eq!(lowered.is_ok(), violations(&object, from).is_empty());
    }
}
