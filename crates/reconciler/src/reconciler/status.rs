//! Status, derived from the state and never kept beside it (I9). What is kept is what was written last.

use longshore_api::spec::Replicas;
use longshore_api::status::{ArtifactStatus, Condition, EngineStatus, ModelAdapterStatus, Phase};
use longshore_types::{AdapterKey, EngineId, ObjectKey, Timestamp};

use super::placement::shortened;
use super::resolve::Gate;
use super::{Reconciler, Wake};
use crate::adapter::Hold;
use crate::{Effect, StatusWrite};

/// Engines that status shows, the worst first; a thousand would make the object too large to be pleasant.
const SHOWN_ENGINES: usize = 16;
/// The way up. `Failed` is beside it.
const WAY_UP: [Phase; 5] = [Phase::Pending, Phase::Scheduled, Phase::Loading, Phase::Bound, Phase::Running];

impl Reconciler {
    pub(super) fn step_object(&mut self, now: Timestamp, key: &ObjectKey) {
        self.say_unsaid(now, key);
        if self.release_object(key) {
            return;
        }
        let Some(object) = self.objects.get(key) else { return };
        if object.deleting.is_some() {
            return;
        }
        let Some(adapter) = object.adapters.first().cloned() else {
            self.show_refusal(now, key);
            return;
        };
        self.note_standings(now, &adapter);
        let Some((phase, status)) = self.present(&adapter) else { return };
        // On the way up, every phase between the one shown and the present one is shown, in order.
        let from = self.objects.get(key).filter(|object| object.written).map(|object| object.shown.phase);
        let step = |phase| WAY_UP.iter().position(|step| *step == phase);
        let begin = from.map_or(Some(0), |from| Some(step(from)? + 1)).unwrap_or(usize::MAX);
        if let Some(end) = step(phase) {
            for between in WAY_UP.iter().take(end).skip(begin) {
                self.write(now, key, as_of(&status, *between), true, false);
            }
        }
        let asks = self.adapters.get(&adapter).is_some_and(|adapter| adapter.gate == Some(Gate::ASK));
        self.write(now, key, status, false, asks);
        if asks && let (Some(object), Some(adapter)) = (self.objects.get(key), self.adapters.get_mut(&adapter)) {
            adapter.gate = Some(Gate(object.sequence));
        }
    }

    pub(super) fn status_written(&mut self, key: &ObjectKey, sequence: u64) {
        let Some(object) = self.objects.get(key) else { return };
        for key in &object.adapters {
            if let Some(adapter) = self.adapters.get_mut(key)
                && adapter.gate.is_some_and(|gate| gate != Gate::ASK && gate.0 <= sequence)
            {
                adapter.gate = None;
                self.dirty_adapters.insert(key.clone());
            }
        }
    }

    /// Writes a status that differs from the one shown. One that differs in counts only waits for its turn.
    fn write(&mut self, now: Timestamp, key: &ObjectKey, mut status: ModelAdapterStatus, always: bool, ask: bool) {
        let Some(object) = self.objects.get_mut(key) else { return };
        keep_transition_times(now, &mut status, &object.shown);
        if object.written && status == object.shown && !ask {
            return;
        }
        let phase_change = !object.written || status.phase != object.shown.phase;
        let turn = object.last_write.map(|last| last + self.config.status_interval);
        let may_wait = !phase_change && !always && !ask;
        if let Some(turn) = turn.filter(|turn| may_wait && *turn > now) {
            self.timers.wake(Wake::Object(key.clone()), turn);
            return;
        }
        object.sequence += 1;
        object.written = true;
        object.last_write = Some(now);
        object.shown = status.clone();
        self.effects.push(Effect::WriteStatus(StatusWrite {
            object: key.clone(),
            sequence: object.sequence,
            status: Box::new(status),
            phase_change,
            acknowledge: ask,
        }));
    }

    /// An object that declares nothing, since it cannot be understood.
    fn show_refusal(&mut self, now: Timestamp, key: &ObjectKey) {
        let Some(object) = self.objects.get(key) else { return };
        let Some(fault) = object.refused.clone() else { return };
        let mut status = ModelAdapterStatus {
            phase: Phase::Failed,
            observed_generation: Some(object.generation),
            ..ModelAdapterStatus::default()
        };
        set(&mut status, "Ready", "False", fault.reason, fault.message);
        self.write(now, key, status, false, false);
    }

