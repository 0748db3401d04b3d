//! What holds in every world, tried in thousands of random ones.

mod naive;
mod world;

use std::collections::BTreeMap;

use longshore_scheduler::{Adapter, AdapterId, EngineId, Scheduler};
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;

use naive::{How, Naive, Outcome};
use world::{Op, adapter_ids, apply, engine_ids, histories, scenes};

fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases,
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("regressions"))),
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(cases(10_000))]

    #[test]
    fn a_scheduler_agrees_with_a_naive_recomputation(history in histories()) {
        let (mut scheduler, mut naive) = (Scheduler::new(), Naive::default());
        for op in &history {
            let expected = naive.apply(op);
            let decision = apply(&mut scheduler, op).map(|decision| Outcome {
                assigned: decision.assigned,
                added: decision.added,
                removed: decision.removed,
                candidates: decision.candidates,
                overcommitted: decision.overcommitted,
                unplaced: decision.unplaced.map(|unplaced| (unplaced.missing, unplaced.reasons)),
            });
            prop_assert_eq!(decision, expected, "{:?}", op);
            agree(&scheduler, &naive)?;
        }
    }

    #[test]
    fn i6_no_decision_exceeds_slots_or_memory(history in histories()) {
        let mut scheduler = Scheduler::new();
        let mut sizes = BTreeMap::new();
        for op in &history {
            let Op::Schedule(adapter) = op else {
                apply(&mut scheduler, op);
                // Once it is forgotten everywhere, so is its size.
                sizes.retain(|id, _| scheduler.adapter_status(id).is_some());
                continue;
            };
            // A wish may make an adapter larger where it is already: that is a fact, not the decision's doing.
            sizes.insert(adapter.id.clone(), adapter.memory.unwrap_or(0));
            let before: Vec<_> = engine_ids().map(|id| usage(&scheduler, &sizes, &id)).collect();
            let _ = scheduler.schedule_adapter(adapter);
            for (id, (slots_before, memory_before)) in engine_ids().zip(before) {
                let Some(engine) = scheduler.engine(&id) else { continue };
                let (slots, memory) = usage(&scheduler, &sizes, &id);
                prop_assert!(slots <= slots_before || slots <= engine.max_adapters.unwrap_or(u32::MAX), "{}", id);
                prop_assert!(memory <= memory_before || memory <= engine.memory.unwrap_or(u64::MAX), "{}", id);
            }
        }
    }
}

