//! Object stores, on a server that speaks S3 and checks credentials.

use std::fs;
use std::path::Path;
use std::sync::{Arc, Once};

use longshore_artifacts::{
    Artifacts, Credentials, Error, Expect, Fetched, ObjectOptions, Objects, Order, Origin, Progress, Reach, Setup,
    Source, Store, WebIdentity,
};
use longshore_testkit::s3::{S3, S3Config, S3Faults, S3Key};
use longshore_types::{ArtifactUrl, Secret};

use crate::adapter::{Adapter, CONFIG, WEIGHTS};
use crate::sources::{World, behaves};

/// Marks what must never be shown.
const SECRET: &str = "hunter2-secret";
const TOKEN: &str = "hunter2-token";

pub fn tls() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| drop(rustls::crypto::ring::default_provider().install_default()));
}

fn credentials(entries: &[(&str, &str)]) -> Credentials {
    Credentials::new(entries.iter().map(|(name, value)| (*name, Secret::new(value))))
}

fn mine() -> Credentials {
    credentials(&[("aws_access_key_id", "AK"), ("aws_secret_access_key", SECRET)])
}

/// A server, a store, and a setup that leads from one to the other.
struct Bench {
    s3: S3,
    dir: tempfile::TempDir,
    artifacts: Artifacts,
}

impl Bench {
    async fn new() -> Self {
        Self::with(|_| {}).await
    }

    async fn with(change: impl FnOnce(&mut Setup)) -> Self {
        tls();
        let config = S3Config { keys: vec![S3Key::new("AK", SECRET)], ..S3Config::default() };
        let s3 = S3::start(S3Config { web_identity: Some(TOKEN.into()), ..config }).await.unwrap();
        let mut setup = setup(&s3);
        change(&mut setup);
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path().join("store")).unwrap();
        let artifacts = Artifacts::new(store).with_source(Arc::new(Objects::s3(&setup).unwrap()));
        Self { s3, dir, artifacts }
    }

    fn put(&self, adapter: &Adapter) {
        for (name, bytes) in adapter.files() {
            self.s3.put("bucket", &format!("a/{name}"), bytes);
        }
    }

    async fn fetch(&self, credentials: Credentials) -> Result<Fetched, Error> {
        self.fetch_from("s3://bucket/a/", credentials).await
    }

    async fn fetch_from(&self, url: &str, credentials: Credentials) -> Result<Fetched, Error> {
        let origin = Origin { url: url.parse().unwrap(), credentials };
        let order = Order { origin, expect: Expect::default(), progress: Progress::default() };
        let result = self.artifacts.fulfil(&order).await;
        if let Err(error) = &result {
            let shown = format!("{error} {error:?} {:?}", error.fault());
            assert!(!shown.contains("hunter2"), "{shown}");
            assert_eq!(self.left_behind(), 0);
        }
        result
    }

    async fn refused(&self, credentials: Credentials) -> (&'static str, String) {
        let error = self.fetch(credentials).await.unwrap_err();
        (error.reason(), error.fault().message)
    }

    /// Directories that a failed fetch has left in the store.
    fn left_behind(&self) -> usize {
        let sessions = fs::read_dir(self.dir.path().join("store/.staging")).unwrap();
        let dirs = |path: &Path| fs::read_dir(path).unwrap().filter(|e| e.as_ref().unwrap().path().is_dir()).count();
        sessions.map(|session| session.unwrap().path()).filter(|path| path.is_dir()).map(|path| dirs(&path)).sum()
    }
}

fn setup(s3: &S3) -> Setup {
    let mut objects = ObjectOptions::default();
    objects.s3.endpoint = Some(s3.url());
    Setup { objects, ..Setup::default() }
}

/// An adapter whose weights take several parts.
pub fn large(seed: u8) -> Adapter {
    let mut adapter = Adapter::tiny(seed);
    adapter.add("model.layers.0.mlp.up_proj", 2, 1_500_000, 4, seed);
    adapter.set("target_modules", serde_json::json!(["q_proj", "v_proj", "up_proj"]));
    adapter
}

struct Prefixes {
    s3: S3,
    setup: Setup,
}

