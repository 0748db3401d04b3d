//! What can be wrong with an adapter, and what to do about it.

use crate::digest::{CONFIG, WEIGHTS};

/// What is wrong with an adapter. No engine can help; its owner can.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Defect {
    /// `adapter_config.json` is missing.
    #[error("no {CONFIG}: this is not a LoRA adapter as PEFT saves one{}", hint.as_deref().unwrap_or_default())]
    ConfigMissing {
        /// Where there seems to be one, as the end of a sentence.
        hint: Option<String>,
    },
    /// `adapter_config.json` is not what it should be.
    #[error("{CONFIG}: {problem}")]
    ConfigInvalid {
        /// What is wrong.
        problem: String,
    },
    /// The adapter uses what engines do not implement.
    #[error("{feature} is not supported by engines: {advice}")]
    Incompatible {
        /// What it uses.
        feature: String,
        /// What to do.
        advice: &'static str,
    },
    /// `adapter_model.safetensors` is missing.
    #[error("no {WEIGHTS}: save the adapter again with save_pretrained(..., safe_serialization=True)")]
    WeightsMissing,
    /// There are only pickled weights.
    #[error(
        "{file} is a pickle, which can run any code when it is read, so it is refused: convert it to {WEIGHTS} where you \
         trust it, by loading it with PEFT and saving it with save_pretrained(..., safe_serialization=True)"
    )]
    PickleRefused {
        /// The pickle.
        file: String,
    },
    /// A text that stands for the file, as Git leaves it without LFS.
    #[error("{file} is a Git LFS pointer, not the file itself: run `git lfs pull` in the repository")]
    LfsPointer {
        /// The file.
        file: String,
    },
    /// A file ends too early or too late.
    #[error("{file} is incomplete: {problem}; copy it again")]
    WeightsTruncated {
        /// The file.
        file: String,
        /// What is missing.
        problem: String,
    },
    /// A safetensors header is broken.
    #[error("{file} is not a valid safetensors file: {problem}")]
    WeightsInvalid {
        /// The file.
        file: String,
        /// What is wrong.
        problem: String,
    },
    /// A weight is not a number. Engines load such an adapter and answer with noise.
    #[error("tensor `{tensor}` in {file} holds NaN or infinity: the training diverged; use an earlier checkpoint")]
    NotFinite {
        /// The file.
        file: String,
        /// The tensor.
        tensor: String,
    },
    /// A tensor is neither half of a LoRA pair.
    #[error("tensor `{tensor}` is no LoRA weight that engines know: {advice}")]
    UnsupportedTensor {
        /// The tensor.
        tensor: String,
        /// What to do.
        advice: &'static str,
    },
    /// Half of a LoRA pair is missing.
    #[error("module `{module}` has no {missing}: the file is incomplete; save the adapter again")]
    PairIncomplete {
        /// The module.
        module: String,
        /// `lora_A` or `lora_B`.
        missing: &'static str,
    },
    /// A tensor has a shape or type that no LoRA weight has.
    #[error("tensor `{tensor}` {problem}")]
    TensorInvalid {
        /// The tensor.
        tensor: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The configuration and the weights disagree about the rank.
    #[error(
        "module `{module}` has rank {found}, but {CONFIG} says {expected}: engines would scale it wrongly; set `r` (or \
         `rank_pattern`) to what was trained"
    )]
    RankMismatch {
        /// The module.
        module: String,
        /// The rank of its tensors.
        found: u64,
        /// The rank or ranks that the configuration allows.
        expected: String,
    },
    /// The configuration and the weights disagree about the modules.
    #[error("`target_modules` in {CONFIG} names {targets}, but {WEIGHTS} {problem}")]
    TargetMismatch {
        /// The targets without weights.
        targets: String,
        /// What the weights have.
        problem: String,
    },
    /// A layer is beyond those of the base model.
    #[error(
        "module `{module}` is in layer {layer}, but the base model has {layers} layers: it was trained on another model"
    )]
    LayerMissing {
        /// The module.
        module: String,
        /// Its layer.
        layer: u64,
        /// How many the base model has.
        layers: u64,
    },
    /// A module is not in the base model.
    #[error("module `{module}` is not in the base model ({model_type}): it was trained on another model")]
    ModuleMissing {
        /// The module.
        module: String,
        /// The base model's type.
        model_type: String,
    },
    /// A module has another size than the base model's.
    #[error(
        "module `{module}` has {found} {side} features, but the base model has {expected}: it was trained on another model"
    )]
    ShapeMismatch {
        /// The module.
        module: String,
        /// `input` or `output`.
        side: &'static str,
        /// What the adapter has.
        found: u64,
        /// What the base model has.
        expected: u64,
    },
    /// What a registry has under the reference is not an adapter's manifest.
    #[error("the manifest {problem}")]
    ManifestInvalid {
        /// What is wrong, and what to do.
        problem: String,
    },
    /// A file has a name that we do not take.
    #[error("a file's name is not plain text without control characters: {name}")]
    FileName {
        /// The name, escaped.
        name: String,
    },
    /// A name of the adapter's stands for a device, a pipe or something else that is no file.
    #[error("{name} is not a regular file")]
    SpecialFile {
        /// The name.
        name: String,
    },
    /// There is more of it than any adapter has.
    #[error("the adapter is too large: {problem}")]
    TooLarge {
        /// More of what, and how much is allowed.
        problem: String,
    },
    /// It should be an archive, and is something else.
    #[error("this is {found}, not an archive: name a .tar.gz, .tgz, .tar, .tar.zst or .zip file of an adapter's files")]
    NotAnArchive {
        /// What it is.
        found: String,
    },
    /// It should be an archive, and is what servers answer people and programs with.
    #[error(
        "this is {found}, not an archive: open the reference by hand to see what it says, and name the file itself"
    )]
    ErrorPage {
        /// `an HTML page`, ...
        found: &'static str,
    },
    /// An archive in an archive.
    #[error("{outer} holds another archive, {inner}: pack the adapter's files themselves")]
    ArchiveNested {
        /// The archive, or its compression.
        outer: &'static str,
        /// The name or kind of what is in it.
        inner: String,
    },
    /// An archive that could be unpacked, but not here.
    #[error("the archive uses {feature}, which is not supported: {advice}")]
    ArchiveUnsupported {
        /// What it uses.
        feature: String,
        /// What to do.
        advice: &'static str,
    },
    /// An archive that needs a password.
    #[error("{member} in the archive is encrypted: pack it without a password, and let the source ask for credentials")]
    ArchiveEncrypted {
        /// What needs one.
        member: String,
    },
    /// An archive that ends too early.
    #[error("the archive is incomplete: it ends {place}; upload it again")]
    ArchiveTruncated {
        /// Where, as the end of a sentence.
        place: String,
    },
    /// An archive that is not as it was packed.
    #[error("the archive is damaged: {problem}; upload it again")]
    ArchiveDamaged {
        /// What shows it.
        problem: String,
    },
    /// An archive that is not as its format has it, or that two programs might read differently.
    #[error("the archive is not valid: {problem}; pack it again")]
    ArchiveInvalid {
        /// What is wrong.
        problem: String,
    },
    /// An archive that becomes far larger than any adapter's.
    #[error(
        "{made} bytes have come out of {taken} bytes of the archive, as no adapter's do: it is not unpacked further"
    )]
    ArchiveBomb {
        /// What came out, in bytes.
        made: u64,
        /// What it came out of, in bytes.
        taken: u64,
    },
    /// More than one directory of an archive looks like the adapter's.
    #[error("the archive has an adapter's files in both {first} and {second}: pack those of one directory alone")]
    ArchiveAmbiguous {
        /// The one.
        first: String,
        /// The other.
        second: String,
    },
    /// Two members of an archive are one to some file systems.
    #[error("the archive has {name} twice, or in another case of letters: pack it again, with one of them")]
    MemberRepeated {
        /// The second.
        name: String,
    },
    /// A member's name leads out of the archive.
    #[error(
        "{name} in the archive is {problem}: pack files under relative names, as `tar -C DIRECTORY -czf FILE .` does"
    )]
    PathEscapes {
        /// The name.
        name: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A member of an archive stands for another file.
    #[error(
        "{name} in the archive is {kind}, which is not followed: pack what it leads to, as `tar --dereference \
             --hard-dereference` and `zip` do"
    )]
    LinkRefused {
        /// The name.
        name: String,
        /// `a symbolic link` or `a hard link`.
        kind: &'static str,
    },
    /// The base model's `config.json` cannot be used.
    #[error("the base model's config.json: {problem}")]
    BaseInvalid {
        /// What is wrong.
        problem: String,
    },
}

