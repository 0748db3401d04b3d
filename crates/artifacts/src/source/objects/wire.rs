//! HTTP for the store's client, by the rules that all of ours goes by.
//!
//! What is no success ends here, as an [`Answered`]: of a refusal the client above would keep a text, in which there may be
//! anything. An answer is also held against what was asked for, since not every store knows ranges and entity tags.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::StreamExt;
use http::header::{CONTENT_LENGTH, CONTENT_RANGE, ETAG, HeaderMap, IF_MATCH, RANGE};
use http::{Method, Request, StatusCode};
use opendal::{Buffer, HttpBody, HttpTransport};
use reqwest::{Response, Url};

use super::failure::{Answered, carry};
use crate::error::Error;
use crate::http::reach::authority;
use crate::http::{Http, failed, retry_after, shown};

/// The longest answer that is no part of an object. A page of a listing has 1,000 keys of 1,024 bytes at most, which may
/// stand in XML at several times their length.
const LONGEST: u64 = 8 << 20;
/// Of a refusal this much is read. Amazon's take some hundred bytes.
const REFUSAL: usize = 64 << 10;
/// The clouds' metadata services.
const METADATA: [&str; 2] = ["169.254.169.254:80", "metadata.google.internal:80"];

/// A client that goes by no rules, for [`METADATA`] alone.
pub(super) fn metadata_client() -> Result<reqwest::Client, Error> {
    let redirects = reqwest::redirect::Policy::none();
    let client = reqwest::Client::builder().redirect(redirects).no_proxy().connect_timeout(Duration::from_secs(2));
    client.timeout(Duration::from_secs(10)).build().map_err(|error| failed("the system's certificates", error))
}

/// Sends what the client above has made and signed.
#[derive(Clone, Debug)]
pub(super) struct Wire {
    http: Http,
    /// Hosts, as `host:port`, that a person has configured.
    trusted: BTreeSet<String>,
    /// Reaches the metadata services, and nothing else; only where somebody allows it.
    metadata: Option<reqwest::Client>,
    /// Where sessions are given out, if not where the client above would ask for them.
    sts: Option<Url>,
}

impl Wire {
    pub(super) fn new(http: Http, metadata: Option<reqwest::Client>) -> Self {
        Self { http, trusted: BTreeSet::new(), metadata, sts: None }
    }

    /// Also reaches the host of `url` where it is private, and `bucket` as a host below it.
    pub(super) fn trust(&mut self, url: &Url, bucket: &str) {
        if let Some(authority) = authority(url) {
            self.trusted.insert(format!("{bucket}.{authority}"));
            self.trusted.insert(authority);
        }
    }

    /// Reaches no metadata service: the endpoint is not this process's own, and could be one.
    pub(super) fn stay_outside(&mut self) {
        self.metadata = None;
    }

    /// Asks for sessions there.
    pub(super) fn sessions_from(&mut self, url: Url) {
        self.trusted.extend(authority(&url));
        self.sts = Some(url);
    }

    async fn send(&self, request: Request<Buffer>) -> Result<Response, Error> {
        let (parts, body) = request.into_parts();
        let invalid = |_| Error::Source {
            what: "the object store".into(),
            source: std::io::Error::new(std::io::ErrorKind::InvalidInput, "its URL cannot be one"),
        };
        let mut url = Url::parse(&parts.uri.to_string()).map_err(invalid)?;
        if let Some(sts) = self.sts.as_ref().filter(|_| url.host_str().is_some_and(is_sts)) {
            let query = url.query().map(str::to_owned);
            url = sts.clone();
            url.set_query(query.as_deref());
        }
        let authority = authority(&url).unwrap_or_default();
        let mut sent = reqwest::Request::new(parts.method, url);
        *sent.headers_mut() = parts.headers;
        if !body.is_empty() {
            *sent.body_mut() = Some(body.to_bytes().into());
        }
        match &self.metadata {
            Some(client) if METADATA.contains(&authority.as_str()) => {
                let what = shown(sent.url());
                client.execute(sent).await.map_err(|error| failed(what, error))
            }
            _ => self.http.pass(sent, self.trusted.contains(&authority)).await,
        }
    }
}

