//! When and how servers are checked.

use std::time::Duration;

use super::world::*;
use crate::*;

const URI: &str = "mongodb://a/?directConnection=true";

#[test]
fn the_first_check_connects_with_the_command_that_is_safe() {
    let mut config = TopologyConfig::new(vec!["a".parse().unwrap()]);
    for (server_api, expected) in [(false, HelloCommand::Legacy), (true, HelloCommand::Hello)] {
        config.server_api = server_api;
        let world = World::with(config.clone());
        let timeout = Some(Duration::from_secs(10));
        assert_eq!(
            world.check("a"),
            Some(&Check::Connect {
                hello: expected,
                timeout
            })
        );
    }
}

#[test]
fn a_server_that_cannot_stream_is_polled_a_heartbeat_apart() {
    let mut world = World::new(URI);
    world.reply("a", &standalone());
    assert_eq!(world.check("a"), None);
    world.advance(HEARTBEAT - Duration::from_millis(1));
    assert_eq!(world.check("a"), None);
    world.advance(Duration::from_millis(1));
    let timeout = Some(Duration::from_secs(10));
    assert_eq!(
        world.check("a"),
        Some(&Check::Hello {
            hello: HelloCommand::Legacy,
            timeout
        })
    );
}

#[test]
fn a_server_that_knows_hello_is_asked_by_it() {
    let mut world = World::new("mongodb://a/?directConnection=true&serverMonitoringMode=poll");
    world.reply("a", &streaming_standalone(1));
    world.advance(HEARTBEAT);
    let timeout = Some(Duration::from_secs(10));
    assert_eq!(
        world.check("a"),
        Some(&Check::Hello {
            hello: HelloCommand::Hello,
            timeout
        })
    );
}

#[test]
fn a_server_that_can_stream_is_awaited_without_a_pause() {
    let mut world = World::new(URI);
    world.reply("a", &streaming_standalone(1));
    let awaiting = |counter| Check::Await {
        hello: HelloCommand::Hello,
        topology_version: HelloReply::parse(&streaming_standalone(counter))
            .unwrap()
            .topology_version
            .unwrap(),
        max_await_time: HEARTBEAT,
        timeout: Some(Duration::from_secs(20)),
    };
    assert_eq!(world.check("a"), Some(&awaiting(1)));
    world.reply_streaming("a", &streaming_standalone(2), true);
    assert_eq!(
        world.check("a"),
        Some(&Check::ReadNext {
            timeout: Some(2 * HEARTBEAT)
        })
    );
    world.reply_streaming("a", &streaming_standalone(3), false);
    assert_eq!(
        world.check("a"),
        Some(&awaiting(3)),
        "with the newest version"
    );
}

#[test]
fn a_server_that_holds_nothing_back_is_not_asked_as_fast_as_it_answers() {
    for more_to_come in [false, true] {
        let mut world = World::new(URI);
        world.reply("a", &streaming_standalone(1));
        let mut asked = 0;
        let end = world.now + 2 * HEARTBEAT;
        while world.now < end {
            if world.check("a").is_some() {
                world.reply_streaming("a", &streaming_standalone(1), more_to_come);
                asked += 1;
            }
            world.handle(Input::CheckRequested);
            world.advance(Duration::from_millis(10));
        }
        let at_most = 2 * HEARTBEAT.as_millis() / MIN_HEARTBEAT.as_millis();
        assert!((1..=at_most).contains(&asked), "asked {asked} times");
    }
}

#[test]
fn a_server_that_holds_its_replies_back_or_has_news_is_asked_at_once() {
    let mut world = World::new(URI);
    world.reply("a", &streaming_standalone(1));
    // Newer, then held back for the least time, as a heartbeat of that length makes it.
    world.reply("a", &streaming_standalone(2));
    assert!(world.check("a").is_some());
    world.advance(MIN_HEARTBEAT);
    world.reply("a", &streaming_standalone(2));
    assert!(world.check("a").is_some());
    // The same version with other news.
    let mut older = standalone();
    older.append(bson::cstr!("helloOk"), true);
    world.reply("a", &streaming(older, 2));
    assert!(world.check("a").is_some());
}

#[test]
fn no_connect_timeout_means_no_timeout_anywhere() {
    let mut world = World::new("mongodb://a/?directConnection=true&connectTimeoutMS=0");
    assert_eq!(world.check("a").unwrap().timeout(), None);
    world.reply("a", &streaming_standalone(1));
    assert_eq!(world.check("a").unwrap().timeout(), None);
}

#[test]
fn polling_is_kept_to_where_it_is_asked_for() {
    for (mode, faas, streams) in [
        ("auto", false, true),
        ("auto", true, false),
        ("stream", true, true),
        ("poll", false, false),
    ] {
        let uri = format!("{URI}&serverMonitoringMode={mode}");
        let uri = mongo_uri::ConnectionString::parse(&uri).unwrap();
        let mut config = TopologyConfig::from(&uri);
        config.faas = faas;
        let mut world = World::with(config);
        world.reply("a", &streaming_standalone(1));
        assert_eq!(world.check("a").is_some(), streams, "{mode}, faas: {faas}");
        assert_eq!(
            world.has("MeasureRtt a:27017"),
            streams,
            "{mode}, faas: {faas}"
        );
    }
}

#[test]
fn a_known_server_whose_network_fails_is_checked_once_more_at_once() {
    let mut world = World::new(URI);
    world.reply("a", &standalone());
    world.advance(HEARTBEAT);
    world.fail("a", CheckError::network("reset"));
    assert_eq!(
        world.names(),
        [
            "Failed a:27017",
            "ServerChanged a:27017 Unknown",
            "TopologyChanged Single",
            "ClearPool a:27017 1",
            "Started a:27017",
            "Connect a:27017",
        ]
    );
    world.fail("a", CheckError::network("refused"));
    assert_eq!(world.check("a"), None, "the second failure waits");
    world.advance(HEARTBEAT);
    assert!(matches!(world.check("a"), Some(Check::Connect { .. })));
}

