//! Small random worlds: few engines and adapters, so that they get in each other's way.

use std::collections::BTreeSet;

use longshore_scheduler::{Adapter, AdapterId, Decision, Engine, EngineId, Replicas, Scheduler};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

const ENGINES: [&str; 5] = ["e0", "e1", "e2", "e3", "e4"];
const ADAPTERS: [&str; 4] = ["a0", "a1", "a2", "a3"];

/// Every engine, as bits: sets are drawn as numbers, which is many times as fast.
const ALL: u8 = (1 << ENGINES.len()) - 1;

/// One call.
#[derive(Clone, Debug)]
pub enum Op {
    SetEngine(Engine),
    RemoveEngine(EngineId),
    Schedule(Adapter),
    RemoveAdapter(AdapterId),
    Assign(AdapterId, EngineId),
    Release(AdapterId, EngineId),
    Unassign(AdapterId, EngineId),
}

/// Makes the call; what it decided, where it decides.
pub fn apply(scheduler: &mut Scheduler, op: &Op) -> Option<Decision> {
    match op {
        Op::SetEngine(engine) => scheduler.set_engine(engine.clone()),
        Op::RemoveEngine(engine) => drop(scheduler.remove_engine(engine)),
        Op::Schedule(adapter) => return Some(scheduler.schedule_adapter(adapter)),
        Op::RemoveAdapter(adapter) => drop(scheduler.remove_adapter(adapter)),
        Op::Assign(adapter, engine) => drop(scheduler.assign(adapter, engine)),
        Op::Release(adapter, engine) => scheduler.release(adapter, engine),
        Op::Unassign(adapter, engine) => scheduler.unassign(adapter, engine),
    }
    None
}

pub fn engine_ids() -> impl Iterator<Item = EngineId> {
    ENGINES.into_iter().map(EngineId::from)
}

pub fn adapter_ids() -> impl Iterator<Item = AdapterId> {
    ADAPTERS.into_iter().map(AdapterId::from)
}

/// Engines and what is found on them, then anything in any order.
pub fn histories() -> impl Strategy<Value = Vec<Op>> {
    (vec(engine().prop_map(Op::SetEngine), 2..8), vec(assign(), 0..8), vec(op(), 1..12))
        .prop_map(|(engines, found, then)| [engines, found, then].concat())
}

/// Every engine once, what they hold, and a wish: the ingredients of one decision.
pub fn scenes() -> impl Strategy<Value = (Vec<Engine>, Vec<(AdapterId, EngineId)>, Adapter)> {
    let engines = ENGINES.map(|id| engine().prop_map(move |engine| Engine { id: id.into(), ..engine }));
    let engines = engines.prop_map(|engines| engines.to_vec()).prop_shuffle();
    (engines, vec((adapter_id(), engine_id()), 0..8), adapter())
}

fn engine_id() -> impl Strategy<Value = EngineId> {
    select(&ENGINES[..]).prop_map(EngineId::from)
}

fn adapter_id() -> impl Strategy<Value = AdapterId> {
    select(&ADAPTERS[..]).prop_map(AdapterId::from)
}

fn assign() -> impl Strategy<Value = Op> {
    (adapter_id(), engine_id()).prop_map(|(adapter, engine)| Op::Assign(adapter, engine))
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        3 => engine().prop_map(Op::SetEngine),
        1 => engine_id().prop_map(Op::RemoveEngine),
        8 => adapter().prop_map(Op::Schedule),
        1 => adapter_id().prop_map(Op::RemoveAdapter),
        1 => assign(),
        1 => (adapter_id(), engine_id()).prop_map(|(a, e)| Op::Release(a, e)),
        2 => (adapter_id(), engine_id()).prop_map(|(a, e)| Op::Unassign(a, e)),
    ]
}

fn engine() -> impl Strategy<Value = Engine> {
    let flags = (rarely(), rarely(), rarely(), rarely());
    let limits = (option::of(0..4_u32), option::weighted(0.7, 0..4_u32), option::of(select(&[8_u32, 16][..])));
    let rest = (
        option::of(0..30_u64),
        prop_oneof![3 => Just(0), 1 => 1..3_u32],
        select(&[1.0, 1.0, 2.0, f64::NAN, 0.0, -1.0][..]),
        select(&[0.0, 0.0, 1.0, f64::NAN, -1.0, f64::INFINITY][..]),
    );
    (engine_id(), select(&["", "m", "m", "m", "n", "mn"][..]), flags, limits, rest).prop_map(
        |(id, models, (away, fresh, draining, stalled), (max_loras, max_adapters, max_rank), rest)| {
            let (memory, foreign, weight, load) = rest;
            Engine {
                base_models: models.chars().map(String::from).collect(),
                ready: !away,
                stable: !fresh,
                draining,
                stalled,
                max_loras,
                max_adapters,
                max_rank,
                memory,
                foreign,
                weight,
                load,
                ..Engine::new(id)
            }
        },
    )
}

fn adapter() -> impl Strategy<Value = Adapter> {
    let needs = (option::of(select(&["m", "n"][..])), option::of(select(&[8_u32, 16][..])), option::of(0..20_u64));
    let replicas = prop_oneof![1 => Just(Replicas::All), 3 => (0..5_u32).prop_map(Replicas::Count)];
    let sets = (prop_oneof![Just(ALL), 0..=ALL], prop_oneof![2 => Just(0), 1 => 0..=ALL]);
    let policy = select(&["default", "default", "least-adapters", "least-adapters", "unheard-of"][..]);
    (adapter_id(), needs, replicas, sets, policy, -1..2_i32).prop_map(
        |(id, (base_model, rank, memory), replicas, (engines, avoid), policy, priority)| Adapter {
            base_model: base_model.map(String::from),
            rank,
            memory,
            replicas,
            engines: subset(engines).into(),
            avoid: subset(avoid),
            policy: policy.to_owned(),
            priority,
            ..Adapter::new(id)
        },
    )
}

fn subset(bits: u8) -> BTreeSet<EngineId> {
    engine_ids().enumerate().filter(|(at, _)| bits & (1 << at) != 0).map(|(_, id)| id).collect()
}

fn rarely() -> impl Strategy<Value = bool> {
    proptest::bool::weighted(0.2)
}
