//! What the controller and the router may do: one table, and the roles and the page that are written from it.
//!
//! A verb is here because the code sends such a request. The whole-system tests hold the table against an API server's
//! audit log, in both directions: [`mod@super::audit`].

mod render;

use std::fmt;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::Generated;
use crate::Workspace;
pub use render::{docs_table, roles};

/// Where both are installed, unless an overlay says otherwise.
pub const HOME: &str = "longshore-system";

/// The page that shows the table.
const PAGE: &str = "docs/install.md";
/// What stands around the table there.
const BEGIN: &str = "<!-- written by `cargo xtask rbac`: begin -->";
const END: &str = "<!-- written by `cargo xtask rbac`: end -->";

/// Who is granted something: a ServiceAccount of [`HOME`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Account {
    /// `longshore-controller`.
    Controller,
    /// `longshore-router`.
    Router,
}

impl Account {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Controller, Self::Router];

    /// The ServiceAccount's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Controller => "longshore-controller",
            Self::Router => "longshore-router",
        }
    }
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// How far a grant reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reach {
    /// The namespaces whose adapters are served: all of them, or those that `--namespace` names.
    Served,
    /// What belongs to no namespace, or to all of them at once. In namespaced mode it is done without.
    Cluster,
    /// The namespace that both are installed in.
    Home,
}

/// One line of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Who.
    pub account: Account,
    /// Where.
    pub reach: Reach,
    /// API group, empty for the core's.
    pub group: &'static str,
    /// Resource, with its subresource behind a slash.
    pub resource: &'static str,
    /// The objects' names; any where empty.
    pub names: &'static [&'static str],
    /// What may be done.
    pub verbs: &'static [&'static str],
    /// What it is for.
    pub why: &'static str,
}

const fn grant(
    account: Account,
    reach: Reach,
    (group, resource): (&'static str, &'static str),
    names: &'static [&'static str],
    verbs: &'static [&'static str],
    why: &'static str,
) -> Grant {
    Grant { account, reach, group, resource, names, verbs, why }
}

const ANY: &[&str] = &[];

use Account::{Controller, Router};
use Reach::{Cluster, Home, Served};

/// The table.
///
/// There is no `create` without a reason: a server-side apply that makes an object is checked for `patch` and for
/// `create`. `modeladapters/finalizers` is not needed, because owner references of ours do not set `blockOwnerDeletion`;
/// where the admission plugin OwnerReferencesPermissionEnforcement is on, writing them asks for `delete` on the owned
/// object, which is granted. Secrets are neither listed nor watched.
pub const GRANTS: &[Grant] = &[
    grant(
        Controller,
        Served,
        ("model.aibrix.ai", "modeladapters"),
        ANY,
        &["get", "list", "watch", "patch"],
        "sees adapters; writes their finalizer and retry annotations, never a spec",
    ),
    grant(
        Controller,
        Served,
        ("model.aibrix.ai", "modeladapters/status"),
        ANY,
        &["patch"],
        "shows phase, counts and conditions",
    ),
    grant(
        Controller,
        Served,
        ("", "pods"),
        ANY,
        &["list", "watch"],
        "finds engines, and sees them come, restart and go",
    ),
    grant(
        Controller,
        Served,
        ("", "services"),
        ANY,
        &["get", "list", "watch", "create", "patch", "delete"],
        "each adapter's headless Service; one that is somebody else's is never touched",
    ),
    grant(
        Controller,
        Served,
        ("discovery.k8s.io", "endpointslices"),
        ANY,
        &["get", "list", "watch", "create", "patch", "delete"],
        "which engines answer for an adapter",
    ),
    grant(
        Controller,
        Served,
        ("", "secrets"),
        ANY,
        &["get"],
        "reads by name what an adapter or an engine's pod refers to in its own namespace",
    ),
    grant(
        Controller,
        Served,
        ("", "configmaps"),
        &["longshore-unfinished"],
        &["get", "patch", "delete"],
        "the note of what could not be unloaded before an adapter's object went",
    ),
    grant(
        Controller,
        Cluster,
        ("", "configmaps"),
        &["longshore-unfinished"],
        &["list"],
        "those notes of all namespaces, at its start",
    ),
    // A request that creates does not tell the name to the authorizer, unless it is an apply.
    grant(Controller, Served, ("", "configmaps"), ANY, &["create"], "that note, the first time"),
    grant(Controller, Served, ("events.k8s.io", "events"), ANY, &["create", "patch"], "says what happened"),
    grant(
        Controller,
        Cluster,
        ("", "nodes"),
        ANY,
        &["get"],
        "the zone of a pod's node, where the pod itself does not say it",
    ),
    grant(
        Controller,
        Cluster,
        ("authentication.k8s.io", "tokenreviews"),
        ANY,
        &["create"],
        "whether a caller of the fleet API is the router",
    ),
    grant(Controller, Home, ("coordination.k8s.io", "leases"), ANY, &["create"], "leader election, the first time"),
    grant(
        Controller,
        Home,
        ("coordination.k8s.io", "leases"),
        &["longshore-controller"],
        &["get", "update"],
        "leader election",
    ),
    grant(Controller, Home, ("", "pods"), ANY, &["get"], "the leader's address, to pass requests on to it"),
    grant(
        Router,
        Served,
        ("discovery.k8s.io", "endpointslices"),
        ANY,
        &["list", "watch"],
        "which engines answer for an adapter",
    ),
    grant(
        Router,
        Home,
        ("discovery.k8s.io", "endpointslices"),
        ANY,
        &["list", "watch"],
        "the controller's addresses, without DNS",
    ),
];

