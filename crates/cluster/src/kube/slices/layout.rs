//! Which endpoint is in which slice.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use longshore_api::labels::owned_name;
use longshore_reconciler::Endpoint;
use longshore_types::EngineId;

use super::{Family, SetKey, Subject, Target, target_of};

/// How many endpoints a slice may have. Kubernetes' own controller has the same bound: a slice stays small enough to be
/// sent whole to every watcher at each change.
pub(in crate::kube) const LONGEST: usize = 100;

/// The endpoints of each slice of a set, by the slice's number.
pub(in crate::kube) type Layout = BTreeMap<u32, Vec<Target>>;

/// What engines are wanted in which set, and what is wrong with those that cannot be written.
pub(in crate::kube) fn sets(
    subject: &Subject,
    endpoints: &[Endpoint],
    pods: &BTreeMap<EngineId, Arc<str>>,
) -> (BTreeMap<SetKey, BTreeSet<Target>>, Vec<String>) {
    let (mut sets, mut refused) = (BTreeMap::<_, BTreeSet<_>>::new(), Vec::new());
    for endpoint in endpoints {
        // The reconciler keeps namespaces apart; a slice cannot even say that a pod is of another one (I7).
        if &endpoint.engine.namespace != subject.namespace() {
            continue;
        }
        match target_of(endpoint, pods.get(&endpoint.engine)) {
            Ok(target) => {
                let set = SetKey {
                    family: Family::of(target.address),
                    port: endpoint.address.port,
                    kind: endpoint.kind,
                    base_model: match subject {
                        Subject::Adapter(_) => endpoint.base_model.clone(),
                        Subject::Base(_, model) => Some(model.clone()),
                    },
                    digest: endpoint.digest,
                };
                sets.entry(set).or_default().insert(target);
            }
            Err(why) => refused.push(why),
        }
    }
    (sets, refused)
}

/// The name of a set's slice. It differs with the owner's uid, so that a new object of an old name never writes on what is
/// left of the one before.
pub(in crate::kube) fn name_of(subject: &Subject, owner: Option<&str>, set: &SetKey, number: u32) -> Arc<str> {
    let digest = set.digest.map(|digest| digest.to_string()).unwrap_or_default();
    let base = set.base_model.as_ref().map_or("", |base| base.as_str());
    let (port, number) = (set.port.to_string(), number.to_string());
    let parts = [owner.unwrap_or("base"), &digest, base, set.kind.as_str(), &port, set.family.as_str(), &number];
    owned_name(subject.model(), &parts).into()
}

/// Spreads a set's endpoints over slices: what has a slice keeps it, what is new fills up slices that change anyway, then
/// other gaps, then slices of its own under numbers that `free` allows. Slices that become empty are left out.
pub(in crate::kube) fn lay_out(before: &Layout, wanted: &BTreeSet<Target>, free: impl Fn(u32) -> bool) -> Layout {
    let mut left: BTreeSet<&Target> = wanted.iter().collect();
    let mut changed = BTreeSet::new();
    let mut after = Layout::new();
    for (number, targets) in before {
        let mut kept = Vec::new();
        for target in targets {
            // What else is known of it may differ, such as its zone: then it is written again in its place.
            match wanted.iter().find(|other| other.is(target)) {
                Some(still) if kept.len() < LONGEST && left.remove(still) => {
                    if still != target {
                        changed.insert(*number);
                    }
                    kept.push(still.clone());
                }
                _ => {
                    changed.insert(*number);
                }
            }
        }
        after.insert(*number, kept);
    }
    let (mut changing, others): (Vec<_>, Vec<_>) = after.keys().copied().partition(|number| changed.contains(number));
    changing.extend(others);
    let mut left = left.into_iter().cloned().peekable();
    for number in changing {
        let Some(slice) = after.get_mut(&number) else { continue };
        let room = LONGEST.saturating_sub(slice.len());
        slice.extend(left.by_ref().take(room));
    }
    let mut number = 0;
    while left.peek().is_some() {
        if !before.contains_key(&number) && free(number) {
            after.insert(number, left.by_ref().take(LONGEST).collect());
        }
        number += 1;
    }
    after.retain(|_, targets| !targets.is_empty());
    for targets in after.values_mut() {
        targets.sort();
    }
    after
}
