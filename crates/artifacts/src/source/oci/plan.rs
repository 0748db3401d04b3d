//! What to fetch of an artifact, decided before anything is.
//!
//! Three ways of packing are known, and a manifest may mix them: a layer per file (ORAS, and the model specification's
//! `raw` layers), which is named by an annotation; an archive of a directory (ORAS), marked by another; and layers that are
//! archives by their media type, as in images.

use longshore_types::Digest;

use super::manifest::{Annotations, Descriptor};
use crate::digest::{CONFIG, FileKind};
use crate::error::{Defect, Error};
use crate::store::staging::Limits;
use crate::verify::defect::shown;

/// What the model specification's media types begin with.
const MODEL: &str = "application/vnd.cncf.model.";
/// Its layers that are no part of what an engine loads.
const BESIDE: [&str; 3] = ["doc.", "code.", "dataset."];
/// The layer of an artifact that has none.
const EMPTY: &str = "application/vnd.oci.empty.v1+json";
/// How the names of archives end.
const ARCHIVES: [&str; 6] = [".tar", ".tar.gz", ".tgz", ".tar.zst", ".tzst", ".zip"];

/// What to fetch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    /// In this order: the configuration and the weights first, so that what is wrong by its headers is refused early.
    pub(crate) pieces: Vec<Piece>,
    /// Files that are not kept.
    pub(crate) passed_over: Vec<String>,
    /// The end of a sentence that says where else there seems to be an adapter.
    pub(crate) hint: Option<String>,
}

/// One layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    /// The kept file that it is; none where it is an archive.
    pub(crate) file: Option<String>,
    /// The digest of its bytes.
    pub(crate) digest: Digest,
    /// How many they are.
    pub(crate) size: u64,
}

/// What a layer is.
enum Kind {
    File(String),
    Archive,
    /// Not said: an archive, where it is the only layer.
    Unknown,
    Nothing,
}

impl Plan {
    /// What of `layers` to fetch.
    ///
    /// # Errors
    /// Layers that contradict each other, or that are too large together.
    pub(crate) fn of(layers: Vec<Descriptor>, limits: &Limits) -> Result<Self, Error> {
        let mut plan = Self { pieces: Vec::new(), passed_over: Vec::new(), hint: None };
        let lonely = layers.len() == 1;
        for layer in layers {
            let kind = kind_of(&layer);
            let piece = |file| Piece { file, digest: layer.digest, size: layer.size };
            match kind {
                Kind::File(path) => plan.file(path, piece)?,
                Kind::Archive => plan.pieces.push(piece(None)),
                Kind::Unknown if lonely => plan.pieces.push(piece(None)),
                Kind::Unknown | Kind::Nothing => {}
            }
        }
        if plan.pieces.is_empty() && plan.passed_over.is_empty() {
            let problem =
                "; none of its layers has a file's name or is an archive: push the files from inside their folder";
            plan.hint = Some(problem.into());
        }
        // Archives last: they could only bring a second one of what a layer of its own already is.
        plan.pieces.sort_by_key(|piece| match &piece.file {
            Some(name) => (false, FileKind::of(name), name.clone()),
            None => (true, None, String::new()),
        });
        plan.judge(limits)?;
        Ok(plan)
    }

    /// Bytes that will come.
    pub(crate) fn bytes(&self) -> u64 {
        self.pieces.iter().fold(0, |sum, piece| sum.saturating_add(piece.size))
    }

    fn file(&mut self, path: String, piece: impl FnOnce(Option<String>) -> Piece) -> Result<(), Error> {
        let name = path.strip_prefix("./").unwrap_or(&path);
        if let Some((folder, CONFIG)) = name.rsplit_once('/') {
            let folder = shown(folder);
            self.hint = Some(format!("; there is one in the folder {folder}: push the files from inside of it"));
        }
        match FileKind::of(name) {
            Some(_) if !name.contains('/') => {
                if self.pieces.iter().any(|piece| piece.file.as_deref() == Some(name)) {
                    return Err(invalid(format!("has two layers for {}: push it again with one", shown(name))));
                }
                self.pieces.push(piece(Some(name.to_owned())));
            }
            _ => self.passed_over.push(path),
        }
        Ok(())
    }

