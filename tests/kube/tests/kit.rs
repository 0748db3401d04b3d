//! The kit itself: what tests of the whole system take for granted.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use kube::Api;
use kube::api::ListParams;
use longshore_kube_tests::{Cluster, Engine, ManualPod, Options, SimControl, images, inside, kit_for, manifests};
use longshore_testkit::{Faults, SimConfig, Version};

/// A guard against hanging, far beyond what anything here takes.
const SOON: Duration = Duration::from_secs(60);

/// A pod with one container that runs a shell script.
fn pod(name: &str, script: &str) -> String {
    format!(
        "
apiVersion: v1
kind: Pod
metadata: {{name: {name}, namespace: default}}
spec:
  terminationGracePeriodSeconds: 5
  containers:
  - name: c
    image: sh:1
    args: [{script:?}]
"
    )
}

/// The script of a container that does nothing and ends when it is told to.
const IDLE: &str = "trap 'exit 0' TERM; while :; do sleep 0.05; done";

async fn pods_of(cluster: &Cluster, selector: &str) -> Vec<Pod> {
    let pods: Api<Pod> = cluster.api("default");
    pods.list(&ListParams::default().labels(selector)).await.unwrap().items
}

async fn container(cluster: &Cluster, pod: &str) -> Result<ContainerStatus, String> {
    let pods: Api<Pod> = cluster.api("default");
    let found = pods.get(pod).await.map_err(|error| error.to_string())?;
    let statuses = found.status.and_then(|status| status.container_statuses).unwrap_or_default();
    statuses.into_iter().next().ok_or_else(|| "no status yet".to_owned())
}

async fn until_ready(cluster: &Cluster, pod: &str) {
    let _ = cluster
        .wait_for(pod, SOON, async || {
            let status = container(cluster, pod).await?;
            if status.ready { Ok(()) } else { Err(format!("{status:?}")) }
        })
        .await;
}

#[test]
fn the_pods_of_a_deployment_become_ready_and_go_with_it() {
    inside(Options::default(), async |cluster| {
        let engines = manifests::engines("default", "tiny", 3, &[]).to_string();
        cluster.apply(&engines).await;
        cluster.kubectl(&["rollout", "status", "deployment/tiny", "--timeout=60s"]).await.expect_success();

        let pods = pods_of(&cluster, "model.aibrix.ai/name=tiny").await;
        let mut nodes: Vec<_> = pods.iter().map(|pod| pod.spec.clone().unwrap().node_name.unwrap()).collect();
        nodes.sort();
        assert_eq!(nodes, ["node-a", "node-b", "node-c"], "pods are given to nodes in turn");
        let zones = cluster.kubectl(&[
            "get",
            "nodes",
            "-o",
            "jsonpath={.items[*].metadata.labels.topology\\.kubernetes\\.io/zone}",
        ]);
        assert_eq!(zones.await.expect_success(), "zone-a zone-b", "one node is in no zone");

        cluster.kubectl(&["delete", "deployment/tiny"]).await.expect_success();
        cluster
            .wait_for("no pod", SOON, async || match pods_of(&cluster, "model.aibrix.ai/name=tiny").await.len() {
                0 => Ok(()),
                left => Err(format!("{left} left")),
            })
            .await;
    });
}

