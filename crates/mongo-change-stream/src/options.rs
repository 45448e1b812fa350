//! What to watch and how (change streams, "ChangeStreamOptions" and "Helper Method").

use std::{fmt, time::Duration};

use bson::{RawBson, Timestamp, raw::RawDocumentBuf};

use crate::ResumeToken;

/// What a change stream watches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WatchTarget {
    /// One collection.
    Collection {
        /// Its database.
        database: String,
        /// Its name.
        collection: String,
    },
    /// Every collection of a database, system collections aside.
    Database(String),
    /// Every collection of every database, `admin`, `config` and `local` aside.
    Cluster,
}

impl WatchTarget {
    /// The database the `aggregate` is sent to.
    #[must_use]
    pub fn database(&self) -> &str {
        match self {
            Self::Collection { database, .. } | Self::Database(database) => database,
            Self::Cluster => "admin",
        }
    }
}

/// `database.collection`, `database`, or `cluster`.
impl fmt::Display for WatchTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Collection {
                database,
                collection,
            } => write!(f, "{database}.{collection}"),
            Self::Database(database) => f.write_str(database),
            Self::Cluster => f.write_str("cluster"),
        }
    }
}

/// The options of a change stream. An unset option leaves no key in any command, and no value is
/// validated here: the server decides, as the specification wants it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct WatchOptions {
    /// How `fullDocument` is filled for updates.
    pub full_document: Option<FullDocumentType>,
    /// Whether the document before the change is added.
    pub full_document_before_change: Option<FullDocumentBeforeChangeType>,
    /// Start after the event of this token. Refused by the server for an invalidate event.
    pub resume_after: Option<ResumeToken>,
    /// Start after the event of this token, which may be an invalidate event.
    pub start_after: Option<ResumeToken>,
    /// Start with the changes at or after this cluster time.
    pub start_at_operation_time: Option<Timestamp>,
    /// How long the server waits for news before it answers a `getMore` with nothing. Becomes
    /// `maxTimeMS`; the server's own default is one second.
    pub max_await_time: Option<Duration>,
    /// Events a batch holds at most. Zero asks for an empty first batch and is left out afterwards.
    pub batch_size: Option<u32>,
    /// The collation for the pipeline.
    pub collation: Option<RawDocumentBuf>,
    /// A comment for the server's logs and profiler, repeated on every `getMore` since 4.4.
    pub comment: Option<RawBson>,
    /// Also report index, create, modify and sharding events (6.0 and later).
    pub show_expanded_events: Option<bool>,
}

impl WatchOptions {
    /// The token the stream stands at before anything was received: `startAfter`, else
    /// `resumeAfter` (change streams, "Updating the Cached Resume Token").
    #[must_use]
    pub fn initial_token(&self) -> Option<&ResumeToken> {
        self.start_after.as_ref().or(self.resume_after.as_ref())
    }
}

macro_rules! open_string {
    ($(#[$doc:meta])* $name:ident {
        $($(#[$variant_doc:meta])* $variant:ident = $text:literal,)+
    }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)+
            /// A value this version does not know, kept as it is.
            Other(String),
        }

        impl $name {
            /// The server's word for it.
            #[must_use]
            pub fn as_str(&self) -> &str {
                match self {
                    $(Self::$variant => $text,)+
                    Self::Other(text) => text,
                }
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                match text {
                    $($text => Self::$variant,)+
                    other => Self::Other(other.to_owned()),
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}
pub(crate) use open_string;

open_string! {
    /// The values of `fullDocument`; open, since servers may learn new ones.
    FullDocumentType {
        /// Only inserts and replaces carry the document.
        Default = "default",
        /// Updates carry the document as it is when the server looks it up.
        UpdateLookup = "updateLookup",
        /// Updates carry the post-image if the server has it.
        WhenAvailable = "whenAvailable",
        /// Updates carry the post-image, and its absence is an error.
        Required = "required",
    }
}

open_string! {
    /// The values of `fullDocumentBeforeChange`; open, since servers may learn new ones.
    FullDocumentBeforeChangeType {
        /// No pre-images.
        Off = "off",
        /// The pre-image if the server has it.
        WhenAvailable = "whenAvailable",
        /// The pre-image, and its absence is an error.
        Required = "required",
    }
}
