//! Which servers are suitable: by topology, operation and read preference, with the deprioritized
//! ones as a last resort (Server Selection, "Rules for server selection").

use mongo_uri::{ReadPreference, ReadPreferenceMode, ServerAddress, TagSet};

use super::criteria::{Operation, SelectionCriteria};
use super::staleness::Staleness;
use crate::description::{Entry, Ranked, TopologyDescription, TopologyType};
use crate::server::ServerType;

/// Which types of servers come into question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Candidates {
    /// Any type that is known: for a direct connection.
    Known,
    One(ServerType),
    PrimaryAndSecondaries,
}

impl Candidates {
    pub(super) fn include(self, server_type: ServerType) -> bool {
        match self {
            Self::Known => server_type != ServerType::Unknown,
            Self::One(wanted) => server_type == wanted,
            Self::PrimaryAndSecondaries => {
                matches!(server_type, ServerType::RsPrimary | ServerType::RsSecondary)
            }
        }
    }
}

/// The rule that a selection has come down to: it lets at least one server through.
#[derive(Clone, Copy, Debug)]
pub(super) struct Filter<'a> {
    pub(super) candidates: Candidates,
    staleness: Option<Staleness>,
    tags: Option<&'a TagSet>,
    avoided: &'a [ServerAddress],
}

impl<'a> Filter<'a> {
    /// The first rule, in the order that the preference gives, which some server meets.
    pub(super) fn resolve(
        topology: &TopologyDescription,
        criteria: &SelectionCriteria<'a>,
    ) -> Option<Self> {
        let avoiding = Resolver {
            topology,
            avoided: criteria.deprioritized,
        };
        let without = avoiding.resolve(criteria.operation);
        if without.is_some() || criteria.deprioritized.is_empty() {
            return without;
        }
        Resolver {
            topology,
            avoided: &[],
        }
        .resolve(criteria.operation)
    }

    /// The candidates by type, the fastest of each type first. A direct connection has no more
    /// than one server, so that its types need not be told apart.
    pub(super) fn ranges<'t>(&self, topology: &'t TopologyDescription) -> [Ranked<'t>; 2] {
        let servers = &topology.servers;
        let nothing = Ranked::nothing(servers);
        match self.candidates {
            Candidates::Known => [servers.all_ranked(), nothing],
            Candidates::One(server_type) => [servers.ranked(server_type), nothing],
            Candidates::PrimaryAndSecondaries => [ServerType::RsPrimary, ServerType::RsSecondary]
                .map(|wanted| servers.ranked(wanted)),
        }
    }

    /// Whether being a candidate is enough to be suitable.
    pub(super) const fn admits_all(&self) -> bool {
        !matches!(self.candidates, Candidates::Known)
            && self.staleness.is_none()
            && self.tags.is_none()
            && self.avoided.is_empty()
    }

    /// Whether the server is suitable.
    pub(super) fn admits(&self, entry: &Entry) -> bool {
        self.candidates.include(entry.server_type)
            && (self.avoided.is_empty() || !self.avoided.contains(entry.description.address()))
            && self
                .staleness
                .is_none_or(|staleness| staleness.admits(&entry.description))
            && self.tags.is_none_or(|wanted| {
                entry
                    .description
                    .tags()
                    .is_some_and(|tags| wanted.matches(tags))
            })
    }
}

#[derive(Clone, Copy)]
struct Resolver<'t, 'a> {
    topology: &'t TopologyDescription,
    avoided: &'a [ServerAddress],
}

impl<'a> Resolver<'_, 'a> {
    fn resolve(self, operation: Operation<'a>) -> Option<Filter<'a>> {
        match self.topology.topology_type {
            TopologyType::Unknown => None,
            TopologyType::Single => self.any(Candidates::Known),
            TopologyType::LoadBalanced => self.any(Candidates::One(ServerType::LoadBalancer)),
            TopologyType::Sharded => self.any(Candidates::One(ServerType::Mongos)),
            TopologyType::ReplicaSetNoPrimary | TopologyType::ReplicaSetWithPrimary => {
                match operation {
                    Operation::Write => self.primary(),
                    Operation::Read(preference) => self.member(preference),
                }
            }
        }
    }

    fn member(self, preference: &'a ReadPreference) -> Option<Filter<'a>> {
        let secondaries = Candidates::One(ServerType::RsSecondary);
        match preference.mode {
            ReadPreferenceMode::Primary => self.primary(),
            ReadPreferenceMode::PrimaryPreferred => self
                .primary()
                .or_else(|| self.eligible(secondaries, preference)),
            ReadPreferenceMode::Secondary => self.eligible(secondaries, preference),
            ReadPreferenceMode::SecondaryPreferred => self
                .eligible(secondaries, preference)
                .or_else(|| self.primary()),
            ReadPreferenceMode::Nearest => {
                self.eligible(Candidates::PrimaryAndSecondaries, preference)
            }
        }
    }

    fn primary(self) -> Option<Filter<'a>> {
        self.any(Candidates::One(ServerType::RsPrimary))
    }

    /// Staleness first, then the first tag set that some server left over matches.
    fn eligible(
        self,
        candidates: Candidates,
        preference: &'a ReadPreference,
    ) -> Option<Filter<'a>> {
        let limit = preference.max_staleness;
        let staleness = limit.map(|limit| Staleness::new(self.topology, limit));
        let filter = Filter {
            candidates,
            staleness,
            tags: None,
            avoided: self.avoided,
        };
        if preference.tag_sets.is_empty() {
            return self.if_met(filter);
        }
        preference.tag_sets.iter().find_map(|tags| {
            self.if_met(Filter {
                tags: Some(tags),
                ..filter
            })
        })
    }

    fn any(self, candidates: Candidates) -> Option<Filter<'a>> {
        self.if_met(Filter {
            candidates,
            staleness: None,
            tags: None,
            avoided: self.avoided,
        })
    }

    fn if_met(self, filter: Filter<'a>) -> Option<Filter<'a>> {
        let is_met = |range: Ranked<'_>| range.iter().any(|entry| filter.admits(entry));
        let mut ranges = filter.ranges(self.topology).into_iter();
        ranges.any(is_met).then_some(filter)
    }
}
