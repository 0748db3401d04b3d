//! What `longshore-engine` makes of the engine's answers: the same outcome, whatever the version.

use std::path::Path;

use longshore_engine::{BaseUrl, Engine, Vllm, VllmConfig, http_client};
use longshore_types::{AdapterName, Fault, Scope};

use super::report::Report;
use super::{Target, check, unload_all};

/// What is asked of the client for each fixture: the scope and the reason of its fault, or none.
const FIXTURES: [(&str, Option<(Scope, &str)>); 17] = [
    ("r8-a", None),
    ("r16", None),
    ("rslora", None),
    ("more-layers", None),
    ("rank-lies", None),
    ("nan", None),
    ("no-such-directory", Some((Scope::EngineFiles, "ArtifactNotFound"))),
    ("no-config", Some((Scope::EngineFiles, "ArtifactNotFound"))),
    ("no-weights", Some((Scope::Artifact, "ArtifactInvalid"))),
    ("corrupt", Some((Scope::Artifact, "ArtifactInvalid"))),
    ("truncated", Some((Scope::Artifact, "ArtifactInvalid"))),
    ("bad-config", Some((Scope::Artifact, "ArtifactInvalid"))),
    ("r64", Some((Scope::Engine, "Incompatible"))),
    ("wrong-base", Some((Scope::Artifact, "Incompatible"))),
    ("dora", Some((Scope::Artifact, "Incompatible"))),
    ("bias-all", Some((Scope::Artifact, "Incompatible"))),
    ("modules-to-save", Some((Scope::Artifact, "Incompatible"))),
];

pub(super) async fn run(target: &Target, adapters: &Path, report: &mut Report) {
    let client = match Client::new(target, adapters) {
        Ok(client) => client,
        Err(why) => return report.add("client", "it can be made", Err(why)),
    };
    for (fixture, expected) in FIXTURES {
        report.add("client", format!("loading {fixture}"), client.load_and_unload(fixture, expected).await);
    }
    report.add("client", "it tells the base model from adapters", client.lists().await);
    report.add("client", "loading what is loaded from that path is no failure", client.again().await);
    report.add("client", "a name that is loaded from elsewhere is taken", client.taken().await);
    report.add("client", "the base model's name is taken", client.base_name().await);
    report.add("client", "unloading what is not there is no failure", client.unload_unknown().await);
    report.add("client", "it tells the boot and the load", client.signals().await);
    if target.has_key {
        report.add("client", "without the key it is told so", client.without_key(target).await);
    }
    report.add("client", "everything is unloaded again", unload_all(target).await);
}

struct Client<'a> {
    engine: Vllm,
    adapters: &'a Path,
}

impl<'a> Client<'a> {
    fn new(target: &Target, adapters: &'a Path) -> Result<Self, String> {
        // Another probe, or the program, may have installed it.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let base_url: BaseUrl = format!("http://{}", target.addr).parse().map_err(show)?;
        let config = VllmConfig { api_key: target.key(), ..VllmConfig::new(base_url) };
        Ok(Self { engine: Vllm::new(http_client().map_err(show)?, config), adapters })
    }

    async fn load(&self, name: &str, fixture: &str) -> Result<Result<(), Fault>, String> {
        let name: AdapterName = name.parse().map_err(show)?;
        let path = self.adapters.join(fixture).display().to_string();
        Ok(self.engine.load(&name, &path, None).await)
    }

    async fn unload(&self, name: &str) -> Result<(), String> {
        let name: AdapterName = name.parse().map_err(show)?;
        self.engine.unload(&name, None).await.map_err(show)
    }

    async fn load_and_unload(&self, fixture: &str, expected: Option<(Scope, &str)>) -> Result<(), String> {
        let got = self.load("client", fixture).await?;
        let same = match (&got, expected) {
            (Ok(()), None) => true,
            (Err(fault), Some((scope, reason))) => fault.scope == scope && fault.reason == reason,
            _ => false,
        };
        self.unload("client").await?;
        check(same, || format!("expected {expected:?}, got {got:?}"))
    }

    async fn lists(&self) -> Result<(), String> {
        self.load("one", "r8-a").await?.map_err(show)?;
        let models = self.engine.models().await.map_err(show)?;
        let base: Vec<&str> = models.base.iter().map(|model| model.id.as_str()).collect();
        let adapters: Vec<(&str, &str)> = models.adapters.iter().map(|m| (m.id.as_str(), m.root.as_str())).collect();
        let root = self.adapters.join("r8-a").display().to_string();
        let right = base == [crate::tiny::NAME] && adapters == [("one", root.as_str())];
        check(right, || format!("{models:?}"))
    }

    async fn again(&self) -> Result<(), String> {
        self.load("one", "r8-a").await?.map_err(show)
    }

    async fn taken(&self) -> Result<(), String> {
        let got = self.load("one", "r8-b").await?;
        check(got.as_ref().is_err_and(|fault| fault.reason == "NameTaken"), || format!("{got:?}"))
    }

    /// The older version would load it over the base model.
    async fn base_name(&self) -> Result<(), String> {
        let got = self.load(crate::tiny::NAME, "r8-a").await?;
        check(got.as_ref().is_err_and(|fault| fault.reason == "NameTaken"), || format!("{got:?}"))?;
        let models = self.engine.models().await.map_err(show)?;
        check(models.adapters.iter().all(|model| model.id != crate::tiny::NAME), || format!("{models:?}"))
    }

    async fn unload_unknown(&self) -> Result<(), String> {
        self.unload("nobody").await
    }

    async fn signals(&self) -> Result<(), String> {
        let (first, second) = (self.engine.signals().await.map_err(show)?, self.engine.signals().await.map_err(show)?);
        check(!first.boot.as_str().is_empty() && first.boot == second.boot, || format!("{first:?} {second:?}"))?;
        check(first.load.running == 0 && first.load.waiting == 0, || format!("{first:?}"))?;
        check(first.load.max_loras == Some(2), || format!("{first:?}"))
    }

    async fn without_key(&self, target: &Target) -> Result<(), String> {
        let keyless = Self::new(&Target { has_key: false, ..target.clone() }, self.adapters)?;
        let got = keyless.engine.models().await;
        check(got.as_ref().is_err_and(|fault| fault.reason == "Unauthorized"), || format!("{got:?}"))
    }
}

fn show(error: impl std::fmt::Display) -> String {
    error.to_string()
}
