//! Archives on a web server, through the public interface.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use longshore_artifacts::{
    Artifacts, Credentials, Error, Expect, Fetched, Fingerprint, Order, Origin, Progress, Reach, Setup, Source, Store,
    Web,
};
use longshore_testkit::web::{Fault, Page, Rule, WebServer};
use longshore_types::{ArtifactUrl, Scope, Secret};

use crate::adapter::{Adapter, WEIGHTS};
use crate::archives::pack::{stored_gzip, tar_of};
use crate::sources::{World, behaves};

const PATH: &str = "/adapters/one.tar.gz";

/// With pauses that nobody notices.
fn setup() -> Setup {
    rustls::crypto::ring::default_provider().install_default().ok();
    let (mut setup, pause) = (Setup::default(), Duration::from_millis(1));
    setup.reach.private = true;
    setup.patience.pause = pause;
    setup.patience.longest_pause = pause;
    setup
}

/// A server, and a store that is filled from it.
struct Bench {
    server: WebServer,
    dir: tempfile::TempDir,
    artifacts: Artifacts,
}

impl Bench {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let artifacts = Artifacts::new(Store::open(dir.path()).unwrap());
        let artifacts = artifacts.with_source(Arc::new(Web::set_up(&setup()).unwrap()));
        Self { server: WebServer::start().await.unwrap(), dir, artifacts }
    }

    /// With a secret where there is room for one.
    fn origin(&self, credentials: &[(&str, &str)]) -> Origin {
        let url = ArtifactUrl::new(self.server.url(&format!("{PATH}?sig=hunter2"))).unwrap();
        let credentials = credentials.iter().map(|(name, value)| (name, Secret::new(value)));
        Origin { url, credentials: Credentials::new(credentials) }
    }

    async fn fingerprint_with(&self, credentials: &[(&str, &str)]) -> Result<Fingerprint, Error> {
        self.artifacts.fingerprint(&self.origin(credentials)).await.map_err(discreet)
    }

    async fn fingerprint(&self) -> Fingerprint {
        self.fingerprint_with(&[]).await.unwrap()
    }

    async fn fetch_with(&self, credentials: &[(&str, &str)]) -> Result<Fetched, Error> {
        let order =
            Order { origin: self.origin(credentials), expect: Expect::default(), progress: Progress::default() };
        self.artifacts.fulfil(&order).await.map_err(discreet)
    }

    async fn fetch(&self) -> Result<Fetched, Error> {
        self.fetch_with(&[]).await
    }

    /// What is in the store, entries and leftovers.
    fn stored(&self) -> usize {
        let staged = files_below(&self.dir.path().join(".staging"));
        staged.iter().filter(|name| *name != "lock").count() + self.artifacts.store().entries().unwrap().len()
    }

    fn methods(&self) -> Vec<String> {
        self.server.requests().into_iter().map(|request| request.method).collect()
    }
}

/// The names of all files below a directory.
fn files_below(dir: &Path) -> Vec<String> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        match entry.file_type().unwrap().is_dir() {
            true => names.extend(files_below(&entry.path())),
            false => names.push(entry.file_name().into_string().unwrap()),
        }
    }
    names
}

/// Fails the test where a secret shows.
fn discreet(error: Error) -> Error {
    let shown = format!("{error} {error:?} {:?}", error.fault());
    assert!(!shown.contains("hunter2"), "{shown}");
    error
}

/// The archive of an adapter.
fn packed(adapter: &Adapter) -> Vec<u8> {
    stored_gzip(&tar_of(&adapter.files()))
}

/// Adapters as archives on a server. The files of each are kept beside it, to change them one by one.
struct Server {
    server: WebServer,
    files: tempfile::TempDir,
}

impl Server {
    fn pack(&self) {
        let mut files = Vec::new();
        for name in files_below(self.files.path()) {
            files.push((name.clone(), fs::read(self.files.path().join(name)).unwrap()));
        }
        self.server.put(PATH, stored_gzip(&tar_of(&files)));
    }
}

