//! Archives on a web server.
//!
//! What comes is an archive where its first bytes say so, whatever the server calls it. What is none is mostly a page for
//! people: an error with a status of success, or a form to sign in where a redirect led. That is told as what it is, since
//! the archive would only be called broken.

mod credentials;

use std::fmt::Write as _;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use longshore_types::{ArtifactUrl, Scheme};
use reqwest::header::{ETAG, HeaderMap, HeaderValue, LAST_MODIFIED, RANGE};
use reqwest::{Method, StatusCode, Url};

use super::{Fingerprint, Setup, Source};
use crate::error::{Defect, Error};
use crate::http::download::Download;
use crate::http::range::{Validator, length_of};
use crate::http::{Answer, Ask, Http, shown};
use crate::intake::Chunks;
use crate::origin::Origin;
use crate::store::staging::Staging;

/// Bytes that are looked at before anything is unpacked. The mark of a tar archive, the latest of all, ends at byte 262.
const LOOKED_AT: usize = 512;

/// `http://` and `https://` references to archives.
///
/// Credentials: `token` (or `bearer_token`), `username` with `password`, and `headers`, a JSON object of header names and
/// values. They are shown to the named host alone, never to one that it redirects to.
#[derive(Clone, Debug)]
pub struct Web {
    http: Http,
}

impl Web {
    pub(crate) fn new(http: Http) -> Self {
        Self { http }
    }

    /// The source as it is set up. A TLS provider must have been installed.
    ///
    /// # Errors
    /// [`Error::Source`] where the system has no certificates.
    pub fn set_up(setup: &Setup) -> Result<Self, Error> {
        Ok(Self::new(Http::with(setup.reach.clone(), setup.patience)?))
    }
}

#[async_trait]
impl Source for Web {
    fn schemes(&self) -> &'static [Scheme] {
        &[Scheme::Http]
    }

    fn takes(&self) -> &'static str {
        "http:// and https:// references to archives"
    }

    async fn fingerprint(&self, origin: &Origin) -> Result<Fingerprint, Error> {
        let mut ask = Ask { method: Method::HEAD, ..ask(origin)? };
        // Servers and signatures may be for GET alone.
        let not_told = |answer: &Answer| matches!(answer.response.status().as_u16(), 403 | 405 | 501);
        let judge = |answer: &Answer| if not_told(answer) { None } else { refusal(&ask, answer) };
        let mut answer = self.http.patient(&ask, judge).await?;
        if not_told(&answer) {
            ask.method = Method::GET;
            ask.open.insert(RANGE, HeaderValue::from_static("bytes=0-0"));
            // An empty file has no first byte.
            let empty = |answer: &Answer| answer.response.status() == StatusCode::RANGE_NOT_SATISFIABLE;
            let judge = |answer: &Answer| if empty(answer) { None } else { refusal(&ask, answer) };
            answer = self.http.patient(&ask, judge).await?;
        }
        Ok(fingerprint(answer.response.headers()))
    }

    async fn fetch(&self, origin: &Origin, staging: Staging) -> Result<Staging, Error> {
        let ask = ask(origin)?;
        let what = ask.what();
        let mut download = Download::open(&self.http, ask.clone(), false).await?;
        if let Some(length) = download.length() {
            let most = staging.limits().bytes;
            if length > most {
                return Err(Defect::TooLarge { problem: format!("it has {length} bytes, of at most {most}") }.into());
            }
            staging.progress().expect(length);
        }
        let beginning = beginning(&mut download).await?;
        if is_web_page(&beginning, download.content_type()) {
            return Err(web_page(&ask, &download));
        }
        staging.receive_archive(&what, Rejoined { beginning: Some(beginning), download }).await
    }
}

