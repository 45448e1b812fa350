//! Rule D: where and how a stream resumes.

use std::time::Duration;

use bson::{Bson, Timestamp, doc};
use mongo_change_stream::{
    BackoffConfig, FailureKind, StartPoint, StreamConfig, StreamEvent, WatchOptions,
};

use crate::harness::{
    OPERATION_TIME, Stream, batch, batch_without_end, collection, event, invalidated, prefetch,
    resumable, resume_after, server_error, start_after, start_of, token, without_prefetch,
};

fn started_after(name: &str) -> WatchOptions {
    WatchOptions {
        start_after: Some(token(name)),
        ..WatchOptions::default()
    }
}

fn resumed_after(name: &str) -> WatchOptions {
    WatchOptions {
        resume_after: Some(token(name)),
        ..WatchOptions::default()
    }
}

fn started_at(time: Timestamp) -> WatchOptions {
    WatchOptions {
        start_at_operation_time: Some(time),
        ..WatchOptions::default()
    }
}

fn at(time: Timestamp) -> Vec<(String, Bson)> {
    vec![("startAtOperationTime".into(), Bson::Timestamp(time))]
}

#[test]
fn rules_25_to_29_start_point_of_a_resume() {
    let user = Timestamp {
        time: 5,
        increment: 6,
    };
    let both = WatchOptions {
        start_at_operation_time: Some(user),
        ..resumed_after("u")
    };
    let both_after = WatchOptions {
        start_at_operation_time: Some(user),
        ..started_after("u")
    };
    let none = WatchOptions::default;
    let cases = [
        (
            "25: startAfter, nothing returned",
            started_after("u"),
            batch_without_end(1, &[]),
            start_after("u"),
        ),
        (
            "25: startAfter, nothing returned, newer token",
            started_after("u"),
            batch(1, &[], "p"),
            start_after("p"),
        ),
        (
            "25: startAfter beside a time",
            both_after,
            batch_without_end(1, &[]),
            start_after("u"),
        ),
        (
            "26: startAfter, one returned",
            started_after("u"),
            batch_without_end(1, &["a"]),
            resume_after("a"),
        ),
        (
            "26: startAfter, one returned, named end",
            started_after("u"),
            batch(1, &["a"], "p"),
            resume_after("p"),
        ),
        (
            "26: resumeAfter, nothing returned",
            resumed_after("u"),
            batch_without_end(1, &[]),
            resume_after("u"),
        ),
        (
            "26: resumeAfter, newer token",
            resumed_after("u"),
            batch(1, &[], "p"),
            resume_after("p"),
        ),
        (
            "26: resumeAfter beside a time",
            both,
            batch_without_end(1, &[]),
            resume_after("u"),
        ),
        (
            "26: no option, a token",
            none(),
            batch(1, &[], "p"),
            resume_after("p"),
        ),
        (
            "26: a time, then a token",
            started_at(user),
            batch(1, &[], "p"),
            resume_after("p"),
        ),
        (
            "26: a time, then an event",
            started_at(user),
            batch_without_end(1, &["a"]),
            resume_after("a"),
        ),
        (
            "27: the user's time",
            started_at(user),
            batch_without_end(1, &[]),
            at(user),
        ),
        (
            "27, 29: the saved time",
            none(),
            batch_without_end(1, &[]),
            at(OPERATION_TIME),
        ),
    ];
    for (name, options, first, expected) in cases {
        for config in [without_prefetch(), prefetch(9, 1 << 20)] {
            let mut stream = Stream::with(options.clone(), config);
            stream.reply(&first);
            while stream.next().is_some() {}
            stream.demand();
            stream.get_more();
            stream.reply(&resumable());
            assert_eq!(start_of(stream.aggregate().stage()), expected, "{name}");
        }
    }
}

