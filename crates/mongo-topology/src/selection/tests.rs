//! Rules of selection beyond the specification's own cases.

use std::time::Duration;

use bson::{DateTime, RawDocumentBuf, cstr, rawdoc};
use mongo_uri::{ReadPreference, ReadPreferenceMode, TagSet};

use super::*;
use crate::description::{Servers, TopologyType};
use crate::error::{CheckError, LastError};
use crate::hello::HelloReply;
use crate::rtt::RoundTrip;
use crate::server::{ServerId, ServerType};
use crate::test_time;

fn id(address: &str) -> ServerId {
    ServerId {
        address: address.parse().unwrap(),
        instance: 1,
    }
}

fn answered(address: &str, millis: u64, reply: &RawDocumentBuf) -> Arc<ServerDescription> {
    let average = Some(Duration::from_millis(millis));
    let round_trip = RoundTrip {
        average,
        minimum: Duration::ZERO,
    };
    let reply = Arc::new(HelloReply::parse(reply).unwrap());
    Arc::new(ServerDescription::answered(
        id(address),
        reply,
        round_trip,
        test_time::start(),
    ))
}

fn failed(address: &str) -> Arc<ServerDescription> {
    let error = LastError::Check(CheckError::network("connection refused"));
    Arc::new(ServerDescription::failed(
        id(address),
        error,
        test_time::start(),
    ))
}

fn primary(address: &str, millis: u64) -> Arc<ServerDescription> {
    let reply = rawdoc! {
        "ok": 1, "setName": "rs", "ismaster": true, "maxWireVersion": 21,
        "lastWrite": { "lastWriteDate": DateTime::from_millis(1_000_000) },
    };
    answered(address, millis, &reply)
}

/// A secondary this many seconds behind, in this data centre.
fn secondary(address: &str, millis: u64, behind: i64, centre: &str) -> Arc<ServerDescription> {
    let written = DateTime::from_millis(1_000_000 - behind * 1_000);
    let reply = rawdoc! {
        "ok": 1, "setName": "rs", "secondary": true, "maxWireVersion": 21,
        "tags": { "dc": centre }, "lastWrite": { "lastWriteDate": written },
    };
    answered(address, millis, &reply)
}

fn mongos(address: &str, millis: u64) -> Arc<ServerDescription> {
    let reply = rawdoc! { "ok": 1, "msg": "isdbgrid", "maxWireVersion": 21 };
    answered(address, millis, &reply)
}

fn topology(
    topology_type: TopologyType,
    servers: impl IntoIterator<Item = Arc<ServerDescription>>,
) -> TopologyDescription {
    TopologyDescription::new(topology_type, servers.into_iter().collect::<Servers>())
}

fn three_routers() -> TopologyDescription {
    topology(
        TopologyType::Sharded,
        [mongos("a", 1), mongos("b", 2), mongos("c", 90)],
    )
}

#[test]
fn a_selection_that_fails_says_why_server_by_server() {
    let with_primary = [
        primary("a", 1),
        secondary("b", 1, 200, "ny"),
        secondary("c", 1, 0, "sf"),
        failed("d"),
        Arc::new(ServerDescription::unknown(id("e"))),
        answered(
            "f",
            1,
            &rawdoc! { "ok": 1, "setName": "rs", "maxWireVersion": 21 },
        ),
    ];
    let topology = topology(TopologyType::ReplicaSetWithPrimary, with_primary);
    let preference = ReadPreference {
        mode: ReadPreferenceMode::Secondary,
        tag_sets: vec![TagSet::from_iter([("dc", "ny")])],
        max_staleness: Some(Duration::from_secs(120)),
    };
    let criteria = SelectionCriteria::read(&preference);
    let error = topology
        .select(&criteria, |_| 0, &mut Rng::from_seed(1))
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "no server is suitable for a read with mode secondary, tag sets [dc:ny], max staleness 120 s \
         in topology ReplicaSetWithPrimary\
         \n  a:27017: RSPrimary cannot serve the operation\
         \n  b:27017: may lag 210 s, more than 120 s\
         \n  c:27017: no tag set matches its tags\
         \n  d:27017: network error: connection refused\
         \n  e:27017: not checked yet\
         \n  f:27017: RSOther cannot serve the operation"
    );
}

#[test]
fn an_empty_topology_says_so() {
    let empty = topology(TopologyType::Unknown, []);
    let error = empty.select(&SelectionCriteria::write(), |_| 0, &mut Rng::from_seed(1));
    assert_eq!(
        error.unwrap_err().to_string(),
        "no server is suitable for a write in topology Unknown, which has no servers"
    );
}

