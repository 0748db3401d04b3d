//! Against servers that lead elsewhere, and to places that nobody may reach.

use std::time::Duration;

use longshore_testkit::web::{Fault, Page, Rule, WebServer};
use longshore_types::Secret;
use reqwest::header::RETRY_AFTER;

use super::*;

/// Long enough for anything here that happens at all, with pauses that nobody notices.
pub(super) fn patience() -> Patience {
    let pause = Duration::from_millis(1);
    Patience {
        answer: Duration::from_secs(20),
        silence: Duration::from_secs(20),
        pause,
        longest_pause: pause * 2,
        ..Patience::default()
    }
}

/// A client that reaches servers of this machine.
pub(super) fn client(patience: Patience) -> Http {
    reaching(Reach { private: true, ..Reach::default() }, patience)
}

fn reaching(reach: Reach, patience: Patience) -> Http {
    rustls::crypto::ring::default_provider().install_default().ok();
    Http::with(reach, patience).unwrap()
}

async fn server(path: &str, body: &'static str) -> WebServer {
    let server = WebServer::start().await.unwrap();
    server.put(path, body);
    server
}

/// With a secret in every place that has room for one.
fn ask(url: &str) -> Ask {
    let url = format!("{url}?sig=hunter2").parse().unwrap();
    Ask::get(url).bearer("token", Some(&Secret::new("hunter2"))).unwrap()
}

/// Fails the test where a secret shows.
pub(super) fn discreet(error: Error) -> Error {
    let shown = format!("{error} {error:?} {:?}", error.fault());
    assert!(!shown.contains("hunter2"), "{shown}");
    error
}

/// The Authorization headers that a server was shown.
fn shown_to(server: &WebServer) -> Vec<Option<String>> {
    server.requests().iter().map(|request| request.header("authorization").map(str::to_owned)).collect()
}

async fn read(http: &Http, ask: &Ask) -> Result<String, Error> {
    text(http, ask, 1000).await.map(|text| String::from_utf8(text).unwrap()).map_err(discreet)
}

#[test]
fn i8_a_request_is_shown_without_its_secrets() {
    let url = "https://user:hunter2@example.com/a.tgz?sig=hunter2#hunter2".parse().unwrap();
    let ask = Ask::get(url).bearer("token", Some(&Secret::new("hunter2"))).unwrap();
    assert_eq!(ask.what(), "https://example.com/a.tgz");
    assert_eq!(format!("{ask:?}"), "GET https://example.com/a.tgz");
    assert!(!format!("{:?}", ask.private).contains("hunter2"));
    let odd = Ask::get("https://example.com".parse().unwrap()).bearer("token", Some(&Secret::new("hunter\n2")));
    assert_eq!(odd.unwrap_err().to_string(), "the credential token holds characters that no token has");
}

#[tokio::test]
async fn a_request_says_who_asks_and_that_bytes_are_to_come_as_they_are() {
    let server = server("/a", "abc").await;
    assert_eq!(read(&client(patience()), &ask(&server.url("/a"))).await.unwrap(), "abc");
    let request = server.requests().remove(0);
    assert!(request.header("user-agent").unwrap().starts_with("longshore/"));
    assert_eq!(request.header("accept-encoding"), Some("identity"));
    assert_eq!(request.header("authorization"), Some("Bearer hunter2"));
}

#[tokio::test]
async fn i8_credentials_stay_with_the_first_host() {
    let (first, second) = (server("/a", "here").await, server("/b", "there").await);
    let http = client(patience());
    let secret = Some("Bearer hunter2".to_owned());

    // The same host is shown them again.
    first.fault(Rule::of("/start", Fault::redirect(302, "/a")));
    assert_eq!(read(&http, &ask(&first.url("/start"))).await.unwrap(), "here");
    assert_eq!(shown_to(&first), [secret.clone(), secret.clone()]);

    // Another port is another server, and another name another host, wherever it is.
    for elsewhere in [second.url("/b"), second.url_by_name("/b")] {
        first.forget();
        second.forget();
        first.clear_faults();
        first.fault(Rule::of("/start", Fault::redirect(307, &elsewhere)));
        assert_eq!(read(&http, &ask(&first.url("/start"))).await.unwrap(), "there");
        assert_eq!((shown_to(&first), shown_to(&second)), (vec![secret.clone()], vec![None]));
        assert_eq!(second.requests()[0].query, None, "nor what was in the URL");
    }
    first.forget();
    first.clear_faults();
    first.fault(Rule::of("/start", Fault::redirect(302, &first.url_by_name("/a"))));
    assert_eq!(read(&http, &ask(&first.url("/start"))).await.unwrap(), "here");
    assert_eq!(shown_to(&first), [secret.clone(), None]);

    // Whoever was led elsewhere comes back as a stranger.
    first.forget();
    second.forget();
    first.clear_faults();
    first.fault(Rule::of("/start", Fault::redirect(302, &second.url("/back"))));
    second.fault(Rule::of("/back", Fault::redirect(302, &first.url("/a"))));
    assert_eq!(read(&http, &ask(&first.url("/start"))).await.unwrap(), "here");
    assert_eq!((shown_to(&first), shown_to(&second)), (vec![secret, None], vec![None]));
}

