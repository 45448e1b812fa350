//! What happens where the specification leaves it to the application: history that is lost, an
//! invalidate event, events that are too large.

use std::time::Duration;

use bson::{Bson, Document, Timestamp, doc};
use mongo_change_stream::{
    FailureKind, Gap, GapCause, GapEnd, HistoryLost, Input, OnInvalidate, Oversize, StreamConfig,
    StreamError, StreamEvent, WatchOptions,
};

use crate::harness::{
    OPERATION_TIME, Stream, batch, batch_without_end, event, invalidated, prefetch, resumable,
    resume_after, server_error, start_after, start_of, token, without_prefetch,
};

fn time(time: u32) -> Timestamp {
    Timestamp { time, increment: 1 }
}

fn on_loss(history_lost: HistoryLost) -> StreamConfig {
    StreamConfig {
        history_lost,
        ..without_prefetch()
    }
}

fn gaps(stream: &Stream) -> Vec<Gap> {
    let gaps = stream.events.iter().filter_map(|event| match event {
        StreamEvent::Gap(gap) => Some(gap.clone()),
        _ => None,
    });
    gaps.collect()
}

fn end(token: Option<&str>, cluster_time: Option<Timestamp>) -> GapEnd {
    let mut end = GapEnd::default();
    end.token = token.map(crate::harness::token);
    end.cluster_time = cluster_time;
    end
}

/// A stream opened behind `u` that the server refuses to open there.
fn lost_at_opening(policy: HistoryLost) -> Stream {
    let options = WatchOptions {
        start_after: Some(token("u")),
        ..WatchOptions::default()
    };
    let mut stream = Stream::with(options, on_loss(policy));
    stream.reply(&server_error(286, &["NonResumableChangeStreamError"]));
    stream
}

#[test]
fn lost_history_ends_the_stream_unless_the_policy_says_otherwise() {
    let stream = lost_at_opening(HistoryLost::Fail);
    assert!(stream.error().is_history_lost());
    assert!(stream.command.is_none());
}

#[test]
fn from_now_starts_without_any_option_and_reports_both_ends() {
    for code in [286, 280, 136, 40576] {
        let mut stream = lost_at_opening(HistoryLost::FromNow);
        if code != 286 {
            stream = Stream::with(WatchOptions::default(), on_loss(HistoryLost::FromNow));
            stream.reply(&batch(1, &[], "u"));
            stream.demand();
            stream.reply(&resumable());
            stream.reply(&server_error(code, &[]));
            stream.pass(Duration::from_secs(1));
        }
        assert_eq!(start_of(stream.aggregate().stage()), [], "code {code}");
        assert_eq!(gaps(&stream), [], "not known yet");
        stream.reply(&batch(2, &[], "now"));
        let [gap] = &gaps(&stream)[..] else { panic!() };
        assert_eq!(gap.cause, GapCause::HistoryLost);
        assert_eq!(gap.from, end(Some("u"), None));
        assert_eq!(gap.to, end(Some("now"), Some(OPERATION_TIME)));

        // The consumer comes to it, and stands behind it.
        assert!(stream.next().is_none());
        let position = stream.reader.position();
        assert_eq!((position.gaps, position.last_gap.as_ref()), (1, Some(gap)));
        assert_eq!(position.token, Some(token("now")));
        // From here on it is a stream like any other.
        stream.demand();
        stream.reply(&resumable());
        stream.pass(Duration::from_secs(1));
        assert_eq!(start_of(stream.aggregate().stage()), resume_after("now"));
    }
}

#[test]
fn from_a_time_starts_at_it() {
    let mut stream = lost_at_opening(HistoryLost::FromTime(time(9)));
    let start = vec![("startAtOperationTime".to_owned(), Bson::Timestamp(time(9)))];
    assert_eq!(start_of(stream.aggregate().stage()), start);
    // An error that passes changes nothing about it.
    stream.reply(&batch(2, &["a"], "p"));
    let [gap] = &gaps(&stream)[..] else { panic!() };
    assert_eq!(gap.from, end(Some("u"), None));
    assert_eq!(gap.to, end(None, Some(time(9))));
    assert_eq!(
        stream.reader.position().gaps,
        0,
        "the consumer is before it"
    );
    assert_eq!(stream.next().unwrap().unwrap(), event("a"));
    assert_eq!(stream.reader.position().gaps, 1);
}

