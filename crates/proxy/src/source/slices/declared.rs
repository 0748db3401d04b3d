//! What the controller says of an adapter, as far as it matters beside the slices.

use std::collections::BTreeMap;
use std::sync::Arc;

use longshore_api::fleet;
use longshore_routing::{NotReady, RouteState};
use longshore_types::BaseModel;

use crate::source::fleet::{confirmation, why_not};

/// The state of an engine that has the adapter.
const LOADED: &str = "loaded";

/// One declared adapter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Declared {
    pub(super) artifact_url: Arc<str>,
    pub(super) base_model: Option<BaseModel>,
    why: NotReady,
    swapping: bool,
    /// Whether the controller has published engines for it.
    published: bool,
    /// When and how often an engine came to have it, by the engine's name. Of one that is loading it again this is still
    /// the time before: only what has been loaded anew is a new confirmation.
    confirmed: BTreeMap<String, String>,
}

impl Declared {
    /// What `adapter` says, after `before`.
    pub(super) fn read(adapter: &fleet::Adapter, before: Option<&Self>) -> Self {
        let confirmed = adapter.engines.iter().filter_map(|engine| {
            let known = match engine.state.as_str() {
                LOADED => confirmation(engine),
                _ => before?.confirmed.get(&engine.engine)?.clone(),
            };
            Some((engine.engine.clone(), known))
        });
        Self {
            artifact_url: Arc::from(adapter.artifact_url.as_str()),
            base_model: adapter.base_model.as_deref().and_then(|name| name.parse().ok()),
            why: why_not(adapter),
            swapping: adapter.swapping,
            published: !adapter.endpoints.is_empty(),
            confirmed: confirmed.collect(),
        }
    }

    /// What confirmed it on the engine called so; empty where that is not known.
    pub(super) fn confirmed(&self, engine: &str) -> &str {
        self.confirmed.get(engine).map_or("", String::as_str)
    }

    /// What to say while no slice has an engine for it. `heard`: the controller is being followed.
    pub(super) fn state(&self, heard: bool) -> RouteState {
        match (self.swapping, self.published) {
            (true, _) => RouteState::Swapping,
            // The slice and this are told on two ways: whichever is late is a matter of moments.
            (false, true) if heard => RouteState::Swapping,
            // Was so when the controller was last heard.
            (false, true) => RouteState::Ready(Vec::new()),
            (false, false) => RouteState::NotReady(self.why.clone()),
        }
    }

    /// Whether what there is to say depends on the controller's being followed.
    pub(super) fn depends_on_hearing(&self) -> bool {
        self.published && !self.swapping
    }
}
