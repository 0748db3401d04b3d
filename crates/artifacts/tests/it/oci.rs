//! Registries of OCI artifacts.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use longshore_artifacts::{
    Artifacts, Credentials, Error, Fetched, Oci, OciOptions, Order, Origin, Reach, Source, Store,
};
use longshore_testkit::registry::{Faults, Guard, INDEX, Layer, MANIFEST, Registry};
use longshore_types::{ArtifactUrl, Secret};
use serde_json::json;

use crate::adapter::{Adapter, CONFIG, WEIGHTS};
use crate::sources::{World, behaves};

/// A registry, a store, and a source that reaches the one for the other.
pub struct Pair {
    pub registry: Registry,
    store: tempfile::TempDir,
    pub artifacts: Artifacts,
}

pub fn source(plain_http: &[String], reach: Reach) -> Oci {
    // Another test may have been first.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Oci::reaching(reach, OciOptions { plain_http: plain_http.iter().cloned().collect() }).unwrap()
}

pub async fn pair() -> Pair {
    let registry = Registry::start().await.unwrap();
    // Where blobs are redirected to is at a private address too.
    let reach = Reach { trusted: [registry.elsewhere()].into(), ..Reach::default() };
    let source = source(&[registry.authority()], reach);
    let store = tempfile::tempdir().unwrap();
    let artifacts = Artifacts::new(Store::open(store.path()).unwrap()).with_source(Arc::new(source));
    Pair { registry, store, artifacts }
}

pub fn layers(files: &[(String, Vec<u8>)]) -> Vec<Layer> {
    files.iter().map(|(name, bytes)| Layer::file(name, bytes.clone())).collect()
}

impl Pair {
    fn url(&self, rest: &str) -> ArtifactUrl {
        format!("oci://{}/{rest}", self.registry.authority()).parse().unwrap()
    }

    /// Puts an adapter under `repository:v1`. Returns the manifest's digest.
    pub fn push(&self, repository: &str, seed: u8) -> String {
        self.registry.push(repository, "v1", &layers(&Adapter::tiny(seed).files()))
    }

    pub async fn fetch(&self, rest: &str) -> Result<Fetched, Error> {
        self.artifacts.fetch(&self.url(rest), None).await
    }

    pub async fn fetch_as(&self, rest: &str, credentials: &[(&str, &str)]) -> Result<Fetched, Error> {
        let credentials = Credentials::new(credentials.iter().map(|(name, value)| (*name, Secret::new(value))));
        let mut order = Order::public(self.url(rest));
        order.origin = Origin { url: self.url(rest), credentials };
        self.artifacts.fulfil(&order).await
    }

    /// Whether the store holds nothing: no entry, and nothing on its way in.
    pub fn is_untouched(&self) -> bool {
        let below = |dir: &Path| fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect::<Vec<_>>();
        let sessions = below(&self.store.path().join(".staging")).into_iter().filter(|path| path.is_dir());
        let staged = sessions.flat_map(|session| below(&session)).filter(|path| path.is_dir()).count();
        self.artifacts.store().entries().unwrap().is_empty() && staged == 0
    }
}

/// Artifacts with a layer per file, one per repository.
struct Artifact {
    registry: Registry,
    files: Mutex<BTreeMap<String, BTreeMap<String, Vec<u8>>>>,
}

impl Artifact {
    async fn new(guard: Guard) -> Self {
        let registry = Registry::start().await.unwrap();
        registry.guard(guard);
        Self { registry, files: Mutex::default() }
    }

    fn change(&self, url: &ArtifactUrl, change: impl FnOnce(&mut BTreeMap<String, Vec<u8>>)) {
        let mut all = self.files.lock().unwrap();
        let files = all.entry(url.to_string()).or_default();
        change(files);
        let files: Vec<(String, Vec<u8>)> = files.clone().into_iter().collect();
        self.registry.push("org/lora", "v1", &layers(&files));
    }
}

