//! From an artifact reference to what engines are told to load.

use std::time::Duration;

use longshore_types::{AdapterKey, Fault, Timestamp};

use super::pins::Holder;
use super::{Reconciler, Wake};
use crate::adapter::{Gate, Target, Trouble};
use crate::{Effect, Resolved};

/// The longest wait between two attempts to resolve a source that fails for a passing reason.
const LONGEST_RESOLVE_WAIT: Duration = Duration::from_secs(300);

impl Reconciler {
    pub(super) fn step_resolve(&mut self, now: Timestamp, key: &AdapterKey) {
        let wins = self.has_its_name(key);
        let Some(adapter) = self.adapters.get_mut(key) else { return };
        if adapter.deleting || !wins {
            return;
        }
        if !adapter.needs_resolving(now) {
            if let Some(until) = adapter.resolve_wait.and_then(|(_, until)| until).filter(|until| *until > now) {
                self.timers.wake(Wake::Adapter(key.clone()), until);
            }
            return;
        }
        adapter.resolving = Some(adapter.spec.generation);
        self.effects.push(Effect::Resolve(Box::new(adapter.spec.clone())));
    }

    pub(super) fn resolved(
        &mut self,
        now: Timestamp,
        key: &AdapterKey,
        generation: i64,
        result: Result<Resolved, Fault>,
    ) {
        let Some(adapter) = self.adapters.get_mut(key) else { return };
        if adapter.resolving != Some(generation) {
            return;
        }
        adapter.resolving = None;
        self.dirty_adapters.insert(key.clone());
        match result {
            Ok(resolved) => self.take_target(now, key, Target { resolved, generation: Some(generation) }),
            Err(fault) => {
                adapter.resolve_failures += 1;
                let wait = if fault.is_transient() {
                    let doublings = (adapter.resolve_failures - 1).min(16);
                    (self.config.retry_base * 2_u32.pow(doublings)).min(LONGEST_RESOLVE_WAIT)
                } else {
                    self.config.refusal_retry
                };
                let until = now + wait;
                adapter.resolve_wait = Some((generation, Some(until)));
                let (reason, message) = (fault.reason, fault.message.clone());
                if adapter.target.is_none() {
                    // What was served before a restart of ours, as status records it, goes on being served.
                    let before = adapter.previous.take().or_else(|| adapter.left_by_aibrix());
                    adapter.target = before.map(|resolved| Target { resolved, generation: None });
                    adapter.needs_placement = true;
                }
                if adapter.target.is_some() {
                    adapter.update_failed = Some(fault);
                } else {
                    adapter.trouble = Some(Trouble { fault, retry_at: until });
                }
                self.timers.wake(Wake::Adapter(key.clone()), until);
                let said = self.objects.get(&key.object).is_some_and(|it| it.inherited("Ready", "False", reason));
                if !said {
                    self.event(now, key, true, "LoadFailed", message, None);
                }
            }
        }
    }

    fn take_target(&mut self, now: Timestamp, key: &AdapterKey, target: Target) {
        let warned =
            self.adapters.get_mut(key).and_then(|adapter| std::mem::replace(&mut adapter.warned, target.generation));
        if warned != target.generation {
            for (reason, message) in target.resolved.warnings.clone() {
                self.event(now, key, true, reason, message, None);
            }
        }
        let root = target.resolved.root.clone();
        self.pin(&root, Holder::Adapter(key.clone()));
        let Some(adapter) = self.adapters.get_mut(key) else { return };
        adapter.resolve_failures = 0;
        adapter.resolve_wait = None;
        adapter.trouble = None;
        adapter.update_failed = None;
        adapter.needs_placement = true;
        let Some(old) = adapter.target.replace(target) else { return self.go_on_from_status(key) };
        if old.resolved.root == root {
            return;
        }
        // A change of bytes: what failed with the old ones says nothing about the new ones.
        adapter.replicas.clear();
        adapter.accepted.insert(old.resolved.root.clone());
        adapter.gate = Some(Gate::Ask);
        let before = adapter.previous.replace(old.resolved);
        self.release_root(now, key, before);
    }

