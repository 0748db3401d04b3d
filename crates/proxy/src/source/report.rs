//! What engines lack, on its way to the controller.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode, header};
use longshore_api::fleet;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::controllers::Controllers;
use super::http_client::HttpClient;
use crate::Missing;

/// Reports that wait to be sent.
pub(super) const MAX_REPORTS: usize = 256;
/// How long one replica may take to accept a report. Reports are hints, so a late one is worth nothing.
const REPORT_WITHIN: Duration = Duration::from_secs(2);
/// How many replicas are tried for one report.
const MAX_TRIES: usize = 3;

/// Passes on what engines lack, as many as have come together.
pub(super) async fn report(
    client: &HttpClient,
    controllers: &Controllers,
    router: &str,
    mut missing: mpsc::Receiver<Missing>,
) {
    let mut batch = Vec::new();
    while missing.recv_many(&mut batch, MAX_REPORTS).await > 0 {
        let mut lacked: Vec<fleet::Missing> = Vec::new();
        for Missing { engine, name, .. } in batch.drain(..) {
            let (namespace, pod) = (engine.namespace.to_string(), engine.name.to_string());
            let one = fleet::Missing { namespace, name: name.to_string(), pod };
            if !lacked.contains(&one) {
                lacked.push(one);
            }
        }
        let demand = fleet::Demand { router: router.to_owned(), adapters: Vec::new(), missing: lacked };
        let body = serde_json::to_vec(&demand).expect("plain structs of texts and numbers serialize");
        send(client, controllers, &Bytes::from(body)).await;
    }
}

/// Sends one report to a replica, and to the next where that one cannot take it.
async fn send(client: &HttpClient, controllers: &Controllers, body: &Bytes) {
    let headers = [(header::CONTENT_TYPE, "application/json")];
    for _ in 0..controllers.count().min(MAX_TRIES) {
        let Some(controller) = controllers.now() else { break };
        let sent = client.send(&controller, Method::POST, "/v1/demand", &headers, body.clone());
        match timeout(REPORT_WITHIN, sent).await {
            Ok(Ok(response)) if response.status().is_success() => return,
            Ok(Ok(response)) => {
                let status = response.status();
                tracing::warn!(%controller, status = status.as_u16(), "The controller refused a report");
                if status != StatusCode::SERVICE_UNAVAILABLE {
                    return;
                }
            }
            // The engine is not asked for a while, and the next request that meets it reports it again.
            Ok(Err(error)) => {
                tracing::debug!(%controller, error = &error as &dyn std::error::Error, "A report was lost");
            }
            Err(_) => tracing::debug!(%controller, "A report was not answered in time"),
        }
        controllers.failed(&controller);
    }
}
