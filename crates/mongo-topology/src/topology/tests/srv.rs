//! The polling of SRV records.

use std::time::Duration;

use mongo_uri::Rescan;

use super::world::*;
use crate::*;

const MINUTE: Duration = Duration::from_secs(60);

fn polling(ttl: Duration) -> World {
    let seeds = ["a", "b"].map(|seed| seed.parse().unwrap());
    let mut config = TopologyConfig::new(seeds.to_vec());
    config.srv_ttl = Some(ttl);
    config.monitoring_mode = mongo_uri::ServerMonitoringMode::Poll;
    World::with(config)
}

fn found(hosts: &[&str], ttl: Duration) -> Input {
    let hosts = hosts.iter().map(|host| host.parse().unwrap()).collect();
    Input::SrvResolved(Rescan {
        hosts: Some(hosts),
        rejected: Vec::new(),
        next: Some(ttl),
    })
}

fn resolves_after(world: &mut World, time: Duration) -> bool {
    world.advance(time);
    world.has("ResolveSrv")
}

#[test]
fn records_are_looked_up_by_their_time_to_live_and_never_within_a_minute() {
    for (ttl, expected) in [(Duration::from_secs(1), MINUTE), (2 * MINUTE, 2 * MINUTE)] {
        let mut world = polling(ttl);
        assert!(!resolves_after(
            &mut world,
            expected - Duration::from_millis(1)
        ));
        assert!(resolves_after(&mut world, Duration::from_millis(1)));
        assert!(
            !resolves_after(&mut world, 10 * MINUTE),
            "one lookup at a time"
        );
        world.handle(found(&["a", "b"], ttl));
        assert!(!resolves_after(
            &mut world,
            expected - Duration::from_millis(1)
        ));
        assert!(resolves_after(&mut world, Duration::from_millis(1)));
    }
}

#[test]
fn a_failed_lookup_changes_nothing_and_is_tried_again_after_a_heartbeat() {
    let mut world = polling(MINUTE);
    world.reply("a", &mongos());
    world.advance(MINUTE);
    let before = world.topology.description();
    world.handle(Input::SrvResolved(Rescan::default()));
    assert_eq!(*world.topology.description(), *before);
    assert!(resolves_after(&mut world, HEARTBEAT));
}

#[test]
fn new_hosts_come_in_old_ones_go_and_the_rest_is_left_alone() {
    let mut world = polling(MINUTE);
    world.reply("a", &mongos());
    world.reply("b", &mongos());
    world.advance(MINUTE);
    let kept = world.id("b");
    world.handle(found(&["b", "c"], MINUTE));
    let description = world.topology.description();
    let addresses: Vec<_> = description
        .servers
        .addresses()
        .map(ToString::to_string)
        .collect();
    assert_eq!(addresses, ["b:27017", "c:27017"]);
    assert_eq!(world.id("b"), kept);
    assert_eq!(world.server_type("b"), ServerType::Mongos);
    assert!(world.has("CloseServer a:27017") && world.has("Connect c:27017"));
}

#[test]
fn a_replica_set_is_not_polled() {
    let mut world = polling(MINUTE);
    world.reply("a", &primary(1, &["a:27017"]));
    assert!(!resolves_after(&mut world, 10 * MINUTE));
    world.handle(found(&["z"], MINUTE));
    assert_eq!(world.topology.description().servers.len(), 1);
}

#[test]
fn a_load_balancer_is_not_polled() {
    let mut config = TopologyConfig::new(vec!["a".parse().unwrap()]);
    config.mode = ConnectionMode::LoadBalanced;
    config.srv_ttl = Some(MINUTE);
    assert_eq!(World::with(config).topology.poll_timeout(), None);
}

#[test]
fn a_standalone_among_hosts_that_came_later_is_not_taken_for_the_only_one() {
    let mut config = TopologyConfig::new(vec!["a".parse().unwrap()]);
    config.srv_ttl = Some(MINUTE);
    let mut world = World::with(config);
    world.advance(MINUTE);
    world.handle(found(&["a", "b"], MINUTE));
    world.reply("a", &standalone());
    assert_eq!(world.topology_type(), TopologyType::Unknown);
    let description = world.topology.description();
    let addresses: Vec<_> = description
        .servers
        .addresses()
        .map(ToString::to_string)
        .collect();
    assert_eq!(addresses, ["b:27017"]);
}
