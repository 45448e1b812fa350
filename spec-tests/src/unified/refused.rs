//! What is refused as a whole, by name: areas that are no part of this client. Those that have
//! entities of their own are refused where one is made.

use super::schema::{Operation, Test};

/// Operations that ask for something this client does not have, and what that is.
const OPERATIONS: &[(&str, &str)] = &[
    ("startTransaction", "transactions"),
    ("commitTransaction", "transactions"),
    ("abortTransaction", "transactions"),
    ("withTransaction", "transactions"),
    ("assertSessionPinned", "transactions"),
    ("targetedFailPoint", "transactions"),
    ("upload", "uploads to GridFS"),
    ("clientBulkWrite", "bulk writes of a client"),
    ("createSearchIndex", "search indexes"),
    ("createSearchIndexes", "search indexes"),
    ("updateSearchIndex", "search indexes"),
    ("dropSearchIndex", "search indexes"),
    ("listSearchIndexes", "search indexes"),
];

/// Names what a case asks for, if it is refused.
pub(super) fn reason(test: &Test) -> Option<&'static str> {
    let asked = |operation: &Operation| {
        let refused = OPERATIONS.iter().find(|(name, _)| *name == operation.name);
        refused.map(|(_, what)| *what)
    };
    test.operations.iter().find_map(asked)
}
