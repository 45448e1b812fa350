//! Causal Consistency, "Test Plan".

use bson::{RawDocument, RawDocumentBuf, Timestamp, rawdoc};
use integration_tests::batch;
use integration_tests::recorder::{heard, listen};
use integration_tests::{own_database, within};
use mongo_client::uri::{ReadConcern, ReadConcernLevel};
use mongo_client::{Client, ClientSession, SessionOptions};
use testbed::scripted::{Answer, HelloScript, ScriptedServer};

use super::{find, insert};

fn start(client: &Client, causal_consistency: Option<bool>) -> ClientSession {
    let mut options = SessionOptions::default();
    options.causal_consistency = causal_consistency;
    client.start_session(options).unwrap()
}

fn after_cluster_time(command: &RawDocument) -> Option<Timestamp> {
    let concern = command.get_document("readConcern").ok()?;
    concern.get_timestamp("afterClusterTime").ok()
}

/// The reads that the client can be told are reads.
fn reads() -> Vec<RawDocumentBuf> {
    vec![
        find(),
        rawdoc! { "aggregate": "things", "pipeline": [], "cursor": {} },
        rawdoc! { "count": "things" },
        rawdoc! { "distinct": "things", "key": "a" },
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn prose_1_2_3_and_4_a_read_follows_what_the_session_has_seen() {
    for read in reads() {
        let (client, recorder) = heard("").await;
        let database = own_database(&client);
        let session = start(&client, Some(true));
        assert_eq!(session.operation_time(), None);
        within(database.run_command(&find()).as_read().session(&session))
            .await
            .unwrap();
        assert_eq!(after_cluster_time(&recorder.sent("find")[0]), None);
        let seen = recorder.replies("find")[0]
            .get_timestamp("operationTime")
            .unwrap();
        assert_eq!(session.operation_time(), Some(seen));

        within(database.run_command(&read).as_read().session(&session))
            .await
            .unwrap();
        let name = read.iter().next().unwrap().unwrap().0.as_str().to_owned();
        let sent = recorder.sent(&name).pop().unwrap();
        assert_eq!(after_cluster_time(&sent), Some(seen), "{name}");
        // Only what was asked for stands beside it.
        assert_eq!(sent.get_document("readConcern").unwrap().iter().count(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn prose_5_a_read_follows_a_write_even_one_that_failed() {
    let (client, recorder) = heard("").await;
    let database = own_database(&client);
    let session = start(&client, None);
    for write in [
        insert(0..1),
        // A duplicate key is an error among `writeErrors`, an unknown stage one of the command.
        insert(0..1),
        rawdoc! { "update": "things", "updates": [{ "q": {}, "u": [{ "$nonsense": 1 }] }] },
    ] {
        let _ = within(database.run_command(&write).session(&session)).await;
        let seen = session.operation_time().unwrap();
        within(database.run_command(&find()).as_read().session(&session))
            .await
            .unwrap();
        let sent = recorder.sent("find").pop().unwrap();
        assert_eq!(after_cluster_time(&sent), Some(seen));
    }
    // A write that is told a read concern is ordered, too.
    let seen = session.operation_time();
    let ordered = insert(1..2);
    let ordered = database.run_command(&ordered).session(&session);
    within(ordered.read_concern(ReadConcern::default()))
        .await
        .unwrap();
    assert_eq!(
        after_cluster_time(&recorder.sent("insert").pop().unwrap()),
        seen
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn prose_6_and_12_without_causal_consistency_or_a_read_nothing_is_added() {
    let (client, recorder) = heard("").await;
    let database = own_database(&client);
    let session = start(&client, Some(false));
    for _ in 0..2 {
        within(database.run_command(&find()).as_read().session(&session))
            .await
            .unwrap();
    }
    let causal = start(&client, Some(true));
    for _ in 0..2 {
        within(database.run_command(&find()).session(&causal))
            .await
            .unwrap();
    }
    let sent = recorder.sent("find");
    assert_eq!(sent.len(), 4);
    for sent in &sent {
        assert!(sent.get("readConcern").unwrap().is_none(), "{sent:?}");
    }
    // The first has nothing to send along yet (12: the deployment has a cluster time).
    assert!(sent[1].get("$clusterTime").unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn prose_8_and_9_levels_stand_beside_the_time_and_the_default_does_not() {
    let (client, recorder) = heard("&readConcernLevel=local").await;
    let database = own_database(&client);
    let session = start(&client, Some(true));
    let command = find();
    let read = || database.run_command(&command).as_read().session(&session);
    within(read()).await.unwrap();
    within(read()).await.unwrap();
    within(read().read_concern(ReadConcern::new(ReadConcernLevel::Majority)))
        .await
        .unwrap();
    within(read().read_concern(ReadConcern::default()))
        .await
        .unwrap();
    let sent = recorder.sent("find");
    let level = |index: usize| {
        let concern = sent[index].get_document("readConcern").unwrap();
        concern.get_str("level").ok().map(str::to_owned)
    };
    let levels: Vec<_> = (0..4).map(level).collect();
    let expected = [Some("local"), Some("local"), Some("majority"), None];
    assert_eq!(levels, expected.map(|level| level.map(str::to_owned)));
    assert!(after_cluster_time(&sent[0]).is_none());
    assert!(
        sent[1..]
            .iter()
            .all(|sent| after_cluster_time(sent).is_some())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_concern_in_the_command_itself_is_the_callers() {
    let (client, recorder) = heard("&readConcernLevel=majority").await;
    let database = own_database(&client);
    let session = start(&client, Some(true));
    let own = rawdoc! { "find": "things", "readConcern": { "level": "local" } };
    for _ in 0..2 {
        within(database.run_command(&own).as_read().session(&session))
            .await
            .unwrap();
    }
    // What is not said to be a read inherits nothing.
    within(database.run_command(&find())).await.unwrap();
    let sent = recorder.sent("find");
    for sent in &sent[..2] {
        let concern = sent.get_document("readConcern").unwrap();
        assert_eq!(concern, &*rawdoc! { "level": "local" });
        let keys = sent
            .iter()
            .map(|element| element.unwrap().0.as_str().to_owned());
        assert_eq!(keys.filter(|key| key == "readConcern").count(), 1);
    }
    assert!(sent[2].get("readConcern").unwrap().is_none());
}

/// No real standalone server is at hand that would take it amiss, so a script looks on.
#[tokio::test(flavor = "multi_thread")]
async fn prose_7_and_11_a_deployment_without_a_time_is_told_none() {
    let server = ScriptedServer::start(|_| HelloScript::standalone()).unwrap();
    server.always("find", |_| Answer::reply(batch::first(0, [])));
    let (client, recorder) = listen(&server.uri());
    let session = start(&client, Some(true));
    let time = Timestamp {
        time: 9,
        increment: 9,
    };
    session.advance_operation_time(time);
    session
        .advance_cluster_time(&rawdoc! { "clusterTime": time })
        .unwrap();
    let command = find();
    let read = client
        .database("d")
        .run_command(&command)
        .as_read()
        .session(&session);
    within(read).await.unwrap();
    let sent = recorder.sent("find").pop().unwrap();
    assert!(sent.get("readConcern").unwrap().is_none(), "{sent:?}");
    assert!(sent.get("$clusterTime").unwrap().is_none(), "{sent:?}");
    assert!(sent.get("lsid").unwrap().is_some(), "{sent:?}");
}
