//! The hub's source, against a hub that fails where it is told to.

mod access;
mod faults;

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use longshore_artifacts::{
    Artifacts, Credentials, Error, Fetched, HubOptions, Order, Origin, Reach, Setup, Source, Store,
};
use longshore_testkit::hub::{Asked, At, FakeHub, Fault, Server, Trouble};
use longshore_types::{ArtifactUrl, Scheme, Secret};

use crate::adapter::{Adapter, WEIGHTS};
use crate::sources::{World, behaves};

/// A hub, a store, and what fetches from one into the other.
struct Scene {
    hub: FakeHub,
    artifacts: Artifacts,
    dir: tempfile::TempDir,
}

fn setup(hub: &FakeHub) -> Setup {
    // Another may have been first.
    let _ = rustls::crypto::ring::default_provider().install_default();
    // The hub's own address is trusted because it is configured; the CDN's is not.
    let reach = Reach { private: true, ..Reach::default() };
    Setup { reach, hub: HubOptions::at(&hub.url()).unwrap(), ..Setup::default() }
}

fn source(setup: Setup) -> Arc<dyn Source> {
    let mut sources = setup.sources().unwrap().into_iter();
    sources.find(|source| source.schemes() == [Scheme::HuggingFace]).unwrap()
}

impl Scene {
    async fn start() -> Self {
        let hub = FakeHub::start().await.unwrap();
        let setup = setup(&hub);
        Self::with(hub, setup)
    }

    fn with(hub: FakeHub, setup: Setup) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let artifacts = Artifacts::from_everywhere(Store::open(dir.path()).unwrap(), setup).unwrap();
        Self { hub, artifacts, dir }
    }

    /// With an adapter in `org/adapter`.
    async fn with_adapter() -> Self {
        let scene = Self::start().await;
        scene.hub.push("org/adapter", Adapter::tiny(1).files());
        scene
    }

    async fn fetch(&self, url: &str) -> Result<Fetched, Error> {
        self.artifacts.fetch(&url.parse().unwrap(), None).await
    }

    async fn fetch_as(&self, url: &str, name: &str, token: &str) -> Result<Fetched, Error> {
        let credentials = Credentials::new([(name, Secret::new(token))]);
        let origin = Origin { credentials, ..Origin::public(url.parse().unwrap()) };
        self.artifacts.fulfil(&Order { origin, ..Order::public(url.parse().unwrap()) }).await
    }

    /// Requests of one kind for paths that end with `name`.
    fn asked(&self, server: Server, method: &str, name: &str) -> Vec<Asked> {
        let wanted = |asked: &Asked| asked.server == server && asked.method == method && asked.path.ends_with(name);
        self.hub.log().into_iter().filter(wanted).collect()
    }

    /// Nothing came into the store, and nothing is on its way.
    fn is_clean(&self) -> bool {
        self.artifacts.store().entries().unwrap().is_empty() && on_its_way(self.dir.path()) == 0
    }
}

/// Directories in which adapters are put together.
fn on_its_way(store: &Path) -> usize {
    let below = |dir: &Path| fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir());
    below(&store.join(".staging")).flat_map(|session| below(&session).collect::<Vec<_>>()).count()
}

struct Repositories(FakeHub, AtomicUsize);

impl Repositories {
    fn id(url: &ArtifactUrl) -> &str {
        url.as_written().strip_prefix("hf://").unwrap()
    }
}

impl World for Repositories {
    fn source(&self) -> Arc<dyn Source> {
        source(setup(&self.0))
    }
    fn put(&self, files: &[(String, Vec<u8>)]) -> ArtifactUrl {
        let id = format!("org/adapter-{}", self.1.fetch_add(1, Ordering::Relaxed));
        self.0.push(&id, files.to_vec());
        ArtifactUrl::new(format!("hf://{id}")).unwrap()
    }
    fn replace(&self, url: &ArtifactUrl, name: &str, bytes: &[u8]) {
        self.0.put(Self::id(url), name, bytes.to_vec());
    }
    fn remove(&self, url: &ArtifactUrl, name: &str) {
        self.0.remove(Self::id(url), name);
    }
    fn nothing(&self) -> ArtifactUrl {
        ArtifactUrl::new("hf://org/none").unwrap()
    }
}

#[tokio::test]
async fn repositories_behave() {
    let hub = FakeHub::start().await.unwrap();
    hub.page(2);
    behaves(&Repositories(hub, AtomicUsize::new(0))).await;
}

