//! What a deletion could not undo in time.

use longshore_types::{AdapterName, Boot, EngineId, Root};

/// One adapter that one life of an engine may still hold though no object declares it any more: when the time for its
/// deletion was over, the engine could not be asked to let go. It is kept in a note, since nothing else tells a later
/// process of ours that what the engine holds is ours to unload.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Unfinished {
    /// Which engine.
    pub engine: EngineId,
    /// In which life: the next one holds nothing.
    pub boot: Boot,
    /// By which name.
    pub name: AdapterName,
    /// From where. The same name from another root is somebody else's.
    pub root: Root,
}
