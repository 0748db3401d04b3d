//! Writes the seeds that each target starts from, into `fuzz/seeds/TARGET/`: `cargo xtask fuzz --write-seeds`.

#![allow(dead_code, reason = "the adapters' module is that of the tests")]

#[path = "../../../crates/artifacts/tests/it/adapter.rs"]
mod adapter;

use std::fs;
use std::io::Write;
use std::path::Path;

use adapter::{Adapter, BASE};
use flate2::write::GzEncoder;
use flate2::{Compression, Crc};
use serde_json::json;

fn main() {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("../seeds");
    for (target, seeds_of_it) in [
        ("adapter_config", configs()),
        ("safetensors_header", headers()),
        ("verifier", adapters()),
        ("base_config", bases()),
        ("module_pattern", patterns()),
        ("artifact_url", urls()),
        ("store_manifest", manifests()),
        ("archive_tar", tars()),
        ("archive_tar_gz", tars().into_iter().map(|tar| gzip(&tar)).collect()),
        ("archive_tar_zst", tars().into_iter().map(|tar| zstd(&tar)).collect()),
        ("archive_zip", zips()),
    ] {
        let dir = seeds.join(target);
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).unwrap();
        for (at, seed) in seeds_of_it.iter().enumerate() {
            fs::write(dir.join(format!("{at:02}")), seed).unwrap();
        }
    }
}

fn texts<const N: usize>(texts: [&str; N]) -> Vec<Vec<u8>> {
    texts.map(|text| text.as_bytes().to_vec()).into()
}

fn configs() -> Vec<Vec<u8>> {
    let mut adapter = Adapter::tiny(1);
    let mut changed = |fields: serde_json::Value| {
        for (field, value) in fields.as_object().unwrap() {
            adapter.set(field, value.clone());
        }
        serde_json::to_vec(&adapter.config).unwrap()
    };
    vec![
        changed(json!({})),
        changed(json!({"rank_pattern": {"q_proj": 4, r".*\.1\..*v_proj": 8}, "alpha_pattern": {"v_proj": 2.5}})),
        changed(
            json!({"target_modules": r".*\.(q|v)_proj", "layers_to_transform": [0, 1], "exclude_modules": ["lm_head"]}),
        ),
        changed(json!({"target_modules": "all-linear", "layers_to_transform": 1, "modules_to_save": ["score"]})),
        changed(json!({"use_rslora": true, "use_dora": false, "init_lora_weights": "gaussian", "bias": null})),
        changed(json!({"layer_replication": [[0, 1]], "trainable_token_indices": [1], "arrow_config": {"top_k": 1}})),
    ]
}

/// The header of a weights file, and what follows it.
fn split(weights: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let length = u64::from_le_bytes(weights[..8].try_into().unwrap()) as usize;
    (weights[8..8 + length].to_vec(), weights[8 + length..].to_vec())
}

fn headers() -> Vec<Vec<u8>> {
    let mut all = texts([
        "{}",
        r#"{"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#,
        r#"{"b":{"dtype":"BF16","shape":[2,0],"data_offsets":[0,0]},"a":{"dtype":"F8_E4M3","shape":[],"data_offsets":[0,1]}}"#,
        r#"{"\u0061\n":{"shape":[2,4],"data_offsets":[0,4],"dtype":"F4"}}"#,
    ]);
    all.push(split(&Adapter::tiny(1).weights()).0);
    all
}

fn adapters() -> Vec<Vec<u8>> {
    let mut large = Adapter::tiny(2);
    large.add("model.layers.1.mlp.down_proj", 4, 16, 8, 3);
    large.set("rank_pattern", json!({r"mlp\.": 4, "down_proj": 4})).set("target_modules", json!(".*_proj"));
    let mut nan = Adapter::tiny(1);
    nan.tensors.values_mut().next().unwrap().2[..4].copy_from_slice(&f32::NAN.to_le_bytes());
    let mut wide = Adapter::tiny(1);
    wide.add("lm_head", 2, 8, 17, 1);
    [(b"\x07", Adapter::tiny(1)), (b"\x02", large), (b"\x01", nan), (b"\x63", wide)]
        .map(|(sizes, adapter)| {
            let (header, tensors) = split(&adapter.weights());
            let config = serde_json::to_vec(&adapter.config).unwrap();
            [&sizes[..], &config, &header, &tensors].join(&0)
        })
        .into()
}

