//! Sessions: the specification's prose tests of sessions and of causal consistency by number,
//! snapshots, and servers that have no sessions.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod causal;
mod driver;
mod snapshot;
mod without;

use std::time::Duration;

use bson::{RawArrayBuf, RawDocument, RawDocumentBuf, cstr, rawdoc};
use integration_tests::recorder::Recorder;
use integration_tests::shared_set;
use mongo_client::{Client, ClientOptions};

/// Nothing here takes longer unless it hangs.
const PATIENCE: Duration = Duration::from_secs(30);

async fn within<T>(work: impl IntoFuture<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, work)
        .await
        .expect("this hangs")
}

/// A client of the shared set that is listened to, with more options of the connection string.
async fn heard(options: &str) -> (Client, Recorder) {
    let uri = tokio::task::spawn_blocking(|| shared_set().uri()).await;
    listen(&format!("{}{options}", uri.unwrap()))
}

fn listen(uri: &str) -> (Client, Recorder) {
    let recorder = Recorder::default();
    let options = ClientOptions::parse(uri).unwrap();
    let client = Client::with_options(options.on_event(recorder.listener())).unwrap();
    (client, recorder)
}

fn find() -> RawDocumentBuf {
    rawdoc! { "find": "things", "filter": {} }
}

fn insert(ids: std::ops::Range<i32>) -> RawDocumentBuf {
    let documents: RawArrayBuf = ids.map(|id| rawdoc! { "_id": id }).collect();
    let mut command = rawdoc! { "insert": "things" };
    command.append(cstr!("documents"), documents);
    command
}

fn lsid(command: &RawDocument) -> Option<RawDocumentBuf> {
    command.get_document("lsid").ok().map(ToOwned::to_owned)
}
