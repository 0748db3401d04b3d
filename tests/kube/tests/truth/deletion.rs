//! Deletion while an engine does not answer.

use k8s_openapi::api::core::v1::ConfigMap;
use longshore_kube_tests::scene::engines::{held, unloads};
use longshore_kube_tests::scene::{Install, SOON};
use longshore_kube_tests::{Cluster, Options, inside};
use longshore_testkit::Faults;

use super::{adapter, artifact, count, engine};

/// The note of what could not be unloaded, if it is there.
async fn note(cluster: &Cluster) -> Result<Option<ConfigMap>, String> {
    let found = cluster.api::<ConfigMap>("default").get_opt("longshore-unfinished").await;
    found.map_err(|error| error.to_string())
}

#[test]
fn i4_a_deletion_ends_beside_an_engine_that_hangs_and_is_made_up_for_when_it_wakes() {
    inside(Options::default(), async |cluster| {
        cluster.install_with(&Install::default().flags(&["--delete-bound=2"])).await;
        let path = artifact(&cluster, "sql", 1);
        let engines =
            [engine(&cluster, "engine-0").await, engine(&cluster, "engine-1").await, engine(&cluster, "engine-2").await];
        let names = ["a", "b", "c", "d", "e"];
        for name in names {
            cluster.apply(&adapter(name, &path, None).to_string()).await;
        }
        for name in names {
            cluster.until_ready_on("default", name, &["engine-0", "engine-1", "engine-2"]).await;
        }

        engines[2].control().set(Faults { hang_all: true, ..Faults::default() }).await;
        cluster.kubectl(&["delete", "modeladapter", "--all", "--timeout=60s"]).await.expect_success();
        cluster.until_gone("default", &names).await;
        assert_eq!((count(&engines[0]).await, count(&engines[1]).await), (0, 0));
        for name in names {
            assert_eq!(cluster.ready_on("default", name).await.unwrap(), Vec::<String>::new());
        }
        let written = note(&cluster).await.unwrap().unwrap();
        let text = format!("{:?}{:?}", written.data, written.binary_data);
        assert!(text.contains("engine-2") || text.contains("uid"), "{text}");

        // It wakes: what is left there goes, and then the note.
        engines[2].control().set(Faults::default()).await;
        cluster
            .wait_for("nothing on the engine that woke, and no note", SOON, async || {
                let held = held(engines[2].sim.addr()).await?;
                match (held.is_empty(), note(&cluster).await?) {
                    (true, None) => Ok(()),
                    (_, note) => Err(format!("{held:?}, {:?}", note.and_then(|note| note.data))),
                }
            })
            .await;
        for name in names {
            assert_eq!(unloads(&engines[2].control().log(), name), 1, "{name}");
        }
    });
}
