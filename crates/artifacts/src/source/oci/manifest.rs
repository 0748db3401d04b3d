//! What a registry says that an artifact is made of: image manifests, artifact manifests, and indexes of them.

use std::fmt;
use std::marker::PhantomData;

use longshore_types::Digest;
use serde::de::{Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::verify::defect::shown;

/// Layers of a manifest, and manifests of an index. Images have some dozen; the limit keeps what a manifest of the largest
/// size unfolds to in bounds.
pub(crate) const MOST: usize = 1_000;
/// The kinds of manifest that we read, the usual ones first.
pub(crate) const ACCEPT: &str = "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, \
                                 application/vnd.docker.distribution.manifest.v2+json, \
                                 application/vnd.docker.distribution.manifest.list.v2+json, \
                                 application/vnd.oci.artifact.manifest.v1+json";
/// What `artifactType` says of adapters: our own word, and the model specification's.
const OURS: [&str; 2] = ["application/vnd.longshore.adapter.v1", "application/vnd.cncf.model.manifest.v1+json"];

/// One thing in a registry.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Descriptor {
    /// What it is.
    #[serde(default)]
    pub(crate) media_type: String,
    /// The digest of its bytes.
    #[serde(deserialize_with = "digest")]
    pub(crate) digest: Digest,
    /// How many they are.
    pub(crate) size: u64,
    /// In an index: what kind of artifact it is a manifest of.
    pub(crate) artifact_type: Option<String>,
    /// In an index: where it runs.
    pub(crate) platform: Option<Platform>,
    #[serde(default)]
    pub(crate) annotations: Annotations,
}

/// What is said of a layer, as far as we listen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct Annotations {
    /// The file's name, as ORAS writes it.
    #[serde(rename = "org.opencontainers.image.title")]
    pub(crate) title: Option<String>,
    /// The file's name, as the model specification has it.
    #[serde(rename = "org.cncf.model.filepath")]
    pub(crate) path: Option<String>,
    /// `true` where ORAS packed a directory.
    #[serde(rename = "io.deis.oras.content.unpack")]
    pub(crate) unpack: Option<String>,
    /// `attestation-manifest` where it says where another one came from.
    #[serde(rename = "vnd.docker.reference.type")]
    reference: Option<String>,
}

/// Where an image runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct Platform {
    architecture: String,
    os: String,
}

/// A manifest or an index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Document {
    /// The layers of one artifact.
    Layers(Vec<Descriptor>),
    /// Manifests to choose from.
    Index(Vec<Descriptor>),
}

impl Document {
    /// Parses the bytes of either.
    ///
    /// # Errors
    /// The end of a sentence that says what is wrong.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, String> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Raw {
            schema_version: Option<u64>,
            layers: Option<Bounded<Descriptor>>,
            blobs: Option<Bounded<Descriptor>>,
            manifests: Option<Bounded<Descriptor>>,
        }
        let raw: Raw = serde_json::from_slice(bytes).map_err(|error| shown(&error.to_string()))?;
        match (raw.layers.or(raw.blobs), raw.manifests) {
            // Two readers could take such a one for two things.
            (Some(_), Some(_)) => Err("it is a manifest and an index at once".into()),
            (Some(layers), None) => Ok(Self::Layers(layers.0)),
            (None, Some(manifests)) => Ok(Self::Index(manifests.0)),
            (None, None) if raw.schema_version == Some(1) => {
                Err("it is of Docker's first schema, which has no digests: push it again".into())
            }
            (None, None) => Err("it has neither layers nor manifests".into()),
        }
    }
}

/// The one manifest of an index that an adapter is in.
///
/// # Errors
/// The end of a sentence that says why none can be chosen, and what to do.
pub(crate) fn choose(manifests: Vec<Descriptor>) -> Result<Descriptor, String> {
    let mut eligible: Vec<Descriptor> = manifests.into_iter().filter(|one| !is_about_another(one)).collect();
    let of_ours: Vec<usize> = eligible
        .iter()
        .enumerate()
        .filter(|(_, one)| one.artifact_type.as_deref().is_some_and(|kind| OURS.contains(&kind)))
        .map(|(at, _)| at)
        .collect();
    match (eligible.len(), of_ours.as_slice()) {
        (0, _) => Err("it is an index of nothing that could be an adapter".into()),
        (1, _) => Ok(eligible.remove(0)),
        (_, [only]) => Ok(eligible.remove(*only)),
        (count, ours) => {
            let which = if ours.is_empty() { "" } else { " of adapters" };
            let count = if ours.is_empty() { count } else { ours.len() };
            // The platform or kind of each helps to tell them apart; three are enough to see what they are.
            let named = eligible.iter().take(3).map(|one| match &one.platform {
                Some(platform) => format!("{} ({}/{})", one.digest, shown(&platform.os), shown(&platform.architecture)),
                None => format!("{} ({})", one.digest, shown(one.artifact_type.as_deref().unwrap_or(&one.media_type))),
            });
            let named = named.collect::<Vec<_>>().join(", ");
            Err(format!("it is an index with {count} manifests{which}: name one by `@` and its digest, of {named}"))
        }
    }
}

