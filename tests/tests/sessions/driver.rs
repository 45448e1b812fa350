//! Driver Sessions, `tests/README.md`.

use bson::spec::BinarySubtype;
use bson::{Binary, RawDocumentBuf, Timestamp, cstr, rawdoc};
use integration_tests::fail_point::FailPoint;
use integration_tests::recorder::{heard, listen, sent};
use integration_tests::{own_database, shared_client, within};
use mongo_client::sdam::SdamEvent;
use mongo_client::uri::{ReadPreference, ReadPreferenceMode};
use mongo_client::{Error, Event, Misuse, SessionMisuse, SessionOptions};

use super::{find, insert, lsid};

fn cluster_time(document: &bson::RawDocument) -> Option<RawDocumentBuf> {
    let time = document.get_document("$clusterTime").ok();
    time.map(ToOwned::to_owned)
}

#[tokio::test(flavor = "multi_thread")]
async fn prose_2_the_pool_is_last_in_first_out() {
    let client = shared_client().await;
    // Before the servers are known, their usual timeout is taken.
    let start = || client.start_session(SessionOptions::default()).unwrap();
    let (a, b) = (start(), start());
    assert_ne!(a.id(), b.id());
    let ids = [b.id(), a.id()];
    a.end();
    b.end();
    // Ending twice does nothing, and an ended session keeps its name.
    b.end();
    assert_eq!(b.id(), ids[0]);
    let (c, d) = (start(), start());
    assert_eq!([c.id(), d.id()], ids);
    // Dropping is ending.
    drop((c, d));
    assert!(ids.contains(&start().id()));
}

