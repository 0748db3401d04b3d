//! The same rules once more, as slow and as plain as they can be said: nothing is remembered but who holds what, and
//! everything is counted anew each time. It takes no code from the crate but its plain values.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use longshore_scheduler::{Adapter, AdapterId, DEFAULT_SLOTS, Engine, EngineId, Reason, Replicas};

use crate::world::Op;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    Assigned,
    Leaving,
}

/// What a decision came to.
#[derive(Debug, Default, PartialEq)]
pub struct Outcome {
    pub assigned: BTreeSet<EngineId>,
    pub added: Vec<EngineId>,
    pub removed: Vec<EngineId>,
    pub candidates: u32,
    pub overcommitted: Vec<EngineId>,
    /// Missing, and the reasons.
    pub unplaced: Option<(u32, BTreeMap<Reason, u32>)>,
}

#[derive(Debug, Default)]
pub struct Naive {
    pub engines: Vec<Engine>,
    pub held: Vec<(AdapterId, EngineId, How)>,
    /// Adapters that are wanted, with the priority of each that waits.
    pub wishes: BTreeMap<AdapterId, Option<i32>>,
    memory: BTreeMap<AdapterId, u64>,
}

impl Naive {
    pub fn apply(&mut self, op: &Op) -> Option<Outcome> {
        let mut outcome = None;
        match op {
            Op::SetEngine(engine) => {
                self.engines.retain(|other| other.id != engine.id);
                self.engines.push(engine.clone());
            }
            Op::RemoveEngine(engine) => {
                self.engines.retain(|other| other.id != *engine);
                self.held.retain(|(_, on, _)| on != engine);
            }
            Op::Schedule(adapter) => outcome = Some(self.schedule(adapter)),
            Op::RemoveAdapter(adapter) => {
                self.wishes.remove(adapter);
                for (held, _, how) in &mut self.held {
                    if held == adapter {
                        *how = How::Leaving;
                    }
                }
            }
            Op::Assign(adapter, engine) if self.engine(engine).is_some() => self.put(adapter, engine, How::Assigned),
            Op::Release(adapter, engine) if self.how(adapter, engine).is_some() => {
                self.put(adapter, engine, How::Leaving);
            }
            Op::Unassign(adapter, engine) => self.held.retain(|(a, e, _)| (a, e) != (adapter, engine)),
            Op::Assign(..) | Op::Release(..) => {}
        }
        let (held, wishes) = (&self.held, &self.wishes);
        self.memory.retain(|id, _| wishes.contains_key(id) || held.iter().any(|(a, _, _)| a == id));
        outcome
    }

    pub fn engine(&self, id: &EngineId) -> Option<&Engine> {
        self.engines.iter().find(|engine| engine.id == *id)
    }

    pub fn how(&self, adapter: &AdapterId, engine: &EngineId) -> Option<How> {
        self.held.iter().find(|(a, e, _)| (a, e) == (adapter, engine)).map(|(_, _, how)| *how)
    }

    /// Slots of the engine in use, but for the one that `but` has.
    pub fn taken(&self, engine: &Engine, but: Option<&AdapterId>) -> u32 {
        let ours = self.held.iter().filter(|(a, e, _)| *e == engine.id && Some(a) != but).count();
        ours as u32 + engine.foreign
    }

    pub fn waiting(&self) -> Vec<AdapterId> {
        let mut waiting: Vec<_> = self.wishes.iter().filter_map(|(id, at)| at.map(|at| (Reverse(at), id))).collect();
        waiting.sort();
        waiting.into_iter().map(|(_, id)| id.clone()).collect()
    }

    fn put(&mut self, adapter: &AdapterId, engine: &EngineId, how: How) {
        self.held.retain(|(a, e, _)| (a, e) != (adapter, engine));
        self.held.push((adapter.clone(), engine.clone(), how));
    }

    fn assigned(&self, adapter: &AdapterId) -> BTreeSet<EngineId> {
        let held = self.held.iter().filter(|(a, _, how)| a == adapter && *how == How::Assigned);
        held.map(|(_, e, _)| e.clone()).collect()
    }