impl World for Prefixes {
    fn source(&self) -> Arc<dyn Source> {
        Arc::new(Objects::s3(&self.setup).unwrap())
    }
    fn put(&self, files: &[(String, Vec<u8>)]) -> ArtifactUrl {
        self.s3.put("bucket", "deep/a/", "");
        for (name, bytes) in files {
            self.s3.put("bucket", &format!("deep/a/{name}"), bytes.clone());
        }
        "s3://bucket/deep/a".parse().unwrap()
    }
    fn replace(&self, _: &ArtifactUrl, name: &str, bytes: &[u8]) {
        self.s3.put("bucket", &format!("deep/a/{name}"), bytes.to_vec());
    }
    fn remove(&self, _: &ArtifactUrl, name: &str) {
        self.s3.remove("bucket", &format!("deep/a/{name}"));
    }
    fn nothing(&self) -> ArtifactUrl {
        "s3://bucket/nothing/".parse().unwrap()
    }
}

#[tokio::test]
async fn s3_prefixes_behave() {
    tls();
    let keys = vec![S3Key::new("AK", SECRET)];
    let s3 = S3::start(S3Config { keys, ..S3Config::default() }).await.unwrap();
    let mut setup = setup(&s3);
    setup.objects.credentials = mine();
    behaves(&Prefixes { s3, setup }).await;
}

#[tokio::test]
async fn s3_prefixes_behave_where_listings_have_no_tags_and_come_in_small_pages() {
    tls();
    let s3 = S3::start(S3Config { public: true, ..S3Config::default() }).await.unwrap();
    s3.fail(S3Faults { no_tags: true, no_conditions: true, page_size: Some(1), ..S3Faults::default() });
    let setup = setup(&s3);
    behaves(&Prefixes { s3, setup }).await;
}

#[tokio::test]
async fn a_refusal_says_which_part_of_a_credential_is_wrong() {
    let bench = Bench::new().await;
    bench.put(&Adapter::tiny(1));
    let with = |id: &str, secret: &str| credentials(&[("aws_access_key_id", id), ("aws_secret_access_key", secret)]);
    for (credentials, advice) in [
        (Credentials::default(), "give credentials"),
        (with("AK", "hunter2-wrong"), "check aws_secret_access_key"),
        (with("OTHER", SECRET), "check aws_access_key_id"),
    ] {
        let (reason, message) = bench.refused(credentials).await;
        assert_eq!(reason, "AccessDenied");
        assert!(message.contains(advice) && message.contains("s3://bucket/a/"), "{message}");
    }
    let half = bench.refused(credentials(&[("aws_access_key_id", "AK")])).await;
    assert_eq!(half.0, "CredentialInvalid");
    assert!(half.1.contains("aws_secret_access_key"), "{}", half.1);
    bench.fetch(mine()).await.unwrap();
}

#[tokio::test]
async fn a_session_takes_its_token_and_ends() {
    let bench = Bench::new().await;
    bench.put(&Adapter::tiny(1));
    bench.s3.rotate(vec![S3Key { token: Some(TOKEN.into()), ..S3Key::new("AK", SECRET) }]);
    let session = |token| {
        let keys = [("aws_access_key_id", "AK"), ("aws_secret_access_key", SECRET), ("aws_session_token", token)];
        credentials(&keys)
    };
    assert_eq!(bench.refused(mine()).await.0, "AccessDenied");
    assert_eq!(bench.refused(session("hunter2-other")).await.0, "AccessDenied");
    bench.fetch(session(TOKEN)).await.unwrap();
    bench.s3.fail(S3Faults { expired: true, ..S3Faults::default() });
    let (reason, message) = bench.refused(session(TOKEN)).await;
    assert_eq!(reason, "AccessDenied");
    assert!(message.contains("give a new session token"), "{message}");
}

#[tokio::test]
async fn what_is_stored_is_given_to_those_alone_who_may_read_it() {
    let bench = Bench::new().await;
    bench.put(&Adapter::tiny(1));
    let lister = S3Key { reads: false, ..S3Key::new("LISTER", SECRET) };
    let reader = S3Key::new("READER", SECRET);
    bench.s3.rotate(vec![S3Key::new("AK", SECRET), lister, reader]);
    let with = |id: &str| credentials(&[("aws_access_key_id", id), ("aws_secret_access_key", SECRET)]);
    let fetched = bench.fetch(mine()).await.unwrap();
    assert_eq!(bench.refused(with("LISTER")).await.0, "AccessDenied");
    assert_eq!(bench.refused(Credentials::default()).await.0, "AccessDenied");
    assert_eq!(bench.fetch(with("READER")).await.unwrap(), fetched);
    bench.s3.rotate(vec![]);
    assert_eq!(bench.refused(mine()).await.0, "AccessDenied");
}

