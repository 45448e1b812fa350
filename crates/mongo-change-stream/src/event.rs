//! Events as slices of a reply, read field by field where somebody asks
//! (change streams, "Response Format").

use std::fmt;

use bson::{DateTime, Timestamp, raw::RawDocument};
use mongo_wire::{Document, Element, Elements};
use serde::Deserialize;

use crate::{ResumeToken, StreamError, options::open_string};

mod de;
mod typed;

pub use typed::{ChangeEvent, EventNamespace, SplitEvent, TruncatedArray, UpdateDescription};

open_string! {
    /// What happened; open, since servers learn new operations.
    OperationType {
        /// A document was inserted.
        Insert = "insert",
        /// A document was updated.
        Update = "update",
        /// A document was replaced.
        Replace = "replace",
        /// A document was deleted.
        Delete = "delete",
        /// The watched namespace is gone and the stream ends.
        Invalidate = "invalidate",
        /// A collection was dropped.
        Drop = "drop",
        /// A database was dropped.
        DropDatabase = "dropDatabase",
        /// A collection was renamed.
        Rename = "rename",
        /// Indexes were created.
        CreateIndexes = "createIndexes",
        /// Indexes were dropped.
        DropIndexes = "dropIndexes",
        /// A collection's options were modified.
        Modify = "modify",
        /// A collection, view or time series was created.
        Create = "create",
        /// A collection was sharded.
        ShardCollection = "shardCollection",
        /// A shard key got more fields.
        RefineCollectionShardKey = "refineCollectionShardKey",
        /// A collection got another shard key.
        ReshardCollection = "reshardCollection",
    }
}

open_string! {
    /// What was created; open, since servers may learn new kinds.
    NamespaceType {
        /// A collection.
        Collection = "collection",
        /// A time series.
        TimeSeries = "timeseries",
        /// A view.
        View = "view",
    }
}

/// The operation of an event without the field: a later fragment of a split event, or one that a
/// pipeline stage has reshaped.
impl Default for OperationType {
    fn default() -> Self {
        Self::Other(String::new())
    }
}

/// A pre- or post-image: the three things that a field can say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Image<T> {
    /// The field is not there; nobody asked, or the operation has none.
    #[default]
    Absent,
    /// Asked for and not available: the document was deleted meanwhile, or its image expired.
    Null,
    /// The document.
    Present(T),
}

impl<T> Image<T> {
    /// The document, if there is one.
    pub fn present(self) -> Option<T> {
        match self {
            Self::Present(document) => Some(document),
            Self::Absent | Self::Null => None,
        }
    }

    /// The same, borrowed.
    pub fn as_ref(&self) -> Image<&T> {
        match self {
            Self::Present(document) => Image::Present(document),
            Self::Null => Image::Null,
            Self::Absent => Image::Absent,
        }
    }
}

/// The namespace of an event, borrowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NamespaceRef<'a> {
    /// The database.
    pub database: &'a str,
    /// The collection; absent when the whole database was dropped.
    pub collection: Option<&'a str>,
}

impl fmt::Display for NamespaceRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.collection {
            Some(collection) => write!(f, "{}.{collection}", self.database),
            None => f.write_str(self.database),
        }
    }
}

/// An event as it lies in the reply. Nothing is read before it is asked for; a field that is
/// missing, or that a pipeline stage has replaced by something else, is `None`.
#[derive(Clone, Copy)]
pub struct EventRef<'a>(&'a RawDocument);

impl<'a> EventRef<'a> {
    /// Views a document as an event.
    #[must_use]
    pub fn new(document: &'a RawDocument) -> Self {
        Self(document)
    }

