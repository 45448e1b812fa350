//! The first and the last events.

use super::world::*;
use crate::*;

#[test]
fn opening_comes_first_and_each_server_before_its_check() {
    let world = World::new("mongodb://b,a/?replicaSet=rs");
    assert_eq!(
        world.names(),
        [
            "TopologyOpening",
            "TopologyChanged ReplicaSetNoPrimary",
            "ServerOpening b:27017",
            "OpenServer b:27017",
            "ServerOpening a:27017",
            "OpenServer a:27017",
            "Started b:27017",
            "Connect b:27017",
            "Started a:27017",
            "Connect a:27017",
        ]
    );
}

#[test]
fn closing_ends_every_check_and_comes_last() {
    let mut world = World::new("mongodb://a,b/?replicaSet=rs");
    world.reply("a", &streaming(primary(1, &["a:27017", "b:27017"]), 1));
    world.handle(Input::Close);
    assert_eq!(
        world.names(),
        [
            "Failed a:27017",
            "ServerClosed a:27017",
            "CloseServer a:27017",
            "Failed b:27017",
            "ServerClosed b:27017",
            "CloseServer b:27017",
            "TopologyChanged Unknown",
            "TopologyClosed",
        ]
    );
    assert_eq!(world.topology.poll_timeout(), None);
    let closed = world.topology.description();
    assert!(closed.servers.is_empty());
    assert_eq!(
        (
            &closed.set_name,
            closed.max_election_id,
            closed.max_set_version
        ),
        (&None, None, None)
    );
    for late in [Input::CheckRequested, Input::Close] {
        world.handle(late);
        assert_eq!(world.actions, []);
    }
}

#[test]
fn closing_without_a_server_changes_nothing_that_no_event_tells() {
    let mut world = World::new("mongodb://a,b");
    world.reply("a", &standalone());
    world.reply("b", &standalone());
    let empty = world.topology.description();
    assert!(empty.servers.is_empty() && empty.last_removed.is_some());
    world.handle(Input::Close);
    assert_eq!(world.names(), ["TopologyClosed"]);
    assert_eq!(world.topology.description(), empty);
}

#[test]
fn a_seed_named_twice_is_one_seed() {
    let mut world = World::new("mongodb://a,A:27017");
    world.reply("a", &standalone());
    assert_eq!(world.topology_type(), TopologyType::Single);
}

#[test]
fn a_load_balancer_is_opened_and_never_checked() {
    let mut world = World::new("mongodb://a/?loadBalanced=true");
    assert_eq!(
        world.names(),
        [
            "TopologyOpening",
            "TopologyChanged LoadBalanced",
            "ServerOpening a:27017",
            "OpenServer a:27017",
            "ServerChanged a:27017 LoadBalancer",
            "TopologyChanged LoadBalanced",
            "MarkPoolReady a:27017",
        ]
    );
    assert_eq!(world.write_target(), Ok("a:27017".to_owned()));
    world.handle(Input::CheckRequested);
    assert_eq!(world.actions, []);
    assert_eq!(world.topology.poll_timeout(), None);
    world.handle(Input::Close);
    assert_eq!(
        world.names(),
        [
            "ServerClosed a:27017",
            "CloseServer a:27017",
            "TopologyChanged Unknown",
            "TopologyClosed"
        ]
    );
}
