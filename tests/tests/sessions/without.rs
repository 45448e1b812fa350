//! Servers that have no sessions, and commands that must have none.

use bson::rawdoc;
use integration_tests::recorder::{heard, listen};
use integration_tests::{own_database, within};
use mongo_client::{Error, Misuse, SessionMisuse, SessionOptions};
use testbed::scripted::{Answer, HelloScript, ScriptedServer};

use super::{find, lsid};

#[tokio::test(flavor = "multi_thread")]
async fn prose_18_and_19_without_sessions_none_is_sent_and_the_callers_is_refused() {
    let server = ScriptedServer::start(|_| {
        HelloScript::standalone().without("logicalSessionTimeoutMinutes")
    })
    .unwrap();
    server.always("insert", |_| Answer::ok());
    let (client, recorder) = listen(&server.uri());
    let database = client.database("d");
    let insert = rawdoc! { "insert": "things", "documents": [{}] };
    let _ = within(database.run_command(&find()).as_read()).await;
    within(database.run_command(&insert)).await.unwrap();
    assert_eq!(lsid(&recorder.sent("find")[0]), None);
    assert_eq!(lsid(&recorder.sent("insert")[0]), None);

    let session = client.start_session(SessionOptions::default()).unwrap();
    for command in [find(), insert] {
        let refused = within(database.run_command(&command).session(&session)).await;
        let misuse = Misuse::Session(SessionMisuse::Unsupported);
        assert!(matches!(refused, Err(Error::Misuse(found)) if found == misuse));
    }
    assert_eq!(server.received_named("find").len(), 1);
    assert_eq!(server.received_named("insert").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unacknowledged_write_has_no_session() {
    let (client, recorder) = heard("").await;
    let database = own_database(&client);
    let session = client.start_session(SessionOptions::default()).unwrap();
    let write = rawdoc! {
        "insert": "things", "documents": [{}], "writeConcern": { "w": 0 },
    };
    within(database.run_command(&write)).await.unwrap();
    let sent = recorder.sent("insert").pop().unwrap();
    assert_eq!(lsid(&sent), None);
    assert!(sent.get("$db").unwrap().is_some());
    let refused = within(database.run_command(&write).session(&session)).await;
    let misuse = Misuse::Session(SessionMisuse::Unacknowledged);
    assert!(matches!(refused, Err(Error::Misuse(found)) if found == misuse));
}
