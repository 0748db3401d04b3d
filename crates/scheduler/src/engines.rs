//! Sets of engines that many wishes share.

use std::collections::BTreeSet;
use std::ops::Deref;
use std::sync::Arc;

use crate::EngineId;

/// The engines that a selector matches. Cheap to clone: ten thousand adapters with one selector share one set of a
/// thousand engines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EngineSet(Arc<BTreeSet<EngineId>>);

impl Deref for EngineSet {
    type Target = BTreeSet<EngineId>;
    fn deref(&self) -> &BTreeSet<EngineId> {
        &self.0
    }
}

impl From<BTreeSet<EngineId>> for EngineSet {
    fn from(engines: BTreeSet<EngineId>) -> Self {
        Self(Arc::new(engines))
    }
}

impl<I: Into<EngineId>, const N: usize> From<[I; N]> for EngineSet {
    fn from(engines: [I; N]) -> Self {
        engines.into_iter().collect()
    }
}

impl<I: Into<EngineId>> FromIterator<I> for EngineSet {
    fn from_iter<T: IntoIterator<Item = I>>(engines: T) -> Self {
        Self(Arc::new(engines.into_iter().map(Into::into).collect()))
    }
}
