//! Which events a stream is for: namespaces, operations, fields.
//!
//! A filter becomes stages ahead of the caller's pipeline, in the form that servers since 6.0 apply
//! to the oplog itself: equality and `$in` on `operationType`, `ns.db` and `ns.coll`, anchored
//! regular expressions for prefixes. Events that are left out then cost the server little and the
//! network nothing.

use std::{collections::BTreeMap, fmt, str::FromStr};

use bson::{
    Regex, cstr,
    raw::{CString, RawArrayBuf, RawBson, RawDocumentBuf},
    rawdoc,
};

use crate::{EventRef, NamespaceRef, OperationType};

/// Which events a stream is for. The default is for all of them.
///
/// An event passes if its namespace is included, or nothing is, and it is not excluded, and its
/// operation is among those that are wanted, or none was named. The namespace is that of `ns`; a
/// rename counts under the old name. `invalidate` has no namespace and always passes: a stream must
/// not end without a word. A collation of the stream applies here, too.
///
/// ```
/// use mongo_change_stream::{EventFilter, OperationType};
///
/// let filter = EventFilter::default()
///     .include(["shop.orders".parse()?, "archive*".parse()?])
///     .exclude(["archive.tmp_*".parse()?])
///     .operations([OperationType::Insert, OperationType::Update])
///     .without_fields(["fullDocumentBeforeChange"]);
/// assert_eq!(filter.stages().len(), 2); // a $match and a $project
/// # Ok::<(), mongo_change_stream::PatternError>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventFilter {
    include: Vec<NamespacePattern>,
    exclude: Vec<NamespacePattern>,
    operations: Vec<OperationType>,
    only: Vec<String>,
    without: Vec<String>,
}

/// Namespaces that belong together.
///
/// Written as `DATABASE`, `DATABASE.COLLECTION`, or either with `*` at its end for all names that
/// begin like this. The first dot separates, as in the names themselves.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NamespacePattern {
    /// A whole database, its own events included.
    Database(String),
    /// Every database whose name begins like this.
    DatabasePrefix(String),
    /// One collection.
    Collection {
        /// Its database.
        database: String,
        /// Its name.
        collection: String,
    },
    /// Every collection of a database whose name begins like this.
    CollectionPrefix {
        /// Their database.
        database: String,
        /// What their names begin with.
        prefix: String,
    },
}

/// A text is no [`NamespacePattern`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is none of DATABASE, DATABASE.COLLECTION, DATABASE*, DATABASE.PREFIX*")]
pub struct PatternError(String);

impl FromStr for NamespacePattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        let (begin, is_prefix) = match text.strip_suffix('*') {
            Some(begin) => (begin, true),
            None => (text, false),
        };
        let (database, collection) = match begin.split_once('.') {
            Some((database, collection)) => (database.to_owned(), Some(collection.to_owned())),
            None => (begin.to_owned(), None),
        };
        let is_wrong = begin.contains(['*', '\0'])
            || (database.is_empty() && (collection.is_some() || !is_prefix))
            || (collection.as_deref() == Some("") && !is_prefix);
        if is_wrong {
            return Err(PatternError(text.to_owned()));
        }
        Ok(match (collection, is_prefix) {
            (None, false) => Self::Database(database),
            (None, true) => Self::DatabasePrefix(database),
            (Some(collection), false) => Self::Collection {
                database,
                collection,
            },
            (Some(prefix), true) => Self::CollectionPrefix { database, prefix },
        })
    }
}

impl fmt::Display for NamespacePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Database(database) => f.write_str(database),
            Self::DatabasePrefix(prefix) => write!(f, "{prefix}*"),
            Self::Collection {
                database,
                collection,
            } => write!(f, "{database}.{collection}"),
            Self::CollectionPrefix { database, prefix } => write!(f, "{database}.{prefix}*"),
        }
    }
}

