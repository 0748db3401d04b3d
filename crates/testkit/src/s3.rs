//! An object store that speaks S3 over HTTP, in this process.
//!
//! It reads and lists as Amazon's does, checks signatures (version 4) with its own arithmetic, knows session tokens and keys
//! that may list and not read, gives sessions out for a web identity, and fails to order. It takes no uploads: a test
//! [puts](S3::put) objects there.
//!
//! ```
//! use longshore_testkit::s3::{S3, S3Config};
//!
//! # tokio::runtime::Runtime::new()?.block_on(async {
//! let s3 = S3::start(S3Config { public: true, ..S3Config::default() }).await?;
//! s3.put("bucket", "adapter/adapter_config.json", "{}");
//! assert!(s3.url().starts_with("http://127.0.0.1:"));
//! # std::io::Result::Ok(())
//! # })?;
//! # std::io::Result::Ok(())
//! ```

mod answer;
mod body;
mod serve;
mod sign;

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// What the store is.
#[derive(Clone, Debug)]
pub struct S3Config {
    /// Where it listens.
    pub listen: SocketAddr,
    /// Its region. Requests that are signed for another are refused.
    pub region: String,
    /// Whether everybody may list and read.
    pub public: bool,
    /// The keys that it knows.
    pub keys: Vec<S3Key>,
    /// A cluster's token, for which it gives out the first of its keys as a session.
    pub web_identity: Option<String>,
}

impl Default for S3Config {
    /// On a free port, in `us-east-1`, for nobody.
    fn default() -> Self {
        let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        Self { listen, region: "us-east-1".into(), public: false, keys: Vec::new(), web_identity: None }
    }
}

/// A key, and what it may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct S3Key {
    /// Its public half.
    pub id: String,
    /// Its secret half.
    pub secret: String,
    /// The token that has to come with it, where it is one of a session.
    pub token: Option<String>,
    /// Whether it may list.
    pub lists: bool,
    /// Whether it may read objects.
    pub reads: bool,
}

impl S3Key {
    /// A key that may do everything, without a session.
    pub fn new(id: impl Into<String>, secret: impl Into<String>) -> Self {
        Self { id: id.into(), secret: secret.into(), token: None, lists: true, reads: true }
    }
}

/// What goes wrong. By default nothing does.
#[derive(Clone, Debug, Default)]
pub struct S3Faults {
    /// So many requests are answered with 503 `SlowDown`.
    pub slow_down: u32,
    /// The seconds that those ask to wait.
    pub retry_after: Option<u32>,
    /// So many reads of objects end early, their connection with them,
    pub cut: u32,
    /// after so many bytes.
    pub cut_after: u64,
    /// Once this key has been read from, it has these bytes.
    pub change: Option<(String, Bytes)>,
    /// Every object is this page, with 200.
    pub page: Option<String>,
    /// Every answer is a redirect to there, with 307.
    pub redirect: Option<String>,
    /// Objects go on for ever, whatever was asked for.
    pub endless: bool,
    /// Ranges are not known: every read is answered with the whole.
    pub no_ranges: bool,
    /// Conditions are not known: every read is answered with what there is.
    pub no_conditions: bool,
    /// Listings have no entity tags.
    pub no_tags: bool,
    /// Keys in one page of a listing, if fewer than are asked for.
    pub page_size: Option<usize>,
    /// Every session has ended.
    pub expired: bool,
}

/// A request that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct S3Request {
    /// `GET`, ...
    pub method: String,
    /// The path and query as they came.
    pub target: String,
    /// The range that was asked for.
    pub range: Option<String>,
    /// The key that it was signed with, whether or not rightly.
    pub key: Option<String>,
    /// The status of the answer.
    pub status: u16,
}

/// An object store, running in this process. It ends when the value is dropped.
pub struct S3 {
    addr: SocketAddr,
    shared: Arc<Shared>,
    end: CancellationToken,
}

#[derive(Debug)]
struct Shared {
    region: String,
    public: bool,
    web_identity: Option<String>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    keys: Vec<S3Key>,
    /// By bucket, then by key.
    objects: BTreeMap<String, BTreeMap<String, Object>>,
    faults: S3Faults,
    requests: Vec<S3Request>,
    /// Counts changes, one a second of the store's own time.
    clock: u32,
}

#[derive(Clone, Debug)]
struct Object {
    bytes: Bytes,
    tag: String,
    modified: u32,
}

impl State {
    fn put(&mut self, bucket: &str, key: &str, bytes: Bytes) {
        self.clock += 1;
        let tag = hex(&Sha256::digest(&bytes)[..16]);
        let object = Object { bytes, tag: format!("\"{tag}\""), modified: self.clock };
        self.objects.entry(bucket.to_owned()).or_default().insert(key.to_owned(), object);
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl S3 {
    /// Starts it, with no buckets.
    ///
    /// # Errors
    /// Where it cannot listen.
    pub async fn start(config: S3Config) -> io::Result<Self> {
        let listener = TcpListener::bind(config.listen).await?;
        let (addr, end) = (listener.local_addr()?, CancellationToken::new());
        let S3Config { region, public, keys, web_identity, .. } = config;
        let state = Mutex::new(State { keys, ..State::default() });
        let shared = Arc::new(Shared { region, public, web_identity, state });
        tokio::spawn(serve::serve(listener, shared.clone(), end.clone()));
        Ok(Self { addr, shared, end })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// `http://` and where it listens: the endpoint, with buckets in the path.
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Puts an object there, and the bucket with it.
    pub fn put(&self, bucket: &str, key: &str, bytes: impl Into<Bytes>) {
        self.shared.state().put(bucket, key, bytes.into());
    }

    /// Removes an object. The bucket stays.
    pub fn remove(&self, bucket: &str, key: &str) {
        if let Some(objects) = self.shared.state().objects.get_mut(bucket) {
            objects.remove(key);
        }
    }

    /// From now on it knows these keys alone.
    pub fn rotate(&self, keys: Vec<S3Key>) {
        self.shared.state().keys = keys;
    }

    /// From now on this goes wrong, and nothing else.
    pub fn fail(&self, faults: S3Faults) {
        self.shared.state().faults = faults;
    }

    /// The requests until now, in the order of their answers.
    pub fn requests(&self) -> Vec<S3Request> {
        self.shared.state().requests.clone()
    }
}

impl Drop for S3 {
    fn drop(&mut self) {
        self.end.cancel();
    }
}

impl std::fmt::Debug for S3 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("S3").field("addr", &self.addr).finish_non_exhaustive()
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
