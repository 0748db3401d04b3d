//! The same adapter, the same outcome, whatever the version answers.

use longshore_engine::Engine;
use longshore_types::Scope::{Artifact, Engine as ThisEngine, EngineFiles};
use longshore_types::{AdapterName, Scope};

use crate::server::{Answer, HEALTH, LOAD, Server, UNLOAD, Version, error};

/// What the engine core says; each version wraps it in its own way.
enum Says {
    /// The same in both.
    Both(&'static str),
    /// Something else in each: 0.11.0, 0.32.0.
    Each(&'static str, &'static str),
}

/// An adapter that the worker refuses: 400 and bare in 0.11.0, 500 and wrapped in 0.32.0. The last three were seen in
/// 0.32.0 alone, or in neither; 0.11.0 is taken to say them as it says the rest.
const REFUSED_BY_THE_WORKER: &[(&str, Says, Scope, &str)] = &[
    (
        "no weights",
        Says::Each("/srv/a/x doesn't contain tensors", "<path> doesn't contain tensors"),
        Artifact,
        "ArtifactInvalid",
    ),
    ("corrupt weights", Says::Both("Error while deserializing header: header too large"), Artifact, "ArtifactInvalid"),
    (
        "truncated weights",
        Says::Both("Error while deserializing header: incomplete metadata, file not fully covered"),
        Artifact,
        "ArtifactInvalid",
    ),
    (
        "config is no JSON",
        Says::Both("Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"),
        Artifact,
        "ArtifactInvalid",
    ),
    ("rank too high", Says::Both("LoRA rank 64 is greater than max_lora_rank 16."), ThisEngine, "Incompatible"),
    (
        "another base model",
        Says::Both("The size of tensor a (64) must match the size of tensor b (128) at non-singleton dimension 1"),
        Artifact,
        "Incompatible",
    ),
    ("DoRA", Says::Both("vLLM does not yet support DoRA."), Artifact, "Incompatible"),
    (
        "bias",
        Says::Each("Adapter bias cannot be used without bias_enabled.", "Adapter bias is not supported."),
        Artifact,
        "Incompatible",
    ),
    (
        "modules_to_save",
        Says::Each(
            "vLLM only supports modules_to_save being None.",
            "vLLM only supports modules_to_save being either None or [\"classifier\", \"score\"] for classification \
             models. Unsupported modules_to_save: ['lm_head']",
        ),
        Artifact,
        "Incompatible",
    ),
    (
        "path is a file",
        Says::Each("[Errno 20] Not a directory: '/srv/a/x'", "[Errno 20] Not a directory: '<path>'"),
        EngineFiles,
        "ArtifactNotFound",
    ),
    ("LoRA off", Says::Both("LoRA is not enabled. Use --enable-lora to enable LoRA."), ThisEngine, "LoraDisabled"),
    ("anything else", Says::Both("CUDA error: an illegal memory access was encountered"), ThisEngine, "LoadFailed"),
];

fn wrapped(version: Version, says: &Says) -> (u16, String) {
    let words = match (says, version) {
        (Says::Both(words), _) | (Says::Each(words, _), Version::V0_11) | (Says::Each(_, words), Version::V0_32) => {
            words
        }
    };
    match version {
        Version::V0_11 => (400, error(&format!("Call to add_lora method failed: {words}"), "BadRequestError", 400)),
        Version::V0_32 => {
            let message = format!(
                "Call to add_lora method failed: Worker failed with error '{words}', please check the stack trace above \
                 for the root cause"
            );
            (500, error(&message, "InternalServerError", 500))
        }
    }
}

fn name() -> AdapterName {
    "x".parse().unwrap()
}

async fn outcome(server: &Server, status: u16, body: String) -> longshore_types::Fault {
    server.answer(LOAD, Answer::Say(status, body));
    server.engine().load(&name(), "/srv/a/x", None).await.unwrap_err()
}

#[tokio::test]
async fn an_adapter_that_the_worker_refuses_has_one_outcome_in_both_versions() {
    let (old, new) = (Server::start(Version::V0_11).await, Server::start(Version::V0_32).await);
    for (what, says, scope, reason) in REFUSED_BY_THE_WORKER {
        let mut faults = Vec::new();
        for server in [&old, &new] {
            let (status, body) = wrapped(server.version(), says);
            let fault = outcome(server, status, body).await;
            assert_eq!((fault.scope, fault.reason), (*scope, *reason), "{what}, {:?}: {fault}", server.version());
            assert!(!fault.message.contains("/srv/") && !fault.message.contains("stack trace"), "{what}: {fault}");
            faults.push(fault);
        }
        // Two of these are told in other words by each version; the sentence before them is ours.
        if !matches!(*what, "bias" | "modules_to_save") {
            assert_eq!(faults[0], faults[1], "{what}");
        }
    }
}

#[tokio::test]
async fn a_path_without_an_adapter_is_that_engines_own_fault_in_both_versions() {
    let (old, new) = (Server::start(Version::V0_11).await, Server::start(Version::V0_32).await);
    let message = "Call to add_lora method failed: Loading lora x failed: No adapter found for /srv/a/x";
    let a = outcome(&old, 404, error(message, "NotFoundError", 404)).await;
    let b = outcome(&new, 404, error("Loading lora x failed: No adapter found for <path>", "NotFoundError", 404)).await;
    assert_eq!(a, b);
    assert_eq!((a.scope, a.reason), (EngineFiles, "ArtifactNotFound"));
}

#[tokio::test]
async fn a_missing_route_is_told_from_a_missing_adapter() {
    let server = Server::start(Version::V0_32).await;
    let fault = outcome(&server, 404, r#"{"detail":"Not Found"}"#.into()).await;
    assert_eq!((fault.scope, fault.reason), (ThisEngine, "RuntimeUpdatingOff"));
    assert!(fault.message.contains("VLLM_ALLOW_RUNTIME_LORA_UPDATING=True"), "{fault}");

    server.put("x", "/srv/a/x");
    server.answer(UNLOAD, Answer::Say(404, r#"{"detail":"Not Found"}"#.into()));
    let fault = server.engine().unload(&name(), None).await.unwrap_err();
    assert_eq!((fault.scope, fault.reason), (ThisEngine, "RuntimeUpdatingOff"));
}

#[tokio::test]
async fn what_to_do_is_said_where_it_is_known() {
    let server = Server::start(Version::V0_32).await;
    let (status, body) = wrapped(Version::V0_32, &Says::Both("LoRA is not enabled. Use --enable-lora to enable LoRA."));
    assert!(outcome(&server, status, body).await.message.contains("start it with --enable-lora"));
    let fault = outcome(&server, 401, r#"{"error":"Unauthorized"}"#.into()).await;
    assert_eq!((fault.scope, fault.reason), (ThisEngine, "Unauthorized"));
    assert!(fault.message.contains("api key"), "{fault}");
}

#[tokio::test]
async fn a_refusal_for_no_known_reason_goes_by_the_engines_health() {
    let server = Server::start(Version::V0_32).await;
    let dead = error(
        "EngineCore encountered an issue. See stack trace (above) for the root cause.",
        "InternalServerError",
        500,
    );
    let fault = outcome(&server, 500, dead.clone()).await;
    assert_eq!((fault.scope, fault.reason), (ThisEngine, "LoadFailed"));

    server.answer(HEALTH, Answer::Say(503, String::new()));
    let fault = outcome(&server, 500, dead.clone()).await;
    assert_eq!((fault.scope, fault.reason), (Scope::Transient, "EngineUnhealthy"));

    server.put("x", "/srv/a/x");
    server.answer(UNLOAD, Answer::Say(500, dead));
    let fault = server.engine().unload(&name(), None).await.unwrap_err();
    assert_eq!((fault.scope, fault.reason), (Scope::Transient, "EngineUnhealthy"));
    server.answer(HEALTH, Answer::Say(200, String::new()));
    let fault = server.engine().unload(&name(), None).await.unwrap_err();
    assert_eq!((fault.scope, fault.reason), (ThisEngine, "UnloadFailed"));
}

#[tokio::test]
async fn i1_no_adapter_is_ever_asked_for_by_a_base_models_name() {
    // 0.11.0 would load it, and answer for the base model with it.
    let server = Server::start(Version::V0_11).await;
    let base: AdapterName = crate::server::BASE.parse().unwrap();
    let fault = server.engine().load(&base, "/srv/a/x", None).await.unwrap_err();
    assert_eq!(fault.reason, "NameTaken");
    server.engine().unload(&base, None).await.unwrap_err();
    assert!(server.seen(LOAD).is_empty() && server.seen(UNLOAD).is_empty());
}

#[tokio::test]
async fn a_load_says_name_and_path_and_nothing_else() {
    let server = Server::start(Version::V0_32).await;
    server.engine().load(&name(), "/srv/a/x", None).await.unwrap();
    let bodies: Vec<_> = server.seen(LOAD).into_iter().map(|seen| seen.body).collect();
    assert_eq!(bodies, [serde_json::json!({"lora_name": "x", "lora_path": "/srv/a/x"})]);
}
