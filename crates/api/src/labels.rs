//! Every label, annotation, finalizer, name and port that other programs know us by. Exact: users and AIBrix's own
//! manifests depend on each character.

use sha2::{Digest as _, Sha256};

/// API group of `ModelAdapter`.
pub const GROUP: &str = "model.aibrix.ai";
/// API version of `ModelAdapter`.
pub const VERSION: &str = "v1alpha1";
/// `apiVersion` of `ModelAdapter`.
pub const API_VERSION: &str = "model.aibrix.ai/v1alpha1";
/// Kind of `ModelAdapter`.
pub const KIND: &str = "ModelAdapter";

/// On a pod: `"true"` makes it an engine, any other value leaves it out, absence leaves it to the selector.
pub const ENABLED: &str = "adapter.model.aibrix.ai/enabled";
/// On pods, Services and slices: the model that is served.
pub const MODEL_NAME: &str = "model.aibrix.ai/name";
/// On pods: the engine's port, [`ENGINE_PORT`] where absent.
pub const MODEL_PORT: &str = "model.aibrix.ai/port";
/// On pods: the engine's kind, such as `vllm`.
pub const MODEL_ENGINE: &str = "model.aibrix.ai/engine";
/// On an adapter's Service: the adapter's name.
pub const ADAPTER_NAME: &str = "adapter.model.aibrix.ai/name";
/// On objects: held until no engine has the adapter any more. AIBrix's own, so that either controller can finish.
pub const FINALIZER: &str = "adapter.model.aibrix.ai/finalizer";
/// Annotation prefix: attempts so far on the pod that follows the dot. See [`retry_count`].
pub const RETRY_COUNT: &str = "adapter.model.aibrix.ai/retry-count.";
/// Annotation prefix: RFC 3339 time of the last attempt on the pod that follows the dot. See [`last_retry_time`].
pub const LAST_RETRY_TIME: &str = "adapter.model.aibrix.ai/last-retry-time.";

/// On an object: `"true"` takes over an adapter of its name that somebody else loaded.
pub const ADOPT: &str = "longshore.dev/adopt";
/// On slices: the exact served name.
pub const SLICE_ADAPTER: &str = "longshore.dev/adapter";
/// On slices: the base model that the engines serve.
pub const SLICE_BASE_MODEL: &str = "longshore.dev/base-model";
/// On slices: the digest that the engines hold.
pub const SLICE_DIGEST: &str = "longshore.dev/digest";
/// On slices: the engines' kind.
pub const SLICE_ENGINE_KIND: &str = "longshore.dev/engine-kind";
/// On pods: memory that the engine has for adapters, such as `8Gi`.
pub const ADAPTER_MEMORY: &str = "longshore.dev/adapter-memory";

/// On slices: the Service that they belong to. Kubernetes' own.
pub const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// On slices: who writes them. Kubernetes' own.
pub const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
/// The value of [`MANAGED_BY`] on slices of ours.
pub const MANAGER: &str = "longshore-controller";

/// ConfigMap of a namespace with what could not be unloaded before an object went.
pub const UNFINISHED: &str = "longshore-unfinished";
/// Names of the sidecar's container.
pub const SIDECAR_CONTAINERS: [&str; 2] = ["aibrix-runtime", "longshore-sidecar"];
/// Port of the sidecar.
pub const SIDECAR_PORT: u16 = 8080;
/// Port of an engine that says nothing else.
pub const ENGINE_PORT: u16 = 8000;
/// Where AIBrix's own sidecar puts adapters, each in a directory of its name.
pub const AIBRIX_ADAPTERS: &str = "/tmp/aibrix/adapters";
/// The key of `additionalConfig` with the engine's bearer token.
pub const API_KEY: &str = "api-key";

