//! What is done with one engine, each call within a bound.

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use longshore_api::spec::EngineKey;
use longshore_engine::{Engine, Models, Signals};
use longshore_reconciler::{Listing, Load, ResidentSeen, Unload};
use longshore_types::{BaseModel, Boot, Digest, EngineId, Fault, LoadSignals, Root, Scope, Secret};
use tokio::time::timeout;

use crate::fleet::FleetStore;

/// Who knows which adapters requests are under way for. The local router does, which an engine's own metrics lag behind.
pub trait Router: Send + Sync + 'static {
    /// The names in requests that have been sent to `engine` and are not answered in full.
    fn active_on(&self, engine: &EngineId) -> BTreeSet<Arc<str>>;

    /// What routers see has changed. Called before the reconciler is told that it was published, so that whoever takes it
    /// over here and now never sends a request by a route that the reconciler takes for withdrawn (I1, I5).
    fn fleet_changed(&self, fleet: &FleetStore) {
        let _ = fleet;
    }
}

/// Nobody routes here.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoRouter;

impl Router for NoRouter {
    fn active_on(&self, _: &EngineId) -> BTreeSet<Arc<str>> {
        BTreeSet::new()
    }
}

/// An engine's own calls have deadlines of their own, of 2 s each, 5 s for an unload and 30 s for a load, around which it
/// may list and ask for its health. These bounds lie above the sum of those, for an engine that breaks its promise: a
/// listing is up to five calls, a probe one, an unload one and three more, a load likewise.
const LIST_BOUND: Duration = Duration::from_secs(12);
const PROBE_BOUND: Duration = Duration::from_secs(4);
const UNLOAD_BOUND: Duration = Duration::from_secs(15);
const LOAD_BOUND: Duration = Duration::from_secs(45);

/// How one engine's paths relate to our store.
pub(crate) trait Roots: Send + Sync + 'static {
    /// The directory of `digest`, as the engine sees it.
    fn path_of(&self, digest: Digest) -> String;
    /// The digest whose directory the engine calls `path`.
    fn digest_of(&self, path: &str) -> Option<Digest>;
}

/// Where the Secrets are that objects name for their own loads and unloads.
#[async_trait]
pub(crate) trait Keys: Send + Sync + 'static {
    /// The value of `key` in the Secret `name` of the engine's namespace.
    async fn secret(&self, name: &str, key: &str) -> Result<Secret, Fault>;
}

/// One engine and how to reach it. Cheap to clone; clones share what is known of its life.
#[derive(Clone)]
pub(crate) struct Link {
    id: EngineId,
    engine: Arc<dyn Engine>,
    roots: Arc<dyn Roots>,
    keys: Arc<dyn Keys>,
    router: Arc<dyn Router>,
    life: Arc<Mutex<Life>>,
}

/// Which life an engine is in.
#[derive(Debug, Default)]
struct Life {
    /// As its process said last.
    process: Option<Boot>,
    /// As its pod tells, which comes before the process's own word.
    told: Option<Boot>,
}

impl Link {
    pub(crate) fn new(
        id: EngineId,
        engine: Arc<dyn Engine>,
        roots: Arc<dyn Roots>,
        keys: Arc<dyn Keys>,
        router: Arc<dyn Router>,
    ) -> Self {
        Self { id, engine, roots, keys, router, life: Arc::default() }
    }

    /// Its pod says which life it is in.
    pub(crate) fn tell(&self, boot: Option<Boot>) {
        self.life().told = boot;
    }

    /// What it holds, in one life.
    ///
    /// Its life is read before and after the listing: only where both are the same is it known whose listing it was. The
    /// reading after one listing is the one before the next, however long ago, so that each listing costs one more call.
    pub(crate) async fn list(&self) -> Result<Listing, Fault> {
        within(LIST_BOUND, Scope::Transient, async {
            let process = self.life().process.clone();
            let mut before = match process {
                Some(boot) => boot,
                None => self.signals().await?.boot,
            };
            for _ in 0..2 {
                let models = self.engine.models().await?;
                let signals = self.signals().await?;
                if signals.boot == before {
                    return Ok(self.listing(models, signals));
                }
                before = signals.boot;
            }
            Err(Fault::new(Scope::Transient, "EngineRestarting", format!("{} restarted while it was listed", self.id)))
        })
        .await
    }

    /// How busy it is.
    pub(crate) async fn probe(&self) -> Result<LoadSignals, Fault> {
        within(PROBE_BOUND, Scope::Transient, async { Ok(self.busy(self.signals().await?.load)) }).await
    }