/// What a refusal means. Who leads here and there for ever is not waited for, but the one who could name the right place.
fn refusal(ask: &Ask, answer: &Answer) -> Option<Error> {
    if !answer.is_refused_elsewhere(ask) {
        return answer.refusal(ask);
    }
    let advice = if answer.withheld {
        "which is not shown credentials for another host: name that URL, or make it public"
    } else {
        "and credentials would not be shown there: name that URL with credentials for it, or make it public"
    };
    Some(Error::AccessDenied {
        what: ask.what(),
        whom: "whoever shows no credential",
        status: format!("{} from {}", answer.response.status(), shown(answer.response.url())),
        advice: format!("it leads there, {advice}"),
    })
}

/// The request for the archive.
fn ask(origin: &Origin) -> Result<Ask, Error> {
    let url = parse(&origin.url)?;
    Ok(Ask { private: credentials::headers(&origin.credentials)?, ..Ask::get(url) })
}

fn parse(reference: &ArtifactUrl) -> Result<Url, Error> {
    let invalid = |problem: String| Error::ReferenceInvalid { url: reference.clone(), problem };
    let url = Url::parse(reference.as_written()).map_err(|error| invalid(format!("it is no URL: {error}")))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(invalid("it has to begin with http:// or https://".into()));
    }
    if !url.username().is_empty() || url.password().is_some() {
        let problem = "a reference is shown to many, so it has no user name or password: \
                       take them out, and give them as credentials (username, password)";
        return Err(invalid(problem.into()));
    }
    Ok(url)
}

/// By everything that a server says about versions, with the proof where there is one.
fn fingerprint(headers: &HeaderMap) -> Fingerprint {
    let mut text = String::new();
    for name in [ETAG, LAST_MODIFIED] {
        // As bytes: nobody promises that it is text. Writing to a String cannot fail.
        let _ = writeln!(text, "{name} {:?}", headers.get(&name).map(HeaderValue::as_bytes));
    }
    let _ = writeln!(text, "length {:?}", length_of(headers));
    Fingerprint::new(text, Validator::of(headers).is_some())
}

/// As many bytes as are looked at, and perhaps more; fewer where there are fewer.
async fn beginning(download: &mut Download) -> Result<Bytes, Error> {
    let mut beginning = BytesMut::new();
    while beginning.len() < LOOKED_AT {
        match download.chunk().await? {
            Some(chunk) if beginning.is_empty() && chunk.len() >= LOOKED_AT => return Ok(chunk),
            Some(chunk) => beginning.extend_from_slice(&chunk),
            None => break,
        }
    }
    Ok(beginning.freeze())
}

/// Whether this is a page for people. The server's own word counts only where the bytes are no archive's.
fn is_web_page(beginning: &[u8], content_type: Option<&str>) -> bool {
    if is_archive(beginning) {
        return false;
    }
    let media = content_type.and_then(|kind| kind.split(';').next()).unwrap_or_default().trim();
    let text = beginning.strip_prefix(b"\xef\xbb\xbf").unwrap_or(beginning).trim_ascii_start();
    let begins = |tag: &str| text.get(..tag.len()).is_some_and(|start| start.eq_ignore_ascii_case(tag.as_bytes()));
    ["text/html", "application/xhtml+xml"].iter().any(|html| media.eq_ignore_ascii_case(html))
        || ["<!doctype html", "<html", "<head", "<body"].into_iter().any(begins)
}

/// By the marks of gzip, Zstandard, zip (also an empty one) and tar.
fn is_archive(beginning: &[u8]) -> bool {
    let marks: [&[u8]; 4] = [b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"PK\x03\x04", b"PK\x05\x06"];
    marks.iter().any(|mark| beginning.starts_with(mark)) || beginning.get(257..262) == Some(b"ustar")
}

/// What it means that a page for people came.
fn web_page(ask: &Ask, download: &Download) -> Error {
    let what = ask.what();
    let Some(page) = download.led_to() else {
        let status = "with a web page in the place of an archive: name the archive's own URL, or give credentials";
        return Error::Refused { what, status: status.into() };
    };
    let whom = if ask.is_private() && !download.withheld() { "this credential" } else { "whoever shows no credential" };
    let advice = if download.withheld() {
        "it is not shown credentials for another host; name the archive's own URL"
    } else if ask.is_private() {
        "check that it is valid and may read this, and that the URL is the archive's own"
    } else {
        "if that is a form to sign in, give credentials; else name the archive's own URL"
    };
    Error::AccessDenied { what, whom, status: format!("it leads to the web page {page}"), advice: advice.into() }
}