#[test]
fn a_container_that_is_killed_is_started_again_and_its_logs_are_kept() {
    inside(Options::default(), async |cluster| {
        cluster.apply(&pod("a", &format!("echo life $(cat /proc/sys/kernel/random/uuid); {IDLE}"))).await;
        until_ready(&cluster, "a").await;
        let before = container(&cluster, "a").await.unwrap();
        let process = cluster.process("default", "a", "c").unwrap();
        let first = cluster.kubectl(&["logs", "a"]).await.expect_success();

        cluster.kill_container("default", "a", "c");
        cluster.process_after("default", "a", "c", process).await;
        let after = cluster
            .wait_for("the restart in the status", SOON, async || {
                let status = container(&cluster, "a").await?;
                if status.restart_count == 1 && status.ready { Ok(status) } else { Err(format!("{status:?}")) }
            })
            .await;
        assert_ne!(before.container_id, after.container_id);
        assert_eq!(after.last_state.unwrap().terminated.unwrap().exit_code, 137);
        let second = cluster
            .wait_for("the second life's first words", SOON, async || {
                let said = cluster.kubectl(&["logs", "a"]).await.expect_success();
                if said.is_empty() { Err("nothing".to_owned()) } else { Ok(said) }
            })
            .await;
        assert_ne!(first, second);
        assert_eq!(cluster.kubectl(&["logs", "a", "--previous"]).await.expect_success(), first);
        assert_eq!(cluster.log("default", "a", "c"), format!("{first}{second}"));
    });
}

#[test]
fn a_service_account_has_just_its_rights_and_the_audit_log_shows_it() {
    inside(Options::default(), async |cluster| {
        cluster
            .apply(
                "
apiVersion: v1
kind: ServiceAccount
metadata: {name: reader, namespace: default}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: reader, namespace: default}
rules: [{apiGroups: [''], resources: [pods], verbs: [list]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: reader, namespace: default}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: reader}
subjects: [{kind: ServiceAccount, name: reader}]
",
            )
            .await;
        let client = cluster.client_of("default", "reader").await;
        let pods: Api<Pod> = Api::namespaced(client.clone(), "default");
        cluster
            .wait_for("the right to list", SOON, async || {
                pods.list(&ListParams::default()).await.map(drop).map_err(|error| error.to_string())
            })
            .await;
        let refused = pods.delete("a", &Default::default()).await.unwrap_err().to_string();
        assert!(refused.contains("forbidden"), "{refused}");

        let log = cluster.audit();
        let last = |verb: &str| log.iter().rfind(|entry| entry.is_by("default", "reader") && entry.verb == verb);
        assert_eq!(last("list").map(|entry| (entry.code, entry.resource.as_str())), Some((200, "pods")));
        assert_eq!(last("delete").map(|entry| (entry.code, entry.name.as_str())), Some((403, "a")));
        assert!(!log.iter().any(|entry| entry.user == "admin"), "the test itself is not in it");
    });
}

