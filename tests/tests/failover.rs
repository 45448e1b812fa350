//! Change streams on replica sets whose members die, freeze and step down.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking, and says what it measured"
)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use bson::{RawDocument, rawdoc};
use integration_tests::defects::beside;
use integration_tests::recorder::Recorder;
use integration_tests::{PATIENCE, id_of, in_time, insert, within};
use mongo_client::change_stream::RawEvent;
use mongo_client::uri::{ReadPreference, ReadPreferenceMode};
use mongo_client::{ChangeStream, Client, ClientOptions, Error, Event};
use testbed::cluster::{Member, ReplicaSet};

/// Does something with the set that blocks.
async fn with_set<T: Send + 'static>(
    set: &Arc<ReplicaSet>,
    work: impl FnOnce(&ReplicaSet) -> T + Send + 'static,
) -> T {
    let set = Arc::clone(set);
    tokio::task::spawn_blocking(move || work(&set))
        .await
        .unwrap()
}

async fn start() -> Arc<ReplicaSet> {
    Arc::new(
        tokio::task::spawn_blocking(|| ReplicaSet::start(3))
            .await
            .unwrap()
            .unwrap(),
    )
}

async fn event(stream: &mut ChangeStream) -> RawEvent {
    within(stream.next_raw())
        .await
        .expect("the stream goes on")
        .unwrap()
}

/// Inserts and tries again until it gets through; each `_id` is inserted once at most.
async fn insist(client: &Client, id: i32) {
    let command = rawdoc! {
        "insert": "things", "documents": [{ "_id": id }],
        "writeConcern": { "w": "majority" },
    };
    let done = async {
        loop {
            match client.database("test").run_command(&command).await {
                Ok(reply) if reply.write_concern_error().unwrap().is_none() => break,
                Ok(_) => {}
                Err(error) => assert!(error.is_network() || error.code().is_some(), "{error}"),
            }
        }
    };
    within(done).await;
}