    /// The first target since this process began, where status records what was served before: a change that was under
    /// way, or that was made meanwhile, is gone on with.
    fn go_on_from_status(&mut self, key: &AdapterKey) {
        let Some(adapter) = self.adapters.get_mut(key) else { return };
        let Some(root) = adapter.root().cloned() else { return };
        if adapter.previous.as_ref().is_some_and(|previous| previous.root == root) {
            let before = adapter.accepted.iter().find(|accepted| **accepted != root).cloned();
            let before = before.map(|root| Resolved { root, bytes: None, rank: None, warnings: Vec::new() });
            adapter.previous.clone_from(&before);
            if let Some(before) = before {
                self.pin(&before.root, Holder::Adapter(key.clone()));
            }
        }
        let Some(adapter) = self.adapters.get_mut(key) else { return };
        if adapter.roots().len() > 1 {
            adapter.gate = Some(Gate::Ask);
        }
        self.dirty_adapters.insert(key.clone());
    }

    /// Engines refused the new bytes for a reason that lies in the bytes. Where others were served before, they stay,
    /// and engines that were changed over already go back.
    pub(super) fn artifact_refused(&mut self, now: Timestamp, key: &AdapterKey, fault: Fault) {
        let until = now + self.config.refusal_retry;
        let Some(adapter) = self.adapters.get_mut(key) else { return };
        let generation = adapter.spec.generation;
        adapter.needs_placement = true;
        if let Some(previous) = adapter.previous.take() {
            let failed = adapter.target.replace(Target { resolved: previous, generation: None });
            adapter.update_failed = Some(fault);
            // A load of it that is given up may yet succeed: it is ours all the same.
            adapter.accepted.extend(failed.as_ref().map(|failed| failed.resolved.root.clone()));
            // The same bytes would be refused again: only a change of the object helps.
            adapter.resolve_wait = Some((generation, None));
            adapter.replicas.clear();
            adapter.gate = None;
            self.release_root(now, key, failed.map(|failed| failed.resolved));
        } else {
            adapter.trouble = Some(Trouble { fault, retry_at: until });
            self.timers.wake(Wake::Adapter(key.clone()), until);
        }
        self.dirty_adapters.insert(key.clone());
    }

    /// Whether trouble with the artifact keeps the adapter from being tried anywhere. Forgets it once its time is over.
    pub(super) fn in_trouble(&mut self, now: Timestamp, key: &AdapterKey) -> bool {
        let Some(adapter) = self.adapters.get_mut(key) else { return false };
        if adapter.trouble.as_ref().is_some_and(|trouble| trouble.retry_at <= now) {
            adapter.trouble = None;
            adapter.needs_placement = true;
        }
        if let Some(trouble) = &adapter.trouble {
            self.timers.wake(Wake::Adapter(key.clone()), trouble.retry_at);
        }
        adapter.trouble.is_some()
    }

    /// Lets go of files that the adapter needs no more: those of neither the target nor the one before it.
    fn release_root(&mut self, now: Timestamp, key: &AdapterKey, resolved: Option<Resolved>) {
        let (Some(resolved), Some(adapter)) = (resolved, self.adapters.get(key)) else { return };
        let kept = adapter.root() == Some(&resolved.root)
            || adapter.previous.as_ref().is_some_and(|previous| previous.root == resolved.root);
        if !kept {
            self.unpin(now, &resolved.root, &Holder::Adapter(key.clone()));
        }
    }

    /// Every engine holds the target: what was served before is history.
    pub(super) fn forget_previous(&mut self, now: Timestamp, key: &AdapterKey) {
        let Some(adapter) = self.adapters.get_mut(key) else { return };
        // Every engine has been asked.
        adapter.restored = false;
        if adapter.update_failed.is_some() || (adapter.previous.is_none() && adapter.roots().len() < 2) {
            return;
        }
        adapter.accepted.clear();
        adapter.aibrix.clear();
        let before = adapter.previous.take();
        self.release_root(now, key, before);
    }

    /// The adapter is gone: so are its claims on files.
    pub(super) fn release_roots(&mut self, now: Timestamp, key: &AdapterKey) {
        let Some(adapter) = self.adapters.get_mut(key) else { return };
        let target = adapter.target.take().map(|target| target.resolved);
        let previous = adapter.previous.take();
        self.release_root(now, key, target);
        self.release_root(now, key, previous);
    }
}