#[test]
fn a_cursor_that_falls_off_the_oplog_is_lost_history_too() {
    let mut stream = Stream::with(WatchOptions::default(), on_loss(HistoryLost::FromNow));
    stream.reply(&batch(1, &["a"], "p"));
    stream.next();
    stream.demand();
    stream.reply(&server_error(286, &["NonResumableChangeStreamError"]));
    assert_eq!(start_of(stream.aggregate().stage()), []);
    // A resume that fails on the way starts there again.
    stream.fail(FailureKind::Network);
    stream.pass(Duration::from_secs(1));
    assert_eq!(start_of(stream.aggregate().stage()), []);
    stream.reply(&batch_without_end(2, &["b"]));
    let [gap] = &gaps(&stream)[..] else { panic!() };
    assert_eq!(gap.from, end(Some("p"), None));
    assert_eq!(
        gap.to,
        end(None, None),
        "events of this server have no time"
    );
}

#[test]
fn a_loss_right_behind_a_loss_is_final() {
    // The chosen time is out of reach, too.
    let mut stream = lost_at_opening(HistoryLost::FromTime(time(9)));
    stream.reply(&server_error(286, &[]));
    assert!(stream.error().is_history_lost());

    // Cursor after cursor is lost before anything comes from it.
    let mut stream = lost_at_opening(HistoryLost::FromNow);
    stream.reply(&batch(2, &[], "now"));
    stream.demand();
    stream.reply(&server_error(286, &[]));
    assert!(stream.error().is_history_lost());
    assert_eq!(gaps(&stream).len(), 1);

    // With progress in between it is another loss.
    let mut stream = lost_at_opening(HistoryLost::FromNow);
    stream.reply(&batch(2, &["a"], "now"));
    stream.next();
    stream.demand();
    stream.reply(&server_error(286, &[]));
    assert_eq!(start_of(stream.aggregate().stage()), []);
}

#[test]
fn behind_a_loss_the_operation_time_is_kept_where_there_is_no_token() {
    let mut stream = lost_at_opening(HistoryLost::FromNow);
    stream.reply(&batch_without_end(2, &[]));
    stream.demand();
    stream.reply(&resumable());
    let start = (
        "startAtOperationTime".to_owned(),
        Bson::Timestamp(OPERATION_TIME),
    );
    assert_eq!(start_of(stream.aggregate().stage()), [start]);
}

fn going_on() -> StreamConfig {
    StreamConfig {
        invalidate: OnInvalidate::Continue,
        ..without_prefetch()
    }
}

#[test]
fn a_stream_that_goes_on_starts_after_the_invalidate_event_and_loses_nothing() {
    for config in [
        going_on(),
        StreamConfig {
            prefetch: prefetch(2, 9_999).prefetch,
            ..going_on()
        },
    ] {
        let mut stream = Stream::with(WatchOptions::default(), config);
        stream.reply(&batch(1, &[], "p"));
        stream.demand();
        stream.reply(&invalidated(0, &["drop"], "gone"));
        assert_eq!(stream.killed, []);
        assert_eq!(stream.next().unwrap().unwrap(), event("drop"));
        assert!(!stream.reader.position().after_invalidate);
        let last = stream.next().unwrap().unwrap();
        assert_eq!(last.get_str("operationType").unwrap(), "invalidate");
        // What is saved here remembers the option that it needs.
        let point = stream.reader.resume_point().unwrap();
        assert_eq!((point.token, point.after_invalidate), (token("gone"), true));
        // The new cursor needs room for its first batch.
        stream.demand();
        assert_eq!(start_of(stream.aggregate().stage()), start_after("gone"));
        stream.reply(&batch(2, &["new"], "q"));
        assert_eq!(stream.next().unwrap().unwrap(), event("new"));
        assert!(!stream.reader.resume_point().unwrap().after_invalidate);
        assert!(stream.finished.is_none());
    }
}

