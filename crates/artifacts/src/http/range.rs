//! What an answer says about which bytes it has, and of which version.

use std::time::{Duration, SystemTime};

use reqwest::header::{
    CONTENT_LENGTH, CONTENT_RANGE, DATE, ETAG, HeaderMap, HeaderName, HeaderValue, IF_MATCH, IF_UNMODIFIED_SINCE,
    LAST_MODIFIED,
};

/// A time of change that is so much older than the answer will change with the next change. HTTP counts in seconds, and a
/// cluster of servers agrees on the time to about that much.
const SETTLED: Duration = Duration::from_secs(5);

/// `Content-Range`: `bytes 5-9/10`, `bytes 5-9/*` or `bytes */10`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ContentRange {
    /// The first and the last byte; none where none can be had.
    pub(crate) part: Option<(u64, u64)>,
    /// How many there are altogether, where that is said.
    pub(crate) total: Option<u64>,
}

impl ContentRange {
    /// What is said; none where it is nothing that makes sense.
    pub(crate) fn of(headers: &HeaderMap) -> Option<Self> {
        Self::parse(headers.get(CONTENT_RANGE)?.to_str().ok()?)
    }

    fn parse(text: &str) -> Option<Self> {
        let (unit, said) = text.trim().split_once(' ')?;
        let (part, total) = said.trim().split_once('/')?;
        let total = if total == "*" { None } else { Some(number(total)?) };
        let part = match part {
            "*" => None,
            part => Some(part.split_once('-').and_then(|(first, last)| Some((number(first)?, number(last)?)))?),
        };
        let sound = part.is_none_or(|(first, last)| first <= last && total.is_none_or(|total| last < total));
        (unit.eq_ignore_ascii_case("bytes") && sound).then_some(Self { part, total })
    }
}

/// Digits and nothing else: `parse` alone would also take a sign.
fn number(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

/// How long the whole is: what the part of an answer says of it, or the answer's own length.
pub(crate) fn length_of(headers: &HeaderMap) -> Option<u64> {
    match headers.get(CONTENT_RANGE) {
        Some(_) => ContentRange::of(headers)?.total,
        None => number(headers.get(CONTENT_LENGTH)?.to_str().ok()?),
    }
}

/// What tells one version of a file from every other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Validator {
    /// A strong entity tag.
    Tag(HeaderValue),
    /// The time of the last change, where a later one is sure to show.
    Time(HeaderValue),
}

impl Validator {
    /// The best that an answer has. A weak tag says nothing of bytes. A tag beside a time that is not settled is none
    /// either, since some servers make tags of times.
    pub(crate) fn of(headers: &HeaderMap) -> Option<Self> {
        let time = headers.get(LAST_MODIFIED);
        let settled = time.map(|time| settled(time, headers.get(DATE)));
        let strong = |tag: &&HeaderValue| tag.as_bytes().starts_with(b"\"") && tag.len() > 2;
        match (headers.get(ETAG).filter(strong), time) {
            (Some(tag), _) if settled != Some(Some(false)) => Some(Self::Tag(tag.clone())),
            (None, Some(time)) if settled == Some(Some(true)) => Some(Self::Time(time.clone())),
            _ => None,
        }
    }

    /// The condition that the file is still this version.
    pub(super) fn condition(&self) -> (HeaderName, HeaderValue) {
        match self {
            Self::Tag(tag) => (IF_MATCH, tag.clone()),
            Self::Time(time) => (IF_UNMODIFIED_SINCE, time.clone()),
        }
    }
}

/// Whether a change after `date`, which is when the answer was made, shows as another time; none where nobody knows.
fn settled(time: &HeaderValue, date: Option<&HeaderValue>) -> Option<bool> {
    let read = |value: &HeaderValue| -> Option<SystemTime> { httpdate::parse_http_date(value.to_str().ok()?).ok() };
    Some(read(date?)?.duration_since(read(time)?).is_ok_and(|age| age >= SETTLED))
}

#[cfg(test)]
mod tests {
    use super::*;

    const EARLY: &str = "Sun, 22 Nov 2026 08:00:00 GMT";
    const LATER: &str = "Sun, 22 Nov 2026 08:00:05 GMT";

    fn headers(some: &[(HeaderName, &'static str)]) -> HeaderMap {
        some.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn a_content_range_is_read_or_makes_no_sense() {
        let read = |text| ContentRange::parse(text).map(|range| (range.part, range.total));
        assert_eq!(read("bytes 5-9/10"), Some((Some((5, 9)), Some(10))));
        assert_eq!(read("Bytes 5-9/*"), Some((Some((5, 9)), None)));
        assert_eq!(read("bytes */10"), Some((None, Some(10))));
        for nonsense in [
            "",
            "bytes",
            "bytes 5-9",
            "bytes 9-5/10",
            "bytes 5-10/10",
            "bytes -5/10",
            "bytes 5-/10",
            "items 5-9/10",
            "bytes +5-9/10",
            "bytes 5-9/x",
            "bytes 5-99999999999999999999/*",
        ] {
            assert_eq!(read(nonsense), None, "{nonsense}");
        }
    }

    #[test]
    fn the_length_is_that_of_the_whole() {
        assert_eq!(length_of(&headers(&[(CONTENT_LENGTH, "10")])), Some(10));
        assert_eq!(length_of(&headers(&[(CONTENT_LENGTH, "1"), (CONTENT_RANGE, "bytes 0-0/10")])), Some(10));
        assert_eq!(length_of(&headers(&[(CONTENT_LENGTH, "1"), (CONTENT_RANGE, "bytes 0-0/*")])), None);
        assert_eq!(length_of(&headers(&[(CONTENT_LENGTH, "+1")])), None);
        assert_eq!(length_of(&HeaderMap::new()), None);
    }

    #[test]
    fn a_version_is_told_by_a_strong_tag_or_by_a_time_that_has_settled() {
        let of = |some: &[_]| Validator::of(&headers(some)).map(|validator| validator.condition());
        let tag = Some((IF_MATCH, HeaderValue::from_static("\"a\"")));
        let time = Some((IF_UNMODIFIED_SINCE, HeaderValue::from_static(EARLY)));
        assert_eq!(of(&[(ETAG, "\"a\"")]), tag);
        assert_eq!(of(&[(ETAG, "\"a\""), (LAST_MODIFIED, EARLY), (DATE, LATER)]), tag);
        assert_eq!(of(&[(ETAG, "\"a\""), (LAST_MODIFIED, EARLY)]), tag);
        assert_eq!(of(&[(ETAG, "\"a\""), (LAST_MODIFIED, EARLY), (DATE, EARLY)]), None, "made of a time, perhaps");
        assert_eq!(of(&[(LAST_MODIFIED, EARLY), (DATE, LATER)]), time);
        assert_eq!(of(&[(ETAG, "W/\"a\""), (LAST_MODIFIED, EARLY), (DATE, LATER)]), time);
        for nothing in [
            [(ETAG, "W/\"a\""), (DATE, LATER)],
            [(ETAG, "a"), (DATE, LATER)],
            [(ETAG, "\"\""), (DATE, LATER)],
            [(LAST_MODIFIED, EARLY), (DATE, EARLY)],
            [(LAST_MODIFIED, LATER), (DATE, EARLY)],
            [(LAST_MODIFIED, "yesterday"), (DATE, LATER)],
            [(LAST_MODIFIED, EARLY), (DATE, "today")],
        ] {
            assert_eq!(of(&nothing), None, "{nothing:?}");
        }
        assert_eq!(of(&[(LAST_MODIFIED, EARLY)]), None);
    }
}
