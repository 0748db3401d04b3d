//! A whole adapter, in chunks of any size: the verdict must not depend on them, nor on the order of the files.
//!
//! An input is, between NULs: sizes of chunks, the configuration, the header; then the tensors' bytes.
#![no_main]

use std::sync::{Arc, LazyLock};

use libfuzzer_sys::fuzz_target;
use longshore_artifacts::{BaseShapes, Defect, Verified, Verifier};
use longshore_fuzz::{check_words, parts};

static BASE: LazyLock<Arc<BaseShapes>> = LazyLock::new(|| {
    let json = br#"{"model_type":"llama","architectures":["LlamaForCausalLM"],"hidden_size":8,"intermediate_size":16,
        "num_hidden_layers":2,"num_attention_heads":2,"num_key_value_heads":1,"head_dim":4,"vocab_size":16}"#;
    Arc::new(BaseShapes::from_config_json(json).expect("a sound configuration"))
});

/// Feeds both files, each in chunks of these sizes in turn.
fn verify(files: [(&str, &[u8]); 2], sizes: &[u8], known: bool, base: bool) -> Result<Verified, Defect> {
    let mut verifier = Verifier::new(base.then(|| BASE.clone()));
    for (name, mut bytes) in files {
        let mut file = verifier.file(name, known.then_some(bytes.len() as u64))?;
        let mut sizes = sizes.iter().cycle();
        while !bytes.is_empty() {
            let size = sizes.next().map_or(bytes.len(), |size| usize::from(*size).clamp(1, bytes.len()));
            let (chunk, rest) = bytes.split_at(size);
            file.feed(chunk)?;
            bytes = rest;
        }
        file.finish()?;
    }
    verifier.finish()
}

fuzz_target!(|data: &[u8]| {
    let [sizes, config, header, tensors] = parts(data);
    let mut weights = (header.len() as u64).to_le_bytes().to_vec();
    weights.extend(header);
    weights.extend(tensors);
    let files = [("adapter_config.json", config), ("adapter_model.safetensors", &weights)];
    let with_base = sizes.first().is_some_and(|size| size % 2 == 1);

    let whole = verify(files, &[], false, with_base);
    if let Err(defect) = &whole {
        check_words(defect);
    }
    assert_eq!(verify(files, sizes, false, with_base), whole, "chunks matter");
    // A size that is known says the same sooner, if perhaps for another reason, and so does another order.
    let sized = verify(files, sizes, true, with_base);
    assert_eq!(sized.is_ok(), whole.is_ok(), "the size matters: {sized:?} {whole:?}");
    let turned = verify([files[1], files[0]], sizes, false, with_base);
    assert_eq!(turned.is_ok(), whole.is_ok(), "the order matters: {turned:?} {whole:?}");
    if let (Ok(a), Ok(b)) = (&turned, &whole) {
        assert_eq!(a, b);
        assert!(b.rank >= 1 && !b.targets.is_empty() && b.files.len() == 2);
    }
});