    /// Phase and status of an adapter's object as they are now.
    pub(super) fn present(&self, key: &AdapterKey) -> Option<(Phase, ModelAdapterStatus)> {
        let adapter = self.adapters.get(key)?;
        let object = self.objects.get(&key.object)?;
        let standings = self.standings(key);
        let ready: Vec<&EngineId> = self.ready_endpoints(key).into_iter().map(|endpoint| &endpoint.engine).collect();
        let in_state = |state: &str| -> Vec<&EngineId> {
            standings.iter().filter(|(_, standing)| standing.state == state).map(|(id, _)| id).collect()
        };
        let (loaded, loading) = (in_state("loaded"), in_state("loading"));
        let usable_loaded = loaded.iter().any(|id| self.serves(key, id));
        let refused = standings.iter().find(|(_, standing)| standing.state == "refused");
        let backing_off = standings.iter().find(|(_, standing)| standing.state == "backing-off");
        let wins = self.has_its_name(key);
        let tried = !loading.is_empty() || backing_off.is_some() || !in_state("draining").is_empty();
        let resolving = adapter.target.is_none();
        let can_load = adapter.assigned.iter().any(|id| self.engines.get(id).is_some_and(|engine| engine.is_usable()));
        let all_refused = refused.is_some()
            && standings.iter().all(|(_, standing)| standing.state == "refused")
            && adapter.unplaced.as_ref().is_none_or(|unplaced| unplaced.missing == 0 || adapter.assigned.is_empty());

        let phase = if !ready.is_empty() {
            Phase::Running
        } else if usable_loaded && wins {
            Phase::Bound
        } else if !wins || adapter.trouble.is_some() || object.refused.is_some() || all_refused {
            Phase::Failed
        } else if !adapter.assigned.is_empty() && (tried || can_load || refused.is_some()) {
            Phase::Loading
        } else if !adapter.assigned.is_empty() {
            Phase::Scheduled
        } else {
            Phase::Pending
        };

        let desired = match adapter.spec.replicas {
            Replicas::All => {
                let missing = adapter.unplaced.as_ref().map_or(0, |unplaced| unplaced.missing as usize);
                adapter.assigned.len() + missing
            }
            Replicas::Count(count) => usize::try_from(count).unwrap_or(usize::MAX),
        };
        let mut status = ModelAdapterStatus {
            phase,
            candidates: i32::try_from(adapter.candidates).unwrap_or(i32::MAX),
            desired_replicas: i32::try_from(desired).unwrap_or(i32::MAX),
            ready_replicas: i32::try_from(ready.len()).unwrap_or(i32::MAX),
            instances: loaded.iter().filter(|id| self.serves(key, id)).map(ToString::to_string).collect(),
            conditions: Vec::new(),
            observed_generation: Some(object.generation),
            artifact: self.artifact_status(key),
            engines: Vec::new(),
        };
        status.engines = standings
            .iter()
            .take(SHOWN_ENGINES)
            .map(|(id, standing)| EngineStatus {
                pod: id.to_string(),
                state: standing.state.to_owned(),
                attempt: i32::try_from(standing.attempt).unwrap_or(i32::MAX),
                reason: Some(standing.reason.to_owned()).filter(|reason| !reason.is_empty()),
                since: adapter.shown.get(id).map_or_else(String::new, |(_, since)| since.to_string()),
            })
            .collect();

        let name = format!("{} {}", key.object.kind, key.object);
        set(
            &mut status,
            "Initialized",
            if phase == Phase::Pending && adapter.unplaced.is_none() { "Unknown" } else { "True" },
            "ModelAdapterPending",
            "Starting reconciliation".to_owned(),
        );
        if adapter.assigned.is_empty() {
            if let Some((reason, message)) = self.why_unscheduled(key) {
                set(&mut status, "Scheduled", "False", reason, message);
            }
        } else {
            let chosen = shortened(adapter.assigned.iter());
            let mut message = format!("{name} has selected {} pods for scheduling: [{chosen}]", adapter.assigned.len());
            if let Some(unplaced) = adapter.unplaced.as_ref().filter(|unplaced| unplaced.missing > 0) {
                message = format!("{message}; {} more wanted: {unplaced}", unplaced.missing);
            }
            set(&mut status, "Scheduled", "True", "Scheduled", message);
            let failure = standings
                .iter()
                .filter(|(_, standing)| matches!(standing.state, "refused" | "backing-off"))
                .map(|(id, standing)| format!("{id}: {}", standing.message))
                .next();
            if !loading.is_empty() || resolving {
                let message = if resolving {
                    "fetching and checking the artifact".to_owned()
                } else {
                    format!("loading on {}", shortened(loading.iter().copied()))
                };
                set(&mut status, "Loading", "True", "Loading", message);
            } else if usable_loaded {
                set(&mut status, "Loading", "False", "Loaded", "nothing is being loaded".to_owned());
            }
            if usable_loaded {
                let on = shortened(loaded.iter().copied());
                set(&mut status, "Bound", "True", "Loaded", format!("loaded on {on}"));
            } else if let Some(failure) = failure {
                set(&mut status, "Bound", "False", "LoadFailed", failure);
            }
        }
        if let Some(fault) = &adapter.publish_fault {
            set(&mut status, "ResourceCreated", "False", fault.reason, fault.message.clone());
        } else if !ready.is_empty() {
            let message = format!("endpoints of {} engines are published", ready.len());
            set(&mut status, "ResourceCreated", "True", "ServiceCreated", message);
        }
        if phase == Phase::Running {
            set(&mut status, "Ready", "True", "ModelAdapterAvailable", format!("{name} is ready"));
        } else {
            let (reason, message) = self.why_unready(key, &status);
            set(&mut status, "Ready", "False", reason, message);
        }
        self.set_up_to_date(key, ready.len(), &mut status);
        Some((phase, status))
    }

