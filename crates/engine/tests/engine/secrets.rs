//! Keys: which one goes where, and that none is ever shown.

use longshore_engine::{Engine, Vllm};
use longshore_types::{AdapterName, Fault, Secret};

use crate::server::{Answer, HEALTH, LOAD, METRICS, MODELS, Server, UNLOAD, Version, base_only};

const OWN: &str = "own-marked-key";
const GIVEN: &str = "given-marked-key";

fn name() -> AdapterName {
    "x".parse().unwrap()
}

fn with_own_key(server: &Server) -> Vllm {
    server.engine_with(|config| config.api_key = Some(Secret::new(OWN)))
}

#[tokio::test]
async fn the_given_key_is_for_the_change_and_the_engines_own_for_the_rest() {
    let server = Server::start(Version::V0_32).await;
    let engine = with_own_key(&server);
    let keys = |path: &str| server.seen(path).into_iter().map(|seen| seen.key.unwrap_or_default()).collect::<Vec<_>>();
    let (own, given) = (format!("Bearer {OWN}"), format!("Bearer {GIVEN}"));

    engine.load(&name(), "/srv/a/x", Some(&Secret::new(GIVEN))).await.unwrap();
    engine.unload(&name(), None).await.unwrap();
    engine.signals().await.unwrap();
    assert_eq!(keys(LOAD), std::slice::from_ref(&given));
    assert_eq!(keys(UNLOAD), std::slice::from_ref(&own));
    assert_eq!(keys(METRICS), std::slice::from_ref(&own));
    assert!(keys(MODELS).iter().all(|key| *key == own));
}

#[tokio::test]
async fn the_given_key_lists_too_where_the_engine_has_none_of_its_own() {
    let server = Server::start(Version::V0_32).await;
    server.engine().load(&name(), "/srv/a/x", Some(&Secret::new(GIVEN))).await.unwrap();
    assert_eq!(server.seen(MODELS)[0].key.as_deref(), Some(format!("Bearer {GIVEN}").as_str()));
}

#[tokio::test]
async fn i8_a_key_that_no_header_can_carry_is_refused_and_not_shown() {
    let server = Server::start(Version::V0_32).await;
    let fault = server.engine().load(&name(), "/srv/a/x", Some(&Secret::new("marked\n"))).await.unwrap_err();
    assert_eq!(fault.reason, "Unauthorized");
    assert!(fault.message.contains("line break") && !fault.message.contains("marked"), "{fault}");
    assert!(server.seen(MODELS).is_empty());
}

/// Asks everything, and keeps what went wrong.
async fn ask_all(engine: &Vllm) -> Vec<Fault> {
    let given = Secret::new(GIVEN);
    let mut faults = Vec::new();
    faults.extend(engine.models().await.err());
    faults.extend(engine.signals().await.err());
    faults.extend(engine.load(&name(), "/srv/a/x", Some(&given)).await.err());
    faults.extend(engine.unload(&name(), Some(&given)).await.err());
    faults
}

#[tokio::test]
async fn i8_an_engine_that_echoes_its_key_is_not_quoted_with_it() {
    let forms = [
        "key {key}",
        r#"{"error": {"message": "bad key {key}, Bearer {key}", "code": 1}}"#,
        r#"{"error": "not {key}"}"#,
        r#"{"detail": "{key}"}"#,
        r#"{"data": "{key}"}"#,
        r#"{"data": [{"id": "x", "root": "/srv/{key}", "parent": "b"}]}"#,
        "process_start_time_seconds {key}",
    ];
    let mut count = 0;
    for body in forms {
        for status in [200, 307, 400, 401, 404, 500, 502, 504] {
            for path in [MODELS, METRICS, LOAD, UNLOAD] {
                let server = Server::start(Version::V0_32).await;
                server.put("x", "/srv/other");
                if path == LOAD {
                    server.answer(MODELS, Answer::Say(200, base_only()));
                }
                server.answer(path, Answer::Echo(status, body));
                server.answer(HEALTH, Answer::Echo(status, body));
                let engine = with_own_key(&server);
                assert!(!format!("{engine:?}").contains("marked"));
                for fault in ask_all(&engine).await {
                    count += 1;
                    assert!(!format!("{fault:?} {fault}").contains("marked"), "{path} {status} {body}: {fault}");
                }
                // The key did arrive, so there was something to echo.
                assert!(server.seen(path).iter().all(|seen| seen.key.as_deref().is_some_and(|k| k.contains("marked"))));
                assert!(!server.seen(path).is_empty(), "{path}");
            }
        }
    }
    assert!(count > forms.len() * 8 * 4, "{count} faults");
}
