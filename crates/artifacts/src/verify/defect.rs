//! What can be wrong with an adapter, and what to do about it.

use longshore_types::Scope;

use super::header::Dtype;
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
    /// The rank is none.
    #[error("{CONFIG}: {problem}; set it to the rank that was trained")]
    RankInvalid {
        /// What is wrong.
        problem: String,
    },
    /// The numerator of the scale is none, or makes a scale that engines cannot compute with.
    #[error("{CONFIG}: {problem}; set it to the `lora_alpha` that was trained")]
    AlphaInvalid {
        /// What is wrong.
        problem: String,
    },
    /// `target_modules` names nothing.
    #[error("{CONFIG}: `target_modules` {problem}; save the adapter again with save_pretrained()")]
    TargetsInvalid {
        /// What is wrong.
        problem: &'static str,
    },
    /// A pattern for modules is one that an engine may try for hours, while all its requests wait.
    #[error(
        "{CONFIG}: `{field}` has the regular expression {pattern}, which an engine may try for hours: write names of \
         modules, or repeat single characters only"
    )]
    PatternExplodes {
        /// `rank_pattern` or `alpha_pattern`.
        field: &'static str,
        /// The pattern.
        pattern: String,
    },
    /// The adapter uses what engines do not implement.
    #[error("{feature} is not supported by engines: {advice}")]
    Unsupported {
        /// A CamelCase word for the feature.
        reason: &'static str,
        /// What it uses.
        feature: String,
        /// What to do.
        advice: &'static str,
    },
    /// `adapter_model.safetensors` is missing.
    #[error("no {WEIGHTS}: save the adapter again with save_pretrained(..., safe_serialization=True)")]
    WeightsMissing,
    /// The weights are spread over several files.
    #[error(
        "the weights are split into several files, such as {file}, and engines read {WEIGHTS} only: load the adapter with \
         PEFT and save it again without max_shard_size"
    )]
    WeightsSharded {
        /// One of the parts.
        file: String,
    },
    /// The weights file has no LoRA weights.
    #[error("{WEIGHTS} holds no LoRA weights: nothing was trained, or another file was saved under this name")]
    WeightsEmpty,
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
    #[error(
        "tensor `{tensor}` in {file} holds NaN, infinity or a number beyond float32: the training diverged; use an earlier checkpoint"
    )]
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
    /// The weights are those of an adapter within an adapter. vLLM loads them and leaves them out.
    #[error(
        "module `{module}` was wrapped by PEFT twice, and engines would leave its weights out: merge the inner adapter into \
         the base model, or train on the base model itself"
    )]
    NestedAdapter {
        /// The module.
        module: String,
    },
    /// Both names of one half are taken.
    #[error("tensor `{tensor}` is there under two names: the file was put together by hand; save the adapter again")]
    TensorDuplicate {
        /// The tensor.
        tensor: String,
    },
    /// A tensor has a type that no LoRA weight has.
    #[error(
        "tensor `{tensor}` has type {dtype:?}, which is no type of weight: save the adapter as float32 or bfloat16"
    )]
    TensorType {
        /// The tensor.
        tensor: String,
        /// Its type.
        dtype: Dtype,
    },
    /// A tensor has a shape that no LoRA weight has.
    #[error("tensor `{tensor}` has shape {shape:?} instead of two dimensions: it belongs to no linear layer")]
    TensorShape {
        /// The tensor.
        tensor: String,
        /// Its dimensions, outermost first.
        shape: Box<[u64]>,
    },
    /// The halves of a pair cannot be multiplied.
    #[error(
        "module `{module}` has a lora_B of shape {b:?}, which does not fit its lora_A of {a:?}: they come from different \
         adapters; save the adapter again"
    )]
    PairMismatch {
        /// The module.
        module: String,
        /// The dimensions of `lora_A`.
        a: Box<[u64]>,
        /// The dimensions of `lora_B`.
        b: Box<[u64]>,
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
    /// A module lies elsewhere in the base model. vLLM loads the adapter and leaves the module out.
    #[error(
        "module `{module}` is `{expected}` in the base model, and engines would leave it out: the adapter was trained on \
         another class of the model; rename its tensors, or train on the one that is served"
    )]
    ModuleMisplaced {
        /// The module.
        module: String,
        /// Where the base model has it.
        expected: String,
    },
    /// An expert is beyond those of the base model.
    #[error(
        "module `{module}` is of expert {expert}, but the base model has {experts}: it was trained on another model"
    )]
    ExpertMissing {
        /// The module.
        module: String,
        /// Its expert.
        expert: u64,
        /// How many the base model has.
        experts: u64,
    },
    /// The adapter was trained with another vocabulary.
    #[error(
        "module `{module}` knows {found} tokens, but the base model has {expected}: tokens were added for training; train \
         with the base model's own, or serve the base model that has them"
    )]
    VocabMismatch {
        /// The module.
        module: String,
        /// How many the adapter has.
        found: u64,
        /// How many the base model has.
        expected: u64,
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
    /// The rank is above what the engine has room for.
    #[error(
        "the adapter has rank {rank}, but the engine takes {max} at most: start it with a larger --max-lora-rank, or train \
         with a smaller one"
    )]
    RankTooHigh {
        /// The adapter's largest rank.
        rank: u32,
        /// The engine's limit.
        max: u32,
    },
    /// The engine was told to apply adapters to other modules only. vLLM loads the adapter and leaves the module out.
    #[error(
        "the adapter changes `{module}`, but the engine applies adapters to {served} only: start it without \
         --lora-target-modules, or with that module among them"
    )]
    TargetNotServed {
        /// The last part of the module's name.
        module: String,
        /// The engine's modules.
        served: String,
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
            Self::RankInvalid { .. } => "RankInvalid",
            Self::AlphaInvalid { .. } => "AlphaInvalid",
            Self::TargetsInvalid { .. } => "TargetsInvalid",
            Self::PatternExplodes { .. } => "PatternExplodes",
            Self::Unsupported { reason, .. } => reason,
            Self::WeightsMissing => "WeightsMissing",
            Self::WeightsSharded { .. } => "WeightsSharded",
            Self::WeightsEmpty => "WeightsEmpty",
            Self::PickleRefused { .. } => "PickleRefused",
            Self::LfsPointer { .. } => "LfsPointer",
            Self::WeightsTruncated { .. } => "WeightsTruncated",
            Self::WeightsInvalid { .. } => "WeightsInvalid",
            Self::NotFinite { .. } => "NotFinite",
            Self::UnsupportedTensor { .. } => "UnsupportedTensor",
            Self::PairIncomplete { .. } => "PairIncomplete",
            Self::NestedAdapter { .. } => "NestedAdapter",
            Self::TensorDuplicate { .. } => "TensorDuplicate",
            Self::TensorType { .. } => "TensorType",
            Self::TensorShape { .. } => "TensorShape",
            Self::PairMismatch { .. } => "PairMismatch",
            Self::RankMismatch { .. } => "RankMismatch",
            Self::TargetMismatch { .. } => "TargetMismatch",
            Self::LayerMissing { .. } => "LayerMissing",
            Self::ModuleMissing { .. } => "ModuleMissing",
            Self::ModuleMisplaced { .. } => "ModuleMisplaced",
            Self::ExpertMissing { .. } => "ExpertMissing",
            Self::VocabMismatch { .. } => "VocabMismatch",
            Self::ShapeMismatch { .. } => "ShapeMismatch",
            Self::ManifestInvalid { .. } => "ManifestInvalid",
            Self::RankTooHigh { .. } => "RankTooHigh",
            Self::TargetNotServed { .. } => "TargetNotServed",
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

    /// How far it reaches: another engine may have room for the adapter, but none can mend it.
    pub fn scope(&self) -> Scope {
        match self {
            Self::RankTooHigh { .. } | Self::TargetNotServed { .. } => Scope::Engine,
            _ => Scope::Artifact,
        }
    }
}

