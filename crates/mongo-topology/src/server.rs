//! One server as the client sees it (SDAM, "ServerDescription").

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bson::DateTime;
use mongo_uri::ServerAddress;

use crate::error::LastError;
use crate::hello::HelloReply;
use crate::rtt::RoundTrip;
use crate::topology_version::TopologyVersion;

/// One stay of an address in the topology.
///
/// An address that leaves and comes back gets a new instance number, so that news and pools of the
/// earlier stay are never taken for those of the later one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServerId {
    /// Where the client connects to.
    pub address: ServerAddress,
    /// Unique within one topology, and growing.
    pub instance: u64,
}

impl fmt::Display for ServerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.address, self.instance)
    }
}

/// What kind of server answers at an address (SDAM, "ServerType").
///
/// The specification's `PossiblePrimary` is for clients that scan one server after the other; here
/// it is `Unknown`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ServerType {
    /// Not reached yet, or not any more.
    #[default]
    Unknown,
    /// A mongod outside any replica set.
    Standalone,
    /// A router of a sharded cluster.
    Mongos,
    /// The primary of a replica set.
    RsPrimary,
    /// A secondary of a replica set.
    RsSecondary,
    /// A member that votes and holds no data.
    RsArbiter,
    /// A member that is hidden, starting up or recovering.
    RsOther,
    /// A member without a set: not initialized, or removed from it.
    RsGhost,
    /// A load balancer; what stands behind it is of no concern here.
    LoadBalancer,
}

impl ServerType {
    /// The specification's name for the type.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "Unknown",
            Self::Standalone => "Standalone",
            Self::Mongos => "Mongos",
            Self::RsPrimary => "RSPrimary",
            Self::RsSecondary => "RSSecondary",
            Self::RsArbiter => "RSArbiter",
            Self::RsOther => "RSOther",
            Self::RsGhost => "RSGhost",
            Self::LoadBalancer => "LoadBalancer",
        }
    }

    /// Whether application data can come from such a server.
    #[must_use]
    pub const fn is_data_bearing(self) -> bool {
        matches!(
            self,
            Self::Standalone
                | Self::Mongos
                | Self::RsPrimary
                | Self::RsSecondary
                | Self::LoadBalancer
        )
    }
}

impl fmt::Display for ServerType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The client's view of one server; replaced whole, never changed.
///
/// Equality is the specification's: it leaves out round trip times, the time of the last update
/// and the last write, so that a check which finds nothing new raises no event.
#[derive(Clone, Debug)]
pub struct ServerDescription {
    id: ServerId,
    server_type: ServerType,
    error: Option<Arc<LastError>>,
    topology_version: Option<TopologyVersion>,
    round_trip: RoundTrip,
    last_update: Option<Instant>,
    reply: Option<Arc<HelloReply>>,
}

impl ServerDescription {
    /// A server that has not been reached.
    #[must_use]
    pub const fn unknown(id: ServerId) -> Self {
        Self {
            id,
            server_type: ServerType::Unknown,
            error: None,
            topology_version: None,
            round_trip: RoundTrip::UNKNOWN,
            last_update: None,
            reply: None,
        }
    }

    /// A server that cannot be used, and why.
    #[must_use]
    pub fn failed(id: ServerId, error: LastError, now: Instant) -> Self {
        Self {
            error: Some(Arc::new(error)),
            last_update: Some(now),
            ..Self::unknown(id)
        }
    }

    /// A server that answered at `now`.
    #[must_use]
    pub fn answered(
        id: ServerId,
        reply: Arc<HelloReply>,
        round_trip: RoundTrip,
        now: Instant,
    ) -> Self {
        Self {
            id,
            server_type: reply.server_type,
            error: None,
            topology_version: reply.topology_version,
            round_trip,
            last_update: Some(now),
            reply: Some(reply),
        }
    }

    /// A load balancer, which is never checked.
    #[must_use]
    pub const fn load_balancer(id: ServerId) -> Self {
        let mut description = Self::unknown(id);
        description.server_type = ServerType::LoadBalancer;
        description
    }

