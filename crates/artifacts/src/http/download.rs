//! The bytes of one file, which go on where a connection ended.

#[cfg(test)]
mod bad_servers;

use std::fmt;
use std::io;

use bytes::{Buf as _, Bytes};
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue, RANGE};
use reqwest::{Response, StatusCode, Url};

use super::patience::Meter;
use super::range::{ContentRange, Validator, length_of};
use super::{Answer, Ask, FRUITLESS, Http, may_pass, shown};
use crate::error::Error;

/// Attempts that every file may have beside those for its length: a connection that ends after each few bytes would else go
/// on for days.
const ATTEMPTS: u32 = 100;
/// One attempt more for each so many bytes, since what breaks connections may do so by the gigabyte.
const BYTES_AN_ATTEMPT: u64 = 16 << 20;

/// A file on its way here.
pub(crate) struct Download {
    http: Http,
    ask: Ask,
    response: Option<Response>,
    /// The headers of the first answer.
    headers: HeaderMap,
    /// Where the first answer came from in the end.
    from: Url,
    withheld: bool,
    known: Known,
    /// Bytes that come again and are not to be given out again.
    skip: u64,
    ended: bool,
    fruitless: u32,
    attempts: u32,
    meter: Meter,
}

impl Download {
    /// Asks for the whole of it. `checked` says that the bytes are held against a digest of the source's: then they go on
    /// even where the source does not say whether they are still the same.
    ///
    /// # Errors
    /// As [`Http::patient`]; what is no whole file is no success.
    pub(crate) async fn open(http: &Http, ask: Ask, checked: bool) -> Result<Self, Error> {
        let answer = http.patient(&ask, |answer| answer.refusal(&ask)).await?;
        let Answer { response, withheld, .. } = answer;
        if !is_whole(response.status()) {
            return Err(Error::Refused { what: ask.what(), status: response.status().to_string() });
        }
        let headers = response.headers().clone();
        Ok(Self {
            known: Known { at: 0, length: response.content_length(), validator: Validator::of(&headers), checked },
            http: http.clone(),
            ask,
            from: response.url().clone(),
            withheld,
            response: Some(response),
            headers,
            skip: 0,
            ended: false,
            fruitless: 0,
            attempts: 1,
            meter: Meter::default(),
        })
    }

    /// Its length in bytes, where the source says.
    pub(crate) fn length(&self) -> Option<u64> {
        self.known.length
    }

    /// What the source says that it is.
    pub(crate) fn content_type(&self) -> Option<&str> {
        self.headers.get(CONTENT_TYPE)?.to_str().ok()
    }

    /// Whose answer it is, where that is another's than who was asked: its URL, without what may be secret.
    pub(crate) fn led_to(&self) -> Option<String> {
        (self.from != self.ask.url).then(|| shown(&self.from))
    }