#[tokio::test]
async fn a_metadata_service_is_nobodys_store_even_where_it_is_asked_for_an_identity() {
    let bench = Bench::with(|setup| setup.objects.instance_credentials = true).await;
    for endpoint in ["http://169.254.169.254", "http://[fd00:ec2::254]"] {
        let error = bench.fetch(credentials(&[("aws_endpoint_url", endpoint)])).await.unwrap_err();
        assert_eq!(error.reason(), "AddressRefused", "{endpoint}: {error}");
    }
}

#[tokio::test]
async fn an_endpoint_that_comes_with_credentials_is_no_more_trusted_than_a_url() {
    let bench = Bench::with(|setup| setup.objects.credentials = mine()).await;
    let other = S3::start(S3Config { public: true, ..S3Config::default() }).await.unwrap();
    other.put("bucket", "a/adapter_config.json", "{}");
    for endpoint in [other.url(), "http://localhost:1".into(), "http://169.254.169.254".into()] {
        let error = bench.fetch(credentials(&[("aws_endpoint_url", &endpoint)])).await.unwrap_err();
        assert_eq!(error.reason(), "AddressRefused", "{endpoint}: {error}");
    }
    assert!(other.requests().is_empty() && bench.s3.requests().is_empty());
}

#[tokio::test]
async fn i8_the_processs_own_key_is_not_sent_to_an_endpoint_that_comes_with_credentials() {
    let reach = Reach { private: true, ..Reach::default() };
    let bench = Bench::with(|setup| (setup.reach, setup.objects.credentials) = (reach, mine())).await;
    let other = S3::start(S3Config { public: true, ..S3Config::default() }).await.unwrap();
    for (name, bytes) in Adapter::tiny(2).files() {
        other.put("bucket", &format!("a/{name}"), bytes);
    }
    let theirs = credentials(&[("aws_endpoint_url", &other.url())]);
    bench.put(&Adapter::tiny(1));
    let (ours, theirs) = (bench.fetch(Credentials::default()).await.unwrap(), bench.fetch(theirs).await.unwrap());
    assert_ne!(ours.verified.digest, theirs.verified.digest, "one reference, two stores");
    assert!(!other.requests().is_empty());
    assert!(other.requests().iter().all(|request| request.key.is_none()), "{:?}", other.requests());
}

#[tokio::test]
async fn a_role_is_taken_once_for_many_fetches() {
    let dir = tempfile::tempdir().unwrap();
    let token_file = dir.path().join("token");
    fs::write(&token_file, format!("{TOKEN}\n")).unwrap();
    tls();
    let key = S3Key { token: Some("hunter2-session".into()), ..S3Key::new("ROLE", SECRET) };
    let config = S3Config { keys: vec![key], web_identity: Some(TOKEN.into()), ..S3Config::default() };
    let sts = S3::start(config.clone()).await.unwrap();
    let role_arn = "arn:aws:iam::123456789012:role/adapters".to_owned();
    let identity = WebIdentity { role_arn, token_file: token_file.clone(), sts_endpoint: Some(sts.url()) };
    let bench = Bench::with(|setup| setup.objects.s3.web_identity = Some(identity)).await;
    bench.s3.rotate(config.keys);
    bench.put(&Adapter::tiny(1));
    bench.fetch(Credentials::default()).await.unwrap();
    bench.fetch(Credentials::default()).await.unwrap();
    assert_eq!(sts.requests().len(), 1);
    assert!(bench.s3.requests().iter().all(|request| request.key.as_deref() == Some("ROLE")));
}

#[tokio::test]
async fn a_role_that_is_refused_is_an_access_that_is_denied() {
    let dir = tempfile::tempdir().unwrap();
    let token_file = dir.path().join("token");
    fs::write(&token_file, "hunter2-wrong").unwrap();
    tls();
    let sts = S3::start(S3Config { web_identity: Some(TOKEN.into()), ..S3Config::default() }).await.unwrap();
    let identity = WebIdentity { role_arn: "arn:aws:iam::1:role/a".into(), token_file, sts_endpoint: Some(sts.url()) };
    let bench = Bench::with(|setup| setup.objects.s3.web_identity = Some(identity)).await;
    assert_eq!(bench.refused(Credentials::default()).await.0, "AccessDenied");
}

