//! A file server over HTTP/1.1 that misbehaves as it is told.
//!
//! It serves [`Page`]s from memory with entity tags, ranges and conditions as a good server does. [`Fault`]s make it a bad
//! one, path by path: connections that end early, ranges that are not heard, streams without an end, redirects, silence.
//! Everything that it was asked is in its [log](WebServer::requests), so that a test can see who was shown what.
//!
//! ```
//! use longshore_testkit::web::{Fault, Rule, WebServer};
//!
//! # tokio::runtime::Runtime::new()?.block_on(async {
//! let server = WebServer::start().await?;
//! server.put("/adapter.tar.gz", b"...".as_slice());
//! server.fault(Rule::of("/adapter.tar.gz", Fault::Cut { after: 1 }).times(1));
//! assert!(server.url("/adapter.tar.gz").starts_with("http://127.0.0.1:"));
//! assert!(server.requests().is_empty());
//! # std::io::Result::Ok(())
//! # })?;
//! # std::io::Result::Ok(())
//! ```

mod answer;
mod connection;
mod fault;
mod request;

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

pub use fault::{Fault, Rule};
pub use request::Request;

/// A server on a free port of 127.0.0.1. It ends, with every connection, when the value is dropped.
#[derive(Debug)]
pub struct WebServer {
    addr: SocketAddr,
    shared: Arc<Shared>,
    _running: DropGuard,
}

/// A file that is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// Its bytes.
    pub body: Bytes,
    /// `ETag`, quotes included.
    pub etag: Option<String>,
    /// `Last-Modified`, in whole seconds.
    pub modified: Option<SystemTime>,
    /// `Content-Type`.
    pub content_type: Option<String>,
    /// Further headers.
    pub headers: Vec<(String, String)>,
    /// The `Authorization` without which it is not given out: none is answered with 401, another one with 403.
    pub authorization: Option<String>,
}

impl Page {
    /// Bytes under a strong tag that is made of them.
    pub fn new(body: impl Into<Bytes>) -> Self {
        let body = body.into();
        let tag: String = Sha256::digest(&body).iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        Self {
            body,
            etag: Some(format!("\"{tag}\"")),
            modified: None,
            content_type: Some("application/octet-stream".into()),
            headers: Vec::new(),
            authorization: None,
        }
    }

    /// With one more header.
    #[must_use]
    pub fn with_header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }
}

#[derive(Debug, Default)]
struct Shared(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    pages: BTreeMap<String, Page>,
    rules: Vec<Rule>,
    requests: Vec<Request>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl WebServer {
    /// Starts it in this runtime.
    ///
    /// # Errors
    /// Where it cannot listen.
    pub async fn start() -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let (addr, shared, running) = (listener.local_addr()?, Arc::<Shared>::default(), CancellationToken::new());
        tokio::spawn(connection::accept(listener, shared.clone(), running.clone()));
        Ok(Self { addr, shared, _running: running.drop_guard() })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// `path`, which begins with a slash, at this server.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.addr)
    }

    /// The same at `localhost`, which is another host to whoever goes by names.
    pub fn url_by_name(&self, path: &str) -> String {
        format!("http://localhost:{}{path}", self.addr.port())
    }

    /// Serves `body` at `path` from now on, under a tag that is made of it.
    pub fn put(&self, path: &str, body: impl Into<Bytes>) {
        self.put_page(path, Page::new(body));
    }

    /// Serves `page` at `path` from now on.
    pub fn put_page(&self, path: &str, page: Page) {
        self.shared.lock().pages.insert(path.to_owned(), page);
    }

    /// What is served at `path`.
    pub fn page(&self, path: &str) -> Option<Page> {
        self.shared.lock().pages.get(path).cloned()
    }

    /// Answers 404 there from now on.
    pub fn remove(&self, path: &str) {
        self.shared.lock().pages.remove(path);
    }

    /// Misbehaves so from now on. Several rules for one path hold together.
    pub fn fault(&self, rule: impl Into<Rule>) {
        self.shared.lock().rules.push(rule.into());
    }

    /// Behaves again.
    pub fn clear_faults(&self) {
        self.shared.lock().rules.clear();
    }

    /// Every request since the start or the last [`WebServer::forget`], in order.
    pub fn requests(&self) -> Vec<Request> {
        self.shared.lock().requests.clone()
    }

    /// Empties the log.
    pub fn forget(&self) {
        self.shared.lock().requests.clear();
    }
}