    /// Whether there are credentials that whoever sends it was not shown.
    pub(crate) fn withheld(&self) -> bool {
        self.withheld
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
                    self.known.at += chunk.len() as u64;
                    self.fruitless = 0;
                    return Ok(Some(chunk));
                }
                Ok(None) => return Ok(None),
                Err(error) => error,
            };
            (self.response, self.skip) = (None, 0);
            self.fruitless += 1;
            self.attempts += 1;
            let again = may_pass(&error)
                && !self.meter.is_too_slow()
                && self.fruitless < FRUITLESS
                && u64::from(self.attempts) < u64::from(ATTEMPTS) + self.known.at / BYTES_AN_ATTEMPT
                && self.known.can_go_on();
            let Some(pause) = self.http.patience.pause_after(self.fruitless, &error).filter(|_| again) else {
                return Err(error);
            };
            tokio::time::sleep(pause).await;
        }
    }

    async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        if self.response.is_none() && !self.ended {
            self.again().await?;
        }
        while let Some(response) = &mut self.response {
            let Some(mut chunk) = self.http.chunk(&self.ask, response, &mut self.meter).await? else {
                if self.skip > 0 || self.known.length.is_some_and(|length| self.known.at < length) {
                    let source = io::Error::new(io::ErrorKind::UnexpectedEof, "the connection ended early");
                    return Err(Error::Source { what: self.ask.what(), source });
                }
                return Ok(None);
            };
            let again = self.skip.min(chunk.len() as u64);
            self.skip -= again;
            // No more than the chunk's length, which is a usize.
            chunk.advance(usize::try_from(again).unwrap_or(chunk.len()));
            if let Some(length) =
                self.known.length.filter(|length| chunk.len() as u64 > length.saturating_sub(self.known.at))
            {
                let problem = format!("more came than the {length} bytes that the source speaks of");
                return Err(Error::Corrupted { what: self.ask.what(), problem });
            }
            if !chunk.is_empty() {
                return Ok(Some(chunk));
            }
        }
        Ok(None)
    }

    /// Asks for the rest.
    async fn again(&mut self) -> Result<(), Error> {
        let mut ask = self.ask.clone();
        if self.known.at > 0 {
            // Digits are fine in a header.
            ask.open
                .extend(HeaderValue::from_str(&format!("bytes={}-", self.known.at)).ok().map(|range| (RANGE, range)));
            ask.open.extend(self.known.validator.as_ref().map(Validator::condition));
        }
        let answer = self.http.send(&ask).await?;
        let rest = self.known.rest(&self.ask.what(), answer.response.status(), answer.response.headers())?;
        match rest.map_or_else(|| answer.refusal(&ask).map_or(Ok(Rest::Nothing), Err), Ok)? {
            Rest::Nothing => self.ended = true,
            Rest::Behind(skip) => {
                if self.known.at == 0 {
                    // Nothing of another version has come.
                    self.known.validator = Validator::of(answer.response.headers());
                }
                (self.response, self.skip) = (Some(answer.response), skip);
            }
        }
        Ok(())
    }
}

/// Without headers and query: both may let somebody in.
impl fmt::Debug for Download {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Download").field("ask", &self.ask).field("at", &self.known.at).finish_non_exhaustive()
    }
}

/// Whether an answer of this status is the whole of a file: 203 is one that was changed on its way, as a cache may.
fn is_whole(status: StatusCode) -> bool {
    matches!(status.as_u16(), 200 | 203)
}

/// What is known of a file of which some bytes have come.
#[derive(Clone, Debug)]
struct Known {
    /// How many have come.
    at: u64,
    /// How many there are.
    length: Option<u64>,
    /// Of which version.
    validator: Option<Validator>,
    /// Whether they are held against a digest behind us, so that parts of two versions cannot be taken for one.
    checked: bool,
}

/// What a second answer has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rest {
    /// The rest, behind so many bytes that have come before.
    Behind(u64),
    /// Nothing: everything has come.
    Nothing,
}

impl Known {
    /// Whether what would come next is sure to belong to what has come.
    fn can_go_on(&self) -> bool {
        self.at == 0 || self.checked || self.validator.is_some()
    }

