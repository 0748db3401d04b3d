//! What an adapter's reference means to an engine that nobody fetches files for. Pure.

use longshore_api::spec::AdapterSpec;
use longshore_reconciler::Resolved;
use longshore_types::{Fault, Root, Scheme, Scope};

/// The files have to be fetched, and there is nothing that could put them where the engine sees them.
const STORE_NOT_SHARED: &str = "StoreNotShared";
/// The bytes cannot be seen, so that nothing can be promised about them.
const UNVERIFIABLE: &str = "Unverifiable";

/// What the engine is told to load.
///
/// # Errors
/// A [`Fault`] of [`Scope::Artifact`] for what an engine cannot load by itself.
pub(super) fn resolve(spec: &AdapterSpec) -> Result<Resolved, Fault> {
    let refuse = |reason, message: String| Err(Fault::new(Scope::Artifact, reason, message));
    if spec.pinned.is_some() {
        let message = "spec.artifactDigest cannot be checked, since the engine reads the files by itself: take it out, or \
                       give the pods the longshore-sidecar container";
        return refuse(UNVERIFIABLE, message.to_owned());
    }
    let url = &spec.artifact;
    let text = match url.scheme() {
        Scheme::File => url.path().unwrap_or_default(),
        Scheme::HuggingFace => {
            let repository = url.as_written().split_once("://").map_or("", |(_, repository)| repository);
            if let Some((name, revision)) = repository.split_once('@') {
                let message = format!(
                    "an engine that downloads {name} by itself takes its main revision, not {revision:?}: leave the \
                     revision out, or give the pods the longshore-sidecar container"
                );
                return refuse(UNVERIFIABLE, message);
            }
            repository
        }
        Scheme::S3 | Scheme::Gcs | Scheme::Azure | Scheme::Http | Scheme::Oci => {
            let message = format!(
                "{url} has to be fetched for the engine, and no container in its pod does that: add the longshore-sidecar \
                 container, and one emptyDir volume that both containers mount at the same path"
            );
            return refuse(STORE_NOT_SHARED, message);
        }
        Scheme::Relative => {
            return refuse(longshore_api::INVALID_SPEC, format!("{url} is a relative path, which means nothing here"));
        }
    };
    Ok(Resolved { root: Root::Other(text.into()), bytes: None, rank: None, warnings: Vec::new() })
}

#[cfg(test)]
mod tests {
    use longshore_api::{ModelAdapter, ModelAdapterSpec, RelativePaths, lower};
    use longshore_types::Digest;

    use super::*;

    fn spec(url: &str) -> AdapterSpec {
        let selector = serde_json::from_value(serde_json::json!({"matchLabels": {"a": "b"}})).unwrap();
        let object = ModelAdapter::new("sql", ModelAdapterSpec::new(selector, url));
        lower(&object, RelativePaths::Refused).unwrap().remove(0)
    }

    #[test]
    fn what_an_engine_can_read_by_itself_is_handed_to_it() {
        for (url, root) in [
            ("/models/sql", "/models/sql"),
            ("file:///models/sql", "/models/sql"),
            ("huggingface://org/sql", "org/sql"),
            ("hf://org/sql", "org/sql"),
        ] {
            let resolved = resolve(&spec(url)).unwrap();
            assert_eq!(resolved.root, Root::Other(root.into()), "{url}");
            assert_eq!(resolved.digest(), None);
        }
    }

    #[test]
    fn what_would_have_to_be_fetched_or_promised_is_refused_with_what_to_do() {
        for (url, reason) in [
            ("s3://bucket/sql/", STORE_NOT_SHARED),
            ("https://host/sql.tar.gz", STORE_NOT_SHARED),
            ("huggingface://org/sql@v2", UNVERIFIABLE),
        ] {
            let fault = resolve(&spec(url)).unwrap_err();
            assert_eq!((fault.scope, fault.reason), (Scope::Artifact, reason), "{url}");
            assert!(fault.message.contains("longshore-sidecar"), "{url}: {fault}");
        }
        let pinned = AdapterSpec { pinned: Some(Digest::from_bytes([1; 32])), ..spec("/models/sql") };
        assert_eq!(resolve(&pinned).unwrap_err().reason, UNVERIFIABLE);
    }
}
