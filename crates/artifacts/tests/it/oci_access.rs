//! Who is let into a registry, and who is shown what.

use std::sync::Arc;

use longshore_artifacts::{Artifacts, Credentials, Order, Origin, Reach, Source, Store};
use longshore_testkit::registry::{Guard, Registry};
use longshore_types::{ArtifactUrl, Secret};
use serde_json::json;

use crate::adapter::Adapter;
use crate::oci::{layers, pair, source};

#[tokio::test]
async fn a_private_repository_is_read_by_whoever_may_in_every_way_of_saying_so() {
    let pair = pair().await;
    pair.push("org/private", 1);
    pair.registry.private("org/private");
    pair.registry.user("ann", "hunter2", &["org/private"]);
    pair.registry.user("bob", "hunter3", &[]);
    pair.registry.token("tok-hunter4", &["org/private"]);
    let (at, host) = ("org/private:v1", pair.registry.authority());
    // `ann:hunter2` in Base64.
    let listed = json!({"auths": {&host: {"auth": "YW5uOmh1bnRlcjI="}}}).to_string();
    let unlisted = json!({"auths": {"other.example": {"auth": "YW5uOmh1bnRlcjI="}}}).to_string();
    for guard in [Guard::Basic, Guard::Token] {
        pair.registry.guard(guard);
        for good in [
            &[("username", "ann"), ("password", "hunter2\n")][..],
            &[("token", "tok-hunter4")],
            &[(".dockerconfigjson", &listed)],
        ] {
            pair.fetch_as(at, good).await.unwrap();
        }
        for (bad, advice) in [
            (&[][..], "give a username"),
            (&[("username", "ann"), ("password", "hunter3")], "check that it is valid"),
            (&[("username", "bob"), ("password", "hunter3")], "check that it is valid"),
            (&[("token", "tok-hunter5")], "check that it is valid"),
            (&[(".dockerconfigjson", &unlisted)], "add 127.0.0.1"),
        ] {
            // What others have brought into the store is given to nobody who may not read it.
            let error = pair.fetch_as(at, bad).await.unwrap_err();
            assert_eq!((error.reason(), error.is_transient()), ("AccessDenied", false), "{guard:?} {bad:?}: {error}");
            assert!(error.to_string().contains(advice), "{error}");
            assert!(!format!("{error} {error:?}").contains("hunter"), "{error:?}");
        }
    }
    // Who may no longer is let in no longer.
    let ann = [("username", "ann"), ("password", "hunter2")];
    pair.registry.user("ann", "hunter2", &[]);
    pair.registry.expire_tokens();
    assert_eq!(pair.fetch_as(at, &ann).await.unwrap_err().reason(), "AccessDenied");
    assert_eq!(pair.artifacts.store().entries().unwrap().len(), 1);
}

#[tokio::test]
async fn a_token_is_asked_for_once_and_again_when_it_has_expired() {
    let pair = pair().await;
    pair.push("lora", 1);
    pair.registry.guard(Guard::Token);
    let tokens = || pair.registry.log().iter().filter(|seen| seen.path == "/token").count();
    pair.fetch("lora:v1").await.unwrap();
    pair.fetch("lora:v1").await.unwrap();
    assert_eq!(tokens(), 1);
    pair.registry.expire_tokens();
    pair.fetch("lora:v1").await.unwrap();
    assert_eq!(tokens(), 2);
    // One repository's token is not shown to another.
    pair.push("other", 2);
    pair.fetch("other:v1").await.unwrap();
    assert_eq!(tokens(), 3);
}

