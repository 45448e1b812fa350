//! Consumers whose time is over (Client Side Operations Timeout, "Change Streams").

use std::time::Duration;

use mongo_change_stream::{FailureKind, Input, WatchOptions};

use super::harness::{Stream, batch, prefetch, resumable, resume_after, server_error, start_of};

/// A stream whose first `getMore` is under way, behind the token `p`.
fn fetching() -> Stream {
    let mut stream = Stream::open(WatchOptions::default());
    stream.reply(&batch(1, &[], "p"));
    stream.demand();
    stream.get_more();
    stream
}

#[test]
fn behind_a_lapse_the_stream_resumes_when_it_is_demanded_and_then_asks_for_more() {
    let mut stream = fetching();
    stream.handle(Input::Lapsed);
    assert!(
        stream.command.is_none(),
        "it was given up with its connection"
    );
    assert_eq!(stream.killed.len(), 1);
    assert_eq!(stream.machine.poll_timeout(), None);
    assert!(stream.finished.is_none());
    stream.demand();
    assert_eq!(start_of(stream.aggregate().stage()), resume_after("p"));
    // That the cursor is open again is no answer to the demand.
    stream.reply(&batch(2, &[], "q"));
    assert_eq!(stream.get_more().body.get_i64("getMore").unwrap(), 2);
    stream.reply(&batch(2, &[], "r"));
    assert!(stream.command.is_none());
    assert_eq!(stream.token().as_deref(), Some("r"));
}

#[test]
fn events_of_the_resume_behind_a_lapse_answer_the_demand() {
    let mut stream = fetching();
    stream.handle(Input::Lapsed);
    stream.demand();
    stream.reply(&batch(2, &["a"], "q"));
    assert!(stream.command.is_none());
    stream.next().unwrap().unwrap();
}

#[test]
fn a_lapse_ends_whatever_a_resume_is_at() {
    // While it waits for its time.
    let mut stream = fetching();
    for _ in 0..3 {
        stream.reply(&resumable());
        if stream.command.is_none() {
            break;
        }
        stream.reply(&batch(1, &[], "p"));
        stream.demand();
    }
    assert!(stream.machine.poll_timeout().is_some(), "it backs off");
    stream.handle(Input::Lapsed);
    stream.pass(Duration::from_secs(60));
    assert!(stream.command.is_none());
    stream.demand();
    stream.aggregate();
    // While its aggregate is under way, which may lapse again.
    for _ in 0..2 {
        stream.handle(Input::Lapsed);
        assert!(stream.command.is_none() && stream.finished.is_none());
        stream.demand();
        stream.aggregate();
    }
}

#[test]
fn an_error_of_the_resume_behind_a_lapse_ends_the_stream() {
    for fail in [
        (|stream: &mut Stream| stream.reply(&resumable())) as fn(&mut Stream),
        |stream| stream.fail(FailureKind::Network),
        |stream| stream.reply(&server_error(1, &[])),
    ] {
        let mut stream = fetching();
        stream.handle(Input::Lapsed);
        stream.demand();
        fail(&mut stream);
        stream.error();
        assert!(stream.command.is_none());
    }
}

#[test]
fn a_lapse_of_the_opening_or_behind_the_end_changes_nothing() {
    let mut stream = Stream::open(WatchOptions::default());
    stream.handle(Input::Lapsed);
    stream.aggregate();
    stream.reply(&batch(1, &[], "p"));
    stream.close();
    let orders = stream.log.len();
    stream.handle(Input::Lapsed);
    stream.demand();
    assert_eq!(stream.log.len(), orders);
}

#[test]
fn a_lapse_between_two_batches_is_one_too() {
    let mut stream = Stream::open(WatchOptions::default());
    stream.reply(&batch(1, &[], "p"));
    stream.handle(Input::Lapsed);
    assert_eq!(stream.killed.len(), 1);
    stream.demand();
    assert_eq!(start_of(stream.aggregate().stage()), resume_after("p"));
}

#[test]
fn a_stream_that_reads_ahead_waits_for_the_demand_too() {
    let mut stream = Stream::with(WatchOptions::default(), prefetch(2, 1 << 20));
    stream.reply(&batch(1, &[], "p"));
    stream.get_more();
    stream.handle(Input::Lapsed);
    stream.pass(Duration::from_secs(60));
    assert!(stream.command.is_none());
    stream.demand();
    stream.aggregate();
}

#[test]
fn closing_behind_a_lapse_is_at_once() {
    let mut stream = fetching();
    stream.handle(Input::Lapsed);
    stream.close();
    assert!(matches!(stream.finished, Some(Ok(()))));
    assert_eq!(stream.killed.len(), 1);
}
