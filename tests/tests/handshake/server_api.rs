//! The declaration of a server API on every command, whoever sends it.

use bson::rawdoc;
use integration_tests::batch;
use integration_tests::{PATIENCE, within};
use mongo_client::{Client, ClientOptions, ServerApi, ServerApiVersion};
use testbed::scripted::{Answer, HelloScript, ScriptedServer};

use super::deployment::uri;

fn strict() -> ServerApi {
    ServerApi {
        strict: Some(true),
        ..ServerApi::new(ServerApiVersion::V1)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_declares_it_and_legacy_hello_is_never_used() {
    let server = ScriptedServer::start(|me| HelloScript::primary("rs0", me, &[me])).unwrap();
    server.always("aggregate", |_| Answer::reply(batch::first(7, [])));
    server.always("getMore", |_| Answer::reply(batch::next(7, [])));
    server.always("saslStart", |_| {
        let payload = bson::Binary {
            subtype: bson::spec::BinarySubtype::Generic,
            bytes: Vec::new(),
        };
        Answer::reply(rawdoc! { "conversationId": 1, "payload": payload, "done": true, "ok": 1.0 })
    });
    let text = format!("mongodb://u:p@{}/?authMechanism=PLAIN", server.address());
    let options = ClientOptions::parse(&text).unwrap().server_api(strict());
    let client = Client::with_options(options).unwrap();
    let mut stream = within(client.watch().into_future()).await.unwrap();
    server
        .wait_for(PATIENCE, |all| all.iter().any(|r| r.name == "getMore"))
        .unwrap();
    within(stream.close()).await;
    let received = server.received();
    for expected in ["hello", "saslStart", "aggregate", "getMore", "killCursors"] {
        assert!(received.iter().any(|r| r.name == expected), "{expected}");
    }
    for received in &received {
        let name = &received.name;
        assert_eq!(
            received.body.get_str("apiVersion").ok(),
            Some("1"),
            "{name}"
        );
        assert_eq!(
            received.body.get_bool("apiStrict").ok(),
            Some(true),
            "{name}"
        );
        assert!(
            received.body.get("apiDeprecationErrors").unwrap().is_none(),
            "{name}"
        );
        assert_ne!(name, "isMaster");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_server_holds_the_client_to_it() {
    let options = ClientOptions::parse(&uri("both", "pwboth", "").await).unwrap();
    let client = Client::with_options(options.server_api(strict())).unwrap();
    within(client.run_admin_command(&rawdoc! { "ping": 1 }))
        .await
        .unwrap();
    let outside = rawdoc! { "serverStatus": 1 };
    let error = within(client.run_admin_command(&outside))
        .await
        .unwrap_err();
    assert_eq!(error.code(), Some(323), "{error}");
}