#[test]
fn rule_28_with_nothing_known_the_original_aggregate_is_repeated() {
    let mut stream = Stream::open(WatchOptions::default());
    let original = stream.aggregate().body.clone();
    let mut reply = batch_without_end(1, &[]);
    reply.remove("operationTime");
    stream.reply(&reply);
    stream.demand();
    stream.reply(&resumable());
    assert_eq!(stream.aggregate().body, original);
}

#[test]
fn rule_29_only_the_first_aggregate_saves_its_time() {
    let mut stream = Stream::open(WatchOptions::default());
    let mut reply = batch_without_end(1, &[]);
    stream.reply(&reply);
    for _ in 0..2 {
        stream.demand();
        stream.reply(&resumable());
        stream.pass(Duration::from_secs(20));
        assert_eq!(start_of(stream.aggregate().stage()), at(OPERATION_TIME));
        reply.insert(
            "operationTime",
            Timestamp {
                time: 99,
                increment: 1,
            },
        );
        stream.reply(&reply);
    }
}

#[test]
fn rule_24_only_the_start_point_changes() {
    let options = WatchOptions {
        batch_size: Some(2),
        max_await_time: Some(Duration::from_millis(50)),
        comment: Some(bson::RawBson::String("who".into())),
        collation: Some((&doc! { "locale": "de" }).try_into().unwrap()),
        full_document: Some("updateLookup".into()),
        show_expanded_events: Some(false),
        ..resumed_after("u")
    };
    let stages = [doc! { "$match": { "a": 1 } }];
    let mut stream = Stream::watching(collection(), &stages, options, without_prefetch());
    let mut expected = stream.aggregate().body.clone();
    let stage = expected.get_array_mut("pipeline").unwrap()[0]
        .as_document_mut()
        .unwrap();
    let stage = stage.get_document_mut("$changeStream").unwrap();
    stage.insert("resumeAfter", doc! { "t": "p2" });

    stream.reply(&batch(1, &[], "p1"));
    stream.demand();
    stream.reply(&batch(1, &[], "p2"));
    // Two resumes in a row without an event in between.
    for id in [2, 3] {
        stream.demand();
        let get_more = stream.get_more().body.clone();
        assert_eq!(get_more.get_i32("batchSize").unwrap(), 2);
        assert_eq!(get_more.get_i64("maxTimeMS").unwrap(), 50);
        assert_eq!(get_more.get_str("comment").unwrap(), "who");
        stream.reply(&resumable());
        stream.pass(Duration::from_secs(1));
        assert_eq!(stream.aggregate().body, expected);
        stream.reply(&batch(id, &[], "p2"));
    }
}

#[test]
fn rule_30_cycles_of_resume_and_failure_have_no_end() {
    let mut stream = Stream::open(WatchOptions::default());
    stream.reply(&batch(1, &[], "p"));
    for id in 2..200 {
        stream.demand();
        stream.get_more();
        stream.reply(&resumable());
        stream.pass(Duration::from_secs(8));
        stream.aggregate();
        stream.reply(&batch(id, &[], "p"));
    }
    stream.demand();
    stream.reply(&batch(200, &["a"], "q"));
    assert_eq!(stream.next().unwrap().unwrap(), event("a"));
}

fn cut_off(config: StreamConfig) -> Stream {
    let mut stream = Stream::with(WatchOptions::default(), config);
    stream.reply(&batch(1, &[], "p"));
    stream.demand();
    stream.reply(&resumable());
    stream.aggregate();
    stream
}

#[test]
fn to_the_letter_a_failing_resume_aggregate_is_final() {
    let backoff = BackoffConfig {
        give_up_after: Duration::ZERO,
        ..BackoffConfig::default()
    };
    let mut stream = cut_off(StreamConfig {
        backoff,
        ..without_prefetch()
    });
    stream.fail(FailureKind::Network);
    assert!(matches!(
        stream.error(),
        mongo_change_stream::StreamError::Failed { .. }
    ));
}

