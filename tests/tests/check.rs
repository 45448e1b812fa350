//! What a look at a deployment finds before a stream is started.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking, and says what it measured"
)]

use bson::{Timestamp, rawdoc};
use integration_tests::{insert, own_database, run, shared_client, within};
use mongo_client::change_stream::{
    FullDocumentBeforeChangeType, FullDocumentType, HistoryLost, Oversize, ResumeToken,
};
use mongo_client::uri::{ReadPreference, ReadPreferenceMode};
use mongo_client::{CheckReport, Client, Finding, Subject, Verdict, Watch};
use testbed::cluster::{ReplicaSet, ReplicaSetOptions, Standalone};
use testbed::mongod::ServerVersion;

async fn check(watch: Watch) -> CheckReport {
    let report = watch.check().await.unwrap();
    for finding in &report.findings {
        println!("{finding}");
    }
    report
}

fn of(report: &CheckReport, subject: Subject) -> &Finding {
    let mut findings = report.findings.iter();
    findings.find(|finding| finding.subject == subject).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sound_deployment_has_no_complaints_and_no_cursor_is_left() {
    let client = shared_client().await;
    let database = own_database(&client);
    insert(&database, "things", [1]).await;
    for watch in [
        client.watch(),
        database.watch(),
        database.collection("things").watch(),
    ] {
        let report = check(watch.comment("a check")).await;
        assert_eq!(report.verdict(), Verdict::Good);
        assert_eq!(report.findings.len(), 4);
    }
    let open = rawdoc! {
        "aggregate": 1, "cursor": {}, "pipeline": [
            { "$currentOp": { "allUsers": true, "idleCursors": true } },
            { "$match": { "cursor.originatingCommand.comment": "a check" } },
        ],
    };
    let is_left = async || {
        let reply = client.run_admin_command(&open).await.unwrap();
        !reply.cursor().unwrap().batch.is_empty()
    };
    // The server may take a moment to let go of a `getMore` whose cursor was killed.
    within(async { while is_left().await {} }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_images_are_said_with_what_to_do() {
    let client = shared_client().await;
    let database = own_database(&client);
    run(&database, rawdoc! { "create": "things" }).await;
    let things = database.collection("things");
    let required = || {
        things
            .watch()
            .full_document_before_change(FullDocumentBeforeChangeType::Required)
    };
    let report = check(required()).await;
    assert_eq!(of(&report, Subject::Images).verdict, Verdict::Failure);
    assert!(of(&report, Subject::Images).text.contains("collMod"));
    let watch = things
        .watch()
        .full_document(FullDocumentType::WhenAvailable);
    assert_eq!(check(watch).await.verdict(), Verdict::Warning);
    let images =
        rawdoc! { "collMod": "things", "changeStreamPreAndPostImages": { "enabled": true } };
    run(&database, images).await;
    assert_eq!(check(required()).await.verdict(), Verdict::Good);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_server_does_not_take_is_a_finding() {
    let client = shared_client().await;
    let database = own_database(&client);
    let report = check(database.watch().pipeline([rawdoc! { "$nonsense": {} }])).await;
    assert_eq!(of(&report, Subject::Opening).verdict, Verdict::Failure);
    let token = ResumeToken::from(rawdoc! { "_data": "no token" });
    let report = check(database.watch().resume_after(token)).await;
    assert_eq!(of(&report, Subject::Opening).verdict, Verdict::Failure);
    // 6.0.5 does not split events.
    let report = check(database.watch().oversize(Oversize::Skip)).await;
    assert_eq!(of(&report, Subject::Version).verdict, Verdict::Failure);
    assert!(of(&report, Subject::Version).text.contains("6.0.9"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_is_forgotten_is_said_before_it_costs_anything() {
    let set = tokio::task::spawn_blocking(|| ReplicaSet::start(2).unwrap())
        .await
        .unwrap();
    let client = Client::new(&set.uri()).unwrap();
    let secondary = ReadPreference::from(ReadPreferenceMode::Secondary);
    let watch = client.watch().read_preference(secondary);
    let watch = watch.start_at_operation_time(Timestamp {
        time: 1,
        increment: 1,
    });
    let report = check(watch.clone()).await;
    assert_eq!(of(&report, Subject::Oplog).verdict, Verdict::Failure);
    assert!(
        of(&report, Subject::Oplog)
            .text
            .contains("no longer reaches back")
    );
    let report = check(watch.history_lost(HistoryLost::FromNow)).await;
    assert_eq!(report.verdict(), Verdict::Warning);
}

#[tokio::test(flavor = "multi_thread")]
async fn old_and_lone_servers_are_told_apart() {
    let start = || {
        let mut options = ReplicaSetOptions::new(1);
        options.version = ServerVersion::V4_2;
        (options.start().unwrap(), Standalone::start().unwrap())
    };
    let (old, lone) = tokio::task::spawn_blocking(start).await.unwrap();
    let client = Client::new(&old.uri()).unwrap();
    assert_eq!(check(client.watch()).await.verdict(), Verdict::Good);
    let report = check(client.watch().show_expanded_events(true)).await;
    assert_eq!(of(&report, Subject::Version).verdict, Verdict::Failure);
    assert!(of(&report, Subject::Version).text.contains("6.0"));

    let client = Client::new(&lone.uri()).unwrap();
    let report = check(client.watch()).await;
    assert_eq!(report.findings.len(), 1);
    assert!(
        of(&report, Subject::Topology)
            .text
            .contains("rs.initiate()")
    );
}