    fn artifact_status(&self, key: &AdapterKey) -> Option<ArtifactStatus> {
        let adapter = self.adapters.get(key)?;
        let resolved = &adapter.target.as_ref()?.resolved;
        let roots = std::iter::once(&resolved.root).chain(adapter.previous.as_ref().map(|previous| &previous.root));
        Some(ArtifactStatus {
            digest: resolved.digest().map(|digest| digest.to_string()),
            bytes: resolved.bytes.map(|bytes| i64::try_from(bytes).unwrap_or(i64::MAX)),
            rank: resolved.rank.map(|rank| i32::try_from(rank).unwrap_or(i32::MAX)),
            roots: roots.map(ToString::to_string).collect(),
        })
    }

    /// What one of the engines that match has against the adapter.
    fn refusal(&self, key: &AdapterKey) -> Option<(&'static str, String)> {
        let adapter = self.adapters.get(key)?;
        adapter.matching.iter().find_map(|id| {
            self.blocked(key, id).or_else(|| match adapter.replicas.get(id)?.hold.as_ref()? {
                Hold::Refused { fault, .. } => Some((fault.reason, format!("{id}: {fault}"))),
                Hold::BackingOff { .. } | Hold::CoolingDown { .. } => None,
            })
        })
    }

    fn why_unscheduled(&self, key: &AdapterKey) -> Option<(&'static str, String)> {
        let adapter = self.adapters.get(key)?;
        if let Some(unplaced) = adapter.unplaced.as_ref().filter(|_| !adapter.matching.is_empty()) {
            return Some((self.unplaced_reason(key), unplaced.to_string()));
        }
        if adapter.matching.is_empty() && self.synced {
            let engines = self.engines.keys().filter(|id| id.namespace == *key.namespace()).count();
            let message = format!(
                "no engine matches spec.podSelector; {engines} known in namespace {}: compare its labels with theirs",
                key.namespace()
            );
            return Some(("NoMatchingPods", message));
        }
        None
    }

