//! The window, the pace of idle streams, and the pace of resumes.

use std::time::Duration;

use mongo_change_stream::{FailureKind, StreamConfig, WatchOptions};

use crate::harness::{Stream, batch, batch_without_end, prefetch, resumable, without_prefetch};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn without_prefetch_each_demand_leads_to_one_get_more() {
    let mut stream = Stream::open(WatchOptions::default());
    stream.reply(&batch(1, &[], "p"));
    assert!(stream.command.is_none(), "nobody asked");
    for _ in 0..3 {
        stream.demand();
        stream.demand();
        stream.get_more();
        stream.reply(&batch(1, &[], "p"));
        assert!(stream.command.is_none(), "one demand, one getMore");
    }
}

#[test]
fn without_prefetch_a_demand_crossed_by_a_delivery_is_moot() {
    let mut stream = Stream::open(WatchOptions::default());
    stream.reply(&batch(1, &["a"], "p"));
    stream.demand();
    assert!(stream.command.is_none(), "the consumer will find the batch");
    stream.next().unwrap().unwrap();
    assert!(stream.next().is_none());
    stream.demand();
    stream.get_more();
}

#[test]
fn without_prefetch_a_resume_answers_the_demand_that_met_the_failure() {
    let mut stream = Stream::open(WatchOptions::default());
    stream.reply(&batch(1, &[], "p"));
    stream.demand();
    stream.reply(&resumable());
    stream.reply(&batch(2, &[], "p"));
    assert!(stream.command.is_none());
    assert_eq!(stream.delivered.len(), 2);
}

#[test]
fn prefetch_stops_at_the_window_and_goes_on_when_a_batch_is_taken_up() {
    let mut stream = Stream::with(WatchOptions::default(), prefetch(2, 1 << 20));
    stream.reply(&batch(1, &["a"], "p"));
    stream.get_more();
    stream.reply(&batch(1, &["b"], "p"));
    assert!(stream.command.is_none(), "two batches wait");
    stream.next().unwrap().unwrap();
    stream.get_more();
    stream.reply(&batch(1, &["c"], "p"));
    assert!(stream.command.is_none());
    for _ in 0..2 {
        stream.next().unwrap().unwrap();
    }
    stream.get_more();
}

#[test]
fn prefetch_stops_at_the_bytes() {
    let one = {
        let mut stream = Stream::open(WatchOptions::default());
        stream.reply(&batch(1, &["a"], "p"));
        stream.delivered[0].bytes_len()
    };
    for (bytes, expected) in [(0, 1), (1, 1), (one, 1), (one + 1, 2), (2 * one + 1, 3)] {
        let mut stream = Stream::with(WatchOptions::default(), prefetch(99, bytes));
        while stream.command.is_some() {
            stream.reply(&batch(1, &["a"], "p"));
        }
        assert_eq!(stream.delivered.len(), expected, "{bytes} bytes");
    }
}

#[test]
fn empty_batches_take_no_room_in_the_window() {
    let mut stream = Stream::with(WatchOptions::default(), prefetch(1, 1));
    for _ in 0..50 {
        stream.reply(&batch(1, &[], "p"));
        stream.pass(SECOND);
        if stream.delivered.len() < 50 {
            stream.get_more();
        }
    }
    assert!(stream.reader.is_drained());
}

#[test]
fn server_that_answers_idle_get_mores_at_once_is_asked_more_and_more_slowly() {
    for config in [without_prefetch(), prefetch(2, 1 << 20)] {
        let mut stream = Stream::with(WatchOptions::default(), config);
        stream.reply(&batch_without_end(1, &[]));
        let end = stream.now + 20 * SECOND;
        let mut asked = 0;
        while stream.now < end {
            stream.demand();
            while stream.command.is_none() {
                stream.pass(Duration::from_millis(1));
            }
            asked += 1;
            stream.reply(&batch_without_end(1, &[]));
        }
        assert!((40..60).contains(&asked), "asked {asked} times in 20 s");

        stream.demand();
        stream.pass(SECOND);
        stream.reply(&batch_without_end(1, &["a"]));
        stream.next().unwrap().unwrap();
        assert!(stream.next().is_none());
        stream.demand();
        stream.get_more();
    }
}

#[test]
fn idle_stream_of_a_patient_server_is_never_delayed() {
    let mut stream = Stream::with(WatchOptions::default(), prefetch(2, 1 << 20));
    for _ in 0..20 {
        stream.reply(&batch(1, &[], "p"));
        stream.get_more();
        stream.pass(SECOND);
    }
}

