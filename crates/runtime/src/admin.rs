//! The admin server: health, readiness and metrics.

mod serve;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tower_http::limit::RequestBodyLimitLayer;
use tower_http::timeout::TimeoutLayer;

use crate::process::ProcessMetrics;
use crate::{Error, Listen, Readiness, State};

/// The largest request body. What a router reports for 10,000 adapters is under 1 MiB.
const MAX_BODY: usize = 1 << 20;
/// Until a handler has answered, its reading of the request's body included. A response may stream on for ever.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// <https://github.com/prometheus/OpenMetrics/blob/v1.0.0/specification/OpenMetrics.md#overall-structure>
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// `/livez`, `/readyz` and `/metrics`, plus whatever routes a binary adds. `/healthz` is `/livez` by its older name.
#[derive(Debug)]
pub struct AdminServer {
    readiness: Readiness,
    registry: Registry,
    routes: Router,
}

/// An admin server that listens but does not answer yet.
#[derive(Debug)]
pub struct BoundAdmin {
    listener: TcpListener,
    address: SocketAddr,
    router: Router,
}

impl AdminServer {
    /// A server that shows this readiness and these metrics, and those of the process itself. Each component registers
    /// its own metrics before the registry is handed in here.
    pub fn new(readiness: Readiness, registry: Registry) -> Self {
        Self { readiness, registry, routes: Router::new() }
    }

    /// Adds routes, which must be others than the three.
    #[must_use]
    pub fn merge(mut self, routes: Router) -> Self {
        self.routes = self.routes.merge(routes);
        self
    }

    /// Everything that it answers, for a test that wants no socket.
    pub fn into_router(self) -> Router {
        let Self { readiness, registry, routes } = self;
        let metrics = Arc::new(Metrics::new(registry));
        Router::new()
            .route("/livez", get(livez))
            .route("/healthz", get(livez))
            .route("/readyz", get(move || std::future::ready(readyz(&readiness.state()))))
            .route("/metrics", get(move || std::future::ready(metrics.answer())))
            .merge(routes)
            .layer(TimeoutLayer::with_status_code(StatusCode::SERVICE_UNAVAILABLE, ANSWER_WITHIN))
            // The second says what the extractors allow, which without it is another number.
            .layer(RequestBodyLimitLayer::new(MAX_BODY))
            .layer(DefaultBodyLimit::max(MAX_BODY))
    }

    /// Begins to listen. `flag` is the flag that the address comes from: `--admin`.
    ///
    /// # Errors
    /// [`Error::Bind`], which names the address and the flag.
    pub async fn bind(self, listen: &Listen, flag: &'static str) -> Result<BoundAdmin, Error> {
        let failed = |source| Error::Bind { address: listen.to_string(), flag, source };
        let listener = listen.bind(flag).await?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(BoundAdmin { listener, address, router: self.into_router() })
    }
}

impl BoundAdmin {
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
        tracing::info!(address = %self.address, "Admin server listening");
        serve::serve(self.listener, self.router, stop, serve::Limits::default()).await;
        Ok(())
    }
}

async fn livez() -> &'static str {
    "ok\n"
}

fn readyz(state: &State) -> Response {
    let code = if *state == State::Ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, state.to_string()).into_response()
}

/// The binary's metrics, and those of the process, which must not get the binary's prefix and labels.
struct Metrics {
    process: Registry,
    own: Registry,
}

impl Metrics {
    fn new(own: Registry) -> Self {
        let mut process = Registry::default();
        process.register_collector(Box::new(ProcessMetrics));
        Self { process, own }
    }

    fn answer(&self) -> Response {
        let mut text = String::new();
        let encoded = encode_registry(&mut text, &self.process)
            .and_then(|()| encode_registry(&mut text, &self.own))
            .and_then(|()| encode_eof(&mut text));
        match encoded {
            Ok(()) => ([(header::CONTENT_TYPE, OPENMETRICS)], text).into_response(),
            Err(_) => (StatusCode::INTERNAL_SERVER_ERROR, "a metric could not be encoded\n").into_response(),
        }
    }
}
