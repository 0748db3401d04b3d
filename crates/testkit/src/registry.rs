//! An OCI registry in this process, on loopback and over plain http, that can be made to misbehave.
//!
//! It answers what clients that pull need of the distribution specification: manifests and blobs by GET and HEAD, ranges of
//! blobs, tokens by the token specification. Things are put into it by calls, not by requests.
//!
//! ```
//! use longshore_testkit::registry::{Layer, Registry};
//!
//! # tokio::runtime::Runtime::new()?.block_on(async {
//! let registry = Registry::start().await?;
//! let digest = registry.push("org/lora", "v1", &[Layer::file("adapter_config.json", "{}")]);
//! let url = format!("oci://{}/org/lora:v1@{digest}", registry.authority());
//! # assert!(url.contains("127.0.0.1"));
//! # std::io::Result::Ok(())
//! # })?;
//! # std::io::Result::Ok(())
//! ```

mod answer;
mod auth;
mod body;
mod serve;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio_util::sync::CancellationToken;

/// The media type of an image manifest.
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// The media type of an index.
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// The media type of a layer that is an archive; `+gzip` or `+zstd` may follow.
pub const TAR: &str = "application/vnd.oci.image.layer.v1.tar";

/// A registry that runs until it is dropped.
#[derive(Debug)]
pub struct Registry {
    shared: Arc<Shared>,
    stop: CancellationToken,
}

/// How the registry finds out who asks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Guard {
    /// It does not ask. Private repositories are denied to everybody.
    #[default]
    Open,
    /// A name and a password with each request.
    Basic,
    /// A token, which is given out at `/token` for a name and a password; to pull what is public, for nothing.
    Token,
}

/// What goes wrong. Everything may be combined.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// The connection ends after so many bytes of a blob.
    pub cut: Option<u64>,
    /// How often it does; for ever, where it is not said.
    pub cuts: Option<u32>,
    /// Every token is taken back where a connection was cut.
    pub expire_at_cut: bool,
    /// So many requests are answered by 429.
    pub busy: u32,
    /// In how many seconds one may come again, with the 429.
    pub retry_after: Option<u64>,
    /// A byte of each blob is another.
    pub garbled: bool,
    /// Blobs are not there.
    pub missing: bool,
    /// An HTML page with 200 comes in the place of each blob.
    pub page: bool,
    /// An HTML page with 200 comes in the place of each manifest, and nothing says what its digest is.
    pub manifest_page: bool,
    /// Manifests are followed by a blank, and the digest is still said to be the old one.
    pub lying_manifest: bool,
    /// Nothing says what a manifest's digest is.
    pub no_digest: bool,
    /// A GET of a manifest by its tag is answered as if for this tag.
    pub moved: Option<String>,
    /// A HEAD of a manifest is refused with 405.
    pub no_head: bool,
    /// Blobs are redirected to another port.
    pub redirect: bool,
    /// A range of a blob is answered by all of it.
    pub no_ranges: bool,
    /// Nothing says how long a blob is.
    pub no_length: bool,
    /// Blobs never end. Nothing says how long they are.
    pub endless: bool,
    /// Where tokens are said to be given out.
    pub realm: Option<String>,
}

/// A request as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Whether it came to the second port.
    pub elsewhere: bool,
    /// `GET`, ...
    pub method: String,
    /// The path without the query.
    pub path: String,
    /// `Authorization` as it came.
    pub authorization: Option<String>,
    /// `Range` as it came.
    pub range: Option<String>,
}

/// One layer of an artifact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// What it is.
    pub media_type: String,
    /// Its bytes.
    pub bytes: Bytes,
    /// What is said of it.
    pub annotations: BTreeMap<String, String>,
}

impl Layer {
    /// A file, as `oras push` makes a layer of it.
    pub fn file(name: &str, bytes: impl Into<Bytes>) -> Self {
        Self::archive("application/octet-stream", bytes).with("org.opencontainers.image.title", name)
    }

    /// Bytes of this media type, without a name.
    pub fn archive(media_type: &str, bytes: impl Into<Bytes>) -> Self {
        Self { media_type: media_type.into(), bytes: bytes.into(), annotations: BTreeMap::new() }
    }

    /// With this annotation.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.annotations.insert(name.into(), value.into());
        self
    }
}

#[derive(Debug)]
struct Shared {
    here: SocketAddr,
    elsewhere: SocketAddr,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Bytes by repository and digest.
    blobs: BTreeMap<(String, String), Bytes>,
    /// Media type and bytes by repository and digest.
    manifests: BTreeMap<(String, String), (String, Bytes)>,
    /// Digests by repository and tag.
    tags: BTreeMap<(String, String), String>,
    private: BTreeSet<String>,
    guard: Guard,
    users: Vec<User>,
    /// What each token lets pull; those that were given out, and those that were made by hand.
    tokens: BTreeMap<String, Grant>,
    given: u64,
    faults: Faults,
    log: Vec<Seen>,
}

#[derive(Clone, Debug)]
struct User {
    name: String,
    password: String,
    /// The private repositories that it may pull from.
    may_pull: Vec<String>,
}

