use longshore_types::{BaseModel, Secret};
use serde_json::{Value, json};

use super::*;

mod manifests;
mod status;

const UID: &str = "5587f4c5-7d00-4a6b-9c3e-2f1b8d7a6e54";

/// A pod with this spec that is Ready since 2025-02-16T19:14:50Z.
fn pod(spec: Value) -> Value {
    json!({
        "metadata": {"namespace": "default", "name": "engine-0", "uid": UID, "labels": {}, "annotations": {}},
        "spec": spec,
        "status": {
            "phase": "Running",
            "podIP": "10.244.0.7",
            "podIPs": [{"ip": "10.244.0.7"}],
            "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2025-02-16T19:14:50Z"}],
        },
    })
}

fn facts(pod: &Value) -> PodFacts {
    PodFacts::of(&serde_json::from_value(pod.clone()).unwrap()).unwrap()
}

/// The facts of a pod whose one container is this.
fn container_facts(mut container: Value) -> PodFacts {
    container["name"] = json!("main");
    facts(&pod(json!({"containers": [container]})))
}

fn engine(container: Value) -> EngineFacts {
    container_facts(container).engine.unwrap()
}

fn vllm(args: &[&str]) -> Value {
    json!({"image": "vllm/vllm-openai:v0.11.0", "args": args})
}

#[test]
fn limits_are_read_from_the_flags() {
    let args = ["--model", "org/m", "--enable-lora", "--max-loras=4", "--max_cpu_loras", "16", "--max-lora-rank", "64"];
    let engine = engine(vllm(&args));
    assert_eq!((engine.max_loras, engine.max_cpu_loras, engine.max_lora_rank), (Some(4), Some(16), Some(64)));
    assert_eq!((engine.kind, engine.lora, engine.port), (EngineKind::Vllm, Some(true), 8000));
    assert_eq!(engine.base_model, BaseModel::new("org/m").ok());
}

#[test]
fn settings_of_sagemakers_images_are_flags() {
    let env = |prefix: &str| {
        let setting = |name: &str, value: &str| json!({"name": format!("{prefix}{name}"), "value": value});
        json!([
            setting("ENABLE_LORA", "true"),
            setting("MAX_LORAS", "2"),
            setting("MAX_CPU_LORAS", "4"),
            setting("MAX_LORA_RANK", "64"),
            setting("SERVED_MODEL_NAME", "llama"),
        ])
    };
    for (image, prefix) in [
        ("123.dkr.ecr.us-west-2.amazonaws.com/vllm:0.11.2-sagemaker-v1.2", "SM_VLLM_"),
        ("763104351884.dkr.ecr.us-west-2.amazonaws.com/djl-inference:0.34.0-lmi16.0.0-cu128", "OPTION_"),
        ("registry.example/our/own", "OPTION_"),
    ] {
        let engine = engine(json!({"image": image, "env": env(prefix)}));
        assert_eq!((engine.kind, engine.lora), (EngineKind::Vllm, Some(true)), "{image}");
        assert_eq!(
            (engine.max_loras, engine.max_cpu_loras, engine.max_lora_rank),
            (Some(2), Some(4), Some(64)),
            "{image}"
        );
        assert_eq!(engine.base_model, BaseModel::new("llama").ok(), "{image}");
        assert_eq!(engine.port, 8080, "SageMaker's port, where nothing says another");
    }
    let off = engine(
        json!({"env": [{"name": "SM_VLLM_ENABLE_LORA", "value": "false"}, {"name": "SM_VLLM_MAX_CPU_LORAS", "value": "None"}]}),
    );
    assert_eq!((off.lora, off.max_cpu_loras), (Some(false), None));
}

#[test]
fn lora_is_off_only_where_all_that_configures_the_engine_can_be_seen() {
    for (container, lora) in [
        (vllm(&["--model", "m"]), Some(false)),
        (vllm(&["--model", "m", "--config", "/etc/vllm.yaml"]), None),
        (json!({"command": ["vllm", "serve", "m"]}), Some(false)),
        (json!({"image": "vllm/vllm-openai", "command": ["/start.sh"], "args": ["m"]}), None),
        (json!({"image": "vllm/vllm-openai"}), None),
        (json!({"image": "ours", "args": ["--model", "m"]}), None),
        (json!({"env": [{"name": "OPTION_MODEL_ID", "value": "m"}]}), Some(false)),
        (json!({"image": "lmsysorg/sglang", "args": ["--lora-paths", "a=b"]}), Some(true)),
        (json!({"image": "longshore/sim-engine"}), Some(true)),
        (json!({"image": "longshore/sim-engine", "args": ["--disable-lora"]}), Some(false)),
    ] {
        assert_eq!(engine(container.clone()).lora, lora, "{container}");
    }
}

