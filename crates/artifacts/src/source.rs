//! Where adapters come from.

pub(crate) mod hub;
pub(crate) mod local;
pub(crate) mod objects;
pub(crate) mod oci;
pub(crate) mod web;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use longshore_types::{ArtifactUrl, Digest, Scheme};
use sha2::{Digest as _, Sha256};

use crate::digest::finish;
use crate::error::Error;
use crate::http::Http;
use crate::http::patience::Patience;
use crate::http::reach::Reach;
use crate::origin::Origin;
use crate::store::staging::Staging;
use hub::{Hub, HubOptions};
use objects::Objects;
use objects::options::ObjectOptions;
use oci::{Oci, OciOptions};
use web::Web;

/// One kind of place that adapters come from. Every implementation passes the same behaviour suite.
#[async_trait]
pub trait Source: Send + Sync + 'static {
    /// The kinds of reference that it takes.
    fn schemes(&self) -> &'static [Scheme];

    /// The references that it takes, for a message: `absolute paths and file:// references`.
    fn takes(&self) -> &'static str;

    /// Tells whether what `origin` stands for may have changed, at much less than the cost of fetching it: by times and
    /// sizes, by the commit that a branch points to, by entity tags. Fails as [`Source::fetch`] would where there is nothing.
    ///
    /// It is also how credentials are held against the source, since an entry of the store is given out only behind it: it
    /// fails where they would not be let to read the files themselves. Where whoever asks may choose the endpoint, the text
    /// names it: one endpoint's word is not another's.
    async fn fingerprint(&self, origin: &Origin) -> Result<Fingerprint, Error>;

    /// Puts every kept file that `origin` stands for into `staging`, and tells it of those that are not kept. Ends early when
    /// [`Staging::is_abandoned`] and fails where the files change meanwhile.
    async fn fetch(&self, origin: &Origin, staging: Staging) -> Result<Staging, Error>;
}

/// How the sources of a process are set up. By default only what is public and needs nothing set up is reached.
#[derive(Clone, Debug, Default)]
pub struct Setup {
    /// Which addresses may be reached.
    pub reach: Reach,
    /// Where `huggingface://` references lead.
    pub hub: HubOptions,
    /// How long sources over HTTP are waited for.
    pub patience: Patience,
    /// How OCI registries are spoken to.
    pub oci: OciOptions,
    /// Where object stores are, and who this process is to them.
    pub objects: ObjectOptions,
}

impl Setup {
    /// Every source that there is, but for this machine's directories.
    ///
    /// # Errors
    /// [`Error::Source`] where a client cannot be made.
    pub fn sources(self) -> Result<Vec<Arc<dyn Source>>, Error> {
        let Self { reach, patience, hub, oci, objects } = self;
        // What is trusted for one source is no business of another.
        let with = |trust: &dyn Fn(&mut Reach)| {
            let mut reach = reach.clone();
            trust(&mut reach);
            Http::with(reach, patience)
        };
        let plain = with(&|_| {})?;
        let mut sources: Vec<Arc<dyn Source>> = vec![
            Arc::new(Web::new(plain.clone())),
            Arc::new(Hub::new(with(&|reach| reach.trust(hub.endpoint()))?, hub.clone())),
            Arc::new(Oci::new(with(&|reach| oci.trust(reach))?, oci.clone())),
        ];
        for store in Objects::every(&plain, &objects)? {
            sources.push(Arc::new(store));
        }
        Ok(sources)
    }
}

/// What a reference stood for at one moment. Two that are equal and settled stand for the same bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct Fingerprint {
    /// Everything that was compared.
    text: Arc<str>,
    /// Whether a later change is sure to show.
    settled: bool,
    /// Whether another process would see the same text for the same bytes, and never for others.
    durable: bool,
}

impl Fingerprint {
    /// A fingerprint of this text. `settled` is false where a change could yet happen that the text would not show, as with
    /// a file that was written in the same tick of its file system's clock.
    pub fn new(text: impl AsRef<str>, settled: bool) -> Self {
        Self { text: Arc::from(text.as_ref()), settled, durable: true }
    }

    /// One that says nothing to another process, as it is made of a file system's times and identities: those may come again
    /// after a restart.
    #[must_use]
    pub fn for_this_process(mut self) -> Self {
        self.durable = false;
        self
    }

    /// The digest of what is compared, to be written down in its stead; none where other processes must not rely on it.
    pub(crate) fn durable(&self) -> Option<Digest> {
        let mut hash = Sha256::new();
        hash.update(self.text.as_bytes());
        (self.settled && self.durable).then(|| finish(hash))
    }

    /// A name for what `url` stands for by this, which tells nothing of either.
    pub(crate) fn key(&self, url: &ArtifactUrl) -> String {
        let mut hash = Sha256::new();
        hash.update(url.as_written().as_bytes());
        hash.update([0]);
        hash.update(self.text.as_bytes());
        finish(hash).hex()
    }

    /// Whether `later` stands for the same bytes for sure.
    pub fn proves_same(&self, later: &Self) -> bool {
        self.settled && self.text == later.text
    }

    /// Whether `later` is known to stand for something else.
    pub fn differs(&self, later: &Self) -> bool {
        self.text != later.text
    }
}

/// The text may name files of a private source.
impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fingerprint").field("settled", &self.settled).finish_non_exhaustive()
    }
}
