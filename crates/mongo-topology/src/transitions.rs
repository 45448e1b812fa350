//! How one server's news change the topology (SDAM, "Updating the TopologyDescription").
//!
//! Pure: from a description and a new server description to the next description and the list of
//! what changed. [`Draft::apply`] is the specification's TopologyType table, cell by cell; its
//! actions are in [`replica_set`].

mod replica_set;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use mongo_uri::ServerAddress;

use crate::description::{TopologyDescription, TopologyType};
use crate::error::LastError;
use crate::server::{ServerDescription, ServerId, ServerType};

/// One difference between two topologies, in the order in which it came about.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    Replaced {
        previous: Arc<ServerDescription>,
        current: Arc<ServerDescription>,
    },
    Added(ServerId),
    Removed(ServerId),
}

/// What a transition ends in.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) topology: TopologyDescription,
    pub(crate) changes: Vec<Change>,
    /// Servers that another server's news make worth a look.
    pub(crate) recheck: Vec<ServerAddress>,
    /// Whether the topology is unequal to the one before.
    pub(crate) is_changed: bool,
}

/// The next topology in the making.
#[derive(Debug)]
pub(crate) struct Draft<'a> {
    topology: TopologyDescription,
    changes: Vec<Change>,
    recheck: Vec<ServerAddress>,
    /// The source of instance numbers.
    instances: &'a mut u64,
    now: Instant,
}

impl<'a> Draft<'a> {
    pub(crate) fn new(current: &TopologyDescription, instances: &'a mut u64, now: Instant) -> Self {
        Self {
            topology: current.clone(),
            changes: Vec::new(),
            recheck: Vec::new(),
            instances,
            now,
        }
    }

    /// Takes in the new description of a server that is in the topology.
    pub(crate) fn apply(&mut self, server: ServerDescription, seeds: usize) {
        use ServerType as S;
        use TopologyType as T;

        let address = server.address().clone();
        let server_type = server.server_type();
        let server = Arc::new(server);
        self.replace(Arc::clone(&server));
        match (server_type, self.topology.topology_type) {
            (_, T::Single) => self.verify_set_name(&server),
            (_, T::LoadBalanced) => {}

            (S::Unknown, T::Unknown | T::Sharded | T::ReplicaSetNoPrimary) => {}
            (S::Unknown, T::ReplicaSetWithPrimary) => self.check_if_has_primary(),

            // SRV polling may have added hosts to the one seed.
            (S::Standalone, T::Unknown) if seeds == 1 && self.topology.servers.len() == 1 => {
                self.topology.topology_type = T::Single;
            }
            (S::Standalone, T::Unknown | T::Sharded | T::ReplicaSetNoPrimary) => {
                self.remove(&address);
            }
            (S::Standalone, T::ReplicaSetWithPrimary) => self.remove_and_look_for_primary(&address),

            (S::Mongos, T::Unknown) => self.topology.topology_type = T::Sharded,
            (S::Mongos, T::Sharded) => {}
            (S::Mongos, T::ReplicaSetNoPrimary) => self.remove(&address),
            (S::Mongos, T::ReplicaSetWithPrimary) => self.remove_and_look_for_primary(&address),

            (S::RsPrimary, T::Unknown | T::ReplicaSetNoPrimary | T::ReplicaSetWithPrimary) => {
                self.update_rs_from_primary(&server);
            }
            (S::RsPrimary, T::Sharded) => self.remove(&address),

            (S::RsSecondary | S::RsArbiter | S::RsOther, T::Unknown) => {
                self.topology.topology_type = T::ReplicaSetNoPrimary;
                self.update_rs_without_primary(&server);
            }
            (S::RsSecondary | S::RsArbiter | S::RsOther, T::Sharded) => self.remove(&address),
            (S::RsSecondary | S::RsArbiter | S::RsOther, T::ReplicaSetNoPrimary) => {
                self.update_rs_without_primary(&server);
            }
            (S::RsSecondary | S::RsArbiter | S::RsOther, T::ReplicaSetWithPrimary) => {
                self.update_rs_with_primary_from_member(&server);
            }

            (S::RsGhost, T::Unknown | T::ReplicaSetNoPrimary) => {}
            (S::RsGhost, T::Sharded) => self.remove(&address),
            (S::RsGhost, T::ReplicaSetWithPrimary) => self.check_if_has_primary(),

            // No reply makes a server a load balancer.
            (S::LoadBalancer, _) => {}
        }
    }

