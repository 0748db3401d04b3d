//! The hub's source, against a hub that fails where it is told to.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use longshore_artifacts::{
    Artifacts, Credentials, Error, Fetched, HubOptions, Order, Origin, Reach, Setup, Source, Store,
};
use longshore_testkit::hub::{Access, Asked, At, FakeHub, Fault, Server, Trouble};
use longshore_types::{ArtifactUrl, Scheme, Secret};

use crate::adapter::{Adapter, CONFIG, WEIGHTS};
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
    Setup { reach, hub: HubOptions::at(&hub.url()).unwrap() }
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
async fn a_download_goes_on_where_the_connection_ended() {
    let scene = Scene::with_adapter().await;
    scene.hub.fail(Fault::at(At::Cdn, Trouble::Cut(100)).on(WEIGHTS).times(2));
    scene.hub.fail(Fault::at(At::File, Trouble::Cut(10)).on(CONFIG));
    let fetched = scene.fetch("hf://org/adapter").await.unwrap();
    assert_eq!(fs::read(fetched.path.join(WEIGHTS)).unwrap(), Adapter::tiny(1).weights());
    assert!(scene.hub.has_failed());
    let ranges =
        |server, name| scene.asked(server, "GET", name).into_iter().map(|asked| asked.range).collect::<Vec<_>>();
    let from = |byte| Some(format!("bytes={byte}-"));
    assert_eq!(ranges(Server::Cdn, WEIGHTS), [None, from(100), from(200)]);
    // Each time by a fresh link of the hub's.
    assert_eq!(ranges(Server::Hub, WEIGHTS), [None, from(100), from(200)]);
    assert_eq!(ranges(Server::Hub, CONFIG), [None, from(10)]);
}

#[tokio::test]
async fn a_link_that_has_run_out_is_asked_for_again() {
    let scene = Scene::with_adapter().await;
    scene.hub.fail(Fault::at(At::Cdn, Trouble::Expired));
    scene.hub.fail(Fault::at(At::Cdn, Trouble::Cut(100)));
    scene.hub.fail(Fault::at(At::Cdn, Trouble::Expired));
    let fetched = scene.fetch("hf://org/adapter").await.unwrap();
    assert_eq!(fs::read(fetched.path.join(WEIGHTS)).unwrap(), Adapter::tiny(1).weights());
    assert!(scene.hub.has_failed());
    assert_eq!(scene.asked(Server::Hub, "GET", WEIGHTS).len(), 4);
}

#[tokio::test]
async fn a_link_that_is_always_refused_is_no_fault_of_the_credentials() {
    let scene = Scene::with_adapter().await;
    scene.hub.fail(Fault::at(At::Cdn, Trouble::Expired).times(usize::MAX));
    let error = scene.fetch("hf://org/adapter").await.unwrap_err();
    assert_eq!(error.reason(), "SourceUnavailable");
    assert!(error.to_string().contains("403 Forbidden, from the host that it leads to"), "{error}");
    assert!(scene.is_clean());
}

