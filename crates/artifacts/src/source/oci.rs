//! Registries of OCI artifacts, as the distribution specification has them.

mod blob;
mod challenge;
mod identity;
mod manifest;
mod plan;
mod reference;
mod session;
mod tokens;

use std::collections::BTreeSet;

use async_trait::async_trait;
use longshore_types::Scheme;
use reqwest::Url;

use super::{Fingerprint, Source};
use crate::error::Error;
use crate::http::Http;
use crate::http::reach::Reach;
use crate::intake::Sum;
use crate::origin::Origin;
use crate::store::staging::Staging;
use blob::Blob;
use plan::Plan;
use reference::Reference;
use session::Session;
use tokens::Tokens;

/// How registries are spoken to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OciOptions {
    /// Registries, and those that give out tokens for them, that are spoken to over plain http, as `host:port`. They are
    /// the process's own configuration, so their addresses may be private.
    pub plain_http: BTreeSet<String>,
}

impl OciOptions {
    /// Lets their addresses be reached.
    pub(crate) fn trust(&self, reach: &mut Reach) {
        reach.trusted.extend(self.plain_http.iter().map(|plain| plain.to_ascii_lowercase()));
    }

    /// Whether the host of `url`, with its port, is one of them.
    fn speaks_http(&self, url: &Url) -> bool {
        let (Some(host), Some(port)) = (url.host_str(), url.port_or_known_default()) else { return false };
        let here = format!("{host}:{port}");
        self.plain_http.iter().any(|plain| plain.eq_ignore_ascii_case(&here))
    }
}

/// `oci://registry[:port]/repository[:tag][@sha256:digest]`: where both are written, the digest decides.
///
/// An adapter is an artifact with a layer per file, as `oras push` makes them from inside the adapter's directory, or with
/// layers that are archives, as in an image. Credentials are `username` and `password`, `token`, or the registry's entry in
/// `.dockerconfigjson`; tokens that a registry gives out for them stay in memory.
#[derive(Debug)]
pub struct Oci {
    http: Http,
    options: OciOptions,
    tokens: Tokens,
}

impl Oci {
    /// A source that reaches what `reach` says, and the registries that `options` name. A TLS provider must have been
    /// installed.
    ///
    /// # Errors
    /// [`Error::Source`] where a client cannot be made.
    pub fn reaching(mut reach: Reach, options: OciOptions) -> Result<Self, Error> {
        options.trust(&mut reach);
        Ok(Self::new(Http::new(reach)?, options))
    }

    /// A source over `http`, which is to reach what `options` [trust](OciOptions::trust).
    pub(crate) fn new(http: Http, options: OciOptions) -> Self {
        Self { http, options, tokens: Tokens::default() }
    }

    fn session(&self, origin: &Origin) -> Result<Session<'_>, Error> {
        let reference = Reference::parse(&origin.url, &self.options, self.http.reach())?;
        Session::new(&self.http, &self.options, &self.tokens, reference, &origin.credentials)
    }
}

#[async_trait]
impl Source for Oci {
    fn schemes(&self) -> &'static [Scheme] {
        &[Scheme::Oci]
    }

    fn takes(&self) -> &'static str {
        "oci:// references"
    }

    async fn fingerprint(&self, origin: &Origin) -> Result<Fingerprint, Error> {
        // Everything else is named by its digest in what has this one.
        Ok(Fingerprint::new(self.session(origin)?.digest().await?.to_string(), true))
    }

    async fn fetch(&self, origin: &Origin, mut staging: Staging) -> Result<Staging, Error> {
        let session = self.session(origin)?;
        let (digest, layers) = session.layers().await?;
        staging.found_at(Fingerprint::new(digest.to_string(), true));
        let plan = Plan::of(layers, staging.limits())?;
        plan.passed_over.iter().for_each(|name| staging.passed_over(name));
        if let Some(hint) = &plan.hint {
            staging.hint(hint.clone());
        }
        staging.progress().expect(plan.bytes());
        for piece in &plan.pieces {
            let mut blob = Blob::open(&session, piece).await?;
            let (sum, shown) = (Sum::Sha256(piece.digest.hex()), &session.reference.shown);
            staging = match &piece.file {
                Some(name) => {
                    let what = format!("{name} of {shown}");
                    staging.receive_file(name, Some(piece.size), Some(sum), &what, &mut blob).await?
                }
                None => {
                    let what = format!("layer {} of {shown}", piece.digest);
                    staging.receive_checked_archive(&what, piece.size, &piece.digest, &mut blob).await?
                }
            };
        }
        Ok(staging)
    }
}