/// What was looked at, and then the rest.
struct Rejoined {
    beginning: Option<Bytes>,
    download: Download,
}

impl Chunks for Rejoined {
    async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        match self.beginning.take().filter(|bytes| !bytes.is_empty()) {
            Some(bytes) => Ok(Some(bytes)),
            None => self.download.chunk().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use reqwest::header::{CONTENT_LENGTH, DATE, HeaderName};

    use super::*;

    fn headers(some: &[(HeaderName, &'static str)]) -> HeaderMap {
        some.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn a_reference_is_a_url_without_a_user() {
        let refused = |text: &str| parse(&text.parse().unwrap()).unwrap_err();
        for text in
            ["https://user:hunter2@example.com/a.tgz", "https://hunter2@example.com/a.tgz", "http://:hunter2@a/b"]
        {
            let error = refused(text);
            assert_eq!((error.reason(), error.is_transient()), ("ReferenceInvalid", false));
            assert!(
                !format!("{error} {error:?}").contains("hunter2") && error.to_string().contains("credentials"),
                "{error}"
            );
        }
        assert_eq!(refused("http://[::1/a").reason(), "ReferenceInvalid");
        assert_eq!(refused("http://a:99999/").reason(), "ReferenceInvalid");
        assert!(parse(&"https://example.com/a@b.tgz?x=y@z".parse().unwrap()).is_ok());
    }

    #[test]
    fn a_fingerprint_proves_what_the_server_can_prove() {
        const EARLY: &str = "Sun, 22 Nov 2026 08:00:00 GMT";
        let strong = fingerprint(&headers(&[(ETAG, "\"a\""), (CONTENT_LENGTH, "10")]));
        assert!(strong.proves_same(&strong.clone()));
        assert!(strong.differs(&fingerprint(&headers(&[(ETAG, "\"b\""), (CONTENT_LENGTH, "10")]))));
        assert!(strong.differs(&fingerprint(&headers(&[(ETAG, "\"a\""), (CONTENT_LENGTH, "11")]))));
        // The date of an answer says nothing of the file.
        let timed = |date| fingerprint(&headers(&[(LAST_MODIFIED, EARLY), (DATE, date)]));
        let (fresh, old) = (timed("Sun, 22 Nov 2026 08:00:01 GMT"), timed("Sun, 22 Nov 2026 09:00:00 GMT"));
        assert!(!fresh.differs(&old) && !fresh.proves_same(&old) && old.proves_same(&old.clone()));
        for weak in [&[(ETAG, "W/\"a\"")][..], &[(CONTENT_LENGTH, "10")], &[]] {
            let weak = fingerprint(&headers(weak));
            assert!(!weak.proves_same(&weak.clone()) && !weak.differs(&weak.clone()));
        }
    }

    #[test]
    fn a_web_page_is_told_from_an_archive_by_its_bytes() {
        let mut tar = b"<html>".to_vec();
        tar.resize(257, 0);
        tar.extend(b"ustar\0");
        for archive in [&b"\x1f\x8b\x08"[..], b"\x28\xb5\x2f\xfd", b"PK\x03\x04", b"PK\x05\x06", &tar] {
            assert!(!is_web_page(archive, Some("text/html")));
        }
        for page in [&b"<!DOCTYPE html>"[..], b"\xef\xbb\xbf \r\n<HTML lang=en>", b"<head>", b"<body>"] {
            assert!(is_web_page(page, Some("application/gzip")) && is_web_page(page, None));
        }
        assert!(is_web_page(b"Please sign in", Some("Text/HTML; charset=utf-8")));
        for other in [&b""[..], b"<", b"{\"error\": 1}", b"version https://git-lfs"] {
            assert!(!is_web_page(other, Some("application/octet-stream")) && !is_web_page(other, None));
        }
    }
}