impl NamespacePattern {
    /// Whether a namespace is one of these. A whole database, as in the event that it was dropped,
    /// is none of its collections.
    #[must_use]
    pub fn matches(&self, namespace: NamespaceRef<'_>) -> bool {
        let NamespaceRef {
            database: db,
            collection: coll,
        } = namespace;
        match self {
            Self::Database(database) => db == database,
            Self::DatabasePrefix(prefix) => db.starts_with(prefix.as_str()),
            Self::Collection {
                database,
                collection,
            } => db == database && coll == Some(collection),
            Self::CollectionPrefix { database, prefix } => {
                db == database && coll.is_some_and(|coll| coll.starts_with(prefix.as_str()))
            }
        }
    }
}

impl EventFilter {
    /// Adds namespaces that pass; without any, all do.
    #[must_use]
    pub fn include(mut self, patterns: impl IntoIterator<Item = NamespacePattern>) -> Self {
        self.include.extend(patterns);
        self
    }

    /// Adds namespaces that do not pass, even if they are included.
    #[must_use]
    pub fn exclude(mut self, patterns: impl IntoIterator<Item = NamespacePattern>) -> Self {
        self.exclude.extend(patterns);
        self
    }

    /// Adds operations that pass; without any, all do.
    #[must_use]
    pub fn operations(mut self, operations: impl IntoIterator<Item = OperationType>) -> Self {
        self.operations.extend(operations);
        self
    }

    /// Adds fields that events keep; without any, all are kept. `_id`, `operationType`, `ns` and
    /// `clusterTime` are kept in any case. The server refuses a field beside a part of itself.
    #[must_use]
    pub fn only_fields<S: Into<String>>(mut self, fields: impl IntoIterator<Item = S>) -> Self {
        self.only.extend(fields.into_iter().map(Into::into));
        self
    }

    /// Adds fields that events lose. The server ends a stream whose events lose their `_id`.
    #[must_use]
    pub fn without_fields<S: Into<String>>(mut self, fields: impl IntoIterator<Item = S>) -> Self {
        self.without.extend(fields.into_iter().map(Into::into));
        self
    }

    /// Whether an event passes: what the server does with the stages, done here.
    #[must_use]
    pub fn matches(&self, event: EventRef<'_>) -> bool {
        let operation = event.operation_type();
        if operation == Some(OperationType::Invalidate) {
            return true;
        }
        let is_among = |patterns: &[NamespacePattern]| {
            let namespace = event.namespace();
            namespace.is_some_and(|ns| patterns.iter().any(|pattern| pattern.matches(ns)))
        };
        let is_wanted = || operation.is_some_and(|operation| self.operations.contains(&operation));
        (self.operations.is_empty() || is_wanted())
            && (self.include.is_empty() || is_among(&self.include))
            && !is_among(&self.exclude)
    }

    /// The stages: a `$match`, where something is left out, and a `$project` for either list of
    /// fields.
    #[must_use]
    pub fn stages(&self) -> Vec<RawDocumentBuf> {
        let mut conditions = RawDocumentBuf::new();
        let invalidate = OperationType::Invalidate;
        if !self.operations.is_empty() {
            let wanted = self.operations.iter().chain([&invalidate]);
            let wanted: RawArrayBuf = wanted.map(OperationType::as_str).collect();
            conditions.append(cstr!("operationType"), rawdoc! { "$in": wanted });
        }
        if !self.include.is_empty() {
            let mut either = Places::of(&self.include).included();
            either.push(rawdoc! { "operationType": invalidate.as_str() });
            conditions.append(cstr!("$or"), either);
        }
        if !self.exclude.is_empty() {
            conditions.append(cstr!("$and"), Places::of(&self.exclude).excluded());
        }
        let mut stages = Vec::new();
        if !conditions.is_empty() {
            stages.push(rawdoc! { "$match": conditions });
        }
        if !self.only.is_empty() {
            let always = ["_id", "operationType", "ns", "clusterTime"];
            let fields = always
                .into_iter()
                .chain(self.only.iter().map(String::as_str));
            stages.push(rawdoc! { "$project": projection(fields, 1) });
        }
        if !self.without.is_empty() {
            let fields = self.without.iter().map(String::as_str);
            stages.push(rawdoc! { "$project": projection(fields, 0) });
        }
        stages
    }
}