/// Answers the commands of a stream at once for a time; when the aggregates were ordered.
fn aggregates_during(
    stream: &mut Stream,
    time: Duration,
    mut answer: impl FnMut(&mut Stream, usize),
) -> Vec<Duration> {
    let (began, mut ordered) = (stream.now, Vec::new());
    while stream.now - began < time && stream.finished.is_none() {
        match &stream.command {
            Some(command) => {
                if !command.is_get_more() {
                    ordered.push(stream.now - began);
                    assert!(ordered.len() < 1_000, "a storm of aggregates");
                }
                answer(stream, ordered.len());
            }
            None => {
                stream.demand();
                if stream.command.is_none() {
                    stream.pass(Duration::from_millis(1));
                }
            }
        }
    }
    ordered
}

fn assert_is_no_storm(ordered: &[Duration]) {
    let early = ordered.iter().filter(|time| **time < SECOND).count();
    assert!(early <= 10, "{early} in the first second");
    let late: Vec<_> = ordered.iter().filter(|time| **time >= SECOND).collect();
    assert!(
        late.windows(2).all(|pair| *pair[1] - *pair[0] >= SECOND),
        "{late:?}"
    );
    assert!(late.len() >= 5, "it goes on trying: {late:?}");
}

#[test]
fn defect_5_every_get_more_fails_and_the_server_is_spared() {
    for config in [without_prefetch(), prefetch(2, 1 << 20)] {
        let mut stream = Stream::with(WatchOptions::default(), config);
        let ordered = aggregates_during(&mut stream, 60 * SECOND, |stream, turn| {
            if stream.command.as_ref().unwrap().is_get_more() {
                stream.reply(&resumable());
            } else {
                // A newer token each time, which is no progress.
                stream.reply(&batch(1, &[], &format!("p{turn}")));
            }
        });
        assert_eq!(
            ordered[..2],
            [Duration::ZERO; 2],
            "the first resume is immediate"
        );
        assert_is_no_storm(&ordered);
    }
}

#[test]
fn failing_resume_aggregates_spare_the_servers_too() {
    let mut stream = Stream::open(WatchOptions::default());
    stream.reply(&batch(1, &[], "p"));
    stream.demand();
    stream.reply(&resumable());
    let ordered = aggregates_during(&mut stream, 60 * SECOND, |stream, _| {
        stream.fail(FailureKind::Network);
    });
    assert_is_no_storm(&ordered);
}

#[test]
fn progress_makes_the_next_resume_immediate_again() {
    type Progress = fn(&mut Stream);
    let cases: [(&str, Progress, bool); 4] = [
        (
            "an event",
            |stream| stream.reply(&batch(1, &["a"], "p")),
            true,
        ),
        (
            "a newer token",
            |stream| stream.reply(&batch(1, &[], "p2")),
            true,
        ),
        (
            "the same token",
            |stream| stream.reply(&batch(1, &[], "p")),
            false,
        ),
        (
            "a cursor that lived",
            |stream| {
                stream.pass(6 * SECOND);
                stream.reply(&batch(1, &[], "p"));
            },
            true,
        ),
    ];
    for (name, progress, expected) in cases {
        let mut stream = Stream::open(WatchOptions::default());
        stream.reply(&batch(1, &[], "p"));
        for _ in 0..3 {
            stream.demand();
            stream.reply(&resumable());
            stream.pass(SECOND);
            stream.reply(&batch(1, &[], "p"));
        }
        stream.demand();
        progress(&mut stream);
        while stream.next().is_some() {}
        stream.demand();
        stream.reply(&resumable());
        assert_eq!(stream.command.is_some(), expected, "{name}");
    }
}

#[test]
fn early_and_repeated_time_outs_do_nothing() {
    let mut stream = Stream::open(WatchOptions::default());
    stream.reply(&batch(1, &[], "p"));
    for _ in 0..2 {
        stream.demand();
        stream.reply(&resumable());
        if let Some(until) = stream.machine.poll_timeout() {
            stream
                .machine
                .handle_timeout(until - Duration::from_nanos(1));
            assert!(stream.machine.poll_action().is_none());
            stream.machine.handle_timeout(until);
            stream.machine.handle_timeout(until);
            stream.drain();
        }
        stream.aggregate();
        stream.machine.handle_timeout(stream.now + SECOND);
        assert!(stream.machine.poll_action().is_none());
        assert_eq!(stream.machine.poll_timeout(), None);
        stream.reply(&batch(1, &[], "p"));
    }
}

#[test]
fn waits_beyond_the_clock_do_not_panic() {
    let mut config = StreamConfig {
        prefetch: None,
        ..StreamConfig::default()
    };
    config.backoff.initial = Duration::MAX;
    config.backoff.maximum = Duration::MAX;
    config.get_more_margin = Duration::MAX;
    config.close_grace = Duration::MAX;
    let mut stream = Stream::with(WatchOptions::default(), config);
    stream.reply(&batch(1, &[], "p"));
    stream.demand();
    stream.reply(&resumable());
    stream.fail(FailureKind::Network);
    assert!(stream.machine.poll_timeout().is_some());
    stream.close();
    assert!(stream.finished.is_some());
}
