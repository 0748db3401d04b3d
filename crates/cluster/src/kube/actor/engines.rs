//! The pods, and those of them that are engines.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1::Node;
use kube::Api;
use longshore_api::spec::EngineSelector;
use longshore_reconciler::{Fact, Listing, Unfinished};
use longshore_types::{Address, EngineId, EngineKind, Fault, Namespace};
use tokio::time::Instant;

use super::super::connect::{NamespaceKeys, NoStore};
use super::super::objects::note::NoteEntry;
use super::super::pods::{KeySource, PodFacts};
use super::super::watch::Change;
use super::note::unfinished;
use super::{Actor, Brain, Input, Kind, Known};
use crate::link::{Link, NoRouter};
use crate::owed::Owed;

/// How long the zone of a node is taken for what it was. It never changes while the node lives; this is for one that
/// could not be read.
const ZONE_AGE: std::time::Duration = std::time::Duration::from_secs(600);

/// The label of a node with its zone.
const ZONE: &str = "topology.kubernetes.io/zone";

/// Every pod, and what is known of those that are engines.
#[derive(Default)]
pub(super) struct Engines {
    pods: Known<EngineId, Arc<PodFacts>>,
    known: Known<EngineId, Engine>,
    /// Pods that are looked after although nobody selects them: they may hold something of ours.
    kept: BTreeSet<EngineId>,
    zones: Known<Arc<str>, Zone>,
}

enum Zone {
    /// It is being asked for; these wait.
    Asked(BTreeSet<EngineId>),
    Known(Option<Arc<str>>, Instant),
}

/// A pod that is looked after.
struct Engine {
    facts: Arc<PodFacts>,
    zone: Option<Arc<str>>,
    kind: EngineKind,
    address: Address,
    link: Link,
    /// Whether it has answered, or failed to, since it is known.
    heard: bool,
    /// Whether it has said what it holds.
    answered: bool,
}

impl Engines {
    pub(super) fn has(&self, id: &EngineId) -> bool {
        self.known.contains_key(id)
    }

    pub(super) fn link(&self, id: &EngineId) -> Option<Link> {
        self.known.get(id).map(|engine| engine.link.clone())
    }

    pub(super) fn facts(&self, id: &EngineId) -> Option<&Arc<PodFacts>> {
        self.known.get(id).map(|engine| &engine.facts)
    }

    /// What speaks at which address.
    pub(super) fn address(&self, id: &EngineId) -> Option<(EngineKind, Address)> {
        self.known.get(id).map(|engine| (engine.kind, engine.address.clone()))
    }

    /// Each engine, and where its key is.
    pub(super) fn keys(&self) -> impl Iterator<Item = (&EngineId, &KeySource)> {
        self.known.iter().filter_map(|(id, engine)| Some((id, &engine.facts.engine.as_ref()?.api_key)))
    }

    pub(super) fn any_heard(&self) -> bool {
        self.known.values().any(|engine| engine.heard)
    }

    /// Whether every engine that could answer has been heard of.
    pub(super) fn all_heard(&self) -> bool {
        self.known.values().all(|engine| engine.heard || !engine.facts.ready)
    }

    pub(super) fn waits_for_zones(&self) -> bool {
        self.zones.values().any(|zone| matches!(zone, Zone::Asked(waiting) if !waiting.is_empty()))
    }
}

impl<B: Brain> Actor<B> {
    pub(super) fn pod_changed(&mut self, number: usize, change: Change<Box<PodFacts>>) {
        match change {
            Change::Put(facts) => {
                let id = facts.id.clone();
                if self.engines.pods.get(&id).is_some_and(|before| **before == *facts) {
                    return;
                }
                self.engines.pods.insert(id.clone(), Arc::new(*facts));
                self.look_at_pod(&id);
            }
            Change::Broken { namespace, name, error } => {
                tracing::warn!(
                    pod = format!("{namespace}/{name}"),
                    error,
                    "a pod cannot be read, and is left as it was"
                );
            }
            Change::Gone { namespace, name, uid } => {
                let Ok(namespace) = Namespace::new(&namespace) else { return };
                let id = EngineId::new(namespace, &name);
                let same = |facts: &Arc<PodFacts>| uid.as_ref().is_none_or(|uid| **uid == *facts.uid);
                if self.engines.pods.get(&id).is_some_and(same) {
                    self.engines.pods.remove(&id);
                    self.engines.kept.remove(&id);
                    self.drop_engine(&id);
                }
            }
            Change::Listed => self.listed_all(Kind::Pods, number),
        }
    }

