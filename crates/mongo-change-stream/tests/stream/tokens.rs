//! Rule E: the token follows what was handed out.

use std::time::Duration;

use bson::{Timestamp, doc};
use mongo_change_stream::{EventBatch, ResumeToken, StreamError, WatchOptions};

use crate::harness::{
    OPERATION_TIME, Stream, batch, batch_without_end, event, prefetch, token, without_prefetch,
};

#[test]
fn rule_33_35_before_the_first_hand_out_the_token_is_the_users() {
    let with = |start_after, resume_after| WatchOptions {
        start_after,
        resume_after,
        ..WatchOptions::default()
    };
    let cases = [
        (with(Some(token("s")), Some(token("r"))), Some("s")),
        (with(Some(token("s")), None), Some("s")),
        (with(None, Some(token("r"))), Some("r")),
        (with(None, None), None),
    ];
    for (options, expected) in cases {
        for config in [without_prefetch(), prefetch(2, 1 << 20)] {
            let mut stream = Stream::with(options.clone(), config);
            assert_eq!(stream.token().as_deref(), expected);
            stream.reply(&batch(1, &["a", "b"], "p"));
            assert_eq!(
                stream.token().as_deref(),
                expected,
                "received is not handed out"
            );
            stream.next().unwrap().unwrap();
            assert_eq!(stream.token().as_deref(), Some("a"));
        }
    }
}

#[test]
fn rule_34_an_empty_batch_moves_the_token_the_first_one_too() {
    let mut stream = Stream::open(WatchOptions::default());
    stream.reply(&batch(1, &[], "p1"));
    assert_eq!(stream.token().unwrap(), "p1");
    stream.demand();
    stream.reply(&batch(1, &[], "p2"));
    assert_eq!(stream.token().unwrap(), "p2");
    stream.demand();
    stream.reply(&batch_without_end(1, &[]));
    assert_eq!(stream.token().unwrap(), "p2");
}

#[test]
fn rule_35_mid_batch_the_id_at_the_end_the_named_end() {
    let mut stream = Stream::open(WatchOptions::default());
    stream.reply(&batch(1, &["a", "b", "c"], "p"));
    for expected in ["a", "b", "p", "p"] {
        stream.next().transpose().unwrap();
        assert_eq!(stream.token().unwrap(), expected);
    }
    stream.demand();
    stream.reply(&batch_without_end(1, &["d", "e"]));
    assert_eq!(stream.token().unwrap(), "p", "received is not handed out");
    for expected in ["d", "e", "e"] {
        stream.next().transpose().unwrap();
        assert_eq!(stream.token().unwrap(), expected);
    }
}

#[test]
fn the_end_of_the_cursor_needs_start_after_whether_or_not_its_event_says_what_it_is() {
    // A projection may leave the operation's name out; the last batch may be empty.
    for last in [batch(0, &["drop", "gone"], "gone"), batch(0, &[], "gone")] {
        let mut stream = Stream::open(WatchOptions::default());
        stream.reply(&batch(1, &["a"], "p"));
        stream.next().unwrap().unwrap();
        stream.demand();
        stream.reply(&last);
        while stream.next().is_some() {}
        let point = stream.reader.resume_point().unwrap();
        assert!(point.after_invalidate, "{point:?}");
        assert_eq!(stream.token().unwrap(), "gone");
    }
}

#[test]
fn a_bad_first_event_moves_nothing() {
    let mut stream = Stream::open(WatchOptions {
        start_after: Some(token("s")),
        ..WatchOptions::default()
    });
    let mut reply = batch(1, &["a"], "p");
    let cursor = reply.get_document_mut("cursor").unwrap();
    cursor.insert("firstBatch", [doc! { "no": "id" }]);
    cursor.remove("nextBatch");
    stream.reply(&reply);
    assert!(matches!(
        stream.next(),
        Some(Err(StreamError::MissingResumeToken))
    ));
    let position = stream.reader.position();
    assert!(position.after_invalidate);
    assert_eq!(position.operation_time, None);
    assert_eq!(stream.token().unwrap(), "s");
}

