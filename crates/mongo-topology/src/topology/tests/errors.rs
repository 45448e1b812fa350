//! Errors of the application's connections.

use bson::oid::ObjectId;

use super::world::*;
use crate::*;

/// A set of one, whose primary streams.
fn connected() -> World {
    let mut world = World::new("mongodb://a/?replicaSet=rs");
    world.reply("a", &streaming(primary(1, &["a:27017"]), 1));
    world
}

#[test]
fn each_error_does_what_its_phase_and_kind_call_for() {
    use ErrorPhase::{Authenticating, Connecting, Established};
    let network = || ApplicationError::network("reset");
    let timeout = || ApplicationError::timeout("read");
    let client = || ApplicationError::client("server signature is wrong");
    let overloaded = |error: ApplicationError| error.with_label(SYSTEM_OVERLOADED_ERROR);
    // Unknown, pool cleared, check cancelled.
    let table = [
        (Connecting, network(), (true, true, true)),
        (Connecting, overloaded(network()), (false, false, false)),
        (Connecting, timeout(), (true, true, true)),
        (Connecting, overloaded(timeout()), (false, false, false)),
        (Authenticating, network(), (true, true, true)),
        (Authenticating, timeout(), (true, true, true)),
        (Authenticating, client(), (true, true, true)),
        (Authenticating, command_error(18), (true, true, true)),
        (
            Authenticating,
            overloaded(command_error(462)),
            (false, false, false),
        ),
        (Authenticating, command_error(91), (true, true, false)),
        (Established, network(), (true, true, true)),
        (Established, timeout(), (false, false, false)),
        (Established, client(), (false, false, false)),
        (Established, command_error(1), (false, false, false)),
        (Established, command_error(10107), (true, false, false)),
        (Established, command_error(13435), (true, false, false)),
        (Established, command_error(10058), (true, false, false)),
        (Established, command_error(11602), (true, false, false)),
        (Established, command_error(13436), (true, false, false)),
        (Established, command_error(189), (true, false, false)),
        (Established, command_error(11600), (true, true, false)),
        (Established, command_error(91), (true, true, false)),
    ];
    for (phase, error, expected) in table {
        let mut world = connected();
        world.application_error("a", phase, error.clone());
        let outcome = (
            world.server_type("a") == ServerType::Unknown,
            world.has("ClearPool a:27017 1"),
            world.has("CancelCheck a:27017"),
        );
        assert_eq!(outcome, expected, "{phase:?}: {error}");
    }
}

#[test]
fn a_broken_connection_waits_for_the_next_heartbeat() {
    let mut world = connected();
    world.application_error(
        "a",
        ErrorPhase::Established,
        ApplicationError::network("reset"),
    );
    assert_eq!(
        world.names(),
        [
            "ServerChanged a:27017 Unknown",
            "TopologyChanged ReplicaSetNoPrimary",
            "ClearPool a:27017 1",
            "Failed a:27017",
            "CancelCheck a:27017",
        ]
    );
    world.handle(Input::CheckRequested);
    assert_eq!(world.check("a"), None, "not before the least time");
    world.advance(MIN_HEARTBEAT);
    assert!(matches!(world.check("a"), Some(Check::Connect { .. })));
}

#[test]
fn the_outcome_of_a_cancelled_check_changes_nothing() {
    let mut world = connected();
    let (server, check, _) = world.checks.values().next().unwrap().clone();
    world.application_error(
        "a",
        ErrorPhase::Established,
        ApplicationError::network("reset"),
    );
    let reply = HelloReply::parse(&streaming(primary(1, &["a:27017"]), 1)).unwrap();
    let late = Input::HelloReceived {
        server,
        check,
        reply,
        round_trip: None,
        more_to_come: true,
    };
    world.handle(late.clone());
    assert_eq!(world.actions, []);
    world.advance(HEARTBEAT);
    assert!(world.check("a").is_some());
    world.handle(late);
    assert_eq!(world.actions, [], "nor while the next check runs");
    assert_eq!(world.server_type("a"), ServerType::Unknown);
}

#[test]
fn a_state_change_asks_for_a_check_of_a_server_that_is_polled() {
    let mut world = World::new("mongodb://a/?replicaSet=rs");
    world.reply("a", &primary(1, &["a:27017"]));
    world.advance(MIN_HEARTBEAT);
    world.application_error("a", ErrorPhase::Established, command_error(10107));
    assert!(world.has("Hello a:27017"));
}

#[test]
fn errors_of_an_older_pool_are_stale() {
    let mut world = connected();
    let server = world.id("a");
    world.application_error(
        "a",
        ErrorPhase::Established,
        ApplicationError::network("reset"),
    );
    world.advance(HEARTBEAT);
    world.reply("a", &streaming(primary(1, &["a:27017"]), 2));
    world.handle(Input::ApplicationError {
        server,
        generation: 0,
        service_id: None,
        phase: ErrorPhase::Established,
        error: ApplicationError::network("reset"),
    });
    assert_eq!(world.actions, []);
}

#[test]
fn errors_of_an_older_or_the_same_state_are_stale() {
    for (counter, marks) in [(0, false), (1, false), (2, true)] {
        let mut world = connected();
        let mut error = command_error(10107);
        if let ApplicationErrorKind::Command {
            topology_version, ..
        } = &mut error.kind
        {
            *topology_version = Some(TopologyVersion {
                process_id: ObjectId::from_bytes([1; 12]),
                counter,
            });
        }
        world.application_error("a", ErrorPhase::Established, error);
        assert_eq!(
            world.server_type("a") == ServerType::Unknown,
            marks,
            "counter {counter}"
        );
    }
}

#[test]
fn a_pool_of_a_useful_server_is_made_ready_again() {
    let mut world = connected();
    world.application_error("a", ErrorPhase::Established, command_error(91));
    world.reply_streaming("a", &streaming(primary(1, &["a:27017"]), 2), true);
    assert!(world.has("MarkPoolReady a:27017"));
    world.reply_streaming("a", &streaming(primary(1, &["a:27017"]), 3), true);
    assert!(!world.has("MarkPoolReady a:27017"), "once is enough");
}

#[test]
fn behind_a_load_balancer_only_the_service_loses_its_connections() {
    let service = ObjectId::from_bytes([5; 12]);
    let network = ApplicationError::network("reset");
    let table = [
        (ErrorPhase::Connecting, None, network.clone(), None),
        (
            ErrorPhase::Authenticating,
            Some(service),
            network.clone(),
            Some(1),
        ),
        (ErrorPhase::Established, Some(service), network, Some(1)),
        (
            ErrorPhase::Established,
            Some(service),
            command_error(91),
            Some(1),
        ),
        (
            ErrorPhase::Established,
            Some(service),
            command_error(10107),
            None,
        ),
        (
            ErrorPhase::Established,
            Some(service),
            ApplicationError::timeout("read"),
            None,
        ),
    ];
    for (phase, service_id, error, expected) in table {
        let mut world = World::new("mongodb://a/?loadBalanced=true");
        let server = world.id("a");
        let input = Input::ApplicationError {
            server,
            generation: 0,
            service_id,
            phase,
            error,
        };
        world.handle(input.clone());
        let cleared = world.actions.iter().find_map(|action| match action {
            Action::ClearPool {
                generation,
                service_id: Some(_),
                ..
            } => Some(*generation),
            _ => None,
        });
        assert_eq!(cleared, expected, "{input:?}");
        assert_eq!(world.server_type("a"), ServerType::LoadBalancer);
        world.handle(input);
        if expected.is_some() {
            assert_eq!(
                world.actions,
                [],
                "the second error is of an older generation"
            );
        }
    }
}