#[tokio::test]
async fn a_store_that_throttles_is_asked_again_and_not_for_ever() {
    let bench = Bench::new().await;
    bench.put(&Adapter::tiny(1));
    bench.s3.fail(S3Faults { slow_down: 2, ..S3Faults::default() });
    bench.fetch(mine()).await.unwrap();
    bench.s3.fail(S3Faults { slow_down: u32::MAX, retry_after: Some(60), ..S3Faults::default() });
    let asked = bench.s3.requests().len();
    let error = bench.fetch(mine()).await.unwrap_err();
    assert_eq!((error.reason(), error.is_transient()), ("SourceUnavailable", true));
    assert_eq!(error.retry_after().unwrap().as_secs(), 60);
    assert_eq!(bench.s3.requests().len(), asked + 1, "a minute is not waited for here");
}

#[tokio::test]
async fn a_large_object_comes_in_parts_and_goes_on_where_a_connection_was_cut() {
    let bench = Bench::new().await;
    let adapter = large(1);
    bench.put(&adapter);
    bench.s3.fail(S3Faults { cut: 9, cut_after: 300_000, ..S3Faults::default() });
    let fetched = bench.fetch(mine()).await.unwrap();
    assert_eq!(fs::read(fetched.path.join(WEIGHTS)).unwrap(), adapter.weights());
    let ranges = bench.s3.requests().iter().filter(|r| r.method == "GET" && r.target.contains(WEIGHTS)).count();
    assert!(ranges > 9 + 5, "{ranges} reads of a file of 12 MB");
}

#[tokio::test]
async fn an_object_that_is_cut_again_and_again_is_given_up() {
    let bench = Bench::new().await;
    bench.put(&Adapter::tiny(1));
    bench.s3.fail(S3Faults { cut: u32::MAX, cut_after: 0, ..S3Faults::default() });
    let error = bench.fetch(mine()).await.unwrap_err();
    assert!(error.is_transient(), "{error}");
    assert_eq!(bench.artifacts.store().entries().unwrap(), []);
}

#[tokio::test]
async fn an_object_that_changes_while_it_is_read_is_not_stored() {
    for no_conditions in [false, true] {
        let bench = Bench::new().await;
        let (before, after) = (large(1), large(2));
        bench.put(&before);
        let change = Some((format!("a/{WEIGHTS}"), after.weights().into()));
        // The first part comes whole; whatever is asked for after it is of the new one.
        bench.s3.fail(S3Faults { change, no_conditions, ..S3Faults::default() });
        let error = bench.fetch(mine()).await.unwrap_err();
        assert_eq!((error.reason(), error.is_transient()), ("ArtifactChanged", true), "{error}");
        let fetched = bench.fetch(mine()).await.unwrap();
        assert_eq!(fs::read(fetched.path.join(WEIGHTS)).unwrap(), after.weights());
    }
}

