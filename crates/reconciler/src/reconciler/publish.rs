//! Where requests for an adapter may go: only to lives that have confirmed it (I1).

use std::collections::BTreeSet;
use std::time::Duration;

use longshore_types::{AdapterKey, Fault, Timestamp};

use super::{Reconciler, Wake};
use crate::engine::Step;
use crate::{Effect, Endpoint, Route};

/// How long to wait before publishing is tried again after it failed.
const REPUBLISH: Duration = Duration::from_secs(1);

impl Reconciler {
    pub(super) fn endpoints(&self, key: &AdapterKey) -> Vec<Endpoint> {
        let Some(adapter) = self.adapters.get(key) else { return Vec::new() };
        if adapter.deleting || !self.has_its_name(key) {
            return Vec::new();
        }
        let mut endpoints = Vec::new();
        for (id, engine, root) in self.holders_of(key) {
            let (true, true, Some(boot)) = (engine.is_usable(), adapter.may_serve(id, root), &engine.boot) else {
                continue;
            };
            let known = adapter.matching.contains(id) || adapter.surplus.contains(id);
            let taken = engine.base_models.iter().any(|base| base.as_str() == key.name.as_str());
            if known && !taken && !engine.leaving.contains_key(&key.name) {
                endpoints.push(Endpoint {
                    engine: id.clone(),
                    boot: boot.clone(),
                    kind: engine.seen.kind,
                    address: engine.seen.address.clone(),
                    digest: root.digest(),
                    base_model: engine.base_models.first().cloned(),
                });
            }
        }
        endpoints
    }

    pub(super) fn step_route(&mut self, now: Timestamp, key: &AdapterKey) {
        if self.route_stands_still(key) {
            return;
        }
        let endpoints = self.endpoints(key);
        let Some(adapter) = self.adapters.get_mut(key) else { return };
        if !endpoints.is_empty() || adapter.swap_until.is_some_and(|until| until <= now) || adapter.deleting {
            adapter.swap_until = None;
        }
        if let Some(until) = adapter.swap_until {
            self.timers.wake(Wake::Adapter(key.clone()), until);
        }
        let swapping = adapter.swap_until.is_some();
        let unchanged = match &adapter.route {
            Some(route) => route.endpoints == endpoints && route.swapping == swapping,
            None => endpoints.is_empty() && !swapping && !adapter.inherited,
        };
        if !unchanged {
            // One count for all, so that a late route of an adapter that was deleted and declared again stays behind.
            self.routes_sent += 1;
            adapter.sequence = self.routes_sent;
            adapter.abroad.insert(adapter.sequence, endpoints.clone());
            let route = Route { adapter: key.clone(), sequence: adapter.sequence, endpoints, swapping };
            adapter.route = Some(route.clone());
            self.effects.push(Effect::Publish(route));
        }
        self.note_withdrawal(now, key);
    }

    /// Whether routers are left with the route of the process before this one: it is not known yet which engines still hold
    /// the adapter, and a route with those alone that have answered first would take the others away.
    fn route_stands_still(&self, key: &AdapterKey) -> bool {
        let Some(adapter) = self.adapters.get(key).filter(|a| a.inherited && a.route.is_none() && !a.deleting) else {
            return false;
        };
        !self.settled || (adapter.target.is_none() && adapter.resolving.is_some())
    }

    /// What leaves is drained once routers have confirmed a route without it; at once where none that they may go by leads
    /// there.
    fn note_withdrawal(&mut self, now: Timestamp, key: &AdapterKey) {
        let Some(adapter) = self.adapters.get(key) else { return };
        let sequence = adapter.sequence;
        let around: Vec<_> = adapter.matching.union(&adapter.surplus).cloned().collect();
        for id in around {
            let Some(engine) = self.engines.get_mut(&id) else { continue };
            let Some(leaving) = engine.leaving.get_mut(&key.name) else { continue };
            // Another object that claims the name has routes of its own.
            if leaving.step != Step::Withdrawing(None) || leaving.owner.as_ref() != Some(key) {
                continue;
            }
            let Some(adapter) = self.adapters.get(key) else { return };
            if adapter.inherited || adapter.abroad.values().flatten().any(|endpoint| endpoint.engine == id) {
                leaving.step = Step::Withdrawing(Some(sequence));
            } else {
                self.begin_drain(now, &id, &key.name);
            }
        }
    }

    pub(super) fn route_published(
        &mut self,
        now: Timestamp,
        key: &AdapterKey,
        sequence: u64,
        result: Result<(), Fault>,
        notice: Option<Fault>,
    ) {
        let Some(adapter) = self.adapters.get_mut(key) else { return };
        self.dirty_adapters.insert(key.clone());
        // Another object that claims the name may have waited for this.
        let claims = self.claims.get(&(key.namespace().clone(), key.name.clone()));
        self.dirty_adapters.extend(claims.and_then(BTreeSet::first).map(|(_, owner)| owner.clone()));
        match result {
            Ok(()) => {
                // Routers go by what this process says from now on.
                adapter.inherited = false;
                if adapter.notice.0 <= sequence {
                    let before = std::mem::replace(&mut adapter.notice, (sequence, notice.clone())).1;
                    if let Some(news) = notice.filter(|notice| before.as_ref() != Some(notice)) {
                        self.say_notice(now, &key.object, news);
                    }
                }
                let Some(adapter) = self.adapters.get_mut(key) else { return };
                adapter.publish_fault.take_if(|(of, _)| *of <= sequence);
                adapter.abroad = adapter.abroad.split_off(&sequence);
                if let Some(route) = adapter.route.as_ref().filter(|route| route.sequence == sequence) {
                    let confirmed = route.endpoints.iter().map(|e| (e.engine.clone(), e.boot.clone()));
                    adapter.published = confirmed.collect();
                }
                let around: Vec<_> = adapter.matching.union(&adapter.surplus).cloned().collect();
                for id in around {
                    let leaving = self.engines.get(&id).and_then(|engine| engine.leaving.get(&key.name));
                    let step =
                        leaving.filter(|leaving| leaving.owner.as_ref() == Some(key)).map(|leaving| &leaving.step);
                    if matches!(step, Some(Step::Withdrawing(Some(of))) if *of <= sequence) {
                        self.begin_drain(now, &id, &key.name);
                    }
                }
            }
            Err(fault) => {
                // A later one has taken its place otherwise, and is answered itself.
                if adapter.sequence == sequence {
                    adapter.publish_fault = Some((sequence, fault));
                    self.timers.wake(Wake::Republish(key.clone()), now + REPUBLISH);
                }
            }
        }
    }

    /// Publishes once more what failed, under its old number since things wait for that, unless another route has taken
    /// its place.
    pub(super) fn republish_due(&mut self, key: &AdapterKey) {
        let Some(adapter) = self.adapters.get(key) else { return };
        let failed = adapter.publish_fault.as_ref().map(|(of, _)| *of);
        if let Some(route) = adapter.route.as_ref().filter(|route| Some(route.sequence) == failed) {
            self.effects.push(Effect::Publish(route.clone()));
        }
    }

    /// Endpoints that routers have been given and that still stand.
    pub(super) fn ready_endpoints(&self, key: &AdapterKey) -> Vec<&Endpoint> {
        let Some(adapter) = self.adapters.get(key) else { return Vec::new() };
        let sent = adapter.route.iter().flat_map(|route| &route.endpoints);
        sent.filter(|e| adapter.published.contains(&(e.engine.clone(), e.boot.clone()))).collect()
    }
}