/// Whether it only says where another one came from.
fn is_about_another(one: &Descriptor) -> bool {
    one.annotations.reference.is_some()
        || one.platform.as_ref().is_some_and(|it| it.os == "unknown" && it.architecture == "unknown")
}

fn digest<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Digest, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map_err(|_| D::Error::custom("a digest is not `sha256:` and 64 digits of 0-9 and a-f"))
}

/// A list that is read no further than it may be long.
struct Bounded<T>(Vec<T>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Bounded<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Read<T> {
            type Value = Bounded<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
                let mut all = Vec::new();
                while let Some(one) = list.next_element()? {
                    if all.len() == MOST {
                        return Err(A::Error::custom(format!("it lists more than {MOST} things")));
                    }
                    all.push(one);
                }
                Ok(Bounded(all))
            }
        }
        deserializer.deserialize_seq(Read(PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn hex(n: usize) -> String {
        format!("sha256:{n:064x}")
    }

    fn index(manifests: Value) -> Result<Descriptor, String> {
        match Document::parse(json!({"schemaVersion": 2, "manifests": manifests}).to_string().as_bytes())? {
            Document::Index(all) => choose(all),
            Document::Layers(_) => unreachable!("it is written as an index above"),
        }
    }

    #[test]
    fn manifests_of_every_kind_are_read() {
        for list in ["layers", "blobs"] {
            let text = json!({"schemaVersion": 2, "config": {"x": 1}, list: [
                {"mediaType": "m", "digest": hex(1), "size": 3, "urls": ["http://x"], "data": "aGk=",
                 "annotations": {"org.opencontainers.image.title": "a", "other": "b"}}]});
            let Ok(Document::Layers(layers)) = Document::parse(text.to_string().as_bytes()) else { panic!("{list}") };
            assert_eq!((layers.len(), layers[0].size), (1, 3));
            assert_eq!(layers[0].annotations.title.as_deref(), Some("a"));
        }
    }

    #[test]
    fn a_broken_manifest_is_refused_with_what_is_wrong() {
        let good = json!({"mediaType": "m", "digest": hex(1), "size": 3});
        let with = |field: &str, value: Value| {
            let mut one = good.clone();
            one[field] = value;
            json!({"layers": [one]}).to_string()
        };
        let many = json!({"layers": vec![good.clone(); MOST + 1]}).to_string();
        let deep = format!(r#"{{"x":{}"#, "[".repeat(100_000));
        for (text, problem) in [
            ("", "EOF"),
            ("<html>", "expected value"),
            ("{}", "neither layers nor manifests"),
            (r#"{"schemaVersion":1,"fsLayers":[]}"#, "first schema"),
            (r#"{"layers":[],"manifests":[]}"#, "at once"),
            (r#"{"layers":[],"layers":[]}"#, "duplicate field"),
            (r#"{"layers":{}}"#, "a list"),
            (&with("size", json!(-1)), "expected u64"),
            (&with("size", json!(1.5)), "expected u64"),
            (&with("size", json!("3")), "expected u64"),
            (&with("digest", json!("sha512:00")), "a digest is not"),
            (&with("digest", json!(hex(1).to_uppercase())), "a digest is not"),
            (&with("annotations", json!({"org.opencontainers.image.title": 7})), "expected a string"),
            (&many, "more than 1000"),
            (&deep, "EOF"),
        ] {
            let found = Document::parse(text.as_bytes()).unwrap_err();
            assert!(found.contains(problem), "{found}: {}", &text[..text.len().min(80)]);
        }
    }

    #[test]
    fn the_one_manifest_that_can_be_meant_is_chosen() {
        let plain = |n| json!({"digest": hex(n), "size": 1, "mediaType": "application/vnd.oci.image.manifest.v1+json"});
        let with = |n, field: &str, value: Value| {
            let mut one = plain(n);
            one[field] = value;
            one
        };
        let unknown = with(2, "platform", json!({"os": "unknown", "architecture": "unknown"}));
        let attestation = with(3, "annotations", json!({"vnd.docker.reference.type": "attestation-manifest"}));
        let ours = |n, kind: &str| with(n, "artifactType", json!(kind));
        assert_eq!(index(json!([plain(1)])).unwrap().digest, hex(1).parse().unwrap());
        assert_eq!(index(json!([unknown, attestation, plain(4)])).unwrap().digest, hex(4).parse().unwrap());
        for kind in OURS {
            let chosen = index(json!([plain(1), ours(5, kind), plain(2)])).unwrap();
            assert_eq!(chosen.digest, hex(5).parse().unwrap());
        }
        assert!(index(json!([])).unwrap_err().contains("nothing"));
        assert!(index(json!([attestation])).unwrap_err().contains("nothing"));
        let amd = with(1, "platform", json!({"os": "linux", "architecture": "amd64"}));
        let ambiguous = index(json!([amd, plain(2)])).unwrap_err();
        assert!(ambiguous.contains("2 manifests") && ambiguous.contains("(linux/amd64)"), "{ambiguous}");
        let two = index(json!([plain(1), ours(2, OURS[0]), ours(3, OURS[1])])).unwrap_err();
        assert!(two.contains("2 manifests of adapters"), "{two}");
    }
}
