//! The bytes of one file, which go on where a connection ended.

use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{ACCEPT_RANGES, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderMap, HeaderValue, IF_MATCH, RANGE};
use reqwest::{Response, StatusCode};

use super::{Ask, Http, failed, refusal, stalled};
use crate::error::Error;

/// The longest that nothing may come.
pub(crate) const IDLE: Duration = Duration::from_secs(30);
/// Attempts in a row that bring nothing.
const FRUITLESS: u32 = 5;
/// Attempts altogether: a connection that ends after each few bytes would else go on for days.
const ATTEMPTS: u32 = 100;
/// The first wait between two attempts; each further one is twice as long.
const WAIT: Duration = Duration::from_millis(200);
/// A source that asks for a longer wait is left to whoever tries the whole again.
const LONGEST_WAIT: Duration = Duration::from_secs(20);

/// A file on its way here.
#[derive(Debug)]
pub(crate) struct Download {
    http: Http,
    ask: Ask,
    response: Option<Response>,
    /// The headers of the first answer.
    headers: HeaderMap,
    at: u64,
    length: Option<u64>,
    fruitless: u32,
    attempts: u32,
    /// Whether the bytes are held against a digest behind us, so that parts of two versions cannot be taken for one.
    checked: bool,
}

impl Download {
    /// Asks for the whole of it. `checked` says that the bytes are held against a digest of the source's: then they go on
    /// even where the source does not say whether they are still the same.
    ///
    /// # Errors
    /// As [`Http::succeed`].
    pub(crate) async fn open(http: &Http, ask: Ask, checked: bool) -> Result<Self, Error> {
        let mut attempt = 0;
        let response = loop {
            match http.succeed(&ask).await {
                Ok(answer) => break answer.response,
                Err(error) if attempt + 1 < FRUITLESS && error.is_transient() => {
                    let Some(wait) = wait(attempt, &error) else { return Err(error) };
                    tokio::time::sleep(wait).await;
                    attempt += 1;
                }
                Err(error) => return Err(error),
            }
        };
        let (headers, length) = (response.headers().clone(), response.content_length());
        Ok(Self {
            http: http.clone(),
            ask,
            response: Some(response),
            headers,
            at: 0,
            length,
            fruitless: 0,
            attempts: 1,
            checked,
        })
    }

    /// Its length in bytes, where the source says.
    pub(crate) fn length(&self) -> Option<u64> {
        self.length
    }

    /// Its entity tag.
    pub(crate) fn etag(&self) -> Option<&str> {
        self.headers.get(ETAG)?.to_str().ok()
    }

    /// What the source says that it is.
    pub(crate) fn content_type(&self) -> Option<&str> {
        self.headers.get(CONTENT_TYPE)?.to_str().ok()
    }

    /// Shows `private` to the first host from now on, in the place of what it refuses. What it has refused can be asked
    /// for again after this.
    pub(crate) fn show(&mut self, private: HeaderMap) {
        self.ask.private = private;
    }

    /// The next bytes; none at the end.
    ///
    /// # Errors
    /// Where the file changes meanwhile, or the source fails again and again.
    pub(crate) async fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            let error = match self.next().await {
                Ok(Some(chunk)) => {
                    self.at += chunk.len() as u64;
                    self.fruitless = 0;
                    return Ok(Some(chunk));
                }
                Ok(None) => return Ok(None),
                Err(error) => error,
            };
            self.response = None;
            self.fruitless += 1;
            self.attempts += 1;
            let wait = wait(self.fruitless - 1, &error).filter(|_| {
                error.is_transient()
                    && !matches!(error, Error::Changed { .. })
                    && self.fruitless < FRUITLESS
                    && self.attempts < ATTEMPTS
                    && self.can_go_on()
            });
            let Some(wait) = wait else { return Err(error) };
            tokio::time::sleep(wait).await;
        }
    }

    /// Whether what would come next is sure to belong to what has come.
    fn can_go_on(&self) -> bool {
        let ranges = self.headers.get(ACCEPT_RANGES).is_none_or(|accepted| accepted != "none");
        self.at == 0 || (ranges && (self.checked || self.validator().is_some()))
    }

    /// A weak tag says nothing of bytes.
    fn validator(&self) -> Option<&HeaderValue> {
        self.headers.get(ETAG).filter(|tag| !tag.as_bytes().starts_with(b"W/"))
    }

    async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        if self.response.is_none() {
            self.response = Some(self.again().await?);
        }
        // Just made, where there was none.
        let Some(response) = &mut self.response else { return Ok(None) };
        let chunk = tokio::time::timeout(IDLE, response.chunk()).await;
        let chunk = chunk.map_err(|_| stalled(&self.ask))?.map_err(|error| failed(self.ask.what(), error))?;
        match (&chunk, self.length) {
            (None, Some(length)) if self.at < length => {
                let source = std::io::Error::new(std::io::ErrorKind::UnexpectedEof, "the connection ended early");
                Err(Error::Source { what: self.ask.what(), source })
            }
            (Some(chunk), Some(length)) if chunk.len() as u64 > length.saturating_sub(self.at) => {
                let problem = format!("more than the {length} bytes came that the source speaks of");
                Err(Error::Corrupted { what: self.ask.what(), problem })
            }
            _ => Ok(chunk),
        }
    }

    /// Asks for the rest.
    async fn again(&self) -> Result<Response, Error> {
        let mut ask = self.ask.clone();
        if self.at > 0 {
            let range = HeaderValue::from_str(&format!("bytes={}-", self.at));
            ask.open.extend(range.ok().map(|range| (RANGE, range)));
            ask.open.extend(self.validator().map(|tag| (IF_MATCH, tag.clone())));
        }
        let answer = self.http.send(&ask).await?.response;
        if let Some(error) = refusal(&ask, answer.status(), answer.headers()) {
            return Err(error);
        }
        let changed = || Error::Changed { what: self.ask.what() };
        if answer.headers().get(ETAG) != self.headers.get(ETAG) && !self.checked {
            return Err(changed());
        }
        if self.at == 0 {
            return Ok(answer);
        }
        // A source that knows no ranges would begin anew, behind what has come.
        let from = answer.headers().get(CONTENT_RANGE).and_then(|range| range.to_str().ok()).and_then(start_of);
        match (answer.status(), from) {
            (StatusCode::PARTIAL_CONTENT, Some(from)) if from == self.at => Ok(answer),
            _ => Err(changed()),
        }
    }
}

/// The first byte of `bytes 5-9/10`.
fn start_of(range: &str) -> Option<u64> {
    range.strip_prefix("bytes ")?.split('-').next()?.trim().parse().ok()
}

/// How long to wait before the next attempt; none where that is too long to wait here.
fn wait(attempt: u32, error: &Error) -> Option<Duration> {
    let asked = error.retry_after().unwrap_or_default();
    let wait = WAIT.saturating_mul(1 << attempt.min(10)).max(asked);
    (wait <= LONGEST_WAIT).then_some(wait)
}
