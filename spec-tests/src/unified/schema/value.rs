//! The values that fields are made of.

use std::fmt;
use std::str::FromStr;

use bson::{Bson, Document};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};
use testbed::mongod::Version;

/// Reads an optional field that is there: its `null` is a value like any other.
pub(super) fn present<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    T::deserialize(deserializer).map(Some)
}

/// Refuses what is no object or has no key.
pub(super) fn not_empty_object(value: &Value) -> Result<&Map<String, Value>, String> {
    let object = value.as_object().ok_or("an object is expected")?;
    if object.is_empty() {
        return Err("an object with at least one key is expected".to_owned());
    }
    Ok(object)
}

/// An object about which nothing else is said.
pub(super) type AnyObject = Map<String, Value>;

/// A list with at least one element.
#[derive(Clone, Debug)]
pub(in crate::unified) struct NonEmpty<T>(Vec<T>);

impl<T> std::ops::Deref for NonEmpty<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.0
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for NonEmpty<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let elements = Vec::deserialize(deserializer)?;
        if elements.is_empty() {
            return Err(D::Error::custom("at least one element is expected"));
        }
        Ok(Self(elements))
    }
}

/// Any value, read as extended JSON.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::unified) struct Ejson(pub(in crate::unified) Bson);

impl<'de> Deserialize<'de> for Ejson {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        Bson::try_from(value).map(Self).map_err(D::Error::custom)
    }
}

/// An object with at least one key, read as extended JSON.
#[derive(Clone, Debug)]
pub(in crate::unified) struct NonEmptyDocument(pub(in crate::unified) Document);

impl<'de> Deserialize<'de> for NonEmptyDocument {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let EjsonDocument(document) = EjsonDocument::deserialize(deserializer)?;
        if document.is_empty() {
            return Err(D::Error::custom("at least one key is expected"));
        }
        Ok(Self(document))
    }
}

/// An object, read as extended JSON.
#[derive(Clone, Debug, Default, PartialEq)]
pub(in crate::unified) struct EjsonDocument(pub(in crate::unified) Document);

impl<'de> Deserialize<'de> for EjsonDocument {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Ejson::deserialize(deserializer)?.0 {
            Bson::Document(document) => Ok(Self(document)),
            other => Err(D::Error::custom(format!(
                "an object is expected, not {other}"
            ))),
        }
    }
}

/// A version: two or three numbers with dots between them.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::unified) struct VersionText(pub(in crate::unified) Version);

impl fmt::Debug for VersionText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for VersionText {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts: Vec<_> = text.split('.').collect();
        let are_numbers = parts
            .iter()
            .all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()));
        if !(2..=3).contains(&parts.len()) || !are_numbers {
            return Err(format!("{text:?} is no version"));
        }
        let version = text.parse();
        version
            .map(Self)
            .map_err(|_| format!("{text:?} is no version"))
    }
}

impl<'de> Deserialize<'de> for VersionText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}