/// The longest label value, and the longest part behind the `/` of a label or annotation key. Kubernetes' own bound.
pub const LONGEST: usize = 63;
/// The longest prefix of a label or annotation key, before the `/`. Kubernetes' own bound.
pub const LONGEST_PREFIX: usize = 253;
/// How much of a name a slice's own name shows; the rest tells them apart.
const SLICE_SHOWN: usize = 40;
/// Hex digits that stand for what was cut: 40 bits, so that among a million pods of one namespace two share them with a
/// probability below a half, and then only beside an equal beginning.
const HASH_DIGITS: usize = 10;

/// Annotation with the number of attempts on `pod`.
///
/// ```
/// use longshore_api::labels::retry_count;
///
/// assert_eq!(retry_count("pod-1"), "adapter.model.aibrix.ai/retry-count.pod-1");
/// ```
pub fn retry_count(pod: &str) -> String {
    bounded_key(RETRY_COUNT, pod)
}

/// Annotation with the time of the last attempt on `pod`.
pub fn last_retry_time(pod: &str) -> String {
    bounded_key(LAST_RETRY_TIME, pod)
}

/// `name` where it is a label value, else its hash: what [`MODEL_NAME`] shows on slices.
pub fn label_value(name: &str) -> String {
    if is_label_value(name) { name.to_owned() } else { hash(&[name], 40) }
}

/// The name of a slice or another owned object of `name`: at most 40 characters of it, made valid, and a hash over it
/// and `parts`, which tell it from its siblings. A DNS label of at most 51 characters.
pub fn owned_name(name: &str, parts: &[&str]) -> String {
    let valid: String = name
        .chars()
        .take(SLICE_SHOWN)
        .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' })
        .collect();
    let shown = valid.trim_matches('-');
    // A Service's name must begin with a letter, and an empty one with anything at all.
    let lead = if shown.starts_with(|c: char| c.is_ascii_lowercase()) { "" } else { "a" };
    let shown = shown.get(..shown.len().min(SLICE_SHOWN - lead.len())).unwrap_or_default().trim_end_matches('-');
    let mut all = vec![name];
    all.extend_from_slice(parts);
    format!("{lead}{shown}-{}", hash(&all, HASH_DIGITS))
}

/// Whether `text` may be a label's value: at most 63 letters, digits, `-`, `_` or `.`, beginning and ending with a letter
/// or digit, or nothing.
pub fn is_label_value(text: &str) -> bool {
    text.is_empty() || is_qualified(text)
}

/// Whether `text` may be a label's key: a name like a value's, not empty, with a DNS subdomain and `/` before it or not.
pub fn is_label_key(text: &str) -> bool {
    match text.split_once('/') {
        Some((prefix, name)) => is_subdomain(prefix) && is_qualified(name),
        None => is_qualified(text),
    }
}

/// Whether `text` is a DNS-1035 label: at most 63 lower-case letters, digits or `-`, beginning with a letter.
pub fn is_dns_1035_label(text: &str) -> bool {
    text.len() <= LONGEST && text.starts_with(|c: char| c.is_ascii_lowercase()) && is_dns_part(text)
}

/// Whether `text` is a DNS subdomain of at most 253 characters, as names of Secrets are.
pub fn is_subdomain(text: &str) -> bool {
    text.len() <= LONGEST_PREFIX && text.split('.').all(is_dns_part)
}

fn is_dns_part(text: &str) -> bool {
    let edge = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = text.as_bytes();
    bytes.first().is_some_and(edge) && bytes.last().is_some_and(edge) && bytes.iter().all(|b| edge(b) || *b == b'-')
}

