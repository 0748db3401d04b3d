//! Which LoRA adapter on which inference engine: a pure, embeddable placement library.
//!
//! You tell a [`Scheduler`] about engines and hand it adapters, one at a time. It answers each with a [`Decision`]:
//! which engines hold the adapter from now on, what that adds and takes away, and, where a replica found no place, a
//! counted reason for every engine that was refused. It remembers what it has decided and counts it against every
//! engine's limits, so the next decision starts from there and costs only what it looks at.
//!
//! ```
//! use longshore_scheduler::{Adapter, Engine, EngineSet, Replicas, Scheduler};
//!
//! let mut scheduler = Scheduler::new();
//! for name in ["gpu-0", "gpu-1", "gpu-2"] {
//!     scheduler.set_engine(Engine { max_adapters: Some(8), max_rank: Some(16), ..Engine::new(name) });
//! }
//! let everywhere = EngineSet::from(["gpu-0", "gpu-1", "gpu-2"]);
//!
//! let sql = Adapter { rank: Some(8), replicas: Replicas::Count(2), engines: everywhere.clone(), ..Adapter::new("sql") };
//! let decision = scheduler.schedule_adapter(&sql);
//! assert_eq!(decision.added, ["gpu-0".into(), "gpu-1".into()]);
//!
//! // The same wish in the same world moves nothing.
//! assert!(scheduler.schedule_adapter(&sql).is_unchanged());
//!
//! // What cannot be placed says why, engine by engine.
//! let wide = Adapter { rank: Some(64), engines: everywhere, ..Adapter::new("wide") };
//! let unplaced = scheduler.schedule_adapter(&wide).unplaced.expect("no engine takes rank 64");
//! assert_eq!(unplaced.to_string(), "0/3 engines: 3 rank 64 above max_lora_rank 16");
//! ```
//!
//! # What a decision is made of
//!
//! 1. **Pre-filter.** What the adapter holds on engines that its selector no longer matches is let go.
//! 2. **Filter.** Every engine that matches passes through one small rule after the other; the first that fails is the
//!    [`Reason`]. Three kinds of rules:
//!    * *permanent*: base model, rank. What breaks one is also taken away where it is already assigned;
//!    * *for every new replica*: base model known, not avoided, not draining, a free slot, enough memory;
//!    * *for a choice*, so under [`Replicas::Count`] only: ready, stable, not stalled. [`Replicas::All`] leaves no choice to
//!      be made: such an engine is assigned at once and loads as soon as it is ready.
//! 3. **Score.** The adapter's [`Policy`] gives each engine a [`Score`]; lower is better.
//! 4. **Select.** Under `Count(n)` the first `n` of this order are taken: held and ready; held but not ready or stalled;
//!    new; held but draining; held but avoided. Within each, lower score first, then id. So a flap of readiness moves
//!    nothing, an avoided engine is left only for a better one, and surplus goes worst first. Under `All` everything
//!    that passed is taken.
//!    (Preemption belongs here: after a selection that came out short, before anything is reserved.)
//! 5. **Reserve.** New replicas take their slots at once. What is let go keeps its slot, as *leaving*, until
//!    [`Scheduler::unassign`] says that it is gone: an engine that still holds an adapter has no room for another.
//!
//! # What it promises
//!
//! * No decision takes an engine above [`Engine::max_adapters`] or [`Engine::memory`], counting what is assigned, what is
//!   leaving and, for slots, what is foreign. What [`Scheduler::assign`] takes over, and limits that shrink below what is
//!   there, are facts: they are kept and nothing is added to them.
//! * The same calls give the same answers, and the order in which engines were told does not matter.
//! * A wish repeated in an unchanged world changes nothing.
//! * The counts of [`Unplaced::reasons`] add up to the engines considered, less those of them that hold the adapter.
//! * Nothing panics, whatever it is given. Numbers that make no sense are read as told at [`Engine::weight`] and
//!   [`Engine::load`].
//!
//! # What it leaves to its caller
//!
//! It has no clock, no thread and does no IO; it knows nothing of Kubernetes and neither loads nor unloads. The caller
//! matches selectors, decides how long a failing engine is avoided, and calls again when something has changed:
//! [`Scheduler::waiting`] gives, by priority, the adapters for which a freed slot or a new engine may matter.
//!
//! # A policy of your own
//!
//! See [`Policy`]: one method, and [`Scheduler::add_policy`].

mod adapter;
mod decision;
mod engine;
mod engines;
mod filter;
mod id;
mod pipeline;
mod policy;
mod reason;
mod scheduler;
mod state;

pub use adapter::{Adapter, Preemption, Replicas};
pub use decision::{AdapterStatus, Decision, Unplaced};
pub use engine::{DEFAULT_SLOTS, Engine};
pub use engines::EngineSet;
pub use id::{AdapterId, EngineId};
pub use policy::{Candidate, DEFAULT_POLICY, DefaultPolicy, LeastAdapters, Policy, Score};
pub use reason::{Class, Reason};
pub use scheduler::Scheduler;

/// The example in the README is a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