#[tokio::test]
async fn a_link_that_is_refused_elsewhere_is_no_fault_of_the_credentials() {
    let (first, second) = (server("/a", "").await, server("/b", "").await);
    second.put_page("/b", Page { authorization: Some("Bearer other".into()), ..Page::new("x") });
    first.fault(Rule::of("/a", Fault::redirect(302, &second.url("/b?sig=hunter2"))));
    let error = read(&client(patience()), &ask(&first.url("/a"))).await.unwrap_err();
    assert_eq!((error.reason(), error.is_transient()), ("SourceUnavailable", true));
    assert!(error.to_string().contains("401 Unauthorized, from the host that it leads to"), "{error}");
}

#[tokio::test]
async fn nobody_is_led_around_for_ever() {
    let server = server("/end", "done").await;
    for hop in 0..6 {
        let next = if hop == 5 { "/end".to_owned() } else { format!("/{}", hop + 1) };
        server.fault(Rule::of(&format!("/{hop}"), Fault::redirect(303, &next)));
    }
    server.fault(Rule::of("/loop", Fault::redirect(301, "loop?sig=hunter2")));
    let http = client(patience());
    assert_eq!(read(&http, &ask(&server.url("/1"))).await.unwrap(), "done");
    for endless in ["/0", "/loop"] {
        server.forget();
        let error = read(&http, &ask(&server.url(endless))).await.unwrap_err();
        assert_eq!((error.reason(), error.is_transient()), ("RedirectRefused", false));
        assert_eq!(server.requests().len(), REDIRECTS + 1);
    }
}

#[tokio::test]
async fn private_addresses_are_not_reached_on_anybodys_word() {
    let server = server("/a", "x").await;
    let port = server.addr().port();
    let wary = reaching(Reach::default(), patience());
    for host in
        ["127.0.0.1", "2130706433", "0x7f000001", "127.1", "localhost", "LOCALHOST", "[::ffff:127.0.0.1]", "[::1]"]
    {
        let error = read(&wary, &ask(&format!("http://{host}:{port}/a"))).await.unwrap_err();
        assert_eq!((error.reason(), error.is_transient()), ("AddressRefused", false), "{host}: {error}");
        assert!(error.to_string().contains("--allow-private-addresses"), "{error}");
    }
    assert!(server.requests().is_empty());
}

#[tokio::test]
async fn a_host_that_was_set_up_is_reached_and_leads_nobody_further() {
    let (set_up, other) = (server("/a", "x").await, server("/b", "y").await);
    let mut reach = Reach::default();
    reach.trust(&set_up.url("").parse().unwrap());
    reach.trust(&set_up.url_by_name("").parse().unwrap());
    let http = reaching(reach, patience());
    assert_eq!(read(&http, &ask(&set_up.url("/a"))).await.unwrap(), "x");
    assert_eq!(read(&http, &ask(&set_up.url_by_name("/a"))).await.unwrap(), "x");
    for elsewhere in [other.url("/b"), other.url_by_name("/b"), "http://169.254.169.254/latest/".into()] {
        set_up.clear_faults();
        set_up.fault(Rule::of("/start", Fault::redirect(302, &elsewhere)));
        let error = read(&http, &ask(&set_up.url("/start"))).await.unwrap_err();
        assert_eq!(error.reason(), "AddressRefused", "{elsewhere}: {error}");
    }
    assert!(other.requests().is_empty());
}

#[tokio::test]
async fn nobody_is_led_to_a_metadata_service() {
    let server = server("/a", "x").await;
    let http = client(patience());
    for never in ["http://169.254.169.254/latest/meta-data/", "//[fd00:ec2::254]/", "http://[::ffff:a9fe:a9fe]:80/"] {
        server.clear_faults();
        server.fault(("/a", Fault::redirect(302, never)));
        let error = read(&http, &ask(&server.url("/a"))).await.unwrap_err();
        assert_eq!((error.reason(), error.is_transient()), ("AddressRefused", false));
        assert!(error.to_string().ends_with("it is never reached"), "{error}");
    }
}

