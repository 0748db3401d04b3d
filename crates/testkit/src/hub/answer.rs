//! Requests and answers, in the words of Hugging Face's hub.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use http::header::{
    ACCEPT_RANGES, AUTHORIZATION, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderValue, IF_MATCH, LINK,
    LOCATION, RANGE, RETRY_AFTER,
};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};

use super::repo::{File, Repo};
use super::serve::Content;
use super::{Access, Asked, At, PAGE, Server, Shared, State, Trouble};

/// In each link to the CDN, so that a test may look for it where it must not be.
pub(super) const SIGNATURE: &str = "signed-hunter2";

type Reply = Response<Content>;

/// The answer, after any fault that was ordered.
pub(super) fn answer<B>(shared: &Shared, server: Server, request: &Request<B>) -> Reply {
    let mut state = shared.lock();
    let header = |name| request.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let asked = Asked {
        server,
        method: request.method().to_string(),
        path: request.uri().path().to_owned(),
        authorization: header(AUTHORIZATION),
        range: header(RANGE),
    };
    state.log.push(asked.clone());
    let get = request.method() == Method::GET;
    if !get && request.method() != Method::HEAD {
        return problem(StatusCode::METHOD_NOT_ALLOWED, None, "Method Not Allowed");
    }
    let parts: Vec<String> = request.uri().path().split('/').skip(1).map(decoded).collect();
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    let query = request.uri().query().unwrap_or_default();
    let id = match parts.as_slice() {
        ["api", "models", org, name, ..] | [org, name, ..] => format!("{org}/{name}"),
        _ => String::new(),
    };
    if let Some(new) = state.moved.get(&id) {
        let mut reply = plain(StatusCode::TEMPORARY_REDIRECT, "Temporary Redirect");
        let target = asked.path.replacen(&id, new, 1) + "?" + query;
        reply.headers_mut().insert(LOCATION, HeaderValue::from_str(&target).expect("paths of tests are plain"));
        return reply;
    }
    let ask = Ask { shared, headers: request.headers(), asked: &asked, query, get };
    match (server, parts.as_slice()) {
        (Server::Cdn, [org, name, sha256, path @ ..]) => {
            ask.cdn(&mut state, &format!("{org}/{name}"), sha256, &path.join("/"))
        }
        (Server::Hub, ["api", "models", org, name]) => ask.revision(&mut state, &format!("{org}/{name}"), "main"),
        (Server::Hub, ["api", "models", org, name, "revision", revision]) => {
            ask.revision(&mut state, &format!("{org}/{name}"), revision)
        }
        (Server::Hub, ["api", "models", org, name, "tree", revision, folder @ ..]) => {
            ask.tree(&mut state, &format!("{org}/{name}"), revision, &folder.join("/"))
        }
        (Server::Hub, [org, name, "resolve", revision, path @ ..]) => {
            ask.file(&mut state, &format!("{org}/{name}"), revision, &path.join("/"))
        }
        _ => problem(StatusCode::NOT_FOUND, None, "Not Found"),
    }
}

fn decoded(part: &str) -> String {
    percent_decode_str(part).decode_utf8_lossy().into_owned()
}

/// One request.
struct Ask<'a> {
    shared: &'a Shared,
    headers: &'a HeaderMap,
    asked: &'a Asked,
    query: &'a str,
    get: bool,
}

/// What a revision stands for.
struct Commit<'s> {
    repo: &'s Repo,
    name: String,
    files: &'s BTreeMap<String, File>,
}

/// What a token may do with a repository.
enum Right {
    All,
    List,
}

