//! One test for each thing that can be wrong with an adapter.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;

use longshore_artifacts::{BaseShapes, EngineLimits, Error, Verified, verify_dir};
use serde_json::json;

use crate::adapter::{Adapter, BASE, CONFIG, WEIGHTS, safetensors};

const Q0: &str = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight";
const Q0B: &str = "base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight";

fn base() -> Option<Arc<BaseShapes>> {
    Some(Arc::new(BaseShapes::from_config_json(BASE.as_bytes()).unwrap()))
}

fn check(adapter: &Adapter) -> Result<Verified, Error> {
    let dir = tempfile::tempdir().unwrap();
    adapter.write(dir.path());
    verify_dir(dir.path(), None)
}

fn check_weights(weights: &[u8]) -> Result<Verified, Error> {
    let dir = tempfile::tempdir().unwrap();
    Adapter::tiny(1).write(dir.path());
    fs::write(dir.path().join(WEIGHTS), weights).unwrap();
    verify_dir(dir.path(), None)
}

#[track_caller]
fn refused(result: Result<Verified, Error>, reason: &str, says: &str) {
    let error = result.expect_err("it was taken");
    assert_eq!(error.reason(), reason, "{error}");
    assert!(error.to_string().contains(says), "{error}");
    assert!(!error.is_transient(), "{error}");
}

#[test]
fn a_sound_adapter_is_taken_and_described() {
    let mut adapter = Adapter::tiny(1);
    adapter.others.push(("tokenizer.json", b"{}".to_vec()));
    adapter.others.push(("README.md", b"not kept".to_vec()));
    let verified = check(&adapter).unwrap();
    assert_eq!(verified.rank, 2);
    assert_eq!(Vec::from_iter(&verified.targets), ["q_proj", "v_proj"]);
    assert_eq!(verified.base_model_hint.as_deref(), Some("org/tiny"));
    assert_eq!(Vec::from_iter(verified.files.iter().map(|file| &*file.name)), [CONFIG, WEIGHTS, "tokenizer.json"]);
    assert_eq!(verified.bytes, verified.files.iter().map(|file| file.size).sum::<u64>());
    assert!(verified.warnings.is_empty(), "{:?}", verified.warnings);

    let dir = tempfile::tempdir().unwrap();
    adapter.write(dir.path());
    assert_eq!(verify_dir(dir.path(), base()).unwrap().digest, verified.digest);
    assert_ne!(check(&Adapter::tiny(2)).unwrap().digest, verified.digest);
}

#[test]
fn a_missing_configuration_is_named_and_a_likely_one_pointed_at() {
    let dir = tempfile::tempdir().unwrap();
    refused(verify_dir(dir.path(), None), "ConfigMissing", "no adapter_config.json");
    Adapter::tiny(1).write(&dir.path().join("checkpoint-500"));
    refused(verify_dir(dir.path(), None), "ConfigMissing", "/checkpoint-500: name that directory");
}

#[test]
fn missing_weights_are_named() {
    let dir = tempfile::tempdir().unwrap();
    Adapter::tiny(1).write(dir.path());
    fs::remove_file(dir.path().join(WEIGHTS)).unwrap();
    refused(verify_dir(dir.path(), None), "WeightsMissing", WEIGHTS);
}

#[test]
fn pickled_weights_are_refused_unread() {
    let dir = tempfile::tempdir().unwrap();
    Adapter::tiny(1).write(dir.path());
    fs::write(dir.path().join("adapter_model.bin"), b"beside good weights it does not matter").unwrap();
    verify_dir(dir.path(), None).unwrap();
    fs::remove_file(dir.path().join(WEIGHTS)).unwrap();
    refused(verify_dir(dir.path(), None), "PickleRefused", "adapter_model.bin is a pickle");
}

#[test]
fn features_that_engines_lack_are_refused() {
    for (field, value, reason) in [
        ("use_dora", json!(true), "DoraUnsupported"),
        ("bias", json!("all"), "BiasUnsupported"),
        ("modules_to_save", json!(["lm_head"]), "ModulesToSaveUnsupported"),
    ] {
        refused(check(Adapter::tiny(1).set(field, value)), reason, "not supported by engines");
    }
}

