//! What the reconciler knows, for people, dashboards and routers.

use longshore_api::fleet;
use longshore_api::status::Phase;
use longshore_types::{AdapterKey, AdapterName, EngineId, Timestamp};

use super::Reconciler;
use super::conditions::Picture;
use crate::Endpoint;
use crate::adapter::Hold;
use crate::engine::Step;

/// How one adapter stands on one engine. Derived, never stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Standing {
    /// `wanted`, `loading`, `loaded`, `backing-off`, `refused`, `draining` or `unloading`.
    pub(super) state: &'static str,
    pub(super) attempt: u32,
    pub(super) reason: &'static str,
    pub(super) message: String,
}

impl Standing {
    fn plain(state: &'static str, attempt: u32) -> Self {
        Self { state, attempt, reason: "", message: String::new() }
    }

    /// The state of this name.
    pub(super) fn state_named(name: &str) -> Option<&'static str> {
        const STATES: [&str; 7] = ["wanted", "loading", "loaded", "backing-off", "refused", "draining", "unloading"];
        STATES.into_iter().find(|state| *state == name)
    }

    /// Worst first.
    pub(super) fn badness(&self) -> u8 {
        match self.state {
            "refused" => 0,
            "backing-off" => 1,
            "unloading" => 2,
            "draining" => 3,
            "loading" => 4,
            "wanted" => 5,
            _ => 6,
        }
    }
}

impl Reconciler {
    /// Every engine that the adapter concerns, and how it stands there.
    pub(super) fn standings(&self, key: &AdapterKey) -> Vec<(EngineId, Standing)> {
        let Some(adapter) = self.adapters.get(key) else { return Vec::new() };
        let concerned = adapter.assigned.iter().chain(&adapter.surplus).chain(adapter.replicas.keys());
        let mut ids: Vec<&EngineId> = concerned.collect();
        ids.sort();
        ids.dedup();
        let mut standings: Vec<_> =
            ids.into_iter().filter_map(|id| Some((id.clone(), self.standing(key, id)?))).collect();
        standings.sort_by_key(|(id, standing)| (standing.badness(), id.clone()));
        standings
    }

    fn standing(&self, key: &AdapterKey, id: &EngineId) -> Option<Standing> {
        let (adapter, engine) = (self.adapters.get(key)?, self.engines.get(id)?);
        let replica = adapter.replicas.get(id);
        let attempt = replica.map_or(0, |replica| replica.failures);
        if let Some(leaving) = engine.leaving.get(&key.name) {
            let state =
                if matches!(leaving.step, Step::Unloading | Step::Unload { .. }) { "unloading" } else { "draining" };
            let fault = leaving.fault.as_ref();
            return Some(Standing {
                state,
                attempt: leaving.failures,
                reason: fault.map_or("", |fault| fault.reason),
                message: fault.map(|fault| fault.message.clone()).unwrap_or_default(),
            });
        }
        if let Some(op) = engine.loading.as_ref().filter(|op| op.adapter == *key) {
            let mut standing = Standing::plain("loading", attempt + 1);
            if op.unknown {
                standing.reason = "LoadTimeout";
                standing.message = format!("{id} has not answered in time; waiting for it to list the adapter");
            }
            return Some(standing);
        }
        if let Some((reason, message)) = self.blocked(key, id) {
            return Some(Standing { state: "refused", attempt, reason, message });
        }
        if engine.residents.get(key.name.as_str()).is_some_and(|root| adapter.may_serve(id, root)) {
            let mut standing = Standing::plain("loaded", 0);
            if let Some((reason, message)) = engine.reason().filter(|_| !engine.is_usable()) {
                (standing.reason, standing.message) = (reason, message);
            }
            return Some(standing);
        }
        let hold = replica.and_then(|replica| replica.hold.as_ref());
        if let Some(hold) = hold {
            let state = if matches!(hold, Hold::BackingOff { .. }) { "backing-off" } else { "refused" };
            let fault = hold.fault();
            return Some(Standing { state, attempt, reason: fault.reason, message: fault.message.clone() });
        }
        let mut standing = Standing::plain("wanted", attempt);
        if !engine.is_usable()
            && let Some((reason, message)) = engine.reason()
        {
            (standing.reason, standing.message) = (reason, message);
        }
        Some(standing)
    }

