//! Talking to one repository of a registry: the distribution specification's requests, and how one is let in.

use std::fmt::Write as _;
use std::io;
use std::time::Duration;

use longshore_types::Digest;
use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Response, StatusCode, Url};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use tokio::time::{Instant, timeout};

use super::OciOptions;
use super::challenge::Challenge;
use super::identity::{Identity, sensitive};
use super::manifest::{ACCEPT as MANIFESTS, Descriptor, Document, choose};
use super::plan::invalid;
use super::reference::{Reference, Version};
use super::tokens::{Access, Holder, Tokens};
use crate::digest::finish;
use crate::error::Error;
use crate::http::download::Download;
use crate::http::{Answer, Ask, Http, failed, refusal, shown};
use crate::origin::Credentials;
use crate::verify::defect;

/// The largest manifest, as the distribution specification has it.
pub(crate) const MANIFEST: usize = 4 << 20;
/// The largest answer of whoever gives out tokens; real ones have up to some KiB.
const TOKEN: usize = 256 << 10;
/// As much of a refusal as is read.
const REFUSAL: usize = 16 << 10;
/// The longest that a small answer may take: the largest manifest at 70 KiB/s.
const SMALL: Duration = Duration::from_secs(60);
/// What a registry says that the digest of its answer is.
const DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

/// One repository, and who we are to it.
pub(crate) struct Session<'o> {
    http: &'o Http,
    options: &'o OciOptions,
    tokens: &'o Tokens,
    pub(crate) reference: Reference,
    holder: Holder,
}

impl<'o> Session<'o> {
    pub(crate) fn new(
        http: &'o Http,
        options: &'o OciOptions,
        tokens: &'o Tokens,
        reference: Reference,
        credentials: &Credentials,
    ) -> Result<Self, Error> {
        let identity = Identity::of(credentials, &reference)?;
        let (registry, repository) = (reference.base.to_string(), reference.repository.clone());
        Ok(Self { http, options, tokens, reference, holder: Holder { registry, repository, identity } })
    }

    /// The digest of what the reference stands for now. A registry's word, where it is cheap: the bytes are held against it
    /// when they are fetched.
    ///
    /// A registry lets whoever it lets see a manifest read the blobs too: what it gives out, and asks for, is the right to
    /// pull from a repository as a whole (the token specification's `repository:NAME:pull`). So this is also the proof
    /// that the credentials are good.
    pub(crate) async fn digest(&self) -> Result<Digest, Error> {
        let mut ask = Ask::head(self.reference.manifest());
        ask.open.insert(ACCEPT, HeaderValue::from_static(MANIFESTS));
        let answer = self.send(&ask).await?;
        // Some registries know no HEAD, and the others cannot say in its answer what is wrong.
        let status = answer.response.status();
        if status == StatusCode::NOT_IMPLEMENTED || (status.is_client_error() && !is_said_by_status(status)) {
            return Ok(self.document(self.reference.manifest(), None).await?.0);
        }
        let response = self.judge(&ask, &self.reference.shown, answer).await?;
        match (claimed(&response), &self.reference.version) {
            (Some(found), Version::Digest(digest)) if found != *digest => Err(self.lies(found)),
            (Some(found), _) => Ok(found),
            // Anybody's page may answer with success: whoever is let in sees the manifest.
            (None, _) => Ok(self.document(self.reference.manifest(), None).await?.0),
        }
    }

    /// The digest of what the reference stands for, and the artifact's layers, by way of an index where there is one.
    pub(crate) async fn layers(&self) -> Result<(Digest, Vec<Descriptor>), Error> {
        let (digest, document) = self.document(self.reference.manifest(), None).await?;
        let chosen = match document {
            Document::Layers(layers) => return Ok((digest, layers)),
            Document::Index(manifests) => choose(manifests).map_err(|problem| self.refused(&problem))?,
        };
        let url = self.reference.manifest_of(&chosen.digest);
        match self.document(url, Some(&chosen)).await?.1 {
            Document::Layers(layers) => Ok((digest, layers)),
            Document::Index(_) => Err(self.refused("it is an index of indexes: name a manifest by `@` and its digest")),
        }
    }