    /// The whole event.
    #[must_use]
    pub fn document(self) -> &'a RawDocument {
        self.0
    }

    /// `_id`, the event's token.
    #[must_use]
    pub fn id(self) -> Option<&'a RawDocument> {
        self.field("_id")?.as_document()
    }

    /// `operationType`.
    #[must_use]
    pub fn operation_type(self) -> Option<OperationType> {
        self.field("operationType")?
            .as_str()
            .map(OperationType::from)
    }

    /// `ns`, where the change happened.
    #[must_use]
    pub fn namespace(self) -> Option<NamespaceRef<'a>> {
        self.namespace_in("ns")
    }

    /// `to`, the new name of a renamed collection.
    #[must_use]
    pub fn to(self) -> Option<NamespaceRef<'a>> {
        self.namespace_in("to")
    }

    /// `documentKey`: `_id`, and the shard key before it.
    #[must_use]
    pub fn document_key(self) -> Option<&'a RawDocument> {
        self.field("documentKey")?.as_document()
    }

    /// `clusterTime`, the event's place in the oplog.
    #[must_use]
    pub fn cluster_time(self) -> Option<Timestamp> {
        self.field("clusterTime")?.as_timestamp()
    }

    /// `wallTime`, the server's clock (6.0 and later).
    #[must_use]
    pub fn wall_time(self) -> Option<DateTime> {
        self.field("wallTime")?.as_datetime()
    }

    /// `fullDocument`.
    #[must_use]
    pub fn full_document(self) -> Image<&'a RawDocument> {
        self.image("fullDocument")
    }

    /// `fullDocumentBeforeChange`.
    #[must_use]
    pub fn full_document_before_change(self) -> Image<&'a RawDocument> {
        self.image("fullDocumentBeforeChange")
    }

    /// `updateDescription`.
    #[must_use]
    pub fn update_description(self) -> Option<&'a RawDocument> {
        self.field("updateDescription")?.as_document()
    }

    /// `splitEvent`, on a fragment of an event that `$changeStreamSplitLargeEvent` has cut.
    #[must_use]
    pub fn split_event(self) -> Option<SplitEvent> {
        let split = self.field("splitEvent")?.as_document()?;
        let number = |key| u32::try_from(split.get_i32(key).ok()?).ok();
        Some(SplitEvent {
            fragment: number("fragment")?,
            of: number("of")?,
        })
    }

    /// Reads the event as any type; strings and documents in it may be borrowed.
    ///
    /// # Errors
    /// [`StreamError::Event`] if the event does not have that shape.
    pub fn deserialize<T: Deserialize<'a>>(self) -> Result<T, StreamError> {
        de::from_document(self.0).map_err(StreamError::Event)
    }

    fn field(self, key: &str) -> Option<Element<'a>> {
        Elements::find(self.0, key)
    }

    fn namespace_in(self, key: &str) -> Option<NamespaceRef<'a>> {
        let ns = self.field(key)?.as_document()?;
        Some(NamespaceRef {
            database: Elements::find(ns, "db")?.as_str()?,
            collection: Elements::find(ns, "coll").and_then(|name| name.as_str()),
        })
    }

    fn image(self, key: &str) -> Image<&'a RawDocument> {
        match self.field(key) {
            Some(image) if image.is_null() => Image::Null,
            image => image
                .and_then(|image| image.as_document())
                .map_or(Image::Absent, Image::Present),
        }
    }
}

impl fmt::Debug for EventRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match bson::Document::try_from(self.0) {
            Ok(document) => write!(f, "EventRef({document})"),
            Err(_) => write!(f, "EventRef({} bytes)", self.0.as_bytes().len()),
        }
    }
}

/// An event that owns its share of the reply: cheap to clone and to send, without a copy. It keeps
/// the whole reply in memory.
#[derive(Clone, PartialEq, Eq)]
pub struct RawEvent(Document);

impl RawEvent {
    /// The event, borrowed; all accessors are there.
    #[must_use]
    pub fn view(&self) -> EventRef<'_> {
        EventRef(self.0.as_raw())
    }

    /// The whole event.
    #[must_use]
    pub fn document(&self) -> &RawDocument {
        self.0.as_raw()
    }

    /// The bytes, without a copy.
    #[must_use]
    pub fn into_document(self) -> Document {
        self.0
    }

    /// `_id` as a token that shares the reply; see [`ResumeToken::compact`].
    #[must_use]
    pub fn token(&self) -> Option<ResumeToken> {
        token_of(&self.0)
    }

    /// `operationType`.
    #[must_use]
    pub fn operation_type(&self) -> Option<OperationType> {
        self.view().operation_type()
    }

    /// `ns`, where the change happened.
    #[must_use]
    pub fn namespace(&self) -> Option<NamespaceRef<'_>> {
        self.view().namespace()
    }

    /// `documentKey`: `_id`, and the shard key before it.
    #[must_use]
    pub fn document_key(&self) -> Option<&RawDocument> {
        self.view().document_key()
    }

    /// `clusterTime`, the event's place in the oplog.
    #[must_use]
    pub fn cluster_time(&self) -> Option<Timestamp> {
        self.view().cluster_time()
    }

    /// `wallTime`, the server's clock (6.0 and later).
    #[must_use]
    pub fn wall_time(&self) -> Option<DateTime> {
        self.view().wall_time()
    }

    /// `fullDocument`.
    #[must_use]
    pub fn full_document(&self) -> Image<&RawDocument> {
        self.view().full_document()
    }

    /// Reads the event as any type; strings and documents in it may be borrowed.
    ///
    /// # Errors
    /// [`StreamError::Event`] if the event does not have that shape.
    pub fn deserialize<'a, T: Deserialize<'a>>(&'a self) -> Result<T, StreamError> {
        self.view().deserialize()
    }
}

impl From<Document> for RawEvent {
    fn from(document: Document) -> Self {
        Self(document)
    }
}

impl fmt::Debug for RawEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.view().fmt(f)
    }
}

/// The `_id` of an event as a slice of it, if it is a document.
pub(crate) fn token_of(event: &Document) -> Option<ResumeToken> {
    let id = EventRef(event.as_raw()).id()?;
    event.share(id).map(ResumeToken::from)
}
