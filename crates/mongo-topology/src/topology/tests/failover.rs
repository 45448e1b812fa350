//! A primary goes and another comes: how soon operations find the new one.

use super::world::*;
use crate::*;

const HOSTS: [&str; 3] = ["a:27017", "b:27017", "c:27017"];

/// A set of three that streams, led by a.
fn three() -> World {
    let mut world = World::new("mongodb://a,b,c/?replicaSet=rs");
    world.reply("a", &streaming(primary(1, &HOSTS), 1));
    world.reply("b", &streaming(secondary_of("a:27017", &HOSTS), 1));
    world.reply("c", &streaming(secondary_of("a:27017", &HOSTS), 1));
    assert_eq!(world.write_target(), Ok("a:27017".to_owned()));
    world
}

#[test]
fn a_dead_primary_is_given_to_nobody_from_the_moment_it_fails() {
    let mut world = three();
    world.application_error(
        "a",
        ErrorPhase::Established,
        ApplicationError::network("reset"),
    );
    assert_eq!(world.topology_type(), TopologyType::ReplicaSetNoPrimary);
    assert!(world.write_target().is_err());
    let late = HelloReply::parse(&streaming(primary(1, &HOSTS), 1)).unwrap();
    world.reply_of_wrong_check("a", late);
    assert!(
        world.write_target().is_err(),
        "an answer from before its death does not bring it back"
    );
}

#[test]
fn a_new_primary_is_found_by_its_own_stream_without_any_wait() {
    let mut world = three();
    world.fail("a", CheckError::network("reset"));
    world.fail("a", CheckError::network("refused"));
    assert!(world.write_target().is_err());
    world.reply_streaming("b", &streaming(primary(2, &HOSTS), 2), true);
    assert_eq!(world.write_target(), Ok("b:27017".to_owned()));
}

#[test]
fn the_old_primary_is_dropped_when_the_new_one_shows_even_if_it_is_silent() {
    let mut world = three();
    world.reply_streaming("b", &streaming(primary(2, &HOSTS), 2), true);
    assert_eq!(world.write_target(), Ok("b:27017".to_owned()));
    assert_eq!(world.server_type("a"), ServerType::Unknown);
    let description = world.topology.description();
    let old = description.servers.get(&"a".parse().unwrap()).unwrap();
    assert_eq!(
        old.error().unwrap().to_string(),
        "primary marked stale due to discovery of newer primary"
    );
    assert!(
        !world.has("ClearPool a:27017 1"),
        "its connections may still serve"
    );
    world.reply_streaming("a", &streaming(primary(1, &HOSTS), 2), true);
    assert_eq!(
        world.write_target(),
        Ok("b:27017".to_owned()),
        "its old claim is stale"
    );
}

#[test]
fn the_old_primary_is_checked_at_once_when_it_is_polled() {
    let mut world = World::new("mongodb://a,b,c/?replicaSet=rs&serverMonitoringMode=poll");
    world.reply("a", &primary(1, &HOSTS));
    world.advance(MIN_HEARTBEAT);
    world.reply("b", &primary(2, &HOSTS));
    assert!(world.has("Hello a:27017"));
}

#[test]
fn a_member_that_names_a_primary_gets_that_one_checked_at_once() {
    let mut world = three();
    world.fail("a", CheckError::network("reset"));
    world.fail("a", CheckError::network("refused"));
    world.advance(MIN_HEARTBEAT);
    world.reply_streaming("b", &streaming(secondary_of("a:27017", &HOSTS), 2), true);
    assert!(world.has("Connect a:27017"));
}

#[test]
fn a_pool_that_learns_of_a_new_primary_first_tells_everybody() {
    let mut world = three();
    world.fail("a", CheckError::network("reset"));
    let server = world.id("b");
    let reply = HelloReply::parse(&streaming(primary(2, &HOSTS), 2)).unwrap();
    world.handle(Input::HandshakeReceived {
        server: server.clone(),
        generation: 0,
        reply,
    });
    assert_eq!(world.write_target(), Ok("b:27017".to_owned()));

    world.application_error("b", ErrorPhase::Established, command_error(91));
    let reply = HelloReply::parse(&streaming(primary(2, &HOSTS), 3)).unwrap();
    world.handle(Input::HandshakeReceived {
        server,
        generation: 0,
        reply,
    });
    assert!(
        world.write_target().is_err(),
        "an older pool's news are stale"
    );
}

#[test]
fn a_snapshot_is_new_after_every_check_so_that_waiters_look_again() {
    let mut world = World::new("mongodb://a/?replicaSet=rs");
    for _ in 0..3 {
        let before = world.topology.description();
        world.fail("a", CheckError::network("refused"));
        assert!(!std::sync::Arc::ptr_eq(
            &before,
            &world.topology.description()
        ));
        world.handle(Input::CheckRequested);
        world.advance(MIN_HEARTBEAT);
    }
}

#[test]
fn a_reply_of_the_known_state_is_taken_and_an_older_one_is_not() {
    for (counter, expected) in [(1, true), (0, false)] {
        let mut world = three();
        let before = world.topology.description();
        let reply = streaming(secondary_of("c:27017", &HOSTS), counter);
        world.reply_streaming("b", &reply, true);
        let is_taken = !std::sync::Arc::ptr_eq(&before, &world.topology.description());
        assert_eq!(is_taken, expected, "counter {counter}");
        assert!(world.check("b").is_some(), "the stream goes on in any case");
    }
}
