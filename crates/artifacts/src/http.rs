//! HTTP as sources speak it: what may be reached, whom credentials are shown to, what an answer means, and bytes that go
//! on where a connection ended.

pub(crate) mod download;
pub(crate) mod reach;

use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue, LOCATION, RETRY_AFTER};
use reqwest::{Client, Method, Response, StatusCode, Url};

use crate::error::Error;
use reach::{Reach, Resolver};

/// Redirects followed. Hubs need one, sign-in detours two.
const REDIRECTS: usize = 5;
/// A connection, or a proof that there is nobody.
const CONNECT: Duration = Duration::from_secs(10);
/// From a request to the head of its answer. Object stores take up to some seconds for a first byte.
const HEAD: Duration = Duration::from_secs(30);
/// The longest wait that a source may ask for and get.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);

/// A client that goes by what may be reached. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Http {
    reach: Arc<Reach>,
    /// For hosts that a person has configured.
    trusting: Client,
    /// For every other.
    wary: Client,
}

/// One request without a body.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    pub(crate) method: Method,
    pub(crate) url: Url,
    /// Shown to the first host alone: whoever it redirects us to gets none of them.
    pub(crate) private: HeaderMap,
    /// Shown to everybody.
    pub(crate) open: HeaderMap,
}

impl Ask {
    /// GET.
    pub(crate) fn get(url: Url) -> Self {
        Self { method: Method::GET, url, private: HeaderMap::new(), open: HeaderMap::new() }
    }

    /// HEAD.
    pub(crate) fn head(url: Url) -> Self {
        Self { method: Method::HEAD, ..Self::get(url) }
    }

    /// With a token for the first host.
    ///
    /// # Errors
    /// [`Error::CredentialInvalid`] where it cannot be in a header.
    pub(crate) fn bearer(mut self, name: &str, token: Option<&longshore_types::Secret>) -> Result<Self, Error> {
        if let Some(token) = token {
            let mut value = HeaderValue::from_str(&format!("Bearer {}", token.expose())).map_err(|_| {
                let problem = "holds characters that no token has".to_owned();
                Error::CredentialInvalid { name: name.to_owned(), problem }
            })?;
            value.set_sensitive(true);
            self.private.insert(AUTHORIZATION, value);
        }
        Ok(self)
    }

    /// What is asked for, without what may be secret.
    pub(crate) fn what(&self) -> String {
        shown(&self.url)
    }

    /// Whether a credential goes with it.
    pub(crate) fn is_private(&self) -> bool {
        !self.private.is_empty()
    }
}

/// A reference without userinfo, query and fragment (I8).
pub(crate) fn shown(url: &Url) -> String {
    let mut url = url.clone();
    // Fails only for those that have neither.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.set_query(None);
    url.set_fragment(None);
    url.to_string()
}

/// An answer, from wherever it came in the end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) response: Response,
    /// The answers of those that passed us on, first to last, without bodies.
    pub(crate) passed: Vec<(StatusCode, HeaderMap)>,
}

impl Http {
    /// A client for this process. A TLS provider must have been installed.
    ///
    /// # Errors
    /// [`Error::Source`] where the system has no certificates.
    pub(crate) fn new(reach: Reach) -> Result<Self, Error> {
        let reach = Arc::new(reach);
        let client = |trusting| {
            let resolver = Resolver { reach: reach.clone(), trusting };
            Client::builder()
                .user_agent(concat!("longshore/", env!("CARGO_PKG_VERSION")))
                .redirect(reqwest::redirect::Policy::none())
                .connect_timeout(CONNECT)
                .no_proxy()
                .tcp_nodelay(true)
                .dns_resolver(Arc::new(resolver))
                .build()
                .map_err(|error| failed("the system's certificates", error))
        };
        Ok(Self { trusting: client(true)?, wary: client(false)?, reach })
    }