    fn judge(&self, limits: &Limits) -> Result<(), Error> {
        let too_large = |problem| Err(Defect::TooLarge { problem }.into());
        if self.bytes() > limits.bytes {
            return too_large(format!("its layers have {} bytes, and {} are allowed", self.bytes(), limits.bytes));
        }
        if self.pieces.iter().filter(|piece| piece.file.is_some()).count() > limits.files {
            return too_large(format!("it has more than {} files", limits.files));
        }
        Ok(())
    }
}

/// A manifest that makes no sense.
pub(crate) fn invalid(problem: String) -> Error {
    Defect::ManifestInvalid { problem }.into()
}

fn kind_of(layer: &Descriptor) -> Kind {
    let Annotations { title, path, unpack, .. } = &layer.annotations;
    let media = layer.media_type.as_str();
    if media == EMPTY {
        return Kind::Nothing;
    }
    if unpack.as_deref() == Some("true") {
        return Kind::Archive;
    }
    if let Some(of_model) = media.strip_prefix(MODEL) {
        let named = path.as_ref().or(title.as_ref());
        return match named {
            _ if BESIDE.iter().any(|beside| of_model.starts_with(beside)) => Kind::Nothing,
            _ if is_tar(of_model) => Kind::Archive,
            Some(name) => Kind::File(name.clone()),
            None => Kind::Unknown,
        };
    }
    // The name goes before the media type: ORAS calls every file a tar layer unless it is told otherwise.
    match title {
        Some(name) if ARCHIVES.iter().any(|end| name.ends_with(end)) => Kind::Archive,
        Some(name) => Kind::File(name.clone()),
        None if is_tar(media) => Kind::Archive,
        None => Kind::Unknown,
    }
}