/// Patterns by what they say: one condition for all whole databases, one for the named collections
/// of each database, one for each prefix.
#[derive(Default)]
struct Places<'a> {
    databases: RawArrayBuf,
    prefixes: Vec<RawBson>,
    collections: BTreeMap<&'a str, RawArrayBuf>,
    collection_prefixes: Vec<(&'a str, RawBson)>,
}

impl<'a> Places<'a> {
    fn of(patterns: &'a [NamespacePattern]) -> Self {
        let mut places = Self::default();
        for pattern in patterns {
            match pattern {
                NamespacePattern::Database(name) => places.databases.push(name.as_str()),
                NamespacePattern::DatabasePrefix(prefix) => {
                    places.prefixes.push(starts_with(prefix));
                }
                NamespacePattern::Collection {
                    database,
                    collection,
                } => {
                    let names = places.collections.entry(database).or_default();
                    names.push(collection.as_str());
                }
                NamespacePattern::CollectionPrefix { database, prefix } => {
                    let prefix = starts_with(prefix);
                    places.collection_prefixes.push((database, prefix));
                }
            }
        }
        places
    }

    /// Conditions one of which holds for what the patterns match.
    fn included(self) -> RawArrayBuf {
        let mut conditions = RawArrayBuf::new();
        if !self.databases.is_empty() {
            conditions.push(rawdoc! { "ns.db": { "$in": self.databases } });
        }
        for prefix in self.prefixes {
            conditions.push(rawdoc! { "ns.db": prefix });
        }
        for (database, names) in self.collections {
            conditions.push(rawdoc! { "ns.db": database, "ns.coll": { "$in": names } });
        }
        for (database, prefix) in self.collection_prefixes {
            conditions.push(rawdoc! { "ns.db": database, "ns.coll": prefix });
        }
        conditions
    }

    /// Conditions all of which hold for what no pattern matches. Servers of 6.0 fail at a `$nor` of
    /// several of these, so the negation is written out.
    fn excluded(self) -> RawArrayBuf {
        let mut conditions = RawArrayBuf::new();
        if !self.databases.is_empty() {
            conditions.push(rawdoc! { "ns.db": { "$nin": self.databases } });
        }
        for prefix in self.prefixes {
            conditions.push(rawdoc! { "ns.db": { "$not": prefix } });
        }
        for (database, names) in self.collections {
            let elsewhere = rawdoc! { "ns.db": { "$ne": database } };
            let others = rawdoc! { "ns.coll": { "$nin": names } };
            conditions.push(rawdoc! { "$or": [elsewhere, others] });
        }
        for (database, prefix) in self.collection_prefixes {
            let elsewhere = rawdoc! { "ns.db": { "$ne": database } };
            let others = rawdoc! { "ns.coll": { "$not": prefix } };
            conditions.push(rawdoc! { "$or": [elsewhere, others] });
        }
        conditions
    }
}

/// An anchored regular expression, in which every character that could mean something is escaped.
fn starts_with(prefix: &str) -> RawBson {
    let mut pattern = String::from("^");
    for character in prefix.chars() {
        if character.is_ascii() && !character.is_ascii_alphanumeric() {
            pattern.push('\\');
        }
        // Names have none; a pattern cannot express one.
        if character != '\0' {
            pattern.push(character);
        }
    }
    let pattern = CString::try_from(pattern).expect("a pattern without zeros");
    RawBson::RegularExpression(Regex {
        pattern,
        options: cstr!("").into(),
    })
}

fn projection<'a>(fields: impl Iterator<Item = &'a str>, value: i32) -> RawDocumentBuf {
    let fields: BTreeMap<&str, i32> = fields.map(|field| (field, value)).collect();
    bson::serialize_to_raw_document_buf(&fields).expect("names and numbers are BSON")
}