impl World for Server {
    fn source(&self) -> Arc<dyn Source> {
        Arc::new(Web::set_up(&setup()).unwrap())
    }
    fn put(&self, files: &[(String, Vec<u8>)]) -> ArtifactUrl {
        for (name, bytes) in files {
            fs::write(self.files.path().join(name), bytes).unwrap();
        }
        self.pack();
        ArtifactUrl::new(self.server.url(PATH)).unwrap()
    }
    fn replace(&self, _: &ArtifactUrl, name: &str, bytes: &[u8]) {
        fs::write(self.files.path().join(name), bytes).unwrap();
        self.pack();
    }
    fn remove(&self, _: &ArtifactUrl, name: &str) {
        fs::remove_file(self.files.path().join(name)).unwrap();
        self.pack();
    }
    fn nothing(&self) -> ArtifactUrl {
        ArtifactUrl::new(self.server.url("/adapters/none.tar.gz")).unwrap()
    }
}

#[tokio::test]
async fn archives_on_a_server_behave() {
    behaves(&Server { server: WebServer::start().await.unwrap(), files: tempfile::tempdir().unwrap() }).await;
}

#[tokio::test]
async fn a_fingerprint_is_taken_by_a_head_and_proves_what_the_server_can() {
    let bench = Bench::new().await;
    bench.server.put(PATH, "one");
    let first = bench.fingerprint().await;
    assert_eq!(bench.methods(), ["HEAD"]);
    assert!(first.proves_same(&bench.fingerprint().await));
    bench.server.put(PATH, "two");
    assert!(first.differs(&bench.fingerprint().await));

    // A time counts where it is long ago, and a length alone proves nothing.
    let old = Some(UNIX_EPOCH + Duration::from_secs(1_000_000_000));
    bench.server.put_page(PATH, Page { etag: None, modified: old, ..Page::new("one") });
    assert!(bench.fingerprint().await.proves_same(&bench.fingerprint().await));
    let weak = Some("W/\"1\"".to_owned());
    for (etag, modified) in [(None, None), (weak, None), (None, Some(std::time::SystemTime::now()))] {
        bench.server.put_page(PATH, Page { etag, modified, ..Page::new("one") });
        let fingerprint = bench.fingerprint().await;
        assert!(!fingerprint.proves_same(&fingerprint.clone()));
    }
}

#[tokio::test]
async fn a_server_that_takes_no_head_is_asked_for_the_first_byte() {
    let bench = Bench::new().await;
    bench.server.put(PATH, "three");
    let by_head = bench.fingerprint().await;
    for status in [403, 405, 501] {
        bench.server.forget();
        bench.server.clear_faults();
        bench.server.fault(Rule::of(PATH, Fault::status(status, "")).only("HEAD"));
        let by_get = bench.fingerprint().await;
        assert!(by_head.proves_same(&by_get), "{status}");
        assert_eq!(bench.methods(), ["HEAD", "GET"]);
        assert_eq!(bench.server.requests()[1].header("range"), Some("bytes=0-0"));
    }
    // Where ranges are not heard of, all of it would come: nobody reads it.
    bench.server.fault((PATH, Fault::IgnoreRange));
    bench.server.fault((PATH, Fault::Stall { after: 1 }));
    assert!(by_head.proves_same(&bench.fingerprint().await));
    // An empty file has no first byte, and is there.
    bench.server.clear_faults();
    bench.server.fault(Rule::of(PATH, Fault::status(405, "")).only("HEAD"));
    bench.server.put(PATH, "");
    bench.fingerprint().await;
    // What is refused to both is refused.
    bench.server.fault((PATH, Fault::status(403, "<html>No.</html>")));
    assert_eq!(bench.fingerprint_with(&[]).await.unwrap_err().reason(), "AccessDenied");
}

