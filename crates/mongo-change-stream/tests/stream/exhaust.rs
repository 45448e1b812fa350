//! Exhaust mode: replies that come unasked, the window all the same, and giving up on the way.

use std::time::Duration;

use mongo_change_stream::{Action, FailureKind, Input, StreamConfig, WatchOptions};

use crate::harness::{
    Stream, batch, event, invalidated, prefetch, resumable, resume_after, start_of,
    without_prefetch,
};

/// A stream whose server sends on behind `events`.
fn streaming(mut config: StreamConfig, events: &[&str]) -> Stream {
    config.exhaust = true;
    let mut stream = Stream::with(WatchOptions::default(), config);
    stream.reply(&batch(1, &[], "p"));
    stream.demand();
    assert!(stream.get_more().exhaust);
    streamed(&mut stream, events, "q");
    stream
}

fn streamed(stream: &mut Stream, events: &[&str], end: &str) {
    stream.streamed(&batch(1, events, end));
}

#[test]
fn the_next_reply_is_read_and_not_asked_for_when_there_is_room() {
    let mut stream = streaming(without_prefetch(), &["a"]);
    assert!(
        !stream.reading && stream.command.is_none(),
        "nobody has asked"
    );
    assert_eq!(stream.next().unwrap().unwrap(), event("a"));
    stream.demand();
    assert!(stream.reading && stream.command.is_none());
    streamed(&mut stream, &["b"], "r");
    assert_eq!(stream.next().unwrap().unwrap(), event("b"));
    assert_eq!(stream.token().unwrap(), "r");

    // With a window, reading goes on until it is full.
    let mut stream = streaming(prefetch(2, 1 << 20), &["a"]);
    assert!(stream.reading);
    streamed(&mut stream, &["b"], "r");
    assert!(!stream.reading, "the window is full");
    stream.next().unwrap().unwrap();
    assert!(stream.reading);
}

#[test]
fn a_reply_without_more_to_come_is_followed_by_a_get_more() {
    let mut stream = streaming(prefetch(9, 1 << 20), &["a"]);
    stream.reply(&batch(1, &["b"], "r"));
    assert!(stream.get_more().exhaust);
    assert!(!stream.reading);
    // Without the option nothing of this happens.
    let mut stream = Stream::open(WatchOptions::default());
    stream.reply(&batch(1, &[], "p"));
    stream.demand();
    assert!(!stream.get_more().exhaust);
}

#[test]
fn empty_replies_that_come_unasked_are_not_slowed_down() {
    let mut stream = streaming(without_prefetch(), &[]);
    for _ in 0..20 {
        stream.demand();
        assert!(stream.reading);
        streamed(&mut stream, &[], "p");
    }
}

#[test]
fn failures_on_the_way_are_resumed() {
    for is_error in [false, true] {
        let mut stream = streaming(prefetch(9, 1 << 20), &["a"]);
        if is_error {
            stream.reply(&resumable());
        } else {
            stream.fail(FailureKind::Network);
        }
        assert_eq!(start_of(stream.aggregate().stage()), resume_after("q"));
        assert!(stream.log.iter().any(|action| action.starts_with("Unbind")));
    }
}

#[test]
fn closing_on_the_way_kills_the_cursor_and_unbinds() {
    let mut stream = streaming(without_prefetch(), &["a"]);
    stream.close();
    assert!(matches!(stream.finished, Some(Ok(()))));
    assert_eq!(stream.killed.len(), 1);
    assert!(stream.log.iter().any(|action| action.starts_with("Unbind")));
    assert!(stream.machine.poll_action().is_none());
}

#[test]
fn the_end_of_the_cursor_is_the_end() {
    let mut stream = streaming(prefetch(9, 1 << 20), &["a"]);
    stream.reply(&invalidated(0, &["drop"], "gone"));
    assert!(matches!(stream.finished, Some(Ok(()))));
}

#[test]
fn a_reply_that_does_not_come_misses_a_deadline() {
    let mut stream = streaming(without_prefetch(), &["a"]);
    stream.next();
    stream.machine.handle(Input::Demanded, stream.now);
    let Some(Action::ReadReply { deadline, .. }) = stream.machine.poll_action() else {
        panic!()
    };
    assert_eq!(deadline, Duration::from_secs(21));
}