#[tokio::test]
async fn a_server_that_says_later_is_asked_again_and_not_for_ever() {
    let server = server("/a", "x").await;
    let http = client(patience());
    let patient = |path| {
        let (http, ask) = (http.clone(), ask(&server.url(path)));
        async move { http.patient(&ask, |answer| answer.refusal(&ask)).await.map_err(discreet) }
    };
    server.fault(Rule::of("/a", Fault::status(503, "busy")).times(2));
    server.fault(Rule::of("/a", Fault::Cut { after: 0 }).times(1));
    assert_eq!(patient("/a").await.unwrap().response.status(), 200);
    assert_eq!(server.requests().len(), 3);

    server.forget();
    server.clear_faults();
    server.fault(("/a", Fault::status(500, "<html>hunter2</html>")));
    let error = patient("/a").await.unwrap_err();
    assert_eq!((error.reason(), server.requests().len()), ("SourceUnavailable", FRUITLESS as usize));

    // Longer than anybody waits here: whoever tries again is told.
    server.forget();
    server.clear_faults();
    let headers = vec![(RETRY_AFTER.to_string(), "90".to_owned())];
    server.fault(("/a", Fault::Answer { status: 429, headers, body: Bytes::new() }));
    let error = patient("/a").await.unwrap_err();
    assert_eq!((error.retry_after(), server.requests().len()), (Some(Duration::from_secs(90)), 1));

    // What will be the same again is not asked again.
    server.forget();
    server.clear_faults();
    assert_eq!(patient("/none").await.unwrap_err().reason(), "ArtifactNotFound");
    assert_eq!(server.requests().len(), 1);
}

/// The whole of a small answer.
async fn text(http: &Http, ask: &Ask, most: usize) -> Result<Vec<u8>, Error> {
    let answer = http.patient(ask, |answer| answer.refusal(ask)).await?;
    http.body(ask, answer, most).await
}

#[tokio::test]
async fn a_small_answer_stays_small() {
    let server = server("/a", "0123456789").await;
    let http = client(patience());
    let read = |most| {
        let (http, ask) = (http.clone(), ask(&server.url("/a")));
        async move { text(&http, &ask, most).await.map(|text| text.len()).map_err(|error| discreet(error).reason()) }
    };
    assert_eq!(read(10).await, Ok(10));
    assert_eq!(read(9).await, Err("ArtifactCorrupted"));
    server.fault(("/a", Fault::Endless));
    assert_eq!(read(1 << 20).await, Err("ArtifactCorrupted"));
}

#[tokio::test]
async fn a_small_answer_is_not_waited_for_for_ever() {
    let server = server("/a", "0123456789").await;
    let short = Duration::from_millis(50);
    let failure = |patience| {
        let (client, ask) = (client(patience), ask(&server.url("/a")));
        async move { discreet(text(&client, &ask, 1 << 20).await.unwrap_err()).fault().message }
    };
    server.fault(("/a", Fault::Hang));
    assert!(failure(Patience { answer: short, ..patience() }).await.ends_with("no answer within 0.1 s"));
    server.clear_faults();
    server.fault(("/a", Fault::Stall { after: 3 }));
    assert!(failure(Patience { silence: short, ..patience() }).await.ends_with("nothing came for 0.1 s"));
    server.clear_faults();
    server.fault(("/a", Fault::Endless));
    server.fault(("/a", Fault::Trickle { bytes: 1, every: Duration::from_millis(1) }));
    let message = failure(Patience { window: short, least: 1 << 20, ..patience() }).await;
    assert!(message.contains(": only ") && message.contains(" bytes came in "), "{message}");
}

#[tokio::test]
async fn nonsense_and_nobody_are_failures_of_the_source() {
    let server = server("/a", "x").await;
    let http = client(patience());
    let endless_head = [b"HTTP/1.1 200 OK\r\nX: ".as_slice(), &vec![b'x'; 1 << 20], b"\r\n\r\n"].concat();
    for raw in [&b"nonsense"[..], b"", b"HTTP/1.1 200 OK\r\nContent-", b"HTTP/1.1 99 Odd\r\n\r\n", &endless_head] {
        server.clear_faults();
        server.fault(("/a", Fault::Raw(Bytes::copy_from_slice(raw))));
        let error = read(&http, &ask(&server.url("/a"))).await.unwrap_err();
        assert_eq!((error.reason(), error.is_transient()), ("SourceFailed", true), "{error}");
    }
    let url = server.url("/a");
    drop(server);
    let error = read(&http, &ask(&url)).await.unwrap_err();
    assert_eq!((error.reason(), error.is_transient()), ("SourceFailed", true), "{error}");
}
