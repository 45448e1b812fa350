//! Rule C: which errors are resumable, and what becomes of the others.

use bson::{Document, doc};
use mongo_change_stream::{ErrorClass, FailureKind, Phase, StreamError, WatchOptions};

use crate::harness::{
    Stream, WIRE_4_2, WIRE_6_0, batch, encode, event, prefetch, resumable, server_error,
    without_prefetch,
};

const LABEL: &str = "ResumableChangeStreamError";

/// The specification's table for servers before 4.4.
const BEFORE_4_4: [i32; 17] = [
    6, 7, 63, 89, 91, 133, 150, 189, 234, 262, 9001, 10107, 11600, 11602, 13388, 13435, 13436,
];

/// Whether a stream resumes after its `getMore` got this reply.
fn resumes_after(reply: &Document, wire: i32) -> bool {
    let mut stream = Stream::open(WatchOptions::default());
    stream.wire = wire;
    stream.reply(&batch(42, &[], "p"));
    stream.demand();
    stream.reply(reply);
    match &stream.finished {
        None => {
            stream.aggregate();
            true
        }
        Some(Err(error)) => {
            assert_eq!(error.code(), Some(reply.get_i32("code").unwrap()));
            assert_eq!(error.class(), ErrorClass::Permanent);
            false
        }
        Some(Ok(())) => panic!("an error was swallowed"),
    }
}

#[test]
fn rule_21d_before_4_4_the_code_decides_and_no_label() {
    for code in 1..14_000 {
        let expected = code == 43 || BEFORE_4_4.contains(&code);
        if !expected && code % 97 != 0 {
            continue;
        }
        assert_eq!(
            resumes_after(&server_error(code, &[]), WIRE_4_2),
            expected,
            "code {code}"
        );
    }
    assert!(!resumes_after(&server_error(1, &[LABEL]), WIRE_4_2));
}

#[test]
fn rule_21c_23_since_4_4_the_label_decides_and_no_code() {
    for wire in [9, WIRE_6_0] {
        for code in BEFORE_4_4.into_iter().chain([1, 216, 286, 11601]) {
            assert!(
                !resumes_after(&server_error(code, &[]), wire),
                "code {code} unlabeled"
            );
            assert!(
                resumes_after(&server_error(code, &[LABEL]), wire),
                "code {code} labeled"
            );
        }
        assert!(!resumes_after(
            &server_error(189, &["RetryableError"]),
            wire
        ));
    }
}

#[test]
fn rule_21b_cursor_not_found_is_resumable_everywhere() {
    for wire in [WIRE_4_2, 9, WIRE_6_0] {
        assert!(resumes_after(&server_error(43, &[]), wire));
    }
}

