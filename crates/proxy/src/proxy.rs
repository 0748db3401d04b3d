//! The proxy: one handle, one request.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use http::{Request, Response};
use hyper::body::Incoming;
use longshore_routing::Table;
use longshore_types::{AdapterName, EngineId};
use prometheus_client::registry::Registry;
use tokio::sync::{mpsc, watch};

use crate::answer::Problem;
use crate::body::ProxyBody;
use crate::corrections::Corrections;
use crate::headers::REQUEST_ID;
use crate::identity::{Identity, random};
use crate::metrics::{Class, Metrics, Observation};
use crate::paths::{Target, target};
use crate::upstream::Upstream;
use crate::{InFlight, Missing, ProxyConfig, models};

/// The data path. A cheap handle: clones share everything.
#[derive(Clone, Debug)]
pub struct Proxy(pub(crate) Arc<Inner>);

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) config: ProxyConfig,
    pub(crate) tables: watch::Receiver<Arc<Table>>,
    pub(crate) missing: Option<mpsc::Sender<Missing>>,
    pub(crate) in_flight: InFlight,
    pub(crate) corrections: Corrections,
    pub(crate) metrics: Metrics,
    pub(crate) upstream: Upstream,
    seeds: AtomicU64,
}

impl Proxy {
    /// A proxy that routes by the newest of `tables`. When the sender is gone it goes on with the last one.
    ///
    /// What an engine answers that it lacks is sent to `missing`, which is a hint: where that channel is full it is
    /// dropped.
    pub fn new(
        config: ProxyConfig,
        tables: watch::Receiver<Arc<Table>>,
        missing: Option<mpsc::Sender<Missing>>,
    ) -> Self {
        Self(Arc::new(Inner {
            corrections: Corrections::new(config.distrust),
            upstream: Upstream::new(&config),
            in_flight: InFlight::new(),
            metrics: Metrics::new(),
            seeds: AtomicU64::new(random()),
            config,
            tables,
            missing,
        }))
    }

    /// What is under way, for those who drain.
    pub fn in_flight(&self) -> &InFlight {
        &self.0.in_flight
    }

    /// Requests for `adapter` under way on `engine`.
    pub fn in_flight_of(&self, engine: &EngineId, adapter: &AdapterName) -> u64 {
        self.0.in_flight.of_adapter(engine, adapter)
    }

    /// Registers what it measures. Names have no prefix: give it a registry that has one (`longshore_router`).
    pub fn register_metrics(&self, registry: &mut Registry) {
        self.0.metrics.register(registry, &self.0.in_flight, &self.0.tables);
    }

    /// Answers one request. Never fails: what goes wrong is an answer too.
    pub(crate) async fn handle(self, request: Request<Incoming>) -> Result<Response<ProxyBody>, Infallible> {
        // Dropped when the client goes away before there is an answer, and counted then.
        let mut observation = Observation::begin(&self.0.metrics);
        let identity = Identity::of(request.headers());
        let answer = self.answer(request, &identity, &mut observation).await;
        let mut response = answer.unwrap_or_else(|problem| {
            tracing::debug!(request = ?identity.request_id, code = problem.code(), message = problem.message(), "Not passed on");
            observation.class(Class::of(problem.status));
            problem.into_response()
        });
        response.headers_mut().entry(REQUEST_ID).or_insert(identity.request_id);
        Ok(response.map(|body| body.observed(observation)))
    }

    async fn answer(
        &self,
        request: Request<Incoming>,
        identity: &Identity,
        observation: &mut Observation,
    ) -> Result<Response<ProxyBody>, Problem> {
        let (head, body) = request.into_parts();
        match target(&head.method, &head.uri) {
            Target::Engine(path, form) => self.forward(&head, body, path, form, identity, observation).await,
            Target::Models => {
                observation.class(Class::Ok);
                models::list(&self.0.tables.borrow())
            }
            Target::Model(id) => {
                observation.class(Class::Ok);
                models::one(&self.0.tables.borrow(), &id)
            }
            Target::WrongMethod(allowed) => Err(Problem::wrong_method(allowed)),
            Target::Nothing => Err(Problem::no_such_path()),
        }
    }

    /// A number that no other request has got.
    pub(crate) fn seed(&self) -> u64 {
        self.0.seeds.fetch_add(1, Ordering::Relaxed)
    }
}