#[tokio::test]
async fn what_is_not_the_object_never_enters_the_store() {
    let page = Some("<html>Sign in</html>".to_owned());
    for faults in [
        S3Faults { page, ..S3Faults::default() },
        S3Faults { endless: true, ..S3Faults::default() },
        S3Faults { no_ranges: true, ..S3Faults::default() },
    ] {
        let bench = Bench::new().await;
        bench.put(&large(1));
        bench.s3.fail(faults.clone());
        let error = bench.fetch(mine()).await.unwrap_err();
        assert_eq!(error.reason(), "ArtifactCorrupted", "{faults:?}: {error}");
        assert_eq!(bench.artifacts.store().entries().unwrap(), []);
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed_and_a_bucket_elsewhere_says_so() {
    let bench = Bench::new().await;
    bench.put(&Adapter::tiny(1));
    let other = S3::start(S3Config { public: true, ..S3Config::default() }).await.unwrap();
    bench.s3.fail(S3Faults { redirect: Some(other.url()), ..S3Faults::default() });
    assert_eq!(bench.refused(mine()).await.0, "RedirectRefused");
    assert!(other.requests().is_empty());

    bench.s3.fail(S3Faults::default());
    let keys = [("aws_access_key_id", "AK"), ("aws_secret_access_key", SECRET), ("aws_region", "eu-west-1")];
    let (reason, message) = bench.refused(credentials(&keys)).await;
    assert_eq!(reason, "SourceRefused");
    assert!(message.contains("in the region us-east-1, so set aws_region to that"), "{message}");
}

#[tokio::test]
async fn what_does_not_exist_is_named_and_what_is_near_it_too() {
    let bench = Bench::new().await;
    bench.put(&Adapter::tiny(1));
    for (url, near) in [
        ("s3://other-bucket/a/", "s3://other-bucket/a/ does not exist"),
        ("s3://bucket/b/", "s3://bucket/b/ does not exist"),
        ("s3://bucket/a/adapter.tar.gz", "s3://bucket/a/adapter.tar.gz does not exist"),
        ("s3://bucket/a/adapter_model.safetensors", "name the prefix that holds adapter_config.json"),
    ] {
        let error = bench.fetch_from(url, mine()).await.unwrap_err();
        assert_eq!(error.reason(), "ArtifactNotFound", "{url}: {error}");
        assert!(error.to_string().contains(near), "{error}");
    }
    let error = bench.fetch_from("s3://bucket", mine()).await.unwrap_err();
    assert_eq!(error.reason(), "ConfigMissing");
    assert!(error.to_string().contains("there is one in s3://bucket/a/"), "{error}");
}

#[tokio::test]
async fn a_prefix_may_hold_many_names_and_not_any_number() {
    let bench = Bench::new().await;
    bench.put(&Adapter::tiny(1));
    for n in 0..2_500 {
        bench.s3.put("bucket", &format!("a/checkpoint-{n}/{CONFIG}"), "{}");
        bench.s3.put("bucket", &format!("a/log-{n}"), "");
    }
    bench.fetch(mine()).await.unwrap();
    for n in 0..8_000 {
        bench.s3.put("bucket", &format!("a/more-{n}"), "");
    }
    assert_eq!(bench.refused(mine()).await.0, "TooLarge");
}

#[tokio::test]
async fn a_key_is_never_a_path_of_ours() {
    let bench = Bench::new().await;
    bench.put(&Adapter::tiny(1));
    for key in ["a/../../tokenizer.json", "a//tokenizer.json", "a/sub/../../../tokenizer.json", "a/.."] {
        bench.s3.put("bucket", key, "{}");
    }
    let fetched = bench.fetch(mine()).await.unwrap();
    let mut names: Vec<_> = fs::read_dir(&fetched.path).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert!(names.iter().all(|name| !name.to_string_lossy().starts_with("tokenizer")), "{names:?}");
    for key in ["a/tokenizer\u{1}.json", "a/tokenizer.json "] {
        bench.s3.put("bucket", key, "{}");
        let error = bench.fetch(mine()).await.unwrap_err();
        assert!(!error.is_transient() || error.reason() == "ArtifactCorrupted", "{key:?}: {error}");
        bench.s3.remove("bucket", key);
    }
}

#[tokio::test]
async fn it_shows_how_far_it_has_come() {
    let bench = Bench::new().await;
    let adapter = large(1);
    bench.put(&adapter);
    let origin = Origin { url: "s3://bucket/a/".parse().unwrap(), credentials: mine() };
    let progress = Progress::default();
    let order = Order { origin, expect: Expect::default(), progress: progress.clone() };
    bench.artifacts.fulfil(&order).await.unwrap();
    let total: usize = adapter.files().iter().map(|(_, bytes)| bytes.len()).sum();
    assert_eq!((progress.bytes(), progress.total()), (total as u64, Some(total as u64)));
}

#[tokio::test]
async fn i11_many_that_look_for_what_is_not_there_hold_up_nobody() {
    let bench = Bench::new().await;
    let missing = (0..100).map(|n| {
        let bench = &bench;
        async move { bench.fetch_from(&format!("s3://bucket/none-{n}/"), mine()).await.unwrap_err().reason() }
    });
    // Far above what it takes; without an end it would be for ever.
    let all = tokio::time::timeout(std::time::Duration::from_secs(60), futures::future::join_all(missing)).await;
    assert!(all.unwrap().into_iter().all(|reason| reason == "ArtifactNotFound"));
    bench.put(&Adapter::tiny(1));
    bench.fetch(mine()).await.unwrap();
}
