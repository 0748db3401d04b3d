//! Callers who speak another system's language: one adapter at a time, and an answer when it is there.

mod aibrix;
mod outcome;
mod sagemaker;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::Router;
use longshore_cluster::fleet::{Guard, guarded};
use longshore_cluster::local::Declared;
use longshore_engine::Engine;
use longshore_types::{AdapterName, ArtifactUrl, Scheme, Secret};

use crate::agent::Agent;
use outcome::Failure;

/// What the paths of other systems need.
#[derive(Clone)]
pub struct Callers {
    agent: Agent,
    engine: Arc<dyn Engine>,
    /// Where Secrets that requests name are mounted: a directory each, or one alone.
    secrets: PathBuf,
    guard: Guard,
}

impl std::fmt::Debug for Callers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Callers").field("agent", &self.agent).field("secrets", &self.secrets).finish_non_exhaustive()
    }
}

impl Callers {
    /// The paths over `agent`, for whom `guard` admits. `engine` is the one that the agent looks after, for what is only
    /// passed on. A request may name a Secret that is mounted as `secrets/<name>/`, or as `secrets` itself.
    pub fn new(agent: Agent, engine: Arc<dyn Engine>, secrets: impl Into<PathBuf>, guard: Guard) -> Self {
        Self { agent, engine, secrets: secrets.into(), guard }
    }
}

/// The paths of AIBrix's runtime sidecar, and of a SageMaker container. AIBrix's `/ready` is open; its `/healthz` is what
/// every process of ours has.
pub fn callers(callers: Callers) -> Router {
    let guard = callers.guard.clone();
    let open = aibrix::probes(callers.agent.clone());
    open.merge(guarded(aibrix::routes(callers.clone()).merge(sagemaker::routes(callers)), guard))
}

impl Callers {
    /// The adapter that a request speaks of.
    fn declared(
        &self,
        name: &str,
        url: &str,
        credentials: BTreeMap<String, Secret>,
        engine_key: Option<Secret>,
    ) -> Result<Declared, Failure> {
        let name = AdapterName::new(name).map_err(|error| Failure::invalid(error.to_string()))?;
        // The rule alone: the text may hold a secret.
        let artifact = ArtifactUrl::new(url).ok().filter(|url| url.scheme() != Scheme::Relative);
        let artifact = artifact.ok_or_else(|| {
            Failure::invalid("the artifact is neither an absolute path nor a reference such as s3://bucket/prefix/")
        })?;
        let namespace = self.agent.namespace().clone();
        Ok(Declared { namespace, name, artifact, pinned: None, credentials, engine_key, adopt: false })
    }

    /// What the mounted Secret `name` holds; or, where none is named, the one that is mounted at the root, if any.
    async fn mounted(&self, name: Option<&str>) -> Result<BTreeMap<String, Secret>, Failure> {
        let root = self.secrets.clone();
        let directory = match name {
            None => root,
            Some(name) if is_plain(name) => {
                let own = root.join(name);
                if own.is_dir() { own } else { root }
            }
            Some(_) => return Err(Failure::invalid("credentials_secret is not the name of a Secret")),
        };
        let named = name.is_some();
        let read = tokio::task::spawn_blocking(move || read_secret(&directory)).await;
        let values = read.unwrap_or_default();
        if named && values.is_empty() {
            let message = "the Secret that credentials_secret names is not mounted here: mount it, or send credentials";
            return Err(Failure::invalid(message));
        }
        Ok(values)
    }
}

fn is_plain(name: &str) -> bool {
    let fine = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
    !name.is_empty() && name.len() <= 253 && name.chars().all(fine) && !name.starts_with('.')
}

/// The largest value of a Secret: Kubernetes allows a mebibyte for all of one.
const LARGEST: u64 = 1 << 20;

/// One file for each key, as Kubernetes mounts a Secret.
fn read_secret(directory: &Path) -> BTreeMap<String, Secret> {
    let Ok(entries) = std::fs::read_dir(directory) else { return BTreeMap::new() };
    let value = |entry: std::fs::DirEntry| {
        // A mounted Secret has `..data` beside its keys; `.dockerconfigjson` is a key.
        let name = entry.file_name().into_string().ok().filter(|name| !name.starts_with(".."))?;
        let metadata = std::fs::metadata(entry.path()).ok()?;
        let text = (metadata.is_file() && metadata.len() <= LARGEST).then(|| std::fs::read_to_string(entry.path()))?;
        Some((name, Secret::new(text.ok()?)))
    };
    entries.flatten().filter_map(value).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mounted_secret_is_read_by_its_keys_and_no_name_leads_elsewhere() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("..data")).unwrap();
        std::fs::write(dir.path().join("huggingface_token"), "hf_x").unwrap();
        std::fs::write(dir.path().join(".dockerconfigjson"), "{}").unwrap();
        std::fs::write(dir.path().join("..link"), "not a key").unwrap();
        let read = read_secret(dir.path());
        assert_eq!(read.keys().collect::<Vec<_>>(), [".dockerconfigjson", "huggingface_token"]);
        assert!(read_secret(&dir.path().join("none")).is_empty());
        for bad in ["", "..", "../x", "a/b", ".hidden", "A"] {
            assert!(!is_plain(bad), "{bad}");
        }
        assert!(is_plain("s3-credentials.v1"));
    }
}
