use super::support::*;

const FORWARDED: [&str; 11] = [
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/responses",
    "/v1/messages",
    "/v1/embeddings",
    "/v1/score",
    "/score",
    "/v1/rerank",
    "/rerank",
    "/tokenize",
    "/detokenize",
];

#[tokio::test]
async fn each_path_of_the_contract_reaches_the_engine_as_it_is() {
    let mut engine = Engine::ok("e1").await;
    let router = Router::start(table(vec![on("sql", &[&engine])], vec![base(&[&engine])])).await;
    for path in FORWARDED {
        let answered = router.post(path, asking("sql")).await;
        assert_eq!((answered.status, answered.text()), (200, "e1"), "{path}");
        let asked = engine.asked().await;
        assert_eq!((asked.method.as_str(), asked.path.as_str()), ("POST", path));
        assert_eq!(asked.body, asking("sql"));
    }
    router.post("/v1/completions?a=b&c=%2e%2e/", asking("tiny")).await;
    assert_eq!(engine.asked().await.path, "/v1/completions?a=b&c=%2e%2e/");
}

#[tokio::test]
async fn audio_is_forwarded_by_the_model_of_its_form() {
    let mut engine = Engine::ok("e1").await;
    let router = Router::start(table(vec![on("sv", &[&engine])], Vec::new())).await;
    let form = "--XX\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\n\r\nRIFF\r\n--XX\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nsv\r\n--XX--\r\n";
    for path in ["/v1/audio/transcriptions", "/v1/audio/translations"] {
        let send = |form: String, content_type: &'static str| {
            let request = router.request(http::Method::POST, path).header("content-type", content_type);
            router.send(request.body(http_body_util::Full::new(form.into())).unwrap())
        };
        let answered = send(form.to_owned(), "multipart/form-data; boundary=XX").await;
        assert_eq!((answered.status, answered.header("x-longshore-adapter")), (200, Some("sv@abababababab")));
        let asked = engine.asked().await;
        assert_eq!(asked.body, form);
        assert_eq!(asked.headers["content-type"], "multipart/form-data; boundary=XX");
        // The field alone is rewritten where the engine knows the adapter by another name.
        send(form.replace("\r\nsv\r\n", "\r\ndefault/sv\r\n"), "multipart/form-data; boundary=XX").await;
        assert_eq!(engine.asked().await.body, form);
        assert_eq!(send(form.to_owned(), "application/json").await.error(), (400, "invalid_body".to_owned()));
    }
    assert_eq!(engine.asked_so_far().len(), 0);
}

/// What must never reach an engine, in forms that a lenient reader would take for it.
const UNREACHABLE: [&str; 66] = [
    "/v1/load_lora_adapter",
    "/v1/unload_lora_adapter",
    "/load_lora_adapter",
    "/unload_lora_adapter",
    "/adapters",
    "/adapters/sql",
    "/invocations",
    "/ping",
    "/health",
    "/version",
    "/metrics",
    "/load",
    "/sleep",
    "/sleep?level=1",
    "/wake_up",
    "/is_sleeping",
    "/pause",
    "/resume",
    "/reset_prefix_cache",
    "/collective_rpc",
    "/server_info",
    "/v1/loads",
    "/get_model_info",
    "/openapi.json",
    "/docs",
    "/",
    "//",
    "/v1",
    "/v1/",
    "//v1/load_lora_adapter",
    "/v1//load_lora_adapter",
    "/v1/load_lora_adapter/",
    "/v1/load_lora_adapter//",
    "/V1/LOAD_LORA_ADAPTER",
    "/v1/Load_Lora_Adapter",
    "/v1/load%5flora%5fadapter",
    "/v1/%6c%6f%61%64_lora_adapter",
    "/%76%31/load_lora_adapter",
    "/v1%2fload_lora_adapter",
    "/v1%2Fload_lora_adapter",
    "/v1%252fload_lora_adapter",
    "/v1/./load_lora_adapter",
    "/v1/completions/../load_lora_adapter",
    "/v1/completions/%2e%2e/load_lora_adapter",
    "/v1/completions/..%2fload_lora_adapter",
    "/v1/completions%2f..%2fload_lora_adapter",
    "/v1/completions/..;/load_lora_adapter",
    "/v1/completions;/../load_lora_adapter",
    "/v1/completions;x=/v1/load_lora_adapter",
    "/v1/completions/",
    "/v1/completions/x",
    "//v1/completions",
    "/v1//completions",
    "/./v1/completions",
    "/x/../v1/completions",
    "/v1/completions%20",
    "/v1/completions%00",
    "/v1/completions%3f",
    "/v1/completions%23",
    "/v1/Completions",
    "/v1/comple%74ions",
    "/v2/completions",
    "/inference/v1/generate",
    "/v1/models/../load_lora_adapter",
    "/v1/models/..%2fload_lora_adapter",
    "/v1/chat/completions/render",
];