#[test]
fn failing_resume_aggregates_are_repeated_until_the_time_is_up() {
    let mut stream = cut_off(without_prefetch());
    let began = stream.now;
    let outcomes = [
        FailureKind::Selection,
        FailureKind::Network,
        FailureKind::PoolCleared,
    ];
    for turn in 0.. {
        if stream.finished.is_some() {
            break;
        }
        stream.aggregate();
        if turn % 2 == 0 {
            stream.fail(outcomes[turn / 2 % 3]);
        } else {
            stream.reply(&server_error(10107, &[]));
        }
        stream.pass(Duration::from_secs(8));
    }
    stream.error();
    let lasted = stream.now - began;
    assert!(
        (Duration::from_secs(300)..Duration::from_secs(320)).contains(&lasted),
        "{lasted:?}"
    );
}

#[test]
fn successful_resume_resets_the_time_to_give_up() {
    let mut stream = cut_off(without_prefetch());
    for id in 2..10 {
        stream.fail(FailureKind::Selection);
        stream.pass(Duration::from_secs(200));
        stream.aggregate();
        stream.reply(&batch(id, &[], "p"));
        stream.demand();
        stream.reply(&resumable());
        stream.pass(Duration::from_secs(8));
    }
    assert!(stream.finished.is_none());
}

#[test]
fn permanent_error_of_a_resume_aggregate_is_final_at_once() {
    for code in [286, 280, 260, 40573, 13, 50811] {
        let mut stream = cut_off(without_prefetch());
        stream.reply(&server_error(code, &[]));
        assert_eq!(stream.error().code(), Some(code));
    }
    for kind in [
        FailureKind::Authentication,
        FailureKind::Protocol,
        FailureKind::Rejected,
    ] {
        let mut stream = cut_off(without_prefetch());
        stream.fail(kind);
        stream.error();
    }
}

#[test]
fn cursor_lost_behind_an_invalidate_is_the_end_and_no_error() {
    let reply = invalidated(1, &["drop"], "end");
    let mut stream = Stream::open(WatchOptions::default());
    stream.reply(&reply);
    assert_eq!(stream.next().unwrap().unwrap(), event("drop"));
    assert!(stream.next().unwrap().is_ok());
    assert!(stream.next().is_none());
    stream.demand();
    stream.fail(FailureKind::Network);
    assert!(stream.command.is_none());
    assert!(matches!(stream.finished, Some(Ok(()))));
    assert!(matches!(stream.events.last(), Some(StreamEvent::Exhausted)));
}

#[test]
fn resumes_are_told_with_their_cause_and_place() {
    let mut stream = cut_off(without_prefetch());
    stream.fail(FailureKind::Selection);
    stream.pass(Duration::from_secs(1));
    stream.reply(&batch(2, &[], "p"));
    let [opened, first, second, resumed] = &stream.events[..] else {
        panic!("{:?}", stream.events)
    };
    assert!(matches!(opened, StreamEvent::Opened));
    assert!(matches!(
        first,
        StreamEvent::Interrupted { cause, attempt: 1, delay: Duration::ZERO } if cause.code() == Some(189)
    ));
    assert!(
        matches!(second, StreamEvent::Interrupted { attempt: 2, delay, .. } if !delay.is_zero())
    );
    let StreamEvent::Resumed {
        attempts: 2,
        start: StartPoint::ResumeAfter(start),
    } = resumed
    else {
        panic!("{resumed:?}");
    };
    assert_eq!(*start, token("p"));
}

#[test]
fn with_prefetch_a_resume_starts_behind_what_waits() {
    let mut stream = Stream::with(started_after("u"), prefetch(9, 1 << 20));
    stream.reply(&batch(1, &["a", "b"], "p"));
    stream.reply(&batch_without_end(1, &["c", "d"]));
    stream.reply(&resumable());
    assert_eq!(start_of(stream.aggregate().stage()), resume_after("d"));
    stream.reply(&batch(2, &["e"], "q"));
    for name in ["a", "b", "c", "d", "e"] {
        assert_eq!(stream.next().unwrap().unwrap(), event(name));
    }
}