fn is_sts(host: &str) -> bool {
    let own = host.strip_suffix(".amazonaws.com").or_else(|| host.strip_suffix(".amazonaws.com.cn"));
    // With its region or without; a bucket may be called so too.
    own.is_some_and(|own| {
        own == "sts" || own.strip_prefix("sts.").is_some_and(|region| !region.contains('.')) && own != "sts.s3"
    })
}

impl HttpTransport for Wire {
    async fn fetch(&self, request: Request<Buffer>) -> opendal::Result<http::Response<HttpBody>> {
        let asked = Asked::of(request.method(), request.headers());
        let mut response = self.send(request).await.map_err(carry)?;
        if !response.status().is_success() {
            let refusal = refusal(response).await;
            // The client above counts its own waits and knows of no others.
            if let Some(wait) = refusal.wait() {
                tokio::time::sleep(wait).await;
            }
            return Err(refusal.into());
        }
        let most = asked.judge(response.status(), response.headers()).map_err(carry)?;
        let length = (!asked.is_head).then(|| length(response.headers())).flatten();
        let mut answer = http::Response::builder().status(response.status());
        if let Some(headers) = answer.headers_mut() {
            std::mem::swap(headers, response.headers_mut());
        }
        let what = shown(response.url());
        let mut got: u64 = 0;
        let chunks = response.bytes_stream().map(move |chunk| {
            let chunk = chunk.map_err(|error| carry(failed(what.clone(), error)))?;
            got += chunk.len() as u64;
            if got > most {
                let problem = format!("more than the {most} bytes came that were asked for");
                return Err(carry(Error::Corrupted { what: what.clone(), problem }));
            }
            Ok(Buffer::from(chunk))
        });
        let body = HttpBody::new(chunks, length);
        answer.body(body).map_err(|_| opendal::Error::new(opendal::ErrorKind::Unexpected, "an answer without a head"))
    }
}

/// What a refusal says, without what it shows.
async fn refusal(mut response: Response) -> Answered {
    let mut text = Vec::new();
    // What does not come is not missed: the status says the most.
    let read = async {
        while let Ok(Some(chunk)) = response.chunk().await {
            text.extend_from_slice(&chunk[..chunk.len().min(REFUSAL - text.len())]);
            if text.len() == REFUSAL {
                break;
            }
        }
    };
    let _ = tokio::time::timeout(Duration::from_secs(5), read).await;
    let header = |name: &str| response.headers().get(name)?.to_str().ok().map(str::to_owned);
    let text = String::from_utf8_lossy(&text);
    let code = header("x-ms-error-code").or_else(|| element(&text, "Code"));
    let region = header("x-amz-bucket-region").or_else(|| element(&text, "Region"));
    Answered {
        status: response.status(),
        code: code.filter(|code| is_word(code)),
        region: region.filter(|region| is_word(region)),
        retry_after: retry_after(response.headers()),
    }
}

/// The text of the first `name` in a small XML document.
fn element(text: &str, name: &str) -> Option<String> {
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    let (inner, _) = rest.split_once(&format!("</{name}>"))?;
    Some(inner.trim().to_owned())
}

/// Whether something is short and plain enough to be shown.
fn is_word(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'))
}

fn length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// What was asked for.
#[derive(Debug)]
struct Asked {
    is_head: bool,
    /// The first byte, and the last.
    range: Option<(u64, u64)>,
    tag: Option<String>,
}

impl Asked {
    fn of(method: &Method, headers: &HeaderMap) -> Self {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
        let range = text(RANGE).and_then(|range| bounds(range.strip_prefix("bytes=")?));
        Self { is_head: method == Method::HEAD, range, tag: text(IF_MATCH).map(unquoted) }
    }