    fn schedule(&mut self, adapter: &Adapter) -> Outcome {
        self.memory.insert(adapter.id.clone(), adapter.memory.unwrap_or(0));
        self.wishes.insert(adapter.id.clone(), None);
        let before = self.assigned(&adapter.id);
        if !["default", "least-adapters"].contains(&adapter.policy.as_str()) {
            return self.refuse(adapter, before);
        }

        let matching: Vec<&Engine> = adapter.engines.iter().filter_map(|id| self.engine(id)).collect();
        let permitted = |e: &Engine| permanent(adapter, e).is_none();
        let (held, others): (Vec<_>, Vec<_>) = matching.iter().copied().partition(|e| before.contains(&e.id));
        let mut keep: Vec<_> = held.into_iter().filter(|e| permitted(e)).collect();
        let mut new: Vec<_> = others.into_iter().filter(|e| self.refusal(adapter, e).is_none()).collect();
        let candidates = (keep.len() + new.len()) as u32;

        // Worst last.
        let score = |e: &Engine| (self.score(adapter, e), e.id.clone());
        let mut away = Vec::new();
        let wanted = match adapter.replicas {
            Replicas::Count(wanted) => {
                let wanted = wanted as usize;
                let leave = |e: &Engine| adapter.avoid.contains(&e.id) || e.draining;
                (away, keep) = keep.into_iter().partition(|e| leave(e));
                keep.sort_by_key(|e| (!e.ready || e.stalled, score(e)));
                keep.truncate(wanted);
                new.sort_by_key(|e| score(e));
                new.truncate(wanted - keep.len());
                away.sort_by_key(|e| (adapter.avoid.contains(&e.id), score(e)));
                away.truncate(wanted - keep.len() - new.len());
                wanted
            }
            Replicas::All => {
                let counts = |e: &&&Engine| permitted(e) && (before.contains(&e.id) || !e.draining);
                matching.iter().filter(counts).count().max(1)
            }
        };

        let unsettled = !away.is_empty();
        keep.append(&mut away);
        let assigned: BTreeSet<_> = keep.iter().chain(&new).map(|e| e.id.clone()).collect();
        let added: Vec<_> = new.iter().map(|e| e.id.clone()).collect();
        let soft = |e: &&&Engine| {
            let slots = e.max_loras.unwrap_or(DEFAULT_SLOTS).max(1);
            e.max_adapters.is_none() && self.taken(e, Some(&adapter.id)) + 1 > slots
        };
        let overcommitted: Vec<_> = new.iter().filter(soft).map(|e| e.id.clone()).collect();
        let missing = wanted.saturating_sub(assigned.len()) as u32;
        let unplaced = (missing > 0).then(|| {
            let mut reasons = BTreeMap::new();
            for id in adapter.engines.difference(&assigned) {
                let reason = match self.engine(id) {
                    Some(engine) => self.refusal(adapter, engine).expect("what is not placed is refused"),
                    None => Reason::UnknownEngine,
                };
                *reasons.entry(reason).or_default() += 1;
            }
            (missing, reasons)
        });

        let removed: Vec<_> = before.difference(&assigned).cloned().collect();
        for engine in &removed {
            self.put(&adapter.id, engine, How::Leaving);
        }
        for engine in &added {
            self.put(&adapter.id, engine, How::Assigned);
        }
        if unsettled || unplaced.is_some() {
            self.wishes.insert(adapter.id.clone(), Some(adapter.priority));
        }
        Outcome { assigned, added, removed, candidates, overcommitted, unplaced }
    }

    fn refuse(&mut self, adapter: &Adapter, assigned: BTreeSet<EngineId>) -> Outcome {
        self.wishes.insert(adapter.id.clone(), Some(adapter.priority));
        let here = adapter.engines.intersection(&assigned).count();
        let wanted = match adapter.replicas {
            Replicas::All => adapter.engines.len().max(1),
            Replicas::Count(wanted) => wanted as usize,
        };
        let known = vec!["default".into(), "least-adapters".into()];
        let reason = Reason::UnknownPolicy { policy: adapter.policy.clone(), known };
        let missing = wanted.saturating_sub(assigned.len()) as u32;
        let unplaced = Some((missing, [(reason, (adapter.engines.len() - here) as u32)].into()));
        Outcome { assigned, candidates: here as u32, unplaced, ..Outcome::default() }
    }

    /// Why a new replica may not go there.
    pub fn refusal(&self, adapter: &Adapter, engine: &Engine) -> Option<Reason> {
        let choice = adapter.replicas != Replicas::All;
        let full = engine.max_adapters.is_some_and(|max| self.taken(engine, Some(&adapter.id)) + 1 > max);
        let needed = adapter.memory.unwrap_or(0);
        let others = self.held.iter().filter(|(a, e, _)| *e == engine.id && *a != adapter.id);
        let used: u64 = others.map(|(a, _, _)| self.memory.get(a).copied().unwrap_or(0)).sum();
        let crowded = needed > 0 && engine.memory.is_some_and(|memory| used + needed > memory);
        let temporary = [
            (adapter.base_model.is_some() && engine.base_models.is_empty(), Reason::BaseModelUnknown),
            (adapter.avoid.contains(&engine.id), Reason::Avoided),
            (engine.draining, Reason::Draining),
            (choice && !engine.ready, Reason::NotReady),
            (choice && !engine.stable, Reason::Unstable),
            (choice && engine.stalled, Reason::Stalled),
            (full, Reason::NoSlot),
            (crowded, Reason::NoMemory { needed }),
        ];
        permanent(adapter, engine).or_else(|| temporary.into_iter().find(|(holds, _)| *holds).map(|(_, why)| why))
    }

    /// Lower is better, in whole numbers: the share as a fraction of 840, which every product of slots and weight that
    /// occurs here divides.
    fn score(&self, adapter: &Adapter, engine: &Engine) -> (u32, u32, u32) {
        let taken = self.taken(engine, Some(&adapter.id));
        if adapter.policy == "least-adapters" {
            return (taken, 0, 0);
        }
        let slots = engine.max_adapters.or(engine.max_loras).unwrap_or(DEFAULT_SLOTS).max(1);
        let weight = if engine.weight == 2.0 { 2 } else { 1 };
        let load = if engine.load == f64::INFINITY { u32::MAX } else { u32::from(engine.load == 1.0) };
        (840 * (taken + 1) / (slots * weight), load, taken)
    }
}

/// Why no replica may be there at all.
pub fn permanent(adapter: &Adapter, engine: &Engine) -> Option<Reason> {
    if let Some(wanted) = &adapter.base_model
        && !engine.base_models.is_empty()
        && !engine.base_models.contains(wanted)
    {
        return Some(Reason::BaseModel { wanted: wanted.clone() });
    }
    match (adapter.rank, engine.max_rank) {
        (Some(rank), Some(max)) if rank > max => Some(Reason::Rank { rank, max }),
        _ => None,
    }
}
