//! HTTP as sources speak it: what may be reached, whom credentials are shown to, what an answer means, and bytes that go
//! on where a connection ended.

pub(crate) mod download;
pub(crate) mod meaning;
pub(crate) mod patience;
pub(crate) mod range;
pub(crate) mod reach;
mod redirect;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use reqwest::header::{ACCEPT_ENCODING, AUTHORIZATION, HeaderMap, HeaderValue};
use reqwest::{Client, Method, Response, Url};
use tokio::time::{Instant, timeout};

use crate::error::Error;
use meaning::late;
use meaning::timed_out;
pub(crate) use meaning::{failed, refusal, retry_after};
use patience::{Meter, Patience, seconds};
use reach::{Reach, Resolver};

/// Redirects followed. Hubs need one, sign-in detours two.
const REDIRECTS: usize = 5;
/// Attempts in a row that bring nothing.
const FRUITLESS: u32 = 5;

/// A client that goes by what may be reached. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Http {
    reach: Arc<Reach>,
    patience: Arc<Patience>,
    /// For hosts that a person has configured.
    trusting: Client,
    /// For every other.
    wary: Client,
}

/// One request without a body. Shown without what may be secret.
#[derive(Clone)]
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

impl fmt::Debug for Ask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method, self.what())
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
pub(crate) struct Answer {
    pub(crate) response: Response,
    /// Whether there are credentials that whoever answers was not shown, being another than the first.
    pub(crate) withheld: bool,
}

/// Without headers and query: both may let somebody in.
impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} from {}", self.response.status(), shown(self.response.url()))
    }
}

impl Answer {
    /// What its status means, where it is no success.
    pub(crate) fn refusal(&self, ask: &Ask) -> Option<Error> {
        let status = self.response.status();
        // Who passed us on has let us in, and the next host was shown no credentials: it is the link that is refused, as one
        // is that has run out, and whoever gave it out gives out others.
        if self.is_refused_elsewhere(ask) {
            let status = format!("{status}, from the host that it leads to");
            return Some(Error::Unavailable { what: ask.what(), status, retry_after: None });
        }
        refusal(ask, status, self.response.headers())
    }

    /// Whether another host than the one that was asked does not let us in.
    pub(crate) fn is_refused_elsewhere(&self, ask: &Ask) -> bool {
        let elsewhere = self.response.url().origin() != ask.url.origin();
        matches!(self.response.status().as_u16(), 401 | 403) && elsewhere
    }
}

impl Http {
    /// A client for this process. A TLS provider must have been installed.
    ///
    /// # Errors
    /// [`Error::Source`] where the system has no certificates.
    pub(crate) fn new(reach: Reach) -> Result<Self, Error> {
        Self::with(reach, Patience::default())
    }

    /// The same with its own patience.
    ///
    /// # Errors
    /// As [`Http::new`].
    pub(crate) fn with(reach: Reach, patience: Patience) -> Result<Self, Error> {
        let reach = Arc::new(reach);
        // Digests and sizes are of the bytes as they are kept, so nothing is to be packed for the way or unpacked after it.
        let plain = HeaderMap::from_iter([(ACCEPT_ENCODING, HeaderValue::from_static("identity"))]);
        let client = |trusting| {
            let resolver = Resolver { reach: reach.clone(), trusting };
            Client::builder()
                .user_agent(concat!("longshore/", env!("CARGO_PKG_VERSION")))
                .default_headers(plain.clone())
                // Other crates of a build may switch these on.
                .no_gzip()
                .no_brotli()
                .no_deflate()
                .no_zstd()
                .redirect(reqwest::redirect::Policy::none())
                .retry(reqwest::retry::never())
                .connect_timeout(patience.connect)
                // A proxy would resolve names by itself, out of our sight.
                .no_proxy()
                .tcp_nodelay(true)
                .dns_resolver(Arc::new(resolver))
                .build()
                .map_err(|error| failed("the system's certificates", error))
        };
        Ok(Self { trusting: client(true)?, wary: client(false)?, reach, patience: Arc::new(patience) })
    }

    /// What may be reached.
    pub(crate) fn reach(&self) -> &Reach {
        &self.reach
    }