#[test]
fn a_server_that_refuses_hello_is_not_checked_at_once() {
    let mut world = World::new(URI);
    world.reply("a", &standalone());
    world.advance(HEARTBEAT);
    let refused = HelloError::NotOk {
        code: Some(1234),
        message: "no".to_owned(),
    };
    world.fail("a", refused.into());
    assert_eq!(world.server_type("a"), ServerType::Unknown);
    assert_eq!(world.check("a"), None);
    world.advance(HEARTBEAT);
    assert!(
        matches!(world.check("a"), Some(Check::Connect { .. })),
        "on a new connection"
    );
}

#[test]
fn only_a_timeout_cuts_off_connections_in_use() {
    for (error, expected) in [
        (CheckError::network("reset"), false),
        (CheckError::timeout("hello"), true),
    ] {
        let mut world = World::new(URI);
        world.reply("a", &standalone());
        world.advance(HEARTBEAT);
        world.fail("a", error);
        let cut = world.actions.iter().find_map(|action| match action {
            Action::ClearPool {
                interrupt_in_use, ..
            } => Some(*interrupt_in_use),
            _ => None,
        });
        assert_eq!(cut, Some(expected));
    }
}

#[test]
fn a_requested_check_waits_for_the_least_time_and_no_longer() {
    let mut world = World::new(URI);
    world.reply("a", &standalone());
    world.handle(Input::CheckRequested);
    assert_eq!(world.check("a"), None);
    world.advance(MIN_HEARTBEAT - Duration::from_millis(1));
    assert_eq!(world.check("a"), None);
    world.advance(Duration::from_millis(1));
    assert!(world.check("a").is_some());

    world.reply("a", &standalone());
    world.advance(Duration::from_secs(3));
    world.handle(Input::CheckRequested);
    assert!(world.check("a").is_some(), "the least time is long over");
}

#[test]
fn a_request_while_a_check_runs_is_met_by_that_check() {
    let mut world = World::new(URI);
    world.handle(Input::CheckRequested);
    assert_eq!(world.actions, []);
    world.reply("a", &standalone());
    world.advance(HEARTBEAT - Duration::from_millis(1));
    assert_eq!(world.check("a"), None, "nothing was left over of it");
}

#[test]
fn requests_keep_an_unreachable_server_checked_at_the_least_distance() {
    let mut world = World::new(URI);
    for _ in 0..5 {
        world.fail("a", CheckError::network("refused"));
        world.handle(Input::CheckRequested);
        world.advance(MIN_HEARTBEAT);
    }
    assert!(world.check("a").is_some());
}

#[test]
fn an_early_or_repeated_timeout_does_nothing() {
    let mut world = World::new(URI);
    world.reply("a", &streaming_standalone(1));
    let before = world.topology.poll_timeout();
    for _ in 0..3 {
        world.topology.handle_timeout(world.now);
        assert_eq!(world.topology.poll_action(), None);
        assert_eq!(world.topology.poll_timeout(), before);
    }
}

#[test]
fn every_heartbeat_that_starts_ends() {
    let mut world = World::new("mongodb://a,b/?replicaSet=rs");
    world.reply("a", &primary(1, &["a:27017"]));
    assert_eq!(
        world.names(),
        [
            "Succeeded a:27017",
            "ServerChanged a:27017 RSPrimary",
            "Failed b:27017",
            "ServerClosed b:27017",
            "CloseServer b:27017",
            "TopologyChanged ReplicaSetWithPrimary",
            "MarkPoolReady a:27017",
        ]
    );
}

#[test]
fn news_of_a_server_that_left_or_of_an_old_check_change_nothing() {
    let mut world = World::new("mongodb://a,b/?replicaSet=rs");
    let (server, check, _) = world.checks.values().last().unwrap().clone();
    world.reply("a", &primary(1, &["a:27017"]));
    let reply = HelloReply::parse(&secondary(&["b:27017"])).unwrap();
    let late = Input::HelloReceived {
        server,
        check,
        reply: reply.clone(),
        round_trip: None,
        more_to_come: false,
    };
    world.handle(late);
    assert_eq!(world.actions, []);

    world.reply_of_wrong_check("a", reply);
    assert_eq!(world.actions, []);
    assert_eq!(world.server_type("a"), ServerType::RsPrimary);
}

#[test]
fn an_address_that_comes_back_is_another_instance() {
    let mut world = World::new("mongodb://a,b/?replicaSet=rs");
    let first = world.id("b");
    world.reply("a", &primary(1, &["a:27017"]));
    world.advance(HEARTBEAT);
    world.reply("a", &primary(1, &["a:27017", "b:27017"]));
    let second = world.id("b");
    assert_eq!(first.address, second.address);
    assert!(first.instance < second.instance);
    assert_eq!(world.topology.pool_generation(&first), None);
    assert_eq!(world.topology.pool_generation(&second), Some(0));
    assert!(world.has("Connect b:27017"));
}

#[test]
fn a_member_is_watched_as_soon_as_anybody_lists_it() {
    let mut world = World::new("mongodb://a/?replicaSet=rs");
    world.reply("a", &secondary(&["a:27017", "b:27017"]));
    assert_eq!(
        world.names(),
        [
            "Succeeded a:27017",
            "ServerChanged a:27017 RSSecondary",
            "ServerOpening b:27017",
            "OpenServer b:27017",
            "TopologyChanged ReplicaSetNoPrimary",
            "Started b:27017",
            "Connect b:27017",
            "MarkPoolReady a:27017",
        ]
    );
}