#[test]
fn rule_43_fragments_have_tokens_of_their_own() {
    let mut reply = batch(1, &["f1", "f2"], "p");
    let events = reply
        .get_document_mut("cursor")
        .unwrap()
        .get_array_mut("nextBatch")
        .unwrap();
    for (event, fragment) in events.iter_mut().zip(1..) {
        let event = event.as_document_mut().unwrap();
        event.insert("splitEvent", doc! { "fragment": fragment, "of": 2 });
    }
    let mut stream = Stream::open(WatchOptions::default());
    stream.reply(&reply);
    stream.next().unwrap().unwrap();
    assert_eq!(stream.token().unwrap(), "f1");
    stream.next().unwrap().unwrap();
    assert_eq!(stream.token().unwrap(), "p");
}

#[test]
fn empty_batches_behind_waiting_ones_move_the_token_only_when_those_are_read() {
    let mut stream = Stream::with(WatchOptions::default(), prefetch(9, 1 << 20));
    stream.reply(&batch(1, &["a", "b"], "p1"));
    stream.reply(&batch(1, &["c"], "p2"));
    for end in ["p3", "p4", "p5"] {
        stream.reply(&batch(1, &[], end));
    }
    assert_eq!(stream.token(), None);
    for expected in ["a", "p1", "p5", "p5"] {
        stream.next().transpose().unwrap();
        assert_eq!(stream.token().unwrap(), expected);
    }
    stream.reply(&batch(1, &["d", "e"], "p6"));
    stream.next().unwrap().unwrap();
    stream.reply(&batch(1, &[], "p7"));
    assert_eq!(
        stream.token().unwrap(),
        "d",
        "the batch in hand is not used up"
    );
    stream.next().unwrap().unwrap();
    assert_eq!(stream.token().unwrap(), "p7");
    stream.reply(&batch(1, &[], "p8"));
    assert_eq!(
        stream.token().unwrap(),
        "p8",
        "used up, though still in hand"
    );
}

#[test]
fn rule_37_position_tells_where_the_stream_stands_and_since_when() {
    let mut first = event("a");
    first.insert(
        "clusterTime",
        Timestamp {
            time: 3,
            increment: 4,
        },
    );
    let mut reply = batch(1, &["a", "b"], "p");
    reply
        .get_document_mut("cursor")
        .unwrap()
        .get_array_mut("nextBatch")
        .unwrap()[0] = first.into();

    let mut stream = Stream::open(WatchOptions::default());
    let empty = stream.reader.position();
    assert_eq!((empty.token, empty.events, empty.batches), (None, 0, 0));
    assert_eq!(
        (empty.last_reply, empty.last_empty_batch, empty.last_event),
        (None, None, None)
    );

    let opened = stream.now;
    stream.reply(&reply);
    stream.pass(Duration::from_secs(1));
    stream.next().unwrap().unwrap();
    let position = stream.reader.position();
    assert_eq!(position.token, Some(token("a")));
    assert_eq!(
        position.cluster_time,
        Some(Timestamp {
            time: 3,
            increment: 4
        })
    );
    assert_eq!(
        position.operation_time, None,
        "the reply is not read to its end"
    );
    assert_eq!((position.events, position.batches), (1, 1));
    assert_eq!(
        (position.last_reply, position.last_event),
        (Some(opened), Some(opened))
    );
    assert_eq!(position.last_empty_batch, None);

    stream.next().unwrap().unwrap();
    assert_eq!(
        stream.reader.position().operation_time,
        Some(OPERATION_TIME)
    );
    assert!(stream.next().is_none());
    stream.demand();
    stream.reply(&batch(1, &[], "q"));
    let position = stream.reader.position();
    assert_eq!(
        (position.token, position.events, position.batches),
        (Some(token("q")), 2, 2)
    );
    assert_eq!(
        (position.last_empty_batch, position.last_event),
        (Some(stream.now), Some(opened))
    );
}