fn bases() -> Vec<Vec<u8>> {
    let experts = BASE.replace("llama", "mixtral").replacen('{', r#"{"num_local_experts":4,"num_experts":4,"#, 1);
    let moe = experts.replace("mixtral", "qwen3_moe").replacen('{', r#"{"moe_intermediate_size":4,"#, 1);
    let inner =
        format!(r#"{{"architectures":["GemmaForConditionalGeneration"],"text_config":{BASE},"vision_config":{{}}}}"#);
    let alone = BASE.replacen('{', r#"{"architectures":["LlamaForCausalLM"],"vocab_size":16,"#, 1);
    [
        ("model.layers.0.self_attn.q_proj", BASE.to_owned()),
        ("model.layers.1.block_sparse_moe.experts.3.w1", experts),
        ("model.layers.1.mlp.experts.3.up_proj", moe),
        ("model.language_model.layers.0.mlp.down_proj", inner),
        ("model.embed_tokens", alone),
        ("model.layers.0.mlp.gate_up_proj", BASE.replace("llama", "phi3")),
        ("h.0.attn.c_attn", r#"{"model_type":"gpt2","n_layer":1}"#.into()),
    ]
    .map(|(module, json)| [module.as_bytes(), b"\x08\x08", json.as_bytes()].join(&0))
    .into()
}

fn patterns() -> Vec<Vec<u8>> {
    [
        ("q_proj", "q_proj"),
        ("model.layers.1.self_attn.q_proj", r".*\.[0-9]+\.(self_attn|mlp)\.(q|k)_proj"),
        ("aaaaaaaaaaaaaaaaaaaaaaaa", "(a|aa)+c"),
        ("a", r"((a{9}){9}){9}"),
        ("x", r"(?i-s:[^\w\d]*?)\b(?P<n>a)?$|^\x41{2,}"),
    ]
    .map(|(name, pattern)| [name.as_bytes(), pattern.as_bytes()].join(&0))
    .into()
}

fn urls() -> Vec<Vec<u8>> {
    let mut all = texts([
        "hf://org/repo@main",
        "s3://bucket/prefix/",
        "https://user:password@example.com:8443/a.tar.gz?sig=x#y",
        "oci://registry:5000/a/b@sha256:00",
        "file:///srv/a",
        "/srv/a",
        "./a",
    ]);
    for scheme in ["huggingface", "https", "s3", "gs", "az", "oci", "ftp"] {
        all.push([scheme.as_bytes(), b"user:x", b"a/b@c"].join(&0));
    }
    all
}

fn manifests() -> Vec<Vec<u8>> {
    let hex = "ab".repeat(32);
    texts([
        r#"{"version":1,"files":[]}"#,
        &format!(r#"{{"version":1,"files":[{{"name":"adapter_config.json","size":7,"sha256":"{hex}"}}]}}"#),
        r#"{"version":2,"files":[]}"#,
    ])
}

/// Archives of the tiny adapter: its files at the root, below a folder, and beside what is passed over.
fn tars() -> Vec<Vec<u8>> {
    let at = |folder: &str| {
        Adapter::tiny(1).files().into_iter().map(|(name, bytes)| (format!("{folder}{name}"), bytes)).collect::<Vec<_>>()
    };
    let mut beside = at("./");
    beside.insert(0, ("./README.md".into(), b"not kept".to_vec()));
    beside.push(("../escaped".into(), b"no".to_vec()));
    [at(""), at("adapter/"), beside].map(|files| tar(&files)).into()
}

/// A ustar archive of regular files.
fn tar(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut archive = Vec::new();
    for (name, bytes) in files {
        let mut header = [0; 512];
        let mut put = |at: usize, text: &str| header[at..at + text.len()].copy_from_slice(text.as_bytes());
        put(0, name);
        put(100, "0000644\0");
        put(124, &format!("{:011o}\0", bytes.len()));
        put(148, "        ");
        put(156, "0");
        put(257, "ustar\x0000");
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        archive.extend(header);
        archive.extend(bytes);
        archive.resize(archive.len().next_multiple_of(512), 0);
    }
    archive.resize(archive.len() + 1024, 0);
    archive
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// One frame, with its size and blocks that are not compressed.
fn zstd(bytes: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0b1010_0000];
    frame.extend((bytes.len() as u32).to_le_bytes());
    let mut blocks = bytes.chunks(64 << 10).peekable();
    while let Some(block) = blocks.next() {
        let head = (block.len() as u32) << 3 | u32::from(blocks.peek().is_none());
        frame.extend(&head.to_le_bytes()[..3]);
        frame.extend(block);
    }
    frame
}

fn zips() -> Vec<Vec<u8>> {
    let deflated = |bytes: &[u8]| {
        let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    };
    [false, true]
        .map(|is_deflated| {
            let (mut archive, mut directory) = (Vec::new(), Vec::new());
            let files = Adapter::tiny(1).files();
            for (name, bytes) in &files {
                let mut crc = Crc::new();
                crc.update(bytes);
                let packed = if is_deflated { deflated(bytes) } else { bytes.clone() };
                let at = archive.len() as u32;
                let method = if is_deflated { 8_u16 } else { 0 };
                // Version, flags, method, time, date, sum, both sizes, length of the name, none of what may follow.
                let mut common = [20_u16, 0, method, 0, 33].map(u16::to_le_bytes).concat();
                common.extend([crc.sum(), packed.len() as u32, bytes.len() as u32].map(u32::to_le_bytes).concat());
                common.extend([name.len() as u16, 0].map(u16::to_le_bytes).concat());
                archive.extend(b"PK\x03\x04");
                archive.extend(&common);
                archive.extend(name.as_bytes());
                archive.extend(packed);
                directory.extend(b"PK\x01\x02\x14\x03");
                directory.extend(common);
                directory.extend([0_u16; 3].map(u16::to_le_bytes).concat());
                directory.extend([0_u32, at].map(u32::to_le_bytes).concat());
                directory.extend(name.as_bytes());
            }
            let (at, size, count) = (archive.len() as u32, directory.len() as u32, files.len() as u16);
            archive.extend(directory);
            archive.extend(b"PK\x05\x06\0\0\0\0");
            archive.extend([count, count].map(u16::to_le_bytes).concat());
            archive.extend([size, at].map(u32::to_le_bytes).concat());
            archive.extend([0, 0]);
            archive
        })
        .into()
}