    /// Loads what `load` says, as it says.
    pub(crate) async fn load(&self, load: &Load) -> Result<(), Fault> {
        self.still_in(&load.boot)?;
        let key = self.bearer(load.key.as_ref()).await?;
        let path = match &load.root {
            Root::Store(digest) => self.roots.path_of(*digest),
            Root::Other(path) => path.to_string(),
        };
        within(LOAD_BOUND, Scope::Unknown, self.engine.load(&load.adapter.name, &path, key.as_ref())).await
    }

    /// Unloads what `unload` says.
    pub(crate) async fn unload(&self, unload: &Unload) -> Result<(), Fault> {
        self.still_in(&unload.boot)?;
        let key = self.bearer(unload.key.as_ref()).await?;
        within(UNLOAD_BOUND, Scope::Unknown, self.engine.unload(&unload.name, key.as_ref())).await
    }

    fn life(&self) -> MutexGuard<'_, Life> {
        self.life.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn signals(&self) -> Result<Signals, Fault> {
        let signals = self.engine.signals().await?;
        self.life().process = Some(signals.boot.clone());
        Ok(signals)
    }

    /// A load or unload was decided on for one life; in another one it may be wrong.
    fn still_in(&self, boot: &Boot) -> Result<(), Fault> {
        let life = self.life();
        match life.told.as_ref().or(life.process.as_ref()) {
            Some(present) if present != boot => {
                let message = format!("{} has restarted since this was decided", self.id);
                Err(Fault::new(Scope::Transient, "EngineRestarted", message))
            }
            _ => Ok(()),
        }
    }

    /// The token that an object names for its own loads and unloads.
    async fn bearer(&self, key: Option<&EngineKey>) -> Result<Option<Secret>, Fault> {
        match key {
            None => Ok(None),
            Some(EngineKey::Inline(secret)) => Ok(Some(secret.clone())),
            Some(EngineKey::Secret { name, key }) => self.keys.secret(name, key).await.map(Some),
        }
    }

    fn busy(&self, mut load: LoadSignals) -> LoadSignals {
        load.active.extend(self.router.active_on(&self.id));
        load
    }

    fn listing(&self, models: Models, signals: Signals) -> Listing {
        let root = |text: &str| self.roots.digest_of(text).map_or_else(|| Root::Other(text.into()), Root::Store);
        let residents = models.adapters.iter();
        Listing {
            boot: signals.boot,
            residents: residents
                .map(|model| ResidentSeen { name: model.id.as_str().into(), root: root(&model.root) })
                .collect(),
            base_models: models.base.iter().filter_map(|model| BaseModel::new(&model.id).ok()).collect(),
            load: self.busy(signals.load),
        }
    }
}

async fn within<T>(
    bound: Duration,
    scope: Scope,
    call: impl Future<Output = Result<T, Fault>> + Send,
) -> Result<T, Fault> {
    timeout(bound, call).await.unwrap_or_else(|_| {
        Err(Fault::new(scope, "Timeout", format!("the engine has not answered within {} s", bound.as_secs())))
    })
}

#[cfg(test)]
mod tests {
    use longshore_artifacts::StoreView;
    use longshore_engine::{FakeCall, FakeEngine, FakeOperation};
    use longshore_types::{AdapterKey, Namespace, ObjectKey, ObjectName, OwnerKind};

    use super::*;
    use crate::local::depot::Paths;
    use crate::local::depot::tests::{FakeDepot, digest};

    /// A namespace without any Secret.
    struct NoSecrets;

    #[async_trait]
    impl Keys for NoSecrets {
        async fn secret(&self, _: &str, _: &str) -> Result<Secret, Fault> {
            Err(Fault::new(Scope::Engine, "SecretNotFound", "make it"))
        }
    }

    fn id() -> EngineId {
        EngineId::new(Namespace::default_namespace(), "h:1")
    }

    fn link(engine: &Arc<FakeEngine>, alias: Option<&str>, router: Arc<dyn Router>) -> Link {
        let paths = Paths::new(FakeDepot::new(), alias.map(|path| StoreView::new(path).unwrap()));
        Link::new(id(), engine.clone(), Arc::new(paths), Arc::new(NoSecrets), router)
    }

    fn load(boot: &Boot, root: Root, key: Option<EngineKey>) -> Load {
        let object = ObjectKey {
            namespace: Namespace::default_namespace(),
            kind: OwnerKind::ModelAdapter,
            name: ObjectName::new("sql").unwrap(),
        };
        let adapter = AdapterKey { object, name: "sql".parse().unwrap() };
        Load { adapter, engine: id(), boot: boot.clone(), root, key, attempt: 1 }
    }

