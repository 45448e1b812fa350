//! Why no server could be selected, server by server.

use std::fmt;
use std::time::Duration;

use mongo_uri::{ReadPreference, ReadPreferenceMode, ServerAddress};

use super::criteria::{Operation, SelectionCriteria};
use super::filter::Candidates;
use super::staleness::Staleness;
use crate::description::{TopologyDescription, TopologyType};
use crate::error::LastError;
use crate::server::{ServerDescription, ServerType};

/// A selection that gave no server.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SelectionError {
    /// The client and some server speak no common wire version.
    #[error("{0}")]
    Incompatible(String),
    /// The read preference contradicts itself or the deployment.
    #[error("invalid read preference: {0}")]
    InvalidPreference(String),
    /// No server will do at the moment.
    #[error("{0}")]
    NoSuitableServer(Box<Unsuitable>),
}

/// The servers of a topology, and what is wrong with each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsuitable {
    /// What was asked for.
    pub criteria: String,
    /// The kind of deployment, as far as it is known.
    pub topology_type: TopologyType,
    /// Why each server is not suitable, by address; where the only one was refused, that one.
    pub servers: Vec<(ServerAddress, Reason)>,
}

/// Why one server is not suitable.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// No check has ended yet.
    NotCheckedYet,
    /// The server cannot be used.
    Failed(LastError),
    /// The deployment's type is not known yet, so no server of it can be used.
    TopologyUnknown(ServerType),
    /// A server of this type cannot serve the operation.
    WrongType(ServerType),
    /// The secondary may lag more than the read preference allows.
    Stale {
        /// The estimate; `None` when the member tells no last write.
        estimate: Option<Duration>,
        /// The most that is allowed.
        limit: Duration,
    },
    /// No tag set of the read preference matches the member's tags.
    TagsDiffer,
    /// The application's own selector did not want it.
    NotSelected,
}

impl SelectionError {
    /// The error for criteria that no server meets. Built only then, since it is large.
    pub(super) fn unsuitable(
        topology: &TopologyDescription,
        criteria: &SelectionCriteria<'_>,
    ) -> Self {
        let servers = topology
            .servers
            .iter()
            .map(|server| (server.address().clone(), reason(topology, criteria, server)))
            .chain(removed(topology))
            .collect();
        Self::NoSuitableServer(Box::new(Unsuitable {
            criteria: criteria.to_string(),
            topology_type: topology.topology_type,
            servers,
        }))
    }
}

/// The server without which the topology is empty: it is not what was asked for.
fn removed(topology: &TopologyDescription) -> Option<(ServerAddress, Reason)> {
    let server = topology.last_removed.as_ref()?;
    let expected = topology.set_name.clone()?;
    let found = server.set_name().map(str::to_owned);
    let error = LastError::WrongSetName { expected, found };
    Some((server.address().clone(), Reason::Failed(error)))
}

fn reason(
    topology: &TopologyDescription,
    criteria: &SelectionCriteria<'_>,
    server: &ServerDescription,
) -> Reason {
    let server_type = server.server_type();
    if server_type == ServerType::Unknown {
        return server
            .error()
            .map_or(Reason::NotCheckedYet, |error| Reason::Failed(error.clone()));
    }
    if topology.topology_type == TopologyType::Unknown {
        return Reason::TopologyUnknown(server_type);
    }
    if let Operation::Read(preference) = criteria.operation
        && topology.topology_type.is_replica_set()
    {
        member_reason(topology, preference, server)
    } else if topology.topology_type.is_replica_set() && server_type != ServerType::RsPrimary {
        Reason::WrongType(server_type)
    } else {
        Reason::NotSelected
    }
}

fn member_reason(
    topology: &TopologyDescription,
    preference: &ReadPreference,
    server: &ServerDescription,
) -> Reason {
    let candidates = match preference.mode {
        ReadPreferenceMode::Primary => Candidates::One(ServerType::RsPrimary),
        ReadPreferenceMode::Secondary => Candidates::One(ServerType::RsSecondary),
        _ => Candidates::PrimaryAndSecondaries,
    };
    if !candidates.include(server.server_type()) {
        return Reason::WrongType(server.server_type());
    }
    if let Some(limit) = preference.max_staleness {
        let staleness = Staleness::new(topology, limit);
        if !staleness.admits(server) {
            let estimate = staleness
                .of(server)
                .and_then(|millis| u64::try_from(millis).ok());
            return Reason::Stale {
                estimate: estimate.map(Duration::from_millis),
                limit,
            };
        }
    }
    let tags = server.tags();
    let any_matches = preference.tag_sets.is_empty()
        || preference
            .tag_sets
            .iter()
            .any(|set| tags.is_some_and(|tags| set.matches(tags)));
    if any_matches {
        Reason::NotSelected
    } else {
        Reason::TagsDiffer
    }
}

/// What was asked for, then one line a server.
impl fmt::Display for Unsuitable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "no server is suitable for {} in topology {}",
            self.criteria, self.topology_type
        )?;
        if self.servers.is_empty() {
            write!(f, ", which has no servers")?;
        }
        for (address, reason) in &self.servers {
            write!(f, "\n  {address}: {reason}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotCheckedYet => write!(f, "not checked yet"),
            Self::Failed(error) => write!(f, "{error}"),
            Self::TopologyUnknown(server_type) => {
                write!(f, "{server_type}, while the deployment's type is unknown")
            }
            Self::WrongType(server_type) => {
                write!(f, "{server_type} cannot serve the operation")
            }
            Self::Stale {
                estimate: Some(estimate),
                limit,
            } => write!(
                f,
                "may lag {} s, more than {} s",
                estimate.as_secs_f64(),
                limit.as_secs_f64()
            ),
            Self::Stale { estimate: None, .. } => write!(f, "tells no last write to go by"),
            Self::TagsDiffer => write!(f, "no tag set matches its tags"),
            Self::NotSelected => write!(f, "refused by the custom selector"),
        }
    }
}