/// Text of the adapter's author, for a message: shortened, and without characters that would make it look like ours.
pub(crate) fn shown(text: &str) -> String {
    shortened(text, 120)
}

/// What a parser says, which may repeat anything that it was given, and all of it.
pub(crate) fn said(error: &serde_json::Error) -> String {
    // Room for the longest that one says by itself: a list of all the types that a tensor may have.
    shortened(&error.to_string(), 400)
}

fn shortened(text: &str, longest: usize) -> String {
    let mut out = String::new();
    for c in text.chars().take(longest) {
        match c {
            '"' | '\'' | '\\' => out.push(c),
            // Also escapes what turns the direction of writing or shows nothing.
            c => out.extend(c.escape_debug()),
        }
    }
    if text.chars().nth(longest).is_some() {
        out.push('…');
    }
    out
}

/// Some of many texts, for a message: the first eight of them, and how many more there are.
pub(crate) fn listed<T: AsRef<str>>(texts: impl IntoIterator<Item = T>) -> String {
    const MOST: usize = 8;
    let mut texts = texts.into_iter();
    let first: Vec<String> = texts.by_ref().take(MOST).map(|text| shown(text.as_ref())).collect();
    match texts.count() {
        0 => first.join(", "),
        more => format!("{} and {more} more", first.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_others_is_shown_short_and_in_one_line() {
        assert_eq!(shown(r#"bias "all" ä"#), r#"bias "all" ä"#);
        assert_eq!(shown("a\nb\u{202e}c\u{0}"), "a\\nb\\u{202e}c\\0");
        assert_eq!(shown(&"x".repeat(500)).chars().count(), 121);
        assert_eq!(listed(["a\n", "b"]), "a\\n, b");
        assert_eq!(listed((0..10).map(|n| n.to_string())), "0, 1, 2, 3, 4, 5, 6, 7 and 2 more");
    }
}
