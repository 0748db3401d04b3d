//! What an answer, or none, means.

use std::io;
use std::time::Duration;

use reqwest::StatusCode;
use reqwest::header::{HeaderMap, RETRY_AFTER};

use super::{Ask, reach};
use crate::error::Error;

/// The longest wait that a source may ask for and get.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);

/// What a status that is no success means.
pub(crate) fn refusal(ask: &Ask, status: StatusCode, headers: &HeaderMap) -> Option<Error> {
    if status.is_success() {
        return None;
    }
    let (what, said) = (ask.what(), status.to_string());
    Some(match status.as_u16() {
        401 | 403 | 407 if ask.is_private() => Error::AccessDenied {
            what,
            whom: "this credential",
            status: said,
            advice: "check that it is valid and may read this".into(),
        },
        401 | 403 | 407 => Error::AccessDenied {
            what,
            whom: "whoever shows no credential",
            status: said,
            advice: "give credentials, or make it public".into(),
        },
        404 | 410 => Error::NotFound { what },
        408 | 425 | 429 | 500..=599 => Error::Unavailable { what, status: said, retry_after: retry_after(headers) },
        412 | 416 => Error::Changed { what },
        _ => Error::Refused { what, status: said },
    })
}

/// Seconds that an answer asks us to wait. Dates are not read: our clock and theirs may differ.
pub(crate) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds: u64 = headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(LONGEST_WAIT))
}

/// No answer, or none that could be read. The client's own words name the URL, query and all, so they go without it (I8).
pub(crate) fn failed(what: impl Into<String>, error: reqwest::Error) -> Error {
    let error = error.without_url();
    // A refusal to connect was put into the error by our own resolver.
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&error);
    while let Some(inner) = cause {
        if let Some(refused) = inner.downcast_ref::<reach::Refused>() {
            return refused.clone().into();
        }
        cause = inner.source();
    }
    let source =
        if error.is_timeout() { io::Error::new(io::ErrorKind::TimedOut, error) } else { io::Error::other(error) };
    Error::Source { what: what.into(), source }
}

/// Nothing came, or too little.
pub(crate) fn timed_out(ask: &Ask, problem: String) -> Error {
    late(ask.what(), problem)
}

/// The same of what is known by its name alone.
pub(super) fn late(what: String, problem: String) -> Error {
    Error::Source { what, source: io::Error::new(io::ErrorKind::TimedOut, problem) }
}

#[cfg(test)]
mod tests {
    use longshore_types::Secret;
    use reqwest::header::HeaderValue;

    use super::*;

    #[test]
    fn each_status_means_something() {
        let ask = Ask::get("https://example.com/a.tgz?sig=hunter2".parse().unwrap());
        let said = |status: u16| refusal(&ask, StatusCode::from_u16(status).unwrap(), &HeaderMap::new());
        for fine in [200, 203, 206] {
            assert!(said(fine).is_none());
        }
        for (status, reason, transient) in [
            (304, "SourceRefused", false),
            (400, "SourceRefused", false),
            (401, "AccessDenied", false),
            (403, "AccessDenied", false),
            (404, "ArtifactNotFound", false),
            (405, "SourceRefused", false),
            (407, "AccessDenied", false),
            (408, "SourceUnavailable", true),
            (410, "ArtifactNotFound", false),
            (412, "ArtifactChanged", true),
            (416, "ArtifactChanged", true),
            (425, "SourceUnavailable", true),
            (429, "SourceUnavailable", true),
            (451, "SourceRefused", false),
            (500, "SourceUnavailable", true),
            (502, "SourceUnavailable", true),
            (503, "SourceUnavailable", true),
            (599, "SourceUnavailable", true),
        ] {
            let error = said(status).unwrap();
            assert_eq!((error.reason(), error.is_transient()), (reason, transient), "{status}");
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn who_is_refused_is_told_apart() {
        let public = Ask::get("https://example.com/a.tgz".parse().unwrap());
        let private = public.clone().bearer("token", Some(&Secret::new("hunter2"))).unwrap();
        let said = |ask| refusal(ask, StatusCode::FORBIDDEN, &HeaderMap::new()).unwrap().to_string();
        assert!(
            said(&public).contains("refuses whoever shows no credential (403 Forbidden): give"),
            "{}",
            said(&public)
        );
        assert!(said(&private).contains("refuses this credential (403 Forbidden): check"), "{}", said(&private));
    }

    #[test]
    fn a_wait_is_read_in_seconds_and_bounded() {
        let asked =
            |text: &'static str| retry_after(&HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_static(text))]));
        assert_eq!(asked(" 7 "), Some(Duration::from_secs(7)));
        assert_eq!(asked("999999999"), Some(LONGEST_WAIT));
        for nothing in ["-1", "1.5", "", "Sun, 22 Nov 2026 08:00:00 GMT", "99999999999999999999999"] {
            assert_eq!(asked(nothing), None, "{nothing}");
        }
    }
}