#[tokio::test]
async fn what_is_not_the_file_never_enters_the_store() {
    for (at, name, trouble) in [
        (At::File, CONFIG, Trouble::Html),
        (At::File, CONFIG, Trouble::WrongBytes),
        (At::File, WEIGHTS, Trouble::Html),
        (At::Cdn, WEIGHTS, Trouble::Html),
        (At::Cdn, WEIGHTS, Trouble::WrongBytes),
        (At::Cdn, WEIGHTS, Trouble::Body("x".repeat(Adapter::tiny(1).weights().len()))),
        (At::Cdn, WEIGHTS, Trouble::Body(String::new())),
        (At::Revision, "", Trouble::Html),
        (At::Tree, "", Trouble::Html),
        (At::Revision, "", Trouble::Body(r#"{"sha":"main"}"#.into())),
        (At::Tree, "", Trouble::Body("[".repeat(100_000))),
        (At::Tree, "", Trouble::Body(" ".repeat(9 << 20))),
    ] {
        let scene = Scene::with_adapter().await;
        scene.hub.fail(Fault::at(at, trouble.clone()).on(name));
        let error = scene.fetch("hf://org/adapter").await.unwrap_err();
        assert_eq!((error.reason(), error.is_transient()), ("ArtifactCorrupted", true), "{at:?} {name}: {error}");
        assert!(scene.hub.has_failed() && scene.is_clean(), "{at:?} {name}");
        // It was no fault of the adapter's.
        scene.fetch("hf://org/adapter").await.unwrap();
    }
}

#[tokio::test]
async fn a_large_file_that_is_a_page_is_not_told_as_a_broken_adapter() {
    // Larger than what is read to its end before it is judged.
    let scene = Scene::start().await;
    let mut adapter = Adapter::tiny(1);
    adapter.add("model.layers.1.self_attn.k_proj", 2, 200_000, 4, 1);
    adapter.set("target_modules", serde_json::json!(["q_proj", "k_proj", "v_proj"]));
    scene.hub.push("org/adapter", adapter.files());
    for trouble in [Trouble::Html, Trouble::Cut(1 << 20)] {
        scene.hub.fail(Fault::at(At::Cdn, trouble));
    }
    let error = scene.fetch("hf://org/adapter").await.unwrap_err();
    assert_eq!(error.reason(), "ArtifactCorrupted", "{error}");
    scene.fetch("hf://org/adapter").await.unwrap();
    assert!(scene.hub.has_failed());
}

#[tokio::test]
async fn a_busy_hub_is_waited_for_a_little_and_then_left_to_the_caller() {
    let scene = Scene::with_adapter().await;
    for at in [At::Revision, At::Tree, At::Head, At::File, At::Cdn] {
        scene.hub.fail(Fault::at(at, Trouble::Status(503)));
    }
    scene.hub.fail(Fault::at(At::Revision, Trouble::TooMany(1)));
    scene.fetch("hf://org/adapter").await.unwrap();
    assert!(scene.hub.has_failed());
    scene.hub.fail(Fault::at(At::Revision, Trouble::TooMany(300)));
    let error = scene.fetch("hf://org/adapter").await.unwrap_err();
    assert_eq!((error.reason(), error.retry_after().unwrap().as_secs()), ("SourceUnavailable", 300));
}

#[tokio::test]
async fn a_token_is_shown_to_the_hub_alone() {
    let scene = Scene::with_adapter().await;
    scene.hub.restrict("org/adapter", Access::Private);
    scene.hub.admit("hf_hunter2", "org/adapter");
    scene.hub.page(1);
    for name in ["huggingface_token", "HF_TOKEN", "token"] {
        scene.fetch_as("hf://org/adapter", name, "hf_hunter2\n").await.unwrap();
    }
    let (hub, cdn): (Vec<_>, Vec<_>) = scene.hub.log().into_iter().partition(|asked| asked.server == Server::Hub);
    assert!(!hub.is_empty() && hub.iter().all(|asked| asked.authorization.as_deref() == Some("Bearer hf_hunter2")));
    assert!(!cdn.is_empty() && cdn.iter().all(|asked| asked.authorization.is_none()), "{cdn:?}");
}

#[tokio::test]
async fn a_private_repository_is_hidden_from_strangers_and_opened_by_its_token() {
    let scene = Scene::with_adapter().await;
    scene.hub.restrict("org/adapter", Access::Private);
    scene.hub.admit("hf_good", "org/adapter");
    scene.hub.know("hf_other");
    let stranger = scene.fetch("hf://org/adapter").await.unwrap_err();
    assert_eq!(stranger.reason(), "ArtifactNotFound");
    assert!(
        stranger.to_string().contains("does not exist, or is hidden from whoever shows no credential"),
        "{stranger}"
    );
    assert!(stranger.to_string().contains("as huggingface_token"), "{stranger}");
    let other = scene.fetch_as("hf://org/adapter", "token", "hf_other").await.unwrap_err();
    assert_eq!(other.reason(), "ArtifactNotFound");
    assert!(other.to_string().contains("hidden from this credential"), "{other}");
    let unknown = scene.fetch_as("hf://org/adapter", "token", "hf_unknown").await.unwrap_err();
    assert_eq!(unknown.reason(), "AccessDenied");
    assert!(unknown.to_string().contains("revoked"), "{unknown}");
    let odd = scene.fetch_as("hf://org/adapter", "token", "hf_hun\nter2").await.unwrap_err();
    assert_eq!(odd.reason(), "CredentialInvalid");
    assert!(!odd.to_string().contains("ter2"), "{odd}");
    assert!(scene.is_clean());
    scene.fetch_as("hf://org/adapter", "token", "hf_good").await.unwrap();
    // What is in the store is not given out to whoever the hub would not give it to.
    assert_eq!(scene.fetch("hf://org/adapter").await.unwrap_err().reason(), "ArtifactNotFound");
    scene.hub.revoke_all();
    assert_eq!(scene.fetch_as("hf://org/adapter", "token", "hf_good").await.unwrap_err().reason(), "AccessDenied");
}

#[tokio::test]
async fn a_gated_repository_admits_nobody_by_its_listing() {
    let scene = Scene::with_adapter().await;
    scene.hub.restrict("org/adapter", Access::Gated);
    scene.hub.admit("hf_good", "org/adapter");
    scene.hub.know("hf_other");
    scene.fetch_as("hf://org/adapter", "token", "hf_good").await.unwrap();
    let stranger = scene.fetch("hf://org/adapter").await.unwrap_err();
    assert_eq!(stranger.reason(), "AccessDenied");
    assert!(stranger.to_string().contains("org/adapter is gated"), "{stranger}");
    let other = scene.fetch_as("hf://org/adapter", "token", "hf_other").await.unwrap_err();
    assert_eq!(other.reason(), "AccessDenied");
    assert!(other.to_string().contains("with the account of this token"), "{other}");
}

#[tokio::test]
async fn a_large_file_too_tells_who_is_admitted() {
    // The CDN refuses HEAD by a link that was signed for GET, which says nothing about us.
    let scene = Scene::start().await;
    scene.hub.push("org/adapter", [(WEIGHTS, Adapter::tiny(1).weights())]);
    let error = scene.fetch("hf://org/adapter").await.unwrap_err();
    assert_eq!(error.reason(), "ConfigMissing", "{error}");
    assert_eq!(scene.asked(Server::Hub, "HEAD", WEIGHTS).len(), 2);
}

#[tokio::test]
async fn the_process_has_a_token_of_its_own_for_those_who_bring_none() {
    let hub = FakeHub::start().await.unwrap();
    hub.push("org/adapter", Adapter::tiny(1).files());
    hub.restrict("org/adapter", Access::Private);
    hub.admit("hf_own", "org/adapter");
    hub.know("hf_other");
    let mut setup = setup(&hub);
    setup.hub = setup.hub.with_token(Secret::new("hf_own\n"));
    assert!(!format!("{setup:?}").contains("hf_own"));
    let scene = Scene::with(hub, setup);
    scene.fetch("hf://org/adapter").await.unwrap();
    scene.fetch_as("hf://org/adapter", "aws_access_key_id", "AK").await.unwrap();
    let error = scene.fetch_as("hf://org/adapter", "hf_token", "hf_other").await.unwrap_err();
    assert_eq!(error.reason(), "ArtifactNotFound");
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
async fn a_branch_that_moves_while_it_is_read_is_read_again() {
    let scene = Scene::with_adapter().await;
    // The hub asks for a second of patience, in which the branch moves.
    scene.hub.fail(Fault::at(At::Cdn, Trouble::TooMany(1)));
    let moves = async {
        while scene.asked(Server::Cdn, "GET", WEIGHTS).is_empty() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        scene.hub.push("org/adapter", Adapter::tiny(2).files());
    };
    let (fetched, ()) = futures::future::join(scene.fetch("hf://org/adapter"), moves).await;
    assert_eq!(fetched.unwrap_err().reason(), "ArtifactChanged");
    assert!(scene.is_clean());
    let again = scene.fetch("hf://org/adapter").await.unwrap();
    assert_eq!(fs::read(again.path.join(WEIGHTS)).unwrap(), Adapter::tiny(2).weights());
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

#[tokio::test]
async fn a_hub_leads_to_no_private_address_that_nobody_allowed() {
    let hub = FakeHub::start().await.unwrap();
    hub.push("org/adapter", Adapter::tiny(1).files());
    let wary = Setup { reach: Reach::default(), ..setup(&hub) };
    let scene = Scene::with(hub, wary);
    let error = scene.fetch("hf://org/adapter").await.unwrap_err();
    assert_eq!(error.reason(), "AddressRefused");
    assert!(error.to_string().contains("loopback"), "{error}");
    assert!(!scene.asked(Server::Hub, "GET", WEIGHTS).is_empty() && scene.asked(Server::Cdn, "GET", "").is_empty());
    assert!(scene.is_clean());
}

#[tokio::test]
async fn i8_neither_token_nor_signature_is_in_a_failure() {
    let scene = Scene::with_adapter().await;
    scene.hub.know("hf_hunter2");
    for (at, trouble) in [
        (At::Revision, Trouble::Status(400)),
        (At::Head, Trouble::Status(403)),
        (At::File, Trouble::Status(403)),
        (At::Cdn, Trouble::Status(400)),
        (At::Cdn, Trouble::Status(404)),
        (At::Cdn, Trouble::Expired),
        (At::Cdn, Trouble::Html),
    ] {
        scene.hub.fail(Fault::at(at, trouble.clone()).times(5));
        let error = scene.fetch_as("hf://org/adapter", "token", "hf_hunter2").await.unwrap_err();
        let shown = format!("{error} {error:?} {:?}", error.fault());
        assert!(!shown.contains("hunter2"), "{at:?} {trouble:?}: {shown}");
        while !scene.hub.has_failed() {
            let _ = scene.fetch("hf://org/adapter").await;
        }
    }
}