    /// A manifest and its digest, checked. `of` is what an index says of it.
    async fn document(&self, url: Url, of: Option<&Descriptor>) -> Result<(Digest, Document), Error> {
        let mut ask = Ask::get(url);
        ask.open.insert(ACCEPT, HeaderValue::from_static(MANIFESTS));
        let answer = self.send(&ask).await?;
        let response = self.judge(&ask, &self.reference.shown, answer).await?;
        let said = claimed(&response);
        let bytes = read(&ask, response, MANIFEST).await?;
        let mut hash = Sha256::new();
        hash.update(&bytes);
        let found = finish(hash);
        let pinned = match (&self.reference.version, of) {
            (_, Some(descriptor)) => Some(descriptor.digest),
            (Version::Digest(digest), None) => Some(*digest),
            (Version::Tag(_), None) => None,
        };
        if pinned.or(said).is_some_and(|expected| expected != found) || said.is_some_and(|said| said != found) {
            return Err(self.lies(found));
        }
        match Document::parse(&bytes) {
            Ok(document) => Ok((found, document)),
            // Bytes that nobody vouches for may be another's page as well as a broken manifest.
            Err(problem) if pinned.or(said).is_some() => Err(self.refused(&problem)),
            Err(problem) => {
                let problem = format!("its manifest is none ({problem}): check that a registry answers there");
                Err(Error::Corrupted { what: self.reference.shown.clone(), problem })
            }
        }
    }

    /// Begins to download a blob.
    pub(crate) async fn open(&self, digest: &Digest) -> Result<Download, Error> {
        let mut ask = Ask::get(self.reference.blob(digest));
        if let Some(access) = self.tokens.get(&self.holder) {
            ask.private.insert(AUTHORIZATION, access.header);
        }
        match Download::open(self.http, ask.clone(), true).await {
            Err(Error::AccessDenied { .. }) => {
                ask.private = self.renew(digest).await?;
                Download::open(self.http, ask, true).await.map_err(|error| self.explain(error))
            }
            opened => opened.map_err(|error| self.explain(error)),
        }
    }

    /// What to show for a blob, once what was shown is refused: tokens are good for some minutes, and a download may take
    /// an hour.
    pub(crate) async fn renew(&self, digest: &Digest) -> Result<HeaderMap, Error> {
        self.tokens.forget(&self.holder);
        // Asked only for what comes before the answer. Whether it is good shows when the blob itself is asked for.
        self.send(&Ask::head(self.reference.blob(digest))).await?;
        let access = self.tokens.get(&self.holder);
        Ok(access.into_iter().map(|access| (AUTHORIZATION, access.header)).collect())
    }

    /// A blob's failure in a registry's terms.
    pub(crate) fn explain(&self, error: Error) -> Error {
        match error {
            Error::AccessDenied { what, status, .. } => self.denied(what, status),
            Error::NotFound { what } => {
                Error::NotFound { what: format!("{what}, a layer of {},", self.reference.shown) }
            }
            other => other,
        }
    }

    /// Sends `ask`; where the registry wants to be shown something first, gets that and sends it again.
    async fn send(&self, ask: &Ask) -> Result<Answer, Error> {
        let mut ask = ask.clone();
        if let Some(access) = self.tokens.get(&self.holder) {
            ask.private.insert(AUTHORIZATION, access.header);
        }
        let answer = self.http.send(&ask).await?;
        let of_registry = answer.response.url().origin() == self.reference.base.origin();
        if answer.response.status() != StatusCode::UNAUTHORIZED || !of_registry {
            return Ok(answer);
        }
        let Some(access) = self.answer(Challenge::of(answer.response.headers())).await? else { return Ok(answer) };
        ask.private.insert(AUTHORIZATION, access.header.clone());
        self.tokens.put(self.holder.clone(), access);
        self.http.send(&ask).await
    }