#[test]
fn the_kind_is_told_by_label_command_or_image() {
    use EngineKind::{Sglang, Simulated, Vllm};
    for (container, kind) in [
        (json!({"image": "vllm/vllm-openai:v0.7.1"}), Vllm),
        (json!({"image": "lmcache/vllm-openai@sha256:abc"}), Vllm),
        (json!({"image": "public.ecr.aws/deep-learning-containers/vllm:0.11"}), Vllm),
        (json!({"image": "lmsysorg/sglang:v0.5"}), Sglang),
        (json!({"image": "longshore/sim-engine:dev"}), Simulated),
        (json!({"image": "longshore", "command": ["longshore", "sim-engine"]}), Simulated),
        (json!({"image": "vllm/vllm-openai", "command": ["python3", "-m", "sglang.launch_server"]}), Sglang),
        (json!({"image": "registry.example:5000/team/server"}), Vllm),
        (json!({}), Vllm),
    ] {
        assert_eq!(engine(container.clone()).kind, kind, "{container}");
    }
    let mut labelled = pod(json!({"containers": [{"name": "main", "image": "vllm/vllm-openai"}]}));
    labelled["metadata"]["labels"][MODEL_ENGINE] = json!("SGLang");
    assert_eq!(facts(&labelled).engine.unwrap().kind, Sglang);
    labelled["metadata"]["labels"][MODEL_ENGINE] = json!("triton");
    let facts = facts(&labelled);
    assert_eq!((facts.engine.unwrap().kind, facts.problems.len()), (Vllm, 1));
}

#[test]
fn the_port_is_the_labels_or_the_flags_or_the_containers() {
    let ports = json!([{"name": "metrics", "containerPort": 9090}, {"name": "serve", "containerPort": 8001}]);
    let mut pod = pod(json!({"containers": [{"name": "main", "args": ["--port", "8002"], "ports": ports}]}));
    pod["metadata"]["labels"][MODEL_PORT] = json!("8003");
    let port = |pod: &Value| facts(pod).engine.unwrap().port;
    assert_eq!(port(&pod), 8003);
    pod["metadata"]["labels"] = json!({});
    assert_eq!(port(&pod), 8002);
    pod["spec"]["containers"][0]["args"] = json!([]);
    assert_eq!(port(&pod), 8001);
    pod["spec"]["containers"][0]["ports"] = json!([{"containerPort": 5353, "protocol": "UDP"}]);
    assert_eq!(port(&pod), 8000);
}

#[test]
fn the_engine_is_found_among_other_containers() {
    let mesh = json!({"name": "istio-proxy", "image": "istio/proxyv2", "ports": [{"containerPort": 8000}]});
    let named = json!({"name": "serving", "image": "ours", "command": ["sh", "-c", "vllm serve m"]});
    let image = json!({"name": "serving", "image": "vllm/vllm-openai"});
    let port = json!({"name": "serving", "image": "ours", "ports": [{"containerPort": 8001}]});
    let sidecar = json!({"name": "aibrix-runtime", "image": "aibrix/vllm-runtime", "args": ["--port", "8090"]});
    for engine in [named, image, port] {
        let mut pod = pod(json!({"containers": [sidecar.clone(), mesh.clone(), engine]}));
        pod["metadata"]["labels"][MODEL_PORT] = json!("8001");
        let facts = facts(&pod);
        assert_eq!(&*facts.engine.unwrap().container, "serving");
        assert_eq!(facts.sidecar, Some(Sidecar { container: "aibrix-runtime".into(), port: 8090 }));
    }
    let plain = facts(&pod(json!({"containers": [mesh]})));
    assert_eq!((&*plain.engine.unwrap().container, plain.sidecar), ("istio-proxy", None));
    let alone = facts(&pod(json!({"containers": [sidecar]})));
    assert_eq!((alone.engine.clone(), alone.seen(Timestamp::ZERO, None), alone.access()), (None, None, None));
    let started_before = json!({"name": "longshore-sidecar", "restartPolicy": "Always"});
    let facts = facts(&pod(json!({"initContainers": [started_before], "containers": [{"name": "main"}]})));
    assert_eq!(facts.sidecar.map(|sidecar| sidecar.port), Some(8080));
}