/// How Longshore is installed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// For all namespaces: `deploy/`.
    Cluster,
    /// For the namespace that it is installed in, with nothing that reaches beyond: `deploy/namespaced/`.
    Namespaced,
}

impl Mode {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Cluster, Self::Namespaced];

    /// The file with its roles.
    pub const fn path(self) -> &'static str {
        match self {
            Self::Cluster => "deploy/rbac.yaml",
            Self::Namespaced => "deploy/namespaced/rbac.yaml",
        }
    }
}

/// Everything that is written from the table: the roles, and the page with its table renewed.
///
/// # Errors
/// Where the page cannot be read, or has lost the marks around the table.
pub fn files(workspace: &Workspace) -> Result<Vec<Generated>> {
    let roles = Mode::ALL.map(|mode| Generated { path: mode.path().into(), text: roles(mode), task: "rbac" });
    let page = fs::read_to_string(workspace.root().join(PAGE)).with_context(|| format!("cannot read {PAGE}"))?;
    let text = renewed(&page).with_context(|| format!("{PAGE} has lost `{BEGIN}` or `{END}`"))?;
    let page = Generated { path: Path::new(PAGE).into(), text, task: "rbac" };
    Ok(roles.into_iter().chain([page]).collect())
}

/// `page` with the table between the marks written anew.
fn renewed(page: &str) -> Option<String> {
    let (before, rest) = page.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n\n{}\n{END}{after}", docs_table()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_committed_roles_and_the_page_are_those_of_the_table() {
        let workspace = Workspace::find().unwrap();
        for file in files(&workspace).unwrap() {
            assert_eq!(file.stale(&workspace).unwrap(), None);
        }
    }

    #[test]
    fn nothing_is_granted_twice_to_one_account_at_one_reach() {
        let mut seen = BTreeSet::new();
        for grant in GRANTS {
            for verb in grant.verbs {
                let new = seen.insert((grant.account, grant.reach, grant.group, grant.resource, verb));
                assert!(new, "{} may {verb} {} twice", grant.account, grant.resource);
            }
        }
    }

    #[test]
    fn i7_no_secret_can_be_listed_and_no_wildcard_is_granted() {
        for grant in GRANTS {
            if grant.resource == "secrets" {
                assert_eq!(grant.verbs, ["get"]);
            }
            let words = [grant.group, grant.resource].into_iter().chain(grant.verbs.iter().copied());
            assert!(words.chain(grant.names.iter().copied()).all(|word| !word.contains('*')), "{grant:?}");
        }
    }

    #[test]
    fn every_verb_is_one_that_the_server_knows() {
        let known = ["get", "list", "watch", "create", "update", "patch", "delete"];
        assert!(GRANTS.iter().flat_map(|grant| grant.verbs).all(|verb| known.contains(verb)));
    }

    #[test]
    fn a_page_keeps_everything_but_the_table() {
        let page = format!("before\n{BEGIN}\nold\n{END}\nafter\n");
        let new = renewed(&page).unwrap();
        assert!(new.starts_with("before\n") && new.ends_with("\nafter\n") && !new.contains("old"), "{new}");
        assert_eq!(renewed(&new), Some(new.clone()));
        assert_eq!(renewed("no marks"), None);
    }
}
