//! Every sample that the documents name is there, is a good manifest, and becomes what it says.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use longshore_api::manifest::{Manifest, parse};
use longshore_api::spec::{AdapterSpec, EngineKey, Replicas};
use longshore_api::{INSECURE_API_KEY, RelativePaths, lower, warnings};
use longshore_types::Scheme;

/// `samples/` of the repository.
fn samples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../samples").canonicalize().expect("samples/ stands beside crates/")
}

fn read(file: &Path) -> Vec<Manifest> {
    let shown = file.display().to_string();
    let text = fs::read_to_string(file).expect(&shown);
    parse(&shown, &text).into_iter().map(Result::unwrap).collect()
}

/// The adapters of a sample, and the kinds of everything else in it.
fn sample(name: &str, relative: bool) -> (Vec<(AdapterSpec, Vec<&'static str>)>, Vec<String>) {
    let file = samples().join(name);
    let directory = file.parent().expect("a sample lies in a directory");
    let (mut adapters, mut skipped) = (Vec::new(), Vec::new());
    for manifest in read(&file) {
        match manifest {
            Manifest::Adapter(document) => {
                let from = if relative { RelativePaths::From(directory) } else { RelativePaths::Refused };
                let lowered = lower(&document.object, from).expect(name);
                let reasons: Vec<_> = warnings(&document.object).into_iter().map(|(reason, _)| reason).collect();
                adapters.extend(lowered.into_iter().map(|spec| (spec, reasons.clone())));
            }
            Manifest::Secret(_) => skipped.push("Secret".to_owned()),
            Manifest::Skipped { kind, .. } => skipped.push(kind),
        }
    }
    (adapters, skipped)
}

/// The one adapter of a sample, which has no warnings.
fn adapter(name: &str, relative: bool) -> AdapterSpec {
    let (mut adapters, _) = sample(name, relative);
    assert_eq!(adapters.len(), 1, "{name}");
    let (spec, reasons) = adapters.remove(0);
    assert!(reasons.is_empty(), "{name}: {reasons:?}");
    spec
}

#[test]
fn exactly_the_samples_that_the_documents_name_are_there() {
    let names = |directory: &str| -> BTreeSet<String> {
        let entries = fs::read_dir(samples().join(directory)).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.ends_with(".yaml")).collect()
    };
    let expected = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
    assert_eq!(
        names("adapter"),
        expected(&[
            "adapter-api-key.yaml",
            "adapter-llama2.yaml",
            "adapter-multi-replica.yaml",
            "adapter-reliability-demo.yaml",
            "adapter-s3-example.yaml",
            "adapter-with-key.yaml",
            "adapter.yaml",
            "base-api-key.yaml",
            "base-without-runtime.yaml",
            "base.yaml",
        ])
    );
    assert_eq!(names("standalone"), expected(&["legal.yaml", "sql.yaml", "support.yaml"]));
    let readme = fs::read_to_string(samples().join("README.md")).unwrap();
    for name in names("adapter").union(&names("standalone")) {
        assert!(readme.contains(&format!("`{name}`")), "README.md does not explain {name}");
    }
}

#[test]
fn base_models_are_passed_over() {
    for (name, kinds) in [
        ("adapter/base.yaml", vec!["Deployment", "Service"]),
        ("adapter/base-without-runtime.yaml", vec!["Deployment", "Service"]),
        ("adapter/base-api-key.yaml", vec!["Secret", "Deployment", "Service"]),
    ] {
        let (adapters, skipped) = sample(name, false);
        assert!(adapters.is_empty(), "{name}");
        assert_eq!(skipped, kinds, "{name}");
    }
}

#[test]
fn adapters_for_a_cluster_become_what_they_say() {
    for (name, key, replicas, policy, scheme) in [
        ("adapter", "default/qwen-code-lora", Replicas::All, "default", Scheme::HuggingFace),
        ("adapter-llama2", "aibrix-system/llama-2-7b-sql-lora-test", Replicas::All, "default", Scheme::HuggingFace),
        ("adapter-with-key", "default/qwen-code-lora-with-key", Replicas::All, "default", Scheme::HuggingFace),
        (
            "adapter-multi-replica",
            "default/multi-replica-lora",
            Replicas::Count(2),
            "least-adapters",
            Scheme::HuggingFace,
        ),
        (
            "adapter-reliability-demo",
            "default/reliability-demo-lora",
            Replicas::Count(1),
            "default",
            Scheme::HuggingFace,
        ),
        ("adapter-s3-example", "default/s3-lora", Replicas::All, "default", Scheme::S3),
    ] {
        let spec = adapter(&format!("adapter/{name}.yaml"), false);
        assert_eq!(spec.key.to_string(), key);
        assert_eq!((spec.replicas, spec.policy.as_str(), spec.artifact.scheme()), (replicas, policy, scheme), "{name}");
    }
}

#[test]
fn the_two_samples_with_keys_show_both_forms() {
    let named = adapter("adapter/adapter-with-key.yaml", false);
    assert_eq!(named.engine_key, Some(EngineKey::Secret { name: "qwen-coder-api-key".into(), key: "api-key".into() }));
    let (adapters, _) = sample("adapter/adapter-api-key.yaml", false);
    let (inline, reasons) = adapters.first().expect("one adapter");
    assert!(matches!(inline.engine_key, Some(EngineKey::Inline(_))));
    assert_eq!(reasons, &[INSECURE_API_KEY]);
    assert_eq!(inline.key, named.key);
}

#[test]
fn standalone_adapters_lie_beside_their_manifests() {
    for (file, name, replicas) in [
        ("sql", "sql-lora", Replicas::Count(2)),
        ("support", "support-lora", Replicas::Count(1)),
        ("legal", "legal-lora", Replicas::All),
    ] {
        let spec = adapter(&format!("standalone/{file}.yaml"), true);
        let path = samples().join("standalone/adapters").join(name);
        assert_eq!(spec.artifact.path(), path.to_str());
        assert_eq!((spec.key.name.as_str(), spec.replicas), (name, replicas));
        assert_eq!(spec.base_model.as_ref().map(|base| base.as_str()), Some("tiny-base"));
        assert_eq!(spec.selector.match_labels["model.aibrix.ai/name"], "tiny-base");
    }
    let ignored = fs::read_to_string(samples().join("standalone/.gitignore")).unwrap();
    assert!(ignored.lines().any(|line| line == "adapters/"), "made files stay out of the repository");
}
