//! What status says of an adapter: phase, counts and conditions, read off the state (I9).

use longshore_api::spec::Replicas;
use longshore_api::status::{ArtifactStatus, Condition, EngineStatus, ModelAdapterStatus, Phase};
use longshore_scheduler::{Class, Reason};
use longshore_types::{AdapterKey, EngineId, Scheme};

use super::Reconciler;
use super::objects::Object;
use super::placement::shortened;
use super::view::Standing;
use crate::adapter::{Adapter, Hold};

/// Engines that status shows, the worst first; a thousand would make the object too large to be pleasant.
const SHOWN_ENGINES: usize = 16;
/// Why requests are not answered, where nothing more is to be said in one word.
const UNAVAILABLE: &str = "ModelAdapterUnavailable";

/// Said of a repository that is handed to engines as it is. No event: it is so for as long as the object is as it is.
const ENGINE_DOWNLOADS: &str = "; each engine downloads it by itself, inside its own loop, so that its requests wait \
                                meanwhile: the longshore-sidecar container in its pod would fetch it beside";

/// How an adapter stands, gathered once for everything that is shown of it.
pub(super) struct Picture<'a> {
    brain: &'a Reconciler,
    key: &'a AdapterKey,
    adapter: &'a Adapter,
    object: &'a Object,
    pub(super) standings: Vec<(EngineId, Standing)>,
    /// Engines that routers have been given.
    ready: usize,
    /// Engines that answer requests for it, whether or not routers know.
    serving: Vec<EngineId>,
}

impl<'a> Picture<'a> {
    pub(super) fn new(brain: &'a Reconciler, key: &'a AdapterKey) -> Option<Self> {
        Self::with(brain, key, brain.standings(key))
    }

    pub(super) fn with(
        brain: &'a Reconciler,
        key: &'a AdapterKey,
        standings: Vec<(EngineId, Standing)>,
    ) -> Option<Self> {
        let (adapter, object) = (brain.adapters.get(key)?, brain.objects.get(&key.object)?);
        let loaded = standings.iter().filter(|(_, standing)| standing.state == "loaded");
        let serving = loaded.map(|(id, _)| id).filter(|id| brain.serves(key, id)).cloned().collect();
        let ready = brain.ready_endpoints(key).len();
        Some(Self { brain, key, adapter, object, standings, ready, serving })
    }

    fn in_state(&self, state: &'static str) -> impl ExactSizeIterator<Item = &EngineId> {
        let ids: Vec<_> = self.standings.iter().filter(|(_, s)| s.state == state).map(|(id, _)| id).collect();
        ids.into_iter()
    }

    /// The first of the engines in this state, and how it stands there.
    fn first_in(&self, states: &[&str]) -> Option<&(EngineId, Standing)> {
        self.standings.iter().find(|(_, standing)| states.contains(&standing.state))
    }

    pub(super) fn phase(&self) -> Phase {
        let adapter = self.adapter;
        let wins = self.brain.has_its_name(self.key);
        let refused = self.first_in(&["refused"]).is_some();
        // Where others are still to be found, refusals are not the end.
        let all_refused = refused
            && self.standings.iter().all(|(_, standing)| standing.state == "refused")
            && (adapter.assigned.is_empty() || self.missing() == 0);
        let tried = self.first_in(&["loading", "backing-off", "draining"]).is_some();
        let can_load = || adapter.assigned.iter().any(|id| self.brain.engines.get(id).is_some_and(|e| e.is_usable()));
        if self.ready > 0 {
            Phase::Running
        } else if !self.serving.is_empty() && wins {
            Phase::Bound
        } else if !wins
            || adapter.trouble.is_some()
            || self.object.refused.is_some()
            || all_refused
            || self.is_blocked()
        {
            Phase::Failed
        } else if adapter.assigned.is_empty() {
            Phase::Pending
        } else if tried || refused || can_load() {
            Phase::Loading
        } else {
            Phase::Scheduled
        }
    }

    /// Replicas that found no engine.
    fn missing(&self) -> usize {
        self.adapter.unplaced.as_ref().map_or(0, |unplaced| unplaced.missing as usize)
    }

    pub(super) fn desired(&self) -> usize {
        match self.adapter.spec.replicas {
            Replicas::All => self.adapter.assigned.len() + self.missing(),
            Replicas::Count(count) => usize::try_from(count).unwrap_or(usize::MAX),
        }
    }

