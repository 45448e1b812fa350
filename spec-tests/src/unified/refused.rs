//! What is refused as a whole, by name: areas that are no part of this client.

use bson::{Bson, Document};

use super::schema::{EventName, Expected, ExpectedEvent, Operation, Test};

/// Operations that ask for something this client does not have, and what that is.
const OPERATIONS: &[(&str, &str)] = &[
    ("startTransaction", "transactions"),
    ("commitTransaction", "transactions"),
    ("abortTransaction", "transactions"),
    ("withTransaction", "transactions"),
    ("assertSessionPinned", "transactions"),
    ("targetedFailPoint", "transactions"),
    ("clientBulkWrite", "bulk writes of a client"),
    ("createSearchIndex", "search indexes"),
    ("createSearchIndexes", "search indexes"),
    ("updateSearchIndex", "search indexes"),
    ("dropSearchIndex", "search indexes"),
    ("listSearchIndexes", "search indexes"),
];

/// Commands that drivers retry as writes.
const WRITES: &[&str] = &["insert", "update", "delete", "findAndModify"];

/// Names what a case asks for, if it is refused.
pub(super) fn reason(test: &Test) -> Option<&'static str> {
    if test.expect_tracing_messages.is_some() {
        return Some("OpenTelemetry");
    }
    let asked = |operation: &Operation| {
        let refused = OPERATIONS.iter().find(|(name, _)| *name == operation.name);
        refused.map(|(_, what)| *what)
    };
    if let Some(what) = test.operations.iter().find_map(asked) {
        return Some(what);
    }
    needs_retryable_writes(test).then_some("retryable writes")
}

/// Whether more writes are to be started than operations ask for, one is numbered, or one is to
/// go on although the server says that it should be tried again. A server that is too busy is no
/// reason for that: what it refuses is sent again whatever it is.
fn needs_retryable_writes(test: &Test) -> bool {
    let asked = test.operations.iter().map(writes_asked).sum::<usize>();
    let expected = test.expect_events.iter().flat_map(|all| all.iter());
    let is_overloaded = has_label(test, "SystemOverloadedError");
    let shows = expected.into_iter().any(|expected| {
        let writes = expected.events.iter().filter(|event| is_write(event));
        let numbered = expected.events.iter().any(is_numbered);
        numbered || (asked > 0 && writes.count() > asked && !is_overloaded)
    });
    let may_fail = |operation: &Operation| match &operation.expected {
        Expected::Result(_) => false,
        // One try alone is done in time.
        Expected::Error(error) => error.is_timeout_error != Some(true),
        Expected::Anything => true,
    };
    let points = || test.operations.iter().filter_map(fail_point);
    let goes_on = points().any(fails_writes) && !test.operations.iter().any(may_fail);
    let is_of_writes = |point: &Document| {
        let name = point.get_str("configureFailPoint");
        name.is_ok_and(|name| name == "onPrimaryTransactionalWrite")
    };
    shows || goes_on || points().any(is_of_writes)
}

fn is_write(event: &ExpectedEvent) -> bool {
    let command = event.fields.get_document("command");
    let name = event.fields.get_str("commandName").ok();
    let name = name.or_else(|| command.ok()?.keys().next().map(String::as_str));
    event.name == EventName::CommandStartedEvent && name.is_some_and(|name| WRITES.contains(&name))
}

fn is_numbered(event: &ExpectedEvent) -> bool {
    let command = event.fields.get_document("command");
    let number = command.ok().and_then(|command| command.get("txnNumber"));
    number.is_some_and(|number| *number != Bson::Document(bson::doc! { "$$exists": false }))
}

fn writes_asked(operation: &Operation) -> usize {
    match operation.name.as_str() {
        "insertOne" | "insertMany" | "updateOne" | "updateMany" | "replaceOne" | "deleteOne"
        | "deleteMany" | "findOneAndDelete" | "findOneAndReplace" | "findOneAndUpdate" => 1,
        "bulkWrite" => operation
            .arguments
            .get_array("requests")
            .map_or(1, Vec::len),
        "runCommand" => 1,
        _ => 0,
    }
}

/// Whether a fail point fails writes in a way that they should be retried after.
fn fails_writes(point: &Document) -> bool {
    let Ok(data) = point.get_document("data") else {
        return false;
    };
    let list = |key: &str| data.get_array(key).map_or(&[][..], Vec::as_slice).iter();
    let is_write = |name: &Bson| name.as_str().is_some_and(|name| WRITES.contains(&name));
    let is_retryable = |label: &Bson| label.as_str() == Some("RetryableWriteError");
    let cuts = data.get_bool("closeConnection").unwrap_or(false);
    list("failCommands").any(is_write) && (cuts || list("errorLabels").any(is_retryable))
}

fn fail_point(operation: &Operation) -> Option<&Document> {
    operation.arguments.get_document("failPoint").ok()
}

/// Whether a fail point puts a label on errors.
fn has_label(test: &Test, label: &str) -> bool {
    let labels = |operation: &Operation| -> Option<Vec<Bson>> {
        let data = fail_point(operation)?.get_document("data").ok()?;
        data.get_array("errorLabels").ok().cloned()
    };
    let labels = test.operations.iter().filter_map(labels).flatten();
    labels
        .into_iter()
        .any(|found| found.as_str() == Some(label))
}
