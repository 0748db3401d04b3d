use http::{Method, StatusCode};
use http_body_util::Full;
use longshore_routing::{Endpoint, RouteState};
use longshore_types::EngineKind;

use super::support::*;

/// An engine that says itself what served, as if it were in front of another router.
async fn boasting() -> Engine {
    Engine::with("e1", |_| async {
        let mut response = answer(StatusCode::OK, "e1");
        response.headers_mut().insert("x-longshore-adapter", "other@000000000000".parse().unwrap());
        response
    })
    .await
}

#[tokio::test]
async fn i1_an_adapters_answer_says_which_bytes_served_and_a_base_models_says_nothing() {
    let mut engine = boasting().await;
    let unverified = Endpoint { digest: None, ..engine.endpoint() };
    let adapters = vec![on("sql", &[&engine]), adapter("old", RouteState::Ready(vec![unverified]))];
    let router = Router::start(table(adapters, vec![base(&[&engine])])).await;
    for (model, served_by) in [
        ("sql", Some("sql@abababababab")),
        ("default/sql", Some("sql@abababababab")),
        ("old", Some("old")),
        ("tiny", None),
    ] {
        let request =
            router.request(Method::POST, "/v1/completions").header("x-longshore-adapter", "mine@111111111111");
        let answered = router.send(request.body(Full::new(asking(model).into())).unwrap()).await;
        assert_eq!(answered.status, 200);
        let said: Vec<_> =
            answered.headers.get_all("x-longshore-adapter").iter().map(|v| v.to_str().unwrap()).collect();
        assert_eq!(said, served_by.into_iter().collect::<Vec<_>>(), "{model}");
        assert!(!engine.asked().await.headers.contains_key("x-longshore-adapter"), "the client's own does not pass");
    }
}

#[tokio::test]
async fn i1_an_answer_of_the_proxys_own_does_not_claim_an_adapter() {
    let router = Router::start(table(vec![not_ready("sql", "Loading", "", "")], Vec::new())).await;
    for model in ["sql", "ghost"] {
        assert_eq!(router.ask(model).await.header("x-longshore-adapter"), None);
    }
}

#[tokio::test]
async fn a_bare_name_reaches_the_engine_byte_for_byte_and_a_full_one_by_the_engines_own() {
    let mut engine = Engine::ok("e1").await;
    let router = Router::start(table(vec![on("sql", &[&engine])], vec![base(&[&engine])])).await;
    let odd = r#" { "n" : 1.0e0, "model" : "s\u0071l" , "x":"ä" }  "#;
    router.post("/v1/completions", odd).await;
    assert_eq!(engine.asked().await.body, odd);
    router.post("/v1/completions", odd.replace("s\\u0071l", "default\\/sql")).await;
    assert_eq!(engine.asked().await.body, odd.replace("s\\u0071l", "sql"));
    router.post("/v1/completions", odd.replace("s\\u0071l", "default/tiny")).await;
    assert_eq!(engine.asked().await.body, odd.replace("s\\u0071l", "tiny"));
}

#[tokio::test]
async fn i1_sglang_is_asked_for_base_and_adapter_together() {
    let mut engine = Engine::ok("e1").await;
    let sglang = |base: Option<&str>| Endpoint {
        kind: EngineKind::Sglang,
        base_model: base.map(|base| base.parse().unwrap()),
        ..engine.endpoint()
    };
    let adapters = vec![
        adapter("sql", RouteState::Ready(vec![sglang(Some("tiny"))])),
        // It would answer for the bare name with its base model.
        adapter("blind", RouteState::Ready(vec![sglang(None)])),
    ];
    let mut bases = base(&[]);
    bases.endpoints = vec![sglang(Some("tiny"))];
    let router = Router::start(table(adapters, vec![bases])).await;
    assert_eq!(router.ask("sql").await.header("x-longshore-adapter"), Some("sql@abababababab"));
    assert_eq!(engine.asked().await.json()["model"], "tiny:sql");
    assert_eq!(router.ask("tiny").await.status, 200);
    assert_eq!(engine.asked().await.json()["model"], "tiny");
    assert_eq!(router.ask("blind").await.error(), (503, "engine_unavailable".to_owned()));
    for model in ["tiny", "sql"] {
        let body = serde_json::json!({"model": model, "lora_path": "other"}).to_string();
        let answered = router.post("/v1/completions", body).await;
        assert_eq!(answered.error(), (400, "invalid_body".to_owned()));
        assert_eq!(answered.json()["error"]["param"], "lora_path");
    }
    assert_eq!(router.ask("tiny:sql").await.status, 404, "only names of the table are names");
    assert_eq!(engine.asked_so_far().len(), 0);
}

#[tokio::test]
async fn i1_sglangs_way_to_say_that_it_lacks_an_adapter_is_understood() {
    let lacking = Engine::always(
        "e1",
        400,
        r#"{"object":"error","message":"Got LoRA adapter that has never been loaded: sql","type":"BadRequestError","param":null,"code":400}"#,
    )
    .await;
    let endpoint = Endpoint { kind: EngineKind::Sglang, ..lacking.endpoint() };
    let mut router = Router::start(table(vec![adapter("sql", RouteState::Ready(vec![endpoint]))], Vec::new())).await;
    assert_eq!(router.ask("sql").await.error(), (503, "engine_unavailable".to_owned()));
    assert_eq!(router.missing.recv().await.unwrap().name.as_str(), "sql");
}
