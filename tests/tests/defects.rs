//! Defects of today's drivers that no other file here has a better place for: `D1`, `D2`, `D4` to `D6`
//! and `D9` are in `failover.rs`, `exhaust.rs` and `hostile.rs`, and D11's joined events in
//! `change_stream_policies.rs`.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in helpers too"
)]

use std::time::{Duration, Instant};

use bson::{RawDocumentBuf, doc, rawdoc};
use bytes::BytesMut;
use integration_tests::defects::beside;
use integration_tests::recorder::{heard, sent};
use integration_tests::{insert, next_id, own_database, shared_client, within};
use mongo_client::checkpoint::{CheckpointStore, FileStore};
use mongo_client::{ChangeStream, Client, Error};
use mongo_wire::{Compressor, Limits, OpMsg};
use testbed::scripted::{Answer, HelloScript, ScriptedServer};

#[tokio::test(flavor = "multi_thread")]
async fn d3_a_cancelled_call_leaves_the_stream_alive_and_its_token_readable() {
    let client = shared_client().await;
    let database = own_database(&client);
    let mut stream = within(database.collection("things").watch()).await.unwrap();
    let token = stream.resume_token();
    assert!(token.is_some());
    let wait = Duration::from_millis(20);
    assert!(
        tokio::time::timeout(wait, stream.next_raw()).await.is_err(),
        "nothing has happened yet"
    );
    // The quickest of some: a pause of the machine is none of the stream.
    let ask = |_| {
        let asked = Instant::now();
        assert!(stream.is_alive() && stream.resume_token().is_some());
        asked.elapsed()
    };
    let took = (0..10).map(ask).min().unwrap();
    insert(&database, "things", [1]).await;
    assert_eq!(next_id(&mut stream).await, 1);
    beside(
        "D3",
        format_args!("both answered in {took:?}, the next event came"),
    );
    assert!(took < Duration::from_millis(100), "{took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn d7_behind_the_last_event_of_a_batch_the_token_is_the_batches_end() {
    let server = ScriptedServer::start(|me| HelloScript::primary("rs0", me, &[me])).unwrap();
    let event = |id: i32| {
        doc! {
            "_id": { "_data": format!("{id:08}") }, "operationType": "insert",
            "documentKey": { "_id": id },
        }
    };
    let reply = |key: &str, events: Vec<bson::Document>, end: &str| {
        let cursor = doc! {
            "id": 77_i64, "ns": "test.things", key: events, "postBatchResumeToken": { "_data": end },
        };
        RawDocumentBuf::try_from(&doc! { "cursor": cursor, "ok": 1 }).unwrap()
    };
    let first = reply("firstBatch", vec![event(1), event(2)], "00000009");
    server.always("aggregate", move |_| Answer::reply(first.clone()));
    server.always("getMore", |_| Answer::silence());
    let client = Client::new(&server.uri()).unwrap();
    let things = client.database("test").collection("things");
    let mut stream = within(things.watch()).await.unwrap();

    let data = |stream: &ChangeStream| {
        let token = stream.resume_token().expect("a token");
        token.as_raw().get_str("_data").unwrap().to_owned()
    };
    assert_eq!(next_id(&mut stream).await, 1);
    assert_eq!(data(&stream), "00000001");
    assert_eq!(next_id(&mut stream).await, 2);
    assert_eq!(data(&stream), "00000009");
    beside(
        "D7",
        format_args!("{}, the postBatchResumeToken", data(&stream)),
    );
    drop(stream);
    within(client.shutdown()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn d8_a_comment_goes_with_aggregate_and_get_more() {
    let (client, recorder) = heard("").await;
    let database = own_database(&client);
    let watch = database.collection("things").watch().comment("why");
    let mut stream = within(watch).await.unwrap();
    insert(&database, "things", [1]).await;
    assert_eq!(next_id(&mut stream).await, 1);
    let commented = |name: &str| {
        let sent = recorder.sent(name);
        assert!(!sent.is_empty());
        for command in &sent {
            assert_eq!(command.get_str("comment").unwrap(), "why");
        }
        sent.len()
    };
    let (opened, fetched) = (commented("aggregate"), commented("getMore"));
    let told = format_args!("taken with {opened} aggregate and {fetched} getMore").to_string();
    beside("D8", told);
    within(stream.close()).await;
}

/// An OP_MSG that holds `{ok: 1}`, with a checksum after it where there is one.
fn message(answers: i32, flags: u32, checksum: Option<u32>) -> Vec<u8> {
    let body = rawdoc! { "ok": 1.0 }.into_bytes();
    let trailer = checksum.map(u32::to_le_bytes);
    let length = 21 + body.len() + trailer.map_or(0, |bytes| bytes.len());
    let mut bytes = Vec::new();
    for field in [i32::try_from(length).unwrap(), 1, answers, 2013] {
        bytes.extend_from_slice(&field.to_le_bytes());
    }
    bytes.extend_from_slice(&flags.to_le_bytes());
    bytes.push(0);
    bytes.extend_from_slice(&body);
    bytes.extend(trailer.into_iter().flatten());
    bytes
}

/// A compressed reply that inflates to 12 MiB and says that it inflates to 64 bytes.
fn bomb(answers: i32) -> Vec<u8> {
    let zeros = bson::Binary {
        subtype: bson::spec::BinarySubtype::Generic,
        bytes: vec![0; 12 << 20],
    };
    let body = RawDocumentBuf::try_from(&doc! { "ok": 1, "zeros": zeros }).unwrap();
    let reply = OpMsg::new(1, body.as_ref().into()).in_response_to(answers);
    let (mut bytes, limits) = (BytesMut::new(), Limits::default());
    reply
        .encode_compressed(&mut bytes, Compressor::from_name("zlib").unwrap(), &limits)
        .unwrap();
    // Behind the header of 16 bytes and the original opcode stands the size that is declared.
    bytes[20..24].copy_from_slice(&64_i32.to_le_bytes());
    bytes.to_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn d10_messages_that_break_the_protocol_are_refused_each_by_its_own_error() {
    type Bytes = fn(i32) -> Vec<u8>;
    let cases: [(&str, &str, Bytes); 4] = [
        ("an undefined required flag", "flag", |id| {
            message(id, 1 << 3, None)
        }),
        ("a wrong checksum", "CRC-32C", |id| message(id, 1, Some(1))),
        ("a wrong responseTo", "12345", |_| message(12_345, 0, None)),
        ("more than was declared", "inflation", bomb),
    ];
    let mut told = Vec::new();
    for (what, word, bytes) in cases {
        let server = ScriptedServer::start(|me| HelloScript::primary("rs0", me, &[me])).unwrap();
        server.always("find", move |received| {
            Answer::silence().then_raw(bytes(received.request_id))
        });
        let client = Client::new(&server.uri()).unwrap();
        let find = rawdoc! { "find": "things" };
        let error = within(client.run_admin_command(&find)).await.unwrap_err();
        assert!(
            matches!(error, Error::Malformed { .. } | Error::Violation { .. }),
            "{what}: {error}"
        );
        let message = error.to_string();
        assert!(message.contains(word), "{what}: {message}");
        told.push(message);

        let ping = rawdoc! { "ping": 1 };
        within(client.run_admin_command(&ping)).await.unwrap();
        let connection = |name: &str| server.received_named(name)[0].connection;
        assert_ne!(connection("find"), connection("ping"), "{what}");
    }
    beside("D10", told.join("; "));
}

#[tokio::test(flavor = "multi_thread")]
async fn d11_batches_are_read_ahead_whole_and_a_checkpoint_goes_on_behind_them() {
    let (client, recorder) = heard("").await;
    let database = own_database(&client);
    let things = database.collection("things");
    let start = within(things.watch().resume_from(None)).await.unwrap();
    let start = start.checkpoint().unwrap();
    insert(&database, "things", 0..12).await;

    let watch = things.watch().resume_from(start).batch_size(3);
    let mut stream = within(watch).await.unwrap();
    let batch = within(stream.next_batch()).await.unwrap().unwrap();
    let asked = recorder.wait_for(|events| sent(events, "getMore").len() >= 2);
    let ahead = sent(&asked.await, "getMore").len();
    let keys = batch
        .events()
        .map(|event| event.document_key().unwrap().get_i32("_id").unwrap());
    assert_eq!(keys.collect::<Vec<_>>(), [0, 1, 2]);
    let folder = tempfile::tempdir().unwrap();
    let store = FileStore::new(folder.path().join("place"));
    store.save(&stream.checkpoint().unwrap()).await.unwrap();
    drop(stream);

    let saved = store.load().await.unwrap();
    assert!(saved.is_some());
    let mut stream = within(things.watch().resume_from(saved)).await.unwrap();
    for expected in 3..12 {
        assert_eq!(next_id(&mut stream).await, expected);
    }
    let ours = format!(
        "{ahead} getMores were under way or answered while a batch of {} was unread; \
         the checkpoint behind it went on with the next event",
        batch.len()
    );
    beside("D11", ours);
}