#[test]
fn token_is_bytes_in_and_out_and_a_document_to_serde() {
    let original = token("x");
    let back = ResumeToken::from_bytes(original.as_bytes().to_vec()).unwrap();
    assert_eq!(back, original);
    assert_eq!(back.compact(), original);
    assert_eq!(format!("{back:?}"), r#"ResumeToken({ "t": "x" })"#);
    assert_eq!(
        bson::serialize_to_bson(&original).unwrap(),
        doc! { "t": "x" }.into()
    );
    let saved = bson::serialize_to_vec(&doc! { "token": { "t": "x" } }).unwrap();
    let read: std::collections::BTreeMap<String, ResumeToken> =
        bson::deserialize_from_slice(&saved).unwrap();
    assert_eq!(read["token"], original);
    for bad in [
        &b""[..],
        b"\x05\0\0\0",
        b"\x06\0\0\0\0",
        b"\x05\0\0\0\x01",
        b"\x05\0\0\0\0\0",
    ] {
        assert!(ResumeToken::from_bytes(bad.to_vec()).is_err());
    }
}

#[test]
fn cluster_time_is_read_from_tokens_of_the_known_form_only() {
    let time = Timestamp {
        time: 0x6543_2100,
        increment: 7,
    };
    let cases = [
        (
            doc! { "_data": "8265432100000000072B0229296E04" },
            Some(time),
        ),
        (doc! { "_data": "826543210000000007" }, Some(time)),
        (doc! { "_data": "82654321000000000" }, None),
        (doc! { "_data": "8365432100000000072B" }, None),
        (doc! { "_data": "82+5432100+0000007" }, None),
        (doc! { "_data": "82é5432100000000072B" }, None),
        (doc! { "_data": 5 }, None),
        (doc! {}, None),
    ];
    for (document, expected) in cases {
        let token = ResumeToken::from_bytes(bson::serialize_to_vec(&document).unwrap()).unwrap();
        assert_eq!(token.cluster_time(), expected, "{document}");
    }
}

/// The tokens of a batch's events, lent and owned alike.
fn ids(batch: &EventBatch) -> Vec<String> {
    let id = |id: &bson::RawDocument| id.get_str("t").unwrap().to_owned();
    let lent: Vec<_> = batch
        .events()
        .map(|event| id(event.id().unwrap()))
        .collect();
    let owned = batch
        .owned_events()
        .map(|event| id(event.view().id().unwrap()));
    assert_eq!(owned.collect::<Vec<_>>(), lent);
    assert_eq!(batch.len(), lent.len());
    lent
}

#[test]
fn a_batch_is_handed_out_whole_and_the_token_stands_behind_it() {
    let mut stream = Stream::with(WatchOptions::default(), prefetch(4, 1 << 20));
    stream.reply(&batch(1, &["a", "b", "c"], "p"));
    stream.reply(&batch_without_end(1, &["d", "e"]));
    // What is left of a batch that was begun event by event.
    stream.next().unwrap().unwrap();
    let rest = stream.reader.next_batch().unwrap().unwrap();
    assert_eq!(ids(&rest), ["b", "c"]);
    assert_eq!(rest.resume_token(), Some(&token("p")));
    assert_eq!(stream.token().unwrap(), "p");

    let next = stream.reader.next_batch().unwrap().unwrap();
    assert_eq!(ids(&next), ["d", "e"]);
    assert_eq!(next.resume_token(), Some(&token("e")));
    assert_eq!(stream.token().unwrap(), "e");
    assert!(stream.reader.next_batch().is_none());
    assert!(stream.reader.is_drained());
    assert_eq!(stream.reader.position().events, 5);
}

#[test]
fn a_bad_event_is_told_behind_the_batch_before_it() {
    let mut stream = Stream::open(WatchOptions::default());
    let mut reply = batch(1, &["a", "b", "c"], "p");
    let cursor = reply.get_document_mut("cursor").unwrap();
    let events = cursor.get_array_mut("nextBatch").unwrap();
    events[2].as_document_mut().unwrap().remove("_id");
    stream.reply(&reply);

    let good = stream.reader.next_batch().unwrap().unwrap();
    assert_eq!(ids(&good), ["a", "b"]);
    assert_eq!(
        good.resume_token(),
        Some(&token("b")),
        "not behind what was not handed out"
    );
    assert!(!stream.reader.is_drained());
    let error = stream.reader.next_batch().unwrap().unwrap_err();
    assert!(matches!(error, StreamError::MissingResumeToken));
    assert!(stream.reader.has_failed());
    assert!(stream.reader.next_event().is_none());
}