impl World for Artifact {
    fn source(&self) -> Arc<dyn Source> {
        Arc::new(source(&[self.registry.authority()], Reach::default()))
    }
    fn put(&self, files: &[(String, Vec<u8>)]) -> ArtifactUrl {
        let url = format!("oci://{}/org/lora:v1", self.registry.authority()).parse().unwrap();
        self.change(&url, |all| all.extend(files.iter().cloned()));
        url
    }
    fn replace(&self, url: &ArtifactUrl, name: &str, bytes: &[u8]) {
        self.change(url, |all| {
            all.insert(name.into(), bytes.to_vec());
        });
    }
    fn remove(&self, url: &ArtifactUrl, name: &str) {
        self.change(url, |all| {
            all.remove(name);
        });
    }
    fn nothing(&self) -> ArtifactUrl {
        format!("oci://{}/org/none:v1", self.registry.authority()).parse().unwrap()
    }
}

#[tokio::test]
async fn artifacts_in_a_registry_behave() {
    behaves(&Artifact::new(Guard::Open).await).await;
}

#[tokio::test]
async fn artifacts_in_a_registry_that_gives_tokens_to_everybody_behave() {
    behaves(&Artifact::new(Guard::Token).await).await;
}

#[tokio::test]
async fn a_digest_decides_over_what_the_tag_has_become() {
    let pair = pair().await;
    let first = pair.push("lora", 1);
    let second = pair.push("lora", 2);
    let weights = |fetched: Fetched| fs::read(fetched.path.join(WEIGHTS)).unwrap();
    assert_eq!(weights(pair.fetch("lora:v1").await.unwrap()), Adapter::tiny(2).weights());
    for rest in [format!("lora@{first}"), format!("lora:v1@{first}"), format!("lora:gone@{first}")] {
        assert_eq!(weights(pair.fetch(&rest).await.unwrap()), Adapter::tiny(1).weights(), "{rest}");
    }
    assert_eq!(weights(pair.fetch(&format!("lora@{second}")).await.unwrap()), Adapter::tiny(2).weights());
}

#[tokio::test]
async fn what_is_in_the_store_is_not_read_again() {
    let pair = pair().await;
    pair.push("lora", 1);
    let fetched = pair.fetch("lora:v1").await.unwrap();
    pair.registry.clear_log();
    assert_eq!(pair.fetch("lora:v1").await.unwrap(), fetched);
    let requests: Vec<String> = pair.registry.log().into_iter().map(|seen| seen.method).collect();
    assert_eq!(requests, ["HEAD"]);
}

#[tokio::test]
async fn an_index_leads_to_its_one_adapter_and_is_refused_where_it_has_more() {
    let pair = pair().await;
    let registry = &pair.registry;
    let (one, two) = (pair.push("lora", 1), pair.push("lora", 2));
    let mut ours = registry.descriptor("lora", &one);
    let other = registry.descriptor("lora", &two);
    registry.push_index("lora", "one", &[ours.clone()]);
    let fetched = pair.fetch("lora:one").await.unwrap();
    registry.push_index("lora", "two", &[ours.clone(), other.clone()]);
    let ambiguous = pair.fetch("lora:two").await.unwrap_err();
    assert_eq!(ambiguous.reason(), "ManifestInvalid");
    assert!(ambiguous.to_string().contains(&one) && ambiguous.to_string().contains(&two), "{ambiguous}");
    ours["artifactType"] = json!("application/vnd.longshore.adapter.v1");
    registry.push_index("lora", "marked", &[other, ours]);
    assert_eq!(pair.fetch("lora:marked").await.unwrap(), fetched);
    let inner = registry.push_index("lora", "inner", &[registry.descriptor("lora", &one)]);
    registry.push_index("lora", "outer", &[registry.descriptor("lora", &inner)]);
    assert_eq!(pair.fetch("lora:outer").await.unwrap_err().reason(), "ManifestInvalid");
    // What the index says of a manifest is held against it.
    let mut gone = registry.descriptor("lora", &one);
    gone["digest"] = json!(format!("sha256:{}", "0".repeat(64)));
    registry.push_index("lora", "gone", &[gone]);
    assert_eq!(pair.fetch("lora:gone").await.unwrap_err().reason(), "ArtifactNotFound");
}

