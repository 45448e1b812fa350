//! A checkpoint in a collection.

use bson::{RawDocumentBuf, cstr, rawdoc};
use mongo_change_stream::Checkpoint;
use mongo_uri::ReadPreference;

use super::{CheckpointFailure, CheckpointStore};
use crate::database::Collection;
use crate::error::{Error, Result};

/// Keeps a checkpoint as a document of a collection, written and read with majority concern, on the
/// primary; through a failover, both are tried again.
///
/// The collection may be on another deployment than the stream. If it is among what the stream
/// watches, the stream sees its own checkpoints: leave it out by a filter.
///
/// ```no_run
/// use mongo_client::checkpoint::{CheckpointStore, CollectionStore};
///
/// # async fn f(client: mongo_client::Client) -> mongo_client::Result<()> {
/// let checkpoints = client.database("indexer").collection("checkpoints");
/// let store = CollectionStore::new(checkpoints, "orders");
/// let saved = store.load().await?;
/// # let _ = saved;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct CollectionStore {
    collection: Collection,
    name: String,
}

impl CollectionStore {
    /// A store in the document whose `_id` is `name`.
    #[must_use]
    pub fn new(collection: Collection, name: impl Into<String>) -> Self {
        Self {
            collection,
            name: name.into(),
        }
    }

    fn key(&self) -> RawDocumentBuf {
        rawdoc! { "_id": self.name.as_str() }
    }
}

impl CheckpointStore for CollectionStore {
    /// # Errors
    /// [`CheckpointFailure::Unreadable`] when the document is none, and whatever prevents a reply.
    async fn load(&self) -> Result<Option<Checkpoint>> {
        let command = rawdoc! {
            "find": self.collection.name(),
            "filter": self.key(),
            "limit": 1,
            "singleBatch": true,
            "readConcern": { "level": "majority" },
        };
        let load = self.collection.database().run_command(&command);
        // From the primary, whatever the connection string prefers: a saved place must be found.
        let load = load.read_preference(ReadPreference::default());
        let reply = load.as_read().await?;
        let cursor = reply
            .cursor()
            .map_err(|error| self.failed(error.to_string()))?;
        let Some(found) = cursor.batch.iter().next() else {
            return Ok(None);
        };
        let found = found.map_err(|error| self.failed(error.to_string()))?;
        let checkpoint = Checkpoint::from_document(found).map_err(CheckpointFailure::from);
        Ok(Some(checkpoint.map_err(Box::new)?))
    }

    /// # Errors
    /// [`CheckpointFailure::Store`] when the write is refused, and whatever prevents a reply; then
    /// it may have been written all the same.
    async fn save(&self, checkpoint: &Checkpoint) -> Result<()> {
        let mut update = rawdoc! { "q": self.key(), "upsert": true };
        update.append(cstr!("u"), checkpoint.to_document());
        let command = rawdoc! {
            "update": self.collection.name(),
            "updates": [update],
            "writeConcern": { "w": "majority" },
        };
        let save = self.collection.database().run_command(&command);
        let reply = save.as_write().await?;
        let refused = reply.document().as_raw().get("writeErrors");
        if let Ok(Some(errors)) = refused {
            return Err(self.failed(format!("not written: {errors:?}")));
        }
        match reply.write_concern_error() {
            Ok(Some(error)) => Err(self.failed(format!("not safe yet: {error}"))),
            _ => Ok(()),
        }
    }
}

impl CollectionStore {
    fn failed(&self, reason: String) -> Error {
        let failure = CheckpointFailure::Store {
            name: self.name.clone(),
            reason,
        };
        Error::Checkpoint(Box::new(failure))
    }
}