    fn unload(boot: &Boot, key: Option<EngineKey>) -> Unload {
        Unload { engine: id(), boot: boot.clone(), name: "sql".parse().unwrap(), key }
    }

    fn seen_at(digest: Digest) -> String {
        StoreView::new("/mnt/store").unwrap().path_of(&digest)
    }

    #[tokio::test(start_paused = true)]
    async fn i10_a_listing_costs_one_listing_and_one_reading_of_the_life() {
        let engine = Arc::new(FakeEngine::new("tiny"));
        let link = link(&engine, None, Arc::new(NoRouter));
        let first = link.list().await.unwrap();
        assert_eq!(first.base_models, [BaseModel::new("tiny").unwrap()]);
        let operations = || engine.calls().iter().map(FakeCall::operation).collect::<Vec<_>>();
        use FakeOperation::{Models, Signals};
        assert_eq!(operations(), [Signals, Models, Signals]);
        assert_eq!(link.list().await.unwrap().boot, first.boot);
        assert_eq!(operations()[3..], [Models, Signals]);
    }

    #[tokio::test(start_paused = true)]
    async fn i1_a_listing_is_of_one_life_even_where_the_engine_restarts_in_between() {
        let engine = Arc::new(FakeEngine::new("tiny"));
        let link = link(&engine, None, Arc::new(NoRouter));
        let first = link.list().await.unwrap();
        link.load(&load(&first.boot, Root::Other("/srv/a".into()), None)).await.unwrap();
        assert_eq!(link.list().await.unwrap().residents.len(), 1);
        engine.restart();
        let second = link.list().await.unwrap();
        assert_ne!(second.boot, first.boot);
        assert_eq!(second.residents, []);
    }

    /// Restarts after every listing, so that no reading before is ever the one after.
    struct Restless(Arc<FakeEngine>);