    /// What an answer to a request for the rest has; none where it is a refusal.
    fn rest(&self, what: &str, status: StatusCode, headers: &HeaderMap) -> Result<Option<Rest>, Error> {
        let what = || what.to_owned();
        let range = ContentRange::of(headers);
        if status == StatusCode::RANGE_NOT_SATISFIABLE && self.at > 0 && self.length.is_none() {
            // Only the end of the last answer was lost.
            let whole = range.is_some_and(|range| range.total == Some(self.at));
            return Ok(whole.then_some(Rest::Nothing));
        }
        if !status.is_success() {
            return Ok(None);
        }
        let length = length_of(headers);
        let other_length = length.is_some_and(|length| self.length.is_some_and(|known| known != length));
        let other_version = self.validator.is_some() && Validator::of(headers) != self.validator;
        if other_length || (other_version && !self.checked) {
            return Err(Error::Changed { what: what() });
        }
        match (status, range.and_then(|range| range.part)) {
            (status, _) if is_whole(status) => Ok(Some(Rest::Behind(self.at))),
            (StatusCode::PARTIAL_CONTENT, Some((first, _))) if first == self.at => Ok(Some(Rest::Behind(0))),
            (StatusCode::PARTIAL_CONTENT, _) => {
                let problem = format!("asked for what is behind byte {}, the source sent another part", self.at);
                Err(Error::Corrupted { what: what(), problem })
            }
            _ => Err(Error::Refused { what: what(), status: status.to_string() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use reqwest::header::{CONTENT_LENGTH, CONTENT_RANGE, ETAG, HeaderName};

    use super::*;

    fn headers(some: &[(HeaderName, &'static str)]) -> HeaderMap {
        some.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value))).collect()
    }

    /// Four of ten bytes have come.
    fn known() -> Known {
        Known { at: 4, length: Some(10), validator: Validator::of(&headers(&[(ETAG, "\"a\"")])), checked: false }
    }

    fn rest(known: &Known, status: u16, some: &[(HeaderName, &'static str)]) -> Result<Option<Rest>, &'static str> {
        let status = StatusCode::from_u16(status).unwrap();
        known.rest("it", status, &headers(some)).map_err(|error| error.reason())
    }

    #[test]
    fn the_rest_is_taken_where_it_is_the_rest() {
        let part = [(CONTENT_RANGE, "bytes 4-9/10"), (ETAG, "\"a\"")];
        assert_eq!(rest(&known(), 206, &part), Ok(Some(Rest::Behind(0))));
        let unsaid = [(CONTENT_RANGE, "bytes 4-9/*"), (ETAG, "\"a\"")];
        assert_eq!(rest(&known(), 206, &unsaid), Ok(Some(Rest::Behind(0))));
        // A source that knows no ranges begins anew.
        assert_eq!(rest(&known(), 200, &[(CONTENT_LENGTH, "10"), (ETAG, "\"a\"")]), Ok(Some(Rest::Behind(4))));
        // Where the bytes are held against a digest, the source need not say of which version they are.
        let checked = Known { checked: true, ..known() };
        assert_eq!(rest(&checked, 206, &[(CONTENT_RANGE, "bytes 4-9/10")]), Ok(Some(Rest::Behind(0))));
    }

    #[test]
    fn parts_of_two_versions_are_never_one_file() {
        for other in [
            &[(CONTENT_RANGE, "bytes 4-9/10"), (ETAG, "\"b\"")][..],
            &[(CONTENT_RANGE, "bytes 4-9/10"), (ETAG, "W/\"a\"")],
            &[(CONTENT_RANGE, "bytes 4-9/10")],
            &[(CONTENT_RANGE, "bytes 4-10/11"), (ETAG, "\"a\"")],
        ] {
            assert_eq!(rest(&known(), 206, other), Err("ArtifactChanged"), "{other:?}");
        }
        assert_eq!(rest(&known(), 200, &[(CONTENT_LENGTH, "11"), (ETAG, "\"a\"")]), Err("ArtifactChanged"));
        let checked = Known { checked: true, ..known() };
        assert_eq!(rest(&checked, 206, &[(CONTENT_RANGE, "bytes 4-10/11")]), Err("ArtifactChanged"));
    }

    #[test]
    fn another_part_than_the_rest_is_not_taken_for_it() {
        for range in ["bytes 0-9/10", "bytes 3-9/10", "bytes 5-9/10", "bytes */10", "bytes 4-10/10", "4-9", ""] {
            let other = [(CONTENT_RANGE, range), (ETAG, "\"a\"")];
            assert_eq!(rest(&known(), 206, &other), Err("ArtifactCorrupted"), "{range}");
        }
        assert_eq!(rest(&known(), 206, &[(ETAG, "\"a\"")]), Err("ArtifactCorrupted"));
        assert_eq!(rest(&known(), 204, &[(ETAG, "\"a\"")]), Err("SourceRefused"));
        assert_eq!(rest(&known(), 503, &[]), Ok(None));
    }

    #[test]
    fn a_file_of_unknown_length_ends_where_there_is_no_more() {
        let endless = Known { length: None, ..known() };
        assert_eq!(rest(&endless, 416, &[(CONTENT_RANGE, "bytes */4")]), Ok(Some(Rest::Nothing)));
        assert_eq!(rest(&endless, 416, &[(CONTENT_RANGE, "bytes */5")]), Ok(None));
        assert_eq!(rest(&endless, 416, &[]), Ok(None));
        assert_eq!(rest(&known(), 416, &[(CONTENT_RANGE, "bytes */4")]), Ok(None), "ten were promised");
    }

    #[test]
    fn only_what_can_be_told_apart_goes_on() {
        let unknown = Known { validator: None, ..known() };
        assert!(known().can_go_on() && !unknown.can_go_on());
        assert!(Known { checked: true, ..unknown.clone() }.can_go_on());
        assert!(Known { at: 0, ..unknown }.can_go_on());
    }
}