#[test]
fn a_rank_that_lies_is_refused() {
    refused(check(Adapter::tiny(1).set("r", json!(16))), "RankMismatch", "has rank 2, but adapter_config.json says 16");
}

#[test]
fn a_rank_pattern_is_honoured() {
    let mut adapter = Adapter::tiny(1);
    adapter.add("model.layers.0.self_attn.v_proj", 6, 8, 4, 1);
    refused(check(&adapter), "RankMismatch", "has rank 6");
    adapter.set("rank_pattern", json!({"layers.0.self_attn.v_proj": 6}));
    let verified = check(&adapter).unwrap();
    assert_eq!(verified.rank, 6);
    assert_eq!(verified.warnings[0].0, "PatternsNeedRecentEngine");
}

#[test]
fn half_a_pair_is_refused() {
    let mut adapter = Adapter::tiny(1);
    adapter.tensors.remove(Q0);
    refused(check(&adapter), "PairIncomplete", "has no lora_A");
    let mut adapter = Adapter::tiny(1);
    adapter.tensors.remove(Q0B);
    refused(check(&adapter), "PairIncomplete", "has no lora_B");
}

#[test]
fn weights_that_are_not_numbers_are_refused() {
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut adapter = Adapter::tiny(1);
        adapter.tensors.get_mut(Q0).unwrap().2[4..8].copy_from_slice(&bad.to_le_bytes());
        refused(check(&adapter), "NotFinite", &format!("tensor `{Q0}`"));
    }
}

#[test]
fn tensors_that_are_no_lora_weights_are_refused() {
    for (name, says) in [
        ("base_model.model.model.layers.0.self_attn.q_proj.lora_magnitude_vector", "DoRA"),
        ("base_model.model.model.layers.0.self_attn.q_proj.lora_B.bias", "biases"),
        ("base_model.model.model.layers.0.self_attn.q_proj.lora_A.default.weight", "save_pretrained"),
        ("model.layers.0.self_attn.q_proj.weight", "only the adapter"),
    ] {
        let mut adapter = Adapter::tiny(1);
        adapter.tensor(name, &[2, 8], 1);
        refused(check(&adapter), "UnsupportedTensor", says);
    }
}

#[test]
fn what_engines_pass_over_is_passed_over() {
    let mut adapter = Adapter::tiny(1);
    adapter.tensor("base_model.model.model.embed_tokens.base_layer.weight", &[16, 8], 1);
    adapter.tensor("base_model.model.score.weight", &[3, 8], 1);
    refused(check(&adapter), "UnsupportedTensor", "score");
    check(adapter.set("modules_to_save", json!(["score"]))).unwrap();
}

#[test]
fn embeddings_and_names_without_prefix_are_pairs_too() {
    let mut adapter = Adapter::tiny(1);
    adapter.tensor("base_model.model.model.embed_tokens.lora_embedding_A", &[2, 16], 1);
    adapter.tensor("base_model.model.model.embed_tokens.lora_embedding_B", &[8, 2], 1);
    adapter.tensor("lm_head.lora_A.weight", &[2, 8], 1);
    adapter.tensor("lm_head.lora_B.weight", &[16, 2], 1);
    let verified = check(adapter.set("target_modules", json!("all-linear"))).unwrap();
    assert_eq!(Vec::from_iter(&verified.targets), ["embed_tokens", "lm_head", "q_proj", "v_proj"]);
}