    /// Sends `ask` and follows redirects, showing its credentials to the first host alone. Statuses are not judged.
    ///
    /// # Errors
    /// [`Error::AddressRefused`], [`Error::RedirectRefused`], [`Error::Source`] where there is no answer.
    pub(crate) async fn send(&self, ask: &Ask) -> Result<Answer, Error> {
        let (mut url, mut passed) = (ask.url.clone(), Vec::new());
        loop {
            let trusted = self.reach.is_trusted(&url);
            self.reach.admit(&url)?;
            let client = if trusted { &self.trusting } else { &self.wary };
            let mut headers = ask.open.clone();
            if url.origin() == ask.url.origin() {
                headers.extend(ask.private.clone());
            }
            let request = client.request(ask.method.clone(), url.clone()).headers(headers).send();
            let response = match tokio::time::timeout(HEAD, request).await {
                Ok(Ok(response)) => response,
                Ok(Err(error)) => return Err(failed(ask.what(), error)),
                Err(_) => return Err(no_answer(ask.what())),
            };
            let status = response.status();
            let target = response.headers().get(LOCATION).filter(|_| status.is_redirection());
            let Some(target) = target else { return Ok(Answer { response, passed }) };
            let refused = |problem: String| Error::RedirectRefused { what: ask.what(), problem };
            if passed.len() == REDIRECTS {
                return Err(refused(format!("more than {REDIRECTS} times")));
            }
            let next = target.to_str().ok().and_then(|target| url.join(target).ok());
            let next = next.ok_or_else(|| refused("to something that is no URL".into()))?;
            if !matches!(next.scheme(), "http" | "https") || !next.username().is_empty() || next.password().is_some() {
                return Err(refused(format!("to {}, which is not followed", shown(&next))));
            }
            if url.scheme() == "https" && next.scheme() == "http" {
                return Err(refused(format!("from https to {}, where anybody could read and change it", shown(&next))));
            }
            passed.push((status, response.headers().clone()));
            url = next;
        }
    }

    /// Sends a request that somebody else has made and signed. Redirects are not followed, and statuses are not judged.
    /// `trusted` says that a person has configured its host.
    ///
    /// # Errors
    /// [`Error::AddressRefused`], [`Error::Source`] where there is no answer.
    pub(crate) async fn pass(&self, request: reqwest::Request, trusted: bool) -> Result<Response, Error> {
        self.reach.admit_as(request.url(), trusted)?;
        let client = if trusted { &self.trusting } else { &self.wary };
        let what = shown(request.url());
        match tokio::time::timeout(HEAD, client.execute(request)).await {
            Ok(answer) => answer.map_err(|error| failed(what, error)),
            Err(_) => Err(no_answer(what)),
        }
    }

    /// [`Http::send`], where anything but success is a failure. HTML in the place of a file is left to whoever reads it.
    ///
    /// # Errors
    /// As [`Http::send`], or what the status means.
    pub(crate) async fn succeed(&self, ask: &Ask) -> Result<Answer, Error> {
        let answer = self.send(ask).await?;
        match refusal(ask, answer.response.status(), answer.response.headers()) {
            None => Ok(answer),
            Some(error) => Err(error),
        }
    }

    /// The whole of a small answer.
    ///
    /// # Errors
    /// As [`Http::succeed`]; [`Error::Corrupted`] where it is larger than `most` bytes.
    pub(crate) async fn text(&self, ask: &Ask, most: usize) -> Result<(Vec<u8>, HeaderMap), Error> {
        let mut answer = self.succeed(ask).await?;
        let mut text = Vec::new();
        loop {
            let chunk = tokio::time::timeout(download::IDLE, answer.response.chunk()).await;
            match chunk.map_err(|_| stalled(ask))?.map_err(|error| failed(ask.what(), error))? {
                None => return Ok((text, answer.response.headers().clone())),
                Some(chunk) if text.len() + chunk.len() > most => {
                    let problem = format!("it is longer than {most} bytes");
                    return Err(Error::Corrupted { what: ask.what(), problem });
                }
                Some(chunk) => text.extend_from_slice(&chunk),
            }
        }
    }
}

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
    Error::Source { what: what.into(), source: std::io::Error::other(error) }
}

fn no_answer(what: String) -> Error {
    let source = std::io::Error::new(std::io::ErrorKind::TimedOut, "no answer within 30 s");
    Error::Source { what, source }
}

pub(crate) fn stalled(ask: &Ask) -> Error {
    let source = std::io::Error::new(std::io::ErrorKind::TimedOut, "nothing came for 30 s");
    Error::Source { what: ask.what(), source }
}
