//! Which files an adapter is made of, and the digest of them.

use longshore_types::Digest;
use sha2::{Digest as _, Sha256};

/// The adapter's configuration.
pub(crate) const CONFIG: &str = "adapter_config.json";
/// The adapter's weights.
pub(crate) const WEIGHTS: &str = "adapter_model.safetensors";
/// Names under which PEFT saves pickles.
const PICKLES: [&str; 2] = ["adapter_model.bin", "adapter_model.pt"];

/// What a file of an adapter is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FileKind {
    /// `adapter_config.json`.
    Config,
    /// `adapter_model.safetensors`, which engines read.
    Weights,
    /// Any other `*.safetensors`.
    OtherWeights,
    /// Tokenizer files and added tokens.
    Tokenizer,
}

impl FileKind {
    /// What the top-level file `name` is for; none, if it is not kept.
    pub fn of(name: &str) -> Option<Self> {
        match name {
            CONFIG => Some(Self::Config),
            WEIGHTS => Some(Self::Weights),
            "special_tokens_map.json" | "added_tokens.json" => Some(Self::Tokenizer),
            _ if name.ends_with(".safetensors") => Some(Self::OtherWeights),
            _ if name.starts_with("tokenizer") => Some(Self::Tokenizer),
            _ => None,
        }
    }

    /// Whether `name` is a pickle that would take the place of the weights.
    pub(crate) fn is_pickle(name: &str) -> bool {
        PICKLES.contains(&name)
    }
}

/// One kept file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptFile {
    /// Its name; kept files are at the top level.
    pub name: String,
    /// Its size in bytes.
    pub size: u64,
    /// The SHA-256 of its bytes.
    pub sha256: Digest,
}

/// The digest of an adapter that is made of `files`, in whatever order: SHA-256 over, for each in byte order of its name,
/// `<name> NUL <size in decimal> NUL <hex SHA-256> LF`.
pub fn digest_of(files: &[KeptFile]) -> Digest {
    let mut files: Vec<&KeptFile> = files.iter().collect();
    files.sort_by(|a, b| a.name.as_bytes().cmp(b.name.as_bytes()));
    let mut hash = Sha256::new();
    for file in files {
        hash.update(format!("{}\0{}\0{}\n", file.name, file.size, file.sha256.hex()));
    }
    finish(hash)
}

/// The digest that `hash` comes to.
pub(crate) fn finish(hash: Sha256) -> Digest {
    Digest::from_bytes(hash.finalize().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str, bytes: &[u8]) -> KeptFile {
        let mut hash = Sha256::new();
        hash.update(bytes);
        KeptFile { name: name.into(), size: bytes.len() as u64, sha256: finish(hash) }
    }

    #[test]
    fn the_digest_is_what_the_contract_says() {
        // printf 'adapter_config.json\0%s\0%s\nadapter_model.safetensors\0%s\0%s\n' \
        //     2 "$(printf '{}' | sha256sum | cut -c-64)" 3 "$(printf 'abc' | sha256sum | cut -c-64)" | sha256sum
        let (config, weights) = (file(CONFIG, b"{}"), file(WEIGHTS, b"abc"));
        let expected = "5f2fe4e9f1262e27cd561ad7f21e3dd3639ef096b1ddc3c91b13dbfbb2a6f151";
        assert_eq!(digest_of(&[config.clone(), weights.clone()]).hex(), expected);
        assert_eq!(digest_of(&[weights, config]).hex(), expected);
    }

    #[test]
    fn names_sort_by_bytes_not_by_alphabet() {
        let both = [file("tokenizer.json", b"a"), file("Z.safetensors", b"b"), file("a.safetensors", b"c")];
        let mut sorted = both.clone();
        sorted.sort_by(|a, b| a.name.cmp(&b.name));
        assert_eq!(sorted[0].name, "Z.safetensors");
        assert_eq!(digest_of(&both), digest_of(&sorted));
    }

    #[test]
    fn only_what_an_engine_reads_is_kept() {
        for (name, kind) in [
            ("adapter_config.json", Some(FileKind::Config)),
            ("adapter_model.safetensors", Some(FileKind::Weights)),
            ("new_embeddings.safetensors", Some(FileKind::OtherWeights)),
            ("tokenizer.json", Some(FileKind::Tokenizer)),
            ("tokenizer_config.json", Some(FileKind::Tokenizer)),
            ("tokenizer.model", Some(FileKind::Tokenizer)),
            ("special_tokens_map.json", Some(FileKind::Tokenizer)),
            ("added_tokens.json", Some(FileKind::Tokenizer)),
            ("adapter_model.bin", None),
            ("README.md", None),
            ("optimizer.pt", None),
            ("config.json", None),
            (".gitattributes", None),
            ("Tokenizer.json", None),
        ] {
            assert_eq!(FileKind::of(name), kind, "{name}");
        }
    }
}
