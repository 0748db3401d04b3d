//! What our programs have written.

use std::time::Duration;

use super::{CONTROLLER, SOON};
use crate::{AuditEntry, Cluster};

/// So long without a write is quiet: what is written behind something else, and at most once a second, has come by then.
const QUIET: Duration = Duration::from_millis(1500);

impl Cluster {
    /// What controllers have written since there were `seen` entries in the audit log: everything that changes something but
    /// the Lease. Asking whose a token is changes nothing.
    pub fn writes_since(&self, seen: usize) -> Vec<AuditEntry> {
        let harmless = ["leases", "tokenreviews"];
        let entries = self.audit().into_iter().skip(seen).filter(AuditEntry::is_write);
        let entries = entries.filter(|entry| entry.user.ends_with(&format!(":{CONTROLLER}")));
        entries.filter(|entry| !harmless.contains(&entry.resource.as_str())).collect()
    }

    /// Waits until controllers write nothing any more but the Lease; how many entries the audit log has then.
    pub async fn until_quiet(&self) -> usize {
        self.wait_for("a controller that writes nothing", SOON, async || {
            let seen = self.audit().len();
            tokio::time::sleep(QUIET).await;
            match self.writes_since(seen).last() {
                None => Ok(seen),
                Some(last) => Err(format!("{last:?}")),
            }
        })
        .await
    }
}