    /// Makes the hosts of a new SRV lookup the servers of the topology. Those that stay are left
    /// alone.
    pub(crate) fn set_hosts(&mut self, hosts: &BTreeSet<ServerAddress>) {
        for address in hosts {
            self.add(address);
        }
        let all = self.topology.servers.addresses();
        let gone: Vec<_> = all
            .filter(|address| !hosts.contains(address))
            .cloned()
            .collect();
        for address in &gone {
            self.remove(address);
        }
    }

    /// Makes the topology what it is when closed: of type Unknown and without servers.
    pub(crate) fn close(&mut self) {
        let all: Vec<_> = self.topology.servers.addresses().cloned().collect();
        for address in &all {
            self.remove(address);
        }
        // Without a server to remove nothing changes, and no event would tell of it.
        if !all.is_empty() {
            self.topology.last_removed = None;
        }
        self.topology.topology_type = TopologyType::Unknown;
        self.topology.set_name = None;
        self.topology.max_election_id = None;
        self.topology.max_set_version = None;
    }

    pub(crate) fn finish(mut self, previous: &TopologyDescription) -> Outcome {
        self.changes.retain(|change| match change {
            Change::Replaced { previous, current } => previous != current,
            Change::Added(_) | Change::Removed(_) => true,
        });
        if !self.changes.is_empty() {
            self.topology.refresh();
        }
        if !self.topology.servers.is_empty() {
            self.topology.last_removed = None;
        }
        let next = &self.topology;
        let is_changed = !self.changes.is_empty()
            || next.topology_type != previous.topology_type
            || next.set_name != previous.set_name
            || next.max_election_id != previous.max_election_id
            || next.max_set_version != previous.max_set_version;
        Outcome {
            topology: self.topology,
            changes: self.changes,
            recheck: self.recheck,
            is_changed,
        }
    }

    /// Puts a description in place of the one with its address; several in a row count as one.
    fn replace(&mut self, server: Arc<ServerDescription>) {
        let before = self.topology.servers.insert(Arc::clone(&server));
        let earlier = self.changes.iter_mut().find_map(|change| match change {
            Change::Replaced { current, .. } if current.address() == server.address() => {
                Some(current)
            }
            _ => None,
        });
        match (earlier, before) {
            (Some(current), _) => *current = server,
            (None, Some(previous)) => {
                self.changes.push(Change::Replaced {
                    previous,
                    current: server,
                });
            }
            (None, None) => self.changes.push(Change::Added(server.id().clone())),
        }
    }

    fn add(&mut self, address: &ServerAddress) {
        if !self.topology.servers.contains(address) {
            *self.instances += 1;
            let id = ServerId {
                address: address.clone(),
                instance: *self.instances,
            };
            self.replace(Arc::new(ServerDescription::unknown(id)));
        }
    }

    fn remove(&mut self, address: &ServerAddress) {
        if let Some(server) = self.topology.servers.remove(address) {
            self.changes.push(Change::Removed(server.id().clone()));
            self.topology.last_removed = self.topology.servers.is_empty().then_some(server);
        }
    }

    fn remove_and_look_for_primary(&mut self, address: &ServerAddress) {
        self.remove(address);
        self.check_if_has_primary();
    }

    fn invalidate(&mut self, server: &ServerDescription, error: LastError) {
        let id = server.id().clone();
        self.replace(Arc::new(ServerDescription::failed(id, error, self.now)));
    }

    /// A direct connection that asked for a set must not talk to a server outside it.
    fn verify_set_name(&mut self, server: &ServerDescription) {
        let Some(expected) = self.topology.set_name.clone() else {
            return;
        };
        if server.server_type() == ServerType::Unknown || server.set_name() == Some(&expected) {
            return;
        }
        let found = server.set_name().map(str::to_owned);
        self.invalidate(server, LastError::WrongSetName { expected, found });
    }
}

#[cfg(test)]
mod tests;
