//! What it means that an object store, or its client, fails.

use std::error::Error as StdError;
use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use http::StatusCode;
use opendal::ErrorKind;

use super::session::Why;
use crate::error::Error;

/// The longest wait that is waited here. A store that asks for a longer one is left to whoever tries the whole again.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// A store's answer that is no success.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.said())]
pub(super) struct Answered {
    pub(super) status: StatusCode,
    /// The store's own word for it, such as `NoSuchKey`.
    pub(super) code: Option<String>,
    /// Where the bucket is, if the store says so.
    pub(super) region: Option<String>,
    pub(super) retry_after: Option<Duration>,
}

impl Answered {
    fn said(&self) -> String {
        match &self.code {
            Some(code) => format!("{}, {code}", self.status),
            None => self.status.to_string(),
        }
    }

    /// The wait that is asked for, where it is waited here.
    pub(super) fn wait(&self) -> Option<Duration> {
        self.retry_after.filter(|_| self.passes())
    }

    /// Whether the same may be answered otherwise soon.
    fn passes(&self) -> bool {
        let passing = matches!(self.status.as_u16(), 408 | 425 | 429 | 500..=599);
        passing && self.retry_after.is_none_or(|wait| wait <= LONGEST_WAIT)
    }

    /// What it means for whoever asked for `what`. `shows` says that credentials were shown.
    fn meaning(self, what: &str, shows: bool) -> Error {
        let (what, status) = (what.to_owned(), self.said());
        let code = self.code.as_deref().unwrap_or_default();
        let denied = |whom, advice: &str| {
            let (what, status) = (what.clone(), status.clone());
            Error::AccessDenied { what, whom, status, advice: advice.to_owned() }
        };
        const THIS: &str = "this credential";
        match (self.status.as_u16(), code) {
            (_, "SignatureDoesNotMatch") => {
                denied(THIS, "the secret key is not the one of this access key; check aws_secret_access_key")
            }
            (_, "InvalidAccessKeyId") => denied(
                THIS,
                "it has no such access key; check aws_access_key_id, and that the endpoint is the right one",
            ),
            (_, "ExpiredToken" | "ExpiredTokenException" | "TokenRefreshRequired" | "RequestExpired") => {
                denied(THIS, "the session has ended; give a new session token together with its keys")
            }
            (_, "InvalidToken" | "InvalidIdentityToken" | "InvalidClientTokenId") => {
                denied(THIS, "the token is not one of its; check aws_session_token, which goes with its own keys only")
            }
            (_, "RequestTimeTooSkewed") => denied(THIS, "this machine's clock is wrong; set it"),
            (403 | 409, "InvalidObjectState" | "BlobArchived") => {
                let status = format!("{status}: it is archived, so restore it first");
                Error::Refused { what, status }
            }
            // Their own word for it is that nobody is let in without credentials.
            (401 | 403 | 409, "PublicAccessNotPermitted") | (401 | 403, _) if !shows => {
                denied("whoever shows no credential", "give credentials for it, or make it public")
            }
            (401 | 403, _) => denied(THIS, "check that it is valid, and that it may both list and read this"),
            (301 | 307 | 308 | 400, _) if self.region.is_some() => {
                let region = self.region.as_deref().unwrap_or_default();
                let status = format!("{status}: the bucket is in the region {region}, so set aws_region to that");
                Error::Refused { what, status }
            }
            (300..=399, _) => {
                let problem = format!("elsewhere ({status}), which is not followed; check endpoint and region");
                Error::RedirectRefused { what, problem }
            }
            (404 | 410, _) => Error::NotFound { what },
            (412 | 416, _) => Error::Changed { what },
            (408 | 425 | 429 | 500..=599, _) => Error::Unavailable { what, status, retry_after: self.retry_after },
            _ => Error::Refused { what, status },
        }
    }
}

