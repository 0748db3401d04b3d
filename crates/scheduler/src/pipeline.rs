//! From a wish to a plan: pre-filter, filter, score, select. Nothing is changed here; [`crate::Scheduler`] reserves.

use std::collections::{BTreeMap, BTreeSet};

use crate::state::{Holding, State};
use crate::{Adapter, Candidate, Engine, EngineId, Policy, Reason, Replicas, Score, Unplaced, filter};

/// What is to be done about one wish.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    pub(crate) added: Vec<EngineId>,
    pub(crate) removed: Vec<EngineId>,
    pub(crate) candidates: u32,
    pub(crate) unplaced: Option<Unplaced>,
    /// Whether another engine, or room on one, would change the plan.
    pub(crate) waits: bool,
}

/// How much a replica on an engine is to be preferred, whatever the policy says.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Standing {
    /// It is there.
    Held,
    /// It is there; the engine is not ready or makes no progress. A flap must move nothing.
    Faltering,
    /// It is not there yet.
    New,
    /// It is there, on an engine that is on its way out.
    Draining,
    /// It is there, on an engine that is to be avoided.
    Avoided,
}

impl Standing {
    fn of_held(candidate: &Candidate<'_>) -> Self {
        let engine = candidate.engine();
        if candidate.adapter().avoid.contains(&engine.id) {
            Self::Avoided
        } else if engine.draining {
            Self::Draining
        } else if !engine.ready || engine.stalled {
            Self::Faltering
        } else {
            Self::Held
        }
    }
}

type Ranked<'a> = (Standing, Candidate<'a>);

/// The plan for an adapter whose policy is known.
pub(crate) fn plan(state: &State, adapter: &Adapter, policy: &dyn Policy) -> Plan {
    let holds = |id: &EngineId| state.holding(&adapter.id, id) == Some(Holding::Assigned);

    // Pre-filter and filter. `suitable` counts what `All` asks for: engines that could take it and are here to stay.
    let mut pool: Vec<Ranked<'_>> = Vec::new();
    let mut suitable = 0_u32;
    for candidate in adapter.engines.iter().filter_map(|id| state.candidate(adapter, id)) {
        let held = holds(&candidate.engine().id);
        let stays = filter::may_stay(&candidate);
        if stays && (held || !candidate.engine().draining) {
            suitable += 1;
        }
        if held && stays {
            pool.push((Standing::of_held(&candidate), candidate));
        } else if !held && filter::may_join(&candidate) {
            pool.push((Standing::New, candidate));
        }
    }
    let candidates = count(pool.len());

    // Score and select.
    let wanted = match adapter.replicas {
        Replicas::All => suitable.max(1),
        Replicas::Count(wanted) => wanted,
    };
    let chosen = match adapter.replicas {
        Replicas::All => pool,
        Replicas::Count(wanted) => select(policy, pool, wanted as usize),
    };
    let ids: BTreeSet<&EngineId> = chosen.iter().map(|(_, candidate)| &candidate.engine().id).collect();
    let missing = wanted.saturating_sub(count(ids.len()));
    let settles =
        matches!(adapter.replicas, Replicas::All) || chosen.iter().all(|(standing, _)| *standing <= Standing::New);

    Plan {
        added: added(&chosen),
        removed: assigned(state, adapter).filter(|id| !ids.contains(id)).cloned().collect(),
        candidates,
        unplaced: (missing > 0).then(|| Unplaced {
            missing,
            considered: count(adapter.engines.len()),
            reasons: refusals(state, adapter, &ids),
        }),
        waits: missing > 0 || !settles,
    }
}

/// The plan for an adapter whose policy does not exist: everything stays as it is, and the reason is given.
pub(crate) fn refuse(state: &State, adapter: &Adapter, reason: Reason) -> Plan {
    let held = count(assigned(state, adapter).count());
    let placed = count(assigned(state, adapter).filter(|id| adapter.engines.contains(*id)).count());
    let considered = count(adapter.engines.len());
    let wanted = match adapter.replicas {
        Replicas::All => considered.max(1),
        Replicas::Count(wanted) => wanted,
    };
    let unplaced = Unplaced {
        missing: wanted.saturating_sub(held),
        considered,
        reasons: BTreeMap::from([(reason, considered - placed)]),
    };
    Plan { candidates: placed, unplaced: Some(unplaced), waits: true, ..Plan::default() }
}

/// Where the adapter is a replica now.
pub(crate) fn assigned<'a>(state: &'a State, adapter: &Adapter) -> impl Iterator<Item = &'a EngineId> {
    let on = state.adapter(&adapter.id).into_iter().flat_map(|entry| &entry.on);
    on.filter(|(_, holding)| **holding == Holding::Assigned).map(|(id, _)| id)
}

/// The best `wanted` of the pool, best first: by standing, then score, then id.
fn select<'a>(policy: &dyn Policy, pool: Vec<Ranked<'a>>, wanted: usize) -> Vec<Ranked<'a>> {
    if policy.looks_at_peers() {
        select_beside_peers(policy, pool, wanted)
    } else {
        select_at_once(policy, pool, wanted)
    }
}

fn select_at_once<'a>(policy: &dyn Policy, pool: Vec<Ranked<'a>>, wanted: usize) -> Vec<Ranked<'a>> {
    let mut scored: Vec<_> = pool.into_iter().map(|ranked| (key(policy, &ranked, &[]), ranked)).collect();
    scored.sort_unstable_by_key(|(key, _)| *key);
    scored.truncate(wanted);
    scored.into_iter().map(|(_, ranked)| ranked).collect()
}

fn select_beside_peers<'a>(policy: &dyn Policy, mut pool: Vec<Ranked<'a>>, wanted: usize) -> Vec<Ranked<'a>> {
    let mut chosen = Vec::new();
    let mut peers: Vec<&'a Engine> = Vec::new();
    while chosen.len() < wanted {
        let best = pool.iter().enumerate().min_by_key(|(_, ranked)| key(policy, ranked, &peers));
        let Some((at, _)) = best else { break };
        let ranked = pool.swap_remove(at);
        peers.push(ranked.1.engine());
        chosen.push(ranked);
    }
    chosen
}

/// What the selection is ordered by; no two engines have the same.
fn key<'a>(policy: &dyn Policy, ranked: &Ranked<'a>, peers: &[&'a Engine]) -> (Standing, Score, &'a EngineId) {
    let (standing, candidate) = ranked;
    (*standing, policy.score(&candidate.beside(peers)), &candidate.engine().id)
}

fn added(chosen: &[Ranked<'_>]) -> Vec<EngineId> {
    let new = chosen.iter().filter(|(standing, _)| *standing == Standing::New);
    new.map(|(_, candidate)| candidate.engine().id.clone()).collect()
}

/// Asked only when replicas are missing, which is when every engine that passed the rules was chosen: what was not has
/// a reason.
fn refusals(state: &State, adapter: &Adapter, chosen: &BTreeSet<&EngineId>) -> BTreeMap<Reason, u32> {
    let mut reasons = BTreeMap::new();
    for id in adapter.engines.iter().filter(|id| !chosen.contains(id)) {
        let reason = match state.candidate(adapter, id) {
            Some(candidate) => filter::reason(&candidate),
            None => Some(Reason::UnknownEngine),
        };
        if let Some(reason) = reason {
            *reasons.entry(reason).or_insert(0) += 1;
        }
    }
    reasons
}

/// Counts are shown as `u32`; nobody has more engines.
fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
