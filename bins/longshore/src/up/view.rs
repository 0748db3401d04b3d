//! What a person who has started `up` is shown, whether as lines or as a table.

use std::path::PathBuf;
use std::sync::Arc;

use longshore_cluster::fleet::FleetStore;
use longshore_cluster::local::Change;
use longshore_runtime::{CancellationToken, Readiness};
use tokio::sync::broadcast::Receiver;

/// What is said when it is told to stop.
pub const STOPPING: &str = "stopping: requests under way finish; a second Ctrl-C ends it at once";

/// Where it comes from.
pub struct View<H> {
    /// Where requests and the fleet API are answered.
    pub head: String,
    /// A request to paste, once the model that it is given is served.
    pub hint: H,
    /// Where manifests are read from.
    pub manifests: Vec<PathBuf>,
    /// What there is.
    pub fleet: Arc<FleetStore>,
    /// What happens.
    pub changes: Receiver<Change>,
    /// Ready once the fleet is known: before that it looks empty.
    pub known: Readiness,
    /// Cancelled once the process is to stop: requests finish, adapters are unloaded.
    pub stopping: CancellationToken,
}

impl<H> View<H> {
    /// What to say where no manifest declares anything.
    pub fn nothing(&self) -> String {
        let places: Vec<String> = self.manifests.iter().map(|path| path.display().to_string()).collect();
        format!("no adapter is declared in {}: put a manifest there, it is read at once", places.join(", "))
    }
}
