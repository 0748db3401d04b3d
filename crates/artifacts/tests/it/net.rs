//! What is reached over a network on somebody's word, through the public interface.

use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use longshore_artifacts::{Artifacts, Setup, Store};
use longshore_testkit::web::{Fault, Rule, WebServer};
use longshore_types::{ArtifactUrl, Scope};

/// Set in the process that is made to have proxies in its environment.
const PROXIED: &str = "LONGSHORE_TEST_PROXIED_URL";

fn artifacts(dir: &tempfile::TempDir, setup: Setup) -> Artifacts {
    rustls::crypto::ring::default_provider().install_default().ok();
    Artifacts::from_everywhere(Store::open(dir.path()).unwrap(), setup).unwrap()
}

fn open() -> Setup {
    let (mut setup, pause) = (Setup::default(), Duration::from_millis(1));
    setup.reach.private = true;
    setup.patience.pause = pause;
    setup.patience.longest_pause = pause;
    setup
}

async fn refusal(artifacts: &Artifacts, url: &str) -> (&'static str, Scope, String) {
    let error = artifacts.fetch(&ArtifactUrl::new(url).unwrap(), None).await.unwrap_err();
    (error.reason(), error.fault().scope, error.to_string())
}

#[tokio::test]
async fn what_is_set_up_by_nobody_reaches_public_addresses_alone() {
    let dir = tempfile::tempdir().unwrap();
    let artifacts = artifacts(&dir, Setup::default());
    for host in [
        "127.0.0.1",
        "localhost",
        "2130706433",
        "0x7f.1",
        "0177.0.0.1",
        "10.0.0.1",
        "192.168.0.1",
        "[::1]",
        "[::ffff:10.0.0.1]",
        "[fd00::1]",
        "169.254.169.254",
        "2852039166",
        "[fe80::1]",
        "[fd00:ec2::254]",
        "168.63.129.16",
        "0",
    ] {
        let (reason, scope, message) = refusal(&artifacts, &format!("http://{host}:9/a.tgz")).await;
        assert_eq!((reason, scope), ("AddressRefused", Scope::Artifact), "{host}: {message}");
    }
}

#[tokio::test]
async fn a_metadata_service_is_reached_by_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let mut setup = open();
    setup.reach.trusted.insert("169.254.169.254:80".into());
    let artifacts = artifacts(&dir, setup);
    let server = WebServer::start().await.unwrap();
    server.fault(("/a.tgz", Fault::redirect(302, "http://169.254.169.254/latest/meta-data/iam/")));
    for url in ["http://169.254.169.254/a.tgz".to_owned(), server.url("/a.tgz")] {
        let (reason, _, message) = refusal(&artifacts, &url).await;
        assert_eq!(reason, "AddressRefused");
        assert!(message.ends_with("a link-local address: it is never reached"), "{message}");
    }
}

#[tokio::test]
async fn a_slow_source_holds_up_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let artifacts = Arc::new(artifacts(&dir, open()));
    let server = WebServer::start().await.unwrap();
    server.fault(("/slow.tgz", Fault::Hang));
    let slow = tokio::spawn({
        let (artifacts, url) = (artifacts.clone(), server.url("/slow.tgz"));
        async move { refusal(&artifacts, &url).await }
    });
    // It is on its way, and will be for as long as anybody has patience.
    while server.requests().is_empty() {
        tokio::task::yield_now().await;
    }
    assert_eq!(refusal(&artifacts, &server.url("/none.tgz")).await.0, "ArtifactNotFound");
    assert!(!slow.is_finished());
    slow.abort();
}

#[tokio::test]
async fn a_busy_server_is_left_to_whoever_tries_again_when_it_says() {
    let dir = tempfile::tempdir().unwrap();
    let artifacts = artifacts(&dir, open());
    let server = WebServer::start().await.unwrap();
    let headers = vec![("Retry-After".to_owned(), "120".to_owned())];
    let busy = Fault::Answer { status: 429, headers, body: "later".into() };
    server.fault(Rule::of("/a.tgz", busy));
    let url = ArtifactUrl::new(server.url("/a.tgz")).unwrap();
    let error = artifacts.fetch(&url, None).await.unwrap_err();
    assert_eq!((error.reason(), error.retry_after()), ("SourceUnavailable", Some(Duration::from_secs(120))));
    assert_eq!(server.requests().len(), 1);
}

/// A proxy would resolve names where we cannot see what they stand for, and see credentials.
#[tokio::test]
async fn proxies_of_the_environment_are_not_asked() {
    if let Ok(url) = std::env::var(PROXIED) {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(refusal(&artifacts(&dir, open()), &url).await.0, "ArtifactNotFound");
        return;
    }
    let (server, proxy) = (WebServer::start().await.unwrap(), WebServer::start().await.unwrap());
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "net::proxies_of_the_environment_are_not_asked"]).env(PROXIED, server.url("/none.tgz"));
    for name in ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"] {
        child.env(name, proxy.url(""));
    }
    for name in ["no_proxy", "NO_PROXY"] {
        child.env_remove(name);
    }
    let output = tokio::task::spawn_blocking(move || child.output().unwrap()).await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    assert!(!server.requests().is_empty() && proxy.requests().is_empty());
}
