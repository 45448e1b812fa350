//! Real servers are started, hurt, and ended.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test and its helpers"
)]

use std::time::{Duration, Instant};

use bson::{RawDocumentBuf, rawdoc};
use testbed::cluster::{Member, MemberOptions, ReplicaSet, ReplicaSetOptions, Standalone};
use testbed::connection::CommandFailed;
use testbed::mongod::{MongodOptions, ServerVersion};

fn hello(member: &Member) -> RawDocumentBuf {
    member
        .run_command("admin", &rawdoc! { "isMaster": 1 })
        .unwrap()
}

fn insert(member: &Member, id: i32) {
    let command = rawdoc! {
        "insert": "numbers",
        "documents": [{ "_id": id }],
        "writeConcern": { "w": "majority", "wtimeout": 20_000 },
    };
    let reply = member.run_command("test", &command).unwrap();
    assert_eq!(reply.get_i32("n").unwrap(), 1, "{reply:?}");
}

fn count(member: &Member) -> i32 {
    let reply = member
        .run_command("test", &rawdoc! { "count": "numbers" })
        .unwrap();
    reply.get_i32("n").unwrap()
}

#[test]
fn a_standalone_starts_and_restarts_with_its_data() {
    let begun = Instant::now();
    let standalone = Standalone::start().unwrap();
    println!("standalone: {:?}", begun.elapsed());
    let server = standalone.server();
    assert!(hello(server).get_str("setName").is_err());
    let insert = rawdoc! { "insert": "numbers", "documents": [{ "_id": 1 }] };
    server.run_command("test", &insert).unwrap();
    server.stop().unwrap();
    assert!(server.connect(Duration::from_secs(1)).is_err());
    assert!(server.kill().is_err(), "it is down already");
    server.restart().unwrap();
    assert_eq!(count(server), 1);
}

#[test]
fn a_server_error_carries_code_and_reply() {
    let standalone = Standalone::start().unwrap();
    let error = standalone
        .server()
        .run_command("test", &rawdoc! { "nonsense": 1 })
        .unwrap_err();
    let failed: &CommandFailed = error.downcast_ref().unwrap();
    assert_eq!((failed.command.as_str(), failed.code), ("nonsense", 59));
    assert_eq!(failed.reply.get_str("codeName").unwrap(), "CommandNotFound");
}

#[test]
fn a_server_that_exits_early_is_quoted() {
    let options = MongodOptions {
        args: vec!["--noSuchOption".into()],
        ..MongodOptions::default()
    };
    let error = Standalone::start_with(ServerVersion::Default, options).unwrap_err();
    assert!(format!("{error:#}").contains("noSuchOption"), "{error:#}");
}

#[test]
fn a_taken_port_is_an_error_only_when_it_was_asked_for() {
    let holder = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = holder.local_addr().unwrap().port();
    let options = MongodOptions {
        port: Some(port),
        ..MongodOptions::default()
    };
    let error = Standalone::start_with(ServerVersion::Default, options).unwrap_err();
    assert!(
        format!("{error:#}")
            .to_lowercase()
            .contains("already in use"),
        "{error:#}"
    );
}

#[test]
fn a_server_listens_where_it_is_told_to() {
    // Some containers have no IPv6 at all.
    let ipv6 = std::net::TcpListener::bind(("::1", 0)).is_ok();
    let options = MongodOptions {
        ipv6,
        unix_socket: true,
        oplog_size: Some(16),
        parameters: vec![("ttlMonitorSleepSecs".to_owned(), "7".to_owned())],
        ..MongodOptions::default()
    };
    let standalone = Standalone::start_with(ServerVersion::Default, options).unwrap();
    let server = standalone.server();
    let socket = server.unix_socket().unwrap();
    std::os::unix::net::UnixStream::connect(socket).unwrap();
    let port = server
        .address()
        .rsplit_once(':')
        .unwrap()
        .1
        .parse::<u16>()
        .unwrap();
    assert_eq!(std::net::TcpStream::connect(("::1", port)).is_ok(), ipv6);
    let ask = rawdoc! { "getParameter": 1, "ttlMonitorSleepSecs": 1 };
    let reply = server.run_command("admin", &ask).unwrap();
    assert_eq!(reply.get_i32("ttlMonitorSleepSecs").unwrap(), 7);
}

