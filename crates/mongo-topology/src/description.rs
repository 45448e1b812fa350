//! Everything the client knows about the deployment at one moment (SDAM, "TopologyDescription").

mod compatibility;
mod display;
mod servers;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bson::oid::ObjectId;

use crate::server::ServerDescription;

pub use compatibility::{MAX_WIRE_VERSION, MIN_WIRE_VERSION};
pub use servers::Servers;
pub(crate) use servers::{Entry, Ranked};

/// What kind of deployment it is (SDAM, "TopologyType").
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TopologyType {
    /// Nothing known yet, or closed.
    #[default]
    Unknown,
    /// One server that the client was told to use as it is.
    Single,
    /// A replica set whose primary is not known.
    ReplicaSetNoPrimary,
    /// A replica set with its primary.
    ReplicaSetWithPrimary,
    /// Routers of a sharded cluster.
    Sharded,
    /// A load balancer.
    LoadBalanced,
}

impl TopologyType {
    /// The specification's name for the type.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "Unknown",
            Self::Single => "Single",
            Self::ReplicaSetNoPrimary => "ReplicaSetNoPrimary",
            Self::ReplicaSetWithPrimary => "ReplicaSetWithPrimary",
            Self::Sharded => "Sharded",
            Self::LoadBalanced => "LoadBalanced",
        }
    }

    /// Whether it is a replica set, with or without its primary.
    #[must_use]
    pub const fn is_replica_set(self) -> bool {
        matches!(
            self,
            Self::ReplicaSetNoPrimary | Self::ReplicaSetWithPrimary
        )
    }
}

impl fmt::Display for TopologyType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A snapshot of the deployment. Cheap to share behind an `Arc`, and never changed.
///
/// `Display` gives the type and then one line a server.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct TopologyDescription {
    /// The kind of deployment.
    pub topology_type: TopologyType,
    /// The replica set's name, asked for or discovered.
    pub set_name: Option<String>,
    /// With `max_set_version`: the newest election that a primary has shown.
    pub max_election_id: Option<ObjectId>,
    /// With `max_election_id`: the newest election that a primary has shown.
    pub max_set_version: Option<i64>,
    /// The servers by address.
    pub servers: Servers,
    /// Of a topology that has lost its last server to a mismatch: that server, which tells why.
    pub last_removed: Option<Arc<ServerDescription>>,
    /// Why no operation can run: a server's wire versions are out of this client's range.
    pub compatibility_error: Option<String>,
    /// The least of the data-bearing servers; `None` when one of them has no sessions.
    pub logical_session_timeout_minutes: Option<i64>,
    /// How much slower than the fastest a server may be and still be selected.
    pub local_threshold: Duration,
    /// How often servers are checked; enters the estimate of staleness.
    pub heartbeat_frequency: Duration,
}

impl TopologyDescription {
    /// The default of `localThresholdMS`.
    pub const DEFAULT_LOCAL_THRESHOLD: Duration = Duration::from_millis(15);
    /// The default of `heartbeatFrequencyMS`.
    pub const DEFAULT_HEARTBEAT_FREQUENCY: Duration = Duration::from_secs(10);

    /// A description of these servers, with the default threshold and heartbeat.
    ///
    /// Compatibility and session timeout follow from the servers.
    #[must_use]
    pub fn new(topology_type: TopologyType, servers: Servers) -> Self {
        let mut description = Self {
            topology_type,
            set_name: None,
            max_election_id: None,
            max_set_version: None,
            servers,
            last_removed: None,
            compatibility_error: None,
            logical_session_timeout_minutes: None,
            local_threshold: Self::DEFAULT_LOCAL_THRESHOLD,
            heartbeat_frequency: Self::DEFAULT_HEARTBEAT_FREQUENCY,
        };
        description.refresh();
        description
    }

    /// Whether every server speaks a wire version that this client speaks.
    #[must_use]
    pub const fn is_compatible(&self) -> bool {
        self.compatibility_error.is_none()
    }

    /// The primary, if one is known.
    #[must_use]
    pub fn primary(&self) -> Option<&Arc<ServerDescription>> {
        self.servers.of_type(crate::ServerType::RsPrimary).next()
    }

    /// Sets what follows from the servers taken together.
    pub(crate) fn refresh(&mut self) {
        self.compatibility_error = compatibility::error_of(&self.servers);
        self.logical_session_timeout_minutes = session_timeout(&self.servers);
    }
}

/// SDAM, "Logical Session Timeout".
fn session_timeout(servers: &Servers) -> Option<i64> {
    let mut least = None;
    for server in servers
        .iter()
        .filter(|server| server.server_type().is_data_bearing())
    {
        let own = server.logical_session_timeout_minutes()?;
        least = Some(least.map_or(own, |least: i64| least.min(own)));
    }
    least
}
