//! Events as a struct, read straight from the slice.
//!
//! Only the documents of the watched collection go through serde; the event's own fields are read
//! by hand, which costs a fraction and keeps unknown fields exactly as they came.

use std::{fmt, marker::PhantomData};

use bson::{
    Binary, DateTime, RawBson, Timestamp, Uuid,
    raw::{RawDocument, RawDocumentBuf},
};
use mongo_wire::{Element, Elements};
use serde::{
    Deserialize, Deserializer,
    de::{Error, Visitor},
};

use super::{Image, NamespaceType, OperationType, de};
use crate::{ResumeToken, token};

/// A change event as servers up to 8.1 send it, with documents of the watched collection as `T`.
///
/// Meant for pipelines that leave the event's shape alone. Fields that are missing are `None`;
/// unknown ones are kept in `extra`. `T` may borrow from the event. It is read from raw BSON only,
/// as [`RawEvent::deserialize`](crate::RawEvent::deserialize) and
/// `bson::deserialize_from_slice` do.
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
    pub to: Option<Box<EventNamespace>>,
    /// Which document: `_id`, and the shard key before it.
    pub document_key: Option<RawDocumentBuf>,
    /// The document after the change.
    pub full_document: Image<T>,
    /// The document before the change.
    pub full_document_before_change: Image<T>,
    /// What an update changed.
    pub update_description: Option<Box<UpdateDescription>>,
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
    /// Fields this version does not know, in their order.
    pub extra: Vec<(String, RawBson)>,
}

/// `ns` and `to` of an event.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct EventNamespace {
    /// The database.
    pub db: String,
    /// The collection; absent when the whole database was dropped.
    pub coll: Option<String>,
    /// Fields this version does not know, in their order.
    pub extra: Vec<(String, RawBson)>,
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
    /// Fields this version does not know, in their order.
    pub extra: Vec<(String, RawBson)>,
}

/// An array that was cut short.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct TruncatedArray {
    /// Its dotted path.
    pub field: String,
    /// Elements left.
    pub new_size: i64,
    /// Fields this version does not know, in their order.
    pub extra: Vec<(String, RawBson)>,
}

/// `splitEvent`: which part of an event this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SplitEvent {
    /// Counted from 1.
    pub fragment: u32,
    /// How many there are.
    pub of: u32,
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for ChangeEvent<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_newtype_struct(de::WHOLE_DOCUMENT, EventVisitor(PhantomData))
    }
}

struct EventVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for EventVisitor<T> {
    type Value = ChangeEvent<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a change event")
    }

    fn visit_borrowed_bytes<E: Error>(self, bytes: &'de [u8]) -> Result<Self::Value, E> {
        let event = RawDocument::from_bytes(bytes).map_err(E::custom)?;
        ChangeEvent::of(event).map_err(E::custom)
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(
        self,
        deserializer: D,
    ) -> Result<Self::Value, D::Error> {
        let event = <&RawDocument>::deserialize(deserializer)?;
        ChangeEvent::of(event).map_err(D::Error::custom)
    }
}

/// Which field does not fit, and why; boxed, as it is rare and would make every result large.
struct Misfit(Box<Reason>);

struct Reason {
    path: String,
    reason: String,
}

impl Misfit {
    #[cold]
    fn new(reason: impl fmt::Display) -> Self {
        Self(Box::new(Reason {
            path: String::new(),
            reason: reason.to_string(),
        }))
    }

    fn found(value: Element<'_>, expected: &str) -> Self {
        Self::new(format_args!(
            "expected {expected}, found {:?}",
            value.element_type()
        ))
    }

    fn under(mut self, key: &str) -> Self {
        let path = &mut self.0.path;
        let dot = if path.is_empty() { "" } else { "." };
        *path = format!("{key}{dot}{path}");
        self
    }
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Reason { path, reason } = &*self.0;
        match path.as_str() {
            "" => f.write_str(reason),
            path => write!(f, "{path}: {reason}"),
        }
    }
}

/// A value of an event's field.
trait Value<'a>: Sized {
    fn read(value: Element<'a>) -> Result<Self, Misfit>;
}

impl<'a, V: Value<'a>> Value<'a> for Option<V> {
    fn read(value: Element<'a>) -> Result<Self, Misfit> {
        if value.is_null() {
            Ok(None)
        } else {
            V::read(value).map(Some)
        }
    }
}

impl<'a, V: Value<'a>> Value<'a> for Box<V> {
    fn read(value: Element<'a>) -> Result<Self, Misfit> {
        V::read(value).map(Self::new)
    }
}

impl<'a, V: Value<'a>> Value<'a> for Vec<V> {
    fn read(value: Element<'a>) -> Result<Self, Misfit> {
        let array = value
            .as_array()
            .ok_or_else(|| Misfit::found(value, "an array"))?;
        Elements::of(array)
            .map(|item| V::read(item.map_err(Misfit::new)?))
            .collect()
    }
}