fn is_qualified(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() <= LONGEST
        && bytes.first().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.last().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

/// `prefix` and `text` as an annotation key. What is too long or not allowed there is cut or replaced, and a hash of the
/// whole text is put behind, so that two texts never share a key by being cut.
fn bounded_key(prefix: &str, text: &str) -> String {
    let lead = prefix.split_once('/').map_or(prefix, |(_, name)| name);
    let room = LONGEST.saturating_sub(lead.len());
    if text.len() <= room && is_qualified(text) {
        return format!("{prefix}{text}");
    }
    let valid = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.') { c } else { '-' };
    let shown: String = text.chars().map(valid).take(room.saturating_sub(HASH_DIGITS + 1)).collect();
    format!("{prefix}{shown}-{}", hash(&[text], HASH_DIGITS))
}

/// The first `digits` hex digits of the SHA-256 of the parts, each ended by a NUL.
fn hash(parts: &[&str], digits: usize) -> String {
    let mut sha = Sha256::new();
    for part in parts {
        sha.update(part.as_bytes());
        sha.update([0]);
    }
    let mut hex: String = sha.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    hex.truncate(digits);
    hex
}

#[cfg(test)]
mod tests {
    use kube::Resource as _;
    use proptest::prelude::*;

    use super::*;
    use crate::ModelAdapter;

    #[test]
    fn the_resource_is_what_the_constants_say() {
        assert_eq!(ModelAdapter::group(&()), GROUP);
        assert_eq!(ModelAdapter::version(&()), VERSION);
        assert_eq!(ModelAdapter::kind(&()), KIND);
        assert_eq!(ModelAdapter::api_version(&()), API_VERSION);
    }

    #[test]
    fn a_short_pod_name_is_kept_in_the_retry_annotations() {
        assert_eq!(
            retry_count("qwen-coder-1-5b-instruct-5587f4c57d-kml6s"),
            "adapter.model.aibrix.ai/retry-count.qwen-coder-1-5b-instruct-5587f4c57d-kml6s"
        );
        assert_eq!(last_retry_time("pod-1"), "adapter.model.aibrix.ai/last-retry-time.pod-1");
    }

    #[test]
    fn two_long_pod_names_with_one_beginning_get_two_keys() {
        let (a, b) = (format!("{}-a", "p".repeat(100)), format!("{}-b", "p".repeat(100)));
        assert_ne!(retry_count(&a), retry_count(&b));
        assert_ne!(retry_count(&a), last_retry_time(&a));
    }

    #[test]
    fn a_name_that_is_no_label_value_is_shown_by_its_hash() {
        assert_eq!(label_value("qwen-code-lora"), "qwen-code-lora");
        let hashed = label_value("meta-llama/Llama-2-70b-hf");
        assert!(is_label_value(&hashed), "{hashed}");
        assert_ne!(hashed, label_value("meta-llama/Llama-2-70b-hg"));
    }

    #[test]
    fn owned_names_differ_by_every_part() {
        let name = owned_name("sql-lora", &["sha256:ab", "8000", "IPv4"]);
        assert!(name.starts_with("sql-lora-"), "{name}");
        assert_ne!(name, owned_name("sql-lora", &["sha256:ab", "8000", "IPv6"]));
        assert_ne!(owned_name("a", &["bc", "d"]), owned_name("a", &["b", "cd"]));
    }

    #[test]
    fn label_keys_and_values_follow_kubernetes() {
        for good in ["a", "model.aibrix.ai/name", "A_b.c-9", &"x".repeat(63)] {
            assert!(is_label_key(good), "{good}");
        }
        for bad in ["", "/a", "a/", "a/b/c", "A.b/c", "-a", "a b", "ä", &"x".repeat(64)] {
            assert!(!is_label_key(bad), "{bad}");
        }
        assert!(is_label_value("") && !is_label_value("a/b"));
    }

    proptest! {
        #[test]
        fn every_derived_key_and_name_is_valid(text in "\\PC{0,300}") {
            for key in [retry_count(&text), last_retry_time(&text)] {
                prop_assert!(is_label_key(&key), "{key}");
            }
            prop_assert!(is_label_value(&label_value(&text)));
            let owned = owned_name(&text, &["x"]);
            prop_assert!(is_dns_1035_label(&owned) && owned.len() <= 51, "{owned}");
        }
    }
}
