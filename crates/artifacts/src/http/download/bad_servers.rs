//! Downloads from servers that misbehave.

use std::time::{Duration, UNIX_EPOCH};

use longshore_testkit::web::{Fault, Page, Rule, WebServer};

use super::super::patience::Patience;
use super::super::tests::{client, discreet, patience};
use super::*;

const PATH: &str = "/adapter.tar.gz";
const SIZE: usize = 100_000;

/// Bytes of which no two parts are the same.
fn bytes() -> Vec<u8> {
    (0_u32..).flat_map(u32::to_be_bytes).take(SIZE).collect()
}

async fn serving(page: Page) -> WebServer {
    let server = WebServer::start().await.unwrap();
    server.put_page(PATH, page);
    server
}

async fn good_server() -> WebServer {
    serving(Page::new(bytes())).await
}

async fn open(server: &WebServer, patience: Patience, checked: bool) -> Result<Download, Error> {
    let ask = Ask::get(server.url(&format!("{PATH}?sig=hunter2")).parse().unwrap());
    Download::open(&client(patience), ask, checked).await.map_err(discreet)
}

async fn rest_of(download: &mut Download) -> Result<Vec<u8>, Error> {
    let mut all = Vec::new();
    while let Some(chunk) = download.chunk().await.map_err(discreet)? {
        all.extend_from_slice(&chunk);
    }
    Ok(all)
}

async fn fetched_with(server: &WebServer, patience: Patience, checked: bool) -> Result<Vec<u8>, Error> {
    rest_of(&mut open(server, patience, checked).await?).await
}

async fn fetched(server: &WebServer) -> Result<Vec<u8>, Error> {
    fetched_with(server, patience(), false).await
}

/// The ranges that were asked for.
fn ranges(server: &WebServer) -> Vec<Option<String>> {
    server.requests().iter().map(|request| request.header("range").map(str::to_owned)).collect()
}

#[tokio::test]
async fn a_file_comes_whole_however_it_is_sent() {
    let server = good_server().await;
    let mut download = open(&server, patience(), false).await.unwrap();
    assert_eq!(download.length(), Some(SIZE as u64));
    assert_eq!(download.content_type(), Some("application/octet-stream"));
    assert_eq!((download.led_to(), download.withheld()), (None, false));
    assert!(!format!("{download:?}").contains("hunter2"));
    assert!(rest_of(&mut download).await.unwrap() == bytes());
    assert!(download.chunk().await.unwrap().is_none(), "the end stays the end");

    for fault in [
        Fault::Chunked,
        Fault::Unframed,
        Fault::Delay(Duration::from_millis(50)),
        Fault::Trickle { bytes: SIZE / 20, every: Duration::from_millis(1) },
    ] {
        server.clear_faults();
        server.fault((PATH, fault.clone()));
        assert!(fetched(&server).await.unwrap() == bytes(), "{fault:?}");
    }
}

#[tokio::test]
async fn bytes_come_as_the_server_has_them_whatever_it_calls_them() {
    // No gzip at all, so whoever unpacked it would fail.
    let server = serving(Page::new(bytes()).with_header("Content-Encoding", "gzip")).await;
    assert!(fetched(&server).await.unwrap() == bytes());
}

#[tokio::test]
async fn a_download_goes_on_where_its_connection_ended() {
    let server = good_server().await;
    server.fault((PATH, Fault::Cut { after: 40_000 }));
    assert!(fetched(&server).await.unwrap() == bytes());
    assert_eq!(ranges(&server), [None, Some("bytes=40000-".into()), Some("bytes=80000-".into())]);
    let tag = server.page(PATH).unwrap().etag;
    assert!(server.requests()[1..].iter().all(|request| request.header("if-match") == tag.as_deref()));

    // So it does without a length, and where only the end itself was lost.
    for after in [40_000, SIZE as u64] {
        server.forget();
        server.clear_faults();
        server.fault((PATH, Fault::Chunked));
        server.fault(Rule::of(PATH, Fault::Cut { after }).times(1));
        assert!(fetched(&server).await.unwrap() == bytes());
        assert_eq!(ranges(&server), [None, Some(format!("bytes={after}-"))]);
    }
}

#[tokio::test]
async fn a_server_that_falls_silent_is_left_and_asked_for_the_rest() {
    let short = Patience { silence: Duration::from_millis(100), ..patience() };
    for after in [0, 30_000] {
        let server = good_server().await;
        server.fault(Rule::of(PATH, Fault::Stall { after }).times(1));
        assert!(fetched_with(&server, short, false).await.unwrap() == bytes());
        assert_eq!(server.requests().len(), 2);
    }
    let server = good_server().await;
    server.fault((PATH, Fault::Stall { after: 0 }));
    let error = fetched_with(&server, short, false).await.unwrap_err();
    assert!(error.fault().message.ends_with("nothing came for 0.1 s"), "{error}");
    assert_eq!(server.requests().len(), FRUITLESS as usize);
}