#[tokio::test]
async fn i8_credentials_are_kept_from_whomever_a_blob_is_redirected_to_and_from_debug() {
    let registry = Registry::start().await.unwrap();
    let elsewhere = registry.elsewhere();
    let source = Arc::new(source(&[registry.authority()], Reach { trusted: [elsewhere].into(), ..Reach::default() }));
    let store = tempfile::tempdir().unwrap();
    let artifacts = Artifacts::new(Store::open(store.path()).unwrap()).with_source(source.clone());
    registry.push("lora", "v1", &layers(&Adapter::tiny(1).files()));
    registry.private("lora");
    registry.user("ann", "hunter2", &["lora"]);
    registry.guard(Guard::Token);
    registry.fail(|faults| faults.redirect = true);
    let url: ArtifactUrl = format!("oci://{}/lora:v1", registry.authority()).parse().unwrap();
    let entries = [("username", Secret::new("ann")), ("password", Secret::new("hunter2"))];
    let mut order = Order::public(url);
    order.origin.credentials = Credentials::new(entries);
    artifacts.fulfil(&order).await.unwrap();
    let (there, here): (Vec<_>, Vec<_>) = registry.log().into_iter().partition(|seen| seen.elsewhere);
    assert_eq!(there.len(), 2, "the blobs of both files");
    assert!(there.iter().all(|seen| seen.authorization.is_none()), "{there:?}");
    // The password itself is shown to whoever gives out tokens alone.
    let shown: Vec<_> =
        here.iter().filter(|seen| seen.authorization.iter().any(|it| it.starts_with("Basic"))).collect();
    assert!(shown.len() == 1 && shown[0].path == "/token", "{shown:?}");
    let debug = format!("{source:?} {order:?}");
    assert!(!debug.contains("hunter2") && !debug.contains("given-"), "{debug}");
}

#[tokio::test]
async fn a_registry_that_nobody_has_configured_is_not_reached_at_a_private_address() {
    let registry = Registry::start().await.unwrap();
    registry.push("lora", "v1", &layers(&Adapter::tiny(1).files()));
    let origin = Origin::public(format!("oci://{}/lora:v1", registry.authority()).parse().unwrap());
    let refused = source(&[], Reach::default()).fingerprint(&origin).await.unwrap_err();
    assert_eq!(refused.reason(), "AddressRefused");
    let other = source(&[registry.elsewhere()], Reach::default()).fingerprint(&origin).await.unwrap_err();
    assert_eq!(other.reason(), "AddressRefused");
    assert!(registry.log().is_empty());
    source(&[], Reach { private: true, ..Reach::default() }).fingerprint(&origin).await.unwrap();
}

#[tokio::test]
async fn a_registry_cannot_have_tokens_asked_for_where_others_read_along_or_where_nobody_may_reach() {
    let registry = Registry::start().await.unwrap();
    registry.push("lora", "v1", &layers(&Adapter::tiny(1).files()));
    registry.guard(Guard::Token);
    registry.user("ann", "hunter2", &[]);
    let url: ArtifactUrl = format!("oci://{}/lora:v1", registry.authority()).parse().unwrap();
    let credentials = Credentials::new([("username", Secret::new("ann")), ("password", Secret::new("hunter2"))]);
    let origin = Origin { url, credentials };
    let (here, elsewhere) = (registry.authority(), registry.elsewhere());
    let open = Reach { private: true, ..Reach::default() };
    for (realm, reason) in [
        (format!("http://{elsewhere}/token"), "RedirectRefused"),
        ("http://192.0.2.1/token".into(), "RedirectRefused"),
        ("https://169.254.169.254/latest/meta-data".into(), "AddressRefused"),
        (format!("http://user:password@{here}/token"), "RedirectRefused"),
        ("file:///etc/passwd".into(), "RedirectRefused"),
        ("/token".into(), "RedirectRefused"),
        (format!("http://{here}/nowhere?x=y"), "SourceRefused"),
    ] {
        registry.fail(|faults| faults.realm = Some(realm.clone()));
        let error = source(std::slice::from_ref(&here), open.clone()).fingerprint(&origin).await.unwrap_err();
        assert_eq!(error.reason(), reason, "{realm}: {error}");
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
    }
    assert!(registry.log().iter().all(|seen| !seen.elsewhere));
    registry.fail(|faults| faults.realm = Some(format!("http://{elsewhere}/token")));
    source(&[here, elsewhere], Reach::default()).fingerprint(&origin).await.unwrap();
}

#[tokio::test]
async fn i7_a_page_for_strangers_does_not_let_them_in_where_the_digest_is_in_the_reference() {
    let pair = pair().await;
    let digest = pair.push("org/private", 1);
    let at = format!("org/private@{digest}");
    pair.fetch(&at).await.unwrap();
    // Whoever asks gets a page, as from a registry behind a sign-in: success, and not what was asked for.
    pair.registry.fail(|faults| faults.manifest_page = true);
    let error = pair.fetch(&at).await.unwrap_err();
    assert_eq!(error.reason(), "ArtifactCorrupted", "{error}");
}
