//! Snapshot Reads.

use bson::{RawDocument, RawDocumentBuf, Timestamp, rawdoc};
use integration_tests::recorder::{heard, listen};
use integration_tests::{own_database, within};
use mongo_client::{Error, Misuse, SessionMisuse, SessionOptions};
use testbed::scripted::{Answer, HelloScript, ScriptedServer};

use super::{find, insert};

fn snapshot() -> SessionOptions {
    let mut options = SessionOptions::default();
    options.snapshot = true;
    options
}

fn concern(command: &RawDocument) -> RawDocumentBuf {
    command.get_document("readConcern").unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn all_reads_of_a_snapshot_session_see_the_moment_of_the_first() {
    let (client, recorder) = heard("").await;
    let database = own_database(&client);
    let mut write = insert(0..1);
    write.append(bson::cstr!("writeConcern"), rawdoc! { "w": "majority" });
    within(database.run_command(&write)).await.unwrap();
    let session = client.start_session(snapshot()).unwrap();
    assert_eq!(session.snapshot_time().unwrap(), None);
    let count = async || {
        let command = rawdoc! { "aggregate": "things", "pipeline": [], "cursor": {} };
        let reply = within(database.run_command(&command).as_read().session(&session)).await;
        reply.unwrap().cursor().unwrap().batch.iter().count()
    };
    assert_eq!(count().await, 1);
    let time = session.snapshot_time().unwrap().unwrap();
    within(database.run_command(&insert(1..2))).await.unwrap();
    assert_eq!(count().await, 1);
    let distinct = rawdoc! { "distinct": "things", "key": "_id" };
    let reply = within(database.run_command(&distinct).as_read().session(&session))
        .await
        .unwrap();
    let values = reply.document().as_raw().get_array("values").unwrap();
    assert_eq!(values.into_iter().count(), 1);
    let sent = recorder.sent("aggregate");
    assert_eq!(concern(&sent[0]), rawdoc! { "level": "snapshot" });
    let bound = rawdoc! { "level": "snapshot", "atClusterTime": time };
    assert_eq!(concern(&sent[1]), bound);
    assert_eq!(concern(&recorder.sent("distinct")[0]), bound);

    // Somebody else can be given the same moment.
    let mut options = snapshot();
    options.snapshot_time = Some(time);
    let other = client.start_session(options).unwrap();
    assert_eq!(other.snapshot_time().unwrap(), Some(time));
    let command = find();
    let reply = within(database.run_command(&command).as_read().session(&other))
        .await
        .unwrap();
    assert_eq!(reply.cursor().unwrap().batch.iter().count(), 1);
    assert_eq!(concern(&recorder.sent("find")[0]), bound);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_read_from_a_snapshot_is_refused_by_the_server() {
    let (client, recorder) = heard("").await;
    let database = own_database(&client);
    let session = client.start_session(snapshot()).unwrap();
    let refused = within(database.run_command(&insert(0..1)).session(&session)).await;
    assert!(refused.unwrap_err().code().is_some());
    assert_eq!(
        concern(&recorder.sent("insert")[0]),
        rawdoc! { "level": "snapshot" }
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn prose_21_and_22_a_time_without_a_snapshot_is_refused() {
    let (client, _) = heard("").await;
    let mut options = SessionOptions::default();
    options.snapshot_time = Some(Timestamp {
        time: 1,
        increment: 0,
    });
    let misuse = Misuse::Session(SessionMisuse::NoSnapshot);
    let refused = client.start_session(options).unwrap_err();
    assert!(matches!(refused, Error::Misuse(found) if found == misuse));
    let plain = client.start_session(SessionOptions::default()).unwrap();
    assert!(matches!(plain.snapshot_time(), Err(Error::Misuse(found)) if found == misuse));
    let mut both = snapshot();
    both.causal_consistency = Some(true);
    let refused = client.start_session(both).unwrap_err();
    assert!(matches!(
        refused,
        Error::Misuse(Misuse::Contradiction { .. })
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_before_5_0_is_not_asked() {
    let server = ScriptedServer::start(|me| {
        HelloScript::primary("rs0", me, &[me]).with("maxWireVersion", 12)
    })
    .unwrap();
    server.always("find", |_| Answer::ok());
    let (client, _) = listen(&server.uri());
    let session = client.start_session(snapshot()).unwrap();
    let command = find();
    let read = client
        .database("d")
        .run_command(&command)
        .as_read()
        .session(&session);
    let refused = within(read).await.unwrap_err();
    let message = refused.to_string();
    assert!(
        message.contains("Snapshot reads require MongoDB 5.0 or later"),
        "{message}"
    );
    assert!(server.received_named("find").is_empty());
}
