//! What an event says that the soak is about, and what the oplog says of the same write.

use bson::Timestamp;
use serde::Deserialize;

/// The database of all writes.
pub(crate) const DATABASE: &str = "soak";

/// The collections with the load.
pub(crate) const LOADED: [&str; 3] = ["orders", "stock", "letters"];

/// The collection that is dropped and renamed again and again.
pub(crate) const SIDE: &str = "side";

/// The collection of the last write of all.
pub(crate) const END: &str = "end";

/// The document that is the last one inserted into a collection.
pub(crate) const LAST_ID: i64 = -1;

/// What was done, in the order in which events of one cluster time come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Operation {
    Insert,
    Update,
    Delete,
    Drop,
    Rename,
    Invalidate,
}

/// One change, as both the oplog and an event identify it. Their order is that of the oplog.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Record {
    /// Seconds and increment: no two entries of an oplog have the same.
    pub(crate) time: (u32, u32),
    pub(crate) operation: Operation,
    /// Empty for an invalidate event, which names none.
    pub(crate) collection: String,
    /// The document; 0 for what is about a whole collection.
    pub(crate) id: i64,
}

impl Record {
    /// What a stream of one collection gets behind its drop or rename.
    pub(crate) fn invalidate(&self) -> Self {
        Self {
            time: self.time,
            operation: Operation::Invalidate,
            collection: String::new(),
            id: 0,
        }
    }
}

/// What a stream is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    Cluster,
    Collection(&'static str),
}

impl Scope {
    pub(crate) fn sees(self, record: &Record) -> bool {
        match self {
            Self::Cluster => true,
            Self::Collection(name) => record.collection == name,
        }
    }

    /// Whether the stream has an invalidate event behind this.
    pub(crate) fn ends_with(self, record: &Record) -> bool {
        let is_end = matches!(record.operation, Operation::Drop | Operation::Rename);
        self != Self::Cluster && is_end
    }

    /// Whether nothing comes behind this.
    pub(crate) fn is_last(self, record: &Record) -> bool {
        let last_of = match self {
            Self::Cluster => END,
            Self::Collection(name) => name,
        };
        record.collection == last_of && record.id == LAST_ID
    }
}

/// An event, as far as it matters here.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Change {
    operation_type: Operation,
    cluster_time: Timestamp,
    ns: Option<Namespace>,
    document_key: Option<Key>,
    full_document: Option<State>,
    update_description: Option<Update>,
}

#[derive(Debug, Deserialize)]
struct Namespace {
    db: String,
    coll: String,
}

#[derive(Debug, Deserialize)]
struct Key {
    #[serde(rename = "_id")]
    id: i64,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Update {
    updated_fields: State,
}

/// What a writer notes in a document with each write.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(crate) struct State {
    /// Counts the writes to the document, from 0.
    pub(crate) version: i64,
    /// When it was first sent, in microseconds since the start.
    pub(crate) sent: i64,
}

impl Change {
    /// # Errors
    /// It is about something that nobody here writes.
    pub(crate) fn record(&self) -> anyhow::Result<Record> {
        let collection = match &self.ns {
            Some(ns) if ns.db == DATABASE => ns.coll.clone(),
            None if self.operation_type == Operation::Invalidate => String::new(),
            _ => anyhow::bail!("an event from elsewhere: {self:?}"),
        };
        Ok(Record {
            time: (self.cluster_time.time, self.cluster_time.increment),
            operation: self.operation_type,
            collection,
            id: self.document_key.as_ref().map_or(0, |key| key.id),
        })
    }

    /// The writer's note, where the event has one.
    pub(crate) fn state(&self) -> Option<State> {
        let updated = self.update_description.as_ref();
        self.full_document
            .or(updated.map(|update| update.updated_fields))
    }
}