#[test]
fn an_incompatible_server_stops_every_selection() {
    let table = [
        (
            rawdoc! { "ok": 1, "maxWireVersion": 7 },
            "Server at a:27017 reports wire version 7, but this version of mongo-topology requires \
             at least 8 (MongoDB 4.2).",
        ),
        (
            rawdoc! { "ok": 1, "minWireVersion": 90, "maxWireVersion": 99 },
            "Server at a:27017 requires wire version 90, but this version of mongo-topology only \
             supports up to 27.",
        ),
    ];
    for (reply, expected) in table {
        let single = topology(TopologyType::Single, [answered("a", 1, &reply)]);
        let error = single.select(&SelectionCriteria::write(), |_| 0, &mut Rng::from_seed(1));
        assert_eq!(
            error.unwrap_err(),
            SelectionError::Incompatible(expected.to_owned())
        );
    }
}

#[test]
fn a_direct_connection_serves_everything_once_it_is_known() {
    let arbiter = rawdoc! { "ok": 1, "setName": "rs", "arbiterOnly": true, "maxWireVersion": 21 };
    let preference = ReadPreference::new(ReadPreferenceMode::Nearest);
    for criteria in [
        SelectionCriteria::write(),
        SelectionCriteria::read(&preference),
    ] {
        let known = topology(TopologyType::Single, [answered("a", 1, &arbiter)]);
        assert!(
            known
                .select(&criteria, |_| 0, &mut Rng::from_seed(1))
                .is_ok()
        );
        let unknown = topology(TopologyType::Single, [failed("a")]);
        assert!(
            unknown
                .select(&criteria, |_| 0, &mut Rng::from_seed(1))
                .is_err()
        );
    }
}

#[test]
fn fewer_running_operations_win_within_the_window() {
    let topology = three_routers();
    let busy = |address: &ServerAddress| u32::from(address.host() == Some("a"));
    let mut rng = Rng::from_seed(1);
    for _ in 0..100 {
        let server = topology
            .select(&SelectionCriteria::write(), busy, &mut rng)
            .unwrap();
        assert_eq!(
            server.address().host(),
            Some("b"),
            "c is out of the window, a is busy"
        );
    }
}

#[test]
fn deprioritized_servers_are_taken_when_nothing_else_is_left() {
    let topology = three_routers();
    let addresses = |hosts: &[&str]| -> Vec<ServerAddress> {
        hosts.iter().map(|host| host.parse().unwrap()).collect()
    };
    for (avoided, expected) in [
        (vec!["a"], vec!["b"]),
        (vec!["a", "b"], vec!["c"]),
        (vec!["a", "b", "c"], vec!["a", "b"]),
    ] {
        let avoided = addresses(&avoided);
        let criteria = SelectionCriteria::write().deprioritizing(&avoided);
        let near = topology.in_latency_window(&criteria).unwrap();
        let near: Vec<_> = near.iter().map(|server| server.address().clone()).collect();
        assert_eq!(near, addresses(&expected));
    }
}

#[test]
fn a_custom_selector_chooses_among_the_suitable_before_latency() {
    let highest_port: &ServerSelector = &|servers| {
        let highest = servers
            .iter()
            .filter_map(|server| server.address().port())
            .max();
        servers.retain(|server| server.address().port() == highest);
    };
    let topology = topology(
        TopologyType::ReplicaSetWithPrimary,
        [
            primary("a:1", 1),
            secondary("b:3", 500, 0, "ny"),
            secondary("c:2", 1, 0, "ny"),
        ],
    );
    let preference = ReadPreference::new(ReadPreferenceMode::Nearest);
    let criteria = SelectionCriteria::read(&preference).with_selector(Some(highest_port));
    let server = topology
        .select(&criteria, |_| 0, &mut Rng::from_seed(1))
        .unwrap();
    assert_eq!(server.address().to_string(), "b:3");

    let nothing: &ServerSelector = &|servers| servers.clear();
    let criteria = SelectionCriteria::write().with_selector(Some(nothing));
    let error = topology
        .select(&criteria, |_| 0, &mut Rng::from_seed(1))
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("a:1: refused by the custom selector"),
        "{error}"
    );
}

