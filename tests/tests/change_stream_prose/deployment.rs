//! The replica set of the version that is being tested, and what a test needs of it.

use std::sync::{Mutex, PoisonError};

use bson::{Document, RawDocumentBuf, doc, rawdoc};
use integration_tests::own_database;
use integration_tests::recorder::{Recorder, sent};
use mongo_client::change_stream::ResumeToken;
use mongo_client::events::CommandStep;
use mongo_client::{Client, ClientOptions, Collection, Database, Event};
use testbed::cluster::{ReplicaSet, ReplicaSetOptions};
use testbed::mongod::ServerVersion;

static CURRENT: Mutex<Option<(ServerVersion, ReplicaSet)>> = Mutex::new(None);

/// The URI of a set of this version; the set of another version ends first.
fn uri(version: ServerVersion) -> String {
    let mut current = CURRENT.lock().unwrap_or_else(PoisonError::into_inner);
    if current.as_ref().is_none_or(|(known, _)| *known != version) {
        drop(current.take());
        let mut options = ReplicaSetOptions::new(1);
        options.version = version;
        let set = options.start().expect("a replica set of one member starts");
        *current = Some((version, set));
    }
    let (_, set) = current.as_ref().expect("just started");
    set.uri()
}

/// Ends the last set.
pub(crate) fn stop() {
    drop(
        CURRENT
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take(),
    );
}

/// Runs a test to its end on a runtime of its own.
pub(crate) fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(test);
}

/// A client whose commands are recorded, and a database of its own.
pub(crate) struct World {
    pub(crate) version: ServerVersion,
    pub(crate) client: Client,
    pub(crate) recorder: Recorder,
    pub(crate) database: Database,
    pub(crate) collection: Collection,
}

impl World {
    pub(crate) async fn new(version: ServerVersion) -> Self {
        let uri = format!("{}&retryReads=false", uri(version));
        let recorder = Recorder::default();
        let options = ClientOptions::parse(&uri).unwrap();
        let client = Client::with_options(options.on_event(recorder.listener())).unwrap();
        let database = own_database(&client);
        let collection = database.collection("things");
        integration_tests::run(&database, rawdoc! { "create": "things" }).await;
        Self {
            version,
            client,
            recorder,
            database,
            collection,
        }
    }

    pub(crate) fn is_4_2(&self) -> bool {
        self.version == ServerVersion::V4_2
    }

    pub(crate) async fn insert(&self, ids: std::ops::Range<i32>) {
        integration_tests::insert(&self.database, "things", ids).await;
    }

    /// Lets the next commands of these names fail with an error that a change stream survives.
    pub(crate) async fn fail_resumably(&self, commands: &[&str], times: i32) {
        self.fail(commands, times, 6).await;
    }

    /// Lets the next commands of these names fail with this code and, where servers know labels,
    /// as resumable.
    pub(crate) async fn fail(&self, commands: &[&str], times: i32, code: i32) {
        let commands = commands.iter().copied().collect::<bson::RawArrayBuf>();
        let mut data = rawdoc! { "failCommands": commands, "errorCode": code };
        if !self.is_4_2() {
            data.append(
                bson::cstr!("errorLabels"),
                [bson::RawBson::from("ResumableChangeStreamError")]
                    .into_iter()
                    .collect::<bson::RawArrayBuf>(),
            );
        }
        let command = rawdoc! {
            "configureFailPoint": "failCommand", "mode": { "times": times }, "data": data,
        };
        self.client.run_admin_command(&command).await.unwrap();
    }

    /// The commands of this name that were sent, as they were sent.
    pub(crate) fn sent(&self, name: &str) -> Vec<Document> {
        documents(self.recorder.sent(name))
    }

    /// Waits until so many commands of this name were sent.
    pub(crate) async fn wait_for_sent(&self, name: &str, count: usize) -> Vec<Document> {
        let enough = |events: &[Event]| sent(events, name).len() >= count;
        documents(sent(&self.recorder.wait_for(enough).await, name))
    }

    /// The cursors that the server answered `aggregate` and `getMore` with.
    pub(crate) fn cursors(&self) -> Vec<Document> {
        let events = self.recorder.events();
        let replies = events.iter().filter_map(|event| match event {
            Event::Command(event) => match &event.step {
                CommandStep::Succeeded { reply, .. } => Some(reply),
                _ => None,
            },
            _ => None,
        });
        replies
            .filter_map(|reply| reply.as_raw().get_document("cursor").ok())
            .map(|cursor| cursor.try_into().unwrap())
            .collect()
    }
}

fn documents(commands: Vec<RawDocumentBuf>) -> Vec<Document> {
    let commands = commands.into_iter();
    commands
        .map(|command| command.try_into().unwrap())
        .collect()
}

/// The stage `$changeStream` of an aggregate.
pub(crate) fn stage(aggregate: &Document) -> Document {
    let first = aggregate.get_array("pipeline").unwrap()[0].clone();
    let first = first.as_document().unwrap();
    first.get_document("$changeStream").unwrap().clone()
}

/// The events of a reply's batch.
pub(crate) fn batch(cursor: &Document) -> Vec<Document> {
    let batch = cursor
        .get_array("firstBatch")
        .or_else(|_| cursor.get_array("nextBatch"));
    let events = batch.unwrap().iter();
    events
        .map(|event| event.as_document().unwrap().clone())
        .collect()
}

pub(crate) fn document(token: Option<ResumeToken>) -> Option<Document> {
    token.map(|token| token.as_raw().try_into().unwrap())
}

pub(crate) fn raw(document: &Document) -> RawDocumentBuf {
    document.try_into().unwrap()
}

/// What a token would be in a command.
pub(crate) fn token(document: &Document) -> ResumeToken {
    ResumeToken::from(raw(document))
}

/// An update of one document.
pub(crate) fn update(id: i32, change: Document) -> RawDocumentBuf {
    raw(&doc! { "update": "things", "updates": [{ "q": { "_id": id }, "u": change }] })
}