impl Ask<'_> {
    /// What may be done with a repository, or the answer to those who may do nothing with it.
    fn right(&self, state: &State, id: &str) -> Result<Right, Box<Reply>> {
        let token = self.asked.authorization.as_deref().map(|text| text.strip_prefix("Bearer ").unwrap_or(text));
        let admitted = match token {
            None => false,
            Some(token) => match state.tokens.get(token) {
                None => {
                    let text = "Invalid credentials in Authorization header";
                    return Err(refused(StatusCode::UNAUTHORIZED, None, text));
                }
                Some(repos) => repos.contains(id),
            },
        };
        match state.repos.get(id).map(|repo| repo.access) {
            Some(_) if admitted => Ok(Right::All),
            Some(Access::Public) => Ok(Right::All),
            Some(Access::Gated) => Ok(Right::List),
            // Strangers are not told which it is.
            Some(Access::Private) | None if token.is_none() => {
                Err(refused(StatusCode::UNAUTHORIZED, Some("RepoNotFound"), "Invalid username or password."))
            }
            Some(Access::Private) | None => {
                Err(refused(StatusCode::NOT_FOUND, Some("RepoNotFound"), "Repository not found"))
            }
        }
    }

    /// What `revision` stands for.
    fn commit<'s>(state: &'s State, id: &str, revision: &str) -> Result<Commit<'s>, Box<Reply>> {
        let found = state.repos.get(id).and_then(|repo| {
            let name = repo.resolve(revision)?.to_owned();
            Some(Commit { repo, name, files: repo.files(revision)? })
        });
        found.ok_or_else(|| {
            refused(StatusCode::NOT_FOUND, Some("RevisionNotFound"), &format!("Invalid rev id: {revision}"))
        })
    }

    fn revision(&self, state: &mut State, id: &str, revision: &str) -> Reply {
        let trouble = state.trouble(At::Revision, id);
        let found = self.right(state, id).and_then(|_| {
            let Commit { repo, name, files } = Self::commit(state, id, revision)?;
            let siblings: Vec<Value> = files.keys().map(|path| json!({"rfilename": path})).collect();
            Ok(json_reply(&json!({
                "_id": "6500000000000000000000aa", "id": id, "modelId": id, "author": id.split('/').next(), "sha": name,
                "private": repo.access == Access::Private,
                "gated": if repo.access == Access::Gated { json!("manual") } else { json!(false) },
                "disabled": false, "downloads": 0, "likes": 0, "tags": ["peft"], "siblings": siblings,
                "lastModified": "2026-01-01T00:00:00.000Z", "createdAt": "2026-01-01T00:00:00.000Z",
            })))
        });
        spoiled(trouble, found.unwrap_or_else(|refusal| *refusal))
    }

    fn tree(&self, state: &mut State, id: &str, revision: &str, folder: &str) -> Reply {
        let trouble = state.trouble(At::Tree, id);
        let found = self.right(state, id).and_then(|_| {
            let Commit { files, .. } = Self::commit(state, id, revision)?;
            let recursive = self.parameter("recursive").is_some_and(|value| value.eq_ignore_ascii_case("true"));
            let entries = entries(files, folder, recursive);
            if entries.is_empty() && !folder.is_empty() {
                let text = format!("{folder} does not exist on \"{revision}\"");
                return Err(refused(StatusCode::NOT_FOUND, Some("EntryNotFound"), &text));
            }
            let from = self.parameter("cursor").and_then(|cursor| cursor.parse().ok()).unwrap_or(0_usize);
            let asked_for = self.parameter("limit").and_then(|limit| limit.parse().ok()).unwrap_or(PAGE);
            let page = state.page.unwrap_or(asked_for);
            let mut reply = json_reply(&entries.iter().skip(from).take(page).cloned().collect());
            if from + page < entries.len() {
                let path = &self.asked.path;
                let next = format!("http://{}{path}?recursive={recursive}&cursor={}", self.shared.hub, from + page);
                set_next(&mut reply, &next);
            }
            Ok(reply)
        });
        spoiled(trouble, found.unwrap_or_else(|refusal| *refusal))
    }

    fn file(&self, state: &mut State, id: &str, revision: &str, path: &str) -> Reply {
        let trouble = state.trouble(if self.get { At::File } else { At::Head }, path);
        let found = self.right(state, id).and_then(|right| {
            if let Right::List = right {
                let known = self.asked.authorization.is_some();
                let status = if known { StatusCode::FORBIDDEN } else { StatusCode::UNAUTHORIZED };
                let text = format!("Access to model {id} is restricted and you are not in the authorized list.");
                return Err(refused(status, Some("GatedRepo"), &text));
            }
            let Commit { name, files, .. } = Self::commit(state, id, revision)?;
            let commit = HeaderValue::from_str(&name).expect("it is hexadecimal");
            let Some(file) = files.get(path) else {
                let mut reply = problem(StatusCode::NOT_FOUND, Some("EntryNotFound"), "Entry not found");
                reply.headers_mut().insert("x-repo-commit", commit);
                return Err(Box::new(reply));
            };
            let mut reply = if file.is_apart(path) {
                let link = format!(
                    "http://{}/{id}/{}/{path}?Expires=9999999999&Signature={SIGNATURE}",
                    self.shared.cdn, file.sha256
                );
                let mut reply = plain(StatusCode::FOUND, "Found. Redirecting");
                let headers = reply.headers_mut();
                headers.insert(LOCATION, HeaderValue::from_str(&link).expect("paths of tests are plain"));
                headers.insert("x-linked-etag", quoted(&file.sha256));
                headers.insert("x-linked-size", HeaderValue::from(file.bytes.len()));
                reply
            } else {
                self.bytes(&file.bytes, &file.git)
            };
            reply.headers_mut().insert("x-repo-commit", commit);
            Ok(reply)
        });
        spoiled(trouble, found.unwrap_or_else(|refusal| *refusal))
    }

    fn cdn(&self, state: &mut State, id: &str, sha256: &str, path: &str) -> Reply {
        let trouble = state.trouble(At::Cdn, path);
        let files = state.repos.get(id).into_iter().flat_map(Repo::all);
        let found = files.filter(|(_, file)| file.sha256 == sha256).map(|(_, file)| file.bytes.clone()).next();
        // A link that was signed for GET is refused to HEAD, as object stores do.
        let reply = match found {
            Some(bytes) if self.get && self.query.contains(SIGNATURE) => self.bytes(&bytes, sha256),
            Some(_) => expired(),
            None => plain(StatusCode::NOT_FOUND, "<Error><Code>NoSuchKey</Code></Error>"),
        };
        spoiled(trouble, reply)
    }

    /// A file, or the part of it that was asked for.
    fn bytes(&self, bytes: &Bytes, tag: &str) -> Reply {
        let tag = quoted(tag);
        if self.headers.get(IF_MATCH).is_some_and(|wanted| *wanted != tag) {
            return plain(StatusCode::PRECONDITION_FAILED, "Precondition Failed");
        }
        let mut reply = match self.asked.range.as_deref().and_then(range) {
            Some((from, _)) if from >= bytes.len() => {
                let mut reply = plain(StatusCode::RANGE_NOT_SATISFIABLE, "");
                let range = format!("bytes */{}", bytes.len());
                reply.headers_mut().insert(CONTENT_RANGE, HeaderValue::from_str(&range).expect("it is of digits"));
                return reply;
            }
            Some((from, to)) => {
                let end = to.map_or(bytes.len(), |to| bytes.len().min(to + 1)).max(from);
                let mut reply = Response::new(Content::new(bytes.slice(from..end)));
                let range = format!("bytes {from}-{}/{}", end.saturating_sub(1), bytes.len());
                reply.headers_mut().insert(CONTENT_RANGE, HeaderValue::from_str(&range).expect("it is of digits"));
                *reply.status_mut() = StatusCode::PARTIAL_CONTENT;
                reply
            }
            None if self.get => Response::new(Content::new(bytes.clone())),
            None => {
                let mut reply = Response::new(Content::default());
                reply.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(bytes.len()));
                reply
            }
        };
        let headers = reply.headers_mut();
        headers.insert(ETAG, tag);
        headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        reply
    }

    fn parameter(&self, name: &str) -> Option<&str> {
        let mut pairs = self.query.split('&').filter_map(|pair| pair.split_once('='));
        pairs.find(|(key, _)| *key == name).map(|(_, value)| value)
    }
}

