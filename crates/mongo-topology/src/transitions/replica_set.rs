//! The actions of the TopologyType table for replica sets (SDAM, "Actions").

use std::cmp::Ordering;

use bson::oid::ObjectId;
use mongo_uri::ServerAddress;

use super::Draft;
use crate::description::TopologyType;
use crate::error::LastError;
use crate::hello::{HelloReply, Member};
use crate::server::{ServerDescription, ServerType};

/// MongoDB 6.0: from here on the election counts before the set version.
const ELECTION_FIRST_WIRE_VERSION: i32 = 17;

impl Draft<'_> {
    /// SDAM, "updateRSWithoutPrimary".
    pub(super) fn update_rs_without_primary(&mut self, server: &ServerDescription) {
        let Some(reply) = server.reply() else { return };
        let member = &reply.member;
        if !self.adopt_set_name(member) {
            self.remove(server.address());
            return;
        }
        for address in member.addresses() {
            self.add(address);
        }
        self.look_at_possible_primary(member);
        if is_known_by_another_name(server, member) {
            self.remove(server.address());
        }
    }

    /// SDAM, "updateRSWithPrimaryFromMember".
    pub(super) fn update_rs_with_primary_from_member(&mut self, server: &ServerDescription) {
        let Some(reply) = server.reply() else { return };
        let member = &reply.member;
        if self.topology.set_name != member.set_name || is_known_by_another_name(server, member) {
            self.remove_and_look_for_primary(server.address());
            return;
        }
        self.check_if_has_primary();
        if self.topology.topology_type == TopologyType::ReplicaSetNoPrimary {
            self.look_at_possible_primary(member);
        }
    }

    /// SDAM, "updateRSFromPrimary".
    pub(super) fn update_rs_from_primary(&mut self, server: &ServerDescription) {
        let Some(reply) = server.reply() else { return };
        let member = &reply.member;
        if !self.adopt_set_name(member) {
            self.remove_and_look_for_primary(server.address());
            return;
        }
        if let Err(stale) = self.record_election(reply) {
            self.invalidate(server, stale);
            self.check_if_has_primary();
            return;
        }
        self.invalidate_other_primaries(server.address());
        self.take_members(member);
        self.check_if_has_primary();
    }

    /// SDAM, "checkIfHasPrimary".
    pub(super) fn check_if_has_primary(&mut self) {
        self.topology.topology_type = if self.topology.primary().is_some() {
            TopologyType::ReplicaSetWithPrimary
        } else {
            TopologyType::ReplicaSetNoPrimary
        };
    }

    /// Takes the set's name from the first member that tells it; false when it is another set.
    fn adopt_set_name(&mut self, member: &Member) -> bool {
        if self.topology.set_name.is_none() {
            self.topology.set_name.clone_from(&member.set_name);
        }
        self.topology.set_name == member.set_name
    }

    /// A member that names a primary we do not know of makes that server worth a check at once.
    fn look_at_possible_primary(&mut self, member: &Member) {
        let Some(address) = &member.primary else {
            return;
        };
        let known = self.topology.servers.get(address);
        if known.is_some_and(|server| server.server_type() == ServerType::Unknown) {
            self.recheck.push(address.clone());
        }
    }

    /// Remembers the newest election, or tells why this primary's is an older one (SDAM, "Using
    /// electionId and setVersion to detect stale primaries").
    fn record_election(&mut self, reply: &HelloReply) -> Result<(), LastError> {
        let topology = &mut self.topology;
        let own = (reply.member.election_id, reply.member.set_version);
        let newest = (topology.max_election_id, topology.max_set_version);
        if reply.wire_versions.max >= ELECTION_FIRST_WIRE_VERSION {
            // `None` orders below every value, as the rule wants it.
            if own < newest {
                return Err(stale_election(own, newest));
            }
            (topology.max_election_id, topology.max_set_version) = own;
            return Ok(());
        }
        if let (Some(election), Some(version)) = own {
            if let (Some(newest_election), Some(newest_version)) = newest
                && (newest_version, newest_election).cmp(&(version, election)) == Ordering::Greater
            {
                return Err(stale_election(own, newest));
            }
            topology.max_election_id = Some(election);
        }
        topology.max_set_version = topology.max_set_version.max(own.1);
        Ok(())
    }

    /// The specification forbids clearing the old primary's pool: it may go on as a secondary.
    fn invalidate_other_primaries(&mut self, newest: &ServerAddress) {
        let others: Vec<_> = self
            .topology
            .servers
            .of_type(ServerType::RsPrimary)
            .filter(|server| server.address() != newest)
            .cloned()
            .collect();
        for server in others {
            self.invalidate(&server, LastError::NewerPrimary);
            self.recheck.push(server.address().clone());
        }
    }

    /// The primary's word on who is in the set is final.
    fn take_members(&mut self, member: &Member) {
        let only_hosts = member.passives.is_empty() && member.arbiters.is_empty();
        if only_hosts && self.topology.servers.addresses().eq(&member.hosts) {
            return;
        }
        for address in member.addresses() {
            self.add(address);
        }
        let gone: Vec<_> = self
            .topology
            .servers
            .addresses()
            .filter(|address| !member.lists(address))
            .cloned()
            .collect();
        for address in &gone {
            self.remove(address);
        }
    }
}

/// A member that calls itself by another address is in the topology twice, or soon will be.
fn is_known_by_another_name(server: &ServerDescription, member: &Member) -> bool {
    member.me.as_ref().is_some_and(|me| me != server.address())
}

/// What orders two primaries: an election and a set version.
type Election = (Option<ObjectId>, Option<i64>);

fn stale_election(own: Election, newest: Election) -> LastError {
    LastError::StaleElection {
        stale: election_text(own),
        newest: election_text(newest),
    }
}

fn election_text((election, version): Election) -> String {
    fn or_null(value: Option<impl ToString>) -> String {
        value.map_or_else(|| "null".to_owned(), |value| value.to_string())
    }
    format!("({}, {})", or_null(election), or_null(version))
}