    /// One word for why nothing was chosen.
    fn unplaced_reason(&self, key: &AdapterKey) -> &'static str {
        use longshore_scheduler::Class;
        let Some(unplaced) = self.adapters.get(key).and_then(|adapter| adapter.unplaced.as_ref()) else {
            return "Unschedulable";
        };
        let every =
            |class| !unplaced.reasons.is_empty() && unplaced.reasons.keys().all(|reason| reason.class() == class);
        if every(Class::NotReady) {
            "PodsNotReady"
        } else if every(Class::NoCapacity) {
            "NoCapacity"
        } else {
            "Unschedulable"
        }
    }

    /// Why requests are not answered: the first cause on the way from the object to the engine.
    fn why_unready(&self, key: &AdapterKey, status: &ModelAdapterStatus) -> (&'static str, String) {
        let unavailable = "ModelAdapterUnavailable";
        let (Some(adapter), Some(object)) = (self.adapters.get(key), self.objects.get(&key.object)) else {
            return (unavailable, String::new());
        };
        if let Some(owner) = self.owner_of(key.namespace(), &key.name).filter(|owner| *owner != key) {
            let message = format!("{} of {} already has the name {}", owner.object.kind, owner.object, key.name);
            return ("NameConflict", message);
        }
        if let Some(fault) = object.refused.as_ref().or(adapter.trouble.as_ref().map(|trouble| &trouble.fault)) {
            return (fault.reason, fault.message.clone());
        }
        if adapter.assigned.is_empty() {
            if let Some((reason, message)) = self.refusal(key).or_else(|| self.why_unscheduled(key)) {
                return (reason, message);
            }
            return (unavailable, "waiting to be placed".to_owned());
        }
        for (id, standing) in self.standings(key) {
            if !standing.reason.is_empty() {
                let reason = if standing.state == "refused" { standing.reason } else { unavailable };
                return (reason, format!("{id}: {}", standing.message));
            }
        }
        let loading =
            status.conditions.iter().find(|condition| condition.type_ == "Loading" && condition.status == "True");
        (
            unavailable,
            loading.map_or_else(|| "waiting for its turn to load".to_owned(), |loading| loading.message.clone()),
        )
    }

    fn set_up_to_date(&self, key: &AdapterKey, ready: usize, status: &mut ModelAdapterStatus) {
        let Some(adapter) = self.adapters.get(key) else { return };
        if let Some(fault) = &adapter.update_failed {
            let message = format!("the version before is served: {fault}");
            set(status, "UpToDate", "False", "UpdateFailed", message);
            return;
        }
        let Some(target) = &adapter.target else { return };
        let current = adapter.assigned.iter().filter(|id| {
            let root = self.engines.get(id).and_then(|engine| engine.residents.get(key.name.as_str()));
            self.serves(key, id) && root == adapter.root()
        });
        let current = current.count();
        let desired = usize::try_from(status.desired_replicas).unwrap_or(0);
        let settled = target.generation == adapter.spec.generation && current >= desired && ready >= desired;
        if !settled || desired == 0 {
            let message = format!("{current} of {desired} replicas hold what the spec asks for");
            set(status, "UpToDate", "False", "Progressing", message);
        } else if target.resolved.digest().is_none() {
            let message = "the bytes cannot be seen from here: only the reference is known to be the one asked for";
            set(status, "UpToDate", "Unknown", "Unverified", message.to_owned());
        } else {
            let message = format!("{current} of {desired} replicas hold what the spec asks for");
            set(status, "UpToDate", "True", "AllReplicas", message);
        }
    }
}

fn set(status: &mut ModelAdapterStatus, type_: &str, value: &str, reason: &str, message: String) {
    status.conditions.push(Condition {
        type_: type_.to_owned(),
        status: value.to_owned(),
        reason: reason.to_owned(),
        message,
        last_transition_time: String::new(),
        observed_generation: status.observed_generation,
    });
}

/// The status as it was when `phase` was reached, on the way to the present one: later conditions are left out.
fn as_of(status: &ModelAdapterStatus, phase: Phase) -> ModelAdapterStatus {
    let mut earlier = status.clone();
    earlier.phase = phase;
    earlier.ready_replicas = 0;
    earlier.instances.clear();
    earlier.engines.clear();
    earlier.conditions.retain(|condition| match condition.type_.as_str() {
        "Initialized" => true,
        "Scheduled" => phase >= Phase::Scheduled,
        "Loading" => phase >= Phase::Loading,
        "Bound" => phase >= Phase::Bound,
        _ => false,
    });
    for condition in &mut earlier.conditions {
        match (condition.type_.as_str(), phase) {
            ("Initialized", Phase::Pending) => condition.status = "Unknown".to_owned(),
            ("Loading", Phase::Loading) if condition.status != "True" => {
                condition.status = "True".to_owned();
                condition.reason = "Loading".to_owned();
                condition.message = "fetching and loading".to_owned();
            }
            _ => {}
        }
    }
    earlier
}

/// A condition's transition time is when its status last changed.
fn keep_transition_times(now: Timestamp, status: &mut ModelAdapterStatus, shown: &ModelAdapterStatus) {
    for condition in &mut status.conditions {
        let before = shown.conditions.iter().find(|before| before.type_ == condition.type_);
        condition.last_transition_time = match before {
            Some(before) if before.status == condition.status => before.last_transition_time.clone(),
            _ => now.to_string(),
        };
    }
}
