//! What the demonstration writes: a fixed list, so that every event can be held against it.

use bson::{RawDocumentBuf, rawdoc};

/// The database all writes go to.
pub(crate) const DATABASE: &str = "demo";

/// The collections the writes are spread over.
pub(crate) const COLLECTIONS: [&str; 3] = ["orders", "stock", "letters"];

/// The collection of the last write of all, which no event follows.
pub(crate) const END: &str = "end";

/// What identifies the event of a write: inserts and deletes by their document, which exists once,
/// updates by the number they write.
pub(crate) type Key = (&'static str, Kind, i32);

/// The kinds of write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Insert,
    Update,
    Delete,
}

impl Kind {
    /// The `operationType` of the event it causes.
    pub(crate) fn event(self) -> &'static str {
        match self {
            Self::Insert => "insert",
            Self::Update => "update",
            Self::Delete => "delete",
        }
    }
}

/// One write.
#[derive(Clone, Debug)]
pub(crate) struct Write {
    /// Its place in the plan, also written into the document.
    pub(crate) number: i32,
    pub(crate) collection: &'static str,
    pub(crate) kind: Kind,
    /// The document's `_id`, used for one document only.
    pub(crate) id: i32,
    /// Bytes of padding in the document; 0 for a delete.
    pub(crate) padding: usize,
}

impl Write {
    /// What its event is known by.
    pub(crate) fn key(&self) -> Key {
        let number = if self.kind == Kind::Update {
            self.number
        } else {
            self.id
        };
        (self.collection, self.kind, number)
    }

    /// The command that does it.
    pub(crate) fn statement(&self) -> RawDocumentBuf {
        let padding = "x".repeat(self.padding);
        let (collection, id, number) = (self.collection, self.id, self.number);
        match self.kind {
            Kind::Insert => rawdoc! {
                "insert": collection,
                "documents": [{ "_id": id, "number": number, "padding": padding }],
            },
            Kind::Update => rawdoc! {
                "update": collection,
                "updates": [{ "q": { "_id": id }, "u": { "$set": { "number": number, "padding": padding } } }],
            },
            Kind::Delete => rawdoc! {
                "delete": collection,
                "deletes": [{ "q": { "_id": id }, "limit": 1 }],
            },
        }
    }
}

/// The command that says that nothing follows.
pub(crate) fn end() -> RawDocumentBuf {
    rawdoc! { "insert": END, "documents": [{ "_id": 0 }] }
}

/// The list of `count` writes for a seed.
pub(crate) fn plan(count: i32, seed: u64) -> Vec<Write> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut alive: Vec<(&'static str, i32)> = Vec::new();
    (0..count)
        .map(|number| {
            let kind = match random.u8(0..100) {
                _ if alive.len() < 5 => Kind::Insert,
                0..50 => Kind::Insert,
                50..85 => Kind::Update,
                _ => Kind::Delete,
            };
            let (collection, id) = match kind {
                Kind::Insert => {
                    let collection = COLLECTIONS[random.usize(..COLLECTIONS.len())];
                    alive.push((collection, number));
                    (collection, number)
                }
                Kind::Update => alive[random.usize(..alive.len())],
                Kind::Delete => alive.swap_remove(random.usize(..alive.len())),
            };
            let padding = if kind == Kind::Delete {
                0
            } else {
                padding(&mut random)
            };
            Write {
                number,
                collection,
                kind,
                id,
                padding,
            }
        })
        .collect()
}

/// Mostly small, sometimes up to 200 KB.
fn padding(random: &mut fastrand::Rng) -> usize {
    match random.u8(0..100) {
        0..70 => random.usize(50..1_000),
        70..95 => random.usize(1_000..10_000),
        _ => random.usize(10_000..200_000),
    }
}
