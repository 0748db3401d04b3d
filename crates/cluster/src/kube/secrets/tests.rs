use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use serde_json::json;
use tokio::time::advance;

use super::*;
use crate::kube::watch::tests::log::Log;

/// What the API server answers, and how often it was asked.
#[derive(Clone)]
enum Answer {
    Values(Vec<(&'static str, &'static str)>),
    Status(u16),
    Hang,
}

struct Server {
    answer: Mutex<Answer>,
    asked: AtomicUsize,
    paths: Mutex<Vec<String>>,
}

impl Server {
    fn new(answer: Answer) -> Arc<Self> {
        Arc::new(Self { answer: Mutex::new(answer), asked: AtomicUsize::new(0), paths: Mutex::default() })
    }

    fn answers(&self, answer: Answer) {
        *lock(&self.answer) = answer;
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

async fn serve(State(server): State<Arc<Server>>, uri: Uri) -> Response {
    server.asked.fetch_add(1, Ordering::SeqCst);
    lock(&server.paths).push(uri.path().to_owned());
    let answer = lock(&server.answer).clone();
    // Long enough for others to come and ask for the same.
    sleep(Duration::from_millis(3)).await;
    match answer {
        Answer::Hang => std::future::pending().await,
        Answer::Status(code) => {
            let status =
                json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": "hunter2", "code": code});
            (StatusCode::from_u16(code).unwrap(), status.to_string()).into_response()
        }
        Answer::Values(values) => {
            let bytes = |text: &str| serde_json::to_value(k8s_openapi::ByteString(text.as_bytes().to_vec())).unwrap();
            let data: serde_json::Map<_, _> =
                values.iter().map(|(key, value)| ((*key).to_owned(), bytes(value))).collect();
            json!({"kind": "Secret", "apiVersion": "v1", "metadata": {"name": "keys"}, "data": data})
                .to_string()
                .into_response()
        }
    }
}

/// A reader of `server`, and the names of the Secrets that it has said to be changed.
fn reader(server: &Arc<Server>) -> (Arc<SecretReader>, Arc<Mutex<Vec<String>>>) {
    let router = Router::new().fallback(serve).with_state(server.clone());
    let client = Client::new(router.into_service::<kube::client::Body>(), "default");
    let changes: Arc<Mutex<Vec<String>>> = Arc::default();
    let noted = changes.clone();
    let changed = move |name: &SecretName| lock(&noted).push(format!("{}/{}", name.namespace, name.name));
    (Arc::new(SecretReader::new(client, changed)), changes)
}

fn namespace() -> Namespace {
    Namespace::new("team").unwrap()
}

async fn key(reader: &SecretReader) -> Result<Secret, Fault> {
    reader.key(&namespace(), "keys", "vllm").await
}

fn name(name: &str) -> SecretName {
    SecretName { namespace: namespace(), name: name.into() }
}

fn one(value: &'static str) -> Answer {
    Answer::Values(vec![("vllm", value)])
}

#[tokio::test(start_paused = true)]
async fn i7_a_secret_is_read_by_its_name_in_its_namespace() {
    let server = Server::new(one("hunter2"));
    let (reader, _) = reader(&server);
    assert_eq!(key(&reader).await, Ok(Secret::new("hunter2")));
    assert_eq!(*lock(&server.paths), ["/api/v1/namespaces/team/secrets/keys"]);
    for odd in ["", "../configmaps/x", "a/b", "A", "..", "x?watch=1"] {
        assert_eq!(reader.key(&namespace(), odd, "k").await.unwrap_err().reason, "SecretNotFound", "{odd}");
    }
    assert_eq!(server.asked(), 1, "what is no name is not asked for");
}

#[tokio::test(start_paused = true)]
async fn a_value_is_read_once_a_minute_however_often_it_is_used() {
    let server = Server::new(one("hunter2"));
    let (reader, changes) = reader(&server);
    let all = futures::future::join_all((0..100).map(|_| key(&reader))).await;
    assert!(all.iter().all(|value| *value == Ok(Secret::new("hunter2"))));
    assert_eq!(server.asked(), 1, "all who asked at once");
    server.answers(one("hunter3"));
    advance(FRESH - Duration::from_secs(1)).await;
    assert_eq!(key(&reader).await, Ok(Secret::new("hunter2")));
    advance(Duration::from_secs(2)).await;
    assert_eq!(key(&reader).await, Ok(Secret::new("hunter3")));
    assert_eq!(server.asked(), 2);
    assert_eq!(*lock(&changes), ["team/keys"]);
}

#[tokio::test(start_paused = true)]
async fn i8_what_is_wrong_is_said_without_a_value() {
    let several = Answer::Values(vec![("a", "hunter2"), ("b", "hunter2"), ("odd", "hunter2 and"), ("void", " \n")]);
    let eleven = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k"].map(|key| (key, "hunter2")).to_vec();
    for (answer, key, reason, scope, words) in [
        (Answer::Status(404), "vllm", "SecretNotFound", Scope::Engine, "create it"),
        (Answer::Status(403), "vllm", "SecretForbidden", Scope::Engine, "the verb `get` on `secrets`"),
        (several.clone(), "vllm", "SecretKeyNotFound", Scope::Engine, "it has a, b, odd, void"),
        (Answer::Values(eleven), "vllm", "SecretKeyNotFound", Scope::Engine, "g, h and 3 more"),
        (Answer::Values(vec![]), "vllm", "SecretKeyNotFound", Scope::Engine, "it is empty"),
        (several.clone(), "odd", "SecretInvalid", Scope::Engine, "one word"),
        (several, "void", "SecretInvalid", Scope::Engine, "one word"),
        (Answer::Status(500), "vllm", "SecretUnreadable", Scope::Transient, "answers 500"),
        (Answer::Hang, "vllm", "SecretUnreadable", Scope::Transient, "not answered within 5 s"),
    ] {
        let server = Server::new(answer);
        let (reader, _) = reader(&server);
        let fault = reader.key(&namespace(), "keys", key).await.unwrap_err();
        assert_eq!((fault.reason, fault.scope), (reason, scope), "{fault}");
        assert!(fault.message.contains(words) && !fault.message.contains("hunter2"), "{fault}");
    }
}

#[tokio::test(start_paused = true)]
async fn i8_an_answer_that_cannot_be_read_is_quoted_nowhere() {
    let log = Log::of(tracing::Level::TRACE);
    let answer = || async { r#"{"kind":"Secret","apiVersion":"v1","metadata":{},"data":"hunter2"}"# };
    let client = Client::new(Router::new().fallback(answer).into_service::<kube::client::Body>(), "default");
    let fault = key(&SecretReader::new(client, |_| {})).await.unwrap_err();
    assert_eq!(fault.reason, "SecretUnreadable");
    let shown = format!("{fault:?} {:#?}", log.lines());
    assert!(shown.contains("processing") && !shown.contains("hunter2"), "{shown}");
}

#[tokio::test(start_paused = true)]
async fn white_space_around_a_token_is_left_out() {
    let (reader, _) = reader(&Server::new(one("hunter2\n")));
    assert_eq!(key(&reader).await, Ok(Secret::new("hunter2")));
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_the_answer_for_a_while_and_then_it_is_tried_again() {
    for failure in [Answer::Status(404), Answer::Status(500)] {
        let server = Server::new(failure);
        let (reader, _) = reader(&server);
        let all = futures::future::join_all((0..100).map(|_| key(&reader))).await;
        assert!(all.iter().all(Result::is_err));
        assert_eq!(server.asked(), 1);
        server.answers(one("hunter2"));
        assert!(key(&reader).await.is_err());
        advance(FAILURE_KEPT + Duration::from_secs(1)).await;
        assert_eq!(key(&reader).await, Ok(Secret::new("hunter2")));
    }
}

#[tokio::test(start_paused = true)]
async fn i11_an_api_server_that_is_away_takes_no_value_and_delays_nobody_for_long() {
    for away in [Answer::Hang, Answer::Status(503)] {
        let server = Server::new(one("hunter2"));
        let (reader, changes) = reader(&server);
        assert!(key(&reader).await.is_ok());
        server.answers(away);
        for _ in 0..100 {
            advance(FAILURE_KEPT + Duration::from_secs(1)).await;
            let begun = Instant::now();
            assert_eq!(key(&reader).await, Ok(Secret::new("hunter2")));
            assert!(begun.elapsed() <= SPARE_BOUND);
        }
        assert!(lock(&changes).is_empty());
        server.answers(one("hunter3"));
        advance(FAILURE_KEPT + Duration::from_secs(1)).await;
        assert_eq!(key(&reader).await, Ok(Secret::new("hunter3")));
    }
}

#[tokio::test(start_paused = true)]
async fn who_asks_while_another_reads_again_is_given_the_value_before() {
    let server = Server::new(one("hunter2"));
    let (reader, _) = reader(&server);
    assert!(key(&reader).await.is_ok());
    server.answers(Answer::Hang);
    advance(FRESH).await;
    let first = tokio::spawn({
        let reader = reader.clone();
        async move { key(&reader).await }
    });
    sleep(Duration::from_millis(10)).await;
    let begun = Instant::now();
    assert_eq!(key(&reader).await, Ok(Secret::new("hunter2")));
    assert_eq!(begun.elapsed(), Duration::ZERO);
    assert_eq!(first.await.unwrap(), Ok(Secret::new("hunter2")));
}

#[tokio::test(start_paused = true)]
async fn a_secret_in_use_that_changes_goes_or_comes_is_reported_within_a_minute() {
    let server = Server::new(Answer::Status(404));
    let (reader, changes) = reader(&server);
    assert!(key(&reader).await.is_err());
    reader.use_only([name("keys"), name("never-read")].into());
    let watching = tokio::spawn({
        let reader = reader.clone();
        async move { reader.watch_used().await }
    });
    let minute = FRESH + TURN * 2;
    for (answer, reports) in [
        (Answer::Status(404), 0),
        (one("hunter2"), 1),
        (one("hunter2"), 1),
        (Answer::Status(500), 1),
        (one("hunter3"), 2),
        (Answer::Status(403), 3),
        (Answer::Status(404), 4),
    ] {
        server.answers(answer);
        sleep(minute).await;
        assert_eq!(lock(&changes).len(), reports);
    }
    assert!(
        lock(&server.paths).iter().all(|path| path.ends_with("/keys")),
        "one that nobody has asked for is not read"
    );
    let before = server.asked();
    server.answers(one("hunter4"));
    reader.use_only(BTreeSet::new());
    sleep(UNUSED_KEPT * 2).await;
    assert_eq!(server.asked(), before, "what is not in use is not read");
    assert!(lock(&reader.entries).is_empty(), "and forgotten");
    watching.abort();
}

#[tokio::test(start_paused = true)]
async fn an_api_server_that_hangs_is_not_waited_for_in_each_secret() {
    let server = Server::new(one("hunter2"));
    let (reader, _) = reader(&server);
    let names: Vec<String> = (0..50).map(|index| format!("s{index}")).collect();
    for each in &names {
        reader.key(&namespace(), each, "vllm").await.unwrap();
    }
    reader.use_only(names.iter().map(|each| name(each)).collect());
    advance(FRESH).await;
    server.answers(Answer::Hang);
    let begun = Instant::now();
    reader.turn().await;
    assert_eq!((begun.elapsed(), server.asked()), (READ_BOUND, 51));
}

#[tokio::test(start_paused = true)]
async fn the_key_of_an_engine_is_wherever_its_pod_says() {
    let server = Server::new(one("hunter2"));
    let (reader, _) = reader(&server);
    let reference = |key: &str, optional| KeyRef { secret: "keys".into(), key: key.into(), optional };
    let found = Ok(Some(Secret::new("hunter2")));
    for (source, expected) in [
        (KeySource::None, Ok(None)),
        (KeySource::Inline(Secret::new("hunter2")), found.clone()),
        (KeySource::Secrets(vec![reference("vllm", false)]), found.clone()),
        (KeySource::Secrets(vec![reference("a", true), reference("vllm", true)]), found),
        (KeySource::Secrets(vec![reference("a", true), reference("b", true)]), Ok(None)),
        (KeySource::Secrets(vec![reference("a", false)]), Err("SecretKeyNotFound")),
    ] {
        let given = reader.of(&namespace(), &source).await.map_err(|fault| fault.reason);
        assert_eq!(given, expected, "{source:?}");
    }
}