impl From<Answered> for opendal::Error {
    fn from(answered: Answered) -> Self {
        let passes = answered.passes();
        let error = Self::new(ErrorKind::Unexpected, "the store refuses").set_source(answered);
        if passes { error.set_temporary() } else { error }
    }
}

/// The client's words for a failure to sign.
const SIGNING: &str = "signing http request";

/// One of our own errors on its way through the client.
#[derive(Debug, thiserror::Error)]
#[error("carried")]
struct Carried(Mutex<Option<Error>>);

/// Puts one of our own errors into the client's.
pub(super) fn carry(error: Error) -> opendal::Error {
    let passes = matches!(error, Error::Source { .. });
    let carried = Carried(Mutex::new(Some(error)));
    let error = opendal::Error::new(ErrorKind::Unexpected, "not sent").set_source(carried);
    if passes { error.set_temporary() } else { error }
}

/// What `error` means for whoever asked for `what`. The client's own words are not shown: requests are among them. `why` is
/// there where credentials are shown.
pub(super) fn meaning(error: &opendal::Error, what: &str, why: Option<&Why>) -> Error {
    let shows = why.is_some();
    if let Some(why) = why.and_then(Why::take) {
        return ours(&why, what, shows).unwrap_or_else(|| unsigned(what));
    }
    if let Some(error) = ours(error, what, shows) {
        return error;
    }
    let what = what.to_owned();
    let failed = |kind, problem: &str| Error::Source { what: what.clone(), source: io::Error::new(kind, problem) };
    match error.kind() {
        ErrorKind::NotFound => Error::NotFound { what },
        ErrorKind::ConditionNotMatch => Error::Changed { what },
        ErrorKind::ConfigInvalid => {
            let problem = "cannot be what this store takes".to_owned();
            Error::CredentialInvalid { name: "for the object store".into(), problem }
        }
        ErrorKind::PermissionDenied => unsigned(&what),
        _ if error.message() == SIGNING => unsigned(&what),
        // The client's own clock, or an answer that is none: a page of a proxy's, a listing that ends in its middle.
        _ if error.is_temporary() => failed(io::ErrorKind::TimedOut, "no answer came in time"),
        _ => Error::Corrupted { what, problem: "the answer is not one of an object store's".into() },
    }
}

/// What was there a moment ago is not an artifact that does not exist.
pub(super) fn gone_since(error: Error) -> Error {
    match error {
        Error::NotFound { what } => Error::Changed { what },
        error => error,
    }
}