#[test]
fn a_pod_has_the_token_of_its_service_account_its_volumes_and_a_root_of_its_own() {
    inside(Options::default(), async |cluster| {
        let said = "echo \"$NAME $KEY $SETTING $AT\"; cat /etc/kit/setting /etc/secret/renamed; echo; \
                    test -s /var/run/secrets/kubernetes.io/serviceaccount/token && echo token; \
                    cut -d. -f2 /own/token | wc -c | grep -q -v '^1$' && echo audience; \
                    touch /data/shared /only-mine && echo writes; touch /etc/kit/x 2>/dev/null || echo read-only; \
                    ls /only-theirs 2>/dev/null || echo alone";
        cluster
            .apply(&format!(
                "
apiVersion: v1
kind: ConfigMap
metadata: {{name: settings, namespace: default}}
data: {{setting: from-a-file}}
---
apiVersion: v1
kind: Secret
metadata: {{name: keys, namespace: default}}
stringData: {{key: hidden}}
---
apiVersion: v1
kind: Pod
metadata: {{name: a, namespace: default}}
spec:
  terminationGracePeriodSeconds: 5
  initContainers:
  - name: first
    image: sh:1
    args: ['echo first; touch /only-theirs']
  - name: beside
    image: sh:1
    restartPolicy: Always
    args: [\"{IDLE}\"]
    volumeMounts: [{{name: data, mountPath: /data}}]
    startupProbe: {{exec: {{command: [test, -d, /data]}}}}
  containers:
  - name: c
    image: sh:1
    command: [sh, -c]
    args: [{script:?}]
    env:
    - {{name: NAME, valueFrom: {{fieldRef: {{fieldPath: metadata.name}}}}}}
    - {{name: KEY, valueFrom: {{secretKeyRef: {{name: keys, key: key}}}}}}
    - {{name: AT, value: $(NAME)-at-$(KEY)}}
    envFrom: [{{prefix: '', configMapRef: {{name: upper}}}}]
    volumeMounts:
    - {{name: settings, mountPath: /etc/kit, readOnly: true}}
    - {{name: keys, mountPath: /etc/secret}}
    - {{name: data, mountPath: /data}}
    - {{name: own, mountPath: /own}}
    readinessProbe: {{exec: {{command: [test, -e, /data/shared]}}, periodSeconds: 30}}
  volumes:
  - {{name: settings, configMap: {{name: settings}}}}
  - {{name: keys, secret: {{secretName: keys, items: [{{key: key, path: renamed}}]}}}}
  - {{name: data, emptyDir: {{}}}}
  - name: own
    projected: {{sources: [{{serviceAccountToken: {{audience: somebody, expirationSeconds: 600, path: token}}}}]}}
",
                script = format!("{said}; {IDLE}")
            ))
            .await;
        // It waits for what is missing, and says so.
        let waiting = cluster
            .wait_for("the missing ConfigMap in the status", SOON, async || {
                let state = container(&cluster, "a").await?.state.and_then(|state| state.waiting);
                let message = state.and_then(|waiting| waiting.message).unwrap_or_default();
                if message.contains("upper") { Ok(message) } else { Err(message) }
            })
            .await;
        assert!(waiting.contains("not found"), "{waiting}");
        cluster.kubectl(&["create", "configmap", "upper", "--from-literal=SETTING=from-env"]).await.expect_success();
        until_ready(&cluster, "a").await;
        assert_eq!(
            cluster.kubectl(&["logs", "a", "-c", "c"]).await.expect_success(),
            "a hidden from-env a-at-hidden\nfrom-a-filehidden\ntoken\naudience\nwrites\nread-only\nalone\n"
        );
        assert_eq!(cluster.log("default", "a", "first"), "first\n");
        for left in ["/only-mine", "/only-theirs", "/etc/kit", "/own"] {
            assert!(!std::path::Path::new(left).exists(), "{left} is on the machine");
        }
    });
}

#[test]
fn a_pod_that_is_deleted_is_told_first_and_killed_when_its_grace_is_over() {
    inside(Options::default(), async |cluster| {
        let stubborn = "trap 'echo told' TERM; while :; do sleep 0.05; done";
        let hook = "\n    lifecycle: {preStop: {exec: {command: [sh, -c, 'echo hook >/proc/1/fd/1']}}}\n";
        let grace = "terminationGracePeriodSeconds: 5";
        let manifest =
            format!("{}{hook}", pod("a", stubborn).trim_end()).replace(grace, "terminationGracePeriodSeconds: 1");
        cluster.apply(&manifest).await;
        until_ready(&cluster, "a").await;
        cluster.kubectl(&["delete", "pod", "a", "--wait", "--timeout=30s"]).await.expect_success();
        assert_eq!(cluster.log("default", "a", "c"), "hook\ntold\n");
        assert_eq!(cluster.process("default", "a", "c"), None);
    });
}

#[test]
fn a_container_that_does_not_answer_its_probe_is_not_ready_and_is_started_again() {
    inside(Options::default(), async |cluster| {
        let args = ["--faults", r#"{"hang_all": false}"#];
        let mut engines = manifests::engines("default", "tiny", 1, &args);
        let container_of = &mut engines["spec"]["template"]["spec"]["containers"][0];
        container_of["livenessProbe"] = serde_json::json!({
            "httpGet": {"path": "/health", "port": 8000}, "periodSeconds": 1, "failureThreshold": 2,
        });
        cluster.apply(&engines.to_string()).await;
        cluster.kubectl(&["rollout", "status", "deployment/tiny", "--timeout=60s"]).await.expect_success();
        let pods = pods_of(&cluster, "model.aibrix.ai/name=tiny").await;
        let name = pods[0].metadata.name.clone().unwrap();
        let engine = SimControl::of_pod(&cluster, "default", &name).await;
        engine.set(Faults { hang_all: true, ..Faults::default() }).await;
        cluster
            .wait_for("a new life, Ready", SOON, async || {
                let status = container(&cluster, &name).await?;
                if status.restart_count == 1 && status.ready { Ok(()) } else { Err(format!("{status:?}")) }
            })
            .await;
    });
}

#[test]
fn a_manual_pod_says_what_the_test_writes() {
    inside(Options::default(), async |cluster| {
        let mut engine = Engine::start(&cluster, "default", "engine-0", SimConfig::default(), |pod: ManualPod| {
            pod.label("app", "engine").node("node-c").ready_for(Duration::from_secs(60))
        })
        .await;
        // The kubelet would have given it an address of its own by the time a real pod of the same age runs.
        cluster.apply(&pod("real", IDLE)).await;
        until_ready(&cluster, "real").await;

        let address = engine.pod.address();
        assert_eq!(cluster.pod_address("default", "engine-0").await, address.ip());
        let first = container(&cluster, "engine-0").await.unwrap();
        assert!(first.ready);
        engine.pod.set_ready(&cluster, false).await;
        assert!(!container(&cluster, "engine-0").await.unwrap().ready);
        engine.pod.restarted(&cluster).await;
        let second = container(&cluster, "engine-0").await.unwrap();
        assert_eq!((first.restart_count, second.restart_count), (0, 1));
        assert_ne!(first.container_id, second.container_id);

        // Pods reach the engine in the test's process.
        let ask = format!(
            "exec 3<>/dev/tcp/{}/{}; echo -e 'GET /health HTTP/1.0\\r\\n\\r' >&3; head -n 1 <&3",
            address.ip(),
            address.port()
        );
        cluster.apply(&pod("asks", &format!("bash -c \"{ask}\"; {IDLE}"))).await;
        cluster
            .wait_for("the engine's answer", SOON, async || {
                let said = cluster.log("default", "asks", "c");
                if said.contains("200 OK") { Ok(()) } else { Err(said) }
            })
            .await;
        engine.pod.delete(&cluster).await;
        assert!(container(&cluster, "engine-0").await.is_err());
        engine.sim.stop().await;
    });
}

#[test]
fn the_api_server_hangs_goes_away_and_comes_back_with_all_that_it_knew() {
    inside(Options::default(), async |cluster| {
        cluster.apply(&pod("a", IDLE)).await;
        until_ready(&cluster, "a").await;
        let process = cluster.process("default", "a", "c");
        let pods: Api<Pod> = cluster.api("default");

        let outage = cluster.api_server_hangs();
        let answer = tokio::time::timeout(Duration::from_millis(300), pods.get("a")).await;
        assert!(answer.is_err(), "{answer:?}");
        outage.over(&cluster).await;
        pods.get("a").await.unwrap();

        let outage = cluster.api_server_away();
        let refused = cluster.wait_for("a refusal", SOON, async || match pods.get("a").await {
            Ok(_) => Err("an answer".to_owned()),
            Err(error) => Ok(error.to_string()),
        });
        refused.await;
        outage.over(&cluster).await;
        cluster
            .wait_for("the same pod", SOON, async || pods.get("a").await.map(drop).map_err(|error| error.to_string()))
            .await;
        assert_eq!(cluster.process("default", "a", "c"), process, "its container has run all the time");
    });
}

#[test]
fn admission_is_that_of_a_cluster() {
    inside(Options { any_cluster: true, ..Options::default() }, async |cluster| {
        let namespace = cluster.namespace("restricted").await;
        let label = "pod-security.kubernetes.io/enforce=restricted";
        cluster.kubectl(&["label", "namespace", &namespace, label]).await.expect_success();
        let manifest = pod("a", IDLE).replace("namespace: default", &format!("namespace: {namespace}"));
        let refused = cluster.kubectl_with(&["apply", "-f", "-"], &manifest).await.expect_failure();
        assert!(refused.contains("violates PodSecurity \"restricted:latest\""), "{refused}");
        cluster.kubectl(&["delete", "namespace", &namespace]).await.expect_success();
    });
}

#[test]
fn nothing_is_left_when_whoever_started_it_is_killed() {
    let Some(kit) = kit_for("nothing_is_left_when_whoever_started_it_is_killed") else { return };
    let dir = tempfile::tempdir().unwrap();
    let run = kit.run(dir.path(), &images::Table::default()).unwrap();
    // A shell in between is killed; what it has started holds the pipe as long as it lives.
    let mut shell = Command::new("sh");
    shell.args(["-c", "\"$@\" & wait", "sh"]).arg(run.get_program()).args(run.get_args());
    shell.args(["--", "sh", "-c", "echo up; sleep 1000 & wait"]);
    let mut shell = shell.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let mut output = BufReader::new(shell.stdout.take().unwrap());
    let mut line = String::new();
    output.read_line(&mut line).unwrap();
    assert_eq!(line, "up\n");

    shell.kill().unwrap();
    shell.wait().unwrap();
    let (done, ended) = mpsc::channel();
    std::thread::spawn(move || {
        let mut rest = String::new();
        // Whoever waits may have given up.
        let _ = done.send(output.read_to_string(&mut rest).map(|_| rest));
    });
    let rest = ended.recv_timeout(SOON).expect("something still holds the pipe").unwrap();
    assert_eq!(rest, "");
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
    assert!(!mounts.contains(&*dir.path().to_string_lossy()), "{mounts}");
}

#[test]
fn aibrix_s_own_manifest_runs_with_what_stands_for_its_images() {
    inside(Options::default(), async |cluster| {
        let pod = aibrix_s_manifest(&cluster, "60s").await;
        let address = cluster.pod_address("default", &pod).await;
        let get = async |port: u16, path: &str| {
            let answer = reqwest::get(format!("http://{address}:{port}{path}")).await.unwrap();
            (answer.status().as_u16(), answer.text().await.unwrap())
        };
        let (status, models) = get(8000, "/v1/models").await;
        assert_eq!(status, 200);
        assert!(models.contains(AIBRIX_S_MODEL), "{models}");
        assert_eq!(get(8080, "/healthz").await.0, 200);
        assert_eq!(get(8080, "/v1/lora_adapter/load").await.0, 404, "it does nothing of what the sidecar does");
    });
}

#[test]
fn aibrix_s_own_manifest_runs_a_real_engine_on_the_tiny_model() {
    let images = images::Table { real_vllm: Some(Version::V0_32_0), ..images::Table::default() };
    inside(Options { images, ..Options::default() }, async |cluster| {
        let pod = aibrix_s_manifest(&cluster, "180s").await;
        let address = cluster.pod_address("default", &pod).await;
        let asked = reqwest::Client::new().post(format!("http://{address}:8000/v1/completions"));
        let body = serde_json::json!({"model": AIBRIX_S_MODEL, "prompt": "hello", "max_tokens": 4}).to_string();
        let answer = asked.header("content-type", "application/json").body(body).send().await.unwrap();
        assert_eq!(answer.status().as_u16(), 200);
    });
}

const AIBRIX_S_MODEL: &str = "qwen-coder-1-5b-instruct";

/// Applies the first of AIBrix's manifests and waits until it is rolled out; its pod's name.
async fn aibrix_s_manifest(cluster: &Cluster, timeout: &str) -> String {
    let base = concat!(env!("CARGO_MANIFEST_DIR"), "/../../samples/adapter/base.yaml");
    cluster.kubectl(&["apply", "-f", base]).await.expect_success();
    let (deployment, timeout) = (format!("deployment/{AIBRIX_S_MODEL}"), format!("--timeout={timeout}"));
    cluster.kubectl(&["rollout", "status", &deployment, &timeout]).await.expect_success();
    let pods = pods_of(cluster, &format!("model.aibrix.ai/name={AIBRIX_S_MODEL}")).await;
    pods[0].metadata.name.clone().unwrap()
}
