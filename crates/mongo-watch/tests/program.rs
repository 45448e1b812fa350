//! The program as a shell sees it: lines, messages, exit codes, signals.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking, and says what it measured"
)]

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use bson::rawdoc;
use testbed::cluster::{ReplicaSet, Standalone};
use testbed::mongod::{MongodOptions, ServerVersion};
use testbed::scripted::{HelloScript, ScriptedServer};

fn program(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mongo-watch"));
    command.arg("watch").args(arguments);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Runs it to its end: exit code, stderr, time.
fn fails(arguments: &[&str]) -> (i32, String, Duration) {
    let started = Instant::now();
    let Output {
        status,
        stdout,
        stderr,
    } = program(arguments).output().unwrap();
    assert!(stdout.is_empty(), "{stdout:?}");
    let stderr = String::from_utf8(stderr).unwrap();
    assert!(!stderr.contains("panicked"), "{stderr}");
    println!("{stderr}");
    (
        status.code().expect("an exit code"),
        stderr,
        started.elapsed(),
    )
}

#[test]
fn arguments_that_make_no_sense_end_with_2() {
    for arguments in [
        &[][..],
        &["mongodb://h/", ".c"],
        &["mongodb://h/", "--count", "0"],
    ] {
        assert_eq!(fails(arguments).0, 2);
    }
}

#[test]
fn a_bad_uri_ends_with_3_and_says_where() {
    for (uri, hint) in [
        ("localhost:27017", "mongodb://"),
        ("mongodb://localhost:99999/", "port"),
        ("mongodb://a,b/?directConnection=true", "directConnection"),
        ("mongodb://localhost/?tlsCAFile=/nowhere.pem", "tlsCAFile"),
    ] {
        let (code, message, _) = fails(&[uri]);
        assert_eq!(code, 3, "{uri}");
        assert!(message.contains(hint), "{message} does not mention {hint}");
        assert_eq!(message.lines().count(), 1, "{message}");
    }
}

#[test]
fn nobody_at_the_address_and_a_host_that_is_none_end_with_4() {
    for (host, cause) in [
        ("127.0.0.1:1", "refused"),
        ("no-such-host.invalid:27017", "host name"),
    ] {
        // A resolver may take seconds to say no.
        let limit = if cause == "refused" { 2_000 } else { 5_000 };
        let uri = format!("mongodb://{host}/?serverSelectionTimeoutMS={limit}");
        let (code, message, took) = fails(&[&uri]);
        assert_eq!(code, 4);
        assert!(
            message.contains(host) && message.contains(cause),
            "{message}"
        );
        assert!(took < Duration::from_secs(25), "{took:?}");
    }
}

#[test]
fn a_set_without_a_primary_ends_with_4() {
    let server = ScriptedServer::start(|me| HelloScript::secondary("rs0", me, &[me])).unwrap();
    let uri = format!(
        "{}?serverSelectionTimeoutMS=5000&replicaSet=rs0",
        server.uri()
    );
    let (code, message, _) = fails(&[&uri]);
    assert_eq!(code, 4);
    assert!(message.contains("still looking for a server"), "{message}");
    assert!(
        message.contains(&server.address()) && message.contains("RSSecondary"),
        "{message}"
    );
    // No storm: the monitor may check every half second while somebody waits.
    let received = server.received();
    let first = received[0].at;
    let is_early = |at: Instant| at - first < Duration::from_millis(3_500);
    let hellos = received
        .iter()
        .filter(|command| command.is_hello() && is_early(command.at))
        .count();
    assert!(hellos <= 12, "{hellos} hellos in 3.5 s");
}

#[test]
fn a_standalone_server_ends_with_5_and_says_what_to_do_once() {
    let server = Standalone::start_with(ServerVersion::Default, MongodOptions::default()).unwrap();
    let (code, message, _) = fails(&[&server.uri(), "shop"]);
    assert_eq!(code, 5);
    assert!(
        message.contains("--replSet") && message.contains("40573"),
        "{message}"
    );
    assert_eq!(message.lines().count(), 1, "{message}");

    // Asked for a set that it is no member of, it is never used.
    let uri = format!(
        "{}?replicaSet=rs9&serverSelectionTimeoutMS=3000",
        server.uri()
    );
    let (code, message, _) = fails(&[&uri, "shop"]);
    assert_eq!(code, 4);
    assert!(
        message.contains(server.address()) && message.contains("rs9"),
        "{message}"
    );
}

/// One program that follows a replica set.
struct Tail {
    child: Child,
    lines: BufReader<std::process::ChildStdout>,
}

impl Tail {
    /// Starts it, and returns when its stream is open.
    fn start(set: &ReplicaSet, target: &str, more: &[&str]) -> Self {
        let uri = format!("{}&appName={target}", set.uri());
        let mut child = program(&[&[&uri, target], more].concat()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        while !is_open(set, target) {
            assert!(child.try_wait().unwrap().is_none(), "it has ended");
        }
        Self { child, lines }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        line
    }

    fn signal(&self, signal: rustix::process::Signal) {
        let pid = i32::try_from(self.child.id()).unwrap();
        let pid = rustix::process::Pid::from_raw(pid).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// The exit code, and what it still printed.
    fn end(mut self) -> (i32, String) {
        let mut rest = String::new();
        self.lines.read_to_string(&mut rest).unwrap();
        (
            self.child.wait().unwrap().code().expect("an exit code"),
            rest,
        )
    }
}

/// Whether a cursor of this application is open.
fn is_open(set: &ReplicaSet, application: &str) -> bool {
    let command = rawdoc! {
        "aggregate": 1, "cursor": {}, "pipeline": [
            { "$currentOp": { "allUsers": true, "idleCursors": true } },
            { "$match": { "appName": application, "cursor": { "$exists": true } } },
        ],
    };
    let reply = set
        .primary()
        .unwrap()
        .run_command("admin", &command)
        .unwrap();
    let batch = reply
        .get_document("cursor")
        .unwrap()
        .get_array("firstBatch")
        .unwrap();
    !batch.is_empty()
}

/// Waits until no cursor of this application is open: the server may take a moment to let go of a
/// `getMore` whose cursor was killed.
fn wait_until_closed(set: &ReplicaSet, application: &str) {
    let started = Instant::now();
    while is_open(set, application) {
        assert!(
            started.elapsed() < Duration::from_secs(10),
            "the cursor is still open"
        );
    }
}

/// `killCursors` commands that the server has run.
fn kills(set: &ReplicaSet) -> i64 {
    let command = rawdoc! { "serverStatus": 1 };
    let status = set
        .primary()
        .unwrap()
        .run_command("admin", &command)
        .unwrap();
    let commands = status
        .get_document("metrics")
        .unwrap()
        .get_document("commands")
        .unwrap();
    commands
        .get_document("killCursors")
        .unwrap()
        .get_i64("total")
        .unwrap()
}

fn insert(set: &ReplicaSet, database: &str, collection: &str, id: i32) {
    let command = rawdoc! { "insert": collection, "documents": [{ "_id": id, "n": 1.5 }] };
    set.primary()
        .unwrap()
        .run_command(database, &command)
        .unwrap();
}

fn id_in(line: &str) -> i64 {
    let event: serde_json::Value = serde_json::from_str(line).unwrap();
    event["documentKey"]["_id"].as_i64().unwrap()
}

#[test]
fn it_prints_events_until_the_count_or_a_signal() {
    let set = ReplicaSet::start(1).unwrap();

    let mut tail = Tail::start(&set, "counted", &["--count", "2"]);
    for id in 1..=3 {
        insert(&set, "counted", "things", id);
    }
    assert_eq!(id_in(&tail.line()), 1);
    assert_eq!(id_in(&tail.line()), 2);
    assert_eq!(tail.end(), (0, String::new()));
    assert_eq!(kills(&set), 1);
    wait_until_closed(&set, "counted");

    for (killed, target, signal) in [
        (2, "interrupted.things", rustix::process::Signal::INT),
        (3, "terminated.things", rustix::process::Signal::TERM),
    ] {
        let database = target.split('.').next().unwrap();
        let mut tail = Tail::start(&set, target, &[]);
        insert(&set, database, "others", 1);
        insert(&set, database, "things", 2);
        assert_eq!(id_in(&tail.line()), 2);
        tail.signal(signal);
        assert_eq!(tail.end(), (0, String::new()));
        assert_eq!(kills(&set), killed);
        wait_until_closed(&set, target);
    }

    // A reader that goes away is no failure.
    let mut tail = Tail::start(&set, "piped", &[]);
    insert(&set, "piped", "things", 1);
    assert_eq!(id_in(&tail.line()), 1);
    let Tail { mut child, lines } = tail;
    drop(lines);
    for id in 2.. {
        insert(&set, "piped", "things", id);
        if let Some(status) = child.try_wait().unwrap() {
            assert_eq!(status.code(), Some(0));
            break;
        }
    }
}

#[test]
fn a_resume_file_starts_the_next_run_behind_the_last_line() {
    let set = ReplicaSet::start(1).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("place");
    let file = file.to_str().unwrap();
    let options = ["--resume-file", file];
    let tail =
        |target, count| Tail::start(&set, target, &[&options[..], &["--count", count]].concat());

    let mut first = tail("shop.orders", "2");
    for id in 0..3 {
        insert(&set, "shop", "orders", id);
    }
    assert_eq!([id_in(&first.line()), id_in(&first.line())], [0, 1]);
    assert_eq!(first.end().0, 0);
    insert(&set, "shop", "orders", 3);
    // What happened in between is not lost, and what was printed does not come again.
    let mut child = program(
        &[
            &[&set.uri(), "shop.orders"],
            &options[..],
            &["--count", "2"],
        ]
        .concat(),
    )
    .spawn()
    .unwrap();
    let mut lines = String::new();
    child
        .stdout
        .take()
        .unwrap()
        .read_to_string(&mut lines)
        .unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_eq!(lines.lines().map(id_in).collect::<Vec<_>>(), [2, 3]);

    let (code, message, _) = fails(&[&[&set.uri(), "shop"], &options[..]].concat());
    assert_eq!(code, 8);
    assert!(
        message.contains("target") && message.contains("shop.orders"),
        "{message}"
    );
    std::fs::write(file, "rubbish").unwrap();
    let (code, message, _) = fails(&[&[&set.uri(), "shop.orders"], &options[..]].concat());
    assert_eq!(code, 8);
    assert!(
        message.contains(file) && message.contains("damaged"),
        "{message}"
    );
}

#[test]
fn choices_say_which_events_are_printed_and_what_ends_the_stream() {
    let set = ReplicaSet::start(1).unwrap();
    let include = [
        "--include",
        "shop.orders",
        "--include",
        "shop.crm*",
        "--without",
        "wallTime",
    ];
    let more = [
        "--on-invalidate",
        "continue",
        "--exclude",
        "shop.crm_old",
        "--operation",
        "insert",
    ];
    let mut tail = Tail::start(
        &set,
        "shop",
        &[&include[..], &more, &["--count", "3"]].concat(),
    );
    for (id, collection) in (0..).zip(["others", "orders", "crm_old", "crm", "crm_new"]) {
        insert(&set, "shop", collection, id);
    }
    let lines = [tail.line(), tail.line(), tail.line()];
    assert_eq!(lines.each_ref().map(|line| id_in(line)), [1, 3, 4]);
    assert!(
        lines
            .iter()
            .all(|line| line.contains("clusterTime") && !line.contains("wallTime"))
    );
    assert_eq!(tail.end().0, 0);
    assert_eq!(fails(&[&set.uri(), "--include", "a*b"]).0, 2);
}

/// Runs `check`: exit code and stdout.
fn check(arguments: &[&str]) -> (i32, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mongo-watch"));
    let output = command.arg("check").args(arguments).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    println!("{text}");
    (output.status.code().unwrap(), text)
}

#[test]
fn a_check_says_what_a_stream_would_find() {
    let set = ReplicaSet::start(1).unwrap();
    let (code, text) = check(&[&set.uri(), "shop.orders"]);
    assert_eq!(code, 0);
    assert!(
        text.contains("replica set rs0") && text.contains("oplog reaches back"),
        "{text}"
    );
    assert!(
        !text.contains("FAILURE") && !text.contains("warning"),
        "{text}"
    );

    let standalone = Standalone::start().unwrap();
    let (code, text) = check(&[&standalone.uri()]);
    assert_eq!(code, 9);
    assert!(
        text.contains("FAILURE") && text.contains("rs.initiate()"),
        "{text}"
    );
}
