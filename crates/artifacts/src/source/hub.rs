//! Hugging Face's hub, and mirrors of it.
//!
//! A revision is resolved to a commit first, and everything else is asked of that commit, so that what is fetched is of one
//! moment. The listing says how large each file is and what its bytes come to, and they are held against that: whatever a
//! cache or a CDN hands out in its place does not get in. Only kept files are asked for, and none at all where there is
//! no adapter: a repository with a whole model may be hundreds of gigabytes.

mod api;
mod listing;
mod reference;
mod refusal;

use std::fmt;

use async_trait::async_trait;
use longshore_types::{Invalid, Scheme, Secret};
use reqwest::Url;

use super::{Fingerprint, Source};
use crate::error::{Defect, Error};
use crate::http::download::Download;
use crate::http::{Http, shown};
use crate::origin::{Credentials, Origin};
use crate::store::staging::Staging;
use api::Api;
use listing::Kept;
use reference::Reference;

/// Where repositories are unless somebody says otherwise.
const ENDPOINT: &str = "https://huggingface.co";
/// The names that a token may have among credentials.
const TOKEN: [&str; 3] = ["huggingface_token", "hf_token", "token"];

/// Where the hub is, and who we are there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubOptions {
    endpoint: Url,
    token: Option<Secret>,
}

impl Default for HubOptions {
    /// Hugging Face's own, as a stranger.
    fn default() -> Self {
        Self { endpoint: ENDPOINT.parse().expect("it is written as a URL above"), token: None }
    }
}

impl HubOptions {
    /// A hub or a mirror of one, as `HF_ENDPOINT` would name it: `https://hub.example.com`, with or without a path. It may
    /// be at a private address, since whoever sets this process up says so.
    ///
    /// # Errors
    /// [`Invalid`] for anything but http and https, and where there is userinfo, a query or a fragment.
    pub fn at(endpoint: &str) -> Result<Self, Invalid> {
        let rule = "expected http:// or https:// with a host, such as https://huggingface.co, without user, password and query";
        let invalid = |value: String| Invalid { what: "hub endpoint", value, rule };
        let url = endpoint.trim().parse::<Url>().ok().filter(|url| matches!(url.scheme(), "http" | "https"));
        let Some(url) = url else {
            // It may hold a password anywhere.
            let odd = endpoint.contains(['@', '?']);
            return Err(invalid(if odd { "…".into() } else { endpoint.chars().take(64).collect() }));
        };
        let plain = url.username().is_empty() && url.password().is_none() && url.query().is_none();
        if !plain || url.fragment().is_some() {
            return Err(invalid(shown(&url)));
        }
        Ok(Self { endpoint: url, token: None })
    }

    /// With a token, for references that bring none of their own.
    #[must_use]
    pub fn with_token(self, token: Secret) -> Self {
        Self { token: Some(token).filter(|token| !token.expose().trim().is_empty()), ..self }
    }

    pub(crate) fn endpoint(&self) -> &Url {
        &self.endpoint
    }
}

/// `huggingface://` and `hf://` references.
pub(crate) struct Hub {
    http: Http,
    options: HubOptions,
}

impl Hub {
    /// Fetches from where `options` say. The endpoint should be one that `http` trusts.
    pub(crate) fn new(http: Http, options: HubOptions) -> Self {
        Self { http, options }
    }

    /// The hub as whoever shows what `origin` has.
    fn api(&self, origin: &Origin) -> Result<Api<'_>, Error> {
        let reference = Reference::parse(&origin.url)?;
        let token = self.token(&origin.credentials);
        Ok(Api { http: &self.http, endpoint: &self.options.endpoint, reference, token })
    }

    /// Where the credentials are for other sources, the process's own token is as good as for no credentials.
    fn token(&self, credentials: &Credentials) -> Option<Secret> {
        credentials.get(&TOKEN).or_else(|| self.options.token.as_ref().map(|token| Secret::new(token.expose().trim())))
    }
}

#[async_trait]
impl Source for Hub {
    fn schemes(&self) -> &'static [Scheme] {
        &[Scheme::HuggingFace]
    }

    fn takes(&self) -> &'static str {
        "huggingface:// and hf:// references"
    }

    /// By what the files come to, and not by the commit: a word changed in the README is no other adapter.
    async fn fingerprint(&self, origin: &Origin) -> Result<Fingerprint, Error> {
        let api = self.api(origin)?;
        let commit = api.commit().await?;
        let listing = api.listing(&commit).await?;
        // Everybody may list a gated repository, so only a file tells who is let in.
        if let Some(file) = listing.files.first() {
            api.admit(&commit, file).await?;
        }
        Ok(listing.fingerprint(api.endpoint.as_str()))
    }

    async fn fetch(&self, origin: &Origin, mut staging: Staging) -> Result<Staging, Error> {
        let api = self.api(origin)?;
        let commit = api.commit().await?;
        let listing = api.listing(&commit).await?;
        staging.found_at(listing.fingerprint(api.endpoint.as_str()));
        listing.passed_over.iter().for_each(|name| staging.passed_over(name));
        if !listing.has_config() {
            staging.hint(api.hint(&commit, &listing).await);
        }
        let wanted = listing.wanted();
        let (total, limits) = (listing::total(wanted), *staging.limits());
        if total > limits.bytes {
            return Err(Defect::TooLarge { problem: format!("it has more than {} bytes", limits.bytes) }.into());
        }
        if wanted.len() > limits.files {
            return Err(Defect::TooLarge { problem: format!("it has more than {} files", limits.files) }.into());
        }
        staging.progress().expect(total);
        for file in wanted {
            let ask = api.file(&commit, file)?;
            let what = ask.what();
            // Its digest is known, so parts of two versions cannot be taken for one.
            let download = Download::open(&self.http, ask, true).await.map_err(|error| api.explain(error))?;
            expect_file(&download, file, &what)?;
            staging =
                staging.receive_file(&file.name, Some(file.size), Some(file.sum.clone()), &what, download).await?;
        }
        Ok(staging)
    }
}

/// Refuses what cannot be the file by its length or kind: an error page with 200 is the fault of whoever sends it, and would
/// else be told as a fault of the adapter's.
fn expect_file(download: &Download, file: &Kept, what: &str) -> Result<(), Error> {
    let problem = match (download.length(), download.content_type()) {
        (Some(length), _) if length != file.size => {
            format!("{length} bytes would come, but it has {}", file.size)
        }
        (None, Some(kind)) if kind.starts_with("text/html") => "a page for people came in its place".to_owned(),
        _ => return Ok(()),
    };
    Err(Error::Corrupted { what: what.to_owned(), problem })
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub").field("options", &self.options).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_a_plain_web_address() {
        for good in ["https://huggingface.co", "http://127.0.0.1:8080/", " https://mirror.example.com/hf\n"] {
            assert!(HubOptions::at(good).is_ok(), "{good}");
        }
        for bad in ["huggingface.co", "", "ftp://x", "file:///etc", "https://x/?a=b", "https://x/#a", "https://"] {
            assert!(HubOptions::at(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn i8_an_endpoint_with_a_password_is_refused_without_showing_it() {
        for bad in ["https://user:hunter2@mirror", "user:hunter2@mirror", "https://hunter2@", "https://x?token=hunter2"]
        {
            let text = HubOptions::at(bad).unwrap_err().to_string();
            assert!(!text.contains("hunter2"), "{text}");
        }
    }
}