// The model stands behind these too, so fewer cases do.
proptest! {
    #![proptest_config(cases(3_000))]

    #[test]
    fn no_decision_breaks_a_rule(history in histories()) {
        let (mut scheduler, mut naive) = (Scheduler::new(), Naive::default());
        for op in &history {
            if let (Some(decision), Op::Schedule(adapter)) = (apply(&mut scheduler, op), op) {
                let known = Scheduler::policies().contains(&adapter.policy.as_str());
                prop_assert!(known || decision.is_unchanged());
                for id in &decision.added {
                    let engine = scheduler.engine(id).expect("an adapter is placed on known engines only");
                    prop_assert!(adapter.engines.contains(id), "{} does not match", id);
                    prop_assert_eq!(naive.refusal(adapter, engine), None, "{}", id);
                }
                for id in decision.assigned.iter().filter(|_| known) {
                    let engine = scheduler.engine(id).expect("an adapter is kept on known engines only");
                    prop_assert!(adapter.engines.contains(id), "{} does not match", id);
                    prop_assert_eq!(naive::permanent(adapter, engine), None, "{}", id);
                }
            }
            naive.apply(op);
        }
    }

    #[test]
    fn reasons_add_up_to_the_engines_that_do_not_hold_the_adapter(history in histories()) {
        let mut scheduler = Scheduler::new();
        for op in &history {
            let decision = apply(&mut scheduler, op);
            if let (Some(decision), Op::Schedule(adapter)) = (decision, op)
                && let Some(unplaced) = decision.unplaced
            {
                let placed = decision.assigned.intersection(&adapter.engines).count();
                let refused: u32 = unplaced.reasons.values().sum();
                prop_assert_eq!(refused as usize, adapter.engines.len() - placed, "{}", unplaced);
                prop_assert_eq!(unplaced.considered, decision.considered);
                let counts = format!("{placed}/{} engines: ", adapter.engines.len());
                prop_assert!(unplaced.to_string().starts_with(&counts), "{}", unplaced);
            }
        }
    }

    #[test]
    fn an_unchanged_world_moves_nothing(history in histories()) {
        let mut scheduler = Scheduler::new();
        let mut wishes: Vec<Adapter> = Vec::new();
        for op in &history {
            let _ = apply(&mut scheduler, op);
            if let Op::Schedule(adapter) = op {
                let first = scheduler.schedule_adapter(adapter);
                prop_assert!(first.is_unchanged(), "{:?}", first);
                wishes.retain(|wish| wish.id != adapter.id);
                wishes.push(adapter.clone());
            }
        }
        // Wishes react on what happened since they were made; once they have, a further round in another order is quiet.
        for wish in wishes.iter().chain(&wishes) {
            let _ = scheduler.schedule_adapter(wish);
        }
        for wish in wishes.iter().rev() {
            let decision = scheduler.schedule_adapter(wish);
            prop_assert!(decision.is_unchanged(), "{:?}", decision);
        }
    }

    #[test]
    fn the_order_of_facts_does_not_matter((engines, held, adapter) in scenes(), turn in 0..8_usize) {
        let told = |engines: &mut dyn Iterator<Item = &_>, held: &mut dyn Iterator<Item = &_>| {
            let mut scheduler = Scheduler::new();
            for engine in engines {
                scheduler.set_engine(Clone::clone(engine));
            }
            for (adapter, engine) in held {
                scheduler.assign(adapter, engine);
            }
            scheduler.schedule_adapter(&adapter)
        };
        let split = turn.min(held.len());
        let one = told(&mut engines.iter(), &mut held.iter());
        let other = told(&mut engines.iter().rev(), &mut held[split..].iter().chain(&held[..split]));
        prop_assert_eq!(one, other);
    }
}

/// Slots and bytes of the engine in use, by the scheduler's own answers.
fn usage(scheduler: &Scheduler, sizes: &BTreeMap<AdapterId, u64>, id: &EngineId) -> (u32, u64) {
    let (mut slots, mut memory) = (scheduler.engine(id).map_or(0, |engine| engine.foreign), 0);
    for adapter in adapter_ids() {
        let status = scheduler.adapter_status(&adapter).unwrap_or_default();
        if status.assigned.contains(id) || status.leaving.contains(id) {
            slots += 1;
            memory += sizes.get(&adapter).copied().unwrap_or(0);
        }
    }
    (slots, memory)
}

/// Whether every question is answered as a recount answers it.
fn agree(scheduler: &Scheduler, naive: &Naive) -> Result<(), TestCaseError> {
    prop_assert_eq!(scheduler.waiting().cloned().collect::<Vec<_>>(), naive.waiting());
    for id in engine_ids() {
        let assigned = adapter_ids().filter(|a| naive.how(a, &id) == Some(How::Assigned));
        prop_assert_eq!(scheduler.engine_adapters(&id), assigned.collect::<Vec<_>>());
        let free = naive
            .engine(&id)
            .and_then(|engine| engine.max_adapters.map(|max| max.saturating_sub(naive.taken(engine, None))));
        prop_assert_eq!(scheduler.free_slots(&id), free);
        prop_assert_eq!(scheduler.engine(&id).is_some(), naive.engine(&id).is_some());
    }
    for id in adapter_ids() {
        let on = |how| engine_ids().filter(|e| naive.how(&id, e) == Some(how)).collect();
        let status = scheduler.adapter_status(&id);
        let known = naive.wishes.contains_key(&id) || naive.held.iter().any(|(a, _, _)| *a == id);
        prop_assert_eq!(status.is_some(), known);
        if let Some(status) = status {
            prop_assert_eq!(status.assigned, on(How::Assigned));
            prop_assert_eq!(status.leaving, on(How::Leaving));
        }
    }
    Ok(())
}
