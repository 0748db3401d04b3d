//! Who is let in, who is told what, and what is shown to whom.

use longshore_artifacts::{Reach, Setup};
use longshore_testkit::hub::{Access, At, FakeHub, Fault, Server, Trouble};
use longshore_types::Secret;

use super::{Scene, setup};
use crate::adapter::{Adapter, WEIGHTS};

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
async fn a_repository_that_was_renamed_is_found_by_its_old_name_and_token() {
    let scene = Scene::with_adapter().await;
    scene.hub.restrict("org/adapter", Access::Private);
    scene.hub.rename("org/adapter", "other/name");
    scene.hub.admit("hf_good", "other/name");
    scene.fetch_as("hf://org/adapter", "token", "hf_good").await.unwrap();
    assert_eq!(scene.fetch("hf://org/adapter").await.unwrap_err().reason(), "ArtifactNotFound");
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
