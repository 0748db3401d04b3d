//! What the controller and the router may do is what they do: everything that is granted is used, and nothing is refused.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod audit {
    pub mod rights;
    pub mod scene;
}

use audit::rights::{granted, refused, used};
use audit::scene::{before, use_everything};
use longshore_kube_tests::scene::{Install, SYSTEM};
use longshore_kube_tests::{Cluster, Options, inside};

/// A deletion gives up on an engine that hangs after a moment.
fn install() -> Install {
    Install::default().flags(&["--delete-bound=1", "--drain=0.5"])
}

/// Holds the log against the roles as they are installed.
async fn every_right_is_used(cluster: &Cluster, home: &str) {
    // Events and what else is written behind everything else.
    cluster.until_quiet().await;
    let (granted, log) = (granted(cluster, home).await, cluster.audit());
    let used = used(&log, home);
    assert!(granted.len() > 20, "{granted:#?}");
    let unused: Vec<_> = granted.difference(&used).collect();
    assert!(unused.is_empty(), "granted and never used: {unused:#?}");
    assert_eq!(refused(&log, home), Vec::<String>::new());
}

#[test]
fn for_all_namespaces_every_right_is_used_and_none_is_missing() {
    inside(Options::default(), async |cluster| {
        cluster.apply_folder("deploy/crds").await;
        let scene = before(&cluster).await;
        cluster.install_with(&install()).await;
        use_everything(&cluster, scene).await;
        every_right_is_used(&cluster, SYSTEM).await;
    });
}

#[test]
fn i7_for_one_namespace_roles_alone_are_enough_and_every_right_in_them_is_used() {
    inside(Options::default(), async |cluster| {
        cluster.apply_folder("deploy/crds").await;
        let scene = before(&cluster).await;
        cluster.install_namespaced(&install()).await;
        use_everything(&cluster, scene).await;
        every_right_is_used(&cluster, "default").await;
        let wide = cluster.kubectl(&["get", "clusterroles,clusterrolebindings", "-o", "name"]).await.expect_success();
        assert!(!wide.contains("longshore"), "{wide}");
    });
}
