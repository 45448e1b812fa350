//! The prose tests that need a server which no real one can be made to be.

use bson::rawdoc;
use integration_tests::batch::{self, event};
use integration_tests::{id_of, next, within};
use mongo_client::change_stream::{StreamError, StreamEvent};
use mongo_client::uri::{ReadPreference, ReadPreferenceMode};
use mongo_client::{Client, Error};
use testbed::scripted::{Answer, HelloScript, ScriptedServer};

/// The client's half: servers of this version no longer let it come so far.
pub(crate) async fn prose_02() {
    let server = ScriptedServer::start(|me| HelloScript::primary("rs0", me, &[me])).unwrap();
    server.always("aggregate", |_| Answer::reply(batch::first(7, [])));
    server.once(
        "getMore",
        Answer::reply(batch::next(
            7,
            [event(1), rawdoc! { "operationType": "insert" }],
        )),
    );
    let client = Client::new(&server.uri()).unwrap();
    let mut stream = within(client.database("test").watch()).await.unwrap();
    assert_eq!(id_of(&next(&mut stream).await), 1);
    let error = within(stream.next_raw()).await.unwrap().unwrap_err();
    let missing = matches!(
        &error,
        Error::ChangeStream {
            error: StreamError::MissingResumeToken,
            ..
        }
    );
    assert!(missing, "{error}");
    assert!(
        error.to_string().contains("resume token is missing"),
        "{error}"
    );
    assert!(within(stream.next_raw()).await.is_none());
}

/// Primary and one secondary change places while a stream of read preference `secondary` has its
/// cursor on that secondary: the resume goes to a server that is a secondary now.
pub(crate) async fn prose_06() {
    let start = || ScriptedServer::start(|_| HelloScript::standalone()).unwrap();
    let servers = [start(), start(), start()];
    let addresses = servers.each_ref().map(ScriptedServer::address);
    let hosts = addresses.each_ref().map(String::as_str);
    let primary_is = |primary: usize| {
        for (index, server) in servers.iter().enumerate() {
            server.set_hello(if index == primary {
                HelloScript::primary("rs0", hosts[index], &hosts)
            } else {
                HelloScript::secondary("rs0", hosts[index], &hosts)
            });
        }
    };
    primary_is(0);
    for server in &servers {
        server.always("aggregate", |_| Answer::reply(batch::first(7, [])));
        server.always("getMore", |_| {
            let error = Answer::silence().then_hold("failover");
            error.then_reply(rawdoc! {
                "ok": 0, "code": 11602, "codeName": "InterruptedDueToReplStateChange",
                "errmsg": "scripted", "errorLabels": ["ResumableChangeStreamError"],
            })
        });
    }
    let uri = format!(
        "mongodb://{}/?replicaSet=rs0&heartbeatFrequencyMS=500",
        hosts.join(",")
    );
    let client = Client::new(&uri).unwrap();
    let secondary = ReadPreference::from(ReadPreferenceMode::Secondary);
    let (resumed, mut resumes) = tokio::sync::mpsc::unbounded_channel();
    let watch = client.database("test").watch().read_preference(secondary);
    let watch = watch.on_event(move |event| {
        if matches!(event, StreamEvent::Resumed { .. }) {
            let _ = resumed.send(());
        }
    });
    let _stream = within(watch).await.unwrap();
    let asked = |server: &ScriptedServer| server.received_named("aggregate").len();
    let first = servers
        .iter()
        .position(|server| asked(server) == 1)
        .unwrap();
    assert_ne!(first, 0, "opened on the primary");

    primary_is(first);
    let mut changes = client.topology_changes();
    let is_new = |client: &Client| {
        client
            .primary()
            .is_some_and(|primary| primary.to_string() == addresses[first])
    };
    within(async {
        while !is_new(&client) {
            changes.next().await.unwrap();
        }
    })
    .await;
    servers[first].release("failover");
    let others = || {
        servers
            .iter()
            .enumerate()
            .filter(|(index, _)| *index != first)
    };
    within(resumes.recv()).await.expect("the stream resumes");
    assert_eq!(
        asked(&servers[first]),
        1,
        "resumed on what is the primary now"
    );
    assert_eq!(others().map(|(_, server)| asked(server)).sum::<usize>(), 1);
    for (_, server) in others() {
        for resume in server.received_named("aggregate") {
            let mode = resume.body.get_document("$readPreference").unwrap();
            assert_eq!(mode.get_str("mode").unwrap(), "secondary");
        }
    }
}
