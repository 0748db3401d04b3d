//! The brain: facts in, effects out, no clock and no IO.
//!
//! A [`Reconciler`] is told what somebody sees ([`Fact`]) and when, and says what is to be done ([`Effect`]). A driver
//! carries that out and brings what became of it back as further facts. The same brain runs on a cluster, on a list of
//! engines on one machine, and in tests that replay thousands of failures, a seed each.
//!
//! It is level-triggered: it compares what is wanted with what is known, so a fact that is lost, repeated or late is
//! healed by the next one. What it deliberately may not do: wait, ask for the time, draw random numbers, or reach out to
//! anything. Phases, conditions and counts are derived from the state when they are shown and never kept beside it.
//!
//! Of one adapter on one engine: wanted, loading, loaded; or backing off, refused; or draining, unloading, gone.
//!
//! ```
//! use longshore_reconciler::{Config, Effect, EngineSeen, Fact, Reconciler};
//! use longshore_types::{Address, EngineId, EngineKind, Namespace, Timestamp};
//!
//! let mut reconciler = Reconciler::new(Config::default());
//! let now = Timestamp::from_millis(0);
//! let id = EngineId::new(Namespace::default_namespace(), "gpu-0:8000");
//! reconciler.observe(now, Fact::Engine(Box::new(EngineSeen {
//!     id: id.clone(),
//!     kind: EngineKind::Vllm,
//!     address: Address::new("gpu-0", 8000),
//!     labels: [("app".to_owned(), "vllm".to_owned())].into(),
//!     base_model: None,
//!     boot: None,
//!     ready: true,
//!     ready_for: None,
//!     terminating: false,
//!     trusted: true,
//!     max_loras: None,
//!     max_cpu_loras: None,
//!     max_lora_rank: None,
//!     adapter_memory: None,
//! })));
//!
//! // An engine that nothing is known of is listed first.
//! let effects = reconciler.decide(now);
//! assert!(effects.iter().any(|effect| matches!(effect, Effect::List { engine } if *engine == id)));
//! ```

mod adapter;
mod config;
mod effect;
mod engine;
mod fact;
mod reconciler;
mod timers;
mod unfinished;

pub use config::Config;
pub use effect::{Effect, Endpoint, Event, Load, LogLine, Retry, Route, StatusWrite, Unload};
pub use fact::{EngineSeen, Fact, Listing, ObjectSeen, ResidentSeen, Resolved};
pub use reconciler::Reconciler;
pub use unfinished::Unfinished;

/// The names of the placement policies that an adapter may ask for.
pub fn policies() -> &'static [&'static str] {
    longshore_scheduler::Scheduler::policies()
}