/// D1: while the application is busy with a batch, its primary dies and another one is elected.
#[tokio::test(flavor = "multi_thread")]
async fn after_an_election_that_nobody_watched_the_next_event_comes_at_once() {
    let set = start().await;
    let client = Client::new(&set.uri()).unwrap();
    let database = client.database("test");
    let mut stream = database.collection("things").watch().await.unwrap();
    insert(&database, "things", 0..3).await;
    assert_eq!(id_of(&event(&mut stream).await), 0);

    with_set(&set, |set| {
        let old = set.primary().unwrap();
        old.kill().unwrap();
        set.wait_for_new_primary(old).unwrap();
    })
    .await;
    insist(&client, 3).await;
    let ping = Instant::now();
    client
        .run_admin_command(&rawdoc! { "ping": 1 })
        .await
        .unwrap();
    let limit = ping.elapsed() + Duration::from_millis(100);

    assert_eq!(id_of(&event(&mut stream).await), 1);
    assert_eq!(id_of(&event(&mut stream).await), 2);
    let called = Instant::now();
    assert_eq!(id_of(&event(&mut stream).await), 3);
    let waited = called.elapsed();
    beside("D1", format_args!("it returned after {waited:?}"));
    assert!(waited <= limit, "{waited:?} > {limit:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stepped_down_a_killed_and_a_frozen_primary_cost_no_event() {
    let set = start().await;
    let uri = format!(
        "{}&heartbeatFrequencyMS=500&connectTimeoutMS=1000",
        set.uri()
    );
    let client = Client::new(&uri).unwrap();
    let database = client.database("test");
    let mut stream = database.collection("things").watch().await.unwrap();

    let mut next = 0;
    for round in ["step down", "freeze", "kill"] {
        insist(&client, next).await;
        let old = with_set(&set, move |set| match round {
            "step down" => set.step_down(Duration::from_secs(5)).map(Member::index),
            "freeze" => set
                .primary()
                .and_then(|old| old.pause().map(|()| old.index())),
            _ => set
                .primary()
                .and_then(|old| old.kill().map(|()| old.index())),
        });
        let old = old.await.unwrap();
        let struck = Instant::now();
        insist(&client, next + 1).await;
        for expected in [next, next + 1] {
            assert_eq!(id_of(&event(&mut stream).await), expected, "{round}");
        }
        println!("{round}: next event after {:?}", struck.elapsed());
        with_set(&set, move |set| match round {
            "step down" => Ok(()),
            "freeze" => set.member(old).resume(),
            _ => set.member(old).restart(),
        })
        .await
        .unwrap();
        with_set(&set, |set| set.wait_for_secondaries())
            .await
            .unwrap();
        next += 2;
    }
}

fn kills(member: &Member) -> i64 {
    let command = rawdoc! { "serverStatus": 1 };
    let status = member.run_command("admin", &command).unwrap();
    let path = ["metrics", "commands", "killCursors"];
    let counts = path.iter().fold(&*status, |document: &RawDocument, key| {
        document.get_document(key).unwrap()
    });
    counts.get_i64("total").unwrap()
}

/// D6: the cursor is on a secondary, and only that secondary hears of its end.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_on_a_secondary_is_killed_there_and_nowhere_else() {
    let set = start().await;
    let recorder = Recorder::default();
    let options = ClientOptions::parse(&set.uri()).unwrap();
    let client = Client::with_options(options.on_event(recorder.listener())).unwrap();
    let count = |set: &ReplicaSet| set.members().iter().map(kills).collect::<Vec<_>>();
    let before = with_set(&set, count).await;

    let watch = client.database("test").watch();
    let secondary = ReadPreference::from(ReadPreferenceMode::Secondary);
    let mut stream = watch
        .read_preference(secondary)
        .comment("on a secondary")
        .await
        .unwrap();
    let holder = with_set(&set, |set| {
        let command = rawdoc! {
            "aggregate": 1, "cursor": {}, "$readPreference": { "mode": "nearest" }, "pipeline": [
                { "$currentOp": { "allUsers": true, "idleCursors": true, "localOps": true } },
                { "$match": { "cursor.originatingCommand.comment": "on a secondary" } },
            ],
        };
        let has_it = |member: &Member| {
            let reply = member.run_command("admin", &command).unwrap();
            let cursor = reply.get_document("cursor").unwrap();
            !cursor.get_array("firstBatch").unwrap().is_empty()
        };
        // One that is just being taken up by a `getMore` may be shown neither as idle nor in use.
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(holder) = set.members().iter().position(has_it) {
                return holder;
            }
            assert!(Instant::now() < until, "nobody has the cursor");
        }
    });
    let holder = holder.await;
    assert_ne!(
        holder,
        with_set(&set, |set| set.primary().unwrap().index()).await
    );

    let closing = Instant::now();
    within(stream.close()).await;
    let closed = closing.elapsed();
    let after = with_set(&set, count).await;
    assert!(after[holder] > before[holder]);
    // Members that copy from each other kill cursors, too; so the client itself tells whom it asked.
    let events = recorder.events();
    let asked = events.iter().filter_map(|event| match event {
        Event::Command(event) if event.command_name == "killCursors" => Some(event),
        _ => None,
    });
    let holder = set.members()[holder].address().to_owned();
    let steps: Vec<_> = asked.map(|event| event.server.to_string()).collect();
    beside(
        "D6",
        format_args!("closed in {closed:?}; the cursor was on {holder}, killed on {steps:?}"),
    );
    assert_eq!(
        steps,
        [holder.clone(), holder],
        "started and succeeded, once"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_majority_the_error_says_what_each_member_is() {
    let set = start().await;
    let uri = format!("{}&serverSelectionTimeoutMS=2000", set.uri());
    let client = Client::new(&uri).unwrap();
    client
        .run_admin_command(&rawdoc! { "ping": 1 })
        .await
        .unwrap();
    let dead = with_set(&set, |set| {
        let addresses: Vec<String> = set
            .secondaries()
            .unwrap()
            .iter()
            .map(|member| {
                member.kill().unwrap();
                member.address().to_owned()
            })
            .collect();
        let left = set
            .members()
            .iter()
            .find(|member| member.is_running())
            .unwrap();
        // A primary without a majority steps down by itself.
        while left
            .run_command("admin", &rawdoc! { "hello": 1 })
            .unwrap()
            .get_bool("isWritablePrimary")
            .unwrap()
        {}
        addresses
    });
    let dead = dead.await;
    let mut changes = client.topology_changes();
    within(async {
        while client.primary().is_some() {
            changes.next().await.unwrap();
        }
    })
    .await;

    let called = Instant::now();
    let ping = rawdoc! { "ping": 1 };
    let ping = client.run_admin_command(&ping);
    let error = in_time(Duration::from_secs(6), ping).await.unwrap_err();
    let waited = called.elapsed();
    assert!(matches!(error, Error::Selection { .. }), "{error}");
    let message = error.to_string();
    for address in set.addresses().iter().chain(&dead) {
        assert!(message.contains(address.as_str()), "{message}");
    }
    println!("{message}");
    assert!(waited >= Duration::from_secs(2), "{waited:?}");
}