    pub(super) fn status(&self) -> ModelAdapterStatus {
        let adapter = self.adapter;
        let phase = self.phase();
        let mut status = ModelAdapterStatus {
            phase,
            candidates: i32::try_from(adapter.candidates).unwrap_or(i32::MAX),
            desired_replicas: i32::try_from(self.desired()).unwrap_or(i32::MAX),
            ready_replicas: i32::try_from(self.ready).unwrap_or(i32::MAX),
            instances: self.serving.iter().map(ToString::to_string).collect(),
            conditions: Vec::new(),
            observed_generation: Some(self.object.generation),
            artifact: self.artifact(),
            engines: self.engines(),
        };
        let seen_to = phase != Phase::Pending || adapter.unplaced.is_some();
        let initialized = if seen_to { "True" } else { "Unknown" };
        set(&mut status, "Initialized", initialized, "ModelAdapterPending", "Starting reconciliation".to_owned());
        self.set_scheduled(&mut status);
        if !adapter.assigned.is_empty() {
            self.set_loading(&mut status);
            self.set_bound(&mut status);
        }
        self.set_resource_created(&mut status);
        if phase == Phase::Running {
            set(&mut status, "Ready", "True", "ModelAdapterAvailable", format!("{} is ready", self.name()));
        } else {
            let (reason, message) = self.why_unready();
            set(&mut status, "Ready", "False", reason, message);
        }
        self.set_up_to_date(&mut status);
        status
    }

    fn name(&self) -> String {
        format!("{} {}", self.key.object.kind, self.key.object)
    }

    fn artifact(&self) -> Option<ArtifactStatus> {
        let roots = self.adapter.roots().iter().map(ToString::to_string).collect();
        let Some(target) = &self.adapter.target else {
            // What engines hold from a time before is ours whether or not the source can be asked now.
            return Some(ArtifactStatus { roots, ..ArtifactStatus::default() }).filter(|known| !known.roots.is_empty());
        };
        let resolved = &target.resolved;
        Some(ArtifactStatus {
            digest: resolved.digest().map(|digest| digest.to_string()),
            bytes: resolved.bytes.map(|bytes| i64::try_from(bytes).unwrap_or(i64::MAX)),
            rank: resolved.rank.map(|rank| i32::try_from(rank).unwrap_or(i32::MAX)),
            roots,
        })
    }

    fn engines(&self) -> Vec<EngineStatus> {
        let shown = self.standings.iter().take(SHOWN_ENGINES).map(|(id, standing)| EngineStatus {
            pod: id.to_string(),
            state: standing.state.to_owned(),
            attempt: i32::try_from(standing.attempt).unwrap_or(i32::MAX),
            reason: Some(standing.reason.to_owned()).filter(|reason| !reason.is_empty()),
            since: self.adapter.shown.get(id).map_or_else(String::new, |(_, since)| since.to_string()),
        });
        shown.collect()
    }

    fn set_scheduled(&self, status: &mut ModelAdapterStatus) {
        let assigned = &self.adapter.assigned;
        if assigned.is_empty() {
            if let Some((reason, message)) = self.why_unscheduled() {
                set(status, "Scheduled", "False", reason, message);
            }
            return;
        }
        let (count, chosen) = (assigned.len(), shortened(assigned.iter()));
        let mut message = format!("{} has selected {count} pods for scheduling: [{chosen}]", self.name());
        if let Some(reason) = self.unknown_policy() {
            message = format!("{message}; it stays there: {reason}");
        } else if let Some(unplaced) = self.adapter.unplaced.as_ref().filter(|unplaced| unplaced.missing > 0) {
            message = format!("{message}; {} more wanted: {unplaced}", unplaced.missing);
        }
        set(status, "Scheduled", "True", "Scheduled", message);
    }

    fn set_loading(&self, status: &mut ModelAdapterStatus) {
        if let Some(message) = self.being_loaded() {
            set(status, "Loading", "True", "Loading", message);
        } else if !self.serving.is_empty() {
            set(status, "Loading", "False", "Loaded", "nothing is being loaded".to_owned());
        }
    }

