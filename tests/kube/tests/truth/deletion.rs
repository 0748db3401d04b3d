//! Deletion while an engine does not answer.

use k8s_openapi::api::core::v1::ConfigMap;
use longshore_kube_tests::scene::engines::{adapter, held, unloads};
use longshore_kube_tests::scene::{Install, SOON};
use longshore_kube_tests::{Cluster, Options, inside};
use longshore_testkit::Faults;

/// The note of what could not be unloaded, if it is there.
async fn note(cluster: &Cluster) -> Result<Option<ConfigMap>, String> {
    let found = cluster.api::<ConfigMap>("default").get_opt("longshore-unfinished").await;
    found.map_err(|error| error.to_string())
}

#[test]
fn i4_a_deletion_ends_beside_an_engine_that_hangs_and_is_made_up_for_when_it_wakes() {
    inside(Options::default(), async |cluster| {
        cluster.install_with(&Install::default().flags(&["--delete-bound=2"])).await;
        let path = cluster.artifact("sql", 1);
        let engines = [
            cluster.engine("default", "engine-0").await,
            cluster.engine("default", "engine-1").await,
            cluster.engine("default", "engine-2").await,
        ];
        let names = ["a", "b", "c", "d", "e"];
        for name in names {
            cluster.apply(&adapter("default", name, &path, None)).await;
        }
        for name in names {
            cluster.until_ready_on("default", name, &["engine-0", "engine-1", "engine-2"]).await;
        }

        engines[2].control().set(Faults { hang_all: true, ..Faults::default() }).await;
        cluster.kubectl(&["delete", "modeladapter", "--all", "--timeout=60s"]).await.expect_success();
        cluster.until_gone("default", &names).await;
        assert_eq!([engines[0].held().await, engines[1].held().await], [[""; 0]; 2]);
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

        // In a namespace that ends there can be no note; it ends all the same. The pod stays for as long as somebody else
        // holds it, and its engine hangs.
        let ending = cluster.namespace("ending").await;
        let stuck = cluster.engine(&ending, "stuck").await;
        cluster.apply(&adapter(&ending, "sql", &path, None)).await;
        cluster.until_ready_on(&ending, "sql", &["stuck"]).await;
        let hold = async |finalizers: &str| {
            let patch = format!(r#"{{"metadata": {{"finalizers": {finalizers}}}}}"#);
            let patch = ["patch", "pod", "stuck", "--namespace", &ending, "--type=merge", "-p", &patch];
            cluster.kubectl(&patch).await.expect_success();
        };
        hold(r#"["longshore.dev/test"]"#).await;
        stuck.control().set(Faults { hang_all: true, ..Faults::default() }).await;
        cluster.kubectl(&["delete", "namespace", &ending, "--wait=false"]).await.expect_success();
        // A namespace that ends takes its pods first, and the rest only when they are gone: this is somebody's own deletion.
        let delete = ["delete", "modeladapter", "sql", "--namespace", &ending, "--timeout=60s"];
        cluster.kubectl(&delete).await.expect_success();
        hold("null").await;
        let object = format!("namespace/{ending}");
        cluster.kubectl(&["wait", "--for=delete", &object, "--timeout=60s"]).await.expect_success();
    });
}
