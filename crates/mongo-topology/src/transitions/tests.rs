//! The TopologyType table, cell by cell, and the rules of elections.

use std::sync::Arc;

use bson::oid::ObjectId;
use bson::{RawDocumentBuf, cstr, rawdoc};

use super::*;
use crate::description::Servers;
use crate::hello::HelloReply;
use crate::rtt::RoundTrip;
use crate::test_time;

fn id(address: &str) -> ServerId {
    ServerId {
        address: address.parse().unwrap(),
        instance: 1,
    }
}

fn reply_of(server_type: ServerType) -> RawDocumentBuf {
    let member = |role: &str| {
        let mut reply = rawdoc! {
            "ok": 1, "setName": "rs", "hosts": ["a:27017", "b:27017"], "maxWireVersion": 21,
        };
        if let Ok(role) = <&bson::raw::CStr>::try_from(role) {
            reply.append(role, true);
        }
        reply
    };
    match server_type {
        ServerType::Standalone => rawdoc! { "ok": 1, "maxWireVersion": 21 },
        ServerType::Mongos => rawdoc! { "ok": 1, "msg": "isdbgrid", "maxWireVersion": 21 },
        ServerType::RsPrimary => member("isWritablePrimary"),
        ServerType::RsSecondary => member("secondary"),
        ServerType::RsArbiter => member("arbiterOnly"),
        ServerType::RsOther => member("hidden"),
        ServerType::RsGhost => rawdoc! { "ok": 1, "isreplicaset": true, "maxWireVersion": 21 },
        ServerType::Unknown | ServerType::LoadBalancer => unreachable!("no reply says so"),
    }
}

fn described(address: &str, reply: &RawDocumentBuf) -> ServerDescription {
    let reply = Arc::new(HelloReply::parse(reply).unwrap());
    ServerDescription::answered(id(address), reply, RoundTrip::UNKNOWN, test_time::start())
}

fn server(address: &str, server_type: ServerType) -> ServerDescription {
    match server_type {
        ServerType::Unknown => ServerDescription::unknown(id(address)),
        other => described(address, &reply_of(other)),
    }
}

/// A topology of a, that is Unknown, and b, that makes it what it is.
fn topology(topology_type: TopologyType) -> TopologyDescription {
    let other = match topology_type {
        TopologyType::Sharded => ServerType::Mongos,
        TopologyType::ReplicaSetNoPrimary => ServerType::RsSecondary,
        TopologyType::ReplicaSetWithPrimary => ServerType::RsPrimary,
        _ => ServerType::Unknown,
    };
    let servers = [server("a", ServerType::Unknown), server("b", other)];
    let mut topology =
        TopologyDescription::new(topology_type, servers.into_iter().map(Arc::new).collect());
    topology.set_name = topology_type.is_replica_set().then(|| "rs".to_owned());
    topology
}

fn apply(topology: &TopologyDescription, server: ServerDescription, seeds: usize) -> Outcome {
    let mut instances = 10;
    let mut draft = Draft::new(topology, &mut instances, test_time::start());
    draft.apply(server, seeds);
    draft.finish(topology)
}

#[test]
fn every_cell_of_the_table_is_as_specified() {
    use ServerType as S;
    use TopologyType as T;
    let columns = [
        T::Unknown,
        T::Sharded,
        T::ReplicaSetNoPrimary,
        T::ReplicaSetWithPrimary,
    ];
    // For each column: the type after, and whether the server stays.
    let (no, with) = (T::ReplicaSetNoPrimary, T::ReplicaSetWithPrimary);
    let member = |unknown| {
        [
            (unknown, true),
            (T::Sharded, false),
            (unknown, true),
            (with, true),
        ]
    };
    let table = [
        (
            S::Unknown,
            [
                (T::Unknown, true),
                (T::Sharded, true),
                (no, true),
                (with, true),
            ],
        ),
        (
            S::Standalone,
            [
                (T::Unknown, false),
                (T::Sharded, false),
                (no, false),
                (with, false),
            ],
        ),
        (
            S::Mongos,
            [
                (T::Sharded, true),
                (T::Sharded, true),
                (no, false),
                (with, false),
            ],
        ),
        (S::RsPrimary, member(with)),
        (S::RsSecondary, member(no)),
        (S::RsArbiter, member(no)),
        (S::RsOther, member(no)),
        (
            S::RsGhost,
            [
                (T::Unknown, true),
                (T::Sharded, false),
                (no, true),
                (with, true),
            ],
        ),
    ];
    for (server_type, row) in table {
        for (before, (after, stays)) in columns.into_iter().zip(row) {
            let outcome = apply(&topology(before), server("a", server_type), 2);
            let left = outcome.topology.servers.contains(&"a".parse().unwrap());
            assert_eq!(
                (outcome.topology.topology_type, left),
                (after, stays),
                "{server_type} in {before}"
            );
        }
    }
}

#[test]
fn a_standalone_that_is_the_only_seed_makes_a_single_topology() {
    let servers: Servers = [Arc::new(server("a", ServerType::Unknown))]
        .into_iter()
        .collect();
    let topology = TopologyDescription::new(TopologyType::Unknown, servers);
    let outcome = apply(&topology, server("a", ServerType::Standalone), 1);
    assert_eq!(outcome.topology.topology_type, TopologyType::Single);
}

