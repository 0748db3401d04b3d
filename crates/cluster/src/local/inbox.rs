//! What comes to the actor.

use std::collections::BTreeMap;

use longshore_reconciler::{Fact, Listing};
use longshore_types::{AdapterKey, Digest, EngineId, Fault, ObjectKey};
use tokio::sync::oneshot;

use super::declared::Declared;
use super::depot::Hold;
use super::scan::Scan;

/// One thing for the actor to take in. There are few at a time: an answer per call under way, a scan per interval.
#[derive(Debug)]
pub(super) enum Input {
    /// An answer that is passed on as it is.
    Fact(Box<Fact>),
    /// An engine was listed, or was not.
    Listed(EngineId, Box<Result<Listing, Fault>>),
    /// An artifact was fetched, or was not.
    Resolved(Box<Answer>),
    /// The files behind an unchanged reference have changed. Counts only while `ticket` is the adapter's latest.
    FilesChanged { adapter: AdapterKey, ticket: u64 },
    /// This is declared without files now, and nothing else. Answered with the generation that each object has by it; one is
    /// missing as long as an earlier object of its name has not gone.
    Declared(Vec<Declared>, Option<oneshot::Sender<BTreeMap<ObjectKey, i64>>>),
    /// The named files and directories were looked through.
    Scanned(Box<Scan>),
    /// Files that nobody needed were taken out of the store, or not.
    Removed(Result<(), String>, Option<Digest>),
    /// Stop, or withdraw and unload everything first and say when that is done.
    Stop,
    /// Withdraw and unload everything, and say when that is done.
    Withdraw(oneshot::Sender<()>),
    /// Which adapters of ours engines still hold.
    Left(oneshot::Sender<Vec<Left>>),
}

impl crate::asking::Answer for Input {
    fn fact(fact: Fact) -> Self {
        Self::Fact(Box::new(fact))
    }
    fn listed(engine: EngineId, result: Result<Listing, Fault>) -> Self {
        Self::Listed(engine, Box::new(result))
    }
}

/// How resolving went. Counts only while `ticket` is the adapter's latest.
#[derive(Debug)]
pub(super) struct Answer {
    pub adapter: AdapterKey,
    pub ticket: u64,
    pub fact: Fact,
    /// Keeps what was fetched until the reconciler has pinned it.
    pub hold: Option<Hold>,
}

/// An adapter that could not be unloaded.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Left {
    /// The engine that holds it, as far as is known.
    pub engine: EngineId,
    /// The adapter's name.
    pub adapter: String,
    /// What the engine said last, or why it was not asked.
    pub why: String,
}
