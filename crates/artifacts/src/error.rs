//! Why an adapter could not be had.

use std::error::Error as StdError;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use longshore_types::{ArtifactUrl, Digest, Fault, Scope};

pub use crate::verify::defect::Defect;

/// Why an adapter could not be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No source takes references of this kind.
    #[error("{url} cannot be fetched here: what is supported is {supported}")]
    UnsupportedScheme {
        /// The reference.
        url: ArtifactUrl,
        /// What the sources that there are take.
        supported: String,
    },
    /// There is nothing.
    #[error("{what} does not exist")]
    NotFound {
        /// What was looked for.
        what: String,
    },
    /// There is nothing, or nothing that we are told of.
    #[error("{what} does not exist, or is hidden from {whom}: {advice}")]
    Hidden {
        /// What was looked for.
        what: String,
        /// Who would not be told: `this credential`, or `whoever shows no credential`.
        whom: &'static str,
        /// What to do.
        advice: String,
    },
    /// There is something, but not a directory.
    #[error("{path} is not a directory: name the directory that holds adapter_config.json")]
    NotADirectory {
        /// What was looked at.
        path: PathBuf,
    },
    /// We may not read it.
    #[error(
        "{path} may not be read by this process: give its user read access to the files and search access to the directories"
    )]
    Unreadable {
        /// What was read.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The adapter is broken, or is of a kind that engines do not take.
    #[error(transparent)]
    Invalid(#[from] Defect),
    /// It is another one than was asked for.
    #[error(
        "the files have the digest {found}, but {expected} is asked for: ask for the one that they have, or restore \
         them"
    )]
    DigestMismatch {
        /// What was asked for.
        expected: Digest,
        /// What is there.
        found: Digest,
    },
    /// It was changed while it was read. It is read again.
    #[error("{what} was changed while it was read")]
    Changed {
        /// What was read.
        what: String,
    },
    /// The source does not let us in.
    #[error("{what} refuses {whom} ({status}): {advice}")]
    AccessDenied {
        /// What was asked for.
        what: String,
        /// Who was refused: `this credential`, or `whoever shows none`.
        whom: &'static str,
        /// The source's own answer, such as `401 Unauthorized`.
        status: String,
        /// What to do.
        advice: String,
    },
    /// The credentials lack a part.
    #[error("the credentials have no {name}: they have {}", if present.is_empty() { "nothing" } else { present })]
    CredentialMissing {
        /// The name of the part.
        name: String,
        /// The names that there are.
        present: String,
    },
    /// The credentials cannot be what they should be.
    #[error("the credential {name} {problem}")]
    CredentialInvalid {
        /// The name of the part.
        name: String,
        /// What is wrong with it, without it.
        problem: String,
    },
    /// The reference cannot be one of this kind.
    #[error("{url}: {problem}")]
    ReferenceInvalid {
        /// The reference.
        url: ArtifactUrl,
        /// What is wrong, and how it should be.
        problem: String,
    },
    /// An address that fetches must not reach.
    #[error("{host} is at {address}, which is {kind}: {advice}")]
    AddressRefused {
        /// The host's name.
        host: String,
        /// Its address.
        address: String,
        /// `a link-local address`, ...
        kind: &'static str,
        /// What to do.
        advice: &'static str,
    },
    /// The source leads elsewhere, and we do not follow.
    #[error("{what} is redirected {problem}")]
    RedirectRefused {
        /// What was asked for.
        what: String,
        /// Whither, and why not.
        problem: String,
    },
    /// The source refuses the request itself.
    #[error("{what} cannot be had: the source answers {status}")]
    Refused {
        /// What was asked for.
        what: String,
        /// The source's own answer.
        status: String,
    },
    /// The source cannot answer now.
    #[error("{what} cannot be had now: the source answers {status}")]
    Unavailable {
        /// What was asked for.
        what: String,
        /// The source's own answer.
        status: String,
        /// How long it asks us to wait.
        retry_after: Option<Duration>,
    },
    /// What came is not what the source has.
    #[error("{what} did not come as the source has it: {problem}")]
    Corrupted {
        /// What was read.
        what: String,
        /// What differs.
        problem: String,
    },
    /// Reading failed.
    #[error("cannot read {what}")]
    Source {
        /// What was read.
        what: String,
        /// What the system said.
        source: io::Error,
    },
    /// There is no room in the store.
    #[error("no space left in the store, at {path}: free some, or give the store a larger volume")]
    StoreFull {
        /// The store, or a file in it.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The store's quota leaves no room, and nothing may go.
    #[error(
        "no room for {needed} bytes in the store: of its quota of {quota} bytes, {kept} are taken by adapters that \
         are loaded or pinned and {claimed} by fetches under way; raise the quota, or delete adapters"
    )]
    QuotaFull {
        /// Bytes that the adapter takes, as far as is known.
        needed: u64,
        /// Bytes that the store may take.
        quota: u64,
        /// Bytes of entries that somebody needs.
        kept: u64,
        /// Bytes that other fetches have claimed.
        claimed: u64,
    },
    /// Somebody needs the entry, so it is not removed.
    #[error("{digest} stays in the store: {holders} may still read its files")]
    InUse {
        /// The entry.
        digest: Digest,
        /// Who has pinned it.
        holders: String,
    },
    /// Nobody can be called that who pins entries.
    #[error(
        "{name:?} cannot name a holder of pins: use 1 to 200 letters, digits, `-`, `_` and `.`, the first one no `.`"
    )]
    HolderInvalid {
        /// The name.
        name: String,
    },
    /// The store cannot be used.
    #[error("cannot {doing} {path} in the store")]
    Store {
        /// What was tried: `write`, `sync`, ...
        doing: &'static str,
        /// With what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A directory is no place for a store.
    #[error("{path} cannot be a store: {problem}")]
    StorePath {
        /// The directory.
        path: PathBuf,
        /// Why not.
        problem: &'static str,
    },
    /// Nobody waits for the result any more.
    #[error("given up")]
    Abandoned,
}