    /// What is being fetched or loaded now.
    fn being_loaded(&self) -> Option<String> {
        if self.adapter.target.is_none() {
            return Some("fetching and checking the artifact".to_owned());
        }
        let loading = self.in_state("loading");
        (loading.len() > 0).then(|| format!("loading on {}", shortened(loading)))
    }

    fn set_bound(&self, status: &mut ModelAdapterStatus) {
        if !self.serving.is_empty() {
            let on = shortened(self.serving.iter());
            set(status, "Bound", "True", "Loaded", format!("loaded on {on}"));
        } else if let Some((id, standing)) = self.first_in(&["refused", "backing-off"]) {
            set(status, "Bound", "False", "LoadFailed", format!("{id}: {}", standing.message));
        }
    }

    fn set_resource_created(&self, status: &mut ModelAdapterStatus) {
        let publish_fault = self.adapter.publish_fault.as_ref().map(|(_, fault)| fault);
        // The endpoints may be out all the same: Ready follows them.
        if let Some(fault) = publish_fault.or(self.adapter.notice.1.as_ref()) {
            set(status, "ResourceCreated", "False", fault.reason, fault.message.clone());
        } else if self.ready > 0 {
            let message = format!("endpoints of {} engines are published", self.ready);
            set(status, "ResourceCreated", "True", "ServiceCreated", message);
        }
    }

    fn why_unscheduled(&self) -> Option<(&'static str, String)> {
        let adapter = self.adapter;
        if let Some(unplaced) = adapter.unplaced.as_ref().filter(|_| !adapter.matching.is_empty()) {
            let mut classes = unplaced.reasons.keys().map(Reason::class);
            // One word where every engine is refused for the same kind of reason.
            let first = classes.next();
            let reason = match first.filter(|first| classes.all(|class| class == *first)) {
                Some(Class::NotReady) => "PodsNotReady",
                Some(Class::NoCapacity) => "NoCapacity",
                _ => "Unschedulable",
            };
            return Some((reason, unplaced.to_string()));
        }
        if adapter.matching.is_empty() && self.brain.synced {
            let namespace = self.key.namespace();
            let engines = self.brain.engines_of(namespace).count();
            // Outside a cluster an engine has its label only once it has said which base model it serves.
            let unheard = self.brain.engines_of(namespace).filter(|id| self.brain.is_silent(id)).count();
            if unheard > 0 {
                let message = format!(
                    "no engine matches spec.podSelector; {unheard} of {engines} in namespace {namespace} have not said yet \
                     which base model they serve"
                );
                return Some(("PodsNotReady", message));
            }
            let message = format!(
                "no engine matches spec.podSelector; {engines} known in namespace {namespace}: compare its labels with \
                 theirs"
            );
            return Some(("NoMatchingPods", message));
        }
        None
    }

    /// That the spec names a policy that there is not.
    fn unknown_policy(&self) -> Option<&Reason> {
        let mut reasons = self.adapter.unplaced.iter().flat_map(|unplaced| unplaced.reasons.keys());
        reasons.find(|reason| matches!(reason, Reason::UnknownPolicy { .. }))
    }

    /// What is wrong with the declaration as it stands, so that time alone will not help: what an event should say. Loads
    /// that fail have events of their own.
    pub(super) fn complaint(&self) -> Option<(&'static str, String)> {
        let (key, adapter) = (self.key, self.adapter);
        if !self.brain.has_its_name(key) || self.object.refused.is_some() {
            return Some(self.why_unready());
        }
        if let Some(reason) = self.unknown_policy() {
            return Some(("Unschedulable", reason.to_string()));
        }
        let wanted = adapter.spec.replicas != Replicas::Count(0);
        if adapter.trouble.is_some() || !wanted {
            return None;
        }
        if !adapter.assigned.is_empty() {
            // Only where something else has the name on each of them: it may have been found after the choice.
            let each: Option<Vec<_>> = adapter.assigned.iter().map(|id| self.blocked(id)).collect();
            return each?.into_iter().next();
        }
        let blocked = adapter.matching.iter().find_map(|id| self.blocked(id));
        blocked.or_else(|| self.why_unscheduled().filter(|(reason, _)| *reason != "PodsNotReady"))
    }

    /// Whether its name stands for something else on every engine that matches.
    fn is_blocked(&self) -> bool {
        let matching = &self.adapter.matching;
        !matching.is_empty() && matching.iter().all(|id| self.brain.blocked(self.key, id).is_some())
    }

