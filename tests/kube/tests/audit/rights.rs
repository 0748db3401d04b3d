//! What is granted, and what was asked for.

use std::collections::BTreeSet;

use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule, Role};
use kube::Api;
use kube::api::ListParams;
use longshore_kube_tests::scene::{CONTROLLER, ROUTER};
use longshore_kube_tests::{AuditEntry, Cluster};

/// An account, and a verb on a resource, with its group and subresource.
pub type Right = (&'static str, String);

/// The account whose role this is: `longshore-router-served` is the router's.
fn account_of(role: &str) -> Option<&'static str> {
    let is_of = |account: &&str| role.strip_prefix(*account).is_some_and(|rest| ["", "-served"].contains(&rest));
    [CONTROLLER, ROUTER].into_iter().find(is_of)
}

/// Every right that the roles in the cluster give to our accounts. They live in `home`.
pub async fn granted(cluster: &Cluster, home: &str) -> BTreeSet<Right> {
    let wide: Api<ClusterRole> = Api::all(cluster.client().clone());
    let wide = wide.list(&ListParams::default()).await.unwrap().items;
    let wide = wide.into_iter().map(|role| (role.metadata.name.unwrap(), role.rules.unwrap_or_default()));
    let narrow = cluster.api::<Role>(home).list(&ListParams::default()).await.unwrap().items;
    let narrow = narrow.into_iter().map(|role| (role.metadata.name.unwrap(), role.rules.unwrap_or_default()));
    let mut all = BTreeSet::new();
    for (name, rules) in wide.chain(narrow) {
        if let Some(account) = account_of(&name) {
            all.extend(rules.iter().flat_map(rights).map(|right| (account, right)));
        }
    }
    all
}

fn rights(rule: &PolicyRule) -> Vec<String> {
    let (groups, resources) = (rule.api_groups.iter().flatten(), rule.resources.iter().flatten());
    let pairs = groups.flat_map(|group| resources.clone().map(move |resource| (group, resource)));
    pairs.flat_map(|(group, resource)| rule.verbs.iter().map(move |verb| right(verb, resource, group))).collect()
}

fn right(verb: &str, resource: &str, group: &str) -> String {
    format!("{verb} {resource} of {group:?}")
}

fn asked_by<'a>(log: &'a [AuditEntry], home: &str) -> Vec<(&'static str, &'a AuditEntry)> {
    let by = |entry: &AuditEntry| [CONTROLLER, ROUTER].into_iter().find(|account| entry.is_by(home, account));
    log.iter().filter_map(|entry| Some((by(entry)?, entry))).collect()
}

/// Every right that our accounts have made use of.
pub fn used(log: &[AuditEntry], home: &str) -> BTreeSet<Right> {
    let mut all = BTreeSet::new();
    for (account, entry) in asked_by(log, home) {
        if entry.resource.is_empty() || entry.code == 403 {
            continue;
        }
        let resource = match entry.subresource.as_str() {
            "" => entry.resource.clone(),
            subresource => format!("{}/{subresource}", entry.resource),
        };
        all.insert((account, right(&entry.verb, &resource, &entry.group)));
        // An apply that makes the object is checked for both.
        if (entry.verb.as_str(), entry.code) == ("patch", 201) {
            all.insert((account, right("create", &resource, &entry.group)));
        }
    }
    all
}

/// What our accounts were refused.
pub fn refused(log: &[AuditEntry], home: &str) -> Vec<String> {
    let entries = asked_by(log, home).into_iter().filter(|(_, entry)| [401, 403].contains(&entry.code));
    entries.map(|(account, entry)| format!("{account}: {} {}", entry.verb, entry.uri)).collect()
}
