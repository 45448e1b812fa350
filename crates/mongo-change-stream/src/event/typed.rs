//! Events as a struct, read by serde straight from the slice.
//!
//! The implementations are written out rather than derived: `#[serde(flatten)]`, which would keep
//! unknown fields, buffers every value, loses BSON types and cannot borrow.

use std::{borrow::Cow, collections::BTreeMap, fmt, marker::PhantomData};

use bson::{DateTime, RawBson, Timestamp, Uuid, raw::RawDocumentBuf};
use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, Visitor},
};

use super::{Image, NamespaceType, OperationType};
use crate::{ResumeToken, options::TextVisitor};

/// A change event as servers up to 8.1 send it, with documents of the watched collection as `T`.
///
/// Meant for pipelines that leave the event's shape alone. Fields that are missing are `None`;
/// unknown ones are kept in `extra`. `T` may borrow from the event.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ChangeEvent<T> {
    /// `_id`.
    pub id: ResumeToken,
    /// What happened; `Other("")` if the field is missing, as in the later fragments of a split
    /// event.
    pub operation_type: OperationType,
    /// Place in the oplog.
    pub cluster_time: Option<Timestamp>,
    /// The server's clock (6.0).
    pub wall_time: Option<DateTime>,
    /// Where it happened.
    pub ns: Option<EventNamespace>,
    /// What was created (8.1, expanded events).
    pub ns_type: Option<NamespaceType>,
    /// The new name of a renamed collection.
    pub to: Option<EventNamespace>,
    /// Which document: `_id`, and the shard key before it.
    pub document_key: Option<RawDocumentBuf>,
    /// The document after the change.
    pub full_document: Image<T>,
    /// The document before the change.
    pub full_document_before_change: Image<T>,
    /// What an update changed.
    pub update_description: Option<UpdateDescription>,
    /// Details of an operation on a collection (6.0, expanded events).
    pub operation_description: Option<RawDocumentBuf>,
    /// The collection's UUID (6.0, expanded events).
    pub collection_uuid: Option<Uuid>,
    /// The number of the transaction, within its session.
    pub txn_number: Option<i64>,
    /// The session of the transaction.
    pub lsid: Option<RawDocumentBuf>,
    /// Which fragment of a split event this is.
    pub split_event: Option<SplitEvent>,
    /// Fields this version does not know.
    pub extra: BTreeMap<String, RawBson>,
}

/// `ns` and `to` of an event.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct EventNamespace {
    /// The database.
    pub db: String,
    /// The collection; absent when the whole database was dropped.
    pub coll: Option<String>,
    /// Fields this version does not know.
    pub extra: BTreeMap<String, RawBson>,
}

/// `updateDescription` of an event.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct UpdateDescription {
    /// New values by dotted path, truncations aside.
    pub updated_fields: Option<RawDocumentBuf>,
    /// Dotted paths that are gone.
    pub removed_fields: Vec<String>,
    /// Arrays that were cut short (4.7).
    pub truncated_arrays: Vec<TruncatedArray>,
    /// The components of paths that dots or digits make ambiguous (6.1, expanded events).
    pub disambiguated_paths: Option<RawDocumentBuf>,
    /// Fields this version does not know.
    pub extra: BTreeMap<String, RawBson>,
}

/// An array that was cut short.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct TruncatedArray {
    /// Its dotted path.
    pub field: String,
    /// Elements left.
    pub new_size: i64,
    /// Fields this version does not know.
    pub extra: BTreeMap<String, RawBson>,
}

/// `splitEvent`: which part of an event this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct SplitEvent {
    /// Counted from 1.
    pub fragment: u32,
    /// How many there are.
    pub of: u32,
}

macro_rules! deserialize_open {
    ($name:ident $(<$t:ident>)? {
        required: { $($required_key:literal => $required:ident),* },
        optional: { $($key:literal => $field:ident),* $(,)? },
    }) => {
        impl<'de $(, $t: Deserialize<'de>)?> Deserialize<'de> for $name $(<$t>)? {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Fields $(<$t>)? (PhantomData<($($t,)?)>);

                impl<'de $(, $t: Deserialize<'de>)?> Visitor<'de> for Fields $(<$t>)? {
                    type Value = $name $(<$t>)?;

                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str(concat!("struct ", stringify!($name)))
                    }

                    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                        $(let mut $required = None;)*
                        $(let mut $field = Default::default();)*
                        let mut extra = BTreeMap::new();
                        while let Some(Key(key)) = map.next_key()? {
                            match key.as_ref() {
                                $($required_key => $required = Some(map.next_value()?),)*
                                $($key => $field = map.next_value()?,)*
                                _ => drop(extra.insert(key.into_owned(), map.next_value()?)),
                            }
                        }
                        $(let $required = $required.ok_or_else(|| A::Error::missing_field($required_key))?;)*
                        Ok($name { $($required,)* $($field,)* extra })
                    }
                }

                deserializer.deserialize_map(Fields(PhantomData))
            }
        }
    };
}

/// A key that is only copied when it has to be kept.
struct Key<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Key<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(TextVisitor).map(Self)
    }
}

deserialize_open! {
    ChangeEvent<T> {
        required: { "_id" => id },
        optional: {
            "operationType" => operation_type,
            "clusterTime" => cluster_time,
            "wallTime" => wall_time,
            "ns" => ns,
            "nsType" => ns_type,
            "to" => to,
            "documentKey" => document_key,
            "fullDocument" => full_document,
            "fullDocumentBeforeChange" => full_document_before_change,
            "updateDescription" => update_description,
            "operationDescription" => operation_description,
            "collectionUUID" => collection_uuid,
            "txnNumber" => txn_number,
            "lsid" => lsid,
            "splitEvent" => split_event,
        },
    }
}

deserialize_open! {
    EventNamespace {
        required: { "db" => db },
        optional: {
            "coll" => coll,
        },
    }
}

deserialize_open! {
    UpdateDescription {
        required: {},
        optional: {
            "updatedFields" => updated_fields,
            "removedFields" => removed_fields,
            "truncatedArrays" => truncated_arrays,
            "disambiguatedPaths" => disambiguated_paths,
        },
    }
}

deserialize_open! {
    TruncatedArray {
        required: { "field" => field, "newSize" => new_size },
        optional: {},
    }
}