    /// What stands in the way on this engine, with its name.
    fn blocked(&self, id: &EngineId) -> Option<(&'static str, String)> {
        let (reason, message) = self.brain.blocked(self.key, id)?;
        Some((reason, format!("{id}: {message}")))
    }

    /// What one of the engines that match has against the adapter.
    fn refusal(&self) -> Option<(&'static str, String)> {
        self.adapter.matching.iter().find_map(|id| {
            self.blocked(id).or_else(|| match self.adapter.replicas.get(id)?.hold.as_ref()? {
                Hold::Refused { fault, .. } => Some((fault.reason, format!("{id}: {fault}"))),
                Hold::BackingOff { .. } | Hold::CoolingDown { .. } => None,
            })
        })
    }

    /// Why requests are not answered: the first cause on the way from the object to the engine.
    pub(super) fn why_unready(&self) -> (&'static str, String) {
        let (key, adapter) = (self.key, self.adapter);
        if let Some(owner) = self.brain.owner_of(key.namespace(), &key.name).filter(|owner| *owner != key) {
            let message = format!("{} of {} already has the name {}", owner.object.kind, owner.object, key.name);
            return ("NameConflict", message);
        }
        let trouble = adapter.trouble.as_ref().map(|trouble| &trouble.fault);
        if let Some(fault) = self.object.refused.as_ref().or(trouble) {
            return (fault.reason, fault.message.clone());
        }
        if adapter.spec.replicas == Replicas::Count(0) {
            return (UNAVAILABLE, "spec.replicas is 0".to_owned());
        }
        if adapter.assigned.is_empty() {
            let why = self.refusal().or_else(|| self.why_unscheduled());
            return why.unwrap_or_else(|| (UNAVAILABLE, "waiting to be placed".to_owned()));
        }
        if let Some((id, standing)) = self.standings.iter().find(|(_, standing)| !standing.reason.is_empty()) {
            let reason = if standing.state == "refused" { standing.reason } else { UNAVAILABLE };
            return (reason, format!("{id}: {}", standing.message));
        }
        (UNAVAILABLE, self.being_loaded().unwrap_or_else(|| "waiting for its turn to load".to_owned()))
    }

    fn set_up_to_date(&self, status: &mut ModelAdapterStatus) {
        let adapter = self.adapter;
        if let Some(fault) = &adapter.update_failed {
            let message = format!("the version before is served: {fault}");
            return set(status, "UpToDate", "False", "UpdateFailed", message);
        }
        let Some(target) = &adapter.target else { return };
        let holds_target = |id: &&EngineId| {
            let root = self.brain.engines.get(id).and_then(|engine| engine.residents.get(self.key.name.as_str()));
            self.brain.serves(self.key, id) && root == adapter.root()
        };
        let (current, desired) = (adapter.assigned.iter().filter(holds_target).count(), self.desired());
        let asked_for = target.generation == Some(adapter.spec.generation);
        let mut odd: String = target.resolved.warnings.iter().map(|(_, message)| format!("; {message}")).collect();
        if adapter.spec.artifact.scheme() == Scheme::HuggingFace && target.resolved.digest().is_none() {
            odd.push_str(ENGINE_DOWNLOADS);
        }
        let count = format!("{current} of {desired} replicas hold what the spec asks for{odd}");
        if !asked_for || current < desired || self.ready < desired || desired == 0 {
            set(status, "UpToDate", "False", "Progressing", count);
        } else if target.resolved.digest().is_none() {
            let message = "the bytes cannot be seen from here: only the reference is known to be the one asked for";
            set(status, "UpToDate", "Unknown", "Unverified", format!("{message}{odd}"));
        } else {
            set(status, "UpToDate", "True", "AllReplicas", count);
        }
    }
}

/// Adds a condition. Its transition time is filled in when it is compared with what is shown.
pub(super) fn set(status: &mut ModelAdapterStatus, type_: &str, value: &str, reason: &str, message: String) {
    status.conditions.push(Condition {
        type_: type_.to_owned(),
        status: value.to_owned(),
        reason: reason.to_owned(),
        message,
        last_transition_time: String::new(),
        observed_generation: status.observed_generation,
    });
}
