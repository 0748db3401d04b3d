//! What an actor asks of the one that decides.

use longshore_api::fleet;
use longshore_reconciler::{Effect, Fact, Reconciler};
use longshore_types::{AdapterKey, EngineId, Timestamp};

/// The one that decides: the reconciler, or a script in a test of the actor alone.
pub(crate) trait Brain: Send + 'static {
    fn observe(&mut self, now: Timestamp, fact: Fact);
    fn decide(&mut self, now: Timestamp) -> Vec<Effect>;
    fn wake_at(&self) -> Option<Timestamp>;
    /// With the endpoints of the route that was sent out last.
    fn adapter(&self, key: &AdapterKey) -> Option<fleet::Adapter>;
    fn engine(&self, id: &EngineId) -> Option<fleet::Engine>;
    /// Whether every route that a process before this one has left is decided on anew.
    fn has_settled(&self) -> bool;
    /// Whether it must be told of the engine although no object selects it.
    fn is_involved(&self, id: &EngineId) -> bool;
}

impl Brain for Reconciler {
    fn observe(&mut self, now: Timestamp, fact: Fact) {
        self.observe(now, fact);
    }
    fn decide(&mut self, now: Timestamp) -> Vec<Effect> {
        self.decide(now)
    }
    fn wake_at(&self) -> Option<Timestamp> {
        self.wake_at()
    }
    fn adapter(&self, key: &AdapterKey) -> Option<fleet::Adapter> {
        self.adapter(key)
    }
    fn engine(&self, id: &EngineId) -> Option<fleet::Engine> {
        self.engine(id)
    }
    fn has_settled(&self) -> bool {
        self.has_settled()
    }
    fn is_involved(&self, id: &EngineId) -> bool {
        self.is_involved(id)
    }
}
