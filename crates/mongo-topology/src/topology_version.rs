//! `topologyVersion`: which of two messages of one server process is the newer (SDAM,
//! "topologyVersion Comparison").

use std::cmp::Ordering;

use bson::oid::ObjectId;
use bson::{RawDocument, RawDocumentBuf, cstr};

/// A server process and the count of the topology changes it has seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopologyVersion {
    /// Drawn anew each time the server process starts.
    pub process_id: ObjectId,
    /// Grows with every significant topology change the process sees.
    pub counter: i64,
}

impl TopologyVersion {
    /// Reads `{processId, counter}`; `None` when either is missing or of another type.
    #[must_use]
    pub fn from_document(document: &RawDocument) -> Option<Self> {
        let process_id = document.get("processId").ok()??.as_object_id()?;
        let counter = document.get("counter").ok()??;
        let counter = counter
            .as_i64()
            .or_else(|| counter.as_i32().map(i64::from))?;
        Some(Self {
            process_id,
            counter,
        })
    }

    /// The document that an awaitable hello sends back to the server.
    #[must_use]
    pub fn to_document(self) -> RawDocumentBuf {
        let mut document = RawDocumentBuf::new();
        document.append(cstr!("processId"), self.process_id);
        document.append(cstr!("counter"), self.counter);
        document
    }

    /// How what is known stands to what a response brings.
    ///
    /// A missing version and a version of another process cannot be ordered; the specification
    /// has the response taken for the newer one then, hence `Less`.
    #[must_use]
    pub fn compare(known: Option<Self>, response: Option<Self>) -> Ordering {
        match (known, response) {
            (Some(known), Some(response)) if known.process_id == response.process_id => {
                known.counter.cmp(&response.counter)
            }
            _ => Ordering::Less,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(process: u8, counter: i64) -> Option<TopologyVersion> {
        Some(TopologyVersion {
            process_id: ObjectId::from_bytes([process; 12]),
            counter,
        })
    }

    #[test]
    fn versions_of_one_process_go_by_their_counters() {
        for (known, response, expected) in [
            (version(1, 1), version(1, 2), Ordering::Less),
            (version(1, 2), version(1, 2), Ordering::Equal),
            (version(1, 3), version(1, 2), Ordering::Greater),
        ] {
            assert_eq!(TopologyVersion::compare(known, response), expected);
        }
    }

    #[test]
    fn a_response_that_cannot_be_ordered_is_newer() {
        for (known, response) in [
            (None, None),
            (None, version(1, 1)),
            (version(1, 9), None),
            (version(2, 9), version(1, 1)),
        ] {
            assert_eq!(TopologyVersion::compare(known, response), Ordering::Less);
        }
    }

    #[test]
    fn a_version_survives_the_way_to_a_document_and_back() {
        let version = version(3, 17).unwrap();
        assert_eq!(
            TopologyVersion::from_document(&version.to_document()),
            Some(version)
        );
    }
}
