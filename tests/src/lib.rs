//! What the integration tests have in common: a replica set that many tests share, databases of
//! their own on it, and a few writes.

pub mod batch;
pub mod certificates;
pub mod defects;
pub mod fail_point;
pub mod logbook;
pub mod recorder;
pub mod spanbook;

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bson::{RawDocumentBuf, rawdoc};
use mongo_client::change_stream::RawEvent;
use mongo_client::{ChangeStream, Client, Collection, Database, Error, Result};
use testbed::cluster::ReplicaSet;

/// Nothing here takes longer unless it hangs, whatever else the machine does.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// What comes of `work`.
///
/// # Panics
/// When it is not done within [`PATIENCE`].
pub async fn within<T>(work: impl IntoFuture<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, work)
        .await
        .expect("this hangs")
}

/// What comes of `work`, which ends itself before `limit`. It is the runtime that compares: wherever
/// the machine pauses, what is due earlier is done earlier.
///
/// # Panics
/// When it is not done by then.
pub async fn in_time<T>(limit: Duration, work: impl IntoFuture<Output = T>) -> T {
    tokio::time::timeout(limit, work)
        .await
        .unwrap_or_else(|_| panic!("not done within {limit:?}"))
}

/// A replica set of one member, started once for all tests of a program and left alone by them;
/// it ends with the program.
///
/// # Panics
/// When it cannot be started.
pub fn shared_set() -> &'static ReplicaSet {
    static SET: OnceLock<ReplicaSet> = OnceLock::new();
    SET.get_or_init(|| ReplicaSet::start(1).expect("a replica set of one member starts"))
}

/// A client of [`shared_set`].
///
/// # Panics
/// When the set cannot be started.
pub async fn shared_client() -> Client {
    let uri = tokio::task::spawn_blocking(|| shared_set().uri()).await;
    Client::new(&uri.expect("the set has a URI")).expect("the testbed's URI is valid")
}

/// A database that no other test of the program uses.
pub fn own_database(client: &Client) -> Database {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    client.database(format!("test{}", NEXT.fetch_add(1, Ordering::Relaxed)))
}

/// A client of [`shared_set`], and a collection in a database of its own.
///
/// # Panics
/// When the set cannot be started.
pub async fn place() -> (Client, Database, Collection) {
    let client = shared_client().await;
    let database = own_database(&client);
    let collection = database.collection("things");
    (client, database, collection)
}

/// Pings any server.
///
/// # Errors
/// What the client says.
pub async fn ping(client: &Client) -> Result<()> {
    let command = rawdoc! { "ping": 1 };
    within(client.run_admin_command(&command)).await.map(drop)
}

/// Why the only server of a deployment cannot be reached, and how the client puts it.
///
/// # Panics
/// When it can.
pub async fn why_unreachable(uri: &str) -> (Arc<Error>, String) {
    let client = Client::new(&format!("{uri}&serverSelectionTimeoutMS=1000"));
    let client = client.expect("a connection string");
    loop {
        let Err(Error::Selection { causes, reason, .. }) = ping(&client).await else {
            panic!("{uri}: no server is suitable");
        };
        // A busy machine may need longer than a second to fail.
        if let [cause] = causes.as_slice() {
            return (Arc::clone(cause), reason.to_string());
        }
    }
}

/// Inserts documents with these `_id`s and waits until a majority has them.
///
/// # Panics
/// When the server refuses.
pub async fn insert(database: &Database, collection: &str, ids: impl IntoIterator<Item = i32>) {
    let documents: bson::RawArrayBuf = ids.into_iter().map(|id| rawdoc! { "_id": id }).collect();
    let mut command = rawdoc! { "insert": collection };
    command.append(bson::cstr!("documents"), documents);
    run(database, command).await;
}

/// Runs a write at majority write concern.
///
/// # Panics
/// When the server refuses.
pub async fn run(database: &Database, mut command: RawDocumentBuf) {
    command.append(bson::cstr!("writeConcern"), rawdoc! { "w": "majority" });
    let reply = database
        .run_command(&command)
        .await
        .expect("the server takes the write");
    let errors = reply
        .document()
        .as_raw()
        .get("writeErrors")
        .expect("a readable reply");
    assert!(errors.is_none(), "{errors:?}");
}

/// The next event of a stream.
///
/// # Panics
/// When it fails or ends, or none comes within [`PATIENCE`].
pub async fn next<T>(stream: &mut ChangeStream<T>) -> RawEvent {
    let event = within(stream.next_raw()).await;
    event.expect("the stream goes on").expect("an event")
}

/// The same for one that is about a document; its `_id`.
///
/// # Panics
/// As [`next`] and [`id_of`] do.
pub async fn next_id(stream: &mut ChangeStream) -> i32 {
    id_of(&next(stream).await)
}

/// The `_id` of the document that an event is about.
///
/// # Panics
/// When it is not about a document with an integer as its `_id`.
pub fn id_of(event: &RawEvent) -> i32 {
    let key = event.document_key().expect("an event about a document");
    key.get_i32("_id").expect("an integer as _id")
}