    /// Sends `ask` and follows redirects, showing its credentials to the first host alone. Statuses are not judged.
    ///
    /// # Errors
    /// [`Error::AddressRefused`], [`Error::RedirectRefused`], [`Error::Source`] where there is no answer.
    pub(crate) async fn send(&self, ask: &Ask) -> Result<Answer, Error> {
        let (mut url, mut passed) = (ask.url.clone(), 0);
        // Once elsewhere, always elsewhere: else whoever we were led to could lead us back with credentials, to what it likes.
        let mut at_home = true;
        loop {
            at_home &= url.origin() == ask.url.origin();
            let response = self.send_to(&url, ask, at_home).await?;
            let (status, headers) = (response.status(), response.headers());
            let refused = |problem| Error::RedirectRefused { what: ask.what(), problem };
            let Some(next) = redirect::target(&url, status, headers) else {
                return Ok(Answer { response, withheld: !at_home && ask.is_private() });
            };
            if passed == REDIRECTS {
                return Err(refused(format!("more than {REDIRECTS} times")));
            }
            url = next.map_err(refused)?;
            passed += 1;
        }
    }

    async fn send_to(&self, url: &Url, ask: &Ask, with_credentials: bool) -> Result<Response, Error> {
        self.reach.admit(url)?;
        let client = if self.reach.is_trusted(url) { &self.trusting } else { &self.wary };
        let mut headers = ask.open.clone();
        if with_credentials {
            headers.extend(ask.private.clone());
        }
        let request = client.request(ask.method.clone(), url.clone()).headers(headers).send();
        match timeout(self.patience.answer, request).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(failed(ask.what(), error)),
            Err(_) => Err(timed_out(ask, format!("no answer within {}", seconds(self.patience.answer)))),
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
        match timeout(self.patience.answer, client.execute(request)).await {
            Ok(answer) => answer.map_err(|error| failed(what, error)),
            Err(_) => Err(late(what, format!("no answer within {}", seconds(self.patience.answer)))),
        }
    }

    /// An answer that is waited for where there is none, or none yet. `judge` tells what an answer means, where it is not the
    /// one that is waited for.
    ///
    /// # Errors
    /// As [`Http::send`], or what `judge` has told.
    pub(crate) async fn patient(&self, ask: &Ask, judge: impl Fn(&Answer) -> Option<Error>) -> Result<Answer, Error> {
        let mut failures = 0;
        loop {
            let error = match self.send(ask).await {
                Ok(answer) => match judge(&answer) {
                    None => return Ok(answer),
                    Some(error) => error,
                },
                Err(error) => error,
            };
            failures += 1;
            let again = may_pass(&error) && failures < FRUITLESS;
            match self.patience.pause_after(failures, &error).filter(|_| again) {
                Some(pause) => tokio::time::sleep(pause).await,
                None => return Err(error),
            }
        }
    }

    /// The whole of what an answer says.
    ///
    /// # Errors
    /// [`Error::Source`]; [`Error::Corrupted`] where it is larger than `most` bytes.
    pub(crate) async fn body(&self, ask: &Ask, mut answer: Answer, most: usize) -> Result<Vec<u8>, Error> {
        let (mut text, mut meter) = (Vec::new(), Meter::default());
        while let Some(chunk) = self.chunk(ask, &mut answer.response, &mut meter).await? {
            if text.len() + chunk.len() > most {
                let problem = format!("it is longer than {most} bytes");
                return Err(Error::Corrupted { what: ask.what(), problem });
            }
            text.extend_from_slice(&chunk);
        }
        Ok(text)
    }

    /// The next bytes of an answer; none at its end.
    async fn chunk(&self, ask: &Ask, response: &mut Response, meter: &mut Meter) -> Result<Option<Bytes>, Error> {
        let began = Instant::now();
        let chunk = timeout(self.patience.silence, response.chunk()).await;
        let bytes = chunk.iter().flatten().flatten().map(Bytes::len).sum();
        // Silence counts too: else a source could bring a byte between two of them for hours.
        let pace = meter.note(&self.patience, began.elapsed(), bytes);
        let chunk = chunk
            .map_err(|_| timed_out(ask, format!("nothing came for {}", seconds(self.patience.silence))))?
            .map_err(|error| failed(ask.what(), error))?;
        pace.map_err(|problem| timed_out(ask, problem))?;
        Ok(chunk)
    }
}

/// Whether the same request may well be answered in a moment.
fn may_pass(error: &Error) -> bool {
    matches!(error, Error::Source { .. } | Error::Unavailable { .. })
}