#[test]
fn the_experts_of_a_fused_layer_count_their_rank_once_each() {
    let mut adapter = Adapter::tiny(1);
    adapter.add("model.layers.0.mlp.experts.base_layer", 8, 8, 32, 1);
    adapter.add("model.layers.0.mlp.experts", 8, 16, 8, 1);
    check(adapter.set("target_parameters", json!(["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]))).unwrap();
    adapter.add("model.layers.0.mlp.experts", 7, 16, 8, 1);
    refused(check(&adapter), "RankMismatch", "has rank 7");
}

#[test]
fn shapes_and_types_that_no_lora_weight_has_are_refused() {
    for shape in [&[16][..], &[2, 2, 4], &[2, 0]] {
        let mut adapter = Adapter::tiny(1);
        adapter.tensor(Q0, shape, 1);
        refused(check(&adapter), "TensorShape", "two dimensions");
    }
    let mut adapter = Adapter::tiny(1);
    adapter.tensor(Q0B, &[8, 3], 1);
    refused(check(&adapter), "PairMismatch", "does not fit its lora_A");
    let mut adapter = Adapter::tiny(1);
    adapter.tensors.get_mut(Q0).unwrap().0 = "I32";
    refused(check(&adapter), "TensorType", "type I32");
    let mut adapter = Adapter::tiny(1);
    adapter.tensor(Q0.strip_prefix("base_model.model.").unwrap(), &[2, 8], 1);
    refused(check(&adapter), "TensorDuplicate", "under two names");
}

#[test]
fn targets_without_any_weights_are_another_adapters() {
    let result = check(Adapter::tiny(1).set("target_modules", json!(["qkv_nope"])));
    refused(
        result,
        "TargetMismatch",
        "names qkv_nope, but adapter_model.safetensors has weights for q_proj, v_proj only",
    );
}

#[test]
fn one_target_without_weights_warns_unless_the_base_model_has_it() {
    let mut adapter = Adapter::tiny(1);
    adapter.set("target_modules", json!(["q_proj", "v_proj", "k_proj", "c_attn"]));
    let verified = check(&adapter).unwrap();
    assert_eq!(
        verified.warnings,
        [("TargetWithoutWeights", "target_modules names c_attn, k_proj, for which there are no weights".to_owned())]
    );
    let dir = tempfile::tempdir().unwrap();
    adapter.write(dir.path());
    refused(verify_dir(dir.path(), base()), "TargetMismatch", "names k_proj, but");
    let warnings = check(Adapter::tiny(1).set("target_modules", json!(["q_proj"]))).unwrap().warnings;
    assert_eq!(warnings[0].0, "WeightsWithoutTarget");
}

#[test]
fn an_adapter_for_another_base_model_is_refused() {
    let against_base = |adapter: &Adapter| {
        let dir = tempfile::tempdir().unwrap();
        adapter.write(dir.path());
        verify_dir(dir.path(), base())
    };
    let mut wide = Adapter::tiny(1);
    wide.add("model.layers.1.self_attn.q_proj", 2, 16, 8, 1);
    refused(against_base(&wide), "ShapeMismatch", "has 16 input features, but the base model has 8");
    let mut deep = Adapter::tiny(1);
    deep.add("model.layers.2.self_attn.q_proj", 2, 8, 8, 1);
    refused(against_base(&deep), "LayerMissing", "is in layer 2, but the base model has 2 layers");
    let mut other = Adapter::tiny(1);
    other.add("model.layers.1.self_attn.qkv_proj", 2, 8, 8, 1);
    refused(against_base(&other), "ModuleMissing", "is not in the base model (llama)");
}

#[test]
fn files_that_are_cut_off_or_padded_are_refused() {
    let weights = Adapter::tiny(1).weights();
    for cut in [0, 7, 8, 100, weights.len() - 1] {
        let reason = if cut == 8 || cut == 100 { "WeightsInvalid" } else { "WeightsTruncated" };
        refused(check_weights(&weights[..cut]), reason, "adapter_model.safetensors");
    }
    refused(check_weights(&[weights, vec![0]].concat()), "WeightsInvalid", "1 bytes follow its last tensor");
}

#[test]
fn a_git_lfs_pointer_says_what_to_do() {
    let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n";
    refused(check_weights(pointer), "LfsPointer", "git lfs pull");
}

#[test]
fn hostile_headers_are_refused_by_what_is_wrong() {
    let entry = |name: &str, dtype: &str, shape: &str, from: u64, to: u64| {
        format!(r#""{name}":{{"dtype":"{dtype}","shape":{shape},"data_offsets":[{from},{to}]}}"#)
    };
    let a = entry("a", "F32", "[2]", 0, 8);
    for (entries, says) in [
        (vec![a.clone(), entry("b", "F32", "[2]", 4, 12)], "overlaps"),
        (vec![a.clone(), entry("b", "F32", "[1]", 12, 16)], "gap"),
        (vec![entry("a", "F32", "[2]", 8, 0)], "ends before it begins"),
        (vec![entry("a", "F31", "[2]", 0, 8)], "unknown variant `F31`"),
        (vec![entry("a", "F32", "[4294967296,4294967296,4294967296]", 0, 8)], "too large"),
        (vec![entry("a", "F32", "[3]", 0, 8)], "should have 12 bytes by its shape but has 8"),
        (vec![entry("a", "F32", "[-1]", 0, 8)], "invalid value"),
        (vec![entry("a", "F4", "[1]", 0, 1)], "should have 1 bytes"),
        (vec![entry("a", "F32", "[1,1,1,1,1,1,1,1,2]", 0, 8)], "more than 8 dimensions"),
        (vec![a.clone(), entry("a", "F32", "[1]", 8, 12)], "`a` is there twice"),
        (vec![a.replace(r#""dtype":"F32","#, r#""dtype":"F32","dtype":"F32","#)], "duplicate field `dtype`"),
        (
            vec![r#""__metadata__":{}"#.into(), r#""__metadata__":{}"#.into(), a.clone()],
            "`__metadata__` is there twice",
        ),
        (vec![r#""__metadata__":{"a":1}"#.into(), a.clone()], "expected a text"),
        (vec![entry(&"n".repeat(1025), "F32", "[2]", 0, 8)], "longer than 1024 bytes"),
        (vec![r#""a":{"dtype":"F32"}"#.into()], "missing field"),
        (vec![r#""a":[]"#.into()], "invalid"),
        (vec![format!(r#""a":{}"#, "[".repeat(200_000))], "expected an object"),
        (vec![format!(r#""__metadata__":{}"#, "{\"a\":".repeat(200_000))], "invalid type"),
    ] {
        let header = format!("{{{}}}", entries.join(","));
        refused(check_weights(&safetensors(&header, &[0; 8])), "WeightsInvalid", says);
    }
    for header in ["", "[]", " {}", "{", "null"] {
        assert_eq!(check_weights(&safetensors(header, &[])).unwrap_err().reason(), "WeightsInvalid", "{header:?}");
    }
    for length in [u64::MAX, 1 << 63, (32 << 20) + 1, 9] {
        let file = [&length.to_le_bytes()[..], b"{}      "].concat();
        refused(check_weights(&file), "WeightsInvalid", "header would be");
    }
    refused(check_weights(&safetensors("{}", &[])), "WeightsEmpty", "no LoRA weights");
}

#[test]
fn a_configuration_of_two_megabytes_is_refused() {
    let result = check(Adapter::tiny(1).set("padding", json!("x".repeat(2 << 20))));
    refused(result, "ConfigInvalid", "larger than");
}

#[test]
fn pipes_and_devices_are_refused_without_waiting_for_them() {
    let dir = tempfile::tempdir().unwrap();
    Adapter::tiny(1).write(dir.path());
    let weights = dir.path().join(WEIGHTS);
    fs::remove_file(&weights).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(&weights).status().unwrap().success());
    refused(verify_dir(dir.path(), None), "SpecialFile", "adapter_model.safetensors is not a regular file");
    fs::remove_file(&weights).unwrap();
    symlink("/dev/zero", &weights).unwrap();
    refused(verify_dir(dir.path(), None), "SpecialFile", WEIGHTS);
    fs::remove_file(&weights).unwrap();
    fs::create_dir(&weights).unwrap();
    refused(verify_dir(dir.path(), None), "SpecialFile", WEIGHTS);
}

#[test]
fn links_are_followed_as_the_hugging_face_cache_needs() {
    let dir = tempfile::tempdir().unwrap();
    let (blobs, snapshot) = (dir.path().join("blobs"), dir.path().join("snapshots/main"));
    let adapter = Adapter::tiny(1);
    adapter.write(&blobs);
    fs::create_dir_all(&snapshot).unwrap();
    for (name, _) in adapter.files() {
        symlink(Path::new("../../blobs").join(&name), snapshot.join(&name)).unwrap();
    }
    let digest = verify_dir(&snapshot, None).unwrap().digest;
    assert_eq!(digest, verify_dir(&blobs, None).unwrap().digest);
    symlink(&snapshot, dir.path().join("link")).unwrap();
    assert_eq!(verify_dir(&dir.path().join("link"), None).unwrap().digest, digest);
    fs::remove_file(blobs.join(WEIGHTS)).unwrap();
    refused(verify_dir(&snapshot, None), "ArtifactNotFound", "adapter_model.safetensors");
}

#[test]
fn a_path_that_is_no_directory_is_named() {
    let dir = tempfile::tempdir().unwrap();
    refused(verify_dir(&dir.path().join("none"), None), "ArtifactNotFound", "none does not exist");
    fs::write(dir.path().join("file"), b"").unwrap();
    refused(verify_dir(&dir.path().join("file"), None), "ArtifactNotADirectory", "name the directory");
    refused(verify_dir(&dir.path().join("file/below"), None), "ArtifactNotADirectory", "is not a directory");
}

#[test]
fn odd_names_and_too_many_files_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    Adapter::tiny(1).write(dir.path());
    fs::write(dir.path().join("tokenizer\n"), b"").unwrap();
    refused(verify_dir(dir.path(), None), "FileName", "tokenizer\\n");
    fs::remove_file(dir.path().join("tokenizer\n")).unwrap();
    fs::create_dir(dir.path().join("tokenizer")).unwrap();
    verify_dir(dir.path(), None).unwrap();
    for i in 0..64 {
        fs::write(dir.path().join(format!("tokenizer.{i}")), b"").unwrap();
    }
    refused(verify_dir(dir.path(), None), "TooLarge", "more than 64 files");
}

#[test]
fn an_adapter_is_held_against_what_an_engine_was_started_for() {
    let adapter = check(&Adapter::tiny(1)).unwrap();
    let limits = |max_rank, targets: &[&str]| EngineLimits {
        max_rank,
        targets: Some(targets.iter().map(|target| (*target).to_owned()).collect()),
    };
    for good in [
        EngineLimits::default(),
        limits(Some(2), &["q_proj", "v_proj"]),
        limits(None, &["qkv_proj"]),
        // Engines compute queries, keys and values as one.
        limits(None, &["model.layers.0.self_attn.k_proj"]),
    ] {
        good.check(&adapter).unwrap();
    }
    let refused = |limits: EngineLimits| Error::from(limits.check(&adapter).unwrap_err());
    let rank = refused(limits(Some(1), &["qkv_proj"]));
    assert_eq!(
        rank.to_string(),
        "the adapter has rank 2, but the engine takes 1 at most: start it with a larger \
                                  --max-lora-rank, or train with a smaller one"
    );
    assert_eq!((rank.reason(), rank.fault().scope), ("RankTooHigh", longshore_types::Scope::Engine));
    let target = refused(limits(None, &["o_proj", "gate_up_proj"]));
    assert_eq!((target.reason(), target.fault().scope), ("TargetNotServed", longshore_types::Scope::Engine));
}

#[test]
fn what_the_configuration_leaves_out_and_the_weights_have_is_warned_about() {
    let warned = |field: &str, value: serde_json::Value| {
        let warnings = check(Adapter::tiny(1).set(field, value)).unwrap().warnings;
        Vec::from_iter(warnings.into_iter().map(|(reason, _)| reason))
    };
    assert_eq!(warned("layers_to_transform", json!([0, 1])), [""; 0]);
    assert_eq!(warned("layers_to_transform", json!(0)), ["WeightsWithoutTarget"]);
    assert_eq!(warned("exclude_modules", json!(["v_proj"])), ["WeightsWithoutTarget"]);
    assert_eq!(warned("target_modules", json!(r".*\.(q|v)_proj")), [""; 0]);
    assert_eq!(warned("target_modules", json!(r"model\..*\.q_proj")), ["WeightsWithoutTarget"]);
    assert_eq!(warned("target_modules", json!(r"(?<=x)q_proj")), ["PatternNotEvaluated"]);

    let dir = tempfile::tempdir().unwrap();
    let mut first = Adapter::tiny(1);
    first.tensors.retain(|name, _| name.contains("layers.0."));
    first.write(dir.path());
    let warnings = verify_dir(dir.path(), base()).unwrap().warnings;
    assert_eq!(warnings[0], ("LayersWithoutWeights", "q_proj has weights in 1 of the base model's 2 layers".into()));
}
