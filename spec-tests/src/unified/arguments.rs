//! The arguments of an operation, taken one by one; what is left over is unknown.

use std::time::Duration;

use bson::{Bson, Document, RawDocumentBuf};
use mongo_client::uri::{
    ReadConcern, ReadConcernLevel, ReadPreference, ReadPreferenceMode, TagSet,
};

use super::stop::{Run, Stop};

/// What is left of an operation's arguments.
#[derive(Clone, Debug)]
pub(super) struct Arguments {
    left: Document,
}

impl Arguments {
    pub(super) fn new(arguments: Document) -> Self {
        Self { left: arguments }
    }

    /// Refuses what nobody has asked for.
    pub(super) fn finish(self) -> Run {
        match self.left.keys().next() {
            Some(key) => Err(Stop::fail(format!("the argument {key} is not supported"))),
            None => Ok(()),
        }
    }

    pub(super) fn value(&mut self, key: &str) -> Option<Bson> {
        self.left.remove(key)
    }

    fn typed<T>(&mut self, key: &str, read: impl Fn(Bson) -> Option<T>) -> Run<Option<T>> {
        let Some(value) = self.value(key) else {
            return Ok(None);
        };
        let problem = || Stop::fail(format!("the argument {key} cannot be {value}"));
        read(value.clone()).ok_or_else(problem).map(Some)
    }

    pub(super) fn text(&mut self, key: &str) -> Run<Option<String>> {
        self.typed(key, |value| value.as_str().map(str::to_owned))
    }

    pub(super) fn flag(&mut self, key: &str) -> Run<Option<bool>> {
        self.typed(key, |value| value.as_bool())
    }

    pub(super) fn number(&mut self, key: &str) -> Run<Option<i64>> {
        self.typed(key, |value| integer(&value))
    }

    /// A number that is not negative.
    pub(super) fn size(&mut self, key: &str) -> Run<Option<u32>> {
        self.typed(key, |value| u32::try_from(integer(&value)?).ok())
    }

    /// A time in milliseconds.
    pub(super) fn millis(&mut self, key: &str) -> Run<Option<Duration>> {
        let millis = self.typed(key, |value| u64::try_from(integer(&value)?).ok())?;
        Ok(millis.map(Duration::from_millis))
    }

    pub(super) fn document(&mut self, key: &str) -> Run<Option<Document>> {
        self.typed(key, |value| value.as_document().cloned())
    }

    pub(super) fn array(&mut self, key: &str) -> Run<Option<Vec<Bson>>> {
        self.typed(key, |value| value.as_array().cloned())
    }

    pub(super) fn documents(&mut self, key: &str) -> Run<Option<Vec<Document>>> {
        self.typed(key, |value| {
            let documents = value.as_array()?.iter();
            documents
                .map(|value| value.as_document().cloned())
                .collect()
        })
    }

    pub(super) fn read_preference(&mut self) -> Run<Option<ReadPreference>> {
        let document = self.document("readPreference")?;
        document.as_ref().map(read_preference).transpose()
    }

    /// Moves these arguments, as far as they are given, under the same names into a command.
    pub(super) fn copy(&mut self, keys: &[&str], command: &mut Document) {
        for key in keys {
            if let Some(value) = self.value(key) {
                command.insert(*key, value);
            }
        }
    }
}

/// For arguments that must be there.
pub(super) trait Required<T> {
    fn required(self, key: &str) -> Run<T>;
}

impl<T> Required<T> for Run<Option<T>> {
    fn required(self, key: &str) -> Run<T> {
        self?.ok_or_else(|| Stop::fail(format!("the argument {key} is missing")))
    }
}

fn integer(value: &Bson) -> Option<i64> {
    match value {
        Bson::Int32(value) => Some(i64::from(*value)),
        Bson::Int64(value) => Some(*value),
        _ => None,
    }
}

/// Reads a read preference as the format writes it.
pub(super) fn read_preference(document: &Document) -> Run<ReadPreference> {
    let malformed = || Stop::fail(format!("{document} is no read preference"));
    let mut arguments = Arguments::new(document.clone());
    let mode = arguments.text("mode").required("mode")?;
    // Some files begin the name with a capital letter.
    let mode = mode.get(..1).unwrap_or_default().to_lowercase() + mode.get(1..).unwrap_or_default();
    let mode: ReadPreferenceMode = mode.parse().map_err(|_| malformed())?;
    let mut preference = ReadPreference::new(mode);
    for tags in arguments.documents("tagSets")?.unwrap_or_default() {
        let pair = |(key, value): (&String, &Bson)| Some((key.clone(), value.as_str()?.to_owned()));
        let tags: Option<Vec<_>> = tags.iter().map(pair).collect();
        preference
            .tag_sets
            .push(tags.ok_or_else(malformed)?.into_iter().collect::<TagSet>());
    }
    let staleness = arguments.number("maxStalenessSeconds")?;
    let staleness = staleness.and_then(|seconds| u64::try_from(seconds).ok());
    preference.max_staleness = staleness.map(Duration::from_secs);
    arguments.finish()?;
    Ok(preference)
}

/// Reads a read concern as the format writes it.
pub(super) fn read_concern(document: &Document) -> Run<ReadConcern> {
    let mut arguments = Arguments::new(document.clone());
    let level = arguments.text("level")?;
    arguments.finish()?;
    Ok(level.map_or_else(ReadConcern::default, |level| {
        ReadConcern::new(ReadConcernLevel::from(level.as_str()))
    }))
}

/// Turns a write concern as the format writes it into that of a command.
pub(super) fn write_concern(document: &Document) -> Run<Document> {
    let mut arguments = Arguments::new(document.clone());
    let mut concern = Document::new();
    for (name, key) in [("w", "w"), ("journal", "j"), ("wtimeoutMS", "wtimeout")] {
        if let Some(value) = arguments.value(name) {
            concern.insert(key, value);
        }
    }
    arguments.finish()?;
    Ok(concern)
}

/// A document for the wire.
pub(super) fn raw(document: &Document) -> Run<RawDocumentBuf> {
    RawDocumentBuf::try_from(document)
        .map_err(|error| Stop::fail(format!("{document} cannot be encoded: {error}")))
}