#[test]
fn preferences_that_no_server_could_meet_are_refused() {
    let limit = |seconds| Some(Duration::from_secs(seconds));
    let tags = vec![TagSet::from_iter([("dc", "ny")])];
    let (mode, other) = (ReadPreferenceMode::Primary, ReadPreferenceMode::Secondary);
    let table = [
        (
            ReadPreference {
                mode,
                tag_sets: tags,
                max_staleness: None,
            },
            false,
        ),
        (
            ReadPreference {
                mode,
                tag_sets: vec![],
                max_staleness: limit(120),
            },
            false,
        ),
        (
            ReadPreference {
                mode: other,
                tag_sets: vec![],
                max_staleness: limit(0),
            },
            false,
        ),
        (
            ReadPreference {
                mode: other,
                tag_sets: vec![],
                max_staleness: limit(89),
            },
            false,
        ),
        (
            ReadPreference {
                mode: other,
                tag_sets: vec![],
                max_staleness: limit(90),
            },
            true,
        ),
    ];
    let set = topology(
        TopologyType::ReplicaSetWithPrimary,
        [primary("a", 1), secondary("b", 1, 0, "ny")],
    );
    for (preference, is_fine) in table {
        let selected = set.suitable(&SelectionCriteria::read(&preference));
        let is_refused = matches!(selected, Err(SelectionError::InvalidPreference(_)));
        assert_eq!(is_refused, !is_fine, "{preference:?}");
    }
}

#[test]
fn the_heartbeat_raises_the_least_staleness() {
    let mut set = topology(
        TopologyType::ReplicaSetNoPrimary,
        [secondary("b", 1, 0, "ny")],
    );
    set.heartbeat_frequency = Duration::from_secs(120);
    let mut preference = ReadPreference::new(ReadPreferenceMode::Secondary);
    for (seconds, is_fine) in [(129, false), (130, true)] {
        preference.max_staleness = Some(Duration::from_secs(seconds));
        assert_eq!(
            set.suitable(&SelectionCriteria::read(&preference)).is_ok(),
            is_fine
        );
    }
}

#[test]
fn a_member_without_a_last_write_cannot_be_known_to_be_fresh() {
    let silent = rawdoc! { "ok": 1, "setName": "rs", "secondary": true, "maxWireVersion": 21 };
    let set = topology(
        TopologyType::ReplicaSetNoPrimary,
        [answered("a", 1, &silent), secondary("b", 1, 0, "ny")],
    );
    let mut preference = ReadPreference::new(ReadPreferenceMode::Secondary);
    preference.max_staleness = Some(Duration::from_secs(90));
    let suitable = set.suitable(&SelectionCriteria::read(&preference)).unwrap();
    assert_eq!(suitable.len(), 1);
    assert_eq!(suitable[0].address().host(), Some("b"));
}

#[test]
fn commands_carry_the_preference_that_the_server_needs() {
    use ReadPreferenceMode::{Primary, PrimaryPreferred, Secondary};
    use ServerType as S;
    use TopologyType as T;
    let table = [
        (T::Single, S::Standalone, Secondary, None),
        (T::Single, S::RsSecondary, Primary, Some(PrimaryPreferred)),
        (T::Single, S::RsSecondary, Secondary, Some(Secondary)),
        (T::Single, S::RsPrimary, Primary, Some(PrimaryPreferred)),
        (T::Single, S::Mongos, Primary, None),
        (T::Single, S::Mongos, Secondary, Some(Secondary)),
        (T::ReplicaSetWithPrimary, S::RsPrimary, Primary, None),
        (
            T::ReplicaSetWithPrimary,
            S::RsSecondary,
            Secondary,
            Some(Secondary),
        ),
        (
            T::ReplicaSetNoPrimary,
            S::RsSecondary,
            PrimaryPreferred,
            Some(PrimaryPreferred),
        ),
        (T::Sharded, S::Mongos, Primary, None),
        (T::Sharded, S::Mongos, Secondary, Some(Secondary)),
        (T::LoadBalanced, S::LoadBalancer, Primary, None),
        (T::LoadBalanced, S::LoadBalancer, Secondary, Some(Secondary)),
    ];
    for (topology_type, server_type, mode, expected) in table {
        let topology = topology(topology_type, []);
        let preference = ReadPreference::new(mode);
        let sent = topology.read_preference_for_command(server_type, Operation::Read(&preference));
        let sent = sent.map(|preference| preference.mode);
        assert_eq!(sent, expected, "{mode} on {server_type} of {topology_type}");
        let sent = topology.read_preference_for_command(server_type, Operation::Write);
        assert_eq!(sent, None, "a write");
    }
}

#[test]
fn the_document_of_a_preference_holds_what_is_given() {
    let mut preference = ReadPreference::new(ReadPreferenceMode::Nearest);
    assert_eq!(
        read_preference_document(&preference),
        rawdoc! { "mode": "nearest" }
    );
    preference.tag_sets = vec![TagSet::from_iter([("dc", "ny")]), TagSet::default()];
    preference.max_staleness = Some(Duration::from_secs(120));
    let expected = rawdoc! {
        "mode": "nearest", "tags": [{ "dc": "ny" }, {}], "maxStalenessSeconds": 120_i64,
    };
    assert_eq!(read_preference_document(&preference), expected);
}

