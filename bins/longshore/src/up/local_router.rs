//! The router in this process: it is given each table before anybody is told that it has been published, and it knows
//! best which requests are under way.

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};

use longshore_api::fleet::{Adapter, Engine};
use longshore_cluster::fleet::FleetStore;
use longshore_cluster::local::Router;
use longshore_proxy::{InFlight, table_from_fleet};
use longshore_routing::Table;
use longshore_types::EngineId;
use tokio::sync::watch;

/// Turns the fleet into routing tables.
pub struct LocalRouter {
    tables: watch::Sender<Arc<Table>>,
    in_flight: OnceLock<InFlight>,
}

impl LocalRouter {
    /// With an empty table.
    pub fn new() -> (Self, watch::Receiver<Arc<Table>>) {
        let (tables, receiver) = watch::channel(Arc::new(table_from_fleet(&[], &[])));
        (Self { tables, in_flight: OnceLock::new() }, receiver)
    }

    /// The counts of the proxy that goes by the tables.
    pub fn count(&self, in_flight: InFlight) {
        // A second proxy would be a mistake in the wiring; the first one counts.
        let _ = self.in_flight.set(in_flight);
    }
}

impl Router for LocalRouter {
    fn active_on(&self, engine: &EngineId) -> BTreeSet<Arc<str>> {
        let active = self.in_flight.get().map(|in_flight| in_flight.active_on(engine)).unwrap_or_default();
        active.iter().map(|name| Arc::from(name.as_str())).collect()
    }

    fn fleet_changed(&self, fleet: &FleetStore) {
        let adapters: Vec<Adapter> = fleet.adapters().items.iter().map(|item| Adapter::clone(item)).collect();
        let engines: Vec<Engine> = fleet.engines().items.iter().map(|item| Engine::clone(item)).collect();
        self.tables.send_replace(Arc::new(table_from_fleet(&adapters, &engines)));
    }
}
