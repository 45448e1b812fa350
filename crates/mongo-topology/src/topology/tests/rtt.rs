//! Round trip times and where they are measured.

use std::time::Duration;

use super::world::*;
use crate::*;

const URI: &str = "mongodb://a/?directConnection=true";

fn average(world: &World) -> Option<Duration> {
    let description = world.topology.description();
    description
        .servers
        .get(&"a".parse().unwrap())
        .unwrap()
        .average_round_trip_time()
}

#[test]
fn the_handshake_of_a_monitor_is_a_sample_and_awaited_replies_are_not() {
    let mut world = World::new(URI);
    world.reply("a", &streaming_standalone(1));
    assert_eq!(average(&world), Some(RTT));
    let server = world.id("a");
    let check = world.checks.remove(&server.address).unwrap().1;
    let reply = HelloReply::parse(&streaming_standalone(2)).unwrap();
    let round_trip = Some(Duration::from_secs(9));
    world.handle(Input::HelloReceived {
        server,
        check,
        reply,
        round_trip,
        more_to_come: true,
    });
    assert_eq!(average(&world), Some(RTT));
}

#[test]
fn a_streaming_server_is_measured_every_heartbeat_on_its_own_socket() {
    let mut world = World::new(URI);
    world.reply("a", &streaming_standalone(1));
    let server = world.id("a");
    let measure = Action::MeasureRtt {
        server: server.clone(),
        check: RttCheck {
            connect: HelloCommand::Legacy,
            hello: HelloCommand::Hello,
            timeout: Some(Duration::from_secs(10)),
        },
    };
    assert!(world.actions.contains(&measure));

    world.advance(HEARTBEAT);
    assert_eq!(world.actions, [], "one measurement at a time");
    let round_trip = Duration::from_millis(12);
    world.handle(Input::RttMeasured {
        server: server.clone(),
        round_trip,
    });
    assert_eq!(world.actions, [], "samples raise no event");
    world.reply_streaming("a", &streaming_standalone(2), true);
    assert_eq!(
        average(&world),
        Some(Duration::from_millis(4)),
        "and show with the next hello"
    );

    world.advance(HEARTBEAT);
    assert_eq!(world.actions, [measure]);
}

#[test]
fn a_failed_measurement_changes_nothing_and_is_tried_again() {
    let mut world = World::new(URI);
    world.reply("a", &streaming_standalone(1));
    let server = world.id("a");
    let before = world.topology.description();
    world.handle(Input::RttFailed { server });
    assert_eq!(world.actions, []);
    assert_eq!(*world.topology.description(), *before);
    world.advance(HEARTBEAT);
    assert_eq!(world.names(), ["MeasureRtt a:27017"]);
}

#[test]
fn a_failed_check_forgets_what_was_measured() {
    let mut world = World::new(URI);
    world.reply("a", &streaming_standalone(1));
    let server = world.id("a");
    world.fail("a", CheckError::network("reset"));
    assert_eq!(average(&world), None);
    let round_trip = Duration::from_secs(1);
    world.fail("a", CheckError::network("refused"));
    world.handle(Input::RttMeasured { server, round_trip });
    world.advance(HEARTBEAT);
    let first = Duration::from_millis(7);
    world.reply_after("a", &streaming_standalone(2), (first, false));
    assert_eq!(
        average(&world),
        Some(first),
        "the first sample of the new connection"
    );
}

#[test]
fn nothing_is_measured_while_the_server_is_away() {
    let mut world = World::new(URI);
    world.reply("a", &streaming_standalone(1));
    world.handle(Input::RttMeasured {
        server: world.id("a"),
        round_trip: RTT,
    });
    world.fail("a", CheckError::network("reset"));
    world.fail("a", CheckError::network("refused"));
    world.advance(HEARTBEAT);
    assert!(!world.has("MeasureRtt a:27017"));
    world.reply("a", &streaming_standalone(1));
    assert!(world.has("MeasureRtt a:27017"), "but again with the stream");
}

#[test]
fn a_duration_of_a_heartbeat_is_the_round_trip_unless_awaited() {
    let mut world = World::new(URI);
    let duration_of = |world: &World| {
        world.actions.iter().find_map(|action| match action {
            Action::Publish(SdamEvent::HeartbeatSucceeded {
                duration,
                heartbeat,
                ..
            }) => Some((*duration, heartbeat.awaited)),
            _ => None,
        })
    };
    world.now += Duration::from_millis(50);
    world.reply("a", &streaming_standalone(1));
    assert_eq!(duration_of(&world), Some((RTT, false)));
    world.now += Duration::from_millis(70);
    world.reply("a", &streaming_standalone(2));
    assert_eq!(duration_of(&world), Some((Duration::from_millis(70), true)));
}
