//! Which controller leads, and the fleet API of each.

use std::net::SocketAddr;

use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::Api;
use kube::api::PostParams;

use super::{CONTROLLER, Router, SOON, SYSTEM};
use crate::Cluster;

/// The port of the fleet API.
const PORT: u16 = 8081;

impl Cluster {
    /// Who holds the Lease: the pod's name and what tells its processes apart; empty where nobody does.
    pub async fn holder(&self) -> Result<String, String> {
        let leases: Api<Lease> = self.api(SYSTEM);
        let lease = leases.get(CONTROLLER).await.map_err(|error| error.to_string())?;
        Ok(lease.spec.and_then(|spec| spec.holder_identity).unwrap_or_default())
    }

    /// The pod that leads, once one does whose holder is not `before`; and its holder.
    pub async fn leader_after(&self, before: &str) -> (String, String) {
        let holder = self
            .wait_for("a leader", SOON, async || {
                let holder = self.holder().await?;
                if holder.is_empty() || holder == before { Err(holder) } else { Ok(holder) }
            })
            .await;
        let pod = holder.split('_').next().unwrap_or_default().to_owned();
        (pod, holder)
    }

    /// The pod that leads.
    pub async fn leader(&self) -> (String, String) {
        self.leader_after("").await
    }

    /// The fleet API of a controller's pod.
    pub async fn fleet_api(&self, pod: &str) -> Router {
        Router::at(SocketAddr::new(self.pod_address(SYSTEM, pod).await, PORT))
    }

    /// A token of a service account for somebody else than the API server.
    pub async fn token_for(&self, namespace: &str, account: &str, audience: &str) -> String {
        let accounts: Api<ServiceAccount> = self.api(namespace);
        let spec = TokenRequestSpec { audiences: vec![audience.to_owned()], ..TokenRequestSpec::default() };
        let asked = TokenRequest { spec, ..TokenRequest::default() };
        let made = accounts.create_token_request(account, &PostParams::default(), &asked).await;
        let status = made.ok().and_then(|made| made.status);
        status.unwrap_or_else(|| panic!("no token of {namespace}/{account} for {audience}")).token
    }
}