#[test]
fn a_replica_set_survives_what_is_done_to_it() {
    let clock = Clock::start();
    let set = ReplicaSet::start(3).unwrap();
    clock.lap("start of 3 members");
    assert_eq!(set.secondaries().unwrap().len(), 2);
    insert(set.primary().unwrap(), 1);
    clock.lap("first majority write");

    let killed = set.primary().unwrap();
    killed.kill().unwrap();
    let primary = set.wait_for_primary().unwrap();
    assert_ne!(primary.index(), killed.index());
    clock.lap("new primary after kill");
    insert(primary, 2);

    killed.restart().unwrap();
    set.wait_for_secondaries().unwrap();
    clock.lap("restart of the killed member");

    let paused = set.primary().unwrap();
    paused.pause().unwrap();
    let primary = set.wait_for_new_primary(paused).unwrap();
    assert_ne!(primary.index(), paused.index());
    clock.lap("new primary after pause");
    paused.resume().unwrap();
    set.wait_for_secondaries().unwrap();
    clock.lap("resume");

    let old = set.primary().unwrap();
    let primary = set.step_down(Duration::from_secs(10)).unwrap();
    assert_ne!(primary.index(), old.index());
    clock.lap("step down");

    primary.stop().unwrap();
    clock.lap("clean stop of the primary");
    let primary = set.wait_for_primary().unwrap();
    clock.lap("new primary after stop");
    insert(primary, 3);
    assert_eq!(count(primary), 3);
    drop(set);
    clock.lap("drop");
}

#[test]
fn members_have_roles_and_tags() {
    let tagged = MemberOptions {
        priority: 0.0,
        tags: vec![("region".to_owned(), "west".to_owned())],
        ..MemberOptions::default()
    };
    let options = ReplicaSetOptions {
        members: vec![MemberOptions::default(), tagged, MemberOptions::arbiter()],
        name: "roles".to_owned(),
        ..ReplicaSetOptions::new(3)
    };
    let clock = Clock::start();
    let set = options.start().unwrap();
    clock.lap("start with an arbiter");
    assert_eq!(set.primary().unwrap().index(), 0);
    assert!(set.uri().ends_with("/?replicaSet=roles"), "{}", set.uri());
    let tags = hello(set.member(1))
        .get_document("tags")
        .unwrap()
        .to_owned();
    assert_eq!(tags.get_str("region").unwrap(), "west");
    assert!(hello(set.member(2)).get_bool("arbiterOnly").unwrap());
}

#[test]
fn a_member_behind_its_proxy_is_lost_and_found() {
    let options = ReplicaSetOptions {
        proxied: true,
        ..ReplicaSetOptions::new(3)
    };
    let set = options.start().unwrap();
    let clock = Clock::start();
    let lost = set.primary().unwrap();
    let proxy = lost.proxy().unwrap();
    assert!(set.uri().contains(&proxy.address()));
    proxy.partition();
    let primary = set.wait_for_new_primary(lost).unwrap();
    clock.lap("new primary after partition");
    proxy.heal().unwrap();
    set.wait_for_secondaries().unwrap();
    insert(primary, 1);
}

#[test]
fn every_pinned_version_makes_a_replica_set() {
    for (version, wire_version) in ServerVersion::PINNED.into_iter().zip([8, 9, 13, 17]) {
        let clock = Clock::start();
        let options = ReplicaSetOptions {
            version,
            ..ReplicaSetOptions::new(1)
        };
        let set = options.start().unwrap();
        clock.lap(&format!("start of {}", set.member(0).version()));
        let hello = hello(set.primary().unwrap());
        assert_eq!(hello.get_i32("maxWireVersion").unwrap(), wire_version);
        insert(set.member(0), 1);
        set.step_down(Duration::from_secs(1)).unwrap();
        clock.lap("step down and up");
        set.member(0).stop().unwrap();
        clock.lap("clean stop");
    }
}

struct Clock(std::cell::Cell<Instant>);

impl Clock {
    fn start() -> Self {
        Self(Instant::now().into())
    }

    fn lap(&self, what: &str) {
        println!("{what}: {:?}", self.0.replace(Instant::now()).elapsed());
    }
}
