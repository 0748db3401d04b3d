//! What can go wrong with an agent itself.

use std::io;
use std::path::PathBuf;

use longshore_api::sidecar::Stamp;
use longshore_types::AdapterName;

/// Why an agent cannot start, or does not take in what it is told.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An older leader speaks.
    #[error("stamp {given} is older than {last}, which is in force: another leader has spoken since")]
    StaleStamp {
        /// The stamp that came.
        given: Stamp,
        /// The one in force.
        last: Stamp,
    },
    /// One stamp stands for two sets.
    #[error("stamp {given} is in force with another set: count its revision up with each change")]
    StampReused {
        /// The stamp.
        given: Stamp,
    },
    /// The set says what cannot be.
    #[error("{field}: {problem}")]
    Invalid {
        /// The field, such as `adapters[2].artifactURL`.
        field: String,
        /// What is wrong, without the value.
        problem: String,
    },
    /// A controller wants something else under a name.
    #[error("{name} is wanted by a controller: take its object away, or change it")]
    WantedByController {
        /// The name.
        name: AdapterName,
    },
    /// What is in force could not be kept.
    #[error("cannot {doing} {path}")]
    Record {
        /// What was tried.
        doing: &'static str,
        /// With what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl Error {
    /// A CamelCase word from a closed set.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::StaleStamp { .. } => "StaleStamp",
            Self::StampReused { .. } => "StampReused",
            Self::Invalid { .. } => "Invalid",
            Self::WantedByController { .. } => "WantedByController",
            Self::Record { .. } => "RecordFailed",
        }
    }

    /// Whether the same may go well later.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Record { .. })
    }
}
