//! Reauthentication (error 391) where MONGODB-OIDC alone does not show it: other mechanisms, change
//! streams.

use bson::{RawDocumentBuf, rawdoc};
use integration_tests::batch::{self, event};
use integration_tests::{id_of, ping};
use mongo_client::Client;
use testbed::scripted::{Answer, HelloScript, ScriptedServer};

use super::cloud::sasl;
use super::oidc_server::{Application, Guarded, good};
use super::within;

fn expired() -> Answer {
    Answer::error(391, "ReauthenticationRequired", &[])
}

#[tokio::test(flavor = "multi_thread")]
async fn every_mechanism_authenticates_again_and_the_command_is_sent_again_once() {
    let server = ScriptedServer::start(|me| HelloScript::primary("rs0", me, &[me])).unwrap();
    server.always("saslStart", |_| sasl(&RawDocumentBuf::new(), true));
    let uri = format!("mongodb://u:p@{}/?authMechanism=PLAIN", server.address());
    let client = Client::new(&uri).unwrap();
    server.once("ping", expired());
    ping(&client).await.unwrap();
    let count = |name: &str| server.received_named(name).len();
    assert_eq!((count("saslStart"), count("ping")), (2, 2));
    // Not a third time.
    server.once("ping", expired());
    server.once("ping", expired());
    let error = ping(&client).await.unwrap_err();
    assert_eq!(error.code(), Some(391));
    assert_eq!((count("saslStart"), count("ping")), (3, 4));
    // And not by somebody who never was anybody.
    let client = Client::new(&server.uri()).unwrap();
    server.once("ping", expired());
    let error = ping(&client).await.unwrap_err();
    assert_eq!(error.code(), Some(391));
    assert_eq!(count("saslStart"), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_stream_goes_on_with_its_cursor() {
    for exhaust in [false, true] {
        let (guarded, application) = (Guarded::start(), Application::default());
        let server = &guarded.server;
        let options = guarded.options("", "");
        let options = options.oidc_callback(application.callback(good));
        let client = Client::with_options(options).unwrap();
        let error = rawdoc! { "ok": 0.0, "code": 391, "errmsg": "again" };
        server.once("aggregate", expired());
        server.once("aggregate", Answer::reply(batch::first(7, [])));
        if exhaust {
            // The server says so in the middle of what it sends unasked.
            let first = Answer::silence().then_reply_with_more(batch::next(7, [event(1)]));
            server.once("getMore", first.then_reply(error));
        } else {
            server.once("getMore", Answer::reply(batch::next(7, [event(1)])));
            server.once("getMore", Answer::reply(error));
        }
        server.once("getMore", Answer::reply(batch::next(7, [event(2)])));
        server.always("getMore", |_| Answer::silence());
        let collection = client.database("db").collection("c");
        let watch = collection.watch().exhaust(exhaust);
        let mut stream = within(watch.into_future()).await.unwrap();
        for id in 1..=2 {
            let event = within(stream.next_raw()).await.unwrap().unwrap();
            assert_eq!(id_of(&event), id, "{exhaust}");
        }
        // Opened once, but for the refusal; nothing was resumed.
        assert_eq!(server.received_named("aggregate").len(), 2);
        assert_eq!((application.count(), guarded.started()), (3, 3));
    }
}