#[test]
fn the_loss_of_the_primary_changes_the_type() {
    let topology = topology(TopologyType::ReplicaSetWithPrimary);
    for server_type in [
        ServerType::Unknown,
        ServerType::RsSecondary,
        ServerType::RsGhost,
    ] {
        let outcome = apply(&topology, server("b", server_type), 2);
        assert_eq!(
            outcome.topology.topology_type,
            TopologyType::ReplicaSetNoPrimary,
            "{server_type}"
        );
    }
}

#[test]
fn a_member_of_another_set_or_by_another_name_is_removed() {
    for field in ["setName", "me"] {
        for topology_type in [
            TopologyType::ReplicaSetNoPrimary,
            TopologyType::ReplicaSetWithPrimary,
        ] {
            let mut reply = rawdoc! { "ok": 1, "secondary": true, "hosts": ["a:27017"] };
            let name = <&bson::raw::CStr>::try_from(field).unwrap();
            if field == "me" {
                reply.append(cstr!("setName"), "rs");
            }
            reply.append(name, "other:1");
            let outcome = apply(&topology(topology_type), described("a", &reply), 2);
            assert!(
                !outcome.topology.servers.contains(&"a".parse().unwrap()),
                "{field}"
            );
        }
    }
}

/// An election by its id and set version.
type Election = (Option<u8>, Option<i32>);

fn claim(election: Election, wire_version: i32) -> ServerDescription {
    let mut reply = rawdoc! {
        "ok": 1, "setName": "rs", "isWritablePrimary": true, "hosts": ["a:27017", "b:27017"],
        "maxWireVersion": wire_version,
    };
    if let Some(election) = election.0 {
        reply.append(cstr!("electionId"), ObjectId::from_bytes([election; 12]));
    }
    if let Some(version) = election.1 {
        reply.append(cstr!("setVersion"), version);
    }
    described("a", &reply)
}

#[test]
fn elections_are_ordered_by_the_rule_of_the_servers_age() {
    // The newest so far, a claim, and whether that one holds before 6.0 and since.
    let table: [(Election, Election, bool, bool); 9] = [
        ((None, None), (None, None), true, true),
        ((None, None), (Some(1), Some(1)), true, true),
        ((Some(1), Some(1)), (Some(1), Some(1)), true, true),
        ((Some(1), Some(1)), (Some(2), Some(1)), true, true),
        ((Some(2), Some(1)), (Some(1), Some(1)), false, false),
        ((Some(2), Some(1)), (Some(1), Some(2)), true, false),
        ((Some(1), Some(2)), (Some(2), Some(1)), false, true),
        ((Some(1), Some(1)), (None, Some(1)), true, false),
        ((Some(1), Some(1)), (Some(1), None), true, false),
    ];
    for (newest, own, holds_before, holds_since) in table {
        for (wire_version, holds) in [(16, holds_before), (17, holds_since)] {
            let mut topology = topology(TopologyType::ReplicaSetNoPrimary);
            topology.max_election_id = newest.0.map(|byte| ObjectId::from_bytes([byte; 12]));
            topology.max_set_version = newest.1.map(i64::from);
            let outcome = apply(&topology, claim(own, wire_version), 2);
            let is_primary = outcome.topology.primary().is_some();
            assert_eq!(
                is_primary, holds,
                "{own:?} after {newest:?}, wire version {wire_version}"
            );
        }
    }
}

#[test]
fn a_stale_claim_tells_both_elections() {
    let mut topology = topology(TopologyType::ReplicaSetNoPrimary);
    topology.max_election_id = Some(ObjectId::from_bytes([2; 12]));
    let outcome = apply(&topology, claim((None, Some(1)), 21), 2);
    let server = outcome.topology.servers.get(&"a".parse().unwrap()).unwrap();
    assert_eq!(
        server.error().unwrap().to_string(),
        "primary marked stale due to electionId/setVersion mismatch, (null, 1) is stale compared to \
         (020202020202020202020202, null)"
    );
}

#[test]
fn an_equal_description_is_no_change_and_several_count_as_one() {
    let topology = topology(TopologyType::ReplicaSetWithPrimary);
    let outcome = apply(&topology, server("b", ServerType::RsPrimary), 2);
    assert!(outcome.changes.is_empty() && !outcome.is_changed);

    let mut newest = topology.clone();
    newest.max_election_id = Some(ObjectId::from_bytes([9; 12]));
    let outcome = apply(&newest, server("a", ServerType::RsPrimary), 2);
    let [Change::Replaced { previous, current }, ..] = outcome.changes.as_slice() else {
        panic!("{:?}", outcome.changes)
    };
    assert_eq!(previous.server_type(), ServerType::Unknown);
    assert!(
        current.error().is_some(),
        "straight from not checked to stale"
    );
}

#[test]
fn a_direct_connection_to_another_set_than_asked_for_is_no_use() {
    let table = [
        (server("a", ServerType::RsPrimary), true, None),
        (
            server("a", ServerType::Standalone),
            false,
            Some("server is in no replica set, but replica set \"wanted\" was asked for"),
        ),
        (
            server("a", ServerType::RsPrimary),
            false,
            Some("server is in replica set \"rs\", but replica set \"wanted\" was asked for"),
        ),
    ];
    for (server, is_wanted, expected) in table {
        let servers: Servers = [Arc::new(ServerDescription::unknown(id("a")))]
            .into_iter()
            .collect();
        let mut single = TopologyDescription::new(TopologyType::Single, servers);
        single.set_name = Some(if is_wanted { "rs" } else { "wanted" }.to_owned());
        let outcome = apply(&single, server, 1);
        let server = outcome.topology.servers.iter().next().unwrap();
        assert_eq!(server.error().map(ToString::to_string).as_deref(), expected);
    }
}
