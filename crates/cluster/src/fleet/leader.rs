//! Where the replica is that leads.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client};
use longshore_types::Namespace;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::front::{Front, Where};
use crate::kube::{Leadership, pod_of};

/// How long one look may take, and the waits between looks that tell nothing, which double.
const LOOK: Duration = Duration::from_secs(3);
const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(8);

/// Turns `front` to whoever leads, as long as that is another; comes back when this process leads, or will no more. Whose
/// pods are in `namespace` and whose admin servers are at `port`, as ours.
///
/// A holder's pod is looked up once: a process has one address all its life, and another process is another holder.
pub async fn find_leader(
    client: Client,
    namespace: &Namespace,
    port: u16,
    mut leadership: watch::Receiver<Leadership>,
    front: &Front,
) {
    let pods: Api<Pod> = Api::namespaced(client, namespace.as_str());
    loop {
        let holder = match &*leadership.borrow_and_update() {
            Leadership::Following { holder } => holder.clone(),
            Leadership::Leading { .. } | Leadership::Over { .. } => return,
        };
        front.turn(Where::Nobody);
        let found = async {
            if let Some(pod) = holder.as_deref().and_then(pod_of) {
                front.turn(Where::There(SocketAddr::new(address(&pods, pod).await, port)));
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            // First: what was found for a holder that is none any more must not be used.
            biased;
            changed = leadership.changed() => if changed.is_err() { return },
            () = found => {}
        }
    }
}

/// The address of a pod, as soon as it is known.
async fn address(pods: &Api<Pod>, name: &str) -> IpAddr {
    let mut wait = FIRST_WAIT;
    loop {
        let why = match timeout(LOOK, pods.get(name)).await {
            Err(_) => "no answer".to_owned(),
            Ok(Err(kube::Error::Api(status))) => status.message.clone(),
            Ok(Err(_)) => "the API server cannot be reached".to_owned(),
            Ok(Ok(pod)) => match pod.status.and_then(|status| status.pod_ip).map(|ip| ip.parse()) {
                Some(Ok(ip)) => return ip,
                _ => "it has no address".to_owned(),
            },
        };
        tracing::debug!(pod = name, why, "The pod of the replica that leads is not known");
        sleep(wait).await;
        wait = (wait * 2).min(LONGEST_WAIT);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
    use std::sync::{Arc, Mutex};

    use axum::extract::Path;
    use axum::http::StatusCode;
    use axum::response::{IntoResponse, Response};
    use axum::{Json, Router, routing::get};
    use jiff::Timestamp;
    use serde_json::json;

    use super::*;
    use crate::kube::{Fence, Term};

    const SECOND: Duration = Duration::from_secs(1);

    /// An API server with pods by name; the first `failures` looks come to nothing.
    #[derive(Clone, Default)]
    struct Server {
        pods: Arc<Mutex<Vec<(&'static str, &'static str)>>>,
        looks: Arc<AtomicU32>,
        failures: Arc<AtomicU64>,
    }

    impl Server {
        fn answer(&self, name: &str) -> Response {
            self.looks.fetch_add(1, Ordering::SeqCst);
            if self.failures.load(Ordering::SeqCst) > 0 {
                self.failures.fetch_sub(1, Ordering::SeqCst);
                return (StatusCode::INTERNAL_SERVER_ERROR, "no").into_response();
            }
            let pods = self.pods.lock().unwrap();
            let Some((_, ip)) = pods.iter().find(|(pod, _)| *pod == name) else {
                let body = json!({"kind": "Status", "status": "Failure", "reason": "NotFound", "code": 404});
                return (StatusCode::NOT_FOUND, Json(body)).into_response();
            };
            Json(json!({"metadata": {"name": name}, "status": {"podIP": ip}})).into_response()
        }
    }

    struct World {
        server: Server,
        leadership: watch::Sender<Leadership>,
        front: Front,
        finder: tokio::task::JoinHandle<()>,
    }

    fn world(server: Server) -> World {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let front = Front::new().unwrap();
        let (leadership, watched) = watch::channel(Leadership::Following { holder: None });
        let answers = server.clone();
        let routes = Router::new().route(
            "/api/v1/namespaces/longshore-system/pods/{name}",
            get(move |Path(name): Path<String>| async move { answers.answer(&name) }),
        );
        let client = Client::new(routes.into_service::<kube::client::Body>(), "default");
        let finder = tokio::spawn({
            let front = front.clone();
            async move {
                let namespace = Namespace::new("longshore-system").unwrap();
                find_leader(client, &namespace, 8081, watched, &front).await;
            }
        });
        World { server, leadership, front, finder }
    }

    impl World {
        fn holder(&self, holder: Option<&str>) {
            self.leadership.send_replace(Leadership::Following { holder: holder.map(str::to_owned) });
        }

        async fn there(&self, address: &str) {
            let expected = Some(address.parse().unwrap());
            timeout(60 * SECOND, async {
                while self.front.leader() != expected {
                    sleep(SECOND / 10).await;
                }
            })
            .await
            .unwrap();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_leader_is_found_by_its_pod_and_looked_up_once() {
        let server = Server::default();
        server.pods.lock().unwrap().extend([("a", "10.0.0.1"), ("b", "fd00::2")]);
        let world = world(server);
        world.holder(Some("a_1"));
        world.there("10.0.0.1:8081").await;
        sleep(600 * SECOND).await;
        assert_eq!(world.server.looks.load(Ordering::SeqCst), 1);
        world.holder(Some("b_1"));
        world.there("[fd00::2]:8081").await;
        for nobody in [None, Some("no pod at all")] {
            world.holder(nobody);
            sleep(SECOND).await;
            assert_eq!(world.front.leader(), None);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_pod_that_has_no_address_yet_is_looked_for_again() {
        let server = Server { failures: Arc::new(3.into()), ..Server::default() };
        let world = world(server);
        world.holder(Some("a_1"));
        sleep(30 * SECOND).await;
        assert_eq!(world.front.leader(), None);
        world.server.pods.lock().unwrap().push(("a", ""));
        sleep(30 * SECOND).await;
        assert_eq!(world.front.leader(), None);
        world.server.pods.lock().unwrap()[0].1 = "10.0.0.1";
        world.there("10.0.0.1:8081").await;
        let looks = world.server.looks.load(Ordering::SeqCst);
        assert!((8..=16).contains(&looks), "{looks} in a minute");
    }

    #[tokio::test(start_paused = true)]
    async fn it_ends_where_this_process_leads_and_points_nowhere_else() {
        let server = Server::default();
        let world = world(server);
        world.holder(Some("a_1"));
        sleep(SECOND).await;
        let term = Term { created: Timestamp::UNIX_EPOCH, transitions: 1, identity: "me_1".to_owned() };
        world.leadership.send_replace(Leadership::Leading { term, fence: Fence::open() });
        timeout(SECOND, world.finder).await.unwrap().unwrap();
        assert_eq!(world.front.leader(), None);
    }
}
