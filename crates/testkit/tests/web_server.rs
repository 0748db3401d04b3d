//! The file server, asked by a client of few words.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on should say where")]

use std::time::{Duration, UNIX_EPOCH};

use longshore_testkit::web::{Fault, Page, Rule, WebServer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// All that comes until the connection ends.
async fn ask(server: &WebServer, method: &str, path: &str, headers: &[&str]) -> String {
    let mut stream = TcpStream::connect(server.addr()).await.unwrap();
    let headers: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
    stream.write_all(format!("{method} {path} HTTP/1.1\r\nHost: x\r\n{headers}\r\n").as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    String::from_utf8(answer).unwrap()
}

fn body(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").unwrap().1
}

async fn serving(bytes: &'static str) -> WebServer {
    let server = WebServer::start().await.unwrap();
    server.put("/a", bytes);
    server
}

#[tokio::test]
async fn a_file_is_served_whole_in_parts_and_by_its_head() {
    let server = serving("0123456789").await;
    let whole = ask(&server, "GET", "/a?key=secret", &[]).await;
    assert!(whole.starts_with("HTTP/1.1 200 OK\r\n") && whole.contains("ETag: \"84d89877f0d4041e\"\r\n"), "{whole}");
    assert_eq!(body(&whole), "0123456789");
    let part = ask(&server, "GET", "/a", &["Range: bytes=3-5", "If-Match: \"84d89877f0d4041e\""]).await;
    assert!(part.starts_with("HTTP/1.1 206 ") && part.contains("Content-Range: bytes 3-5/10\r\n"), "{part}");
    assert_eq!(body(&part), "345");
    let head = ask(&server, "HEAD", "/a", &[]).await;
    assert!(head.contains("Content-Length: 10\r\n") && body(&head).is_empty(), "{head}");
    assert!(ask(&server, "GET", "/a", &["Range: bytes=10-"]).await.contains("416 "));
    assert!(ask(&server, "GET", "/a", &["If-Match: \"else\""]).await.contains("412 "));
    assert!(ask(&server, "GET", "/b", &[]).await.contains("404 "));
    assert!(ask(&server, "PUT", "/a", &["Content-Length: 0"]).await.contains("405 "));

    let requests = server.requests();
    assert_eq!((requests[0].path.as_str(), requests[0].query.as_deref()), ("/a", Some("key=secret")));
    assert_eq!(requests[1].header("range"), Some("bytes=3-5"));
    server.forget();
    assert!(server.requests().is_empty());
}

#[tokio::test]
async fn a_file_is_given_to_whoever_is_let_in_and_only_while_it_is_unchanged() {
    let server = WebServer::start().await.unwrap();
    let modified = Some(UNIX_EPOCH + Duration::from_secs(1_000_000_000));
    let page = Page { authorization: Some("Bearer yes".into()), modified, ..Page::new("x") };
    server.put_page("/a", page.with_header("X-More", "1"));
    assert!(ask(&server, "GET", "/a", &[]).await.contains("401 "));
    assert!(ask(&server, "GET", "/a", &["Authorization: Bearer no"]).await.contains("403 "));
    let let_in = ask(&server, "GET", "/a", &["Authorization: Bearer yes"]).await;
    assert!(let_in.contains("200 ") && let_in.contains("X-More: 1\r\n"), "{let_in}");
    assert!(let_in.contains("Last-Modified: Sun, 09 Sep 2001 01:46:40 GMT\r\n"), "{let_in}");
    let earlier = ["Authorization: Bearer yes", "If-Unmodified-Since: Sun, 09 Sep 2001 01:46:39 GMT"];
    assert!(ask(&server, "GET", "/a", &earlier).await.contains("412 "));
    assert_eq!(server.page("/a").unwrap().body, "x");
    server.remove("/a");
    assert!(ask(&server, "GET", "/a", &[]).await.contains("404 "));
}

#[tokio::test]
async fn it_misbehaves_as_it_is_told() {
    let server = serving("0123456789").await;
    server.fault(Rule::of("/a", Fault::Cut { after: 4 }).times(1));
    assert_eq!(body(&ask(&server, "GET", "/a", &[]).await), "0123");
    assert_eq!(body(&ask(&server, "GET", "/a", &[]).await), "0123456789");

    server.fault(Rule::of("/a", Fault::Become { after: 2, page: Page::new("else") }).times(1));
    assert_eq!(body(&ask(&server, "GET", "/a", &[]).await), "01");
    assert_eq!(body(&ask(&server, "GET", "/a", &[]).await), "else");

    server.fault(("/a", Fault::Chunked));
    server.fault(("/a", Fault::Trickle { bytes: 3, every: Duration::from_millis(1) }));
    assert_eq!(body(&ask(&server, "GET", "/a", &[]).await), "3\r\nels\r\n1\r\ne\r\n0\r\n\r\n");
    server.clear_faults();

    server.fault(("/a", Fault::IgnoreRange));
    assert!(ask(&server, "GET", "/a", &["Range: bytes=1-"]).await.contains("200 OK"));
    server.clear_faults();
    server.fault(("/a", Fault::ContentRange("bytes 0-9/10".into())));
    assert!(ask(&server, "GET", "/a", &["Range: bytes=1-"]).await.contains("Content-Range: bytes 0-9/10\r\n"));
    server.clear_faults();
    server.fault(("/a", Fault::IgnoreConditions));
    assert!(ask(&server, "GET", "/a", &["If-Match: \"no\""]).await.contains("200 OK"));
    server.clear_faults();
    server.fault(("/a", Fault::Unframed));
    let unframed = ask(&server, "GET", "/a", &[]).await;
    assert!(!unframed.contains("Content-Length") && unframed.ends_with("\r\n\r\nelse"), "{unframed}");
    server.clear_faults();

    server.fault(Rule::of("/a", Fault::status(503, "busy")).only("GET"));
    assert!(ask(&server, "GET", "/a", &[]).await.ends_with("busy"));
    assert!(ask(&server, "HEAD", "/a", &[]).await.contains("200 OK"));
    server.clear_faults();
    server.fault(("/a", Fault::redirect(302, "/b")));
    assert!(ask(&server, "GET", "/a", &[]).await.contains("Location: /b\r\n"));
    server.clear_faults();
    server.fault(("/a", Fault::Raw("nonsense".into())));
    assert_eq!(ask(&server, "GET", "/a", &[]).await, "nonsense");
}

#[tokio::test]
async fn a_stream_without_an_end_goes_on_until_nobody_listens() {
    let server = serving("abc").await;
    server.fault(("/a", Fault::Endless));
    let mut stream = TcpStream::connect(server.addr()).await.unwrap();
    stream.write_all(b"GET /a HTTP/1.1\r\n\r\n").await.unwrap();
    let mut some = vec![0; 100_000];
    stream.read_exact(&mut some).await.unwrap();
}

#[tokio::test]
async fn silence_lasts_until_the_server_is_gone() {
    for (fault, said) in [(Fault::Hang, ""), (Fault::Stall { after: 2 }, "\r\n\r\n01")] {
        let server = serving("0123456789").await;
        server.fault(("/a", fault));
        let mut stream = TcpStream::connect(server.addr()).await.unwrap();
        stream.write_all(b"GET /a HTTP/1.1\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        while !answer.ends_with(said) {
            answer.push(char::from(stream.read_u8().await.unwrap()));
        }
        drop(server);
        assert_eq!(stream.read(&mut [0]).await.unwrap_or(0), 0);
    }
}