#[test]
fn rule_22_the_wire_version_is_that_of_the_failing_get_more() {
    let mut stream = Stream::open(WatchOptions::default());
    stream.wire = WIRE_6_0;
    stream.reply(&batch(42, &[], "p"));
    stream.demand();
    stream.wire = WIRE_4_2;
    stream.reply(&server_error(189, &[]));
    stream.aggregate();

    stream.reply(&batch(43, &[], "p"));
    stream.demand();
    stream.wire = WIRE_6_0;
    stream.reply(&server_error(189, &[]));
    match stream.error() {
        StreamError::Server {
            phase,
            max_wire_version,
            ..
        } => {
            assert_eq!((*phase, *max_wire_version), (Phase::GetMore, WIRE_6_0));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn rule_21a_whatever_is_no_answer_of_a_server_is_resumable() {
    use FailureKind::{
        Authentication, Network, PoolCleared, Protocol, Rejected, Selection, ServerGone, Shutdown,
        Timeout,
    };
    let resumable = [
        Network,
        Timeout,
        PoolCleared,
        ServerGone,
        Selection,
        Protocol,
        Authentication,
    ];
    for kind in resumable.into_iter().chain([Rejected, Shutdown]) {
        let mut stream = Stream::open(WatchOptions::default());
        stream.reply(&batch(42, &[], "p"));
        stream.demand();
        stream.fail(kind);
        assert_eq!(
            stream.finished.is_none(),
            resumable.contains(&kind),
            "{kind}"
        );
    }
}

#[test]
fn rule_20_no_error_of_the_first_aggregate_is_resumed() {
    let replies = [
        resumable(),
        server_error(43, &[]),
        server_error(40573, &[]),
        server_error(189, &["RetryableError"]),
        doc! { "ok": 1 },
    ];
    for wire in [WIRE_4_2, WIRE_6_0] {
        for reply in &replies {
            let mut stream = Stream::open(WatchOptions::default());
            stream.wire = wire;
            stream.reply(reply);
            stream.error();
            assert!(stream.command.is_none());
        }
    }
    for kind in [
        FailureKind::Network,
        FailureKind::Selection,
        FailureKind::Timeout,
    ] {
        let mut stream = Stream::open(WatchOptions::default());
        stream.fail(kind);
        assert_eq!(stream.error().class(), ErrorClass::RetryLater);
    }
}

#[test]
fn rule_9_a_standalone_is_told_by_the_server() {
    let mut stream = Stream::open(WatchOptions::default());
    let reply = doc! { "ok": 0, "code": 40573, "errmsg": "only supported on replica sets" };
    stream.reply(&reply);
    let error = stream.error();
    assert_eq!(error.code(), Some(40573));
    assert_eq!(error.class(), ErrorClass::Permanent);
    assert!(
        error.to_string().contains("only supported on replica sets"),
        "{error}"
    );
}

#[test]
fn history_lost_is_told_apart() {
    // Of an aggregate, 280 says that the start point is not there; of a getMore, that the pipeline
    // has broken an event's _id.
    for (code, of_aggregate, of_get_more) in [
        (286, true, true),
        (136, true, true),
        (40576, true, true),
        (280, true, false),
        (260, false, false),
        (234, false, false),
    ] {
        let mut stream = Stream::open(WatchOptions::default());
        stream.reply(&server_error(code, &[]));
        let error = stream.error();
        assert_eq!(error.is_history_lost(), of_aggregate, "code {code}");
        let mut stream = Stream::open(WatchOptions::default());
        stream.reply(&batch(1, &[], "p"));
        stream.demand();
        stream.reply(&server_error(code, &[]));
        let error = stream.error();
        assert_eq!(error.is_history_lost(), of_get_more, "code {code}");
    }
}

/// A reply whose element at `index` is a number in place of a document.
fn with_bad_element(events: &[&str], index: usize) -> Document {
    let mut reply = batch(42, events, "end");
    let batch = reply
        .get_document_mut("cursor")
        .unwrap()
        .get_array_mut("nextBatch")
        .unwrap();
    batch[index] = 1.into();
    reply
}

#[test]
fn defect_4_malformed_element_is_one_error_with_its_offset_after_the_events_before_it() {
    for config in [without_prefetch(), prefetch(2, 1 << 20)] {
        let mut stream = Stream::with(WatchOptions::default(), config);
        stream.reply(&batch(42, &[], "p"));
        stream.demand();
        let reply = with_bad_element(&["a", "b", "c"], 1);
        stream.reply(&reply);

        assert!(matches!(stream.error(), StreamError::Reply { .. }));
        assert_eq!(stream.killed.len(), 1);
        assert_eq!(stream.next().unwrap().unwrap(), event("a"));
        let error = stream.next().unwrap().unwrap_err();
        let StreamError::Reply { error, .. } = error else {
            panic!("{error:?}")
        };
        let offset: usize = error
            .to_string()
            .split(' ')
            .find_map(|word| word.trim_end_matches(':').parse().ok())
            .unwrap();
        // There stand the element's type and its key.
        assert_eq!(
            encode(&reply).as_bytes()[offset..offset + 3],
            [0x10, b'1', 0]
        );
        assert!(stream.next().is_none(), "the error is told once");
        assert_eq!(
            stream.token().unwrap(),
            "a",
            "behind the bad element nothing is known"
        );
    }
}

#[test]
fn malformed_inside_of_an_event_before_its_id_is_found_with_its_offset() {
    let mut bad = event("b");
    let id = bad.remove("_id").unwrap();
    bad.insert("_id", id);
    let mut reply = batch(42, &["a"], "end");
    let events = reply
        .get_document_mut("cursor")
        .unwrap()
        .get_array_mut("nextBatch")
        .unwrap();
    events.push(bad.into());
    let mut bytes = encode(&reply).as_bytes().to_vec();
    let place = bytes
        .windows(14)
        .rposition(|part| part == b"operationType\0")
        .unwrap();
    bytes[place - 1] = 0x55;

    let mut stream = Stream::open(WatchOptions::default());
    let reply = mongo_wire::Document::from_bytes(bytes).unwrap();
    stream.command = None;
    stream.handle(mongo_change_stream::Input::ReplyReceived {
        reply,
        max_wire_version: WIRE_6_0,
    });
    assert_eq!(stream.next().unwrap().unwrap(), event("a"));
    let error = stream.next().unwrap().unwrap_err();
    assert!(
        error.to_string().contains(&format!("byte {}", place - 1)),
        "{error}"
    );
}

#[test]
fn rule_36_event_without_a_usable_id_is_one_error() {
    let strange: [Option<bson::Bson>; 3] = [None, Some(5.into()), Some(bson::Bson::Null)];
    for id in strange {
        for named_end in [true, false] {
            let mut reply = batch(42, &["a", "b", "c"], "end");
            let cursor = reply.get_document_mut("cursor").unwrap();
            if !named_end {
                cursor.remove("postBatchResumeToken");
            }
            let events = cursor.get_array_mut("nextBatch").unwrap();
            let bad = events[1].as_document_mut().unwrap();
            match &id {
                Some(id) => drop(bad.insert("_id", id.clone())),
                None => drop(bad.remove("_id")),
            }

            let mut stream = Stream::open(WatchOptions::default());
            stream.reply(&reply);
            assert_eq!(stream.next().unwrap().unwrap(), event("a"));
            let error = stream.next().unwrap().unwrap_err();
            assert!(matches!(error, StreamError::MissingResumeToken));
            assert!(error.to_string().contains("resume token is missing"));
            assert!(stream.next().is_none());
            assert!(stream.reader.has_failed());
            assert_eq!(stream.token().unwrap(), "a");
            stream.close();
            assert_eq!(stream.killed.len(), 1, "the stream is closed");
        }
    }
}

#[test]
fn rule_36_without_any_token_for_the_end_of_a_batch_the_machine_stops_itself() {
    let mut reply = crate::harness::batch_without_end(42, &["a", "b"]);
    let events = reply
        .get_document_mut("cursor")
        .unwrap()
        .get_array_mut("nextBatch")
        .unwrap();
    events[1].as_document_mut().unwrap().remove("_id");
    let mut stream = Stream::with(WatchOptions::default(), prefetch(2, 1 << 20));
    stream.reply(&reply);
    assert!(matches!(stream.error(), StreamError::MissingResumeToken));
    assert_eq!(stream.killed.len(), 1);
    assert_eq!(stream.next().unwrap().unwrap(), event("a"));
    assert!(matches!(
        stream.next(),
        Some(Err(StreamError::MissingResumeToken))
    ));
}

#[test]
fn reply_without_a_cursor_ends_the_stream() {
    let mut stream = Stream::open(WatchOptions::default());
    stream.reply(&batch(42, &[], "p"));
    stream.demand();
    stream.reply(&doc! { "ok": 1 });
    assert!(matches!(
        stream.error(),
        StreamError::Reply {
            phase: Phase::GetMore,
            ..
        }
    ));
    assert_eq!(stream.killed.len(), 1);
}
