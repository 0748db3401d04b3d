//! What requests are answered by.

use bytes::Bytes;
use http::header::{
    ACCEPT_RANGES, AUTHORIZATION, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HeaderName, LOCATION, RANGE, RETRY_AFTER,
};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use serde_json::{Value, json};

use super::body::{Bytewise, End};
use super::{Seen, Shared, State, auth};

/// An answer.
pub(super) type Reply = Response<Bytewise>;

/// What HTML pages in the place of something else say.
const PAGE: &str = "<!DOCTYPE html><html><head><title>Sign in</title></head><body>Sign in to go on.</body></html>";

pub(super) fn answer(shared: &Shared, elsewhere: bool, request: &Request<Incoming>) -> Reply {
    let mut state = shared.state();
    let header =
        |name: HeaderName| request.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let (path, query) = (request.uri().path().to_owned(), request.uri().query().unwrap_or_default());
    let (authorization, range) = (header(AUTHORIZATION), header(RANGE));
    let method = request.method().to_string();
    state.log.push(Seen {
        elsewhere,
        method,
        path: path.clone(),
        authorization: authorization.clone(),
        range: range.clone(),
    });
    if state.faults.busy > 0 {
        state.faults.busy -= 1;
        let mut reply = refusal(StatusCode::TOO_MANY_REQUESTS, "TOOMANYREQUESTS", "slow down");
        reply.headers_mut().extend(state.faults.retry_after.map(|seconds| (RETRY_AFTER, seconds.into())));
        return reply;
    }
    let head = request.method() == Method::HEAD;
    if !head && request.method() != Method::GET {
        return refusal(StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED", "this registry is pulled from only");
    }
    if path == "/token" {
        return auth::give_token(&mut state, query, authorization.as_deref());
    }
    if path == "/v2/" {
        return auth::greet(shared, &state, authorization.as_deref());
    }
    let Some((repository, kind, name)) = parts(&path) else {
        return refusal(StatusCode::NOT_FOUND, "UNSUPPORTED", "no such place");
    };
    // Whoever was redirected was let in before.
    if !elsewhere && let Err(reply) = auth::admit(shared, &state, repository, authorization.as_deref()) {
        return *reply;
    }
    match kind {
        "manifests" if head && state.faults.no_head => {
            refusal(StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED", "no HEAD here")
        }
        "manifests" => {
            let moved = state.faults.moved.as_deref().filter(|_| !head && !name.contains(':'));
            manifest(&state, repository, moved.unwrap_or(name))
        }
        "blobs" if state.faults.redirect && !elsewhere => {
            let mut reply = text_reply(StatusCode::TEMPORARY_REDIRECT, "text/plain", "");
            let target = format!("http://{}{path}?signature=hunter2", shared.elsewhere);
            reply.headers_mut().extend(HeaderValue::from_str(&target).ok().map(|target| (LOCATION, target)));
            reply
        }
        _ => blob(&mut state, repository, name, range.as_deref(), head),
    }
}

/// Repository, `manifests` or `blobs`, and tag or digest.
fn parts(path: &str) -> Option<(&str, &str, &str)> {
    let rest = path.strip_prefix("/v2/")?;
    let (rest, name) = rest.rsplit_once('/')?;
    let (repository, kind) = rest.rsplit_once('/')?;
    matches!(kind, "manifests" | "blobs").then_some((repository, kind, name))
}

fn manifest(state: &State, repository: &str, name: &str) -> Reply {
    let key = |name: &str| (repository.to_owned(), name.to_owned());
    if !state.manifests.keys().any(|(known, _)| known == repository) {
        return refusal(StatusCode::NOT_FOUND, "NAME_UNKNOWN", "repository name not known to registry");
    }
    let digest = state.tags.get(&key(name)).cloned().unwrap_or_else(|| name.to_owned());
    let Some((media_type, bytes)) = state.manifests.get(&key(&digest)) else {
        return refusal(StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN", "manifest unknown");
    };
    if state.faults.manifest_page {
        return text_reply(StatusCode::OK, "text/html", PAGE);
    }
    let mut bytes = bytes.to_vec();
    if state.faults.lying_manifest {
        bytes.push(b' ');
    }
    let mut reply = text_reply(StatusCode::OK, media_type, bytes);
    if !state.faults.no_digest {
        let said = HeaderValue::from_str(&digest).ok();
        reply.headers_mut().extend(said.map(|said| (HeaderName::from_static("docker-content-digest"), said)));
    }
    reply
}

fn blob(state: &mut State, repository: &str, digest: &str, range: Option<&str>, head: bool) -> Reply {
    let found = state.blobs.get(&(repository.to_owned(), digest.to_owned())).cloned();
    let Some(mut bytes) = found.filter(|_| !state.faults.missing) else {
        return refusal(StatusCode::NOT_FOUND, "BLOB_UNKNOWN", "blob unknown to registry");
    };
    if state.faults.page {
        return text_reply(StatusCode::OK, "text/html", PAGE);
    }
    if state.faults.garbled {
        let mut other = bytes.to_vec();
        if let Some(byte) = other.last_mut() {
            *byte ^= 1;
        }
        bytes = other.into();
    }
    let total = bytes.len();
    let from = range
        .filter(|_| !state.faults.no_ranges)
        .and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse::<usize>().ok());
    if from.is_some_and(|from| from >= total) {
        return refusal(StatusCode::RANGE_NOT_SATISFIABLE, "SIZE_INVALID", "no such range");
    }
    let mut left = bytes.slice(from.unwrap_or(0)..);
    let length = left.len();
    let end = if state.faults.endless { End::Never } else { cut(state, &mut left, head) };
    let mut reply = Response::new(Bytewise::new(left, end));
    let headers = reply.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    if !state.faults.no_length && !state.faults.endless {
        headers.insert(CONTENT_LENGTH, length.into());
    }
    if !state.faults.no_ranges {
        headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    }
    if let Some(from) = from {
        let range = HeaderValue::from_str(&format!("bytes {from}-{}/{total}", total - 1)).ok();
        headers.extend(range.map(|range| (CONTENT_RANGE, range)));
        *reply.status_mut() = StatusCode::PARTIAL_CONTENT;
    }
    reply
}

/// Shortens what comes where it is to be cut.
fn cut(state: &mut State, left: &mut Bytes, head: bool) -> End {
    let most = state.faults.cut.and_then(|most| usize::try_from(most).ok());
    let Some(most) = most.filter(|most| *most < left.len() && state.faults.cuts != Some(0) && !head) else {
        return End::Whole;
    };
    if let Some(cuts) = &mut state.faults.cuts {
        *cuts -= 1;
    }
    if state.faults.expire_at_cut {
        state.expire_tokens();
    }
    left.truncate(most);
    End::Cut
}

pub(super) fn json_reply(value: &Value) -> Reply {
    text_reply(StatusCode::OK, "application/json", value.to_string())
}

/// A failure as the distribution specification has it.
pub(super) fn refusal(status: StatusCode, code: &str, message: &str) -> Reply {
    let body = json!({"errors": [{"code": code, "message": message, "detail": null}]});
    text_reply(status, "application/json", body.to_string())
}

fn text_reply(status: StatusCode, media_type: &str, text: impl Into<Bytes>) -> Reply {
    let text = text.into();
    let length = text.len();
    let mut reply = Response::new(Bytewise::new(text, End::Whole));
    *reply.status_mut() = status;
    reply.headers_mut().insert(CONTENT_LENGTH, length.into());
    reply.headers_mut().extend(HeaderValue::from_str(media_type).ok().map(|media_type| (CONTENT_TYPE, media_type)));
    reply
}