    /// The adapter as the fleet API shows it; nothing while it is being deleted, or while another object has its name.
    pub fn adapter(&self, key: &AdapterKey) -> Option<fleet::Adapter> {
        let adapter = self.adapters.get(key)?;
        if adapter.deleting || !self.has_its_name(key) {
            return None;
        }
        let shown = self.objects.get(&key.object)?;
        let picture = Picture::new(self, key)?;
        let (phase, desired) = (picture.phase(), picture.desired());
        // What runs and is not what the spec asks for is said too, or a change that failed would look like one that did not.
        let (reason, message) = match (&adapter.update_failed, phase) {
            (Some(fault), Phase::Running) => ("UpdateFailed", format!("the version before is served: {fault}")),
            (None, Phase::Running) => ("", String::new()),
            _ => picture.why_unready(),
        };
        let resolved = adapter.target.as_ref().map(|target| &target.resolved);
        let route = adapter.route.as_ref();
        let base = route.and_then(|route| route.endpoints.first()).and_then(|endpoint| endpoint.base_model.as_ref());
        let on_engine = |id: &EngineId| self.engines.get(id)?.residents.get(key.name.as_str())?.digest();
        let engines = picture.standings.into_iter().map(|(id, standing)| {
            let since = adapter.shown.get(&id).map_or_else(String::new, |(_, since)| since.to_string());
            fleet::AdapterEngine {
                engine: id.to_string(),
                state: standing.state.to_owned(),
                attempt: standing.attempt,
                reason: standing.reason.to_owned(),
                message: standing.message,
                since,
                digest: on_engine(&id).or_else(|| resolved?.digest()).map(|digest| digest.to_string()),
            }
        });
        Some(fleet::Adapter {
            namespace: key.namespace().to_string(),
            name: key.name.to_string(),
            kind: key.object.kind.to_string(),
            object: key.object.name.to_string(),
            base_model: base.or(adapter.spec.base_model.as_ref()).map(ToString::to_string),
            artifact_url: adapter.spec.artifact.to_string(),
            digest: resolved.and_then(|resolved| resolved.digest()).map(|digest| digest.to_string()),
            bytes: resolved.and_then(|resolved| resolved.bytes),
            rank: resolved.and_then(|resolved| resolved.rank),
            phase: phase.to_string(),
            reason: reason.to_owned(),
            message,
            priority: adapter.spec.priority,
            desired_replicas: u32::try_from(desired).unwrap_or(u32::MAX),
            ready_replicas: u32::try_from(self.ready_endpoints(key).len()).unwrap_or(u32::MAX),
            generation: shown.generation,
            engines: engines.collect(),
            endpoints: route.map(|route| route.endpoints.iter().map(placement).collect()).unwrap_or_default(),
            swapping: route.is_some_and(|route| route.swapping),
            // Whoever fetches can say.
            fetching: None,
        })
    }

    /// The engine as the fleet API shows it.
    pub fn engine(&self, id: &EngineId) -> Option<fleet::Engine> {
        let engine = self.engines.get(id)?;
        let seen = &engine.seen;
        let why = if engine.is_usable() { None } else { engine.reason() };
        let (reason, message) = why.unwrap_or(("", String::new()));
        let resident = engine.residents.iter().map(|(name, root)| {
            let owner = AdapterName::new(name).ok().and_then(|name| self.owner_of(&id.namespace, &name).cloned());
            let ours = owner
                .and_then(|owner| self.adapters.get(&owner))
                .map_or_else(|| root.digest().is_some(), |adapter| adapter.is_ours(id, root));
            fleet::Resident { name: name.to_string(), digest: root.digest().map(|digest| digest.to_string()), ours }
        });
        Some(fleet::Engine {
            engine: id.to_string(),
            namespace: id.namespace.to_string(),
            url: format!("http://{}", seen.address.authority()),
            kind: seen.kind.to_string(),
            base_model: engine.base_models.first().map(ToString::to_string),
            ready: engine.is_usable(),
            reason: reason.to_owned(),
            message,
            boot: engine.boot.as_ref().map(ToString::to_string),
            labels: seen.labels.clone(),
            max_loras: seen.max_loras.or(engine.signals.max_loras),
            max_cpu_loras: seen.max_cpu_loras,
            max_lora_rank: seen.max_lora_rank,
            resident: resident.collect(),
            load: fleet::Load {
                running: engine.signals.running,
                waiting: engine.signals.waiting,
                deferred: engine.signals.deferred,
                kv_usage: engine.signals.kv_usage,
            },
        })
    }

    /// Every declared adapter, by key.
    pub fn adapters(&self) -> impl Iterator<Item = &AdapterKey> {
        self.adapters.keys()
    }

    /// Whether the engine has, or is about to have, to do with anything of ours: one that no object selects any more must
    /// be told of until it has not.
    pub fn is_involved(&self, id: &EngineId) -> bool {
        let Some(engine) = self.engines.get(id) else { return self.unfinished.contains_key(id) };
        let ours = |(name, root): (&std::sync::Arc<str>, &longshore_types::Root)| {
            let owner = AdapterName::new(name).ok().and_then(|name| self.owner_of(&id.namespace, &name).cloned());
            let adapter = owner.and_then(|owner| self.adapters.get(&owner));
            adapter.map_or_else(|| root.digest().is_some(), |adapter| adapter.is_ours(id, root))
        };
        engine.loading.is_some()
            || !engine.leaving.is_empty()
            || !engine.leftovers.is_empty()
            || !engine.suspected.is_empty()
            || self.unfinished.contains_key(id)
            || engine.residents.iter().any(ours)
    }

    /// Every engine, by id.
    pub fn engines(&self) -> impl Iterator<Item = &EngineId> {
        self.engines.keys()
    }

    /// Notes since when the adapter has stood on each engine as it does now.
    pub(super) fn note_standings(&mut self, now: Timestamp, key: &AdapterKey, standings: &[(EngineId, Standing)]) {
        let Some(adapter) = self.adapters.get_mut(key) else { return };
        let before = std::mem::take(&mut adapter.shown);
        for (id, standing) in standings {
            let same = before.get(id).filter(|(state, _)| *state == standing.state);
            let since = same.map_or_else(|| now.to_string().into(), |(_, since)| since.clone());
            adapter.shown.insert(id.clone(), (standing.state, since));
        }
    }
}

fn placement(endpoint: &Endpoint) -> fleet::Placement {
    fleet::Placement {
        pod: endpoint.engine.to_string(),
        namespace: endpoint.engine.namespace.to_string(),
        address: endpoint.address.host.to_string(),
        port: endpoint.address.port,
        node: endpoint.address.node.as_ref().map(ToString::to_string),
        zone: endpoint.address.zone.as_ref().map(ToString::to_string),
        boot: endpoint.boot.to_string(),
        digest: endpoint.digest.map(|digest| digest.to_string()),
        state: "loaded".to_owned(),
    }
}