#[tokio::test]
async fn branches_tags_pull_requests_commits_and_folders_are_found() {
    let scene = Scene::start().await;
    let adapter = |seed| Adapter::tiny(seed).files();
    let first = scene.hub.push("org/adapter", adapter(1));
    scene.hub.name("org/adapter", "v1.0", &first);
    let second = scene.hub.push("org/adapter", adapter(2));
    scene.hub.name("org/adapter", "refs/pr/7", &second);
    scene.hub.name("org/adapter", "feature/x", &second);
    let below = adapter(3).into_iter().map(|(name, bytes)| (format!("runs/best/{name}"), bytes));
    scene.hub.push("org/adapter", adapter(4).into_iter().chain(below));
    for (reference, seed) in [
        ("hf://org/adapter", 4),
        ("hf://org/adapter@main", 4),
        ("hf://org/adapter@v1.0", 1),
        ("hf://org/adapter@refs/pr/7", 2),
        ("hf://org/adapter@feature%2Fx", 2),
        ("huggingface://org/adapter/runs/best", 3),
        ("hf://org/adapter@main/runs/best", 3),
        (&format!("hf://org/adapter@{first}"), 1),
        (&format!("hf://org/adapter@{}", second.to_uppercase()), 2),
    ] {
        let fetched = scene.fetch(reference).await.unwrap();
        assert_eq!(fs::read(fetched.path.join(WEIGHTS)).unwrap(), Adapter::tiny(seed).weights(), "{reference}");
    }
    for (reference, says) in [
        ("hf://org/adapter@v9", "revision v9 of org/adapter"),
        ("hf://org/adapter@v1.0/runs/best", "runs/best in org/adapter, revision v1.0"),
    ] {
        let error = scene.fetch(reference).await.unwrap_err();
        assert_eq!(error.reason(), "ArtifactNotFound", "{error}");
        assert!(error.to_string().contains(says), "{error}");
    }
}

#[tokio::test]
async fn a_repository_without_an_adapter_is_told_as_what_it_is_and_not_fetched() {
    let scene = Scene::start().await;
    let weights = Adapter::tiny(1).weights();
    scene.hub.push(
        "org/model",
        [("config.json", b"{}".to_vec()), ("model.safetensors", weights), ("tokenizer.json", vec![])],
    );
    let error = scene.fetch("hf://org/model@main").await.unwrap_err();
    assert_eq!(error.reason(), "ConfigMissing");
    assert!(
        error.to_string().ends_with("; hf://org/model holds a whole model, which engines serve as a base model"),
        "{error}"
    );

    let below = |folder: &str| {
        Adapter::tiny(1)
            .files()
            .into_iter()
            .map(move |(name, bytes)| (format!("{folder}/{name}"), bytes))
            .collect::<Vec<_>>()
    };
    let runs = below("runs/checkpoint-10").into_iter().chain(below("runs/checkpoint-20"));
    let first = scene.hub.push("org/runs", runs.chain([("model.safetensors".to_owned(), vec![0])]));
    let error = scene.fetch(&format!("hf://org/runs@{first}")).await.unwrap_err();
    let hint = format!("; there is one in hf://org/runs@{first}/runs/checkpoint-10: name that folder");
    assert!(error.to_string().ends_with(&hint), "{error}");

    scene.hub.push("org/empty", [(".gitattributes", "")]);
    assert_eq!(scene.fetch("hf://org/empty").await.unwrap_err().reason(), "ConfigMissing");
    assert!(scene.asked(Server::Hub, "GET", ".safetensors").is_empty() && scene.is_clean());
}

#[tokio::test]
async fn a_listing_is_followed_to_its_end_and_nowhere_else() {
    let scene = Scene::with_adapter().await;
    let elsewhere = FakeHub::start().await.unwrap();
    scene.hub.know("hf_hunter2");
    for (next, reason) in [
        (format!("{}/api/models/org/adapter/tree/main", elsewhere.url()), "RedirectRefused"),
        ("file:///etc/passwd".to_owned(), "RedirectRefused"),
        ("http://[".to_owned(), "RedirectRefused"),
        ("http://169.254.169.254/".to_owned(), "RedirectRefused"),
        // Cursors behind the last entry lead to empty pages.
        (format!("{}/api/models/org/adapter/tree/main?cursor=9", scene.hub.url()), "ArtifactCorrupted"),
    ] {
        scene.hub.fail(Fault::at(At::Tree, Trouble::NextPage(next.clone())).times(2));
        let error = scene.fetch_as("hf://org/adapter", "token", "hf_hunter2").await.unwrap_err();
        assert_eq!(error.reason(), reason, "{next}: {error}");
        assert!(!format!("{error} {error:?}").contains("hunter2"));
        // What is left of it where the first page was the last.
        while !scene.hub.has_failed() {
            let _ = scene.fetch("hf://org/adapter").await;
        }
    }
    assert!(elsewhere.log().is_empty());
}

#[tokio::test]
async fn a_folder_with_more_names_than_anybody_keeps_is_refused() {
    let scene = Scene::start().await;
    scene.hub.push("org/many", (0..10_001).map(|n| (format!("{n}.txt"), "")));
    let error = scene.fetch("hf://org/many").await.unwrap_err();
    assert_eq!(error.reason(), "TooLarge", "{error}");
    assert!(error.to_string().contains("10000 names"), "{error}");
}

#[tokio::test]
async fn a_commit_that_changes_no_kept_file_is_no_change() {
    let scene = Scene::with_adapter().await;
    let first = scene.fetch("hf://org/adapter").await.unwrap();
    let before = scene.asked(Server::Cdn, "GET", WEIGHTS).len();
    scene.hub.put("org/adapter", "README.md", "# Better words");
    assert_eq!(scene.fetch("hf://org/adapter").await.unwrap(), first);
    assert_eq!(scene.asked(Server::Cdn, "GET", WEIGHTS).len(), before);
}
