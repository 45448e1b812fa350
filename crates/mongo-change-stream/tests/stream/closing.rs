//! Closing, in every state.

use std::time::Duration;

use bson::doc;
use mongo_change_stream::{FailureKind, StreamConfig, WatchOptions};

use crate::harness::{Stream, batch, event, prefetch, resumable, server_error, without_prefetch};

#[test]
fn closing_an_open_stream_kills_its_cursor() {
    let mut stream = Stream::open(WatchOptions::default());
    stream.reply(&batch(42, &["a"], "p"));
    stream.close();
    assert!(matches!(stream.finished, Some(Ok(()))));
    assert_eq!(
        stream.killed,
        [doc! { "killCursors": "orders", "cursors": [42_i64], "$db": "shop" }]
    );
    assert_eq!(
        stream.next().unwrap().unwrap(),
        event("a"),
        "what was delivered can still be read"
    );
}

#[test]
fn closing_during_a_get_more_does_not_wait_for_it() {
    let mut stream = Stream::with(WatchOptions::default(), prefetch(2, 1 << 20));
    stream.reply(&batch(42, &[], "p"));
    stream.get_more();
    stream.close();
    assert!(matches!(stream.finished, Some(Ok(()))));
    assert_eq!(stream.killed.len(), 1);
    stream.reply(&batch(42, &["late"], "q"));
    assert!(stream.next().is_none());
}

#[test]
fn closing_during_an_aggregate_waits_for_its_cursor_and_kills_it() {
    for resumed in [false, true] {
        let mut stream = Stream::open(WatchOptions::default());
        if resumed {
            stream.reply(&batch(41, &[], "p"));
            stream.demand();
            stream.reply(&server_error(43, &[]));
        }
        stream.aggregate();
        stream.close();
        stream.close();
        assert!(stream.finished.is_none());
        stream.reply(&batch(42, &["a"], "p"));
        assert!(matches!(stream.finished, Some(Ok(()))));
        assert_eq!(stream.killed.len(), 1);
        assert!(stream.next().is_none(), "nobody wants the events");
    }
}

#[test]
fn closing_during_an_aggregate_ends_with_its_failure_its_exhaustion_or_the_grace() {
    let outcomes: [fn(&mut Stream); 5] = [
        |stream| stream.fail(FailureKind::Network),
        |stream| stream.reply(&server_error(189, &[])),
        |stream| stream.reply(&doc! { "ok": 1 }),
        |stream| stream.reply(&batch(0, &[], "p")),
        |stream| stream.pass(without_prefetch().close_grace),
    ];
    for outcome in outcomes {
        let mut stream = Stream::open(WatchOptions::default());
        stream.close();
        stream.pass(without_prefetch().close_grace - Duration::from_nanos(1));
        assert!(stream.finished.is_none());
        outcome(&mut stream);
        assert!(matches!(stream.finished, Some(Ok(()))));
        assert!(stream.killed.is_empty());
    }
}

#[test]
fn closing_while_backing_off_ends_at_once() {
    let mut stream = Stream::open(WatchOptions::default());
    stream.reply(&batch(42, &[], "p"));
    stream.demand();
    stream.reply(&resumable());
    stream.fail(FailureKind::Network);
    assert!(stream.command.is_none());
    stream.close();
    assert!(matches!(stream.finished, Some(Ok(()))));
    assert_eq!(stream.killed.len(), 1, "the first cursor, when it was lost");
    assert_eq!(stream.machine.poll_timeout(), None);
}

#[test]
fn ended_stream_takes_no_more_notice() {
    let mut stream = Stream::open(WatchOptions::default());
    stream.reply(&batch(0, &[], "p"));
    assert!(stream.machine.is_finished());
    stream.demand();
    stream.close();
    stream.reply(&batch(42, &["a"], "p"));
    stream.fail(FailureKind::Network);
    stream.machine.handle_timeout(stream.now);
    assert!(stream.machine.poll_action().is_none());
}

#[test]
fn a_grace_beyond_what_the_clock_can_express_is_no_harm() {
    let config = StreamConfig {
        close_grace: Duration::MAX,
        ..without_prefetch()
    };
    let mut stream = Stream::with(WatchOptions::default(), config);
    stream.close();
    stream.pass(Duration::from_secs(3_600));
    assert!(
        stream.finished.is_none(),
        "the aggregate is still waited for"
    );
}