impl Defect {
    /// A CamelCase word from a closed set.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::ConfigMissing { .. } => "ConfigMissing",
            Self::ConfigInvalid { .. } => "ConfigInvalid",
            Self::Incompatible { .. } => "Incompatible",
            Self::WeightsMissing => "WeightsMissing",
            Self::PickleRefused { .. } => "PickleRefused",
            Self::LfsPointer { .. } => "LfsPointer",
            Self::WeightsTruncated { .. } => "WeightsTruncated",
            Self::WeightsInvalid { .. } => "WeightsInvalid",
            Self::NotFinite { .. } => "NotFinite",
            Self::UnsupportedTensor { .. } => "UnsupportedTensor",
            Self::PairIncomplete { .. } => "PairIncomplete",
            Self::TensorInvalid { .. } => "TensorInvalid",
            Self::RankMismatch { .. } => "RankMismatch",
            Self::TargetMismatch { .. } => "TargetMismatch",
            Self::LayerMissing { .. } => "LayerMissing",
            Self::ModuleMissing { .. } => "ModuleMissing",
            Self::ShapeMismatch { .. } => "ShapeMismatch",
            Self::ManifestInvalid { .. } => "ManifestInvalid",
            Self::FileName { .. } => "FileName",
            Self::SpecialFile { .. } => "SpecialFile",
            Self::TooLarge { .. } => "TooLarge",
            Self::NotAnArchive { .. } => "NotAnArchive",
            Self::ErrorPage { .. } => "ErrorPage",
            Self::ArchiveNested { .. } => "ArchiveNested",
            Self::ArchiveUnsupported { .. } => "ArchiveUnsupported",
            Self::ArchiveEncrypted { .. } => "ArchiveEncrypted",
            Self::ArchiveTruncated { .. } => "ArchiveTruncated",
            Self::ArchiveDamaged { .. } => "ArchiveDamaged",
            Self::ArchiveInvalid { .. } => "ArchiveInvalid",
            Self::ArchiveBomb { .. } => "ArchiveBomb",
            Self::ArchiveAmbiguous { .. } => "ArchiveAmbiguous",
            Self::MemberRepeated { .. } => "MemberRepeated",
            Self::PathEscapes { .. } => "PathEscapes",
            Self::LinkRefused { .. } => "LinkRefused",
            Self::BaseInvalid { .. } => "BaseInvalid",
        }
    }
}

/// Text of the adapter's author, for a message: shortened, and without characters that would make it look like ours.
pub(crate) fn shown(text: &str) -> String {
    const LONGEST: usize = 120;
    let mut out = String::new();
    for c in text.chars().take(LONGEST) {
        match c {
            '"' | '\'' | '\\' => out.push(c),
            // Also escapes what turns the direction of writing or shows nothing.
            c => out.extend(c.escape_debug()),
        }
    }
    if text.chars().nth(LONGEST).is_some() {
        out.push('…');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_others_is_shown_short_and_in_one_line() {
        assert_eq!(shown(r#"bias "all" ä"#), r#"bias "all" ä"#);
        assert_eq!(shown("a\nb\u{202e}c\u{0}"), "a\\nb\\u{202e}c\\0");
        assert_eq!(shown(&"x".repeat(500)).chars().count(), 121);
    }
}
