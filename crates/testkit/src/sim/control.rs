//! The handle by which a test changes a simulated engine while it runs, in the process and over HTTP.

use std::sync::Arc;
use std::time::Duration;

use http::{Method, Request, StatusCode};
use hyper::body::Incoming;
use serde_json::json;

use super::Shared;
use super::faults::{FaultRequest, Faults, LogEntry};
use super::http::{self as bodies, Reply, json_reply};
use super::life::Life;

/// Changes what goes wrong, and tells what happened. Clones are the same handle.
#[derive(Clone)]
pub struct Control {
    pub(super) shared: Arc<Shared>,
}

impl Control {
    /// The faults from now on, instead of those before. When it returns they are in force: a port that is to refuse
    /// connections does, one that is to take them again does.
    pub async fn set(&self, faults: Faults) {
        let refuse = faults.refuse;
        self.shared.faults.send_replace(faults);
        // Only a living engine has a port to open or to close.
        let mut listening = self.shared.listening.subscribe();
        if self.shared.life().is_some_and(|life| !life.over.is_cancelled()) {
            let _ = listening.wait_for(|listening| *listening != refuse).await;
        }
    }

    /// The present faults.
    pub fn faults(&self) -> Faults {
        self.shared.faults.borrow().clone()
    }

    /// The engine dies, as after an error in its worker: what is in flight gets 500, `/health` says 503, and after
    /// [`Timing::dying`](super::Timing::dying) the port closes.
    pub fn die(&self) {
        if let Some(life) = self.shared.life() {
            life.die("told to die");
        }
    }

    /// Waits until the engine is reading an adapter, as it does for as long as [`Faults::hang_load`] holds.
    pub async fn until_reading(&self) {
        if let Some(life) = self.shared.life() {
            life.reading().await;
        }
    }

    /// Everything that it did, in order, over all its lives.
    pub fn log(&self) -> Vec<LogEntry> {
        self.shared.life().map(|life| life.log()).unwrap_or_default()
    }

    /// Which life it is in: 1 is the first.
    pub fn boot(&self) -> u32 {
        self.shared.life().map_or(0, |life| life.boot)
    }
}

/// `POST /sim/faults` and `GET /sim/log`. They ask for no key and are answered whatever hangs.
pub(super) async fn answer(shared: &Arc<Shared>, life: &Arc<Life>, request: Request<Incoming>) -> Reply {
    let path = request.uri().path().to_owned();
    match (request.method().clone(), path.as_str()) {
        (Method::GET, "/sim/log") => json_reply(StatusCode::OK, &json!({"boot": life.boot, "entries": life.log()})),
        (Method::GET, "/sim/faults") => json_reply(StatusCode::OK, &json!(*shared.faults.borrow())),
        (Method::POST, "/sim/faults") => match serde_json::from_slice(&bodies::read(request).await) {
            Ok(asked) => change(shared, life, asked),
            Err(error) => json_reply(StatusCode::BAD_REQUEST, &json!({"error": error.to_string()})),
        },
        _ => json_reply(StatusCode::NOT_FOUND, &json!({"error": format!("nothing is at {path}")})),
    }
}

fn change(shared: &Arc<Shared>, life: &Arc<Life>, asked: FaultRequest) -> Reply {
    if asked.faults.as_ref().is_some_and(|faults| faults.refuse) && asked.for_ms.is_none() {
        let error = "refuse needs for_ms: nobody could take it back over a port that refuses";
        return json_reply(StatusCode::BAD_REQUEST, &json!({"error": error}));
    }
    if let Some(faults) = asked.faults {
        shared.faults.send_replace(faults);
    }
    if let Some(millis) = asked.for_ms {
        let shared = Arc::clone(shared);
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(millis)).await;
            shared.faults.send_replace(Faults::default());
        });
    }
    if asked.die {
        life.die("told to die");
    }
    if asked.restart {
        let shared = Arc::clone(shared);
        tokio::spawn(async move {
            if let Err(error) = shared.restart().await {
                tracing::error!(%error, "the simulated engine did not start again");
            }
        });
    }
    json_reply(StatusCode::OK, &json!(*shared.faults.borrow()))
}
