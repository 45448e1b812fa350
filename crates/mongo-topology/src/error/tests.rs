//! What errors are taken for.

use bson::{RawDocumentBuf, rawdoc};

use super::*;

fn state_change(reply: &RawDocumentBuf) -> Option<StateChange> {
    ApplicationError::from_reply(reply).and_then(|error| error.state_change())
}

#[test]
fn a_code_alone_decides_where_there_is_one() {
    let table = [
        (11600, Some(StateChange::NodeIsShuttingDown)),
        (91, Some(StateChange::NodeIsShuttingDown)),
        (11602, Some(StateChange::NodeIsRecovering)),
        (13436, Some(StateChange::NodeIsRecovering)),
        (189, Some(StateChange::NodeIsRecovering)),
        (10107, Some(StateChange::NotWritablePrimary)),
        (13435, Some(StateChange::NotWritablePrimary)),
        (10058, Some(StateChange::NotWritablePrimary)),
        (1, None),
    ];
    for (code, expected) in table {
        let reply = rawdoc! { "ok": 0, "code": code, "errmsg": "not master" };
        assert_eq!(state_change(&reply), expected, "{code}");
    }
}

#[test]
fn the_message_decides_where_there_is_no_code() {
    let table = [
        ("not master", Some(StateChange::NotWritablePrimary)),
        (
            "not master or secondary; cannot read",
            Some(StateChange::NodeIsRecovering),
        ),
        ("node is recovering", Some(StateChange::NodeIsRecovering)),
        ("no such command", None),
    ];
    for (message, expected) in table {
        let reply = rawdoc! { "ok": 0, "errmsg": message };
        assert_eq!(state_change(&reply), expected, "{message}");
    }
}

#[test]
fn write_concern_errors_count_and_write_errors_do_not() {
    let shutting_down = rawdoc! { "code": 91, "errmsg": "shutting down" };
    let reply = rawdoc! { "ok": 1, "writeConcernError": shutting_down };
    assert_eq!(state_change(&reply), Some(StateChange::NodeIsShuttingDown));
    let reply = rawdoc! { "ok": 1, "writeErrors": [{ "index": 0, "code": 10107 }] };
    assert_eq!(ApplicationError::from_reply(&reply), None);
}

#[test]
fn labels_and_text_come_from_the_reply() {
    let reply = rawdoc! { "ok": 0, "code": 462, "errmsg": "busy", "errorLabels": ["One", "Two"] };
    let error = ApplicationError::from_reply(&reply)
        .unwrap()
        .with_label("Two");
    assert_eq!(error.labels, ["One", "Two"]);
    assert_eq!(error.to_string(), "busy (code 462)");
}