impl Error {
    /// A CamelCase word from a closed set: condition reason, event reason and metric label.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::UnsupportedScheme { .. } => "UnsupportedScheme",
            Self::NotFound { .. } | Self::Hidden { .. } => "ArtifactNotFound",
            Self::NotADirectory { .. } => "ArtifactNotADirectory",
            Self::Unreadable { .. } => "ArtifactUnreadable",
            Self::Invalid(defect) => defect.reason(),
            Self::DigestMismatch { .. } => "DigestMismatch",
            Self::Changed { .. } => "ArtifactChanged",
            Self::AccessDenied { .. } => "AccessDenied",
            Self::CredentialMissing { .. } | Self::CredentialInvalid { .. } => "CredentialInvalid",
            Self::ReferenceInvalid { .. } => "ReferenceInvalid",
            Self::AddressRefused { .. } => "AddressRefused",
            Self::RedirectRefused { .. } => "RedirectRefused",
            Self::Refused { .. } => "SourceRefused",
            Self::Unavailable { .. } => "SourceUnavailable",
            Self::Corrupted { .. } => "ArtifactCorrupted",
            Self::Source { .. } => "SourceFailed",
            Self::StoreFull { .. } | Self::QuotaFull { .. } => "StoreFull",
            Self::InUse { .. } => "AdapterInUse",
            Self::HolderInvalid { .. } => "InvalidHolder",
            Self::Store { .. } => "StoreFailed",
            Self::StorePath { .. } => "InvalidStore",
            Self::Abandoned => "Abandoned",
        }
    }

    /// Whether trying the same thing again may help, with nobody doing anything about it.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Changed { .. }
            | Self::Unavailable { .. }
            | Self::Corrupted { .. }
            | Self::Source { .. }
            | Self::StoreFull { .. }
            | Self::QuotaFull { .. }
            | Self::InUse { .. }
            | Self::Store { .. }
            | Self::Abandoned => true,
            Self::UnsupportedScheme { .. }
            | Self::NotFound { .. }
            | Self::Hidden { .. }
            | Self::NotADirectory { .. }
            | Self::Unreadable { .. }
            | Self::AccessDenied { .. }
            | Self::CredentialMissing { .. }
            | Self::CredentialInvalid { .. }
            | Self::ReferenceInvalid { .. }
            | Self::AddressRefused { .. }
            | Self::RedirectRefused { .. }
            | Self::Refused { .. }
            | Self::Invalid(_)
            | Self::DigestMismatch { .. }
            | Self::HolderInvalid { .. }
            | Self::StorePath { .. } => false,
        }
    }

    /// How long the source asks us to wait before we try again.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Unavailable { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// The failure as conditions and events show it, the system's own words behind ours.
    pub fn fault(&self) -> Fault {
        let scope = match self {
            Self::Invalid(defect) => defect.scope(),
            _ if self.is_transient() => Scope::Transient,
            _ => Scope::Artifact,
        };
        let mut message = self.to_string();
        let mut cause = self.source();
        while let Some(error) = cause {
            message.push_str(": ");
            message.push_str(&error.to_string());
            cause = error.source();
        }
        Fault::new(scope, self.reason(), message)
    }

    /// A failure to read `path`, which is the adapter's.
    pub(crate) fn reading(path: impl Into<PathBuf>, source: io::Error) -> Self {
        let path = path.into();
        match source.kind() {
            io::ErrorKind::NotFound => Self::NotFound { what: path.display().to_string() },
            io::ErrorKind::NotADirectory => Self::NotADirectory { path },
            io::ErrorKind::PermissionDenied => Self::Unreadable { path, source },
            _ => Self::Source { what: path.display().to_string(), source },
        }
    }

    /// A failure of the store.
    pub(crate) fn store(doing: &'static str, path: impl Into<PathBuf>, source: io::Error) -> Self {
        let path = path.into();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::StoreFull { path, source },
            _ => Self::Store { doing, path, source },
        }
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        error.fault()
    }
}