    /// What to show to whoever asks for this; nothing, where we have nothing to show.
    async fn answer(&self, challenge: Option<Challenge>) -> Result<Option<Access>, Error> {
        // What is not given out for a time is thrown away after a minute, and then shown again when it is asked for.
        let kept = |header: HeaderValue| Access::new(header, Instant::now(), None);
        match (&self.holder.identity, challenge) {
            (Identity::Holder(token), Some(_)) => {
                let header = sensitive(&format!("Bearer {}", token.expose())).ok_or_else(|| {
                    let problem = "holds characters that no token has".to_owned();
                    Error::CredentialInvalid { name: "token".into(), problem }
                })?;
                Ok(Some(kept(header)))
            }
            (_, Some(Challenge::Bearer { realm, service, scope })) => {
                self.token(&realm, service.as_deref(), scope.as_deref()).await.map(Some)
            }
            (identity, Some(Challenge::Basic)) => Ok(identity.basic().map(kept)),
            (_, None) => Ok(None),
        }
    }

    /// Asks for a token to pull with.
    ///
    /// Whom to ask is the registry's word, and it is trusted with the credentials anyway, since it could ask for them itself.
    /// What it must not do is have them sent where others can read them: so it is asked over https, or at the registry's own
    /// place, or where the process is set up to speak plain http. Addresses are held against what may be reached as all are.
    async fn token(&self, realm: &str, service: Option<&str>, scope: Option<&str>) -> Result<Access, Error> {
        let refused = |problem: String| Error::RedirectRefused { what: self.reference.shown.clone(), problem };
        let mut url = Url::parse(realm)
            .ok()
            .filter(|url| {
                matches!(url.scheme(), "http" | "https") && url.username().is_empty() && url.password().is_none()
            })
            .ok_or_else(|| refused("for a token to something that is no URL".into()))?;
        let own = url.origin() == self.reference.base.origin();
        // What the process is set up for is no business of another registry's.
        let set_up = self.options.speaks_http(&self.reference.base) && self.options.speaks_http(&url);
        if !own && !set_up && (url.scheme() == "http" || self.options.speaks_http(&url)) {
            return Err(refused(format!("for a token to {}, where anybody could read it", shown(&url))));
        }
        let pull = format!("repository:{}:pull", self.reference.repository);
        let service = service.map(|service| ("service", service));
        url.query_pairs_mut().extend_pairs(service).append_pair("scope", scope.unwrap_or(&pull));
        let mut ask = Ask::get(url);
        ask.private.extend(self.holder.identity.basic().map(|basic| (AUTHORIZATION, basic)));
        let asked = Instant::now();
        let answer = self.http.send(&ask).await?;
        let what = format!("a token for {} from {}", self.reference.shown, ask.what());
        let response = self.judge(&ask, &what, answer).await?;
        let bytes = read(&ask, response, TOKEN).await?;
        #[derive(Deserialize)]
        struct Given {
            token: Option<String>,
            access_token: Option<String>,
            expires_in: Option<u64>,
        }
        let given = serde_json::from_slice::<Given>(&bytes).ok();
        let lifetime = given.as_ref().and_then(|given| given.expires_in).map(Duration::from_secs);
        let token = given.and_then(|given| given.token.filter(|token| !token.is_empty()).or(given.access_token));
        let header = token.and_then(|token| sensitive(&format!("Bearer {token}")));
        // The parser's own words would cite what may be a token.
        let problem = "there is none in the answer".to_owned();
        let header = header.ok_or(Error::Corrupted { what, problem })?;
        Ok(Access::new(header, asked, lifetime))
    }