#[test]
fn a_stream_that_goes_on_survives_failures_around_the_invalidate_event() {
    let mut stream = Stream::with(WatchOptions::default(), going_on());
    // The cursor outlives the batch, and dies before it can say that it ends.
    stream.reply(&invalidated(1, &["drop"], "gone"));
    stream.next();
    stream.next();
    stream.demand();
    stream.fail(FailureKind::Network);
    assert_eq!(start_of(stream.aggregate().stage()), start_after("gone"));
    stream.fail(FailureKind::Network);
    stream.pass(Duration::from_secs(1));
    assert_eq!(start_of(stream.aggregate().stage()), start_after("gone"));
    // Until something comes from behind it, startAfter is needed.
    stream.reply(&batch(2, &[], "later"));
    stream.demand();
    stream.reply(&resumable());
    stream.pass(Duration::from_secs(1));
    assert_eq!(start_of(stream.aggregate().stage()), start_after("later"));
    stream.reply(&batch(3, &["new"], "q"));
    stream.next();
    stream.demand();
    stream.reply(&resumable());
    assert_eq!(start_of(stream.aggregate().stage()), resume_after("q"));
}

#[test]
fn cursors_that_are_closed_at_once_again_and_again_are_opened_more_and_more_slowly() {
    let mut stream = Stream::with(WatchOptions::default(), going_on());
    stream.reply(&invalidated(0, &[], "gone"));
    while stream.next().is_some() {}
    for _ in 0..100 {
        stream.demand();
        if stream.command.is_none() {
            stream.pass(Duration::from_millis(100));
        } else {
            stream.reply(&batch(0, &[], "gone"));
        }
    }
    let invalidated = |event: &&StreamEvent| matches!(event, StreamEvent::Invalidated { .. });
    let count = stream.events.iter().filter(invalidated).count();
    assert!((2..20).contains(&count), "{count}");
}

fn joining(limit: usize) -> StreamConfig {
    StreamConfig {
        oversize: Oversize::Join { limit },
        ..without_prefetch()
    }
}

fn skipping() -> StreamConfig {
    StreamConfig {
        oversize: Oversize::Skip,
        ..without_prefetch()
    }
}

fn fragment(name: &str, number: i32, of: i32) -> Document {
    let mut fragment = doc! {
        "_id": { "t": format!("{name}{number}") },
        "splitEvent": { "fragment": number, "of": of },
    };
    fragment.insert(format!("part{number}"), number);
    fragment
}

fn whole(name: &str, of: i32) -> Document {
    let mut event = doc! { "_id": { "t": format!("{name}{of}") } };
    event.extend((1..=of).map(|number| (format!("part{number}"), Bson::from(number))));
    event
}

fn documents(id: i64, events: &[Document], end: &str) -> Document {
    let mut reply = batch(id, &[], end);
    let cursor = reply.get_document_mut("cursor").unwrap();
    cursor.insert("nextBatch", events.to_vec());
    reply
}

#[test]
fn the_split_stage_is_the_last_and_the_only_one_of_its_kind() {
    let match_stage = doc! { "$match": {} };
    let split = doc! { "$changeStreamSplitLargeEvent": {} };
    for (config, given, sent) in [
        (without_prefetch(), vec![&match_stage], vec![&match_stage]),
        (joining(99), vec![&match_stage], vec![&match_stage, &split]),
        (skipping(), vec![], vec![&split]),
        (
            joining(99),
            vec![&match_stage, &split],
            vec![&match_stage, &split],
        ),
    ] {
        let given: Vec<_> = given.into_iter().cloned().collect();
        let target = crate::harness::collection();
        let stream = Stream::watching(target, &given, WatchOptions::default(), config);
        let pipeline = stream.aggregate().body.get_array("pipeline").unwrap();
        let rest: Vec<_> = pipeline[1..]
            .iter()
            .map(|stage| stage.as_document().unwrap())
            .collect();
        assert_eq!(rest, sent);
    }
}