#[tokio::test]
async fn i8_only_whom_the_server_lets_in_learns_anything() {
    let bench = Bench::new().await;
    for (needed, right, wrong) in [
        ("Bearer hunter2", &[("token", "hunter2")][..], &[("token", "hunter22")][..]),
        (
            "Basic dTpodW50ZXIy",
            &[("username", "u"), ("password", "hunter2")],
            &[("username", "u"), ("password", "hunter22")],
        ),
        (
            "Token hunter2",
            &[("headers", r#"{"Authorization": "Token hunter2"}"#)],
            &[("headers", r#"{"Authorization": "hunter2"}"#)],
        ),
    ] {
        bench.server.put_page(PATH, Page { authorization: Some(needed.into()), ..Page::new("x") });
        assert!(bench.fingerprint_with(right).await.is_ok(), "{needed}");
        for (credentials, whom) in [(wrong, "this credential"), (&[][..], "whoever shows no credential")] {
            let error = bench.fingerprint_with(credentials).await.unwrap_err();
            assert_eq!((error.reason(), error.fault().scope), ("AccessDenied", Scope::Artifact));
            assert!(error.to_string().contains(whom), "{error}");
            assert_eq!(bench.fetch_with(credentials).await.unwrap_err().reason(), "AccessDenied");
        }
    }
    bench.server.forget();
    let useless = bench.fetch_with(&[("aws_access_key_id", "hunter2")]).await.unwrap_err();
    assert_eq!(useless.reason(), "CredentialInvalid");
    assert!(bench.server.requests().is_empty() && bench.stored() == 0);
}

#[tokio::test]
async fn i8_a_reference_with_a_user_is_refused_before_anybody_is_asked() {
    let bench = Bench::new().await;
    let url = bench.server.url(PATH).replace("http://", "http://user:hunter2@");
    let origin = Origin::public(ArtifactUrl::new(url).unwrap());
    let error = discreet(bench.artifacts.fingerprint(&origin).await.unwrap_err());
    assert_eq!((error.reason(), error.is_transient()), ("ReferenceInvalid", false));
    assert!(error.to_string().contains("username, password"), "{error}");
    assert!(bench.server.requests().is_empty());
}

#[tokio::test]
async fn what_is_no_archive_is_told_as_what_it_is() {
    let bench = Bench::new().await;
    let html = |body: &str| Page { content_type: Some("text/html".into()), ..Page::new(body.to_owned()) };

    // A page with a status of success, whatever it is called.
    for page in [html("Not today"), Page::new("<!doctype html><title>Error</title>")] {
        bench.server.put_page(PATH, page);
        let error = bench.fetch().await.unwrap_err();
        assert_eq!((error.reason(), error.is_transient()), ("SourceRefused", false));
        assert!(error.to_string().contains("a web page in the place of an archive"), "{error}");
    }

    // A form to sign in, behind a redirect.
    bench.server.put_page("/login", html("Who are you?"));
    bench.server.fault((PATH, Fault::redirect(302, "/login?return=hunter2")));
    let login = bench.server.url("/login");
    let error = bench.fetch().await.unwrap_err();
    assert_eq!(error.reason(), "AccessDenied");
    assert!(
        error.to_string().contains(&format!("whoever shows no credential (it leads to the web page {login})")),
        "{error}"
    );
    let error = bench.fetch_with(&[("token", "hunter2")]).await.unwrap_err();
    assert!(error.to_string().contains("this credential (it leads to the web page"), "{error}");

    // The same at another host, which is not shown credentials.
    bench.server.clear_faults();
    bench.server.fault((PATH, Fault::redirect(302, &bench.server.url_by_name("/login"))));
    let error = bench.fetch_with(&[("token", "hunter2")]).await.unwrap_err();
    assert!(error.to_string().contains("not shown credentials for another host"), "{error}");

    // A refusal there.
    bench.server.put_page("/login", Page { authorization: Some("Bearer x".into()), ..html("") });
    let error = bench.fetch_with(&[("token", "hunter2")]).await.unwrap_err();
    assert_eq!((error.reason(), error.is_transient()), ("AccessDenied", false));
    assert!(error.to_string().contains("401 Unauthorized from http://localhost:"), "{error}");

    // Refusals and failures, whose bodies are nobody's adapter.
    for (status, reason) in [
        (400, "SourceRefused"),
        (403, "AccessDenied"),
        (404, "ArtifactNotFound"),
        (416, "ArtifactChanged"),
        (500, "SourceUnavailable"),
        (503, "SourceUnavailable"),
    ] {
        bench.server.clear_faults();
        bench.server.fault(Rule::of(PATH, Fault::status(status, packed(&Adapter::tiny(1)))).only("GET"));
        assert_eq!(bench.fetch().await.unwrap_err().reason(), reason, "{status}");
    }
    assert_eq!(bench.stored(), 0);
}

#[tokio::test]
async fn what_is_larger_than_an_adapter_may_be_is_not_begun() {
    let bench = Bench::new().await;
    bench.server.put(PATH, "x");
    let raw = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n\r\n\x1f\x8b".as_slice();
    bench.server.fault(Rule::of(PATH, Fault::Raw(raw.into())).only("GET"));
    assert_eq!(bench.fetch().await.unwrap_err().reason(), "TooLarge");
    assert_eq!(bench.stored(), 0);
}

#[tokio::test]
async fn private_addresses_are_reached_where_somebody_says_so() {
    let bench = Bench::new().await;
    bench.server.put(PATH, "x");
    let wary = Web::set_up(&Setup { reach: Reach::default(), ..setup() }).unwrap();
    let error = discreet(wary.fingerprint(&bench.origin(&[])).await.unwrap_err());
    assert_eq!((error.reason(), error.fault().scope), ("AddressRefused", Scope::Artifact));
    assert!(bench.server.requests().is_empty());
    bench.fingerprint().await;
}

#[tokio::test]
async fn an_adapter_comes_whole_or_not_at_all() {
    let bench = Bench::new().await;
    let (one, two) = (Adapter::tiny(1), Adapter::tiny(2));
    let archive = packed(&one);
    let half = archive.len() as u64 / 2;

    // Connections that end are taken up again.
    bench.server.put(PATH, archive.clone());
    bench.server.fault((PATH, Fault::Cut { after: half }));
    let fetched = bench.fetch().await.unwrap();
    assert_eq!(fs::read(fetched.path.join(WEIGHTS)).unwrap(), one.weights());
    assert_eq!(bench.stored(), 1);

    // Where they cannot be, what came is nothing, and the fault is the source's.
    bench.server.clear_faults();
    bench.server.put_page(PATH, Page { etag: None, ..Page::new(archive.clone()) });
    bench.server.fault((PATH, Fault::Cut { after: half }));
    let error = bench.fetch().await.unwrap_err();
    assert_eq!((error.reason(), error.is_transient()), ("SourceFailed", true));

    // Nor can it be told from a whole one where even its length is not: the archive tells.
    bench.server.fault((PATH, Fault::Unframed));
    assert!(bench.fetch().await.is_err());

    // Another version in the middle of the first.
    bench.server.clear_faults();
    bench.server.put(PATH, archive.clone());
    bench.server.fault(Rule::of(PATH, Fault::Become { after: half, page: Page::new(packed(&two)) }).times(1));
    // So that what is stored already is not found by its tag.
    let page = bench.server.page(PATH).unwrap();
    bench.server.put_page(PATH, Page { etag: Some("\"again\"".into()), ..page });
    assert_eq!(bench.fetch().await.unwrap_err().reason(), "ArtifactChanged");
    assert_eq!(bench.stored(), 1);
    let fetched = bench.fetch().await.unwrap();
    assert_eq!(fs::read(fetched.path.join(WEIGHTS)).unwrap(), two.weights());
    assert_eq!(bench.stored(), 2);
}

#[tokio::test]
async fn an_archive_is_one_by_its_bytes_whatever_the_server_calls_it() {
    let bench = Bench::new().await;
    let page = Page::new(packed(&Adapter::tiny(1)));
    for content_type in ["text/html", "application/octet-stream", "application/x-gzip"] {
        // Some servers call a .tar.gz a tar that was packed for the way.
        for encoding in ["identity", "gzip", "x-gzip"] {
            let page = Page { content_type: Some(content_type.into()), ..page.clone() };
            bench.server.put_page(PATH, page.with_header("Content-Encoding", encoding));
            bench.fetch().await.unwrap();
        }
    }
    bench.server.fault((PATH, Fault::Chunked));
    bench.fetch().await.unwrap();
}

#[tokio::test]
async fn progress_shows_what_has_come_of_what() {
    let bench = Bench::new().await;
    let archive = packed(&Adapter::tiny(1));
    bench.server.put(PATH, archive.clone());
    let order = Order { origin: bench.origin(&[]), expect: Expect::default(), progress: Progress::default() };
    bench.artifacts.fulfil(&order).await.unwrap();
    let length = archive.len() as u64;
    assert_eq!((order.progress.bytes(), order.progress.total()), (length, Some(length)));
}
