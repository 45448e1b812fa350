//! Sessions: the specification's prose tests of sessions and of causal consistency by number,
//! snapshots, and servers that have no sessions.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod causal;
mod driver;
mod snapshot;
mod without;

use bson::{RawArrayBuf, RawDocument, RawDocumentBuf, cstr, rawdoc};

fn find() -> RawDocumentBuf {
    rawdoc! { "find": "things", "filter": {} }
}

fn insert(ids: std::ops::Range<i32>) -> RawDocumentBuf {
    let documents: RawArrayBuf = ids.map(|id| rawdoc! { "_id": id }).collect();
    let mut command = rawdoc! { "insert": "things" };
    command.append(cstr!("documents"), documents);
    command
}

fn lsid(command: &RawDocument) -> Option<RawDocumentBuf> {
    command.get_document("lsid").ok().map(ToOwned::to_owned)
}