impl From<&Error> for Fault {
    fn from(error: &Error) -> Self {
        error.fault()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_adapter_is_its_own_fault_and_a_full_disk_is_not() {
        let bad = Error::Invalid(Defect::ConfigMissing { hint: None }).fault();
        assert_eq!((bad.scope, bad.reason), (Scope::Artifact, "ConfigMissing"));
        let full = Error::store("write", "/store/x", io::ErrorKind::StorageFull.into()).fault();
        assert_eq!((full.scope, full.reason), (Scope::Transient, "StoreFull"));
        let gone = Error::reading("/srv/a", io::ErrorKind::NotFound.into()).fault();
        assert_eq!((gone.scope, gone.reason), (Scope::Artifact, "ArtifactNotFound"));
        let closed = Error::reading("/srv/a", io::ErrorKind::PermissionDenied.into()).fault();
        assert_eq!((closed.scope, closed.reason), (Scope::Artifact, "ArtifactUnreadable"));
        let broken = Error::reading("/srv/a", io::Error::other("input/output error")).fault();
        assert_eq!((broken.scope, broken.reason), (Scope::Transient, "SourceFailed"));
        assert_eq!(broken.message, "cannot read /srv/a: input/output error");
    }

    #[test]
    fn i8_a_reference_is_shown_without_its_secrets() {
        let url: ArtifactUrl = "https://user:hunter2@example.com/a.tgz?sig=hunter2".parse().unwrap();
        let error = Error::UnsupportedScheme { url, supported: "absolute paths".into() };
        assert!(!error.to_string().contains("hunter2") && !format!("{error:?}").contains("hunter2"), "{error:?}");
    }
}
