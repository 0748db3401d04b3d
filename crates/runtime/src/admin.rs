//! The admin server: health, readiness and metrics.

mod serve;

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tower_http::limit::RequestBodyLimitLayer;
use tower_http::timeout::TimeoutLayer;

use crate::{Error, Listen, Metrics, Readiness, State};

/// The largest request body. What a router reports for 10,000 adapters is under 1 MiB.
const MAX_BODY: usize = 1 << 20;
/// Until a handler has answered, its reading of the request's body included. A response may stream on for ever.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// `/livez`, `/readyz` and `/metrics`, plus whatever routes a binary adds. `/healthz` is `/livez` by its older name.
#[derive(Debug)]
pub struct AdminServer {
    readiness: Readiness,
    metrics: Metrics,
    alive: Alive,
    routes: Router,
    unbounded: Router,
}

/// What `/livez` goes by: nothing, or what is wrong.
#[derive(Clone)]
struct Alive(Arc<dyn Fn() -> Result<(), String> + Send + Sync>);

impl fmt::Debug for Alive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Alive").field(&(self.0)()).finish()
    }
}

/// An admin server that listens but does not answer yet.
#[derive(Debug)]
pub struct BoundAdmin {
    name: &'static str,
    listener: TcpListener,
    address: SocketAddr,
    router: Router,
}

impl AdminServer {
    /// A server that shows this readiness and these metrics, and those of the process itself. Each component registers
    /// its own metrics before the registry is handed in here.
    pub fn new(readiness: Readiness, registry: Registry) -> Self {
        Self {
            readiness,
            metrics: Metrics::new(registry),
            alive: Alive(Arc::new(|| Ok(()))),
            routes: Router::new(),
            unbounded: Router::new(),
        }
    }

    /// Lets `/livez` fail where `check` says what is wrong: something that only a new process puts right, since whoever
    /// asks ends this one. It is asked at each request and must answer at once. Without it, a process that answers lives.
    #[must_use]
    pub fn alive(self, check: impl Fn() -> Result<(), String> + Send + Sync + 'static) -> Self {
        Self { alive: Alive(Arc::new(check)), ..self }
    }

    /// What `/metrics` shows, to add to it later.
    pub fn metrics(&self) -> Metrics {
        self.metrics.clone()
    }

    /// Adds routes, which must be others than its own four.
    #[must_use]
    pub fn merge(mut self, routes: Router) -> Self {
        self.routes = self.routes.merge(routes);
        self
    }

    /// Adds routes that have bounds of their own: an answer to them may take long, and a body be large.
    #[must_use]
    pub fn merge_unbounded(mut self, routes: Router) -> Self {
        self.unbounded = self.unbounded.merge(routes);
        self
    }

    /// Everything that it answers, for a test that wants no socket.
    pub fn into_router(self) -> Router {
        let Self { readiness, metrics, alive, routes, unbounded } = self;
        let livez = get(move || std::future::ready(livez(&alive)));
        let routes = Router::new()
            .route("/livez", livez.clone())
            .route("/healthz", livez)
            .route("/readyz", get(move || std::future::ready(readyz(&readiness.state()))))
            .merge(show(metrics))
            .merge(routes);
        bounded(routes).merge(unbounded)
    }

    /// Begins to listen. `flag` is the flag that the address comes from: `--admin`.
    ///
    /// # Errors
    /// [`Error::Bind`], which names the address and the flag.
    pub async fn bind(self, listen: &Listen, flag: &'static str) -> Result<BoundAdmin, Error> {
        BoundAdmin::bind("Admin server", self.into_router(), listen, flag).await
    }
}

fn show(metrics: Metrics) -> Router {
    Router::new().route("/metrics", get(move || std::future::ready(metrics.answer())))
}

/// What `routes` answer, within the bounds of every such server.
fn bounded(routes: Router) -> Router {
    routes
        .layer(TimeoutLayer::with_status_code(StatusCode::SERVICE_UNAVAILABLE, ANSWER_WITHIN))
        // The second says what the extractors allow, which without it is another number.
        .layer(RequestBodyLimitLayer::new(MAX_BODY))
        .layer(DefaultBodyLimit::max(MAX_BODY))
}

impl BoundAdmin {
    /// A server beside the admin server that answers `/metrics` and nothing else. `flag` is the flag that the address
    /// comes from.
    ///
    /// # Errors
    /// [`Error::Bind`], which names the address and the flag.
    pub async fn of_metrics(metrics: Metrics, listen: &Listen, flag: &'static str) -> Result<Self, Error> {
        Self::bind("Metrics server", bounded(show(metrics)), listen, flag).await
    }

    async fn bind(name: &'static str, router: Router, listen: &Listen, flag: &'static str) -> Result<Self, Error> {
        let failed = |source| Error::Bind { address: listen.to_string(), flag, source };
        let listener = listen.bind(flag).await?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self { name, listener, address, router })
    }

    /// Where it listens, with the port that the system chose where 0 was asked for.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Answers until `stop` is cancelled, then finishes what is under way. A stream that does not end by itself is cut off
    /// when the caller's own patience ends. See [`crate::Tasks::last`].
    ///
    /// # Errors
    /// None so far; the type leaves room for a listener that dies.
    pub async fn serve(self, stop: CancellationToken) -> Result<(), Error> {
        tracing::info!(address = %self.address, "{} listening", self.name);
        serve::serve(self.listener, self.router, stop, serve::Limits::default()).await;
        Ok(())
    }
}

fn livez(alive: &Alive) -> Response {
    match (alive.0)() {
        Ok(()) => "ok\n".into_response(),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response(),
    }
}

fn readyz(state: &State) -> Response {
    let code = if *state == State::Ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, state.to_string()).into_response()
}