    /// Holds the head of a success against it. The most bytes that may come, otherwise.
    fn judge(&self, status: StatusCode, headers: &HeaderMap) -> Result<u64, Error> {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
        let what = || "an object".to_owned();
        // Not every store knows the condition, but nearly all say what they send.
        if let (Some(asked), Some(came)) = (&self.tag, text(ETAG))
            && *asked != unquoted(came)
        {
            return Err(Error::Changed { what: what() });
        }
        let Some((first, last)) = self.range.filter(|_| !self.is_head) else { return Ok(LONGEST) };
        let most = last - first + 1;
        let came = text(CONTENT_RANGE).and_then(|range| bounds(range.strip_prefix("bytes ")?.split('/').next()?));
        let whole = status == StatusCode::OK && first == 0 && length(headers) == Some(most);
        let part = status == StatusCode::PARTIAL_CONTENT && came == Some((first, last));
        if whole || part {
            return Ok(most);
        }
        let problem = "other bytes came than were asked for".to_owned();
        Err(Error::Corrupted { what: what(), problem })
    }
}

/// The numbers of `5-9`.
fn bounds(range: &str) -> Option<(u64, u64)> {
    let (first, last) = range.split_once('-')?;
    let bounds: (u64, u64) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
    (bounds.0 <= bounds.1).then_some(bounds)
}

fn unquoted(tag: &str) -> String {
    tag.trim().trim_start_matches("W/").trim_matches('"').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(range: &str) -> Asked {
        let mut headers = HeaderMap::new();
        headers.insert(RANGE, range.parse().unwrap());
        headers.insert(IF_MATCH, "\"abc\"".parse().unwrap());
        Asked::of(&Method::GET, &headers)
    }

    fn judged(asked: &Asked, status: u16, headers: &[(&'static str, &str)]) -> Result<u64, &'static str> {
        let headers = headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
        asked.judge(StatusCode::from_u16(status).unwrap(), &headers).map_err(|error| error.reason())
    }

    #[test]
    fn only_the_bytes_that_were_asked_for_are_taken() {
        let (begin, later) = (asked("bytes=0-9"), asked("bytes=10-19"));
        assert_eq!(judged(&begin, 206, &[("content-range", "bytes 0-9/20")]), Ok(10));
        assert_eq!(judged(&begin, 200, &[("content-length", "10")]), Ok(10));
        assert_eq!(judged(&later, 206, &[("content-range", "bytes 10-19/20")]), Ok(10));
        for (asked, status, headers) in [
            (&later, 200, [("content-length", "10")]),
            (&later, 206, [("content-range", "bytes 0-9/20")]),
            (&later, 206, [("content-range", "bytes 10-18/19")]),
            (&begin, 200, [("content-length", "20")]),
            (&begin, 200, [("content-type", "text/html")]),
        ] {
            assert_eq!(judged(asked, status, &headers), Err("ArtifactCorrupted"), "{headers:?}");
        }
    }

    #[test]
    fn another_version_is_not_taken_for_the_one_that_was_asked_for() {
        let asked = asked("bytes=0-9");
        let with = |tag| judged(&asked, 206, &[("content-range", "bytes 0-9/10"), ("etag", tag)]);
        assert_eq!((with("\"abc\""), with("abc")), (Ok(10), Ok(10)));
        assert_eq!(with("\"def\""), Err("ArtifactChanged"));
    }

    #[test]
    fn of_a_refusal_only_plain_words_are_kept() {
        let text = "<?xml?><Error><Code>SlowDown</Code><Message>hunter2</Message></Error>";
        assert_eq!(element(text, "Code").as_deref(), Some("SlowDown"));
        assert!(element("<html>", "Code").is_none());
        assert!(is_word("SlowDown") && !is_word("a b") && !is_word("") && !is_word(&"x".repeat(65)));
    }
}
