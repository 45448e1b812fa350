//! What a scripted server says of a cursor on `test.things`, which may be a change stream's.

use bson::raw::CStr;
use bson::{RawArrayBuf, RawDocumentBuf, cstr, rawdoc};

/// The reply that opens a cursor of this number; 0 if there is no more to come.
pub fn first(cursor: i64, documents: impl IntoIterator<Item = RawDocumentBuf>) -> RawDocumentBuf {
    reply(cursor, cstr!("firstBatch"), documents)
}

/// The reply to a `getMore`; the cursor has this number from then on.
pub fn next(cursor: i64, documents: impl IntoIterator<Item = RawDocumentBuf>) -> RawDocumentBuf {
    reply(cursor, cstr!("nextBatch"), documents)
}

fn reply(
    cursor: i64,
    batch: &CStr,
    documents: impl IntoIterator<Item = RawDocumentBuf>,
) -> RawDocumentBuf {
    let mut cursor = rawdoc! { "id": cursor, "ns": "test.things" };
    cursor.append(batch, documents.into_iter().collect::<RawArrayBuf>());
    rawdoc! { "cursor": cursor, "ok": 1.0 }
}

/// The event of an insert of this `_id`, which is its token, too.
pub fn event(id: i32) -> RawDocumentBuf {
    rawdoc! {
        "_id": { "_data": format!("{id:08}") },
        "operationType": "insert",
        "ns": { "db": "test", "coll": "things" },
        "documentKey": { "_id": id },
    }
}