/// What is ours in `error`.
fn ours(error: &(dyn StdError + 'static), what: &str, shows: bool) -> Option<Error> {
    let mut cause = Some(error);
    while let Some(inner) = cause {
        if let Some(answered) = inner.downcast_ref::<Answered>() {
            return Some(answered.clone().meaning(what, shows));
        }
        if let Some(Carried(carried)) = inner.downcast_ref::<Carried>() {
            let what = what.to_owned();
            return match carried.lock().unwrap_or_else(PoisonError::into_inner).take()? {
                Error::Changed { .. } => Some(Error::Changed { what }),
                Error::Corrupted { problem, .. } => Some(Error::Corrupted { what, problem }),
                error => Some(error),
            };
        }
        cause = inner.source();
    }
    None
}

/// A key that is none, or a token whose file is not there.
fn unsigned(what: &str) -> Error {
    Error::AccessDenied {
        what: what.to_owned(),
        whom: "this credential",
        status: "nothing can be signed with it".into(),
        advice: "check that it is whole, and that its token can be read where it is a role".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(status: u16, code: &str) -> Answered {
        let status = StatusCode::from_u16(status).unwrap();
        let code = Some(code.to_owned()).filter(|code| !code.is_empty());
        Answered { status, code, region: None, retry_after: None }
    }

    #[test]
    fn what_a_store_answers_says_who_has_to_do_something() {
        for (status, code, reason, transient) in [
            (404, "NoSuchBucket", "ArtifactNotFound", false),
            (404, "NoSuchKey", "ArtifactNotFound", false),
            (404, "", "ArtifactNotFound", false),
            (403, "SignatureDoesNotMatch", "AccessDenied", false),
            (403, "AccessDenied", "AccessDenied", false),
            (400, "ExpiredToken", "AccessDenied", false),
            (401, "", "AccessDenied", false),
            (403, "InvalidObjectState", "SourceRefused", false),
            (400, "InvalidBucketName", "SourceRefused", false),
            (301, "PermanentRedirect", "RedirectRefused", false),
            (412, "PreconditionFailed", "ArtifactChanged", true),
            (416, "InvalidRange", "ArtifactChanged", true),
            (503, "SlowDown", "SourceUnavailable", true),
            (500, "InternalError", "SourceUnavailable", true),
            (429, "", "SourceUnavailable", true),
        ] {
            let error = meaning(&answered(status, code).into(), "s3://b/k", Some(&Why::default()));
            assert_eq!((error.reason(), error.is_transient()), (reason, transient), "{status} {code}");
            assert!(error.to_string().contains("s3://b/k"), "{error}");
        }
    }

    #[test]
    fn a_bucket_elsewhere_says_what_to_set() {
        let region = Some("eu-west-1".to_owned());
        let answered = Answered { region, ..answered(400, "AuthorizationHeaderMalformed") };
        let error = meaning(&answered.into(), "s3://b/k", Some(&Why::default()));
        assert!(error.to_string().contains("set aws_region to that"), "{error}");
        assert!(error.to_string().contains("eu-west-1"), "{error}");
    }

    #[test]
    fn whoever_shows_nothing_is_told_to_show_something() {
        let error = meaning(&answered(403, "AccessDenied").into(), "s3://b/k", None);
        assert!(error.to_string().contains("give credentials"), "{error}");
    }

    #[test]
    fn only_what_may_pass_is_tried_again() {
        let temporary = |answered: Answered| opendal::Error::from(answered).is_temporary();
        assert!(temporary(answered(503, "SlowDown")) && temporary(answered(500, "")));
        assert!(!temporary(answered(403, "AccessDenied")) && !temporary(answered(404, "NoSuchKey")));
        let asks = |seconds| Answered { retry_after: Some(Duration::from_secs(seconds)), ..answered(503, "") };
        assert!(temporary(asks(5)) && !temporary(asks(60)));
        let error = meaning(&asks(60).into(), "x", None);
        assert_eq!(error.retry_after(), Some(Duration::from_secs(60)));
    }

    #[test]
    fn our_own_errors_come_out_as_they_went_in() {
        let gone = || Error::Source { what: "http://x/".into(), source: io::ErrorKind::ConnectionReset.into() };
        assert!(carry(gone()).is_temporary());
        assert_eq!(meaning(&carry(gone()), "s3://b/k", Some(&Why::default())).to_string(), "cannot read http://x/");
        let wrapped = opendal::Error::new(ErrorKind::Unexpected, "hunter2").set_source(carry(gone()));
        assert_eq!(meaning(&wrapped, "s3://b/k", Some(&Why::default())).reason(), "SourceFailed");
        let changed = carry(Error::Changed { what: "an object".into() });
        assert!(!changed.is_temporary());
        assert_eq!(
            meaning(&changed, "s3://b/k", Some(&Why::default())).to_string(),
            "s3://b/k was changed while it was read"
        );
    }

    #[test]
    fn i8_the_clients_own_words_are_not_shown() {
        for kind in [ErrorKind::Unexpected, ErrorKind::ConfigInvalid, ErrorKind::PermissionDenied] {
            let error = opendal::Error::new(kind, "hunter2").with_context("url", "https://x/?sig=hunter2");
            let fault = meaning(&error, "az://c/k", None).fault();
            assert!(!fault.message.contains("hunter2"), "{}", fault.message);
        }
    }
}