#[derive(Clone, Debug)]
struct Grant {
    repositories: Vec<String>,
    /// Made by hand, so that it does not expire.
    lasting: bool,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Registry {
    /// Listens on two ports of 127.0.0.1: its own, and one that blobs may be redirected to.
    ///
    /// # Errors
    /// Where it cannot listen.
    pub async fn start() -> io::Result<Self> {
        let (here, elsewhere) = (serve::listen().await?, serve::listen().await?);
        let shared = Shared { here: here.local_addr()?, elsewhere: elsewhere.local_addr()?, state: Mutex::default() };
        let (shared, stop) = (Arc::new(shared), CancellationToken::new());
        tokio::spawn(serve::accept(Arc::clone(&shared), here, false, stop.clone()));
        tokio::spawn(serve::accept(Arc::clone(&shared), elsewhere, true, stop.clone()));
        Ok(Self { shared, stop })
    }

    /// `127.0.0.1:port`.
    pub fn authority(&self) -> String {
        self.shared.here.to_string()
    }

    /// The same of the second port.
    pub fn elsewhere(&self) -> String {
        self.shared.elsewhere.to_string()
    }

    /// Puts an artifact with these layers there and has the tag stand for it. Returns the manifest's digest.
    pub fn push(&self, repository: &str, tag: &str, layers: &[Layer]) -> String {
        let described = layers.iter().map(|layer| {
            let digest = self.blob(repository, layer.bytes.clone());
            json!({"mediaType": layer.media_type, "digest": digest, "size": layer.bytes.len(),
                   "annotations": layer.annotations})
        });
        let layers: Vec<Value> = described.collect();
        let config = self.blob(repository, "{}");
        let config = json!({"mediaType": "application/vnd.oci.empty.v1+json", "digest": config, "size": 2});
        let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers});
        self.manifest(repository, Some(tag), MANIFEST, manifest.to_string())
    }

    /// Puts an index of these manifests there, which are as descriptors are, and has the tag stand for it. Returns its digest.
    pub fn push_index(&self, repository: &str, tag: &str, manifests: &[Value]) -> String {
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests});
        self.manifest(repository, Some(tag), INDEX, index.to_string())
    }

    /// The descriptor of a manifest that is there, for an index.
    pub fn descriptor(&self, repository: &str, digest: &str) -> Value {
        let state = self.shared.state();
        let found = state.manifests.get(&(repository.to_owned(), digest.to_owned()));
        let (media_type, size) = found.map_or((MANIFEST, 0), |(media_type, bytes)| (media_type, bytes.len()));
        json!({"mediaType": media_type, "digest": digest, "size": size})
    }

    /// Puts a blob there. Returns its digest.
    pub fn blob(&self, repository: &str, bytes: impl Into<Bytes>) -> String {
        let bytes = bytes.into();
        let digest = digest(&bytes);
        self.shared.state().blobs.insert((repository.into(), digest.clone()), bytes);
        digest
    }

    /// Puts these bytes there as a manifest, whatever they are. Returns their digest.
    pub fn manifest(&self, repository: &str, tag: Option<&str>, media_type: &str, bytes: impl Into<Bytes>) -> String {
        let bytes = bytes.into();
        let digest = digest(&bytes);
        let mut state = self.shared.state();
        state.manifests.insert((repository.into(), digest.clone()), (media_type.into(), bytes));
        if let Some(tag) = tag {
            state.tags.insert((repository.into(), tag.into()), digest.clone());
        }
        digest
    }

    /// Asks who it is in this way from now on.
    pub fn guard(&self, guard: Guard) {
        self.shared.state().guard = guard;
    }

    /// Lets only those pull from a repository who may.
    pub fn private(&self, repository: &str) {
        self.shared.state().private.insert(repository.into());
    }

    /// Knows a user, who may pull from these private repositories and everything public. One of the same name is forgotten.
    pub fn user(&self, name: &str, password: &str, may_pull: &[&str]) {
        let may_pull = may_pull.iter().map(|&repository| repository.to_owned()).collect();
        let mut state = self.shared.state();
        state.users.retain(|user| user.name != name);
        state.users.push(User { name: name.into(), password: password.into(), may_pull });
    }

    /// Knows a token that never expires, which lets pull from these repositories.
    pub fn token(&self, token: &str, may_pull: &[&str]) {
        let repositories = may_pull.iter().map(|&repository| repository.to_owned()).collect();
        self.shared.state().tokens.insert(token.into(), Grant { repositories, lasting: true });
    }

    /// Takes back every token that was given out.
    pub fn expire_tokens(&self) {
        self.shared.state().expire_tokens();
    }

    /// Changes what goes wrong.
    pub fn fail(&self, change: impl FnOnce(&mut Faults)) {
        change(&mut self.shared.state().faults);
    }

    /// Every request so far.
    pub fn log(&self) -> Vec<Seen> {
        self.shared.state().log.clone()
    }

    /// Forgets every request so far.
    pub fn clear_log(&self) {
        self.shared.state().log.clear();
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl State {
    fn expire_tokens(&mut self) {
        self.tokens.retain(|_, grant| grant.lasting);
    }
}

/// The digest of `bytes`, as registries write it.
pub fn digest(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}