#[test]
fn i8_a_key_is_found_and_never_shown() {
    let reference = json!({"name": "VLLM_API_KEY", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "vllm"}}});
    let other = json!({"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "vllm"}}});
    let in_secret = KeySource::Secrets(vec![KeyRef { secret: "keys".into(), key: "vllm".into(), optional: false }]);
    let inline = KeySource::Inline(Secret::new("hunter2"));
    for (container, expected) in [
        (json!({"args": ["--api-key", "hunter2"]}), &inline),
        (json!({"args": ["--api-key=hunter2", "--port", "1"]}), &inline),
        (json!({"command": ["sh", "-c", "VLLM_API_KEY=hunter2 vllm serve m"]}), &inline),
        (json!({"env": [{"name": "VLLM_API_KEY", "value": "hunter2"}]}), &inline),
        (json!({"env": [{"name": "SM_VLLM_API_KEY", "value": "hunter2"}]}), &inline),
        (json!({"env": [{"name": "K", "value": "hunter2"}], "args": ["--api-key", "$(K)"]}), &inline),
        (json!({"env": [reference]}), &in_secret),
        (json!({"env": [other], "args": ["--api-key", "$(KEY)"]}), &in_secret),
        (json!({"env": [other], "command": ["sh", "-c", "vllm serve m --api-key \"${KEY}\""]}), &in_secret),
        (json!({"env": [{"name": "VLLM_API_KEY", "value": ""}]}), &KeySource::None),
        (json!({}), &KeySource::None),
    ] {
        let facts = container_facts(container.clone());
        assert_eq!(facts.access().unwrap().api_key, *expected, "{container}");
        let shown = format!("{facts:?} {:?}", facts.access());
        assert!(!shown.contains("hunter2"), "{shown}");
    }
    let whole = container_facts(json!({"envFrom": [{"secretRef": {"name": "all"}}]}));
    let candidate = KeyRef { secret: "all".into(), key: "VLLM_API_KEY".into(), optional: true };
    assert_eq!(whole.access().unwrap().api_key, KeySource::Secrets(vec![candidate]));
}

#[test]
fn i8_a_key_that_cannot_be_told_is_a_problem_without_the_key() {
    let elsewhere = json!([{"name": "VLLM_API_KEY", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "k"}}}]);
    for container in [
        json!({"env": elsewhere}),
        json!({"args": ["--api-key", "hunter2-$(MISSING)"]}),
        json!({"args": ["--api-key", "hunter2 and more"]}),
    ] {
        let facts = container_facts(container.clone());
        assert_eq!(facts.access().unwrap().api_key, KeySource::None, "{container}");
        assert_eq!(facts.problems.len(), 1, "{container}");
        assert!(!facts.problems[0].contains("hunter2"), "{:?}", facts.problems);
    }
}

#[test]
fn what_makes_no_sense_is_left_out_and_said() {
    let mut pod = pod(json!({"containers": [{"name": "main", "args": [
        "--max-loras", "abc", "--max-cpu-loras", "0", "--max-lora-rank", "-1", "--port", "70000", "--served-model-name", "a b",
    ]}]}));
    pod["metadata"]["labels"] = json!({MODEL_PORT: "x"});
    pod["metadata"]["annotations"] = json!({ADAPTER_MEMORY: "lots"});
    let facts = facts(&pod);
    let engine = facts.engine.clone().unwrap();
    assert_eq!((engine.max_loras, engine.max_cpu_loras, engine.max_lora_rank), (None, None, None));
    assert_eq!((engine.port, engine.base_model, facts.adapter_memory), (8000, None, None));
    let words =
        ["model.aibrix.ai/port", "--port", "base model", "--max-loras", "--max-cpu-loras", "--max-lora-rank", "memory"];
    assert_eq!(facts.problems.len(), words.len(), "{:#?}", facts.problems);
    for word in words {
        assert!(facts.problems.iter().any(|problem| problem.contains(word)), "{word}: {:#?}", facts.problems);
    }
}

#[test]
fn problems_are_few_and_short() {
    let long = "x".repeat(10_000);
    let engine =
        container_facts(json!({"args": ["--max-loras", long, "--max-cpu-loras", long, "--max-lora-rank", long]}));
    assert_eq!(engine.problems.len(), 3);
    assert!(engine.problems.iter().all(|problem| problem.len() < 200), "{:?}", engine.problems);
}

#[test]
fn memory_for_adapters_is_an_annotation() {
    let mut pod = pod(json!({"containers": [{"name": "main"}]}));
    pod["metadata"]["annotations"] = json!({ADAPTER_MEMORY: "8Gi"});
    assert_eq!(facts(&pod).seen(Timestamp::ZERO, None).unwrap().adapter_memory, Some(8 << 30));
}

#[test]
fn a_pod_opts_in_or_out_or_leaves_it_to_selectors() {
    for (labels, enabled) in [
        (json!({}), None),
        (json!({ENABLED: "true"}), Some(true)),
        (json!({ENABLED: "false"}), Some(false)),
        (json!({ENABLED: ""}), Some(false)),
    ] {
        let mut pod = pod(json!({"containers": [{"name": "main"}]}));
        pod["metadata"]["labels"] = labels;
        assert_eq!(facts(&pod).enabled, enabled);
    }
}