/// Whether a media type's last word is `tar`, compressed or not: `...layer.v1.tar+gzip`, `...rootfs.diff.tar.gzip`.
fn is_tar(media: &str) -> bool {
    let plain = media.trim_end_matches("+gzip").trim_end_matches(".gzip").trim_end_matches("+zstd");
    plain.ends_with(".tar")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::WEIGHTS;
    use crate::source::oci::manifest::Document;
    use serde_json::{Value, json};

    const TAR: &str = "application/vnd.oci.image.layer.v1.tar";
    const TITLE: &str = "org.opencontainers.image.title";

    fn layer(media: &str, annotations: Value) -> Value {
        json!({"mediaType": media, "digest": format!("sha256:{}", "0".repeat(64)), "size": 10, "annotations": annotations})
    }

    fn plan(layers: Value) -> Result<Plan, Error> {
        let text = json!({"layers": layers}).to_string();
        let Ok(Document::Layers(layers)) = Document::parse(text.as_bytes()) else { panic!("{text}") };
        Plan::of(layers, &Limits { bytes: 100, files: 4 })
    }

    /// The files to fetch, `*` for an archive.
    fn pieces(layers: Value) -> Vec<String> {
        let pieces = plan(layers).unwrap().pieces.into_iter();
        pieces.map(|piece| piece.file.unwrap_or_else(|| "*".into())).collect()
    }

    #[test]
    fn a_layer_per_file_is_fetched_by_its_title_the_configuration_first() {
        let found = plan(json!([
            layer("application/octet-stream", json!({TITLE: "README.md"})),
            layer(TAR, json!({TITLE: WEIGHTS})),
            layer("application/json", json!({TITLE: "./adapter_config.json"})),
            layer("", json!({TITLE: "tokenizer.json"})),
            layer("x", json!({TITLE: "adapter_model.bin"})),
            layer(EMPTY, json!({})),
        ]))
        .unwrap();
        let names: Vec<_> = found.pieces.iter().map(|piece| piece.file.as_deref().unwrap()).collect();
        assert_eq!(names, [CONFIG, WEIGHTS, "tokenizer.json"]);
        assert_eq!(found.passed_over, ["README.md", "adapter_model.bin"]);
        assert_eq!((found.bytes(), found.hint), (30, None));
    }

    #[test]
    fn archives_are_told_by_media_type_annotation_name_or_by_being_alone() {
        let unpack = json!({TITLE: "adapter", "io.deis.oras.content.unpack": "true"});
        for one in [
            layer(TAR, json!({})),
            layer(&format!("{TAR}+gzip"), json!({})),
            layer(&format!("{TAR}+zstd"), json!({})),
            layer("application/vnd.docker.image.rootfs.diff.tar.gzip", json!({})),
            layer(&format!("{TAR}+gzip"), unpack),
            layer("application/octet-stream", json!({TITLE: "adapter.tar.gz"})),
            layer("application/vnd.cncf.model.weight.v1.tar+zstd", json!({"org.cncf.model.filepath": WEIGHTS})),
            layer("application/whatever", json!({})),
        ] {
            assert_eq!(pieces(json!([one.clone()])), ["*"], "{one}");
        }
        assert_eq!(pieces(json!([layer(TAR, json!({})), layer("x", json!({})), layer(TAR, json!({}))])), ["*", "*"]);
    }

    #[test]
    fn the_model_specifications_layers_are_fetched_but_for_what_no_engine_loads() {
        let raw = |kind: &str, path: &str| {
            layer(&format!("application/vnd.cncf.model.{kind}.v1.raw"), json!({"org.cncf.model.filepath": path}))
        };
        let doc = layer("application/vnd.cncf.model.doc.v1.tar", json!({}));
        let layers = json!([raw("weight", WEIGHTS), raw("weight.config", CONFIG), raw("doc", "README.md"), doc]);
        assert_eq!(pieces(layers), [CONFIG, WEIGHTS]);
    }

    #[test]
    fn files_and_archives_may_be_mixed_and_archives_come_last() {
        let layers = json!([layer(TAR, json!({})), layer("x", json!({TITLE: WEIGHTS}))]);
        assert_eq!(pieces(layers), [WEIGHTS, "*"]);
    }

    #[test]
    fn a_file_in_a_folder_is_not_kept_and_the_folder_is_named() {
        let found = plan(json!([layer("x", json!({TITLE: "lora/adapter_config.json"}))])).unwrap();
        assert!(found.pieces.is_empty());
        assert!(found.hint.unwrap().contains("the folder lora"));
        for odd in ["../adapter_config.json", "/adapter_config.json", "a/../adapter_config.json"] {
            assert!(plan(json!([layer("x", json!({TITLE: odd}))])).unwrap().pieces.is_empty(), "{odd}");
        }
    }

    #[test]
    fn an_artifact_of_another_kind_is_told_what_it_lacks() {
        let found = plan(json!([layer("application/x", json!({})), layer("application/y", json!({}))])).unwrap();
        assert!(found.pieces.is_empty() && found.hint.unwrap().contains("none of its layers"));
    }

    #[test]
    fn what_contradicts_itself_or_is_too_large_is_refused_before_anything_is_fetched() {
        let one = |name: &str| layer("x", json!({TITLE: name}));
        let twice = plan(json!([one(CONFIG), one(&format!("./{CONFIG}"))])).unwrap_err();
        assert_eq!(twice.reason(), "ManifestInvalid");
        let many: Vec<Value> = (0..5).map(|n| one(&format!("tokenizer{n}"))).collect();
        assert_eq!(plan(json!(many)).unwrap_err().reason(), "TooLarge");
        let mut large = one(WEIGHTS);
        large["size"] = json!(101);
        assert_eq!(plan(json!([large])).unwrap_err().reason(), "TooLarge");
        let mut huge = layer(TAR, json!({}));
        huge["size"] = json!(u64::MAX);
        assert_eq!(plan(json!([huge.clone(), huge])).unwrap_err().reason(), "TooLarge");
    }
}
