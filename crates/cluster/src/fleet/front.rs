//! The fleet API of one replica of several.

use std::net::SocketAddr;

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::sync::watch;
use tower::ServiceExt as _;

use super::api::{self, FleetApi};
use super::error::ApiError;
use super::forward::{self, Forward};
use super::guard::{self, Guard};

/// Where the fleet is known.
#[derive(Clone, Debug)]
pub enum Where {
    /// In this process. Its own guard is not asked, the front's is.
    Here(FleetApi),
    /// In another, whose admin server is there.
    There(SocketAddr),
    /// Nowhere, as far as this process knows.
    Nobody,
}

/// Answers the fleet API wherever the fleet is known: from here, or by passing requests on. Clones are one and the same.
///
/// A request is passed on once at most: where it was passed on by another and is not known here either, it is answered
/// with 503 `NoLeader`.
#[derive(Clone, Debug)]
pub struct Front {
    target: watch::Sender<Target>,
    forward: Forward,
}

#[derive(Clone, Debug)]
enum Target {
    /// The routes are made once.
    Here(Router),
    There(SocketAddr),
    Nobody,
}

impl Front {
    /// A front that knows of nobody yet.
    ///
    /// # Errors
    /// As [`longshore_engine::http_client`]: where the process has installed no TLS provider, or the system gives no
    /// certificates.
    pub fn new() -> Result<Self, longshore_engine::Error> {
        Ok(Self { target: watch::Sender::new(Target::Nobody), forward: Forward::new()? })
    }

    /// From now on the fleet is known there. What streams from where it was known before ends, so that clients come back
    /// and are told what holds now.
    pub fn turn(&self, to: Where) {
        let to = match to {
            Where::Here(api) => Target::Here(api::routes(api)),
            Where::There(address) => Target::There(address),
            Where::Nobody => Target::Nobody,
        };
        self.target.send_if_modified(|target| {
            let same = match (&*target, &to) {
                (Target::There(before), Target::There(now)) => before == now,
                (Target::Nobody, Target::Nobody) => true,
                _ => false,
            };
            *target = to;
            !same
        });
    }

    /// Where requests are passed on to, where they are.
    pub fn leader(&self) -> Option<SocketAddr> {
        match &*self.target.borrow() {
            Target::There(address) => Some(*address),
            Target::Here(_) | Target::Nobody => None,
        }
    }

    /// The routes of the fleet API, for whom `guard` admits. The leader asks its own guard again.
    pub fn router(&self, guard: Guard) -> Router {
        Router::new()
            .route("/openapi.json", get(api::openapi))
            // No route with a parameter: the routes behind would be given it, besides their own.
            .fallback(dispatch)
            .method_not_allowed_fallback(async || ApiError::method_not_allowed())
            .with_state(self.clone())
            .layer(middleware::from_fn_with_state(guard, guard::check))
    }
}

async fn dispatch(State(front): State<Front>, request: Request) -> Response {
    if !request.uri().path().starts_with("/v1/") {
        return ApiError::not_found("no such path; GET /openapi.json lists them").into_response();
    }
    let target = front.target.borrow().clone();
    match target {
        Target::Here(routes) => routes.oneshot(request).await.into_response(),
        _ if forward::was_forwarded(&request) => {
            ApiError::no_leader("the replica that this was passed on to does not lead").into_response()
        }
        Target::There(leader) => {
            let mut moved = front.target.subscribe();
            let moved = async move {
                let there = |target: &Target| matches!(target, Target::There(address) if *address == leader);
                // The front is held by the routes; where both are gone, so is the reason to go on.
                let _ = moved.wait_for(|target| !there(target)).await;
            };
            front.forward.pass_on(leader, request, moved).await.unwrap_or_else(IntoResponse::into_response)
        }
        Target::Nobody => ApiError::no_leader("no replica is known to lead").into_response(),
    }
}