#[tokio::test]
async fn layers_of_the_model_specification_are_fetched() {
    let pair = pair().await;
    let layer = |(name, bytes): (String, Vec<u8>)| {
        let kind = if name == WEIGHTS { "weight" } else { "weight.config" };
        let media_type = format!("application/vnd.cncf.model.{kind}.v1.raw");
        Layer::archive(&media_type, bytes).with("org.cncf.model.filepath", &name)
    };
    let layers: Vec<Layer> = Adapter::tiny(1).files().into_iter().map(layer).collect();
    pair.registry.push("model", "v1", &layers);
    let fetched = pair.fetch("model:v1").await.unwrap();
    assert_eq!(fetched.verified.files.len(), 2);
}

#[tokio::test]
async fn a_manifest_that_makes_no_sense_is_refused_for_good_and_says_why() {
    let pair = pair().await;
    let twice = [Layer::file(CONFIG, "{}"), Layer::file(CONFIG, "{ }")];
    pair.registry.push("bad", "twice", &twice);
    let many: Vec<Layer> = (0..1001).map(|n| Layer::file(&format!("{n}"), "")).collect();
    pair.registry.push("bad", "many", &many);
    pair.registry.manifest("bad", Some("empty"), MANIFEST, "{}");
    pair.registry.manifest("bad", Some("both"), INDEX, r#"{"layers":[],"manifests":[]}"#);
    for (tag, problem) in [("twice", "two layers"), ("many", "1000"), ("empty", "neither"), ("both", "at once")] {
        let error = pair.fetch(&format!("bad:{tag}")).await.unwrap_err();
        assert_eq!((error.reason(), error.is_transient()), ("ManifestInvalid", false), "{tag}: {error}");
        assert!(error.to_string().contains(problem), "{tag}: {error}");
    }
    let foldered = [Layer::file("lora/adapter_config.json", "{}")];
    pair.registry.push("bad", "folder", &foldered);
    let error = pair.fetch("bad:folder").await.unwrap_err();
    assert_eq!(error.reason(), "ConfigMissing");
    assert!(error.to_string().contains("the folder lora"), "{error}");
    // Told by its size alone.
    let huge = json!({"schemaVersion": 2, "layers": [{"mediaType": "x", "size": u64::MAX,
        "digest": format!("sha256:{}", "0".repeat(64)), "annotations": {"org.opencontainers.image.title": WEIGHTS}}]});
    pair.registry.manifest("bad", Some("huge"), MANIFEST, huge.to_string());
    assert_eq!(pair.fetch("bad:huge").await.unwrap_err().reason(), "TooLarge");
    let long = format!("{}{{}}", " ".repeat(4 << 20));
    pair.registry.manifest("bad", Some("long"), MANIFEST, long);
    assert_eq!(pair.fetch("bad:long").await.unwrap_err().reason(), "ArtifactCorrupted");
    assert!(pair.is_untouched());
}

#[tokio::test]
async fn a_download_goes_on_where_the_connection_ended_even_where_the_token_has_expired_meanwhile() {
    for (guard, redirect) in [(Guard::Open, false), (Guard::Open, true), (Guard::Token, false), (Guard::Token, true)] {
        let pair = pair().await;
        pair.push("lora", 1);
        pair.registry.guard(guard);
        pair.registry.fail(|faults| {
            *faults = Faults { cut: Some(100), cuts: Some(3), expire_at_cut: true, redirect, ..Faults::default() };
        });
        let fetched = pair.fetch("lora:v1").await.unwrap();
        assert_eq!(fs::read(fetched.path.join(WEIGHTS)).unwrap(), Adapter::tiny(1).weights());
        let ranges: Vec<_> = pair.registry.log().into_iter().filter_map(|seen| seen.range).collect();
        assert!(ranges.iter().any(|range| range == "bytes=100-"), "{guard:?} {redirect}: {ranges:?}");
    }
}

#[tokio::test]
async fn what_is_not_as_the_registry_says_never_enters_the_store() {
    let pair = pair().await;
    let digest = pair.push("lora", 1);
    let (by_tag, by_digest) = ("lora:v1".to_owned(), format!("lora@{digest}"));
    for (what, rest, reason, faults) in [
        ("another byte", &by_tag, "ArtifactCorrupted", Faults { garbled: true, ..Faults::default() }),
        ("no blob", &by_tag, "ArtifactNotFound", Faults { missing: true, ..Faults::default() }),
        ("a page", &by_tag, "ArtifactCorrupted", Faults { page: true, ..Faults::default() }),
        ("a page as long", &by_tag, "ArtifactCorrupted", Faults { page: true, no_length: true, ..Faults::default() }),
        ("a page for a manifest", &by_tag, "ArtifactCorrupted", Faults { manifest_page: true, ..Faults::default() }),
        ("a page for a digest", &by_digest, "ArtifactCorrupted", Faults { manifest_page: true, ..Faults::default() }),
        ("another manifest", &by_tag, "ArtifactCorrupted", Faults { lying_manifest: true, ..Faults::default() }),
        (
            "another manifest by digest",
            &by_digest,
            "ArtifactCorrupted",
            Faults { lying_manifest: true, no_digest: true, ..Faults::default() },
        ),
        ("no end", &by_tag, "ArtifactCorrupted", Faults { endless: true, ..Faults::default() }),
        (
            "too many requests",
            &by_tag,
            "SourceUnavailable",
            Faults { busy: 1, retry_after: Some(7), ..Faults::default() },
        ),
    ] {
        pair.registry.fail(|all| *all = faults);
        let error = pair.fetch(rest).await.unwrap_err();
        assert_eq!(error.reason(), reason, "{what}: {error}");
        assert_eq!(error.is_transient(), reason != "ArtifactNotFound", "{what}: {error}");
        assert_eq!(error.retry_after(), (reason == "SourceUnavailable").then_some(Duration::from_secs(7)), "{what}");
        assert!(pair.is_untouched(), "{what}");
    }
    pair.registry.fail(|all| *all = Faults::default());
    pair.fetch(&by_tag).await.unwrap();
}

#[tokio::test]
async fn registries_that_leave_out_what_is_not_required_are_read_all_the_same() {
    let pair = pair().await;
    pair.push("lora", 1);
    for faults in [
        Faults { no_head: true, ..Faults::default() },
        Faults { no_digest: true, ..Faults::default() },
        Faults { no_head: true, no_digest: true, ..Faults::default() },
        Faults { no_length: true, ..Faults::default() },
        Faults { no_ranges: true, ..Faults::default() },
    ] {
        let what = format!("{faults:?}");
        pair.registry.fail(|all| *all = faults);
        let error = pair.fetch("lora:v1").await.err();
        assert!(error.is_none(), "{what}: {error:?}");
    }
}

#[tokio::test]
async fn what_does_not_exist_is_named() {
    let pair = pair().await;
    pair.push("lora", 1);
    for (rest, named) in [("lora:v2", "lora:v2"), ("none:v1", "the repository none of 127.0.0.1")] {
        let error = pair.fetch(rest).await.unwrap_err();
        assert_eq!(error.reason(), "ArtifactNotFound");
        assert!(error.to_string().contains(named), "{error}");
    }
}

#[tokio::test]
async fn progress_is_of_all_layers() {
    let pair = pair().await;
    pair.push("lora", 1);
    let order = Order::public(pair.url("lora:v1"));
    let fetched = pair.artifacts.fulfil(&order).await.unwrap();
    let bytes = fetched.verified.bytes;
    assert_eq!((order.progress.bytes(), order.progress.total()), (bytes, Some(bytes)));
}

#[tokio::test]
async fn a_tag_that_was_another_while_it_was_read_is_not_remembered_as_what_it_is() {
    let pair = pair().await;
    let files = layers(&Adapter::tiny(2).files());
    pair.push("lora", 1);
    pair.registry.push("lora", "v2", &files);
    pair.registry.fail(|faults| faults.moved = Some("v2".into()));
    let changed = pair.fetch("lora:v1").await.unwrap_err();
    assert_eq!((changed.reason(), changed.is_transient()), ("ArtifactChanged", true));
    pair.registry.fail(|faults| faults.moved = None);
    let fetched = pair.fetch("lora:v1").await.unwrap();
    assert_eq!(fs::read(fetched.path.join(WEIGHTS)).unwrap(), Adapter::tiny(1).weights());
}
