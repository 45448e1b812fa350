//! Following what is known of the deployment.

use std::sync::Arc;

use mongo_topology::TopologyDescription;
use tokio::sync::watch;

use super::Snapshot;

/// Follows the topology; see [`Client::topology_changes`](crate::Client::topology_changes).
#[derive(Clone, Debug)]
pub struct TopologyChanges {
    pub(super) snapshots: watch::Receiver<Snapshot>,
}

impl TopologyChanges {
    /// Waits for news and returns the newest description; it may equal the one before. `None`
    /// after the client was shut down. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Arc<TopologyDescription>> {
        self.snapshots.changed().await.ok()?;
        let snapshot = self.snapshots.borrow_and_update();
        (!snapshot.closed).then(|| Arc::clone(&snapshot.description))
    }

    /// What is known right now.
    pub(crate) fn latest(&self) -> Arc<TopologyDescription> {
        Arc::clone(&self.snapshots.borrow().description)
    }
}
