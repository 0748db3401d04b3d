//! Our own process: killed, and begun again from what it left in the world.

use super::*;

impl World {
    /// Our process is killed and another one begins at once. What it was told is told again; what it waited for is lost,
    /// and what it had asked for has just happened or never will.
    pub fn restart_ours(&mut self) {
        self.reconciler = Reconciler::new(self.config.clone());
        self.pinned.clear();
        for (_, later) in std::mem::take(&mut self.queue) {
            self.is_cut_off(later);
        }
        self.process += 1;
        (self.latest, self.told_retries) = Default::default();
        for engine in self.engines.values_mut() {
            engine.loading = None;
            engine.unloading.clear();
        }
        if !self.cluster {
            // The router is part of the process, and so is everything that was shown.
            (self.routes, self.statuses) = Default::default();
        }
        let present: Vec<String> =
            self.engines.values().filter(|engine| engine.present).map(|engine| engine.id.name.to_string()).collect();
        for name in present {
            let seen = self.seen(&name);
            self.observe(Fact::Engine(Box::new(seen)));
        }
        for (key, seen) in self.objects.clone() {
            let shown = self.statuses.get(&key).and_then(|shown| shown.last()).cloned();
            self.observe(Fact::Applied(Box::new(ObjectSeen { shown, ..seen })));
        }
        self.observe(Fact::Unfinished(self.note.iter().cloned().collect()));
        self.reconciler.observe(self.at(), Fact::Synced);
        self.decide_soon();
    }

    fn is_cut_off(&mut self, later: Later) {
        let done = self.chance() || self.rng.random_bool(0.5);
        match later {
            Later::FinishLoad(load, _) if done => self.happen(Later::FinishLoad(load, false)),
            Later::FinishUnload(unload) if done => {
                let engine = self.engines.get_mut(&unload.engine).unwrap();
                let same_life = engine.alive && engine.boot.to_string() == unload.boot.as_str();
                if same_life && !engine.hangs && engine.unload_fails.is_none() {
                    engine.residents.remove(unload.name.as_str());
                }
            }
            Later::Publish(route) if done && self.cluster && !self.publish_fails => self.take_route(route),
            Later::ShowBoot(name) => self.later(1, Later::ShowBoot(name)),
            _ => {}
        }
    }
}