#[tokio::test]
async fn a_server_that_never_answers_is_left() {
    let server = good_server().await;
    server.fault((PATH, Fault::Hang));
    let error = fetched_with(&server, Patience { answer: Duration::from_millis(50), ..patience() }, false).await;
    assert_eq!(error.unwrap_err().reason(), "SourceFailed");
    assert_eq!(server.requests().len(), FRUITLESS as usize);
}

#[tokio::test]
async fn a_server_that_drips_is_left() {
    let server = good_server().await;
    server.fault((PATH, Fault::Trickle { bytes: 1, every: Duration::from_millis(1) }));
    let patience = Patience { window: Duration::from_millis(100), least: 50_000, ..patience() };
    let error = fetched_with(&server, patience, false).await.unwrap_err();
    assert_eq!((error.reason(), error.is_transient()), ("SourceFailed", true));
    assert!(error.fault().message.contains(": only "), "{}", error.fault().message);
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn a_server_without_ranges_sends_all_of_it_again() {
    let server = good_server().await;
    server.fault((PATH, Fault::IgnoreRange));
    server.fault(Rule::of(PATH, Fault::Cut { after: 60_000 }).times(1));
    // It ends anew, before it is where it was.
    server.fault(Rule::of(PATH, Fault::Cut { after: 20_000 }).skip(1).times(1));
    assert!(fetched(&server).await.unwrap() == bytes());
    assert_eq!(server.requests().len(), 3);
}

#[tokio::test]
async fn a_download_that_gets_nowhere_ends() {
    let server = good_server().await;
    server.fault((PATH, Fault::Cut { after: 0 }));
    let error = fetched(&server).await.unwrap_err();
    assert_eq!((error.reason(), error.is_transient()), ("SourceFailed", true));
    assert_eq!(server.requests().len(), FRUITLESS as usize);
    assert!(error.fault().message.starts_with(&format!("cannot read {}: ", server.url(PATH))), "{error}");

    // So does one that gets nowhere by a byte at a time.
    server.forget();
    server.clear_faults();
    server.fault((PATH, Fault::Cut { after: 1 }));
    assert_eq!(fetched(&server).await.unwrap_err().reason(), "SourceFailed");
    assert_eq!(server.requests().len(), ATTEMPTS as usize - 1);
}

#[tokio::test]
async fn parts_of_two_versions_never_become_one_file() {
    let other: Vec<u8> = bytes().into_iter().map(|byte| !byte).collect();
    for heeded in [true, false] {
        let server = good_server().await;
        server.fault(Rule::of(PATH, Fault::Become { after: 50_000, page: Page::new(other.clone()) }).times(1));
        if !heeded {
            server.fault((PATH, Fault::IgnoreConditions));
        }
        let error = fetched(&server).await.unwrap_err();
        assert_eq!((error.reason(), error.is_transient()), ("ArtifactChanged", true));
        assert_eq!(server.requests().len(), 2, "asking again cannot bring the old one back");
        assert!(fetched(&server).await.unwrap() == other, "the whole of the new one can be had");
    }
}

#[tokio::test]
async fn what_cannot_be_told_from_another_version_begins_anew_elsewhere() {
    for etag in [None, Some("W/\"weak\"".to_owned())] {
        let server = serving(Page { etag, ..Page::new(bytes()) }).await;
        server.fault(Rule::of(PATH, Fault::Cut { after: 50_000 }).times(1));
        assert_eq!(fetched(&server).await.unwrap_err().reason(), "SourceFailed");
        assert_eq!(server.requests().len(), 1);
        // Where a digest stands behind it, whatever comes is put to the test.
        server.forget();
        server.clear_faults();
        server.fault(Rule::of(PATH, Fault::Cut { after: 50_000 }).times(1));
        assert!(fetched_with(&server, patience(), true).await.unwrap() == bytes());
    }
}

#[tokio::test]
async fn a_time_of_change_long_ago_tells_versions_apart() {
    let modified = Some(UNIX_EPOCH + Duration::from_secs(1_000_000_000));
    let server = serving(Page { etag: None, modified, ..Page::new(bytes()) }).await;
    server.fault(Rule::of(PATH, Fault::Cut { after: 50_000 }).times(1));
    assert!(fetched(&server).await.unwrap() == bytes());
    let condition = server.requests()[1].header("if-unmodified-since").map(str::to_owned);
    assert_eq!(condition.as_deref(), Some("Sun, 09 Sep 2001 01:46:40 GMT"));
}

#[tokio::test]
async fn another_part_than_the_rest_is_refused() {
    for said in ["bytes 0-99999/100000", "bytes 50001-99999/100000", "nonsense"] {
        let server = good_server().await;
        server.fault(Rule::of(PATH, Fault::Cut { after: 50_000 }).times(1));
        server.fault((PATH, Fault::ContentRange(said.into())));
        let error = fetched(&server).await.unwrap_err();
        assert_eq!((error.reason(), error.is_transient()), ("ArtifactCorrupted", true), "{said}");
        assert_eq!(server.requests().len(), 2);
    }
}

#[tokio::test]
async fn more_than_was_spoken_of_is_not_taken() {
    let server = good_server().await;
    let tag = server.page(PATH).unwrap().etag.unwrap();
    server.fault(Rule::of(PATH, Fault::Cut { after: 50_000 }).times(1));
    let head = format!("HTTP/1.1 206 Partial Content\r\nETag: {tag}\r\nContent-Range: bytes 50000-99999/100000\r\n");
    let raw = [head.as_bytes(), b"Content-Length: 60000\r\n\r\n", &[7; 60_000]].concat();
    server.fault(Rule::of(PATH, Fault::Raw(raw.into())).skip(1));
    let error = fetched(&server).await.unwrap_err();
    assert_eq!((error.reason(), error.is_transient()), ("ArtifactCorrupted", true));
    assert_eq!(server.requests().len(), 2);

    // What stands behind the end of an answer belongs to nothing.
    server.clear_faults();
    server.fault((PATH, Fault::Raw("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcdef".into())));
    assert_eq!(fetched(&server).await.unwrap(), b"abc");
}

#[tokio::test]
async fn an_answer_that_is_no_file_is_no_file() {
    for (status, reason) in [
        (202, "SourceRefused"),
        (204, "SourceRefused"),
        (206, "SourceRefused"),
        (304, "SourceRefused"),
        (403, "AccessDenied"),
        (404, "ArtifactNotFound"),
        (416, "ArtifactChanged"),
        (503, "SourceUnavailable"),
    ] {
        let server = good_server().await;
        server.fault((PATH, Fault::status(status, "<html>hunter2</html>")));
        assert_eq!(fetched(&server).await.unwrap_err().reason(), reason, "{status}");
    }
}

#[tokio::test]
async fn whoever_is_locked_out_in_the_middle_is_told_so() {
    let server = good_server().await;
    server.fault(Rule::of(PATH, Fault::Cut { after: 50_000 }).times(1));
    server.fault(Rule::of(PATH, Fault::status(403, "expired")).skip(1));
    assert_eq!(fetched(&server).await.unwrap_err().reason(), "AccessDenied");
    assert_eq!(server.requests().len(), 2);
}

#[tokio::test]
async fn a_server_that_is_busy_in_the_middle_is_asked_again() {
    let server = good_server().await;
    server.fault(Rule::of(PATH, Fault::Cut { after: 50_000 }).times(1));
    server.fault(Rule::of(PATH, Fault::status(503, "busy")).skip(1).times(2));
    assert!(fetched(&server).await.unwrap() == bytes());
    assert_eq!(server.requests().len(), 4);
}

#[tokio::test]
async fn each_attempt_follows_where_it_is_led() {
    // A signed URL may have run out meanwhile, so the first host is asked for another.
    let (hub, store) = (WebServer::start().await.unwrap(), good_server().await);
    hub.fault((PATH, Fault::redirect(302, &store.url(&format!("{PATH}?sig=hunter2")))));
    store.fault(Rule::of(PATH, Fault::Cut { after: 50_000 }).times(1));
    let mut download = open(&hub, patience(), false).await.unwrap();
    assert_eq!(download.led_to(), Some(store.url(PATH)));
    assert!(rest_of(&mut download).await.unwrap() == bytes());
    assert_eq!((hub.requests().len(), store.requests().len()), (2, 2));
}

#[tokio::test]
async fn a_stream_without_an_end_ends_with_whoever_listens() {
    let server = good_server().await;
    server.fault((PATH, Fault::Endless));
    let mut download = open(&server, patience(), false).await.unwrap();
    assert_eq!(download.length(), None);
    let mut got = 0;
    while got < 20 * SIZE {
        got += download.chunk().await.unwrap().unwrap().len();
    }
}
