//! What goes wrong on the way.

use std::fs;

use longshore_testkit::hub::{At, Fault, Server, Trouble};

use super::Scene;
use crate::adapter::{Adapter, CONFIG, WEIGHTS};

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
        (At::Tree, "", Trouble::Body(" ".repeat(5 << 20))),
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