#[tokio::test(flavor = "multi_thread")]
async fn prose_3_the_cluster_time_of_a_reply_goes_with_the_next_command() {
    for command in [
        rawdoc! { "ping": 1 },
        rawdoc! { "aggregate": "things", "pipeline": [], "cursor": {} },
        find(),
        rawdoc! { "insert": "gossip", "documents": [{}] },
    ] {
        let (client, recorder) = heard("").await;
        let database = own_database(&client);
        for _ in 0..3 {
            within(database.run_command(&command)).await.unwrap();
        }
        let name = command
            .iter()
            .next()
            .unwrap()
            .unwrap()
            .0
            .as_str()
            .to_owned();
        let (sent, replies) = (recorder.sent(&name), recorder.replies(&name));
        assert_eq!(cluster_time(&sent[0]), None, "nothing is known yet");
        for (reply, next) in replies.iter().zip(&sent[1..]) {
            assert!(cluster_time(reply).is_some());
            assert_eq!(cluster_time(next), cluster_time(reply), "{name}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_later_of_the_clients_and_the_sessions_time_is_sent_and_errors_tell_it_too() {
    let (client, recorder) = heard("").await;
    let session = client.start_session(SessionOptions::default()).unwrap();
    assert_eq!(
        (session.cluster_time(), session.operation_time()),
        (None, None)
    );
    let nonsense = rawdoc! { "nonsense": 1 };
    let refused = within(client.run_admin_command(&nonsense).session(&session)).await;
    let refused = refused.unwrap_err();
    let reply = refused.server_error().unwrap().reply.to_raw_document_buf();
    assert_eq!(session.cluster_time(), cluster_time(&reply));
    assert_eq!(
        session.operation_time(),
        reply.get_timestamp("operationTime").ok()
    );

    let old = rawdoc! { "clusterTime": Timestamp { time: 1, increment: 1 } };
    session.advance_cluster_time(&old).unwrap();
    assert_eq!(session.cluster_time(), cluster_time(&reply));
    let bad = session.advance_cluster_time(&rawdoc! { "clusterTime": 1 });
    let misuse = Misuse::Session(SessionMisuse::NoClusterTime);
    assert!(matches!(bad, Err(Error::Misuse(found)) if found == misuse));
    // A time of the future is the session's alone. A server without access control takes it.
    let far = rawdoc! { "clusterTime": Timestamp { time: u32::MAX, increment: 1 } };
    session.advance_cluster_time(&far).unwrap();
    let ping = rawdoc! { "ping": 1 };
    let _ = within(client.run_admin_command(&ping).session(&session)).await;
    within(client.run_admin_command(&ping)).await.unwrap();
    let sent = recorder.sent("ping");
    assert_eq!(cluster_time(&sent[0]).unwrap(), far);
    assert_ne!(cluster_time(&sent[1]).unwrap(), far);
}

#[tokio::test(flavor = "multi_thread")]
async fn prose_4_every_command_has_a_session_the_callers_or_its_own() {
    let (client, recorder) = heard("").await;
    let database = own_database(&client);
    let session = client.start_session(SessionOptions::default()).unwrap();
    within(database.run_command(&find()).session(&session))
        .await
        .unwrap();
    within(database.run_command(&find())).await.unwrap();
    within(database.run_cursor_command(&find()).session(&session))
        .await
        .unwrap();
    let sent: Vec<_> = recorder
        .sent("find")
        .iter()
        .map(|sent| lsid(sent))
        .collect();
    assert_eq!([&sent[0], &sent[2]], [&Some(session.id()); 2]);
    assert!(sent[1].is_some() && sent[1] != sent[0]);
    let id = session.id();
    assert_eq!(id.get_binary("id").unwrap().bytes.len(), 16);
}

#[tokio::test(flavor = "multi_thread")]
async fn prose_5_and_6_a_session_of_another_client_or_that_has_ended_is_refused() {
    let (client, recorder) = heard("").await;
    let other = shared_client().await;
    let foreign = other.start_session(SessionOptions::default()).unwrap();
    let ended = client.start_session(SessionOptions::default()).unwrap();
    ended.end();
    assert!(ended.is_ended() && !foreign.is_ended());
    for (session, misuse) in [
        (foreign, SessionMisuse::OfAnotherClient),
        (ended, SessionMisuse::Ended),
    ] {
        let ping = rawdoc! { "ping": 1 };
        let refused = within(client.run_admin_command(&ping).session(&session)).await;
        let refused = refused.unwrap_err();
        let expected = Misuse::Session(misuse);
        assert!(
            matches!(&refused, Error::Misuse(found) if *found == expected),
            "{refused}"
        );
        let database = own_database(&client);
        let cursor = within(database.run_cursor_command(&find()).session(&session)).await;
        assert!(matches!(cursor, Err(Error::Misuse(found)) if found == expected));
    }
    assert!(recorder.sent("ping").is_empty() && recorder.sent("find").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn prose_8_9_and_11_a_cursor_keeps_its_session_until_the_server_has_nothing_left() {
    let (client, recorder) = heard("").await;
    let database = own_database(&client);
    within(database.run_command(&insert(0..5))).await.unwrap();

    // All in the first batch: the session is free while the cursor is still being read.
    let mut cursor = within(database.run_cursor_command(&find())).await.unwrap();
    within(cursor.next()).await.unwrap().unwrap();
    within(client.run_admin_command(&rawdoc! { "ping": 1 }))
        .await
        .unwrap();
    let ping = recorder.sent("ping").pop().unwrap();
    assert_eq!(lsid(&recorder.sent("find")[0]), lsid(&ping));
    drop(cursor);

    let command = rawdoc! { "find": "things", "batchSize": 3 };
    let mut cursor = within(database.run_cursor_command(&command).batch_size(3))
        .await
        .unwrap();
    let own = lsid(&recorder.sent("find")[1]);
    assert!(own.is_some());
    for _ in 0..3 {
        within(cursor.next()).await.unwrap().unwrap();
    }
    within(client.run_admin_command(&rawdoc! { "ping": 1 }))
        .await
        .unwrap();
    assert_ne!(lsid(&recorder.sent("ping")[1]), own, "the cursor has it");
    within(cursor.next()).await.unwrap().unwrap();
    assert_eq!(lsid(&recorder.sent("getMore")[0]), own);
    assert!(cursor.is_alive());
    within(client.run_admin_command(&rawdoc! { "ping": 1 }))
        .await
        .unwrap();
    assert_eq!(
        lsid(&recorder.sent("ping")[2]),
        own,
        "free before the last document is read"
    );
    within(cursor.next()).await.unwrap().unwrap();
    assert!(!cursor.is_alive() && within(cursor.next()).await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn prose_14_sessions_are_taken_after_the_check_out() {
    const TOGETHER: usize = 8;
    let mut least = usize::MAX;
    for _ in 0..5 {
        let (client, recorder) = heard("&maxPoolSize=1").await;
        let database = own_database(&client);
        let tasks: Vec<_> = (0..TOGETHER)
            .map(|_| {
                let database = database.clone();
                tokio::spawn(async move { database.run_command(&find()).await.map(drop) })
            })
            .collect();
        for task in tasks {
            within(task).await.unwrap().unwrap();
        }
        let mut ids: Vec<_> = recorder
            .sent("find")
            .iter()
            .map(|sent| lsid(sent).unwrap().into_bytes())
            .collect();
        ids.sort();
        ids.dedup();
        assert!(ids.len() < TOGETHER, "{}", ids.len());
        least = least.min(ids.len());
    }
    assert_eq!(least, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn prose_20_monitors_do_not_gossip() {
    let set = shared_client().await;
    let uri = tokio::task::spawn_blocking(|| integration_tests::shared_set().addresses());
    let address = uri.await.unwrap().remove(0);
    let (client, recorder) = listen(&format!(
        "mongodb://{address}/?directConnection=true&heartbeatFrequencyMS=500"
    ));
    let ping = rawdoc! { "ping": 1 };
    within(client.run_admin_command(&ping)).await.unwrap();
    let first = cluster_time(&recorder.replies("ping")[0]).unwrap();
    let advance = rawdoc! { "insert": "things", "documents": [{ "advance": "$clusterTime" }] };
    within(own_database(&set).run_command(&advance))
        .await
        .unwrap();
    let beats = |events: &[Event]| {
        let succeeded = |event: &&Event| {
            matches!(
                event,
                Event::Sdam {
                    event: SdamEvent::HeartbeatSucceeded { .. },
                    ..
                }
            )
        };
        events.iter().filter(succeeded).count()
    };
    let before = beats(&recorder.events());
    recorder.wait_for(|events| beats(events) > before + 1).await;
    within(client.run_admin_command(&ping)).await.unwrap();
    assert_eq!(cluster_time(&recorder.sent("ping")[1]), Some(first));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_lost_its_connection_is_not_used_again() {
    let (client, recorder) = heard("&appName=dirty&retryReads=false").await;
    let control = shared_client().await;
    let session = client.start_session(SessionOptions::default()).unwrap();
    let data = rawdoc! {
        "failCommands": ["ping", "echo"], "closeConnection": true, "appName": "dirty",
    };
    let fail_point = FailPoint::on(&control, Some(2), data).await;
    let ping = rawdoc! { "ping": 1 };
    let lost = within(client.run_admin_command(&ping).session(&session)).await;
    assert!(lost.unwrap_err().is_network());
    assert!(session.is_dirty());
    let implicit = rawdoc! { "echo": 1 };
    within(client.run_admin_command(&implicit))
        .await
        .unwrap_err();
    within(fail_point.off()).await.unwrap();
    // It goes on with the session itself, which stays dirty.
    within(client.run_admin_command(&ping).session(&session))
        .await
        .unwrap();
    assert!(session.is_dirty());
    let dirty = [Some(session.id()), lsid(&recorder.sent("echo")[0])];
    session.end();
    for _ in 0..3 {
        within(client.run_admin_command(&ping)).await.unwrap();
    }
    for sent in &recorder.sent("ping")[2..] {
        assert!(!dirty.contains(&lsid(sent)), "{sent:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_whose_command_was_given_up_is_not_used_again() {
    let (client, recorder) = heard("").await;
    let sleep = rawdoc! { "sleep": 1, "millis": 3_000, "lock": "none" };
    let ping = rawdoc! { "ping": 1 };
    within(client.run_admin_command(&ping)).await.unwrap();
    let sleeping = client.run_admin_command(&sleep);
    let is_sent = recorder.wait_for(|events| sent(events, "sleep").len() == 1);
    tokio::select! {
        result = sleeping.into_future() => panic!("{result:?}"),
        _ = is_sent => {}
    }
    within(client.run_admin_command(&ping)).await.unwrap();
    let busy = lsid(&recorder.sent("sleep")[0]);
    assert_eq!(busy, lsid(&recorder.sent("ping")[0]));
    assert_ne!(busy, lsid(&recorder.sent("ping")[1]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_shows_how_many_sessions_there_are() {
    let (client, _) = heard("").await;
    let shows = |line: &str| assert!(client.to_string().ends_with(line), "{client}");
    shows("\nsessions: 0 in use, 0 pooled");
    let sessions: Vec<_> = (0..2)
        .map(|_| client.start_session(SessionOptions::default()).unwrap())
        .collect();
    shows("\nsessions: 2 in use, 0 pooled");
    within(client.run_admin_command(&rawdoc! { "ping": 1 }))
        .await
        .unwrap();
    shows("\nsessions: 2 in use, 1 pooled");
    drop(sessions);
    shows("\nsessions: 0 in use, 3 pooled");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_ends_the_sessions_that_are_left() {
    let (client, recorder) = heard("").await;
    let ping = rawdoc! { "ping": 1 };
    let sessions: Vec<_> = (0..3)
        .map(|_| client.start_session(SessionOptions::default()).unwrap())
        .collect();
    for session in &sessions {
        within(client.run_admin_command(&ping).session(session))
            .await
            .unwrap();
    }
    let ids: Vec<_> = sessions.iter().map(|session| session.id()).collect();
    // One is still in use when the client ends.
    let in_use = sessions[2].clone();
    drop(sessions);
    within(client.shutdown()).await;
    let ended = recorder.sent("endSessions");
    assert_eq!(ended.len(), 1);
    assert_eq!(ended[0].get_str("$db").unwrap(), "admin");
    let ended: Vec<_> = ended[0]
        .get_array("endSessions")
        .unwrap()
        .into_iter()
        .map(|id| id.unwrap().as_document().unwrap().to_owned())
        .collect();
    assert!(
        ended.contains(&ids[0]) && ended.contains(&ids[1]),
        "{ended:?}"
    );
    assert!(!ended.contains(&in_use.id()));
    // The server keeps whatever session it hears of, so that this runs in none.
    assert_eq!(lsid(&recorder.sent("endSessions")[0]), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_session_serves_many_tasks_in_turn_without_mixing_them_up() {
    let client = shared_client().await;
    let session = client.start_session(SessionOptions::default()).unwrap();
    let database = own_database(&client);
    within(database.run_command(&insert(0..1)).session(&session))
        .await
        .unwrap();
    let mut last = session.operation_time().unwrap();
    for _ in 0..20 {
        let found = within(database.run_command(&find()).as_read().session(&session)).await;
        assert_eq!(found.unwrap().cursor().unwrap().batch.iter().count(), 1);
        let now = session.operation_time().unwrap();
        assert!(now >= last);
        last = now;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_that_a_command_has_of_its_own_are_not_sent_twice() {
    let (client, recorder) = heard("&timeoutMS=20000").await;
    let id = Binary {
        subtype: BinarySubtype::Uuid,
        bytes: (0..16).collect(),
    };
    let own = rawdoc! { "id": id };
    let mut write = insert(900..901);
    write.append(cstr!("lsid"), own.clone());
    write.append(cstr!("txnNumber"), 1_i64);
    write.append(cstr!("maxTimeMS"), 5_000);
    let db = client.database("own_keys");
    for _ in 0..2 {
        // The server takes the second one for the first, tried again.
        let reply = within(db.run_command(&write)).await.unwrap();
        assert_eq!(reply.document().as_raw().get_i32("n").unwrap(), 1);
    }
    let sent = recorder.sent("insert");
    assert_eq!(sent.len(), 2);
    for command in sent {
        assert_eq!(lsid(&command), Some(own.clone()));
        let times = |key| {
            let keys = command.iter().map(|field| field.unwrap().0);
            keys.filter(|other| *other == key).count()
        };
        assert_eq!([times("lsid"), times("maxTimeMS")], [1, 1]);
    }
    // A session and an id of another one contradict each other.
    let session = client.start_session(SessionOptions::default()).unwrap();
    let error = within(db.run_command(&write).session(&session))
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Misuse(_)), "{error}");
    let preference = rawdoc! { "mode": "secondaryPreferred" };
    let addressed = rawdoc! { "ping": 1, "$db": "own", "$readPreference": preference };
    let secondary = ReadPreference {
        mode: ReadPreferenceMode::SecondaryPreferred,
        ..ReadPreference::default()
    };
    within(db.run_command(&addressed).read_preference(secondary))
        .await
        .unwrap();
    let sent = recorder.sent("ping").pop().unwrap();
    let keys: Vec<_> = sent
        .iter()
        .map(|field| field.unwrap().0.as_str().to_owned())
        .collect();
    for key in ["$db", "$readPreference", "lsid"] {
        assert_eq!(
            keys.iter().filter(|other| *other == key).count(),
            1,
            "{keys:?}"
        );
    }
    assert_eq!(sent.get_str("$db").unwrap(), "own");
    client.shutdown().await;
}
