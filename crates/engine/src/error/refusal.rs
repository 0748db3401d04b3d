//! What an engine can say no for.

use std::fmt;

use longshore_types::Scope;

/// What an engine's "no" comes down to, whatever the version's status and wording.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Refusal {
    /// It does not serve adapters at all.
    LoraDisabled,
    /// Its adapters are fixed at its start.
    UpdatingOff,
    /// The adapter's rank is above the engine's limit.
    RankTooHigh,
    /// The adapter's shapes or modules are those of another base model.
    OtherBase,
    /// The adapter uses something that the engine cannot do.
    Unsupported,
    /// The files are not those of an adapter, or are damaged.
    Damaged,
    /// The path holds no adapter among the engine's own files.
    NotFound,
    /// The engine may not read the files.
    Unreadable,
    /// The engine serves something else by that name.
    NameTaken,
    /// Another hand loaded and unloaded the name meanwhile.
    Raced,
    /// None of these.
    Other,
}

impl Refusal {
    /// How far it reaches.
    pub const fn scope(self) -> Scope {
        match self {
            Self::LoraDisabled | Self::UpdatingOff | Self::RankTooHigh | Self::NameTaken | Self::Other => Scope::Engine,
            Self::OtherBase | Self::Unsupported | Self::Damaged => Scope::Artifact,
            Self::NotFound | Self::Unreadable => Scope::EngineFiles,
            Self::Raced => Scope::Transient,
        }
    }

    /// The fault's reason.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::LoraDisabled => "LoraDisabled",
            Self::UpdatingOff => "RuntimeUpdatingOff",
            Self::RankTooHigh | Self::OtherBase | Self::Unsupported => "Incompatible",
            Self::Damaged => "ArtifactInvalid",
            Self::NotFound => "ArtifactNotFound",
            Self::Unreadable => "ArtifactUnreadable",
            Self::NameTaken => "NameTaken",
            Self::Raced | Self::Other => "LoadFailed",
        }
    }
}

/// What is wrong and, where it is known, what to do.
impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::LoraDisabled => "the engine serves no adapters: start it with --enable-lora",
            Self::UpdatingOff => {
                "the engine does not let adapters be loaded while it runs: start it with \
                 VLLM_ALLOW_RUNTIME_LORA_UPDATING=True in its environment"
            }
            Self::RankTooHigh => "the adapter's rank is above the engine's --max-lora-rank",
            Self::OtherBase => "the adapter was made for another base model",
            Self::Unsupported => "the adapter uses what the engine cannot do",
            Self::Damaged => "the adapter's files are damaged or incomplete",
            Self::NotFound => "the engine finds no adapter at that path among its own files",
            Self::Unreadable => "the engine may not read the adapter's files",
            Self::NameTaken => "the engine serves something else by that name",
            Self::Raced => "the adapter was loaded and unloaded by someone else meanwhile",
            Self::Other => "the engine refused",
        })
    }
}