#[tokio::test]
async fn i1_admin_paths_are_never_reachable_however_they_are_spelt() {
    let mut engine = Engine::ok("e1").await;
    let router = Router::start(table(vec![on("sql", &[&engine])], vec![base(&[&engine])])).await;
    let body = asking("sql");
    for path in UNREACHABLE {
        for method in ["POST", "GET", "DELETE", "PUT", "PATCH", "OPTIONS", "TRACE", "FOO"] {
            // Also in the form that proxies are asked in, with another host, and with a user in front of it.
            for target in [path.to_owned(), format!("http://e1{path}"), format!("http://user@{}{path}", engine.address)]
            {
                let request = format!(
                    "{method} {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
                    body.len()
                );
                let answer = router.raw(request.as_bytes()).await;
                let status = &answer[..12];
                assert!(
                    matches!(status, "HTTP/1.1 400" | "HTTP/1.1 404" | "HTTP/1.1 405"),
                    "{method} {target}: {answer}"
                );
            }
        }
    }
    // Targets that are no paths, bytes that no URI has, and a second request hidden in the first one's body or line.
    for request in [
        "CONNECT 127.0.0.1:8000 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".to_owned(),
        "OPTIONS * HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".to_owned(),
        "POST v1/load_lora_adapter HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".to_owned(),
        "POST \\v1\\load_lora_adapter HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".to_owned(),
        "POST /v1/completions\t/v1/load_lora_adapter HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".to_owned(),
        "POST /v1/completions /v1/load_lora_adapter HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".to_owned(),
        "POST /v1/load_lora_adapter HTTP/0.9\r\n\r\n".to_owned(),
    ] {
        let answer = router.raw(request.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 4"), "{request:?}: {answer}");
    }
    assert_eq!(engine.asked_so_far().len(), 0);
}

#[tokio::test]
async fn i1_whatever_host_an_absolute_target_names_the_table_decides() {
    let mut engine = Engine::ok("e1").await;
    let router = Router::start(table(vec![on("sql", &[&engine])], Vec::new())).await;
    let body = asking("sql");
    let request = format!(
        "POST http://elsewhere:1/v1/completions?x HTTP/1.1\r\nHost: other\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    assert!(router.raw(request.as_bytes()).await.starts_with("HTTP/1.1 200"));
    let asked = engine.asked().await;
    assert_eq!(asked.path, "/v1/completions?x");
    assert_eq!(asked.headers["host"], engine.address.to_string());
}

#[tokio::test]
async fn another_method_on_a_known_path_is_refused_and_told_which_one_works() {
    let engine = Engine::ok("e1").await;
    let router = Router::start(table(vec![on("sql", &[&engine])], Vec::new())).await;
    let answered = router.get("/v1/completions").await;
    assert_eq!(answered.error(), (405, "method_not_allowed".to_owned()));
    assert_eq!(answered.header("allow"), Some("POST"));
    let answered = router.post("/v1/models", "").await;
    assert_eq!((answered.error().0, answered.header("allow")), (405, Some("GET")));
    assert_eq!(router.get("/health").await.error(), (404, "unknown_url".to_owned()));
}
