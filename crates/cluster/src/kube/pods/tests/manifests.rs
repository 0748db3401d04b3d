//! The manifests that users of AIBrix have, read as they stand.

use super::*;

const BASE: &str = include_str!("../../../../../../samples/adapter/base.yaml");
const API_KEY: &str = include_str!("../../../../../../samples/adapter/base-api-key.yaml");
const WITHOUT_RUNTIME: &str = include_str!("../../../../../../samples/adapter/base-without-runtime.yaml");

/// The pod that a Deployment in `manifest` would make.
fn made_by(manifest: &str) -> Value {
    let documents = manifest.split("\n---\n").map(|document| serde_saphyr::from_str::<Value>(document).unwrap());
    let deployment = documents.into_iter().find(|document| document["kind"] == "Deployment").unwrap();
    let mut made = pod(deployment["spec"]["template"]["spec"].clone());
    made["metadata"]["labels"] = deployment["spec"]["template"]["metadata"]["labels"].clone();
    made
}

#[test]
fn the_base_manifests_are_read() {
    let in_secret = KeyRef { secret: "qwen-coder-api-key".into(), key: "api-key".into(), optional: false };
    let sidecar = Some(Sidecar { container: "aibrix-runtime".into(), port: 8080 });
    for (manifest, max_loras, max_cpu_loras, api_key, sidecar) in [
        (BASE, Some(4), Some(16), KeySource::None, sidecar.clone()),
        (API_KEY, None, None, KeySource::Secrets(vec![in_secret]), sidecar),
        (WITHOUT_RUNTIME, None, None, KeySource::None, None),
    ] {
        let facts = facts(&made_by(manifest));
        let engine = EngineFacts {
            container: "vllm-openai".into(),
            kind: EngineKind::Vllm,
            port: 8000,
            base_model: BaseModel::new("qwen-coder-1-5b-instruct").ok(),
            lora: Some(true),
            max_loras,
            max_cpu_loras,
            max_lora_rank: None,
            api_key,
        };
        assert_eq!(facts.engine, Some(engine));
        assert_eq!((facts.sidecar, facts.enabled, facts.problems), (sidecar, Some(true), vec![]));
    }
}

#[test]
fn the_first_documents_pod_without_the_opt_in_label_is_read_alike() {
    let mut pod = made_by(BASE);
    pod["metadata"]["labels"] = json!({"model.aibrix.ai/name": "qwen-coder-1-5b-instruct"});
    let facts = facts(&pod);
    assert_eq!((facts.enabled, facts.engine.unwrap().port), (None, 8000));
}

/// The container of a `PrimaryContainer` as the SageMaker document writes it.
#[test]
fn the_settings_of_the_sagemaker_document_are_read() {
    let setting = |name: &str, value: &str| json!({"name": name, "value": value});
    let engine = engine(json!({
        "image": "111122223333.dkr.ecr.us-west-2.amazonaws.com/vllm:0.11.2-sagemaker-v1.2",
        "env": [
            setting("SM_VLLM_MODEL", "/opt/ml/model"),
            setting("SM_VLLM_TENSOR_PARALLEL_SIZE", "2"),
            setting("SM_VLLM_MAX_MODEL_LEN", "4096"),
            setting("SM_VLLM_ENABLE_LORA", "true"),
            setting("SM_VLLM_MAX_LORA_RANK", "64"),
            setting("SM_VLLM_MAX_CPU_LORAS", "4"),
            setting("VLLM_ALLOW_RUNTIME_LORA_UPDATING", "true"),
        ],
    }));
    assert_eq!(engine.base_model, BaseModel::new("/opt/ml/model").ok());
    assert_eq!((engine.max_loras, engine.max_cpu_loras, engine.max_lora_rank), (None, Some(4), Some(64)));
    assert_eq!((engine.kind, engine.lora, engine.port), (EngineKind::Vllm, Some(true), 8080));
}
