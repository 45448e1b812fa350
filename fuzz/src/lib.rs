//! What the fuzz targets share.

pub mod topology;

use bytes::BytesMut;
use mongo_wire::{Frame, Limits};

/// Limits that a fuzzer's inputs can reach: allocation stays small whatever the bytes claim.
#[must_use]
pub fn limits() -> Limits {
    Limits {
        max_message_len: 1 << 20,
        max_document_len: 1 << 18,
        max_sections: 8,
        max_inflated_len: 1 << 18,
    }
}

/// Every frame at the front of `data`.
#[must_use]
pub fn frames(data: &[u8]) -> Vec<Frame> {
    let mut src = BytesMut::from(data);
    std::iter::from_fn(|| Frame::decode(&mut src, &limits()).ok().flatten()).collect()
}