    #[async_trait::async_trait]
    impl Engine for Restless {
        async fn models(&self) -> Result<Models, Fault> {
            let models = self.0.models().await;
            self.0.restart();
            models
        }
        async fn signals(&self) -> Result<Signals, Fault> {
            self.0.signals().await
        }
        async fn load(&self, _: &longshore_types::AdapterName, _: &str, _: Option<&Secret>) -> Result<(), Fault> {
            Ok(())
        }
        async fn unload(&self, _: &longshore_types::AdapterName, _: Option<&Secret>) -> Result<(), Fault> {
            Ok(())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_engine_that_restarts_all_the_time_is_not_listed_and_not_asked_for_ever() {
        let engine = Arc::new(FakeEngine::new("tiny"));
        let paths = Paths::new(FakeDepot::new(), None);
        let link = Link::new(
            id(),
            Arc::new(Restless(engine.clone())),
            Arc::new(paths),
            Arc::new(NoSecrets),
            Arc::new(NoRouter),
        );
        let fault = link.list().await.unwrap_err();
        assert_eq!((fault.scope, fault.reason), (Scope::Transient, "EngineRestarting"));
        assert_eq!(engine.calls().len(), 5);
    }

    #[tokio::test(start_paused = true)]
    async fn i2_what_is_loaded_from_the_store_is_listed_by_its_digest() {
        let engine = Arc::new(FakeEngine::new("tiny"));
        let link = link(&engine, Some("/mnt/store"), Arc::new(NoRouter));
        let boot = link.list().await.unwrap().boot;
        link.load(&load(&boot, Root::Store(digest(1)), None)).await.unwrap();
        assert!(matches!(engine.calls().last(), Some(FakeCall::Load { path, .. }) if *path == seen_at(digest(1))));
        let residents = link.list().await.unwrap().residents;
        assert_eq!(residents, [ResidentSeen { name: "sql".into(), root: Root::Store(digest(1)) }]);
        link.unload(&unload(&boot, None)).await.unwrap();
        assert_eq!(link.list().await.unwrap().residents, []);
        link.load(&load(&boot, Root::Other("org/name".into()), None)).await.unwrap();
        assert_eq!(link.list().await.unwrap().residents[0].root, Root::Other("org/name".into()));
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_decided_for_an_earlier_life_is_not_done_in_this_one() {
        let engine = Arc::new(FakeEngine::new("tiny"));
        let link = link(&engine, None, Arc::new(NoRouter));
        let old = link.list().await.unwrap().boot;
        engine.restart();
        link.list().await.unwrap();
        let before = engine.calls().len();
        let fault = link.load(&load(&old, Root::Other("/a".into()), None)).await.unwrap_err();
        assert_eq!((fault.scope, fault.reason), (Scope::Transient, "EngineRestarted"));
        assert_eq!(link.unload(&unload(&old, None)).await.unwrap_err().reason, "EngineRestarted");
        assert_eq!(engine.calls().len(), before, "the engine was not asked");
    }

    #[tokio::test(start_paused = true)]
    async fn i8_the_objects_own_key_is_sent_and_none_where_its_secret_is_missing() {
        let engine = Arc::new(FakeEngine::new("tiny"));
        let link = link(&engine, None, Arc::new(NoRouter));
        let boot = link.list().await.unwrap().boot;
        let inline = Some(EngineKey::Inline(Secret::new("hunter2")));
        link.load(&load(&boot, Root::Other("/a".into()), inline.clone())).await.unwrap();
        link.unload(&unload(&boot, inline)).await.unwrap();
        let keys: Vec<_> = engine
            .calls()
            .into_iter()
            .filter_map(|call| match call {
                FakeCall::Load { key, .. } | FakeCall::Unload { key, .. } => key,
                _ => None,
            })
            .collect();
        assert_eq!(keys, [Secret::new("hunter2"), Secret::new("hunter2")]);
        let reference = Some(EngineKey::Secret { name: "keys".into(), key: "vllm".into() });
        let fault = link.load(&load(&boot, Root::Other("/b".into()), reference)).await.unwrap_err();
        assert_eq!((fault.scope, fault.reason), (Scope::Engine, "SecretNotFound"));
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_pod_says_of_its_life_comes_before_what_the_process_says() {
        let engine = Arc::new(FakeEngine::new("tiny"));
        let link = link(&engine, None, Arc::new(NoRouter));
        link.tell(Some(Boot::new("uid/container#0")));
        link.list().await.unwrap();
        link.load(&load(&Boot::new("uid/container#0"), Root::Other("/a".into()), None)).await.unwrap();
        link.tell(Some(Boot::new("uid/container#1")));
        let stale = link.load(&load(&Boot::new("uid/container#0"), Root::Other("/b".into()), None)).await.unwrap_err();
        assert_eq!(stale.reason, "EngineRestarted");
    }

    struct Busy;

    impl Router for Busy {
        fn active_on(&self, engine: &EngineId) -> BTreeSet<Arc<str>> {
            assert_eq!(*engine, id());
            ["sql".into()].into()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn i5_an_engine_with_requests_under_way_is_not_idle_whatever_its_metrics_say() {
        let engine = Arc::new(FakeEngine::new("tiny"));
        assert!(link(&engine, None, Arc::new(NoRouter)).probe().await.unwrap().is_idle());
        let link = link(&engine, None, Arc::new(Busy));
        assert!(!link.probe().await.unwrap().is_idle());
        assert!(!link.list().await.unwrap().load.is_idle());
    }

    /// Never answers, against its promise.
    struct Mute;

    #[async_trait::async_trait]
    impl Engine for Mute {
        async fn models(&self) -> Result<Models, Fault> {
            std::future::pending().await
        }
        async fn signals(&self) -> Result<Signals, Fault> {
            std::future::pending().await
        }
        async fn load(&self, _: &longshore_types::AdapterName, _: &str, _: Option<&Secret>) -> Result<(), Fault> {
            std::future::pending().await
        }
        async fn unload(&self, _: &longshore_types::AdapterName, _: Option<&Secret>) -> Result<(), Fault> {
            std::future::pending().await
        }
    }

    #[tokio::test(start_paused = true)]
    async fn i11_every_call_comes_back_and_what_may_have_happened_is_unknown() {
        let paths = Paths::new(FakeDepot::new(), None);
        let link = Link::new(id(), Arc::new(Mute), Arc::new(paths), Arc::new(NoSecrets), Arc::new(NoRouter));
        let boot = Boot::new("1");
        let faults = [
            link.list().await.map(drop).unwrap_err(),
            link.probe().await.map(drop).unwrap_err(),
            link.load(&load(&boot, Root::Other("/a".into()), None)).await.unwrap_err(),
            link.unload(&unload(&boot, None)).await.unwrap_err(),
        ];
        assert_eq!(
            faults.map(|fault| fault.scope),
            [Scope::Transient, Scope::Transient, Scope::Unknown, Scope::Unknown]
        );
    }
}