    /// The answer, if it is a success; otherwise what it means for `what`, which is the reference or a token for it.
    async fn judge(&self, ask: &Ask, what: &str, answer: Answer) -> Result<Response, Error> {
        let (status, headers) = (answer.response.status(), answer.response.headers().clone());
        let Some(error) = refusal(ask, status, &headers) else { return Ok(answer.response) };
        let code = code_in(&read(ask, answer.response, REFUSAL).await.unwrap_or_default());
        let mut said = status.to_string();
        if let Some(code) = &code {
            // Writing to a String cannot fail.
            let _ = write!(said, ", {code}");
        }
        let Reference { registry, repository, shown, .. } = &self.reference;
        let what = what.to_owned();
        Err(match (error, code.as_deref()) {
            (Error::Unavailable { retry_after, .. }, _) => Error::Unavailable { what, status: said, retry_after },
            // Some say so with 403.
            (_, Some("TOOMANYREQUESTS")) => Error::Unavailable { what, status: said, retry_after: None },
            (Error::AccessDenied { .. }, _) => self.denied(what, said),
            (Error::NotFound { .. }, Some("NAME_UNKNOWN")) if what == *shown => {
                Error::NotFound { what: format!("the repository {repository} of {registry}") }
            }
            (Error::NotFound { .. }, _) if what == *shown => Error::NotFound { what },
            // Whoever gives out tokens has nothing to be found.
            (Error::NotFound { .. } | Error::Refused { .. }, _) => Error::Refused { what, status: said },
            (other, _) => other,
        })
    }

    fn denied(&self, what: String, status: String) -> Error {
        let Reference { registry, repository, .. } = &self.reference;
        let (whom, advice) = match self.holder.identity {
            Identity::Nobody { unlisted: false } => (
                "whoever shows no credential",
                "give a username and password, a token or a .dockerconfigjson, or check that there is such a repository"
                    .to_owned(),
            ),
            Identity::Nobody { unlisted: true } => {
                ("whoever shows no credential", format!("add {registry} to the credentials' .dockerconfigjson"))
            }
            Identity::User(..) | Identity::Holder(_) => (
                "this credential",
                format!("check that it is valid, may pull from {repository}, and that there is such a repository"),
            ),
        };
        Error::AccessDenied { what, whom, status, advice }
    }

    fn refused(&self, problem: &str) -> Error {
        invalid(format!("{} cannot be used: {problem}", self.reference.shown))
    }

    fn lies(&self, found: Digest) -> Error {
        let problem = format!("its manifest has another digest than the registry says ({found})");
        Error::Corrupted { what: self.reference.shown.clone(), problem }
    }
}

/// Whether a body could add nothing to what a status says.
fn is_said_by_status(status: StatusCode) -> bool {
    matches!(status, StatusCode::UNAUTHORIZED | StatusCode::TOO_MANY_REQUESTS)
}

/// What the registry says that the digest is, where that is one that we know.
fn claimed(response: &Response) -> Option<Digest> {
    response.headers().get(DIGEST)?.to_str().ok()?.parse().ok()
}

/// The whole of a small answer.
async fn read(ask: &Ask, mut response: Response, most: usize) -> Result<Vec<u8>, Error> {
    let whole = async {
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| failed(ask.what(), error))? {
            if bytes.len() + chunk.len() > most {
                let problem = format!("it is longer than {most} bytes");
                return Err(Error::Corrupted { what: ask.what(), problem });
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    };
    let late = |_| io::Error::new(io::ErrorKind::TimedOut, format!("it has not come within {} s", SMALL.as_secs()));
    timeout(SMALL, whole).await.map_err(late).map_err(|source| Error::Source { what: ask.what(), source })?
}

/// The registry's own word for what is wrong: `DENIED`, ...
fn code_in(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Body {
        errors: Vec<One>,
    }
    #[derive(Deserialize)]
    struct One {
        code: String,
    }
    let code = serde_json::from_slice::<Body>(body).ok()?.errors.into_iter().next()?.code;
    let is_code = !code.is_empty() && code.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_');
    is_code.then(|| defect::shown(&code))
}
