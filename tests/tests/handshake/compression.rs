//! Compressors against a real server, which counts what it compresses.

use bson::{RawArrayBuf, RawBsonRef, RawDocument, cstr, rawdoc};
use integration_tests::{id_of, own_database, within};
use mongo_client::{ChangeStream, Client};

use super::deployment::uri;

const EVENTS: i32 = 20;
const PADDING: usize = 2000;

/// What the server has put into one compressor, and got out of one decompressor.
async fn counters(client: &Client, compressor: &str) -> (i64, i64) {
    let command = rawdoc! { "serverStatus": 1 };
    let reply = within(client.run_admin_command(&command)).await.unwrap();
    let mut document: &RawDocument = reply.document().as_raw();
    for key in ["network", "compression", compressor] {
        document = document.get_document(key).unwrap();
    }
    let count = |side, key| {
        let value = document.get_document(side).unwrap().get(key).unwrap();
        match value {
            Some(RawBsonRef::Int64(count)) => count,
            Some(RawBsonRef::Int32(count)) => count.into(),
            other => panic!("{other:?}"),
        }
    };
    (
        count("compressor", "bytesIn"),
        count("decompressor", "bytesOut"),
    )
}

/// Follows a collection while it is written to.
async fn follow(client: &Client) {
    let database = own_database(client);
    let collection = database.collection("padded");
    let mut stream: ChangeStream = within(collection.watch().into_future()).await.unwrap();
    let padding = "x".repeat(PADDING);
    let documents: RawArrayBuf = (0..EVENTS)
        .map(|id| rawdoc! { "_id": id, "padding": padding.as_str() })
        .collect();
    let mut command = rawdoc! { "insert": "padded" };
    command.append(cstr!("documents"), documents);
    within(database.run_command(&command)).await.unwrap();
    for expected in 0..EVENTS {
        let event = within(stream.next_raw()).await.unwrap().unwrap();
        assert_eq!(id_of(&event), expected);
    }
    within(stream.close()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_and_a_change_stream_are_compressed_both_ways_on_authenticated_connections() {
    let volume = i64::from(EVENTS) * i64::try_from(PADDING).unwrap();
    for (options, used, unused) in [
        ("&compressors=snappy", "snappy", "zlib"),
        ("&compressors=zlib", "zlib", "zstd"),
        ("&compressors=zlib&zlibCompressionLevel=9", "zlib", "snappy"),
        ("&compressors=zstd", "zstd", "snappy"),
        // The client's order decides, not the server's, which begins with snappy.
        ("&compressors=zstd,snappy,zlib", "zstd", "snappy"),
        // An unknown one is left out.
        ("&compressors=snoopy,zlib", "zlib", "snappy"),
    ] {
        let client = Client::new(&uri("both", "pwboth", options).await).unwrap();
        let (before, idle) = (
            counters(&client, used).await,
            counters(&client, unused).await,
        );
        follow(&client).await;
        let after = counters(&client, used).await;
        assert!(
            after.0 - before.0 > volume,
            "{options}: replies {before:?} {after:?}"
        );
        assert!(
            after.1 - before.1 > volume,
            "{options}: requests {before:?} {after:?}"
        );
        assert_eq!(counters(&client, unused).await, idle, "{options}");
    }
}