    /// These selectors of the namespace have come or gone.
    pub(super) fn look_at_pods(&mut self, namespace: &Namespace, selectors: &[EngineSelector]) {
        let from = EngineId::new(namespace.clone(), "");
        let pods = self.engines.pods.range(from..).take_while(|(id, _)| id.namespace == *namespace);
        let concerned = |facts: &PodFacts| {
            facts.enabled.is_none() && selectors.iter().any(|selector| selector.matches(&facts.labels))
        };
        let pods: Vec<_> = pods.filter(|(_, facts)| concerned(facts)).map(|(id, _)| id.clone()).collect();
        for pod in pods {
            self.look_at_pod(&pod);
        }
    }

    /// Looks after a pod that may hold something of ours, whether or not anybody selects it. Before all pods are listed it
    /// may be one that is still to be shown.
    pub(super) fn keep_engine(&mut self, id: EngineId) {
        if self.engines.pods.contains_key(&id) || self.listed_at.is_none() {
            self.engines.kept.insert(id.clone());
            self.look_at_pod(&id);
        }
    }

    /// Every pod has been shown: those to be looked after that were not are no more.
    pub(super) fn forget_lost_pods(&mut self) {
        let Engines { pods, kept, .. } = &mut self.engines;
        kept.retain(|id| pods.contains_key(id));
    }

    /// Whether the pod is an engine, and what kind of one.
    fn look_at_pod(&mut self, id: &EngineId) {
        let Some(facts) = self.engines.pods.get(id).cloned() else { return };
        let selected = match facts.enabled {
            Some(enabled) => enabled,
            None => self.objects.select(&id.namespace, &facts.labels),
        };
        if self.engines.known.get(id).is_some_and(|engine| engine.facts.uid != facts.uid) {
            // Another pod of the same name.
            self.drop_engine(id);
        }
        if !selected && !self.engines.kept.contains(id) {
            if !self.engines.has(id) {
                return;
            }
            // It may hold what somebody who selected it has loaded: kept until it has let go.
            self.engines.kept.insert(id.clone());
        }
        if selected {
            self.engines.kept.remove(id);
        }
        if facts.finished {
            return self.drop_engine(id);
        }
        let Some(zone) = self.zone_of(id, &facts) else { return };
        self.engine_seen(id, facts, zone);
        self.let_go(id);
    }

    fn engine_seen(&mut self, id: &EngineId, facts: Arc<PodFacts>, zone: Option<Arc<str>>) {
        let now = self.now();
        let Some(seen) = facts.seen(now, zone.clone()) else {
            // It has no address yet, or none any more.
            return self.drop_engine(id);
        };
        let boot = seen.boot.clone();
        match self.engines.known.get_mut(id) {
            Some(engine) if engine.facts == facts && engine.zone == zone => return,
            Some(engine) => {
                if engine.facts.access() != facts.access() {
                    engine.link = link(&self.shared, id, &facts);
                }
                (engine.facts, engine.zone) = (facts, zone);
                (engine.kind, engine.address) = (seen.kind, seen.address.clone());
                engine.link.tell(boot);
            }
            None => {
                for problem in &facts.problems {
                    tracing::warn!(pod = format!("{id:?}"), problem, "a setting of the pod is not understood");
                }
                let link = link(&self.shared, id, &facts);
                link.tell(boot);
                let (kind, address) = (seen.kind, seen.address.clone());
                let engine = Engine { facts, zone, kind, address, link, heard: false, answered: false };
                self.engines.known.insert(id.clone(), engine);
            }
        }
        self.secrets_changed = true;
        self.observe(Fact::Engine(Box::new(seen)));
    }

    fn drop_engine(&mut self, id: &EngineId) {
        if self.engines.known.remove(id).is_some() {
            self.secrets_changed = true;
            self.observe(Fact::EngineGone(id.clone()));
        }
    }