#[test]
fn fragments_are_joined_over_replies_and_their_tokens_are_no_places_to_stand_at() {
    let mut stream = Stream::with(WatchOptions::default(), joining(1_000));
    stream.reply(&batch(1, &[], "p"));
    stream.demand();
    stream.reply(&documents(1, &[event("a"), fragment("x", 1, 3)], "x1"));
    assert_eq!(stream.next().unwrap().unwrap(), event("a"));
    assert!(stream.next().is_none());
    assert_eq!(stream.token().unwrap(), "a");
    stream.demand();
    // Without an event to hand out, the stream asks on by itself.
    stream.reply(&documents(1, &[fragment("x", 2, 3)], "x2"));
    assert!(stream.next().is_none());
    assert_eq!(stream.token().unwrap(), "a");
    stream.get_more();
    let last = [
        fragment("x", 3, 3),
        event("b"),
        fragment("y", 1, 2),
        fragment("y", 2, 2),
    ];
    stream.reply(&documents(1, &last, "y2"));
    for (expected, token) in [
        (whole("x", 3), "x3"),
        (event("b"), "b"),
        (whole("y", 2), "y2"),
    ] {
        assert_eq!(stream.next().unwrap().unwrap(), expected);
        assert_eq!(stream.token().unwrap(), token);
    }
}

#[test]
fn a_resume_in_the_middle_of_a_group_fetches_the_whole_group_again() {
    for failure in [FailureKind::Network, FailureKind::PoolCleared] {
        let mut stream = Stream::with(WatchOptions::default(), joining(1_000));
        stream.reply(&batch(1, &[], "p"));
        stream.demand();
        stream.reply(&documents(1, &[fragment("x", 1, 2)], "x1"));
        stream.get_more();
        stream.fail(failure);
        assert_eq!(start_of(stream.aggregate().stage()), resume_after("p"));
        // The new server cuts otherwise.
        let fragments = [1, 2, 3].map(|number| fragment("x", number, 3));
        stream.reply(&documents(2, &fragments, "x3"));
        assert_eq!(stream.next().unwrap().unwrap(), whole("x", 3));
        assert!(stream.next().is_none());
    }
}

#[test]
fn the_limit_of_a_joined_event_holds() {
    let bytes = |fragment: &Document| bson::serialize_to_vec(fragment).unwrap().len();
    let fragments = [fragment("x", 1, 2), fragment("x", 2, 2)];
    let size = fragments.iter().map(bytes).sum();
    for (limit, fits) in [(size, true), (size - 1, false)] {
        let mut stream = Stream::with(WatchOptions::default(), joining(limit));
        stream.reply(&documents(1, &[event("a"), fragments[0].clone()], "x1"));
        assert_eq!(stream.next().unwrap().unwrap(), event("a"));
        stream.demand();
        stream.reply(&documents(1, &fragments[1..], "x2"));
        if fits {
            assert_eq!(stream.next().unwrap().unwrap(), whole("x", 2));
        } else {
            assert!(matches!(stream.error(), StreamError::Oversize { .. }));
            assert!(stream.error().is_event_too_large());
            assert_eq!(stream.token().unwrap(), "a");
            assert_eq!(stream.killed.len(), 1);
        }
    }
}

#[test]
fn a_fragment_without_those_before_it_is_an_error() {
    let mut stream = Stream::with(WatchOptions::default(), joining(1_000));
    stream.reply(&documents(1, &[event("a"), fragment("x", 2, 2)], "x2"));
    assert_eq!(stream.next().unwrap().unwrap(), event("a"));
    let StreamError::Fragment {
        expected,
        found,
        of,
    } = stream.error()
    else {
        panic!("{}", stream.error())
    };
    assert_eq!((expected, found, of), (&1, &2, &2));
}