/// The files and folders below `folder`, sorted by path.
fn entries(files: &BTreeMap<String, File>, folder: &str, recursive: bool) -> Vec<Value> {
    let prefix = if folder.is_empty() { String::new() } else { format!("{folder}/") };
    let (mut entries, mut folders) = (Vec::new(), BTreeSet::new());
    for (path, file) in files {
        let Some(rest) = path.strip_prefix(&prefix) else { continue };
        for (slash, _) in rest.match_indices('/').take(if recursive { usize::MAX } else { 1 }) {
            let folder = format!("{prefix}{}", &rest[..slash]);
            if folders.insert(folder.clone()) {
                entries.push(json!({"type": "directory", "path": folder, "size": 0, "oid": "0".repeat(40)}));
            }
        }
        if !recursive && rest.contains('/') {
            continue;
        }
        let mut entry = json!({"type": "file", "path": path, "size": file.bytes.len(), "oid": file.git});
        if file.is_apart(path) {
            entry["lfs"] = json!({"oid": file.sha256, "size": file.bytes.len(), "pointerSize": 134});
        }
        entries.push(entry);
    }
    entries
}

/// `bytes=5-9`, `bytes=5-`.
fn range(text: &str) -> Option<(usize, Option<usize>)> {
    let (from, to) = text.strip_prefix("bytes=")?.split_once('-')?;
    Some((from.parse().ok()?, if to.is_empty() { None } else { Some(to.parse().ok()?) }))
}

