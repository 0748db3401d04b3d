//! One read of one Secret.

use std::time::Duration;

use k8s_openapi::api::core::v1;
use kube::api::GetParams;
use kube::core::Request;
use kube::{Client, Resource as _};
use longshore_types::{Fault, Scope, Secret};
use tokio::time::timeout;

use super::entry::Values;
use super::{SecretName, refusal};
use crate::kube::watch::request;

/// Reads it now. A transient fault means that nothing is known of it; every other one is an answer.
pub(super) async fn read(client: &Client, secret: &SecretName, bound: Duration) -> Result<Values, Fault> {
    let SecretName { namespace, name } = secret;
    let url = v1::Secret::url_path(&(), Some(namespace.as_str()));
    let get = async {
        let get = Request::new(url).get(name, &GetParams::default()).map_err(kube::Error::BuildRequest)?;
        request::<v1::Secret>(client, get).await
    };
    let error = match timeout(bound, get).await {
        Ok(Ok(secret)) => return Ok(values(secret)),
        Ok(Err(error)) => error,
        Err(_) => {
            let message = format!("Secret {name:?}: the API server has not answered within {} s", bound.as_secs());
            return Err(Fault::new(Scope::Transient, "SecretUnreadable", message));
        }
    };
    Err(match error {
        kube::Error::Api(status) if status.code == 404 => {
            let message =
                format!("there is no Secret {name:?} in namespace {namespace}: create it, or correct the reference");
            refusal("SecretNotFound", message)
        }
        kube::Error::Api(status) if status.code == 403 => {
            let message = format!(
                "the controller may not read Secret {name:?} in namespace {namespace}: \
                 give its ServiceAccount the verb `get` on `secrets` there"
            );
            refusal("SecretForbidden", message)
        }
        // The words of other errors may quote what was read.
        kube::Error::Api(status) => {
            let message = format!("Secret {name:?}: the API server answers {}", status.code);
            Fault::new(Scope::Transient, "SecretUnreadable", message)
        }
        _ => {
            let message = format!("Secret {name:?}: the API server's answer could not be had");
            Fault::new(Scope::Transient, "SecretUnreadable", message)
        }
    })
}

fn values(secret: v1::Secret) -> Values {
    let token = |bytes: Vec<u8>| {
        let text = String::from_utf8(bytes).ok()?;
        let text = text.trim();
        (!text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic())).then(|| Secret::new(text))
    };
    secret.data.unwrap_or_default().into_iter().map(|(key, value)| (key, token(value.0))).collect()
}