    pub(crate) fn with_topology_version(mut self, version: Option<TopologyVersion>) -> Self {
        self.topology_version = version;
        self
    }

    /// The address and the stay in the topology that this describes.
    #[must_use]
    pub const fn id(&self) -> &ServerId {
        &self.id
    }

    /// Where the client connects to; not what the server calls itself.
    #[must_use]
    pub const fn address(&self) -> &ServerAddress {
        &self.id.address
    }

    /// What kind of server it is.
    #[must_use]
    pub const fn server_type(&self) -> ServerType {
        self.server_type
    }

    /// Why the server is `Unknown`; `None` when it is known or was never tried.
    #[must_use]
    pub fn error(&self) -> Option<&LastError> {
        self.error.as_deref()
    }

    /// From the newest hello or state change error.
    #[must_use]
    pub const fn topology_version(&self) -> Option<TopologyVersion> {
        self.topology_version
    }

    /// Moving average and minimum of the round trip times; `Unknown` servers have none.
    #[must_use]
    pub const fn round_trip(&self) -> RoundTrip {
        self.round_trip
    }

    /// When this description came about; `None` before the first check.
    #[must_use]
    pub const fn last_update_time(&self) -> Option<Instant> {
        self.last_update
    }

    /// The hello reply this rests on; `None` while the server is `Unknown`.
    #[must_use]
    pub fn reply(&self) -> Option<&Arc<HelloReply>> {
        self.reply.as_ref()
    }

    /// The replica set's name, by this member.
    #[must_use]
    pub fn set_name(&self) -> Option<&str> {
        self.reply.as_ref()?.member.set_name.as_deref()
    }

    /// The member's tags; `None` when the server is `Unknown`.
    #[must_use]
    pub fn tags(&self) -> Option<&BTreeMap<String, String>> {
        Some(&self.reply.as_ref()?.member.tags)
    }

    /// The primary's wall clock at the newest write this member has.
    #[must_use]
    pub fn last_write_date(&self) -> Option<DateTime> {
        self.reply.as_ref()?.member.last_write_date
    }

    /// Minutes until the server forgets an idle session.
    #[must_use]
    pub fn logical_session_timeout_minutes(&self) -> Option<i64> {
        self.reply.as_ref()?.logical_session_timeout_minutes
    }

    /// The average round trip time, which selection goes by.
    #[must_use]
    pub fn average_round_trip_time(&self) -> Option<Duration> {
        self.round_trip.average
    }
}

impl PartialEq for ServerDescription {
    fn eq(&self, other: &Self) -> bool {
        self.id.address == other.id.address
            && self.server_type == other.server_type
            && self.error == other.error
            && self.topology_version == other.topology_version
            && replies_equal(self.reply.as_deref(), other.reply.as_deref())
    }
}

/// The specification's fields marked (=), as far as they come from the reply.
fn replies_equal(one: Option<&HelloReply>, two: Option<&HelloReply>) -> bool {
    let (Some(one), Some(two)) = (one, two) else {
        return one.is_none() && two.is_none();
    };
    let (a, b) = (&one.member, &two.member);
    one.wire_versions == two.wire_versions
        && one.logical_session_timeout_minutes == two.logical_session_timeout_minutes
        && one.is_cryptd == two.is_cryptd
        && a.set_name == b.set_name
        && a.set_version == b.set_version
        && a.election_id == b.election_id
        && a.me == b.me
        && a.primary == b.primary
        && a.hosts == b.hosts
        && a.passives == b.passives
        && a.arbiters == b.arbiters
        && a.tags == b.tags
}

/// `address: type, rtt, last error`, on one line.
impl fmt::Display for ServerDescription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.id.address, self.server_type)?;
        if let Some(average) = self.round_trip.average {
            write!(f, ", rtt {:.1} ms", average.as_secs_f64() * 1_000.0)?;
        }
        if let Some(error) = &self.error {
            write!(f, ", last error: {error}")?;
        }
        Ok(())
    }
}