#[test]
fn a_topology_is_shown_one_line_a_server() {
    let mut set = topology(
        TopologyType::ReplicaSetWithPrimary,
        [
            primary("a", 3),
            failed("b"),
            Arc::new(ServerDescription::unknown(id("[::1]:5"))),
        ],
    );
    set.set_name = Some("rs".to_owned());
    assert_eq!(
        set.to_string(),
        "ReplicaSetWithPrimary \"rs\", 3 servers\
         \n  [::1]:5: Unknown\
         \n  a:27017: RSPrimary, rtt 3.0 ms\
         \n  b:27017: Unknown, last error: network error: connection refused"
    );
}

#[test]
fn servers_differ_by_what_matters_and_not_by_when_or_how_fast() {
    let base = rawdoc! { "ok": 1, "setName": "rs", "secondary": true, "maxWireVersion": 21 };
    let mut tagged = base.clone();
    tagged.append(cstr!("tags"), rawdoc! { "dc": "ny" });
    let mut written = base.clone();
    written.append(
        cstr!("lastWrite"),
        rawdoc! { "lastWriteDate": DateTime::from_millis(5) },
    );
    assert_eq!(answered("a", 1, &base), answered("a", 9, &base));
    assert_eq!(answered("a", 1, &base), answered("a", 1, &written));
    assert_ne!(answered("a", 1, &base), answered("a", 1, &tagged));
    assert_ne!(answered("a", 1, &base), answered("b", 1, &base));
    assert_ne!(failed("a"), Arc::new(ServerDescription::unknown(id("a"))));
}

#[test]
fn equal_servers_are_chosen_equally_often_with_and_without_conditions() {
    let secondaries = (0..5).map(|port| secondary(&format!("a:{}", port + 1), 1, 0, "ny"));
    let set = topology(TopologyType::ReplicaSetNoPrimary, secondaries);
    let plain = ReadPreference::new(ReadPreferenceMode::Secondary);
    let tagged = ReadPreference {
        tag_sets: vec![TagSet::from_iter([("dc", "ny")])],
        ..plain.clone()
    };
    let all: &ServerSelector = &|_| {};
    for (preference, selector) in [(&plain, None), (&tagged, None), (&plain, Some(all))] {
        let criteria = SelectionCriteria::read(preference).with_selector(selector);
        let mut rng = Rng::from_seed(5);
        let mut times = [0_u32; 5];
        for _ in 0..5_000 {
            let server = set.select(&criteria, |_| 0, &mut rng).unwrap();
            times[usize::from(server.address().port().unwrap()) - 1] += 1;
        }
        assert!(
            times.iter().all(|times| (850..1_150).contains(times)),
            "{criteria}: {times:?}"
        );
    }
}

/// Of twenty members so many carry the tag that is asked for: with one the blind draws come to
/// nothing, with ten they nearly always find two.
#[test]
fn all_pairs_of_many_members_are_as_likely_whether_drawn_or_walked_to() {
    let preference = ReadPreference {
        mode: ReadPreferenceMode::Secondary,
        tag_sets: vec![TagSet::from_iter([("dc", "sf")])],
        max_staleness: Some(Duration::from_secs(120)),
    };
    let criteria = SelectionCriteria::read(&preference);
    let mut rng = Rng::from_seed(3);
    for matching in [1, 2, 3, 10] {
        let members = (0..20).map(|number| {
            let centre = if number < matching { "sf" } else { "ny" };
            secondary(&format!("m{number:02}"), 1, 0, centre)
        });
        let topology = topology(TopologyType::ReplicaSetNoPrimary, members);
        let mut picked = std::collections::BTreeMap::new();
        for _ in 0..matching * 1_000 {
            let server = topology.select(&criteria, |_| 0, &mut rng).unwrap();
            *picked.entry(server.address().to_string()).or_insert(0) += 1;
        }
        assert_eq!(picked.len(), matching, "{picked:?}");
        assert!(
            picked
                .keys()
                .all(|address| *address < format!("m{matching:02}")),
            "{picked:?}"
        );
        assert!(
            picked.values().all(|count| (850..1_150).contains(count)),
            "{picked:?}"
        );
        // The less busy one of any two is taken, so the busiest of all never is.
        let running = |address: &ServerAddress| u32::from(address.to_string().starts_with("m00"));
        let is_taken = (0..1_000).any(|_| {
            let server = topology.select(&criteria, running, &mut rng).unwrap();
            server.address().to_string().starts_with("m00")
        });
        assert_eq!(is_taken, matching == 1);
    }
}
