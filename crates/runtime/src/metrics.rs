//! What `/metrics` shows.

use std::sync::{Arc, PoisonError, RwLock};

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::registry::Registry;

use crate::process::ProcessMetrics;

/// <https://github.com/prometheus/OpenMetrics/blob/v1.0.0/specification/OpenMetrics.md#overall-structure>
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The binary's metrics, and those of the process, which must not get the binary's prefix and labels. Clones share them,
/// so that what starts late can still add its own.
#[derive(Clone, Debug)]
pub struct Metrics {
    process: Arc<Registry>,
    own: Arc<RwLock<Registry>>,
}

impl Metrics {
    pub(crate) fn new(own: Registry) -> Self {
        let mut process = Registry::default();
        process.register_collector(Box::new(ProcessMetrics));
        Self { process: Arc::new(process), own: Arc::new(RwLock::new(own)) }
    }

    /// Adds the metrics of something that starts when the server answers already. To be done once for each: a registry
    /// forgets nothing.
    pub fn add(&self, register: impl FnOnce(&mut Registry)) {
        register(&mut self.own.write().unwrap_or_else(PoisonError::into_inner));
    }

    /// All of them, as a response.
    pub(crate) fn answer(&self) -> Response {
        let mut text = String::new();
        let own = self.own.read().unwrap_or_else(PoisonError::into_inner);
        let encoded = encode_registry(&mut text, &self.process)
            .and_then(|()| encode_registry(&mut text, &own))
            .and_then(|()| encode_eof(&mut text));
        match encoded {
            Ok(()) => ([(header::CONTENT_TYPE, OPENMETRICS)], text).into_response(),
            Err(_) => (StatusCode::INTERNAL_SERVER_ERROR, "a metric could not be encoded\n").into_response(),
        }
    }
}
