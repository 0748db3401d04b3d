//! What a hub means by a refusal, and what to do about it.

use reqwest::StatusCode;
use reqwest::header::HeaderMap;

use crate::error::Error;
use crate::http::{self, Ask};

/// What the hub calls the kind of its refusal.
const CODE: &str = "x-error-code";
/// Its words for people. They are not repeated: they may come from anywhere.
const MESSAGE: &str = "x-error-message";

/// What was asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked<'a> {
    /// `org/name`.
    pub(super) repo: &'a str,
    /// The hub.
    pub(super) hub: &'a str,
    /// `main`, ...
    pub(super) revision: &'a str,
    /// A file or folder in the repository; none where the revision itself was asked for.
    pub(super) path: Option<&'a str>,
}

/// What an answer that is no success means; none for one that is.
pub(super) fn refusal(asked: Asked<'_>, ask: &Ask, status: StatusCode, headers: &HeaderMap) -> Option<Error> {
    if status.is_success() {
        return None;
    }
    let Asked { repo, hub, revision, path } = asked;
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let repository = || format!("{repo} at {hub}");
    let denied = |advice: String| Error::AccessDenied {
        what: repository(),
        whom: whom(ask),
        status: status.to_string(),
        advice,
    };
    let missing = || match path {
        Some(path) => Error::NotFound { what: format!("{path} in {repo}, revision {revision}, at {hub},") },
        None => Error::NotFound { what: format!("revision {revision} of {repo} at {hub}") },
    };
    let hidden = || Error::Hidden { what: repository(), whom: whom(ask), advice: hidden_advice(ask) };
    Some(match (text(CODE), status.as_u16()) {
        ("GatedRepo", _) => denied(gated_advice(ask, repo)),
        ("RevisionNotFound", _) => Error::NotFound { what: format!("revision {revision} of {repo} at {hub}") },
        ("EntryNotFound", _) => missing(),
        ("RepoNotFound", _) => hidden(),
        (_, 401) if ask.is_private() || text(MESSAGE).starts_with("Invalid credentials") => {
            denied("the hub does not know this token: it is mistyped, has run out or was revoked".into())
        }
        // Strangers are asked who they are, whether or not there is something.
        (_, 401) => hidden(),
        (_, 403) => denied("its owner or the hub has closed it; open it in a browser to see why".into()),
        (_, 404) if path.is_none() => hidden(),
        (_, 404) => missing(),
        _ => return http::refusal(ask, status, headers),
    })
}

/// The same for a refusal to hand a file out, whose headers are not known.
pub(super) fn explain(error: Error, repo: &str) -> Error {
    match error {
        Error::AccessDenied { what, whom, status, .. } => {
            let advice = if whom == THIS_TOKEN { GATED_TO_TOKEN } else { GATED_TO_STRANGERS };
            Error::AccessDenied { what, whom, status, advice: advice.replace("REPO", repo) }
        }
        other => other,
    }
}

/// As [`http::refusal`] has it.
const THIS_TOKEN: &str = "this credential";
const STRANGER: &str = "whoever shows no credential";

const GATED_TO_TOKEN: &str = "REPO may be gated: ask for access to it on its page with the account of this token, and let the \
                              token read gated repositories";
const GATED_TO_STRANGERS: &str =
    "REPO may be gated: ask for access to it on its page, and give a token of that account as huggingface_token";

fn whom(ask: &Ask) -> &'static str {
    if ask.is_private() { THIS_TOKEN } else { STRANGER }
}

fn gated_advice(ask: &Ask, repo: &str) -> String {
    let advice = if ask.is_private() { GATED_TO_TOKEN } else { GATED_TO_STRANGERS };
    advice.replace("REPO may be gated", &format!("{repo} is gated"))
}

fn hidden_advice(ask: &Ask) -> String {
    if ask.is_private() {
        "check the name; if it is private, give a token of an account that may read it".into()
    } else {
        "check the name; if it is private, give a token that may read it as huggingface_token".into()
    }
}

#[cfg(test)]
mod tests {
    use longshore_types::Secret;

    use super::*;

    fn told(status: u16, code: &str, message: &str, token: bool, path: Option<&str>) -> Error {
        let token = token.then(|| Secret::new("hf_hunter2"));
        let ask = Ask::get("https://hub/api/models/org/repo?x=hunter2".parse().unwrap());
        let ask = ask.bearer("huggingface_token", token.as_ref()).unwrap();
        let mut headers = HeaderMap::new();
        headers.insert(CODE, code.parse().unwrap());
        headers.insert(MESSAGE, message.parse().unwrap());
        let asked = Asked { repo: "org/repo", hub: "https://hub/", revision: "v9", path };
        let error = refusal(asked, &ask, StatusCode::from_u16(status).unwrap(), &headers).unwrap();
        assert!(!format!("{error:?} {error}").contains("hunter2"), "{error:?}");
        error
    }

    #[test]
    fn each_refusal_has_its_reason_and_what_to_do() {
        let wrong_token = "Invalid credentials in Authorization header";
        for (status, code, message, token, path, reason, says) in [
            (
                401,
                "RepoNotFound",
                "",
                false,
                None,
                "ArtifactNotFound",
                "give a token that may read it as huggingface_token",
            ),
            (404, "RepoNotFound", "", true, None, "ArtifactNotFound", "hidden from this credential"),
            (401, "", "", false, None, "ArtifactNotFound", "if it is private"),
            (404, "", "", false, None, "ArtifactNotFound", "if it is private"),
            (
                404,
                "RevisionNotFound",
                "",
                false,
                None,
                "ArtifactNotFound",
                "revision v9 of org/repo at https://hub/ does",
            ),
            (
                404,
                "EntryNotFound",
                "",
                false,
                Some("a"),
                "ArtifactNotFound",
                "a in org/repo, revision v9, at https://hub/,",
            ),
            (404, "", "", false, Some("a"), "ArtifactNotFound", "a in org/repo"),
            (401, "", wrong_token, true, None, "AccessDenied", "mistyped"),
            (401, "GatedRepo", "", false, Some("a"), "AccessDenied", "org/repo is gated"),
            (403, "GatedRepo", "", true, Some("a"), "AccessDenied", "the account of this token"),
            (403, "", "Access to this resource is disabled.", false, None, "AccessDenied", "in a browser"),
            (429, "", "", false, None, "SourceUnavailable", "429"),
            (503, "", "", false, None, "SourceUnavailable", "503"),
            (400, "", "", false, None, "SourceRefused", "400"),
        ] {
            let error = told(status, code, message, token, path);
            assert_eq!(error.reason(), reason, "{status} {code}: {error}");
            assert!(error.to_string().contains(says), "{status} {code}: {error}");
            assert_eq!(error.is_transient(), reason == "SourceUnavailable");
        }
    }
}