/// The reply after what was ordered to go wrong with it.
fn spoiled(trouble: Option<Trouble>, reply: Reply) -> Reply {
    let Some(trouble) = trouble else { return reply };
    let mut reply = reply;
    match trouble {
        Trouble::Status(status) => plain(
            StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
            "<html>told to fail</html>",
        ),
        Trouble::TooMany(seconds) => {
            let mut reply = problem(StatusCode::TOO_MANY_REQUESTS, None, "We had to rate limit you");
            reply.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
            reply
        }
        Trouble::Cut(after) => reply.map(|body| body.cut(after)),
        // Such pages are made as they are sent.
        Trouble::Html => page("<!doctype html><html><body>Please sign in.</body></html>").map(Content::chunked),
        Trouble::WrongBytes => reply.map(Content::spoiled),
        Trouble::Body(text) => page(&text),
        Trouble::Expired => expired(),
        Trouble::NextPage(next) => {
            set_next(&mut reply, &next);
            reply
        }
    }
}

/// A page for people.
fn page(text: &str) -> Reply {
    let mut reply = Response::new(Content::new(text.to_owned()));
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    reply
}

fn expired() -> Reply {
    plain(StatusCode::FORBIDDEN, "<?xml version=\"1.0\"?><Error><Code>AccessDenied</Code></Error>")
}

fn plain(status: StatusCode, text: &str) -> Reply {
    let mut reply = Response::new(Content::new(text.to_owned()));
    *reply.status_mut() = status;
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    reply
}

fn json_reply(value: &Value) -> Reply {
    let mut reply = Response::new(Content::new(value.to_string()));
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json; charset=utf-8"));
    reply
}

/// A refusal, with the headers that clients go by.
fn problem(status: StatusCode, code: Option<&'static str>, text: &str) -> Reply {
    let mut reply = json_reply(&json!({"error": text}));
    *reply.status_mut() = status;
    let headers = reply.headers_mut();
    if let Some(code) = code {
        headers.insert("x-error-code", HeaderValue::from_static(code));
    }
    headers.extend(HeaderValue::from_str(text).map(|text| (http::HeaderName::from_static("x-error-message"), text)));
    reply
}

/// The same for where an answer is handed up as an error.
fn refused(status: StatusCode, code: Option<&'static str>, text: &str) -> Box<Reply> {
    Box::new(problem(status, code, text))
}

fn set_next(reply: &mut Reply, next: &str) {
    let link = HeaderValue::from_str(&format!("<{next}>; rel=\"next\"")).expect("links of tests are plain");
    reply.headers_mut().insert(LINK, link);
}

fn quoted(tag: &str) -> HeaderValue {
    HeaderValue::from_str(&format!("\"{tag}\"")).expect("it is hexadecimal")
}
