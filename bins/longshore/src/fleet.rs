//! Reading the fleet API.

use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use longshore_api::fleet::{AdapterList, EngineList, ErrorBody};
use longshore_cluster::local::read_key_file;
use longshore_types::Secret;
use reqwest::StatusCode;
use serde::de::DeserializeOwned;

use crate::args::ServerArgs;

/// For one answer. The fleet API answers from memory.
const PATIENCE: Duration = Duration::from_secs(10);

/// A fleet API somewhere.
pub struct Fleet {
    client: reqwest::Client,
    server: String,
    token: Option<Secret>,
    namespace: Option<String>,
}

impl Fleet {
    /// The one that the flags name.
    pub fn new(args: &ServerArgs) -> Result<Self> {
        let token = match &args.server_token_file {
            Some(path) => Some(read_key_file(path).with_context(|| format!("--server-token-file {}", path.display()))?),
            None => None,
        };
        let server = args.server.trim_end_matches('/').to_owned();
        let server = if server.contains("://") { server } else { format!("http://{server}") };
        if !reqwest::Url::parse(&server).is_ok_and(|url| url.has_host()) {
            bail!("--server {:?}: expected http://host:port", args.server);
        }
        let client = reqwest::Client::builder().timeout(PATIENCE).no_proxy().build()?;
        Ok(Self { client, server, token, namespace: args.namespace.as_ref().map(ToString::to_string) })
    }

    /// Every adapter, of one namespace where one was asked for.
    pub async fn adapters(&self) -> Result<AdapterList> {
        let mut path = "/v1/adapters".to_owned();
        if let Some(namespace) = &self.namespace {
            path.push_str(&format!("?namespace={namespace}"));
        }
        self.get(&path).await
    }

    /// Every engine, of one namespace where one was asked for.
    pub async fn engines(&self) -> Result<EngineList> {
        let mut list: EngineList = self.get("/v1/engines").await?;
        list.engines.retain(|engine| self.namespace.as_ref().is_none_or(|namespace| engine.namespace == *namespace));
        Ok(list)
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        let mut request = self.client.get(format!("{}{path}", self.server));
        if let Some(token) = &self.token {
            request = request.bearer_auth(token.expose());
        }
        let response = request.send().await.map_err(|error| {
            let hint =
                if error.is_connect() { "; is `longshore up` running there? Name another with --server" } else { "" };
            anyhow!("cannot reach {}: {}{hint}", self.server, cause(&error.without_url()))
        })?;
        let status = response.status();
        // The lists are always there.
        if status == StatusCode::NOT_FOUND {
            bail!("{} has no fleet API: name the --admin address of `longshore up` with --server", self.server);
        }
        if status == StatusCode::UNAUTHORIZED {
            bail!("{} asks for another bearer token: give it with --server-token-file", self.server);
        }
        let body = response.bytes().await.context("the answer broke off")?;
        if !status.is_success() {
            match serde_json::from_slice::<ErrorBody>(&body) {
                Ok(body) => bail!("{}: {}", self.server, body.error.message),
                Err(_) => bail!("{} answered {status}", self.server),
            }
        }
        serde_json::from_slice(&body).with_context(|| format!("{} is no fleet API", self.server))
    }
}

/// What happened: the end of the chain, since the rest says `error sending request` and the like.
fn cause(error: &(dyn std::error::Error + 'static)) -> String {
    error.source().map_or_else(|| error.to_string(), cause)
}
