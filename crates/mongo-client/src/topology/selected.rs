//! What is known of a server when it is selected.

use std::sync::Arc;
use std::time::Duration;

use bson::RawDocumentBuf;
use mongo_topology::{
    SelectionCriteria, ServerDescription, ServerType, TopologyDescription, read_preference_document,
};

use crate::pool::Pool;

/// A server for one operation.
#[derive(Debug)]
pub(crate) struct Selected {
    /// What was known when it was selected.
    pub(crate) description: Arc<TopologyDescription>,
    pub(crate) pool: Arc<Pool>,
    /// `$readPreference`, where the server has to know it.
    pub(crate) read_preference: Option<RawDocumentBuf>,
    /// Whether it does a write once, however often it gets it with the same number.
    pub(crate) knows_writes: bool,
    /// The server's least round trip time, as far as it is known.
    pub(crate) round_trip: Duration,
}

impl Selected {
    pub(super) fn new(
        description: Arc<TopologyDescription>,
        server: &ServerDescription,
        pool: Arc<Pool>,
        criteria: &SelectionCriteria<'_>,
    ) -> Self {
        let sent =
            description.read_preference_for_command(server.server_type(), criteria.operation);
        Self {
            pool,
            read_preference: sent.map(|preference| read_preference_document(&preference)),
            knows_writes: knows_writes(server),
            round_trip: server.round_trip().minimum,
            description,
        }
    }
}

/// Whether a server can tell a write that it has done from a new one (Retryable Writes, "Supported
/// Server Versions").
fn knows_writes(server: &ServerDescription) -> bool {
    match server.server_type() {
        ServerType::LoadBalancer => true,
        ServerType::Standalone => false,
        _ => server.logical_session_timeout_minutes().is_some(),
    }
}