#[test]
fn events_that_are_left_out_are_gaps_between_their_neighbours() {
    let mut stream = Stream::with(WatchOptions::default(), skipping());
    stream.reply(&batch(1, &[], "p"));
    stream.demand();
    stream.reply(&documents(1, &[event("a"), fragment("x", 1, 2)], "x1"));
    stream.next();
    assert_eq!(gaps(&stream), [], "not over yet");
    stream.demand();
    let rest = [fragment("x", 2, 2), fragment("y", 1, 1), event("b")];
    stream.reply(&documents(1, &rest, "q"));
    let ends: Vec<_> = gaps(&stream)
        .iter()
        .map(|gap| (gap.from.clone(), gap.to.clone()))
        .collect();
    let [a, x, y] = ["a", "x2", "y1"].map(|name| end(Some(name), None));
    assert_eq!(ends, [(a, x.clone()), (x, y)]);
    assert!(
        gaps(&stream)
            .iter()
            .all(|gap| gap.cause == GapCause::Oversize)
    );
    assert_eq!(stream.reader.position().gaps, 0);
    assert_eq!(stream.next().unwrap().unwrap(), event("b"));
    assert_eq!(stream.reader.position().gaps, 2);

    // A batch of nothing else moves the place, too.
    stream.demand();
    stream.reply(&documents(
        1,
        &[fragment("z", 1, 2), fragment("z", 2, 2)],
        "z2",
    ));
    assert!(stream.next().is_none());
    assert_eq!(
        (
            stream.reader.position().gaps,
            stream.token().unwrap().as_str()
        ),
        (3, "z2")
    );
}

#[test]
fn an_event_left_out_before_the_cut_of_a_batch_is_one_gap_whatever_fails() {
    let mut stream = Stream::with(WatchOptions::default(), skipping());
    stream.reply(&batch(1, &[], "p"));
    stream.demand();
    let cut = [
        event("a"),
        fragment("x", 1, 2),
        fragment("x", 2, 2),
        fragment("y", 1, 2),
    ];
    stream.reply(&documents(1, &cut, "y1"));
    assert_eq!(stream.next().unwrap().unwrap(), event("a"));
    assert_eq!(stream.token().unwrap(), "x2");
    stream.demand();
    stream.reply(&resumable());
    assert_eq!(start_of(stream.aggregate().stage()), resume_after("x2"));
    stream.reply(&documents(2, &[fragment("y", 1, 1), event("b")], "q"));
    assert_eq!(stream.next().unwrap().unwrap(), event("b"));
    assert_eq!(gaps(&stream).len(), 2, "x and y");
}

#[test]
fn a_first_batch_that_holds_a_part_of_an_event_is_resumed_before_it() {
    for config in [joining(1_000), skipping()] {
        let mut stream = Stream::with(WatchOptions::default(), config);
        let mut first = fragment("x", 1, 2);
        // 0x10 seconds, 2nd of them; the reply's own time is later.
        first.insert("_id", doc! { "_data": "8200000010000000022B" });
        stream.reply(&documents(1, &[first], "x1"));
        stream.demand();
        stream.reply(&resumable());
        let time = Timestamp {
            time: 16,
            increment: 2,
        };
        let start = vec![("startAtOperationTime".to_owned(), Bson::Timestamp(time))];
        assert_eq!(start_of(stream.aggregate().stage()), start);
    }
}

#[test]
fn a_fragment_that_cannot_be_read_ends_the_stream() {
    let mut stream = Stream::with(WatchOptions::default(), joining(1_000));
    let mut first = fragment("x", 1, 2);
    first.insert("note", "broken");
    let mut reply = documents(1, &[event("a"), first, fragment("x", 2, 2)], "x2");
    reply.insert("ok", 1.0);
    let mut bytes = bson::serialize_to_vec(&reply).unwrap();
    let at = bytes
        .windows(5)
        .position(|bytes| bytes == b"note\0")
        .unwrap();
    // Its type: there is no such.
    bytes[at - 1] = 0x42;
    stream.command = None;
    stream.handle(Input::ReplyReceived {
        reply: mongo_wire::Document::from_bytes(bytes).unwrap(),
        max_wire_version: stream.wire,
    });
    assert_eq!(stream.next().unwrap().unwrap(), event("a"));
    assert!(
        matches!(stream.error(), StreamError::Reply { .. }),
        "{}",
        stream.error()
    );
    assert_eq!(stream.token().unwrap(), "a");
}

#[test]
fn without_the_policy_fragments_are_events_like_others() {
    let mut stream = Stream::open(WatchOptions::default());
    stream.reply(&documents(1, &[fragment("x", 1, 2)], "x1"));
    assert_eq!(stream.next().unwrap().unwrap(), fragment("x", 1, 2));
    assert_eq!(stream.token().unwrap(), "x1");
}