    /// Forgets an engine that nobody selects any more and that holds nothing of ours. One that has not said yet what it
    /// holds may hold anything.
    pub(super) fn let_go(&mut self, id: &EngineId) {
        if !self.engines.kept.contains(id) || self.listed_at.is_none() {
            return;
        }
        let answered = self.engines.known.get(id).is_some_and(|engine| engine.answered);
        if answered && !self.brain.is_involved(id) {
            self.engines.kept.remove(id);
            self.drop_engine(id);
        }
    }

    /// The zone of the pod's node, or `None` while it is being asked for. A pod that is looked after already does not wait:
    /// what is news of it may be that it is not Ready any more.
    fn zone_of(&mut self, id: &EngineId, facts: &PodFacts) -> Option<Option<Arc<str>>> {
        let Some(node) = facts.node.as_ref().filter(|_| facts.zone.is_none()) else { return Some(facts.zone.clone()) };
        if !self.shared.sees_nodes {
            return Some(None);
        }
        let before = self.engines.known.get(id).map(|engine| engine.zone.clone());
        match self.engines.zones.get_mut(node) {
            Some(Zone::Known(zone, at)) if zone.is_some() || at.elapsed() < ZONE_AGE => return Some(zone.clone()),
            Some(Zone::Asked(waiting)) => {
                waiting.insert(id.clone());
                return before;
            }
            _ => {}
        }
        self.engines.zones.insert(node.clone(), Zone::Asked([id.clone()].into()));
        let (calls, node) = (self.shared.calls.clone(), node.clone());
        let unknown = Owed::new(self.shared.inbox.clone(), Input::Zone(node.clone(), None));
        self.tasks.spawn(async move {
            let nodes: Api<Node> = Api::all(calls.client());
            match calls.once(nodes.get_metadata_opt(&node)).await {
                Ok(found) => {
                    let zone = found.and_then(|node| node.metadata.labels?.get(ZONE).map(|zone| zone.as_str().into()));
                    unknown.answer(Input::Zone(node, zone));
                }
                Err(error) => tracing::warn!(node = &*node, %error, "cannot tell the zone of a node"),
            }
        });
        before
    }

    pub(super) fn zone_known(&mut self, node: Arc<str>, zone: Option<Arc<str>>) {
        let before = self.engines.zones.insert(node, Zone::Known(zone, Instant::now()));
        if let Some(Zone::Asked(waiting)) = before {
            for id in waiting {
                self.look_at_pod(&id);
            }
        }
    }

    pub(super) fn listed(&mut self, id: EngineId, result: Result<Listing, Fault>) {
        if let Some(engine) = self.engines.known.get_mut(&id) {
            engine.heard = true;
            engine.answered |= result.is_ok();
        }
        self.observe(Fact::Listed { engine: id.clone(), result });
        self.let_go(&id);
    }

    /// What earlier processes have left undone: its engines are looked after for as long as they exist.
    pub(super) fn note_read(&mut self, entries: Vec<NoteEntry>) {
        let entries: Vec<Unfinished> = entries.into_iter().map(unfinished).collect();
        for entry in &entries {
            self.keep_engine(entry.engine.clone());
        }
        self.observe(Fact::Unfinished(entries));
        self.listed_all(Kind::Note, 0);
    }

    /// The uid of each engine's pod.
    pub(super) fn uids<'a>(&self, ids: impl IntoIterator<Item = &'a EngineId>) -> BTreeMap<EngineId, Arc<str>> {
        let uid = |id: &EngineId| Some((id.clone(), self.engines.facts(id)?.uid.clone()));
        ids.into_iter().filter_map(uid).collect()
    }
}

fn link(shared: &super::Shared, id: &EngineId, facts: &PodFacts) -> Link {
    let engine = shared.connect.connect(id, facts.access().as_ref());
    let keys = Arc::new(NamespaceKeys { namespace: id.namespace.clone(), secrets: shared.secrets.clone() });
    Link::new(id.clone(), engine, Arc::new(NoStore), keys, Arc::new(NoRouter))
}