impl<'a, T: Deserialize<'a>> Value<'a> for Image<T> {
    fn read(value: Element<'a>) -> Result<Self, Misfit> {
        if value.is_null() {
            return Ok(Self::Null);
        }
        let misfit = || Misfit::found(value, "a document");
        de::from_document(value.as_document().ok_or_else(misfit)?)
            .map(Self::Present)
            .map_err(Misfit::new)
    }
}

macro_rules! scalars {
    ($($type:ty, $expected:literal: $read:expr;)+) => {
        $(impl<'a> Value<'a> for $type {
            fn read(value: Element<'a>) -> Result<Self, Misfit> {
                let read: fn(Element<'a>) -> Option<Self> = $read;
                read(value).ok_or_else(|| Misfit::found(value, $expected))
            }
        })+
    };
}

scalars! {
    String, "a string": |value| value.as_str().map(str::to_owned);
    OperationType, "a string": |value| value.as_str().map(Self::from);
    NamespaceType, "a string": |value| value.as_str().map(Self::from);
    Timestamp, "a timestamp": |value| value.as_timestamp();
    DateTime, "a date": |value| value.as_datetime();
    i64, "an integer": |value| value.as_i64().or_else(|| value.as_i32().map(i64::from));
    u32, "a positive integer": |value| i64::read(value).ok()?.try_into().ok();
    Uuid, "a UUID": |value| uuid(value);
    ResumeToken, "a document": |value| value.as_document().map(token::copy);
    RawDocumentBuf, "a document": |value| value.as_document().map(RawDocument::to_owned);
}

fn uuid(value: Element<'_>) -> Option<Uuid> {
    let (subtype, bytes) = value.as_binary()?;
    let bytes = bytes.to_vec();
    Binary { subtype, bytes }.to_uuid().ok()
}

/// A field that has no place in its struct.
#[cold]
fn unknown(element: Element<'_>) -> Result<(String, RawBson), Misfit> {
    let key = str::from_utf8(element.key()).map_err(Misfit::new)?;
    let value = element.to_raw_bson().map_err(Misfit::new)?;
    Ok((key.to_owned(), value))
}

/// Reads a struct field by field; what has no place in it goes to `$extra`.
macro_rules! fields {
    ($name:ident $(<$t:ident>)? {
        required: { $($required_key:literal => $required:ident),* },
        optional: { $($key:literal => $field:ident),* $(,)? },
        $(unknown: $extra:ident,)?
    }) => {
        impl<'a $(, $t: Deserialize<'a>)?> $name $(<$t>)? {
            fn of(document: &'a RawDocument) -> Result<Self, Misfit> {
                $(let mut $required = None;)*
                $(let mut $field = Default::default();)*
                $(let mut $extra = Vec::new();)?
                for element in Elements::of(document) {
                    let element = element.map_err(Misfit::new)?;
                    let here = |misfit: Misfit| misfit.under(&String::from_utf8_lossy(element.key()));
                    match element.key() {
                        $($required_key => {
                            $required = Some(Value::read(element).map_err(here)?);
                        })*
                        $($key => $field = Value::read(element).map_err(here)?,)*
                        _ => {
                            $($extra.push(unknown(element).map_err(here)?);)?
                        }
                    }
                }
                $(let $required = $required.ok_or_else(|| {
                    Misfit::new("the field is missing").under(&String::from_utf8_lossy($required_key))
                })?;)*
                Ok($name { $($required,)* $($field,)* $($extra,)? })
            }
        }

        impl<'a $(, $t: Deserialize<'a>)?> Value<'a> for $name $(<$t>)? {
            fn read(value: Element<'a>) -> Result<Self, Misfit> {
                let misfit = || Misfit::found(value, "a document");
                Self::of(value.as_document().ok_or_else(misfit)?)
            }
        }
    };
}

fields! {
    ChangeEvent<T> {
        required: { b"_id" => id },
        optional: {
            b"operationType" => operation_type,
            b"clusterTime" => cluster_time,
            b"wallTime" => wall_time,
            b"ns" => ns,
            b"nsType" => ns_type,
            b"to" => to,
            b"documentKey" => document_key,
            b"fullDocument" => full_document,
            b"fullDocumentBeforeChange" => full_document_before_change,
            b"updateDescription" => update_description,
            b"operationDescription" => operation_description,
            b"collectionUUID" => collection_uuid,
            b"txnNumber" => txn_number,
            b"lsid" => lsid,
            b"splitEvent" => split_event,
        },
        unknown: extra,
    }
}

fields! {
    EventNamespace {
        required: { b"db" => db },
        optional: {
            b"coll" => coll,
        },
        unknown: extra,
    }
}

fields! {
    UpdateDescription {
        required: {},
        optional: {
            b"updatedFields" => updated_fields,
            b"removedFields" => removed_fields,
            b"truncatedArrays" => truncated_arrays,
            b"disambiguatedPaths" => disambiguated_paths,
        },
        unknown: extra,
    }
}

fields! {
    TruncatedArray {
        required: { b"field" => field, b"newSize" => new_size },
        optional: {},
        unknown: extra,
    }
}

fields! {
    SplitEvent {
        required: { b"fragment" => fragment, b"of" => of },
        optional: {},
    }
}
